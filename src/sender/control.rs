//! What callers ask of the network thread: messages, and slots for its replies. Sent by any thread
//! through a channel, taken out by the network thread at the start of each pass.

use crate::clock::{Clock, Instant};
use crate::sync::{Signal, lock};
use std::sync::{Arc, Mutex};

/// What callers ask of the network thread.
pub enum Control {
    /// Send batches of this cut and older without lingering.
    Flush {
        /// The cut.
        cut: u64,
    },
    /// Fail what was not yet written to a socket.
    Purge {
        /// Of this topic, or of all.
        topic: Option<Arc<str>>,
        /// Of this partition, or of all.
        partition: Option<i32>,
        /// Answered when it is done.
        reply: Reply,
    },
    /// A record of this partition has a deadline of its own.
    Expiry {
        /// The partition's slot.
        slot: u32,
        /// The deadline.
        at: Instant,
    },
    /// Fail everything and end.
    Close,
}

/// A reply slot that answers when it is dropped: nobody waits for a thread that has ended.
pub struct Reply(Arc<Answer>);

/// What a caller waits on.
#[derive(Default)]
pub struct Answer {
    given: Mutex<bool>,
    signal: Signal,
}

impl Reply {
    /// A slot, and what to wait on.
    pub fn new() -> (Reply, Arc<Answer>) {
        let answer = Arc::new(Answer::default());
        (Reply(Arc::clone(&answer)), answer)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        *lock(&self.0.given) = true;
        self.0.signal.notify();
    }
}

impl Answer {
    /// Waits until the slot was dropped; false when `deadline` has passed.
    pub fn wait(&self, clock: &Clock, deadline: Instant) -> bool {
        loop {
            let seen = self.signal.generation();
            if *lock(&self.given) {
                return true;
            }
            if !self.signal.wait(seen, clock, deadline) {
                return false;
            }
        }
    }
}
