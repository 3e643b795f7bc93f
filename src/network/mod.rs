//! Connections: requests to brokers and responses back, over sockets that nobody waits for.
//!
//! [`NetworkClient`] is the room's door. The sender asks whether a node is
//! [`ready`](NetworkClient::ready), which connects if need be, chooses a version for what it wants
//! to say, [`sends`](NetworkClient::send) and [`polls`](NetworkClient::poll). Each request that was
//! sent gets exactly one of [`ClientEvent::Response`], [`ClientEvent::Sent`] and
//! [`ClientEvent::Failed`], whatever happens.
//!
//! The whole room belongs to the network thread, which blocks nowhere but in the selector's poll.
//! Two things are shared with other threads: the waker, and the queues of the resolver's helpers.
//! What the bodies of requests and responses mean is none of this room's business, except for
//! ApiVersions, by which a connection begins.
//!
//! From the outside in: `client` (nodes, who may be sent what), `client/setup` (from a name to a
//! connection that is ready), `client/io` (the poll: bytes, timeouts), `node` (what is known of one
//! node), `in_flight` (what awaits an outcome), `channel` (one connection) with `send` and
//! `receive` (its two directions), `transport` (its bytes), `selector` (which is ready), `resolver`
//! (names), `versions` (who speaks what), `error`.
//!
//! KIP-35, 511 (ApiVersions), 219 (throttling), 580, 601 (backoff, set-up timeout), 302, 602 (all
//! addresses of a name), 899 in part (names are resolved anew for each attempt).

use crate::clock::Instant;
use crate::protocol::ApiKey;
use bytes::Bytes;
use std::time::Duration;

mod channel;
mod client;
mod error;
mod in_flight;
mod node;
mod receive;
mod resolver;
mod selector;
mod send;
mod transport;
mod versions;

pub use client::NetworkClient;
pub use error::{ErrorKind, NetworkError, Peer};
pub use node::NodeStatus;
pub use resolver::{Answer, Query, Resolver, SystemResolver};
pub use selector::{ConnectionId, Readiness, Selectable, Selector};
pub use transport::{PlaintextTransport, SocketOptions, Transport};

/// What the client needs of the configuration.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// `client.id`: goes into each request's header.
    pub client_id: String,
    /// `max.in.flight.requests.per.connection`.
    pub max_in_flight: usize,
    /// `request.timeout.ms`, for the sockets; each request brings its own.
    pub request_timeout: Duration,
    /// `reconnect.backoff.ms`.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`.
    pub reconnect_backoff_max: Duration,
    /// `socket.connection.setup.timeout.ms`: TCP and ApiVersions, for each address.
    pub connection_setup_timeout: Duration,
    /// `socket.connection.setup.timeout.max.ms`.
    pub connection_setup_timeout_max: Duration,
    /// `connections.max.idle.ms`; never closed if none.
    pub connections_max_idle: Option<Duration>,
    /// `send.buffer.bytes`.
    pub send_buffer: Option<usize>,
    /// `receive.buffer.bytes`.
    pub receive_buffer: Option<usize>,
    /// `receive.message.max.bytes`: the largest response that is read.
    pub receive_message_max: usize,
}

/// A request of the sender's.
#[derive(Debug)]
pub struct ClientRequest {
    /// What is asked.
    pub api: ApiKey,
    /// As [`NetworkClient::api_version`] chose it on this connection.
    pub version: i16,
    /// The body in pieces, without header. They are held until they are written or the connection
    /// is gone.
    pub body: Vec<Bytes>,
    /// Comes back in the request's event.
    pub token: u64,
    /// False for Produce with acks=0.
    pub expects_response: bool,
    /// From now to the response; time throttled is not counted.
    pub timeout: Duration,
}

/// What happened. The first three are outcomes of requests: one each.
#[derive(Debug)]
pub enum ClientEvent {
    /// A request was answered.
    Response {
        /// Who answered.
        node: i32,
        /// The request's.
        token: u64,
        /// The request's.
        version: i16,
        /// What follows the response's header.
        body: Bytes,
        /// From `send` to now.
        latency: Duration,
    },
    /// A request that no response follows was given to the operating system to its last byte.
    Sent {
        /// Who it was sent to.
        node: i32,
        /// The request's.
        token: u64,
    },
    /// A request has no answer and never will.
    Failed {
        /// Who it was for.
        node: i32,
        /// The request's.
        token: u64,
        /// Whether any byte of it may have reached the broker. If not, it surely did nothing.
        written: bool,
        /// Why.
        error: NetworkError,
    },
    /// A connection that was ready is gone, or an attempt to make one failed at every address.
    Disconnected {
        /// Which.
        node: i32,
        /// Why.
        error: NetworkError,
    },
    /// A connection is ready: what was refused by [`NetworkClient::ready`] may be asked again.
    Ready {
        /// Which.
        node: i32,
    },
}

/// The id that stands for the bootstrap server of this number until metadata names the real nodes.
pub fn bootstrap_node_id(number: usize) -> i32 {
    i32::MIN.saturating_add(i32::try_from(number).unwrap_or(i32::MAX))
}

/// The time until a deadline, as long as it takes.
fn until(deadline: Instant, now: Instant) -> Duration {
    if deadline == Instant::NEVER { Duration::MAX } else { deadline.since(now) }
}
