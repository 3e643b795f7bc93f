//! The fault proxy as a child process: starts it, speaks its line protocol (see its `main.rs`), and
//! ends it when dropped.
#![allow(
    dead_code,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "each test takes what it needs; a helper of tests panics"
)]

use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running proxy.
pub struct FaultProxy {
    child: Child,
    control: Mutex<BufReader<TcpStream>>,
}

/// A port of the proxy's and the backend behind it.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub number: usize,
    pub address: SocketAddr,
}

/// A connection as it is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    pub id: usize,
    pub route: usize,
    pub client: SocketAddr,
    /// Bytes and writes, to the backend.
    pub up: (u64, u64),
    /// Bytes and writes, to the client.
    pub down: (u64, u64),
}

impl FaultProxy {
    /// Starts the program, without routes.
    pub fn start(program: &Path) -> FaultProxy {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said: Vec<String> = lines.take_while(|line| line != "ready").collect();
        let address: SocketAddr = said[0].strip_prefix("control ").unwrap().parse().unwrap();
        let control = TcpStream::connect(address).unwrap();
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        control.set_nodelay(true).unwrap();
        FaultProxy { child, control: Mutex::new(BufReader::new(control)) }
    }

    /// Carries out a command and gives what follows the `ok`. It panics on an `error`.
    pub fn command(&self, line: &str) -> String {
        self.lines(line).pop().unwrap()
    }

    /// The same with all lines of the answer; the last one without its `ok`.
    fn lines(&self, line: &str) -> Vec<String> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut lines = Vec::new();
        loop {
            let mut answer = String::new();
            assert_ne!(control.read_line(&mut answer).unwrap(), 0, "the proxy is gone");
            let answer = answer.trim_end();
            assert!(!answer.starts_with("error"), "{line}: {answer}");
            match answer.strip_prefix("ok") {
                Some(rest) => {
                    lines.push(rest.trim_start().to_owned());
                    return lines;
                }
                None => lines.push(answer.to_owned()),
            }
        }
    }

    /// Listens for a backend.
    pub fn route(&self, backend: impl Display) -> Route {
        let answer = self.command(&format!("route {backend}"));
        let (number, address) = answer.split_once(' ').unwrap();
        Route { number: number.parse().unwrap(), address: address.parse().unwrap() }
    }

    /// The connections that are open.
    pub fn connections(&self) -> Vec<Listed> {
        let mut lines = self.lines("connections");
        lines.pop();
        lines.iter().map(|line| Listed::parse(line)).collect()
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Closes its stdin and waits for its end.
    pub fn end(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Listed {
    fn parse(line: &str) -> Listed {
        let pair = |text: &str| -> (u64, u64) {
            let (bytes, writes) = text.split_once('/').unwrap();
            (bytes.parse().unwrap(), writes.parse().unwrap())
        };
        let words: Vec<&str> = line.split(' ').collect();
        let ["connection", id, route, client, up, down] = words[..] else { panic!("{line}") };
        Listed {
            id: id.parse().unwrap(),
            route: route.parse().unwrap(),
            client: client.parse().unwrap(),
            up: pair(up),
            down: pair(down),
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.end();
    }
}
