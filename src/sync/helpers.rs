//! Threads that come when there is something to do and go when there is nothing: the seam through
//! which a simulator plays them.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts helper threads.
pub trait Helpers: Send + Sync {
    /// Starts one. `None` in place of a handle: whoever started it sees to its end.
    fn start(
        &self,
        name: &'static str,
        life: Box<dyn FnOnce() + Send>,
    ) -> io::Result<Option<JoinHandle<()>>>;

    /// A helper is at its work, and holds no lock: a simulator lets time pass.
    fn at_work(&self) {}
}

/// The system's threads.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemHelpers;

impl Helpers for SystemHelpers {
    fn start(
        &self,
        name: &'static str,
        life: Box<dyn FnOnce() + Send>,
    ) -> io::Result<Option<JoinHandle<()>>> {
        Builder::new().name(name.into()).spawn(life).map(Some)
    }
}
