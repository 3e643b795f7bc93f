//! `producer_send_columns()`: byte strings that lie end to end become records.

use super::convert::{array, invalid};
use super::types::producer_slice_t;
use crate::error::Result;
use crate::record::ProducerRecord;

/// The arguments of `producer_send_columns()`, checked.
pub(super) struct Columns<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Option<i32>,
    pub(super) keys: Column<'a>,
    pub(super) values: Column<'a>,
    pub(super) first_tag: u64,
}

impl<'a> Columns<'a> {
    /// The records, in order.
    pub(super) fn records(self, count: usize) -> impl Iterator<Item = Result<ProducerRecord<'a>>> {
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
                timeout_ms: 0,
                as_is: false,
            })
        })
    }
}

/// Byte strings that lie end to end, with their lengths.
pub(super) struct Column<'a> {
    bytes: &'a [u8],
    lens: std::slice::Iter<'a, i32>,
}

impl<'a> Column<'a> {
    /// A column of nulls.
    pub(super) fn none(slice: producer_slice_t) -> Result<Column<'a>> {
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
    pub(super) unsafe fn new(
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

#[cfg(test)]
mod tests {
    use super::*;

    fn column<'a>(bytes: &'a [u8], lens: &'a [i32]) -> Result<Vec<Option<&'a [u8]>>> {
        let slice = producer_slice_t::of(bytes);
        // SAFETY: both live as long as the column.
        let mut column =
            unsafe { Column::new(slice, lens.as_ptr(), lens.len(), "values", "value_lens")? };
        Ok(lens.iter().map(|_| column.next()).collect())
    }

    #[test]
    fn strings_lie_end_to_end() {
        let strings = column(b"abcdef", &[2, -1, 0, 4]).unwrap();
        assert_eq!(strings, [Some(&b"ab"[..]), None, Some(&[][..]), Some(&b"cdef"[..])]);
        assert!(column(b"", &[]).unwrap().is_empty());
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused_as_a_whole() {
        let message = |lens: &[i32]| column(b"abc", lens).unwrap_err().message.into_owned();
        assert!(message(&[2]).contains("sums up to 2, but `values` has 3"));
        assert!(message(&[2, 2]).contains("sums up to 4"));
        assert!(message(&[3, -2]).contains("`value_lens[1]` is -2"));
        assert!(message(&[i32::MAX; 9]).contains("`value_lens` sums up to 19327352823"));
    }

    #[test]
    fn tags_count_on_and_around() {
        let (keys, values) = (Column::none(producer_slice_t::NULL).unwrap(), [1, 1, 1]);
        let slice = producer_slice_t::of(b"abc");
        // SAFETY: both live as long as the column.
        let values =
            unsafe { Column::new(slice, values.as_ptr(), 3, "values", "value_lens").unwrap() };
        let columns = Columns { topic: "t", partition: None, keys, values, first_tag: u64::MAX };
        let records = columns.records(3).map(Result::unwrap);
        let seen: Vec<_> = records.map(|r| (r.tag, r.key, r.value.unwrap()[0])).collect();
        assert_eq!(seen, [(u64::MAX, None, b'a'), (0, None, b'b'), (1, None, b'c')]);
    }
}
