//! What may be wrong with a direction of a connection: plain values, set by commands and read by
//! the pipes.

use std::time::Duration;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the backend.
    Up,
    /// From the backend to the client.
    Down,
}

impl Direction {
    /// Both.
    pub const BOTH: [Direction; 2] = [Direction::Up, Direction::Down];
}

/// How a cut ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// FIN.
    Close,
    /// RST.
    Reset,
    /// Silence: what comes is read and thrown away.
    Swallow,
}

/// An end after some more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// How many bytes still pass.
    pub left: u64,
    /// What the next one meets.
    pub how: How,
    /// Only the first connection that gets there is cut.
    pub once: bool,
}

/// What is wrong with a direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// How much later bytes arrive.
    pub latency: Duration,
    /// Bytes per second; 0: no limit.
    pub bandwidth: u64,
    /// The most bytes per write; 0: no limit.
    pub split: usize,
    /// Nothing is read.
    pub stall: bool,
    /// Where it ends.
    pub cut: Option<Cut>,
}

/// A change of a direction's faults.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// See [`Faults::latency`].
    Latency(Duration),
    /// See [`Faults::bandwidth`].
    Bandwidth(u64),
    /// See [`Faults::split`].
    Split(usize),
    /// See [`Faults::stall`].
    Stall(bool),
    /// See [`Faults::cut`].
    Cut(Option<Cut>),
    /// Nothing is wrong any more.
    Heal,
}

impl Faults {
    /// Makes a change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Latency(latency) => self.latency = latency,
            Change::Bandwidth(bandwidth) => self.bandwidth = bandwidth,
            Change::Split(split) => self.split = split,
            Change::Stall(stall) => self.stall = stall,
            Change::Cut(cut) => self.cut = cut,
            Change::Heal => *self = Faults::default(),
        }
    }
}
