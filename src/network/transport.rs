//! The bytes of one connection: a trait, so that TLS and a simulator can stand in, and TCP without
//! TLS.
//!
//! Network thread only. Nothing here blocks: a socket that has nothing to give or takes nothing
//! says `WouldBlock`.

use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io::{self, IoSlice, Read};
use std::net::SocketAddr;
use std::time::Duration;

/// A silent connection is probed after this long ...
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
/// ... and this often from then on, until the user timeout gives it up.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// What a connection's socket is set to. `TCP_NODELAY` and keepalive are always on.
#[derive(Debug, Clone, Default)]
pub struct SocketOptions {
    /// `SO_SNDBUF`; the system's choice if none.
    pub send_buffer: Option<usize>,
    /// `SO_RCVBUF`; the system's choice if none.
    pub receive_buffer: Option<usize>,
    /// `TCP_USER_TIMEOUT`: how long written bytes may stay unacknowledged by the peer's kernel.
    pub user_timeout: Option<Duration>,
}

/// The bytes of one connection.
///
/// The contract is that of an edge-triggered socket: `read` and `write` that did less than asked
/// for are not called again before the selector reports the connection, except that a `read` after
/// the peer closed gives 0.
pub trait Transport: Send {
    /// Whether the connection stands; an error if it never will.
    fn finish_connect(&mut self) -> io::Result<bool>;

    /// Reads what is there, up to the buffer's length; 0 means that the peer closed.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes what fits, from the first piece on.
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// TCP without TLS. Owns the descriptor.
#[derive(Debug)]
pub struct PlaintextTransport {
    stream: TcpStream,
}

impl PlaintextTransport {
    /// Starts connecting.
    pub(super) fn connect(address: SocketAddr, options: &SocketOptions) -> io::Result<Self> {
        // Non-blocking and close-on-exec.
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let keepalive =
            TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
        socket.set_tcp_keepalive(&keepalive)?;
        // Before connecting: the receive buffer bounds the window scale that the handshake
        // announces.
        if let Some(size) = options.send_buffer {
            socket.set_send_buffer_size(size)?;
        }
        if let Some(size) = options.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        if options.user_timeout.is_some() {
            socket.set_tcp_user_timeout(options.user_timeout)?;
        }
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(e) => return Err(e),
        }
        Ok(Self { stream: TcpStream::from_std(socket.into()) })
    }

    /// The socket, for the selector.
    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

impl Transport for PlaintextTransport {
    fn finish_connect(&mut self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            // A port of the ephemeral range without a listener may be given to this very socket:
            // TCP then connects it to itself, and the request would come back as the answer.
            Ok(peer) if self.stream.local_addr()? == peer => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "nobody listens there: the connection met itself",
            )),
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        // Not `write_vectored`: that is writev(2), which raises SIGPIPE where the peer is gone, and
        // the process is not ours to kill.
        self.stream.try_io(|| {
            SockRef::from(&self.stream).send_vectored_with_flags(pieces, libc::MSG_NOSIGNAL)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn socket_options_are_set() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = SocketOptions {
            send_buffer: Some(70_000),
            receive_buffer: Some(50_000),
            user_timeout: Some(Duration::from_secs(61)),
        };
        let mut transport =
            PlaintextTransport::connect(listener.local_addr().unwrap(), &options).unwrap();
        let _peer = listener.accept().unwrap();
        assert!(transport.finish_connect().unwrap());
        let socket = SockRef::from(&*transport.stream());
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert!(socket.nonblocking().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(61)));
        // The kernel doubles what it is asked for.
        assert_eq!(socket.send_buffer_size().unwrap(), 140_000);
        assert_eq!(socket.recv_buffer_size().unwrap(), 100_000);
    }
}
