//! Deliberate defects, so that tests can show that the simulator finds them. Outside of tests there
//! are none: [`on`] is a constant `false`, and what depends on it is not compiled in.

/// What may be broken, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Batches that are sent again go in the order in which they came back.
    DropRetryOrder,
    /// Any OUT_OF_ORDER_SEQUENCE_NUMBER starts the sequence over, not only the oldest batch's.
    BumpOnAny45,
    /// A batch that is perhaps written, and unknown to the broker, is sent under another identity.
    RestartUndecided,
    /// A batch that is sent again gets new sequence numbers.
    NewSequenceOnRetry,
    /// UNKNOWN_TOPIC_OR_PARTITION starts the sequence over.
    ResetOnUnknownTopic,
    /// Starting over keeps the epoch.
    ReuseEpoch,
    /// Several batches go out before the leader knows the producer.
    SendBeforeKnown,
    /// Flush waits for a number of batches, whichever they are.
    FlushByCounting,
    /// A caller does not wake the network thread.
    LoseWake,
    /// The callback gets everything twice.
    ReportTwice,
    /// A connection that fails takes its batches with it.
    ForgetOnDisconnect,
    /// A request that was not answered counts as not written.
    UnansweredIsUnwritten,
    /// A later attempt makes an earlier one's doubt forgotten.
    ForgetDoubt,
    /// What expires in flight gives its turn away at once.
    FreeAtExpiry,
    /// What is in flight does not expire.
    KeepInFlight,
    /// Close fails what is in flight and forgets what waits.
    CloseForgetsFronts,
    /// Leader epochs go back.
    OlderEpoch,
    /// A batch that is too large fails, however many records it has.
    NeverSplit,
    /// All pieces of a batch get its first sequence number.
    PiecesShareSequence,
    /// The record behind the one at fault is blamed.
    BlameTheNext,
    /// The good records of a refused batch fail with the bad ones though nobody wants that.
    BlameAll,
    /// They are sent again though they are to fail.
    BlameNobodyElse,
    /// The leader's word that it had appended before it left is not heard.
    IgnoreAppended,
    /// Partitions that a topic gets later are not learnt of.
    KeepPartitionCount,
    /// The network thread is told of a record's own deadline once, not of earlier ones.
    TellOnce,
    /// Brokers of whom none can be reached are tried for ever (KIP-899).
    StayWithBrokers,
    /// So are those that never answer for metadata (KIP-1102).
    IgnoreTrigger,
    /// And those that say that the client has to start over.
    IgnoreSentAway,
    /// Deadlines are looked at by the clock on the wall.
    WallClock,
    /// A batch that is to be compressed is put into no queue.
    ForgetQueued,
    /// A batch that was compressed does not make its partition ready.
    LosePacked,
    /// What a batch was compressed to takes the place of whichever is the first by then.
    PackByPlace,
    /// A batch that was compressed goes before those that were not.
    PackedFirst,
    /// Interceptors do not hear of a record that is refused after they saw it.
    RefuseUntold,
    /// Nor of one that a call waits for.
    AnswerUntold,
    /// One that fails undoes what those before it have changed.
    ForgetLastGood,
    /// Interceptors hear of the end while calls are still inside them.
    EndTooEarly,
}

/// Whether this is broken.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on(_: Defect) -> bool {
    false
}

#[cfg(test)]
pub(crate) use switch::on;
#[cfg(all(test, feature = "mock", not(loom)))]
pub(crate) use switch::{set, switched};

#[cfg(test)]
mod switch {
    use super::Defect;
    use std::cell::Cell;

    thread_local! {
        static SWITCHED: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    /// Whether this thread runs with that defect.
    pub(crate) fn on(defect: Defect) -> bool {
        SWITCHED.get() == Some(defect)
    }

    /// This thread's defect.
    #[cfg(all(feature = "mock", not(loom)))]
    pub(crate) fn switched() -> Option<Defect> {
        SWITCHED.get()
    }

    /// Gives this thread a defect, or none.
    #[cfg(all(feature = "mock", not(loom)))]
    pub(crate) fn set(defect: Option<Defect>) {
        SWITCHED.set(defect);
    }
}
