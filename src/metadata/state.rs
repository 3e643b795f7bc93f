//! What the metadata's lock guards: topics in use, the snapshot, and when the next request is due.
//!
//! Requests are told apart by what made them due. A caller's new topic goes out as soon as no
//! request is under way; all other ones wait for `not_before`, which every answer and every failure
//! moves. While requests fail, new topics wait too.

use super::TopicState;
use super::cluster::{Cluster, Node, TopicMetadata};
use super::interest::Interest;
use super::merge::{Answer, TopicAnswer};
use crate::clock::Instant;
use crate::error::{Error, Result, status};
use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Keeps `retry.backoff.ms=0` and `metadata.max.age.ms=0` from asking without pause.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// How long a refusal answers further callers, so that they don't ask in a loop.
const REFUSAL_LEAST: Duration = Duration::from_millis(100);
const REFUSAL_MOST: Duration = Duration::from_secs(10);
/// Beyond the longest pause between two signals: who still waits for an unknown topic has asked
/// since then.
const ABANDONED: Duration = Duration::from_secs(30);

/// The configuration keys that matter here.
#[derive(Debug, Clone)]
pub struct MetadataConfig {
    /// `metadata.max.age.ms`.
    pub max_age: Duration,
    /// `metadata.max.idle.ms`.
    pub max_idle: Duration,
    /// `retry.backoff.ms`.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`.
    pub retry_backoff_max: Duration,
    /// `request.timeout.ms`.
    pub request_timeout: Duration,
    /// `allow.auto.create.topics`.
    pub allow_auto_create_topics: bool,
}

impl MetadataConfig {
    fn refusal_lasts(&self) -> Duration {
        self.retry_backoff_max.clamp(REFUSAL_LEAST, REFUSAL_MOST)
    }

    fn unknown_idle(&self) -> Duration {
        ABANDONED.saturating_add(self.request_timeout).saturating_add(self.retry_backoff_max)
    }
}

/// A request to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataRequestSpec {
    /// The topics to ask for, in order; empty: none, only the brokers.
    pub topics: Vec<Arc<str>>,
    /// Whether the brokers may create topics that don't exist.
    pub allow_auto_create: bool,
}

/// What an answer changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Topics that are new or differ from before.
    pub topics: Vec<Arc<TopicMetadata>>,
    /// Topics that are no longer known: idle, or gone.
    pub removed: Vec<Arc<str>>,
    /// Whether brokers came, went or moved.
    pub nodes: bool,
    pub(super) warnings: Vec<String>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.removed.is_empty() && !self.nodes
    }
}

/// A leader that a Produce response names.
#[derive(Debug, Clone, Copy)]
pub struct LeaderUpdate<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Node id.
    pub leader: i32,
    /// Its epoch.
    pub leader_epoch: i32,
}

#[derive(Debug, Default)]
struct InFlight {
    topics: Vec<Arc<str>>,
    all: bool,
    /// Not only because of its age.
    wanted: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub cluster: Arc<Cluster>,
    topics: BTreeMap<Arc<str>, Interest>,
    /// Topics to ask for.
    wanted: BTreeSet<Arc<str>>,
    /// Ask for all topics.
    all_wanted: bool,
    /// A caller's topic is in `wanted` for the first time.
    fresh: bool,
    in_flight: Option<InFlight>,
    /// Topics that leave the snapshot with the next answer.
    forgotten: Vec<Arc<str>>,
    /// Requests that failed in a row, and answers in a row that brought nothing new.
    failures: u32,
    unchanged: u32,
    /// Answers and failures so far.
    pub answers: u64,
    not_before: Instant,
    last_success: Option<Instant>,
    last_failure: Option<Error>,
    /// What waiters get instead of waiting.
    verdict: Option<Error>,
}

impl State {
    /// A caller's view of a topic, and whether that made a request due.
    pub fn look_up(
        &mut self,
        name: &str,
        config: &MetadataConfig,
        now: Instant,
    ) -> (TopicState, bool) {
        let known = self.cluster.topic(name).cloned();
        let Some((stored, interest)) = self.topics.get_mut(name).map(|i| (name, i)) else {
            let name: Arc<str> =
                known.as_ref().map_or_else(|| name.into(), |known| known.name.clone());
            self.topics.insert(name.clone(), Interest::new(now));
            if let Some(known) = known {
                return (TopicState::Known(known), false);
            }
            self.wanted.insert(name);
            self.fresh = true;
            return (self.unknown(), true);
        };
        interest.last_used = interest.last_used.max(now);
        if let Some(known) = known {
            return (TopicState::Known(known), false);
        }
        match &interest.failed {
            Some((error, at)) if now < at.after(config.refusal_lasts()) => {
                (TopicState::Failed(error.clone()), false)
            }
            Some(_) => {
                interest.failed = None;
                self.wanted.insert(stored.into());
                self.fresh = true;
                (self.unknown(), true)
            }
            None => (self.unknown(), false),
        }
    }

    fn unknown(&self) -> TopicState {
        self.verdict.clone().map_or(TopicState::Pending, TopicState::Failed)
    }

    pub fn touch(&mut self, name: &str, now: Instant) {
        if let Some(interest) = self.topics.get_mut(name) {
            interest.last_used = interest.last_used.max(now);
        }
    }

    pub fn last_error(&self, name: &str) -> Option<Error> {
        let failure = self.last_failure.as_ref();
        failure.or_else(|| self.topics.get(name)?.last_error.as_ref()).cloned()
    }

    pub fn topic_error(&self, name: &str) -> Option<Error> {
        self.topics.get(name)?.last_error.clone()
    }

    pub fn fail_all(&mut self, error: Error) {
        self.verdict = Some(error);
    }

    pub fn want_all(&mut self) {
        self.all_wanted = true;
    }

    pub fn is_asking(&self) -> bool {
        self.in_flight.is_some()
    }

    pub fn disconnected(&mut self, error: Error) {
        self.all_wanted = true;
        self.last_failure = Some(error);
    }

    pub fn want(&mut self, name: &str, now: Instant) {
        let known = self.topics.get_key_value(name).map(|(name, _)| name.clone());
        let name = known.unwrap_or_else(|| name.into());
        let interest = self.topics.entry(name.clone()).or_default();
        interest.last_used = interest.last_used.max(now);
        self.wanted.insert(name);
    }

    fn stale_at(&self, config: &MetadataConfig) -> Instant {
        self.last_success.map_or(Instant::default(), |last| last.after(config.max_age))
    }

    pub fn next_due(&self, config: &MetadataConfig) -> Instant {
        if self.in_flight.is_some() {
            return Instant::NEVER;
        }
        if self.fresh && self.failures == 0 {
            return Instant::default();
        }
        if self.all_wanted || !self.wanted.is_empty() {
            return self.not_before;
        }
        self.stale_at(config).max(self.not_before)
    }

    pub fn request(
        &mut self,
        config: &MetadataConfig,
        now: Instant,
    ) -> Option<MetadataRequestSpec> {
        if now < self.next_due(config) {
            return None;
        }
        let stale = self.stale_at(config) <= now;
        let all = self.all_wanted || stale;
        let wanted = self.all_wanted || !self.wanted.is_empty();
        self.forget_idle(all, config, now);
        self.fresh = false;
        let asked = std::mem::take(&mut self.wanted);
        let topics: Vec<_> = if all {
            self.all_wanted = false;
            self.topics.keys().cloned().collect()
        } else {
            asked.into_iter().collect()
        };
        if topics.is_empty() && !all {
            return None;
        }
        self.in_flight = Some(InFlight { topics: topics.clone(), all, wanted });
        Some(MetadataRequestSpec { topics, allow_auto_create: config.allow_auto_create_topics })
    }

    /// Drops topics nobody uses any more: known ones when all are refreshed, unknown ones whenever
    /// they are due.
    fn forget_idle(&mut self, all: bool, config: &MetadataConfig, now: Instant) {
        let State { topics, wanted, cluster, forgotten, .. } = self;
        let idle = |name: &Arc<str>, interest: &Interest| {
            let limit = match cluster.topic(name) {
                Some(_) => config.max_idle,
                None => config.unknown_idle(),
            };
            now >= interest.last_used.after(limit)
        };
        if all {
            topics.retain(|name, interest| {
                let gone = idle(name, interest);
                if gone && cluster.topic(name).is_some() {
                    forgotten.push(name.clone());
                }
                !gone
            });
            wanted.retain(|name| topics.contains_key(name));
        } else {
            wanted.retain(|name| {
                let gone = cluster.topic(name).is_none()
                    && topics.get(name).is_none_or(|interest| idle(name, interest));
                if gone {
                    topics.remove(name);
                }
                !gone
            });
        }
    }

    pub fn failed(&mut self, error: Error, config: &MetadataConfig, rng: &Rng, now: Instant) {
        if let Some(asked) = self.in_flight.take() {
            self.all_wanted |= asked.all;
            self.wanted.extend(asked.topics);
        }
        self.answers += 1;
        self.last_failure = Some(error);
        self.failures = self.failures.saturating_add(1);
        self.pause(self.failures, config, rng, now);
    }

    fn pause(&mut self, repeated: u32, config: &MetadataConfig, rng: &Rng, now: Instant) {
        let pause = rng.backoff(config.retry_backoff, config.retry_backoff_max, repeated);
        self.not_before = now.after(pause.max(LEAST_PAUSE));
    }

    pub fn answered(
        &mut self,
        answer: &Answer,
        config: &MetadataConfig,
        rng: &Rng,
        now: Instant,
    ) -> Result<Changes> {
        if let Some(error) = answer.failure() {
            self.failed(error.clone(), config, rng, now);
            return Err(error);
        }
        self.answers += 1;
        let asked = self.in_flight.take().unwrap_or_default();
        let mut changes = self.settle_topics(answer, &asked, now);
        self.take_over(answer, &mut changes);
        self.failures = 0;
        self.last_failure = None;
        self.verdict = None;
        self.last_success = Some(now);
        let news = !asked.wanted || !changes.is_empty();
        self.unchanged = if news { 0 } else { self.unchanged.saturating_add(1) };
        self.pause(self.unchanged, config, rng, now);
        Ok(changes)
    }

    /// Every topic in use that was asked for or answered; others are not looked at.
    fn settle_topics(&mut self, answer: &Answer, asked: &InFlight, now: Instant) -> Changes {
        let mut changes = Changes::default();
        let answers: BTreeMap<&str, &TopicAnswer> =
            answer.topics.iter().map(|topic| (topic.name.as_str(), topic)).collect();
        let names: BTreeSet<&str> =
            asked.topics.iter().map(|name| &**name).chain(answers.keys().copied()).collect();
        let last = self.last_success.unwrap_or_default();
        for name in names {
            let stored = self.topics.get_key_value(name).map(|(name, _)| name.clone());
            let Some((name, interest)) = stored.zip(self.topics.get_mut(name)) else { continue };
            let old = self.cluster.topic(&name);
            let before = interest.last_error.as_ref().map(|error| error.status);
            let used_lately = interest.last_used >= last;
            let answer = answers.get(&*name).copied();
            let verdict = interest.settle(&name, answer, old, used_lately, now);
            if let Some(error) = &interest.last_error
                && before != Some(error.status)
            {
                changes.warnings.push(error.to_string());
            }
            match verdict.topic {
                Some(new) if old.is_some_and(|old| Arc::ptr_eq(old, &new)) => {}
                Some(new) => changes.topics.push(new),
                None if old.is_some() => changes.removed.push(name.clone()),
                None => {}
            }
            if verdict.again {
                self.wanted.insert(name);
            }
        }
        let forgotten = std::mem::take(&mut self.forgotten).into_iter();
        // Unless it was asked for again while the request was under way.
        changes.removed.extend(forgotten.filter(|name| !self.topics.contains_key(name)));
        changes
    }

    /// Makes the next snapshot, if anything changed.
    fn take_over(&mut self, answer: &Answer, changes: &mut Changes) {
        let mut nodes = answer.nodes.clone();
        nodes.sort_by_key(|node| node.id);
        nodes.dedup_by_key(|node| node.id);
        let cluster = &self.cluster;
        if let (Some(old), Some(new)) = (&cluster.cluster_id, &answer.cluster_id)
            && old != new
        {
            changes.warnings.push(format!(
                "the cluster's id was {old} and is now {new}: do all bootstrap.servers belong to \
                 one cluster?"
            ));
        }
        changes.nodes = nodes != cluster.nodes
            || answer.controller != cluster.controller
            || answer.cluster_id != cluster.cluster_id;
        if changes.is_empty() {
            return;
        }
        let mut topics = cluster.topics.clone();
        for name in &changes.removed {
            topics.remove(name);
        }
        topics.extend(changes.topics.iter().map(|topic| (topic.name.clone(), topic.clone())));
        self.cluster = Arc::new(Cluster {
            version: cluster.version + 1,
            nodes,
            cluster_id: answer.cluster_id.clone(),
            controller: answer.controller,
            topics,
        });
    }

    pub fn lead(&mut self, leaders: &[LeaderUpdate<'_>], endpoints: &[Node]) -> Changes {
        let mut next = Cluster::clone(&self.cluster);
        let mut changes = Changes::default();
        let mut changed: BTreeMap<&str, TopicMetadata> = BTreeMap::new();
        for update in leaders {
            let described = endpoints.iter().find(|node| node.id == update.leader);
            let Some(topic) = next.topic(update.topic) else { continue };
            let known = changed.get(update.topic).unwrap_or(topic).partition(update.partition);
            let newer = known.is_some_and(|known| update.leader_epoch > known.leader_epoch);
            if !newer || (described.is_none() && next.node(update.leader).is_none()) {
                continue;
            }
            changed.entry(update.topic).or_insert_with(|| TopicMetadata::clone(topic)).lead(
                update.partition,
                update.leader,
                update.leader_epoch,
            );
            if let Some(node) = described {
                changes.nodes |= next.describe(node);
            }
        }
        changes.topics = changed.into_values().map(Arc::new).collect();
        if !changes.is_empty() {
            next.topics
                .extend(changes.topics.iter().map(|topic| (topic.name.clone(), topic.clone())));
            next.version += 1;
            self.cluster = Arc::new(next);
        }
        changes
    }
}

impl Answer {
    /// Why the whole answer counts as a failure.
    fn failure(&self) -> Option<Error> {
        let error = if self.error != 0 {
            let code = i32::from(self.error);
            Error::new(code, format!("the broker refused the metadata request with code {code}"))
        } else if self.nodes.is_empty() {
            Error::new(
                status::PROTOCOL,
                "the metadata names no brokers: the broker is starting or cut off from its cluster",
            )
        } else {
            return None;
        };
        Some(error.with(crate::error::RETRIABLE))
    }
}
