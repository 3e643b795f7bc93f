//! Codecs, levels and topics; with all codecs built in.
#![cfg(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]

use super::*;
use crate::config::compression::{CODECS, Compression, SnappyFraming};

fn compression(keys: &[(&str, &str)]) -> Compression {
    let settings = settings(keys);
    assert_eq!(settings.notes, [""; 0], "{keys:?}");
    assert_eq!(settings.compression_for("any"), settings.compression);
    settings.compression
}

#[test]
fn codecs_have_their_defaults() {
    let (raw, xerial) = (SnappyFraming::Raw, SnappyFraming::Xerial);
    for (keys, expected) in [
        (&[][..], Compression::None),
        (&[("compression.type", "none")], Compression::None),
        (&[("compression.codec", "GZIP")], Compression::Gzip { level: -1 }),
        (&[("compression.type", "snappy")], Compression::Snappy { framing: raw }),
        (&[("compression.type", "lz4")], Compression::Lz4),
        (&[("compression.type", " zstd ")], Compression::Zstd { level: 3 }),
        (
            &[("compression.type", "snappy"), ("snappy.framing", "Xerial")],
            Compression::Snappy { framing: xerial },
        ),
    ] {
        assert_eq!(compression(keys), expected, "{keys:?}");
    }
    assert!(refused("compression.type", "brotli").contains("none, gzip, snappy, lz4 or zstd"));
    assert!(
        CODECS.iter().all(|codec| ProducerConfig::new().set("compression.type", codec).is_ok())
    );
}

#[test]
fn levels_have_their_native_ranges() {
    for level in [-1, 1, 9] {
        let text = level.to_string();
        let gzip = [("compression.type", "gzip"), ("compression.gzip.level", &text)];
        assert_eq!(compression(&gzip), Compression::Gzip { level });
    }
    for level in [-131_072, -1, 0, 3, 22] {
        let text = level.to_string();
        let zstd = [("compression.type", "zstd"), ("compression.zstd.level", &text)];
        assert_eq!(compression(&zstd), Compression::Zstd { level });
    }
    assert_eq!(
        compression(&[("compression.type", "lz4"), ("compression.lz4.level", "9")]),
        Compression::Lz4
    );
    for (key, value) in [
        ("compression.gzip.level", "0"),
        ("compression.gzip.level", "10"),
        ("compression.zstd.level", "23"),
        ("compression.zstd.level", "-131073"),
        ("snappy.framing", "none"),
        ("compression.threads", "-1"),
        ("compression.threads", "65"),
    ] {
        refused(key, value);
    }
    let lz4 = refused("compression.lz4.level", "12");
    assert!(lz4.contains("has to be 9: there is the fast level only"), "{lz4}");
    assert!(lz4.contains("set compression.type=zstd"), "{lz4}");
}

#[test]
fn one_level_for_whichever_codec() {
    let with_level = |codec, level| [("compression.type", codec), ("compression.level", level)];
    for (codec, level, expected) in [
        ("gzip", "-1", Compression::Gzip { level: -1 }),
        ("gzip", "9", Compression::Gzip { level: 9 }),
        ("zstd", "-1", Compression::Zstd { level: 3 }),
        ("zstd", "19", Compression::Zstd { level: 19 }),
        ("zstd", "-7", Compression::Zstd { level: -7 }),
        ("lz4", "-1", Compression::Lz4),
        ("lz4", "0", Compression::Lz4),
        ("lz4", "2", Compression::Lz4),
        ("snappy", "0", Compression::Snappy { framing: SnappyFraming::Raw }),
    ] {
        assert_eq!(compression(&with_level(codec, level)), expected, "{codec} {level}");
    }
    for (codec, level, message) in [
        ("gzip", "0", "compression.level=0: the levels of gzip are 1 to 9"),
        (
            "lz4",
            "3",
            "compression.level=3: lz4 has the fast level only, 0 to 2; for smaller batches use \
            zstd",
        ),
        ("snappy", "1", "compression.level=1: snappy has no levels; for smaller batches use zstd"),
    ] {
        assert_eq!(problems(&with_level(codec, level)), [message]);
    }
    let both = [
        ("compression.type", "zstd"),
        ("compression.level", "5"),
        ("compression.zstd.level", "6"),
        ("topic.a.compression.type", "zstd"),
    ];
    assert_eq!(
        problems(&both),
        ["compression.level=5 contradicts compression.zstd.level=6: leave one of them out"]
    );
    let same =
        [("compression.type", "zstd"), ("compression.level", "5"), ("compression.zstd.level", "5")];
    assert_eq!(compression(&same), Compression::Zstd { level: 5 });
}

#[test]
fn a_topic_has_its_own() {
    let settings = settings(&[
        ("compression.type", "zstd"),
        ("compression.level", "7"),
        ("compression.gzip.level", "4"),
        ("topic.a.compression.type", "lz4"),
        ("topic.b.c-d_E.compression.codec", "none"),
        ("topic.compression.type.compression.type", "gzip"),
        ("topic.f.compression.level", "19"),
        ("topic.g.compression.type", "gzip"),
        ("topic.g.compression.level", "9"),
        ("topic.h.compression.type", "zstd"),
        ("topic.i.compression.type", "gzip"),
        ("topic.i.compression.level", "-1"),
    ]);
    assert_eq!(settings.notes, [""; 0]);
    for (topic, expected) in [
        ("a", Compression::Lz4),
        ("b.c-d_E", Compression::None),
        ("compression.type", Compression::Gzip { level: 4 }),
        ("f", Compression::Zstd { level: 19 }),
        ("g", Compression::Gzip { level: 9 }),
        ("h", Compression::Zstd { level: 7 }),
        ("i", Compression::Gzip { level: 4 }),
        ("A", Compression::Zstd { level: 7 }),
        ("b", Compression::Zstd { level: 7 }),
    ] {
        assert_eq!(settings.compression_for(topic), expected, "{topic}");
    }
    assert_eq!(
        problems(&[("topic.a.compression.type", "gzip"), ("topic.a.compression.level", "11")]),
        ["topic.a.compression.level=11: the levels of gzip are 1 to 9"]
    );
}

#[test]
fn keys_for_topics_are_keys() {
    let mut config = with(&[("compression.type", "zstd")]);
    let key = "topic.a.b.compression.type";
    assert!(!config.is_set(key));
    assert_eq!(config.get(key), Some("zstd"), "what counts where it is not set");
    config.set(key, " LZ4 ").unwrap();
    assert!(config.is_set(key) && config.is_set("topic.a.b.compression.codec"));
    assert!(!config.is_set("topic.a.compression.type"));
    assert_eq!(config.get(key), Some("LZ4"));
    assert_eq!(config.get("topic.a.b.compression.codec"), Some("LZ4"));
    let error = config.set(key, "lz5").unwrap_err();
    assert!(error.message.starts_with("topic.a.b.compression.type=\"lz5\": the value has to be"));
    assert_eq!(config.get(key), Some("LZ4"), "an error changes nothing");
    assert!(format!("{config:?}").contains("topic.a.b"));
    assert_eq!(config.get("topic.a.linger.ms"), None);

    let long = "x".repeat(250);
    for topic in ["", ".", "..", "a b", "a/b", "ä", &long] {
        let message = refused(&format!("topic.{topic}.compression.type"), "lz4");
        assert!(message.contains("names no topic"), "{message}");
    }
    for (key, nearest) in [
        ("topic.orders.compresion.type", "topic.orders.compression.type"),
        ("topic.a.b.compression.tpye", "topic.a.b.compression.type"),
        ("topic.orders.compression.lvl", "topic.orders.compression.level"),
        ("topic.metadata.refresh.interval.m", "topic.metadata.refresh.interval.ms"),
    ] {
        let message = format!("there is no key \"{key}\": did you mean {nearest}?");
        assert_eq!(refused(key, "1"), message);
    }
    for i in 1..10_000 {
        config.set(&format!("topic.t{i}.compression.type"), "gzip").unwrap();
    }
    let error = config.set("topic.more.compression.type", "gzip").unwrap_err();
    assert!(error.message.contains("at most 10000"), "{error}");
    config.set(key, "gzip").unwrap();
}

#[test]
fn what_can_do_nothing_is_noted() {
    let notes = |keys: &[(&str, &str)]| settings(keys).notes;
    for (key, value) in [
        ("compression.gzip.level", "9"),
        ("compression.zstd.level", "9"),
        ("snappy.framing", "xerial"),
    ] {
        assert_eq!(
            notes(&[(key, value), ("compression.type", "lz4")]),
            [format!("{key}={value} has no effect: nothing is compressed that way")]
        );
    }
    assert_eq!(
        notes(&[("compression.level", "9")]),
        ["compression.level=9 has no effect: nothing is compressed"]
    );
    assert_eq!(notes(&[("compression.threads", "2")]).len(), 1);
    let used = [("compression.zstd.level", "9"), ("topic.a.compression.type", "zstd")];
    assert_eq!(notes(&used), [""; 0]);
}

#[test]
fn threads_follow_the_processors() {
    let processors = std::thread::available_parallelism().unwrap().get();
    let threads = settings(&[]).compression_threads;
    assert_eq!(threads, (processors - 1).clamp(1, 4));
    let set = settings(&[("compression.threads", "7"), ("compression.type", "lz4")]);
    assert_eq!(set.compression_threads, 7);
}
