//! What happens to topics, and to the clock on the client's wall.

use super::caller::topic_name;
use super::faults::Mend;
use super::net::Net;
use super::plan::{Plan, PlannedTopic, a_limit};
use crate::clock::Instant;
use std::time::Duration;

/// The most partitions that a topic grows to.
const MOST_PARTITIONS: i32 = 6;
/// How far the client's wall clock may be off. Brokers refuse records that are an hour ahead.
const MOST_WRONG_MS: i64 = 10 * 60 * 1000;

impl Net {
    /// All topics of a plan.
    pub(super) fn create_topics(&mut self, plan: &Plan) {
        for (number, planned) in plan.topics.iter().enumerate() {
            self.create_topic(&topic_name(number), *planned);
        }
        self.faults.archive.note_wall(Instant(0), 0);
    }

    pub(super) fn create_topic(&mut self, name: &str, planned: PlannedTopic) {
        self.cluster.create_topic(name, Some(planned.partitions)).unwrap();
        if planned.compacted {
            self.cluster.set_topic_config(name, "cleanup.policy", "compact").unwrap();
        }
        if let Some(limit) = planned.limit {
            self.limit(name, limit);
        }
        self.faults.archive.note_topic(&self.cluster, name);
    }

    fn limit(&mut self, topic: &str, limit: usize) {
        let text = limit.to_string();
        self.cluster.set_topic_config(topic, "max.message.bytes", &text).unwrap();
    }

    /// A topic's `max.message.bytes` changes.
    pub(super) fn change_limit(&mut self) {
        let Some((topic, _)) = self.a_partition() else { return };
        let limit = match self.rng.u32(0..4) {
            0 => 1 << 20,
            _ => a_limit(&mut self.rng),
        };
        self.trace.note(&[18, limit as u64], || format!("{topic} takes {limit} bytes"));
        self.limit(&topic, limit);
        self.faults.archive.note_topic(&self.cluster, &topic);
    }

    /// A topic gets more partitions.
    pub(super) fn grow(&mut self) {
        let Some((topic, _)) = self.a_partition() else { return };
        let count = self.cluster.topic(&topic).unwrap().partitions.len() as i32;
        let total = count + self.rng.i32(1..=2);
        if total > MOST_PARTITIONS {
            return;
        }
        self.trace.note(&[19, total as u64], || format!("{topic} has {total} partitions"));
        self.cluster.add_partitions(&topic, total).unwrap();
        self.faults.archive.note_topic(&self.cluster, &topic);
    }

    /// A topic is deleted, and after a while created again as it was.
    pub(super) fn recreate(&mut self, now: Instant) {
        let Some((name, _)) = self.a_partition() else { return };
        let topic = self.cluster.topic(&name).unwrap();
        let planned = PlannedTopic {
            partitions: topic.partitions.len() as i32,
            limit: Some(topic.config.max_message_bytes),
            compacted: topic.config.compacted,
        };
        self.trace.note(&[15], || format!("{name} is deleted"));
        self.audit.learn(&self.cluster);
        self.faults.archive.keep(&mut self.cluster, &name);
        self.cluster.delete_topic(&name).unwrap();
        let at = now.after(Duration::from_millis(self.rng.u64(0..200)));
        self.faults.mending.push((at, Mend::Topic(name, planned)));
    }

    /// The client's wall clock is set to another time.
    pub(super) fn set_clock(&mut self, now: Instant) {
        let offset = self.rng.i64(-MOST_WRONG_MS..MOST_WRONG_MS);
        let by = offset - (self.clock.wall_ms() - (now.0 / 1000) as i64);
        self.trace.note(&[21, offset as u64], || format!("the wall clock is set by {by} ms"));
        self.time.step_wall(by);
        self.faults.archive.note_wall(now, offset);
    }
}
