//! What a broken, confused or hostile peer sends: cut messages, counts and lengths that nothing
//! could fill. Reading them is an error, never a panic, and never reserves more than a small
//! multiple of what was received: a failed allocation ends the process, and no `catch_unwind` stops
//! that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

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

/// As many elements as bytes allow: what a count that passes may reserve.
#[test]
fn as_many_elements_as_fit() {
    for decoder in decoders() {
        for version in decoder.versions.clone() {
            let sample = (decoder.sample)(version);
            for at in 0..sample.len().min(40) {
                for count in [0x0000_0100_u32, 0x0000_1000, 0x0000_ffff] {
                    for encoded in [count.to_be_bytes().to_vec(), varint(count)] {
                        let mut bent = sample[..at].to_vec();
                        bent.extend_from_slice(&encoded);
                        bent.resize(at + encoded.len() + 70_000, 0);
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
