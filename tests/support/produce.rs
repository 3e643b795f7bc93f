//! A producer against the embedded cluster: what became of each record, and waits that end.
#![allow(
    dead_code,
    clippy::missing_panics_doc,
    reason = "each test takes what it needs; a helper of tests panics"
)]
#![expect(clippy::unwrap_used, reason = "a test may panic, in helpers too")]

use kafka_producer::clock::{Clock, Instant};
use kafka_producer::config::ProducerConfig;
use kafka_producer::delivery::{Delivery, DeliveryMode, DeliverySink, Failure, Stage};
use kafka_producer::error;
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::{Options, Producer, Timeout};
use kafka_producer::record::ProducerRecord;
use kafka_producer::sync::{Latch, Signal};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The API key of Produce.
pub const PRODUCE: i16 = 0;
/// The API key of Metadata.
pub const METADATA: i16 = 3;
/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The same for calls of the producer's.
pub const LONG: Timeout = Timeout::After(PATIENCE);

/// Settings under which nothing lingers, and what failed is tried again after so many milliseconds,
/// up to 50.
pub const fn quick(backoff_ms: &'static str) -> [(&'static str, &'static str); 5] {
    [
        ("linger.ms", "0"),
        ("retry.backoff.ms", backoff_ms),
        ("retry.backoff.max.ms", "50"),
        ("reconnect.backoff.ms", backoff_ms),
        ("reconnect.backoff.max.ms", "50"),
    ]
}

/// What a record is told depends on what was seen when its time is up, and on a busy machine that
/// may be little: such a test is made with a short time first, and from the start with more time as
/// long as it finds something else. The last word counts.
pub fn given_time(first_ms: u32, attempt: impl Fn(u32) -> Result<(), String>) {
    let mut ms = first_ms;
    while let Err(wrong) = attempt(ms) {
        assert!(ms < first_ms * 16, "given {ms} ms: {wrong}");
        ms *= 4;
    }
}

/// For [`given_time`]: what is so if there was enough of it.
pub fn so(holds: bool, told: impl Display) -> Result<(), String> {
    if holds { Ok(()) } else { Err(told.to_string()) }
}

/// What a callback stays behind until it is opened, or patience ends.
#[derive(Default)]
pub struct Gate {
    open: AtomicBool,
    entered: AtomicBool,
    signal: Signal,
}

impl Gate {
    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.signal.notify();
    }

    /// Whether it was opened.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Whether anybody has come to it.
    pub fn is_entered(&self) -> bool {
        self.entered.load(Ordering::Acquire)
    }

    /// Waits until it is open.
    pub fn pass(&self) {
        self.entered.store(true, Ordering::Release);
        let clock = Clock::system();
        let deadline = clock.now().after(PATIENCE);
        loop {
            let seen = self.signal.generation();
            if self.is_open() || !self.signal.wait(seen, &clock, deadline) {
                return;
            }
        }
    }
}

/// What became of a record.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub status: i32,
    pub flags: u32,
    pub partition: i32,
    pub offset: i64,
    pub stage: Option<Stage>,
    pub attempts: i32,
    pub message: String,
    /// The whole of it; `None` on success.
    pub failure: Option<Box<Failure>>,
}

/// What became of each tag; a second outcome for one panics (in the callback, so it is noted too).
#[derive(Default)]
pub struct Outcomes {
    outcomes: Mutex<BTreeMap<u64, Outcome>>,
    twice: Mutex<Vec<u64>>,
    signal: Signal,
}

impl Outcomes {
    /// All of them so far.
    pub fn get(&self) -> MutexGuard<'_, BTreeMap<u64, Outcome>> {
        assert_eq!(*lock(&self.twice), [], "tags that were reported twice");
        lock(&self.outcomes)
    }

    /// The outcome of one tag.
    pub fn of(&self, tag: u64) -> Outcome {
        self.get().get(&tag).cloned().unwrap()
    }

    /// Begins anew: tags may come again.
    pub fn forget(&self) {
        lock(&self.outcomes).clear();
    }

    /// Waits until there are so many.
    pub fn wait_for(&self, count: usize) {
        let clock = Clock::system();
        let deadline = clock.now().after(PATIENCE);
        loop {
            let seen = self.signal.generation();
            let now = self.get().len();
            if now >= count {
                return;
            }
            assert!(self.signal.wait(seen, &clock, deadline), "{now} outcomes, not {count}");
        }
    }

    /// Takes deliveries, wherever they come from.
    pub fn take(&self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            let failure = delivery.failure.as_ref();
            for (index, tag) in (0..).zip(delivery.tags()) {
                let known = delivery.base_offset >= 0;
                let outcome = Outcome {
                    status: delivery.status,
                    flags: delivery.flags,
                    partition: delivery.partition,
                    offset: if known { delivery.base_offset + index } else { -1 },
                    stage: failure.map(|failure| failure.stage),
                    attempts: failure.map_or(0, |failure| failure.attempts),
                    message: failure
                        .map_or(String::new(), |failure| failure.message.to_string_lossy().into()),
                    failure: delivery.failure.clone(),
                };
                if lock(&self.outcomes).insert(*tag, outcome).is_some() {
                    lock(&self.twice).push(*tag);
                }
            }
        }
        self.signal.notify();
    }
}

impl DeliverySink for Outcomes {
    fn deliver(&self, deliveries: &[Delivery]) {
        self.take(deliveries);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A configuration for this cluster.
pub fn config(cluster: &MockCluster, settings: &[(&str, &str)]) -> ProducerConfig {
    let mut config = ProducerConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).unwrap();
    for (key, value) in settings {
        config.set(key, value).unwrap();
    }
    config
}

/// A producer with a delivery callback.
pub fn producer(cluster: &MockCluster, settings: &[(&str, &str)]) -> (Producer, Arc<Outcomes>) {
    let outcomes = Arc::new(Outcomes::default());
    let delivery = DeliveryMode::Callback(Arc::clone(&outcomes) as _);
    let options = Options { delivery, ..Options::default() };
    (Producer::new(&config(cluster, settings), options).unwrap(), outcomes)
}

/// A producer in poll mode.
pub fn polled(cluster: &MockCluster, settings: &[(&str, &str)]) -> Producer {
    let options = Options { delivery: DeliveryMode::Poll, ..Options::default() };
    Producer::new(&config(cluster, settings), options).unwrap()
}

/// A cluster with one topic "t".
pub fn cluster(brokers: i32, partitions: i32) -> MockCluster {
    let cluster = MockCluster::new(brokers).unwrap();
    cluster.create_topic("t", partitions).unwrap();
    cluster
}

/// A record of "t" without key.
pub fn record(value: &[u8], tag: u64) -> ProducerRecord<'_> {
    let (topic, partition, key, timestamp_ms) = ("t", None, None, None);
    let (headers, timeout_ms, value) = (&[], 0, Some(value));
    ProducerRecord {
        topic,
        partition,
        key,
        value,
        headers,
        timestamp_ms,
        tag,
        timeout_ms,
        as_is: false,
    }
}

/// The same for a partition.
pub fn to(partition: i32, value: &[u8], tag: u64) -> ProducerRecord<'_> {
    ProducerRecord { partition: Some(partition), ..record(value, tag) }
}

/// Waits until something is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let (clock, never) = (Clock::system(), Signal::default());
    let deadline = clock.now().after(PATIENCE);
    while !is_so() {
        assert!(clock.now() < deadline, "{what}: not within {PATIENCE:?}");
        let pause = clock.now().after(Duration::from_millis(1));
        never.wait(never.generation(), &clock, pause);
    }
}

/// What holds only while every thread gets its turn in time is tried in several rounds, each from
/// the start: a busy machine may have some of them. One round is enough.
pub fn in_one_of_several_rounds(what: &str, mut holds: impl FnMut() -> bool) {
    assert!((0..8).any(|_| holds()), "{what}: in none of the rounds");
}

/// A port of this machine where nobody listens, and where nobody else can while this lives.
pub struct Deaf {
    socket: Socket,
}

impl Deaf {
    pub fn new() -> Deaf {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Deaf { socket }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.socket.local_addr().unwrap().as_socket().unwrap().to_string()
    }
}

/// How long something takes.
pub fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let clock = Clock::system();
    let began = clock.now();
    let result = f();
    (result, clock.now().since(began))
}

/// The same beside two threads that do nothing but wait as long and then hand on to each other, as
/// the library's threads do: how much later it is over than `timeout`, beyond what the machine adds
/// to those. A call that does more meets a busy machine more often than they.
pub fn lateness<T>(timeout: Duration, f: impl FnOnce() -> T) -> (T, Duration, Duration) {
    const HANDOVERS: usize = 4;
    const MORE_OFTEN: u32 = 10;
    let (clock, never) = (Clock::system(), Signal::default());
    let handovers: [[Latch; 2]; HANDOVERS] = Default::default();
    let begin = Barrier::new(3);
    std::thread::scope(|scope| {
        let machine = scope.spawn(|| {
            begin.wait();
            let deadline = clock.now().after(timeout);
            never.wait(never.generation(), &clock, deadline);
            for [there, back] in &handovers {
                there.set();
                back.wait(&clock, Instant::NEVER);
            }
            clock.now().since(deadline)
        });
        scope.spawn(|| {
            begin.wait();
            for [there, back] in &handovers {
                there.wait(&clock, Instant::NEVER);
                back.set();
            }
        });
        begin.wait();
        let (result, took) = timed(f);
        let machine = machine.join().unwrap() * MORE_OFTEN;
        (result, took, took.saturating_sub(timeout).saturating_sub(machine))
    })
}

/// Lets time pass with nothing to do: for what must not happen meanwhile.
pub fn let_pass(time: Duration) {
    let (clock, never) = (Clock::system(), Signal::default());
    never.wait(never.generation(), &clock, clock.now().after(time));
}

/// The tags in a partition's log, batch by batch.
pub fn logged(cluster: &MockCluster, partition: i32) -> Vec<Vec<u64>> {
    let mut batches: Vec<Vec<u64>> = Vec::new();
    let starts: Vec<i64> =
        cluster.batches("t", partition).iter().map(|batch| batch.base_offset).collect();
    for read in cluster.records("t", partition) {
        let tag = u64::from_be_bytes(read.value.as_deref().unwrap()[..8].try_into().unwrap());
        if starts.contains(&read.offset) {
            batches.push(Vec::new());
        }
        batches.last_mut().unwrap().push(tag);
    }
    batches
}

/// Every log holds its tags in the order in which they were sent; a batch that was written more
/// than once (its outcome was not known) repeats before the next one begins. All that was
/// acknowledged lies where its delivery says. Gives the tags.
pub fn assert_order(cluster: &MockCluster, partitions: i32, outcomes: &Outcomes) -> Vec<u64> {
    let mut all = Vec::new();
    for partition in 0..partitions {
        let mut last: Vec<u64> = Vec::new();
        for batch in logged(cluster, partition) {
            assert!(batch.is_sorted(), "{batch:?}");
            if batch != last {
                assert!(
                    batch.first() > last.last(),
                    "partition {partition}: {batch:?} after {last:?}"
                );
                all.extend(&batch);
            }
            last = batch;
        }
    }
    assert_places(cluster, outcomes);
    all
}

/// All that was acknowledged lies where its delivery says, if it says where.
pub fn assert_places(cluster: &MockCluster, outcomes: &Outcomes) {
    for (tag, outcome) in outcomes.get().iter().filter(|(_, o)| o.status == 0 && o.offset >= 0) {
        let read = cluster.read("t", outcome.partition, outcome.offset).unwrap();
        assert_eq!(read.value.as_deref().map(|value| &value[..8]), Some(&tag.to_be_bytes()[..]));
    }
}

/// At a quiet point: every record has an outcome, and every byte came back. The last ones do so
/// when the callback that was shown the records has returned.
pub fn assert_settled(producer: &Producer) {
    eventually("every byte is back", || producer.counters().buffered_bytes == 0);
    let counters = producer.counters();
    assert_eq!(counters.accepted, counters.acknowledged + counters.failed, "{counters:?}");
    assert_eq!((counters.pending, counters.buffered_bytes), (0, 0), "{counters:?}");
}

/// On a busy machine the callback may still have what close gave it when that returns.
pub fn handed_over(producer: &Producer, closed: error::Result<()>) {
    if let Err(refused) = closed {
        assert_eq!(refused.status, error::status::TIMED_OUT, "{refused}");
        producer.close(LONG).1.unwrap();
    }
}
