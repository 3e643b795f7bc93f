//! InitProducerId, v0 to v5: a producer's id and epoch (KIP-98; KIP-360 lets it name the ones it
//! has, v3+).

use std::ops::RangeInclusive;

use crate::error::Result;
use crate::protocol::api::{ApiKey, ErrorCode, Message, Request};
use crate::protocol::codec::{Reader, Writer};

/// Asks for an id, or for the next epoch of the one there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProducerIdRequest {
    /// Null: idempotent, without transactions.
    pub transactional_id: Option<String>,
    /// After how long the broker aborts a transaction.
    pub transaction_timeout_ms: i32,
    /// v3+; -1: none yet.
    pub producer_id: i64,
    /// v3+; -1: none yet.
    pub producer_epoch: i16,
}

impl Default for InitProducerIdRequest {
    fn default() -> Self {
        InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 0,
            producer_id: -1,
            producer_epoch: -1,
        }
    }
}

impl Message for InitProducerIdRequest {
    const KEY: ApiKey = ApiKey::InitProducerId;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        out.nullable_string(self.transactional_id.as_deref())?;
        out.i32(self.transaction_timeout_ms);
        if out.version() >= 3 {
            out.i64(self.producer_id);
            out.i16(self.producer_epoch);
        }
        out.no_tags();
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let mut request = InitProducerIdRequest {
            transactional_id: input.nullable_string()?,
            transaction_timeout_ms: input.i32()?,
            ..Default::default()
        };
        if input.version() >= 3 {
            request.producer_id = input.i64()?;
            request.producer_epoch = input.i16()?;
        }
        input.skip_tags()?;
        Ok(request)
    }
}

impl Request for InitProducerIdRequest {
    type Response = InitProducerIdResponse;
}

/// The id and epoch to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProducerIdResponse {
    /// How long the broker asks the client to be silent.
    pub throttle_time_ms: i32,
    /// Why there is none.
    pub error_code: ErrorCode,
    /// -1: none.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
}

impl Default for InitProducerIdResponse {
    fn default() -> Self {
        InitProducerIdResponse {
            throttle_time_ms: 0,
            error_code: ErrorCode::NONE,
            producer_id: -1,
            producer_epoch: 0,
        }
    }
}

impl Message for InitProducerIdResponse {
    const KEY: ApiKey = ApiKey::InitProducerId;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        out.i32(self.throttle_time_ms);
        out.i16(self.error_code.0);
        out.i64(self.producer_id);
        out.i16(self.producer_epoch);
        out.no_tags();
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let response = InitProducerIdResponse {
            throttle_time_ms: input.i32()?,
            error_code: ErrorCode(input.i16()?),
            producer_id: input.i64()?,
            producer_epoch: input.i16()?,
        };
        input.skip_tags()?;
        Ok(response)
    }
}
