//! The memory of batches: slabs of a few sizes, arrays of tags, the limit `buffer.memory`, and who
//! gets what is freed.
//!
//! Fresh memory is the dearest thing on the way of a record (a page fault costs more than copying,
//! checking and sending the page), so slabs go back to a free list per size and the last one freed
//! is the first one reused. Free lists and used memory together stay within `buffer.memory` + 25 %;
//! what exceeds that leaves the size that was not asked for longest, when something is freed, never
//! on the way to an allocation.
//!
//! Any thread; one mutex, touched once per slab and once per closed batch, never per record.
//! Whoever finds no memory gets a [`Ticket`]: one per partition, FIFO per leader, round robin
//! between leaders, no leader above half of the memory while another waits. Whoever frees memory
//! hands it to the ticket that is next, exactly: bytes are charged to it before its waiters wake,
//! and come back if nobody is left to use them.

use super::slab::{Garbage, SMALLEST_TAGS, Shelves, Slab, TagSlab};
use super::ticket::{Line, Ticket, TicketState, Waiting};
use crate::clock::Instant;
use crate::sync::Wake;
use crate::sync::prim::{AtomicUsize, Mutex, Ordering, guard};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::time::Duration;

/// Slab sizes every pool has; `batch.size` joins them.
const SIZES: [usize; 4] = [SMALLEST_SLAB, 4 << 10, 16 << 10, 64 << 10];
/// What an idle partition starts a batch with.
pub(super) const SMALLEST_SLAB: usize = 1 << 10;
/// Slabs for one large record are a multiple of this, so that the next large record may reuse them.
const ODD_GRAIN: usize = 4 << 10;
/// How often [`BufferPool::trim`] looks.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);

/// What a partition gets for a new batch.
pub(super) enum First {
    Slab(Slab),
    /// Nothing yet; `fresh`: nobody of this partition has waited before.
    Wait {
        waiting: Waiting,
        fresh: bool,
    },
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
}

#[derive(Debug)]
struct State {
    shelves: Shelves,
    line: Line,
    trimmed: Instant,
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
        })
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

    /// The first slab of a partition's new batch. Where others wait already, or there is too
    /// little, the partition waits its turn with the ticket left in `ticket`; on the way back the
    /// ticket's bytes are the slab.
    pub(super) fn first(
        self: &Arc<Self>,
        slot: u32,
        leader: &AtomicI32,
        size: usize,
        ticket: &mut Option<Arc<Ticket>>,
    ) -> First {
        let mut granted = Vec::new();
        let mut state = guard(&self.state);
        let charged = state.line.first(slot, leader, size, ticket, &mut granted);
        let first = match charged {
            Ok((size, leader)) => {
                let data = state.shelves.take_slab(size);
                self.publish(&state);
                drop(state);
                First::Slab(Slab::new(data, size, leader))
            }
            Err((ticket, fresh)) => {
                self.publish(&state);
                drop(state);
                First::Wait { waiting: Waiting::new(Arc::clone(self), ticket), fresh }
            }
        };
        wake(granted);
        first
    }

    /// A waiter of this ticket is gone. With the last one the ticket ends: its place, or the bytes
    /// it was granted, go to who is next.
    pub(super) fn leave(&self, ticket: &Arc<Ticket>) {
        let mut granted = Vec::new();
        let mut state = guard(&self.state);
        state.line.leave(ticket, &mut granted);
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
        let mut granted = Vec::new();
        let mut garbage = Garbage::default();
        let starved = {
            let mut state = guard(&self.state);
            for slab in slabs {
                state.line.refund(slab.leader, slab.size());
                state.shelves.put_slab(slab, &mut garbage);
            }
            if let Some(tags) = tags {
                state.line.refund(tags.leader, tags.size());
                state.shelves.put_tags(tags);
            }
            let others = self.closed.fetch_sub(closed, Ordering::Relaxed) - closed;
            state.line.grant(&mut granted);
            let most = self.limit + self.limit / 4 - state.line.used();
            state.shelves.shrink(most, &mut garbage);
            self.publish(&state);
            closed > 0 && others == 0 && state.line.waiting() > 0
        };
        wake(granted);
        if starved {
            self.starved.wake();
        }
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

fn wake(granted: Vec<Arc<Ticket>>) {
    for ticket in granted {
        debug_assert_ne!(ticket.state(), TicketState::Waiting);
        ticket.signal.notify();
    }
}
