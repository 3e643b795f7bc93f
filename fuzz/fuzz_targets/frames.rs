//! Lengths of frames, and the headers of requests and responses.

#![no_main]

use bytes::Bytes;
use kafka_producer::protocol::ApiKey;
use kafka_producer::protocol::api::{
    LENGTH_BYTES, RequestHeader, correlation_id, frame_len, split_response,
};
use kafka_producer_fuzz::counting_allocator::modest;

const MOST: usize = 1 << 20;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let length = frame_len(input, MOST);
    assert_eq!(length == Ok(None), input.len() < LENGTH_BYTES);
    assert!(length.is_err() || length.is_ok_and(|length| length.is_none_or(|n| n <= MOST)));

    let frame = Bytes::copy_from_slice(input.get(LENGTH_BYTES..).unwrap_or_default());
    let split = modest(&"a request's header", frame.len(), || RequestHeader::split(&frame));
    if let Ok((header, body)) = split {
        assert_eq!(correlation_id(&frame[4..]), Ok(header.correlation_id));
        assert!(frame.ends_with(&body));
    }
    for key in ApiKey::ALL {
        for version in [0, key.first_flexible()] {
            let split = modest(&"a response's header", frame.len(), || {
                split_response(key, version, &frame)
            });
            if let Ok((id, body)) = split {
                assert_eq!(correlation_id(&frame), Ok(id));
                assert!(frame.ends_with(&body));
            }
        }
    }
});
