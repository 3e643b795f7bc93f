//! Interceptors: what users plug in around every record.
//!
//! The chain runs [`Interceptor::on_send`] on the thread that sends, before the serializers, and
//! [`Interceptor::on_acknowledgement`] where outcomes are reported, before the user gets them: on
//! the callback thread, inside `producer_poll()`, or, for a record that was refused or sent
//! synchronously, on the thread that sends it. No lock is held meanwhile. Interceptors run in the
//! order they were added; one that fails is logged, and the chain goes on with the last good
//! record. KIP-42, KIP-512.

use crate::config::ProducerConfig;
use crate::defects::{self, Defect};
use crate::delivery::{Delivery, DeliverySink};
use crate::error::{Error, Result, Status};
use crate::log::{Level, Logger};
use crate::record::{ProducerRecord, Tag};
use crate::serializer::Arena;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Watches, and may change, every record. Calls from several threads overlap.
pub trait Interceptor: Send + Sync {
    /// Once, before the producer exists; an error is that of the producer's making.
    fn configure(&self, _config: &ProducerConfig) -> Result<()> {
        Ok(())
    }

    /// The record to send in place of this one, with the same topic. What it points to lives on
    /// until the send returns: the arena does.
    fn on_send<'a>(
        &self,
        record: ProducerRecord<'a>,
        _arena: &'a Arena,
    ) -> Result<ProducerRecord<'a>> {
        Ok(record)
    }

    /// Whether [`Interceptor::on_acknowledgement`] does anything: if so, records are kept until
    /// then.
    fn wants_acknowledgements(&self) -> bool {
        true
    }

    /// The outcome of records that `on_send` saw: each exactly once, accepted or refused.
    fn on_acknowledgement(&self, _acknowledgement: &Acknowledgement<'_>) {}

    /// Last of all, once per producer whose `configure` succeeded.
    fn on_close(&self) {}
}

/// What became of records.
#[derive(Debug, Clone, Copy)]
pub enum Acknowledgement<'a> {
    /// Records that a send accepted.
    Delivered(&'a Delivery),
    /// One that it refused.
    Refused(&'a Refused<'a>),
}

/// A record that a send refused after it was intercepted: no delivery will have it.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// The record as far as it got.
    pub record: &'a ProducerRecord<'a>,
    /// Whether key and value are serialized.
    pub serialized: bool,
    /// What the caller is told.
    pub error: &'a Error,
}

impl Acknowledgement<'_> {
    /// The topic.
    pub fn topic(&self) -> &str {
        match self {
            Acknowledgement::Delivered(delivery) => &delivery.topic,
            Acknowledgement::Refused(refused) => refused.record.topic,
        }
    }

    /// The partition, -1 if none was chosen.
    pub fn partition(&self) -> i32 {
        match self {
            Acknowledgement::Delivered(delivery) => delivery.partition,
            Acknowledgement::Refused(refused) => refused.record.partition.unwrap_or(-1),
        }
    }

    /// 0, or why the records failed.
    pub fn status(&self) -> Status {
        match self {
            Acknowledgement::Delivered(delivery) => delivery.status,
            Acknowledgement::Refused(refused) => refused.error.status,
        }
    }

    /// The records' tags, in order; never empty.
    pub fn tags(&self) -> &[Tag] {
        match self {
            Acknowledgement::Delivered(delivery) => delivery.tags(),
            Acknowledgement::Refused(refused) => slice::from_ref(&refused.record.tag),
        }
    }

    /// Record i is at this offset + i; -1 if unknown.
    pub fn base_offset(&self) -> i64 {
        match self {
            Acknowledgement::Delivered(delivery) => delivery.base_offset,
            Acknowledgement::Refused(_) => -1,
        }
    }
}

struct Link {
    interceptor: Arc<dyn Interceptor>,
    failures: AtomicU64,
}

/// A producer's interceptors, in the order they run.
pub struct Interceptors {
    chain: Box<[Link]>,
    logger: Logger,
}

impl Interceptors {
    /// A chain; not configured yet.
    pub fn new(chain: Vec<Arc<dyn Interceptor>>, logger: Logger) -> Interceptors {
        let link = |interceptor| Link { interceptor, failures: AtomicU64::new(0) };
        Interceptors { chain: chain.into_iter().map(link).collect(), logger }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// Whether any of them looks at outcomes.
    pub fn want_acknowledgements(&self) -> bool {
        self.chain.iter().any(|link| link.interceptor.wants_acknowledgements())
    }

    /// Configures one after another. When one fails, those before it are closed.
    pub fn configure(&self, config: &ProducerConfig) -> Result<()> {
        for (at, link) in self.chain.iter().enumerate() {
            let configure = || link.interceptor.configure(config);
            let outcome = catch_unwind(AssertUnwindSafe(configure));
            let error = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(_) => Error::new(crate::error::status::PANIC, "it panicked"),
            };
            self.close_first(at);
            let message = format!("{}: configure failed: {}", self.name(at), error.message);
            return Err(Error { message: message.into(), ..error });
        }
        Ok(())
    }

    /// The record as the chain leaves it.
    pub fn on_send<'a>(&self, record: ProducerRecord<'a>, arena: &'a Arena) -> ProducerRecord<'a> {
        let mut last_good = record;
        for (at, link) in self.chain.iter().enumerate() {
            let on_send = || link.interceptor.on_send(last_good, arena);
            let problem = match catch_unwind(AssertUnwindSafe(on_send)) {
                Ok(Ok(changed)) if changed.topic == record.topic => {
                    last_good = changed;
                    continue;
                }
                Ok(Ok(_)) => "it changed the topic, which must stay; its record is dropped".into(),
                Ok(Err(error)) => error.message,
                Err(_) => "it panicked".into(),
            };
            if defects::on(Defect::ForgetLastGood) {
                last_good = record;
            }
            self.failed(at, "on_send", || problem.into_owned());
        }
        last_good
    }

    /// Tells all of them what became of records.
    pub fn acknowledge(&self, acknowledgement: &Acknowledgement<'_>) {
        for (at, link) in self.chain.iter().enumerate() {
            let tell = || link.interceptor.on_acknowledgement(acknowledgement);
            if catch_unwind(AssertUnwindSafe(tell)).is_err() {
                self.failed(at, "on_acknowledgement", || "it panicked".into());
            }
        }
    }

    /// Tells all of them that it is over.
    pub fn close(&self) {
        self.close_first(self.chain.len());
    }

    fn close_first(&self, count: usize) {
        for (at, link) in self.chain.iter().enumerate().take(count) {
            if catch_unwind(AssertUnwindSafe(|| link.interceptor.on_close())).is_err() {
                self.failed(at, "on_close", || "it panicked".into());
            }
        }
    }

    /// Logs a failure: the first of an interceptor, and each time that their number has doubled.
    #[cold]
    fn failed(&self, at: usize, what: &str, problem: impl FnOnce() -> String) {
        let Some(link) = self.chain.get(at) else { return };
        let failures = link.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures.is_power_of_two() {
            self.logger.log(Level::Warning, "interceptors", || {
                let times = match failures {
                    1 => String::new(),
                    _ => format!(" ({failures} failures so far)"),
                };
                format!("{}: {what} failed: {}{times}", self.name(at), problem())
            });
        }
    }

    fn name(&self, at: usize) -> String {
        format!("interceptor {} of {}", at + 1, self.chain.len())
    }
}

impl DeliverySink for Interceptors {
    fn deliver(&self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            self.acknowledge(&Acknowledgement::Delivered(delivery));
        }
    }
}
