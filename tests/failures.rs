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
use produce::{
    LONG, Outcomes, PRODUCE, cluster, eventually, given_time, producer, record, so, timed, to,
};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

const NOT_ENOUGH_REPLICAS: i16 = 19;
const REQUEST_TIMED_OUT: i16 = 7;
/// Of the mock: the connection is cut before the request is looked at.
const CUT: i16 = 13;
/// How long a record lives in the first attempt of a test that waits for its end.
const FIRST_MS: u32 = 600;
/// What does not pass while a test runs.
const NEVER_MS: u32 = 600_000;
const SETTINGS: &[(&str, &str)] = &[
    ("linger.ms", "0"),
    ("enable.idempotence", "false"),
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
    /// How long records live, and requests most of that.
    timeout_ms: u32,
}

const TAG: u64 = 100;

impl Bench {
    fn new(timeout_ms: u32, settings: &[(&str, &str)]) -> Bench {
        let bench = Bench::cold(timeout_ms, settings, None);
        bench.producer.partitions_for("t", LONG).unwrap();
        eventually("both partitions are written to", || {
            bench.outcomes.forget();
            for partition in 0..2 {
                bench.producer.send(&to(partition, b"x", partition as u64)).unwrap();
            }
            bench.producer.flush(LONG).unwrap();
            bench.outcomes.get().values().all(|outcome| outcome.status == status::OK)
        });
        bench
    }

    /// The same without having written anything; the broker can be found here.
    fn cold(timeout_ms: u32, settings: &[(&str, &str)], host: Option<&str>) -> Bench {
        let cluster = cluster(1, 2);
        cluster.with(|cluster| {
            let broker = cluster.broker_mut(1).unwrap();
            broker.advertised = host.map(|host| (host.into(), broker.port));
        });
        let (delivery, request) = (timeout_ms.to_string(), (timeout_ms / 6 * 5).to_string());
        let times: [(&str, &str); 2] =
            [("delivery.timeout.ms", &delivery), ("request.timeout.ms", &request)];
        let (producer, outcomes) = producer(&cluster, &[SETTINGS, &times, settings].concat());
        Bench { cluster, producer, outcomes, timeout_ms }
    }

    fn address(&self) -> String {
        format!("node 1 (127.0.0.1:{})", self.cluster.port(1).unwrap())
    }

    /// The message of a record whose own time is up after so long, and that of no request is.
    fn times_out_after(&self, ms: u32) -> Told {
        let timeout = Timeout::After(Duration::from_millis(ms.into()));
        let error = self.producer.send_sync(&to(0, b"x", TAG), timeout).unwrap_err();
        assert_eq!(error.status, status::DELIVERY_TIMED_OUT, "{error}");
        let limit = format!("1 record of t-0 failed: its timeout of {ms} ms has passed while ");
        assert!(error.message.starts_with(&limit), "{error}");
        Told(error.message.into_owned())
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
        let least = Duration::from_millis((self.timeout_ms - 1).into());
        assert!(age >= least, "{age:?}: {message}");
        let maybe = outcome.flags & MAYBE_PERSISTED != 0;
        let doubt = if maybe { "; it may have been written" } else { "; it was not written" };
        assert!(message.ends_with(doubt), "{message}");
        let limit = format!(
            "1 record of t-0 failed: delivery.timeout.ms={} has passed while ",
            self.timeout_ms
        );
        assert!(message.starts_with(&limit), "{message}");
        Named { failure, told: Told(message), maybe }
    }
}

/// A failure's message.
struct Told(String);

impl Told {
    fn says(&self, parts: &[&str]) -> Result<(), String> {
        let missing = parts.iter().find(|part| !self.0.contains(**part));
        so(missing.is_none(), format_args!("{missing:?} is not in: {}", self.0))
    }
}

/// What a failure said.
struct Named {
    failure: Failure,
    told: Told,
    maybe: bool,
}

impl Named {
    fn is(&self, stage: Stage, maybe: bool, says: &[&str]) -> Result<&Failure, String> {
        let is = (self.failure.stage, self.maybe);
        so(is == (stage, maybe), format_args!("{is:?}, not {stage:?}: {}", self.told.0))?;
        self.told.says(says)?;
        Ok(&self.failure)
    }
}

fn about(ms: i32, at_least: u32, what: &str) -> Result<(), String> {
    let (least, most) = (at_least as i32, at_least as i32 + 3000);
    let near = (least - 20..most).contains(&ms);
    so(near, format_args!("{what}: {ms} ms, not {least} to {most}"))
}

#[test]
fn the_topic_is_gone() {
    given_time(FIRST_MS, |ms| {
        let bench = Bench::new(ms, &[]);
        bench.cluster.set_auto_create(false, 1);
        bench.cluster.delete_topic("t").unwrap();
        let named = bench.times_out();
        let does_not_exist = "its topic was not known: topic \"t\" does not exist";
        let failure =
            named.is(NoMetadata, false, &[does_not_exist, "create it or check the name"])?;
        let unknown = [status::UNKNOWN_TOPIC_OR_PARTITION, status::UNKNOWN_TOPIC_ID];
        assert!(unknown.contains(&failure.broker_status), "{}", named.told.0);
        Ok(())
    });
}

#[test]
fn the_partition_has_no_leader() {
    given_time(FIRST_MS, |ms| {
        let bench = Bench::new(ms, &[]);
        bench.cluster.set_leader("t", 0, -1).unwrap();
        let says = ["the partition had no leader", "bring the brokers of its"];
        bench.times_out().is(NoLeader, false, &says).map(drop)
    });
}

#[test]
fn the_leaders_name_does_not_resolve() {
    given_time(FIRST_MS, |ms| {
        let bench = Bench::cold(ms, &[], Some("nowhere.invalid"));
        let named = bench.times_out();
        let says = [
            "node 1 (nowhere.invalid:",
            "the name nowhere.invalid",
            "resolve",
            "advertised.listeners",
        ];
        let failure = named.is(NotConnected, false, &says)?;
        assert_eq!((failure.attempts, failure.in_flight_ms), (0, 0));
        about(failure.queued_ms, ms, "queued")
    });
}

#[test]
fn the_leader_refuses_connections() {
    given_time(FIRST_MS, |ms| {
        let bench = Bench::new(ms, &[]);
        bench.cluster.set_broker(1, false, false, 0, 0).unwrap();
        eventually("it is seen", || bench.cluster.connection_count(1) == 0);
        let named = bench.times_out();
        // The connection's end may be seen by what was written to it only: then there is doubt.
        let doubt = named.failure.attempts > 0;
        let address = bench.address();
        let says = [&*address, "could not be reached: ", "onnection refused", "the broker runs"];
        let failure = named.is(NotConnected, doubt, &says)?;
        let error = failure.network_error.to_str().unwrap();
        let peer = format!("127.0.0.1:{}: ", bench.cluster.port(1).unwrap());
        assert!(error.starts_with(&peer) && error.contains("onnection refused"), "{error}");
        assert_eq!(failure.node, 1);
        Ok(())
    });
}

#[test]
fn the_connection_is_not_set_up_in_time() {
    given_time(FIRST_MS, |ms| {
        let quarter = (ms / 4).to_string();
        let bench = Bench::new(
            ms,
            &[
                ("socket.connection.setup.timeout.ms", &quarter),
                ("socket.connection.setup.timeout.max.ms", &quarter),
            ],
        );
        bench.cluster.set_broker(1, true, true, 0, 0).unwrap();
        bench.cluster.disconnect(1).unwrap();
        eventually("it is cut", || bench.cluster.connection_count(1) == 0);
        let named = bench.times_out();
        let doubt = named.failure.attempts > 0;
        let says = [&*bench.address(), " ms (socket.connection.setup.timeout.ms)", "firewall"];
        named.is(NotConnected, doubt, &says).map(drop)
    });
}

#[test]
fn the_leader_is_frozen() {
    given_time(FIRST_MS, |ms| {
        let bench = Bench::new(NEVER_MS, &[]);
        bench.cluster.set_broker(1, true, true, 0, 0).unwrap();
        let says = format!("{} had not answered for ", bench.address());
        let told = bench.times_out_after(ms);
        told.says(&[&says, "(1 attempt)", "slow, frozen or cut off", "it may have been written"])
    });
}

/// A frozen broker from which the client has turned away by then.
#[test]
fn the_leader_did_not_answer_in_time() {
    given_time(FIRST_MS, |ms| {
        let bench = Bench::new(ms, &[("request.timeout.ms", &(ms / 2).to_string())]);
        bench.cluster.set_broker(1, true, true, 0, 0).unwrap();
        let named = bench.times_out();
        let says = ["Produce was not answered within ", &bench.address(), "slow, frozen or cut"];
        let failure = named.is(NotConnected, true, &says)?;
        let error = failure.network_error.to_str().unwrap();
        assert!(error.contains("Produce was not answered within "), "{error}");
        Ok(())
    });
}

#[test]
fn the_leader_throttles() {
    given_time(FIRST_MS, |ms| {
        let bench = Bench::new(ms, &[]);
        bench.cluster.set_broker(1, true, false, 0, 100_000).unwrap();
        bench.producer.send(&to(1, b"x", 2)).unwrap();
        bench.outcomes.wait_for(3);
        let named = bench.times_out();
        let says = format!("{}, throttled this client, for another ", bench.address());
        let failure = named.is(Queued, false, &[&says, "producer_byte_rate"])?;
        assert_eq!(failure.attempts, 0);
        let (_, rest) = named.told.0.split_once(&says).unwrap();
        let rest: u32 = rest.split_once(' ').unwrap().0.parse().unwrap();
        assert!((1000..=100_000).contains(&rest), "{}", named.told.0);
        Ok(())
    });
}

#[test]
fn too_few_replicas_are_in_sync() {
    given_time(FIRST_MS, |ms| {
        let bench = Bench::new(ms, &[]);
        bench.cluster.push_errors(PRODUCE, &[NOT_ENOUGH_REPLICAS; 2000]).unwrap();
        let named = bench.times_out();
        let says =
            ["it waited to be sent to ", " again (", "NOT_ENOUGH_REPLICAS", "min.insync.replicas"];
        let failure = named.is(Queued, false, &says)?;
        assert_eq!(failure.broker_status, i32::from(NOT_ENOUGH_REPLICAS));
        so(failure.attempts > 3, format_args!("few attempts: {}", named.told.0))?;
        assert!(named.told.0.contains(&format!("({} attempts)", failure.attempts)));
        about(failure.queued_ms, 0, "queued")?;
        about(failure.in_flight_ms, 0, "since the last request")
    });
}

#[test]
fn the_broker_says_that_it_timed_out() {
    given_time(FIRST_MS, |ms| {
        let bench = Bench::new(ms, &[]);
        bench.cluster.push_errors(PRODUCE, &[REQUEST_TIMED_OUT; 2000]).unwrap();
        let named = bench.times_out();
        let says =
            ["the last answer was REQUEST_TIMED_OUT", "often for slow replicas", " attempts)"];
        let failure = named.is(Queued, true, &says)?;
        assert_eq!(failure.broker_status, i32::from(REQUEST_TIMED_OUT));
        Ok(())
    });
}

#[test]
fn the_connection_breaks_again_and_again() {
    given_time(FIRST_MS, |ms| {
        let bench = Bench::new(ms, &[]);
        bench.cluster.push_errors(PRODUCE, &[CUT; 2000]).unwrap();
        let named = bench.times_out();
        // Between two attempts it is sometimes connected and sometimes not.
        let stage = if named.failure.stage == Queued { Queued } else { NotConnected };
        let says = ["closed the connection", "find out in that broker's log"];
        let failure = named.is(stage, true, &says)?;
        so(failure.attempts > 1, format_args!("few attempts: {}", named.told.0))?;
        let error = failure.network_error.to_str().unwrap();
        assert!(error.contains(&bench.cluster.port(1).unwrap().to_string()), "{error}");
        Ok(())
    });
}

#[test]
fn earlier_batches_of_the_partition_are_not_answered() {
    given_time(FIRST_MS, |ms| {
        let bench = Bench::new(NEVER_MS, &[]);
        bench.cluster.set_broker(1, true, false, 300_000, 0).unwrap();
        bench.sends_ahead(0);
        let says = format!("behind 1 earlier batch of its partition; {} has", bench.address());
        let told = bench.times_out_after(ms);
        told.says(&[&says, "takes less than is sent", "it was not written"])
    });
}

#[test]
fn the_broker_has_all_the_requests_it_may_have() {
    given_time(FIRST_MS, |ms| {
        let settings = [("max.in.flight.requests.per.connection", "1")];
        let bench = Bench::new(NEVER_MS, &settings);
        bench.cluster.set_broker(1, true, false, 300_000, 0).unwrap();
        bench.sends_ahead(1);
        let says = format!("its turn at {}, which has 1 request to answer", bench.address());
        let told = bench.times_out_after(ms);
        told.says(&[&says, "takes less than is sent", "it was not written"])
    });
}

#[test]
fn the_leader_is_no_kafka_listener() {
    given_time(FIRST_MS, |ms| {
        let bench = Bench::cold(ms, &[], Some("127.0.0.2"));
        // Nothing else listens on this host of the loopback network.
        let Ok(listener) = TcpListener::bind(("127.0.0.2", bench.cluster.port(1).unwrap())) else {
            println!("skipped: no second loopback address; a foreign peer is not named");
            return Ok(());
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
        bench.times_out().is(NotConnected, false, &says).map(drop)
    });
}

#[test]
fn a_send_that_gets_no_metadata_says_why() {
    let cluster = cluster(1, 1);
    cluster.set_auto_create(false, 1);
    let (producer, _) = producer(&cluster, &[SETTINGS, &[("max.block.ms", "300")]].concat());
    let unknown = kafka_producer::record::ProducerRecord { topic: "unknown", ..record(b"x", 0) };
    // Each ends after its own time; with the first of them the cluster may not have said so.
    eventually("it is said", || {
        let (error, took) = timed(|| producer.send(&unknown).unwrap_err());
        assert_eq!((error.status, error.flags), (status::TIMED_OUT, RETRIABLE), "{error}");
        assert!(error.message.contains("no metadata within 300 ms"), "{error}");
        assert!(took >= Duration::from_millis(300), "{took:?}");
        error.message.contains("topic \"unknown\" does not exist: create it")
            && took < Duration::from_millis(800)
    });
    cluster.set_broker(1, false, false, 0, 0).unwrap();
    let port = cluster.port(1).unwrap().to_string();
    eventually("that nobody is there is said", || {
        let error = producer.send(&record(b"x", 1)).unwrap_err();
        error.message.contains("refused") && error.message.contains(&port)
    });
}

type Fault = fn(&MockCluster);

#[test]
fn a_send_that_gets_no_memory_says_what_holds_it() {
    let settings = [("buffer.memory", "4096"), ("max.block.ms", "300")];
    let cases: [(Fault, &str); 3] = [
        (
            |cluster| cluster.set_broker(1, true, false, 300_000, 0).unwrap(),
            "it waited behind 1 earlier batch of its partition; node 1 (127.0.0.1:",
        ),
        (|cluster| cluster.set_leader("t", 0, -1).unwrap(), "the partition had no leader"),
        (
            |cluster| cluster.set_broker(1, false, false, 0, 0).unwrap(),
            "its leader, node 1 (127.0.0.1:",
        ),
    ];
    for (fault, says) in cases {
        // Else the requests' end changes what holds it.
        let bench = Bench::new(NEVER_MS, &settings);
        fault(&bench.cluster);
        let mut tags = 100..;
        // Others of them may be told before the last one knows.
        eventually("it is said", || {
            let send = |tag| bench.producer.send(&to(0, &[1; 1000], tag)).err();
            let error = tags.find_map(send).unwrap();
            assert_eq!((error.status, error.flags), (status::BUFFER_FULL, RETRIABLE), "{error}");
            assert!(error.message.contains("none was freed within 300 ms while "), "{error}");
            error.message.contains(says)
        });
    }
}
