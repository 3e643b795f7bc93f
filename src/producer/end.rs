//! Flush, purge and close: calls that talk to the network thread and wait for what it does.

use super::{CLOSED, CLOSING, OPEN, Producer, Timeout};
use crate::clock::Instant;
use crate::delivery::reentry;
use crate::error::{Error, RETRIABLE, Result, status};
use crate::record::check_topic;
use crate::sender::{Control, Reply};
use crate::sync::lock;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What the callback thread gets beyond a close's own timeout to hand over what that close failed.
const HANDOVER: Duration = Duration::from_millis(40);

impl Producer {
    /// Sends what is buffered now without lingering, and waits until every record accepted before
    /// has its outcome.
    pub fn flush(&self, timeout: Timeout) -> Result<()> {
        let shared = &self.shared;
        shared.check_open()?;
        refuse_inside("producer_flush()")?;
        let deadline = timeout.deadline(shared.clock.now(), None);
        let cut = shared.accumulator.cuts().advance();
        shared.tell(Control::Flush { cut });
        if shared.accumulator.cuts().wait(cut, &shared.clock, deadline) {
            return Ok(());
        }
        let counters = self.counters();
        let message = format!(
            "flush: records still without an outcome when its timeout passed ({} pending in all); \
             flush again, or see their deliveries for why",
            counters.pending
        );
        Err(Error::new(status::TIMED_OUT, message).with(RETRIABLE))
    }

    /// Fails every record that was not yet written to a socket: of a partition, of a topic, or all.
    pub fn purge(&self, topic: Option<&str>, partition: Option<i32>) -> Result<()> {
        let shared = &self.shared;
        shared.check_open()?;
        if let Some(topic) = topic {
            check_topic(topic.as_bytes())?;
        }
        let (reply, done) = Reply::new();
        shared.tell(Control::Purge { topic: topic.map(Arc::from), partition, reply });
        // The network thread never waits for user code, but a callback must not wait for anything:
        // there the purge is on its way when this returns.
        if !reentry::inside() {
            done.wait(&shared.clock);
        }
        Ok(())
    }

    /// Stops the producer. Returns how many records it failed, and whether everything was reported
    /// in time.
    pub fn close(&self, timeout: Timeout) -> (u64, Result<()>) {
        // Counted: on_close may free the handle.
        let shared = &Arc::clone(&self.shared);
        let aborted = || shared.accumulator.aborted();
        if shared.state.load(Ordering::Acquire) == CLOSED {
            return (aborted(), Err(closed()));
        }
        if let Err(error) = refuse_inside("producer_close()") {
            return (0, Err(error));
        }
        let deadline = timeout.deadline(shared.clock.now(), None);
        // A producer that met a defect stays in that state until the end: later calls say so.
        let _ = shared.state.compare_exchange(OPEN, CLOSING, Ordering::AcqRel, Ordering::Acquire);
        // Callers that saw the producer open may still append: the cut waited for must cover them.
        shared.accumulator.shut();
        let cut = shared.accumulator.cuts().advance();
        // Without time for an outcome nothing is sent that would end in doubt.
        if timeout != Timeout::After(Duration::ZERO) {
            shared.tell(Control::Flush { cut });
        }
        shared.wake_waiters();
        shared.accumulator.cuts().wait(cut, &shared.clock, deadline);
        shared.tell(Control::Close);
        // Not bounded by the deadline: the network thread waits for nobody.
        shared.network_done.wait(&shared.clock, Instant::NEVER);
        shared.accumulator.seal_queue().close();
        // Once for all that follows: what is allowed beyond the deadline is not much more.
        let latest = deadline.max(shared.clock.now().after(HANDOVER));
        // One that is in the middle of a large batch ends after it, by itself; its memory comes
        // back then.
        shared.accumulator.seal_queue().wait(latest);
        if !shared.callback_done.wait(&shared.clock, latest) {
            let message = "close: a callback of yours still runs; call producer_close() again, or \
                           producer_free(), which waits for it";
            return (aborted(), Err(Error::new(status::TIMED_OUT, message).with(RETRIABLE)));
        }
        // In poll mode the end is the poll that says so.
        if !shared.deliveries.is_polled() && !shared.close_plugs(latest) {
            let message = "close: a send still runs a function of yours; call producer_close() \
                           again, or producer_free(), which waits for it";
            return (aborted(), Err(Error::new(status::TIMED_OUT, message).with(RETRIABLE)));
        }
        shared.state.store(CLOSED, Ordering::Release);
        (aborted(), Ok(()))
    }

    /// Begins to close without waiting: for a handle freed inside a callback.
    pub fn abandon(&self) {
        let shared = &self.shared;
        let _ = shared.state.compare_exchange(OPEN, CLOSING, Ordering::AcqRel, Ordering::Acquire);
        shared.wake_waiters();
        shared.accumulator.seal_queue().close();
        shared.tell(Control::Close);
    }
}

impl Producer {
    /// What is left to do when its threads have ended, on a thread that may wait for them.
    pub(super) fn end_elsewhere(&self) {
        if self.shared.plugs.is_none() {
            return;
        }
        let threads = std::mem::take(&mut *lock(&self.threads));
        let shared = Arc::clone(&self.shared);
        let end = move || {
            for thread in threads {
                let _ = thread.join();
            }
            shared.end();
        };
        // Without a thread for it nobody hears of the end; nobody waits for it either.
        let _ = std::thread::Builder::new().name("kafka-free".into()).spawn(end);
    }
}

impl super::Shared {
    /// The very end: the threads are gone. Outcomes that nobody took are told to the interceptors.
    pub(super) fn end(&self) {
        self.deliveries.discard();
        self.close_plugs(Instant::NEVER);
    }

    /// Ends what the user plugged in, once; false if it was still in use at the deadline.
    pub(super) fn close_plugs(&self, deadline: Instant) -> bool {
        self.plugs.as_ref().is_none_or(|plugs| plugs.close(&self.clock, deadline))
    }

    /// Lets callers that wait for metadata or memory see that the producer is closing.
    pub(super) fn wake_waiters(&self) {
        self.metadata.signal().notify();
        self.accumulator.pool().alert();
    }
}

fn refuse_inside(call: &str) -> Result<()> {
    if !reentry::inside() {
        return Ok(());
    }
    let message = format!(
        "{call} inside a callback would wait for that callback: call it from another thread"
    );
    Err(Error::new(status::WOULD_DEADLOCK, message))
}

fn closed() -> Error {
    Error::new(
        status::CLOSED,
        "the producer is closed already; what is left to do is producer_free()",
    )
}
