//! The descriptor an event loop waits on: one end of a socket pair, readable while a byte lies in
//! it.

use super::lock;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

/// What there is for whoever polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// Deliveries, the end, or a call worth trying again.
    Deliveries = 1,
    /// Log lines.
    Logs = 2,
}

#[derive(Debug, Default)]
struct State {
    /// A bit for each cause there is.
    causes: u8,
    /// A byte lies in the pair.
    readable: bool,
}

/// Readable while there is a cause. Each cause is changed under the lock of the queue it speaks of,
/// so that it never contradicts that.
#[derive(Debug)]
pub struct Readiness {
    reader: UnixStream,
    writer: UnixStream,
    state: Mutex<State>,
}

impl Readiness {
    /// A descriptor that is not readable.
    pub fn new() -> std::io::Result<Readiness> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Readiness { reader, writer, state: Mutex::default() })
    }

    /// The descriptor to wait on.
    pub fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// There is this cause, or no longer. One byte at most is ever in the pair, so neither call can
    /// fail for lack of room.
    pub fn set(&self, cause: Cause, there: bool) {
        let mut state = lock(&self.state);
        if there {
            state.causes |= cause as u8;
        } else {
            state.causes &= !(cause as u8);
        }
        let readable = state.causes != 0;
        if readable == state.readable {
            return;
        }
        let done = if readable {
            (&self.writer).write(&[1]).is_ok_and(|n| n == 1)
        } else {
            (&self.reader).read(&mut [0]).is_ok_and(|n| n == 1)
        };
        if done {
            state.readable = readable;
        }
    }

    /// Whether who waits on it would be told.
    #[cfg(test)]
    pub fn is_readable(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        socket2::SockRef::from(&self.reader).peek(&mut byte).is_ok_and(|n| n == 1)
    }
}
