//! What the unit tests of this room share: batches that can be made wrong, and a client that asks
//! the cluster without sockets.

use std::time::Duration;

use bytes::Bytes;

use super::cluster::{Cluster, Now, Reply};
use crate::clock::Instant;
use crate::config::compression::built_in;
use crate::protocol::api::{LENGTH_BYTES, request_frame, split_response};
use crate::protocol::compression::{Compression, Compressor, SnappyFraming};
use crate::protocol::crc32c::{self, ShiftFactor};
use crate::protocol::messages::{
    PartitionProduceResponse, ProduceRequest, ProduceRequestPartition, ProduceRequestTopic,
};
use crate::protocol::record_batch::{BatchHeader, Record};
use crate::protocol::{ErrorCode, Message, Request};
use crate::record::Header;
use crate::rng::Rng;

/// The wall clock of these tests.
pub const WALL_MS: i64 = 1_700_000_000_000;

/// A batch: change what should be wrong with it, then take its bytes.
pub struct TestBatch {
    pub header: BatchHeader,
    pub records: Vec<u8>,
}

impl TestBatch {
    /// One record per value, with keys `k0`, `k1`, ...; one millisecond between them.
    pub fn of(values: &[&str]) -> TestBatch {
        let count = i32::try_from(values.len()).unwrap();
        let mut batch = TestBatch {
            header: BatchHeader {
                last_offset_delta: count - 1,
                record_count: count,
                base_timestamp: WALL_MS,
                max_timestamp: WALL_MS + i64::from(count) - 1,
                ..BatchHeader::default()
            },
            records: Vec::new(),
        };
        for (index, value) in (0..).zip(values) {
            let key = format!("k{index}");
            let headers = [Header { key: b"h", value: None }];
            batch.push(&Record {
                timestamp_delta: index.into(),
                offset_delta: index,
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
                headers: &headers,
            });
        }
        batch
    }

    /// A batch without records, whose header claims `count`.
    pub fn empty(count: i32) -> TestBatch {
        let mut batch = TestBatch::of(&[]);
        batch.header.record_count = count;
        batch.header.last_offset_delta = count - 1;
        batch.header.max_timestamp = WALL_MS;
        batch
    }

    /// Adds a record and nothing else.
    pub fn push(&mut self, record: &Record<'_>) {
        let start = self.records.len();
        self.records.resize(start + record.encoded_len(), 0);
        record.encode(record.body_len(), &mut self.records[start..]).unwrap();
    }

    /// The batch of a producer with id 7 and epoch 0.
    pub fn sequence(mut self, base_sequence: i32) -> TestBatch {
        self.header.producer_id = 7;
        self.header.producer_epoch = 0;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Compressed, with a right length and checksum.
    pub fn compressed(&self, how: Compression) -> Vec<u8> {
        let mut batch = TestBatch { header: self.header, records: Vec::new() };
        batch.header.attributes |= how.codec().bits();
        let pieces = [self.records.as_slice()];
        let fits = Compressor::new().compress(how, &pieces, usize::MAX, &mut batch.records);
        assert_eq!(fits, Ok(true));
        batch.bytes()
    }

    /// With a right length and checksum.
    pub fn bytes(&self) -> Vec<u8> {
        let factor = ShiftFactor::for_len(self.records.len());
        let crc = crc32c::crc32c(&self.records);
        let head = self.header.encode(self.records.len(), crc, factor).unwrap();
        [&head, self.records.as_slice()].concat()
    }
}

/// A choice of each codec and framing that is built in.
pub fn compressions() -> Vec<Compression> {
    let mut all = vec![
        Compression::Gzip { level: -1 },
        Compression::Snappy { framing: SnappyFraming::Raw },
        Compression::Snappy { framing: SnappyFraming::Xerial },
        Compression::Lz4,
        Compression::Zstd { level: 3 },
    ];
    all.retain(|how| built_in(how.codec().name()).is_ok());
    all
}

/// Makes the checksum right again.
pub fn fix_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A cluster and the time.
pub struct Bench {
    pub cluster: Cluster,
    pub now: Now,
}

impl Bench {
    /// A cluster of so many brokers, with ports 9001, 9002, ...
    pub fn new(brokers: i32) -> Bench {
        let mut cluster = Cluster::new(brokers, Rng::seeded(1)).unwrap();
        for node in 1..=brokers {
            cluster.broker_mut(node).unwrap().port = 9000 + u16::try_from(node).unwrap();
        }
        Bench { cluster, now: Now { at: Instant(1_000_000), wall_ms: WALL_MS } }
    }

    /// Time passes.
    pub fn sleep(&mut self, milliseconds: u64) {
        self.now.at = self.now.at.after(Duration::from_millis(milliseconds));
        self.now.wall_ms += i64::try_from(milliseconds).unwrap();
    }

    /// Sends a request.
    pub fn send<R: Request>(&mut self, node: i32, version: i16, request: &R) -> Reply {
        let frame = request_frame(request, version, 77, Some("test")).unwrap();
        self.cluster.handle(node, &Bytes::from(frame).slice(LENGTH_BYTES..), self.now)
    }

    /// Sends a request that is answered at once.
    pub fn call<R: Request>(&mut self, node: i32, version: i16, request: &R) -> R::Response {
        read::<R>(version, &self.send(node, version, request))
    }

    /// Produces one batch to one partition.
    pub fn produce(
        &mut self,
        node: i32,
        topic: &str,
        index: i32,
        batch: Vec<u8>,
    ) -> PartitionProduceResponse {
        let response = self.call(node, 12, &produce_request(topic, index, batch));
        response.topics[0].partitions[0].clone()
    }

    /// Produces one batch, and gives the error.
    pub fn produce_code(&mut self, topic: &str, batch: &TestBatch) -> ErrorCode {
        self.produce(1, topic, 0, batch.bytes()).error_code
    }
}

/// A request with one batch for one partition.
pub fn produce_request(topic: &str, index: i32, batch: Vec<u8>) -> ProduceRequest {
    let partitions = vec![ProduceRequestPartition { index, records: Some(batch.into()) }];
    let topic = ProduceRequestTopic { name: topic.to_owned(), partitions, ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 1000, topics: vec![topic], ..Default::default() }
}

/// The response in a reply.
pub fn read<R: Request>(version: i16, reply: &Reply) -> R::Response {
    let Reply::Answer(frame, _) = reply else { panic!("not an answer: {reply:?}") };
    let (correlation_id, body) =
        split_response(R::KEY, version, &frame.slice(LENGTH_BYTES..)).unwrap();
    assert_eq!(correlation_id, 77);
    R::Response::from_bytes(version, &body).unwrap()
}
