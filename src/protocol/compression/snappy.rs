//! Snappy: raw blocks, or the stream of snappy-java ("xerial") around them. What is read may be
//! either; a raw block can't begin like a stream, since a copy can't come first.

use super::blocks::each_block;
use super::{Codec, Input, SnappyFraming, above_limit, failed, malformed, reserve};
use crate::error::Result;
use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

const CODEC: Codec = Codec::Snappy;
/// What begins a stream: its magic, its version and the version that can read it.
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const MAGIC_LEN: usize = 8;
/// A block of a stream, uncompressed, as snappy-java cuts them.
const XERIAL_BLOCK: usize = 32 << 10;
/// No copy of a raw block reaches further back than this: it is compressed in parts of so many
/// bytes, each on its own.
const RAW_PART: usize = 64 << 10;
/// A copy takes at least 3 bytes per 64.
const MOST_EXPANSION: usize = 22;

#[derive(Debug, Default)]
pub(super) struct Compressor {
    encoder: Option<Encoder>,
    /// Input that straddles two pieces.
    straddling: Vec<u8>,
    /// One block compressed.
    block: Vec<u8>,
}

impl Compressor {
    pub(super) fn compress(
        &mut self,
        framing: SnappyFraming,
        input: Input<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let Compressor { encoder, straddling, block: compressed } = self;
        let encoder = encoder.get_or_insert_with(Encoder::new);
        reserve(CODEC, out, input.total.min(input.limit))?;
        let mut compress = |block: &[u8], compressed: &mut Vec<u8>| {
            compressed.resize(compressed.len().max(max_compress_len(block.len())), 0);
            encoder.compress(block, compressed).map_err(|error| failed(CODEC, error))
        };
        match framing {
            SnappyFraming::Raw => {
                let Ok(total) = u32::try_from(input.total) else { return Ok(false) };
                out.extend_from_slice(Length::of(total).bytes());
                each_block(input, RAW_PART, straddling, |block| {
                    let length = compress(block, compressed)?;
                    let own = u32::try_from(block.len()).map_err(|error| failed(CODEC, error))?;
                    // A part is a block of its own, but for the length in front of it.
                    let part = compressed.get(..length).unwrap_or_default();
                    let part = part.strip_prefix(Length::of(own).bytes());
                    let part = part.ok_or_else(|| failed(CODEC, "a block without its length"))?;
                    out.extend_from_slice(part);
                    Ok(out.len() < input.limit)
                })
            }
            SnappyFraming::Xerial => {
                out.extend_from_slice(&HEADER);
                each_block(input, XERIAL_BLOCK, straddling, |block| {
                    let length = compress(block, compressed)?;
                    let prefix = u32::try_from(length).map_err(|error| failed(CODEC, error))?;
                    out.extend_from_slice(&prefix.to_be_bytes());
                    out.extend_from_slice(compressed.get(..length).unwrap_or_default());
                    Ok(out.len() < input.limit)
                })
            }
        }
    }
}

/// A length as it stands in front of a raw block: 7 bits a byte, the lowest first.
struct Length {
    bytes: [u8; 5],
    used: usize,
}

impl Length {
    fn of(mut length: u32) -> Length {
        let mut this = Length { bytes: [0; 5], used: 0 };
        for byte in &mut this.bytes {
            let [low, ..] = length.to_le_bytes();
            length >>= 7;
            this.used += 1;
            *byte = (low & 0x7f) | if length == 0 { 0 } else { 0x80 };
            if length == 0 {
                break;
            }
        }
        this
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }
}

pub(super) fn decompress(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    let magic = HEADER.get(..MAGIC_LEN).unwrap_or_default();
    let Some(behind_magic) = input.strip_prefix(magic) else {
        return block(input, limit, out);
    };
    let Some((versions, mut rest)) = behind_magic.split_at_checked(HEADER.len() - MAGIC_LEN) else {
        return Err(malformed(CODEC, "a stream that ends in its header"));
    };
    let ours = HEADER.get(MAGIC_LEN..).unwrap_or_default();
    if versions.get(4..) != ours.get(4..) {
        return Err(malformed(CODEC, format_args!("a stream of the versions {versions:?}")));
    }
    while !rest.is_empty() {
        let Some((length, behind)) = rest.split_first_chunk() else {
            return Err(malformed(CODEC, "a stream that ends in the length of a block"));
        };
        let length = u32::from_be_bytes(*length);
        let inside = usize::try_from(length).ok().and_then(|at| behind.split_at_checked(at));
        let Some((compressed, behind)) = inside else {
            let left = behind.len();
            let what = format_args!("a block of {length} bytes in a stream that has {left} left");
            return Err(malformed(CODEC, what));
        };
        block(compressed, limit, out)?;
        rest = behind;
    }
    Ok(())
}

/// Appends what one raw block holds.
fn block(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    let before = out.len();
    let length = decompress_len(input).map_err(|error| malformed(CODEC, error))?;
    if length > limit - before {
        return Err(above_limit(CODEC, limit));
    }
    if length / MOST_EXPANSION > input.len() {
        let what = format_args!("a block of {} bytes that claims {length}", input.len());
        return Err(malformed(CODEC, what));
    }
    reserve(CODEC, out, length)?;
    out.resize(before + length, 0);
    let room = out.get_mut(before..).unwrap_or_default();
    let written = Decoder::new().decompress(input, room);
    let written = written.map_err(|error| malformed(CODEC, error))?;
    out.truncate(before + written);
    Ok(())
}
