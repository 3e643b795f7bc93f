//! The one error type: a code, four bits and a sentence; and the table of all codes, Kafka's and ours.
//!
//! Kafka's codes are used verbatim (positive, and -1); the client's own are -100 and below.

use std::borrow::Cow;

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

/// The client's own codes, and those of Kafka's that the client itself gives.
#[allow(missing_docs, reason = "the table below has a sentence for each")]
pub mod status {
    use super::Status;
    pub const OK: Status = 0;
    pub const UNKNOWN_TOPIC_OR_PARTITION: Status = 3;
    pub const INVALID_TOPIC_EXCEPTION: Status = 17;
    pub const TOPIC_AUTHORIZATION_FAILED: Status = 29;
    pub const LEADER_NOT_AVAILABLE: Status = 5;
    pub const INVALID_ARGUMENT: Status = -100;
    pub const INVALID_CONFIG: Status = -101;
    pub const INVALID_STATE: Status = -102;
    pub const CLOSED: Status = -103;
    pub const TIMED_OUT: Status = -104;
    pub const BUFFER_FULL: Status = -105;
    pub const SERIALIZATION: Status = -106;
    pub const PARTITIONING: Status = -107;
    pub const DELIVERY_TIMED_OUT: Status = -108;
    pub const ABORTED: Status = -109;
    pub const WOULD_DEADLOCK: Status = -110;
    pub const TLS: Status = -111;
    pub const UNSUPPORTED: Status = -112;
    pub const PANIC: Status = -113;
    pub const FORKED: Status = -114;
    pub const METADATA_PENDING: Status = -115;
    pub const AUTHENTICATION: Status = -116;
    pub const PROTOCOL: Status = -117;
}

/// Why something failed, for people (`message`) and for code (`status`, `flags`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The code.
    pub status: Status,
    /// [`RETRIABLE`], [`ABORTABLE`], [`FATAL`], [`MAYBE_PERSISTED`]; none: fix the call or the configuration.
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
