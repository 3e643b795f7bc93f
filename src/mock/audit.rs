//! What no broker checks and every idempotent producer owes: the same producer id, epoch and
//! sequence numbers always come with the same bytes, whether a batch is taken or refused. Two
//! different batches under one identity are how a duplicate passes for a retry, and a new record
//! for an old one.

use std::collections::HashMap;

use bytes::Bytes;

use crate::protocol::record_batch::RecordBatch;

/// How many batches are remembered; later ones are not looked at.
const REMEMBERED: usize = 100_000;
/// How many contradictions are kept.
const KEPT: usize = 100;

/// What a broker knows a batch by.
type Identity = (String, i32, i64, i16, i32, i32);

/// Every batch of idempotent producers that came.
#[derive(Debug, Default)]
pub struct Audit {
    sums: HashMap<Identity, u32, foldhash::fast::FixedState>,
    contradictions: Vec<String>,
}

impl Audit {
    /// Looks at a batch that came for a partition.
    pub fn note(&mut self, topic: &str, partition: i32, records: Option<&Bytes>) {
        let Some(Ok((batch, _))) = records.map(|records| RecordBatch::split(records)) else {
            return;
        };
        let header = batch.header;
        if header.producer_id < 0 || self.sums.len() >= REMEMBERED {
            return;
        }
        let (id, epoch, base) = (header.producer_id, header.producer_epoch, header.base_sequence);
        let count = header.record_count;
        let identity = (topic.to_owned(), partition, id, epoch, base, count);
        let first = *self.sums.entry(identity).or_insert(batch.crc);
        if first != batch.crc && self.contradictions.len() < KEPT {
            self.contradictions.push(format!(
                "{topic}-{partition}: producer {id}, epoch {epoch}: {count} records from sequence \
                 {base} came with other bytes than before"
            ));
        }
    }

    /// What was found.
    pub fn contradictions(&self) -> &[String] {
        &self.contradictions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::testing::TestBatch;

    fn batch(values: &[&'static str], producer_id: i64, base_sequence: i32) -> Bytes {
        let mut batch = TestBatch::of(values);
        batch.header.producer_id = producer_id;
        batch.header.producer_epoch = 0;
        batch.header.base_sequence = base_sequence;
        batch.bytes().into()
    }

    #[test]
    fn other_bytes_under_one_identity_are_found() {
        let mut audit = Audit::default();
        for records in [
            batch(&["a", "b"], 1, 0),
            batch(&["a", "b"], 1, 0),
            batch(&["a"], 1, 0),
            batch(&["x", "y"], 1, 2),
            batch(&["x", "y"], 2, 0),
            batch(&["x", "y"], -1, -1),
            batch(&["z", "y"], -1, -1),
        ] {
            audit.note("t", 0, Some(&records));
        }
        audit.note("t", 1, Some(&batch(&["x", "y"], 1, 0)));
        audit.note("t", 0, None);
        assert_eq!(audit.contradictions(), [""; 0]);
        audit.note("t", 0, Some(&batch(&["a", "c"], 1, 0)));
        assert_eq!(audit.contradictions().len(), 1);
        assert!(audit.contradictions()[0].starts_with("t-0: producer 1, epoch 0: 2 records"));
    }
}
