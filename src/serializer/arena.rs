//! Memory for what interceptors and serializers make of one record.
//!
//! A thread has one. A send takes it, and everything in it is forgotten when the record has been
//! copied into its batch. The memory stays for the thread's next send, so that nothing is allocated
//! per record once it has found its size; what is beyond [`KEPT`] goes back. How much one record
//! may take is bounded by [`Arena::with`].

use bumpalo::Bump;
use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::NonNull;

/// What a thread keeps between two sends, in bytes.
pub const KEPT: usize = 1 << 20;
/// Suits every type of C's.
const ALIGNMENT: usize = 16;

thread_local! {
    static OF_THREAD: Cell<Option<Arena>> = const { Cell::new(None) };
}

/// Memory that lives until the send returns. For one thread, and one record at a time.
#[derive(Debug, Default)]
pub struct Arena {
    memory: Bump,
}

/// The record has used up its share, or the system has no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

impl Arena {
    /// Runs `f` with this thread's arena, empty, of which it may have about `limit` bytes, and at
    /// least [`KEPT`]. A call inside of `f` gets an arena of its own.
    pub fn with<T>(limit: usize, f: impl FnOnce(&Arena) -> T) -> T {
        // At a thread's very end nothing is kept.
        let mut arena = OF_THREAD.try_with(Cell::take).ok().flatten().unwrap_or_default();
        arena.memory.set_allocation_limit(Some(limit.max(KEPT)));
        let result = f(&arena);
        arena.memory.reset();
        if arena.memory.allocated_bytes() <= KEPT {
            let _ = OF_THREAD.try_with(|kept| kept.set(Some(arena)));
        }
        result
    }

    /// Memory for any type; none of it is shared, even if `size` is 0.
    pub fn alloc(&self, size: usize) -> Result<NonNull<u8>, Exhausted> {
        // An empty output is not null: it needs an address as well.
        let layout = Layout::from_size_align(size.max(1), ALIGNMENT).map_err(|_| Exhausted)?;
        self.memory.try_alloc_layout(layout).map_err(|_| Exhausted)
    }

    /// A copy of these bytes.
    pub fn copy(&self, bytes: &[u8]) -> Result<&mut [u8], Exhausted> {
        self.memory.try_alloc_slice_copy(bytes).map_err(|_| Exhausted)
    }

    /// A slice of what the iterator gives.
    pub fn collect<T: Copy>(
        &self,
        items: impl ExactSizeIterator<Item = T>,
    ) -> Result<&mut [T], Exhausted> {
        self.memory.try_alloc_slice_fill_iter(items).map_err(|_| Exhausted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(size: usize) -> usize {
        Arena::with(0, |arena| arena.alloc(size).unwrap().addr().get())
    }

    #[test]
    fn a_record_gets_the_memory_that_the_one_before_it_had() {
        // Warm: a chunk that holds it all.
        address(100_000);
        let first = address(50_000);
        assert_eq!(address(50_000), first);
    }

    #[test]
    fn memory_is_aligned_and_never_shared() {
        Arena::with(0, |arena| {
            let sizes = [0, 1, 0, 17, 16, 3];
            let places = sizes.map(|size| (arena.alloc(size).unwrap().addr().get(), size));
            for (at, (place, size)) in places.iter().enumerate() {
                assert_eq!(place % 16, 0);
                for (other, other_size) in places.get(at + 1..).unwrap() {
                    let apart =
                        place + size.max(&1) <= *other || other + other_size.max(&1) <= *place;
                    assert!(apart, "{places:?}");
                }
            }
        });
    }

    #[test]
    fn what_a_record_may_have_is_bounded() {
        let limit = 4 * KEPT;
        Arena::with(limit, |arena| {
            assert_eq!(arena.alloc(usize::MAX), Err(Exhausted));
            assert_eq!(arena.alloc(limit + 1), Err(Exhausted));
            assert!(arena.copy(&vec![1; KEPT]).is_ok());
            let mut had = 0;
            while arena.alloc(64 << 10).is_ok() {
                had += 64 << 10;
                assert!(had <= limit, "{had}");
            }
            assert!(had > limit / 2, "{had}");
            // Another send inside has its own.
            Arena::with(limit, |other| assert!(other.alloc(1 << 10).is_ok()));
        });
        // The next record has its share again.
        Arena::with(limit, |arena| assert!(arena.alloc(limit / 2).is_ok()));
    }

    #[test]
    fn what_one_large_record_needed_is_not_kept() {
        Arena::with(64 << 20, |arena| assert!(arena.alloc(32 << 20).is_ok()));
        let kept = OF_THREAD.take().map_or(0, |arena| arena.memory.allocated_bytes());
        assert!(kept <= KEPT, "{kept}");
    }
}
