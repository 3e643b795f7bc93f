//! The proxy: routes, connections, control sessions, and the one loop that serves them all.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use crate::connection::{Connection, Fate};
use crate::control::{Command, Session, Target};
use crate::faults::{Change, Direction, Faults};

/// A backend, and where we listen for it.
struct Route {
    listener: TcpListener,
    backend: SocketAddr,
    /// Of new connections: up, down.
    faults: [Faults; 2],
}

/// Whom a token stands for.
#[derive(Clone, Copy)]
enum Who {
    Control,
    Route(usize),
    Session(usize),
    Client(usize),
    Backend(usize),
}

/// Everything.
pub struct Proxy {
    poll: Poll,
    control: TcpListener,
    routes: Vec<Route>,
    connections: BTreeMap<usize, Connection>,
    sessions: BTreeMap<usize, Session>,
    tokens: BTreeMap<Token, Who>,
    next_token: usize,
    next_connection: usize,
    quit: bool,
}

fn resolve(address: &str) -> io::Result<SocketAddr> {
    let none = || io::Error::new(ErrorKind::InvalidInput, format!("{address} has no address"));
    let named = |error| io::Error::new(ErrorKind::InvalidInput, format!("{address}: {error}"));
    address.to_socket_addrs().map_err(named)?.next().ok_or_else(none)
}

fn index(direction: Direction) -> usize {
    match direction {
        Direction::Up => 0,
        Direction::Down => 1,
    }
}

impl Proxy {
    /// Listens for commands.
    pub fn new() -> io::Result<Proxy> {
        let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let mut proxy = Proxy {
            poll: Poll::new()?,
            control,
            routes: Vec::new(),
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next_token: 0,
            next_connection: 1,
            quit: false,
        };
        let token = proxy.token(Who::Control);
        proxy.poll.registry().register(&mut proxy.control, token, Interest::READABLE)?;
        Ok(proxy)
    }

    /// Where commands are taken.
    pub fn control_address(&self) -> io::Result<SocketAddr> {
        self.control.local_addr()
    }

    fn token(&mut self, who: Who) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.tokens.insert(token, who);
        token
    }

    /// Listens for one more backend: the route's number and address.
    pub fn add_route(&mut self, backend: &str) -> io::Result<(usize, SocketAddr)> {
        let backend = resolve(backend)?;
        let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = listener.local_addr()?;
        let number = self.routes.len() + 1;
        let token = self.token(Who::Route(number));
        self.poll.registry().register(&mut listener, token, Interest::READABLE)?;
        self.routes.push(Route { listener, backend, faults: Default::default() });
        Ok((number, address))
    }

    /// Serves until somebody says `quit`.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut timeout = None;
        while !self.quit {
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            for event in &events {
                self.handle(event);
            }
            timeout = self.turn();
        }
        Ok(())
    }

    fn handle(&mut self, event: &Event) {
        let Some(who) = self.tokens.get(&event.token()).copied() else { return };
        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
        let writable = event.is_writable() || event.is_write_closed();
        match who {
            Who::Control => self.accept_session(),
            Who::Route(number) => self.accept(number),
            Who::Session(id) => self.serve(id),
            Who::Client(id) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.ready(true, readable, writable);
                }
            }
            Who::Backend(id) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.ready(false, readable, writable);
                }
            }
        }
    }

    fn accept_session(&mut self) {
        while let Ok((stream, _)) = self.control.accept() {
            let id = self.next_token;
            let token = self.token(Who::Session(id));
            let mut session = Session::new(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(session.stream(), token, interest).is_ok() {
                self.sessions.insert(id, session);
            }
        }
    }

    fn accept(&mut self, number: usize) {
        loop {
            let Some(route) = self.routes.get(number - 1) else { return };
            let Ok(client) = route.listener.accept() else { return };
            let (backend, faults) = (route.backend, route.faults);
            let id = self.next_connection;
            self.next_connection += 1;
            let tokens = [self.token(Who::Client(id)), self.token(Who::Backend(id))];
            let registry = self.poll.registry();
            // Where it fails (no descriptors left) the client's end is closed.
            if let Ok(connection) =
                Connection::new(number, client, backend, &faults, registry, tokens)
            {
                self.connections.insert(id, connection);
            }
        }
    }

    /// Everybody's turn; gives how long there is nothing to do.
    fn turn(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        let ids: Vec<usize> = self.connections.keys().copied().collect();
        for id in ids {
            let mut spent = Vec::new();
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let route = connection.route;
            let fate = connection.turn(now, &mut spent);
            for direction in spent {
                self.forget_single_cut(route, direction);
            }
            match fate {
                Fate::Wait(time) => next = [next, time].into_iter().flatten().min(),
                Fate::Again => next = Some(now),
                Fate::Close => self.remove(id, false),
                Fate::Reset => self.remove(id, true),
            }
        }
        next.map(|next| next.saturating_duration_since(now))
    }

    fn forget_single_cut(&mut self, number: usize, direction: Direction) {
        if let Some(route) = self.routes.get_mut(number - 1) {
            let cut = &mut route.faults[index(direction)].cut;
            *cut = cut.filter(|cut| !cut.once);
        }
        for connection in self.connections.values_mut().filter(|c| c.route == number) {
            connection.forget_single_cut(direction);
        }
    }

    fn remove(&mut self, id: usize, reset: bool) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        if reset {
            connection.reset();
        } else {
            connection.close();
        }
        self.tokens
            .retain(|_, who| !matches!(who, Who::Client(of) | Who::Backend(of) if *of == id));
    }

    fn serve(&mut self, id: usize) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        let mut open = session.read();
        while let Some(line) = session.next_line() {
            let answer = Command::parse(&line).and_then(|command| self.carry_out(command));
            session.answer(&answer.unwrap_or_else(|why| format!("error {why}")));
        }
        if self.quit {
            // It fails where nobody waits for the answer.
            let _ = session.finish();
        }
        open &= session.write();
        if open {
            self.sessions.insert(id, session);
        } else {
            self.tokens.retain(|_, who| !matches!(who, Who::Session(of) if *of == id));
        }
    }

    /// The routes and the connections that a command is about.
    fn find(&self, target: Target) -> Result<(Vec<usize>, Vec<usize>), String> {
        let all = |route: Option<usize>| {
            let of_route = |c: &Connection| route.is_none_or(|route| c.route == route);
            self.connections.iter().filter(|(_, c)| of_route(c)).map(|(id, _)| *id).collect()
        };
        match target {
            Target::All => Ok(((1..=self.routes.len()).collect(), all(None))),
            Target::Route(number) if (1..=self.routes.len()).contains(&number) => {
                Ok((vec![number], all(Some(number))))
            }
            Target::Route(number) => Err(format!("there is no route {number}")),
            Target::Connection(id) if self.connections.contains_key(&id) => {
                Ok((Vec::new(), vec![id]))
            }
            Target::Connection(id) => Err(format!("there is no connection #{id}")),
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<String, String> {
        match command {
            Command::Route(backend) => {
                let added = self.add_route(&backend).map_err(|error| error.to_string())?;
                return Ok(format!("ok {} {}", added.0, added.1));
            }
            Command::Backend(number, backend) => {
                let backend = resolve(&backend).map_err(|error| error.to_string())?;
                let route = number.checked_sub(1).and_then(|index| self.routes.get_mut(index));
                route.ok_or(format!("there is no route {number}"))?.backend = backend;
            }
            Command::Change(target, directions, change) => {
                self.change(target, &directions, change)?;
            }
            Command::HalfClose(target, directions) => {
                for id in self.find(target)?.1 {
                    let Some(connection) = self.connections.get_mut(&id) else { continue };
                    directions.iter().for_each(|direction| connection.half_close(*direction));
                }
            }
            Command::Close(target) => {
                self.find(target)?.1.into_iter().for_each(|id| self.remove(id, false));
            }
            Command::Reset(target) => {
                self.find(target)?.1.into_iter().for_each(|id| self.remove(id, true));
            }
            Command::Connections => {
                let mut text = String::new();
                for (id, connection) in &self.connections {
                    text.push_str(&format!("connection {id} {}\n", connection.describe()));
                }
                return Ok(format!("{text}ok {}", self.connections.len()));
            }
            Command::Quit => self.quit = true,
        }
        Ok("ok".to_owned())
    }

    fn change(
        &mut self,
        target: Target,
        directions: &[Direction],
        change: Change,
    ) -> Result<(), String> {
        let (routes, connections) = self.find(target)?;
        for direction in directions {
            for number in &routes {
                if let Some(route) = self.routes.get_mut(number - 1) {
                    route.faults[index(*direction)].apply(change);
                }
            }
            for id in &connections {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.apply(*direction, change);
                }
            }
        }
        Ok(())
    }
}
