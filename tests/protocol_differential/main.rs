//! Our codec against the crate `kafka-protocol`, which is generated from Kafka's schemas: for every
//! API and every version, requests and responses, what we write they must read as the same value
//! and write as the same bytes, and what they write we must read, with fields that nobody knows or
//! without. A codec can't be judged by itself: one that swaps two fields in both directions agrees
//! with itself.
//!
//! A file per API says how to make up a value, which fields a version has (so that the code's own
//! version checks are not what they are judged by), and how the value reads in the other crate's
//! types.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod api_versions;
mod create_topics;
mod fetch;
mod headers;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod produce;
mod record_batch;

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_producer::protocol::codec::Uuid;
use kafka_producer::protocol::{ErrorCode, Message};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Values per version.
const CASES: u32 = 48;

/// Tagged fields that no version of anything knows.
type Unknown = BTreeMap<i32, Bytes>;

/// A message of ours and its counterpart.
trait Judged: Message + Clone + PartialEq + Debug {
    type Theirs: Encodable + Decodable + PartialEq + Debug;

    /// Values with every field set.
    fn any() -> BoxedStrategy<Self>;

    /// The value as it comes out of this version: fields that it lacks have their defaults.
    fn at(self, version: i16) -> Self;

    /// The same value in the other crate's types, each of its structures with these unknown fields.
    fn theirs(&self, unknown: &Unknown) -> Self::Theirs;

    /// Where a version says something in another way.
    fn said_in(_version: i16, theirs: Self::Theirs) -> Self::Theirs {
        theirs
    }
}

/// The whole comparison, over all versions.
fn judge<M: Judged>() {
    for version in M::VERSIONS {
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new(config);
        let result = runner.run(&M::any(), |value| judge_one(version, &value));
        result.unwrap_or_else(|error| panic!("{} v{version}: {error}", M::KEY));
    }
}

fn judge_one<M: Judged>(version: i16, all_fields: &M) -> Result<(), TestCaseError> {
    let value = all_fields.clone().at(version);
    let ours = value.to_vec(version).unwrap();
    if let Ok(bytes) = all_fields.to_vec(version) {
        prop_assert_eq!(&bytes, &ours, "writes a field that the version lacks");
    }

    let mut rest = Bytes::from(ours.clone());
    let read = M::Theirs::decode(&mut rest, version).unwrap();
    let theirs = M::said_in(version, value.theirs(&Unknown::new()));
    prop_assert_eq!(&read, &theirs);
    prop_assert_eq!(rest.len(), 0, "bytes that they don't expect");

    let mut written = BytesMut::new();
    theirs.encode(&mut written, version).unwrap();
    prop_assert_eq!(&written[..], &ours[..]);
    prop_assert_eq!(&M::from_bytes(version, &written.freeze()).unwrap(), &value);

    let unknown = BTreeMap::from([(90, Bytes::new()), (300_000, Bytes::from_static(b"later"))]);
    let mut with_unknown = BytesMut::new();
    let theirs = M::said_in(version, value.theirs(&unknown));
    theirs.encode(&mut with_unknown, version).unwrap();
    prop_assert_eq!(M::KEY.is_flexible(version), with_unknown.len() > ours.len());
    prop_assert_eq!(&M::from_bytes(version, &with_unknown.freeze()).unwrap(), &value);
    Ok(())
}

/// Text: short, of any alphabet, empty, or so long that its length takes two bytes as a varint.
fn text() -> BoxedStrategy<String> {
    prop_oneof![8 => "\\PC{0,12}", 1 => "[a-z]{125,300}"].boxed()
}

fn maybe_text() -> BoxedStrategy<Option<String>> {
    proptest::option::of(text()).boxed()
}

/// A few of something; sometimes as many as need two bytes to count.
fn some<S: Strategy + Clone + 'static>(element: S) -> BoxedStrategy<Vec<S::Value>> {
    let few = proptest::collection::vec(element.clone(), 0..4);
    prop_oneof![30 => few, 1 => proptest::collection::vec(element, 126..131)].boxed()
}

/// At most two of something that has lists inside.
fn few<S: Strategy + 'static>(element: S) -> BoxedStrategy<Vec<S::Value>> {
    proptest::collection::vec(element, 0..3).boxed()
}

fn error_code() -> BoxedStrategy<ErrorCode> {
    any::<i16>().prop_map(ErrorCode).boxed()
}

fn str_bytes(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn maybe_str_bytes(text: &Option<String>) -> Option<StrBytes> {
    text.as_deref().map(str_bytes)
}

fn topic_name(text: &str) -> kafka_protocol::messages::TopicName {
    str_bytes(text).into()
}

fn uuid(id: Uuid) -> uuid::Uuid {
    uuid::Uuid::from_bytes(id)
}

fn brokers(ids: &[i32]) -> Vec<kafka_protocol::messages::BrokerId> {
    ids.iter().map(|id| (*id).into()).collect()
}
