//! The two threads of a producer: started, run, ended.
//!
//! The network thread runs the sender; the callback thread, where there is a callback, hands over
//! deliveries and log lines. A panic on the network thread ends it: every pending record is
//! reported with PANIC, and the producer is fatal.

use super::partition::Choosing;
use super::plugs::Plugs;
use super::topics::Topics;
use super::{CLOSED, OPEN, PANICKED, Producer, Shared};
use crate::accumulator::RecordAccumulator;
use crate::accumulator::seal_queue::SealTools;
use crate::clock::Clock;
use crate::config::Settings;
use crate::delivery::{DeliveryMode, DeliveryQueue};
use crate::error::{Error, Result, status};
use crate::log::{Level, LogQueue, Logger};
use crate::metadata::{Metadata, MetadataConfig};
use crate::network::{
    NetworkClient, NetworkConfig, Resolver, Selectable, Selector, SystemResolver,
};
use crate::partitioner::{Availability, Partitioner};
use crate::rng::Rng;
use crate::sender::{Parts, Sender};
use crate::sync::{Helpers, Latch, Signal, SystemHelpers, Wake, lock};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

/// The names users see in their debuggers and in `/proc`.
pub(super) const NETWORK_THREAD: &str = "kafka-network";
pub(super) const CALLBACK_THREAD: &str = "kafka-callback";
/// How often the callback thread goes on after a panic of ours.
const MAX_PANICS: usize = 100;

/// Producers made so far in this process: where ids come from.
static PRODUCERS: AtomicU64 = AtomicU64::new(1);

/// What a producer takes from outside: time, chance, sockets, names and helper threads.
pub(crate) struct Outside<S: Selectable> {
    pub clock: Clock,
    pub rng: Arc<Rng>,
    pub selector: S,
    pub resolver: Box<dyn Resolver>,
    pub helpers: Arc<dyn Helpers>,
}

/// What users plug in.
#[derive(Default)]
pub(super) struct Plugged {
    pub partitioner: Option<Arc<dyn Partitioner>>,
    pub plugs: Option<Arc<Plugs>>,
    /// Where helper threads come from, in place of the system.
    #[cfg(test)]
    pub helpers: Option<Arc<dyn Helpers>>,
}

/// Makes what a producer consists of and starts its threads.
pub(super) fn start(
    settings: Settings,
    mode: DeliveryMode,
    plugged: Plugged,
    logs: Option<Arc<LogQueue>>,
    signal: Arc<Signal>,
    logger: Logger,
) -> Result<Producer> {
    let selector = Selector::new().map_err(|error| no_resource("a poll descriptor", &error))?;
    let helpers: Arc<dyn Helpers> = Arc::new(SystemHelpers);
    #[cfg(test)]
    let helpers = plugged.helpers.clone().unwrap_or(helpers);
    let outside = Outside {
        clock: Clock::system(),
        rng: Arc::new(Rng::system()),
        resolver: Box::new(SystemResolver::new(selector.waker())),
        helpers,
        selector,
    };
    let (producer, sender) = assemble(settings, mode, plugged, logs, signal, &logger, outside)?;
    let shared = Arc::clone(&producer.shared);
    let started = start_callback_thread(&shared).and_then(|callback| {
        lock(&producer.threads).extend(callback);
        start_network_thread(&shared, sender, logger)
    });
    match started {
        Ok(thread) => {
            lock(&producer.threads).push(thread);
            Ok(producer)
        }
        Err(error) => {
            // The producer's drop joins what was started, and must not wait for what was not.
            shared.network_done.set();
            shared.deliveries.close();
            // Nor hear of an end what never began.
            if let Some(plugs) = &shared.plugs {
                plugs.undo();
            }
            shared.state.store(CLOSED, Ordering::Release);
            Err(error)
        }
    }
}

/// A producer whose threads are not started.
pub(super) fn assemble<S: Selectable>(
    mut settings: Settings,
    mode: DeliveryMode,
    plugged: Plugged,
    logs: Option<Arc<LogQueue>>,
    signal: Arc<Signal>,
    logger: &Logger,
    outside: Outside<S>,
) -> Result<(Producer, Sender<S>)> {
    let Plugged { partitioner, plugs, .. } = plugged;
    let watch = plugs.as_ref().and_then(|plugs| plugs.watch());
    settings.delivery_keep_records |= watch.is_some();
    let Outside { clock, rng, selector, resolver, helpers } = outside;
    let settings = Arc::new(settings);
    let waker: Arc<dyn Wake> = selector.waker();
    let client = NetworkClient::new(
        network_config(&settings),
        selector,
        clock.clone(),
        Arc::clone(&rng),
        logger.clone(),
        resolver,
    );
    let tools = SealTools {
        clock: clock.clone(),
        helpers,
        threads: settings.compression_threads,
        delivery_timeout: settings.delivery_timeout,
        logger: logger.clone(),
    };
    let accumulator =
        Arc::new(RecordAccumulator::new(Arc::clone(&settings), Arc::clone(&waker), tools));
    accumulator.pool().log_to(logger);
    let deliveries =
        Arc::new(DeliveryQueue::new(mode, watch, logs, signal, Arc::clone(accumulator.cuts()))?);
    let metadata =
        Arc::new(Metadata::new(metadata_config(&settings), Arc::clone(&rng), logger.clone()));
    metadata.set_waker(waker);
    let (control, messages) = crossbeam::channel::unbounded();
    let availability = Arc::new(Availability::default());
    let sender = Sender::new(Parts {
        settings: Arc::clone(&settings),
        clock: clock.clone(),
        rng: Arc::clone(&rng),
        logger: logger.clone(),
        accumulator: Arc::clone(&accumulator),
        metadata: Arc::clone(&metadata),
        availability: Arc::clone(&availability),
        deliveries: Arc::clone(&deliveries),
        client,
        control: messages,
    });
    let choosing = Choosing::new(&settings.partitioning, partitioner, availability);
    let shared = Arc::new(Shared {
        id: PRODUCERS.fetch_add(1, Ordering::Relaxed),
        state: AtomicU8::new(OPEN),
        plain: plugs.is_none() && !choosing.asks_first(),
        choosing,
        settings,
        clock,
        rng,
        accumulator,
        metadata,
        deliveries,
        topics: Topics::new(),
        plugs,
        control,
        next_sync_id: AtomicU64::new(1),
        network_done: Latch::default(),
        callback_done: Latch::default(),
    });
    Ok((Producer { shared, threads: Mutex::new(Vec::new()) }, sender))
}

fn start_callback_thread(shared: &Arc<Shared>) -> Result<Option<JoinHandle<()>>> {
    if !shared.deliveries.needs_callback_thread() {
        shared.callback_done.set();
        return Ok(None);
    }
    let inner = Arc::clone(shared);
    let thread = Builder::new()
        .name(CALLBACK_THREAD.into())
        .spawn(move || {
            // A panic costs the pass it happened in, not the deliveries behind it.
            let run = || inner.run_callbacks();
            if !(0..MAX_PANICS).any(|_| catch_unwind(AssertUnwindSafe(run)).is_ok()) {
                inner.state.store(PANICKED, Ordering::Release);
                inner.callback_done.set();
            }
        })
        .map_err(|error| no_resource("the callback thread", &error))?;
    Ok(Some(thread))
}

fn start_network_thread<S: Selectable + Send + 'static>(
    shared: &Arc<Shared>,
    mut sender: Sender<S>,
    logger: Logger,
) -> Result<JoinHandle<()>> {
    let inner = Arc::clone(shared);
    Builder::new()
        .name(NETWORK_THREAD.into())
        .spawn(move || {
            // An error: the descriptors are not ours any more. A panic: a defect. Both end it.
            if !matches!(catch_unwind(AssertUnwindSafe(|| sender.run())), Ok(Ok(()))) {
                inner.state.store(PANICKED, Ordering::Release);
                logger.log(Level::Error, "sender", || {
                    "the network thread met a defect and stopped; pending records are reported"
                        .into()
                });
                // What the panic left half done may make this panic too; whatever was reported
                // stays reported.
                let _ = catch_unwind(AssertUnwindSafe(|| sender.abort_everything(status::PANIC)));
                inner.deliveries.close();
            }
            inner.network_ended();
        })
        .map_err(|error| no_resource("the network thread", &error))
}

impl Shared {
    /// What the callback thread does.
    pub(super) fn run_callbacks(&self) {
        self.deliveries.run(&self.clock);
        self.callback_done.set();
    }

    /// The last thing that the network thread does.
    pub(super) fn network_ended(&self) {
        // Callers that wait for memory or metadata learn of the end.
        self.wake_waiters();
        self.network_done.set();
    }
}

fn no_resource(what: &str, error: &std::io::Error) -> Error {
    let message = format!(
        "{what} could not be made: {error}; raise the process's limits (ulimit -u, ulimit -n)"
    );
    Error::new(status::INVALID_STATE, message)
}

fn network_config(settings: &Settings) -> NetworkConfig {
    NetworkConfig {
        client_id: settings.client_id.clone(),
        max_in_flight: settings.max_in_flight,
        request_timeout: settings.request_timeout,
        reconnect_backoff: settings.reconnect_backoff,
        reconnect_backoff_max: settings.reconnect_backoff_max,
        connection_setup_timeout: settings.connection_setup_timeout,
        connection_setup_timeout_max: settings.connection_setup_timeout_max,
        connections_max_idle: settings.connections_max_idle,
        send_buffer: settings.send_buffer,
        receive_buffer: settings.receive_buffer,
        receive_message_max: settings.receive_message_max,
    }
}

fn metadata_config(settings: &Settings) -> MetadataConfig {
    MetadataConfig {
        max_age: settings.metadata_max_age,
        max_idle: settings.metadata_max_idle,
        retry_backoff: settings.retry_backoff,
        retry_backoff_max: settings.retry_backoff_max,
        request_timeout: settings.request_timeout,
        allow_auto_create_topics: settings.allow_auto_create_topics,
    }
}
