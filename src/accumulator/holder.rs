//! Who holds most of the memory, in the network thread's words, for callers who get none.
//!
//! Callers ask, one of them every [`PAUSE`] at most, and don't wait for the answer: whoever is
//! refused is told what was said last. Any thread; one lock, held while a pointer is copied.

use super::back::NO_LEADER;
use crate::clock::Instant;
use crate::sync::lock;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often it is asked for.
const PAUSE: Duration = Duration::from_millis(100);
/// So long it is worth repeating.
const LASTS: Duration = Duration::from_secs(1);

/// How much of the memory this leader holds.
pub fn share(leader: i32, held: usize, node: impl fmt::Display) -> String {
    match leader {
        NO_LEADER => format!("{held} of them for partitions without a leader"),
        _ => format!("{held} of them for {node}"),
    }
}

/// What the network thread said last.
#[derive(Debug, Default)]
pub struct Holder {
    /// From when on it may be asked for again, in microseconds.
    next: AtomicU64,
    said: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Holder {
    /// Whether the caller should ask: nobody has lately.
    pub fn must_ask(&self, now: Instant) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        next <= now.0
            && self
                .next
                .compare_exchange(next, now.after(PAUSE).0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Network thread: says it.
    pub fn say(&self, now: Instant, text: &str) {
        *lock(&self.said) = Some((now, text.into()));
    }

    /// What was said, unless that is too long ago.
    pub fn said(&self, now: Instant) -> Option<Arc<str>> {
        let said = lock(&self.said);
        let (at, text) = said.as_ref()?;
        (now < at.after(LASTS)).then(|| Arc::clone(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_without_a_leader_have_their_own_words() {
        assert_eq!(share(NO_LEADER, 5, "node -1"), "5 of them for partitions without a leader");
        assert_eq!(share(2, 7, "node 2 (b:1)"), "7 of them for node 2 (b:1)");
    }

    #[test]
    fn it_is_asked_for_now_and_then_and_repeated_for_a_while() {
        let holder = Holder::default();
        let start = Instant(5_000_000);
        assert!(holder.must_ask(start));
        assert!(!holder.must_ask(start.after(PAUSE / 2)));
        assert!(holder.must_ask(start.after(PAUSE)));
        assert_eq!(holder.said(start), None);
        holder.say(start, "node 1");
        assert_eq!(holder.said(start.after(LASTS / 2)).as_deref(), Some("node 1"));
        assert_eq!(holder.said(start.after(LASTS)), None);
    }
}
