//! The table of keys: a row a key. The parser, the ranges in errors, the suggestions for misspelt
//! keys and CONFIGURATION.md all come from it.
//!
//! Names, ranges and defaults are those of Kafka's Java producer 4.3, except where a row's text
//! says otherwise. Aliases are librdkafka's names for the same thing. A key that Kafka or
//! librdkafka has and this version has not is in the table too: it takes the values that mean "off"
//! and says what is missing for the others, so that nothing a user asks for is silently ignored.

use super::settings::CLASSES;
use super::value::Choice;
use super::value::Kind::{
    self, Bool, Bytes, Codec, Count, CountOr, Millis, Named, OneOf, Only, Servers, Text,
};

/// How much a key matters, as Kafka rates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Look at it before production.
    High,
    /// Sometimes worth a change.
    Medium,
    /// Rarely.
    Low,
}

/// Whether a key does anything yet.
#[derive(Debug, Clone, Copy)]
pub enum Availability {
    /// It works.
    Now,
    /// Not in this version: its values are those that ask for nothing. What is missing for others.
    Later(&'static str),
}

/// A row.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Kafka's name.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// What its value looks like.
    pub kind: Kind,
    /// Its value when nobody sets it.
    pub default: &'static str,
    /// How much it matters.
    pub importance: Importance,
    /// Whether it does anything yet.
    pub availability: Availability,
    /// What it does.
    pub doc: &'static str,
}

/// A group of keys that begin alike and are not there yet.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// What the keys begin with.
    pub prefix: &'static str,
    /// Whether values are not to be shown.
    pub secret: bool,
    /// What is missing, and what to do instead.
    pub instead: &'static str,
}

/// What keys for one topic begin with; behind it comes the topic's name, a dot and a name of
/// [`TOPIC_DEFINITIONS`].
pub const TOPIC_PREFIX: &str = "topic.";
/// What keys for interceptors begin with; they are kept as they are.
pub const INTERCEPTOR_PREFIX: &str = "interceptor.";

/// Serializers, with the names of the classes that do the same in Java.
pub const SERIALIZERS: &[Choice] = &[
    Choice {
        name: "bytes",
        aliases: &[
            "org.apache.kafka.common.serialization.ByteArraySerializer",
            "org.apache.kafka.common.serialization.ByteBufferSerializer",
            "org.apache.kafka.common.serialization.BytesSerializer",
        ],
    },
    Choice { name: "string", aliases: &["org.apache.kafka.common.serialization.StringSerializer"] },
    Choice { name: "int16", aliases: &["org.apache.kafka.common.serialization.ShortSerializer"] },
    Choice { name: "int32", aliases: &["org.apache.kafka.common.serialization.IntegerSerializer"] },
    Choice { name: "int64", aliases: &["org.apache.kafka.common.serialization.LongSerializer"] },
    Choice { name: "float", aliases: &["org.apache.kafka.common.serialization.FloatSerializer"] },
    Choice { name: "double", aliases: &["org.apache.kafka.common.serialization.DoubleSerializer"] },
    Choice { name: "uuid", aliases: &["org.apache.kafka.common.serialization.UUIDSerializer"] },
    Choice {
        name: "boolean",
        aliases: &["org.apache.kafka.common.serialization.BooleanSerializer"],
    },
    Choice { name: "void", aliases: &["org.apache.kafka.common.serialization.VoidSerializer"] },
    Choice { name: "json", aliases: &["org.apache.kafka.connect.json.JsonSerializer"] },
];

const I32: i64 = i32::MAX as i64;
const I64: i64 = i64::MAX;

/// A key that works.
const fn now(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: Kind,
    default: &'static str,
    importance: Importance,
    doc: &'static str,
) -> Definition {
    Definition { name, aliases, kind, default, importance, availability: Availability::Now, doc }
}

/// A key that is known, but for the values in `off` not there yet. The first of them is the
/// default.
const fn later(
    name: &'static str,
    aliases: &'static [&'static str],
    off: &'static [&'static str],
    importance: Importance,
    instead: &'static str,
) -> Definition {
    let default = match off {
        [first, ..] => first,
        [] => "",
    };
    let availability = Availability::Later(instead);
    Definition { name, aliases, kind: OneOf(off), default, importance, availability, doc: "" }
}

use Importance::{High, Low, Medium};

/// Why `compression.lz4.level` takes no other level.
const LZ4_LEVELS: &str = "there is the fast level only, which Kafka's Java producer calls 9; for \
                          smaller batches set compression.type=zstd";

/// The table.
#[rustfmt::skip]
pub static DEFINITIONS: &[Definition] = &[
    // Cluster and records.
    now("bootstrap.servers", &["metadata.broker.list"], Servers, "", High,
        "Where to find the cluster: host:port, several separated by commas; IPv6 addresses as in \
         [::1]:9092. Required. One that answers is enough, it names all others; name two or \
         three, since any of them may be down. An entry without a port is an error."),
    now("client.id", &[], Text(32767), "", Medium,
        "What the brokers call this client in logs, metrics and quotas. When empty it is \
         producer-N, N counting the producers of the process."),
    now("acks", &["request.required.acks"], OneOf(&["all", "-1", "0", "1"]), "all", High,
        "How many replicas have a record before it counts as delivered. all (or -1): every \
         in-sync replica, so that it survives the loss of the leader; 1: the leader alone; 0: \
         nobody says, a record is done when it is written to the socket, its offset is unknown \
         and losses go unnoticed. 1 and 0 turn the default of enable.idempotence off."),
    now("max.request.size", &["message.max.bytes"], Bytes(128, I32), "1048576", Medium,
        "The largest Produce request, and with it the largest record, uncompressed and with its \
         headers. The brokers have limits of their own (message.max.bytes, per topic \
         max.message.bytes). Lowered to buffer.memory if only that is set and smaller."),
    now("allow.auto.create.topics", &[], Bool, "true", Medium,
        "Whether asking for an unknown topic may create it, where the brokers allow it \
         (auto.create.topics.enable). Kafka's Java producer always asks so."),

    // Batching and memory.
    now("linger.ms", &["queue.buffering.max.ms"], Millis(0, I64), "5", Medium,
        "How long a batch that is not full waits for more records. 0: records go out as soon as \
         the leader has room for another request, without any timer. Flush, close, a synchronous \
         send and a full batch cut it short (KIP-1030)."),
    now("batch.size", &[], Bytes(0, I32), "131072", Medium,
        "Bytes at which a partition's batch is full and is sent without waiting for linger.ms. \
         The Java producer's default is 16384; here memory is taken as a batch grows, so that a \
         large one costs nothing when there is little to send. Also how many bytes go to one \
         partition before records without a key move on to the next (KIP-794). 0: every record \
         alone. Lowered to max.request.size or buffer.memory if only those are set and smaller."),
    now("buffer.memory", &[], Bytes(1024, I64), "33554432", High,
        "Bytes for records that have no outcome yet; sends wait when it is used up. The records \
         for one broker take no more of it than they leave free (so never more than half), unless \
         it is the only one in use: a broker that does not answer leaves memory to the others."),
    now("max.block.ms", &[], Millis(0, I64), "60000", Medium,
        "How long a send waits for a topic's metadata and for memory, together; the default of \
         all timeouts that are not for records (KIP-19)."),

    // Delivery.
    now("delivery.timeout.ms", &["message.timeout.ms"], Millis(0, I32), "120000", Medium,
        "From a batch's first record to its outcome, retries included (KIP-91). At least \
         linger.ms + request.timeout.ms: setting it lower is an error; the default is raised if \
         those are set higher."),
    now("request.timeout.ms", &[], Millis(0, I32), "30000", Medium,
        "How long a request may go unanswered before its connection is given up and the request \
         fails or is sent again; also how long a broker may wait for its replicas."),
    now("retries", &["message.send.max.retries"], Count(0, I32), "2147483647", High,
        "How often a batch is sent again after an error that may pass. delivery.timeout.ms is the \
         better limit. Without enable.idempotence a batch whose answer was lost may be written \
         twice. 0 turns the default of enable.idempotence off."),
    now("retry.backoff.ms", &[], Millis(0, I64), "100", Low,
        "The wait before a failed batch or metadata request is sent again; doubles with each \
         failure up to retry.backoff.max.ms, 20 % more or less at random (KIP-580)."),
    now("retry.backoff.max.ms", &[], Millis(0, I64), "1000", Low,
        "The longest wait before something is sent again (KIP-580). Raised to retry.backoff.ms if \
         only that is set and larger."),
    now("max.in.flight.requests.per.connection", &["max.in.flight"], Count(1, I32), "5", Low,
        "How many requests may be unanswered per broker. With enable.idempotence a partition has \
         up to five batches among them, more turn the default of enable.idempotence off; without \
         it has one, so that its records stay in order, unless allow.reordering is true."),
    now("enable.idempotence", &[], Bool, "true", Low,
        "Each record is written once and in order, whatever is sent again: batches carry a \
         producer id and sequence numbers, by which a broker knows those that it has (KIP-98, \
         KIP-360, KIP-679). Needs acks=all, retries above 0, at most five requests in flight and \
         allow.reordering=false: set to true beside another value of those it is an error; the \
         default gives way to them, with a line in the log."),
    now("allow.reordering", &[], Bool, "false", Low,
        "Without enable.idempotence: lets a partition have several batches unanswered at once. A \
         batch that has to be sent again then ends up behind later ones. Not a key of Kafka's: \
         there max.in.flight.requests.per.connection above 1 does this as a side effect. true \
         turns the default of enable.idempotence off."),
    now("reject.batch.on.record.error", &[], Bool, "false", Low,
        "When a broker finds fault with some records of a batch, it takes none of them (KIP-467). \
         false: those fail with the broker's words, the others are sent again in order. true: \
         all of them fail, as in Java. Not a key of Kafka's."),
    now("delivery.keep.records", &[], Bool, "false", Low,
        "Keeps the records of successful deliveries readable in the delivery callback and after a \
         poll, as an interceptor with an on_acknowledgement does; those of failed ones always \
         are. They count for buffer.memory until then. Not a \
         key of Kafka's."),
    // Partitions.
    now("partitioner.class", &["partitioner"], Named(CLASSES), "builtin", Medium,
        "What chooses the partition of a record that has none of its own. builtin: murmur2(key) \
         modulo the number of partitions, as in Java; records without a key stick to a partition \
         for batch.size bytes (KIP-794). uniform_sticky: until a batch is complete, whatever the \
         keys (KIP-480). round_robin, random: whatever the keys, among partitions with a leader. \
         librdkafka's consistent (CRC32), murmur2 and fnv1a hash keys, and nothing where there is \
         no key; with _random records without a key stick as with builtin, under \
         consistent_random those with an empty one too. sarama: fnv1a_random, which is Sarama's \
         default. Names of Java's classes are taken too. librdkafka's default is \
         consistent_random. Contradicts producer_config_set_partitioner()."),
    now("partitioner.ignore.keys", &[], Bool, "false", Medium,
        "Spreads records with a key as if they had none, by bytes (KIP-794)."),
    now("partitioner.adaptive.partitioning.enable", &[], Bool, "true", Low,
        "Where records stick to a partition: the next one is drawn by how many batches wait for \
         each, so that a slow broker gets less. false: each gets as many bytes (KIP-794)."),
    now("partitioner.availability.timeout.ms", &[], Millis(0, I64), "0", Low,
        "A broker that has taken nothing for so long, although batches were ready for it, gets no \
         more records without a key while others do take some. 0: never. Needs \
         partitioner.adaptive.partitioning.enable (KIP-794)."),
    now("partitioner.rack.aware", &[], Bool, "false", Low,
        "Records without a key go to partitions whose leader is in client.rack, as long as there \
         is one (KIP-1123)."),
    now("client.rack", &[], Text(32767), "", Low,
        "Where this client is: compared with broker.rack, for partitioner.rack.aware."),
    now("key.serializer", &[], Named(SERIALIZERS), "bytes", High,
        "Makes bytes of a record's key; by name or, for configurations of Java's, by class. bytes: \
         sent as they are; string: checked to be UTF-8; int16, int32, int64, float, double: the \
         number as it lies in memory, sent in big-endian order; uuid: 16 bytes or text of 36 \
         characters, sent as the text, in lower case; boolean: one byte, 0 or 1; void: null and \
         nothing else; json: checked to be one JSON value. Null stays null. Anything else fails \
         that record with PRODUCER_ERR_SERIALIZATION. A serializer of your own: \
         producer_config_set_key_serializer()."),
    now("value.serializer", &[], Named(SERIALIZERS), "bytes", High,
        "The same for a record's value; a serializer of your own: \
         producer_config_set_value_serializer()."),

    // Compression.
    now("compression.type", &["compression.codec"], Codec, "none", High,
        "How batches are compressed; topic.NAME.compression.type overrides it for a topic. One \
         that would not get smaller is sent as it is. batch.size counts what is sent, by the ratio \
         that batches of the topic had so far; max.request.size counts what it was before."),
    now("compression.level", &[], Count(-131_072, 22), "-1", Medium,
        "librdkafka's key: the level of compression.type, whichever that is. -1: the codec's own \
         key. gzip takes 1 to 9, zstd all of them, lz4 0 to 2, which are the fast level, snappy \
         0."),
    now("compression.gzip.level", &[], CountOr(1, 9, -1), "-1", Medium,
        "1 is fast, 9 small; -1: zlib's default, which is 6 (KIP-390)."),
    now("compression.lz4.level", &[], Only(9, LZ4_LEVELS), "9", Medium,
        "There is the fast level only, which Kafka's Java producer calls 9 (KIP-390)."),
    now("compression.zstd.level", &[], Count(-131_072, 22), "3", Medium,
        "22 is small, 1 fast, those below 0 faster still; 0: zstd's default, which is 3 \
         (KIP-390)."),
    now("snappy.framing", &[], OneOf(&["raw", "xerial"]), "raw", Low,
        "What is around the compressed bytes. raw: nothing, as with librdkafka; every reader in \
         use takes it. xerial: the stream of snappy-java, as with Kafka's Java producer. Not a key \
         of Kafka's."),
    now("compression.threads", &[], Count(0, 64), "0", Low,
        "How many threads compress, at most; they are started when they are needed and end when \
         they are not. 0: one less than there are processors, at least 1 and at most 4. Not a key \
         of Kafka's."),

    // Metadata and connections.
    now("metadata.max.age.ms", &["topic.metadata.refresh.interval.ms"], Millis(0, I64), "300000",
        Low,
        "How old the knowledge of brokers, partitions and leaders gets before it is asked for \
         again, even if nothing has failed."),
    now("metadata.max.idle.ms", &[], Millis(5000, I64), "300000", Low,
        "How long a topic that nobody sends to is remembered and refreshed (KIP-526)."),
    now("metadata.recovery.strategy", &[], OneOf(&["rebootstrap", "none"]), "rebootstrap", Low,
        "What to do when no broker that the metadata names can be reached, when a broker demands \
         it, or after metadata.recovery.rebootstrap.trigger.ms. rebootstrap: bootstrap.servers are \
         looked up and asked again (KIP-899, KIP-1102); none: the known brokers are tried on."),
    now("metadata.recovery.rebootstrap.trigger.ms", &[], Millis(0, I64), "300000", Low,
        "How long metadata may be wanted in vain before every connection is closed and \
         bootstrap.servers are asked again (KIP-1102)."),
    now("reconnect.backoff.ms", &[], Millis(0, I64), "50", Low,
        "The wait before a lost broker is connected to again; doubles with each failure up to \
         reconnect.backoff.max.ms, 20 % more or less at random (KIP-144)."),
    now("reconnect.backoff.max.ms", &[], Millis(0, I64), "1000", Low,
        "The longest wait before a broker is connected to again (KIP-144). Raised to \
         reconnect.backoff.ms if only that is set and larger."),
    now("socket.connection.setup.timeout.ms", &[], Millis(1, I64), "10000", Medium,
        "How long a connection may take to be ready for requests; doubles with each failure up to \
         socket.connection.setup.timeout.max.ms, 20 % more or less at random (KIP-601)."),
    now("socket.connection.setup.timeout.max.ms", &[], Millis(1, I64), "30000", Medium,
        "The longest time a connection may take to be ready (KIP-601). Raised to \
         socket.connection.setup.timeout.ms if only that is set and larger."),
    now("connections.max.idle.ms", &[], Millis(-1, I64), "180000", Medium,
        "Closes a connection that was not used for so long; -1 or 0: never. The Java producer's \
         default is 540000; load balancers cut idle connections off after 4 minutes and sooner, \
         without a word."),
    now("send.buffer.bytes", &["socket.send.buffer.bytes"], Bytes(-1, I32), "131072", Medium,
        "The socket's send buffer (SO_SNDBUF); -1 or 0: the system's choice."),
    now("receive.buffer.bytes", &["socket.receive.buffer.bytes"], Bytes(-1, I32), "32768", Medium,
        "The socket's receive buffer (SO_RCVBUF); -1 or 0: the system's choice."),
    now("receive.message.max.bytes", &[], Bytes(1024, I32), "33554432", Low,
        "The largest response that is accepted; a longer one ends the connection, before memory \
         is taken for it. librdkafka's key; a producer's largest responses are the metadata of \
         its topics, about 100 bytes a partition."),

    // Known, and not in this version.
    later("enable.gapless.guarantee", &[], &["false"], Low,
        "failed records are reported and later ones are sent all the same"),
    later("transactional.id", &[], &[""], Low, "there are no transactions"),
    later("transaction.timeout.ms", &[], &["60000"], Low, "there are no transactions"),
    later("transaction.two.phase.commit.enable", &[], &["false"], Low, "there are no transactions"),
    later("security.protocol", &[], &["PLAINTEXT"], Medium,
        "connections are neither encrypted nor authenticated; use a PLAINTEXT listener"),
    later("security.providers", &[], &[""], Low, "there are no Java classes to load"),
    later("interceptor.classes", &[], &[""], Low,
        "there are no Java classes to load; add interceptors with \
         producer_config_add_interceptor()"),
    later("metric.reporters", &[], &[""], Low, "read producer_get_counters() instead"),
    later("enable.metrics.push", &[], &["false"], Low, "nothing is reported to the brokers"),
    later("statistics.interval.ms", &[], &["0"], High, "read producer_get_counters() instead"),
    later("client.dns.lookup", &[], &["use_all_dns_ips"], Medium,
        "all addresses of a name are tried, and names are not made canonical"),
    later("socket.keepalive.enable", &[], &["true"], Low, "keepalive is always on"),
    later("socket.nagle.disable", &[], &["true"], Low, "small writes are never held back"),
    later("socket.timeout.ms", &[], &[], Low, "set request.timeout.ms"),
    later("api.version.request", &[], &["true"], Low,
        "brokers are always asked for their versions"),
    later("queue.buffering.max.messages", &[], &["0"], High,
        "memory is limited by bytes: set buffer.memory"),
    later("queue.buffering.max.kbytes", &[], &[], High, "set buffer.memory, in bytes"),
    later("batch.num.messages", &[], &[], Medium, "batches are limited by bytes: set batch.size"),
    later("delivery.report.only.error", &[], &["false"], Low,
        "every record's outcome is reported; ignore the successes"),
    later("debug", &[], &[""], Medium,
        "set a log callback with the level PRODUCER_LOG_DEBUG"),
    later("log_level", &[], &[], Low,
        "the level is an argument of producer_config_set_log_callback()"),
];

/// Keys that may be set for one topic, without [`TOPIC_PREFIX`] and the topic's name. Where they
/// are not set, the key of the same name counts.
#[rustfmt::skip]
pub static TOPIC_DEFINITIONS: &[Definition] = &[
    now("compression.type", &["compression.codec"], Codec, "", High,
        "How the topic's batches are compressed."),
    now("compression.level", &[], Count(-131_072, 22), "", Medium,
        "The level of the topic's codec, as for compression.level."),
];

/// Groups of keys that are not in this version.
pub static FAMILIES: &[Family] = &[
    Family {
        prefix: "sasl.",
        secret: true,
        instead: "connections are not authenticated; use a PLAINTEXT listener",
    },
    Family {
        prefix: "ssl.",
        secret: true,
        instead: "connections are not encrypted; use a PLAINTEXT listener",
    },
    Family { prefix: "metrics.", secret: false, instead: "read producer_get_counters() instead" },
    Family { prefix: "config.providers", secret: true, instead: "set the values themselves" },
];

/// The row of a key or an alias, and its place in the table.
pub fn find(key: &str) -> Option<(usize, &'static Definition)> {
    let named = |row: &&Definition| row.name == key || row.aliases.contains(&key);
    DEFINITIONS.iter().enumerate().find(|(_, row)| named(row))
}

/// The topic in a key for one topic, the row of [`TOPIC_DEFINITIONS`] and its place.
pub fn find_for_topic(key: &str) -> Option<(&str, usize, &'static Definition)> {
    let rest = key.strip_prefix(TOPIC_PREFIX)?;
    TOPIC_DEFINITIONS.iter().enumerate().find_map(|(at, row)| {
        let topic = std::iter::once(&row.name)
            .chain(row.aliases)
            .find_map(|name| rest.strip_suffix(name)?.strip_suffix('.'))?;
        Some((topic, at, row))
    })
}

/// The group a key belongs to.
pub fn family(key: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| key.starts_with(family.prefix))
}

/// The key for one topic that is meant by a misspelt one: its last two words are looked at.
pub fn nearest_for_topic(key: &str) -> Option<String> {
    let rest = key.strip_prefix(TOPIC_PREFIX)?;
    let (last, _) = rest.rmatch_indices('.').nth(1)?;
    let (topic, words) = rest.split_at_checked(last)?;
    let names = TOPIC_DEFINITIONS.iter().map(|row| row.name);
    let nearest = most_alike(words.strip_prefix('.')?, names)?;
    is_topic(topic).then(|| format!("{TOPIC_PREFIX}{topic}.{nearest}"))
}

/// Whether a topic may be called so.
pub fn is_topic(name: &str) -> bool {
    const LONGEST: usize = 249;
    let legal = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    let dots = name == "." || name == "..";
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(legal) && !dots
}

/// The known key that is spelt most like `key`, if it is spelt like one at all.
pub fn nearest(key: &str) -> Option<&'static str> {
    let names = DEFINITIONS.iter().flat_map(|row| std::iter::once(&row.name).chain(row.aliases));
    most_alike(key, names.copied())
}

fn most_alike(key: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    /// Longer than any key, so that a hostile one costs nothing.
    const LONGEST: usize = 64;
    let key: Vec<char> = key.chars().take(LONGEST + 1).flat_map(char::to_lowercase).collect();
    if key.len() > LONGEST {
        return None;
    }
    let (distance, name) = names.map(|name| (distance(&key, name), name)).min()?;
    (distance * 2 <= key.len().max(name.len())).then_some(name)
}

/// How many letters have to be inserted, dropped, replaced or swapped with their neighbour.
fn distance(from: &[char], to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut this = vec![row + 1];
        for (column, wanted) in to.iter().enumerate() {
            let cell = |line: &[usize], at: usize| line.get(at).copied().unwrap_or(usize::MAX);
            let replaced = cell(&last, column) + usize::from(letter != wanted);
            let inserted = cell(&this, column) + 1;
            let dropped = cell(&last, column + 1) + 1;
            let mut least = replaced.min(inserted).min(dropped);
            let previous =
                |line: &[char], at: usize| at.checked_sub(1).and_then(|at| line.get(at).copied());
            if previous(from, row) == Some(*wanted)
                && previous(&to, column) == Some(*letter)
                && let Some(swapped) = column.checked_sub(1).map(|at| cell(&before_last, at))
            {
                least = least.min(swapped.saturating_add(1));
            }
            this.push(least);
        }
        before_last = std::mem::replace(&mut last, this);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(from: &str, to: &str) -> usize {
        distance(&from.chars().collect::<Vec<_>>(), to)
    }

    #[test]
    fn a_distance_counts_insertions_losses_replacements_and_swaps() {
        assert_eq!(letters("linger", "linger"), 0);
        assert_eq!(letters("", "linger"), 6);
        assert_eq!(letters("linger", ""), 6);
        assert_eq!(letters("liger", "linger"), 1);
        assert_eq!(letters("linnger", "linger"), 1);
        assert_eq!(letters("lonker", "linger"), 2);
        assert_eq!(letters("ilnger", "linger"), 1);
        assert_eq!(letters("linegr", "linger"), 1);
    }
}
