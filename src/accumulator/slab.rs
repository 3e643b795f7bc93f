//! Slabs and arrays of tags, and the shelves where a buffer pool keeps those that nobody uses.
//!
//! Shelves belong to a pool and are guarded by its mutex. Each size is a list, last in first out:
//! what was freed last is in the caches still. What leaves the shelves for good is handed to the
//! caller, who drops it when the mutex is free.

use super::prefetch;
use std::collections::VecDeque;

/// So far ahead of what is written the processor is asked for memory to write to.
const PREFETCH_AHEAD: usize = 768;
/// How many slabs of large records are kept.
const ODD_KEPT: usize = 16;
/// The smallest array of tags: 1 KiB, as the smallest slab.
pub(super) const SMALLEST_TAGS: usize = 128;
/// Arrays of tags double in size so often: more than the records of any request.
const TAG_SIZES: usize = 24;
/// What freed memory holds in debug builds.
const POISON: u8 = 0xdb;

/// A piece of a batch's memory: records from the front, none straddling its end.
#[derive(Debug)]
pub struct Slab {
    data: Box<[u8]>,
    /// What it is charged as, and all that may be used; `data` may be longer if it is a large
    /// record's, reused.
    size: usize,
    len: usize,
    pub(super) leader: i32,
}

impl Slab {
    /// An empty one, charged as `size` to `leader`, of what the shelves had or of fresh memory.
    pub(super) fn new(data: Option<Box<[u8]>>, size: usize, leader: i32) -> Slab {
        Slab { data: data.unwrap_or_else(|| zeroed(size)), size, len: 0, leader }
    }

    /// A slab that is full from the start.
    pub(super) fn filled(data: Box<[u8]>, leader: i32) -> Slab {
        let len = data.len();
        Slab { data, size: len, len, leader }
    }

    /// The records' bytes.
    pub fn bytes(&self) -> &[u8] {
        self.data.get(..self.len).unwrap_or_default()
    }

    /// The bytes in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes it is charged as.
    pub fn size(&self) -> usize {
        self.size
    }

    #[inline]
    pub(super) fn room(&self) -> usize {
        self.size - self.len
    }

    /// The next `len` bytes, not in use before [`Slab::advance`]; empty if there are not so many.
    #[inline]
    pub(super) fn spare(&mut self, len: usize) -> &mut [u8] {
        self.data.get_mut(self.len..self.len + len).unwrap_or_default()
    }

    #[inline]
    pub(super) fn advance(&mut self, len: usize) {
        self.len += len;
        debug_assert!(self.len <= self.size);
        prefetch::for_writing(&self.data, self.len + PREFETCH_AHEAD, len);
    }
}

/// Memory for the tags of one batch.
#[derive(Debug)]
pub(super) struct TagSlab {
    pub(super) tags: Box<[u64]>,
    pub(super) leader: i32,
}

impl TagSlab {
    /// As [`Slab::new`], for `count` tags.
    pub(super) fn new(tags: Option<Box<[u64]>>, count: usize, leader: i32) -> TagSlab {
        TagSlab { tags: tags.unwrap_or_else(|| zeroed(count)), leader }
    }

    pub(super) fn size(&self) -> usize {
        size_of_val::<[u64]>(&self.tags)
    }
}

/// Free memory of every size.
#[derive(Debug)]
pub(super) struct Shelves {
    slabs: Vec<FreeList<u8>>,
    tags: Vec<FreeList<u64>>,
    /// Of any size, for large records.
    odd: FreeList<u8>,
    /// Bytes on all of them.
    spare: usize,
    /// Counts what is taken, to tell which size was not asked for longest.
    turn: u64,
}

/// Free memory of one size, last in first out.
#[derive(Debug)]
struct FreeList<T> {
    /// In elements; 0 if they differ.
    size: usize,
    free: VecDeque<Box<[T]>>,
    /// The `turn` at which one was last taken, or would have been.
    asked: u64,
    /// The fewest there were since the last trim: so many nobody needs.
    idle: usize,
}

/// What leaves a pool for good; dropped by whoever holds it, after the mutex is free.
#[derive(Default)]
pub(super) struct Garbage {
    slabs: Vec<Box<[u8]>>,
    tags: Vec<Box<[u64]>>,
}

impl<T> FreeList<T> {
    fn new(size: usize) -> FreeList<T> {
        FreeList { size, free: VecDeque::new(), asked: 0, idle: 0 }
    }

    fn take(&mut self, turn: u64) -> Option<Box<[T]>> {
        self.asked = turn;
        let taken = self.free.pop_back();
        self.idle = self.idle.min(self.free.len());
        taken
    }

    /// The oldest one: the coldest in the caches.
    fn drop_one(&mut self, garbage: &mut Vec<Box<[T]>>) -> usize {
        let Some(data) = self.free.pop_front() else { return 0 };
        self.idle = self.idle.min(self.free.len());
        let size = size_of_val::<[T]>(&data);
        garbage.push(data);
        size
    }

    fn drop_idle(&mut self, garbage: &mut Vec<Box<[T]>>) -> usize {
        let mut size = 0;
        for _ in 0..self.idle.div_ceil(2) {
            size += self.drop_one(garbage);
        }
        self.idle = self.free.len();
        if self.free.is_empty() {
            self.free = VecDeque::new();
        }
        size
    }
}

impl Shelves {
    pub(super) fn new(sizes: &[usize]) -> Shelves {
        Shelves {
            slabs: sizes.iter().map(|size| FreeList::new(*size)).collect(),
            tags: (0..TAG_SIZES).map(|double| FreeList::new(SMALLEST_TAGS << double)).collect(),
            odd: FreeList::new(0),
            spare: 0,
            turn: 0,
        }
    }

    /// The bytes on all of them.
    pub(super) fn spare(&self) -> usize {
        self.spare
    }

    pub(super) fn take_slab(&mut self, size: usize) -> Option<Box<[u8]>> {
        self.turn += 1;
        let turn = self.turn;
        let data = match self.slabs.iter_mut().find(|list| list.size == size) {
            Some(list) => list.take(turn),
            None => {
                let list = &mut self.odd;
                list.asked = turn;
                // The tightest, and not one that would hide more than a quarter.
                let (place, _) = list
                    .free
                    .iter()
                    .enumerate()
                    .filter(|(_, data)| (size..=size + size / 4).contains(&data.len()))
                    .min_by_key(|(_, data)| data.len())?;
                let data = list.free.remove(place);
                list.idle = list.idle.min(list.free.len());
                data
            }
        }?;
        self.spare -= data.len();
        Some(data)
    }

    pub(super) fn put_slab(&mut self, slab: Slab, garbage: &mut Garbage) {
        let Slab { mut data, len, .. } = slab;
        if cfg!(debug_assertions)
            && let Some(dirty) = data.get_mut(..len)
        {
            dirty.fill(POISON);
        }
        let place = self.slabs.iter_mut().find(|list| list.size == data.len());
        match place {
            Some(list) => {
                self.spare += data.len();
                list.free.push_back(data);
            }
            None if self.odd.free.len() < ODD_KEPT => {
                self.spare += data.len();
                self.odd.free.push_back(data);
            }
            None => garbage.slabs.push(data),
        }
    }

    pub(super) fn take_tags(&mut self, count: usize) -> Option<Box<[u64]>> {
        self.turn += 1;
        let turn = self.turn;
        let tags = self.tags.iter_mut().find(|list| list.size == count)?.take(turn)?;
        self.spare -= size_of_val::<[u64]>(&tags);
        Some(tags)
    }

    pub(super) fn put_tags(&mut self, slab: TagSlab) {
        let size = slab.size();
        let TagSlab { mut tags, .. } = slab;
        if cfg!(debug_assertions) {
            tags.fill(u64::from_ne_bytes([POISON; 8]));
        }
        if let Some(list) = self.tags.iter_mut().find(|list| list.size == tags.len()) {
            self.spare += size;
            list.free.push_back(tags);
        }
    }

    /// Frees from the list that was not asked for longest until there are at most `most` bytes.
    pub(super) fn shrink(&mut self, most: usize, garbage: &mut Garbage) {
        while self.spare > most {
            let slabs = self.slabs.iter_mut().chain([&mut self.odd]);
            let slabs = slabs.filter(|list| !list.free.is_empty()).min_by_key(|list| list.asked);
            let tags = self.tags.iter_mut().filter(|list| !list.free.is_empty());
            let tags = tags.min_by_key(|list| list.asked);
            match (slabs, tags) {
                (Some(slabs), Some(tags)) if tags.asked < slabs.asked => {
                    self.spare -= tags.drop_one(&mut garbage.tags);
                }
                (Some(slabs), _) => self.spare -= slabs.drop_one(&mut garbage.slabs),
                (None, Some(tags)) => self.spare -= tags.drop_one(&mut garbage.tags),
                (None, None) => return,
            }
        }
    }

    /// Frees half of what nobody has needed since the last time.
    pub(super) fn trim(&mut self, garbage: &mut Garbage) {
        for list in self.slabs.iter_mut().chain([&mut self.odd]) {
            self.spare -= list.drop_idle(&mut garbage.slabs);
        }
        for list in &mut self.tags {
            self.spare -= list.drop_idle(&mut garbage.tags);
        }
    }
}

/// The system's own zero pages where it has them: the first touch is the caller's.
fn zeroed<T: Clone + Default>(count: usize) -> Box<[T]> {
    vec![T::default(); count].into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelve(shelves: &mut Shelves, size: usize) -> *const u8 {
        let slab = Slab::new(None, size, 0);
        let place = slab.data.as_ptr();
        shelves.put_slab(slab, &mut Garbage::default());
        place
    }

    #[test]
    fn last_in_first_out() {
        let mut shelves = Shelves::new(&[1024, 4096]);
        let first = shelve(&mut shelves, 1024);
        let last = shelve(&mut shelves, 1024);
        assert_eq!(shelves.spare(), 2048);
        assert!(shelves.take_slab(4096).is_none());
        let taken = [(); 2].map(|()| shelves.take_slab(1024).unwrap());
        assert_eq!(taken.each_ref().map(|data| data.as_ptr()), [last, first]);
        assert_eq!((shelves.spare(), shelves.take_slab(1024)), (0, None));
    }

    #[test]
    fn the_slab_of_a_large_record_serves_the_next_one() {
        let mut shelves = Shelves::new(&[1024]);
        let (large, larger) = (shelve(&mut shelves, 100_000), shelve(&mut shelves, 120_000));
        assert!(shelves.take_slab(90_000).is_some_and(|data| data.as_ptr() == large));
        assert!(shelves.take_slab(50_000).is_none(), "it would hide more than a quarter");
        assert!(shelves.take_slab(130_000).is_none());
        assert!(shelves.take_slab(120_000).is_some_and(|data| data.as_ptr() == larger));
        let mut garbage = Garbage::default();
        for _ in 0..=ODD_KEPT {
            shelves.put_slab(Slab::new(None, 5000, 0), &mut garbage);
        }
        assert_eq!((garbage.slabs.len(), shelves.spare()), (1, 5000 * ODD_KEPT));
    }

    #[test]
    fn the_size_that_was_not_asked_for_longest_leaves_first() {
        let mut shelves = Shelves::new(&[1024, 4096]);
        for _ in 0..4 {
            shelve(&mut shelves, 1024);
            shelve(&mut shelves, 4096);
            shelves.put_tags(TagSlab::new(None, SMALLEST_TAGS, 0));
        }
        drop(shelves.take_slab(1024));
        drop(shelves.take_tags(SMALLEST_TAGS));
        drop(shelves.take_slab(4096));
        let mut garbage = Garbage::default();
        let before = shelves.spare();
        shelves.shrink(before - 1, &mut garbage);
        assert_eq!(garbage.slabs.iter().map(|data| data.len()).collect::<Vec<_>>(), [1024]);
        shelves.shrink(3 * 4096, &mut garbage);
        assert_eq!(garbage.slabs.len(), 3, "all of 1 KiB");
        assert_eq!(garbage.tags.len(), 3, "then the tags");
        assert_eq!(shelves.spare(), 3 * 4096);
    }

    #[test]
    fn what_nobody_needs_is_trimmed_by_halves() {
        let mut shelves = Shelves::new(&[1024]);
        for _ in 0..8 {
            shelve(&mut shelves, 1024);
        }
        let mut garbage = Garbage::default();
        shelves.trim(&mut garbage);
        assert_eq!(shelves.spare(), 8 * 1024, "they have only just come");
        let taken: Vec<_> = (0..4).map(|_| shelves.take_slab(1024).unwrap()).collect();
        for data in taken {
            shelves.put_slab(Slab::new(Some(data), 1024, 0), &mut garbage);
        }
        shelves.trim(&mut garbage);
        assert_eq!(shelves.spare(), 6 * 1024, "4 of 8 were needed, half of the others leaves");
        for _ in 0..5 {
            shelves.trim(&mut garbage);
        }
        assert_eq!(shelves.spare(), 0);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn freed_memory_is_poisoned() {
        let mut shelves = Shelves::new(&[1024]);
        let mut slab = Slab::new(None, 1024, 0);
        slab.spare(3).copy_from_slice(b"abc");
        slab.advance(3);
        shelves.put_slab(slab, &mut Garbage::default());
        assert_eq!(
            shelves.take_slab(1024).unwrap().get(..4),
            Some(&[POISON, POISON, POISON, 0][..])
        );
    }
}
