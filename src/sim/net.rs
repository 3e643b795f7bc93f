//! The network between the client and the mock cluster: wires, and the brokers that read them.
//!
//! Everything here happens in [`Net::step`], in the order of the wires' numbers: bytes move, frames
//! that are complete go through the cluster, answers go back. What goes wrong is decided by
//! `faults`.

use super::audit::{Audit, Seen, refused};
use super::faults::{Faults, NOT_LEADER, REBOOTSTRAP_REQUIRED};
use super::lies;
use super::plan::{Ghost, Mode, Plan};
use super::trace::Trace;
use super::wire::{Connect, Cut, Wire};
use crate::clock::{Clock, Instant, VirtualTime};
use crate::mock::cluster::{Cluster, Now, Reply};
use crate::protocol::api::frame_len;
use crate::protocol::{ApiKey, RequestHeader};
use bytes::Bytes;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Broker n listens on this port plus n, until it moves.
const FIRST_PORT: u16 = 9000;
/// So far from one port of a broker's to the next one.
const NEXT_HOME: u16 = 100;
/// How often brokers move.
const MOST_HOMES: u16 = 50;

/// See the module's comment.
pub(super) struct Net {
    pub(super) cluster: Cluster,
    pub(super) wires: BTreeMap<usize, Wire>,
    /// The client left them; what it wrote is still on its way.
    orphans: Vec<Wire>,
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) audit: Audit,
    pub(super) trace: Arc<Trace>,
    /// One way, in microseconds.
    pub(super) latency_us: Range<u64>,
    /// What a socket takes before it is full.
    pub(super) room: usize,
    /// How many batches of a partition may be unanswered at once.
    pub(super) most_in_flight: usize,
    /// How often the brokers have moved, and what they leave behind.
    home: u16,
    ghost: Option<Ghost>,
    /// Batches that are refused for some of their records are remembered.
    pub(super) keeps_refusals: bool,
    pub(super) clock: Clock,
    pub(super) time: Arc<VirtualTime>,
}

impl Net {
    pub(super) fn new(
        cluster: Cluster,
        plan: &Plan,
        rng: Rng,
        trace: Arc<Trace>,
        time: Arc<VirtualTime>,
    ) -> Net {
        let clock = Clock::virtual_time(Arc::clone(&time));
        let faults = Faults::new(plan, clock.now());
        let mut net = Net {
            cluster,
            wires: BTreeMap::new(),
            orphans: Vec::new(),
            rng,
            faults,
            audit: Audit::default(),
            trace,
            latency_us: plan.latency_us / 2..plan.latency_us,
            room: plan.room,
            most_in_flight: match plan.mode {
                Mode::Idempotent => 5,
                Mode::Ordered => 1,
                Mode::Unordered | Mode::Unacknowledged => usize::MAX,
            },
            home: 0,
            ghost: plan.exodus,
            keeps_refusals: plan.rejects && plan.guilty,
            clock,
            time,
        };
        net.move_in();
        net.create_topics(plan);
        net
    }

    fn move_in(&mut self) {
        for node in 1..=self.cluster.brokers().len() as i32 {
            self.cluster.broker_mut(node).unwrap().port = self.port(node);
        }
    }

    /// Where a broker listens by now.
    pub(super) fn port(&self, node: i32) -> u16 {
        FIRST_PORT + NEXT_HOME * self.home + node as u16
    }

    /// All brokers move elsewhere.
    pub(super) fn leave_home(&mut self, now: Instant) {
        if self.ghost.is_none() || self.home == MOST_HOMES {
            return;
        }
        self.home += 1;
        self.trace.note(&[23, self.home.into()], || format!("all brokers move: {}", self.home));
        self.move_in();
        if self.ghost == Some(Ghost::Alone) {
            // They stay, and are no part of the cluster any more: no connection breaks.
            self.wires.values_mut().for_each(|wire| wire.ghost = self.ghost);
            return;
        }
        for node in 1..=self.cluster.brokers().len() as i32 {
            self.cut_all(node, now);
        }
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(self.latency_us.clone()))
    }

    /// A connection of the client's.
    pub(super) fn open(&mut self, id: usize, port: u16) {
        let now = self.clock.now();
        let place = port.saturating_sub(FIRST_PORT);
        let (home, node) = (place / NEXT_HOME, i32::from(place % NEXT_HOME));
        let ghost = self.ghost.filter(|_| home != self.home);
        let latency = self.latency();
        let up = self.cluster.broker(node).is_some_and(|broker| broker.behaviour.up);
        let connect = match ghost {
            _ if self.faults.loses_connects(&mut self.rng) => Connect::Never,
            Some(Ghost::Vanished) => Connect::Never,
            Some(Ghost::Refuses) => Connect::RefusedAt(now.after(latency)),
            None if !up => Connect::RefusedAt(now.after(latency)),
            Some(Ghost::Mute | Ghost::Alone | Ghost::SendsAway) | None => {
                Connect::At(now.after(latency))
            }
        };
        self.trace
            .note(&[1, id as u64, node as u64], || format!("wire {id} to {node}: {connect:?}"));
        let mut wire = Wire::new(node, connect, latency, self.room);
        wire.ghost = ghost;
        self.wires.insert(id, wire);
    }

    /// The client closes a connection. What it wrote may be read all the same, and much later.
    pub(super) fn close(&mut self, id: usize) {
        let mut wire = self.wires.remove(&id).unwrap();
        let kept = self.rng.bool() && wire.is_whole();
        self.trace.note(&[2, id as u64, kept.into()], || format!("wire {id} closed by the client"));
        if kept {
            wire.left = true;
            self.orphans.push(wire);
        }
    }

    /// What was on its way to a broker from connections that are gone is gone too.
    pub(super) fn forget_orphans(&mut self) {
        self.orphans.clear();
    }

    /// Every connection of a broker ends.
    pub(super) fn cut_all(&mut self, node: i32, now: Instant) {
        let how = if self.rng.bool() { Cut::Close } else { Cut::Reset };
        for wire in self.wires.values_mut().filter(|wire| wire.node == node) {
            wire.cut(now, how, true);
        }
        self.orphans.retain(|wire| wire.node != node);
    }

    /// Moves everything to `now`.
    pub(super) fn step(&mut self, now: Instant) {
        let mut wires = std::mem::take(&mut self.wires);
        for (id, wire) in &mut wires {
            self.move_wire(Some(*id), wire, now);
        }
        self.wires.append(&mut wires);
        self.count_in_flight(now);
        let mut orphans = std::mem::take(&mut self.orphans);
        for wire in &mut orphans {
            self.move_wire(None, wire, now);
        }
        orphans.retain(|wire| wire.is_whole() && !wire.up.is_empty());
        self.orphans.append(&mut orphans);
    }

    /// No partition has more batches unanswered than its order allows.
    fn count_in_flight(&mut self, now: Instant) {
        if self.most_in_flight == usize::MAX {
            return;
        }
        let mut counts: BTreeMap<&(String, i32), usize> = BTreeMap::new();
        for wire in self.wires.values_mut() {
            wire.answers.retain(|(arrives, _)| *arrives > now);
        }
        let open = self.wires.values().flat_map(|wire| &wire.answers);
        for partition in open.flat_map(|(_, partitions)| partitions) {
            *counts.entry(partition).or_default() += 1;
        }
        let over = counts.into_iter().find(|(_, count)| *count > self.most_in_flight);
        if let Some(((topic, index), count)) = over {
            let text = format!("{topic}-{index} has {count} batches in flight");
            self.audit.complaint.get_or_insert(text);
        }
    }

    /// When something will have moved.
    pub(super) fn next(&self) -> Instant {
        let wires = self.wires.values().chain(&self.orphans);
        wires.map(Wire::next).min().unwrap_or(Instant::NEVER).min(self.faults.next())
    }

    /// Moves a wire's bytes; the broker takes whole frames for requests.
    fn move_wire(&mut self, id: Option<usize>, wire: &mut Wire, now: Instant) {
        let behaviour = self.cluster.broker(wire.node).map(|broker| broker.behaviour);
        let reads = match wire.ghost {
            Some(ghost) => ghost != Ghost::Mute,
            None => behaviour.is_some_and(|behaviour| behaviour.up && !behaviour.frozen),
        };
        wire.step(now, reads);
        while reads
            && let Ok(Some(size)) = frame_len(&wire.up.arrived, usize::MAX)
            && wire.up.arrived.len() >= 4 + size
        {
            let frame: Vec<u8> = wire.up.arrived.drain(..4 + size).skip(4).collect();
            self.request(id, wire, frame.into(), now);
        }
    }

    /// What somebody says who is no broker of the cluster any more, if it is not what a broker
    /// would.
    fn haunt(&mut self, ghost: Ghost, key: i16) -> Option<Reply> {
        let error = match ghost {
            Ghost::Refuses | Ghost::Vanished | Ghost::Mute => return Some(Reply::Silence),
            Ghost::Alone | Ghost::SendsAway if key == ApiKey::Produce.code() => NOT_LEADER,
            Ghost::SendsAway if key == ApiKey::Metadata.code() => REBOOTSTRAP_REQUIRED,
            Ghost::Alone | Ghost::SendsAway => return None,
        };
        self.cluster.errors.entry(key).or_default().push_front(error);
        None
    }

    fn request(&mut self, id: Option<usize>, wire: &mut Wire, frame: Bytes, now: Instant) {
        let (header, body) = RequestHeader::split(&frame).unwrap();
        let node = wire.node;
        let seen = match header.api_key == ApiKey::Produce.code() {
            true => self.see(id, wire, &header, &body),
            false => Vec::new(),
        };
        // The brokers' clocks are right.
        let at = Now { at: now, wall_ms: (now.0 / 1000) as i64 };
        let haunted = wire.ghost.and_then(|ghost| self.haunt(ghost, header.api_key));
        let mut reply = haunted.unwrap_or_else(|| self.cluster.handle(node, &frame, at));
        let batches: Vec<_> = seen.iter().map(Seen::partition).collect();
        if wire.ghost.is_none() && self.leave(node, &batches) {
            reply = Reply::Disconnect(now);
        }
        let fate = match &reply {
            Reply::Answer(..) => 1,
            Reply::Silence => 2,
            Reply::Disconnect(_) => 3,
            Reply::Wait(_) => 4,
        };
        let numbers = [4, node as u64, header.api_key as u64, header.correlation_id as u64, fate];
        self.trace
            .note(&numbers, || format!("broker {node} on {id:?}: {header:?}: {}", told(&reply)));
        match reply {
            Reply::Answer(answer, not_before) => {
                if self.keeps_refusals && !seen.is_empty() {
                    let refused = refused(header.api_version, &answer, seen);
                    self.faults.archive.refused.extend(refused);
                }
                self.answer(wire, &header, answer, not_before.max(now));
            }
            Reply::Disconnect(at) => wire.cut(at.max(now), Cut::Close, true),
            Reply::Silence | Reply::Wait(_) => {}
        }
    }

    /// Takes note of a Produce request's batches.
    fn see(
        &mut self,
        id: Option<usize>,
        wire: &mut Wire,
        header: &RequestHeader,
        body: &Bytes,
    ) -> Vec<Seen> {
        let node = wire.node;
        let seen = self.audit.produce(&self.cluster, header.api_version, body);
        let partitions = seen.iter().map(Seen::partition);
        wire.answers.push((Instant::NEVER, partitions.collect()));
        for batch in &seen {
            let code = header.correlation_id as u64;
            let numbers = [3, node as u64, code, batch.partition as u64, batch.crc.into()];
            self.trace.note(&numbers, || {
                format!("broker {node} on {id:?}: produce #{} {batch:?}", header.correlation_id)
            });
        }
        seen
    }

    fn answer(&mut self, wire: &mut Wire, header: &RequestHeader, answer: Bytes, at: Instant) {
        let answer = match wire.ghost {
            Some(Ghost::Alone) => lies::nobody(header, answer),
            _ if self.faults.lies(&mut self.rng) => {
                lies::twist(header, answer, &mut self.rng, &self.trace)
            }
            _ => answer,
        };
        if !wire.is_whole() || wire.left {
            return;
        }
        let at = wire.down.send(at.after(wire.latency), answer.to_vec());
        if header.api_key == ApiKey::Produce.code()
            && let Some((arrives, _)) = wire.answers.last_mut()
        {
            *arrives = at;
        }
    }
}

fn told(reply: &Reply) -> String {
    match reply {
        Reply::Answer(bytes, _) => format!("answers {} bytes", bytes.len()),
        Reply::Silence => "says nothing".into(),
        Reply::Disconnect(_) => "closes".into(),
        Reply::Wait(_) => "waits".into(),
    }
}
