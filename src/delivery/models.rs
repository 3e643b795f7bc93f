//! Loom's models of who waits for outcomes: every order of the threads' steps is tried. See the
//! accumulator's.

use super::testing::Bench;
use super::{Delivery, DeliveryMode, DeliverySink};
use crate::clock::{Clock, Instant};
use crate::error::status;
use crate::sync::lock;
use crate::sync::prim::model;
use loom::thread;
use std::sync::{Arc, Mutex};

/// A callback that notes tags.
#[derive(Default)]
struct Sink(Mutex<Vec<u64>>);

impl DeliverySink for Sink {
    fn deliver(&self, deliveries: &[Delivery]) {
        lock(&self.0).extend(deliveries.iter().flat_map(Delivery::tags));
    }
}

impl Bench {
    /// The network thread: these deliveries, and the end.
    fn network_thread(&self, deliveries: Vec<Delivery>) -> thread::JoinHandle<()> {
        let queue = Arc::clone(&self.queue);
        thread::spawn(move || {
            deliveries.into_iter().for_each(|delivery| queue.push(delivery));
            queue.close();
        })
    }
}

/// The last of them may come together with the end.
#[test]
fn loom_the_callback_gets_everything_before_the_end() {
    model(3, || {
        let sink = Arc::new(Sink::default());
        let bench = Bench::new(DeliveryMode::Callback(Arc::clone(&sink) as _));
        let network = bench.network_thread(vec![
            bench.delivery(1, status::OK, 0),
            bench.delivery(2, status::OK, 0),
        ]);
        bench.queue.run(&bench.clock);
        network.join().unwrap();
        assert_eq!((&**lock(&sink.0), bench.outstanding()), (&[1, 2][..], 0));
    });
}

#[test]
fn loom_a_poll_is_woken_by_deliveries_and_by_the_end() {
    model(3, || {
        let bench = Bench::new(DeliveryMode::Poll);
        let network = bench.network_thread(vec![
            bench.delivery(1, status::OK, 0),
            bench.delivery(2, status::OK, 0),
        ]);
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
        let network = bench.network_thread(vec![
            bench.delivery(1, status::OK, 8),
            bench.delivery(2, status::OK, 7),
        ]);
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
            let network = bench.network_thread(vec![
                bench.delivery(1, status::OK, 0),
                bench.delivery(2, status::OK, 0),
            ]);
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
