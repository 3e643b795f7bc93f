//! The one error type: a code, four bits and a sentence; and the table of all codes ([`CODES`]),
//! Kafka's and ours.
//!
//! Kafka's codes are used verbatim (positive, and -1); the client's own are -100 and below.

mod codes;

pub use codes::{CODES, Code, status};

use std::borrow::Cow;
use std::ffi::CStr;

/// A status as it crosses the C boundary: 0 is success.
pub type Status = i32;

/// The same call may succeed if it is made again.
pub const RETRIABLE: u32 = 1;
/// Abort the transaction; the producer stays usable.
pub const ABORTABLE: u32 = 2;
/// The producer is done for; close it.
pub const FATAL: u32 = 4;
/// The record may have been written; without this bit it was not.
pub const MAYBE_PERSISTED: u32 = 8;

/// Why something failed, for people (`message`) and for code (`status`, `flags`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The code.
    pub status: Status,
    /// [`RETRIABLE`], [`ABORTABLE`], [`FATAL`], [`MAYBE_PERSISTED`]; none: fix the call or the
    /// configuration.
    pub flags: u32,
    /// What happened and what to do, in one sentence.
    pub message: Cow<'static, str>,
}

/// What every fallible function of the crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without flags.
    pub fn new(status: Status, message: impl Into<Cow<'static, str>>) -> Error {
        Error { status, flags: 0, message: message.into() }
    }

    /// The same with more flags.
    #[must_use]
    pub fn with(mut self, flags: u32) -> Error {
        self.flags |= flags;
        self
    }

    /// Whether the same call may succeed if it is made again.
    pub fn is_retriable(&self) -> bool {
        self.flags & RETRIABLE != 0
    }
}

fn code(status: Status) -> Option<&'static Code> {
    CODES.iter().find(|code| code.status == status)
}

/// A status by its name in C, `PRODUCER_ERR_CLOSED`; for one that is not in the table
/// `PRODUCER_ERR_UNKNOWN`.
pub fn status_name(status: Status) -> &'static CStr {
    code(status).map_or(c"PRODUCER_ERR_UNKNOWN", |code| code.name)
}

/// What a status means and what to do, in one sentence.
pub fn status_message(status: Status) -> &'static CStr {
    code(status).map_or(
        c"This version does not know the code; a newer broker gave it: see Kafka's documentation.",
        |code| code.message,
    )
}

/// A status by Kafka's own name, `NOT_LEADER_OR_FOLLOWER`, for messages.
pub fn short_name(status: Status) -> &'static str {
    let name = status_name(status).to_str().unwrap_or_default();
    name.strip_prefix("PRODUCER_ERR_").unwrap_or(name)
}

/// Whether Kafka counts a status as retriable.
pub fn is_retriable(status: Status) -> bool {
    code(status).is_some_and(|code| code.retriable)
}
