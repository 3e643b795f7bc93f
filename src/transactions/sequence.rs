//! Sequence numbers of one partition, and when they start over.
//!
//! A batch gets its identity (producer id, epoch, first sequence number) when it leaves for the
//! first time and keeps it through every retry: the same identity means the same bytes, so that a
//! broker knows a batch that it has. A sequence number that will never be in the log leaves a *gap*
//! that the broker lets nothing pass: then what follows starts over, from 0 under the next epoch,
//! of this partition alone. Three rules keep that from writing anything twice (KIP-360):
//!
//! - nothing starts over before everything in front of the gap has its outcome and nothing is in
//!   flight;
//! - another identity is only for a batch whose every write was definitely refused. One of unknown
//!   outcome is sent again as it is; if the broker says that it has neither it nor what is before
//!   it, it fails as perhaps written, unless the gap in front of it is known to be for good: then
//!   no broker can ever have taken it, and it need not be asked for;
//! - an epoch is never used twice for the same number: 32767 is followed by another producer id.
//!
//! Pure; the network thread's alone.

use crate::defects::{self, Defect};

/// The last epoch.
const LAST_EPOCH: i16 = i16::MAX;

/// A producer id and its epoch: what a sequence belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdAndEpoch {
    /// The id, from 0.
    pub id: i64,
    /// The epoch, from 0.
    pub epoch: i16,
}

/// What makes a batch recognisable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Whose it is.
    pub producer: ProducerIdAndEpoch,
    /// Its first record's number.
    pub base_sequence: i32,
}

impl Identity {
    /// The identity of the part of a batch that begins `records` later.
    pub fn after(self, records: u32) -> Identity {
        Identity { base_sequence: advance(self.base_sequence, records), ..self }
    }
}

/// `records` later: 2^31-1 is followed by 0.
fn advance(sequence: i32, records: u32) -> i32 {
    sequence.wrapping_add(records.cast_signed()) & i32::MAX
}

/// What is missing in front of a gap's batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Records that are perhaps in the log: what was written was not answered.
    Perhaps,
    /// Records that never will be.
    ForGood,
    /// The log itself: the topic was created again.
    Log,
}

impl Missing {
    /// A batch that has failed.
    pub fn of(maybe_written: bool) -> Missing {
        if maybe_written { Missing::Perhaps } else { Missing::ForGood }
    }
}

/// A place that sequence numbers do not get past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Batches from this place in the partition's order on are behind it.
    pub from: u64,
    /// What is missing.
    pub missing: Missing,
    /// A broker has said that it does not know what is before the oldest batch.
    pub confirmed: bool,
    /// The first place whose batch is missing for good; `u64::MAX`: none.
    never: u64,
}

impl Gap {
    /// Whether no broker can have taken a batch at this place, whatever became of its request: one
    /// in front of it will never be there. Of a log that is another one nothing is known: it takes
    /// whatever comes first.
    pub fn rules_out(&self, at: u64) -> bool {
        self.never <= at
    }
}

/// The sequence of one partition.
#[derive(Debug, Clone, Copy, Default)]
pub struct PartitionSequence {
    /// `None` until the first batch.
    producer: Option<ProducerIdAndEpoch>,
    next: i32,
    /// The brokers take no further epoch of this id from us.
    spent: bool,
    gap: Option<Gap>,
}

impl PartitionSequence {
    /// Whether it can go on, `newest` being the id that the producer got last.
    pub fn can_assign(&self, newest: Option<ProducerIdAndEpoch>) -> bool {
        match (self.producer, newest) {
            (Some(_), _) if !self.spent => true,
            (Some(spent), Some(newest)) => newest.id != spent.id,
            (None, newest) => newest.is_some(),
            (Some(_), None) => false,
        }
    }

    /// The identity of the next batch, of so many records.
    pub fn assign(&mut self, newest: Option<ProducerIdAndEpoch>, records: u32) -> Option<Identity> {
        debug_assert!(self.gap.is_none(), "nothing new goes behind a gap");
        if !self.can_assign(newest) {
            return None;
        }
        let producer = match self.producer.filter(|_| !self.spent) {
            Some(producer) => producer,
            None => {
                self.spent = false;
                *self.producer.insert(newest?)
            }
        };
        let identity = Identity { producer, base_sequence: self.next };
        self.next = advance(self.next, records);
        Some(identity)
    }

    /// The first gap, if there is one.
    pub fn gap(&self) -> Option<Gap> {
        self.gap
    }

    /// The batch at this place will not be in the log, or perhaps it is. The first gap matters:
    /// what is behind it starts over anyway; and the first one that is for good, behind which
    /// nothing was taken.
    pub fn lost(&mut self, at: u64, missing: Missing) {
        let never = if missing == Missing::ForGood { at } else { u64::MAX };
        let never = self.gap.map_or(never, |gap| never.min(gap.never));
        match &mut self.gap {
            Some(gap) if gap.from <= at => gap.never = never,
            Some(_) | None => self.gap = Some(Gap { from: at, missing, confirmed: false, never }),
        }
    }

    /// A broker does not know what is before the batch at this place, which is the oldest one.
    pub fn broken(&mut self, at: u64) {
        self.lost(at, Missing::Perhaps);
        if let Some(gap) = &mut self.gap {
            gap.confirmed = true;
        }
    }

    /// The brokers take no further epoch of this id: the next one must be another id's.
    pub fn spend(&mut self) {
        self.spent = true;
    }

    /// The topic is another one: its brokers know nothing of what was written so far.
    pub fn new_log(&mut self) {
        if self.producer.is_some() {
            let missing = Missing::Log;
            self.gap = Some(Gap { from: 0, missing, confirmed: false, never: u64::MAX });
        }
    }

    /// The batch at this place is in the log. Where one behind a gap is, the gap was none; one
    /// farther back stays.
    pub fn appended(&mut self, at: u64) {
        let Some(gap) = self.gap.filter(|gap| gap.from <= at && gap.missing != Missing::Log) else {
            return;
        };
        self.gap = None;
        if gap.never > at && gap.never != u64::MAX {
            self.lost(gap.never, Missing::ForGood);
        }
    }

    /// Nothing is in flight, and nothing in front of the gap is left: the next epoch.
    pub fn start_over(&mut self) {
        self.gap = None;
        self.next = 0;
        match &mut self.producer {
            Some(_) if defects::on(Defect::ReuseEpoch) => {}
            Some(producer) if producer.epoch < LAST_EPOCH => producer.epoch += 1,
            Some(_) => self.spent = true,
            None => {}
        }
    }

    /// Goes on at another number, as after a long life.
    #[cfg(test)]
    pub fn skip_to(&mut self, next: i32) {
        self.next = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ProducerIdAndEpoch = ProducerIdAndEpoch { id: 1000, epoch: 0 };

    fn identity(producer: ProducerIdAndEpoch, base_sequence: i32) -> Option<Identity> {
        Some(Identity { producer, base_sequence })
    }

    #[test]
    fn sequences_wrap_after_two_thousand_million_records() {
        assert_eq!(advance(i32::MAX, 1), 0);
        assert_eq!(advance(i32::MAX - 5, 10), 4);
        assert_eq!(advance(5, 5), 10);
        assert_eq!(advance(0, i32::MAX.unsigned_abs()), i32::MAX);
        let mut sequence = PartitionSequence::default();
        sequence.skip_to(i32::MAX - 9);
        let bases: Vec<_> =
            (0..5).map(|_| sequence.assign(Some(FIRST), 4).unwrap().base_sequence).collect();
        assert_eq!(bases, [i32::MAX - 9, i32::MAX - 5, i32::MAX - 1, 2, 6]);
        let part = Identity { producer: FIRST, base_sequence: i32::MAX - 1 }.after(3);
        assert_eq!(part.base_sequence, 1);
    }

    #[test]
    fn without_an_id_nothing_is_assigned() {
        let mut sequence = PartitionSequence::default();
        assert!(!sequence.can_assign(None));
        assert_eq!(sequence.assign(None, 1), None);
        assert_eq!(sequence.assign(Some(FIRST), 3), identity(FIRST, 0));
        // Another id is for those that need one.
        let newest = ProducerIdAndEpoch { id: 1001, epoch: 0 };
        assert_eq!(sequence.assign(Some(newest), 1), identity(FIRST, 3));
        assert_eq!(sequence.assign(None, 1), identity(FIRST, 4));
    }

    #[test]
    fn starting_over_is_the_next_epoch_from_zero() {
        let mut sequence = PartitionSequence::default();
        sequence.assign(Some(FIRST), 3);
        sequence.lost(0, Missing::ForGood);
        sequence.start_over();
        let next = ProducerIdAndEpoch { epoch: 1, ..FIRST };
        assert_eq!(sequence.assign(Some(FIRST), 3), identity(next, 0));
        assert_eq!(sequence.gap(), None);
    }

    #[test]
    fn the_last_epoch_is_followed_by_another_id() {
        let last = ProducerIdAndEpoch { id: 1000, epoch: LAST_EPOCH };
        let mut sequence = PartitionSequence::default();
        assert_eq!(sequence.assign(Some(last), 3), identity(last, 0));
        sequence.start_over();
        assert!(!sequence.can_assign(Some(last)) && !sequence.can_assign(None));
        let other = ProducerIdAndEpoch { id: 1001, epoch: 0 };
        assert_eq!(sequence.assign(Some(other), 3), identity(other, 0));
        assert_eq!(sequence.assign(Some(last), 3), identity(other, 3), "it stays with that");
    }

    #[test]
    fn the_first_gap_counts_and_a_batch_behind_it_closes_it() {
        let mut sequence = PartitionSequence::default();
        sequence.assign(Some(FIRST), 3);
        sequence.lost(7, Missing::ForGood);
        sequence.lost(9, Missing::Perhaps);
        let gap = Gap { from: 7, missing: Missing::ForGood, confirmed: false, never: 7 };
        assert_eq!(sequence.gap(), Some(gap));
        sequence.lost(3, Missing::Perhaps);
        assert_eq!(sequence.gap().map(|gap| (gap.from, gap.rules_out(6))), Some((3, false)));
        assert!(sequence.gap().is_some_and(|gap| gap.rules_out(7) && gap.rules_out(8)));
        sequence.appended(2);
        assert!(sequence.gap().is_some());
        sequence.broken(4);
        let gap = Gap { from: 3, missing: Missing::Perhaps, confirmed: true, never: 7 };
        assert_eq!(sequence.gap(), Some(gap));
        sequence.appended(4);
        let gap = Gap { from: 7, missing: Missing::ForGood, confirmed: false, never: 7 };
        assert_eq!(sequence.gap(), Some(gap), "what is missing for good stays missing");
        sequence.appended(9);
        assert_eq!(sequence.gap(), None);
    }

    #[test]
    fn a_new_log_is_started_over_in_whatever_it_takes() {
        let mut sequence = PartitionSequence::default();
        sequence.new_log();
        assert_eq!(sequence.gap(), None, "nothing was sent yet");
        sequence.assign(Some(FIRST), 3);
        sequence.new_log();
        sequence.appended(5);
        assert!(sequence.gap().is_some_and(|gap| gap.missing == Missing::Log && !gap.rules_out(6)));
    }
}
