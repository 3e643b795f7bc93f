//! What tests and loom's models of deliveries share.

use super::{Delivery, DeliveryMode, DeliveryQueue};
use crate::accumulator::RecordAccumulator;
use crate::accumulator::append::Appended;
use crate::accumulator::batch::{Alone, Remains};
use crate::clock::{Clock, Instant, Reading};
use crate::config::ProducerConfig;
use crate::error::{Status, status};
use crate::log::LogQueue;
use crate::record::ProducerRecord;
use crate::sync::Wake;
use std::sync::Arc;

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// A queue, and fronts that make batches for it.
pub(super) struct Bench {
    pub accumulator: RecordAccumulator,
    pub queue: Arc<DeliveryQueue>,
    pub clock: Clock,
}

impl Bench {
    pub fn new(mode: DeliveryMode) -> Bench {
        Bench::logged(mode, None)
    }

    pub fn logged(mode: DeliveryMode, logs: Option<Arc<LogQueue>>) -> Bench {
        let mut config = ProducerConfig::new();
        config.set("bootstrap.servers", "nowhere:1").unwrap();
        let settings = config.settings().unwrap();
        let accumulator = RecordAccumulator::for_tests(&settings, Arc::new(Nobody));
        let cuts = Arc::clone(accumulator.cuts());
        let queue = DeliveryQueue::new(mode, None, logs, Arc::default(), cuts).unwrap();
        Bench { accumulator, queue: Arc::new(queue), clock: Clock::system() }
    }

    /// Of a batch of one record, sent by a call of this number if it is not 0.
    pub fn delivery(&self, tag: u64, status: Status, sync_id: u64) -> Delivery {
        let partition = self.accumulator.add_partition(&"t".into(), 0, 1);
        let record = ProducerRecord {
            topic: "t",
            partition: None,
            key: None,
            value: Some(b"value"),
            headers: &[],
            timestamp_ms: None,
            tag,
            timeout_ms: 0,
            as_is: false,
        };
        let reading = Reading { mono: Instant(1), wall_ms: 0 };
        let alone = Alone { sync_id, deadline: Instant::NEVER };
        let appended = self.accumulator.try_append_alone(&partition, &record, reading, alone);
        assert!(matches!(appended, Ok(Appended::Done { .. })));
        let mut batches = Vec::new();
        assert!(partition.try_purge(&mut batches));
        let batch = batches.pop().unwrap();
        Delivery {
            topic: "t".into(),
            partition: 0,
            status,
            flags: 0,
            base_offset: 0,
            append_time_ms: -1,
            failure: None,
            remains: Remains::of(batch.body, status != status::OK),
            cut: batch.cut,
            sync_id,
        }
    }

    pub fn outstanding(&self) -> u64 {
        self.accumulator.cuts().outstanding_upto(u64::MAX)
    }
}
