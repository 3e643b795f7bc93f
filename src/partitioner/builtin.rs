//! The sticky partition of a topic: where its records without a key go, a batch's worth of bytes at
//! a time (KIP-794), or a batch at a time (KIP-480).
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
//! The next partition is drawn from a shuffled bag, in which each has as many places as it has a
//! [share](super::load) in so many runs. What is over of a share counts for the next bag.
//! Independent draws would be as random, but with a thousand runs over a dozen partitions they
//! leave the fullest 10 to 25 percent above the emptiest; the bag leaves one run.

use super::load::{Place, Queues, Survey, shares};
use crate::metadata::TopicMetadata;
use crate::rng::Rng;
use crate::sync::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bag is for so many runs at most: then the queues are looked at again.
const LARGEST_BAG: usize = 64;

/// When a topic moves on to another partition, and to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sticking {
    /// After `batch.size` bytes, to each as often as to the others.
    Evenly,
    /// After as many, by load and rack.
    ByLoad,
    /// When a record would open another batch (KIP-480).
    UntilBatchIsFull,
}

/// The sticky partition of one topic.
#[derive(Debug)]
pub struct StickyPartitionCache {
    state: AtomicU64,
    /// Whoever changes the partition holds it.
    bag: Mutex<Bag>,
    run_bytes: u64,
    sticking: Sticking,
}

/// Partitions that are still to come.
#[derive(Debug, Default)]
struct Bag {
    /// The next one last.
    drawn: Vec<i32>,
    /// By number: runs that a partition has a right to and that were in no bag yet.
    credits: Vec<f64>,
    queues: Queues,
    /// Memory for what a bag is made of.
    places: Vec<Place>,
    shares: Vec<f64>,
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
    pub fn new(batch_size: usize, sticking: Sticking) -> StickyPartitionCache {
        // Twice this must fit the word's half.
        let run_bytes = u64::try_from(batch_size).unwrap_or(u64::MAX).clamp(1, i32::MAX as u64);
        StickyPartitionCache {
            state: AtomicU64::new(Sticky::UNSET.pack()),
            bag: Mutex::default(),
            run_bytes,
            sticking,
        }
    }

    /// The partition for a record without a key: the sticky one, or a new one if there is none yet
    /// or it has lost its leader while others have one. `topic` has at least one partition.
    #[inline]
    pub fn peek(&self, topic: &TopicMetadata, survey: &dyn Survey, rng: &Rng) -> i32 {
        let sticky = Sticky::unpack(self.state.load(Ordering::Relaxed));
        if is_candidate(topic, sticky.partition) {
            return sticky.partition;
        }
        self.switch(topic, survey, rng, |sticky| !is_candidate(topic, sticky.partition))
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
        survey: &dyn Survey,
        rng: &Rng,
    ) {
        if self.sticking == Sticking::UntilBatchIsFull {
            if batch_full && bytes == 0 {
                self.switch(topic, survey, rng, |sticky| sticky.partition == partition);
            }
            return;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let counted = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let sticky = Sticky::unpack(word);
            let bytes = sticky.bytes.saturating_add(bytes);
            (sticky.partition == partition).then(|| Sticky { bytes, ..sticky }.pack())
        });
        let Ok(before) = counted else { return };
        let total = u64::from(Sticky::unpack(before).bytes.saturating_add(bytes));
        if self.is_over(total, batch_full) {
            self.switch(topic, survey, rng, |sticky| {
                sticky.partition == partition && self.is_over(sticky.bytes.into(), batch_full)
            });
        }
    }

    fn is_over(&self, bytes: u64, batch_full: bool) -> bool {
        bytes >= self.run_bytes && (batch_full || bytes >= 2 * self.run_bytes)
    }

    /// Chooses the next partition, unless another thread has done so and `wanted` no longer holds;
    /// the sticky one after.
    #[cold]
    fn switch(
        &self,
        topic: &TopicMetadata,
        survey: &dyn Survey,
        rng: &Rng,
        wanted: impl Fn(Sticky) -> bool,
    ) -> i32 {
        let mut bag = lock(&self.bag);
        let sticky = Sticky::unpack(self.state.load(Ordering::Relaxed));
        if !wanted(sticky) {
            return sticky.partition;
        }
        let survey = (self.sticking == Sticking::ByLoad).then_some(survey);
        let partition = bag.draw(topic, survey, rng, sticky.partition);
        // Others may still count bytes for the run that ends here; they go with it.
        self.state.store(Sticky { partition, bytes: 0 }.pack(), Ordering::Relaxed);
        partition
    }
}

/// Whether records may go there: it has a leader, or it exists and no partition has one.
fn is_candidate(topic: &TopicMetadata, partition: i32) -> bool {
    topic.partition(partition).is_some_and(|p| p.leader >= 0 || topic.available() == 0)
}

impl Bag {
    fn draw(
        &mut self,
        topic: &TopicMetadata,
        survey: Option<&dyn Survey>,
        rng: &Rng,
        current: i32,
    ) -> i32 {
        // What was drawn before its leader went, or became slow.
        let is_slow = |partition: i32| {
            let leader = topic.partition(partition).map_or(-1, |partition| partition.leader);
            survey.is_some_and(|survey| survey.is_slow(leader))
        };
        while let Some(partition) = self.drawn.pop() {
            if is_candidate(topic, partition) && !is_slow(partition) {
                return partition;
            }
        }
        self.fill(topic, survey, rng);
        // Not the same one twice: its first run may just have filled that broker's window.
        if let Some(others) = self.drawn.len().checked_sub(1)
            && others > 0
            && self.drawn.last() == Some(&current)
        {
            self.drawn.swap(others, usize::try_from(rng.below(others as u64)).unwrap_or(0));
        }
        self.drawn.pop().unwrap_or(0)
    }

    fn fill(&mut self, topic: &TopicMetadata, survey: Option<&dyn Survey>, rng: &Rng) {
        let Bag { drawn, credits, queues, places, shares: wanted } = self;
        places.clear();
        if let Some(survey) = survey {
            survey.places(places);
        }
        queues.look(places);
        shares(topic, places, queues, wanted);
        let mut local = fastrand::Rng::with_seed(rng.below(u64::MAX));
        credits.resize_with(wanted.len(), || local.f64());
        let among = wanted.iter().filter(|share| **share > 0.0).count();
        let total: f64 = wanted.iter().sum();
        // Rounds in which nobody gets a whole run are few: everybody's credit grows.
        while drawn.is_empty() && total > 0.0 {
            let runs = among.min(LARGEST_BAG) as f64;
            for (partition, (credit, share)) in (0..).zip(credits.iter_mut().zip(&*wanted)) {
                *credit += runs * share / total;
                while *credit >= 1.0 {
                    *credit -= 1.0;
                    drawn.push(partition);
                }
            }
        }
        local.shuffle(drawn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partitioner::testing::topic;
    use std::collections::BTreeSet;

    const BATCH: usize = 131_072;

    /// Nothing waits anywhere, nobody is slow.
    struct Idle;

    impl Survey for Idle {
        fn places(&self, _places: &mut Vec<Place>) {}

        fn is_slow(&self, _node: i32) -> bool {
            false
        }
    }

    fn cache(batch_size: usize) -> StickyPartitionCache {
        StickyPartitionCache::new(batch_size, Sticking::ByLoad)
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
        let (cache, rng) = (cache(BATCH), Rng::seeded(partitions as u64));
        let mut batches = Batches::new(partitions);
        let mut random = fastrand::Rng::with_seed(3);
        for i in 0..1_000_000 {
            let partition = cache.peek(&topic, &Idle, &rng);
            let bytes = random.usize(sizes.clone());
            let full = batches.append(partition, bytes);
            cache.update(partition, bytes, full, &topic, &Idle, &rng);
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
        let cache = cache(1000);
        let first = cache.peek(&topic, &Idle, &rng);
        cache.update(first, 999, true, &topic, &Idle, &rng);
        assert!(cache.is_current(first), "below batch.size nothing switches");
        cache.update(first, 1, false, &topic, &Idle, &rng);
        assert!(cache.is_current(first), "the last batch has room");
        cache.update(first, 0, true, &topic, &Idle, &rng);
        assert!(!cache.is_current(first), "the deferred switch");
        let second = cache.peek(&topic, &Idle, &rng);
        assert_ne!(first, second);
        cache.update(second, 1999, false, &topic, &Idle, &rng);
        assert!(cache.is_current(second));
        cache.update(second, 1, false, &topic, &Idle, &rng);
        assert!(!cache.is_current(second), "twice batch.size ends any run");
    }

    /// Queues of these lengths; the nodes of partitions with `u32::MAX` are slow.
    struct Lengths(Vec<u32>);

    impl Survey for Lengths {
        fn places(&self, places: &mut Vec<Place>) {
            let place =
                |queued: &u32| Place { queued: *queued, slow: *queued == u32::MAX, near: false };
            places.extend(self.0.iter().map(place));
        }

        fn is_slow(&self, node: i32) -> bool {
            self.0[node as usize] == u32::MAX
        }
    }

    /// How many of so many runs each partition got; partition n is led by node n.
    fn runs(cache: &StickyPartitionCache, queues: &Lengths, count: usize) -> Vec<usize> {
        let topic = topic(&(0..queues.0.len() as i32).collect::<Vec<_>>());
        let (rng, mut got) = (Rng::seeded(4), vec![0; queues.0.len()]);
        for _ in 0..count {
            let partition = cache.peek(&topic, queues, &rng);
            got[partition as usize] += 1;
            cache.update(partition, 1, true, &topic, queues, &rng);
        }
        got
    }

    #[test]
    fn a_longer_queue_gets_fewer_runs_in_proportion() {
        for (queues, shares) in
            [(vec![0, 0, 11, 9], vec![4, 4, 1, 3]), (vec![13, 0, 11, 0, 9], vec![1, 6, 3, 6, 5])]
        {
            let rounds = 100;
            let total: usize = shares.iter().sum();
            let got = runs(&cache(1), &Lengths(queues.clone()), rounds * total);
            for (got, share) in got.iter().zip(&shares) {
                assert!(got.abs_diff(rounds * share) <= 2, "{queues:?}: {got:?}");
            }
            let evenly = StickyPartitionCache::new(1, Sticking::Evenly);
            let count = rounds * queues.len();
            let got = runs(&evenly, &Lengths(queues.clone()), count);
            assert!(got.iter().all(|got| got.abs_diff(rounds) <= 1), "{queues:?}: {got:?}");
        }
    }

    #[test]
    fn many_partitions_share_as_few_do() {
        let queues = Lengths((0..1000).map(|partition| partition % 2 * 9).collect());
        let got = runs(&cache(1), &queues, 15_000);
        let (even, odd): (Vec<usize>, Vec<usize>) = (
            got.iter().step_by(2).copied().collect(),
            got.iter().skip(1).step_by(2).copied().collect(),
        );
        assert!(even.iter().all(|got| got.abs_diff(20) <= 2), "{even:?}");
        assert!(odd.iter().all(|got| got.abs_diff(10) <= 2), "{odd:?}");
    }

    #[test]
    fn what_was_drawn_before_its_leader_became_slow_is_passed_over() {
        let cache = cache(1);
        let first = runs(&cache, &Lengths(vec![0; 5]), 2);
        let mut queues = vec![0; 5];
        let untouched = (0..5).find(|at| first[*at] == 0 && !cache.is_current(*at as i32)).unwrap();
        queues[untouched] = u32::MAX;
        let got = runs(&cache, &Lengths(queues), 400);
        assert_eq!(got[untouched], 0, "{got:?}");
        let got = runs(&cache, &Lengths(vec![u32::MAX; 5]), 400);
        assert!(got.iter().all(|got| *got > 70), "all are slow: {got:?}");
    }

    #[test]
    fn until_a_batch_is_full_bytes_do_not_count() {
        let (topic, rng) = (topic(&[1, 2, 3]), Rng::seeded(1));
        let cache = StickyPartitionCache::new(1000, Sticking::UntilBatchIsFull);
        let first = cache.peek(&topic, &Idle, &rng);
        cache.update(first, 5000, false, &topic, &Idle, &rng);
        cache.update(first, 5000, true, &topic, &Idle, &rng);
        assert!(cache.is_current(first), "no record has asked for another batch");
        cache.update(first, 0, true, &topic, &Idle, &rng);
        assert!(!cache.is_current(first));
        let second = cache.peek(&topic, &Idle, &rng);
        cache.update(first, 0, true, &topic, &Idle, &rng);
        assert!(cache.is_current(second), "another thread's news of the one before");
    }

    #[test]
    fn a_straggler_does_not_count_for_the_next_run() {
        let (topic, rng) = (topic(&[1, 2, 3]), Rng::seeded(1));
        let cache = cache(1000);
        let first = cache.peek(&topic, &Idle, &rng);
        cache.update(first, 1000, true, &topic, &Idle, &rng);
        let second = cache.peek(&topic, &Idle, &rng);
        cache.update(first, 5000, true, &topic, &Idle, &rng);
        assert!(cache.is_current(second));
        cache.update(second, 999, true, &topic, &Idle, &rng);
        assert!(cache.is_current(second));
    }

    #[test]
    fn leaderless_partitions_are_passed_over_while_others_lead() {
        let rng = Rng::seeded(5);
        let cache = cache(1);
        let some = topic(&[-1, 4, -1, 4]);
        for _ in 0..100 {
            let partition = cache.peek(&some, &Idle, &rng);
            assert!([1, 3].contains(&partition), "{partition}");
            cache.update(partition, 1, true, &some, &Idle, &rng);
        }
        let lost = cache.peek(&some, &Idle, &rng);
        let mut leaders = [-1, 4, -1, 4];
        leaders[lost as usize] = -1;
        assert_ne!(cache.peek(&topic(&leaders), &Idle, &rng), lost, "its leader has gone");
        let none = topic(&[-1, -1, -1, -1]);
        let seen: BTreeSet<_> = (0..16)
            .map(|_| {
                let partition = cache.peek(&none, &Idle, &rng);
                cache.update(partition, 1, true, &none, &Idle, &rng);
                partition
            })
            .collect();
        assert_eq!(seen.len(), 4, "with no leader at all every partition takes records");
        let one = topic(&[-1, 7, -1, -1]);
        for _ in 0..4 {
            assert_eq!(cache.peek(&one, &Idle, &rng), 1);
            cache.update(1, 1, true, &one, &Idle, &rng);
        }
    }

    #[test]
    fn a_topic_that_shrank_or_grew_is_followed() {
        let rng = Rng::seeded(5);
        let cache = cache(1);
        let five = topic(&[1; 5]);
        while cache.peek(&five, &Idle, &rng) != 4 {
            cache.update(cache.peek(&five, &Idle, &rng), 1, true, &five, &Idle, &rng);
        }
        let two = topic(&[1; 2]);
        let seen: BTreeSet<_> = (0..10)
            .map(|_| {
                let partition = cache.peek(&two, &Idle, &rng);
                cache.update(partition, 1, true, &two, &Idle, &rng);
                partition
            })
            .collect();
        assert_eq!(seen, BTreeSet::from([0, 1]));
        let seen: BTreeSet<_> = (0..10)
            .map(|_| {
                let partition = cache.peek(&five, &Idle, &rng);
                cache.update(partition, 1, true, &five, &Idle, &rng);
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
            firsts[cache(1).peek(&topic, &Idle, &Rng::seeded(seed)) as usize] += 1;
        }
        assert!(firsts.iter().all(|n| (850..1150).contains(n)), "{firsts:?}");
    }

    #[test]
    fn sizes_at_the_border_do_not_overflow() {
        let (topic, rng) = (topic(&[1, 2]), Rng::seeded(1));
        for size in [0, i32::MAX as usize, usize::MAX] {
            let cache = cache(size);
            let first = cache.peek(&topic, &Idle, &rng);
            cache.update(first, usize::MAX, false, &topic, &Idle, &rng);
            assert!(!cache.is_current(first), "{size}");
        }
    }

    #[test]
    fn threads_share_a_run() {
        let topic = topic(&[1; 6]);
        let (cache, rng) = (cache(10_000), Rng::seeded(9));
        let totals: [AtomicU64; 6] = Default::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100_000 {
                        let partition = cache.peek(&topic, &Idle, &rng);
                        totals[partition as usize].fetch_add(100, Ordering::Relaxed);
                        cache.update(partition, 100, true, &topic, &Idle, &rng);
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
