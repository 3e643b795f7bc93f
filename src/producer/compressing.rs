//! Who compresses, and that nobody waits for those who should and do not.

#![cfg(all(feature = "mock", feature = "lz4", not(loom)))]

use super::threads::{self, Plugged};
use super::{Producer, Timeout};
use crate::accumulator::seal_queue::Who;
use crate::config::ProducerConfig;
use crate::delivery::{Delivery, DeliveryMode, DeliverySink};
use crate::log::Logger;
use crate::mock::MockCluster;
use crate::record::ProducerRecord;
use crate::sync::{Helpers, Latch, Signal, SystemHelpers, lock};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

const LONG: Timeout = Timeout::After(Duration::from_secs(60));
/// So many records are sent at most while no helper gets its turn.
const MOST: u64 = 1 << 20;
const VALUE: &[u8] = b"a value that shrinks, a value that shrinks, a value that shrinks";

fn to(partition: i32, tag: u64) -> ProducerRecord<'static> {
    ProducerRecord {
        topic: "t",
        partition: Some(partition),
        key: None,
        value: Some(VALUE),
        headers: &[],
        timestamp_ms: None,
        timeout_ms: 0,
        tag,
        as_is: false,
    }
}

fn cluster() -> MockCluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 4).unwrap();
    cluster
}

fn start(
    cluster: &MockCluster,
    settings: &[(&str, &str)],
    mode: DeliveryMode,
    helpers: Arc<dyn Helpers>,
) -> Producer {
    let mut config = ProducerConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).unwrap();
    config.set("compression.type", "lz4").unwrap();
    config.set("batch.size", "4096").unwrap();
    for (key, value) in settings {
        config.set(key, value).unwrap();
    }
    let settings = config.settings().unwrap();
    let plugged = Plugged { helpers: Some(helpers), ..Plugged::default() };
    threads::start(settings, mode, plugged, None, Arc::new(Signal::default()), Logger::none())
        .unwrap()
}

/// Sends from inside the callback.
#[derive(Default)]
struct Sends {
    producer: Mutex<Weak<Producer>>,
    count: AtomicU64,
}

impl DeliverySink for Sends {
    fn deliver(&self, deliveries: &[Delivery]) {
        let producer = lock(&self.producer).upgrade();
        for (tag, partition) in deliveries.iter().flat_map(|delivery| delivery.tags()).zip(0..) {
            if let Some(producer) = &producer
                && *tag < 1 << 20
                && producer.send(&to(partition % 4, tag | 1 << 20)).is_ok()
            {
                self.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Whether a helper has compressed anything: on a busy machine that may take it some time.
fn helped(producer: &Producer) -> bool {
    let ran = producer.shared.accumulator.seal_queue().ran();
    ran.iter().any(|(who, _)| *who == Who::Helper)
}

/// Who compressed must have been one of those who may, and on its own kind of thread.
fn check_who(producer: &Producer) {
    assert!(helped(producer));
    let ran = producer.shared.accumulator.seal_queue().ran();
    for (who, thread) in &ran {
        let name = thread.as_deref().unwrap_or_default();
        let expected = match who {
            Who::Helper => "kafka-compress",
            Who::Network => "kafka-network",
            Who::Caller => "sends",
        };
        assert_eq!(name, expected, "{who:?}");
    }
}

#[test]
fn a_try_send_and_a_callback_never_compress() {
    let (cluster, sink) = (cluster(), Arc::new(Sends::default()));
    let settings = [("buffer.memory", "65536"), ("compression.threads", "1")];
    let mode = DeliveryMode::Callback(Arc::clone(&sink) as Arc<dyn DeliverySink>);
    let producer = Arc::new(start(&cluster, &settings, mode, Arc::new(SystemHelpers)));
    *lock(&sink.producer) = Arc::downgrade(&producer);
    producer.partitions_for("t", LONG).unwrap();
    std::thread::scope(|scope| {
        let run = |name: &str, send: fn(&Producer, u64)| {
            let producer = &producer;
            let name = name.to_owned();
            let life = move || {
                let more = (4000..MOST).take_while(|_| !helped(producer));
                (0..4000).chain(more).for_each(|tag| send(producer, tag));
            };
            Builder::new().name(name).spawn_scoped(scope, life).unwrap();
        };
        run("sends", |producer, tag| producer.send(&to((tag % 4) as i32, tag)).unwrap());
        run("tries", |producer, tag| {
            let _ = producer.try_send(&to((tag % 4) as i32, tag));
        });
    });
    producer.flush(LONG).unwrap();
    assert!(sink.count.load(Ordering::Relaxed) > 0);
    check_who(&producer);
}

#[test]
fn a_poll_never_compresses() {
    let cluster = cluster();
    let producer = start(&cluster, &[], DeliveryMode::Poll, Arc::new(SystemHelpers));
    producer.partitions_for("t", LONG).unwrap();
    let (mut sent, mut reported, mut polled) = (0, 0, Vec::new());
    while reported < 3000 || (sent < MOST && !helped(&producer)) {
        for _ in 0..50 {
            if (sent < 3000 || !helped(&producer))
                && producer.try_send(&to((sent % 4) as i32, 1)).is_ok()
            {
                sent += 1;
            }
        }
        producer.poll(1000, Timeout::After(Duration::from_millis(1)), &mut polled).unwrap();
        reported += polled.drain(..).map(|delivery| delivery.count()).sum::<usize>();
    }
    check_who(&producer);
}

/// Threads that are never scheduled.
struct Dead;

impl Helpers for Dead {
    fn start(&self, _: &'static str, life: Box<dyn FnOnce() + Send>) -> Started {
        std::mem::forget(life);
        Ok(None)
    }
}

type Started = io::Result<Option<JoinHandle<()>>>;

/// Threads that stop in the middle of their first batch, until they are let go.
#[derive(Default)]
struct Stuck {
    entered: Latch,
    released: Latch,
}

impl Helpers for Stuck {
    fn start(&self, name: &'static str, life: Box<dyn FnOnce() + Send>) -> Started {
        SystemHelpers.start(name, life)
    }

    fn at_work(&self) {
        self.entered.set();
        self.released.wait(&crate::clock::Clock::system(), crate::clock::Instant::NEVER);
    }
}

/// Fills the seal queue, and flushes. Everything is in the log, in order.
fn flushes(cluster: &MockCluster, producer: &Producer) {
    producer.partitions_for("t", LONG).unwrap();
    for tag in 0..1000 {
        producer.send(&to((tag % 4) as i32, tag)).unwrap();
    }
    producer.flush(LONG).unwrap();
    let count: usize = (0..4).map(|partition| cluster.records("t", partition).len()).sum();
    assert_eq!(count, 1000);
    assert_eq!(producer.counters().acknowledged, 1000);
}

#[test]
fn a_flush_does_not_wait_for_helpers_that_never_run() {
    let cluster = cluster();
    let producer = start(&cluster, &[], DeliveryMode::None, Arc::new(Dead));
    flushes(&cluster, &producer);
    assert_eq!(producer.counters().buffered_bytes, 0);
    // Its drop would wait for that thread.
    let shared = Arc::clone(&producer.shared);
    assert!(producer.close(Timeout::After(Duration::ZERO)).1.is_ok());
    std::mem::forget(producer);
    drop(shared);
}

#[test]
fn a_flush_does_not_wait_for_helpers_that_hang() {
    let (cluster, helpers) = (cluster(), Arc::new(Stuck::default()));
    let shared = Arc::clone(&helpers) as Arc<dyn Helpers>;
    let producer = start(&cluster, &[("compression.threads", "2")], DeliveryMode::None, shared);
    flushes(&cluster, &producer);
    helpers.released.set();
    drop(producer);
    assert_eq!(cluster.contradictions(), [""; 0]);
}
