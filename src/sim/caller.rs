//! Application threads: each sends, flushes, purges and asks by chance until its time is over, and
//! checks what the calls themselves promise.

use super::interceptors::rested_since;
use super::oracle::{Draft, Guilt, Outcome, Sent};
use super::plan::{Ending, Pace, Plan, PlannedTopic, Ways};
use super::world::World;
use crate::clock::Instant;
use crate::delivery::reentry;
use crate::error::{Error, status};
use crate::producer::{Producer, Timeout};
use crate::record::ProducerRecord;
use crate::sync::lock;
use fastrand::Rng;
use std::sync::Arc;
use std::time::Duration;

/// How much later than its timeout a call may return.
pub(super) const GRACE: Duration = Duration::from_millis(50);
/// The longest timeout that a `send_sync` has.
const LONGEST_SYNC: Duration = Duration::from_secs(2);
/// Further ahead than a topic takes.
const TOO_FAR_AHEAD_MS: i64 = 2 * 60 * 60 * 1000;
/// What a send may be refused with.
const REFUSALS: &[i32] = &[
    status::BUFFER_FULL,
    status::TIMED_OUT,
    status::METADATA_PENDING,
    status::CLOSED,
    status::INVALID_ARGUMENT,
    status::WOULD_DEADLOCK,
    // Kafka's own, by which metadata refuses a topic.
    3,
    5,
    10,
    17,
    29,
];

/// See the module's comment.
pub(super) struct Caller {
    pub(super) world: Arc<World>,
    pub(super) producer: Arc<Producer>,
    pub(super) number: usize,
    pub(super) rng: Rng,
}

/// How a record is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Send,
    Try,
    Sync,
}

impl Caller {
    pub(super) fn plan(&self) -> &Plan {
        &self.world.plan
    }

    pub(super) fn now(&self) -> Instant {
        self.world.clock.now()
    }

    pub(super) fn sleep(&self, duration: Duration) {
        self.world.baton.sleep_until(&self.world.clock, self.now().after(duration));
    }

    /// Sleeps for up to so many microseconds.
    pub(super) fn pause(&mut self, most: u64) {
        let pause = Duration::from_micros(self.rng.u64(0..most));
        self.sleep(pause);
    }

    /// Acts until `until`, or until the producer is closed.
    pub(super) fn live(&mut self, until: Instant) {
        while self.now() < until && self.act() {}
    }

    /// One thing to do; false once the producer is closed.
    fn act(&mut self) -> bool {
        match self.rng.u32(0..40) {
            0..20 => {
                let how = if self.rng.bool() { How::Send } else { How::Try };
                for _ in 0..self.rng.u32(1..20) {
                    if !self.send_one(how) {
                        return false;
                    }
                }
                true
            }
            20 | 21 => self.send_batch(),
            22 => self.send_run(),
            23 => self.try_until_taken(),
            24 | 25 => self.send_one(How::Sync),
            26..29 => {
                let timeout = match self.rng.u32(0..4) {
                    0 => Timeout::Default,
                    1 => Timeout::After(Duration::ZERO),
                    _ => Timeout::After(Duration::from_millis(self.rng.u64(1..1500))),
                };
                self.flush(timeout)
            }
            29 if self.plan().purges => self.purge(),
            30 => self.ask_for_partitions(),
            _ => {
                let pause = [200, 2000, 20_000, 150_000][self.rng.usize(0..4)];
                self.pause(pause);
                true
            }
        }
    }

    pub(super) fn draft(&mut self) -> Draft {
        let topic = self.rng.usize(0..self.plan().topics.len());
        let PlannedTopic { partitions, compacted, .. } = self.plan().topics[topic];
        let partition = self.rng.bool().then(|| self.rng.i32(0..partitions));
        let guilty = self.plan().guilty && self.rng.u32(0..25) == 0;
        let no_key = guilty && compacted && self.rng.bool();
        let key = (self.rng.bool() || compacted).then(|| vec![self.rng.u8(0..20)]);
        let guilt = match (guilty, no_key) {
            (false, _) => None,
            (true, true) => Some(Guilt::NoKey),
            (true, false) => Some(Guilt::Future),
        };
        let size = match self.rng.u32(0..60) {
            0 => self.rng.usize(0..self.plan().max_request_size + 200),
            _ => self.rng.usize(0..self.plan().value_size),
        };
        let timeout_ms = match self.plan().timeouts && self.rng.u32(0..4) == 0 {
            true => self.rng.u32(1..LONGEST_SYNC.as_millis() as u32),
            false => 0,
        };
        Draft {
            topic: topic_name(topic),
            partition,
            key: key.filter(|_| !no_key),
            size,
            timestamp_ms: self.timestamp(guilt),
            timeout_ms,
            guilt,
        }
    }

    /// Most records get theirs from the producer.
    fn timestamp(&mut self, guilt: Option<Guilt>) -> Option<i64> {
        let now = (self.now().0 / 1000) as i64;
        match guilt {
            Some(Guilt::Future) => Some(now + TOO_FAR_AHEAD_MS),
            Some(Guilt::NoKey) | None if self.rng.u32(0..10) == 0 => Some(now - 1000),
            Some(Guilt::NoKey) | None => None,
        }
    }

    /// The record of a draft, with its number.
    fn with_record<T>(&self, draft: &Draft, send: impl FnOnce(u64, &ProducerRecord<'_>) -> T) -> T {
        let (id, value) = {
            let mut oracle = lock(&self.world.oracle);
            let id = oracle.calls(draft, self.number, self.now());
            (id, oracle.value(id))
        };
        send(id, &draft.record(id, &value))
    }

    fn send_one(&mut self, how: How) -> bool {
        let draft = self.draft();
        match how {
            How::Send | How::Try => self.send_draft(&draft, how == How::Try),
            How::Sync => self.send_sync(&draft),
        }
    }

    /// Sends to one partition; false once the producer is closed.
    pub(super) fn send_to(&mut self, topic: usize, partition: i32) -> bool {
        let draft = Draft {
            topic: topic_name(topic),
            partition: Some(partition),
            key: self.plan().topics[topic].compacted.then(|| vec![1]),
            size: 10,
            timestamp_ms: None,
            timeout_ms: 0,
            guilt: None,
        };
        self.send_draft(&draft, false)
    }

    fn send_draft(&self, draft: &Draft, never_wait: bool) -> bool {
        self.hand_over(draft, never_wait).map_or_else(|error| self.check_refusal(&error), |()| true)
    }

    /// One record by `send` or `try_send`.
    pub(super) fn hand_over(&self, draft: &Draft, never_wait: bool) -> Result<(), Error> {
        self.with_record(draft, |id, record| {
            let began = self.now();
            let result = match never_wait {
                true => self.producer.try_send(record),
                false => self.producer.send(record),
            };
            let waits = !never_wait && !reentry::inside();
            let limit = if waits { self.plan().max_block + GRACE } else { Duration::ZERO };
            self.check_time("send", began, limit);
            self.note_sent(id, &result);
            match &result {
                Ok(()) => lock(&self.world.oracle).accepted(id, true, self.now()),
                Err(error) => {
                    let refused = lock(&self.world.oracle).refused(id, error.status);
                    self.check(refused);
                }
            }
            result
        })
    }

    fn note_sent(&self, id: u64, result: &Result<(), Error>) {
        let code = result.as_ref().map_or_else(|error| error.status, |()| 0);
        self.world.trace.note(&[30, id, code as u64], || {
            let text = result.as_ref().map_or_else(|error| error.message.as_ref(), |()| "accepted");
            format!("caller {}: record {id}: {text}", self.number)
        });
    }

    /// False if the producer is closed.
    pub(super) fn check_refusal(&self, error: &Error) -> bool {
        if !REFUSALS.contains(&error.status) {
            self.world.fail(format!("a send was refused with {error:?}"));
        }
        error.status != status::CLOSED
    }

    pub(super) fn check(&self, result: Result<(), String>) {
        result.unwrap_or_else(|text| self.world.fail(text));
    }

    pub(super) fn check_time(&self, call: &str, began: Instant, limit: Duration) {
        let took = self.now().since(began).saturating_sub(rested_since(began));
        if took > limit {
            self.world.fail(format!("{call} took {took:?}, {limit:?} are allowed"));
        }
    }

    fn send_sync(&mut self, draft: &Draft) -> bool {
        let timeout = self.rng.u64(0..LONGEST_SYNC.as_millis() as u64);
        let timeout = Duration::from_millis(timeout);
        self.with_record(draft, |id, record| {
            let began = self.now();
            let result = self.producer.send_sync(record, Timeout::After(timeout));
            self.check_time("send_sync", began, timeout + GRACE);
            let code = result.as_ref().map_or_else(|error| error.status, |_| 0);
            self.world.trace.note(&[32, id, code as u64], || {
                format!("caller {}: record {id} by send_sync: {result:?}", self.number)
            });
            let (outcome, open) = match &result {
                Ok(receipt) => (Outcome::written(receipt.partition, receipt.offset), true),
                Err(error) => {
                    // An interceptor may have chosen another one.
                    let partition = lock(&self.world.oracle).fates[id as usize].draft.partition;
                    (Outcome::failed(partition, error), error.status != status::CLOSED)
                }
            };
            if code == status::PANIC {
                self.world.fail(format!("send_sync: {result:?}"));
            }
            let answered = lock(&self.world.oracle).answered(id, outcome, self.now());
            self.check(answered);
            open
        })
    }

    /// Flushes, and checks that everything accepted before has its outcome if it says so.
    pub(super) fn flush(&mut self, timeout: Timeout) -> bool {
        let began = self.now();
        let ids = lock(&self.world.oracle).accepted_so_far();
        let result = self.producer.flush(timeout);
        let limit = match timeout {
            Timeout::After(timeout) => timeout,
            Timeout::Default if self.plan().ways == Ways::SlowCallback => Duration::from_secs(600),
            // A record's own timeout may be the longer one.
            Timeout::Default => self.plan().delivery_timeout.max(LONGEST_SYNC),
        };
        self.check_time("flush", began, limit + GRACE);
        let code = result.as_ref().map_or_else(|error| error.status, |()| 0);
        self.world.trace.note(&[33, code as u64], || {
            format!("caller {}: flush({timeout:?}) since {began:?}: {code}", self.number)
        });
        match result {
            Ok(()) => {
                self.check_flushed(ids);
                true
            }
            Err(error) if error.status == status::TIMED_OUT && timeout != Timeout::Default => true,
            Err(error) if error.status == status::CLOSED => false,
            Err(error) => {
                self.world.fail(format!("flush: {error:?}"));
                false
            }
        }
    }

    fn check_flushed(&self, ids: Vec<u64>) {
        let mut oracle = lock(&self.world.oracle);
        match self.plan().ways {
            Ways::Callback | Ways::SlowCallback => {
                let left = oracle.without_outcome(&ids);
                if !left.is_empty() {
                    self.world.fail(format!("flush returned before records {left:?} were done"));
                }
            }
            Ways::Poll => oracle.owed.extend(ids),
            Ways::Nowhere => {
                let counters = self.producer.counters();
                if counters.acknowledged + counters.failed < ids.len() as u64 {
                    let count = ids.len();
                    self.world
                        .fail(format!("flush returned before {count} were done: {counters:?}"));
                }
            }
        }
    }

    fn purge(&mut self) -> bool {
        let draft = self.draft();
        let topic = self.rng.bool().then_some(draft.topic.as_str());
        let partition = draft.partition.filter(|_| topic.is_some());
        self.world.trace.note(&[34], || format!("caller {}: purge {topic:?}", self.number));
        let began = self.now();
        let result = self.producer.purge(topic, partition);
        self.check_time("purge", began, GRACE);
        match result {
            Ok(()) => true,
            Err(error) => self.check_refusal(&error),
        }
    }

    fn ask_for_partitions(&mut self) -> bool {
        let topic = self.draft().topic;
        let timeout = Duration::from_millis(self.rng.u64(0..300));
        let began = self.now();
        let result = self.producer.partitions_for(&topic, Timeout::After(timeout));
        self.check_time("partitions_for", began, timeout + GRACE);
        match result {
            Ok(_) => true,
            Err(error) => self.check_refusal(&error),
        }
    }

    /// Closes at the end that is planned. `mended`: from when on everything works.
    pub(super) fn end(&mut self, mended: Instant) {
        match self.plan().ending {
            Ending::Early(timeout) => {
                let chaos = self.plan().chaos.as_millis() as u64;
                self.pause(1000 * chaos);
                self.close(timeout);
            }
            Ending::Calm => {
                self.world.baton.sleep_until(&self.world.clock, mended);
                // Longer than a request that hangs, its backoff and a new connection take.
                let finding = if self.plan().exodus.is_some() { 3000 } else { 0 };
                self.sleep(self.plan().request_timeout + Duration::from_millis(1500 + finding));
                let probes = self.probe();
                self.flush(Timeout::Default);
                self.check_probes(&probes);
                self.close(Duration::from_secs(1));
                if self.producer.counters().failed > 0 && self.plan().ways == Ways::Nowhere {
                    self.world.trace.note(&[35], || "failures that nobody wanted to know".into());
                }
            }
        }
    }

    /// A record to each partition.
    fn probe(&mut self) -> Vec<u64> {
        let first = lock(&self.world.oracle).fates.len() as u64;
        for topic in 0..self.plan().topics.len() {
            let count = self.partitions_of(topic);
            for partition in 0..count {
                self.send_to(topic, partition);
            }
        }
        let after = lock(&self.world.oracle).fates.len() as u64;
        (first..after).collect()
    }

    /// How many partitions the topic has by now; the producer has had the time to learn of it.
    fn partitions_of(&mut self, topic: usize) -> i32 {
        let name = topic_name(topic);
        let count = lock(&self.world.net).cluster.topic(&name).unwrap().partitions.len() as i32;
        match self.producer.partitions_for(&name, Timeout::After(Duration::ZERO)) {
            Ok(known) if known.len() as i32 == count => {}
            // Not asked for so far.
            Err(error) if error.status == status::METADATA_PENDING => {}
            other => self.world.fail(format!("{name} has {count} partitions, but {other:?}")),
        }
        count
    }

    /// Where everything works and there is time, everything gets through.
    fn check_probes(&self, probes: &[u64]) {
        let plan = self.plan();
        let time = plan.delivery_timeout >= Duration::from_secs(3) && plan.retries > 3;
        if !time || !matches!(plan.ways, Ways::Callback | Ways::SlowCallback) {
            return;
        }
        let oracle = lock(&self.world.oracle);
        let own = |id: &&u64| oracle.fates[**id as usize].caller == self.number;
        for id in probes.iter().filter(own) {
            let fate = &oracle.fates[*id as usize];
            // A helper that sleeps keeps the memory of what it compresses, which may be most of it,
            // for longer than a call waits: what expired or was purged meanwhile too.
            let may_be_refused = plan.max_block < Duration::from_secs(3) || plan.compresses();
            let refused = fate.sent == Sent::Refused && may_be_refused;
            if !refused && fate.outcome.as_ref().is_none_or(|outcome| !outcome.success) {
                self.world.fail(format!("record {id} was sent when all was well: {fate:?}"));
            }
        }
    }

    fn close(&mut self, timeout: Duration) {
        let began = self.now();
        let (aborted, result) = self.producer.close(Timeout::After(timeout));
        self.world.trace.note(&[36, aborted], || {
            format!("closed with {timeout:?} since {began:?}: {aborted} aborted, {result:?}")
        });
        self.check_time("close", began, timeout + GRACE);
        match result {
            Ok(()) => {}
            Err(error) if error.status == status::CLOSED => {}
            Err(error)
                if error.status == status::TIMED_OUT
                    && (self.plan().ways == Ways::SlowCallback
                        || self.plan().interceptors == Some(Pace::Slow)) =>
            {
                // As often as it takes: the barrier before the handle is freed.
                self.close(timeout + Duration::from_secs(1));
            }
            Err(error) => self.world.fail(format!("close: {error:?}")),
        }
    }
}

/// The topic of a number.
pub(super) fn topic_name(number: usize) -> String {
    format!("t{number}")
}
