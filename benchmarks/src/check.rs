//! Verifies record batches with code that shares nothing with the library.

use std::collections::HashMap;

/// Bytes of a batch before its records.
pub const HEADER: usize = 61;
/// Where the part of the header that the checksum covers begins.
const COVERED: usize = 21;
/// What `batch_length` does not count: the base offset and itself.
const BEFORE_LENGTH: usize = 12;

/// A batch's header.
pub struct Header {
    bytes: [u8; HEADER],
    length: i32,
    magic: u8,
    crc: u32,
    attributes: i16,
    last_offset_delta: i32,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    /// The number of records.
    pub count: i32,
}

impl Header {
    /// Takes the fields apart.
    pub fn read(bytes: &[u8; HEADER]) -> Header {
        Header {
            bytes: *bytes,
            length: i32::from_be_bytes(at(bytes, 8)),
            magic: u8::from_be_bytes(at(bytes, 16)),
            crc: u32::from_be_bytes(at(bytes, 17)),
            attributes: i16::from_be_bytes(at(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(at(bytes, 23)),
            producer_id: i64::from_be_bytes(at(bytes, 43)),
            producer_epoch: i16::from_be_bytes(at(bytes, 51)),
            base_sequence: i32::from_be_bytes(at(bytes, 53)),
            count: i32::from_be_bytes(at(bytes, 57)),
        }
    }

    /// The codec of the records; 0: they are not compressed.
    pub fn codec(&self) -> usize {
        usize::try_from(self.attributes & 7).unwrap_or(0)
    }

    /// What is wrong with this batch, whose records are these bytes.
    pub fn verify(&self, records: &[u8]) -> Result<(), String> {
        let length = HEADER - BEFORE_LENGTH + records.len();
        let expect = |what: &str, is: i64, should: i64| {
            if is == should { Ok(()) } else { Err(format!("{what} is {is}, should be {should}")) }
        };
        expect("the batch's length", self.length.into(), i64::try_from(length).unwrap_or(-1))?;
        expect("magic", self.magic.into(), 2)?;
        let covered = self.bytes.get(COVERED..).unwrap_or_default();
        expect("the checksum", self.crc.into(), crc32c(&[covered, records]).into())?;
        expect("the last offset delta", self.last_offset_delta.into(), i64::from(self.count) - 1)?;
        if self.codec() != 0 {
            return Ok(());
        }
        let mut reader = Reader { left: records };
        for delta in 0..i64::from(self.count) {
            record(&mut reader, delta).ok_or_else(|| format!("record {delta} is malformed"))?;
        }
        expect("what follows the last record", i64::try_from(reader.left.len()).unwrap_or(-1), 0)
    }
}

fn at<const N: usize>(bytes: &[u8; HEADER], offset: usize) -> [u8; N] {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// The next sequence number of each partition, per producer and epoch.
#[derive(Default)]
pub struct Sequences {
    next: HashMap<(i64, i16, i32), i32>,
}

impl Sequences {
    /// Refuses a batch of an idempotent producer that does not follow its predecessor.
    pub fn verify(&mut self, partition: i32, header: &Header) -> Result<(), String> {
        if header.producer_id < 0 {
            return Ok(());
        }
        let key = (header.producer_id, header.producer_epoch, partition);
        let next = self.next.entry(key).or_insert(0);
        if *next != header.base_sequence {
            return Err(format!("sequence {} comes where {next} is due", header.base_sequence));
        }
        let end = next.wrapping_add(header.count);
        *next = if end < 0 { end.wrapping_sub(i32::MIN) } else { end };
        Ok(())
    }
}

/// Reads one record; none if it is malformed or its offset is not `delta`.
fn record(reader: &mut Reader<'_>, delta: i64) -> Option<()> {
    let length = usize::try_from(reader.varint()?).ok()?;
    let mut inside = Reader { left: reader.take(length)? };
    inside.take(1)?;
    inside.varint()?;
    if inside.varint()? != delta {
        return None;
    }
    inside.bytes()?;
    inside.bytes()?;
    for _ in 0..u32::try_from(inside.varint()?).ok()? {
        // A header's key is never null.
        let key = usize::try_from(inside.varint()?).ok()?;
        inside.take(key)?;
        inside.bytes()?;
    }
    inside.left.is_empty().then_some(())
}

struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(length)?;
        self.left = left;
        Some(taken)
    }

    /// A zigzag-encoded VARINT or VARLONG.
    fn varint(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        None
    }

    /// A length and as many bytes; -1 is null.
    fn bytes(&mut self) -> Option<()> {
        match self.varint()? {
            -1 => Some(()),
            length => self.take(usize::try_from(length).ok()?).map(|_| ()),
        }
    }
}

/// CRC-32C of the pieces, one after another: a table of bytes, as in the definition.
fn crc32c(pieces: &[&[u8]]) -> u32 {
    static TABLE: [u32; 256] = table();
    let bytes = pieces.iter().flat_map(|piece| piece.iter());
    !bytes.fold(u32::MAX, |crc, &byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ TABLE.get(usize::from(low ^ byte)).copied().unwrap_or(0)
    })
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn table() -> [u32; 256] {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [0; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of one record without key, value "x"; its header's checksum is right.
    fn batch() -> ([u8; HEADER], Vec<u8>) {
        let records = vec![14, 0, 0, 0, 1, 2, b'x', 0];
        let mut header = [0; HEADER];
        header[8..12].copy_from_slice(&(49 + 8_i32).to_be_bytes());
        header[16] = 2;
        header[43..57].copy_from_slice(&[0xff; 14]);
        header[57..61].copy_from_slice(&1_i32.to_be_bytes());
        let crc = crc32c(&[&header[COVERED..], &records]);
        header[17..21].copy_from_slice(&crc.to_be_bytes());
        (header, records)
    }

    #[test]
    fn crc_of_the_definition() {
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
    }

    #[test]
    fn a_right_batch_passes_and_every_flipped_bit_is_seen() {
        let (header, records) = batch();
        assert_eq!(Header::read(&header).verify(&records), Ok(()));
        // The base offset and the leader epoch lie outside of the checksum.
        for byte in (8..12).chain(16..HEADER) {
            for bit in 0..8 {
                let mut wrong = header;
                wrong[byte] ^= 1 << bit;
                assert!(Header::read(&wrong).verify(&records).is_err(), "byte {byte} bit {bit}");
            }
        }
        for byte in 0..records.len() {
            let mut wrong = records.clone();
            wrong[byte] ^= 1;
            assert!(Header::read(&header).verify(&wrong).is_err(), "record byte {byte}");
        }
    }

    #[test]
    fn a_wrong_record_under_a_right_checksum_is_seen() {
        for (place, value) in [(0, 12), (3, 2), (4, 3), (5, 4), (7, 2)] {
            let (mut header, mut records) = batch();
            records[place] = value;
            let crc = crc32c(&[&header[COVERED..], &records]);
            header[17..21].copy_from_slice(&crc.to_be_bytes());
            assert!(Header::read(&header).verify(&records).is_err(), "byte {place}");
        }
    }

    #[test]
    fn sequences_follow_each_other() {
        let (mut bytes, _) = batch();
        bytes[43..51].copy_from_slice(&7_i64.to_be_bytes());
        let mut sequences = Sequences::default();
        let mut send = |sequence: i32, count: i32| {
            bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            sequences.verify(3, &Header::read(&bytes)).is_ok()
        };
        assert!(send(0, i32::MAX));
        assert!(!send(0, 1));
        assert!(send(i32::MAX, 2));
        assert!(send(1, 1));
    }
}
