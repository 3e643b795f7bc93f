//! The keys that choose partitions, typed, and the rules between them. KIP-480, KIP-794, KIP-1123.

use super::{Rules, Settings};
use crate::config::value::Choice;
use crate::config::{ProducerConfig, invalid};
use crate::error::Error;
use std::sync::Arc;
use std::time::Duration;

const CLASS: &str = "partitioner.class";
const IGNORE_KEYS: &str = "partitioner.ignore.keys";
const ADAPTIVE: &str = "partitioner.adaptive.partitioning.enable";
const AVAILABILITY: &str = "partitioner.availability.timeout.ms";
const RACK_AWARE: &str = "partitioner.rack.aware";
const RACK: &str = "client.rack";

/// `partitioner.class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionerClass {
    /// Kafka's own: keys by murmur2, records without one stick to a partition for a while.
    Builtin,
    /// Sticks to a partition until a batch is complete, whatever the keys (KIP-480).
    UniformSticky,
    /// One partition after the other.
    RoundRobin,
    /// Any partition.
    Random,
    /// librdkafka's: CRC32 of the key, of nothing without one.
    Consistent,
    /// The same, but records whose key is null or empty stick.
    ConsistentRandom,
    /// murmur2 of the key, of nothing without one.
    Murmur2,
    /// murmur2 of the key; records without one stick.
    Murmur2Random,
    /// librdkafka's: FNV-1a of the key, of nothing without one.
    Fnv1a,
    /// The same, but records without a key stick.
    Fnv1aRandom,
    /// Sarama's default, which is the same.
    Sarama,
}

/// The names of `partitioner.class`: librdkafka's as they are, Java's classes as other names.
pub(in crate::config) static CLASSES: &[Choice] = &[
    Choice {
        name: "builtin",
        aliases: &["", "org.apache.kafka.clients.producer.internals.DefaultPartitioner"],
    },
    Choice {
        name: "uniform_sticky",
        aliases: &["org.apache.kafka.clients.producer.UniformStickyPartitioner"],
    },
    Choice {
        name: "round_robin",
        aliases: &["org.apache.kafka.clients.producer.RoundRobinPartitioner"],
    },
    Choice { name: "random", aliases: &[] },
    Choice { name: "consistent", aliases: &[] },
    Choice { name: "consistent_random", aliases: &[] },
    Choice { name: "murmur2", aliases: &[] },
    Choice { name: "murmur2_random", aliases: &[] },
    Choice { name: "fnv1a", aliases: &[] },
    Choice { name: "fnv1a_random", aliases: &[] },
    Choice { name: "sarama", aliases: &[] },
];

impl PartitionerClass {
    fn of(name: &str) -> PartitionerClass {
        match name {
            "uniform_sticky" => PartitionerClass::UniformSticky,
            "round_robin" => PartitionerClass::RoundRobin,
            "random" => PartitionerClass::Random,
            "consistent" => PartitionerClass::Consistent,
            "consistent_random" => PartitionerClass::ConsistentRandom,
            "murmur2" => PartitionerClass::Murmur2,
            "murmur2_random" => PartitionerClass::Murmur2Random,
            "fnv1a" => PartitionerClass::Fnv1a,
            "fnv1a_random" => PartitionerClass::Fnv1aRandom,
            "sarama" => PartitionerClass::Sarama,
            _ => PartitionerClass::Builtin,
        }
    }

    /// Whether records that it finds no key in go to a sticky partition that is chosen by load.
    fn adapts(self) -> bool {
        match self {
            PartitionerClass::Builtin
            | PartitionerClass::ConsistentRandom
            | PartitionerClass::Murmur2Random
            | PartitionerClass::Fnv1aRandom
            | PartitionerClass::Sarama => true,
            PartitionerClass::UniformSticky
            | PartitionerClass::RoundRobin
            | PartitionerClass::Random
            | PartitionerClass::Consistent
            | PartitionerClass::Murmur2
            | PartitionerClass::Fnv1a => false,
        }
    }

    /// Whether it looks at keys, and cannot be told not to.
    fn needs_keys(self) -> bool {
        match self {
            PartitionerClass::Builtin
            | PartitionerClass::UniformSticky
            | PartitionerClass::RoundRobin
            | PartitionerClass::Random => false,
            PartitionerClass::Consistent
            | PartitionerClass::ConsistentRandom
            | PartitionerClass::Murmur2
            | PartitionerClass::Murmur2Random
            | PartitionerClass::Fnv1a
            | PartitionerClass::Fnv1aRandom
            | PartitionerClass::Sarama => true,
        }
    }
}

/// How partitions are chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitioning {
    /// `partitioner.class`.
    pub class: PartitionerClass,
    /// `partitioner.ignore.keys`.
    pub ignore_keys: bool,
    /// `partitioner.adaptive.partitioning.enable`.
    pub adaptive: bool,
    /// `partitioner.availability.timeout.ms`; `None`: every leader counts as available.
    pub availability_timeout: Option<Duration>,
    /// `client.rack`, if `partitioner.rack.aware` is true.
    pub rack: Option<Arc<str>>,
}

#[cfg(test)]
impl Partitioning {
    /// That of the built-in partitioner.
    pub(in crate::config) fn builtin(
        ignore_keys: bool,
        availability_timeout: Option<Duration>,
        rack: Option<&str>,
    ) -> Partitioning {
        let (class, adaptive, rack) = (PartitionerClass::Builtin, true, rack.map(Arc::from));
        Partitioning { class, ignore_keys, adaptive, availability_timeout, rack }
    }
}

impl Rules<'_> {
    pub(super) fn partitioning(&mut self) -> Partitioning {
        let class = PartitionerClass::of(&self.text(CLASS));
        let adaptive = self.bool(ADAPTIVE);
        let ignore_keys = self.bool(IGNORE_KEYS);
        if ignore_keys && class.needs_keys() {
            let (class, ignores) = (self.config.shown(CLASS), self.config.shown(IGNORE_KEYS));
            self.problem(format!(
                "{class} contradicts {ignores}: it is all about keys; leave out one of them"
            ));
        }
        let rack = self.text(RACK);
        let rack_aware = self.bool(RACK_AWARE);
        if rack_aware && rack.is_empty() {
            self.problem(format!("{RACK_AWARE}=true needs {RACK}: set it to this client's rack"));
        }
        if !class.adapts() {
            let class = self.config.shown(CLASS);
            self.have_no_effect(&[ADAPTIVE, AVAILABILITY, RACK_AWARE], &class);
        } else if !adaptive {
            let adaptive = self.config.shown(ADAPTIVE);
            self.have_no_effect(&[AVAILABILITY], &adaptive);
        }
        let availability_timeout = self.unless_off(AVAILABILITY).map(super::duration);
        let adapts = class.adapts() && adaptive;
        Partitioning {
            class,
            ignore_keys,
            adaptive: adapts,
            availability_timeout: availability_timeout.filter(|_| adapts),
            rack: (rack_aware && class.adapts()).then(|| Arc::from(rack)),
        }
    }

    /// Notes which of these were set to ask for something, in vain.
    fn have_no_effect(&mut self, keys: &[&str], cause: &str) {
        self.notes.extend(no_effect(self.config, keys, cause));
    }
}

fn no_effect(config: &ProducerConfig, keys: &[&str], cause: &str) -> Vec<String> {
    let asks = |key: &&&str| {
        config.is_set(key) && !matches!(config.get(key).unwrap_or_default(), "0" | "false")
    };
    let set = keys.iter().filter(asks).map(|key| config.shown(key));
    set.map(|shown| format!("{shown} has no effect: {cause}")).collect()
}

impl Settings {
    /// The same where a partitioner of the user's own chooses.
    pub fn with_own_partitioner(mut self, config: &ProducerConfig) -> Result<Settings, Vec<Error>> {
        if config.is_set(CLASS) {
            return Err(vec![invalid(format!(
                "{} and a partitioner set by producer_config_set_partitioner() contradict each \
                 other: leave out one of them",
                config.shown(CLASS)
            ))]);
        }
        let cause = "the partitioner set by producer_config_set_partitioner() chooses";
        let keys = [IGNORE_KEYS, ADAPTIVE, AVAILABILITY, RACK_AWARE];
        self.notes.extend(no_effect(config, &keys, cause));
        self.partitioning.availability_timeout = None;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(keys: &[(&str, &str)]) -> ProducerConfig {
        let mut config = ProducerConfig::new();
        config.set("bootstrap.servers", "b:1").unwrap();
        for (key, value) in keys {
            config.set(key, value).unwrap();
        }
        config
    }

    fn settled(keys: &[(&str, &str)]) -> (Partitioning, Vec<String>) {
        let settings = config(keys).settings().unwrap();
        (settings.partitioning, settings.notes)
    }

    fn problem(keys: &[(&str, &str)]) -> String {
        let problems = config(keys).settings().unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.len() < 248, "{}", problems[0].message);
        problems[0].message.to_string()
    }

    #[test]
    fn the_default_is_the_builtin_one_and_adapts() {
        let (partitioning, notes) = settled(&[]);
        let expected = Partitioning::builtin(false, None, None);
        assert_eq!((partitioning, notes), (expected, vec![]));
    }

    #[test]
    fn every_name_has_its_class() {
        let mut seen = Vec::new();
        for choice in CLASSES {
            let (partitioning, _) = settled(&[("partitioner.class", choice.name)]);
            let class = partitioning.class;
            assert!(!seen.contains(&class), "{} is {class:?} too", choice.name);
            seen.push(class);
            for alias in choice.aliases {
                assert_eq!(settled(&[("partitioner", alias)]).0.class, class, "{alias}");
            }
        }
        let java = "org.apache.kafka.clients.producer.RoundRobinPartitioner";
        assert_eq!(settled(&[("partitioner.class", java)]).0.class, PartitionerClass::RoundRobin);
        let refused = config(&[]).set("partitioner.class", "RoundRobin").unwrap_err();
        assert!(refused.message.contains("builtin, uniform_sticky, round_robin"), "{refused}");
        assert!(refused.message.len() < 248, "{refused}");
    }

    #[test]
    fn what_contradicts_itself_is_an_error_that_names_both() {
        let ignores = ("partitioner.ignore.keys", "true");
        for class in ["consistent", "murmur2_random", "fnv1a", "sarama"] {
            let message = problem(&[("partitioner", class), ignores]);
            let class = format!("partitioner={class}");
            assert!(message.contains(&class) && message.contains("ignore.keys=true"), "{message}");
        }
        for class in ["builtin", "round_robin", "uniform_sticky", "random"] {
            assert!(settled(&[("partitioner", class), ignores]).0.ignore_keys);
        }
        let message = problem(&[("partitioner.rack.aware", "true")]);
        assert!(message.contains("client.rack"), "{message}");
        let message = problem(&[("partitioner.rack.aware", "true"), ("client.rack", " ")]);
        assert!(message.contains("client.rack"), "{message}");
        let own = config(&[("partitioner.class", "builtin")]);
        let problems = own.settings().unwrap().with_own_partitioner(&own).unwrap_err();
        let message = &problems[0].message;
        assert!(message.contains("partitioner.class=builtin"), "{message}");
        assert!(message.contains("producer_config_set_partitioner()"), "{message}");
    }

    #[test]
    fn what_has_no_effect_is_noted() {
        let timeout = ("partitioner.availability.timeout.ms", "100");
        let (partitioning, notes) =
            settled(&[timeout, ("partitioner.adaptive.partitioning.enable", "false")]);
        assert_eq!((partitioning.adaptive, partitioning.availability_timeout), (false, None));
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("partitioner.availability.timeout.ms=100 has no effect"));
        let rack = [("partitioner.rack.aware", "true"), ("client.rack", "r1")];
        let (partitioning, notes) =
            settled(&[rack[0], rack[1], timeout, ("partitioner", "random")]);
        assert_eq!((partitioning.rack, partitioning.adaptive), (None, false));
        assert_eq!(notes.len(), 2, "{notes:?}");
        let (partitioning, notes) = settled(&[rack[0], rack[1], timeout]);
        assert_eq!(partitioning.rack.as_deref(), Some("r1"));
        assert_eq!(partitioning.availability_timeout, Some(Duration::from_millis(100)));
        assert!(notes.is_empty(), "{notes:?}");
        let own = config(&[rack[0], rack[1], ("partitioner.ignore.keys", "false")]);
        let settings = own.settings().unwrap().with_own_partitioner(&own).unwrap();
        assert_eq!(settings.notes.len(), 1, "{:?}", settings.notes);
    }
}
