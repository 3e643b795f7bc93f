//! Fetch, v4 to v13: records to consumers. v7 fetch sessions (KIP-227), v11 racks (KIP-392), v12
//! flexible, v13 topic ids instead of names (KIP-516). What only followers and controllers say to
//! each other (the cluster's id, diverging epochs, snapshots) is skipped on reading and not
//! written.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::produce::LeaderIdAndEpoch;
use crate::error::Result;
use crate::protocol::api::{ApiKey, ErrorCode, Message, Request};
use crate::protocol::codec::{Reader, Uuid, Writer};

/// From here on topics are named by id alone.
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

/// Which records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// -1: a consumer.
    pub replica_id: i32,
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// How many bytes are worth an answer.
    pub min_bytes: i32,
    /// About how many bytes the answer may have.
    pub max_bytes: i32,
    /// 0: read uncommitted, 1: read committed.
    pub isolation_level: i8,
    /// v7+; 0: none.
    pub session_id: i32,
    /// v7+; -1: no session, 0: a new one.
    pub session_epoch: i32,
    /// By topic; within a session what has changed.
    pub topics: Vec<FetchTopic>,
    /// v7+: what is no longer part of the session.
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    /// v11+: where the consumer is.
    pub rack_id: String,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FetchTopic {
    /// Until v12.
    pub topic: String,
    /// v13+.
    pub topic_id: Uuid,
    /// By partition.
    pub partitions: Vec<FetchPartition>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPartition {
    /// Its number.
    pub partition: i32,
    /// v9+; -1: not known.
    pub current_leader_epoch: i32,
    /// From which offset.
    pub fetch_offset: i64,
    /// v12+; -1: none.
    pub last_fetched_epoch: i32,
    /// v5+, followers: where their log starts.
    pub log_start_offset: i64,
    /// About how many bytes.
    pub partition_max_bytes: i32,
}

/// Partitions to leave out from now on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForgottenTopic {
    /// Until v12.
    pub topic: String,
    /// v13+.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

impl Default for FetchRequest {
    fn default() -> Self {
        FetchRequest {
            replica_id: -1,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: i32::MAX,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            forgotten_topics_data: Vec::new(),
            rack_id: String::new(),
        }
    }
}

impl Default for FetchPartition {
    fn default() -> Self {
        FetchPartition {
            partition: 0,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 0,
        }
    }
}

fn encode_topic(w: &mut Writer, name: &str, id: Uuid) -> Result<()> {
    if w.version() >= FIRST_VERSION_WITH_TOPIC_IDS {
        w.uuid(id);
        return Ok(());
    }
    w.string(name)
}

fn decode_topic(r: &mut Reader<'_>) -> Result<(String, Uuid)> {
    if r.version() >= FIRST_VERSION_WITH_TOPIC_IDS {
        return Ok((String::new(), r.uuid()?));
    }
    Ok((r.string()?, [0; 16]))
}

impl FetchPartition {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        let version = w.version();
        w.i32(self.partition);
        if version >= 9 {
            w.i32(self.current_leader_epoch);
        }
        w.i64(self.fetch_offset);
        if version >= 12 {
            w.i32(self.last_fetched_epoch);
        }
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        w.i32(self.partition_max_bytes);
        w.no_tags();
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let version = r.version();
        let mut partition = FetchPartition { partition: r.i32()?, ..Default::default() };
        if version >= 9 {
            partition.current_leader_epoch = r.i32()?;
        }
        partition.fetch_offset = r.i64()?;
        if version >= 12 {
            partition.last_fetched_epoch = r.i32()?;
        }
        if version >= 5 {
            partition.log_start_offset = r.i64()?;
        }
        partition.partition_max_bytes = r.i32()?;
        r.skip_tags()?;
        Ok(partition)
    }
}

impl FetchTopic {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        encode_topic(w, &self.topic, self.topic_id)?;
        w.array(&self.partitions, |w, partition| partition.encode(w))?;
        w.no_tags();
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (topic, topic_id) = decode_topic(r)?;
        let partitions = r.array(16, FetchPartition::decode)?;
        r.skip_tags()?;
        Ok(FetchTopic { topic, topic_id, partitions })
    }
}

impl ForgottenTopic {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        encode_topic(w, &self.topic, self.topic_id)?;
        w.array_i32(&self.partitions)?;
        w.no_tags();
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (topic, topic_id) = decode_topic(r)?;
        let partitions = r.array(4, Reader::i32)?;
        r.skip_tags()?;
        Ok(ForgottenTopic { topic, topic_id, partitions })
    }
}

impl Message for FetchRequest {
    const KEY: ApiKey = ApiKey::Fetch;
    const VERSIONS: RangeInclusive<i16> = 4..=13;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        let version = out.version();
        out.i32(self.replica_id);
        out.i32(self.max_wait_ms);
        out.i32(self.min_bytes);
        out.i32(self.max_bytes);
        out.i8(self.isolation_level);
        if version >= 7 {
            out.i32(self.session_id);
            out.i32(self.session_epoch);
        }
        out.array(&self.topics, |w, topic| topic.encode(w))?;
        if version >= 7 {
            out.array(&self.forgotten_topics_data, |w, topic| topic.encode(w))?;
        }
        if version >= 11 {
            out.string(&self.rack_id)?;
        }
        out.no_tags();
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let version = input.version();
        let mut request = FetchRequest {
            replica_id: input.i32()?,
            max_wait_ms: input.i32()?,
            min_bytes: input.i32()?,
            max_bytes: input.i32()?,
            isolation_level: input.i8()?,
            ..Default::default()
        };
        if version >= 7 {
            request.session_id = input.i32()?;
            request.session_epoch = input.i32()?;
        }
        request.topics = input.array(3, FetchTopic::decode)?;
        if version >= 7 {
            request.forgotten_topics_data = input.array(3, ForgottenTopic::decode)?;
        }
        if version >= 11 {
            request.rack_id = input.string()?;
        }
        input.skip_tags()?;
        Ok(request)
    }
}

impl Request for FetchRequest {
    type Response = FetchResponse;
}

/// The records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FetchResponse {
    /// How long the broker asks the client to be silent.
    pub throttle_time_ms: i32,
    /// v7+: why the whole request failed.
    pub error_code: ErrorCode,
    /// v7+; 0: no session.
    pub session_id: i32,
    /// By topic.
    pub responses: Vec<FetchableTopicResponse>,
}

/// A topic's records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FetchableTopicResponse {
    /// Until v12.
    pub topic: String,
    /// v13+.
    pub topic_id: Uuid,
    /// By partition.
    pub partitions: Vec<FetchPartitionData>,
}

/// A partition's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPartitionData {
    /// Its number.
    pub partition_index: i32,
    /// Why there are none.
    pub error_code: ErrorCode,
    /// The offset up to which all replicas have the log.
    pub high_watermark: i64,
    /// The offset up to which every transaction is decided; -1: not known.
    pub last_stable_offset: i64,
    /// v5+: where the log starts; -1: not known.
    pub log_start_offset: i64,
    /// v12+: who leads now, if not this broker.
    pub current_leader: LeaderIdAndEpoch,
    /// The aborted transactions among the records; null: uncommitted ones were asked for.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// v11+: where to read from; -1: here.
    pub preferred_read_replica: i32,
    /// Record batches.
    pub records: Option<Bytes>,
}

/// An aborted transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: i64,
    /// Its first offset in the partition.
    pub first_offset: i64,
}

impl Default for FetchPartitionData {
    fn default() -> Self {
        FetchPartitionData {
            partition_index: 0,
            error_code: ErrorCode::NONE,
            high_watermark: 0,
            last_stable_offset: -1,
            log_start_offset: -1,
            current_leader: LeaderIdAndEpoch::default(),
            aborted_transactions: Some(Vec::new()),
            preferred_read_replica: -1,
            records: None,
        }
    }
}

impl FetchPartitionData {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        let version = w.version();
        w.i32(self.partition_index);
        w.i16(self.error_code.0);
        w.i64(self.high_watermark);
        w.i64(self.last_stable_offset);
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        match &self.aborted_transactions {
            None => w.null_array()?,
            Some(transactions) => w.array(transactions, |w, transaction| {
                w.i64(transaction.producer_id);
                w.i64(transaction.first_offset);
                w.no_tags();
                Ok(())
            })?,
        }
        if version >= 11 {
            w.i32(self.preferred_read_replica);
        }
        w.records(self.records.as_deref())?;
        let mut tags = w.new_tags();
        if self.current_leader != LeaderIdAndEpoch::default() {
            tags.add(1, |w| self.current_leader.encode(w))?;
        }
        w.tags(&tags);
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let version = r.version();
        let mut partition = FetchPartitionData {
            partition_index: r.i32()?,
            error_code: ErrorCode(r.i16()?),
            high_watermark: r.i64()?,
            last_stable_offset: r.i64()?,
            ..Default::default()
        };
        if version >= 5 {
            partition.log_start_offset = r.i64()?;
        }
        partition.aborted_transactions = r.nullable_array(16, |r| {
            let (producer_id, first_offset) = (r.i64()?, r.i64()?);
            r.skip_tags()?;
            Ok(AbortedTransaction { producer_id, first_offset })
        })?;
        if version >= 11 {
            partition.preferred_read_replica = r.i32()?;
        }
        partition.records = r.records()?;
        r.tags(|tag, r| {
            if tag == 1 {
                partition.current_leader = LeaderIdAndEpoch::decode(r)?;
            }
            Ok(())
        })?;
        Ok(partition)
    }
}

impl Message for FetchResponse {
    const KEY: ApiKey = ApiKey::Fetch;
    const VERSIONS: RangeInclusive<i16> = 4..=13;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        out.i32(self.throttle_time_ms);
        if out.version() >= 7 {
            out.i16(self.error_code.0);
            out.i32(self.session_id);
        }
        out.array(&self.responses, |w, topic| {
            encode_topic(w, &topic.topic, topic.topic_id)?;
            w.array(&topic.partitions, |w, partition| partition.encode(w))?;
            w.no_tags();
            Ok(())
        })?;
        out.no_tags();
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let mut response = FetchResponse { throttle_time_ms: input.i32()?, ..Default::default() };
        if input.version() >= 7 {
            response.error_code = ErrorCode(input.i16()?);
            response.session_id = input.i32()?;
        }
        response.responses = input.array(3, |r| {
            let (topic, topic_id) = decode_topic(r)?;
            let partitions = r.array(30, FetchPartitionData::decode)?;
            r.skip_tags()?;
            Ok(FetchableTopicResponse { topic, topic_id, partitions })
        })?;
        input.skip_tags()?;
        Ok(response)
    }
}
