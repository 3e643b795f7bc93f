//! What is compressed in the place of a batch's records, and the way back to them.

use super::{BatchBody, Summed};
use crate::accumulator::buffer_pool::Freed;
use crate::accumulator::compression::Packed;
use crate::accumulator::seal::Sealing;
use crate::accumulator::slab::Slab;
use crate::error::{Error, Result, status};
use crate::protocol::compression::{self, Codec};
use crate::protocol::record_batch::{RecordReader, RecordView};
use std::iter;

impl BatchBody {
    /// The records, in order. Those of a compressed batch are unpacked into `space` for it.
    pub fn records_in<'a>(
        &'a self,
        space: &'a mut Vec<u8>,
    ) -> Result<impl Iterator<Item = Result<RecordView<'a>>>> {
        let packed = self.codec != Codec::None;
        if packed {
            self.unpack(space)?;
        }
        let unpacked: &'a [u8] = space;
        let plain = self.slabs().take(if packed { 0 } else { usize::MAX });
        Ok(packed.then_some(unpacked).into_iter().chain(plain).flat_map(RecordReader::new))
    }

    fn unpack(&self, space: &mut Vec<u8>) -> Result<()> {
        let packed = self.slabs().collect::<Vec<_>>().concat();
        let unpacked = compression::decompress(self.codec, &packed, self.raw_len(), space);
        let unpacked = unpacked.and_then(|()| match space.len() == self.raw_len() {
            true => Ok(()),
            false => {
                let message = format!("{} bytes of records are {} now", self.raw_len, space.len());
                Err(Error::new(status::PANIC, message))
            }
        });
        unpacked.inspect_err(|error| self.chain.pool.report(error))
    }

    /// What its slabs are charged as.
    pub(in crate::accumulator) fn slabs_size(&self) -> usize {
        self.chain.slabs().map(Slab::size).sum()
    }

    /// Puts what was made of the records in their place. Their memory is free when the result is
    /// dropped, which wakes who waits for it: no lock may be held by then.
    pub(in crate::accumulator) fn pack(&mut self, packed: Packed) -> Freed {
        let Packed { mut slabs, seal, codec, len } = packed;
        let leader = self.chain.slabs().next().map_or(-1, |slab| slab.leader);
        for slab in &mut slabs {
            slab.leader = leader;
        }
        let size = slabs.iter().map(Slab::size).sum();
        let old_size = self.slabs_size();
        let last = self.chain.last.take();
        self.chain.last = slabs.pop();
        let old = std::mem::replace(&mut self.chain.full, slabs).into_iter().chain(last);
        self.chain.closed = self.chain.closed - old_size + size;
        self.chain.pool.close(size);
        (self.codec, self.records_len, self.summed) = (codec, len, Summed::default());
        self.sealing = Sealing::sealed(seal);
        self.chain.pool.trade(old, iter::empty(), old_size, (leader, size))
    }
}

#[cfg(test)]
impl BatchBody {
    /// The records of a batch that is not compressed.
    pub(crate) fn records(&self) -> impl Iterator<Item = Result<RecordView<'_>>> {
        assert_eq!(self.codec, Codec::None);
        self.slabs().flat_map(RecordReader::new)
    }
}
