//! When a request is due, and for what.

use super::*;

#[test]
fn a_new_topic_is_asked_for_at_once_and_then_known() {
    let metadata = metadata();
    assert_eq!(names(metadata.request_due(at(0))), [""; 0], "the brokers, to begin with");
    assert!(matches!(metadata.try_topic("t", at(0)), TopicState::Pending));
    assert_eq!(metadata.request_due(at(0)), None, "one at a time");
    assert_eq!(metadata.next_due(), Instant::NEVER);
    metadata.on_response(&response(vec![]), at(1)).unwrap();
    assert_eq!(names(metadata.request_due(at(1))), ["t"]);
    let changes = metadata.on_response(&response(vec![topic("t", &[(1, 0), (2, 0)])]), at(2));
    assert_eq!(changes.unwrap().topics.len(), 1);
    let TopicState::Known(known) = metadata.try_topic("t", at(3)) else { panic!("not known") };
    assert_eq!(known.partitions.len(), 2);
    let snapshot = metadata.snapshot();
    assert_eq!(snapshot.leader("t", 1).unwrap().host.as_ref(), "b2");
    assert_eq!(snapshot.version, metadata.version());
    assert_eq!(metadata.request_due(at(200)), None, "nothing more to ask");
}

#[derive(Default)]
struct CountingWake(AtomicU64);

impl Wake for CountingWake {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn new_topics_are_collected_while_a_request_is_under_way() {
    let metadata = metadata();
    let waker = Arc::new(CountingWake::default());
    metadata.set_waker(waker.clone());
    metadata.request_due(at(0)).unwrap();
    for name in ["c", "a", "b", "a"] {
        assert!(is_pending(&metadata, name, at(0)));
    }
    assert_eq!(waker.0.load(Ordering::Relaxed), 3, "once per topic");
    metadata.on_response(&response(vec![]), at(5)).unwrap();
    assert_eq!(names(metadata.request_due(at(5))), ["a", "b", "c"]);
    let answer = response(vec![topic("b", &[(1, 0)]), topic("a", &[(1, 0)])]);
    metadata.on_response(&answer, at(6)).unwrap();
    known(&metadata, "a", at(6));
    known(&metadata, "b", at(6));
    assert!(is_pending(&metadata, "c", at(6)), "the answer left it out");
    assert!(metadata.last_error("c").unwrap().message.contains("does not exist"));
    assert_eq!(waker.0.load(Ordering::Relaxed), 3);
    assert_eq!(next(&metadata, 200).unwrap().1, ["c"], "only what is missing");
}

#[test]
fn a_topic_that_is_asked_for_anew_wakes_and_counts_the_answer_to_this_question() {
    let metadata = knowing(vec![topic("t", &[(1, 0)])]);
    let waker = Arc::new(CountingWake::default());
    metadata.set_waker(waker.clone());
    let wanted = metadata.refresh("t", at(1000));
    assert_eq!(waker.0.load(Ordering::Relaxed), 1);
    assert_eq!(wanted, metadata.answers() + 1);
    assert_eq!(names(metadata.request_due(at(1000))), ["t"]);
    // That request was on its way before this question came.
    assert_eq!(metadata.refresh("t", at(1001)), metadata.answers() + 2);
}

#[test]
fn every_answer_and_failure_moves_the_signal() {
    let metadata = metadata();
    let start = metadata.signal().generation();
    metadata.on_failure(at(0), Error::new(-1, "no broker"));
    assert_eq!(metadata.signal().generation(), start + 1);
    metadata.on_response(&response(vec![]), at(0)).unwrap();
    assert_eq!(metadata.signal().generation(), start + 2);
    metadata.on_response(&MetadataResponse::default(), at(0)).unwrap_err();
    assert_eq!(metadata.signal().generation(), start + 3);
    metadata.fail_all(Error::new(-103, "closed"));
    assert_eq!(metadata.signal().generation(), start + 4);
}

#[test]
fn an_unknown_topic_stays_pending_and_is_asked_for_less_and_less_often() {
    let metadata = started();
    assert!(is_pending(&metadata, "t", at(0)));
    assert_eq!(next(&metadata, 0).unwrap().1, ["t"]);
    let mut last = 0;
    let mut gaps = Vec::new();
    for _ in 0..8 {
        metadata.on_response(&response(vec![refusal("t", 3)]), at(last)).unwrap();
        assert!(is_pending(&metadata, "t", at(last)));
        let error = metadata.last_error("t").unwrap();
        assert_eq!(error.status, 3);
        assert!(error.is_retriable() && error.message.contains("\"t\" does not exist"), "{error}");
        let (due, topics) = next(&metadata, last + 2000).unwrap();
        assert_eq!(topics, ["t"]);
        gaps.push(due - last);
        last = due;
    }
    for (gap, expected) in gaps.iter().zip([100, 200, 400, 800, 1000, 1000, 1000, 1000]) {
        assert!((expected * 79 / 100..=1000.min(expected * 121 / 100)).contains(gap), "{gaps:?}");
    }
    metadata.on_response(&response(vec![topic("t", &[(1, 0)])]), at(last)).unwrap();
    known(&metadata, "t", at(last));
    assert_eq!(metadata.last_error("t"), None);
}

#[test]
fn auto_creation_is_asked_for_as_configured() {
    for allow in [true, false] {
        let config = MetadataConfig { allow_auto_create_topics: allow, ..config() };
        let metadata = Metadata::new(config, Arc::new(Rng::seeded(1)), Logger::none());
        assert_eq!(metadata.request_due(at(0)).unwrap().allow_auto_create, allow);
    }
}

#[test]
fn failures_put_everything_off_and_lose_nothing() {
    let metadata = started();
    metadata.try_topic("a", at(0));
    let mut now = 0;
    for expected in [100, 200, 400, 800, 1000, 1000] {
        let (due, topics) = next(&metadata, now + 1001).unwrap();
        assert_eq!(topics, ["a"]);
        now = due;
        metadata.on_failure(at(now), Error::new(13, "connection refused"));
        // A new topic is no reason to hammer a cluster that is down.
        let gap = metadata.next_due().since(at(now));
        metadata.try_topic("b", at(now));
        assert_eq!(metadata.next_due().since(at(now)), gap);
        let gap = gap.as_millis() as u64;
        assert!((expected * 79 / 100..=1000.min(expected * 121 / 100)).contains(&gap), "{gap}");
        assert!(metadata.last_error("a").unwrap().message.contains("refused"));
        metadata.touch("a", at(now));
        if expected == 100 {
            let (due, topics) = next(&metadata, now + 121).unwrap();
            assert_eq!(topics, ["a", "b"]);
            now = due;
            let answer = response(vec![topic("b", &[(1, 0)]), refusal("a", 5)]);
            metadata.on_response(&answer, at(now)).unwrap();
            metadata.on_failure(at(now), Error::new(13, "connection refused"));
        }
    }
}

#[test]
fn a_failed_question_for_the_brokers_alone_is_repeated() {
    let metadata = started();
    metadata.request_update();
    assert_eq!(next(&metadata, 200).unwrap().1, [""; 0]);
    metadata.on_failure(at(200), Error::new(13, "reset"));
    assert_eq!(next(&metadata, 400).expect("the same again").1, [""; 0]);
}

#[test]
fn refreshes_that_bring_nothing_new_do_not_slow_the_next_question() {
    let quick = MetadataConfig { max_age: Duration::from_secs(2), ..config() };
    let metadata = Metadata::new(quick, Arc::new(Rng::seeded(1)), Logger::none());
    let mut now = 0;
    for _ in 0..6 {
        (now, _) = next(&metadata, now + 2001).unwrap();
        metadata.on_response(&response(vec![]), at(now)).unwrap();
    }
    metadata.request_update();
    assert!(next(&metadata, now + 121).is_some(), "{:?}", metadata.next_due());
}

#[test]
fn everything_is_asked_for_when_it_is_old() {
    let metadata = knowing(vec![topic("b", &[(1, 0)]), topic("a", &[(1, 0)])]);
    let (before, version) = (known(&metadata, "a", at(200_000)), metadata.version());
    metadata.touch("b", at(200_000));
    assert_eq!(next(&metadata, 299_999), None);
    assert_eq!(next(&metadata, 300_000).unwrap(), (300_000, vec!["a".into(), "b".into()]));
    let answer = response(vec![topic("a", &[(1, 0)]), topic("b", &[(2, 1)])]);
    let changes = metadata.on_response(&answer, at(300_001)).unwrap();
    let changed: Vec<_> = changes.topics.iter().map(|topic| topic.name.to_string()).collect();
    assert_eq!((changed, changes.nodes), (vec!["b".into()], false));
    assert!(Arc::ptr_eq(&before, &known(&metadata, "a", at(300_001))), "shared");
    assert_eq!(metadata.version(), version + 1);
    assert_eq!(next(&metadata, 600_000), None);
    assert!(next(&metadata, 600_001).is_some());
}

#[test]
fn one_topic_is_asked_for_alone() {
    let metadata = knowing(vec![topic("a", &[(1, 0)]), topic("b", &[(1, 0)])]);
    metadata.request_update_of("b", at(1000));
    assert_eq!(names(metadata.request_due(at(1000))), ["b"]);
    metadata.request_update_of("b", at(1001));
    let changes = metadata.on_response(&response(vec![topic("b", &[(3, 1)])]), at(1002)).unwrap();
    assert_eq!(changes.topics.len(), 1);
    assert_eq!(metadata.snapshot().leader("b", 0).unwrap().id, 3);
    assert_eq!(metadata.snapshot().leader("a", 0).unwrap().id, 1, "left alone");
    let (due, topics) = next(&metadata, 1200).unwrap();
    assert_eq!(topics, ["b"], "the answer may be older than the second question");
    assert!(due >= 1080, "{due}");
    metadata.on_response(&response(vec![topic("b", &[(3, 1)])]), at(1200)).unwrap();
    metadata.request_update();
    assert_eq!(next(&metadata, 5000).unwrap().1, ["a", "b"]);
}

#[test]
fn a_topic_nobody_uses_is_forgotten_with_the_next_refresh() {
    let metadata = knowing(vec![topic("idle", &[(1, 0)]), topic("used", &[(1, 0)])]);
    metadata.touch("used", at(1000));
    assert!(metadata.snapshot().topic("idle").is_some());
    assert_eq!(next(&metadata, 300_000).unwrap().1, ["used"]);
    let changes = metadata.on_response(&response(vec![topic("used", &[(1, 0)])]), at(300_000));
    assert_eq!(changes.unwrap().removed, [Arc::from("idle")]);
    assert!(metadata.snapshot().topic("idle").is_none());
    known(&metadata, "used", at(300_000));
    assert!(is_pending(&metadata, "idle", at(300_001)));
    assert_eq!(names(metadata.request_due(at(300_001))), ["idle"], "asked for anew");
}

#[test]
fn a_topic_used_again_while_it_is_being_forgotten_stays() {
    let metadata = knowing(vec![topic("t", &[(1, 0)])]);
    assert_eq!(next(&metadata, 300_000).unwrap().1, [""; 0]);
    known(&metadata, "t", at(300_000));
    metadata.on_response(&response(vec![]), at(300_001)).unwrap();
    known(&metadata, "t", at(300_001));
    metadata.request_update();
    assert_eq!(next(&metadata, 301_000).unwrap().1, ["t"]);
}

#[test]
fn an_unknown_topic_that_nobody_waits_for_is_given_up() {
    let metadata = started();
    metadata.try_topic("t", at(0));
    let mut asked = 0;
    let mut last = 0;
    while let Some((due, topics)) = next(&metadata, 299_000) {
        assert_eq!(topics, ["t"]);
        asked += 1;
        last = due;
        metadata.on_response(&response(vec![refusal("t", 3)]), at(due)).unwrap();
        if metadata.next_due() > at(61_000) && metadata.next_due() < at(299_000) {
            assert_eq!(metadata.request_due(metadata.next_due()), None);
            break;
        }
    }
    assert!((55..100).contains(&asked), "{asked}");
    assert!((59_000..=61_000).contains(&last), "{last}");
    assert_eq!(next(&metadata, 299_000), None, "silence");
    assert!(is_pending(&metadata, "t", at(299_000)));
    assert_eq!(names(metadata.request_due(at(299_000))), ["t"]);
}

#[test]
fn a_partition_without_a_leader_is_asked_about_while_somebody_sends() {
    let metadata = knowing(vec![topic("t", &[(1, 0), (-1, 1)])]);
    for time in [200, 1000] {
        assert_eq!(next(&metadata, time).unwrap().1, ["t"]);
        metadata.on_response(&response(vec![topic("t", &[(1, 0), (-1, 1)])]), at(time)).unwrap();
    }
    assert_eq!(next(&metadata, 100_000), None, "nobody has sent since");
    metadata.touch("t", at(100_000));
    metadata.request_update_of("t", at(100_000));
    metadata.request_due(at(100_000)).unwrap();
    metadata.on_response(&response(vec![topic("t", &[(1, 0), (-1, 1)])]), at(100_001)).unwrap();
    assert_eq!(next(&metadata, 101_500).unwrap().1, ["t"]);
    metadata.on_response(&response(vec![topic("t", &[(1, 0), (3, 2)])]), at(101_500)).unwrap();
    assert_eq!(next(&metadata, 200_000), None, "all have leaders");
    assert_eq!(known(&metadata, "t", at(101_500)).available(), 2);
}

#[test]
fn a_caller_may_ask_anew_and_sees_when_the_answer_is_there() {
    let metadata = knowing(vec![topic("t", &[(1, 0)])]);
    let wanted = metadata.refresh("t", at(1000));
    assert!(metadata.answers() < wanted);
    metadata.request_due(at(1000)).unwrap();
    let later = metadata.refresh("t", at(1001));
    metadata.on_response(&response(vec![topic("t", &[(1, 0), (1, 0)])]), at(1002)).unwrap();
    assert!(metadata.answers() >= wanted);
    assert!(metadata.answers() < later, "that answer may be older than the question");
    assert!(next(&metadata, 2000).is_some());
    metadata.on_failure(at(2000), Error::new(13, "reset"));
    assert!(metadata.answers() >= later, "a failure is an answer too");
}

#[test]
fn a_lost_connection_asks_for_everything_and_is_remembered() {
    let metadata = knowing(vec![topic("t", &[(1, 0)])]);
    let generation = metadata.signal().generation();
    metadata.disconnected(Error::new(13, "b1:9092: connection reset"));
    assert_eq!(metadata.signal().generation(), generation + 1);
    assert!(metadata.last_error("u").unwrap().message.contains("reset"));
    assert_eq!(next(&metadata, 200).unwrap().1, ["t"]);
}

/// How many requests go out in `seconds`, with somebody asking for everything every millisecond and
/// answers from a cluster that changes every `changes_every` ms.
fn storm(config: MetadataConfig, seconds: u64, changes_every: u64) -> u64 {
    let metadata = Metadata::new(config, Arc::new(Rng::seeded(4)), Logger::none());
    metadata.try_topic("t", at(0));
    let mut requests = 0;
    for time in 0..seconds * 1000 {
        metadata.request_update();
        metadata.request_update_of("t", at(time));
        if metadata.request_due(at(time)).is_some() {
            requests += 1;
            let epoch = i32::try_from(time / changes_every).unwrap();
            metadata.on_response(&response(vec![topic("t", &[(1, epoch)])]), at(time)).unwrap();
        }
    }
    requests
}

#[test]
fn requests_never_storm() {
    let rolling = storm(config(), 60, 1);
    assert!((400..=720).contains(&rolling), "10 a second while leaders move: {rolling}");
    let quiet = storm(config(), 60, 1_000_000);
    assert!((55..=90).contains(&quiet), "1 a second when nothing moves: {quiet}");
    let eager = MetadataConfig {
        max_age: Duration::ZERO,
        retry_backoff: Duration::ZERO,
        retry_backoff_max: Duration::ZERO,
        ..config()
    };
    assert!(storm(eager, 10, 1) <= 1001, "zeros don't make it spin");
}

#[test]
fn an_idle_producer_asks_once_per_max_age() {
    let metadata = metadata();
    let mut asked = Vec::new();
    while let Some((due, topics)) = next(&metadata, 1_000_000) {
        assert_eq!(topics, [""; 0]);
        asked.push(due);
        metadata.on_response(&response(vec![]), at(due)).unwrap();
    }
    assert_eq!(asked, [0, 300_000, 600_000, 900_000]);
}

#[test]
fn durations_at_their_borders_overflow_nothing() {
    let longest = Duration::from_millis(i64::MAX as u64);
    let config = MetadataConfig {
        max_age: longest,
        max_idle: longest,
        retry_backoff: longest,
        retry_backoff_max: longest,
        request_timeout: longest,
        allow_auto_create_topics: true,
    };
    let metadata = Metadata::new(config, Arc::new(Rng::seeded(1)), Logger::none());
    metadata.request_due(at(0)).unwrap();
    metadata.on_response(&response(vec![]), at(0)).unwrap();
    assert!(metadata.next_due() > at(1 << 40));
    metadata.try_topic("t", at(0));
    metadata.request_due(at(0)).unwrap();
    metadata.on_failure(Instant(u64::MAX - 1), Error::new(13, "x"));
    assert_eq!(metadata.next_due(), Instant::NEVER);
}

#[test]
fn callers_wait_while_the_network_thread_answers() {
    let metadata = Arc::new(metadata());
    let clock = crate::clock::Clock::system();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..4)
            .map(|i| {
                let (metadata, clock) = (metadata.clone(), clock.clone());
                scope.spawn(move || {
                    let name = format!("t{}", i % 2);
                    let deadline = clock.now().after(Duration::from_secs(20));
                    loop {
                        let seen = metadata.signal().generation();
                        if let TopicState::Known(topic) = metadata.try_topic(&name, clock.now()) {
                            return topic.partitions.len();
                        }
                        assert!(metadata.signal().wait(seen, &clock, deadline), "timed out");
                    }
                })
            })
            .collect();
        while waiting.iter().any(|waiter| !waiter.is_finished()) {
            if let Some(spec) = metadata.request_due(clock.now()) {
                let topics = spec.topics.iter().map(|name| topic(name, &[(1, 0), (2, 0)]));
                metadata.on_response(&response(topics.collect()), clock.now()).unwrap();
            }
            std::thread::yield_now();
        }
        for waiter in waiting {
            assert_eq!(waiter.join().unwrap(), 2);
        }
    });
}
