//! What a broker's answer means for a batch: one pure function over all codes (the table of error
//! classes for Produce).
//!
//! Whether the refused attempt may nevertheless have been written is decided here too, and nowhere
//! else. Without a producer id a retry may duplicate and nothing can be resolved by sequence
//! numbers. With one, the oldest batch of a partition that lacks an outcome decides for those
//! behind it: what a broker says of the sequence of any other means only that the oldest one is
//! missing there (KIP-360).

use crate::defects::{self, Defect};
use crate::protocol::api::ErrorCode;

/// What makes a retry of a batch safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: it may be written twice.
    Plain,
    /// Its sequence numbers.
    Idempotent,
}

/// What is known of a batch beside the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFacts {
    /// The number of this attempt, from 1.
    pub attempts: u32,
    /// `retries`.
    pub retries: u32,
    /// How many records.
    pub count: u32,
    /// An earlier attempt may have been written.
    pub maybe_written: bool,
    /// The answer says which of its records are at fault (KIP-467).
    pub culprits: bool,
    /// The answer has an offset: the leader had appended the batch before it went wrong.
    pub appended: bool,
    /// No batch in front of it lacks an outcome.
    pub oldest: bool,
    /// What is missing in front of it is missing for good, so that no broker can have taken it.
    pub behind_gap: bool,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log.
    Success,
    /// Send it again, as it is.
    Retry {
        /// The leader we know is wrong or gone: ask for metadata.
        refresh: bool,
        /// This attempt may have been written all the same.
        maybe_written: bool,
        /// It waits for those in front of it, and for nothing else.
        in_turn: bool,
    },
    /// Send it again under another identity: no broker has it or ever had.
    StartOver {
        /// Of another producer id.
        other_id: bool,
    },
    /// Send it again in pieces: it is too large.
    Split,
    /// Fail the records at fault, each with the broker's words, and send the others again
    /// (`reject.batch.on.record.error`: fail them too).
    DropCulprits,
    /// Report it as failed.
    Fail {
        /// This attempt, or an earlier one, may have been written all the same.
        maybe_written: bool,
    },
    /// Report it as failed, and perhaps written. The broker has lost what it knew of the sequence.
    Undecided {
        /// What follows is for another producer id.
        other_id: bool,
    },
}

/// Whether the broker's answer leaves open if the batch is in a log. `appended`: it has an offset.
///
/// With acks=all a leader appends and then waits for its replicas. If it loses the partition while
/// it waits, it says the same as to somebody who asks the wrong broker, and the new leader may have
/// the batch. The offset alone tells the two apart.
pub fn maybe_written(code: ErrorCode, appended: bool) -> bool {
    let appended = appended && !defects::on(Defect::IgnoreAppended);
    match code {
        ErrorCode::UNKNOWN_SERVER_ERROR
        | ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NETWORK_EXCEPTION
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::KAFKA_STORAGE_ERROR => true,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID => appended,
        // Everything else is decided before the leader appends.
        _ => false,
    }
}

/// Whether the code says that the batch is in the log.
pub fn is_success(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER)
}

/// Whether the code means that the leader's knowledge of the producer does not fit the batch.
fn is_about_sequence(code: ErrorCode) -> bool {
    is_about_id(code)
        || matches!(code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER | ErrorCode::UNKNOWN_PRODUCER_ID)
}

/// Whether it is the producer id that the broker will have no more of: a later epoch of it exists,
/// or it means nothing.
fn is_about_id(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
            | ErrorCode::PRODUCER_FENCED
    )
}

/// Decides about a batch that was answered with `code`.
pub fn decide(code: ErrorCode, facts: &BatchFacts, mode: Mode) -> Outcome {
    if mode == Mode::Idempotent && is_about_sequence(code) {
        return decide_sequence(code, facts);
    }
    let maybe_written = maybe_written(code, facts.appended);
    let fail = Outcome::Fail { maybe_written: maybe_written || facts.maybe_written };
    // Pieces of what may be there as a whole are not the same bytes.
    let may_change = !facts.maybe_written || mode == Mode::Plain;
    let refresh = match code {
        code if is_success(code) => return Outcome::Success,
        ErrorCode::MESSAGE_TOO_LARGE if defects::on(Defect::NeverSplit) => return fail,
        ErrorCode::MESSAGE_TOO_LARGE if facts.count > 1 && may_change => return Outcome::Split,
        ErrorCode::CORRUPT_MESSAGE
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::REPLICA_NOT_AVAILABLE
        | ErrorCode::NETWORK_EXCEPTION
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID => true,
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::CONCURRENT_TRANSACTIONS
        | ErrorCode::THROTTLING_QUOTA_EXCEEDED => false,
        _ if facts.culprits && may_change && !maybe_written => return Outcome::DropCulprits,
        _ => return fail,
    };
    if facts.attempts > facts.retries {
        return fail;
    }
    Outcome::Retry { refresh, maybe_written, in_turn: false }
}

/// The leader does not have what should be before the batch, or has another producer there.
fn decide_sequence(code: ErrorCode, facts: &BatchFacts) -> Outcome {
    let other_id = is_about_id(code);
    if !facts.oldest && !defects::on(Defect::BumpOnAny45) {
        Outcome::Retry { refresh: false, maybe_written: false, in_turn: true }
    } else if facts.maybe_written && !facts.behind_gap && !defects::on(Defect::RestartUndecided) {
        Outcome::Undecided { other_id }
    } else if facts.attempts > facts.retries {
        // Refused every time.
        Outcome::Fail { maybe_written: false }
    } else {
        Outcome::StartOver { other_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code, refresh, maybe written: the retriable rows of the table.
    const RETRIABLE: &[(i16, bool, bool)] = &[
        (2, true, false),
        (3, true, false),
        (5, true, false),
        (6, true, false),
        (7, false, true),
        (9, true, false),
        (13, true, true),
        (19, false, false),
        (20, false, true),
        (51, false, false),
        (56, true, true),
        (74, true, false),
        (75, true, false),
        (89, false, false),
        (100, true, false),
        (103, true, false),
    ];

    const FIRST: BatchFacts = BatchFacts {
        attempts: 1,
        retries: 5,
        count: 10,
        maybe_written: false,
        culprits: false,
        appended: false,
        oldest: true,
        behind_gap: false,
    };

    /// All facts that `decide` looks at, in every combination.
    fn all_facts() -> impl Iterator<Item = BatchFacts> {
        (0..128_u32).map(|bits| {
            let bit = |at: u32| bits >> at & 1 == 1;
            BatchFacts {
                attempts: if bit(0) { 6 } else { 1 },
                count: if bit(1) { 10 } else { 1 },
                maybe_written: bit(2),
                culprits: bit(3),
                appended: bit(6),
                oldest: bit(4),
                behind_gap: bit(5),
                retries: 5,
            }
        })
    }

    /// The table in other words: what is expected of a code that is not about sequences.
    fn expected(code: i16, facts: &BatchFacts, mode: Mode) -> Outcome {
        let keeps = mode == Mode::Idempotent && facts.maybe_written;
        let left = facts.appended && [3, 6, 100].contains(&code);
        let row = RETRIABLE.iter().find(|(c, ..)| *c == code);
        let row = row.map(|(_, refresh, maybe_written)| (refresh, *maybe_written || left));
        match (code, row) {
            (0 | 46, _) => Outcome::Success,
            (10, _) if facts.count > 1 && !keeps => Outcome::Split,
            (_, Some((refresh, maybe_written))) if facts.attempts <= facts.retries => {
                Outcome::Retry { refresh: *refresh, maybe_written, in_turn: false }
            }
            (_, Some((_, maybe))) => Outcome::Fail { maybe_written: maybe || facts.maybe_written },
            (-1, None) => Outcome::Fail { maybe_written: true },
            (_, None) if facts.culprits && !keeps => Outcome::DropCulprits,
            (_, None) => Outcome::Fail { maybe_written: facts.maybe_written },
        }
    }

    #[test]
    fn s28_every_code_has_its_class_in_every_mode() {
        for code in -200..=200_i16 {
            for facts in all_facts() {
                let plain = decide(ErrorCode(code), &facts, Mode::Plain);
                assert_eq!(plain, expected(code, &facts, Mode::Plain), "{code} {facts:?}");
                let idempotent = decide(ErrorCode(code), &facts, Mode::Idempotent);
                let about_sequence = [45, 47, 49, 59, 90].contains(&code);
                if !about_sequence {
                    let expected = expected(code, &facts, Mode::Idempotent);
                    assert_eq!(idempotent, expected, "{code} {facts:?}");
                    continue;
                }
                let other_id = [47, 49, 90].contains(&code);
                let expected = match facts {
                    BatchFacts { oldest: false, .. } => {
                        Outcome::Retry { refresh: false, maybe_written: false, in_turn: true }
                    }
                    BatchFacts { maybe_written: true, behind_gap: false, .. } => {
                        Outcome::Undecided { other_id }
                    }
                    BatchFacts { attempts: 6, .. } => Outcome::Fail { maybe_written: false },
                    _ => Outcome::StartOver { other_id },
                };
                assert_eq!(idempotent, expected, "{code} {facts:?}");
            }
        }
    }

    #[test]
    fn another_identity_is_only_for_what_nobody_can_have() {
        for code in -200..=200_i16 {
            for facts in all_facts().filter(|facts| facts.maybe_written && !facts.behind_gap) {
                let outcome = decide(ErrorCode(code), &facts, Mode::Idempotent);
                let changes = matches!(
                    outcome,
                    Outcome::StartOver { .. } | Outcome::Split | Outcome::DropCulprits
                );
                assert!(!changes, "{code} {facts:?}: {outcome:?}");
                if let Outcome::Fail { maybe_written } = outcome {
                    assert!(maybe_written, "{code} {facts:?}");
                }
            }
        }
    }

    #[test]
    fn the_last_retry_fails_and_says_whether_the_attempt_may_be_written() {
        let at = |code, attempts, retries| {
            decide(ErrorCode(code), &BatchFacts { attempts, retries, ..FIRST }, Mode::Plain)
        };
        assert_eq!(at(7, 4, 3), Outcome::Fail { maybe_written: true });
        assert_eq!(at(19, 4, 3), Outcome::Fail { maybe_written: false });
        assert!(matches!(at(19, 3, 3), Outcome::Retry { .. }));
        assert_eq!(at(6, 1, 0), Outcome::Fail { maybe_written: false });
    }

    #[test]
    fn a_leader_that_left_after_it_appended_leaves_doubt() {
        let facts = BatchFacts { appended: true, ..FIRST };
        for mode in [Mode::Plain, Mode::Idempotent] {
            for code in [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION] {
                let again = Outcome::Retry { refresh: true, maybe_written: true, in_turn: false };
                assert_eq!(decide(code, &facts, mode), again);
                let last = BatchFacts { attempts: 6, ..facts };
                assert_eq!(decide(code, &last, mode), Outcome::Fail { maybe_written: true });
            }
        }
    }
}
