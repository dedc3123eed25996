//! Names as in the source.

use std::borrow::Cow;

/// The name of a function or variable: of Rust without its hash. Only what is mangled: read as a mangled
/// type, the function `w` of a C program would be `wchar_t`, and `f` a `float`.
pub(super) fn demangled(raw: &str) -> Cow<'_, str> {
    if let Ok(name) = rustc_demangle::try_demangle(raw) {
        return format!("{name:#}").into();
    }
    let mangled = raw.starts_with("_Z") || raw.starts_with("_GLOBAL_");
    let cpp = mangled.then(|| cpp_demangle::Symbol::new(raw).ok()).flatten();
    cpp.and_then(|symbol| symbol.demangle().ok()).map_or(Cow::Borrowed(raw), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::demangled;

    #[test]
    fn names_are_those_of_the_source() {
        for (raw, name) in [
            ("lock_a", "lock_a"),
            ("w", "w"),
            ("f", "f"),
            ("_ZN3app5CACHE17h0123456789abcdefE", "app::CACHE"),
            ("_RNvCs1234_3app5CACHE", "app::CACHE"),
            ("_ZN4bank5stateE", "bank::state"),
            ("_Z1wv", "w()"),
            ("_Z", "_Z"),
        ] {
            assert_eq!(demangled(raw), name);
        }
    }
}
