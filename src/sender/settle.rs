//! What becomes of a batch that was answered, or not: the pure function decides, this does it.

use super::Sender;
use super::cut::culprits;
use super::retry::{BatchFacts, Mode, Outcome, decide};
use crate::accumulator::back::NO_LEADER;
use crate::accumulator::outgoing::Outgoing;
use crate::clock::Instant;
use crate::defects::{self, Defect};
use crate::network::Selectable;
use crate::protocol::api::ErrorCode;
use crate::protocol::messages::produce::PartitionProduceResponse;
use std::time::Duration;

impl<S: Selectable> Sender<S> {
    /// What the pure function decides, done. `answered`: by which node; `None` if no answer came.
    pub(super) fn settle(
        &mut self,
        mut batch: Outgoing,
        code: ErrorCode,
        answered: Option<(i32, &PartitionProduceResponse)>,
        now: Instant,
    ) {
        let (slot, number) = (batch.partition.slot, batch.number);
        let answer = answered.map(|(_, answer)| answer);
        let (facts, mode) = self.facts(&batch, answer);
        match decide(code, &facts, mode) {
            Outcome::Success => {
                self.backs.done(slot, number);
                let (offset, time) = answer
                    .filter(|_| code.is_none())
                    .map_or((-1, -1), |answer| (answer.base_offset, answer.log_append_time_ms));
                self.succeed(batch, offset, time);
            }
            Outcome::Retry { refresh, maybe_written, in_turn } => {
                batch.history.maybe_written |= maybe_written;
                if defects::on(Defect::ForgetDoubt) {
                    batch.history.maybe_written = maybe_written;
                }
                if defects::on(Defect::ResetOnUnknownTopic)
                    && code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                {
                    self.backs.broken(slot, number, false);
                    batch.history.maybe_written = false;
                }
                let leader = batch.partition.leader();
                let moved = leader != NO_LEADER && answered.is_some_and(|(node, _)| node != leader);
                if refresh && !moved {
                    self.parts.metadata.request_update_of(&batch.partition.topic, now);
                }
                // Backing off is for a broker that refused; another one leads by now.
                let backoff = match moved || in_turn {
                    true => Duration::ZERO,
                    false => self.backoff(batch.history.attempts),
                };
                self.backs.reenqueue(batch, now.after(backoff));
            }
            Outcome::StartOver { other_id } => {
                self.backs.broken(slot, number, other_id);
                let backoff = self.backoff(batch.history.attempts);
                self.backs.reenqueue(batch, now.after(backoff));
            }
            Outcome::Split => self.split(batch, now),
            Outcome::DropCulprits => self.drop_culprits(batch, code, answer, now),
            Outcome::Fail { maybe_written } => {
                batch.history.maybe_written = maybe_written;
                self.backs.lost(slot, number, maybe_written);
                match answer {
                    Some(_) if code == ErrorCode::MESSAGE_TOO_LARGE => {
                        self.fail_too_large(batch, now);
                    }
                    Some(_) => self.fail_answered(batch, code, now),
                    None => self.fail_unanswered(batch, code, now),
                }
            }
            Outcome::Undecided { other_id } => {
                self.backs.broken(slot, number, other_id);
                self.backs.lost(slot, number, true);
                self.fail_undecided(batch, now);
            }
        }
    }

    fn facts(
        &self,
        batch: &Outgoing,
        answer: Option<&PartitionProduceResponse>,
    ) -> (BatchFacts, Mode) {
        let mode = if batch.identity.is_some() { Mode::Idempotent } else { Mode::Plain };
        let (oldest, behind_gap) = self.backs.position(batch.partition.slot, batch.number);
        let named = answer.map_or(0, |answer| culprits(answer, batch.count()).len());
        let facts = BatchFacts {
            attempts: batch.history.attempts,
            retries: self.parts.settings.retries,
            count: batch.count(),
            maybe_written: batch.history.maybe_written,
            culprits: named > 0,
            appended: answer.is_some_and(|answer| answer.base_offset >= 0),
            oldest,
            behind_gap,
        };
        (facts, mode)
    }

    /// Reports what the backs could not decide about.
    pub(super) fn report_undecided(&mut self, now: Instant) {
        for batch in self.backs.take_undecided() {
            self.fail_undecided(batch, now);
        }
    }

    /// KIP-580: exponential with jitter.
    pub(super) fn backoff(&self, attempts: u32) -> Duration {
        let settings = &self.parts.settings;
        let failures = attempts.saturating_sub(1);
        self.parts.rng.backoff(settings.retry_backoff, settings.retry_backoff_max, failures)
    }
}
