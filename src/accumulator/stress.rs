//! Several callers, few partitions, little memory, and a network thread that takes, holds and drops
//! batches: every record comes out once, in its sender's order, under the right checksum, and in
//! the end all memory is back.

use super::append::{AppendContext, Appended};
use super::batch::ProducerBatch;
use super::buffer_pool::BufferPool;
use super::cuts::Cuts;
use super::front::{Partition, Rest, Take, Taken};
use super::inbox::{Inbox, Listed};
use super::seal::SealState;
use super::testing::{partition, record};
use super::ticket::Waiting;
use crate::clock::{Clock, Instant};
use crate::protocol::crc32c;
use crate::rng::Rng;
use crate::sync::{Signal, Wake};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::Duration;

const CALLERS: u64 = 3;
const PARTITIONS: u32 = 4;
const RECORDS: u64 = 12_000;
const MEMORY: usize = 48 << 10;
const BATCH_SIZE: usize = 4 << 10;
const MAX_REQUEST_SIZE: usize = 16 << 10;
/// Batches that are in flight at a time.
const IN_FLIGHT: usize = 3;
/// Nothing here takes nearly as long.
const TIME_LIMIT: Duration = Duration::from_secs(400);

/// Ends the network thread's sleep.
#[derive(Debug, Default)]
struct Poll(Signal);

impl Wake for Poll {
    fn wake(&self) {
        self.0.notify();
    }
}

struct Stress {
    clock: Clock,
    end: Instant,
    poll: Arc<Poll>,
    context: AppendContext,
    partitions: Vec<Arc<Partition>>,
    /// Callers that are not done.
    callers: AtomicUsize,
}

impl Stress {
    fn new(linger: Duration) -> Arc<Stress> {
        let (clock, poll) = (Clock::system(), Arc::new(Poll::default()));
        let waker = || Arc::clone(&poll) as Arc<dyn Wake>;
        let context = AppendContext {
            pool: BufferPool::new(MEMORY, BATCH_SIZE, waker()),
            inbox: Arc::new(Inbox::new(waker())),
            cuts: Arc::new(Cuts::new()),
            batch_size: BATCH_SIZE,
            max_request_size: MAX_REQUEST_SIZE,
            linger,
        };
        let partitions: Vec<_> = (0..PARTITIONS).map(partition).collect();
        for partition in &partitions {
            partition.set_leader(&context.pool, i32::try_from(partition.slot % 2).unwrap());
        }
        let (end, callers) = (clock.now().after(TIME_LIMIT), AtomicUsize::new(0));
        Arc::new(Stress { clock, end, poll, context, partitions, callers })
    }

    /// Sends records to the partitions in turn. A tag says who sent it and how many before it to
    /// the same partition; the value repeats that, as often as its length allows.
    fn run_caller(&self, caller: u64) {
        let rng = Rng::seeded(caller);
        for number in 0..RECORDS {
            let (place, sequence) =
                (number % u64::from(PARTITIONS), number / u64::from(PARTITIONS));
            let tag = caller << 32 | sequence;
            let length = match rng.below(100) {
                0 => 6_000,
                1..10 => 1_000,
                _ => rng.below(200),
            };
            let value: Vec<u8> = tag
                .to_be_bytes()
                .into_iter()
                .cycle()
                .take(8 + usize::try_from(length).unwrap())
                .collect();
            let partition = &self.partitions[usize::try_from(place).unwrap()];
            self.append(partition, &value, tag, &rng);
            if rng.below(3_000) == 0 {
                let flushed = self.context.cuts.advance();
                self.context.inbox.notify();
                assert!(self.context.cuts.wait(flushed, &self.clock, self.end), "flush hangs");
            }
        }
        self.callers.fetch_sub(1, Ordering::SeqCst);
        self.context.inbox.notify();
    }

    fn append(&self, partition: &Arc<Partition>, value: &[u8], tag: u64, rng: &Rng) {
        let mut held: Option<Waiting> = None;
        loop {
            let record = record(value, tag);
            match partition.try_append(&self.context, &record, self.clock.reading()).unwrap() {
                Appended::Done { .. } => return,
                Appended::BatchFull => panic!("not asked for"),
                Appended::NoMemory(waiting) if rng.below(3) == 0 => {
                    // Gives up at once, or after no time at all, and comes again.
                    drop(held.take());
                    let soon = self.clock.now().after(Duration::from_micros(rng.below(60)));
                    let _in_time = waiting.wait(&self.clock, soon, || false);
                }
                Appended::NoMemory(waiting) => {
                    assert!(waiting.wait(&self.clock, self.end, || false), "no memory ever");
                    held = Some(waiting);
                }
            }
        }
    }
}

/// The network thread's own.
struct Network {
    stress: Arc<Stress>,
    listed: Vec<Listed>,
    taken: Vec<ProducerBatch>,
    /// By slot: when to look again.
    due: BTreeMap<u32, Instant>,
    muted: BTreeMap<u32, usize>,
    in_flight: VecDeque<(u32, ProducerBatch, Vec<Bytes>)>,
    /// By partition and caller: the sequence that comes next.
    next: BTreeMap<(u32, u64), u64>,
    received: u64,
}

impl Network {
    fn new(stress: Arc<Stress>) -> Network {
        let (listed, taken, in_flight) = (Vec::new(), Vec::new(), VecDeque::new());
        let (due, muted, next) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Network { stress, listed, taken, due, muted, in_flight, next, received: 0 }
    }

    fn run(&mut self) {
        let stress = Arc::clone(&self.stress);
        let (inbox, poll) = (&stress.context.inbox, &stress.poll.0);
        loop {
            let seen = poll.generation();
            inbox.drain(&mut self.listed);
            for Listed { partition, deadline } in std::mem::take(&mut self.listed) {
                if !self.muted.contains_key(&partition.slot) {
                    let due = self.due.entry(partition.slot).or_insert(deadline);
                    *due = (*due).min(deadline);
                }
            }
            let force = self.must_force();
            let now = stress.clock.now();
            let ready = self.due.iter().filter(|(_, due)| force || **due <= now);
            for slot in ready.map(|(slot, _)| *slot).collect::<Vec<_>>() {
                self.look_at(slot, now, force);
            }
            if self.in_flight.len() > IN_FLIGHT || self.due.values().all(|due| *due > now) {
                self.complete_one();
            }
            if stress.callers.load(Ordering::SeqCst) == 0 && self.is_idle() {
                return;
            }
            assert!(now < stress.end, "{} records in time", self.received);
            let until = self.due.values().min().copied().unwrap_or(Instant::NEVER);
            if self.in_flight.is_empty() && !self.must_force() && inbox.prepare_to_wait(until) {
                if stress.callers.load(Ordering::SeqCst) > 0 || until != Instant::NEVER {
                    poll.wait(seen, &stress.clock, until.min(stress.end));
                }
                inbox.awake();
            }
        }
    }

    /// Somebody flushes, or waits for memory that nothing in flight will free, or all is said.
    fn must_force(&self) -> bool {
        let AppendContext { cuts, pool, .. } = &self.stress.context;
        let flushing = cuts.outstanding_upto(cuts.current() - 1) > 0;
        let starving = pool.waiting() > 0 && pool.closed() == 0;
        let last = self.stress.callers.load(Ordering::SeqCst) == 0;
        flushing || (starving || last) && !self.due.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.due.is_empty() && self.stress.context.pool.used() == 0
    }

    fn look_at(&mut self, slot: u32, now: Instant, force: bool) {
        let partition = &self.stress.partitions[slot as usize];
        // Odd partitions keep order by having one batch in flight.
        let ordered = slot % 2 == 1;
        let take = Take {
            now,
            force,
            force_cut: u64::MAX,
            max_batches: if ordered { 1 } else { 2 },
            mute: ordered,
            closed_only: false,
        };
        let again = match partition.try_take(take, &mut self.taken) {
            Taken::Busy | Taken::Nothing => None,
            Taken::Lingering(deadline) => Some(deadline),
            Taken::Ready => panic!("it was asked for"),
            Taken::Batches { rest, .. } => match rest {
                Rest::Nothing => None,
                Rest::Muted => {
                    self.muted.insert(slot, 1);
                    None
                }
                Rest::Lingering(deadline) => Some(deadline),
                Rest::Ready => Some(Inbox::NOW),
            },
        };
        match again {
            Some(due) => self.due.insert(slot, due),
            None => self.due.remove(&slot),
        };
        for batch in std::mem::take(&mut self.taken) {
            let bytes = self.check(slot, &batch);
            self.in_flight.push_back((slot, batch, bytes));
        }
    }

    fn check(&mut self, slot: u32, batch: &ProducerBatch) -> Vec<Bytes> {
        let body = &batch.body;
        assert_eq!(body.seal_state(), SealState::Sealed);
        assert!(body.count() == 1 || body.size() <= MAX_REQUEST_SIZE);
        let bytes: Vec<Bytes> = body.slab_bytes().collect();
        let crc = bytes.iter().fold(0, |crc, piece| crc32c::append(crc, piece));
        assert_eq!(body.seal().crc, crc);
        assert_eq!(body.records().count(), body.tags().len());
        for (record, tag) in body.records().zip(body.tags()) {
            let value = record.unwrap().value.unwrap();
            let expected = tag.to_be_bytes().into_iter().cycle();
            assert!(value.len() >= 8 && value.iter().copied().eq(expected.take(value.len())));
            let (caller, sequence) = (tag >> 32, tag & u64::from(u32::MAX));
            let next = self.next.entry((slot, caller)).or_insert(0);
            assert_eq!(sequence, *next, "of caller {caller} in partition {slot}");
            *next += 1;
            self.received += 1;
        }
        bytes
    }

    fn complete_one(&mut self) {
        let Some((slot, batch, bytes)) = self.in_flight.pop_front() else { return };
        let crc = bytes.iter().fold(0, |crc, piece| crc32c::append(crc, piece));
        assert_eq!(batch.body.seal().crc, crc, "the bytes have changed in flight");
        let cut = batch.cut;
        drop((batch, bytes));
        self.stress.context.cuts.completed(cut);
        if self.muted.remove(&slot).is_some() {
            self.due.insert(slot, Inbox::NOW);
        }
    }
}

fn run(linger: Duration) {
    let stress = Stress::new(linger);
    stress.callers.store(usize::try_from(CALLERS).unwrap(), Ordering::SeqCst);
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let stress = Arc::clone(&stress);
            Builder::new().spawn(move || stress.run_caller(caller)).unwrap()
        })
        .collect();
    let mut network = Network::new(Arc::clone(&stress));
    network.run();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert_eq!(network.received, CALLERS * RECORDS);
    let AppendContext { pool, cuts, .. } = &stress.context;
    assert_eq!((pool.used(), pool.closed(), pool.waiting()), (0, 0, 0));
    assert_eq!(cuts.outstanding_upto(u64::MAX), 0);
    let accepted: u64 = stress.partitions.iter().map(|partition| partition.accepted()).sum();
    assert_eq!(accepted, CALLERS * RECORDS);
}

#[test]
fn nothing_is_lost_with_linger_0() {
    run(Duration::ZERO);
}

#[test]
fn nothing_is_lost_with_a_short_linger() {
    run(Duration::from_millis(1));
}

/// Memory runs out long before anything is due.
#[test]
fn nothing_hangs_with_a_linger_longer_than_the_test() {
    run(TIME_LIMIT * 2);
}
