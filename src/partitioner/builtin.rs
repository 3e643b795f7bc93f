//! The sticky partition of a topic: where its records without a key go, a batch's worth of bytes at
//! a time (KIP-480, KIP-794).
//!
//! Any number of sending threads. The partition and the bytes it got are one atomic word, so that a
//! record costs a load and a compare-and-swap; a lock is taken only to switch, once per
//! `batch.size` bytes.
//!
//! The protocol: [`peek`](StickyPartitionCache::peek) gives a partition, the record is appended
//! there, and [`update`](StickyPartitionCache::update) says how many bytes that were and whether
//! the partition's last batch is full. A run ends when it has `batch.size` bytes and the batch is
//! full, so that no half batch is left behind to linger, or at twice that, so that it ends at all.
//! A thread whose partition was switched away while it appended has added to the old run; those
//! bytes are not counted, which unbalances by at most one record per thread and switch.
//!
//! The next partition is drawn from a shuffled bag of all available ones that is refilled when
//! empty. Independent draws would be as random, but with a thousand runs over a dozen partitions
//! they leave the fullest 10 to 25 percent above the emptiest; the bag leaves one run.

use crate::metadata::TopicMetadata;
use crate::rng::Rng;
use crate::sync::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The sticky partition of one topic.
#[derive(Debug)]
pub struct StickyPartitionCache {
    state: AtomicU64,
    /// Partitions still to come in this round, next one last. Whoever changes the partition holds
    /// it.
    bag: Mutex<Vec<i32>>,
    run_bytes: u64,
}

/// What the atomic word says.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sticky {
    /// -1: not chosen yet.
    partition: i32,
    bytes: u32,
}

impl Sticky {
    const UNSET: Sticky = Sticky { partition: -1, bytes: 0 };

    fn pack(self) -> u64 {
        u64::from(self.partition.cast_unsigned()) << 32 | u64::from(self.bytes)
    }

    fn unpack(word: u64) -> Sticky {
        #[expect(clippy::cast_possible_truncation, reason = "the word's two halves")]
        let (high, low) = ((word >> 32) as u32, word as u32);
        Sticky { partition: high.cast_signed(), bytes: low }
    }
}

impl StickyPartitionCache {
    /// For a topic whose batches hold `batch_size` bytes.
    pub fn new(batch_size: usize) -> StickyPartitionCache {
        // Twice this must fit the word's half.
        let run_bytes = u64::try_from(batch_size).unwrap_or(u64::MAX).clamp(1, i32::MAX as u64);
        StickyPartitionCache {
            state: AtomicU64::new(Sticky::UNSET.pack()),
            bag: Mutex::new(Vec::new()),
            run_bytes,
        }
    }

    /// The partition for a record without a key: the sticky one, or a new one if there is none yet
    /// or it has lost its leader while others have one. `topic` has at least one partition.
    pub fn peek(&self, topic: &TopicMetadata, rng: &Rng) -> i32 {
        let sticky = Sticky::unpack(self.state.load(Ordering::Relaxed));
        if is_candidate(topic, sticky.partition) {
            return sticky.partition;
        }
        self.switch(topic, rng, |sticky| !is_candidate(topic, sticky.partition))
    }

    #[cfg(test)]
    fn is_current(&self, partition: i32) -> bool {
        Sticky::unpack(self.state.load(Ordering::Relaxed)).partition == partition
    }

    /// Counts `bytes` appended to `partition` and switches if its run is over. `batch_full`: the
    /// partition's last batch takes no more records, or it has none.
    ///
    /// With 0 bytes it finishes a switch that was put off because the batch was not full: an
    /// appender that finds the open batch full asks so before it opens another, and
    /// [peeks](Self::peek) again.
    pub fn update(
        &self,
        partition: i32,
        bytes: usize,
        batch_full: bool,
        topic: &TopicMetadata,
        rng: &Rng,
    ) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let counted = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let sticky = Sticky::unpack(word);
            let bytes = sticky.bytes.saturating_add(bytes);
            (sticky.partition == partition).then(|| Sticky { bytes, ..sticky }.pack())
        });
        let Ok(before) = counted else { return };
        let total = u64::from(Sticky::unpack(before).bytes.saturating_add(bytes));
        if self.is_over(total, batch_full) {
            self.switch(topic, rng, |sticky| {
                sticky.partition == partition && self.is_over(sticky.bytes.into(), batch_full)
            });
        }
    }

    fn is_over(&self, bytes: u64, batch_full: bool) -> bool {
        bytes >= self.run_bytes && (batch_full || bytes >= 2 * self.run_bytes)
    }

    /// Chooses the next partition, unless another thread has done so and `wanted` no longer holds;
    /// the sticky one after.
    fn switch(&self, topic: &TopicMetadata, rng: &Rng, wanted: impl Fn(Sticky) -> bool) -> i32 {
        let mut bag = lock(&self.bag);
        let sticky = Sticky::unpack(self.state.load(Ordering::Relaxed));
        if !wanted(sticky) {
            return sticky.partition;
        }
        let partition = draw(&mut bag, topic, rng, sticky.partition);
        // Others may still count bytes for the run that ends here; they go with it.
        self.state.store(Sticky { partition, bytes: 0 }.pack(), Ordering::Relaxed);
        partition
    }
}

/// Whether records may go there: it has a leader, or it exists and no partition has one.
fn is_candidate(topic: &TopicMetadata, partition: i32) -> bool {
    topic.partition(partition).is_some_and(|p| p.leader >= 0 || topic.available() == 0)
}

fn draw(bag: &mut Vec<i32>, topic: &TopicMetadata, rng: &Rng, current: i32) -> i32 {
    while let Some(partition) = bag.pop() {
        if is_candidate(topic, partition) {
            return partition;
        }
    }
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    bag.extend((0..count).filter(|partition| is_candidate(topic, *partition)));
    let mut local = fastrand::Rng::with_seed(rng.below(u64::MAX));
    local.shuffle(bag);
    // Not the same one twice: its first run may just have filled that broker's window.
    if let Some(others) = bag.len().checked_sub(1)
        && others > 0
        && bag.last() == Some(&current)
    {
        bag.swap(others, local.usize(..others));
    }
    bag.pop().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::PartitionMetadata;
    use std::collections::BTreeSet;

    const BATCH: usize = 131_072;

    fn topic(leaders: &[i32]) -> TopicMetadata {
        let partitions = leaders
            .iter()
            .map(|leader| PartitionMetadata { leader: *leader, ..Default::default() });
        TopicMetadata::new("t".into(), [1; 16], partitions.collect(), 0)
    }

    /// Partitions with batches as the accumulator keeps them: bytes in the open batch, closed at
    /// `BATCH`.
    struct Batches {
        open: Vec<usize>,
        total: Vec<u64>,
    }

    impl Batches {
        fn new(count: usize) -> Batches {
            Batches { open: vec![0; count], total: vec![0; count] }
        }

        /// Appends; whether the last batch is full afterwards.
        fn append(&mut self, partition: i32, bytes: usize) -> bool {
            let open = &mut self.open[partition as usize];
            if *open > 0 && *open + bytes > BATCH {
                *open = 0;
            }
            *open += bytes;
            self.total[partition as usize] += bytes as u64;
            let full = *open >= BATCH;
            if full {
                *open = 0;
            }
            full
        }

        fn ratio(&self) -> f64 {
            *self.total.iter().max().unwrap() as f64 / *self.total.iter().min().unwrap() as f64
        }
    }

    /// A million records without keys; every `linger_every` records all open batches are closed.
    /// Max/min bytes.
    fn balance(partitions: usize, sizes: std::ops::Range<usize>, linger_every: usize) -> f64 {
        let topic = topic(&vec![1; partitions]);
        let (cache, rng) = (StickyPartitionCache::new(BATCH), Rng::seeded(partitions as u64));
        let mut batches = Batches::new(partitions);
        let mut random = fastrand::Rng::with_seed(3);
        for i in 0..1_000_000 {
            let partition = cache.peek(&topic, &rng);
            let bytes = random.usize(sizes.clone());
            let full = batches.append(partition, bytes);
            cache.update(partition, bytes, full, &topic, &rng);
            if i % linger_every == 0 {
                batches.open.fill(0);
            }
        }
        batches.ratio()
    }

    #[test]
    fn a_million_records_are_balanced_by_bytes() {
        // 100 bytes each are 760 runs in all: one run more or less must stay within the tenth.
        for (partitions, sizes) in [(3, 60..140), (6, 60..140), (12, 60..140), (30, 1..4000)] {
            for linger_every in [1, 700, usize::MAX] {
                let ratio = balance(partitions, sizes.clone(), linger_every);
                assert!(ratio <= 1.10, "{partitions} partitions, {linger_every}: {ratio}");
            }
        }
    }

    #[test]
    fn sticks_until_the_batch_is_full() {
        let (topic, rng) = (topic(&[1, 2, 3]), Rng::seeded(1));
        let cache = StickyPartitionCache::new(1000);
        let first = cache.peek(&topic, &rng);
        cache.update(first, 999, true, &topic, &rng);
        assert!(cache.is_current(first), "below batch.size nothing switches");
        cache.update(first, 1, false, &topic, &rng);
        assert!(cache.is_current(first), "the last batch has room");
        cache.update(first, 0, true, &topic, &rng);
        assert!(!cache.is_current(first), "the deferred switch");
        let second = cache.peek(&topic, &rng);
        assert_ne!(first, second);
        cache.update(second, 1999, false, &topic, &rng);
        assert!(cache.is_current(second));
        cache.update(second, 1, false, &topic, &rng);
        assert!(!cache.is_current(second), "twice batch.size ends any run");
    }

    #[test]
    fn a_straggler_does_not_count_for_the_next_run() {
        let (topic, rng) = (topic(&[1, 2, 3]), Rng::seeded(1));
        let cache = StickyPartitionCache::new(1000);
        let first = cache.peek(&topic, &rng);
        cache.update(first, 1000, true, &topic, &rng);
        let second = cache.peek(&topic, &rng);
        cache.update(first, 5000, true, &topic, &rng);
        assert!(cache.is_current(second));
        cache.update(second, 999, true, &topic, &rng);
        assert!(cache.is_current(second));
    }

    #[test]
    fn leaderless_partitions_are_passed_over_while_others_lead() {
        let rng = Rng::seeded(5);
        let cache = StickyPartitionCache::new(1);
        let some = topic(&[-1, 4, -1, 4]);
        for _ in 0..100 {
            let partition = cache.peek(&some, &rng);
            assert!([1, 3].contains(&partition), "{partition}");
            cache.update(partition, 1, true, &some, &rng);
        }
        let lost = cache.peek(&some, &rng);
        let mut leaders = [-1, 4, -1, 4];
        leaders[lost as usize] = -1;
        assert_ne!(cache.peek(&topic(&leaders), &rng), lost, "its leader has gone");
        let none = topic(&[-1, -1, -1, -1]);
        let seen: BTreeSet<_> = (0..16)
            .map(|_| {
                let partition = cache.peek(&none, &rng);
                cache.update(partition, 1, true, &none, &rng);
                partition
            })
            .collect();
        assert_eq!(seen.len(), 4, "with no leader at all every partition takes records");
        let one = topic(&[-1, 7, -1, -1]);
        for _ in 0..4 {
            assert_eq!(cache.peek(&one, &rng), 1);
            cache.update(1, 1, true, &one, &rng);
        }
    }

    #[test]
    fn a_topic_that_shrank_or_grew_is_followed() {
        let rng = Rng::seeded(5);
        let cache = StickyPartitionCache::new(1);
        let five = topic(&[1; 5]);
        while cache.peek(&five, &rng) != 4 {
            cache.update(cache.peek(&five, &rng), 1, true, &five, &rng);
        }
        let two = topic(&[1; 2]);
        let seen: BTreeSet<_> = (0..10)
            .map(|_| {
                let partition = cache.peek(&two, &rng);
                cache.update(partition, 1, true, &two, &rng);
                partition
            })
            .collect();
        assert_eq!(seen, BTreeSet::from([0, 1]));
        let seen: BTreeSet<_> = (0..10)
            .map(|_| {
                let partition = cache.peek(&five, &rng);
                cache.update(partition, 1, true, &five, &rng);
                partition
            })
            .collect();
        assert_eq!(seen.len(), 5, "new partitions come with the next round");
    }

    #[test]
    fn every_partition_is_as_likely_to_be_first() {
        let topic = topic(&[1; 4]);
        let mut firsts = [0; 4];
        for seed in 0..4000 {
            firsts[StickyPartitionCache::new(1).peek(&topic, &Rng::seeded(seed)) as usize] += 1;
        }
        assert!(firsts.iter().all(|n| (850..1150).contains(n)), "{firsts:?}");
    }

    #[test]
    fn sizes_at_the_border_do_not_overflow() {
        let (topic, rng) = (topic(&[1, 2]), Rng::seeded(1));
        for size in [0, i32::MAX as usize, usize::MAX] {
            let cache = StickyPartitionCache::new(size);
            let first = cache.peek(&topic, &rng);
            cache.update(first, usize::MAX, false, &topic, &rng);
            assert!(!cache.is_current(first), "{size}");
        }
    }

    #[test]
    fn threads_share_a_run() {
        let topic = topic(&[1; 6]);
        let (cache, rng) = (StickyPartitionCache::new(10_000), Rng::seeded(9));
        let totals: [AtomicU64; 6] = Default::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100_000 {
                        let partition = cache.peek(&topic, &rng);
                        totals[partition as usize].fetch_add(100, Ordering::Relaxed);
                        cache.update(partition, 100, true, &topic, &rng);
                    }
                });
            }
        });
        let totals: Vec<u64> = totals.iter().map(|t| t.load(Ordering::Relaxed)).collect();
        assert_eq!(totals.iter().sum::<u64>(), 40_000_000);
        let ratio = *totals.iter().max().unwrap() as f64 / *totals.iter().min().unwrap() as f64;
        assert!(ratio < 1.10, "{totals:?}");
    }
}
