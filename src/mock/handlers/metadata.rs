//! Metadata: brokers, topics, leaders; and topics that are created by asking for them.
//!
//! All brokers are named, those that are down or frozen too: a client learns of the one by
//! connecting, of the other by waiting. A partition without leader has error 5
//! (LEADER_NOT_AVAILABLE).

use super::{Call, answer};
use crate::error::Result;
use crate::mock::cluster::{Broker, Cluster, Reply};
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
    if let Some(twist) = &mut cluster.topics.twist.0 {
        twist(call.node, &mut response);
    }
    answer(cluster, call, &response)
}

fn brokers(cluster: &Cluster) -> Vec<MetadataResponseBroker> {
    let broker = |broker: &Broker| {
        let (host, port) = broker.address();
        let (node_id, host, port) = (broker.id, host.to_owned(), port.into());
        MetadataResponseBroker { node_id, host, port, rack: broker.rack.clone() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::testing::Bench;

    fn named(names: &[&str]) -> MetadataRequest {
        let topics = names.iter().copied().map(MetadataRequestTopic::named).collect();
        MetadataRequest { topics: Some(topics), ..Default::default() }
    }

    #[test]
    fn every_version_names_brokers_and_leaders() {
        let mut bench = Bench::new(3);
        bench.cluster.create_topic("t", Some(4)).unwrap();
        bench.cluster.set_leader("t", 3, -1).unwrap();
        let id = bench.cluster.topic("t").unwrap().id;
        for version in 0..=13 {
            let response = bench.call(2, version, &named(&["t"]));
            let brokers: Vec<_> = response.brokers.iter().map(|b| (b.node_id, b.port)).collect();
            assert_eq!(brokers, [(1, 9001), (2, 9002), (3, 9003)]);
            let topic = &response.topics[0];
            assert_eq!(topic.topic_id, if version >= 10 { id } else { [0; 16] });
            let leaders: Vec<_> = topic.partitions.iter().map(|p| p.leader_id).collect();
            assert_eq!(leaders, [1, 2, 3, -1]);
            assert_eq!(topic.partitions[3].error_code, ErrorCode::LEADER_NOT_AVAILABLE);
            let epoch = if version >= 7 { 1 } else { -1 };
            assert_eq!(topic.partitions[3].leader_epoch, epoch);
        }
    }

    #[test]
    fn a_broker_may_advertise_another_address() {
        let mut bench = Bench::new(2);
        bench.cluster.broker_mut(2).unwrap().advertised = Some(("proxy.example".into(), 77));
        let response = bench.call(1, 13, &named(&[]));
        let brokers: Vec<_> = response.brokers.iter().map(|b| (b.host.as_str(), b.port)).collect();
        assert_eq!(brokers, [("127.0.0.1", 9001), ("proxy.example", 77)]);
    }

    #[test]
    fn all_topics_or_none() {
        let mut bench = Bench::new(1);
        bench.cluster.create_topic("a", Some(1)).unwrap();
        bench.cluster.create_topic("b", Some(1)).unwrap();
        for version in 0..=13 {
            let all = MetadataRequest::default();
            assert_eq!(bench.call(1, version, &all).topics.len(), 2, "v{version}");
            let none = if version == 0 { 2 } else { 0 };
            assert_eq!(bench.call(1, version, &named(&[])).topics.len(), none);
        }
    }

    #[test]
    fn topics_are_created_by_asking_if_they_may() {
        let mut bench = Bench::new(1);
        bench.cluster.default_partitions = 5;
        let mut quiet = named(&["new"]);
        quiet.allow_auto_topic_creation = false;
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert_eq!(bench.call(1, 9, &quiet).topics[0].error_code, unknown);
        bench.cluster.auto_create_topics = false;
        assert_eq!(bench.call(1, 9, &named(&["new"])).topics[0].error_code, unknown);
        bench.cluster.auto_create_topics = true;
        assert_eq!(bench.call(1, 9, &named(&["new"])).topics[0].partitions.len(), 5);
        for name in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
            let topic = &bench.call(1, 9, &named(&[name])).topics[0];
            assert_eq!(topic.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION, "{name}");
        }
        assert_eq!(bench.call(1, 9, &named(&[&"x".repeat(249)])).topics[0].error_code.0, 0);
    }

    #[test]
    fn topics_by_id() {
        let mut bench = Bench::new(1);
        bench.cluster.create_topic("t", Some(1)).unwrap();
        let mut by_id = |topic_id| {
            let topics = Some(vec![MetadataRequestTopic { topic_id, name: None }]);
            let request = MetadataRequest { topics, ..Default::default() };
            bench.call(1, 12, &request).topics.remove(0)
        };
        let unknown = by_id([9; 16]);
        assert_eq!((unknown.error_code, unknown.name), (ErrorCode::UNKNOWN_TOPIC_ID, None));
        let id = bench.cluster.topic("t").unwrap().id;
        let topics = Some(vec![MetadataRequestTopic { topic_id: id, name: None }]);
        let request = MetadataRequest { topics, ..Default::default() };
        assert_eq!(bench.call(1, 12, &request).topics[0].name.as_deref(), Some("t"));
    }

    #[test]
    fn pushed_codes_are_the_topics_or_the_requests() {
        let mut bench = Bench::new(1);
        bench.cluster.create_topic("t", Some(1)).unwrap();
        bench.cluster.push_errors(3, &[29, 129, 0]).unwrap();
        let denied = bench.call(1, 13, &named(&["t"]));
        assert_eq!(denied.topics[0].error_code, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        assert_eq!(denied.error_code, ErrorCode::NONE);
        let start_over = bench.call(1, 13, &named(&["t"]));
        assert_eq!(start_over.error_code, ErrorCode::REBOOTSTRAP_REQUIRED);
        assert_eq!(bench.call(1, 13, &named(&["t"])).topics[0].error_code, ErrorCode::NONE);
    }
}
