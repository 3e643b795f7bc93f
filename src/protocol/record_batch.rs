//! Record batches, format v2 (KIP-98): 61 header bytes and the records area.
//!
//! Writing is cut in two. A record is encoded by the thread that sends it, in one pass into memory
//! that was reserved by arithmetic ([`Record`]); the header is stamped when the batch leaves
//! ([`BatchHeader::encode`]), from the CRC of the records area and a shift factor, so that no
//! record is read again. Reading ([`RecordBatch`], [`RecordReader`]) borrows and checks everything;
//! a record it has given is right to its last header.

use super::codec::Reader;
use super::compression::{Codec, decompress};
use super::crc32c::{self, ShiftFactor};
use crate::error::{Error, Result, status};
use crate::record::Header;
use std::borrow::Cow;

/// The bytes of a batch's header.
pub const BATCH_HEADER_LEN: usize = 61;
/// The most a record takes beside its key, value and headers (and their lengths).
pub const MAX_RECORD_OVERHEAD: usize = 21;
/// The bytes before those that `batchLength` counts.
const LOG_OVERHEAD: usize = 12;
/// The CRC covers what comes from here on.
const CRC_FROM: usize = 21;
/// The format's number.
const MAGIC: i8 = 2;

fn malformed(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(status::PROTOCOL, message)
}

/// Bits of a batch's attributes.
pub mod attributes {
    /// The compression codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub const CODEC: i16 = 7;
    /// The timestamps are the broker's.
    pub const LOG_APPEND_TIME: i16 = 1 << 3;
    /// Part of a transaction.
    pub const TRANSACTIONAL: i16 = 1 << 4;
    /// A marker of the broker's.
    pub const CONTROL: i16 = 1 << 5;
}

/// A batch's header without its lengths and checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record; a producer writes 0.
    pub base_offset: i64,
    /// Outside of the CRC; a producer writes -1, the broker what it is.
    pub partition_leader_epoch: i32,
    /// See [`attributes`].
    pub attributes: i16,
    /// The last record's offset minus the first's.
    pub last_offset_delta: i32,
    /// The first record's timestamp.
    pub base_timestamp: i64,
    /// The highest timestamp.
    pub max_timestamp: i64,
    /// -1: not idempotent.
    pub producer_id: i64,
    /// -1: not idempotent.
    pub producer_epoch: i16,
    /// The first record's sequence number; -1: not idempotent.
    pub base_sequence: i32,
    /// How many records there are.
    pub record_count: i32,
}

impl Default for BatchHeader {
    fn default() -> Self {
        BatchHeader {
            base_offset: 0,
            partition_leader_epoch: -1,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        }
    }
}

impl BatchHeader {
    /// The header's bytes for a records area of this length, with this CRC, whose length has this
    /// factor.
    pub fn encode(
        &self,
        records_len: usize,
        records_crc: u32,
        factor: ShiftFactor,
    ) -> Result<[u8; BATCH_HEADER_LEN]> {
        let batch_length = i32::try_from(records_len + BATCH_HEADER_LEN - LOG_OVERHEAD)
            .map_err(|_| malformed(format!("a batch of {records_len} bytes")))?;
        let mut out = [0; BATCH_HEADER_LEN];
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        out[16..17].copy_from_slice(&MAGIC.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        let crc = crc32c::combine(crc32c::crc32c(&out[CRC_FROM..]), factor, records_crc);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        Ok(out)
    }
}

/// A batch as it was read: a checked header and a borrowed records area.
#[derive(Debug, Clone, Copy)]
pub struct RecordBatch<'a> {
    /// The header.
    pub header: BatchHeader,
    /// The checksum that the header claims.
    pub crc: u32,
    /// The bytes under the checksum.
    checked: &'a [u8],
    /// The records, or one compressed block of them.
    pub records: &'a [u8],
}

impl<'a> RecordBatch<'a> {
    /// The first batch in `bytes`, and what comes behind it. The checksum is not compared: see
    /// [`RecordBatch::check_crc`].
    pub fn split(bytes: &'a [u8]) -> Result<(RecordBatch<'a>, &'a [u8])> {
        let mut r = Reader::new(bytes, 0, false);
        let (base_offset, batch_length) = (r.i64()?, r.i32()?);
        let batch = usize::try_from(batch_length)
            .ok()
            .filter(|length| *length >= BATCH_HEADER_LEN - LOG_OVERHEAD)
            .ok_or_else(|| malformed(format!("a batch length of {batch_length}")))?;
        let mut r = Reader::new(r.take(batch)?, 0, false);
        let partition_leader_epoch = r.i32()?;
        let magic = r.i8()?;
        if magic != MAGIC {
            return Err(malformed(format!("a record batch of format {magic} (not {MAGIC})")));
        }
        let crc = r.u32()?;
        let checked = r.rest();
        let header = BatchHeader {
            base_offset,
            partition_leader_epoch,
            attributes: r.i16()?,
            last_offset_delta: r.i32()?,
            base_timestamp: r.i64()?,
            max_timestamp: r.i64()?,
            producer_id: r.i64()?,
            producer_epoch: r.i16()?,
            base_sequence: r.i32()?,
            record_count: r.i32()?,
        };
        let batch_end = LOG_OVERHEAD + batch;
        let rest = bytes.get(batch_end..).unwrap_or_default();
        Ok((RecordBatch { header, crc, checked, records: r.rest() }, rest))
    }

    /// Whether the checksum is right.
    pub fn check_crc(&self) -> bool {
        crc32c::crc32c(self.checked) == self.crc
    }

    /// The records area, decompressed if it is not plain: at most `limit` bytes.
    pub fn plain(&self, limit: usize) -> Result<Cow<'a, [u8]>> {
        let codec = Codec::of(self.header.attributes)?;
        if codec == Codec::None {
            return Ok(Cow::Borrowed(self.records));
        }
        let mut plain = Vec::new();
        decompress(codec, self.records, limit, &mut plain)?;
        Ok(Cow::Owned(plain))
    }

    /// The records of an uncompressed batch.
    pub fn records(&self) -> RecordReader<'a> {
        RecordReader::new(self.records)
    }
}

/// A record on its way into a batch.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Its timestamp minus the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Its place in the batch, from 0.
    pub offset_delta: i32,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
    /// In order.
    pub headers: &'a [Header<'a>],
}

/// The bytes of key, value and headers with their lengths: the part of a record's length that
/// depends on nothing in the batch, so that it can be known before the batch's lock is taken.
/// Saturates.
pub fn payload_len(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> usize {
    let mut len = nullable_len(key).saturating_add(nullable_len(value));
    len += varint_len(headers.len());
    for header in headers {
        len = len.saturating_add(nullable_len(Some(header.key)));
        len = len.saturating_add(nullable_len(header.value));
    }
    len
}

/// The bytes of a record without its own length, given [`payload_len`].
pub fn body_len(timestamp_delta: i64, offset_delta: i32, payload_len: usize) -> usize {
    let deltas = bits_len(zigzag(timestamp_delta)) + bits_len(zigzag(offset_delta.into()));
    payload_len.saturating_add(1 + deltas)
}

/// The bytes of a record, given [`body_len`]. Where it is above 5 + `i32::MAX` there is no such
/// record.
pub fn record_len(body_len: usize) -> usize {
    body_len.saturating_add(varint_len(body_len))
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => 1,
        Some(bytes) => bytes.len().saturating_add(varint_len(bytes.len())),
    }
}

/// The bytes of a length (which is not negative) as a varint.
fn varint_len(length: usize) -> usize {
    bits_len((length as u64) << 1)
}

/// The bytes of an unsigned varint: its bits divided by 7, rounded up, at least 1; without a
/// branch.
fn bits_len(value: u64) -> usize {
    ((70 - (value | 1).leading_zeros()) / 7) as usize
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

impl Record<'_> {
    /// The bytes of the record without its own length.
    pub fn body_len(&self) -> usize {
        let payload = payload_len(self.key, self.value, self.headers);
        body_len(self.timestamp_delta, self.offset_delta, payload)
    }

    /// All bytes of the record.
    pub fn encoded_len(&self) -> usize {
        record_len(self.body_len())
    }

    /// Encodes the record to the front of `out`, given its [`Record::body_len`], and says how many
    /// bytes that was; `None` if it doesn't fit (what was written then means nothing).
    #[inline]
    pub fn encode(&self, body_len: usize, out: &mut [u8]) -> Option<usize> {
        i32::try_from(body_len).ok()?;
        let mut out = Output { out, at: 0 };
        out.length(body_len)?;
        out.byte(0)?;
        out.varint(zigzag(self.timestamp_delta))?;
        out.varint(zigzag(self.offset_delta.into()))?;
        out.nullable(self.key)?;
        out.nullable(self.value)?;
        out.length(self.headers.len())?;
        for header in self.headers {
            out.nullable(Some(header.key))?;
            out.nullable(header.value)?;
        }
        Some(out.at)
    }
}

/// The memory that a record is encoded into.
struct Output<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Output<'_> {
    #[inline(always)]
    fn byte(&mut self, byte: u8) -> Option<()> {
        *self.out.get_mut(self.at)? = byte;
        self.at += 1;
        Some(())
    }

    /// Lengths and deltas mostly take one byte or two; those are written without a loop.
    #[inline(always)]
    fn varint(&mut self, bits: u64) -> Option<()> {
        if bits < 1 << 7 {
            return self.byte(bits.to_le_bytes()[0]);
        }
        if bits < 1 << 14 {
            let two = self.out.get_mut(self.at..)?.first_chunk_mut::<2>()?;
            *two = [bits.to_le_bytes()[0] | 0x80, (bits >> 7).to_le_bytes()[0]];
            self.at += 2;
            return Some(());
        }
        self.long_varint(bits)
    }

    #[inline(never)]
    fn long_varint(&mut self, mut bits: u64) -> Option<()> {
        while bits >= 0x80 {
            self.byte(bits.to_le_bytes()[0] | 0x80)?;
            bits >>= 7;
        }
        self.byte(bits.to_le_bytes()[0])
    }

    #[inline(always)]
    fn length(&mut self, length: usize) -> Option<()> {
        self.varint((length as u64) << 1)
    }

    #[inline(always)]
    fn nullable(&mut self, bytes: Option<&[u8]>) -> Option<()> {
        // -1 in zigzag.
        let Some(bytes) = bytes else { return self.byte(1) };
        self.length(bytes.len())?;
        let end = self.at + bytes.len();
        self.out.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }
}

/// A record as it was read.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Its timestamp minus the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Its place in the batch.
    pub offset_delta: i32,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
    /// In order.
    pub headers: Headers<'a>,
}

/// The headers of a record: an iterator over bytes that were checked when the record was read.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    count: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.count = self.count.checked_sub(1)?;
        let mut r = Reader::new(self.rest, 0, false);
        let header = read_header(&mut r).ok();
        self.rest = r.rest();
        header
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Headers<'_> {}

fn read_nullable<'a>(r: &mut Reader<'a>) -> Result<Option<&'a [u8]>> {
    match r.varint()? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length)
                .map_err(|_| malformed(format!("a length of {length} in a record")))?;
            r.take(length).map(Some)
        }
    }
}

fn read_header<'a>(r: &mut Reader<'a>) -> Result<Header<'a>> {
    let key = read_nullable(r)?.ok_or_else(|| malformed("a record header whose key is null"))?;
    Ok(Header { key, value: read_nullable(r)? })
}

/// Reads records one after another from a slice: a records area, or one slab of it (records don't
/// straddle slabs). After an error it gives nothing more.
#[derive(Debug, Clone)]
pub struct RecordReader<'a> {
    rest: &'a [u8],
}

impl<'a> RecordReader<'a> {
    /// Reads from the start of `records`.
    pub fn new(records: &'a [u8]) -> RecordReader<'a> {
        RecordReader { rest: records }
    }

    /// The bytes that were not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn read(&mut self) -> Result<RecordView<'a>> {
        let mut outer = Reader::new(self.rest, 0, false);
        let length = outer.varint()?;
        let body = usize::try_from(length)
            .map_err(|_| malformed(format!("a record of {length} bytes")))
            .and_then(|length| outer.take(length))?;
        let mut r = Reader::new(body, 0, false);
        r.i8()?;
        let (timestamp_delta, offset_delta) = (r.varlong()?, r.varint()?);
        let (key, value) = (read_nullable(&mut r)?, read_nullable(&mut r)?);
        let written = r.varint()?;
        let count = usize::try_from(written)
            .map_err(|_| malformed(format!("{written} headers of a record")))?;
        let headers = Headers { count, rest: r.rest() };
        for _ in 0..count {
            read_header(&mut r)?;
        }
        if r.remaining() != 0 {
            return Err(malformed(format!("a record with {} bytes too many", r.remaining())));
        }
        self.rest = outer.rest();
        Ok(RecordView { timestamp_delta, offset_delta, key, value, headers })
    }
}

impl<'a> Iterator for RecordReader<'a> {
    type Item = Result<RecordView<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

/// The records of several slices, as one.
pub fn records_of<'a, S>(slabs: S) -> impl Iterator<Item = Result<RecordView<'a>>>
where
    S: IntoIterator<Item = &'a [u8]>,
{
    slabs.into_iter().flat_map(RecordReader::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.chars().map(|c| c.to_digit(16).unwrap().try_into().unwrap()).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// Encodes as a producer does: lengths, one pass per record, seal, stamp.
    fn encode(mut header: BatchHeader, records: &[Record<'_>]) -> Vec<u8> {
        let mut area = Vec::new();
        for record in records {
            let (body, at) = (record.body_len(), area.len());
            area.resize(at + record.encoded_len(), 0xaa);
            assert_eq!(record.encode(body, &mut area[at..]), Some(record.encoded_len()));
        }
        header.record_count = i32::try_from(records.len()).unwrap();
        header.last_offset_delta = header.record_count - 1;
        let (crc, factor) = (crc32c::crc32c(&area), ShiftFactor::for_len(area.len()));
        let mut batch = header.encode(area.len(), crc, factor).unwrap().to_vec();
        batch.extend_from_slice(&area);
        batch
    }

    fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Record<'a> {
        Record { timestamp_delta: 0, offset_delta: 0, key, value, headers: &[] }
    }

    /// By rskafka. It writes 0 as leader epoch, which is outside of the checksum.
    #[test]
    fn golden_batch_of_rskafka() {
        let golden = unhex(concat!(
            "00000000000000000000004b00000000022724fecd0000000000000000000061d59b770000000061d5",
            "9b77ffffffffffffffffffffffffffff0000000132000000001668656c6c6f206b61666b610206666f",
            "6f06626172"
        ));
        let headers = [Header { key: b"foo", value: Some(b"bar") }];
        let hello = Record { headers: &headers, ..record(Some(b""), Some(b"hello kafka")) };
        let time = 0x61d5_9b77;
        let header =
            BatchHeader { base_timestamp: time, max_timestamp: time, ..Default::default() };
        let ours = encode(header, &[hello]);
        assert_eq!(ours.len(), 87);
        assert_eq!(ours[..12], golden[..12]);
        assert_eq!(ours[12..16], [0xff; 4]);
        assert_eq!(ours[16..], golden[16..]);
    }

    #[test]
    fn golden_batch_of_nulls() {
        let golden = unhex(concat!(
            "000000000000000000000038ffffffff0234bb92730000000000000000000000000000000000000000",
            "0000ffffffffffffffffffffffffffff000000010c000000010100"
        ));
        assert_eq!(encode(BatchHeader::default(), &[record(None, None)]), golden);
    }

    #[test]
    fn golden_batch_of_an_idempotent_producer() {
        let golden = unhex(concat!(
            "00000000000000000000004bffffffff02dd697bd600000000000200000000000003e800000000000003",
            "e90000000000000fa000077ffffffe000000030e000000026b0000120002020001020268010e00010401",
            "027600"
        ));
        let headers = [Header { key: b"h", value: None }];
        let records = [
            record(Some(b"k"), Some(b"")),
            Record {
                timestamp_delta: 1,
                offset_delta: 1,
                headers: &headers,
                ..record(Some(b""), None)
            },
            Record { timestamp_delta: -1, offset_delta: 2, ..record(None, Some(b"v")) },
        ];
        let header = BatchHeader {
            base_timestamp: 1000,
            max_timestamp: 1001,
            producer_id: 4000,
            producer_epoch: 7,
            base_sequence: 2_147_483_646,
            ..Default::default()
        };
        assert_eq!(hex(&encode(header, &records)), hex(&golden));
    }

    #[test]
    fn reads_what_it_wrote() {
        let headers = [Header { key: b"", value: Some(b"") }, Header { key: b"k", value: None }];
        let records = [
            Record { headers: &headers, ..record(Some(b""), None) },
            Record { timestamp_delta: i64::MIN, offset_delta: i32::MAX, ..record(None, Some(b"")) },
        ];
        let mut bytes = encode(BatchHeader { base_offset: 9, ..Default::default() }, &records);
        bytes.extend_from_slice(b"next");
        let (batch, rest) = RecordBatch::split(&bytes).unwrap();
        assert_eq!(rest, b"next");
        assert!(batch.check_crc());
        assert_eq!((batch.header.base_offset, batch.header.record_count), (9, 2));
        assert_eq!(batch.header.partition_leader_epoch, -1);
        let read: Vec<RecordView<'_>> = batch.records().map(Result::unwrap).collect();
        assert_eq!((read[0].key, read[0].value), (Some(&b""[..]), None));
        assert_eq!(read[0].headers.len(), 2);
        assert!(read[0].headers.eq(headers));
        assert_eq!((read[1].key, read[1].value), (None, Some(&b""[..])));
        assert_eq!((read[1].timestamp_delta, read[1].offset_delta), (i64::MIN, i32::MAX));
        assert_eq!(read[1].headers.count(), 0);
    }

    #[test]
    fn reads_slab_after_slab() {
        let mut slabs = Vec::new();
        for i in 0..4 {
            let record = Record { offset_delta: i, ..record(None, Some(b"v")) };
            let mut slab = vec![0; record.encoded_len()];
            record.encode(record.body_len(), &mut slab).unwrap();
            slabs.push(slab);
        }
        let offsets = records_of(slabs.iter().map(Vec::as_slice)).map(|r| r.unwrap().offset_delta);
        assert_eq!(offsets.collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn changed_bytes_have_another_sum() {
        let bytes = encode(BatchHeader::default(), &[record(Some(b"key"), Some(b"value"))]);
        for at in 21..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(!RecordBatch::split(&changed).unwrap().0.check_crc(), "byte {at}");
        }
        let mut epoch = bytes;
        epoch[12..16].copy_from_slice(&7_i32.to_be_bytes());
        assert!(RecordBatch::split(&epoch).unwrap().0.check_crc());
    }

    #[test]
    fn cut_and_wrong_batches_are_errors() {
        let bytes = encode(BatchHeader::default(), &[record(Some(b"key"), Some(b"value"))]);
        for length in 0..bytes.len() {
            assert!(RecordBatch::split(&bytes[..length]).is_err(), "{length} bytes");
        }
        for batch_length in [i32::MIN, -1, 0, 48, i32::MAX] {
            let mut wrong = bytes.clone();
            wrong[8..12].copy_from_slice(&batch_length.to_be_bytes());
            assert!(RecordBatch::split(&wrong).is_err(), "batch length {batch_length}");
        }
        for magic in [0, 1, 3, 0xff] {
            let mut wrong = bytes.clone();
            wrong[16] = magic;
            assert!(RecordBatch::split(&wrong).is_err(), "magic {magic}");
        }
        let header = BatchHeader::default();
        let too_long = i32::MAX as usize;
        assert!(header.encode(too_long, 0, ShiftFactor::for_len(too_long)).is_err());
    }

    #[test]
    fn wrong_records_are_errors_and_the_last_thing_read() {
        let cases: [(&str, &[u8]); 12] = [
            ("length -1", &[0x01]),
            ("length beyond the end", &[0x0e, 0, 0, 0, 1, 1, 0]),
            ("length of 6 bytes", &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
            ("no attributes", &[0x00]),
            ("key length -2", &[0x0c, 0, 0, 0, 3, 1, 0]),
            ("key beyond the end", &[0x0c, 0, 0, 0, 8, 1, 0]),
            ("value beyond the end", &[0x0c, 0, 0, 0, 1, 4, 0]),
            ("no header count", &[0x0a, 0, 0, 0, 1, 1]),
            ("header count -1", &[0x0c, 0, 0, 0, 1, 1, 1]),
            ("a header missing", &[0x0c, 0, 0, 0, 1, 1, 2]),
            ("header key null", &[0x10, 0, 0, 0, 1, 1, 2, 1, 1]),
            ("a byte too many", &[0x0e, 0, 0, 0, 1, 1, 0, 0]),
        ];
        for (what, bytes) in cases {
            let mut reader = RecordReader::new(bytes);
            let error = reader.next().unwrap().expect_err(what);
            assert_eq!(error.status, status::PROTOCOL, "{what}");
            assert!(reader.next().is_none(), "{what}");
        }
        let huge_count = [0x14, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f];
        assert!(RecordReader::new(&huge_count).next().unwrap().is_err());
        assert!(RecordReader::new(&[0x0c, 0, 0, 0, 1, 1, 0]).next().unwrap().is_ok());
    }

    #[test]
    fn too_little_room_is_none() {
        let headers = [Header { key: b"header", value: Some(b"its value") }];
        let record = Record {
            timestamp_delta: 100,
            offset_delta: 10_000,
            headers: &headers,
            ..record(Some(b"key"), Some(&[7; 300]))
        };
        let (body, len) = (record.body_len(), record.encoded_len());
        let mut room = vec![0; len + 8];
        for length in 0..len {
            assert_eq!(record.encode(body, &mut room[..length]), None, "{length} bytes");
        }
        assert_eq!(record.encode(body, &mut room), Some(len));
        assert_eq!(record.encode(1 << 31, &mut room), None);
    }

    #[test]
    fn size_bounds() {
        let extreme =
            Record { timestamp_delta: i64::MIN, offset_delta: i32::MIN, ..record(None, None) };
        let payload = payload_len(None, None, &[]);
        assert_eq!(payload, 3);
        // All but the five bytes that the length of a huge record takes.
        assert_eq!(extreme.body_len() - payload, MAX_RECORD_OVERHEAD - 5);
        assert_eq!(record_len(i32::MAX as usize) - i32::MAX as usize, 5);
        for bits in 0..64 {
            let value = 1_u64 << bits;
            assert_eq!(bits_len(value), bits / 7 + 1);
            assert_eq!(bits_len(value - 1), (bits.max(1) - 1) / 7 + 1);
        }
        assert_eq!(record_len(usize::MAX), usize::MAX);
    }

    proptest! {
        #[test]
        fn arithmetic_is_what_encoding_takes(
            timestamp_delta: i64,
            offset_delta: i32,
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
            value_len in proptest::option::of(0_usize..20_000),
            header_len in 0_usize..200,
            headers in 0_usize..100,
        ) {
            let value = value_len.map(|length| vec![1; length]);
            let header_key = vec![b'h'; header_len];
            let headers = vec![Header { key: &header_key, value: value.as_deref() }; headers];
            let record = Record {
                timestamp_delta,
                offset_delta,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers,
            };
            let mut out = vec![0; record.encoded_len() + 1];
            prop_assert_eq!(record.encode(record.body_len(), &mut out), Some(out.len() - 1));
            let read = RecordReader::new(&out[..out.len() - 1]).next().unwrap().unwrap();
            prop_assert_eq!(read.timestamp_delta, timestamp_delta);
            prop_assert_eq!(read.offset_delta, offset_delta);
            prop_assert_eq!(read.key, key.as_deref());
            prop_assert_eq!(read.value, value.as_deref());
            prop_assert!(read.headers.eq(headers));
        }

        #[test]
        fn any_bytes_are_read_without_harm(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            for record in RecordReader::new(&bytes).flatten() {
                prop_assert!(record.headers.count() <= bytes.len());
            }
            if let Ok((batch, _)) = RecordBatch::split(&bytes) {
                batch.records().for_each(drop);
            }
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
