//! How batches are compressed: the choice of a codec with its settings, by default and for topics
//! (KIP-390). What the codecs do is `protocol::compression`.

/// How the batches of a topic are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// They are not.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip {
        /// 1, fast, to 9, small; -1: zlib's default, 6.
        level: i32,
    },
    /// Snappy.
    Snappy {
        /// What is around the compressed bytes.
        framing: SnappyFraming,
    },
    /// LZ4 frames. There is one level, the fast one.
    Lz4,
    /// Zstandard.
    Zstd {
        /// -131072, fast, to 22, small.
        level: i32,
    },
}

/// What is around the bytes that Snappy compresses. Every reader in use takes both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnappyFraming {
    /// Nothing: one block, as librdkafka and franz-go write it.
    #[default]
    Raw,
    /// The stream of snappy-java, blocks of 32 KiB behind a header, as Kafka's Java client writes
    /// it.
    Xerial,
}

/// The codecs by their names in Kafka's configuration.
pub static CODECS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];

/// Whether a codec is in this build, or what to do about it.
pub fn built_in(codec: &str) -> Result<(), String> {
    let features = [
        ("gzip", cfg!(feature = "gzip")),
        ("snappy", cfg!(feature = "snappy")),
        ("lz4", cfg!(feature = "lz4")),
        ("zstd", cfg!(feature = "zstd")),
    ];
    if !features.contains(&(codec, false)) {
        return Ok(());
    }
    Err(format!("names a codec that is not in this build: build the library with {codec}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProducerConfig;

    /// A build without a codec refuses it, whatever is built here.
    #[test]
    fn a_codec_that_is_not_built_in_is_refused() {
        for codec in CODECS {
            let left_out = [
                ("gzip", !cfg!(feature = "gzip")),
                ("snappy", !cfg!(feature = "snappy")),
                ("lz4", !cfg!(feature = "lz4")),
                ("zstd", !cfg!(feature = "zstd")),
            ];
            let built_in = !left_out.contains(&(*codec, true));
            let set = ProducerConfig::new().set("topic.a.compression.type", codec);
            let expected = if built_in {
                Ok(())
            } else {
                Err(format!(
                    "topic.a.compression.type=\"{codec}\": the value names a codec that is not in \
                     this build: build the library with {codec}"
                ))
            };
            assert_eq!(set.map_err(|error| error.message.into_owned()), expected);
        }
    }
}
