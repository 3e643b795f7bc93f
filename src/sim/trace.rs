//! What happened, as a hash by which two runs are compared, and as lines for people.

use crate::clock::{Clock, Instant};
use crate::log::{Level, LogSink};
use crate::sync::lock;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::sync::Mutex;

/// How many lines are kept: the last ones before a failure.
const KEPT: usize = 100_000;

/// See the module's comment. Shared by all rooms of one run.
pub(super) struct Trace {
    clock: Clock,
    /// Lines are kept, the producer's log among them.
    pub(super) talks: bool,
    state: Mutex<State>,
}

struct State {
    hasher: foldhash::fast::FoldHasher<'static>,
    lines: VecDeque<String>,
    events: u64,
}

impl Trace {
    pub(super) fn new(clock: Clock, talks: bool) -> Trace {
        let hasher = foldhash::fast::FixedState::with_seed(7).build_hasher();
        let state = State { hasher, lines: VecDeque::new(), events: 0 };
        Trace { clock, talks, state: Mutex::new(state) }
    }

    /// Notes an event: `numbers` tell it from others, `line` describes it.
    pub(super) fn note(&self, numbers: &[u64], line: impl FnOnce() -> String) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        state.events += 1;
        state.hasher.write_u64(now.0);
        for number in numbers {
            state.hasher.write_u64(*number);
        }
        if self.talks {
            state.keep(now, line());
        }
    }

    /// All events in one number.
    pub(super) fn hash(&self) -> u64 {
        lock(&self.state).hasher.finish()
    }

    pub(super) fn events(&self) -> u64 {
        lock(&self.state).events
    }

    pub(super) fn lines(&self) -> Vec<String> {
        lock(&self.state).lines.iter().cloned().collect()
    }
}

impl State {
    fn keep(&mut self, now: Instant, line: String) {
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>10.3} {line}", now.0 as f64 / 1000.0 - 1_000_000.0));
    }
}

impl LogSink for Trace {
    fn log(&self, _level: Level, target: &'static str, message: String) {
        let now = self.clock.now();
        lock(&self.state).keep(now, format!("[{target}] {message}"));
    }
}
