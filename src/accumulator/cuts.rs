//! Cuts: which batches a flush, purge, close, commit or abort has to wait for.
//!
//! A producer-wide number. Every batch belongs to the cut that was current when it was opened, and
//! an append that finds another one current opens another batch. Whoever needs "everything before
//! now" advances the number and waits until nothing of that cut or an older one is outstanding: for
//! batches, never for a count of records. Any thread; the numbers are guarded by a mutex that is
//! touched when a batch opens and when it is done, the current cut is read without it.

use crate::clock::{Clock, Instant};
use crate::defects::{self, Defect};
use crate::sync::Signal;
use crate::sync::prim::{AtomicU64, Mutex, Ordering, fence, guard};
use std::collections::VecDeque;

/// The current cut and how many batches of each are not done.
#[derive(Debug)]
pub struct Cuts {
    /// Changed under the mutex only.
    current: AtomicU64,
    outstanding: Mutex<VecDeque<Outstanding>>,
    signal: Signal,
}

/// Ascending by cut, none with 0 batches.
#[derive(Debug)]
struct Outstanding {
    cut: u64,
    batches: u64,
}

impl Default for Cuts {
    fn default() -> Cuts {
        Cuts::new()
    }
}

impl Cuts {
    /// Nothing outstanding; the first cut is 1.
    pub fn new() -> Cuts {
        Cuts {
            current: AtomicU64::new(1),
            outstanding: Mutex::new(VecDeque::new()),
            signal: Signal::default(),
        }
    }

    /// The cut that a record appended now belongs to. A stale answer is as good as an append a
    /// little earlier: the batch it goes to is outstanding already, so that whoever advanced the
    /// cut waits for it.
    #[inline]
    pub fn current(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    /// Ends the current cut and begins the next; gives the one that ended.
    pub fn advance(&self) -> u64 {
        let _outstanding = guard(&self.outstanding);
        let ended = self.current.load(Ordering::Relaxed);
        self.current.store(ended + 1, Ordering::Release);
        // Who lists a batch and then reads the old cut has listed it for whoever is told of this
        // now.
        fence(Ordering::SeqCst);
        ended
    }

    /// A batch is opened: counts it and gives its cut, in one step, so that no cut can end in
    /// between.
    pub fn open(&self) -> u64 {
        let mut outstanding = guard(&self.outstanding);
        let cut = self.current.load(Ordering::Relaxed);
        match outstanding.back_mut() {
            Some(last) if last.cut == cut => last.batches += 1,
            Some(_) | None => outstanding.push_back(Outstanding { cut, batches: 1 }),
        }
        cut
    }

    /// One more batch of a cut that has some outstanding: a piece of a batch that was split.
    pub fn opened(&self, cut: u64) {
        let mut outstanding = guard(&self.outstanding);
        match outstanding.iter_mut().find(|of| of.cut == cut) {
            Some(of) => of.batches += 1,
            None => {
                debug_assert!(
                    false,
                    "a piece of a batch of cut {cut}, of which none is outstanding"
                );
                let place = outstanding.partition_point(|of| of.cut < cut);
                outstanding.insert(place, Outstanding { cut, batches: 1 });
            }
        }
    }

    /// A batch of this cut is done: its records have their outcome, and whoever was to hear of it
    /// has.
    pub fn completed(&self, cut: u64) {
        let mut outstanding = guard(&self.outstanding);
        let counts = defects::on(Defect::FlushByCounting);
        let Some(place) = outstanding.iter().position(|of| of.cut == cut || counts) else {
            debug_assert!(false, "a batch of cut {cut} is completed twice");
            return;
        };
        let Some(of) = outstanding.get_mut(place) else { return };
        of.batches -= 1;
        if of.batches > 0 {
            return;
        }
        outstanding.remove(place);
        // Nobody waits for the current cut: it has to end first.
        let awaited = cut < self.current.load(Ordering::Relaxed);
        drop(outstanding);
        if awaited {
            self.signal.notify();
        }
    }

    /// How many batches of this cut and older ones are not done.
    pub fn outstanding_upto(&self, cut: u64) -> u64 {
        guard(&self.outstanding).iter().take_while(|of| of.cut <= cut).map(|of| of.batches).sum()
    }

    /// Waits until no batch of this (ended) cut or an older one is outstanding; false if the
    /// deadline came first.
    pub fn wait(&self, upto: u64, clock: &Clock, deadline: Instant) -> bool {
        loop {
            let seen = self.signal.generation();
            if self.outstanding_upto(upto) == 0 {
                return true;
            }
            if !self.signal.wait(seen, clock, deadline) {
                return self.outstanding_upto(upto) == 0;
            }
        }
    }

    /// Moves when the last batch of an ended cut is done: for waiting for more than [`Cuts::wait`]
    /// does.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::VirtualTime;
    use std::sync::Arc;

    #[test]
    fn batches_are_counted_per_cut() {
        let cuts = Cuts::new();
        let first = cuts.open();
        assert_eq!(first, cuts.current());
        assert_eq!(cuts.open(), first);
        assert_eq!(cuts.advance(), first);
        let second = cuts.open();
        assert_eq!(second, first + 1);
        cuts.opened(first);
        assert_eq!(cuts.outstanding_upto(first), 3);
        assert_eq!(cuts.outstanding_upto(second), 4);
        for left in [2, 1, 0] {
            cuts.completed(first);
            assert_eq!(cuts.outstanding_upto(first), left);
        }
        assert_eq!(cuts.outstanding_upto(second), 1);
        cuts.completed(second);
        assert_eq!(cuts.outstanding_upto(u64::MAX), 0);
    }

    #[test]
    fn a_flush_waits_for_its_cut_and_for_no_later_one() {
        let clock = Clock::virtual_time(Arc::new(VirtualTime::default()));
        let cuts = Cuts::new();
        let flushed = cuts.open();
        assert_eq!(cuts.advance(), flushed);
        let later = cuts.open();
        assert!(!cuts.wait(flushed, &clock, Instant(0)));
        let before = cuts.signal().generation();
        cuts.completed(flushed);
        assert_ne!(cuts.signal().generation(), before);
        assert!(cuts.wait(flushed, &clock, Instant(0)));
        let before = cuts.signal().generation();
        cuts.completed(later);
        assert_eq!(cuts.signal().generation(), before, "nobody can wait for the current cut");
    }

    #[test]
    fn a_waiting_thread_is_woken_by_the_last_batch() {
        let cuts = Arc::new(Cuts::new());
        let cut = cuts.open();
        cuts.opened(cut);
        cuts.advance();
        let waiting = Arc::clone(&cuts);
        let waiter = std::thread::Builder::new()
            .spawn(move || waiting.wait(cut, &Clock::system(), Instant::NEVER))
            .unwrap();
        cuts.completed(cut);
        cuts.completed(cut);
        assert!(waiter.join().unwrap());
    }
}
