//! A record as the caller hands it over: borrowed bytes, copied exactly once, by the accumulator;
//! and the checks of what the caller names.

use crate::error::{Error, Result, status};
use std::time::Duration;

/// Yours: a number, or a pointer cast to one; comes back in the delivery.
pub type Tag = u64;

/// A record header. The key is UTF-8 (checked where it enters); the value may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key, UTF-8.
    pub key: &'a [u8],
    /// The value; `None` is null, which is not empty.
    pub value: Option<&'a [u8]>,
}

/// A record to send.
#[derive(Debug, Clone, Copy)]
pub struct ProducerRecord<'a> {
    /// The topic; a legal name (see [`check_topic`]).
    pub topic: &'a str,
    /// The partition, or `None`: the partitioner chooses.
    pub partition: Option<i32>,
    /// The key's bytes; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` is null (a tombstone).
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: &'a [Header<'a>],
    /// Milliseconds since the epoch, or `None`: the time of the call.
    pub timestamp_ms: Option<i64>,
    /// Comes back in the delivery.
    pub tag: Tag,
    /// From the call to the outcome, in milliseconds; 0: `delivery.timeout.ms`.
    pub timeout_ms: u32,
    /// Key and value are serialized, and interceptors have seen the record: neither runs.
    pub as_is: bool,
}

impl ProducerRecord<'_> {
    /// The same record when so much of its own timeout, if it has one, is over.
    #[must_use]
    pub fn after_waiting(&self, waited: Duration) -> Self {
        let waited = u32::try_from(waited.as_millis()).unwrap_or(u32::MAX);
        let least = self.timeout_ms.min(1);
        Self { timeout_ms: self.timeout_ms.saturating_sub(waited).max(least), ..*self }
    }
}

/// A partition of a topic by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: std::sync::Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

/// The longest topic name that Kafka allows.
pub const MAX_TOPIC_LEN: usize = 249;

/// The topic's name, if Kafka allows it: 1 to 249 of letters, digits, `.`, `_` and `-`, but not
/// `.` or `..`. The error says what is wrong and shows it.
pub fn check_topic(name: &[u8]) -> Result<&str> {
    let refuse = |what: String| Err(Error::new(status::INVALID_ARGUMENT, what));
    let Ok(text) = std::str::from_utf8(name) else {
        let bytes = excerpt_of_bytes(name);
        return refuse(format!("the topic name \"{bytes}\" is not UTF-8"));
    };
    if text.is_empty() {
        return refuse("the topic name is empty".into());
    }
    if text.len() > MAX_TOPIC_LEN {
        return refuse(format!(
            "the topic name \"{}\" has {} bytes; at most {MAX_TOPIC_LEN} are allowed",
            excerpt(text),
            text.len()
        ));
    }
    if text == "." || text == ".." {
        return refuse(format!(
            "the topic name \"{text}\" is reserved: \".\" and \"..\" are not names"
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(illegal) = text.chars().find(|c| !legal(*c)) {
        return refuse(format!(
            "the topic name \"{}\" contains {illegal:?}; letters a-z A-Z, digits, '.', '_' and '-' \
             are allowed",
            excerpt(&text.escape_debug().to_string())
        ));
    }
    Ok(text)
}

/// Whether every header has a key that is UTF-8; the error names the first that has not.
pub fn check_headers(headers: &[Header<'_>]) -> Result<()> {
    for (index, header) in headers.iter().enumerate() {
        if std::str::from_utf8(header.key).is_err() {
            let key = excerpt_of_bytes(header.key);
            let message = format!("the key \"{key}\" of header {index} is not UTF-8");
            return Err(Error::new(status::INVALID_ARGUMENT, message));
        }
    }
    Ok(())
}

/// As much of a text as a message shows.
const MOST: usize = 60;

/// The beginning of bytes that are no text.
fn excerpt_of_bytes(bytes: &[u8]) -> String {
    let shown = bytes.get(..=MOST).unwrap_or(bytes);
    excerpt(&shown.escape_ascii().to_string())
}

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{}...", text.get(..cut).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &[u8]) -> String {
        let error = check_topic(name).unwrap_err();
        assert_eq!((error.status, error.flags), (status::INVALID_ARGUMENT, 0));
        assert!(error.message.len() < 248, "{}", error.message);
        error.message.into_owned()
    }

    #[test]
    fn legal_topics() {
        let longest = "x".repeat(249);
        for name in ["a", "A-Z_0.9", "...", ".a", "-", "__consumer_offsets", &longest] {
            assert_eq!(check_topic(name.as_bytes()).unwrap(), name);
        }
    }

    #[test]
    fn each_illegal_topic_has_its_sentence() {
        assert!(refused(b"").contains("is empty"));
        assert!(refused(&[b'x'; 250]).contains("has 250 bytes; at most 249"));
        assert!(refused(b".").contains("\".\" is reserved"));
        assert!(refused(b"..").contains("\"..\" is reserved"));
        assert!(refused(b"a b").contains("\"a b\" contains ' '"));
        assert!(refused("größe".as_bytes()).contains("contains 'ö'"));
        assert!(refused(b"a\0").contains("contains '\\0'"));
        assert!(refused(b"a/b").contains("contains '/'"));
        assert!(refused(b"ok\xff\xfe").contains("\"ok\\xff\\xfe\" is not UTF-8"));
        assert!(refused(&[0xff; 100_000]).contains("is not UTF-8"));
        assert!(refused("\u{7f}".repeat(240).as_bytes()).contains("contains '\\u{7f}'"));
    }

    #[test]
    fn header_keys_are_utf8() {
        let header = |key| Header { key, value: None };
        assert!(check_headers(&[]).is_ok());
        assert!(check_headers(&[header(b""), header("größe".as_bytes())]).is_ok());
        let error = check_headers(&[header(b"ok"), header(b"\xc3(")]).unwrap_err();
        assert_eq!(error.message, "the key \"\\xc3(\" of header 1 is not UTF-8");
    }
}
