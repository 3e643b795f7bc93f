//! What goes wrong, and when: one fault after another until the end of the chaos, and then
//! everything is mended.

use super::archive::Archive;
use super::net::Net;
use super::plan::{Plan, PlannedTopic};
use super::wire::Cut;
use crate::clock::Instant;
use crate::mock::{CUT_AFTER_WRITE, LEFT_AFTER_WRITE};
use crate::protocol::ApiKey;
use fastrand::Rng;
use std::time::Duration;

/// Codes of Produce that mean: again. Some after the write, most without one.
const RETRIABLE: &[i16] =
    &[2, 3, 5, 6, 7, 9, 13, 19, 20, 56, 74, 75, 89, CUT_AFTER_WRITE, LEFT_AFTER_WRITE];
/// Codes of Produce that mean: the leader has lost what it knew of the producer.
const OF_SEQUENCE: &[i16] = &[45, 45, 59, 47];
/// Codes of Produce that mean: never. The last one says that some records are at fault.
const FINAL: &[i16] = &[-1, 17, 18, 29, 76, 87];
/// Topic errors of Metadata that pass.
const OF_METADATA: &[i16] = &[3, 5, 13];
/// What somebody says who leads nothing.
pub(super) const NOT_LEADER: i16 = 6;
/// What a broker says to a client that has to start over.
pub(super) const REBOOTSTRAP_REQUIRED: i16 = 129;

/// What may go wrong in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// The mean time between two faults; none at all if zero.
    pub(super) pause: Duration,
    /// Connections are cut, stall, or never come about.
    pub(super) wires: bool,
    /// Brokers freeze, slow down, go away.
    pub(super) brokers: bool,
    /// Leaders move.
    pub(super) leaders: bool,
    /// Brokers answer with errors that pass.
    pub(super) errors: bool,
    /// And with some that do not.
    pub(super) final_errors: bool,
    /// Metadata lies.
    pub(super) lies: bool,
    /// Brokers forget their producers.
    pub(super) amnesia: bool,
    /// Topics are deleted and created again.
    pub(super) recreation: bool,
    /// `max.message.bytes` of topics changes.
    pub(super) limits: bool,
    /// Topics get more partitions.
    pub(super) growth: bool,
    /// The client's wall clock is set.
    pub(super) clocks: bool,
}

pub(super) enum Mend {
    Broker(i32),
    Leader(String, i32, i32),
    Topic(String, PlannedTopic),
}

/// See the module's comment.
pub(super) struct Faults {
    weather: Weather,
    /// Some records are at fault: no others are said to be.
    guilty: bool,
    next: Instant,
    end: Instant,
    pub(super) mending: Vec<(Instant, Mend)>,
    pub(super) archive: Archive,
    /// Partitions whose leader moves as soon as it has taken a batch, and whether its answer gets
    /// lost.
    pub(super) leaving: Vec<(String, i32, bool)>,
    /// Until then metadata lies and connections get lost.
    foul_until: Instant,
}

impl Faults {
    pub(super) fn new(plan: &Plan, begin: Instant) -> Faults {
        let (weather, end) = (plan.weather, begin.after(plan.chaos));
        let next = if weather.pause.is_zero() { Instant::NEVER } else { begin };
        Faults {
            weather,
            guilty: plan.guilty,
            next: next.min(end),
            end,
            mending: Vec::new(),
            archive: Archive::default(),
            leaving: Vec::new(),
            foul_until: Instant(0),
        }
    }

    pub(super) fn next(&self) -> Instant {
        self.mending.iter().map(|(at, _)| *at).min().unwrap_or(Instant::NEVER).min(self.next)
    }

    fn is_foul(&self, rng: &mut Rng, one_in: u32) -> bool {
        self.next != Instant::NEVER && self.foul_until > Instant(0) && rng.u32(0..one_in) == 0
    }

    pub(super) fn lies(&self, rng: &mut Rng) -> bool {
        self.weather.lies && self.is_foul(rng, 3)
    }

    pub(super) fn loses_connects(&self, rng: &mut Rng) -> bool {
        self.weather.wires && self.is_foul(rng, 10)
    }
}

impl Net {
    /// Faults that are due happen, and are mended.
    pub(super) fn disturb(&mut self, now: Instant) {
        while let Some(at) = self.faults.mending.iter().position(|(at, _)| *at <= now) {
            let (_, mend) = self.faults.mending.swap_remove(at);
            self.mend(mend);
        }
        if self.faults.next > now {
            return;
        }
        if now >= self.faults.end {
            self.heal();
            return;
        }
        self.fault(now);
        let mean = self.faults.weather.pause.as_micros() as u64;
        let pause = Duration::from_micros(self.rng.u64(1..=2 * mean));
        self.faults.next = now.after(pause).min(self.faults.end);
    }

    /// Everything works from here on.
    fn heal(&mut self) {
        self.faults.next = Instant::NEVER;
        self.faults.leaving.clear();
        self.cluster.errors.clear();
        self.trace.note(&[6], || "everything is mended".into());
        for (_, mend) in std::mem::take(&mut self.faults.mending) {
            self.mend(mend);
        }
        let nodes = self.cluster.brokers().len() as i32;
        for (name, count) in self.topics() {
            for index in 0..count {
                self.cluster.clear_partition_errors(&name, index).unwrap();
                let partition = self.cluster.topic(&name).unwrap().partition(index).unwrap();
                if partition.leader < 0 {
                    let node = self.rng.i32(1..=nodes);
                    self.cluster.set_leader(&name, index, node).unwrap();
                }
            }
        }
    }

    fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Broker(node) => {
                self.trace.note(&[7, node as u64], || format!("broker {node} works again"));
                self.cluster.broker_mut(node).unwrap().behaviour = Default::default();
            }
            Mend::Leader(topic, index, node) => {
                // The topic may be another one by now.
                if self.cluster.set_leader(&topic, index, node).is_ok() {
                    self.trace.note(&[8, node as u64], || format!("{topic}-{index} leads {node}"));
                }
            }
            Mend::Topic(topic, planned) => {
                self.trace.note(&[9], || format!("{topic} is created again"));
                self.create_topic(&topic, planned);
            }
        }
    }

    pub(super) fn topics(&self) -> Vec<(String, i32)> {
        let topics = self.cluster.topics();
        topics.map(|topic| (topic.name.to_string(), topic.partitions.len() as i32)).collect()
    }

    pub(super) fn a_node(&mut self) -> i32 {
        self.rng.i32(1..=self.cluster.brokers().len() as i32)
    }

    pub(super) fn a_partition(&mut self) -> Option<(String, i32)> {
        let topics = self.topics();
        if topics.is_empty() {
            return None;
        }
        let (name, count) = topics[self.rng.usize(0..topics.len())].clone();
        Some((name, self.rng.i32(0..count)))
    }

    fn fault(&mut self, now: Instant) {
        let weather = self.faults.weather;
        self.faults.foul_until = self.faults.end;
        match self.rng.u32(0..22) {
            0..=4 if weather.wires => self.wire_fault(now),
            5..=7 if weather.brokers => self.broker_fault(now),
            8..=10 if weather.leaders => self.leader_fault(now),
            11 | 12 if weather.errors => self.error_fault(),
            13 if weather.amnesia => {
                self.trace.note(&[10], || "every broker forgets its producers".into());
                for node in 1..=self.cluster.brokers().len() as i32 {
                    self.cut_all(node, now);
                }
                self.forget_orphans();
                self.faults.archive.note_forget(&self.cluster);
                self.cluster.forget_producers();
            }
            14 if weather.recreation => self.recreate(now),
            15 if weather.limits => self.change_limit(),
            16 if weather.growth => self.grow(),
            17 if weather.clocks => self.set_clock(now),
            18 | 19 if weather.leaders => self.let_leave(),
            20 => self.leave_home(now),
            21 if weather.errors => self.send_away(),
            _ => {}
        }
    }

    fn wire_fault(&mut self, now: Instant) {
        if self.wires.is_empty() {
            return;
        }
        let at = self.rng.usize(0..self.wires.len());
        let what = self.rng.u32(0..8);
        let (how, lost) = (if self.rng.bool() { Cut::Close } else { Cut::Reset }, self.rng.bool());
        let bytes = match self.rng.bool() {
            true => self.rng.usize(1..80),
            false => self.rng.usize(1..4000),
        };
        let Some((id, wire)) = self.wires.iter_mut().nth(at) else { return };
        let number = *id;
        self.trace.note(&[11, number as u64, what.into(), bytes as u64], || {
            format!("wire {number}: fault {what}, {how:?}, lost {lost}, {bytes} bytes")
        });
        match what {
            0 | 1 => wire.cut(now, how, lost),
            2 | 3 => wire.up.cut_after = Some(bytes),
            4 | 5 => wire.down.cut_after = Some(bytes),
            6 => wire.up.stalled = true,
            _ => wire.down.stalled = true,
        }
    }

    fn broker_fault(&mut self, now: Instant) {
        let node = self.a_node();
        let what = self.rng.u32(0..4);
        let how_long = Duration::from_millis(self.rng.u64(10..1500));
        self.trace.note(&[12, node as u64, what.into()], || {
            format!("broker {node}: fault {what} for {how_long:?}")
        });
        let latency = Duration::from_millis(self.rng.u64(5..400));
        let throttle_ms = self.rng.i32(1..300);
        let behaviour = &mut self.cluster.broker_mut(node).unwrap().behaviour;
        match what {
            0 => behaviour.frozen = true,
            1 => behaviour.latency = latency,
            2 => behaviour.throttle_ms = throttle_ms,
            _ => {
                behaviour.up = false;
                self.cut_all(node, now);
                if self.rng.bool() {
                    self.lose_leaders_of(node);
                }
            }
        }
        self.faults.mending.push((now.after(how_long), Mend::Broker(node)));
    }

    /// A broker that went away leads nothing; others do, or nobody for a while.
    fn lose_leaders_of(&mut self, node: i32) {
        for (name, count) in self.topics() {
            for index in 0..count {
                let leads = self.cluster.topic(&name).unwrap().partition(index).unwrap().leader;
                if leads == node {
                    let to = self.a_node();
                    let to = if to == node { -1 } else { to };
                    self.cluster.set_leader(&name, index, to).unwrap();
                    if to < 0 {
                        let at =
                            self.faults.end.min(self.faults.next.after(Duration::from_millis(300)));
                        self.faults.mending.push((at, Mend::Leader(name.clone(), index, node)));
                    }
                }
            }
        }
    }

    fn leader_fault(&mut self, now: Instant) {
        let Some((topic, index)) = self.a_partition() else { return };
        let node = if self.rng.u32(0..4) == 0 { -1 } else { self.a_node() };
        self.trace.note(&[13, index as u64, node as u64], || format!("{topic}-{index} to {node}"));
        self.cluster.set_leader(&topic, index, node).unwrap();
        if node < 0 {
            let at = now.after(Duration::from_millis(self.rng.u64(5..800)));
            let node = self.a_node();
            self.faults.mending.push((at, Mend::Leader(topic, index, node)));
        }
    }

    /// The leader of a partition goes as soon as it has taken a batch.
    fn let_leave(&mut self) {
        let Some((topic, index)) = self.a_partition() else { return };
        let lost = self.rng.bool();
        self.trace.note(&[16, index as u64, lost.into()], || {
            format!("{topic}-{index} will leave its leader, answer lost: {lost}")
        });
        self.faults.leaving.push((topic, index, lost));
    }

    /// A leader has taken these batches; true if its answer gets lost.
    pub(super) fn leave(&mut self, node: i32, batches: &[(String, i32)]) -> bool {
        let mut lost = false;
        for (topic, index) in batches {
            let leaving = |(name, at, _): &(String, i32, bool)| name == topic && at == index;
            let Some(at) = self.faults.leaving.iter().position(leaving) else { continue };
            let partition = self.cluster.topic(topic).and_then(|topic| topic.partition(*index));
            if partition.is_none_or(|partition| partition.leader != node) {
                continue;
            }
            lost |= self.faults.leaving.swap_remove(at).2;
            let to = self.a_node();
            self.trace.note(&[17, to as u64], || format!("{topic}-{index} leaves for {to}"));
            self.cluster.set_leader(topic, *index, to).unwrap();
        }
        lost
    }

    /// A broker tells the client to start over.
    fn send_away(&mut self) {
        self.trace.note(&[22], || "the next one who asks is sent away".into());
        self.cluster.push_errors(ApiKey::Metadata.code(), &[REBOOTSTRAP_REQUIRED]).unwrap();
    }

    fn error_fault(&mut self) {
        let finally = self.faults.weather.final_errors && self.rng.u32(0..6) == 0;
        let of_sequence = self.rng.u32(0..4) == 0;
        let codes = match (finally, of_sequence) {
            (true, _) if self.faults.guilty => &FINAL[..FINAL.len() - 1],
            (true, _) => FINAL,
            (false, true) => OF_SEQUENCE,
            (false, false) => RETRIABLE,
        };
        let code = codes[self.rng.usize(0..codes.len())];
        let times = self.rng.usize(1..4);
        let codes = vec![code; times];
        self.trace.note(&[14, code as u64, times as u64], || format!("{times} errors {code}"));
        let of_metadata = OF_METADATA[self.rng.usize(0..OF_METADATA.len())];
        match self.rng.u32(0..4) {
            0 => self.cluster.push_errors(ApiKey::Metadata.code(), &[of_metadata]).unwrap(),
            1 => self.cluster.push_errors(ApiKey::Produce.code(), &codes).unwrap(),
            // Cutting is for whole requests.
            _ if matches!(code, 13 | CUT_AFTER_WRITE) => {}
            _ => {
                let Some((topic, index)) = self.a_partition() else { return };
                self.cluster.push_partition_errors(&topic, index, &codes).unwrap();
            }
        }
    }
}
