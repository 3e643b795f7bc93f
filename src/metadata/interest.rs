//! One topic in use: what its last answer was, and what that means for who waits for it. Under the
//! metadata's lock.

use super::cluster::TopicMetadata;
use super::merge::{NO_ID, TopicAnswer};
use crate::clock::Instant;
use crate::error::{Error, status};
use std::sync::Arc;
use std::time::Duration;

/// How long a topic or a partition that was known may be missing from answers before it is given
/// up: brokers that just started, or hear late of a change, deny what others have told (librdkafka
/// waits as long).
pub(super) const DOUBT: Duration = Duration::from_secs(30);

/// A topic in use.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// When a caller or the network thread last asked for it.
    pub last_used: Instant,
    /// A refusal that asking again soon won't change, and when it came.
    pub failed: Option<(Error, Instant)>,
    /// The last answer, if it was an error: what a timeout names as its cause.
    pub last_error: Option<Error>,
    /// Since when answers lack what is known.
    doubted_since: Option<Instant>,
}

/// What an answer means for a topic.
#[derive(Debug)]
pub(super) struct Verdict {
    /// What is known of the topic now; `None`: nothing.
    pub topic: Option<Arc<TopicMetadata>>,
    /// Whether to ask again.
    pub again: bool,
}

impl Interest {
    /// In use since `now`.
    pub fn new(now: Instant) -> Interest {
        Interest { last_used: now, ..Interest::default() }
    }

    /// Takes an answer in; `None`: the response left the topic out although it was asked for.
    /// `used_lately`: since the last response.
    pub fn settle(
        &mut self,
        name: &Arc<str>,
        answer: Option<&TopicAnswer>,
        old: Option<&Arc<TopicMetadata>>,
        used_lately: bool,
        now: Instant,
    ) -> Verdict {
        let code = answer.map_or(status::UNKNOWN_TOPIC_OR_PARTITION, |answer| answer.error.into());
        let found = answer.filter(|answer| answer.error == 0 && !answer.partitions.is_empty());
        self.failed = None;
        if let Some(answer) = found {
            return self.found(name, answer, old, used_lately, now);
        }
        let error = topic_error(name, code);
        self.last_error = Some(error.clone());
        match code {
            // The broker means it. What is known stays: the leader's answer to a Produce request
            // decides there.
            status::INVALID_TOPIC_EXCEPTION | status::TOPIC_AUTHORIZATION_FAILED => {
                self.failed = Some((error, now));
                Verdict { topic: old.cloned(), again: false }
            }
            status::UNKNOWN_TOPIC_OR_PARTITION => {
                let since = *self.doubted_since.get_or_insert(now);
                let topic = old.filter(|_| now < since.after(DOUBT)).cloned();
                Verdict { topic, again: true }
            }
            _ => Verdict { topic: old.cloned(), again: true },
        }
    }

    fn found(
        &mut self,
        name: &Arc<str>,
        answer: &TopicAnswer,
        old: Option<&Arc<TopicMetadata>>,
        used_lately: bool,
        now: Instant,
    ) -> Verdict {
        self.last_error = None;
        let lacks = old.is_some_and(|old| answer.lacks_partitions_of(old));
        if lacks {
            self.doubted_since.get_or_insert(now);
        } else {
            self.doubted_since = None;
        }
        // A topic that has an id can't shrink; one without may have been deleted and created
        // smaller.
        let forget =
            answer.id == NO_ID && self.doubted_since.is_some_and(|since| now >= since.after(DOUBT));
        let topic = answer.merged(name, old, forget);
        // An election goes on, or the broker lags: worth asking again while somebody sends.
        let incomplete = topic.available() < topic.partitions.len() || (lacks && !forget);
        Verdict { topic: Some(topic), again: incomplete && used_lately }
    }
}

/// What a code in a topic's metadata means for who sends to it.
pub(super) fn topic_error(name: &str, code: i32) -> Error {
    let topic = shown(name);
    let message = match code {
        status::UNKNOWN_TOPIC_OR_PARTITION => format!(
            "topic {topic} does not exist: create it or check the name (the brokers create it \
             only with auto.create.topics.enable and allow.auto.create.topics)"
        ),
        status::INVALID_TOPIC_EXCEPTION => format!(
            "the cluster refuses the topic name {topic}: use another name, of letters, digits, \
             '.', '_' and '-'"
        ),
        status::TOPIC_AUTHORIZATION_FAILED => format!(
            "not authorized for topic {topic}: grant this client WRITE and DESCRIBE on it, and \
             CREATE if it is to be created automatically"
        ),
        status::LEADER_NOT_AVAILABLE | status::OK => {
            format!("topic {topic} has no leader yet: it is being created, or its brokers are down")
        }
        _ => format!("the brokers answer code {code} for the metadata of topic {topic}"),
    };
    let retriable =
        !matches!(code, status::INVALID_TOPIC_EXCEPTION | status::TOPIC_AUTHORIZATION_FAILED);
    let code = if code == status::OK { status::LEADER_NOT_AVAILABLE } else { code };
    Error::new(code, message).with(if retriable { crate::error::RETRIABLE } else { 0 })
}

/// A topic's name in a message: messages are cut at 247 bytes in C, names may have 249.
fn shown(name: &str) -> String {
    const MOST: usize = 80;
    match name.char_indices().nth(MOST) {
        Some((cut, _)) => format!("\"{}...\"", name.get(..cut).unwrap_or_default()),
        None => format!("\"{name}\""),
    }
}
