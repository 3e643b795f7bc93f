//! What a broker's auditor sees: every batch that arrives, whatever becomes of it.
//!
//! Same id, epoch and sequence numbers imply same bytes. (The first piece of a batch that was too
//! large begins like it and ends earlier.)

use crate::mock::cluster::Cluster;
use crate::protocol::ApiKey;
use crate::protocol::Uuid;
use crate::protocol::api::{Message, split_response};
use crate::protocol::messages::produce::{
    FIRST_VERSION_WITH_TOPIC_IDS, ProduceRequest, ProduceResponse,
};
use crate::protocol::record_batch::{RecordBatch, RecordReader};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;

/// Producer id, epoch and first sequence.
pub(super) type Identity = (i64, i16, i32);

/// Topic id, partition, identity and number of records.
type Batch = (Uuid, i32, Identity, usize);

/// One batch of a request.
pub(super) struct Seen {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) crc: u32,
    pub(super) identity: Identity,
    pub(super) ids: Vec<u64>,
}

impl Seen {
    /// Where it goes.
    pub(super) fn partition(&self) -> (String, i32) {
        (self.topic.clone(), self.partition)
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { topic, partition, identity, ids, .. } = self;
        write!(f, "{topic}-{partition} {identity:?} {ids:?}")
    }
}

/// See the module's comment.
#[derive(Default)]
pub(super) struct Audit {
    /// The sum of a batch.
    sums: BTreeMap<Batch, u32>,
    /// Names of topics by id, those that are deleted too.
    names: BTreeMap<Uuid, String>,
    pub(super) complaint: Option<String>,
    /// How many batches came.
    pub(super) batches: u64,
}

impl Audit {
    /// A Produce request's batches.
    pub(super) fn produce(&mut self, cluster: &Cluster, version: i16, body: &Bytes) -> Vec<Seen> {
        let Ok(request) = ProduceRequest::from_bytes(version, body) else {
            self.complain("a Produce request that cannot be read".into());
            return Vec::new();
        };
        self.learn(cluster);
        let mut all = Vec::new();
        for topic in request.topics {
            let name = match version < FIRST_VERSION_WITH_TOPIC_IDS {
                true => topic.name.clone(),
                false => self.names.get(&topic.topic_id).cloned().unwrap_or_default(),
            };
            let id = cluster.topic(&name).map_or(topic.topic_id, |topic| topic.id);
            for partition in topic.partitions {
                let records = partition.records.unwrap_or_default();
                match seen(&name, partition.index, &records) {
                    Some(batch) => {
                        self.check(id, &batch);
                        all.push(batch);
                    }
                    None => self.complain(format!("{name}-{}: no batch", partition.index)),
                }
            }
        }
        self.batches += all.len() as u64;
        all
    }

    /// Takes note of the topics there are.
    pub(super) fn learn(&mut self, cluster: &Cluster) {
        for topic in cluster.topics() {
            self.names.entry(topic.id).or_insert_with(|| topic.name.to_string());
        }
    }

    fn check(&mut self, topic: Uuid, batch: &Seen) {
        if batch.identity.0 < 0 {
            return;
        }
        let key = (topic, batch.partition, batch.identity, batch.ids.len());
        if *self.sums.entry(key).or_insert(batch.crc) != batch.crc {
            self.complain(format!("{batch:?} has the identity of other bytes"));
        }
    }

    fn complain(&mut self, text: String) {
        self.complaint.get_or_insert(text);
    }
}

/// The largest batch, decompressed.
const MOST_UNCOMPRESSED: usize = 1 << 28;

fn seen(topic: &str, partition: i32, bytes: &[u8]) -> Option<Seen> {
    let (batch, _) = RecordBatch::split(bytes).ok()?;
    let header = batch.header;
    let plain = batch.plain(MOST_UNCOMPRESSED).ok()?;
    let records = RecordReader::new(&plain);
    let ids = records.map(|record| id_of(record.ok()?.value)).collect::<Option<Vec<u64>>>()?;
    Some(Seen {
        topic: topic.to_owned(),
        partition,
        crc: batch.crc,
        identity: (header.producer_id, header.producer_epoch, header.base_sequence),
        ids,
    })
}

/// Of the batches of a request those that the answer refuses for some of their records: the numbers
/// of all their records.
pub(super) fn refused(version: i16, frame: &Bytes, seen: Vec<Seen>) -> Vec<Vec<u64>> {
    let (_, body) = split_response(ApiKey::Produce, version, &frame.slice(4..)).unwrap();
    let response = ProduceResponse::from_bytes(version, &body).unwrap();
    // In the request's order.
    let answers = response.topics.into_iter().flat_map(|topic| topic.partitions);
    let answered = answers.zip(seen).filter(|(answer, _)| !answer.record_errors.is_empty());
    answered.map(|(_, batch)| batch.ids).collect()
}

/// A record's number: what its value begins with.
pub(super) fn id_of(value: Option<&[u8]>) -> Option<u64> {
    Some(u64::from_be_bytes(*value?.first_chunk()?))
}
