//! The socket shell of the mock cluster: a listener per broker on 127.0.0.1 and one thread for all
//! of them.
//!
//! The thread owns sockets and connections; the cluster is behind a mutex that it takes per
//! request. Nothing blocks it but its poll. Answers that may not be sent yet wait in their
//! connection, whose deadline is in a heap.
//!
//! A broker's port stays its own while the broker is down: a second socket is bound to it for as
//! long as the cluster lives and never listens, so that connecting is refused and nobody else gets
//! the port.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Socket, Type};

use super::Shared;
use super::cluster::{Behaviour, Cluster, Now};
use super::connection::{Connection, Received, Written};
use crate::clock::{Clock, Instant};
use crate::error::{Error, Result, status};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// The most connections; more are closed at once.
const MAX_CONNECTIONS: usize = 10_000;
/// How much one read takes from a connection beyond the frame it is in.
const READ_BUFFER: usize = 64 << 10;
/// How often one connection reads before others have their turn.
const READS_PER_TURN: usize = 16;
/// Events per poll.
const EVENTS: usize = 1024;
/// How long after a failed accept (no descriptors left) it is tried again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const WAKER: Token = Token(0);

/// How the handle reaches the server's thread.
pub struct Control {
    waker: Waker,
    stop: AtomicBool,
    settling: Mutex<Vec<mpsc::Sender<io::Result<()>>>>,
}

impl Control {
    /// Makes the server look at the cluster.
    pub fn wake(&self) {
        // It fails only where the descriptor is gone, and then there is nobody to wake.
        let _ = self.waker.wake();
    }

    /// Ends the server.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn settling(&self) -> MutexGuard<'_, Vec<mpsc::Sender<io::Result<()>>>> {
        self.settling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until listeners and connections are as the cluster says.
    pub fn settle(&self) -> Result<()> {
        let (done, settled) = mpsc::channel();
        self.settling().push(done);
        self.wake();
        let gone = || Error::new(status::INVALID_STATE, "the mock cluster's thread has ended");
        settled.recv().map_err(|_| gone())?.map_err(|error| {
            Error::new(status::INVALID_STATE, format!("the broker cannot listen again: {error}"))
        })
    }
}

struct Listener {
    node: i32,
    address: SocketAddr,
    /// Keeps the port.
    _reservation: Socket,
    socket: Option<TcpListener>,
    /// There may be somebody to accept.
    pending: bool,
    behaviour: Behaviour,
    disconnects: u64,
    hastened: u64,
}

/// The server; its thread runs [`Server::run`].
pub struct Server {
    shared: Arc<Shared>,
    clock: Clock,
    poll: Poll,
    listeners: Vec<Listener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    ready: VecDeque<usize>,
    /// Where a request waits for records (and maybe no longer does).
    waiting: BTreeSet<usize>,
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    accept_again: Option<Instant>,
    buffer: Vec<u8>,
}

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Over,
    More,
    Close,
}

impl Server {
    /// Listens for every broker of a cluster, and writes the ports into it.
    pub fn new(mut cluster: Cluster, clock: Clock) -> io::Result<(Server, Arc<Shared>)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut listeners = Vec::new();
        let nodes: Vec<i32> = cluster.brokers().iter().map(|broker| broker.id).collect();
        for node in nodes {
            let listener = Listener::new(node)?;
            if let Ok(broker) = cluster.broker_mut(node) {
                broker.port = listener.address.port();
            }
            listeners.push(listener);
        }
        let settling = Mutex::new(Vec::new());
        let control = Control { waker, stop: AtomicBool::new(false), settling };
        let shared = Arc::new(Shared { cluster: Mutex::new(cluster), control });
        let mut server = Server {
            shared: shared.clone(),
            clock,
            poll,
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            deadlines: BinaryHeap::new(),
            accept_again: None,
            buffer: vec![0; READ_BUFFER],
        };
        server.settle()?;
        Ok((server, shared))
    }

    /// Serves until the handle is dropped.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut version = 0;
        while !self.shared.control.stop.load(Ordering::SeqCst) {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return,
                Err(_) => continue,
                Ok(()) => {}
            }
            for event in &events {
                self.on_event(event);
            }
            self.on_deadlines();
            for _ in 0..self.ready.len() {
                let Some(slot) = self.ready.pop_front() else { break };
                self.turn(slot);
            }
            self.wake_waiting(&mut version);
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.deadlines.peek().map(|Reverse((at, _))| *at);
        let next = [deadline, self.accept_again].into_iter().flatten().min()?;
        Some(next.since(self.clock.now()))
    }

    fn on_event(&mut self, event: &Event) {
        if event.token() == WAKER {
            let settling = std::mem::take(&mut *self.shared.control.settling());
            let outcome = self.settle();
            for done in settling {
                let copy = outcome.as_ref().copied().map_err(|e| io::Error::from(e.kind()));
                // Who asked may be gone.
                let _ = done.send(copy);
            }
            return;
        }
        let index = event.token().0 - 1;
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.pending = true;
            return self.accept(index);
        }
        let slot = index - self.listeners.len();
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        connection.readable |= event.is_readable();
        connection.writable |= event.is_writable();
        connection.peer_done |= event.is_read_closed() || event.is_error();
        self.queue(slot);
    }

    /// Gives a connection a turn.
    fn queue(&mut self, slot: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(slot)
            && !std::mem::replace(&mut connection.queued, true)
        {
            self.ready.push_back(slot);
        }
    }

    fn on_deadlines(&mut self) {
        let now = self.clock.now();
        while let Some(Reverse((at, slot))) = self.deadlines.peek().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop();
            if let Some(Some(connection)) = self.connections.get_mut(slot) {
                connection.alarm = None;
            }
            self.queue(slot);
        }
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
            (0..self.listeners.len()).for_each(|index| self.accept(index));
        }
    }

    /// Lets requests that wait look again if something has changed.
    fn wake_waiting(&mut self, seen: &mut u64) {
        if self.waiting.is_empty() {
            return;
        }
        let version = self.shared.cluster().version();
        if std::mem::replace(seen, version) == version {
            return;
        }
        for slot in std::mem::take(&mut self.waiting) {
            if let Some(Some(Connection { waiting: Some(_), .. })) = self.connections.get(slot) {
                self.waiting.insert(slot);
                self.queue(slot);
            }
        }
    }

    /// Makes listeners and connections what the cluster says of its brokers.
    fn settle(&mut self) -> io::Result<()> {
        let wanted: Vec<(Behaviour, u64, u64)> = {
            let cluster = self.shared.cluster();
            cluster.brokers().iter().map(|b| (b.behaviour, b.disconnects, b.hastened)).collect()
        };
        let mut outcome = Ok(());
        for (index, (behaviour, disconnects, hastened)) in wanted.into_iter().enumerate() {
            let Some(listener) = self.listeners.get_mut(index) else { continue };
            let thawed = listener.behaviour.frozen && !behaviour.frozen;
            let cut = !behaviour.up || listener.disconnects != disconnects;
            let hasten = listener.hastened != hastened;
            listener.behaviour = behaviour;
            listener.disconnects = disconnects;
            listener.hastened = hastened;
            let node = listener.node;
            if let Err(error) = listener.settle(&self.poll, Token(index + 1)) {
                outcome = Err(error);
            }
            if cut {
                self.close_all(node);
            }
            if hasten {
                self.hasten_all(node);
            }
            if thawed || hasten {
                self.queue_all(node);
            }
            self.accept(index);
        }
        outcome
    }

    fn slots_of(&self, node: i32) -> Vec<usize> {
        let of_node = |c: &Option<Connection>| c.as_ref().is_some_and(|c| c.node == node);
        let slots = self.connections.iter().enumerate().filter(|(_, c)| of_node(c));
        slots.map(|(slot, _)| slot).collect()
    }

    fn close_all(&mut self, node: i32) {
        self.slots_of(node).into_iter().for_each(|slot| self.close(slot));
    }

    fn hasten_all(&mut self, node: i32) {
        let now = self.clock.now();
        for slot in self.slots_of(node) {
            if let Some(Some(connection)) = self.connections.get_mut(slot) {
                connection.hasten(now);
            }
        }
    }

    fn queue_all(&mut self, node: i32) {
        self.slots_of(node).into_iter().for_each(|slot| self.queue(slot));
    }

    fn accept(&mut self, index: usize) {
        loop {
            let Some(listener) = self.listeners.get_mut(index) else { return };
            let Some(socket) = &listener.socket else { return };
            if !listener.pending || listener.behaviour.frozen {
                return;
            }
            match socket.accept() {
                Ok((stream, _)) => {
                    let node = listener.node;
                    self.open(Connection::new(stream, node));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => listener.pending = false,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                Err(_) => {
                    self.accept_again = Some(self.clock.now().after(ACCEPT_AGAIN));
                    return;
                }
            }
        }
    }

    fn open(&mut self, mut connection: Connection) {
        let slot = self.free.last().copied().unwrap_or(self.connections.len());
        let token = Token(1 + self.listeners.len() + slot);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        if slot >= MAX_CONNECTIONS
            || connection.stream.set_nodelay(true).is_err()
            || registry.register(&mut connection.stream, token, interest).is_err()
        {
            return;
        }
        if let Ok(broker) = self.shared.cluster().broker_mut(connection.node) {
            broker.accepted += 1;
            broker.connections += 1;
        }
        match self.connections.get_mut(slot) {
            Some(place) => *place = Some(connection),
            None => self.connections.push(Some(connection)),
        }
        self.free.pop();
        self.queue(slot);
    }

    fn close(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::take) else {
            return;
        };
        if let Ok(broker) = self.shared.cluster().broker_mut(connection.node) {
            broker.connections -= 1;
        }
        self.free.push(slot);
    }

    /// One connection's turn: carries out requests, writes, reads.
    fn turn(&mut self, slot: usize) {
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        connection.queued = false;
        let frozen = self
            .listeners
            .iter()
            .any(|listener| listener.node == connection.node && listener.behaviour.frozen);
        if frozen {
            return;
        }
        let outcome = drive(connection, &self.shared, &self.clock, &mut self.buffer);
        if connection.waiting.is_some() {
            self.waiting.insert(slot);
        }
        if let Some(deadline) = connection.deadline()
            && connection.alarm.is_none_or(|alarm| deadline < alarm)
        {
            connection.alarm = Some(deadline);
            self.deadlines.push(Reverse((deadline, slot)));
        }
        match outcome {
            Turn::Over => {}
            Turn::More => self.queue(slot),
            Turn::Close => self.close(slot),
        }
    }
}

/// Carries out requests, writes and reads, until there is nothing more to do or others should have
/// their turn.
fn drive(connection: &mut Connection, shared: &Shared, clock: &Clock, buffer: &mut [u8]) -> Turn {
    for _ in 0..READS_PER_TURN {
        let now = Now { at: clock.now(), wall_ms: clock.wall_ms() };
        resume(connection, shared, now);
        while let Some(frame) = connection.next_frame() {
            let mut cluster = shared.cluster();
            let reply = cluster.handle(connection.node, &frame, now);
            connection.push(reply, cluster.version());
        }
        match connection.write(now.at) {
            Ok(Written::All | Written::Some) => {}
            Ok(Written::Cut) | Err(_) => return Turn::Close,
        }
        if connection.waiting.is_some() && connection.peer_done {
            return Turn::Close;
        }
        if connection.has_work() {
            // The write made room for more answers.
            continue;
        }
        if !connection.wants_read() {
            return Turn::Over;
        }
        match connection.read(buffer) {
            Ok(Received::Something) => {}
            Ok(Received::Nothing) => return Turn::Over,
            Ok(Received::End) => return Turn::Close,
            Err(error) => {
                if error.kind() == ErrorKind::InvalidData {
                    let node = connection.node;
                    let complaint = format!("broker {node} closed a connection: {error}");
                    shared.cluster().complain(complaint);
                }
                return Turn::Close;
            }
        }
    }
    Turn::More
}

/// Looks again at a request that waits, if its time has come or the cluster has changed.
fn resume(connection: &mut Connection, shared: &Shared, now: Now) {
    let Some((waiting, seen)) = &mut connection.waiting else { return };
    let mut cluster = shared.cluster();
    let version = cluster.version();
    if now.at < waiting.until && *seen == version {
        return;
    }
    *seen = version;
    if let Some(reply) = cluster.resume(waiting, now) {
        connection.waiting = None;
        connection.push(reply, version);
    }
}

impl Listener {
    /// A broker's address, not listened on yet.
    fn new(node: i32) -> io::Result<Listener> {
        let reservation = bound(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())?;
        let address = reservation.local_addr()?.as_socket().ok_or(ErrorKind::AddrNotAvailable)?;
        Ok(Listener {
            node,
            address,
            _reservation: reservation,
            socket: None,
            pending: false,
            behaviour: Behaviour::default(),
            disconnects: 0,
            hastened: 0,
        })
    }

    /// Listens, or stops to, as the broker's behaviour says.
    fn settle(&mut self, poll: &Poll, token: Token) -> io::Result<()> {
        if !self.behaviour.up {
            self.socket = None;
        } else if self.socket.is_none() {
            let socket = bound(self.address)?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let mut socket = TcpListener::from_std(socket.into());
            poll.registry().register(&mut socket, token, Interest::READABLE)?;
            self.socket = Some(socket);
            self.pending = true;
        }
        Ok(())
    }
}

/// A socket bound to an address that others of ours may be bound to, as long as only one listens.
fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
