//! One node of the cluster as the client sees it: where it is, how far its connection is, what is
//! in flight, when something is due. Network thread only.

use crate::clock::Instant;
use crate::network::channel::KafkaChannel;
use crate::network::error::{ErrorKind, NetworkError};
use crate::network::in_flight::InFlightRequests;
use crate::network::versions::NodeApiVersions;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Idle deadlines are rounded up to this, so that many connections that become idle wake the thread
/// once.
const IDLE_GRID_US: u64 = 500_000;
/// How many addresses of a name an error lists.
const ERRORS_LISTED: usize = 4;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionState {
    /// No connection, and nobody is making one.
    Disconnected,
    /// The resolver was asked for the name's addresses.
    Resolving,
    /// TCP connects to one of the addresses.
    Connecting,
    /// Connected; ApiVersions is not answered.
    CheckingApiVersions,
    /// Requests may be sent.
    Ready,
}

impl ConnectionState {
    fn may_become(self, next: ConnectionState) -> bool {
        use ConnectionState::{CheckingApiVersions, Connecting, Disconnected, Ready, Resolving};
        match self {
            Disconnected => matches!(next, Resolving),
            Resolving => matches!(next, Connecting | Disconnected),
            // Connecting again: to the next address.
            Connecting => matches!(next, CheckingApiVersions | Connecting | Disconnected),
            CheckingApiVersions => matches!(next, Ready | Connecting | Disconnected),
            Ready => matches!(next, Disconnected),
        }
    }
}

/// Whether a node takes requests, and what keeps it from doing so; for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeStatus {
    /// It is not among the cluster's nodes.
    Unknown,
    /// There is no connection; the next attempt begins after this time, or when it is needed.
    Disconnected(Duration),
    /// Its name is being resolved, for so long.
    Resolving(Duration),
    /// A connection is being made, for so long: TCP, then ApiVersions.
    Connecting(Duration),
    /// It asked for a pause, of which so much is left.
    Throttled(Duration),
    /// Connected.
    Ready {
        /// Requests that have no answer.
        in_flight: usize,
        /// The age of the oldest of them; zero if there is none.
        oldest: Duration,
        /// There are as many as there may be.
        full: bool,
    },
}

/// One node.
#[derive(Debug)]
pub(super) struct Node<T> {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    /// `host:port`, for messages.
    pub(super) address: Arc<str>,
    state: ConnectionState,
    /// From Connecting on.
    pub(super) channel: Option<KafkaChannel<T>>,
    pub(super) in_flight: InFlightRequests,
    pub(super) versions: NodeApiVersions,
    /// The resolver's answer with this ticket is for this node.
    pub(super) ticket: u64,
    /// The addresses that the running attempt has not tried.
    pub(super) untried: VecDeque<SocketAddr>,
    /// What came of those that it has.
    pub(super) tried: Vec<NetworkError>,
    /// An established connection to this address was lost: start with another, if there is one.
    pub(super) lost: Option<SocketAddr>,
    /// Attempts that failed since a broker last answered something here.
    pub(super) failed_attempts: u32,
    /// When the last attempt began.
    pub(super) last_attempt: Instant,
    /// No attempt before.
    pub(super) retry_at: Instant,
    /// When the running step began: resolving, or connecting to one address.
    pub(super) setup_began: Instant,
    /// When the connection must be ready; while resolving: when to complain.
    pub(super) setup_deadline: Instant,
    /// No request before.
    pub(super) throttled_until: Instant,
    /// The last byte read or written.
    pub(super) last_used: Instant,
    /// `ready` was refused until then, and whoever asked is to be woken.
    pub(super) wanted_at: Instant,
    /// When the client's timer for this node is set: not after anything that is due.
    pub(super) timer: Instant,
    pub(super) last_error: Option<NetworkError>,
    /// Gone from the cluster: what is in flight may finish.
    pub(super) leaving: bool,
    /// A request of the sender's was answered on this connection.
    pub(super) answered: bool,
}

impl<T> Node<T> {
    pub(super) fn new(host: &Arc<str>, port: u16) -> Node<T> {
        Node {
            host: Arc::clone(host),
            port,
            address: if host.contains(':') {
                format!("[{host}]:{port}").into()
            } else {
                format!("{host}:{port}").into()
            },
            state: ConnectionState::Disconnected,
            channel: None,
            in_flight: InFlightRequests::default(),
            versions: NodeApiVersions::default(),
            ticket: 0,
            untried: VecDeque::new(),
            tried: Vec::new(),
            lost: None,
            failed_attempts: 0,
            last_attempt: Instant(0),
            retry_at: Instant(0),
            setup_began: Instant(0),
            setup_deadline: Instant::NEVER,
            throttled_until: Instant(0),
            last_used: Instant(0),
            wanted_at: Instant::NEVER,
            timer: Instant::NEVER,
            last_error: None,
            leaving: false,
            answered: false,
        }
    }

    pub(super) fn state(&self) -> ConnectionState {
        self.state
    }

    pub(super) fn transition(&mut self, next: ConnectionState) {
        debug_assert!(self.state.may_become(next), "{:?} to {next:?}", self.state);
        self.state = next;
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == ConnectionState::Ready
    }

    pub(super) fn is_throttled(&self, now: Instant) -> bool {
        now < self.throttled_until
    }

    /// What it does at this moment.
    pub(super) fn status(&self, max_in_flight: usize, now: Instant) -> NodeStatus {
        match self.state {
            ConnectionState::Disconnected => NodeStatus::Disconnected(self.retry_at.since(now)),
            ConnectionState::Resolving => NodeStatus::Resolving(now.since(self.setup_began)),
            ConnectionState::Connecting | ConnectionState::CheckingApiVersions => {
                NodeStatus::Connecting(now.since(self.setup_began))
            }
            ConnectionState::Ready if self.is_throttled(now) => {
                NodeStatus::Throttled(self.throttled_until.since(now))
            }
            ConnectionState::Ready => NodeStatus::Ready {
                in_flight: self.in_flight.len(),
                oldest: self.in_flight.oldest().map_or(Duration::ZERO, |sent| now.since(sent)),
                full: self.in_flight.len() >= max_in_flight,
            },
        }
    }

    /// Whether an attempt to connect may begin.
    pub(super) fn is_connectable(&self, now: Instant) -> bool {
        self.state == ConnectionState::Disconnected && now >= self.retry_at
    }

    /// An error about this node; names the address in use beside the host's name.
    pub(super) fn error(&self, kind: ErrorKind, message: impl Into<Arc<str>>) -> NetworkError {
        match &self.channel {
            Some(channel) => self.error_at(channel.remote, kind, message),
            None => NetworkError::new(kind, &self.address, message),
        }
    }

    /// An error about one of this node's addresses.
    pub(super) fn error_at(
        &self,
        remote: SocketAddr,
        kind: ErrorKind,
        message: impl Into<Arc<str>>,
    ) -> NetworkError {
        let remote = remote.to_string();
        if *self.address == *remote {
            return NetworkError::new(kind, &self.address, message);
        }
        NetworkError::new(kind, &format!("{} ({remote})", self.address).into(), message)
    }

    /// Takes what the resolver found. The address of a connection that was lost comes last.
    pub(super) fn set_addresses(&mut self, found: Vec<SocketAddr>) {
        self.untried = found.into();
        self.tried.clear();
        if self.lost.take().is_some_and(|lost| self.untried.front() == Some(&lost)) {
            self.untried.rotate_left(1);
        }
    }

    /// What came of an attempt that tried all addresses: one error of the most telling kind, with
    /// all the sentences.
    pub(super) fn attempt_error(&mut self) -> NetworkError {
        let tried = std::mem::take(&mut self.tried);
        let telling = |kind: ErrorKind| match kind {
            ErrorKind::NotKafka(_) | ErrorKind::Protocol | ErrorKind::UnsupportedVersion => 2,
            ErrorKind::SetupTimeout | ErrorKind::Closed | ErrorKind::Reset => 1,
            ErrorKind::Resolve
            | ErrorKind::Connect
            | ErrorKind::RequestTimeout
            | ErrorKind::Idle
            | ErrorKind::NotConnected
            | ErrorKind::Disconnected => 0,
        };
        if let [only] = tried.as_slice() {
            return only.clone();
        }
        let kind = tried.iter().map(|e| e.kind).max_by_key(|kind| telling(*kind));
        let mut message = format!("none of {} addresses", tried.len());
        for error in tried.iter().take(ERRORS_LISTED) {
            message.push_str(&format!("; {error}"));
        }
        if let Some(more @ 1..) = tried.len().checked_sub(ERRORS_LISTED) {
            message.push_str(&format!("; and {more} more"));
        }
        NetworkError::new(kind.unwrap_or(ErrorKind::Connect), &self.address, message)
    }

    /// When the connection is idle for too long, if nothing else happens.
    pub(super) fn idle_deadline(&self, max_idle: Option<Duration>) -> Instant {
        match max_idle {
            Some(max) if self.is_ready() && self.in_flight.is_empty() => {
                let at = self.last_used.after(max).0;
                Instant(at.div_ceil(IDLE_GRID_US).saturating_mul(IDLE_GRID_US))
            }
            Some(_) | None => Instant::NEVER,
        }
    }

    /// When something is due for this node.
    pub(super) fn next_deadline(&self, max_idle: Option<Duration>) -> Instant {
        let due = match self.state {
            ConnectionState::Disconnected => Instant::NEVER,
            ConnectionState::Resolving
            | ConnectionState::Connecting
            | ConnectionState::CheckingApiVersions => self.setup_deadline,
            ConnectionState::Ready => self.in_flight.deadline().min(self.idle_deadline(max_idle)),
        };
        due.min(self.wanted_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str) -> Node<()> {
        Node::new(&Arc::from(host), 9092)
    }

    #[test]
    fn the_address_reads_as_it_is_written() {
        assert_eq!(&*node("b1").address, "b1:9092");
        assert_eq!(&*node("::1").address, "[::1]:9092");
        let remote = "[::1]:9092".parse().unwrap();
        assert_eq!(&*node("::1").error_at(remote, ErrorKind::Connect, "x").address, "[::1]:9092");
        let error = node("b1").error_at(remote, ErrorKind::Connect, "x");
        assert_eq!(&*error.address, "b1:9092 ([::1]:9092)");
    }

    #[test]
    fn the_address_of_a_lost_connection_comes_last() {
        let addresses: Vec<SocketAddr> =
            ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|a| a.parse().unwrap()).into();
        let mut node = node("b1");
        node.lost = Some(addresses[1]);
        node.set_addresses(addresses.clone());
        assert_eq!(node.untried, addresses);
        node.lost = Some(addresses[0]);
        node.set_addresses(addresses.clone());
        assert_eq!(node.untried, [addresses[1], addresses[2], addresses[0]]);
        assert_eq!(node.lost, None);
    }

    #[test]
    fn an_attempts_error_names_every_address_and_the_most_telling_kind() {
        let mut node = node("b1");
        let remote: SocketAddr = "10.0.0.1:9092".parse().unwrap();
        node.tried.push(node.error_at(remote, ErrorKind::Protocol, "nonsense"));
        assert_eq!(node.attempt_error().to_string(), "b1:9092 (10.0.0.1:9092): nonsense");
        for i in 0..6 {
            let kind = if i == 2 { ErrorKind::Protocol } else { ErrorKind::Connect };
            node.tried.push(node.error_at(remote, kind, format!("reason {i}")));
        }
        let error = node.attempt_error();
        assert_eq!(error.kind, ErrorKind::Protocol);
        assert!(error.message.contains("none of 6 addresses"), "{error}");
        assert!(error.message.contains("reason 3") && error.message.contains("and 2 more"));
    }

    #[test]
    fn idle_deadlines_fall_on_a_coarse_grid() {
        let mut node = node("b1");
        node.state = ConnectionState::Ready;
        node.last_used = Instant(1_000_001);
        assert_eq!(node.idle_deadline(Some(Duration::from_secs(1))), Instant(2_500_000));
        assert_eq!(node.idle_deadline(None), Instant::NEVER);
        assert_eq!(
            node.idle_deadline(Some(Duration::MAX)).0 / IDLE_GRID_US,
            u64::MAX / IDLE_GRID_US
        );
    }
}
