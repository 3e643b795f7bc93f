//! How callers tell the network thread of partitions, and when that is worth waking it.
//!
//! One per producer. A caller puts a partition in once per step towards being ready: when its first
//! record arrives, with the deadline until which it may linger, and when it is ready. Entries are
//! hints, "look at this partition": one may be stale, or be there twice when the network thread
//! asked to be told of it again.
//!
//! The network thread publishes until when it sleeps. Told as a sequence: it publishes, then looks
//! into the inbox again, then sleeps; a caller pushes, then reads what is published, and wakes the
//! sleeper only if it would sleep for too long. Whichever of the two comes second sees the other.
//! Of several callers the one that takes the published deadline away wakes. An awake network thread
//! (nothing published) is never woken: it looks before it sleeps. Whether some broker can take more
//! is none of this room's business: a wake-up is never suppressed for that.
//!
//! Deadlines are on a grid of 1 ms, so that slow partitions share wake-ups and requests.

use super::front::Partition;
use crate::clock::Instant;
use crate::defects::{self, Defect};
use crate::sync::Wake;
use crate::sync::prim::{AtomicBool, AtomicU64, Mutex, Ordering, fence, guard};
use std::fmt;
use std::sync::Arc;

/// Deadlines are multiples of this many microseconds.
pub const GRID_US: u64 = 1000;

/// Not asleep. No deadline is 0 on the grid but that of what is ready, which nobody sleeps for.
const AWAKE: u64 = 0;

/// The first point of the grid from `deadline` on.
#[must_use]
pub fn on_grid(deadline: Instant) -> Instant {
    if deadline == Instant::NEVER {
        return deadline;
    }
    Instant(deadline.0.checked_next_multiple_of(GRID_US).unwrap_or(u64::MAX))
}

/// A partition to look at.
#[derive(Debug)]
pub struct Listed {
    /// The partition.
    pub partition: Arc<Partition>,
    /// From when on, on the grid; [`Inbox::NOW`] if it is ready.
    pub deadline: Instant,
}

/// Partitions on their way to the network thread.
pub struct Inbox {
    listed: Mutex<Vec<Listed>>,
    /// Until when the network thread sleeps; [`AWAKE`].
    sleeps_until: AtomicU64,
    /// Something was left elsewhere since the network thread last went to sleep.
    announced: AtomicBool,
    waker: Arc<dyn Wake>,
}

impl Inbox {
    /// The deadline of what is ready.
    pub const NOW: Instant = Instant(0);

    /// An empty inbox of a network thread that is awake, and that `waker` wakes.
    pub fn new(waker: Arc<dyn Wake>) -> Inbox {
        Inbox {
            listed: Mutex::new(Vec::new()),
            sleeps_until: AtomicU64::new(AWAKE),
            announced: AtomicBool::new(false),
            waker,
        }
    }

    /// Puts a partition in; true if the network thread would sleep past the deadline, and the
    /// caller must [`wake`](Inbox::wake) it as soon as it holds no lock.
    #[must_use]
    pub(super) fn push(&self, partition: &Arc<Partition>, deadline: Instant) -> bool {
        let deadline = on_grid(deadline);
        guard(&self.listed).push(Listed { partition: Arc::clone(partition), deadline });
        self.oversleeps(deadline)
    }

    /// As [`Inbox::push`], for something that the network thread finds elsewhere; see
    /// [`Inbox::notify`].
    #[must_use]
    pub(super) fn announce(&self) -> bool {
        self.announced.store(true, Ordering::Relaxed);
        self.oversleeps(Inbox::NOW)
    }

    /// Wakes the network thread, after [`Inbox::push`] said so.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Wakes the network thread if it sleeps, and keeps it from sleeping if it is about to: after
    /// something was left for it elsewhere, such as a request to flush or somebody who waits for
    /// memory. It will look at all of that at least once more.
    pub fn notify(&self) {
        if self.announce() {
            self.wake();
        }
    }

    fn oversleeps(&self, deadline: Instant) -> bool {
        if defects::on(Defect::LoseWake) {
            return false;
        }
        // Pairs with the fence in `prepare_to_wait`: what was pushed is seen there, or what was
        // published is seen here.
        fence(Ordering::SeqCst);
        let mut until = self.sleeps_until.load(Ordering::Relaxed);
        while until > deadline.0 {
            match self.sleeps_until.compare_exchange_weak(
                until,
                AWAKE,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => until = now,
            }
        }
        false
    }

    /// Network thread: moves everything into `into`.
    pub fn drain(&self, into: &mut Vec<Listed>) {
        let mut listed = guard(&self.listed);
        if into.is_empty() {
            std::mem::swap(&mut *listed, into);
        } else {
            into.append(&mut listed);
        }
    }

    /// Network thread, before it sleeps: from now on whoever pushes something that cannot wait
    /// until `deadline` wakes it. False if something is in already, or was announced since the last
    /// call: don't sleep, look at everything again. In any case call [`Inbox::awake`] afterwards.
    #[must_use]
    pub fn prepare_to_wait(&self, deadline: Instant) -> bool {
        self.sleeps_until.store(on_grid(deadline).0.max(1), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let announced = self.announced.swap(false, Ordering::Relaxed);
        let nothing = guard(&self.listed).is_empty() && !announced;
        if !nothing {
            self.awake();
        }
        nothing
    }

    /// Network thread, when it does not sleep any more.
    pub fn awake(&self) {
        self.sleeps_until.store(AWAKE, Ordering::Relaxed);
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("listed", &guard(&self.listed).len())
            .field("sleeps_until", &self.sleeps_until.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bell, ms, partition};
    use super::*;

    fn inbox() -> (Inbox, Arc<Bell>) {
        let bell = Arc::new(Bell::default());
        (Inbox::new(Arc::clone(&bell) as Arc<dyn Wake>), bell)
    }

    #[test]
    fn the_grid_rounds_up() {
        assert_eq!(on_grid(Instant(0)), Inbox::NOW);
        assert_eq!(on_grid(Instant(1)), ms(1));
        assert_eq!(on_grid(ms(7)), ms(7));
        assert_eq!(on_grid(Instant(7_001)), ms(8));
        assert_eq!(on_grid(Instant::NEVER), Instant::NEVER);
        assert_eq!(on_grid(Instant(u64::MAX - 3)), Instant::NEVER);
    }

    #[test]
    fn an_awake_network_thread_is_not_woken() {
        let (inbox, _) = inbox();
        assert!(!inbox.push(&partition(0), Inbox::NOW));
        assert!(!inbox.push(&partition(1), ms(5)));
        assert!(!inbox.prepare_to_wait(ms(100)), "it must look first");
        let mut listed = Vec::new();
        inbox.drain(&mut listed);
        let slots: Vec<_> = listed.iter().map(|l| (l.partition.slot, l.deadline)).collect();
        assert_eq!(slots, [(0, Inbox::NOW), (1, ms(5))]);
        assert!(inbox.prepare_to_wait(ms(100)));
    }

    #[test]
    fn a_sleeper_is_woken_once_and_only_by_what_cannot_wait() {
        let (inbox, bell) = inbox();
        assert!(inbox.prepare_to_wait(ms(10)));
        assert!(!inbox.push(&partition(0), ms(11)), "later");
        assert!(!inbox.push(&partition(0), ms(10)), "at the same time");
        assert!(!inbox.push(&partition(0), Instant(9_500)), "on the grid it is the same time");
        assert!(inbox.push(&partition(0), ms(9)));
        assert!(!inbox.push(&partition(0), ms(8)), "somebody wakes it already");
        inbox.notify();
        assert_eq!(bell.rung(), 0);
        inbox.awake();
        inbox.drain(&mut Vec::new());
        assert!(!inbox.prepare_to_wait(Instant::NEVER), "something was announced");
        assert!(inbox.prepare_to_wait(Instant::NEVER));
        inbox.notify();
        assert_eq!(bell.rung(), 1);
        inbox.notify();
        assert_eq!(bell.rung(), 1);
    }

    #[test]
    fn even_a_sleep_until_now_can_be_interrupted() {
        let (inbox, _) = inbox();
        assert!(inbox.prepare_to_wait(Instant(0)));
        assert!(inbox.push(&partition(0), Inbox::NOW));
    }

    #[test]
    fn draining_keeps_what_was_drained_before() {
        let (inbox, _) = inbox();
        let mut listed = Vec::new();
        for slot in 0..3 {
            let _ = inbox.push(&partition(slot), Inbox::NOW);
            inbox.drain(&mut listed);
        }
        assert_eq!(listed.iter().map(|l| l.partition.slot).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
