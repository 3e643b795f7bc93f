//! ApiVersions: what the cluster speaks.

use super::{Call, answer, answer_in};
use crate::error::Result;
use crate::mock::cluster::{Cluster, Reply};
use crate::protocol::ErrorCode;
use crate::protocol::messages::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};

/// The version in which error 35 is answered, whatever was asked.
const UNSUPPORTED_VERSION_IN: i16 = 0;

/// Answers a request.
pub fn handle(cluster: &Cluster, call: &Call, request: &ApiVersionsRequest) -> Result<Reply> {
    if call.error == ErrorCode::UNSUPPORTED_VERSION {
        return unsupported_version(cluster, call);
    }
    let named = call.version < 3
        || is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version);
    let error_code =
        if call.error.is_none() && !named { ErrorCode::INVALID_REQUEST } else { call.error };
    let api_keys = if error_code.is_none() { keys(cluster) } else { Vec::new() };
    answer(cluster, call, &ApiVersionsResponse { error_code, api_keys, ..Default::default() })
}

/// Answers a request of a version that isn't served.
pub fn unsupported_version(cluster: &Cluster, call: &Call) -> Result<Reply> {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: keys(cluster),
        ..Default::default()
    };
    answer_in(cluster, call, UNSUPPORTED_VERSION_IN, &response)
}

fn keys(cluster: &Cluster) -> Vec<ApiVersion> {
    let key =
        |(api_key, min_version, max_version)| ApiVersion { api_key, min_version, max_version };
    cluster.api_versions().map(key).collect()
}

/// Letters, digits, `-` and `.`; neither of the last two at an end (KIP-511).
fn is_software_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.chars().all(inner) && end(name.chars().next()) && end(name.chars().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::testing::{Bench, read};
    use crate::protocol::ApiKey;

    fn named(name: &str, version: &str) -> ApiVersionsRequest {
        ApiVersionsRequest {
            client_software_name: name.to_owned(),
            client_software_version: version.to_owned(),
        }
    }

    #[test]
    fn every_version_says_what_is_served() {
        let mut bench = Bench::new(1);
        bench.cluster.set_api_versions(0, 3, 9).unwrap();
        bench.cluster.set_api_versions(22, 0, -1).unwrap();
        for version in 0..=4 {
            let response = bench.call(1, version, &named("a", "1"));
            assert_eq!(response.range(ApiKey::Produce), Some(3..=9));
            assert_eq!(response.range(ApiKey::Metadata), Some(0..=13));
            assert_eq!(response.range(ApiKey::InitProducerId), None);
        }
        assert!(bench.cluster.set_api_versions(10, 0, 1).is_err());
    }

    #[test]
    fn an_unknown_version_is_answered_in_v0() {
        let mut bench = Bench::new(1);
        bench.cluster.set_api_versions(18, 0, 2).unwrap();
        let reply = bench.send(1, 4, &named("a", "1"));
        let response = read::<ApiVersionsRequest>(0, &reply);
        assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
        assert_eq!(response.range(ApiKey::ApiVersions), Some(0..=2));
        assert_eq!(bench.call(1, 2, &named("", "")).error_code, ErrorCode::NONE);
    }

    #[test]
    fn software_has_a_proper_name() {
        let mut bench = Bench::new(1);
        let mut code =
            |name: &str, version: &str| bench.call(1, 3, &named(name, version)).error_code;
        assert_eq!(code("lib-kafka.x", "1.2-rc3"), ErrorCode::NONE);
        for (name, version) in [("", "1"), ("a", ""), ("-a", "1"), ("a", "1."), ("a b", "1")] {
            assert_eq!(code(name, version), ErrorCode::INVALID_REQUEST, "{name:?} {version:?}");
        }
    }
}
