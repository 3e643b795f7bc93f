//! Log lines: from any room to the user's log callback, never to stderr.

use std::sync::Arc;

/// syslog severities, as in the C header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// Records are being lost or refused.
    Error = 3,
    /// Something is wrong that the client copes with.
    Warning = 4,
    /// Once per producer or per state change.
    Info = 6,
    /// For people who debug the client.
    Debug = 7,
}

/// Takes log lines; must not block. `target` is the room: "network", "metadata", "sender", ...
pub trait LogSink: Send + Sync {
    /// One line.
    fn log(&self, level: Level, target: &'static str, message: String);
}

/// A handle to the producer's log; cheap to clone. Without a sink every line is dropped before it is formatted.
#[derive(Clone, Default)]
pub struct Logger {
    sink: Option<(Level, Arc<dyn LogSink>)>,
}

impl std::fmt::Debug for Logger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logger")
            .field("level", &self.sink.as_ref().map(|(level, _)| level))
            .finish()
    }
}

impl Logger {
    /// A log that passes lines up to `max_level` to `sink`.
    pub fn new(max_level: Level, sink: Arc<dyn LogSink>) -> Logger {
        Logger { sink: Some((max_level, sink)) }
    }

    /// A log that drops everything.
    pub fn none() -> Logger {
        Logger::default()
    }

    /// Logs a line if its level is wanted; the message is only built then.
    pub fn log(&self, level: Level, target: &'static str, message: impl FnOnce() -> String) {
        if let Some((max, sink)) = &self.sink
            && level <= *max
        {
            sink.log(level, target, message());
        }
    }
}
