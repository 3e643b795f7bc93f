//! The APIs: keys, versions, request and response headers, frames, error codes.
//!
//! A frame is an `int32` length and that many bytes: a header and a body. Request header v1 has
//! key, version, correlation id and client id, v2 adds tagged fields (and keeps the `int16` client
//! id); response header v0 has the correlation id, v1 adds tagged fields. Flexible versions use v2
//! and v1, except that the response to ApiVersions always has header v0 (KIP-511), so that a client
//! can read the answer of a broker that is older than it thought.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::codec::{Reader, Writer};
use crate::error::{Error, Result, status};

/// The APIs that this crate speaks.
#[repr(i16)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ApiKey {
    /// Records to partition leaders.
    Produce = 0,
    /// Records from partition leaders.
    Fetch = 1,
    /// Offsets by timestamp.
    ListOffsets = 2,
    /// Brokers, topics, leaders.
    Metadata = 3,
    /// What a broker speaks.
    ApiVersions = 18,
    /// New topics.
    CreateTopics = 19,
    /// A producer's id and epoch.
    InitProducerId = 22,
}

impl ApiKey {
    /// All of them.
    pub const ALL: [ApiKey; 7] = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::Metadata,
        ApiKey::ApiVersions,
        ApiKey::CreateTopics,
        ApiKey::InitProducerId,
    ];

    /// The key with this number, if this crate speaks it.
    pub fn from_code(code: i16) -> Option<ApiKey> {
        ApiKey::ALL.into_iter().find(|key| key.code() == code)
    }

    /// The number.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            ApiKey::Produce => "Produce",
            ApiKey::Fetch => "Fetch",
            ApiKey::ListOffsets => "ListOffsets",
            ApiKey::Metadata => "Metadata",
            ApiKey::ApiVersions => "ApiVersions",
            ApiKey::CreateTopics => "CreateTopics",
            ApiKey::InitProducerId => "InitProducerId",
        }
    }

    /// The first version with compact types and tagged fields.
    pub fn first_flexible(self) -> i16 {
        match self {
            ApiKey::Produce | ApiKey::Metadata => 9,
            ApiKey::Fetch => 12,
            ApiKey::ListOffsets => 6,
            ApiKey::ApiVersions => 3,
            ApiKey::CreateTopics => 5,
            ApiKey::InitProducerId => 2,
        }
    }

    /// Whether a version has compact types and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.first_flexible()
    }

    /// Whether the response header of a version has tagged fields.
    fn has_response_header_tags(self, version: i16) -> bool {
        self != ApiKey::ApiVersions && self.is_flexible(version)
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A request's or a response's body.
///
/// [`Message::to_vec`] and [`Message::from_bytes`] are the doors; the other two are what a message
/// file writes.
pub trait Message: Sized {
    /// The API that it belongs to.
    const KEY: ApiKey;
    /// The versions that can be read and written.
    const VERSIONS: RangeInclusive<i16>;

    /// Writes the fields of the writer's version.
    fn encode(&self, out: &mut Writer) -> Result<()>;

    /// Reads the fields of the reader's version.
    fn decode(input: &mut Reader<'_>) -> Result<Self>;

    /// The body in bytes.
    fn to_vec(&self, version: i16) -> Result<Vec<u8>> {
        check_version::<Self>(version)?;
        let mut out = Writer::new(version, Self::KEY.is_flexible(version));
        self.encode(&mut out)?;
        Ok(out.into_vec())
    }

    /// The body from bytes. Records share them. Bytes behind the last field are ignored, as Kafka's
    /// clients do.
    fn from_bytes(version: i16, body: &Bytes) -> Result<Self> {
        check_version::<Self>(version)?;
        Self::decode(&mut Reader::shared(body, version, Self::KEY.is_flexible(version)))
            .map_err(|error| in_message::<Self>(version, error))
    }
}

/// A request: what a client sends.
pub trait Request: Message {
    /// What comes back.
    type Response: Message;
    /// The versions that the producer uses; the others are for the mock cluster.
    const CLIENT_VERSIONS: RangeInclusive<i16> = Self::VERSIONS;
}

fn check_version<M: Message>(version: i16) -> Result<()> {
    if M::VERSIONS.contains(&version) {
        return Ok(());
    }
    let (key, first, last) = (M::KEY, *M::VERSIONS.start(), *M::VERSIONS.end());
    Err(Error::new(status::UNSUPPORTED, format!("{key} v{version} is not in v{first} to v{last}")))
}

fn in_message<M: Message>(version: i16, error: Error) -> Error {
    let message = format!("{} v{version}: {}", M::KEY, error.message);
    Error { message: message.into(), ..error }
}

/// The header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API's number; maybe one that this crate doesn't speak.
    pub api_key: i16,
    /// The version of header and body.
    pub api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// Who asks, for the broker's logs and quotas.
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Splits a frame (without its length) into header and body. The tagged fields of a key that
    /// this crate doesn't speak are left in the body, since nobody can tell whether there are any.
    pub fn split(frame: &Bytes) -> Result<(RequestHeader, Bytes)> {
        let mut input = Reader::shared(frame, 0, false);
        let (api_key, api_version) = (input.i16()?, input.i16()?);
        let correlation_id = input.i32()?;
        let client_id = input.nullable_str16()?.map(str::to_owned);
        if ApiKey::from_code(api_key).is_some_and(|key| key.is_flexible(api_version)) {
            let mut tagged = Reader::new(input.rest(), api_version, true);
            tagged.skip_tags()?;
            input.take(input.remaining() - tagged.remaining())?;
        }
        let header = RequestHeader { api_key, api_version, correlation_id, client_id };
        Ok((header, frame.slice_ref(input.rest())))
    }
}

/// The first bytes of a request's frame: length and header. The body of `body_len` bytes follows.
pub fn request_head(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    body_len: usize,
) -> Result<Vec<u8>> {
    let mut out = Writer::append(vec![0; 4], version, key.is_flexible(version));
    out.i16(key.code());
    out.i16(version);
    out.i32(correlation_id);
    out.nullable_string16(client_id)?;
    out.no_tags();
    with_length(out.into_vec(), body_len)
}

/// A whole request frame.
pub fn request_frame<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Vec<u8>> {
    let body = request.to_vec(version)?;
    let mut frame = request_head(R::KEY, version, correlation_id, client_id, body.len())?;
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// A whole response frame.
pub fn response_frame<M: Message>(
    response: &M,
    version: i16,
    correlation_id: i32,
) -> Result<Vec<u8>> {
    let body = response.to_vec(version)?;
    let mut out = Writer::append(vec![0; 4], version, M::KEY.has_response_header_tags(version));
    out.i32(correlation_id);
    out.no_tags();
    let mut frame = with_length(out.into_vec(), body.len())?;
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Puts the length into the four bytes kept free for it.
fn with_length(mut head: Vec<u8>, body_len: usize) -> Result<Vec<u8>> {
    let length = (head.len() - LENGTH_BYTES).saturating_add(body_len);
    let length = i32::try_from(length)
        .map_err(|_| Error::new(status::PROTOCOL, format!("a frame of {length} bytes")))?;
    if let Some(prefix) = head.first_chunk_mut() {
        *prefix = length.to_be_bytes();
    }
    Ok(head)
}

/// The correlation id that a response's frame (without its length) starts with.
pub fn correlation_id(frame: &[u8]) -> Result<i32> {
    Reader::new(frame, 0, false).i32()
}

/// Splits a response's frame (without its length) into correlation id and body.
pub fn split_response(key: ApiKey, version: i16, frame: &Bytes) -> Result<(i32, Bytes)> {
    let mut input = Reader::new(frame, version, key.has_response_header_tags(version));
    let correlation_id = input.i32()?;
    input.skip_tags()?;
    Ok((correlation_id, frame.slice_ref(input.rest())))
}

/// The bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;

/// How many bytes follow the length at the start of `received`; `None` if it isn't all there yet. A
/// length that is negative or above `most` is an error: nothing may be reserved for it.
pub fn frame_len(received: &[u8], most: usize) -> Result<Option<usize>> {
    let Some(prefix) = received.first_chunk() else { return Ok(None) };
    let length = i32::from_be_bytes(*prefix);
    match usize::try_from(length) {
        Ok(length) if length <= most => Ok(Some(length)),
        Ok(_) | Err(_) => Err(Error::new(
            status::PROTOCOL,
            format!("a frame of {length} bytes, which is not in 0 to {most}"),
        )),
    }
}

/// An error code of Kafka's as a response carries it; `error.rs` knows names and sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ErrorCode(pub i16);

macro_rules! error_codes {
    ($($code:literal $name:ident)*) => {
        #[allow(missing_docs, reason = "Kafka's own names")]
        impl ErrorCode {
            $(pub const $name: ErrorCode = ErrorCode($code);)*
        }
    };
}

error_codes! {
    -1 UNKNOWN_SERVER_ERROR
    0 NONE
    1 OFFSET_OUT_OF_RANGE
    2 CORRUPT_MESSAGE
    3 UNKNOWN_TOPIC_OR_PARTITION
    4 INVALID_FETCH_SIZE
    5 LEADER_NOT_AVAILABLE
    6 NOT_LEADER_OR_FOLLOWER
    7 REQUEST_TIMED_OUT
    8 BROKER_NOT_AVAILABLE
    9 REPLICA_NOT_AVAILABLE
    10 MESSAGE_TOO_LARGE
    13 NETWORK_EXCEPTION
    14 COORDINATOR_LOAD_IN_PROGRESS
    15 COORDINATOR_NOT_AVAILABLE
    16 NOT_COORDINATOR
    17 INVALID_TOPIC_EXCEPTION
    18 RECORD_LIST_TOO_LARGE
    19 NOT_ENOUGH_REPLICAS
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND
    21 INVALID_REQUIRED_ACKS
    29 TOPIC_AUTHORIZATION_FAILED
    31 CLUSTER_AUTHORIZATION_FAILED
    32 INVALID_TIMESTAMP
    33 UNSUPPORTED_SASL_MECHANISM
    34 ILLEGAL_SASL_STATE
    35 UNSUPPORTED_VERSION
    36 TOPIC_ALREADY_EXISTS
    37 INVALID_PARTITIONS
    38 INVALID_REPLICATION_FACTOR
    39 INVALID_REPLICA_ASSIGNMENT
    40 INVALID_CONFIG
    41 NOT_CONTROLLER
    42 INVALID_REQUEST
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT
    44 POLICY_VIOLATION
    45 OUT_OF_ORDER_SEQUENCE_NUMBER
    46 DUPLICATE_SEQUENCE_NUMBER
    47 INVALID_PRODUCER_EPOCH
    48 INVALID_TXN_STATE
    49 INVALID_PRODUCER_ID_MAPPING
    51 CONCURRENT_TRANSACTIONS
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    56 KAFKA_STORAGE_ERROR
    58 SASL_AUTHENTICATION_FAILED
    59 UNKNOWN_PRODUCER_ID
    70 FETCH_SESSION_ID_NOT_FOUND
    71 INVALID_FETCH_SESSION_EPOCH
    72 LISTENER_NOT_FOUND
    74 FENCED_LEADER_EPOCH
    75 UNKNOWN_LEADER_EPOCH
    76 UNSUPPORTED_COMPRESSION_TYPE
    87 INVALID_RECORD
    89 THROTTLING_QUOTA_EXCEEDED
    90 PRODUCER_FENCED
    100 UNKNOWN_TOPIC_ID
    103 INCONSISTENT_TOPIC_ID
    120 TRANSACTION_ABORTABLE
    129 REBOOTSTRAP_REQUIRED
}

impl ErrorCode {
    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self == ErrorCode::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::{
        ApiVersionsRequest, MetadataRequest, MetadataResponse, ProduceRequest,
    };

    #[test]
    fn keys_come_back() {
        for key in ApiKey::ALL {
            assert_eq!(ApiKey::from_code(key.code()), Some(key));
        }
        assert_eq!(ApiKey::from_code(-1), None);
    }

    #[test]
    fn frame_lengths() {
        assert_eq!(frame_len(&[], 100).unwrap(), None);
        assert_eq!(frame_len(&[0x7f, 0xff, 0xff], 100).unwrap(), None);
        assert_eq!(frame_len(&[0, 0, 0, 0], 100).unwrap(), Some(0));
        assert_eq!(frame_len(&[0, 0, 0, 100, 9], 100).unwrap(), Some(100));
        assert!(frame_len(&[0, 0, 0, 101], 100).is_err());
        assert!(frame_len(&[0xff, 0xff, 0xff, 0xff], 100).is_err());
        assert!(frame_len(b"HTTP/1.1 400", 100_000_000).is_err());
        assert!(request_head(ApiKey::Produce, 9, 0, None, i32::MAX as usize).is_err());
        assert!(request_head(ApiKey::Produce, 9, 0, None, usize::MAX).is_err());
    }

    #[test]
    fn versions_outside_are_refused() {
        let request = ProduceRequest::default();
        for version in [i16::MIN, -1, 2, 14, i16::MAX] {
            let error = request.to_vec(version).unwrap_err();
            assert_eq!(error.status, status::UNSUPPORTED);
            assert!(ProduceRequest::from_bytes(version, &Bytes::new()).is_err());
        }
        assert!(MetadataRequest::VERSIONS.contains(MetadataRequest::CLIENT_VERSIONS.start()));
        assert!(MetadataRequest::VERSIONS.contains(MetadataRequest::CLIENT_VERSIONS.end()));
    }

    #[test]
    fn errors_name_the_message() {
        let error = MetadataResponse::from_bytes(12, &Bytes::from_static(&[0, 0])).unwrap_err();
        assert_eq!(error.status, status::PROTOCOL);
        assert!(error.message.starts_with("Metadata v12: "), "{error}");
    }

    #[test]
    fn trailing_bytes_are_ignored() {
        let mut body = MetadataResponse::default().to_vec(9).unwrap();
        body.extend_from_slice(b"more");
        let read = MetadataResponse::from_bytes(9, &body.into()).unwrap();
        assert_eq!(read, MetadataResponse::default());
    }

    #[test]
    fn cut_headers_are_errors() {
        let request = ApiVersionsRequest::default();
        let frame = Bytes::from(request_frame(&request, 4, 1, Some("me")).unwrap());
        let header = frame.len() - request.to_vec(4).unwrap().len();
        for end in LENGTH_BYTES..header {
            assert!(RequestHeader::split(&frame.slice(LENGTH_BYTES..end)).is_err(), "to {end}");
        }
        let frame = Bytes::from(response_frame(&MetadataResponse::default(), 9, 1).unwrap());
        for end in LENGTH_BYTES..LENGTH_BYTES + 5 {
            let cut = frame.slice(LENGTH_BYTES..end);
            assert!(split_response(ApiKey::Metadata, 9, &cut).is_err(), "to {end}");
        }
    }
}
