//! The whole producer and the mock cluster in virtual time, under a seed.
//!
//! A run is a seed: it decides configuration, callers, weather and everything that happens
//! (`plan`). The main thread plays the network thread and runs the real sender over wires that take
//! their time and break (`net`, `wire`, `faults`, `topics`, `lies`); callers (`caller`, `batches`,
//! with `interceptors` around their records), the callback thread, the poller (`reader`) and
//! helpers that compress are threads that run one at a time (`baton`), so that what blocks in a
//! producer blocks here too, unchanged, and two runs of a seed are the same to the last event
//! (`trace`). `world` moves the clock. The `oracle` holds every outcome against every log (`judge`,
//! `archive`), the `audit` every batch on the wire against those before it.
//!
//! `cargo test --release sim` runs the seeds from `SIM_FIRST` (1) on, `SIM_SEEDS` of them; with
//! `SIM_SEEDS=0` it runs until it is stopped. A seed that fails is run again with its trace
//! printed.

mod archive;
mod audit;
mod batches;
mod baton;
mod bites;
mod caller;
mod faults;
mod interceptors;
mod judge;
mod lies;
mod net;
mod oracle;
mod plan;
mod reader;
mod topics;
mod trace;
mod wire;
mod world;

use crate::clock::{Clock, VirtualTime};
use crate::delivery::DeliveryMode;
use crate::log::{Level, LogSink, Logger};
use crate::mock::Cluster;
use crate::producer::{Counters, Outside, Producer};
use crate::rng::Rng;
use crate::sync::lock;
use baton::message_of;
use caller::Caller;
use net::Net;
use plan::{Ending, Plan, Ways};
use reader::Sink;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use trace::Trace;
use world::{SimHelpers, SimResolver, SimSelector, World};

/// What a run came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Report {
    hash: u64,
    events: u64,
    polls: u64,
    accepted: u64,
    successes: u64,
    failures: u64,
    batches: u64,
}

/// Runs a seed.
fn run(seed: u64) -> Result<Report, String> {
    play(seed, false).0
}

/// Runs a seed; with `talks` the trace is kept.
fn play(seed: u64, talks: bool) -> (Result<Report, String>, Vec<String>) {
    let plan = Plan::of(seed);
    let time = Arc::new(VirtualTime::default());
    time.advance(Duration::from_secs(1000));
    let clock = Clock::virtual_time(Arc::clone(&time));
    let trace = Arc::new(Trace::new(clock.clone(), talks));
    trace.note(&[seed], || format!("{plan:?}"));
    let world = Arc::new(world_of(&plan, seed, time, clock, Arc::clone(&trace)));
    let result = catch_unwind(AssertUnwindSafe(|| whole(&world, seed)));
    let result = result.unwrap_or_else(|payload| Err(message_of(payload.as_ref())));
    // What failed first says more than what followed.
    let result = world.failure().map_or(result, Err);
    world.baton.end();
    (result.map_err(|text| format!("seed {seed}: {text}")), trace.lines())
}

fn world_of(
    plan: &Plan,
    seed: u64,
    time: Arc<VirtualTime>,
    clock: Clock,
    trace: Arc<Trace>,
) -> World {
    let mut cluster = Cluster::new(plan.brokers, Rng::seeded(seed)).unwrap();
    cluster.auto_create_topics = false;
    let rng = fastrand::Rng::with_seed(seed ^ 0x6e65_7477_6f72_6b00);
    let net = Net::new(cluster, plan, rng, Arc::clone(&trace), Arc::clone(&time));
    let rng = fastrand::Rng::with_seed(seed ^ 0x776f_726c_6400_0000);
    World::new(plan.clone(), time, clock, net, trace, rng)
}

/// A producer's life in this world, and the judgement.
fn whole(world: &Arc<World>, seed: u64) -> Result<Report, String> {
    world.time.set_sleeper(Arc::clone(&world.baton) as Arc<dyn crate::clock::Sleeper>);
    let plan = &world.plan;
    let logger = match world.trace.talks {
        true => Logger::new(Level::Debug, Arc::clone(&world.trace) as Arc<dyn LogSink>),
        false => Logger::none(),
    };
    let sink = Arc::new(Sink {
        world: OnceLock::new(),
        rng: Mutex::new(fastrand::Rng::with_seed(seed ^ 1)),
        slow: plan.ways == Ways::SlowCallback,
    });
    let _ = sink.world.set(Arc::downgrade(world));
    let mode = match plan.ways {
        Ways::Callback | Ways::SlowCallback => DeliveryMode::Callback(sink),
        Ways::Poll => DeliveryMode::Poll,
        Ways::Nowhere => DeliveryMode::None,
    };
    let outside = Outside {
        clock: world.clock.clone(),
        rng: Arc::new(Rng::seeded(seed)),
        selector: SimSelector(Arc::clone(world)),
        resolver: Box::new(SimResolver::new(world)),
        helpers: Arc::new(SimHelpers(Arc::clone(world))),
    };
    let chain = interceptors::chain(world, seed);
    let (producer, mut sender, roles) =
        Producer::unstarted(&plan.config(), mode, chain, &logger, outside)
            .map_err(|error| error.to_string())?;
    let producer = Arc::new(producer);
    // Its drop would wait for threads that nobody plays any more, unless all went well.
    let kept = ManuallyDrop::new(Arc::clone(&producer));
    let _ = world.producer.set(Arc::downgrade(&producer));
    let _ = world.roles.set(roles.clone());
    start_tasks(world, &producer, seed);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let ended = sender.run().map_err(|error| error.to_string());
        drop(sender);
        roles.network_ended();
        world.finish();
        ended
    }));
    let ended = ended.unwrap_or_else(|payload| Err(message_of(payload.as_ref())));
    world.failure().map_or(ended, Err)?;
    drop(ManuallyDrop::into_inner(kept));
    judge(world, &producer.counters())
}

fn start_tasks(world: &Arc<World>, producer: &Arc<Producer>, seed: u64) {
    let now = world.clock.now();
    let mended = now.after(world.plan.chaos);
    let caller = |number: usize| Caller {
        world: Arc::clone(world),
        producer: Arc::clone(producer),
        number,
        rng: fastrand::Rng::with_seed(seed.wrapping_mul(1000).wrapping_add(number as u64)),
    };
    let mut rng = fastrand::Rng::with_seed(seed ^ 2);
    for number in 0..world.plan.callers {
        let mut caller = caller(number);
        let until = mended.after(Duration::from_millis(rng.u64(0..300)));
        world.baton.spawn("caller", now, move || caller.live(until));
    }
    let closers = if world.plan.ending == Ending::Calm { 1 } else { rng.usize(1..=2) };
    for closer in 0..closers {
        let mut caller = caller(world.plan.callers);
        caller.rng = fastrand::Rng::with_seed(seed ^ (3 + closer as u64));
        world.baton.spawn("closer", now, move || caller.end(mended));
    }
    if let Some(roles) = world.roles.get().filter(|roles| roles.has_callbacks()).cloned() {
        world.baton.spawn("callbacks", now, move || roles.run_callbacks());
    }
    if world.plan.ways == Ways::Poll {
        let mut caller = caller(usize::MAX);
        world.baton.spawn("poller", now, move || caller.read());
    }
}

/// The books, and then the oracle.
fn judge(world: &World, counters: &Counters) -> Result<Report, String> {
    let oracle = lock(&world.oracle);
    let Counters { accepted, acknowledged, failed, pending, buffered_bytes, .. } = *counters;
    if pending != 0 || accepted != acknowledged + failed {
        return Err(format!("closed with {counters:?}"));
    }
    if buffered_bytes != 0 {
        return Err(format!("{buffered_bytes} bytes are in use after close"));
    }
    let unclear = oracle.accepted..=oracle.accepted + oracle.unclear;
    if !unclear.contains(&accepted) {
        return Err(format!("{accepted} were accepted, as seen from outside {unclear:?}"));
    }
    let pool = world.roles.get().map(|roles| roles.accumulator().pool().waiting());
    if pool != Some(0) {
        return Err(format!("{pool:?} callers wait for memory after close"));
    }
    let mut net = lock(&world.net);
    let mut archive = std::mem::take(&mut net.faults.archive);
    archive.keep_all(&mut net.cluster);
    oracle.judge(&archive)?;
    Ok(Report {
        hash: world.trace.hash(),
        events: world.trace.events(),
        polls: world.polls.load(Ordering::Relaxed),
        accepted,
        successes: acknowledged,
        failures: failed,
        batches: net.audit.batches,
    })
}

/// Runs seeds on two threads; the lowest that fails, and what all others came to.
fn run_all(first: u64, count: u64) -> (Option<String>, Report) {
    let next = AtomicU64::new(0);
    let failure: Mutex<Option<(u64, String)>> = Mutex::default();
    let total = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count || lock(&failure).is_some() {
                        return;
                    }
                    match run(first + at) {
                        Ok(report) => lock(&total).add(&report),
                        Err(text) => {
                            let mut failure = lock(&failure);
                            if failure.as_ref().is_none_or(|(earlier, _)| *earlier > first + at) {
                                *failure = Some((first + at, text));
                            }
                        }
                    }
                }
            });
        }
    });
    let failure = failure.into_inner().unwrap();
    let failure = failure.map(|(seed, text)| {
        let (again, lines) = play(seed, true);
        let again = again.err().unwrap_or_else(|| "and not when it was run again".into());
        format!("{}\n{text}\n{again}\nSIM_FIRST={seed} SIM_SEEDS=1", lines.join("\n"))
    });
    (failure, total.into_inner().unwrap())
}

impl Report {
    fn add(&mut self, other: &Report) {
        self.events += other.events;
        self.polls += other.polls;
        self.accepted += other.accepted;
        self.successes += other.successes;
        self.failures += other.failures;
        self.batches += other.batches;
    }
}

#[expect(clippy::disallowed_methods, reason = "which seeds is for who runs the tests to say")]
fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn every_promise_is_kept_whatever_happens() {
    let first = number_from("SIM_FIRST").unwrap_or(1);
    let default = if cfg!(debug_assertions) { 50 } else { 300 };
    let count = match number_from("SIM_SEEDS").unwrap_or(default) {
        0 => u64::MAX - first,
        count => count,
    };
    let (failure, total) = run_all(first, count);
    println!("{total:?}");
    if let Some(text) = failure {
        panic!("{text}");
    }
    // Seeds under which nothing happens would show nothing.
    if count >= 50 {
        assert!(total.successes > 50 * count && total.failures > count, "{total:?}");
    }
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 1..20 {
        assert_eq!(run(seed), run(seed));
    }
}
