//! Configuration: a line per key, `key=value`. What is accepted can be read back and be set again;
//! what is refused changes nothing; all of it is settled or refused without harm.

#![no_main]

use kafka_producer::config::ProducerConfig;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut config = ProducerConfig::new();
    for (key, value) in text.lines().map(|line| line.split_once('=').unwrap_or((line, ""))) {
        let before = config.get(key).map(str::to_owned);
        let is_set = config.set(key, value);
        let after = config.get(key).map(str::to_owned);
        match is_set {
            Err(error) => {
                assert!(!error.message.is_empty());
                assert_eq!(before, after, "{key} is refused and changed");
            }
            Ok(()) => {
                let Some(text) = after else { continue };
                assert_eq!(config.set(key, &text), Ok(()), "{key} does not take what it shows");
                assert_eq!(config.get(key), Some(text.as_str()));
            }
        }
    }
    match config.settings() {
        Ok(_) => {}
        Err(errors) => assert!(!errors.is_empty()),
    }
});
