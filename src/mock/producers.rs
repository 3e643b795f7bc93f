//! What a partition remembers of the producers that wrote to it: Kafka's rules for producer ids,
//! epochs and sequences.
//!
//! The last five batches of a producer are kept, so that a batch that was sent again is recognised
//! and answered with the offset it got the first time. A producer nobody remembers may start at any
//! sequence, as on brokers since 2.5: its records may have left the log by retention, and refusing
//! it would only make it write duplicates. KIP-98, KIP-360.

use std::collections::{HashMap, VecDeque};

/// How many batches of a producer are remembered per partition; also the most an idempotent
/// producer may have in flight.
pub const REMEMBERED_BATCHES: usize = 5;

/// Who wrote a batch, and which of its records these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The producer id, not negative.
    pub producer_id: i64,
    /// The producer's epoch.
    pub epoch: i16,
    /// The sequence of the batch's first record.
    pub base_sequence: i32,
    /// How many records, at least 1.
    pub count: i32,
}

/// What the rules say of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one.
    Append,
    /// It is there already, from this offset on.
    Duplicate(i64),
    /// Its epoch is older than the producer's.
    InvalidEpoch {
        /// The producer's epoch.
        current: i16,
    },
    /// It doesn't follow the last one.
    OutOfOrder {
        /// The sequence of the last record written under the epoch, -1: none.
        last_sequence: i32,
    },
}

/// The producers of one partition.
#[derive(Debug, Default)]
pub struct Producers {
    known: HashMap<i64, Producer, foldhash::fast::FixedState>,
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    batches: VecDeque<Written>,
}

#[derive(Debug, Clone, Copy)]
struct Written {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
}

impl Producers {
    /// What is to be done with a batch of this identity.
    pub fn check(&self, batch: Identity) -> Verdict {
        let Some(known) = self.known.get(&batch.producer_id) else { return Verdict::Append };
        if batch.epoch < known.epoch {
            return Verdict::InvalidEpoch { current: known.epoch };
        }
        if batch.epoch > known.epoch {
            return match batch.base_sequence {
                0 => Verdict::Append,
                _ => Verdict::OutOfOrder { last_sequence: -1 },
            };
        }
        let last = last_sequence(batch.base_sequence, batch.count);
        let same =
            |w: &&Written| w.first_sequence == batch.base_sequence && w.last_sequence == last;
        if let Some(written) = known.batches.iter().find(same) {
            return Verdict::Duplicate(written.base_offset);
        }
        let last_sequence = known.batches.back().map_or(-1, |w| w.last_sequence);
        if batch.base_sequence == next_sequence(last_sequence) {
            Verdict::Append
        } else {
            Verdict::OutOfOrder { last_sequence }
        }
    }

    /// Remembers a batch that was written at `base_offset`.
    pub fn wrote(&mut self, batch: Identity, base_offset: i64) {
        let known = self.known.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.epoch,
            batches: VecDeque::with_capacity(REMEMBERED_BATCHES),
        });
        if known.epoch != batch.epoch {
            known.epoch = batch.epoch;
            known.batches.clear();
        }
        if known.batches.len() == REMEMBERED_BATCHES {
            known.batches.pop_front();
        }
        known.batches.push_back(Written {
            first_sequence: batch.base_sequence,
            last_sequence: last_sequence(batch.base_sequence, batch.count),
            base_offset,
        });
    }

    /// Forgets everybody, as when producer ids expire.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

/// The sequence of a batch's last record: sequences go from 2^31-1 to 0.
fn last_sequence(base: i32, count: i32) -> i32 {
    base.wrapping_add(count.wrapping_sub(1)) & i32::MAX
}

fn next_sequence(last: i32) -> i32 {
    last.wrapping_add(1) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, base_sequence: i32, count: i32) -> Identity {
        Identity { producer_id: 9, epoch, base_sequence, count }
    }

    fn after(batches: &[Identity]) -> Producers {
        let mut producers = Producers::default();
        for (i, b) in batches.iter().enumerate() {
            assert_eq!(producers.check(*b), Verdict::Append);
            producers.wrote(*b, 100 * i as i64);
        }
        producers
    }

    #[test]
    fn sequences_follow_each_other() {
        let producers = after(&[batch(0, 0, 3), batch(0, 3, 1)]);
        assert_eq!(producers.check(batch(0, 4, 7)), Verdict::Append);
        assert_eq!(producers.check(batch(0, 5, 1)), Verdict::OutOfOrder { last_sequence: 3 });
        assert_eq!(producers.check(batch(0, 3, 2)), Verdict::OutOfOrder { last_sequence: 3 });
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let producers = after(&[batch(0, i32::MAX - 1, 3)]);
        assert_eq!(producers.check(batch(0, 1, 1)), Verdict::Append);
        let producers = after(&[batch(0, i32::MAX, 1)]);
        assert_eq!(producers.check(batch(0, 0, 1)), Verdict::Append);
        assert_eq!(last_sequence(i32::MAX - 5, 16), 9);
    }

    #[test]
    fn five_batches_are_remembered() {
        let written: Vec<_> = (0..6).map(|i| batch(0, i * 2, 2)).collect();
        let producers = after(&written);
        assert_eq!(producers.check(written[0]), Verdict::OutOfOrder { last_sequence: 11 });
        for (i, b) in written.iter().enumerate().skip(1) {
            assert_eq!(producers.check(*b), Verdict::Duplicate(100 * i as i64));
        }
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_an_old_one_is_refused() {
        let mut producers = after(&[batch(3, 0, 5)]);
        assert_eq!(producers.check(batch(2, 5, 1)), Verdict::InvalidEpoch { current: 3 });
        assert_eq!(producers.check(batch(4, 5, 1)), Verdict::OutOfOrder { last_sequence: -1 });
        assert_eq!(producers.check(batch(4, 0, 5)), Verdict::Append, "another epoch: no duplicate");
        producers.wrote(batch(4, 0, 5), 50);
        assert_eq!(producers.check(batch(3, 0, 5)), Verdict::InvalidEpoch { current: 4 });
        assert_eq!(producers.check(batch(4, 0, 5)), Verdict::Duplicate(50));
    }

    #[test]
    fn a_forgotten_producer_starts_anywhere() {
        let mut producers = after(&[batch(3, 0, 5)]);
        producers.forget();
        assert_eq!(producers.check(batch(0, 77, 1)), Verdict::Append);
    }
}
