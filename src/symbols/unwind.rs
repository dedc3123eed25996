//! From registers and stack bytes to frames: call frame information first, frame pointers
//! where there is none, and the chain that the kernel walked where the bytes end.
//!
//! framehop unwinds within one module, in addresses as linked, so that what it caches serves
//! every process; which module an address belongs to is looked up here, frame by frame.

use framehop::FrameAddress;
use framehop::Unwinder as _;
use framehop::x86_64::CacheX86_64;
use framehop::x86_64::UnwindRegsX86_64;
use framehop::x86_64::UnwinderX86_64;

use super::RawStack;
use super::Registers;
use super::callsite::frame_size;
use super::callsite::is_call_before;
use super::module::Index;
use super::module::Modules;
use super::signal;
use super::space::Region;
use super::space::Space;
use super::way_out::Way;
use super::way_out::ways;
use crate::model::FastMap;

/// Frames per stack. A deeper one (runaway recursion) is cut and marked.
const MAX_FRAMES: usize = 512;

/// Stands for a frame pointer that is not known: never readable, so that following it ends
/// the stack as truncated, where 0 would end it as complete.
const POISON: u64 = 0xffff_dead_0000_0000;

/// User addresses end here (47 bits, or 56 with five page-table levels).
const USER_END: u64 = 1 << 56;

/// One place in user code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The module, if any mapping covers the address.
    pub module: Option<Index>,
    /// Offset in the module's file, or the address itself.
    pub offset: u64,
    /// The address as linked.
    pub linked: u64,
}

/// The user part of a stack.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    /// Innermost first.
    pub places: Vec<Place>,
    /// Whether the outermost function was reached.
    pub complete: bool,
    /// An address that looked like code, but that no mapping covers.
    pub missing: Option<u64>,
}

/// How a walk by bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Outermost,
    Lost,
    Missing(u64),
}

/// The dumped bytes of a stack.
struct Bytes<'a> {
    /// Address of the first.
    base: u64,
    bytes: &'a [u8],
}

impl Bytes<'_> {
    fn word(&self, address: u64) -> Result<u64, ()> {
        let at = usize::try_from(address.wrapping_sub(self.base)).map_err(|_| ())?;
        let word = self.bytes.get(at..at.checked_add(8).ok_or(())?).ok_or(())?;
        word.try_into().map(u64::from_le_bytes).map_err(|_| ())
    }
}

/// Where a walk by bytes is.
struct Cursor {
    registers: UnwindRegsX86_64,
    address: u64,
    exact: bool,
}

/// Length of what calls the loader's first function: `_start` in glibc has 0x40 bytes.
const ENTRY_BYTES: u64 = 64;

/// How far up a frame pointer that is not known is looked for: a function's own frame.
const MAX_FRAME_BYTES: u64 = 4096;
/// Slots tried for it.
const MAX_CANDIDATES: usize = 16;

/// Caches of unwind rules, chosen by module: framehop's own has 509 slots.
pub(super) struct Caches {
    by_module: Vec<CacheX86_64>,
    /// Knows no module: follows frame pointers.
    fallback: UnwinderX86_64<Vec<u8>>,
    /// How code without call frame information returns, by module and address as linked.
    ways: FastMap<(Index, u64), Vec<Way>>,
}

/// framehop caches in use, 16 KB each.
const CACHES: usize = 16;

impl Default for Caches {
    fn default() -> Self {
        let by_module = std::iter::repeat_with(CacheX86_64::new).take(CACHES).collect();
        Self { by_module, fallback: UnwinderX86_64::new(), ways: FastMap::default() }
    }
}

/// Words of the stack in which the return address of a function is looked for that ends its thread.
const MAX_LAST_WORDS: u64 = 32;
/// Places in code without call frame information that are remembered.
const MAX_WAYS: usize = 4096;

/// What a walk works with.
pub(super) struct Walker<'a> {
    pub space: &'a Space,
    pub modules: &'a mut Modules,
    pub caches: &'a mut Caches,
}

fn place(region: Option<&Region>, address: u64) -> Place {
    match region {
        Some(r) => Place {
            module: Some(r.module),
            offset: r.offset_of(address),
            linked: r.linked(address),
        },
        None => Place { module: None, offset: address, linked: address },
    }
}

/// Addresses of a stack: as read, and whether each is exact (not a return address).
#[derive(Default)]
struct Addresses(Vec<(u64, bool)>);

impl Addresses {
    fn push(&mut self, address: u64, exact: bool) -> bool {
        if self.0.len() < MAX_FRAMES {
            self.0.push((address, exact));
        }
        self.0.len() < MAX_FRAMES
    }
}

/// The address that names and rules are looked up by: a return address may already belong
/// to the next function.
fn lookup(address: u64, exact: bool) -> u64 {
    if exact { address } else { address.wrapping_sub(1) }
}

impl Walker<'_> {
    /// Unwinds the user part of `raw`.
    pub fn walk(&mut self, raw: &RawStack) -> Walk {
        let Some(registers) = raw.registers else { return self.by_chain(&raw.chain) };
        if raw.bytes.is_empty() && !raw.chain.is_empty() {
            return self.by_chain(&raw.chain);
        }
        let mut addresses = Addresses::default();
        let end = if cfg!(target_arch = "x86_64") {
            self.by_bytes(registers, &raw.bytes, &mut addresses)
        } else {
            addresses.push(registers.ip, true);
            End::Lost
        };
        let mut walk = self.finish(&addresses, end);
        if !walk.complete {
            self.continue_by_chain(&addresses, &raw.chain, &mut walk);
        }
        walk
    }

    fn finish(&self, addresses: &Addresses, end: End) -> Walk {
        let at = |&(address, exact): &(u64, bool)| {
            let address = lookup(address, exact);
            place(self.space.find(address), address)
        };
        Walk {
            places: addresses.0.iter().map(at).collect(),
            complete: end == End::Outermost,
            missing: match end {
                End::Missing(address) => Some(address),
                End::Outermost | End::Lost => None,
            },
        }
    }

    /// Frame by frame through registers and bytes.
    fn by_bytes(&mut self, from: Registers, bytes: &[u8], out: &mut Addresses) -> End {
        let stack = Bytes { base: from.sp, bytes };
        let registers = UnwindRegsX86_64::new(from.ip, from.sp, from.fp.unwrap_or(POISON));
        let mut cursor = Cursor { registers, address: from.ip, exact: true };
        let end = self.run(&mut cursor, &stack, out);
        if end == End::Lost && cursor.registers.bp() == POISON && cursor.address != from.ip {
            return self.recover(&cursor, &stack, out).unwrap_or(end);
        }
        end
    }

    /// Goes up from `cursor` until the end, and leaves it at the last frame.
    fn run(&mut self, cursor: &mut Cursor, stack: &Bytes<'_>, out: &mut Addresses) -> End {
        let mut read = |address| stack.word(address);
        loop {
            let Cursor { address, exact, .. } = *cursor;
            let registers = &mut cursor.registers;
            let Some(region) = self.space.find(lookup(address, exact)).cloned() else {
                // A leaf outside all code is shown as the bare address that it is.
                if exact {
                    out.push(address, true);
                }
                return if address < USER_END && address > 0xffff {
                    End::Missing(lookup(address, exact))
                } else {
                    End::Lost
                };
            };
            if !out.push(address, exact) {
                return End::Lost;
            }
            let before = registers.sp();
            let next = match self.interrupted(&region, address, exact, registers, &mut read) {
                Some(ip) => Some((ip, true)),
                None => match self.step(&region, address, exact, registers, &mut read) {
                    Ok(next) => next.map(|address| (address, false)),
                    Err(()) if self.is_entry(&region, address, exact) => return End::Outermost,
                    Err(()) => return End::Lost,
                },
            };
            let Some(next) = next else { return End::Outermost };
            // Only a leaf may leave the stack pointer where it is (and a signal may have run
            // on another stack): broken call frame information must not loop.
            if registers.sp() <= before && !exact && !next.1 {
                return End::Lost;
            }
            (cursor.address, cursor.exact) = next;
        }
    }

    /// Finds the frame pointer that could not be read from outside.
    ///
    /// libc's wrappers do not touch it, so nothing on the stack tells it to a caller that needs
    /// it (all of Rust's standard library does). But that caller pushed its own caller's frame
    /// pointer right below its return address, somewhere above the stack pointer: where its
    /// prologue says, or else in the nearest slot below a return address. The slot must follow
    /// a call, and unwinding from it must reach the outermost function; without such a slot
    /// the stack stays truncated.
    fn recover(&mut self, lost: &Cursor, stack: &Bytes<'_>, out: &mut Addresses) -> Option<End> {
        let region = self.space.find(lookup(lost.address, lost.exact))?.clone();
        let linked = region.linked(lookup(lost.address, lost.exact));
        let start = self.modules.unwinding(region.module).and_then(|u| u.function(linked));
        let size = start.and_then(|start| frame_size(self.modules, &region, start));
        let first = lost.registers.sp();
        let slots = size.into_iter().chain((0..MAX_FRAME_BYTES / 8).map(|slot| 8 * slot));
        let candidates: Vec<u64> = slots
            .filter_map(|distance| {
                let slot = first.checked_add(distance)?;
                let back = stack.word(slot.checked_add(8)?).ok()?;
                let region = self.space.find(back.wrapping_sub(1))?;
                is_call_before(self.modules, region, back).then_some(slot)
            })
            .take(MAX_CANDIDATES)
            .collect();
        candidates.into_iter().find_map(|slot| {
            let (fp, ip) = (stack.word(slot).ok()?, stack.word(slot.checked_add(8)?).ok()?);
            let registers = UnwindRegsX86_64::new(ip, slot.checked_add(16)?, fp);
            let mut beyond = Addresses(out.0.clone());
            let mut cursor = Cursor { registers, address: ip, exact: false };
            let end = self.run(&mut cursor, stack, &mut beyond);
            (end == End::Outermost).then(|| {
                *out = beyond;
                end
            })
        })
    }

    /// Whether the kernel starts the program here, so that nothing called it. Where that is the
    /// loader's, no call frame information says so, and every sample of a program's start, which is
    /// most of a short-lived one, would count as cut short.
    fn is_entry(&self, region: &Region, address: u64, exact: bool) -> bool {
        let linked = region.linked(lookup(address, exact));
        let elf = self.modules.get(region.module).elf.as_ref();
        let entry = elf.map(|elf| elf.entry).filter(|&entry| entry != 0);
        entry.is_some_and(|entry| linked.checked_sub(entry).is_some_and(|at| at < ENTRY_BYTES))
    }

    /// One frame up by framehop. `Ok(None)`: this was the outermost.
    fn step(
        &mut self,
        region: &Region,
        address: u64,
        exact: bool,
        registers: &mut UnwindRegsX86_64,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Result<Option<u64>, ()> {
        let linked = region.linked(address);
        let known = self.modules.unwinding(region.module);
        let covers = known.map(|known| known.covers(region.linked(lookup(address, exact))));
        if covers != Some(true) {
            let by_code = self.step_by_code(region, address, registers, read);
            // A file without any such information may have frame pointers.
            if by_code.is_ok() || covers == Some(false) {
                return by_code;
            }
        }
        let frame = if exact {
            FrameAddress::from_instruction_pointer(linked)
        } else {
            FrameAddress::from_return_address(linked).ok_or(())?
        };
        let cache = &mut self.caches.by_module[region.module % CACHES];
        let unwinder = match self.modules.unwinding(region.module) {
            Some(unwinding) => &unwinding.unwinder,
            None => &self.caches.fallback,
        };
        unwinder.unwind_frame(frame, registers, cache, read).map_err(|_| ())
    }

    /// One frame up from code that has no call frame information, as musl's: by what it will do
    /// until it returns. What different ways say must be one answer.
    fn step_by_code(
        &mut self,
        region: &Region,
        address: u64,
        registers: &mut UnwindRegsX86_64,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Result<Option<u64>, ()> {
        let key = (region.module, region.linked(address));
        if !self.caches.ways.contains_key(&key) {
            let source = self.modules.get(region.module).source.as_ref().ok_or(())?;
            let (ways, _) = ways(address, &|at, size| source.at(region.offset_of(at), size));
            if self.caches.ways.len() >= MAX_WAYS {
                self.caches.ways.clear();
            }
            self.caches.ways.insert(key, ways);
        }
        let sp = registers.sp();
        let mut found = None;
        for way in &self.caches.ways[&key] {
            let at = sp.checked_add(way.back).ok_or(())?;
            let back = read(at)?;
            let Some(to) = self.space.find(back.wrapping_sub(1)) else { continue };
            if !is_call_before(self.modules, to, back) {
                continue;
            }
            let fp = way.frame_pointer.and_then(|distance| sp.checked_add(distance));
            let next = (back, at + 8, fp.map_or(Ok(registers.bp()), &mut *read)?);
            if found.replace(next).is_some_and(|other| other != next) {
                return Err(());
            }
        }
        let Some((ip, sp, fp)) = found else {
            return if self.is_outmost_by_code(sp, read) { Ok(None) } else { Err(()) };
        };
        registers.set_ip(ip);
        registers.set_sp(sp);
        registers.set_bp(fp);
        Ok(Some(ip))
    }

    /// Whether what the kernel or `clone` starts is what called the function that has the stack pointer
    /// here: such a function ends the thread and never returns, so its own code does not tell.
    fn is_outmost_by_code(&self, sp: u64, read: &mut impl FnMut(u64) -> Result<u64, ()>) -> bool {
        (0..MAX_LAST_WORDS).any(|word| {
            let Ok(back) = read(sp.wrapping_add(8 * word)) else { return false };
            let Some(region) = self.space.find(back.wrapping_sub(1)) else { return false };
            let Some(source) = self.modules.get(region.module).source.as_ref() else {
                return false;
            };
            let code = |at, size| source.at(region.offset_of(at), size);
            is_call_before(self.modules, region, back)
                && (self.is_entry(region, back, false) || ways(back, &code) == (Vec::new(), true))
        })
    }

    /// If this is a signal trampoline: goes on in the code that the signal interrupted.
    fn interrupted(
        &mut self,
        region: &Region,
        address: u64,
        exact: bool,
        registers: &mut UnwindRegsX86_64,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Option<u64> {
        let unwinding = self.modules.unwinding(region.module)?;
        let linked = region.linked(lookup(address, exact));
        unwinding.trampolines.contains(linked).then_some(())?;
        let saved = |offset| registers.sp().checked_add(offset).ok_or(());
        let fp = read(saved(signal::SAVED_FP).ok()?).ok()?;
        let sp = read(saved(signal::SAVED_SP).ok()?).ok()?;
        let ip = read(saved(signal::SAVED_IP).ok()?).ok()?;
        registers.set_bp(fp);
        registers.set_sp(sp);
        registers.set_ip(ip);
        Some(ip)
    }

    /// The stack as the kernel walked it by frame pointers, innermost first.
    fn by_chain(&mut self, chain: &[u64]) -> Walk {
        let mut addresses = Addresses::default();
        let mut end = End::Lost;
        for (index, &address) in chain.iter().enumerate() {
            let exact = index == 0;
            if self.space.find(lookup(address, exact)).is_none() {
                if exact {
                    addresses.push(address, true);
                }
                // What follows frame pointers into code without them ends in garbage.
                let plausible = address < USER_END && address > 0xffff;
                end = if plausible { End::Missing(lookup(address, exact)) } else { End::Lost };
                break;
            }
            if !addresses.push(address, exact) {
                break;
            }
        }
        if addresses.0.last().is_some_and(|&(address, exact)| self.is_outermost(address, exact)) {
            end = End::Outermost;
        }
        self.finish(&addresses, end)
    }

    /// Appends the part of the kernel's chain that lies beyond the bytes, where the two meet.
    fn continue_by_chain(&mut self, unwound: &Addresses, chain: &[u64], walk: &mut Walk) {
        let Some(at) = join(&unwound.0, chain) else { return };
        let rest = &chain[at + 1..];
        if rest.is_empty() {
            return;
        }
        // The joint itself is first in this walk; it stands in the other one already.
        let mut beyond = self.by_chain(&chain[at..]);
        let room = MAX_FRAMES.saturating_sub(walk.places.len());
        walk.complete = beyond.complete && beyond.places.len() <= room + 1;
        walk.missing = beyond.missing.or(walk.missing);
        walk.places.extend(beyond.places.drain(..).skip(1).take(room));
    }

    /// Whether call frame information says that nothing called this function.
    fn is_outermost(&mut self, address: u64, exact: bool) -> bool {
        let Some(region) = self.space.find(lookup(address, exact)).cloned() else { return false };
        // Poisoned registers and no memory: only an undefined return address ends well.
        let mut registers = UnwindRegsX86_64::new(address, POISON, POISON);
        self.step(&region, address, exact, &mut registers, &mut |_| Err(())) == Ok(None)
    }
}

/// Where in `chain` the outermost common frame stands. In a recursion the same return address
/// comes often: its first occurrence there is matched with its first one here, and so on.
fn join(unwound: &[(u64, bool)], chain: &[u64]) -> Option<usize> {
    (0..unwound.len()).rev().find_map(|last| {
        let address = unwound[last].0;
        let before = unwound[..last].iter().filter(|u| u.0 == address).count();
        let mut same = chain.iter().enumerate().filter(|&(_, &c)| c == address).map(|(i, _)| i);
        let first = same.next()?;
        // The chain skips frames without a frame pointer, so it may have fewer of them.
        Some(same.take(before).last().unwrap_or(first))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(raw: &RawStack, space: &Space) -> Walk {
        let mut modules = Modules::default();
        modules.add("[anon]", super::super::module::Kind::Kernel);
        let mut caches = Caches::default();
        Walker { space, modules: &mut modules, caches: &mut caches }.walk(raw)
    }

    fn code() -> Space {
        let mut space = Space::default();
        space.map(Region { start: 0x10_0000, end: 0x20_0000, offset: 0, module: 0, bias: 0 });
        space
    }

    fn offsets(walk: &Walk) -> Vec<u64> {
        walk.places.iter().map(|p| p.offset).collect()
    }

    #[test]
    fn frame_pointers_are_followed_and_the_chain_takes_over_at_the_end_of_the_bytes() {
        // sp = 0x1000: [saved fp, return address] pairs, the second beyond the bytes.
        let bytes: Vec<u8> =
            [0x9000u64, 0x10_0200].iter().flat_map(|word| word.to_le_bytes()).collect();
        let registers = Some(Registers { ip: 0x10_0100, sp: 0x1000, fp: Some(0x1000) });
        let chain = vec![0x10_0100, 0x10_0200, 0x10_0300, 0x10_0400];
        let mut raw = RawStack { registers, bytes, chain, ..RawStack::default() };
        let walked = walk(&raw, &code());
        assert_eq!(offsets(&walked), [0x100, 0x1ff, 0x2ff, 0x3ff]);
        assert!(!walked.complete);
        raw.chain.clear();
        assert_eq!(offsets(&walk(&raw, &code())), [0x100, 0x1ff]);
        raw.registers = Some(Registers { fp: None, ..raw.registers.expect("set above") });
        let poisoned = walk(&raw, &code());
        assert_eq!((offsets(&poisoned), poisoned.complete), (vec![0x100], false));
    }

    #[test]
    fn a_frame_pointer_of_zero_ends_a_stack() {
        let registers = Some(Registers { ip: 0x10_0100, sp: 0x1000, fp: Some(0) });
        let raw = RawStack { registers, bytes: vec![0; 8], ..RawStack::default() };
        assert!(walk(&raw, &code()).complete);
    }

    #[test]
    fn recursion_joins_at_the_same_depth() {
        let unwound = [(1, true), (7, false), (7, false), (9, false)];
        // 9 has no frame pointer: the outermost common one is the second 7.
        assert_eq!(join(&unwound, &[1, 7, 7, 7, 20]), Some(2));
        assert_eq!(join(&unwound, &[1, 7, 20]), Some(1));
        assert_eq!(join(&unwound, &[30]), None);
    }

    proptest::proptest! {
        #[test]
        fn any_stack_ends(
            words in proptest::collection::vec(
                proptest::prop_oneof![proptest::num::u64::ANY, 0x1000u64..0x1400, 0x10_0000u64..0x20_0000],
                0..128),
            sp in proptest::prop_oneof![proptest::num::u64::ANY, proptest::strategy::Just(0x1000)],
            fp in proptest::option::of(proptest::prop_oneof![proptest::num::u64::ANY, 0x1000u64..0x1400]),
            chain in proptest::collection::vec(0x10_0000u64..0x20_0000, 0..700),
        ) {
            let registers = Some(Registers { ip: 0x10_0100, sp, fp });
            let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let raw = RawStack { registers, bytes, chain, ..RawStack::default() };
            assert!(walk(&raw, &code()).places.len() <= MAX_FRAMES);
        }
    }
}
