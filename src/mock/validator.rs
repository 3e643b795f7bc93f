//! What Kafka checks of a batch before its log looks at who sent it: format, size, checksum,
//! counts, offsets, timestamps; by the rules and with the codes of
//! `ProduceRequest.validateRecords`, `UnifiedLog.append` and `LogValidator`.

use std::borrow::Cow;

use bytes::Bytes;

use super::log::AppendContext;
use super::producers::Identity;
use crate::error::status;
use crate::protocol::ErrorCode;
use crate::protocol::compression::Codec;
use crate::protocol::crc32c::{self, ShiftFactor};
use crate::protocol::record_batch::{BatchHeader, RecordBatch, RecordReader, attributes};

/// Why a batch was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// A sentence.
    pub message: Cow<'static, str>,
    /// The records at fault, by their place in the batch (KIP-467); none: the batch itself is.
    pub records: Vec<(i32, &'static str)>,
}

impl Refusal {
    /// A refusal of the whole batch.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, message: message.into(), records: Vec::new() }
    }
}

/// Where the format's number is in a batch.
const MAGIC_AT: usize = 16;
/// The only format that Produce v3 and later may carry.
const MAGIC: u8 = 2;
/// No timestamp.
const NO_TIMESTAMP: i64 = -1;
/// From this version of Produce on batches may be compressed with zstd (KIP-110).
const FIRST_VERSION_WITH_ZSTD: i16 = 7;
/// The largest batch, decompressed. Kafka has no such limit; this cluster lives in other people's
/// processes.
pub(super) const MOST_UNCOMPRESSED: usize = 256 << 20;

/// A batch that is right.
#[derive(Debug)]
pub struct Checked {
    /// Its header as the log keeps it.
    pub header: BatchHeader,
    /// Its bytes as the log keeps them.
    pub bytes: Bytes,
    /// Who wrote it; `None`: a producer without id.
    pub identity: Option<Identity>,
}

/// The one batch that a partition's entry in a Produce request may hold.
pub fn check(records: Option<&Bytes>, context: AppendContext<'_>) -> Result<Checked, Refusal> {
    let received = records.ok_or_else(no_batch)?;
    let batch = only_batch(received, context.config.max_message_bytes)?;
    check_header(&batch.header)?;
    check_codec(&batch.header, context.version)?;
    let max_timestamp = check_records(&batch, context)?;
    let identity = identity(&batch.header)?;
    let (header, bytes) = stored(&batch, received, max_timestamp, context)?;
    Ok(Checked { header, bytes, identity })
}

fn no_batch() -> Refusal {
    Refusal::new(
        ErrorCode::INVALID_RECORD,
        "a partition's entry must hold exactly one record batch, not none",
    )
}

/// The one batch that an entry may hold: format, place, size and checksum are right.
fn only_batch(bytes: &Bytes, max_message_bytes: usize) -> Result<RecordBatch<'_>, Refusal> {
    if bytes.is_empty() {
        return Err(no_batch());
    }
    if let Some(magic) = bytes.get(MAGIC_AT).filter(|magic| **magic != MAGIC) {
        let message = format!("a record batch of format {magic}, not {MAGIC}");
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    }
    let (batch, rest) = RecordBatch::split(bytes)
        .map_err(|error| Refusal::new(ErrorCode::CORRUPT_MESSAGE, error.message))?;
    if !rest.is_empty() {
        let message = format!("{} bytes behind the one record batch of the entry", rest.len());
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    }
    if batch.header.base_offset != 0 {
        let message = format!("a base offset of {}, not 0", batch.header.base_offset);
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    }
    if bytes.len() > max_message_bytes {
        return Err(Refusal::new(
            ErrorCode::MESSAGE_TOO_LARGE,
            format!(
                "a record batch of {} bytes, above max.message.bytes={max_message_bytes}",
                bytes.len()
            ),
        ));
    }
    if !batch.check_crc() {
        let message = format!("the record batch doesn't match its checksum {:#010x}", batch.crc);
        return Err(Refusal::new(ErrorCode::CORRUPT_MESSAGE, message));
    }
    Ok(batch)
}

/// What the header alone must fulfil.
fn check_header(header: &BatchHeader) -> Result<(), Refusal> {
    let bits = header.attributes;
    if bits & attributes::CONTROL != 0 {
        return Err(Refusal::new(
            ErrorCode::INVALID_RECORD,
            "clients may not write control records",
        ));
    }
    if bits & attributes::LOG_APPEND_TIME != 0 {
        return Err(Refusal::new(
            ErrorCode::INVALID_TIMESTAMP,
            "a producer may not set the timestamp type to LogAppendTime",
        ));
    }
    if bits & attributes::TRANSACTIONAL != 0 {
        return Err(Refusal::new(
            ErrorCode::INVALID_TXN_STATE,
            "a transactional batch, but this cluster has no transactions",
        ));
    }
    let offsets = i64::from(header.last_offset_delta) + 1;
    if header.record_count <= 0 || offsets != i64::from(header.record_count) {
        let (last, count) = (header.last_offset_delta, header.record_count);
        let message = format!("a batch of {count} records whose last offset delta is {last}");
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    }
    Ok(())
}

/// Whether brokers of this build and clients of this version of Produce know the codec.
fn check_codec(header: &BatchHeader, version: i16) -> Result<(), Refusal> {
    let refuse = |message| Err(Refusal::new(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, message));
    match Codec::of(header.attributes) {
        Err(error) => refuse(error.message),
        Ok(Codec::Zstd) if version < FIRST_VERSION_WITH_ZSTD => refuse(Cow::Owned(format!(
            "zstd in version {version} of Produce, which knows it from {FIRST_VERSION_WITH_ZSTD} on"
        ))),
        Ok(_) => Ok(()),
    }
}

/// The records area, decompressed. What can't be is an error that no client expects, as in Kafka,
/// which finds it out too late to name it.
fn plain<'a>(batch: &RecordBatch<'a>) -> Result<Cow<'a, [u8]>, Refusal> {
    batch.plain(MOST_UNCOMPRESSED).map_err(|error| {
        let code = match error.status {
            status::UNSUPPORTED => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            _ => ErrorCode::UNKNOWN_SERVER_ERROR,
        };
        Refusal::new(code, error.message)
    })
}

/// Reads every record: the count is the header's, offsets are contiguous, the area is filled
/// exactly, timestamps are such as the topic takes. The highest timestamp comes back.
fn check_records(batch: &RecordBatch<'_>, context: AppendContext<'_>) -> Result<i64, Refusal> {
    let header = &batch.header;
    let latest = context.wall_ms.saturating_add(context.config.timestamp_after_max_ms);
    let mut faults = Vec::new();
    let mut code = ErrorCode::INVALID_RECORD;
    let mut expected = 0;
    let mut max_timestamp = NO_TIMESTAMP;
    for record in RecordReader::new(&plain(batch)?) {
        let record =
            record.map_err(|error| Refusal::new(ErrorCode::INVALID_RECORD, error.message))?;
        if record.offset_delta != expected {
            let message =
                format!("record {expected} of the batch has offset delta {}", record.offset_delta);
            return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
        }
        let timestamp = header.base_timestamp.checked_add(record.timestamp_delta);
        let sane = timestamp.filter(|t| *t >= NO_TIMESTAMP);
        if context.config.compacted && record.key.is_none() {
            faults.push((expected, "a record without key in a compacted topic"));
        } else if !context.config.log_append_time && sane.is_none_or(|t| t > latest) {
            code = ErrorCode::INVALID_TIMESTAMP;
            let fault = if sane.is_none() {
                "a negative timestamp"
            } else {
                "a timestamp further ahead than message.timestamp.after.max.ms allows"
            };
            faults.push((expected, fault));
        }
        max_timestamp = max_timestamp.max(sane.unwrap_or(NO_TIMESTAMP));
        expected += 1;
    }
    if expected != header.record_count {
        let message = format!("a batch of {} records that holds {expected}", header.record_count);
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    }
    if faults.is_empty() {
        return Ok(max_timestamp);
    }
    let message = format!("{} of {expected} records were refused", faults.len());
    Err(Refusal { code, message: message.into(), records: faults })
}

/// Who wrote a batch; `None`: a producer without id.
fn identity(header: &BatchHeader) -> Result<Option<Identity>, Refusal> {
    if header.producer_id < 0 {
        return Ok(None);
    }
    if header.producer_epoch < 0 {
        let message = format!("epoch {} with a producer id", header.producer_epoch);
        return Err(Refusal::new(ErrorCode::INVALID_PRODUCER_EPOCH, message));
    }
    if header.base_sequence < 0 {
        let message = format!("sequence {} with a producer id", header.base_sequence);
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, message));
    }
    Ok(Some(Identity {
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        count: header.record_count,
    }))
}

/// Header and bytes as the log keeps them: as received, unless Kafka would write other timestamps
/// into the header.
fn stored(
    batch: &RecordBatch<'_>,
    received: &Bytes,
    max_timestamp: i64,
    context: AppendContext<'_>,
) -> Result<(BatchHeader, Bytes), Refusal> {
    let mut header = batch.header;
    if context.config.log_append_time {
        header.attributes |= attributes::LOG_APPEND_TIME;
        header.max_timestamp = context.wall_ms;
    } else {
        header.max_timestamp = max_timestamp;
    }
    if header == batch.header {
        return Ok((header, received.clone()));
    }
    let records = batch.records;
    let head = header
        .encode(records.len(), crc32c::crc32c(records), ShiftFactor::for_len(records.len()))
        .map_err(|error| Refusal::new(ErrorCode::CORRUPT_MESSAGE, error.message))?;
    Ok((header, Bytes::from([&head, records].concat())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::testing::{TestBatch, WALL_MS, compressions, fix_crc};
    use crate::mock::topics::TopicConfig;
    use crate::protocol::record_batch::Record;

    fn context(config: &TopicConfig) -> AppendContext<'_> {
        AppendContext { config, leader_epoch: 0, version: 13, wall_ms: WALL_MS }
    }

    fn check_bytes(bytes: Vec<u8>) -> Result<Checked, Refusal> {
        check(Some(&bytes.into()), context(&TopicConfig::default()))
    }

    fn code(bytes: Vec<u8>) -> ErrorCode {
        check_bytes(bytes).map_or_else(|refusal| refusal.code, |_| ErrorCode::NONE)
    }

    /// The code for a batch of three records that was changed and has a right checksum.
    fn code_after(change: impl FnOnce(&mut TestBatch)) -> ErrorCode {
        let mut batch = TestBatch::of(&["a", "b", "c"]);
        change(&mut batch);
        code(batch.bytes())
    }

    fn record(offset_delta: i32, timestamp_delta: i64) -> Record<'static> {
        Record { timestamp_delta, offset_delta, key: None, value: None, headers: &[] }
    }

    #[test]
    fn a_right_batch_is_kept_as_it_came() {
        let received = Bytes::from(TestBatch::of(&["a", "b", "c"]).bytes());
        let checked = check(Some(&received), context(&TopicConfig::default())).unwrap();
        assert_eq!(checked.bytes.as_ptr(), received.as_ptr());
        assert_eq!(checked.header.record_count, 3);
        assert_eq!(checked.identity, None);
    }

    #[test]
    fn nothing_is_no_batch() {
        let none = check(None, context(&TopicConfig::default())).unwrap_err();
        assert_eq!(none.code, ErrorCode::INVALID_RECORD);
        assert_eq!(code(Vec::new()), ErrorCode::INVALID_RECORD);
    }

    #[test]
    fn only_format_2_is_taken() {
        for magic in [0, 1, 3, 255] {
            let mut bytes = TestBatch::of(&["a"]).bytes();
            bytes[MAGIC_AT] = magic;
            assert_eq!(code(bytes), ErrorCode::INVALID_RECORD, "format {magic}");
        }
    }

    #[test]
    fn a_cut_batch_is_corrupt() {
        let whole = TestBatch::of(&["a", "b"]).bytes();
        for length in 1..whole.len() {
            assert_eq!(code(whole[..length].to_vec()), ErrorCode::CORRUPT_MESSAGE, "{length}");
        }
    }

    #[test]
    fn a_wrong_length_is_corrupt() {
        for length in [0_i32, -1, 48, i32::MIN, i32::MAX] {
            let mut bytes = TestBatch::of(&["a"]).bytes();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            assert_eq!(code(bytes), ErrorCode::CORRUPT_MESSAGE, "{length}");
        }
    }

    #[test]
    fn two_batches_are_one_too_many() {
        let one = TestBatch::of(&["a"]).bytes();
        assert_eq!(code([one.clone(), one.clone()].concat()), ErrorCode::INVALID_RECORD);
        assert_eq!(code([one, vec![0]].concat()), ErrorCode::INVALID_RECORD);
    }

    #[test]
    fn every_bit_under_the_checksum_counts() {
        let right = TestBatch::of(&["a"]).bytes();
        for at in MAGIC_AT + 1..right.len() {
            let mut wrong = right.clone();
            wrong[at] ^= 0x10;
            assert_eq!(code(wrong), ErrorCode::CORRUPT_MESSAGE, "byte {at}");
        }
        // The leader's epoch is not under it.
        let mut bytes = right;
        bytes[12..16].copy_from_slice(&5_i32.to_be_bytes());
        assert_eq!(code(bytes), ErrorCode::NONE);
    }

    #[test]
    fn the_base_offset_is_zero() {
        assert_eq!(code_after(|b| b.header.base_offset = 1), ErrorCode::INVALID_RECORD);
    }

    #[test]
    fn a_batch_fits_into_max_message_bytes() {
        let bytes = Bytes::from(TestBatch::of(&["a"]).bytes());
        let limited = |max_message_bytes| {
            let config = TopicConfig { max_message_bytes, ..TopicConfig::default() };
            check(Some(&bytes), context(&config)).map_err(|refusal| refusal.code)
        };
        assert!(limited(bytes.len()).is_ok());
        assert_eq!(limited(bytes.len() - 1).unwrap_err(), ErrorCode::MESSAGE_TOO_LARGE);
    }

    #[test]
    fn attributes_that_clients_may_not_set() {
        let with = |bits| code_after(|b| b.header.attributes = bits);
        assert_eq!(with(attributes::CONTROL), ErrorCode::INVALID_RECORD);
        assert_eq!(with(attributes::LOG_APPEND_TIME), ErrorCode::INVALID_TIMESTAMP);
        assert_eq!(with(attributes::TRANSACTIONAL), ErrorCode::INVALID_TXN_STATE);
        assert_eq!(with(5), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    }

    #[test]
    fn a_compressed_batch_is_checked_and_kept_as_it_came() {
        for how in compressions() {
            let batch = TestBatch::of(&["a", "b", "c"]);
            let received = Bytes::from(batch.compressed(how));
            let checked = check(Some(&received), context(&TopicConfig::default())).unwrap();
            assert_eq!(checked.bytes.as_ptr(), received.as_ptr());
            let refused = |change: &dyn Fn(&mut TestBatch)| {
                let mut batch = TestBatch::of(&["a", "b", "c"]);
                change(&mut batch);
                code(batch.compressed(how))
            };
            assert_eq!(refused(&|b| b.header.record_count = 4), ErrorCode::INVALID_RECORD);
            assert_eq!(refused(&|b| b.records.push(0)), ErrorCode::INVALID_RECORD);
            assert_eq!(refused(&|b| b.records[0] -= 2), ErrorCode::INVALID_RECORD);
            assert_eq!(
                refused(&|b| b.header.base_timestamp = WALL_MS * 2),
                ErrorCode::INVALID_TIMESTAMP
            );
        }
    }

    #[test]
    fn a_batch_that_is_not_what_its_codec_writes() {
        for codec in compressions().into_iter().map(|how| how.codec()) {
            let refusal = code_after(|b| b.header.attributes = codec.bits());
            assert_eq!(refusal, ErrorCode::UNKNOWN_SERVER_ERROR, "{codec}");
        }
    }

    #[test]
    fn a_wrong_maximum_of_a_compressed_batch_is_put_right() {
        for how in compressions() {
            let mut batch = TestBatch::of(&["a", "b", "c"]);
            let right = batch.compressed(how);
            batch.header.max_timestamp = WALL_MS + 500;
            let checked = check_bytes(batch.compressed(how)).unwrap();
            assert_eq!(checked.header.max_timestamp, WALL_MS + 2);
            assert_eq!(checked.bytes, right);
        }
    }

    #[test]
    fn zstd_came_with_version_7() {
        let config = TopicConfig::default();
        for how in compressions() {
            let bytes = Bytes::from(TestBatch::of(&["a"]).compressed(how));
            for version in 3..=13 {
                let code = check(Some(&bytes), AppendContext { version, ..context(&config) })
                    .map_or_else(|refusal| refusal.code, |_| ErrorCode::NONE);
                let too_old = how.codec() == Codec::Zstd && version < 7;
                assert_eq!(code == ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, too_old, "{version}");
                assert_eq!(code.is_none(), !too_old, "{version}");
            }
        }
    }

    #[test]
    fn count_and_offsets_agree() {
        assert_eq!(code_after(|b| b.header.record_count = 4), ErrorCode::INVALID_RECORD);
        assert_eq!(code_after(|b| b.header.last_offset_delta = 3), ErrorCode::INVALID_RECORD);
        let both = |count| {
            code_after(|b| {
                b.header.record_count = count;
                b.header.last_offset_delta = count.wrapping_sub(1);
            })
        };
        for count in [2, 4, 0, -1, i32::MIN, i32::MAX] {
            assert_eq!(both(count), ErrorCode::INVALID_RECORD, "{count}");
        }
        assert_eq!(code(TestBatch::empty(0).bytes()), ErrorCode::INVALID_RECORD);
        assert_eq!(code(TestBatch::empty(1).bytes()), ErrorCode::INVALID_RECORD);
    }

    #[test]
    fn offsets_are_contiguous() {
        for deltas in [[0, 2], [1, 2], [0, 0], [1, 0], [0, -1]] {
            let mut batch = TestBatch::empty(2);
            deltas.iter().for_each(|delta| batch.push(&record(*delta, 0)));
            assert_eq!(code(batch.bytes()), ErrorCode::INVALID_RECORD, "{deltas:?}");
        }
    }

    #[test]
    fn records_fill_their_area() {
        assert_eq!(code_after(|b| b.records.push(0)), ErrorCode::INVALID_RECORD);
        assert_eq!(
            code_after(|b| b.records.truncate(b.records.len() - 1)),
            ErrorCode::INVALID_RECORD
        );
        // The first record's length says one byte less.
        assert_eq!(code_after(|b| b.records[0] -= 2), ErrorCode::INVALID_RECORD);
    }

    #[test]
    fn timestamps_too_far_ahead_are_named() {
        let config = TopicConfig::default();
        let mut batch = TestBatch::empty(4);
        let ahead = config.timestamp_after_max_ms;
        for (offset, delta) in [(0, 0), (1, ahead), (2, ahead + 1), (3, i64::MAX)] {
            batch.push(&record(offset, delta));
        }
        let refusal = check_bytes(batch.bytes()).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::INVALID_TIMESTAMP);
        let places: Vec<i32> = refusal.records.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [2, 3]);
    }

    #[test]
    fn no_timestamp_is_taken_and_a_negative_one_is_not() {
        let with = |timestamp| {
            let mut batch = TestBatch::empty(1);
            batch.header.base_timestamp = timestamp;
            batch.header.max_timestamp = timestamp;
            batch.push(&record(0, 0));
            code(batch.bytes())
        };
        assert_eq!(with(-1), ErrorCode::NONE);
        assert_eq!(with(-2), ErrorCode::INVALID_TIMESTAMP);
    }

    #[test]
    fn a_wrong_maximum_of_timestamps_is_put_right() {
        let mut batch = TestBatch::of(&["a", "b", "c"]);
        let right = batch.bytes();
        batch.header.max_timestamp = WALL_MS + 500;
        let checked = check_bytes(batch.bytes()).unwrap();
        assert_eq!(checked.header.max_timestamp, WALL_MS + 2);
        assert_eq!(checked.bytes, right);
    }

    #[test]
    fn the_logs_time_goes_into_the_header() {
        let config = TopicConfig { log_append_time: true, ..TopicConfig::default() };
        let bytes = Bytes::from(TestBatch::of(&["a"]).bytes());
        let checked = check(Some(&bytes), context(&config)).unwrap();
        assert_eq!(checked.header.max_timestamp, WALL_MS);
        assert_eq!(checked.header.attributes, attributes::LOG_APPEND_TIME);
        let mut patched = checked.bytes.to_vec();
        fix_crc(&mut patched);
        assert_eq!(patched, checked.bytes, "the checksum is right");
    }

    #[test]
    fn a_compacted_topic_wants_keys() {
        let config = TopicConfig { compacted: true, ..TopicConfig::default() };
        let mut batch = TestBatch::of(&["a"]);
        batch.push(&record(1, 0));
        batch.header.record_count = 2;
        batch.header.last_offset_delta = 1;
        let refusal = check(Some(&batch.bytes().into()), context(&config)).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::INVALID_RECORD);
        assert_eq!(refusal.records, [(1, "a record without key in a compacted topic")]);
        assert_eq!(code(batch.bytes()), ErrorCode::NONE);
    }

    #[test]
    fn a_producer_id_comes_with_epoch_and_sequence() {
        assert_eq!(code(TestBatch::of(&["a"]).sequence(0).bytes()), ErrorCode::NONE);
        assert_eq!(code(TestBatch::of(&["a"]).sequence(-1).bytes()), ErrorCode::INVALID_RECORD);
        let no_epoch = code_after(|b| {
            b.header.producer_id = 7;
            b.header.base_sequence = 0;
        });
        assert_eq!(no_epoch, ErrorCode::INVALID_PRODUCER_EPOCH);
    }
}
