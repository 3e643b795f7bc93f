//! Which partition a record goes to: by the user's own code, the hash of its key, or the sticky
//! partition of its topic.
//!
//! Runs on the thread that sends, without a lock or an allocation per record. A record with a
//! partition of its own never comes here. [`murmur2`] is Kafka's key hash, [`migration`] has those
//! of other clients; [`builtin`] is what records without a key get (KIP-480, KIP-794), drawn by
//! [`load`] (KIP-794, KIP-1123); [`turns`] looks at no key and keeps nothing together.

pub mod builtin;
pub mod load;
pub mod migration;
pub mod murmur2;
pub mod turns;

#[cfg(test)]
mod testing;

pub use builtin::{Sticking, StickyPartitionCache};
pub use load::{Availability, Place, Survey};
pub use turns::{Turn, Turns};

use crate::config::{PartitionerClass, Partitioning};
use crate::metadata::PartitionInfo;
use crate::record::ProducerRecord;
use migration::KeyHash;

/// A partitioner of the user's own, in place of `partitioner.class`. Several threads call it at
/// once, each once per record and from inside its send; nothing of the library is locked then.
pub trait Partitioner: Send + Sync {
    /// The record's partition: an index into `partitions`, which are all of its topic's, by number,
    /// with or without a leader. Anything else fails the record. What it sends itself is refused.
    fn partition(&self, record: &ProducerRecord<'_>, partitions: &[PartitionInfo]) -> i32;

    /// Once, last of all: nobody will call it any more.
    fn close(&self) {}
}

/// What is asked for a record's partition, before the sticky one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Nothing: keys are not looked at.
    Ignored,
    /// Kafka's hash of the key, if there is one.
    Murmur2,
    /// Another client's.
    Foreign(KeyHash),
}

impl Keys {
    /// What the configuration says.
    pub fn of(partitioning: &Partitioning) -> Keys {
        if let Some(hash) = KeyHash::of(partitioning.class) {
            return Keys::Foreign(hash);
        }
        let hashes = partitioning.class == PartitionerClass::Builtin && !partitioning.ignore_keys;
        if hashes { Keys::Murmur2 } else { Keys::Ignored }
    }

    /// The partition among `count`; `None`: the sticky one.
    #[inline]
    pub fn partition(self, key: Option<&[u8]>, count: usize) -> Option<i32> {
        match (self, key) {
            (Keys::Murmur2, Some(key)) => Some(partition_for_key(key, count)),
            (Keys::Ignored, _) | (Keys::Murmur2, None) => None,
            (Keys::Foreign(hash), key) => hash.partition(key, count),
        }
    }
}

/// How the records of a class take turns, if they do.
pub fn turn_of(class: PartitionerClass) -> Option<Turn> {
    let turns = [
        (PartitionerClass::RoundRobin, Turn::RoundRobin),
        (PartitionerClass::Random, Turn::Random),
    ];
    turns.into_iter().find(|(of, _)| *of == class).map(|(_, turn)| turn)
}

/// The partition of a key among `count`, available or not, so that a key stays where it is. An
/// empty key is hashed too. 0 if there is no partition.
pub fn partition_for_key(key: &[u8], count: usize) -> i32 {
    // Not the absolute value: Kafka clears the sign bit.
    remainder(murmur2::murmur2(key) & 0x7fff_ffff, count)
}

/// A hash as one of `count` partitions; 0 if there is none.
fn remainder(number: u32, count: usize) -> i32 {
    match u32::try_from(count) {
        Ok(0) | Err(_) => 0,
        Ok(count) => i32::try_from(number % count).unwrap_or(0),
    }
}
