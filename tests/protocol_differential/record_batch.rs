//! Record batches, both ways.

use bytes::{Bytes, BytesMut};
use kafka_producer::protocol::compression::{Compression, Compressor, SnappyFraming};
use kafka_producer::protocol::crc32c::{self, ShiftFactor};
use kafka_producer::protocol::record_batch::{BatchHeader, Record, RecordBatch, RecordReader};
use kafka_producer::record::Header;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression as TheirCompression, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use proptest::prelude::*;

/// A record that owns its bytes.
#[derive(Debug, Clone)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// Their headers are a map, so the keys differ.
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => proptest::collection::vec(any::<u8>(), 60..70),
        1 => (8190..8195_usize).prop_map(|length| vec![7; length]),
    ])
}

fn records() -> impl Strategy<Value = Vec<Owned>> {
    let timestamp = prop_oneof![0..5_000_000_000_000_i64, 1_700_000_000_000..1_700_000_000_100_i64];
    let headers = proptest::collection::vec(bytes(), 0..3).prop_map(|values| {
        values.into_iter().enumerate().map(|(i, value)| (format!("h{i}"), value)).collect()
    });
    let record = (timestamp, bytes(), bytes(), headers)
        .prop_map(|(timestamp, key, value, headers)| Owned { timestamp, key, value, headers });
    proptest::collection::vec(record, 1..80)
}

const PRODUCER: (i64, i16, i32) = (77, 3, 1000);

/// How we compress, and what they call it.
fn compressions() -> impl Strategy<Value = (Compression, TheirCompression)> {
    let snappy = |framing| (Compression::Snappy { framing }, TheirCompression::Snappy);
    prop_oneof![
        4 => Just((Compression::None, TheirCompression::None)),
        1 => prop_oneof![Just(-1), 1..=9]
            .prop_map(|level| (Compression::Gzip { level }, TheirCompression::Gzip)),
        1 => Just(snappy(SnappyFraming::Raw)),
        1 => Just(snappy(SnappyFraming::Xerial)),
        1 => Just((Compression::Lz4, TheirCompression::Lz4)),
        1 => (-7..=19).prop_map(|level| (Compression::Zstd { level }, TheirCompression::Zstd)),
    ]
}

fn write(records: &[Owned], how: Compression) -> Vec<u8> {
    let first = records[0].timestamp;
    let mut area = Vec::new();
    for (offset_delta, record) in (0..).zip(records) {
        let headers: Vec<Header<'_>> = record
            .headers
            .iter()
            .map(|(key, value)| Header { key: key.as_bytes(), value: value.as_deref() })
            .collect();
        let record = Record {
            timestamp_delta: record.timestamp - first,
            offset_delta,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let at = area.len();
        area.resize(at + record.encoded_len(), 0);
        assert_eq!(record.encode(record.body_len(), &mut area[at..]), Some(area.len() - at));
    }
    let count = i32::try_from(records.len()).unwrap();
    let header = BatchHeader {
        base_timestamp: first,
        max_timestamp: records.iter().map(|record| record.timestamp).max().unwrap(),
        last_offset_delta: count - 1,
        record_count: count,
        producer_id: PRODUCER.0,
        producer_epoch: PRODUCER.1,
        base_sequence: PRODUCER.2,
        attributes: how.codec().bits(),
        ..Default::default()
    };
    if how != Compression::None {
        let plain = std::mem::take(&mut area);
        let (first, second) = plain.split_at(plain.len() / 2);
        Compressor::new().compress(how, &[first, second], usize::MAX, &mut area).unwrap();
    }
    let factor = ShiftFactor::for_len(area.len());
    let mut batch = header.encode(area.len(), crc32c::crc32c(&area), factor).unwrap().to_vec();
    batch.extend_from_slice(&area);
    batch
}

fn theirs(records: &[Owned]) -> Vec<TheirRecord> {
    let records = records.iter().zip(0_i32..).map(|(record, i)| TheirRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: PRODUCER.0,
        producer_epoch: PRODUCER.1,
        timestamp_type: TimestampType::Creation,
        offset: i.into(),
        sequence: PRODUCER.2 + i,
        timestamp: record.timestamp,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| {
                (StrBytes::from_string(key.clone()), value.clone().map(Bytes::from))
            })
            .collect(),
    });
    records.collect()
}

proptest! {
    #[test]
    fn they_read_what_we_write(records in records(), how in compressions()) {
        let mut batch = Bytes::from(write(&records, how.0));
        let read = RecordBatchDecoder::decode(&mut batch).unwrap();
        prop_assert_eq!(read.records, theirs(&records));
    }

    #[test]
    fn we_read_what_they_write(records in records(), how in compressions()) {
        let mut batch = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: how.1 };
        RecordBatchEncoder::encode(&mut batch, &theirs(&records), &options).unwrap();
        let (batch, rest) = RecordBatch::split(&batch).unwrap();
        prop_assert_eq!(rest.len(), 0);
        prop_assert!(batch.check_crc());
        prop_assert_eq!(batch.header.producer_id, PRODUCER.0);
        prop_assert_eq!(batch.header.producer_epoch, PRODUCER.1);
        prop_assert_eq!(batch.header.base_sequence, PRODUCER.2);
        prop_assert_eq!(batch.header.attributes, how.0.codec().bits());
        let plain = batch.plain(1 << 20).unwrap();
        prop_assert_eq!(RecordReader::new(&plain).count(), records.len());
        for ((read, record), offset) in RecordReader::new(&plain).zip(&records).zip(0..) {
            let read = read.unwrap();
            prop_assert_eq!(read.offset_delta, offset);
            prop_assert_eq!(batch.header.base_timestamp + read.timestamp_delta, record.timestamp);
            prop_assert_eq!(read.key, record.key.as_deref());
            prop_assert_eq!(read.value, record.value.as_deref());
            let headers = read.headers.map(|header| (header.key, header.value));
            let expected = record.headers.iter();
            let expected = expected.map(|(key, value)| (key.as_bytes(), value.as_deref()));
            prop_assert!(headers.eq(expected));
        }
    }
}
