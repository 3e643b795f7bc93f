//! Who waits for memory, in which order it is handed out, and how much of it one leader may hold.
//!
//! A [`Line`] is the books of a buffer pool: what is charged to whom, and the tickets of those who
//! wait. It belongs to the pool and is guarded by its mutex, and so is every change of a ticket's
//! state; a ticket's state may be read without. A ticket is granted, spent or ended once; bytes
//! granted to it are charged before its waiters wake, so that nobody else can take them.
//!
//! A broker that does not answer gives nothing back, so memory that its partitions take is taken
//! from the others for as long as that lasts. Therefore a leader that is not alone takes no more
//! than it leaves free. One that freezes ends up with a half at most, two with a third each, and
//! whoever comes next always finds some. A leader is alone again when it has had memory worth
//! [`ALONE_AFTER`] times all there is, and nobody else any: a broker that gives nothing back never
//! gets there, however long the others are silent.
//!
//! No grant is missed, though nothing here watches a clock: who must not take more holds some, and
//! when that comes back everything is looked at again. What is charged to a leader comes back to
//! it, even if the partition has another one by then.

use super::buffer_pool::BufferPool;
use crate::clock::{Clock, Instant};
use crate::sync::Signal;
use crate::sync::prim::{AtomicU8, AtomicUsize, Mutex, Ordering, guard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

/// After charges of so many times `buffer.memory` to one leader it counts as the only one in use.
const ALONE_AFTER: u64 = 4;

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
    /// What each of its waiters can do with at least.
    waiters: Mutex<Vec<usize>>,
}

impl Ticket {
    fn new(slot: u32, leader: i32, need: usize) -> Ticket {
        Ticket {
            slot,
            signal: Signal::default(),
            state: AtomicU8::new(TicketState::Waiting as u8),
            need: AtomicUsize::new(need),
            leader: AtomicI32::new(leader),
            waiters: Mutex::default(),
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

    pub(super) fn need(&self) -> usize {
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
    /// What it can do with.
    least: usize,
    /// Nothing of its partition's makes the network thread look at who waits: if this really waits,
    /// it has to be told.
    pub unnoticed: bool,
    /// There is some, but its leader must leave that to others.
    pub yields: bool,
}

impl Waiting {
    pub(super) fn new(
        pool: Arc<BufferPool>,
        ticket: Arc<Ticket>,
        least: usize,
        yields: bool,
    ) -> Waiting {
        Waiting { pool, ticket, least, unnoticed: false, yields }
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
        self.pool.leave(&self.ticket, self.least);
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
    /// Bytes ever charged.
    charged: u64,
    /// The leader charged last and the one charged last before it, with what `charged` was then.
    recent: [(i32, u64); 2],
}

/// What one leader's partitions use, and which of them wait. -1: the partitions without a leader.
#[derive(Debug)]
struct Leader {
    id: i32,
    used: usize,
    queue: VecDeque<Arc<Ticket>>,
}

/// What a partition asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// What it can do with, if that was granted before.
    pub(super) least: usize,
    /// What it takes, or waits for.
    pub(super) size: usize,
}

impl Line {
    pub(super) fn new(limit: usize) -> Line {
        Line {
            limit,
            used: 0,
            leaders: Vec::new(),
            waiting: 0,
            served: i32::MIN,
            charged: 0,
            recent: [(-1, 0); 2],
        }
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The leader that holds most, and how much.
    pub(super) fn holder(&self) -> Option<(i32, usize)> {
        self.leaders.iter().map(|of| (of.id, of.used)).max_by_key(|(_, used)| *used)
    }

    /// The leaders somebody of whom waits.
    pub(super) fn waiting_leaders(&self) -> impl Iterator<Item = i32> {
        self.leaders.iter().filter(|leader| !leader.queue.is_empty()).map(|leader| leader.id)
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

    fn free(&self) -> usize {
        self.limit.saturating_sub(self.used)
    }

    pub(super) fn fits(&self, size: usize) -> bool {
        size <= self.free()
    }

    pub(super) fn charge(&mut self, leader: i32, size: usize) {
        self.used += size;
        self.leader(leader).used += size;
        self.charged += size as u64;
        // Partitions without a leader send nothing: they are nobody to leave memory to.
        if leader >= 0 {
            if self.recent[0].0 != leader {
                self.recent[1] = self.recent[0];
            }
            self.recent[0] = (leader, self.charged);
        }
    }

    pub(super) fn refund(&mut self, leader: i32, size: usize) {
        debug_assert!(self.used >= size);
        self.used -= size;
        self.leader(leader).used -= size;
    }

    /// Whether a leader, of which so many tickets wait, must leave what is free to others: it would
    /// hold more than is left.
    fn must_yield(&self, leader: i32, used: usize, tickets: usize, size: usize) -> bool {
        // One that has nothing may have its large record.
        used > 0
            && used + size > self.free().saturating_sub(size)
            && (self.waiting > tickets || !self.is_alone(leader))
    }

    fn is_alone(&self, leader: i32) -> bool {
        let [last, before] = self.recent;
        let (other, at) = if last.0 == leader { before } else { last };
        other < 0 || self.charged - at >= ALONE_AFTER * self.limit as u64
    }

    /// Whether there is memory for this leader, as far as it is concerned.
    fn may_have(&mut self, leader: i32, size: usize) -> bool {
        let of = self.leader(leader);
        let (used, tickets) = (of.used, of.queue.len());
        self.fits(size) && !self.must_yield(leader, used, tickets, size)
    }

    /// Charges memory for an open batch: past those who wait, out of what is free.
    pub(super) fn charge_growth(&mut self, leader: i32, size: usize) -> bool {
        let may = self.may_have(leader, size);
        if may {
            self.charge(leader, size);
        }
        may
    }

    /// Charges memory in turn: size and leader that were charged; or the ticket to wait with,
    /// counted as one more waiter, and whether it is a new one.
    pub(super) fn first(
        &mut self,
        slot: u32,
        leader: &AtomicI32,
        need: Need,
        held: &mut Option<Arc<Ticket>>,
        granted: &mut Vec<Arc<Ticket>>,
    ) -> Result<(usize, i32), (Arc<Ticket>, bool)> {
        let Need { least, size } = need;
        let mut fresh = false;
        let ticket = match held.take() {
            Some(ticket) if ticket.state() == TicketState::Waiting => {
                ticket.need.fetch_max(least, Ordering::Relaxed);
                ticket
            }
            Some(ticket) if ticket.state() == TicketState::Granted && ticket.need() < least => {
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
                if self.may_have(leader, size) && !self.is_anybodys_turn(leader) {
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
        guard(&ticket.waiters).push(least);
        *held = Some(Arc::clone(&ticket));
        Err((ticket, fresh))
    }

    /// Whether somebody comes before a partition of this leader that begins to wait now.
    fn is_anybodys_turn(&self, leader: i32) -> bool {
        self.waiting > 0
            && self.leaders.iter().any(|of| {
                of.queue.front().is_some_and(|next| {
                    let tickets = of.queue.len();
                    of.id == leader || !self.must_yield(of.id, of.used, tickets, next.need())
                })
            })
    }

    /// Hands what is free to those whose turn it is, as far as it goes.
    pub(super) fn grant(&mut self, granted: &mut Vec<Arc<Ticket>>) {
        while self.waiting > 0 {
            let Some(leader) = self.next_leader() else { return };
            let Some(ticket) = self.leader(leader).queue.pop_front() else { return };
            self.waiting -= 1;
            self.charge(leader, ticket.need());
            self.served = leader;
            ticket.transition(TicketState::Granted);
            granted.push(ticket);
        }
    }

    /// The leader whose turn it is: the next one in the round that has somebody waiting and need
    /// not yield. While the bytes for that one gather, nobody with a smaller need overtakes, but
    /// those that have nothing: theirs is not what it waits for, and perhaps that never comes.
    fn next_leader(&self) -> Option<i32> {
        let start = self.leaders.partition_point(|leader| leader.id <= self.served);
        let (first, last) = self.leaders.split_at_checked(start)?;
        let mut gathers = false;
        for of in last.iter().chain(first) {
            let Some(next) = of.queue.front() else { continue };
            let need = next.need();
            if self.must_yield(of.id, of.used, of.queue.len(), need) {
                continue;
            }
            if self.fits(need) && (of.used == 0 || !gathers) {
                return Some(of.id);
            }
            gathers = true;
        }
        None
    }

    /// One waiter less, which needed at least so much. The others wait for what they need: not for
    /// a larger record that nobody sends any more.
    pub(super) fn leave(
        &mut self,
        ticket: &Arc<Ticket>,
        least: usize,
        granted: &mut Vec<Arc<Ticket>>,
    ) {
        let others = {
            let mut waiters = guard(&ticket.waiters);
            if let Some(place) = waiters.iter().position(|other| *other == least) {
                waiters.swap_remove(place);
            }
            waiters.iter().copied().max()
        };
        if let Some(most) = others {
            if most < least && ticket.state() == TicketState::Waiting {
                ticket.need.fetch_min(most, Ordering::Relaxed);
                self.grant(granted);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    /// Whoever holds memory of a line, and waits in it.
    struct Party<'a> {
        slot: u32,
        leader: &'a AtomicI32,
        ticket: Option<Arc<Ticket>>,
    }

    impl Party<'_> {
        fn ask(&mut self, line: &mut Line, size: usize) -> Option<(usize, i32)> {
            let mut granted = Vec::new();
            let need = Need { least: size, size };
            line.first(self.slot, self.leader, need, &mut self.ticket, &mut granted).ok()
        }
    }

    fn parties<'a, const N: usize>(leaders: [&'a AtomicI32; N]) -> [Party<'a>; N] {
        let mut slot = 0;
        leaders.map(|leader| {
            slot += 1;
            Party { slot, leader, ticket: None }
        })
    }

    /// The slots of the tickets that are granted, in order.
    fn grants(line: &mut Line) -> Vec<u32> {
        let mut granted = Vec::new();
        line.grant(&mut granted);
        granted.iter().map(|ticket| ticket.slot).collect()
    }

    #[test]
    fn first_come_first_served() {
        let leader = AtomicI32::new(1);
        let mut line = Line::new(LIMIT);
        let [mut a, mut b, mut c] = parties([&leader; 3]);
        assert_eq!(a.ask(&mut line, 900), Some((900, 1)));
        assert_eq!(b.ask(&mut line, 500), None);
        assert_eq!(c.ask(&mut line, 50), None, "it would fit, but others were first");
        assert_eq!(line.waiting(), 2);
        line.refund(1, 300);
        assert!(grants(&mut line).is_empty(), "the bytes gather for the first");
        line.refund(1, 600);
        assert_eq!(grants(&mut line), [2, 3]);
        assert_eq!(line.used(), 550, "charged before anybody comes for it");
        assert_eq!(b.ask(&mut line, 500), Some((500, 1)));
        assert_eq!(c.ask(&mut line, 50), Some((50, 1)));
        assert_eq!((line.used(), line.waiting()), (550, 0));
    }

    #[test]
    fn an_open_batch_grows_past_those_who_wait() {
        let leader = AtomicI32::new(1);
        let mut line = Line::new(LIMIT);
        let [mut a, mut b] = parties([&leader; 2]);
        assert!(a.ask(&mut line, 700).is_some());
        assert_eq!(b.ask(&mut line, 400), None);
        assert!(line.charge_growth(1, 200));
        assert!(!line.charge_growth(1, 200), "more than there is");
    }

    #[test]
    fn leaders_take_turns() {
        let (one, two, three) = (AtomicI32::new(1), AtomicI32::new(2), AtomicI32::new(3));
        let other = AtomicI32::new(9);
        let mut line = Line::new(LIMIT);
        let [mut holder] = parties([&other]);
        assert!(holder.ask(&mut line, LIMIT).is_some());
        let mut waiting = parties([&one, &one, &one, &two, &two, &three]);
        for party in &mut waiting {
            assert_eq!(party.ask(&mut line, 50), None);
        }
        line.refund(9, LIMIT);
        // Slots 1 to 3 are leader 1's, 4 and 5 leader 2's, 6 is leader 3's.
        assert_eq!(grants(&mut line), [1, 4, 6, 2, 5, 3]);
    }

    #[test]
    fn a_leader_that_is_alone_may_have_everything() {
        let (one, unknown) = (AtomicI32::new(1), AtomicI32::new(-1));
        let mut line = Line::new(LIMIT);
        let [mut a, mut b, mut without_leader] = parties([&one, &one, &unknown]);
        assert!(a.ask(&mut line, 900).is_some());
        assert!(line.charge_growth(1, 50));
        assert!(b.ask(&mut line, 50).is_some(), "all of it");
        line.refund(1, LIMIT);
        assert!(without_leader.ask(&mut line, 10).is_some());
        assert!(line.charge_growth(1, LIMIT - 10), "who has no leader sends nothing");
    }

    #[test]
    fn a_leader_that_is_not_alone_takes_no_more_than_it_leaves_free() {
        let (greedy, modest) = (AtomicI32::new(1), AtomicI32::new(2));
        let mut line = Line::new(LIMIT);
        let [mut a, mut b, mut c] = parties([&greedy, &modest, &greedy]);
        assert!(a.ask(&mut line, 400).is_some());
        assert!(b.ask(&mut line, 100).is_some());
        assert!(line.charge_growth(1, 50), "450 of 900");
        assert!(!line.charge_growth(1, 1), "one more than is left free, though nobody waits");
        assert_eq!(c.ask(&mut line, 1), None);
        assert!(line.charge_growth(2, 100), "the other one does not wait for that");
        assert!(b.ask(&mut line, 50).is_some(), "in a new batch neither");
        line.refund(2, 250);
        assert_eq!(grants(&mut line), [3], "more is free: 451 of 1000");
    }

    #[test]
    fn leaders_that_give_nothing_back_leave_something_to_all_others() {
        let mut line = Line::new(LIMIT);
        line.charge(9, 1);
        fn take(line: &mut Line, leader: i32) -> usize {
            (0..).take_while(|_| line.charge_growth(leader, 1)).count()
        }
        let held = [1, 2, 3, 4].map(|leader| take(&mut line, leader));
        assert_eq!(held, [499, 250, 125, 62]);
        line.refund(1, 499);
        let more = [2, 3, 4].map(|leader| take(&mut line, leader));
        assert_eq!(more, [156, 140, 102], "what one gives back is shared by the same rule");
    }

    #[test]
    fn a_frozen_leader_stays_at_a_half_however_long_the_others_are_silent() {
        let (frozen, other) = (AtomicI32::new(1), AtomicI32::new(2));
        let mut line = Line::new(LIMIT);
        let [mut a, mut b, mut c] = parties([&frozen, &other, &frozen]);
        assert!(b.ask(&mut line, 10).is_some());
        line.refund(2, 10);
        assert!(a.ask(&mut line, 500).is_some());
        for _ in 0..10_000 {
            assert!(!line.charge_growth(1, 1));
            assert_eq!(c.ask(&mut line, 1), None);
            line.leave(&c.ticket.take().unwrap(), 1, &mut Vec::new());
        }
        assert!(b.ask(&mut line, 200).is_some(), "the other half is there when it is wanted");
    }

    #[test]
    fn a_leader_is_alone_after_four_times_all_memory() {
        let (one, two) = (AtomicI32::new(1), AtomicI32::new(2));
        let mut line = Line::new(LIMIT);
        let [mut a, mut b, mut c] = parties([&one, &two, &one]);
        assert!(b.ask(&mut line, 10).is_some());
        line.refund(2, 10);
        for _ in 0..7 {
            assert!(line.charge_growth(1, 500));
            assert!(!line.charge_growth(1, 1), "the other one was there not long ago");
            line.refund(1, 500);
        }
        assert!(a.ask(&mut line, 499).is_some());
        assert_eq!(c.ask(&mut line, 400), None);
        // The last byte that makes it alone is its own; the ticket is looked at when some comes
        // back.
        assert!(line.charge_growth(1, 1));
        line.refund(1, 1);
        assert_eq!(grants(&mut line), [3]);
        assert_eq!(line.used(), 899);
        assert!(line.charge_growth(1, 101), "all of it");
        assert_eq!(b.ask(&mut line, 10), None);
        line.refund(1, 10);
        assert_eq!(grants(&mut line), [2]);
        line.refund(2, 10);
        line.refund(1, 490);
        assert!(!line.charge_growth(1, 1), "not alone any more");
    }

    #[test]
    fn one_that_waits_counts_though_it_never_had_any() {
        let (greedy, modest) = (AtomicI32::new(1), AtomicI32::new(2));
        let mut line = Line::new(LIMIT);
        let [mut a, mut b, mut c] = parties([&greedy, &greedy, &modest]);
        assert!(a.ask(&mut line, 900).is_some(), "all of it, while nobody else wants any");
        assert_eq!(b.ask(&mut line, 200), None);
        assert_eq!(c.ask(&mut line, 200), None);
        assert!(!line.charge_growth(1, 50));
        line.refund(1, 200);
        assert_eq!(grants(&mut line), [3]);
        line.refund(1, 100);
        line.refund(2, 200);
        assert!(grants(&mut line).is_empty(), "800 would leave 200");
        line.refund(1, 300);
        assert_eq!(grants(&mut line), [2], "500 leave 500");
    }

    #[test]
    fn a_leader_with_nothing_may_have_its_large_record() {
        let (one, two) = (AtomicI32::new(1), AtomicI32::new(2));
        let mut line = Line::new(LIMIT);
        let [mut a, mut large, mut c, mut d] = parties([&one, &two, &one, &one]);
        assert!(a.ask(&mut line, 900).is_some());
        assert_eq!(large.ask(&mut line, 800), None);
        assert_eq!(c.ask(&mut line, 100), None);
        assert_eq!(d.ask(&mut line, 100), None);
        line.refund(1, 900);
        assert_eq!(grants(&mut line), [3, 2], "800 of 1000, though leader 1 waits too");
        line.refund(2, 800);
        assert_eq!(grants(&mut line), [4]);
    }

    /// What a large record waits for is perhaps a frozen broker's, and does not come.
    #[test]
    fn leaders_with_nothing_do_not_wait_for_what_gathers() {
        let leaders = [1, 2, 3].map(AtomicI32::new);
        let [frozen, large, small] = &leaders;
        let mut line = Line::new(LIMIT);
        let [mut a, mut b, mut c, mut d] = parties([frozen, large, small, small]);
        assert!(a.ask(&mut line, 500).is_some());
        assert_eq!(b.ask(&mut line, 600), None);
        assert!(c.ask(&mut line, 100).is_some());
        assert_eq!(d.ask(&mut line, 100), None, "its leader has something: the bytes gather");
        line.refund(3, 100);
        assert_eq!(grants(&mut line), [4]);
        line.refund(3, 100);
        line.refund(1, 100);
        assert_eq!(grants(&mut line), [2]);
    }

    #[test]
    fn when_all_must_yield_they_wait_for_their_own() {
        let (one, two) = (AtomicI32::new(1), AtomicI32::new(2));
        let mut line = Line::new(LIMIT);
        let [mut a, mut b, mut c, mut d] = parties([&one, &two, &one, &two]);
        line.charge(2, 10);
        line.refund(2, 10);
        assert!(a.ask(&mut line, 500).is_some());
        assert!(b.ask(&mut line, 400).is_some());
        assert_eq!(c.ask(&mut line, 100), None);
        assert_eq!(d.ask(&mut line, 100), None);
        line.refund(1, 300);
        assert_eq!(grants(&mut line), [3], "300 leave 300");
        line.refund(2, 100);
        assert!(grants(&mut line).is_empty());
        line.refund(2, 100);
        assert_eq!(grants(&mut line), [4]);
        assert_eq!(line.waiting(), 0);
    }

    #[test]
    fn what_nobody_waits_for_any_more_goes_to_the_next() {
        let leader = AtomicI32::new(1);
        let mut line = Line::new(LIMIT);
        let [mut a, mut b, mut c, mut d] = parties([&leader; 4]);
        assert!(a.ask(&mut line, LIMIT).is_some());
        for party in [&mut b, &mut c, &mut d] {
            assert_eq!(party.ask(&mut line, 600), None);
        }
        let [b, c] = [b, c].map(|party| party.ticket.unwrap());
        let mut granted = Vec::new();
        line.leave(&b, 600, &mut granted);
        assert_eq!((b.state(), line.waiting()), (TicketState::Ended, 2));
        line.refund(1, LIMIT);
        assert_eq!(grants(&mut line), [3]);
        line.leave(&c, 600, &mut granted);
        assert_eq!(c.state(), TicketState::Ended);
        assert_eq!(granted.iter().map(|ticket| ticket.slot).collect::<Vec<_>>(), [4]);
        assert_eq!(line.used(), 600);
    }

    #[test]
    fn threads_of_one_partition_share_a_ticket() {
        let leader = AtomicI32::new(1);
        let mut line = Line::new(LIMIT);
        let [mut a, mut b] = parties([&leader; 2]);
        assert!(a.ask(&mut line, LIMIT).is_some());
        assert_eq!(b.ask(&mut line, 100), None);
        let ticket = b.ticket.clone().unwrap();
        assert_eq!(b.ask(&mut line, 300), None);
        assert!(Arc::ptr_eq(&ticket, b.ticket.as_ref().unwrap()));
        assert_eq!(line.waiting(), 1);
        let mut granted = Vec::new();
        line.leave(&ticket, 100, &mut granted);
        assert_eq!(ticket.state(), TicketState::Waiting, "the other one still waits");
        line.refund(1, 200);
        assert!(grants(&mut line).is_empty(), "for the larger of the two");
        line.refund(1, 100);
        assert_eq!(grants(&mut line), [2]);
        assert_eq!(b.ask(&mut line, 100), Some((300, 1)));
        line.leave(&ticket, 300, &mut granted);
        assert_eq!((ticket.state(), line.used()), (TicketState::Spent, LIMIT));
    }

    #[test]
    fn nobody_waits_for_the_larger_record_of_one_who_has_left() {
        let leader = AtomicI32::new(1);
        let mut line = Line::new(LIMIT);
        let [mut a, mut b] = parties([&leader; 2]);
        assert!(a.ask(&mut line, LIMIT).is_some());
        for size in [100, 900, 900, 50] {
            assert_eq!(b.ask(&mut line, size), None);
        }
        line.refund(1, 200);
        assert!(grants(&mut line).is_empty());
        let (ticket, mut granted) = (b.ticket.clone().unwrap(), Vec::new());
        line.leave(&ticket, 900, &mut granted);
        assert!(granted.is_empty(), "there is another one as large");
        line.leave(&ticket, 900, &mut granted);
        assert_eq!((granted.len(), ticket.state()), (1, TicketState::Granted));
        assert_eq!(b.ask(&mut line, 50), Some((100, 1)));
        assert_eq!(line.used(), 900);
    }

    #[test]
    fn a_larger_record_that_comes_first_is_still_first_in_line() {
        let leader = AtomicI32::new(1);
        let mut line = Line::new(LIMIT);
        let [mut a, mut b, mut c] = parties([&leader; 3]);
        assert!(a.ask(&mut line, LIMIT).is_some());
        assert_eq!(b.ask(&mut line, 100), None);
        assert_eq!(c.ask(&mut line, 100), None);
        line.refund(1, 100);
        assert_eq!(grants(&mut line), [2]);
        assert_eq!(b.ask(&mut line, 500), None, "granted less than this");
        assert_eq!((line.used(), line.waiting()), (900, 2), "which came back");
        line.refund(1, 500);
        assert_eq!(grants(&mut line), [2, 3]);
        assert_eq!(b.ask(&mut line, 500), Some((500, 1)));
    }

    #[test]
    fn a_ticket_moves_with_its_partition() {
        let (old, new) = (AtomicI32::new(1), AtomicI32::new(2));
        let mut line = Line::new(LIMIT);
        let [mut a, mut b, mut c] = parties([&old, &old, &new]);
        assert!(a.ask(&mut line, LIMIT).is_some());
        assert_eq!(b.ask(&mut line, 100), None);
        assert_eq!(c.ask(&mut line, 100), None);
        line.move_ticket(2, 1, 2, &mut Vec::new());
        line.refund(1, LIMIT);
        assert_eq!(grants(&mut line), [3, 2]);
        assert_eq!(b.ask(&mut line, 100), Some((100, 2)), "charged to the new leader");
    }
}
