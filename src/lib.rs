//! An Apache Kafka producer behind a C ABI.
//!
//! The rooms, in the order a record walks through them: [`ffi`] (the C functions), [`producer`]
//! (what they call), [`interceptors`] and [`serializer`] (what users plug in), [`metadata`] (which
//! partitions a topic has), [`partitioner`] (which one a record goes to), [`accumulator`] (batches
//! per partition), [`transactions`] (producer ids and sequences), [`sender`] (batches to requests
//! and back), [`network`] (connections), [`delivery`] (outcomes, to the user's callback or poll).
//! Who may import whom, which thread runs what and why is in ARCHITECTURE.md; `tests/tidy.rs`
//! checks the first.

pub mod accumulator;
pub mod clock;
pub mod config;
mod defects;
pub mod delivery;
pub mod error;
pub mod ffi;
pub mod interceptors;
pub mod log;
pub mod metadata;
#[cfg(feature = "mock")]
pub mod mock;
pub mod network;
pub mod partitioner;
pub mod producer;
pub mod protocol;
pub mod record;
pub mod rng;
pub mod sender;
pub mod serializer;
#[cfg(feature = "mock")]
#[cfg(not(loom))]
#[cfg(test)]
mod sim;
pub mod sync;
pub mod transactions;
