//! Batches that leave a back without a broker's word: what has reached its deadline, and what is
//! purged. One that was sent before leaves its sequence numbers behind as a gap.

use super::Backs;
use crate::accumulator::batch::ProducerBatch;
use crate::accumulator::front::{Expired, Partition};
use crate::accumulator::outgoing::Outgoing;
use crate::clock::Instant;
use std::sync::Arc;
use std::time::Duration;

/// When an expiry that found a front busy is tried again.
const BUSY_RETRY: Duration = Duration::from_millis(1);

impl Backs {
    /// Takes what has reached its deadline out of retries and front.
    pub fn expire(&mut self, slot: u32, now: Instant, expired: &mut Vec<Outgoing>) {
        let timeout = self.limits.delivery_timeout;
        let Some(back) = self.back(slot) else { return };
        for _ in 0..back.retries.len() {
            if let Some(batch) = back.retries.pop_front() {
                if batch.deadline(timeout) <= now {
                    back.forget(&batch);
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
        self.look_again(slot);
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
            for batch in std::mem::take(&mut back.retries) {
                back.forget(&batch);
                taken.push(batch);
            }
        }
        let mut from_front = std::mem::take(&mut self.from_front);
        let free = if close {
            partition.try_close(&mut from_front)
        } else {
            partition.try_purge(&mut from_front)
        };
        self.adopt(partition, &mut from_front, taken);
        self.from_front = from_front;
        self.look_again(partition.slot);
        free
    }

    fn adopt(
        &mut self,
        partition: &Arc<Partition>,
        from_front: &mut Vec<ProducerBatch>,
        to: &mut Vec<Outgoing>,
    ) {
        for batch in from_front.drain(..) {
            let batch = self.outgoing(partition, batch);
            to.push(batch);
        }
    }
}
