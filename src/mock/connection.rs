//! One connection of the mock cluster: bytes in, frames; frames, bytes out. The server's thread
//! owns it.
//!
//! A frame that fits into what one read gave is copied out of the server's read buffer; a longer
//! one gets memory of exactly its size, and the rest of it is read straight into that. So logs,
//! which keep the frames' bytes, waste none.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read};

use bytes::{Buf, Bytes};
use mio::net::TcpStream;
use socket2::SockRef;

use super::cluster::{Reply, Waiting};
use crate::clock::Instant;
use crate::protocol::api::{LENGTH_BYTES, frame_len};

/// The longest request: Kafka's `socket.request.max.bytes`.
const MAX_FRAME: usize = 100 << 20;
/// How many answers may wait before no more requests are carried out.
const MAX_QUEUED_ANSWERS: usize = 1000;
/// How many bytes of answers may wait before no more requests are carried out.
const MAX_QUEUED_BYTES: usize = 16 << 20;
/// How many answers one write takes.
const MAX_SLICES: usize = 64;

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Some bytes.
    Something,
    /// Nothing yet.
    Nothing,
    /// The other side is done.
    End,
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Everything that may go.
    All,
    /// As much as the socket takes.
    Some,
    /// Everything before the point where the connection is to be cut.
    Cut,
}

/// An answer on its way, or the end of the connection.
#[derive(Debug)]
enum Outgoing {
    Frame(Bytes, Instant),
    Cut(Instant),
}

impl Outgoing {
    fn not_before(&self) -> Instant {
        match self {
            Outgoing::Frame(_, at) | Outgoing::Cut(at) => *at,
        }
    }
}

/// The frame that is being received.
#[derive(Debug)]
enum Partial {
    Length { bytes: [u8; LENGTH_BYTES], filled: usize },
    Frame { bytes: Vec<u8>, filled: usize },
}

const BETWEEN_FRAMES: Partial = Partial::Length { bytes: [0; LENGTH_BYTES], filled: 0 };

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: TcpStream,
    /// The broker it was made to.
    pub node: i32,
    /// There may be something to read.
    pub readable: bool,
    /// The socket may take more.
    pub writable: bool,
    /// The other side will send no more.
    pub peer_done: bool,
    /// It is in the server's list of those that have something to do.
    pub queued: bool,
    /// A request that waits for records, and the cluster's version that it was last held against.
    pub waiting: Option<(Box<Waiting>, u64)>,
    /// The earliest of its deadlines that the server knows.
    pub alarm: Option<Instant>,
    partial: Partial,
    inbox: VecDeque<Bytes>,
    outbox: VecDeque<Outgoing>,
    queued_bytes: usize,
    cut: bool,
}

impl Connection {
    /// A connection to `node` that was just accepted.
    pub fn new(stream: TcpStream, node: i32) -> Connection {
        Connection {
            stream,
            node,
            readable: true,
            writable: true,
            peer_done: false,
            queued: false,
            waiting: None,
            alarm: None,
            partial: BETWEEN_FRAMES,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            queued_bytes: 0,
            cut: false,
        }
    }

    /// Whether requests may be carried out: as on a real broker no faster than their answers leave,
    /// and none beside one that waits.
    fn is_open(&self) -> bool {
        !self.cut
            && self.waiting.is_none()
            && self.outbox.len() < MAX_QUEUED_ANSWERS
            && self.queued_bytes < MAX_QUEUED_BYTES
    }

    /// The next request to carry out.
    pub fn next_frame(&mut self) -> Option<Bytes> {
        if self.is_open() { self.inbox.pop_front() } else { None }
    }

    /// Whether there are requests that may be carried out.
    pub fn has_work(&self) -> bool {
        !self.inbox.is_empty() && self.is_open()
    }

    /// Whether it is time to read.
    pub fn wants_read(&self) -> bool {
        self.readable && self.inbox.is_empty() && self.is_open()
    }

    /// Takes what came of a request.
    pub fn push(&mut self, reply: Reply, version: u64) {
        match reply {
            Reply::Answer(frame, not_before) => {
                self.queued_bytes += frame.len();
                self.outbox.push_back(Outgoing::Frame(frame, not_before));
            }
            Reply::Silence => {}
            Reply::Disconnect(not_before) => {
                self.cut = true;
                self.outbox.push_back(Outgoing::Cut(not_before));
            }
            Reply::Wait(waiting) => self.waiting = Some((waiting, version)),
        }
    }

    /// Answers that wait for their time wait no longer.
    pub fn hasten(&mut self, now: Instant) {
        for out in &mut self.outbox {
            let (Outgoing::Frame(_, not_before) | Outgoing::Cut(not_before)) = out;
            *not_before = now.min(*not_before);
        }
    }

    /// When there will be something to do without anybody doing anything.
    pub fn deadline(&self) -> Option<Instant> {
        let answer = self.outbox.front().map(Outgoing::not_before).filter(|_| self.writable);
        let waiting = self.waiting.as_ref().map(|(waiting, _)| waiting.until);
        [answer, waiting].into_iter().flatten().min()
    }

    /// Reads once. A length that no request has is an error.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let (stream, direct) = match &mut self.partial {
            Partial::Length { .. } => (&mut self.stream, &mut [][..]),
            Partial::Frame { bytes, filled } => {
                (&mut self.stream, bytes.get_mut(*filled..).unwrap_or_default())
            }
        };
        let room = direct.len();
        let slices = &mut [IoSliceMut::new(direct), IoSliceMut::new(buffer)];
        let count = match stream.read_vectored(slices) {
            Ok(0) => return Ok(Received::End),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                return Ok(Received::Nothing);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Received::Something),
            Err(error) => return Err(error),
        };
        if let Partial::Frame { filled, .. } = &mut self.partial {
            *filled += count.min(room);
        }
        self.finish_frame();
        self.split(buffer.get(..count.saturating_sub(room)).unwrap_or_default())?;
        Ok(Received::Something)
    }

    /// Moves a frame that is complete to the inbox.
    fn finish_frame(&mut self) {
        if let Partial::Frame { bytes, filled } = &mut self.partial
            && *filled == bytes.len()
        {
            self.inbox.push_back(std::mem::take(bytes).into());
            self.partial = BETWEEN_FRAMES;
        }
    }

    /// Cuts frames out of bytes that follow what was received before.
    fn split(&mut self, mut received: &[u8]) -> io::Result<()> {
        while !received.is_empty() {
            let (bytes, filled) = match &mut self.partial {
                Partial::Length { bytes, filled } => (bytes.as_mut_slice(), filled),
                Partial::Frame { bytes, filled } => (bytes.as_mut_slice(), filled),
            };
            let room = bytes.get_mut(*filled..).unwrap_or_default();
            let (head, rest) = received.split_at(room.len().min(received.len()));
            if let Some(room) = room.get_mut(..head.len()) {
                room.copy_from_slice(head);
            }
            *filled += head.len();
            received = rest;
            self.finish_frame();
            received = self.finish_length(received)?;
        }
        Ok(())
    }

    /// Once a length is complete: takes the frame if it is there as a whole, else gets memory for
    /// it.
    fn finish_length<'a>(&mut self, received: &'a [u8]) -> io::Result<&'a [u8]> {
        let Partial::Length { bytes, filled } = &self.partial else { return Ok(received) };
        if *filled < LENGTH_BYTES {
            return Ok(received);
        }
        let invalid = |error: crate::error::Error| io::Error::new(ErrorKind::InvalidData, error);
        let length = frame_len(bytes, MAX_FRAME).map_err(invalid)?.unwrap_or_default();
        if let Some((frame, rest)) = received.split_at_checked(length) {
            self.inbox.push_back(Bytes::copy_from_slice(frame));
            self.partial = BETWEEN_FRAMES;
            return Ok(rest);
        }
        self.partial = Partial::Frame { bytes: vec![0; length], filled: 0 };
        Ok(received)
    }

    /// Writes the answers whose time has come.
    pub fn write(&mut self, now: Instant) -> io::Result<Written> {
        loop {
            let due = self.outbox.iter().take_while(|out| out.not_before() <= now);
            let mut slices = Vec::new();
            let mut cut = false;
            for out in due.take(MAX_SLICES) {
                match out {
                    Outgoing::Frame(bytes, _) => slices.push(IoSlice::new(bytes)),
                    Outgoing::Cut(_) => cut = true,
                }
            }
            if slices.is_empty() {
                return Ok(if cut { Written::Cut } else { Written::All });
            }
            if !self.writable {
                return Ok(Written::Some);
            }
            // Not `write_vectored`: that is writev(2), which raises SIGPIPE where the client is
            // gone, and the process is not ours to kill.
            let written = self.stream.try_io(|| {
                SockRef::from(&self.stream).send_vectored_with_flags(&slices, libc::MSG_NOSIGNAL)
            });
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.wrote(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn wrote(&mut self, mut count: usize) {
        self.queued_bytes -= count;
        while let Some(Outgoing::Frame(bytes, _)) = self.outbox.front_mut() {
            if bytes.len() > count {
                bytes.advance(count);
                return;
            }
            count -= bytes.len();
            self.outbox.pop_front();
        }
    }
}
