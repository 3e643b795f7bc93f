//! Sending: the C functions that take records, and how a record of C's becomes one of Rust's.
//!
//! The hot path of the whole library: nothing is allocated, and what is rarely wrong is checked
//! with one comparison.

use super::convert::{self, array, borrowed, bytes, invalid, out};
use super::handle::{self, producer_t};
use super::status::producer_status_t;
use super::types::*;
use crate::error::{Error, Result, status};
use crate::producer::{Producer, Timeout};
use crate::record::{Header, ProducerRecord};
use std::cell::Cell;
use std::fmt;

/// Headers that fit on the stack.
const STACK_HEADERS: usize = 16;
/// Headers whose memory a thread keeps for its next call; more are given back.
const KEPT_HEADERS: usize = 1024;

const KNOWN_FLAGS: u32 =
    PRODUCER_RECORD_HAS_PARTITION | PRODUCER_RECORD_HAS_TIMESTAMP | PRODUCER_RECORD_AS_IS;

const NO_HEADER: Header<'static> = Header { key: &[], value: None };

thread_local! {
    static HEADERS: Cell<Vec<Header<'static>>> = const { Cell::new(Vec::new()) };
}

/// ---- Sending ----
///
/// Sends one record: copies it into its partition's batch and returns. Waits up to max.block.ms for
/// metadata and for memory. On success exactly one delivery will contain it; on failure none will.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_send(
    producer: *mut producer_t,
    record: *const producer_record_t,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        handle::call_sending(producer, error, |producer| {
            with_record(record, |record| producer.core.send(record))
        })
    }
}

/// As producer_send(), but never waits: PRODUCER_ERR_BUFFER_FULL or PRODUCER_ERR_METADATA_PENDING
/// instead, and the request for that metadata is on its way. In poll mode the descriptor becomes
/// readable when it is worth trying again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_try_send(
    producer: *mut producer_t,
    record: *const producer_record_t,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        handle::call_sending(producer, error, |producer| {
            with_record(record, |record| producer.core.try_send(record))
        })
    }
}

/// Sends one record and waits for its outcome, without lingering: what send(record).get() is in
/// Java. `timeout_ms` is the record's own timeout, so the outcome is decided when it returns; no
/// delivery will contain it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_send_sync(
    producer: *mut producer_t,
    record: *const producer_record_t,
    timeout_ms: i32,
    receipt: *mut producer_receipt_t,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        handle::call_sending(producer, error, |producer| {
            let timeout = convert::timeout(timeout_ms)?;
            let receipt = out(receipt, "receipt")?;
            let went = with_record(record, |record| producer.core.send_sync(record, timeout))?;
            receipt.write(producer_receipt_t {
                partition: went.partition,
                reserved: 0,
                offset: went.offset,
                timestamp_ms: went.timestamp_ms,
            });
            Ok(())
        })
    }
}

/// Sends records in order until one is refused. `accepted` gets the number accepted, also on
/// failure; the status is that of the first one refused. Cheaper than as many producer_send()
/// calls. `timeout_ms` bounds the whole call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_send_batch(
    producer: *mut producer_t,
    records: *const producer_record_t,
    count: usize,
    timeout_ms: i32,
    accepted: *mut usize,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        let accepted = out(accepted, "accepted").map(|accepted| accepted.write(0));
        handle::call_sending(producer, error, |producer| {
            let accepted = accepted?;
            let timeout = convert::timeout(timeout_ms)?;
            let records = array(records, count, "records")?;
            let result;
            (*accepted, result) = send_batch(&producer.core, records, timeout);
            result
        })
    }
}

/// Sends `count` records of one topic whose keys lie end to end in `keys`, and whose values lie end
/// to end in `values`, for languages in which touching each record costs more than sending it. A
/// length of -1 is null; the lengths must sum up to the slices' lengths. `key_lens` NULL: no keys.
/// `partition` -1: the partitioner chooses. Record i gets the tag first_tag + i. Accepts a prefix,
/// as producer_send_batch() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_send_columns(
    producer: *mut producer_t,
    topic: producer_slice_t,
    partition: i32,
    keys: producer_slice_t,
    key_lens: *const i32,
    values: producer_slice_t,
    value_lens: *const i32,
    count: usize,
    first_tag: u64,
    timeout_ms: i32,
    accepted: *mut usize,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        let accepted = out(accepted, "accepted").map(|accepted| accepted.write(0));
        handle::call_sending(producer, error, |producer| {
            let accepted = accepted?;
            let timeout = convert::timeout(timeout_ms)?;
            let columns = Columns {
                topic: self::topic(topic, "topic")?,
                partition: match partition {
                    -1 => None,
                    _ => Some(partition),
                },
                keys: match key_lens.is_null() {
                    true => Column::none(keys)?,
                    false => Column::new(keys, key_lens, count, "keys", "key_lens")?,
                },
                values: Column::new(values, value_lens, count, "values", "value_lens")?,
                first_tag,
            };
            let result;
            (*accepted, result) = producer.core.send_batch(columns.records(count), timeout);
            result
        })
    }
}

/// Where a record stands, for error messages: alone, or in an array.
#[derive(Clone, Copy)]
struct Place(Option<usize>);

/// A field of a record at a place.
#[derive(Clone, Copy)]
struct Field(Place, &'static str);

/// A field of a header of a record at a place.
#[derive(Clone, Copy)]
struct HeaderField(Place, usize, &'static str);

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.0 {
            None => write!(f, "record.{}", self.1),
            Some(index) => write!(f, "records[{index}].{}", self.1),
        }
    }
}

impl fmt::Display for HeaderField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}].{}", Field(self.0, "headers"), self.1, self.2)
    }
}

/// Converts one record and passes it on.
///
/// # Safety
/// As in `convert.rs`.
#[inline]
unsafe fn with_record<T>(
    record: *const producer_record_t,
    then: impl FnOnce(&ProducerRecord<'_>) -> Result<T>,
) -> Result<T> {
    let place = Place(None);
    // SAFETY: the caller's promise, here and below.
    let record = unsafe { borrowed(record, "record", "the record to send")? };
    if record.header_count == 0 {
        // SAFETY: the same.
        return then(&unsafe { convert_record(record, &[], place)? });
    }
    // SAFETY: the same.
    let from = unsafe { array(record.headers, record.header_count, Field(place, "headers"))? };
    if from.len() <= STACK_HEADERS {
        let mut headers = [NO_HEADER; STACK_HEADERS];
        for (index, (to, from)) in headers.iter_mut().zip(from).enumerate() {
            // SAFETY: the same.
            *to = unsafe { convert_header(from, index, place)? };
        }
        let headers = headers.get(..from.len()).unwrap_or_default();
        // SAFETY: the same.
        return then(&unsafe { convert_record(record, headers, place)? });
    }
    let mut headers = Headers::take(from.len());
    for (index, from) in from.iter().enumerate() {
        // SAFETY: the same.
        headers.0.push(unsafe { convert_header(from, index, place)? });
    }
    // SAFETY: the same.
    then(&unsafe { convert_record(record, &headers.0, place)? })
}

/// # Safety
/// As in `convert.rs`.
#[inline]
unsafe fn convert_record<'a>(
    record: &producer_record_t,
    headers: &'a [Header<'a>],
    place: Place,
) -> Result<ProducerRecord<'a>> {
    if record.flags & !KNOWN_FLAGS != 0
        || record.reserved != 0
        || record.timeout_ms != 0
        || !record.extension.is_null()
        || (record.flags & PRODUCER_RECORD_HAS_TIMESTAMP != 0 && record.timestamp_ms < 0)
    {
        return Err(reserved(record, place));
    }
    // SAFETY: the caller's promise.
    unsafe {
        Ok(ProducerRecord {
            topic: topic(record.topic, Field(place, "topic"))?,
            partition: (record.flags & PRODUCER_RECORD_HAS_PARTITION != 0)
                .then_some(record.partition),
            key: bytes(record.key, Field(place, "key"))?,
            value: bytes(record.value, Field(place, "value"))?,
            headers,
            timestamp_ms: (record.flags & PRODUCER_RECORD_HAS_TIMESTAMP != 0)
                .then_some(record.timestamp_ms),
            tag: record.tag,
        })
    }
}

#[cold]
fn reserved(record: &producer_record_t, place: Place) -> Error {
    let unknown = record.flags & !KNOWN_FLAGS;
    if unknown != 0 {
        return invalid(
            Field(place, "flags"),
            format_args!("has the unknown bits {unknown:#x}: set PRODUCER_RECORD_* bits only"),
        );
    }
    if record.reserved != 0 {
        return invalid(
            Field(place, "reserved"),
            format_args!("is {}: it must be 0, start from a zeroed record", record.reserved),
        );
    }
    if record.timeout_ms != 0 {
        let mut error = invalid(
            Field(place, "timeout_ms"),
            format_args!(
                "is {}: not available in this version; pass 0 and set delivery.timeout.ms",
                record.timeout_ms
            ),
        );
        if record.timeout_ms > 0 {
            error.status = status::UNSUPPORTED;
        }
        return error;
    }
    if !record.extension.is_null() {
        let what = "is not NULL: this version knows no extensions, start from a zeroed record";
        return invalid(Field(place, "extension"), what);
    }
    invalid(
        Field(place, "timestamp_ms"),
        format_args!("is {}: pass milliseconds since 1970", record.timestamp_ms),
    )
}

/// # Safety
/// As in `convert.rs`.
#[inline]
pub(super) unsafe fn topic<'a>(
    slice: producer_slice_t,
    name: impl fmt::Display + Copy,
) -> Result<&'a str> {
    // SAFETY: the caller's promise.
    let Some(topic) = (unsafe { bytes(slice, name)? }) else {
        return Err(invalid(name, "is null: a record needs a topic"));
    };
    text(topic).ok_or_else(|| {
        invalid(name, "is not UTF-8: topics are made of ASCII letters, digits, '.', '_' and '-'")
    })
}

/// The bytes as text. Topics and header keys are short and of ASCII nearly always, which takes a
/// third of the time to see.
#[inline]
fn text(bytes: &[u8]) -> Option<&str> {
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).ok()
}

/// # Safety
/// As in `convert.rs`.
#[inline]
unsafe fn convert_header<'a>(
    header: &producer_header_t,
    index: usize,
    place: Place,
) -> Result<Header<'a>> {
    let name = HeaderField(place, index, "key");
    // SAFETY: the caller's promise, here and below.
    let Some(key) = (unsafe { bytes(header.key, name)? }) else {
        return Err(invalid(name, "is null: a header needs a key, which may be empty"));
    };
    if text(key).is_none() {
        return Err(invalid(name, "is not UTF-8: only header values may be any bytes"));
    }
    // SAFETY: the same.
    let value = unsafe { bytes(header.value, HeaderField(place, index, "value"))? };
    Ok(Header { key, value })
}

/// Room for converted headers that the thread keeps for its next call.
struct Headers<'a>(Vec<Header<'a>>);

impl Headers<'_> {
    fn take<'a>(capacity: usize) -> Headers<'a> {
        let mut headers = HEADERS.take();
        headers.reserve(capacity);
        Headers(headers)
    }
}

impl Drop for Headers<'_> {
    fn drop(&mut self) {
        let mut headers = std::mem::take(&mut self.0);
        headers.clear();
        if headers.capacity() <= KEPT_HEADERS {
            // Of an empty vector only the memory is left: collecting in place gives it the lifetime
            // that a thread-local needs. During the thread's end there is nowhere to keep it.
            let kept = headers.into_iter().map(|_| NO_HEADER).collect();
            let _ = HEADERS.try_with(|slot| slot.set(kept));
        }
    }
}

/// # Safety
/// As in `convert.rs`.
unsafe fn send_batch(
    core: &Producer,
    records: &[producer_record_t],
    timeout: Timeout,
) -> (usize, Result<()>) {
    // All headers are converted beforehand, for they must outlive each record; the first bad one
    // ends the batch at its record, after those before it were sent.
    let mut headers = Headers::take(0);
    let mut bad = None;
    for (index, record) in records.iter().enumerate().filter(|(_, r)| r.header_count > 0) {
        // SAFETY: the caller's promise.
        if let Err(error) = unsafe { append_headers(record, index, &mut headers.0) } {
            bad = Some((index, error));
            break;
        }
    }
    let mut rest = headers.0.as_slice();
    let converted = records.iter().enumerate().map(|(index, record)| {
        if let Some((_, error)) = bad.take_if(|(at, _)| *at == index) {
            return Err(error);
        }
        let (own, others) = rest.split_at_checked(record.header_count).unwrap_or((rest, &[]));
        rest = others;
        // SAFETY: the caller's promise.
        unsafe { convert_record(record, own, Place(Some(index))) }
    });
    core.send_batch(converted, timeout)
}

/// # Safety
/// As in `convert.rs`.
unsafe fn append_headers(
    record: &producer_record_t,
    index: usize,
    headers: &mut Vec<Header<'_>>,
) -> Result<()> {
    let place = Place(Some(index));
    // SAFETY: the caller's promise, here and below.
    let from = unsafe { array(record.headers, record.header_count, Field(place, "headers"))? };
    headers.reserve(from.len());
    for (index, header) in from.iter().enumerate() {
        // SAFETY: the same.
        headers.push(unsafe { convert_header(header, index, place)? });
    }
    Ok(())
}

/// The arguments of `producer_send_columns()`, checked.
struct Columns<'a> {
    topic: &'a str,
    partition: Option<i32>,
    keys: Column<'a>,
    values: Column<'a>,
    first_tag: u64,
}

impl<'a> Columns<'a> {
    fn records(self, count: usize) -> impl Iterator<Item = Result<ProducerRecord<'a>>> {
        let Columns { topic, partition, mut keys, mut values, first_tag } = self;
        (0..count).map(move |index| {
            Ok(ProducerRecord {
                topic,
                partition,
                key: keys.next(),
                value: values.next(),
                headers: &[],
                timestamp_ms: None,
                tag: first_tag.wrapping_add(index as u64),
            })
        })
    }
}

/// Byte strings that lie end to end, with their lengths.
struct Column<'a> {
    bytes: &'a [u8],
    lens: std::slice::Iter<'a, i32>,
}

impl<'a> Column<'a> {
    /// A column of nulls.
    fn none(slice: producer_slice_t) -> Result<Column<'a>> {
        if slice.len != 0 {
            return Err(invalid(
                "key_lens",
                format_args!("is NULL, but `keys` has {} bytes: pass each one's length", slice.len),
            ));
        }
        Ok(Column { bytes: &[], lens: [].iter() })
    }

    /// # Safety
    /// As in `convert.rs`.
    unsafe fn new(
        slice: producer_slice_t,
        lens: *const i32,
        count: usize,
        name: &str,
        lens_name: &str,
    ) -> Result<Column<'a>> {
        // SAFETY: the caller's promise.
        let (bytes, lens) =
            unsafe { (array(slice.data, slice.len, name)?, array(lens, count, lens_name)?) };
        let mut sum = 0_usize;
        for (index, &len) in lens.iter().enumerate() {
            let len = match len {
                -1 => 0,
                _ => usize::try_from(len).map_err(|_| {
                    invalid(
                        format_args!("{lens_name}[{index}]"),
                        format_args!("is {len}: pass a length, or -1 for null"),
                    )
                })?,
            };
            // Saturated, the sum differs from every length that memory can have.
            sum = sum.saturating_add(len);
        }
        if sum != bytes.len() {
            return Err(invalid(
                lens_name,
                format_args!(
                    "sums up to {sum}, but `{name}` has {} bytes: they must be equal",
                    bytes.len()
                ),
            ));
        }
        Ok(Column { bytes, lens: lens.iter() })
    }

    /// The next one; null past the end.
    fn next(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(*self.lens.next()?).ok()?;
        let (first, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(first)
    }
}
