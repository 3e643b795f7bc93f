//! What a caller looks up per record: the topic's partitions. A map for all threads, and per thread
//! the last topic, keyed by a producer id that is never reused and by the metadata's version: a run
//! of one topic costs one short compare.

use super::Shared;
use super::wait::Wait;
use crate::accumulator::front::Partition;
use crate::error::{Error, RETRIABLE, Result, status};
use crate::metadata::{PartitionInfo, TopicMetadata, TopicState};
use crate::partitioner::{StickyPartitionCache, Turns};
use crate::record::check_topic;
use crate::sync::lock;
use crossbeam::sync::ShardedLock;
use foldhash::fast::FixedState;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A topic in use: its partitions so far, and where keyless records go.
pub(super) struct Topic {
    pub name: Arc<str>,
    pub sticky: StickyPartitionCache,
    pub turns: Turns,
    /// Only with a partitioner of the user's.
    shown: Mutex<Option<Shown>>,
    /// By number. Only grows: a partition that vanishes keeps what is queued for it.
    partitions: Mutex<Arc<[Arc<Partition>]>>,
}

/// What a partitioner of the user's is shown of a topic, and the metadata that it was made of.
struct Shown {
    of: Arc<TopicMetadata>,
    infos: Arc<[PartitionInfo]>,
}

/// All topics in use.
pub(super) struct Topics {
    map: ShardedLock<HashMap<Arc<str>, Arc<Topic>, FixedState>>,
}

/// A topic as one version of the metadata has it.
pub(super) struct Resolved {
    producer: u64,
    version: u64,
    pub topic: Arc<Topic>,
    pub metadata: Arc<TopicMetadata>,
    pub partitions: Arc<[Arc<Partition>]>,
    /// The partitions as the user's partitioner sees them, if there is one.
    pub infos: Option<Arc<[PartitionInfo]>>,
}

thread_local! {
    static LAST: RefCell<Option<Resolved>> = const { RefCell::new(None) };
}

impl Resolved {
    /// Whether this is the topic `name` of that producer, as the metadata has it now.
    #[inline]
    fn is(&self, shared: &Shared, name: &str) -> bool {
        self.producer == shared.id
            && self.version == shared.metadata.version()
            && *self.topic.name == *name
    }

    /// The partition of this number, if there is one.
    #[inline]
    pub fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// Runs code of the user's that belongs to a send. The thread's last topic is out of its reach, so
/// that a send in there, to whichever producer, goes the long way and is refused.
pub(super) fn without_last<T>(f: impl FnOnce() -> T) -> T {
    let last = LAST.try_with(|last| last.take()).ok().flatten();
    let result = f();
    let _ = LAST.try_with(|slot| slot.replace(last));
    result
}

impl Topics {
    pub fn new() -> Topics {
        Topics { map: ShardedLock::new(HashMap::default()) }
    }

    fn topic(&self, shared: &Shared, name: &Arc<str>) -> Arc<Topic> {
        if let Some(topic) = self.map.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(topic);
        }
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let topic = map.entry(Arc::clone(name)).or_insert_with(|| {
            Arc::new(Topic {
                name: Arc::clone(name),
                sticky: StickyPartitionCache::new(
                    shared.settings.batch_size,
                    shared.choosing.sticking,
                ),
                turns: Turns::new(shared.rng.below(u64::MAX)),
                shown: Mutex::default(),
                partitions: Mutex::new(Arc::from([])),
            })
        });
        Arc::clone(topic)
    }
}

impl Topic {
    /// The partitions `metadata` has, made where they are new.
    fn partitions(&self, shared: &Shared, metadata: &TopicMetadata) -> Arc<[Arc<Partition>]> {
        let wanted = metadata.partitions.len();
        let mut partitions = lock(&self.partitions);
        if partitions.len() < wanted {
            let mut more = partitions.to_vec();
            for (index, partition) in (0..).zip(&metadata.partitions).skip(partitions.len()) {
                more.push(shared.accumulator.add_partition(&self.name, index, partition.leader));
            }
            *partitions = Arc::from(more);
        }
        if partitions.len() == wanted {
            return Arc::clone(&partitions);
        }
        // Created again with fewer partitions.
        partitions.iter().take(wanted).cloned().collect()
    }
}

impl Topic {
    /// The partitions of this metadata as the user's partitioner sees them: made once per change,
    /// for all threads.
    fn infos(&self, metadata: &Arc<TopicMetadata>) -> Arc<[PartitionInfo]> {
        let mut shown = lock(&self.shown);
        if let Some(shown) = &*shown
            && Arc::ptr_eq(&shown.of, metadata)
        {
            return Arc::clone(&shown.infos);
        }
        let infos: Arc<[PartitionInfo]> = Arc::from(metadata.infos());
        *shown = Some(Shown { of: Arc::clone(metadata), infos: Arc::clone(&infos) });
        infos
    }
}

impl Shared {
    /// Runs `f` if the topic is this thread's last one; `None` if it is not, or `f` gives that.
    #[inline(always)]
    pub(super) fn with_last<T>(
        &self,
        name: &str,
        f: impl FnOnce(&Resolved) -> Option<T>,
    ) -> Option<T> {
        // At a thread's very end there is no last topic any more.
        let found = LAST.try_with(|last| match last.try_borrow().as_deref() {
            Ok(Some(resolved)) if resolved.is(self, name) => f(resolved),
            Ok(_) | Err(_) => None,
        });
        found.ok().flatten()
    }

    /// Runs `f` with the topic resolved, waiting for its metadata within `wait`.
    pub(super) fn with_topic<T>(
        &self,
        name: &str,
        wait: &mut Wait,
        f: impl FnOnce(&Resolved, &mut Wait) -> Result<T>,
    ) -> Result<T> {
        // While it is out, a send inside the user's code (a partitioner's) does not find it, goes
        // the long way, and is refused there.
        let last = LAST.try_with(|last| last.take()).ok().flatten();
        let resolved = match last {
            Some(resolved) if resolved.is(self, name) => resolved,
            Some(_) | None => self.resolve(name, wait)?,
        };
        let result = f(&resolved, wait);
        let _ = LAST.try_with(|last| last.replace(Some(resolved)));
        result
    }

    fn resolve(&self, name: &str, wait: &mut Wait) -> Result<Resolved> {
        // Read before the topic: a version that is too old makes the next record look again, never
        // the reverse.
        let version = self.metadata.version();
        let metadata = self.topic_metadata(name, wait)?;
        let topic = self.topics.topic(self, &metadata.name);
        let partitions = topic.partitions(self, &metadata);
        let infos = self.choosing.own.is_some().then(|| topic.infos(&metadata));
        Ok(Resolved { producer: self.id, version, topic, metadata, partitions, infos })
    }

    /// A topic's metadata, waiting for it within `wait`.
    pub(super) fn topic_metadata(&self, name: &str, wait: &mut Wait) -> Result<Arc<TopicMetadata>> {
        check_topic(name.as_bytes())?;
        loop {
            let seen = self.metadata.signal().generation();
            match self.metadata.try_topic(name, self.clock.now()) {
                TopicState::Known(topic) => return Ok(topic),
                TopicState::Failed(error) => return Err(error),
                TopicState::Pending => {}
            }
            self.check_open()?;
            if wait.is_never() {
                self.deliveries.want_retry();
                // An answer that came before this was noted nudges nobody.
                return match self.metadata.try_topic(name, self.clock.now()) {
                    TopicState::Known(topic) => Ok(topic),
                    TopicState::Failed(error) => Err(error),
                    TopicState::Pending => Err(pending(name)),
                };
            }
            wait.check("the topic's metadata")?;
            if !wait.on(self.metadata.signal(), seen, &self.clock) {
                return Err(self.no_metadata(name, wait));
            }
            self.check_open()?;
        }
    }

    /// What a wait for metadata says when it was in vain: the last error names the cause.
    fn no_metadata(&self, name: &str, wait: &Wait) -> Error {
        let budget = wait.budget.as_millis();
        let message = match self.metadata.last_error(name) {
            Some(error) => {
                format!("topic {name}: no metadata within {budget} ms: {}", error.message)
            }
            None => format!(
                "topic {name}: no metadata within {budget} ms: no broker of bootstrap.servers={} \
                has answered",
                self.settings.bootstrap()
            ),
        };
        Error::new(status::TIMED_OUT, message).with(RETRIABLE)
    }
}

/// What a call says that may not wait for a topic's partitions.
fn pending(name: &str) -> Error {
    let message = format!(
        "topic {name}: its partitions are not known yet; the request is on its way, try again"
    );
    Error::new(status::METADATA_PENDING, message).with(RETRIABLE)
}
