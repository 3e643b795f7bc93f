//! Log lines: from any room to the user's log callback, never to stderr.

use crate::sync::{Cause, Readiness, Signal, lock};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Lines that may wait for the user's callback; more are dropped and counted.
const MAX_WAITING: usize = 1000;

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

/// A handle to the producer's log; cheap to clone. Without a sink every line is dropped before it
/// is formatted.
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

/// A line on its way to the user.
struct Line {
    level: Level,
    target: &'static str,
    message: String,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Line>,
    dropped: u64,
    /// What an event loop waits on, in poll mode.
    readiness: Option<Arc<Readiness>>,
}

impl Waiting {
    fn tell(&self) {
        if let Some(readiness) = &self.readiness {
            readiness.set(Cause::Logs, !self.lines.is_empty() || self.dropped > 0);
        }
    }
}

/// Lines between the room that logged them and the thread that runs the user's log callback.
pub struct LogQueue {
    waiting: Mutex<Waiting>,
    user: Arc<dyn LogSink>,
    signal: Arc<Signal>,
}

impl LogQueue {
    /// A queue in front of `user`; `signal` moves when there is something to [`LogQueue::run`].
    pub fn new(user: Arc<dyn LogSink>, signal: Arc<Signal>) -> LogQueue {
        LogQueue { waiting: Mutex::new(Waiting::default()), user, signal }
    }

    /// Lines are run inside a poll, and `readiness` tells that there are some.
    pub fn polled_by(&self, readiness: Arc<Readiness>) {
        let mut waiting = lock(&self.waiting);
        waiting.readiness = Some(readiness);
        waiting.tell();
    }

    /// Runs the user's callback for what waits; false if nothing did. Callback thread, or inside a
    /// poll.
    pub fn run(&self) -> bool {
        let (lines, dropped) = {
            let mut waiting = lock(&self.waiting);
            let taken = (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.dropped));
            waiting.tell();
            taken
        };
        let any = !lines.is_empty() || dropped > 0;
        for line in lines {
            self.user.log(line.level, line.target, line.message);
        }
        if dropped > 0 {
            let message = format!("{dropped} log lines were dropped: the log callback is too slow");
            self.user.log(Level::Warning, "log", message);
        }
        any
    }
}

impl LogSink for LogQueue {
    fn log(&self, level: Level, target: &'static str, message: String) {
        let mut waiting = lock(&self.waiting);
        if waiting.lines.len() < MAX_WAITING {
            waiting.lines.push_back(Line { level, target, message });
        } else {
            waiting.dropped += 1;
        }
        waiting.tell();
        drop(waiting);
        self.signal.notify();
    }
}
