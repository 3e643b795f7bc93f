//! Closed batches that wait to be compressed, and who compresses them.
//!
//! The queue holds partitions, one entry per batch that was queued; whoever takes an entry claims
//! the first batch that is still queued in that partition's front, under its lock, compresses it
//! without any lock, and puts the result in its place under the lock again, if it lies there still.
//! So a batch that was taken meanwhile (purged, expired, or sent as it is) costs nothing but the
//! loser's work, and what was claimed cannot be another batch. The memory of the records is
//! exchanged for that of the result in one step: beyond `buffer.memory` lies only what somebody is
//! just compressing.
//!
//! Helper threads do the work, as many as `compression.threads`, started when there is something to
//! do and ended when there was nothing for a while. Callers that would wait for memory help. The
//! network thread compresses for itself what takes no time ([`LONGEST_INLINE`]) while no helper is
//! free; nobody else ever compresses. It waits for nothing here: when nothing moves for [`STALL`],
//! or a batch has waited for [`LONGEST_WAIT`](look::LONGEST_WAIT) or its share of the time that its
//! records had left, it sends batches as they are.
//!
//! The mutex is a leaf, held for pushes and pops.

mod look;

pub(super) use look::Look;

use super::batch::{BatchBody, ProducerBatch};
use super::buffer_pool::BufferPool;
use super::compression::{Packed, TopicCompression, Workbench};
use super::front::Partition;
use super::inbox::Inbox;
use crate::clock::{Clock, Instant};
use crate::defects::{self, Defect};
use crate::log::{Level, Logger};
use crate::sync::prim::{Mutex, guard};
use crate::sync::{Helpers, Signal};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// The name of helpers in debuggers and in `/proc`.
const HELPER_THREAD: &str = "kafka-compress";
/// A helper that finds nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(1);
/// When nobody has begun or ended to compress for so long, nobody will.
const STALL: Duration = Duration::from_secs(2);
/// What compressing one batch may cost the network thread.
const LONGEST_INLINE: Duration = Duration::from_micros(100);
/// What compressing may cost it within [`INLINE_WINDOW`].
const INLINE_SHARE: Duration = Duration::from_micros(300);
const INLINE_WINDOW: Duration = Duration::from_millis(1);
/// How soon another helper is tried for after one could not be started.
const START_AGAIN: Duration = Duration::from_secs(1);
/// Benches that are kept for callers and the network thread.
const BENCHES_KEPT: usize = 4;

/// What a seal queue takes from outside.
#[derive(Clone)]
pub struct SealTools {
    /// Time.
    pub clock: Clock,
    /// Where helper threads come from.
    pub helpers: Arc<dyn Helpers>,
    /// `compression.threads`.
    pub threads: usize,
    /// `delivery.timeout.ms`.
    pub delivery_timeout: Duration,
    /// Log.
    pub logger: Logger,
}

#[cfg(test)]
impl SealTools {
    pub(crate) fn for_tests() -> SealTools {
        let helpers = Arc::new(crate::sync::SystemHelpers);
        let delivery_timeout = Duration::from_secs(120);
        let (clock, logger) = (Clock::system(), Logger::none());
        SealTools { clock, helpers, threads: 1, delivery_timeout, logger }
    }
}

/// See the module's comment.
pub struct SealQueue {
    tools: SealTools,
    pool: Arc<BufferPool>,
    inbox: Arc<Inbox>,
    state: Mutex<State>,
    /// Moves when there is something to do, and at the end.
    signal: Signal,
    /// Moves when a helper ends.
    ended: Signal,
    #[cfg(test)]
    ran: std::sync::Mutex<Vec<(Who, Option<String>)>>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Arc<Partition>>,
    helpers: usize,
    /// Helpers that wait for something to do.
    idle: usize,
    /// Who compresses at this moment, callers too.
    working: usize,
    /// When somebody last began or ended to compress, or the queue was no longer empty.
    moved: Instant,
    /// Since when no helper could be started.
    refused: Option<Instant>,
    closed: bool,
    benches: Vec<Workbench>,
    threads: Vec<JoinHandle<()>>,
    /// What the network thread has spent since.
    inline: (Instant, Duration),
}

/// Who compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// A helper thread.
    Helper,
    /// A caller that would wait for memory.
    Caller,
    /// The network thread.
    Network,
}

impl State {
    fn stalled(&self, now: Instant) -> bool {
        let any = !self.jobs.is_empty() || self.working > 0;
        let alone = self.helpers == 0 && self.refused.is_some();
        any && (alone || self.moved.after(STALL) <= now)
    }

    fn spent_inline(&self, now: Instant) -> Duration {
        let (since, spent) = self.inline;
        if now.since(since) < INLINE_WINDOW { spent } else { Duration::ZERO }
    }
}

impl SealQueue {
    /// An empty queue without helpers.
    pub fn new(tools: SealTools, pool: Arc<BufferPool>, inbox: Arc<Inbox>) -> SealQueue {
        SealQueue {
            tools,
            pool,
            inbox,
            state: Mutex::new(State::default()),
            signal: Signal::default(),
            ended: Signal::default(),
            #[cfg(test)]
            ran: std::sync::Mutex::default(),
        }
    }

    /// A batch of this partition was queued. False if there is nobody to do it: then the network
    /// thread has to be told of it.
    pub(super) fn push(self: &Arc<Self>, partition: &Arc<Partition>) -> bool {
        let now = self.tools.clock.now();
        let start = {
            let mut state = guard(&self.state);
            if state.closed || defects::on(Defect::ForgetQueued) {
                return true;
            }
            if state.jobs.is_empty() && state.working == 0 {
                state.moved = now;
            }
            state.jobs.push_back(Arc::clone(partition));
            let wanted = state.jobs.len() > state.idle && state.helpers < self.tools.threads;
            let may = state.refused.is_none_or(|at| at.after(START_AGAIN) <= now);
            let start = wanted && may;
            state.helpers += usize::from(start);
            if !start && state.helpers == 0 {
                return false;
            }
            start
        };
        if start {
            return self.start(now);
        }
        self.signal.notify();
        true
    }

    fn start(self: &Arc<Self>, now: Instant) -> bool {
        let queue = Arc::clone(self);
        let started = self.tools.helpers.start(HELPER_THREAD, Box::new(move || queue.help()));
        let mut state = guard(&self.state);
        match started {
            Ok(thread) => {
                state.refused = None;
                state.threads.retain(|thread| !thread.is_finished());
                state.threads.extend(thread);
                true
            }
            Err(error) => {
                state.refused = Some(now);
                state.helpers -= 1;
                let alone = state.helpers == 0;
                drop(state);
                // Whoever waits for the last helper to end counted this one.
                self.ended.notify();
                self.tools.logger.log(Level::Warning, "accumulator", || {
                    format!(
                        "no thread that compresses could be started: {error}; raise the process's \
                         limit (ulimit -u)"
                    )
                });
                !alone
            }
        }
    }

    /// A helper's life.
    fn help(self: &Arc<Self>) {
        let mut bench = Workbench::default();
        while let Some(job) = self.next() {
            let work = AssertUnwindSafe(|| self.work(&job, &mut bench, Who::Helper));
            if catch_unwind(work).is_err() {
                bench = Workbench::default();
                self.tools.logger.log(Level::Error, "accumulator", || {
                    "a thread that compresses met a defect: report this; its batch is sent \
                     uncompressed"
                        .into()
                });
            }
        }
        self.ended.notify();
    }

    /// What a helper does next; `None` when it ends. Whoever finds nothing says goodbye under the
    /// same lock, so that no batch is left behind.
    fn next(&self) -> Option<Job<'_>> {
        let end = self.tools.clock.now().after(IDLE);
        let mut over = false;
        loop {
            let seen = self.signal.generation();
            {
                let mut state = guard(&self.state);
                if let Some(job) = self.take(&mut state) {
                    return Some(job);
                }
                if state.closed || over {
                    state.helpers -= 1;
                    return None;
                }
                state.idle += 1;
            }
            over = !self.signal.wait(seen, &self.tools.clock, end);
            guard(&self.state).idle -= 1;
        }
    }

    fn take(&self, state: &mut State) -> Option<Job<'_>> {
        let partition = state.jobs.pop_front()?;
        state.working += 1;
        state.moved = self.tools.clock.now();
        Some(Job { queue: self, partition })
    }

    /// A caller that would wait for memory compresses a batch instead, if it will be done by
    /// `until`; false if there is none.
    pub fn help_once(&self, until: Instant) -> bool {
        let (job, bench) = {
            let mut state = guard(&self.state);
            let now = self.tools.clock.now();
            let in_time = state.jobs.front().is_some_and(|partition| {
                let topic = partition.compression.as_deref();
                let cost = topic.and_then(TopicCompression::costs);
                cost.is_some_and(|cost| now.after(cost) <= until)
            });
            if !in_time {
                return false;
            }
            (self.take(&mut state), state.benches.pop())
        };
        let Some(job) = job else { return false };
        let mut bench = bench.unwrap_or_default();
        self.work(&job, &mut bench, Who::Caller);
        self.keep(bench);
        true
    }

    fn keep(&self, bench: Workbench) {
        let mut state = guard(&self.state);
        if state.benches.len() < BENCHES_KEPT {
            state.benches.push(bench);
        }
    }

    /// Claims the partition's first queued batch, compresses it, and puts the result in its place.
    fn work(&self, job: &Job<'_>, bench: &mut Workbench, who: Who) {
        let Some(topic) = job.partition.compression.as_deref() else { return };
        let Some(body) = job.partition.claim_queued(&self.inbox) else { return };
        let shared = Arc::clone(&body);
        let claim = PackClaim { queue: self, partition: &job.partition, body: Some(body) };
        self.note(who);
        let began = self.tools.clock.now();
        if who == Who::Helper {
            self.tools.helpers.at_work();
        }
        let packed = self.pack(&shared, topic, bench, began);
        drop(shared);
        claim.install(packed);
    }

    /// What a batch's records become; `None` if it goes out as it is.
    fn pack(
        &self,
        body: &BatchBody,
        topic: &TopicCompression,
        bench: &mut Workbench,
        began: Instant,
    ) -> Option<Packed> {
        let took = || self.tools.clock.now().since(began);
        let packed = bench.pack(body, topic, &self.pool, took).unwrap_or_else(|error| {
            self.tools.logger.log(Level::Error, "accumulator", || {
                format!("a batch is sent uncompressed: {}", error.message)
            });
            None
        });
        if packed.is_none() {
            body.seal();
        }
        packed
    }

    /// Network thread: what it may do about a topic's batches now.
    pub(super) fn look(&self, topic: &TopicCompression, now: Instant) -> Look {
        let state = guard(&self.state);
        let free = state.idle > state.jobs.len();
        let left = INLINE_SHARE.saturating_sub(state.spent_inline(now));
        let inline = if free { 0 } else { topic.within(LONGEST_INLINE.min(left)) };
        let stalled = state.stalled(now);
        let since = if state.jobs.is_empty() && state.working == 0 { now } else { state.moved };
        let timeout = self.tools.delivery_timeout;
        Look { inline, stalled, again: since.after(STALL), timeout }
    }

    /// Network thread: compresses a batch that it has taken out of its front, where nobody claims
    /// it any more.
    pub(super) fn pack_inline(&self, batch: &mut ProducerBatch, topic: &TopicCompression) {
        let began = self.tools.clock.now();
        let mut bench = guard(&self.state).benches.pop().unwrap_or_default();
        self.note(Who::Network);
        if let Some(packed) = self.pack(&batch.body, topic, &mut bench, began) {
            match Arc::get_mut(&mut batch.body) {
                Some(body) => drop(body.pack(packed)),
                None => {
                    debug_assert!(false, "a queued batch is shared");
                    self.pool.shelve(packed.slabs);
                }
            }
        }
        self.keep(bench);
        let now = self.tools.clock.now();
        let mut state = guard(&self.state);
        let spent = state.spent_inline(began) + now.since(began);
        let (since, _) = state.inline;
        let since = if began.since(since) < INLINE_WINDOW { since } else { began };
        state.inline = (since, spent);
    }

    /// Whether batches wait here or are being compressed, whose ends will free memory.
    pub fn is_busy(&self) -> bool {
        let state = guard(&self.state);
        let any = !state.jobs.is_empty() || state.working > 0;
        any && !state.stalled(self.tools.clock.now())
    }

    /// Nothing is compressed any more, but for what is begun.
    pub fn close(&self) {
        let jobs = {
            let mut state = guard(&self.state);
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        drop(jobs);
        self.signal.notify();
    }

    /// Waits until no helper is left; false when `deadline` has passed without. After
    /// [`SealQueue::close`].
    pub fn wait(&self, deadline: Instant) -> bool {
        loop {
            let seen = self.ended.generation();
            let threads = {
                let mut state = guard(&self.state);
                let over = state.helpers == 0;
                over.then(|| std::mem::take(&mut state.threads))
            };
            if let Some(threads) = threads {
                for thread in threads {
                    let _ = thread.join();
                }
                return true;
            }
            if !self.ended.wait(seen, &self.tools.clock, deadline) {
                return false;
            }
        }
    }

    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests look at it"))]
    fn note(&self, who: Who) {
        #[cfg(test)]
        {
            let name = std::thread::current().name().map(ToOwned::to_owned);
            crate::sync::lock(&self.ran).push((who, name));
        }
        let _ = who;
    }

    /// How many entries this partition has; `None` once nothing is compressed any more.
    #[cfg(all(test, feature = "mock", not(loom)))]
    pub(super) fn entries(&self, partition: &Arc<Partition>) -> Option<usize> {
        let state = guard(&self.state);
        let its_own = state.jobs.iter().filter(|job| Arc::ptr_eq(job, partition));
        (!state.closed).then(|| its_own.count())
    }

    /// Whether there is something to do, and nobody who does it or will.
    #[cfg(all(test, feature = "mock", not(loom)))]
    pub(super) fn is_left_alone(&self) -> bool {
        let state = guard(&self.state);
        let nobody = state.helpers == 0 && state.refused.is_none();
        !state.closed && !state.jobs.is_empty() && (state.idle > 0 || nobody)
    }

    /// Who has compressed so far, and on which threads.
    #[cfg(all(test, feature = "lz4"))]
    pub(crate) fn ran(&self) -> Vec<(Who, Option<String>)> {
        crate::sync::lock(&self.ran).clone()
    }
}

impl fmt::Debug for SealQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealQueue").finish_non_exhaustive()
    }
}

/// An entry of the queue that somebody has taken.
struct Job<'a> {
    queue: &'a SealQueue,
    partition: Arc<Partition>,
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        let mut state = guard(&self.queue.state);
        state.working -= 1;
        state.moved = self.queue.tools.clock.now();
    }
}

/// The duty to compress a batch. One that is dropped without a result, in a panic, leaves the batch
/// to the network thread, as it is.
struct PackClaim<'a> {
    queue: &'a SealQueue,
    partition: &'a Arc<Partition>,
    /// `None` once there is a result.
    body: Option<Arc<BatchBody>>,
}

impl PackClaim<'_> {
    fn install(mut self, packed: Option<Packed>) {
        let SealQueue { pool, inbox, .. } = self.queue;
        if let Some(body) = self.body.take() {
            self.partition.install(body, packed, pool, inbox);
        }
    }
}

impl Drop for PackClaim<'_> {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            body.sealing().give_up_packing();
            let SealQueue { pool, inbox, .. } = self.queue;
            self.partition.install(body, None, pool, inbox);
        }
    }
}

#[cfg(feature = "lz4")]
#[cfg(test)]
mod tests {
    use super::super::batch::Alone;
    use super::super::compression::TopicCompression;
    use super::super::front::{Expired, Rest, Taken};
    use super::super::seal::SealState;
    use super::super::testing::{Bench, ms, reading, record, take, take_at};
    use super::look::{LONGEST_WAIT, SHARE};
    use super::*;
    use crate::clock::VirtualTime;
    use crate::protocol::compression::{Codec, Compression};
    use crate::record::ProducerRecord;
    use crate::sync::lock;
    use std::io;
    use std::sync::Mutex as StdMutex;

    type Life = Box<dyn FnOnce() + Send>;

    const TIMEOUT: Duration = Duration::from_secs(120);

    /// Helpers that run when the test says so.
    #[derive(Default)]
    struct Played {
        lives: StdMutex<Vec<Life>>,
        refuses: std::sync::atomic::AtomicBool,
        /// What happens in the middle of the work, once.
        at_work: StdMutex<Option<Life>>,
    }

    impl Helpers for Played {
        fn start(&self, _: &'static str, life: Life) -> io::Result<Option<JoinHandle<()>>> {
            if self.refuses.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(io::Error::other("no more threads"));
            }
            lock(&self.lives).push(life);
            Ok(None)
        }

        fn at_work(&self) {
            let happens = lock(&self.at_work).take();
            if let Some(happens) = happens {
                happens();
            }
        }
    }

    struct Shop {
        bench: Bench,
        time: Arc<VirtualTime>,
        helpers: Arc<Played>,
        queue: Arc<SealQueue>,
        topic: Arc<TopicCompression>,
        partition: Arc<Partition>,
        tag: std::cell::Cell<u64>,
    }

    impl Shop {
        fn new(memory: usize) -> Shop {
            Shop::with(memory, Compression::Lz4)
        }

        fn with(memory: usize, how: Compression) -> Shop {
            let (bench, time) = (Bench::new(memory), Arc::new(VirtualTime::default()));
            let helpers = Arc::new(Played::default());
            let tools = SealTools {
                clock: Clock::virtual_time(Arc::clone(&time)),
                helpers: Arc::clone(&helpers) as Arc<dyn Helpers>,
                threads: 1,
                delivery_timeout: TIMEOUT,
                logger: Logger::none(),
            };
            let (pool, inbox) = (&bench.context.pool, &bench.context.inbox);
            let queue = Arc::new(SealQueue::new(tools, Arc::clone(pool), Arc::clone(inbox)));
            let topic = Arc::new(TopicCompression::new(how, Arc::clone(&queue)));
            let partition = Partition::new("topic".into(), 0, 0, false);
            let partition = Arc::new(partition.compressed(Some(Arc::clone(&topic))));
            Shop { bench, time, helpers, queue, topic, partition, tag: std::cell::Cell::new(0) }
        }

        fn append(&self, value: &[u8]) {
            let tag = self.tag.get();
            let record = record(value, tag);
            let appended = self.partition.try_append(&self.bench.context, &record, reading(ms(1)));
            assert!(matches!(appended, Ok(super::super::append::Appended::Done(_))));
            self.tag.set(tag + 1);
        }

        /// Appends values that shrink until a batch is closed, and begins another one.
        fn fill(&self) {
            for number in 0..200_u64 {
                self.append(&number.to_be_bytes().repeat(4));
            }
            self.bench.context.cuts.advance();
            self.append(b"the next one");
        }

        /// All helpers that were started, to their ends.
        fn help(&self) {
            let lives = std::mem::take(&mut *lock(&self.helpers.lives));
            // So that they don't wait for more to do.
            guard(&self.queue.state).closed = true;
            lives.into_iter().for_each(|life| life());
            guard(&self.queue.state).closed = false;
        }

        fn take(&self) -> (Taken, Vec<ProducerBatch>) {
            take(&self.partition, take_at(self.now()))
        }

        fn now(&self) -> Instant {
            self.queue.tools.clock.now()
        }

        fn values(body: &BatchBody) -> Vec<Vec<u8>> {
            let mut space = Vec::new();
            let records = body.records_in(&mut space).unwrap();
            records.map(|record| record.unwrap().value.unwrap().to_vec()).collect()
        }

        fn is_listed(&self) -> bool {
            self.bench.drain_slots().contains(&(0, Inbox::NOW))
        }

        /// Nothing is left in the front, and nothing in use.
        fn ends(&self) {
            let mut out = Vec::new();
            assert!(self.partition.try_purge(&mut out));
            drop(out);
            let pool = &self.bench.context.pool;
            assert_eq!((pool.used(), pool.closed()), (0, 0));
            assert_eq!(guard(&self.queue.state).working, 0);
        }
    }

    #[test]
    fn a_batch_is_listed_when_it_has_shrunk() {
        let shop = Shop::new(1 << 20);
        shop.fill();
        assert!(!shop.is_listed());
        let (taken, batches) = shop.take();
        assert!(matches!(taken, Taken::Lingering(at) if at > shop.now()), "{taken:?}");
        assert!(batches.is_empty());
        let before = shop.bench.context.pool.used();
        shop.help();
        assert!(shop.is_listed());
        assert_eq!(
            shop.queue.ran(),
            [(Who::Helper, std::thread::current().name().map(Into::into))]
        );
        let pool = &shop.bench.context.pool;
        assert!(pool.used() < before / 2, "{} of {before}", pool.used());
        let (_, batches) = shop.take();
        let body = &batches[0].body;
        assert_eq!((body.codec(), body.count()), (Codec::Lz4, 200));
        assert!(body.records_len() < body.raw_len() / 2);
        let sent: Vec<Vec<u8>> = (0..200_u64).map(|at| at.to_be_bytes().repeat(4)).collect();
        assert_eq!(Shop::values(body), sent);
        assert_eq!(body.tags(), (0..200).collect::<Vec<_>>());
        let bytes: Vec<u8> = body.slabs().flatten().copied().collect();
        assert_eq!(body.seal().crc, crate::protocol::crc32c::crc32c(&bytes));
        assert_eq!(body.charged(), body.slabs_size() + 256 * 8);
        drop(batches);
        shop.ends();
    }

    #[test]
    fn what_does_not_shrink_goes_out_as_it_is() {
        let shop = Shop::new(1 << 20);
        let mut rng = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(5000).collect();
        shop.append(&noise);
        shop.bench.context.cuts.advance();
        shop.append(&noise);
        shop.help();
        assert!(shop.is_listed());
        let (_, batches) = shop.take();
        assert_eq!(
            (batches[0].body.codec(), batches[0].body.seal_state()),
            (Codec::None, SealState::Sealed)
        );
        assert_eq!(Shop::values(&batches[0].body), [noise]);
        assert_eq!(shop.topic.room(10_061, 1 << 20), 9523, "as if it never shrank");
        drop(batches);
        shop.ends();
    }

    #[test]
    fn batches_leave_in_the_order_in_which_they_were_closed() {
        let shop = Shop::new(1 << 20);
        shop.fill();
        shop.fill();
        let first = shop.partition.claim_queued(&shop.bench.context.inbox).unwrap();
        shop.help();
        let closed = |at: usize| {
            let mut appender = shop.partition.appender(&shop.bench.context);
            appender.front().closed[at].body.seal_state()
        };
        assert_eq!((closed(0), closed(1)), (SealState::Packing, SealState::Sealed));
        assert!(!shop.is_listed());
        assert!(shop.take().1.is_empty());
        first.seal();
        let (pool, inbox) = (&shop.bench.context.pool, &shop.bench.context.inbox);
        shop.partition.install(first, None, pool, inbox);
        assert!(shop.is_listed());
        let (_, batches) = shop.take();
        let tags: Vec<u64> = batches.iter().map(|batch| batch.body.tags()[0]).collect();
        assert_eq!(tags, [0, 200]);
        assert_eq!(batches[0].body.codec(), Codec::None);
        assert_eq!(batches[1].body.codec(), Codec::Lz4);
        drop(batches);
        shop.ends();
    }

    #[test]
    fn a_helper_that_panics_leaves_the_batch_as_it_is() {
        let shop = Shop::new(1 << 20);
        shop.fill();
        *lock(&shop.helpers.at_work) = Some(Box::new(|| panic!("in the middle of it")));
        shop.help();
        assert!(shop.is_listed());
        let (taken, batches) = shop.take();
        let rest = Rest::Lingering(ms(6));
        assert_eq!(taken, Taken::Batches { taken: 1, rest });
        assert_eq!((batches[0].body.codec(), batches[0].body.count()), (Codec::None, 200));
        assert_eq!(batches[0].body.seal_state(), SealState::Sealed);
        drop(batches);
        shop.ends();
    }

    #[test]
    fn where_nothing_moves_batches_go_out_as_they_are() {
        let shop = Shop::new(1 << 20);
        shop.fill();
        let (taken, _) = shop.take();
        let Taken::Lingering(again) = taken else { panic!("{taken:?}") };
        assert!(shop.queue.is_busy());
        shop.time.advance(again.since(shop.now()));
        assert!(!shop.queue.is_busy());
        let (_, batches) = shop.take();
        assert_eq!((batches[0].body.codec(), batches[0].body.count()), (Codec::None, 200));
        assert!(shop.now().0 <= STALL.as_micros() as u64 + 2000, "{:?}", shop.now());
        // Who comes after all finds nothing.
        shop.help();
        assert!(shop.queue.ran().is_empty());
        drop(batches);
        shop.ends();
    }

    /// A helper sleeps while others begin and end: nothing is stalled.
    #[test]
    fn a_batch_waits_for_a_part_of_what_its_records_have_left() {
        let share = |ms: u64| Duration::from_millis(ms) / SHARE;
        // A record, its timeout, delivery.timeout.ms, and how long its batch waits.
        let plain = (0, TIMEOUT, LONGEST_WAIT);
        let short = (0, Duration::from_secs(3), share(3000 - 9));
        let own = (800, TIMEOUT, share(800 - 9));
        for (timeout_ms, delivery_timeout, patience) in [plain, short, own] {
            let shop = Shop::new(1 << 20);
            let record = ProducerRecord { timeout_ms, ..record(b"v", 1) };
            let appended = shop.partition.try_append(&shop.bench.context, &record, reading(ms(1)));
            assert!(matches!(appended, Ok(super::super::append::Appended::Done(_))));
            let mut out = Vec::new();
            assert!(shop.partition.try_purge(&mut out));
            let batch = ProducerBatch { closed: ms(10), ..out.swap_remove(0) };
            let again = Instant::NEVER;
            let look = Look { inline: 0, stalled: false, again, timeout: delivery_timeout };
            let latest = ms(10).after(patience);
            assert_eq!(look.again(&batch), latest);
            assert!(look.gives_up(&batch, latest));
            assert!(!look.gives_up(&batch, Instant(latest.0 - 1)));
            assert!(Look { stalled: true, ..look }.gives_up(&batch, ms(10)));
        }
    }

    /// The only helper sleeps, and the deadline is near.
    #[test]
    fn nothing_expires_for_a_helper_that_sleeps() {
        const TIMEOUT_MS: u32 = 800;
        let shop = Shop::new(1 << 20);
        let record = ProducerRecord { timeout_ms: TIMEOUT_MS, ..record(&[7; 500], 1) };
        let appended = shop.partition.try_append(&shop.bench.context, &record, reading(ms(0)));
        assert!(matches!(appended, Ok(super::super::append::Appended::Done(_))));
        shop.bench.context.cuts.advance();
        shop.append(b"the next one");
        let asleep = shop.partition.claim_queued(&shop.bench.context.inbox).unwrap();
        let (taken, none) = shop.take();
        let Taken::Lingering(again) = taken else { panic!("{taken:?}") };
        assert!(none.is_empty());
        shop.time.advance(again.since(shop.now()));
        assert!(shop.now() <= ms(u64::from(TIMEOUT_MS / 4 + 2)), "{:?}", shop.now());
        let (_, batches) = shop.take();
        assert_eq!((batches[0].body.codec(), batches[0].body.tags()), (Codec::None, &[1][..]));
        drop(asleep);
        drop(batches);
        shop.ends();
    }

    /// A call waits for the outcome of the record at the head, and its batch is being compressed
    /// when that call's time is over.
    #[test]
    fn what_stands_behind_a_batch_that_expires_may_go() {
        let shop = Shop::new(1 << 20);
        let alone = Alone { sync_id: 1, deadline: ms(50) };
        let mut appender = shop.partition.appender(&shop.bench.context);
        assert!(appender.append_alone(&record(&[7; 500], 99), reading(ms(1)), alone).is_ok());
        drop(appender);
        let asleep = shop.partition.claim_queued(&shop.bench.context.inbox).unwrap();
        shop.fill();
        shop.help();
        assert!(!shop.is_listed() && shop.take().1.is_empty());
        let mut out = Vec::new();
        let expired = shop.partition.try_expire(ms(50), TIMEOUT, &mut out);
        assert!(matches!(expired, Expired::Ready(_)), "{expired:?}");
        assert_eq!((out.len(), out[0].body.tags()), (1, &[99][..]));
        let (_, batches) = shop.take();
        assert_eq!((batches[0].body.codec(), batches[0].body.count()), (Codec::Lz4, 200));
        drop((asleep, out, batches));
        shop.ends();
    }

    #[test]
    fn a_result_that_comes_too_late_is_dropped() {
        let shop = Shop::new(1 << 20);
        shop.fill();
        let taken: Arc<StdMutex<Vec<ProducerBatch>>> = Arc::default();
        let (partition, out, time) =
            (Arc::clone(&shop.partition), Arc::clone(&taken), Arc::clone(&shop.time));
        *lock(&shop.helpers.at_work) = Some(Box::new(move || {
            time.advance(STALL);
            let later = take_at(Instant(STALL.as_micros() as u64));
            lock(&out).extend(take(&partition, later).1);
        }));
        shop.help();
        let batches = std::mem::take(&mut *lock(&taken));
        assert_eq!((batches[0].body.codec(), batches[0].body.count()), (Codec::None, 200));
        assert_eq!(Shop::values(&batches[0].body).len(), 200, "nobody has taken its memory");
        assert_eq!(shop.queue.ran().len(), 1);
        drop(batches);
        shop.ends();
    }

    #[test]
    fn without_threads_nothing_waits() {
        let shop = Shop::new(1 << 20);
        shop.helpers.refuses.store(true, std::sync::atomic::Ordering::Relaxed);
        shop.fill();
        assert!(shop.is_listed());
        let (_, batches) = shop.take();
        assert_eq!((batches[0].body.codec(), batches[0].body.count()), (Codec::None, 200));
        drop(batches);
        // One that the network thread closes itself.
        shop.time.advance(Duration::from_millis(50));
        let taken = shop.take().0;
        assert!(matches!(taken, Taken::Ready | Taken::Batches { .. }), "{taken:?}");
        if taken == Taken::Ready {
            assert_eq!(shop.take().1.len(), 1);
        }
        shop.ends();
    }

    #[test]
    fn what_is_purged_meanwhile_is_gone_when_nobody_reads_it_any_more() {
        let shop = Shop::new(1 << 20);
        shop.fill();
        let (partition, pool) = (Arc::clone(&shop.partition), Arc::clone(&shop.bench.context.pool));
        *lock(&shop.helpers.at_work) = Some(Box::new(move || {
            let mut out = Vec::new();
            assert!(partition.try_purge(&mut out));
            assert_eq!(out.len(), 2);
            drop(out);
            assert!(pool.used() > 0, "it is being compressed");
        }));
        shop.help();
        shop.ends();
    }

    #[test]
    fn callers_help_and_the_network_thread_does_what_is_cheap() {
        let shop = Shop::new(1 << 20);
        shop.fill();
        assert!(!shop.queue.help_once(Instant::NEVER), "who knows what that costs");
        shop.help();
        shop.fill();
        assert!(shop.queue.help_once(Instant::NEVER));
        assert!(!shop.queue.help_once(Instant::NEVER));
        let ran: Vec<Who> = shop.queue.ran().iter().map(|(who, _)| *who).collect();
        assert_eq!(ran, [Who::Helper, Who::Caller]);
        // It costs nothing in virtual time. The open batch is closed by the network thread.
        shop.time.advance(Duration::from_millis(10));
        let (_, batches) = shop.take();
        let codecs: Vec<Codec> = batches.iter().map(|batch| batch.body.codec()).collect();
        assert_eq!(codecs, [Codec::Lz4, Codec::Lz4, Codec::None]);
        let ran: Vec<Who> = shop.queue.ran()[2..].iter().map(|(who, _)| *who).collect();
        assert!(ran.iter().all(|who| *who == Who::Network) && !ran.is_empty(), "{ran:?}");
        drop(batches);
        shop.ends();
    }

    #[test]
    fn who_waits_gets_the_memory_that_is_saved() {
        let shop = Shop::new(48 << 10);
        shop.fill();
        let other = super::super::testing::partition(1);
        let waiting = loop {
            match shop.bench.append(&other, ms(1), 900) {
                super::super::append::Appended::NoMemory(waiting) => break waiting,
                super::super::append::Appended::Done(_)
                | super::super::append::Appended::BatchFull => {}
            }
        };
        assert!(!waiting.is_over());
        shop.help();
        assert!(waiting.is_over());
    }

    #[test]
    fn a_batch_that_is_being_compressed_can_be_cut() {
        let shop = Shop::new(1 << 20);
        shop.fill();
        let claimed = shop.partition.claim_queued(&shop.bench.context.inbox).unwrap();
        let mut out = Vec::new();
        assert!(shop.partition.try_purge(&mut out));
        let body = out.swap_remove(0).body;
        drop(out);
        let cut = BatchBody::cut(body, shop.topic.fastest(), |at, _| at / 150).unwrap();
        let values: Vec<_> = cut.iter().flat_map(|piece| Shop::values(&piece.body)).collect();
        assert_eq!(values, Shop::values(&claimed));
        assert_eq!(cut[0].body.codec(), Codec::Lz4);
        drop(claimed);
        drop(cut);
        shop.ends();
    }
}
