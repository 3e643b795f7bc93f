use kafka_producer::protocol::messages::*;
use kafka_protocol::messages::{list_offsets_request, list_offsets_response};

use super::*;

#[test]
fn requests() {
    judge::<ListOffsetsRequest>();
}

#[test]
fn responses() {
    judge::<ListOffsetsResponse>();
}

impl Judged for ListOffsetsRequest {
    type Theirs = kafka_protocol::messages::ListOffsetsRequest;

    fn any() -> BoxedStrategy<Self> {
        let partition = any::<(i32, i32, i64)>().prop_map(|(index, epoch, timestamp)| {
            ListOffsetsPartition { partition_index: index, current_leader_epoch: epoch, timestamp }
        });
        let topic = (text(), some(partition))
            .prop_map(|(name, partitions)| ListOffsetsTopic { name, partitions });
        (any::<i32>(), any::<i8>(), some(topic), any::<i32>())
            .prop_map(|(replica_id, isolation_level, topics, timeout_ms)| ListOffsetsRequest {
                replica_id,
                isolation_level,
                topics,
                timeout_ms,
            })
            .boxed()
    }

    fn at(mut self, version: i16) -> Self {
        if version < 2 {
            self.isolation_level = 0;
        }
        if version < 4 {
            let partitions = self.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.for_each(|partition| partition.current_leader_epoch = -1);
        }
        if version < 10 {
            self.timeout_ms = 0;
        }
        self
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        let partition = |partition: &ListOffsetsPartition| {
            list_offsets_request::ListOffsetsPartition::default()
                .with_partition_index(partition.partition_index)
                .with_current_leader_epoch(partition.current_leader_epoch)
                .with_timestamp(partition.timestamp)
                .with_unknown_tagged_fields(unknown.clone())
        };
        let topic = |topic: &ListOffsetsTopic| {
            list_offsets_request::ListOffsetsTopic::default()
                .with_name(topic_name(&topic.name))
                .with_partitions(topic.partitions.iter().map(partition).collect())
                .with_unknown_tagged_fields(unknown.clone())
        };
        Self::Theirs::default()
            .with_replica_id(self.replica_id.into())
            .with_isolation_level(self.isolation_level)
            .with_topics(self.topics.iter().map(topic).collect())
            .with_timeout_ms(self.timeout_ms)
            .with_unknown_tagged_fields(unknown.clone())
    }
}

impl Judged for ListOffsetsResponse {
    type Theirs = kafka_protocol::messages::ListOffsetsResponse;

    fn any() -> BoxedStrategy<Self> {
        let partition = (error_code(), any::<(i32, i64, i64, i32)>()).prop_map(
            |(error_code, (index, timestamp, offset, leader_epoch))| ListOffsetsPartitionResponse {
                partition_index: index,
                error_code,
                timestamp,
                offset,
                leader_epoch,
            },
        );
        let topic = (text(), some(partition))
            .prop_map(|(name, partitions)| ListOffsetsTopicResponse { name, partitions });
        (any::<i32>(), some(topic))
            .prop_map(|(throttle_time_ms, topics)| ListOffsetsResponse { throttle_time_ms, topics })
            .boxed()
    }

    fn at(mut self, version: i16) -> Self {
        if version < 2 {
            self.throttle_time_ms = 0;
        }
        if version < 4 {
            let partitions = self.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.for_each(|partition| partition.leader_epoch = -1);
        }
        self
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        let partition = |partition: &ListOffsetsPartitionResponse| {
            list_offsets_response::ListOffsetsPartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(partition.error_code.0)
                .with_timestamp(partition.timestamp)
                .with_offset(partition.offset)
                .with_leader_epoch(partition.leader_epoch)
                .with_unknown_tagged_fields(unknown.clone())
        };
        let topic = |topic: &ListOffsetsTopicResponse| {
            list_offsets_response::ListOffsetsTopicResponse::default()
                .with_name(topic_name(&topic.name))
                .with_partitions(topic.partitions.iter().map(partition).collect())
                .with_unknown_tagged_fields(unknown.clone())
        };
        Self::Theirs::default()
            .with_throttle_time_ms(self.throttle_time_ms)
            .with_topics(self.topics.iter().map(topic).collect())
            .with_unknown_tagged_fields(unknown.clone())
    }
}
