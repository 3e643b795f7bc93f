//! The config's handle: key strings in `keys`, function pointers beside them.
//!
//! For one thread at a time, as the header says; nothing here is locked. It has no thread and no
//! descriptor, so that it stays usable in the child of a fork: a config made before, a producer per
//! process.

use super::callbacks::{
    DeliveryCallback, LogCallback, c_string, producer_delivery_fn, producer_log_fn,
};
use super::convert::{borrowed, borrowed_mut, invalid, text};
use super::interceptor::{InterceptorTable, producer_interceptor_t};
use super::partitioner::{PartitionerTable, producer_partitioner_t};
use super::serializer::{SerializerTable, producer_serializer_t};
use super::status::{producer_log_level_t, producer_status_t};
use super::types::producer_error_t;
use super::{guard, guard_value};
use crate::config::ProducerConfig;
use crate::delivery::DeliveryMode;
use crate::error::{Error, Result, status};
use crate::log::Level;
use crate::producer::Options;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;

/// More interceptors than a config has use for.
const MAX_INTERCEPTORS: usize = 64;

/// A configuration: yours from producer_config_new() to producer_config_free(). One thread at a
/// time may use it.
pub struct producer_config_t {
    pub(super) keys: ProducerConfig,
    deliveries: Deliveries,
    log: Option<(Level, LogCallback)>,
    partitioner: Option<PartitionerTable>,
    interceptors: Vec<InterceptorTable>,
    key_serializer: Option<SerializerTable>,
    value_serializer: Option<SerializerTable>,
    /// What producer_config_get() gave out since the last set, by key.
    lent: RefCell<BTreeMap<String, CString>>,
}

/// Where deliveries go.
#[derive(Clone, Copy)]
enum Deliveries {
    Nowhere,
    Callback(DeliveryCallback),
    Poll,
}

impl producer_config_t {
    /// What a producer made from this config gets beside the keys.
    pub(super) fn options(&self) -> Options {
        let delivery = match self.deliveries {
            Deliveries::Nowhere => DeliveryMode::None,
            Deliveries::Callback(callback) => DeliveryMode::Callback(Arc::new(callback.sink())),
            Deliveries::Poll => DeliveryMode::Poll,
        };
        let log = self.log.map(|(level, callback)| (level, Arc::new(callback) as Arc<_>));
        let interceptor = |table: &InterceptorTable| Arc::new(table.interceptor()) as Arc<_>;
        let serializer = |table: SerializerTable| Arc::new(table) as Arc<_>;
        Options {
            delivery,
            log,
            interceptors: self.interceptors.iter().map(interceptor).collect(),
            key_serializer: self.key_serializer.map(serializer),
            value_serializer: self.value_serializer.map(serializer),
            partitioner: self.partitioner.map(|table| Arc::new(table) as Arc<_>),
        }
    }

    /// A config of these keys, without functions.
    pub(super) fn of(keys: ProducerConfig) -> producer_config_t {
        producer_config_t {
            keys,
            deliveries: Deliveries::Nowhere,
            log: None,
            interceptors: Vec::new(),
            key_serializer: None,
            value_serializer: None,
            partitioner: None,
            lent: RefCell::default(),
        }
    }

    /// Decides where deliveries go; a callback and polling exclude each other.
    fn report_to(&mut self, deliveries: Deliveries) -> Result<()> {
        use Deliveries::{Callback, Nowhere, Poll};
        match (&self.deliveries, &deliveries) {
            (Callback(_), Poll) | (Poll, Callback(_)) => {
                let message = "deliveries go to a callback or to producer_poll(), not to both: \
                               choose one per config";
                Err(Error::new(status::INVALID_STATE, message))
            }
            (_, Nowhere | Callback(_) | Poll) => {
                self.deliveries = deliveries;
                Ok(())
            }
        }
    }
}

fn give(config: producer_config_t) -> *mut producer_config_t {
    Box::into_raw(Box::new(config))
}

/// # Safety
/// As in `convert.rs`.
unsafe fn live<'a>(config: *const producer_config_t) -> Result<&'a producer_config_t> {
    // SAFETY: the caller's promise.
    unsafe { borrowed(config, "config", "what producer_config_new() gave") }
}

/// # Safety
/// As in `convert.rs`, and nobody else uses the config.
unsafe fn live_mut<'a>(config: *mut producer_config_t) -> Result<&'a mut producer_config_t> {
    // SAFETY: the caller's promise.
    unsafe { borrowed_mut(config, "config", "what producer_config_new() gave") }
}

/// ---- Configuration ----
///
/// A configuration with every key at its default. NULL only after a panic inside.
#[unsafe(no_mangle)]
pub extern "C" fn producer_config_new() -> *mut producer_config_t {
    guard_value(ptr::null_mut(), || Some(give(producer_config_t::of(ProducerConfig::new()))))
}

/// A copy, callbacks included; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_config_clone(
    config: *const producer_config_t,
) -> *mut producer_config_t {
    guard_value(ptr::null_mut(), || {
        // SAFETY: the header's contract.
        let config = unsafe { live(config).ok()? };
        Some(give(producer_config_t {
            keys: config.keys.clone(),
            deliveries: config.deliveries,
            log: config.log,
            partitioner: config.partitioner,
            interceptors: config.interceptors.clone(),
            key_serializer: config.key_serializer,
            value_serializer: config.value_serializer,
            lent: RefCell::default(),
        }))
    })
}

/// Frees a config; producers made from it keep their copy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_config_free(config: *mut producer_config_t) {
    if !config.is_null() {
        // SAFETY: the header's contract: a handle, given back once.
        let config = unsafe { Box::from_raw(config) };
        guard_value((), || {
            drop(config);
            Some(())
        });
    }
}

/// Sets a key to a value, both as in Apache Kafka: "linger.ms", "5". CONFIGURATION.md lists the
/// keys. An unknown key or a bad value is PRODUCER_ERR_INVALID_CONFIG, and the config is unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_config_set(
    config: *mut producer_config_t,
    key: *const c_char,
    value: *const c_char,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        guard(error, || {
            let config = live_mut(config)?;
            let (key, value) = (text(key, "key")?, text(value, "value")?);
            config.keys.set(key, value)?;
            config.lent.get_mut().clear();
            Ok(())
        })
    }
}

/// The value of a key; NULL if there is no such key or it is a password. Lives until the next set
/// or free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_config_get(
    config: *const producer_config_t,
    key: *const c_char,
) -> *const c_char {
    guard_value(ptr::null(), || {
        // SAFETY: the header's contract.
        let (config, key) = unsafe { (live(config).ok()?, text(key, "key").ok()?) };
        let value = config.keys.get(key)?;
        let mut lent = config.lent.borrow_mut();
        // What was given out stays: the same key gives the same pointer until the next set.
        let text = lent.entry(key.to_owned()).or_insert_with(|| c_string(value.to_string()));
        Some(text.as_ptr())
    })
}

/// Reports deliveries to `callback`. With neither this nor polling, deliveries are dropped.
/// `user_data` may be NULL. PRODUCER_ERR_INVALID_STATE if producer_config_enable_poll() was called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_config_set_delivery_callback(
    config: *mut producer_config_t,
    callback: producer_delivery_fn,
    user_data: *mut c_void,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        guard(ptr::null_mut(), || {
            let config = live_mut(config)?;
            let callback =
                callback.ok_or_else(|| invalid("callback", "is NULL: pass a function"))?;
            config.report_to(Deliveries::Callback(DeliveryCallback::new(callback, user_data)))
        })
    }
}

/// Reports deliveries through producer_poll() instead of a callback.
/// PRODUCER_ERR_INVALID_STATE if producer_config_set_delivery_callback() was called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_config_enable_poll(
    config: *mut producer_config_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe { guard(ptr::null_mut(), || live_mut(config)?.report_to(Deliveries::Poll)) }
}

/// Passes log lines up to `max_level` to `callback`; without this nothing is logged anywhere.
/// `user_data` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_config_set_log_callback(
    config: *mut producer_config_t,
    max_level: producer_log_level_t,
    callback: producer_log_fn,
    user_data: *mut c_void,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        guard(ptr::null_mut(), || {
            let config = live_mut(config)?;
            let level = level(max_level)?;
            let callback =
                callback.ok_or_else(|| invalid("callback", "is NULL: pass a function"))?;
            config.log = Some((level, LogCallback::new(callback, user_data)));
            Ok(())
        })
    }
}

/// Adds an interceptor, which runs after those that were added before; 64 at most. The table is
/// copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_config_add_interceptor(
    config: *mut producer_config_t,
    interceptor: *const producer_interceptor_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        guard(ptr::null_mut(), || {
            let config = live_mut(config)?;
            let interceptor = InterceptorTable::read(interceptor)?;
            if config.interceptors.len() >= MAX_INTERCEPTORS {
                let what = "is one too many: a config takes 64 interceptors";
                return Err(invalid("interceptor", what));
            }
            config.interceptors.push(interceptor);
            Ok(())
        })
    }
}

/// Has `serializer` make bytes of keys, in place of key.serializer, which must not be set too. The
/// table is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_config_set_key_serializer(
    config: *mut producer_config_t,
    serializer: *const producer_serializer_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        guard(ptr::null_mut(), || {
            live_mut(config)?.key_serializer = Some(SerializerTable::read(serializer)?);
            Ok(())
        })
    }
}

/// The same for values and value.serializer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_config_set_value_serializer(
    config: *mut producer_config_t,
    serializer: *const producer_serializer_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        guard(ptr::null_mut(), || {
            live_mut(config)?.value_serializer = Some(SerializerTable::read(serializer)?);
            Ok(())
        })
    }
}

/// Has `partitioner` choose the partitions of records that have none of their own, in place of
/// partitioner.class, which must not be set too. The table is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_config_set_partitioner(
    config: *mut producer_config_t,
    partitioner: *const producer_partitioner_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        guard(ptr::null_mut(), || {
            let config = live_mut(config)?;
            config.partitioner = Some(PartitionerTable::read(partitioner)?);
            Ok(())
        })
    }
}

fn level(level: producer_log_level_t) -> Result<Level> {
    [Level::Error, Level::Warning, Level::Info, Level::Debug]
        .into_iter()
        .find(|known| *known as i32 == level)
        .ok_or_else(|| {
            invalid("max_level", format_args!("is {level}: pass a PRODUCER_LOG_* value"))
        })
}
