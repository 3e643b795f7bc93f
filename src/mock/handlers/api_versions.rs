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
