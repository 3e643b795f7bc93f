//! KafkaChannel: one connection to one broker. It owns the transport, and so the descriptor, the
//! requests to be written and the bytes of responses. Network thread only.

use crate::network::receive::{Left, ReceiveBuffer, ReceiveError};
use crate::network::selector::ConnectionId;
use crate::network::send::{NetworkSend, SendQueue};
use crate::network::transport::Transport;
use bytes::Bytes;
use std::io;
use std::net::SocketAddr;

/// What one connection may read before the others get their turn.
const READ_BUDGET: usize = 1 << 20;

/// One connection to one broker.
#[derive(Debug)]
pub(super) struct KafkaChannel<T> {
    pub(super) id: ConnectionId,
    pub(super) remote: SocketAddr,
    transport: T,
    sends: SendQueue,
    receive: ReceiveBuffer,
    /// The transport took less than it was offered: it is not asked again before the selector
    /// reports it.
    blocked: bool,
    /// The peer has said that it sends no more.
    closed: bool,
}

impl<T: Transport> KafkaChannel<T> {
    /// A channel that is connecting to `remote` and refuses frames of more than `frame_max` bytes.
    pub(super) fn new(
        id: ConnectionId,
        remote: SocketAddr,
        transport: T,
        frame_max: usize,
    ) -> KafkaChannel<T> {
        let receive = ReceiveBuffer::new(frame_max);
        let sends = SendQueue::default();
        KafkaChannel { id, remote, transport, sends, receive, blocked: false, closed: false }
    }

    /// Whether the connection stands; an error if it never will.
    pub(super) fn finish_connect(&mut self) -> io::Result<bool> {
        self.transport.finish_connect()
    }

    /// Puts a request behind those that are to be written.
    pub(super) fn send(&mut self, send: NetworkSend) {
        self.sends.push(send);
    }

    /// Writes what the transport takes. Adds to `completed` the requests that are written, also
    /// before an error.
    pub(super) fn write(&mut self, completed: &mut usize) -> io::Result<()> {
        if !self.blocked {
            self.sends.write_to(&mut self.transport, completed)?;
            self.blocked = !self.sends.is_empty();
        }
        Ok(())
    }

    /// The selector saw room for more.
    pub(super) fn set_writable(&mut self) {
        self.blocked = false;
    }

    /// Whether any byte of the first request that is not written to the end is written.
    pub(super) fn begun(&self) -> bool {
        self.sends.begun()
    }

    /// The selector saw the peer close.
    pub(super) fn set_closed(&mut self) {
        self.closed = true;
    }

    /// From the next frame on.
    pub(super) fn set_frame_max(&mut self, frame_max: usize) {
        self.receive.set_frame_max(frame_max);
    }

    /// Appends the frames that arrived, also those before an error.
    pub(super) fn read(&mut self, frames: &mut Vec<Bytes>) -> Result<Left, ReceiveError> {
        self.receive.read_from(&mut self.transport, frames, READ_BUDGET, self.closed)
    }

    /// Lets go of everything but the transport.
    pub(super) fn into_transport(self) -> T {
        self.transport
    }
}
