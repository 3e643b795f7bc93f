//! Metadata that is not true: what brokers really say while they have not heard the news yet.

use super::trace::Trace;
use crate::protocol::api::{Message, response_frame, split_response};
use crate::protocol::messages::metadata::{MetadataResponse, MetadataResponseTopic};
use crate::protocol::{ApiKey, ErrorCode, RequestHeader};
use bytes::Bytes;
use fastrand::Rng;

/// A metadata answer made wrong; any other as it is.
pub(super) fn twist(header: &RequestHeader, frame: Bytes, rng: &mut Rng, trace: &Trace) -> Bytes {
    let Some(mut response) = metadata_of(header, &frame) else { return frame };
    let brokers = response.brokers.len() as i32;
    let lie = rng.u64(0..6);
    for topic in &mut response.topics {
        match lie {
            0 => stale_leaders(topic, brokers, rng),
            1 => older_epochs(topic, rng),
            2 => drop(topic.partitions.pop()),
            3 => fail(topic, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            4 => fail(topic, ErrorCode::LEADER_NOT_AVAILABLE),
            _ => {}
        }
    }
    if lie == 5 {
        match rng.u32(0..3) {
            0 => response.topics.clear(),
            1 => response.brokers.clear(),
            _ => response.brokers.truncate(1),
        }
    }
    trace.note(&[5, lie], || format!("lie {lie}: {:?}", response.topics));
    response_frame(&response, header.api_version, header.correlation_id).unwrap().into()
}

/// A metadata answer of somebody who knows of no brokers; any other as it is.
pub(super) fn nobody(header: &RequestHeader, frame: Bytes) -> Bytes {
    let Some(mut response) = metadata_of(header, &frame) else { return frame };
    response.brokers.clear();
    response.topics.clear();
    response_frame(&response, header.api_version, header.correlation_id).unwrap().into()
}

fn metadata_of(header: &RequestHeader, frame: &Bytes) -> Option<MetadataResponse> {
    let (key, version) = (ApiKey::Metadata, header.api_version);
    if header.api_key != key.code() {
        return None;
    }
    let (_, body) = split_response(key, version, &frame.slice(4..)).unwrap();
    Some(MetadataResponse::from_bytes(version, &body).unwrap())
}

/// Another leader under an epoch that is no newer.
fn stale_leaders(topic: &mut MetadataResponseTopic, brokers: i32, rng: &mut Rng) {
    for partition in &mut topic.partitions {
        if rng.bool() {
            partition.leader_id = rng.i32(1..=brokers.max(1));
        }
    }
}

fn older_epochs(topic: &mut MetadataResponseTopic, rng: &mut Rng) {
    for partition in &mut topic.partitions {
        partition.leader_epoch = (partition.leader_epoch - rng.i32(1..3)).max(0);
        partition.leader_id = rng.i32(1..=2);
    }
}

fn fail(topic: &mut MetadataResponseTopic, code: ErrorCode) {
    topic.error_code = code;
    topic.partitions.clear();
}
