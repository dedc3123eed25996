//! Tasks of asyncio as frames of stacks.

use crate::model::FastSet;
use crate::model::TASK_MODULE;
use crate::model::Text;
use crate::runtimes::Memory;
use crate::runtimes::cpython::Asyncio;
use crate::runtimes::cpython::Frame;
use crate::runtimes::cpython::Reader;
use crate::runtimes::cpython::Task;
use crate::runtimes::cpython::TaskWords;
use crate::runtimes::cpython::Tasks;
use crate::symbols::ScriptFrame;

/// Names told of a process as they are. A program that makes up one for each request would have a
/// flame for each: of further ones the digits are left out.
const MOST_NAMES: usize = 256;

/// Those of one process.
#[derive(Default)]
pub(super) struct TaskFrames {
    tasks: Tasks,
    names: FastSet<String>,
}

impl TaskFrames {
    /// Puts frames for the task that words lead to and for those that await it right outside of
    /// what the task has called, among the functions of a stack, innermost first. None where the
    /// words lead to no task.
    pub fn put(
        &mut self,
        memory: &dyn Memory,
        reader: &mut Reader,
        alive: bool,
        asyncio: &Asyncio,
        (words, frames): (&[TaskWords], &[Frame]),
        functions: &mut Vec<ScriptFrame>,
    ) {
        let called = self.tasks.called(memory, reader.layout(), asyncio, words, frames);
        let Some((at, tasks)) = called else { return };
        let codes: Vec<u64> = tasks.iter().filter_map(|task| task.code).collect();
        if alive {
            reader.learn(memory, &codes);
        }
        let frame = |(index, task): (usize, &Task)| {
            let name = self.name(reader, task);
            let function = if index == 0 { name } else { format!("{name} awaits") };
            let file = Text::from(TASK_MODULE);
            ScriptFrame { function, file, line: None, entry: false }
        };
        let mut put: Vec<ScriptFrame> = tasks.iter().enumerate().map(frame).collect();
        // What called the coroutine calls the task.
        if let Some((coroutine, outermost)) = functions[..at].last_mut().zip(put.last_mut()) {
            outermost.entry = std::mem::take(&mut coroutine.entry);
        }
        functions.splice(at..at, put);
    }

    /// What to call a task: those that asyncio numbered, by their coroutines.
    fn name(&mut self, reader: &Reader, task: &Task) -> String {
        if let Some(name) = &task.name {
            return format!("task \"{}\"", self.folded(&name.to_string()));
        }
        match task.code.and_then(|code| reader.code_as_last_seen(code)) {
            Some(code) => format!("task of {}", code.name),
            None => "task".to_owned(),
        }
    }

    /// A name without what could break a line.
    fn folded(&mut self, name: &str) -> String {
        let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if self.names.contains(&name) {
            return name;
        }
        if self.names.len() < MOST_NAMES {
            self.names.insert(name.clone());
            return name;
        }
        let mut folded = String::with_capacity(name.len());
        for c in name.chars() {
            match c {
                '0'..='9' if folded.ends_with('#') => {}
                '0'..='9' => folded.push('#'),
                c => folded.push(c),
            }
        }
        folded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_many_are_told_without_their_numbers() {
        let mut frames = TaskFrames::default();
        for n in 0..MOST_NAMES {
            assert_eq!(frames.folded(&format!("request {n}")), format!("request {n}"));
        }
        assert_eq!(frames.folded("request 5"), "request 5", "known");
        assert_eq!(frames.folded("request 1234 of 77"), "request # of #");
        assert_eq!(frames.folded("one\nline"), "one line");
        assert_eq!(frames.names.len(), MOST_NAMES);
    }
}
