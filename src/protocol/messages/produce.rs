//! Produce, v3 to v13: record batches to the leaders of partitions.
//!
//! v7 zstd, v8 record errors (KIP-467), v9 flexible, v10 the current leader in the answer
//! (KIP-951), v13 topic ids instead of names (KIP-516). The client writes requests with
//! [`encode_produce`], which puts no record into a buffer of its own; [`ProduceRequest`] is what
//! the mock cluster reads.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::error::{Error, Result, status};
use crate::protocol::api::{ApiKey, ErrorCode, Message, Request};
use crate::protocol::codec::{Reader, Uuid, Writer};
use crate::protocol::record_batch::BATCH_HEADER_LEN;

/// From here on topics are named by id alone.
pub const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

/// Record batches, one per partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProduceRequest {
    /// Null: not in a transaction.
    pub transactional_id: Option<String>,
    /// 0: no answer, 1: the leader has it, -1: all in-sync replicas have it.
    pub acks: i16,
    /// How long the leader may wait for the replicas.
    pub timeout_ms: i32,
    /// By topic.
    pub topics: Vec<ProduceRequestTopic>,
}

/// The batches of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProduceRequestTopic {
    /// Until v12.
    pub name: String,
    /// v13+.
    pub topic_id: Uuid,
    /// By partition.
    pub partitions: Vec<ProduceRequestPartition>,
}

/// The batch of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProduceRequestPartition {
    /// The partition's number.
    pub index: i32,
    /// A record batch.
    pub records: Option<Bytes>,
}

/// Writes what stands before the topics; both writers of requests share it.
fn encode_start(
    out: &mut Writer,
    transactional_id: Option<&str>,
    acks: i16,
    timeout_ms: i32,
) -> Result<()> {
    out.nullable_string(transactional_id)?;
    out.i16(acks);
    out.i32(timeout_ms);
    Ok(())
}

fn encode_topic_start(out: &mut Writer, name: &str, id: Uuid, partitions: usize) -> Result<()> {
    if out.version() >= FIRST_VERSION_WITH_TOPIC_IDS {
        out.uuid(id);
    } else {
        out.string(name)?;
    }
    out.array_len(partitions)
}

impl Message for ProduceRequest {
    const KEY: ApiKey = ApiKey::Produce;
    const VERSIONS: RangeInclusive<i16> = 3..=13;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        encode_start(out, self.transactional_id.as_deref(), self.acks, self.timeout_ms)?;
        out.array(&self.topics, |w, topic| {
            encode_topic_start(w, &topic.name, topic.topic_id, topic.partitions.len())?;
            for partition in &topic.partitions {
                w.i32(partition.index);
                w.records(partition.records.as_deref())?;
                w.no_tags();
            }
            w.no_tags();
            Ok(())
        })?;
        out.no_tags();
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let request = ProduceRequest {
            transactional_id: input.nullable_string()?,
            acks: input.i16()?,
            timeout_ms: input.i32()?,
            topics: input.array(3, |r| {
                let mut topic = ProduceRequestTopic::default();
                if r.version() >= FIRST_VERSION_WITH_TOPIC_IDS {
                    topic.topic_id = r.uuid()?;
                } else {
                    topic.name = r.string()?;
                }
                topic.partitions = r.array(6, |r| {
                    let (index, records) = (r.i32()?, r.records()?);
                    r.skip_tags()?;
                    Ok(ProduceRequestPartition { index, records })
                })?;
                r.skip_tags()?;
                Ok(topic)
            })?,
        };
        input.skip_tags()?;
        Ok(request)
    }
}

impl Request for ProduceRequest {
    type Response = ProduceResponse;
}

/// Writes the body of a Produce request batch by batch: topic, its batches, next topic. Whatever
/// isn't records lies in one buffer that the pieces share; records are passed on as they are.
pub struct ProduceEncoder {
    frame: Writer,
    /// Where in `pieces` the frame up to an offset of its belongs.
    cuts: Vec<(usize, usize)>,
    pieces: Vec<Bytes>,
}

impl ProduceEncoder {
    /// A request of so many topics, and of so many batches in all.
    pub fn new(
        version: i16,
        acks: i16,
        timeout_ms: i32,
        topics: usize,
        batches: usize,
    ) -> Result<ProduceEncoder> {
        if !ProduceRequest::VERSIONS.contains(&version) {
            return Err(Error::new(status::UNSUPPORTED, format!("no Produce v{version}")));
        }
        let buffer = Vec::with_capacity(32 + topics * 64 + batches * (BATCH_HEADER_LEN + 12));
        let mut frame = Writer::append(buffer, version, ApiKey::Produce.is_flexible(version));
        encode_start(&mut frame, None, acks, timeout_ms)?;
        frame.array_len(topics)?;
        let (cuts, pieces) = (Vec::with_capacity(batches), Vec::with_capacity(batches * 2 + 1));
        Ok(ProduceEncoder { frame, cuts, pieces })
    }

    /// The next topic, by name until v12, by id from v13 on; it has so many batches.
    pub fn start_topic(&mut self, name: &str, id: Uuid, batches: usize) -> Result<()> {
        encode_topic_start(&mut self.frame, name, id, batches)
    }

    /// The topic's next batch: its stamped header, from
    /// [`BatchHeader::encode`](crate::protocol::record_batch::BatchHeader::encode), and the records
    /// area where it lies, `records_len` bytes in all.
    pub fn batch(
        &mut self,
        partition: i32,
        header: &[u8; BATCH_HEADER_LEN],
        records_len: usize,
        records: impl Iterator<Item = Bytes>,
    ) -> Result<()> {
        self.frame.i32(partition);
        self.frame.records_len(Some(BATCH_HEADER_LEN + records_len))?;
        self.frame.raw(header);
        self.cuts.push((self.pieces.len(), self.frame.len()));
        self.pieces.push(Bytes::new());
        self.pieces.extend(records.filter(|piece| !piece.is_empty()));
        self.frame.no_tags();
        Ok(())
    }

    /// All batches of the topic are there.
    pub fn end_topic(&mut self) {
        self.frame.no_tags();
    }

    /// The body, in order.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.frame.no_tags();
        let mut frame = Bytes::from(self.frame.into_vec());
        let mut written = 0;
        for (place, cut) in self.cuts {
            if let Some(piece) = self.pieces.get_mut(place) {
                *piece = frame.split_to(cut - written);
                written = cut;
            }
        }
        if !frame.is_empty() {
            self.pieces.push(frame);
        }
        self.pieces
    }
}

/// What became of the batches. Topics and partitions come in any order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProduceResponse {
    /// By topic.
    pub topics: Vec<TopicProduceResponse>,
    /// How long the broker asks the client to be silent.
    pub throttle_time_ms: i32,
    /// v10+: where the leaders named in `current_leader` listen.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What became of a topic's batches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicProduceResponse {
    /// Until v12.
    pub name: String,
    /// v13+.
    pub topic_id: Uuid,
    /// By partition.
    pub partitions: Vec<PartitionProduceResponse>,
}

/// What became of a partition's batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionProduceResponse {
    /// The partition's number.
    pub index: i32,
    /// Why it wasn't written.
    pub error_code: ErrorCode,
    /// The offset of the batch's first record; -1: not known.
    pub base_offset: i64,
    /// The log's time if the topic has `message.timestamp.type=LogAppendTime`, else -1.
    pub log_append_time_ms: i64,
    /// v5+; -1: not known.
    pub log_start_offset: i64,
    /// v8+: the records for which the batch was refused.
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    /// v8+: what they have in common.
    pub error_message: Option<String>,
    /// v10+: with `NOT_LEADER_OR_FOLLOWER`, who leads now.
    pub current_leader: LeaderIdAndEpoch,
}

/// A record for which a batch was refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BatchIndexAndErrorMessage {
    /// The record's place in the batch, from 0.
    pub batch_index: i32,
    /// What is wrong with it.
    pub batch_index_error_message: Option<String>,
}

/// A leader; -1 and -1: not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderIdAndEpoch {
    /// The broker.
    pub leader_id: i32,
    /// Since when, so to speak.
    pub leader_epoch: i32,
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeEndpoint {
    /// The broker.
    pub node_id: i32,
    /// Where it listens.
    pub host: String,
    /// Where it listens.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
}

impl Default for LeaderIdAndEpoch {
    fn default() -> Self {
        LeaderIdAndEpoch { leader_id: -1, leader_epoch: -1 }
    }
}

impl Default for PartitionProduceResponse {
    fn default() -> Self {
        PartitionProduceResponse {
            index: 0,
            error_code: ErrorCode::NONE,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: LeaderIdAndEpoch::default(),
        }
    }
}

impl LeaderIdAndEpoch {
    pub(super) fn encode(self, w: &mut Writer) -> Result<()> {
        w.i32(self.leader_id);
        w.i32(self.leader_epoch);
        w.no_tags();
        Ok(())
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (leader_id, leader_epoch) = (r.i32()?, r.i32()?);
        r.skip_tags()?;
        Ok(LeaderIdAndEpoch { leader_id, leader_epoch })
    }
}

impl NodeEndpoint {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        w.i32(self.node_id);
        w.string(&self.host)?;
        w.i32(self.port);
        w.nullable_string(self.rack.as_deref())?;
        w.no_tags();
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (node_id, host, port) = (r.i32()?, r.string()?, r.i32()?);
        let rack = r.nullable_string()?;
        r.skip_tags()?;
        Ok(NodeEndpoint { node_id, host, port, rack })
    }
}

impl PartitionProduceResponse {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        let version = w.version();
        w.i32(self.index);
        w.i16(self.error_code.0);
        w.i64(self.base_offset);
        w.i64(self.log_append_time_ms);
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        if version >= 8 {
            w.array(&self.record_errors, |w, error| {
                w.i32(error.batch_index);
                w.nullable_string(error.batch_index_error_message.as_deref())?;
                w.no_tags();
                Ok(())
            })?;
            w.nullable_string(self.error_message.as_deref())?;
        }
        let mut tags = w.new_tags();
        if version >= 10 && self.current_leader != LeaderIdAndEpoch::default() {
            tags.add(0, |w| self.current_leader.encode(w))?;
        }
        w.tags(&tags);
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let version = r.version();
        let mut partition = PartitionProduceResponse {
            index: r.i32()?,
            error_code: ErrorCode(r.i16()?),
            base_offset: r.i64()?,
            log_append_time_ms: r.i64()?,
            ..Default::default()
        };
        if version >= 5 {
            partition.log_start_offset = r.i64()?;
        }
        if version >= 8 {
            partition.record_errors = r.array(6, |r| {
                let (batch_index, text) = (r.i32()?, r.nullable_text()?);
                r.skip_tags()?;
                Ok(BatchIndexAndErrorMessage { batch_index, batch_index_error_message: text })
            })?;
            partition.error_message = r.nullable_text()?;
        }
        r.tags(|tag, r| {
            if tag == 0 && version >= 10 {
                partition.current_leader = LeaderIdAndEpoch::decode(r)?;
            }
            Ok(())
        })?;
        Ok(partition)
    }
}

impl Message for ProduceResponse {
    const KEY: ApiKey = ApiKey::Produce;
    const VERSIONS: RangeInclusive<i16> = 3..=13;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        out.array(&self.topics, |w, topic| {
            encode_topic_start(w, &topic.name, topic.topic_id, topic.partitions.len())?;
            topic.partitions.iter().try_for_each(|partition| partition.encode(w))?;
            w.no_tags();
            Ok(())
        })?;
        out.i32(self.throttle_time_ms);
        let mut tags = out.new_tags();
        if out.version() >= 10 && !self.node_endpoints.is_empty() {
            tags.add(0, |w| w.array(&self.node_endpoints, |w, endpoint| endpoint.encode(w)))?;
        }
        out.tags(&tags);
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let version = input.version();
        let mut response = ProduceResponse {
            topics: input.array(3, |r| {
                let mut topic = TopicProduceResponse::default();
                if version >= FIRST_VERSION_WITH_TOPIC_IDS {
                    topic.topic_id = r.uuid()?;
                } else {
                    topic.name = r.string()?;
                }
                topic.partitions = r.array(22, PartitionProduceResponse::decode)?;
                r.skip_tags()?;
                Ok(topic)
            })?,
            throttle_time_ms: input.i32()?,
            node_endpoints: Vec::new(),
        };
        input.tags(|tag, r| {
            if tag == 0 && version >= 10 {
                response.node_endpoints = r.array(11, NodeEndpoint::decode)?;
            }
            Ok(())
        })?;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Batch {
        index: i32,
        header: [u8; BATCH_HEADER_LEN],
        slabs: Vec<Bytes>,
    }

    fn batches(from: u8) -> Vec<Batch> {
        let slabs = |i: u8| (0..i).map(|n| Bytes::from(vec![n; 100 * usize::from(n)])).collect();
        let batch = |i: u8| {
            let header = [from + i; BATCH_HEADER_LEN];
            Batch { index: (from + i).into(), header, slabs: slabs(i) }
        };
        (0..3_u8).map(batch).collect()
    }

    #[test]
    fn gathered_request_equals_the_plain_one() {
        let topics = [
            ("a", [0; 16], batches(0)),
            ("topic", [1; 16], batches(10)),
            ("nothing", [2; 16], Vec::new()),
        ];
        for version in ProduceRequest::VERSIONS {
            let mut encoder = ProduceEncoder::new(version, -1, 30_000, topics.len(), 6).unwrap();
            for (name, id, batches) in &topics {
                encoder.start_topic(name, *id, batches.len()).unwrap();
                for Batch { index, header, slabs } in batches {
                    let len = slabs.iter().map(Bytes::len).sum();
                    encoder.batch(*index, header, len, slabs.iter().cloned()).unwrap();
                }
                encoder.end_topic();
            }
            let gathered = encoder.finish();
            let partition = |batch: &Batch| ProduceRequestPartition {
                index: batch.index,
                records: Some([&batch.header, batch.slabs.concat().as_slice()].concat().into()),
            };
            let plain = ProduceRequest {
                transactional_id: None,
                acks: -1,
                timeout_ms: 30_000,
                topics: topics
                    .iter()
                    .map(|(name, topic_id, batches)| ProduceRequestTopic {
                        name: (*name).to_owned(),
                        topic_id: *topic_id,
                        partitions: batches.iter().map(partition).collect(),
                    })
                    .collect(),
            };
            assert_eq!(gathered.concat(), plain.to_vec(version).unwrap(), "v{version}");
            assert!(gathered.iter().all(|piece| !piece.is_empty()));
            let slab = topics[0].2[2].slabs[1].as_ptr();
            assert_eq!(gathered.iter().filter(|piece| piece.as_ptr() == slab).count(), 1);
        }
    }
}
