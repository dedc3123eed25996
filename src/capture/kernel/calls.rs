//! Which system calls name what they wait for in their first argument (`x86_64` numbers).

use timesink_bpf::layout::CALL_ADDRESS;
use timesink_bpf::layout::CALL_FD;

/// Calls whose first argument is the descriptor they wait on.
const ON_DESCRIPTOR: &[u16] = &[
    0, 1, 17, 18, 19, 20, 295, 296, 327, 328, // read and write, their p-, v- and pv- forms
    16,  // ioctl
    40, 275, 276, 278, // sendfile (out), splice, tee, vmsplice
    42, 43, 288, // connect, accept, accept4
    44, 45, 46, 47, 299, 307, // send*, recv*
    72, 73, // fcntl (locks), flock
    74, 75, 277, 306, // fsync, fdatasync, sync_file_range, syncfs
    76, 77, 285, 187, 221, // ftruncate family, fallocate, readahead, fadvise
    78, 217, // getdents
    3, 5, 48, // close, fstat, shutdown
    232, 281, 441, // epoll_wait, epoll_pwait, epoll_pwait2
    426, // io_uring_enter
    243, // mq_timedreceive
];

/// Calls whose first argument names the object otherwise: futex word, process id, lock.
const ON_ADDRESS: &[u16] = &[
    202, 449, 454, 455, // futex, futex_waitv, futex_wake, futex_wait
    61, 247, // wait4, waitid
    65, 220, 230, // semop, semtimedop; clock_nanosleep: the clock
];

/// The table that the programs look calls up in.
pub fn classes() -> [u8; 512] {
    let mut classes = [0; 512];
    for &call in ON_DESCRIPTOR {
        classes[usize::from(call)] |= CALL_FD;
    }
    for &call in ON_ADDRESS {
        classes[usize::from(call)] |= CALL_ADDRESS;
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_in_one_list_only() {
        let classes = classes();
        assert!(classes.iter().all(|&class| class != CALL_FD | CALL_ADDRESS));
        assert_eq!(classes[0], CALL_FD, "read");
        assert_eq!(classes[202], CALL_ADDRESS, "futex");
        assert_eq!(classes[7], 0, "poll has a pointer there");
    }
}
