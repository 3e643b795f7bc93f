//! Serializers over the Rust API: what each writes, what a wrong input costs, and one of the user's
//! own.
#![cfg(feature = "mock")]

#[path = "support/counting_allocator.rs"]
#[expect(dead_code, reason = "reading foreign bytes is not tested here")]
mod counting_allocator;
#[path = "support/produce.rs"]
mod produce;

use counting_allocator::reserved_by;
use kafka_producer::error::{Error, Result, status};
use kafka_producer::interceptors::Interceptor;
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::{Options, Producer};
use kafka_producer::record::{Header, ProducerRecord};
use kafka_producer::serializer::{Arena, Serializer};
use produce::{LONG, assert_settled, cluster, config, producer, record};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn keyed<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>, tag: u64) -> ProducerRecord<'a> {
    ProducerRecord { key, value, ..record(b"", tag) }
}

#[test]
fn every_serializer_by_both_of_its_names() {
    let uuid = *b"\x12\x3e\x45\x67\xe8\x9b\x12\xd3\xa4\x56\x42\x66\x14\x17\x40\x00";
    let cases: &[(&str, &str, Vec<u8>, &[u8])] = &[
        ("bytes", "ByteArraySerializer", vec![0xff, 0], b"\xff\0"),
        ("string", "StringSerializer", "grün".into(), "grün".as_bytes()),
        ("int16", "ShortSerializer", (-2_i16).to_ne_bytes().into(), b"\xff\xfe"),
        ("int32", "IntegerSerializer", 258_i32.to_ne_bytes().into(), b"\0\0\x01\x02"),
        ("int64", "LongSerializer", (-1_i64).to_ne_bytes().into(), &[0xff; 8]),
        ("float", "FloatSerializer", 1_f32.to_ne_bytes().into(), b"\x3f\x80\0\0"),
        ("double", "DoubleSerializer", (-2_f64).to_ne_bytes().into(), b"\xc0\0\0\0\0\0\0\0"),
        ("uuid", "UUIDSerializer", uuid.into(), b"123e4567-e89b-12d3-a456-426614174000"),
        ("boolean", "BooleanSerializer", vec![1], b"\x01"),
        ("json", "", b"{\"a\": [1, null]}".into(), b"{\"a\": [1, null]}"),
    ];
    for (name, class, input, output) in cases {
        let cluster = cluster(1, 1);
        let class = match *class {
            "" => "org.apache.kafka.connect.json.JsonSerializer".into(),
            class => format!("org.apache.kafka.common.serialization.{class}"),
        };
        let settings = [("key.serializer", &*class), ("value.serializer", *name)];
        let (producer, outcomes) = producer(&cluster, &settings);
        producer.send(&keyed(Some(input), Some(input), 1)).unwrap();
        producer.send(&keyed(None, None, 2)).unwrap();
        producer.flush(LONG).unwrap();
        let stored = cluster.records("t", 0);
        assert_eq!(stored[0].key.as_deref(), Some(*output), "{name}");
        assert_eq!(stored[0].value.as_deref(), Some(*output), "{name}");
        assert_eq!((&stored[1].key, &stored[1].value), (&None, &None), "{name}: null stays null");
        assert_eq!(outcomes.get().len(), 2);
    }
}

#[test]
fn a_wrong_input_fails_its_record_alone_and_says_what_is_wrong() {
    let cluster = cluster(1, 1);
    let settings = [("key.serializer", "int32"), ("value.serializer", "json")];
    let (producer, outcomes) = producer(&cluster, &settings);
    let good = 7_i32.to_ne_bytes();
    let wrong: &[(&[u8], &[u8], &str)] = &[
        (
            &good[..3],
            b"1",
            "the key was not serialized by key.serializer=int32: 3 bytes are no int32_t",
        ),
        (b"", b"1", "the key was not serialized by key.serializer=int32: 0 bytes"),
        (
            &good,
            b"{\"a\":}",
            "the value was not serialized by value.serializer=json: no JSON value: byte 5",
        ),
        (
            &good,
            b"",
            "the value was not serialized by value.serializer=json: no JSON value: byte 0",
        ),
    ];
    for (key, value, words) in wrong {
        let error = producer.send(&keyed(Some(key), Some(value), 1)).unwrap_err();
        assert_eq!((error.status, error.flags), (status::SERIALIZATION, 0));
        assert!(error.message.starts_with(&format!("topic t: {words}")), "{}", error.message);
        assert!(error.message.len() < 248);
        let (accepted, result) = producer.send_batch(
            [Ok(keyed(Some(&good), Some(b"1"), 2)), Ok(keyed(Some(key), Some(value), 3))]
                .into_iter(),
            LONG,
        );
        assert_eq!((accepted, result.unwrap_err().status), (1, status::SERIALIZATION));
        let error = producer.send_sync(&keyed(Some(key), Some(value), 4), LONG).unwrap_err();
        assert_eq!(error.status, status::SERIALIZATION);
        producer.flush(LONG).unwrap();
        assert_eq!(outcomes.get().len(), 1, "no delivery has a record that was refused");
        outcomes.forget();
    }
    assert_eq!(cluster.end_offset("t", 0), wrong.len() as i64);
    assert_settled(&producer);
    // Bytes that are serialized already go as they are.
    let as_is = ProducerRecord { as_is: true, ..keyed(Some(b"abc"), Some(b"{"), 5) };
    producer.send(&as_is).unwrap();
    producer.flush(LONG).unwrap();
    let stored = cluster.records("t", 0).pop().unwrap();
    assert_eq!(
        (stored.key.as_deref(), stored.value.as_deref()),
        (Some(&b"abc"[..]), Some(&b"{"[..]))
    );
}

#[test]
fn void_takes_null_and_nothing_else() {
    let cluster = cluster(1, 1);
    let (producer, _) = producer(&cluster, &[("key.serializer", "void")]);
    producer.send(&keyed(None, Some(b"x"), 1)).unwrap();
    let error = producer.send(&keyed(Some(b""), Some(b"x"), 2)).unwrap_err();
    assert!(error.message.contains("0 bytes are not null"), "{}", error.message);
}

/// Writes the topic, the input's length and the input backwards; refuses and panics on demand.
#[derive(Default)]
struct Backwards {
    closed: AtomicU64,
}

impl Serializer for Backwards {
    fn serialize<'a>(
        &self,
        topic: &str,
        input: Option<&'a [u8]>,
        arena: &'a Arena,
    ) -> Result<Option<&'a [u8]>> {
        let input = match input {
            Some(b"refuse") => return Err(Error::new(status::INVALID_ARGUMENT, "I won't")),
            Some(b"panic") => std::panic::resume_unwind(Box::new("a serializer of Rust's")),
            Some(b"greedy") => {
                arena.alloc(1 << 30)?;
                return Ok(None);
            }
            Some(input) => input,
            None => b"null",
        };
        let bytes = arena.copy(&[topic.as_bytes(), b"/", input].concat())?;
        bytes.reverse();
        Ok(Some(bytes))
    }

    fn on_close(&self) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

fn with(cluster: &MockCluster, settings: &[(&str, &str)], options: Options) -> Result<Producer> {
    Producer::new(&config(cluster, settings), options)
}

#[test]
fn one_of_the_users_own() {
    let cluster = cluster(1, 1);
    let own = Arc::new(Backwards::default());
    let options = || Options {
        key_serializer: Some(Arc::clone(&own) as _),
        value_serializer: Some(Arc::clone(&own) as _),
        ..Options::default()
    };
    for key in ["key.serializer", "value.serializer"] {
        let error = with(&cluster, &[(key, "int32")], options()).err().unwrap();
        assert_eq!(error.status, status::INVALID_CONFIG);
        let function = key.replace(".serializer", "_serializer()");
        let message = format!(
            "{key}=int32 contradicts producer_config_set_{function}: leave one of them out"
        );
        assert_eq!(error.message, message);
    }
    assert_eq!(own.closed.load(Ordering::SeqCst), 0, "there was no producer");
    let producer = with(&cluster, &[], options()).unwrap();
    producer.send(&keyed(None, Some(b"abc"), 1)).unwrap();
    for (input, words) in
        [(&b"refuse"[..], "I won't"), (b"panic", "it panicked"), (b"greedy", "share is used up")]
    {
        let error = producer.send(&keyed(Some(b"k"), Some(input), 2)).unwrap_err();
        assert_eq!(error.status, status::SERIALIZATION);
        assert!(error.message.contains(words), "{}", error.message);
        let name = "the one of producer_config_set_value_serializer()";
        assert!(error.message.contains(name), "{}", error.message);
    }
    producer.close(LONG).1.unwrap();
    drop(producer);
    assert_eq!(own.closed.load(Ordering::SeqCst), 2, "once as either");
    let stored = &cluster.records("t", 0)[0];
    assert_eq!(stored.key.as_deref(), Some(&b"llun/t"[..]));
    assert_eq!(stored.value.as_deref(), Some(&b"cba/t"[..]));
}

/// Adds a header and repoints the key, all in the arena.
struct Stamps;

impl Interceptor for Stamps {
    fn on_send<'a>(
        &self,
        record: ProducerRecord<'a>,
        arena: &'a Arena,
    ) -> Result<ProducerRecord<'a>> {
        let header = Header { key: b"stamp", value: Some(arena.copy(&[1; 300])?) };
        let headers = arena.collect(std::iter::once(header))?;
        Ok(ProducerRecord { key: Some(arena.copy(b"0123456789abcdef")?), headers, ..record })
    }

    fn wants_acknowledgements(&self) -> bool {
        false
    }
}

#[test]
fn what_is_plugged_in_reserves_nothing_per_record() {
    let cluster = cluster(1, 1);
    let options = Options { interceptors: vec![Arc::new(Stamps)], ..Options::default() };
    // Full batches, all of them held at once: the memory that they take the first time is there
    // for the second, whenever the network thread gets its turn.
    let settings = [
        ("key.serializer", "uuid"),
        ("value.serializer", "int64"),
        ("linger.ms", "60000"),
        ("delivery.timeout.ms", "120000"),
        ("batch.size", "16384"),
    ];
    let producer = with(&cluster, &settings, options).unwrap();
    let send = |tag: u64| producer.send(&record(&tag.to_ne_bytes(), tag)).unwrap();
    producer.partitions_for("t", LONG).unwrap();
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    (0..2000).for_each(send);
    cluster.set_broker(1, true, false, 0, 0).unwrap();
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
    let ((), reserved) = reserved_by(|| (2000..4000).for_each(send));
    // What stands around the records of a batch is reserved on this thread too.
    assert!(reserved < 2000 * 30, "{reserved} bytes for 2000 records of 400");
    producer.close(LONG).1.unwrap();
    let stored = cluster.records("t", 0);
    assert_eq!(stored.len(), 4000);
    assert_eq!(stored[7].key.as_deref(), Some(&b"30313233-3435-3637-3839-616263646566"[..]));
}
