//! What users plug into a producer, around a record on its way: interceptors, then serializers,
//! then a partitioner.
//!
//! A producer without any has no [`Plugs`], and its sends test that once. Everything in here runs
//! on the thread that calls, with no lock held. A [`Gate`] counts the calls that may run user code,
//! so that `on_close` is the last of all: it waits for them.

use super::send::refuse_in_a_send;
use super::topics::without_last;
use super::{Options, Shared};
use crate::clock::{Clock, Instant, Reading};
use crate::config::{ProducerConfig, Settings};
use crate::defects::{self, Defect};
use crate::delivery::{DeliverySink, reentry};
use crate::error::{Error, Result, status};
use crate::interceptors::{Acknowledgement, Interceptors, Refused};
use crate::log::Logger;
use crate::partitioner::Partitioner;
use crate::record::ProducerRecord;
use crate::serializer::{Arena, Named, Serializer, Serializers, by_name};
use crate::sync::{Latch, Signal};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a record's interceptors and serializers may take from the arena beyond copies of it.
const ARENA_SLACK: usize = 64 << 10;

/// See the module's comment.
pub(crate) struct Plugs {
    interceptors: Arc<Interceptors>,
    serializers: Serializers,
    /// Asked in `partition.rs`; here to hear of the end.
    partitioner: Option<Arc<dyn Partitioner>>,
    gate: Gate,
    arena_limit: usize,
    /// Somebody closes them, or has.
    closing: AtomicBool,
    closed: Latch,
}

impl Plugs {
    /// What the options and the settings name; `None` if that is nothing.
    pub fn new(
        config: &ProducerConfig,
        settings: &Settings,
        options: &mut Options,
        logger: &Logger,
    ) -> Result<Option<Arc<Plugs>>> {
        let serializers = Serializers {
            key: serializer(
                config,
                ("key.serializer", &settings.key_serializer),
                options.key_serializer.take(),
            )?,
            value: serializer(
                config,
                ("value.serializer", &settings.value_serializer),
                options.value_serializer.take(),
            )?,
        };
        let chain = std::mem::take(&mut options.interceptors);
        let interceptors = Interceptors::new(chain, logger.clone());
        let partitioner = options.partitioner.clone();
        if interceptors.is_empty() && serializers.is_empty() && partitioner.is_none() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Plugs {
            interceptors: Arc::new(interceptors),
            serializers,
            partitioner,
            gate: Gate::default(),
            arena_limit: settings.max_request_size.saturating_mul(4).saturating_add(ARENA_SLACK),
            closing: AtomicBool::new(false),
            closed: Latch::default(),
        })))
    }

    /// Configures the interceptors. After an error nothing is left to close.
    pub fn configure(&self, config: &ProducerConfig) -> Result<()> {
        let _inside = reentry::enter();
        self.interceptors.configure(config)
    }

    /// Who has to hear of outcomes before the user, if anybody.
    pub fn watch(&self) -> Option<Arc<dyn DeliverySink>> {
        let wanted = self.interceptors.want_acknowledgements();
        wanted.then(|| Arc::clone(&self.interceptors) as Arc<dyn DeliverySink>)
    }

    /// There is no producer after all: what was configured hears of the end, once.
    pub fn undo(&self) {
        self.gate.shut();
        if !self.closing.swap(true, Ordering::AcqRel) {
            let _inside = reentry::enter();
            self.interceptors.close();
            self.closed.set();
        }
    }

    /// The end, once: who comes second waits for the first. False if calls were still running user
    /// code at the deadline.
    pub fn close(&self, clock: &Clock, deadline: Instant) -> bool {
        self.gate.shut();
        if !self.gate.wait_empty(clock, deadline) {
            return false;
        }
        if self.closing.swap(true, Ordering::AcqRel) {
            return self.closed.wait(clock, deadline);
        }
        {
            let _inside = reentry::enter();
            self.interceptors.close();
            self.serializers.close();
            if let Some(partitioner) = &self.partitioner {
                let _ = catch_unwind(AssertUnwindSafe(|| partitioner.close()));
            }
        }
        self.closed.set();
        true
    }

    fn intercept<'a>(&self, record: ProducerRecord<'a>, arena: &'a Arena) -> ProducerRecord<'a> {
        if record.as_is || self.interceptors.is_empty() {
            return record;
        }
        in_a_send(|| self.interceptors.on_send(record, arena))
    }

    fn serialize<'a>(
        &self,
        record: ProducerRecord<'a>,
        arena: &'a Arena,
    ) -> Result<ProducerRecord<'a>> {
        if record.as_is || self.serializers.is_empty() {
            return Ok(record);
        }
        in_a_send(|| self.serializers.serialize(record, arena))
    }

    /// Tells the interceptors of a record that is refused.
    #[cold]
    fn refused(&self, record: &ProducerRecord<'_>, serialized: bool, error: &Error) {
        if defects::on(Defect::RefuseUntold) {
            return;
        }
        let refused = Refused { record, serialized, error };
        in_a_send(|| self.interceptors.acknowledge(&Acknowledgement::Refused(&refused)));
    }

    /// A call that may run user code begins.
    fn enter(self: &Arc<Self>) -> Result<Pass> {
        refuse_in_a_send()?;
        let pass = self.gate.enter();
        let pass = pass.then(|| Pass(Arc::clone(self)));
        pass.ok_or_else(super::closed)
    }
}

/// While it lives, a call may run user code.
struct Pass(Arc<Plugs>);

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.gate.leave();
    }
}

/// Counts who is inside, until it is shut.
#[derive(Default)]
struct Gate {
    inside: AtomicUsize,
    shut: AtomicBool,
    left: Signal,
}

impl Gate {
    /// Counts one more; not if it is shut. Of this and [`Gate::shut`] one sees the other: both
    /// write, then read what the other wrote.
    fn enter(&self) -> bool {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let open = !self.shut.load(Ordering::SeqCst);
        if !open {
            self.leave();
        }
        open
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
        if self.shut.load(Ordering::SeqCst) {
            self.left.notify();
        }
    }

    fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    fn wait_empty(&self, clock: &Clock, deadline: Instant) -> bool {
        loop {
            let seen = self.left.generation();
            if self.inside.load(Ordering::SeqCst) == 0 || defects::on(Defect::EndTooEarly) {
                return true;
            }
            if !self.left.wait(seen, clock, deadline) {
                return self.inside.load(Ordering::SeqCst) == 0;
            }
        }
    }
}

impl Shared {
    /// Intercepts and serializes a record and passes it on, with the time of then. What refuses it,
    /// in here or in `then`, the interceptors are told, once.
    pub(super) fn plugged<T>(
        &self,
        record: &ProducerRecord<'_>,
        began: Reading,
        then: impl FnOnce(&mut ProducerRecord<'_>, Reading) -> Result<T>,
    ) -> Result<T> {
        let Some(plugs) = &self.plugs else { return then(&mut record.clone(), began) };
        let _pass = plugs.enter()?;
        Arena::with(plugs.arena_limit, |arena| {
            let record = plugs.intercept(*record, arena);
            let serialized = plugs
                .serialize(record, arena)
                .inspect_err(|error| plugs.refused(&record, false, error))?;
            let reading = self.clock.reading();
            // The record's own timeout counts from the call.
            let mut record = serialized.after_waiting(reading.mono.since(began.mono));
            then(&mut record, reading).inspect_err(|error| plugs.refused(&record, true, error))
        })
    }
}

/// Runs code of the user's in the middle of a send.
fn in_a_send<T>(f: impl FnOnce() -> T) -> T {
    let _inside = reentry::enter_in_a_send();
    without_last(f)
}

/// The serializer of one key: the user's own, or the one that is named.
fn serializer(
    config: &ProducerConfig,
    (key, name): (&str, &str),
    own: Option<Arc<dyn Serializer>>,
) -> Result<Option<Named>> {
    let function = match key {
        "key.serializer" => "producer_config_set_key_serializer()",
        _ => "producer_config_set_value_serializer()",
    };
    match own {
        Some(_) if config.is_set(key) => {
            let message = format!("{key}={name} contradicts {function}: leave one of them out");
            Err(Error::new(status::INVALID_CONFIG, message))
        }
        Some(serializer) => Ok(Some(Named { serializer, name: format!("the one of {function}") })),
        None => {
            Ok(by_name(name).map(|serializer| Named { serializer, name: format!("{key}={name}") }))
        }
    }
}
