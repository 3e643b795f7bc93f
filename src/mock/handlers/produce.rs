//! Produce: batches into logs.
//!
//! `acks=0` gets no answer; where something went wrong the connection is closed instead, as Kafka
//! does. A broker that doesn't lead a partition says who does and where (KIP-951).

use std::borrow::Cow;

use super::{Call, answer};
use crate::error::Result;
use crate::mock::cluster::{Broker, Cluster, LEFT_AFTER_WRITE, Reply};
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
    code.0 == LEFT_AFTER_WRITE
        || matches!(
            code,
            ErrorCode::REQUEST_TIMED_OUT | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        )
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
    for batch in &wanted.partitions {
        cluster.audit.note(&name, batch.index, batch.records.as_ref());
    }
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
    let mut written = append(partition, &config, call, batch);
    if written.error_code.is_none() {
        // The offset stays in the answer, as in that of Apache Kafka.
        written.error_code = match pushed.0 {
            LEFT_AFTER_WRITE => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            _ => pushed,
        };
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
    let (version, wall_ms) = (call.version, call.now.wall_ms);
    let context = AppendContext { config, leader_epoch, version, wall_ms };
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
    let (host, port) = broker.address();
    NodeEndpoint {
        node_id: broker.id,
        host: host.to_owned(),
        port: port.into(),
        rack: broker.rack.clone(),
    }
}

#[cfg(test)]
mod tests {
    use crate::mock::cluster::Reply;
    use crate::mock::testing::{Bench, TestBatch, WALL_MS, produce_request, read};
    use crate::protocol::ErrorCode;
    use crate::protocol::messages::{LeaderIdAndEpoch, ProduceRequest};

    fn bench() -> Bench {
        let mut bench = Bench::new(3);
        bench.cluster.create_topic("t", Some(3)).unwrap();
        bench
    }

    fn batch() -> Vec<u8> {
        TestBatch::of(&["a", "b"]).bytes()
    }

    #[test]
    fn every_version_gets_its_offset() {
        let mut bench = bench();
        let id = bench.cluster.topic("t").unwrap().id;
        for (version, offset) in (3..=13).zip((0..).step_by(2)) {
            let mut request = produce_request("t", 0, batch());
            request.topics[0].topic_id = id;
            let response = bench.call(1, version, &request);
            let topic = &response.topics[0];
            if version < 13 {
                assert_eq!(topic.name, "t");
            } else {
                assert_eq!(topic.topic_id, id);
            }
            assert_eq!(topic.partitions[0].error_code, ErrorCode::NONE);
            assert_eq!(topic.partitions[0].base_offset, offset);
            assert_eq!(topic.partitions[0].log_append_time_ms, -1);
        }
    }

    #[test]
    fn another_broker_names_the_leader() {
        let mut bench = bench();
        bench.cluster.set_leader("t", 0, 2).unwrap();
        for version in 3..=12 {
            let response = bench.call(1, version, &produce_request("t", 0, batch()));
            let partition = &response.topics[0].partitions[0];
            assert_eq!(partition.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
            if version < 10 {
                assert!(response.node_endpoints.is_empty());
                continue;
            }
            let leader = LeaderIdAndEpoch { leader_id: 2, leader_epoch: 1 };
            assert_eq!(partition.current_leader, leader);
            let endpoint = &response.node_endpoints[0];
            assert_eq!(response.node_endpoints.len(), 1);
            assert_eq!((endpoint.node_id, endpoint.port), (2, 9002));
        }
        bench.cluster.broker_mut(2).unwrap().advertised = Some(("proxy.example".into(), 77));
        let response = bench.call(1, 12, &produce_request("t", 0, batch()));
        let endpoint = &response.node_endpoints[0];
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("proxy.example", 77));
        assert_eq!(bench.produce(2, "t", 0, batch()).error_code, ErrorCode::NONE);
        bench.cluster.set_leader("t", 0, -1).unwrap();
        let response = bench.call(2, 12, &produce_request("t", 0, batch()));
        assert_eq!(response.topics[0].partitions[0].current_leader.leader_id, -1);
        assert!(response.node_endpoints.is_empty());
    }

    #[test]
    fn what_is_not_there() {
        let mut bench = bench();
        let code =
            |bench: &mut Bench, topic, index| bench.produce(1, topic, index, batch()).error_code;
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert_eq!(code(&mut bench, "u", 0), unknown);
        assert_eq!(code(&mut bench, "t", 3), unknown);
        assert_eq!(code(&mut bench, "t", -1), unknown);
        let response = bench.call(1, 13, &produce_request("t", 0, batch()));
        assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    }

    #[test]
    fn a_topic_that_was_deleted_returns_with_another_id() {
        let mut bench = bench();
        let mut request = produce_request("", 0, batch());
        request.topics[0].topic_id = bench.cluster.topic("t").unwrap().id;
        bench.cluster.delete_topic("t").unwrap();
        bench.cluster.create_topic("t", Some(1)).unwrap();
        let response = bench.call(1, 13, &request);
        assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
        assert_eq!(bench.cluster.end_offset("t", 0), Some(0));
    }

    #[test]
    fn acks_0_is_silent_or_closes() {
        let mut bench = bench();
        let mut request = produce_request("t", 0, batch());
        request.acks = 0;
        assert!(matches!(bench.send(1, 9, &request), Reply::Silence));
        assert_eq!(bench.cluster.end_offset("t", 0), Some(2));
        assert!(matches!(bench.send(2, 9, &request), Reply::Disconnect(_)));
        assert_eq!(bench.cluster.complaints().count(), 1);
    }

    #[test]
    fn other_acks_and_transactions_are_refused() {
        let mut bench = bench();
        let code = |bench: &mut Bench, change: fn(&mut ProduceRequest)| {
            let mut request = produce_request("t", 0, batch());
            change(&mut request);
            bench.call(1, 9, &request).topics[0].partitions[0].error_code
        };
        assert_eq!(code(&mut bench, |r| r.acks = 1), ErrorCode::NONE);
        assert_eq!(code(&mut bench, |r| r.acks = 2), ErrorCode::INVALID_REQUIRED_ACKS);
        let transactional = code(&mut bench, |r| r.transactional_id = Some("x".to_owned()));
        assert_eq!(transactional, ErrorCode::INVALID_TXN_STATE);
    }

    #[test]
    fn pushed_codes_come_in_order() {
        let mut bench = bench();
        bench.cluster.push_errors(0, &[19, 0, 20, 7, 10]).unwrap();
        let codes: Vec<i16> =
            (0..6).map(|_| bench.produce(1, "t", 0, batch()).error_code.0).collect();
        assert_eq!(codes, [19, 0, 20, 7, 10, 0]);
        // 20 and 7 are answered after the write.
        assert_eq!(bench.cluster.end_offset("t", 0), Some(8));
    }

    #[test]
    fn codes_for_one_partition_leave_others_alone() {
        let mut bench = bench();
        bench.cluster.set_leader("t", 1, 1).unwrap();
        bench.cluster.push_partition_errors("t", 1, &[2]).unwrap();
        let mut request = produce_request("t", 0, batch());
        let mut other = request.topics[0].partitions[0].clone();
        other.index = 1;
        request.topics[0].partitions.push(other);
        for expected in [[0, 2], [0, 0]] {
            let response = bench.call(1, 9, &request);
            let codes: Vec<i16> =
                response.topics[0].partitions.iter().map(|p| p.error_code.0).collect();
            assert_eq!(codes, expected);
        }
    }

    #[test]
    fn record_errors_are_told() {
        let mut bench = bench();
        bench.cluster.set_topic_config("t", "message.timestamp.after.max.ms", "0").unwrap();
        let refused = bench.produce(1, "t", 0, batch());
        assert_eq!(refused.error_code, ErrorCode::INVALID_TIMESTAMP);
        assert_eq!(refused.record_errors.len(), 1);
        assert_eq!(refused.record_errors[0].batch_index, 1);
        assert_eq!(refused.error_message.unwrap(), "1 of 2 records were refused");
    }

    #[test]
    fn the_topics_configuration_is_followed() {
        let mut bench = bench();
        bench.cluster.set_topic_config("t", "max.message.bytes", "70").unwrap();
        let large = ErrorCode::MESSAGE_TOO_LARGE;
        assert_eq!(bench.produce_code("t", &TestBatch::of(&["value"])), large);
        bench.cluster.set_topic_config("t", "max.message.bytes", "1000").unwrap();
        bench.cluster.set_topic_config("t", "message.timestamp.type", "LogAppendTime").unwrap();
        bench.sleep(5);
        assert_eq!(bench.produce(1, "t", 0, batch()).log_append_time_ms, WALL_MS + 5);
        assert!(bench.cluster.set_topic_config("t", "max.message.bytes", "x").is_err());
        assert!(bench.cluster.set_topic_config("t", "min.insync.replicas", "1").is_err());
    }

    #[test]
    fn throttling_is_asked_for() {
        let mut bench = bench();
        bench.cluster.broker_mut(1).unwrap().behaviour.throttle_ms = 250;
        let reply = bench.send(1, 9, &produce_request("t", 0, batch()));
        assert_eq!(read::<ProduceRequest>(9, &reply).throttle_time_ms, 250);
    }
}
