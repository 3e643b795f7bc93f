//! Headers and frames, and that no version disagrees about being flexible.

use kafka_producer::protocol::api::{
    self, ApiKey, LENGTH_BYTES, Request, RequestHeader, frame_len, request_frame, response_frame,
    split_response,
};
use kafka_producer::protocol::messages::*;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, decode_request_header_from_buffer,
};

use super::*;

/// Our headers for all versions of a request and its response, read and written by them.
fn judge_headers<R, T>()
where
    R: Request + Default,
    R::Response: Default,
    T: kafka_protocol::protocol::Request,
{
    assert_eq!(R::KEY.code(), T::KEY);
    for version in R::VERSIONS {
        let body = R::default().to_vec(version).unwrap();
        for client_id in [None, Some(""), Some("a client of ours")] {
            let frame = request_frame(&R::default(), version, -7, client_id).unwrap();
            assert_eq!(frame_len(&frame, 1000).unwrap(), Some(frame.len() - LENGTH_BYTES));

            let frame = Bytes::from(frame).slice(LENGTH_BYTES..);
            let mut rest = frame.clone();
            let header = decode_request_header_from_buffer(&mut rest).unwrap();
            assert_eq!(header.request_api_key, T::KEY);
            assert_eq!(header.request_api_version, version);
            assert_eq!(header.correlation_id, -7);
            assert_eq!(header.client_id.as_deref(), client_id);
            assert_eq!(rest, body, "{} v{version}", R::KEY);

            let ours = RequestHeader {
                api_key: T::KEY,
                api_version: version,
                correlation_id: -7,
                client_id: client_id.map(str::to_owned),
            };
            assert_eq!(RequestHeader::split(&frame).unwrap(), (ours.clone(), rest.clone()));

            let tagged = header.with_unknown_tagged_field(3, Bytes::from_static(b"unknown"));
            let mut frame = BytesMut::new();
            tagged.encode(&mut frame, T::header_version(version)).unwrap();
            frame.extend_from_slice(&body);
            assert_eq!(RequestHeader::split(&frame.freeze()).unwrap(), (ours, rest));
        }
        judge_response_header::<R, T>(version);
    }
}

fn judge_response_header<R, T>(version: i16)
where
    R: Request,
    R::Response: Default,
    T: kafka_protocol::protocol::Request,
{
    let body = R::Response::default().to_vec(version).unwrap();
    let frame = Bytes::from(response_frame(&R::Response::default(), version, 99).unwrap());
    assert_eq!(frame_len(&frame, 1000).unwrap(), Some(frame.len() - LENGTH_BYTES));
    let mut rest = frame.slice(LENGTH_BYTES..);
    assert_eq!(api::correlation_id(&rest).unwrap(), 99);
    assert_eq!(split_response(R::KEY, version, &rest).unwrap(), (99, body.clone().into()));

    let header_version = T::Response::header_version(version);
    let header = theirs::ResponseHeader::decode(&mut rest, header_version).unwrap();
    assert_eq!(header.correlation_id, 99);
    assert_eq!(rest, body, "{} v{version}", R::KEY);

    let tagged = header.with_unknown_tagged_field(3, Bytes::from_static(b"unknown"));
    let mut frame = BytesMut::new();
    tagged.encode(&mut frame, header_version).unwrap();
    frame.extend_from_slice(&body);
    let split = split_response(R::KEY, version, &frame.freeze()).unwrap();
    assert_eq!(split, (99, body.into()));
}

#[test]
fn headers() {
    judge_headers::<ApiVersionsRequest, theirs::ApiVersionsRequest>();
    judge_headers::<MetadataRequest, theirs::MetadataRequest>();
    judge_headers::<ProduceRequest, theirs::ProduceRequest>();
    judge_headers::<FetchRequest, theirs::FetchRequest>();
    judge_headers::<ListOffsetsRequest, theirs::ListOffsetsRequest>();
    judge_headers::<CreateTopicsRequest, theirs::CreateTopicsRequest>();
    judge_headers::<InitProducerIdRequest, theirs::InitProducerIdRequest>();
}

#[test]
fn defaults_are_the_schemas() {
    fn judge<M: Judged + Default>() {
        let version = *M::VERSIONS.end();
        let mut theirs = BytesMut::new();
        M::default().theirs(&Unknown::new()).encode(&mut theirs, version).unwrap();
        assert_eq!(M::default().to_vec(version).unwrap(), theirs);
    }
    judge::<MetadataResponse>();
    assert_eq!(
        ProduceResponse::default().theirs(&Unknown::new()),
        theirs::ProduceResponse::default()
    );
    assert_eq!(FetchResponse::default().theirs(&Unknown::new()), theirs::FetchResponse::default());
    assert_eq!(FetchRequest::default().theirs(&Unknown::new()), theirs::FetchRequest::default());
    let ours = ApiVersionsResponse::default().theirs(&Unknown::new());
    assert_eq!(ours, theirs::ApiVersionsResponse::default());
    let ours = InitProducerIdRequest::default().theirs(&Unknown::new());
    // The schema names no default for the transactional id; ours is none.
    assert_eq!(ours, theirs::InitProducerIdRequest::default().with_transactional_id(None));
    let ours = InitProducerIdResponse::default().theirs(&Unknown::new());
    assert_eq!(ours, theirs::InitProducerIdResponse::default());
    let ours = CreateTopicsRequest::default().theirs(&Unknown::new());
    assert_eq!(ours, theirs::CreateTopicsRequest::default());
}

/// The header of a key that we don't speak: a broker must at least be able to say so.
#[test]
fn unknown_keys_are_split_too() {
    let header = theirs::RequestHeader::default()
        .with_request_api_key(9999)
        .with_request_api_version(3)
        .with_correlation_id(5);
    let mut frame = BytesMut::new();
    header.encode(&mut frame, 1).unwrap();
    let (header, body) = RequestHeader::split(&frame.freeze()).unwrap();
    assert_eq!((header.api_key, header.api_version, header.correlation_id), (9999, 3, 5));
    assert_eq!((header.client_id.as_deref(), body.len()), (Some(""), 0));
    assert_eq!(ApiKey::from_code(9999), None);
}
