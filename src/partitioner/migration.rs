//! Key hashes of other clients, so that a key stays in its partition when a program comes over from
//! them: librdkafka's `consistent` (CRC32), `murmur2` and `fnv1a`, each with and without `_random`,
//! and Sarama's.
//!
//! What they do with records without a key differs as much as the hashes do: some hash nothing,
//! which is one partition for all of them, the others leave such records to chance. Here those
//! stick to a partition, as with the built-in partitioner.

use super::murmur2::murmur2;
use crate::config::PartitionerClass;

/// How a key becomes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    /// CRC-32 (IEEE), unsigned.
    Crc32,
    /// murmur2 without its sign bit, as Kafka takes it.
    Murmur2,
    /// FNV-1a (32 bits), as the absolute value of a signed number.
    Fnv1a,
}

/// Records that have no key, and stick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyless {
    /// None: a null key is hashed as an empty one.
    Nothing,
    /// Those whose key is null.
    Null,
    /// Those whose key is null or empty.
    NullOrEmpty,
}

/// What a client does with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash {
    hash: Hash,
    keyless: Keyless,
}

impl KeyHash {
    /// That of a class; `None` where it is not one of these.
    pub fn of(class: PartitionerClass) -> Option<KeyHash> {
        let (hash, keyless) = match class {
            PartitionerClass::Consistent => (Hash::Crc32, Keyless::Nothing),
            PartitionerClass::ConsistentRandom => (Hash::Crc32, Keyless::NullOrEmpty),
            PartitionerClass::Murmur2 => (Hash::Murmur2, Keyless::Nothing),
            PartitionerClass::Murmur2Random => (Hash::Murmur2, Keyless::Null),
            PartitionerClass::Fnv1a => (Hash::Fnv1a, Keyless::Nothing),
            PartitionerClass::Fnv1aRandom | PartitionerClass::Sarama => {
                (Hash::Fnv1a, Keyless::Null)
            }
            PartitionerClass::Builtin
            | PartitionerClass::UniformSticky
            | PartitionerClass::RoundRobin
            | PartitionerClass::Random => return None,
        };
        Some(KeyHash { hash, keyless })
    }

    /// The partition among `count` of a record with this key; `None`: it counts as one without.
    pub fn partition(self, key: Option<&[u8]>, count: usize) -> Option<i32> {
        let is_keyless = match self.keyless {
            Keyless::Nothing => false,
            Keyless::Null => key.is_none(),
            Keyless::NullOrEmpty => key.is_none_or(<[u8]>::is_empty),
        };
        if is_keyless {
            return None;
        }
        let key = key.unwrap_or_default();
        let number = match self.hash {
            Hash::Crc32 => crc32fast::hash(key),
            Hash::Murmur2 => murmur2(key) & 0x7fff_ffff,
            Hash::Fnv1a => fnv1a(key).cast_signed().unsigned_abs(),
        };
        Some(super::remainder(number, count))
    }
}

/// FNV-1a of 32 bits.
fn fnv1a(bytes: &[u8]) -> u32 {
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (key, FNV-1a as librdkafka and Sarama take it, CRC32): librdkafka's unit tests.
    const VECTORS: [(&str, u32, u32); 13] = [
        ("21", 0x730d_6814, 0xfd77_46b4),
        ("foobar", 0x4063_0698, 0x9ef6_1f95),
        ("a-little-bit-long-string", 0x225c_f7d8, 0xee71_cd62),
        ("a-little-bit-longer-string", 0x2e87_f629, 0x87bf_b12a),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 0x1731_f50e, 0xe0ab_b921),
        ("abc", 0x1a47_e90b, 0x3524_41c2),
        ("kafka", 0x0d33_c4e1, 0x5bbc_7517),
        ("1234", 0x023b_dd03, 0x9be3_e0a3),
        ("234", 0x2dea_3cd2, 0x0d71_7969),
        ("34", 0x740f_a83e, 0x9406_837a),
        ("4", 0x310c_a263, 0xf3b6_1b38),
        ("PreAmbleWillBeRemoved,ThePrePartThatIs", 0x65cb_d69c, 0xddcb_a83a),
        ("", 0x7ee3_623b, 0),
    ];

    fn of(class: PartitionerClass) -> KeyHash {
        KeyHash::of(class).unwrap()
    }

    #[test]
    fn librdkafka_s_vectors() {
        for (key, fnv, crc) in VECTORS {
            let key = key.as_bytes();
            for count in [1, 2, 7, 17, 1000, i32::MAX as usize] {
                let at = |class, key| of(class).partition(key, count);
                let expect = |number: u32| Some((number as usize % count) as i32);
                let murmur = murmur2(key) & 0x7fff_ffff;
                assert_eq!(at(PartitionerClass::Consistent, Some(key)), expect(crc));
                assert_eq!(at(PartitionerClass::Murmur2, Some(key)), expect(murmur));
                assert_eq!(at(PartitionerClass::Murmur2Random, Some(key)), expect(murmur));
                for class in [
                    PartitionerClass::Fnv1a,
                    PartitionerClass::Fnv1aRandom,
                    PartitionerClass::Sarama,
                ] {
                    assert_eq!(at(class, Some(key)), expect(fnv), "{class:?}");
                }
                if !key.is_empty() {
                    assert_eq!(at(PartitionerClass::ConsistentRandom, Some(key)), expect(crc));
                }
            }
        }
    }

    /// Sarama takes the remainder first and its absolute value then, in 32 bits with their sign:
    /// -2147483647 % 10 is -7.
    #[test]
    fn sarama_s_placement_is_the_absolute_value_of_the_remainder() {
        for hash in [0x8000_0001_u32, 0x8000_0000, 0x7fff_ffff, 0xffff_ffff, 0, 7] {
            for count in [1, 2, 3, 10, 17, 100, 1 << 30] {
                let sarama = (hash.cast_signed() % count).abs();
                let ours = super::super::remainder(
                    hash.cast_signed().unsigned_abs(),
                    count.unsigned_abs() as usize,
                );
                assert_eq!(ours, sarama, "{hash:#x} % {count}");
            }
        }
        assert_eq!((0x8000_0001_u32.cast_signed() % 10).abs(), 7);
    }

    #[test]
    fn null_and_empty_keys() {
        let stick = [
            (PartitionerClass::Consistent, false, false),
            (PartitionerClass::ConsistentRandom, true, true),
            (PartitionerClass::Murmur2, false, false),
            (PartitionerClass::Murmur2Random, true, false),
            (PartitionerClass::Fnv1a, false, false),
            (PartitionerClass::Fnv1aRandom, true, false),
            (PartitionerClass::Sarama, true, false),
        ];
        for (class, null, empty) in stick {
            let hash = of(class);
            assert_eq!(hash.partition(None, 7).is_none(), null, "{class:?}, null");
            assert_eq!(hash.partition(Some(b""), 7).is_none(), empty, "{class:?}, empty");
            if !null {
                assert_eq!(hash.partition(None, 17), hash.partition(Some(b""), 17), "{class:?}");
            }
        }
        assert_eq!(of(PartitionerClass::Consistent).partition(None, 7), Some(0));
        assert_eq!(of(PartitionerClass::Murmur2).partition(None, 17), Some(11));
        assert_eq!(of(PartitionerClass::Fnv1a).partition(None, 17), Some(0x7ee3_623b % 17));
    }
}
