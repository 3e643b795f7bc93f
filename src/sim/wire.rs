//! One connection: two pipes of bytes that take their time, and may be cut at any byte, stall, or
//! lose what is in them.

use super::plan::Ghost;
use crate::clock::Instant;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connect {
    /// It stands from then on.
    At(Instant),
    /// It is refused then.
    RefusedAt(Instant),
    /// Nobody answers.
    Never,
}

/// How a connection ends, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// What arrived can be read, then the stream ends.
    Close,
    /// What was not read is gone.
    Reset,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    pub(super) arrived: Vec<u8>,
    last: Instant,
    /// Nothing moves any more.
    pub(super) stalled: bool,
    /// The wire is cut when so many bytes more have passed.
    pub(super) cut_after: Option<usize>,
}

impl Pipe {
    /// Puts bytes in; when they arrive.
    pub(super) fn send(&mut self, at: Instant, bytes: Vec<u8>) -> Instant {
        self.last = self.last.max(at);
        self.chunks.push_back((self.last, bytes));
        self.last
    }

    /// Moves what has had its time; true if the place of the cut was reached.
    fn carry(&mut self, now: Instant) -> bool {
        while !self.stalled
            && let Some((at, _)) = self.chunks.front()
            && *at <= now
            && let Some((_, mut bytes)) = self.chunks.pop_front()
        {
            if let Some(left) = &mut self.cut_after {
                if bytes.len() >= *left {
                    bytes.truncate(*left);
                    self.arrived.extend(bytes);
                    self.chunks.clear();
                    return true;
                }
                *left -= bytes.len();
            }
            self.arrived.extend(bytes);
        }
        false
    }

    fn next(&self) -> Instant {
        match self.chunks.front() {
            Some((at, _)) if !self.stalled => *at,
            Some(_) | None => Instant::NEVER,
        }
    }

    /// Nothing is left to arrive. A stalled pipe is as good as empty.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() || self.stalled
    }

    /// What is in no hand.
    fn len(&self) -> usize {
        self.chunks.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Wire {
    /// The broker at the other end.
    pub(super) node: i32,
    /// What is there instead, where the broker has moved.
    pub(super) ghost: Option<Ghost>,
    pub(super) connect: Connect,
    connected: bool,
    /// From the client to the broker.
    pub(super) up: Pipe,
    /// From the broker to the client.
    pub(super) down: Pipe,
    /// How long a byte takes.
    pub(super) latency: Duration,
    /// How much the client's socket holds.
    room: usize,
    full: bool,
    reads: bool,
    /// Since when the broker is gone, when the client notices, and how.
    end: Option<(Instant, Cut)>,
    end_told: bool,
    /// The partitions of each Produce request that came, and when the client has the answer.
    pub(super) answers: Vec<(Instant, Vec<(String, i32)>)>,
    /// The client has closed its side; what it wrote may still arrive.
    pub(super) left: bool,
    /// There is something to report to the client.
    news: bool,
}

impl Wire {
    pub(super) fn new(node: i32, connect: Connect, latency: Duration, room: usize) -> Wire {
        Wire {
            node,
            ghost: None,
            connect,
            connected: false,
            up: Pipe::default(),
            down: Pipe::default(),
            latency,
            room,
            full: false,
            reads: true,
            end: None,
            end_told: false,
            answers: Vec::new(),
            left: false,
            news: false,
        }
    }

    /// Whether the broker still has its end.
    pub(super) fn is_whole(&self) -> bool {
        self.end.is_none()
    }

    /// The broker's end is gone; the client learns of it a latency later. `lost`: with what the
    /// broker did not read yet.
    pub(super) fn cut(&mut self, now: Instant, how: Cut, lost: bool) {
        if self.end.is_some() {
            return;
        }
        let behind = self.down.chunks.back().map_or(now, |(at, _)| *at);
        self.end = Some((now.after(self.latency).max(behind), how));
        if lost {
            self.up.chunks.clear();
            self.up.arrived.clear();
        }
        if how == Cut::Reset {
            self.down.chunks.clear();
        }
    }

    /// Moves bytes, and says what there is to say. `reads`: the broker does.
    pub(super) fn step(&mut self, now: Instant, reads: bool) {
        self.reads = reads;
        if !self.connected {
            match self.connect {
                Connect::At(at) | Connect::RefusedAt(at) if at <= now => {
                    self.connected = true;
                    self.news = true;
                }
                Connect::At(_) | Connect::RefusedAt(_) | Connect::Never => return,
            }
        }
        if reads && self.up.carry(now) {
            self.cut(now, Cut::Reset, false);
        }
        let before = self.down.arrived.len();
        if self.down.carry(now) {
            self.cut(now, Cut::Close, false);
        }
        self.news |= self.down.arrived.len() > before;
        if self.full && self.room_left() > 0 {
            self.full = false;
            self.news = true;
        }
        if self.ended(now).is_some() && !self.end_told {
            self.end_told = true;
            self.news = true;
        }
    }

    fn ended(&self, now: Instant) -> Option<Cut> {
        self.end.filter(|(at, _)| *at <= now).map(|(_, how)| how)
    }

    /// When there is something to do again.
    pub(super) fn next(&self) -> Instant {
        if !self.connected {
            return match self.connect {
                Connect::At(at) | Connect::RefusedAt(at) => at,
                Connect::Never => Instant::NEVER,
            };
        }
        let end = match self.end {
            Some((at, _)) if !self.end_told => at,
            Some(_) | None => Instant::NEVER,
        };
        let up = if self.reads { self.up.next() } else { Instant::NEVER };
        up.min(self.down.next()).min(end)
    }

    /// Whether the client is to look; once.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.ended(now).is_some()
    }

    pub(super) fn finish_connect(&self) -> io::Result<bool> {
        match self.connect {
            _ if !self.connected => Ok(false),
            Connect::At(_) => Ok(true),
            Connect::RefusedAt(_) | Connect::Never => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    fn room_left(&self) -> usize {
        self.room.saturating_sub(self.up.len())
    }

    /// The client writes; what it wrote after the broker had gone goes nowhere.
    pub(super) fn write(&mut self, bytes: &[u8], now: Instant) -> io::Result<usize> {
        if self.ended(now).is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.room_left());
        if count < bytes.len() {
            self.full = true;
        }
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.end.is_none() {
            self.up.send(now.after(self.latency), bytes[..count].to_vec());
        }
        Ok(count)
    }

    /// The client reads.
    pub(super) fn read(&mut self, buffer: &mut [u8], now: Instant) -> io::Result<usize> {
        let end = self.ended(now);
        if end == Some(Cut::Reset) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.down.arrived.is_empty() {
            return if end.is_some() { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = buffer.len().min(self.down.arrived.len());
        buffer[..count].copy_from_slice(&self.down.arrived[..count]);
        self.down.arrived.drain(..count);
        Ok(count)
    }
}
