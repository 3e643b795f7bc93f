//! The network thread's work: what is ready becomes requests, what is answered becomes deliveries.
//!
//! Owns the backs, the requests in flight and the client; the one room that knows accumulator and
//! network. It runs no user code, waits for nothing but its poll, and never blocks on a front. One
//! pass (`run_once`): control messages, inbox, deadlines, metadata, drain by node, poll, events.
//! Kafka's own names: `Sender.runOnce`, `sendProducerData`.

mod control;
mod end;
mod failure;
mod obstacle;
mod produce;
pub mod retry;

use crate::accumulator::RecordAccumulator;
use crate::accumulator::back::{BackLimits, Backs, NO_LEADER};
use crate::accumulator::front::Partition;
use crate::accumulator::inbox::Listed;
use crate::accumulator::outgoing::{LastResort, Outgoing};
use crate::clock::{Clock, Instant};
use crate::config::Settings;
use crate::delivery::DeliveryQueue;
use crate::error::Result;
use crate::log::Logger;
use crate::metadata::{Cluster, Metadata};
use crate::network::{
    ClientEvent, ClientRequest, ErrorKind, NetworkClient, NetworkError, Selectable,
    bootstrap_node_id,
};
use crate::protocol::api::{ApiKey, Message, Request};
use crate::protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use crate::rng::Rng;
use bytes::Bytes;
use crossbeam::channel::Receiver;
use foldhash::fast::FixedState;
use produce::ProduceInFlight;
use std::collections::{BTreeSet, HashMap};
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
    /// The client knows the bootstrap servers, beside the brokers of the metadata if there are any.
    bootstrapping: bool,
    /// When to give spare memory back to the system.
    trim_at: Instant,
    next_token: u64,
    closing: bool,
    // Kept between passes so that they keep their memory.
    inbox: Vec<Listed>,
    expiries: Vec<u32>,
    nodes: Vec<i32>,
    events: Vec<ClientEvent>,
    drained: Vec<Outgoing>,
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
            ordered: !settings.allow_reordering,
        };
        let last_resort = Arc::clone(&parts.deliveries) as Arc<dyn LastResort>;
        let backs = Backs::new(limits, last_resort, parts.clock.now());
        Sender {
            backs,
            parts,
            produces: HashMap::default(),
            metadata_token: None,
            metadata_version: 0,
            metadata_answers: 0,
            bootstrapping: true,
            trim_at: Instant::NEVER,
            next_token: 1,
            closing: false,
            inbox: Vec::new(),
            expiries: Vec::new(),
            nodes: Vec::new(),
            events: Vec::new(),
            drained: Vec::new(),
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
        self.take_messages(now);
        if self.closing {
            self.abort_everything(crate::error::status::ABORTED);
            return Ok(false);
        }
        self.take_inbox(now);
        self.expire(now);
        self.follow_metadata(now);
        self.send_ready(now);
        self.cut_linger_for_memory(now);
        if self.trim_at <= now {
            self.trim_at = self.parts.accumulator.pool().trim(now);
        }
        self.poll()?;
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
                let leader = leader_of(&metadata.snapshot(), partition);
                partition.set_leader(accumulator.pool(), leader);
            });
        }
        self.inbox = inbox;
    }

    /// Deadlines: linger and backoff make partitions ready, `delivery.timeout.ms` fails batches.
    fn expire(&mut self, now: Instant) {
        let mut expiries = std::mem::take(&mut self.expiries);
        self.backs.advance(now, &mut expiries);
        if !expiries.is_empty() {
            expiries.sort_unstable();
            expiries.dedup();
            self.expire_in_flight(&expiries, now);
            for slot in expiries.drain(..) {
                let mut failed = std::mem::take(&mut self.failed);
                self.backs.expire(slot, now, &mut failed);
                for batch in failed.drain(..) {
                    self.fail_expired(batch, now, false);
                }
                self.failed = failed;
            }
        }
        self.expiries = expiries;
    }

    /// Sends a metadata request that is due, and follows a snapshot that has changed.
    fn follow_metadata(&mut self, now: Instant) {
        self.ask_for_leaders(now);
        if self.metadata_token.is_none() {
            self.request_metadata(now);
        }
        if self.parts.metadata.version() != self.metadata_version {
            self.bootstrapping = false;
            self.follow_nodes();
            self.follow_leaders();
        }
    }

    /// The topics of records whose partition has no leader are asked for again after every answer
    /// that brought none.
    fn ask_for_leaders(&mut self, now: Instant) {
        let answers = self.parts.metadata.answers();
        if !self.backs.take_leaderless() && answers == self.metadata_answers {
            return;
        }
        self.metadata_answers = answers;
        let topics: BTreeSet<&Arc<str>> =
            self.backs.ready_of(NO_LEADER).map(|partition| &partition.topic).collect();
        for topic in topics {
            self.parts.metadata.request_update_of(topic, now);
        }
    }

    /// Tells the client who there is: the brokers of the metadata; while bootstrapping, the
    /// bootstrap servers too.
    fn follow_nodes(&mut self) {
        let cluster = self.parts.metadata.snapshot();
        let brokers = cluster.nodes.iter().map(|node| (node.id, Arc::clone(&node.host), node.port));
        let servers = self.bootstrapping.then(|| bootstrap_nodes(&self.parts.settings));
        let nodes: Vec<_> = brokers.chain(servers.into_iter().flatten()).collect();
        self.parts.client.set_nodes(&nodes);
    }

    /// Every partition learns its leader of now; what is ready moves to it, what backs off from an
    /// old one is sent.
    fn follow_leaders(&mut self) {
        let cluster = self.parts.metadata.snapshot();
        self.metadata_version = cluster.version;
        for partition in self.parts.accumulator.partitions() {
            let leader = leader_of(&cluster, &partition);
            if partition.leader() != leader {
                partition.set_leader(self.parts.accumulator.pool(), leader);
                if leader != NO_LEADER {
                    self.backs.skip_backoff(partition.slot);
                }
            }
        }
        self.backs.reroute();
    }

    fn request_metadata(&mut self, now: Instant) {
        if self.parts.metadata.next_due() > now {
            return;
        }
        let Some(node) = self.parts.client.least_loaded_node(now) else {
            return self.no_node(now);
        };
        if !self.parts.client.ready(node, now) {
            // The connection is being made; its end, good or bad, comes as an event.
            return;
        }
        let Some(spec) = self.parts.metadata.request_due(now) else { return };
        let versions = MetadataRequest::CLIENT_VERSIONS;
        let body =
            self.parts.client.api_version(node, ApiKey::Metadata, versions).and_then(|version| {
                let topics = spec.topics.iter().map(|name| MetadataRequestTopic {
                    name: Some(name.to_string()),
                    ..MetadataRequestTopic::default()
                });
                let request = MetadataRequest {
                    topics: Some(topics.collect()),
                    allow_auto_topic_creation: spec.allow_auto_create,
                    ..MetadataRequest::default()
                };
                Ok((version, request.to_vec(version)?))
            });
        match body {
            Ok((version, body)) => {
                let token = self.token();
                self.metadata_token = Some(token);
                let timeout = self.parts.settings.request_timeout;
                self.send(
                    node,
                    token,
                    ApiKey::Metadata,
                    version,
                    vec![Bytes::from(body)],
                    timeout,
                    true,
                );
            }
            Err(error) => self.parts.metadata.on_failure(now, error),
        }
    }

    /// Metadata is due, and nobody can be asked now: some node's backoff or throttling must end,
    /// and then the client is to wake up. If none of the brokers that the metadata names can be
    /// reached, they may all have moved: the bootstrap servers are asked again (KIP-899).
    fn no_node(&mut self, now: Instant) {
        let client = &mut self.parts.client;
        let nodes = client.nodes().to_vec();
        let reachable = nodes.iter().any(|node| client.is_connected(*node));
        for node in nodes {
            client.ready(node, now);
        }
        if !reachable && !self.bootstrapping {
            self.bootstrapping = true;
            self.follow_nodes();
            self.request_metadata(now);
        }
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
        // Whose turn comes first must not depend on a hash.
        nodes.sort_unstable();
        for node in nodes.drain(..) {
            while node != NO_LEADER
                && self.parts.client.ready(node, now)
                && self.send_produce(node, now)
            {}
        }
        self.nodes = nodes;
    }

    /// A caller waits for memory and nothing that is queued or in flight would free any: what
    /// lingers is sent.
    fn cut_linger_for_memory(&mut self, now: Instant) {
        if self.produces.is_empty()
            && self.parts.accumulator.pool().waiting() > 0
            && !self.anything_to_send()
        {
            self.backs.press(true);
            self.send_ready(now);
            self.backs.press(false);
        }
    }

    /// Whether something is ready for a node that takes it sooner or later.
    fn anything_to_send(&mut self) -> bool {
        let mut nodes = std::mem::take(&mut self.nodes);
        self.backs.ready_nodes(&mut nodes);
        let any = nodes.drain(..).any(|node| self.parts.client.is_connected(node));
        self.nodes = nodes;
        any
    }

    /// Sleeps until there is something to do. A metadata request that is due but has no connection
    /// to go out on waits for an event of the client's, which knows its own deadlines.
    fn poll(&mut self) -> Result<()> {
        let now = self.parts.clock.now();
        let metadata = self.parts.metadata.next_due();
        let metadata = if metadata <= now { Instant::NEVER } else { metadata };
        let deadline = self.backs.next_deadline().min(metadata).min(self.trim_at);
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
                    } else if let Some(produce) = self.produces.remove(&token) {
                        self.on_failed(produce, written, &error.to_string().into(), now);
                    }
                }
                ClientEvent::Disconnected { error, .. } => self.on_disconnected(&error),
                ClientEvent::Ready { .. } => {}
            }
        }
        self.events = events;
        self.parts.deliveries.nudge();
    }

    fn on_metadata(&mut self, node: i32, version: i16, body: &Bytes, now: Instant) {
        let response = MetadataResponse::from_bytes(version, body);
        match response {
            Ok(response) => {
                let throttle = response.throttle_time_ms;
                self.parts.client.throttle(node, ApiKey::Metadata, version, throttle, now);
                // A refusal is logged there.
                if self.parts.metadata.on_response(&response, now).is_ok() && self.bootstrapping {
                    self.bootstrapping = false;
                    self.follow_nodes();
                }
            }
            Err(error) => {
                self.parts.client.disconnect(node, &error.message);
                self.parts.metadata.on_failure(now, error);
            }
        }
    }

    /// A connection is gone, or never came about: whoever it led may have moved.
    fn on_disconnected(&mut self, error: &NetworkError) {
        if error.kind == ErrorKind::Idle {
            return;
        }
        self.parts.metadata.disconnected(error.clone().into());
    }
}

fn leader_of(cluster: &Cluster, partition: &Partition) -> i32 {
    cluster.leader(&partition.topic, partition.index).map_or(NO_LEADER, |node| node.id)
}

fn bootstrap_nodes(settings: &Settings) -> Vec<(i32, Arc<str>, u16)> {
    let servers = (0..).zip(&settings.bootstrap_servers);
    servers
        .map(|(number, (host, port))| (bootstrap_node_id(number), Arc::from(host.as_str()), *port))
        .collect()
}
