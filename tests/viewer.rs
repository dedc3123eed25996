//! report.html in a real browser: it draws itself, its totals are the report's to the
//! nanosecond, and no name in it can run.
#![allow(missing_docs)]

mod scene;

use std::path::Path;
use std::path::PathBuf;
use timesink::model::MemoryTrace;

fn write_page(trace: &MemoryTrace, headline: &str, path: &Path) -> timesink::analysis::Report {
    let report = scene::report_of(trace, headline);
    let mut page = Vec::new();
    timesink::export::html::write(&report, trace, &mut page).expect("a Vec takes all");
    std::fs::write(path, page).expect("the directory is writable");
    report
}

/// Writes pages to look at into the directory that `TIMESINK_PAGES` names.
#[test]
fn pages_to_look_at() {
    let Some(directory) = std::env::var_os("TIMESINK_PAGES").map(PathBuf::from) else { return };
    write_page(
        &scene::hostile(),
        "</script><script>alert(0)</script> & more",
        &directory.join("hostile.html"),
    );
    write_page(
        &scene::contended(200),
        "3 threads, 0.6 of 2 CPUs used: 61 % of the workers' time they waited for one lock, taken in bank::settle",
        &directory.join("contended.html"),
    );
    let crowd = scene::crowd(200, 60);
    write_page(
        &crowd,
        "204 threads, 5.4 of 2 CPUs used: pools mostly wait for work",
        &directory.join("crowd.html"),
    );
    for kind in timesink::analysis::StackKind::ALL {
        for (name, trace) in [("hostile", &scene::hostile()), ("contended", &scene::contended(200))]
        {
            let mut svg = Vec::new();
            timesink::export::flamegraph::write(trace, kind, &mut svg).expect("a Vec takes all");
            std::fs::write(directory.join(format!("{name}-{}.svg", kind.name())), svg)
                .expect("writable");
        }
    }
}
