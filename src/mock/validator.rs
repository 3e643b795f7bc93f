//! What Kafka checks of a batch before its log looks at who sent it: format, size, checksum,
//! counts, offsets, timestamps; by the rules and with the codes of
//! `ProduceRequest.validateRecords`, `UnifiedLog.append` and `LogValidator`.

use std::borrow::Cow;

use bytes::Bytes;

use super::log::AppendContext;
use super::producers::Identity;
use crate::protocol::ErrorCode;
use crate::protocol::crc32c::{self, ShiftFactor};
use crate::protocol::record_batch::{BatchHeader, RecordBatch, attributes};

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
    if bits & attributes::CODEC != 0 {
        return Err(Refusal::new(
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            format!(
                "a batch with codec {}, but this cluster takes uncompressed ones only",
                bits & attributes::CODEC
            ),
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

/// Reads every record: the count is the header's, offsets are contiguous, the area is filled
/// exactly, timestamps are such as the topic takes. The highest timestamp comes back.
fn check_records(batch: &RecordBatch<'_>, context: AppendContext<'_>) -> Result<i64, Refusal> {
    let header = &batch.header;
    let latest = context.wall_ms.saturating_add(context.config.timestamp_after_max_ms);
    let mut faults = Vec::new();
    let mut code = ErrorCode::INVALID_RECORD;
    let mut expected = 0;
    let mut max_timestamp = NO_TIMESTAMP;
    for record in batch.records() {
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
