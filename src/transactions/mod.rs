//! Who the producer is to the brokers: its producer id (KIP-98), and per partition the epoch and
//! the sequence numbers that go into batches ([`sequence`]).
//!
//! [`TransactionManager`] knows which id new sequences start under, and when a broker is to be
//! asked for one. It is pure: the sender sends the request and says what came of it. Network thread
//! only, no lock.

pub mod sequence;
pub mod state;

use crate::clock::Instant;
use crate::protocol::api::ErrorCode;
use crate::rng::Rng;
use sequence::ProducerIdAndEpoch;
use state::State;
use std::sync::Arc;
use std::time::Duration;

/// What an answer to InitProducerId means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is an id.
    Granted,
    /// Ask again, any broker.
    Again,
    /// The brokers will not give one: what waits for it fails.
    Refused,
}

/// See the module's comment.
#[derive(Debug)]
pub struct TransactionManager {
    state: State,
    newest: Option<ProducerIdAndEpoch>,
    failures: u32,
    not_before: Instant,
    last_error: Option<Arc<str>>,
    backoff: Duration,
    backoff_max: Duration,
}

/// Keeps `retry.backoff.ms=0` from asking without pause.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// Who is refused asks again with the next records, and not more often than this.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

impl TransactionManager {
    /// Without an id; `retry.backoff.ms` and `retry.backoff.max.ms` lie between requests that
    /// failed.
    pub fn new(backoff: Duration, backoff_max: Duration) -> TransactionManager {
        TransactionManager {
            state: State::Uninitialized,
            newest: None,
            failures: 0,
            not_before: Instant(0),
            last_error: None,
            backoff,
            backoff_max,
        }
    }

    /// The id that sequences start under from now on.
    pub fn newest(&self) -> Option<ProducerIdAndEpoch> {
        self.newest
    }

    /// When a request may go out; `None` while one is on its way.
    pub fn due(&self) -> Option<Instant> {
        (self.state != State::Initializing).then_some(self.not_before)
    }

    /// Why there is no id, if asking for one has failed.
    pub fn last_error(&self) -> Option<&Arc<str>> {
        self.last_error.as_ref()
    }

    /// A request went out.
    pub fn sent(&mut self) {
        self.state = self.state.transition(State::Initializing);
    }

    /// What a broker answered.
    pub fn answered(
        &mut self,
        code: ErrorCode,
        granted: ProducerIdAndEpoch,
        rng: &Rng,
        now: Instant,
    ) -> Verdict {
        let verdict = verdict(code, granted);
        match verdict {
            Verdict::Granted => {
                self.newest = Some(granted);
                self.failures = 0;
                self.last_error = None;
                self.not_before = now;
                self.state = self.state.transition(State::Ready);
            }
            Verdict::Again => {
                let name = crate::error::short_name(i32::from(code.0));
                self.failed(format!("the last answer was {name}").into(), rng, now);
            }
            Verdict::Refused => self.refused(now),
        }
        verdict
    }

    /// A broker refused in a way that asking again at once would not change.
    pub fn refused(&mut self, now: Instant) {
        self.not_before = now.after(self.backoff_max.max(REFUSED_PAUSE));
        self.state = self.state.transition(State::Uninitialized);
    }

    /// A request was lost, or was answered with what may pass.
    pub fn failed(&mut self, why: Arc<str>, rng: &Rng, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let backoff = rng.backoff(self.backoff, self.backoff_max, self.failures);
        self.not_before = now.after(backoff.max(LEAST_PAUSE));
        self.last_error = Some(why);
        self.state = self.state.transition(State::Uninitialized);
    }
}

/// Retriable is what a broker's state causes: an election, a coordinator that loads, a time-out.
/// Everything else is a matter of rights, versions or fencing, which waiting does not mend.
fn verdict(code: ErrorCode, granted: ProducerIdAndEpoch) -> Verdict {
    let again = matches!(
        code,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::CONCURRENT_TRANSACTIONS
            | ErrorCode::UNKNOWN_SERVER_ERROR
    ) || crate::error::is_retriable(i32::from(code.0));
    if code.is_none() && granted.id >= 0 && granted.epoch >= 0 {
        Verdict::Granted
    } else if code.is_none() || again {
        Verdict::Again
    } else {
        Verdict::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ProducerIdAndEpoch = ProducerIdAndEpoch { id: 7, epoch: 0 };

    fn manager() -> TransactionManager {
        TransactionManager::new(Duration::from_millis(100), Duration::from_secs(1))
    }

    #[test]
    fn what_may_pass_is_asked_again_and_what_may_not_is_not() {
        for code in 1..=133_i16 {
            let again = verdict(ErrorCode(code), ID) == Verdict::Again;
            match code {
                7 | 13 | 14 | 15 | 16 | 51 => assert!(again, "{code}"),
                29 | 31 | 35 | 42 | 47 | 53 | 90 => assert!(!again, "{code}"),
                _ => assert_eq!(again, crate::error::is_retriable(code.into()), "{code}"),
            }
        }
        assert_eq!(verdict(ErrorCode::UNKNOWN_SERVER_ERROR, ID), Verdict::Again);
        assert_eq!(verdict(ErrorCode::NONE, ID), Verdict::Granted);
        let nobody = ProducerIdAndEpoch { id: -1, epoch: -1 };
        assert_eq!(verdict(ErrorCode::NONE, nobody), Verdict::Again, "an answer without an id");
    }

    #[test]
    fn failures_back_off_and_a_grant_forgets_them() {
        let (rng, mut manager) = (Rng::seeded(1), manager());
        let mut now = Instant(1_000_000);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert!(manager.due().is_some_and(|due| due <= now));
            manager.sent();
            assert_eq!(manager.due(), None, "one at a time");
            manager.failed("cut".into(), &rng, now);
            let due = manager.due().unwrap();
            pauses.push(due.since(now).as_millis());
            now = due;
        }
        assert!(pauses[0] >= 80 && pauses[0] <= 120, "{pauses:?}");
        assert!(pauses[5] >= 800 && pauses[5] <= 1000, "{pauses:?}");
        assert_eq!(manager.last_error().map(|text| &**text), Some("cut"));
        manager.sent();
        assert_eq!(manager.answered(ErrorCode::NONE, ID, &rng, now), Verdict::Granted);
        assert_eq!((manager.newest(), manager.last_error()), (Some(ID), None));
        // The epochs of that one are used up.
        manager.sent();
        let next = ProducerIdAndEpoch { id: 8, epoch: 0 };
        assert_eq!(manager.answered(ErrorCode::NONE, next, &rng, now), Verdict::Granted);
        assert_eq!(manager.newest(), Some(next));
    }

    #[test]
    fn a_refusal_is_not_followed_by_a_storm() {
        let (rng, mut manager, now) = (Rng::seeded(1), manager(), Instant(1_000_000));
        manager.sent();
        let verdict = manager.answered(ErrorCode::PRODUCER_FENCED, ID, &rng, now);
        assert_eq!((verdict, manager.newest()), (Verdict::Refused, None));
        assert_eq!(manager.due(), Some(now.after(Duration::from_secs(1))));
    }
}
