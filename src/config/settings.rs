//! The typed configuration of one producer, and the rules between keys.
//!
//! What a user set stands: if two such keys contradict each other, that is an error that names
//! both. A default that contradicts what was set gives way, with a note for the log.

mod compression;
mod partitioning;

pub(super) use partitioning::CLASSES;
pub use partitioning::{PartitionerClass, Partitioning};

use super::compression::Compression;
use super::value::Value;
use super::{ProducerConfig, invalid};
use crate::error::Error;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// `metadata.recovery.strategy` is `rebootstrap`.
    pub metadata_rebootstrap: bool,
    /// `metadata.recovery.rebootstrap.trigger.ms`.
    pub rebootstrap_trigger: Duration,
    /// `max.in.flight.requests.per.connection`.
    pub max_in_flight: usize,
    /// `enable.idempotence`, off if its default gave way.
    pub enable_idempotence: bool,
    /// `allow.reordering`.
    pub allow_reordering: bool,
    /// `reject.batch.on.record.error`.
    pub reject_batch_on_record_error: bool,
    /// `send.buffer.bytes`; `None`: the system's choice.
    pub send_buffer: Option<usize>,
    /// `receive.buffer.bytes`; `None`: the system's choice.
    pub receive_buffer: Option<usize>,
    /// `compression.type` and the levels: how batches are compressed.
    pub compression: Compression,
    /// The same for the topics that have keys of their own; see [`Settings::compression_for`].
    pub topic_compression: BTreeMap<String, Compression>,
    /// `compression.threads`, at least 1.
    pub compression_threads: usize,
    /// How partitions are chosen.
    pub partitioning: Partitioning,
    /// `key.serializer`: a name of the table's.
    pub key_serializer: String,
    /// `value.serializer`: the same.
    pub value_serializer: String,
    /// `allow.auto.create.topics`.
    pub allow_auto_create_topics: bool,
    /// `delivery.keep.records`.
    pub delivery_keep_records: bool,
    /// `receive.message.max.bytes`: the largest response accepted.
    pub receive_message_max: usize,
    /// Defaults that gave way to what was set, a line each, for the log at INFO.
    pub notes: Vec<String>,
}

impl Settings {
    /// `bootstrap.servers` as text.
    pub fn bootstrap(&self) -> String {
        let mut text = String::new();
        for (host, port) in &self.bootstrap_servers {
            let comma = if text.is_empty() { "" } else { "," };
            let _ = if host.contains(':') {
                write!(text, "{comma}[{host}]:{port}")
            } else {
                write!(text, "{comma}{host}:{port}")
            };
        }
        text
    }
}

/// A request's length is a signed 32-bit number; its own fields need some of it.
const LARGEST_REQUEST: i64 = i32::MAX as i64 - (1 << 20);

/// Reads all keys and applies the rules; everything that is wrong, if anything is.
pub(super) fn settle(config: &ProducerConfig) -> Result<Settings, Vec<Error>> {
    let mut rules = Rules { config, problems: Vec::new(), notes: Vec::new() };
    let bootstrap_servers = rules.bootstrap_servers();
    let (batch_size, max_request_size, buffer_memory) = rules.sizes();
    let delivery_timeout = rules.delivery_timeout();
    let (retry_backoff, retry_backoff_max) =
        rules.base_and_max("retry.backoff.ms", "retry.backoff.max.ms");
    let (reconnect_backoff, reconnect_backoff_max) =
        rules.base_and_max("reconnect.backoff.ms", "reconnect.backoff.max.ms");
    let (connection_setup_timeout, connection_setup_timeout_max) = rules.base_and_max(
        "socket.connection.setup.timeout.ms",
        "socket.connection.setup.timeout.max.ms",
    );
    let acks = rules.acks();
    let max_in_flight = size(rules.number("max.in.flight.requests.per.connection"));
    let allow_reordering = rules.bool("allow.reordering");
    rules.without_effect(acks, max_in_flight, allow_reordering);
    let enable_idempotence = rules.idempotence(acks, max_in_flight, allow_reordering);
    let partitioning = rules.partitioning();
    let (compression, topic_compression) = rules.compression();
    let settings = Settings {
        bootstrap_servers,
        client_id: rules.client_id(),
        acks,
        linger: rules.millis("linger.ms"),
        batch_size,
        buffer_memory,
        max_request_size,
        max_block: rules.millis("max.block.ms"),
        delivery_timeout,
        request_timeout: rules.millis("request.timeout.ms"),
        retries: u32::try_from(rules.number("retries")).unwrap_or(u32::MAX),
        retry_backoff,
        retry_backoff_max,
        reconnect_backoff,
        reconnect_backoff_max,
        connection_setup_timeout,
        connection_setup_timeout_max,
        connections_max_idle: rules.unless_off("connections.max.idle.ms").map(duration),
        metadata_max_age: rules.millis("metadata.max.age.ms"),
        metadata_max_idle: rules.millis("metadata.max.idle.ms"),
        metadata_rebootstrap: rules.text("metadata.recovery.strategy") == "rebootstrap",
        rebootstrap_trigger: rules.millis("metadata.recovery.rebootstrap.trigger.ms"),
        max_in_flight,
        enable_idempotence,
        allow_reordering,
        reject_batch_on_record_error: rules.bool("reject.batch.on.record.error"),
        send_buffer: rules.unless_off("send.buffer.bytes").map(size),
        receive_buffer: rules.unless_off("receive.buffer.bytes").map(size),
        compression,
        topic_compression,
        compression_threads: rules.compression_threads(),
        partitioning,
        key_serializer: rules.text("key.serializer"),
        value_serializer: rules.text("value.serializer"),
        allow_auto_create_topics: rules.bool("allow.auto.create.topics"),
        delivery_keep_records: rules.bool("delivery.keep.records"),
        receive_message_max: size(rules.number("receive.message.max.bytes")),
        notes: rules.notes,
    };
    if rules.problems.is_empty() { Ok(settings) } else { Err(rules.problems) }
}

struct Rules<'a> {
    config: &'a ProducerConfig,
    problems: Vec<Error>,
    notes: Vec<String>,
}

impl Rules<'_> {
    fn number(&self, key: &str) -> i64 {
        match self.config.value(key) {
            Some(Value::Number(number)) => number,
            Some(Value::Bool(_) | Value::Text(_) | Value::Servers(_)) | None => {
                debug_assert!(false, "{key} is no number in the table");
                0
            }
        }
    }

    fn bool(&self, key: &str) -> bool {
        let value = self.config.value(key);
        debug_assert!(matches!(value, Some(Value::Bool(_))), "{key} is no bool in the table");
        value == Some(Value::Bool(true))
    }

    fn text(&self, key: &str) -> String {
        match self.config.value(key) {
            Some(Value::Text(text)) => text,
            Some(Value::Bool(_) | Value::Number(_) | Value::Servers(_)) | None => {
                debug_assert!(false, "{key} is no text in the table");
                String::new()
            }
        }
    }

    fn millis(&self, key: &str) -> Duration {
        duration(self.number(key))
    }

    /// A number, unless it is 0 or -1.
    fn unless_off(&self, key: &str) -> Option<i64> {
        Some(self.number(key)).filter(|number| *number > 0)
    }

    fn problem(&mut self, message: String) {
        self.problems.push(invalid(message));
    }

    /// The default of `key` gives way to what was set for `cause`.
    fn gives_way(&mut self, key: &str, to: i64, cause: &str) {
        let default = self.config.get(key).unwrap_or_default();
        let cause = self.config.shown(cause);
        self.notes.push(format!("{key} is {to} instead of its default {default}: {cause}"));
    }

    fn bootstrap_servers(&mut self) -> Vec<(String, u16)> {
        if let Some(Value::Servers(servers)) = self.config.value("bootstrap.servers") {
            return servers;
        }
        self.problem("bootstrap.servers is not set: name a broker or more as host:port".into());
        Vec::new()
    }

    fn client_id(&self) -> String {
        static PRODUCERS: AtomicU64 = AtomicU64::new(1);
        let id = self.text("client.id");
        if !id.is_empty() {
            return id;
        }
        format!("producer-{}", PRODUCERS.fetch_add(1, Ordering::Relaxed))
    }

    fn acks(&self) -> Acks {
        match self.text("acks").as_str() {
            "0" => Acks::None,
            "1" => Acks::Leader,
            _ => Acks::All,
        }
    }

    /// `small` must not be above `large`; whichever of them is a default gives way. Both
    /// afterwards.
    fn at_most(&mut self, small: (&str, i64), large: (&str, i64)) -> (i64, i64) {
        if small.1 <= large.1 {
            return (small.1, large.1);
        }
        match (self.config.is_set(small.0), self.config.is_set(large.0)) {
            (true, true) => {
                let (above, below) = (self.config.shown(small.0), self.config.shown(large.0));
                self.problem(format!(
                    "{above} is above {below}: lower the first or raise the second"
                ));
                (large.1, large.1)
            }
            (true, false) => {
                self.gives_way(large.0, small.1, small.0);
                (small.1, small.1)
            }
            (false, _) => {
                self.gives_way(small.0, large.1, large.0);
                (large.1, large.1)
            }
        }
    }

    fn base_and_max(&mut self, base: &str, max: &str) -> (Duration, Duration) {
        let values = self.at_most((base, self.number(base)), (max, self.number(max)));
        (duration(values.0), duration(values.1))
    }

    /// A number of bytes, as far as Kafka's protocol allows it.
    fn within_a_request(&mut self, key: &str) -> i64 {
        let number = self.number(key);
        if number > LARGEST_REQUEST {
            let shown = self.config.shown(key);
            self.notes.push(format!("{shown} counts as {LARGEST_REQUEST}, Kafka's own limit"));
        }
        number.min(LARGEST_REQUEST)
    }

    /// `batch.size`, `max.request.size` and `buffer.memory`: a batch fits a request, both fit
    /// memory.
    fn sizes(&mut self) -> (usize, usize, usize) {
        const BATCH: &str = "batch.size";
        const REQUEST: &str = "max.request.size";
        const MEMORY: &str = "buffer.memory";
        // A batch takes its first record whatever its size: 0 and 1 mean the same.
        let batch = self.within_a_request(BATCH).max(1);
        let mut request = self.within_a_request(REQUEST);
        let memory = self.number(MEMORY);
        if self.config.is_set(MEMORY) {
            (request, _) = self.at_most((REQUEST, request), (MEMORY, memory));
        }
        let (batch, memory) = self.at_most((BATCH, batch), (MEMORY, memory));
        let (batch, request) = self.at_most((BATCH, batch), (REQUEST, request));
        if request > memory && self.problems.is_empty() {
            // Taking more memory than anyone asked for would be worse than refusing large records.
            let shown = self.config.shown(REQUEST);
            self.notes.push(format!(
                "records above buffer.memory={memory} are refused, although {shown}"
            ));
        }
        (size(batch), size(request), size(memory))
    }

    fn delivery_timeout(&mut self) -> Duration {
        const DELIVERY: &str = "delivery.timeout.ms";
        let (linger, request) = (self.number("linger.ms"), self.number("request.timeout.ms"));
        let least = linger.saturating_add(request).min(i32::MAX.into());
        let delivery = self.number(DELIVERY);
        if delivery >= least {
            return duration(delivery);
        }
        let (linger, request) =
            (self.config.shown("linger.ms"), self.config.shown("request.timeout.ms"));
        if self.config.is_set(DELIVERY) {
            let delivery = self.config.shown(DELIVERY);
            self.problem(format!(
                "{delivery} is below {linger} + {request}: raise it to {least} or lower those"
            ));
        } else {
            self.notes.push(format!(
                "{DELIVERY} is {least} instead of its default {delivery}: {linger} + {request}"
            ));
        }
        duration(least)
    }

    /// Idempotence and what it needs. What it contradicts can only have been set: the defaults
    /// agree with it.
    fn idempotence(&mut self, acks: Acks, max_in_flight: usize, allow_reordering: bool) -> bool {
        const IDEMPOTENCE: &str = "enable.idempotence";
        /// What a broker remembers of a producer, in batches per partition.
        const MOST_IN_FLIGHT: usize = 5;
        let needs = [
            (acks != Acks::All, "acks", "set acks=all"),
            (self.number("retries") == 0, "retries", "leave retries at its default"),
            (
                max_in_flight > MOST_IN_FLIGHT,
                "max.in.flight.requests.per.connection",
                "lower it to 5",
            ),
            (allow_reordering, "allow.reordering", "leave that out"),
        ];
        let mut enabled = self.bool(IDEMPOTENCE);
        for (contradicts, key, remedy) in needs {
            if !contradicts || !enabled {
                continue;
            }
            let shown = self.config.shown(key);
            if self.config.is_set(IDEMPOTENCE) {
                self.problem(format!(
                    "{IDEMPOTENCE}=true contradicts {shown}: {remedy}, or set {IDEMPOTENCE}=false"
                ));
            } else {
                enabled = false;
                self.notes.push(format!(
                    "{IDEMPOTENCE} is false instead of its default true: {shown}; what is sent \
                     again may be written twice"
                ));
            }
        }
        enabled
    }

    /// Notes what was set and can't do anything.
    fn without_effect(&mut self, acks: Acks, max_in_flight: usize, allow_reordering: bool) {
        if acks == Acks::None && self.config.is_set("retries") && self.number("retries") > 0 {
            let (acks, retries) = (self.config.shown("acks"), self.config.shown("retries"));
            self.notes.push(format!("{retries} has no effect: with {acks} no failure is seen"));
        }
        if allow_reordering && max_in_flight == 1 {
            let flight = self.config.shown("max.in.flight.requests.per.connection");
            self.notes.push(format!("allow.reordering=true has no effect: {flight}"));
        }
    }
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn size(number: i64) -> usize {
    usize::try_from(number.max(0)).unwrap_or(usize::MAX)
}
