//! What a broker's answer means for a batch: one pure function over all codes (the table of error
//! classes for Produce).
//!
//! Without a producer id a retry may duplicate and nothing can be resolved by sequence numbers, so
//! there are three outcomes only. Whether the refused attempt may nevertheless have been written is
//! decided here too, and nowhere else.

use crate::protocol::api::ErrorCode;

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log.
    Success,
    /// Send it again.
    Retry {
        /// The leader we know is wrong or gone: ask for metadata.
        refresh: bool,
        /// This attempt may have been written all the same.
        maybe_written: bool,
    },
    /// Report it as failed.
    Fail {
        /// This attempt may have been written all the same.
        maybe_written: bool,
    },
}

/// Whether the broker's code leaves open if the batch is in a log.
fn maybe_written(code: ErrorCode) -> bool {
    // Everything else is decided before the leader appends.
    matches!(
        code,
        ErrorCode::UNKNOWN_SERVER_ERROR
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::NETWORK_EXCEPTION
            | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
            | ErrorCode::KAFKA_STORAGE_ERROR
    )
}

/// Decides about a batch whose attempt number `attempts` (from 1) was answered with `code`.
pub fn decide(code: ErrorCode, attempts: u32, retries: u32) -> Outcome {
    let maybe_written = maybe_written(code);
    let refresh = match code {
        ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => return Outcome::Success,
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
        _ => return Outcome::Fail { maybe_written },
    };
    if attempts > retries {
        Outcome::Fail { maybe_written }
    } else {
        Outcome::Retry { refresh, maybe_written }
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

    #[test]
    fn every_code_has_its_class() {
        for code in -200..=200_i16 {
            let outcome = decide(ErrorCode(code), 1, 5);
            let row = RETRIABLE.iter().find(|(c, ..)| *c == code);
            match (code, row) {
                (0 | 46, _) => assert_eq!(outcome, Outcome::Success, "{code}"),
                (_, Some((_, refresh, maybe_written))) => assert_eq!(
                    outcome,
                    Outcome::Retry { refresh: *refresh, maybe_written: *maybe_written },
                    "{code}"
                ),
                (-1, None) => assert_eq!(outcome, Outcome::Fail { maybe_written: true }),
                (_, None) => assert_eq!(outcome, Outcome::Fail { maybe_written: false }, "{code}"),
            }
        }
    }

    #[test]
    fn the_last_retry_fails_and_says_whether_the_attempt_may_be_written() {
        assert_eq!(decide(ErrorCode(7), 4, 3), Outcome::Fail { maybe_written: true });
        assert_eq!(decide(ErrorCode(19), 4, 3), Outcome::Fail { maybe_written: false });
        assert!(matches!(decide(ErrorCode(19), 3, 3), Outcome::Retry { .. }));
        assert_eq!(decide(ErrorCode(6), 1, 0), Outcome::Fail { maybe_written: false });
    }
}
