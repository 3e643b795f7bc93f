//! Metadata, v0 to v13: brokers, topics, partitions and their leaders (KIP-320 epochs, KIP-516
//! topic ids).

use std::ops::RangeInclusive;

use crate::error::Result;
use crate::protocol::api::{ApiKey, ErrorCode, Message, Request};
use crate::protocol::codec::{Reader, Uuid, Writer};

/// What authorized operations say when nobody asked for them.
pub const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// Which topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataRequest {
    /// `None`: all (v0 says so with an empty list); empty: none, v1+.
    pub topics: Option<Vec<MetadataRequestTopic>>,
    /// v4+; before, brokers create what they may.
    pub allow_auto_topic_creation: bool,
    /// v8 to v10.
    pub include_cluster_authorized_operations: bool,
    /// v8+.
    pub include_topic_authorized_operations: bool,
}

/// A topic by name, or from v12 on by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetadataRequestTopic {
    /// v10+; zeros: by name.
    pub topic_id: Uuid,
    /// Null (v10+): by id.
    pub name: Option<String>,
}

impl Default for MetadataRequest {
    fn default() -> Self {
        MetadataRequest {
            topics: None,
            allow_auto_topic_creation: true,
            include_cluster_authorized_operations: false,
            include_topic_authorized_operations: false,
        }
    }
}

impl MetadataRequestTopic {
    /// A topic by name.
    pub fn named(name: impl Into<String>) -> MetadataRequestTopic {
        MetadataRequestTopic { topic_id: [0; 16], name: Some(name.into()) }
    }
}

impl Message for MetadataRequest {
    const KEY: ApiKey = ApiKey::Metadata;
    const VERSIONS: RangeInclusive<i16> = 0..=13;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        let version = out.version();
        match &self.topics {
            None if version == 0 => out.array_len(0)?,
            None => out.null_array()?,
            Some(topics) => out.array(topics, |w, topic| {
                if version >= 10 {
                    w.uuid(topic.topic_id);
                    w.nullable_string(topic.name.as_deref())?;
                } else {
                    w.required_string(topic.name.as_deref())?;
                }
                w.no_tags();
                Ok(())
            })?,
        }
        if version >= 4 {
            out.bool(self.allow_auto_topic_creation);
        }
        if (8..=10).contains(&version) {
            out.bool(self.include_cluster_authorized_operations);
        }
        if version >= 8 {
            out.bool(self.include_topic_authorized_operations);
        }
        out.no_tags();
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let version = input.version();
        let mut topics = input.nullable_array(2, |r| {
            let mut topic = MetadataRequestTopic::default();
            if version >= 10 {
                topic.topic_id = r.uuid()?;
                topic.name = r.nullable_string()?;
            } else {
                topic.name = Some(r.string()?);
            }
            r.skip_tags()?;
            Ok(topic)
        })?;
        if version == 0 {
            topics = topics.filter(|topics| !topics.is_empty());
        }
        let mut request = MetadataRequest { topics, ..Default::default() };
        if version >= 4 {
            request.allow_auto_topic_creation = input.bool()?;
        }
        if (8..=10).contains(&version) {
            request.include_cluster_authorized_operations = input.bool()?;
        }
        if version >= 8 {
            request.include_topic_authorized_operations = input.bool()?;
        }
        input.skip_tags()?;
        Ok(request)
    }
}

impl Request for MetadataRequest {
    type Response = MetadataResponse;
    const CLIENT_VERSIONS: RangeInclusive<i16> = 4..=13;
}

/// The cluster as one broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataResponse {
    /// v3+.
    pub throttle_time_ms: i32,
    /// The live brokers.
    pub brokers: Vec<MetadataResponseBroker>,
    /// v2+.
    pub cluster_id: Option<String>,
    /// v1+; -1: none.
    pub controller_id: i32,
    /// The topics asked for.
    pub topics: Vec<MetadataResponseTopic>,
    /// v8 to v10: a bit set, or [`OPERATIONS_NOT_ASKED`].
    pub cluster_authorized_operations: i32,
    /// v13+: the whole request failed (`REBOOTSTRAP_REQUIRED`).
    pub error_code: ErrorCode,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetadataResponseBroker {
    /// Its number.
    pub node_id: i32,
    /// Where it listens.
    pub host: String,
    /// Where it listens.
    pub port: i32,
    /// v1+.
    pub rack: Option<String>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataResponseTopic {
    /// Why there is nothing about it.
    pub error_code: ErrorCode,
    /// Null (v12+) if it was asked for by id and isn't known.
    pub name: Option<String>,
    /// v10+; zeros: none.
    pub topic_id: Uuid,
    /// v1+.
    pub is_internal: bool,
    /// Its partitions, in no particular order.
    pub partitions: Vec<MetadataResponsePartition>,
    /// v8+: a bit set, or [`OPERATIONS_NOT_ASKED`].
    pub topic_authorized_operations: i32,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataResponsePartition {
    /// What is wrong with it.
    pub error_code: ErrorCode,
    /// Its number.
    pub partition_index: i32,
    /// -1: none.
    pub leader_id: i32,
    /// v7+; -1: not known.
    pub leader_epoch: i32,
    /// All replicas.
    pub replica_nodes: Vec<i32>,
    /// Those in sync.
    pub isr_nodes: Vec<i32>,
    /// v5+: those that are off line.
    pub offline_replicas: Vec<i32>,
}

impl Default for MetadataResponse {
    fn default() -> Self {
        MetadataResponse {
            throttle_time_ms: 0,
            brokers: Vec::new(),
            cluster_id: None,
            controller_id: -1,
            topics: Vec::new(),
            cluster_authorized_operations: OPERATIONS_NOT_ASKED,
            error_code: ErrorCode::NONE,
        }
    }
}

impl Default for MetadataResponseTopic {
    fn default() -> Self {
        MetadataResponseTopic {
            error_code: ErrorCode::NONE,
            name: None,
            topic_id: [0; 16],
            is_internal: false,
            partitions: Vec::new(),
            topic_authorized_operations: OPERATIONS_NOT_ASKED,
        }
    }
}

impl Default for MetadataResponsePartition {
    fn default() -> Self {
        MetadataResponsePartition {
            error_code: ErrorCode::NONE,
            partition_index: 0,
            leader_id: 0,
            leader_epoch: -1,
            replica_nodes: Vec::new(),
            isr_nodes: Vec::new(),
            offline_replicas: Vec::new(),
        }
    }
}

impl MetadataResponseBroker {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        w.i32(self.node_id);
        w.string(&self.host)?;
        w.i32(self.port);
        if w.version() >= 1 {
            w.nullable_string(self.rack.as_deref())?;
        }
        w.no_tags();
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut broker = MetadataResponseBroker {
            node_id: r.i32()?,
            host: r.string()?,
            port: r.i32()?,
            rack: None,
        };
        if r.version() >= 1 {
            broker.rack = r.nullable_string()?;
        }
        r.skip_tags()?;
        Ok(broker)
    }
}

impl MetadataResponseTopic {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        let version = w.version();
        w.i16(self.error_code.0);
        if version >= 12 {
            w.nullable_string(self.name.as_deref())?;
        } else {
            w.required_string(self.name.as_deref())?;
        }
        if version >= 10 {
            w.uuid(self.topic_id);
        }
        if version >= 1 {
            w.bool(self.is_internal);
        }
        w.array(&self.partitions, |w, partition| partition.encode(w))?;
        if version >= 8 {
            w.i32(self.topic_authorized_operations);
        }
        w.no_tags();
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let version = r.version();
        let mut topic = MetadataResponseTopic {
            error_code: ErrorCode(r.i16()?),
            name: if version >= 12 { r.nullable_string()? } else { Some(r.string()?) },
            ..Default::default()
        };
        if version >= 10 {
            topic.topic_id = r.uuid()?;
        }
        if version >= 1 {
            topic.is_internal = r.bool()?;
        }
        topic.partitions = r.array(18, MetadataResponsePartition::decode)?;
        if version >= 8 {
            topic.topic_authorized_operations = r.i32()?;
        }
        r.skip_tags()?;
        Ok(topic)
    }
}

impl MetadataResponsePartition {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        let version = w.version();
        w.i16(self.error_code.0);
        w.i32(self.partition_index);
        w.i32(self.leader_id);
        if version >= 7 {
            w.i32(self.leader_epoch);
        }
        w.array_i32(&self.replica_nodes)?;
        w.array_i32(&self.isr_nodes)?;
        if version >= 5 {
            w.array_i32(&self.offline_replicas)?;
        }
        w.no_tags();
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let version = r.version();
        let mut partition = MetadataResponsePartition {
            error_code: ErrorCode(r.i16()?),
            partition_index: r.i32()?,
            leader_id: r.i32()?,
            ..Default::default()
        };
        if version >= 7 {
            partition.leader_epoch = r.i32()?;
        }
        partition.replica_nodes = r.array(4, Reader::i32)?;
        partition.isr_nodes = r.array(4, Reader::i32)?;
        if version >= 5 {
            partition.offline_replicas = r.array(4, Reader::i32)?;
        }
        r.skip_tags()?;
        Ok(partition)
    }
}

impl Message for MetadataResponse {
    const KEY: ApiKey = ApiKey::Metadata;
    const VERSIONS: RangeInclusive<i16> = 0..=13;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        let version = out.version();
        if version >= 3 {
            out.i32(self.throttle_time_ms);
        }
        out.array(&self.brokers, |w, broker| broker.encode(w))?;
        if version >= 2 {
            out.nullable_string(self.cluster_id.as_deref())?;
        }
        if version >= 1 {
            out.i32(self.controller_id);
        }
        out.array(&self.topics, |w, topic| topic.encode(w))?;
        if (8..=10).contains(&version) {
            out.i32(self.cluster_authorized_operations);
        }
        if version >= 13 {
            out.i16(self.error_code.0);
        }
        out.no_tags();
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let version = input.version();
        let mut response = MetadataResponse::default();
        if version >= 3 {
            response.throttle_time_ms = input.i32()?;
        }
        response.brokers = input.array(10, MetadataResponseBroker::decode)?;
        if version >= 2 {
            response.cluster_id = input.nullable_string()?;
        }
        if version >= 1 {
            response.controller_id = input.i32()?;
        }
        response.topics = input.array(8, MetadataResponseTopic::decode)?;
        if (8..=10).contains(&version) {
            response.cluster_authorized_operations = input.i32()?;
        }
        if version >= 13 {
            response.error_code = ErrorCode(input.i16()?);
        }
        input.skip_tags()?;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn to_v(version: i16, topics: Option<Vec<MetadataRequestTopic>>) -> Vec<u8> {
        MetadataRequest { topics, ..Default::default() }.to_vec(version).unwrap()
    }

    #[test]
    fn all_topics_and_none() {
        assert_eq!(to_v(0, None), [0, 0, 0, 0]);
        assert_eq!(to_v(1, None), [0xff; 4]);
        assert_eq!(to_v(1, Some(vec![])), [0; 4]);
        assert_eq!(to_v(9, None), [0, 1, 0, 0, 0]);
        assert_eq!(to_v(9, Some(vec![])), [1, 1, 0, 0, 0]);
        let all = MetadataRequest::from_bytes(0, &Bytes::from_static(&[0; 4])).unwrap();
        assert_eq!(all.topics, None);
    }

    #[test]
    fn a_topic_without_a_name_needs_a_version_with_ids() {
        let by_id = MetadataRequestTopic { topic_id: [7; 16], name: None };
        let request = MetadataRequest { topics: Some(vec![by_id]), ..Default::default() };
        assert!(request.to_vec(9).is_err());
        assert!(request.to_vec(12).is_ok());
        assert_eq!(MetadataRequestTopic::named("t").name.as_deref(), Some("t"));
    }
}
