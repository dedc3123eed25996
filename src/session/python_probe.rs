//! `--python-probe`: a `sitecustomize` in the run's directory, found through `PYTHONPATH`.

use crate::session::output_dir::OutputDir;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;

const NAME: &str = "sitecustomize.py";

/// Puts the probe into the directory; the value of `PYTHONPATH` with which Python finds it.
pub fn bring(directory: &mut OutputDir) -> Result<OsString> {
    let file = directory
        .bring(NAME, include_str!("../../probes/python/sitecustomize.py"))
        .context("the probe for Python cannot be written into the directory of the run")?;
    // Absolute: the command may work in another directory.
    let file = fs::canonicalize(file).context("the directory of the run cannot be found")?;
    let mut path = file.parent().unwrap_or(&file).as_os_str().to_owned();
    if path.as_bytes().contains(&b':') {
        bail!("PYTHONPATH cannot hold a directory with `:` in its name; name another with -o DIR");
    }
    // An empty entry would be the working directory.
    if let Some(theirs) = std::env::var_os("PYTHONPATH").filter(|theirs| !theirs.is_empty()) {
        path.push(":");
        path.push(theirs);
    }
    Ok(path)
}

/// Takes it away again, and what Python compiled it to: an interpreter that starts later finds
/// none, and does without.
pub fn remove(directory: &OutputDir) {
    let _ = fs::remove_file(directory.path().join(NAME));
    let compiled = directory.path().join("__pycache__");
    for entry in fs::read_dir(&compiled).into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(b"sitecustomize.") {
            let _ = fs::remove_file(entry.path());
        }
    }
    // Only if it is empty: anything else in it is not ours.
    let _ = fs::remove_dir(&compiled);
}
