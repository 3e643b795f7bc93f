//! A hint to the processor: this memory is about to be written.
//!
//! A slab that comes back to the callers was read by the network thread (or its socket) last, on
//! another core. Without the hint each store waits until that core has given the line up, and the
//! swap that unlocks the front waits for all of them: half of the time of a send of 100 bytes.
#![expect(unsafe_code, reason = "the instruction has no safe form")]

/// What a processor fetches at once.
const LINE: usize = 64;
/// Longer stretches are left to the processor, which sees by itself where they go.
const MOST_LINES: usize = 8;

/// The `len` bytes from `from` on will be written soon; what is outside of `memory` is ignored.
#[inline(always)]
pub(super) fn for_writing(memory: &[u8], from: usize, len: usize) {
    let lines = len.div_ceil(LINE).min(MOST_LINES);
    for line in 0..lines {
        if let Some(byte) = memory.get(from + line * LINE) {
            prefetch(byte);
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn prefetch(byte: &u8) {
    // SAFETY: a hint, without effect on registers, flags or what memory holds; processors that do
    // not know it do nothing.
    unsafe {
        core::arch::asm!(
            "prefetchw [{}]",
            in(reg) byte,
            options(nostack, preserves_flags, readonly)
        );
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline(always)]
fn prefetch(byte: &u8) {
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "prfm pstl1keep, [{}]",
            in(reg) byte,
            options(nostack, preserves_flags, readonly)
        );
    }
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[inline(always)]
fn prefetch(_: &u8) {}
