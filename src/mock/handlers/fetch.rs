//! Fetch: whole batches from logs, after waiting for them if the consumer wants that.
//!
//! No fetch sessions (KIP-227): every answer says session 0, and consumers then send whole
//! requests. There are no transactions, so that the last stable offset is the end of the log.

use std::time::Duration;

use bytes::Bytes;

use super::Call;
use crate::error::Result;
use crate::mock::cluster::{Cluster, Reply, Waiting};
use crate::mock::topics::{Partition, Topic};
use crate::protocol::ErrorCode;
use crate::protocol::messages::{
    FetchPartition, FetchPartitionData, FetchRequest, FetchResponse, FetchTopic,
    FetchableTopicResponse, LeaderIdAndEpoch,
};

/// From here on topics are named by id alone.
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;
/// The most bytes of an answer, whatever the consumer asks for (`fetch.max.bytes` of a broker).
const MAX_BYTES: usize = 55 << 20;

/// Answers a request, or lets it wait.
pub fn handle(cluster: &mut Cluster, call: &Call, request: FetchRequest) -> Result<Reply> {
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or_default());
    let may_wait = !wait.is_zero() && !request.topics.is_empty();
    if let Some(reply) = answer(cluster, call, &request, !may_wait)? {
        return Ok(reply);
    }
    let until = call.now.at.after(wait);
    Ok(Reply::Wait(Box::new(Waiting { call: *call, request, until })))
}

/// The answer, if there is enough for one or it may wait no longer.
pub fn answer(
    cluster: &Cluster,
    call: &Call,
    request: &FetchRequest,
    at_once: bool,
) -> Result<Option<Reply>> {
    let mut response =
        FetchResponse { throttle_time_ms: cluster.throttle_ms(call.node), ..Default::default() };
    if request.session_id != 0 {
        response.error_code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        return super::answer(cluster, call, &response).map(Some);
    }
    let most = usize::try_from(request.max_bytes).unwrap_or_default().min(MAX_BYTES);
    let mut budget = Budget { most, used: 0 };
    response.responses =
        request.topics.iter().map(|topic| one_topic(cluster, call, topic, &mut budget)).collect();
    let mut parts = response.responses.iter().flat_map(|topic| &topic.partitions);
    let enough = usize::try_from(request.min_bytes).unwrap_or_default();
    if at_once || budget.used >= enough || parts.any(|p| !p.error_code.is_none()) {
        return super::answer(cluster, call, &response).map(Some);
    }
    Ok(None)
}

/// How much an answer may hold, and does.
struct Budget {
    most: usize,
    used: usize,
}

fn one_topic(
    cluster: &Cluster,
    call: &Call,
    wanted: &FetchTopic,
    budget: &mut Budget,
) -> FetchableTopicResponse {
    let by_id = call.version >= FIRST_VERSION_WITH_TOPIC_IDS;
    let name = if by_id {
        cluster.topics.name_of(&wanted.topic_id).map(AsRef::as_ref)
    } else {
        Some(wanted.topic.as_str())
    };
    let topic = name.and_then(|name| cluster.topic(name));
    let unknown =
        if by_id { ErrorCode::UNKNOWN_TOPIC_ID } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
    let partitions = wanted.partitions.iter().map(|partition| match topic {
        None => failed(partition.partition, unknown),
        Some(topic) => one_partition(topic, call, partition, budget),
    });
    FetchableTopicResponse {
        topic: wanted.topic.clone(),
        topic_id: wanted.topic_id,
        partitions: partitions.collect(),
    }
}

fn one_partition(
    topic: &Topic,
    call: &Call,
    wanted: &FetchPartition,
    budget: &mut Budget,
) -> FetchPartitionData {
    let index = wanted.partition;
    let Some(partition) = topic.partition(index) else {
        return failed(index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    if !call.error.is_none() {
        return failed(index, call.error);
    }
    let mut data = FetchPartitionData {
        partition_index: index,
        high_watermark: partition.log.end_offset(),
        last_stable_offset: partition.log.end_offset(),
        log_start_offset: partition.log.start_offset(),
        records: Some(Bytes::new()),
        ..Default::default()
    };
    data.error_code = refusal(partition, call.node, wanted.current_leader_epoch);
    if data.error_code == ErrorCode::NOT_LEADER_OR_FOLLOWER {
        let (leader_id, leader_epoch) = (partition.leader, partition.leader_epoch);
        data.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
    }
    let offsets = data.log_start_offset..=data.high_watermark;
    if data.error_code.is_none() && !offsets.contains(&wanted.fetch_offset) {
        data.error_code = ErrorCode::OFFSET_OUT_OF_RANGE;
    }
    if data.error_code.is_none() {
        let left = budget.most.saturating_sub(budget.used);
        let most = usize::try_from(wanted.partition_max_bytes).unwrap_or_default().min(left);
        let records = partition.log.fetch(wanted.fetch_offset, most, budget.used == 0);
        budget.used += records.len();
        data.records = Some(records.into());
    }
    data
}

/// Why a broker gives nothing out of a partition: it doesn't lead it, or the consumer knows another
/// epoch of the leader (KIP-320).
pub fn refusal(partition: &Partition, node: i32, known_epoch: i32) -> ErrorCode {
    if partition.leader != node {
        ErrorCode::NOT_LEADER_OR_FOLLOWER
    } else if known_epoch >= 0 && known_epoch < partition.leader_epoch {
        ErrorCode::FENCED_LEADER_EPOCH
    } else if known_epoch > partition.leader_epoch {
        ErrorCode::UNKNOWN_LEADER_EPOCH
    } else {
        ErrorCode::NONE
    }
}

fn failed(partition_index: i32, error_code: ErrorCode) -> FetchPartitionData {
    let records = Some(Bytes::new());
    FetchPartitionData { partition_index, error_code, records, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::testing::{Bench, TestBatch, read};
    use crate::protocol::record_batch::RecordBatch;

    fn bench(records: &[&str]) -> Bench {
        let mut bench = Bench::new(2);
        bench.cluster.create_topic("t", Some(1)).unwrap();
        for record in records {
            bench.produce(1, "t", 0, TestBatch::of(&[record]).bytes());
        }
        bench
    }

    fn request(bench: &Bench, fetch_offset: i64) -> FetchRequest {
        let topic_id = bench.cluster.topic("t").map(|topic| topic.id).unwrap_or_default();
        let partitions = vec![FetchPartition {
            fetch_offset,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        }];
        FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            topics: vec![FetchTopic { topic: "t".to_owned(), topic_id, partitions }],
            ..FetchRequest::default()
        }
    }

    fn data(response: &FetchResponse) -> &FetchPartitionData {
        &response.responses[0].partitions[0]
    }

    #[test]
    fn every_version_gets_the_records() {
        let mut bench = bench(&["a", "b"]);
        for version in 4..=13 {
            let request = request(&bench, 1);
            let response = bench.call(1, version, &request);
            let data = data(&response);
            assert_eq!(data.error_code, ErrorCode::NONE, "v{version}");
            assert_eq!((data.high_watermark, data.last_stable_offset), (2, 2));
            let records = data.records.clone().unwrap();
            let (batch, rest) = RecordBatch::split(&records).unwrap();
            assert_eq!(batch.header.base_offset, 1);
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn nothing_new_waits_for_records_or_for_its_time() {
        let mut bench = bench(&[]);
        let request = request(&bench, 0);
        let Reply::Wait(waiting) = bench.send(1, 9, &request) else { panic!("no wait") };
        bench.sleep(499);
        assert!(bench.cluster.resume(&waiting, bench.now).is_none());
        let before = bench.cluster.version();
        bench.produce(1, "t", 0, TestBatch::of(&["a"]).bytes());
        assert_ne!(bench.cluster.version(), before);
        let reply = bench.cluster.resume(&waiting, bench.now).unwrap();
        assert!(!data(&read::<FetchRequest>(9, &reply)).records.clone().unwrap().is_empty());

        let late = FetchRequest { min_bytes: 1000, ..request };
        let Reply::Wait(waiting) = bench.send(1, 9, &late) else { panic!("no wait") };
        bench.sleep(500);
        let reply = bench.cluster.resume(&waiting, bench.now).unwrap();
        assert!(!data(&read::<FetchRequest>(9, &reply)).records.clone().unwrap().is_empty());
    }

    #[test]
    fn a_waiting_request_learns_of_a_new_leader_and_of_the_topics_end() {
        let mut bench = bench(&[]);
        let request = request(&bench, 0);
        let Reply::Wait(waiting) = bench.send(1, 12, &request) else { panic!("no wait") };
        bench.cluster.set_leader("t", 0, 2).unwrap();
        let reply = bench.cluster.resume(&waiting, bench.now).unwrap();
        let response = read::<FetchRequest>(12, &reply);
        assert_eq!(data(&response).error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        assert_eq!(data(&response).current_leader.leader_id, 2);
        bench.cluster.delete_topic("t").unwrap();
        let reply = bench.cluster.resume(&waiting, bench.now).unwrap();
        let response = read::<FetchRequest>(12, &reply);
        assert_eq!(data(&response).error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }

    #[test]
    fn offsets_and_epochs_are_checked() {
        let mut bench = bench(&["a"]);
        bench.cluster.set_leader("t", 0, 2).unwrap();
        bench.cluster.set_leader("t", 0, 1).unwrap();
        let mut code = |offset, epoch| {
            let mut request = request(&bench, offset);
            request.max_wait_ms = 0;
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            data(&bench.call(1, 9, &request)).error_code
        };
        assert_eq!(code(0, -1), ErrorCode::NONE);
        assert_eq!(code(1, 2), ErrorCode::NONE);
        assert_eq!(code(2, -1), ErrorCode::OFFSET_OUT_OF_RANGE);
        assert_eq!(code(-1, -1), ErrorCode::OFFSET_OUT_OF_RANGE);
        assert_eq!(code(0, 1), ErrorCode::FENCED_LEADER_EPOCH);
        assert_eq!(code(0, 3), ErrorCode::UNKNOWN_LEADER_EPOCH);
    }

    #[test]
    fn an_answer_keeps_to_its_size_but_gives_one_batch() {
        let mut bench = bench(&["a", "b", "c"]);
        let size = TestBatch::of(&["a"]).bytes().len();
        let mut bytes = |max_bytes: usize, partition_max_bytes: usize| {
            let mut request = request(&bench, 0);
            request.max_bytes = i32::try_from(max_bytes).unwrap();
            let partition = &mut request.topics[0].partitions[0];
            partition.partition_max_bytes = i32::try_from(partition_max_bytes).unwrap();
            let twice = partition.clone();
            request.topics[0].partitions.push(twice);
            let response = bench.call(1, 9, &request);
            let parts = response.responses[0].partitions.iter();
            parts.map(|p| p.records.as_ref().unwrap().len() / size).collect::<Vec<_>>()
        };
        assert_eq!(bytes(1 << 20, 1 << 20), [3, 3]);
        assert_eq!(bytes(1 << 20, 2 * size), [2, 2]);
        assert_eq!(bytes(4 * size, 1 << 20), [3, 1]);
        assert_eq!(bytes(1, 1 << 20), [1, 0]);
    }
}
