//! Loom's models of who waits for outcomes: every order of the threads' steps is tried. See the
//! accumulator's.

use super::{Delivery, DeliveryMode, DeliveryQueue, DeliverySink};
use crate::accumulator::RecordAccumulator;
use crate::accumulator::append::Appended;
use crate::accumulator::batch::{Alone, Remains};
use crate::clock::{Clock, Instant, Reading};
use crate::config::ProducerConfig;
use crate::error::status;
use crate::record::ProducerRecord;
use crate::sync::{Wake, lock};
use loom::thread;
use std::sync::{Arc, Mutex};

/// Tries every order in which threads are interrupted at most so often.
fn model(interruptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.max_branches = 20_000;
    builder.check(run);
}

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// A callback that notes tags.
#[derive(Default)]
struct Sink(Mutex<Vec<u64>>);

impl DeliverySink for Sink {
    fn deliver(&self, deliveries: &[Delivery]) {
        lock(&self.0).extend(deliveries.iter().flat_map(Delivery::tags));
    }
}

/// A queue, and fronts that make batches for it.
struct Bench {
    accumulator: RecordAccumulator,
    queue: Arc<DeliveryQueue>,
    clock: Clock,
}

impl Bench {
    fn new(mode: DeliveryMode) -> Bench {
        let mut config = ProducerConfig::new();
        config.set("bootstrap.servers", "nowhere:1").unwrap();
        let settings = config.settings().unwrap();
        let accumulator = RecordAccumulator::for_tests(&settings, Arc::new(Nobody));
        let cuts = Arc::clone(accumulator.cuts());
        let queue = DeliveryQueue::new(mode, None, None, Arc::default(), cuts).unwrap();
        Bench { accumulator, queue: Arc::new(queue), clock: Clock::system() }
    }

    /// Of a batch of one record, sent by a call of this number if it is not 0.
    fn delivery(&self, tag: u64, sync_id: u64) -> Delivery {
        let partition = self.accumulator.add_partition(&"t".into(), 0, 1);
        let record = ProducerRecord {
            topic: "t",
            partition: None,
            key: None,
            value: Some(b"value"),
            headers: &[],
            timestamp_ms: None,
            tag,
            timeout_ms: 0,
            as_is: false,
        };
        let reading = Reading { mono: Instant(1), wall_ms: 0 };
        let alone = Alone { sync_id, deadline: Instant::NEVER };
        let appended = self.accumulator.try_append_alone(&partition, &record, reading, alone);
        assert!(matches!(appended, Ok(Appended::Done { .. })));
        let mut batches = Vec::new();
        assert!(partition.try_purge(&mut batches));
        let batch = batches.pop().unwrap();
        Delivery {
            topic: "t".into(),
            partition: 0,
            status: status::OK,
            flags: 0,
            base_offset: 0,
            append_time_ms: -1,
            failure: None,
            remains: Remains::of(batch.body, false),
            cut: batch.cut,
            sync_id,
        }
    }

    /// The network thread: these deliveries, and the end.
    fn network_thread(&self, deliveries: Vec<Delivery>) -> thread::JoinHandle<()> {
        let queue = Arc::clone(&self.queue);
        thread::spawn(move || {
            deliveries.into_iter().for_each(|delivery| queue.push(delivery));
            queue.close();
        })
    }

    fn outstanding(&self) -> u64 {
        self.accumulator.cuts().outstanding_upto(u64::MAX)
    }
}

/// The last of them may come together with the end.
#[test]
fn loom_the_callback_gets_everything_before_the_end() {
    model(3, || {
        let sink = Arc::new(Sink::default());
        let bench = Bench::new(DeliveryMode::Callback(Arc::clone(&sink) as _));
        let network = bench.network_thread(vec![bench.delivery(1, 0), bench.delivery(2, 0)]);
        bench.queue.run(&bench.clock);
        network.join().unwrap();
        assert_eq!((&**lock(&sink.0), bench.outstanding()), (&[1, 2][..], 0));
    });
}

#[test]
fn loom_a_poll_is_woken_by_deliveries_and_by_the_end() {
    model(3, || {
        let bench = Bench::new(DeliveryMode::Poll);
        let network = bench.network_thread(vec![bench.delivery(1, 0), bench.delivery(2, 0)]);
        let mut polled = Vec::new();
        while bench.queue.poll(9, &bench.clock, Instant::NEVER, &mut polled).is_ok() {}
        network.join().unwrap();
        let tags: Vec<u64> = polled.iter().flat_map(Delivery::tags).copied().collect();
        assert_eq!((&*tags, bench.outstanding()), (&[1, 2][..], 0));
    });
}

/// A `try_send` was refused: the next poll is not slept through once it is worth trying again.
#[test]
fn loom_a_nudge_is_not_slept_through() {
    model(4, || {
        let bench = Bench::new(DeliveryMode::Poll);
        bench.queue.want_retry();
        let queue = Arc::clone(&bench.queue);
        let network = thread::spawn(move || queue.nudge());
        bench.queue.poll(9, &bench.clock, Instant::NEVER, &mut Vec::new()).unwrap();
        network.join().unwrap();
    });
}

#[test]
fn loom_a_call_gets_the_outcome_that_it_waits_for() {
    model(4, || {
        let bench = Bench::new(DeliveryMode::None);
        for sync_id in [7, 8] {
            bench.queue.expect_sync(sync_id);
        }
        let network = bench.network_thread(vec![bench.delivery(1, 8), bench.delivery(2, 7)]);
        let outcome = bench.queue.wait_sync(7, &bench.clock, Instant::NEVER);
        assert_eq!(outcome.map(|delivery| delivery.tags().to_vec()), Some(vec![2]));
        network.join().unwrap();
    });
}

/// The callback thread, or the network thread where nobody wants deliveries, ends the wait.
#[test]
fn loom_a_flush_ends_with_the_last_outcome() {
    for called_back in [false, true] {
        model(if called_back { 2 } else { 4 }, move || {
            let mode = match called_back {
                true => DeliveryMode::Callback(Arc::new(Sink::default()) as _),
                false => DeliveryMode::None,
            };
            let bench = Bench::new(mode);
            let network = bench.network_thread(vec![bench.delivery(1, 0), bench.delivery(2, 0)]);
            let queue = Arc::clone(&bench.queue);
            let callback = thread::spawn(move || queue.run(&Clock::system()));
            let cuts = bench.accumulator.cuts();
            let cut = cuts.advance();
            assert!(cuts.wait(cut, &bench.clock, Instant::NEVER));
            assert_eq!(bench.outstanding(), 0);
            network.join().unwrap();
            callback.join().unwrap();
        });
    }
}
