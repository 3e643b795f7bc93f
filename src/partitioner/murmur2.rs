//! The 32-bit murmur2 variant of Kafka's Java client, so that a key lies in the same partition
//! whoever wrote it.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// The hash of `bytes`. Unsigned: Java's signed value is the same bits.
pub fn murmur2(bytes: &[u8]) -> u32 {
    // Java's lengths are i32, so both truncate alike.
    #[expect(clippy::cast_possible_truncation, reason = "as in Java, a length counts modulo 2^32")]
    let mut hash = SEED ^ bytes.len() as u32;
    let mut blocks = bytes.chunks_exact(4);
    for block in &mut blocks {
        let mut k = block.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        k = k.wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = blocks.remainder();
    if !tail.is_empty() {
        hash ^= tail.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partitioner::partition_for_key;

    /// (key, hash, partition of 7, partition of 17): Kafka's UtilsTest and librdkafka's unit tests.
    const VECTORS: [(&str, u32, i32, i32); 13] = [
        ("21", 0xc5f2_f8ec, 3, 13),
        ("foobar", 0xd0e4_7bbe, 0, 9),
        ("a-little-bit-long-string", 0xc53b_1da0, 1, 11),
        ("a-little-bit-longer-string", 0xa768_c9c3, 0, 12),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 0xfc7d_49cd, 3, 0),
        ("abc", 0x1c94_221b, 4, 16),
        ("kafka", 0xd067_cf64, 3, 14),
        ("1234", 0x9fc9_7b14, 0, 1),
        ("234", 0xe7c0_09ca, 4, 13),
        ("34", 0x8739_30da, 6, 7),
        ("4", 0x5a4b_5ca1, 6, 10),
        ("PreAmbleWillBeRemoved,ThePrePartThatIs", 0x7842_4f1c, 1, 4),
        ("", 0x106e_08d9, 2, 11),
    ];

    #[test]
    fn kafka_vectors() {
        for (key, hash, of_7, of_17) in VECTORS {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
            assert_eq!(partition_for_key(key.as_bytes(), 7), of_7, "{key}");
            assert_eq!(partition_for_key(key.as_bytes(), 17), of_17, "{key}");
        }
    }

    #[test]
    fn bytes_above_127_are_unsigned() {
        // Recomputed from the definition; a signed byte would spread its sign over the word.
        assert_eq!(murmur2(&[0xff]), reference(&[0xff]));
        assert_eq!(murmur2(&[0x80, 0xff, 0xfe]), reference(&[0x80, 0xff, 0xfe]));
        assert_eq!(murmur2(&[0xff; 9]), reference(&[0xff; 9]));
    }

    /// The definition, spelt out byte by byte.
    fn reference(bytes: &[u8]) -> u32 {
        let mut hash = SEED ^ bytes.len() as u32;
        let whole = bytes.len() / 4 * 4;
        for at in (0..whole).step_by(4) {
            let mut k = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()).wrapping_mul(M);
            k = (k ^ (k >> 24)).wrapping_mul(M);
            hash = hash.wrapping_mul(M) ^ k;
        }
        let tail = &bytes[whole..];
        if tail.len() == 3 {
            hash ^= u32::from(tail[2]) << 16;
        }
        if tail.len() >= 2 {
            hash ^= u32::from(tail[1]) << 8;
        }
        if !tail.is_empty() {
            hash = (hash ^ u32::from(tail[0])).wrapping_mul(M);
        }
        hash = (hash ^ (hash >> 13)).wrapping_mul(M);
        hash ^ (hash >> 15)
    }
}
