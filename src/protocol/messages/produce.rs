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

/// A topic on its way into a Produce request.
#[derive(Debug, Clone, Copy)]
pub struct ProduceTopic<'a> {
    /// Until v12.
    pub name: &'a str,
    /// v13+.
    pub id: Uuid,
    /// One batch per partition.
    pub partitions: &'a [ProducePiece],
}

/// A batch on its way into a Produce request: its stamped header, and its records where they lie.
#[derive(Debug, Clone)]
pub struct ProducePiece {
    /// The partition's number.
    pub index: i32,
    /// From [`BatchHeader::encode`](crate::protocol::record_batch::BatchHeader::encode).
    pub batch_header: [u8; BATCH_HEADER_LEN],
    /// The records area, in order.
    pub records: Vec<Bytes>,
}

/// Appends the body of a Produce request to `out`, piece by piece. Whatever isn't records lies in
/// one buffer that the pieces share; records are passed on as they are.
pub fn encode_produce(
    version: i16,
    acks: i16,
    timeout_ms: i32,
    topics: &[ProduceTopic<'_>],
    out: &mut Vec<Bytes>,
) -> Result<()> {
    if !ProduceRequest::VERSIONS.contains(&version) {
        return Err(Error::new(status::UNSUPPORTED, format!("no Produce v{version}")));
    }
    let batches = topics.iter().map(|topic| topic.partitions.len()).sum::<usize>();
    let pieces = topics.iter().flat_map(|topic| topic.partitions).map(|piece| piece.records.len());
    out.reserve(pieces.sum::<usize>().saturating_add(batches).saturating_add(1));

    let buffer = Vec::with_capacity(32 + topics.len() * 64 + batches * (BATCH_HEADER_LEN + 12));
    let mut frame = Writer::append(buffer, version, ApiKey::Produce.is_flexible(version));
    let mut cuts = Vec::with_capacity(batches);
    encode_start(&mut frame, None, acks, timeout_ms)?;
    frame.array_len(topics.len())?;
    for topic in topics {
        encode_topic_start(&mut frame, topic.name, topic.id, topic.partitions.len())?;
        for piece in topic.partitions {
            let records: usize = piece.records.iter().map(Bytes::len).sum();
            frame.i32(piece.index);
            frame.records_len(Some(BATCH_HEADER_LEN + records))?;
            frame.raw(&piece.batch_header);
            cuts.push(frame.len());
            frame.no_tags();
        }
        frame.no_tags();
    }
    frame.no_tags();

    let mut frame = Bytes::from(frame.into_vec());
    let mut written = 0;
    let slabs = topics.iter().flat_map(|topic| topic.partitions).map(|piece| &piece.records);
    for (cut, slabs) in cuts.into_iter().zip(slabs) {
        out.push(frame.split_to(cut - written));
        written = cut;
        out.extend(slabs.iter().filter(|slab| !slab.is_empty()).cloned());
    }
    if !frame.is_empty() {
        out.push(frame);
    }
    Ok(())
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

    #[test]
    fn gathered_request_equals_the_plain_one() {
        let pieces = |from: u8| -> Vec<ProducePiece> {
            (0..3_u8)
                .map(|i| ProducePiece {
                    index: (from + i).into(),
                    batch_header: [from + i; BATCH_HEADER_LEN],
                    records: (0..i).map(|n| Bytes::from(vec![n; 100 * usize::from(n)])).collect(),
                })
                .collect()
        };
        let partitions = [pieces(0), pieces(10), Vec::new()];
        for version in ProduceRequest::VERSIONS {
            let names = ["a", "topic", "nothing"];
            let topics: Vec<ProduceTopic<'_>> = (0..3_u8)
                .zip(names)
                .zip(&partitions)
                .map(|((i, name), partitions)| ProduceTopic { name, id: [i; 16], partitions })
                .collect();
            let mut gathered = Vec::new();
            encode_produce(version, -1, 30_000, &topics, &mut gathered).unwrap();
            let plain = ProduceRequest {
                transactional_id: None,
                acks: -1,
                timeout_ms: 30_000,
                topics: topics
                    .iter()
                    .map(|topic| ProduceRequestTopic {
                        name: topic.name.to_owned(),
                        topic_id: topic.id,
                        partitions: topic
                            .partitions
                            .iter()
                            .map(|piece| {
                                let mut records = piece.batch_header.to_vec();
                                piece.records.iter().for_each(|slab| records.extend(slab));
                                ProduceRequestPartition {
                                    index: piece.index,
                                    records: Some(records.into()),
                                }
                            })
                            .collect(),
                    })
                    .collect(),
            };
            assert_eq!(gathered.concat(), plain.to_vec(version).unwrap(), "v{version}");
            assert!(gathered.iter().all(|piece| !piece.is_empty()));
            let slab = partitions[0][2].records[1].as_ptr();
            assert_eq!(gathered.iter().filter(|piece| piece.as_ptr() == slab).count(), 1);
        }
    }
}
