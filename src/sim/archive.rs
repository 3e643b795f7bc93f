//! All logs of a run, those of topics that were deleted too.

use super::audit::id_of;
use crate::mock::cluster::Cluster;
use bytes::Bytes;
use std::collections::BTreeMap;

/// A record in a log.
pub(super) struct Kept {
    pub(super) id: u64,
    pub(super) offset: i64,
    pub(super) value: Bytes,
}

/// See the module's comment.
#[derive(Default)]
pub(super) struct Archive {
    /// By topic and partition; a log for each time that the topic was created, oldest first.
    pub(super) logs: BTreeMap<(String, i32), Vec<Vec<Kept>>>,
}

impl Archive {
    /// Copies a topic's logs.
    pub(super) fn keep(&mut self, cluster: &mut Cluster, topic: &str) {
        let count = cluster.topic(topic).map_or(0, |topic| topic.partitions.len() as i32);
        for index in 0..count {
            let end = cluster.end_offset(topic, index).unwrap();
            let records = (0..end).filter_map(|offset| cluster.read(topic, index, offset));
            let kept = records.map(|record| {
                let value = record.value.unwrap_or_default();
                let id = id_of(Some(&value)).unwrap_or(u64::MAX);
                Kept { id, offset: record.offset, value }
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
}
