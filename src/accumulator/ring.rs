//! Deadlines of partitions (linger, retry backoff, expiry) in a ring of 1 ms buckets. Network
//! thread only.
//!
//! A deadline is rounded up to the next millisecond, so that partitions whose deadlines are close
//! share a pass and a request. Entries are never taken out early: whoever gets one checks whether
//! it still means something. An entry farther away than one turn of the ring lies in a list for its
//! turn, and is filed when that begins, unless it means nothing any more by then: 10,000 partitions
//! that were busy once wake nobody 10,000 times two minutes later.

use crate::clock::Instant;
use std::collections::BTreeMap;

/// Buckets in the ring; a power of two. One turn is 4.096 s.
const BUCKETS: usize = 4096;
const WORDS: usize = BUCKETS / 64;
const TURN_MS: u64 = BUCKETS as u64;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The partition may be sendable: its linger or its backoff is over.
    Ready,
    /// The partition's oldest batch may have reached `delivery.timeout.ms`.
    Expiry,
}

/// See the module's comment.
#[derive(Debug)]
pub struct DeadlineRing {
    buckets: Vec<Vec<(u32, Due)>>,
    occupied: [u64; WORDS],
    /// By turn (its number since the clock's zero), those that lie beyond the buckets.
    far: BTreeMap<u64, Vec<(u64, u32, Due)>>,
    /// Every bucket up to and including this millisecond has been emptied of what was due.
    done_ms: u64,
    /// Entries in buckets.
    len: usize,
}

impl DeadlineRing {
    /// An empty ring that starts at `now`.
    pub fn new(now: Instant) -> DeadlineRing {
        DeadlineRing {
            buckets: (0..BUCKETS).map(|_| Vec::new()).collect(),
            occupied: [0; WORDS],
            far: BTreeMap::new(),
            done_ms: now.0 / 1000,
            len: 0,
        }
    }

    /// Files a deadline for the partition in `slot`. One that has passed comes out at the next
    /// [`DeadlineRing::advance`].
    pub fn insert(&mut self, at: Instant, slot: u32, due: Due) {
        if at == Instant::NEVER {
            return;
        }
        self.file(at.0.div_ceil(1000).max(self.done_ms + 1), slot, due);
    }

    fn file(&mut self, ms: u64, slot: u32, due: Due) {
        if ms - self.done_ms > TURN_MS {
            self.far.entry(ms / TURN_MS).or_default().push((ms, slot, due));
            return;
        }
        let bucket = bucket_of(ms);
        if let Some(entries) = self.buckets.get_mut(bucket) {
            entries.push((slot, due));
            self.len += 1;
        }
        if let Some(word) = self.occupied.get_mut(bucket / 64) {
            *word |= 1 << (bucket % 64);
        }
    }

    /// Moves to `now` and appends to `due` what has become due, earliest bucket first. What comes
    /// near enough for the buckets stays only if it is `wanted` still.
    pub fn advance(
        &mut self,
        now: Instant,
        due: &mut Vec<(u32, Due)>,
        mut wanted: impl FnMut(u32, Due) -> bool,
    ) {
        let now_ms = now.0 / 1000;
        if now_ms <= self.done_ms {
            return;
        }
        let turn = (now_ms - self.done_ms).min(TURN_MS);
        let first = self.done_ms + 1;
        self.done_ms = now_ms;
        self.empty_buckets(first, turn, due);
        while let Some(begun) = self.far.first_entry().filter(|turn| turn.key() * TURN_MS <= now_ms)
        {
            for (ms, slot, what) in begun.remove() {
                if !wanted(slot, what) {
                    continue;
                }
                if ms <= now_ms { due.push((slot, what)) } else { self.file(ms, slot, what) }
            }
        }
    }

    fn empty_buckets(&mut self, first: u64, turn: u64, due: &mut Vec<(u32, Due)>) {
        if self.len == 0 {
            return;
        }
        for step in 0..turn {
            let bucket = bucket_of(first + step);
            let Some(entries) = self.buckets.get_mut(bucket).filter(|entries| !entries.is_empty())
            else {
                continue;
            };
            self.len -= entries.len();
            due.append(entries);
            if let Some(word) = self.occupied.get_mut(bucket / 64) {
                *word &= !(1 << (bucket % 64));
            }
        }
    }

    /// When to look again: the first bucket with an entry, or the first turn that has any. `NEVER`
    /// if empty.
    pub fn next(&self) -> Instant {
        let turn = self.far.keys().next();
        let turn = turn.map_or(Instant::NEVER, |turn| Instant(turn.saturating_mul(TURN_MS * 1000)));
        self.next_bucket().min(turn)
    }

    fn next_bucket(&self) -> Instant {
        if self.len == 0 {
            return Instant::NEVER;
        }
        let start = bucket_of(self.done_ms + 1);
        for step in 0..=WORDS {
            let index = (start / 64 + step) % WORDS;
            let mut word = self.occupied.get(index).copied().unwrap_or(0);
            if step == 0 {
                word &= !0 << (start % 64);
            } else if step == WORDS {
                word &= !(!0 << (start % 64));
            }
            if word != 0 {
                let bucket = index * 64 + word.trailing_zeros() as usize;
                let ahead = (bucket + BUCKETS - start) % BUCKETS;
                return Instant((self.done_ms + 1 + ahead as u64).saturating_mul(1000));
            }
        }
        Instant::NEVER
    }
}

fn bucket_of(ms: u64) -> usize {
    (ms % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(ms: u64) -> Instant {
        Instant(ms * 1000)
    }

    fn due(ring: &mut DeadlineRing, now: Instant) -> Vec<u32> {
        let mut out = Vec::new();
        ring.advance(now, &mut out, |_, _| true);
        out.into_iter().map(|(slot, _)| slot).collect()
    }

    #[test]
    fn an_entry_comes_out_at_its_millisecond_and_not_before() {
        let mut ring = DeadlineRing::new(at(1000));
        ring.insert(Instant(1_005_001), 1, Due::Ready);
        ring.insert(at(1003), 2, Due::Expiry);
        assert_eq!(ring.next(), at(1003));
        assert!(due(&mut ring, at(1002)).is_empty());
        assert_eq!(due(&mut ring, at(1003)), [2]);
        assert_eq!(ring.next(), at(1006), "rounded up to the grid");
        assert!(due(&mut ring, at(1005)).is_empty());
        assert_eq!(due(&mut ring, at(1006)), [1]);
        assert_eq!(ring.next(), Instant::NEVER);
    }

    #[test]
    fn the_past_is_due_at_once_and_the_far_future_waits_its_turns() {
        let mut ring = DeadlineRing::new(at(50_000));
        ring.insert(at(10), 1, Due::Ready);
        ring.insert(at(50_000 + 3 * BUCKETS as u64), 2, Due::Expiry);
        assert_eq!(due(&mut ring, at(50_001)), [1]);
        for turn in 1..3 {
            assert!(due(&mut ring, at(50_000 + turn * BUCKETS as u64 + 7)).is_empty());
        }
        assert_eq!(due(&mut ring, at(50_000 + 3 * BUCKETS as u64)), [2]);
    }

    #[test]
    fn what_is_far_wakes_nobody_before_its_turn_and_only_if_it_is_wanted() {
        let mut ring = DeadlineRing::new(at(1000));
        for slot in 0..5000 {
            ring.insert(at(121_000 + u64::from(slot)), slot, Due::Expiry);
        }
        let (mut now, mut wakes, mut out) = (at(1000), 0, Vec::new());
        while ring.next() != Instant::NEVER {
            assert!(ring.next() > now);
            now = ring.next();
            ring.advance(now, &mut out, |slot, _| slot % 1000 == 0);
            wakes += 1;
        }
        assert!(wakes <= 5 + 2, "{wakes} wake-ups for 5 deadlines in two turns");
        let slots: Vec<u32> = out.into_iter().map(|(slot, _)| slot).collect();
        assert_eq!(slots, [0, 1000, 2000, 3000, 4000]);
    }

    #[test]
    fn a_jump_over_many_turns_returns_everything_once() {
        let mut ring = DeadlineRing::new(at(0));
        let mut expected = Vec::new();
        for slot in 0..10_000_u32 {
            ring.insert(at(u64::from(slot) * 7 + 1), slot, Due::Ready);
            expected.push(slot);
        }
        let mut got = due(&mut ring, Instant(0).after(Duration::from_secs(3600)));
        got.sort_unstable();
        assert_eq!(got, expected);
        assert_eq!(ring.next(), Instant::NEVER);
    }

    #[test]
    fn next_is_never_later_than_the_first_entry() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut ring = DeadlineRing::new(at(123));
        let mut now = 123;
        let mut entries: Vec<u64> = Vec::new();
        for _ in 0..20_000 {
            if rng.bool() {
                let ms = now + rng.u64(0..9000);
                ring.insert(at(ms), 0, Due::Ready);
                entries.push(ms.max(now + 1));
            } else {
                now += rng.u64(0..40);
                let fired = due(&mut ring, at(now)).len();
                let before = entries.len();
                entries.retain(|ms| *ms > now);
                assert_eq!(fired, before - entries.len());
            }
            let first = entries.iter().min().map_or(Instant::NEVER, |ms| at(*ms));
            assert!(ring.next() <= first);
        }
    }
}
