//! The client in virtual time: what happens when.

mod chaos;
mod net;

use crate::network::client::tests::net::{Behaviour, Fixture, MS, SECOND};
use crate::network::{ClientEvent, ErrorKind};
use crate::protocol::ApiKey;
use std::collections::BTreeSet;
use std::time::Duration;

fn within_a_fifth(found: Duration, expected: Duration, max: Duration) {
    let (low, high) = (expected.mul_f64(0.799), expected.mul_f64(1.201).min(max + MS));
    assert!(found >= low && found <= high, "{found:?} is not about {expected:?}");
}

#[test]
fn nobody_is_connected_who_was_not_asked_for() {
    let mut f = Fixture::new(Behaviour::Broker);
    f.set_nodes(&[1, 2, 3]);
    f.settle();
    assert!(f.net().opened.is_empty());
    f.connect(2);
    assert_eq!(f.net().opened, ["10.0.0.2:1".parse().unwrap()]);
    assert!(!f.ready(4), "a node that nobody knows");
    assert_eq!(f.client.poll_delay(4, f.now()), Duration::MAX);
}

#[test]
fn the_reconnect_backoff_grows_and_an_answer_resets_it() {
    let mut f = Fixture::new(Behaviour::Refuses);
    for expected in [50, 100, 200, 400, 800, 1000, 1000] {
        assert!(f.client.can_connect(1, f.now()));
        assert!(!f.ready(1));
        f.settle();
        assert_eq!(f.disconnected().unwrap().kind, ErrorKind::Connect);
        let delay = f.client.poll_delay(1, f.now());
        within_a_fifth(delay, expected * MS, SECOND);
        // Asked meanwhile, the poll returns when it is over and not before.
        let opened = f.net().opened.len();
        assert!(!f.ready(1) && !f.client.can_connect(1, f.now()));
        f.poll(None);
        assert_eq!(f.net().polls.last(), Some(&Some(delay)));
        assert_eq!(f.net().opened.len(), opened);
    }
    f.net().behaviour = Behaviour::Broker;
    f.connect(1);
    for (answers, expected) in [(false, 1000), (true, 50)] {
        f.advance(SECOND);
        if answers {
            f.connect(1);
            f.send(1, 1, true, SECOND);
            f.settle();
            assert!(f.net().wire().answer());
            f.settle();
            assert!(f.client.last_error(1).is_none());
        }
        f.net().wire().peer_closed = true;
        f.net().wire().reported = false;
        f.settle();
        assert_eq!(f.disconnected().unwrap().kind, ErrorKind::Closed);
        within_a_fifth(f.client.poll_delay(1, f.now()), expected * MS, SECOND);
    }
}

#[test]
fn the_set_up_timeout_grows_and_covers_tcp_and_api_versions() {
    for (behaviour, text) in
        [(Behaviour::BlackHole, "no connection"), (Behaviour::Mute, "no answer to ApiVersions")]
    {
        let mut f = Fixture::new(behaviour);
        for expected in [10, 20, 30, 30] {
            let began = f.now();
            assert!(!f.ready(1));
            while f.disconnected().is_none() {
                f.poll(None);
                assert!(f.net().polls.len() < 100, "it spins");
            }
            within_a_fifth(f.now().since(began), expected * SECOND, 30 * SECOND);
            let error = f.client.last_error(1).unwrap();
            assert_eq!(error.kind, ErrorKind::SetupTimeout);
            assert!(error.message.contains(text), "{error}");
            f.advance(2 * SECOND);
        }
    }
}

#[test]
fn a_name_that_is_slow_to_resolve_is_reported_but_waited_for() {
    let mut f = Fixture::new(Behaviour::Broker);
    f.client.set_nodes(&[(1, "slow".into(), 1)]);
    assert!(!f.ready(1));
    f.poll(None);
    let error = f.client.last_error(1).unwrap();
    assert_eq!(error.kind, ErrorKind::Resolve);
    assert!(error.message.contains("the name slow is not resolved after"), "{error}");
    assert!(f.disconnected().is_none());
    f.poll(None);
    assert_eq!(f.net().polls.last(), Some(&None), "said once");
    f.client.disconnect(1, "enough");
    f.settle();
    assert_eq!(f.disconnected().unwrap().kind, ErrorKind::Disconnected);
}

#[test]
fn a_request_times_out_at_its_time_and_nobody_spins_before() {
    let mut f = Fixture::new(Behaviour::Broker);
    f.connect(1);
    f.send(1, 1, true, 30 * SECOND);
    f.advance(10 * SECOND);
    f.send(1, 2, true, 5 * SECOND);
    let began = f.now();
    let polls = f.net().polls.len();
    while f.disconnected().is_none() {
        f.poll(None);
    }
    assert_eq!(f.now().since(began), 5 * SECOND);
    assert!(f.net().polls.len() - polls < 5);
    let failed: Vec<u64> = f.events.iter().filter_map(token).collect();
    assert_eq!(failed, [1, 2]);
}

#[test]
fn throttling_stops_requests_and_stops_the_clock_of_those_in_flight() {
    let mut f = Fixture::new(Behaviour::Broker);
    f.connect(1);
    f.send(1, 1, true, 2 * SECOND);
    f.settle();
    // The broker waits itself before it answers Produce v5.
    let now = f.now();
    f.client.throttle(1, ApiKey::Produce, 5, 1000, now);
    f.client.throttle(1, ApiKey::Produce, 7, 0, now);
    f.client.throttle(1, ApiKey::Produce, 7, -5, now);
    assert!(f.ready(1));
    f.client.throttle(1, ApiKey::Produce, 7, 10_000, now);
    assert!(!f.ready(1));
    assert_eq!(f.client.least_loaded_node(now), None);
    assert_eq!(f.client.poll_delay(1, now), 10 * SECOND);
    // The poll returns when it is over; 10 seconds are not the request's.
    while f.now().since(now) < 10 * SECOND {
        f.poll(None);
        assert!(f.disconnected().is_none());
    }
    assert_eq!(f.now().since(now), 10 * SECOND);
    assert!(f.ready(1));
    while f.disconnected().is_none() {
        f.poll(None);
    }
    assert_eq!(f.now().since(now), 12 * SECOND);
}

#[test]
fn idle_connections_are_closed_oldest_first_but_not_with_requests_in_flight() {
    let mut f = Fixture::new(Behaviour::Broker);
    f.set_nodes(&[1, 2, 3]);
    for node in [2, 1, 3] {
        f.connect(node);
        f.advance(SECOND);
    }
    f.send(1, 1, true, 1000 * SECOND);
    let began = f.now();
    let polls = f.net().polls.len();
    let mut closed = Vec::new();
    while closed.len() < 2 {
        f.poll(None);
        for event in f.events.drain(..) {
            let ClientEvent::Disconnected { node, error } = event else { panic!("{event:?}") };
            assert_eq!(error.kind, ErrorKind::Idle);
            closed.push(node);
        }
    }
    assert_eq!(closed, [2, 3]);
    let waited = f.now().since(began);
    assert!(waited >= 179 * SECOND && waited <= 180 * SECOND, "{waited:?}");
    assert!(f.net().polls.len() - polls <= 6, "{:?}", f.net().polls);
    assert!(f.client.can_connect(2, f.now()), "idle is no failure");
    while f.now().since(began) < 900 * SECOND {
        f.poll(Some(100 * SECOND));
    }
    assert!(f.client.is_connected(1) && f.events.is_empty());
}

#[test]
fn an_idle_client_sleeps() {
    let mut f = Fixture::new(Behaviour::Broker);
    let nodes: Vec<i32> = (1..=100).collect();
    f.set_nodes(&nodes);
    for node in nodes {
        f.connect(node);
        f.send(node, 1, true, 30 * SECOND);
        f.settle();
        for wire in f.net().wires.values_mut() {
            wire.answer();
        }
        f.settle();
        f.advance(7 * MS);
    }
    let (began, polls) = (f.now(), f.net().polls.len());
    while f.net().polls.last() != Some(&None) {
        f.poll(None);
    }
    let (slept, polls) = (f.now().since(began), f.net().polls.len() - polls);
    assert!(slept > 179 * SECOND);
    // Deadlines of requests long answered, each looked at once, and the idle ones in common.
    assert!(polls < 110, "{polls} wake-ups for 100 nodes in {slept:?}");
    assert!(f.net().wires.is_empty());
}

#[test]
fn the_least_loaded_node() {
    let choices = |f: &Fixture| -> BTreeSet<Option<i32>> {
        (0..200).map(|_| f.client.least_loaded_node(f.now())).collect()
    };
    let mut f = Fixture::new(Behaviour::Broker);
    f.set_nodes(&[]);
    assert_eq!(choices(&f), [None].into());
    f.set_nodes(&[1, 2, 3, 4]);
    // None was ever tried: any.
    assert_eq!(choices(&f), [1, 2, 3, 4].map(Some).into());
    // Connecting is better than nothing, the oldest attempt better than a newer one.
    f.net().behaviour = Behaviour::Mute;
    assert!(!f.ready(3));
    assert_eq!(choices(&f), [Some(3)].into());
    f.client.disconnect(3, "test");
    f.advance(2 * SECOND);
    f.net().behaviour = Behaviour::Broker;
    assert_eq!(choices(&f), [1, 2, 4].map(Some).into());
    // Ready ones: without load at random, else the fewest in flight; not the full ones.
    f.connect(1);
    f.connect(2);
    assert_eq!(choices(&f), [1, 2].map(Some).into());
    f.send(1, 1, true, SECOND);
    assert_eq!(choices(&f), [Some(2)].into());
    f.send(2, 2, true, SECOND);
    f.send(2, 3, true, SECOND);
    assert_eq!(choices(&f), [Some(1)].into());
    for token in 4..8 {
        f.send(1, token, true, SECOND);
    }
    assert!(!f.ready(1));
    assert_eq!(choices(&f), [Some(2)].into());
    // Throttled ones are passed over.
    let now = f.now();
    f.client.throttle(2, ApiKey::Produce, 7, 500, now);
    assert_eq!(choices(&f), [Some(4)].into());
}

#[test]
fn a_write_of_nothing_ends_the_connection() {
    let mut f = Fixture::new(Behaviour::Broker);
    f.connect(1);
    f.net().wire().behaviour = Behaviour::TakesNothing;
    f.send(1, 1, true, SECOND);
    f.poll(Some(Duration::ZERO));
    let error = f.disconnected().unwrap();
    assert_eq!(error.kind, ErrorKind::Reset);
    assert!(error.message.contains("the socket took 0 of"), "{error}");
    assert!(matches!(f.events[0], ClientEvent::Failed { token: 1, written: false, .. }));
}

#[test]
fn the_end_is_seen_that_arrives_together_with_bytes() {
    let mut f = Fixture::new(Behaviour::Broker);
    f.connect(1);
    f.send(1, 1, true, SECOND);
    f.settle();
    assert!(f.net().wire().answer());
    f.net().wire().peer_closed = true;
    f.poll(Some(Duration::ZERO));
    assert!(matches!(f.events[0], ClientEvent::Response { token: 1, .. }));
    assert_eq!(f.disconnected().unwrap().kind, ErrorKind::Closed);
}

#[test]
fn correlation_ids_wrap() {
    let mut f = Fixture::new(Behaviour::Broker);
    f.connect(1);
    f.client.nodes.get_mut(&1).unwrap().in_flight.start(i32::MAX - 1);
    for token in 0..5 {
        f.send(1, token, true, SECOND);
    }
    f.settle();
    while f.net().wire().answer() {}
    f.settle();
    let tokens: Vec<u64> = f.events.iter().filter_map(token).collect();
    assert_eq!(tokens, [0, 1, 2, 3, 4]);
    assert!(f.disconnected().is_none());
}

fn token(event: &ClientEvent) -> Option<u64> {
    match event {
        ClientEvent::Response { token, .. }
        | ClientEvent::Sent { token, .. }
        | ClientEvent::Failed { token, .. } => Some(*token),
        ClientEvent::Disconnected { .. } | ClientEvent::Ready { .. } => None,
    }
}
