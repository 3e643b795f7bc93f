//! Compressed blocks: the first byte names the codec. What is read stays within the limit, as does
//! the memory for it, and comes back if it is compressed.

#![no_main]

use kafka_producer::protocol::compression::{
    Codec, Compression, Compressor, SnappyFraming, decompress,
};
use kafka_producer_fuzz::counting_allocator::reserved_by;

const LIMIT: usize = 1 << 16;
/// What the state of a codec takes, whatever it reads.
const STATE: usize = 1 << 17;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let [choice, block @ ..] = input else { return };
    let ways = match choice % 4 {
        0 => vec![Compression::Gzip { level: 1 }, Compression::Gzip { level: -1 }],
        1 => [SnappyFraming::Raw, SnappyFraming::Xerial]
            .map(|framing| Compression::Snappy { framing })
            .to_vec(),
        2 => vec![Compression::Lz4],
        _ => vec![Compression::Zstd { level: 3 }],
    };
    let codec = ways[0].codec();
    let mut plain = Vec::new();
    let (read, reserved) = reserved_by(|| decompress(codec, block, LIMIT, &mut plain));
    // Room that turned out too small is reserved anew, twice as large.
    assert!(reserved <= 3 * LIMIT + 4 * block.len() + STATE, "{codec}: {reserved} bytes reserved");
    assert!(plain.capacity() <= LIMIT.max(8), "{codec}");
    if read.is_err() {
        assert!(plain.is_empty(), "{codec}");
        return;
    }
    for how in ways {
        let (first, second) = plain.split_at(plain.len() / 2);
        let mut block = Vec::new();
        let fits = Compressor::new().compress(how, &[first, second], usize::MAX, &mut block);
        assert_eq!(fits, Ok(true), "{how:?}");
        let mut again = Vec::new();
        assert_eq!(decompress(codec, &block, plain.len(), &mut again), Ok(()), "{how:?}");
        assert!(again == plain, "{how:?}");
    }
    let mut copy = Vec::new();
    assert_eq!(decompress(Codec::None, &plain, plain.len(), &mut copy), Ok(()));
    assert!(copy == plain);
});
