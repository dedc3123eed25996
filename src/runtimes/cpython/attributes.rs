//! Attributes of objects whose class is written in Python, 3.8 to 3.13: by name, from the dictionary
//! of the object or the values that stand for it.
//!
//! ```text
//!  3.8-3.10   object + tp_dictoffset -> dictionary
//!  3.11       object - 32 -> values, or object - 24 -> dictionary
//!  3.12       object - 24 -> values (odd: one byte before them) or dictionary
//!  3.13       values at object + tp_basicsize, or object - 24 (free-threaded: - 8) -> dictionary
//! ```
//!
//! Values have their names in the keys that all objects of a class share (`ht_cached_keys`), and so have
//! those of a dictionary that was made from them. From `Objects/dictobject.c`, `pycore_dict.h` and
//! `pycore_object.h` of these versions; later ones are not read, as nothing there needs it.

use super::super::memory::MemoryExt;
use super::super::memory::u32_in;
use super::super::memory::u64_in;
use super::Layout;
use super::Memory;
use super::dict::Table;
use super::frames::plausible;
use super::strings;

/// Attributes looked through.
const MOST: u64 = 64;

/// `tp_basicsize`, `tp_flags` and `tp_dictoffset`, from the end of the header of an object that has a
/// size (24 bytes without free threading).
const BASIC_SIZE: u64 = 8;
const FLAGS: u64 = 144;
const DICT_OFFSET: u64 = 264;
/// `Py_TPFLAGS_INLINE_VALUES` and `Py_TPFLAGS_MANAGED_DICT`.
const INLINE_VALUES: u64 = 1 << 2;
const MANAGED_DICT: u64 = 1 << 4;

/// Where the names are, and where the values.
#[derive(Clone, Copy)]
enum Home {
    /// A dictionary object.
    Dictionary(u64),
    /// The values of an object, named by its class.
    Values(u64),
}

/// The values of attributes of the object at `object`: addresses of objects, in the order of the names.
pub(super) fn attributes<const N: usize>(
    memory: &dyn Memory,
    layout: &Layout,
    object: u64,
    names: [&str; N],
) -> Option<[u64; N]> {
    (8..=13).contains(&layout.minor).then_some(())?;
    let header = header(layout);
    let class = memory.u64(object.checked_add(layout.object_type.into())?)?;
    plausible(class).then_some(())?;
    let (keys, values) = match home(memory, layout, object, class)? {
        Home::Dictionary(dictionary) => {
            plausible(dictionary).then_some(())?;
            let keys = memory.u64(dictionary + header + 16)?;
            let values = memory.u64(dictionary + header + 24)?;
            (keys, (values != 0).then_some(values))
        }
        Home::Values(values) => {
            // Behind the tables of slots: `am_send` came with 3.10, two more fields of types in 3.12.
            let cached = header + if layout.minor >= 12 { 864 } else { 856 };
            (memory.u64(class + cached)?, Some(values))
        }
    };
    let entries = Table::read(memory, layout, keys, MOST)?;
    let mut found = [0; N];
    for index in 0..entries.count {
        let (key, value) = entries.get(index)?;
        let Some(name) = strings::string(memory, layout, key) else { continue };
        let wanted = names.iter().position(|wanted| name.as_bytes() == wanted.as_bytes());
        if let Some(wanted) = wanted {
            let first = if layout.minor >= 13 { 8 } else { 0 };
            found[wanted] = match values {
                Some(values) => memory.u64(values.checked_add(first + 8 * index)?)?,
                None => value,
            };
        }
    }
    found.iter().all(|&value| plausible(value)).then_some(found)
}

/// Bytes of the header that every object has.
fn header(layout: &Layout) -> u64 {
    u64::from(layout.object_type) + 8
}

fn home(memory: &dyn Memory, layout: &Layout, object: u64, class: u64) -> Option<Home> {
    let fields = class + header(layout) + 8;
    if layout.minor <= 10 {
        let offset = memory.u64(fields + DICT_OFFSET)?;
        (8..1 << 16).contains(&offset).then_some(())?;
        return Some(Home::Dictionary(memory.u64(object + offset)?));
    }
    let flags = memory.u64(fields + FLAGS)?;
    (flags & MANAGED_DICT != 0).then_some(())?;
    let before = object - if layout.free_threaded == 1 { 8 } else { 24 };
    let word = memory.u64(before)?;
    match layout.minor {
        11 => {
            let values = memory.u64(object - 32)?;
            Some(if values == 0 { Home::Dictionary(word) } else { Home::Values(values) })
        }
        12 if word & 1 == 1 => Some(Home::Values(word.checked_add(1)?)),
        12 => Some(Home::Dictionary(word)),
        _ => {
            if word != 0 || flags & INLINE_VALUES == 0 {
                return Some(Home::Dictionary(word));
            }
            Some(Home::Values(object.checked_add(memory.u64(fields + BASIC_SIZE)?)?))
        }
    }
}

/// The value of a positive `int` below 2^30.
pub(super) fn small_int(memory: &dyn Memory, layout: &Layout, address: u64) -> Option<u32> {
    let bytes = memory.bytes(address.checked_add(header(layout))?, 12)?;
    let digits = match u64_in(&bytes, 0)? {
        // The two lowest bits are the sign: 0 for what is above zero.
        tag if layout.minor >= 12 => tag.is_multiple_of(4).then_some(tag >> 3)?,
        size => size,
    };
    (digits == 1).then(|| u32_in(&bytes, 8))?
}
