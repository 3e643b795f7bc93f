//! A client's connection and the one to the backend, with a pipe each way.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::faults::{Change, Direction, Faults, How};
use crate::pipe::{Pipe, Side, Turn};

/// What the kernel keeps for a receiver that does not read: little, so that a stall is soon felt,
/// but more than two of loopback's segments of 64 KiB. With less, a sender whose window was closed
/// goes on with a piece per 200 ms.
const RECEIVE_BUFFER: usize = 192 << 10;

/// Two sockets and the two pipes between them.
#[derive(Debug)]
pub struct Connection {
    /// Its route's number.
    pub route: usize,
    client: Side,
    client_address: SocketAddr,
    backend: Side,
    connecting: bool,
    up: Pipe,
    down: Pipe,
}

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on, at this time at the latest.
    Wait(Option<Instant>),
    /// It has more to do.
    Again,
    /// It is over: FIN.
    Close,
    /// It is over: RST.
    Reset,
}

fn side(mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Side> {
    stream.set_nodelay(true)?;
    registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(Side { stream, readable: false, writable: false })
}

impl Connection {
    /// Connects a client that was accepted to the backend. The two tokens are the client's and the
    /// backend's.
    pub fn new(
        route: usize,
        client: (TcpStream, SocketAddr),
        backend: SocketAddr,
        faults: &[Faults; 2],
        registry: &Registry,
        tokens: [Token; 2],
    ) -> io::Result<Connection> {
        let (stream, client_address) = client;
        let [client_token, backend_token] = tokens;
        let backend = TcpStream::connect(backend)?;
        for stream in [&stream, &backend] {
            SockRef::from(stream).set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        Ok(Connection {
            route,
            client: side(stream, registry, client_token)?,
            client_address,
            backend: side(backend, registry, backend_token)?,
            connecting: true,
            up: Pipe::new(faults[0]),
            down: Pipe::new(faults[1]),
        })
    }

    /// The socket of one side is ready.
    pub fn ready(&mut self, client: bool, readable: bool, writable: bool) {
        let side = if client { &mut self.client } else { &mut self.backend };
        side.readable |= readable;
        side.writable |= writable;
    }

    fn pipe(&mut self, direction: Direction) -> &mut Pipe {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    /// Changes what is wrong with a direction.
    pub fn apply(&mut self, direction: Direction, change: Change) {
        self.pipe(direction).apply(change);
    }

    /// A cut that was for one connection only has had another one.
    pub fn forget_single_cut(&mut self, direction: Direction) {
        self.pipe(direction).forget_single_cut();
    }

    /// Ends a direction.
    pub fn half_close(&mut self, direction: Direction) {
        match direction {
            Direction::Up => self.up.half_close(&self.backend),
            Direction::Down => self.down.half_close(&self.client),
        }
    }

    /// Moves what can be moved. A direction whose single cut was reached is added to `spent`.
    pub fn turn(&mut self, now: Instant, spent: &mut Vec<Direction>) -> Fate {
        if self.connecting {
            match self.backend.stream.take_error() {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return Fate::Reset,
            }
            if self.backend.stream.peer_addr().is_err() {
                return Fate::Wait(None);
            }
            self.connecting = false;
        }
        let mut fate = Fate::Wait(None);
        for direction in Direction::BOTH {
            let turn = match direction {
                Direction::Up => self.up.turn(&mut self.client, &mut self.backend, now),
                Direction::Down => self.down.turn(&mut self.backend, &mut self.client, now),
            };
            if let Turn::Cut(_, true) = turn {
                spent.push(direction);
            }
            fate = match turn {
                Turn::Broken | Turn::Cut(How::Reset, _) => return Fate::Reset,
                Turn::Cut(How::Close, _) => return Fate::Close,
                Turn::Cut(How::Swallow, _) => {
                    self.pipe(direction).swallow();
                    Fate::Again
                }
                Turn::Again => Fate::Again,
                Turn::Wait(time) => fate.or_wait(time),
            };
        }
        if self.up.ended && self.down.ended { Fate::Close } else { fate }
    }

    /// Makes the sockets send RST when they are closed.
    pub fn reset(&self) {
        for side in [&self.client, &self.backend] {
            // It fails where the connection is gone already.
            let _ = SockRef::from(&side.stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Sends FIN both ways. Bytes that nobody has read would make it an RST.
    pub fn close(&mut self) {
        let mut buffer = [0; 4096];
        for side in [&mut self.client, &mut self.backend] {
            while matches!(side.stream.read(&mut buffer), Ok(1..)) {}
            // It fails where the connection is gone already.
            let _ = side.stream.shutdown(Shutdown::Both);
        }
    }

    /// Its line in the listing, without its number.
    pub fn describe(&self) -> String {
        let pipe = |pipe: &Pipe| format!("{}/{}", pipe.bytes, pipe.writes);
        let (up, down) = (pipe(&self.up), pipe(&self.down));
        format!("{} {} {up} {down}", self.route, self.client_address)
    }
}

impl Fate {
    fn or_wait(self, time: Option<Instant>) -> Fate {
        match self {
            Fate::Wait(other) => Fate::Wait([other, time].into_iter().flatten().min()),
            Fate::Again | Fate::Close | Fate::Reset => self,
        }
    }
}
