//! gzip: RFC 1952, one member per batch. What is read may have several, as in Java.

use super::{Codec, Input, above_limit, failed, malformed, reserve};
use crate::error::Result;
use flate2::{Compress, FlushCompress, Status, bufread::MultiGzDecoder};
use std::io::Read;

const CODEC: Codec = Codec::Gzip;
/// The level that -1 stands for.
const DEFAULT_LEVEL: u32 = 6;
/// The window of 32 KiB that every reader has.
const WINDOW_BITS: u8 = 15;
/// Header and trailer, and what deflate adds to the smallest input.
const MOST_ADDED: usize = 64;

/// A deflate state with its level.
#[derive(Debug, Default)]
pub(super) struct Compressor(Option<(u32, Compress)>);

impl Compressor {
    pub(super) fn compress(
        &mut self,
        level: i32,
        input: Input<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        // At level 1 half of all bytes that do not repeat take 9 bits.
        let most = input.total.saturating_add(input.total / 7 + MOST_ADDED);
        reserve(CODEC, out, most.min(input.limit))?;
        let state = self.state(level)?;
        let (last, pieces) = match input.pieces.split_last() {
            Some((last, pieces)) => (*last, pieces),
            None => (&[][..], input.pieces),
        };
        for piece in pieces {
            if !feed(state, piece, out, FlushCompress::None)? {
                return Ok(false);
            }
        }
        feed(state, last, out, FlushCompress::Finish)
    }

    fn state(&mut self, level: i32) -> Result<&mut Compress> {
        let level = u32::try_from(level).unwrap_or(DEFAULT_LEVEL);
        let (current, state) = self.0.get_or_insert_with(|| {
            (level, Compress::new_gzip(flate2::Compression::new(level), WINDOW_BITS))
        });
        state.reset();
        if *current != level {
            let set = state.set_level(flate2::Compression::new(level));
            set.map_err(|error| failed(CODEC, error))?;
            *current = level;
        }
        Ok(state)
    }
}

/// Compresses a piece; false if there is no room left.
fn feed(
    state: &mut Compress,
    piece: &[u8],
    out: &mut Vec<u8>,
    flush: FlushCompress,
) -> Result<bool> {
    let before = state.total_in();
    let status = state.compress_vec(piece, out, flush).map_err(|error| failed(CODEC, error))?;
    let taken = state.total_in() - before;
    if flush == FlushCompress::Finish {
        return Ok(status == Status::StreamEnd);
    }
    Ok(usize::try_from(taken) == Ok(piece.len()))
}

pub(super) fn decompress(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    /// What is read at once, at least.
    const LEAST: usize = 4096;
    let mut reader = MultiGzDecoder::new(input);
    loop {
        let filled = out.len();
        if filled == limit {
            let mut one_more = [0];
            return match reader.read(&mut one_more) {
                Ok(0) => Ok(()),
                Ok(_) => Err(above_limit(CODEC, limit)),
                Err(error) => Err(malformed(CODEC, error)),
            };
        }
        let more = filled.max(LEAST).max(input.len()).min(limit - filled);
        reserve(CODEC, out, more)?;
        out.resize(filled + more, 0);
        let read = reader.read(out.get_mut(filled..).unwrap_or_default());
        let read = read.map_err(|error| malformed(CODEC, error))?;
        out.truncate(filled + read);
        if read == 0 {
            return Ok(());
        }
    }
}
