//! Failures that explain themselves: each cause of a time-out is named, with what it was about and
//! what to do, and the failure's fields say the same to code.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::delivery::Failure;
use kafka_producer::delivery::Stage::{self, NoLeader, NoMetadata, NotConnected, Queued};
use kafka_producer::error::{MAYBE_PERSISTED, RETRIABLE, status};
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::Timeout;
use produce::{LONG, Outcomes, PRODUCE, cluster, eventually, producer, record, timed, to};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

const NOT_ENOUGH_REPLICAS: i16 = 19;
const REQUEST_TIMED_OUT: i16 = 7;
/// Of the mock: the connection is cut before the request is looked at.
const CUT: i16 = 13;
const TIMEOUT: Duration = Duration::from_millis(600);
const SETTINGS: &[(&str, &str)] = &[
    ("linger.ms", "0"),
    ("enable.idempotence", "false"),
    ("delivery.timeout.ms", "600"),
    ("request.timeout.ms", "500"),
    ("retry.backoff.ms", "20"),
    ("retry.backoff.max.ms", "100"),
    ("reconnect.backoff.ms", "20"),
    ("reconnect.backoff.max.ms", "50"),
];

/// A cluster of one broker with a topic of two partitions, and a producer that has written to both.
struct Bench {
    cluster: MockCluster,
    producer: kafka_producer::producer::Producer,
    outcomes: std::sync::Arc<Outcomes>,
}

const TAG: u64 = 100;

impl Bench {
    fn new(settings: &[(&str, &str)]) -> Bench {
        let bench = Bench::cold(settings, None);
        for partition in 0..2 {
            bench.producer.send(&to(partition, b"x", partition as u64)).unwrap();
        }
        bench.producer.flush(LONG).unwrap();
        bench
    }

    /// The same without having written anything; the broker can be found here.
    fn cold(settings: &[(&str, &str)], host: Option<&str>) -> Bench {
        let cluster = cluster(1, 2);
        cluster.with(|cluster| {
            let broker = cluster.broker_mut(1).unwrap();
            broker.advertised = host.map(|host| (host.into(), broker.port));
        });
        let (producer, outcomes) = producer(&cluster, &[SETTINGS, settings].concat());
        Bench { cluster, producer, outcomes }
    }

    fn address(&self) -> String {
        format!("node 1 (127.0.0.1:{})", self.cluster.port(1).unwrap())
    }

    /// The same before any request times out.
    fn soon_times_out(&self) -> String {
        let timeout = Timeout::After(Duration::from_millis(250));
        let error = self.producer.send_sync(&to(0, b"x", TAG), timeout).unwrap_err();
        assert_eq!(error.status, status::DELIVERY_TIMED_OUT, "{error}");
        let limit = "1 record of t-0 failed: its timeout of 250 ms has passed while ";
        assert!(error.message.starts_with(limit), "{error}");
        error.message.into_owned()
    }

    /// Sends a record to this partition and waits until its request has arrived.
    fn sends_ahead(&self, partition: i32) {
        let requests = self.cluster.request_count(1, PRODUCE);
        self.producer.send(&to(partition, b"ahead", 2)).unwrap();
        eventually("it is sent", || self.cluster.request_count(1, PRODUCE) > requests);
    }

    /// The failure of a record for partition 0 that is sent now and times out.
    fn times_out(&self) -> Named {
        let ((), age) = timed(|| {
            self.producer.send(&to(0, b"x", TAG)).unwrap();
            eventually("the failure", || self.outcomes.get().contains_key(&TAG));
        });
        let outcome = self.outcomes.of(TAG);
        let failure = *outcome.failure.unwrap();
        let message = failure.message.to_str().unwrap().to_owned();
        assert_eq!(outcome.status, status::DELIVERY_TIMED_OUT, "{message}");
        assert_ne!(outcome.flags & RETRIABLE, 0, "{message}");
        assert!(age >= TIMEOUT - Duration::from_millis(1), "{age:?}: {message}");
        let maybe = outcome.flags & MAYBE_PERSISTED != 0;
        let doubt = if maybe { "; it may have been written" } else { "; it was not written" };
        assert!(message.ends_with(doubt), "{message}");
        let limit = "1 record of t-0 failed: delivery.timeout.ms=600 has passed while ";
        assert!(message.starts_with(limit), "{message}");
        Named { failure, message, maybe }
    }
}

/// What a failure said.
struct Named {
    failure: Failure,
    message: String,
    maybe: bool,
}

impl Named {
    fn is(&self, stage: Stage, maybe: bool, says: &[&str]) -> &Failure {
        assert_eq!((self.failure.stage, self.maybe), (stage, maybe), "{}", self.message);
        for part in says {
            assert!(self.message.contains(part), "\"{part}\" is not in: {}", self.message);
        }
        &self.failure
    }
}

fn about(ms: i32, at_least: u64, what: &str) {
    let (least, most) = (at_least as i32, at_least as i32 + 3000);
    assert!((least - 20..most).contains(&ms), "{what}: {ms} ms, not {least} to {most}");
}

#[test]
fn the_topic_is_gone() {
    let bench = Bench::new(&[]);
    bench.cluster.set_auto_create(false, 1);
    bench.cluster.delete_topic("t").unwrap();
    let named = bench.times_out();
    let failure = named.is(
        NoMetadata,
        false,
        &["its topic was not known: topic \"t\" does not exist", "create it or check the name"],
    );
    let unknown = [status::UNKNOWN_TOPIC_OR_PARTITION, status::UNKNOWN_TOPIC_ID];
    assert!(unknown.contains(&failure.broker_status), "{}", named.message);
}

#[test]
fn the_partition_has_no_leader() {
    let bench = Bench::new(&[]);
    bench.cluster.set_leader("t", 0, -1).unwrap();
    let named = bench.times_out();
    named.is(NoLeader, false, &["the partition had no leader", "bring the brokers of its"]);
}

#[test]
fn the_leaders_name_does_not_resolve() {
    let bench = Bench::cold(&[], Some("nowhere.invalid"));
    let named = bench.times_out();
    let failure = named.is(
        NotConnected,
        false,
        &[
            "node 1 (nowhere.invalid:",
            "the name nowhere.invalid",
            "resolve",
            "advertised.listeners",
        ],
    );
    assert_eq!((failure.attempts, failure.in_flight_ms), (0, 0));
    about(failure.queued_ms, 600, "queued");
}

#[test]
fn the_leader_refuses_connections() {
    let bench = Bench::new(&[]);
    bench.cluster.set_broker(1, false, false, 0, 0).unwrap();
    eventually("it is seen", || bench.cluster.connection_count(1) == 0);
    let named = bench.times_out();
    // The connection's end may be seen by what was written to it only: then there is doubt.
    let doubt = named.failure.attempts > 0;
    let failure = named.is(
        NotConnected,
        doubt,
        &[&bench.address(), "could not be reached: ", "onnection refused", "the broker runs"],
    );
    let error = failure.network_error.to_str().unwrap();
    assert!(error.starts_with(&format!("127.0.0.1:{}: ", bench.cluster.port(1).unwrap())));
    assert!(error.contains("onnection refused"), "{error}");
    assert_eq!(failure.node, 1);
}

#[test]
fn the_connection_is_not_set_up_in_time() {
    let bench = Bench::new(&[
        ("socket.connection.setup.timeout.ms", "150"),
        ("socket.connection.setup.timeout.max.ms", "150"),
    ]);
    bench.cluster.set_broker(1, true, true, 0, 0).unwrap();
    bench.cluster.disconnect(1).unwrap();
    eventually("it is cut", || bench.cluster.accepted_count(1) >= 2);
    let named = bench.times_out();
    let doubt = named.failure.attempts > 0;
    named.is(
        NotConnected,
        doubt,
        &[&bench.address(), " ms (socket.connection.setup.timeout.ms)", "firewall"],
    );
}

#[test]
fn the_leader_is_frozen() {
    let bench = Bench::new(&[]);
    bench.cluster.set_broker(1, true, true, 0, 0).unwrap();
    let message = bench.soon_times_out();
    let says = format!("{} had not answered for ", bench.address());
    for part in [&says, "(1 attempt)", "slow, frozen or cut off", "it may have been written"] {
        assert!(message.contains(part), "{message}");
    }
}

/// A frozen broker from which the client has turned away by then.
#[test]
fn the_leader_did_not_answer_in_time() {
    let bench = Bench::new(&[("request.timeout.ms", "300")]);
    bench.cluster.set_broker(1, true, true, 0, 0).unwrap();
    let named = bench.times_out();
    let says = ["Produce was not answered within ", &bench.address(), "slow, frozen or cut"];
    named.is(NotConnected, true, &says);
    let error = named.failure.network_error.to_str().unwrap();
    assert!(error.contains("Produce was not answered within "), "{error}");
}

#[test]
fn the_leader_throttles() {
    let bench = Bench::new(&[]);
    bench.cluster.set_broker(1, true, false, 0, 3000).unwrap();
    bench.producer.send(&to(1, b"x", 2)).unwrap();
    bench.outcomes.wait_for(3);
    let named = bench.times_out();
    let says = format!("{}, throttled this client, for another 2", bench.address());
    let failure = named.is(Queued, false, &[&says, "producer_byte_rate"]);
    assert_eq!(failure.attempts, 0);
}

#[test]
fn too_few_replicas_are_in_sync() {
    let bench = Bench::new(&[]);
    bench.cluster.push_errors(PRODUCE, &[NOT_ENOUGH_REPLICAS; 200]).unwrap();
    let named = bench.times_out();
    let failure = named.is(
        Queued,
        false,
        &["it waited to be sent to ", " again (", "NOT_ENOUGH_REPLICAS", "min.insync.replicas"],
    );
    assert_eq!(failure.broker_status, i32::from(NOT_ENOUGH_REPLICAS));
    assert!(failure.attempts > 3, "{}", named.message);
    assert!(named.message.contains(&format!("({} attempts)", failure.attempts)));
    about(failure.queued_ms, 0, "queued");
    about(failure.in_flight_ms, 0, "since the last request");
}

#[test]
fn the_broker_says_that_it_timed_out() {
    let bench = Bench::new(&[]);
    bench.cluster.push_errors(PRODUCE, &[REQUEST_TIMED_OUT; 200]).unwrap();
    let named = bench.times_out();
    let failure = named.is(
        Queued,
        true,
        &["the last answer was REQUEST_TIMED_OUT", "often for slow replicas", " attempts)"],
    );
    assert_eq!(failure.broker_status, i32::from(REQUEST_TIMED_OUT));
}

#[test]
fn the_connection_breaks_again_and_again() {
    let bench = Bench::new(&[]);
    bench.cluster.push_errors(PRODUCE, &[CUT; 200]).unwrap();
    let named = bench.times_out();
    // Between two attempts it is sometimes connected and sometimes not.
    assert!([NotConnected, Queued].contains(&named.failure.stage), "{}", named.message);
    assert!(named.maybe && named.failure.attempts > 1, "{}", named.message);
    assert!(named.message.contains("closed the connection"), "{}", named.message);
    assert!(named.message.contains("find out in that broker's log"), "{}", named.message);
    let error = named.failure.network_error.to_str().unwrap();
    assert!(error.contains(&bench.cluster.port(1).unwrap().to_string()), "{error}");
}

#[test]
fn earlier_batches_of_the_partition_are_not_answered() {
    let bench = Bench::new(&[]);
    bench.cluster.set_broker(1, true, false, 2000, 0).unwrap();
    bench.sends_ahead(0);
    let message = bench.soon_times_out();
    let says = format!("behind 1 earlier batch of its partition; {} has", bench.address());
    for part in [&says, "takes less than is sent", "it was not written"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_broker_has_all_the_requests_it_may_have() {
    let bench = Bench::new(&[("max.in.flight.requests.per.connection", "1")]);
    bench.cluster.set_broker(1, true, false, 2000, 0).unwrap();
    bench.sends_ahead(1);
    let message = bench.soon_times_out();
    let says = format!("its turn at {}, which has 1 request to answer", bench.address());
    for part in [&says, "takes less than is sent", "it was not written"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_leader_is_no_kafka_listener() {
    let bench = Bench::cold(&[], Some("127.0.0.2"));
    // Nothing else listens on this host of the loopback network.
    let Ok(listener) = TcpListener::bind(("127.0.0.2", bench.cluster.port(1).unwrap())) else {
        return println!("skipped: no second loopback address; a foreign peer is not named");
    };
    // It ends with the process: nobody waits for it.
    let serve = move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = [0; 4];
            if stream.read_exact(&mut asked).is_ok() {
                let _ = stream.write_all(b"\x15\x03\x03\x00\x02\x02\x50");
            }
        }
    };
    std::thread::Builder::new().spawn(serve).unwrap();
    let says = ["127.0.0.2", "looks like a TLS port", "security.protocol"];
    bench.times_out().is(NotConnected, false, &says);
}

#[test]
fn a_send_that_gets_no_metadata_says_why() {
    let cluster = cluster(1, 1);
    cluster.set_auto_create(false, 1);
    let (producer, _) = producer(&cluster, &[SETTINGS, &[("max.block.ms", "300")]].concat());
    let unknown = kafka_producer::record::ProducerRecord { topic: "unknown", ..record(b"x", 0) };
    let (error, took) = timed(|| producer.send(&unknown).unwrap_err());
    assert_eq!((error.status, error.flags), (status::TIMED_OUT, RETRIABLE), "{error}");
    assert!(error.message.contains("no metadata within 300 ms"), "{error}");
    assert!(error.message.contains("topic \"unknown\" does not exist: create it"), "{error}");
    assert!((300..800).contains(&took.as_millis()), "{took:?}");
    cluster.set_broker(1, false, false, 0, 0).unwrap();
    let error = producer.send(&record(b"x", 1)).unwrap_err();
    assert!(error.message.contains("refused"), "{error}");
    assert!(error.message.contains(&cluster.port(1).unwrap().to_string()), "{error}");
}

type Fault = fn(&MockCluster);

#[test]
fn a_send_that_gets_no_memory_says_what_holds_it() {
    let settings =
        [("buffer.memory", "4096"), ("max.block.ms", "300"), ("delivery.timeout.ms", "60000")];
    let cases: [(Fault, &str); 3] = [
        (
            |cluster| cluster.set_broker(1, true, false, 20_000, 0).unwrap(),
            "it waited behind 1 earlier batch of its partition; node 1 (127.0.0.1:",
        ),
        (|cluster| cluster.set_leader("t", 0, -1).unwrap(), "the partition had no leader"),
        (
            |cluster| cluster.set_broker(1, false, false, 0, 0).unwrap(),
            "its leader, node 1 (127.0.0.1:",
        ),
    ];
    for (fault, says) in cases {
        let bench = Bench::new(&settings);
        fault(&bench.cluster);
        let mut tags = 100..;
        let ((), took) = timed(|| {
            // Others of them may be told before the last one knows.
            eventually("it is said", || {
                let send = |tag| bench.producer.send(&to(0, &[1; 1000], tag)).err();
                let error = tags.find_map(send).unwrap();
                assert_eq!(
                    (error.status, error.flags),
                    (status::BUFFER_FULL, RETRIABLE),
                    "{error}"
                );
                assert!(error.message.contains("none was freed within 300 ms while "), "{error}");
                error.message.contains(says)
            });
        });
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}
