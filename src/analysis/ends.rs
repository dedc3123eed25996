//! Who is at the ends of pipes and sockets: from who waited to read and who to write, and from
//! who ended such a wait by doing the opposite. Nothing else is taken for an end.

use crate::model::Call;
use crate::model::Context;
use crate::model::FastMap;
use crate::model::FastSet;
use crate::model::FdKind;
use crate::model::Interval;
use crate::model::ObjectInfo;
use crate::model::Pid;
use crate::model::ProcessId;
use crate::model::Timelines;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::hash::Hash;

/// A pipe or socket: its device and inode.
pub type Node = (u32, u64);

/// What someone does with a pipe or socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Role {
    Reads,
    Writes,
}

impl Role {
    /// What a call does with the descriptor in its first argument.
    fn of(call: u16) -> Option<Self> {
        match call {
            READ | READV | RECVFROM | RECVMSG | SPLICE | TEE | RECVMMSG => Some(Self::Reads),
            WRITE | WRITEV | SENDFILE | SENDTO | SENDMSG | SENDMMSG => Some(Self::Writes),
            _ => None,
        }
    }

    /// Whether a call can end a wait in this role: `splice` reads from one descriptor and writes
    /// to another.
    fn is_ended_by(self, call: u16) -> bool {
        Self::of(call).is_some_and(|role| role != self) || (self == Self::Reads && call == SPLICE)
    }
}

/// System calls on `x86_64`. Those with an offset do not work on pipes and sockets.
const READ: u16 = 0;
const WRITE: u16 = 1;
const READV: u16 = 19;
const WRITEV: u16 = 20;
const SENDFILE: u16 = 40;
const SENDTO: u16 = 44;
const RECVFROM: u16 = 45;
const SENDMSG: u16 = 46;
const RECVMSG: u16 = 47;
const SPLICE: u16 = 275;
const TEE: u16 = 276;
const RECVMMSG: u16 = 299;
const SENDMMSG: u16 = 307;

/// Ends, pairs and names beyond this many are not told apart: far more than a report can show.
const MOST: usize = 100_000;

/// What was seen of ends.
#[derive(Default)]
pub struct Ends {
    /// Inode of a pipe or unix socket, who, and what he does there.
    seen: FastSet<(Node, ProcessId, Role)>,
    /// Inode of a unix socket, and who filled or emptied it from the other one.
    others: FastSet<(Node, ProcessId)>,
    /// Inode of a unix socket, and that of the one from which it was filled or emptied.
    peers: FastSet<(Node, Node)>,
}

fn has_ends(call: &Call) -> bool {
    matches!(call.fd, FdKind::Pipe | FdKind::SocketUnix | FdKind::SocketInet) && call.inode != 0
}

fn node(call: &Call) -> Node {
    (call.device, call.inode)
}

impl Ends {
    /// Someone waited in this call.
    pub fn waited(&mut self, process: ProcessId, call: &Call) {
        if has_ends(call)
            && let Some(role) = Role::of(call.number)
        {
            insert(&mut self.seen, (node(call), process, role));
        }
    }

    /// Someone ended a wait. `descriptors` are what they are called so far.
    pub fn woken(
        &mut self,
        timelines: &Timelines,
        interval: &Interval,
        descriptors: &FastMap<(Pid, u32), ObjectInfo>,
    ) {
        let Some(call) = interval.call.filter(has_ends) else { return };
        let by = interval.waker.filter(|waker| waker.in_tree && waker.context == Context::Task);
        let (Some(waker), Some(role)) = (by, Role::of(call.number)) else { return };
        let opposite = if role == Role::Reads { Role::Writes } else { Role::Reads };
        if !waker.call.is_some_and(|call| role.is_ended_by(call)) {
            return;
        }
        let Some(thread) = timelines.last_thread_of(waker.tid) else { return };
        let process = timelines.process_of(thread);
        if call.fd == FdKind::Pipe {
            insert(&mut self.seen, (node(&call), process, opposite));
        } else if call.fd == FdKind::SocketUnix {
            insert(&mut self.others, (node(&call), process));
            let pid = timelines.processes()[process.0 as usize].pid;
            let peer = descriptors.get(&(pid, waker.arg0 as u32));
            if let Some(peer) = peer.filter(|peer| peer.kind == FdKind::SocketUnix) {
                insert(&mut self.peers, (node(&call), (peer.device, peer.inode)));
            }
        }
    }

    /// Brings together what was seen, with what inodes are called.
    pub fn join<'a>(
        self,
        labels: &FastMap<Node, ObjectInfo>,
        timelines: &'a Timelines,
    ) -> Joined<'a> {
        let mut sides: BTreeMap<Node, Sides> = BTreeMap::new();
        for (inode, process, role) in sorted(self.seen) {
            let sides = sides.entry(inode).or_default();
            match role {
                Role::Reads => sides.readers.insert(process),
                Role::Writes => sides.writers.insert(process),
            };
        }
        for (inode, process) in sorted(self.others) {
            sides.entry(inode).or_default().others.insert(process);
        }
        let mut partners = unix_pairs(&sorted(self.peers));
        let (inet, listeners) = inet_pairs(labels);
        partners.extend(inet);
        let mut names: BTreeMap<&[u8], u32> = BTreeMap::new();
        for process in timelines.processes() {
            *names.entry(process.name.as_bytes()).or_default() += 1;
        }
        Joined { sides, partners, listeners, names, timelines }
    }
}

/// Remembers what something is called, unless too much is known already: it goes by its number
/// then. What is known is brought up to date.
pub fn keep<K: Eq + Hash>(known: &mut FastMap<K, ObjectInfo>, key: K, info: &ObjectInfo) {
    if known.len() < MOST || known.contains_key(&key) {
        known.insert(key, info.clone());
    }
}

/// Adds to a set that does not grow past [`MOST`].
fn insert<T: Eq + Hash>(set: &mut FastSet<T>, one: T) {
    if set.len() < MOST {
        set.insert(one);
    }
}

fn sorted<T: Ord>(set: FastSet<T>) -> Vec<T> {
    let mut all: Vec<T> = set.into_iter().collect();
    all.sort_unstable();
    all
}

/// Sockets that were seen to fill each other, and no third; none where a third may be among those
/// that were too many to keep.
fn unix_pairs(peers: &[(Node, Node)]) -> BTreeMap<Node, Node> {
    if peers.len() >= MOST {
        return BTreeMap::new();
    }
    let of = |inode: Node| {
        let mut to = peers.iter().skip(peers.partition_point(|p| p.0 < inode));
        let first = to.next().filter(|p| p.0 == inode)?.1;
        to.next().is_none_or(|p| p.0 != inode).then_some(first)
    };
    let mutual = |&&(a, b): &&(Node, Node)| a != b && of(a) == Some(b) && of(b) == Some(a);
    peers.iter().filter(mutual).copied().collect()
}

/// Addresses of a connected socket: protocol, its own, the other one's.
type Connection = (String, String, String);

/// `tcp 127.0.0.1:80 -> 127.0.0.1:5000`; IPv6 sockets that speak IPv4 are their partners' kin.
fn connection(label: &str) -> Option<Connection> {
    let (protocol, addresses) = label.split_once(' ')?;
    let (local, remote) = addresses.split_once(" -> ")?;
    let protocol = protocol.strip_suffix('6').unwrap_or(protocol);
    Some((protocol.to_owned(), local.to_owned(), remote.to_owned()))
}

/// Connected sockets whose other end has a label too, and the ports of listeners.
fn inet_pairs(labels: &FastMap<Node, ObjectInfo>) -> (BTreeMap<Node, Node>, BTreeSet<String>) {
    let mut ends: BTreeMap<Connection, Vec<Node>> = BTreeMap::new();
    let mut listeners = BTreeSet::new();
    let mut inodes: Vec<Node> = labels.keys().copied().collect();
    inodes.sort_unstable();
    for inode in inodes {
        let Some(info) = labels.get(&inode).filter(|info| info.kind == FdKind::SocketInet) else {
            continue;
        };
        let label = info.label.to_string();
        if let Some(connection) = connection(&label) {
            ends.entry(connection).or_default().push(inode);
        } else if let Some((_, port)) = label.trim_end_matches(" listening").rsplit_once(':') {
            listeners.insert(port.to_owned());
        }
    }
    // The same addresses may have been in use twice, one after the other: then nothing is joined.
    let only = |key: &Connection| ends.get(key).filter(|inodes| inodes.len() == 1).map(|i| i[0]);
    let pairs = ends.keys().filter_map(|key| {
        let (protocol, local, remote) = key.clone();
        // Nor where another use of them may be among those that were too many to keep.
        (labels.len() < MOST).then_some(())?;
        Some((only(key)?, only(&(protocol, remote, local))?))
    });
    (pairs.filter(|(a, b)| a != b).collect(), listeners)
}

/// Processes at an inode.
#[derive(Default)]
struct Sides {
    readers: BTreeSet<ProcessId>,
    writers: BTreeSet<ProcessId>,
    others: BTreeSet<ProcessId>,
}

impl Sides {
    fn all(&self) -> BTreeSet<ProcessId> {
        self.readers.union(&self.writers).copied().collect()
    }
}

/// Who is at which end.
pub struct Joined<'a> {
    sides: BTreeMap<Node, Sides>,
    partners: BTreeMap<Node, Node>,
    /// Ports, as text.
    listeners: BTreeSet<String>,
    /// How many processes are called so.
    names: BTreeMap<&'a [u8], u32>,
    timelines: &'a Timelines,
}

impl Joined<'_> {
    /// The inode that stands for both ends of a connection: the lower one.
    pub fn canonical(&self, inode: Node) -> Node {
        self.partners.get(&inode).map_or(inode, |&partner| partner.min(inode))
    }

    /// An object by its ends, where they were seen; `name` is what it is called otherwise.
    pub fn label(
        &self,
        kind: FdKind,
        inode: Node,
        name: &str,
        labels: &FastMap<Node, ObjectInfo>,
    ) -> Option<String> {
        let none = Sides::default();
        let sides = self.sides.get(&inode).unwrap_or(&none);
        match kind {
            FdKind::Pipe => self.pipe(sides, name),
            FdKind::SocketUnix => {
                let partner = self.partners.get(&inode).and_then(|p| self.sides.get(p));
                let far = partner.map_or_else(|| sides.others.clone(), Sides::all);
                let near = sides.all();
                let head = without_inode(kind, name);
                (!near.is_empty() && !far.is_empty())
                    .then(|| format!("{head}: {} <-> {}", self.who(&near), self.who(&far)))
            }
            FdKind::SocketInet => {
                let partner = *self.partners.get(&inode)?;
                let of = |inode: Node| connection(&labels.get(&inode)?.label.to_string());
                let ((protocol, a, _), (_, b, _)) = (of(inode)?, of(partner)?);
                let mut ends = [(inode, a), (partner, b)].map(|(inode, address)| {
                    let port = address.rsplit_once(':').map_or("", |(_, port)| port).to_owned();
                    let number: u32 = port.parse().unwrap_or(0);
                    // The listener first, else the lower port.
                    let order = (!self.listeners.contains(&port), number);
                    let who = match self.sides.get(&inode).map(Sides::all) {
                        Some(all) if !all.is_empty() => format!(" ({})", self.who(&all)),
                        _ => String::new(),
                    };
                    (order, format!("{address}{who}"))
                });
                ends.sort();
                let [(_, first), (_, second)] = ends;
                Some(format!("{protocol} {first} <-> {second}"))
            }
            _ => None,
        }
    }

    fn pipe(&self, sides: &Sides, name: &str) -> Option<String> {
        let head = without_inode(FdKind::Pipe, name);
        let Sides { readers, writers, .. } = sides;
        match (writers.is_empty(), readers.is_empty()) {
            (true, true) => None,
            (false, true) => Some(format!("{name}, written by {}", self.who(writers))),
            (true, false) => Some(format!("{name}, read by {}", self.who(readers))),
            _ if readers == writers && readers.len() == 1 => {
                Some(format!("{head} within {}", self.who(readers)))
            }
            _ => Some(format!("{head}: {} -> {}", self.who(writers), self.who(readers))),
        }
    }

    /// One process, as [`Joined::who`] has it.
    pub fn who_alone(&self, process: ProcessId) -> String {
        self.who(&BTreeSet::from([process]))
    }

    /// Processes by name; one whose name others bear too comes with its id.
    pub fn who(&self, processes: &BTreeSet<ProcessId>) -> String {
        const MOST_NAMES: usize = 3;
        let mut by_name: BTreeMap<String, Vec<Pid>> = BTreeMap::new();
        let mut shared: BTreeSet<String> = BTreeSet::new();
        for process in processes.iter().filter_map(|p| self.timelines.processes().get(p.0 as usize))
        {
            let name = process.name.to_string();
            if self.names.get(process.name.as_bytes()).is_some_and(|&count| count > 1) {
                shared.insert(name.clone());
            }
            by_name.entry(name).or_default().push(process.pid);
        }
        let more = by_name.len().saturating_sub(MOST_NAMES);
        let mut parts: Vec<String> = by_name
            .into_iter()
            .take(MOST_NAMES)
            .map(|(name, pids)| match pids.as_slice() {
                [pid] if shared.contains(&name) => format!("{name} ({})", pid.0),
                [_] => name,
                several => format!("{name} ({} processes)", several.len()),
            })
            .collect();
        if more > 0 {
            parts.push(format!("{more} more"));
        }
        parts.join(", ")
    }
}

/// The kind, and a path if it has one: ends say more than a number.
fn without_inode(kind: FdKind, name: &str) -> &str {
    let numbered = name.strip_prefix(kind.name()).is_some_and(|rest| rest.starts_with(" inode "));
    if numbered { kind.name() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Nanos;
    use crate::model::Text;

    #[test]
    fn what_is_kept_has_a_bound_and_what_is_beyond_joins_nothing() {
        let mut labels = FastMap::default();
        let mut peers = FastSet::default();
        let info = |inode: u64, label: &str| ObjectInfo {
            time: Nanos::ZERO,
            pid: Pid(1),
            descriptor: 3,
            kind: FdKind::SocketInet,
            device: 0,
            inode,
            label: Text::from(label),
        };
        keep(&mut labels, (0, 1), &info(1, "tcp a:1 -> b:2"));
        keep(&mut labels, (0, 2), &info(2, "tcp b:2 -> a:1"));
        insert(&mut peers, ((0, 1), (0, 2)));
        insert(&mut peers, ((0, 2), (0, 1)));
        assert_eq!(inet_pairs(&labels).0.len(), 2);
        assert_eq!(unix_pairs(&sorted(peers.clone())).len(), 2);
        for inode in 3..MOST as u64 + 10 {
            keep(&mut labels, (0, inode), &info(inode, "tcp"));
            insert(&mut peers, ((1, inode), (2, inode)));
        }
        keep(&mut labels, (0, 2), &info(2, "tcp c:3 -> d:4"));
        assert_eq!((labels.len(), peers.len()), (MOST, MOST));
        assert_eq!(labels[&(0, 2)].label, Text::from("tcp c:3 -> d:4"), "brought up to date");
        assert!(inet_pairs(&labels).0.is_empty() && unix_pairs(&sorted(peers)).is_empty());
    }
}
