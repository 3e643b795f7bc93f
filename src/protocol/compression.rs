//! Compressing the records of a batch, and undoing it.
//!
//! A batch of format v2 has one codec, in three bits of its attributes, and what follows its header
//! is then one compressed block (KIP-98, KIP-110 for zstd). A file per codec: what Kafka wants
//! around the compressed bytes is written and read there, the compressing itself is done by
//! libraries. Codecs are features of the crate; one that is not built in gives an error.
//!
//! [`Compressor`] keeps what is dear to set up, for one thread. [`decompress`] takes bytes of
//! unknown origin: no length in them is believed beyond the caller's limit. A panic inside a
//! library becomes an error here, so that a defect in it costs a batch its compression and not a
//! thread its life.

#![cfg_attr(
    not(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
    allow(
        dead_code,
        unused_variables,
        clippy::ptr_arg,
        clippy::needless_pass_by_ref_mut,
        reason = "what only the codecs that are not in this build need"
    )
)]

mod blocks;
#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

pub use crate::config::compression::{Compression, SnappyFraming};

use super::record_batch::attributes;
use crate::error::{Error, Result, status};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What compressed a batch: the lowest bits of its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum Codec {
    /// Nothing.
    None = 0,
    /// gzip.
    Gzip = 1,
    /// Snappy.
    Snappy = 2,
    /// LZ4.
    Lz4 = 3,
    /// Zstandard; brokers take it from Produce v7 on (KIP-110).
    Zstd = 4,
}

impl Codec {
    /// All of them, in the order of their bits.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// Its bits in a batch's attributes.
    pub fn bits(self) -> i16 {
        self as i16
    }

    /// The codec of a batch with these attributes.
    pub fn of(attributes: i16) -> Result<Codec> {
        Codec::try_from(attributes & attributes::CODEC)
    }

    /// Its name in Kafka's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<i16> for Codec {
    type Error = Error;

    fn try_from(bits: i16) -> Result<Codec> {
        let found = Codec::ALL.into_iter().find(|codec| codec.bits() == bits);
        found.ok_or_else(|| {
            Error::new(status::PROTOCOL, format!("a batch with the unknown codec {bits}"))
        })
    }
}

impl Compression {
    /// The codec in the attributes of a batch that is compressed so.
    pub fn codec(self) -> Codec {
        match self {
            Compression::None => Codec::None,
            Compression::Gzip { .. } => Codec::Gzip,
            Compression::Snappy { .. } => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd { .. } => Codec::Zstd,
        }
    }
}

/// What compresses batches on one thread. The state of a codec is created when it is first used and
/// kept: setting it up costs more than compressing a small batch.
#[derive(Debug, Default)]
pub struct Compressor {
    #[cfg(feature = "gzip")]
    gzip: gzip::Compressor,
    #[cfg(feature = "snappy")]
    snappy: snappy::Compressor,
    #[cfg(feature = "lz4")]
    lz4: lz4::Compressor,
    #[cfg(feature = "zstd")]
    zstd: zstd::Compressor,
}

/// What a codec's file does, or that the codec is not in this build.
macro_rules! built_in {
    ($feature:literal, $codec:expr, $call:expr) => {{
        #[cfg(feature = $feature)]
        let result = $call;
        #[cfg(not(feature = $feature))]
        let result = Err(not_built_in($codec));
        result
    }};
}

impl Compressor {
    /// Without any state yet.
    pub fn new() -> Compressor {
        Compressor::default()
    }

    /// Compresses the pieces, in their order, as one block into `out`, which is cleared first.
    ///
    /// `Ok(false)`, and `out` is empty: the result would not be smaller than `limit`, or `how` is
    /// [`Compression::None`]. After an error `out` is empty too, and the records can still go out
    /// as they are; it names the codec and what is wrong.
    pub fn compress(
        &mut self,
        how: Compression,
        pieces: &[&[u8]],
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        out.clear();
        let total = pieces.iter().map(|piece| piece.len()).sum();
        let input = Input { pieces, total, limit };
        let fits = guarded(how.codec(), || self.run(how, input, out));
        if fits.is_err() {
            // Whatever state the codec is in, nobody compresses with it again.
            *self = Compressor::new();
        }
        let fits = fits.map(|fits| fits && out.len() < limit);
        if fits != Ok(true) {
            out.clear();
        }
        fits
    }

    fn run(&mut self, how: Compression, input: Input<'_>, out: &mut Vec<u8>) -> Result<bool> {
        match how {
            Compression::None => Ok(false),
            Compression::Gzip { level } => {
                built_in!("gzip", Codec::Gzip, self.gzip.compress(level, input, out))
            }
            Compression::Snappy { framing } => {
                built_in!("snappy", Codec::Snappy, self.snappy.compress(framing, input, out))
            }
            Compression::Lz4 => built_in!("lz4", Codec::Lz4, self.lz4.compress(input, out)),
            Compression::Zstd { level } => {
                built_in!("zstd", Codec::Zstd, self.zstd.compress(level, input, out))
            }
        }
    }
}

/// What is to be compressed.
#[derive(Debug, Clone, Copy)]
struct Input<'a> {
    pieces: &'a [&'a [u8]],
    /// How many bytes they have together.
    total: usize,
    /// What the result has to stay below. A codec may give up when it sees that it won't; the last
    /// word has `Compressor::compress`.
    limit: usize,
}

/// Decompresses one block into `out`, which is cleared first.
///
/// The result has at most `limit` bytes, and no more than that is ever reserved for it; every
/// length in `input` is checked. An error names the codec and what is wrong, and `out` is empty.
/// For [`Codec::None`] the bytes are copied.
pub fn decompress(codec: Codec, input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    let mut result = guarded(codec, || match codec {
        Codec::None if input.len() > limit => Err(above_limit(codec, limit)),
        Codec::None => {
            reserve(codec, out, input.len())?;
            out.extend_from_slice(input);
            Ok(())
        }
        Codec::Gzip => built_in!("gzip", codec, gzip::decompress(input, limit, out)),
        Codec::Snappy => built_in!("snappy", codec, snappy::decompress(input, limit, out)),
        Codec::Lz4 => built_in!("lz4", codec, lz4::decompress(input, limit, out)),
        Codec::Zstd => built_in!("zstd", codec, zstd::decompress(input, limit, out)),
    });
    if result.is_ok() && out.len() > limit {
        result = Err(above_limit(codec, limit));
    }
    if result.is_err() {
        out.clear();
    }
    result
}

/// What the call gives; an error if it panics.
fn guarded<T>(codec: Codec, call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(Error::new(status::PANIC, format!("{codec}: the codec has panicked, a defect in it")))
    })
}

/// Room for exactly so many more bytes.
fn reserve(codec: Codec, out: &mut Vec<u8>, bytes: usize) -> Result<()> {
    out.try_reserve_exact(bytes).map_err(|_| {
        Error::new(status::BUFFER_FULL, format!("{codec}: the system has no {bytes} bytes left"))
    })
}

/// Input that is not what the codec writes.
fn malformed(codec: Codec, what: impl fmt::Display) -> Error {
    Error::new(status::PROTOCOL, format!("{codec}: {what}"))
}

fn above_limit(codec: Codec, limit: usize) -> Error {
    malformed(codec, format_args!("more than {limit} bytes when decompressed"))
}

/// The library refused to compress.
fn failed(codec: Codec, why: impl fmt::Display) -> Error {
    Error::new(status::UNSUPPORTED, format!("{codec}: the codec fails to compress: {why}"))
}

#[cfg_attr(
    all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"),
    expect(dead_code, reason = "every codec is built in")
)]
fn not_built_in(codec: Codec) -> Error {
    let message =
        format!("{codec} is not in this build: build the library with its feature {codec}");
    Error::new(status::UNSUPPORTED, message)
}

#[cfg(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
#[cfg(test)]
mod tests;
