//! What was in the way of records that failed: from the state of topic, leader, connection and
//! partition to a stage for code, a clause for people and what they can do about it. Pure; network
//! thread.

use crate::accumulator::back::NO_LEADER;
use crate::accumulator::outgoing::History;
use crate::clock::Instant;
use crate::delivery::Stage;
use crate::error::{Status, short_name, status_message};
use crate::network::{ErrorKind, NetworkError, NodeStatus};
use std::fmt;
use std::time::Duration;

/// What is known of a batch that failed, and of the world around it.
pub(super) struct Circumstances<'a> {
    /// Why the topic is not known; `None` if it is.
    pub no_topic: Option<String>,
    /// The partition's leader of now, or [`NO_LEADER`].
    pub leader: i32,
    /// `host:port` of that one, or of the node the request went to.
    pub address: Option<&'a str>,
    /// What that node does.
    pub node: NodeStatus,
    /// Why the last connection to it failed.
    pub last_error: Option<&'a NetworkError>,
    /// Why there is no producer id, if the partition waits for one.
    pub no_id: Option<String>,
    /// Other batches of the partition that are in flight.
    pub ahead: u32,
    /// The batch is in flight itself.
    pub in_flight: bool,
    pub history: &'a History,
    pub now: Instant,
}

/// What was in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The cluster does not have the topic.
    NoTopic(String),
    /// The partition has no leader.
    NoLeader,
    /// There is no producer id, and why.
    NoId(String),
    /// There is no connection to the leader, and why.
    Unreachable(Option<ErrorKind>, String),
    /// The leader asked for a pause.
    Throttled(Duration),
    /// The broker refused it, or could not finish, and it was to be sent again.
    Refused(Status),
    /// The connection broke under it, and it was to be sent again.
    Interrupted(String),
    /// The partition's turn was that of others.
    Behind(u32, Duration),
    /// The node had as many requests as it may have.
    Full(usize, Duration),
    /// Nothing but its turn.
    Waiting,
    /// It was sent, and not answered.
    Unanswered(Duration),
}

impl Circumstances<'_> {
    pub(super) fn obstacle(&self) -> Obstacle {
        if self.in_flight {
            let sent = self.history.last_sent.unwrap_or(self.now);
            return Obstacle::Unanswered(self.now.since(sent));
        }
        if let Some(why) = &self.no_topic {
            return Obstacle::NoTopic(why.clone());
        }
        if self.leader == NO_LEADER {
            return Obstacle::NoLeader;
        }
        if let Some(why) = self.no_id.as_ref().filter(|_| self.last_error.is_none()) {
            return Obstacle::NoId(why.clone());
        }
        match self.node {
            NodeStatus::Unknown
            | NodeStatus::Disconnected(_)
            | NodeStatus::Resolving(_)
            | NodeStatus::Connecting(_) => self.unreachable(),
            NodeStatus::Throttled(rest) => Obstacle::Throttled(rest),
            NodeStatus::Ready { in_flight, oldest, full } => {
                self.refused().unwrap_or(if self.ahead > 0 {
                    Obstacle::Behind(self.ahead, oldest)
                } else if full {
                    Obstacle::Full(in_flight, oldest)
                } else {
                    Obstacle::Waiting
                })
            }
        }
    }

    fn unreachable(&self) -> Obstacle {
        if let Some(error) = self.last_error {
            return Obstacle::Unreachable(
                Some(error.kind),
                format!("could not be reached: {error}"),
            );
        }
        let (kind, why) = match self.node {
            NodeStatus::Resolving(since) => {
                let name = format!("was looked for: its name is not resolved after {}", ms(since));
                (Some(ErrorKind::Resolve), name)
            }
            NodeStatus::Connecting(since) => {
                let text = format!("was being connected to, for {}", ms(since));
                (Some(ErrorKind::SetupTimeout), text)
            }
            NodeStatus::Unknown => (None, "was not among the cluster's brokers".into()),
            NodeStatus::Disconnected(_) | NodeStatus::Throttled(_) | NodeStatus::Ready { .. } => {
                (None, "was not connected".into())
            }
        };
        Obstacle::Unreachable(kind, why)
    }

    /// ", which ...": how the leader is doing.
    pub(super) fn of_the_node(&self) -> String {
        match (self.node, self.obstacle()) {
            (_, Obstacle::Unreachable(_, why)) => format!(", which {why}"),
            (_, Obstacle::NoLeader) => String::new(),
            (NodeStatus::Throttled(rest), _) => {
                format!(", which throttles this client, for another {}", ms(rest))
            }
            (NodeStatus::Ready { in_flight: 1.., oldest, .. }, _) => {
                format!(", which has not answered for {}", ms(oldest))
            }
            _ => String::new(),
        }
    }

    /// It was sent, and is to be sent again.
    fn refused(&self) -> Option<Obstacle> {
        let History { attempts, broker_error, network_error, .. } = self.history;
        match (attempts, broker_error, network_error) {
            (1.., Some((code, _)), _) => Some(Obstacle::Refused(i32::from(*code))),
            (1.., None, Some(error)) => Some(Obstacle::Interrupted(error.to_string())),
            (0, ..) | (_, None, None) => None,
        }
    }

    /// "while ...": what was in the way, and what had happened before.
    pub(super) fn clause(&self, obstacle: &Obstacle) -> String {
        let node = self.history.node.filter(|_| self.in_flight).unwrap_or(self.leader);
        let node = Named { node, address: self.address };
        let mut text = match obstacle {
            Obstacle::NoTopic(why) => format!("its topic was not known: {why}"),
            Obstacle::NoLeader => "the partition had no leader".into(),
            Obstacle::NoId(why) => why.clone(),
            Obstacle::Unreachable(_, why) => format!("its leader, {node}, {why}"),
            Obstacle::Throttled(rest) => {
                format!("its leader, {node}, throttled this client, for another {}", ms(*rest))
            }
            Obstacle::Refused(_) | Obstacle::Interrupted(_) => {
                format!("it waited to be sent to {node} again")
            }
            Obstacle::Behind(ahead, oldest) => format!(
                "it waited behind {} of its partition; {node} has not answered for {}",
                count(*ahead as usize, "earlier batch", "earlier batches"),
                ms(*oldest)
            ),
            Obstacle::Full(requests, oldest) => format!(
                "it waited for its turn at {node}, which has {} to answer, the oldest for {}",
                count(*requests, "request", "requests"),
                ms(*oldest)
            ),
            Obstacle::Waiting => format!("it waited for its turn at {node}"),
            Obstacle::Unanswered(age) => format!("{node} had not answered for {}", ms(*age)),
        };
        self.append_history(obstacle, &mut text);
        text
    }

    fn append_history(&self, obstacle: &Obstacle, text: &mut String) {
        let History { attempts, broker_error, network_error, .. } = self.history;
        if *attempts > 0 && *obstacle != Obstacle::NoLeader {
            let attempts = count(*attempts as usize, "attempt", "attempts");
            *text += &format!(" ({attempts})");
        }
        if let Some((code, said)) = broker_error {
            *text += &format!("; the last answer was {}", short_name(i32::from(*code)));
            if let Some(said) = said {
                *text += &format!(" (\"{said}\")");
            }
        }
        // What it could not be reached for is said already, and newer.
        let told = matches!(obstacle, Obstacle::Unreachable(Some(_), _));
        if let Some(error) = network_error.as_ref().filter(|_| !told) {
            *text += &format!("; the last connection failed: {error}");
        }
    }
}

impl Obstacle {
    pub(super) fn stage(&self) -> Stage {
        match self {
            Obstacle::NoTopic(_) => Stage::NoMetadata,
            Obstacle::NoLeader => Stage::NoLeader,
            Obstacle::NoId(_) => Stage::Queued,
            Obstacle::Unreachable(..) => Stage::NotConnected,
            Obstacle::Throttled(_)
            | Obstacle::Refused(_)
            | Obstacle::Interrupted(_)
            | Obstacle::Behind(..)
            | Obstacle::Full(..)
            | Obstacle::Waiting => Stage::Queued,
            Obstacle::Unanswered(_) => Stage::InFlight,
        }
    }

    /// What to do about it, where what was in the way does not say it already.
    pub(super) fn remedy(&self) -> Option<String> {
        let text = match self {
            Obstacle::NoTopic(_) => return None,
            Obstacle::NoLeader => "bring the brokers of its replicas back",
            Obstacle::NoId(_) => {
                "find out why the brokers can't give one (the controller's log tells), or set \
                 enable.idempotence=false"
            }
            Obstacle::Unreachable(kind, _) => remedy_of(*kind),
            Obstacle::Throttled(_) => {
                "send less, or raise the quota (producer_byte_rate, request_percentage) of its \
                 user or client.id"
            }
            Obstacle::Refused(code) => return Some(what_it_means(*code)),
            Obstacle::Interrupted(_) => "find out in that broker's log why it ends connections",
            Obstacle::Behind(..) | Obstacle::Full(..) => {
                "the broker takes less than is sent: send less, or find out why it is slow"
            }
            Obstacle::Waiting => "raise the timeout, or lower linger.ms",
            Obstacle::Unanswered(_) => {
                "find out why that broker is slow, frozen or cut off, or raise the timeout"
            }
        };
        Some(text.into())
    }
}

fn remedy_of(kind: Option<ErrorKind>) -> &'static str {
    match kind {
        Some(ErrorKind::Resolve) => {
            "check the broker's advertised.listeners and this machine's name servers"
        }
        Some(ErrorKind::Connect) => {
            "check that the broker runs and that its advertised.listeners lead there"
        }
        Some(ErrorKind::SetupTimeout) => {
            "check for a firewall in between, and that the broker is not frozen"
        }
        Some(ErrorKind::RequestTimeout) => "find out why that broker is slow, frozen or cut off",
        Some(ErrorKind::Closed | ErrorKind::Reset) => {
            "find out in that broker's log why it ends connections"
        }
        Some(ErrorKind::NotKafka(_) | ErrorKind::Protocol | ErrorKind::UnsupportedVersion) => {
            "check the listener's address, its security.protocol and the broker's version"
        }
        Some(ErrorKind::Idle | ErrorKind::NotConnected | ErrorKind::Disconnected) | None => {
            "raise the timeout, or send again"
        }
    }
}

/// A code's sentence, to stand within another.
pub(super) fn what_it_means(code: Status) -> String {
    let text = status_message(code).to_string_lossy();
    let mut chars = text.trim_end_matches('.').chars();
    chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect()
}

/// "1 record", "2 records".
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// "node 1 (b1:9092)".
pub(super) struct Named<'a> {
    pub node: i32,
    pub address: Option<&'a str>,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "node {} ({address})", self.node),
            None => write!(f, "node {}", self.node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const NOW: Instant = Instant(10_000_000);
    const READY: NodeStatus =
        NodeStatus::Ready { in_flight: 0, oldest: Duration::ZERO, full: false };

    fn history(attempts: u32) -> History {
        let sent = Some(Instant(NOW.0 - 250_000)).filter(|_| attempts > 0);
        let node = sent.map(|_| 1);
        History { attempts, first_sent: sent, last_sent: sent, node, ..History::default() }
    }

    fn around(history: &History, node: NodeStatus) -> Circumstances<'_> {
        Circumstances {
            no_topic: None,
            leader: 1,
            address: Some("b1:9092"),
            node,
            last_error: None,
            no_id: None,
            ahead: 0,
            in_flight: false,
            history,
            now: NOW,
        }
    }

    fn told(circumstances: &Circumstances<'_>) -> (Stage, String) {
        let obstacle = circumstances.obstacle();
        (obstacle.stage(), circumstances.clause(&obstacle))
    }

    #[test]
    fn what_a_connection_is_about_is_said_when_nothing_has_failed_yet() {
        let fresh = history(0);
        let ms = Duration::from_millis;
        let cases = [
            (NodeStatus::Unknown, "was not among the cluster's brokers"),
            (NodeStatus::Disconnected(ms(20)), "was not connected"),
            (NodeStatus::Connecting(ms(70)), "was being connected to, for 70 ms"),
            (NodeStatus::Resolving(ms(80)), "its name is not resolved after 80 ms"),
        ];
        for (node, says) in cases {
            let (stage, text) = told(&around(&fresh, node));
            assert_eq!(stage, Stage::NotConnected, "{text}");
            assert!(text.starts_with("its leader, node 1 (b1:9092), was "), "{text}");
            assert!(text.contains(says), "{text}");
        }
        let error = NetworkError::new(ErrorKind::Connect, &Arc::from("b1:9092"), "no route");
        let failed = around(&fresh, NodeStatus::Connecting(ms(70)));
        let failed = Circumstances { last_error: Some(&error), ..failed };
        let text = "its leader, node 1 (b1:9092), could not be reached: b1:9092: no route";
        assert_eq!(told(&failed), (Stage::NotConnected, text.to_owned()));
    }

    #[test]
    fn how_a_broker_is_doing_is_said_in_passing() {
        let fresh = history(0);
        let (ms, of) = (Duration::from_millis, |node| around(&fresh, node).of_the_node());
        assert_eq!(of(READY), "");
        let frozen = NodeStatus::Ready { in_flight: 2, oldest: ms(1_200), full: false };
        assert_eq!(of(frozen), ", which has not answered for 1200 ms");
        let muted = NodeStatus::Throttled(ms(30));
        assert_eq!(of(muted), ", which throttles this client, for another 30 ms");
        assert_eq!(of(NodeStatus::Unknown), ", which was not among the cluster's brokers");
        let unknown = Circumstances { leader: NO_LEADER, ..around(&fresh, NodeStatus::Unknown) };
        assert_eq!(unknown.of_the_node(), "");
    }

    #[test]
    fn what_is_nearest_is_named() {
        let fresh = history(0);
        let busy =
            NodeStatus::Ready { in_flight: 5, oldest: Duration::from_millis(90), full: true };
        let (stage, text) = told(&around(&fresh, busy));
        let expected = "it waited for its turn at node 1 (b1:9092), which has 5 requests to \
                        answer, the oldest for 90 ms";
        assert_eq!((stage, text.as_str()), (Stage::Queued, expected));
        let (_, text) = told(&Circumstances { ahead: 2, ..around(&fresh, busy) });
        assert!(text.starts_with("it waited behind 2 earlier batches of its partition"), "{text}");
        let (stage, text) = told(&Circumstances { leader: NO_LEADER, ..around(&fresh, busy) });
        assert_eq!((stage, text.as_str()), (Stage::NoLeader, "the partition had no leader"));
        let nameless = Circumstances { no_id: Some("no id".into()), ..around(&fresh, READY) };
        assert_eq!(told(&nameless), (Stage::Queued, "no id".into()));
        let gone = Circumstances { no_topic: Some("none".into()), ..around(&fresh, busy) };
        assert_eq!(told(&gone), (Stage::NoMetadata, "its topic was not known: none".into()));
    }

    #[test]
    fn what_happened_before_is_told_behind_it() {
        let mut sent = history(3);
        sent.broker_error = Some((19, Some("too few".into())));
        sent.network_error = Some("b1:9092: reset".into());
        let before = "(3 attempts); the last answer was NOT_ENOUGH_REPLICAS (\"too few\"); the \
        last \
                      connection failed: b1:9092: reset";
        let again = format!("it waited to be sent to node 1 (b1:9092) again {before}");
        assert_eq!(told(&around(&sent, READY)), (Stage::Queued, again));
        let flying = Circumstances { in_flight: true, ..around(&sent, READY) };
        let text = format!("node 1 (b1:9092) had not answered for 250 ms {before}");
        assert_eq!(told(&flying), (Stage::InFlight, text));
        sent.broker_error = None;
        assert_eq!(around(&sent, READY).obstacle(), Obstacle::Interrupted("b1:9092: reset".into()));
    }

    #[test]
    fn every_obstacle_has_a_remedy_that_goes_on_the_sentence() {
        let kinds = [
            Some(ErrorKind::Resolve),
            Some(ErrorKind::Connect),
            Some(ErrorKind::SetupTimeout),
            Some(ErrorKind::RequestTimeout),
            Some(ErrorKind::Closed),
            Some(ErrorKind::Protocol),
            None,
        ];
        let mut all: Vec<Obstacle> =
            kinds.map(|kind| Obstacle::Unreachable(kind, String::new())).into();
        all.extend([
            Obstacle::NoLeader,
            Obstacle::NoId(String::new()),
            Obstacle::Throttled(Duration::ZERO),
            Obstacle::Refused(19),
            Obstacle::Interrupted(String::new()),
            Obstacle::Behind(1, Duration::ZERO),
            Obstacle::Full(1, Duration::ZERO),
            Obstacle::Waiting,
            Obstacle::Unanswered(Duration::ZERO),
        ]);
        for obstacle in all {
            let remedy = obstacle.remedy().unwrap();
            assert!(!remedy.ends_with('.'), "{remedy}");
            assert!(remedy.starts_with(|c: char| c.is_ascii_lowercase()), "{remedy}");
        }
        assert_eq!(Obstacle::NoTopic(String::new()).remedy(), None, "what it says has one");
    }
}
