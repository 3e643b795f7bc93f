//! What the backs know of producer ids and sequence numbers: identities at drain, gaps, partitions
//! that wait for an id. Kafka's own names: `TransactionManager.maybeResolveSequences`,
//! `hasProducerId`.

use super::{Backs, Order};
use crate::accumulator::front::Partition;
use crate::accumulator::outgoing::Outgoing;
use crate::accumulator::turn::Place;
use crate::defects::{self, Defect};
use crate::transactions::sequence::ProducerIdAndEpoch;
use std::sync::Arc;

impl Backs {
    /// Gives a batch that goes out its identity, if it has none and is to have one.
    pub(super) fn stamp(&mut self, mut batch: Outgoing) -> Option<Outgoing> {
        let fresh = batch.identity.is_none() || defects::on(Defect::NewSequenceOnRetry);
        if self.limits.order == Order::Sequences && fresh {
            let newest = self.newest_id;
            let back = self.back(batch.partition.slot)?;
            batch.identity = back.sequence.assign(newest, batch.count());
        }
        Some(batch)
    }

    /// A broker does not know what is before the batch in flight at this place, which is the oldest
    /// one. With `other_id` it will take no later epoch of the producer id either.
    pub fn broken(&mut self, slot: u32, number: u64, other_id: bool) {
        let Some(back) = self.back(slot) else { return };
        back.sequence.broken(number);
        if defects::on(Defect::BumpOnAny45) {
            back.sequence.start_over();
            back.retries.iter_mut().for_each(|batch| batch.identity = None);
        }
        if other_id {
            back.sequence.spend();
        }
    }

    /// Whether every batch of the partition in front of this one has its outcome; and whether what
    /// is missing in front of it, if anything, is missing for good.
    pub fn position(&self, slot: u32, number: u64) -> (bool, bool) {
        let back = self.backs.get(slot as usize).and_then(Option::as_ref);
        back.map_or((true, false), |back| {
            let ruled_out = back.sequence.gap().is_some_and(|gap| gap.rules_out(number));
            (back.is_oldest(number), ruled_out)
        })
    }

    /// The connection to this node is gone, and so may be what it knew of the producer: the next
    /// batch of each of its partitions goes out alone.
    pub fn unsettle(&mut self, node: i32) {
        for back in self.backs.iter_mut().flatten() {
            if back.partition.leader() == node {
                back.unsettled();
            }
        }
    }

    /// The partition has another leader than before, or none, which may have missed what its last
    /// one knew of the producer; nobody tells of it if that happens while there is no leader.
    pub fn led_by_another(&mut self, slot: u32) {
        if let Some(back) = self.back(slot) {
            back.unsettled();
        }
    }

    /// Batches that are perhaps in the log and that a broker would neither know again nor take: the
    /// caller reports them.
    pub fn take_undecided(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.undecided)
    }

    /// The producer id that sequences start under from now on.
    pub fn set_producer_id(&mut self, id: ProducerIdAndEpoch) {
        self.newest_id = Some(id);
        for slot in std::mem::take(&mut self.without_id) {
            if let Some(back) = self.back(slot) {
                back.wants_id = false;
                self.look_again(slot);
            }
        }
    }

    /// Whether a partition can't send for lack of a producer id.
    pub fn wants_id(&self) -> bool {
        !self.without_id.is_empty()
    }

    /// Whether this one can't.
    pub fn lacks_id(&self, slot: u32) -> bool {
        let back = self.backs.get(slot as usize).and_then(Option::as_ref);
        back.is_some_and(|back| back.place == Place::NoId)
    }

    /// The partitions that can't. They are as if idle from here on: the caller takes what they
    /// hold.
    pub fn take_without_id(&mut self) -> Vec<Arc<Partition>> {
        let mut partitions = Vec::new();
        for slot in std::mem::take(&mut self.without_id) {
            let Some(back) = self.back(slot) else { continue };
            back.wants_id = false;
            if back.place == Place::NoId {
                back.place = Place::Idle;
                partitions.push(Arc::clone(&back.partition));
            }
        }
        partitions
    }

    /// The partition's topic has this id now.
    pub fn follow_topic_id(&mut self, slot: u32, id: [u8; 16]) {
        if let Some(back) = self.back(slot) {
            back.is_of_topic(id);
            self.look_again(slot);
        }
    }

    /// The partition goes on at another number, as after a long life.
    #[cfg(test)]
    pub fn skip_sequence_to(&mut self, slot: u32, next: i32) {
        if let Some(back) = self.back(slot) {
            back.sequence.skip_to(next);
        }
    }
}
