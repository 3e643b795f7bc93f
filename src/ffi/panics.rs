//! A defect in each exported function: it says so and the host lives; the handle takes no more
//! records, and what was sent before is reported.
#![cfg(all(feature = "mock", not(loom)))]

use super::config::*;
use super::handle::producer_t;
use super::mock::*;
use super::poll::*;
use super::producer::*;
use super::send::*;
use super::serializer::{producer_arena_alloc, producer_arena_t};
use super::status::*;
use super::types::*;
use crate::error::status;
use crate::serializer::Arena;
use crate::sync::trip::arm;
use std::collections::BTreeSet;
use std::ffi::{CStr, c_char, c_void};
use std::mem::zeroed;
use std::ptr::{self, null, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};

/// What has no body to fail in: constants, lookups in a table, and a drop that catches its own.
const NOT_GUARDED: &[&str] =
    &["producer_free", "producer_status_message", "producer_status_name", "producer_version"];

unsafe extern "C-unwind" fn count(
    deliveries: *const producer_delivery_t,
    count: usize,
    reported: *mut c_void,
) {
    // SAFETY: as the library promises to a callback; `reported` is the test's.
    let (deliveries, reported) =
        unsafe { (std::slice::from_raw_parts(deliveries, count), &*reported.cast::<AtomicU64>()) };
    for delivery in deliveries {
        reported.fetch_add(delivery.count.into(), Ordering::AcqRel);
    }
}

unsafe extern "C-unwind" fn no_line(
    _: producer_log_level_t,
    _: *const c_char,
    _: *const c_char,
    _: *mut c_void,
) {
}

fn slice(text: &'static str) -> producer_slice_t {
    producer_slice_t { data: text.as_ptr(), len: text.len() }
}

/// Handles, and places for what functions give.
struct Bench {
    config: *mut producer_config_t,
    producer: *mut producer_t,
    cluster: *mut producer_mock_cluster_t,
    record: producer_record_t,
    error: producer_error_t,
    reported: Box<AtomicU64>,
}

fn bench() -> Bench {
    // SAFETY: handles as they were made; zeros are legal in every struct of the header; strings are
    // NUL-terminated, and `reported` outlives the producer.
    unsafe {
        let mut bench = Bench {
            config: producer_config_new(),
            producer: null_mut(),
            cluster: null_mut(),
            record: zeroed(),
            error: zeroed(),
            reported: Box::default(),
        };
        bench.record.topic = slice("t");
        let error = &raw mut bench.error;
        assert_eq!(producer_mock_cluster_new(1, &raw mut bench.cluster, error), 0);
        let servers = producer_mock_cluster_bootstrap_servers(bench.cluster);
        let key = c"bootstrap.servers".as_ptr();
        assert_eq!(producer_config_set(bench.config, key, servers, error), 0);
        let (linger, ms) = (c"linger.ms".as_ptr(), c"0".as_ptr());
        assert_eq!(producer_config_set(bench.config, linger, ms, error), 0);
        let reported = std::ptr::from_ref(&*bench.reported).cast_mut().cast();
        assert_eq!(producer_config_set_delivery_callback(bench.config, Some(count), reported), 0);
        assert_eq!(producer_new(bench.config, &raw mut bench.producer, error), 0);
        assert_eq!(producer_send(bench.producer, &raw const bench.record, error), 0);
        assert_eq!(producer_flush(bench.producer, 30_000, error), 0);
        // The next one is in flight until the end, and one waits behind it.
        assert_eq!(producer_mock_cluster_set_broker(bench.cluster, 1, true, true, 0, 0), 0);
        for _ in 0..2 {
            assert_eq!(producer_send(bench.producer, &raw const bench.record, error), 0);
        }
        bench
    }
}

type Entry = (&'static str, fn(&mut Bench) -> bool);

/// Each exported function: whether it says what the header has for a failure. Those of the first
/// list are of a producer.
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one promise for all: live handles, places for what is given, texts that end"
)]
fn entries() -> (Vec<Entry>, Vec<Entry>) {
    const PANIC: i32 = status::PANIC;
    let of_a_producer: Vec<Entry> = vec![
        ("producer_close", |b| unsafe {
            producer_close(b.producer, 0, null_mut(), &raw mut b.error) == PANIC
        }),
        ("producer_flush", |b| unsafe { producer_flush(b.producer, 0, &raw mut b.error) == PANIC }),
        ("producer_purge", |b| unsafe { producer_purge(b.producer, slice("t"), -1) == PANIC }),
        ("producer_get_counters", |b| unsafe {
            producer_get_counters(b.producer, &mut zeroed()) == PANIC
        }),
        ("producer_partitions_for", |b| unsafe {
            let error = &raw mut b.error;
            let count = &mut zeroed();
            producer_partitions_for(b.producer, slice("t"), null_mut(), 0, 0, count, error) == PANIC
        }),
        ("producer_send", |b| unsafe {
            producer_send(b.producer, &raw const b.record, &raw mut b.error) == PANIC
        }),
        ("producer_try_send", |b| unsafe {
            producer_try_send(b.producer, &raw const b.record, &raw mut b.error) == PANIC
        }),
        ("producer_send_sync", |b| unsafe {
            let receipt = &mut zeroed();
            producer_send_sync(b.producer, &raw const b.record, 0, receipt, &raw mut b.error)
                == PANIC
        }),
        ("producer_send_batch", |b| unsafe {
            let accepted = &mut zeroed();
            producer_send_batch(b.producer, &raw const b.record, 1, 0, accepted, &raw mut b.error)
                == PANIC
        }),
        ("producer_send_columns", |b| unsafe {
            let (none, lens, accepted) = (zeroed(), null(), &mut zeroed());
            let (topic, error) = (slice("t"), &raw mut b.error);
            producer_send_columns(
                b.producer, topic, 0, none, lens, none, lens, 1, 0, 0, accepted, error,
            ) == PANIC
        }),
        ("producer_poll", |b| unsafe {
            producer_poll(b.producer, &mut zeroed(), 1, 0, &mut zeroed()) == PANIC
        }),
        ("producer_poll_fd", |b| unsafe { producer_poll_fd(b.producer) == -1 }),
    ];
    let others: Vec<Entry> = vec![
        ("producer_new", |b| unsafe {
            producer_new(b.config, &mut zeroed(), &raw mut b.error) == PANIC
        }),
        ("producer_delivery_next", |b| unsafe {
            let delivery: producer_delivery_t = zeroed();
            let (cursor, record) = (&mut zeroed(), &raw mut b.record);
            !producer_delivery_next(&raw const delivery, cursor, record)
        }),
        ("producer_config_new", |_| producer_config_new().is_null()),
        ("producer_config_clone", |b| unsafe { producer_config_clone(b.config).is_null() }),
        ("producer_config_free", |b| unsafe {
            // It is given back whatever happens then.
            producer_config_free(std::mem::replace(&mut b.config, null_mut()));
            true
        }),
        ("producer_config_get", |b| unsafe {
            producer_config_get(b.config, c"linger.ms".as_ptr()).is_null()
        }),
        ("producer_config_set", |b| unsafe {
            let (key, value) = (c"linger.ms".as_ptr(), c"1".as_ptr());
            producer_config_set(b.config, key, value, &raw mut b.error) == PANIC
        }),
        ("producer_config_set_delivery_callback", |b| unsafe {
            producer_config_set_delivery_callback(b.config, Some(count), null_mut()) == PANIC
        }),
        ("producer_config_set_log_callback", |b| unsafe {
            producer_config_set_log_callback(b.config, 0, Some(no_line), null_mut()) == PANIC
        }),
        ("producer_config_set_partitioner", |b| unsafe {
            producer_config_set_partitioner(b.config, null()) == PANIC
        }),
        ("producer_config_add_interceptor", |b| unsafe {
            producer_config_add_interceptor(b.config, null()) == PANIC
        }),
        ("producer_config_set_key_serializer", |b| unsafe {
            producer_config_set_key_serializer(b.config, null()) == PANIC
        }),
        ("producer_config_set_value_serializer", |b| unsafe {
            producer_config_set_value_serializer(b.config, null()) == PANIC
        }),
        ("producer_arena_alloc", |_| {
            Arena::with(0, |arena| unsafe {
                let arena = ptr::from_ref(arena).cast::<producer_arena_t>().cast_mut();
                producer_arena_alloc(arena, 1).is_null()
            })
        }),
        ("producer_config_enable_poll", |b| unsafe {
            producer_config_enable_poll(b.config) == PANIC
        }),
        ("producer_mock_cluster_new", |b| unsafe {
            producer_mock_cluster_new(1, &mut zeroed(), &raw mut b.error) == PANIC
        }),
        ("producer_mock_cluster_free", |b| unsafe {
            producer_mock_cluster_free(b.cluster);
            true
        }),
        ("producer_mock_cluster_bootstrap_servers", |b| unsafe {
            producer_mock_cluster_bootstrap_servers(b.cluster).is_null()
        }),
        ("producer_mock_cluster_create_topic", |b| unsafe {
            producer_mock_cluster_create_topic(b.cluster, slice("u"), 1) == PANIC
        }),
        ("producer_mock_cluster_delete_topic", |b| unsafe {
            producer_mock_cluster_delete_topic(b.cluster, slice("u")) == PANIC
        }),
        ("producer_mock_cluster_set_leader", |b| unsafe {
            producer_mock_cluster_set_leader(b.cluster, slice("t"), 0, 1) == PANIC
        }),
        ("producer_mock_cluster_set_broker", |b| unsafe {
            producer_mock_cluster_set_broker(b.cluster, 1, true, true, 0, 0) == PANIC
        }),
        ("producer_mock_cluster_set_advertised", |b| unsafe {
            producer_mock_cluster_set_advertised(b.cluster, 1, c"h".as_ptr(), 1) == PANIC
        }),
        ("producer_mock_cluster_push_errors", |b| unsafe {
            producer_mock_cluster_push_errors(b.cluster, 0, null(), 0) == PANIC
        }),
        ("producer_mock_cluster_set_api_versions", |b| unsafe {
            producer_mock_cluster_set_api_versions(b.cluster, 0, 3, 9) == PANIC
        }),
        ("producer_mock_cluster_forget_producers", |b| unsafe {
            producer_mock_cluster_forget_producers(b.cluster) == PANIC
        }),
        ("producer_mock_cluster_read", |b| unsafe {
            !producer_mock_cluster_read(b.cluster, slice("t"), 0, 0, &raw mut b.record)
        }),
        ("producer_mock_cluster_end_offset", |b| unsafe {
            producer_mock_cluster_end_offset(b.cluster, slice("t"), 0) == -1
        }),
        ("producer_mock_cluster_request_count", |b| unsafe {
            producer_mock_cluster_request_count(b.cluster, 0, 0) == 0
        }),
    ];
    (of_a_producer, others)
}

#[test]
fn every_exported_function_is_tried() {
    let map = include_str!("../../include/kafka_producer.map");
    let exported: BTreeSet<&str> = map
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';'))
        .filter(|name| name.starts_with("producer_"))
        .collect();
    let (of_a_producer, others) = entries();
    let tried: BTreeSet<&str> = of_a_producer
        .iter()
        .chain(&others)
        .map(|(name, _)| *name)
        .chain(NOT_GUARDED.iter().copied())
        .collect();
    assert_eq!(tried, exported);
}

#[test]
fn a_defect_in_a_producers_function_is_told_and_costs_no_record() {
    for (name, entry) in entries().0 {
        let mut bench = bench();
        arm(std::thread::current().id(), "entry");
        assert!(entry(&mut bench), "{name}");
        if bench.error.status == status::PANIC {
            // SAFETY: the message of a written error is NUL-terminated.
            let message = unsafe { CStr::from_ptr(bench.error.message.as_ptr()) };
            assert!(message.to_str().unwrap().contains("tripped at entry"), "{name}: {message:?}");
        }
        // SAFETY: as in `bench()`.
        unsafe {
            let error = &raw mut bench.error;
            if name != "producer_poll_fd" {
                // That one only reads.
                let refused = producer_send(bench.producer, &raw const bench.record, error);
                assert_eq!(refused, status::PANIC, "{name}");
            }
            // It waits for a broker that is frozen, and then for callbacks that return.
            let mut closed = producer_close(bench.producer, 20, null_mut(), error);
            while closed == status::TIMED_OUT {
                closed = producer_close(bench.producer, 1000, null_mut(), error);
            }
            assert!([0, status::CLOSED].contains(&closed), "{name}: {closed}");
            let mut counters: producer_counters_t = zeroed();
            assert_eq!(producer_get_counters(bench.producer, &raw mut counters), 0, "{name}");
            assert_eq!((counters.accepted, counters.pending), (3, 0), "{name}");
            assert_eq!(bench.reported.load(Ordering::Acquire), 3, "{name}");
            producer_free(bench.producer);
            producer_config_free(bench.config);
            producer_mock_cluster_free(bench.cluster);
        }
    }
}

#[test]
fn a_defect_in_any_other_function_is_told_and_harms_nobody() {
    for (name, entry) in entries().1 {
        let mut bench = bench();
        arm(std::thread::current().id(), "entry");
        assert!(entry(&mut bench), "{name}");
        // SAFETY: as in `bench()`; a free that failed has freed nothing.
        unsafe {
            producer_free(bench.producer);
            producer_config_free(bench.config);
            producer_mock_cluster_free(bench.cluster);
        }
        assert_eq!(bench.reported.load(Ordering::Acquire), 3, "{name}");
    }
}
