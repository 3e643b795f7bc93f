//! Names to addresses, without blocking the network thread: getaddrinfo runs on helper threads that
//! are started when there is something to resolve and end when there is nothing left.
//!
//! `Shared` is guarded by its mutex, held for pushes and pops only. Answers come back through a
//! queue; the waker tells the network thread to look at it.

use crate::sync::{Wake, lock};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};

/// How many names may be resolved at once: a name server that is slow for one name must not hold up
/// the others.
const HELPERS_MAX: usize = 4;

/// A name to resolve.
#[derive(Debug, Clone)]
pub struct Query {
    /// Comes back in the answer.
    pub ticket: u64,
    /// A name, or an address as text.
    pub host: Arc<str>,
    /// Put into each address.
    pub port: u16,
}

/// What a name means, in the system's order of preference; never an empty list.
#[derive(Debug)]
pub struct Answer {
    /// The query's.
    pub ticket: u64,
    /// The addresses, or the system's words.
    pub result: Result<Vec<SocketAddr>, String>,
}

/// Resolves names without blocking.
pub trait Resolver: Send {
    /// Starts; the answer comes later, or is there at once.
    fn resolve(&mut self, query: Query);

    /// Appends the answers that arrived. Called after a wake-up and after each query.
    fn answers(&mut self, answers: &mut Vec<Answer>);
}

/// The system's resolver (`getaddrinfo`: nsswitch, /etc/hosts, search domains).
pub struct SystemResolver {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    waker: Arc<dyn Wake>,
    lookup: fn(&str, u16) -> Result<Vec<SocketAddr>, String>,
}

#[derive(Default)]
struct State {
    queries: VecDeque<Query>,
    answers: Vec<Answer>,
    helpers: usize,
}

impl SystemResolver {
    /// A resolver that wakes the network thread for each answer. No thread is started yet.
    pub fn new(waker: Arc<dyn Wake>) -> SystemResolver {
        SystemResolver::with_lookup(waker, lookup)
    }

    fn with_lookup(
        waker: Arc<dyn Wake>,
        lookup: fn(&str, u16) -> Result<Vec<SocketAddr>, String>,
    ) -> SystemResolver {
        SystemResolver { shared: Arc::new(Shared { state: Mutex::default(), waker, lookup }) }
    }
}

impl std::fmt::Debug for SystemResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemResolver").finish_non_exhaustive()
    }
}

impl Drop for SystemResolver {
    fn drop(&mut self) {
        // A helper inside getaddrinfo can't be interrupted: it finds nothing more to do when it
        // comes back.
        lock(&self.shared.state).queries.clear();
    }
}

impl Resolver for SystemResolver {
    fn resolve(&mut self, query: Query) {
        let mut state = lock(&self.shared.state);
        if let Ok(ip) = query.host.parse::<IpAddr>() {
            let result = Ok(vec![SocketAddr::new(ip, query.port)]);
            state.answers.push(Answer { ticket: query.ticket, result });
            return;
        }
        state.queries.push_back(query);
        if state.helpers == HELPERS_MAX {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let helper =
            std::thread::Builder::new().name("kafka-resolver".into()).spawn(move || help(&shared));
        match helper {
            Ok(_) => state.helpers += 1,
            Err(error) if state.helpers == 0 => {
                let failed = state.queries.drain(..).map(|query| Answer {
                    ticket: query.ticket,
                    result: Err(format!("no thread to resolve {}: {error}", query.host)),
                });
                let failed: Vec<Answer> = failed.collect();
                state.answers.extend(failed);
            }
            // Those that run take it.
            Err(_) => {}
        }
    }

    fn answers(&mut self, answers: &mut Vec<Answer>) {
        answers.append(&mut lock(&self.shared.state).answers);
    }
}

/// A helper's life. Whoever finds the queue empty says goodbye under the same lock, so that a query
/// can't be left behind.
fn help(shared: &Shared) {
    loop {
        let query = {
            let mut state = lock(&shared.state);
            let Some(query) = state.queries.pop_front() else {
                state.helpers -= 1;
                return;
            };
            query
        };
        let result = (shared.lookup)(&query.host, query.port);
        lock(&shared.state).answers.push(Answer { ticket: query.ticket, result });
        shared.waker.wake();
    }
}

fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = (host, port).to_socket_addrs().map_err(|e| e.to_string())?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err("the name has no address".into()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Instant};
    use crate::sync::Signal;
    use std::time::Duration;

    #[derive(Default)]
    struct Woken(Signal);
    impl Wake for Woken {
        fn wake(&self) {
            self.0.notify();
        }
    }

    fn query(ticket: u64, host: &str) -> Query {
        Query { ticket, host: host.into(), port: 9092 }
    }

    fn wait_for(resolver: &mut dyn Resolver, woken: &Woken, count: usize) -> Vec<Answer> {
        let clock = Clock::system();
        let deadline: Instant = clock.now().after(Duration::from_secs(30));
        let mut answers = Vec::new();
        loop {
            let seen = woken.0.generation();
            resolver.answers(&mut answers);
            if answers.len() >= count {
                return answers;
            }
            assert!(woken.0.wait(seen, &clock, deadline), "{} of {count} answers", answers.len());
        }
    }

    #[test]
    fn an_address_needs_no_thread() {
        let mut resolver = SystemResolver::new(Arc::new(Woken::default()));
        resolver.resolve(query(7, "::1"));
        let mut answers = Vec::new();
        resolver.answers(&mut answers);
        assert_eq!(answers[0].ticket, 7);
        assert_eq!(answers[0].result, Ok(vec!["[::1]:9092".parse().unwrap()]));
        assert_eq!(lock(&resolver.shared.state).helpers, 0);
    }

    #[test]
    fn names_are_resolved_by_helpers_that_end() {
        let woken = Arc::new(Woken::default());
        let mut resolver = SystemResolver::new(Arc::clone(&woken) as Arc<dyn Wake>);
        resolver.resolve(query(1, "localhost"));
        let answers = wait_for(&mut resolver, &woken, 1);
        let addresses = answers[0].result.as_ref().unwrap();
        assert!(addresses.iter().all(|a| a.ip().is_loopback() && a.port() == 9092));
        // The helper leaves: only this resolver holds the shared part then.
        let deadline = Clock::system().now().after(Duration::from_secs(30));
        while Arc::strong_count(&resolver.shared) > 1 {
            assert!(Clock::system().now() < deadline);
            std::thread::yield_now();
        }
        assert_eq!(lock(&resolver.shared.state).helpers, 0);
    }

    #[test]
    fn many_names_share_few_helpers_and_none_is_lost() {
        fn slow(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
            std::thread::yield_now();
            if host == "bad" {
                Err("Name or service not known".into())
            } else {
                lookup("127.0.0.1", port)
            }
        }
        let woken = Arc::new(Woken::default());
        let mut resolver = SystemResolver::with_lookup(Arc::clone(&woken) as Arc<dyn Wake>, slow);
        for ticket in 0..200 {
            resolver.resolve(query(ticket, if ticket % 10 == 0 { "bad" } else { "good" }));
            assert!(lock(&resolver.shared.state).helpers <= HELPERS_MAX);
        }
        let mut answers = wait_for(&mut resolver, &woken, 200);
        answers.sort_by_key(|a| a.ticket);
        for (ticket, answer) in answers.iter().enumerate() {
            assert_eq!(answer.ticket, ticket as u64);
            assert_eq!(answer.result.is_err(), ticket % 10 == 0);
        }
    }
}
