//! A record of C's becomes one of Rust's: every check of its fields.
//!
//! Once per record, on the caller's thread: nothing is allocated, and what is rarely wrong is
//! checked together. Up to 16 headers are converted on the stack, more in memory that the thread
//! keeps.

use super::convert::{array, borrowed, bytes, invalid};
use super::types::*;
use crate::error::{Error, Result};
use crate::record::{Header, ProducerRecord};
use crate::serializer::Arena;
use std::cell::Cell;
use std::fmt;
use std::ptr;

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

/// Where a record stands, for error messages: alone, or in an array.
#[derive(Clone, Copy)]
pub(super) struct Place(pub(super) Option<usize>);

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
#[inline(always)]
pub(super) unsafe fn with_record<T>(
    record: *const producer_record_t,
    then: impl FnOnce(&ProducerRecord<'_>) -> Result<T>,
) -> Result<T> {
    let place = Place(None);
    // SAFETY: the caller's promise, here and below.
    let record = unsafe { borrowed(record, "record", "the record to send")? };
    if record.header_count == 0 {
        // SAFETY: the same.
        return then(&unsafe { convert(record, &[], place)? });
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
        return then(&unsafe { convert(record, headers, place)? });
    }
    let mut headers = Headers::take(from.len());
    for (index, from) in from.iter().enumerate() {
        // SAFETY: the same.
        headers.0.push(unsafe { convert_header(from, index, place)? });
    }
    // SAFETY: the same.
    then(&unsafe { convert(record, &headers.0, place)? })
}

/// # Safety
/// As in `convert.rs`.
#[inline(always)]
pub(super) unsafe fn convert<'a>(
    record: &producer_record_t,
    headers: &'a [Header<'a>],
    place: Place,
) -> Result<ProducerRecord<'a>> {
    if record.flags & !KNOWN_FLAGS != 0
        || record.reserved != 0
        || record.timeout_ms < 0
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
            timeout_ms: record.timeout_ms.unsigned_abs(),
            as_is: record.flags & PRODUCER_RECORD_AS_IS != 0,
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
    if record.timeout_ms < 0 {
        return invalid(
            Field(place, "timeout_ms"),
            format_args!(
                "is {}: pass milliseconds, or 0 for delivery.timeout.ms",
                record.timeout_ms
            ),
        );
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
#[inline(always)]
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
pub(super) struct Headers<'a>(pub(super) Vec<Header<'a>>);

impl Headers<'_> {
    pub(super) fn take<'a>(capacity: usize) -> Headers<'a> {
        let mut headers = HEADERS.try_with(Cell::take).unwrap_or_default();
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
pub(super) unsafe fn append_headers(
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

/// A record as C sees, and may change, it.
pub(super) fn lend(
    record: &ProducerRecord<'_>,
    headers: &[producer_header_t],
) -> producer_record_t {
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    producer_record_t {
        topic: producer_slice_t::of(record.topic.as_bytes()),
        key: producer_slice_t::of_option(record.key),
        value: producer_slice_t::of_option(record.value),
        headers: if headers.is_empty() { ptr::null() } else { headers.as_ptr() },
        header_count: headers.len(),
        timestamp_ms: record.timestamp_ms.unwrap_or(0),
        partition: record.partition.unwrap_or(0),
        flags: flag(record.partition.is_some(), PRODUCER_RECORD_HAS_PARTITION)
            | flag(record.timestamp_ms.is_some(), PRODUCER_RECORD_HAS_TIMESTAMP)
            | flag(record.as_is, PRODUCER_RECORD_AS_IS),
        tag: record.tag,
        timeout_ms: i32::try_from(record.timeout_ms).unwrap_or(i32::MAX),
        reserved: 0,
        extension: ptr::null(),
    }
}

/// One header as C sees it.
pub(super) fn lend_header(header: &Header<'_>) -> producer_header_t {
    producer_header_t {
        key: producer_slice_t::of(header.key),
        value: producer_slice_t::of_option(header.value),
    }
}

/// All of them, in the arena.
pub(super) fn lend_headers<'a>(
    headers: &[Header<'_>],
    arena: &'a Arena,
) -> Result<&'a [producer_header_t]> {
    if headers.is_empty() {
        return Ok(&[]);
    }
    Ok(arena.collect(headers.iter().map(lend_header))?)
}

/// A record that was lent to C, as it comes back; `was` and `headers` are what it was made of.
///
/// # Safety
/// As in `convert.rs`, as long as the arena lives.
pub(super) unsafe fn take_back<'a>(
    lent: &producer_record_t,
    was: &ProducerRecord<'a>,
    headers: &[producer_header_t],
    arena: &'a Arena,
) -> Result<ProducerRecord<'a>> {
    let place = Place(None);
    let same = lent.header_count == headers.len()
        && (headers.is_empty() || ptr::eq(lent.headers, headers.as_ptr()));
    if same {
        // SAFETY: the caller's promise, here and below.
        return unsafe { convert(lent, was.headers, place) };
    }
    // SAFETY: the same.
    let from = unsafe { array(lent.headers, lent.header_count, Field(place, "headers"))? };
    let to = arena.collect(std::iter::repeat_n(NO_HEADER, from.len()))?;
    for (index, (to, from)) in to.iter_mut().zip(from).enumerate() {
        // SAFETY: the same.
        *to = unsafe { convert_header(from, index, place)? };
    }
    // SAFETY: the same.
    unsafe { convert(lent, to, place) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zeroed() -> producer_record_t {
        producer_record_t {
            topic: producer_slice_t::of(b"topic"),
            key: producer_slice_t::NULL,
            value: producer_slice_t::NULL,
            headers: ptr::null(),
            header_count: 0,
            timestamp_ms: 0,
            partition: 0,
            flags: 0,
            tag: 0,
            timeout_ms: 0,
            reserved: 0,
            extension: ptr::null(),
        }
    }

    fn header(key: &[u8], value: Option<&[u8]>) -> producer_header_t {
        producer_header_t {
            key: producer_slice_t::of(key),
            value: producer_slice_t::of_option(value),
        }
    }

    #[test]
    fn a_zeroed_record_with_a_topic_means_the_defaults() {
        let check = |record: &ProducerRecord<'_>| {
            assert_eq!(record.topic, "topic");
            assert_eq!((record.partition, record.timestamp_ms, record.tag), (None, None, 0));
            assert_eq!((record.key, record.value, record.headers.len()), (None, None, 0));
            Ok(())
        };
        // SAFETY: a whole record.
        unsafe { with_record(&zeroed(), check) }.unwrap();
    }

    #[test]
    fn flags_say_what_is_set() {
        let mut record = zeroed();
        (record.partition, record.timestamp_ms, record.tag) = (3, 77, u64::MAX);
        let seen =
            |record: &ProducerRecord<'_>| Ok((record.partition, record.timestamp_ms, record.tag));
        for (flags, partition, timestamp) in
            [(0, None, None), (1, Some(3), None), (2, None, Some(77)), (7, Some(3), Some(77))]
        {
            record.flags = flags;
            // SAFETY: a whole record.
            let got = unsafe { with_record(&raw const record, seen) }.unwrap();
            assert_eq!(got, (partition, timestamp, u64::MAX));
        }
    }

    #[test]
    fn headers_are_converted_on_the_stack_and_beyond() {
        for count in [1, STACK_HEADERS, STACK_HEADERS + 1, 3 * KEPT_HEADERS] {
            let keys: Vec<String> = (0..count).map(|i| format!("key {i}")).collect();
            let value = |i: usize| (!i.is_multiple_of(3)).then_some(keys[i].as_bytes());
            let headers: Vec<_> =
                (0..count).map(|i| header(keys[i].as_bytes(), value(i))).collect();
            let mut record = zeroed();
            (record.headers, record.header_count) = (headers.as_ptr(), count);
            let check = |record: &ProducerRecord<'_>| {
                assert_eq!(record.headers.len(), count);
                for (i, header) in record.headers.iter().enumerate() {
                    assert_eq!((header.key, header.value), (keys[i].as_bytes(), value(i)));
                }
                Ok(())
            };
            // SAFETY: a whole record with `count` headers.
            unsafe { with_record(&raw const record, check) }.unwrap();
        }
    }

    #[test]
    fn a_thread_keeps_the_memory_of_its_headers_within_limits() {
        let address = |capacity: usize| {
            let headers = Headers::take(capacity);
            (headers.0.as_ptr() as usize, headers.0.capacity())
        };
        let (first, _) = address(100);
        assert_eq!(address(50).0, first);
        assert!(address(KEPT_HEADERS + 1).1 > KEPT_HEADERS);
        assert_eq!(address(0).1, 0);
    }

    #[test]
    fn messages_say_which_record_and_which_header() {
        let (bad, good) = (header(b"\xff", None), header("\u{e4}".as_bytes(), Some(b"")));
        let both = [good, bad];
        let mut record = zeroed();
        (record.headers, record.header_count) = (both.as_ptr(), 2);
        // SAFETY: a whole record with two headers.
        let error = unsafe { with_record(&raw const record, |_| Ok(())) }.unwrap_err();
        assert!(error.message.starts_with("`record.headers[1].key` is not UTF-8"), "{error}");
        let mut headers = Vec::new();
        // SAFETY: the same.
        let error = unsafe { append_headers(&record, 7, &mut headers) }.unwrap_err();
        assert!(error.message.starts_with("`records[7].headers[1].key` is not"), "{error}");
    }
}
