//! Tables of functions that C hands over: read once and by their `struct_size`, so that a program
//! may have been compiled against an older or a newer header.

use super::convert::{borrowed, invalid};
use crate::error::Result;
use std::mem::MaybeUninit;
use std::ptr;

/// More than any table will have: what is larger is no size.
const MOST: usize = 1 << 12;

/// A struct of C's that begins with its `struct_size` as the program that fills it was compiled,
/// and of which zeroed bytes are a value.
///
/// # Safety
/// All of this is true of the type.
pub(super) unsafe trait Table: Copy {
    /// What C calls it.
    const NAME: &'static str;
    /// So long it is at least: up to the last entry that it must have.
    const LEAST: usize;
}

/// A copy of a table. Entries that the program did not know are NULL; those that only the program
/// knows must be, for this version would not do what they are for.
///
/// # Safety
/// As in `convert.rs`, for as many bytes as the table says that it has.
pub(super) unsafe fn read<T: Table>(table: *const T, name: &str) -> Result<T> {
    // SAFETY: the caller's promise: every table begins with its size.
    let size = *unsafe { borrowed(table.cast::<usize>(), name, "a table of functions")? };
    if !(T::LEAST..=MOST).contains(&size) {
        return Err(invalid(
            format_args!("{name}->struct_size"),
            format_args!("is {size}: set it to sizeof({})", T::NAME),
        ));
    }
    let newer = size_of::<T>().min(size)..size;
    // SAFETY: the caller's promise: the table has these bytes.
    if newer.clone().any(|at| unsafe { *table.cast::<u8>().add(at) } != 0) {
        return Err(invalid(
            name,
            format_args!(
                "has functions that this version does not know, behind the {} bytes of its {}: \
                 leave them NULL, or load the library that the header belongs to",
                newer.start,
                T::NAME
            ),
        ));
    }
    let mut copy = MaybeUninit::<T>::zeroed();
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's promise for the one, its own size for the other.
    unsafe { ptr::copy_nonoverlapping(table.cast::<u8>(), copy.as_mut_ptr().cast(), known) };
    // SAFETY: zeroed bytes are a value, and so are C's in their place.
    Ok(unsafe { copy.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::status;
    use std::mem::offset_of;

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Two {
        struct_size: usize,
        needed: usize,
        newer: usize,
    }

    // SAFETY: numbers, the first of them its size.
    unsafe impl Table for Two {
        const NAME: &'static str = "two_t";
        const LEAST: usize = offset_of!(Two, newer);
    }

    #[repr(C)]
    struct Longer {
        two: Two,
        newest: usize,
    }

    fn read_two(table: &Two) -> Result<Two> {
        // SAFETY: as long as it says, or refused.
        unsafe { read(table, "table") }
    }

    #[test]
    fn what_is_not_there_is_null_and_what_is_not_known_must_be() {
        let mut two = Two { struct_size: size_of::<Two>(), needed: 1, newer: 2 };
        assert_eq!(read_two(&two).map(|two| (two.needed, two.newer)).unwrap(), (1, 2));
        two.struct_size = offset_of!(Two, newer);
        assert_eq!(read_two(&two).map(|two| (two.needed, two.newer)).unwrap(), (1, 0));
        let mut longer = Longer { two: Two { struct_size: size_of::<Longer>(), ..two }, newest: 0 };
        let read_longer = |longer: &Longer| {
            // SAFETY: as long as it says.
            unsafe { read(ptr::from_ref(longer).cast::<Two>(), "table") }
        };
        assert_eq!(read_longer(&longer).map(|two| (two.needed, two.newer)).unwrap(), (1, 2));
        longer.newest = 1 << 56;
        let error = read_longer(&longer).err().unwrap();
        assert!(error.message.contains("behind the 24 bytes of its two_t"), "{error}");
        assert_eq!(error.status, status::INVALID_ARGUMENT);
    }

    #[test]
    fn a_size_that_is_none_is_refused() {
        for struct_size in [0, 8, offset_of!(Two, newer) - 1, MOST + 1, usize::MAX] {
            let error = read_two(&Two { struct_size, needed: 1, newer: 2 }).err().unwrap();
            assert_eq!(error.status, status::INVALID_ARGUMENT);
            let said = format!("`table->struct_size` is {struct_size}: set it to sizeof(two_t)");
            assert_eq!(error.message, said);
        }
        // SAFETY: NULL is refused.
        let error = unsafe { read::<Two>(ptr::null(), "table") }.err().unwrap();
        assert!(error.message.contains("`table` is NULL"), "{error}");
    }
}
