//! What a socket is connected to, by its inode, from `/proc/PID/net`.

use crate::capture::procfs;
use crate::capture::sys::perf_event::monotonic;
use crate::model::FastMap;
use crate::model::FdKind;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Text;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

/// The tables are read again for a socket they did not have, but only after so many times what
/// reading them took: with many sockets on the machine they are long.
const REREAD_AFTER: u64 = 20;
/// And not sooner or later than this, ns.
const REREAD_BETWEEN: (u64, u64) = (5_000_000, 200_000_000);

/// A table longer than this is cut there, bytes.
const TABLE_BYTES: usize = 8 << 20;

/// Sockets by inode. Inodes of sockets are unique over all network namespaces.
#[derive(Debug, Default)]
pub struct Sockets {
    known: FastMap<u64, (FdKind, Text)>,
    next_read: Nanos,
}

impl Sockets {
    /// Reads no tables before `time`.
    #[cfg(test)]
    pub fn wait_until(&mut self, time: Nanos) {
        self.next_read = time;
    }

    /// Kind and label of the socket with `inode`, seen from the network namespace of `pid`.
    pub fn find(&mut self, pid: Pid, inode: u64) -> Option<(FdKind, Text)> {
        if let Some(found) = self.known.get(&inode) {
            return Some(found.clone());
        }
        let now = monotonic();
        if now < self.next_read {
            return None;
        }
        // What was there before may have been closed and its inode used again.
        self.known.clear();
        for protocol in ["tcp", "tcp6", "udp", "udp6"] {
            let table = procfs::read_process(pid, &format!("net/{protocol}")).unwrap_or_default();
            for line in lines(&table) {
                if let Some((inode, label)) = inet(protocol, line) {
                    self.known.insert(inode, (FdKind::SocketInet, label));
                }
            }
        }
        let table = procfs::read_process(pid, "net/unix").unwrap_or_default();
        for line in lines(&table) {
            if let Some((inode, label)) = unix(line) {
                self.known.insert(inode, (FdKind::SocketUnix, label));
            }
        }
        let (after, (least, most)) = (monotonic(), REREAD_BETWEEN);
        let pause = ((after - now).0 * REREAD_AFTER).clamp(least, most);
        self.next_read = after + Nanos(pause);
        self.known.get(&inode).cloned()
    }
}

fn lines(table: &[u8]) -> impl Iterator<Item = &[u8]> {
    table[..table.len().min(TABLE_BYTES)].split(|&b| b == b'\n').skip(1)
}

/// A line of `net/tcp` and its kin: number, local, remote, state, ..., inode as tenth field.
fn inet(protocol: &str, line: &[u8]) -> Option<(u64, Text)> {
    let text = std::str::from_utf8(line).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let (local, remote) = (address(fields.get(1)?)?, address(fields.get(2)?)?);
    let inode = fields.get(9)?.parse().ok().filter(|&inode| inode != 0)?;
    // State 0A: TCP_LISTEN.
    let label = if fields.get(3) == Some(&"0A") {
        format!("{protocol} {local} listening")
    } else if remote.port() == 0 {
        format!("{protocol} {local}")
    } else {
        format!("{protocol} {local} -> {remote}")
    };
    Some((inode, Text::from(label.as_str())))
}

/// `0100007F:1F90`: the address as native 32-bit words, the port as a number, both in hex.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at..at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (i, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(i * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// A line of `net/unix`: six fields, the inode, and a path where it has one.
fn unix(line: &[u8]) -> Option<(u64, Text)> {
    let mut rest = line;
    let mut inode = None;
    for _ in 0..7 {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let (field, tail) = rest.split_at(end);
        inode = std::str::from_utf8(field).ok().and_then(|f| f.parse::<u64>().ok());
        rest = tail;
    }
    let inode = inode?;
    let path = rest.strip_prefix(b" ").unwrap_or_default();
    let label = if path.is_empty() {
        Text::from(format!("unix socket:[{inode}]").as_str())
    } else {
        Text::new([b"unix ", path].concat())
    };
    Some((inode, label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_both_families() {
        let line = b"   0: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000  0 0 4711 1";
        let (inode, label) = inet("tcp", line).expect("a line");
        assert_eq!(
            (inode, label.to_string().as_str()),
            (4711, "tcp 127.0.0.1:8080 -> 127.0.0.2:50000")
        );
        let line = b" 1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 12 1";
        assert_eq!(inet("tcp6", line).expect("a line").1.to_string(), "tcp6 [::1]:80 listening");
    }

    #[test]
    fn unix_paths_may_hold_anything() {
        let head = "0000000000000000: 00000002 00000000 00010000 0001 01 ";
        let found =
            |tail: &str| unix(format!("{head}{tail}").as_bytes()).map(|(i, l)| (i, l.to_string()));
        assert_eq!(found("  77 /tmp/a b"), Some((77, "unix /tmp/a b".to_owned())));
        assert_eq!(found("77"), Some((77, "unix socket:[77]".to_owned())));
        assert_eq!(found("x"), None);
        assert_eq!(unix(b""), None);
    }

    #[test]
    fn nonsense_is_skipped() {
        for bad in
            ["", "a b c", "0: zz:1 0:0 01", "0: 0100007F:1F90", "0: \u{20ac}:1 1:1 1 1 1 1 1 1 1"]
        {
            assert_eq!(inet("tcp", bad.as_bytes()), None, "{bad}");
        }
    }
}
