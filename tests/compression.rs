//! Batches of compressed topics: every codec, level and framing by its keys, a codec per topic, and
//! failed records that come back as they were sent.
#![cfg(all(
    feature = "mock",
    feature = "gzip",
    feature = "snappy",
    feature = "lz4",
    feature = "zstd"
))]
#![expect(clippy::unwrap_used, reason = "a test may panic, in helpers too")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::delivery::Delivery;
use kafka_producer::error::status;
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::Producer;
use kafka_producer::protocol::compression::Codec;
use kafka_producer::record::{Header, ProducerRecord};
use produce::{
    LONG, PRODUCE, assert_order, assert_settled, cluster, in_one_of_several_rounds, polled,
    producer, to,
};

/// One batch of whatever is sent before a flush, if it fits.
const SLOW: [(&str, &str); 3] =
    [("linger.ms", "60000"), ("delivery.timeout.ms", "120000"), ("batch.size", "16384")];

/// The keys of each choice and the codec that they mean.
const CHOICES: &[(&[(&str, &str)], Codec)] = &[
    (&[("compression.type", "gzip")], Codec::Gzip),
    (&[("compression.type", "gzip"), ("compression.gzip.level", "1")], Codec::Gzip),
    (&[("compression.type", "gzip"), ("compression.level", "9")], Codec::Gzip),
    (&[("compression.type", "snappy")], Codec::Snappy),
    (&[("compression.type", "snappy"), ("snappy.framing", "xerial")], Codec::Snappy),
    (&[("compression.type", "lz4")], Codec::Lz4),
    (&[("compression.codec", "zstd")], Codec::Zstd),
    (&[("compression.type", "zstd"), ("compression.zstd.level", "-7")], Codec::Zstd),
    (&[("compression.type", "zstd"), ("compression.zstd.level", "22")], Codec::Zstd),
    (&[("topic.t.compression.type", "zstd"), ("topic.t.compression.level", "9")], Codec::Zstd),
];

/// A value that begins with its tag, and gets smaller.
fn value(tag: u64) -> Vec<u8> {
    let text = format!("{{\"tag\":{tag},\"user\":{},\"kind\":\"view\"}}", tag * 7919 % 1000);
    [&tag.to_be_bytes()[..], text.repeat(4).as_bytes()].concat()
}

/// The codecs of the batches of a partition of "t", each once.
fn codecs(cluster: &MockCluster, partition: i32) -> Vec<Codec> {
    let mut codecs: Vec<Codec> = Vec::new();
    for batch in cluster.batches("t", partition) {
        let codec = Codec::of(batch.header.attributes).unwrap();
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    codecs
}

/// A helper that does not get its turn in two seconds has its batches go as they are.
fn each_choice(round: impl Fn(&[(&str, &str)], Codec) -> bool) {
    for (keys, codec) in CHOICES {
        let settings = [&SLOW[..], *keys].concat();
        in_one_of_several_rounds(&format!("{keys:?}"), || round(&settings, *codec));
    }
}

#[test]
fn every_codec_arrives() {
    each_choice(|keys, codec| {
        let cluster = cluster(1, 2);
        let (producer, outcomes) = producer(&cluster, keys);
        for tag in 0..1000 {
            producer.send(&to((tag % 2) as i32, &value(tag), tag)).unwrap();
        }
        producer.flush(LONG).unwrap();
        let mut tags = assert_order(&cluster, 2, &outcomes);
        tags.sort_unstable();
        assert_eq!(tags, (0..1000).collect::<Vec<_>>(), "{keys:?}");
        for partition in [0, 1] {
            for record in cluster.records("t", partition) {
                let read = record.value.unwrap();
                let tag = u64::from_be_bytes(read[..8].try_into().unwrap());
                assert_eq!(read, value(tag));
            }
        }
        assert_settled(&producer);
        assert_eq!(cluster.contradictions(), [""; 0]);
        assert_eq!(cluster.complaints(), [""; 0]);
        [0, 1].iter().all(|partition| codecs(&cluster, *partition) == [codec])
    });
}

#[test]
fn what_does_not_shrink_goes_as_it_is() {
    each_choice(|keys, codec| {
        let mut random = fastrand_bytes();
        let cluster = cluster(1, 1);
        let (producer, _) = producer(&cluster, keys);
        producer.send(&to(0, &random(10_000), 0)).unwrap();
        producer.flush(LONG).unwrap();
        assert_eq!(codecs(&cluster, 0), [Codec::None], "{keys:?}");
        producer.send(&to(0, &[b'a'; 10_000], 1)).unwrap();
        producer.flush(LONG).unwrap();
        assert_settled(&producer);
        codecs(&cluster, 0) == [Codec::None, codec]
    });
}

/// Numbers that follow from each other, but not so that a codec sees it.
fn fastrand_bytes() -> impl FnMut(usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |length| {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..length).map(|_| next()).collect()
    }
}

#[test]
fn a_topic_has_its_own_codec() {
    in_one_of_several_rounds("lz4 and gzip", || {
        let cluster = cluster(1, 1);
        for topic in ["plain", "small.one"] {
            cluster.create_topic(topic, 1).unwrap();
        }
        let keys = [
            ("compression.type", "lz4"),
            ("topic.plain.compression.type", "none"),
            ("topic.small.one.compression.type", "gzip"),
        ];
        let (producer, _) = producer(&cluster, &[&SLOW[..], &keys].concat());
        for tag in 0..100 {
            for topic in ["t", "plain", "small.one"] {
                let value = value(tag);
                producer.send(&ProducerRecord { topic, ..to(0, &value, tag) }).unwrap();
            }
        }
        producer.flush(LONG).unwrap();
        let all = |topic, codec: Codec| {
            assert_eq!(cluster.records(topic, 0).len(), 100, "{topic}");
            let batches = cluster.batches(topic, 0);
            batches.iter().all(|batch| batch.header.attributes == codec.bits())
        };
        assert_settled(&producer);
        assert!(all("plain", Codec::None));
        all("t", Codec::Lz4) && all("small.one", Codec::Gzip)
    });
}

/// Keys, values and headers of a delivery's records, and their tags.
type Content = (u64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn contents(delivery: &Delivery) -> Vec<Content> {
    let mut space = Vec::new();
    let records = delivery.records().unwrap().records_in(&mut space).unwrap();
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let content = |(record, tag): (kafka_producer::error::Result<_>, &u64)| {
        let record: kafka_producer::protocol::record_batch::RecordView<'_> = record.unwrap();
        let headers = record.headers.map(|header| (header.key.to_vec(), owned(header.value)));
        (*tag, owned(record.key), owned(record.value), headers.collect())
    };
    records.zip(delivery.tags()).map(content).collect()
}

#[test]
fn failed_records_come_back_whole() {
    const INVALID_RECORD: i16 = 87;
    let value = value(3);
    let headers = [Header { key: b"h", value: Some(b"v") }, Header { key: b"", value: None }];
    for (keys, _) in CHOICES {
        let cluster = cluster(1, 1);
        let producer = polled(&cluster, &[&SLOW[..], *keys].concat());
        cluster.push_errors(PRODUCE, &[INVALID_RECORD]).unwrap();
        let mut expected: Vec<Content> = Vec::new();
        let mut send = |record: &ProducerRecord<'_>| {
            let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            let headers = record.headers.iter().map(|h| (h.key.to_vec(), owned(h.value)));
            let (key, value) = (owned(record.key), owned(record.value));
            expected.push((record.tag, key, value, headers.collect()));
            producer.send(record).unwrap();
        };
        for tag in 0..20 {
            send(&to(0, &value, tag));
        }
        send(&ProducerRecord { key: Some(b"k"), headers: &headers, ..to(0, b"", 20) });
        send(&ProducerRecord { value: None, ..to(0, b"", 21) });
        let failed = failed(&producer, expected.len());
        assert_eq!(failed, expected, "{keys:?}");
        assert!(cluster.batches("t", 0).is_empty());
        assert_settled(&producer);
    }
}

/// What became of so many records, all of which failed for the broker's reason.
fn failed(producer: &Producer, count: usize) -> Vec<Content> {
    producer.flush(LONG).unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let mut out = Vec::new();
        producer.poll(16, LONG, &mut out).unwrap();
        for delivery in &out {
            assert_eq!(delivery.status, status::INVALID_RECORD);
            found.extend(contents(delivery));
        }
    }
    found
}

/// A broker that finds fault with some records of a compressed batch: the others go on.
#[test]
fn a_culprit_leaves_a_compressed_batch() {
    each_choice(|keys, codec| {
        let cluster = cluster(1, 1);
        cluster.set_topic_config("t", "cleanup.policy", "compact").unwrap();
        let (producer, outcomes) = producer(&cluster, keys);
        for tag in 0..30 {
            let value = value(tag);
            let key = (tag != 13).then_some(&b"k"[..]);
            producer.send(&ProducerRecord { key, ..to(0, &value, tag) }).unwrap();
        }
        producer.flush(LONG).unwrap();
        let tags: Vec<u64> = (0..30).filter(|tag| *tag != 13).collect();
        assert_eq!(assert_order(&cluster, 1, &outcomes), tags, "{keys:?}");
        assert_eq!(outcomes.of(13).status, status::INVALID_RECORD);
        assert_settled(&producer);
        codecs(&cluster, 0) == [codec]
    });
}
