//! What answers and Produce responses change, and what callers see of it.

use super::*;

#[test]
fn a_topic_without_a_leader_yet_is_asked_for_again() {
    let metadata = started();
    metadata.try_topic("t", at(0));
    metadata.request_due(at(0)).unwrap();
    for code in [5, 0, 100, -1] {
        metadata.on_response(&response(vec![refusal("t", code)]), at(0)).unwrap();
        assert!(is_pending(&metadata, "t", at(0)), "{code}");
        assert!(metadata.last_error("t").unwrap().is_retriable());
        assert_eq!(metadata.request_due(at(2000)).unwrap().topics.len(), 1, "{code}");
    }
}

#[test]
fn a_refused_topic_fails_for_a_while_and_is_then_asked_for_again() {
    let longest = "x".repeat(249);
    for (name, code, says) in [
        ("t", 29, "not authorized for topic \"t\": grant"),
        ("t", 17, "refuses the topic name \"t\""),
        (&*longest, 29, "xxx...\": grant"),
        (&*longest, 17, "xxx...\": use another"),
    ] {
        let metadata = started();
        metadata.try_topic(name, at(0));
        metadata.request_due(at(0)).unwrap();
        metadata.on_response(&response(vec![refusal(name, code)]), at(10)).unwrap();
        for time in [10, 500, 1009] {
            let error = failed(&metadata, name, at(time));
            assert_eq!((error.status, error.is_retriable()), (code.into(), false));
            assert!(error.message.contains(says), "{error}");
        }
        assert_eq!(metadata.request_due(at(1009)), None);
        assert!(is_pending(&metadata, name, at(1010)), "the refusal is old");
        assert_eq!(names(metadata.request_due(at(1010))), [name]);
        metadata.on_response(&response(vec![topic(name, &[(1, 0)])]), at(1011)).unwrap();
        known(&metadata, name, at(1011));
    }
}

#[test]
fn an_answer_without_brokers_or_with_an_error_changes_nothing() {
    let metadata = knowing(vec![topic("t", &[(1, 0)])]);
    let (version, snapshot) = (metadata.version(), metadata.snapshot());
    let rebootstrap =
        MetadataResponse { error_code: crate::protocol::api::ErrorCode(129), ..response(vec![]) };
    let nobody = MetadataResponse { brokers: vec![], ..response(vec![]) };
    let mut no_port = response(vec![topic("t", &[(2, 9)])]);
    for broker in &mut no_port.brokers {
        broker.port = 65_536;
    }
    for (bad, status, now) in
        [(rebootstrap, 129, 5000), (nobody, -117, 10_000), (no_port, -117, 15_000)]
    {
        metadata.request_update();
        assert!(next(&metadata, now).is_some());
        let error = metadata.on_response(&bad, at(now)).unwrap_err();
        assert_eq!((error.status, error.is_retriable()), (status, true));
        assert_eq!((metadata.version(), metadata.snapshot()), (version, snapshot.clone()));
        assert_eq!(metadata.last_error("t"), Some(error), "the cause, for who gives up");
        metadata.on_response(&response(vec![topic("t", &[(1, 0)])]), at(now)).unwrap();
        assert_eq!(metadata.last_error("t"), None);
    }
}

#[test]
fn a_known_topic_survives_errors_for_a_while() {
    let metadata = knowing(vec![topic("t", &[(1, 0), (2, 0)])]);
    let before = known(&metadata, "t", at(0));
    // A broker that has just started denies it, then knows it again: the clock starts over.
    for (now, answer) in [
        (20_000, refusal("t", 3)),
        (40_000, topic("t", &[(1, 0), (2, 0)])),
        (60_000, refusal("t", 3)),
        (75_000, refusal("t", 5)),
        (77_000, refusal("t", 29)),
        (79_000, refusal("t", 17)),
        (89_999, refusal("t", 3)),
    ] {
        metadata.request_update_of("t", at(now));
        metadata.request_due(at(now)).unwrap_or_else(|| panic!("{now}"));
        let changes = metadata.on_response(&response(vec![answer]), at(now)).unwrap();
        assert!(changes.topics.is_empty() && changes.removed.is_empty());
        assert!(Arc::ptr_eq(&before, &known(&metadata, "t", at(now))), "{now}");
        metadata.on_response(&response(vec![]), at(now)).unwrap();
    }
    metadata.request_update_of("t", at(92_000));
    metadata.request_due(at(92_000)).unwrap();
    let changes = metadata.on_response(&response(vec![refusal("t", 3)]), at(92_000)).unwrap();
    assert_eq!(changes.removed, [Arc::from("t")]);
    assert!(is_pending(&metadata, "t", at(92_000)));
    assert_eq!(metadata.last_error("t").unwrap().status, 3);
}

#[test]
fn a_topic_without_an_id_shrinks_only_after_a_while() {
    let without_id = |partitions: &[(i32, i32)]| MetadataResponseTopic {
        topic_id: [0; 16],
        ..topic("t", partitions)
    };
    let metadata = knowing(vec![without_id(&[(1, 5), (2, 5)])]);
    let ask = |now, answer| {
        metadata.request_update_of("t", at(now));
        metadata.request_due(at(now)).unwrap();
        metadata.on_response(&response(vec![answer]), at(now)).unwrap();
        known(&metadata, "t", at(now)).partitions.len()
    };
    assert_eq!(ask(10_000, without_id(&[(1, 5)])), 2);
    assert_eq!(ask(30_000, without_id(&[(1, 5), (2, 5)])), 2);
    assert_eq!(ask(50_000, without_id(&[(1, 5)])), 2);
    assert_eq!(ask(79_999, without_id(&[(1, 5)])), 2);
    assert_eq!(ask(83_000, without_id(&[(1, 5)])), 1);
    assert_eq!(ask(90_000, topic("t", &[(1, 5), (2, 5)])), 2);
    assert_eq!(ask(100_000, topic("t", &[(1, 5)])), 2);
    assert_eq!(ask(200_000, topic("t", &[(1, 5)])), 2, "with an id it can't shrink");
}

#[test]
fn a_recreated_topic_starts_over() {
    let metadata = knowing(vec![topic("t", &[(1, 9), (1, 9), (1, 9)])]);
    let again = MetadataResponseTopic { topic_id: [8; 16], ..topic("t", &[(2, 0)]) };
    metadata.request_update();
    metadata.request_due(at(5000)).unwrap();
    metadata.on_response(&response(vec![again]), at(5000)).unwrap();
    let known = known(&metadata, "t", at(5000));
    assert_eq!((known.id, known.partitions.len()), ([8; 16], 1));
    assert_eq!((known.partitions[0].leader, known.partitions[0].leader_epoch), (2, 0));
}

#[test]
fn an_answer_that_says_the_same_makes_no_snapshot() {
    let metadata = knowing(vec![topic("t", &[(1, 3)])]);
    let (version, snapshot) = (metadata.version(), metadata.snapshot());
    metadata.request_update();
    metadata.request_due(at(1000)).unwrap();
    let mut same = response(vec![topic("t", &[(2, 2)])]);
    same.brokers.reverse();
    let changes = metadata.on_response(&same, at(1000)).unwrap();
    assert!(changes.topics.is_empty() && changes.removed.is_empty() && !changes.nodes);
    assert_eq!(metadata.version(), version);
    assert!(Arc::ptr_eq(&snapshot, &metadata.snapshot()));
}

#[test]
fn topics_that_nobody_asked_for_are_ignored() {
    let metadata = started();
    let flood = (0..100).map(|i| topic(&format!("t{i}"), &[(1, 0)])).collect();
    metadata.on_response(&response(flood), at(0)).unwrap();
    assert_eq!(metadata.snapshot().topics().count(), 0);
    let nameless = MetadataResponseTopic { name: None, ..topic("t", &[(1, 0)]) };
    metadata.on_response(&response(vec![nameless]), at(0)).unwrap();
    assert_eq!(metadata.snapshot().topics().count(), 0);
}

#[test]
fn brokers_are_replaced_and_found_by_id() {
    let metadata = started();
    assert_eq!(metadata.snapshot().node(2).unwrap().port, 9092);
    let mut answer = response(vec![]);
    answer.brokers.remove(0);
    answer.brokers.push(MetadataResponseBroker {
        node_id: 0,
        host: "new".into(),
        port: 1,
        rack: Some("r".into()),
    });
    answer
        .brokers
        .push(MetadataResponseBroker { host: "twice".into(), ..answer.brokers[2].clone() });
    answer.brokers.push(MetadataResponseBroker { node_id: -5, ..answer.brokers[2].clone() });
    answer.controller_id = 2;
    let changes = metadata.on_response(&answer, at(1)).unwrap();
    assert!(changes.nodes);
    let snapshot = metadata.snapshot();
    let ids: Vec<_> = snapshot.nodes.iter().map(|node| node.id).collect();
    assert_eq!((ids, snapshot.controller), (vec![0, 2, 3], 2));
    assert_eq!(snapshot.node(0).unwrap().host.as_ref(), "new");
    assert_eq!(snapshot.node(0).unwrap().rack.as_deref(), Some("r"));
    assert_eq!((snapshot.node(1), snapshot.node(i32::MIN)), (None, None));
}

#[test]
fn a_leader_named_by_a_produce_response_is_taken_if_it_is_newer() {
    let metadata = knowing(vec![topic("t", &[(1, 5), (1, 5), (-1, 5)]), topic("u", &[(1, 0)])]);
    let (version, other) = (metadata.version(), known(&metadata, "u", at(0)));
    let update = |partition, leader, leader_epoch| LeaderUpdate {
        topic: "t",
        partition,
        leader,
        leader_epoch,
    };
    let ignored = [
        update(0, 2, 5),
        update(0, 2, 4),
        update(0, 2, -1),
        update(0, 9, 6),
        update(3, 2, 6),
        update(-1, 2, 6),
        LeaderUpdate { topic: "other", ..update(0, 2, 6) },
    ];
    let changes = metadata.update_leaders(&ignored, &[]);
    assert!(changes.topics.is_empty() && !changes.nodes);
    assert_eq!(metadata.version(), version);

    let nine = Node { id: 9, host: "b9".into(), port: 9, rack: None };
    let moved = Node { id: 2, host: "b2.moved".into(), port: 9092, rack: None };
    let unused = Node { id: 7, host: "b7".into(), port: 7, rack: None };
    let changes = metadata.update_leaders(
        &[update(0, 2, 6), update(0, 3, 6), update(1, 9, 7), update(2, 3, 6)],
        &[nine, moved, unused],
    );
    assert_eq!((changes.topics.len(), changes.nodes), (1, true));
    assert_eq!(metadata.version(), version + 1, "one snapshot for all");
    let snapshot = metadata.snapshot();
    assert_eq!(snapshot.leader("t", 0).unwrap().host.as_ref(), "b2.moved");
    assert_eq!(snapshot.leader("t", 1).unwrap().host.as_ref(), "b9");
    assert_eq!(snapshot.topic("t").unwrap().available(), 3);
    assert_eq!(snapshot.node(7), None, "nobody it leads for");
    assert!(Arc::ptr_eq(&other, snapshot.topic("u").unwrap()));
    // And the bar is raised for answers from brokers that lag.
    metadata.on_response(&response(vec![topic("t", &[(1, 5), (1, 6), (3, 6)])]), at(1)).unwrap();
    let leaders: Vec<_> = known(&metadata, "t", at(1))
        .partitions
        .iter()
        .map(|p| (p.leader, p.leader_epoch))
        .collect();
    assert_eq!(leaders, [(2, 6), (9, 7), (3, 6)]);
    assert_eq!(metadata.snapshot().leader("t", 1), None, "the brokers no longer name node 9");
}

#[test]
fn who_waits_is_told_when_nothing_can_be_asked() {
    let metadata = knowing(vec![topic("t", &[(1, 0)])]);
    assert!(is_pending(&metadata, "u", at(0)));
    metadata.fail_all(Error::new(-116, "wrong password"));
    assert_eq!(failed(&metadata, "u", at(1)).status, -116);
    assert_eq!(failed(&metadata, "v", at(1)).status, -116);
    known(&metadata, "t", at(1));
    metadata.on_response(&response(vec![]), at(2)).unwrap();
    assert!(is_pending(&metadata, "u", at(2)), "it was put right");
}

struct Lines(Mutex<Vec<(Level, String)>>);

impl crate::log::LogSink for Lines {
    fn log(&self, level: Level, target: &'static str, message: String) {
        assert_eq!(target, "metadata");
        lock(&self.0).push((level, message));
    }
}

#[test]
fn trouble_is_logged_when_it_starts() {
    let lines = Arc::new(Lines(Mutex::default()));
    let logger = Logger::new(Level::Debug, lines.clone());
    let metadata = Metadata::new(config(), Arc::new(Rng::seeded(1)), logger);
    metadata.try_topic("t", at(0));
    for _ in 0..3 {
        metadata.on_response(&response(vec![refusal("t", 3)]), at(0)).unwrap();
    }
    metadata.on_response(&response(vec![refusal("t", 29)]), at(0)).unwrap();
    let moved = MetadataResponse { cluster_id: Some("d".into()), ..response(vec![]) };
    metadata.on_response(&moved, at(0)).unwrap();
    metadata.on_response(&moved, at(0)).unwrap();
    metadata.on_response(&MetadataResponse::default(), at(0)).unwrap_err();
    let lines = lock(&lines.0);
    let parts =
        ["\"t\" does not exist", "not authorized", "was c and is now d", "names no brokers"];
    assert_eq!(lines.len(), parts.len(), "{lines:?}");
    for ((level, line), part) in lines.iter().zip(parts) {
        assert!(*level == Level::Warning && line.contains(part), "{line}");
    }
}
