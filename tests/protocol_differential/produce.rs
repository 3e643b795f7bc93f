use kafka_producer::protocol::messages::*;
use kafka_protocol::messages::{produce_request, produce_response as theirs};

use super::*;

#[test]
fn requests() {
    judge::<ProduceRequest>();
}

#[test]
fn responses() {
    judge::<ProduceResponse>();
}

fn records() -> BoxedStrategy<Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from))
        .boxed()
}

impl Judged for ProduceRequest {
    type Theirs = kafka_protocol::messages::ProduceRequest;

    fn any() -> BoxedStrategy<Self> {
        let partition = (any::<i32>(), records())
            .prop_map(|(index, records)| ProduceRequestPartition { index, records });
        let topic =
            (text(), any::<Uuid>(), some(partition)).prop_map(|(name, topic_id, partitions)| {
                ProduceRequestTopic { name, topic_id, partitions }
            });
        (maybe_text(), any::<i16>(), any::<i32>(), some(topic))
            .prop_map(|(transactional_id, acks, timeout_ms, topics)| ProduceRequest {
                transactional_id,
                acks,
                timeout_ms,
                topics,
            })
            .boxed()
    }

    fn at(mut self, version: i16) -> Self {
        for topic in &mut self.topics {
            match version {
                ..13 => topic.topic_id = [0; 16],
                _ => topic.name.clear(),
            }
        }
        self
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        let partition = |partition: &ProduceRequestPartition| {
            produce_request::PartitionProduceData::default()
                .with_index(partition.index)
                .with_records(partition.records.clone())
                .with_unknown_tagged_fields(unknown.clone())
        };
        let topic = |topic: &ProduceRequestTopic| {
            produce_request::TopicProduceData::default()
                .with_name(topic_name(&topic.name))
                .with_topic_id(uuid(topic.topic_id))
                .with_partition_data(topic.partitions.iter().map(partition).collect())
                .with_unknown_tagged_fields(unknown.clone())
        };
        Self::Theirs::default()
            .with_transactional_id(maybe_str_bytes(&self.transactional_id).map(Into::into))
            .with_acks(self.acks)
            .with_timeout_ms(self.timeout_ms)
            .with_topic_data(self.topics.iter().map(topic).collect())
            .with_unknown_tagged_fields(unknown.clone())
    }
}

fn leader() -> impl Strategy<Value = LeaderIdAndEpoch> + Clone {
    let known = any::<(i32, i32)>()
        .prop_map(|(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch });
    prop_oneof![Just(LeaderIdAndEpoch::default()), known]
}

fn partition() -> impl Strategy<Value = PartitionProduceResponse> + Clone {
    let record_error = (any::<i32>(), maybe_text()).prop_map(|(batch_index, text)| {
        BatchIndexAndErrorMessage { batch_index, batch_index_error_message: text }
    });
    let offsets = any::<(i64, i64, i64)>();
    (any::<i32>(), error_code(), offsets, some(record_error), maybe_text(), leader()).prop_map(
        |(index, error_code, (base, append_time, start), record_errors, error_message, leader)| {
            PartitionProduceResponse {
                index,
                error_code,
                base_offset: base,
                log_append_time_ms: append_time,
                log_start_offset: start,
                record_errors,
                error_message,
                current_leader: leader,
            }
        },
    )
}

impl Judged for ProduceResponse {
    type Theirs = kafka_protocol::messages::ProduceResponse;

    fn any() -> BoxedStrategy<Self> {
        let topic =
            (text(), any::<Uuid>(), some(partition())).prop_map(|(name, topic_id, partitions)| {
                TopicProduceResponse { name, topic_id, partitions }
            });
        let endpoint = (any::<i32>(), text(), any::<i32>(), maybe_text())
            .prop_map(|(node_id, host, port, rack)| NodeEndpoint { node_id, host, port, rack });
        (few(topic), any::<i32>(), some(endpoint))
            .prop_map(|(topics, throttle_time_ms, node_endpoints)| ProduceResponse {
                topics,
                throttle_time_ms,
                node_endpoints,
            })
            .boxed()
    }

    fn at(mut self, version: i16) -> Self {
        for topic in &mut self.topics {
            match version {
                ..13 => topic.topic_id = [0; 16],
                _ => topic.name.clear(),
            }
            for partition in &mut topic.partitions {
                if version < 5 {
                    partition.log_start_offset = -1;
                }
                if version < 8 {
                    partition.record_errors.clear();
                    partition.error_message = None;
                }
                if version < 10 {
                    partition.current_leader = LeaderIdAndEpoch::default();
                }
            }
        }
        if version < 10 {
            self.node_endpoints.clear();
        }
        self
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        let record_error = |error: &BatchIndexAndErrorMessage| {
            theirs::BatchIndexAndErrorMessage::default()
                .with_batch_index(error.batch_index)
                .with_batch_index_error_message(maybe_str_bytes(&error.batch_index_error_message))
                .with_unknown_tagged_fields(unknown.clone())
        };
        // Left out where it says nothing, so nothing may be in it.
        let leader = |leader: LeaderIdAndEpoch| {
            let theirs = theirs::LeaderIdAndEpoch::default()
                .with_leader_id(leader.leader_id.into())
                .with_leader_epoch(leader.leader_epoch);
            match leader == LeaderIdAndEpoch::default() {
                true => theirs,
                false => theirs.with_unknown_tagged_fields(unknown.clone()),
            }
        };
        let partition = |partition: &PartitionProduceResponse| {
            theirs::PartitionProduceResponse::default()
                .with_index(partition.index)
                .with_error_code(partition.error_code.0)
                .with_base_offset(partition.base_offset)
                .with_log_append_time_ms(partition.log_append_time_ms)
                .with_log_start_offset(partition.log_start_offset)
                .with_record_errors(partition.record_errors.iter().map(record_error).collect())
                .with_error_message(maybe_str_bytes(&partition.error_message))
                .with_current_leader(leader(partition.current_leader))
                .with_unknown_tagged_fields(unknown.clone())
        };
        let topic = |topic: &TopicProduceResponse| {
            theirs::TopicProduceResponse::default()
                .with_name(topic_name(&topic.name))
                .with_topic_id(uuid(topic.topic_id))
                .with_partition_responses(topic.partitions.iter().map(partition).collect())
                .with_unknown_tagged_fields(unknown.clone())
        };
        let endpoint = |endpoint: &NodeEndpoint| {
            theirs::NodeEndpoint::default()
                .with_node_id(endpoint.node_id.into())
                .with_host(str_bytes(&endpoint.host))
                .with_port(endpoint.port)
                .with_rack(maybe_str_bytes(&endpoint.rack))
                .with_unknown_tagged_fields(unknown.clone())
        };
        Self::Theirs::default()
            .with_responses(self.topics.iter().map(topic).collect())
            .with_throttle_time_ms(self.throttle_time_ms)
            .with_node_endpoints(self.node_endpoints.iter().map(endpoint).collect())
            .with_unknown_tagged_fields(unknown.clone())
    }
}
