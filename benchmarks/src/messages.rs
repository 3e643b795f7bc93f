//! What the broker answers: which requests, in which versions, and the bodies of those that carry
//! no records.

use crate::wire::{Reader, Writer};
use std::io;

/// Produce.
pub const PRODUCE: i16 = 0;
/// Metadata.
pub const METADATA: i16 = 3;
/// ApiVersions.
pub const API_VERSIONS: i16 = 18;
/// InitProducerId.
pub const INIT_PRODUCER_ID: i16 = 22;

/// What is announced: key, lowest and highest version. Fetch and FindCoordinator are never
/// answered, but librdkafka compresses with zstd only if a broker announces version 10 of the one,
/// with LZ4 only if it announces version 0 of the other.
const APIS: &[(i16, i16, i16)] = &[
    (PRODUCE, 3, 13),
    (1, 4, 12),
    (METADATA, 0, 13),
    (10, 0, 6),
    (API_VERSIONS, 0, 4),
    (INIT_PRODUCER_ID, 0, 5),
];

const UNKNOWN_TOPIC_ID: i16 = 100;
const UNSUPPORTED_VERSION: i16 = 35;
const NODE: i32 = 1;
const HOST: &[u8] = b"127.0.0.1";
/// A topic's id is this and its name's hash, so that a name need not be remembered to be known
/// again.
const TOPIC_ID: u64 = 0x6e75_6c6c_2d62_726f;

/// Whether the broker takes this version.
pub fn supports(key: i16, version: i16) -> bool {
    APIS.iter().any(|&(api, lowest, highest)| api == key && (lowest..=highest).contains(&version))
}

/// Whether this version has compact lengths and tagged fields.
pub fn is_flexible(key: i16, version: i16) -> bool {
    let first = match key {
        PRODUCE | METADATA => 9,
        API_VERSIONS => 3,
        _ => 2,
    };
    version >= first
}

/// The id of a topic of this name.
fn topic_id(name: &[u8]) -> [u8; 16] {
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    ((u128::from(TOPIC_ID) << 64) | u128::from(hash)).to_be_bytes()
}

/// The body of an ApiVersions response. A version that is not supported is answered in version 0.
pub fn api_versions(version: i16, out: &mut Writer) {
    let known = supports(API_VERSIONS, version);
    let flexible = known && is_flexible(API_VERSIONS, version);
    out.i16(if known { 0 } else { UNSUPPORTED_VERSION });
    out.length(flexible, APIS.len());
    for &(key, lowest, highest) in APIS {
        out.i16(key);
        out.i16(lowest);
        out.i16(highest);
        out.tags(flexible);
    }
    if known && version >= 1 {
        out.i32(0);
    }
    out.tags(flexible);
}

/// The names in a Metadata request; none for "all topics".
pub fn metadata_request(version: i16, reader: &mut Reader) -> io::Result<Vec<Option<Vec<u8>>>> {
    let flexible = is_flexible(METADATA, version);
    let mut topics = Vec::new();
    for _ in 0..reader.length(flexible, true)?.unwrap_or(0) {
        if version >= 10 {
            reader.uuid()?;
        }
        topics.push(reader.string(flexible)?);
        reader.tags(flexible)?;
    }
    reader.skip_rest()?;
    Ok(topics)
}

/// The body of a Metadata response: one node, and the topics asked for.
pub fn metadata(
    version: i16,
    topics: &[Option<Vec<u8>>],
    partitions: usize,
    port: u16,
    out: &mut Writer,
) {
    let flexible = is_flexible(METADATA, version);
    if version >= 3 {
        out.i32(0);
    }
    out.length(flexible, 1);
    out.i32(NODE);
    out.string(flexible, Some(HOST));
    out.i32(port.into());
    if version >= 1 {
        out.string(flexible, None);
    }
    out.tags(flexible);
    if version >= 2 {
        out.string(flexible, Some(b"null-broker"));
    }
    if version >= 1 {
        out.i32(NODE);
    }
    out.length(flexible, topics.len());
    for name in topics {
        topic(version, name.as_deref(), partitions, out);
    }
    if (8..=10).contains(&version) {
        out.i32(i32::MIN);
    }
    if version >= 13 {
        out.i16(0);
    }
    out.tags(flexible);
}

fn topic(version: i16, name: Option<&[u8]>, partitions: usize, out: &mut Writer) {
    let flexible = is_flexible(METADATA, version);
    // Asked for by id alone: no producer does.
    out.i16(if name.is_some() { 0 } else { UNKNOWN_TOPIC_ID });
    out.string(flexible, name);
    if version >= 10 {
        out.raw(&topic_id(name.unwrap_or_default()));
    }
    if version >= 1 {
        out.i8(0);
    }
    out.length(flexible, partitions);
    for index in 0..partitions {
        out.i16(0);
        out.i32(i32::try_from(index).unwrap_or(i32::MAX));
        out.i32(NODE);
        if version >= 7 {
            out.i32(0);
        }
        // Replicas and replicas in sync.
        for _ in 0..2 {
            out.length(flexible, 1);
            out.i32(NODE);
        }
        if version >= 5 {
            out.length(flexible, 0);
        }
        out.tags(flexible);
    }
    if version >= 8 {
        out.i32(i32::MIN);
    }
    out.tags(flexible);
}

/// The body of an InitProducerId response.
pub fn init_producer_id(version: i16, producer_id: i64, out: &mut Writer) {
    out.i32(0);
    out.i16(0);
    out.i64(producer_id);
    out.i16(0);
    out.tags(is_flexible(INIT_PRODUCER_ID, version));
}
