//! What this room's tests share.

use crate::metadata::{PartitionMetadata, TopicMetadata};

/// A topic whose partitions have these leaders; -1: none.
pub(super) fn topic(leaders: &[i32]) -> TopicMetadata {
    let partitions =
        leaders.iter().map(|leader| PartitionMetadata { leader: *leader, ..Default::default() });
    TopicMetadata::new("t".into(), [1; 16], partitions.collect(), 0)
}
