//! CreateTopics, v2 to v7 (KIP-4; v5 tells what was created, KIP-525; v7 topic ids, KIP-516).

use std::ops::RangeInclusive;

use crate::error::Result;
use crate::protocol::api::{ApiKey, ErrorCode, Message, Request};
use crate::protocol::codec::{Reader, Uuid, Writer};

/// Topics to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopicsRequest {
    /// The topics.
    pub topics: Vec<CreatableTopic>,
    /// How long the broker may take.
    pub timeout_ms: i32,
    /// Only says whether they could be created.
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreatableTopic {
    /// Its name.
    pub name: String,
    /// -1: the broker's default (v4+), or as assigned.
    pub num_partitions: i32,
    /// -1: the broker's default (v4+), or as assigned.
    pub replication_factor: i16,
    /// Which brokers get which partition; empty: the broker chooses.
    pub assignments: Vec<CreatableReplicaAssignment>,
    /// The topic's configuration.
    pub configs: Vec<CreatableTopicConfig>,
}

/// The brokers of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreatableReplicaAssignment {
    /// The partition's number.
    pub partition_index: i32,
    /// The brokers, the preferred leader first.
    pub broker_ids: Vec<i32>,
}

/// A configuration key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreatableTopicConfig {
    /// The key.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
}

impl Default for CreateTopicsRequest {
    fn default() -> Self {
        CreateTopicsRequest { topics: Vec::new(), timeout_ms: 60_000, validate_only: false }
    }
}

impl CreatableTopic {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        w.string(&self.name)?;
        w.i32(self.num_partitions);
        w.i16(self.replication_factor);
        w.array(&self.assignments, |w, assignment| {
            w.i32(assignment.partition_index);
            w.array_i32(&assignment.broker_ids)?;
            w.no_tags();
            Ok(())
        })?;
        w.array(&self.configs, |w, config| {
            w.string(&config.name)?;
            w.nullable_string(config.value.as_deref())?;
            w.no_tags();
            Ok(())
        })?;
        w.no_tags();
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let topic = CreatableTopic {
            name: r.string()?,
            num_partitions: r.i32()?,
            replication_factor: r.i16()?,
            assignments: r.array(6, |r| {
                let (partition_index, broker_ids) = (r.i32()?, r.array(4, Reader::i32)?);
                r.skip_tags()?;
                Ok(CreatableReplicaAssignment { partition_index, broker_ids })
            })?,
            configs: r.array(3, |r| {
                let (name, value) = (r.string()?, r.nullable_string()?);
                r.skip_tags()?;
                Ok(CreatableTopicConfig { name, value })
            })?,
        };
        r.skip_tags()?;
        Ok(topic)
    }
}

impl Message for CreateTopicsRequest {
    const KEY: ApiKey = ApiKey::CreateTopics;
    const VERSIONS: RangeInclusive<i16> = 2..=7;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        out.array(&self.topics, |w, topic| topic.encode(w))?;
        out.i32(self.timeout_ms);
        out.bool(self.validate_only);
        out.no_tags();
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let request = CreateTopicsRequest {
            topics: input.array(10, CreatableTopic::decode)?,
            timeout_ms: input.i32()?,
            validate_only: input.bool()?,
        };
        input.skip_tags()?;
        Ok(request)
    }
}

impl Request for CreateTopicsRequest {
    type Response = CreateTopicsResponse;
}

/// What became of the topics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreateTopicsResponse {
    /// How long the broker asks the client to be silent.
    pub throttle_time_ms: i32,
    /// By topic.
    pub topics: Vec<CreatableTopicResult>,
}

/// What became of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatableTopicResult {
    /// Its name.
    pub name: String,
    /// v7+; zeros: none.
    pub topic_id: Uuid,
    /// Why it wasn't created.
    pub error_code: ErrorCode,
    /// The same in words.
    pub error_message: Option<String>,
    /// v5+: why the configuration isn't told.
    pub topic_config_error_code: ErrorCode,
    /// v5+; -1: not told.
    pub num_partitions: i32,
    /// v5+; -1: not told.
    pub replication_factor: i16,
    /// v5+: its configuration, if it is told.
    pub configs: Option<Vec<CreatableTopicConfigs>>,
}

/// A configuration key of a new topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatableTopicConfigs {
    /// The key.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// Nobody can set it.
    pub read_only: bool,
    /// Where the value comes from; -1: not known.
    pub config_source: i8,
    /// The value is a secret.
    pub is_sensitive: bool,
}

impl Default for CreatableTopicResult {
    fn default() -> Self {
        CreatableTopicResult {
            name: String::new(),
            topic_id: [0; 16],
            error_code: ErrorCode::NONE,
            error_message: None,
            topic_config_error_code: ErrorCode::NONE,
            num_partitions: -1,
            replication_factor: -1,
            configs: Some(Vec::new()),
        }
    }
}

impl Default for CreatableTopicConfigs {
    fn default() -> Self {
        CreatableTopicConfigs {
            name: String::new(),
            value: None,
            read_only: false,
            config_source: -1,
            is_sensitive: false,
        }
    }
}

impl CreatableTopicConfigs {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        w.string(&self.name)?;
        w.nullable_string(self.value.as_deref())?;
        w.bool(self.read_only);
        w.i8(self.config_source);
        w.bool(self.is_sensitive);
        w.no_tags();
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let config = CreatableTopicConfigs {
            name: r.string()?,
            value: r.nullable_string()?,
            read_only: r.bool()?,
            config_source: r.i8()?,
            is_sensitive: r.bool()?,
        };
        r.skip_tags()?;
        Ok(config)
    }
}

impl CreatableTopicResult {
    fn encode(&self, w: &mut Writer) -> Result<()> {
        let version = w.version();
        w.string(&self.name)?;
        if version >= 7 {
            w.uuid(self.topic_id);
        }
        w.i16(self.error_code.0);
        w.nullable_string(self.error_message.as_deref())?;
        if version >= 5 {
            w.i32(self.num_partitions);
            w.i16(self.replication_factor);
            match &self.configs {
                None => w.null_array()?,
                Some(configs) => w.array(configs, |w, config| config.encode(w))?,
            }
        }
        let mut tags = w.new_tags();
        if !self.topic_config_error_code.is_none() {
            tags.add(0, |w| {
                w.i16(self.topic_config_error_code.0);
                Ok(())
            })?;
        }
        w.tags(&tags);
        Ok(())
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let version = r.version();
        let mut topic = CreatableTopicResult { name: r.string()?, ..Default::default() };
        if version >= 7 {
            topic.topic_id = r.uuid()?;
        }
        topic.error_code = ErrorCode(r.i16()?);
        topic.error_message = r.nullable_text()?;
        if version >= 5 {
            topic.num_partitions = r.i32()?;
            topic.replication_factor = r.i16()?;
            topic.configs = r.nullable_array(6, CreatableTopicConfigs::decode)?;
        }
        r.tags(|tag, r| {
            if tag == 0 {
                topic.topic_config_error_code = ErrorCode(r.i16()?);
            }
            Ok(())
        })?;
        Ok(topic)
    }
}

impl Message for CreateTopicsResponse {
    const KEY: ApiKey = ApiKey::CreateTopics;
    const VERSIONS: RangeInclusive<i16> = 2..=7;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        out.i32(self.throttle_time_ms);
        out.array(&self.topics, |w, topic| topic.encode(w))?;
        out.no_tags();
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let response = CreateTopicsResponse {
            throttle_time_ms: input.i32()?,
            topics: input.array(6, CreatableTopicResult::decode)?,
        };
        input.skip_tags()?;
        Ok(response)
    }
}
