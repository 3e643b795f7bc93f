//! Who waits for memory, and in which order it is handed out.
//!
//! A [`Line`] is the books of a buffer pool: what is charged to whom, and the tickets of those who
//! wait. It belongs to the pool and is guarded by its mutex, and so is every change of a ticket's
//! state; a ticket's state may be read without. A ticket is granted, spent or ended once; bytes
//! granted to it are charged before its waiters wake, so that nobody else can take them.

use super::buffer_pool::BufferPool;
use crate::clock::{Clock, Instant};
use crate::sync::Signal;
use crate::sync::prim::{AtomicU8, AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

/// Where a ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TicketState {
    /// In its leader's queue.
    Waiting = 0,
    /// Its bytes are charged: append again.
    Granted = 1,
    /// The bytes are a batch's now.
    Spent = 2,
    /// Everybody who waited with it left.
    Ended = 3,
}

impl TicketState {
    /// The moves there are.
    fn may_become(self, next: TicketState) -> bool {
        match self {
            // From granted back to waiting: a larger record came first and needs more.
            TicketState::Waiting | TicketState::Granted => self != next,
            TicketState::Spent | TicketState::Ended => false,
        }
    }
}

/// A partition's place in the line for memory; all its threads wait with the same one.
#[derive(Debug)]
pub struct Ticket {
    slot: u32,
    /// Moves when the ticket is granted, and when a wait with it makes no sense any more.
    pub signal: Signal,
    state: AtomicU8,
    /// The rest is guarded by the pool's mutex.
    need: AtomicUsize,
    leader: AtomicI32,
    waiters: AtomicUsize,
}

impl Ticket {
    fn new(slot: u32, leader: i32, need: usize) -> Ticket {
        Ticket {
            slot,
            signal: Signal::default(),
            state: AtomicU8::new(TicketState::Waiting as u8),
            need: AtomicUsize::new(need),
            leader: AtomicI32::new(leader),
            waiters: AtomicUsize::new(0),
        }
    }

    /// Where it is now.
    pub fn state(&self) -> TicketState {
        match self.state.load(Ordering::Acquire) {
            0 => TicketState::Waiting,
            1 => TicketState::Granted,
            2 => TicketState::Spent,
            _ => TicketState::Ended,
        }
    }

    fn transition(&self, next: TicketState) {
        debug_assert!(self.state().may_become(next), "{:?} to {next:?}", self.state());
        self.state.store(next as u8, Ordering::Release);
    }

    fn need(&self) -> usize {
        self.need.load(Ordering::Relaxed)
    }

    fn leader(&self) -> i32 {
        self.leader.load(Ordering::Relaxed)
    }
}

/// One thread that waits for memory for one partition. Keep it until the next attempt to append has
/// returned: with its last waiter a ticket ends, and what it was granted goes to somebody else.
#[derive(Debug)]
#[must_use = "dropping it leaves the line"]
pub struct Waiting {
    pool: Arc<BufferPool>,
    ticket: Arc<Ticket>,
}

impl Waiting {
    pub(super) fn new(pool: Arc<BufferPool>, ticket: Arc<Ticket>) -> Waiting {
        Waiting { pool, ticket }
    }

    /// What is waited with.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Whether it is time to append again.
    pub fn is_over(&self) -> bool {
        self.ticket.state() != TicketState::Waiting
    }

    /// Waits until it is time to append again, or `given_up` says that it never will be; false if
    /// the deadline came first. No lock may be held.
    pub fn wait(&self, clock: &Clock, deadline: Instant, given_up: impl Fn() -> bool) -> bool {
        loop {
            let seen = self.ticket.signal.generation();
            if self.is_over() || given_up() {
                return true;
            }
            if !self.ticket.signal.wait(seen, clock, deadline) {
                return self.is_over();
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pool.leave(&self.ticket);
    }
}

/// The books of a pool.
#[derive(Debug)]
pub(super) struct Line {
    limit: usize,
    used: usize,
    /// By id, ascending.
    leaders: Vec<Leader>,
    waiting: usize,
    /// The leader served last: the next one with a higher id is first now.
    served: i32,
}

/// What one leader's partitions use, and which of them wait. -1: the partitions without a leader.
#[derive(Debug)]
struct Leader {
    id: i32,
    used: usize,
    queue: VecDeque<Arc<Ticket>>,
}

impl Line {
    pub(super) fn new(limit: usize) -> Line {
        Line { limit, used: 0, leaders: Vec::new(), waiting: 0, served: i32::MIN }
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Lets everybody who waits look whether waiting still makes sense.
    pub(super) fn alert(&self) {
        for ticket in self.leaders.iter().flat_map(|leader| &leader.queue) {
            ticket.signal.notify();
        }
    }

    fn leader(&mut self, id: i32) -> &mut Leader {
        let place = match self.leaders.binary_search_by_key(&id, |leader| leader.id) {
            Ok(place) => place,
            Err(place) => {
                self.leaders.insert(place, Leader { id, used: 0, queue: VecDeque::new() });
                place
            }
        };
        // In bounds by the search above.
        &mut self.leaders[place]
    }

    fn fits(&self, size: usize) -> bool {
        size <= self.limit - self.used
    }

    fn charge(&mut self, leader: i32, size: usize) {
        self.used += size;
        self.leader(leader).used += size;
        debug_assert!(self.used <= self.limit);
    }

    pub(super) fn refund(&mut self, leader: i32, size: usize) {
        debug_assert!(self.used >= size);
        self.used -= size;
        self.leader(leader).used -= size;
    }

    /// Whether this leader must let others go first: it would have more than half while another one
    /// waits.
    fn must_yield(&mut self, leader: i32, size: usize) -> bool {
        let half = self.limit / 2;
        let of = self.leader(leader);
        let (used, own) = (of.used, of.queue.len());
        // One that has nothing may have its large record.
        used > 0 && used + size > half && self.waiting > own
    }

    /// Charges memory for an open batch: past those who wait, out of what is free.
    pub(super) fn charge_growth(&mut self, leader: i32, size: usize) -> bool {
        let may = self.fits(size) && !self.must_yield(leader, size);
        if may {
            self.charge(leader, size);
        }
        may
    }

    /// Charges memory for a new batch: size and leader that were charged; or the ticket to wait
    /// with, counted as one more waiter, and whether it is a new one.
    pub(super) fn first(
        &mut self,
        slot: u32,
        leader: &AtomicI32,
        size: usize,
        held: &mut Option<Arc<Ticket>>,
        granted: &mut Vec<Arc<Ticket>>,
    ) -> Result<(usize, i32), (Arc<Ticket>, bool)> {
        let mut fresh = false;
        let ticket = match held.take() {
            Some(ticket) if ticket.state() == TicketState::Waiting => {
                ticket.need.fetch_max(size, Ordering::Relaxed);
                ticket
            }
            Some(ticket) if ticket.state() == TicketState::Granted && ticket.need() < size => {
                // First of its leader again, since it would have been its turn.
                self.refund(ticket.leader(), ticket.need());
                ticket.need.store(size, Ordering::Relaxed);
                ticket.transition(TicketState::Waiting);
                self.leader(ticket.leader()).queue.push_front(Arc::clone(&ticket));
                self.waiting += 1;
                self.grant(granted);
                ticket
            }
            Some(ticket) if ticket.state() == TicketState::Granted => ticket,
            Some(_) | None => {
                let leader = leader.load(Ordering::Relaxed);
                if self.waiting == 0 && self.fits(size) {
                    self.charge(leader, size);
                    return Ok((size, leader));
                }
                fresh = true;
                let ticket = Arc::new(Ticket::new(slot, leader, size));
                self.leader(leader).queue.push_back(Arc::clone(&ticket));
                self.waiting += 1;
                self.grant(granted);
                ticket
            }
        };
        if ticket.state() == TicketState::Granted {
            ticket.transition(TicketState::Spent);
            return Ok((ticket.need(), ticket.leader()));
        }
        ticket.waiters.fetch_add(1, Ordering::Relaxed);
        *held = Some(Arc::clone(&ticket));
        Err((ticket, fresh))
    }

    /// Hands what is free to those whose turn it is, as far as it goes. The bytes gather for the
    /// next one until they are enough: nobody with a smaller need overtakes.
    pub(super) fn grant(&mut self, granted: &mut Vec<Arc<Ticket>>) {
        while self.waiting > 0 {
            let Some(leader) = self.next_leader() else { return };
            let Some(next) = self.leader(leader).queue.front() else { return };
            let need = next.need();
            if !self.fits(need) {
                return;
            }
            let Some(ticket) = self.leader(leader).queue.pop_front() else { return };
            self.waiting -= 1;
            self.charge(leader, need);
            self.served = leader;
            ticket.transition(TicketState::Granted);
            granted.push(ticket);
        }
    }

    /// The leader whose turn it is: the next one in the round that has somebody waiting and need
    /// not yield. If all would have to, the one with the least.
    fn next_leader(&mut self) -> Option<i32> {
        let start = self.leaders.partition_point(|leader| leader.id <= self.served);
        let count = self.leaders.len();
        let mut least: Option<(usize, i32)> = None;
        for step in 0..count {
            let Some(leader) = self.leaders.get((start + step) % count) else { break };
            let Some(next) = leader.queue.front() else { continue };
            let (id, used, need) = (leader.id, leader.used, next.need());
            if !self.must_yield(id, need) {
                return Some(id);
            }
            if least.is_none_or(|(least, _)| used < least) {
                least = Some((used, id));
            }
        }
        least.map(|(_, id)| id)
    }

    /// One waiter less.
    pub(super) fn leave(&mut self, ticket: &Arc<Ticket>, granted: &mut Vec<Arc<Ticket>>) {
        if ticket.waiters.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        match ticket.state() {
            TicketState::Waiting => {
                self.leader(ticket.leader()).queue.retain(|other| !Arc::ptr_eq(other, ticket));
                self.waiting -= 1;
            }
            TicketState::Granted => self.refund(ticket.leader(), ticket.need()),
            TicketState::Spent | TicketState::Ended => return,
        }
        ticket.transition(TicketState::Ended);
        self.grant(granted);
    }

    /// A partition has another leader: its ticket goes to the end of that one's queue.
    pub(super) fn move_ticket(
        &mut self,
        slot: u32,
        from: i32,
        to: i32,
        granted: &mut Vec<Arc<Ticket>>,
    ) {
        let queue = &mut self.leader(from).queue;
        let Some(place) = queue.iter().position(|ticket| ticket.slot == slot) else { return };
        let Some(ticket) = queue.remove(place) else { return };
        ticket.leader.store(to, Ordering::Relaxed);
        self.leader(to).queue.push_back(ticket);
        self.grant(granted);
    }
}
