//! The compiled BPF object and the layout of what it hands over. What each program does and
//! how to rebuild the object stands in this crate's `README.md`.

pub mod layout;

/// The compiled CO-RE object, aligned as ELF readers need it.
pub static OBJECT: &[u8] = &ALIGNED.1;

#[repr(C)]
struct Aligned<T: ?Sized>([u64; 0], T);

static ALIGNED: &Aligned<[u8]> = &Aligned([], *include_bytes!("../timesink.bpf.o"));

#[cfg(test)]
mod tests {
    use super::OBJECT;

    #[test]
    fn the_object_is_an_aligned_elf_file() {
        assert!(OBJECT.starts_with(b"\x7fELF"));
        assert_eq!(OBJECT.as_ptr().align_offset(8), 0);
    }
}
