//! Room 3: the record's partition. A partition of its own; else the user's partitioner; else the
//! hash of its key; else the sticky one.
//!
//! On the thread that sends. What may give another answer when it is asked again (the user's code,
//! turns) is asked once per record and before anything else: the record goes on with that partition
//! as its own. Hashes and sticky partitions are asked where the record is appended.

use super::Shared;
use super::send::refuse_in_a_send;
use super::topics::Resolved;
use super::wait::Wait;
use crate::accumulator::append::Pushed;
use crate::config::{PartitionerClass, Partitioning};
use crate::delivery::reentry;
use crate::error::{Error, Result, status};
use crate::metadata::PartitionInfo;
use crate::partitioner::{Availability, Keys, Partitioner, Place, Sticking, Survey, Turn, turn_of};
use crate::record::ProducerRecord;
use std::sync::Arc;

/// How this producer chooses.
pub(super) struct Choosing {
    keys: Keys,
    turn: Option<Turn>,
    /// The user's.
    pub own: Option<Arc<dyn Partitioner>>,
    pub sticking: Sticking,
    availability: Arc<Availability>,
    /// `client.rack`, where it matters.
    rack: Option<Arc<str>>,
    /// It is asked once per record, before anything else.
    asks_first: bool,
}

impl Choosing {
    pub fn new(
        partitioning: &Partitioning,
        own: Option<Arc<dyn Partitioner>>,
        availability: Arc<Availability>,
    ) -> Choosing {
        let Partitioning { class, adaptive, rack, .. } = partitioning;
        let turn = turn_of(*class);
        let sticking = if *class == PartitionerClass::UniformSticky {
            Sticking::UntilBatchIsFull
        } else if *adaptive || rack.is_some() {
            Sticking::ByLoad
        } else {
            Sticking::Evenly
        };
        Choosing {
            keys: Keys::of(partitioning),
            turn,
            asks_first: own.is_some() || turn.is_some(),
            own,
            sticking,
            availability,
            rack: rack.clone(),
        }
    }

    /// Whether records get their partition by [`Shared::find_place`].
    #[inline]
    pub fn asks_first(&self) -> bool {
        self.asks_first
    }
}

impl Shared {
    /// The record's partition, and whether it is the sticky one.
    #[inline]
    pub(super) fn choose(&self, topic: &Resolved, record: &ProducerRecord<'_>) -> (i32, bool) {
        if let Some(partition) = record.partition {
            return (partition, false);
        }
        match self.choosing.keys.partition(record.key, topic.partitions.len()) {
            Some(partition) => (partition, false),
            None => {
                let around = Around { shared: self, topic };
                (topic.topic.sticky.peek(&topic.metadata, &around, &self.rng), true)
            }
        }
    }

    #[inline]
    pub(super) fn count_sticky(&self, topic: &Resolved, index: i32, pushed: Pushed) {
        let Pushed { bytes, batch_full } = pushed;
        let around = Around { shared: self, topic };
        let sticky = &topic.topic.sticky;
        sticky.update(index, bytes, batch_full, &topic.metadata, &around, &self.rng);
    }

    /// Gives the record a partition of its own, where it has to be asked for first.
    pub(super) fn find_place(
        &self,
        record: &mut ProducerRecord<'_>,
        wait: &mut Wait,
    ) -> Result<()> {
        if !self.choosing.asks_first || record.partition.is_some() {
            return Ok(());
        }
        refuse_in_a_send()?;
        let partition = self.with_topic(record.topic, wait, |topic, _| self.ask(topic, record))?;
        record.partition = Some(partition);
        Ok(())
    }

    /// Nothing is locked here, and this thread's last topic is out of a send's reach.
    fn ask(&self, topic: &Resolved, record: &ProducerRecord<'_>) -> Result<i32> {
        if let Some(own) = &self.choosing.own {
            let infos = topic.infos.as_deref().unwrap_or_default();
            let inside = reentry::enter_in_a_send();
            let answer = own.partition(record, infos);
            drop(inside);
            return check(answer, infos, record.topic);
        }
        let turn = self.choosing.turn.unwrap_or(Turn::RoundRobin);
        Ok(topic.topic.turns.take(turn, &topic.metadata))
    }
}

fn check(answer: i32, infos: &[PartitionInfo], topic: &str) -> Result<i32> {
    if usize::try_from(answer).is_ok_and(|at| at < infos.len()) {
        return Ok(answer);
    }
    let count = infos.len();
    let last = count.saturating_sub(1);
    let message = match answer {
        -1 => format!(
            "topic {topic}: the partitioner answered -1, that is, it refused the record; the topic \
             has {count} partitions (0 to {last})"
        ),
        _ => format!(
            "topic {topic}: the partitioner answered {answer}, but there are {count} partitions \
             (0 to {last}): return an index into those it is shown, or -1 to fail the record"
        ),
    };
    Err(Error::new(status::PARTITIONING, message))
}

/// What the sticky partitioner may ask about a topic's partitions.
struct Around<'a> {
    shared: &'a Shared,
    topic: &'a Resolved,
}

impl Survey for Around<'_> {
    fn places(&self, places: &mut Vec<Place>) {
        let Choosing { rack, availability, .. } = &self.shared.choosing;
        let cluster = rack.is_some().then(|| self.shared.metadata.snapshot());
        let adapts = self.shared.settings.partitioning.adaptive;
        let partitions = self.topic.partitions.iter().zip(&self.topic.metadata.partitions);
        places.extend(partitions.map(|(partition, metadata)| {
            let node = cluster.as_ref().and_then(|cluster| cluster.node(metadata.leader));
            let its_rack = node.and_then(|node| node.rack.as_ref());
            Place {
                queued: if adapts { partition.queued() } else { 0 },
                slow: availability.is_slow(metadata.leader),
                near: its_rack.is_some() && its_rack == rack.as_ref(),
            }
        }));
    }

    fn is_slow(&self, node: i32) -> bool {
        self.shared.choosing.availability.is_slow(node)
    }
}
