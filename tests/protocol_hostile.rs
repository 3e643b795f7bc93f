//! What a broken, confused or hostile peer sends: cut messages, counts and lengths that nothing
//! could fill. Reading them is an error, never a panic, and never reserves more than a small
//! multiple of what was received: a failed allocation ends the process, and no `catch_unwind` stops
//! that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::fmt::Debug;

use bytes::Bytes;
use kafka_producer::protocol::Message;
use kafka_producer::protocol::messages::*;
use kafka_producer::protocol::record_batch::{RecordBatch, RecordReader};

#[path = "support/counting_allocator.rs"]
mod counting_allocator;
#[path = "support/protocol_samples.rs"]
mod protocol_samples;

use counting_allocator::{modest, reserved_by};
use protocol_samples::{batch, decoders};

/// Reads, within bounds; says whether that went well.
fn read_within_bounds(
    name: &str,
    read: fn(i16, &Bytes) -> bool,
    version: i16,
    body: &Bytes,
) -> bool {
    modest(&format_args!("{name} v{version}"), body.len(), || read(version, body))
}

/// The smallest messages that end a process which reserves what they say.
#[test]
fn counts_of_billions() {
    fn refuse<M: Message>(version: i16, body: &'static [u8]) {
        let read = |version, body: &Bytes| M::from_bytes(version, body).is_ok();
        let body = Bytes::from_static(body);
        assert!(!read_within_bounds(M::KEY.name(), read, version, &body));
    }
    refuse::<ProduceResponse>(3, &[0x7f, 0xff, 0xff, 0xff]);
    refuse::<ApiVersionsResponse>(3, &[0, 0, 0xff, 0xff, 0xff, 0xff, 0x07]);
    refuse::<MetadataResponse>(12, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    refuse::<ApiVersionsResponse>(0, &[0, 35, 0x7f, 0xff, 0xff, 0xff]);
    refuse::<ApiVersionsResponse>(3, &[0, 35, 0xff, 0xff, 0xff, 0xff, 0x07]);
}

#[test]
fn samples_are_read_whole_and_cut_ones_are_refused() {
    for decoder in decoders() {
        for version in decoder.versions.clone() {
            let body = Bytes::from((decoder.sample)(version));
            (decoder.decode)(version, &body).unwrap();
            assert!(read_within_bounds(decoder.name, decoder.read, version, &body));
            for length in 0..body.len() {
                let cut = body.slice(..length);
                let read = read_within_bounds(decoder.name, decoder.read, version, &cut);
                assert!(!read, "{} v{version} cut to {length} bytes", decoder.name);
            }
        }
    }
}

/// Every place of every message, overwritten with what looks like a huge count or length in one
/// encoding or another.
#[test]
fn huge_counts_everywhere() {
    let patterns: [&[u8]; 7] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x00, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xfe],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0x7f, 0xff],
        &[0xff, 0x7f],
    ];
    for decoder in decoders() {
        for version in decoder.versions.clone() {
            let body = (decoder.sample)(version);
            for at in 0..body.len() {
                for pattern in patterns {
                    let mut bent = body[..at].to_vec();
                    bent.extend_from_slice(pattern);
                    bent.extend_from_slice(body.get(at + pattern.len()..).unwrap_or_default());
                    read_within_bounds(decoder.name, decoder.read, version, &bent.into());
                }
            }
        }
    }
}

/// A list of the smallest elements there are, in every version: a count must not be refused because
/// an element is thought to take more.
fn smallest<M: Message + Clone + PartialEq + Debug>(message: M) {
    for version in M::VERSIONS {
        let body = Bytes::from(message.to_vec(version).unwrap());
        let read = M::from_bytes(version, &body).unwrap();
        assert_eq!(read.to_vec(version).unwrap(), body, "{} v{version}", M::KEY);
    }
}

/// So many that what stands behind the list can't make up for a byte per element.
fn many<T: Clone>(element: T) -> Vec<T> {
    vec![element; 100]
}

#[test]
fn the_smallest_elements_are_not_refused() {
    let named = MetadataRequestTopic::named("");
    smallest(MetadataRequest { topics: Some(many(named)), ..Default::default() });
    let topic = MetadataResponseTopic { name: Some(String::new()), ..Default::default() };
    smallest(MetadataResponse { topics: many(topic.clone()), ..Default::default() });
    smallest(MetadataResponse { brokers: many(Default::default()), ..Default::default() });
    let with = |partitions| MetadataResponse {
        topics: vec![MetadataResponseTopic { partitions, ..topic.clone() }],
        ..Default::default()
    };
    smallest(with(many(Default::default())));
    let partition = MetadataResponsePartition::default();
    let replicas = MetadataResponsePartition { replica_nodes: many(1), ..partition.clone() };
    let in_sync = MetadataResponsePartition { isr_nodes: many(1), ..partition.clone() };
    let offline = MetadataResponsePartition { offline_replicas: many(1), ..partition };
    for partition in [replicas, in_sync, offline] {
        smallest(with(vec![partition]));
    }

    let api = ApiVersion { api_key: 0, min_version: 0, max_version: 0 };
    let name = String::new();
    let supported = SupportedFeature { name: name.clone(), min_version: 0, max_version: 0 };
    let finalized = FinalizedFeature { name, max_version_level: 0, min_version_level: 0 };
    smallest(ApiVersionsResponse { api_keys: many(api), ..Default::default() });
    smallest(ApiVersionsResponse { supported_features: many(supported), ..Default::default() });
    smallest(ApiVersionsResponse { finalized_features: many(finalized), ..Default::default() });

    smallest(ProduceRequest { topics: many(Default::default()), ..Default::default() });
    let topic = ProduceRequestTopic { partitions: many(Default::default()), ..Default::default() };
    smallest(ProduceRequest { topics: vec![topic], ..Default::default() });
    smallest(ProduceResponse { topics: many(Default::default()), ..Default::default() });
    smallest(ProduceResponse { node_endpoints: many(Default::default()), ..Default::default() });
    let topic = |partitions| TopicProduceResponse { partitions, ..Default::default() };
    smallest(ProduceResponse {
        topics: vec![topic(many(Default::default()))],
        ..Default::default()
    });
    let partition =
        PartitionProduceResponse { record_errors: many(Default::default()), ..Default::default() };
    smallest(ProduceResponse { topics: vec![topic(vec![partition])], ..Default::default() });
}

#[test]
fn the_smallest_elements_of_consumers_and_administrators_are_not_refused() {
    smallest(FetchRequest { topics: many(Default::default()), ..Default::default() });
    smallest(FetchRequest {
        forgotten_topics_data: many(Default::default()),
        ..Default::default()
    });
    let topic = ForgottenTopic { partitions: many(1), ..Default::default() };
    smallest(FetchRequest { forgotten_topics_data: vec![topic], ..Default::default() });
    let topic = FetchTopic { partitions: many(Default::default()), ..Default::default() };
    smallest(FetchRequest { topics: vec![topic], ..Default::default() });
    smallest(FetchResponse { responses: many(Default::default()), ..Default::default() });
    let topic = |partitions| FetchableTopicResponse { partitions, ..Default::default() };
    let partition = FetchPartitionData { aborted_transactions: None, ..Default::default() };
    smallest(FetchResponse { responses: vec![topic(many(partition))], ..Default::default() });
    let transactions = Some(many(Default::default()));
    let partition = FetchPartitionData { aborted_transactions: transactions, ..Default::default() };
    smallest(FetchResponse { responses: vec![topic(vec![partition])], ..Default::default() });

    smallest(ListOffsetsRequest { topics: many(Default::default()), ..Default::default() });
    let topic = ListOffsetsTopic { partitions: many(Default::default()), ..Default::default() };
    smallest(ListOffsetsRequest { topics: vec![topic], ..Default::default() });
    smallest(ListOffsetsResponse { topics: many(Default::default()), ..Default::default() });
    let partitions = many(Default::default());
    let topic = ListOffsetsTopicResponse { partitions, ..Default::default() };
    smallest(ListOffsetsResponse { topics: vec![topic], ..Default::default() });

    smallest(CreateTopicsRequest { topics: many(Default::default()), ..Default::default() });
    let topic = CreatableTopic { configs: many(Default::default()), ..Default::default() };
    smallest(CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    let topic = CreatableTopic { assignments: many(Default::default()), ..Default::default() };
    smallest(CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    let assignment = CreatableReplicaAssignment { partition_index: 0, broker_ids: many(1) };
    let topic = CreatableTopic { assignments: vec![assignment], ..Default::default() };
    smallest(CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    let topic = CreatableTopicResult { configs: None, ..Default::default() };
    smallest(CreateTopicsResponse { topics: many(topic), ..Default::default() });
    let configs = Some(many(Default::default()));
    let topic = CreatableTopicResult { configs, ..Default::default() };
    smallest(CreateTopicsResponse { topics: vec![topic], ..Default::default() });
}

/// As many elements as bytes allow: what a count that passes may reserve.
#[test]
fn as_many_elements_as_fit() {
    for decoder in decoders() {
        for version in decoder.versions.clone() {
            let sample = (decoder.sample)(version);
            for at in 0..sample.len().min(40) {
                for count in [0x0000_0100_u32, 0x0000_1000] {
                    for encoded in [count.to_be_bytes().to_vec(), varint(count)] {
                        let mut bent = sample[..at].to_vec();
                        bent.extend_from_slice(&encoded);
                        bent.resize(at + encoded.len() + 8_000, 0);
                        read_within_bounds(decoder.name, decoder.read, version, &bent.into());
                    }
                }
            }
        }
    }
}

fn varint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[test]
fn reading_records_reserves_nothing() {
    let batch = batch();
    let (records, reserved) = reserved_by(|| {
        let (batch, _) = RecordBatch::split(&batch).unwrap();
        batch.check_crc() && batch.records().all(|record| record.unwrap().headers.count() < 3)
    });
    assert!(records);
    assert_eq!(reserved, 0);

    let area = &batch[61..];
    for length in 0..area.len() {
        let read = || RecordReader::new(&area[..length]).filter(Result::is_ok).count();
        assert!(modest(&"records", 0, read) < 3, "{length} bytes");
    }
}
