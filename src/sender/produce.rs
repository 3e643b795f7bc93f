//! Produce requests: batches into one request per node, and its end back to batches.

use super::Sender;
use super::retry::{Outcome, decide};
use crate::accumulator::batch::BatchBody;
use crate::accumulator::outgoing::Outgoing;
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::log::Level;
use crate::metadata::{LeaderUpdate, Node};
use crate::network::Selectable;
use crate::protocol::api::{ApiKey, ErrorCode, Message, Request};
use crate::protocol::messages::produce::{
    FIRST_VERSION_WITH_TOPIC_IDS, PartitionProduceResponse, ProducePiece, ProduceRequest,
    ProduceResponse, ProduceTopic, encode_produce,
};
use crate::protocol::record_batch::{BATCH_HEADER_LEN, BatchHeader};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// One partition's batch in a request. Without a batch its records were reported already (they
/// expired in flight); what the socket still reads of it is kept by the request's own pieces.
struct Entry {
    slot: u32,
    index: i32,
    batch: Option<Outgoing>,
}

/// The entries of one topic, side by side.
struct TopicEntries {
    name: Arc<str>,
    id: [u8; 16],
    entries: Range<usize>,
}

/// A Produce request whose outcome is awaited.
pub(super) struct ProduceInFlight {
    node: i32,
    topics: Vec<TopicEntries>,
    entries: Vec<Entry>,
}

impl ProduceInFlight {
    /// What is left of its batches.
    pub fn into_batches(self) -> impl Iterator<Item = Outgoing> {
        self.entries.into_iter().filter_map(|entry| entry.batch)
    }

    /// The entry that a response's partition speaks of. Brokers answer in the request's order, but
    /// need not.
    fn find(&self, topic: &str, id: [u8; 16], by_id: bool, index: i32) -> Option<usize> {
        let topic =
            self.topics.iter().find(|t| if by_id { t.id == id } else { *t.name == *topic })?;
        topic.entries.clone().find(|at| self.entries.get(*at).is_some_and(|e| e.index == index))
    }
}

impl<S: Selectable> Sender<S> {
    /// Drains a node into one Produce request; false if there was nothing to send.
    pub(super) fn send_produce(&mut self, node: i32, now: Instant) -> bool {
        let mut drained = std::mem::take(&mut self.drained);
        self.backs.drain(node, now, &mut drained);
        let sent = !drained.is_empty();
        if sent {
            // Topics side by side; within one the order of the ready list, which is fair.
            drained.sort_by(|a, b| a.partition.topic.cmp(&b.partition.topic));
            self.send_batches(node, &mut drained, now);
        }
        self.drained = drained;
        sent
    }

    fn send_batches(&mut self, node: i32, drained: &mut Vec<Outgoing>, now: Instant) {
        let mut produce = ProduceInFlight { node, topics: Vec::new(), entries: Vec::new() };
        let cluster = self.parts.metadata.snapshot();
        for mut batch in drained.drain(..) {
            let slot = batch.partition.slot;
            let history = &mut batch.history;
            history.attempts += 1;
            history.first_sent.get_or_insert(now);
            history.last_sent = Some(now);
            history.node = Some(node);
            self.backs.file_expiry(slot, batch.deadline(self.parts.settings.delivery_timeout));
            let at = produce.entries.len();
            let (topic, index) = (Arc::clone(&batch.partition.topic), batch.partition.index);
            match produce.topics.last_mut() {
                Some(last) if last.name == topic => last.entries.end = at + 1,
                Some(_) | None => {
                    self.parts.metadata.touch(&topic, now);
                    let id = cluster.topic(&topic).map_or([0; 16], |topic| topic.id);
                    produce.topics.push(TopicEntries { name: topic, id, entries: at..at + 1 });
                }
            }
            produce.entries.push(Entry { slot, index, batch: Some(batch) });
        }
        match self.encode(&produce) {
            Ok((version, body)) => {
                let token = self.token();
                self.produces.insert(token, produce);
                let timeout = self.parts.settings.request_timeout;
                let answered = self.parts.settings.acks as i16 != 0;
                self.send(node, token, ApiKey::Produce, version, body, timeout, answered);
            }
            Err(error) => self.refuse(produce, &error, now),
        }
    }

    /// The request's body in the version of this connection, records in place.
    fn encode(&self, produce: &ProduceInFlight) -> Result<(i16, Vec<Bytes>)> {
        let newest = self.parts.client.api_version(
            produce.node,
            ApiKey::Produce,
            ProduceRequest::CLIENT_VERSIONS,
        )?;
        let ids_known = produce.topics.iter().all(|topic| topic.id != [0; 16]);
        let version = if ids_known { newest } else { newest.min(FIRST_VERSION_WITH_TOPIC_IDS - 1) };
        let mut pieces = Vec::with_capacity(produce.entries.len());
        for entry in &produce.entries {
            if let Some(body) = entry.batch.as_ref().and_then(|batch| batch.body()) {
                let batch_header = stamp(body)?;
                pieces.push(ProducePiece {
                    index: entry.index,
                    batch_header,
                    records: body.slab_bytes().collect(),
                });
            }
        }
        let topics: Vec<ProduceTopic<'_>> = produce
            .topics
            .iter()
            .map(|topic| ProduceTopic {
                name: &topic.name,
                id: topic.id,
                partitions: pieces.get(topic.entries.clone()).unwrap_or_default(),
            })
            .collect();
        let timeout_ms =
            i32::try_from(self.parts.settings.request_timeout.as_millis()).unwrap_or(i32::MAX);
        let mut body = Vec::new();
        encode_produce(version, self.parts.settings.acks as i16, timeout_ms, &topics, &mut body)?;
        Ok((version, body))
    }

    /// A request that this broker can't be sent, now or ever: its batches were not written.
    fn refuse(&mut self, produce: ProduceInFlight, error: &Error, now: Instant) {
        let node = produce.node;
        self.parts
            .logger
            .log(Level::Warning, "sender", || format!("node {node}: {}", error.message));
        for batch in produce.into_batches() {
            self.backs.done(batch.partition.slot);
            self.fail_refused(batch, error, now);
        }
    }

    /// acks=0: written is all that will ever be known.
    pub(super) fn on_written(&mut self, produce: ProduceInFlight) {
        for (slot, batch) in produce.into_batches_and_slots() {
            self.backs.done(slot);
            if let Some(batch) = batch {
                self.succeed(batch, -1, -1);
            }
        }
    }

    /// A response: each batch gets the outcome of its partition.
    pub(super) fn on_produce(
        &mut self,
        mut produce: ProduceInFlight,
        version: i16,
        body: &Bytes,
        now: Instant,
    ) {
        let response = match ProduceResponse::from_bytes(version, body) {
            Ok(response) => response,
            Err(error) => {
                // Whatever else comes on this connection can't be trusted either.
                self.parts.client.disconnect(produce.node, &error.message);
                return self.on_failed(produce, true, &error.message.to_string().into(), now);
            }
        };
        let throttle = response.throttle_time_ms;
        self.parts.client.throttle(produce.node, ApiKey::Produce, version, throttle, now);
        let by_id = version >= FIRST_VERSION_WITH_TOPIC_IDS;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let found = produce.find(&topic.name, topic.topic_id, by_id, partition.index);
                // An entry of no request, or one said twice, changes nothing.
                let Some(entry) = found.and_then(|at| produce.entries.get_mut(at)) else {
                    continue;
                };
                entry.index = -1;
                match entry.batch.take() {
                    // Its records expired in flight and were reported; now the partition may go on.
                    None => self.backs.done(entry.slot),
                    Some(batch) => {
                        self.on_partition(produce.node, batch, partition, &response, now)
                    }
                }
            }
        }
        for entry in produce.entries {
            if entry.index < 0 {
                continue;
            }
            match entry.batch {
                None => self.backs.done(entry.slot),
                Some(mut batch) => {
                    batch.history.maybe_written = true;
                    let message: Arc<str> = "the response does not mention the partition".into();
                    batch.history.network_error = Some(message);
                    self.retry_or_fail(batch, ErrorCode::NETWORK_EXCEPTION, now);
                }
            }
        }
    }

    fn on_partition(
        &mut self,
        node: i32,
        mut batch: Outgoing,
        answer: &PartitionProduceResponse,
        response: &ProduceResponse,
        now: Instant,
    ) {
        let (code, slot) = (answer.error_code, batch.partition.slot);
        if !code.is_none() {
            let text = answer.error_message.as_deref().map(Arc::from);
            batch.history.broker_error = Some((code.0, text));
            let partition = &batch.partition;
            self.parts.logger.log(Level::Info, "sender", || {
                let name = crate::error::short_name(i32::from(code.0));
                format!("{}-{}: node {node} answered {name}", partition.topic, partition.index)
            });
        }
        match decide(code, batch.history.attempts, self.parts.settings.retries) {
            Outcome::Success => {
                self.backs.done(slot);
                self.succeed(batch, answer.base_offset, answer.log_append_time_ms);
            }
            Outcome::Retry { .. } | Outcome::Fail { .. } => {
                self.learn_leader(&batch, answer, response);
                self.retry_or_fail(batch, code, now);
            }
        }
    }

    /// KIP-951: a broker that is not the leader may say who is.
    fn learn_leader(
        &mut self,
        batch: &Outgoing,
        answer: &PartitionProduceResponse,
        response: &ProduceResponse,
    ) {
        let leader = &answer.current_leader;
        if leader.leader_id < 0 {
            return;
        }
        let endpoints: Vec<Node> = response
            .node_endpoints
            .iter()
            .filter_map(|node| {
                Some(Node {
                    id: node.node_id,
                    host: Arc::from(node.host.as_str()),
                    port: u16::try_from(node.port).ok()?,
                    rack: node.rack.as_deref().map(Arc::from),
                })
            })
            .collect();
        let update = LeaderUpdate {
            topic: &batch.partition.topic,
            partition: batch.partition.index,
            leader: leader.leader_id,
            leader_epoch: leader.leader_epoch,
        };
        // The next pass follows the new snapshot, if it is one.
        self.parts.metadata.update_leaders(&[update], &endpoints);
    }

    /// What the pure function decides, done.
    fn retry_or_fail(&mut self, mut batch: Outgoing, code: ErrorCode, now: Instant) {
        let slot = batch.partition.slot;
        match decide(code, batch.history.attempts, self.parts.settings.retries) {
            Outcome::Success => {
                self.backs.done(slot);
                self.succeed(batch, -1, -1);
            }
            Outcome::Retry { refresh, maybe_written } => {
                batch.history.maybe_written |= maybe_written;
                if refresh {
                    self.parts.metadata.request_update_of(&batch.partition.topic, now);
                }
                let backoff = self.backoff(batch.history.attempts);
                self.backs.reenqueue(batch, now.after(backoff));
            }
            Outcome::Fail { maybe_written } => {
                batch.history.maybe_written |= maybe_written;
                self.backs.done(slot);
                self.fail_answered(batch, code, now);
            }
        }
    }

    /// KIP-580: exponential with jitter.
    fn backoff(&self, attempts: u32) -> Duration {
        let settings = &self.parts.settings;
        let failures = attempts.saturating_sub(1);
        self.parts.rng.backoff(settings.retry_backoff, settings.retry_backoff_max, failures)
    }

    /// The connection failed under a request, or its time was up.
    pub(super) fn on_failed(
        &mut self,
        produce: ProduceInFlight,
        written: bool,
        why: &Arc<str>,
        now: Instant,
    ) {
        for (slot, batch) in produce.into_batches_and_slots() {
            let Some(mut batch) = batch else {
                self.backs.done(slot);
                continue;
            };
            batch.history.network_error = Some(Arc::clone(why));
            if written {
                self.retry_or_fail(batch, ErrorCode::NETWORK_EXCEPTION, now);
            } else {
                // It never left: no attempt, and no doubt about it.
                batch.history.attempts = batch.history.attempts.saturating_sub(1);
                self.parts.metadata.request_update_of(&batch.partition.topic, now);
                let backoff = self.backoff(batch.history.attempts.max(1));
                self.backs.reenqueue(batch, now.after(backoff));
            }
        }
    }

    /// Reports what is in flight for a partition and has reached its deadline; the partition stays
    /// muted until the request's end is known, and so does the memory.
    pub(super) fn expire_in_flight(&mut self, slot: u32, now: Instant) {
        let timeout = self.parts.settings.delivery_timeout;
        let mut expired = Vec::new();
        let mut next = Instant::NEVER;
        for produce in self.produces.values_mut() {
            for entry in produce.entries.iter_mut().filter(|entry| entry.slot == slot) {
                let Some(batch) = &entry.batch else { continue };
                let deadline = batch.deadline(timeout);
                if deadline <= now {
                    expired.extend(entry.batch.take());
                } else {
                    next = next.min(deadline);
                }
            }
        }
        expired.sort_by_key(|batch| batch.number);
        for batch in expired {
            self.fail_expired(batch, now, true);
        }
        self.backs.file_expiry(slot, next);
    }
}

impl ProduceInFlight {
    fn into_batches_and_slots(self) -> impl Iterator<Item = (u32, Option<Outgoing>)> {
        self.entries.into_iter().map(|entry| (entry.slot, entry.batch))
    }
}

/// The batch's header: identity and sums. Sealing was done by whoever closed the batch, or is done
/// here.
fn stamp(body: &BatchBody) -> Result<[u8; BATCH_HEADER_LEN]> {
    let seal = body.seal();
    let count = i32::try_from(body.count()).unwrap_or(i32::MAX);
    let header = BatchHeader {
        last_offset_delta: count - 1,
        base_timestamp: body.base_timestamp(),
        max_timestamp: body.max_timestamp(),
        record_count: count,
        ..BatchHeader::default()
    };
    header.encode(body.records_len(), seal.crc, seal.factor)
}
