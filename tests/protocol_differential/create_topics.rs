use kafka_producer::protocol::messages::*;
use kafka_protocol::messages::{create_topics_request, create_topics_response};

use super::*;

#[test]
fn requests() {
    judge::<CreateTopicsRequest>();
}

#[test]
fn responses() {
    judge::<CreateTopicsResponse>();
}

impl Judged for CreateTopicsRequest {
    type Theirs = kafka_protocol::messages::CreateTopicsRequest;

    fn any() -> BoxedStrategy<Self> {
        let assignment = (any::<i32>(), some(any::<i32>())).prop_map(|(index, broker_ids)| {
            CreatableReplicaAssignment { partition_index: index, broker_ids }
        });
        let config =
            (text(), maybe_text()).prop_map(|(name, value)| CreatableTopicConfig { name, value });
        let topic = (text(), any::<i32>(), any::<i16>(), few(assignment), some(config)).prop_map(
            |(name, num_partitions, replication_factor, assignments, configs)| CreatableTopic {
                name,
                num_partitions,
                replication_factor,
                assignments,
                configs,
            },
        );
        (some(topic), any::<i32>(), any::<bool>())
            .prop_map(|(topics, timeout_ms, validate_only)| CreateTopicsRequest {
                topics,
                timeout_ms,
                validate_only,
            })
            .boxed()
    }

    fn at(self, _version: i16) -> Self {
        self
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        let assignment = |assignment: &CreatableReplicaAssignment| {
            create_topics_request::CreatableReplicaAssignment::default()
                .with_partition_index(assignment.partition_index)
                .with_broker_ids(brokers(&assignment.broker_ids))
                .with_unknown_tagged_fields(unknown.clone())
        };
        let config = |config: &CreatableTopicConfig| {
            create_topics_request::CreatableTopicConfig::default()
                .with_name(str_bytes(&config.name))
                .with_value(maybe_str_bytes(&config.value))
                .with_unknown_tagged_fields(unknown.clone())
        };
        let topic = |topic: &CreatableTopic| {
            create_topics_request::CreatableTopic::default()
                .with_name(topic_name(&topic.name))
                .with_num_partitions(topic.num_partitions)
                .with_replication_factor(topic.replication_factor)
                .with_assignments(topic.assignments.iter().map(assignment).collect())
                .with_configs(topic.configs.iter().map(config).collect())
                .with_unknown_tagged_fields(unknown.clone())
        };
        Self::Theirs::default()
            .with_topics(self.topics.iter().map(topic).collect())
            .with_timeout_ms(self.timeout_ms)
            .with_validate_only(self.validate_only)
            .with_unknown_tagged_fields(unknown.clone())
    }
}

impl Judged for CreateTopicsResponse {
    type Theirs = kafka_protocol::messages::CreateTopicsResponse;

    fn any() -> BoxedStrategy<Self> {
        let config = (text(), maybe_text(), any::<(bool, i8, bool)>()).prop_map(
            |(name, value, (read_only, config_source, is_sensitive))| CreatableTopicConfigs {
                name,
                value,
                read_only,
                config_source,
                is_sensitive,
            },
        );
        let names = (text(), maybe_text(), any::<Uuid>());
        let codes = (error_code(), error_code(), any::<(i32, i16)>());
        let topic = (names, codes, proptest::option::of(some(config))).prop_map(
            |((name, error_message, topic_id), (error_code, config_error, counts), configs)| {
                CreatableTopicResult {
                    name,
                    topic_id,
                    error_code,
                    error_message,
                    topic_config_error_code: config_error,
                    num_partitions: counts.0,
                    replication_factor: counts.1,
                    configs,
                }
            },
        );
        (any::<i32>(), some(topic))
            .prop_map(|(throttle_time_ms, topics)| CreateTopicsResponse {
                throttle_time_ms,
                topics,
            })
            .boxed()
    }

    fn at(mut self, version: i16) -> Self {
        for topic in &mut self.topics {
            if version < 7 {
                topic.topic_id = [0; 16];
            }
            if version < 5 {
                topic.topic_config_error_code = ErrorCode::NONE;
                topic.num_partitions = -1;
                topic.replication_factor = -1;
                topic.configs = Some(Vec::new());
            }
        }
        self
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        let config = |config: &CreatableTopicConfigs| {
            create_topics_response::CreatableTopicConfigs::default()
                .with_name(str_bytes(&config.name))
                .with_value(maybe_str_bytes(&config.value))
                .with_read_only(config.read_only)
                .with_config_source(config.config_source)
                .with_is_sensitive(config.is_sensitive)
                .with_unknown_tagged_fields(unknown.clone())
        };
        let topic = |topic: &CreatableTopicResult| {
            let configs = topic.configs.as_ref();
            create_topics_response::CreatableTopicResult::default()
                .with_name(topic_name(&topic.name))
                .with_topic_id(uuid(topic.topic_id))
                .with_error_code(topic.error_code.0)
                .with_error_message(maybe_str_bytes(&topic.error_message))
                .with_topic_config_error_code(topic.topic_config_error_code.0)
                .with_num_partitions(topic.num_partitions)
                .with_replication_factor(topic.replication_factor)
                .with_configs(configs.map(|configs| configs.iter().map(config).collect()))
                .with_unknown_tagged_fields(unknown.clone())
        };
        Self::Theirs::default()
            .with_throttle_time_ms(self.throttle_time_ms)
            .with_topics(self.topics.iter().map(topic).collect())
            .with_unknown_tagged_fields(unknown.clone())
    }
}
