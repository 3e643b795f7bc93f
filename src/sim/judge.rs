//! The judgement: every outcome against the logs, and every log against the outcomes.

use super::archive::{Archive, Kept};
use super::audit::Identity;
use super::oracle::{Fate, Oracle, REFUSALS, Sent};
use super::plan::{Mode, Ways};
use crate::partitioner::murmur2::murmur2;
use crate::protocol::record_batch::BATCH_HEADER_LEN;
use std::collections::{BTreeMap, HashMap};

/// MESSAGE_TOO_LARGE.
const TOO_LARGE: i32 = 10;
/// What a record takes beside key and value at most.
const MOST_RECORD_OVERHEAD: usize = 21;

/// The partition of a key among so many.
fn partition_of(key: &[u8], count: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) as i32 % count
}

/// Where a record was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Which of its partition's logs.
    log: usize,
    partition: i32,
    offset: i64,
    identity: Identity,
}

impl Oracle {
    /// At the end: every outcome against the logs, and every log against the outcomes.
    pub(super) fn judge(&self, archive: &Archive) -> Result<(), String> {
        let mut places: HashMap<u64, Vec<Place>> = HashMap::default();
        for ((topic, partition), incarnations) in &archive.logs {
            for (incarnation, log) in incarnations.iter().enumerate() {
                for kept in log {
                    self.check_kept(topic, *partition, kept, archive)?;
                    let Kept { id, offset, identity, .. } = *kept;
                    let place = Place { log: incarnation, partition: *partition, offset, identity };
                    places.entry(id).or_default().push(place);
                }
            }
        }
        for (id, fate) in (0..).zip(&self.fates) {
            let found = places.get(&id).map_or(&[][..], Vec::as_slice);
            self.check_fate(fate, found)
                .and_then(|()| self.check_once(fate, found, archive))
                .and_then(|()| self.check_refusal(fate, archive))
                .map_err(|text| format!("record {id}: {text}; {fate:?}, found at {found:?}"))?;
        }
        self.check_refused(&archive.refused)?;
        self.check_interceptors()?;
        if matches!(self.plan.mode, Mode::Idempotent | Mode::Ordered) {
            self.check_order(&places)?;
        }
        Ok(())
    }

    fn check_kept(
        &self,
        topic: &str,
        partition: i32,
        kept: &Kept,
        archive: &Archive,
    ) -> Result<(), String> {
        let Some(fate) = self.fates.get(kept.id as usize) else {
            return Err(format!("{topic}-{partition}: record {}, which nobody sent", kept.id));
        };
        let draft = &fate.draft;
        let stamped = match draft.timestamp_ms {
            Some(timestamp) => timestamp == kept.timestamp_ms,
            None => archive.showed(kept.timestamp_ms, fate.called, fate.since),
        };
        let place_of_key = |count: &i32| draft.key.as_deref().map(|key| partition_of(key, *count));
        let of_key = || {
            let counts = archive.partition_counts(topic);
            counts.iter().filter_map(place_of_key).any(|place| place == partition)
        };
        let fault = if *draft.topic != *topic {
            "it was sent to another topic"
        } else if draft.partition.is_some_and(|wanted| wanted != partition) {
            "it was sent to another partition"
        } else if draft.partition.is_none() && draft.key.is_some() && !of_key() {
            "its key belongs elsewhere"
        } else if fate.value != kept.value {
            "it is damaged"
        } else if !stamped {
            "no clock showed its time"
        } else if fate.sent == Sent::Refused {
            "it was refused"
        } else if draft.guilt.is_some() {
            "no broker takes it"
        } else {
            return Ok(());
        };
        let Kept { id, offset, timestamp_ms, .. } = kept;
        Err(format!(
            "{topic}-{partition} at {offset}: record {id} of {timestamp_ms}: {fault}: {fate:?}"
        ))
    }

    fn check_fate(&self, fate: &Fate, found: &[Place]) -> Result<(), &'static str> {
        if fate.sent == Sent::Calling {
            return Err("a call that never returned");
        }
        let Some(outcome) = &fate.outcome else {
            return match fate.sent {
                Sent::Accepted if self.plan.ways != Ways::Nowhere => Err("accepted and no outcome"),
                Sent::Accepted | Sent::Calling | Sent::Refused | Sent::Unclear => Ok(()),
            };
        };
        if let Some(partition) = outcome.partition
            && found.iter().any(|place| place.partition != partition)
        {
            return Err("in another partition");
        }
        if self.plan.mode == Mode::Unacknowledged {
            return Ok(());
        }
        if outcome.success && found.is_empty() {
            return Err("acknowledged and lost");
        }
        let at_its_offset = |place: &Place| place.offset == outcome.offset;
        if outcome.success && outcome.offset >= 0 && !found.iter().any(at_its_offset) {
            return Err("acknowledged at another offset");
        }
        if !outcome.success && !outcome.maybe && !found.is_empty() {
            return Err("said not to be written");
        }
        Ok(())
    }

    /// Written once. A topic that was created again is another one; and a broker that has lost what
    /// it knew of the producer takes a batch again that was written without an answer: under the
    /// identity it had, which is all that a client can do (ARCHITECTURE.md, Identity).
    fn check_once(
        &self,
        fate: &Fate,
        found: &[Place],
        archive: &Archive,
    ) -> Result<(), &'static str> {
        if self.plan.mode != Mode::Idempotent {
            return Ok(());
        }
        let topic = &fate.draft.topic;
        for pair in found.windows(2).filter(|pair| pair[0].log == pair[1].log) {
            let [first, again] = [pair[0], pair[1]];
            let at = (first.log, first.partition);
            if !archive.forgot(topic, at, first.offset, again.offset) {
                return Err("written more than once");
            }
            if first.identity != again.identity {
                return Err("written again as another");
            }
        }
        Ok(())
    }

    /// Brokers refuse single records for cause, and the others of a batch are not to suffer from
    /// it. One of unknown outcome may neither be cut nor sent as another: it fails as a whole.
    fn check_refusal(&self, fate: &Fate, archive: &Archive) -> Result<(), &'static str> {
        let outcome = fate.outcome.as_ref();
        let Some(outcome) = outcome.filter(|outcome| REFUSALS.contains(&outcome.status)) else {
            return Ok(());
        };
        if outcome.maybe {
            return Ok(());
        }
        let draft = &fate.draft;
        if outcome.status == TOO_LARGE {
            let key = draft.key.as_ref().map_or(0, Vec::len);
            let most = BATCH_HEADER_LEN + MOST_RECORD_OVERHEAD + key + fate.value.len();
            // A call may say so too, of `max.request.size`.
            let limit = archive.smallest_limit(&draft.topic).min(self.plan.max_request_size);
            return if most > limit { Ok(()) } else { Err("no broker finds it too large") };
        }
        match draft.guilt {
            Some(guilt) if outcome.words.contains(guilt.words()) => Ok(()),
            Some(_) => Err("it does not say what the broker finds fault with"),
            // One that was asked for.
            None if !self.plan.guilty && self.plan.weather.final_errors => Ok(()),
            None if self.plan.rejects && outcome.words.contains("another record") => Ok(()),
            None => Err("no broker finds fault with it"),
        }
    }

    /// Where the good records of a refused batch are to fail with the bad ones, they do. A batch
    /// may fall apart before: at a deadline (then not all of it is said to be refused), or for its
    /// size.
    fn check_refused(&self, batches: &[Vec<u64>]) -> Result<(), String> {
        let whole = |id: &u64| {
            let limit = self.plan.topics.iter().filter_map(|topic| topic.limit).min();
            let all_take_it = limit.is_none() && !self.plan.weather.limits;
            self.fates.get(*id as usize).filter(|_| all_take_it)
        };
        for ids in batches {
            let fates = || ids.iter().filter_map(whole);
            let is_refused = |fate: &Fate| {
                let outcome = fate.outcome.as_ref().filter(|outcome| !outcome.maybe);
                let refused = outcome.is_some_and(|outcome| REFUSALS.contains(&outcome.status));
                fate.draft.guilt.is_some() && refused
            };
            let succeeded = |fate: &Fate| fate.outcome.as_ref().is_some_and(|told| told.success);
            if fates().any(is_refused) && fates().any(succeeded) {
                return Err(format!("of {ids:?} some were refused, and others not with them"));
            }
        }
        Ok(())
    }

    /// What was acknowledged is there in the order in which it was accepted: its first copy.
    fn check_order(&self, places: &HashMap<u64, Vec<Place>>) -> Result<(), String> {
        let mut by_partition: BTreeMap<(&str, i32), Vec<u64>> = BTreeMap::new();
        for (id, fate) in (0..).zip(&self.fates) {
            if let Some(outcome) = fate.outcome.as_ref().filter(|outcome| outcome.success) {
                let partition = outcome.partition.unwrap_or(-1);
                by_partition.entry((&fate.draft.topic, partition)).or_default().push(id);
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
