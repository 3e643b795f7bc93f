//! One topic's answer merged into what is known of it. Pure; network thread.
//!
//! Brokers lag: one may answer with an older leader, or not know a partition yet that another has
//! told of. So leader epochs never go back (KIP-320), and a partition that was seen once stays.
//! Another topic id (KIP-516) is another topic: nothing of the old one counts. Numbers come from
//! the wire: nothing is allocated beyond the answer's own count.

use super::cluster::{Node, PartitionMetadata, TopicMetadata};
use crate::defects::{self, Defect};
use crate::error::status;
use crate::protocol::messages::metadata::{MetadataResponse, MetadataResponsePartition};
use std::sync::Arc;

/// The id of topics whose id is not known.
pub(super) const NO_ID: [u8; 16] = [0; 16];

/// A Metadata response, stripped of its versions.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub error: i16,
    pub nodes: Vec<Node>,
    pub cluster_id: Option<Arc<str>>,
    pub controller: i32,
    pub topics: Vec<TopicAnswer>,
}

/// What a response says of a topic.
#[derive(Debug, Clone, Default)]
pub(super) struct TopicAnswer {
    pub name: String,
    pub id: [u8; 16],
    pub error: i16,
    /// Number and state, as they came: unordered, perhaps twice, perhaps out of range.
    pub partitions: Vec<(i32, PartitionMetadata)>,
}

impl From<&MetadataResponse> for Answer {
    fn from(response: &MetadataResponse) -> Answer {
        let nodes = response.brokers.iter().filter_map(|broker| {
            // A port that is none can't be connected to; such a broker counts as missing.
            let port = u16::try_from(broker.port).ok().filter(|port| *port != 0)?;
            let rack = broker.rack.as_deref().map(Arc::from);
            Some(Node { id: broker.node_id, host: broker.host.as_str().into(), port, rack })
        });
        let topics = response.topics.iter().filter_map(|topic| {
            let partitions = topic.partitions.iter().map(|p| (p.partition_index, p.into()));
            Some(TopicAnswer {
                name: topic.name.clone()?,
                id: topic.topic_id,
                error: topic.error_code.0,
                partitions: partitions.collect(),
            })
        });
        Answer {
            error: response.error_code.0,
            nodes: nodes.filter(|node| node.id >= 0 && !node.host.is_empty()).collect(),
            cluster_id: response.cluster_id.as_deref().map(Arc::from),
            controller: response.controller_id,
            topics: topics.collect(),
        }
    }
}

impl From<&MetadataResponsePartition> for PartitionMetadata {
    fn from(partition: &MetadataResponsePartition) -> PartitionMetadata {
        let count = |nodes: &[i32]| i32::try_from(nodes.len()).unwrap_or(i32::MAX);
        PartitionMetadata {
            leader: partition.leader_id.max(-1),
            leader_epoch: partition.leader_epoch.max(-1),
            replicas: count(&partition.replica_nodes),
            in_sync: count(&partition.isr_nodes),
            error: partition.error_code.0,
        }
    }
}

impl TopicAnswer {
    /// Whether a partition that `old` has is missing here. Only brokers without topic ids leave it
    /// open why.
    pub fn lacks_partitions_of(&self, old: &TopicMetadata) -> bool {
        self.is_same_topic(old) && self.slots(old.partitions.len()).iter().any(Option::is_none)
    }

    fn is_same_topic(&self, old: &TopicMetadata) -> bool {
        old.id == self.id || old.id == NO_ID || self.id == NO_ID
    }

    /// The partitions by number, at least as many as are `known`.
    fn slots(&self, known: usize) -> Vec<Option<PartitionMetadata>> {
        let mut slots = vec![None; known.max(self.partitions.len())];
        for (number, partition) in &self.partitions {
            if let Some(slot) = usize::try_from(*number).ok().and_then(|at| slots.get_mut(at)) {
                *slot = Some(*partition);
            }
        }
        let named = slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        slots.truncate(named.max(known));
        slots
    }

    /// What is known after this answer; `old` itself if it changes nothing. `forget_missing`: the
    /// partitions that are missing here have been missing for long enough.
    pub fn merged(
        &self,
        name: &Arc<str>,
        old: Option<&Arc<TopicMetadata>>,
        forget_missing: bool,
    ) -> Arc<TopicMetadata> {
        let same = old.filter(|old| self.is_same_topic(old));
        let known = same.map_or(&[][..], |old| &old.partitions);
        let mut slots = self.slots(known.len());
        if forget_missing {
            slots.truncate(slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
        }
        if defects::on(Defect::KeepPartitionCount) && !known.is_empty() {
            slots.truncate(known.len());
        }
        let known = known.iter().map(Some).chain(std::iter::repeat(None));
        let partitions = slots.into_iter().zip(known).map(|(new, old)| match (new, old) {
            (Some(new), Some(old)) => newer(*old, new),
            (Some(new), None) => new,
            (None, Some(old)) => *old,
            (None, None) => PartitionMetadata { error: UNKNOWN_PARTITION, ..Default::default() },
        });
        let merged = TopicMetadata::new(name.clone(), self.id, partitions.collect(), self.error);
        match old {
            Some(old) if **old == merged => old.clone(),
            Some(_) | None => Arc::new(merged),
        }
    }
}

/// A number below the highest that the answer left out.
#[expect(clippy::cast_possible_truncation, reason = "3")]
const UNKNOWN_PARTITION: i16 = status::UNKNOWN_TOPIC_OR_PARTITION as i16;

fn newer(old: PartitionMetadata, new: PartitionMetadata) -> PartitionMetadata {
    if new.leader_epoch < 0 {
        // A broker that doesn't tell epochs: believed, and the epoch already seen stays the bar.
        return PartitionMetadata { leader_epoch: old.leader_epoch, ..new };
    }
    let older = new.leader_epoch < old.leader_epoch && !defects::on(Defect::OlderEpoch);
    if older { old } else { new }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [1; 16];

    fn partition(leader: i32, leader_epoch: i32) -> PartitionMetadata {
        PartitionMetadata { leader, leader_epoch, replicas: 3, in_sync: 3, error: 0 }
    }

    fn answer(id: [u8; 16], partitions: &[(i32, i32, i32)]) -> TopicAnswer {
        let partitions =
            partitions.iter().map(|(n, leader, epoch)| (*n, partition(*leader, *epoch)));
        TopicAnswer { name: "t".into(), id, error: 0, partitions: partitions.collect() }
    }

    fn merged(old: Option<&Arc<TopicMetadata>>, new: &TopicAnswer) -> Arc<TopicMetadata> {
        new.merged(&"t".into(), old, false)
    }

    fn leaders(topic: &TopicMetadata) -> Vec<(i32, i32)> {
        topic.partitions.iter().map(|p| (p.leader, p.leader_epoch)).collect()
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        let topic = merged(None, &answer(ID, &[(2, 7, 1), (0, 5, 1), (1, 6, 1), (1, 8, 2)]));
        assert_eq!(leaders(&topic), [(5, 1), (8, 2), (7, 1)]);
        assert_eq!(topic.available(), 3);
    }

    #[test]
    fn an_older_epoch_is_ignored_a_newer_or_equal_one_is_not() {
        let old = merged(None, &answer(ID, &[(0, 1, 5), (1, 1, 5), (2, 1, 5)]));
        let new = merged(Some(&old), &answer(ID, &[(0, 2, 4), (1, 2, 6), (2, -1, 5)]));
        assert_eq!(leaders(&new), [(1, 5), (2, 6), (-1, 5)]);
        assert_eq!(new.available(), 2);
    }

    #[test]
    fn a_missing_epoch_is_believed_but_lowers_nothing() {
        let old = merged(None, &answer(ID, &[(0, 1, 5)]));
        let untold = merged(Some(&old), &answer(ID, &[(0, 2, -1)]));
        assert_eq!(leaders(&untold), [(2, 5)]);
        assert_eq!(leaders(&merged(Some(&untold), &answer(ID, &[(0, 3, 4)]))), [(2, 5)]);
    }

    #[test]
    fn another_id_is_another_topic() {
        let old = merged(None, &answer(ID, &[(0, 1, 9), (1, 1, 9)]));
        let new = merged(Some(&old), &answer([2; 16], &[(0, 3, 0)]));
        assert_eq!((leaders(&new), new.id), (vec![(3, 0)], [2; 16]));
        assert!(!answer([2; 16], &[(0, 3, 0)]).lacks_partitions_of(&old));
    }

    #[test]
    fn an_id_that_comes_or_goes_keeps_the_epochs() {
        let old = merged(None, &answer(NO_ID, &[(0, 1, 9)]));
        let with_id = merged(Some(&old), &answer(ID, &[(0, 2, 8)]));
        assert_eq!((leaders(&with_id), with_id.id), (vec![(1, 9)], ID));
        let without = merged(Some(&with_id), &answer(NO_ID, &[(0, 2, 8)]));
        assert_eq!((leaders(&without), without.id), (vec![(1, 9)], NO_ID));
    }

    #[test]
    fn a_partition_that_a_lagging_broker_leaves_out_stays() {
        let old = merged(None, &answer(NO_ID, &[(0, 1, 1), (1, 2, 1)]));
        let lagging = answer(NO_ID, &[(0, 3, 2)]);
        assert!(lagging.lacks_partitions_of(&old));
        assert_eq!(leaders(&merged(Some(&old), &lagging)), [(3, 2), (2, 1)]);
        assert_eq!(leaders(&lagging.merged(&"t".into(), Some(&old), true)), [(3, 2)]);
    }

    #[test]
    fn an_unchanged_topic_is_shared() {
        let old = merged(None, &answer(ID, &[(0, 1, 1), (1, 2, 1)]));
        assert!(Arc::ptr_eq(&old, &merged(Some(&old), &answer(ID, &[(1, 2, 1), (0, 1, 1)]))));
        assert!(Arc::ptr_eq(&old, &merged(Some(&old), &answer(ID, &[(1, 9, 0), (0, 9, 0)]))));
        assert!(!Arc::ptr_eq(&old, &merged(Some(&old), &answer(ID, &[(1, 9, 2), (0, 1, 1)]))));
    }

    #[test]
    fn hostile_numbers_allocate_nothing() {
        let wild = answer(ID, &[(i32::MAX, 1, 1), (-1, 1, 1), (i32::MIN, 1, 1), (0, 4, 1)]);
        assert_eq!(leaders(&merged(None, &wild)), [(4, 1)]);
        let gap = merged(None, &answer(ID, &[(0, 1, 1), (2, 1, 1), (9, 1, 1)]));
        assert_eq!(leaders(&gap), [(1, 1), (-1, -1), (1, 1)]);
        assert_eq!(gap.partitions[1].error, 3);
    }
}
