//! InFlightRequests: what was asked of one node and has no outcome yet, in order.
//!
//! Network thread only. A request enters `sending` when it is given to the channel and leaves it
//! when its last byte is written: to its outcome if it needs no response (acks=0), else into
//! `awaiting`, which it leaves when the response comes. Kafka answers in order, so only the oldest
//! of `awaiting` can be answered. Correlation ids count per connection.

use crate::clock::Instant;
use crate::protocol::ApiKey;
use std::collections::VecDeque;
use std::time::Duration;

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The client's own: ApiVersions. Nobody is told of its outcome.
    Client,
    /// The sender's, with its token.
    Sender(u64),
}

/// A request without an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InFlightRequest {
    pub(super) owner: Owner,
    pub(super) api: ApiKey,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    pub(super) expects_response: bool,
    pub(super) sent: Instant,
    /// When its timeout is over.
    pub(super) deadline: Instant,
}

/// A response that answers nothing that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// The id of the oldest request that awaits a response, if there is one.
    pub(super) expected: Option<i32>,
}

/// The requests of one connection that have no outcome.
#[derive(Debug, Default)]
pub(super) struct InFlightRequests {
    next_correlation_id: i32,
    /// Not written to the end; newest first.
    sending: VecDeque<InFlightRequest>,
    /// Written, not answered; newest first.
    awaiting: VecDeque<InFlightRequest>,
}

impl InFlightRequests {
    /// The id for the next request of this connection. Java keeps the last eight of the positive
    /// ids for SASL; since the oldest request is the only one that can be answered, and ids of one
    /// connection are 2^32 apart, that isn't needed.
    pub(super) fn next_correlation_id(&mut self) -> i32 {
        let id = self.next_correlation_id;
        self.next_correlation_id = id.wrapping_add(1);
        id
    }

    /// A new connection: its ids start over.
    pub(super) fn start(&mut self, first_correlation_id: i32) {
        debug_assert!(self.is_empty());
        self.next_correlation_id = first_correlation_id;
    }

    /// Takes a request that was given to the channel.
    pub(super) fn add(&mut self, request: InFlightRequest) {
        self.sending.push_front(request);
    }

    /// The oldest request in `sending` is written to its last byte: gives it back if that was all
    /// that it needed.
    pub(super) fn written(&mut self) -> Option<InFlightRequest> {
        let request = self.sending.pop_back()?;
        if !request.expects_response {
            return Some(request);
        }
        self.awaiting.push_front(request);
        None
    }

    /// A response with this id arrived: it must answer the oldest request that awaits one.
    pub(super) fn complete(&mut self, correlation_id: i32) -> Result<InFlightRequest, Mismatch> {
        match self.awaiting.pop_back() {
            Some(oldest) if oldest.correlation_id == correlation_id => Ok(oldest),
            Some(oldest) => {
                let expected = Some(oldest.correlation_id);
                self.awaiting.push_back(oldest);
                Err(Mismatch { expected })
            }
            None => Err(Mismatch { expected: None }),
        }
    }

    /// The oldest request that awaits a response.
    pub(super) fn oldest_awaiting(&self) -> Option<&InFlightRequest> {
        self.awaiting.back()
    }

    /// When the oldest request without an outcome was sent.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.awaiting.back().or(self.sending.back()).map(|request| request.sent)
    }

    /// How many have no outcome.
    pub(super) fn len(&self) -> usize {
        self.sending.len() + self.awaiting.len()
    }

    /// Whether all have their outcome.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether something is not written to the end.
    pub(super) fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }

    /// The earliest end of a timeout.
    pub(super) fn deadline(&self) -> Instant {
        self.iter().map(|request| request.deadline).min().unwrap_or(Instant::NEVER)
    }

    /// The oldest of those whose timeout is over.
    pub(super) fn timed_out(&self, now: Instant) -> Option<&InFlightRequest> {
        self.iter().find(|request| request.deadline <= now)
    }

    /// Time that the broker lets pass by throttling is not the request's.
    pub(super) fn extend_deadlines(&mut self, by: Duration) {
        for request in self.awaiting.iter_mut().chain(&mut self.sending) {
            request.deadline = request.deadline.after(by);
        }
    }

    /// The connection is gone: everything leaves, oldest first, with whether any byte of it may
    /// have reached the broker. `begun`: whether the oldest of `sending` was begun; at most one
    /// ever is.
    pub(super) fn fail_all(
        &mut self,
        begun: bool,
    ) -> impl Iterator<Item = (InFlightRequest, bool)> {
        let written = self.awaiting.drain(..).rev().map(|request| (request, true));
        let sending = self.sending.drain(..).rev().enumerate();
        written.chain(sending.map(move |(i, request)| (request, begun && i == 0)))
    }

    /// Oldest first.
    fn iter(&self) -> impl Iterator<Item = &InFlightRequest> {
        self.awaiting.iter().rev().chain(self.sending.iter().rev())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(requests: &mut InFlightRequests, token: u64, expects_response: bool) -> i32 {
        let correlation_id = requests.next_correlation_id();
        requests.add(InFlightRequest {
            owner: Owner::Sender(token),
            api: ApiKey::Produce,
            version: 9,
            correlation_id,
            expects_response,
            sent: Instant(0),
            deadline: Instant(1000 + token),
        });
        correlation_id
    }

    fn token(request: &InFlightRequest) -> u64 {
        match request.owner {
            Owner::Sender(token) => token,
            Owner::Client => u64::MAX,
        }
    }

    #[test]
    fn what_needs_a_response_leaves_in_order() {
        let mut requests = InFlightRequests::default();
        let ids: Vec<i32> = (0..3).map(|t| add(&mut requests, t, true)).collect();
        assert_eq!(ids, [0, 1, 2]);
        // Nothing is written yet, so that nothing can be answered.
        assert_eq!(requests.complete(0), Err(Mismatch { expected: None }));
        for _ in 0..3 {
            assert_eq!(requests.written(), None);
        }
        assert_eq!(requests.complete(1), Err(Mismatch { expected: Some(0) }));
        for (t, id) in ids.into_iter().enumerate() {
            assert_eq!(token(&requests.complete(id).unwrap()), t as u64);
        }
        assert!(requests.is_empty());
    }

    #[test]
    fn acks_0_leaves_when_written_and_is_never_answered() {
        let mut requests = InFlightRequests::default();
        add(&mut requests, 10, true);
        add(&mut requests, 11, false);
        add(&mut requests, 12, true);
        assert_eq!(requests.written(), None);
        assert_eq!(requests.written().as_ref().map(token), Some(11));
        assert_eq!(requests.written(), None);
        assert_eq!(requests.len(), 2);
        assert_eq!(token(&requests.complete(0).unwrap()), 10);
        assert_eq!(token(&requests.complete(2).unwrap()), 12);
    }

    #[test]
    fn correlation_ids_wrap() {
        let mut requests = InFlightRequests::default();
        requests.start(i32::MAX);
        assert_eq!(add(&mut requests, 0, true), i32::MAX);
        assert_eq!(add(&mut requests, 1, true), i32::MIN);
        requests.written();
        requests.written();
        assert!(requests.complete(i32::MAX).is_ok());
        assert!(requests.complete(i32::MIN).is_ok());
    }

    #[test]
    fn failing_tells_what_was_written() {
        for (begun, expected) in [
            (false, vec![(0, true), (1, false), (2, false)]),
            (true, vec![(0, true), (1, true), (2, false)]),
        ] {
            let mut requests = InFlightRequests::default();
            for t in 0..3 {
                add(&mut requests, t, true);
            }
            requests.written();
            let failed: Vec<_> = requests.fail_all(begun).map(|(r, w)| (token(&r), w)).collect();
            assert_eq!(failed, expected);
            assert!(requests.is_empty());
        }
    }

    #[test]
    fn deadlines_are_the_earliest_and_can_be_extended() {
        let mut requests = InFlightRequests::default();
        assert_eq!(requests.deadline(), Instant::NEVER);
        add(&mut requests, 500, true);
        add(&mut requests, 7, true);
        requests.written();
        assert_eq!(requests.deadline(), Instant(1007));
        assert_eq!(requests.timed_out(Instant(1006)), None);
        assert_eq!(requests.timed_out(Instant(1007)).map(token), Some(7));
        requests.extend_deadlines(Duration::from_micros(100));
        assert_eq!(requests.deadline(), Instant(1107));
    }
}
