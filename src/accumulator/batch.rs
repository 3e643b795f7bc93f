//! Batches: the open one of a partition's front, and what it becomes when it is closed.
//!
//! An [`OpenBatch`] grows under the front's lock: a chain of slabs, tags beside it. Encoding
//! publishes lengths, count and tag last, so that whatever goes wrong in the middle leaves a valid
//! batch. Closing turns it into a [`BatchBody`], whose bytes never change again and which anybody
//! may share (the socket, a sealer, a delivery), inside a [`ProducerBatch`], which one stage at a
//! time owns. The memory goes back to the pool when the last reference to the body is gone, and not
//! before: there is no other way to give it back. One thing happens to a body before it leaves its
//! front: what is compressed takes the place of the records, under the front's lock and while
//! nobody else holds the body.

mod packed;
pub mod pieces;
mod remains;
mod timed;

pub use remains::Remains;

use super::buffer_pool::BufferPool;
use super::seal::{Seal, SealState, Sealing};
use super::slab::{Slab, TagSlab};
use super::times::Times;
use crate::clock::Instant;
use crate::protocol::compression::Codec;
use crate::protocol::crc32c::{self, ShiftFactor};
use crate::protocol::record_batch::{self, Record};
use crate::record::{ProducerRecord, Tag};
use bytes::Bytes;
use std::iter;
use std::sync::Arc;

/// Tags that live in the batch itself.
const INLINE_TAGS: usize = 16;

/// The tags of a batch, in order and end to end.
#[derive(Debug, Default)]
struct Tags {
    inline: [Tag; INLINE_TAGS],
    slab: Option<TagSlab>,
}

impl Tags {
    fn places(&self) -> &[Tag] {
        self.slab.as_ref().map_or(&self.inline, |slab| &slab.tags)
    }

    #[inline]
    fn place(&mut self, index: usize) -> Option<&mut Tag> {
        match &mut self.slab {
            None => self.inline.get_mut(index),
            Some(slab) => slab.tags.get_mut(index),
        }
    }
}

/// The memory of a batch.
#[derive(Debug)]
struct Chain {
    pool: Arc<BufferPool>,
    /// Those before the last.
    full: Vec<Slab>,
    /// `None` only while it is dropped.
    last: Option<Slab>,
    tags: Tags,
    /// Deadlines of single records by place, if some beside the first has one.
    own_deadlines: Option<TagSlab>,
    /// The bytes that the pool knows as those of a closed batch.
    closed: usize,
}

impl Chain {
    fn slabs(&self) -> impl Iterator<Item = &Slab> {
        self.full.iter().chain(&self.last)
    }

    /// From now on these bytes come back by themselves.
    fn close(&mut self) {
        let tags = self.tags.slab.as_ref().map_or(0, TagSlab::size);
        let own = self.own_deadlines.as_ref().map_or(0, TagSlab::size);
        self.closed = self.slabs().map(Slab::size).sum::<usize>() + tags + own;
        self.pool.close(self.closed);
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        if self.last.is_none() {
            return;
        }
        if let Some(own) = self.own_deadlines.take() {
            // Those of an open batch are not known as a closed one's.
            let closed = own.size().min(self.closed);
            self.closed -= closed;
            self.pool.release(iter::empty(), Some(own), closed);
        }
        let slabs = self.full.drain(..).chain(self.last.take());
        self.pool.release(slabs, self.tags.slab.take(), self.closed);
    }
}

/// Why a record does not go into an open batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// It would exceed the batch's limit.
    Batch,
    /// It needs a slab with room for so many bytes.
    Slab(usize),
    /// It needs a place for its tag.
    Tags,
    /// It needs a place for its own deadline.
    Deadlines,
}

/// What a batch is opened with.
pub(super) struct Opening {
    pub(super) pool: Arc<BufferPool>,
    pub(super) slab: Slab,
    pub(super) cut: u64,
    pub(super) created: Instant,
    pub(super) deadline: Instant,
    pub(super) base_timestamp: i64,
    /// The records' length from which on it counts as full.
    pub(super) full_at: usize,
    /// It is to be compressed.
    pub(super) packs: bool,
}

/// The batch that a partition's records go into. Owned by the front.
#[derive(Debug)]
pub(super) struct OpenBatch {
    chain: Chain,
    count: u32,
    records_len: usize,
    base_timestamp: i64,
    max_timestamp: i64,
    pub(super) cut: u64,
    /// When its first record was appended.
    pub(super) created: Instant,
    /// A record appended then or later gets a mark.
    pub(super) next_mark: Instant,
    times: Times,
    /// Until when it may linger.
    pub(super) deadline: Instant,
    pub(super) full_at: usize,
    /// It is to be compressed.
    packs: bool,
    summed: Summed,
}

/// The CRC of the first slabs.
#[derive(Debug, Clone, Copy, Default)]
struct Summed {
    slabs: usize,
    crc: u32,
}

impl OpenBatch {
    pub(super) fn new(opening: Opening) -> OpenBatch {
        let Opening { pool, slab, cut, created, deadline, base_timestamp, full_at, packs } =
            opening;
        let (full, tags) = (Vec::new(), Tags::default());
        OpenBatch {
            chain: Chain { pool, full, last: Some(slab), tags, own_deadlines: None, closed: 0 },
            count: 0,
            records_len: 0,
            base_timestamp,
            max_timestamp: base_timestamp,
            cut,
            created,
            next_mark: Times::next_mark(created),
            times: Times::new(created),
            deadline,
            full_at,
            packs,
            summed: Summed::default(),
        }
    }

    pub(super) fn records_len(&self) -> usize {
        self.records_len
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn is_full(&self) -> bool {
        self.records_len >= self.full_at
    }

    /// Encodes a record behind the others, if the records stay within `limit`; its length.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        record: &ProducerRecord<'_>,
        payload_len: usize,
        timestamp: i64,
        limit: usize,
    ) -> Result<usize, Full> {
        // A delta that overflows comes out right again where it is added to the base.
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let Ok(offset_delta) = i32::try_from(self.count) else { return Err(Full::Batch) };
        let body_len = record_batch::body_len(timestamp_delta, offset_delta, payload_len);
        let len = record_batch::record_len(body_len);
        if len > limit.saturating_sub(self.records_len) {
            return Err(Full::Batch);
        }
        let Some(slab) = &mut self.chain.last else { return Err(Full::Batch) };
        if len > slab.room() {
            return Err(Full::Slab(len));
        }
        let Some(tag) = self.chain.tags.place(self.count as usize) else {
            return Err(Full::Tags);
        };
        let ProducerRecord { key, value, headers, .. } = *record;
        let record_bytes = Record { timestamp_delta, offset_delta, key, value, headers };
        if record_bytes.encode(body_len, slab.spare(len)) != Some(len) {
            debug_assert!(false, "a record is not as long as its arithmetic says");
            return Err(Full::Batch);
        }
        *tag = record.tag;
        slab.advance(len);
        self.records_len += len;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;
        Ok(len)
    }

    /// Goes on in another slab.
    pub(super) fn chain(&mut self, slab: Slab) {
        if let Some(full) = self.chain.last.replace(slab) {
            self.chain.full.push(full);
        }
        // Beyond `batch.size` sealing must not get longer with the batch.
        if self.records_len >= self.full_at {
            self.sum_full_slabs();
        }
    }

    fn sum_full_slabs(&mut self) {
        let unsummed = self.chain.full.iter().skip(self.summed.slabs);
        self.summed.crc =
            unsummed.fold(self.summed.crc, |crc, slab| crc32c::append(crc, slab.bytes()));
        self.summed.slabs = self.chain.full.len();
    }

    /// How many tags there will be room for next, and how many there are.
    pub(super) fn tags_wanted(&self) -> usize {
        (self.count as usize + 1).max(self.chain.tags.places().len() * 2)
    }

    /// Goes on in a longer array of tags.
    pub(super) fn move_tags(&mut self, mut slab: TagSlab) {
        let old = self.chain.tags.places();
        for (to, from) in slab.tags.iter_mut().zip(old) {
            *to = *from;
        }
        let old = self.chain.tags.slab.replace(slab);
        self.chain.pool.release(iter::empty(), old, 0);
    }

    /// Ends it, claimed by whoever calls, unless it is to be compressed.
    pub(super) fn close(self, now: Instant) -> ProducerBatch {
        let OpenBatch { mut chain, count, records_len, base_timestamp, max_timestamp, .. } = self;
        debug_assert!(count > 0, "an empty batch is closed");
        chain.close();
        let body = BatchBody {
            chain,
            count,
            codec: Codec::None,
            records_len,
            raw_len: u32::try_from(records_len).unwrap_or(u32::MAX),
            base_timestamp,
            max_timestamp,
            summed: self.summed,
            sealing: if self.packs { Sealing::queued() } else { Sealing::claimed() },
            times: self.times,
        };
        let (created, cut) = (self.created, self.cut);
        ProducerBatch { body: Arc::new(body), created, closed: now, cut, alone: None }
    }
}

/// A closed batch's records: immutable, shared. Its memory is released with the last reference.
#[derive(Debug)]
pub struct BatchBody {
    chain: Chain,
    count: u32,
    /// What it takes before it is compressed; within `max.request.size`.
    raw_len: u32,
    /// What its slabs are compressed with.
    codec: Codec,
    records_len: usize,
    base_timestamp: i64,
    max_timestamp: i64,
    summed: Summed,
    sealing: Sealing,
    times: Times,
}

impl BatchBody {
    /// How many records there are; at least 1.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Their tags, in order.
    pub fn tags(&self) -> &[Tag] {
        self.chain.tags.places().get(..self.count as usize).unwrap_or_default()
    }

    /// The bytes of the records area, as it goes out.
    pub fn records_len(&self) -> usize {
        self.records_len
    }

    /// The bytes of the records before they were compressed.
    pub fn raw_len(&self) -> usize {
        self.raw_len as usize
    }

    /// What the records area is compressed with.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The bytes of the batch on the wire.
    pub fn size(&self) -> usize {
        record_batch::BATCH_HEADER_LEN + self.records_len
    }

    /// The bytes it is charged as.
    pub fn charged(&self) -> usize {
        self.chain.closed
    }

    /// The first record's timestamp.
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// The highest timestamp.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// The records area as it goes out, in pieces; uncompressed no record straddles two.
    pub fn slabs(&self) -> impl Iterator<Item = &[u8]> {
        self.chain.slabs().map(Slab::bytes)
    }

    /// The same as counted references, which keep the batch's memory until they are dropped.
    /// Nothing is copied.
    pub fn slab_bytes(self: &Arc<Self>) -> impl Iterator<Item = Bytes> {
        let body = Arc::clone(self);
        (0..=self.chain.full.len())
            .map(move |index| Bytes::from_owner(SlabRef { body: Arc::clone(&body), index }))
    }

    /// What stamping needs; computed now if it is not there yet.
    pub fn seal(&self) -> Seal {
        if let Some(seal) = self.sealing.get() {
            return seal;
        }
        let unsummed = self.slabs().skip(self.summed.slabs);
        let crc = unsummed.fold(self.summed.crc, crc32c::append);
        self.sealing.install(Seal { crc, factor: ShiftFactor::for_len(self.records_len) })
    }

    /// How far sealing is.
    pub fn seal_state(&self) -> SealState {
        self.sealing.state()
    }

    pub(super) fn sealing(&self) -> &Sealing {
        &self.sealing
    }
}

struct SlabRef {
    body: Arc<BatchBody>,
    index: usize,
}

impl AsRef<[u8]> for SlabRef {
    fn as_ref(&self) -> &[u8] {
        let chain = &self.body.chain;
        chain.full.get(self.index).or(chain.last.as_ref()).map_or(&[], Slab::bytes)
    }
}

/// A batch of one record that a `send_sync` call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alone {
    /// The call's number, not 0.
    pub sync_id: u64,
    /// When its record must have its outcome, in place of `delivery.timeout.ms`.
    pub deadline: Instant,
}

/// A closed batch as it moves from stage to stage: the shared body, and what only its owner of the
/// moment changes.
#[derive(Debug)]
pub struct ProducerBatch {
    /// The records.
    pub body: Arc<BatchBody>,
    /// When the first of them was appended.
    pub created: Instant,
    /// When it was closed.
    pub closed: Instant,
    /// The cut it belongs to; see [`Cuts`](super::cuts::Cuts).
    pub cut: u64,
    /// Set if a `send_sync` call waits for it.
    pub alone: Option<Alone>,
}

#[cfg(test)]
impl OpenBatch {
    pub(super) fn slab_sizes(&self) -> Vec<usize> {
        self.chain.slabs().map(Slab::size).collect()
    }
}

#[cfg(test)]
impl BatchBody {
    pub(super) fn slab_sizes(&self) -> Vec<usize> {
        self.chain.slabs().map(Slab::size).collect()
    }

    pub(super) fn unsummed_len(&self) -> usize {
        self.slabs().skip(self.summed.slabs).map(<[u8]>::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, ms, partition, reading, record};
    use super::*;
    use crate::record::Header;

    fn take_all(from: &super::super::front::Partition) -> Vec<ProducerBatch> {
        let mut out = Vec::new();
        assert!(from.try_purge(&mut out));
        out
    }

    #[test]
    fn tags_are_end_to_end_however_many() {
        for count in [1_u64, 16, 17, 128, 129, 1000] {
            let bench = Bench::new(1 << 20);
            let partition = partition(0);
            for tag in 0..count {
                let record = record(b"", tag + 7);
                let _ = partition.try_append(&bench.context, &record, reading(ms(1))).unwrap();
            }
            let batches = take_all(&partition);
            assert_eq!(batches.len(), 1);
            assert_eq!(batches[0].body.tags(), (7..count + 7).collect::<Vec<_>>());
            assert_eq!(u64::from(batches[0].body.count()), count);
            let slabs: usize = batches[0].body.chain.slabs().map(Slab::size).sum();
            let tags = if count > 16 { count.next_power_of_two().max(128) * 8 } else { 0 };
            assert_eq!(bench.context.pool.used(), slabs + usize::try_from(tags).unwrap());
            drop(batches);
            assert_eq!(bench.context.pool.used(), 0);
        }
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        let headers = [
            Header { key: b"h", value: Some(b"v") },
            Header { key: b"", value: None },
            Header { key: b"empty", value: Some(b"") },
        ];
        let large = vec![b'x'; 3_000];
        let base = record(b"plain", 1);
        let records = [
            ProducerRecord { timestamp_ms: Some(1_000), ..base },
            ProducerRecord { key: Some(b""), value: None, timestamp_ms: Some(400), ..base },
            ProducerRecord { key: Some(b"k"), value: Some(b""), headers: &headers, ..base },
            ProducerRecord { value: Some(&large), timestamp_ms: Some(9_000_000), ..base },
            ProducerRecord { timestamp_ms: Some(i64::MAX), ..base },
        ];
        for record in &records {
            let _ = partition.try_append(&bench.context, record, reading(ms(5_000))).unwrap();
        }
        let batches = take_all(&partition);
        let body = &batches[0].body;
        assert_eq!((body.base_timestamp(), body.max_timestamp()), (1_000, i64::MAX));
        assert_eq!(body.size(), 61 + body.slabs().map(<[u8]>::len).sum::<usize>());
        assert!(body.slabs().count() > 1);
        let read: Vec<_> = body.records().map(|record| record.unwrap()).collect();
        assert_eq!(read.len(), records.len());
        for (index, (read, sent)) in read.iter().zip(&records).enumerate() {
            assert_eq!(read.offset_delta, i32::try_from(index).unwrap());
            let timestamp = body.base_timestamp().wrapping_add(read.timestamp_delta);
            assert_eq!(timestamp, sent.timestamp_ms.unwrap_or(5_000));
            assert_eq!((read.key, read.value), (sent.key, sent.value));
            assert_eq!(read.headers.collect::<Vec<_>>(), sent.headers);
        }
    }

    #[test]
    fn the_socket_holds_the_batch_s_own_memory() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        for bytes in [100, 2_000, 5_000] {
            bench.must_append(&partition, ms(1), bytes);
        }
        let batches = take_all(&partition);
        let used = bench.context.pool.used();
        assert_eq!(batches[0].body.charged(), used);
        assert_eq!(bench.context.pool.closed(), used);
        let pieces: Vec<Bytes> = batches[0].body.slab_bytes().collect();
        for (piece, slab) in pieces.iter().zip(batches[0].body.slabs()) {
            assert_eq!((piece.as_ptr(), piece.len()), (slab.as_ptr(), slab.len()), "copied");
        }
        assert_eq!(pieces.len(), batches[0].body.slabs().count());
        drop(batches);
        let mut pieces = pieces.into_iter();
        while let Some(piece) = pieces.next() {
            assert_eq!(bench.context.pool.used(), used, "still to be written");
            assert_eq!(pieces.len() == 0, piece.len() > 4_000, "the last one is the largest");
        }
        assert_eq!((bench.context.pool.used(), bench.context.pool.closed()), (0, 0));
    }

    #[test]
    fn a_record_that_does_not_fit_leaves_no_trace() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        bench.must_append(&partition, ms(1), 900);
        let mut appender = partition.appender(&bench.context);
        let front = appender.front();
        let open = front.open.as_mut().unwrap();
        let before = (open.count(), open.records_len());
        let value = [0; 200];
        let payload_len = record_batch::payload_len(None, Some(&value), &[]);
        let record = record(&value, 0);
        assert_eq!(open.push(&record, payload_len, 5, 1_000), Err(Full::Batch));
        let full = open.push(&record, payload_len, 5, usize::MAX);
        assert!(matches!(full, Err(Full::Slab(len)) if len > 200));
        assert_eq!((open.count(), open.records_len()), before);
        drop(appender);
        assert_eq!(take_all(&partition)[0].body.records().count(), 1);
    }
}
