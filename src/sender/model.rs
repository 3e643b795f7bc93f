//! Backs, the decision and a broker's rules for sequences against each other, in virtual time: what
//! is refused, lost on the way there or back, processed long after it was given up, expired or
//! purged, in any order. The oracle: a record is in the log once, in order; one that was
//! acknowledged is there; one that failed without a doubt is not.

use super::retry::{BatchFacts, Mode, Outcome, decide, maybe_written};
use crate::accumulator::RecordAccumulator;
use crate::accumulator::append::Appended;
use crate::accumulator::back::{BackLimits, Backs, Order};
use crate::accumulator::front::Partition;
use crate::accumulator::outgoing::{Expiry, Finished, LastResort, Outgoing};
use crate::clock::{Instant, Reading};
use crate::config::ProducerConfig;
use crate::mock::producers::{Identity, Producers, Verdict};
use crate::protocol::api::ErrorCode;
use crate::record::ProducerRecord;
use crate::sync::Wake;
use crate::transactions::sequence::ProducerIdAndEpoch;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(400);
/// Nothing takes so long.
const LONG: Duration = Duration::from_secs(3600);
const RETRIES: u32 = 50;
/// A cut connection.
const CUT: ErrorCode = ErrorCode::NETWORK_EXCEPTION;
const NOT_ENOUGH_AFTER: ErrorCode = ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND;

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

impl LastResort for Nobody {
    fn report(&self, partition: &Partition, _: Finished, _: bool) {
        assert!(std::thread::panicking(), "a batch of partition {} is dropped", partition.index);
    }
}

/// What a broker gets.
#[derive(Clone)]
struct Copy {
    slot: usize,
    identity: Identity,
    tags: Vec<u64>,
}

/// A request of one batch.
struct Request {
    copy: Copy,
    number: u64,
    /// `None` once its records were reported.
    batch: Option<Outgoing>,
    maybe_written: bool,
    /// What the broker answered, if it did, and whether with an offset.
    answer: Option<(ErrorCode, bool)>,
}

/// The leader of every partition.
#[derive(Default)]
struct Leader {
    producers: BTreeMap<usize, Producers>,
    logs: BTreeMap<usize, Vec<u64>>,
}

impl Leader {
    fn process(&mut self, copy: &Copy) -> ErrorCode {
        let producers = self.producers.entry(copy.slot).or_default();
        let log = self.logs.entry(copy.slot).or_default();
        match producers.check(copy.identity) {
            Verdict::Append => {
                producers.wrote(copy.identity, log.len() as i64);
                log.extend(&copy.tags);
                ErrorCode::NONE
            }
            Verdict::Duplicate(at) => {
                let at = usize::try_from(at).unwrap();
                assert_eq!(log[at..at + copy.tags.len()], copy.tags, "a retry is what it was");
                ErrorCode::NONE
            }
            Verdict::InvalidEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
            Verdict::OutOfOrder { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing that a retry does not put right.
    Mild,
    /// Everything.
    Harsh,
    /// Everything, with epochs that are used up soon. Another producer id does not keep a broker
    /// from taking what it reads late of the one before, so it reads nothing late.
    UsedUp,
}

/// One producer, one leader, one connection at a time.
struct World {
    rng: fastrand::Rng,
    accumulator: RecordAccumulator,
    partitions: Vec<Arc<Partition>>,
    backs: Backs,
    now: Instant,
    next_tag: u64,
    next_id: i64,
    wire: VecDeque<Request>,
    /// Requests of cut connections that the leader has received and not read yet.
    late: VecDeque<Copy>,
    leader: Leader,
    epochs: BTreeSet<i16>,
    /// Whether it was acknowledged, and else whether it may be written.
    outcomes: BTreeMap<u64, Result<(), bool>>,
    /// Whether anything goes wrong.
    trouble: bool,
    kind: Kind,
    timeout: Duration,
}

impl World {
    fn new(seed: u64, kind: Kind) -> World {
        let mut config = ProducerConfig::new();
        for (key, value) in [
            ("bootstrap.servers", "nowhere:1"),
            ("linger.ms", "0"),
            ("batch.size", "150"),
            ("delivery.timeout.ms", "400"),
            ("request.timeout.ms", "300"),
        ] {
            config.set(key, value).unwrap();
        }
        let settings = config.settings().unwrap();
        let accumulator = RecordAccumulator::for_tests(&settings, Arc::new(Nobody));
        let topic: Arc<str> = "t".into();
        let partitions = (0..2).map(|index| accumulator.add_partition(&topic, index, 1)).collect();
        let now = Instant(1_000_000);
        let timeout = if kind == Kind::Mild { LONG } else { TIMEOUT };
        let limits = BackLimits {
            max_request_size: settings.max_request_size,
            linger: settings.linger,
            delivery_timeout: timeout,
            order: Order::Sequences,
        };
        let mut backs = Backs::new(limits, Arc::new(Nobody), now);
        let epoch = if kind == Kind::UsedUp { i16::MAX - 3 } else { 0 };
        backs.set_producer_id(ProducerIdAndEpoch { id: 1000, epoch });
        World {
            rng: fastrand::Rng::with_seed(seed),
            accumulator,
            partitions,
            backs,
            now,
            next_tag: 0,
            next_id: 1001,
            wire: VecDeque::new(),
            late: VecDeque::new(),
            leader: Leader::default(),
            epochs: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            trouble: true,
            kind,
            timeout,
        }
    }

    fn send(&mut self) {
        let value = vec![0; self.rng.usize(0..60)];
        let (tag, to) = (self.next_tag, &self.partitions[self.rng.usize(0..2)]);
        let record = ProducerRecord {
            topic: "t",
            partition: None,
            key: None,
            value: Some(&value),
            headers: &[],
            timestamp_ms: None,
            tag,
            timeout_ms: 0,
            as_is: false,
        };
        let reading = Reading { mono: self.now, wall_ms: 0 };
        assert!(matches!(self.accumulator.try_append(to, &record, reading), Ok(Appended::Done(_))));
        self.next_tag += 1;
    }

    /// The first half of a pass: inbox, time, expiry.
    fn pass(&mut self) {
        let mut listed = Vec::new();
        self.accumulator.inbox().drain(&mut listed);
        for listed in listed {
            self.backs.receive(listed, self.now, |_| [1; 16]);
        }
        let mut expiries = Vec::new();
        self.backs.advance(self.now, &mut expiries);
        for slot in expiries {
            for request in self.wire.iter_mut().filter(|r| r.copy.slot == slot as usize) {
                let Some(batch) = &mut request.batch else { continue };
                let dead = match batch.expired(self.now, self.timeout) {
                    Expiry::Nothing => None,
                    Expiry::Some(places) => Some(batch.part(places, self.accumulator.cuts())),
                    Expiry::All => request.batch.take(),
                };
                if let Some(dead) = dead {
                    end(&self.accumulator, &mut self.outcomes, dead, Err(true));
                }
                if let Some(batch) = &request.batch {
                    self.backs.file_expiry(slot, batch.deadline(self.timeout));
                }
            }
            let mut expired = Vec::new();
            self.backs.expire(slot, self.now, self.accumulator.cuts(), &mut expired);
            for batch in expired {
                self.fail(batch);
            }
        }
        self.report_undecided();
        if self.backs.wants_id() {
            self.backs.set_producer_id(ProducerIdAndEpoch { id: self.next_id, epoch: 0 });
            self.next_id += 1;
        }
    }

    fn fail(&mut self, batch: Outgoing) {
        let outcome = Err(batch.history.maybe_written);
        end(&self.accumulator, &mut self.outcomes, batch, outcome);
    }

    fn report_undecided(&mut self) {
        for batch in self.backs.take_undecided() {
            end(&self.accumulator, &mut self.outcomes, batch, Err(true));
        }
    }

    /// The second half: what is ready goes onto the wire.
    fn drain(&mut self) {
        let mut drained = Vec::new();
        self.backs.drain(1, self.now, |batch| drained.push(batch));
        for mut batch in drained {
            batch.history.attempts += 1;
            let slot = batch.partition.slot;
            self.backs.file_expiry(slot, batch.deadline(self.timeout));
            let identity = batch.identity.unwrap();
            self.epochs.insert(identity.producer.epoch);
            let copy = Copy {
                slot: slot as usize,
                identity: Identity {
                    producer_id: identity.producer.id,
                    epoch: identity.producer.epoch,
                    base_sequence: identity.base_sequence,
                    count: i32::try_from(batch.count()).unwrap(),
                },
                tags: batch.body().unwrap().tags().to_vec(),
            };
            self.wire.push_back(Request {
                copy,
                number: batch.number,
                maybe_written: batch.history.maybe_written,
                batch: Some(batch),
                answer: None,
            });
        }
    }

    /// The leader reads the next request.
    fn process(&mut self) {
        let Some(request) = self.wire.iter_mut().find(|request| request.answer.is_none()) else {
            return;
        };
        let fault = if self.trouble { self.rng.u32(0..20) } else { 20 };
        request.answer = Some(match fault {
            0 => (ErrorCode::NOT_ENOUGH_REPLICAS, false),
            1 => (ErrorCode::NOT_LEADER_OR_FOLLOWER, false),
            2 if self.kind != Kind::Mild && self.rng.u32(0..4) == 0 => {
                (ErrorCode::TOPIC_AUTHORIZATION_FAILED, false)
            }
            3 | 4 => match self.leader.process(&request.copy) {
                ErrorCode::NONE if fault == 3 => (NOT_ENOUGH_AFTER, true),
                ErrorCode::NONE => (ErrorCode::NOT_LEADER_OR_FOLLOWER, true),
                code => (code, false),
            },
            _ => (self.leader.process(&request.copy), false),
        });
    }

    /// The next answer arrives.
    fn answer(&mut self) {
        let Some(answer) = self.wire.front().and_then(|request| request.answer) else { return };
        let request = self.wire.pop_front().unwrap();
        self.settle(request, answer);
    }

    /// The connection is cut. What was sent may be read all the same, now or later.
    fn cut(&mut self) {
        let late = self.kind != Kind::UsedUp;
        let read = if late { self.rng.usize(0..=self.wire.len()) } else { 0 };
        for (at, request) in std::mem::take(&mut self.wire).into_iter().enumerate() {
            if request.answer.is_none() && at < read {
                self.late.push_back(request.copy.clone());
            }
            self.settle(request, (CUT, false));
        }
    }

    fn settle(&mut self, request: Request, (code, appended): (ErrorCode, bool)) {
        let (number, slot) = (request.number, u32::try_from(request.copy.slot).unwrap());
        let Some(mut batch) = request.batch else {
            let maybe = request.maybe_written || maybe_written(code, appended);
            return match code {
                ErrorCode::NONE => self.backs.done(slot, number),
                _ => self.backs.lost(slot, number, maybe),
            };
        };
        let (oldest, behind_gap) = self.backs.position(slot, number);
        let facts = BatchFacts {
            attempts: batch.history.attempts,
            retries: RETRIES,
            count: batch.count(),
            maybe_written: batch.history.maybe_written,
            culprits: false,
            appended,
            oldest,
            behind_gap,
        };
        let backoff = Duration::from_micros(self.rng.u64(0..10_000));
        match decide(code, &facts, Mode::Idempotent) {
            Outcome::Success => {
                self.backs.done(slot, number);
                end(&self.accumulator, &mut self.outcomes, batch, Ok(()));
            }
            Outcome::Retry { maybe_written, in_turn, .. } => {
                batch.history.maybe_written |= maybe_written;
                let backoff = if in_turn { Duration::ZERO } else { backoff };
                self.backs.reenqueue(batch, self.now.after(backoff));
            }
            Outcome::StartOver { other_id } => {
                self.backs.broken(slot, number, other_id);
                self.backs.reenqueue(batch, self.now.after(backoff));
            }
            Outcome::Fail { maybe_written } => {
                self.backs.lost(slot, number, maybe_written);
                end(&self.accumulator, &mut self.outcomes, batch, Err(maybe_written));
            }
            Outcome::Undecided { other_id } => {
                self.backs.broken(slot, number, other_id);
                self.backs.lost(slot, number, true);
                end(&self.accumulator, &mut self.outcomes, batch, Err(true));
            }
            Outcome::Split | Outcome::DropCulprits => panic!("{code:?}"),
        }
        self.report_undecided();
    }

    fn purge(&mut self) {
        let partition = Arc::clone(&self.partitions[self.rng.usize(0..2)]);
        let mut taken = Vec::new();
        assert!(self.backs.take_all(&partition, false, &mut taken));
        for batch in taken {
            self.fail(batch);
        }
        self.report_undecided();
    }

    fn step(&mut self) {
        let harsh = self.trouble && self.kind != Kind::Mild;
        match self.rng.u32(0..24) {
            0..3 if self.trouble => {
                for _ in 0..self.rng.u32(1..9) {
                    self.send();
                }
            }
            6 => self.now = self.now.after(Duration::from_micros(self.rng.u64(0..10_000))),
            7 if self.trouble && self.rng.u32(0..4) == 0 => self.cut(),
            8 if harsh && self.rng.u32(0..30) == 0 => self.purge(),
            9 if harsh && self.rng.u32(0..10) == 0 => {
                self.now = self.now.after(TIMEOUT.mul_f32(0.45));
            }
            10 => {
                if let Some(copy) = self.late.pop_front() {
                    self.leader.process(&copy);
                }
            }
            11..15 => self.process(),
            15..19 => self.answer(),
            _ => {
                self.pass();
                self.drain();
            }
        }
        let most = (0..2).map(|slot| self.wire.iter().filter(|r| r.copy.slot == slot).count());
        assert!(most.max() <= Some(5), "more in flight than a broker remembers");
    }

    /// Everything ends well from here on.
    fn come_to_rest(&mut self) {
        self.trouble = false;
        let end = self.now.after(TIMEOUT * 3);
        while self.now < end {
            self.now = self.now.after(Duration::from_micros(500));
            self.pass();
            self.drain();
            while !self.wire.is_empty() {
                self.process();
                self.answer();
            }
        }
        while let Some(copy) = self.late.pop_front() {
            self.leader.process(&copy);
        }
    }

    fn judge(&self, seed: u64) {
        let mut logged = BTreeMap::new();
        for log in self.leader.logs.values() {
            assert!(log.is_sorted_by(|a, b| a < b), "seed {seed}: once and in order: {log:?}");
            log.iter().for_each(|tag| *logged.entry(*tag).or_insert(0) += 1);
        }
        for tag in 0..self.next_tag {
            let there = logged.contains_key(&tag);
            match self.outcomes.get(&tag) {
                Some(Ok(())) => assert!(there, "seed {seed}: {tag} was acknowledged"),
                Some(Err(false)) => assert!(!there, "seed {seed}: {tag} was not written"),
                Some(Err(true)) => {}
                None => panic!("seed {seed}: {tag} has no outcome"),
            }
        }
        assert_eq!(self.accumulator.pool().used(), 0, "seed {seed}");
        if self.kind == Kind::Mild {
            assert!(self.outcomes.values().all(Result::is_ok), "seed {seed}: nothing fails");
            assert_eq!(self.epochs, [0].into(), "seed {seed}: nothing starts over");
        }
    }
}

fn end(
    accumulator: &RecordAccumulator,
    outcomes: &mut BTreeMap<u64, Result<(), bool>>,
    batch: Outgoing,
    outcome: Result<(), bool>,
) {
    let rest = batch.finish().unwrap();
    accumulator.cuts().completed(rest.cut);
    for (tag, place) in rest.body.tags().iter().zip(0..) {
        if rest.places.as_ref().is_none_or(|places| places.contains(&place)) {
            assert_eq!(outcomes.insert(*tag, outcome), None, "{tag} ends once");
        }
    }
}

fn live(seed: u64, kind: Kind, from: Option<i32>) -> World {
    let mut world = World::new(seed, kind);
    if let Some(from) = from {
        for _ in 0..4 {
            world.send();
        }
        world.pass();
        for slot in 0..2 {
            world.backs.skip_sequence_to(slot, from);
        }
    }
    for _ in 0..2500 {
        world.step();
    }
    world.come_to_rest();
    world.judge(seed);
    world
}

#[test]
fn s27_whatever_happens_a_record_is_there_once_and_in_order() {
    let mut counts = [0; 3];
    for seed in 0..300 {
        let kind = if seed % 3 == 0 { Kind::UsedUp } else { Kind::Harsh };
        for outcome in live(seed, kind, None).outcomes.values() {
            let kind = match outcome {
                Ok(()) => 0,
                Err(doubt) => 1 + usize::from(*doubt),
            };
            counts[kind] += 1;
        }
    }
    assert!(counts.iter().all(|count| *count > 2000), "each happens: {counts:?}");
}

#[test]
fn what_a_retry_puts_right_costs_no_record_and_no_epoch() {
    for seed in 0..120 {
        live(seed, Kind::Mild, None);
    }
}

#[test]
fn s20_after_two_thousand_million_records_the_sequence_goes_on_at_zero() {
    for seed in 0..60 {
        let kind = if seed % 2 == 0 { Kind::Harsh } else { Kind::Mild };
        live(seed, kind, Some(i32::MAX - 9));
    }
}
