//! What the fuzz targets share: the decoders with a valid message of every version (as the tests of
//! hostile input have them), how an input names one of them, and a bound on memory.

#[path = "../../tests/support/counting_allocator.rs"]
pub mod counting_allocator;
#[path = "../../tests/support/protocol_samples.rs"]
pub mod protocol_samples;

use std::cell::OnceCell;

use bytes::Bytes;
use protocol_samples::{Decoder, decoders};

/// Requests or responses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What a client sends, and the embedded cluster reads.
    Request,
    /// What a broker sends.
    Response,
}

impl Side {
    /// Its decoders, always in the same order.
    pub fn decoders(self) -> Vec<Decoder> {
        let suffix = match self {
            Side::Request => "_request",
            Side::Response => "_response",
        };
        decoders().into_iter().filter(|decoder| decoder.name.ends_with(suffix)).collect()
    }

    /// The input that makes a target read `body` with a decoder in a version.
    pub fn input(self, decoder: usize, version: i16, body: &[u8]) -> Vec<u8> {
        let mut input = vec![low_byte(decoder), low_byte(version)];
        input.extend_from_slice(body);
        input
    }
}

fn low_byte<T: TryInto<u8>>(value: T) -> u8 {
    value.try_into().unwrap_or(u8::MAX)
}

/// Reads a message: the first byte of the input chooses the decoder, the second the version.
/// Reading is modest in memory, and what was read comes back if it is written.
pub fn read_message(side: Side, input: &[u8]) {
    thread_local! {
        static DECODERS: [OnceCell<Vec<Decoder>>; 2] = const { [OnceCell::new(), OnceCell::new()] };
    }
    let [decoder, version, body @ ..] = input else { return };
    DECODERS.with(|cells| {
        let decoders = cells[usize::from(side == Side::Response)].get_or_init(|| side.decoders());
        let Some(decoder) = decoders.get(usize::from(*decoder)) else { return };
        let version = i16::from(*version);
        if !decoder.versions.contains(&version) {
            return;
        }
        let body = Bytes::copy_from_slice(body);
        let read = || (decoder.read)(version, &body);
        if counting_allocator::modest(&decoder.name, body.len(), read) {
            let again = (decoder.decode)(version, &body);
            assert_eq!(again, Ok(()), "{} v{version}", decoder.name);
        }
    });
}
