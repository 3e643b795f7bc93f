//! ListOffsets, v1 to v10: offsets by timestamp (KIP-79; v7 adds the maximum timestamp, KIP-734).

use std::ops::RangeInclusive;

use crate::error::Result;
use crate::protocol::api::{ApiKey, ErrorCode, Message, Request};
use crate::protocol::codec::{Reader, Writer};

/// The timestamp that asks for the end of the log.
pub const LATEST_TIMESTAMP: i64 = -1;
/// The timestamp that asks for the start of the log.
pub const EARLIEST_TIMESTAMP: i64 = -2;
/// The timestamp that asks for the record with the highest one, v7+.
pub const MAX_TIMESTAMP: i64 = -3;

/// Which offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOffsetsRequest {
    /// -1: a consumer.
    pub replica_id: i32,
    /// v2+; 0: read uncommitted, 1: read committed.
    pub isolation_level: i8,
    /// By topic.
    pub topics: Vec<ListOffsetsTopic>,
    /// v10+: how long the broker may ask tiered storage.
    pub timeout_ms: i32,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOffsetsTopic {
    /// Its name.
    pub name: String,
    /// By partition.
    pub partitions: Vec<ListOffsetsPartition>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOffsetsPartition {
    /// Its number.
    pub partition_index: i32,
    /// v4+; -1: not known.
    pub current_leader_epoch: i32,
    /// A time, or one of the constants of this module.
    pub timestamp: i64,
}

impl Default for ListOffsetsRequest {
    fn default() -> Self {
        ListOffsetsRequest { replica_id: -1, isolation_level: 0, topics: Vec::new(), timeout_ms: 0 }
    }
}

impl Default for ListOffsetsPartition {
    fn default() -> Self {
        ListOffsetsPartition { partition_index: 0, current_leader_epoch: -1, timestamp: 0 }
    }
}

impl Message for ListOffsetsRequest {
    const KEY: ApiKey = ApiKey::ListOffsets;
    const VERSIONS: RangeInclusive<i16> = 1..=10;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        let version = out.version();
        out.i32(self.replica_id);
        if version >= 2 {
            out.i8(self.isolation_level);
        }
        out.array(&self.topics, |w, topic| {
            w.string(&topic.name)?;
            w.array(&topic.partitions, |w, partition| {
                w.i32(partition.partition_index);
                if version >= 4 {
                    w.i32(partition.current_leader_epoch);
                }
                w.i64(partition.timestamp);
                w.no_tags();
                Ok(())
            })?;
            w.no_tags();
            Ok(())
        })?;
        if version >= 10 {
            out.i32(self.timeout_ms);
        }
        out.no_tags();
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let version = input.version();
        let mut request = ListOffsetsRequest { replica_id: input.i32()?, ..Default::default() };
        if version >= 2 {
            request.isolation_level = input.i8()?;
        }
        request.topics = input.array(3, |r| {
            let name = r.string()?;
            let partitions = r.array(12, |r| {
                let partition_index = r.i32()?;
                let current_leader_epoch = if version >= 4 { r.i32()? } else { -1 };
                let timestamp = r.i64()?;
                r.skip_tags()?;
                Ok(ListOffsetsPartition { partition_index, current_leader_epoch, timestamp })
            })?;
            r.skip_tags()?;
            Ok(ListOffsetsTopic { name, partitions })
        })?;
        if version >= 10 {
            request.timeout_ms = input.i32()?;
        }
        input.skip_tags()?;
        Ok(request)
    }
}

impl Request for ListOffsetsRequest {
    type Response = ListOffsetsResponse;
}

/// The offsets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOffsetsResponse {
    /// v2+.
    pub throttle_time_ms: i32,
    /// By topic.
    pub topics: Vec<ListOffsetsTopicResponse>,
}

/// A topic's offsets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOffsetsTopicResponse {
    /// Its name.
    pub name: String,
    /// By partition.
    pub partitions: Vec<ListOffsetsPartitionResponse>,
}

/// A partition's offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOffsetsPartitionResponse {
    /// Its number.
    pub partition_index: i32,
    /// Why there is none.
    pub error_code: ErrorCode,
    /// The timestamp of the record found; -1: none.
    pub timestamp: i64,
    /// The offset; -1: none.
    pub offset: i64,
    /// v4+; -1: not known.
    pub leader_epoch: i32,
}

impl Default for ListOffsetsPartitionResponse {
    fn default() -> Self {
        ListOffsetsPartitionResponse {
            partition_index: 0,
            error_code: ErrorCode::NONE,
            timestamp: -1,
            offset: -1,
            leader_epoch: -1,
        }
    }
}

impl ListOffsetsPartitionResponse {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        w.i32(self.partition_index);
        w.i16(self.error_code.0);
        w.i64(self.timestamp);
        w.i64(self.offset);
        if w.version() >= 4 {
            w.i32(self.leader_epoch);
        }
        w.no_tags();
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut partition = ListOffsetsPartitionResponse {
            partition_index: r.i32()?,
            error_code: ErrorCode(r.i16()?),
            timestamp: r.i64()?,
            offset: r.i64()?,
            leader_epoch: -1,
        };
        if r.version() >= 4 {
            partition.leader_epoch = r.i32()?;
        }
        r.skip_tags()?;
        Ok(partition)
    }
}

impl Message for ListOffsetsResponse {
    const KEY: ApiKey = ApiKey::ListOffsets;
    const VERSIONS: RangeInclusive<i16> = 1..=10;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        if out.version() >= 2 {
            out.i32(self.throttle_time_ms);
        }
        out.array(&self.topics, |w, topic| {
            w.string(&topic.name)?;
            w.array(&topic.partitions, |w, partition| partition.encode(w))?;
            w.no_tags();
            Ok(())
        })?;
        out.no_tags();
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let throttle_time_ms = if input.version() >= 2 { input.i32()? } else { 0 };
        let topics = input.array(3, |r| {
            let name = r.string()?;
            let partitions = r.array(22, ListOffsetsPartitionResponse::decode)?;
            r.skip_tags()?;
            Ok(ListOffsetsTopicResponse { name, partitions })
        })?;
        input.skip_tags()?;
        Ok(ListOffsetsResponse { throttle_time_ms, topics })
    }
}
