//! One colour per state and per function, the same in every picture.

use super::paths::NO_STACK;
use crate::analysis::StackKind;
use crate::model::State;

/// The colour of a state, as red, green, blue.
///
/// After Okabe and Ito: the states that most often share a picture differ in lightness as
/// well as in hue, so that they stay apart for colour-blind readers and in grey. Work is
/// green, waits that hurt are strong, waits that are often idle are pale. Every colour
/// stands out from white and from the viewer's dark background.
pub const fn state_color(state: State) -> (u8, u8, u8) {
    match state {
        State::Running => (0x00, 0x9e, 0x73),
        State::Runnable => (0xf2, 0xd9, 0x2e),
        State::Lock => (0xd5, 0x5e, 0x00),
        State::Gil => (0x9c, 0x2f, 0x0c),
        State::Condvar => (0xd9, 0x9a, 0xc0),
        State::Join => (0x8a, 0x4f, 0xa8),
        State::Sleep => (0xb3, 0xbf, 0xcc),
        State::Disk => (0x17, 0x56, 0xb0),
        State::Network => (0x56, 0xb4, 0xe9),
        State::Pipe => (0x85, 0x76, 0xe0),
        State::Poll => (0x9f, 0xd5, 0xdc),
        State::Child => (0xb5, 0x93, 0x6b),
        State::PageFault => (0xf0, 0x9a, 0x2e),
        State::Stopped => (0x6f, 0x78, 0x84),
        State::Other => (0x8d, 0x95, 0x65),
        State::Unknown => (0x90, 0x90, 0x90),
    }
}

/// The colour of a frame in a flame graph; `None` for what is no function (no stack).
///
/// Functions go by their name, so that the same one looks the same everywhere: warm on the
/// CPU, redder in the kernel, and a quiet blue grey off it, where the states have the colours.
pub(super) fn frame_color(name: &str, kind: StackKind) -> Option<(u8, u8, u8)> {
    if name == NO_STACK {
        return None;
    }
    let state = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(state) = state.and_then(State::from_name).filter(|_| kind != StackKind::OnCpu) {
        return Some(state_color(state));
    }
    let hash = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let shade = f64::from(hash % 1000) / 1000.0;
    Some(match kind {
        StackKind::OnCpu if name.ends_with("_[k]") => {
            hsl(6.0 + 8.0 * shade, 0.55, 0.62 + 0.08 * shade)
        }
        StackKind::OnCpu => hsl(26.0 + 26.0 * shade, 0.78, 0.62 + 0.08 * shade),
        _ => hsl(212.0 + 14.0 * shade, 0.28, 0.66 + 0.12 * shade),
    })
}

/// Hue in degrees, saturation and lightness in `0.0..=1.0`.
fn hsl(hue: f64, saturation: f64, lightness: f64) -> (u8, u8, u8) {
    let reach = saturation * lightness.min(1.0 - lightness);
    let channel = |n: f64| {
        let k = (n + hue / 30.0) % 12.0;
        let value = lightness - reach * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
        (255.0 * value).round() as u8
    };
    (channel(0.0), channel(8.0), channel(4.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_keep_their_colour_and_states_keep_theirs() {
        assert_eq!(hsl(0.0, 1.0, 0.5), (255, 0, 0));
        assert_eq!(hsl(240.0, 1.0, 0.5), (0, 0, 255));
        assert_eq!(frame_color("[lock]", StackKind::Wall), Some(state_color(State::Lock)));
        assert_ne!(frame_color("[lock]", StackKind::OnCpu), Some(state_color(State::Lock)));
        assert_eq!(frame_color(NO_STACK, StackKind::Wall), None);
        assert_ne!(frame_color("a", StackKind::OnCpu), frame_color("b", StackKind::OnCpu));
    }

    /// Brightness as a screen shows it, linear, 0.0..=1.0.
    fn linear(channel: u8) -> f64 {
        let c = f64::from(channel) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    }

    fn luminance((r, g, b): (u8, u8, u8)) -> f64 {
        0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    }

    fn contrast(a: (u8, u8, u8), b: (u8, u8, u8)) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// As someone without red cones (or green ones) sees a colour: Viénot, Brettel and Mollon 1999.
    fn dichromat(color: (u8, u8, u8), protan: bool) -> [f64; 3] {
        let [r, g, b] = [linear(color.0), linear(color.1), linear(color.2)];
        let (red_green, blue) = if protan {
            (0.11238 * r + 0.88762 * g, 0.00401 * r - 0.00401 * g + b)
        } else {
            (0.29275 * r + 0.70725 * g, -0.02234 * r + 0.02234 * g + b)
        };
        [red_green, red_green, blue.clamp(0.0, 1.0)].map(f64::cbrt)
    }

    #[test]
    fn states_that_share_most_pictures_differ_for_dichromats_too() {
        use State::{Condvar, Disk, Lock, Network, Pipe, Poll, Runnable, Running, Sleep};
        let common = [Running, Runnable, Lock, Condvar, Sleep, Disk, Network, Pipe, Poll];
        for (i, &a) in common.iter().enumerate() {
            for &b in &common[i + 1..] {
                for protan in [false, true] {
                    let (x, y) =
                        (dichromat(state_color(a), protan), dichromat(state_color(b), protan));
                    let apart: f64 =
                        x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt();
                    assert!(apart > 0.06, "{a} and {b} are {apart:.3} apart");
                }
            }
        }
    }

    #[test]
    fn every_state_has_its_own_colour_and_stands_out() {
        for (i, a) in State::ALL.into_iter().enumerate() {
            for b in &State::ALL[i + 1..] {
                assert_ne!(state_color(a), state_color(*b), "{a} and {b}");
            }
            let (light, dark) = ((0xff, 0xff, 0xff), (0x16, 0x1a, 0x20));
            assert!(contrast(state_color(a), light) > 1.3, "{a} on white");
            assert!(contrast(state_color(a), dark) > 2.0, "{a} on dark");
        }
    }
}
