//! What was promised, held against what happened.
//!
//! Callers tell of each record before and after they hand it over; whoever takes deliveries tells
//! of each outcome; at the end the brokers' logs are read (`judge`). Nothing here asks the
//! producer.

use super::interceptors::Around;
use super::plan::{Pace, Plan, Ways};
use crate::clock::Instant;
use crate::delivery::Delivery;
use crate::error::{Error, MAYBE_PERSISTED, status};
use crate::record::ProducerRecord;
use std::fmt;
use std::time::Duration;

/// How late an outcome may be decided.
const LATE: Duration = Duration::from_millis(20);

/// A call for many records may have accepted one so long after it began.
const LONGEST_CALL: Duration = Duration::from_millis(550);

/// MESSAGE_TOO_LARGE, INVALID_TIMESTAMP, INVALID_RECORD: brokers find fault with records.
pub(super) const REFUSALS: [i32; 3] = [10, 32, 87];

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

/// Why no broker takes a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guilt {
    /// Its topic is compacted, and it has no key.
    NoKey,
    /// Its timestamp is too far ahead.
    Future,
}

impl Guilt {
    /// What brokers say of it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Guilt::NoKey => "a record without key in a compacted topic",
            Guilt::Future => "a timestamp further ahead than",
        }
    }
}

/// A record before it has a number.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) topic: String,
    pub(super) partition: Option<i32>,
    pub(super) key: Option<Vec<u8>>,
    /// Of the value, beside its number.
    pub(super) size: usize,
    pub(super) timestamp_ms: Option<i64>,
    /// 0: `delivery.timeout.ms`.
    pub(super) timeout_ms: u32,
    pub(super) guilt: Option<Guilt>,
}

impl Draft {
    /// The record, with its number and its value.
    pub(super) fn record<'a>(&'a self, id: u64, value: &'a [u8]) -> ProducerRecord<'a> {
        ProducerRecord {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            value: Some(value),
            headers: &[],
            timestamp_ms: self.timestamp_ms,
            tag: id,
            timeout_ms: self.timeout_ms,
            as_is: false,
        }
    }
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
    /// What a broker's refusal was told with; of no other failure.
    pub(super) words: String,
}

/// A record and its fate.
pub(super) struct Fate {
    pub(super) draft: Draft,
    pub(super) caller: usize,
    pub(super) value: Vec<u8>,
    pub(super) sent: Sent,
    /// When the call began.
    pub(super) called: Instant,
    /// The same, or when it had accepted the record.
    pub(super) since: Instant,
    /// How long after that it has its outcome.
    timeout: Duration,
    /// Its place among all that were accepted; 0 if that is not known exactly.
    pub(super) place: u64,
    pub(super) outcome: Option<Outcome>,
    pub(super) around: Around,
}

impl fmt::Debug for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fate")
            .field("draft", &self.draft)
            .field("caller", &self.caller)
            .field("sent", &self.sent)
            .field("times", &(self.called, self.since, self.timeout))
            .field("place", &self.place)
            .field("outcome", &self.outcome)
            .field("around", &self.around)
            .finish_non_exhaustive()
    }
}

/// See the module's comment.
pub(super) struct Oracle {
    pub(super) plan: Plan,
    pub(super) fates: Vec<Fate>,
    places: u64,
    pub(super) accepted: u64,
    pub(super) outcomes: u64,
    pub(super) successes: u64,
    /// Calls whose record may or may not have been accepted.
    pub(super) unclear: u64,
    /// What flushes have waited for and the next poll has to bring.
    pub(super) owed: Vec<u64>,
    /// How often each interceptor heard of the end.
    pub(super) ended: [u32; 2],
}

impl Outcome {
    pub(super) fn written(partition: i32, offset: i64) -> Outcome {
        Outcome {
            partition: Some(partition),
            offset,
            success: true,
            maybe: false,
            status: 0,
            words: String::new(),
        }
    }

    /// What a call returned.
    pub(super) fn failed(partition: Option<i32>, error: &Error) -> Outcome {
        let maybe = error.flags & MAYBE_PERSISTED != 0;
        let words = words_of(error.status, || error.message.to_string());
        Outcome { partition, offset: -1, success: false, maybe, status: error.status, words }
    }
}

/// Refusals of single records say why.
fn words_of(status: i32, words: impl FnOnce() -> String) -> String {
    if REFUSALS.contains(&status) { words() } else { String::new() }
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
            ended: [0; 2],
        }
    }

    /// A record that is about to be sent; its number.
    pub(super) fn calls(&mut self, draft: &Draft, caller: usize, now: Instant) -> u64 {
        let timeout = match draft.timeout_ms {
            0 => self.plan.delivery_timeout,
            ms => Duration::from_millis(ms.into()),
        };
        let id = self.fates.len() as u64;
        let mut value = id.to_be_bytes().to_vec();
        // What a wrong byte or another record's would not be.
        let size = draft.size as u64;
        value.extend((0..size).map(|at| (id.wrapping_mul(31) ^ at.wrapping_mul(7)) as u8));
        self.fates.push(Fate {
            draft: draft.clone(),
            caller,
            value,
            sent: Sent::Calling,
            called: now,
            since: now,
            timeout,
            place: 0,
            outcome: None,
            around: Around::default(),
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

    /// The call has refused it, for the reason that it gives.
    pub(super) fn refused(&mut self, id: u64, status: i32) -> Result<(), String> {
        self.fates[id as usize].sent = Sent::Refused;
        self.check_told_of_refusal(id, status)
    }

    /// The call has come to an end before it.
    pub(super) fn left_out(&mut self, id: u64) -> Result<(), String> {
        self.fates[id as usize].sent = Sent::Refused;
        self.check_unseen(id)
    }

    /// The outcome that a call returned.
    pub(super) fn answered(
        &mut self,
        id: u64,
        outcome: Outcome,
        now: Instant,
    ) -> Result<(), String> {
        let fate = &mut self.fates[id as usize];
        fate.since = now;
        if outcome.success {
            fate.sent = Sent::Accepted;
            self.accepted += 1;
            self.outcomes += 1;
            self.successes += 1;
        } else {
            fate.sent = Sent::Unclear;
            self.unclear += 1;
        }
        let (success, status) = (outcome.success, outcome.status);
        fate.outcome = Some(outcome);
        if success { self.check_told(id) } else { self.check_told_of_refusal(id, status) }
    }

    /// A delivery came.
    pub(super) fn delivered(&mut self, delivery: &Delivery, now: Instant) -> Result<(), String> {
        self.check_records(delivery)?;
        for (tag, at) in delivery.tags().iter().zip(0..) {
            let success = delivery.status == status::OK;
            let offset = match delivery.base_offset {
                -1 => -1,
                base => base + at,
            };
            let told =
                || delivery.failure.as_ref().map(|failure| failure.message.to_string_lossy());
            let outcome = Outcome {
                partition: Some(delivery.partition),
                offset,
                success,
                maybe: delivery.flags & MAYBE_PERSISTED != 0,
                status: delivery.status,
                words: words_of(delivery.status, || told().unwrap_or_default().into_owned()),
            };
            if success == delivery.failure.is_some() {
                return Err(format!("record {tag}: a failure without words, or the reverse"));
            }
            self.outcome(*tag, &delivery.topic, outcome, now)?;
        }
        Ok(())
    }

    /// Records that failed come back whole.
    pub(super) fn check_records(&self, delivery: &Delivery) -> Result<(), String> {
        if delivery.records().is_none() {
            let failed = delivery.failure.is_some();
            return if failed { Err("failed records without records".into()) } else { Ok(()) };
        }
        let mut space = Vec::new();
        let values = delivery.remains.walk(&mut space).map(|record| record.value);
        let fates = delivery.tags().iter().map(|id| self.fates.get(*id as usize));
        match values.eq(fates.map(|fate| fate.map(|fate| fate.value.as_slice()))) {
            true => Ok(()),
            false => Err(format!("records {:?} come back as others", delivery.tags())),
        }
    }

    fn outcome(&mut self, id: u64, topic: &str, got: Outcome, now: Instant) -> Result<(), String> {
        let ways = self.plan.ways;
        let Some(fate) = self.fates.get_mut(id as usize) else {
            return Err(format!("an outcome for record {id}, which nobody sent"));
        };
        if *fate.draft.topic != *topic {
            let of = &fate.draft.topic;
            return Err(format!("record {id} of {of} has an outcome in {topic}"));
        }
        if let Some(first) = &fate.outcome {
            return Err(format!("record {id} has two outcomes: {first:?}, {got:?}"));
        }
        if fate.sent == Sent::Refused {
            return Err(format!("record {id} was refused and has an outcome: {got:?}"));
        }
        // Only where nothing stands between the decision and this: no interceptor that takes its
        // time either, which the callback thread may be in when it sends.
        let at_once = ways == Ways::Callback && self.plan.interceptors != Some(Pace::Slow);
        let age = now.since(fate.since);
        let waited = if fate.sent == Sent::Calling { LONGEST_CALL } else { Duration::ZERO };
        if at_once && age > fate.timeout + LATE + waited {
            return Err(format!("record {id}: {got:?} came {age:?} after it was sent"));
        }
        self.outcomes += 1;
        self.successes += u64::from(got.success);
        fate.outcome = Some(got);
        self.check_told(id)
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
}
