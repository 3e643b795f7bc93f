//! NetworkClient: the nodes, who may be sent what, and when. Network thread only.

mod io;
mod setup;
#[cfg(test)]
mod tests;

use crate::clock::{Clock, Instant};
use crate::error::{Error, RETRIABLE, Result, status};
use crate::log::{Level, Logger};
use crate::network::error::{ErrorKind, NetworkError};
use crate::network::in_flight::{InFlightRequest, Owner};
use crate::network::node::{ConnectionState, Node, NodeStatus};
use crate::network::resolver::{Answer, Resolver};
use crate::network::selector::{ConnectionId, Readiness, Selectable};
use crate::network::send::NetworkSend;
use crate::network::transport::SocketOptions;
use crate::network::versions::client_throttles;
use crate::network::{ClientEvent, ClientRequest, NetworkConfig, until};
use crate::protocol::ApiKey;
use crate::protocol::api::request_head;
use crate::rng::Rng;
use crate::sync::Wake;
use bytes::Bytes;
use foldhash::fast::FixedState;
use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

const LOG: &str = "network";
/// The least `TCP_USER_TIMEOUT`: a broker that throttles by not reading must not look dead.
const USER_TIMEOUT_MIN: Duration = Duration::from_secs(60);

type FixedMap<K, V> = HashMap<K, V, FixedState>;

/// Connections to the nodes of a cluster, and the requests in flight on them.
pub struct NetworkClient<S: Selectable> {
    config: NetworkConfig,
    socket_options: SocketOptions,
    selector: S,
    clock: Clock,
    rng: Arc<Rng>,
    logger: Logger,
    resolver: Box<dyn Resolver>,
    nodes: FixedMap<i32, Node<S::Transport>>,
    /// The ids of the nodes that are not leaving, as they were given.
    order: Vec<i32>,
    connections: FixedMap<ConnectionId, i32>,
    next_connection: usize,
    /// Who waits for which answer of the resolver.
    tickets: FixedMap<u64, i32>,
    next_ticket: u64,
    /// One entry per node that has something due; maybe too early, never too late.
    timers: BTreeSet<(Instant, i32)>,
    /// Nodes with requests that were given to their channel since it last wrote.
    unwritten: Vec<i32>,
    /// Nodes whose channel used up its read budget.
    unread: Vec<i32>,
    /// What happened outside of a poll, and what the running one found.
    events: Vec<ClientEvent>,
    // Kept for their memory.
    ready: Vec<Readiness>,
    frames: Vec<Bytes>,
    answers: Vec<Answer>,
}

impl<S: Selectable> std::fmt::Debug for NetworkClient<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkClient").field("nodes", &self.order).finish_non_exhaustive()
    }
}

impl<S: Selectable> NetworkClient<S> {
    /// A client without nodes.
    pub fn new(
        config: NetworkConfig,
        selector: S,
        clock: Clock,
        rng: Arc<Rng>,
        logger: Logger,
        resolver: Box<dyn Resolver>,
    ) -> NetworkClient<S> {
        NetworkClient {
            socket_options: SocketOptions {
                send_buffer: config.send_buffer,
                receive_buffer: config.receive_buffer,
                user_timeout: Some(config.request_timeout.max(USER_TIMEOUT_MIN)),
            },
            config,
            selector,
            clock,
            rng,
            logger,
            resolver,
            nodes: FixedMap::default(),
            order: Vec::new(),
            connections: FixedMap::default(),
            next_connection: 0,
            tickets: FixedMap::default(),
            next_ticket: 0,
            timers: BTreeSet::new(),
            unwritten: Vec::new(),
            unread: Vec::new(),
            events: Vec::new(),
            ready: Vec::new(),
            frames: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Ends the current or the next poll early, from any thread.
    pub fn waker(&self) -> Arc<dyn Wake> {
        self.selector.waker()
    }

    /// Says which nodes there are: all of them, each time. One that is no longer there gets no new
    /// requests, finishes what is in flight, and its connection is closed. One whose host or port
    /// changed loses its connection at once.
    pub fn set_nodes(&mut self, nodes: &[(i32, Arc<str>, u16)]) {
        let old = std::mem::take(&mut self.order);
        for (id, host, port) in nodes {
            let moved = match self.nodes.get_mut(id) {
                Some(node) if node.host == *host && node.port == *port => {
                    node.leaving = false;
                    None
                }
                Some(node) => Some(node.error(
                    ErrorKind::Disconnected,
                    format!("the node's address changed to {host}:{port}"),
                )),
                None => {
                    self.nodes.insert(*id, Node::new(host, *port));
                    None
                }
            };
            if let Some(error) = moved {
                self.remove(*id, error);
                self.nodes.insert(*id, Node::new(host, *port));
            }
            if !self.order.contains(id) {
                self.order.push(*id);
            }
        }
        for id in old {
            if !self.order.contains(&id) {
                self.leave(id);
            }
        }
    }

    /// The nodes that there are.
    pub fn nodes(&self) -> &[i32] {
        &self.order
    }

    /// Whether a request may be sent to the node now: connected, versions known, not throttled,
    /// fewer than the maximum in flight. If it is not connected this connects, once the backoff
    /// after the last failure is over.
    pub fn ready(&mut self, node: i32, now: Instant) -> bool {
        let max_in_flight = self.config.max_in_flight;
        let Some(found) = self.nodes.get_mut(&node) else { return false };
        if found.leaving {
            return false;
        }
        let wanted_at = match found.state() {
            ConnectionState::Ready if found.is_throttled(now) => found.throttled_until,
            ConnectionState::Ready => return found.in_flight.len() < max_in_flight,
            ConnectionState::Disconnected if now < found.retry_at => found.retry_at,
            ConnectionState::Disconnected => {
                self.connect(node, now);
                return false;
            }
            ConnectionState::Resolving
            | ConnectionState::Connecting
            | ConnectionState::CheckingApiVersions => return false,
        };
        found.wanted_at = wanted_at;
        self.arm(node, wanted_at);
        false
    }

    /// How long nothing but time can make the node ready: the rest of its throttling or its
    /// backoff. Zero if it is ready or may be connected, [`Duration::MAX`] if an event will tell
    /// (connecting, too much in flight) or nothing will (unknown).
    pub fn poll_delay(&self, node: i32, now: Instant) -> Duration {
        let Some(node) = self.nodes.get(&node).filter(|node| !node.leaving) else {
            return Duration::MAX;
        };
        match node.state() {
            ConnectionState::Ready if node.is_throttled(now) => node.throttled_until.since(now),
            ConnectionState::Ready if node.in_flight.len() < self.config.max_in_flight => {
                Duration::ZERO
            }
            ConnectionState::Disconnected => node.retry_at.since(now),
            ConnectionState::Ready
            | ConnectionState::Resolving
            | ConnectionState::Connecting
            | ConnectionState::CheckingApiVersions => Duration::MAX,
        }
    }

    /// Whether [`ready`](Self::ready) would begin to connect now.
    pub fn can_connect(&self, node: i32, now: Instant) -> bool {
        self.nodes.get(&node).is_some_and(|node| !node.leaving && node.is_connectable(now))
    }

    /// What a node does at this moment, for people.
    pub fn status(&self, node: i32, now: Instant) -> NodeStatus {
        let found = self.nodes.get(&node);
        found.map_or(NodeStatus::Unknown, |node| node.status(self.config.max_in_flight, now))
    }

    /// Whether the node is connected and its versions are known.
    pub fn is_connected(&self, node: i32) -> bool {
        self.nodes.get(&node).is_some_and(Node::is_ready)
    }

    /// How many requests to the node have no outcome.
    pub fn in_flight(&self, node: i32) -> usize {
        self.nodes.get(&node).map_or(0, |node| node.in_flight.len())
    }

    /// Whether requests to the node wait for the socket to take them. More of them would only fill
    /// memory; waiting makes the next one larger.
    pub fn is_sending(&self, node: i32) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.in_flight.is_sending())
    }

    /// Whether any request has no outcome.
    pub fn has_in_flight(&self) -> bool {
        self.nodes.values().any(|node| !node.in_flight.is_empty())
    }

    /// Why the last connection, or the last attempt to make one, failed; forgotten when a request
    /// goes well.
    pub fn last_error(&self, node: i32) -> Option<&NetworkError> {
        self.nodes.get(&node)?.last_error.as_ref()
    }

    /// `host:port` of a node.
    pub fn address(&self, node: i32) -> Option<&Arc<str>> {
        self.nodes.get(&node).map(|node| &node.address)
    }

    /// The node to ask for something that any node knows (KIP-302 and later): from a random one on,
    /// the first that is ready and has nothing in flight; else the ready one with the fewest in
    /// flight; else one that is connecting; else the one that may be connected whose last attempt
    /// is the longest ago. Not those that are throttled.
    pub fn least_loaded_node(&self, now: Instant) -> Option<i32> {
        let count = self.order.len();
        let start = usize::try_from(self.rng.below(count as u64)).unwrap_or(0);
        let (before, from) = self.order.split_at_checked(start)?;
        let mut fewest: Option<(usize, i32)> = None;
        let mut connecting: Option<i32> = None;
        let mut oldest: Option<(Instant, i32)> = None;
        for id in from.iter().chain(before) {
            let Some(node) = self.nodes.get(id).filter(|node| !node.is_throttled(now)) else {
                continue;
            };
            match node.state() {
                ConnectionState::Ready => {
                    let in_flight = node.in_flight.len();
                    if in_flight == 0 {
                        return Some(*id);
                    }
                    let fewer = fewest.is_none_or(|(least, _)| in_flight < least);
                    if in_flight < self.config.max_in_flight && fewer {
                        fewest = Some((in_flight, *id));
                    }
                }
                ConnectionState::Resolving
                | ConnectionState::Connecting
                | ConnectionState::CheckingApiVersions => connecting = connecting.or(Some(*id)),
                ConnectionState::Disconnected => {
                    let older = oldest.is_none_or(|(attempt, _)| node.last_attempt < attempt);
                    if node.is_connectable(now) && older {
                        oldest = Some((node.last_attempt, *id));
                    }
                }
            }
        }
        fewest.map(|(_, id)| id).or(connecting).or(oldest.map(|(_, id)| id))
    }

    /// The highest version of an API that the node and the caller have in common. The node must be
    /// connected.
    pub fn api_version(&self, node: i32, key: ApiKey, ours: RangeInclusive<i16>) -> Result<i16> {
        let found = self.nodes.get(&node).filter(|found| found.is_ready());
        let Some(found) = found else {
            let text = format!("node {node} is not connected: nobody knows which {key} it speaks");
            return Err(Error::new(status::INVALID_STATE, text).with(RETRIABLE));
        };
        found.versions.choose(key, ours).map_err(|text| {
            NetworkError::new(ErrorKind::UnsupportedVersion, &found.address, text).into()
        })
    }

    /// Sends a request to a node that was [`ready`](Self::ready): it is written by the next poll.
    /// Its outcome is one event, in any case.
    pub fn send(&mut self, node: i32, request: ClientRequest, now: Instant) {
        let ClientRequest { api, version, body, token, expects_response, timeout } = request;
        let refused = match self.nodes.get(&node) {
            Some(found) if found.is_ready() => None,
            Some(found) => Some(found.error(ErrorKind::NotConnected, "not connected")),
            None => Some(NetworkError::new(
                ErrorKind::NotConnected,
                &format!("node {node}").into(),
                "not in the cluster's metadata",
            )),
        };
        let outcome = match refused {
            Some(error) => Err(error),
            None => self.enqueue(
                node,
                body,
                InFlightRequest {
                    owner: Owner::Sender(token),
                    api,
                    version,
                    correlation_id: 0,
                    expects_response,
                    sent: now,
                    deadline: now.after(timeout),
                },
            ),
        };
        if let Err(error) = outcome {
            self.events.push(ClientEvent::Failed { node, token, written: false, error });
        }
    }

    /// Gives a request to a node's channel.
    fn enqueue(
        &mut self,
        id: i32,
        body: Vec<Bytes>,
        mut request: InFlightRequest,
    ) -> Result<(), NetworkError> {
        let unknown = || NetworkError::new(ErrorKind::NotConnected, &"?".into(), "not connected");
        let node = self.nodes.get_mut(&id).ok_or_else(unknown)?;
        request.correlation_id = node.in_flight.next_correlation_id();
        let length = body.iter().fold(0_usize, |sum, piece| sum.saturating_add(piece.len()));
        let client_id = Some(self.config.client_id.as_str());
        let head =
            request_head(request.api, request.version, request.correlation_id, client_id, length)
                .map_err(|error| node.error(ErrorKind::Protocol, &*error.message))?;
        let Some(channel) = &mut node.channel else { return Err(unknown()) };
        channel.send(NetworkSend::new(head, body));
        let deadline = request.deadline;
        node.in_flight.add(request);
        self.unwritten.push(id);
        self.arm(id, deadline);
        Ok(())
    }

    /// A response said `throttle_time_ms`: the node gets no request until that is over, and what is
    /// in flight gets that much more time (KIP-219). Nothing happens for versions whose broker
    /// waits itself.
    pub fn throttle(
        &mut self,
        node: i32,
        api: ApiKey,
        version: i16,
        throttle_time_ms: i32,
        now: Instant,
    ) {
        let by = Duration::from_millis(u64::try_from(throttle_time_ms).unwrap_or(0));
        if by.is_zero() || !client_throttles(api, version) {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&node) {
            node.throttled_until = node.throttled_until.max(now.after(by));
            node.in_flight.extend_deadlines(by);
        }
    }

    /// Closes the connection to a node, if there is one: what is in flight fails. It may be
    /// connected again after the reconnect backoff.
    pub fn disconnect(&mut self, node: i32, why: &str) {
        let now = self.clock.now();
        let Some(found) = self.nodes.get_mut(&node) else { return };
        let error = found.error(ErrorKind::Disconnected, why);
        match found.state() {
            ConnectionState::Disconnected => {}
            ConnectionState::Ready => self.connection_failed(node, error, now),
            ConnectionState::Resolving
            | ConnectionState::Connecting
            | ConnectionState::CheckingApiVersions => {
                found.untried.clear();
                self.abort_setup(node, error, now);
            }
        }
    }

    /// Closes every connection and forgets every node. Each request that had no outcome fails.
    pub fn close(&mut self, events: &mut Vec<ClientEvent>) {
        let mut ids: Vec<i32> = self.nodes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(node) = self.nodes.get(&id) {
                let error = node.error(ErrorKind::Disconnected, "the producer closes");
                self.remove(id, error);
            }
        }
        self.order.clear();
        events.append(&mut self.events);
    }

    /// A node that is no longer in the cluster.
    fn leave(&mut self, id: i32) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.leaving = true;
        if node.is_ready() && !node.in_flight.is_empty() {
            return;
        }
        let error = node.error(ErrorKind::Disconnected, "the node is no longer in the cluster");
        self.remove(id, error);
    }

    /// Forgets a node; what is in flight fails.
    fn remove(&mut self, id: i32, error: NetworkError) {
        let connected = self.nodes.get(&id).is_some_and(Node::is_ready);
        self.close_channel(id, &error);
        if let Some(node) = self.nodes.remove(&id) {
            self.timers.remove(&(node.timer, id));
            self.tickets.remove(&node.ticket);
        }
        if connected {
            self.log(Level::Debug, || format!("node {id}: {error}"));
            self.events.push(ClientEvent::Disconnected { node: id, error });
        }
    }

    /// How long TCP and ApiVersions may take after this many attempts that failed.
    fn setup_timeout(&self, failed_attempts: u32) -> Duration {
        let (initial, max) =
            (self.config.connection_setup_timeout, self.config.connection_setup_timeout_max);
        self.rng.backoff(initial, max, failed_attempts.saturating_add(1))
    }

    /// Has the node looked at no later than `at`.
    fn arm(&mut self, id: i32, at: Instant) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if at < node.timer {
            self.timers.remove(&(node.timer, id));
            self.timers.insert((at, id));
            node.timer = at;
        }
    }

    /// How long the poll may wait: not beyond what is due, and not at all if there is something to
    /// tell or to read.
    fn poll_timeout(&self, wanted: Option<Duration>, now: Instant) -> Option<Duration> {
        if !self.events.is_empty() || !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        let due = self.timers.first().map(|(at, _)| until(*at, now));
        match (wanted, due) {
            (Some(wanted), Some(due)) => Some(wanted.min(due)),
            (wanted, due) => wanted.or(due),
        }
    }

    fn log(&self, level: Level, message: impl FnOnce() -> String) {
        self.logger.log(level, LOG, message);
    }
}
