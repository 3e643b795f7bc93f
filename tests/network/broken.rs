//! Peers that break off, break the protocol, or are something else than Kafka: each is named, and
//! what is in flight fails.

use crate::peer::{Connection, Peer, response};
use crate::{Client, NODE, assert_error, config};
use kafka_producer::network::{ErrorKind, NetworkConfig, NetworkError, Peer as Looks};
use kafka_producer::protocol::ApiKey;
use std::time::Duration;

/// What becomes of two requests when the broker does `what` after it has read both.
fn after_two_requests(what: impl FnOnce(&mut Connection, i32) + Send + 'static) -> NetworkError {
    let peer = Peer::broker(|mut broker| {
        let first = broker.request().header.correlation_id;
        broker.request();
        what(&mut broker, first);
    });
    let mut client = Client::connected(config(), &peer);
    client.request(1, vec![]);
    client.request(2, vec![]);
    let outcomes = client.outcomes(2);
    assert_eq!(outcomes.iter().map(|o| o.token).collect::<Vec<_>>(), [1, 2]);
    assert!(outcomes.iter().all(|o| o.failure().0), "both were written");
    let error = client.disconnected();
    assert!(outcomes.iter().all(|o| *o.failure().1 == error));
    assert!(error.address.contains(&peer.address.to_string()));
    assert!(!client.network.has_in_flight());
    peer.join();
    error
}

#[test]
fn a_response_that_is_cut() {
    for length in [1, 3, 4, 6, 11] {
        let error = after_two_requests(move |broker, id| {
            broker.write(&response(id, b"body")[..length]);
        });
        assert_error(&error, ErrorKind::Closed, &["in the middle of a response"]);
    }
    let error =
        after_two_requests(|broker, id| broker.write(&response(id, &[7; 50_000])[..40_000]));
    assert_error(&error, ErrorKind::Closed, &["in the middle of a response"]);
}

#[test]
fn no_response_at_all() {
    let error = after_two_requests(|_, _| {});
    // Nothing but ApiVersions was ever answered.
    assert_error(&error, ErrorKind::Closed, &["the peer closed the connection", "SASL"]);
}

#[test]
fn a_wrong_correlation_id() {
    for wrong in [0, 2, 3, -1, i32::MAX] {
        let error = after_two_requests(move |broker, first| {
            assert_eq!(first, 1);
            broker.respond(wrong, b"body");
            broker.drain();
        });
        let id = format!("correlation id {wrong}, where 1 is awaited");
        assert_error(&error, ErrorKind::Protocol, &[&id]);
    }
}

#[test]
fn a_response_that_nobody_asked_for() {
    let peer = Peer::broker(|mut broker| {
        broker.respond(1, b"unasked");
        broker.drain();
    });
    // In one read with the answer to ApiVersions, or in the next.
    let mut client = Client::new(config());
    client.set_node(peer.address);
    let error = client.failed_attempt();
    assert_error(&error, ErrorKind::Protocol, &["correlation id 1, which nobody awaits"]);
    peer.join();
}

#[test]
fn sizes_that_cannot_be() {
    for (size, text) in [
        (-1_i32, "-1 bytes"),
        (i32::MIN, "-2147483648 bytes"),
        (1_000_001, "1000001 bytes"),
        (i32::MAX, "2147483647 bytes"),
        (0, "0 bytes"),
        (3, "3 bytes"),
    ] {
        let error = after_two_requests(move |broker, _| {
            broker.write(&size.to_be_bytes());
            broker.drain();
        });
        assert_error(&error, ErrorKind::Protocol, &[text, "receive.message.max.bytes"]);
    }
}

#[test]
fn a_header_that_cannot_be_read() {
    let peer = Peer::broker(|mut broker| {
        let id = broker.request().header.correlation_id;
        // Flexible: tagged fields, of which there are more than bytes.
        broker.respond(id, &[0xff, 0xff, 0xff, 0xff, 0x7f]);
        broker.drain();
    });
    let mut client = Client::connected(config(), &peer);
    let request = kafka_producer::network::ClientRequest {
        api: ApiKey::Produce,
        version: 9,
        body: vec![],
        token: 1,
        expects_response: true,
        timeout: crate::peer::DEADLINE,
    };
    client.network.send(NODE, request, client.clock.now());
    let outcomes = client.outcomes(1);
    assert_error(outcomes[0].failure().1, ErrorKind::Protocol, &["the broker sent"]);
    peer.join();
}

/// What a client says of a peer that answers ApiVersions with `bytes`, and stays or goes.
fn answered_with(bytes: &'static [u8], goes: bool) -> NetworkError {
    let peer = Peer::accept(move |mut connection| {
        connection.request();
        connection.write(bytes);
        if !goes {
            connection.drain();
        }
    });
    let mut client = Client::new(config());
    client.set_node(peer.address);
    let error = client.failed_attempt();
    assert_eq!(client.network.last_error(NODE), Some(&error));
    peer.join();
    error
}

#[test]
fn something_else_than_kafka() {
    let cases: [(&[u8], Looks, &str); 6] = [
        (b"\x15\x03\x03\x00\x02\x02\x50", Looks::Tls, "looks like a TLS port"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            Looks::Http,
            "an HTTP server: it answered \"HTTP/1.1",
        ),
        (b"<html><h1>400</h1>", Looks::Http, "looks like an HTTP server"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Looks::Ssh, "\"SSH-2.0-OpenSSH_9.6\""),
        (b"-ERR unknown command\r\n", Looks::Text, "\"-ERR unknown command\""),
        // 70,000 bytes may come from a broker that has proved to be one, not from this.
        (b"\x00\x01\x11\x70\x00\x00\x00\x00", Looks::Unknown, "does not look like Kafka"),
    ];
    for (bytes, looks, text) in cases {
        for goes in [false, true] {
            assert_error(&answered_with(bytes, goes), ErrorKind::NotKafka(looks), &[text]);
        }
    }
}

#[test]
fn an_ssh_banner_before_anything_is_asked() {
    let peer = Peer::accept(|mut connection| {
        connection.write(b"SSH-2.0-OpenSSH_9.6\r\n");
        connection.drain();
    });
    let mut client = Client::new(config());
    client.set_node(peer.address);
    let error = client.failed_attempt();
    assert_error(&error, ErrorKind::NotKafka(Looks::Ssh), &["looks like an SSH server"]);
    peer.join();
}

#[test]
fn a_peer_that_closes_instead_of_answering() {
    let error = answered_with(b"", true);
    assert_error(&error, ErrorKind::Closed, &["before it answered ApiVersions", "TLS"]);
    let error = answered_with(b"\x15\x03", true);
    assert_error(&error, ErrorKind::Closed, &["before it answered ApiVersions"]);
}

#[test]
fn nonsense_of_a_plausible_size() {
    let error = answered_with(b"\x00\x00\x00\x08\x00\x00\x00\x07nons", false);
    assert_error(&error, ErrorKind::Protocol, &["correlation id 7, where 0 is awaited"]);
    // Error 0, and 2^31 APIs.
    let error = answered_with(b"\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x00\xff\xff\xff\x7f", false);
    assert_error(&error, ErrorKind::Protocol, &["ApiVersions v4"]);
}

#[test]
fn a_peer_that_says_nothing() {
    let setup = Duration::from_millis(60);
    let quick = NetworkConfig {
        connection_setup_timeout: setup,
        connection_setup_timeout_max: setup,
        ..config()
    };
    let peer = Peer::accept(|mut connection| connection.drain());
    let mut client = Client::new(quick);
    client.set_node(peer.address);
    let began = client.clock.now();
    let error = client.failed_attempt();
    assert_error(&error, ErrorKind::SetupTimeout, &["no answer to ApiVersions within"]);
    assert!(client.clock.now().since(began) >= setup);
    peer.join();
}
