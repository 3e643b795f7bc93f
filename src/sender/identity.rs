//! The producer id: InitProducerId, to whichever broker answers soonest.
//!
//! Asked for with the first topic's metadata, so that it is there when the first batch is; and
//! again when a partition has used up the epochs of the one there is. What may pass is asked again
//! within the deadlines of the records that wait; what may not fails them at once, and the next
//! records ask anew: rights can be granted.

use super::{Parts, Sender};
use crate::accumulator::back::Order;
use crate::clock::Instant;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::log::Level;
use crate::network::Selectable;
use crate::protocol::api::{ApiKey, ErrorCode, Message, Request};
use crate::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::transactions::sequence::ProducerIdAndEpoch;
use crate::transactions::{TransactionManager, Verdict};
use bytes::Bytes;

/// What keeps order under these settings.
pub(super) fn order(settings: &Settings) -> Order {
    match (settings.enable_idempotence, settings.allow_reordering) {
        (true, _) => Order::Sequences,
        (false, true) => Order::Free,
        (false, false) => Order::OneInFlight,
    }
}

/// The id as the sender sees it.
pub(super) struct ProducerId {
    pub(super) manager: TransactionManager,
    /// The request in flight.
    pub(super) token: Option<u64>,
    /// Records are about to come.
    wanted: bool,
    /// Why no broker gives one: the code and a sentence. It holds until the next request.
    refusal: Option<(i32, String)>,
}

impl ProducerId {
    pub(super) fn new(settings: &Settings) -> ProducerId {
        let manager = TransactionManager::new(settings.retry_backoff, settings.retry_backoff_max);
        ProducerId { manager, token: None, wanted: false, refusal: None }
    }
}

impl<S: Selectable> Sender<S> {
    /// A topic is asked for: somebody sends to it.
    pub(super) fn expect_records(&mut self) {
        let producer_id = &mut self.producer_id;
        producer_id.wanted |=
            self.parts.settings.enable_idempotence && producer_id.manager.newest().is_none();
    }

    /// When the producer id has to be looked after; `NEVER` if nobody needs another one, or the
    /// request is on its way.
    pub(super) fn producer_id_due(&self) -> Instant {
        let producer_id = &self.producer_id;
        let wanted = producer_id.wanted || self.backs.wants_id();
        producer_id.manager.due().filter(|_| wanted).unwrap_or(Instant::NEVER)
    }

    /// Sends a request that is due.
    pub(super) fn follow_producer_id(&mut self, now: Instant) {
        if self.producer_id_due() > now {
            return self.fail_without_id(now);
        }
        let client = &mut self.parts.client;
        let Some(node) = client.least_loaded_node(now) else {
            // As for metadata: some node's backoff must end first.
            return self.prepare_nodes(now);
        };
        if !client.ready(node, now) {
            return;
        }
        self.producer_id.manager.sent();
        self.producer_id.refusal = None;
        match self.init_producer_id(node) {
            Ok((version, body)) => {
                let token = self.token();
                self.producer_id.token = Some(token);
                let timeout = self.parts.settings.request_timeout;
                let body = vec![Bytes::from(body)];
                self.send(node, token, ApiKey::InitProducerId, version, body, timeout, true);
            }
            Err(error) => {
                self.producer_id.manager.refused(now);
                self.no_producer_id(node, error.status, &error.message, now);
            }
        }
    }

    fn init_producer_id(&self, node: i32) -> Result<(i16, Vec<u8>)> {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: i32::MAX,
            ..InitProducerIdRequest::default()
        };
        let versions = InitProducerIdRequest::CLIENT_VERSIONS;
        let version = self.parts.client.api_version(node, ApiKey::InitProducerId, versions)?;
        Ok((version, request.to_vec(version)?))
    }

    /// A response to InitProducerId.
    pub(super) fn on_init_producer_id(
        &mut self,
        node: i32,
        version: i16,
        body: &Bytes,
        now: Instant,
    ) {
        let response = match InitProducerIdResponse::from_bytes(version, body) {
            Ok(response) => response,
            Err(error) => {
                self.parts.client.disconnect(node, &error.message);
                return self.on_init_producer_id_failed(&error, now);
            }
        };
        let Parts { client, rng, .. } = &mut self.parts;
        client.throttle(node, ApiKey::InitProducerId, version, response.throttle_time_ms, now);
        let granted =
            ProducerIdAndEpoch { id: response.producer_id, epoch: response.producer_epoch };
        let code = response.error_code;
        match self.producer_id.manager.answered(code, granted, rng, now) {
            Verdict::Granted => {
                self.producer_id.wanted = false;
                self.parts.logger.log(Level::Debug, "sender", || {
                    format!("the producer id is {}, epoch {}", granted.id, granted.epoch)
                });
                self.backs.set_producer_id(granted);
            }
            Verdict::Again => self.note_no_producer_id(),
            Verdict::Refused => {
                let code = i32::from(code.0);
                let why = crate::error::status_message(code).to_string_lossy();
                self.no_producer_id(node, code, &why, now);
            }
        }
    }

    /// The request was lost.
    pub(super) fn on_init_producer_id_failed(&mut self, error: &Error, now: Instant) {
        let why = error.message.to_string().into();
        self.producer_id.manager.failed(why, &self.parts.rng, now);
        self.note_no_producer_id();
    }

    fn note_no_producer_id(&self) {
        let Some(why) = self.producer_id.manager.last_error() else { return };
        self.parts.logger.log(Level::Info, "sender", || format!("no producer id yet: {why}"));
    }

    /// No broker will give an id: what can't go without one fails.
    fn no_producer_id(&mut self, node: i32, code: i32, why: &str, now: Instant) {
        self.producer_id.wanted = false;
        let name = crate::error::short_name(code);
        let remedy = match code {
            code if code == i32::from(ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0) => {
                "grant IDEMPOTENT_WRITE on the cluster or WRITE on a topic, or set \
                 enable.idempotence=false"
            }
            _ => "enable.idempotence=false does without it",
        };
        let why = format!("node {node} gave no producer id ({name}: {why}); {remedy}");
        self.parts.logger.log(Level::Error, "sender", || why.clone());
        self.producer_id.refusal = Some((code, why));
        self.fail_without_id(now);
    }

    /// Fails what can't go without an id, if it is known that there is none to be had.
    fn fail_without_id(&mut self, now: Instant) {
        if !self.backs.wants_id() {
            return;
        }
        let Some((code, why)) = self.producer_id.refusal.clone() else { return };
        let partitions = self.backs.take_without_id();
        for batch in self.take_batches(&partitions, false) {
            self.fail_aborted(batch, code, &why, false, now);
        }
    }

    /// What stands in the way of batches that wait for a producer id.
    pub(super) fn why_no_id(&self) -> String {
        match self.producer_id.manager.last_error() {
            Some(error) => format!("no broker gave a producer id: {error}"),
            None => "no broker had given a producer id yet".to_string(),
        }
    }
}
