//! `batch.size`, `max.request.size` and `buffer.memory` against each other.

use super::*;

/// (`batch.size`, `max.request.size`, `buffer.memory`), and the keys the notes begin with.
fn sizes(keys: &[(&str, &str)]) -> ((usize, usize, usize), Vec<String>) {
    let settings = settings(keys);
    let notes = settings.notes.iter().map(|note| note.split(' ').next().unwrap().to_owned());
    let sizes = (settings.batch_size, settings.max_request_size, settings.buffer_memory);
    (sizes, notes.collect())
}

#[test]
fn a_batch_fits_a_request_and_both_fit_memory() {
    const M: usize = 1 << 20;
    let none: [&str; 0] = [];
    assert_eq!(sizes(&[("batch.size", "0")]), ((1, M, 32 * M), none.map(String::from).into()));
    let (values, notes) = sizes(&[("buffer.memory", "65536")]);
    assert_eq!(values, (65_536, 65_536, 65_536));
    assert_eq!(notes, ["max.request.size", "batch.size"]);
    let (values, notes) = sizes(&[("max.request.size", "65536")]);
    assert_eq!((values, notes), ((65_536, 65_536, 32 * M), vec!["batch.size".into()]));
    let (values, notes) = sizes(&[("batch.size", "2097152")]);
    assert_eq!((values, notes), ((2 * M, 2 * M, 32 * M), vec!["max.request.size".into()]));
    let (values, notes) = sizes(&[("batch.size", "67108864")]);
    assert_eq!(values, (64 * M, 64 * M, 64 * M));
    assert_eq!(notes, ["buffer.memory", "max.request.size"]);
    // More memory than anyone asked for is not taken; larger records are refused one by one.
    let (values, notes) = sizes(&[("max.request.size", "67108864")]);
    assert_eq!((values, notes), ((131_072, 64 * M, 32 * M), vec!["records".into()]));
    let (values, notes) = sizes(&[("max.request.size", "2147483647")]);
    assert_eq!(values.1, i32::MAX as usize - M);
    assert_eq!(notes, ["max.request.size=2147483647", "records"]);
    for (a, b) in [
        ("batch.size", "max.request.size"),
        ("batch.size", "buffer.memory"),
        ("max.request.size", "buffer.memory"),
    ] {
        assert_eq!(
            problems(&[(a, "70000"), (b, "60000")]),
            [format!("{a}=70000 is above {b}=60000: lower the first or raise the second")]
        );
    }
}
