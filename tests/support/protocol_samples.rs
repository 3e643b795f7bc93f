//! A valid message of every API and version, with every field set, and its decoder: what the tests
//! of hostile input cut and bend, and what the fuzz targets start from.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::Bytes;
use kafka_producer::error::Result;
use kafka_producer::protocol::crc32c::{self, ShiftFactor};
use kafka_producer::protocol::messages::*;
use kafka_producer::protocol::record_batch::{BatchHeader, Record};
use kafka_producer::protocol::{ErrorCode, Message};
use kafka_producer::record::Header;

/// A message that can be read.
pub struct Decoder {
    /// As a file name.
    pub name: &'static str,
    /// The versions that can be read.
    pub versions: RangeInclusive<i16>,
    /// Reads a body; what was read is written and read again, and must be the same.
    pub decode: fn(i16, &Bytes) -> Result<()>,
    /// Only reads.
    pub read: fn(i16, &Bytes) -> bool,
    /// A body in a version.
    pub sample: Box<dyn Fn(i16) -> Vec<u8>>,
}

fn decoder<M>(name: &'static str, sample: M) -> Decoder
where
    M: Message + PartialEq + Debug + 'static,
{
    Decoder {
        name,
        versions: M::VERSIONS,
        decode: decode::<M>,
        read: |version, body| M::from_bytes(version, body).is_ok(),
        sample: Box::new(move |version| {
            sample.to_vec(version).unwrap_or_else(|error| panic!("{name} v{version}: {error}"))
        }),
    }
}

fn decode<M: Message + PartialEq + Debug>(version: i16, body: &Bytes) -> Result<()> {
    let message = M::from_bytes(version, body)?;
    // Repaired text may be too long to write.
    if let Ok(again) = message.to_vec(version) {
        assert_eq!(M::from_bytes(version, &again.into()), Ok(message));
    }
    Ok(())
}

/// All messages.
pub fn decoders() -> Vec<Decoder> {
    vec![
        decoder("api_versions_request", api_versions_request()),
        decoder("api_versions_response", api_versions_response()),
        decoder("metadata_request", metadata_request()),
        decoder("metadata_response", metadata_response()),
        decoder("produce_request", produce_request()),
        decoder("produce_response", produce_response()),
        decoder("fetch_request", fetch_request()),
        decoder("fetch_response", fetch_response()),
        decoder("list_offsets_request", list_offsets_request()),
        decoder("list_offsets_response", list_offsets_response()),
        decoder("create_topics_request", create_topics_request()),
        decoder("create_topics_response", create_topics_response()),
        decoder("init_producer_id_request", init_producer_id_request()),
        decoder("init_producer_id_response", init_producer_id_response()),
    ]
}

/// A batch of three records.
pub fn batch() -> Vec<u8> {
    let headers = [Header { key: b"h", value: Some(b"v") }, Header { key: b"n", value: None }];
    let record = |offset_delta, key, value, headers| Record {
        timestamp_delta: i64::from(offset_delta) * 100 - 50,
        offset_delta,
        key,
        value,
        headers,
    };
    let records = [
        record(0, Some(&b"key"[..]), Some(&b"value"[..]), &[][..]),
        record(1, None, Some(&[7; 100]), &headers),
        record(2, Some(b""), None, &headers[..1]),
    ];
    let mut area = Vec::new();
    for record in records {
        let at = area.len();
        area.resize(at + record.encoded_len(), 0);
        record.encode(record.body_len(), &mut area[at..]).expect("it fits");
    }
    let header = BatchHeader { last_offset_delta: 2, record_count: 3, ..Default::default() };
    let factor = ShiftFactor::for_len(area.len());
    let header = header.encode(area.len(), crc32c::crc32c(&area), factor);
    [&header.expect("it is short")[..], &area].concat()
}

fn api_versions_request() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "name".to_owned(),
        client_software_version: "1.2.3".to_owned(),
    }
}

fn api_versions_response() -> ApiVersionsResponse {
    let api = |api_key| ApiVersion { api_key, min_version: 3, max_version: 13 };
    ApiVersionsResponse {
        error_code: ErrorCode::NONE,
        api_keys: [0, 3, 18].map(api).to_vec(),
        throttle_time_ms: 7,
        supported_features: vec![SupportedFeature {
            name: "transaction.version".to_owned(),
            min_version: 0,
            max_version: 2,
        }],
        finalized_features_epoch: 5,
        finalized_features: vec![FinalizedFeature {
            name: "transaction.version".to_owned(),
            max_version_level: 2,
            min_version_level: 2,
        }],
        zk_migration_ready: true,
    }
}

fn metadata_request() -> MetadataRequest {
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic::named("a"), MetadataRequestTopic::named("topic")]),
        allow_auto_topic_creation: true,
        include_cluster_authorized_operations: true,
        include_topic_authorized_operations: true,
    }
}

fn metadata_response() -> MetadataResponse {
    let broker = |node_id| MetadataResponseBroker {
        node_id,
        host: "broker.example".to_owned(),
        port: 9092,
        rack: (node_id == 1).then(|| "rack".to_owned()),
    };
    let partition = |partition_index| MetadataResponsePartition {
        error_code: ErrorCode::LEADER_NOT_AVAILABLE,
        partition_index,
        leader_id: 1,
        leader_epoch: 4,
        replica_nodes: vec![1, 2, 3],
        isr_nodes: vec![1, 2],
        offline_replicas: vec![3],
    };
    let topic = |name: &str| MetadataResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(name.to_owned()),
        topic_id: [9; 16],
        is_internal: false,
        partitions: vec![partition(0), partition(1)],
        topic_authorized_operations: 3400,
    };
    MetadataResponse {
        throttle_time_ms: 1,
        brokers: vec![broker(1), broker(2)],
        cluster_id: Some("cluster".to_owned()),
        controller_id: 2,
        topics: vec![topic("a"), topic("topic")],
        cluster_authorized_operations: 1,
        error_code: ErrorCode::REBOOTSTRAP_REQUIRED,
    }
}

fn produce_request() -> ProduceRequest {
    let partition = |index| ProduceRequestPartition { index, records: Some(Bytes::from(batch())) };
    ProduceRequest {
        transactional_id: Some("transaction".to_owned()),
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![ProduceRequestTopic {
            name: "topic".to_owned(),
            topic_id: [9; 16],
            partitions: vec![partition(0), partition(1)],
        }],
    }
}

fn produce_response() -> ProduceResponse {
    let error = |batch_index| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: (batch_index == 0).then(|| "no key".to_owned()),
    };
    let partition = |index| PartitionProduceResponse {
        index,
        error_code: ErrorCode::INVALID_RECORD,
        base_offset: 1 << 40,
        log_append_time_ms: 1_700_000_000_000,
        log_start_offset: 3,
        record_errors: vec![error(0), error(1)],
        error_message: Some("records without a key".to_owned()),
        current_leader: LeaderIdAndEpoch { leader_id: 2, leader_epoch: 8 },
    };
    ProduceResponse {
        topics: vec![TopicProduceResponse {
            name: "topic".to_owned(),
            topic_id: [9; 16],
            partitions: vec![partition(0), partition(1)],
        }],
        throttle_time_ms: 9,
        node_endpoints: vec![NodeEndpoint {
            node_id: 2,
            host: "broker.example".to_owned(),
            port: 9092,
            rack: Some("rack".to_owned()),
        }],
    }
}

fn fetch_request() -> FetchRequest {
    let partition = |partition| FetchPartition {
        partition,
        current_leader_epoch: 1,
        fetch_offset: 2,
        last_fetched_epoch: 3,
        log_start_offset: 4,
        partition_max_bytes: 5,
    };
    FetchRequest {
        replica_id: -1,
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50_000_000,
        isolation_level: 1,
        session_id: 6,
        session_epoch: 7,
        topics: vec![FetchTopic {
            topic: "topic".to_owned(),
            topic_id: [9; 16],
            partitions: vec![partition(0), partition(1)],
        }],
        forgotten_topics_data: vec![ForgottenTopic {
            topic: "a".to_owned(),
            topic_id: [8; 16],
            partitions: vec![0, 1],
        }],
        rack_id: "rack".to_owned(),
    }
}

fn fetch_response() -> FetchResponse {
    let transaction = AbortedTransaction { producer_id: 1, first_offset: 2 };
    let partition = |partition_index| FetchPartitionData {
        partition_index,
        error_code: ErrorCode::NONE,
        high_watermark: 10,
        last_stable_offset: 9,
        log_start_offset: 1,
        current_leader: LeaderIdAndEpoch { leader_id: 2, leader_epoch: 8 },
        aborted_transactions: Some(vec![transaction; 2]),
        preferred_read_replica: 3,
        records: Some(Bytes::from(batch())),
    };
    FetchResponse {
        throttle_time_ms: 1,
        error_code: ErrorCode::NONE,
        session_id: 4,
        responses: vec![FetchableTopicResponse {
            topic: "topic".to_owned(),
            topic_id: [9; 16],
            partitions: vec![partition(0), partition(1)],
        }],
    }
}

fn list_offsets_request() -> ListOffsetsRequest {
    let partition = |partition_index| ListOffsetsPartition {
        partition_index,
        current_leader_epoch: 1,
        timestamp: LATEST_TIMESTAMP,
    };
    ListOffsetsRequest {
        replica_id: -1,
        isolation_level: 1,
        topics: vec![ListOffsetsTopic {
            name: "topic".to_owned(),
            partitions: vec![partition(0), partition(1)],
        }],
        timeout_ms: 1000,
    }
}

fn list_offsets_response() -> ListOffsetsResponse {
    let partition = |partition_index| ListOffsetsPartitionResponse {
        partition_index,
        error_code: ErrorCode::NONE,
        timestamp: 5,
        offset: 6,
        leader_epoch: 7,
    };
    ListOffsetsResponse {
        throttle_time_ms: 1,
        topics: vec![ListOffsetsTopicResponse {
            name: "topic".to_owned(),
            partitions: vec![partition(0), partition(1)],
        }],
    }
}

fn create_topics_request() -> CreateTopicsRequest {
    CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "topic".to_owned(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![CreatableReplicaAssignment {
                partition_index: 0,
                broker_ids: vec![1, 2],
            }],
            configs: vec![CreatableTopicConfig {
                name: "cleanup.policy".to_owned(),
                value: Some("compact".to_owned()),
            }],
        }],
        timeout_ms: 1000,
        validate_only: true,
    }
}

fn create_topics_response() -> CreateTopicsResponse {
    CreateTopicsResponse {
        throttle_time_ms: 1,
        topics: vec![CreatableTopicResult {
            name: "topic".to_owned(),
            topic_id: [9; 16],
            error_code: ErrorCode::TOPIC_ALREADY_EXISTS,
            error_message: Some("it is there".to_owned()),
            topic_config_error_code: ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            num_partitions: 6,
            replication_factor: 3,
            configs: Some(vec![CreatableTopicConfigs {
                name: "cleanup.policy".to_owned(),
                value: Some("delete".to_owned()),
                read_only: false,
                config_source: 5,
                is_sensitive: false,
            }]),
        }],
    }
}

fn init_producer_id_request() -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some("transaction".to_owned()),
        transaction_timeout_ms: 60_000,
        producer_id: 4000,
        producer_epoch: 7,
    }
}

fn init_producer_id_response() -> InitProducerIdResponse {
    InitProducerIdResponse {
        throttle_time_ms: 1,
        error_code: ErrorCode::NONE,
        producer_id: 4000,
        producer_epoch: 8,
    }
}
