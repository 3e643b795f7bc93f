//! Calls for many records, and loops around calls that never wait.

use super::baton::sleeps;
use super::caller::{Caller, GRACE};
use super::oracle::Draft;
use crate::error::status;
use crate::producer::Timeout;
use crate::sync::lock;
use std::time::Duration;

/// How often a record is tried.
const MOST_TRIES: usize = 20;

impl Caller {
    /// Records of all kinds in one call; false once the producer is closed.
    pub(super) fn send_batch(&mut self) -> bool {
        let drafts: Vec<Draft> = (0..self.rng.usize(1..30)).map(|_| self.draft()).collect();
        self.send_drafts(&drafts)
    }

    /// A column of records that differ in their values, as a table's rows do.
    pub(super) fn send_run(&mut self) -> bool {
        let first = loop {
            let draft = self.draft();
            if draft.guilt.is_none() {
                break draft;
            }
        };
        let size = first.size.min(self.plan().value_size);
        let drafts: Vec<Draft> = (0..self.rng.usize(20..150))
            .map(|_| Draft { size: self.rng.usize(0..=size), ..first.clone() })
            .collect();
        self.send_drafts(&drafts)
    }

    fn send_drafts(&mut self, drafts: &[Draft]) -> bool {
        let timeout = Duration::from_millis([0, 10, 500][self.rng.usize(0..3)]);
        let (ids, values): (Vec<u64>, Vec<Vec<u8>>) = {
            let mut oracle = lock(&self.world.oracle);
            let now = self.now();
            let calls = drafts.iter().map(|draft| {
                let id = oracle.calls(draft, self.number, now);
                (id, oracle.value(id))
            });
            calls.unzip()
        };
        let records = drafts.iter().zip(&values).zip(&ids);
        let records = records.map(|((draft, value), id)| Ok(draft.record(*id, value)));
        let (began, slept) = (self.now(), sleeps());
        let (count, result) = self.producer.send_batch(records, Timeout::After(timeout));
        self.check_time("send_batch", began, timeout + GRACE);
        let now = self.now();
        {
            let mut oracle = lock(&self.world.oracle);
            ids.iter().take(count).for_each(|id| oracle.accepted(*id, sleeps() == slept, now));
            let refused = result.as_ref().map_or_else(|error| error.status, |()| status::OK);
            let mut left = ids.iter().skip(count);
            let first = left.next().map_or(Ok(()), |id| oracle.refused(*id, refused));
            let behind = left.try_for_each(|id| oracle.left_out(*id));
            drop(oracle);
            self.check(first.and(behind));
        }
        self.world.trace.note(&[31, ids[0], count as u64], || {
            format!("caller {}: records {ids:?}: {count} accepted", self.number)
        });
        match result {
            Ok(()) => true,
            Err(error) => self.check_refusal(&error),
        }
    }

    /// Tries until there is room, with pauses, as who must not wait does.
    pub(super) fn try_until_taken(&mut self) -> bool {
        let draft = self.draft();
        for _ in 0..self.rng.usize(1..=MOST_TRIES) {
            match self.hand_over(&draft, true) {
                Ok(()) => return true,
                Err(error) if !self.check_refusal(&error) => return false,
                Err(_) => self.pause(2000),
            }
        }
        true
    }
}
