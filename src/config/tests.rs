//! Keys one by one, and against each other.

mod compression;
mod idempotence;
mod plugs;
mod sizes;

use super::definition::{DEFINITIONS, FAMILIES, TOPIC_DEFINITIONS, find};
use super::value::Kind;
use super::*;
use std::time::Duration;

fn with(keys: &[(&str, &str)]) -> ProducerConfig {
    let mut config = ProducerConfig::new();
    config.set("bootstrap.servers", "b1:9092").unwrap();
    for (key, value) in keys {
        config.set(key, value).unwrap_or_else(|error| panic!("{key}={value}: {error}"));
    }
    config
}

fn settings(keys: &[(&str, &str)]) -> Settings {
    with(keys).settings().unwrap_or_else(|problems| panic!("{keys:?}: {problems:?}"))
}

fn problems(keys: &[(&str, &str)]) -> Vec<String> {
    let problems = with(keys).settings().expect_err("a problem");
    assert!(problems.iter().all(|problem| problem.status == status::INVALID_CONFIG));
    problems.into_iter().map(|problem| problem.message.into_owned()).collect()
}

fn refused(key: &str, value: &str) -> String {
    let mut config = ProducerConfig::new();
    let error = config.set(key, value).expect_err(key);
    assert_eq!(error.status, status::INVALID_CONFIG, "{error}");
    assert!(error.message.len() < 248, "does not fit: {error}");
    assert!(!config.is_set(key), "{key}");
    error.message.into_owned()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn the_table_is_sound() {
    let mut names = std::collections::BTreeSet::new();
    for row in DEFINITIONS {
        for name in std::iter::once(&row.name).chain(row.aliases) {
            assert!(names.insert(*name), "{name} twice");
            assert!(
                name.chars().all(|c| "._".contains(c) || matches!(c, 'a'..='z' | '4')),
                "{name}"
            );
            assert_eq!(find(name).unwrap().1.name, row.name);
        }
        match row.availability {
            Availability::Now => {
                let required = row.name == "bootstrap.servers";
                assert!(required || row.kind.parse(row.default).is_ok(), "{}", row.name);
                assert!(row.doc.ends_with('.'), "{}", row.name);
            }
            Availability::Later(instead) => {
                assert!(matches!(row.kind, Kind::OneOf(_)), "{}", row.name);
                assert!(!instead.ends_with('.') && !instead.is_empty(), "{}", row.name);
                let longest = &"x".repeat(300);
                assert!(refused(row.name, longest).contains("not available in this version"));
            }
        }
    }
    for row in TOPIC_DEFINITIONS {
        assert_eq!(find(row.name).unwrap().1.aliases, row.aliases, "{}", row.name);
        for name in std::iter::once(&row.name).chain(row.aliases) {
            let key = format!("{TOPIC_PREFIX}a.{name}");
            let (topic, _, found) = definition::find_for_topic(&key).unwrap();
            assert_eq!((topic, found.name), ("a", row.name));
        }
    }
    for family in FAMILIES {
        assert!(!names.iter().any(|name| name.starts_with(family.prefix)), "{}", family.prefix);
    }
}

#[test]
fn defaults_are_javas_but_for_two() {
    let settings = settings(&[("client.id", "me")]);
    let expected = Settings {
        bootstrap_servers: vec![("b1".into(), 9092)],
        client_id: "me".into(),
        acks: Acks::All,
        linger: ms(5),
        batch_size: 131_072,
        buffer_memory: 33_554_432,
        max_request_size: 1_048_576,
        max_block: ms(60_000),
        delivery_timeout: ms(120_000),
        request_timeout: ms(30_000),
        retries: 2_147_483_647,
        retry_backoff: ms(100),
        retry_backoff_max: ms(1000),
        reconnect_backoff: ms(50),
        reconnect_backoff_max: ms(1000),
        connection_setup_timeout: ms(10_000),
        connection_setup_timeout_max: ms(30_000),
        connections_max_idle: Some(ms(180_000)),
        metadata_max_age: ms(300_000),
        metadata_max_idle: ms(300_000),
        metadata_rebootstrap: true,
        rebootstrap_trigger: ms(300_000),
        max_in_flight: 5,
        enable_idempotence: true,
        allow_reordering: false,
        reject_batch_on_record_error: false,
        send_buffer: Some(131_072),
        receive_buffer: Some(32_768),
        compression: super::compression::Compression::None,
        topic_compression: BTreeMap::new(),
        compression_threads: settings.compression_threads,
        partitioning: Partitioning::builtin(false, None, None),
        key_serializer: "bytes".into(),
        value_serializer: "bytes".into(),
        allow_auto_create_topics: true,
        delivery_keep_records: false,
        receive_message_max: 33_554_432,
        notes: vec![],
    };
    assert_eq!(settings, expected);
}

#[test]
#[cfg(all(feature = "gzip", feature = "zstd"))]
fn every_key_reaches_its_setting() {
    use crate::config::compression::Compression;
    let settings = settings(&[
        ("metadata.broker.list", "b1:1,[::1]:2"),
        ("request.required.acks", "1"),
        ("queue.buffering.max.ms", "6"),
        ("batch.size", "7000"),
        ("buffer.memory", "9000"),
        ("message.max.bytes", "8000"),
        ("max.block.ms", "9"),
        ("message.timeout.ms", "1000"),
        ("request.timeout.ms", "11"),
        ("message.send.max.retries", "12"),
        ("retry.backoff.ms", "13"),
        ("retry.backoff.max.ms", "14"),
        ("reconnect.backoff.ms", "15"),
        ("reconnect.backoff.max.ms", "16"),
        ("socket.connection.setup.timeout.ms", "17"),
        ("socket.connection.setup.timeout.max.ms", "18"),
        ("connections.max.idle.ms", "19"),
        ("topic.metadata.refresh.interval.ms", "20"),
        ("metadata.max.idle.ms", "5021"),
        ("metadata.recovery.strategy", "none"),
        ("metadata.recovery.rebootstrap.trigger.ms", "25"),
        ("max.in.flight", "22"),
        ("enable.idempotence", "false"),
        ("allow.reordering", "true"),
        ("reject.batch.on.record.error", "true"),
        ("socket.send.buffer.bytes", "23"),
        ("socket.receive.buffer.bytes", "24"),
        ("partitioner", "builtin"),
        ("partitioner.ignore.keys", "true"),
        ("partitioner.adaptive.partitioning.enable", "true"),
        ("partitioner.availability.timeout.ms", "26"),
        ("partitioner.rack.aware", "true"),
        ("client.rack", "r1"),
        ("key.serializer", "STRING"),
        ("value.serializer", "org.apache.kafka.common.serialization.LongSerializer"),
        ("allow.auto.create.topics", "false"),
        ("delivery.keep.records", "true"),
        ("receive.message.max.bytes", "2500"),
        ("compression.codec", "gzip"),
        ("compression.gzip.level", "7"),
        ("compression.threads", "27"),
        ("topic.t.compression.type", "zstd"),
        ("client.id", "x"),
    ]);
    let expected = Settings {
        bootstrap_servers: vec![("b1".into(), 1), ("::1".into(), 2)],
        client_id: "x".into(),
        acks: Acks::Leader,
        linger: ms(6),
        batch_size: 7000,
        buffer_memory: 9000,
        max_request_size: 8000,
        max_block: ms(9),
        delivery_timeout: ms(1000),
        request_timeout: ms(11),
        retries: 12,
        retry_backoff: ms(13),
        retry_backoff_max: ms(14),
        reconnect_backoff: ms(15),
        reconnect_backoff_max: ms(16),
        connection_setup_timeout: ms(17),
        connection_setup_timeout_max: ms(18),
        connections_max_idle: Some(ms(19)),
        metadata_max_age: ms(20),
        metadata_max_idle: ms(5021),
        metadata_rebootstrap: false,
        rebootstrap_trigger: ms(25),
        max_in_flight: 22,
        enable_idempotence: false,
        allow_reordering: true,
        reject_batch_on_record_error: true,
        send_buffer: Some(23),
        receive_buffer: Some(24),
        compression: Compression::Gzip { level: 7 },
        topic_compression: [("t".to_owned(), Compression::Zstd { level: 3 })].into(),
        compression_threads: 27,
        partitioning: Partitioning::builtin(true, Some(ms(26)), Some("r1")),
        key_serializer: "string".into(),
        value_serializer: "int64".into(),
        allow_auto_create_topics: false,
        delivery_keep_records: true,
        receive_message_max: 2500,
        notes: vec![],
    };
    assert_eq!(settings, expected);
    assert_eq!(settings.bootstrap(), "b1:1,[::1]:2");
    assert_eq!([Acks::None, Acks::Leader, Acks::All].map(Acks::code), [0, 1, -1]);
}

#[test]
fn get_gives_what_was_set_or_the_default() {
    let mut config = ProducerConfig::new();
    assert_eq!(config.get("linger.ms"), Some("5"));
    assert_eq!(config.get("queue.buffering.max.ms"), Some("5"));
    assert_eq!(config.get("bootstrap.servers"), Some(""));
    assert_eq!(config.get("compression.type"), Some("none"));
    assert_eq!(config.get("enable.idempotence"), Some("true"));
    assert_eq!(config.get("transactional.id"), Some(""));
    assert_eq!(config.get("no.such.key"), None);
    assert_eq!(config.get("sasl.password"), None);
    assert_eq!(config.get("interceptor.x"), None);
    config.set("queue.buffering.max.ms", " +7 ").unwrap();
    assert_eq!(config.get("linger.ms"), Some("+7"));
    config.set("linger.ms", "8").unwrap();
    assert_eq!(config.get("queue.buffering.max.ms"), Some("8"), "the last one counts");
    assert!(config.is_set("linger.ms") && config.is_set("queue.buffering.max.ms"));
    let copy = config.clone();
    config.set("linger.ms", "9").unwrap();
    assert_eq!(copy.get("linger.ms"), Some("8"), "a copy is its own");
    config.set("linger.ms", "x").unwrap_err();
    assert_eq!(config.get("linger.ms"), Some("9"), "an error changes nothing");
}

#[test]
fn a_bad_value_is_named_with_its_key_and_range() {
    assert_eq!(
        refused("linger.ms", "-1"),
        "linger.ms=\"-1\": the value has to be a whole number of milliseconds, 0 to \
         9223372036854775807"
    );
    assert!(refused("queue.buffering.max.ms", "0.5").starts_with("queue.buffering.max.ms=\"0.5\""));
    assert!(refused("retries", "2147483648").contains("0 to 2147483647"));
    assert!(refused("metadata.max.idle.ms", "4999").contains("5000 to"));
    assert!(refused("acks", "2").contains("all, -1, 0 or 1"));
    assert!(refused("bootstrap.servers", "b1").contains("\"b1\" has no port"));
    assert!(refused("delivery.keep.records", "").contains("true or false"));
    let long = refused("linger.ms", &"9".repeat(1_000_000));
    assert!(long.contains("99999..."), "{long}");
    assert!(refused("linger.ms", "1\n\u{1b}[31m\0").contains("1\\n\\u{1b}[31m"));
    assert!(refused("client.id", &"x".repeat((1 << 20) + 1)).contains("has 1048577 bytes"));
    assert!(refused("client.id", &"x".repeat(40_000)).contains("at most 32767"));
}

#[test]
fn an_unknown_key_gets_the_nearest() {
    for (key, nearest) in [
        ("lingr.ms", "linger.ms"),
        ("linger_ms", "linger.ms"),
        ("LINGER.MS", "linger.ms"),
        ("ligner.ms", "linger.ms"),
        ("bootstrap.server", "bootstrap.servers"),
        ("batch.sise", "batch.size"),
        ("enable.idempotense", "enable.idempotence"),
        ("queue.buffering.max.mss", "queue.buffering.max.ms"),
        ("acs", "acks"),
    ] {
        assert_eq!(
            refused(key, "1"),
            format!("there is no key \"{key}\": did you mean {nearest}?")
        );
    }
    for key in ["", "zzzzzzzzzzzz", "\0", &"linger.ms".repeat(100_000)] {
        assert!(refused(key, "1").contains("CONFIGURATION.md"), "{key:.30}");
    }
    assert_eq!(definition::nearest("ab"), None, "two letters are like nothing");
}

#[test]
fn what_is_not_there_is_refused_and_its_off_value_taken() {
    for (key, off, on) in [
        ("transactional.id", "", "orders"),
        ("security.protocol", "plaintext", "SASL_SSL"),
        ("interceptor.classes", "", "a.B"),
        ("enable.metrics.push", "False", "true"),
        ("statistics.interval.ms", "0", "1000"),
    ] {
        let config = with(&[(key, off)]);
        assert_eq!(config.get(key), Some(off));
        config.settings().unwrap();
        assert!(
            refused(key, on).starts_with(&format!("{key}={on} is not available in this version: "))
        );
    }
    for key in ["socket.timeout.ms", "queue.buffering.max.kbytes", "batch.num.messages"] {
        assert!(refused(key, "1").contains("not available"), "{key}");
    }
}

#[test]
fn families_are_refused_without_showing_secrets() {
    let canary = "canary-8f3a";
    for key in [
        "sasl.password",
        "sasl.jaas.config",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.oauthbearer.client.secret",
        "ssl.key.password",
        "ssl.keystore.location",
        "config.providers.vault.param.token",
    ] {
        let message = refused(key, canary);
        assert!(message.contains("not available in this version") && !message.contains(canary));
        ProducerConfig::new().set(key, " ").unwrap();
    }
    assert!(refused("metrics.num.samples", "3").contains("metrics.num.samples=3 is not"));
    let config = with(&[("interceptor.secret", canary)]);
    assert!(!format!("{config:?}").contains(canary));
}

#[test]
fn bootstrap_servers_are_required() {
    let problems = ProducerConfig::new().settings().unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("bootstrap.servers is not set"));
}

#[test]
fn all_problems_are_told_at_once() {
    let mut config = with(&[
        ("delivery.timeout.ms", "1"),
        ("retry.backoff.ms", "2"),
        ("retry.backoff.max.ms", "1"),
        ("batch.size", "4096"),
        ("buffer.memory", "2048"),
    ]);
    config.set.remove(&find("bootstrap.servers").unwrap().0);
    assert_eq!(config.settings().unwrap_err().len(), 4);
}

#[test]
fn delivery_timeout_covers_linger_and_request() {
    assert_eq!(
        problems(&[("message.timeout.ms", "30004")]),
        ["message.timeout.ms=30004 is below linger.ms=5 + request.timeout.ms=30000: raise it to \
          30005 or lower those"]
    );
    settings(&[("delivery.timeout.ms", "30005")]);
    let raised = settings(&[("linger.ms", "100000")]);
    assert_eq!(raised.delivery_timeout, ms(130_000));
    assert_eq!(
        raised.notes,
        ["delivery.timeout.ms is 130000 instead of its default 120000: linger.ms=100000 + \
          request.timeout.ms=30000"]
    );
}

#[test]
fn a_longest_wait_is_not_shorter_than_the_shortest() {
    for (base, max, default) in [
        ("retry.backoff.ms", "retry.backoff.max.ms", 1000),
        ("reconnect.backoff.ms", "reconnect.backoff.max.ms", 1000),
        ("socket.connection.setup.timeout.ms", "socket.connection.setup.timeout.max.ms", 30_000),
    ] {
        let of = |settings: &Settings| match base {
            "retry.backoff.ms" => (settings.retry_backoff, settings.retry_backoff_max),
            "reconnect.backoff.ms" => (settings.reconnect_backoff, settings.reconnect_backoff_max),
            _ => (settings.connection_setup_timeout, settings.connection_setup_timeout_max),
        };
        assert_eq!(
            problems(&[(base, "20"), (max, "19")]),
            [format!("{base}=20 is above {max}=19: lower the first or raise the second")]
        );
        let raised = settings(&[(base, "40000")]);
        assert_eq!(of(&raised), (ms(40_000), ms(40_000)));
        assert_eq!(
            raised.notes,
            [format!("{max} is 40000 instead of its default {default}: {base}=40000")]
        );
        let lowered = settings(&[(max, "10")]);
        assert_eq!(of(&lowered), (ms(10), ms(10)));
        assert_eq!(lowered.notes.len(), 1);
        assert_eq!(of(&settings(&[(base, "20"), (max, "20")])), (ms(20), ms(20)));
    }
}

#[test]
fn off_is_minus_one_or_zero() {
    for off in ["0", "-1"] {
        let settings = settings(&[
            ("connections.max.idle.ms", off),
            ("send.buffer.bytes", off),
            ("receive.buffer.bytes", off),
        ]);
        assert_eq!(settings.connections_max_idle, None);
        assert_eq!((settings.send_buffer, settings.receive_buffer), (None, None));
    }
}

#[test]
fn client_ids_count_up() {
    let id = |config: &ProducerConfig| config.settings().unwrap().client_id;
    let config = with(&[]);
    let (first, second) = (id(&config), id(&config));
    assert!(first.starts_with("producer-") && first != second, "{first} {second}");
}

#[test]
fn every_number_may_be_at_its_border() {
    for row in DEFINITIONS {
        let (Kind::Millis(low, high) | Kind::Bytes(low, high) | Kind::Count(low, high)) = row.kind
        else {
            continue;
        };
        for number in [low, high] {
            let config = with(&[(row.name, &number.to_string())]);
            // It may contradict another key, but nothing overflows.
            if let Ok(settings) = config.settings() {
                assert!(settings.batch_size <= settings.buffer_memory, "{}={number}", row.name);
                assert!(settings.batch_size <= settings.max_request_size, "{}={number}", row.name);
                assert!(settings.max_request_size < i32::MAX as usize);
            }
        }
    }
    let longest = settings(&[
        ("linger.ms", "9223372036854775807"),
        ("request.timeout.ms", "2147483647"),
        ("delivery.timeout.ms", "2147483647"),
        ("max.block.ms", "9223372036854775807"),
    ]);
    assert_eq!(longest.delivery_timeout, ms(2_147_483_647), "Kafka's largest covers everything");
    let shortest = settings(&[
        ("linger.ms", "0"),
        ("request.timeout.ms", "0"),
        ("delivery.timeout.ms", "0"),
        ("max.block.ms", "0"),
    ]);
    assert_eq!((shortest.linger, shortest.delivery_timeout), (ms(0), ms(0)));
    let days = settings(&[("linger.ms", "172800000"), ("max.block.ms", "604800000")]);
    assert_eq!(days.delivery_timeout, ms(172_800_000 + 30_000));
}

#[test]
fn the_document_has_every_key() {
    let page = configuration_markdown();
    for row in DEFINITIONS {
        for name in std::iter::once(&row.name).chain(row.aliases) {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
        assert!(page.contains(row.doc), "{}", row.name);
    }
    for row in TOPIC_DEFINITIONS {
        for name in std::iter::once(&row.name).chain(row.aliases) {
            assert!(page.contains(&format!("`{TOPIC_PREFIX}NAME.{name}`")), "{name}");
        }
        assert!(page.contains(row.doc), "{}", row.name);
    }
    for line in page.lines().filter(|line| line.starts_with('|')) {
        assert!(matches!(line.matches('|').count(), 4 | 6), "{line}");
    }
}
