//! What is left of a batch when it is done: its tags, and its records where somebody wants them.
//! Whoever reports it owns it.

use super::{BatchBody, Tags};
use crate::accumulator::buffer_pool::BufferPool;
use crate::accumulator::slab::TagSlab;
use crate::protocol::record_batch::RecordView;
use crate::record::Tag;
use std::sync::Arc;

/// What tags outside of slabs are charged as when they are all that is left of a batch: about what
/// a report takes. Without it reports that nobody fetches would be without a bound.
const DETACHED: usize = 256;

/// The tags of a batch whose records are gone: their memory was needed, and nobody wanted to see
/// them again.
#[derive(Debug)]
struct DetachedTags {
    pool: Arc<BufferPool>,
    tags: Tags,
    count: usize,
    /// Bytes charged beside the slab of tags, and to whom.
    charged: (i32, usize),
}

impl Drop for DetachedTags {
    fn drop(&mut self) {
        self.pool.release_detached(self.tags.slab.take(), self.charged);
    }
}

/// What is left of a batch when it is done: its tags, and its records where somebody wants them.
#[derive(Debug)]
pub struct Remains(Left);

#[derive(Debug)]
enum Left {
    All(Arc<BatchBody>),
    Tags(DetachedTags),
    /// Some of a batch's records: where they are in it, if they are kept, and their tags.
    Part(Option<Arc<BatchBody>>, Box<[u32]>, Box<[Tag]>),
}

impl Remains {
    /// Of this batch. Without `keep` the records' memory is free from here on, unless somebody
    /// reads it at this moment.
    pub fn of(body: Arc<BatchBody>, keep: bool) -> Remains {
        if keep {
            return Remains(Left::All(body));
        }
        match Arc::try_unwrap(body) {
            Ok(body) => Remains(Left::Tags(body.into_tags())),
            Err(shared) => Remains(Left::All(shared)),
        }
    }

    /// Of the records at these places.
    pub fn part(body: Arc<BatchBody>, places: Box<[u32]>, keep: bool) -> Remains {
        let tags = places.iter().filter_map(|at| body.tags().get(*at as usize)).copied().collect();
        Remains(Left::Part(Some(body).filter(|_| keep), places, tags))
    }

    /// The records' tags, in order.
    pub fn tags(&self) -> &[Tag] {
        match &self.0 {
            Left::All(body) => body.tags(),
            Left::Part(_, _, tags) => tags,
            Left::Tags(left) => left.tags.places().get(..left.count).unwrap_or_default(),
        }
    }

    /// The batch they were in, if it is there still.
    pub fn records(&self) -> Option<&Arc<BatchBody>> {
        match &self.0 {
            Left::All(body) => Some(body),
            Left::Part(body, ..) => body.as_ref(),
            Left::Tags(_) => None,
        }
    }

    /// The records as they were sent, in order, if they are there still. Compressed ones are
    /// unpacked into `space`.
    pub fn walk<'a>(&'a self, space: &'a mut Vec<u8>) -> impl Iterator<Item = RecordView<'a>> {
        let mut places = match &self.0 {
            Left::Part(_, places, _) => Some(places.iter().peekable()),
            Left::All(_) | Left::Tags(_) => None,
        };
        // Where unpacking fails the log says so; outcome and tags are reported all the same.
        let all = self.records().and_then(|body| body.records_in(space).ok());
        let all = all.into_iter().flatten().map_while(Result::ok);
        (0..).zip(all).filter_map(move |(at, record)| match &mut places {
            None => Some(record),
            Some(places) => places.next_if(|place| **place == at).map(|_| record),
        })
    }
}

impl BatchBody {
    fn into_tags(mut self) -> DetachedTags {
        let tags = std::mem::take(&mut self.chain.tags);
        let leader = self.chain.last.as_ref().map_or(-1, |slab| slab.leader);
        let size = tags.slab.as_ref().map_or(0, TagSlab::size);
        let freed = self.chain.closed - size;
        let charged = (leader, if size == 0 { freed.min(DETACHED) } else { 0 });
        let pool = Arc::clone(&self.chain.pool);
        // What the chain gives back when it is dropped is nothing.
        self.chain.closed = 0;
        let slabs = self.chain.full.drain(..).chain(self.chain.last.take());
        pool.exchange(slabs, self.chain.own_deadlines.take(), freed - charged.1, charged);
        DetachedTags { pool, tags, count: self.count as usize, charged }
    }
}
