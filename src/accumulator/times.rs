//! When the records of a batch were appended, and until when each must have its outcome.
//!
//! Kept beside the records in the batch: written under the front's lock while it is open, immutable
//! afterwards. `delivery.timeout.ms` counts from each record's append, of which marks are kept that
//! lie at least 20 ms apart; so what expires by it is a prefix of the batch, up to 20 ms early. A
//! record's own timeout takes the place of `delivery.timeout.ms`; a place for it per record is
//! there only if some record has one.

use crate::clock::Instant;
use crate::record::ProducerRecord;
use std::time::Duration;

/// Marks are at least so far apart.
const APART: Duration = Duration::from_millis(20);

/// In place of a record's own deadline: it has none.
pub(super) const NO_OWN: u64 = 0;

/// When a record must have its outcome that has a timeout of its own and is appended at `now`.
pub fn own_deadline(record: &ProducerRecord<'_>, now: Instant) -> Option<Instant> {
    let timeout = Duration::from_millis(record.timeout_ms.into());
    (record.timeout_ms > 0).then(|| now.after(timeout))
}

/// From this record on they were appended then or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    place: u32,
    /// Milliseconds after the first record.
    after: u32,
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Times {
    /// When the first record was appended.
    created: Instant,
    /// Ascending; without that of the first record.
    marks: Vec<Mark>,
    /// The first record's own deadline: most batches with one have no more.
    first_own: u64,
}

impl Times {
    pub(super) fn new(created: Instant) -> Times {
        Times { created, marks: Vec::new(), first_own: NO_OWN }
    }

    /// When the next mark is due, after one at `now`.
    pub(super) fn next_mark(now: Instant) -> Instant {
        now.after(APART)
    }

    /// The record at `place` is appended at `now`.
    pub(super) fn mark(&mut self, place: u32, now: Instant) {
        let after = now.since(self.created).as_millis();
        self.marks.push(Mark { place, after: u32::try_from(after).unwrap_or(u32::MAX) });
    }

    /// The first record has its own deadline.
    pub(super) fn own_first(&mut self, deadline: Instant) {
        self.first_own = deadline.0.max(1);
    }

    /// The deadlines of the records in order, for ever; `own` are those that have one, by place.
    pub(super) fn deadlines<'a>(
        &'a self,
        own: &'a [u64],
        timeout: Duration,
    ) -> impl Iterator<Item = Instant> + 'a {
        let mut marks = self.marks.iter().peekable();
        let mut appended = self.created;
        (0_u32..).map(move |place| {
            while let Some(mark) = marks.next_if(|mark| mark.place <= place) {
                appended = self.created.after(Duration::from_millis(mark.after.into()));
            }
            match self.own(place, own) {
                NO_OWN => appended.after(timeout),
                at => Instant(at),
            }
        })
    }

    fn own(&self, place: u32, own: &[u64]) -> u64 {
        match place {
            0 if self.first_own != NO_OWN => self.first_own,
            _ => own.get(place as usize).copied().unwrap_or(NO_OWN),
        }
    }

    /// Whether the record at this place has its own.
    pub(super) fn has_own(&self, place: u32, own: &[u64]) -> bool {
        self.own(place, own) != NO_OWN
    }

    /// Whether every deadline follows from the time of the append: then the first is the earliest.
    fn is_plain(&self, own: &[u64]) -> bool {
        self.first_own == NO_OWN && own.is_empty()
    }

    /// The earliest deadline of the first `count` records that are not `reported`.
    pub(super) fn next(
        &self,
        own: &[u64],
        count: u32,
        timeout: Duration,
        reported: impl Fn(u32) -> bool,
    ) -> Instant {
        let mut open =
            (0..count).zip(self.deadlines(own, timeout)).filter(|(at, _)| !reported(*at));
        let next = match self.is_plain(own) {
            true => open.next().map(|(_, at)| at),
            false => open.map(|(_, at)| at).min(),
        };
        next.unwrap_or(Instant::NEVER)
    }

    /// The same for those of the records, in order, that `stay`, as a batch of its own; and their
    /// own deadlines by place, none if none has one.
    pub(super) fn of_some(
        &self,
        own: &[u64],
        stay: impl Iterator<Item = u32>,
    ) -> (Times, Vec<u64>) {
        let mut stay = stay.peekable();
        let first = stay.peek().copied().unwrap_or(0);
        let mut marks = self.marks.iter().rev();
        let before = marks.find(|mark| mark.place <= first).map_or(0, |mark| mark.after);
        let mut times = Times::new(self.created.after(Duration::from_millis(before.into())));
        let mut owns = Vec::new();
        let mut last = before;
        for (place, old) in (0_u32..).zip(stay) {
            // Ascending, as the records are.
            let after = self.marks.partition_point(|mark| mark.place <= old);
            let after = after.checked_sub(1).and_then(|at| self.marks.get(at));
            let after = after.map_or(0, |mark| mark.after);
            if after > last {
                times.marks.push(Mark { place, after: after - before });
                last = after;
            }
            owns.push(self.own(old, own));
        }
        // The first one's needs no place, and had none before.
        if owns.iter().skip(1).all(|own| *own == NO_OWN) {
            times.first_own = owns.first().copied().unwrap_or(NO_OWN);
            owns.clear();
        }
        (times, owns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Instant {
        Instant(1_000_000 + ms * 1000)
    }

    /// Appended at 0, 0, 25, 25 and 60 ms.
    fn times() -> Times {
        let mut times = Times::new(ms(0));
        times.mark(2, ms(25));
        times.mark(4, ms(60));
        times
    }

    fn deadlines(times: &Times, own: &[u64], count: usize) -> Vec<u64> {
        let deadlines = times.deadlines(own, TIMEOUT).take(count);
        deadlines.map(|at| (at.0 - 1_000_000) / 1000).collect()
    }

    fn none(_: u32) -> bool {
        false
    }

    #[test]
    fn each_record_has_the_time_of_the_mark_before_it() {
        let times = times();
        assert_eq!(deadlines(&times, &[], 6), [1000, 1000, 1025, 1025, 1060, 1060]);
        assert_eq!(times.next(&[], 6, TIMEOUT, none), ms(1000));
        assert_eq!(times.next(&[], 6, TIMEOUT, |at| at < 2), ms(1025));
        assert_eq!(times.next(&[], 6, TIMEOUT, |at| at < 6), Instant::NEVER);
        assert_eq!(Times::next_mark(ms(0)), ms(20));
    }

    #[test]
    fn a_deadline_of_its_own_stands_for_the_other() {
        let mut times = times();
        let own = [NO_OWN, ms(70).0, NO_OWN, ms(9000).0];
        assert_eq!(deadlines(&times, &own, 6), [1000, 70, 1025, 9000, 1060, 1060]);
        assert_eq!(times.next(&own, 6, TIMEOUT, none), ms(70));
        assert_eq!(times.next(&own, 6, TIMEOUT, |at| at == 1), ms(1000));
        times.own_first(ms(50));
        assert_eq!(deadlines(&times, &[], 3), [50, 1000, 1025]);
        assert_eq!(times.next(&[], 3, TIMEOUT, none), ms(50));
        times.own_first(Instant(0));
        assert_eq!(times.next(&[], 3, TIMEOUT, none), Instant(1), "at once is not never");
    }

    #[test]
    fn some_of_the_records_keep_their_times() {
        let mut times = times();
        times.own_first(ms(10));
        let own = [NO_OWN, ms(70).0, NO_OWN, ms(9000).0];
        for stay in [vec![0, 1, 2, 3, 4, 5], vec![1, 3, 5], vec![2, 4], vec![0], vec![4]] {
            let all = deadlines(&times, &own, 6);
            let expected: Vec<u64> = stay.iter().map(|at| all[*at as usize]).collect();
            let (some, owns) = times.of_some(&own, stay.iter().copied());
            assert_eq!(deadlines(&some, &owns, stay.len()), expected, "{stay:?}");
        }
        let (plain, owns) = times.of_some(&own, [2, 4].into_iter());
        assert!(plain.is_plain(&owns));
        // Memory that the batch did not take is not there for its parts.
        for stay in [[0, 2], [1, 2]] {
            let (some, owns) = times.of_some(&own, stay.into_iter());
            assert!(some.has_own(0, &owns) && owns.is_empty(), "{stay:?}");
        }
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        let mut times = Times::new(Instant(u64::MAX - 5));
        times.mark(1, Instant::NEVER);
        assert_eq!(times.next(&[], 2, Duration::MAX, none), Instant::NEVER);
        let mut times = Times::new(Instant(0));
        times.mark(1, Instant::NEVER);
        let at: Vec<_> = times.deadlines(&[], Duration::MAX).take(2).collect();
        assert_eq!(at, [Instant::NEVER; 2]);
    }
}
