//! Rooms 1 to 5: one record from the caller into its partition's open batch, on the caller's
//! thread, without a hand-off.

use super::topics::Resolved;
use super::wait::Wait;
use super::{Producer, Shared, Timeout};
use crate::accumulator::append::{Appended, Pushed};
use crate::accumulator::back::NO_LEADER;
use crate::accumulator::batch::Alone;
use crate::accumulator::front::Partition;
use crate::accumulator::holder::share;
use crate::accumulator::ticket::Waiting;
use crate::accumulator::times::own_deadline;
use crate::clock::{Instant, Reading};
use crate::delivery::reentry;
use crate::error::{Error, RETRIABLE, Result, status};
use crate::record::ProducerRecord;
use crate::sender::{Control, Reply};
use std::sync::Arc;
use std::time::Duration;

/// So many records of a batch call go under one reading of the clock and one lock at most.
const LONGEST_RUN: usize = 64;

/// What came of one try.
enum Attempt {
    Done,
    NoPartition,
    /// Nor memory for the partition of this number; keep the place in the line until the next try
    /// has come back.
    NoMemory(Waiting, i32),
}

/// A record that waits for memory.
struct Later<'a> {
    record: &'a ProducerRecord<'a>,
    /// When its call began.
    since: Instant,
    alone: Option<Alone>,
}

impl Producer {
    /// Sends one record, waiting up to `max.block.ms` for metadata and for memory.
    pub fn send(&self, record: &ProducerRecord<'_>) -> Result<()> {
        self.send_within(record, self.shared.settings.max_block)
    }

    /// The same, but never waits.
    pub fn try_send(&self, record: &ProducerRecord<'_>) -> Result<()> {
        self.send_within(record, Duration::ZERO)
    }

    #[inline(always)]
    fn send_within(&self, record: &ProducerRecord<'_>, budget: Duration) -> Result<()> {
        let shared = &self.shared;
        shared.check_open()?;
        let reading = shared.clock.reading();
        if !shared.plain {
            return shared.send_plugged(record, reading, &mut Wait::new(reading.mono, budget));
        }
        if shared.append_if_room(record, reading) {
            return Ok(());
        }
        let mut wait = Wait::new(reading.mono, budget);
        shared.append(record, reading, &mut wait, None)
    }

    /// Sends records in order until one is refused; returns how many were accepted. `records` is
    /// asked for the next one while a lock is held: it waits for nothing and runs no user code.
    /// What is plugged in runs for one record at a time, before any lock is taken, and not for
    /// those behind the first that is refused.
    pub fn send_batch<'a>(
        &self,
        records: impl Iterator<Item = Result<ProducerRecord<'a>>>,
        timeout: Timeout,
    ) -> (usize, Result<()>) {
        if let Err(error) = self.shared.check_open() {
            return (0, Err(error));
        }
        let mut wait = self.shared.wait_for(timeout);
        let mut records = records.fuse();
        let mut next = None;
        let mut accepted = 0;
        loop {
            let record = match next.take().or_else(|| records.next()) {
                None => return (accepted, Ok(())),
                Some(Err(error)) => return (accepted, Err(error)),
                Some(Ok(record)) => record,
            };
            let reading = self.shared.clock.reading();
            if !self.shared.plain {
                // One by one: what runs may be the user's code, and there is a lock on a run.
                if let Err(error) = self.shared.send_plugged(&record, reading, &mut wait) {
                    return (accepted, Err(error));
                }
                accepted += 1;
                continue;
            }
            let appended;
            (appended, next) = self.shared.append_run(record, &mut records, reading);
            accepted += appended;
            if appended == 0 {
                if let Err(error) = self.shared.append(&record, reading, &mut wait, None) {
                    return (accepted, Err(error));
                }
                accepted += 1;
            }
        }
    }
}

impl Shared {
    /// The common case, in line and without an error: the topic is this thread's last one, and the
    /// partition's open batch has room. False: it takes more than that, and nothing has happened.
    #[inline(always)]
    fn append_if_room(&self, record: &ProducerRecord<'_>, reading: Reading) -> bool {
        let appended = self.with_last(record.topic, |topic| {
            let (index, keyless) = self.choose(topic, record);
            let partition = topic.partition(index)?;
            let pushed = self.accumulator.append_if_room(partition, record, reading)?;
            if keyless {
                self.count_sticky(topic, index, pushed);
            }
            Some(())
        });
        appended.is_some()
    }

    /// One record of a producer into which something is plugged.
    #[cold]
    fn send_plugged(
        &self,
        record: &ProducerRecord<'_>,
        reading: Reading,
        wait: &mut Wait,
    ) -> Result<()> {
        self.plugged(record, reading, |record, reading| {
            self.find_place(record, wait)?;
            if self.append_if_room(record, reading) {
                return Ok(());
            }
            self.append(record, reading, wait, None)
        })
    }

    /// The same as [`Shared::append_if_room`] for the first of several records and those behind it
    /// that go to the same partition, under one lock. Gives how many were appended, and the one
    /// that was looked at beyond those, unless it is the first.
    fn append_run<'a>(
        &self,
        first: ProducerRecord<'a>,
        records: &mut impl Iterator<Item = Result<ProducerRecord<'a>>>,
        reading: Reading,
    ) -> (usize, Option<Result<ProducerRecord<'a>>>) {
        let run = self.with_last(first.topic, |topic| {
            let (index, mut keyless) = self.choose(topic, &first);
            let mut appender = self.accumulator.appender(topic.partition(index)?);
            let mut record = first;
            for appended in 0..LONGEST_RUN {
                let Some(pushed) = appender.append_if_room(&record, reading) else {
                    return Some((appended, (appended > 0).then_some(Ok(record))));
                };
                if keyless {
                    self.count_sticky(topic, index, pushed);
                }
                record = match records.next() {
                    Some(Ok(next)) => next,
                    other @ (Some(Err(_)) | None) => return Some((appended + 1, other)),
                };
                let at;
                (at, keyless) = self.choose(topic, &record);
                if at != index || record.topic != first.topic {
                    return Some((appended + 1, Some(Ok(record))));
                }
            }
            Some((LONGEST_RUN, Some(Ok(record))))
        });
        run.unwrap_or((0, None))
    }

    #[cold]
    pub(super) fn append(
        &self,
        record: &ProducerRecord<'_>,
        reading: Reading,
        wait: &mut Wait,
        alone: Option<Alone>,
    ) -> Result<()> {
        refuse_in_a_send()?;
        let appended = self.with_topic(record.topic, wait, |topic, wait| {
            self.append_to(topic, record, reading, wait, alone)
        })?;
        if appended {
            return Ok(());
        }
        // A partition that is not there may be new: one refresh, and once more.
        self.find_partition(record.topic, record.partition.unwrap_or(-1), wait)?;
        let appended = self.with_topic(record.topic, wait, |topic, wait| {
            self.append_to(topic, record, reading, wait, alone)
        })?;
        if appended { Ok(()) } else { Err(no_such_partition(record.topic, record.partition, 0)) }
    }

    /// False if there is no such partition.
    fn append_to(
        &self,
        topic: &Resolved,
        record: &ProducerRecord<'_>,
        reading: Reading,
        wait: &mut Wait,
        alone: Option<Alone>,
    ) -> Result<bool> {
        match self.attempt(topic, record, reading, alone)? {
            Attempt::Done => Ok(true),
            Attempt::NoPartition => Ok(false),
            Attempt::NoMemory(waiting, index) => {
                // The record's own timeout counts from the call.
                let waits = Later { record, since: reading.mono, alone };
                self.append_later(topic, waits, wait, waiting, index)
            }
        }
    }

    fn attempt(
        &self,
        topic: &Resolved,
        record: &ProducerRecord<'_>,
        reading: Reading,
        alone: Option<Alone>,
    ) -> Result<Attempt> {
        let (mut index, keyless) = self.choose(topic, record);
        let Some(mut partition) = topic.partition(index) else { return Ok(Attempt::NoPartition) };
        let mut appended = match alone {
            Some(alone) => self.append_alone(partition, record, reading, alone)?,
            None if keyless => self.accumulator.try_append_to_open(partition, record, reading)?,
            None => self.accumulator.try_append(partition, record, reading)?,
        };
        if matches!(appended, Appended::BatchFull) {
            // A new batch is the moment to move on to another partition: the sticky one is asked.
            self.count_sticky(topic, index, Pushed { bytes: 0, batch_full: true });
            (index, _) = self.choose(topic, record);
            let Some(next) = topic.partition(index) else { return Ok(Attempt::NoPartition) };
            partition = next;
            appended = self.accumulator.try_append(partition, record, reading)?;
        }
        match appended {
            Appended::Done(pushed) => {
                if keyless {
                    self.count_sticky(topic, index, pushed);
                }
                self.tell_deadline(partition, record, reading);
                Ok(Attempt::Done)
            }
            Appended::NoMemory(waiting) => Ok(Attempt::NoMemory(waiting, index)),
            // Only said to who does not want a new batch.
            Appended::BatchFull => Ok(Attempt::NoPartition),
        }
    }

    /// A record with a timeout of its own was appended: the network thread has to look in time.
    fn tell_deadline(
        &self,
        partition: &Arc<Partition>,
        record: &ProducerRecord<'_>,
        reading: Reading,
    ) {
        if let Some(at) = own_deadline(record, reading.mono)
            && partition.must_tell(at, reading.mono)
        {
            self.tell(Control::Expiry { slot: partition.slot, at });
        }
    }

    /// Waits for memory and appends, as often as it takes.
    #[cold]
    fn append_later(
        &self,
        topic: &Resolved,
        later: Later<'_>,
        wait: &mut Wait,
        mut waiting: Waiting,
        mut index: i32,
    ) -> Result<bool> {
        let Later { record, since, alone } = later;
        loop {
            self.wait_for_memory(topic, index, &waiting, wait)?;
            let reading = self.clock.reading();
            let record = record.after_waiting(reading.mono.since(since));
            match self.attempt(topic, &record, reading, alone)? {
                Attempt::Done => return Ok(true),
                Attempt::NoPartition => return Ok(false),
                // The old one is kept until now: it held the memory that was granted.
                Attempt::NoMemory(next, at) => (waiting, index) = (next, at),
            }
        }
    }
}

impl Shared {
    /// Refuses a partition that does not exist, after one forced refresh: it may be new.
    #[cold]
    fn find_partition(&self, topic: &str, partition: i32, wait: &mut Wait) -> Result<()> {
        if partition < 0 {
            let message = format!(
                "topic {topic}: partition {partition} is negative; partitions count from 0"
            );
            return Err(Error::new(status::INVALID_ARGUMENT, message));
        }
        let wanted = self.metadata.refresh(topic, self.clock.now());
        self.accumulator.inbox().notify();
        if !wait.is_never() {
            wait.check("the topic's metadata")?;
            loop {
                let seen = self.metadata.signal().generation();
                if self.metadata.answers() >= wanted {
                    break;
                }
                self.check_open()?;
                if !wait.on(self.metadata.signal(), seen, &self.clock) {
                    break;
                }
            }
        }
        let count = self.with_topic(topic, wait, |topic, _| Ok(topic.partitions.len()))?;
        if (partition as usize) < count {
            return Ok(());
        }
        Err(no_such_partition(topic, Some(partition), count))
    }

    /// Waits for the partition's ticket, or says why there is no memory.
    #[cold]
    fn wait_for_memory(
        &self,
        topic: &Resolved,
        partition: i32,
        ticket: &Waiting,
        wait: &Wait,
    ) -> Result<()> {
        self.check_open()?;
        let slot = topic.partition(partition).map(|partition| partition.slot);
        let full = |what: &str| self.buffer_full(&topic.topic.name, partition, ticket, what);
        if wait.is_never() {
            self.deliveries.want_retry();
            // Memory that came before this was noted nudges nobody.
            if ticket.is_over() {
                return Ok(());
            }
            // Who is refused next is told.
            if let Some(slot) = slot
                && self.accumulator.holder().must_ask(self.clock.now())
            {
                self.tell(Control::Explain { slot, reply: Reply::new().0 });
            }
            return Err(full("try again when deliveries have come, or let the call wait"));
        }
        wait.check("memory")?;
        if ticket.unnoticed {
            self.accumulator.inbox().notify();
        }
        // Nothing that could free memory happens by itself: only the poll of what is waiting does.
        let stuck = || {
            self.deliveries.is_polled() && self.accumulator.cuts().outstanding_upto(u64::MAX) == 0
        };
        let given_up = || self.check_open().is_err() || stuck();
        // What this call waits for comes the sooner.
        debug_assert!(!reentry::inside(), "nobody compresses inside user code");
        while !ticket.is_over()
            && !given_up()
            && self.accumulator.seal_queue().help_once(wait.deadline())
        {}
        if ticket.wait(&self.clock, wait.deadline(), given_up) {
            self.check_open()?;
            if ticket.is_over() {
                return Ok(());
            }
            let waiting = self.deliveries.waiting();
            return Err(full(&format!("{waiting} deliveries wait for producer_poll(); poll them")));
        }
        let budget = wait.budget.as_millis();
        let why = slot.and_then(|slot| self.explain(slot));
        let why = why.unwrap_or_else(|| "the brokers take less than is sent".into());
        let polls = match self.deliveries.waiting() {
            waiting @ 1.. if self.deliveries.is_polled() => {
                format!("; {waiting} deliveries wait for producer_poll()")
            }
            _ => String::new(),
        };
        Err(full(&format!("none was freed within {budget} ms while {why}{polls}")))
    }

    #[cold]
    fn buffer_full(&self, topic: &str, partition: i32, ticket: &Waiting, what: &str) -> Error {
        let pool = self.accumulator.pool();
        let (used, limit) = (pool.used(), pool.limit());
        let holder = self.accumulator.holder().said(self.clock.now()).unwrap_or_else(|| {
            let (leader, held) = pool.holder().unwrap_or((NO_LEADER, 0));
            share(leader, held, format_args!("node {leader}")).into()
        });
        let for_whom = match ticket.yields {
            true => "has no more, while other brokers are in use, for the leader of",
            false => "is exhausted for",
        };
        let message = format!(
            "buffer.memory={limit} {for_whom} topic {topic} partition {partition} \
             ({used} bytes in use, {holder}): {what}"
        );
        Error::new(status::BUFFER_FULL, message).with(RETRIABLE)
    }
}

/// A send inside code of the user's that belongs to a send would end up there again.
pub(super) fn refuse_in_a_send() -> Result<()> {
    if !reentry::inside_a_send() {
        return Ok(());
    }
    Err(Error::new(
        status::WOULD_DEADLOCK,
        "a record is not sent from inside the code that another send has called to prepare its \
         own: send it from a delivery callback or from another thread",
    ))
}

fn no_such_partition(topic: &str, partition: Option<i32>, count: usize) -> Error {
    let partition = partition.unwrap_or(-1);
    let message = format!(
        "topic {topic}: there is no partition {partition}, it has {count} (0 to {}); choose one \
        of them, or let the \
         partitioner choose",
        count.saturating_sub(1)
    );
    Error::new(status::INVALID_ARGUMENT, message)
}
