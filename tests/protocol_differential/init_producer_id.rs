use kafka_producer::protocol::messages::*;

use super::*;

#[test]
fn requests() {
    judge::<InitProducerIdRequest>();
}

#[test]
fn responses() {
    judge::<InitProducerIdResponse>();
}

impl Judged for InitProducerIdRequest {
    type Theirs = kafka_protocol::messages::InitProducerIdRequest;

    fn any() -> BoxedStrategy<Self> {
        (maybe_text(), any::<i32>(), any::<i64>(), any::<i16>())
            .prop_map(|(transactional_id, timeout, producer_id, producer_epoch)| {
                InitProducerIdRequest {
                    transactional_id,
                    transaction_timeout_ms: timeout,
                    producer_id,
                    producer_epoch,
                }
            })
            .boxed()
    }

    fn at(mut self, version: i16) -> Self {
        if version < 3 {
            self.producer_id = -1;
            self.producer_epoch = -1;
        }
        self
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        Self::Theirs::default()
            .with_transactional_id(maybe_str_bytes(&self.transactional_id).map(Into::into))
            .with_transaction_timeout_ms(self.transaction_timeout_ms)
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.producer_epoch)
            .with_unknown_tagged_fields(unknown.clone())
    }
}

impl Judged for InitProducerIdResponse {
    type Theirs = kafka_protocol::messages::InitProducerIdResponse;

    fn any() -> BoxedStrategy<Self> {
        (any::<i32>(), error_code(), any::<i64>(), any::<i16>())
            .prop_map(|(throttle_time_ms, error_code, producer_id, producer_epoch)| {
                InitProducerIdResponse { throttle_time_ms, error_code, producer_id, producer_epoch }
            })
            .boxed()
    }

    fn at(self, _version: i16) -> Self {
        self
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        Self::Theirs::default()
            .with_throttle_time_ms(self.throttle_time_ms)
            .with_error_code(self.error_code.0)
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.producer_epoch)
            .with_unknown_tagged_fields(unknown.clone())
    }
}
