//! A producer whose two threads are played by somebody else: what the simulator drives.

use super::plugs::Plugs;
use super::threads::{Outside, Plugged, assemble};
use super::{Options, Producer, Shared};
use crate::accumulator::RecordAccumulator;
use crate::config::ProducerConfig;
use crate::delivery::{DeliveryMode, DeliveryQueue};
use crate::error::{Error, Result};
use crate::interceptors::Interceptor;
use crate::log::Logger;
use crate::metadata::Metadata;
use crate::network::Selectable;
use crate::sender::Sender;
use crate::sync::Signal;
use std::sync::Arc;

/// The roles of the two threads, and what may be looked at between their steps.
#[derive(Clone)]
pub(crate) struct Roles {
    shared: Arc<Shared>,
}

impl Producer {
    /// A producer without threads: the caller runs the sender, and `roles` beside it.
    pub(crate) fn unstarted<S: Selectable>(
        config: &ProducerConfig,
        mode: DeliveryMode,
        interceptors: Vec<Arc<dyn Interceptor>>,
        logger: &Logger,
        outside: Outside<S>,
    ) -> Result<(Producer, Sender<S>, Roles)> {
        let settings = config.settings().map_err(|problems| {
            let first = problems.into_iter().next();
            first.unwrap_or_else(|| Error::new(crate::error::status::INVALID_CONFIG, "unknown"))
        })?;
        let signal = Arc::new(Signal::default());
        let mut options = Options { interceptors, ..Options::default() };
        let plugs = Plugs::new(config, &settings, &mut options, logger)?;
        if let Some(plugs) = &plugs {
            plugs.configure(config)?;
        }
        let plugged = Plugged { plugs, ..Plugged::default() };
        let (producer, sender) = assemble(settings, mode, plugged, None, signal, logger, outside)?;
        let roles = Roles { shared: Arc::clone(&producer.shared) };
        if !roles.has_callbacks() {
            roles.shared.callback_done.set();
        }
        Ok((producer, sender, roles))
    }
}

impl Roles {
    /// Whether somebody has to [`Roles::run_callbacks`].
    pub(crate) fn has_callbacks(&self) -> bool {
        self.shared.deliveries.needs_callback_thread()
    }

    /// The callback thread's life.
    pub(crate) fn run_callbacks(&self) {
        self.shared.run_callbacks();
    }

    /// What the network thread says last, after its sender has ended.
    pub(crate) fn network_ended(&self) {
        self.shared.network_ended();
    }

    /// The cluster as the producer knows it.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.shared.metadata
    }

    /// Fronts, memory and cuts.
    pub(crate) fn accumulator(&self) -> &RecordAccumulator {
        &self.shared.accumulator
    }

    /// Outcomes on their way.
    pub(crate) fn deliveries(&self) -> &DeliveryQueue {
        &self.shared.deliveries
    }
}
