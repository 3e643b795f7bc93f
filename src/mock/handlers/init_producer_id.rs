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
        let producer_id = cluster.new_producer_id();
        InitProducerIdResponse { producer_id, ..Default::default() }
    } else {
        InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() }
    };
    answer(cluster, call, &response)
}
