//! InitProducerId: ids for idempotent producers, each a new one with epoch 0. Transactional ids are
//! refused.

use super::{Call, answer};
use crate::error::Result;
use crate::mock::cluster::{Cluster, Reply};
use crate::protocol::ErrorCode;
use crate::protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

/// Answers a request.
pub fn handle(
    cluster: &mut Cluster,
    call: &Call,
    request: &InitProducerIdRequest,
) -> Result<Reply> {
    let error_code = match call.error {
        ErrorCode::NONE if request.transactional_id.is_some() => ErrorCode::INVALID_REQUEST,
        pushed => pushed,
    };
    let response = if error_code.is_none() {
        let (producer_id, producer_epoch) = cluster.new_producer_id();
        InitProducerIdResponse { producer_id, producer_epoch, ..Default::default() }
    } else {
        InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() }
    };
    answer(cluster, call, &response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::testing::Bench;

    #[test]
    fn every_producer_gets_another_id() {
        let mut bench = Bench::new(2);
        for version in 0..=5 {
            let response = bench.call(1, version, &InitProducerIdRequest::default());
            assert_eq!(response.error_code, ErrorCode::NONE);
            let expected = (1000 + i64::from(version), 0);
            assert_eq!((response.producer_id, response.producer_epoch), expected);
        }
    }

    #[test]
    fn transactional_ids_are_refused() {
        let mut bench = Bench::new(1);
        let request = InitProducerIdRequest {
            transactional_id: Some("x".to_owned()),
            ..InitProducerIdRequest::default()
        };
        assert_eq!(bench.call(1, 4, &request).error_code, ErrorCode::INVALID_REQUEST);
    }
}
