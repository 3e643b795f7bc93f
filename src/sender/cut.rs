//! Batches that are cut: because they are too large for the broker, and to part the records that it
//! finds fault with from the others (KIP-467). Both only where no broker can have the batch.

use super::Sender;
use super::obstacle::Named;
use crate::accumulator::back::NO_LEADER;
use crate::accumulator::outgoing::{History, Outgoing, to_place};
use crate::clock::Instant;
use crate::defects::{self, Defect};
use crate::delivery::Stage;
use crate::log::Level;
use crate::network::Selectable;
use crate::protocol::api::ErrorCode;
use crate::protocol::messages::produce::PartitionProduceResponse;
use crate::protocol::record_batch::BATCH_HEADER_LEN;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The records that an answer finds fault with, by their places, and why.
pub(super) fn culprits(
    answer: &PartitionProduceResponse,
    count: u32,
) -> BTreeMap<usize, Option<Arc<str>>> {
    let named = answer.record_errors.iter().filter_map(|error| {
        let index = usize::try_from(error.batch_index).ok()?;
        let index = if defects::on(Defect::BlameTheNext) { index + 1 } else { index };
        let text = error.batch_index_error_message.as_deref().map(Arc::from);
        (index < count as usize).then_some((index, text))
    });
    named.collect()
}

impl<S: Selectable> Sender<S> {
    /// Sends a batch that is too large again in pieces of at most half its size: never tried, with
    /// the parts of its sequence numbers.
    pub(super) fn split(&mut self, batch: Outgoing, now: Instant) {
        let (slot, number) = (batch.partition.slot, batch.number);
        let (size, identity) = (batch.size(), batch.identity);
        let maybe_written = batch.history.maybe_written;
        let all_open = batch.open_count() == batch.count();
        let target = batch.unpacked(self.parts.settings.batch_size.min(size / 2));
        if let Some(compression) = batch.partition.compression() {
            compression.too_large();
        }
        let (mut at, mut filled) = (0, BATCH_HEADER_LEN);
        let pieces = self.cut_up(batch, now, |index, len| {
            if index > 0 && filled + len > target {
                (at, filled) = (at + 1, BATCH_HEADER_LEN);
            }
            filled += len;
            at
        });
        let Some(mut pieces) = pieces else { return };
        for piece in &mut pieces {
            let records = match defects::on(Defect::PiecesShareSequence) {
                true => 0,
                false => u32::try_from(piece.number - number).unwrap_or(u32::MAX),
            };
            piece.identity = identity.filter(|_| all_open).map(|of| of.after(records));
            piece.history = History { maybe_written, ..History::default() };
        }
        if let Some(piece) = pieces.first() {
            let partition = &piece.partition;
            self.parts.logger.log(Level::Info, "sender", || {
                format!(
                    "{}-{}: a batch of {size} bytes is too large for the broker; it is sent again \
                     as {} (a lower batch.size saves that)",
                    partition.topic,
                    partition.index,
                    pieces.len()
                )
            });
        }
        match all_open {
            true => self.backs.reenqueue_all(slot, number, pieces, now),
            // Records whose time is up are sent no more: their sequence numbers will be in no log.
            false => self.backs.replace(slot, number, pieces, now),
        }
    }

    /// The batch in pieces. Where its sealer or the socket still has it, it is sent again as it is,
    /// to be refused once more.
    fn cut_up(
        &mut self,
        batch: Outgoing,
        now: Instant,
        piece_of: impl FnMut(usize, usize) -> usize,
    ) -> Option<Vec<Outgoing>> {
        match batch.into_pieces(self.parts.accumulator.cuts(), piece_of) {
            Ok(pieces) => Some(pieces),
            Err(batch) => {
                let backoff = self.backoff(batch.history.attempts);
                self.backs.reenqueue(*batch, now.after(backoff));
                None
            }
        }
    }

    /// Fails the records that the broker finds fault with; the others are sent again in order, or
    /// fail with them if that is what is wanted.
    pub(super) fn drop_culprits(
        &mut self,
        batch: Outgoing,
        code: ErrorCode,
        answer: Option<&PartitionProduceResponse>,
        now: Instant,
    ) {
        let (slot, number) = (batch.partition.slot, batch.number);
        let mut culprits =
            answer.map_or_else(BTreeMap::new, |answer| culprits(answer, batch.count()));
        culprits.retain(|index, _| batch.is_open(to_place(*index)));
        let some_are_right = culprits.len() < batch.open_count() as usize;
        let places: BTreeMap<usize, usize> = culprits.keys().copied().zip(1..).collect();
        let piece_of = |index: usize, _| places.get(&index).copied().unwrap_or(0);
        let Some(pieces) = self.cut_up(batch, now, piece_of) else { return };
        let mut pieces = pieces.into_iter();
        let mut others = if some_are_right { pieces.next() } else { None };
        let first = culprits.iter().next().map(|(index, why)| (*index, why.clone()));
        let guilty: Vec<_> = pieces.zip(culprits.into_values()).collect();
        let rejects = self.parts.settings.reject_batch_on_record_error;
        let rejects =
            (rejects || defects::on(Defect::BlameAll)) && !defects::on(Defect::BlameNobodyElse);
        let rejected = match rejects {
            true => others.take(),
            false => None,
        };
        self.backs.replace(slot, number, others, now);
        for (mut record, why) in guilty {
            record.history.broker_error = Some((code.0, why));
            self.fail_answered(record, code, now);
        }
        if let Some(innocent) = rejected {
            self.fail_with_others(innocent, code, first, now);
        }
    }

    /// Records that nothing is said of, in a batch with one that is at fault.
    fn fail_with_others(
        &mut self,
        batch: Outgoing,
        code: ErrorCode,
        first: Option<(usize, Option<Arc<str>>)>,
        now: Instant,
    ) {
        let code = i32::from(code.0);
        let (index, said) = first.unwrap_or_default();
        let said = said.map_or(String::new(), |said| format!(" (\"{said}\")"));
        let why = format!(
            "another record of their batch, number {index}, was refused with {}{said}, and \
             reject.batch.on.record.error=true",
            crate::error::short_name(code)
        );
        self.fail(batch, code, 0, Stage::Answered, &why, now);
    }

    /// One record, and too large all the same.
    pub(super) fn fail_too_large(&mut self, batch: Outgoing, now: Instant) {
        let code = i32::from(ErrorCode::MESSAGE_TOO_LARGE.0);
        let node = batch.history.node.unwrap_or(NO_LEADER);
        let address = self.parts.client.address(node).map(|address| &**address);
        let said = match &batch.history.broker_error {
            Some((_, Some(text))) => format!(" (\"{text}\")"),
            Some((_, None)) | None => String::new(),
        };
        let size = batch.size();
        let what = match batch.count() {
            1 => format!("the record takes {size} bytes in a batch of its own"),
            count => format!("the batch of {count} records takes {size} bytes"),
        };
        let why = format!(
            "{} answered {}{said} at attempt {}: {what}, more than max.message.bytes of the topic \
             (message.max.bytes of the broker) allows: raise that, or send smaller records",
            Named { node, address },
            crate::error::short_name(code),
            batch.history.attempts
        );
        self.fail(batch, code, 0, Stage::Answered, &why, now);
    }
}
