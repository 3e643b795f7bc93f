//! A closed batch cut into others: because it is too large for the broker, or to part the records
//! that a broker finds fault with from the rest (KIP-467).
//!
//! The records are encoded anew, since each says its place in its batch; that never takes more
//! bytes. The pieces' memory is exchanged for the batch's in one step: nothing is asked of those
//! who wait for memory, and `buffer.memory` holds throughout.
//!
//! A batch that is compressed is unpacked for it, and its larger pieces are compressed again, at
//! the codec's fastest level, since the network thread does it: they may take more than the batch
//! did, and for a while more than `buffer.memory` is charged.

use super::{BatchBody, Chain, Sealing, Summed, Tags};
use crate::accumulator::slab::{Slab, TagSlab};
use crate::error::Result;
use crate::protocol::compression::{Codec, Compression, Compressor};
use crate::protocol::record_batch::Record;
use crate::record::Tag;
use std::iter;
use std::sync::Arc;

/// A part of a batch that was cut.
#[derive(Debug)]
pub struct Piece {
    /// Its records, in the order they had.
    pub body: Arc<BatchBody>,
    /// The places that they had in the old batch, ascending.
    pub places: Box<[u32]>,
}

/// Pieces that are shorter are not compressed again.
const LEAST_PACKED: usize = 1 << 10;

/// What a piece is made of.
#[derive(Default)]
struct Material {
    places: Vec<u32>,
    records: Vec<u8>,
    /// What the records are compressed to, if they are.
    packed: Option<(Codec, Vec<u8>)>,
    tags: Vec<Tag>,
    max_timestamp: i64,
}

impl BatchBody {
    /// Cuts a batch. `piece_of` says for each record, by its place and its bytes, into which piece
    /// it goes; pieces are numbered from 0, and one without records is left out. The batch itself
    /// if somebody else has it at this moment, unless the topic is compressed: then it may be
    /// somebody who compresses it. Pieces are compressed as `how` says.
    pub fn cut(
        body: Arc<BatchBody>,
        how: Compression,
        piece_of: impl FnMut(usize, usize) -> usize,
    ) -> Result<Vec<Piece>, Arc<BatchBody>> {
        let body = match Arc::try_unwrap(body) {
            Ok(body) => body,
            // Who compresses it will find it gone, however long that takes: deadlines don't wait.
            Err(shared) if how != Compression::None => {
                return match shared.materials(how, piece_of) {
                    Ok(materials) => Ok(shared.copy(materials)),
                    Err(_) => Err(shared),
                };
            }
            Err(shared) => return Err(shared),
        };
        match body.materials(how, piece_of) {
            Ok(materials) => Ok(body.exchange(materials)),
            Err(error) => {
                debug_assert!(false, "records of our own: {error}");
                Err(Arc::new(body))
            }
        }
    }

    fn materials(
        &self,
        how: Compression,
        piece_of: impl FnMut(usize, usize) -> usize,
    ) -> Result<Vec<Material>> {
        let mut pieces = self.plain_materials(piece_of)?;
        let mut compressor = Compressor::new();
        let long = |piece: &&mut Material| piece.records.len() >= LEAST_PACKED;
        for piece in pieces.iter_mut().filter(|_| how != Compression::None).filter(long) {
            let (limit, mut packed) = (piece.records.len(), Vec::new());
            // A codec that fails costs memory, nothing else.
            if compressor.compress(how, &[&piece.records], limit, &mut packed).unwrap_or(false) {
                packed.shrink_to_fit();
                piece.packed = Some((how.codec(), packed));
            }
        }
        Ok(pieces)
    }

    fn plain_materials(
        &self,
        mut piece_of: impl FnMut(usize, usize) -> usize,
    ) -> Result<Vec<Material>> {
        let mut pieces: Vec<Material> = Vec::new();
        let (mut headers, mut space) = (Vec::new(), Vec::new());
        for (index, (record, tag)) in self.records_in(&mut space)?.zip(self.tags()).enumerate() {
            let view = record?;
            headers.clear();
            headers.extend(view.headers);
            let mut record = Record {
                timestamp_delta: view.timestamp_delta,
                offset_delta: view.offset_delta,
                key: view.key,
                value: view.value,
                headers: &headers,
            };
            let at = piece_of(index, record.encoded_len());
            if pieces.len() <= at {
                pieces.resize_with(at + 1, Material::default);
            }
            let Some(piece) = pieces.get_mut(at) else { continue };
            let timestamp = self.base_timestamp.wrapping_add(view.timestamp_delta);
            piece.places.push(u32::try_from(index).unwrap_or(u32::MAX));
            if piece.tags.is_empty() {
                piece.max_timestamp = timestamp;
            }
            record.offset_delta = i32::try_from(piece.tags.len()).unwrap_or(i32::MAX);
            let (start, len) = (piece.records.len(), record.encoded_len());
            piece.records.resize(start + len, 0);
            record.encode(record.body_len(), piece.records.get_mut(start..).unwrap_or_default());
            piece.tags.push(*tag);
            piece.max_timestamp = piece.max_timestamp.max(timestamp);
        }
        pieces.retain(|piece| !piece.tags.is_empty());
        Ok(pieces)
    }

    fn exchange(mut self, materials: Vec<Material>) -> Vec<Piece> {
        let leader = self.chain.slabs().next().map_or(-1, |slab| slab.leader);
        let pool = Arc::clone(&self.chain.pool);
        let mut charged = 0;
        let pieces = materials
            .into_iter()
            .map(|material| {
                let piece = self.piece(material, leader);
                charged += piece.body.charged();
                piece
            })
            .collect();
        let slabs = self.chain.full.drain(..).chain(self.chain.last.take());
        let closed = std::mem::take(&mut self.chain.closed);
        let own = self.chain.own_deadlines.take();
        let tags = self.chain.tags.slab.take().into_iter().chain(own);
        pool.exchange(slabs, tags, closed, (leader, charged));
        pieces
    }

    /// The pieces beside the batch, whose memory comes back when nobody reads it any more.
    fn copy(&self, materials: Vec<Material>) -> Vec<Piece> {
        let leader = self.chain.slabs().next().map_or(-1, |slab| slab.leader);
        let pieces: Vec<Piece> =
            materials.into_iter().map(|material| self.piece(material, leader)).collect();
        let charged = pieces.iter().map(|piece| piece.body.charged()).sum();
        self.chain.pool.exchange(iter::empty(), iter::empty(), 0, (leader, charged));
        pieces
    }

    fn piece(&self, material: Material, leader: i32) -> Piece {
        let Material { places, records, packed, tags: numbers, max_timestamp } = material;
        let raw_len = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let (codec, records) = packed.unwrap_or((Codec::None, records));
        let records_len = records.len();
        let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let mut tags = Tags::default();
        match tags.inline.get_mut(..numbers.len()) {
            Some(inline) => inline.copy_from_slice(&numbers),
            None => tags.slab = Some(TagSlab::new(Some(numbers.into()), 0, leader)),
        }
        let last = Some(Slab::filled(records.into_boxed_slice(), leader));
        let pool = Arc::clone(&self.chain.pool);
        let (times, own) = self.times.of_some(self.own_deadlines(), places.iter().copied());
        let own = Some(own).filter(|own| !own.is_empty());
        let own_deadlines = own.map(|own| TagSlab::new(Some(own.into()), 0, leader));
        let mut chain = Chain { pool, full: Vec::new(), last, tags, own_deadlines, closed: 0 };
        chain.close();
        let body = BatchBody {
            chain,
            count,
            raw_len,
            codec,
            records_len,
            base_timestamp: self.base_timestamp,
            max_timestamp,
            summed: Summed::default(),
            sealing: Sealing::claimed(),
            times,
        };
        Piece { body: Arc::new(body), places: places.into() }
    }
}

#[cfg(test)]
mod tests {
    use crate::accumulator::append::Appended;
    use crate::accumulator::batch::{BatchBody, Remains};
    use crate::accumulator::testing::{Bench, ms, partition, reading, record};
    use crate::protocol::compression::Compression;
    use crate::protocol::crc32c;
    use crate::record::Header;
    use std::sync::Arc;

    const MEMORY: usize = 64 << 10;

    /// A batch of records with keys, headers and timestamps of their own.
    fn batch(bench: &Bench, count: u64) -> Arc<BatchBody> {
        let partition = partition(0);
        for tag in 0..count {
            let headers =
                [Header { key: b"h", value: None }, Header { key: b"i", value: Some(b"v") }];
            let value = tag.to_be_bytes().repeat(1 + tag as usize % 3);
            let record = crate::record::ProducerRecord {
                key: Some(&b"key"[..]).filter(|_| tag % 2 == 0),
                headers: &headers[..tag as usize % 3],
                timestamp_ms: Some(1000 - tag as i64),
                ..record(&value, tag)
            };
            let _ = partition.try_append(&bench.context, &record, reading(ms(1))).unwrap();
        }
        let mut out = Vec::new();
        assert!(partition.try_purge(&mut out));
        assert_eq!(out.len(), 1);
        out.pop().unwrap().body
    }

    /// Tag, timestamp, key, value, number of headers.
    type Contents = (u64, i64, Option<Vec<u8>>, Vec<u8>, usize);

    /// All that a record says, but for its place.
    fn contents(body: &BatchBody) -> Vec<Contents> {
        let read = body.records().zip(body.tags()).enumerate();
        read.map(|(index, (view, tag))| {
            let view = view.unwrap();
            assert_eq!(view.offset_delta, i32::try_from(index).unwrap());
            (
                *tag,
                body.base_timestamp() + view.timestamp_delta,
                view.key.map(<[u8]>::to_vec),
                view.value.unwrap().to_vec(),
                view.headers.len(),
            )
        })
        .collect()
    }

    #[test]
    fn the_pieces_are_the_batch_and_its_memory() {
        for count in [1, 2, 16, 17, 18, 40, 300] {
            for pieces in [1, 2, 3, 7] {
                let bench = Bench::new(MEMORY);
                let body = batch(&bench, count);
                let (before, whole) = (bench.context.pool.used(), contents(&body));
                let cut = BatchBody::cut(body, Compression::None, |index, _| {
                    index * pieces / count as usize
                })
                .unwrap();
                assert_eq!(cut.len(), pieces.min(count as usize));
                assert!(bench.context.pool.used() <= before, "{count} in {pieces}");
                let parts: Vec<_> = cut.iter().flat_map(|piece| contents(&piece.body)).collect();
                assert_eq!(parts, whole);
                for piece in &cut {
                    let body = &piece.body;
                    let bytes: Vec<u8> = body.slabs().flatten().copied().collect();
                    assert_eq!(
                        (body.records_len(), body.seal().crc),
                        (bytes.len(), crc32c::crc32c(&bytes))
                    );
                    let latest = contents(body).iter().map(|record| record.1).max();
                    assert_eq!(Some(body.max_timestamp()), latest);
                    assert_eq!(u64::from(piece.places[0]), body.tags()[0]);
                }
                assert_eq!(bench.context.pool.closed(), bench.context.pool.used());
                for piece in cut {
                    drop(Remains::of(piece.body, false));
                }
                let pool = &bench.context.pool;
                assert_eq!((pool.used(), pool.closed()), (0, 0), "{count} in {pieces}");
            }
        }
    }

    #[test]
    fn some_are_parted_from_the_rest() {
        let bench = Bench::new(MEMORY);
        let culprit = |index: usize| [0, 7, 19].iter().position(|at| *at == index);
        let cut = BatchBody::cut(batch(&bench, 20), Compression::None, |index, _| {
            culprit(index).map_or(0, |place| place + 1)
        })
        .unwrap();
        let tags: Vec<&[u64]> = cut.iter().map(|piece| piece.body.tags()).collect();
        let rest: Vec<u64> = (0..20).filter(|tag| culprit(*tag as usize).is_none()).collect();
        assert_eq!(tags, [&rest[..], &[0], &[7], &[19]]);
        assert_eq!(cut.iter().map(|piece| piece.places[0]).collect::<Vec<_>>(), [1, 0, 7, 19]);
    }

    #[test]
    fn who_waits_gets_what_is_left_and_no_more() {
        let bench = Bench::new(8 << 10);
        let body = batch(&bench, 40);
        let other = partition(1);
        let waiting = loop {
            match bench.append(&other, ms(1), 900) {
                Appended::NoMemory(waiting) => break waiting,
                Appended::Done { .. } | Appended::BatchFull => {}
            }
        };
        let cut = BatchBody::cut(body, Compression::None, |index, _| index / 10).unwrap();
        assert!(bench.context.pool.used() <= 8 << 10);
        drop(cut);
        assert!(waiting.is_over());
    }
}
