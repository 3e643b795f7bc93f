//! A Kafka broker that keeps nothing: it takes Produce requests, throws the records away and
//! acknowledges at once, so that what a benchmark measures is the client.
//!
//! `null-broker [--partitions N] [--check]` listens on a free port of 127.0.0.1 and prints it.
//! Every topic exists and has N partitions. It ends when its standard input does, and prints what
//! it got as a line of JSON. With `--check` every batch is read and verified; a wrong one is
//! answered with CORRUPT_MESSAGE, told on stderr, and makes the exit status 1.
//!
//! A thread per connection, each of which parses a request on the fly and lets the kernel drop the
//! record bytes: they are not even copied out of the socket.

mod check;
mod connection;
mod counts;
mod messages;
mod wire;

use connection::Connection;
use counts::Counts;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;

struct Options {
    partitions: i32,
    check: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options { partitions: 1, check: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--check" => options.check = true,
            "--partitions" => {
                let value = arguments.next().unwrap_or_default();
                options.partitions =
                    value.parse().ok().filter(|count| (1..=1_000_000).contains(count)).ok_or_else(
                        || format!("--partitions '{value}': a number from 1 to 1000000"),
                    )?;
            }
            _ => return Err(format!("{argument}: usage: null-broker [--partitions N] [--check]")),
        }
    }
    Ok(options)
}

/// Serves until standard input ends.
fn serve(options: &Options) -> io::Result<Arc<Counts>> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let counts = Arc::new(Counts::new(options.partitions));
    let check = options.check;
    let for_connections = Arc::clone(&counts);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counts = Arc::clone(&for_connections);
            std::thread::spawn(move || {
                if let Err(error) = Connection::new(stream.into(), port, check, &counts).serve() {
                    eprintln!("null-broker: {error}");
                    counts.invalid();
                }
            });
        }
    });
    println!("{port}");
    io::stdout().flush()?;
    for line in io::stdin().lock().lines() {
        line?;
    }
    Ok(counts)
}

fn main() -> ExitCode {
    let served = options().and_then(|options| serve(&options).map_err(|error| error.to_string()));
    match served {
        Ok(counts) => {
            let told = writeln!(io::stdout(), "{}", counts.json()).is_ok();
            if told && counts.is_valid() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("null-broker: {error}");
            ExitCode::FAILURE
        }
    }
}
