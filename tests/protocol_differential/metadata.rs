use kafka_producer::protocol::messages::*;
use kafka_protocol::messages::{metadata_request, metadata_response as theirs};

use super::*;

#[test]
fn requests() {
    judge::<MetadataRequest>();
}

#[test]
fn responses() {
    judge::<MetadataResponse>();
}

/// A null name is for the versions that can do without.
fn or_empty(name: Option<String>) -> Option<String> {
    name.or_else(|| Some(String::new()))
}

impl Judged for MetadataRequest {
    type Theirs = kafka_protocol::messages::MetadataRequest;

    fn any() -> BoxedStrategy<Self> {
        let topic = (any::<Uuid>(), maybe_text())
            .prop_map(|(topic_id, name)| MetadataRequestTopic { topic_id, name });
        (proptest::option::of(some(topic)), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(topics, auto_create, cluster_operations, topic_operations)| {
                MetadataRequest {
                    topics,
                    allow_auto_topic_creation: auto_create,
                    include_cluster_authorized_operations: cluster_operations,
                    include_topic_authorized_operations: topic_operations,
                }
            })
            .boxed()
    }

    fn at(mut self, version: i16) -> Self {
        if version < 10 {
            for topic in self.topics.iter_mut().flatten() {
                topic.topic_id = [0; 16];
                topic.name = or_empty(topic.name.take());
            }
        }
        if version == 0 {
            self.topics = self.topics.filter(|topics| !topics.is_empty());
        }
        if version < 4 {
            self.allow_auto_topic_creation = true;
        }
        if !(8..=10).contains(&version) {
            self.include_cluster_authorized_operations = false;
        }
        if version < 8 {
            self.include_topic_authorized_operations = false;
        }
        self
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        let topics = self.topics.as_ref().map(|topics| {
            let topics = topics.iter().map(|topic| {
                metadata_request::MetadataRequestTopic::default()
                    .with_topic_id(uuid(topic.topic_id))
                    .with_name(topic.name.as_deref().map(topic_name))
                    .with_unknown_tagged_fields(unknown.clone())
            });
            topics.collect()
        });
        Self::Theirs::default()
            .with_topics(topics)
            .with_allow_auto_topic_creation(self.allow_auto_topic_creation)
            .with_include_cluster_authorized_operations(self.include_cluster_authorized_operations)
            .with_include_topic_authorized_operations(self.include_topic_authorized_operations)
            .with_unknown_tagged_fields(unknown.clone())
    }

    /// All topics, in v0: an empty list.
    fn said_in(version: i16, theirs: Self::Theirs) -> Self::Theirs {
        let topics = theirs.topics.clone();
        theirs.with_topics(topics.or_else(|| (version == 0).then(Vec::new)))
    }
}

fn broker() -> impl Strategy<Value = MetadataResponseBroker> + Clone {
    (any::<i32>(), text(), any::<i32>(), maybe_text()).prop_map(|(node_id, host, port, rack)| {
        MetadataResponseBroker { node_id, host, port, rack }
    })
}

fn partition() -> impl Strategy<Value = MetadataResponsePartition> + Clone {
    let nodes = || some(any::<i32>());
    (error_code(), any::<(i32, i32, i32)>(), nodes(), nodes(), nodes()).prop_map(
        |(error_code, (index, leader, epoch), replica_nodes, isr_nodes, offline_replicas)| {
            MetadataResponsePartition {
                error_code,
                partition_index: index,
                leader_id: leader,
                leader_epoch: epoch,
                replica_nodes,
                isr_nodes,
                offline_replicas,
            }
        },
    )
}

fn topic() -> impl Strategy<Value = MetadataResponseTopic> + Clone {
    let partitions = some(partition());
    (error_code(), maybe_text(), any::<Uuid>(), any::<bool>(), partitions, any::<i32>()).prop_map(
        |(error_code, name, topic_id, is_internal, partitions, operations)| MetadataResponseTopic {
            error_code,
            name,
            topic_id,
            is_internal,
            partitions,
            topic_authorized_operations: operations,
        },
    )
}

impl Judged for MetadataResponse {
    type Theirs = kafka_protocol::messages::MetadataResponse;

    fn any() -> BoxedStrategy<Self> {
        let numbers = any::<(i32, i32, i32)>();
        (some(broker()), maybe_text(), few(topic()), numbers, error_code())
            .prop_map(|(brokers, cluster_id, topics, (throttle, controller, operations), error)| {
                MetadataResponse {
                    throttle_time_ms: throttle,
                    brokers,
                    cluster_id,
                    controller_id: controller,
                    topics,
                    cluster_authorized_operations: operations,
                    error_code: error,
                }
            })
            .boxed()
    }

    fn at(mut self, version: i16) -> Self {
        for topic in &mut self.topics {
            for partition in &mut topic.partitions {
                if version < 7 {
                    partition.leader_epoch = -1;
                }
                if version < 5 {
                    partition.offline_replicas.clear();
                }
            }
            if version < 12 {
                topic.name = or_empty(topic.name.take());
            }
            if version < 10 {
                topic.topic_id = [0; 16];
            }
            if version < 8 {
                topic.topic_authorized_operations = i32::MIN;
            }
            if version < 1 {
                topic.is_internal = false;
            }
        }
        if version < 1 {
            self.controller_id = -1;
            self.brokers.iter_mut().for_each(|broker| broker.rack = None);
        }
        if version < 2 {
            self.cluster_id = None;
        }
        if version < 3 {
            self.throttle_time_ms = 0;
        }
        if !(8..=10).contains(&version) {
            self.cluster_authorized_operations = i32::MIN;
        }
        if version < 13 {
            self.error_code = ErrorCode::NONE;
        }
        self
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        let broker = |broker: &MetadataResponseBroker| {
            theirs::MetadataResponseBroker::default()
                .with_node_id(broker.node_id.into())
                .with_host(str_bytes(&broker.host))
                .with_port(broker.port)
                .with_rack(maybe_str_bytes(&broker.rack))
                .with_unknown_tagged_fields(unknown.clone())
        };
        let partition = |partition: &MetadataResponsePartition| {
            theirs::MetadataResponsePartition::default()
                .with_error_code(partition.error_code.0)
                .with_partition_index(partition.partition_index)
                .with_leader_id(partition.leader_id.into())
                .with_leader_epoch(partition.leader_epoch)
                .with_replica_nodes(brokers(&partition.replica_nodes))
                .with_isr_nodes(brokers(&partition.isr_nodes))
                .with_offline_replicas(brokers(&partition.offline_replicas))
                .with_unknown_tagged_fields(unknown.clone())
        };
        let topic = |topic: &MetadataResponseTopic| {
            theirs::MetadataResponseTopic::default()
                .with_error_code(topic.error_code.0)
                .with_name(topic.name.as_deref().map(topic_name))
                .with_topic_id(uuid(topic.topic_id))
                .with_is_internal(topic.is_internal)
                .with_partitions(topic.partitions.iter().map(partition).collect())
                .with_topic_authorized_operations(topic.topic_authorized_operations)
                .with_unknown_tagged_fields(unknown.clone())
        };
        Self::Theirs::default()
            .with_throttle_time_ms(self.throttle_time_ms)
            .with_brokers(self.brokers.iter().map(broker).collect())
            .with_cluster_id(maybe_str_bytes(&self.cluster_id))
            .with_controller_id(self.controller_id.into())
            .with_topics(self.topics.iter().map(topic).collect())
            .with_cluster_authorized_operations(self.cluster_authorized_operations)
            .with_error_code(self.error_code.0)
            .with_unknown_tagged_fields(unknown.clone())
    }
}
