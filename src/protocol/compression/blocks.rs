//! Cutting pieces into blocks: what codecs that compress block by block take, however the records
//! lie in memory. Copies only what straddles two pieces.

use super::Input;
use crate::error::Result;

/// Hands over the bytes of the pieces in blocks of `size` bytes, the last one shorter. `take` ends
/// it by `false`, which is then the result.
pub(super) fn each_block(
    input: Input<'_>,
    size: usize,
    straddling: &mut Vec<u8>,
    mut take: impl FnMut(&[u8]) -> Result<bool>,
) -> Result<bool> {
    let mut left = input.total;
    straddling.clear();
    for piece in input.pieces {
        let mut piece = *piece;
        while !piece.is_empty() {
            let block = size.min(left);
            if straddling.is_empty() && piece.len() >= block {
                let (whole, rest) = piece.split_at(block);
                if !take(whole)? {
                    return Ok(false);
                }
                left -= block;
                piece = rest;
                continue;
            }
            let (head, rest) = piece.split_at(piece.len().min(block - straddling.len()));
            straddling.extend_from_slice(head);
            piece = rest;
            if straddling.len() == block {
                if !take(straddling)? {
                    return Ok(false);
                }
                left -= block;
                straddling.clear();
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(pieces: &[&[u8]], size: usize) -> Vec<Vec<u8>> {
        let total = pieces.iter().map(|piece| piece.len()).sum();
        let input = Input { pieces, total, limit: usize::MAX };
        let mut out = Vec::new();
        let whole = each_block(input, size, &mut Vec::new(), |block| {
            out.push(block.to_vec());
            Ok(true)
        });
        assert_eq!(whole, Ok(true));
        out
    }

    #[test]
    fn blocks_do_not_depend_on_where_pieces_end() {
        let bytes: Vec<u8> = (0..23).collect();
        for size in [1, 4, 5, 22, 23, 24] {
            let expected: Vec<Vec<u8>> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(blocks(&pieces, size), expected, "{size}, {first}, {second}");
                }
            }
        }
        assert!(blocks(&[], 4).is_empty());
        assert!(blocks(&[&[], &[]], 4).is_empty());
    }

    #[test]
    fn a_block_within_a_piece_is_not_copied() {
        let bytes: Vec<u8> = (0..10).collect();
        let input = Input { pieces: &[&bytes[..8], &bytes[8..]], total: 10, limit: usize::MAX };
        let mut at = Vec::new();
        let whole = each_block(input, 4, &mut Vec::new(), |block| {
            at.push(block.as_ptr());
            Ok(true)
        });
        assert_eq!((whole, at), (Ok(true), [0, 4, 8].map(|i| bytes[i..].as_ptr()).to_vec()));
    }

    #[test]
    fn whoever_takes_them_may_end_it() {
        let mut count = 0;
        let input = Input { pieces: &[b"abc", b"def"], total: 6, limit: usize::MAX };
        let whole = each_block(input, 2, &mut Vec::new(), |_| {
            count += 1;
            Ok(count < 2)
        });
        assert_eq!((whole, count), (Ok(false), 2));
    }
}
