//! What is known of the cluster at one moment: an immutable snapshot that callers and the network
//! thread share.
//!
//! Topics that did not change are shared between snapshots, so that a new one costs the map, not
//! the partitions.

use std::collections::HashMap;
use std::sync::Arc;

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id, from 0.
    pub id: i32,
    /// Host name or address, as the cluster advertises it.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// Rack, if the broker has one.
    pub rack: Option<Arc<str>>,
}

/// A partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Node id of the leader, or -1 while there is none. The snapshot need not know the node.
    pub leader: i32,
    /// The leader's epoch; grows with every election, never goes back. -1: unknown (brokers before
    /// 2.1).
    pub leader_epoch: i32,
    /// Number of replicas.
    pub replicas: i32,
    /// Number of replicas in sync.
    pub in_sync: i32,
    /// Kafka's code for the partition, or 0.
    pub error: i16,
}

impl Default for PartitionMetadata {
    fn default() -> Self {
        PartitionMetadata { leader: -1, leader_epoch: -1, replicas: 0, in_sync: 0, error: 0 }
    }
}

/// One partition of a topic, as the cluster described it last: what users see. Laid out as C has
/// it, so that an array of them is an array of C's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct PartitionInfo {
    /// Its number.
    pub partition: i32,
    /// The leader's node id, or -1.
    pub leader: i32,
    /// The leader's epoch, or -1.
    pub leader_epoch: i32,
    /// How many replicas it has.
    pub replicas: i32,
    /// How many of them are in sync.
    pub in_sync: i32,
    /// 0.
    pub reserved: u32,
}

/// A topic that is known to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Name.
    pub name: Arc<str>,
    /// Id, all zero before Metadata v10. Another id under the same name is another topic.
    pub id: [u8; 16],
    /// By number, without gaps.
    pub partitions: Vec<PartitionMetadata>,
    /// Kafka's code for the topic, or 0.
    pub error: i16,
    /// The numbers of the partitions that have a leader.
    leading: Vec<i32>,
}

impl TopicMetadata {
    /// A topic; `partitions` by number.
    pub fn new(
        name: Arc<str>,
        id: [u8; 16],
        partitions: Vec<PartitionMetadata>,
        error: i16,
    ) -> TopicMetadata {
        let leading = leading(&partitions);
        TopicMetadata { name, id, partitions, error, leading }
    }

    /// A partition by number.
    pub fn partition(&self, number: i32) -> Option<&PartitionMetadata> {
        self.partitions.get(usize::try_from(number).ok()?)
    }

    /// Gives a partition another leader.
    pub(super) fn lead(&mut self, number: i32, leader: i32, leader_epoch: i32) {
        let slot = usize::try_from(number).ok().and_then(|at| self.partitions.get_mut(at));
        let Some(partition) = slot else { return };
        *partition = PartitionMetadata { leader, leader_epoch, error: 0, ..*partition };
        self.leading = leading(&self.partitions);
    }

    /// How many partitions have a leader.
    pub fn available(&self) -> usize {
        self.leading.len()
    }

    /// A partition that records may go to, by a number that may be of any size: one with a leader,
    /// any where no partition has one. 0 if there is none at all.
    pub fn candidate(&self, number: u64) -> i32 {
        let remainder = |count: usize| match count {
            0 => 0,
            count => number % count as u64,
        };
        let leading = usize::try_from(remainder(self.leading.len())).ok();
        let among_all = || i32::try_from(remainder(self.partitions.len())).unwrap_or(0);
        leading.and_then(|at| self.leading.get(at)).copied().unwrap_or_else(among_all)
    }

    /// All partitions as users see them, by number.
    pub fn infos(&self) -> Vec<PartitionInfo> {
        let partitions = self.partitions.iter().zip(0..);
        let infos = partitions.map(|(partition, index)| PartitionInfo {
            partition: index,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replicas,
            in_sync: partition.in_sync,
            reserved: 0,
        });
        infos.collect()
    }
}

fn leading(partitions: &[PartitionMetadata]) -> Vec<i32> {
    let numbered = (0..).zip(partitions);
    numbered.filter(|(_, partition)| partition.leader >= 0).map(|(number, _)| number).collect()
}

/// What callers look topics up in.
pub(super) type Topics = HashMap<Arc<str>, Arc<TopicMetadata>, foldhash::fast::FixedState>;

/// A snapshot of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    /// Grows with every snapshot; 0 is the empty one.
    pub version: u64,
    /// Brokers by id.
    pub nodes: Vec<Node>,
    /// The cluster's id, if it says so.
    pub cluster_id: Option<Arc<str>>,
    /// Node id of the controller, or -1.
    pub controller: i32,
    pub(super) topics: Topics,
}

impl Cluster {
    /// A topic by name, if it is in use and known to exist.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicMetadata>> {
        self.topics.get(name)
    }

    /// All topics in use that are known to exist, in no order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicMetadata>> {
        self.topics.values()
    }

    /// A broker by id.
    pub fn node(&self, id: i32) -> Option<&Node> {
        let at = self.nodes.binary_search_by_key(&id, |node| node.id).ok()?;
        self.nodes.get(at)
    }

    /// Adds a broker or takes over its new address; whether that changed anything.
    pub(super) fn describe(&mut self, node: &Node) -> bool {
        match self.nodes.binary_search_by_key(&node.id, |node| node.id) {
            Ok(at) => match self.nodes.get_mut(at) {
                Some(known) if known != node => {
                    *known = node.clone();
                    true
                }
                Some(_) | None => false,
            },
            Err(at) => {
                self.nodes.insert(at, node.clone());
                true
            }
        }
    }

    /// The broker that leads a partition; `None` if it has no leader or the leader is not among the
    /// brokers.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<&Node> {
        self.node(self.topic(topic)?.partition(partition)?.leader)
    }
}
