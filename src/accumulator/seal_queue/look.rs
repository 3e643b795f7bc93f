//! What the network thread knows of the queue when it looks at a front: what it may compress
//! itself, and until when a batch waits for somebody else.

use crate::accumulator::batch::ProducerBatch;
use crate::accumulator::seal::SealState;
use crate::clock::Instant;
use std::time::Duration;

/// So long a batch waits at most.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Nor longer than this part of what its records had left when it was closed: the rest is for
/// sending it, and for sending it again. Whatever keeps a helper from running, nothing expires for
/// being compressed that could have gone out as it is.
pub(super) const SHARE: u32 = 4;

/// What the network thread has to know when it looks at a front.
#[derive(Debug, Clone, Copy)]
pub(in crate::accumulator) struct Look {
    /// Batches of up to so many bytes it may compress itself now.
    pub(super) inline: usize,
    /// Nothing moves: batches go out as they are.
    pub(super) stalled: bool,
    /// When that may have changed.
    pub(super) again: Instant,
    /// `delivery.timeout.ms`.
    pub(super) timeout: Duration,
}

impl Look {
    /// Whether the network thread may compress this batch itself.
    pub(in crate::accumulator) fn may_pack(&self, batch: &ProducerBatch) -> bool {
        batch.body.seal_state() == SealState::Queued && batch.body.records_len() <= self.inline
    }

    /// Whether a batch that is not compressed goes out as it is.
    pub(in crate::accumulator) fn gives_up(&self, batch: &ProducerBatch, now: Instant) -> bool {
        self.stalled || self.latest(batch) <= now
    }

    /// When to ask that again.
    pub(in crate::accumulator) fn again(&self, batch: &ProducerBatch) -> Instant {
        self.again.min(self.latest(batch))
    }

    /// Until when a batch waits.
    fn latest(&self, batch: &ProducerBatch) -> Instant {
        let left = batch.expires(self.timeout).since(batch.closed);
        batch.closed.after(LONGEST_WAIT.min(left / SHARE))
    }
}
