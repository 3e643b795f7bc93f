//! Configuration: Kafka's own keys as strings, checked as they are set and against each other when
//! a producer starts.
//!
//! [`definition`] is the table of keys, [`value`] parses values; this file holds what a user set
//! ([`ProducerConfig`]); [`settings`] turns it into typed numbers ([`Settings`]) and checks the
//! keys against each other. A config is for one thread at a time; nothing here is shared or locked.
//! KIP-91, KIP-144, KIP-580, KIP-601, KIP-1030.

pub mod compression;
pub mod definition;
mod markdown;
pub mod settings;
pub mod value;

pub use markdown::configuration_markdown;
pub use settings::{Acks, PartitionerClass, Partitioning, Settings};

use crate::error::{Error, Result, status};
use definition::{Availability, Definition, INTERCEPTOR_PREFIX, TOPIC_PREFIX};
use std::collections::BTreeMap;
use value::{Value, excerpt, trim};

/// The longest value; a certificate with its chain has a few KiB.
const MAX_VALUE_LEN: usize = 1 << 20;
/// For how many topics keys may be set.
const MAX_TOPICS: usize = 10_000;
/// The longest key for an interceptor, and how many there may be.
const MAX_INTERCEPTOR_KEY_LEN: usize = 255;
const MAX_INTERCEPTOR_KEYS: usize = 1000;

/// What a user set.
#[derive(Clone, Default)]
pub struct ProducerConfig {
    /// By the key's place in the table.
    set: BTreeMap<usize, Entry>,
    /// Keys for one topic: by the topic, then by the key's place in their table.
    topics: BTreeMap<String, BTreeMap<usize, Entry>>,
    interceptor: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Entry {
    /// The name the user used: the key's or an alias.
    spelling: &'static str,
    /// Trimmed, otherwise as the user wrote it.
    text: String,
    value: Value,
}

/// Keys only: interceptors' values may be secrets.
impl std::fmt::Debug for ProducerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys = self.set.values().map(|entry| entry.spelling);
        let topics = self.topics.keys().map(|topic| format!("{TOPIC_PREFIX}{topic}"));
        f.debug_set().entries(keys).entries(topics).entries(self.interceptor.keys()).finish()
    }
}

impl ProducerConfig {
    /// Every key at its default.
    pub fn new() -> ProducerConfig {
        ProducerConfig::default()
    }

    /// Sets a key. An error names the key, the value and what it has to be, and changes nothing.
    pub fn set(&mut self, key: &str, text: &str) -> Result<()> {
        if text.len() > MAX_VALUE_LEN {
            return Err(invalid(format!(
                "the value of {} has {} bytes; at most {MAX_VALUE_LEN} are allowed",
                excerpt(key),
                text.len()
            )));
        }
        if let Some((at, row)) = definition::find(key) {
            let spelling =
                row.aliases.iter().find(|alias| **alias == key).copied().unwrap_or(row.name);
            let value = accept(row, spelling, text)?;
            self.set.insert(at, Entry { spelling, text: trim(text).to_owned(), value });
            return Ok(());
        }
        if let Some((topic, at, row)) = definition::find_for_topic(key) {
            return self.set_for_topic(key, topic, (at, row), text);
        }
        if key.starts_with(INTERCEPTOR_PREFIX) {
            return self.set_for_interceptors(key, text);
        }
        if let Some(family) = definition::family(key) {
            if trim(text).is_empty() {
                return Ok(());
            }
            let value = if family.secret { String::new() } else { format!("={}", excerpt(text)) };
            return Err(not_here(&format!("{}{value}", excerpt(key)), family.instead));
        }
        let nearest = definition::nearest_for_topic(key)
            .or_else(|| definition::nearest(key).map(str::to_owned));
        let hint = match nearest {
            Some(nearest) => format!("did you mean {}?", excerpt(&nearest)),
            None => "CONFIGURATION.md lists the keys".into(),
        };
        Err(invalid(format!("there is no key \"{}\": {hint}", excerpt(key))))
    }

    fn set_for_topic(
        &mut self,
        key: &str,
        topic: &str,
        (at, row): (usize, &'static Definition),
        text: &str,
    ) -> Result<()> {
        if !definition::is_topic(topic) {
            return Err(invalid(format!(
                "the key {} names no topic: a name has 1 to 249 letters, digits, dots, underscores \
                 and hyphens",
                excerpt(key)
            )));
        }
        let value = accept(row, key, text)?;
        if !self.topics.contains_key(topic) && self.topics.len() >= MAX_TOPICS {
            return Err(invalid(format!(
                "{} is for one topic too many: keys may be set for at most {MAX_TOPICS}",
                excerpt(key)
            )));
        }
        let entry = Entry { spelling: row.name, text: trim(text).to_owned(), value };
        self.topics.entry(topic.to_owned()).or_default().insert(at, entry);
        Ok(())
    }

    fn set_for_interceptors(&mut self, key: &str, text: &str) -> Result<()> {
        if key.len() > MAX_INTERCEPTOR_KEY_LEN {
            return Err(invalid(format!(
                "the key {} has {} bytes; at most {MAX_INTERCEPTOR_KEY_LEN} are allowed",
                excerpt(key),
                key.len()
            )));
        }
        let is_new = !self.interceptor.contains_key(key);
        if is_new && self.interceptor.len() >= MAX_INTERCEPTOR_KEYS {
            return Err(invalid(format!(
                "{} is one key too many: at most {MAX_INTERCEPTOR_KEYS} may begin with \
                 {INTERCEPTOR_PREFIX}",
                excerpt(key)
            )));
        }
        self.interceptor.insert(key.to_owned(), text.to_owned());
        Ok(())
    }

    /// The value of a key or an alias, its default if it was not set; `None` if there is no such
    /// key. Secrets are not among the keys of this version.
    pub fn get(&self, key: &str) -> Option<&str> {
        if let Some((at, row)) = definition::find(key) {
            return Some(self.set.get(&at).map_or(row.default, |entry| &entry.text));
        }
        if let Some((topic, at, row)) = definition::find_for_topic(key) {
            let set = self.topics.get(topic).and_then(|keys| keys.get(&at));
            return set.map_or_else(|| self.get(row.name), |entry| Some(&entry.text));
        }
        self.interceptor.get(key).map(String::as_str)
    }

    /// Whether a key was set, by whatever name.
    pub fn is_set(&self, key: &str) -> bool {
        if let Some((topic, at, _)) = definition::find_for_topic(key) {
            return self.topics.get(topic).is_some_and(|keys| keys.contains_key(&at));
        }
        match definition::find(key) {
            Some((at, _)) => self.set.contains_key(&at),
            None => self.interceptor.contains_key(key),
        }
    }

    /// All keys typed and consistent with each other, or everything that is wrong with them.
    pub fn settings(&self) -> Result<Settings, Vec<Error>> {
        settings::settle(self)
    }

    /// The value of a key of the table.
    fn value(&self, key: &str) -> Option<Value> {
        let (at, row) = definition::find(key)?;
        match self.set.get(&at) {
            Some(entry) => Some(entry.value.clone()),
            None => row.kind.parse(row.default).ok(),
        }
    }

    /// The value of a key for one topic, if it was set.
    fn value_for(&self, topic: &str, name: &str) -> Option<Value> {
        let at = definition::TOPIC_DEFINITIONS.iter().position(|row| row.name == name)?;
        self.topics.get(topic)?.get(&at).map(|entry| entry.value.clone())
    }

    /// A key as the user spelt it, with its value: `linger.ms=5`.
    fn shown(&self, key: &str) -> String {
        if definition::find_for_topic(key).is_some() {
            return format!("{}={}", excerpt(key), excerpt(self.get(key).unwrap_or_default()));
        }
        match definition::find(key).and_then(|(at, _)| self.set.get(&at)) {
            Some(entry) => format!("{}={}", entry.spelling, excerpt(&entry.text)),
            None => format!("{key}={}", self.get(key).unwrap_or_default()),
        }
    }
}

fn accept(row: &Definition, spelling: &str, text: &str) -> Result<Value> {
    let spelling = excerpt(spelling);
    row.kind.parse(text).map_err(|problem| {
        let shown = excerpt(trim(text));
        match row.availability {
            Availability::Now => invalid(format!("{spelling}=\"{shown}\": the value {problem}")),
            Availability::Later(instead) => not_here(&format!("{spelling}={shown}"), instead),
        }
    })
}

fn invalid(message: String) -> Error {
    Error::new(status::INVALID_CONFIG, message)
}

fn not_here(what: &str, instead: &str) -> Error {
    invalid(format!("{what} is not available in this version: {instead}"))
}

#[cfg(test)]
mod tests;
