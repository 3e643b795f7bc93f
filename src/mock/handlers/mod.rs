//! A file per API: a decoded request and the cluster in, an answer out.
//!
//! The rest of this file is what they share: which versions are served, and how an answer becomes a
//! frame.

pub mod api_versions;
pub mod create_topics;
pub mod fetch;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod produce;

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::error::{Error, Result, status};
use crate::mock::cluster::{Cluster, Now, Reply};
use crate::protocol::api::response_frame;
use crate::protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, FetchRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, ProduceRequest,
};
use crate::protocol::{ApiKey, ErrorCode, Message};

/// A request beside its body.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The broker it came to.
    pub node: i32,
    /// The API.
    pub key: ApiKey,
    /// The version of the body.
    pub version: i16,
    /// Goes into the answer.
    pub correlation_id: i32,
    /// What time it is.
    pub now: Now,
    /// What it is to be answered with (pushed by a test), or `NONE`.
    pub error: ErrorCode,
}

/// The versions of an API's requests that can be read.
pub fn readable(key: ApiKey) -> RangeInclusive<i16> {
    match key {
        ApiKey::Produce => ProduceRequest::VERSIONS,
        ApiKey::Fetch => FetchRequest::VERSIONS,
        ApiKey::ListOffsets => ListOffsetsRequest::VERSIONS,
        ApiKey::Metadata => MetadataRequest::VERSIONS,
        ApiKey::ApiVersions => ApiVersionsRequest::VERSIONS,
        ApiKey::CreateTopics => CreateTopicsRequest::VERSIONS,
        ApiKey::InitProducerId => InitProducerIdRequest::VERSIONS,
    }
}

/// What a new cluster advertises: what it can read, and Produce from v0 on. Kafka 4 doesn't read
/// Produce v0 to v2 either, but advertises them, since librdkafka before 2.11 turns features off
/// where they are missing.
pub fn advertised() -> impl Iterator<Item = (i16, (i16, i16))> {
    ApiKey::ALL.into_iter().map(|key| {
        let versions = readable(key);
        let min = if key == ApiKey::Produce { 0 } else { *versions.start() };
        (key.code(), (min, *versions.end()))
    })
}

/// Hands a request's body to the file of its API.
pub fn handle(cluster: &mut Cluster, call: &Call, body: &Bytes) -> Result<Reply> {
    let version = call.version;
    match call.key {
        ApiKey::Produce => {
            produce::handle(cluster, call, ProduceRequest::from_bytes(version, body)?)
        }
        ApiKey::Fetch => fetch::handle(cluster, call, FetchRequest::from_bytes(version, body)?),
        ApiKey::ListOffsets => {
            list_offsets::handle(cluster, call, ListOffsetsRequest::from_bytes(version, body)?)
        }
        ApiKey::Metadata => {
            metadata::handle(cluster, call, MetadataRequest::from_bytes(version, body)?)
        }
        ApiKey::ApiVersions => {
            api_versions::handle(cluster, call, &ApiVersionsRequest::from_bytes(version, body)?)
        }
        ApiKey::CreateTopics => {
            create_topics::handle(cluster, call, CreateTopicsRequest::from_bytes(version, body)?)
        }
        ApiKey::InitProducerId => {
            let request = InitProducerIdRequest::from_bytes(version, body)?;
            init_producer_id::handle(cluster, call, &request)
        }
    }
}

/// What happens to a version that isn't served: ApiVersions says what is (KIP-511), anything else
/// can't be read.
pub fn unsupported_version(cluster: &Cluster, call: &Call) -> Result<Reply> {
    if call.key == ApiKey::ApiVersions {
        return api_versions::unsupported_version(cluster, call);
    }
    let message = format!("{} v{} is not served", call.key, call.version);
    Err(Error::new(status::UNSUPPORTED, message))
}

/// An answer in the version of the request.
fn answer<M: Message>(cluster: &Cluster, call: &Call, response: &M) -> Result<Reply> {
    answer_in(cluster, call, call.version, response)
}

/// An answer in another version.
fn answer_in<M: Message>(
    cluster: &Cluster,
    call: &Call,
    version: i16,
    response: &M,
) -> Result<Reply> {
    let frame = response_frame(response, version, call.correlation_id)?;
    Ok(Reply::Answer(frame.into(), cluster.not_before(call)))
}
