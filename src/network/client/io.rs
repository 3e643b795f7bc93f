//! The poll: bytes out, bytes in, and what is due.

use super::NetworkClient;
use crate::clock::Instant;
use crate::error::{Error, FATAL, Result, status};
use crate::log::Level;
use crate::network::ClientEvent;
use crate::network::error::{ErrorKind, NetworkError, recognise};
use crate::network::in_flight::{InFlightRequest, InFlightRequests, Owner};
use crate::network::node::ConnectionState;
use crate::network::receive::{Left, ReceiveError};
use crate::network::selector::{Readiness, Selectable};
use crate::protocol::api::{correlation_id, split_response};
use bytes::Bytes;
use std::time::Duration;

/// A request that timed out while its response may lie unread gets this much more.
const UNREAD_GRACE: Duration = Duration::from_millis(1);

impl<S: Selectable> NetworkClient<S> {
    /// Writes, waits up to `timeout` (`None`: for as long as nothing happens), reads, and appends
    /// what happened. Returns early when anything was done, when something was due, or after the
    /// waker was used. An error means that nothing can be polled any more: the process has closed
    /// descriptors that are not its own.
    pub fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<ClientEvent>) -> Result<()> {
        let now = self.clock.now();
        self.write_unwritten(now);
        let timeout = self.poll_timeout(timeout, now);
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        let polled = self.selector.poll(timeout, &mut ready);
        let now = self.clock.now();
        let unread = std::mem::take(&mut self.unread);
        for readiness in &ready {
            self.handle_readiness(*readiness, now);
        }
        self.ready = ready;
        for id in unread {
            self.read(id, now);
        }
        self.handle_answers(now);
        self.handle_due(now);
        // What came of all that goes out now: the next poll may be some work away.
        self.write_unwritten(now);
        events.append(&mut self.events);
        polled.map_err(|error| {
            let text = format!("the network thread can't wait for its sockets any more: {error}");
            self.log(Level::Error, || text.clone());
            Error::new(status::INVALID_STATE, text).with(FATAL)
        })
    }

    fn handle_readiness(&mut self, readiness: Readiness, now: Instant) {
        // One that was closed since the selector looked is not known any more.
        let Some(id) = self.connections.get(&readiness.connection).copied() else { return };
        if !self.finish_connect(id, now) {
            return;
        }
        let channel = self.nodes.get_mut(&id).and_then(|node| node.channel.as_mut());
        if let Some(channel) = channel {
            if readiness.closed {
                channel.set_closed();
            }
            if readiness.writable {
                channel.set_writable();
                self.unwritten.push(id);
            }
        }
        // First what the peer says: if writing fails, its reason or its last responses may lie
        // there.
        if readiness.readable || readiness.closed {
            self.read(id, now);
        }
    }

    /// Writes what was given to the channels.
    fn write_unwritten(&mut self, now: Instant) {
        // Failing connections may add to it, by connecting anew: those are written when they are
        // reported.
        let mut unwritten = std::mem::take(&mut self.unwritten);
        for id in unwritten.drain(..) {
            self.write(id, now);
        }
        if self.unwritten.is_empty() {
            self.unwritten = unwritten;
        }
    }

    fn write(&mut self, id: i32, now: Instant) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.state() == ConnectionState::Connecting {
            return;
        }
        let Some(channel) = &mut node.channel else { return };
        let connection = channel.id;
        let mut completed = 0;
        let result = channel.write(&mut completed);
        if completed > 0 {
            node.last_used = now;
        }
        for _ in 0..completed {
            if let Some(InFlightRequest { owner: Owner::Sender(token), .. }) =
                node.in_flight.written()
            {
                node.last_error = None;
                self.events.push(ClientEvent::Sent { node: id, token });
            }
        }
        match result {
            Ok(()) => self.settle(id),
            Err(error) => {
                // Responses that arrived before the peer left count: what they answer must not be
                // sent again.
                self.read(id, now);
                if self.connections.contains_key(&connection) {
                    let error =
                        self.lost(id, ErrorKind::Reset, &format!("writing failed: {error},"));
                    self.connection_failed(id, error, now);
                }
            }
        }
    }

    /// Reads what arrived and handles the responses in it.
    fn read(&mut self, id: i32, now: Instant) {
        let Some(channel) = self.nodes.get_mut(&id).and_then(|node| node.channel.as_mut()) else {
            return;
        };
        let connection = channel.id;
        let mut frames = std::mem::take(&mut self.frames);
        let result = channel.read(&mut frames);
        for frame in frames.drain(..) {
            if !self.connections.contains_key(&connection) {
                break;
            }
            if let Err(error) = self.handle_frame(id, &frame, now) {
                self.connection_failed(id, error, now);
            }
        }
        self.frames = frames;
        if !self.connections.contains_key(&connection) {
            return;
        }
        match result {
            Ok(Left::Nothing) => self.settle(id),
            Ok(Left::More) => self.unread.push(id),
            Err(error) => {
                let error = self.receive_error(id, error);
                self.connection_failed(id, error, now);
            }
        }
    }

    fn receive_error(&self, id: i32, error: ReceiveError) -> NetworkError {
        match error {
            ReceiveError::Closed { cut: false } => {
                self.lost(id, ErrorKind::Closed, "the peer closed the connection")
            }
            ReceiveError::Closed { cut: true } => self.lost(
                id,
                ErrorKind::Closed,
                "the peer closed the connection in the middle of a response",
            ),
            ReceiveError::Io(error) => self.lost(id, ErrorKind::Reset, &error.to_string()),
            ReceiveError::Frame { message, head } => match self.nodes.get(&id) {
                Some(node) if !node.is_ready() => {
                    let (peer, sentence) = recognise(&head);
                    node.error(ErrorKind::NotKafka(peer), sentence)
                }
                Some(_) | None => {
                    let text = format!("the broker sent {message} (receive.message.max.bytes)");
                    self.error(id, ErrorKind::Protocol, &text)
                }
            },
        }
    }

    /// A response: it answers the oldest request that awaits one, or the connection is worth
    /// nothing.
    fn handle_frame(&mut self, id: i32, frame: &Bytes, now: Instant) -> Result<(), NetworkError> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        node.last_used = now;
        let (request, body) = answered(&mut node.in_flight, frame)
            .map_err(|text| node.error(ErrorKind::Protocol, format!("the broker sent {text}")))?;
        let token = match request.owner {
            Owner::Client => return self.handle_api_versions(id, request.version, &body, now),
            Owner::Sender(token) => token,
        };
        // Not before: a listener that expects SASL answers ApiVersions and closes at the first
        // request, for ever.
        node.answered = true;
        node.failed_attempts = 0;
        node.last_error = None;
        self.events.push(ClientEvent::Response {
            node: id,
            token,
            version: request.version,
            body,
            latency: now.since(request.sent),
        });
        Ok(())
    }

    /// After bytes went in or out: a node with nothing in flight becomes idle, or leaves.
    fn settle(&mut self, id: i32) {
        let Some(node) = self.nodes.get(&id) else { return };
        if !node.is_ready() || !node.in_flight.is_empty() {
            return;
        }
        if node.leaving {
            let error = node.error(ErrorKind::Disconnected, "the node is no longer in the cluster");
            return self.remove(id, error);
        }
        let idle = node.idle_deadline(self.config.connections_max_idle);
        self.arm(id, idle);
    }

    /// Looks at each node for which something is due, once.
    fn handle_due(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.timers.first() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            if let Some(node) = self.nodes.get_mut(&id) {
                node.timer = Instant::NEVER;
                if node.wanted_at <= now {
                    node.wanted_at = Instant::NEVER;
                }
            }
            self.handle_node_due(id, now);
            if let Some(node) = self.nodes.get(&id) {
                // Everything that was due is dealt with; a microsecond makes sure that this ends.
                let next = node.next_deadline(self.config.connections_max_idle);
                self.arm(id, next.max(now.after(Duration::from_micros(1))));
            }
        }
    }

    fn handle_node_due(&mut self, id: i32, now: Instant) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match node.state() {
            ConnectionState::Disconnected => {}
            ConnectionState::Resolving if now >= node.setup_deadline => {
                let waited = now.since(node.setup_began).as_millis();
                let text = format!("the name {} is not resolved after {waited} ms", node.host);
                node.setup_deadline = Instant::NEVER;
                node.last_error = Some(node.error(ErrorKind::Resolve, text));
            }
            ConnectionState::Connecting | ConnectionState::CheckingApiVersions
                if now >= node.setup_deadline =>
            {
                let what = if node.state() == ConnectionState::Connecting {
                    "no connection"
                } else {
                    "no answer to ApiVersions"
                };
                let waited = now.since(node.setup_began).as_millis();
                let text =
                    format!("{what} within {waited} ms (socket.connection.setup.timeout.ms)");
                let error = node.error(ErrorKind::SetupTimeout, text);
                self.connection_failed(id, error, now);
            }
            ConnectionState::Resolving
            | ConnectionState::Connecting
            | ConnectionState::CheckingApiVersions => {}
            ConnectionState::Ready => self.handle_ready_due(id, now),
        }
    }

    fn handle_ready_due(&mut self, id: i32, now: Instant) {
        let max_idle = self.config.connections_max_idle;
        let unread = self.unread.contains(&id);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(request) = node.in_flight.timed_out(now) {
            if unread {
                node.in_flight.extend_deadlines(UNREAD_GRACE);
                return;
            }
            let waited = now.since(request.sent).as_millis();
            let text = format!("{} was not answered within {waited} ms", request.api);
            let error = node.error(ErrorKind::RequestTimeout, text);
            self.connection_failed(id, error, now);
        } else if node.idle_deadline(max_idle) <= now {
            let error = node.error(ErrorKind::Idle, "closed after connections.max.idle.ms");
            self.log(Level::Debug, || format!("node {id}: {error}"));
            self.connection_failed(id, error, now);
        }
    }
}

/// Takes out the request that a response answers, with the response's body; or says what is wrong.
fn answered(
    in_flight: &mut InFlightRequests,
    frame: &Bytes,
) -> Result<(InFlightRequest, Bytes), String> {
    let unreadable = |error: Error| error.message.into_owned();
    let id = correlation_id(frame).map_err(unreadable)?;
    // Before it leaves: if its response can't be read it must fail with the others.
    let body = match in_flight.oldest_awaiting() {
        Some(oldest) if oldest.correlation_id == id => {
            split_response(oldest.api, oldest.version, frame).map_err(unreadable)?.1
        }
        Some(_) | None => Bytes::new(),
    };
    let request = in_flight.complete(id).map_err(|mismatch| match mismatch.expected {
        Some(expected) => {
            format!("a response with correlation id {id}, where {expected} is awaited")
        }
        None => format!("a response with correlation id {id}, which nobody awaits"),
    })?;
    Ok((request, body))
}
