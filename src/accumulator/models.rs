//! Loom's models of what threads do to each other here: every order of their steps is tried.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom_`
//!
//! The code under the models is the producer's own. A lost wake-up, or memory that is handed to
//! nobody, is a deadlock here, which loom reports.

mod compression;
mod deadlines;

use super::append::{AppendContext, Appended};
use super::batch::ProducerBatch;
use super::buffer_pool::{BufferPool, First, SMALLEST_SLAB};
use super::cuts::Cuts;
use super::front::{Partition, Rest, Take, Taken};
use super::inbox::Inbox;
use super::slab::Slab;
use super::testing::{ms, partition, reading, record};
use super::ticket::{Ticket, Waiting};
use crate::clock::{Clock, Instant};
use crate::sync::prim::{AtomicBool, Condvar, Mutex, Ordering, guard, model};
use crate::sync::{FrontLock, Latch, Wake};
use loom::thread;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::time::Duration;

/// A poll that nothing but a wake ends.
#[derive(Default)]
struct Poll {
    woken: Mutex<bool>,
    bell: Condvar,
}

impl Poll {
    fn sleep(&self) {
        let mut woken = guard(&self.woken);
        while !*woken {
            woken = self.bell.wait(woken).unwrap();
        }
        *woken = false;
    }
}

impl Wake for Poll {
    fn wake(&self) {
        *guard(&self.woken) = true;
        self.bell.notify_one();
    }
}

fn context(poll: &Arc<Poll>, linger: Duration) -> AppendContext {
    let waker = || Arc::clone(poll) as Arc<dyn Wake>;
    AppendContext {
        pool: BufferPool::new(1 << 20, 1 << 14, waker()),
        inbox: Arc::new(Inbox::new(waker())),
        cuts: Arc::new(Cuts::new()),
        batch_size: 1 << 14,
        max_request_size: 1 << 20,
        linger,
    }
}

fn append(context: &AppendContext, partition: &Arc<Partition>, tag: u64) {
    let appended = partition.try_append(context, &record(b"v", tag), reading(ms(1)));
    assert!(matches!(appended, Ok(Appended::Done { .. })));
}

/// Records 1 and 2: the second closes the first's batch.
fn append_two_batches(context: &AppendContext, partition: &Arc<Partition>) {
    append(context, partition, 1);
    context.cuts.advance();
    append(context, partition, 2);
}

#[test]
fn loom_lock_excludes_wakes_and_tells() {
    model(4, || {
        let lock = Arc::new(FrontLock::new(0));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let lock = Arc::clone(&lock);
                thread::spawn(move || {
                    let mut guard = lock.lock();
                    *guard += 1;
                    guard.unlock()
                })
            })
            .collect();
        let wanted = match lock.try_lock_or_want() {
            Some(guard) => {
                assert!((0..=2).contains(&*guard));
                assert!(!guard.unlock());
                false
            }
            None => true,
        };
        let told = callers.into_iter().map(|caller| caller.join().unwrap());
        let told = told.filter(|told| *told).count();
        assert_eq!(told, usize::from(wanted), "one is told, if the lock was wanted");
        assert_eq!(*lock.lock(), 2);
    });
}

/// The network thread, until it has taken so many records: it looks into the inbox, takes what is
/// ready, and sleeps when there is nothing to do.
fn run_network_thread(context: &AppendContext, poll: &Poll, records: usize) -> Vec<u64> {
    let mut tags = Vec::new();
    let mut listed = Vec::new();
    let mut batches: Vec<ProducerBatch> = Vec::new();
    loop {
        context.inbox.drain(&mut listed);
        for entry in listed.drain(..) {
            let take = Take {
                now: ms(1),
                force: false,
                force_cut: 0,
                max_batches: 9,
                mute: false,
                closed_only: false,
            };
            match entry.partition.try_take(take, &mut batches) {
                Taken::Busy | Taken::Nothing | Taken::Lingering(_) => {}
                Taken::Batches { rest, .. } => assert_ne!(rest, Rest::Ready),
                Taken::Ready => panic!("everything was asked for"),
            }
        }
        for batch in batches.drain(..) {
            tags.extend_from_slice(batch.body.tags());
            context.cuts.completed(batch.cut);
        }
        if tags.len() == records {
            return tags;
        }
        if context.inbox.prepare_to_wait(Instant::NEVER) {
            poll.sleep();
            context.inbox.awake();
        }
    }
}

/// A caller appends two batches, and the network thread takes both, whatever their seals wait for.
fn two_batches_come_out(context: &Arc<AppendContext>, poll: &Arc<Poll>, partition: Arc<Partition>) {
    let shared = Arc::clone(context);
    let caller = thread::spawn(move || append_two_batches(&shared, &partition));
    assert_eq!(run_network_thread(context, poll, 2), [1, 2]);
    caller.join().unwrap();
}

#[test]
fn loom_no_record_is_left_behind_by_a_sleeping_network_thread() {
    model(4, || {
        let poll = Arc::new(Poll::default());
        let context = Arc::new(context(&poll, Duration::ZERO));
        let (shared, partition) = (Arc::clone(&context), partition(0));
        let caller = thread::spawn(move || {
            append(&shared, &partition, 1);
            append(&shared, &partition, 2);
        });
        assert_eq!(run_network_thread(&context, &poll, 2), [1, 2]);
        caller.join().unwrap();
        assert_eq!(context.pool.used(), 0);
    });
}

#[test]
fn loom_two_callers_in_one_front() {
    model(3, || {
        let poll = Arc::new(Poll::default());
        let context = Arc::new(context(&poll, Duration::ZERO));
        let partition = partition(0);
        let callers = [1, 2].map(|tag| {
            let (context, partition) = (Arc::clone(&context), Arc::clone(&partition));
            thread::spawn(move || append(&context, &partition, tag))
        });
        let mut tags = run_network_thread(&context, &poll, 2);
        tags.sort_unstable();
        assert_eq!(tags, [1, 2]);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!((partition.accepted(), context.pool.used()), (2, 0));
    });
}

/// The first batch is sealed by its closer after it has let go of the front, and listed then.
#[test]
fn loom_a_batch_that_is_being_sealed_is_found() {
    model(4, || {
        let poll = Arc::new(Poll::default());
        let context = Arc::new(context(&poll, Duration::ZERO));
        two_batches_come_out(&context, &poll, partition(0));
        assert_eq!((context.pool.used(), context.cuts.outstanding_upto(u64::MAX)), (0, 0));
    });
}

/// A timed push wakes if, and only if, the network thread would sleep past it.
#[test]
fn loom_a_deadline_is_never_slept_through() {
    model(4, || {
        let poll = Arc::new(Poll::default());
        // The first record's deadline is 6 ms.
        let context = Arc::new(context(&poll, Duration::from_millis(5)));
        let shared = Arc::clone(&context);
        let caller = thread::spawn(move || append(&shared, &partition(0), 1));
        let sleeps = context.inbox.prepare_to_wait(ms(7));
        caller.join().unwrap();
        assert!(*guard(&poll.woken) || !sleeps, "asleep before the push: woken by it");
        let mut listed = Vec::new();
        context.inbox.awake();
        context.inbox.drain(&mut listed);
        listed.iter().for_each(|entry| assert!(entry.partition.try_purge(&mut Vec::new())));

        let shared = Arc::clone(&context);
        *guard(&poll.woken) = false;
        let caller = thread::spawn(move || append(&shared, &partition(1), 1));
        let _asleep_or_not = context.inbox.prepare_to_wait(ms(6));
        caller.join().unwrap();
        assert!(!*guard(&poll.woken), "it will be awake by then");
        context.inbox.awake();
        context.inbox.drain(&mut listed);
        listed.iter().for_each(|entry| assert!(entry.partition.try_purge(&mut Vec::new())));
    });
}

/// A flush ends a cut, then makes ready what the network thread knows of. A batch that was opened
/// under that cut, but is listed later, must not be listed as lingering.
#[test]
fn loom_a_flush_misses_no_batch_of_its_cut() {
    model(3, || {
        let context = Arc::new(context(&Arc::default(), Duration::from_secs(60)));
        let caller = {
            let context = Arc::clone(&context);
            thread::spawn(move || append(&context, &partition(0), 1))
        };
        let cut = context.cuts.advance();
        let mut listed = Vec::new();
        context.inbox.drain(&mut listed);
        let known = !listed.is_empty();
        caller.join().unwrap();
        context.inbox.drain(&mut listed);
        let told = listed.iter().any(|listed| listed.deadline == Inbox::NOW);
        let waits = context.cuts.outstanding_upto(cut) > 0;
        assert!(!waits || known || told, "the flush waits for a linger");
    });
}

/// What is left elsewhere and announced.
#[test]
fn loom_an_announcement_is_not_lost() {
    model(4, || {
        let poll = Arc::new(Poll::default());
        let inbox = Arc::new(Inbox::new(Arc::clone(&poll) as Arc<dyn Wake>));
        let asked = Arc::new(AtomicBool::new(false));
        let (announcing, asking) = (Arc::clone(&inbox), Arc::clone(&asked));
        let caller = thread::spawn(move || {
            asking.store(true, Ordering::Relaxed);
            announcing.notify();
        });
        while !asked.load(Ordering::Relaxed) {
            if inbox.prepare_to_wait(Instant::NEVER) && !asked.load(Ordering::Relaxed) {
                poll.sleep();
            }
            inbox.awake();
        }
        caller.join().unwrap();
    });
}

/// A partition's threads, as far as memory is concerned.
struct Party {
    slot: u32,
    leader: AtomicI32,
    ticket: Option<Arc<Ticket>>,
}

impl Party {
    fn new(slot: u32) -> Party {
        Party::of(slot, i32::try_from(slot).unwrap())
    }

    fn of(slot: u32, leader: i32) -> Party {
        Party { slot, leader: AtomicI32::new(leader), ticket: None }
    }

    fn ask(&mut self, pool: &Arc<BufferPool>) -> First<Slab> {
        let size = SMALLEST_SLAB;
        pool.first((self.slot, &self.leader), size, size, &mut self.ticket)
    }

    /// Waits as long as it takes, and gives the memory back.
    fn use_memory(&mut self, pool: &Arc<BufferPool>) {
        let mut held: Option<Waiting> = None;
        loop {
            match self.ask(pool) {
                First::Memory(slab) => {
                    drop(held);
                    pool.release(iter::once(slab), None, 0);
                    return;
                }
                First::Wait { waiting, .. } => {
                    assert!(waiting.wait(&Clock::system(), Instant::NEVER, || false));
                    held = Some(waiting);
                }
            }
        }
    }
}

/// A pool of one slab.
fn one_slab() -> Arc<BufferPool> {
    BufferPool::new(SMALLEST_SLAB, 0, Arc::new(Poll::default()))
}

#[test]
fn loom_memory_reaches_everybody_who_waits() {
    model(4, || {
        let pool = one_slab();
        let users = [1, 2].map(|slot| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || Party::new(slot).use_memory(&pool))
        });
        Party::new(3).use_memory(&pool);
        users.into_iter().for_each(|user| user.join().unwrap());
        assert_eq!((pool.used(), pool.waiting()), (0, 0));
    });
}

/// Leader 1, which is not alone, holds half of four slabs.
fn half_used() -> (Arc<BufferPool>, AtomicI32, [Slab; 2]) {
    let pool = BufferPool::new(4 * SMALLEST_SLAB, 0, Arc::new(Poll::default()));
    Party::new(2).use_memory(&pool);
    let leader = AtomicI32::new(1);
    let held = [(); 2].map(|()| pool.grow(SMALLEST_SLAB, &leader).unwrap());
    (pool, leader, held)
}

/// A leader that is not alone and holds as much as it leaves free waits for memory of its own,
/// though some is free, and gets it, however that comes back.
#[test]
fn loom_a_leader_that_had_to_yield_gets_what_comes_back() {
    model(4, || {
        let (pool, leader, held) = half_used();
        assert!(pool.grow(SMALLEST_SLAB, &leader).is_none(), "half is free");
        let users = [1, 2].map(|slot| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || Party::new(slot).use_memory(&pool))
        });
        held.into_iter().for_each(|slab| pool.release(iter::once(slab), None, 0));
        users.into_iter().for_each(|user| user.join().unwrap());
        assert_eq!((pool.used(), pool.waiting()), (0, 0));
    });
}

/// Two partitions of such a leader wait, and one of them gives up.
#[test]
fn loom_a_turn_that_is_given_up_goes_to_the_next_of_the_leader() {
    model(3, || {
        let (pool, _leader, held) = half_used();
        let First::Wait { waiting, .. } = Party::new(1).ask(&pool) else { panic!("half is free") };
        let impatient = thread::spawn(move || drop(waiting));
        let patient = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || Party::of(3, 1).use_memory(&pool))
        };
        let [first, second] = held;
        pool.release(iter::once(first), None, 0);
        patient.join().unwrap();
        impatient.join().unwrap();
        pool.release(iter::once(second), None, 0);
        assert_eq!((pool.used(), pool.waiting()), (0, 0));
    });
}

/// A waiter gives up while the memory is freed: the grant goes to the next, or back.
#[test]
fn loom_a_grant_to_nobody_is_not_lost() {
    model(4, || {
        let pool = one_slab();
        let First::Memory(slab) = Party::new(1).ask(&pool) else { panic!("it is free") };
        let First::Wait { waiting, fresh: true } = Party::new(2).ask(&pool) else {
            panic!("it is taken")
        };
        let (giving_up, next) = (Arc::clone(&pool), Arc::clone(&pool));
        let impatient = thread::spawn(move || {
            drop(waiting);
            drop(giving_up);
        });
        let patient = thread::spawn(move || Party::new(3).use_memory(&next));
        pool.release(iter::once(slab), None, 0);
        impatient.join().unwrap();
        patient.join().unwrap();
        assert_eq!((pool.used(), pool.waiting()), (0, 0));
    });
}

/// Two threads of one partition wait with one ticket; one gives up.
#[test]
fn loom_a_shared_ticket_outlives_one_of_its_waiters() {
    model(4, || {
        let pool = one_slab();
        let First::Memory(slab) = Party::new(1).ask(&pool) else { panic!("it is free") };
        let mut party = Party::new(2);
        let First::Wait { waiting: stays, .. } = party.ask(&pool) else { panic!("it is taken") };
        let First::Wait { waiting: leaves, fresh: false } = party.ask(&pool) else {
            panic!("it is taken")
        };
        let impatient = thread::spawn(move || drop(leaves));
        let releasing = Arc::clone(&pool);
        let releaser = thread::spawn(move || releasing.release(iter::once(slab), None, 0));
        assert!(stays.wait(&Clock::system(), Instant::NEVER, || false));
        party.use_memory(&pool);
        drop(stays);
        impatient.join().unwrap();
        releaser.join().unwrap();
        assert_eq!((pool.used(), pool.waiting()), (0, 0));
    });
}

/// Whoever waits for memory that only a poll of the user's would free gives up when the last batch
/// is done, whoever is first.
#[test]
fn loom_who_waits_in_vain_is_told() {
    model(4, || {
        let pool = one_slab();
        let cuts = Arc::new(Cuts::new());
        let First::Memory(held) = Party::new(1).ask(&pool) else { panic!("it is free") };
        let cut = cuts.open();
        let network = {
            let (pool, cuts) = (Arc::clone(&pool), Arc::clone(&cuts));
            thread::spawn(move || {
                cuts.completed(cut);
                pool.alert_when_all_is_done(&cuts);
            })
        };
        let First::Wait { waiting, .. } = Party::new(2).ask(&pool) else { panic!("it is taken") };
        let in_vain = || cuts.outstanding_upto(u64::MAX) == 0;
        assert!(waiting.wait(&Clock::system(), Instant::NEVER, in_vain));
        network.join().unwrap();
        drop(waiting);
        pool.release(iter::once(held), None, 0);
        assert_eq!((pool.used(), pool.waiting()), (0, 0));
    });
}

/// Something that happens once, an answer of the network thread's say, ends the wait for it.
#[test]
fn loom_a_latch_is_not_missed() {
    model(4, || {
        let latch = Arc::new(Latch::default());
        let waiters = [(); 2].map(|()| {
            let latch = Arc::clone(&latch);
            thread::spawn(move || assert!(latch.wait(&Clock::system(), Instant::NEVER)))
        });
        latch.set();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}
