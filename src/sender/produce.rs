//! Produce requests: batches into one request per node, and its end back to batches.

use super::Sender;
use super::retry::{is_success, maybe_written};
use crate::accumulator::batch::BatchBody;
use crate::accumulator::outgoing::{Expiry, Outgoing};
use crate::clock::Instant;
use crate::defects::{self, Defect};
use crate::error::{Error, Result};
use crate::log::Level;
use crate::metadata::{LeaderUpdate, Node};
use crate::network::Selectable;
use crate::protocol::api::{ApiKey, ErrorCode, Message, Request};
use crate::protocol::messages::produce::{
    FIRST_VERSION_WITH_TOPIC_IDS, PartitionProduceResponse, ProduceEncoder, ProduceRequest,
    ProduceResponse, TopicProduceResponse,
};
use crate::protocol::record_batch::{BATCH_HEADER_LEN, BatchHeader};
use crate::sync::trip::trip;
use crate::transactions::sequence::Identity;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// One partition's batch in a request. Without a batch its records were reported already (they
/// expired in flight); what the socket still reads of it is kept by the request's own pieces.
struct Entry {
    slot: u32,
    index: i32,
    /// The batch's place in its partition's order.
    number: u64,
    /// What is left of a batch that was reported: an earlier attempt may have been written.
    maybe_written: bool,
    batch: Option<Outgoing>,
}

impl Entry {
    /// Of a batch that goes out now.
    fn new(mut batch: Outgoing, node: i32, now: Instant) -> Entry {
        let history = &mut batch.history;
        history.attempts += 1;
        history.first_sent.get_or_insert(now);
        history.last_sent = Some(now);
        history.node = Some(node);
        Entry {
            slot: batch.partition.slot,
            index: batch.partition.index,
            number: batch.number,
            maybe_written: batch.history.maybe_written,
            batch: Some(batch),
        }
    }

    fn topic(&self) -> Option<&Arc<str>> {
        self.batch.as_ref().map(|batch| &batch.partition.topic)
    }
}

/// The entries of one topic, side by side.
struct TopicEntries {
    name: Arc<str>,
    id: [u8; 16],
    entries: Range<usize>,
}

/// A Produce request whose outcome is awaited.
pub(super) struct ProduceInFlight {
    pub(super) node: i32,
    topics: Vec<TopicEntries>,
    entries: Vec<Entry>,
}

impl ProduceInFlight {
    /// What is left of its batches.
    pub fn into_batches(self) -> impl Iterator<Item = Outgoing> {
        self.entries.into_iter().filter_map(|entry| entry.batch)
    }

    /// The topic that a response's topic speaks of, `expected` first. Brokers answer in the
    /// request's order, but need not; 10,000 topics must not be searched 10,000 times.
    fn find_topic(
        &self,
        topic: &TopicProduceResponse,
        by_id: bool,
        expected: usize,
    ) -> Option<usize> {
        let is_it = |at: &usize| {
            self.topics.get(*at).is_some_and(|of| match by_id {
                true => of.id == topic.topic_id,
                false => *of.name == *topic.name,
            })
        };
        Some(expected).filter(&is_it).or_else(|| (0..self.topics.len()).find(&is_it))
    }

    /// The entry of a topic's partition, `expected` first.
    fn find_entry(&self, topic: usize, index: i32, expected: usize) -> Option<usize> {
        let entries = self.topics.get(topic)?.entries.clone();
        let is_it = |at: &usize| self.entries.get(*at).is_some_and(|entry| entry.index == index);
        let first = entries.start + expected;
        Some(first)
            .filter(|at| entries.contains(at) && is_it(at))
            .or_else(|| entries.clone().find(is_it))
    }
}

impl<S: Selectable> Sender<S> {
    /// Drains a node into one Produce request; false if there was nothing to send.
    pub(super) fn send_produce(&mut self, node: i32, now: Instant) -> bool {
        let mut entries = Vec::new();
        self.backs.drain(node, now, |batch| entries.push(Entry::new(batch, node, now)));
        trip(if entries.is_empty() { "nothing drained" } else { "drained" });
        if entries.is_empty() {
            return false;
        }
        self.awaited.took(node, now);
        // Topics side by side; within one the order of the ready list, which is fair.
        entries.sort_by(|a, b| a.topic().cmp(&b.topic()));
        let produce = self.by_topic(node, entries, now);
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
        true
    }

    fn by_topic(&mut self, node: i32, entries: Vec<Entry>, now: Instant) -> ProduceInFlight {
        let timeout = self.parts.settings.delivery_timeout;
        let cluster = self.parts.metadata.snapshot();
        let mut topics: Vec<TopicEntries> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            trip("stamped");
            let Some(batch) = &entry.batch else { continue };
            self.backs.file_expiry(entry.slot, batch.deadline(timeout));
            let topic = &batch.partition.topic;
            match topics.last_mut() {
                Some(last) if last.name == *topic => last.entries.end = at + 1,
                Some(_) | None => {
                    self.parts.metadata.touch(topic, now);
                    let id = cluster.topic(topic).map_or([0; 16], |topic| topic.id);
                    topics.push(TopicEntries { name: topic.clone(), id, entries: at..at + 1 });
                }
            }
        }
        ProduceInFlight { node, topics, entries }
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
        let timeout_ms =
            i32::try_from(self.parts.settings.request_timeout.as_millis()).unwrap_or(i32::MAX);
        let acks = self.parts.settings.acks as i16;
        let (topics, batches) = (produce.topics.len(), produce.entries.len());
        let mut encoder = ProduceEncoder::new(version, acks, timeout_ms, topics, batches)?;
        for topic in &produce.topics {
            let entries = produce.entries.get(topic.entries.clone()).unwrap_or_default();
            encoder.start_topic(&topic.name, topic.id, entries.len())?;
            for entry in entries {
                if let Some(batch) = &entry.batch
                    && let Some(body) = batch.body()
                {
                    let header = stamp(body, batch.identity)?;
                    let records = body.slab_bytes();
                    encoder.batch(entry.index, &header, body.records_len(), records)?;
                }
            }
            encoder.end_topic();
        }
        Ok((version, encoder.finish()))
    }

    /// A request that this broker can't be sent, now or ever: its batches were not written.
    fn refuse(&mut self, produce: ProduceInFlight, error: &Error, now: Instant) {
        let node = produce.node;
        self.parts
            .logger
            .log(Level::Warning, "sender", || format!("node {node}: {}", error.message));
        for batch in produce.into_batches() {
            self.backs.lost(batch.partition.slot, batch.number, batch.history.maybe_written);
            self.fail_refused(batch, error, now);
        }
    }

    /// acks=0: written is all that will ever be known.
    pub(super) fn on_written(&mut self, produce: ProduceInFlight) {
        for entry in produce.entries {
            self.backs.done(entry.slot, entry.number);
            if let Some(batch) = entry.batch {
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
        self.learn_leaders(&produce, &response, by_id);
        trip("answered");
        for (expected, topic) in response.topics.iter().enumerate() {
            let Some(at_topic) = produce.find_topic(topic, by_id, expected) else { continue };
            for (expected, partition) in topic.partitions.iter().enumerate() {
                let found = produce.find_entry(at_topic, partition.index, expected);
                // An entry of no request, or one said twice, changes nothing.
                let Some(entry) = found.and_then(|at| produce.entries.get_mut(at)) else {
                    continue;
                };
                entry.index = -1;
                match entry.batch.take() {
                    None => self.end_reported(entry.slot, entry.number, {
                        let code = partition.error_code;
                        (!is_success(code)).then(|| {
                            entry.maybe_written || maybe_written(code, partition.base_offset >= 0)
                        })
                    }),
                    Some(batch) => self.on_partition(produce.node, batch, partition, now),
                }
            }
        }
        for entry in produce.entries {
            if entry.index < 0 {
                continue;
            }
            match entry.batch {
                None => self.end_reported(entry.slot, entry.number, Some(true)),
                Some(mut batch) => {
                    batch.history.maybe_written = true;
                    let message: Arc<str> = "the response does not mention the partition".into();
                    batch.history.network_error = Some(message);
                    self.settle(batch, ErrorCode::NETWORK_EXCEPTION, None, now);
                }
            }
        }
    }

    /// The request of a batch that expired in flight, and was reported, has ended: now the
    /// partition may go on. `lost`: it is not in the log, or perhaps it is.
    fn end_reported(&mut self, slot: u32, number: u64, lost: Option<bool>) {
        match lost {
            None => self.backs.done(slot, number),
            Some(maybe_written) => self.backs.lost(slot, number, maybe_written),
        }
    }

    fn on_partition(
        &mut self,
        node: i32,
        mut batch: Outgoing,
        answer: &PartitionProduceResponse,
        now: Instant,
    ) {
        let code = answer.error_code;
        if !code.is_none() {
            let text = answer.error_message.as_deref().map(Arc::from);
            batch.history.broker_error = Some((code.0, text));
            let partition = &batch.partition;
            self.parts.logger.log(Level::Info, "sender", || {
                let name = crate::error::short_name(i32::from(code.0));
                format!("{}-{}: node {node} answered {name}", partition.topic, partition.index)
            });
        }
        self.settle(batch, code, Some((node, answer)), now);
    }

    /// KIP-951: a broker that is not the leader may say who is. All partitions at once: each change
    /// makes a snapshot.
    fn learn_leaders(
        &mut self,
        produce: &ProduceInFlight,
        response: &ProduceResponse,
        by_id: bool,
    ) {
        let mut updates = Vec::new();
        for (expected, topic) in response.topics.iter().enumerate() {
            let named =
                topic.partitions.iter().filter(|answer| answer.current_leader.leader_id >= 0);
            for answer in named {
                let of = produce.find_topic(topic, by_id, expected);
                let Some(of) = of.and_then(|at| produce.topics.get(at)) else { break };
                updates.push(LeaderUpdate {
                    topic: &of.name,
                    partition: answer.index,
                    leader: answer.current_leader.leader_id,
                    leader_epoch: answer.current_leader.leader_epoch,
                });
            }
        }
        if updates.is_empty() {
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
        if !self.parts.metadata.update_leaders(&updates, &endpoints).topics.is_empty() {
            // Now, so that what this response refuses is sent to them without a pause.
            self.follow_nodes();
            self.follow_leaders();
        }
    }

    /// The connection failed under a request, or its time was up.
    pub(super) fn on_failed(
        &mut self,
        produce: ProduceInFlight,
        written: bool,
        why: &Arc<str>,
        now: Instant,
    ) {
        let written = written && !defects::on(Defect::UnansweredIsUnwritten);
        for entry in produce.entries {
            if defects::on(Defect::ForgetOnDisconnect) {
                self.backs.done(entry.slot, entry.number);
                std::mem::forget(entry.batch);
                continue;
            }
            let Some(mut batch) = entry.batch else {
                let lost = Some(entry.maybe_written || written);
                self.end_reported(entry.slot, entry.number, lost);
                continue;
            };
            batch.history.network_error = Some(Arc::clone(why));
            if written {
                self.settle(batch, ErrorCode::NETWORK_EXCEPTION, None, now);
            } else {
                // It never left: no attempt, and no doubt about it.
                batch.history.attempts = batch.history.attempts.saturating_sub(1);
                self.parts.metadata.request_update_of(&batch.partition.topic, now);
                let backoff = self.backoff(batch.history.attempts.max(1));
                self.backs.reenqueue(batch, now.after(backoff));
            }
        }
    }

    /// Reports what is in flight for these partitions (ascending) and has reached its deadline; a
    /// partition stays muted until the request's end is known, and so does the memory.
    pub(super) fn expire_in_flight(&mut self, slots: &[u32], now: Instant) {
        let timeout = self.parts.settings.delivery_timeout;
        let mut expired = Vec::new();
        for produce in self.produces.values_mut() {
            let looked_at = |entry: &&mut Entry| slots.binary_search(&entry.slot).is_ok();
            for entry in produce.entries.iter_mut().filter(looked_at) {
                let Some(batch) = &mut entry.batch else { continue };
                match batch.expired(now, timeout) {
                    Expiry::All if defects::on(Defect::KeepInFlight) => continue,
                    Expiry::All => {
                        expired.extend(entry.batch.take());
                        continue;
                    }
                    Expiry::Nothing => {}
                    // The request's end is the others' outcome.
                    Expiry::Some(places) => {
                        expired.push(batch.part(places, self.parts.accumulator.cuts()));
                    }
                }
                self.backs.file_expiry(entry.slot, batch.deadline(timeout));
            }
        }
        expired.sort_by_key(|batch| (batch.partition.slot, batch.number));
        for batch in expired {
            if defects::on(Defect::FreeAtExpiry) {
                self.backs.done(batch.partition.slot, batch.number);
            }
            self.fail_expired(batch, now, true);
        }
    }
}

/// The batch's header: identity and sums. Sealing was done by whoever closed the batch, or is done
/// here.
fn stamp(body: &BatchBody, identity: Option<Identity>) -> Result<[u8; BATCH_HEADER_LEN]> {
    let seal = body.seal();
    let count = i32::try_from(body.count()).unwrap_or(i32::MAX);
    let unnamed = BatchHeader::default();
    let named = identity.map_or(unnamed, |identity| BatchHeader {
        producer_id: identity.producer.id,
        producer_epoch: identity.producer.epoch,
        base_sequence: identity.base_sequence,
        ..unnamed
    });
    let header = BatchHeader {
        attributes: body.codec().bits(),
        last_offset_delta: count - 1,
        base_timestamp: body.base_timestamp(),
        max_timestamp: body.max_timestamp(),
        record_count: count,
        ..named
    };
    header.encode(body.records_len(), seal.crc, seal.factor)
}
