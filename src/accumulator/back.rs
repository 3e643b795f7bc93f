//! The back halves of all partitions: what was taken from the fronts and is not done. Network
//! thread only, no lock.
//!
//! A partition is in exactly one place: idle (the front will list it), in the deadline ring, in the
//! ready list of its leader's node (or of no node), or muted (a batch of it is in flight and order
//! allows no other). Retries lie here in order, before whatever the front holds; nothing is ever
//! put back into a front.

use super::batch::ProducerBatch;
use super::front::{Expired, Partition, Rest, Take, Taken};
use super::inbox::{Inbox, Listed};
use super::outgoing::{LastResort, Outgoing};
use super::ring::{DeadlineRing, Due};
use crate::clock::Instant;
use foldhash::fast::FixedState;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// In place of a node id: partitions whose leader is not known.
pub const NO_LEADER: i32 = -1;

/// When an expiry that found a front busy is tried again.
const BUSY_RETRY: Duration = Duration::from_millis(1);

/// A cut that no batch is younger than.
const EVERY_CUT: u64 = u64::MAX;

/// Where a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Idle,
    Ring(Instant),
    Ready(i32),
    Muted,
}

struct Back {
    partition: Arc<Partition>,
    /// Taken from the front and not in flight, in order: sent before, or left over from a request
    /// that was full.
    retries: VecDeque<Outgoing>,
    backoff_until: Instant,
    /// Batches taken from the front so far.
    taken: u64,
    in_flight: u32,
    place: Place,
    /// The earliest expiry of this partition in the ring; `NEVER` if there is none. While the
    /// partition has a batch anywhere, it is not later than that batch's deadline, but for what a
    /// front opened while muted: that is younger than what is in flight, and looked at with it.
    expiry_at: Instant,
}

impl Back {
    fn new(partition: Arc<Partition>) -> Back {
        Back {
            partition,
            retries: VecDeque::new(),
            backoff_until: Instant(0),
            taken: 0,
            in_flight: 0,
            place: Place::Idle,
            expiry_at: Instant::NEVER,
        }
    }

    /// Whether a deadline that was filed long ago still means something; one that does not is
    /// forgotten. A partition that is idle has nothing that could expire: its front lists it with
    /// the next record.
    fn still_wants(&mut self, what: Due) -> bool {
        let idle = self.place == Place::Idle && self.in_flight == 0 && self.retries.is_empty();
        match what {
            Due::Ready => matches!(self.place, Place::Ring(_)),
            Due::Expiry if idle => {
                self.expiry_at = Instant::NEVER;
                false
            }
            Due::Expiry => true,
        }
    }
}

/// What the sender asks of the backs; copied from the settings once.
#[derive(Debug, Clone, Copy)]
pub struct BackLimits {
    /// `max.request.size`.
    pub max_request_size: usize,
    /// `linger.ms`.
    pub linger: Duration,
    /// `delivery.timeout.ms`.
    pub delivery_timeout: Duration,
    /// One batch in flight per partition: what keeps order without sequence numbers.
    pub ordered: bool,
}

/// See the module's comment.
pub struct Backs {
    backs: Vec<Option<Back>>,
    ring: DeadlineRing,
    /// Slots by leader, in the order in which they get their turn.
    ready: HashMap<i32, VecDeque<u32>, FixedState>,
    due: Vec<(u32, Due)>,
    from_front: Vec<ProducerBatch>,
    limits: BackLimits,
    last_resort: Arc<dyn LastResort>,
    /// Batches of this cut and older do not linger.
    flushed_cut: u64,
    /// Nothing lingers: somebody waits for memory that only sending would free.
    pressed: bool,
    /// A partition without a leader became ready.
    leaderless: bool,
}

impl Backs {
    /// No partitions yet.
    pub fn new(limits: BackLimits, last_resort: Arc<dyn LastResort>, now: Instant) -> Backs {
        Backs {
            backs: Vec::new(),
            ring: DeadlineRing::new(now),
            ready: HashMap::default(),
            due: Vec::new(),
            from_front: Vec::new(),
            limits,
            last_resort,
            flushed_cut: 0,
            pressed: false,
            leaderless: false,
        }
    }

    fn back(&mut self, slot: u32) -> Option<&mut Back> {
        self.backs.get_mut(slot as usize)?.as_mut()
    }

    /// The partition of a slot.
    pub fn partition(&self, slot: u32) -> Option<&Arc<Partition>> {
        Some(&self.backs.get(slot as usize)?.as_ref()?.partition)
    }

    /// Takes note of a partition that its front has listed; `meet` is called for one that was never
    /// seen before.
    pub fn receive(&mut self, listed: Listed, now: Instant, meet: impl FnOnce(&Partition)) {
        let Listed { partition, deadline } = listed;
        let slot = partition.slot;
        let index = slot as usize;
        if self.backs.len() <= index {
            self.backs.resize_with(index + 1, || None);
        }
        let Some(entry) = self.backs.get_mut(index) else { return };
        entry.get_or_insert_with(|| {
            meet(&partition);
            Back::new(partition)
        });
        if deadline == Inbox::NOW {
            self.file_expiry(slot, now.after(self.limits.delivery_timeout));
            self.make_ready(slot);
        } else {
            // Listed when the batch was opened, which may be a whole `linger.ms` ago.
            self.linger(slot, deadline);
            if deadline <= now {
                self.make_ready(slot);
            }
        }
    }

    /// Puts a partition into its leader's ready list, unless order forbids it or it is there.
    fn make_ready(&mut self, slot: u32) {
        let ordered = self.limits.ordered;
        let Some(back) = self.back(slot) else { return };
        if matches!(back.place, Place::Ready(_)) {
            return;
        }
        if ordered && back.in_flight > 0 {
            back.place = Place::Muted;
            return;
        }
        let leader = back.partition.leader();
        back.place = Place::Ready(leader);
        self.leaderless |= leader == NO_LEADER;
        self.ready.entry(leader).or_default().push_back(slot);
    }

    /// Puts a partition into the ring until `at`, unless it is ready or muted anyway.
    fn wait_until(&mut self, slot: u32, at: Instant) {
        let Some(back) = self.back(slot) else { return };
        match back.place {
            Place::Ready(_) | Place::Muted => return,
            Place::Ring(earlier) if earlier <= at => return,
            Place::Ring(_) | Place::Idle => back.place = Place::Ring(at),
        }
        self.ring.insert(at, slot, Due::Ready);
    }

    /// Moves time to `now`: what lingered or backed off long enough becomes ready; what may expire
    /// is returned.
    pub fn advance(&mut self, now: Instant, expiries: &mut Vec<u32>) {
        let mut due = std::mem::take(&mut self.due);
        let backs = &mut self.backs;
        self.ring.advance(now, &mut due, |slot, what| {
            let back = backs.get_mut(slot as usize).and_then(Option::as_mut);
            back.is_some_and(|back| back.still_wants(what))
        });
        for (slot, what) in due.drain(..) {
            match what {
                Due::Ready => {
                    // Rounded up to the grid, so `at` has passed; else it is a later entry's
                    // business.
                    let passed = self
                        .back(slot)
                        .is_some_and(|back| matches!(back.place, Place::Ring(at) if at <= now));
                    if passed {
                        self.make_ready(slot);
                    }
                }
                Due::Expiry => {
                    if let Some(back) = self.back(slot)
                        && back.expiry_at <= now
                    {
                        back.expiry_at = Instant::NEVER;
                        expiries.push(slot);
                    }
                }
            }
        }
        self.due = due;
    }

    /// When [`Backs::advance`] has something to do again.
    pub fn next_deadline(&self) -> Instant {
        self.ring.next()
    }

    /// Nodes that have ready partitions; [`NO_LEADER`] among them where a leader is missing.
    pub fn ready_nodes(&self, nodes: &mut Vec<i32>) {
        nodes.extend(
            self.ready.iter().filter(|(_, slots)| !slots.is_empty()).map(|(node, _)| *node),
        );
    }

    /// The ready partitions of a node.
    pub fn ready_of(&self, node: i32) -> impl Iterator<Item = &Arc<Partition>> {
        self.ready.get(&node).into_iter().flatten().filter_map(|slot| self.partition(*slot))
    }

    /// Whether a partition without a leader has become ready since the last call.
    pub fn take_leaderless(&mut self) -> bool {
        std::mem::take(&mut self.leaderless)
    }

    /// After a change of metadata: every ready partition goes to the list of its leader of now.
    pub fn reroute(&mut self) {
        let lists: Vec<(i32, VecDeque<u32>)> = self.ready.drain().collect();
        for (_, slots) in lists {
            for slot in slots {
                let Some(back) = self.back(slot) else { continue };
                let leader = back.partition.leader();
                back.place = Place::Ready(leader);
                self.leaderless |= leader == NO_LEADER;
                self.ready.entry(leader).or_default().push_back(slot);
            }
        }
    }

    /// A leader changed: batches that were refused by the old one need not back off from the new
    /// one.
    pub fn skip_backoff(&mut self, slot: u32) {
        let Some(back) = self.back(slot) else { return };
        back.backoff_until = Instant(0);
        if matches!(back.place, Place::Ring(_)) && !back.retries.is_empty() {
            self.make_ready(slot);
        }
    }

    /// Batches of `cut` and older stop lingering.
    pub fn flush(&mut self, cut: u64) {
        self.flushed_cut = self.flushed_cut.max(cut);
        self.end_linger();
    }

    /// Until the next call nothing lingers, or everything does again.
    pub fn press(&mut self, pressed: bool) {
        self.pressed = pressed;
        if pressed {
            self.end_linger();
        }
    }

    fn end_linger(&mut self) {
        for slot in 0..self.backs.len() {
            let slot = slot as u32;
            let lingers = self.back(slot).is_some_and(|back| {
                matches!(back.place, Place::Ring(_)) && back.retries.is_empty()
            });
            if lingers {
                self.make_ready(slot);
            }
        }
    }

    /// Takes one batch of each ready partition of `node`, within `max.request.size` unless a single
    /// batch is larger. What was left out comes first next time.
    pub fn drain(&mut self, node: i32, now: Instant, batches: &mut Vec<Outgoing>) {
        let mut size = 0;
        let turns = self.ready.get(&node).map_or(0, VecDeque::len);
        for _ in 0..turns {
            let Some(slot) = self.ready.get_mut(&node).and_then(VecDeque::pop_front) else {
                return;
            };
            let Some(batch) = self.take(slot, now) else { continue };
            size += batch.size();
            if size > self.limits.max_request_size && !batches.is_empty() {
                self.put_back(node, batch);
                return;
            }
            batches.push(batch);
        }
    }

    /// A batch that found no room: the partition is the next one.
    fn put_back(&mut self, node: i32, batch: Outgoing) {
        let slot = batch.partition.slot;
        let Some(back) = self.back(slot) else { return };
        back.retries.push_front(batch);
        back.in_flight -= 1;
        let listed = matches!(back.place, Place::Ready(_));
        back.place = Place::Ready(node);
        let slots = self.ready.entry(node).or_default();
        if listed {
            slots.retain(|other| *other != slot);
        }
        slots.push_front(slot);
    }

    /// Takes a ready partition's next batch and puts the partition where it belongs now.
    fn take(&mut self, slot: u32, now: Instant) -> Option<Outgoing> {
        let ordered = self.limits.ordered;
        let back = self.back(slot)?;
        back.place = Place::Idle;
        if !back.retries.is_empty() {
            if back.backoff_until > now {
                let at = back.backoff_until;
                self.wait_until(slot, at);
                return None;
            }
            let batch = back.retries.pop_front()?;
            back.in_flight += 1;
            // More retries, or what the front has: it is looked at when its turn comes.
            self.make_ready(slot);
            return Some(batch);
        }
        let (force, force_cut) = match (self.pressed, self.flushed_cut) {
            (true, _) => (true, EVERY_CUT),
            (false, cut) => (cut > 0, cut),
        };
        let take =
            Take { now, force, force_cut, max_batches: 1, mute: ordered, closed_only: false };
        let mut from_front = std::mem::take(&mut self.from_front);
        let partition = Arc::clone(self.partition(slot)?);
        let taken = partition.try_take(take, &mut from_front);
        let batch = from_front.pop();
        self.from_front = from_front;
        match taken {
            // Whoever is in the front, or comes next, lists the partition.
            Taken::Busy | Taken::Nothing => {}
            Taken::Lingering(at) => self.linger(slot, at),
            Taken::Ready => self.make_ready(slot),
            Taken::Batches { rest, .. } => {
                let back = self.back(slot)?;
                back.in_flight += 1;
                match rest {
                    Rest::Nothing => {}
                    Rest::Muted => back.place = Place::Muted,
                    Rest::Lingering(at) => self.linger(slot, at),
                    Rest::Ready => self.make_ready(slot),
                }
            }
        }
        let last_resort = Arc::clone(&self.last_resort);
        let back = self.back(slot)?;
        let batch = Outgoing::new(partition, batch?, back.taken, last_resort);
        back.taken += 1;
        Some(batch)
    }

    /// The open batch lingers until `at`, which is `linger.ms` after it was opened.
    fn linger(&mut self, slot: u32, at: Instant) {
        let opened = Instant(at.0.saturating_sub(duration_us(self.limits.linger)));
        self.wait_until(slot, at);
        self.file_expiry(slot, opened.after(self.limits.delivery_timeout));
    }

    /// A batch in flight is done, whatever became of it: the partition may send again.
    pub fn done(&mut self, slot: u32) {
        let Some(back) = self.back(slot) else { return };
        debug_assert!(back.in_flight > 0, "a batch is done once");
        back.in_flight = back.in_flight.saturating_sub(1);
        if back.place == Place::Muted && back.in_flight == 0 {
            back.place = Place::Idle;
            self.make_ready(slot);
        }
    }

    /// A batch that was in flight is to be sent again, not before `backoff_until`.
    pub fn reenqueue(&mut self, batch: Outgoing, backoff_until: Instant) {
        let slot = batch.partition.slot;
        let deadline = batch.deadline(self.limits.delivery_timeout);
        let Some(back) = self.back(slot) else { return };
        back.in_flight = back.in_flight.saturating_sub(1);
        // Batches that fail together come back in any order.
        let at = back.retries.partition_point(|other| other.number < batch.number);
        back.retries.insert(at, batch);
        back.backoff_until = back.backoff_until.max(backoff_until);
        if back.place == Place::Muted && back.in_flight == 0 {
            back.place = Place::Idle;
        }
        let backoff_until = back.backoff_until;
        self.wait_until(slot, backoff_until);
        self.file_expiry(slot, deadline);
    }

    /// Makes sure that the partition's batches are looked at when `at` comes.
    pub fn file_expiry(&mut self, slot: u32, at: Instant) {
        let Some(back) = self.back(slot) else { return };
        if at < back.expiry_at {
            back.expiry_at = at;
            self.ring.insert(at, slot, Due::Expiry);
        }
    }

    /// Takes what has reached its deadline out of retries and front.
    pub fn expire(&mut self, slot: u32, now: Instant, expired: &mut Vec<Outgoing>) {
        let timeout = self.limits.delivery_timeout;
        let Some(back) = self.back(slot) else { return };
        for _ in 0..back.retries.len() {
            if let Some(batch) = back.retries.pop_front() {
                if batch.deadline(timeout) <= now {
                    expired.push(batch);
                } else {
                    back.retries.push_back(batch);
                }
            }
        }
        let retry = back.retries.iter().map(|batch| batch.deadline(timeout)).min();
        let partition = Arc::clone(&back.partition);
        let mut from_front = std::mem::take(&mut self.from_front);
        let front = match partition.try_expire(now, timeout, &mut from_front) {
            Expired::Busy => now.after(BUSY_RETRY),
            Expired::Next(deadline) => deadline,
        };
        self.adopt(&partition, &mut from_front, expired);
        self.from_front = from_front;
        self.file_expiry(slot, front.min(retry.unwrap_or(Instant::NEVER)));
    }

    /// Takes everything that is not in flight out of one partition, for purge; with `close` its
    /// front refuses records from then on. False if the front was busy.
    pub fn take_all(
        &mut self,
        partition: &Arc<Partition>,
        close: bool,
        taken: &mut Vec<Outgoing>,
    ) -> bool {
        if let Some(back) = self.back(partition.slot) {
            taken.extend(back.retries.drain(..));
        }
        let mut from_front = std::mem::take(&mut self.from_front);
        let free = if close {
            partition.try_close(&mut from_front)
        } else {
            partition.try_purge(&mut from_front)
        };
        self.adopt(partition, &mut from_front, taken);
        self.from_front = from_front;
        free
    }

    fn adopt(
        &mut self,
        partition: &Arc<Partition>,
        from_front: &mut Vec<ProducerBatch>,
        to: &mut Vec<Outgoing>,
    ) {
        for batch in from_front.drain(..) {
            let number = self.back(partition.slot).map_or(0, |back| {
                back.taken += 1;
                back.taken - 1
            });
            let last_resort = Arc::clone(&self.last_resort);
            let batch = Outgoing::new(Arc::clone(partition), batch, number, last_resort);
            to.push(batch);
        }
    }
}

fn duration_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
