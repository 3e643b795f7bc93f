//! What callers ask of the network thread: messages, and slots for its replies. Sent by any thread
//! through a channel, taken out by the network thread at the start of each pass.

use crate::clock::{Clock, Instant};
use crate::sync::{Latch, lock};
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
    /// Say what is in the way of this partition's records, and who holds the memory.
    Explain {
        /// The partition's slot.
        slot: u32,
        /// Answered with a clause.
        reply: Reply,
    },
    /// Fail everything and end.
    Close,
}

/// A reply slot that answers when it is dropped: nobody waits for a thread that has ended.
pub struct Reply(Arc<Answer>);

/// What a reply slot was answered with, and when.
#[derive(Default)]
pub struct Answer {
    done: Latch,
    text: Mutex<Option<String>>,
}

impl Reply {
    /// A slot, and what to wait on.
    pub fn new() -> (Reply, Arc<Answer>) {
        let answer = Arc::new(Answer::default());
        (Reply(Arc::clone(&answer)), answer)
    }

    /// Answers with a text, if there is one.
    pub fn say(self, text: Option<String>) {
        *lock(&self.0.text) = text;
    }
}

impl Answer {
    /// Waits for it: the network thread waits for nobody, and answers in its next pass.
    pub fn wait(&self, clock: &Clock) -> Option<String> {
        self.done.wait(clock, Instant::NEVER);
        lock(&self.text).take()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.0.done.set();
    }
}
