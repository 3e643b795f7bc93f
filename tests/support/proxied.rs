//! An embedded cluster behind the fault proxy: each broker advertises a route of the proxy's, so
//! that all a producer does goes through it.
#![allow(
    dead_code,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "each test takes what it needs; a helper of tests panics"
)]

use crate::produce::{self, Outcomes};
use crate::proxy::{FaultProxy, Listed, Route};
use kafka_producer::config::ProducerConfig;
use kafka_producer::delivery::DeliveryMode;
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::{Options, Producer};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

/// The proxy's program, which the first caller builds.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let target = concat!(env!("CARGO_TARGET_TMPDIR"), "/fault_proxy");
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fault_proxy/Cargo.toml");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--target-dir", target])
            .args(["--manifest-path", manifest])
            // What this test was built with (a sanitizer, say) is not the proxy's.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_BUILD_TARGET")
            .status()
            .unwrap();
        assert!(built.success(), "cargo cannot build the fault proxy");
        PathBuf::from(target).join("debug/fault-proxy")
    })
}

/// A cluster and the proxy before it. Broker `n` is route `n`.
pub struct Proxied {
    pub cluster: MockCluster,
    pub proxy: FaultProxy,
    pub routes: Vec<Route>,
}

/// A cluster with one topic "t" behind a proxy without faults.
pub fn proxied(brokers: i32, partitions: i32) -> Proxied {
    let cluster = produce::cluster(brokers, partitions);
    let proxy = FaultProxy::start(program());
    let routes: Vec<Route> = (1..=brokers)
        .map(|node| {
            let route = proxy.route(format_args!("127.0.0.1:{}", cluster.port(node).unwrap()));
            assert_eq!(route.number, node as usize);
            cluster.set_advertised(node, "127.0.0.1", route.address.port()).unwrap();
            route
        })
        .collect();
    Proxied { cluster, proxy, routes }
}

impl Proxied {
    /// A configuration that leads to the proxy.
    pub fn config(&self, settings: &[(&str, &str)]) -> ProducerConfig {
        let mut config = produce::config(&self.cluster, settings);
        let servers: Vec<String> =
            self.routes.iter().map(|route| route.address.to_string()).collect();
        config.set("bootstrap.servers", &servers.join(",")).unwrap();
        config
    }

    /// A producer with a delivery callback.
    pub fn producer(&self, settings: &[(&str, &str)]) -> (Producer, Arc<Outcomes>) {
        let outcomes = Arc::new(Outcomes::default());
        let delivery = DeliveryMode::Callback(Arc::clone(&outcomes) as _);
        let options = Options { delivery, ..Options::default() };
        (Producer::new(&self.config(settings), options).unwrap(), outcomes)
    }

    /// A command of the proxy's.
    pub fn command(&self, line: &str) -> String {
        self.proxy.command(line)
    }

    /// The connections to a broker.
    pub fn connections(&self, node: usize) -> Vec<Listed> {
        self.proxy.connections().into_iter().filter(|listed| listed.route == node).collect()
    }
}
