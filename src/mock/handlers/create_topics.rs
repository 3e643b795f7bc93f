//! CreateTopics. Any broker takes it, as in KRaft. Configuration that nothing here depends on is
//! accepted and has no effect; replica assignments are refused.

use super::{Call, answer};
use crate::error::{Error, Result};
use crate::mock::cluster::{Cluster, Reply};
use crate::mock::topics::{Topic, TopicConfig, invalid_topic};
use crate::protocol::ErrorCode;
use crate::protocol::messages::{
    CreatableTopic, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};

/// Answers a request.
pub fn handle(cluster: &mut Cluster, call: &Call, request: CreateTopicsRequest) -> Result<Reply> {
    let mut response = CreateTopicsResponse::default();
    for wanted in request.topics {
        let outcome = match call.error {
            ErrorCode::NONE => create(cluster, &wanted, request.validate_only),
            pushed => Err(invalid_topic(pushed, "asked for by push_errors")),
        };
        let result = outcome.unwrap_or_else(|error| CreatableTopicResult {
            error_code: ErrorCode(
                i16::try_from(error.status).unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR.0),
            ),
            error_message: Some(error.message.into_owned()),
            ..Default::default()
        });
        response.topics.push(CreatableTopicResult { name: wanted.name, ..result });
    }
    answer(cluster, call, &response)
}

fn create(
    cluster: &mut Cluster,
    wanted: &CreatableTopic,
    validate_only: bool,
) -> Result<CreatableTopicResult, Error> {
    if !wanted.assignments.is_empty() {
        let message = "replica assignments are not taken: the cluster chooses";
        return Err(invalid_topic(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    }
    let brokers = i16::try_from(cluster.brokers().len()).unwrap_or(i16::MAX);
    if wanted.replication_factor != -1 && !(1..=brokers).contains(&wanted.replication_factor) {
        let message = format!("{} replicas of {brokers} brokers", wanted.replication_factor);
        return Err(invalid_topic(ErrorCode::INVALID_REPLICATION_FACTOR, message));
    }
    let mut config = TopicConfig::default();
    for entry in &wanted.configs {
        if let Some(value) = &entry.value {
            config.set(&entry.name, value)?;
        }
    }
    let partitions = (wanted.num_partitions != -1).then_some(wanted.num_partitions);
    let replicas = (wanted.replication_factor != -1).then_some(wanted.replication_factor);
    let topic = cluster.new_topic(&wanted.name, partitions, replicas)?;
    let result = created(&topic);
    if !validate_only {
        cluster.add_topic(Topic { config, ..topic });
    }
    Ok(result)
}

fn created(topic: &Topic) -> CreatableTopicResult {
    let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
    CreatableTopicResult {
        topic_id: topic.id,
        num_partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
        ..Default::default()
    }
}
