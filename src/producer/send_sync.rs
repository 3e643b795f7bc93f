//! Sending one record and waiting for its outcome: what `send(record).get()` is in Java.
//!
//! The record gets a batch of its own, marked with the call's number; the delivery goes to the call
//! and to nobody else but the interceptors.

use super::wait::Wait;
use super::{Producer, Shared, Timeout};
use crate::accumulator::append::Appended;
use crate::accumulator::batch::Alone;
use crate::accumulator::front::Partition;
use crate::clock::{Instant, Reading};
use crate::error::{Error, Result, status};
use crate::record::ProducerRecord;
use crate::sender::Control;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where one record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The partition.
    pub partition: i32,
    /// The offset; -1 if unknown (acks=0).
    pub offset: i64,
    /// The record's timestamp, or the broker's with LogAppendTime.
    pub timestamp_ms: i64,
}

impl Producer {
    /// Sends one record in a batch of its own, without lingering, and waits for its outcome.
    /// `timeout` is the record's own: its outcome is decided when this returns.
    pub fn send_sync(&self, record: &ProducerRecord<'_>, timeout: Timeout) -> Result<Receipt> {
        let shared = &self.shared;
        shared.check_open()?;
        let reading = shared.clock.reading();
        let mut wait = shared.wait_for(timeout);
        wait.check("the record's outcome")?;
        let timeout = match timeout {
            Timeout::Default if record.timeout_ms > 0 => {
                Duration::from_millis(record.timeout_ms.into())
            }
            Timeout::Default => shared.settings.delivery_timeout,
            Timeout::After(duration) => duration,
        };
        let deadline = reading.mono.after(timeout);
        shared.plugged(record, reading, |record, reading| {
            shared.find_place(record, &mut wait)?;
            let sync_id = shared.send_alone(record, reading, deadline, &mut wait)?;
            Ok(shared.outcome(sync_id, record, reading))
        })?
    }
}

impl Shared {
    /// Appends a record to a batch of its own; gives the number that its outcome goes by.
    fn send_alone(
        &self,
        record: &ProducerRecord<'_>,
        reading: Reading,
        deadline: Instant,
        wait: &mut Wait,
    ) -> Result<u64> {
        let sync_id = self.next_sync_id.fetch_add(1, Ordering::Relaxed);
        self.deliveries.expect_sync(sync_id);
        let alone = Alone { sync_id, deadline };
        let appended = self.append(record, reading, wait, Some(alone));
        appended.inspect_err(|_| self.deliveries.forget_sync(sync_id))?;
        Ok(sync_id)
    }

    /// Waits for the outcome of such a record.
    fn outcome(
        &self,
        sync_id: u64,
        record: &ProducerRecord<'_>,
        reading: Reading,
    ) -> Result<Receipt> {
        // Whatever happens the network thread decides at the deadline.
        let outcome = self.deliveries.wait_sync(sync_id, &self.clock, Instant::NEVER);
        let Some(delivery) = outcome else {
            return Err(Error::new(
                status::PANIC,
                "the outcome of a record was lost: a defect, report it",
            ));
        };
        match &delivery.failure {
            None => Ok(Receipt {
                partition: delivery.partition,
                offset: delivery.base_offset,
                timestamp_ms: if delivery.append_time_ms >= 0 {
                    delivery.append_time_ms
                } else {
                    record.timestamp_ms.unwrap_or(reading.wall_ms)
                },
            }),
            Some(failure) => {
                let message = failure.message.to_string_lossy().into_owned();
                Err(Error::new(delivery.status, message).with(delivery.flags))
            }
        }
    }

    #[cold]
    pub(super) fn append_alone(
        &self,
        partition: &Arc<Partition>,
        record: &ProducerRecord<'_>,
        reading: Reading,
        alone: Alone,
    ) -> Result<Appended> {
        let appended = self.accumulator.try_append_alone(partition, record, reading, alone)?;
        if matches!(appended, Appended::Done(_)) {
            self.tell(Control::Expiry { slot: partition.slot, at: alone.deadline });
        }
        Ok(appended)
    }
}
