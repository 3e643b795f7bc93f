//! From a name to a connection that is ready: resolve, connect to one address after the other, ask
//! for ApiVersions. And what happens when a connection or an attempt fails.
//!
//! An attempt asks the resolver, then tries each address; each has the whole set-up timeout for TCP
//! and ApiVersions. Only when all have failed does the attempt count as failed and the backoff
//! begin. The next attempt resolves anew.

use super::{NetworkClient, Owner};
use crate::clock::Instant;
use crate::log::Level;
use crate::network::ClientEvent;
use crate::network::channel::KafkaChannel;
use crate::network::error::{ErrorKind, NetworkError};
use crate::network::in_flight::InFlightRequest;
use crate::network::node::ConnectionState;
use crate::network::resolver::Query;
use crate::network::selector::{ConnectionId, Selectable};
use crate::network::versions::NodeApiVersions;
use crate::protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use crate::protocol::{ApiKey, ErrorCode, Message};
use bytes::Bytes;
use std::net::SocketAddr;

/// The version of ApiVersions that a connection begins with.
const API_VERSIONS_FIRST: i16 = 4;
/// What a peer that has not proved to be Kafka may send at most: some sixty APIs and a few features
/// are 1 KiB.
const UNPROVED_FRAME_MAX: usize = 64 * 1024;
const SOFTWARE_NAME: &str = "libkafka-producer";
/// What a closed connection may mean before ApiVersions is answered ...
const HINT_UNPROVED: &str =
    "before it answered ApiVersions; a listener that expects TLS does that (security.protocol)";
/// ... and after it, before anything else is.
const HINT_UNANSWERED: &str = "before it answered the first request; a listener that expects SASL \
     does that (security.protocol)";

impl<S: Selectable> NetworkClient<S> {
    /// Begins an attempt to connect.
    pub(super) fn connect(&mut self, id: i32, now: Instant) {
        let Some(node) = self.nodes.get(&id) else { return };
        let timeout = self.setup_timeout(node.failed_attempts);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.transition(ConnectionState::Resolving);
        node.last_attempt = now;
        node.wanted_at = Instant::NEVER;
        // A name server may take longer than a connection may, and its late answer is as good as
        // any. So the attempt goes on, but whoever asks for the last error learns what it waits
        // for.
        node.setup_began = now;
        node.setup_deadline = now.after(timeout);
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.remove(&node.ticket);
        node.ticket = ticket;
        let query = Query { ticket, host: node.host.clone(), port: node.port };
        let due = node.setup_deadline;
        self.tickets.insert(ticket, id);
        self.arm(id, due);
        self.resolver.resolve(query);
        self.handle_answers(now);
    }

    /// Goes on with the attempts whose names are resolved.
    pub(super) fn handle_answers(&mut self, now: Instant) {
        if self.tickets.is_empty() {
            return;
        }
        let mut answers = std::mem::take(&mut self.answers);
        self.resolver.answers(&mut answers);
        for answer in answers.drain(..) {
            // An attempt that was given up no longer has a ticket.
            let Some(id) = self.tickets.remove(&answer.ticket) else { continue };
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            match answer.result {
                Ok(addresses) => {
                    node.set_addresses(addresses);
                    self.connect_to_next(id, now);
                }
                Err(reason) => {
                    let text = format!("the name {} does not resolve: {reason}", node.host);
                    let error = NetworkError::new(ErrorKind::Resolve, &node.address, text);
                    self.abort_setup(id, error, now);
                }
            }
        }
        self.answers = answers;
    }

    /// Connects to the next address of the running attempt; without one the attempt has failed.
    fn connect_to_next(&mut self, id: i32, now: Instant) {
        while let Some(node) = self.nodes.get_mut(&id) {
            let Some(address) = node.untried.pop_front() else {
                let error = node.attempt_error();
                return self.abort_setup(id, error, now);
            };
            node.transition(ConnectionState::Connecting);
            match self.open(id, address, now) {
                Ok(()) => return,
                Err(error) => {
                    let Some(node) = self.nodes.get_mut(&id) else { return };
                    let error = node.error_at(address, ErrorKind::Connect, error.to_string());
                    node.tried.push(error);
                }
            }
        }
    }

    fn open(&mut self, id: i32, address: SocketAddr, now: Instant) -> std::io::Result<()> {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let transport = self.selector.open(connection, address, &self.socket_options)?;
        let failed_attempts = self.nodes.get(&id).map_or(0, |node| node.failed_attempts);
        let timeout = self.setup_timeout(failed_attempts);
        let Some(node) = self.nodes.get_mut(&id) else {
            self.selector.close(connection, transport);
            return Ok(());
        };
        node.setup_began = now;
        node.setup_deadline = now.after(timeout);
        node.channel = Some(KafkaChannel::new(connection, address, transport, UNPROVED_FRAME_MAX));
        node.in_flight.start(0);
        node.answered = false;
        let due = node.setup_deadline;
        self.connections.insert(connection, id);
        self.log(Level::Debug, || format!("node {id}: connecting to {address}"));
        self.arm(id, due);
        Ok(())
    }

    /// The selector reports a connection that is being made. False if it is gone, or not made yet.
    pub(super) fn finish_connect(&mut self, id: i32, now: Instant) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        if node.state() != ConnectionState::Connecting {
            return true;
        }
        let Some(channel) = &mut node.channel else { return false };
        match channel.finish_connect() {
            Ok(false) => false,
            Ok(true) => {
                node.transition(ConnectionState::CheckingApiVersions);
                node.last_used = now;
                self.ask_api_versions(id, API_VERSIONS_FIRST, now)
            }
            Err(error) => {
                let error = node.error(ErrorKind::Connect, error.to_string());
                self.connection_failed(id, error, now);
                false
            }
        }
    }

    fn ask_api_versions(&mut self, id: i32, version: i16, now: Instant) -> bool {
        let request = ApiVersionsRequest {
            client_software_name: SOFTWARE_NAME.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let in_flight = InFlightRequest {
            owner: Owner::Client,
            api: ApiKey::ApiVersions,
            version,
            correlation_id: 0,
            expects_response: true,
            sent: now,
            // The set-up timeout watches over it.
            deadline: Instant::NEVER,
        };
        let sent = match request.to_vec(version) {
            Ok(body) => self.enqueue(id, vec![body.into()], in_flight),
            Err(error) => Err(self.error(id, ErrorKind::Protocol, &error.message)),
        };
        match sent {
            Ok(()) => true,
            Err(error) => {
                self.connection_failed(id, error, now);
                false
            }
        }
    }

    /// ApiVersions is answered: the connection is ready, or a lower version is asked for.
    pub(super) fn handle_api_versions(
        &mut self,
        id: i32,
        asked: i16,
        body: &Bytes,
        now: Instant,
    ) -> Result<(), NetworkError> {
        let response = ApiVersionsResponse::from_bytes(asked, body)
            .map_err(|error| self.error(id, ErrorKind::Protocol, &error.message))?;
        if response.error_code == ErrorCode::UNSUPPORTED_VERSION {
            // The body is v0's, and may say which versions of ApiVersions there are. Each is lower
            // than the last.
            let advertised = response.range(ApiKey::ApiVersions).map_or(0, |range| *range.end());
            let lower = if (0..asked).contains(&advertised) { advertised } else { 0 };
            if lower >= asked {
                let text = "the broker does not even speak ApiVersions v0";
                return Err(self.error(id, ErrorKind::UnsupportedVersion, text));
            }
            self.ask_api_versions(id, lower, now);
            return Ok(());
        }
        if !response.error_code.is_none() {
            let text =
                format!("the broker answered ApiVersions with error {}", response.error_code.0);
            return Err(self.error(id, ErrorKind::Protocol, &text));
        }
        let max_frame = self.config.receive_message_max;
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        node.versions = NodeApiVersions::new(&response);
        node.transition(ConnectionState::Ready);
        node.setup_deadline = Instant::NEVER;
        node.untried.clear();
        node.tried.clear();
        node.last_used = now;
        if let Some(channel) = &mut node.channel {
            channel.set_frame_max(max_frame);
        }
        let idle = node.idle_deadline(self.config.connections_max_idle);
        self.arm(id, idle);
        self.throttle(id, ApiKey::ApiVersions, asked, response.throttle_time_ms, now);
        self.log(Level::Debug, || format!("node {id}: ready"));
        self.events.push(ClientEvent::Ready { node: id });
        Ok(())
    }

    /// A connection is lost, or could not be made. What is in flight fails; an attempt goes on with
    /// the next address.
    pub(super) fn connection_failed(&mut self, id: i32, error: NetworkError, now: Instant) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if !node.is_ready() {
            self.close_channel(id, &error);
            if let Some(node) = self.nodes.get_mut(&id) {
                node.tried.push(error);
            }
            return self.connect_to_next(id, now);
        }
        if let Some(channel) = &node.channel
            && !matches!(error.kind, ErrorKind::Idle | ErrorKind::Disconnected)
        {
            node.lost = Some(channel.remote);
        }
        self.close_channel(id, &error);
        self.disconnected(id, error, now);
    }

    /// The running attempt has failed.
    pub(super) fn abort_setup(&mut self, id: i32, error: NetworkError, now: Instant) {
        self.close_channel(id, &error);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.untried.clear();
            node.tried.clear();
            self.tickets.remove(&node.ticket);
        }
        self.disconnected(id, error, now);
    }

    /// A node is left without connection: from now on the backoff runs.
    fn disconnected(&mut self, id: i32, error: NetworkError, now: Instant) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.transition(ConnectionState::Disconnected);
        node.setup_deadline = Instant::NEVER;
        if error.kind == ErrorKind::Idle {
            // Nothing is wrong with the node.
            node.retry_at = now;
        } else {
            node.failed_attempts = node.failed_attempts.saturating_add(1);
            let (initial, max) = (self.config.reconnect_backoff, self.config.reconnect_backoff_max);
            node.retry_at = now.after(self.rng.backoff(initial, max, node.failed_attempts));
            let known = node.last_error.as_ref() == Some(&error);
            node.last_error = Some(error.clone());
            // Once per reason: the hundredth refusal is no news.
            let level = if known { Level::Debug } else { Level::Warning };
            self.log(level, || format!("node {id}: {error}"));
        }
        let leaving = self.nodes.get(&id).is_some_and(|node| node.leaving);
        self.events.push(ClientEvent::Disconnected { node: id, error: error.clone() });
        if leaving {
            self.remove(id, error);
        }
    }

    /// Closes a node's channel, if it has one, and fails what is in flight on it.
    pub(super) fn close_channel(&mut self, id: i32, error: &NetworkError) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(channel) = node.channel.take() else { return };
        self.connections.remove(&channel.id);
        for (request, written) in node.in_flight.fail_all(channel.begun()) {
            match request.owner {
                Owner::Client => {}
                Owner::Sender(token) => self.events.push(ClientEvent::Failed {
                    node: id,
                    token,
                    written,
                    error: error.clone(),
                }),
            }
        }
        self.unread.retain(|unread| *unread != id);
        self.selector.close(channel.id, channel.into_transport());
    }

    /// An error about a node.
    pub(super) fn error(&self, id: i32, kind: ErrorKind, message: &str) -> NetworkError {
        match self.nodes.get(&id) {
            Some(node) => node.error(kind, message),
            None => NetworkError::new(kind, &format!("node {id}").into(), message),
        }
    }

    /// An error about a connection that the peer closed or the operating system gave up.
    pub(super) fn lost(&self, id: i32, kind: ErrorKind, what: &str) -> NetworkError {
        let hint = match self.nodes.get(&id) {
            Some(node) if !node.is_ready() => HINT_UNPROVED,
            Some(node) if !node.answered && !node.in_flight.is_empty() => HINT_UNANSWERED,
            Some(_) | None => "",
        };
        let text = if hint.is_empty() { what.to_owned() } else { format!("{what} {hint}") };
        self.error(id, kind, &text)
    }
}
