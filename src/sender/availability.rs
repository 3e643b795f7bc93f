//! Which leaders take nothing, for the partitioner to pass over
//! (`partitioner.availability.timeout.ms`, KIP-794).
//!
//! A leader is waited for while one of its partitions has something to send and can't, be it that
//! the node takes no request or that the partition has as many batches in flight as order allows.
//! Waited for longer than the timeout without taking a batch, it is slow; with the next batch that
//! it takes, or when nothing waits for it any more, it is not. All partitions are looked at a few
//! times per timeout, and only where that key is set.

use super::Sender;
use crate::accumulator::back::NO_LEADER;
use crate::clock::Instant;
use crate::log::Level;
use crate::network::Selectable;
use std::time::Duration;

/// So many looks fall into one timeout.
const LOOKS: u32 = 4;
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Leaders that are waited for.
pub(super) struct Awaited {
    timeout: Option<Duration>,
    next_look: Instant,
    /// Ascending, with the time since when.
    since: Vec<(i32, Instant)>,
    slow: Vec<i32>,
    leaders: Vec<i32>,
}

impl Awaited {
    pub(super) fn new(timeout: Option<Duration>) -> Awaited {
        Awaited {
            timeout,
            next_look: Instant(0),
            since: Vec::new(),
            slow: Vec::new(),
            leaders: Vec::new(),
        }
    }

    /// A node takes a batch.
    pub(super) fn took(&mut self, node: i32, now: Instant) {
        if let Ok(at) = self.since.binary_search_by_key(&node, |(node, _)| *node)
            && let Some((_, since)) = self.since.get_mut(at)
        {
            *since = now;
        }
        if self.slow.contains(&node) {
            self.next_look = now;
        }
    }

    /// Takes in who is waited for, and says anew who is slow.
    fn look(&mut self, timeout: Duration, now: Instant) {
        let Awaited { since, slow, leaders, .. } = self;
        leaders.sort_unstable();
        leaders.dedup();
        since.retain(|(node, _)| leaders.binary_search(node).is_ok());
        for node in leaders.drain(..).filter(|node| *node != NO_LEADER) {
            if let Err(at) = since.binary_search_by_key(&node, |(node, _)| *node) {
                since.insert(at, (node, now));
            }
        }
        slow.clear();
        let is_slow = |since: &Instant| since.after(timeout) <= now;
        slow.extend(since.iter().filter(|(_, since)| is_slow(since)).map(|(node, _)| *node));
    }
}

impl<S: Selectable> Sender<S> {
    /// Looks who is waited for, if it is time.
    pub(super) fn watch_leaders(&mut self, now: Instant) {
        let awaited = &mut self.awaited;
        let Some(timeout) = awaited.timeout else { return };
        if now < awaited.next_look {
            return;
        }
        awaited.next_look = now.after((timeout / LOOKS).max(SHORTEST_PAUSE));
        self.backs.awaited_leaders(&mut awaited.leaders);
        let before = std::mem::take(&mut awaited.slow);
        awaited.look(timeout, now);
        if awaited.slow == before {
            return;
        }
        self.parts.availability.publish(&awaited.slow);
        let log = |node: &i32, what: String| {
            self.parts.logger.log(Level::Info, "sender", || format!("node {node} {what}"));
        };
        for node in awaited.slow.iter().filter(|node| !before.contains(node)) {
            let timeout = timeout.as_millis();
            let passed = "records without a key pass it over until it does";
            log(node, format!("has taken nothing for {timeout} ms: {passed}"));
        }
        for node in before.iter().filter(|node| !awaited.slow.contains(node)) {
            log(node, "takes batches again".into());
        }
    }

    /// When to look again; `NEVER` while there is nobody to wait for.
    pub(super) fn leaders_due(&self) -> Instant {
        let awaited = &self.awaited;
        let anybody = !self.produces.is_empty()
            || self.backs.any_ready()
            || !awaited.since.is_empty()
            || !awaited.slow.is_empty();
        match awaited.timeout {
            Some(_) if anybody => awaited.next_look,
            Some(_) | None => Instant::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(40);

    fn ms(ms: u64) -> Instant {
        Instant(ms * 1000)
    }

    /// Who is slow now.
    fn look(awaited: &mut Awaited, leaders: &[i32], at: u64) -> Vec<i32> {
        awaited.leaders.extend(leaders);
        awaited.look(TIMEOUT, ms(at));
        awaited.slow.clone()
    }

    #[test]
    fn slow_is_who_was_waited_for_and_took_nothing() {
        let mut awaited = Awaited::new(Some(TIMEOUT));
        assert_eq!(look(&mut awaited, &[2, 1, 2, NO_LEADER], 0), [0; 0]);
        awaited.took(1, ms(30));
        assert_eq!(look(&mut awaited, &[1, 2], 39), [0; 0]);
        assert_eq!(look(&mut awaited, &[1, 2, 3], 40), [2]);
        assert_eq!(look(&mut awaited, &[1, 2, 3], 69), [2]);
        assert_eq!(look(&mut awaited, &[1, 2, 3], 70), [1, 2]);
        awaited.took(2, ms(75));
        assert_eq!(awaited.next_look, ms(75), "it is looked at again at once");
        assert_eq!(look(&mut awaited, &[1, 2, 3], 76), [1]);
        assert_eq!(look(&mut awaited, &[2, 3], 77), [0; 0], "nothing waits for it");
        assert_eq!(look(&mut awaited, &[1, 2, 3], 80), [3], "it starts over");
    }
}
