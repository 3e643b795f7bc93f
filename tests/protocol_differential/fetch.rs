use kafka_producer::protocol::messages::*;
use kafka_protocol::messages::{fetch_request, fetch_response};

use super::*;

#[test]
fn requests() {
    judge::<FetchRequest>();
}

#[test]
fn responses() {
    judge::<FetchResponse>();
}

/// Either a name or an id.
fn at_topic(version: i16, name: &mut String, id: &mut Uuid) {
    match version {
        ..13 => *id = [0; 16],
        _ => name.clear(),
    }
}

fn fetch_partition() -> impl Strategy<Value = FetchPartition> + Clone {
    any::<(i32, i32, i64, i32, i64, i32)>().prop_map(
        |(partition, leader_epoch, offset, last_epoch, log_start, max_bytes)| FetchPartition {
            partition,
            current_leader_epoch: leader_epoch,
            fetch_offset: offset,
            last_fetched_epoch: last_epoch,
            log_start_offset: log_start,
            partition_max_bytes: max_bytes,
        },
    )
}

impl Judged for FetchRequest {
    type Theirs = kafka_protocol::messages::FetchRequest;

    fn any() -> BoxedStrategy<Self> {
        let topic = (text(), any::<Uuid>(), some(fetch_partition()))
            .prop_map(|(topic, topic_id, partitions)| FetchTopic { topic, topic_id, partitions });
        let forgotten = (text(), any::<Uuid>(), some(any::<i32>())).prop_map(
            |(topic, topic_id, partitions)| ForgottenTopic { topic, topic_id, partitions },
        );
        let numbers = any::<(i32, i32, i32, i32, i8, i32, i32)>();
        (numbers, some(topic), some(forgotten), text())
            .prop_map(|(numbers, topics, forgotten_topics_data, rack_id)| {
                let (replica_id, max_wait_ms, min_bytes, max_bytes, isolation, session, epoch) =
                    numbers;
                FetchRequest {
                    replica_id,
                    max_wait_ms,
                    min_bytes,
                    max_bytes,
                    isolation_level: isolation,
                    session_id: session,
                    session_epoch: epoch,
                    topics,
                    forgotten_topics_data,
                    rack_id,
                }
            })
            .boxed()
    }

    fn at(mut self, version: i16) -> Self {
        for topic in &mut self.topics {
            at_topic(version, &mut topic.topic, &mut topic.topic_id);
            for partition in &mut topic.partitions {
                if version < 9 {
                    partition.current_leader_epoch = -1;
                }
                if version < 12 {
                    partition.last_fetched_epoch = -1;
                }
                if version < 5 {
                    partition.log_start_offset = -1;
                }
            }
        }
        for topic in &mut self.forgotten_topics_data {
            at_topic(version, &mut topic.topic, &mut topic.topic_id);
        }
        if version < 7 {
            self.session_id = 0;
            self.session_epoch = -1;
            self.forgotten_topics_data.clear();
        }
        if version < 11 {
            self.rack_id.clear();
        }
        self
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        let partition = |partition: &FetchPartition| {
            fetch_request::FetchPartition::default()
                .with_partition(partition.partition)
                .with_current_leader_epoch(partition.current_leader_epoch)
                .with_fetch_offset(partition.fetch_offset)
                .with_last_fetched_epoch(partition.last_fetched_epoch)
                .with_log_start_offset(partition.log_start_offset)
                .with_partition_max_bytes(partition.partition_max_bytes)
                .with_unknown_tagged_fields(unknown.clone())
        };
        let topic = |topic: &FetchTopic| {
            fetch_request::FetchTopic::default()
                .with_topic(topic_name(&topic.topic))
                .with_topic_id(uuid(topic.topic_id))
                .with_partitions(topic.partitions.iter().map(partition).collect())
                .with_unknown_tagged_fields(unknown.clone())
        };
        let forgotten = |topic: &ForgottenTopic| {
            fetch_request::ForgottenTopic::default()
                .with_topic(topic_name(&topic.topic))
                .with_topic_id(uuid(topic.topic_id))
                .with_partitions(topic.partitions.clone())
                .with_unknown_tagged_fields(unknown.clone())
        };
        Self::Theirs::default()
            .with_replica_id(self.replica_id.into())
            .with_max_wait_ms(self.max_wait_ms)
            .with_min_bytes(self.min_bytes)
            .with_max_bytes(self.max_bytes)
            .with_isolation_level(self.isolation_level)
            .with_session_id(self.session_id)
            .with_session_epoch(self.session_epoch)
            .with_topics(self.topics.iter().map(topic).collect())
            .with_forgotten_topics_data(self.forgotten_topics_data.iter().map(forgotten).collect())
            .with_rack_id(str_bytes(&self.rack_id))
            .with_unknown_tagged_fields(unknown.clone())
    }
}

fn partition_data() -> impl Strategy<Value = FetchPartitionData> + Clone {
    let transaction = any::<(i64, i64)>()
        .prop_map(|(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset });
    let leader = any::<(i32, i32)>()
        .prop_map(|(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch });
    let leader = prop_oneof![Just(LeaderIdAndEpoch::default()), leader];
    let records = proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    let offsets = any::<(i64, i64, i64)>();
    let lists = (proptest::option::of(some(transaction)), proptest::option::of(records));
    (any::<(i32, i32)>(), error_code(), offsets, leader, lists).prop_map(
        |((index, replica), error_code, offsets, current_leader, (transactions, records))| {
            FetchPartitionData {
                partition_index: index,
                error_code,
                high_watermark: offsets.0,
                last_stable_offset: offsets.1,
                log_start_offset: offsets.2,
                current_leader,
                aborted_transactions: transactions,
                preferred_read_replica: replica,
                records,
            }
        },
    )
}

impl Judged for FetchResponse {
    type Theirs = kafka_protocol::messages::FetchResponse;

    fn any() -> BoxedStrategy<Self> {
        let topic = (text(), any::<Uuid>(), some(partition_data())).prop_map(
            |(topic, topic_id, partitions)| FetchableTopicResponse { topic, topic_id, partitions },
        );
        (any::<(i32, i32)>(), error_code(), few(topic))
            .prop_map(|((throttle_time_ms, session_id), error_code, responses)| FetchResponse {
                throttle_time_ms,
                error_code,
                session_id,
                responses,
            })
            .boxed()
    }

    fn at(mut self, version: i16) -> Self {
        for topic in &mut self.responses {
            at_topic(version, &mut topic.topic, &mut topic.topic_id);
            for partition in &mut topic.partitions {
                if version < 5 {
                    partition.log_start_offset = -1;
                }
                if version < 11 {
                    partition.preferred_read_replica = -1;
                }
                if version < 12 {
                    partition.current_leader = LeaderIdAndEpoch::default();
                }
            }
        }
        if version < 7 {
            self.error_code = ErrorCode::NONE;
            self.session_id = 0;
        }
        self
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        let transaction = |transaction: &AbortedTransaction| {
            fetch_response::AbortedTransaction::default()
                .with_producer_id(transaction.producer_id.into())
                .with_first_offset(transaction.first_offset)
                .with_unknown_tagged_fields(unknown.clone())
        };
        // What only followers are told is there to be skipped, and only along with the unknown
        // fields.
        let snapshot = match unknown.is_empty() {
            true => fetch_response::SnapshotId::default(),
            false => fetch_response::SnapshotId::default().with_epoch(7).with_end_offset(8),
        };
        let diverging = match unknown.is_empty() {
            true => fetch_response::EpochEndOffset::default(),
            false => fetch_response::EpochEndOffset::default().with_epoch(5).with_end_offset(6),
        };
        let partition = |partition: &FetchPartitionData| {
            let transactions = partition.aborted_transactions.as_ref();
            let leader = fetch_response::LeaderIdAndEpoch::default()
                .with_leader_id(partition.current_leader.leader_id.into())
                .with_leader_epoch(partition.current_leader.leader_epoch);
            fetch_response::PartitionData::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(partition.error_code.0)
                .with_high_watermark(partition.high_watermark)
                .with_last_stable_offset(partition.last_stable_offset)
                .with_log_start_offset(partition.log_start_offset)
                .with_diverging_epoch(diverging.clone())
                .with_current_leader(leader)
                .with_snapshot_id(snapshot.clone())
                .with_aborted_transactions(
                    transactions.map(|all| all.iter().map(transaction).collect()),
                )
                .with_preferred_read_replica(partition.preferred_read_replica.into())
                .with_records(partition.records.clone())
                .with_unknown_tagged_fields(unknown.clone())
        };
        let topic = |topic: &FetchableTopicResponse| {
            fetch_response::FetchableTopicResponse::default()
                .with_topic(topic_name(&topic.topic))
                .with_topic_id(uuid(topic.topic_id))
                .with_partitions(topic.partitions.iter().map(partition).collect())
                .with_unknown_tagged_fields(unknown.clone())
        };
        Self::Theirs::default()
            .with_throttle_time_ms(self.throttle_time_ms)
            .with_error_code(self.error_code.0)
            .with_session_id(self.session_id)
            .with_responses(self.responses.iter().map(topic).collect())
            .with_unknown_tagged_fields(unknown.clone())
    }
}
