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
