//! The ends of a batch: each becomes exactly one delivery, and a failure explains itself in one
//! sentence.

use super::{Parts, Sender};
use crate::accumulator::back::NO_LEADER;
use crate::accumulator::outgoing::Outgoing;
use crate::clock::Instant;
use crate::delivery::{Delivery, Failure, Stage};
use crate::error::{Error, MAYBE_PERSISTED, RETRIABLE, Status, status};
use crate::network::Selectable;
use crate::protocol::api::ErrorCode;
use std::ffi::CString;
use std::sync::Arc;

impl<S: Selectable> Sender<S> {
    /// The batch is in the log (or was written, with acks=0).
    pub(super) fn succeed(&mut self, batch: Outgoing, base_offset: i64, append_time_ms: i64) {
        let keep = self.parts.settings.delivery_keep_records;
        self.deliver(batch, status::OK, 0, base_offset, append_time_ms, None, keep);
    }

    /// `delivery.timeout.ms` (or the record's own timeout) has passed.
    pub(super) fn fail_expired(&mut self, batch: Outgoing, now: Instant, in_flight: bool) {
        let timeout = self.parts.settings.delivery_timeout;
        let stage = if in_flight { Stage::InFlight } else { self.stage(&batch) };
        let limit = match batch.alone {
            Some(_) => "its timeout".to_string(),
            None => format!("delivery.timeout.ms={}", timeout.as_millis()),
        };
        let why = format!("{limit} has passed {}", self.circumstances(&batch, stage));
        // In flight means written, at least in part.
        let maybe = in_flight || batch.history.maybe_written;
        self.fail(batch, status::DELIVERY_TIMED_OUT, RETRIABLE, maybe, stage, &why, now);
    }

    /// Purged, or failed by close.
    pub(super) fn fail_aborted(
        &mut self,
        batch: Outgoing,
        status: Status,
        why: &str,
        in_flight: bool,
        now: Instant,
    ) {
        let stage = if in_flight { Stage::InFlight } else { self.stage(&batch) };
        let maybe = in_flight || batch.history.maybe_written;
        let why = format!("{why} {}", self.circumstances(&batch, stage));
        self.fail(batch, status, 0, maybe, stage, &why, now);
    }

    /// The broker's word is final.
    pub(super) fn fail_answered(&mut self, batch: Outgoing, code: ErrorCode, now: Instant) {
        let code = i32::from(code.0);
        let node = batch.history.node.unwrap_or(NO_LEADER);
        let said = match &batch.history.broker_error {
            Some((_, Some(text))) => format!(" (\"{text}\")"),
            Some((_, None)) | None => String::new(),
        };
        let attempts = batch.history.attempts;
        let why = format!(
            "node {node} answered {}{said} at attempt {attempts}: {}",
            crate::error::short_name(code),
            crate::error::status_message(code).to_string_lossy()
        );
        let flags = if crate::error::is_retriable(code) { RETRIABLE } else { 0 };
        let maybe = batch.history.maybe_written;
        self.fail(batch, code, flags, maybe, Stage::Answered, &why, now);
    }

    /// The last attempt brought no answer, and `retries` allows no other.
    pub(super) fn fail_unanswered(&mut self, batch: Outgoing, code: ErrorCode, now: Instant) {
        let attempts = batch.history.attempts;
        let error = batch.history.network_error.clone();
        let error = error.as_deref().unwrap_or("the connection was lost");
        let why = format!("no answer after {attempts} attempts, retries are used up: {error}");
        let maybe = batch.history.maybe_written;
        self.fail(batch, i32::from(code.0), RETRIABLE, maybe, Stage::InFlight, &why, now);
    }

    /// The client itself can't send it to this broker.
    pub(super) fn fail_refused(&mut self, mut batch: Outgoing, error: &Error, now: Instant) {
        batch.history.attempts = batch.history.attempts.saturating_sub(1);
        let maybe = batch.history.maybe_written;
        self.fail(batch, error.status, error.flags, maybe, Stage::Queued, &error.message, now);
    }

    /// Where a batch that is not in flight is stuck.
    fn stage(&self, batch: &Outgoing) -> Stage {
        let leader = batch.partition.leader();
        if leader == NO_LEADER {
            Stage::NoLeader
        } else if self.parts.client.is_connected(leader) {
            Stage::Queued
        } else {
            Stage::NotConnected
        }
    }

    /// The part of the sentence that says what was in the way.
    fn circumstances(&self, batch: &Outgoing, stage: Stage) -> String {
        let leader = batch.partition.leader();
        let attempts = batch.history.attempts;
        let mut text = match stage {
            Stage::NoMetadata => "while the topic's partitions were not known".to_string(),
            Stage::NoLeader => "while the partition had no leader".to_string(),
            Stage::NotConnected => format!("while its leader, node {leader}, could not be reached"),
            Stage::Queued | Stage::Answered => {
                format!("while it waited for its turn at node {leader}")
            }
            Stage::InFlight => {
                format!("while node {} had not answered", batch.history.node.unwrap_or(leader))
            }
        };
        if attempts > 0 {
            text += &format!(", after {attempts} attempts");
        }
        let unreachable = self.parts.client.last_error(leader).map(ToString::to_string);
        let network = batch.history.network_error.as_deref().map(str::to_owned);
        if let Some((code, _)) = &batch.history.broker_error {
            text +=
                &format!("; the last answer was {}", crate::error::short_name(i32::from(*code)));
        }
        if let Some(error) = network.or(unreachable.filter(|_| stage == Stage::NotConnected)) {
            text += &format!("; {error}");
        }
        text
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what a failure consists of, in the one place that makes it"
    )]
    fn fail(
        &mut self,
        batch: Outgoing,
        code: Status,
        flags: u32,
        maybe_written: bool,
        stage: Stage,
        why: &str,
        now: Instant,
    ) {
        let history = &batch.history;
        let (topic, index, count) = (&batch.partition.topic, batch.partition.index, batch.count());
        let doubt =
            if maybe_written { "they may have been written" } else { "they were not written" };
        let message = format!("{count} records of {topic}-{index} failed: {why}; {doubt}");
        let queued_until = history.first_sent.unwrap_or(now);
        let in_flight_ms = match (stage, history.last_sent) {
            (Stage::InFlight | Stage::Answered, Some(sent)) => millis(now, sent),
            _ => 0,
        };
        let unreachable =
            || self.parts.client.last_error(batch.partition.leader()).map(ToString::to_string);
        let network_error = match (&history.network_error, stage) {
            (Some(error), _) => error.to_string(),
            (None, Stage::NotConnected) => unreachable().unwrap_or_default(),
            (None, _) => String::new(),
        };
        let failure = Failure {
            message: c_string(message),
            stage,
            attempts: i32::try_from(history.attempts).unwrap_or(i32::MAX),
            node: history.node.unwrap_or_else(|| batch.partition.leader()),
            broker_status: history.broker_error.as_ref().map_or(0, |(code, _)| i32::from(*code)),
            network_error: c_string(network_error),
            queued_ms: millis(queued_until, batch.created),
            in_flight_ms,
        };
        let flags = if maybe_written { flags | MAYBE_PERSISTED } else { flags };
        self.deliver(batch, code, flags, -1, -1, Some(Box::new(failure)), true);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of a delivery, named at the one place that makes one"
    )]
    fn deliver(
        &mut self,
        batch: Outgoing,
        status: Status,
        flags: u32,
        base_offset: i64,
        append_time_ms: i64,
        failure: Option<Box<Failure>>,
        keep_records: bool,
    ) {
        let partition = Arc::clone(&batch.partition);
        let Some(rest) = batch.finish() else { return };
        self.parts.deliveries.push(Delivery {
            status,
            flags,
            base_offset,
            append_time_ms,
            failure,
            ..Delivery::new(&partition, rest, keep_records)
        });
        let Parts { accumulator, deliveries, .. } = &self.parts;
        // Whoever waits for memory that only a poll can free is told so.
        if deliveries.is_polled()
            && accumulator.pool().waiting() > 0
            && accumulator.cuts().outstanding_upto(u64::MAX) == 0
        {
            accumulator.pool().alert();
        }
    }
}

fn millis(later: Instant, earlier: Instant) -> i32 {
    i32::try_from(later.since(earlier).as_millis()).unwrap_or(i32::MAX)
}

/// A sentence as C reads it: a peer's text may hold a NUL.
fn c_string(text: String) -> CString {
    CString::new(text.replace('\0', "?")).unwrap_or_default()
}
