//! A TCP proxy that does to connections what networks do: for tests of the producer in any
//! language, between a client and brokers that know nothing of it.
//!
//! ```text
//! fault-proxy [HOST:PORT ...]
//! ```
//!
//! Each argument is a backend, for which the proxy listens on a port of its own: a *route*. On
//! stdout it prints, a line each, where it listens, and then `ready`:
//!
//! ```text
//! control 127.0.0.1:40001
//! route 1 127.0.0.1:40002
//! ready
//! ```
//!
//! It ends on `quit`, or when its stdin is closed: whoever started it holds the other end of a
//! pipe, so that it never outlives its test.
//!
//! # Commands
//!
//! On the control port a command is a line and gets a line: `ok`, maybe with something after it, or
//! `error` and why. What a command asks for has been done when its answer comes.
//!
//! | command | does |
//! |---|---|
//! | `route HOST:PORT` | listens for one more backend: `ok ROUTE 127.0.0.1:PORT` |
//! | `backend ROUTE HOST:PORT` | new connections of a route go there; the open ones stay |
//! | `latency TARGET DIR MS` | bytes arrive so much later, as many at a time as before |
//! | `bandwidth TARGET DIR N` | N bytes per second; 0: no limit |
//! | `split TARGET DIR N` | writes at most N bytes at a time; 0: as many as there are |
//! | `stall TARGET DIR on`/`off` | stops reading: the sender's window closes |
//! | `cut TARGET DIR K HOW [once]` | lets K bytes pass; the next one ends the connection |
//! | `cut TARGET DIR off` | no longer |
//! | `half-close TARGET DIR` | ends one direction (FIN); the other one goes on |
//! | `close TARGET` | closes connections (FIN to both ends) |
//! | `reset TARGET` | resets connections (RST to both ends) |
//! | `heal TARGET` | takes all of the above back, for what is still open |
//! | `connections` | `connection ID ROUTE CLIENT UP DOWN` for each open one, then `ok COUNT` |
//! | `quit` | ends the proxy |
//!
//! TARGET is a route's number, `all`, or `#ID` of one connection. A route's faults are those of its
//! connections, of later ones too. DIR is `up` (client to backend), `down` or `both`.
//!
//! HOW of a cut is `close` (FIN), `reset` (RST) or `swallow`: this byte and all that follow are
//! read and thrown away, the stream's end too, and nobody is told. K counts from the command on,
//! or from a later connection's first byte. With `once` only the first connection that gets there
//! is cut; else each one is.
//!
//! UP and DOWN of a connection are `BYTES/WRITES`: what was passed on, and in how many writes.
//!
//! # How it goes between
//!
//! Brokers tell clients where to connect, so a broker must advertise its route's address: the mock
//! cluster by `set_advertised` (`producer_mock_cluster_set_advertised` in C), Apache Kafka by
//! `advertised.listeners`. The route can be made first and get its backend later.

mod connection;
mod control;
mod faults;
mod pipe;
mod proxy;

use std::io::{self, Read, Write};
use std::process::ExitCode;

/// Ends the process when its stdin is closed.
fn end_with_stdin() -> io::Result<()> {
    let wait = || {
        let mut byte = [0];
        while matches!(io::stdin().lock().read(&mut byte), Ok(1..)) {}
        std::process::exit(0);
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(wait)?;
    Ok(())
}

fn run() -> io::Result<()> {
    let mut proxy = proxy::Proxy::new()?;
    let mut text = format!("control {}\n", proxy.control_address()?);
    for backend in std::env::args().skip(1) {
        let (route, address) = proxy.add_route(&backend)?;
        text.push_str(&format!("route {route} {address}\n"));
    }
    text.push_str("ready\n");
    end_with_stdin()?;
    io::stdout().write_all(text.as_bytes())?;
    io::stdout().flush()?;
    proxy.run()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fault-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}
