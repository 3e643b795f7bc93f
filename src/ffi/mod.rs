//! The C functions: room 1. Each is convert, call, convert; what they do is in `producer.rs`.
//!
//! The caller's threads run this room; the callback thread passes through it on its way to the
//! user's code. It owns the handles and what they lend to C ([`handle`]), the structs ([`types`]),
//! the numbers ([`status`]), the trampolines into C ([`callbacks`]). The doc comments of the
//! exported functions *are* the header: `tests/generated.rs` runs cbindgen over these files, so
//! they are C prose, without Rust's markup and without "# Safety" sections.
//!
//! Nothing unwinds out of here ([`guard`]), and no pointer is followed that was not compared with
//! NULL. What can't be checked (a dangling pointer, a handle freed twice) is the caller's promise:
//! the contract at the top of the header.

#![expect(unsafe_code, reason = "this room is the boundary; no other has pointers from C")]
#![expect(non_camel_case_types, reason = "the names are C's")]
#![allow(clippy::missing_safety_doc, reason = "the header's contract is the section of them all")]

pub mod callbacks;
mod columns;
pub mod config;
mod convert;
mod fork;
pub mod handle;
pub mod interceptor;
mod lent;
#[cfg(feature = "mock")]
pub mod mock;
#[cfg(test)]
mod panics;
pub mod partitioner;
pub mod poll;
pub mod producer;
mod record;
pub mod send;
pub mod serializer;
pub mod status;
mod table;
pub mod types;

use crate::error::{Error, FATAL, Result, status as code};
use crate::sync::trip::trip;
use status::producer_status_t;
use std::any::Any;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use types::producer_error_t;

/// Runs the body of an exported function: a panic becomes a status, an error is written where the
/// caller wants it.
///
/// # Safety
/// `error` is NULL or points to writable memory for a `producer_error_t`.
unsafe fn guard(
    error: *mut producer_error_t,
    body: impl FnOnce() -> Result<()>,
) -> producer_status_t {
    // SAFETY: the caller's promise, passed on.
    unsafe { guard_then(error, body, || ()) }
}

/// The same, with something to do after a panic.
///
/// # Safety
/// As for [`guard`].
#[inline]
unsafe fn guard_then(
    error: *mut producer_error_t,
    body: impl FnOnce() -> Result<()>,
    on_panic: impl FnOnce(),
) -> producer_status_t {
    // Unwind safety: what a panic may have left half done is the producer's, and that turns fatal.
    let tried = || {
        trip("entry");
        body()
    };
    match catch_unwind(AssertUnwindSafe(tried)) {
        Ok(Ok(())) => code::OK,
        // SAFETY: the caller's promise, passed on.
        Ok(Err(failure)) => unsafe { report(error, &failure) },
        Err(panic) => {
            on_panic();
            // SAFETY: the same.
            unsafe { report(error, &panicked(panic_message(&*panic))) }
        }
    }
}

/// The same for functions that give a value instead of a status.
fn guard_value<T>(on_failure: T, body: impl FnOnce() -> Option<T>) -> T {
    let tried = || {
        trip("entry");
        body()
    };
    match catch_unwind(AssertUnwindSafe(tried)) {
        Ok(Some(value)) => value,
        Ok(None) | Err(_) => on_failure,
    }
}

/// Writes an error where the caller wants it and gives its status back.
///
/// # Safety
/// As for [`guard`].
#[cold]
unsafe fn report(out: *mut producer_error_t, failure: &Error) -> producer_status_t {
    if !out.is_null() {
        let written = producer_error_t {
            status: failure.status,
            flags: failure.flags,
            message: cut(&failure.message),
        };
        // SAFETY: not NULL, hence writable.
        unsafe { out.write(written) };
    }
    failure.status
}

/// A text as C wants it: NUL-terminated, without a NUL inside, cut between characters.
fn cut<const N: usize>(text: &str) -> [c_char; N] {
    let mut end = text.len().min(N - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(text.bytes().take(end)) {
        *to = if from == 0 { b' ' } else { from }.cast_signed() as c_char;
    }
    out
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cold]
fn panicked(what: &str) -> Error {
    Error::new(
        code::PANIC,
        format!(
            "the producer panicked, which is a bug in it: {what}; close this producer, make a \
             new one, and report this message"
        ),
    )
    .with(FATAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn call(body: impl FnOnce() -> Result<()>) -> (i32, Option<(i32, u32, String)>) {
        let mut error = producer_error_t { status: 1, flags: 77, message: [1; 248] };
        // SAFETY: a place for an error.
        let result = unsafe { guard(&raw mut error, body) };
        if error.flags == 77 {
            return (result, None);
        }
        // SAFETY: the message of a written error is NUL-terminated.
        let message = unsafe { CStr::from_ptr(error.message.as_ptr()) };
        (result, Some((error.status, error.flags, message.to_str().unwrap().to_owned())))
    }

    #[test]
    fn success_leaves_the_error_alone() {
        assert_eq!(call(|| Ok(())), (0, None));
    }

    #[test]
    fn an_error_is_status_flags_and_message() {
        let (result, error) = call(|| Err(Error::new(code::CLOSED, "closed").with(FATAL)));
        assert_eq!((result, error), (code::CLOSED, Some((code::CLOSED, FATAL, "closed".into()))));
    }

    #[test]
    fn a_panic_is_a_status_with_its_message() {
        let (result, error) = call(|| panic!("index {}", 7));
        assert_eq!(result, code::PANIC);
        let (_, flags, message) = error.unwrap();
        assert_eq!(flags, FATAL);
        assert!(message.contains("index 7"), "{message}");
    }

    #[test]
    fn a_null_error_is_allowed() {
        let body = || Err(Error::new(code::CLOSED, "closed"));
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { guard(std::ptr::null_mut(), body) }, code::CLOSED);
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let text = |cut: [c_char; 8]| {
            // SAFETY: `cut` ends with a NUL.
            unsafe { CStr::from_ptr(cut.as_ptr()) }.to_str().unwrap().to_owned()
        };
        assert_eq!(text(cut("1234567")), "1234567");
        assert_eq!(text(cut("12345678")), "1234567");
        assert_eq!(text(cut("12345\u{20ac}")), "12345");
        assert_eq!(text(cut("1234\u{20ac}")), "1234\u{20ac}");
        assert_eq!(text(cut("a\0b")), "a b");
        assert_eq!(text(cut("")), "");
    }
}
