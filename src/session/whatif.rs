//! `timesink whatif`: the answer of a replay, in words or for programs.

use super::not_the_trace;
use super::open;
use super::to_output;
use crate::analysis::replay::Answer;
use crate::analysis::replay::what_if;
use crate::cli::WhatIfArgs;
use crate::cli::WhatIfFormat;
use anyhow::Result;
use anyhow::anyhow;
use std::io;
use std::io::Write;

/// The schema of the answer for programs.
const SCHEMA: &str = "timesink.whatif/1";

/// Answers the changes of the command line. A refused replay is an answer, too.
pub fn answer(args: &WhatIfArgs) -> Result<u8> {
    not_the_trace(&args.trace, args.output.as_deref())?;
    let (trace, _) = open(&args.trace)?;
    let answer = what_if(&trace, &args.changes).map_err(|error| anyhow!("{error}"))?;
    to_output(args.output.as_deref(), &mut |out| match args.format {
        WhatIfFormat::Text => text(&answer, out),
        WhatIfFormat::Json => json(&answer, out),
    })
}

fn json(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    #[derive(serde::Serialize)]
    struct Shown<'a> {
        schema: &'a str,
        #[serde(flatten)]
        answer: &'a Answer,
    }
    serde_json::to_writer_pretty(&mut *out, &Shown { schema: SCHEMA, answer })?;
    writeln!(out)
}

fn text(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let label = answer.label.as_ref().map_or_else(String::new, |label| format!("  ({label})"));
    writeln!(out, "if       {}{label}", answer.changes.join("  and  "))?;
    for note in &answer.notes {
        writeln!(out, "         {note}")?;
    }
    writeln!(out, "target   {}", answer.target.text)?;
    if let Some(identity) = &answer.identity {
        writeln!(
            out,
            "check    the run took {}, its unchanged replay takes {} ({:+.1} %)",
            seconds(identity.observed_ns),
            seconds(identity.replayed_ns),
            identity.error * 100.0
        )?;
    }
    if let Some(reason) = &answer.refused {
        writeln!(out, "answer   none: {reason}")?;
    } else {
        let interval = match (answer.low, answer.high) {
            (Some(low), Some(high)) => format!("{low:.2} to {high:.2}"),
            _ => "how sure that is, is not known".to_owned(),
        };
        let (speedup, gain) = (answer.speedup, gain(answer));
        writeln!(out, "answer   {speedup:.2}x as fast ({interval}): {gain}")?;
    }
    writeln!(out, "unseen   {}", answer.blind_spots)
}

fn gain(answer: &Answer) -> String {
    let after = seconds(answer.after_ns);
    let what = if answer.target.kind == "root-exit" {
        format!("the run would take {after}")
    } else {
        format!("the same work would take {after}")
    };
    let by_chance =
        answer.low.zip(answer.high).is_some_and(|(low, high)| low <= 1.0 && high >= 1.0);
    if by_chance || (answer.speedup - 1.0).abs() < 0.005 {
        return format!("no gain that could be told from chance; {what}");
    }
    what
}

fn seconds(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    if seconds >= 1.0 { format!("{seconds:.2} s") } else { format!("{:.1} ms", seconds * 1e3) }
}
