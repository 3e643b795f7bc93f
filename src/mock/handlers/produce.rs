//! Produce: batches into logs.
//!
//! `acks=0` gets no answer; where something went wrong the connection is closed instead, as Kafka
//! does. A broker that doesn't lead a partition says who does and where (KIP-951).

use std::borrow::Cow;

use super::{Call, answer};
use crate::error::Result;
use crate::mock::cluster::{Broker, Cluster, HOST, Reply};
use crate::mock::log::AppendContext;
use crate::mock::topics::{Partition, Topic, TopicConfig};
use crate::mock::validator::Refusal;
use crate::protocol::ErrorCode;
use crate::protocol::messages::{
    BatchIndexAndErrorMessage, FIRST_VERSION_WITH_TOPIC_IDS, LeaderIdAndEpoch, NodeEndpoint,
    PartitionProduceResponse, ProduceRequest, ProduceRequestPartition, ProduceRequestTopic,
    ProduceResponse, TopicProduceResponse,
};

/// From here on an answer names the current leader.
const FIRST_VERSION_WITH_LEADERS: i16 = 10;

/// Answers a request.
pub fn handle(cluster: &mut Cluster, call: &Call, request: ProduceRequest) -> Result<Reply> {
    let mut response =
        ProduceResponse { throttle_time_ms: cluster.throttle_ms(call.node), ..Default::default() };
    let refused = refusal_of_all(call, &request);
    for topic in request.topics {
        response.topics.push(one_topic(cluster, call, topic, refused.as_ref()));
    }
    cluster.changed();
    let parts = || response.topics.iter().flat_map(|topic| &topic.partitions);
    if request.acks == 0 {
        let Some(failed) = parts().find(|partition| !partition.error_code.is_none()) else {
            return Ok(Reply::Silence);
        };
        let code = failed.error_code.0;
        cluster.complain(format!("broker {}: error {code} with acks=0", call.node));
        return Ok(Reply::Disconnect(cluster.not_before(call)));
    }
    if call.version >= FIRST_VERSION_WITH_LEADERS {
        let named = |id: i32| parts().any(|partition| partition.current_leader.leader_id == id);
        response.node_endpoints =
            cluster.brokers().iter().filter(|b| named(b.id)).map(endpoint).collect();
    }
    answer(cluster, call, &response)
}

/// Why no partition's batch of a request is looked at.
fn refusal_of_all(call: &Call, request: &ProduceRequest) -> Option<Refusal> {
    let refuse = |code, message| {
        Some(Refusal { code, message: Cow::Borrowed(message), records: Vec::new() })
    };
    if request.transactional_id.is_some() {
        return refuse(ErrorCode::INVALID_TXN_STATE, "this cluster has no transactions");
    }
    if !(-1..=1).contains(&request.acks) {
        return refuse(ErrorCode::INVALID_REQUIRED_ACKS, "acks must be -1, 0 or 1");
    }
    if call.error.is_none() || is_after_append(call.error) {
        return None;
    }
    refuse(call.error, "asked for by push_errors")
}

/// Errors that mean that the leader has the batch.
fn is_after_append(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::REQUEST_TIMED_OUT | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND)
}

fn one_topic(
    cluster: &mut Cluster,
    call: &Call,
    wanted: ProduceRequestTopic,
    refused: Option<&Refusal>,
) -> TopicProduceResponse {
    let by_id = call.version >= FIRST_VERSION_WITH_TOPIC_IDS;
    let (name, unknown) = if by_id {
        let name = cluster.topics.name_of(&wanted.topic_id).map(ToString::to_string);
        (name.unwrap_or_default(), ErrorCode::UNKNOWN_TOPIC_ID)
    } else {
        (wanted.name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    };
    let mut topic = cluster.topics.get_mut(&name);
    let answers =
        wanted.partitions.into_iter().map(|batch| match (refused, topic.as_deref_mut()) {
            (Some(refusal), _) => refused_with(batch.index, refusal.clone()),
            (None, None) => failed(batch.index, unknown),
            (None, Some(topic)) => one_partition(topic, call, &batch),
        });
    let partitions = answers.collect();
    TopicProduceResponse { name, topic_id: wanted.topic_id, partitions }
}

fn one_partition(
    topic: &mut Topic,
    call: &Call,
    batch: &ProduceRequestPartition,
) -> PartitionProduceResponse {
    let config = topic.config;
    let Some(partition) = topic.partition_mut(batch.index) else {
        return failed(batch.index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    if partition.leader != call.node {
        let (leader_id, leader_epoch) = (partition.leader, partition.leader_epoch);
        return PartitionProduceResponse {
            current_leader: LeaderIdAndEpoch { leader_id, leader_epoch },
            ..failed(batch.index, ErrorCode::NOT_LEADER_OR_FOLLOWER)
        };
    }
    let pushed = partition.errors.pop_front().unwrap_or(call.error);
    if !pushed.is_none() && !is_after_append(pushed) {
        return failed(batch.index, pushed);
    }
    let written = append(partition, &config, call, batch);
    if written.error_code.is_none() && !pushed.is_none() {
        return failed(batch.index, pushed);
    }
    written
}

fn append(
    partition: &mut Partition,
    config: &TopicConfig,
    call: &Call,
    batch: &ProduceRequestPartition,
) -> PartitionProduceResponse {
    let leader_epoch = partition.leader_epoch;
    let context = AppendContext { config, leader_epoch, wall_ms: call.now.wall_ms };
    match partition.log.append(batch.records.as_ref(), context) {
        Err(refusal) => refused_with(batch.index, refusal),
        Ok(appended) => PartitionProduceResponse {
            index: batch.index,
            base_offset: appended.base_offset,
            log_append_time_ms: appended.append_time_ms,
            log_start_offset: partition.log.start_offset(),
            ..Default::default()
        },
    }
}

fn failed(index: i32, error_code: ErrorCode) -> PartitionProduceResponse {
    PartitionProduceResponse { index, error_code, ..Default::default() }
}

fn refused_with(index: i32, refusal: Refusal) -> PartitionProduceResponse {
    let fault = |(batch_index, text): (i32, &'static str)| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: Some(text.to_owned()),
    };
    PartitionProduceResponse {
        record_errors: refusal.records.into_iter().map(fault).collect(),
        error_message: Some(refusal.message.into_owned()),
        ..failed(index, refusal.code)
    }
}

fn endpoint(broker: &Broker) -> NodeEndpoint {
    NodeEndpoint { node_id: broker.id, host: HOST.to_owned(), port: broker.port.into(), rack: None }
}
