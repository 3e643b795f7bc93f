//! What the sender does about metadata: asks for it, follows what it says of brokers and leaders,
//! and goes back to the bootstrap servers when the brokers it names are of no use any more
//! (KIP-899, KIP-1102).

use super::Sender;
use crate::accumulator::back::NO_LEADER;
use crate::accumulator::front::Partition;
use crate::clock::Instant;
use crate::config::Settings;
use crate::defects::{self, Defect};
use crate::log::Level;
use crate::metadata::Cluster;
use crate::network::{Selectable, bootstrap_node_id};
use crate::protocol::api::{ApiKey, ErrorCode, Message, Request};
use crate::protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Whom the client may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nodes {
    /// The brokers of the metadata.
    Brokers,
    /// Those and the bootstrap servers: none of them can be reached, or there are none yet.
    All,
    /// The bootstrap servers alone: what the metadata says is not to be trusted.
    Bootstrap,
}

impl<S: Selectable> Sender<S> {
    /// Sends a metadata request that is due, and follows a snapshot that has changed.
    pub(super) fn follow_metadata(&mut self, now: Instant) {
        self.ask_for_leaders(now);
        if self.rebootstrap_at() <= now {
            let limit = self.parts.settings.rebootstrap_trigger.as_millis();
            self.rebootstrap(&format!("no broker has answered for metadata for {limit} ms"), now);
        }
        if self.metadata_token.is_none() {
            self.request_metadata(now);
        }
        if self.parts.metadata.version() != self.metadata_version {
            self.from_whom = Nodes::Brokers;
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

    /// Tells the client who there is.
    pub(super) fn follow_nodes(&mut self) {
        let cluster = self.parts.metadata.snapshot();
        let brokers = cluster.nodes.iter().map(|node| (node.id, Arc::clone(&node.host), node.port));
        let brokers = brokers.filter(|_| self.from_whom != Nodes::Bootstrap);
        let servers =
            (self.from_whom != Nodes::Brokers).then(|| bootstrap_nodes(&self.parts.settings));
        let nodes: Vec<_> = brokers.chain(servers.into_iter().flatten()).collect();
        self.parts.client.set_nodes(&nodes);
    }

    /// When metadata has been wanted in vain for too long; `NEVER` if it has not, or it is not to
    /// matter.
    pub(super) fn rebootstrap_at(&self) -> Instant {
        let settings = &self.parts.settings;
        let may = settings.metadata_rebootstrap && !defects::on(Defect::IgnoreTrigger);
        let since = self.metadata_wanted_since.filter(|_| may);
        since.map_or(Instant::NEVER, |since| since.after(settings.rebootstrap_trigger))
    }

    /// Starts over: every connection is closed, and the bootstrap servers are looked up again.
    /// Topics, and what is queued for them, stay.
    fn rebootstrap(&mut self, why: &str, now: Instant) {
        self.parts.logger.log(Level::Warning, "sender", || {
            format!("the bootstrap servers are asked again: {why}")
        });
        for node in self.parts.client.nodes().to_vec() {
            self.parts.client.disconnect(node, why);
        }
        self.from_whom = Nodes::Bootstrap;
        self.metadata_wanted_since = Some(now);
        self.follow_nodes();
        self.parts.metadata.request_update();
    }

    /// Every partition learns its leader of now; what is ready moves to it, what backs off from an
    /// old one is sent.
    pub(super) fn follow_leaders(&mut self) {
        let cluster = self.parts.metadata.snapshot();
        self.metadata_version = cluster.version;
        for partition in self.parts.accumulator.partitions() {
            if let Some(topic) = cluster.topic(&partition.topic) {
                self.backs.follow_topic_id(partition.slot, topic.id);
            }
            let leader = leader_of(&cluster, &partition);
            if partition.leader() != leader {
                partition.set_leader(self.parts.accumulator.pool(), leader);
                self.backs.led_by_another(partition.slot);
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
        self.metadata_wanted_since.get_or_insert(now);
        let Some(node) = self.parts.client.least_loaded_node(now) else {
            return self.no_node(now);
        };
        if !self.parts.client.ready(node, now) {
            // The connection is being made; its end, good or bad, comes as an event.
            match self.from_whom {
                Nodes::Brokers if self.is_lost(node) => self.ask_servers_too(now),
                Nodes::All => self.prepare_servers(now),
                Nodes::Brokers | Nodes::Bootstrap => {}
            }
            return;
        }
        let Some(spec) = self.parts.metadata.request_due(now) else { return };
        if !spec.topics.is_empty() {
            self.expect_records();
        }
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
    /// and then the client is to wake up.
    fn no_node(&mut self, now: Instant) {
        let client = &self.parts.client;
        let reachable = client.nodes().iter().any(|node| client.is_connected(*node));
        self.prepare_nodes(now);
        if !reachable {
            self.ask_servers_too(now);
        }
    }

    /// Whether there is little hope: nobody is connected, and this node, the best to ask, was tried
    /// in vain before. Nodes that are there but say nothing fail slowly, and while there are
    /// records for them one of them is always being connected to.
    fn is_lost(&self, node: i32) -> bool {
        let client = &self.parts.client;
        let connected = client.nodes().iter().any(|node| client.is_connected(*node));
        !connected && client.last_error(node).is_some()
    }

    /// None of the brokers that the metadata names can be reached. They may all have moved: the
    /// bootstrap servers are asked again (KIP-899).
    fn ask_servers_too(&mut self, now: Instant) {
        let may = self.parts.settings.metadata_rebootstrap && !defects::on(Defect::StayWithBrokers);
        if may && self.from_whom == Nodes::Brokers {
            self.from_whom = Nodes::All;
            self.follow_nodes();
            self.prepare_servers(now);
            self.request_metadata(now);
        }
    }

    /// Connects to the bootstrap servers where the brokers can't be reached. Who is asked for
    /// metadata is rather one that is being connected to, and while there are records for brokers
    /// that are gone, one of those always is.
    fn prepare_servers(&mut self, now: Instant) {
        if self.parts.metadata.snapshot().nodes.is_empty() {
            return;
        }
        for (server, _, _) in bootstrap_nodes(&self.parts.settings) {
            self.parts.client.ready(server, now);
        }
    }

    /// Connects to whoever may be connected to; of the others the client learns when to wake up.
    pub(super) fn prepare_nodes(&mut self, now: Instant) {
        let client = &mut self.parts.client;
        for node in client.nodes().to_vec() {
            client.ready(node, now);
        }
    }

    pub(super) fn on_metadata(&mut self, node: i32, version: i16, body: &Bytes, now: Instant) {
        let response = MetadataResponse::from_bytes(version, body);
        match response {
            Ok(response) => {
                let throttle = response.throttle_time_ms;
                self.parts.client.throttle(node, ApiKey::Metadata, version, throttle, now);
                let required = response.error_code == ErrorCode::REBOOTSTRAP_REQUIRED
                    && !defects::on(Defect::IgnoreSentAway);
                // A refusal is logged there.
                if self.parts.metadata.on_response(&response, now).is_ok() {
                    self.metadata_wanted_since = None;
                    if self.from_whom != Nodes::Brokers {
                        self.from_whom = Nodes::Brokers;
                        self.follow_nodes();
                    }
                } else if required && self.parts.settings.metadata_rebootstrap {
                    self.rebootstrap(&format!("node {node} says that it has to be"), now);
                }
            }
            Err(error) => {
                self.parts.client.disconnect(node, &error.message);
                self.parts.metadata.on_failure(now, error);
            }
        }
    }
}

pub(super) fn leader_of(cluster: &Cluster, partition: &Partition) -> i32 {
    cluster.leader(&partition.topic, partition.index).map_or(NO_LEADER, |node| node.id)
}

pub(super) fn bootstrap_nodes(settings: &Settings) -> Vec<(i32, Arc<str>, u16)> {
    let servers = (0..).zip(&settings.bootstrap_servers);
    servers
        .map(|(number, (host, port))| (bootstrap_node_id(number), Arc::from(host.as_str()), *port))
        .collect()
}
