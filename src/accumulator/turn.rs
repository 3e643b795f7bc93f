//! One partition's back: what of it is in flight, what waits to be sent again, and whose turn it
//! is. Network thread only, no lock.
//!
//! Order is kept in one of three ways ([`Order`]). With sequence numbers the broker refuses what
//! comes too early, so that several batches may be on their way; then a batch is sent only if all
//! that were sent before it are in front of it or done, and nothing passes a gap (see
//! [`PartitionSequence`]).

use super::front::Partition;
use super::outgoing::Outgoing;
use super::ring::Due;
use crate::clock::Instant;
use crate::defects::{self, Defect};
use crate::transactions::sequence::{Missing, PartitionSequence, ProducerIdAndEpoch};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// As many batches of a producer as a broker remembers per partition: what is in flight can be sent
/// again and is recognised.
const REMEMBERED_BATCHES: usize = 5;

/// So long a leader that has taken a batch is trusted to know the producer. Brokers remember them
/// for a day (`producer.id.expiration.ms`), or as long as the log has records of them.
const KNOWN: Duration = Duration::from_secs(60);

/// Whose batches don't linger for the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pressed {
    /// Nobody's: all linger.
    Nobody,
    /// These leaders'.
    Leaders(Vec<i32>),
    /// Everybody's.
    Everybody,
}

impl Pressed {
    /// Whether the batches of this leader's partitions are among them.
    pub(super) fn includes(&self, leader: i32) -> bool {
        match self {
            Pressed::Nobody => false,
            Pressed::Leaders(leaders) => leaders.contains(&leader),
            Pressed::Everybody => true,
        }
    }
}

/// What keeps the records of a partition in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing: `allow.reordering`.
    Free,
    /// One batch in flight.
    OneInFlight,
    /// Sequence numbers: `enable.idempotence`.
    Sequences,
}

impl Order {
    /// How many batches of a partition may be in flight; with sequences, how many may have been
    /// sent from the oldest that lacks an outcome on: a broker that has taken more after it would
    /// not know it again.
    fn window(self) -> usize {
        match self {
            Order::Free => usize::MAX,
            Order::OneInFlight => 1,
            Order::Sequences => REMEMBERED_BATCHES,
        }
    }
}

/// Where a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Idle,
    Ring(Instant),
    Ready(i32),
    Muted,
    /// Its next batch needs a producer id that is not there.
    NoId,
}

/// Whether the next batch of a partition may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    Shut,
    NoId,
}

/// Places of batches in a partition's order. Thousands of partitions have one or two.
type Places = SmallVec<[u64; 2]>;

/// A partition on the network thread's side.
pub(super) struct Back {
    pub(super) partition: Arc<Partition>,
    /// Taken from the front and not in flight, in order: sent before, or left over from a request
    /// that was full.
    pub(super) retries: VecDeque<Outgoing>,
    pub(super) backoff_until: Instant,
    /// Records taken from the front so far.
    pub(super) taken: u64,
    /// The places of the batches in flight, ascending.
    pub(super) in_flight: Places,
    /// Those of the batches that were sent, from the oldest that lacks an outcome on, ascending:
    /// what is in flight, what waits to be sent again, and what was done before its turn.
    sent: Places,
    pub(super) place: Place,
    /// The earliest expiry of this partition in the ring; `NEVER` if there is none. While the
    /// partition has a batch anywhere, it is not later than that batch's deadline, but for what a
    /// front opened while muted: that is younger than what is in flight, and looked at with it.
    pub(super) expiry_at: Instant,
    pub(super) sequence: PartitionSequence,
    /// When the leader took a batch last, with nothing refused or lost since: it knows the
    /// producer. One that does not takes whatever comes first, and might take a batch before its
    /// predecessor.
    known_at: Option<Instant>,
    /// It is in the list of those that wait for a producer id.
    pub(super) wants_id: bool,
    /// All zero: not known.
    topic_id: [u8; 16],
}

impl Back {
    pub(super) fn new(partition: Arc<Partition>, topic_id: [u8; 16]) -> Back {
        Back {
            partition,
            retries: VecDeque::new(),
            backoff_until: Instant(0),
            taken: 0,
            in_flight: Places::new(),
            sent: Places::new(),
            place: Place::Idle,
            expiry_at: Instant::NEVER,
            sequence: PartitionSequence::default(),
            known_at: None,
            wants_id: false,
            topic_id,
        }
    }

    /// Whether a deadline that was filed long ago still means something; one that does not is
    /// forgotten. A partition that is idle has nothing that could expire: its front lists it with
    /// the next record.
    pub(super) fn still_wants(&mut self, what: Due) -> bool {
        let idle =
            self.place == Place::Idle && self.in_flight.is_empty() && self.retries.is_empty();
        match what {
            Due::Ready => matches!(self.place, Place::Ring(_)),
            Due::Expiry if idle => {
                self.expiry_at = Instant::NEVER;
                false
            }
            Due::Expiry => true,
        }
    }

    /// Whether it has something to send that can't go now, for its leader takes nothing more: no
    /// request at all, or no batch of this partition.
    pub(super) fn waits(&self) -> bool {
        match self.place {
            Place::Ready(_) => true,
            Place::Muted => self.partition.queued() > 0 || !self.retries.is_empty(),
            Place::Idle | Place::Ring(_) | Place::NoId => false,
        }
    }

    /// Whether it waits for something that ends in a partition, not for time or its turn.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.place, Place::Muted | Place::NoId)
    }

    /// Whether the next batch may go now.
    pub(super) fn gate(&self, order: Order, newest: Option<ProducerIdAndEpoch>) -> Gate {
        if order != Order::Sequences {
            let full = self.in_flight.len() >= order.window();
            return if full { Gate::Shut } else { Gate::Open };
        }
        let gap = self.sequence.gap();
        let again = |head: &Outgoing| self.sent.binary_search(&head.number).is_ok();
        let turn = match self.retries.front() {
            head if self.sent.len() >= order.window() && !head.is_some_and(again) => false,
            // Behind a gap there is one batch at a time: what the broker says of it decides for
            // all.
            Some(head) if gap.is_some_and(|gap| gap.from <= head.number) => {
                self.in_flight.is_empty()
            }
            Some(head) => self.keeps_order(head.number),
            None => gap.is_none() && self.keeps_order(self.taken),
        };
        let sequenced = self.retries.front().is_some_and(|head| head.identity.is_some());
        match turn {
            false => Gate::Shut,
            true if sequenced || self.sequence.can_assign(newest) => Gate::Open,
            true => Gate::NoId,
        }
    }

    /// Whether a batch that goes out now is in front of all that are in flight (those the broker
    /// will refuse, and they come back), or behind all of them, with a leader that waits for them.
    fn keeps_order(&self, number: u64) -> bool {
        let (first, last) = (self.in_flight.first(), self.in_flight.last());
        first.is_none_or(|first| number < *first)
            || (self.leader_knows() && last.is_some_and(|last| *last < number))
    }

    fn leader_knows(&self) -> bool {
        self.known_at.is_some() || defects::on(Defect::SendBeforeKnown)
    }

    /// Time passes: a leader that has heard nothing for long may have forgotten the producer.
    pub(super) fn fades(&mut self, now: Instant) {
        if self.in_flight.is_empty() && self.known_at.is_some_and(|at| at.after(KNOWN) <= now) {
            self.known_at = None;
        }
    }

    /// The batch at this place is in the log.
    pub(super) fn appended(&mut self, number: u64, now: Instant) {
        self.sequence.appended(number);
        self.known_at = Some(now);
    }

    /// A batch was refused or lost.
    pub(super) fn unsettled(&mut self) {
        self.known_at = None;
    }

    /// A batch goes out.
    pub(super) fn takes_off(&mut self, number: u64) {
        let at = self.in_flight.partition_point(|other| *other < number);
        self.in_flight.insert(at, number);
        if let Err(at) = self.sent.binary_search(&number) {
            self.sent.insert(at, number);
        }
    }

    /// A batch that was to go out found no room in the request.
    pub(super) fn stays(&mut self, batch: Outgoing) {
        self.lands(batch.number);
        if batch.identity.is_none() {
            self.sent.retain(|number| *number != batch.number);
        }
        self.retries.push_front(batch);
    }

    /// What was sent before the oldest batch that lacks an outcome is of no interest any more.
    pub(super) fn forget_done(&mut self) {
        let waits = self.retries.front().map(|batch| batch.number);
        let oldest = self.in_flight.first().copied().into_iter().chain(waits).min();
        self.sent.retain(|number| oldest.is_some_and(|oldest| oldest <= *number));
    }

    /// A batch in flight is no longer.
    pub(super) fn lands(&mut self, number: u64) {
        let at = self.in_flight.binary_search(&number);
        debug_assert!(at.is_ok(), "a batch is done once");
        if let Ok(at) = at {
            self.in_flight.remove(at);
        }
    }

    /// Puts a batch among those that wait. Batches that fail together come back in any order.
    pub(super) fn wait_again(&mut self, batch: Outgoing) {
        let at = match defects::on(Defect::DropRetryOrder) {
            true => self.retries.len(),
            false => self.retries.partition_point(|other| other.number < batch.number),
        };
        self.retries.insert(at, batch);
    }

    /// A batch that waits is given up: a number that it was sent under is missing from now on.
    pub(super) fn forget(&mut self, batch: &Outgoing) {
        if batch.identity.is_some() {
            self.sequence.lost(batch.number, Missing::of(batch.history.maybe_written));
        }
    }

    /// Whether no batch in front of this one lacks an outcome.
    pub(super) fn is_oldest(&self, number: u64) -> bool {
        self.in_flight.first().is_none_or(|first| *first >= number)
            && self.retries.front().is_none_or(|head| head.number >= number)
    }

    /// Starts over behind a gap, once everything in front of it has its outcome, nothing is in
    /// flight, and no batch is left whose old identity a broker may know. A batch for which that
    /// stays open goes to `undecided`: it can be sent neither as it is nor as another one.
    pub(super) fn settle_gap(&mut self, undecided: &mut Vec<Outgoing>) {
        let Some(gap) = self.sequence.gap() else { return };
        // What can't be in the log is not asked for. It might stand behind the rest of a batch that
        // was refused for some of its records, which has no number before the next epoch.
        let waits_for = |batch: &Outgoing| {
            let in_doubt = batch.is_sequenced_in_doubt() && !gap.rules_out(batch.number);
            batch.number < gap.from || (in_doubt && !gap.confirmed)
        };
        if !self.in_flight.is_empty() || self.retries.iter().any(waits_for) {
            return;
        }
        for mut batch in std::mem::take(&mut self.retries) {
            if batch.is_sequenced_in_doubt() && !gap.rules_out(batch.number) {
                undecided.push(batch);
                continue;
            }
            if batch.identity.take().is_some() {
                // What nobody can have taken was not taken.
                batch.history.maybe_written = false;
            }
            self.retries.push_back(batch);
        }
        self.sequence.start_over();
        self.known_at = None;
        self.sent.clear();
    }

    /// The topic has this id now; another one than before is another topic.
    pub(super) fn is_of_topic(&mut self, id: [u8; 16]) {
        if id == [0; 16] || id == self.topic_id {
            return;
        }
        if self.topic_id != [0; 16] {
            self.sequence.new_log();
        }
        self.topic_id = id;
    }
}
