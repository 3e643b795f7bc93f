//! The network thread's work: what is ready becomes requests, what is answered becomes deliveries.
//!
//! Owns the backs, the requests in flight and the client; the one room that knows accumulator and
//! network. It runs no user code, waits for nothing but its poll, and never blocks on a front. One
//! pass (`run_once`): control messages, inbox, deadlines, metadata, drain by node, poll, events.
//! Kafka's own names: `Sender.runOnce`, `sendProducerData`.

mod availability;
mod cluster;
mod control;
mod cut;
mod end;
mod failure;
mod identity;
#[cfg(feature = "mock")]
#[cfg(test)]
mod model;
mod obstacle;
mod produce;
pub mod retry;
mod settle;

use crate::accumulator::RecordAccumulator;
use crate::accumulator::back::{BackLimits, Backs, NO_LEADER, Pressed};
use crate::accumulator::inbox::Listed;
use crate::accumulator::outgoing::{LastResort, Outgoing};
use crate::clock::{Clock, Instant};
use crate::config::Settings;
use crate::defects::{self, Defect};
use crate::delivery::DeliveryQueue;
use crate::error::Result;
use crate::log::Logger;
use crate::metadata::Metadata;
use crate::network::{
    ClientEvent, ClientRequest, ErrorKind, NetworkClient, NetworkError, Selectable,
};
use crate::partitioner::Availability;
use crate::protocol::api::ApiKey;
use crate::rng::Rng;
use crate::sync::trip::trip;
use availability::Awaited;
use bytes::Bytes;
use cluster::{Nodes, bootstrap_nodes, leader_of};
use crossbeam::channel::Receiver;
use foldhash::fast::FixedState;
use identity::ProducerId;
use produce::ProduceInFlight;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use control::{Control, Reply};

/// So long after the last event spare memory is looked at, and then once per this time.
const TRIM_PAUSE: Duration = Duration::from_secs(1);

/// What a sender is made of.
pub struct Parts<S: Selectable> {
    /// Settings of the producer.
    pub settings: Arc<Settings>,
    /// Time.
    pub clock: Clock,
    /// Jitter.
    pub rng: Arc<Rng>,
    /// Log.
    pub logger: Logger,
    /// Fronts, inbox, pool and cuts.
    pub accumulator: Arc<RecordAccumulator>,
    /// The cluster.
    pub metadata: Arc<Metadata>,
    /// Where callers learn which leaders take nothing.
    pub availability: Arc<Availability>,
    /// Where outcomes go.
    pub deliveries: Arc<DeliveryQueue>,
    /// Connections.
    pub client: NetworkClient<S>,
    /// What callers ask for.
    pub control: Receiver<Control>,
}

/// See the module's comment.
pub struct Sender<S: Selectable> {
    parts: Parts<S>,
    backs: Backs,
    produces: HashMap<u64, ProduceInFlight, FixedState>,
    /// The metadata request in flight: one at a time.
    metadata_token: Option<u64>,
    metadata_version: u64,
    /// The answers of metadata after which partitions without leader were asked for last.
    metadata_answers: u64,
    producer_id: ProducerId,
    awaited: Awaited,
    /// Whom the client may connect to.
    from_whom: Nodes,
    /// Since when metadata is wanted and does not come.
    metadata_wanted_since: Option<Instant>,
    /// When to give spare memory back to the system.
    trim_at: Instant,
    next_token: u64,
    /// How often nodes were drained.
    passes: usize,
    closing: bool,
    // Kept between passes so that they keep their memory.
    inbox: Vec<Listed>,
    expiries: Vec<u32>,
    nodes: Vec<i32>,
    events: Vec<ClientEvent>,
    failed: Vec<Outgoing>,
}

impl<S: Selectable> Sender<S> {
    /// A sender that has done nothing yet.
    pub fn new(mut parts: Parts<S>) -> Sender<S> {
        parts.client.set_nodes(&bootstrap_nodes(&parts.settings));
        let settings = &parts.settings;
        let limits = BackLimits {
            max_request_size: settings.max_request_size,
            linger: settings.linger,
            delivery_timeout: settings.delivery_timeout,
            order: identity::order(settings),
        };
        let last_resort = Arc::clone(&parts.deliveries) as Arc<dyn LastResort>;
        let backs = Backs::new(limits, last_resort, parts.clock.now());
        Sender {
            backs,
            producer_id: ProducerId::new(&parts.settings),
            awaited: Awaited::new(parts.settings.partitioning.availability_timeout),
            parts,
            produces: HashMap::default(),
            metadata_token: None,
            metadata_version: 0,
            metadata_answers: 0,
            from_whom: Nodes::All,
            metadata_wanted_since: None,
            trim_at: Instant::NEVER,
            next_token: 1,
            passes: 0,
            closing: false,
            inbox: Vec::new(),
            expiries: Vec::new(),
            nodes: Vec::new(),
            events: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Passes until a [`Control::Close`] has come and everything is reported. After an error
    /// nothing is reported: that is left to [`Sender::abort_everything`].
    pub fn run(&mut self) -> Result<()> {
        while self.run_once()? {}
        Ok(())
    }

    /// One pass; false when the sender has ended.
    pub fn run_once(&mut self) -> Result<bool> {
        let now = self.parts.clock.now();
        trip("messages");
        self.take_messages(now);
        if self.closing {
            self.abort_everything(crate::error::status::ABORTED);
            return Ok(false);
        }
        trip("inbox");
        self.take_inbox(now);
        trip("expiry");
        self.expire(now);
        trip("metadata");
        self.follow_metadata(now);
        trip("producer id");
        self.follow_producer_id(now);
        trip("ready");
        self.send_ready(now);
        self.watch_leaders(now);
        trip("memory");
        self.cut_linger_for_memory(now);
        trip("undecided");
        self.report_undecided(now);
        if self.trim_at <= now {
            self.trim_at = self.parts.accumulator.pool().trim(now);
        }
        trip("poll");
        self.poll()?;
        trip("events");
        self.handle_events();
        Ok(true)
    }

    fn take_messages(&mut self, now: Instant) {
        while let Ok(message) = self.parts.control.try_recv() {
            match message {
                Control::Flush { cut } => {
                    self.take_inbox(now);
                    self.backs.flush(cut);
                }
                Control::Purge { topic, partition, reply } => {
                    self.purge(topic.as_deref(), partition);
                    drop(reply);
                }
                Control::Expiry { slot, at } => {
                    self.take_inbox(now);
                    self.backs.file_expiry(slot, at);
                }
                Control::Explain { slot, reply } => {
                    self.take_inbox(now);
                    self.parts.accumulator.holder().say(now, &self.explain_memory(now));
                    reply.say(self.explain(slot, now));
                }
                Control::Close => self.closing = true,
            }
        }
    }

    fn take_inbox(&mut self, now: Instant) {
        let mut inbox = std::mem::take(&mut self.inbox);
        self.parts.accumulator.inbox().drain(&mut inbox);
        for listed in inbox.drain(..) {
            let Parts { metadata, accumulator, .. } = &self.parts;
            // Whoever made the partition may have read an older snapshot than the one that was
            // followed last.
            self.backs.receive(listed, now, |partition| {
                let cluster = metadata.snapshot();
                partition.set_leader(accumulator.pool(), leader_of(&cluster, partition));
                cluster.topic(&partition.topic).map_or([0; 16], |topic| topic.id)
            });
        }
        self.inbox = inbox;
    }

    /// Deadlines: linger and backoff make partitions ready, `delivery.timeout.ms` fails batches.
    fn expire(&mut self, now: Instant) {
        let now = match defects::on(Defect::WallClock) {
            true => Instant(self.parts.clock.wall_ms().cast_unsigned() * 1000),
            false => now,
        };
        let mut expiries = std::mem::take(&mut self.expiries);
        self.backs.advance(now, &mut expiries);
        if !expiries.is_empty() {
            expiries.sort_unstable();
            expiries.dedup();
            self.expire_in_flight(&expiries, now);
            for slot in expiries.drain(..) {
                let mut failed = std::mem::take(&mut self.failed);
                self.backs.expire(slot, now, self.parts.accumulator.cuts(), &mut failed);
                for batch in failed.drain(..) {
                    self.fail_expired(batch, now, false);
                }
                self.failed = failed;
            }
        }
        self.expiries = expiries;
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of a request, named at the one place that makes one"
    )]
    fn send(
        &mut self,
        node: i32,
        token: u64,
        api: ApiKey,
        version: i16,
        body: Vec<Bytes>,
        timeout: Duration,
        expects_response: bool,
    ) {
        let request = ClientRequest { api, version, body, token, expects_response, timeout };
        self.parts.client.send(node, request, self.parts.clock.now());
    }

    /// Drains every node that can take a request.
    fn send_ready(&mut self, now: Instant) {
        let mut nodes = std::mem::take(&mut self.nodes);
        self.backs.ready_nodes(&mut nodes);
        // Whose turn comes first must not depend on a hash, nor be the same one's for ever.
        nodes.sort_unstable();
        self.passes = self.passes.wrapping_add(1);
        let first = self.passes % nodes.len().max(1);
        nodes.rotate_left(first);
        for node in nodes.drain(..) {
            while node != NO_LEADER
                && self.parts.client.ready(node, now)
                && self.send_produce(node, now)
            {}
        }
        self.nodes = nodes;
    }

    /// A caller waits for memory, and nothing of its leader's that is queued or in flight would
    /// free any: what lingers there is sent, and everywhere if nothing is on its way anywhere. What
    /// another broker holds may stay there for long.
    fn cut_linger_for_memory(&mut self, now: Instant) {
        let accumulator = &self.parts.accumulator;
        // What is being compressed will be on its way without that.
        if accumulator.pool().waiting() == 0 || accumulator.seal_queue().is_busy() {
            return;
        }
        let mut busy = std::mem::take(&mut self.nodes);
        self.backs.ready_nodes(&mut busy);
        // Ready for one that takes it sooner or later.
        busy.retain(|node| self.parts.client.is_connected(*node));
        busy.extend(self.produces.values().map(|produce| produce.node));
        let mut starving = Vec::new();
        self.parts.accumulator.pool().waiting_leaders(&mut starving);
        starving.retain(|leader| !busy.contains(leader));
        let pressed = match (busy.is_empty(), starving.is_empty()) {
            (true, _) => Pressed::Everybody,
            (false, true) => Pressed::Nobody,
            (false, false) => Pressed::Leaders(starving),
        };
        busy.clear();
        self.nodes = busy;
        if pressed != Pressed::Nobody {
            self.backs.press(pressed);
            self.send_ready(now);
            self.backs.press(Pressed::Nobody);
        }
    }

    /// Sleeps until there is something to do. A metadata request that is due but has no connection
    /// to go out on waits for an event of the client's, which knows its own deadlines.
    fn poll(&mut self) -> Result<()> {
        let now = self.parts.clock.now();
        let metadata = self.parts.metadata.next_due();
        let metadata = if metadata <= now { Instant::NEVER } else { metadata };
        let producer_id = self.producer_id_due();
        let producer_id = if producer_id <= now { Instant::NEVER } else { producer_id };
        let deadline = self
            .backs
            .next_deadline()
            .min(metadata)
            .min(producer_id)
            .min(self.trim_at)
            .min(self.rebootstrap_at())
            .min(self.leaders_due());
        let inbox = self.parts.accumulator.inbox();
        let may_sleep = inbox.prepare_to_wait(deadline) && self.parts.control.is_empty();
        let timeout = match (may_sleep, deadline) {
            (false, _) => Some(Duration::ZERO),
            (true, Instant::NEVER) => None,
            (true, deadline) => Some(deadline.since(now)),
        };
        let polled = self.parts.client.poll(timeout, &mut self.events);
        self.parts.accumulator.inbox().awake();
        polled
    }

    fn handle_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        if events.is_empty() {
            self.events = events;
            return;
        }
        let now = self.parts.clock.now();
        self.trim_at = self.trim_at.min(now.after(TRIM_PAUSE));
        for event in events.drain(..) {
            match event {
                ClientEvent::Response { node, token, version, body, .. } => {
                    if self.metadata_token == Some(token) {
                        self.metadata_token = None;
                        self.on_metadata(node, version, &body, now);
                    } else if self.producer_id.token == Some(token) {
                        self.producer_id.token = None;
                        self.on_init_producer_id(node, version, &body, now);
                    } else if let Some(produce) = self.produces.remove(&token) {
                        self.on_produce(produce, version, &body, now);
                    }
                }
                ClientEvent::Sent { token, .. } => {
                    if let Some(produce) = self.produces.remove(&token) {
                        self.on_written(produce);
                    }
                }
                ClientEvent::Failed { token, written, error, .. } => {
                    if self.metadata_token == Some(token) {
                        self.metadata_token = None;
                        self.parts.metadata.on_failure(now, error.into());
                    } else if self.producer_id.token == Some(token) {
                        self.producer_id.token = None;
                        self.on_init_producer_id_failed(&error.into(), now);
                    } else if let Some(produce) = self.produces.remove(&token) {
                        self.on_failed(produce, written, &error.to_string().into(), now);
                    }
                }
                ClientEvent::Disconnected { node, error } => {
                    self.backs.unsettle(node);
                    self.on_disconnected(&error);
                }
                ClientEvent::Ready { .. } => {}
            }
        }
        self.events = events;
        self.report_undecided(now);
        self.parts.deliveries.nudge();
    }

    /// A connection is gone, or never came about: whoever it led may have moved. Unless it was
    /// closed from here: whoever did that has asked for what it needs.
    fn on_disconnected(&mut self, error: &NetworkError) {
        if matches!(error.kind, ErrorKind::Idle | ErrorKind::Disconnected) {
            return;
        }
        self.parts.metadata.disconnected(error.clone().into());
    }
}
