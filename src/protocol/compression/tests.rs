//! The codecs: what goes in comes out, whatever it is made of; what others write is read; what
//! nobody writes is refused within the limit.

use super::*;
use crate::config::compression::built_in;
use proptest::prelude::*;

fn is_built_in(codec: Codec) -> bool {
    built_in(codec.name()).is_ok()
}

/// Each codec that is built in with its lowest, usual and highest level, and each framing.
fn choices() -> Vec<Compression> {
    let gzip = [-1, 1, 2, 6, 9].map(|level| Compression::Gzip { level });
    let zstd = [-131_072, -5, 1, 3, 19, 22].map(|level| Compression::Zstd { level });
    let snappy =
        [SnappyFraming::Raw, SnappyFraming::Xerial].map(|framing| Compression::Snappy { framing });
    let mut all = [&gzip[..], &snappy, &[Compression::Lz4], &zstd].concat();
    all.retain(|how| is_built_in(how.codec()));
    all
}

/// Text that repeats itself in part.
fn text(length: usize) -> Vec<u8> {
    let mut seed = 7_u64;
    let mut text = Vec::with_capacity(length + 32);
    while text.len() < length {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(format!("{{\"id\":{},\"name\":\"abc\"}}", seed >> 40).as_bytes());
    }
    text.truncate(length);
    text
}

/// Bytes that no codec makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(length as u64);
    (0..length).map(|_| rng.u8(..)).collect()
}

fn compressed(how: Compression, pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![1, 2, 3];
    let fits = Compressor::new().compress(how, pieces, usize::MAX, &mut out);
    assert_eq!(fits, Ok(true), "{how:?}");
    out
}

fn plain(codec: Codec, input: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut out = vec![1, 2, 3];
    let result = decompress(codec, input, limit, &mut out);
    if result.is_err() {
        assert!(out.is_empty());
    }
    // What was there before may be more.
    assert!(out.capacity() <= limit.max(8), "{codec}: {} of {limit} reserved", out.capacity());
    result.map(|()| out)
}

fn refusal(codec: Codec, input: &[u8]) -> String {
    let error = plain(codec, input, 1 << 20).unwrap_err();
    assert_eq!(error.status, status::PROTOCOL);
    assert!(error.message.starts_with(codec.name()), "{error}");
    error.message.into_owned()
}

#[test]
fn bits_and_codecs() {
    for (bits, codec) in (0..).zip(Codec::ALL) {
        assert_eq!((codec.bits(), Codec::try_from(bits)), (bits, Ok(codec)));
        assert_eq!(Codec::of(bits | !attributes::CODEC), Ok(codec));
    }
    for bits in [5, 6, 7] {
        let error = Codec::of(bits).unwrap_err();
        assert_eq!(error.message, format!("a batch with the unknown codec {bits}"));
    }
    assert!(Codec::try_from(-1).is_err() && Codec::try_from(8).is_err());
    let codecs: Vec<Codec> = choices().into_iter().map(Compression::codec).collect();
    assert!(Codec::ALL[1..].iter().all(|codec| codecs.contains(codec) == is_built_in(*codec)));
    assert_eq!(Compression::default().codec(), Codec::None);
}

/// 100,000 bytes, compressed, which begin like this.
fn begins(how: Compression, head: &[u8]) -> Vec<u8> {
    let out = compressed(how, &[&text(100_000)]);
    assert_eq!(&out[..head.len()], head, "{how:?}");
    out
}

/// RFC 1952: deflate, no flags, no time; Unix.
#[test]
#[cfg(feature = "gzip")]
fn the_bytes_in_front_of_gzip() {
    let gzip = begins(Compression::Gzip { level: -1 }, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    assert_eq!(gzip[gzip.len() - 4..], 100_000_u32.to_le_bytes());
}

#[test]
#[cfg(feature = "snappy")]
fn the_bytes_in_front_of_snappy() {
    // The length, as a varint.
    begins(Compression::Snappy { framing: SnappyFraming::Raw }, &[0xa0, 0x8d, 0x06]);
    begins(
        Compression::Snappy { framing: SnappyFraming::Xerial },
        &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1, 0],
    );
    assert_eq!(compressed(Compression::Snappy { framing: SnappyFraming::Raw }, &[]), [0]);
}

#[test]
#[cfg(feature = "lz4")]
fn the_bytes_in_front_of_lz4() {
    let lz4 = begins(Compression::Lz4, &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    assert_eq!(lz4[lz4.len() - 4..], [0; 4]);
    // Shorter than a block and longer: the length of a raw part is not in it.
    assert_eq!(
        compressed(Compression::Lz4, &[b"abc"]),
        [&lz4[..7], &[3, 0, 0, 0x80], b"abc", &[0; 4]].concat()
    );
}

/// A single segment whose size is in 4 bytes; no checksum, no dictionary.
#[test]
#[cfg(feature = "zstd")]
fn the_bytes_in_front_of_zstd() {
    begins(Compression::Zstd { level: 3 }, &[0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0xa0, 0x86, 1, 0]);
}

/// The same record in batches that Java's client wrote.
#[test]
fn blocks_that_kafka_wrote() {
    let lz4 = [
        0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82, 0x23, 0, 0, 0, 0x8f, 0xfc, 1, 0, 0, 0, 0xc8, 1,
        0x78, 1, 0, 0x50, 0xf0, 6, 0x16, b'h', b'e', b'l', b'l', b'o', b' ', b'k', b'a', b'f',
        b'k', b'a', 2, 6, b'f', b'o', b'o', 6, b'b', b'a', b'r', 0, 0, 0, 0,
    ];
    let snappy = [
        0x80, 1, 0x1c, 0xfc, 1, 0, 0, 0, 0xc8, 1, 0x78, 0xfe, 1, 0, 0x8a, 1, 0, 0x50, 0x16, b'h',
        b'e', b'l', b'l', b'o', b' ', b'k', b'a', b'f', b'k', b'a', 2, 6, b'f', b'o', b'o', 6,
        b'b', b'a', b'r',
    ];
    let zstd = [
        0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 0x1d, 1, 0, 0xe8, 0xfc, 1, 0, 0, 0, 0xc8, 1, 0x78, 0x16,
        b'h', b'e', b'l', b'l', b'o', b' ', b'k', b'a', b'f', b'k', b'a', 2, 6, b'f', b'o', b'o',
        6, b'b', b'a', b'r', 1, 0, 0x20, 5, 0x5c,
    ];
    let mut expected = vec![0xfc, 1, 0, 0, 0, 0xc8, 1];
    expected.extend([b'x'; 100]);
    expected.extend(b"\x16hello kafka\x02\x06foo\x06bar");
    let blocks = [(Codec::Lz4, &lz4[..]), (Codec::Snappy, &snappy), (Codec::Zstd, &zstd)];
    for (codec, block) in blocks.into_iter().filter(|(codec, _)| is_built_in(*codec)) {
        assert_eq!(plain(codec, block, 128).unwrap(), expected, "{codec}");
    }
}

#[test]
fn every_size_comes_back() {
    let sizes =
        [0, 1, 2, 12, 13, 17, 1000, 32_768, 32_769, 65_534, 65_535, 65_536, 65_537, 200_000];
    let mut compressor = Compressor::new();
    let mut out = Vec::new();
    for input in sizes.into_iter().flat_map(|size| [text(size), noise(size), vec![0; size]]) {
        for how in choices() {
            let (first, second) = input.split_at(input.len() / 3);
            let fits = compressor.compress(how, &[first, second], usize::MAX, &mut out);
            assert_eq!(fits, Ok(true), "{how:?}");
            let read = plain(how.codec(), &out, input.len());
            assert_eq!(read.as_ref(), Ok(&input), "{how:?}, {} bytes", input.len());
        }
    }
}

#[test]
fn what_does_not_shrink_is_given_up() {
    let mut compressor = Compressor::new();
    let mut out = vec![1];
    for how in choices() {
        let input = text(100_000);
        let length = compressed(how, &[&input]).len();
        for (limit, fits) in [(length + 1, true), (length, false), (1, false), (0, false)] {
            let result = compressor.compress(how, &[&input], limit, &mut out);
            assert_eq!((result, out.len()), (Ok(fits), if fits { length } else { 0 }), "{how:?}");
        }
        let input = noise(100_000);
        let result = compressor.compress(how, &[&input], input.len(), &mut out);
        assert_eq!((result, out.len()), (Ok(false), 0), "{how:?}");
    }
    let result = compressor.compress(Compression::None, &[b"aaaa"], usize::MAX, &mut out);
    assert_eq!((result, out.len()), (Ok(false), 0));
}

/// Levels in turn on one context give what each gives alone.
#[test]
fn kept_state_changes_nothing() {
    let mut compressor = Compressor::new();
    let mut out = Vec::new();
    let inputs = [text(70_000), noise(1000), text(100)];
    for how in choices().into_iter().chain(choices().into_iter().rev()) {
        for input in &inputs {
            compressor.compress(how, &[input], usize::MAX, &mut out).unwrap();
            assert_eq!(out, compressed(how, &[input]), "{how:?}, {} bytes", input.len());
        }
    }
}

#[test]
#[cfg(feature = "gzip")]
fn levels_of_gzip_differ() {
    let input = text(200_000);
    let block = |level| compressed(Compression::Gzip { level }, &[&input]);
    assert!(block(9).len() < block(1).len());
    assert_eq!(block(-1), block(6));
}

#[test]
#[cfg(feature = "zstd")]
fn levels_of_zstd_differ() {
    let input = text(200_000);
    let length = |level| compressed(Compression::Zstd { level }, &[&input]).len();
    assert!(length(19) < length(1) && length(1) < length(-131_072));
}

#[test]
fn the_limit_is_exact() {
    let input = text(300_000);
    for how in choices() {
        let (codec, block) = (how.codec(), compressed(how, &[&input]));
        assert!(plain(codec, &block, input.len()).is_ok());
        for limit in [input.len() - 1, 70_000, 1, 0] {
            let error = plain(codec, &block, limit).unwrap_err();
            let message = format!("{codec}: more than {limit} bytes when decompressed");
            assert_eq!(error.message, message, "{how:?}");
        }
    }
    assert_eq!(plain(Codec::None, b"abc", 3).unwrap(), b"abc");
    assert!(plain(Codec::None, b"abc", 2).is_err());
}

#[test]
fn a_cut_block_is_refused() {
    let input = text(1000);
    for how in choices() {
        let block = compressed(how, &[&input]);
        for end in 0..block.len() {
            let read = plain(how.codec(), &block[..end], 1 << 20);
            // A stream of blocks may end after any of them.
            let whole = how == Compression::Snappy { framing: SnappyFraming::Xerial } && end == 16;
            assert_eq!(read.is_ok(), whole, "{how:?}, {end} of {}", block.len());
        }
    }
}

#[test]
#[cfg(feature = "gzip")]
fn gzip_of_several_members() {
    let (first, second) = (text(50_000), noise(3));
    let how = Compression::Gzip { level: 6 };
    let members = [compressed(how, &[&first]), compressed(how, &[]), compressed(how, &[&second])];
    let block = members.concat();
    assert_eq!(plain(Codec::Gzip, &block, 50_003).unwrap(), [first, second].concat());
    assert!(plain(Codec::Gzip, &block, 50_002).is_err());
    assert!(plain(Codec::Gzip, &[&block[..], b"more"].concat(), 1 << 20).is_err());
    // The checksum, and the length.
    let end = members[0].len();
    for at in [end - 1, end - 8] {
        let mut wrong = members[0].clone();
        wrong[at] ^= 1;
        refusal(Codec::Gzip, &wrong);
    }
}

#[test]
#[cfg(feature = "zstd")]
fn zstd_of_several_frames_and_without_a_size() {
    let input = text(400_000);
    let how = Compression::Zstd { level: 3 };
    let block = [compressed(how, &[&input]), compressed(how, &[b"abc"])].concat();
    assert_eq!(plain(Codec::Zstd, &block, 1 << 20).unwrap(), [&input[..], b"abc"].concat());
    assert!(plain(Codec::Zstd, &block, 400_002).is_err());
    let mut context = zstd_safe::CCtx::create();
    let mut unsized_frame = Vec::with_capacity(400_000);
    let mut out = zstd_safe::OutBuffer::around(&mut unsized_frame);
    context.compress_stream(&mut out, &mut zstd_safe::InBuffer::around(&input)).unwrap();
    assert_eq!(context.end_stream(&mut out), Ok(0));
    assert!(matches!(zstd_safe::get_frame_content_size(&unsized_frame), Ok(None)));
    assert_eq!(plain(Codec::Zstd, &unsized_frame, 1 << 20), Ok(input));
    // More than any first guess.
    let mut zeros = Vec::with_capacity(4096);
    let mut out = zstd_safe::OutBuffer::around(&mut zeros);
    context.compress_stream(&mut out, &mut zstd_safe::InBuffer::around(&[0; 1 << 20])).unwrap();
    assert_eq!(context.end_stream(&mut out), Ok(0));
    assert_eq!(plain(Codec::Zstd, &zeros, 1 << 20), Ok(vec![0; 1 << 20]));
    assert!(plain(Codec::Zstd, &zeros, (1 << 20) - 1).is_err());
}

#[test]
#[cfg(feature = "snappy")]
fn snappy_that_lies() {
    // A length of 4 GiB - 1 in 5 bytes, and one that its bytes can't reach.
    assert!(refusal(Codec::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f]).contains("more than"));
    assert!(refusal(Codec::Snappy, &[0x80, 0x80, 0x10, 0, 0]).contains("that claims 262144"));
    assert_eq!(plain(Codec::Snappy, &[0], 0).unwrap(), b"");
    refusal(Codec::Snappy, b"");
    let stream = compressed(
        Compression::Snappy { framing: SnappyFraming::Xerial },
        &[b"some words and some words"],
    );
    for end in 8..16 {
        assert!(refusal(Codec::Snappy, &stream[..end]).contains("ends in its header"));
    }
    let mut newer = stream.clone();
    newer[15] = 2;
    assert!(refusal(Codec::Snappy, &newer).contains("a stream of the versions"));
    let mut longer = stream.clone();
    longer[16] = 0xff;
    assert!(refusal(Codec::Snappy, &longer).contains("in a stream that has"));
    // Its own version is only told; the one that can read it counts.
    let mut other = stream;
    other[11] = 9;
    assert!(plain(Codec::Snappy, &other, 100).is_ok());
}

/// A frame by the C library, with all that a frame may have.
#[cfg(feature = "lz4")]
fn their_lz4(input: &[u8], block: ::lz4::BlockSize, (blocks, content): (bool, bool)) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = ::lz4::EncoderBuilder::new();
    encoder.block_size(block).block_mode(::lz4::BlockMode::Independent).level(9);
    if blocks {
        encoder.block_checksum(::lz4::liblz4::BlockChecksum::BlockChecksumEnabled);
    }
    if content {
        encoder.content_size(input.len() as u64);
        encoder.checksum(::lz4::ContentChecksum::ChecksumEnabled);
    } else {
        encoder.checksum(::lz4::ContentChecksum::NoChecksum);
    }
    let mut encoder = encoder.build(Vec::new()).unwrap();
    encoder.write_all(input).unwrap();
    let (frame, result) = encoder.finish();
    result.unwrap();
    frame
}

#[test]
#[cfg(feature = "lz4")]
fn lz4_frames_of_the_c_library() {
    use ::lz4::BlockSize::{Max1MB, Max4MB, Max64KB, Max256KB};
    let input = [text(5_000_000), noise(100_000)].concat();
    for block in [Max64KB, Max256KB, Max1MB, Max4MB] {
        for checksums in [(false, false), (true, false), (false, true), (true, true)] {
            let frame = their_lz4(&input, block.clone(), checksums);
            let read = plain(Codec::Lz4, &frame, input.len()).unwrap();
            assert!(read == input, "{block:?}, {checksums:?}");
            let end = frame.len();
            let checked = checksums != (false, false);
            for at in [4, 5, 8, end / 2, end - 1].into_iter().filter(|_| checked) {
                let mut wrong = frame.clone();
                wrong[at] ^= 0x20;
                assert!(
                    plain(Codec::Lz4, &wrong, input.len()).is_err(),
                    "byte {at}, {checksums:?}"
                );
            }
        }
    }
    // And the other way.
    let frame = compressed(Compression::Lz4, &[&input]);
    let mut read = Vec::new();
    let mut decoder = ::lz4::Decoder::new(&frame[..]).unwrap();
    std::io::Read::read_to_end(&mut decoder, &mut read).unwrap();
    assert!(read == input);
}

#[test]
#[cfg(feature = "lz4")]
fn lz4_that_lies() {
    let frame = compressed(Compression::Lz4, &[b"some words and some words and some words"]);
    let after = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut wrong = frame.clone();
        change(&mut wrong);
        // The header's checksum is right, so that it is not what is found.
        let [_, checksum, ..] = twox_hash::XxHash32::oneshot(0, &wrong[4..6]).to_le_bytes();
        wrong[6] = checksum;
        refusal(Codec::Lz4, &wrong)
    };
    assert!(refusal(Codec::Lz4, b"words").contains("no frame"));
    assert!(after(&|f| f[4] = 0x40).contains("depend on each other"));
    for flags in [0x20, 0xa0, 0x61, 0x62] {
        assert!(after(&|f| f[4] = flags).contains("with the flags"), "{flags:#x}");
    }
    for sizes in [0x41, 0x48, 0xc0] {
        assert!(after(&|f| f[5] = sizes).contains("with the flags"), "{sizes:#x}");
    }
    for sizes in [0, 0x10, 0x30] {
        assert!(after(&|f| f[5] = sizes).contains("of the size code"), "{sizes:#x}");
    }
    assert!(after(&|f| f.push(0)).contains("1 bytes behind the frame"));
    assert!(after(&|f| f[9] = 2).contains("a block of 131"));
    assert!(after(&|f| f[8] = 1).contains("for a block of"));
    let mut wrong = frame.clone();
    wrong[6] ^= 1;
    assert!(refusal(Codec::Lz4, &wrong).contains("a header's checksum of 0x83, not 0x82"));
    // A match in front of the start.
    let wrong = [&frame[..7], &[5, 0, 0, 0, 0x10, b'a', 9, 0, 0], &[0; 4]].concat();
    refusal(Codec::Lz4, &wrong);
}

/// Codecs are others' code: a panic in one is an error, and the thread goes on.
#[test]
fn a_panic_becomes_an_error() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result: Result<()> = guarded(Codec::Zstd, || panic!("in the middle of it"));
    std::panic::set_hook(quiet);
    let error = result.unwrap_err();
    assert_eq!(error.status, status::PANIC);
    assert_eq!(error.message, "zstd: the codec has panicked, a defect in it");
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        (0..300_000_usize).prop_map(text),
        (0..100_000_usize).prop_map(noise),
        (any::<u8>(), 0..200_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn choice() -> impl Strategy<Value = Compression> {
    let any = prop_oneof![
        prop_oneof![Just(-1), 1..=9].prop_map(|level| Compression::Gzip { level }),
        Just(Compression::Snappy { framing: SnappyFraming::Raw }),
        Just(Compression::Snappy { framing: SnappyFraming::Xerial }),
        Just(Compression::Lz4),
        prop_oneof![-131_072..=12, Just(22)].prop_map(|level| Compression::Zstd { level }),
    ];
    any.prop_filter("it is built in", |how| is_built_in(how.codec()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pieces_split_anywhere_come_back(
        how in choice(),
        content in content(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(content.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut rest = &content[..];
        let mut at = 0;
        for cut in cuts {
            let (piece, behind) = rest.split_at(cut - at);
            pieces.push(piece);
            (rest, at) = (behind, cut);
        }
        pieces.push(rest);
        let block = compressed(how, &pieces);
        prop_assert_eq!(plain(how.codec(), &block, content.len()), Ok(content));
    }
}

proptest! {
    #[test]
    fn made_up_blocks_do_no_harm(
        how in choice(),
        length in 0..3000_usize,
        at in any::<prop::sample::Index>(),
        with in proptest::collection::vec(any::<u8>(), 1..5),
    ) {
        const LIMIT: usize = 4096;
        let _ = plain(how.codec(), &with, LIMIT);
        let mut block = compressed(how, &[&text(length)]);
        let at = at.index(block.len());
        block.splice(at..(at + with.len()).min(block.len()), with);
        let read = plain(how.codec(), &block, LIMIT);
        prop_assert!(read.is_err() || read.is_ok_and(|read| read.len() <= LIMIT));
    }
}
