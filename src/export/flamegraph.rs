//! Flame graphs as SVG.

use super::colors::frame_color;
use super::folded::fold_lines;
use super::grouped;
use super::paths::Paths;
use crate::analysis::StackFold;
use crate::analysis::StackKind;
use crate::analysis::stacks_of;
use crate::model::Info;
use crate::model::Nanos;
use crate::model::State;
use crate::model::Trace;
use inferno::flamegraph::Options;
use inferno::flamegraph::TextTruncateDirection;
use inferno::flamegraph::color::BackgroundColor;
use inferno::flamegraph::color::BasicPalette;
use inferno::flamegraph::color::Color;
use inferno::flamegraph::color::Palette;
use inferno::flamegraph::color::PaletteMap;
use std::io;
use std::io::Write;

/// Writes a flame graph of one kind. Without anything to show, it is an SVG that says why.
pub fn write(trace: &dyn Trace, kind: StackKind, out: &mut dyn Write) -> io::Result<()> {
    let (fold, timelines) = stacks_of(trace);
    let rows = fold.rows(kind);
    let total: Nanos = rows.iter().map(|row| row.time).sum();
    let lifetimes: Nanos = timelines.threads().iter().map(|t| t.states.total()).sum();
    let running: Nanos = timelines.threads().iter().map(|t| t.states[State::Running]).sum();
    if rows.is_empty() {
        return write_empty(&title(trace.info(), kind), &why_empty(trace, kind, running), out);
    }
    let mut paths = Paths::with_pools(trace.symbols(), &timelines);
    let lines: Vec<String> = fold_lines(&mut paths, &rows, kind)
        .into_iter()
        .map(|(stack, ns)| format!("{stack} {ns}"))
        .collect();
    let mut palette = palette(&lines, kind);
    let mut options = Options::default();
    options.title = title(trace.info(), kind);
    options.subtitle = Some(subtitle(trace.info(), kind, &fold, total, running, lifetimes));
    "ns".clone_into(&mut options.count_name);
    options.colors = Palette::Basic(BasicPalette::Hot);
    options.bgcolors = Some(BackgroundColor::Flat(Color { r: 0xff, g: 0xff, b: 0xff }));
    options.deterministic = true;
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.palette_map = Some(&mut palette);
    let mut svg = Vec::new();
    inferno::flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    write_with_units(&svg, out)
}

/// What inferno calls the frame below all others.
const ROOT: &str = "";
/// Not functions: the root, processes, threads, and the place of stacks that were not taken.
const PLAIN: Color = Color { r: 0xd3, g: 0xd7, b: 0xdd };

/// A colour for every frame, as the viewer has it.
fn palette(lines: &[String], kind: StackKind) -> PaletteMap {
    let mut map = PaletteMap::default();
    for line in lines {
        let stack = line.rsplit_once(' ').map_or(line.as_str(), |(stack, _)| stack);
        for name in stack.split(';').skip(2) {
            if map.get(name).is_none() {
                let color = frame_color(name, kind).map_or(PLAIN, |(r, g, b)| Color { r, g, b });
                map.insert(name, color);
            }
        }
    }
    for line in lines {
        for name in line.split(';').take(2).chain([ROOT]) {
            // A function of the same name has its colour already.
            if map.get(name).is_none() {
                map.insert(name, PLAIN);
            }
        }
    }
    map
}

fn title(info: &Info, kind: StackKind) -> String {
    let what = match kind {
        StackKind::OnCpu => "On-CPU: where the threads ran".to_owned(),
        StackKind::OffCpu => "Off-CPU: where the threads waited, and for what".to_owned(),
        StackKind::Wall => "Wall: all time of all threads".to_owned(),
        StackKind::In(state) => format!("Where the threads were {}", state.meaning()),
    };
    let command = info.command.first().map(|path| path.base_name().to_string());
    match command {
        Some(command) if !command.is_empty() => format!("{what} ({command})"),
        _ => what,
    }
}

fn subtitle(
    info: &Info,
    kind: StackKind,
    fold: &StackFold,
    total: Nanos,
    running: Nanos,
    lifetimes: Nanos,
) -> String {
    let tier = info.tier.name();
    match kind {
        StackKind::OnCpu => format!(
            "{} samples stand for {total} of {running} on a CPU; width is time; tier {tier}",
            grouped(fold.samples())
        ),
        StackKind::OffCpu => format!(
            "{total} of {lifetimes} of thread time; the top frame is the state waited in; tier {tier}"
        ),
        StackKind::In(_) => format!("{total} of {lifetimes} of thread time; tier {tier}"),
        StackKind::Wall => format!(
            "{total} of thread time, {running} of it running; the top frame is the state; tier {tier}"
        ),
    }
}

fn why_empty(trace: &dyn Trace, kind: StackKind, running: Nanos) -> String {
    match kind {
        _ if trace.info().sample_hz == 0 && kind == StackKind::OnCpu => {
            "CPU samples were switched off when this was recorded (--freq 0)".to_owned()
        }
        StackKind::OnCpu => format!(
            "No CPU samples: the threads ran for {running} in all, at {} samples a second of CPU time",
            trace.info().sample_hz
        ),
        StackKind::OffCpu => "No thread was off the CPU in this recording".to_owned(),
        StackKind::Wall => "No thread was seen in this recording".to_owned(),
        StackKind::In(state) => format!("No thread was {} in this recording", state.meaning()),
    }
}

fn write_empty(title: &str, why: &str, out: &mut dyn Write) -> io::Result<()> {
    let (title, why) = (escape(title), escape(why));
    writeln!(
        out,
        "<?xml version=\"1.0\" standalone=\"no\"?>\n\
         <svg version=\"1.1\" width=\"1200\" height=\"90\" viewBox=\"0 0 1200 90\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <g font-family=\"monospace\" text-anchor=\"middle\" fill=\"#000000\">\n\
         <text x=\"600\" y=\"34\" font-size=\"17\">{title}</text>\n\
         <text x=\"600\" y=\"64\" font-size=\"12\">{why}</text>\n\
         </g>\n</svg>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Copies an SVG, with each frame's `(1,234,567 ns, 5.00%)` told as time: `(1.23 ms = 1,234,567 ns, 5.00%)`.
fn write_with_units(svg: &[u8], out: &mut dyn Write) -> io::Result<()> {
    const OPEN: &[u8] = b"<title>";
    let mut rest = svg;
    while let Some(at) = find(rest, OPEN) {
        let (before, frame) = rest.split_at(at + OPEN.len());
        out.write_all(before)?;
        let end = find(frame, b"</title>").unwrap_or(frame.len());
        let (frame, after) = frame.split_at(end);
        rest = after;
        // Names may contain brackets too; the counts are in the last ones.
        match frame.iter().rposition(|&byte| byte == b'(').map(|at| frame.split_at(at + 1)) {
            Some((name, counts)) if find(counts, b" ns").is_some() => {
                let digits = counts.iter().take_while(|&&b| b != b' ').filter(|&&b| b != b',');
                let ns = digits.fold(0u64, |n, &b| {
                    n.saturating_mul(10).saturating_add(u64::from(b.wrapping_sub(b'0')))
                });
                out.write_all(name)?;
                write!(out, "{} = ", Nanos(ns))?;
                out.write_all(counts)?;
            }
            _ => out.write_all(frame)?,
        }
    }
    out.write_all(rest)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
