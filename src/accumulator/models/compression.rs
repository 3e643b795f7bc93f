//! Batches that are compressed, by helpers that are threads of the model.

use super::super::append::AppendContext;
use super::super::compression::TopicCompression;
use super::super::front::Partition;
use super::super::seal_queue::{SealQueue, SealTools};
use super::{Poll, append_two_batches, context, model, two_batches_come_out};
use crate::clock::{Clock, Instant};
use crate::log::Logger;
use crate::protocol::compression::Compression;
use crate::sync::Helpers;
use loom::thread;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Helpers are threads of the model.
struct ModelHelpers;

impl Helpers for ModelHelpers {
    fn start(
        &self,
        _: &'static str,
        life: Box<dyn FnOnce() + Send>,
    ) -> io::Result<Option<std::thread::JoinHandle<()>>> {
        thread::spawn(life);
        Ok(None)
    }
}

/// None can be started.
struct NoHelpers;

impl Helpers for NoHelpers {
    fn start(
        &self,
        _: &'static str,
        _: Box<dyn FnOnce() + Send>,
    ) -> io::Result<Option<std::thread::JoinHandle<()>>> {
        Err(io::Error::other("no more threads"))
    }
}

/// A partition whose batches are compressed, by one helper.
fn compressed(
    context: &AppendContext,
    helpers: Arc<dyn Helpers>,
) -> (Arc<SealQueue>, Arc<Partition>) {
    let tools = SealTools {
        clock: Clock::virtual_time(Arc::default()),
        helpers,
        threads: 1,
        delivery_timeout: Duration::from_secs(120),
        logger: Logger::none(),
    };
    let (pool, inbox) = (Arc::clone(&context.pool), Arc::clone(&context.inbox));
    let queue = Arc::new(SealQueue::new(tools, pool, inbox));
    let topic = TopicCompression::new(Compression::Lz4, Arc::clone(&queue));
    let partition = Partition::new("topic".into(), 0, 0, false).compressed(Some(Arc::new(topic)));
    (queue, Arc::new(partition))
}

/// The first batch is queued by the caller that closed it, the second by the network thread; a
/// helper lists the partition when the batch at its head is done.
#[test]
fn loom_a_batch_that_is_being_compressed_is_found_too() {
    model(2, || {
        let poll = Arc::new(Poll::default());
        let context = Arc::new(context(&poll, Duration::ZERO));
        let (queue, partition) = compressed(&context, Arc::new(ModelHelpers));
        two_batches_come_out(&context, &poll, partition);
        queue.close();
        assert!(queue.wait(Instant::NEVER));
        assert_eq!((context.pool.used(), context.cuts.outstanding_upto(u64::MAX)), (0, 0));
    });
}

/// A batch is taken out while somebody compresses it, or is about to put the result in its place.
#[test]
fn loom_a_result_and_a_purge_meet() {
    model(2, || {
        let poll = Arc::new(Poll::default());
        let context = Arc::new(context(&poll, Duration::from_secs(1)));
        let (queue, partition) = compressed(&context, Arc::new(ModelHelpers));
        append_two_batches(&context, &partition);
        let mut out = Vec::new();
        while !partition.try_purge(&mut out) {
            thread::yield_now();
        }
        let tags: Vec<u64> = out.iter().flat_map(|batch| batch.body.tags()).copied().collect();
        assert_eq!(tags, [1, 2]);
        queue.close();
        assert!(queue.wait(Instant::NEVER));
        drop(out);
        assert_eq!((context.pool.used(), context.pool.closed()), (0, 0));
    });
}

/// The producer closes while a batch is queued for which no helper can be started: nobody waits for
/// that one, and the network thread is told of the batch.
#[test]
fn loom_nobody_waits_for_a_helper_that_never_was() {
    model(3, || {
        let poll = Arc::new(Poll::default());
        let context = Arc::new(context(&poll, Duration::from_secs(1)));
        let (queue, partition) = compressed(&context, Arc::new(NoHelpers));
        let (shared, its_own) = (Arc::clone(&context), Arc::clone(&partition));
        let caller = thread::spawn(move || append_two_batches(&shared, &its_own));
        queue.close();
        assert!(queue.wait(Instant::NEVER));
        caller.join().unwrap();
        let mut out = Vec::new();
        assert!(partition.try_purge(&mut out));
        assert_eq!(out.len(), 2);
        drop(out);
        assert_eq!((context.pool.used(), context.pool.closed()), (0, 0));
    });
}
