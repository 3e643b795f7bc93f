//! How long a call may wait, and whether it may at all.

use super::Shared;
use crate::clock::{Clock, Instant};
use crate::delivery::reentry;
use crate::error::{Error, RETRIABLE, Result, status};
use crate::sender::{Control, Reply};
use crate::sync::Signal;
use std::time::Duration;

/// A caller's `timeout_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// As long as the configuration allows.
    Default,
    /// This long; zero never waits.
    After(Duration),
}

impl Timeout {
    /// When it is over; `default` is what the configuration allows, `None` for ever.
    pub fn deadline(self, now: Instant, default: Option<Duration>) -> Instant {
        match (self, default) {
            (Timeout::After(duration), _) | (Timeout::Default, Some(duration)) => {
                now.after(duration)
            }
            (Timeout::Default, None) => Instant::NEVER,
        }
    }
}

/// One call's budget for all its waits: metadata and memory together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// When the call began.
    began: Instant,
    /// How long its waits may take together; zero: it never waits and says so by status.
    pub budget: Duration,
}

impl Wait {
    /// The budget of a call that began at this time. Nothing is computed until something has to
    /// wait.
    pub fn new(began: Instant, budget: Duration) -> Wait {
        Wait { began, budget }
    }

    /// Whether the call may not wait at all.
    pub fn is_never(&self) -> bool {
        self.budget.is_zero()
    }

    /// When the budget is spent.
    pub fn deadline(&self) -> Instant {
        self.began.after(self.budget)
    }

    /// Whether this call may wait now; inside the user's code none may.
    pub fn check(&self, for_what: &str) -> Result<()> {
        if reentry::inside() {
            let message = format!(
                "inside a callback nothing waits, and this would have to wait for {for_what}: do \
                it from another thread"
            );
            return Err(Error::new(status::WOULD_DEADLOCK, message).with(RETRIABLE));
        }
        Ok(())
    }

    /// Waits for the signal to move on from `seen`; false when the budget is spent.
    pub fn on(&self, signal: &Signal, seen: u64, clock: &Clock) -> bool {
        !self.is_never() && signal.wait(seen, clock, self.deadline())
    }
}

impl Shared {
    /// What is in the way of a partition's records, in the network thread's words.
    pub(super) fn explain(&self, slot: u32) -> Option<String> {
        let (reply, answer) = Reply::new();
        self.tell(Control::Explain { slot, reply });
        answer.wait(&self.clock)
    }

    /// The budget of a call: its timeout, or `max.block.ms`.
    pub(super) fn wait_for(&self, timeout: Timeout) -> Wait {
        let budget = match timeout {
            Timeout::Default => self.settings.max_block,
            Timeout::After(duration) => duration,
        };
        Wait::new(self.clock.now(), budget)
    }
}
