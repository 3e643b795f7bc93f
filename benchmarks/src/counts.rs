//! What the broker got, of all connections, and where each partition's log would end.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// As many as the bits of a batch that name one can tell apart.
pub const CODECS: usize = 8;

/// Counters, shared by the connections' threads.
pub struct Counts {
    /// The next offset of each partition, whatever the topic.
    ends: Vec<AtomicI64>,
    requests: AtomicU64,
    batches: AtomicU64,
    records: AtomicU64,
    codecs: [AtomicU64; CODECS],
    bytes: AtomicU64,
    invalid: AtomicU64,
    producers: AtomicI64,
}

/// What one Produce request carried; added to the counters once per request.
#[derive(Default)]
pub struct Request {
    /// Batches.
    pub batches: u64,
    /// Records, as the batches' headers say.
    pub records: u64,
    /// The records by their batches' codecs, as Kafka numbers them.
    pub codecs: [u64; CODECS],
    /// Bytes of batches, headers included.
    pub bytes: u64,
}

impl Counts {
    /// All at zero.
    pub fn new(partitions: i32) -> Counts {
        Counts {
            ends: (0..partitions).map(|_| AtomicI64::new(0)).collect(),
            requests: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            records: AtomicU64::new(0),
            codecs: Default::default(),
            bytes: AtomicU64::new(0),
            invalid: AtomicU64::new(0),
            producers: AtomicI64::new(0),
        }
    }

    /// How many partitions every topic has.
    pub fn partitions(&self) -> usize {
        self.ends.len()
    }

    /// The offset that `records` more records of a partition begin at; none if there is no such
    /// partition.
    pub fn append(&self, partition: i32, records: i32) -> Option<i64> {
        let end = self.ends.get(usize::try_from(partition).ok()?)?;
        Some(end.fetch_add(i64::from(records), Relaxed))
    }

    /// Counts a Produce request.
    pub fn add(&self, request: &Request) {
        self.requests.fetch_add(1, Relaxed);
        self.batches.fetch_add(request.batches, Relaxed);
        self.records.fetch_add(request.records, Relaxed);
        for (all, records) in self.codecs.iter().zip(request.codecs) {
            all.fetch_add(records, Relaxed);
        }
        self.bytes.fetch_add(request.bytes, Relaxed);
    }

    /// Counts something that no producer should send.
    pub fn invalid(&self) {
        self.invalid.fetch_add(1, Relaxed);
    }

    /// Whether nothing of the kind came.
    pub fn is_valid(&self) -> bool {
        self.invalid.load(Relaxed) == 0
    }

    /// An id for a producer.
    pub fn producer_id(&self) -> i64 {
        1000 + self.producers.fetch_add(1, Relaxed)
    }

    /// All of it, for the harness.
    pub fn json(&self) -> String {
        let codecs: Vec<u64> = self.codecs.iter().map(|records| records.load(Relaxed)).collect();
        format!(
            "{{\"requests\":{},\"batches\":{},\"records\":{},\"codecs\":{codecs:?},\"bytes\":{},\
             \"invalid\":{}}}",
            self.requests.load(Relaxed),
            self.batches.load(Relaxed),
            self.records.load(Relaxed),
            self.bytes.load(Relaxed),
            self.invalid.load(Relaxed)
        )
    }
}
