//! The keys that say how batches are compressed, typed, by default and for topics, and the rules
//! between them. KIP-390.

use super::{Rules, Settings, size};
use crate::config::compression::{Compression, SnappyFraming};
use crate::config::value::Value;
use std::collections::BTreeMap;

const TYPE: &str = "compression.type";
const LEVEL: &str = "compression.level";
const GZIP: &str = "compression.gzip.level";
const ZSTD: &str = "compression.zstd.level";
const FRAMING: &str = "snappy.framing";
/// Of `compression.level`: the codec's own key counts.
const CODECS_OWN: i64 = -1;

impl Settings {
    /// How the batches of a topic are compressed.
    pub fn compression_for(&self, topic: &str) -> Compression {
        self.topic_compression.get(topic).copied().unwrap_or(self.compression)
    }
}

impl Rules<'_> {
    /// How batches are compressed, and those of the topics for which keys were set.
    pub(super) fn compression(&mut self) -> (Compression, BTreeMap<String, Compression>) {
        let codec = self.text(TYPE);
        let level = (LEVEL.to_owned(), self.number(LEVEL));
        let default = self.compression_by(&codec, Some(&level));
        let config = self.config;
        let mut topics = BTreeMap::new();
        for topic in config.topics.keys() {
            let own = match config.value_for(topic, TYPE) {
                Some(Value::Text(codec)) => codec,
                Some(Value::Bool(_) | Value::Number(_) | Value::Servers(_)) | None => codec.clone(),
            };
            let key = format!("topic.{topic}.{LEVEL}");
            let compression = match config.value_for(topic, LEVEL) {
                Some(Value::Number(number)) if number != CODECS_OWN => {
                    self.compression_by(&own, Some(&(key, number)))
                }
                // compression.level is for the codec of compression.type.
                Some(_) | None if own == codec => default,
                Some(_) | None => self.compression_by(&own, None),
            };
            topics.insert(topic.clone(), compression);
        }
        self.without_use(default, &topics);
        (default, topics)
    }

    /// `compression.threads`, settled.
    pub(super) fn compression_threads(&self) -> usize {
        /// More compress faster than a network thread can send.
        const MOST: usize = 4;
        match size(self.number("compression.threads")) {
            0 => {
                let processors = std::thread::available_parallelism().map_or(1, usize::from);
                processors.saturating_sub(1).clamp(1, MOST)
            }
            threads => threads,
        }
    }

    /// A codec with the level that a key gives, or its own.
    fn compression_by(&mut self, codec: &str, level: Option<&(String, i64)>) -> Compression {
        let level = level.filter(|(_, level)| *level != CODECS_OWN);
        match codec {
            "gzip" => Compression::Gzip { level: self.level(codec, level, GZIP, 1..=9) },
            "zstd" => Compression::Zstd { level: self.level(codec, level, ZSTD, -131_072..=22) },
            "lz4" => {
                self.no_levels(level, 0..=2, "lz4 has the fast level only, 0 to 2");
                Compression::Lz4
            }
            "snappy" => {
                self.no_levels(level, 0..=0, "snappy has no levels");
                let framing = match self.text(FRAMING).as_str() {
                    "xerial" => SnappyFraming::Xerial,
                    _ => SnappyFraming::Raw,
                };
                Compression::Snappy { framing }
            }
            _ => {
                if let Some((key, _)) = level {
                    let shown = self.config.shown(key);
                    self.notes.push(format!("{shown} has no effect: nothing is compressed"));
                }
                Compression::None
            }
        }
    }

    /// The level of a codec that has some: by `level`, else by the codec's own key.
    fn level(
        &mut self,
        codec: &str,
        level: Option<&(String, i64)>,
        own_key: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> i32 {
        let own = self.number(own_key);
        let Some((key, level)) = level else { return i32::try_from(own).unwrap_or(0) };
        if !range.contains(level) {
            let shown = self.config.shown(key);
            let (low, high) = (range.start(), range.end());
            self.problem(format!("{shown}: the levels of {codec} are {low} to {high}"));
        }
        if key == LEVEL && own != *level && self.config.is_set(own_key) {
            let (shown, own) = (self.config.shown(key), self.config.shown(own_key));
            self.problem(format!("{shown} contradicts {own}: leave one of them out"));
        }
        i32::try_from(*level).unwrap_or(0)
    }

    /// A level for a codec whose levels are all the same.
    fn no_levels(
        &mut self,
        level: Option<&(String, i64)>,
        range: std::ops::RangeInclusive<i64>,
        why: &str,
    ) {
        let Some((key, level)) = level else { return };
        if !range.contains(level) {
            let shown = self.config.shown(key);
            self.problem(format!("{shown}: {why}; for smaller batches use zstd"));
        }
    }

    /// Notes what was set for codecs that no topic uses.
    fn without_use(&mut self, default: Compression, topics: &BTreeMap<String, Compression>) {
        let used = |is: fn(&Compression) -> bool| is(&default) || topics.values().any(is);
        let keys = [
            (GZIP, used(|how| matches!(how, Compression::Gzip { .. }))),
            (ZSTD, used(|how| matches!(how, Compression::Zstd { .. }))),
            (FRAMING, used(|how| matches!(how, Compression::Snappy { .. }))),
            ("compression.threads", used(|how| *how != Compression::None)),
        ];
        for (key, _) in keys.into_iter().filter(|(key, used)| !used && self.config.is_set(key)) {
            let shown = self.config.shown(key);
            self.notes.push(format!("{shown} has no effect: nothing is compressed that way"));
        }
    }
}
