use kafka_producer::protocol::messages::*;
use kafka_protocol::messages::api_versions_response as theirs;

use super::*;

#[test]
fn requests() {
    judge::<ApiVersionsRequest>();
}

#[test]
fn responses() {
    judge::<ApiVersionsResponse>();
}

impl Judged for ApiVersionsRequest {
    type Theirs = kafka_protocol::messages::ApiVersionsRequest;

    fn any() -> BoxedStrategy<Self> {
        (text(), text())
            .prop_map(|(client_software_name, client_software_version)| ApiVersionsRequest {
                client_software_name,
                client_software_version,
            })
            .boxed()
    }

    fn at(self, version: i16) -> Self {
        if version >= 3 { self } else { ApiVersionsRequest::default() }
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        Self::Theirs::default()
            .with_client_software_name(str_bytes(&self.client_software_name))
            .with_client_software_version(str_bytes(&self.client_software_version))
            .with_unknown_tagged_fields(unknown.clone())
    }
}

fn api() -> impl Strategy<Value = ApiVersion> + Clone {
    any::<(i16, i16, i16)>().prop_map(|(api_key, min_version, max_version)| ApiVersion {
        api_key,
        min_version,
        max_version,
    })
}

impl Judged for ApiVersionsResponse {
    type Theirs = kafka_protocol::messages::ApiVersionsResponse;

    fn any() -> BoxedStrategy<Self> {
        let supported = (text(), any::<(i16, i16)>());
        let finalized = (text(), any::<(i16, i16)>());
        (
            // Error 35 means a body of v0: it has tests of its own.
            error_code().prop_filter("not 35", |code| code.0 != 35),
            some(api()),
            any::<i32>(),
            some(supported),
            any::<i64>(),
            some(finalized),
            any::<bool>(),
        )
            .prop_map(|(error_code, api_keys, throttle, supported, epoch, finalized, zk)| {
                let supported = supported.into_iter().map(|(name, (min_version, max_version))| {
                    SupportedFeature { name, min_version, max_version }
                });
                let finalized =
                    finalized.into_iter().map(|(name, (max_version_level, min_version_level))| {
                        FinalizedFeature { name, max_version_level, min_version_level }
                    });
                ApiVersionsResponse {
                    error_code,
                    api_keys,
                    throttle_time_ms: throttle,
                    supported_features: supported.collect(),
                    finalized_features_epoch: epoch,
                    finalized_features: finalized.collect(),
                    zk_migration_ready: zk,
                }
            })
            .boxed()
    }

    fn at(self, version: i16) -> Self {
        let ApiVersionsResponse { error_code, api_keys, throttle_time_ms, .. } = self;
        let old = ApiVersionsResponse { error_code, api_keys, ..Default::default() };
        match version {
            0 => old,
            1 | 2 => ApiVersionsResponse { throttle_time_ms, ..old },
            _ => ApiVersionsResponse { api_keys: old.api_keys, ..self },
        }
    }

    fn theirs(&self, unknown: &Unknown) -> Self::Theirs {
        let api_keys = self.api_keys.iter().map(|api| {
            theirs::ApiVersion::default()
                .with_api_key(api.api_key)
                .with_min_version(api.min_version)
                .with_max_version(api.max_version)
                .with_unknown_tagged_fields(unknown.clone())
        });
        let supported = self.supported_features.iter().map(|feature| {
            theirs::SupportedFeatureKey::default()
                .with_name(str_bytes(&feature.name))
                .with_min_version(feature.min_version)
                .with_max_version(feature.max_version)
                .with_unknown_tagged_fields(unknown.clone())
        });
        let finalized = self.finalized_features.iter().map(|feature| {
            theirs::FinalizedFeatureKey::default()
                .with_name(str_bytes(&feature.name))
                .with_max_version_level(feature.max_version_level)
                .with_min_version_level(feature.min_version_level)
                .with_unknown_tagged_fields(unknown.clone())
        });
        Self::Theirs::default()
            .with_error_code(self.error_code.0)
            .with_api_keys(api_keys.collect())
            .with_throttle_time_ms(self.throttle_time_ms)
            .with_supported_features(supported.collect())
            .with_finalized_features_epoch(self.finalized_features_epoch)
            .with_finalized_features(finalized.collect())
            .with_zk_migration_ready(self.zk_migration_ready)
            .with_unknown_tagged_fields(unknown.clone())
    }
}
