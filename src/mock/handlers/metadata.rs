//! Metadata: brokers, topics, leaders; and topics that are created by asking for them.
//!
//! All brokers are named, those that are down or frozen too: a client learns of the one by
//! connecting, of the other by waiting. A partition without leader has error 5
//! (LEADER_NOT_AVAILABLE).

use super::{Call, answer};
use crate::error::Result;
use crate::mock::cluster::{Broker, Cluster, HOST, Reply};
use crate::mock::topics::{Partition, Topic};
use crate::protocol::ErrorCode;
use crate::protocol::messages::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};

/// Answers a request.
pub fn handle(cluster: &mut Cluster, call: &Call, request: MetadataRequest) -> Result<Reply> {
    let topics = match request.topics {
        None => cluster.topics.iter().map(|topic| described(topic, call.error)).collect(),
        Some(topics) => topics
            .into_iter()
            .map(|topic| one(cluster, call, topic, request.allow_auto_topic_creation))
            .collect(),
    };
    let mut response = MetadataResponse {
        brokers: brokers(cluster),
        cluster_id: Some(cluster.id.clone()),
        controller_id: 1,
        topics,
        ..Default::default()
    };
    if call.error == ErrorCode::REBOOTSTRAP_REQUIRED {
        response.error_code = call.error;
    }
    answer(cluster, call, &response)
}

fn brokers(cluster: &Cluster) -> Vec<MetadataResponseBroker> {
    let broker = |broker: &Broker| MetadataResponseBroker {
        node_id: broker.id,
        host: HOST.to_owned(),
        port: broker.port.into(),
        rack: None,
    };
    cluster.brokers().iter().map(broker).collect()
}

fn one(
    cluster: &mut Cluster,
    call: &Call,
    wanted: MetadataRequestTopic,
    may_create: bool,
) -> MetadataResponseTopic {
    let failed = |error_code, wanted: MetadataRequestTopic| MetadataResponseTopic {
        error_code,
        name: wanted.name,
        topic_id: wanted.topic_id,
        ..Default::default()
    };
    let name = match &wanted.name {
        Some(name) => name.clone(),
        None => match cluster.topics.name_of(&wanted.topic_id) {
            Some(name) => name.to_string(),
            None => return failed(ErrorCode::UNKNOWN_TOPIC_ID, wanted),
        },
    };
    if !call.error.is_none() {
        return failed(call.error, wanted);
    }
    if cluster.topic(&name).is_none() {
        if !may_create || !cluster.auto_create_topics {
            return failed(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, wanted);
        }
        if let Err(error) = cluster.create_topic(&name, None) {
            let code = i16::try_from(error.status).unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR.0);
            return failed(ErrorCode(code), wanted);
        }
    }
    match cluster.topic(&name) {
        Some(topic) => described(topic, ErrorCode::NONE),
        None => failed(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, wanted),
    }
}

fn described(topic: &Topic, error_code: ErrorCode) -> MetadataResponseTopic {
    let partitions = if error_code.is_none() { topic.partitions.as_slice() } else { &[] };
    MetadataResponseTopic {
        error_code,
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        partitions: (0..).zip(partitions).map(|(index, p)| partition(index, p)).collect(),
        ..Default::default()
    }
}

fn partition(partition_index: i32, partition: &Partition) -> MetadataResponsePartition {
    let error_code = match partition.leader {
        -1 => ErrorCode::LEADER_NOT_AVAILABLE,
        _ => ErrorCode::NONE,
    };
    MetadataResponsePartition {
        error_code,
        partition_index,
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.clone(),
        isr_nodes: partition.replicas.clone(),
        offline_replicas: Vec::new(),
    }
}
