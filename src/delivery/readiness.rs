//! The descriptor an event loop waits on: one end of a socket pair, readable while a byte lies in
//! it.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// Readable or not; changed under the queue's lock only.
#[derive(Debug)]
pub struct Readiness {
    reader: UnixStream,
    writer: UnixStream,
    readable: bool,
}

impl Readiness {
    /// A descriptor that is not readable.
    pub fn new() -> std::io::Result<Readiness> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Readiness { reader, writer, readable: false })
    }

    /// The descriptor to wait on.
    pub fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Makes it readable, or not. One byte at most is ever in the pair, so neither call can fail
    /// for lack of room.
    pub fn set(&mut self, readable: bool) {
        if readable == self.readable {
            return;
        }
        let done = if readable {
            self.writer.write(&[1]).is_ok_and(|n| n == 1)
        } else {
            self.reader.read(&mut [0]).is_ok_and(|n| n == 1)
        };
        if done {
            self.readable = readable;
        }
    }

    /// Whether who waits on it would be told.
    #[cfg(test)]
    pub fn is_readable(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        socket2::SockRef::from(&self.reader).peek(&mut byte).is_ok_and(|n| n == 1)
    }
}
