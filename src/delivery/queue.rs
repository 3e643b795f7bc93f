//! The queue behind both ways to get deliveries, and the callback thread's loop.
//!
//! Written by the network thread (and by `send` for what it refuses late), read by one reader: the
//! callback thread, or the thread in `producer_poll()`. A lock guards the queue; nothing of the
//! user's runs under it. A batch counts as done for `flush` when its delivery callback has
//! returned; in poll mode when it waits for the poll.

use super::{Delivery, DeliverySink, Failure, Stage, reentry};
use crate::accumulator::cuts::Cuts;
use crate::accumulator::front::Partition;
use crate::accumulator::outgoing::{Finished, LastResort};
use crate::clock::{Clock, Instant};
use crate::defects::{self, Defect};
use crate::error::{Error, FATAL, MAYBE_PERSISTED, Result, status};
use crate::log::LogQueue;
use crate::sync::prim::{AtomicBool, Mutex, guard};
use crate::sync::trip::trip;
use crate::sync::{Cause, Readiness, Signal};
use foldhash::fast::FixedState;
use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many deliveries one callback gets at most.
const CALLBACK_BATCH: usize = 64;
/// How many bytes of compressed records one callback or poll may read, if it is more than one
/// delivery: what it reads is decompressed into memory that nothing else counts.
const UNPACKED_BATCH: usize = 8 << 20;

/// Where deliveries go.
#[derive(Clone, Default)]
pub enum DeliveryMode {
    /// Nowhere: they are counted and dropped.
    #[default]
    None,
    /// To a callback on the callback thread.
    Callback(Arc<dyn DeliverySink>),
    /// To whoever polls.
    Poll,
}

struct State {
    queue: VecDeque<Delivery>,
    /// Nothing will be pushed any more; the reader drains and ends.
    closed: bool,
    /// Memory or metadata that a `try_send` missed has come: the descriptor is readable once
    /// without deliveries.
    nudged: bool,
}

/// See the module's comment.
pub struct DeliveryQueue {
    mode: DeliveryMode,
    /// Who sees every delivery before the user: the interceptors.
    watch: Option<Arc<dyn DeliverySink>>,
    state: Mutex<State>,
    /// What a polling event loop waits on.
    readiness: Option<Arc<Readiness>>,
    /// Moves when there is something for the reader, shared with the log's queue.
    signal: Arc<Signal>,
    logs: Option<Arc<LogQueue>>,
    cuts: Arc<Cuts>,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    sync: Mutex<HashMap<u64, Option<Delivery>, FixedState>>,
    sync_signal: Signal,
    retry_wanted: AtomicBool,
}

impl DeliveryQueue {
    /// A queue for one producer. `watch` sees every delivery first; `signal` also moves when `logs`
    /// has lines.
    pub fn new(
        mode: DeliveryMode,
        watch: Option<Arc<dyn DeliverySink>>,
        logs: Option<Arc<LogQueue>>,
        signal: Arc<Signal>,
        cuts: Arc<Cuts>,
    ) -> Result<DeliveryQueue> {
        let readiness = match mode {
            DeliveryMode::Poll => {
                let readiness = Readiness::new().map_err(|error| {
                    let message = format!(
                        "no descriptor for producer_poll_fd(): {error}; raise the limit (ulimit -n)"
                    );
                    Error::new(status::INVALID_STATE, message)
                })?;
                Some(Arc::new(readiness))
            }
            DeliveryMode::None | DeliveryMode::Callback(_) => None,
        };
        if let (Some(readiness), Some(logs)) = (&readiness, &logs) {
            logs.polled_by(Arc::clone(readiness));
        }
        let state = State { queue: VecDeque::new(), closed: false, nudged: false };
        Ok(DeliveryQueue {
            mode,
            watch,
            state: Mutex::new(state),
            readiness,
            signal,
            logs,
            cuts,
            acknowledged: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            sync: Mutex::new(HashMap::default()),
            sync_signal: Signal::default(),
            retry_wanted: AtomicBool::new(false),
        })
    }

    /// Whether there is anything a callback thread would have to do.
    pub fn needs_callback_thread(&self) -> bool {
        match self.mode {
            DeliveryMode::Callback(_) => true,
            DeliveryMode::None => self.logs.is_some() || self.watch.is_some(),
            DeliveryMode::Poll => false,
        }
    }

    /// Whether deliveries are polled for.
    pub fn is_polled(&self) -> bool {
        matches!(self.mode, DeliveryMode::Poll)
    }

    /// Reports an outcome. Any thread; never blocks on user code.
    pub fn push(&self, delivery: Delivery) {
        let count = delivery.count() as u64;
        if count == 0 {
            // A piece of a batch all of whose records had reached their deadlines before.
            return self.cuts.completed(delivery.cut);
        }
        let counter = if delivery.status == status::OK { &self.acknowledged } else { &self.failed };
        let cut = delivery.cut;
        if delivery.sync_id != 0 {
            counter.fetch_add(count, Ordering::Release);
            // First: when the call returns, a flush that may not wait finds the record done.
            self.cuts.completed(cut);
            if let Some(slot) = guard(&self.sync).get_mut(&delivery.sync_id) {
                *slot = Some(delivery);
            }
            self.sync_signal.notify();
            return;
        }
        match self.mode {
            DeliveryMode::None if self.watch.is_none() => {
                counter.fetch_add(count, Ordering::Release);
                drop(delivery);
                self.cuts.completed(cut);
            }
            DeliveryMode::None | DeliveryMode::Callback(_) => {
                let first = {
                    let mut state = guard(&self.state);
                    counter.fetch_add(count, Ordering::Release);
                    state.queue.push_back(delivery);
                    state.queue.len() == 1
                };
                // The reader takes everything there is before it waits again.
                if first {
                    self.signal.notify();
                }
            }
            DeliveryMode::Poll => {
                {
                    let mut state = guard(&self.state);
                    counter.fetch_add(count, Ordering::Release);
                    state.queue.push_back(delivery);
                    self.tell(true);
                }
                self.cuts.completed(cut);
                self.signal.notify();
            }
        }
    }

    /// Records acknowledged and failed so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.acknowledged.load(Ordering::Acquire), self.failed.load(Ordering::Acquire))
    }

    /// Deliveries that wait for `producer_poll()`.
    pub fn waiting(&self) -> usize {
        guard(&self.state).queue.len()
    }

    /// Nothing will be pushed any more: the reader drains what is there, then ends.
    pub fn close(&self) {
        let mut state = guard(&self.state);
        state.closed = true;
        self.tell(true);
        drop(state);
        self.signal.notify();
    }

    /// Tells an event loop whether there is something to poll for; under the lock of `state`.
    fn tell(&self, there: bool) {
        if let Some(readiness) = &self.readiness {
            readiness.set(Cause::Deliveries, there);
        }
    }

    /// A `try_send` was refused for lack of memory or metadata: the next [`DeliveryQueue::nudge`]
    /// is for it.
    pub fn want_retry(&self) {
        self.retry_wanted.store(true, Ordering::Release);
    }

    /// Makes the descriptor readable if a refused `try_send` may be worth trying again.
    pub fn nudge(&self) {
        if !self.retry_wanted.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut state = guard(&self.state);
        state.nudged = true;
        if self.is_polled() {
            self.tell(true);
            drop(state);
            self.signal.notify();
        }
    }

    /// The descriptor to wait on, in poll mode.
    pub fn fd(&self) -> Option<RawFd> {
        self.readiness.as_deref().map(Readiness::fd)
    }

    /// Moves up to `capacity` deliveries to `out`; waits until `deadline` for the first. `CLOSED`
    /// past the last one.
    pub fn poll(
        &self,
        capacity: usize,
        clock: &Clock,
        deadline: Instant,
        out: &mut Vec<Delivery>,
    ) -> Result<()> {
        if !self.is_polled() {
            return Err(Error::new(
                status::INVALID_STATE,
                "polling is not enabled: call producer_config_enable_poll() before producer_new()",
            ));
        }
        let before = out.len();
        let result = self.poll_queue(capacity, clock, deadline, out);
        self.show(out.get(before..).unwrap_or_default());
        result
    }

    fn poll_queue(
        &self,
        capacity: usize,
        clock: &Clock,
        deadline: Instant,
        out: &mut Vec<Delivery>,
    ) -> Result<()> {
        loop {
            let seen = self.signal.generation();
            self.run_logs();
            {
                let mut state = guard(&self.state);
                let count = at_once(&state.queue, capacity);
                out.extend(state.queue.drain(..count));
                let (more, closed, nudged) = (!state.queue.is_empty(), state.closed, state.nudged);
                state.nudged = false;
                self.tell(more || closed);
                if count > 0 || nudged || capacity == 0 {
                    return Ok(());
                }
                if closed {
                    return Err(Error::new(
                        status::CLOSED,
                        "the producer is closed and its last delivery was polled; call \
                        producer_free()",
                    ));
                }
            }
            if reentry::inside() || !self.signal.wait(seen, clock, deadline) {
                return Ok(());
            }
        }
    }

    /// One step of the callback thread: a batch of deliveries and what was logged. False when there
    /// was nothing.
    pub fn step(&self) -> bool {
        trip("step");
        let logged = self.run_logs();
        let sink = match &self.mode {
            DeliveryMode::Callback(sink) => Some(sink),
            DeliveryMode::None => None,
            DeliveryMode::Poll => return logged,
        };
        let batch: Vec<Delivery> = {
            let mut state = guard(&self.state);
            let count = at_once(&state.queue, CALLBACK_BATCH);
            state.queue.drain(..count).collect()
        };
        if batch.is_empty() {
            return logged;
        }
        self.show(&batch);
        if let Some(sink) = sink {
            let _inside = reentry::enter();
            // A callback of Rust's may panic; its deliveries were reported all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| sink.deliver(&batch)));
            if defects::on(Defect::ReportTwice) {
                sink.deliver(&batch);
            }
        }
        for delivery in batch {
            let cut = delivery.cut;
            drop(delivery);
            self.cuts.completed(cut);
        }
        true
    }

    /// Shows deliveries to who sees them before the user.
    fn show(&self, deliveries: &[Delivery]) {
        if let Some(watch) = &self.watch
            && !deliveries.is_empty()
        {
            let _inside = reentry::enter();
            watch.deliver(deliveries);
        }
    }

    /// Drops the deliveries that nobody has taken and nobody will.
    pub fn discard(&self) {
        let left = std::mem::take(&mut guard(&self.state).queue);
        for delivery in left {
            self.show(std::slice::from_ref(&delivery));
            let cut = delivery.cut;
            drop(delivery);
            if !self.is_polled() {
                self.cuts.completed(cut);
            }
        }
    }

    fn run_logs(&self) -> bool {
        self.logs.as_ref().is_some_and(|logs| {
            let _inside = reentry::enter();
            logs.run()
        })
    }

    /// The callback thread's loop: until the queue is closed and empty.
    pub fn run(&self, clock: &Clock) {
        loop {
            let seen = self.signal.generation();
            if self.step() {
                continue;
            }
            if self.is_over() {
                // A log line may have come between the step and the end.
                self.run_logs();
                return;
            }
            self.signal.wait(seen, clock, Instant::NEVER);
        }
    }

    /// Whether nothing is left and nothing will come. Both under one lock: a delivery may have come
    /// since a step found nothing, and the close right behind it.
    fn is_over(&self) -> bool {
        let state = guard(&self.state);
        state.closed && state.queue.is_empty()
    }

    /// Announces a `send_sync` call: its delivery will be kept for [`DeliveryQueue::wait_sync`].
    pub fn expect_sync(&self, sync_id: u64) {
        guard(&self.sync).insert(sync_id, None);
    }

    /// Takes back an announcement: the record was refused, or nobody waits for its outcome any
    /// more.
    pub fn forget_sync(&self, sync_id: u64) {
        guard(&self.sync).remove(&sync_id);
    }

    /// Waits for the outcome of an announced record; `None` when `deadline` has passed without one.
    pub fn wait_sync(&self, sync_id: u64, clock: &Clock, deadline: Instant) -> Option<Delivery> {
        let delivery = self.wait_for_sync(sync_id, clock, deadline)?;
        if !defects::on(Defect::AnswerUntold) {
            self.show(std::slice::from_ref(&delivery));
        }
        Some(delivery)
    }

    fn wait_for_sync(&self, sync_id: u64, clock: &Clock, deadline: Instant) -> Option<Delivery> {
        loop {
            let seen = self.sync_signal.generation();
            {
                let mut sync = guard(&self.sync);
                if sync.get(&sync_id).is_some_and(Option::is_some) {
                    return sync.remove(&sync_id).flatten();
                }
            }
            if !self.sync_signal.wait(seen, clock, deadline) {
                return guard(&self.sync).remove(&sync_id).flatten();
            }
        }
    }
}

/// How many deliveries are taken together.
fn at_once(queue: &VecDeque<Delivery>, most: usize) -> usize {
    let mut unpacked = 0;
    let fits = queue.iter().take(most).take_while(|delivery| {
        let bytes = delivery.unpacked_len();
        unpacked += bytes;
        bytes == 0 || unpacked == bytes || unpacked <= UNPACKED_BATCH
    });
    fits.count()
}

impl LastResort for DeliveryQueue {
    fn report(&self, partition: &Partition, rest: Finished, maybe_written: bool) {
        let doubt =
            if maybe_written { "they may have been written" } else { "they were not written" };
        let message = format!(
            "{} records of {}-{} were in the hands of a thread that met a defect: report this; \
            {doubt}",
            rest.body.count(),
            partition.topic,
            partition.index
        );
        let failure = Failure {
            message: CString::new(message).unwrap_or_default(),
            stage: if maybe_written { Stage::InFlight } else { Stage::Queued },
            attempts: 0,
            node: partition.leader(),
            broker_status: status::OK,
            network_error: CString::default(),
            queued_ms: 0,
            in_flight_ms: 0,
        };
        self.push(Delivery {
            status: status::PANIC,
            flags: if maybe_written { FATAL | MAYBE_PERSISTED } else { FATAL },
            failure: Some(Box::new(failure)),
            ..Delivery::new(partition, rest, true)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;
    use crate::log::{Level, LogSink};
    use crate::sync::lock;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    /// Notes tags; asks for more inside, and may panic.
    #[derive(Default)]
    struct Sink {
        tags: Mutex<Vec<Vec<u64>>>,
        inside: AtomicBool,
        panics: AtomicBool,
    }

    impl DeliverySink for Sink {
        fn deliver(&self, deliveries: &[Delivery]) {
            let tags = deliveries.iter().flat_map(|delivery| delivery.tags()).copied().collect();
            lock(&self.tags).push(tags);
            self.inside.store(reentry::inside(), Ordering::Relaxed);
            if self.panics.load(Ordering::Relaxed) {
                std::panic::resume_unwind(Box::new("a callback of Rust's"));
            }
        }
    }

    /// What was logged.
    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl LogSink for Lines {
        fn log(&self, _: Level, _: &'static str, message: String) {
            lock(&self.0).push(message);
        }
    }

    impl Bench {
        fn push(&self, tag: u64) {
            self.queue.push(self.delivery(tag, status::OK, 0));
        }

        fn poll(&self, capacity: usize) -> Result<Vec<u64>> {
            let mut out = Vec::new();
            self.queue.poll(capacity, &self.clock, Instant(0), &mut out)?;
            Ok(out.iter().flat_map(Delivery::tags).copied().collect())
        }

        fn readable(&self) -> bool {
            self.queue.readiness.as_ref().unwrap().is_readable()
        }
    }

    #[test]
    fn the_descriptor_is_readable_while_deliveries_wait_and_for_ever_after_close() {
        let bench = Bench::new(DeliveryMode::Poll);
        assert!(!bench.readable());
        for tag in 0..3 {
            bench.push(tag);
        }
        assert!(bench.readable());
        assert_eq!(bench.poll(2).unwrap(), [0, 1]);
        assert!(bench.readable(), "one is left");
        assert_eq!(bench.poll(0).unwrap(), [0; 0]);
        assert_eq!(bench.poll(5).unwrap(), [2]);
        assert!(!bench.readable());
        assert_eq!(bench.poll(5).unwrap(), [0; 0]);
        bench.push(3);
        bench.queue.close();
        assert_eq!(bench.poll(5).unwrap(), [3]);
        for _ in 0..2 {
            assert!(bench.readable());
            assert_eq!(bench.poll(5).unwrap_err().status, status::CLOSED);
        }
    }

    #[test]
    fn the_descriptor_is_readable_while_log_lines_wait() {
        let lines = Arc::new(Lines::default());
        let logs = Arc::new(LogQueue::new(Arc::clone(&lines) as _, Arc::default()));
        let log = |line: &str| logs.log(Level::Warning, "test", line.into());
        log("before");
        let bench = Bench::logged(DeliveryMode::Poll, Some(Arc::clone(&logs)));
        assert!(bench.readable());
        assert_eq!(bench.poll(5).unwrap(), [0; 0]);
        assert!(!bench.readable());
        log("one");
        log("two");
        assert!(bench.readable());
        bench.push(1);
        assert_eq!(bench.poll(5).unwrap(), [1]);
        assert!(!bench.readable(), "both are gone");
        bench.push(2);
        bench.push(3);
        log("three");
        assert_eq!(bench.poll(1).unwrap(), [2]);
        assert!(bench.readable(), "a delivery is left");
        assert_eq!(bench.poll(1).unwrap(), [3]);
        assert!(!bench.readable());
        assert_eq!(*lock(&lines.0), ["before", "one", "two", "three"]);
    }

    #[test]
    fn a_nudge_is_for_who_wanted_it_and_lasts_for_one_poll() {
        let bench = Bench::new(DeliveryMode::Poll);
        bench.queue.nudge();
        assert!(!bench.readable(), "nobody wanted it");
        bench.queue.want_retry();
        assert!(!bench.readable());
        bench.queue.nudge();
        bench.queue.nudge();
        assert!(bench.readable());
        // A poll that would wait does not.
        let began = bench.clock.now();
        let far = began.after(Duration::from_secs(30));
        bench.queue.poll(5, &bench.clock, far, &mut Vec::new()).unwrap();
        assert!(bench.clock.now() < began.after(Duration::from_secs(15)));
        assert!(!bench.readable());
    }

    #[test]
    fn flush_counts_a_delivery_when_its_callback_has_returned_or_when_it_waits_for_the_poll() {
        let sink = Arc::new(Sink::default());
        let bench = Bench::new(DeliveryMode::Callback(Arc::clone(&sink) as _));
        bench.push(1);
        assert_eq!((bench.outstanding(), bench.queue.counts()), (1, (1, 0)));
        assert!(bench.queue.step());
        assert_eq!(bench.outstanding(), 0);
        assert!(!bench.queue.step());
        assert!(sink.inside.load(Ordering::Relaxed) && !reentry::inside());
        for mode in [DeliveryMode::Poll, DeliveryMode::None] {
            let bench = Bench::new(mode);
            bench.push(1);
            assert_eq!((bench.outstanding(), bench.queue.counts()), (0, (1, 0)));
        }
    }

    #[test]
    fn a_step_hands_over_in_order_and_not_everything_at_once() {
        let sink = Arc::new(Sink::default());
        let bench = Bench::new(DeliveryMode::Callback(Arc::clone(&sink) as _));
        let count = CALLBACK_BATCH as u64 * 2 + 1;
        for tag in 0..count {
            bench.push(tag);
        }
        while bench.queue.step() {}
        let runs = lock(&sink.tags);
        assert_eq!(
            runs.iter().map(Vec::len).collect::<Vec<_>>(),
            [CALLBACK_BATCH, CALLBACK_BATCH, 1]
        );
        assert_eq!(runs.concat(), (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn a_callback_that_panics_has_had_its_deliveries() {
        let sink = Arc::new(Sink::default());
        sink.panics.store(true, Ordering::Relaxed);
        let bench = Bench::new(DeliveryMode::Callback(Arc::clone(&sink) as _));
        bench.push(1);
        assert!(bench.queue.step());
        bench.push(2);
        assert!(bench.queue.step());
        assert_eq!((bench.outstanding(), reentry::inside()), (0, false));
        assert_eq!(*lock(&sink.tags), [[1], [2]]);
    }

    #[test]
    fn the_callback_threads_loop_ends_with_the_last_delivery_after_close() {
        let sink = Arc::new(Sink::default());
        let bench = Bench::new(DeliveryMode::Callback(Arc::clone(&sink) as _));
        std::thread::scope(|scope| {
            scope.spawn(|| bench.queue.run(&bench.clock));
            for tag in 0..500 {
                bench.push(tag);
            }
            bench.queue.close();
        });
        assert_eq!(lock(&sink.tags).concat(), (0..500).collect::<Vec<_>>());
        assert_eq!(bench.outstanding(), 0);
    }

    #[test]
    fn what_comes_between_the_last_step_and_the_close_is_handed_over() {
        let sink = Arc::new(Sink::default());
        let bench = Bench::new(DeliveryMode::Callback(Arc::clone(&sink) as _));
        assert!(!bench.queue.step() && !bench.queue.is_over());
        bench.push(1);
        bench.queue.close();
        assert!(!bench.queue.is_over(), "one is left");
        assert!(bench.queue.step() && bench.queue.is_over());
        assert_eq!(*lock(&sink.tags), [[1]]);
    }

    #[test]
    fn a_send_sync_gets_its_own_outcome_and_nobody_elses() {
        let sink = Arc::new(Sink::default());
        let bench = Bench::new(DeliveryMode::Callback(Arc::clone(&sink) as _));
        bench.queue.expect_sync(7);
        bench.queue.expect_sync(8);
        let far = bench.clock.now().after(Duration::from_secs(30));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| bench.queue.wait_sync(7, &bench.clock, far));
            bench.queue.push(bench.delivery(80, status::ABORTED, 8));
            bench.queue.push(bench.delivery(70, status::OK, 7));
            assert_eq!(waits.join().unwrap().unwrap().tags(), [70]);
        });
        let eight = bench.queue.wait_sync(8, &bench.clock, far).unwrap();
        assert_eq!((eight.tags(), eight.status), (&[80][..], status::ABORTED));
        assert!(bench.queue.wait_sync(9, &bench.clock, Instant(0)).is_none());
        // Nobody waits any more: counted, and forgotten.
        bench.queue.expect_sync(10);
        bench.queue.forget_sync(10);
        bench.queue.push(bench.delivery(100, status::OK, 10));
        assert!(guard(&bench.queue.sync).is_empty());
        assert_eq!((bench.queue.counts(), bench.outstanding()), ((2, 1), 0));
        assert!(!bench.queue.step(), "callbacks don't see them");
        drop(eight);
        assert_eq!(bench.accumulator.pool().used(), 0);
    }

    #[test]
    fn what_a_send_sync_returns_with_is_done_for_flush() {
        let bench = Bench::new(DeliveryMode::None);
        bench.queue.expect_sync(7);
        let delivery = bench.delivery(70, status::OK, 7);
        let cut = bench.accumulator.cuts().advance();
        let far = bench.clock.now().after(Duration::from_secs(30));
        std::thread::scope(|scope| {
            // The call can't see its outcome yet.
            let waits = guard(&bench.queue.sync);
            scope.spawn(|| bench.queue.push(delivery));
            assert!(bench.accumulator.cuts().wait(cut, &bench.clock, far));
            drop(waits);
        });
        assert!(bench.queue.wait_sync(7, &bench.clock, far).is_some());
    }

    #[test]
    fn polling_must_have_been_asked_for() {
        let bench = Bench::new(DeliveryMode::None);
        assert_eq!(bench.poll(1).unwrap_err().status, status::INVALID_STATE);
        assert_eq!(bench.queue.fd(), None);
    }
}
