//! The network between the client and the mock cluster: wires, and the brokers that read them.
//!
//! Everything here happens in [`Net::step`], in the order of the wires' numbers: bytes move, frames
//! that are complete go through the cluster, answers go back. What goes wrong is decided by
//! `faults`.

use super::audit::Audit;
use super::faults::Faults;
use super::lies;
use super::trace::Trace;
use super::wire::{Connect, Cut, Wire};
use crate::clock::{Clock, Instant};
use crate::mock::cluster::{Cluster, Now, Reply};
use crate::protocol::api::frame_len;
use crate::protocol::{ApiKey, RequestHeader};
use bytes::Bytes;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Broker n listens on this port plus n.
pub(super) const FIRST_PORT: u16 = 9000;

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
    clock: Clock,
}

impl Net {
    pub(super) fn new(
        mut cluster: Cluster,
        faults: Faults,
        rng: Rng,
        trace: Arc<Trace>,
        clock: Clock,
    ) -> Net {
        let nodes: Vec<i32> = cluster.brokers().iter().map(|broker| broker.id).collect();
        for node in nodes {
            cluster.broker_mut(node).unwrap().port = FIRST_PORT + node as u16;
        }
        Net {
            cluster,
            wires: BTreeMap::new(),
            orphans: Vec::new(),
            rng,
            faults,
            audit: Audit::default(),
            trace,
            latency_us: 50..500,
            room: 1 << 20,
            most_in_flight: usize::MAX,
            clock,
        }
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(self.latency_us.clone()))
    }

    /// A connection of the client's.
    pub(super) fn open(&mut self, id: usize, port: u16) {
        let now = self.clock.now();
        let node = i32::from(port.saturating_sub(FIRST_PORT));
        let latency = self.latency();
        let up = self.cluster.broker(node).is_some_and(|broker| broker.behaviour.up);
        let connect = if self.faults.loses_connects(&mut self.rng) {
            Connect::Never
        } else if up {
            Connect::At(now.after(latency))
        } else {
            Connect::RefusedAt(now.after(latency))
        };
        self.trace
            .note(&[1, id as u64, node as u64], || format!("wire {id} to {node}: {connect:?}"));
        self.wires.insert(id, Wire::new(node, connect, latency, self.room));
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
        let reads = behaviour.is_some_and(|behaviour| behaviour.up && !behaviour.frozen);
        wire.step(now, reads);
        while reads
            && let Ok(Some(size)) = frame_len(&wire.up.arrived, usize::MAX)
            && wire.up.arrived.len() >= 4 + size
        {
            let frame: Vec<u8> = wire.up.arrived.drain(..4 + size).skip(4).collect();
            self.request(id, wire, frame.into(), now);
        }
    }

    fn request(&mut self, id: Option<usize>, wire: &mut Wire, frame: Bytes, now: Instant) {
        let (header, body) = RequestHeader::split(&frame).unwrap();
        let node = wire.node;
        if header.api_key == ApiKey::Produce.code() {
            let seen = self.audit.produce(&self.cluster, header.api_version, &body);
            let partitions = seen.iter().map(|batch| (batch.topic.clone(), batch.partition));
            wire.answers.push((Instant::NEVER, partitions.collect()));
            for batch in seen {
                let code = header.correlation_id as u64;
                let numbers = [3, node as u64, code, batch.partition as u64, batch.crc.into()];
                self.trace.note(&numbers, || {
                    format!("broker {node} on {id:?}: produce #{} {batch:?}", header.correlation_id)
                });
            }
        }
        let at = Now { at: now, wall_ms: self.clock.wall_ms() };
        let reply = self.cluster.handle(node, &frame, at);
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
                let answer = if self.faults.lies(&mut self.rng) {
                    lies::twist(&header, answer, &mut self.rng, &self.trace)
                } else {
                    answer
                };
                if wire.is_whole() && !wire.left {
                    let at = not_before.max(now).after(wire.latency);
                    let at = wire.down.send(at, answer.to_vec());
                    if header.api_key == ApiKey::Produce.code()
                        && let Some((arrives, _)) = wire.answers.last_mut()
                    {
                        *arrives = at;
                    }
                }
            }
            Reply::Disconnect(at) => wire.cut(at.max(now), Cut::Close, true),
            Reply::Silence | Reply::Wait(_) => {}
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
