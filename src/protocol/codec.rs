//! The primitive types of the protocol: fixed integers, varints, strings, bytes, arrays, tagged fields.
//!
//! A [`Reader`] and a [`Writer`] know the version of the message they work on and whether it is flexible (KIP-482),
//! so the messages name each field once and the same call reads `STRING` or `COMPACT_STRING`.
//! Reading never panics and never reserves more than the remaining bytes could fill: an array's count is compared
//! with the bytes left divided by the least an element takes. Unknown tagged fields are skipped.

use bytes::Bytes;

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
        length.map(|length| self.take(length)).transpose()
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

    /// A nullable string for people: broken UTF-8 is repaired, since a bad character in an explanation is no reason
    /// to lose the response it is in.
    pub fn nullable_text(&mut self) -> Result<Option<String>> {
        Ok(self.string_bytes()?.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    }

    /// `NULLABLE_STRING` with an `int16` length whatever the version: the client id of a request header.
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

    /// A nullable array. `least` is the fewest bytes that an element takes in any version, and not 0.
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

    /// The tagged fields at the end of a structure, if the version has them. `known` is called for each with a
    /// reader limited to that field and leaves those alone that it doesn't know.
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

/// Writes a message from front to back.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    version: i16,
    flexible: bool,
}

impl Writer {
    /// An empty message.
    pub fn new(version: i16, flexible: bool) -> Writer {
        Writer { out: Vec::new(), version, flexible }
    }

    /// Appends to what is there already.
    pub fn append(out: Vec<u8>, version: i16, flexible: bool) -> Writer {
        Writer { out, version, flexible }
    }

    /// The version of the message.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether the message uses compact types and tagged fields.
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What was written.
    pub fn into_vec(self) -> Vec<u8> {
        self.out
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// `BOOLEAN`.
    pub fn bool(&mut self, value: bool) {
        self.out.push(value.into());
    }

    /// `INT8`.
    pub fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    /// `INT16`.
    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// `INT32`.
    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// `INT64`.
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// `UUID`.
    pub fn uuid(&mut self, value: Uuid) {
        self.raw(&value);
    }

    /// `UNSIGNED_VARINT`.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.out.push(value.to_le_bytes()[0]);
    }

    /// A compact length or count: one more than it is, 0 for null.
    fn compact(&mut self, length: Option<usize>) -> Result<()> {
        let written = length.map_or(Some(0), |length| u32::try_from(length).ok()?.checked_add(1));
        self.unsigned_varint(written.ok_or_else(|| malformed("a length above 32 bits"))?);
        Ok(())
    }

    /// A length or count in an `int32`, -1 for null; or compact.
    fn length(&mut self, length: Option<usize>) -> Result<()> {
        if self.flexible {
            return self.compact(length);
        }
        let written = length.map_or(Ok(-1), i32::try_from);
        self.i32(written.map_err(|_| malformed("a length above 31 bits"))?);
        Ok(())
    }

    /// `STRING`.
    pub fn string(&mut self, value: &str) -> Result<()> {
        self.nullable_string(Some(value))
    }

    /// `STRING` of a field that other versions may leave null.
    pub fn required_string(&mut self, value: Option<&str>) -> Result<()> {
        self.string(value.ok_or_else(|| malformed("null where this version needs a string"))?)
    }

    /// `NULLABLE_STRING`.
    pub fn nullable_string(&mut self, value: Option<&str>) -> Result<()> {
        if !self.flexible {
            return self.nullable_string16(value);
        }
        // Kafka's limit holds for compact strings too.
        check_string(value)?;
        self.compact(value.map(str::len))?;
        self.raw(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    /// `NULLABLE_STRING` with an `int16` length whatever the version: the client id of a request header.
    pub fn nullable_string16(&mut self, value: Option<&str>) -> Result<()> {
        self.i16(check_string(value)?);
        self.raw(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    /// The length of `RECORDS` that follow.
    pub fn records_len(&mut self, length: Option<usize>) -> Result<()> {
        self.length(length)
    }

    /// `RECORDS`, nullable.
    pub fn records(&mut self, value: Option<&[u8]>) -> Result<()> {
        self.records_len(value.map(<[u8]>::len))?;
        self.raw(value.unwrap_or_default());
        Ok(())
    }

    /// The count of an array whose elements follow.
    pub fn array_len(&mut self, count: usize) -> Result<()> {
        self.length(Some(count))
    }

    /// An array that is null.
    pub fn null_array(&mut self) -> Result<()> {
        self.length(None)
    }

    /// An array.
    pub fn array<T>(
        &mut self,
        elements: &[T],
        mut element: impl FnMut(&mut Self, &T) -> Result<()>,
    ) -> Result<()> {
        self.array_len(elements.len())?;
        elements.iter().try_for_each(|value| element(self, value))
    }

    /// An array of `INT32`.
    pub fn array_i32(&mut self, elements: &[i32]) -> Result<()> {
        self.array(elements, |w, value| {
            w.i32(*value);
            Ok(())
        })
    }

    /// The end of a structure without tagged fields.
    pub fn no_tags(&mut self) {
        if self.flexible {
            self.out.push(0);
        }
    }

    /// The end of a structure with tagged fields.
    pub fn tags(&mut self, tags: &Tags) {
        if self.flexible {
            self.unsigned_varint(tags.count);
            self.raw(&tags.fields.out);
        }
    }

    /// An empty set of tagged fields for a message of this version.
    pub fn new_tags(&self) -> Tags {
        Tags { count: 0, fields: Writer::new(self.version, self.flexible) }
    }
}

fn check_string(value: Option<&str>) -> Result<i16> {
    match value {
        None => Ok(-1),
        Some(text) => i16::try_from(text.len()).map_err(|_| {
            malformed(format!("a string of {} bytes (most: {MAX_STRING})", text.len()))
        }),
    }
}

/// Tagged fields on their way into a message; add them in ascending order.
#[derive(Debug)]
pub struct Tags {
    count: u32,
    fields: Writer,
}

impl Tags {
    /// Adds a field. Where the version has none, nothing happens.
    pub fn add(&mut self, tag: u32, field: impl FnOnce(&mut Writer) -> Result<()>) -> Result<()> {
        if !self.fields.flexible {
            return Ok(());
        }
        let mut value = Writer::new(self.fields.version, true);
        field(&mut value)?;
        self.fields.unsigned_varint(tag);
        let size = u32::try_from(value.len()).map_err(|_| malformed("a tagged field too long"))?;
        self.fields.unsigned_varint(size);
        self.fields.raw(&value.out);
        self.count += 1;
        Ok(())
    }
}
