//! NetworkClient over real sockets: pipelining, partial writes and reads, peers that break off,
//! break the protocol or are something else than Kafka. Every wait ends by an event or fails at a
//! deadline; none is a sleep.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic, in helpers too")]

mod broken;
mod connecting;
mod peer;
mod requests;
#[path = "../support/signals.rs"]
mod signals;

use bytes::Bytes;
use kafka_producer::clock::Clock;
use kafka_producer::log::Logger;
use kafka_producer::network::{
    ClientEvent, ClientRequest, ErrorKind, NetworkClient, NetworkConfig, NetworkError, Resolver,
    Selectable, Selector, SystemResolver,
};
use kafka_producer::protocol::ApiKey;
use kafka_producer::rng::Rng;
use peer::{DEADLINE, Peer};
use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

const NODE: i32 = 1;
/// A version without tagged fields in the response's header.
const VERSION: i16 = 7;

fn config() -> NetworkConfig {
    NetworkConfig {
        client_id: "tester".into(),
        max_in_flight: 5,
        request_timeout: DEADLINE,
        reconnect_backoff: Duration::from_millis(1),
        reconnect_backoff_max: Duration::from_millis(2),
        connection_setup_timeout: DEADLINE,
        connection_setup_timeout_max: DEADLINE,
        connections_max_idle: None,
        send_buffer: None,
        receive_buffer: None,
        receive_message_max: 1_000_000,
    }
}

struct Client {
    network: NetworkClient<Selector>,
    clock: Clock,
    events: Vec<ClientEvent>,
}

impl Client {
    fn new(config: NetworkConfig) -> Client {
        let selector = Selector::new().unwrap();
        let resolver = Box::new(SystemResolver::new(selector.waker()));
        Client::with(config, selector, resolver)
    }

    fn with(config: NetworkConfig, selector: Selector, resolver: Box<dyn Resolver>) -> Client {
        signals::restore_sigpipe();
        let (clock, rng) = (Clock::system(), Arc::new(Rng::seeded(7)));
        let network =
            NetworkClient::new(config, selector, clock.clone(), rng, Logger::none(), resolver);
        Client { network, clock, events: Vec::new() }
    }

    /// A client that is connected to the peer.
    fn connected(config: NetworkConfig, peer: &Peer) -> Client {
        let mut client = Client::new(config);
        client.set_node(peer.address);
        client.connect();
        client
    }

    fn set_node(&mut self, address: SocketAddr) {
        self.network.set_nodes(&[(NODE, address.ip().to_string().into(), address.port())]);
    }

    /// Polls until `found` finds what it looks for among the events.
    fn wait<T>(
        &mut self,
        what: &str,
        mut found: impl FnMut(&mut NetworkClient<Selector>, &mut Vec<ClientEvent>) -> Option<T>,
    ) -> T {
        let deadline = self.clock.now().after(DEADLINE);
        loop {
            if let Some(found) = found(&mut self.network, &mut self.events) {
                return found;
            }
            let now = self.clock.now();
            let last = self.events.len().saturating_sub(9);
            assert!(now < deadline, "no {what}: ..., {:?}", &self.events[last..]);
            self.network.poll(Some(deadline.since(now)), &mut self.events).unwrap();
        }
    }

    fn connect(&mut self) {
        let clock = self.clock.clone();
        self.wait("connection", |network, _| network.ready(NODE, clock.now()).then_some(()));
    }

    /// Asks for a connection until an attempt fails.
    fn failed_attempt(&mut self) -> NetworkError {
        let now = self.clock.now();
        assert!(!self.network.ready(NODE, now));
        self.disconnected()
    }

    fn disconnected(&mut self) -> NetworkError {
        self.wait("disconnection", |_, events| {
            events.iter().find_map(|event| {
                let ClientEvent::Disconnected { node: NODE, error } = event else { return None };
                Some(error.clone())
            })
        })
    }

    fn request(&mut self, token: u64, body: Vec<Bytes>) {
        self.send(token, body, true, DEADLINE);
    }

    fn send(&mut self, token: u64, body: Vec<Bytes>, expects_response: bool, timeout: Duration) {
        let api = ApiKey::Produce;
        let request =
            ClientRequest { api, version: VERSION, body, token, expects_response, timeout };
        self.network.send(NODE, request, self.clock.now());
    }

    /// Polls until this many requests have their outcome, and gives the outcomes.
    fn outcomes(&mut self, count: usize) -> Vec<Outcome> {
        let outcomes = self.wait("outcomes", |_, events| {
            let outcomes: Vec<Outcome> = events.iter().filter_map(outcome).collect();
            (outcomes.len() >= count).then_some(outcomes)
        });
        assert_eq!(outcomes.len(), count, "{outcomes:?}");
        let tokens: HashSet<u64> = outcomes.iter().map(|o| o.token).collect();
        assert_eq!(tokens.len(), count, "one outcome each: {outcomes:?}");
        self.events.retain(|event| outcome(event).is_none());
        outcomes
    }
}

#[derive(Debug, Clone)]
struct Outcome {
    token: u64,
    result: Result<Option<Bytes>, (bool, NetworkError)>,
}

impl Outcome {
    fn failure(&self) -> (bool, &NetworkError) {
        let (written, error) = self.result.as_ref().expect_err("a failure");
        (*written, error)
    }
}

fn outcome(event: &ClientEvent) -> Option<Outcome> {
    match event {
        ClientEvent::Response { token, body, .. } => {
            Some(Outcome { token: *token, result: Ok(Some(body.clone())) })
        }
        ClientEvent::Sent { token, .. } => Some(Outcome { token: *token, result: Ok(None) }),
        ClientEvent::Failed { token, written, error, .. } => {
            Some(Outcome { token: *token, result: Err((*written, error.clone())) })
        }
        ClientEvent::Disconnected { .. } | ClientEvent::Ready { .. } => None,
    }
}

fn assert_error(error: &NetworkError, kind: ErrorKind, texts: &[&str]) {
    assert_eq!(error.kind, kind, "{error}");
    for text in texts {
        assert!(error.to_string().contains(text), "{text:?} is not in {error}");
    }
}

/// An address that nobody listens at.
fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
