//! What has to be so whenever time passes: the simulator asks between any two steps in which
//! everybody sleeps. Tests only; takes each front's lock for a look.

use super::RecordAccumulator;
use super::batch::ProducerBatch;
use super::front::{Listing, Partition};
use super::seal::SealState;
use std::sync::Arc;

impl RecordAccumulator {
    /// Nobody is in the middle of anything, and the network thread sleeps: then no batch lies
    /// around that somebody could do something about. This finds what patience hides, for sooner or
    /// later batches go out as they are.
    pub(crate) fn check_at_rest(&self) -> Result<(), String> {
        if self.seal_queue().is_left_alone() {
            return Err("batches wait to be compressed, and nobody works or will".into());
        }
        self.partitions().iter().try_for_each(|partition| self.check_front(partition))
    }

    /// A batch that waits to be compressed has an entry in the queue; of one that can go the
    /// network thread was told, or it looks at the partition when that is no longer muted.
    fn check_front(&self, partition: &Arc<Partition>) -> Result<(), String> {
        let front = partition.front.lock();
        let state = |batch: &ProducerBatch| batch.body.seal_state();
        let waits = |batch: &&ProducerBatch| state(batch) == SealState::Queued;
        let waiting = front.closed.iter().filter(waits).count();
        let can_go = front.closed.front().is_some_and(|head| state(head).is_over());
        let told = front.muted || front.listing == Listing::Ready;
        drop(front);
        let entries = self.seal_queue().entries(partition).unwrap_or(usize::MAX);
        let problem = if waiting > entries {
            format!("{waiting} batches wait to be compressed, of which {entries} are known")
        } else if can_go && !told {
            "a batch can go, and nobody is told".into()
        } else {
            return Ok(());
        };
        Err(format!("{}-{}: {problem}", partition.topic, partition.index))
    }
}
