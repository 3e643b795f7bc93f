//! Whoever takes deliveries: a callback that is quick or slow and sends from inside, or a thread
//! that polls and at times does not.

use super::caller::Caller;
use super::world::World;
use crate::delivery::{Delivery, DeliverySink};
use crate::error::status;
use crate::producer::Timeout;
use crate::sync::lock;
use fastrand::Rng;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

/// The user's callback.
pub(super) struct Sink {
    /// Weak, for the producer holds this.
    pub(super) world: OnceLock<Weak<World>>,
    pub(super) rng: Mutex<Rng>,
    pub(super) slow: bool,
}

/// Takes note of deliveries.
pub(super) fn take(world: &World, deliveries: &[Delivery]) {
    let now = world.clock.now();
    for delivery in deliveries {
        let status = delivery.status as u64;
        let numbers = [40, delivery.tags()[0], delivery.count() as u64, status];
        world.trace.note(&numbers, || {
            let words = delivery.failure.as_ref().map(|failure| &failure.message);
            let base = delivery.base_offset;
            format!("delivered: {:?} from {base}: {status} {words:?}", delivery.tags())
        });
        if let Err(text) = lock(&world.oracle).delivered(delivery, now) {
            world.fail(text);
        }
    }
}

impl DeliverySink for Sink {
    fn deliver(&self, deliveries: &[Delivery]) {
        let Some(world) = self.world.get().and_then(Weak::upgrade) else { return };
        take(&world, deliveries);
        if !self.slow {
            return;
        }
        let (pause, sends, seed) = {
            let mut rng = lock(&self.rng);
            let pause = if rng.u32(0..4) == 0 { rng.u64(0..40) } else { 0 };
            (Duration::from_millis(pause), rng.u32(0..8) == 0, rng.u64(..))
        };
        let producer = world.producer.get().and_then(Weak::upgrade);
        if let Some(producer) = producer.filter(|_| sends) {
            let number = world.plan.callers + 1;
            let rng = Rng::with_seed(seed);
            let mut caller = Caller { world: Arc::clone(&world), producer, number, rng };
            caller.send_to(0, 0);
        }
        world.baton.sleep_until(&world.clock, world.clock.now().after(pause));
    }
}

impl Caller {
    /// Polls until there is nothing more to come.
    pub(super) fn read(&mut self) {
        loop {
            let timeout = Duration::from_millis(self.rng.u64(0..200));
            let owed = std::mem::take(&mut lock(&self.world.oracle).owed);
            let mut deliveries = Vec::new();
            let result = self.producer.poll(usize::MAX, Timeout::After(timeout), &mut deliveries);
            take(&self.world, &deliveries);
            self.check_owed(&owed);
            match result {
                Ok(()) => {}
                Err(error) if error.status == status::CLOSED => return,
                Err(error) => self.world.fail(format!("poll: {error:?}")),
            }
            if self.rng.u32(0..20) == 0 {
                self.pause(400_000);
            }
        }
    }

    /// What a flush had waited for before the poll lay in the queue, and the whole queue was taken.
    /// (Not what a flush waited for while the poll's interceptors were running: they are shown what
    /// was taken before.)
    fn check_owed(&self, owed: &[u64]) {
        let left = lock(&self.world.oracle).without_outcome(owed);
        if !left.is_empty() {
            self.world.fail(format!("flush returned before records {left:?} could be polled"));
        }
    }
}
