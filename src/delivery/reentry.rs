//! Whether this thread is inside the user's code. One thread-local depth covers every callback,
//! those that `producer_poll()` runs included: inside, nothing waits, for what it would wait for
//! may need this very thread.

use std::cell::Cell;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// While it lives this thread is inside the user's code.
#[derive(Debug)]
pub struct Inside(());

/// Enters the user's code.
pub fn enter() -> Inside {
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    Inside(())
}

/// Whether this thread is inside the user's code.
pub fn inside() -> bool {
    DEPTH.with(Cell::get) > 0
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get().saturating_sub(1)));
    }
}
