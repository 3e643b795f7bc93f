//! Metadata that is not true: what brokers say while they have not heard the news, and what that
//! must not make anybody forget.

use crate::metadata::assert_flows;
use crate::produce::{
    LONG, METADATA, PRODUCE, assert_settled, cluster, eventually, let_pass, producer, record, to,
};
use crate::{QUICK, of};
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::Producer;
use kafka_producer::protocol::ErrorCode;
use kafka_producer::protocol::messages::metadata::{MetadataResponse, MetadataResponseTopic};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Makes an answer untrue.
type Lie = fn(&mut MetadataResponse);

/// How often a cluster has lied, and may.
#[derive(Default)]
struct Told {
    so_far: AtomicU64,
    at_most: AtomicU64,
}

impl Told {
    fn so_far(&self) -> u64 {
        self.so_far.load(Ordering::Acquire)
    }

    fn no_more(&self) {
        self.at_most.store(0, Ordering::Release);
    }
}

/// The next answers, up to `times`, are untrue in this way.
fn tell(
    cluster: &MockCluster,
    times: u64,
    mut lie: impl FnMut(&mut MetadataResponse) + Send + 'static,
) -> Arc<Told> {
    let told = Arc::new(Told { at_most: AtomicU64::new(times), ..Told::default() });
    let counts = Arc::clone(&told);
    cluster.twist_metadata(move |_, answer| {
        // Questions that are not about the topics make no difference.
        let asked = answer.topics.iter().any(|topic| topic.name.as_deref() == Some("t"));
        if asked && counts.so_far() < counts.at_most.load(Ordering::Acquire) {
            lie(answer);
            counts.so_far.fetch_add(1, Ordering::AcqRel);
        }
    });
    told
}

fn topic<'a>(answer: &'a mut MetadataResponse, name: &str) -> &'a mut MetadataResponseTopic {
    answer.topics.iter_mut().find(|topic| topic.name.as_deref() == Some(name)).unwrap()
}

/// Leaders and their epochs, as the producer knows them.
fn known(producer: &Producer, topic: &str) -> Vec<(i32, i32)> {
    let infos = producer.partitions_for(topic, LONG).unwrap();
    infos.iter().map(|info| (info.leader, info.leader_epoch)).collect()
}

fn without_leader(answer: &mut MetadataResponse, code: ErrorCode) {
    let partition = topic(answer, "t").partitions.iter_mut().find(|p| p.partition_index == 0);
    let partition = partition.unwrap();
    (partition.leader_id, partition.error_code) = (-1, code);
}

/// The ways in which an answer may lack partition 0, which broker 1 leads.
const ABSENCES: [(&str, Lie); 5] = [
    ("left out", |answer| topic(answer, "t").partitions.retain(|p| p.partition_index != 0)),
    ("no leader", |answer| without_leader(answer, ErrorCode::LEADER_NOT_AVAILABLE)),
    ("no leader, and no error", |answer| without_leader(answer, ErrorCode::NONE)),
    ("its leader is not there", |answer| answer.brokers.retain(|broker| broker.node_id != 1)),
    ("no partitions", |answer| topic(answer, "t").partitions.clear()),
];

/// It is gone once, or a few times, and back with the same leader under the same epoch: nothing in
/// the answer has changed since before, and what waited is sent all the same, at once.
#[test]
fn s38_a_partition_that_is_gone_once_and_back_with_the_same_leader() {
    // With topic ids, and without: then a topic may have shrunk.
    for version in [13, 9] {
        for (what, absence) in ABSENCES {
            for times in [1, 4] {
                let cluster = cluster(2, 2);
                for partition in 0..2 {
                    cluster.set_leader("t", partition, 1 + partition).unwrap();
                }
                cluster.set_api_versions(METADATA, 0, version).unwrap();
                // Nobody asks because of the time.
                let settings = [QUICK, &[("metadata.max.age.ms", "300000")]].concat();
                let (producer, outcomes) = producer(&cluster, &settings);
                let mut tag = 0;
                assert_flows(&producer, &outcomes, 2, &mut tag);
                let before = known(&producer, "t");
                let told = tell(&cluster, times, absence);
                cluster.disconnect(2).unwrap();
                eventually("it is gone for a while", || {
                    for partition in 0..2 {
                        producer.send(&to(partition, &tag.to_be_bytes(), tag)).unwrap();
                        tag += 1;
                    }
                    let_pass(Duration::from_millis(1));
                    told.so_far() == times
                });
                let asked = cluster.request_count(0, METADATA);
                assert_flows(&producer, &outcomes, 2, &mut tag);
                eventually("all is known again", || known(&producer, "t") == before);
                let asked = cluster.request_count(0, METADATA) - asked;
                // The next answer is true; another may have been on its way.
                assert!(asked <= 3, "v{version}, {what}, {times} times: asked {asked} times");
                assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
                assert_settled(&producer);
            }
        }
    }
}

/// Brokers that lag name the old leader under its old epoch, again and again: nobody goes back to
/// it. A newer epoch is followed at once.
#[test]
fn s39_an_older_leader_epoch_is_never_followed() {
    let cluster = cluster(3, 1);
    let settings = [QUICK, &[("metadata.max.age.ms", "20")]].concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    let mut tag = 0;
    for leader in [1, 2, 1, 2] {
        cluster.set_leader("t", 0, leader).unwrap();
        assert_flows(&producer, &outcomes, 1, &mut tag);
    }
    let now = cluster.leader("t", 0).unwrap();
    eventually("it is known", || known(&producer, "t") == [now]);
    let mut by = 0;
    let told = tell(&cluster, u64::MAX, move |answer| {
        let partition = &mut topic(answer, "t").partitions[0];
        by = by % 3 + 1;
        (partition.leader_id, partition.leader_epoch) = (1 + by % 2 * 2, now.1 - by);
    });
    let to_others = || cluster.request_count(1, PRODUCE) + cluster.request_count(3, PRODUCE);
    let before = to_others();
    while told.so_far() < 30 {
        assert_flows(&producer, &outcomes, 1, &mut tag);
        assert_eq!(known(&producer, "t"), [now], "after {} answers", told.so_far());
    }
    assert_eq!(to_others(), before, "the old leaders get nothing");
    told.no_more();
    cluster.set_leader("t", 0, 3).unwrap();
    assert_flows(&producer, &outcomes, 1, &mut tag);
    eventually("the new one is followed", || known(&producer, "t") == [(3, now.1 + 1)]);
    assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
    assert_settled(&producer);
}

/// A topic that fails in an answer that is good otherwise, whatever else the answer says of it: its
/// leaders stay, those of other topics are followed.
#[test]
fn s40_a_topics_error_in_a_good_answer_keeps_the_leaders_that_are_known() {
    let shapes: [fn(&mut MetadataResponseTopic); 3] = [
        |topic| topic.partitions.clear(),
        |topic| topic.partitions.iter_mut().for_each(|p| (p.leader_id, p.leader_epoch) = (-1, -1)),
        |topic| topic.partitions.iter_mut().for_each(|p| p.leader_id = 3 - p.leader_id),
    ];
    let cluster = cluster(2, 4);
    cluster.create_topic("other", 2).unwrap();
    let settings = [QUICK, &[("metadata.max.age.ms", "20")]].concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    let mut tag = 0;
    assert_flows(&producer, &outcomes, 4, &mut tag);
    // Unknown, no leader, not authorized, a bad name, a time-out, a bad request, anything, what
    // nobody knows.
    for code in [3, 5, 29, 17, 7, 42, -1, 9999] {
        for shape in shapes {
            for (failing, good) in [("t", "other"), ("other", "t")] {
                let before = (known(&producer, failing), known(&producer, good));
                let told = tell(&cluster, u64::MAX, move |answer| {
                    let has_it = |of: &MetadataResponseTopic| of.name.as_deref() == Some(failing);
                    if answer.topics.iter().any(has_it) {
                        let topic = topic(answer, failing);
                        topic.error_code = ErrorCode(code);
                        shape(topic);
                    }
                });
                let requests = cluster.request_count(0, PRODUCE);
                let mut sends = 0;
                while told.so_far() < 4 {
                    assert_flows(&producer, &outcomes, 4, &mut tag);
                    producer.send_sync(&of("other", record(b"x", 0)), LONG).unwrap();
                    sends += 5;
                }
                assert_eq!(known(&producer, failing), before.0, "code {code}: {failing}");
                assert_eq!(known(&producer, good), before.1, "code {code}: {good}");
                let requests = cluster.request_count(0, PRODUCE) - requests;
                assert!(requests <= sends, "code {code}: {requests} requests: some were refused");
                // It is not blind to the other topic's news.
                let (leader, epoch) = cluster.leader(good, 0).unwrap();
                cluster.set_leader(good, 0, 3 - leader).unwrap();
                eventually("it is followed", || {
                    known(&producer, good)[0] == (3 - leader, epoch + 1)
                });
                told.no_more();
            }
        }
    }
    assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
    assert_settled(&producer);
}
