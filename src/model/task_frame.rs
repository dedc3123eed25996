//! Tasks of asyncio as frames of stacks: how they are written, and how they are read.

use std::fmt;

/// Module of the frames that stand for tasks of asyncio in stacks: between the loop's functions and
/// those of the task's coroutine.
pub const TASK_MODULE: &str = "[asyncio]";

/// A task in a stack. Shown, it is the name of its frame, from which it can be read again: a trace
/// has nothing but names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskFrame {
    /// What it is called.
    pub task: TaskName,
    /// Whether it awaits the task in the frame below, and is not itself the one that runs.
    pub awaits: bool,
}

/// What a task is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TaskName {
    /// As the program named it.
    Given(String),
    /// By the function that it runs: asyncio only numbered it.
    Of(String),
    /// Nothing is known of it.
    Unknown,
}

const AWAITS: &str = " awaits";

impl fmt::Display for TaskFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task {
            TaskName::Given(name) => write!(f, "task \"{name}\"")?,
            TaskName::Of(coroutine) => write!(f, "task of {coroutine}")?,
            TaskName::Unknown => f.write_str("task")?,
        }
        f.write_str(if self.awaits { AWAITS } else { "" })
    }
}

impl TaskFrame {
    /// The task in the name of a frame of [`TASK_MODULE`].
    pub fn read(frame: &str) -> Self {
        // A name ends with its quote, so ` awaits` behind it is none of it.
        let (name, awaits) = match frame.strip_suffix(AWAITS) {
            Some(name) => (name, true),
            None => (frame, false),
        };
        let given = name.strip_prefix("task \"").and_then(|name| name.strip_suffix('"'));
        let task = match (given, name.strip_prefix("task of ")) {
            (Some(name), _) => TaskName::Given(name.to_owned()),
            (None, Some(coroutine)) => TaskName::Of(coroutine.to_owned()),
            (None, None) => TaskName::Unknown,
        };
        Self { task, awaits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_read_as_it_was_written() {
        let names = ["worker-3", "", "a \"quoted\" one", "it awaits", "task of x"];
        let given = names.map(|name| TaskName::Given(name.to_owned()));
        let of = ["fetch", "Pool.run.<locals>.one"].map(|name| TaskName::Of(name.to_owned()));
        for task in given.into_iter().chain(of).chain([TaskName::Unknown]) {
            for awaits in [false, true] {
                let frame = TaskFrame { task: task.clone(), awaits };
                assert_eq!(TaskFrame::read(&frame.to_string()), frame, "{frame}");
            }
        }
    }
}
