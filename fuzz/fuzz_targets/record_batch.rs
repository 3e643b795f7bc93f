//! Batches one after another, and their records. A record that was read comes back if it is
//! written.

#![no_main]

use kafka_producer::protocol::record_batch::{Record, RecordBatch, RecordReader, RecordView};
use kafka_producer::record::Header;
use kafka_producer_fuzz::counting_allocator::modest;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    while let Ok((batch, behind)) = modest(&"a batch", 0, || RecordBatch::split(rest)) {
        assert!(behind.len() < rest.len());
        let _ = batch.check_crc();
        modest(&"its records", 0, || batch.records().for_each(drop));
        batch.records().flatten().for_each(|record| comes_back(&record));
        rest = behind;
    }
    RecordReader::new(input).flatten().for_each(|record| comes_back(&record));
});

fn comes_back(view: &RecordView<'_>) {
    let headers: Vec<Header<'_>> = view.headers.collect();
    let record = Record {
        timestamp_delta: view.timestamp_delta,
        offset_delta: view.offset_delta,
        key: view.key,
        value: view.value,
        headers: &headers,
    };
    let mut bytes = vec![0; record.encoded_len()];
    assert_eq!(record.encode(record.body_len(), &mut bytes), Some(bytes.len()));
    let mut reader = RecordReader::new(&bytes);
    let again = reader.next().and_then(Result::ok);
    let again = again.unwrap_or_else(|| panic!("{record:?} does not come back"));
    assert_eq!(again.timestamp_delta, view.timestamp_delta);
    assert_eq!(again.offset_delta, view.offset_delta);
    assert_eq!((again.key, again.value), (view.key, view.value));
    assert!(again.headers.eq(headers));
    assert!(reader.next().is_none());
}
