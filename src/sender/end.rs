//! Purge and close: batches that end without a broker's word.

use super::Sender;
use crate::accumulator::front::Partition;
use crate::accumulator::outgoing::Outgoing;
use crate::defects::{self, Defect};
use crate::network::Selectable;
use std::sync::Arc;

impl<S: Selectable> Sender<S> {
    /// Fails what was not yet written to a socket: queued and backing off.
    pub(super) fn purge(&mut self, topic: Option<&str>, partition: Option<i32>) {
        let wanted = |p: &Arc<Partition>| {
            topic.is_none_or(|topic| *p.topic == *topic)
                && partition.is_none_or(|index| p.index == index)
        };
        let partitions: Vec<_> =
            self.parts.accumulator.partitions().into_iter().filter(wanted).collect();
        self.take_from(
            &partitions,
            false,
            crate::error::status::ABORTED,
            "purged by producer_purge()",
        );
    }

    /// Takes all batches that are not in flight out of `partitions` and fails them.
    fn take_from(
        &mut self,
        partitions: &[Arc<Partition>],
        close: bool,
        status: i32,
        why: &str,
    ) -> u64 {
        let now = self.parts.clock.now();
        let mut count = 0;
        for batch in self.take_batches(partitions, close) {
            count += u64::from(batch.open_count());
            self.fail_aborted(batch, status, why, false, now);
        }
        count
    }

    /// Takes all batches that are not in flight. A front that is busy is held by a caller that only
    /// copies one record: it is tried again until it is free.
    pub(super) fn take_batches(
        &mut self,
        partitions: &[Arc<Partition>],
        close: bool,
    ) -> Vec<Outgoing> {
        let mut taken = Vec::new();
        for partition in partitions {
            while !self.backs.take_all(partition, close, &mut taken) {
                std::thread::yield_now();
            }
        }
        taken
    }

    /// The end: fronts are closed for good, every record without an outcome is failed, connections
    /// are closed.
    pub fn abort_everything(&mut self, status: i32) {
        let now = self.parts.clock.now();
        let why = if status == crate::error::status::PANIC {
            "the producer met a defect of its own and stopped; report this"
        } else {
            "the producer was closed before it was written"
        };
        self.closing = true;
        let mut count = 0;
        // In the order they were sent: what is in flight, then what waits.
        let mut produces: Vec<_> = std::mem::take(&mut self.produces).into_iter().collect();
        produces.sort_unstable_by_key(|(token, _)| *token);
        for (_, produce) in produces {
            for batch in produce.into_batches() {
                count += u64::from(batch.open_count());
                self.fail_aborted(batch, status, why, true, now);
            }
        }
        let partitions = self.parts.accumulator.close();
        if !defects::on(Defect::CloseForgetsFronts) {
            count += self.take_from(&partitions, true, status, why);
        }
        self.parts.accumulator.count_aborted(count);
        self.parts.client.close(&mut self.events);
        self.events.clear();
        self.parts.deliveries.close();
    }
}
