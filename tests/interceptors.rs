//! Interceptors over the Rust API: who is called when, on which thread, with what; each record
//! exactly once on every path; and the end, which comes once and last (scenario S56).
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic, in helpers too")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::config::ProducerConfig;
use kafka_producer::delivery::DeliveryMode;
use kafka_producer::error::{Error, Result, status};
use kafka_producer::interceptors::{Acknowledgement, Interceptor};
use kafka_producer::log::{Level, LogSink};
use kafka_producer::mock::{CUT_AFTER_WRITE, MockCluster};
use kafka_producer::producer::{Options, Producer, Timeout};
use kafka_producer::record::{Header, ProducerRecord};
use kafka_producer::serializer::Arena;
use produce::{
    Gate, LONG, METADATA, Outcomes, PRODUCE, assert_settled, cluster, config, eventually, quick,
    record, timed, to,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, ThreadId};
use std::time::Duration;

const NOW: Timeout = Timeout::After(Duration::ZERO);

/// What one interceptor has seen of a tag.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Seen {
    sends: u32,
    /// Status and partition of each.
    acknowledgements: Vec<(i32, i32)>,
}

/// Notes everything, in a journal that several may share.
#[derive(Default)]
struct Watch {
    name: &'static str,
    journal: Arc<Mutex<Vec<String>>>,
    seen: Mutex<BTreeMap<u64, Seen>>,
    configured: AtomicU64,
    closed: AtomicU64,
    /// Told of something after the end.
    late: AtomicBool,
    refuses_configuration: bool,
    sending: Mutex<Vec<ThreadId>>,
    acknowledging: Mutex<Vec<ThreadId>>,
}

impl Watch {
    fn named(name: &'static str, journal: &Arc<Mutex<Vec<String>>>) -> Arc<Watch> {
        Arc::new(Watch { name, journal: Arc::clone(journal), ..Watch::default() })
    }

    fn note(&self, what: &str) {
        if self.closed.load(Ordering::SeqCst) > 0 {
            self.late.store(true, Ordering::SeqCst);
        }
        self.journal.lock().unwrap().push(format!("{} {what}", self.name));
    }

    fn of(&self, tag: u64) -> Seen {
        self.seen.lock().unwrap().get(&tag).cloned().unwrap_or_default()
    }

    /// Every tag was sent so often, told once, and the end came once and last.
    fn assert_once(&self, tags: impl Iterator<Item = u64>, sends: u32) {
        for tag in tags {
            let seen = self.of(tag);
            assert_eq!((seen.sends, seen.acknowledgements.len()), (sends, 1), "{tag}: {seen:?}");
        }
        assert_eq!(self.configured.load(Ordering::SeqCst), 1);
        assert_eq!(self.closed.load(Ordering::SeqCst), 1);
        assert!(!self.late.load(Ordering::SeqCst), "{:?}", self.journal.lock().unwrap());
    }
}

impl Interceptor for Watch {
    fn configure(&self, _config: &ProducerConfig) -> Result<()> {
        if self.refuses_configuration {
            return Err(Error::new(status::INVALID_CONFIG, "interceptor.x is missing"));
        }
        self.note("configure");
        self.configured.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn on_send<'a>(&self, record: ProducerRecord<'a>, _: &'a Arena) -> Result<ProducerRecord<'a>> {
        self.note(&format!("on_send {}", record.tag));
        self.seen.lock().unwrap().entry(record.tag).or_default().sends += 1;
        self.sending.lock().unwrap().push(thread::current().id());
        Ok(record)
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        self.acknowledging.lock().unwrap().push(thread::current().id());
        for tag in acknowledgement.tags() {
            self.note(&format!("on_acknowledgement {tag}"));
            let told = (acknowledgement.status(), acknowledgement.partition());
            self.seen.lock().unwrap().entry(*tag).or_default().acknowledgements.push(told);
        }
    }

    fn on_close(&self) {
        self.note("on_close");
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

/// An interceptor made of a function.
struct OnSend<F>(F);

impl<F> Interceptor for OnSend<F>
where
    F: for<'a> Fn(ProducerRecord<'a>, &'a Arena) -> Result<ProducerRecord<'a>> + Send + Sync,
{
    fn on_send<'a>(
        &self,
        record: ProducerRecord<'a>,
        arena: &'a Arena,
    ) -> Result<ProducerRecord<'a>> {
        (self.0)(record, arena)
    }

    fn wants_acknowledgements(&self) -> bool {
        false
    }
}

fn on_send<F>(f: F) -> Arc<dyn Interceptor>
where
    F: for<'a> Fn(ProducerRecord<'a>, &'a Arena) -> Result<ProducerRecord<'a>>
        + Send
        + Sync
        + 'static,
{
    Arc::new(OnSend(f))
}

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl LogSink for Lines {
    fn log(&self, level: Level, target: &'static str, message: String) {
        if target == "interceptors" {
            assert_eq!(level, Level::Warning);
            self.0.lock().unwrap().push(message);
        }
    }
}

fn with(
    cluster: &MockCluster,
    settings: &[(&str, &str)],
    delivery: DeliveryMode,
    interceptors: Vec<Arc<dyn Interceptor>>,
) -> Producer {
    let options = Options { delivery, interceptors, ..Options::default() };
    Producer::new(&config(cluster, settings), options).unwrap()
}

#[test]
fn the_chain_runs_in_order_around_every_record() {
    let cluster = cluster(1, 1);
    let journal = Arc::default();
    let (first, second) = (Watch::named("first", &journal), Watch::named("second", &journal));
    let outcomes = Arc::new(Outcomes::default());
    let delivery = DeliveryMode::Callback(Arc::clone(&outcomes) as _);
    let stamps = on_send(|record, arena| {
        let mut headers = record.headers.to_vec();
        let value = arena.copy(b"by the first")?;
        headers.push(Header { key: b"stamp", value: Some(value) });
        let headers = arena.collect(headers.into_iter())?;
        let key = Some(&*arena.copy(b"a key")?);
        Ok(ProducerRecord { headers, key, timestamp_ms: Some(77), ..record })
    });
    let checks = on_send(|record, _| {
        assert_eq!(record.headers.len(), 1);
        assert_eq!((record.key, record.timestamp_ms), (Some(&b"a key"[..]), Some(77)));
        Ok(ProducerRecord { value: Some(b"another value"), ..record })
    });
    let chain = vec![Arc::clone(&first) as _, stamps, checks, Arc::clone(&second) as _];
    let producer = with(&cluster, &quick("1"), delivery, chain);
    producer.send(&record(b"x", 1)).unwrap();
    producer.flush(LONG).unwrap();
    producer.close(LONG).1.unwrap();
    drop(producer);
    let stored = &cluster.records("t", 0)[0];
    assert_eq!(stored.key.as_deref(), Some(&b"a key"[..]));
    assert_eq!(stored.value.as_deref(), Some(&b"another value"[..]));
    assert_eq!(stored.timestamp_ms, 77);
    let expected = [
        "first configure",
        "second configure",
        "first on_send 1",
        "second on_send 1",
        "first on_acknowledgement 1",
        "second on_acknowledgement 1",
        "first on_close",
        "second on_close",
    ];
    assert_eq!(*journal.lock().unwrap(), expected);
    assert_eq!(outcomes.of(1).offset, 0);
}

#[test]
fn who_fails_is_logged_and_the_last_good_record_goes_on() {
    let cluster = cluster(1, 1);
    let lines = Arc::new(Lines::default());
    let interceptors = vec![
        on_send(|record, _| Ok(ProducerRecord { key: Some(b"good"), ..record })),
        on_send(|_, _| Err(Error::new(status::INVALID_ARGUMENT, "not today"))),
        on_send(|record, _| Ok(ProducerRecord { topic: "u", key: Some(b"bad"), ..record })),
        // Past the hook, which may write where it was, a thousand times.
        on_send(|_, _| std::panic::resume_unwind(Box::new("a panic"))),
        on_send(|record, _| {
            assert_eq!(record.key, Some(&b"good"[..]));
            Ok(record)
        }),
    ];
    let log = Some((Level::Debug, Arc::clone(&lines) as _));
    let options = Options { interceptors, log, ..Options::default() };
    let producer = Producer::new(&config(&cluster, &quick("1")), options).unwrap();
    for tag in 0..1000 {
        producer.send(&record(b"x", tag)).unwrap();
    }
    producer.flush(LONG).unwrap();
    producer.close(LONG).1.unwrap();
    assert_eq!(cluster.end_offset("t", 0), 1000);
    assert!(cluster.records("t", 0).iter().all(|r| r.key.as_deref() == Some(b"good")));
    let lines = lines.0.lock().unwrap();
    // 1, 2, 4, ... 512 of each.
    assert_eq!(lines.len(), 3 * 10, "{lines:?}");
    for words in [
        "interceptor 2 of 5: on_send failed: not today",
        "interceptor 3 of 5: on_send failed: it changed the topic",
        "interceptor 4 of 5: on_send failed: it panicked (512 failures so far)",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(words)), "{words}: {lines:?}");
    }
}

/// Sends in every way what is refused in every way: told once, with the error that the call gave.
#[test]
fn s56_a_refused_record_is_told_once_with_its_true_error() {
    let cluster = cluster(1, 2);
    cluster.set_auto_create(false, 1);
    let watch = Arc::new(Watch::default());
    let outcomes = Arc::new(Outcomes::default());
    let delivery = DeliveryMode::Callback(Arc::clone(&outcomes) as _);
    let settings = [("max.block.ms", "50"), ("max.request.size", "1000"), ("batch.size", "900")];
    let producer = with(&cluster, &settings, delivery, vec![Arc::clone(&watch) as _]);
    let absent = |tag| ProducerRecord { topic: "absent", ..record(b"x", tag) };
    let nowhere = |tag| to(9, b"x", tag);
    let (large, short) = ([0; 2000], Timeout::After(Duration::from_millis(50)));
    producer.partitions_for("t", LONG).unwrap();
    let mut refused = Vec::new();
    for (at, record) in
        (0..).zip([absent as fn(u64) -> ProducerRecord<'static>, nowhere, |tag| to(-1, b"x", tag)])
    {
        let tag = at * 10;
        refused.push((tag, producer.send(&record(tag)).unwrap_err()));
        refused.push((tag + 1, producer.try_send(&record(tag + 1)).unwrap_err()));
        let (accepted, result) = producer.send_batch(
            [to(0, b"y", tag + 2), record(tag + 3), to(0, b"z", tag + 4)].map(Ok).into_iter(),
            short,
        );
        assert_eq!(accepted, 1);
        refused.push((tag + 3, result.unwrap_err()));
        assert_eq!(watch.of(tag + 4), Seen::default(), "what is behind a refused one is not seen");
        refused.push((tag + 5, producer.send_sync(&record(tag + 5), short).unwrap_err()));
    }
    refused.push((90, producer.send(&to(1, &large, 90)).unwrap_err()));
    producer.flush(LONG).unwrap();
    for (tag, error) in &refused {
        let seen = watch.of(*tag);
        assert_eq!((seen.sends, seen.acknowledgements.len()), (1, 1), "{tag}: {seen:?}");
        assert_eq!(seen.acknowledgements[0].0, error.status, "{tag}");
        assert!(!outcomes.get().contains_key(tag), "{tag} was refused and reported");
    }
    assert_eq!(watch.of(0).acknowledgements, [(status::TIMED_OUT, -1)]);
    assert_eq!(watch.of(1).acknowledgements, [(status::METADATA_PENDING, -1)]);
    assert_eq!(watch.of(10).acknowledgements, [(status::INVALID_ARGUMENT, 9)]);
    assert_eq!(watch.of(90).acknowledgements, [(10, 1)], "MESSAGE_TOO_LARGE");
    for accepted in [2, 12, 22] {
        assert_eq!(watch.of(accepted).acknowledgements, [(status::OK, 0)]);
        assert_eq!(outcomes.of(accepted).status, status::OK);
    }
    // After the close nothing is intercepted any more.
    producer.close(LONG).1.unwrap();
    assert_eq!(producer.send(&record(b"x", 91)).unwrap_err().status, status::CLOSED);
    assert_eq!(watch.of(91), Seen::default());
    drop(producer);
    watch.assert_once(refused.iter().map(|(tag, _)| *tag), 1);
}

#[test]
fn a_refused_try_send_is_a_call_like_any_other() {
    let cluster = cluster(1, 1);
    let watch = Arc::new(Watch::default());
    let producer = with(
        &cluster,
        &[
            ("buffer.memory", "65536"),
            ("batch.size", "1024"),
            ("linger.ms", "60000"),
            ("delivery.timeout.ms", "200000"),
        ],
        DeliveryMode::Poll,
        vec![Arc::clone(&watch) as _],
    );
    producer.partitions_for("t", LONG).unwrap();
    cluster.set_broker(1, false, true, 0, 0).unwrap();
    let value = [0; 900];
    let mut tags = 0..;
    let full = loop {
        let tag = tags.next().unwrap();
        if let Err(error) = producer.try_send(&record(&value, tag)) {
            assert_eq!(error.status, status::BUFFER_FULL);
            break tag;
        }
    };
    producer.try_send(&record(&value, full)).unwrap_err();
    let seen = watch.of(full);
    assert_eq!(seen.sends, 2);
    assert_eq!(seen.acknowledgements.len(), 2, "{seen:?}");
    assert!(seen.acknowledgements.iter().all(|(told, _)| *told == status::BUFFER_FULL));
    drop(producer);
    watch.assert_once(0..full, 1);
}

/// Retries, splits, purge, expiry, lost answers, records that are sent again as they are.
#[test]
fn nothing_is_told_twice_or_not_at_all_on_any_path() {
    for mode in [DeliveryMode::None, DeliveryMode::Poll] {
        let cluster = cluster(1, 4);
        cluster.set_topic_config("t", "max.message.bytes", "700").unwrap();
        let watch = Arc::new(Watch::default());
        let settings = [
            &quick("1")[..],
            &[
                ("batch.size", "4000"),
                ("delivery.timeout.ms", "20000"),
                ("request.timeout.ms", "10000"),
            ],
        ]
        .concat();
        let producer = with(&cluster, &settings, mode.clone(), vec![Arc::clone(&watch) as _]);
        let mut reported = Vec::new();
        // NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS, the connection cut after the write.
        cluster.push_errors(PRODUCE, &[6, 19, CUT_AFTER_WRITE, 6, CUT_AFTER_WRITE]).unwrap();
        for tag in 0..200 {
            let value = [7; 40];
            producer.send(&to((tag % 4) as i32, &value, tag)).unwrap();
        }
        // Too large alone.
        producer.send(&to(0, &[0; 1500], 200)).unwrap();
        for tag in 201..210 {
            let once = ProducerRecord { as_is: true, ..to(1, b"as it is", tag) };
            producer.send(&once).unwrap();
        }
        producer.flush(LONG).unwrap();
        let receipt = producer.send_sync(&to(2, b"sync", 210), LONG).unwrap();
        assert_eq!(receipt.partition, 2);
        cluster.push_errors(PRODUCE, &[10]).unwrap();
        producer.send_sync(&to(2, &[0; 1500], 211), LONG).unwrap_err();
        cluster.set_broker(1, false, true, 0, 0).unwrap();
        // Expired, purged, ended by the close.
        producer.send(&ProducerRecord { timeout_ms: 30, ..to(3, b"dies", 212) }).unwrap();
        eventually("it expires", || watch_or_poll(&producer, &mode, &mut reported, &watch, 212));
        producer.send(&to(0, b"purged", 213)).unwrap();
        producer.purge(None, None).unwrap();
        producer.send(&to(0, b"aborted", 214)).unwrap();
        let _ = producer.close(NOW);
        if mode_is_poll(&mode) {
            // What nobody polls is told in the end.
            assert_eq!(watch.closed.load(Ordering::SeqCst), 0);
        }
        drop(producer);
        let sent = (0..201).chain(210..215);
        watch.assert_once(sent, 1);
        watch.assert_once(201..210, 0);
        assert_eq!(watch.of(200).acknowledgements[0].0, 10);
        assert_eq!(watch.of(212).acknowledgements, [(status::DELIVERY_TIMED_OUT, 3)]);
        assert_eq!(watch.of(213).acknowledgements, [(status::ABORTED, 0)]);
        assert_eq!(watch.of(214).acknowledgements, [(status::ABORTED, 0)]);
        assert_eq!(watch.of(210).acknowledgements, [(status::OK, 2)]);
    }
}

fn mode_is_poll(mode: &DeliveryMode) -> bool {
    matches!(mode, DeliveryMode::Poll)
}

fn watch_or_poll(
    producer: &Producer,
    mode: &DeliveryMode,
    reported: &mut Vec<kafka_producer::delivery::Delivery>,
    watch: &Watch,
    tag: u64,
) -> bool {
    if mode_is_poll(mode) {
        producer.poll(100, NOW, reported).unwrap();
    }
    !watch.of(tag).acknowledgements.is_empty()
}

/// Reads the records in the acknowledgement, of successes too.
#[derive(Default)]
struct Reads(Mutex<Vec<ReadBack>>);

/// Key, value, timestamp, and the names of the headers.
type ReadBack = (Option<Vec<u8>>, Option<Vec<u8>>, i64, Vec<Vec<u8>>);

impl Interceptor for Reads {
    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        let Acknowledgement::Delivered(delivery) = acknowledgement else { return };
        let base = delivery.records().unwrap().base_timestamp();
        let mut space = Vec::new();
        for record in delivery.remains.walk(&mut space) {
            let headers = record.headers.map(|header| header.key.to_vec()).collect();
            let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
            self.0.lock().unwrap().push((key, value, base + record.timestamp_delta, headers));
        }
    }
}

#[test]
fn records_are_readable_until_their_acknowledgement_and_no_longer() {
    let cluster = cluster(1, 1);
    let reads = Arc::new(Reads::default());
    let producer = with(&cluster, &[], DeliveryMode::None, vec![Arc::clone(&reads) as _]);
    let headers = [Header { key: b"h", value: None }];
    for tag in 0..10 {
        let sent = ProducerRecord {
            key: Some(b"k"),
            headers: &headers,
            timestamp_ms: Some(1000 + tag),
            ..record(b"v", tag.unsigned_abs())
        };
        producer.send(&sent).unwrap();
    }
    producer.flush(LONG).unwrap();
    let read = reads.0.lock().unwrap();
    let expected =
        |at: i64| (Some(b"k".to_vec()), Some(b"v".to_vec()), 1000 + at, vec![b"h".to_vec()]);
    assert_eq!(*read, (0..10).map(expected).collect::<Vec<_>>());
    assert_settled(&producer);
}

#[test]
fn the_end_comes_once_and_last_in_every_mode() {
    let modes: [fn() -> DeliveryMode; 3] = [
        || DeliveryMode::None,
        || DeliveryMode::Callback(Arc::new(Outcomes::default())),
        || DeliveryMode::Poll,
    ];
    for mode in modes {
        for closes in [true, false] {
            let cluster = cluster(1, 1);
            let watch = Arc::new(Watch::default());
            let producer = with(&cluster, &quick("1"), mode(), vec![Arc::clone(&watch) as _]);
            for tag in 0..100 {
                producer.send(&record(b"x", tag)).unwrap();
            }
            if closes {
                producer.close(LONG).1.unwrap();
                let polled = mode_is_poll(&mode());
                assert_eq!(watch.closed.load(Ordering::SeqCst), u64::from(!polled));
                let mut out = Vec::new();
                while polled && producer.poll(7, LONG, &mut out).is_ok() {
                    assert_eq!(watch.closed.load(Ordering::SeqCst), 0);
                }
                assert_eq!(watch.closed.load(Ordering::SeqCst), 1, "it came with the last");
                assert!(producer.close(LONG).1.is_err());
                let _ = producer.poll(7, NOW, &mut out);
            }
            drop(producer);
            watch.assert_once(0..100, 1);
        }
    }
}

#[test]
fn a_producer_that_does_not_come_to_be_ends_those_that_were_configured() {
    let cluster = cluster(1, 1);
    let journal = Arc::default();
    let refuses = Arc::new(Watch {
        name: "second",
        refuses_configuration: true,
        journal: Arc::clone(&journal),
        ..Watch::default()
    });
    let interceptors: Vec<Arc<dyn Interceptor>> =
        vec![Watch::named("first", &journal), refuses, Watch::named("third", &journal)];
    let options = Options { interceptors, ..Options::default() };
    let error = Producer::new(&config(&cluster, &[]), options).err().unwrap();
    assert_eq!(error.status, status::INVALID_CONFIG);
    assert_eq!(error.message, "interceptor 2 of 3: configure failed: interceptor.x is missing");
    assert_eq!(*journal.lock().unwrap(), ["first configure", "first on_close"]);
    // A bad configuration is told before anybody is configured.
    journal.lock().unwrap().clear();
    let options =
        Options { interceptors: vec![Watch::named("first", &journal)], ..Options::default() };
    Producer::new(&config(&cluster, &[("delivery.timeout.ms", "1")]), options).err().unwrap();
    assert!(journal.lock().unwrap().is_empty());
}

/// Stays inside `on_send` until its gate is opened.
#[derive(Default)]
struct Stays {
    gate: Gate,
    watch: Watch,
}

impl Interceptor for Stays {
    fn on_send<'a>(
        &self,
        record: ProducerRecord<'a>,
        arena: &'a Arena,
    ) -> Result<ProducerRecord<'a>> {
        self.gate.pass();
        self.watch.on_send(record, arena)
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        self.watch.on_acknowledgement(acknowledgement);
    }

    fn configure(&self, config: &ProducerConfig) -> Result<()> {
        self.watch.configure(config)
    }

    fn on_close(&self) {
        self.watch.on_close();
    }
}

#[test]
fn the_end_waits_for_a_send_that_is_inside() {
    let cluster = cluster(1, 1);
    for poll in [false, true] {
        let stays = Arc::new(Stays::default());
        let mode = if poll { DeliveryMode::Poll } else { DeliveryMode::None };
        let producer = with(&cluster, &quick("1"), mode, vec![Arc::clone(&stays) as _]);
        thread::scope(|scope| {
            let send = scope.spawn(|| producer.send(&record(b"x", 1)));
            eventually("it is inside", || stays.gate.is_entered());
            let ((_, closed), took) = timed(|| producer.close(NOW));
            assert!(took < Duration::from_secs(10), "{took:?}");
            let mut out = Vec::new();
            if poll {
                closed.unwrap();
                producer.poll(1, NOW, &mut out).unwrap();
            } else {
                assert_eq!(closed.unwrap_err().status, status::TIMED_OUT);
            }
            assert_eq!(stays.watch.closed.load(Ordering::SeqCst), 0);
            stays.gate.open();
            assert_eq!(send.join().unwrap().unwrap_err().status, status::CLOSED);
            if poll {
                assert_eq!(producer.poll(1, LONG, &mut out).unwrap_err().status, status::CLOSED);
            } else {
                producer.close(LONG).1.unwrap();
            }
            assert_eq!(stays.watch.closed.load(Ordering::SeqCst), 1);
        });
        drop(producer);
        stays.watch.assert_once(1..2, 1);
        assert_eq!(stays.watch.of(1).acknowledgements, [(status::CLOSED, -1)]);
    }
}

#[test]
fn sixty_four_threads_intercept_their_own_records() {
    let cluster = cluster(1, 4);
    let watch = Arc::new(Watch::default());
    let producer = with(&cluster, &[], DeliveryMode::None, vec![Arc::clone(&watch) as _]);
    let owners: Mutex<BTreeMap<u64, ThreadId>> = Mutex::default();
    thread::scope(|scope| {
        for number in 0..64 {
            let (producer, owners) = (&producer, &owners);
            scope.spawn(move || {
                for tag in number * 20..number * 20 + 20 {
                    owners.lock().unwrap().insert(tag, thread::current().id());
                    producer.send(&record(b"x", tag)).unwrap();
                }
            });
        }
    });
    producer.close(LONG).1.unwrap();
    watch.assert_once(0..64 * 20, 1);
    let senders: std::collections::HashSet<_> =
        watch.sending.lock().unwrap().iter().copied().collect();
    let owners: std::collections::HashSet<_> = owners.lock().unwrap().values().copied().collect();
    assert_eq!(senders, owners);
    let told: std::collections::HashSet<_> =
        watch.acknowledging.lock().unwrap().iter().copied().collect();
    assert_eq!(told.len(), 1, "one thread reports");
    assert!(told.is_disjoint(&owners));
}

/// Sends from inside, wherever it is.
#[derive(Default)]
struct SendsInside {
    producer: OnceLock<Producer>,
    plain: OnceLock<Producer>,
    refused: AtomicU64,
    sent: AtomicU64,
    told: AtomicU64,
}

impl Interceptor for SendsInside {
    fn on_send<'a>(&self, given: ProducerRecord<'a>, _: &'a Arena) -> Result<ProducerRecord<'a>> {
        // First the plain one, whose topic is this thread's last: the other's calls forget it.
        for producer in self.plain.get().iter().chain(&self.producer.get()) {
            let refused = |result: Result<()>| {
                assert_eq!(result.unwrap_err().status, status::WOULD_DEADLOCK);
                self.refused.fetch_add(1, Ordering::SeqCst);
            };
            refused(producer.send(&to(0, b"inside", 2)));
            refused(producer.try_send(&to(0, b"inside", 2)));
            refused(producer.send_batch([Ok(to(0, b"inside", 2))].into_iter(), LONG).1);
            refused(producer.send_sync(&to(0, b"inside", 2), LONG).map(drop));
            refused(producer.flush(LONG));
        }
        Ok(given)
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        self.told.fetch_add(1, Ordering::SeqCst);
        let Some(producer) = self.producer.get() else { return };
        let again = || producer.try_send(&to(0, b"again", 3));
        match acknowledgement {
            // A delivery's is like any callback: what is sent here is intercepted.
            Acknowledgement::Delivered(delivery) if delivery.tags() == [1] => {
                again().unwrap();
                self.sent.fetch_add(1, Ordering::SeqCst);
            }
            Acknowledgement::Delivered(_) => {}
            // To try again in here would come back here.
            Acknowledgement::Refused(_) => {
                assert_eq!(again().unwrap_err().status, status::WOULD_DEADLOCK);
                self.sent.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

#[test]
fn a_send_inside_a_send_is_refused_and_nobody_is_told() {
    let cluster = cluster(1, 1);
    let inside = Arc::new(SendsInside::default());
    let settings = [&quick("1")[..], &[("batch.size", "1")]].concat();
    let producer = with(&cluster, &settings, DeliveryMode::None, vec![Arc::clone(&inside) as _]);
    let lingers = [("linger.ms", "60000"), ("delivery.timeout.ms", "200000")];
    let plain = with(&cluster, &lingers, DeliveryMode::None, vec![]);
    producer.partitions_for("t", LONG).unwrap();
    // This thread's last topic is the plain producer's, and its open batch has room; its metadata
    // has settled, or the topic would be looked up again.
    plain.send_sync(&to(0, b"plain", 0), LONG).unwrap();
    plain.send(&to(0, b"plain", 0)).unwrap();
    let _ = (inside.producer.set(producer), inside.plain.set(plain));
    let producer = inside.producer.get().unwrap();
    producer.send(&to(0, b"x", 1)).unwrap();
    eventually("what was sent inside is sent", || cluster.end_offset("t", 0) >= 3);
    let before = inside.told.load(Ordering::SeqCst);
    producer.send(&to(77, b"x", 4)).unwrap_err();
    eventually("it was told once", || inside.told.load(Ordering::SeqCst) > before);
    // Five calls on two producers in each of three records.
    assert_eq!(inside.refused.load(Ordering::SeqCst), 30);
    assert_eq!(inside.sent.load(Ordering::SeqCst), 2);
}

#[test]
fn a_pending_topic_costs_no_second_interception() {
    let cluster = cluster(1, 1);
    let watch = Arc::new(Watch::default());
    let producer = with(&cluster, &quick("1"), DeliveryMode::None, vec![Arc::clone(&watch) as _]);
    // The first answers are errors: the send waits, once.
    cluster.push_errors(METADATA, &[5, 5, 5]).unwrap();
    producer.send(&record(b"x", 1)).unwrap();
    producer.close(LONG).1.unwrap();
    watch.assert_once(1..2, 1);
}
