//! Starts, execs, renames, exits, objects, losses, and what probes said.

use super::super::bytes::Malformed;
#[allow(clippy::wildcard_imports)] // the constants of one format, which only codecs see
use super::super::flags::*;
use super::Events;
use super::text;
use super::texts;
use crate::model::Backing;
use crate::model::Books;
use crate::model::Event;
use crate::model::Exec;
use crate::model::Exit;
use crate::model::ExitKind;
use crate::model::FdKind;
use crate::model::Lost;
use crate::model::LostKind;
use crate::model::Moved;
use crate::model::NameInfo;
use crate::model::Nanos;
use crate::model::ObjectInfo;
use crate::model::Pid;
use crate::model::Piped;
use crate::model::ProbeEvent;
use crate::model::ProbeKind;
use crate::model::Rename;
use crate::model::RuntimeInfo;
use crate::model::Start;
use crate::model::StartKind;
use crate::model::Tid;
use crate::model::WordInfo;

impl Events {
    pub(super) fn lifecycle(&mut self) -> Result<Event, Malformed> {
        self.input.begin_record();
        let tag = self.input.byte()?;
        let (tag, detail) = (tag & 15, tag >> DETAIL_SHIFT);
        let time = self.time()?;
        Ok(match tag {
            START => Event::Start(Start {
                time,
                tid: Tid(self.tid()?),
                pid: Pid(self.tid()?),
                parent_tid: Tid(self.tid()?),
                parent_pid: Pid(self.tid()?),
                how: start_kind(detail)?,
            }),
            EXEC => Event::Exec(Exec {
                time,
                pid: Pid(self.tid()?),
                old_tid: Tid(self.tid()?),
                path: text(&mut self.input)?,
                argv: texts(&mut self.input)?,
            }),
            RENAME => {
                Event::Rename(Rename { time, tid: Tid(self.tid()?), name: text(&mut self.input)? })
            }
            EXIT => self.exit(time, detail)?,
            OBJECT => Event::Object(ObjectInfo {
                time,
                pid: Pid(self.tid()?),
                descriptor: self.input.varint_u32()?,
                kind: FdKind::from_code(self.input.byte()?),
                inode: self.input.varint()?,
                device: self.input.varint_u32()?,
                label: text(&mut self.input)?,
            }),
            LOST => Event::Lost(Lost {
                from: Nanos(time.0.wrapping_sub(self.input.delta(0)?)),
                to: time,
                what: lost_kind(self.input.byte()?)?,
                count: self.input.varint()?,
                cpu: if detail & 1 == 0 { None } else { Some(self.input.varint_u16()?) },
            }),
            WORD => Event::Word(self.word(time, detail)?),
            NAMED => Event::Named(self.named(time)?),
            MOVED => Event::Moved(Moved {
                time,
                tid: Tid(self.tid()?),
                read_bytes: self.input.varint()?,
                written_bytes: self.input.varint()?,
            }),
            PIPED => Event::Piped(Piped {
                time,
                inode: self.input.varint()?,
                device: self.input.varint_u32()?,
                buffers: self.input.varint()?,
            }),
            RUNTIME => Event::Runtime(RuntimeInfo {
                time,
                pid: Pid(self.tid()?),
                name: text(&mut self.input)?,
                free_threaded: detail & 1 != 0,
            }),
            _ => return Err(Malformed("a start or exit of an unknown kind")),
        })
    }

    fn word(&mut self, time: Nanos, detail: u8) -> Result<WordInfo, Malformed> {
        let pid = Pid(self.tid()?);
        let input = &mut self.input;
        let (address, symbol) = (input.varint()?, text(input)?);
        let backing = if detail & 1 == 0 {
            None
        } else {
            Some(Backing {
                inode: input.varint()?,
                device: input.varint_u32()?,
                offset: input.varint()?,
                path: text(input)?,
            })
        };
        let gil = if detail & 2 == 0 { None } else { Some(input.varint()?) };
        Ok(WordInfo { time, pid, address, symbol, backing, gil })
    }

    fn named(&mut self, time: Nanos) -> Result<NameInfo, Malformed> {
        let pid = Pid(self.tid()?);
        let input = &mut self.input;
        let (id, start, length) = (input.varint()?, input.varint()?, input.varint()?);
        Ok(NameInfo { time, pid, id, start, length, name: text(input)? })
    }

    fn exit(&mut self, time: Nanos, detail: u8) -> Result<Event, Malformed> {
        let (tid, pid) = (Tid(self.tid()?), Pid(self.tid()?));
        let how = match detail {
            EXIT_THREAD => ExitKind::Thread,
            EXIT_PROCESS => {
                let status = self.input.varint()?.checked_sub(1);
                ExitKind::Process { status: status.and_then(|s| u32::try_from(s).ok()) }
            }
            EXIT_ALIVE => ExitKind::Alive,
            _ => return Err(Malformed("an exit of an unknown kind")),
        };
        let mask = self.input.byte()?;
        let mut field = |bit: u8| (mask & 1 << bit != 0).then(|| self.input.varint()).transpose();
        let books = Books {
            voluntary: field(0)?,
            involuntary: field(1)?,
            runs: field(2)?,
            runs_seen: field(3)?,
            cpu: field(4)?.map(Nanos),
            queued: field(5)?.map(Nanos),
        };
        Ok(Event::Exit(Exit { time, tid, pid, how, books }))
    }

    pub(super) fn probe(&mut self) -> Result<Event, Malformed> {
        self.input.begin_record();
        let tag = self.input.byte()?;
        let time = self.time()?;
        let tid = Tid(self.tid()?);
        if matches!(tag, ENTER | LEAVE) {
            self.span = self.input.delta(self.span)?;
        }
        let (span, input) = (self.span, &mut self.input);
        let what = match tag {
            ENTER => {
                let (name, target, fields) = (text(input)?, text(input)?, text(input)?);
                ProbeKind::Enter { span, name, target, fields }
            }
            LEAVE => ProbeKind::Leave { span },
            INSTANT => {
                let (name, target, fields) = (text(input)?, text(input)?, text(input)?);
                ProbeKind::Instant { name, target, fields }
            }
            _ => return Err(Malformed("a probe event of an unknown kind")),
        };
        Ok(Event::Probe(ProbeEvent { time, tid, what }))
    }
}

fn start_kind(code: u8) -> Result<StartKind, Malformed> {
    Ok(match code {
        0 => StartKind::Root,
        1 => StartKind::Process,
        2 => StartKind::Thread,
        3 => StartKind::Found,
        _ => return Err(Malformed("a start of an unknown kind")),
    })
}

fn lost_kind(code: u8) -> Result<LostKind, Malformed> {
    Ok(match code {
        0 => LostKind::Intervals,
        1 => LostKind::Lifecycle,
        2 => LostKind::Samples,
        3 => LostKind::WaitStacks,
        4 => LostKind::Probe,
        5 => LostKind::File,
        _ => return Err(Malformed("a loss of an unknown kind")),
    })
}
