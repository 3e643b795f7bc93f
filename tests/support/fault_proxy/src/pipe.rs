//! One direction of a connection: a delay line with a tap. Bytes are read into a queue with the
//! time before which they may not go on, and written from it.
//!
//! A pipe's faults are its own: a copy of its route's, so that a cut counts this pipe's bytes.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::faults::{Change, Faults, How};

/// How much one read takes.
const READ: usize = 16 << 10;
/// The most bytes that are read and not yet passed on, where nothing delays them. Little, so that a
/// receiver that takes nothing is soon felt by the sender.
const QUEUED: usize = 64 << 10;
/// The same under latency, which must not become a limit of the bandwidth.
const QUEUED_DELAYED: usize = 16 << 20;
/// How much time's worth of bytes goes out at once under a limited bandwidth.
const SLICE: Duration = Duration::from_millis(5);

/// A socket, and whether trying makes sense.
#[derive(Debug)]
pub struct Side {
    /// The socket.
    pub stream: TcpStream,
    /// There may be something to read.
    pub readable: bool,
    /// There may be room.
    pub writable: bool,
}

#[derive(Debug)]
enum What {
    Bytes(Vec<u8>),
    End,
}

#[derive(Debug)]
struct Piece {
    due: Instant,
    what: What,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There is nothing to do before this time, or before a socket is ready.
    Wait(Option<Instant>),
    /// There is more to do.
    Again,
    /// A cut was reached.
    Cut(How, bool),
    /// A socket failed.
    Broken,
}

/// A direction.
#[derive(Debug)]
pub struct Pipe {
    faults: Faults,
    queue: VecDeque<Piece>,
    queued: usize,
    written: usize,
    next_write: Option<Instant>,
    swallow: bool,
    read_end: bool,
    /// The receiver was told of the end.
    pub ended: bool,
    /// Bytes that were passed on.
    pub bytes: u64,
    /// Writes that it took.
    pub writes: u64,
}

impl Pipe {
    /// A pipe with these faults.
    pub fn new(faults: Faults) -> Pipe {
        Pipe {
            faults,
            queue: VecDeque::new(),
            queued: 0,
            written: 0,
            next_write: None,
            swallow: false,
            read_end: false,
            ended: false,
            bytes: 0,
            writes: 0,
        }
    }

    /// Changes what is wrong.
    pub fn apply(&mut self, change: Change) {
        if matches!(change, Change::Heal | Change::Cut(None)) && self.swallow && !self.ended {
            self.swallow = false;
            if self.read_end {
                self.queue.push_back(Piece { due: Instant::now(), what: What::End });
            }
        }
        self.faults.apply(change);
    }

    /// Takes back a cut that was for one connection only, and had another one.
    pub fn forget_single_cut(&mut self) {
        self.faults.cut = self.faults.cut.filter(|cut| !cut.once);
    }

    /// Throws away all that comes from here on.
    pub fn swallow(&mut self) {
        self.swallow = true;
        self.queue.clear();
        self.queued = 0;
        self.written = 0;
    }

    /// Tells the receiver that this is the end, whatever the sender says.
    pub fn half_close(&mut self, to: &Side) {
        self.swallow();
        self.end(to);
    }

    fn end(&mut self, to: &Side) {
        // It fails where the receiver is gone, and then it knows.
        let _ = to.stream.shutdown(Shutdown::Write);
        self.ended = true;
    }

    /// Moves what can be moved.
    pub fn turn(&mut self, from: &mut Side, to: &mut Side, now: Instant) -> Turn {
        if self.read(from, now).is_err() {
            return Turn::Broken;
        }
        match self.write(to, now) {
            // Reading ended for want of room, and there is room now: no event will say so.
            Ok(Turn::Wait(_)) if self.may_read(from) => Turn::Again,
            Ok(turn) => turn,
            Err(_) => Turn::Broken,
        }
    }

    fn may_read(&self, from: &Side) -> bool {
        from.readable && !self.faults.stall && !self.read_end && self.has_room()
    }

    fn has_room(&self) -> bool {
        let room = if self.faults.latency.is_zero() { QUEUED } else { QUEUED_DELAYED };
        self.swallow || self.queued < room
    }

    fn read(&mut self, from: &mut Side, now: Instant) -> io::Result<()> {
        let mut buffer = [0; READ];
        while self.may_read(from) {
            let count = match from.stream.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    from.readable = false;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.read_end = count == 0;
            if self.swallow {
                continue;
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            let what = if count == 0 { What::End } else { What::Bytes(bytes.to_vec()) };
            self.queued += count;
            self.queue.push_back(Piece { due: now + self.faults.latency, what });
        }
        Ok(())
    }

    /// How many bytes may go out in one write.
    fn most(&self) -> usize {
        let mut most = if self.faults.split == 0 { usize::MAX } else { self.faults.split };
        if self.faults.bandwidth > 0 {
            let slice = u128::from(self.faults.bandwidth) * SLICE.as_micros() / 1_000_000;
            most = most.min(usize::try_from(slice).unwrap_or(usize::MAX).max(1));
        }
        if let Some(cut) = self.faults.cut {
            most = most.min(usize::try_from(cut.left).unwrap_or(usize::MAX));
        }
        most
    }

    fn write(&mut self, to: &mut Side, now: Instant) -> io::Result<Turn> {
        while let Some(front) = self.queue.front() {
            let time = self.next_write.map_or(front.due, |next| next.max(front.due));
            if time > now {
                return Ok(Turn::Wait(Some(time)));
            }
            let bytes = match &front.what {
                What::Bytes(bytes) => bytes.get(self.written..).unwrap_or_default(),
                What::End => {
                    self.queue.clear();
                    self.end(to);
                    break;
                }
            };
            let most = self.most();
            if most == 0 {
                let how = self.faults.cut.take().map(|cut| (cut.how, cut.once));
                return Ok(how.map_or(Turn::Again, |(how, once)| Turn::Cut(how, once)));
            }
            if !to.writable {
                break;
            }
            let piece = bytes.get(..most).unwrap_or(bytes);
            match to.stream.write(piece) {
                Ok(count) => self.wrote(count, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    to.writable = false;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.faults.split > 0 {
                // Others have their turn, and the receiver the time to read this piece alone.
                return Ok(Turn::Again);
            }
        }
        Ok(Turn::Wait(None))
    }

    fn wrote(&mut self, count: usize, now: Instant) {
        self.writes += 1;
        self.bytes += count as u64;
        self.queued -= count;
        self.written += count;
        if let Some(cut) = &mut self.faults.cut {
            cut.left -= count as u64;
        }
        self.next_write = (self.faults.bandwidth > 0).then(|| {
            let time = count as f64 / self.faults.bandwidth as f64;
            self.next_write.map_or(now, |next| next.max(now - SLICE))
                + Duration::from_secs_f64(time)
        });
        let Some(Piece { what: What::Bytes(bytes), .. }) = self.queue.front() else { return };
        if self.written == bytes.len() {
            self.queue.pop_front();
            self.written = 0;
        }
    }
}
