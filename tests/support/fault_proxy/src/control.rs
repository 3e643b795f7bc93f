//! The control port: lines in, lines out. Reading a command is here; doing it is the proxy's.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;

use crate::faults::{Change, Cut, Direction, How};

/// The longest command.
const MAX_LINE: usize = 1024;

/// What a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// All routes and connections.
    All,
    /// A route and its connections.
    Route(usize),
    /// One connection.
    Connection(usize),
}

/// A command.
#[derive(Debug)]
pub enum Command {
    /// Listens for one more backend.
    Route(String),
    /// Sends new connections elsewhere.
    Backend(usize, String),
    /// Changes what is wrong.
    Change(Target, Vec<Direction>, Change),
    /// Ends a direction.
    HalfClose(Target, Vec<Direction>),
    /// Closes connections.
    Close(Target),
    /// Resets connections.
    Reset(Target),
    /// Lists the connections.
    Connections,
    /// Ends the proxy.
    Quit,
}

fn target(word: &str) -> Result<Target, String> {
    match (word, word.strip_prefix('#')) {
        ("all", _) => Ok(Target::All),
        (_, Some(id)) => Ok(Target::Connection(number(id)?)),
        _ => Ok(Target::Route(number(word)?)),
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word:?} is not a number that fits here"))
}

fn directions(word: &str) -> Result<Vec<Direction>, String> {
    match word {
        "up" => Ok(vec![Direction::Up]),
        "down" => Ok(vec![Direction::Down]),
        "both" => Ok(Direction::BOTH.to_vec()),
        _ => Err(format!("{word:?} is not a direction: up, down or both")),
    }
}

fn how(word: &str) -> Result<How, String> {
    match word {
        "close" => Ok(How::Close),
        "reset" => Ok(How::Reset),
        "swallow" => Ok(How::Swallow),
        _ => Err(format!("{word:?} is not an end: close, reset or swallow")),
    }
}

fn change(words: &[&str]) -> Result<Change, String> {
    match words {
        ["latency", ms] => Ok(Change::Latency(Duration::from_millis(number(ms)?))),
        ["bandwidth", rate] => Ok(Change::Bandwidth(number(rate)?)),
        ["split", size] => Ok(Change::Split(number(size)?)),
        ["stall", "on"] => Ok(Change::Stall(true)),
        ["stall", "off"] => Ok(Change::Stall(false)),
        ["cut", "off"] => Ok(Change::Cut(None)),
        ["cut", left, end] => {
            Ok(Change::Cut(Some(Cut { left: number(left)?, how: how(end)?, once: false })))
        }
        ["cut", left, end, "once"] => {
            Ok(Change::Cut(Some(Cut { left: number(left)?, how: how(end)?, once: true })))
        }
        _ => Err(format!("no such command: {}", words.join(" "))),
    }
}

impl Command {
    /// Reads a command.
    pub fn parse(line: &str) -> Result<Command, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["route", backend] => Ok(Command::Route((*backend).to_owned())),
            ["backend", route, backend] => {
                Ok(Command::Backend(number(route)?, (*backend).to_owned()))
            }
            ["half-close", about, direction] => {
                Ok(Command::HalfClose(target(about)?, directions(direction)?))
            }
            ["close", about] => Ok(Command::Close(target(about)?)),
            ["reset", about] => Ok(Command::Reset(target(about)?)),
            ["heal", about] => {
                Ok(Command::Change(target(about)?, Direction::BOTH.to_vec(), Change::Heal))
            }
            ["connections"] => Ok(Command::Connections),
            ["quit"] => Ok(Command::Quit),
            [name, about, direction, rest @ ..] => {
                let change = change(&[&[*name], rest].concat())?;
                Ok(Command::Change(target(about)?, directions(direction)?, change))
            }
            _ => Err(format!("no such command: {line}")),
        }
    }
}

/// Somebody at the control port.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Session {
    /// A session on a connection that was accepted.
    pub fn new(stream: TcpStream) -> Session {
        Session { stream, inbox: Vec::new(), outbox: Vec::new() }
    }

    /// Reads what is there. False: it is over.
    pub fn read(&mut self) -> bool {
        let mut buffer = [0; MAX_LINE];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.inbox.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// The next line that is there as a whole. An endless one is taken as it is.
    pub fn next_line(&mut self) -> Option<String> {
        let end = self.inbox.iter().position(|byte| *byte == b'\n');
        let end = end.or((self.inbox.len() > MAX_LINE).then_some(MAX_LINE))?;
        let line: Vec<u8> = self.inbox.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim().to_owned())
    }

    /// Answers.
    pub fn answer(&mut self, text: &str) {
        self.outbox.extend(text.as_bytes());
        self.outbox.push(b'\n');
    }

    /// Writes what can be written. False: it is over.
    pub fn write(&mut self) -> bool {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Writes everything, whatever it takes.
    pub fn finish(&mut self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).set_nonblocking(false)?;
        self.stream.write_all(&self.outbox)
    }

    /// The socket, to register it.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}
