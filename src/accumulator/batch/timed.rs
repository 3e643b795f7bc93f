//! The deadlines of a batch's records: kept while it is open, read until it is done.

use super::{BatchBody, Chain, Full, OpenBatch, ProducerBatch};
use crate::accumulator::slab::TagSlab;
use crate::accumulator::times::{NO_OWN, Times, own_deadline};
use crate::clock::Instant;
use crate::record::ProducerRecord;
use std::iter;
use std::time::Duration;

impl Chain {
    fn own_deadlines(&self) -> &[u64] {
        self.own_deadlines.as_ref().map_or(&[], |own| &own.tags)
    }
}

impl OpenBatch {
    /// The same for a record with what else is kept of it: a mark where one is due, its own
    /// deadline.
    pub(in crate::accumulator) fn push_timed(
        &mut self,
        record: &ProducerRecord<'_>,
        payload_len: usize,
        timestamp: i64,
        limit: usize,
        now: Instant,
    ) -> Result<usize, Full> {
        let place = self.count;
        if record.timeout_ms > 0 && place > 0 && self.own_deadlines().len() <= place as usize {
            return Err(Full::Deadlines);
        }
        let len = self.push(record, payload_len, timestamp, limit)?;
        if now >= self.next_mark {
            self.next_mark = Times::next_mark(now);
            self.times.mark(place, now);
        }
        if let Some(deadline) = own_deadline(record, now) {
            match (place, &mut self.chain.own_deadlines) {
                (0, _) => self.times.own_first(deadline),
                (_, Some(own)) => {
                    if let Some(own) = own.tags.get_mut(place as usize) {
                        *own = deadline.0.max(1);
                    }
                }
                (_, None) => {}
            }
            // It would not live to see the end of the linger.
            if deadline <= self.deadline {
                self.deadline = now;
            }
        }
        Ok(len)
    }

    fn own_deadlines(&self) -> &[u64] {
        self.chain.own_deadlines()
    }

    /// How many deadlines there must be room for next.
    pub(in crate::accumulator) fn deadlines_wanted(&self) -> usize {
        (self.count as usize + 1).max(self.own_deadlines().len() * 2)
    }

    /// Goes on in a longer array of deadlines.
    pub(in crate::accumulator) fn move_deadlines(&mut self, mut slab: TagSlab) {
        let old = self.own_deadlines().len();
        if let Some(rest) = slab.tags.get_mut(old..) {
            rest.fill(NO_OWN);
        }
        for (to, from) in slab.tags.iter_mut().zip(self.own_deadlines()) {
            *to = *from;
        }
        let old = self.chain.own_deadlines.replace(slab);
        self.chain.pool.release(iter::empty(), old, 0);
    }

    /// The earliest deadline of its records.
    pub(in crate::accumulator) fn next_deadline(&self, timeout: Duration) -> Instant {
        self.times.next(self.own_deadlines(), self.count, timeout, |_| false)
    }
}

impl BatchBody {
    pub(super) fn own_deadlines(&self) -> &[u64] {
        self.chain.own_deadlines()
    }

    /// When each record must have its outcome, with this `delivery.timeout.ms`.
    pub fn deadlines(&self, timeout: Duration) -> impl Iterator<Item = Instant> {
        self.times.deadlines(self.own_deadlines(), timeout).take(self.count as usize)
    }

    /// Whether the record at this place has a deadline of its own.
    pub fn has_own_deadline(&self, place: u32) -> bool {
        self.times.has_own(place, self.own_deadlines())
    }

    /// The earliest of them among the records that are not `reported`.
    pub fn next_deadline(&self, timeout: Duration, reported: impl Fn(u32) -> bool) -> Instant {
        self.times.next(self.own_deadlines(), self.count, timeout, reported)
    }
}

impl ProducerBatch {
    /// When its records must have their outcome, with this `delivery.timeout.ms`.
    pub fn expires(&self, timeout: Duration) -> Instant {
        let next = || self.body.next_deadline(timeout, |_| false);
        self.alone.map_or_else(next, |alone| alone.deadline)
    }
}
