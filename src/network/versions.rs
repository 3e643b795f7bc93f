//! What one broker speaks, and which version both sides choose. Known per connection: a broker may
//! be upgraded meanwhile.

use crate::protocol::ApiKey;
use crate::protocol::messages::{ApiVersion, ApiVersionsResponse};
use std::ops::RangeInclusive;

/// Brokers from 4.0 on advertise Produce v0 to v2 for the sake of old clients that look there, and
/// refuse them (KAFKA-18659).
const PRODUCE_MIN: i16 = 3;

/// What a broker advertised on a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeApiVersions {
    apis: Vec<ApiVersion>,
}

impl NodeApiVersions {
    pub(super) fn new(response: &ApiVersionsResponse) -> NodeApiVersions {
        NodeApiVersions { apis: response.api_keys.clone() }
    }

    /// The highest version in common, or what stands against it, for people.
    pub(super) fn choose(&self, key: ApiKey, ours: RangeInclusive<i16>) -> Result<i16, String> {
        let min =
            if key == ApiKey::Produce { PRODUCE_MIN.max(*ours.start()) } else { *ours.start() };
        let max = *ours.end();
        let Some(theirs) = self.apis.iter().find(|api| api.api_key == key.code()) else {
            return Err(format!("the broker does not offer {key}, which this client needs"));
        };
        let version = max.min(theirs.max_version);
        if version >= min.max(theirs.min_version) {
            return Ok(version);
        }
        let advice = if theirs.max_version < min { "broker" } else { "client" };
        Err(format!(
            "no version of {key} in common: the broker speaks v{} to v{}, this client v{min} to \
             v{max}; upgrade the {advice}",
            theirs.min_version, theirs.max_version
        ))
    }
}

/// Whether a response of this version says that the *client* is to pause, the broker having
/// answered at once (KIP-219); before, the broker had waited itself.
pub(super) fn client_throttles(key: ApiKey, version: i16) -> bool {
    let first = match key {
        ApiKey::Produce | ApiKey::Metadata => 6,
        ApiKey::Fetch => 8,
        ApiKey::ListOffsets | ApiKey::CreateTopics => 3,
        ApiKey::ApiVersions => 2,
        ApiKey::InitProducerId => 1,
    };
    version >= first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(api_key: i16, min_version: i16, max_version: i16) -> NodeApiVersions {
        let api_keys = vec![ApiVersion { api_key, min_version, max_version }];
        NodeApiVersions::new(&ApiVersionsResponse { api_keys, ..Default::default() })
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        let choose = |min, max, ours| broker(3, min, max).choose(ApiKey::Metadata, ours);
        assert_eq!(choose(0, 13, 4..=12), Ok(12));
        assert_eq!(choose(0, 7, 4..=12), Ok(7));
        assert_eq!(choose(12, 20, 4..=12), Ok(12));
        assert_eq!(choose(4, 4, 4..=12), Ok(4));
    }

    #[test]
    fn no_common_version_names_both_ranges_and_the_side_to_upgrade() {
        let error = broker(3, 13, 15).choose(ApiKey::Metadata, 4..=12).unwrap_err();
        assert!(error.contains("v13 to v15") && error.contains("v4 to v12"), "{error}");
        assert!(error.contains("Metadata") && error.contains("upgrade the client"), "{error}");
        let error = broker(3, 0, 3).choose(ApiKey::Metadata, 4..=12).unwrap_err();
        assert!(error.contains("upgrade the broker"), "{error}");
        let error = broker(3, 0, 3).choose(ApiKey::InitProducerId, 0..=5).unwrap_err();
        assert!(error.contains("does not offer InitProducerId"), "{error}");
    }

    #[test]
    fn produce_below_3_is_never_chosen() {
        assert_eq!(broker(0, 0, 13).choose(ApiKey::Produce, 0..=13), Ok(13));
        assert!(broker(0, 0, 2).choose(ApiKey::Produce, 0..=13).is_err());
    }
}
