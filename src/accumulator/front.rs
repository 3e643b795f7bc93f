//! The callers' half of a partition: the batch that is open, and the closed ones that the network
//! thread has not taken.
//!
//! Under the partition's [`FrontLock`], which callers wait for and the network thread only tries.
//! Callers append, close batches and put the partition into the inbox; the network thread takes
//! batches, and nothing ever comes back: retries are the back's, which is the network thread's
//! alone.
//!
//! What the network thread knows is the front's `listing`: a caller puts the partition into the
//! inbox exactly once per step from unlisted to timed (the open batch lingers until then), or from
//! either to ready. While the partition is muted (its one batch is in flight) nothing is listed,
//! and the open batch may grow to `max.request.size`.
//!
//! Whoever closes a batch seals it, after unlocking, and only then is the partition ready: sealing
//! takes as long as reading the batch once, which nobody should wait for under a lock. One that is
//! to be compressed is put into the [`seal_queue`](super::seal_queue), and the partition is ready
//! when the batch at its head has come out of it.

mod packing;

use packing::{head_is_ready, is_to_be_packed};

use super::batch::{OpenBatch, ProducerBatch};
use super::buffer_pool::BufferPool;
use super::compression::TopicCompression;
use super::inbox::{Inbox, on_grid};
use super::seal::SealState;
use super::seal_queue::Look;
use super::ticket::Ticket;
use crate::clock::Instant;
use crate::defects::{self, Defect};
use crate::sync::{FrontLock, prim};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// So long the network thread leaves a closed batch to its sealer; then it seals it itself.
const SEAL_PATIENCE: Duration = Duration::from_millis(1);

/// What the network thread wants from a front.
#[derive(Debug, Clone, Copy)]
pub struct Take {
    /// The time now.
    pub now: Instant,
    /// For batches of `force_cut` and older ones linger is over: flush, close, memory.
    pub force: bool,
    /// See `force`.
    pub force_cut: u64,
    /// At most so many batches; with 0 the front is only asked how it is.
    pub max_batches: usize,
    /// If a batch is taken, the partition is muted until the next take: nothing is listed, the open
    /// batch may grow.
    pub mute: bool,
    /// Leave the open batch open, whatever its deadline.
    pub closed_only: bool,
}

/// What the network thread gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// A caller is in the front. It will put the partition into the inbox.
    Busy,
    /// The front is empty. The partition will be listed when that changes.
    Nothing,
    /// The front's only batches linger until then. The partition will be listed if it is ready
    /// earlier.
    Lingering(Instant),
    /// Batches were taken.
    Batches {
        /// How many.
        taken: usize,
        /// What is left.
        rest: Rest,
    },
    /// Nothing was taken, for `max_batches` or `closed_only`, but something is ready: nobody else
    /// will list the partition.
    Ready,
}

/// What is left in a front after a take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing. The partition will be listed when that changes.
    Nothing,
    /// What lingers until then. The partition will be listed if it is ready earlier.
    Lingering(Instant),
    /// More that is ready: nobody else will list the partition.
    Ready,
    /// The partition is muted: nobody lists it before the next take.
    Muted,
}

/// What came of taking out old batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Expired {
    /// A caller is in the front. It will put the partition into the inbox.
    Busy,
    /// Done; when the next batch will have reached its deadline, or `NEVER`.
    Next(Instant),
    /// The same, and what stood behind those that left may be ready now: nobody else will list the
    /// partition.
    Ready(Instant),
}

/// What the network thread was told, or has in its own hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Listing {
    Unlisted,
    Timed,
    Ready,
}

/// What is behind a partition's lock.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) open: Option<OpenBatch>,
    /// In the order they were closed.
    pub(super) closed: VecDeque<ProducerBatch>,
    pub(super) listing: Listing,
    pub(super) muted: bool,
    /// No record is taken any more: the producer has closed.
    pub(super) shut: bool,
    pub(super) ticket: Option<Arc<Ticket>>,
    pub(super) history: History,
}

/// What the last batches were like.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct History {
    pub(super) full_streak: u8,
    pub(super) records_len: usize,
    pub(super) count: usize,
    pub(super) opened: Instant,
}

/// A partition of a topic, as callers and the network thread share it.
#[derive(Debug)]
pub struct Partition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub index: i32,
    /// A dense number within the producer.
    pub slot: u32,
    /// The current leader, or -1: whose share of the memory its batches are. Changed under the
    /// pool's mutex.
    pub(super) leader: AtomicI32,
    /// The earliest deadline of a record of its own that the network thread was told of since it
    /// last looked, in microseconds.
    told: prim::AtomicU64,
    /// Records accepted. Changed under the front's lock.
    accepted: AtomicU64,
    /// Batches in the front. Changed under its lock.
    queued: AtomicU32,
    /// How its batches are compressed, if they are.
    pub(super) compression: Option<Arc<TopicCompression>>,
    pub(super) front: FrontLock<Front>,
}

impl Partition {
    /// An empty partition without a leader; one that is `shut` refuses records.
    pub fn new(topic: Arc<str>, index: i32, slot: u32, shut: bool) -> Partition {
        let front = Front {
            open: None,
            closed: VecDeque::new(),
            listing: Listing::Unlisted,
            muted: false,
            shut,
            ticket: None,
            history: History::default(),
        };
        Partition {
            topic,
            index,
            slot,
            leader: AtomicI32::new(-1),
            told: prim::AtomicU64::new(u64::MAX),
            accepted: AtomicU64::new(0),
            queued: AtomicU32::new(0),
            compression: None,
            front: FrontLock::new(front),
        }
    }

    /// The same, whose batches are compressed so.
    pub fn compressed(self, compression: Option<Arc<TopicCompression>>) -> Partition {
        Partition { compression, ..self }
    }

    /// How its batches are compressed, if they are.
    pub fn compression(&self) -> Option<&Arc<TopicCompression>> {
        self.compression.as_ref()
    }

    /// The leader's node id, or -1.
    pub fn leader(&self) -> i32 {
        self.leader.load(Ordering::Relaxed)
    }

    /// Network thread: the partition has this leader now. Memory taken from now on is that one's,
    /// and whoever waits for memory here waits in its queue.
    pub fn set_leader(&self, pool: &BufferPool, leader: i32) {
        if self.leader() != leader {
            pool.move_leader(self.slot, &self.leader, leader);
        }
    }

    /// Caller, after a record with a deadline of its own was appended: whether the network thread
    /// must be told of it. It was told of an earlier one, unless that has passed: then it may have
    /// looked already.
    pub fn must_tell(&self, deadline: Instant, now: Instant) -> bool {
        let told = self.told.fetch_min(deadline.0, Ordering::AcqRel);
        if defects::on(Defect::TellOnce) {
            return told == u64::MAX || told <= now.0;
        }
        told > deadline.0 || told <= now.0
    }

    /// The earliest deadline it was told of since it last looked; `NEVER` if none.
    pub fn told(&self) -> Instant {
        Instant(self.told.load(Ordering::Acquire))
    }

    /// Network thread, before it looks: it has to be told of what is appended from now on.
    pub fn forget_told(&self) {
        if self.told() != Instant::NEVER {
            self.told.store(u64::MAX, Ordering::Release);
        }
    }

    /// Records accepted so far. Read what was acknowledged and what failed before this.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    /// Under the front's lock, so that two steps are one.
    #[inline]
    pub(super) fn count_one(&self) {
        let accepted = self.accepted.load(Ordering::Relaxed);
        self.accepted.store(accepted + 1, Ordering::Release);
    }

    /// Batches that wait to be sent, the open one among them: what the partitioner goes by.
    pub fn queued(&self) -> u32 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Under the front's lock: so many batches have left it.
    fn count_left(&self, batches: usize) {
        let batches = u32::try_from(batches).unwrap_or(u32::MAX);
        debug_assert!(batches <= self.queued(), "every batch was counted when it was opened");
        self.queued.store(self.queued().saturating_sub(batches), Ordering::Relaxed);
    }

    /// Caller: no batch is opened from now on. The one that is open takes records until the cut
    /// moves on.
    pub fn shut(self: &Arc<Self>, inbox: &Inbox) {
        let mut front = self.front.lock();
        front.shut = true;
        // As after an append: the network thread may have been here and could not wait.
        if front.unlock() && inbox.push(self, Inbox::NOW) {
            inbox.wake();
        }
    }

    /// Network thread: moves batches that are ready into `out`, sealed, in order.
    pub fn try_take(self: &Arc<Self>, take: Take, out: &mut Vec<ProducerBatch>) -> Taken {
        let topic = self.compression.as_deref();
        let look = topic.map(|topic| topic.queue.look(topic, take.now));
        let Some(mut front) = self.front.try_lock_or_want() else { return Taken::Busy };
        let first = out.len();
        let mut queued = false;
        let taken = front.take(&take, look, out, &mut queued);
        self.count_left(out.len() - first);
        let _nobody_else_asks_to_be_told = front.unlock();
        for batch in out.iter_mut().skip(first) {
            match (topic, look) {
                (Some(topic), Some(look)) if look.may_pack(batch) => {
                    topic.queue.pack_inline(batch, topic);
                }
                _ => {
                    batch.body.seal();
                }
            }
        }
        match topic.filter(|_| queued).map(|topic| topic.queue.push(self)) {
            // Nobody compresses it: the next look finds that out.
            Some(false) if !matches!(taken, Taken::Batches { .. }) => Taken::Ready,
            Some(_) | None => taken,
        }
    }

    /// Network thread: moves every batch with a record that has reached its deadline into `out`,
    /// and whatever is in front of one, the open one too, whether sealed or not. What is listed
    /// stays listed, unless nothing is left; or it is in the caller's hands, if any batch has left:
    /// one that was still being compressed kept those behind it from being listed as ready.
    pub fn try_expire(
        &self,
        now: Instant,
        timeout: Duration,
        out: &mut Vec<ProducerBatch>,
    ) -> Expired {
        let Some(mut front) = self.front.try_lock_or_want() else { return Expired::Busy };
        let first = out.len();
        let due = |batch: &ProducerBatch| batch.expires(timeout) <= now;
        let open_is_due =
            front.open.as_ref().is_some_and(|open| open.next_deadline(timeout) <= now);
        // What is in front of one that is due leaves with it: some of its records may stay, and
        // they must not fall behind.
        let count = match open_is_due {
            true => front.closed.len(),
            false => {
                let some_may_stay = |batch: &ProducerBatch| batch.alone.is_none() && due(batch);
                front.closed.iter().rposition(some_may_stay).map_or(0, |last| last + 1)
            }
        };
        out.extend(front.closed.drain(..count));
        // One that somebody waits for has no record that stays.
        for _ in 0..front.closed.len() {
            if let Some(batch) = front.closed.pop_front() {
                if due(&batch) { out.push(batch) } else { front.closed.push_back(batch) }
            }
        }
        if open_is_due {
            out.extend(front.close_open(now, false));
        }
        self.count_left(out.len() - first);
        let next = front.next_expiry(timeout);
        if next.is_none() {
            front.listing = Listing::Unlisted;
            // The batch it was muted for may have been the last one there was, and its leader out
            // of reach: no take comes, and the next record's deadline must be learnt of.
            front.muted = false;
        }
        match next {
            Some(next) if out.len() > first && !front.muted => {
                front.listing = Listing::Ready;
                Expired::Ready(next)
            }
            next => Expired::Next(next.unwrap_or(Instant::NEVER)),
        }
    }

    /// Network thread: moves every batch into `out`, the open one too, whether sealed or not; false
    /// if a caller is in the front, which will put the partition into the inbox.
    pub fn try_purge(&self, out: &mut Vec<ProducerBatch>) -> bool {
        self.try_empty(false, out)
    }

    /// As [`Partition::try_purge`], and no record is taken from then on.
    pub fn try_close(&self, out: &mut Vec<ProducerBatch>) -> bool {
        self.try_empty(true, out)
    }

    fn try_empty(&self, shut: bool, out: &mut Vec<ProducerBatch>) -> bool {
        let Some(mut front) = self.front.try_lock_or_want() else { return false };
        front.shut |= shut;
        let first = out.len();
        out.extend(front.closed.drain(..));
        out.extend(front.close_open(Instant(0), false));
        self.count_left(out.len() - first);
        front.listing = Listing::Unlisted;
        true
    }
}

impl Front {
    /// Tells the network thread, unless it knows; true if it must be woken.
    pub(super) fn list(
        &mut self,
        partition: &Arc<Partition>,
        inbox: &Inbox,
        listing: Listing,
        deadline: Instant,
    ) -> bool {
        if self.muted || self.listing >= listing {
            return false;
        }
        self.listing = listing;
        inbox.push(partition, deadline)
    }

    fn take(
        &mut self,
        take: &Take,
        look: Option<Look>,
        out: &mut Vec<ProducerBatch>,
        queued: &mut bool,
    ) -> Taken {
        let mut taken = 0;
        // Asked once: it may be sealed while we look, and then its sealer is about to list it.
        let mut sealing = false;
        while taken < take.max_batches {
            let batch = match self.closed.front() {
                Some(head) if head_is_ready(head, take, look) => self.closed.pop_front(),
                Some(_) => {
                    sealing = true;
                    break;
                }
                None if self.open_is_ready(take) && !take.closed_only => {
                    match self.close_open(take.now, false) {
                        Some(batch) if is_to_be_packed(&batch, take, look) => {
                            self.closed.push_back(batch);
                            (*queued, sealing) = (true, true);
                            break;
                        }
                        batch => batch,
                    }
                }
                None => break,
            };
            out.extend(batch);
            taken += 1;
        }
        self.muted = take.mute && taken > 0;
        let rest = self.rest(take, look, sealing);
        self.listing = match rest {
            Rest::Nothing | Rest::Muted => Listing::Unlisted,
            Rest::Lingering(_) => Listing::Timed,
            Rest::Ready => Listing::Ready,
        };
        match rest {
            rest if taken > 0 => Taken::Batches { taken, rest },
            Rest::Nothing | Rest::Muted => Taken::Nothing,
            Rest::Lingering(deadline) => Taken::Lingering(deadline),
            Rest::Ready => Taken::Ready,
        }
    }

    fn rest(&self, take: &Take, look: Option<Look>, sealing: bool) -> Rest {
        match (self.closed.front(), &self.open) {
            _ if self.muted => Rest::Muted,
            (Some(head), _) if !sealing && head_is_ready(head, take, look) => Rest::Ready,
            // Its sealer will list it. Should that one be kept from running, the network thread
            // comes back.
            (Some(head), _) => {
                let again = match (head.body.seal_state(), look) {
                    (SealState::Queued | SealState::Packing, Some(look)) => {
                        look.again(head).max(take.now.after(SEAL_PATIENCE))
                    }
                    _ => head.closed.after(SEAL_PATIENCE),
                };
                Rest::Lingering(on_grid(again))
            }
            (None, Some(_)) if self.open_is_ready(take) => Rest::Ready,
            (None, Some(open)) => Rest::Lingering(on_grid(open.deadline)),
            (None, None) => Rest::Nothing,
        }
    }

    fn open_is_ready(&self, take: &Take) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.is_full()
                || open.deadline <= take.now
                || (take.force && open.cut <= take.force_cut)
        })
    }

    fn next_expiry(&self, timeout: Duration) -> Option<Instant> {
        let closed = self.closed.iter().map(|batch| batch.expires(timeout)).min();
        let open = self.open.as_ref().map(|open| open.next_deadline(timeout));
        closed.into_iter().chain(open).min()
    }

    /// A batch is open from now on: nobody else's was.
    pub(super) fn open(&mut self, batch: OpenBatch, partition: &Partition) {
        debug_assert!(self.open.is_none(), "one batch is open at a time");
        self.open = Some(batch);
        partition.queued.store(partition.queued() + 1, Ordering::Relaxed);
    }

    pub(super) fn close_open(&mut self, now: Instant, full: bool) -> Option<ProducerBatch> {
        let open = self.open.take()?;
        self.history.remember(&open, full || open.is_full());
        Some(open.close(now))
    }
}

impl History {
    fn remember(&mut self, batch: &OpenBatch, full: bool) {
        self.full_streak = if full { self.full_streak.saturating_add(1) } else { 0 };
        self.records_len = batch.records_len();
        self.count = batch.count() as usize;
        self.opened = batch.created;
    }
}

#[cfg(test)]
mod tests {
    use super::super::append::Appended;
    use super::super::batch::Alone;
    use super::super::testing::{Bench, LINGER, ms, partition, reading, record, take, take_at};
    use super::*;
    use crate::error::status;

    #[test]
    fn an_open_batch_lingers_until_its_deadline() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        assert_eq!(take(&partition, take_at(ms(1))).0, Taken::Nothing);
        bench.must_append(&partition, Instant(1_300), 10);
        let deadline = ms(7);
        assert_eq!(take(&partition, take_at(ms(2))).0, Taken::Lingering(deadline));
        assert_eq!(take(&partition, take_at(ms(6))).0, Taken::Lingering(deadline));
        let (taken, batches) = take(&partition, take_at(deadline));
        assert_eq!(taken, Taken::Batches { taken: 1, rest: Rest::Nothing });
        assert_eq!((batches[0].created, batches[0].closed), (Instant(1_300), deadline));
        assert_eq!(batches[0].body.seal_state(), SealState::Sealed);
        assert_eq!(take(&partition, take_at(ms(7))).0, Taken::Nothing);
    }

    #[test]
    fn force_ends_the_lingering_of_its_cut_and_older_ones() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        bench.must_append(&partition, ms(1), 10);
        let flushed = bench.context.cuts.advance();
        bench.must_append(&partition, ms(2), 10);
        let force = Take { force: true, force_cut: flushed - 1, ..take_at(ms(2)) };
        let (taken, batches) = take(&partition, force);
        let rest = Rest::Lingering(ms(7));
        assert_eq!((taken, batches.len()), (Taken::Batches { taken: 1, rest }, 1), "it is closed");
        assert_eq!(take(&partition, force).0, Taken::Lingering(ms(7)));
        let force = Take { force_cut: flushed, ..force };
        assert_eq!(take(&partition, force).0, Taken::Lingering(ms(7)));
        let force = Take { force_cut: flushed + 1, ..force };
        let rest = Rest::Nothing;
        assert_eq!(take(&partition, force).0, Taken::Batches { taken: 1, rest });
    }

    #[test]
    fn what_is_left_is_told_and_not_listed_again() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        for _ in 0..3 {
            bench.must_append(&partition, ms(1), 10);
            bench.context.cuts.advance();
        }
        bench.drain();
        let one = Take { max_batches: 1, ..take_at(ms(1)) };
        let rest = Rest::Ready;
        assert_eq!(take(&partition, one).0, Taken::Batches { taken: 1, rest });
        let none = Take { max_batches: 0, ..one };
        assert_eq!(take(&partition, none).0, Taken::Ready);
        bench.must_append(&partition, ms(1), 10);
        bench.context.cuts.advance();
        bench.must_append(&partition, ms(1), 10);
        assert!(bench.drain().is_empty(), "it is in the network thread's hands");
        let open_too = Take { now: ms(1).after(LINGER), ..take_at(ms(1)) };
        let closed_only = Take { closed_only: true, ..open_too };
        let (taken, batches) = take(&partition, closed_only);
        assert_eq!((taken, batches.len()), (Taken::Batches { taken: 3, rest }, 3));
        assert_eq!(take(&partition, closed_only).0, Taken::Ready);
        let rest = Rest::Nothing;
        assert_eq!(take(&partition, open_too).0, Taken::Batches { taken: 1, rest });
        bench.must_append(&partition, ms(1), 10);
        assert_eq!(bench.drain_slots(), [(0, ms(6))]);
    }

    #[test]
    fn a_muted_partition_is_silent_until_the_next_take() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        bench.must_append(&partition, ms(1), 10);
        bench.drain();
        let mute = Take { mute: true, ..take_at(ms(6)) };
        assert_eq!(take(&partition, mute).0, Taken::Batches { taken: 1, rest: Rest::Muted });
        bench.must_append(&partition, ms(7), 10);
        bench.context.cuts.advance();
        bench.must_append(&partition, ms(7), 10);
        assert!(bench.drain().is_empty());
        assert_eq!(take(&partition, Take { max_batches: 0, ..mute }).0, Taken::Ready);
        assert_eq!(take(&partition, take_at(ms(7))).1.len(), 1);
        // Nothing taken: nothing in flight that could unmute it.
        assert_eq!(take(&partition, Take { mute: true, ..take_at(ms(8)) }).1.len(), 0);
        bench.context.cuts.advance();
        bench.must_append(&partition, ms(8), 10);
        assert_eq!(bench.drain_slots(), [(0, Inbox::NOW)]);
    }

    /// A closer that was preempted before it could seal.
    #[test]
    fn an_unsealed_batch_is_left_to_its_sealer_for_a_while() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        let close_unsealed = || {
            bench.must_append(&partition, ms(1), 10);
            let mut appender = partition.appender(&bench.context);
            let front = appender.front();
            let batch = front.close_open(ms(2), false).unwrap();
            front.closed.push_back(batch);
        };
        close_unsealed();
        let patience = ms(2).after(SEAL_PATIENCE);
        assert_eq!(take(&partition, take_at(ms(2))).0, Taken::Lingering(patience));
        let (taken, batches) = take(&partition, take_at(patience));
        assert_eq!(taken, Taken::Batches { taken: 1, rest: Rest::Nothing });
        assert_eq!(batches[0].body.seal_state(), SealState::Sealed);
        close_unsealed();
        let force = Take { force: true, force_cut: u64::MAX, ..take_at(ms(2)) };
        let rest = Rest::Nothing;
        assert_eq!(take(&partition, force).0, Taken::Batches { taken: 1, rest });
    }

    #[test]
    fn batches_count_as_queued_from_when_they_are_opened_until_they_leave() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        assert_eq!(partition.queued(), 0);
        for number in 1..=5 {
            bench.must_append(&partition, ms(number.into()), 10);
            bench.must_append(&partition, ms(number.into()), 10);
            assert_eq!(partition.queued(), number);
            bench.context.cuts.advance();
        }
        let one = Take { max_batches: 1, ..take_at(ms(7)) };
        assert_eq!(take(&partition, one).1.len(), 1);
        assert_eq!(partition.queued(), 4);
        let mut out = Vec::new();
        let expired = partition.try_expire(ms(103), Duration::from_millis(100), &mut out);
        assert_eq!((expired, out.len()), (Expired::Ready(ms(104)), 2));
        assert_eq!(partition.queued(), 2);
        assert!(partition.try_purge(&mut out));
        assert_eq!((partition.queued(), out.len()), (0, 4));
    }

    #[test]
    fn batches_leave_at_their_deadlines() {
        const TIMEOUT: Duration = Duration::from_millis(100);
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        for created in [1, 2, 3] {
            bench.must_append(&partition, ms(created), 10);
            bench.context.cuts.advance();
        }
        let mut out = Vec::new();
        let mut expire = |now| partition.try_expire(ms(now), TIMEOUT, &mut out);
        assert_eq!(expire(100), Expired::Next(ms(101)));
        assert_eq!(expire(102), Expired::Ready(ms(103)));
        assert_eq!(out.iter().map(|batch| batch.created).collect::<Vec<_>>(), [ms(1), ms(2)]);
        bench.drain();
        bench.must_append(&partition, ms(4), 10);
        assert!(bench.drain().is_empty(), "what is listed stays listed");
        let mut expire = |now| partition.try_expire(ms(now), TIMEOUT, &mut out);
        assert_eq!(expire(103), Expired::Ready(ms(104)));
        assert_eq!(expire(104), Expired::Next(Instant::NEVER));
        assert_eq!(out.len(), 4);
        bench.must_append(&partition, ms(5), 10);
        assert_eq!(bench.drain_slots(), [(0, ms(10))], "an empty front is unlisted");
    }

    #[test]
    fn a_record_that_somebody_waits_for_is_alone_and_has_its_own_deadline() {
        const TIMEOUT: Duration = Duration::from_millis(100);
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        bench.must_append(&partition, ms(1), 10);
        let alone = Alone { sync_id: 7, deadline: ms(50) };
        let appended = partition.appender(&bench.context).append_alone(
            &record(b"sync", 9),
            reading(ms(2)),
            alone,
        );
        assert!(matches!(appended, Ok(Appended::Done { .. })));
        bench.must_append(&partition, ms(3), 10);
        assert_eq!(bench.drain_slots(), [(0, ms(6)), (0, Inbox::NOW)]);
        let mut out = Vec::new();
        let expired = partition.try_expire(ms(50), TIMEOUT, &mut out);
        assert_eq!(expired, Expired::Ready(ms(101)), "those in front of it are not due");
        assert_eq!((out.len(), out[0].alone, out[0].body.tags()), (1, Some(alone), &[9][..]));
        let (taken, batches) = take(&partition, take_at(ms(3)));
        let rest = Rest::Lingering(ms(8));
        assert_eq!((taken, batches.len()), (Taken::Batches { taken: 1, rest }, 1));
    }

    #[test]
    fn a_closed_front_takes_no_record() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        bench.must_append(&partition, ms(1), 10);
        let mut out = Vec::new();
        assert!(partition.try_close(&mut out));
        assert_eq!(out.len(), 1);
        let refused = partition.try_append(&bench.context, &record(b"", 0), reading(ms(1)));
        assert_eq!(refused.unwrap_err().status, status::CLOSED);
        assert_eq!(partition.accepted(), 1);
    }

    #[test]
    fn memory_is_the_leader_s_of_the_time_it_was_taken() {
        let bench = Bench::new(4 << 10);
        let pool = &bench.context.pool;
        let [a, b, c] = [0, 1, 2].map(partition);
        a.set_leader(pool, 1);
        b.set_leader(pool, 1);
        c.set_leader(pool, 2);
        for _ in 0..3 {
            bench.must_append(&a, ms(1), 700);
        }
        bench.must_append(&c, ms(1), 700);
        let b_waits = bench.must_wait(&b, ms(1), 700);
        let c_waits = loop {
            match bench.append(&c, ms(1), 700) {
                Appended::NoMemory(waiting) => break waiting,
                Appended::Done { .. } | Appended::BatchFull => continue,
            }
        };
        a.set_leader(pool, 2);
        assert_eq!((a.leader(), pool.waiting()), (2, 2));
        let mut out = Vec::new();
        assert!(c.try_purge(&mut out));
        out.clear();
        assert!(c_waits.is_over() && !b_waits.is_over(), "leader 1 still has more than half");
        assert!(a.try_purge(&mut out));
        out.clear();
        assert!(b_waits.is_over());
    }
}
