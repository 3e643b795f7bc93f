//! Interceptors: two around every record. Both change records and fail at times, in each way there
//! is, may take their time, and send from where that is allowed and where it is not.
//!
//! What they are promised is checked as it happens and at the end: each sees every record once, as
//! the one before it has left it; is told once what became of it, before the user and as the user
//! is, or as the call that refused it says; and hears of the end last.

use super::baton::sleeps;
use super::caller::{Caller, topic_name};
use super::oracle::{Draft, Fate, Oracle, Sent};
use super::plan::{Pace, Ways};
use super::reader;
use super::world::World;
use crate::clock::Instant;
use crate::delivery::reentry;
use crate::error::{Error, Result, status};
use crate::interceptors::{Acknowledgement, Interceptor};
use crate::record::ProducerRecord;
use crate::serializer::Arena;
use crate::sync::lock;
use fastrand::Rng;
use std::cell::RefCell;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

/// How many there are.
const COUNT: usize = 2;
/// How long one may take over a record, in microseconds.
const LONGEST_REST: u64 = 20_000;

thread_local! {
    /// When this thread has rested in an interceptor, and for how long.
    static RESTS: RefCell<Vec<(Instant, Duration)>> = const { RefCell::new(Vec::new()) };
}

/// How long this thread has been in interceptors since then: what no call has to answer for.
pub(super) fn rested_since(began: Instant) -> Duration {
    RESTS.with_borrow(|rests| {
        rests.iter().rev().take_while(|(at, _)| *at >= began).map(|(_, rest)| *rest).sum()
    })
}

/// One of them.
pub(super) struct Link {
    /// Its place in the chain.
    place: usize,
    /// Weak, for the producer holds this.
    world: OnceLock<Weak<World>>,
    rng: Mutex<Rng>,
}

/// The chain that a plan asks for.
pub(super) fn chain(world: &Arc<World>, seed: u64) -> Vec<Arc<dyn Interceptor>> {
    let count = if world.plan.interceptors.is_some() { COUNT } else { 0 };
    let link = |place| {
        let rng = Mutex::new(Rng::with_seed(seed ^ (11 + place as u64)));
        let link = Link { place, world: OnceLock::from(Arc::downgrade(world)), rng };
        Arc::new(link) as Arc<dyn Interceptor>
    };
    (0..count).map(link).collect()
}

/// What an interceptor does with a record.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Nothing,
    Value,
    Key,
    Partition,
    Fail,
    Panic,
    Topic,
    /// Sends another one, which is refused here.
    Send,
}

impl Link {
    fn world(&self) -> Option<Arc<World>> {
        self.world.get().and_then(Weak::upgrade)
    }

    fn chance(&self, one_in: u32) -> bool {
        lock(&self.rng).u32(0..one_in) == 0
    }

    fn deed(&self) -> Deed {
        match lock(&self.rng).u32(0..24) {
            0..3 => Deed::Value,
            3 => Deed::Key,
            4 => Deed::Partition,
            5 | 6 => Deed::Fail,
            7 => Deed::Panic,
            8 => Deed::Topic,
            9 => Deed::Send,
            _ => Deed::Nothing,
        }
    }

    /// Takes its time, at times.
    fn rest(&self, world: &World) {
        if world.plan.interceptors != Some(Pace::Slow) || !self.chance(30) {
            return;
        }
        let rest = Duration::from_micros(lock(&self.rng).u64(0..LONGEST_REST));
        let began = world.clock.now();
        world.baton.sleep_until(&world.clock, began.after(rest));
        RESTS.with_borrow_mut(|rests| rests.push((began, world.clock.now().since(began))));
    }

    /// Sends a record from inside the user's code; what is not accepted is told at once.
    fn send(&self, world: &Arc<World>) {
        let Some(producer) = world.producer.get().and_then(Weak::upgrade) else { return };
        // No order between the threads that come by here.
        let number = world.plan.callers + 2;
        let rng = Rng::with_seed(0);
        let caller = Caller { world: Arc::clone(world), producer, number, rng };
        let draft = Draft {
            topic: topic_name(0),
            partition: Some(0),
            key: Some(vec![1]),
            size: 5,
            timestamp_ms: None,
            timeout_ms: 0,
            guilt: None,
        };
        let slept = sleeps();
        let result = caller.hand_over(&draft, false);
        let refused = result.as_ref().map_or_else(|error| error.status, |()| status::OK);
        if reentry::inside_a_send() && !matches!(refused, status::WOULD_DEADLOCK | status::CLOSED) {
            world.fail(format!("a send inside a send: {result:?}"));
        }
        if world.plan.interceptors == Some(Pace::Quick) && slept != sleeps() {
            world.fail("a send inside the user's code waits".into());
        }
        if let Err(error) = result {
            caller.check_refusal(&error);
        }
    }

    fn change<'a>(
        &self,
        world: &Arc<World>,
        record: ProducerRecord<'a>,
        arena: &'a Arena,
    ) -> Result<ProducerRecord<'a>> {
        let mut oracle = lock(&world.oracle);
        let fate = &mut oracle.fates[record.tag as usize];
        match self.deed() {
            Deed::Value => {
                // What it begins with is its number.
                fate.value.iter_mut().skip(8).for_each(|byte| *byte ^= 0x5a);
                fate.value.push(self.place as u8);
                Ok(ProducerRecord { value: Some(arena.copy(&fate.value).unwrap()), ..record })
            }
            Deed::Key if fate.draft.key.is_some() => {
                let key = vec![lock(&self.rng).u8(20..40)];
                let key = &*fate.draft.key.insert(key);
                Ok(ProducerRecord { key: Some(arena.copy(key).unwrap()), ..record })
            }
            Deed::Partition => {
                let of = |topic: &usize| topic_name(*topic) == record.topic;
                let topic = (0..world.plan.topics.len()).find(of).unwrap();
                let count = world.plan.topics[topic].partitions;
                fate.draft.partition = Some(lock(&self.rng).i32(0..count));
                Ok(ProducerRecord { partition: fate.draft.partition, ..record })
            }
            Deed::Fail => Err(Error::new(status::INVALID_ARGUMENT, "an interceptor's failure")),
            Deed::Panic => {
                drop(oracle);
                resume_unwind(Box::new("an interceptor's defect"));
            }
            Deed::Topic => Ok(ProducerRecord { topic: "elsewhere", value: None, ..record }),
            Deed::Send => {
                drop(oracle);
                self.send(world);
                Ok(record)
            }
            Deed::Nothing | Deed::Key => Ok(record),
        }
    }
}

impl Interceptor for Link {
    fn on_send<'a>(
        &self,
        record: ProducerRecord<'a>,
        arena: &'a Arena,
    ) -> Result<ProducerRecord<'a>> {
        let Some(world) = self.world() else { return Ok(record) };
        self.rest(&world);
        world.trace.note(&[60, self.place as u64, record.tag], || {
            format!("interceptor {} sees record {}", self.place, record.tag)
        });
        if let Err(text) = lock(&world.oracle).sees(self.place, &record) {
            world.fail(text);
        }
        self.change(&world, record, arena)
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        let Some(world) = self.world() else { return };
        let (status, base) = (acknowledgement.status(), acknowledgement.base_offset());
        let tags = acknowledgement.tags();
        world.trace.note(&[61, self.place as u64, tags[0], status as u64], || {
            format!("interceptor {} is told of {tags:?}: {status} at {base}", self.place)
        });
        let result = {
            let mut oracle = lock(&world.oracle);
            let partition = acknowledgement.partition();
            let mut told = tags.iter().zip(0..).map(|(tag, at)| {
                let offset = if base < 0 { -1 } else { base + at };
                oracle.is_told(self.place, *tag, Told { status, partition, offset })
            });
            told.try_for_each(|told| told)
        };
        result.unwrap_or_else(|text| world.fail(text));
        if let Acknowledgement::Delivered(delivery) = acknowledgement {
            let whole = lock(&world.oracle).check_records(delivery);
            whole.unwrap_or_else(|text| world.fail(text));
            // Nobody else hears of it.
            if world.plan.ways == Ways::Nowhere && delivery.sync_id == 0 && self.place + 1 == COUNT
            {
                reader::take(&world, std::slice::from_ref(delivery));
            }
        }
        match lock(&self.rng).u32(0..80) {
            0 => resume_unwind(Box::new("an interceptor's defect")),
            1 => {}
            _ => return,
        }
        self.send(&world);
    }

    fn on_close(&self) {
        let Some(world) = self.world() else { return };
        let mut oracle = lock(&world.oracle);
        oracle.ended[self.place] += 1;
    }
}

/// What an interceptor is told of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    status: i32,
    partition: i32,
    offset: i64,
}

/// What the interceptors know of a record.
#[derive(Debug, Clone, Default)]
pub(super) struct Around {
    /// How many have seen it.
    seen: usize,
    /// What each was told.
    told: Vec<Told>,
}

impl Oracle {
    fn sees(&mut self, place: usize, record: &ProducerRecord<'_>) -> Result<(), String> {
        let ended = self.ended;
        let id = record.tag;
        let Some(fate) = self.fates.get_mut(id as usize) else {
            return Err(format!("an interceptor sees record {id}, which nobody sends"));
        };
        let Fate { draft, value, sent, around, .. } = fate;
        let fault = if *sent != Sent::Calling {
            "it is not being sent"
        } else if ended != [0; COUNT] {
            "it is over"
        } else if around.seen != place || !around.told.is_empty() {
            "it is not this one's turn"
        } else if record.value != Some(&**value)
            || record.key != draft.key.as_deref()
            || record.partition != draft.partition
            || record.topic != draft.topic
        {
            "it is not what the last good one has left"
        } else {
            around.seen += 1;
            return Ok(());
        };
        Err(format!("interceptor {place} sees record {id}: {fault}: {fate:?}"))
    }

    fn is_told(&mut self, place: usize, id: u64, told: Told) -> Result<(), String> {
        let ended = self.ended;
        let Some(fate) = self.fates.get_mut(id as usize) else {
            return Err(format!("an interceptor is told of record {id}, which nobody sent"));
        };
        let around = &mut fate.around;
        let fault = if ended != [0; COUNT] {
            "it is over"
        } else if around.seen != COUNT {
            "not all have seen it"
        } else if around.told.len() != place {
            "it is not this one's turn"
        } else if around.told.iter().any(|other| *other != told) {
            "another one was told something else"
        } else {
            around.told.push(told);
            return Ok(());
        };
        Err(format!("interceptor {place} is told {told:?} of record {id}: {fault}: {fate:?}"))
    }

    /// The user hears of a record that was accepted: the interceptors have heard the same.
    pub(super) fn check_told(&self, id: u64) -> Result<(), String> {
        let Some(fate) = self.fates.get(id as usize) else { return Ok(()) };
        let (Some(_), Some(outcome)) = (self.plan.interceptors, &fate.outcome) else {
            return Ok(());
        };
        let same = |told: &Told| {
            told.status == outcome.status
                && told.offset == outcome.offset
                && outcome.partition.is_none_or(|partition| partition == told.partition)
        };
        let told = &fate.around.told;
        match told.len() == COUNT && told.iter().all(same) {
            true => Ok(()),
            false => Err(format!("record {id}: the interceptors heard something else: {fate:?}")),
        }
    }

    /// A call failed with this, and that was all: so were the interceptors told, if they saw the
    /// record.
    pub(super) fn check_told_of_refusal(&self, id: u64, status: i32) -> Result<(), String> {
        let fate = &self.fates[id as usize];
        let Around { seen, told } = &fate.around;
        let expected = if self.plan.interceptors.is_some() && *seen > 0 { COUNT } else { 0 };
        let all = *seen == expected && told.len() == expected;
        match all && told.iter().all(|told| told.status == status) {
            true => Ok(()),
            false => Err(format!("record {id} was refused with {status}: {fate:?}")),
        }
    }

    /// A record behind one that a call refused.
    pub(super) fn check_unseen(&self, id: u64) -> Result<(), String> {
        let fate = &self.fates[id as usize];
        match fate.around.seen {
            0 => Ok(()),
            _ => Err(format!("record {id} stood behind one that was refused: {fate:?}")),
        }
    }

    /// At the end: nobody missed anything.
    pub(super) fn check_interceptors(&self) -> Result<(), String> {
        if self.plan.interceptors.is_none() {
            return Ok(());
        }
        if self.ended != [1; COUNT] {
            return Err(format!("the interceptors heard of the end {:?} times", self.ended));
        }
        for (id, fate) in self.fates.iter().enumerate() {
            let Around { seen, told } = &fate.around;
            let missed = *seen == 0 && fate.sent == Sent::Accepted;
            if missed || !matches!((*seen, told.len()), (0, 0) | (COUNT, COUNT)) {
                return Err(format!("record {id} is not known to all interceptors: {fate:?}"));
            }
        }
        Ok(())
    }
}
