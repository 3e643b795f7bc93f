//! How a topic's batches are compressed: what they shrink to, what that costs, and the doing of it.
//!
//! A [`TopicCompression`] is shared by the partitions of a topic: relaxed numbers that whoever has
//! compressed a batch moves, and callers and the network thread read. A [`Workbench`] belongs to
//! one thread at a time.

use super::batch::BatchBody;
use super::buffer_pool::BufferPool;
use super::seal::Seal;
use super::seal_queue::SealQueue;
use super::slab::Slab;
use crate::error::Result;
use crate::protocol::compression::{Codec, Compression, Compressor, SnappyFraming};
use crate::protocol::crc32c::{self, ShiftFactor};
use crate::protocol::record_batch::BATCH_HEADER_LEN;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A ratio of 1 is this.
const UNITS: u32 = 1000;
/// So much a ratio that turns out worse than expected goes up at least, and a better one down at
/// most, per batch (Java's CompressionRatioEstimator).
const UP: u32 = 50;
const DOWN: u32 = 5;
/// Batches are planned for 105 % of the ratio, as in Java.
const MARGIN_PERCENT: u64 = 105;
/// What a shorter batch costs is taken for the cost of that many bytes: setting up a codec counts
/// too.
const LEAST_MEASURED: usize = 1 << 10;
/// Costs go down by a fraction of what was measured less.
const COST_SHARE: u32 = 8;

/// See the module's comment.
pub struct TopicCompression {
    how: Compression,
    /// Where batches wait for somebody who compresses them.
    pub(super) queue: Arc<SealQueue>,
    /// Compressed bytes per [`UNITS`] of records.
    ratio: AtomicU32,
    /// Picoseconds per byte; `u32::MAX` before the first batch.
    cost: AtomicU32,
    /// How many bytes of records the last batch had.
    last: AtomicU32,
}

impl TopicCompression {
    /// Nothing is known yet: batches are planned as if they would not shrink.
    pub fn new(how: Compression, queue: Arc<SealQueue>) -> TopicCompression {
        let (ratio, cost) = (AtomicU32::new(UNITS), AtomicU32::new(u32::MAX));
        TopicCompression { how, queue, ratio, cost, last: AtomicU32::new(0) }
    }

    /// The least work that the topic's codec can do.
    pub(super) fn fastest(&self) -> Compression {
        match self.how.codec() {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip { level: 1 },
            Codec::Snappy => Compression::Snappy { framing: SnappyFraming::Raw },
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd { level: 1 },
        }
    }

    /// How many bytes of records make a batch of `batch_size`, within `max_request_size`: it must
    /// be possible to send it as it is.
    pub(super) fn room(&self, batch_size: usize, max_request_size: usize) -> usize {
        let most = max_request_size.saturating_sub(BATCH_HEADER_LEN);
        let ratio = u64::from(self.ratio.load(Ordering::Relaxed).max(1));
        let packed = batch_size.saturating_sub(BATCH_HEADER_LEN) as u64;
        let room = packed.saturating_mul(u64::from(UNITS) * 100) / (ratio * MARGIN_PERCENT);
        usize::try_from(room).unwrap_or(usize::MAX).min(most)
    }

    /// A batch of so many bytes became so many in that time.
    fn learn(&self, raw: usize, packed: usize, took: Duration) {
        let seen = packed.saturating_mul(UNITS as usize).div_ceil(raw.max(1));
        let seen = u32::try_from(seen).unwrap_or(u32::MAX).min(UNITS);
        let ratio = self.ratio.load(Ordering::Relaxed);
        let ratio = match seen {
            seen if seen > ratio => seen.max(ratio + UP),
            seen => seen.max(ratio.saturating_sub(DOWN)),
        };
        self.ratio.store(ratio, Ordering::Relaxed);
        let picos = took.as_nanos().saturating_mul(1000) / raw.max(LEAST_MEASURED) as u128;
        let seen = u32::try_from(picos).unwrap_or(u32::MAX).min(u32::MAX - 1);
        let cost = self.cost.load(Ordering::Relaxed);
        let down = cost.saturating_sub(seen).div_ceil(COST_SHARE);
        let cost = if cost == u32::MAX { seen } else { seen.max(cost - down) };
        self.cost.store(cost, Ordering::Relaxed);
        self.last.store(u32::try_from(raw).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// A batch was too large for the broker: the next ones are planned as if they did not shrink
    /// more than this one, or at all.
    pub fn too_large(&self) {
        self.ratio.fetch_max(UNITS, Ordering::Relaxed);
    }

    /// What it takes to compress a batch like the last one; `None` if there was none.
    pub(super) fn costs(&self) -> Option<Duration> {
        let cost = Some(self.cost.load(Ordering::Relaxed)).filter(|cost| *cost != u32::MAX)?;
        let bytes = (self.last.load(Ordering::Relaxed) as usize).max(LEAST_MEASURED);
        let picos = u64::from(cost).saturating_mul(bytes as u64);
        Some(Duration::from_nanos(picos / 1000))
    }

    /// How many bytes can be compressed in this time; 0 if that was never measured.
    pub(super) fn within(&self, time: Duration) -> usize {
        let cost = self.cost.load(Ordering::Relaxed);
        let bytes = time.as_nanos().saturating_mul(1000) / u128::from(cost.max(1));
        match usize::try_from(bytes).unwrap_or(usize::MAX) {
            _ if cost == u32::MAX => 0,
            bytes if bytes < LEAST_MEASURED => 0,
            bytes => bytes,
        }
    }
}

impl fmt::Debug for TopicCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicCompression")
            .field("how", &self.how)
            .field("ratio", &self.ratio)
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

/// What a batch's records became: memory that nobody is charged for yet.
pub(super) struct Packed {
    pub(super) slabs: Vec<Slab>,
    pub(super) seal: Seal,
    pub(super) codec: Codec,
    pub(super) len: usize,
}

/// What compresses, with memory that is used again.
#[derive(Default)]
pub(super) struct Workbench {
    compressor: Compressor,
    packed: Vec<u8>,
}

impl Workbench {
    /// Compresses a batch; `None` if it does not shrink. `took` is asked for the time when it is
    /// done.
    pub(super) fn pack(
        &mut self,
        body: &BatchBody,
        topic: &TopicCompression,
        pool: &BufferPool,
        took: impl FnOnce() -> Duration,
    ) -> Result<Option<Packed>> {
        let raw = body.records_len();
        let shrinks = self.compress(body.slabs(), raw, topic.how)?;
        topic.learn(raw, if shrinks { self.packed.len() } else { raw }, took());
        Ok(shrinks.then(|| self.result(topic.how.codec(), pool, body.slabs_size())))
    }

    fn compress<'a>(
        &mut self,
        pieces: impl Iterator<Item = &'a [u8]>,
        len: usize,
        how: Compression,
    ) -> Result<bool> {
        let pieces: Vec<&[u8]> = pieces.collect();
        self.compressor.compress(how, &pieces, len, &mut self.packed)
    }

    /// What was compressed last, in slabs.
    fn result(&self, codec: Codec, pool: &BufferPool, instead: usize) -> Packed {
        let len = self.packed.len();
        let seal = Seal { crc: crc32c::crc32c(&self.packed), factor: ShiftFactor::for_len(len) };
        let mut slabs = pool.slabs_for(len, instead);
        let mut rest = self.packed.as_slice();
        for slab in &mut slabs {
            let (piece, others) = rest.split_at(rest.len().min(slab.size()));
            slab.spare(piece.len()).copy_from_slice(piece);
            slab.advance(piece.len());
            rest = others;
        }
        Packed { slabs, seal, codec, len }
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal_queue::SealTools;
    use super::super::testing::Bench;
    use super::*;

    fn topic() -> TopicCompression {
        let Bench { context, .. } = Bench::new(1 << 20);
        let queue = SealQueue::new(SealTools::for_tests(), context.pool, context.inbox);
        TopicCompression::new(Compression::Lz4, Arc::new(queue))
    }

    #[test]
    fn a_ratio_goes_up_at_once_and_down_in_small_steps() {
        let topic = topic();
        let ratio = || topic.ratio.load(Ordering::Relaxed);
        let learn = |packed: usize| topic.learn(1000, packed, Duration::ZERO);
        learn(100);
        assert_eq!(ratio(), 995);
        (0..400).for_each(|_| learn(100));
        assert_eq!(ratio(), 100);
        learn(110);
        assert_eq!(ratio(), 150, "by at least so much");
        learn(600);
        assert_eq!(ratio(), 600);
        learn(598);
        assert_eq!(ratio(), 598);
        learn(5000);
        assert_eq!(ratio(), 1000, "what does not shrink is not compressed");
        learn(0);
        topic.too_large();
        assert_eq!(ratio(), 1000);
    }

    #[test]
    fn batch_size_counts_compressed_bytes() {
        let topic = topic();
        assert_eq!(topic.room(10_061, 1 << 20), 9523, "10,000 / 1.05");
        (0..1000).for_each(|_| topic.learn(1000, 250, Duration::ZERO));
        assert_eq!(topic.room(10_061, 1 << 20), 38_095);
        assert_eq!(topic.room(10_061, 20_061), 20_000, "it may have to go as it is");
        assert_eq!(topic.room(0, 1 << 20), 0);
    }

    #[test]
    fn costs_are_what_the_dearest_lately_cost() {
        let topic = topic();
        assert_eq!((topic.costs(), topic.within(Duration::from_secs(1))), (None, 0));
        topic.learn(100_000, 1, Duration::from_millis(1));
        assert_eq!(topic.costs(), Some(Duration::from_millis(1)));
        assert_eq!(topic.within(Duration::from_micros(100)), 10_000);
        topic.learn(100_000, 1, Duration::from_millis(5));
        assert_eq!(topic.within(Duration::from_micros(100)), 2000);
        assert_eq!(topic.within(Duration::from_micros(10)), 0, "setting it up takes longer");
        (0..100).for_each(|_| topic.learn(100_000, 1, Duration::from_millis(1)));
        assert_eq!(topic.within(Duration::from_micros(100)), 10_000);
    }
}
