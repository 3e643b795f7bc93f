//! A global allocator that counts what the current thread reserves, and the bound that readers of
//! foreign bytes keep.

#![expect(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Reading `n` bytes may reserve `n` times this: so much larger the largest structures are than the
/// least bytes that they are read from.
const MOST_PER_BYTE: usize = 32;
/// And so much for the sentence of an error.
const MOST_FOR_A_SENTENCE: usize = 1024;

thread_local! {
    static RESERVED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(size: usize) {
    // Fails only while the thread is being torn down.
    let _ = RESERVED.try_with(|reserved| reserved.set(reserved.get().saturating_add(size)));
}

// SAFETY: every call is the system's, with the same arguments; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What `f` says, and all that it reserved, given back or not.
pub fn reserved_by<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = RESERVED.get();
    let result = f();
    (result, RESERVED.get() - before)
}

/// What `f` says, which reads so many bytes.
pub fn modest<T>(what: &dyn std::fmt::Display, bytes: usize, f: impl FnOnce() -> T) -> T {
    let (result, reserved) = reserved_by(f);
    let most = bytes * MOST_PER_BYTE + MOST_FOR_A_SENTENCE;
    assert!(reserved <= most, "{what}: {reserved} bytes reserved for {bytes} read");
    result
}
