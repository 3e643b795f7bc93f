//! The producer's life: made, flushed, purged, closed, freed; and what can be asked of it.

use super::config::producer_config_t;
use super::convert::{self, array_out, borrowed, invalid, out};
use super::guard;
use super::handle::{self, producer_t};
use super::record;
use super::status::producer_status_t;
use super::types::*;

/// ---- A producer's life ----
///
/// Starts a producer. The config is copied and stays yours. Does not wait for a broker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_new(
    config: *const producer_config_t,
    producer_out: *mut *mut producer_t,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        guard(error, || {
            let config = borrowed(config, "config", "what producer_config_new() gave")?;
            let producer_out = out(producer_out, "producer_out")?;
            producer_out.write(handle::new(config)?);
            Ok(())
        })
    }
}

/// Stops the producer: refuses new records, waits up to `timeout_ms` for those in progress, fails
/// the rest with PRODUCER_ERR_ABORTED and counts them in `aborted` (may be NULL, written always),
/// reports them all and ends the threads. Where one of your callbacks is still running at the
/// deadline it gives PRODUCER_ERR_TIMED_OUT and may be called again; producer_free() is the
/// barrier. A second caller waits with the first. Afterwards every call gives PRODUCER_ERR_CLOSED;
/// producer_poll() drains first, then says so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_close(
    producer: *mut producer_t,
    timeout_ms: i32,
    aborted: *mut u64,
    error: *mut producer_error_t,
) -> producer_status_t {
    let _within = handle::Within::enter();
    // SAFETY: the header's contract.
    unsafe {
        let aborted = out(aborted, "aborted").map(|aborted| aborted.write(0)).ok();
        handle::call(producer, error, |producer| {
            let timeout = convert::timeout(timeout_ms)?;
            let (count, result) = producer.core.close(timeout);
            if let Some(aborted) = aborted {
                *aborted = count;
            }
            result
        })
    }
}

/// Frees the handle, closing with timeout 0 if it was not closed; waits until no callback runs.
/// Deliveries nobody polled are discarded. No other call may be in progress. Inside a callback it
/// is put off until that, and the call it runs in, returns; what is left is reported then, so that
/// user_data must live on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_free(producer: *mut producer_t) {
    // SAFETY: the header's contract: nobody uses the handle any more.
    unsafe { handle::free(producer) }
}

/// Sends what is buffered now, without lingering, and waits until every record accepted before the
/// call has its outcome: with a delivery callback until that has returned, in poll mode until it
/// waits for producer_poll().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_flush(
    producer: *mut producer_t,
    timeout_ms: i32,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        handle::call(producer, error, |producer| producer.core.flush(convert::timeout(timeout_ms)?))
    }
}

/// Fails every record not yet written to a socket with PRODUCER_ERR_ABORTED: of one partition, of a
/// topic (partition -1), or all (a null topic and partition -1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_purge(
    producer: *mut producer_t,
    topic: producer_slice_t,
    partition: i32,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        handle::call(producer, std::ptr::null_mut(), |producer| {
            let topic = match topic.data.is_null() && topic.len == 0 {
                true => None,
                false => Some(record::topic(topic, "topic")?),
            };
            if partition < -1 || (partition != -1 && topic.is_none()) {
                let what = "is a partition's number with a topic, or -1 for all of them";
                return Err(invalid("partition", what));
            }
            producer.core.purge(topic, (partition != -1).then_some(partition))
        })
    }
}

/// Numbers as of now. accepted == acknowledged + failed + pending, always.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_get_counters(
    producer: *const producer_t,
    counters: *mut producer_counters_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        handle::call(producer, std::ptr::null_mut(), |producer| {
            let counters = out(counters, "counters")?;
            let now = producer.core.counters();
            counters.write(producer_counters_t {
                accepted: now.accepted,
                acknowledged: now.acknowledged,
                failed: now.failed,
                pending: now.pending,
                buffered_bytes: now.buffered_bytes,
                buffer_limit_bytes: now.buffer_limit_bytes,
            });
            Ok(())
        })
    }
}

/// Fills up to `capacity` partitions of a topic and sets `count` to how many it has. `partitions`
/// may be NULL with capacity 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_partitions_for(
    producer: *mut producer_t,
    topic: producer_slice_t,
    partitions: *mut producer_partition_info_t,
    capacity: usize,
    timeout_ms: i32,
    count: *mut usize,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        handle::call(producer, error, |producer| {
            let timeout = convert::timeout(timeout_ms)?;
            let topic = record::topic(topic, "topic")?;
            let partitions = array_out(partitions, capacity, "partitions")?;
            let count = out(count, "count")?;
            let found = producer.core.partitions_for(topic, timeout)?;
            for (to, from) in partitions.iter_mut().zip(&found) {
                to.write(producer_partition_info_t {
                    partition: from.partition,
                    leader: from.leader,
                    leader_epoch: from.leader_epoch,
                    replica_count: from.replicas,
                    in_sync_replica_count: from.in_sync,
                    reserved: 0,
                });
            }
            count.write(found.len());
            Ok(())
        })
    }
}
