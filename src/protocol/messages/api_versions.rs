//! ApiVersions, v0 to v4: what a broker speaks. The first request on every connection (KIP-35,
//! KIP-511, KIP-584).

use std::ops::RangeInclusive;

use crate::error::Result;
use crate::protocol::api::{ApiKey, ErrorCode, Message, Request};
use crate::protocol::codec::{Reader, Writer};

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiVersionsRequest {
    /// v3+: letters, digits, `-` and `.`; neither of the last two at an end.
    pub client_software_name: String,
    /// v3+: the same.
    pub client_software_version: String,
}

impl Message for ApiVersionsRequest {
    const KEY: ApiKey = ApiKey::ApiVersions;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        if out.version() >= 3 {
            out.string(&self.client_software_name)?;
            out.string(&self.client_software_version)?;
        }
        out.no_tags();
        Ok(())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let mut request = ApiVersionsRequest::default();
        if input.version() >= 3 {
            request.client_software_name = input.string()?;
            request.client_software_version = input.string()?;
        }
        input.skip_tags()?;
        Ok(request)
    }
}

impl Request for ApiVersionsRequest {
    type Response = ApiVersionsResponse;
}

/// What the broker speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiVersionsResponse {
    /// `UNSUPPORTED_VERSION` if the broker doesn't know the version of the request.
    pub error_code: ErrorCode,
    /// One per API; after `UNSUPPORTED_VERSION` maybe only ApiVersions, maybe none.
    pub api_keys: Vec<ApiVersion>,
    /// v1+.
    pub throttle_time_ms: i32,
    /// v3+.
    pub supported_features: Vec<SupportedFeature>,
    /// v3+; -1: not known.
    pub finalized_features_epoch: i64,
    /// v3+.
    pub finalized_features: Vec<FinalizedFeature>,
    /// v3+.
    pub zk_migration_ready: bool,
}

/// The versions of an API that a broker speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiVersion {
    /// The API's number; maybe one that this crate doesn't speak.
    pub api_key: i16,
    /// The lowest version.
    pub min_version: i16,
    /// The highest version.
    pub max_version: i16,
}

/// A feature that a broker could have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupportedFeature {
    /// Its name.
    pub name: String,
    /// The lowest level.
    pub min_version: i16,
    /// The highest level.
    pub max_version: i16,
}

/// A feature that the cluster has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalizedFeature {
    /// Its name.
    pub name: String,
    /// The highest level in use.
    pub max_version_level: i16,
    /// The lowest level in use.
    pub min_version_level: i16,
}

impl Default for ApiVersionsResponse {
    fn default() -> Self {
        ApiVersionsResponse {
            error_code: ErrorCode::NONE,
            api_keys: Vec::new(),
            throttle_time_ms: 0,
            supported_features: Vec::new(),
            finalized_features_epoch: -1,
            finalized_features: Vec::new(),
            zk_migration_ready: false,
        }
    }
}

impl ApiVersionsResponse {
    /// The body for a request whose version the broker doesn't know: error 35 in v0, whatever was
    /// asked.
    pub fn unsupported_version(api_keys: Vec<ApiVersion>) -> Result<Vec<u8>> {
        let error_code = ErrorCode::UNSUPPORTED_VERSION;
        ApiVersionsResponse { error_code, api_keys, ..Default::default() }.to_vec(0)
    }

    /// The range that the broker advertises for an API.
    pub fn range(&self, key: ApiKey) -> Option<RangeInclusive<i16>> {
        let found = self.api_keys.iter().find(|api| api.api_key == key.code())?;
        Some(found.min_version..=found.max_version)
    }

    fn decode_fields(input: &mut Reader<'_>) -> Result<Self> {
        let mut response = ApiVersionsResponse {
            error_code: ErrorCode(input.i16()?),
            api_keys: input.array(6, |r| {
                let api =
                    ApiVersion { api_key: r.i16()?, min_version: r.i16()?, max_version: r.i16()? };
                r.skip_tags()?;
                Ok(api)
            })?,
            ..Default::default()
        };
        if input.version() >= 1 {
            response.throttle_time_ms = input.i32()?;
        }
        input.tags(|tag, r| {
            match tag {
                0 => response.supported_features = r.array(6, decode_supported)?,
                1 => response.finalized_features_epoch = r.i64()?,
                2 => response.finalized_features = r.array(6, decode_finalized)?,
                3 => response.zk_migration_ready = r.bool()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(response)
    }
}

fn decode_supported(r: &mut Reader<'_>) -> Result<SupportedFeature> {
    let (name, min_version, max_version) = (r.string()?, r.i16()?, r.i16()?);
    r.skip_tags()?;
    Ok(SupportedFeature { name, min_version, max_version })
}

fn decode_finalized(r: &mut Reader<'_>) -> Result<FinalizedFeature> {
    let (name, max_version_level, min_version_level) = (r.string()?, r.i16()?, r.i16()?);
    r.skip_tags()?;
    Ok(FinalizedFeature { name, max_version_level, min_version_level })
}

fn encode_feature(w: &mut Writer, name: &str, first: i16, second: i16) -> Result<()> {
    w.string(name)?;
    w.i16(first);
    w.i16(second);
    w.no_tags();
    Ok(())
}

impl Message for ApiVersionsResponse {
    const KEY: ApiKey = ApiKey::ApiVersions;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn encode(&self, out: &mut Writer) -> Result<()> {
        out.i16(self.error_code.0);
        out.array(&self.api_keys, |w, api| {
            w.i16(api.api_key);
            w.i16(api.min_version);
            w.i16(api.max_version);
            w.no_tags();
            Ok(())
        })?;
        if out.version() >= 1 {
            out.i32(self.throttle_time_ms);
        }
        let mut tags = out.new_tags();
        if !self.supported_features.is_empty() {
            tags.add(0, |w| {
                w.array(&self.supported_features, |w, feature| {
                    encode_feature(w, &feature.name, feature.min_version, feature.max_version)
                })
            })?;
        }
        if self.finalized_features_epoch != -1 {
            tags.add(1, |w| {
                w.i64(self.finalized_features_epoch);
                Ok(())
            })?;
        }
        if !self.finalized_features.is_empty() {
            tags.add(2, |w| {
                w.array(&self.finalized_features, |w, feature| {
                    let (max, min) = (feature.max_version_level, feature.min_version_level);
                    encode_feature(w, &feature.name, max, min)
                })
            })?;
        }
        if self.zk_migration_ready {
            tags.add(3, |w| {
                w.bool(true);
                Ok(())
            })?;
        }
        out.tags(&tags);
        Ok(())
    }

    /// A broker that doesn't know the version of the request answers error 35 in v0, so that comes
    /// first then.
    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let error_code = ErrorCode(input.clone().i16()?);
        if error_code == ErrorCode::UNSUPPORTED_VERSION {
            let mut v0 = Reader::new(input.rest(), 0, false);
            if let Ok(response) = ApiVersionsResponse::decode_fields(&mut v0) {
                return Ok(response);
            }
        }
        ApiVersionsResponse::decode_fields(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn read(version: i16, body: &'static [u8]) -> ApiVersionsResponse {
        ApiVersionsResponse::from_bytes(version, &Bytes::from_static(body)).unwrap()
    }

    /// What Kafka 2.3 and older send to a request that is too new for them: v0, with or without a
    /// list.
    #[test]
    fn error_35_is_read_in_v0() {
        for version in ApiVersionsResponse::VERSIONS {
            let response = read(version, &[0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 2]);
            assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
            assert_eq!(response.range(ApiKey::ApiVersions), Some(0..=2));
            assert_eq!(response.range(ApiKey::Produce), None);
            let response = read(version, &[0, 35, 0, 0, 0, 0]);
            assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
            assert!(response.api_keys.is_empty());
        }
    }

    /// Not Kafka's way, but what a broker might do that takes the version for granted.
    #[test]
    fn error_35_is_read_in_the_version_of_the_request_too() {
        let error_code = ErrorCode::UNSUPPORTED_VERSION;
        let ranges = vec![ApiVersion { api_key: 18, min_version: 0, max_version: 3 }];
        for api_keys in [ranges, Vec::new()] {
            let response = ApiVersionsResponse { error_code, api_keys, ..Default::default() };
            for version in [3, 4] {
                let body = Bytes::from(response.to_vec(version).unwrap());
                assert_eq!(ApiVersionsResponse::from_bytes(version, &body).unwrap(), response);
            }
        }
    }

    #[test]
    fn error_35_is_written_in_v0() {
        let ranges = vec![ApiVersion { api_key: 18, min_version: 0, max_version: 4 }];
        let body = ApiVersionsResponse::unsupported_version(ranges).unwrap();
        assert_eq!(body, [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    }
}
