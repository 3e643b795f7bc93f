//! The typed configuration of one producer, and the rules between keys.

use std::time::Duration;

/// How many acknowledgements complete a record (`acks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum Acks {
    /// 0: done when it is written to the socket.
    None = 0,
    /// 1: the leader has it.
    Leader = 1,
    /// -1: every in-sync replica has it.
    All = -1,
}

impl Acks {
    /// The number in a Produce request.
    pub fn code(self) -> i16 {
        self as i16
    }
}

/// Every key that the producer reads, typed and consistent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `bootstrap.servers`: host and port, IPv6 addresses without brackets.
    pub bootstrap_servers: Vec<(String, u16)>,
    /// `client.id`.
    pub client_id: String,
    /// `acks`.
    pub acks: Acks,
    /// `linger.ms`.
    pub linger: Duration,
    /// `batch.size`, at least 1.
    pub batch_size: usize,
    /// `buffer.memory`.
    pub buffer_memory: usize,
    /// `max.request.size`.
    pub max_request_size: usize,
    /// `max.block.ms`.
    pub max_block: Duration,
    /// `delivery.timeout.ms`.
    pub delivery_timeout: Duration,
    /// `request.timeout.ms`.
    pub request_timeout: Duration,
    /// `retries`.
    pub retries: u32,
    /// `retry.backoff.ms`.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`.
    pub retry_backoff_max: Duration,
    /// `reconnect.backoff.ms`.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`.
    pub reconnect_backoff_max: Duration,
    /// `socket.connection.setup.timeout.ms`.
    pub connection_setup_timeout: Duration,
    /// `socket.connection.setup.timeout.max.ms`.
    pub connection_setup_timeout_max: Duration,
    /// `connections.max.idle.ms`; `None`: never close.
    pub connections_max_idle: Option<Duration>,
    /// `metadata.max.age.ms`.
    pub metadata_max_age: Duration,
    /// `metadata.max.idle.ms`.
    pub metadata_max_idle: Duration,
    /// `max.in.flight.requests.per.connection`.
    pub max_in_flight: usize,
    /// `allow.reordering`.
    pub allow_reordering: bool,
    /// `send.buffer.bytes`; `None`: the system's choice.
    pub send_buffer: Option<usize>,
    /// `receive.buffer.bytes`; `None`: the system's choice.
    pub receive_buffer: Option<usize>,
    /// `partitioner.ignore.keys`.
    pub partitioner_ignore_keys: bool,
    /// `allow.auto.create.topics`.
    pub allow_auto_create_topics: bool,
    /// `delivery.keep.records`.
    pub delivery_keep_records: bool,
    /// `receive.message.max.bytes`: the largest response accepted.
    pub receive_message_max: usize,
    /// Defaults that gave way to what was set, a line each, for the log at INFO.
    pub notes: Vec<String>,
}
