//! The two facts that CO-RE relocations cannot give, read from the kernel's BTF.

/// What the running kernel's type information says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Distance in the per-CPU area from the run queue to the preemption counter (or to
    /// `pcpu_hot`, which holds it in some versions).
    pub preempt_distance: Option<i32>,
    /// Whether `sched_switch` passes the previous state.
    pub has_prev_state: bool,
    /// Whether there is the tracepoint of the interrupt in which stacks are taken.
    pub has_bell: bool,
}

/// Reads `/sys/kernel/btf/vmlinux`'s bytes. `None` if they are not BTF as we know it.
pub fn facts(bytes: &[u8]) -> Option<Facts> {
    let btf = Raw::new(bytes)?;
    let mut facts = Facts::default();
    let per_cpu = btf.find(DATASEC, b".data..percpu");
    let offset = |name: &[u8]| {
        let variable = btf.find(VAR, name)?.id;
        let section = per_cpu.as_ref()?;
        section
            .body
            .chunks_exact(12)
            .find(|entry| word(entry, 0) == Some(variable))
            .and_then(|e| word(e, 4))
    };
    let counter = offset(b"__preempt_count").or_else(|| offset(b"pcpu_hot"));
    if let (Some(counter), Some(queue)) = (counter, offset(b"runqueues")) {
        facts.preempt_distance = Some(counter.wrapping_sub(queue) as i32);
    }
    let prototype = btf
        .find(TYPEDEF, b"btf_trace_sched_switch")
        .and_then(|typedef| btf.get(typedef.reference))
        .and_then(|pointer| btf.get(pointer.reference));
    facts.has_prev_state = prototype.is_some_and(|p| p.kind == FUNC_PROTO && p.vlen >= 5);
    facts.has_bell = btf.find(TYPEDEF, b"btf_trace_irq_work_entry").is_some();
    Some(facts)
}

const TYPEDEF: u32 = 8;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

struct Raw<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins; ids count from 1.
    starts: Vec<u32>,
}

struct Type<'a> {
    id: u32,
    kind: u32,
    vlen: u32,
    reference: u32,
    body: &'a [u8],
}

impl<'a> Raw<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..2)? != [0x9f, 0xeb] {
            return None;
        }
        let section = |at: usize| -> Option<&'a [u8]> {
            let start = word(bytes, 4)? as usize + word(bytes, at)? as usize;
            bytes.get(start..start.checked_add(word(bytes, at + 4)? as usize)?)
        };
        let (types, strings) = (section(8)?, section(16)?);
        let mut starts = Vec::new();
        let mut at = 0;
        while at + 12 <= types.len() {
            starts.push(at as u32);
            let info = word(types, at + 4)?;
            at += 12 + body_size(info >> 24 & 31, info & 0xffff)?;
        }
        Some(Self { types, strings, starts })
    }

    fn get(&self, id: u32) -> Option<Type<'a>> {
        let at = *self.starts.get(id.checked_sub(1)? as usize)? as usize;
        let info = word(self.types, at + 4)?;
        let (kind, vlen) = (info >> 24 & 31, info & 0xffff);
        let body = self.types.get(at + 12..at + 12 + body_size(kind, vlen)?)?;
        Some(Type { id, kind, vlen, reference: word(self.types, at + 8)?, body })
    }

    fn find(&self, kind: u32, name: &[u8]) -> Option<Type<'a>> {
        let ids = self.starts.iter().zip(1u32..);
        let mut matching = ids.filter(|&(&at, _)| {
            let at = at as usize;
            let of_kind = word(self.types, at + 4).is_some_and(|info| info >> 24 & 31 == kind);
            of_kind
                && word(self.types, at)
                    .and_then(|offset| self.strings.get(offset as usize..))
                    .is_some_and(|rest| rest.starts_with(name) && rest.get(name.len()) == Some(&0))
        });
        self.get(matching.next()?.1)
    }
}

/// Bytes behind the 12 that every type has.
fn body_size(kind: u32, vlen: u32) -> Option<usize> {
    let vlen = vlen as usize;
    Some(match kind {
        1 | VAR | 17 => 4,
        3 => 12,
        4 | 5 | DATASEC | 19 => 12 * vlen,
        6 | FUNC_PROTO => 8 * vlen,
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A BTF file with one per-CPU section and the prototype of `sched_switch`.
    fn sample(parameters: u32, bell: &[u8]) -> Vec<u8> {
        let strings = b"\0.data..percpu\0__preempt_count\0runqueues\0btf_trace_sched_switch\0\
            btf_trace_irq_work_entry\0";
        let name = |text: &[u8]| {
            strings.windows(text.len()).position(|window| window == text).expect("listed") as u32
        };
        let mut types: Vec<u32> = Vec::new();
        types.extend([name(b"__preempt_count"), VAR << 24, 0, 1]); // 1
        types.extend([name(b"runqueues"), VAR << 24, 0, 1]); // 2
        types.extend([name(b".data..percpu"), DATASEC << 24 | 2, 64, 1, 8, 4, 2, 40, 16]); // 3
        types.extend([name(b"btf_trace_sched_switch"), TYPEDEF << 24, 5]); // 4
        types.extend([0, 2 << 24, 6]); // 5: pointer
        types.extend([0, FUNC_PROTO << 24 | parameters, 0]); // 6
        types.extend(vec![0; 2 * parameters as usize]);
        types.extend([name(bell), TYPEDEF << 24, 5]); // 7
        let length = types.len() as u32 * 4;
        let header = [0x0001_eb9f, 24, 0, length, length, strings.len() as u32];
        let mut bytes: Vec<u8> =
            header.iter().chain(&types).flat_map(|w| w.to_le_bytes()).collect();
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn finds_the_distance_the_prototype_and_the_bell() {
        let expected = Facts { preempt_distance: Some(-32), has_prev_state: true, has_bell: true };
        assert_eq!(facts(&sample(5, b"btf_trace_irq_work_entry")), Some(expected));
        let older = Facts { has_prev_state: false, ..expected };
        assert_eq!(facts(&sample(4, b"btf_trace_irq_work_entry")), Some(older));
        let without = Facts { has_bell: false, ..expected };
        assert_eq!(facts(&sample(5, b"runqueues")), Some(without));
    }

    #[test]
    fn any_cut_is_an_answer_and_no_panic() {
        let bytes = sample(5, b"btf_trace_irq_work_entry");
        for end in 0..bytes.len() {
            let _ = facts(&bytes[..end]);
        }
        assert_eq!(facts(b"\x7fELF"), None);
    }
}
