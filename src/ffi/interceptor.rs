//! The user's interceptors: their table, and the way from the core to it.
//!
//! `on_send` runs on the threads that send, `on_acknowledgement` where outcomes are taken, both
//! with no lock held. The record that C may change is a copy in the send's arena, with its headers;
//! what comes back is checked like a record that C sends. What an acknowledgement lends is used
//! again, so that nothing is allocated per record.

use super::callbacks::UserData;
use super::config::producer_config_t;
use super::lent::Lent;
use super::record::{self, lend_headers, take_back};
use super::serializer::producer_arena_t;
use super::status::producer_status_t;
use super::table::{self, Table};
use super::types::*;
use crate::config::ProducerConfig;
use crate::error::{Error, Result, status, status_name};
use crate::interceptors::{Acknowledgement, Interceptor};
use crate::record::ProducerRecord;
use crate::serializer::Arena;
use crate::sync::lock;
use std::ffi::c_void;
use std::ptr;
use std::slice;
use std::sync::Mutex;

/// Watches, and may change, every record. Every function may be NULL; none may throw or longjmp.
/// Interceptors run in the order they were added; one that fails is logged, and the others go on
/// with the record as it was before. A record with PRODUCER_RECORD_AS_IS skips on_send; its
/// acknowledgement is told like any other's.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct producer_interceptor_t {
    /// sizeof(producer_interceptor_t), as you compiled it.
    pub struct_size: usize,
    /// Passed to the functions; may be NULL. Must outlive the producer.
    pub user_data: *mut c_void,
    /// Once, inside producer_new(): read `interceptor.*` keys with producer_config_get(). `config`
    /// and what it gives are valid until this returns. Anything but PRODUCER_OK fails
    /// producer_new().
    pub configure: Option<
        unsafe extern "C-unwind" fn(
            config: *const producer_config_t,
            user_data: *mut c_void,
        ) -> producer_status_t,
    >,
    /// Once per record, inside the function that sends it and on its thread, before the
    /// serializers; calls of several threads overlap. May repoint any field of `record` but topic,
    /// to memory that outlives the send: its own, or producer_arena_alloc()'s. Anything but
    /// PRODUCER_OK, a changed topic, or a record that could not be sent undoes what it changed.
    /// Nothing waits in here, and to send gives PRODUCER_ERR_WOULD_DEADLOCK.
    pub on_send: Option<
        unsafe extern "C-unwind" fn(
            record: *mut producer_record_t,
            arena: *mut producer_arena_t,
            user_data: *mut c_void,
        ) -> producer_status_t,
    >,
    /// Every record that passed on_send, once, with its outcome: on the callback thread or inside
    /// producer_poll(), just before the delivery is yours; inside producer_send_sync(); or, for a
    /// record that was refused, inside the function that refused it, with partition -1 if none was
    /// chosen and the stage PRODUCER_STAGE_REFUSED. A refused producer_try_send() is a call like
    /// any other: when the record is sent again, so is this. producer_delivery_next() gives the
    /// records, of successes too.
    pub on_acknowledgement: Option<
        unsafe extern "C-unwind" fn(delivery: *const producer_delivery_t, user_data: *mut c_void),
    >,
    /// Once per producer, last of all: in producer_close(), in poll mode in the producer_poll()
    /// that gives PRODUCER_ERR_CLOSED, at the latest in producer_free(). Also where producer_new()
    /// fails after configure succeeded.
    pub on_close: Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>,
}

// SAFETY: a size, a pointer, and functions that may be NULL.
unsafe impl Table for producer_interceptor_t {
    const NAME: &'static str = "producer_interceptor_t";
    const LEAST: usize = size_of::<producer_interceptor_t>();
}

/// An interceptor as a config keeps it.
#[derive(Debug, Clone, Copy)]
pub(super) struct InterceptorTable {
    table: producer_interceptor_t,
    user_data: UserData,
}

// SAFETY: the pointer among the functions is that of the user data, and never followed here.
unsafe impl Send for InterceptorTable {}
// SAFETY: the same.
unsafe impl Sync for InterceptorTable {}

impl InterceptorTable {
    /// # Safety
    /// As in `convert.rs`, for as many bytes as the table says that it has.
    pub(super) unsafe fn read(table: *const producer_interceptor_t) -> Result<InterceptorTable> {
        // SAFETY: the caller's promise.
        let table = unsafe { table::read(table, "interceptor")? };
        Ok(InterceptorTable { table, user_data: UserData(table.user_data) })
    }

    /// The interceptor of one producer.
    pub(super) fn interceptor(self) -> InterceptorTrampoline {
        InterceptorTrampoline { to: self, lent: Mutex::default() }
    }
}

/// A producer's way to an interceptor.
pub(super) struct InterceptorTrampoline {
    to: InterceptorTable,
    /// Taken while it is in use: acknowledgements may be told on several threads at once.
    lent: Mutex<Lent>,
}

impl Interceptor for InterceptorTrampoline {
    fn configure(&self, config: &ProducerConfig) -> Result<()> {
        let Some(configure) = self.to.table.configure else { return Ok(()) };
        let config = producer_config_t::of(config.clone());
        // SAFETY: C gave the function for this, and promised that the user data lives as long as
        // the producer.
        let answer = unsafe { configure(&raw const config, self.to.user_data.0) };
        accepted(answer, status::INVALID_CONFIG)
    }

    fn on_send<'a>(
        &self,
        record: ProducerRecord<'a>,
        arena: &'a Arena,
    ) -> Result<ProducerRecord<'a>> {
        let Some(on_send) = self.to.table.on_send else { return Ok(record) };
        let headers = lend_headers(record.headers, arena)?;
        let mut lent = record::lend(&record, headers);
        let arena_of_c = ptr::from_ref(arena).cast::<producer_arena_t>().cast_mut();
        // SAFETY: as above; the arena is only ever read through, as its functions want it.
        let answer = unsafe { on_send(&raw mut lent, arena_of_c, self.to.user_data.0) };
        accepted(answer, status::INVALID_ARGUMENT)?;
        // SAFETY: C promised that what the record points to outlives the send.
        unsafe { take_back(&lent, &record, headers, arena) }
    }

    fn wants_acknowledgements(&self) -> bool {
        self.to.table.on_acknowledgement.is_some()
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        let Some(on_acknowledgement) = self.to.table.on_acknowledgement else { return };
        let mut lent = std::mem::take(&mut *lock(&self.lent));
        // SAFETY: as above; what is lent is valid until the call returns.
        let tell = |view| unsafe { on_acknowledgement(&raw const view, self.to.user_data.0) };
        match acknowledgement {
            Acknowledgement::Delivered(delivery) => lent.lend(slice::from_ref(*delivery), tell),
            Acknowledgement::Refused(refused) => lent.lend_refused(refused, tell),
        }
        lent.clear();
        *lock(&self.lent) = lent;
    }

    fn on_close(&self) {
        if let Some(on_close) = self.to.table.on_close {
            // SAFETY: as above.
            unsafe { on_close(self.to.user_data.0) };
        }
    }
}

/// What a function of C's returned.
fn accepted(answer: producer_status_t, failure: producer_status_t) -> Result<()> {
    if answer == status::OK {
        return Ok(());
    }
    let name = status_name(answer).to_string_lossy();
    Err(Error::new(failure, format!("it returned {answer} ({name})")))
}
