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

    /// Takes in who is waited for; true if others than before are slow.
    fn look(&mut self, timeout: Duration, now: Instant) -> bool {
        let Awaited { since, slow, leaders, .. } = self;
        leaders.sort_unstable();
        leaders.dedup();
        since.retain(|(node, _)| leaders.binary_search(node).is_ok());
        for node in leaders.drain(..).filter(|node| *node != NO_LEADER) {
            if let Err(at) = since.binary_search_by_key(&node, |(node, _)| *node) {
                since.insert(at, (node, now));
            }
        }
        let is_slow = |since: &Instant| since.after(timeout) <= now;
        let now_slow = since.iter().filter(|(_, since)| is_slow(since)).map(|(node, _)| *node);
        if now_slow.clone().eq(slow.iter().copied()) {
            return false;
        }
        *slow = now_slow.collect();
        true
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
        if awaited.look(timeout, now) {
            self.parts.availability.publish(&awaited.slow);
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

    /// Whether others are slow than before, and who is.
    fn look(awaited: &mut Awaited, leaders: &[i32], at: u64) -> (bool, Vec<i32>) {
        awaited.leaders.extend(leaders);
        (awaited.look(TIMEOUT, ms(at)), awaited.slow.clone())
    }

    #[test]
    fn slow_is_who_was_waited_for_and_took_nothing() {
        let mut awaited = Awaited::new(Some(TIMEOUT));
        assert_eq!(look(&mut awaited, &[2, 1, 2, NO_LEADER], 0), (false, vec![]));
        awaited.took(1, ms(30));
        assert_eq!(look(&mut awaited, &[1, 2], 39), (false, vec![]));
        assert_eq!(look(&mut awaited, &[1, 2, 3], 40), (true, vec![2]));
        assert_eq!(look(&mut awaited, &[1, 2, 3], 69), (false, vec![2]));
        assert_eq!(look(&mut awaited, &[1, 2, 3], 70), (true, vec![1, 2]));
        awaited.took(2, ms(75));
        assert_eq!(awaited.next_look, ms(75), "it is looked at again at once");
        assert_eq!(look(&mut awaited, &[1, 2, 3], 76), (true, vec![1]));
        assert_eq!(look(&mut awaited, &[2, 3], 77), (true, vec![]), "nothing waits for it");
        assert_eq!(look(&mut awaited, &[1, 2, 3], 80), (true, vec![3]), "it starts over");
    }
}
