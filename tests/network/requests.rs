//! Requests and their outcomes: order, pipelining, pieces, acks=0, what ends them early.

use crate::peer::{DEADLINE, Peer};
use crate::{Client, NODE, VERSION, config, outcome};
use bytes::Bytes;
use kafka_producer::network::{ClientEvent, ErrorKind, NetworkConfig};
use kafka_producer::protocol::ApiKey;
use socket2::SockRef;
use std::io::Read;
use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::time::Duration;

#[test]
fn requests_are_pipelined_and_answered_in_order() {
    const COUNT: u64 = 50;
    let peer = Peer::broker(|mut broker| {
        // None is answered before all are there.
        let requests: Vec<_> = (0..COUNT).map(|_| broker.request()).collect();
        for (i, request) in requests.iter().enumerate() {
            assert_eq!(request.header.api_key, ApiKey::Produce.code());
            assert_eq!(request.header.api_version, VERSION);
            assert_eq!(request.header.client_id.as_deref(), Some("tester"));
            assert_eq!(&request.body[..], format!("body {i}").as_bytes());
        }
        for request in &requests {
            broker.respond(request.header.correlation_id, &request.body);
        }
        broker.drain();
    });
    let mut client = Client::connected(NetworkConfig { max_in_flight: 50, ..config() }, &peer);
    for i in 0..COUNT {
        assert!(client.network.ready(NODE, client.clock.now()));
        let pieces = ["body", " ", "", &i.to_string()].map(|s| Bytes::from(s.to_owned()));
        client.request(i, pieces.into());
    }
    assert!(!client.network.ready(NODE, client.clock.now()), "50 are the maximum");
    assert_eq!(client.network.in_flight(NODE), 50);
    for (i, outcome) in client.outcomes(50).into_iter().enumerate() {
        assert_eq!(outcome.token, i as u64);
        assert_eq!(outcome.result.unwrap().unwrap(), format!("body {i}"));
    }
    assert!(!client.network.has_in_flight());
    drop(client);
    peer.join();
}

#[test]
fn acks_0_is_done_when_written_and_leaves_no_gap() {
    let peer = Peer::broker(|mut broker| {
        for i in 0..6 {
            let request = broker.request();
            if i % 2 == 1 {
                broker.respond(request.header.correlation_id, b"yes");
            }
        }
        broker.drain();
    });
    let mut client = Client::connected(NetworkConfig { max_in_flight: 6, ..config() }, &peer);
    for token in 0..6 {
        client.send(token, vec![Bytes::from_static(b"x")], token % 2 == 1, DEADLINE);
    }
    let mut outcomes = client.outcomes(6);
    outcomes.sort_by_key(|o| o.token);
    for outcome in outcomes {
        assert_eq!(outcome.result.unwrap().is_some(), outcome.token % 2 == 1);
    }
    drop(client);
    peer.join();
}

#[test]
fn tens_of_thousands_of_pieces_to_a_peer_that_reads_a_few_bytes_at_a_time() {
    let body: Vec<Bytes> =
        (0..25_000_u32).map(|i| Bytes::from(i.to_be_bytes().repeat(i as usize % 10))).collect();
    let expected: Vec<u8> = body.iter().flatten().copied().collect();
    let peer = Peer::broker(move |mut broker| {
        let mut received: Vec<u8> = Vec::new();
        // ApiVersions was 0.
        for correlation_id in 1..=2 {
            let mut step = 1;
            let total = 4 + 2 + 2 + 4 + 2 + 6 + expected.len();
            while received.len() < total {
                let mut some = vec![0; step.min(total - received.len())];
                let count = broker.stream.read(&mut some).unwrap();
                assert!(count > 0);
                received.extend(&some[..count]);
                step = step % 97 + 1;
            }
            assert!(received[20..] == expected, "{correlation_id} is not what was sent");
            received.clear();
            broker.respond(correlation_id, b"all there");
        }
        broker.drain();
    });
    let small = NetworkConfig { send_buffer: Some(4096), ..config() };
    let mut client = Client::connected(small, &peer);
    client.request(1, body.clone());
    client.request(2, body);
    for outcome in client.outcomes(2) {
        assert_eq!(outcome.result.unwrap().unwrap(), "all there");
    }
    drop(client);
    peer.join();
}

#[test]
fn a_large_response_byte_by_byte_and_small_ones_at_once() {
    let large: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
    let expected = large.clone();
    let peer = Peer::broker(move |mut broker| {
        let frame = crate::peer::response(broker.request().header.correlation_id, &large);
        for bytes in frame[..300].chunks(1).chain(frame[300..].chunks(9999)) {
            broker.write(bytes);
        }
        let ids: Vec<i32> = (0..4).map(|_| broker.request().header.correlation_id).collect();
        let frames: Vec<_> = ids.iter().map(|id| crate::peer::response(*id, b"ok")).collect();
        broker.write(&frames.concat());
        broker.drain();
    });
    let mut client = Client::connected(config(), &peer);
    client.request(1, vec![]);
    assert_eq!(client.outcomes(1)[0].result.as_ref().unwrap().as_ref().unwrap(), &expected);
    for token in 2..6 {
        client.request(token, vec![]);
    }
    let tokens: Vec<u64> = client.outcomes(4).iter().map(|o| o.token).collect();
    assert_eq!(tokens, [2, 3, 4, 5]);
    drop(client);
    peer.join();
}

#[test]
fn a_request_that_times_out_takes_the_connection_and_the_others_along() {
    let peer = Peer::listen(|listener| {
        let mut silent = crate::peer::Connection::accept(&listener);
        silent.handshake();
        silent.drain();
        let mut better = crate::peer::Connection::accept(&listener);
        better.handshake();
        let request = better.request();
        better.respond(request.header.correlation_id, b"at last");
        better.drain();
    });
    let mut client = Client::connected(config(), &peer);
    client.request(1, vec![]);
    client.send(2, vec![], true, Duration::from_millis(30));
    client.request(3, vec![]);
    for outcome in client.outcomes(3) {
        let (written, error) = outcome.failure();
        assert!(written);
        crate::assert_error(error, ErrorKind::RequestTimeout, &["Produce was not answered within"]);
    }
    assert_eq!(client.disconnected().kind, ErrorKind::RequestTimeout);
    assert_eq!(client.network.last_error(NODE).unwrap().kind, ErrorKind::RequestTimeout);
    client.connect();
    client.request(4, vec![]);
    assert!(client.outcomes(1)[0].result.is_ok());
    assert!(client.network.last_error(NODE).is_none());
    drop(client);
    peer.join();
}

#[test]
fn every_request_has_one_outcome_when_the_connection_is_closed() {
    for close in [false, true] {
        let (go, wait) = channel::<()>();
        let peer = Peer::broker(move |mut broker| {
            let request = broker.request();
            broker.respond(request.header.correlation_id, b"first");
            // Nothing more is read before the client has closed.
            let _ = wait.recv();
            broker.drain();
        });
        let small = NetworkConfig { send_buffer: Some(4096), max_in_flight: 10, ..config() };
        let mut client = Client::connected(small, &peer);
        client.request(0, vec![]);
        assert!(client.outcomes(1)[0].result.is_ok());
        // The first is written, of the second a part: far more than both sockets can hold.
        client.request(1, vec![Bytes::from_static(b"small")]);
        client.request(2, vec![Bytes::from(vec![0; 1 << 20]); 64]);
        client.request(3, vec![Bytes::from_static(b"behind it")]);
        client.send(4, vec![Bytes::from_static(b"acks=0")], false, DEADLINE);
        client.network.poll(Some(Duration::ZERO), &mut client.events).unwrap();
        assert!(client.network.is_sending(NODE));
        if close {
            client.network.close(&mut client.events);
        } else {
            client.network.disconnect(NODE, "the test wants it");
        }
        let outcomes = client.outcomes(4);
        let written: Vec<(u64, bool)> = outcomes.iter().map(|o| (o.token, o.failure().0)).collect();
        assert_eq!(written, [(1, true), (2, true), (3, false), (4, false)]);
        assert!(outcomes.iter().all(|o| o.failure().1.kind == ErrorKind::Disconnected));
        assert_eq!(client.disconnected().kind, ErrorKind::Disconnected);
        // Nothing comes later.
        client.network.poll(Some(Duration::ZERO), &mut client.events).unwrap();
        assert!(client.events.iter().all(|event| outcome(event).is_none()));
        drop(go);
        drop(client);
        peer.join();
    }
}

#[test]
fn a_request_without_connection_fails_at_once() {
    let mut client = Client::new(config());
    client.set_node(crate::dead_address());
    client.request(1, vec![]);
    let (written, error) = client.outcomes(1)[0].clone().result.unwrap_err();
    assert!(!written);
    crate::assert_error(&error, ErrorKind::NotConnected, &["127.0.0.1:"]);
    client.network.set_nodes(&[]);
    client.request(2, vec![]);
    crate::assert_error(client.outcomes(1)[0].failure().1, ErrorKind::NotConnected, &["node 1"]);
}

#[test]
fn responses_that_arrived_before_the_peer_left_count() {
    let ((go, wait), (gone, is_gone)) = (channel(), channel());
    let peer = Peer::broker(move |mut broker| {
        let request = broker.request();
        wait.recv_timeout(DEADLINE).unwrap();
        broker.respond(request.header.correlation_id, b"written");
        // Closed so, the client's next write fails before it reads.
        SockRef::from(&broker.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(broker);
        gone.send(()).unwrap();
    });
    let mut client = Client::connected(config(), &peer);
    client.request(1, vec![]);
    client.network.poll(Some(Duration::ZERO), &mut client.events).unwrap();
    go.send(()).unwrap();
    is_gone.recv_timeout(DEADLINE).unwrap();
    client.request(2, vec![Bytes::from_static(b"too late")]);
    let outcomes = client.outcomes(2);
    assert_eq!(outcomes[0].token, 1);
    assert_eq!(outcomes[0].result.as_ref().unwrap().as_ref().unwrap(), "written");
    assert!(matches!(outcomes[1].failure().1.kind, ErrorKind::Reset | ErrorKind::Closed));
    assert!(!outcomes[1].failure().0);
    drop(client);
    peer.join();
}

#[test]
fn writing_to_a_peer_that_is_gone_raises_no_signal() {
    let ((go, wait), (gone, is_gone)) = (channel(), channel());
    let peer = Peer::broker(move |broker| {
        wait.recv_timeout(DEADLINE).unwrap();
        // First FIN, then RST: the next write is one to a broken pipe.
        broker.stream.shutdown(Shutdown::Write).unwrap();
        SockRef::from(&broker.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(broker);
        gone.send(()).unwrap();
    });
    let mut client = Client::connected(config(), &peer);
    go.send(()).unwrap();
    is_gone.recv_timeout(DEADLINE).unwrap();
    client.request(1, vec![Bytes::from_static(b"too late")]);
    let outcomes = client.outcomes(1);
    // The write fails with EPIPE; what can be read after that says it better.
    let (written, error) = outcomes[0].failure();
    assert!(!written);
    assert!(matches!(error.kind, ErrorKind::Reset | ErrorKind::Closed), "{error}");
    peer.join();
}

#[test]
fn a_node_that_leaves_finishes_what_is_in_flight() {
    let (go, wait) = channel::<()>();
    let peer = Peer::broker(move |mut broker| {
        let request = broker.request();
        wait.recv_timeout(DEADLINE).unwrap();
        broker.respond(request.header.correlation_id, b"late");
        assert!(broker.try_request().is_none(), "the connection is closed after that");
    });
    let mut client = Client::connected(config(), &peer);
    client.request(1, vec![]);
    client.network.set_nodes(&[]);
    assert!(client.network.nodes().is_empty());
    assert!(!client.network.ready(NODE, client.clock.now()));
    assert_eq!(client.network.least_loaded_node(client.clock.now()), None);
    client.network.poll(Some(Duration::ZERO), &mut client.events).unwrap();
    go.send(()).unwrap();
    assert_eq!(client.outcomes(1)[0].result.as_ref().unwrap().as_ref().unwrap(), "late");
    assert_eq!(client.disconnected().kind, ErrorKind::Disconnected);
    peer.join();
}

#[test]
fn a_node_that_moves_is_connected_at_its_new_address() {
    let old = Peer::broker(|mut broker| broker.drain());
    let new = Peer::broker(|mut broker| {
        let request = broker.request();
        broker.respond(request.header.correlation_id, b"here");
        broker.drain();
    });
    let mut client = Client::connected(config(), &old);
    client.request(1, vec![]);
    // The same again changes nothing.
    client.set_node(old.address);
    assert!(client.network.ready(NODE, client.clock.now()));
    client.set_node(new.address);
    let text = new.address.to_string();
    let outcomes = client.outcomes(1);
    crate::assert_error(outcomes[0].failure().1, ErrorKind::Disconnected, &["changed", &text]);
    client.connect();
    client.request(2, vec![]);
    assert_eq!(client.outcomes(1)[0].result.as_ref().unwrap().as_ref().unwrap(), "here");
    drop(client);
    old.join();
    new.join();
}

#[test]
fn another_thread_wakes_the_poll() {
    let mut client = Client::new(config());
    let waker = client.network.waker();
    let thread = std::thread::Builder::new().spawn(move || waker.wake()).unwrap();
    // Without a wake-up this never returns.
    client.network.poll(None, &mut client.events).unwrap();
    thread.join().unwrap();
    assert!(client.events.is_empty());
}

#[test]
fn a_response_tells_version_and_latency() {
    let peer = Peer::broker(|mut broker| {
        let request = broker.request();
        broker.respond(request.header.correlation_id, b"");
        broker.drain();
    });
    let mut client = Client::connected(config(), &peer);
    let chosen = client.network.api_version(NODE, ApiKey::Produce, 0..=VERSION).unwrap();
    assert_eq!(chosen, VERSION);
    client.request(9, vec![]);
    let latency = client.wait("response", |_, events| {
        events.iter().find_map(|event| {
            let ClientEvent::Response { node: NODE, token: 9, version: VERSION, latency, .. } =
                event
            else {
                return None;
            };
            Some(*latency)
        })
    });
    assert!(latency > Duration::ZERO && latency < DEADLINE);
    drop(client);
    peer.join();
}
