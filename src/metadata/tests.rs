//! The rules of metadata, in virtual time: when it asks ([`asking`]) and what it makes of the
//! answers ([`answers`]).

mod answers;
mod asking;

use super::*;
use crate::protocol::messages::metadata::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use std::time::Duration;

fn config() -> MetadataConfig {
    MetadataConfig {
        max_age: Duration::from_secs(300),
        max_idle: Duration::from_secs(300),
        retry_backoff: Duration::from_millis(100),
        retry_backoff_max: Duration::from_secs(1),
        request_timeout: Duration::from_secs(30),
        allow_auto_create_topics: true,
    }
}

fn metadata() -> Metadata {
    Metadata::new(config(), Arc::new(Rng::seeded(1)), Logger::none())
}

fn at(ms: u64) -> Instant {
    Instant(1_000_000).after(Duration::from_millis(ms))
}

fn response(topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    let broker =
        |id| MetadataResponseBroker { node_id: id, host: format!("b{id}"), port: 9092, rack: None };
    MetadataResponse {
        brokers: vec![broker(1), broker(2), broker(3)],
        cluster_id: Some("c".into()),
        topics,
        ..Default::default()
    }
}

/// A topic with a (leader, epoch) per partition.
fn topic(name: &str, partitions: &[(i32, i32)]) -> MetadataResponseTopic {
    let partition = |(number, (leader, epoch)): (usize, &(i32, i32))| MetadataResponsePartition {
        partition_index: number as i32,
        leader_id: *leader,
        leader_epoch: *epoch,
        replica_nodes: vec![1, 2, 3],
        isr_nodes: vec![1, 2],
        ..Default::default()
    };
    MetadataResponseTopic {
        name: Some(name.into()),
        topic_id: [7; 16],
        partitions: partitions.iter().enumerate().map(partition).collect(),
        ..Default::default()
    }
}

fn names(spec: Option<MetadataRequestSpec>) -> Vec<String> {
    spec.expect("a request is due").topics.iter().map(|name| name.to_string()).collect()
}

/// Answers the first request, which asks for no topic.
fn started() -> Metadata {
    let metadata = metadata();
    metadata.request_due(at(0)).expect("the first request");
    metadata.on_response(&response(vec![]), at(0)).unwrap();
    metadata
}

/// Knows `topics` at 0 ms.
fn knowing(topics: Vec<MetadataResponseTopic>) -> Metadata {
    let metadata = started();
    for topic in &topics {
        metadata.try_topic(topic.name.as_deref().unwrap(), at(0));
    }
    metadata.request_due(at(0)).expect("the topics");
    metadata.on_response(&response(topics), at(0)).unwrap();
    metadata
}

fn refusal(name: &str, code: i16) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: crate::protocol::api::ErrorCode(code),
        name: Some(name.into()),
        ..Default::default()
    }
}

fn known(metadata: &Metadata, name: &str, now: Instant) -> Arc<TopicMetadata> {
    let TopicState::Known(topic) = metadata.try_topic(name, now) else { panic!("{name}") };
    topic
}

fn failed(metadata: &Metadata, name: &str, now: Instant) -> Error {
    let TopicState::Failed(error) = metadata.try_topic(name, now) else { panic!("{name}") };
    assert!(error.message.len() < 248, "{error}");
    error
}

fn is_pending(metadata: &Metadata, name: &str, now: Instant) -> bool {
    matches!(metadata.try_topic(name, now), TopicState::Pending)
}

/// The next request and when it was due, in ms; none before `until`.
fn next(metadata: &Metadata, until: u64) -> Option<(u64, Vec<String>)> {
    let due = metadata.next_due();
    if due > at(until) {
        return None;
    }
    let just_before = Instant(due.0.saturating_sub(1));
    if due > Instant::default() {
        assert_eq!(metadata.request_due(just_before), None, "not before it is due");
    }
    let ms = u64::try_from(due.since(at(0)).as_millis()).unwrap();
    Some((ms, names(metadata.request_due(due.max(at(0))))))
}
