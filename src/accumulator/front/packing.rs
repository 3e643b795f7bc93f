//! What whoever compresses does in a partition's front: claims a batch, and puts the result in its
//! place. Under the front's lock; the work itself is done without it.

use super::{Listing, Partition, SEAL_PATIENCE, Take};
use crate::accumulator::batch::{BatchBody, ProducerBatch};
use crate::accumulator::buffer_pool::BufferPool;
use crate::accumulator::compression::Packed;
use crate::accumulator::inbox::Inbox;
use crate::accumulator::seal::SealState;
use crate::accumulator::seal_queue::Look;
use crate::defects::{self, Defect};
use std::sync::Arc;

impl Partition {
    /// For whoever compresses: the first batch that waits for it, claimed. It stays where it is.
    pub(in crate::accumulator) fn claim_queued(
        self: &Arc<Self>,
        inbox: &Inbox,
    ) -> Option<Arc<BatchBody>> {
        let front = self.front.lock();
        let queued = front.closed.iter().find(|batch| batch.body.sealing().begin_packing());
        let body = queued.map(|batch| Arc::clone(&batch.body));
        if front.unlock() && inbox.push(self, Inbox::NOW) {
            inbox.wake();
        }
        body
    }

    /// Puts what a claimed batch became in its place, if it lies here still, and lists the
    /// partition if the batch at its head can go. `None`: it became nothing, and is sealed or given
    /// up as it is.
    pub(in crate::accumulator) fn install(
        self: &Arc<Self>,
        body: Arc<BatchBody>,
        packed: Option<Packed>,
        pool: &BufferPool,
        inbox: &Inbox,
    ) {
        let mut front = self.front.lock();
        let is_it = |batch: &ProducerBatch| {
            Arc::ptr_eq(&batch.body, &body) || defects::on(Defect::PackByPlace)
        };
        let place = front.closed.iter().position(is_it);
        // From here on the front has the only reference.
        drop(body);
        let mut freed = None;
        let mut lost = packed;
        let batch = place.and_then(|place| front.closed.get_mut(place));
        if let Some(body) = batch.and_then(|batch| Arc::get_mut(&mut batch.body))
            && (body.seal_state() == SealState::Packing || defects::on(Defect::PackByPlace))
        {
            freed = lost.take().map(|packed| body.pack(packed));
        }
        if let Some(place) = place.filter(|_| defects::on(Defect::PackedFirst)) {
            front.closed.swap(0, place);
        }
        let ready = front.closed.front().is_some_and(|head| head.body.seal_state().is_over());
        let ready = ready && !defects::on(Defect::LosePacked);
        let listed = ready && front.list(self, inbox, Listing::Ready, Inbox::NOW);
        let told = front.unlock() && inbox.push(self, Inbox::NOW);
        if listed || told {
            inbox.wake();
        }
        drop(freed);
        pool.shelve(lost.into_iter().flat_map(|packed| packed.slabs));
    }
}

/// A closed batch waits for nothing but its seal, and not for ever for that: it can be sealed
/// again, or go out as it is.
pub(super) fn head_is_ready(head: &ProducerBatch, take: &Take, look: Option<Look>) -> bool {
    match head.body.seal_state() {
        SealState::Raw | SealState::Sealed => true,
        SealState::Claimed => {
            head.closed.after(SEAL_PATIENCE) <= take.now
                || (take.force && head.cut <= take.force_cut)
        }
        SealState::Queued | SealState::Packing => {
            look.is_none_or(|look| look.may_pack(head) || look.gives_up(head, take.now))
        }
    }
}

/// Whether a batch that was closed just now has to wait for somebody who compresses it.
pub(super) fn is_to_be_packed(batch: &ProducerBatch, take: &Take, look: Option<Look>) -> bool {
    batch.body.seal_state() == SealState::Queued && !head_is_ready(batch, take, look)
}
