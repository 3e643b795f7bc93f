//! What a seed decides before anything happens: configuration, cluster, callers, weather, end.

use super::caller::topic_name;
use super::faults::Weather;
use crate::config::ProducerConfig;
use crate::config::compression::built_in;
use fastrand::Rng;
use std::time::Duration;

/// What a run promises about order and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// In order, and once.
    Idempotent,
    /// Not idempotent: in order, at least once.
    Ordered,
    /// `allow.reordering`: at least once.
    Unordered,
    /// acks=0: written or not, nobody knows.
    Unacknowledged,
}

/// How deliveries get to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ways {
    /// A callback that returns at once.
    Callback,
    /// A callback that takes its time, and sends.
    SlowCallback,
    /// Polled, with pauses.
    Poll,
    /// Nobody wants them.
    Nowhere,
}

/// When the producer is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// When everything is mended and sent.
    Calm,
    /// In the middle of it, with so much time.
    Early(Duration),
}

/// What stands at the addresses that brokers have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ghost {
    /// Connections are refused.
    Refuses,
    /// Nobody answers them.
    Vanished,
    /// They come about, and nothing is said on them.
    Mute,
    /// Somebody who knows of no brokers, and leads nothing.
    Alone,
    /// Somebody who says that the client has to start over.
    SendsAway,
}

/// How interceptors go about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// At once.
    Quick,
    /// They take their time.
    Slow,
}

/// A topic as it is created.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedTopic {
    pub(super) partitions: i32,
    /// `max.message.bytes`; `None`: more than anybody sends.
    pub(super) limit: Option<usize>,
    /// It takes no record without a key.
    pub(super) compacted: bool,
}

/// See the module's comment.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    pub(super) ways: Ways,
    pub(super) ending: Ending,
    pub(super) brokers: i32,
    pub(super) topics: Vec<PlannedTopic>,
    pub(super) callers: usize,
    /// How long things go wrong.
    pub(super) chaos: Duration,
    pub(super) weather: Weather,
    pub(super) linger: Duration,
    pub(super) max_block: Duration,
    pub(super) request_timeout: Duration,
    pub(super) delivery_timeout: Duration,
    pub(super) max_in_flight: usize,
    pub(super) batch_size: usize,
    pub(super) max_request_size: usize,
    pub(super) buffer_memory: usize,
    pub(super) retries: u32,
    pub(super) retry_backoff: Duration,
    pub(super) acks: &'static str,
    /// The largest value of most records.
    pub(super) value_size: usize,
    /// What a socket takes.
    pub(super) room: usize,
    pub(super) latency_us: u64,
    pub(super) purges: bool,
    /// Some records have timeouts of their own.
    pub(super) timeouts: bool,
    /// Some records are such as no broker takes.
    pub(super) guilty: bool,
    /// `reject.batch.on.record.error`.
    pub(super) rejects: bool,
    /// Now and then all brokers move elsewhere, and leave this.
    pub(super) exodus: Option<Ghost>,
    /// How each topic is compressed.
    pub(super) compression: Vec<&'static str>,
    /// Whether there are any, and how they are.
    pub(super) interceptors: Option<Pace>,
}

/// The one that only patience helps against is not met by chance: often nobody is connected, and
/// then the bootstrap servers are asked anyway.
const GHOSTS: &[Ghost] = &[
    Ghost::Refuses,
    Ghost::Vanished,
    Ghost::Mute,
    Ghost::SendsAway,
    Ghost::Alone,
    Ghost::Alone,
    Ghost::Alone,
];

/// Half of the topics are not compressed.
const CODECS: &[&str] =
    &["none", "none", "none", "none", "none", "lz4", "lz4", "zstd", "gzip", "snappy"];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn one_of<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(0..choices.len())]
}

impl Plan {
    /// A plan of this seed.
    pub(super) fn of(seed: u64) -> Plan {
        let rng = &mut Rng::with_seed(seed);
        let mode = one_of(
            rng,
            &[
                Mode::Idempotent,
                Mode::Idempotent,
                Mode::Idempotent,
                Mode::Idempotent,
                Mode::Ordered,
                Mode::Ordered,
                Mode::Unordered,
                Mode::Unacknowledged,
            ],
        );
        let ways = [Ways::Callback, Ways::Callback, Ways::Callback, Ways::SlowCallback];
        let ways = match rng.u32(0..12) {
            0..8 => one_of(rng, &ways),
            8..11 => Ways::Poll,
            _ => Ways::Nowhere,
        };
        let ending = match rng.u32(0..4) {
            0 => Ending::Early(ms(one_of(rng, &[0, 5, 100, 1000]))),
            _ => Ending::Calm,
        };
        let batch_size = one_of(rng, &[1, 300, 1000, 4000, 16_384]);
        let max_request_size = batch_size.max(one_of(rng, &[2000, 8000, 64_000]));
        // No slower than that a request gets through well within its time.
        let rooms = if max_request_size > 8000 { &[1 << 20][..] } else { &[300, 5000, 1 << 20] };
        let room = one_of(rng, rooms);
        let latencies = if room < 1 << 20 { &[100, 1000][..] } else { &[100, 1000, 20_000] };
        let buffer_memory = max_request_size.max(one_of(rng, &[16_000, 64_000, 1 << 20]));
        let request_timeout = ms(one_of(rng, &[150, 400, 1000]));
        let linger = ms(one_of(rng, &[0, 0, 1, 5, 30]));
        Plan {
            mode,
            ways,
            ending,
            brokers: rng.i32(1..=4),
            topics: (0..rng.usize(1..=2)).map(|_| topic(rng)).collect(),
            callers: rng.usize(1..=3),
            chaos: ms(rng.u64(500..4000)),
            weather: weather(rng),
            linger,
            max_block: ms(one_of(rng, &[0, 50, 500, 3000])),
            request_timeout,
            delivery_timeout: (request_timeout + linger)
                .max(ms(one_of(rng, &[0, 300, 1000, 3000, 10_000]))),
            max_in_flight: match mode {
                Mode::Idempotent => one_of(rng, &[1, 2, 5, 5]),
                Mode::Ordered | Mode::Unordered | Mode::Unacknowledged => {
                    one_of(rng, &[1, 2, 5, 10])
                }
            },
            batch_size,
            max_request_size,
            buffer_memory,
            retries: one_of(rng, &[1, 3, i32::MAX as u32, i32::MAX as u32, i32::MAX as u32]),
            retry_backoff: ms(one_of(rng, &[0, 5, 30, 100])),
            acks: match mode {
                Mode::Unacknowledged => "0",
                Mode::Idempotent => "all",
                Mode::Ordered | Mode::Unordered => one_of(rng, &["all", "all", "1"]),
            },
            value_size: one_of(rng, &[20, 100, 600]),
            room,
            latency_us: one_of(rng, latencies),
            purges: rng.u32(0..3) == 0,
            timeouts: rng.u32(0..3) == 0,
            guilty: rng.u32(0..3) == 0,
            rejects: rng.u32(0..4) == 0,
            exodus: (rng.u32(0..6) == 0).then(|| one_of(rng, GHOSTS)),
            compression: [0, 1].map(|_| one_of(rng, CODECS)).to_vec(),
            interceptors: (rng.u32(0..4) == 0).then(|| one_of(rng, &[Pace::Quick, Pace::Slow])),
        }
    }

    /// Whether anything is compressed.
    pub(super) fn compresses(&self) -> bool {
        self.compression.iter().any(|codec| *codec != "none")
    }

    /// The producer's configuration.
    pub(super) fn config(&self) -> ProducerConfig {
        let servers = (1..=self.brokers.min(2)).map(|node| format!("boot-{node}:9092"));
        // The others have to be noticed without.
        let trigger = if self.exodus == Some(Ghost::Alone) { "800" } else { "300000" };
        let in_ms = |duration: Duration| duration.as_millis().to_string();
        let settings = [
            ("bootstrap.servers", servers.collect::<Vec<_>>().join(",")),
            ("client.id", "sim".into()),
            ("acks", self.acks.into()),
            ("enable.idempotence", (self.mode == Mode::Idempotent).to_string()),
            ("allow.reordering", (self.mode == Mode::Unordered).to_string()),
            ("linger.ms", in_ms(self.linger)),
            ("batch.size", self.batch_size.to_string()),
            ("max.request.size", self.max_request_size.to_string()),
            ("buffer.memory", self.buffer_memory.to_string()),
            ("max.block.ms", in_ms(self.max_block)),
            ("delivery.timeout.ms", in_ms(self.delivery_timeout)),
            ("request.timeout.ms", in_ms(self.request_timeout)),
            ("max.in.flight.requests.per.connection", self.max_in_flight.to_string()),
            ("retries", self.retries.to_string()),
            ("retry.backoff.ms", in_ms(self.retry_backoff)),
            ("retry.backoff.max.ms", in_ms(self.retry_backoff.max(ms(200)))),
            ("reconnect.backoff.ms", "20".into()),
            ("reconnect.backoff.max.ms", "200".into()),
            ("socket.connection.setup.timeout.ms", "300".into()),
            ("socket.connection.setup.timeout.max.ms", "600".into()),
            ("reject.batch.on.record.error", self.rejects.to_string()),
            ("metadata.max.age.ms", "1500".into()),
            ("metadata.recovery.rebootstrap.trigger.ms", trigger.into()),
            ("connections.max.idle.ms", "2500".into()),
        ];
        let mut config = ProducerConfig::new();
        for (key, value) in settings {
            config.set(key, &value).unwrap();
        }
        for (number, codec) in self.compression.iter().enumerate() {
            let key = format!("topic.{}.compression.type", topic_name(number));
            let codec = if built_in(codec).is_ok() { codec } else { "none" };
            config.set(&key, codec).unwrap();
        }
        config.set("compression.threads", "2").unwrap();
        config
    }
}

fn topic(rng: &mut Rng) -> PlannedTopic {
    PlannedTopic {
        partitions: rng.i32(1..=4),
        limit: (rng.u32(0..5) == 0).then(|| a_limit(rng)),
        compacted: rng.u32(0..6) == 0,
    }
}

/// A `max.message.bytes` that some batches are larger than; not the smallest ones.
pub(super) fn a_limit(rng: &mut Rng) -> usize {
    one_of(rng, &[200, 400, 1000, 3000])
}

fn weather(rng: &mut Rng) -> Weather {
    let mut often = |percent| rng.u32(0..100) < percent;
    Weather {
        wires: often(70),
        brokers: often(60),
        leaders: often(60),
        errors: often(60),
        final_errors: often(30),
        lies: often(40),
        amnesia: often(20),
        recreation: often(15),
        limits: often(30),
        growth: often(25),
        clocks: often(30),
        pause: if often(8) { Duration::ZERO } else { ms(one_of(rng, &[5, 20, 60, 200])) },
    }
}
