//! `report.html`: one page that holds its data, style and script, and loads nothing.
//!
//! The page's policy allows the two embedded blocks by their hashes and nothing else: no
//! network, no other script, no style attribute. Data is JSON in a block that no browser
//! runs, with `<`, `>` and `&` written as escapes, so that no name can end the block; the
//! script turns names into text nodes only. Times beyond 2^53 ns (104 days of thread time)
//! would lose their last digits in a browser; nothing shorter does.

mod bins;
mod flames;
mod lanes;
mod policy;

use super::colors::state_color;
use crate::analysis::Report;
use crate::analysis::StackFold;
use crate::model::Event;
use crate::model::Segment;
use crate::model::State;
use crate::model::ThreadId;
use crate::model::Timelines;
use crate::model::Trace;
use crate::model::Visitor;
use crate::model::walk;
use bins::Bins;
use bins::CpuView;
use flames::FlameView;
use lanes::LaneFold;
use lanes::LaneView;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::io::Write;

const PAGE: &str = include_str!("../../viewer/index.html");
const STYLE: &str = include_str!("../../viewer/style.css");
/// In this order they make one script.
const SCRIPTS: [&str; 9] = [
    include_str!("../../viewer/base.js"),
    include_str!("../../viewer/summary.js"),
    include_str!("../../viewer/view.js"),
    include_str!("../../viewer/cpus.js"),
    include_str!("../../viewer/lanes.js"),
    include_str!("../../viewer/path.js"),
    include_str!("../../viewer/flame.js"),
    include_str!("../../viewer/tables.js"),
    include_str!("../../viewer/main.js"),
];

/// What the page is given.
#[derive(Serialize)]
struct Page<'a> {
    report: &'a Report,
    states: Vec<StateView>,
    lanes: LaneView,
    cpus: CpuView,
    flames: BTreeMap<&'static str, FlameView>,
}

#[derive(Serialize)]
struct StateView {
    name: &'static str,
    meaning: &'static str,
    color: String,
}

/// Writes the page for a report and the trace it was made from.
///
/// Totals come from the report. The trace gives the drawings: lanes (of the threads that
/// stand in the report), CPUs in use and flame graphs, thinned out to a size that a browser
/// opens at once; the page says what was thinned out.
pub fn write(report: &Report, trace: &dyn Trace, out: &mut dyn Write) -> io::Result<()> {
    let mut drawings = Drawings {
        stacks: StackFold::default(),
        lanes: LaneFold::new(report),
        cpus: Bins::default(),
    };
    let timelines = walk(trace, &mut drawings);
    let start = timelines.window().0;
    let page = Page {
        report,
        states: State::ALL.into_iter().map(StateView::of).collect(),
        cpus: drawings.cpus.view(start),
        flames: flames::views(trace, &timelines, &drawings.stacks),
        lanes: drawings.lanes.view(report),
    };
    let data = serde_json::to_string(&page)?;
    let script = format!("(() => {{\n'use strict';\n{}}})();\n", SCRIPTS.join("\n"));
    fill(out, |marker, out| match marker {
        "csp" => out.write_all(policy::policy(&script, STYLE).as_bytes()),
        "title" => {
            let command = report.command.first().map_or("", |command| command.0.as_str());
            escape_html(&format!("timesink: {command}"), out)
        }
        "headline" => escape_html(&report.verdict.headline, out),
        "style" => out.write_all(STYLE.as_bytes()),
        "script" => out.write_all(script.as_bytes()),
        "data" => escape_json(&data, out),
        _ => Ok(()),
    })
}

impl StateView {
    fn of(state: State) -> Self {
        let (r, g, b) = state_color(state);
        Self {
            name: state.name(),
            meaning: state.meaning(),
            color: format!("#{r:02x}{g:02x}{b:02x}"),
        }
    }
}

/// Everything that needs the segments, in one pass.
struct Drawings<'r> {
    stacks: StackFold,
    lanes: LaneFold<'r>,
    cpus: Bins,
}

impl Visitor for Drawings<'_> {
    fn segment(&mut self, segment: &Segment) {
        self.stacks.segment(segment);
        self.lanes.segment(segment);
        if segment.state == State::Running {
            self.cpus.add(segment.start, segment.end);
        }
    }

    fn event(&mut self, timelines: &Timelines, thread: Option<ThreadId>, event: &Event) {
        self.stacks.event(timelines, thread, event);
        self.cpus.begin(timelines.window().0);
    }
}

/// Copies the page, with `{{marker}}`s replaced. What is put in is never looked at again, so
/// a name with braces in it is only a name.
fn fill(
    out: &mut dyn Write,
    mut replace: impl FnMut(&str, &mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut parts = PAGE.split("{{");
    if let Some(first) = parts.next() {
        out.write_all(first.as_bytes())?;
    }
    for part in parts {
        let (marker, text) = part.split_once("}}").unwrap_or((part, ""));
        replace(marker, out)?;
        out.write_all(text.as_bytes())?;
    }
    Ok(())
}

fn escape_html(text: &str, out: &mut dyn Write) -> io::Result<()> {
    escape(text, out, |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        _ => None,
    })
}

/// JSON stays the same JSON: these characters only stand inside its strings.
fn escape_json(json: &str, out: &mut dyn Write) -> io::Result<()> {
    escape(json, out, |c| match c {
        '<' => Some("\\u003c"),
        '>' => Some("\\u003e"),
        '&' => Some("\\u0026"),
        '\u{2028}' => Some("\\u2028"),
        '\u{2029}' => Some("\\u2029"),
        _ => None,
    })
}

fn escape(
    text: &str,
    out: &mut dyn Write,
    by: impl Fn(char) -> Option<&'static str>,
) -> io::Result<()> {
    let mut done = 0;
    for (at, c) in text.char_indices() {
        if let Some(escaped) = by(c) {
            out.write_all(&text.as_bytes()[done..at])?;
            out.write_all(escaped.as_bytes())?;
            done = at + c.len_utf8();
        }
    }
    out.write_all(&text.as_bytes()[done..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_json_can_end_its_block() {
        let mut out = Vec::new();
        escape_json("\"</script><!-- & \u{2028} ok\"", &mut out).expect("a Vec takes all");
        let text = String::from_utf8(out).expect("UTF-8 in, UTF-8 out");
        assert_eq!(text, "\"\\u003c/script\\u003e\\u003c!-- \\u0026 \\u2028 ok\"");
        let back: String = serde_json::from_str(&text).expect("still JSON");
        assert_eq!(back, "</script><!-- & \u{2028} ok");
    }

    #[test]
    fn no_script_or_style_contains_its_own_end() {
        for source in SCRIPTS.iter().chain([&STYLE]) {
            assert!(!source.contains("</") && !source.contains("<!--"));
            for banned in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("] {
                assert!(!source.contains(banned), "{banned}");
            }
        }
    }
}
