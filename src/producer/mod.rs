//! What the C functions call: a producer's life, and what its threads share.
//!
//! Application threads own nothing between calls. They read the topic map and the cluster snapshot,
//! append to one partition's front at a time, and reach the network thread through the inbox and
//! through [`Control`] messages. Every wait is a `try_` half that says what to wait for, and a thin
//! shell here that waits (so that a simulator can drive the first without threads). `producer.rs`
//! of the design is a folder: `send` (rooms 1 to 5), `send_sync`, `topics` (what a caller looks up
//! per record), `end` (flush, purge, close), `plugs` (interceptors and serializers), `threads` (the
//! two threads).

#[cfg(test)]
mod compressing;
mod end;
#[cfg(test)]
mod panics;
mod partition;
mod plugs;
mod send;
mod send_sync;
mod threads;
mod topics;
#[cfg(all(test, feature = "mock", not(loom)))]
mod unstarted;
mod wait;

pub use crate::metadata::PartitionInfo;
pub use send_sync::Receipt;
#[cfg(all(test, feature = "mock", not(loom)))]
pub(crate) use threads::Outside;
#[cfg(all(test, feature = "mock", not(loom)))]
pub(crate) use unstarted::Roles;
pub use wait::Timeout;

use crate::accumulator::RecordAccumulator;
use crate::clock::{Clock, Instant};
use crate::config::{ProducerConfig, Settings};
use crate::delivery::{Delivery, DeliveryMode, DeliveryQueue, reentry};
use crate::error::{Error, Result, status};
use crate::interceptors::Interceptor;
use crate::log::{Level, LogQueue, LogSink, Logger};
use crate::metadata::Metadata;
use crate::partitioner::Partitioner;
use crate::rng::Rng;
use crate::sender::Control;
use crate::serializer::Serializer;
use crate::sync::{Latch, Signal, lock};
use crossbeam::channel::Sender as Outbox;
use partition::Choosing;
use plugs::Plugs;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use topics::Topics;

/// What a producer gets beside its configuration: the function pointers.
#[derive(Clone, Default)]
pub struct Options {
    /// Where deliveries go.
    pub delivery: DeliveryMode,
    /// Where log lines up to a level go.
    pub log: Option<(Level, Arc<dyn LogSink>)>,
    /// What chooses partitions in place of `partitioner.class`.
    pub partitioner: Option<Arc<dyn Partitioner>>,
    /// What runs around every record, in order.
    pub interceptors: Vec<Arc<dyn Interceptor>>,
    /// What makes bytes of keys, in place of `key.serializer`.
    pub key_serializer: Option<Arc<dyn Serializer>>,
    /// What makes bytes of values, in place of `value.serializer`.
    pub value_serializer: Option<Arc<dyn Serializer>>,
}

/// Numbers as of one moment: `accepted == acknowledged + failed + pending`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Records that `send` took.
    pub accepted: u64,
    /// Records reported as written.
    pub acknowledged: u64,
    /// Records reported as failed.
    pub failed: u64,
    /// Records without an outcome.
    pub pending: u64,
    /// What of `buffer.memory` is in use.
    pub buffered_bytes: u64,
    /// `buffer.memory`.
    pub buffer_limit_bytes: u64,
}

/// A producer's states; they only go forward.
const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const CLOSED: u8 = 2;
const PANICKED: u8 = 3;

/// What a producer's threads share.
pub(crate) struct Shared {
    /// Never reused within the process: what per-thread caches are keyed by.
    id: u64,
    state: AtomicU8,
    settings: Arc<Settings>,
    clock: Clock,
    rng: Arc<Rng>,
    accumulator: Arc<RecordAccumulator>,
    metadata: Arc<Metadata>,
    deliveries: Arc<DeliveryQueue>,
    topics: Topics,
    choosing: Choosing,
    /// Nothing is plugged in, no partitioner either that has to be asked first: sends take the
    /// short way.
    plain: bool,
    /// `None`: records go as they are, and nobody watches.
    plugs: Option<Arc<Plugs>>,
    control: Outbox<Control>,
    next_sync_id: AtomicU64,
    network_done: Latch,
    callback_done: Latch,
}

/// A producer. Any thread may call any method.
pub struct Producer {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Producer {
    /// Starts a producer; does not wait for a broker. The error of a bad configuration names every
    /// problem that fits.
    pub fn new(config: &ProducerConfig, mut options: Options) -> Result<Producer> {
        let signal = Arc::new(Signal::default());
        let logs = options.log.clone();
        let logs =
            logs.map(|(level, sink)| (level, Arc::new(LogQueue::new(sink, Arc::clone(&signal)))));
        let logger = match &logs {
            Some((level, queue)) => Logger::new(*level, Arc::clone(queue) as Arc<dyn LogSink>),
            None => Logger::none(),
        };
        let settings = config.settings().and_then(|settings| match options.partitioner {
            Some(_) => settings.with_own_partitioner(config),
            None => Ok(settings),
        });
        let refused = |problems: Vec<Error>| {
            for problem in &problems {
                logger.log(Level::Error, "config", || problem.message.to_string());
            }
            // There is no producer to run the callback for these lines: they are the caller's, here
            // and now.
            if let Some((_, queue)) = &logs {
                queue.run();
            }
            all_problems(&problems)
        };
        let settings = settings.map_err(refused)?;
        let plugs = Plugs::new(config, &settings, &mut options, &logger)
            .map_err(|problem| refused(vec![problem]))?;
        if let Some(plugs) = &plugs {
            plugs.configure(config).map_err(|problem| refused(vec![problem]))?;
        }
        for note in &settings.notes {
            logger.log(Level::Info, "config", || note.clone());
        }
        let log_queue = logs.as_ref().map(|(_, queue)| Arc::clone(queue));
        let plugged = threads::Plugged {
            partitioner: options.partitioner.take(),
            plugs: plugs.clone(),
            #[cfg(test)]
            helpers: None,
        };
        threads::start(settings, options.delivery, plugged, log_queue, signal, logger.clone())
            .inspect_err(|_| plugs.iter().for_each(|plugs| plugs.undo()))
    }

    /// Numbers as of now.
    pub fn counters(&self) -> Counters {
        // What ended is read first, so that a record is never counted as ended before it is counted
        // as accepted.
        let (acknowledged, failed) = self.shared.deliveries.counts();
        let accepted = self.shared.accumulator.accepted();
        Counters {
            accepted,
            acknowledged,
            failed,
            pending: accepted.saturating_sub(acknowledged + failed),
            buffered_bytes: self.shared.accumulator.pool().used() as u64,
            buffer_limit_bytes: self.shared.accumulator.pool().limit() as u64,
        }
    }

    /// Moves up to `capacity` deliveries to `out`, waiting for the first. One thread at a time.
    pub fn poll(&self, capacity: usize, timeout: Timeout, out: &mut Vec<Delivery>) -> Result<()> {
        let shared = &self.shared;
        let deadline = timeout.deadline(shared.clock.now(), None);
        let polled = shared.deliveries.poll(capacity, &shared.clock, deadline, out);
        let drained = matches!(&polled, Err(error) if error.status == status::CLOSED);
        if drained && !reentry::inside() && !shared.close_plugs(deadline) {
            // A send still runs code of the user's: not the end yet.
            return Ok(());
        }
        polled
    }

    /// Whether sends run no code of the user's.
    pub fn is_plain(&self) -> bool {
        self.shared.plain
    }

    /// The descriptor to wait on in poll mode.
    pub fn poll_fd(&self) -> Option<RawFd> {
        self.shared.deliveries.fd()
    }

    /// The partitions of a topic, waiting for its metadata if need be.
    pub fn partitions_for(&self, topic: &str, timeout: Timeout) -> Result<Vec<PartitionInfo>> {
        let shared = &self.shared;
        shared.check_open()?;
        let mut wait = shared.wait_for(timeout);
        let metadata = shared.topic_metadata(topic, &mut wait)?;
        Ok(metadata.infos())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if reentry::inside() {
            // Nothing waits in here, for it may be waited for: the threads end by themselves.
            self.abandon();
            return self.end_elsewhere();
        }
        // The barrier: with timeout 0 the records are failed at once; what may take time is the
        // user's callback.
        let _ = self.close(Timeout::After(std::time::Duration::ZERO));
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            let _ = thread.join();
        }
        self.shared.accumulator.seal_queue().wait(Instant::NEVER);
        self.shared.end();
    }
}

impl Shared {
    /// Refuses what comes after close.
    fn check_open(&self) -> Result<()> {
        match self.state.load(Ordering::Acquire) {
            OPEN => Ok(()),
            PANICKED => Err(Error::new(
                status::PANIC,
                "the producer met a defect of its own and stopped; pending records were reported; \
                close it and report this",
            )
            .with(crate::error::FATAL)),
            _ => Err(closed()),
        }
    }

    /// Sends a message to the network thread and wakes it.
    fn tell(&self, message: Control) {
        // It fails only when the network thread has ended, and then there is nothing left to tell.
        if self.control.send(message).is_ok() {
            self.accumulator.inbox().notify();
        }
    }
}

fn closed() -> Error {
    Error::new(status::CLOSED, "the producer is closed; make a new one with producer_new()")
}

/// Every problem of a configuration in one sentence that fits a C caller's buffer: as many as fit
/// "and N more".
fn all_problems(problems: &[Error]) -> Error {
    /// What fits `producer_error_t.message` with room for "and N more".
    const ROOM: usize = 220;
    let mut message = String::new();
    for (index, problem) in problems.iter().enumerate() {
        if index > 0 && message.len() + problem.message.len() > ROOM {
            message += &format!("; and {} more", problems.len() - index);
            break;
        }
        if index > 0 {
            message += "; ";
        }
        message += &problem.message;
    }
    let status = problems.first().map_or(status::INVALID_CONFIG, |problem| problem.status);
    Error::new(status, message)
}
