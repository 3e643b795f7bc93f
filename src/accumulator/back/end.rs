//! Batches that leave a back without a broker's word: what has reached its deadline, and what is
//! purged. One that was sent before leaves its sequence numbers behind as a gap.

use super::Backs;
use crate::accumulator::batch::ProducerBatch;
use crate::accumulator::cuts::Cuts;
use crate::accumulator::front::{Expired, Partition};
use crate::accumulator::outgoing::{Expiry, Outgoing};
use crate::clock::Instant;
use std::sync::Arc;
use std::time::Duration;

/// When an expiry that found a front busy is tried again.
const BUSY_RETRY: Duration = Duration::from_millis(1);

impl Backs {
    /// Takes what has reached its deadline out of retries and front.
    pub fn expire(&mut self, slot: u32, now: Instant, cuts: &Cuts, expired: &mut Vec<Outgoing>) {
        let timeout = self.limits.delivery_timeout;
        let Some(back) = self.back(slot) else { return };
        let mut waiting: Vec<Outgoing> = std::mem::take(&mut back.retries).into();
        let partition = Arc::clone(&back.partition);
        // Before the front is looked at: what is appended from here on is told again.
        partition.forget_told();
        let mut from_front = std::mem::take(&mut self.from_front);
        let left = partition.try_expire(now, timeout, &mut from_front);
        let mut next = match left {
            Expired::Busy => now.after(BUSY_RETRY),
            // A batch with a longer timeout of its own keeps the partition listed: what comes after
            // it is not told of, and may be due before it.
            Expired::Next(deadline) | Expired::Ready(deadline) => deadline.min(now.after(timeout)),
        };
        self.adopt(&partition, &mut from_front, &mut waiting);
        self.from_front = from_front;
        let Some(back) = self.back(slot) else { return };
        for batch in waiting {
            let stays = match batch.expired(now, timeout) {
                Expiry::Nothing => Some(batch),
                Expiry::All => {
                    back.forget(&batch);
                    expired.push(batch);
                    None
                }
                Expiry::Some(places) => part(batch, places, cuts, expired),
            };
            if let Some(batch) = stays {
                // Where its sealer still had it, a moment later.
                next = next.min(batch.deadline(timeout).max(now.after(BUSY_RETRY)));
                back.retries.push_back(batch);
            }
        }
        self.look_again(slot);
        self.resume(slot, now);
        if matches!(left, Expired::Ready(_)) {
            self.make_ready(slot);
        }
        self.file_expiry(slot, next);
    }

    /// What was taken out of a front and stays is listed by nobody else.
    fn resume(&mut self, slot: u32, now: Instant) {
        let Some(back) = self.back(slot).filter(|back| !back.retries.is_empty()) else { return };
        match back.backoff_until {
            at if at > now => self.wait_until(slot, at),
            _ => self.make_ready(slot),
        }
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

/// Parts the records at these places from the others of a batch that is not in flight, and gives
/// those. Brokers may know a batch that has an identity: it stays as it is. Of any other the rest
/// is encoded anew, and nothing of the dead is sent.
fn part(
    mut batch: Outgoing,
    dead: Box<[u32]>,
    cuts: &Cuts,
    expired: &mut Vec<Outgoing>,
) -> Option<Outgoing> {
    if batch.identity.is_some() {
        expired.push(batch.part(dead, cuts));
        return Some(batch);
    }
    match batch.without(&dead, cuts) {
        Ok([rest, dead]) => {
            expired.extend(dead);
            rest
        }
        Err(batch) => Some(*batch),
    }
}
