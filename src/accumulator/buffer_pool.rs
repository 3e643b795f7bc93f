//! The memory of batches: slabs of a few sizes, arrays of tags, the limit `buffer.memory`, and who
//! gets what is freed.
//!
//! Fresh memory is the dearest thing on the way of a record (a page fault costs more than copying,
//! checking and sending the page), so slabs go back to a free list per size and the last one freed
//! is the first one reused. Free lists and used memory together stay within `buffer.memory` and a
//! thirty-second of it; what exceeds that leaves the size that was not asked for longest, when
//! something is freed, never on the way to an allocation.
//!
//! Any thread; one mutex, touched once per slab and once per closed batch, never per record.
//! Whoever finds no memory gets a [`Ticket`]: one per partition, FIFO per leader, round robin
//! between leaders, and no leader takes more than it leaves free while it is not alone. Whoever
//! frees memory hands it to the ticket that is next, exactly: bytes are charged to it before its
//! waiters wake, and come back if nobody is left to use them.

use super::cuts::Cuts;
use super::slab::{Garbage, SMALLEST_TAGS, Shelves, Slab, TagSlab};
use super::ticket::{Line, Need, Ticket, Waiting};
use crate::clock::Instant;
use crate::error::Error;
use crate::log::{Level, Logger};
use crate::sync::Wake;
use crate::sync::prim::{AtomicUsize, Mutex, Ordering, guard};
use std::fmt;
use std::sync::atomic::AtomicI32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Slab sizes every pool has; `batch.size` joins them.
const SIZES: [usize; 4] = [SMALLEST_SLAB, 4 << 10, 16 << 10, 64 << 10];
/// What an idle partition starts a batch with.
pub(super) const SMALLEST_SLAB: usize = 1 << 10;
/// Slabs for one large record are a multiple of this, so that the next large record may reuse them.
const ODD_GRAIN: usize = 4 << 10;
/// How often [`BufferPool::trim`] looks.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);

/// What a partition gets in turn.
pub(super) enum First<T> {
    Memory(T),
    /// Nothing yet; `fresh`: nobody of this partition has waited before.
    Wait {
        waiting: Waiting,
        fresh: bool,
    },
}

impl<T> First<T> {
    pub(super) fn map<U>(self, into: impl FnOnce(T) -> U) -> First<U> {
        match self {
            First::Memory(memory) => First::Memory(into(memory)),
            First::Wait { waiting, fresh } => First::Wait { waiting, fresh },
        }
    }
}

/// Memory that was freed under a lock. Drop it when that lock is free: it wakes those who got it.
#[must_use]
pub(super) struct Freed {
    granted: Vec<Arc<Ticket>>,
    starved: Option<Arc<dyn Wake>>,
    _garbage: Garbage,
}

impl Drop for Freed {
    fn drop(&mut self) {
        wake(std::mem::take(&mut self.granted));
        if let Some(starved) = &self.starved {
            starved.wake();
        }
    }
}

/// `buffer.memory`.
pub struct BufferPool {
    limit: usize,
    /// Ascending.
    sizes: Vec<usize>,
    state: Mutex<State>,
    /// Copies of what the mutex guards, for readers that can do with a moment ago.
    used: AtomicUsize,
    waiting: AtomicUsize,
    /// The part of `used` that belongs to closed batches: it comes back without anybody lingering
    /// any less.
    closed: AtomicUsize,
    starved: Arc<dyn Wake>,
    /// Where whoever holds a batch and nothing else reports a defect of ours.
    logger: OnceLock<Logger>,
}

#[derive(Debug)]
struct State {
    shelves: Shelves,
    line: Line,
    trimmed: Instant,
}

impl State {
    fn put_back(&mut self, tags: impl IntoIterator<Item = TagSlab>) {
        for tags in tags {
            self.line.refund(tags.leader, tags.size());
            self.shelves.put_tags(tags);
        }
    }
}

impl BufferPool {
    /// A pool of `buffer.memory` bytes for batches of `batch.size`. `starved` is woken when
    /// somebody waits and no closed batch is left whose completion would free anything.
    pub fn new(limit: usize, batch_size: usize, starved: Arc<dyn Wake>) -> Arc<BufferPool> {
        let mut sizes = SIZES.to_vec();
        if batch_size > SMALLEST_SLAB && !sizes.contains(&batch_size) {
            sizes.push(batch_size);
            sizes.sort_unstable();
        }
        let state = State {
            shelves: Shelves::new(&sizes),
            line: Line::new(limit),
            trimmed: Instant::default(),
        };
        Arc::new(BufferPool {
            limit,
            sizes,
            state: Mutex::new(state),
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            starved,
            logger: OnceLock::new(),
        })
    }

    /// Defects that show in batches are logged from here on.
    pub fn log_to(&self, logger: &Logger) {
        let _ = self.logger.set(logger.clone());
    }

    /// Records that were compressed here can't be decompressed.
    pub(super) fn report(&self, error: &Error) {
        if let Some(logger) = self.logger.get() {
            logger.log(Level::Error, "accumulator", || {
                format!("records were compressed and are lost for the report: {}", error.message)
            });
        }
    }

    /// `buffer.memory`.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes charged: slabs and tags in every state, and what tickets were granted.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes of closed batches, which their completion will free. While this is 0 and somebody
    /// [waits](Self::waiting), only a batch that stops lingering can free anything.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    /// Lets everybody who waits look whether waiting still makes sense: the producer closes.
    pub fn alert(&self) {
        guard(&self.state).line.alert();
    }

    /// A batch is done, and perhaps it was the last: whoever waits for memory that nothing on its
    /// way will free has to look again. Of this and a caller that begins to wait one sees the
    /// other: the one is done before it looks who waits, the other waits before it looks what is
    /// not done, which is under the mutex of `cuts`.
    pub fn alert_when_all_is_done(&self, cuts: &Cuts) {
        if self.waiting() > 0 && cuts.outstanding_upto(u64::MAX) == 0 {
            self.alert();
        }
    }

    /// The leader that holds most, -1 for partitions without one, and how much.
    pub fn holder(&self) -> Option<(i32, usize)> {
        guard(&self.state).line.holder()
    }

    /// The leaders of the partitions that wait for memory, appended to `into`.
    pub fn waiting_leaders(&self, into: &mut Vec<i32>) {
        into.extend(guard(&self.state).line.waiting_leaders());
    }

    /// How many partitions wait for memory.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Bytes on the free lists: not used, but not given back to the system either.
    pub fn spare(&self) -> usize {
        guard(&self.state).shelves.spare()
    }

    /// The size of the slab that a record of `len` bytes takes if it begins one: the smallest size
    /// that fits, or its own if it would leave most of that empty.
    pub(super) fn size_for(&self, len: usize) -> usize {
        let fits = self.sizes.iter().copied().find(|size| *size >= len && *size <= self.limit);
        let odd = len.next_multiple_of(ODD_GRAIN);
        match fits {
            Some(size) if size <= ODD_GRAIN || size / 2 <= len => size,
            Some(_) | None if odd <= self.limit => odd,
            Some(_) | None => len,
        }
    }

    /// The largest slab size up to `most`, the smallest if there is none.
    pub(super) fn size_upto(&self, most: usize) -> usize {
        self.sizes.iter().copied().rev().find(|size| *size <= most).unwrap_or(SMALLEST_SLAB)
    }

    /// The smallest slab size from `least` on, the largest if there is none.
    pub(super) fn size_from(&self, least: usize) -> usize {
        let largest = self.sizes.last().copied().unwrap_or(SMALLEST_SLAB);
        self.sizes.iter().copied().find(|size| *size >= least).unwrap_or(largest)
    }

    /// One more slab for an open batch, from free memory, tickets or not: the batch they wait
    /// behind ends the sooner.
    pub(super) fn grow(&self, size: usize, leader: &AtomicI32) -> Option<Slab> {
        let (leader, data) = {
            let mut state = guard(&self.state);
            let leader = leader.load(Ordering::Relaxed);
            if !state.line.charge_growth(leader, size) {
                return None;
            }
            let data = state.shelves.take_slab(size);
            self.publish(&state);
            (leader, data)
        };
        Some(Slab::new(data, size, leader))
    }

    /// Tags for at least `count` records, under the same rule.
    pub(super) fn grow_tags(&self, count: usize, leader: &AtomicI32) -> Option<TagSlab> {
        let count = count.max(SMALLEST_TAGS).checked_next_power_of_two()?;
        let (leader, tags) = {
            let mut state = guard(&self.state);
            let leader = leader.load(Ordering::Relaxed);
            if !state.line.charge_growth(leader, count.checked_mul(size_of::<u64>())?) {
                return None;
            }
            let tags = state.shelves.take_tags(count);
            self.publish(&state);
            (leader, tags)
        };
        Some(TagSlab::new(tags, count, leader))
    }

    /// A slab for a partition, in turn. Where others wait already, or there is too little, the
    /// partition waits with the ticket left in `ticket`; on the way back the ticket's bytes are the
    /// slab, if they are `least` at least.
    pub(super) fn first(
        self: &Arc<Self>,
        (slot, leader): (u32, &AtomicI32),
        least: usize,
        size: usize,
        ticket: &mut Option<Arc<Ticket>>,
    ) -> First<Slab> {
        self.in_turn(slot, leader, Need { least, size }, ticket, |state, size, leader| {
            (state.shelves.take_slab(size), size, leader)
        })
        .map(|(data, size, leader)| Slab::new(data, size, leader))
    }

    /// Tags for at least `count` records, likewise.
    pub(super) fn first_tags(
        self: &Arc<Self>,
        (slot, leader): (u32, &AtomicI32),
        count: usize,
        ticket: &mut Option<Arc<Ticket>>,
    ) -> First<TagSlab> {
        let count = count.max(SMALLEST_TAGS).next_power_of_two();
        let least = count.saturating_mul(size_of::<u64>());
        // A slab's size, since it may be one that they become.
        let size = self.size_from(least).max(least);
        self.in_turn(slot, leader, Need { least, size }, ticket, |state, size, leader| {
            state.line.refund(leader, size - least);
            (state.shelves.take_tags(count), leader)
        })
        .map(|(tags, leader)| TagSlab::new(tags, count, leader))
    }

    fn in_turn<T>(
        self: &Arc<Self>,
        slot: u32,
        leader: &AtomicI32,
        need: Need,
        ticket: &mut Option<Arc<Ticket>>,
        take: impl FnOnce(&mut State, usize, i32) -> T,
    ) -> First<T> {
        let mut granted = Vec::new();
        let mut state = guard(&self.state);
        let first = match state.line.first(slot, leader, need, ticket, &mut granted) {
            Ok((size, leader)) => {
                let taken = take(&mut state, size, leader);
                state.line.grant(&mut granted);
                First::Memory(taken)
            }
            Err((ticket, fresh)) => {
                let yields = state.line.fits(ticket.need());
                let waiting = Waiting::new(Arc::clone(self), ticket, need.least, yields);
                First::Wait { waiting, fresh }
            }
        };
        self.publish(&state);
        drop(state);
        wake(granted);
        first
    }

    /// A waiter of this ticket is gone. With the last one the ticket ends: its place, or the bytes
    /// it was granted, go to who is next.
    pub(super) fn leave(&self, ticket: &Arc<Ticket>, least: usize) {
        let mut granted = Vec::new();
        let mut state = guard(&self.state);
        state.line.leave(ticket, least, &mut granted);
        self.publish(&state);
        drop(state);
        wake(granted);
    }

    /// The partition's leader is now this one: stores it, and the partition waits in that leader's
    /// queue from now on.
    pub(super) fn move_leader(&self, slot: u32, leader: &AtomicI32, to: i32) {
        let mut granted = Vec::new();
        let mut state = guard(&self.state);
        let from = leader.swap(to, Ordering::Relaxed);
        if from != to {
            state.line.move_ticket(slot, from, to, &mut granted);
            self.publish(&state);
        }
        drop(state);
        wake(granted);
    }

    /// A batch's memory comes back, all at once.
    pub(super) fn release(
        &self,
        slabs: impl Iterator<Item = Slab>,
        tags: Option<TagSlab>,
        closed: usize,
    ) {
        self.exchange(slabs, tags, closed, (-1, 0));
    }

    /// A batch's memory comes back but for these bytes, not more, which are this leader's: they are
    /// its pieces'. Nobody who waits gets them in between.
    pub(super) fn exchange(
        &self,
        slabs: impl Iterator<Item = Slab>,
        tags: impl IntoIterator<Item = TagSlab>,
        closed: usize,
        pieces: (i32, usize),
    ) {
        drop(self.trade(slabs, tags, closed, pieces));
    }

    /// The same for somebody who holds a lock: who waits is woken by what is returned.
    pub(super) fn trade(
        &self,
        slabs: impl Iterator<Item = Slab>,
        tags: impl IntoIterator<Item = TagSlab>,
        closed: usize,
        (leader, pieces): (i32, usize),
    ) -> Freed {
        let mut garbage = Garbage::default();
        let mut state = guard(&self.state);
        for slab in slabs {
            state.line.refund(slab.leader, slab.size());
            state.shelves.put_slab(slab, &mut garbage);
        }
        state.put_back(tags);
        if pieces > 0 {
            state.line.charge(leader, pieces);
        }
        self.settle(&mut state, closed, garbage)
    }

    /// After memory came back, `closed` of it a closed batch's: whoever can have it now gets it.
    fn settle(&self, state: &mut State, closed: usize, mut garbage: Garbage) -> Freed {
        let mut granted = Vec::new();
        let others = self.closed.fetch_sub(closed, Ordering::Relaxed) - closed;
        state.line.grant(&mut granted);
        self.shrink(state, &mut garbage);
        self.publish(state);
        let starved = closed > 0 && others == 0 && state.line.waiting() > 0;
        let starved = starved.then(|| Arc::clone(&self.starved));
        Freed { granted, starved, _garbage: garbage }
    }

    fn shrink(&self, state: &mut State, garbage: &mut Garbage) {
        let most = (self.limit + self.limit / 32).saturating_sub(state.line.used());
        state.shelves.shrink(most, garbage);
    }

    /// Slabs for `len` bytes that take the place of others which are charged as `instead`, more
    /// than `len`. They are charged with [`BufferPool::trade`] or come back by
    /// [`BufferPool::shelve`].
    pub(super) fn slabs_for(&self, len: usize, instead: usize) -> Vec<Slab> {
        let mut sizes = Vec::new();
        let mut left = len;
        while left > 0 {
            let above = self.size_from(left);
            let fits = above >= left && (above == SMALLEST_SLAB || above - left <= left / 4);
            let size = if fits { above } else { self.size_upto(left) };
            sizes.push(size);
            left = left.saturating_sub(size);
        }
        if sizes.iter().sum::<usize>() > instead {
            return vec![Slab::new(None, len, -1)];
        }
        let data: Vec<_> = {
            let mut state = guard(&self.state);
            sizes.iter().map(|size| state.shelves.take_slab(*size)).collect()
        };
        data.into_iter().zip(sizes).map(|(data, size)| Slab::new(data, size, -1)).collect()
    }

    /// Slabs that were not needed after all.
    pub(super) fn shelve(&self, slabs: impl IntoIterator<Item = Slab>) {
        let mut garbage = Garbage::default();
        let mut state = guard(&self.state);
        for slab in slabs {
            state.shelves.put_slab(slab, &mut garbage);
        }
        self.shrink(&mut state, &mut garbage);
    }

    /// What a batch left behind is gone: a slab of tags, or bytes charged to a leader without one.
    pub(super) fn release_detached(&self, tags: Option<TagSlab>, (leader, charged): (i32, usize)) {
        let closed = charged + tags.as_ref().map_or(0, TagSlab::size);
        let freed = {
            let mut state = guard(&self.state);
            if charged > 0 {
                state.line.refund(leader, charged);
            }
            state.put_back(tags);
            self.settle(&mut state, closed, Garbage::default())
        };
        drop(freed);
    }

    /// A batch is closed: so many of the bytes charged will come back by themselves.
    pub(super) fn close(&self, bytes: usize) {
        self.closed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back to the system half of what nobody has needed since the last look. For the network
    /// thread, about once a second; says when to come again, [`Instant::NEVER`] if nothing is left
    /// to give.
    pub fn trim(&self, now: Instant) -> Instant {
        let mut garbage = Garbage::default();
        let mut state = guard(&self.state);
        let due = state.trimmed.after(TRIM_INTERVAL);
        if now < due {
            return if state.shelves.spare() == 0 { Instant::NEVER } else { due };
        }
        state.trimmed = now;
        state.shelves.trim(&mut garbage);
        let left = state.shelves.spare();
        drop(state);
        drop(garbage);
        if left == 0 { Instant::NEVER } else { now.after(TRIM_INTERVAL) }
    }

    fn publish(&self, state: &State) {
        self.used.store(state.line.used(), Ordering::Relaxed);
        self.waiting.store(state.line.waiting(), Ordering::Relaxed);
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("limit", &self.limit)
            .field("used", &self.used())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

/// Those who wait with these tickets look again. By now one may wait again: a larger record of its
/// partition came first.
fn wake(granted: Vec<Arc<Ticket>>) {
    for ticket in granted {
        ticket.signal.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bell, Bench, ms, partition};
    use super::*;
    use crate::clock::Clock;

    const BATCH_SIZE: usize = 100_000;

    fn pool(limit: usize) -> Arc<BufferPool> {
        BufferPool::new(limit, BATCH_SIZE, Arc::new(Bell::default()))
    }

    #[test]
    fn a_record_gets_the_smallest_slab_that_it_fills() {
        let pool = pool(1 << 20);
        for (len, size) in [
            (1, 1 << 10),
            (1 << 10, 1 << 10),
            (1025, 4 << 10),
            (5_000, 8 << 10),
            (9_000, 16 << 10),
            (20_000, 20 << 10),
            (40_000, 64 << 10),
            (BATCH_SIZE, BATCH_SIZE),
            (BATCH_SIZE + 1, 100 << 10),
            (1 << 20, 1 << 20),
            ((1 << 20) - 1, 1 << 20),
        ] {
            assert_eq!(pool.size_for(len), size, "{len}");
        }
        assert_eq!((pool.size_upto(70_000), pool.size_upto(3)), (64 << 10, 1 << 10));
        assert_eq!((pool.size_from(70_000), pool.size_from(200_000)), (BATCH_SIZE, BATCH_SIZE));
    }

    #[test]
    fn in_a_tiny_pool_a_record_takes_what_it_needs() {
        let pool = pool(500);
        assert_eq!(pool.size_for(400), 400);
        assert_eq!(pool.size_for(501), 501, "and is refused by its size");
    }

    #[test]
    fn memory_is_charged_by_slab_and_by_tags_and_comes_back() {
        let pool = pool(10_000);
        let leader = AtomicI32::new(7);
        let slab = pool.grow(4 << 10, &leader).unwrap();
        let tags = pool.grow_tags(17, &leader).unwrap();
        assert_eq!((tags.tags.len(), tags.size()), (128, 1024));
        assert_eq!(pool.used(), 5 << 10);
        assert!(pool.grow(BATCH_SIZE, &leader).is_none());
        assert!(pool.grow_tags(1 << 20, &leader).is_none());
        pool.release([slab].into_iter(), Some(tags), 0);
        assert_eq!((pool.used(), pool.spare()), (0, 5 << 10));
        let again = pool.grow(4 << 10, &leader).unwrap();
        assert_eq!((pool.used(), pool.spare()), (4 << 10, 1 << 10));
        pool.release([again].into_iter(), None, 0);
    }

    #[test]
    fn free_and_used_memory_stay_within_a_quarter_above_the_limit() {
        let pool = pool(64 << 10);
        let leader = AtomicI32::new(0);
        let fill = |size: usize| -> Vec<Slab> {
            std::iter::from_fn(|| pool.grow(size, &leader)).collect()
        };
        for size in [1 << 10, 4 << 10, 16 << 10, 1 << 10] {
            let slabs = fill(size);
            assert_eq!(slabs.len(), (64 << 10) / size);
            pool.release(slabs.into_iter(), None, 0);
            assert!(pool.spare() <= (64 << 10) * 5 / 4, "{} after {size}", pool.spare());
        }
    }

    #[test]
    fn idle_memory_is_given_back_after_a_while() {
        let pool = pool(64 << 10);
        let leader = AtomicI32::new(0);
        assert_eq!(pool.trim(ms(2_000)), Instant::NEVER);
        let slab = pool.grow(16 << 10, &leader).unwrap();
        pool.release([slab].into_iter(), None, 0);
        let mut now = pool.trim(ms(2_500));
        assert_eq!((now, pool.spare()), (ms(3_000), 16 << 10));
        let mut looks = 0;
        while now != Instant::NEVER {
            now = pool.trim(now);
            looks += 1;
        }
        assert_eq!((pool.spare(), looks), (0, 2));
    }

    #[test]
    fn the_network_thread_is_told_when_only_it_can_free_memory() {
        let bench = Bench::new(2 << 10);
        let (a, b, c) = (partition(0), partition(1), partition(2));
        bench.must_append(&a, ms(1), 500);
        bench.must_append(&b, ms(1), 500);
        bench.drain();
        assert!(bench.context.inbox.prepare_to_wait(Instant::NEVER));
        let first = bench.must_wait(&c, ms(1), 500);
        assert_eq!(bench.bell.rung(), 1, "nothing is closed: it has to end some lingering");
        let again = bench.must_wait(&c, ms(1), 500);
        assert_eq!(bench.bell.rung(), 1, "it knows");
        drop((first, again));
        assert_eq!(bench.context.pool.waiting(), 0);
        // The same with a batch in flight, of which two references are left.
        let mut out = Vec::new();
        assert!(a.try_purge(&mut out));
        let shared = Arc::clone(&out[0].body);
        assert!(!bench.context.inbox.prepare_to_wait(Instant::NEVER), "it was told");
        assert!(bench.context.inbox.prepare_to_wait(Instant::NEVER));
        let waiting = bench.must_wait(&c, ms(1), 1_500);
        assert_eq!(bench.bell.rung(), 1, "that will free something");
        drop(out);
        assert_eq!(bench.bell.rung(), 1);
        drop(shared);
        assert_eq!(bench.bell.rung(), 2, "not enough, and nothing else is on its way");
        assert!(!waiting.is_over());
    }

    #[test]
    fn a_waiter_is_woken_by_what_is_freed() {
        let bench = Bench::new(1 << 10);
        let (a, b) = (partition(0), partition(1));
        bench.must_append(&a, ms(1), 100);
        let waiting = bench.must_wait(&b, ms(1), 100);
        let clock = Clock::system();
        assert!(!waiting.wait(&clock, clock.now().after(Duration::from_millis(2)), || false));
        let releaser = std::thread::Builder::new().spawn(move || {
            let mut out = Vec::new();
            assert!(a.try_purge(&mut out));
        });
        assert!(waiting.wait(&clock, Instant::NEVER, || false));
        assert_eq!(bench.context.pool.used(), 1 << 10, "charged to the ticket");
        releaser.unwrap().join().unwrap();
        bench.must_append(&b, ms(1), 100);
        drop(waiting);
        let mut out = Vec::new();
        assert!(b.try_purge(&mut out));
        drop(out);
        assert_eq!((bench.context.pool.used(), bench.context.pool.waiting()), (0, 0));
    }
}
