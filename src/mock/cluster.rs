//! The mock cluster without sockets and clocks: a request and the time go in, an answer (and the
//! time before which it may not be sent) comes out. The socket shell (`server`) makes it a cluster
//! that any client can use; a simulator drives the same state in virtual time.
//!
//! One `Cluster` is all brokers. What differs between them is small (who leads what, latency,
//! counters), and a client can't tell: each answers on its own address. Whoever holds the cluster
//! guards it; nothing in here waits.
//!
//! What can't be read closes its connection, as in Kafka; [`Cluster::complaints`] says why.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::audit::Audit;
use super::handlers::{self, Call};
use super::log::{Record, StoredBatch};
use super::topics::{Partition, Topic, Topics, invalid};
use crate::clock::Instant;
use crate::error::{Error, Result, status};
use crate::protocol::messages::FetchRequest;
use crate::protocol::{ApiKey, ErrorCode, RequestHeader, Uuid};
use crate::rng::Rng;

/// Where every broker listens.
pub const HOST: &str = "127.0.0.1";

/// Pushed as an error: the request is carried out, then the connection is cut instead of answering.
pub const CUT_AFTER_WRITE: i16 = -1000;

/// Pushed as an error of Produce: the leader writes the batch and loses the leadership while it
/// waits for its replicas. NOT_LEADER_OR_FOLLOWER is answered, with the offset.
pub const LEFT_AFTER_WRITE: i16 = -1001;

/// How many requests [`Cluster::requests`] remembers.
const REMEMBERED_REQUESTS: usize = 10_000;
/// How many complaints are remembered.
const REMEMBERED_COMPLAINTS: usize = 100;
/// The most brokers.
const MAX_BROKERS: i32 = 1000;
/// The copies of a new topic's partitions (fewer where there are fewer brokers).
const REPLICATION: usize = 3;
/// The id of the first producer that asks for one.
const FIRST_PRODUCER_ID: i64 = 1000;

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic.
    pub at: Instant,
    /// Milliseconds since the epoch.
    pub wall_ms: i64,
}

/// What a broker does with a request.
#[derive(Debug)]
pub enum Reply {
    /// It answers with this frame (length included), not before this time.
    Answer(Bytes, Instant),
    /// It says nothing and goes on (acks=0).
    Silence,
    /// It closes the connection, not before this time.
    Disconnect(Instant),
    /// It waits for records: ask again with [`Cluster::resume`] when [`Cluster::version`] has
    /// changed, or when the time has come. Nothing else is read from the connection until then.
    Wait(Box<Waiting>),
}

/// A Fetch that waits for records.
#[derive(Debug)]
pub struct Waiting {
    pub(super) call: Call,
    pub(super) request: FetchRequest,
    /// When it is answered with whatever there is.
    pub until: Instant,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// The broker it came to.
    pub node: i32,
    /// The API's number.
    pub api_key: i16,
    /// Its version.
    pub api_version: i16,
    /// What the client calls it.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Arc<str>>,
    /// When it was read.
    pub at: Instant,
}

/// A broker.
#[derive(Debug, Default)]
pub struct Broker {
    /// Its number, from 1.
    pub id: i32,
    /// Where it listens.
    pub port: u16,
    /// Where clients are told to connect, if not there: `advertised.listeners`.
    pub advertised: Option<(String, u16)>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// How it behaves.
    pub behaviour: Behaviour,
    /// Connections that are open.
    pub connections: usize,
    /// Connections that were ever accepted.
    pub accepted: u64,
    /// How often all its connections were to be closed.
    pub disconnects: u64,
    /// How often what it had carried out was to be answered at once.
    pub hastened: u64,
    counts: BTreeMap<i16, u64>,
}

impl Broker {
    /// Where clients are told to connect.
    pub fn address(&self) -> (&str, u16) {
        self.advertised.as_ref().map_or((HOST, self.port), |(host, port)| (host, *port))
    }
}

/// How a broker behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// False: connections are refused, and those that were open are closed.
    pub up: bool,
    /// It accepts, reads and writes nothing.
    pub frozen: bool,
    /// How long after a request it answers.
    pub latency: Duration,
    /// What Produce and Fetch responses ask for.
    pub throttle_ms: i32,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour { up: true, frozen: false, latency: Duration::ZERO, throttle_ms: 0 }
    }
}

/// All brokers, topics and logs.
#[derive(Debug)]
pub struct Cluster {
    pub(super) topics: Topics,
    /// Whether Metadata requests may create topics.
    pub auto_create_topics: bool,
    /// `num.partitions`: of topics that are created without saying how many.
    pub default_partitions: i32,
    pub(super) id: String,
    next_producer_id: i64,
    next_epoch: i16,
    /// What came under which identity.
    pub audit: Audit,
    brokers: Vec<Broker>,
    api_versions: BTreeMap<i16, (i16, i16)>,
    pub(crate) errors: BTreeMap<i16, VecDeque<i16>>,
    requests: VecDeque<SeenRequest>,
    last_client_id: Option<Arc<str>>,
    complaints: VecDeque<String>,
    version: u64,
    rng: Rng,
}

impl Cluster {
    /// Brokers 1 to `brokers`, no topics.
    pub fn new(brokers: i32, rng: Rng) -> Result<Cluster> {
        if !(1..=MAX_BROKERS).contains(&brokers) {
            return Err(invalid(format!("a cluster of {brokers} brokers (1 to {MAX_BROKERS})")));
        }
        Ok(Cluster {
            topics: Topics::default(),
            auto_create_topics: true,
            default_partitions: 1,
            id: format!("mock-{:08x}", rng.below(1 << 32)),
            next_producer_id: FIRST_PRODUCER_ID,
            next_epoch: 0,
            audit: Audit::default(),
            brokers: (1..=brokers).map(|id| Broker { id, ..Broker::default() }).collect(),
            api_versions: handlers::advertised().collect(),
            errors: BTreeMap::new(),
            requests: VecDeque::new(),
            last_client_id: None,
            complaints: VecDeque::new(),
            version: 0,
            rng,
        })
    }

    /// What `node` does with a request's frame (without its length).
    pub fn handle(&mut self, node: i32, frame: &Bytes, now: Now) -> Reply {
        let latency = self.broker(node).map_or(Duration::ZERO, |b| b.behaviour.latency);
        let not_before = now.at.after(latency);
        self.try_handle(node, frame, now).unwrap_or_else(|error| {
            self.complain(format!("broker {node} closed a connection: {error}"));
            Reply::Disconnect(not_before)
        })
    }

    fn try_handle(&mut self, node: i32, frame: &Bytes, now: Now) -> Result<Reply> {
        let (header, body) = RequestHeader::split(frame)?;
        self.note(node, &header, now);
        let Some(key) = ApiKey::from_code(header.api_key) else {
            let message = format!("API {} is not served", header.api_key);
            return Err(Error::new(status::UNSUPPORTED, message));
        };
        let mut call = Call {
            node,
            key,
            version: header.api_version,
            correlation_id: header.correlation_id,
            now,
            error: ErrorCode::NONE,
        };
        if !self.serves(key, header.api_version) {
            return handlers::unsupported_version(self, &call);
        }
        let pushed = self.errors.get_mut(&key.code()).and_then(VecDeque::pop_front).unwrap_or(0);
        let not_before = self.not_before(&call);
        match pushed {
            CUT_AFTER_WRITE => {
                handlers::handle(self, &call, &body)?;
                Ok(Reply::Disconnect(not_before))
            }
            code if code == ErrorCode::NETWORK_EXCEPTION.0 => Ok(Reply::Disconnect(not_before)),
            code => {
                call.error = ErrorCode(code);
                handlers::handle(self, &call, &body)
            }
        }
    }

    /// What becomes of a waiting request; `None`: it still waits.
    pub fn resume(&mut self, waiting: &Waiting, now: Now) -> Option<Reply> {
        let call = Call { now, ..waiting.call };
        match handlers::fetch::answer(self, &call, &waiting.request, now.at >= waiting.until) {
            Ok(reply) => reply,
            Err(error) => {
                self.complain(format!("broker {} closed a connection: {error}", call.node));
                Some(Reply::Disconnect(now.at))
            }
        }
    }

    /// Grows whenever something happened that a waiting request may have waited for.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn changed(&mut self) {
        self.version += 1;
    }

    pub(super) fn not_before(&self, call: &Call) -> Instant {
        let latency = self.broker(call.node).map_or(Duration::ZERO, |b| b.behaviour.latency);
        call.now.at.after(latency)
    }

    pub(super) fn throttle_ms(&self, node: i32) -> i32 {
        self.broker(node).map_or(0, |broker| broker.behaviour.throttle_ms)
    }

    fn note(&mut self, node: i32, header: &RequestHeader, now: Now) {
        if self.last_client_id.as_deref() != header.client_id.as_deref() {
            self.last_client_id = header.client_id.as_deref().map(Arc::from);
        }
        if let Ok(broker) = self.broker_mut(node) {
            *broker.counts.entry(header.api_key).or_default() += 1;
        }
        if self.requests.len() == REMEMBERED_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(SeenRequest {
            node,
            api_key: header.api_key,
            api_version: header.api_version,
            correlation_id: header.correlation_id,
            client_id: self.last_client_id.clone(),
            at: now.at,
        });
    }

    pub(super) fn complain(&mut self, complaint: String) {
        if self.complaints.len() == REMEMBERED_COMPLAINTS {
            self.complaints.pop_front();
        }
        self.complaints.push_back(complaint);
    }

    /// Why connections were closed, oldest first.
    pub fn complaints(&self) -> impl Iterator<Item = &str> {
        self.complaints.iter().map(String::as_str)
    }

    /// The last requests, oldest first.
    pub fn requests(&self) -> impl Iterator<Item = &SeenRequest> {
        self.requests.iter()
    }

    /// How many requests of an API a broker got; `None`: all brokers.
    pub fn request_count(&self, node: Option<i32>, api_key: i16) -> u64 {
        let wanted = self.brokers.iter().filter(|b| node.is_none_or(|node| b.id == node));
        wanted.filter_map(|broker| broker.counts.get(&api_key)).sum()
    }

    /// The brokers, by number.
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// A broker.
    pub fn broker(&self, node: i32) -> Option<&Broker> {
        self.brokers.get(usize::try_from(node).ok()?.checked_sub(1)?)
    }

    /// Has the shell close every connection of a broker.
    pub fn disconnect(&mut self, node: i32) -> Result<()> {
        self.broker_mut(node).map(|broker| broker.disconnects += 1)
    }

    /// A broker, to change it.
    pub fn broker_mut(&mut self, node: i32) -> Result<&mut Broker> {
        let count = self.brokers.len();
        usize::try_from(node)
            .ok()
            .and_then(|node| self.brokers.get_mut(node.checked_sub(1)?))
            .ok_or_else(|| invalid(format!("there is no broker {node} (1 to {count})")))
    }

    /// The versions that are advertised, by API.
    pub fn api_versions(&self) -> impl Iterator<Item = (i16, i16, i16)> {
        self.api_versions.iter().map(|(key, (min, max))| (*key, *min, *max))
    }

    /// Advertises other versions of an API; `max` below `min`: none. Requests of versions that are
    /// not advertised are refused; versions that this cluster can't read are refused even if they
    /// are.
    pub fn set_api_versions(&mut self, api_key: i16, min: i16, max: i16) -> Result<()> {
        if ApiKey::from_code(api_key).is_none() {
            return Err(invalid(format!("API {api_key} is not served")));
        }
        if max < min {
            self.api_versions.remove(&api_key);
        } else {
            self.api_versions.insert(api_key, (min, max));
        }
        Ok(())
    }

    fn serves(&self, key: ApiKey, version: i16) -> bool {
        let advertised = self.api_versions.get(&key.code());
        handlers::readable(key).contains(&version)
            && advertised.is_some_and(|(min, max)| (*min..=*max).contains(&version))
    }

    /// Gives the next requests of an API these codes, in order; 0 lets one pass. Code 13
    /// (NETWORK_EXCEPTION) cuts the connection before anything is done, [`CUT_AFTER_WRITE`] after
    /// it. Of Produce, 7 (REQUEST_TIMED_OUT), 20 (NOT_ENOUGH_REPLICAS_AFTER_APPEND) and
    /// [`LEFT_AFTER_WRITE`] are answered after the write took place, as their meaning is.
    pub fn push_errors(&mut self, api_key: i16, codes: &[i16]) -> Result<()> {
        if ApiKey::from_code(api_key).is_none() {
            return Err(invalid(format!("API {api_key} is not served")));
        }
        self.errors.entry(api_key).or_default().extend(codes);
        Ok(())
    }

    /// Gives the next batches of one partition these codes; 0 lets one pass.
    pub fn push_partition_errors(&mut self, topic: &str, index: i32, codes: &[i16]) -> Result<()> {
        let partition = self.topics.known_partition(topic, index)?;
        partition.errors.extend(codes.iter().copied().map(ErrorCode));
        Ok(())
    }

    /// Takes back what is left of [`Cluster::push_partition_errors`].
    pub fn clear_partition_errors(&mut self, topic: &str, index: i32) -> Result<()> {
        self.topics.known_partition(topic, index)?.errors.clear();
        Ok(())
    }

    /// Creates a topic; `None`: of as many partitions as topics have by default.
    pub fn create_topic(&mut self, name: &str, partitions: Option<i32>) -> Result<()> {
        let topic = self.new_topic(name, partitions, None)?;
        self.add_topic(topic);
        Ok(())
    }

    pub(super) fn new_topic(
        &self,
        name: &str,
        partitions: Option<i32>,
        replication: Option<i16>,
    ) -> Result<Topic> {
        let partitions = partitions.unwrap_or(self.default_partitions);
        let replication = replication.and_then(|r| usize::try_from(r).ok()).unwrap_or(REPLICATION);
        self.topics.new_topic(name, self.new_topic_id(), partitions, &self.node_ids(), replication)
    }

    pub(super) fn add_topic(&mut self, topic: Topic) {
        self.topics.add(topic);
        self.changed();
    }

    fn node_ids(&self) -> Vec<i32> {
        self.brokers.iter().map(|broker| broker.id).collect()
    }

    /// Removes a topic and all its records.
    pub fn delete_topic(&mut self, name: &str) -> Result<()> {
        self.changed();
        self.topics.delete(name)
    }

    /// Sets a topic's configuration, by Kafka's names.
    pub fn set_topic_config(&mut self, topic: &str, name: &str, value: &str) -> Result<()> {
        if self.topics.known(topic)?.config.set(name, value)? {
            return Ok(());
        }
        Err(invalid(format!("topic configuration {name} has no effect here")))
    }

    /// Adds partitions to a topic.
    pub fn add_partitions(&mut self, topic: &str, total: i32) -> Result<()> {
        let nodes = self.node_ids();
        self.topics.add_partitions(topic, total, &nodes, REPLICATION)
    }

    fn new_topic_id(&self) -> Uuid {
        let mut id = [0; 16];
        for byte in &mut id {
            // Never all zeros: those mean no id.
            *byte = u8::try_from(1 + self.rng.below(255)).unwrap_or(1);
        }
        id
    }

    /// Moves a partition to another leader; -1: none.
    pub fn set_leader(&mut self, topic: &str, partition: i32, node: i32) -> Result<()> {
        if node != -1 && self.broker(node).is_none() {
            return Err(invalid(format!("there is no broker {node}")));
        }
        self.topics.known_partition(topic, partition)?.set_leader(node);
        self.changed();
        Ok(())
    }

    /// Forgets what producers wrote, as when their ids expire.
    pub fn forget_producers(&mut self) {
        for topic in self.topics.iter_mut() {
            topic.partitions.iter_mut().for_each(|p| p.log.forget_producers());
        }
    }

    /// A producer id that nobody has, and its epoch.
    pub(super) fn new_producer_id(&mut self) -> (i64, i16) {
        self.next_producer_id += 1;
        (self.next_producer_id - 1, std::mem::take(&mut self.next_epoch))
    }

    /// The epoch that comes with the next producer id; after that it is 0 again.
    pub fn set_next_epoch(&mut self, epoch: i16) {
        self.next_epoch = epoch;
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.iter()
    }

    /// A topic.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.topics.get(topic)?.partition(partition)
    }

    /// The record at an offset, if it is there.
    pub fn read(&mut self, topic: &str, partition: i32, offset: i64) -> Option<Record> {
        self.topics.get_mut(topic)?.partition_mut(partition)?.log.read(offset)
    }

    /// The offset that a partition's next record gets.
    pub fn end_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        Some(self.partition(topic, partition)?.log.end_offset())
    }

    /// The batches of a partition, oldest first.
    pub fn batches(&self, topic: &str, partition: i32) -> Vec<StoredBatch> {
        let partition = self.partition(topic, partition);
        partition.map(|p| p.log.batches().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::testing::{Bench, TestBatch, WALL_MS, produce_request};
    use crate::protocol::messages::{ApiVersionsRequest, MetadataRequest};

    fn bench() -> Bench {
        let mut bench = Bench::new(2);
        bench.cluster.create_topic("t", Some(2)).unwrap();
        bench
    }

    #[test]
    fn a_cluster_has_brokers() {
        for brokers in [i32::MIN, -1, 0, MAX_BROKERS + 1] {
            assert!(Cluster::new(brokers, Rng::seeded(1)).is_err());
        }
    }

    #[test]
    fn answers_wait_for_the_latency() {
        let mut bench = bench();
        bench.cluster.broker_mut(2).unwrap().behaviour.latency = Duration::from_millis(30);
        for (node, at) in [(1, bench.now.at), (2, bench.now.at.after(Duration::from_millis(30)))] {
            let reply = bench.send(node, 9, &MetadataRequest::default());
            assert!(matches!(reply, Reply::Answer(_, not_before) if not_before == at));
        }
    }

    #[test]
    fn a_cut_comes_before_or_after_the_write() {
        let mut bench = bench();
        bench.cluster.push_errors(0, &[13, CUT_AFTER_WRITE]).unwrap();
        let request = produce_request("t", 0, TestBatch::of(&["a"]).bytes());
        for end in [0, 1] {
            assert!(matches!(bench.send(1, 9, &request), Reply::Disconnect(_)));
            assert_eq!(bench.cluster.end_offset("t", 0), Some(end));
        }
        assert!(matches!(bench.send(1, 9, &request), Reply::Answer(..)));
        assert!(bench.cluster.push_errors(99, &[1]).is_err());
    }

    #[test]
    fn what_cannot_be_read_closes_the_connection() {
        let mut bench = bench();
        let mut frames: Vec<Vec<u8>> = vec![
            Vec::new(),
            vec![0; 3],
            // API 99.
            vec![0, 99, 0, 0, 0, 0, 0, 1, 255, 255],
            // Produce v2, which is advertised.
            vec![0, 0, 0, 2, 0, 0, 0, 1, 255, 255, 0, 0],
            // Metadata v99.
            vec![0, 3, 0, 99, 0, 0, 0, 1, 255, 255, 0, 0],
            // Metadata v1 with an array of 2^31-1 topics.
            vec![0, 3, 0, 1, 0, 0, 0, 1, 255, 255, 127, 255, 255, 255],
        ];
        frames.push([vec![0, 3, 0, 1, 0, 0, 0, 1, 0, 1], vec![255, 0, 0, 0, 0]].concat());
        for (index, frame) in frames.into_iter().enumerate() {
            let reply = bench.cluster.handle(1, &frame.clone().into(), bench.now);
            assert!(matches!(reply, Reply::Disconnect(_)), "{frame:?}: {reply:?}");
            assert_eq!(bench.cluster.complaints().count(), index + 1);
        }
    }

    #[test]
    fn versions_that_are_not_advertised_are_refused() {
        let mut bench = bench();
        bench.cluster.set_api_versions(3, 4, 8).unwrap();
        for (version, served) in [(3, false), (4, true), (8, true), (9, false)] {
            let reply = bench.send(1, version, &MetadataRequest::default());
            assert_eq!(matches!(reply, Reply::Answer(..)), served, "v{version}");
        }
    }

    #[test]
    fn requests_are_counted_and_remembered() {
        let mut bench = bench();
        bench.send(1, 9, &MetadataRequest::default());
        bench.send(2, 0, &ApiVersionsRequest::default());
        bench.send(2, 9, &MetadataRequest::default());
        assert_eq!(bench.cluster.request_count(None, 3), 2);
        assert_eq!(bench.cluster.request_count(Some(2), 3), 1);
        assert_eq!(bench.cluster.request_count(Some(2), 0), 0);
        let seen: Vec<_> =
            bench.cluster.requests().map(|r| (r.node, r.api_key, r.api_version)).collect();
        assert_eq!(seen, [(1, 3, 9), (2, 18, 0), (2, 3, 9)]);
        assert!(bench.cluster.requests().all(|r| r.client_id.as_deref() == Some("test")));
    }

    #[test]
    fn leaders_move_and_epochs_grow() {
        let mut bench = bench();
        let state = |bench: &Bench| {
            let partition = bench.cluster.topic("t").unwrap().partition(0).unwrap();
            (partition.leader, partition.leader_epoch)
        };
        assert_eq!(state(&bench), (1, 0));
        for (node, epoch) in [(2, 1), (2, 1), (-1, 2), (1, 3)] {
            bench.cluster.set_leader("t", 0, node).unwrap();
            assert_eq!(state(&bench), (node, epoch));
        }
        assert!(bench.cluster.set_leader("t", 0, 3).is_err());
        assert!(bench.cluster.set_leader("t", 0, -2).is_err());
        assert!(bench.cluster.set_leader("t", 2, 1).is_err());
        assert!(bench.cluster.set_leader("u", 0, 1).is_err());
        bench.produce(1, "t", 0, TestBatch::of(&["a"]).bytes());
        assert_eq!(bench.cluster.batches("t", 0)[0].leader_epoch, 3);
    }

    #[test]
    fn partitions_are_added() {
        let mut bench = bench();
        bench.cluster.add_partitions("t", 5).unwrap();
        let topic = bench.cluster.topic("t").unwrap();
        let leaders: Vec<i32> = topic.partitions.iter().map(|p| p.leader).collect();
        assert_eq!(leaders, [1, 2, 1, 2, 1]);
        for total in [5, 4, -1, i32::MAX] {
            assert!(bench.cluster.add_partitions("t", total).is_err(), "{total}");
        }
        assert!(bench.cluster.create_topic("u", Some(-1)).is_err());
        assert!(bench.cluster.create_topic("t", Some(1)).is_err());
    }

    #[test]
    fn records_are_read_back() {
        let mut bench = bench();
        bench.produce(1, "t", 0, TestBatch::of(&["a", "b"]).bytes());
        let record = bench.cluster.read("t", 0, 1).unwrap();
        assert_eq!(record.value.unwrap(), "b");
        assert_eq!(record.timestamp_ms, WALL_MS + 1);
        for (topic, partition, offset) in [("t", 0, 2), ("t", 1, 0), ("t", 2, 0), ("u", 0, 0)] {
            assert_eq!(bench.cluster.read(topic, partition, offset), None);
        }
        assert_eq!(bench.cluster.end_offset("t", 2), None);
    }
}
