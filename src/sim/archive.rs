//! What a run leaves behind for the judgement: all logs, those of topics that were deleted too, and
//! what the world was like.

use super::audit::{Identity, id_of};
use crate::clock::Instant;
use crate::mock::cluster::Cluster;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A record in a log.
pub(super) struct Kept {
    pub(super) id: u64,
    pub(super) offset: i64,
    pub(super) timestamp_ms: i64,
    pub(super) value: Bytes,
    /// Of the batch it came in.
    pub(super) identity: Identity,
}

/// See the module's comment.
#[derive(Default)]
pub(super) struct Archive {
    /// By topic and partition; a log for each time that the topic was created, oldest first.
    pub(super) logs: BTreeMap<(String, i32), Vec<Vec<Kept>>>,
    /// The smallest `max.message.bytes` that a topic ever had.
    limits: BTreeMap<String, usize>,
    /// How many partitions a topic ever had.
    counts: BTreeMap<String, BTreeSet<i32>>,
    /// From when on the client's wall clock was so far ahead of the monotonic one, in milliseconds.
    walls: Vec<(Instant, i64)>,
    /// Where a partition's log ended whenever its brokers forgot their producers, and in which of
    /// its logs.
    forgets: BTreeMap<(String, i32), Vec<(usize, i64)>>,
    /// The batches that were refused for some of their records.
    pub(super) refused: Vec<Vec<u64>>,
}

impl Archive {
    /// Copies a topic's logs.
    pub(super) fn keep(&mut self, cluster: &mut Cluster, topic: &str) {
        let count = cluster.topic(topic).map_or(0, |topic| topic.partitions.len() as i32);
        for index in 0..count {
            let end = cluster.end_offset(topic, index).unwrap();
            let partition = cluster.topic(topic).and_then(|topic| topic.partition(index)).unwrap();
            let batches = partition.log.batches().map(|batch| {
                let of = batch.header;
                (batch.end_offset(), (of.producer_id, of.producer_epoch, of.base_sequence))
            });
            let batches: Vec<(i64, Identity)> = batches.collect();
            let records = (0..end).filter_map(|offset| cluster.read(topic, index, offset));
            let kept = records.map(|record| {
                let value = record.value.unwrap_or_default();
                let id = id_of(Some(&value)).unwrap_or(u64::MAX);
                let (offset, timestamp_ms) = (record.offset, record.timestamp_ms);
                let (_, identity) = batches[batches.partition_point(|(end, _)| *end <= offset)];
                Kept { id, offset, timestamp_ms, value, identity }
            });
            self.logs.entry((topic.to_owned(), index)).or_default().push(kept.collect());
        }
    }

    /// Copies the logs of all topics there are.
    pub(super) fn keep_all(&mut self, cluster: &mut Cluster) {
        let names: Vec<String> = cluster.topics().map(|topic| topic.name.to_string()).collect();
        for name in names {
            self.keep(cluster, &name);
        }
    }

    /// Takes note of a topic as it is now.
    pub(super) fn note_topic(&mut self, cluster: &Cluster, name: &str) {
        let Some(topic) = cluster.topic(name) else { return };
        let limit = topic.config.max_message_bytes;
        let smallest = self.limits.entry(name.to_owned()).or_insert(limit);
        *smallest = limit.min(*smallest);
        let count = topic.partitions.len() as i32;
        self.counts.entry(name.to_owned()).or_default().insert(count);
    }

    /// Every broker forgets its producers.
    pub(super) fn note_forget(&mut self, cluster: &Cluster) {
        for topic in cluster.topics() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                let key = (topic.name.to_string(), index);
                let log = self.logs.get(&key).map_or(0, Vec::len);
                self.forgets.entry(key).or_default().push((log, partition.log.end_offset()));
            }
        }
    }

    /// Whether what stood at the one offset was forgotten before the other was written.
    pub(super) fn forgot(&self, topic: &str, at: (usize, i32), first: i64, again: i64) -> bool {
        let (log, index) = at;
        let marks = self.forgets.get(&(topic.to_owned(), index)).into_iter().flatten();
        marks.into_iter().any(|(of, end)| *of == log && (first + 1..=again).contains(end))
    }

    /// The client's wall clock is so far ahead of the monotonic one from now on.
    pub(super) fn note_wall(&mut self, now: Instant, offset_ms: i64) {
        self.walls.push((now, offset_ms));
    }

    /// The smallest `max.message.bytes` that the topic had at any time.
    pub(super) fn smallest_limit(&self, topic: &str) -> usize {
        self.limits.get(topic).copied().unwrap_or(usize::MAX)
    }

    /// How many partitions the topic had at some time, as far as a client can know: a broker that
    /// lags may leave out the last one.
    pub(super) fn partition_counts(&self, topic: &str) -> BTreeSet<i32> {
        let counts = self.counts.get(topic).into_iter().flatten();
        counts.flat_map(|count| [*count, count - 1]).filter(|count| *count > 0).collect()
    }

    /// Whether the client's wall clock showed this at some time between those two.
    pub(super) fn showed(&self, wall_ms: i64, from: Instant, to: Instant) -> bool {
        let ends = self.walls.iter().skip(1).map(|(at, _)| *at).chain([Instant::NEVER]);
        self.walls.iter().zip(ends).any(|((begin, offset), end)| {
            let (first, last) = (from.max(*begin), to.min(end));
            let shown = |at: Instant| (at.0 / 1000) as i64 + offset;
            first <= last && (shown(first)..=shown(last)).contains(&wall_ms)
        })
    }
}
