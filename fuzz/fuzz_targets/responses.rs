//! Every response, in every version: the broker is not to be trusted.

#![no_main]

use kafka_producer_fuzz::{Side, read_message};

libfuzzer_sys::fuzz_target!(|input: &[u8]| read_message(Side::Response, input));
