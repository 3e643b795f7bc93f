//! From C's pointers to Rust's references and back: every comparison with NULL, every length check
//! is here.
//!
//! Each function says in its error which argument it was and what to pass instead. The unsafe ones
//! share one promise of the caller's, the header's contract: a pointer that is not NULL points to
//! memory of its type that stays valid, and that nobody writes to, for the call (for out pointers:
//! that nobody else touches).

use super::types::{PRODUCER_TIMEOUT_DEFAULT, producer_slice_t};
use crate::error::{Error, Result, status};
use crate::producer::Timeout;
use std::ffi::{CStr, c_char};
use std::fmt::Display;
use std::mem::MaybeUninit;
use std::time::Duration;

/// A wrong argument: its name, and the rest of the sentence.
#[cold]
pub(super) fn invalid(name: impl Display, what: impl Display) -> Error {
    Error::new(status::INVALID_ARGUMENT, format!("`{name}` {what}"))
}

#[cold]
fn null(name: impl Display, instead: &str) -> Error {
    invalid(name, format_args!("is NULL: pass {instead}"))
}

/// Memory that C gave to be written to; what is in it before is nobody's business.
pub(super) struct Out<'a, T>(&'a mut MaybeUninit<T>);

impl<'a, T> Out<'a, T> {
    /// Writes it.
    pub(super) fn write(self, value: T) -> &'a mut T {
        self.0.write(value)
    }
}

/// An out parameter that must not be NULL.
///
/// # Safety
/// See the top of this file.
pub(super) unsafe fn out<'a, T>(pointer: *mut T, name: impl Display + Copy) -> Result<Out<'a, T>> {
    // SAFETY: the caller's promise; uninitialised memory is fine behind MaybeUninit.
    unsafe { pointer.cast::<MaybeUninit<T>>().as_mut() }
        .map(Out)
        .ok_or_else(|| null(name, "the address of a variable for the result"))
}

/// A pointer to one thing; `instead` says what to pass if it is NULL.
///
/// # Safety
/// See the top of this file.
#[inline]
pub(super) unsafe fn borrowed<'a, T>(
    pointer: *const T,
    name: impl Display + Copy,
    instead: &str,
) -> Result<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name, instead))
}

/// The same, to be changed.
///
/// # Safety
/// See the top of this file; nobody else uses it meanwhile.
pub(super) unsafe fn borrowed_mut<'a, T>(
    pointer: *mut T,
    name: &str,
    instead: &str,
) -> Result<&'a mut T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_mut() }.ok_or_else(|| null(name, instead))
}

/// A pointer to `count` things; NULL is allowed if there are none.
///
/// # Safety
/// See the top of this file.
#[inline]
pub(super) unsafe fn array<'a, T>(
    pointer: *const T,
    count: usize,
    name: impl Display + Copy,
) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(invalid(name, format_args!("is NULL, but the count beside it is {count}")));
    }
    check_count::<T>(count, name)?;
    // SAFETY: not NULL, no more than isize::MAX bytes, and the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// A pointer to room for `count` things, which may be uninitialised; NULL is allowed if there is
/// none.
///
/// # Safety
/// See the top of this file.
pub(super) unsafe fn array_out<'a, T>(
    pointer: *mut T,
    count: usize,
    name: impl Display + Copy,
) -> Result<&'a mut [MaybeUninit<T>]> {
    if count == 0 {
        return Ok(&mut []);
    }
    if pointer.is_null() {
        return Err(invalid(name, format_args!("is NULL, but there should be room for {count}")));
    }
    check_count::<T>(count, name)?;
    // SAFETY: not NULL, no more than isize::MAX bytes, and the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), count) })
}

#[inline]
fn check_count<T>(count: usize, name: impl Display + Copy) -> Result<()> {
    if count > isize::MAX.cast_unsigned() / size_of::<T>().max(1) {
        return Err(invalid(
            name,
            format_args!("can't have {count} elements: so much memory does not exist"),
        ));
    }
    Ok(())
}

/// The bytes of a slice; `None` is null.
///
/// # Safety
/// See the top of this file.
#[inline(always)]
pub(super) unsafe fn bytes<'a>(
    slice: producer_slice_t,
    name: impl Display + Copy,
) -> Result<Option<&'a [u8]>> {
    // One comparison for both: a length that is fine with data, and 0 without.
    let limit = if slice.data.is_null() { 0 } else { i32::MAX as usize };
    if slice.len > limit {
        return Err(bad_slice(slice, name));
    }
    if slice.data.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, of a sane length, and the caller's promise.
    Ok(Some(unsafe { std::slice::from_raw_parts(slice.data, slice.len) }))
}

#[cold]
fn bad_slice(slice: producer_slice_t, name: impl Display) -> Error {
    if slice.data.is_null() {
        return invalid(
            name,
            format_args!("has data NULL and len {}: a null slice has len 0", slice.len),
        );
    }
    invalid(
        name,
        format_args!("has len {}: Kafka's protocol can carry {} at most", slice.len, i32::MAX),
    )
}

/// A `timeout_ms`: -1 is the configuration's.
pub(super) fn timeout(timeout_ms: i32) -> Result<Timeout> {
    match (timeout_ms, u64::try_from(timeout_ms)) {
        (_, Ok(ms)) => Ok(Timeout::After(Duration::from_millis(ms))),
        (PRODUCER_TIMEOUT_DEFAULT, Err(_)) => Ok(Timeout::Default),
        (_, Err(_)) => Err(invalid(
            "timeout_ms",
            format_args!("is {timeout_ms}: pass milliseconds or PRODUCER_TIMEOUT_DEFAULT (-1)"),
        )),
    }
}

/// A NUL-terminated text.
///
/// # Safety
/// See the top of this file.
pub(super) unsafe fn text<'a>(
    pointer: *const c_char,
    name: impl Display + Copy,
) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(null(name, "a NUL-terminated text"));
    }
    // SAFETY: not NULL, and the caller's promise.
    unsafe { CStr::from_ptr(pointer) }
        .to_str()
        .map_err(|_| invalid(name, "is not UTF-8: pass UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(data: *const u8, len: usize) -> producer_slice_t {
        producer_slice_t { data, len }
    }

    fn message<T>(result: Result<T>) -> String {
        let error = result.err().unwrap();
        assert_eq!(error.status, status::INVALID_ARGUMENT);
        error.message.into_owned()
    }

    #[test]
    fn null_empty_and_full_slices_differ() {
        let byte = 7_u8;
        // SAFETY: as long as `byte`.
        unsafe {
            assert_eq!(bytes(producer_slice_t::NULL, "key").unwrap(), None);
            assert_eq!(bytes(slice(&raw const byte, 0), "key").unwrap(), Some(&[][..]));
            assert_eq!(bytes(slice(&raw const byte, 1), "key").unwrap(), Some(&[7][..]));
        }
    }

    #[test]
    fn impossible_slices_are_refused_before_they_are_read() {
        let byte = 7_u8;
        // SAFETY: none of them is read.
        unsafe {
            let text = message(bytes(slice(std::ptr::null(), 3), "record.key"));
            assert_eq!(text, "`record.key` has data NULL and len 3: a null slice has len 0");
            for len in [1 << 31, usize::MAX] {
                let text = message(bytes(slice(&raw const byte, len), "record.key"));
                assert!(text.contains("2147483647"), "{text}");
            }
            assert!(message(array(&raw const byte, usize::MAX, "records")).contains("memory"));
            assert!(message(array::<u64>(std::ptr::null(), 2, "records")).contains("NULL"));
            assert!(array::<u64>(std::ptr::null(), 0, "records").unwrap().is_empty());
        }
    }

    #[test]
    fn texts_must_be_utf8() {
        // SAFETY: NULL or NUL-terminated.
        unsafe {
            assert_eq!(text(c"linger.ms".as_ptr(), "key").unwrap(), "linger.ms");
            assert!(message(text(c"\xff".as_ptr(), "key")).contains("UTF-8"));
            assert!(message(text(std::ptr::null(), "key")).contains("`key` is NULL"));
        }
    }
}
