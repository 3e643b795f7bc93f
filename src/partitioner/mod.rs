//! Which partition a record goes to: the hash of its key, or the sticky partition of its topic.
//!
//! Runs on the thread that sends. A record with a partition of its own never comes here.
//! [`murmur2`] is Kafka's key hash, [`builtin`] what records without a key get (KIP-480, KIP-794).

pub mod builtin;
pub mod murmur2;

pub use builtin::StickyPartitionCache;

/// The partition of a key among `count`, available or not, so that a key stays where it is. An
/// empty key is hashed too. 0 if there is no partition.
pub fn partition_for_key(key: &[u8], count: usize) -> i32 {
    // Not the absolute value: Kafka clears the sign bit.
    let positive = murmur2::murmur2(key) & 0x7fff_ffff;
    match u32::try_from(count) {
        Ok(0) | Err(_) => 0,
        Ok(count) => i32::try_from(positive % count).unwrap_or(0),
    }
}
