//! The directory that a run leaves: made for its user alone, never over somebody's files.

use crate::capture::sys::spawn::User;
use crate::session::terminal::say;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Name of the trace file in it.
pub const TRACE: &str = "trace.timesink";

/// Its name before the command has started.
const PART: &str = "trace.timesink.part";

/// Where directories go by default.
const PARENT: &str = "timesink-out";

/// A directory for the results of one run.
pub struct OutputDir {
    path: PathBuf,
    owner: Option<(u32, u32)>,
    made: bool,
    brought: Vec<PathBuf>,
}

impl OutputDir {
    /// The directory that was asked for, or `timesink-out/NAME-TIME`, or one in the temporary
    /// directory where that cannot be made. Under sudo it belongs to the invoking user.
    pub fn create(asked: Option<&Path>, command: &OsStr, user: Option<&User>) -> Result<Self> {
        let owner = user.map(|user| (user.uid, user.gid));
        if let Some(path) = asked {
            return Self::at(path, owner);
        }
        let name = default_name(command);
        match Self::below(Path::new(PARENT), &name, owner) {
            Ok(made) => Ok(made),
            Err(error) => {
                let name = format!("timesink-{name}-{}", std::process::id());
                let made = Self::below(&std::env::temp_dir(), &name, owner)
                    .context("no directory for the results can be made; name one with -o DIR")?;
                say(&format!(
                    "timesink: {PARENT} cannot be written here ({error}): results go to {}",
                    made.path.display()
                ));
                Ok(made)
            }
        }
    }

    fn at(path: &Path, owner: Option<(u32, u32)>) -> Result<Self> {
        let made = !path.exists();
        if made {
            make(path, owner).with_context(|| {
                format!("the directory {} cannot be made; name another with -o DIR", path.display())
            })?;
        } else if !path.is_dir() {
            bail!("{} is a file; name a directory with -o DIR", path.display());
        } else if !path.join(TRACE).exists() && fs::read_dir(path)?.next().is_some() {
            bail!(
                "{} is not empty and was not made by timesink, so nothing is written into it; \
                 name a new directory with -o DIR",
                path.display()
            );
        }
        Ok(Self { path: path.to_owned(), owner, made, brought: Vec::new() })
    }

    fn below(parent: &Path, name: &str, owner: Option<(u32, u32)>) -> io::Result<Self> {
        if !parent.exists() {
            make(parent, owner)?;
        }
        // Two runs in one second must not share a directory.
        for attempt in 1..100 {
            let name = if attempt == 1 { name.to_owned() } else { format!("{name}-{attempt}") };
            let path = parent.join(&name);
            match make(&path, owner) {
                Ok(()) => {
                    point_latest(parent, &name, owner);
                    return Ok(Self { path, owner, made: true, brought: Vec::new() });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("a hundred directories of that name exist"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new file in it, readable by its user alone. Whatever had its name is unlinked, never
    /// written through: under sudo a link planted there must not lead root anywhere.
    pub fn file(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = private().create_new(true).open(path)?;
        if let Some((uid, gid)) = self.owner {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        Ok(file)
    }

    /// Puts a file into it that the command needs; its path.
    pub fn bring(&mut self, name: &str, text: &str) -> io::Result<PathBuf> {
        self.file(name)?.write_all(text.as_bytes())?;
        let path = self.path.join(name);
        self.brought.push(path.clone());
        Ok(path)
    }

    /// Where the trace is written until the command has started: a mistyped command must not
    /// cost the recording of an earlier run.
    pub fn trace_in_the_making(&self) -> io::Result<File> {
        self.file(PART)
    }

    /// The command has started: the new trace takes its place, and what an earlier run left
    /// beside it goes.
    pub fn started(&self, products: &[&str]) -> io::Result<()> {
        for product in products {
            let _ = fs::remove_file(self.path.join(product));
        }
        fs::rename(self.path.join(PART), self.path.join(TRACE))
    }

    /// Removes it after a command that never started, if it was made for this run.
    pub fn discard(&self) {
        let _ = fs::remove_file(self.path.join(PART));
        for file in &self.brought {
            let _ = fs::remove_file(file);
        }
        if self.made {
            // Only ever an empty directory: anything else in it is not ours to remove.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// How output files are opened: to be written, and when new readable by their user alone, since
/// traces and what is made of them hold command lines.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn make(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// `latest` points to the newest directory. A convenience: its failure stops nothing.
fn point_latest(parent: &Path, name: &str, owner: Option<(u32, u32)>) {
    if parent != Path::new(PARENT) {
        return;
    }
    let (link, fresh) =
        (parent.join("latest"), parent.join(format!(".latest-{}", std::process::id())));
    let made = std::os::unix::fs::symlink(name, &fresh).and_then(|()| fs::rename(&fresh, &link));
    if let (Ok(()), Some((uid, gid))) = (made, owner) {
        let _ = std::os::unix::fs::lchown(&link, Some(uid), Some(gid));
    }
}

/// `NAME-TIME`: the program's name, made fit for a file name, and local time.
fn default_name(command: &OsStr) -> String {
    let name = Path::new(command).file_name().unwrap_or_default().to_string_lossy();
    let fit: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' })
        .take(40)
        .collect();
    let fit = if fit.trim_matches('.').is_empty() { "command" } else { fit.as_str() };
    format!("{fit}-{}", jiff::Zoned::now().strftime("%Y%m%d-%H%M%S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fit_for_files() {
        let name = |command: &str| default_name(command.as_ref());
        assert!(name("/usr/bin/sleep").starts_with("sleep-20"));
        assert!(name("/tmp/a b\n<x>").starts_with("a_b__x_-20"));
        assert!(name("..").starts_with("command-20"));
    }

    #[test]
    fn somebody_elses_directory_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::File::create(directory.path().join("precious")).expect("a file");
        let error =
            OutputDir::create(Some(directory.path()), "x".as_ref(), None).err().expect("refused");
        assert!(error.to_string().contains("not made by timesink"), "{error}");
        fs::File::create(directory.path().join(TRACE)).expect("a file");
        OutputDir::create(Some(directory.path()), "x".as_ref(), None)
            .expect("made by timesink: used again");
    }
}
