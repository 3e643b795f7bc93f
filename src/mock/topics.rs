//! Topics and partitions: names, ids, configuration, leaders, logs.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::log::Log;
use crate::error::{Error, Result, status};
use crate::protocol::messages::MetadataResponse;
use crate::protocol::{ErrorCode, Uuid};

/// The longest name of a topic.
const MAX_TOPIC_NAME: usize = 249;
/// Kafka's default of `max.message.bytes`.
const MAX_MESSAGE_BYTES: usize = 1_048_588;
/// Kafka's default of `message.timestamp.after.max.ms`.
const TIMESTAMP_AFTER_MAX_MS: i64 = 3_600_000;
/// The most partitions a topic may have here.
pub const MAX_PARTITIONS: i32 = 100_000;

/// Those of a topic's settings that a producer can notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicConfig {
    /// `max.message.bytes`: the largest batch, header included.
    pub max_message_bytes: usize,
    /// `cleanup.policy` has `compact`: records need a key. (Nothing is ever compacted.)
    pub compacted: bool,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.after.max.ms`: how far ahead of the broker's clock a timestamp may be.
    pub timestamp_after_max_ms: i64,
    /// `retention.bytes`: how much of a partition is kept; `None` (-1): all.
    pub retention_bytes: Option<usize>,
}

impl Default for TopicConfig {
    fn default() -> Self {
        TopicConfig {
            max_message_bytes: MAX_MESSAGE_BYTES,
            compacted: false,
            log_append_time: false,
            timestamp_after_max_ms: TIMESTAMP_AFTER_MAX_MS,
            retention_bytes: None,
        }
    }
}

impl TopicConfig {
    /// Sets one of them by Kafka's name; false: a name that nothing here depends on.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool> {
        let bad = || {
            let message = format!("topic configuration {name} cannot be {value:?}");
            invalid_topic(ErrorCode::INVALID_CONFIG, message)
        };
        match name {
            "max.message.bytes" => self.max_message_bytes = value.parse().map_err(|_| bad())?,
            "message.timestamp.after.max.ms" => {
                self.timestamp_after_max_ms = value.parse().map_err(|_| bad())?;
            }
            "cleanup.policy" => self.compacted = value.split(',').any(|v| v.trim() == "compact"),
            "message.timestamp.type" => {
                self.log_append_time = match value {
                    "LogAppendTime" => true,
                    "CreateTime" => false,
                    _ => return Err(bad()),
                };
            }
            "retention.bytes" => {
                self.retention_bytes = match value {
                    "-1" => None,
                    _ => Some(value.parse().map_err(|_| bad())?),
                };
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A partition.
#[derive(Debug, Default)]
pub struct Partition {
    /// The broker that takes records for it; -1: none.
    pub leader: i32,
    /// Grows with every change of the leader.
    pub leader_epoch: i32,
    /// Brokers that have a copy, by name only: there is one log.
    pub replicas: Vec<i32>,
    /// What it holds.
    pub log: Log,
    /// Codes for its next batches.
    pub errors: VecDeque<ErrorCode>,
}

impl Partition {
    /// Gives the partition another leader, or none (-1).
    pub fn set_leader(&mut self, node: i32) {
        if self.leader == node {
            return;
        }
        self.leader = node;
        self.leader_epoch += 1;
        if node >= 0 && !self.replicas.contains(&node) {
            self.replicas.pop();
            self.replicas.insert(0, node);
        }
    }
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id: another one if it is deleted and created again.
    pub id: Uuid,
    /// Its settings.
    pub config: TopicConfig,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// A partition by number.
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// A partition by number, to change it.
    pub fn partition_mut(&mut self, index: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(index).ok()?)
    }
}

/// All topics, by name and by id.
#[derive(Debug, Default)]
pub struct Topics {
    by_name: BTreeMap<Arc<str>, Topic>,
    names: BTreeMap<Uuid, Arc<str>>,
    /// What is said of them instead of the truth.
    pub(super) twist: Twist,
}

/// Makes the answers of a node to Metadata requests untrue.
#[derive(Default)]
pub struct Twist(pub(super) Option<Box<TwistFn>>);

type TwistFn = dyn FnMut(i32, &mut MetadataResponse) + Send;

impl fmt::Debug for Twist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Twist").field(&self.0.is_some()).finish()
    }
}

impl Topics {
    /// A topic that isn't there yet, whose partitions are led by `nodes` in turn and have up to
    /// `replication` copies.
    pub fn new_topic(
        &self,
        name: &str,
        id: Uuid,
        partitions: i32,
        nodes: &[i32],
        replication: usize,
    ) -> Result<Topic> {
        check_name(name)?;
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            let message = format!("a topic of {partitions} partitions (1 to {MAX_PARTITIONS})");
            return Err(invalid_topic(ErrorCode::INVALID_PARTITIONS, message));
        }
        if self.by_name.contains_key(name) {
            let message = format!("topic {name} exists already");
            return Err(invalid_topic(ErrorCode::TOPIC_ALREADY_EXISTS, message));
        }
        Ok(Topic {
            name: name.into(),
            id,
            config: TopicConfig::default(),
            partitions: partitions_led_by(nodes, 0..partitions, replication),
        })
    }

    /// Adds a topic from [`Topics::new_topic`].
    pub fn add(&mut self, topic: Topic) {
        self.names.insert(topic.id, topic.name.clone());
        self.by_name.insert(topic.name.clone(), topic);
    }

    /// Gives a topic more partitions.
    pub fn add_partitions(
        &mut self,
        name: &str,
        total: i32,
        nodes: &[i32],
        replication: usize,
    ) -> Result<()> {
        let topic = self.known(name)?;
        let now = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        if total <= now || total > MAX_PARTITIONS {
            let message = format!("topic {name} has {now} partitions and cannot have {total}");
            return Err(invalid_topic(ErrorCode::INVALID_PARTITIONS, message));
        }
        topic.partitions.extend(partitions_led_by(nodes, now..total, replication));
        Ok(())
    }

    /// Removes a topic and everything in it.
    pub fn delete(&mut self, name: &str) -> Result<()> {
        let topic = self.by_name.remove(name).ok_or_else(|| unknown(name))?;
        self.names.remove(&topic.id);
        Ok(())
    }

    /// A topic by name.
    pub fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    /// A topic by name, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.by_name.get_mut(name)
    }

    /// The name that goes with an id.
    pub fn name_of(&self, id: &Uuid) -> Option<&Arc<str>> {
        self.names.get(id)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }

    /// All of them, by name, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.by_name.values_mut()
    }

    /// A topic by name, or the error that says there is none.
    pub fn known(&mut self, name: &str) -> Result<&mut Topic> {
        self.by_name.get_mut(name).ok_or_else(|| unknown(name))
    }

    /// A partition, or the error that says there is none.
    pub fn known_partition(&mut self, name: &str, index: i32) -> Result<&mut Partition> {
        let topic = self.known(name)?;
        let count = topic.partitions.len();
        topic.partition_mut(index).ok_or_else(|| {
            let message = format!("topic {name} has {count} partitions, no partition {index}");
            invalid_topic(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
        })
    }
}

/// New partitions with these numbers, led by `nodes` in turn.
fn partitions_led_by(nodes: &[i32], numbers: Range<i32>, replication: usize) -> Vec<Partition> {
    let new = |number: i32| {
        let first = usize::try_from(number).unwrap_or_default() % nodes.len().max(1);
        let copies = nodes.iter().cycle().skip(first).take(replication.min(nodes.len()));
        let replicas: Vec<i32> = copies.copied().collect();
        let leader = replicas.first().copied().unwrap_or(-1);
        Partition { leader, replicas, ..Partition::default() }
    };
    numbers.map(new).collect()
}

fn unknown(name: &str) -> Error {
    let message = format!("there is no topic {name}");
    invalid_topic(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
}

/// Kafka's rules for names of topics.
fn check_name(name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=MAX_TOPIC_NAME).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.chars().all(legal)
    {
        return Ok(());
    }
    let message = format!("{name:?} is no name for a topic");
    Err(invalid_topic(ErrorCode::INVALID_TOPIC_EXCEPTION, message))
}

/// An error with one of Kafka's codes.
pub fn invalid_topic(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(code.0.into(), message)
}

/// An error for a wrong argument.
pub fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(status::INVALID_ARGUMENT, message)
}
