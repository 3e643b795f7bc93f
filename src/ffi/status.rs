//! The numbers of the C boundary as enums, their names and sentences, and the version.
//!
//! The enums are for the header alone: cbindgen reads literals, so they are spelled out here, and a
//! test compares them with the table in `error.rs` and with the core's own enums. Rust code of this
//! room uses `i32` and the core's constants.

use crate::error;
use std::ffi::c_char;

/// Result of a call or of a delivery: 0 is success. Kafka's own codes are positive (and -1), the
/// client's are
/// -100 and below. A broker newer than this header may give codes it does not list.
#[expect(missing_docs, reason = "producer_status_message() has a sentence for each")]
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    PRODUCER_OK = 0,
    /// A pointer, flag, length or text you passed.
    PRODUCER_ERR_INVALID_ARGUMENT = -100,
    /// A key, its value, or keys that contradict each other.
    PRODUCER_ERR_INVALID_CONFIG = -101,
    /// Not now: a second concurrent poll, a poll where polling was not asked for.
    PRODUCER_ERR_INVALID_STATE = -102,
    PRODUCER_ERR_CLOSED = -103,
    PRODUCER_ERR_TIMED_OUT = -104,
    /// buffer.memory is exhausted, or what one broker may hold of it, and the time to wait has
    /// passed; the message names the broker that holds most.
    PRODUCER_ERR_BUFFER_FULL = -105,
    PRODUCER_ERR_SERIALIZATION = -106,
    PRODUCER_ERR_PARTITIONING = -107,
    /// delivery.timeout.ms has passed. PRODUCER_MAYBE_PERSISTED tells whether it may have been
    /// written.
    PRODUCER_ERR_DELIVERY_TIMED_OUT = -108,
    /// By producer_close() or producer_purge().
    PRODUCER_ERR_ABORTED = -109,
    /// The call would have to wait inside one of your callbacks.
    PRODUCER_ERR_WOULD_DEADLOCK = -110,
    PRODUCER_ERR_TLS = -111,
    PRODUCER_ERR_UNSUPPORTED = -112,
    PRODUCER_ERR_PANIC = -113,
    /// This process is a child of the one that made the handle.
    PRODUCER_ERR_FORKED = -114,
    /// producer_try_send(): the topic's partitions are not known yet.
    PRODUCER_ERR_METADATA_PENDING = -115,
    PRODUCER_ERR_AUTHENTICATION = -116,
    /// The peer's bytes make no sense; the message says what they look like.
    PRODUCER_ERR_PROTOCOL = -117,
    /// Kafka's codes from here on, all of them, under Kafka's names.
    PRODUCER_ERR_UNKNOWN_SERVER_ERROR = -1,
    PRODUCER_ERR_OFFSET_OUT_OF_RANGE = 1,
    PRODUCER_ERR_CORRUPT_MESSAGE = 2,
    PRODUCER_ERR_UNKNOWN_TOPIC_OR_PARTITION = 3,
    PRODUCER_ERR_INVALID_FETCH_SIZE = 4,
    PRODUCER_ERR_LEADER_NOT_AVAILABLE = 5,
    PRODUCER_ERR_NOT_LEADER_OR_FOLLOWER = 6,
    PRODUCER_ERR_REQUEST_TIMED_OUT = 7,
    PRODUCER_ERR_BROKER_NOT_AVAILABLE = 8,
    PRODUCER_ERR_REPLICA_NOT_AVAILABLE = 9,
    PRODUCER_ERR_MESSAGE_TOO_LARGE = 10,
    PRODUCER_ERR_STALE_CONTROLLER_EPOCH = 11,
    PRODUCER_ERR_OFFSET_METADATA_TOO_LARGE = 12,
    PRODUCER_ERR_NETWORK_EXCEPTION = 13,
    PRODUCER_ERR_COORDINATOR_LOAD_IN_PROGRESS = 14,
    PRODUCER_ERR_COORDINATOR_NOT_AVAILABLE = 15,
    PRODUCER_ERR_NOT_COORDINATOR = 16,
    PRODUCER_ERR_INVALID_TOPIC_EXCEPTION = 17,
    PRODUCER_ERR_RECORD_LIST_TOO_LARGE = 18,
    PRODUCER_ERR_NOT_ENOUGH_REPLICAS = 19,
    PRODUCER_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20,
    PRODUCER_ERR_INVALID_REQUIRED_ACKS = 21,
    PRODUCER_ERR_ILLEGAL_GENERATION = 22,
    PRODUCER_ERR_INCONSISTENT_GROUP_PROTOCOL = 23,
    PRODUCER_ERR_INVALID_GROUP_ID = 24,
    PRODUCER_ERR_UNKNOWN_MEMBER_ID = 25,
    PRODUCER_ERR_INVALID_SESSION_TIMEOUT = 26,
    PRODUCER_ERR_REBALANCE_IN_PROGRESS = 27,
    PRODUCER_ERR_INVALID_COMMIT_OFFSET_SIZE = 28,
    PRODUCER_ERR_TOPIC_AUTHORIZATION_FAILED = 29,
    PRODUCER_ERR_GROUP_AUTHORIZATION_FAILED = 30,
    PRODUCER_ERR_CLUSTER_AUTHORIZATION_FAILED = 31,
    PRODUCER_ERR_INVALID_TIMESTAMP = 32,
    PRODUCER_ERR_UNSUPPORTED_SASL_MECHANISM = 33,
    PRODUCER_ERR_ILLEGAL_SASL_STATE = 34,
    PRODUCER_ERR_UNSUPPORTED_VERSION = 35,
    PRODUCER_ERR_TOPIC_ALREADY_EXISTS = 36,
    PRODUCER_ERR_INVALID_PARTITIONS = 37,
    PRODUCER_ERR_INVALID_REPLICATION_FACTOR = 38,
    PRODUCER_ERR_INVALID_REPLICA_ASSIGNMENT = 39,
    /// Kafka's INVALID_CONFIG; PRODUCER_ERR_INVALID_CONFIG is the client's.
    PRODUCER_ERR_BROKER_INVALID_CONFIG = 40,
    PRODUCER_ERR_NOT_CONTROLLER = 41,
    PRODUCER_ERR_INVALID_REQUEST = 42,
    PRODUCER_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT = 43,
    PRODUCER_ERR_POLICY_VIOLATION = 44,
    PRODUCER_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER = 45,
    PRODUCER_ERR_DUPLICATE_SEQUENCE_NUMBER = 46,
    PRODUCER_ERR_INVALID_PRODUCER_EPOCH = 47,
    PRODUCER_ERR_INVALID_TXN_STATE = 48,
    PRODUCER_ERR_INVALID_PRODUCER_ID_MAPPING = 49,
    PRODUCER_ERR_INVALID_TRANSACTION_TIMEOUT = 50,
    PRODUCER_ERR_CONCURRENT_TRANSACTIONS = 51,
    PRODUCER_ERR_TRANSACTION_COORDINATOR_FENCED = 52,
    PRODUCER_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53,
    PRODUCER_ERR_SECURITY_DISABLED = 54,
    PRODUCER_ERR_OPERATION_NOT_ATTEMPTED = 55,
    PRODUCER_ERR_KAFKA_STORAGE_ERROR = 56,
    PRODUCER_ERR_LOG_DIR_NOT_FOUND = 57,
    PRODUCER_ERR_SASL_AUTHENTICATION_FAILED = 58,
    PRODUCER_ERR_UNKNOWN_PRODUCER_ID = 59,
    PRODUCER_ERR_REASSIGNMENT_IN_PROGRESS = 60,
    PRODUCER_ERR_DELEGATION_TOKEN_AUTH_DISABLED = 61,
    PRODUCER_ERR_DELEGATION_TOKEN_NOT_FOUND = 62,
    PRODUCER_ERR_DELEGATION_TOKEN_OWNER_MISMATCH = 63,
    PRODUCER_ERR_DELEGATION_TOKEN_REQUEST_NOT_ALLOWED = 64,
    PRODUCER_ERR_DELEGATION_TOKEN_AUTHORIZATION_FAILED = 65,
    PRODUCER_ERR_DELEGATION_TOKEN_EXPIRED = 66,
    PRODUCER_ERR_INVALID_PRINCIPAL_TYPE = 67,
    PRODUCER_ERR_NON_EMPTY_GROUP = 68,
    PRODUCER_ERR_GROUP_ID_NOT_FOUND = 69,
    PRODUCER_ERR_FETCH_SESSION_ID_NOT_FOUND = 70,
    PRODUCER_ERR_INVALID_FETCH_SESSION_EPOCH = 71,
    PRODUCER_ERR_LISTENER_NOT_FOUND = 72,
    PRODUCER_ERR_TOPIC_DELETION_DISABLED = 73,
    PRODUCER_ERR_FENCED_LEADER_EPOCH = 74,
    PRODUCER_ERR_UNKNOWN_LEADER_EPOCH = 75,
    PRODUCER_ERR_UNSUPPORTED_COMPRESSION_TYPE = 76,
    PRODUCER_ERR_STALE_BROKER_EPOCH = 77,
    PRODUCER_ERR_OFFSET_NOT_AVAILABLE = 78,
    PRODUCER_ERR_MEMBER_ID_REQUIRED = 79,
    PRODUCER_ERR_PREFERRED_LEADER_NOT_AVAILABLE = 80,
    PRODUCER_ERR_GROUP_MAX_SIZE_REACHED = 81,
    PRODUCER_ERR_FENCED_INSTANCE_ID = 82,
    PRODUCER_ERR_ELIGIBLE_LEADERS_NOT_AVAILABLE = 83,
    PRODUCER_ERR_ELECTION_NOT_NEEDED = 84,
    PRODUCER_ERR_NO_REASSIGNMENT_IN_PROGRESS = 85,
    PRODUCER_ERR_GROUP_SUBSCRIBED_TO_TOPIC = 86,
    PRODUCER_ERR_INVALID_RECORD = 87,
    PRODUCER_ERR_UNSTABLE_OFFSET_COMMIT = 88,
    PRODUCER_ERR_THROTTLING_QUOTA_EXCEEDED = 89,
    PRODUCER_ERR_PRODUCER_FENCED = 90,
    PRODUCER_ERR_RESOURCE_NOT_FOUND = 91,
    PRODUCER_ERR_DUPLICATE_RESOURCE = 92,
    PRODUCER_ERR_UNACCEPTABLE_CREDENTIAL = 93,
    PRODUCER_ERR_INCONSISTENT_VOTER_SET = 94,
    PRODUCER_ERR_INVALID_UPDATE_VERSION = 95,
    PRODUCER_ERR_FEATURE_UPDATE_FAILED = 96,
    PRODUCER_ERR_PRINCIPAL_DESERIALIZATION_FAILURE = 97,
    PRODUCER_ERR_SNAPSHOT_NOT_FOUND = 98,
    PRODUCER_ERR_POSITION_OUT_OF_RANGE = 99,
    PRODUCER_ERR_UNKNOWN_TOPIC_ID = 100,
    PRODUCER_ERR_DUPLICATE_BROKER_REGISTRATION = 101,
    PRODUCER_ERR_BROKER_ID_NOT_REGISTERED = 102,
    PRODUCER_ERR_INCONSISTENT_TOPIC_ID = 103,
    PRODUCER_ERR_INCONSISTENT_CLUSTER_ID = 104,
    PRODUCER_ERR_TRANSACTIONAL_ID_NOT_FOUND = 105,
    PRODUCER_ERR_FETCH_SESSION_TOPIC_ID_ERROR = 106,
    PRODUCER_ERR_INELIGIBLE_REPLICA = 107,
    PRODUCER_ERR_NEW_LEADER_ELECTED = 108,
    PRODUCER_ERR_OFFSET_MOVED_TO_TIERED_STORAGE = 109,
    PRODUCER_ERR_FENCED_MEMBER_EPOCH = 110,
    PRODUCER_ERR_UNRELEASED_INSTANCE_ID = 111,
    PRODUCER_ERR_UNSUPPORTED_ASSIGNOR = 112,
    PRODUCER_ERR_STALE_MEMBER_EPOCH = 113,
    PRODUCER_ERR_MISMATCHED_ENDPOINT_TYPE = 114,
    PRODUCER_ERR_UNSUPPORTED_ENDPOINT_TYPE = 115,
    PRODUCER_ERR_UNKNOWN_CONTROLLER_ID = 116,
    PRODUCER_ERR_UNKNOWN_SUBSCRIPTION_ID = 117,
    PRODUCER_ERR_TELEMETRY_TOO_LARGE = 118,
    PRODUCER_ERR_INVALID_REGISTRATION = 119,
    PRODUCER_ERR_TRANSACTION_ABORTABLE = 120,
    PRODUCER_ERR_INVALID_RECORD_STATE = 121,
    PRODUCER_ERR_SHARE_SESSION_NOT_FOUND = 122,
    PRODUCER_ERR_INVALID_SHARE_SESSION_EPOCH = 123,
    PRODUCER_ERR_FENCED_STATE_EPOCH = 124,
    PRODUCER_ERR_INVALID_VOTER_KEY = 125,
    PRODUCER_ERR_DUPLICATE_VOTER = 126,
    PRODUCER_ERR_VOTER_NOT_FOUND = 127,
    PRODUCER_ERR_INVALID_REGULAR_EXPRESSION = 128,
    PRODUCER_ERR_REBOOTSTRAP_REQUIRED = 129,
    PRODUCER_ERR_STREAMS_INVALID_TOPOLOGY = 130,
    PRODUCER_ERR_STREAMS_INVALID_TOPOLOGY_EPOCH = 131,
    PRODUCER_ERR_STREAMS_TOPOLOGY_FENCED = 132,
    PRODUCER_ERR_SHARE_SESSION_LIMIT_REACHED = 133,
}

/// cbindgen:ignore
pub type producer_status_t = i32;

/// How important a log line is: syslog's severities.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Records are being lost or refused.
    PRODUCER_LOG_ERROR = 3,
    /// Something is wrong that the producer copes with.
    PRODUCER_LOG_WARNING = 4,
    /// Once per producer or per change of state.
    PRODUCER_LOG_INFO = 6,
    /// For those who debug the producer.
    PRODUCER_LOG_DEBUG = 7,
}

/// cbindgen:ignore
pub type producer_log_level_t = i32;

/// Where a record was when it failed.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its topic's partitions were not known: the cluster denies that there is one.
    PRODUCER_STAGE_NO_METADATA = 1,
    /// Its partition had no leader.
    PRODUCER_STAGE_NO_LEADER = 2,
    /// Its leader could not be reached.
    PRODUCER_STAGE_NOT_CONNECTED = 3,
    /// It waited for its turn.
    PRODUCER_STAGE_QUEUED = 4,
    /// It was sent, the outcome did not arrive.
    PRODUCER_STAGE_IN_FLIGHT = 5,
    /// The broker refused it.
    PRODUCER_STAGE_ANSWERED = 6,
    /// The function that should have sent it refused it: an interceptor's acknowledgement.
    PRODUCER_STAGE_REFUSED = 7,
}

/// cbindgen:ignore
pub type producer_stage_t = i32;

/// ---- Version and statuses ----
///
/// The version of the library that is running, "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn producer_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// A status by name, "PRODUCER_ERR_CLOSED". Static; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn producer_status_name(status: i32) -> *const c_char {
    error::status_name(status).as_ptr()
}

/// A status in one sentence: what it means, what to do. Static; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn producer_status_message(status: i32) -> *const c_char {
    error::status_message(status).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery;
    use crate::error::CODES;
    use crate::log::Level;
    use std::collections::BTreeMap;
    use std::ffi::CStr;

    /// The enum's values as they stand in this file: what cbindgen reads.
    fn values(name: &str) -> BTreeMap<String, i32> {
        let source = include_str!("status.rs");
        let body = source.split(&format!("pub enum {name} {{")).nth(1).unwrap();
        let lines = body.split('}').next().unwrap().lines().map(str::trim);
        lines
            .filter_map(|line| line.strip_suffix(',')?.split_once(" = "))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_header_has_every_code_of_the_table() {
        let table = CODES.iter().map(|code| (code.name.to_str().unwrap().to_owned(), code.status));
        assert_eq!(values("Status"), table.collect());
    }

    #[test]
    fn levels_and_stages_are_the_core_s() {
        use delivery::Stage as Core;
        let levels = [Level::Error, Level::Warning, Level::Info, Level::Debug];
        let levels =
            levels.map(|level| (format!("PRODUCER_LOG_{level:?}").to_uppercase(), level as i32));
        assert_eq!(values("LogLevel"), levels.into());
        let stages = [
            ("NO_METADATA", Core::NoMetadata),
            ("NO_LEADER", Core::NoLeader),
            ("NOT_CONNECTED", Core::NotConnected),
            ("QUEUED", Core::Queued),
            ("IN_FLIGHT", Core::InFlight),
            ("ANSWERED", Core::Answered),
            ("REFUSED", Core::Refused),
        ];
        let stages = stages.map(|(name, stage)| (format!("PRODUCER_STAGE_{name}"), stage as i32));
        assert_eq!(values("Stage"), stages.into());
    }

    #[test]
    fn every_number_has_a_name_and_a_sentence() {
        for status in [0, -1, 3, 133, 134, -100, -117, -118, i32::MAX, i32::MIN] {
            // SAFETY: both are static and NUL-terminated.
            let (name, message) = unsafe {
                let text = |at| CStr::from_ptr(at).to_str().unwrap();
                (text(producer_status_name(status)), text(producer_status_message(status)))
            };
            assert!(name.starts_with("PRODUCER_"), "{name}");
            assert!(message.len() > 5, "{message}");
        }
        // SAFETY: static and NUL-terminated.
        let version = unsafe { CStr::from_ptr(producer_version()) };
        assert_eq!(version.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
    }
}
