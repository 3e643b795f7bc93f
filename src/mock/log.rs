//! The log of one partition: appends batches that were checked, keeps them as they were received,
//! and gives them back to consumers (by batch) and to tests (by record).
//!
//! No record is copied: what is kept is the part of the request's frame that the batch came in,
//! compressed or not, with its offset and leader epoch beside it. Only where Kafka itself rewrites
//! a header (log append time, a wrong maximum of timestamps) does the log keep a copy.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::Bytes;

use super::producers::{Identity, Producers, Verdict};
use super::topics::TopicConfig;
use super::validator::{self, Checked, MOST_UNCOMPRESSED, Refusal};
use crate::protocol::ErrorCode;
use crate::protocol::record_batch::{
    BatchHeader, RecordBatch, RecordReader, RecordView, attributes,
};

/// What stands before the bytes that a batch's length counts: the base offset and that length.
const LOG_OVERHEAD: usize = 12;
/// What the log sets in a batch it gives out: base offset, length, leader epoch.
const PREFIX_LEN: usize = 16;
/// No timestamp.
const NO_TIMESTAMP: i64 = -1;

/// Where a batch is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The log's time if the topic wants that, else -1.
    pub append_time_ms: i64,
    /// It was there already.
    pub duplicate: bool,
}

/// A batch in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The epoch of the leader that wrote it.
    pub leader_epoch: i32,
    /// Its header; offset and epoch in it are the producer's.
    pub header: BatchHeader,
    /// All its bytes.
    pub bytes: Bytes,
}

impl StoredBatch {
    /// The offset behind its last record.
    pub fn end_offset(&self) -> i64 {
        self.base_offset + i64::from(self.header.last_offset_delta) + 1
    }

    /// The records, decompressed; they were checked when the batch was appended.
    fn records(&self) -> Bytes {
        let Ok((batch, _)) = RecordBatch::split(&self.bytes) else { return Bytes::new() };
        match batch.plain(MOST_UNCOMPRESSED) {
            Ok(Cow::Borrowed(records)) => self.bytes.slice_ref(records),
            Ok(Cow::Owned(records)) => records.into(),
            Err(_) => Bytes::new(),
        }
    }

    fn append_time(&self) -> Option<i64> {
        (self.header.attributes & attributes::LOG_APPEND_TIME != 0)
            .then_some(self.header.max_timestamp)
    }

    /// The batch as a consumer gets it.
    fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(self.bytes.get(8..LOG_OVERHEAD).unwrap_or_default());
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        out.extend_from_slice(self.bytes.get(PREFIX_LEN..).unwrap_or_default());
    }

    /// A record of the batch, whose records are these.
    fn record(&self, records: &Bytes, view: &RecordView<'_>) -> Record {
        Record {
            offset: self.base_offset + i64::from(view.offset_delta),
            timestamp_ms: self
                .append_time()
                .unwrap_or_else(|| self.header.base_timestamp.saturating_add(view.timestamp_delta)),
            key: view.key.map(|key| records.slice_ref(key)),
            value: view.value.map(|value| records.slice_ref(value)),
            headers: view
                .headers
                .map(|h| (records.slice_ref(h.key), h.value.map(|v| records.slice_ref(v))))
                .collect(),
        }
    }
}

/// A record in the log. Its bytes are shared with the log, not copied, unless its batch is
/// compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the epoch: the producer's, or the log's if the topic wants that.
    pub timestamp_ms: i64,
    /// `None` is null.
    pub key: Option<Bytes>,
    /// `None` is null.
    pub value: Option<Bytes>,
    /// In order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Where reading record by record has come to, so that the next one need not be looked for, nor its
/// batch be decompressed again.
#[derive(Debug, Clone)]
struct Place {
    batch_base: i64,
    records: Bytes,
    offset: i64,
    position: usize,
}

/// What an append needs to know beside the batch.
#[derive(Debug, Clone, Copy)]
pub struct AppendContext<'a> {
    /// What the topic asks for.
    pub config: &'a TopicConfig,
    /// The epoch of the leader that writes.
    pub leader_epoch: i32,
    /// The version of the Produce request.
    pub version: i16,
    /// Milliseconds since the epoch.
    pub wall_ms: i64,
}

/// The log of one partition.
#[derive(Debug, Default)]
pub struct Log {
    batches: VecDeque<StoredBatch>,
    start_offset: i64,
    end_offset: i64,
    bytes: usize,
    producers: Producers,
    place: Option<Place>,
}

impl Log {
    /// The offset of the first record that is still there.
    pub fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// The offset that the next record gets.
    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// The batches, oldest first.
    pub fn batches(&self) -> impl Iterator<Item = &StoredBatch> {
        self.batches.iter()
    }

    /// Forgets every producer id.
    pub fn forget_producers(&mut self) {
        self.producers.forget();
    }

    /// Appends the one batch of a partition's entry in a Produce request, or says why not.
    pub fn append(
        &mut self,
        records: Option<&Bytes>,
        context: AppendContext<'_>,
    ) -> Result<Appended, Refusal> {
        let Checked { header, bytes, identity } = validator::check(records, context)?;
        if let Some(written) = self.check_sequence(identity)? {
            return Ok(written);
        }
        let stored = StoredBatch {
            base_offset: self.end_offset,
            leader_epoch: context.leader_epoch,
            header,
            bytes,
        };
        let appended = Appended {
            base_offset: stored.base_offset,
            append_time_ms: stored.append_time().unwrap_or(NO_TIMESTAMP),
            duplicate: false,
        };
        if let Some(identity) = identity {
            self.producers.wrote(identity, stored.base_offset);
        }
        self.end_offset = stored.end_offset();
        self.bytes += stored.bytes.len();
        self.batches.push_back(stored);
        self.retain(context.config.retention_bytes);
        Ok(appended)
    }

    fn check_sequence(&self, identity: Option<Identity>) -> Result<Option<Appended>, Refusal> {
        let Some(batch) = identity else { return Ok(None) };
        match self.producers.check(batch) {
            Verdict::Append => Ok(None),
            Verdict::Duplicate(base_offset) => Ok(Some(Appended {
                base_offset,
                append_time_ms: self
                    .batch_of(base_offset)
                    .and_then(StoredBatch::append_time)
                    .unwrap_or(NO_TIMESTAMP),
                duplicate: true,
            })),
            Verdict::InvalidEpoch { current } => Err(Refusal::new(
                ErrorCode::INVALID_PRODUCER_EPOCH,
                format!(
                    "producer {} sent epoch {}, but its epoch is {current}",
                    batch.producer_id, batch.epoch
                ),
            )),
            Verdict::OutOfOrder { last_sequence } => Err(Refusal::new(
                ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
                format!(
                    "producer {} (epoch {}) sent sequence {}, but the last one was {last_sequence}",
                    batch.producer_id, batch.epoch, batch.base_sequence
                ),
            )),
        }
    }

    /// Drops the oldest batches while more than `limit` bytes are kept; the newest batch always
    /// stays.
    fn retain(&mut self, limit: Option<usize>) {
        let Some(limit) = limit else { return };
        while self.bytes > limit && self.batches.len() > 1 {
            let Some(oldest) = self.batches.pop_front() else { return };
            self.bytes -= oldest.bytes.len();
            self.start_offset = oldest.end_offset();
        }
    }

    fn index_of(&self, offset: i64) -> Option<usize> {
        if offset < self.start_offset || offset >= self.end_offset {
            return None;
        }
        Some(self.batches.partition_point(|batch| batch.end_offset() <= offset))
    }

    fn batch_of(&self, offset: i64) -> Option<&StoredBatch> {
        self.batches.get(self.index_of(offset)?)
    }

    /// The record at an offset; `None` before the start and past the end. Reading in order costs
    /// the same everywhere.
    pub fn read(&mut self, offset: i64) -> Option<Record> {
        let batch = self.batches.get(self.index_of(offset)?)?;
        let place = self.place.take().filter(|place| place.batch_base == batch.base_offset);
        let (records, start) = match place {
            Some(place) if place.offset <= offset => (place.records, place.position),
            Some(place) => (place.records, 0),
            None => (batch.records(), 0),
        };
        let mut reader = RecordReader::new(records.get(start..)?);
        let delta = offset - batch.base_offset;
        loop {
            // The records were checked when they were appended.
            let view = reader.next()?.ok()?;
            if i64::from(view.offset_delta) == delta {
                let record = batch.record(&records, &view);
                let position = records.len() - reader.rest().len();
                let batch_base = batch.base_offset;
                self.place = Some(Place { batch_base, records, offset: offset + 1, position });
                return Some(record);
            }
        }
    }

    /// Whole batches for a consumer, from the one that holds `offset`: as many as fit into `most`
    /// bytes, and the first even if it doesn't where `at_least_one` asks for it (so that no
    /// consumer gets stuck, KIP-74).
    pub fn fetch(&self, offset: i64, most: usize, at_least_one: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(index) = self.index_of(offset) else { return out };
        for batch in self.batches.range(index..) {
            let too_much = out.len() + batch.bytes.len() > most;
            if too_much && !(at_least_one && out.is_empty()) {
                break;
            }
            batch.write_to(&mut out);
        }
        out
    }

    /// The first record that is not older than a timestamp: (offset, timestamp).
    pub fn offset_at(&self, timestamp_ms: i64) -> Option<(i64, i64)> {
        let batch = self.batches.iter().find(|b| b.header.max_timestamp >= timestamp_ms)?;
        first_record(batch, |time| time >= timestamp_ms)
    }

    /// The first of the records with the highest timestamp: (offset, timestamp).
    pub fn offset_of_max_timestamp(&self) -> Option<(i64, i64)> {
        let highest = self.batches.iter().map(|b| b.header.max_timestamp).max()?;
        let batch = self.batches.iter().find(|b| b.header.max_timestamp == highest)?;
        first_record(batch, |time| time == highest)
    }

    /// The leader epoch of the batch that holds an offset, or of the last one; -1 in an empty log.
    pub fn leader_epoch_at(&self, offset: i64) -> i32 {
        self.batch_of(offset).or_else(|| self.batches.back()).map_or(-1, |batch| batch.leader_epoch)
    }
}

fn first_record(batch: &StoredBatch, wanted: impl Fn(i64) -> bool) -> Option<(i64, i64)> {
    if let Some(time) = batch.append_time() {
        return wanted(time).then_some((batch.base_offset, time));
    }
    RecordReader::new(&batch.records()).map_while(Result::ok).find_map(|view| {
        let time = batch.header.base_timestamp.saturating_add(view.timestamp_delta);
        wanted(time).then_some((batch.base_offset + i64::from(view.offset_delta), time))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::testing::{TestBatch, WALL_MS, compressions};

    fn append(log: &mut Log, config: &TopicConfig, batch: &TestBatch) -> Result<Appended, Refusal> {
        let context = AppendContext { config, leader_epoch: 3, version: 13, wall_ms: WALL_MS };
        log.append(Some(&batch.bytes().into()), context)
    }

    fn log_of(batches: &[TestBatch]) -> Log {
        let mut log = Log::default();
        for batch in batches {
            append(&mut log, &TopicConfig::default(), batch).unwrap();
        }
        log
    }

    fn values(log: &mut Log, offsets: impl IntoIterator<Item = i64>) -> Vec<String> {
        let read = |offset| {
            let record = log.read(offset)?;
            assert_eq!(record.offset, offset);
            Some(String::from_utf8(record.value?.to_vec()).unwrap())
        };
        offsets.into_iter().map(read).map(|value| value.unwrap_or("-".to_owned())).collect()
    }

    #[test]
    fn records_are_read_back_in_any_order() {
        let mut log = log_of(&[
            TestBatch::of(&["a", "b", "c"]),
            TestBatch::of(&["d"]),
            TestBatch::of(&["e", "f"]),
        ]);
        assert_eq!((log.start_offset(), log.end_offset()), (0, 6));
        assert_eq!(values(&mut log, 0..7), ["a", "b", "c", "d", "e", "f", "-"]);
        assert_eq!(values(&mut log, (-1..6).rev()), ["f", "e", "d", "c", "b", "a", "-"]);
        assert_eq!(values(&mut log, [1, 1, 5, 4, 2]), ["b", "b", "f", "e", "c"]);
        let record = log.read(2).unwrap();
        assert_eq!(record.timestamp_ms, WALL_MS + 2);
        assert_eq!(record.key.unwrap(), "k2");
        assert_eq!(record.headers, [("h".into(), None)]);
    }

    #[test]
    fn records_of_compressed_batches_are_read_back() {
        let config = TopicConfig::default();
        for how in compressions() {
            let mut log = log_of(&[TestBatch::of(&["a"])]);
            let compressed = TestBatch::of(&["b", "c", "d"]).compressed(how);
            let wall_ms = WALL_MS;
            let context = AppendContext { config: &config, leader_epoch: 3, version: 13, wall_ms };
            let appended = log.append(Some(&compressed.clone().into()), context).unwrap();
            assert_eq!((appended.base_offset, log.end_offset()), (1, 4));
            append(&mut log, &config, &TestBatch::of(&["e"])).unwrap();
            assert_eq!(values(&mut log, 0..6), ["a", "b", "c", "d", "e", "-"], "{how:?}");
            assert_eq!(values(&mut log, [3, 1, 2, 2, 4, 1]), ["d", "b", "c", "c", "e", "b"]);
            let record = log.read(2).unwrap();
            assert_eq!((record.timestamp_ms, record.key.unwrap()), (WALL_MS + 1, "k1".into()));
            assert_eq!(record.headers, [("h".into(), None)]);
            assert_eq!(log.offset_at(WALL_MS + 2), Some((3, WALL_MS + 2)));
            // Consumers get the bytes that came, but for offset and epoch.
            let fetched = log.fetch(1, compressed.len(), false);
            assert_eq!(fetched[PREFIX_LEN..], compressed[PREFIX_LEN..], "{how:?}");
        }
    }

    #[test]
    fn a_refused_batch_leaves_no_trace() {
        let mut log = log_of(&[TestBatch::of(&["a"]).sequence(0)]);
        let mut wrong = TestBatch::of(&["b"]).sequence(1);
        wrong.records[0] += 2;
        append(&mut log, &TopicConfig::default(), &wrong).unwrap_err();
        assert_eq!(log.end_offset(), 1);
        append(&mut log, &TopicConfig::default(), &TestBatch::of(&["b"]).sequence(1)).unwrap();
    }

    #[test]
    fn what_was_sent_again_gets_its_first_offset() {
        let first = TestBatch::of(&["a", "b"]).sequence(0);
        let mut log = log_of(&[TestBatch::of(&["x"]), first, TestBatch::of(&["c"]).sequence(2)]);
        let config = TopicConfig::default();
        let again = append(&mut log, &config, &TestBatch::of(&["a", "b"]).sequence(0)).unwrap();
        assert_eq!(again, Appended { base_offset: 1, append_time_ms: -1, duplicate: true });
        assert_eq!(log.end_offset(), 4);

        let gap = append(&mut log, &config, &TestBatch::of(&["e"]).sequence(4)).unwrap_err();
        assert_eq!(gap.code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        let mut next_epoch = TestBatch::of(&["d"]).sequence(0);
        next_epoch.header.producer_epoch = 1;
        append(&mut log, &config, &next_epoch).unwrap();
        let old = append(&mut log, &config, &TestBatch::of(&["d"]).sequence(3)).unwrap_err();
        assert_eq!(old.code, ErrorCode::INVALID_PRODUCER_EPOCH);
        log.forget_producers();
        append(&mut log, &config, &TestBatch::of(&["d"]).sequence(9)).unwrap();
    }

    #[test]
    fn a_duplicate_is_answered_with_its_append_time() {
        let config = TopicConfig { log_append_time: true, ..TopicConfig::default() };
        let mut log = Log::default();
        let batch = TestBatch::of(&["a"]).sequence(0);
        append(&mut log, &config, &batch).unwrap();
        let wall_ms = WALL_MS + 50;
        let later = AppendContext { config: &config, leader_epoch: 3, version: 13, wall_ms };
        let again = log.append(Some(&batch.bytes().into()), later).unwrap();
        assert_eq!(again.append_time_ms, WALL_MS);
        assert_eq!(log.read(0).unwrap().timestamp_ms, WALL_MS);
    }

    #[test]
    fn consumers_get_whole_batches_with_offset_and_epoch() {
        let log = log_of(&[
            TestBatch::of(&["a", "b", "c"]),
            TestBatch::of(&["d"]),
            TestBatch::of(&["e", "f"]),
        ]);
        let all = log.fetch(1, usize::MAX, true);
        let mut rest = all.as_slice();
        for (base_offset, count) in [(0, 3), (3, 1), (4, 2)] {
            let (batch, behind) = RecordBatch::split(rest).unwrap();
            assert!(batch.check_crc());
            assert_eq!(batch.header.base_offset, base_offset);
            assert_eq!(batch.header.partition_leader_epoch, 3);
            assert_eq!(batch.header.record_count, count);
            rest = behind;
        }
        assert!(rest.is_empty());
        let two = all.len() - log.fetch(5, usize::MAX, true).len();
        assert_eq!(log.fetch(0, two, true).len(), two);
        let one = two - log.fetch(3, 1, true).len();
        assert_eq!(log.fetch(0, two - 1, true).len(), one);
        assert_eq!(log.fetch(0, 1, true).len(), one, "one batch at least");
        assert_eq!(log.fetch(0, 1, false).len(), 0);
        assert_eq!(log.fetch(6, usize::MAX, true).len(), 0);
    }

    #[test]
    fn retention_drops_old_batches_but_never_the_last() {
        let batch = TestBatch::of(&["a", "b"]);
        let mut config = TopicConfig { retention_bytes: Some(0), ..TopicConfig::default() };
        let mut log = Log::default();
        append(&mut log, &config, &batch).unwrap();
        append(&mut log, &config, &batch).unwrap();
        assert_eq!((log.start_offset(), log.end_offset()), (2, 4));
        config.retention_bytes = Some(2 * batch.bytes().len());
        append(&mut log, &config, &batch).unwrap();
        assert_eq!((log.start_offset(), log.end_offset()), (2, 6));
        append(&mut log, &config, &batch).unwrap();
        assert_eq!((log.start_offset(), log.end_offset()), (4, 8));
        assert_eq!(values(&mut log, 3..6), ["-", "a", "b"]);
    }

    #[test]
    fn offsets_by_time() {
        let mut late = TestBatch::of(&["d", "e"]);
        late.header.base_timestamp += 100;
        late.header.max_timestamp = WALL_MS + 101;
        let log = log_of(&[TestBatch::of(&["a", "b", "c"]), late, TestBatch::of(&["f"])]);
        assert_eq!(log.offset_at(0), Some((0, WALL_MS)));
        assert_eq!(log.offset_at(WALL_MS + 2), Some((2, WALL_MS + 2)));
        assert_eq!(log.offset_at(WALL_MS + 3), Some((3, WALL_MS + 100)));
        assert_eq!(log.offset_at(WALL_MS + 102), None);
        assert_eq!(log.offset_of_max_timestamp(), Some((4, WALL_MS + 101)));
        assert_eq!(Log::default().offset_of_max_timestamp(), None);
    }
}
