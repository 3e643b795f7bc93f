//! ListOffsets: where a log starts, ends, or reaches a timestamp.

use super::fetch::refusal;
use super::{Call, answer};
use crate::error::Result;
use crate::mock::cluster::{Cluster, Reply};
use crate::mock::topics::{Partition, Topic};
use crate::protocol::ErrorCode;
use crate::protocol::messages::{
    EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsPartitionResponse,
    ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse, MAX_TIMESTAMP,
};

/// Answers a request.
pub fn handle(cluster: &Cluster, call: &Call, request: ListOffsetsRequest) -> Result<Reply> {
    let topics = request.topics.into_iter().map(|wanted| {
        let topic = cluster.topic(&wanted.name);
        let partitions = wanted.partitions.iter().map(|p| one_partition(topic, call, p));
        ListOffsetsTopicResponse { partitions: partitions.collect(), name: wanted.name }
    });
    let topics = topics.collect();
    answer(cluster, call, &ListOffsetsResponse { topics, ..Default::default() })
}

fn one_partition(
    topic: Option<&Topic>,
    call: &Call,
    wanted: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let partition_index = wanted.partition_index;
    let failed = |error_code| ListOffsetsPartitionResponse {
        partition_index,
        error_code,
        ..Default::default()
    };
    let Some(partition) = topic.and_then(|topic| topic.partition(partition_index)) else {
        return failed(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    let error_code = match call.error {
        ErrorCode::NONE => refusal(partition, call.node, wanted.current_leader_epoch),
        pushed => pushed,
    };
    if !error_code.is_none() {
        return failed(error_code);
    }
    match find(partition, wanted.timestamp) {
        Err(error_code) => failed(error_code),
        Ok(None) => failed(ErrorCode::NONE),
        Ok(Some((offset, timestamp))) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp,
            offset,
            leader_epoch: partition.log.leader_epoch_at(offset),
            ..Default::default()
        },
    }
}

/// What a timestamp, or what stands for one, leads to: (offset, timestamp).
fn find(partition: &Partition, timestamp: i64) -> Result<Option<(i64, i64)>, ErrorCode> {
    let log = &partition.log;
    match timestamp {
        LATEST_TIMESTAMP => Ok(Some((log.end_offset(), -1))),
        EARLIEST_TIMESTAMP => Ok(Some((log.start_offset(), -1))),
        MAX_TIMESTAMP => Ok(log.offset_of_max_timestamp()),
        0.. => Ok(log.offset_at(timestamp)),
        _ => Err(ErrorCode::UNSUPPORTED_VERSION),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::testing::{Bench, TestBatch, WALL_MS};
    use crate::protocol::messages::ListOffsetsTopic;

    #[test]
    fn offsets_by_timestamp() {
        let mut bench = Bench::new(1);
        bench.cluster.create_topic("t", Some(1)).unwrap();
        bench.produce(1, "t", 0, TestBatch::of(&["a", "b", "c"]).bytes());
        let mut ask = |version, timestamp| {
            let partition = ListOffsetsPartition { timestamp, ..Default::default() };
            let topic = ListOffsetsTopic { name: "t".to_owned(), partitions: vec![partition] };
            let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
            let response = bench.call(1, version, &request);
            let found = &response.topics[0].partitions[0];
            (found.error_code.0, found.offset, found.timestamp)
        };
        for version in 1..=10 {
            assert_eq!(ask(version, LATEST_TIMESTAMP), (0, 3, -1));
            assert_eq!(ask(version, EARLIEST_TIMESTAMP), (0, 0, -1));
            assert_eq!(ask(version, WALL_MS + 1), (0, 1, WALL_MS + 1));
            assert_eq!(ask(version, WALL_MS + 3), (0, -1, -1));
        }
        assert_eq!(ask(7, MAX_TIMESTAMP), (0, 2, WALL_MS + 2));
        assert_eq!(ask(9, -99), (ErrorCode::UNSUPPORTED_VERSION.0, -1, -1));
    }
}
