//! The ends of a batch: each becomes exactly one delivery, and a failure explains itself in one
//! sentence.

use super::obstacle::{Circumstances, Named, count, what_it_means};
use super::{Parts, Sender};
use crate::accumulator::back::NO_LEADER;
use crate::accumulator::front::Partition;
use crate::accumulator::holder::share;
use crate::accumulator::outgoing::{Finished, History, Outgoing};
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
        let limit = match batch.alone {
            Some(alone) => {
                format!("its timeout of {} ms", millis(alone.deadline, batch.created))
            }
            None if batch.has_own_timeout() => "its timeout_ms".into(),
            None => {
                format!("delivery.timeout.ms={}", self.parts.settings.delivery_timeout.as_millis())
            }
        };
        let around = self.circumstances(&batch.partition, &batch.history, in_flight, now);
        let obstacle = around.obstacle();
        let clause = around.clause(&obstacle);
        let remedy = obstacle.remedy().map_or(String::new(), |remedy| format!("; {remedy}"));
        let why = format!("{limit} has passed while {clause}{remedy}");
        self.fail(batch, status::DELIVERY_TIMED_OUT, RETRIABLE, obstacle.stage(), &why, now);
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
        let around = self.circumstances(&batch.partition, &batch.history, in_flight, now);
        let obstacle = around.obstacle();
        let why = format!("{why} while {}", around.clause(&obstacle));
        self.fail(batch, status, 0, obstacle.stage(), &why, now);
    }

    /// The broker's word is final.
    pub(super) fn fail_answered(&mut self, batch: Outgoing, code: ErrorCode, now: Instant) {
        let code = i32::from(code.0);
        let node = batch.history.node.unwrap_or(NO_LEADER);
        let address = self.parts.client.address(node).map(|address| &**address);
        let said = match &batch.history.broker_error {
            Some((_, Some(text))) => format!(" (\"{text}\")"),
            Some((_, None)) | None => String::new(),
        };
        let why = format!(
            "{} answered {}{said} at attempt {}: {}",
            Named { node, address },
            crate::error::short_name(code),
            batch.history.attempts,
            what_it_means(code)
        );
        let flags = if crate::error::is_retriable(code) { RETRIABLE } else { 0 };
        self.fail(batch, code, flags, Stage::Answered, &why, now);
    }

    /// It is perhaps in the log, and can be sent neither as it is (what should be before it is
    /// missing) nor as another batch (it might be there twice).
    pub(super) fn fail_undecided(&mut self, mut batch: Outgoing, now: Instant) {
        batch.history.maybe_written = true;
        let last = match (&batch.history.broker_error, &batch.history.network_error) {
            (Some((code, _)), _) => {
                format!("the last answer was {}", crate::error::short_name(i32::from(*code)))
            }
            (None, Some(error)) => error.to_string(),
            (None, None) => "no answer came".to_string(),
        };
        let code = i32::from(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER.0);
        let attempts = count(batch.history.attempts as usize, "attempt", "attempts");
        let why = format!(
            "after {attempts} the broker does not have what was sent before them, so \
             that it can't be found out whether it has them ({last})"
        );
        self.fail(batch, code, 0, Stage::Answered, &why, now);
    }

    /// The last attempt brought no answer, and `retries` allows no other.
    pub(super) fn fail_unanswered(&mut self, batch: Outgoing, code: ErrorCode, now: Instant) {
        let attempts = count(batch.history.attempts as usize, "attempt", "attempts");
        let error = batch.history.network_error.clone();
        let error = error.as_deref().unwrap_or("the connection was lost");
        let why = format!(
            "no answer after {attempts}, and retries={} allows no other: {error}",
            self.parts.settings.retries
        );
        self.fail(batch, i32::from(code.0), RETRIABLE, Stage::InFlight, &why, now);
    }

    /// The client itself can't send it to this broker.
    pub(super) fn fail_refused(&mut self, mut batch: Outgoing, error: &Error, now: Instant) {
        batch.history.attempts = batch.history.attempts.saturating_sub(1);
        self.fail(batch, error.status, error.flags, Stage::Queued, &error.message, now);
    }

    /// What is in the way of the records of a partition, for a caller who has to give up: a clause.
    pub(super) fn explain(&self, slot: u32, now: Instant) -> Option<String> {
        let history = History::default();
        let around = self.circumstances(self.backs.partition(slot)?, &history, false, now);
        Some(around.clause(&around.obstacle()))
    }

    /// Who holds most of the memory and why it does not come back, for callers who get none.
    pub(super) fn explain_memory(&self, now: Instant) -> String {
        let Parts { client, accumulator, .. } = &self.parts;
        let Some((leader, held)) = accumulator.pool().holder() else { return "none".into() };
        let history = History::default();
        let around = Circumstances {
            no_topic: None,
            leader,
            address: client.address(leader).map(|address| &**address),
            node: client.status(leader, now),
            last_error: client.last_error(leader),
            no_id: None,
            ahead: 0,
            in_flight: false,
            history: &history,
            now,
        };
        let node = Named { node: leader, address: around.address };
        share(leader, held, node) + &around.of_the_node()
    }

    /// What is known of a batch of this partition and of the world around it.
    fn circumstances<'a>(
        &'a self,
        partition: &'a Partition,
        history: &'a History,
        in_flight: bool,
        now: Instant,
    ) -> Circumstances<'a> {
        let Parts { client, metadata, .. } = &self.parts;
        let leader = partition.leader();
        let node = history.node.filter(|_| in_flight).unwrap_or(leader);
        let topic = &*partition.topic;
        // What was known once is believed for a while after a broker has denied it.
        let denied = metadata.topic_error(topic);
        let denied = denied.filter(|error| error.status == status::UNKNOWN_TOPIC_OR_PARTITION);
        let unknown = metadata.snapshot().topic(topic).is_none();
        let why = denied.or_else(|| metadata.last_error(topic).filter(|_| unknown));
        let no_topic = why.map(|error| error.message.into_owned());
        Circumstances {
            no_topic,
            leader,
            address: client.address(node).map(|address| &**address),
            node: client.status(node, now),
            last_error: client.last_error(node),
            ahead: self.backs.in_flight(partition.slot),
            no_id: self.backs.lacks_id(partition.slot).then(|| self.why_no_id()),
            in_flight,
            history,
            now,
        }
    }

    /// Reports a failure. In flight means written, at least in part; what an earlier attempt left
    /// open stays open.
    pub(super) fn fail(
        &mut self,
        batch: Outgoing,
        code: Status,
        flags: u32,
        stage: Stage,
        why: &str,
        now: Instant,
    ) {
        let history = &batch.history;
        let (topic, index) = (&batch.partition.topic, batch.partition.index);
        let maybe_written = history.maybe_written || stage == Stage::InFlight;
        let records = count(batch.open_count() as usize, "record", "records");
        let doubt = match (maybe_written, batch.open_count()) {
            (true, 1) => "it may have been written",
            (true, _) => "they may have been written",
            (false, 1) => "it was not written",
            (false, _) => "they were not written",
        };
        let message = format!("{records} of {topic}-{index} failed: {why}; {doubt}");
        // A request that was never written is none.
        let sent = |at: Option<Instant>| at.filter(|_| history.attempts > 0);
        let leader = batch.partition.leader();
        let unreachable = self.parts.client.last_error(leader);
        let network_error = match (unreachable, &history.network_error) {
            // The newer one.
            (Some(error), _) if stage == Stage::NotConnected => error.to_string(),
            (_, Some(error)) => error.to_string(),
            (_, None) => String::new(),
        };
        let failure = Failure {
            message: c_string(message),
            stage,
            attempts: i32::try_from(history.attempts).unwrap_or(i32::MAX),
            node: history.node.unwrap_or(leader),
            broker_status: history.broker_error.as_ref().map_or(0, |(code, _)| i32::from(*code)),
            network_error: c_string(network_error),
            queued_ms: millis(sent(history.first_sent).unwrap_or(now), batch.created),
            in_flight_ms: sent(history.last_sent).map_or(0, |sent| millis(now, sent)),
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
        if base_offset >= 0 && rest.places.as_ref().is_some_and(|places| !places.is_empty()) {
            self.deliver_runs(&partition, rest, base_offset, append_time_ms, keep_records);
        } else {
            self.parts.deliveries.push(Delivery {
                status,
                flags,
                base_offset,
                append_time_ms,
                failure,
                ..Delivery::new(&partition, rest, keep_records)
            });
        }
        let Parts { accumulator, deliveries, .. } = &self.parts;
        // Whoever waits for memory that only a poll can free is told so.
        if deliveries.is_polled() {
            accumulator.pool().alert_when_all_is_done(accumulator.cuts());
        }
    }
}

impl<S: Selectable> Sender<S> {
    /// Success of a batch of which some records were reported before: a delivery per run of the
    /// others, since offsets are told by the first of a run.
    fn deliver_runs(
        &mut self,
        partition: &Partition,
        rest: Finished,
        base_offset: i64,
        append_time_ms: i64,
        keep_records: bool,
    ) {
        let cut = rest.cut;
        let runs = rest.into_runs();
        // Before the first is taken over: a cut of which nothing is outstanding is done.
        for _ in runs.iter().skip(1) {
            self.parts.accumulator.cuts().opened(cut);
        }
        for (first, run) in runs {
            self.parts.deliveries.push(Delivery {
                base_offset: base_offset.saturating_add(i64::from(first)),
                append_time_ms,
                ..Delivery::new(partition, run, keep_records)
            });
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
