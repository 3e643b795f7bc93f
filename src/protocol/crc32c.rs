//! CRC-32C (Castagnoli): of bytes, by the `crc32c` crate; and of two parts put together, by
//! arithmetic.
//!
//! A batch's checksum covers 40 header bytes that are known only when the batch leaves, and records
//! that may have been ready long before. So the records' CRC is taken once, together with the
//! factor that moves another CRC in front of that many bytes; stamping is then one multiplication
//! in GF(2)\[x\] modulo the polynomial.
//!
//! Polynomials are reflected as the CRC is: bit 31 of a `u32` stands for x^0, bit 0 for x^31.

/// The polynomial, reflected, without its x^32.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The CRC of some bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}

/// The CRC of bytes whose first part has this CRC and whose rest is `more`.
pub fn append(crc: u32, more: &[u8]) -> u32 {
    ::crc32c::crc32c_append(crc, more)
}

/// What moves a CRC in front of a number of bytes: x^(8n) modulo the polynomial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShiftFactor(u32);

impl ShiftFactor {
    /// The factor for `len` bytes. One multiplication per set bit of `len`: keep it beside the CRC
    /// of those bytes.
    pub fn for_len(len: usize) -> ShiftFactor {
        let mut factor = ONE;
        let mut bits = len;
        for power in POWERS {
            if bits & 1 == 1 {
                factor = multiply(factor, power);
            }
            bits >>= 1;
            if bits == 0 {
                break;
            }
        }
        ShiftFactor(factor)
    }
}

/// The CRC of two parts, from the CRC of the first, the factor for the second's length, and the
/// second's CRC.
pub fn combine(first: u32, factor: ShiftFactor, second: u32) -> u32 {
    multiply(first, factor.0) ^ second
}

/// x^0.
const ONE: u32 = 1 << 31;

/// x^(8 * 2^k) at k: the factor for 2^k bytes.
const POWERS: [u32; usize::BITS as usize] = powers();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn powers() -> [u32; usize::BITS as usize] {
    let mut powers = [0; usize::BITS as usize];
    let mut power = ONE >> 8;
    let mut k = 0;
    while k < powers.len() {
        powers[k] = power;
        power = multiply(power, power);
        k += 1;
    }
    powers
}

/// The product modulo the polynomial.
const fn multiply(a: u32, b: u32) -> u32 {
    // The product's bit k stands for x^(62-k); one to the left, the upper half is x^31..x^0 as in
    // any CRC, and the lower half the same times x^32.
    let product = carryless_product(a, b) << 1;
    let [h0, h1, h2, h3, l0, l1, l2, l3] = product.to_be_bytes();
    u32::from_be_bytes([h0, h1, h2, h3]) ^ times_x32(u32::from_be_bytes([l0, l1, l2, l3]))
}

/// The product over GF(2), not reduced. Each factor is cut into four with three zeros between two
/// bits; then a plain multiplication adds at most 8 ones per bit, which fits into the zeros, and
/// the lowest bit of each sum is the XOR. That needs no branch, no table and no special
/// instruction.
const fn carryless_product(a: u32, b: u32) -> u64 {
    const EVERY_FOURTH: u64 = 0x1111_1111_1111_1111;
    const fn every_fourth(of: u32, from: u32) -> u64 {
        (of & (0x1111_1111 << from)) as u64
    }
    let (a0, a1, a2, a3) =
        (every_fourth(a, 0), every_fourth(a, 1), every_fourth(a, 2), every_fourth(a, 3));
    let (b0, b1, b2, b3) =
        (every_fourth(b, 0), every_fourth(b, 1), every_fourth(b, 2), every_fourth(b, 3));
    let c0 = (a0 * b0) ^ (a1 * b3) ^ (a2 * b2) ^ (a3 * b1);
    let c1 = (a0 * b1) ^ (a1 * b0) ^ (a2 * b3) ^ (a3 * b2);
    let c2 = (a0 * b2) ^ (a1 * b1) ^ (a2 * b0) ^ (a3 * b3);
    let c3 = (a0 * b3) ^ (a1 * b2) ^ (a2 * b1) ^ (a3 * b0);
    (c0 & EVERY_FOURTH)
        | (c1 & (EVERY_FOURTH << 1))
        | (c2 & (EVERY_FOURTH << 2))
        | (c3 & (EVERY_FOURTH << 3))
}

/// Times x^32 modulo the polynomial: what appending four zero bytes does to a CRC register.
#[expect(clippy::indexing_slicing, reason = "a nibble is below 16")]
const fn times_x32(value: u32) -> u32 {
    let mut result = 0;
    let mut nibble = 0;
    while nibble < NIBBLES.len() {
        result ^= NIBBLES[nibble][(value >> (4 * nibble)) as usize & 15];
        nibble += 1;
    }
    result
}

/// At \[i\]\[n\]: the nibble n, as the i-th from the right, times x^32 modulo the polynomial.
const NIBBLES: [[u32; 16]; 8] = nibbles();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn nibbles() -> [[u32; 16]; 8] {
    let mut table = [[0; 16]; 8];
    let mut i = 0;
    while i < 8 {
        let mut n = 0_u32;
        while n < 16 {
            let mut value = n << (4 * i);
            let mut step = 0;
            while step < 32 {
                value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
                step += 1;
            }
            table[i][n as usize] = value;
            n += 1;
        }
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_sums() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b"Some String"), 608_512_271);
        assert_eq!(crc32c(b""), 0);
        assert_eq!(append(crc32c(b"1234"), b"56789"), 0xe306_9283);
    }

    #[test]
    fn one_is_neutral() {
        for value in [0, 1, ONE, u32::MAX, 0xdead_beef] {
            assert_eq!(multiply(value, ONE), value);
            assert_eq!(multiply(ONE, value), value);
        }
        assert_eq!(ShiftFactor::for_len(0), ShiftFactor(ONE));
    }

    #[test]
    fn combine_is_the_crc_of_both_parts() {
        let bytes: Vec<u8> =
            (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let head = &bytes[..40];
        let lengths = (0..600).chain([1023, 1024, 4096, 16_383, 65_536, 131_072, 262_145, 299_960]);
        for len in lengths {
            let body = &bytes[40..40 + len];
            let combined = combine(crc32c(head), ShiftFactor::for_len(len), crc32c(body));
            assert_eq!(combined, crc32c(&bytes[..40 + len]), "{len} bytes");
        }
    }

    /// Schoolbook: a bit at a time, reduced at each step.
    fn multiply_slowly(a: u32, mut b: u32) -> u32 {
        let mut product = 0;
        for bit in (0..32).rev() {
            if a >> bit & 1 == 1 {
                product ^= b;
            }
            b = if b & 1 == 1 { b >> 1 ^ POLYNOMIAL } else { b >> 1 };
        }
        product
    }

    proptest! {
        #[test]
        fn multiplies_as_the_schoolbook_does(a: u32, b: u32) {
            prop_assert_eq!(multiply(a, b), multiply_slowly(a, b));
        }

        #[test]
        fn combines_any_split(
            bytes in proptest::collection::vec(any::<u8>(), 0..5000),
            at: prop::sample::Index,
        ) {
            let at = if bytes.is_empty() { 0 } else { at.index(bytes.len()) };
            let (first, second) = bytes.split_at(at);
            let factor = ShiftFactor::for_len(second.len());
            prop_assert_eq!(combine(crc32c(first), factor, crc32c(second)), crc32c(&bytes));
        }

        /// A CRC in front of zeros needs no bytes to compare: lengths that nobody wants to sum up.
        #[test]
        fn factors_add_up(a in 0_usize..1 << 40, b in 0_usize..1 << 40) {
            let product = multiply(ShiftFactor::for_len(a).0, ShiftFactor::for_len(b).0);
            prop_assert_eq!(product, ShiftFactor::for_len(a + b).0);
        }
    }
}
