//! Whether this thread is inside the user's code. One thread-local depth covers every callback,
//! those that `producer_poll()` runs included: inside, nothing waits, for what it would wait for
//! may need this very thread.
//!
//! Code that belongs to a send (it chooses a partition, say) is a case of its own: a send in there
//! would come back to where it is, and is refused.

use std::cell::Cell;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static SENDING: Cell<u32> = const { Cell::new(0) };
}

/// While it lives this thread is inside the user's code.
#[derive(Debug)]
pub struct Inside {
    /// 1 if that belongs to a send.
    sending: u32,
}

/// Enters the user's code.
pub fn enter() -> Inside {
    enter_with(0)
}

/// Enters the user's code that belongs to a send.
pub fn enter_in_a_send() -> Inside {
    enter_with(1)
}

fn enter_with(sending: u32) -> Inside {
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    SENDING.with(|depth| depth.set(depth.get() + sending));
    Inside { sending }
}

/// Whether this thread is inside the user's code.
pub fn inside() -> bool {
    DEPTH.with(Cell::get) > 0
}

/// Whether this thread is inside the user's code that belongs to a send.
pub fn inside_a_send() -> bool {
    SENDING.with(Cell::get) > 0
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get().saturating_sub(1)));
        SENDING.with(|depth| depth.set(depth.get().saturating_sub(self.sending)));
    }
}
