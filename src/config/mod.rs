//! Configuration: Kafka's own keys as strings, checked as they are set and against each other when
//! a producer starts.
//!
//! [`definition`] is the table of keys, [`value`] parses values; this file holds what a user set
//! ([`ProducerConfig`]). [`settings`] turns it into typed numbers ([`Settings`]) and checks the
//! keys against each other. A config is for one thread at a time; nothing here is shared or locked.
//! KIP-91, KIP-144, KIP-601, KIP-580, KIP-1030.

pub mod definition;
pub mod settings;
pub mod value;

pub use settings::{Acks, Settings};
