//! Telling the programs which processes run Python, and where their interpreters keep things.

use super::load::Loaded;
use super::load::broken;
use crate::capture::CaptureError;
use crate::capture::python::Found;
use crate::capture::python::Inside;
use aya::Ebpf;
use aya::maps::HashMap;
use aya::maps::MapData;
use timesink_bpf::layout;

/// The map `pythons`, by process.
pub type Pythons = HashMap<MapData, u32, [u8; size_of::<layout::Python>()]>;

/// Takes the map out of the loaded object.
pub fn map(ebpf: &mut Ebpf) -> Result<Pythons, CaptureError> {
    let map = ebpf.take_map("pythons").ok_or_else(|| broken("no map pythons"))?;
    HashMap::try_from(map).map_err(|error| broken(&error.to_string()))
}

impl Loaded {
    /// From now on frames of Python are taken in a process, or no longer. Where there are more
    /// such processes than the map holds, the later ones have native stacks only.
    pub fn take_python(&mut self, found: &Found) {
        let (pid, python) = found;
        let result = match python {
            Some(inside) => {
                let value = python_of(inside);
                self.pythons.insert(pid.0, bytemuck::cast::<_, [u8; 128]>(value), 0)
            }
            None => self.pythons.remove(&pid.0),
        };
        // The map is full, or the process was never in it.
        drop(result);
    }
}

fn python_of(inside: &Inside) -> layout::Python {
    let Inside { place, layout: from, asyncio } = inside;
    let asyncio = asyncio.unwrap_or_default();
    layout::Python {
        runtime: place.runtime,
        asyncio_run: asyncio.run,
        builtin: asyncio.builtin,
        current_tasks: asyncio.current,
        interpreters: from.runtime_interpreters,
        interpreter_next: from.interpreter_next,
        interpreter_threads: from.interpreter_threads,
        thread_next: from.thread_next,
        thread_pthread: from.thread_pthread,
        thread_frame: from.thread_frame,
        cframe_frame: from.cframe_frame,
        frame_previous: from.frame_previous,
        frame_code: from.frame_code,
        frame_instruction: from.frame_instruction,
        frame_owner: from.frame_owner,
        frame_entry: from.frame_entry,
        frame_copy: from.frame_copy,
        frame_locals: from.frame_locals,
        tag_bits: from.tag_bits,
        handle_callback: asyncio.callback,
        task_name: from.task_name,
        task_coroutine: from.task_coroutine,
        coroutine_code: from.coroutine_code,
        task_awaiter: from.task_awaiter,
        task_awaiters: from.task_awaiters,
        parks: from.parks().into(),
        thread_task: from.thread_task,
        table_head: from.table_head(),
    }
}

const _: () = assert!(layout::PYTHON_ABSENT == crate::runtimes::cpython::ABSENT);
const _: () = assert!(layout::TASK_IS_CURRENT == crate::runtimes::cpython::TASK_IS_CURRENT);
