//! The mock cluster's C functions. Their header promises nothing about the ABI; the contract is the
//! same.

use super::convert::{array, borrowed, invalid, out, text};
use super::fork::Process;
use super::record::topic;
use super::status::producer_status_t;
use super::types::*;
use super::{guard, guard_value};
use crate::error::Result;
use crate::mock::{MockCluster, Record};
use crate::sync::lock;
use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::Mutex;

/// A running cluster: yours from producer_mock_cluster_new() to producer_mock_cluster_free(). Any
/// thread may use it.
pub struct producer_mock_cluster_t {
    cluster: MockCluster,
    bootstrap_servers: CString,
    process: Process,
    last_read: Mutex<LastRead>,
}

/// What the last producer_mock_cluster_read() lent to C.
#[derive(Default)]
struct LastRead {
    topic: String,
    record: Option<Record>,
    headers: Vec<producer_header_t>,
}

// SAFETY: the pointers in `headers` lead into `record`, which moves with them and is not changed
// while C may look.
unsafe impl Send for LastRead {}

/// # Safety
/// As in `convert.rs`.
unsafe fn live<'a>(cluster: *const producer_mock_cluster_t) -> Result<&'a producer_mock_cluster_t> {
    // SAFETY: the caller's promise.
    let cluster = unsafe { borrowed(cluster, "cluster", "what producer_mock_cluster_new() gave")? };
    cluster.process.check()?;
    Ok(cluster)
}

/// A call on the cluster.
///
/// # Safety
/// As in `convert.rs`.
unsafe fn call(
    cluster: *const producer_mock_cluster_t,
    body: impl FnOnce(&MockCluster) -> Result<()>,
) -> producer_status_t {
    // SAFETY: the caller's promise.
    unsafe { guard(ptr::null_mut(), || body(&live(cluster)?.cluster)) }
}

/// ---- Clusters ----
///
/// Starts a cluster of brokers with the node ids 1 to `broker_count`, without topics. Asking for a
/// topic creates it with one partition.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_new(
    broker_count: i32,
    cluster_out: *mut *mut producer_mock_cluster_t,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        guard(error, || {
            let cluster_out = out(cluster_out, "cluster_out")?;
            let process = Process::current()?;
            let cluster = MockCluster::new(broker_count)?;
            let bootstrap_servers = CString::new(cluster.bootstrap_servers()).unwrap_or_default();
            let last_read = Mutex::default();
            let cluster =
                producer_mock_cluster_t { cluster, bootstrap_servers, process, last_read };
            cluster_out.write(Box::into_raw(Box::new(cluster)));
            Ok(())
        })
    }
}

/// Closes every connection and listener and ends the cluster's thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_free(cluster: *mut producer_mock_cluster_t) {
    // SAFETY: the header's contract.
    guard_value((), || unsafe {
        // In a child the memory is given up: the thread is the parent's.
        if cluster.as_ref()?.process.is_current() {
            drop(Box::from_raw(cluster));
        }
        Some(())
    });
}

/// "host:port" of every broker, for bootstrap.servers. Lives as long as the cluster.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_bootstrap_servers(
    cluster: *const producer_mock_cluster_t,
) -> *const c_char {
    // SAFETY: the header's contract.
    guard_value(ptr::null(), || unsafe { Some(live(cluster).ok()?.bootstrap_servers.as_ptr()) })
}

/// ---- Topics ----
///
/// Creates a topic; its partitions are led by the brokers in turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_create_topic(
    cluster: *mut producer_mock_cluster_t,
    topic: producer_slice_t,
    partitions: i32,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        call(cluster, |cluster| cluster.create_topic(self::topic(topic, "topic")?, partitions))
    }
}

/// Removes a topic and all its records.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_delete_topic(
    cluster: *mut producer_mock_cluster_t,
    topic: producer_slice_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe { call(cluster, |cluster| cluster.delete_topic(self::topic(topic, "topic")?)) }
}

/// Moves a partition to another leader; -1: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_set_leader(
    cluster: *mut producer_mock_cluster_t,
    topic: producer_slice_t,
    partition: i32,
    node: i32,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        call(cluster, |cluster| cluster.set_leader(self::topic(topic, "topic")?, partition, node))
    }
}

/// ---- What brokers do ----
///
/// `up`, or the broker refuses connections; `frozen`: it accepts them and reads nothing. It answers
/// after `latency_ms`, and asks its clients to wait for `throttle_ms`. Partitions keep their
/// leaders.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_set_broker(
    cluster: *mut producer_mock_cluster_t,
    node: i32,
    up: bool,
    frozen: bool,
    latency_ms: i32,
    throttle_ms: i32,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        call(cluster, |cluster| {
            for (value, name) in [(latency_ms, "latency_ms"), (throttle_ms, "throttle_ms")] {
                if value < 0 {
                    return Err(invalid(name, format_args!("is {value}: pass 0 or more")));
                }
            }
            cluster.set_broker(node, up, frozen, latency_ms, throttle_ms)
        })
    }
}

/// Has a broker tell its clients to connect to another address: to a proxy's, whose backend is
/// where the broker listens (see producer_mock_cluster_bootstrap_servers()).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_set_advertised(
    cluster: *mut producer_mock_cluster_t,
    node: i32,
    host: *const c_char,
    port: u16,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        call(cluster, |cluster| {
            let host = text(host, "host")?;
            if host.is_empty() || port == 0 {
                return Err(invalid("host", "and `port` must be an address to connect to"));
            }
            cluster.set_advertised(node, host, port)
        })
    }
}

/// The next requests of an API (0: Produce, 3: Metadata) get these codes, in order: 0 is none, 13
/// (NETWORK_EXCEPTION) closes the connection instead of answering, -1000 does so after a Produce
/// was written, -1001 answers a Produce that was written with NOT_LEADER_OR_FOLLOWER.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_push_errors(
    cluster: *mut producer_mock_cluster_t,
    api_key: i16,
    codes: *const i32,
    count: usize,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        call(cluster, |cluster| {
            let codes = array(codes, count, "codes")?.iter().map(|&code| {
                i16::try_from(code)
                    .map_err(|_| invalid("codes", format_args!("has {code}: Kafka has 16 bits")))
            });
            cluster.push_errors(api_key, &codes.collect::<Result<Vec<i16>>>()?)
        })
    }
}

/// Advertises other versions of an API and serves no others; `max` below `min`: none at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_set_api_versions(
    cluster: *mut producer_mock_cluster_t,
    api_key: i16,
    min: i16,
    max: i16,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe { call(cluster, |cluster| cluster.set_api_versions(api_key, min, max)) }
}

/// Forgets all producer ids' sequences, as when producer ids expire.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_forget_producers(
    cluster: *mut producer_mock_cluster_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        call(cluster, |cluster| {
            cluster.forget_producers();
            Ok(())
        })
    }
}

/// ---- What was written ----
///
/// The record at an offset; false past the end. Its memory lives until the next read of this
/// cluster.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_read(
    cluster: *mut producer_mock_cluster_t,
    topic: producer_slice_t,
    partition: i32,
    offset: i64,
    record_out: *mut producer_record_t,
) -> bool {
    // SAFETY: the header's contract.
    guard_value(false, || unsafe {
        let cluster = live(cluster).ok()?;
        let name = self::topic(topic, "topic").ok()?;
        let record_out = out(record_out, "record_out").ok()?;
        let record = cluster.cluster.read(name, partition, offset)?;
        record_out.write(lock(&cluster.last_read).lend(name, partition, record));
        Some(true)
    })
}

impl LastRead {
    fn lend(&mut self, topic: &str, partition: i32, record: Record) -> producer_record_t {
        topic.clone_into(&mut self.topic);
        let record = self.record.insert(record);
        self.headers.clear();
        self.headers.extend(record.headers.iter().map(|(key, value)| producer_header_t {
            key: producer_slice_t::of(key),
            value: producer_slice_t::of_option(value.as_deref()),
        }));
        producer_record_t {
            topic: producer_slice_t::of(self.topic.as_bytes()),
            key: producer_slice_t::of_option(record.key.as_deref()),
            value: producer_slice_t::of_option(record.value.as_deref()),
            headers: self.headers.as_ptr(),
            header_count: self.headers.len(),
            timestamp_ms: record.timestamp_ms,
            partition,
            flags: PRODUCER_RECORD_HAS_PARTITION | PRODUCER_RECORD_HAS_TIMESTAMP,
            tag: 0,
            timeout_ms: 0,
            reserved: 0,
            extension: ptr::null(),
        }
    }
}

/// The offset that the next record of a partition gets; -1: there is no such partition.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_end_offset(
    cluster: *const producer_mock_cluster_t,
    topic: producer_slice_t,
    partition: i32,
) -> i64 {
    // SAFETY: the header's contract.
    guard_value(-1, || unsafe {
        let cluster = live(cluster).ok()?;
        Some(cluster.cluster.end_offset(self::topic(topic, "topic").ok()?, partition))
    })
}

/// How many requests of an API came to a broker; node 0: to all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_mock_cluster_request_count(
    cluster: *const producer_mock_cluster_t,
    node: i32,
    api_key: i16,
) -> u64 {
    // SAFETY: the header's contract.
    guard_value(0, || unsafe { Some(live(cluster).ok()?.cluster.request_count(node, api_key)) })
}
