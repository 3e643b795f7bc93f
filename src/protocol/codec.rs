//! The primitive types of the protocol: fixed integers, varints, strings, bytes, arrays, tagged
//! fields.
//!
//! A [`Reader`] and a [`Writer`] know the version of the message they work on and whether it is
//! flexible (KIP-482), so the messages name each field once and the same call reads `STRING` or
//! `COMPACT_STRING`. Reading never panics and never reserves more than the remaining bytes could
//! fill: an array's count is compared with the bytes left divided by the least an element takes.
//! Unknown tagged fields are skipped.

mod writer;

use bytes::Bytes;

pub use writer::{Tags, Writer};

use crate::error::{Error, Result, status};

/// A topic's id; zeros mean none.
pub type Uuid = [u8; 16];

/// Lengths of `STRING` are an `int16`.
const MAX_STRING: usize = i16::MAX as usize;

fn malformed(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(status::PROTOCOL, message)
}

/// Reads a message (or one tagged field of it) from front to back.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// What `rest` is a part of, if bytes may be shared instead of copied.
    shared: Option<&'a Bytes>,
    version: i16,
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// Reads from a plain slice; [`Reader::records`] copies.
    pub fn new(bytes: &'a [u8], version: i16, flexible: bool) -> Reader<'a> {
        Reader { rest: bytes, shared: None, version, flexible }
    }

    /// Reads from shared bytes; [`Reader::records`] copies nothing.
    pub fn shared(bytes: &'a Bytes, version: i16, flexible: bool) -> Reader<'a> {
        Reader { rest: bytes, shared: Some(bytes), version, flexible }
    }

    /// The version of the message.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether the message uses compact types and tagged fields.
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The bytes that are left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or_else(|| {
            malformed(format!("a field of {count} bytes, but {} are left", self.rest.len()))
        })?;
        self.rest = rest;
        Ok(head)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| {
            malformed(format!("a field of {N} bytes, but {} are left", self.rest.len()))
        })?;
        self.rest = rest;
        Ok(*head)
    }

    /// `BOOLEAN`: any byte but 0 is true.
    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    /// `INT8`.
    pub fn i8(&mut self) -> Result<i8> {
        self.fixed().map(i8::from_be_bytes)
    }

    /// `INT16`.
    pub fn i16(&mut self) -> Result<i16> {
        self.fixed().map(i16::from_be_bytes)
    }

    /// `INT32`.
    pub fn i32(&mut self) -> Result<i32> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// `UINT32`.
    pub fn u32(&mut self) -> Result<u32> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// `INT64`.
    pub fn i64(&mut self) -> Result<i64> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// `UUID`.
    pub fn uuid(&mut self) -> Result<Uuid> {
        self.fixed()
    }

    /// `UNSIGNED_VARINT`: at most 5 bytes and 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32> {
        let value = self.varint_bits(5)?;
        u32::try_from(value).map_err(|_| malformed("a varint of more than 32 bits"))
    }

    /// `VARINT`: zigzag, at most 5 bytes.
    pub fn varint(&mut self) -> Result<i32> {
        let zigzag = self.unsigned_varint()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    /// `VARLONG`: zigzag, at most 10 bytes.
    pub fn varlong(&mut self) -> Result<i64> {
        let zigzag = self.varint_bits(10)?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    fn varint_bits(&mut self, most: u32) -> Result<u64> {
        let mut value = 0_u64;
        for index in 0..most {
            let [byte] = self.fixed()?;
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * index;
            // Only the tenth byte can be cut: of its seven bits one fits.
            if (bits << shift) >> shift != bits {
                return Err(malformed("a varint of more than 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed(format!("a varint of more than {most} bytes")))
    }

    /// A compact length or count: what is written is one more, 0 stands for null.
    fn compact(&mut self) -> Result<Option<usize>> {
        let written = self.unsigned_varint()?;
        written.checked_sub(1).map(to_usize).transpose()
    }

    /// A length or count as written in an integer: -1 stands for null.
    fn plain(written: i32) -> Result<Option<usize>> {
        match written {
            -1 => Ok(None),
            _ => usize::try_from(written)
                .map(Some)
                .map_err(|_| malformed(format!("a length of {written}"))),
        }
    }

    fn string_bytes(&mut self) -> Result<Option<&'a [u8]>> {
        let length = if self.flexible { self.compact()? } else { Self::plain(self.i16()?.into())? };
        match length {
            // Kafka's limit holds for compact strings too.
            Some(length) if length > MAX_STRING => {
                Err(malformed(format!("a string of {length} bytes (most: {MAX_STRING})")))
            }
            _ => length.map(|length| self.take(length)).transpose(),
        }
    }

    /// `NULLABLE_STRING`, borrowed.
    pub fn nullable_str(&mut self) -> Result<Option<&'a str>> {
        self.string_bytes()?.map(utf8).transpose()
    }

    /// `STRING`, borrowed.
    pub fn str(&mut self) -> Result<&'a str> {
        self.nullable_str()?.ok_or_else(|| malformed("null where a string must be"))
    }

    /// `NULLABLE_STRING`.
    pub fn nullable_string(&mut self) -> Result<Option<String>> {
        Ok(self.nullable_str()?.map(str::to_owned))
    }

    /// `STRING`.
    pub fn string(&mut self) -> Result<String> {
        self.str().map(str::to_owned)
    }

    /// A nullable string for people: broken UTF-8 is repaired, since a bad character in an
    /// explanation is no reason to lose the response it is in.
    pub fn nullable_text(&mut self) -> Result<Option<String>> {
        Ok(self.string_bytes()?.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    }

    /// `NULLABLE_STRING` with an `int16` length whatever the version: the client id of a request
    /// header.
    pub fn nullable_str16(&mut self) -> Result<Option<&'a str>> {
        let length = Self::plain(self.i16()?.into())?;
        length.map(|length| self.take(length).and_then(utf8)).transpose()
    }

    /// `RECORDS`: nullable; shares the input where it can.
    pub fn records(&mut self) -> Result<Option<Bytes>> {
        let length = if self.flexible { self.compact()? } else { Self::plain(self.i32()?)? };
        let Some(length) = length else { return Ok(None) };
        let bytes = self.take(length)?;
        Ok(Some(match self.shared {
            Some(shared) => shared.slice_ref(bytes),
            None => Bytes::copy_from_slice(bytes),
        }))
    }

    /// A nullable array. `least` is the fewest bytes that an element takes in any version, and not
    /// 0.
    pub fn nullable_array<T>(
        &mut self,
        least: usize,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let count = if self.flexible { self.compact()? } else { Self::plain(self.i32()?)? };
        let Some(count) = count else { return Ok(None) };
        let most = self.rest.len() / least.max(1);
        if count > most {
            return Err(malformed(format!(
                "an array of {count} elements, but the {} bytes left hold at most {most}",
                self.rest.len()
            )));
        }
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// An array that must not be null. `least` as in [`Reader::nullable_array`].
    pub fn array<T>(
        &mut self,
        least: usize,
        element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.nullable_array(least, element)?.ok_or_else(|| malformed("null where an array must be"))
    }

    /// The tagged fields at the end of a structure, if the version has them. `known` is called for
    /// each with a reader limited to that field and leaves those alone that it doesn't know.
    pub fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<()>,
    ) -> Result<()> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.unsigned_varint()?;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = to_usize(self.unsigned_varint()?)?;
            let field = self.take(size)?;
            known(tag, &mut Reader { rest: field, ..self.clone() })?;
        }
        Ok(())
    }

    /// The tagged fields of a structure none of which is known.
    pub fn skip_tags(&mut self) -> Result<()> {
        self.tags(|_, _| Ok(()))
    }
}

fn to_usize(value: u32) -> Result<usize> {
    usize::try_from(value).map_err(|_| malformed("a length beyond the address space"))
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| malformed("a string that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, 0, false)
    }

    fn flexible(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, 0, true)
    }

    #[test]
    fn varints_of_kafka() {
        let varints: [(i32, &[u8]); 13] = [
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (-65, &[0x81, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (-8192, &[0xff, 0x7f]),
            (8192, &[0x80, 0x80, 0x01]),
            (1_048_575, &[0xfe, 0xff, 0x7f]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in varints {
            assert_eq!(plain(bytes).varint().unwrap(), value);
            assert_eq!(plain(bytes).varlong().unwrap(), i64::from(value));
        }
        let mut max = [0xff; 10];
        (max[0], max[9]) = (0xfe, 0x01);
        assert_eq!(plain(&max).varlong().unwrap(), i64::MAX);
        max[0] = 0xff;
        assert_eq!(plain(&max).varlong().unwrap(), i64::MIN);
        for (value, bytes) in
            [(8192, &[0x80, 0x40][..]), (0x7fff_ffff, &[0xff, 0xff, 0xff, 0xff, 0x07])]
        {
            assert_eq!(plain(bytes).unsigned_varint().unwrap(), value);
            let mut out = Writer::new(0, true);
            out.unsigned_varint(value);
            assert_eq!(out.into_vec(), bytes);
        }
    }

    #[test]
    fn varints_too_long_or_cut_are_errors() {
        let six = [0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
        assert!(plain(&six).varint().is_err());
        assert!(plain(&six).unsigned_varint().is_err());
        assert!(plain(&[0x80, 0x80, 0x80, 0x80, 0x10]).unsigned_varint().is_err(), "33 bits");
        let mut eleven = [0x80; 11];
        eleven[10] = 0x01;
        assert!(plain(&eleven).varlong().is_err());
        eleven[9] = 0x02;
        assert!(plain(&eleven[..10]).varlong().is_err(), "65 bits");
        assert!(plain(&[0x80]).varint().is_err());
        assert!(plain(&[]).varint().is_err());
    }

    #[test]
    fn null_is_not_empty() {
        for flexible in [false, true] {
            let mut out = Writer::new(0, flexible);
            out.nullable_string(None).unwrap();
            out.nullable_string(Some("")).unwrap();
            out.records(None).unwrap();
            out.records(Some(b"")).unwrap();
            out.null_array().unwrap();
            out.array_i32(&[]).unwrap();
            let bytes = out.into_vec();
            let mut r = Reader::new(&bytes, 0, flexible);
            assert_eq!(r.nullable_string().unwrap(), None);
            assert_eq!(r.nullable_string().unwrap().as_deref(), Some(""));
            assert_eq!(r.records().unwrap(), None);
            assert_eq!(r.records().unwrap().as_deref(), Some(&b""[..]));
            assert_eq!(r.nullable_array(4, Reader::i32).unwrap(), None);
            assert_eq!(r.nullable_array(4, Reader::i32).unwrap(), Some(vec![]));
            assert_eq!(r.remaining(), 0);
        }
        for null in [plain(&[0xff; 4]), flexible(&[0])] {
            assert!(null.clone().str().is_err());
            assert!(null.clone().array(4, Reader::i32).is_err());
        }
        assert!(Writer::new(0, false).required_string(None).is_err());
    }

    #[test]
    fn lengths_below_null_are_errors() {
        assert!(plain(&[0xff, 0xfe]).nullable_str().is_err());
        assert!(plain(&[0xff, 0xff, 0xff, 0xfe]).records().is_err());
        assert!(plain(&[0x80, 0, 0, 0]).nullable_array(1, Reader::i8).is_err());
    }

    /// A count is refused before the first element is looked at.
    #[test]
    fn counts_beyond_the_bytes_are_errors() {
        let never = |_: &mut Reader<'_>| -> Result<()> { panic!("an element was read") };
        assert!(plain(&[0x7f, 0xff, 0xff, 0xff]).array(1, never).is_err());
        assert!(plain(&[0, 0, 0, 3, 1, 2, 3, 4, 5]).array(2, never).is_err());
        assert!(flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).array(1, never).is_err());
        assert!(plain(&[0, 0, 0, 2, 1, 2, 3, 4]).array(2, Reader::i16).is_ok());
        assert!(flexible(&[3, 1, 2]).array(1, Reader::i8).is_ok());
        assert!(flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).str().is_err());
    }

    #[test]
    fn tags_are_found_skipped_and_limited() {
        let mut out = Writer::new(0, true);
        let mut tags = out.new_tags();
        for (tag, value) in [(0, 7), (1, 8), (500, 9)] {
            tags.add(tag, |w| {
                w.i32(value);
                Ok(())
            })
            .unwrap();
        }
        out.tags(&tags);
        out.i8(42);
        let bytes = out.into_vec();
        let mut found = None;
        let mut r = flexible(&bytes);
        r.tags(|tag, r| {
            if tag == 1 {
                found = Some(r.i32()?);
                assert!(r.i8().is_err(), "a field reads into its neighbour");
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(found, Some(8));
        assert_eq!(r.i8().unwrap(), 42);

        assert!(flexible(&[1, 0, 5, 0]).skip_tags().is_err(), "a size beyond the end");
        assert!(flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f]).skip_tags().is_err());
        assert!(plain(&[]).skip_tags().is_ok(), "old versions have none");
    }

    #[test]
    fn old_versions_write_no_tags() {
        let mut out = Writer::new(0, false);
        let mut tags = out.new_tags();
        tags.add(0, |_| panic!("a field was written")).unwrap();
        out.tags(&tags);
        out.no_tags();
        assert!(out.is_empty());
    }

    #[test]
    fn strings_have_a_limit_and_an_encoding() {
        let longest = "x".repeat(MAX_STRING);
        let longer = "x".repeat(MAX_STRING + 1);
        for flexible in [false, true] {
            assert!(Writer::new(0, flexible).string(&longest).is_ok());
            assert!(Writer::new(0, flexible).string(&longer).is_err());
        }
        let mut compact = Writer::new(0, true);
        compact.records(Some(longer.as_bytes())).unwrap();
        assert!(flexible(&compact.into_vec()).str().is_err());
        assert!(plain(&[0, 1, 0xff]).str().is_err());
        assert!(plain(&[0, 1, 0xff]).nullable_str16().is_err());
        let text = plain(&[0, 2, b'a', 0xff]).nullable_text().unwrap();
        assert_eq!(text.as_deref(), Some("a\u{fffd}"));
    }

    #[test]
    fn records_are_shared_where_they_can_be() {
        let input = Bytes::from_static(&[0, 0, 0, 3, 1, 2, 3]);
        let shared = Reader::shared(&input, 0, false).records().unwrap().unwrap();
        assert_eq!(shared, [1, 2, 3][..]);
        assert_eq!(shared.as_ptr(), input.slice(4..).as_ptr());
        let copied = plain(&input).records().unwrap().unwrap();
        assert_eq!(copied, shared);
    }

    proptest! {
        #[test]
        fn unsigned_varints_come_back(value: u32) {
            let mut out = Writer::new(0, true);
            out.unsigned_varint(value);
            let bytes = out.into_vec();
            let mut r = plain(&bytes);
            prop_assert_eq!(r.unsigned_varint().unwrap(), value);
            prop_assert_eq!(r.remaining(), 0);
        }
    }
}
