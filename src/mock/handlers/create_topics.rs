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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::testing::Bench;
    use crate::protocol::messages::{CreatableReplicaAssignment, CreatableTopicConfig};

    fn wanted(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
        CreatableTopic {
            name: name.to_owned(),
            num_partitions,
            replication_factor,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }

    fn create(bench: &mut Bench, version: i16, topic: CreatableTopic) -> CreatableTopicResult {
        let request =
            CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, validate_only: false };
        bench.call(1, version, &request).topics.remove(0)
    }

    #[test]
    fn every_version_creates() {
        let mut bench = Bench::new(4);
        for version in 2..=7 {
            let name = format!("t{version}");
            let made = create(&mut bench, version, wanted(&name, 6, 2));
            assert_eq!(made.error_code, ErrorCode::NONE);
            let topic = bench.cluster.topic(&name).unwrap();
            assert_eq!(topic.partitions.len(), 6);
            assert_eq!(topic.partitions[3].replicas, [4, 1]);
            if version >= 5 {
                assert_eq!((made.num_partitions, made.replication_factor), (6, 2));
            }
            assert_eq!(made.topic_id, if version >= 7 { topic.id } else { [0; 16] });
        }
    }

    #[test]
    fn defaults_and_configuration() {
        let mut bench = Bench::new(1);
        bench.cluster.default_partitions = 3;
        let entry = |name: &str, value: &str| CreatableTopicConfig {
            name: name.to_owned(),
            value: Some(value.to_owned()),
        };
        let mut topic = wanted("t", -1, -1);
        topic.configs = vec![entry("max.message.bytes", "99"), entry("segment.bytes", "1")];
        assert_eq!(create(&mut bench, 7, topic).error_code, ErrorCode::NONE);
        let topic = bench.cluster.topic("t").unwrap();
        assert_eq!((topic.partitions.len(), topic.config.max_message_bytes), (3, 99));
        let mut topic = wanted("u", 1, 1);
        topic.configs = vec![entry("max.message.bytes", "many")];
        assert_eq!(create(&mut bench, 7, topic).error_code, ErrorCode::INVALID_CONFIG);
        assert!(bench.cluster.topic("u").is_none());
    }

    #[test]
    fn what_cannot_be_created() {
        let mut bench = Bench::new(2);
        bench.cluster.create_topic("t", Some(1)).unwrap();
        let mut code = |topic| create(&mut bench, 7, topic).error_code;
        assert_eq!(code(wanted("t", 1, 1)), ErrorCode::TOPIC_ALREADY_EXISTS);
        assert_eq!(code(wanted("u", 0, 1)), ErrorCode::INVALID_PARTITIONS);
        assert_eq!(code(wanted("u", 1, 3)), ErrorCode::INVALID_REPLICATION_FACTOR);
        assert_eq!(code(wanted("u", 1, 0)), ErrorCode::INVALID_REPLICATION_FACTOR);
        assert_eq!(code(wanted("a b", 1, 1)), ErrorCode::INVALID_TOPIC_EXCEPTION);
        let mut assigned = wanted("u", -1, -1);
        assigned.assignments =
            vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1] }];
        assert_eq!(code(assigned), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    }

    #[test]
    fn validating_creates_nothing() {
        let mut bench = Bench::new(1);
        let request = CreateTopicsRequest {
            topics: vec![wanted("t", 2, 1)],
            timeout_ms: 1000,
            validate_only: true,
        };
        let response = bench.call(1, 7, &request);
        assert_eq!(response.topics[0].num_partitions, 2);
        assert!(bench.cluster.topic("t").is_none());
    }
}
