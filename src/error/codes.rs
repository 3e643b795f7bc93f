//! Every code: Kafka's, verbatim and under Kafka's names, and the client's own.
//!
//! A row is the code's name without its prefix, its number, what it means and what to do, and
//! whether Kafka counts it as retriable. Kafka 4.3 ends at 133.

use super::Status;
use std::ffi::CStr;

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Code {
    /// The code.
    pub status: Status,
    /// `PRODUCER_ERR_...`, as in the C header.
    pub name: &'static CStr,
    /// What it means and what to do, one sentence.
    pub message: &'static CStr,
    /// Whether the same thing may succeed if it is tried again; Kafka's own classes for Kafka's
    /// codes.
    pub retriable: bool,
}

/// The text up to the NUL that ends it.
const fn c(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    }
}

macro_rules! codes {
    (@retriable retry) => { true };
    (@retriable final) => { false };
    ($($class:ident $name:ident = $code:literal, $message:literal;)*) => {
        /// The codes by name.
        #[allow(missing_docs, reason = "each has its sentence in CODES")]
        pub mod status {
            use super::Status;
            pub const OK: Status = 0;
            $(pub const $name: Status = $code;)*
        }

        /// The table: success, the client's own codes, Kafka's.
        pub static CODES: &[Code] = &[
            Code { status: 0, name: c"PRODUCER_OK", message: c"Success.", retriable: false },
            $(Code {
                status: $code,
                name: c(concat!("PRODUCER_ERR_", stringify!($name), "\0")),
                message: c(concat!($message, "\0")),
                retriable: codes!(@retriable $class),
            },)*
        ];
    };
}

codes! {
    // The client's own.
    final INVALID_ARGUMENT = -100,
        "An argument is wrong: NULL, out of range, or an unknown flag; fix the call.";
    final INVALID_CONFIG = -101,
        "A configuration key or value is wrong, or two contradict each other; fix what the \
         message names.";
    final INVALID_STATE = -102,
        "The call does not fit the producer's state, as a second concurrent poll; call in \
         another order.";
    final CLOSED = -103, "The producer is closed; create a new one.";
    retry TIMED_OUT = -104,
        "The time allowed for the call has passed; call again or allow more time.";
    retry BUFFER_FULL = -105,
        "All of buffer.memory is in use, or all that the records for one broker may take of it; \
         wait for deliveries, send slower or raise buffer.memory.";
    final SERIALIZATION = -106,
        "A serializer refused the record's key or value; fix the record or the serializer.";
    final PARTITIONING = -107,
        "No partition could be chosen for the record; fix the partitioner or name a partition.";
    final DELIVERY_TIMED_OUT = -108,
        "The record got no outcome within delivery.timeout.ms; see the failure's stage for the \
         cause.";
    final ABORTED = -109,
        "A close, a purge or an aborted transaction gave the record up; send it again if it \
         still matters.";
    final WOULD_DEADLOCK = -110,
        "The call would have to wait inside a callback; make it on another thread or with \
         timeout 0.";
    final TLS = -111,
        "The TLS handshake failed; check certificates, host name and protocol version.";
    final UNSUPPORTED = -112,
        "The broker, the platform or this version cannot do this; use another setting or newer \
         software.";
    final PANIC = -113,
        "A bug inside the library; every pending record was reported; close the producer and \
         report the message.";
    final FORKED = -114,
        "The handle belongs to the parent process; create a producer of your own after the \
         fork.";
    retry METADATA_PENDING = -115,
        "The topic's partitions are not known yet and were asked for; try again in a moment.";
    final AUTHENTICATION = -116,
        "The broker refused the credentials; check user, password or token and the SASL \
         mechanism.";
    final PROTOCOL = -117,
        "The peer's bytes make no sense; check that the address is a Kafka listener without TLS \
         or SASL.";

    // Kafka's.
    final UNKNOWN_SERVER_ERROR = -1,
        "The broker failed in a way it does not name; its log tells more.";
    final OFFSET_OUT_OF_RANGE = 1,
        "The offset is not in the partition's log; read from an offset that is.";
    retry CORRUPT_MESSAGE = 2,
        "The batch failed its checksum on the broker, or lacks a key on a compacted topic; the \
         client sends it again.";
    retry UNKNOWN_TOPIC_OR_PARTITION = 3,
        "The broker does not have this topic or partition; create it, check the name, or wait \
         for it to be announced.";
    final INVALID_FETCH_SIZE = 4, "The fetch size is not valid; use a positive one.";
    retry LEADER_NOT_AVAILABLE = 5,
        "The partition has no leader at present; wait for the election or bring its brokers \
         back.";
    retry NOT_LEADER_OR_FOLLOWER = 6,
        "The broker no longer leads this partition; the client looks up the new leader and \
         sends again.";
    retry REQUEST_TIMED_OUT = 7,
        "The broker could not finish within the request's timeout, often for slow replicas; the \
         record may be written.";
    final BROKER_NOT_AVAILABLE = 8, "The broker is not available; check that it runs.";
    retry REPLICA_NOT_AVAILABLE = 9,
        "A replica of the partition is not available; bring its broker back.";
    final MESSAGE_TOO_LARGE = 10,
        "The batch is larger than the broker or topic accepts; send smaller records or raise \
         max.message.bytes.";
    final STALE_CONTROLLER_EPOCH = 11,
        "A former controller acted; brokers settle this among themselves.";
    final OFFSET_METADATA_TOO_LARGE = 12,
        "The metadata string of a committed offset is too long; shorten it.";
    retry NETWORK_EXCEPTION = 13,
        "The connection ended before the answer came; the client connects and tries again.";
    retry COORDINATOR_LOAD_IN_PROGRESS = 14,
        "The coordinator is still loading its state; try again shortly.";
    retry COORDINATOR_NOT_AVAILABLE = 15, "No coordinator is available yet; try again shortly.";
    retry NOT_COORDINATOR = 16,
        "The broker no longer is the coordinator; the client looks up the new one.";
    final INVALID_TOPIC_EXCEPTION = 17,
        "The broker does not allow this topic's name or its use; choose another topic.";
    final RECORD_LIST_TOO_LARGE = 18,
        "The batch is larger than a log segment of the topic; lower batch.size or raise \
         segment.bytes.";
    retry NOT_ENOUGH_REPLICAS = 19,
        "Fewer replicas are in sync than min.insync.replicas asks for; nothing was written; \
         bring brokers back.";
    retry NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20,
        "The leader wrote the records, but too few replicas are in sync; sent again they may be \
         there twice.";
    final INVALID_REQUIRED_ACKS = 21,
        "The broker does not accept this value of acks; use all, 1 or 0.";
    final ILLEGAL_GENERATION = 22,
        "The consumer group has moved to another generation; use the group's current metadata.";
    final INCONSISTENT_GROUP_PROTOCOL = 23,
        "The member's protocols do not match the group's; configure all members alike.";
    final INVALID_GROUP_ID = 24, "The group id is not valid; use a non-empty one.";
    final UNKNOWN_MEMBER_ID = 25,
        "The coordinator does not know this member; it has to join the group again.";
    final INVALID_SESSION_TIMEOUT = 26,
        "The session timeout is outside of what the broker allows; change either.";
    final REBALANCE_IN_PROGRESS = 27,
        "The consumer group is rebalancing; let it finish and try again with the new metadata.";
    final INVALID_COMMIT_OFFSET_SIZE = 28,
        "The offsets to commit are too large for one record; commit fewer at once.";
    final TOPIC_AUTHORIZATION_FAILED = 29,
        "The client may not write to this topic; grant its principal WRITE and DESCRIBE.";
    final GROUP_AUTHORIZATION_FAILED = 30,
        "The client may not use this consumer group; grant its principal READ on it.";
    final CLUSTER_AUTHORIZATION_FAILED = 31,
        "The client may not do this in this cluster; grant its principal the operation.";
    final INVALID_TIMESTAMP = 32,
        "The record's timestamp is outside of what the topic accepts; correct it or the topic's \
         limits.";
    final UNSUPPORTED_SASL_MECHANISM = 33,
        "The broker does not offer this SASL mechanism; choose one that its listener has \
         enabled.";
    final ILLEGAL_SASL_STATE = 34,
        "The request does not fit the state of authentication; check which protocol the \
         listener speaks.";
    final UNSUPPORTED_VERSION = 35,
        "The broker does not support this version of the request; use a newer broker or leave \
         the feature off.";
    final TOPIC_ALREADY_EXISTS = 36, "A topic of this name exists; use it or choose another name.";
    final INVALID_PARTITIONS = 37, "The number of partitions is not valid; use at least 1.";
    final INVALID_REPLICATION_FACTOR = 38,
        "The replication factor is below 1 or above the number of brokers; change it.";
    final INVALID_REPLICA_ASSIGNMENT = 39,
        "The assignment of replicas is not valid; name existing brokers, each once.";
    // Kafka calls it INVALID_CONFIG; in C that name is the client's own.
    final BROKER_INVALID_CONFIG = 40,
        "The broker refuses a configuration in the request; its message names it.";
    retry NOT_CONTROLLER = 41, "The broker is not the controller; ask the one that is.";
    final INVALID_REQUEST = 42,
        "The broker could not make sense of the request; broker and client may not fit: report \
         it.";
    final UNSUPPORTED_FOR_MESSAGE_FORMAT = 43,
        "The topic's message format is too old for this; upgrade it on the broker.";
    final POLICY_VIOLATION = 44, "A policy of the cluster forbids the request; ask who runs it.";
    final OUT_OF_ORDER_SEQUENCE_NUMBER = 45,
        "The broker misses earlier records of this producer; they were lost or expired.";
    final DUPLICATE_SEQUENCE_NUMBER = 46,
        "The broker has these records already, at an offset it no longer knows.";
    final INVALID_PRODUCER_EPOCH = 47,
        "A newer producer or the broker's timeout ended this producer's epoch; abort and go on, \
         or close.";
    final INVALID_TXN_STATE = 48,
        "The transaction is not in a state for this; begin, commit and abort in order.";
    final INVALID_PRODUCER_ID_MAPPING = 49,
        "The transactional id belongs to another producer id by now; create a new producer.";
    final INVALID_TRANSACTION_TIMEOUT = 50,
        "Lower transaction.timeout.ms: it is above the broker's transaction.max.timeout.ms.";
    retry CONCURRENT_TRANSACTIONS = 51,
        "An earlier transaction of this transactional id is still ending; try again shortly.";
    final TRANSACTION_COORDINATOR_FENCED = 52,
        "A former transaction coordinator acted; brokers settle this among themselves.";
    final TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53,
        "The client may not use this transactional id; grant its principal WRITE on it.";
    final SECURITY_DISABLED = 54,
        "The cluster has no authorizer, so that access cannot be managed; enable one.";
    final OPERATION_NOT_ATTEMPTED = 55,
        "Another part of the same request failed, so this one was not tried; see that one's \
         error.";
    retry KAFKA_STORAGE_ERROR = 56,
        "The broker's disk failed; another replica takes over, or the broker needs help.";
    final LOG_DIR_NOT_FOUND = 57,
        "The broker has no such log directory; name one from its log.dirs.";
    final SASL_AUTHENTICATION_FAILED = 58,
        "The broker refused the credentials; check user, password or token.";
    final UNKNOWN_PRODUCER_ID = 59,
        "The broker has forgotten this producer, as its records were deleted; the client starts \
         a new sequence.";
    final REASSIGNMENT_IN_PROGRESS = 60, "The partition is being moved; wait until that is done.";
    final DELEGATION_TOKEN_AUTH_DISABLED = 61,
        "The cluster does not use delegation tokens; authenticate another way.";
    final DELEGATION_TOKEN_NOT_FOUND = 62,
        "The cluster does not know this delegation token; create a new one.";
    final DELEGATION_TOKEN_OWNER_MISMATCH = 63,
        "The delegation token belongs to someone else; use its owner or a renewer.";
    final DELEGATION_TOKEN_REQUEST_NOT_ALLOWED = 64,
        "Tokens may not be requested over this connection; authenticate without a token, over \
         TLS or SASL.";
    final DELEGATION_TOKEN_AUTHORIZATION_FAILED = 65,
        "The client may not use this delegation token; grant its principal DESCRIBE on it.";
    final DELEGATION_TOKEN_EXPIRED = 66, "The delegation token has expired; create or renew one.";
    final INVALID_PRINCIPAL_TYPE = 67, "The type of principal is not supported; use User.";
    final NON_EMPTY_GROUP = 68, "The consumer group still has members; stop them first.";
    final GROUP_ID_NOT_FOUND = 69, "There is no such consumer group; check the name.";
    retry FETCH_SESSION_ID_NOT_FOUND = 70,
        "The broker has dropped the fetch session; a new one is made.";
    retry INVALID_FETCH_SESSION_EPOCH = 71, "The fetch session is out of step; a new one is made.";
    retry LISTENER_NOT_FOUND = 72,
        "The partition's leader has no listener of the name the client uses; give all brokers \
         the same listeners.";
    final TOPIC_DELETION_DISABLED = 73,
        "The cluster does not allow topics to be deleted; see delete.topic.enable.";
    retry FENCED_LEADER_EPOCH = 74,
        "The client knows an older leader of the partition; it looks up the new one.";
    retry UNKNOWN_LEADER_EPOCH = 75,
        "The client knows a newer leader than the broker does; it tries again.";
    final UNSUPPORTED_COMPRESSION_TYPE = 76,
        "The broker does not support this compression; choose another compression.type.";
    final STALE_BROKER_EPOCH = 77,
        "A broker acted that has restarted meanwhile; brokers settle this among themselves.";
    retry OFFSET_NOT_AVAILABLE = 78,
        "The new leader does not know its last committed offset yet; try again shortly.";
    final MEMBER_ID_REQUIRED = 79,
        "The member has to join the group with the id it was just given.";
    retry PREFERRED_LEADER_NOT_AVAILABLE = 80,
        "The partition's preferred leader is not available; bring its broker back.";
    final GROUP_MAX_SIZE_REACHED = 81,
        "The consumer group is full; see the broker's group.max.size.";
    final FENCED_INSTANCE_ID = 82,
        "Another member uses the same group.instance.id; give each its own.";
    retry ELIGIBLE_LEADERS_NOT_AVAILABLE = 83, "No replica may become leader; bring brokers back.";
    retry ELECTION_NOT_NEEDED = 84,
        "The partition's leader is the wanted one already; nothing is to be done.";
    final NO_REASSIGNMENT_IN_PROGRESS = 85,
        "The partition is not being moved; there is nothing to cancel.";
    final GROUP_SUBSCRIBED_TO_TOPIC = 86,
        "The consumer group still reads this topic; stop it before its offsets are deleted.";
    final INVALID_RECORD = 87,
        "The broker's checks refused a record of the batch; the failure's message says which \
         and why.";
    retry UNSTABLE_OFFSET_COMMIT = 88,
        "Offsets of an open transaction are in the way; wait until it has ended.";
    retry THROTTLING_QUOTA_EXCEEDED = 89, "A quota of the cluster is used up; try again later.";
    final PRODUCER_FENCED = 90, "A newer producer uses this transactional.id; close this one.";
    final RESOURCE_NOT_FOUND = 91,
        "The request names something that does not exist; check the names.";
    final DUPLICATE_RESOURCE = 92, "The request names the same thing twice; name it once.";
    final UNACCEPTABLE_CREDENTIAL = 93,
        "The credential does not meet the cluster's rules; choose another.";
    final INCONSISTENT_VOTER_SET = 94,
        "Brokers disagree about who votes; check the controllers' configuration.";
    final INVALID_UPDATE_VERSION = 95,
        "The version given for an update is not valid; read the current one first.";
    final FEATURE_UPDATE_FAILED = 96,
        "The cluster could not change its features; the controller's log tells why.";
    final PRINCIPAL_DESERIALIZATION_FAILURE = 97,
        "A broker could not pass on who the client is; check the cluster's security setup.";
    final SNAPSHOT_NOT_FOUND = 98,
        "The snapshot asked for does not exist; brokers settle this among themselves.";
    final POSITION_OUT_OF_RANGE = 99,
        "The position is outside of the snapshot; brokers settle this among themselves.";
    retry UNKNOWN_TOPIC_ID = 100,
        "The broker does not have a topic of this id, as it was recreated or just created; the \
         client looks it up again.";
    final DUPLICATE_BROKER_REGISTRATION = 101,
        "Another broker has this id; give each its own node.id.";
    final BROKER_ID_NOT_REGISTERED = 102, "No broker has registered this id; check that it runs.";
    retry INCONSISTENT_TOPIC_ID = 103,
        "The partition belongs to a topic of another id, as it was recreated; the client looks \
         it up again.";
    final INCONSISTENT_CLUSTER_ID = 104,
        "The broker belongs to another cluster; check the addresses.";
    final TRANSACTIONAL_ID_NOT_FOUND = 105,
        "The cluster does not know this transactional id; check the name.";
    retry FETCH_SESSION_TOPIC_ID_ERROR = 106,
        "The fetch session mixes topics with and without ids; a new one is made.";
    final INELIGIBLE_REPLICA = 107,
        "A replica may not join those in sync; brokers settle this among themselves.";
    final NEW_LEADER_ELECTED = 108,
        "The partition has another leader since; brokers settle this among themselves.";
    final OFFSET_MOVED_TO_TIERED_STORAGE = 109,
        "The offset lies in tiered storage; read it from there.";
    final FENCED_MEMBER_EPOCH = 110,
        "The consumer's epoch has ended; it has to give up its partitions and join again.";
    final UNRELEASED_INSTANCE_ID = 111,
        "Another member still holds this group.instance.id; wait until it has left.";
    final UNSUPPORTED_ASSIGNOR = 112,
        "The consumer group does not support this assignor; choose another.";
    final STALE_MEMBER_EPOCH = 113,
        "The member's epoch is out of date; use the one from its latest heartbeat.";
    final MISMATCHED_ENDPOINT_TYPE = 114,
        "The request went to a controller instead of a broker, or the other way; check \
         bootstrap.servers.";
    final UNSUPPORTED_ENDPOINT_TYPE = 115,
        "The server does not know this type of endpoint; connect to a broker.";
    final UNKNOWN_CONTROLLER_ID = 116, "There is no controller of this id; check the id.";
    final UNKNOWN_SUBSCRIPTION_ID = 117,
        "The telemetry subscription has changed; the client fetches the new one.";
    final TELEMETRY_TOO_LARGE = 118,
        "The telemetry is larger than the broker accepts; subscribe to fewer metrics.";
    final INVALID_REGISTRATION = 119,
        "The controller refuses a broker's registration; its log tells why.";
    final TRANSACTION_ABORTABLE = 120,
        "The transaction cannot be committed; abort it and begin another.";
    final INVALID_RECORD_STATE = 121,
        "The acknowledged records are in another state since; they will be delivered again.";
    retry SHARE_SESSION_NOT_FOUND = 122,
        "The broker has dropped the share session; a new one is made.";
    retry INVALID_SHARE_SESSION_EPOCH = 123, "The share session is out of step; a new one is made.";
    final FENCED_STATE_EPOCH = 124,
        "The share group's state has moved on; brokers settle this among themselves.";
    final INVALID_VOTER_KEY = 125,
        "The voter's key is not that of the replica; check the controllers' directory ids.";
    final DUPLICATE_VOTER = 126, "The controller is a voter already; there is nothing to add.";
    final VOTER_NOT_FOUND = 127, "The controller is not a voter; check its id.";
    final INVALID_REGULAR_EXPRESSION = 128,
        "The regular expression is not valid; use RE2's syntax.";
    final REBOOTSTRAP_REQUIRED = 129,
        "The broker asks the client to start over from bootstrap.servers.";
    final STREAMS_INVALID_TOPOLOGY = 130,
        "The Streams topology is not valid; correct the application.";
    final STREAMS_INVALID_TOPOLOGY_EPOCH = 131,
        "The epoch of the Streams topology is not valid; restart the application.";
    final STREAMS_TOPOLOGY_FENCED = 132, "A newer Streams topology is in use; upgrade this member.";
    retry SHARE_SESSION_LIMIT_REACHED = 133,
        "The broker has no room for another share session; try again later.";
}

#[cfg(test)]
mod tests {
    use super::super::{short_name, status_message, status_name};
    use super::*;
    use kafka_protocol::ResponseError;

    fn kafka() -> impl Iterator<Item = &'static Code> {
        CODES.iter().filter(|code| code.status > 0 || code.status == -1)
    }

    #[test]
    fn kafkas_codes_are_complete_and_named_as_kafka_names_them() {
        let numbers: Vec<_> = kafka().map(|code| code.status).collect();
        assert_eq!(numbers, std::iter::once(-1).chain(1..=133).collect::<Vec<_>>());
        for code in kafka() {
            let oracle = ResponseError::try_from_code(code.status as i16).unwrap();
            let mut name = String::new();
            for letter in format!("{oracle:?}").chars() {
                if letter.is_uppercase() && !name.is_empty() {
                    name.push('_');
                }
                name.extend(letter.to_uppercase());
            }
            let ours = short_name(code.status);
            assert!(ours == name || ours == "BROKER_INVALID_CONFIG" && code.status == 40, "{name}");
        }
    }

    #[test]
    fn retriable_are_those_that_kafka_counts_as_retriable() {
        for code in kafka() {
            let oracle = ResponseError::try_from_code(code.status as i16).unwrap();
            // Retriable in the Java client since 4.0 (KIP-890), which the oracle predates.
            let expected = oracle.is_retriable() || code.status == status::CONCURRENT_TRANSACTIONS;
            assert_eq!(code.retriable, expected, "{oracle:?}");
        }
    }

    #[test]
    fn names_and_sentences_are_whole_and_unique() {
        let mut names = std::collections::BTreeSet::new();
        let mut numbers = std::collections::BTreeSet::new();
        for code in CODES {
            let (name, message) = (code.name.to_str().unwrap(), code.message.to_str().unwrap());
            assert!(name.starts_with("PRODUCER_"), "{name}");
            assert!(message.ends_with('.') && message.len() < 200, "{name}: {message}");
            assert!(message.starts_with(char::is_uppercase), "{name}");
            assert!(names.insert(name), "{name} twice");
            assert!(numbers.insert(code.status), "{} twice", code.status);
        }
        let own: Vec<_> = numbers.iter().filter(|number| **number < -1).copied().collect();
        assert_eq!(own, (-117..=-100).collect::<Vec<_>>());
    }

    #[test]
    fn unknown_codes_get_an_answer() {
        for unknown in [134, 9999, -2, -99, -118, i32::MIN, i32::MAX] {
            assert_eq!(status_name(unknown), c"PRODUCER_ERR_UNKNOWN");
            assert!(status_message(unknown).to_str().unwrap().contains("does not know"));
            assert_eq!(short_name(unknown), "UNKNOWN");
            assert!(!super::super::is_retriable(unknown));
        }
        assert_eq!(status_name(0), c"PRODUCER_OK");
        assert_eq!(status_name(-103), c"PRODUCER_ERR_CLOSED");
        assert_eq!(short_name(6), "NOT_LEADER_OR_FOLLOWER");
        assert!(super::super::is_retriable(status::BUFFER_FULL));
    }
}
