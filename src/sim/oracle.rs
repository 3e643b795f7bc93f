//! What was promised, held against what happened.
//!
//! Callers tell of each record before and after they hand it over; whoever takes deliveries tells
//! of each outcome; at the end the brokers' logs are read. Nothing here asks the producer.

use super::archive::{Archive, Kept};
use super::plan::{Mode, Plan, Ways};
use crate::clock::Instant;
use crate::delivery::Delivery;
use crate::error::{MAYBE_PERSISTED, status};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// How late an outcome may be decided.
const LATE: Duration = Duration::from_millis(20);

/// A call for many records may have accepted one so long after it began.
const LONGEST_CALL: Duration = Duration::from_millis(550);

/// Where a record is, as far as its caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The call has not returned.
    Calling,
    Accepted,
    Refused,
    /// A call that waits for the outcome failed: accepted or not, who knows.
    Unclear,
}

/// A record that is about to be sent.
pub(super) struct Call<'a> {
    pub(super) topic: &'a str,
    pub(super) caller: usize,
    pub(super) size: usize,
    pub(super) timeout_ms: u32,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// `None`: a call failed and did not say.
    pub(super) partition: Option<i32>,
    /// -1: not known.
    pub(super) offset: i64,
    pub(super) success: bool,
    pub(super) maybe: bool,
    pub(super) status: i32,
}

/// A record and its fate.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) topic: String,
    pub(super) caller: usize,
    pub(super) value: Vec<u8>,
    pub(super) sent: Sent,
    /// When the call began, or had accepted it.
    pub(super) since: Instant,
    /// How long after that it has its outcome.
    timeout: Duration,
    /// Its place among all that were accepted; 0 if that is not known exactly.
    pub(super) place: u64,
    pub(super) outcome: Option<Outcome>,
}

/// See the module's comment.
pub(super) struct Oracle {
    plan: Plan,
    pub(super) fates: Vec<Fate>,
    places: u64,
    pub(super) accepted: u64,
    pub(super) outcomes: u64,
    pub(super) successes: u64,
    /// Calls whose record may or may not have been accepted.
    pub(super) unclear: u64,
    /// What flushes have waited for and the next poll has to bring.
    pub(super) owed: Vec<u64>,
}

impl Outcome {
    pub(super) fn written(partition: i32, offset: i64) -> Outcome {
        Outcome { partition: Some(partition), offset, success: true, maybe: false, status: 0 }
    }

    pub(super) fn failed(partition: Option<i32>, status: i32, maybe: bool) -> Outcome {
        Outcome { partition, offset: -1, success: false, maybe, status }
    }
}

impl Oracle {
    pub(super) fn new(plan: Plan) -> Oracle {
        Oracle {
            plan,
            fates: Vec::new(),
            places: 0,
            accepted: 0,
            outcomes: 0,
            successes: 0,
            unclear: 0,
            owed: Vec::new(),
        }
    }

    /// A record that is about to be sent; its number.
    pub(super) fn calls(&mut self, call: Call<'_>, now: Instant) -> u64 {
        let Call { topic, caller, size, timeout_ms } = call;
        let timeout = match timeout_ms {
            0 => self.plan.delivery_timeout,
            ms => Duration::from_millis(ms.into()),
        };
        let id = self.fates.len() as u64;
        let mut value = id.to_be_bytes().to_vec();
        // What a wrong byte or another record's would not be.
        value.extend((0..size as u64).map(|at| (id.wrapping_mul(31) ^ at.wrapping_mul(7)) as u8));
        self.fates.push(Fate {
            topic: topic.into(),
            caller,
            value,
            sent: Sent::Calling,
            since: now,
            timeout,
            place: 0,
            outcome: None,
        });
        id
    }

    pub(super) fn value(&self, id: u64) -> Vec<u8> {
        self.fates[id as usize].value.clone()
    }

    /// The call has accepted it; `exactly` now, as seen from other callers.
    pub(super) fn accepted(&mut self, id: u64, exactly: bool, now: Instant) {
        self.places += 1;
        self.accepted += 1;
        let place = if exactly { self.places } else { 0 };
        let fate = &mut self.fates[id as usize];
        (fate.sent, fate.place, fate.since) = (Sent::Accepted, place, now);
    }

    pub(super) fn refused(&mut self, id: u64) {
        self.fates[id as usize].sent = Sent::Refused;
    }

    /// The outcome that a call returned.
    pub(super) fn answered(&mut self, id: u64, outcome: Outcome) {
        let fate = &mut self.fates[id as usize];
        if outcome.success {
            fate.sent = Sent::Accepted;
            self.accepted += 1;
            self.outcomes += 1;
            self.successes += 1;
        } else {
            fate.sent = Sent::Unclear;
            self.unclear += 1;
        }
        fate.outcome = Some(outcome);
    }

    /// A delivery came.
    pub(super) fn delivered(&mut self, delivery: &Delivery, now: Instant) -> Result<(), String> {
        for (tag, at) in delivery.tags().iter().zip(0..) {
            let success = delivery.status == status::OK;
            let offset = match delivery.base_offset {
                -1 => -1,
                base => base + at,
            };
            let outcome = Outcome {
                partition: Some(delivery.partition),
                offset,
                success,
                maybe: delivery.flags & MAYBE_PERSISTED != 0,
                status: delivery.status,
            };
            if success == delivery.failure.is_some() {
                return Err(format!("record {tag}: a failure without words, or the reverse"));
            }
            self.outcome(*tag, &delivery.topic, outcome, now)?;
        }
        Ok(())
    }

    fn outcome(&mut self, id: u64, topic: &str, got: Outcome, now: Instant) -> Result<(), String> {
        let ways = self.plan.ways;
        let Some(fate) = self.fates.get_mut(id as usize) else {
            return Err(format!("an outcome for record {id}, which nobody sent"));
        };
        if *fate.topic != *topic {
            return Err(format!("record {id} of {} has an outcome in {topic}", fate.topic));
        }
        if let Some(first) = &fate.outcome {
            return Err(format!("record {id} has two outcomes: {first:?}, {got:?}"));
        }
        if fate.sent == Sent::Refused {
            return Err(format!("record {id} was refused and has an outcome: {got:?}"));
        }
        // Only where nothing stands between the decision and this.
        let age = now.since(fate.since);
        let waited = if fate.sent == Sent::Calling { LONGEST_CALL } else { Duration::ZERO };
        if ways == Ways::Callback && age > fate.timeout + LATE + waited {
            return Err(format!("record {id}: {got:?} came {age:?} after it was sent"));
        }
        self.outcomes += 1;
        self.successes += u64::from(got.success);
        fate.outcome = Some(got);
        Ok(())
    }

    /// The records that a flush now waits for.
    pub(super) fn accepted_so_far(&self) -> Vec<u64> {
        let is_accepted = |id: &u64| self.fates[*id as usize].sent == Sent::Accepted;
        (0..self.fates.len() as u64).filter(is_accepted).collect()
    }

    /// Those of them that have no outcome.
    pub(super) fn without_outcome(&self, ids: &[u64]) -> Vec<u64> {
        let none = |id: &&u64| self.fates[**id as usize].outcome.is_none();
        ids.iter().filter(none).copied().collect()
    }

    /// At the end: every outcome against the logs, and every log against the outcomes.
    pub(super) fn judge(&self, archive: &Archive) -> Result<(), String> {
        let mut places: HashMap<u64, Vec<(usize, i32, i64)>> = HashMap::default();
        for ((topic, partition), incarnations) in &archive.logs {
            for (incarnation, log) in incarnations.iter().enumerate() {
                for kept in log {
                    self.check_kept(topic, *partition, kept)?;
                    places.entry(kept.id).or_default().push((incarnation, *partition, kept.offset));
                }
            }
        }
        for (id, fate) in (0..).zip(&self.fates) {
            let found = places.get(&id).map_or(&[][..], Vec::as_slice);
            self.check_fate(id, fate, found)?;
        }
        if matches!(self.plan.mode, Mode::Idempotent | Mode::Ordered) {
            self.check_order(&places)?;
        }
        Ok(())
    }

    fn check_kept(&self, topic: &str, partition: i32, kept: &Kept) -> Result<(), String> {
        let id = kept.id;
        let here = format!("{topic}-{partition} at {}", kept.offset);
        let Some(fate) = self.fates.get(id as usize) else {
            return Err(format!("{here}: record {id}, which nobody sent"));
        };
        if *fate.topic != *topic {
            return Err(format!("{here}: record {id} of {}", fate.topic));
        }
        if fate.value != kept.value {
            return Err(format!("{here}: record {id} is damaged"));
        }
        if fate.sent == Sent::Refused {
            return Err(format!("{here}: record {id}, which was refused"));
        }
        Ok(())
    }

    fn check_fate(&self, id: u64, fate: &Fate, found: &[(usize, i32, i64)]) -> Result<(), String> {
        let all = format!("record {id}: {fate:?}, found at {found:?}");
        if fate.sent == Sent::Calling {
            return Err(format!("{all}: a call that never returned"));
        }
        let Some(outcome) = &fate.outcome else {
            return match fate.sent {
                Sent::Accepted if self.plan.ways != Ways::Nowhere => {
                    Err(format!("{all}: accepted and no outcome"))
                }
                Sent::Accepted | Sent::Calling | Sent::Refused | Sent::Unclear => Ok(()),
            };
        };
        if let Some(partition) = outcome.partition
            && found.iter().any(|(_, other, _)| *other != partition)
        {
            return Err(format!("{all}: in another partition"));
        }
        if self.plan.mode == Mode::Unacknowledged {
            return Ok(());
        }
        if outcome.success && found.is_empty() {
            return Err(format!("{all}: acknowledged and lost"));
        }
        // A topic that was created again is another one.
        let twice = found.windows(2).any(|pair| pair[0].0 == pair[1].0);
        if twice && self.plan.mode == Mode::Idempotent && !self.plan.weather.amnesia {
            return Err(format!("{all}: written more than once"));
        }
        let at_its_offset = |(_, _, offset): &(usize, i32, i64)| *offset == outcome.offset;
        if outcome.success && outcome.offset >= 0 && !found.iter().any(at_its_offset) {
            return Err(format!("{all}: acknowledged at another offset"));
        }
        if !outcome.success && !outcome.maybe && !found.is_empty() {
            return Err(format!("{all}: said not to be written"));
        }
        Ok(())
    }

    /// What was acknowledged is there in the order in which it was accepted: its first copy.
    fn check_order(&self, places: &HashMap<u64, Vec<(usize, i32, i64)>>) -> Result<(), String> {
        let mut by_partition: BTreeMap<(&str, i32), Vec<u64>> = BTreeMap::new();
        for (id, fate) in (0..).zip(&self.fates) {
            if let Some(outcome) = fate.outcome.as_ref().filter(|outcome| outcome.success) {
                let partition = outcome.partition.unwrap_or(-1);
                by_partition.entry((&fate.topic, partition)).or_default().push(id);
            }
        }
        let first = |id: &u64| places.get(id).and_then(|at| at.iter().min()).copied();
        let in_order = |ids: &[u64]| {
            ids.windows(2).find(|pair| first(&pair[0]) > first(&pair[1])).map(|pair| {
                let (a, b) = (pair[0], pair[1]);
                format!("records {a} at {:?} and {b} at {:?}: out of order", first(&a), first(&b))
            })
        };
        for ids in by_partition.values() {
            let callers = self.plan.callers + 2;
            for caller in 0..callers {
                let of_caller = |id: &&u64| self.fates[**id as usize].caller == caller;
                let own: Vec<u64> = ids.iter().filter(of_caller).copied().collect();
                in_order(&own).map_or(Ok(()), Err)?;
            }
            let mut placed: Vec<u64> =
                ids.iter().filter(|id| self.fates[**id as usize].place > 0).copied().collect();
            placed.sort_by_key(|id| self.fates[*id as usize].place);
            in_order(&placed).map_or(Ok(()), Err)?;
        }
        Ok(())
    }
}
