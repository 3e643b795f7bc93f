//! A Kafka cluster inside the process, for quick starts and tests: real sockets on 127.0.0.1,
//! everything in memory.
//!
//! [`cluster`] is the state and its rules, without sockets and clocks; [`log`] and [`producers`]
//! check and keep what is written; `handlers` has a file per API; [`server`] listens.
//! [`MockCluster`] is the handle to all of it: its calls change or read the state under the one
//! lock that the server's thread also takes for each request, so that what a call did is what the
//! next request meets. It imports the protocol and never the client.

pub mod audit;
pub mod cluster;
mod connection;
mod handlers;
pub mod log;
pub mod producers;
mod server;
#[cfg(test)]
mod testing;
pub mod topics;
pub mod validator;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use cluster::{Behaviour, CUT_AFTER_WRITE, Cluster, LEFT_AFTER_WRITE, SeenRequest};
pub use log::{Record, StoredBatch};
use server::{Control, Server};

use crate::clock::Clock;
use crate::error::{Error, Result, status};
use crate::protocol::Uuid;
use crate::protocol::messages::MetadataResponse;
use crate::rng::Rng;

/// A running cluster. Dropping it closes every connection and listener and ends its thread.
pub struct MockCluster {
    shared: Arc<Shared>,
    bootstrap_servers: String,
    thread: Option<JoinHandle<()>>,
}

/// Any thread may call it.
const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<MockCluster>();
};

/// What the handle and the server's thread have in common.
struct Shared {
    cluster: Mutex<Cluster>,
    control: Control,
}

impl Shared {
    /// The cluster, whatever happened to the last holder of its lock.
    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for MockCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let servers = &self.bootstrap_servers;
        f.debug_struct("MockCluster").field("bootstrap_servers", servers).finish_non_exhaustive()
    }
}

impl MockCluster {
    /// Starts brokers 1 to `brokers`, without topics.
    pub fn new(brokers: i32) -> Result<MockCluster> {
        let cluster = Cluster::new(brokers, Rng::system())?;
        let (server, shared) = Server::new(cluster, Clock::system()).map_err(|error| {
            Error::new(status::INVALID_STATE, format!("the mock cluster cannot listen: {error}"))
        })?;
        let servers: Vec<String> = shared
            .cluster()
            .brokers()
            .iter()
            .map(|broker| format!("{}:{}", cluster::HOST, broker.port))
            .collect();
        let thread = std::thread::Builder::new()
            .name("kafka-mock".to_owned())
            .spawn(move || server.run())
            .map_err(|error| {
                let message = format!("the mock cluster cannot start its thread: {error}");
                Error::new(status::INVALID_STATE, message)
            })?;
        Ok(MockCluster { shared, bootstrap_servers: servers.join(","), thread: Some(thread) })
    }

    /// `host:port` of every broker, with commas between.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Changes the state at one stroke: no request comes in between. The server looks at it
    /// afterwards. `change` has the lock, so it must not call this handle.
    pub fn with<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        let result = change(&mut self.shared.cluster());
        self.shared.control.wake();
        result
    }

    /// Creates a topic; its partitions are led by the brokers in turn.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.with(|cluster| cluster.create_topic(name, Some(partitions)))
    }

    /// Removes a topic and all its records.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.with(|cluster| cluster.delete_topic(name))
    }

    /// Gives a topic more partitions.
    pub fn add_partitions(&self, topic: &str, total: i32) -> Result<()> {
        self.with(|cluster| cluster.add_partitions(topic, total))
    }

    /// Sets a topic's configuration by Kafka's names: `max.message.bytes`, `cleanup.policy`,
    /// `retention.bytes`, `message.timestamp.type`, `message.timestamp.after.max.ms`.
    pub fn set_topic_config(&self, topic: &str, name: &str, value: &str) -> Result<()> {
        self.with(|cluster| cluster.set_topic_config(topic, name, value))
    }

    /// Whether asking for a topic creates it, and of how many partitions (at first: yes, 1).
    pub fn set_auto_create(&self, auto_create: bool, partitions: i32) {
        self.with(|cluster| {
            cluster.auto_create_topics = auto_create;
            cluster.default_partitions = partitions;
        });
    }

    /// Moves a partition to another leader; -1: none.
    pub fn set_leader(&self, topic: &str, partition: i32, node: i32) -> Result<()> {
        self.with(|cluster| cluster.set_leader(topic, partition, node))
    }

    /// Who leads a partition: broker (-1: none) and leader epoch.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(i32, i32)> {
        let cluster = self.shared.cluster();
        let partition = cluster.topic(topic)?.partition(partition)?;
        Some((partition.leader, partition.leader_epoch))
    }

    /// A topic's id.
    pub fn topic_id(&self, topic: &str) -> Option<Uuid> {
        self.shared.cluster().topic(topic).map(|topic| topic.id)
    }

    /// How many partitions a topic has.
    pub fn partition_count(&self, topic: &str) -> Option<usize> {
        self.shared.cluster().topic(topic).map(|topic| topic.partitions.len())
    }

    /// Has a broker tell its clients to connect to another address, a proxy's say. It listens
    /// where it did.
    pub fn set_advertised(&self, node: i32, host: &str, port: u16) -> Result<()> {
        let address = Some((host.to_owned(), port));
        self.with(|cluster| cluster.broker_mut(node).map(|broker| broker.advertised = address))
    }

    /// The rack that a broker says it is in.
    pub fn set_rack(&self, node: i32, rack: Option<&str>) -> Result<()> {
        let rack = rack.map(str::to_owned);
        self.with(|cluster| cluster.broker_mut(node).map(|broker| broker.rack = rack))
    }

    /// How a broker behaves: `up`, or refuses connections; answers after `latency_ms`; asks for
    /// `throttle_ms` in Produce and Fetch; `frozen` accepts, reads and writes nothing. When this
    /// returns, it does. Leaders stay who they are.
    pub fn set_broker(
        &self,
        node: i32,
        up: bool,
        frozen: bool,
        latency_ms: i32,
        throttle_ms: i32,
    ) -> Result<()> {
        let latency = Duration::from_millis(u64::try_from(latency_ms).unwrap_or_default());
        let throttle_ms = throttle_ms.max(0);
        let behaviour = Behaviour { up, frozen, latency, throttle_ms };
        self.with(|cluster| cluster.broker_mut(node).map(|broker| broker.behaviour = behaviour))?;
        self.shared.control.settle()
    }

    /// Has a broker answer what it has carried out, though its latency has not passed: so that a
    /// test decides when, not the time.
    pub fn answer_now(&self, node: i32) -> Result<()> {
        self.with(|cluster| cluster.broker_mut(node).map(|broker| broker.hastened += 1))?;
        self.shared.control.settle()
    }

    /// Closes every connection of a broker; new ones are accepted.
    pub fn disconnect(&self, node: i32) -> Result<()> {
        self.with(|cluster| cluster.disconnect(node))?;
        self.shared.control.settle()
    }

    /// Gives the next requests of an API these codes: see [`Cluster::push_errors`].
    pub fn push_errors(&self, api_key: i16, codes: &[i16]) -> Result<()> {
        self.with(|cluster| cluster.push_errors(api_key, codes))
    }

    /// Gives the next batches of one partition these codes: see [`Cluster::push_partition_errors`].
    pub fn push_partition_errors(&self, topic: &str, partition: i32, codes: &[i16]) -> Result<()> {
        self.with(|cluster| cluster.push_partition_errors(topic, partition, codes))
    }

    /// Has every answer to a Metadata request go through `twist`, with the node that gives it: what
    /// brokers say that have not heard the news. It has the lock, so it must not call this handle.
    pub fn twist_metadata(&self, twist: impl FnMut(i32, &mut MetadataResponse) + Send + 'static) {
        self.with(|cluster| cluster.topics.twist.0 = Some(Box::new(twist)));
    }

    /// Advertises other versions of an API, and serves no others; `max` below `min`: none at all.
    pub fn set_api_versions(&self, api_key: i16, min: i16, max: i16) -> Result<()> {
        self.with(|cluster| cluster.set_api_versions(api_key, min, max))
    }

    /// Forgets every producer id's sequences, as when producer ids expire.
    pub fn forget_producers(&self) {
        self.with(Cluster::forget_producers);
    }

    /// The record at an offset; `None` past the end. Its bytes are shared with the log.
    pub fn read(&self, topic: &str, partition: i32, offset: i64) -> Option<Record> {
        self.shared.cluster().read(topic, partition, offset)
    }

    /// All records of a partition.
    pub fn records(&self, topic: &str, partition: i32) -> Vec<Record> {
        let mut cluster = self.shared.cluster();
        let Some(log) = cluster.topic(topic).and_then(|t| t.partition(partition)).map(|p| &p.log)
        else {
            return Vec::new();
        };
        let (start, end) = (log.start_offset(), log.end_offset());
        (start..end).filter_map(|offset| cluster.read(topic, partition, offset)).collect()
    }

    /// The offset that the next record of a partition gets; -1: there is no such partition.
    pub fn end_offset(&self, topic: &str, partition: i32) -> i64 {
        self.shared.cluster().end_offset(topic, partition).unwrap_or(-1)
    }

    /// The batches of a partition, oldest first. Their bytes are shared with the log.
    pub fn batches(&self, topic: &str, partition: i32) -> Vec<StoredBatch> {
        self.shared.cluster().batches(topic, partition)
    }

    /// How many requests of an API came to a broker; node 0: to all.
    pub fn request_count(&self, node: i32, api_key: i16) -> u64 {
        self.shared.cluster().request_count((node != 0).then_some(node), api_key)
    }

    /// The last requests (up to 10,000), oldest first.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.shared.cluster().requests().cloned().collect()
    }

    /// Why connections were closed by the cluster itself, oldest first.
    pub fn complaints(&self) -> Vec<String> {
        self.shared.cluster().complaints().map(str::to_owned).collect()
    }

    /// Batches that came with the identity of others: see [`audit`].
    pub fn contradictions(&self) -> Vec<String> {
        self.shared.cluster().audit.contradictions().to_vec()
    }

    /// How many connections to a broker are open; node 0: to all.
    pub fn connection_count(&self, node: i32) -> usize {
        let cluster = self.shared.cluster();
        cluster.brokers().iter().filter(|b| node == 0 || b.id == node).map(|b| b.connections).sum()
    }

    /// How many connections to a broker were ever accepted; node 0: to all.
    pub fn accepted_count(&self, node: i32) -> u64 {
        let cluster = self.shared.cluster();
        cluster.brokers().iter().filter(|b| node == 0 || b.id == node).map(|b| b.accepted).sum()
    }

    /// The port of a broker; the same as long as the cluster lives.
    pub fn port(&self, node: i32) -> Option<u16> {
        self.shared.cluster().broker(node).map(|broker| broker.port)
    }
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        self.shared.control.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread was reported where it happened.
            let _ = thread.join();
        }
    }
}
