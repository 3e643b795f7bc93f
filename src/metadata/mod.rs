//! Which topics are in use, what is known of them, and when to ask again.
//!
//! Callers ask for topics ([`Metadata::try_topic`]) and read snapshots; the network thread asks
//! when a request is due ([`Metadata::request_due`]), sends it and hands in the answer. One lock
//! guards what is in use; another, held for the time of a clone, the snapshot; neither while a
//! request is under way or while anybody waits. Waiting is the caller's: [`Metadata::signal`] moves
//! with every answer and every failure.
//!
//! Only topics in use are asked for, one request at a time. New topics at once and alone,
//! everything at `metadata.max.age.ms`. A request that failed or brought nothing new puts the next
//! one off, longer each time (KIP-580, KIP-867's limits). The last good snapshot stays whatever the
//! answers are. KIP-526 (idle topics), KIP-320, KIP-516, KIP-951 (leaders named in Produce
//! responses).

mod cluster;
mod interest;
mod merge;
mod state;

pub use cluster::{Cluster, Node, PartitionInfo, PartitionMetadata, TopicMetadata};
pub use state::{Changes, LeaderUpdate, MetadataConfig, MetadataRequestSpec};

use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::log::{Level, Logger};
use crate::protocol::messages::metadata::MetadataResponse;
use crate::rng::Rng;
use crate::sync::{Signal, Wake, lock};
use merge::Answer;
use state::State;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What a caller gets to know of a topic.
#[derive(Debug, Clone)]
pub enum TopicState {
    /// Its partitions are known.
    Known(Arc<TopicMetadata>),
    /// The cluster refuses it, or nothing can be asked any more; waiting won't help.
    Failed(Error),
    /// It has been asked for; wait for [`Metadata::signal`] and look again.
    Pending,
}

/// The shared view of the cluster.
pub struct Metadata {
    config: MetadataConfig,
    state: Mutex<State>,
    current: Mutex<Arc<Cluster>>,
    version: AtomicU64,
    signal: Signal,
    waker: Mutex<Option<Arc<dyn Wake>>>,
    rng: Arc<Rng>,
    logger: Logger,
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metadata").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl Metadata {
    /// Knows nothing yet; the first request, for the brokers alone, is due at once.
    pub fn new(config: MetadataConfig, rng: Arc<Rng>, logger: Logger) -> Metadata {
        Metadata {
            config,
            state: Mutex::new(State::default()),
            current: Mutex::default(),
            version: AtomicU64::new(0),
            signal: Signal::default(),
            waker: Mutex::new(None),
            rng,
            logger,
        }
    }

    /// Who is woken when a caller asks for a topic that is not known.
    pub fn set_waker(&self, waker: Arc<dyn Wake>) {
        *lock(&self.waker) = Some(waker);
    }

    /// The cluster as it is known now.
    pub fn snapshot(&self) -> Arc<Cluster> {
        lock(&self.current).clone()
    }

    /// The snapshot's version: a number to compare a cached snapshot with, without a lock.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Moves when something was answered or has failed.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// A topic's partitions, and notes that it is in use. Asks for them if they are not known, and
    /// again if a refusal is old; never waits. Callers.
    pub fn try_topic(&self, topic: &str, now: Instant) -> TopicState {
        let (found, asks) = lock(&self.state).look_up(topic, &self.config, now);
        if asks {
            self.wake();
        }
        found
    }

    fn wake(&self) {
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Notes that a topic is still in use: topics unused for `metadata.max.idle.ms` are forgotten
    /// with the next refresh. Once per batch is often enough. Any thread.
    pub fn touch(&self, topic: &str, now: Instant) {
        lock(&self.state).touch(topic, now);
    }

    /// Why a topic is not known yet: its last answer, or the last failure to ask. For the message
    /// of who gave up waiting.
    pub fn last_error(&self, topic: &str) -> Option<Error> {
        lock(&self.state).last_error(topic)
    }

    /// What is wrong with a topic itself, by its last answer.
    pub fn topic_error(&self, topic: &str) -> Option<Error> {
        lock(&self.state).topic_error(topic)
    }

    /// Asks for all topics in use and the brokers: a connection was lost, a broker answered that it
    /// is the wrong one.
    pub fn request_update(&self) {
        lock(&self.state).want_all();
    }

    /// Asks for one topic: records wait for it or for one of its leaders. Notes that it is in use.
    /// Network thread.
    pub fn request_update_of(&self, topic: &str, now: Instant) {
        lock(&self.state).want(topic, now);
    }

    /// Asks for one topic anew, known or not, and gives the count of [`Metadata::answers`] with
    /// which an answer to this question will have come, or the attempt to get one will have failed.
    /// Callers.
    pub fn refresh(&self, topic: &str, now: Instant) -> u64 {
        let wanted = {
            let mut state = lock(&self.state);
            state.want(topic, now);
            // An answer under way may be older than the question.
            state.answers + if state.is_asking() { 2 } else { 1 }
        };
        self.wake();
        wanted
    }

    /// Answers and failures to get one so far.
    pub fn answers(&self) -> u64 {
        lock(&self.state).answers
    }

    /// A connection was lost, or none could be made: leaders may have moved, and callers who give
    /// up waiting want to know why. Network thread.
    pub fn disconnected(&self, error: Error) {
        lock(&self.state).disconnected(error);
        self.signal.notify();
    }

    /// When [`Metadata::request_due`] has something next; [`Instant::NEVER`] while a request is
    /// under way.
    pub fn next_due(&self) -> Instant {
        lock(&self.state).next_due(&self.config)
    }

    /// The request to send now, if one is due. Call it when a broker can take it: each one given
    /// must be followed by one [`Metadata::on_response`] or [`Metadata::on_failure`], and there is
    /// no other until then. Network thread.
    pub fn request_due(&self, now: Instant) -> Option<MetadataRequestSpec> {
        lock(&self.state).request(&self.config, now)
    }

    /// Takes an answer in. An error means that the request counts as failed and nothing has
    /// changed. Network thread.
    pub fn on_response(&self, response: &MetadataResponse, now: Instant) -> Result<Changes> {
        let answer = Answer::from(response);
        let outcome = {
            let mut state = lock(&self.state);
            let outcome = state.answered(&answer, &self.config, &self.rng, now);
            if outcome.is_ok() {
                self.publish(&state.cluster);
            }
            outcome
        };
        self.signal.notify();
        self.report(&outcome);
        outcome
    }

    /// The request could not be sent or brought no answer; it will be due again after a backoff.
    /// Network thread.
    pub fn on_failure(&self, now: Instant, error: Error) {
        lock(&self.state).failed(error, &self.config, &self.rng, now);
        self.signal.notify();
    }

    /// Leaders that a Produce response names (KIP-951), with the brokers it describes. A leader is
    /// taken if its epoch is newer than the one known and its node is known or described; the
    /// others are left to the next request. Network thread.
    pub fn update_leaders(&self, leaders: &[LeaderUpdate<'_>], endpoints: &[Node]) -> Changes {
        let mut state = lock(&self.state);
        let changes = state.lead(leaders, endpoints);
        self.publish(&state.cluster);
        changes
    }

    /// Nothing can be asked any more, or not before something is put right: everyone who waits for
    /// a topic that is not known gets `error`, until an answer arrives.
    pub fn fail_all(&self, error: Error) {
        lock(&self.state).fail_all(error);
        self.signal.notify();
    }

    /// Called under the state's lock, so that snapshots become visible in order.
    fn publish(&self, cluster: &Arc<Cluster>) {
        *lock(&self.current) = cluster.clone();
        let before = self.version.swap(cluster.version, Ordering::Release);
        debug_assert!(before <= cluster.version, "snapshots go forward");
    }

    fn report(&self, outcome: &Result<Changes>) {
        match outcome {
            Ok(changes) => {
                for warning in &changes.warnings {
                    self.logger.log(Level::Warning, "metadata", || warning.to_string());
                }
            }
            Err(error) => self.logger.log(Level::Warning, "metadata", || error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
