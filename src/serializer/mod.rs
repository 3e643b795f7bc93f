//! Serializers: from what is in a record's key or value to the bytes that are sent.
//!
//! They run on the thread that sends, after the interceptors and before the partitioner, with no
//! lock held. [`by_name`] knows those that come with the library; a user's own is a [`Serializer`].
//! What they make lies in the thread's [`Arena`] until the record is in its batch. A producer that
//! sends bytes as they are has none and pays nothing.

pub mod arena;
mod builtin;
mod json;

pub use arena::Arena;
pub use builtin::by_name;

use crate::error::{Error, Result, status};
use crate::record::ProducerRecord;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Turns a key or a value into bytes. Calls from several threads overlap.
///
/// Nothing waits in here. One that needs something first (a schema's id, from a registry) will say
/// so by one more method with a default, asked before [`Serializer::serialize`]: it gives the
/// [`crate::sync::Signal`] that a helper thread moves. The producer has no lock, no memory of the
/// pool and no partition when it gets here, so it can wait there within the call's `max.block.ms`,
/// say `WOULD_DEADLOCK` or `METADATA_PENDING` where a call may not, and ask again.
pub trait Serializer: Send + Sync {
    /// The bytes to send; `None` is null. `input` is what the record has. The output is the input,
    /// part of it, or memory of the arena.
    fn serialize<'a>(
        &self,
        topic: &str,
        input: Option<&'a [u8]>,
        arena: &'a Arena,
    ) -> Result<Option<&'a [u8]>>;

    /// Once per producer, when no record will come any more.
    fn on_close(&self) {}
}

/// One of a producer's two, with its name for messages: `key.serializer=int32`.
pub struct Named {
    /// The serializer.
    pub serializer: Arc<dyn Serializer>,
    /// What it is called.
    pub name: String,
}

/// A producer's serializers; without one the bytes go as they are.
#[derive(Default)]
pub struct Serializers {
    /// For keys.
    pub key: Option<Named>,
    /// For values.
    pub value: Option<Named>,
}

impl Serializers {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.key.is_none() && self.value.is_none()
    }

    /// The record with serialized key and value; key first, as in Java.
    pub fn serialize<'a>(
        &self,
        record: ProducerRecord<'a>,
        arena: &'a Arena,
    ) -> Result<ProducerRecord<'a>> {
        let topic = record.topic;
        let key = run(self.key.as_ref(), "key", topic, record.key, arena)?;
        let value = run(self.value.as_ref(), "value", topic, record.value, arena)?;
        Ok(ProducerRecord { key, value, ..record })
    }

    /// Tells both that it is over.
    pub fn close(&self) {
        for named in self.key.iter().chain(&self.value) {
            // One that panics must not keep the other from hearing of it.
            let _ = catch_unwind(AssertUnwindSafe(|| named.serializer.on_close()));
        }
    }
}

fn run<'a>(
    named: Option<&Named>,
    what: &str,
    topic: &str,
    input: Option<&'a [u8]>,
    arena: &'a Arena,
) -> Result<Option<&'a [u8]>> {
    let Some(Named { serializer, name }) = named else { return Ok(input) };
    let serialize = || serializer.serialize(topic, input, arena);
    let problem = match catch_unwind(AssertUnwindSafe(serialize)) {
        Ok(Ok(output)) => return Ok(output),
        Ok(Err(error)) => error.message,
        Err(_) => "it panicked".into(),
    };
    let message = format!("topic {topic}: the {what} was not serialized by {name}: {problem}");
    Err(Error::new(status::SERIALIZATION, message))
}
