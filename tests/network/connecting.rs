//! From a name to a connection that is ready: names, addresses, refusals, black holes, ApiVersions,
//! backoff, idle.

use crate::peer::{Connection, DEADLINE, Peer, unsupported_version, versions_v0};
use crate::{Client, NODE, assert_error, config, dead_address};
use kafka_producer::network::{
    Answer, ClientEvent, ErrorKind, NetworkConfig, Query, Resolver, Selectable, Selector,
};
use kafka_producer::protocol::ApiKey;
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Knows one name; tells how often it was asked.
struct Fake {
    addresses: Vec<SocketAddr>,
    asked: Arc<Mutex<usize>>,
    answers: Vec<Answer>,
}

impl Resolver for Fake {
    fn resolve(&mut self, query: Query) {
        *self.asked.lock().unwrap() += 1;
        let result = if &*query.host == "broker.test" {
            Ok(self.addresses.clone())
        } else {
            Err("Name or service not known".into())
        };
        self.answers.push(Answer { ticket: query.ticket, result });
    }

    fn answers(&mut self, answers: &mut Vec<Answer>) {
        answers.append(&mut self.answers);
    }
}

fn client_with(addresses: &[SocketAddr]) -> (Client, Arc<Mutex<usize>>) {
    let asked = Arc::new(Mutex::new(0));
    let resolver =
        Fake { addresses: addresses.to_vec(), asked: Arc::clone(&asked), answers: Vec::new() };
    let mut client = Client::with(config(), Selector::new().unwrap(), Box::new(resolver));
    client.network.set_nodes(&[(NODE, "broker.test".into(), 9092)]);
    (client, asked)
}

#[test]
fn a_refused_connection_says_so() {
    let address = dead_address();
    let mut client = Client::new(config());
    client.set_node(address);
    let error = client.failed_attempt();
    let address = address.to_string();
    assert_error(&error, ErrorKind::Connect, &[&address, "Connection refused (os error 111)"]);
    assert_eq!(client.network.last_error(NODE), Some(&error));
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    // A label of more than 63 bytes: no name server need be asked.
    let name = format!("{}.invalid", "x".repeat(64));
    let mut client = Client::new(config());
    client.network.set_nodes(&[(NODE, name.as_str().into(), 9092)]);
    let error = client.failed_attempt();
    let (address, text) = (format!("{name}:9092"), format!("the name {name} does not resolve: "));
    assert_error(&error, ErrorKind::Resolve, &[&address, &text]);
}

#[test]
fn all_addresses_of_a_name_are_tried_in_one_attempt() {
    let peer = Peer::broker(|mut broker| broker.drain());
    let (dead, live) = (dead_address(), peer.address);
    let (mut client, asked) = client_with(&[dead, live]);
    assert!(!client.network.ready(NODE, client.clock.now()));
    client.wait("Ready", |_, events| {
        events.iter().any(|e| matches!(e, ClientEvent::Ready { node: NODE })).then_some(())
    });
    assert!(client.network.is_connected(NODE));
    // The dead one is no failure of the attempt.
    assert_eq!(client.events.len(), 1);
    assert_eq!(*asked.lock().unwrap(), 1);
    drop(client);
    peer.join();
}

#[test]
fn an_address_where_something_else_answers_is_passed_over() {
    let wrong = Peer::accept(|mut connection| {
        connection.request();
        connection.write(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        connection.drain();
    });
    let right = Peer::broker(|mut broker| broker.drain());
    let (mut client, _) = client_with(&[wrong.address, right.address]);
    client.connect();
    drop(client);
    wrong.join();
    right.join();
}

#[test]
fn an_attempt_fails_when_every_address_has_and_the_next_resolves_anew() {
    let addresses = [dead_address(), dead_address()];
    let (mut client, asked) = client_with(&addresses);
    let error = client.failed_attempt();
    let [first, second] = addresses.map(|a| format!("{a}): Connection refused"));
    assert_error(&error, ErrorKind::Connect, &["none of 2 addresses", &first, &second]);
    client.events.clear();
    let clock = client.clock.clone();
    client.wait("second attempt", |network, events| {
        network.ready(NODE, clock.now());
        events.iter().any(|e| matches!(e, ClientEvent::Disconnected { .. })).then_some(())
    });
    assert_eq!(*asked.lock().unwrap(), 2);
}

#[test]
fn a_lost_connection_is_made_elsewhere_first() {
    let (done, wait) = channel::<()>();
    let first = Peer::listen(move |listener| {
        let mut broker = Connection::accept(&listener);
        broker.handshake();
        let request = broker.request();
        broker.respond(request.header.correlation_id, b"bye");
        drop(broker);
        // Whoever comes again is not answered.
        let _ = wait.recv();
        drop(listener);
    });
    let second = Peer::broker(|mut broker| broker.drain());
    let (mut client, asked) = client_with(&[first.address, second.address]);
    client.connect();
    client.request(1, vec![]);
    assert!(client.outcomes(1)[0].result.is_ok());
    client.disconnected();
    client.connect();
    assert_eq!(*asked.lock().unwrap(), 2);
    drop((client, done));
    first.join();
    second.join();
}

#[test]
fn a_black_hole_ends_with_the_set_up_timeout() {
    // A listener whose queue is full: the kernel drops further connections silently.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut fill: Vec<TcpStream> = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        fill.push(stream);
        assert!(fill.len() < 100, "the queue never fills");
    }
    let setup = Duration::from_millis(60);
    let mut client = Client::new(NetworkConfig {
        connection_setup_timeout: setup,
        connection_setup_timeout_max: setup,
        ..config()
    });
    client.set_node(address);
    let error = client.failed_attempt();
    assert_error(&error, ErrorKind::SetupTimeout, &["no connection within", "setup.timeout"]);
}

/// The versions of ApiVersions that a client asks for if a broker answers error 35 as `answer`
/// says.
fn versions_asked(answer: fn(i32) -> Vec<u8>, then: i16) {
    let peer = Peer::accept(move |mut broker| {
        let request = broker.request();
        assert_eq!(request.header.api_key, ApiKey::ApiVersions.code());
        assert_eq!(request.header.api_version, 4);
        broker.write(&answer(request.header.correlation_id));
        let request = broker.request();
        assert_eq!(request.header.api_version, then);
        if then == 0 {
            assert!(request.body.is_empty());
            broker.write(&versions_v0(request.header.correlation_id));
        } else {
            broker.write(&unsupported_version(request.header.correlation_id, None));
            let request = broker.request();
            assert_eq!(request.header.api_version, 0);
            broker.write(&versions_v0(request.header.correlation_id));
        }
        broker.drain();
    });
    let client = Client::connected(config(), &peer);
    assert_eq!(client.network.api_version(NODE, ApiKey::Metadata, 4..=13).unwrap(), 13);
    drop(client);
    peer.join();
}

#[test]
fn an_old_broker_is_asked_for_a_lower_api_versions() {
    versions_asked(|id| unsupported_version(id, None), 0);
    versions_asked(|id| unsupported_version(id, Some(0)), 0);
    versions_asked(|id| unsupported_version(id, Some(2)), 2);
    // What does not lead on is not believed.
    versions_asked(|id| unsupported_version(id, Some(4)), 0);
    versions_asked(|id| unsupported_version(id, Some(-3)), 0);
}

#[test]
fn a_broker_without_any_api_versions() {
    let peer = Peer::accept(|mut broker| {
        for _ in 0..2 {
            let id = broker.request().header.correlation_id;
            broker.write(&unsupported_version(id, None));
        }
        broker.drain();
    });
    let mut client = Client::new(config());
    client.set_node(peer.address);
    let error = client.failed_attempt();
    assert_error(&error, ErrorKind::UnsupportedVersion, &["ApiVersions v0"]);
    peer.join();
}

#[test]
fn versions_without_overlap_name_both_sides() {
    let peer = Peer::broker(|mut broker| broker.drain());
    let mut client = Client::new(config());
    client.set_node(peer.address);
    assert!(client.network.api_version(NODE, ApiKey::Produce, 3..=13).is_err());
    client.connect();
    let error = client.network.api_version(NODE, ApiKey::Metadata, 14..=20).unwrap_err();
    let address = peer.address.to_string();
    for text in [&*address, "Metadata", "v0 to v13", "v14 to v20", "upgrade the broker"] {
        assert!(error.message.contains(text), "{text} is not in {error}");
    }
    let error = client.network.api_version(NODE, ApiKey::InitProducerId, 0..=5).unwrap_err();
    assert!(error.message.contains("does not offer InitProducerId"), "{error}");
    drop(client);
    peer.join();
}

#[test]
fn an_idle_connection_is_closed_and_made_anew_without_backoff() {
    let peer = Peer::listen(|listener| {
        for _ in 0..2 {
            let mut broker = Connection::accept(&listener);
            broker.handshake();
            broker.drain();
        }
    });
    let max_idle = Duration::from_millis(20);
    let long_backoff = NetworkConfig {
        connections_max_idle: Some(max_idle),
        reconnect_backoff: DEADLINE,
        reconnect_backoff_max: DEADLINE,
        ..config()
    };
    let mut client = Client::connected(long_backoff, &peer);
    assert_eq!(client.disconnected().kind, ErrorKind::Idle);
    assert!(client.network.last_error(NODE).is_none());
    client.connect();
    drop(client);
    peer.join();
}

#[test]
fn the_waker_is_the_selectors() {
    let selector = Selector::new().unwrap();
    let waker = selector.waker();
    let resolver = Fake { addresses: vec![], asked: Arc::default(), answers: Vec::new() };
    let mut client = Client::with(config(), selector, Box::new(resolver));
    waker.wake();
    client.network.poll(None, &mut client.events).unwrap();
}
