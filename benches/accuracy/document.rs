//! Writes what was measured as Markdown.

use crate::beside::WAYS;
use crate::checks;
use crate::measure::Series;
use crate::measure::Simple;
use crate::measure::Times;
use crate::metrics::METRICS;
use crate::stats::kendall;
use crate::stats::median;
use crate::stats::worst;
use crate::table::State;
use std::fmt::Write;
use std::fs;

/// A gain of less is none.
const HELPS: f64 = 1.03;

/// Speedups that differ by less are equal.
const TIE: f64 = 0.02;

/// The document.
pub fn write(all: &[Series], runs: usize) -> String {
    let mut text = String::new();
    head(&mut text, all, runs);
    states(&mut text, all);
    objects(&mut text, all);
    verdicts(&mut text, all);
    beside(&mut text, all);
    gains(&mut text, all);
    // Where the checkout lies is nobody's business.
    text.replace(concat!(env!("CARGO_MANIFEST_DIR"), "/"), "")
}

macro_rules! line {
    ($text:expr $(, $($rest:tt)*)?) => {
        let _ = writeln!($text $(, $($rest)*)?);
    };
}

fn head(text: &mut String, all: &[Series], runs: usize) {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let foreign: Vec<f64> = all.iter().flat_map(|series| series.foreign.iter().copied()).collect();
    line!(text, "# How right timesink is\n");
    line!(
        text,
        "Programs whose answer is known, recorded with the kernel tier. Each measures what it \
         waits for by itself; what a change gains is measured on the really modified program.\n"
    );
    line!(
        text,
        "Written by `cargo bench --bench accuracy -- --runs {runs}`: medians over {runs} rounds, in \
         each of which the program, the recorded program and every modified program ran once. \
         Linux {}, {cpus} CPUs, of which others used {:.0} % in the median round and {:.0} % in \
         the worst. The programs are in `tests/truth/ground`, the table of what is expected in \
         `tests/ground_truth/rows.rs`, and `cargo test --test ground_truth` asserts \
         what `tests/ground_truth/switches.rs` lists.\n",
        kernel.trim().split('-').next().unwrap_or_default(),
        median(&foreign) * 100.0,
        worst(&foreign) * 100.0
    );
}

fn states(text: &mut String, all: &[Series]) {
    line!(text, "## Time in states\n");
    line!(
        text,
        "Error: found less measured, in percentage points of the time of these threads; the \
         median round and the worst. A program measures a wait until it has a CPU again and \
         with the call's own work; the report counts those as `runnable` and `running`, so a \
         wait may be found shorter by up to the last column, what these threads spent there. \
         `runnable` is measured by the scheduler's own count (schedstat), which begins when a \
         task is queued, and the report when it is woken: it may be found longer by {} us a \
         wake.\n",
        checks::WAKE_NS / 1_000
    );
    line!(
        text,
        "| # | workload | threads | state | measured ms | found ms | error pp | worst pp | may be off by pp |"
    );
    line!(text, "|---|---|---|---|---:|---:|---:|---:|---:|");
    for series in all {
        for (state, times) in series.workload.states.iter().zip(&series.states) {
            line!(
                text,
                "| {} | {} | {} | `{}` | {:.1} | {:.1} | {:+.2} | {:+.2} | {:.2} |",
                series.workload.id,
                series.workload.title,
                if state.threads.is_empty() { "all" } else { state.threads },
                state.name,
                median(&times.measured) / 1e6,
                median(&times.found) / 1e6,
                median(&times.points),
                worst(&times.points),
                median(&times.slack)
            );
        }
    }
    let excess = |(state, times): (&State, &Times)| {
        checks::excess(state, median(&times.points), median(&times.slack))
    };
    let each = |series: &Series| -> Vec<f64> {
        series.workload.states.iter().zip(&series.states).map(excess).collect()
    };
    let points: Vec<f64> = all.iter().flat_map(each).collect();
    let over = points.iter().filter(|point| point.abs() > 3.0).count();
    line!(
        text,
        "\n{} states; largest median error, less what the last column allows, {:+.2} points; \
         {over} beyond 3 points.\n",
        points.len(),
        worst(&points)
    );
}

fn objects(text: &mut String, all: &[Series]) {
    line!(text, "## What was waited for\n");
    line!(
        text,
        "The longest wait for one object of this kind at this function, as a part of what the \
         program measured there: 1.00 if it is one object with all of the wait.\n"
    );
    line!(text, "| # | kind | at | part |\n|---|---|---|---:|");
    for series in all {
        for (object, shares) in series.workload.objects.iter().zip(&series.objects) {
            let part = median(shares);
            let part = if part.is_nan() { "missing".to_owned() } else { format!("{part:.2}") };
            let (id, kind, function) = (series.workload.id, object.kind, object.function);
            line!(text, "| {id} | {kind} | `{function}` | {part} |");
        }
    }
    line!(text);
}

fn verdicts(text: &mut String, all: &[Series]) {
    line!(text, "## Verdicts\n");
    line!(
        text,
        "Rounds with the right kind of verdict, and with what decides named in it; then what \
         simple metrics name on the same trace (in the last round), and in how many rounds that \
         was what decides. Where nothing is to be named, only a lock or queue that is innocent \
         is wrong.\n"
    );
    for (metric, what) in METRICS {
        line!(text, "* *{metric}*: {what}.");
    }
    let heads: String = METRICS.iter().flat_map(|(metric, _)| [" ", metric, " |"]).collect();
    line!(text, "\n| # | workload | expected | named | found | kind | named right |{heads}");
    line!(text, "|---|---|---|---|---|---:|---:|{}", "---|".repeat(METRICS.len()));
    for series in all {
        verdict(text, series);
    }
    let named: Vec<&Series> =
        all.iter().filter(|s| !s.workload.verdict.culprit.is_empty()).collect();
    let whole = |right: usize, series: &Series| usize::from(2 * right > series.bare.len());
    let ours: usize = named.iter().map(|series| whole(series.right_culprit, series)).sum();
    let mut others = String::new();
    for (index, (metric, _)) in METRICS.iter().enumerate() {
        let right: usize = named.iter().map(|s| whole(s.metrics[index].right, s)).sum();
        let _ = write!(others, ", {metric} {right}");
    }
    line!(
        text,
        "\nOf {} workloads with something to name, right in most rounds: timesink {ours}{others}.\n",
        named.len()
    );
}

fn verdict(text: &mut String, series: &Series) {
    let rounds = series.bare.len();
    let found: Vec<&str> = series.verdicts.keys().map(String::as_str).collect();
    let culprit = series.workload.verdict.culprit;
    let (named, right) = if culprit.is_empty() {
        ("any".to_owned(), "-".to_owned())
    } else {
        (format!("`{culprit}`"), format!("{}/{rounds}", series.right_culprit))
    };
    let cells: Vec<String> = series.metrics.iter().map(cell).collect();
    line!(
        text,
        "| {} | {} | {} | {named} | {} | {}/{rounds} | {right} | {} |",
        series.workload.id,
        series.workload.title,
        series.workload.verdict.kinds.join(" or "),
        found.join(", "),
        series.right_kind,
        cells.join(" | ")
    );
}

/// What a metric named, and whether that is right.
fn cell(simple: &Simple) -> String {
    let said = match (simple.right, simple.wrong) {
        (0, 0) => return simple.text.clone(),
        (_, 0) => "right".to_owned(),
        (0, _) => "wrong".to_owned(),
        (right, wrong) => format!("right {right}/{}", right + wrong),
    };
    format!("{said}: {}", simple.text)
}

fn beside(text: &mut String, all: &[Series]) {
    let asked: Vec<(&Series, &Vec<String>)> =
        all.iter().filter_map(|series| Some((series, series.beside.as_ref()?))).collect();
    if asked.is_empty() {
        return;
    }
    line!(text, "## Beside py-spy\n");
    line!(
        text,
        "What the last round's report says of the Python programs in its first sentence, and the two \
         innermost functions with the most of py-spy's samples (100 Hz, one run each):\n"
    );
    for (way, _, counts) in WAYS {
        line!(text, "* *{way}* counts {counts}.");
    }
    for (series, said) in asked {
        line!(text, "\n{}, {}:\n", series.workload.id, series.workload.title);
        line!(text, "* timesink: {}.", series.headline);
        for ((way, ..), said) in WAYS.iter().zip(said) {
            line!(text, "* {way}: {said}.");
        }
    }
    line!(text);
}

fn gains(text: &mut String, all: &[Series]) {
    line!(text, "## Gains: promised and real\n");
    line!(
        text,
        "Speedups: time before by time after. Real: the really modified program, in turn with \
         the program itself. Error: promised against real.\n"
    );
    line!(
        text,
        "| # | change | in theory | real | promised | error |\n|---|---|---:|---:|---:|---:|"
    );
    let mut pairs = Vec::new();
    let mut errors = Vec::new();
    for series in all {
        for (index, change) in series.changes() {
            let (real, promised) = (series.real(index), series.promised(index));
            let error = real.zip(promised).map(|(real, promised)| {
                let error = (promised / real - 1.0) * 100.0;
                pairs.push((promised, real));
                errors.push((series.workload, change, error));
                format!("{error:+.1} %")
            });
            let times = |speedup: Option<f64>| {
                speedup.map_or("-".to_owned(), |speedup| format!("{speedup:.2}x"))
            };
            line!(
                text,
                "| {} | `{}` | {:.2}x | {} | {} | {} |",
                series.workload.id,
                change.name,
                change.theory,
                times(real),
                times(promised),
                error.unwrap_or("-".to_owned())
            );
        }
    }
    for series in all {
        for (index, change) in series.changes() {
            if let Some(why) = &series.gains[index].refused {
                line!(text, "\n{}, `{}`, is refused: {why}.", series.workload.id, change.name);
            }
        }
    }
    if pairs.is_empty() {
        line!(text, "\nThis version promises nothing: there is no replay to compare.");
        return;
    }
    let beyond = errors.iter().filter(|(w, _, error)| error.abs() > checks::allowed(w)).count();
    let tau = kendall(&pairs, TIE).map_or("-".to_owned(), |tau| format!("{tau:.2}"));
    line!(
        text,
        "\n{} changes with both; {beyond} beyond the tolerance (3 %, 8 % where the program \
         computes); Kendall's tau {tau} (pairs closer than {TIE} left out).\n",
        pairs.len()
    );
    coverage(text, all);
    let count = |promised: bool, real: bool| {
        pairs.iter().filter(|(p, r)| (*p >= HELPS) == promised && (*r >= HELPS) == real).count()
    };
    line!(text, "Does it help, by at least 3 %?\n");
    line!(text, "| | really helps | really does not |\n|---|---:|---:|");
    line!(text, "| promised to help | {} | {} |", count(true, true), count(true, false));
    line!(text, "| promised not to | {} | {} |", count(false, true), count(false, false));
}

fn coverage(text: &mut String, all: &[Series]) {
    let covered = all.iter().flat_map(|s| s.changes().filter_map(|(index, _)| s.covered(index)));
    let covered: Vec<bool> = covered.collect();
    line!(
        text,
        "The real speedup lies within the promised interval (between the medians of its ends) for {} \
         of {} changes.\n",
        covered.iter().filter(|&&within| within).count(),
        covered.len()
    );
}
