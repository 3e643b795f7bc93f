//! The rules of metadata, in virtual time.

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

#[test]
fn a_new_topic_is_asked_for_at_once_and_then_known() {
    let metadata = metadata();
    assert_eq!(names(metadata.request_due(at(0))), [""; 0], "the brokers, to begin with");
    assert!(matches!(metadata.try_topic("t", at(0)), TopicState::Pending));
    assert_eq!(metadata.request_due(at(0)), None, "one at a time");
    assert_eq!(metadata.next_due(), Instant::NEVER);
    metadata.on_response(&response(vec![]), at(1)).unwrap();
    assert_eq!(names(metadata.request_due(at(1))), ["t"]);
    let changes = metadata.on_response(&response(vec![topic("t", &[(1, 0), (2, 0)])]), at(2));
    assert_eq!(changes.unwrap().topics.len(), 1);
    let TopicState::Known(known) = metadata.try_topic("t", at(3)) else { panic!("not known") };
    assert_eq!(known.partitions.len(), 2);
    let snapshot = metadata.snapshot();
    assert_eq!(snapshot.leader("t", 1).unwrap().host.as_ref(), "b2");
    assert_eq!(snapshot.version, metadata.version());
    assert_eq!(metadata.request_due(at(200)), None, "nothing more to ask");
}
