//! One run: clock, network, cluster, tasks and oracle, and the selector by whose poll it all moves.
//!
//! The main thread plays the network thread. While its sender polls, everybody else has their turn:
//! bytes, faults, callers, in steps of virtual time, until the poll is over: something is ready,
//! the waker was used, or the time has passed. A wake-up that is lost is a poll that sleeps too
//! long.

use super::baton::Baton;
use super::net::Net;
use super::oracle::Oracle;
use super::plan::Plan;
use super::trace::Trace;
use crate::clock::{Clock, Instant, VirtualTime};
use crate::network::{
    Answer, ConnectionId, Query, Readiness, Resolver, Selectable, SocketOptions, Transport,
};
use crate::producer::{Producer, Roles};
use crate::protocol::Uuid;
use crate::sync::{Helpers, Wake, lock};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that polls so often without need spins.
const MOST_IDLE_POLLS: u64 = 1000;

/// No run takes longer than that beyond its chaos.
const LONGEST_END: Duration = Duration::from_secs(120);

/// See the module's comment.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) time: Arc<VirtualTime>,
    pub(super) clock: Clock,
    pub(super) baton: Arc<Baton>,
    pub(super) net: Mutex<Net>,
    pub(super) oracle: Mutex<Oracle>,
    pub(super) trace: Arc<Trace>,
    pub(super) roles: OnceLock<Roles>,
    /// Weak, for the world is part of what the producer holds.
    pub(super) producer: OnceLock<Weak<Producer>>,
    /// Decides whose turn it is.
    pub(super) rng: Mutex<Rng>,
    failure: Mutex<Option<String>>,
    woken: Arc<Woken>,
    /// Long after everything should be over.
    end: Instant,
    /// Polls in a row that did not sleep and brought nothing.
    idle_polls: AtomicU64,
    pub(super) polls: AtomicU64,
    /// The leader epochs that were known last, by topic's id and partition.
    epochs: Mutex<BTreeMap<(Uuid, usize), i32>>,
}

#[derive(Default)]
pub(super) struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl World {
    pub(super) fn new(
        plan: Plan,
        time: Arc<VirtualTime>,
        clock: Clock,
        net: Net,
        trace: Arc<Trace>,
        rng: Rng,
    ) -> World {
        World {
            end: clock.now().after(plan.chaos + LONGEST_END),
            oracle: Mutex::new(Oracle::new(plan.clone())),
            plan,
            time,
            clock,
            baton: Baton::new(),
            net: Mutex::new(net),
            trace,
            roles: OnceLock::new(),
            producer: OnceLock::new(),
            rng: Mutex::new(rng),
            failure: Mutex::default(),
            woken: Arc::default(),
            idle_polls: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            epochs: Mutex::default(),
        }
    }

    /// Something is not as promised: the run ends. The first one counts.
    pub(super) fn fail(&self, what: String) {
        self.trace.note(&[20], || format!("FAILED: {what}"));
        lock(&self.failure).get_or_insert(what);
    }

    pub(super) fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// Ends the main thread's part if the run has failed.
    fn stop_if_failed(&self) {
        if let Some(text) = self.failure() {
            std::panic::resume_unwind(Box::new(text));
        }
    }

    /// Everything that is due now, once; tasks in an order by chance.
    fn turn(&self, now: Instant) {
        if now > self.end {
            self.fail(format!("it does not end; open: {:?}", self.baton.left()));
        }
        {
            let mut net = lock(&self.net);
            net.disturb(now);
            net.step(now);
            if let Some(text) = net.audit.complaint.clone() {
                drop(net);
                self.fail(text);
            }
        }
        let mut due = self.baton.due(now);
        lock(&self.rng).shuffle(&mut due);
        for task in due {
            if let Err(text) = self.baton.run(task) {
                self.fail(text);
            }
            self.stop_if_failed();
        }
        self.stop_if_failed();
    }

    /// What is so whenever time passes while the network thread sleeps.
    fn check_rest(&self) {
        let Some(roles) = self.roles.get() else { return };
        if let Err(text) = roles.accumulator().check_at_rest() {
            self.fail(text);
        }
        self.stop_if_failed();
    }

    /// Moves the clock to the next thing that happens, not past `limit`.
    fn advance(&self, now: Instant, limit: Instant) {
        let net = lock(&self.net).next();
        let next = limit.min(net).min(self.baton.next_deadline());
        if next == Instant::NEVER {
            self.fail(format!("everything sleeps for ever; open: {:?}", self.baton.left()));
            self.stop_if_failed();
        }
        self.time.advance(next.since(now));
    }

    /// Runs the tasks to their ends, after the sender's.
    pub(super) fn finish(&self) {
        while !self.baton.left().is_empty() {
            let now = self.clock.now();
            self.turn(now);
            if !self.baton.left().is_empty() && self.baton.due(now).is_empty() {
                self.advance(now, Instant::NEVER);
            }
        }
    }

    /// What can be asserted between any two passes.
    fn check_invariants(&self) {
        let Some(roles) = self.roles.get() else { return };
        let pool = roles.accumulator().pool();
        // Pieces of batches that are compressed may be larger than those were.
        let most = if self.plan.compresses() { 2 * pool.limit() } else { pool.limit() };
        if pool.used() > most {
            self.fail(format!("{} of {} bytes are in use", pool.used(), pool.limit()));
        }
        self.check_epochs(roles);
        let (acknowledged, failed) = roles.deliveries().counts();
        let accepted = roles.accumulator().accepted();
        if acknowledged + failed > accepted {
            self.fail(format!("{acknowledged} + {failed} outcomes of {accepted} records"));
        }
        self.stop_if_failed();
    }

    fn count_idle(&self, busy: bool) {
        let idle = if busy { 0 } else { self.idle_polls.load(Ordering::Relaxed) + 1 };
        self.idle_polls.store(idle, Ordering::Relaxed);
        if idle > MOST_IDLE_POLLS {
            self.fail("the network thread spins".into());
        }
    }

    /// Leader epochs never go back.
    fn check_epochs(&self, roles: &Roles) {
        let snapshot = roles.metadata().snapshot();
        let mut epochs = lock(&self.epochs);
        for topic in snapshot.topics() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                let key = (topic.id, index);
                let known = epochs.entry(key).or_insert(partition.leader_epoch);
                if partition.leader_epoch < *known {
                    let (from, to) = (*known, partition.leader_epoch);
                    self.fail(format!("{}-{index}: epoch {from} became {to}", topic.name));
                }
                *known = partition.leader_epoch;
            }
        }
    }
}

/// The selector of this world.
pub(super) struct SimSelector(pub(super) Arc<World>);

/// One end of a wire.
pub(super) struct SimTransport {
    world: Arc<World>,
    id: usize,
}

impl Transport for SimTransport {
    fn finish_connect(&mut self) -> io::Result<bool> {
        lock(&self.world.net).wires[&self.id].finish_connect()
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let now = self.world.clock.now();
        lock(&self.world.net).wires.get_mut(&self.id).unwrap().read(buffer, now)
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let now = self.world.clock.now();
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        lock(&self.world.net).wires.get_mut(&self.id).unwrap().write(&all, now)
    }
}

impl Selectable for SimSelector {
    type Transport = SimTransport;

    fn open(
        &mut self,
        id: ConnectionId,
        address: SocketAddr,
        _options: &SocketOptions,
    ) -> io::Result<SimTransport> {
        lock(&self.0.net).open(id.0, address.port());
        Ok(SimTransport { world: Arc::clone(&self.0), id: id.0 })
    }

    fn close(&mut self, id: ConnectionId, _transport: SimTransport) {
        lock(&self.0.net).close(id.0);
    }

    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()> {
        let world = &self.0;
        world.polls.fetch_add(1, Ordering::Relaxed);
        world.check_invariants();
        let began = world.clock.now();
        let deadline = timeout.map_or(Instant::NEVER, |timeout| began.after(timeout));
        let woken = loop {
            let now = world.clock.now();
            world.turn(now);
            {
                let mut net = lock(&world.net);
                for (id, wire) in &mut net.wires {
                    if wire.take_news() {
                        ready.push(Readiness {
                            connection: ConnectionId(*id),
                            readable: !wire.down.arrived.is_empty() || wire.is_closed(now),
                            writable: true,
                            closed: wire.is_closed(now),
                        });
                    }
                }
            }
            let woken = world.woken.0.swap(false, Ordering::SeqCst);
            if woken || !ready.is_empty() || now >= deadline {
                break woken;
            }
            if world.baton.due(now).is_empty() {
                world.check_rest();
                world.advance(now, deadline);
            }
        };
        world.count_idle(woken || !ready.is_empty() || world.clock.now() > began);
        // The pass takes its time too, and once in a while a lot of it.
        let took = {
            let mut rng = lock(&world.rng);
            match rng.u32(0..200) {
                0 => rng.u64(0..3000),
                1..100 => rng.u64(0..100),
                _ => 0,
            }
        };
        world.time.advance(Duration::from_micros(took));
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.0.woken) as Arc<dyn Wake>
    }
}

/// Knows addresses, and where the bootstrap servers are by now: `boot-N` is broker N.
pub(super) struct SimResolver {
    world: Arc<World>,
    answers: Vec<Answer>,
}

impl SimResolver {
    pub(super) fn new(world: &Arc<World>) -> SimResolver {
        SimResolver { world: Arc::clone(world), answers: Vec::new() }
    }
}

impl Resolver for SimResolver {
    fn resolve(&mut self, query: Query) {
        let Query { ticket, host, port } = query;
        let address = match host.strip_prefix("boot-").and_then(|node| node.parse().ok()) {
            Some(node) => Ok(SocketAddr::from(([127, 0, 0, 1], lock(&self.world.net).port(node)))),
            None => host.parse().map(|ip| SocketAddr::new(ip, port)),
        };
        let result = address.map(|to| vec![to]).map_err(|_| format!("no address for {host}"));
        self.answers.push(Answer { ticket, result });
    }

    fn answers(&mut self, answers: &mut Vec<Answer>) {
        answers.append(&mut self.answers);
    }
}

/// Helpers that compress are tasks like any other, and take their time.
pub(super) struct SimHelpers(pub(super) Arc<World>);

impl Helpers for SimHelpers {
    fn start(
        &self,
        name: &'static str,
        life: Box<dyn FnOnce() + Send>,
    ) -> io::Result<Option<JoinHandle<()>>> {
        let World { baton, rng, clock, trace, .. } = &*self.0;
        if lock(rng).u32(0..20) == 0 {
            return Err(io::Error::other("no thread in this world"));
        }
        trace.note(&[50], || format!("{name} is started"));
        baton.spawn(name, clock.now(), life);
        Ok(None)
    }

    fn at_work(&self) {
        let World { baton, rng, clock, .. } = &*self.0;
        let takes = {
            let mut rng = lock(rng);
            match rng.u32(0..100) {
                0 => rng.u64(0..12_000_000),
                1..10 => rng.u64(0..500_000),
                _ => rng.u64(0..5_000),
            }
        };
        baton.sleep_until(clock, clock.now().after(Duration::from_micros(takes)));
        let defect = lock(rng).u32(0..200) == 0;
        if defect {
            std::panic::resume_unwind(Box::new("a helper's defect"));
        }
    }
}
