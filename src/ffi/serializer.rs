//! The user's serializers: their table, the way from the core to it, and the memory that it and
//! interceptors may use.

use super::callbacks::UserData;
use super::convert::{bytes, invalid};
use super::guard_value;
use super::status::producer_status_t;
use super::table::{self, Table};
use super::types::*;
use crate::error::{Error, Result, status, status_name};
use crate::serializer::{Arena, Serializer};
use std::ffi::c_void;
use std::ptr;

/// The library's: memory for one record, from the send's begin to its return. One thread at a time.
pub struct producer_arena_t {
    _opaque: [u8; 0],
}

/// Turns what is in a record's key or value into the bytes to send. Its functions must not throw or
/// longjmp. A record with PRODUCER_RECORD_AS_IS skips it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct producer_serializer_t {
    /// sizeof(producer_serializer_t), as you compiled it.
    pub struct_size: usize,
    /// Passed to the functions; may be NULL. Must outlive the producer.
    pub user_data: *mut c_void,
    /// Inside the function that sends and on its thread, after the interceptors; calls of several
    /// threads overlap. `input` is the record's slice as it was passed: its data may point to any
    /// object. Set `output`, null before, to memory that outlives the send: the input,
    /// its own, or producer_arena_alloc()'s. Anything but PRODUCER_OK fails the record with
    /// PRODUCER_ERR_SERIALIZATION. Nothing waits in here, and to send gives
    /// PRODUCER_ERR_WOULD_DEADLOCK.
    pub serialize: Option<
        unsafe extern "C-unwind" fn(
            topic: producer_slice_t,
            input: producer_slice_t,
            output: *mut producer_slice_t,
            arena: *mut producer_arena_t,
            user_data: *mut c_void,
        ) -> producer_status_t,
    >,
    /// Once per producer, last of all, after the interceptors'. May be NULL. Not called where
    /// producer_new() fails.
    pub on_close: Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>,
}

// SAFETY: a size, a pointer, and functions that may be NULL.
unsafe impl Table for producer_serializer_t {
    const NAME: &'static str = "producer_serializer_t";
    const LEAST: usize = size_of::<producer_serializer_t>();
}

/// A serializer as a config keeps it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SerializerTable {
    serialize: unsafe extern "C-unwind" fn(
        producer_slice_t,
        producer_slice_t,
        *mut producer_slice_t,
        *mut producer_arena_t,
        *mut c_void,
    ) -> producer_status_t,
    on_close: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
    user_data: UserData,
}

impl SerializerTable {
    /// # Safety
    /// As in `convert.rs`, for as many bytes as the table says that it has.
    pub(super) unsafe fn read(table: *const producer_serializer_t) -> Result<SerializerTable> {
        // SAFETY: the caller's promise.
        let table = unsafe { table::read(table, "serializer")? };
        let serialize = table
            .serialize
            .ok_or_else(|| invalid("serializer->serialize", "is NULL: pass a function"))?;
        let user_data = UserData(table.user_data);
        Ok(SerializerTable { serialize, on_close: table.on_close, user_data })
    }
}

impl Serializer for SerializerTable {
    fn serialize<'a>(
        &self,
        topic: &str,
        input: Option<&'a [u8]>,
        arena: &'a Arena,
    ) -> Result<Option<&'a [u8]>> {
        let topic = producer_slice_t::of(topic.as_bytes());
        let input = producer_slice_t::of_option(input);
        let mut output = producer_slice_t::NULL;
        let arena = ptr::from_ref(arena).cast::<producer_arena_t>().cast_mut();
        // SAFETY: C gave the function for this, and promised that the user data lives as long as
        // the producer; the arena is only ever read through, as its functions want it.
        let answer =
            unsafe { (self.serialize)(topic, input, &raw mut output, arena, self.user_data.0) };
        if answer != status::OK {
            let name = status_name(answer).to_string_lossy();
            return Err(Error::new(
                status::SERIALIZATION,
                format!("it returned {answer} ({name})"),
            ));
        }
        // SAFETY: C promised that the output outlives the send.
        unsafe { bytes(output, "output") }
    }

    fn on_close(&self) {
        if let Some(on_close) = self.on_close {
            // SAFETY: as above.
            unsafe { on_close(self.user_data.0) };
        }
    }
}

/// For on_send and serialize: memory for any type, which lives until the send returns. NULL if it
/// is exhausted: a record may have about four times max.request.size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_arena_alloc(
    arena: *mut producer_arena_t,
    size: usize,
) -> *mut c_void {
    guard_value(ptr::null_mut(), || {
        // SAFETY: the header's contract: NULL, or the arena that the caller was just given.
        let arena = unsafe { arena.cast::<Arena>().cast_const().as_ref()? };
        arena.alloc(size).ok().map(|memory| memory.as_ptr().cast())
    })
}
