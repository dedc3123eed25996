//! What a hypervisor takes from the CPUs of this machine, by the kernel's own count.
#![allow(clippy::disallowed_methods)] // the impure edge: it reads files of /proc

use super::procfs;
use super::sys::perf_event::clock_ticks;
use crate::model::Nanos;
use crate::model::Stolen;

/// The count at one time. `None`: the kernel does not say.
#[derive(Clone, Copy, Debug)]
pub struct CpuCount(Option<procfs::CpuTimes>);

impl CpuCount {
    /// As of now.
    pub fn now() -> Self {
        let tick = Nanos(1_000_000_000 / clock_ticks());
        let text = std::fs::read("/proc/stat").ok();
        Self(text.and_then(|text| procfs::parse_cpu_times(&text, tick)))
    }

    /// What was taken since then.
    pub fn since(self) -> Option<Stolen> {
        let (before, now) = (self.0?, Self::now().0?);
        Some(Stolen { stolen: now.stolen - before.stolen, busy: now.busy - before.busy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_counts_and_takes_no_more_than_there_was() {
        let before = CpuCount::now();
        let end = std::time::Instant::now() + std::time::Duration::from_millis(60);
        while std::time::Instant::now() < end {
            std::hint::spin_loop();
        }
        let stolen = before.since().expect("/proc/stat is there");
        assert!(stolen.stolen <= stolen.busy && !stolen.busy.is_zero(), "{stolen:?}");
    }
}
