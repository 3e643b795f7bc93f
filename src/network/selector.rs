//! Which connections can be read or written: a trait, so that the simulator can stand in, and mio's
//! epoll behind it.
//!
//! Network thread only, but for the waker. Its poll is the only place where that thread waits.

use crate::network::transport::{PlaintextTransport, SocketOptions, Transport};
use crate::sync::Wake;
use mio::{Events, Interest, Poll, Token, Waker};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How many connections one poll can report; the others are reported by the next.
const EVENTS_PER_POLL: usize = 1024;
const WAKER: Token = Token(usize::MAX);

/// A connection's name towards the selector; never used twice by one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub usize);

/// What can be done with a connection since it was last reported (edges, not levels).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Which connection.
    pub connection: ConnectionId,
    /// Bytes, the end of the stream or an error can be read.
    pub readable: bool,
    /// Bytes can be written, or connecting is decided.
    pub writable: bool,
    /// The peer sends no more: reads must go on until they give 0 or an error.
    pub closed: bool,
}

/// Opens connections and waits for them.
pub trait Selectable {
    /// The bytes of a connection.
    type Transport: Transport;

    /// Starts connecting to `address`; a connection that is made, or fails, is reported as
    /// writable.
    fn open(
        &mut self,
        connection: ConnectionId,
        address: SocketAddr,
        options: &SocketOptions,
    ) -> io::Result<Self::Transport>;

    /// Ends a connection: it is not reported again.
    fn close(&mut self, connection: ConnectionId, transport: Self::Transport);

    /// Waits until a connection is ready, the waker is used or the time is over (`None`: never),
    /// and appends to `ready`.
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()>;

    /// Ends the current or the next poll early, from any thread.
    fn waker(&self) -> Arc<dyn Wake>;
}

/// The operating system's sockets, by mio.
#[derive(Debug)]
pub struct Selector {
    poll: Poll,
    events: Events,
    waker: Arc<PollWaker>,
}

#[derive(Debug)]
struct PollWaker(Waker);

impl Wake for PollWaker {
    fn wake(&self) {
        // Its eventfd lives as long as the waker, and a full counter means that the poll is woken
        // already.
        let _ = self.0.wake();
    }
}

impl Selector {
    /// Takes two descriptors: fails if there are none left.
    pub fn new() -> io::Result<Selector> {
        let poll = Poll::new()?;
        let waker = Arc::new(PollWaker(Waker::new(poll.registry(), WAKER)?));
        Ok(Selector { poll, events: Events::with_capacity(EVENTS_PER_POLL), waker })
    }
}

impl Selectable for Selector {
    type Transport = PlaintextTransport;

    fn open(
        &mut self,
        connection: ConnectionId,
        address: SocketAddr,
        options: &SocketOptions,
    ) -> io::Result<PlaintextTransport> {
        let mut transport = PlaintextTransport::connect(address, options)?;
        // Once, for both: with edges a writable socket costs nothing while there is nothing to
        // write.
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(transport.stream(), Token(connection.0), interest)?;
        Ok(transport)
    }

    fn close(&mut self, _connection: ConnectionId, mut transport: PlaintextTransport) {
        // Closing the descriptor would do; an error here has no consequence.
        let _ = self.poll.registry().deregister(transport.stream());
    }

    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            // A signal: like a wake-up for nothing.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(e) => return Err(e),
        }
        ready.extend(self.events.iter().filter(|e| e.token() != WAKER).map(|event| Readiness {
            connection: ConnectionId(event.token().0),
            readable: event.is_readable() || event.is_error(),
            writable: event.is_writable() || event.is_error() || event.is_write_closed(),
            closed: event.is_read_closed() || event.is_error(),
        }));
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.waker) as Arc<dyn Wake>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_thread_wakes_the_poll() {
        let mut selector = Selector::new().unwrap();
        let waker = selector.waker();
        let thread = std::thread::Builder::new().spawn(move || waker.wake()).unwrap();
        let mut ready = Vec::new();
        // Never woken, this test hangs; a wake before the poll counts too.
        selector.poll(None, &mut ready).unwrap();
        thread.join().unwrap();
        assert!(ready.is_empty());
        // One wake, one return.
        selector.poll(Some(Duration::ZERO), &mut ready).unwrap();
    }
}
