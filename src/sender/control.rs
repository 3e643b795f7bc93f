//! What callers ask of the network thread: messages, and slots for its replies. Sent by any thread
//! through a channel, taken out by the network thread at the start of each pass.

use crate::clock::Instant;
use crate::sync::Latch;
use std::sync::Arc;

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
pub struct Reply(Arc<Latch>);

impl Reply {
    /// A slot, and what to wait on.
    pub fn new() -> (Reply, Arc<Latch>) {
        let answer = Arc::new(Latch::default());
        (Reply(Arc::clone(&answer)), answer)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.0.set();
    }
}
