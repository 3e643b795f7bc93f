//! LZ4: one frame, as Kafka wants them. Version 1, blocks that stand for themselves; ours have up
//! to 64 KiB and no checksums, as Java writes them, so that the header is the same for all. What is
//! read may have blocks of any size, and checksums and a content size, which are then checked.

use super::blocks::each_block;
use super::{Codec, Input, above_limit, failed, malformed, reserve};
use crate::error::Result;
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};
use std::hash::Hasher;
use twox_hash::XxHash32;

const CODEC: Codec = Codec::Lz4;
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Magic; version 1 and independent blocks; blocks of up to 64 KiB; the checksum of those two.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const BLOCK: usize = 64 << 10;
/// A block of no bytes ends a frame.
const END: [u8; 4] = [0; 4];
/// A block's length has this bit if the block is not compressed.
const AS_IT_IS: u32 = 1 << 31;
/// A byte of a block stands for at most 255 of the result.
const MOST_EXPANSION: usize = 255;

#[derive(Default)]
pub(super) struct Compressor {
    table: Option<CompressTable>,
    /// Input that straddles two pieces.
    straddling: Vec<u8>,
    /// One block compressed.
    block: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    pub(super) fn compress(&mut self, input: Input<'_>, out: &mut Vec<u8>) -> Result<bool> {
        let Compressor { table, straddling, block: compressed } = self;
        let table = table.get_or_insert_with(CompressTable::large);
        reserve(CODEC, out, input.total.min(input.limit))?;
        out.extend_from_slice(&HEADER);
        let fits = each_block(input, BLOCK, straddling, |block| {
            let most = get_maximum_output_size(block.len());
            compressed.resize(compressed.len().max(most), 0);
            let length = compress_into_with_table(block, compressed, table)
                .map_err(|error| failed(CODEC, error))?;
            let (flag, bytes) = if length < block.len() {
                (0, compressed.get(..length).unwrap_or_default())
            } else {
                (AS_IT_IS, block)
            };
            let length = u32::try_from(bytes.len()).map_err(|error| failed(CODEC, error))?;
            out.extend_from_slice(&(length | flag).to_le_bytes());
            out.extend_from_slice(bytes);
            Ok(out.len() < input.limit)
        })?;
        out.extend_from_slice(&END);
        Ok(fits)
    }
}

/// What is in front of a frame's blocks.
struct Frame {
    block_max: usize,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
}

/// What is left of the input.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize, part: &str) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(count) else {
            let left = self.0.len();
            let what = format_args!("a frame that has {left} bytes left for {part} of {count}");
            return Err(malformed(CODEC, what));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, part: &str) -> Result<[u8; N]> {
        let bytes = self.take(N, part)?;
        bytes.try_into().map_err(|error| malformed(CODEC, error))
    }

    fn u32(&mut self, part: &str) -> Result<u32> {
        self.array(part).map(u32::from_le_bytes)
    }
}

impl Frame {
    fn read(input: &mut Bytes<'_>) -> Result<Frame> {
        const INDEPENDENT: u8 = 1 << 5;
        const BLOCK_CHECKSUMS: u8 = 1 << 4;
        const CONTENT_SIZE: u8 = 1 << 3;
        const CONTENT_CHECKSUM: u8 = 1 << 2;
        if input.take(MAGIC.len(), "a magic")? != MAGIC {
            return Err(malformed(CODEC, "no frame: the magic is not there"));
        }
        let described = input.0;
        let [flags, sizes] = input.array("a header")?;
        if flags >> 6 != 1 || flags & 0b11 != 0 || sizes & 0b1000_1111 != 0 {
            let what = format_args!("a frame with the flags {flags:#04x} {sizes:#04x}");
            return Err(malformed(CODEC, what));
        }
        if flags & INDEPENDENT == 0 {
            return Err(malformed(CODEC, "a frame whose blocks depend on each other"));
        }
        let block_max = match sizes >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            code => return Err(malformed(CODEC, format_args!("blocks of the size code {code}"))),
        };
        let content_size = if flags & CONTENT_SIZE == 0 {
            None
        } else {
            Some(u64::from_le_bytes(input.array("a content size")?))
        };
        let described = described.get(..described.len() - input.0.len()).unwrap_or_default();
        let [_, byte, ..] = XxHash32::oneshot(0, described).to_le_bytes();
        let [checksum] = input.array("a header's checksum")?;
        if byte != checksum {
            let what = format_args!("a header's checksum of {checksum:#04x}, not {byte:#04x}");
            return Err(malformed(CODEC, what));
        }
        let block_checksums = flags & BLOCK_CHECKSUMS != 0;
        let content_checksum = flags & CONTENT_CHECKSUM != 0;
        Ok(Frame { block_max, block_checksums, content_checksum, content_size })
    }
}

pub(super) fn decompress(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    let mut input = Bytes(input);
    let frame = Frame::read(&mut input)?;
    let mut content = XxHash32::with_seed(0);
    loop {
        let word = input.u32("a block's length")?;
        if word == 0 {
            break;
        }
        let length = usize::try_from(word & !AS_IT_IS).unwrap_or(usize::MAX);
        if length > frame.block_max {
            let what = format_args!("a block of {length} bytes, above {}", frame.block_max);
            return Err(malformed(CODEC, what));
        }
        let block = input.take(length, "a block")?;
        if frame.block_checksums && input.u32("a checksum")? != XxHash32::oneshot(0, block) {
            return Err(malformed(CODEC, "a block that doesn't match its checksum"));
        }
        let before = out.len();
        if word & AS_IT_IS == 0 {
            expand(block, &frame, limit, out)?;
        } else if block.len() > limit - before {
            return Err(above_limit(CODEC, limit));
        } else {
            reserve(CODEC, out, block.len())?;
            out.extend_from_slice(block);
        }
        if frame.content_checksum {
            content.write(out.get(before..).unwrap_or_default());
        }
    }
    if frame.content_checksum && input.u32("a checksum")? != content.finish_32() {
        return Err(malformed(CODEC, "content that doesn't match its checksum"));
    }
    if let Some(size) = frame.content_size.filter(|size| u64::try_from(out.len()) != Ok(*size)) {
        let what = format_args!("{} bytes of content instead of {size}", out.len());
        return Err(malformed(CODEC, what));
    }
    if !input.0.is_empty() {
        return Err(malformed(CODEC, format_args!("{} bytes behind the frame", input.0.len())));
    }
    Ok(())
}

/// Appends what one block holds.
fn expand(block: &[u8], frame: &Frame, limit: usize, out: &mut Vec<u8>) -> Result<()> {
    let before = out.len();
    // Not more than the block can hold: many small blocks would cost the clearing of many large
    // ones.
    let most = frame.block_max.min(block.len().saturating_mul(MOST_EXPANSION));
    let room = most.min(limit - before);
    reserve(CODEC, out, room)?;
    out.resize(before + room, 0);
    match decompress_into(block, out.get_mut(before..).unwrap_or_default()) {
        Ok(written) => {
            out.truncate(before + written);
            Ok(())
        }
        Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if room < most => {
            Err(above_limit(CODEC, limit))
        }
        Err(error) => Err(malformed(CODEC, error)),
    }
}
