//! The `timesink` program: parse, call the session, turn the result into an exit code.

use clap::Parser;
use std::io::Write;
use std::process::ExitCode;
use timesink::cli::Cli;
use timesink::session;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Own diagnostics, for those who look into timesink itself: TIMESINK_LOG=debug.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("TIMESINK_LOG").unwrap_or_default())
        .with_writer(std::io::stderr)
        .init();
    match session::dispatch(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let text = format!("timesink: {error:#}\n");
            // Nothing is left to do if stderr itself is gone.
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(session::EXIT_FAILED)
        }
    }
}
