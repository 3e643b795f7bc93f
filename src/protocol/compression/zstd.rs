//! Zstandard: one frame, with its content's size. What is read may have several and none of their
//! sizes, as Java's stream writes it.

use super::{Codec, Input, above_limit, failed, malformed, reserve};
use crate::error::Result;
use zstd_safe::zstd_sys::{ZSTD_EndDirective, ZSTD_ErrorCode};
use zstd_safe::{
    CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective, compress_bound, get_error_name,
    get_frame_content_size, is_error_kind,
};

const CODEC: Codec = Codec::Zstd;

/// A context with its level.
#[derive(Default)]
pub(super) struct Compressor(Option<(i32, CCtx<'static>)>);

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    pub(super) fn compress(
        &mut self,
        level: i32,
        input: Input<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        // With room for the worst case the library writes to its place at once, without a buffer
        // between.
        reserve(CODEC, out, compress_bound(input.total))?;
        let context = self.context(level, input.total)?;
        let mut out = OutBuffer::around(out);
        let (last, pieces) = match input.pieces.split_last() {
            Some((last, pieces)) => (*last, pieces),
            None => (&[][..], input.pieces),
        };
        for piece in pieces {
            feed(context, piece, &mut out, ZSTD_EndDirective::ZSTD_e_continue)?;
        }
        feed(context, last, &mut out, ZSTD_EndDirective::ZSTD_e_end)?;
        Ok(true)
    }

    fn context(&mut self, level: i32, total: usize) -> Result<&mut CCtx<'static>> {
        if self.0.is_none() {
            let mut context =
                CCtx::try_create().ok_or_else(|| failed(CODEC, "no memory for a context"))?;
            check(context.set_parameter(CParameter::CompressionLevel(level)))?;
            self.0 = Some((level, context));
        }
        let (current, context) = self.0.as_mut().ok_or_else(|| failed(CODEC, "no context"))?;
        check(context.reset(ResetDirective::SessionOnly))?;
        if *current != level {
            check(context.set_parameter(CParameter::CompressionLevel(level)))?;
            *current = level;
        }
        // The tables and the window are sized for what there is.
        check(context.set_pledged_src_size(u64::try_from(total).ok()))?;
        Ok(context)
    }
}

/// Compresses a piece; with the last one the frame ends.
fn feed(
    context: &mut CCtx<'static>,
    piece: &[u8],
    out: &mut OutBuffer<'_, Vec<u8>>,
    end: ZSTD_EndDirective,
) -> Result<()> {
    let mut piece = InBuffer::around(piece);
    loop {
        let left = check(context.compress_stream2(out, &mut piece, end))?;
        let done = match end {
            ZSTD_EndDirective::ZSTD_e_end => left == 0,
            ZSTD_EndDirective::ZSTD_e_continue | ZSTD_EndDirective::ZSTD_e_flush => {
                piece.pos() == piece.src.len()
            }
        };
        if done {
            return Ok(());
        }
        if out.pos() == out.capacity() {
            return Err(failed(CODEC, "the result is larger than its bound"));
        }
    }
}

fn check(result: zstd_safe::SafeResult) -> Result<usize> {
    result.map_err(|code| failed(CODEC, get_error_name(code)))
}

pub(super) fn decompress(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    /// What a result without a size is assumed to have per byte, at first.
    const USUAL_EXPANSION: usize = 8;
    const LEAST: usize = 1024;
    let claimed = get_frame_content_size(input).map_err(|_| malformed(CODEC, "no frame"))?;
    let mut room = match claimed.map(usize::try_from) {
        Some(Ok(size)) if size <= limit => size,
        Some(_) => return Err(above_limit(CODEC, limit)),
        None => input.len().saturating_mul(USUAL_EXPANSION).max(LEAST).min(limit),
    };
    let mut context =
        DCtx::try_create().ok_or_else(|| malformed(CODEC, "no memory for a context"))?;
    // All at once, into the room there is: a stream would reserve the window that the frame
    // claims to need. Twice the room for each further attempt keeps the work within twice as much.
    loop {
        out.clear();
        reserve(CODEC, out, room)?;
        match context.decompress(out, input) {
            Ok(_) => return Ok(()),
            Err(code) if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) => {
                if room == limit {
                    return Err(above_limit(CODEC, limit));
                }
                room = room.saturating_mul(2).max(LEAST).min(limit);
            }
            Err(code) => return Err(malformed(CODEC, get_error_name(code))),
        }
    }
}
