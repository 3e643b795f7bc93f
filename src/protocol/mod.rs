//! The wire protocol: bytes to values and back, nothing else. No sockets, no threads, no state.
//!
//! `codec` reads and writes the primitive types, `api` knows the APIs, their headers and frames,
//! `messages` has a file per API with both directions of every version (the client sends one half,
//! the mock cluster the other), `record_batch` is the format v2 of KIP-98, `crc32c` its checksum,
//! `compression` its codecs.
//! Whatever comes from outside is checked here: a count or length is compared with the bytes that
//! are left before anything is reserved, nothing panics.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

pub mod api;
pub mod codec;
pub mod compression;
pub mod crc32c;
pub mod messages;
pub mod record_batch;

pub use api::{ApiKey, ErrorCode, Message, Request, RequestHeader};
pub use codec::{Reader, Uuid, Writer};
