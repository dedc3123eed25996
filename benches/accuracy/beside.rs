//! What py-spy says of the Python programs, asked in each of its ways.

use crate::programs;
use crate::table::Workload;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

/// Its ways: what it calls them, its option, and what it counts then.
pub const WAYS: [(&str, Option<&str>, &str); 3] = [
    ("py-spy", None, "threads that it takes for running"),
    ("py-spy --gil", Some("--gil"), "threads that hold the GIL"),
    ("py-spy --idle", Some("--idle"), "all threads"),
];

/// For each way, the innermost functions with the most samples; `None` where it is not installed.
pub fn said(workload: &Workload) -> Option<Vec<String>> {
    let installed = Command::new("py-spy").arg("--version").stdout(Stdio::null()).status();
    if !programs::is_python(workload) || !installed.is_ok_and(|status| status.success()) {
        return None;
    }
    Some(WAYS.iter().map(|&(_, option, _)| ask(workload, option)).collect())
}

fn ask(workload: &Workload, option: Option<&str>) -> String {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("py-spy.txt");
    let asked = Command::new("py-spy")
        .args(["record", "--rate", "100", "--format", "raw"])
        .args(option)
        .arg("-o")
        .arg(&out)
        .arg("--")
        .args(programs::command_of(workload))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output();
    let text = asked.ok().and_then(|_| fs::read_to_string(&out).ok());
    let _ = fs::remove_file(&out);
    text.map_or_else(|| "no answer".to_owned(), |text| top(&text))
}

/// The two innermost functions with the most samples, of lines `outer;inner COUNT`.
fn top(text: &str) -> String {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for line in text.lines() {
        let Some((stack, count)) = line.rsplit_once(' ') else { continue };
        let leaf = stack.rsplit(';').next().unwrap_or_default();
        let function = leaf.split(" (").next().unwrap_or_default();
        *sums.entry(function.to_owned()).or_default() += count.parse::<u64>().unwrap_or(0);
    }
    let all: u64 = sums.values().sum();
    let mut sums: Vec<(String, u64)> =
        sums.into_iter().filter(|(name, _)| !name.is_empty()).collect();
    sums.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let share = |count: u64| 100.0 * count as f64 / all.max(1) as f64;
    let said = |(name, count): &(String, u64)| format!("`{name}` {:.0} %", share(*count));
    let two: Vec<String> = sums.iter().take(2).map(said).collect();
    if two.is_empty() { "nothing".to_owned() } else { two.join(", ") }
}
