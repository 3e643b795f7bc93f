//! A record as the caller hands it over: borrowed bytes, copied exactly once, by the accumulator.

/// Yours: a number, or a pointer cast to one; comes back in the delivery.
pub type Tag = u64;

/// A record header. The key is UTF-8 (checked where it enters); the value may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key, UTF-8.
    pub key: &'a [u8],
    /// The value; `None` is null, which is not empty.
    pub value: Option<&'a [u8]>,
}

/// A record to send.
#[derive(Debug, Clone, Copy)]
pub struct ProducerRecord<'a> {
    /// The topic; a legal name (see [`check_topic`]).
    pub topic: &'a str,
    /// The partition, or `None`: the partitioner chooses.
    pub partition: Option<i32>,
    /// The key's bytes; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` is null (a tombstone).
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: &'a [Header<'a>],
    /// Milliseconds since the epoch, or `None`: the time of the call.
    pub timestamp_ms: Option<i64>,
    /// Comes back in the delivery.
    pub tag: Tag,
}

/// A partition of a topic by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: std::sync::Arc<str>,
    /// The partition's number.
    pub partition: i32,
}
