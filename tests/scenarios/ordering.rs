//! Order and retries: what is sent again comes before what is newer, goes to who leads now, and
//! holds up nobody else.

use crate::produce::{
    LONG, PRODUCE, assert_order, assert_settled, cluster, eventually, producer, timed, to,
};
use crate::proxied::proxied;
use crate::{QUICK, Until};
use kafka_producer::mock::CUT_AFTER_WRITE;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn numbered(tag: u64) -> [u8; 8] {
    tag.to_be_bytes()
}

#[test]
fn s30_a_retry_stays_before_newer_batches() {
    for idempotent in ["true", "false"] {
        retries_stay_before_newer_batches(idempotent);
    }
}

fn retries_stay_before_newer_batches(idempotent: &str) {
    let cluster = cluster(1, 1);
    let settings = [
        QUICK,
        &[
            ("batch.size", "100"),
            ("retry.backoff.ms", "30"),
            ("enable.idempotence", idempotent),
            ("acks", "all"),
        ],
    ]
    .concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    let mut tag = 0;
    let in_doubt: &[i16] = if idempotent == "true" { &[7, 20, CUT_AFTER_WRITE] } else { &[] };
    for codes in [&[6_i16][..], &[19, 19], &[19], in_doubt, &[3, 19, 5], &[13, 13]] {
        cluster.push_errors(PRODUCE, codes).unwrap();
        let sent = cluster.request_count(0, PRODUCE);
        for number in 0..60 {
            producer.send(&to(0, &numbered(tag), tag)).unwrap();
            tag += 1;
            if number == 0 {
                // The rest is queued behind a batch that is refused.
                eventually("a request", || cluster.request_count(0, PRODUCE) > sent);
            }
        }
        producer.flush(LONG).unwrap();
    }
    assert_eq!(assert_order(&cluster, 1, &outcomes), (0..tag).collect::<Vec<_>>());
    assert_settled(&producer);
}

/// From Produce v10 on a broker that leads no more says who does; before it must be asked for.
const WITH_AND_WITHOUT_HINTS: [i16; 2] = [13, 9];

#[test]
fn s31_leaders_that_move_while_batches_linger() {
    for version in WITH_AND_WITHOUT_HINTS {
        leaders_move_while_batches_linger(version);
    }
}

fn leaders_move_while_batches_linger(version: i16) {
    let cluster = cluster(2, 2);
    cluster.set_api_versions(PRODUCE, 0, version).unwrap();
    let settings = [QUICK, &[("linger.ms", "3")]].concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    let mut tag = 0;
    for round in 0..60 {
        let old = 1 + round % 2;
        for partition in 0..2 {
            cluster.set_leader("t", partition, old).unwrap();
        }
        for _ in 0..10 {
            producer.send(&to((tag % 2) as i32, &numbered(tag), tag)).unwrap();
            tag += 1;
        }
        // The linger ends about when the leaders move.
        crate::produce::let_pass(Duration::from_micros(2000 + 100 * round as u64 % 2000));
        let before = cluster.request_count(old, PRODUCE);
        for partition in 0..2 {
            cluster.set_leader("t", partition, 3 - old).unwrap();
        }
        producer.flush(LONG).unwrap();
        // What was under way, and what was in flight when the first refusal came: no more.
        let wrong = cluster.request_count(old, PRODUCE) - before;
        assert!(wrong <= 5, "round {round}: {wrong} requests to the old leader");
    }
    let mut tags = assert_order(&cluster, 2, &outcomes);
    tags.sort_unstable();
    assert_eq!(tags, (0..tag).collect::<Vec<_>>());
    assert_settled(&producer);
}

/// The old leader is dead, the retry backs off for long, and then another one leads.
#[test]
fn s32_a_scheduled_retry_goes_to_the_new_leader_at_once() {
    // The pause after the seventh refusal is 3.2 s, give or take a fifth; it doubles with each.
    // A busy machine needs the longer ones.
    let late: Vec<Duration> = [(7, 2400), (8, 4800), (9, 9600)]
        .into_iter()
        .map(|(refusals, pause_ms)| {
            time_to_the_new_leader(refusals).saturating_sub(Duration::from_millis(pause_ms))
        })
        .take_while(|late| !late.is_zero())
        .collect();
    assert!(late.len() < 3, "so long after the pause's end: {late:?}");
}

/// How long a batch that was refused so often takes when another broker leads.
fn time_to_the_new_leader(refusals: usize) -> Duration {
    let cluster = cluster(2, 1);
    let (leader, _) = cluster.leader("t", 0).unwrap();
    let settings = [
        ("linger.ms", "0"),
        ("retry.backoff.ms", "100"),
        ("retry.backoff.max.ms", "20000"),
        ("reconnect.backoff.ms", "10"),
        ("reconnect.backoff.max.ms", "50"),
    ];
    let (producer, outcomes) = producer(&cluster, &settings);
    producer.send(&to(0, &numbered(0), 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.push_partition_errors("t", 0, &vec![19; refusals]).unwrap();
    producer.send(&to(0, &numbered(1), 1)).unwrap();
    let before = 1;
    eventually("refusals", || cluster.request_count(leader, PRODUCE) >= before + refusals as u64);
    // In this order: who asks because the leader is gone learns of the new one.
    cluster.set_leader("t", 0, 3 - leader).unwrap();
    cluster.set_broker(leader, false, false, 0, 0).unwrap();
    let (_, took) = timed(|| outcomes.wait_for(2));
    assert_eq!(assert_order(&cluster, 1, &outcomes), [0, 1]);
    took
}

/// Many queued batches and a leader that keeps leaving: each return costs what is in flight, not
/// all that is queued.
#[test]
fn s35_a_bouncing_leader_with_a_long_queue() {
    const RECORDS: u64 = 200_000;
    let cluster = cluster(2, 1);
    let settings = [QUICK, &[("batch.size", "4096"), ("max.request.size", "65536")]].concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    producer.send(&to(0, &numbered(0), 0)).unwrap();
    producer.flush(LONG).unwrap();
    for node in 1..=2 {
        cluster.set_broker(node, true, true, 0, 0).unwrap();
    }
    for tag in 1..RECORDS {
        producer.send(&to(0, &numbered(tag), tag)).unwrap();
    }
    for node in 1..=2 {
        cluster.set_broker(node, true, false, 0, 0).unwrap();
    }
    let before = cluster.request_count(0, PRODUCE);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200 {
                if done.load(Ordering::Acquire) {
                    break;
                }
                cluster.set_leader("t", 0, 1 + round % 2).unwrap();
                let reached = cluster.end_offset("t", 0);
                eventually("progress", || {
                    cluster.end_offset("t", 0) > reached || done.load(Ordering::Acquire)
                });
            }
        });
        let _until = Until(&done);
        producer.flush(LONG).unwrap();
    });
    let requests = cluster.request_count(0, PRODUCE) - before;
    let batches = cluster.batches("t", 0).len() as u64;
    // A refusal per move and request in flight; 200 moves at most.
    assert!(requests <= batches + 5 * 200, "{requests} requests for {batches} batches");
    assert_eq!(assert_order(&cluster, 1, &outcomes).len() as u64, RECORDS);
    assert_settled(&producer);
}

#[test]
fn s36_a_refused_batch_whose_partition_moves_counts_once() {
    let cluster = cluster(3, 2);
    let (producer, outcomes) = producer(&cluster, QUICK);
    let mut tag = 0;
    for round in 0..80_i32 {
        let node = 1 + round % 3;
        cluster.push_partition_errors("t", 0, &[[6, 7, 19, 5][round as usize % 4]]).unwrap();
        for _ in 0..10 {
            producer.send(&to((tag % 2) as i32, &numbered(tag), tag)).unwrap();
            tag += 1;
        }
        cluster.set_leader("t", 0, node).unwrap();
        if round % 5 == 0 {
            cluster.disconnect(node).unwrap();
        }
    }
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len() as u64, tag);
    let mut tags = assert_order(&cluster, 2, &outcomes);
    tags.sort_unstable();
    assert_eq!(tags.len() as u64, tag, "nothing is lost");
    // Each partition still has its turns.
    for partition in 0..2 {
        producer.send_sync(&to(partition, &numbered(tag), tag), LONG).unwrap();
    }
    assert_settled(&producer);
}

/// Partitions of one node that always have more than a request takes, and one that has a record
/// now and then; and another node. A turn comes within as many requests as there are partitions.
#[test]
fn s37_who_always_has_more_does_not_starve_others() {
    const BUSY: i32 = 12;
    let cluster = cluster(2, BUSY + 2);
    let (quiet, elsewhere) = (BUSY, BUSY + 1);
    for partition in 0..=BUSY {
        cluster.set_leader("t", partition, 1).unwrap();
    }
    cluster.set_leader("t", elsewhere, 2).unwrap();
    // Two batches fill a request.
    let settings = [
        ("linger.ms", "0"),
        ("batch.size", "16384"),
        ("max.request.size", "33000"),
        ("buffer.memory", "4000000"),
    ];
    let (producer, outcomes) = producer(&cluster, &settings);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..2_i32 {
            let (producer, done) = (&producer, &done);
            scope.spawn(move || {
                let value = [7; 2000];
                for number in 0_u64.. {
                    if done.load(Ordering::Acquire) {
                        return;
                    }
                    let partition = (number as i32 * 2 + thread) % BUSY;
                    let tag = (1 + thread as u64) << 32 | number;
                    producer.send(&to(partition, &value, tag)).unwrap();
                }
            });
        }
        let _until = Until(&done);
        eventually("they are busy", || cluster.request_count(1, PRODUCE) > 50);
        let mut turns = Vec::new();
        for round in 0..20 {
            for partition in [quiet, elsewhere] {
                let end = cluster.end_offset("t", partition);
                let before = cluster.request_count(1, PRODUCE);
                producer
                    .send(&to(partition, &numbered(round), round * 2 + (partition == quiet) as u64))
                    .unwrap();
                eventually("its turn", || cluster.end_offset("t", partition) > end);
                turns.push(cluster.request_count(1, PRODUCE) - before);
            }
        }
        // Those in flight, a round of all partitions by twos, and what passes while we look: on a
        // busy machine that is much now and then.
        turns.sort_unstable();
        let most = turns[turns.len() / 2];
        assert!(most <= 200, "requests before their turn: {turns:?}");
    });
    producer.flush(LONG).unwrap();
    assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
    assert_settled(&producer);
}

/// A sample of the many that run nightly, through a proxy that breaks connections meanwhile.
#[test]
fn s33_order_over_connections_that_break_under_load() {
    const RECORDS: u64 = 60_000;
    let behind = proxied(3, 6);
    let settings = [QUICK, &[("linger.ms", "1"), ("batch.size", "4096")]].concat();
    let (producer, outcomes) = behind.producer(&settings);
    thread::scope(|scope| {
        for thread in 0..2_u64 {
            let producer = &producer;
            scope.spawn(move || {
                for number in 0..RECORDS / 2 {
                    let tag = number * 2 + thread;
                    producer.send(&to((tag % 6) as i32, &numbered(tag), tag)).unwrap();
                }
            });
        }
        for round in 0_u64..12 {
            let node = 1 + round % 3;
            match round % 4 {
                0 => behind.command(&format!("reset {node}")),
                1 => behind.command(&format!("cut {node} up {} reset once", 1000 + 377 * round)),
                2 => behind.command(&format!("cut {node} down {} close once", round)),
                _ => behind.command(&format!("close {node}")),
            };
            let seen = outcomes.get().len();
            eventually("progress", || {
                outcomes.get().len() > seen || outcomes.get().len() as u64 == RECORDS
            });
        }
    });
    producer.flush(LONG).unwrap();
    assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
    let tags = assert_order(&behind.cluster, 6, &outcomes);
    assert_eq!(tags.len() as u64, RECORDS);
    assert_settled(&producer);
}
