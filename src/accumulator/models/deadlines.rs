//! Records with deadlines of their own, appended while the network thread takes note of their
//! partition or looks at it.

use super::super::append::Appended;
use super::super::back::{BackLimits, Backs, Order};
use super::super::cuts::Cuts;
use super::super::front::Partition;
use super::super::outgoing::{Finished, LastResort};
use super::super::testing::{ms, partition, reading, record};
use super::super::times::own_deadline;
use super::{append, context, model};
use crate::record::ProducerRecord;
use loom::thread;
use std::sync::Arc;
use std::time::Duration;

struct Nobody;

impl LastResort for Nobody {
    fn report(&self, partition: &Partition, _: Finished, _: bool) {
        panic!("a batch of partition {} is dropped", partition.index);
    }
}

/// The network thread was told of 5 ms. A record with a deadline of its own, before or after that,
/// is appended while it takes note of the partition, or looks at one that it knows (5 ms have
/// passed): then it knows of a deadline that is no later, or has seen the record.
fn a_deadline_of_its_own(timeout_ms: u32, known: bool) {
    model(3, move || {
        let context = Arc::new(context(&Arc::default(), Duration::from_secs(60)));
        let cuts = Cuts::new();
        let partition = partition(0);
        let limits = BackLimits {
            max_request_size: 1 << 20,
            linger: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            order: Order::OneInFlight,
        };
        let mut backs = Backs::new(limits, Arc::new(Nobody), ms(1));
        let receive = |backs: &mut Backs| {
            let mut listed = Vec::new();
            context.inbox.drain(&mut listed);
            listed.into_iter().for_each(|listed| backs.receive(listed, ms(1), |_| [1; 16]));
        };
        assert!(partition.must_tell(ms(5), ms(1)));
        if known {
            append(&context, &partition, 0);
            receive(&mut backs);
        }
        let (shared, its_own) = (Arc::clone(&context), Arc::clone(&partition));
        let caller = thread::spawn(move || {
            let record = ProducerRecord { timeout_ms, ..record(b"v", 1) };
            let appended = its_own.try_append(&shared, &record, reading(ms(1)));
            assert!(matches!(appended, Ok(Appended::Done { .. })));
            let deadline = own_deadline(&record, ms(1)).unwrap();
            its_own.must_tell(deadline, ms(1)).then_some(deadline)
        });
        let (mut due, mut expired) = (Vec::new(), Vec::new());
        receive(&mut backs);
        if known {
            backs.advance(ms(5), &mut due);
            assert_eq!(due.drain(..).len(), 1);
            backs.expire(partition.slot, ms(5), &cuts, &mut expired);
        }
        let told = caller.join().unwrap();
        receive(&mut backs);
        told.into_iter().for_each(|at| backs.file_expiry(partition.slot, at));
        let time = ms(1 + u64::from(timeout_ms));
        backs.advance(if known { time.max(ms(6)) } else { time }, &mut due);
        assert!(!due.is_empty() || !expired.is_empty(), "nobody looks at it in time");
        assert!(backs.take_all(&partition, false, &mut expired));
        expired.into_iter().for_each(|batch| drop(batch.finish()));
        assert_eq!(context.pool.used(), 0);
    });
}

#[test]
fn loom_an_earlier_deadline_is_not_lost() {
    a_deadline_of_its_own(2, false);
    a_deadline_of_its_own(2, true);
}

#[test]
fn loom_a_later_deadline_is_not_lost() {
    a_deadline_of_its_own(7, false);
    a_deadline_of_its_own(7, true);
}
