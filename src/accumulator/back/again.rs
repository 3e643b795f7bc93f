//! Batches that were in flight and are sent again, as they were or what is left of them.

use super::{Backs, Missing, Order, Place};
use crate::accumulator::outgoing::Outgoing;
use crate::clock::Instant;

impl Backs {
    /// A batch that was in flight is to be sent again, not before `backoff_until`.
    pub fn reenqueue(&mut self, batch: Outgoing, backoff_until: Instant) {
        let (slot, number) = (batch.partition.slot, batch.number);
        self.reenqueue_all(slot, number, [batch], backoff_until);
    }

    /// What became of the batch in flight at this place is to be sent again.
    pub fn reenqueue_all(
        &mut self,
        slot: u32,
        number: u64,
        batches: impl IntoIterator<Item = Outgoing>,
        backoff_until: Instant,
    ) {
        let Some(back) = self.back(slot) else { return };
        back.unsettled();
        back.lands(number);
        self.put(slot, batches, backoff_until);
    }

    /// The batch in flight at this place has failed, and is in no log; what is left of it is to be
    /// sent, as something else.
    pub fn replace(
        &mut self,
        slot: u32,
        number: u64,
        rest: impl IntoIterator<Item = Outgoing>,
        from: Instant,
    ) {
        let sequenced = self.limits.order == Order::Sequences;
        let Some(back) = self.back(slot) else { return };
        back.unsettled();
        if sequenced {
            back.sequence.lost(number, Missing::ForGood);
        }
        back.lands(number);
        self.put(slot, rest, from);
    }

    /// Puts batches among those that wait.
    fn put(
        &mut self,
        slot: u32,
        batches: impl IntoIterator<Item = Outgoing>,
        backoff_until: Instant,
    ) {
        let timeout = self.limits.delivery_timeout;
        let Some(back) = self.back(slot) else { return };
        let mut deadline = Instant::NEVER;
        for batch in batches {
            deadline = deadline.min(batch.deadline(timeout));
            back.wait_again(batch);
        }
        back.backoff_until = back.backoff_until.max(backoff_until);
        let backoff_until = back.backoff_until;
        if back.is_held() {
            back.place = Place::Idle;
        }
        self.wait_until(slot, backoff_until);
        self.look_again(slot);
        self.file_expiry(slot, deadline);
    }
}
