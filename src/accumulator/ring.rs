//! Deadlines of partitions (linger, retry backoff, expiry) in a ring of 1 ms buckets. Network
//! thread only.
//!
//! A deadline is rounded up to the next millisecond, so that partitions whose deadlines are close
//! share a pass and a request. Entries are never taken out early: whoever gets one checks whether
//! it still means something. An entry farther away than one turn of the ring stays in its bucket
//! and is looked at once per turn.

use crate::clock::Instant;

/// Buckets in the ring; a power of two. One turn is 4.096 s.
const BUCKETS: usize = 4096;
const WORDS: usize = BUCKETS / 64;

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
    buckets: Vec<Vec<(u64, u32, Due)>>,
    occupied: [u64; WORDS],
    /// Every bucket up to and including this millisecond has been emptied of what was due.
    done_ms: u64,
    len: usize,
}

impl DeadlineRing {
    /// An empty ring that starts at `now`.
    pub fn new(now: Instant) -> DeadlineRing {
        DeadlineRing {
            buckets: (0..BUCKETS).map(|_| Vec::new()).collect(),
            occupied: [0; WORDS],
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
        let ms = at.0.div_ceil(1000).max(self.done_ms + 1);
        let bucket = bucket_of(ms);
        if let Some(entries) = self.buckets.get_mut(bucket) {
            entries.push((ms, slot, due));
            self.len += 1;
        }
        if let Some(word) = self.occupied.get_mut(bucket / 64) {
            *word |= 1 << (bucket % 64);
        }
    }

    /// Moves to `now` and appends to `due` what has become due, earliest bucket first.
    pub fn advance(&mut self, now: Instant, due: &mut Vec<(u32, Due)>) {
        let now_ms = now.0 / 1000;
        if now_ms <= self.done_ms {
            return;
        }
        let turn = (now_ms - self.done_ms).min(BUCKETS as u64);
        let first = self.done_ms + 1;
        self.done_ms = now_ms;
        if self.len == 0 {
            return;
        }
        for step in 0..turn {
            let bucket = bucket_of(first + step);
            let Some(entries) = self.buckets.get_mut(bucket) else { continue };
            if entries.is_empty() {
                continue;
            }
            let before = entries.len();
            entries.retain(|(ms, slot, what)| {
                let later = *ms > now_ms;
                if !later {
                    due.push((*slot, *what));
                }
                later
            });
            self.len -= before - entries.len();
            if entries.is_empty()
                && let Some(word) = self.occupied.get_mut(bucket / 64)
            {
                *word &= !(1 << (bucket % 64));
            }
        }
    }

    /// When to look again: the first bucket with an entry, which may belong to a later turn.
    /// `NEVER` if empty.
    pub fn next(&self) -> Instant {
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
        ring.advance(now, &mut out);
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
