//! Writing a message: the counterpart of the reader, for trusted values. What can go wrong is that
//! a value doesn't fit: a string or list that is too long, or a null that the version doesn't have.

use super::{MAX_STRING, Uuid, malformed};
use crate::error::Result;

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

    /// `NULLABLE_STRING` with an `int16` length whatever the version: the client id of a request
    /// header.
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
