//! Sealing: the checksum of a closed batch's records, and the factor that moves another checksum in
//! front of them, so that stamping the header when the batch leaves costs the same at any size.
//!
//! Sealing is a claim, not a place in line: Raw, Claimed, Sealed. Whoever closes a batch closes it
//! as claimed, while it still holds the partition's front, and seals it as soon as it has let go.
//! Anybody else who needs the result before it is there computes it again; the first result is
//! installed, the other one dropped. A claim that ends without a result, in a panic, leaves the
//! batch raw. Any thread; a claim holds a counted reference to the batch, so that it cannot be
//! another batch's memory that is read.
//!
//! A batch that is to be compressed is closed as Queued instead, and becomes Packing when somebody
//! claims it under the front's lock; see [`seal_queue`](super::seal_queue).

use super::batch::BatchBody;
use crate::protocol::crc32c::ShiftFactor;
use crate::sync::prim::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

/// What stamping needs to know of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// CRC-32C of the records area.
    pub crc: u32,
    /// The factor for the length of the records area.
    pub factor: ShiftFactor,
}

/// How far sealing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SealState {
    /// Nobody is at it.
    Raw = 0,
    /// Somebody said that it would.
    Claimed = 1,
    /// The result is there.
    Sealed = 2,
    /// It waits to be compressed.
    Queued = 3,
    /// Somebody compresses it.
    Packing = 4,
}

impl SealState {
    /// Whether nobody will do anything about it any more.
    pub(super) fn is_over(self) -> bool {
        matches!(self, SealState::Raw | SealState::Sealed)
    }
}

/// The part of a closed batch that still changes.
#[derive(Debug)]
pub(super) struct Sealing {
    state: AtomicU8,
    seal: OnceLock<Seal>,
}

impl Sealing {
    pub(super) fn claimed() -> Sealing {
        Sealing { state: AtomicU8::new(SealState::Claimed as u8), seal: OnceLock::new() }
    }

    pub(super) fn queued() -> Sealing {
        Sealing { state: AtomicU8::new(SealState::Queued as u8), seal: OnceLock::new() }
    }

    pub(super) fn sealed(seal: Seal) -> Sealing {
        let state = AtomicU8::new(SealState::Sealed as u8);
        Sealing { state, seal: OnceLock::from(seal) }
    }

    pub(super) fn state(&self) -> SealState {
        match self.state.load(Ordering::Acquire) {
            0 => SealState::Raw,
            1 => SealState::Claimed,
            3 => SealState::Queued,
            4 => SealState::Packing,
            _ => SealState::Sealed,
        }
    }

    pub(super) fn get(&self) -> Option<Seal> {
        self.seal.get().copied()
    }

    /// The seal that holds from now on: this one, unless there was one already.
    pub(super) fn install(&self, seal: Seal) -> Seal {
        let installed = *self.seal.get_or_init(|| seal);
        debug_assert_eq!(installed, seal, "the bytes of a closed batch have changed");
        self.state.store(SealState::Sealed as u8, Ordering::Release);
        installed
    }

    /// Raw to claimed; false if it is somebody else's, or done.
    fn claim(&self) -> bool {
        self.swap(SealState::Raw, SealState::Claimed)
    }

    fn unclaim(&self) {
        self.swap(SealState::Claimed, SealState::Raw);
    }

    /// Queued to packing; false if it is no longer queued.
    pub(super) fn begin_packing(&self) -> bool {
        self.swap(SealState::Queued, SealState::Packing)
    }

    /// Whoever compressed it did not get to the end: it goes out as it is.
    pub(super) fn give_up_packing(&self) {
        self.swap(SealState::Packing, SealState::Raw);
    }

    fn swap(&self, from: SealState, to: SealState) -> bool {
        self.state
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

/// The duty to seal a batch.
#[derive(Debug)]
#[must_use = "a batch that nobody seals is not sent before it has to"]
pub struct Claim {
    body: Arc<BatchBody>,
}

impl Claim {
    /// For whoever closes the batch: it is claimed from the start.
    pub(super) fn of_closer(body: &Arc<BatchBody>) -> Claim {
        Claim { body: Arc::clone(body) }
    }

    /// Claims a batch that nobody else is sealing.
    pub fn take(body: &Arc<BatchBody>) -> Option<Claim> {
        body.sealing().claim().then(|| Claim { body: Arc::clone(body) })
    }

    /// Seals it.
    pub fn seal(self) -> Seal {
        self.body.seal()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.body.sealing().unclaim();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, ms, partition};
    use super::*;
    use crate::protocol::crc32c;

    /// A batch that its closer has claimed and not sealed.
    fn claimed() -> (Bench, Arc<BatchBody>) {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        bench.must_append(&partition, ms(1), 100);
        bench.must_append(&partition, ms(1), 2_000);
        let mut out = Vec::new();
        assert!(partition.try_purge(&mut out));
        let body = Arc::clone(&out[0].body);
        assert_eq!(body.seal_state(), SealState::Claimed);
        (bench, body)
    }

    fn crc(body: &BatchBody) -> u32 {
        crc32c::crc32c(&body.slabs().flatten().copied().collect::<Vec<_>>())
    }

    #[test]
    fn a_claim_is_sealed() {
        let (_bench, body) = claimed();
        let seal = Claim::of_closer(&body).seal();
        assert_eq!(seal.crc, crc(&body));
        assert_eq!(seal.factor, ShiftFactor::for_len(body.records_len()));
        assert_eq!((body.seal_state(), body.seal()), (SealState::Sealed, seal));
        assert!(Claim::take(&body).is_none());
    }

    #[test]
    fn a_claim_that_panics_leaves_the_batch_to_others() {
        let (_bench, body) = claimed();
        let claim = Claim::of_closer(&body);
        assert!(Claim::take(&body).is_none(), "somebody is at it");
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _claim = claim;
            panic!("in the middle of it");
        }));
        assert!(unwound.is_err());
        assert_eq!(body.seal_state(), SealState::Raw);
        let claim = Claim::take(&body).unwrap();
        assert_eq!(body.seal_state(), SealState::Claimed);
        assert_eq!(claim.seal().crc, crc(&body));
    }

    #[test]
    fn who_needs_the_seal_does_not_wait_for_the_claimer() {
        let (_bench, body) = claimed();
        let claim = Claim::of_closer(&body);
        let seal = body.seal();
        assert_eq!((seal.crc, body.seal_state()), (crc(&body), SealState::Sealed));
        assert_eq!(claim.seal(), seal, "the first result holds");
        assert_eq!(body.seal_state(), SealState::Sealed, "a late claim changes nothing");
    }
}
