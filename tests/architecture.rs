//! The layout, kept by a test: who may use whom, how long a file and a function may be, and
//! where `unsafe` may stand. The table is the one of docs/ARCHITECTURE.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Each room of `src/`, and the rooms it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("analysis", &["model"]),
    ("trace", &["model"]),
    ("symbols", &["model"]),
    ("runtimes", &["model"]),
    ("capture", &["model", "symbols", "runtimes"]),
    ("export", &["model", "analysis"]),
    ("cli", &["model"]),
    ("session", &["model", "analysis", "trace", "symbols", "capture", "export", "cli"]),
    ("lib", &[]),
    ("main", &["cli", "session"]),
];

/// Crates that the pure rooms may name.
const PURE: &[(&str, &[&str])] = &[("model", &["std"]), ("analysis", &["std", "serde"])];

const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 70;

/// What is longer than the rule allows, with the length it may not exceed. Only ever shrinks:
/// an entry that is longer than its file or function now has must be lowered.
const RATCHET: &[(&str, usize)] = &[];

fn sources(root: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        let mut entries: Vec<PathBuf> = fs::read_dir(directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| entry.expect("readable").path())
            .collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs" || e == "js" || e == "c") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    if root.exists() {
        walk(&root, &mut found);
    }
    found
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path);
    path.display().to_string()
}

/// `src/model/time.rs` and `src/model.rs` are in the room `model`.
fn room(path: &Path) -> String {
    let relative = relative(path);
    let inside = relative.trim_start_matches("src/");
    inside.split(['/', '.']).next().unwrap_or_default().to_owned()
}

/// Source without comments' content, strings and everything from the unit tests on.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("UTF-8 source");
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines()
        .map(|line| if line.trim_start().starts_with("//") { "" } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn rooms_use_only_what_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in sources("src") {
        let room = room(&path);
        let Some(may) = allowed.get(room.as_str()) else {
            wrong.push(format!("{}: the room `{room}` is not in the table", relative(&path)));
            continue;
        };
        for (number, line) in code(&path).lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let used: String =
                    used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let known = allowed.contains_key(used.as_str());
                if known && used != room && !may.contains(&used.as_str()) {
                    wrong.push(format!("{}:{}: {room} uses {used}", relative(&path), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_name_no_other_crate_and_forbid_what_they_must() {
    let mut wrong = Vec::new();
    for (room_name, crates) in PURE {
        let tests = |path: &PathBuf| relative(path).ends_with("tests.rs");
        for path in sources(&format!("src/{room_name}")).into_iter().filter(|p| !tests(p)) {
            for (number, line) in code(&path).lines().enumerate() {
                let Some(used) = line.trim().strip_prefix("use ") else { continue };
                let first = used.split("::").next().unwrap_or_default();
                let own = matches!(first, "crate" | "super" | "self");
                // Enum variants and siblings are lower rooms of the same file's scope.
                let file = format!("{first}.rs");
                let sibling = path.with_file_name(&file).exists()
                    || path.with_file_name(first).is_dir()
                    || path.with_extension("").join(&file).exists()
                    || first.starts_with(char::is_uppercase);
                if !own && !sibling && !crates.contains(&first) {
                    wrong.push(format!("{}:{}: uses {first}", relative(&path), number + 1));
                }
            }
        }
    }
    for room_name in ["model", "analysis", "runtimes", "export"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{room_name}/mod.rs"));
        let text = fs::read_to_string(path).expect("mod.rs");
        for attribute in [
            "#![forbid(unsafe_code)]",
            "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]",
        ] {
            if !text.contains(attribute) {
                wrong.push(format!("src/{room_name}/mod.rs lacks {attribute}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_in_capture_sys_alone() {
    let mut wrong = Vec::new();
    for path in sources("src").into_iter().chain(sources("probes/rust/src")) {
        let relative = relative(&path);
        let home = relative.starts_with("src/capture/sys/")
            || relative == "probes/rust/src/ring.rs"
            || relative == "probes/rust/src/sys.rs";
        let used = code(&path).lines().any(|line| {
            line.contains("unsafe ") && !line.contains("unsafe_") && !line.contains('"')
        });
        if used && !home {
            wrong.push(relative);
        }
    }
    assert!(wrong.is_empty(), "unsafe outside its home: {wrong:?}");
}

/// Functions of a file with their lengths: from `fn` to the brace that closes it.
fn functions(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let body = line.trim_start();
        let indent = line[..line.len() - body.len()].to_owned();
        if let Some((name, start, outer)) = &open {
            if body.starts_with('}') && indent == *outer {
                found.push((name.clone(), number - start + 1));
                open = None;
            }
            continue;
        }
        let Some(at) = body.find("fn ").filter(|&at| at == 0 || body[..at].ends_with(' ')) else {
            continue;
        };
        let head = body[..at].trim();
        let starts = head.split(' ').all(|word| {
            word.is_empty()
                || matches!(word, "pub" | "const" | "async" | "unsafe" | "extern")
                || word.starts_with("pub(")
                || word.starts_with('"')
        });
        if starts && !body.ends_with(';') && !body.ends_with('}') {
            let name: String =
                body[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            open = Some((name, number, indent));
        }
    }
    found
}

#[test]
fn files_and_functions_stay_short() {
    let limits: BTreeMap<&str, usize> = RATCHET.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut check = |what: String, length: usize, rule: usize| {
        let limit = limits.get(what.as_str()).copied().unwrap_or(rule);
        if length > limit {
            wrong.push(format!("{what}: {length} lines, at most {limit}"));
        } else if limit > rule && length < limit {
            wrong.push(format!("{what}: down to {length} lines: lower its entry in RATCHET"));
        }
    };
    let all = ["src", "probes", "viewer", "examples"].into_iter().flat_map(sources);
    for path in all {
        let text = fs::read_to_string(&path).expect("UTF-8 source");
        check(relative(&path), text.lines().count(), LONGEST_FILE);
        if path.extension().is_some_and(|e| e == "rs") {
            for (name, length) in functions(&text) {
                check(format!("{}::{name}", relative(&path)), length, LONGEST_FUNCTION);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_is_the_one_in_the_docs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md");
    let text = fs::read_to_string(path).expect("docs/ARCHITECTURE.md");
    for (room, may) in MAY_USE.iter().filter(|(room, _)| !matches!(*room, "lib" | "main" | "cli")) {
        let list = if may.is_empty() { "std".to_owned() } else { may.join(", ") };
        let row = format!("| `{room}` | {list} |");
        assert!(text.contains(&row), "docs/ARCHITECTURE.md lacks the row: {row}");
    }
}
