//! Every request, in every version: what the embedded cluster is sent.

#![no_main]

use kafka_producer_fuzz::{Side, read_message};

libfuzzer_sys::fuzz_target!(|input: &[u8]| read_message(Side::Request, input));
