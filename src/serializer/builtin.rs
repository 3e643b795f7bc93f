//! The serializers that come with the library, by name. All but
//! `void` pass null on as null, as Java's do.

use super::Serializer;
use super::arena::{Arena, Exhausted};
use super::json;
use crate::error::{Error, Result, status};
use std::sync::Arc;

/// A serializer of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BuiltIn {
    String,
    Int16,
    Int32,
    Int64,
    Float,
    Double,
    Uuid,
    Boolean,
    Void,
    Json,
}

/// Their names, those of `key.serializer`; `None`: bytes go as they are, there is nothing to run.
const NAMES: &[(&str, Option<BuiltIn>)] = &[
    ("bytes", None),
    ("string", Some(BuiltIn::String)),
    ("int16", Some(BuiltIn::Int16)),
    ("int32", Some(BuiltIn::Int32)),
    ("int64", Some(BuiltIn::Int64)),
    ("float", Some(BuiltIn::Float)),
    ("double", Some(BuiltIn::Double)),
    ("uuid", Some(BuiltIn::Uuid)),
    ("boolean", Some(BuiltIn::Boolean)),
    ("void", Some(BuiltIn::Void)),
    ("json", Some(BuiltIn::Json)),
];

/// The serializer of a name that `key.serializer` takes; `None` for bytes that go as they are.
pub fn by_name(name: &str) -> Option<Arc<dyn Serializer>> {
    let (_, built_in) = NAMES.iter().find(|(known, _)| *known == name)?;
    (*built_in).map(|built_in| Arc::new(built_in) as Arc<dyn Serializer>)
}

impl Serializer for BuiltIn {
    fn serialize<'a>(
        &self,
        _topic: &str,
        input: Option<&'a [u8]>,
        arena: &'a Arena,
    ) -> Result<Option<&'a [u8]>> {
        let Some(input) = input else { return Ok(None) };
        let output = match self {
            BuiltIn::String => text(input),
            BuiltIn::Int16 | BuiltIn::Int32 | BuiltIn::Int64 | BuiltIn::Float | BuiltIn::Double => {
                self.big_endian(input, arena)
            }
            BuiltIn::Uuid => uuid(input, arena),
            BuiltIn::Boolean => boolean(input),
            BuiltIn::Void => {
                wrong(format!("{} bytes are not null: void takes nothing else", input.len()))
            }
            BuiltIn::Json => json::check(input).map(|()| input).map_err(|wrong| {
                refused(format!("no JSON value: byte {} {}", wrong.at, wrong.what))
            }),
        };
        output.map(Some)
    }
}

impl BuiltIn {
    /// What a number is called in C, and how many bytes it has there.
    fn number(self) -> (&'static str, usize) {
        match self {
            BuiltIn::Int16 => ("int16_t", size_of::<i16>()),
            BuiltIn::Int32 => ("int32_t", size_of::<i32>()),
            BuiltIn::Float => ("float", size_of::<f32>()),
            BuiltIn::Double => ("double", size_of::<f64>()),
            BuiltIn::Int64
            | BuiltIn::String
            | BuiltIn::Uuid
            | BuiltIn::Boolean
            | BuiltIn::Void
            | BuiltIn::Json => ("int64_t", size_of::<i64>()),
        }
    }

    /// A number as it lies in memory, in the network's order of bytes.
    fn big_endian<'a>(self, input: &[u8], arena: &'a Arena) -> Result<&'a [u8]> {
        let (name, size) = self.number();
        if input.len() != size {
            let message = format!("{} bytes are no {name}, which has {size}", input.len());
            return wrong(message);
        }
        let output = arena.copy(input)?;
        if cfg!(target_endian = "little") {
            output.reverse();
        }
        Ok(output)
    }
}

fn text(input: &[u8]) -> Result<&[u8]> {
    match std::str::from_utf8(input) {
        Ok(_) => Ok(input),
        Err(error) => wrong(format!("not UTF-8 at byte {}", error.valid_up_to())),
    }
}

fn boolean(input: &[u8]) -> Result<&[u8]> {
    match input {
        [0 | 1] => Ok(input),
        [other] => wrong(format!("a byte {other} is no bool: it is 0 or 1")),
        _ => wrong(format!("{} bytes are no bool, which has 1", input.len())),
    }
}

/// Where the hyphens of a UUID's text are.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const UUID_TEXT: usize = 36;

/// Java writes a UUID as its text of 36 characters, in lower case. 16 bytes are taken in the order
/// of that text (RFC 9562), a text is checked.
fn uuid<'a>(input: &'a [u8], arena: &'a Arena) -> Result<&'a [u8]> {
    match input.len() {
        16 => {
            let digit = |nibble: u8| char::from_digit(nibble.into(), 16).map_or(b'0', |c| c as u8);
            let output = arena.copy(&[b'-'; UUID_TEXT])?;
            let digits = input.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
            let places = (0..).zip(output.iter_mut()).filter(|(at, _)| !HYPHENS.contains(at));
            for ((_, place), digit) in places.zip(digits) {
                *place = digit;
            }
            Ok(output)
        }
        UUID_TEXT => {
            let fits = |(at, byte): (usize, &u8)| match HYPHENS.contains(&at) {
                true => *byte == b'-',
                false => byte.is_ascii_hexdigit(),
            };
            if let Some(at) = input.iter().enumerate().position(|place| !fits(place)) {
                return wrong(format!("no UUID: byte {at} is neither its hyphen nor its digit"));
            }
            if !input.iter().any(u8::is_ascii_uppercase) {
                return Ok(input);
            }
            let output = arena.copy(input)?;
            output.make_ascii_lowercase();
            Ok(output)
        }
        len => wrong(format!("{len} bytes are no UUID, which has 16, or 36 as text")),
    }
}

fn refused(what: String) -> Error {
    Error::new(status::SERIALIZATION, what)
}

fn wrong<T>(what: String) -> Result<T> {
    Err(refused(what))
}

impl From<Exhausted> for Error {
    fn from(_: Exhausted) -> Error {
        refused("no memory for the output: the record's share is used up".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::definition::SERIALIZERS;

    fn serialized(name: &str, input: &[u8]) -> Result<Vec<u8>, String> {
        let serializer = by_name(name).unwrap();
        Arena::with(0, |arena| {
            let output = serializer.serialize("t", Some(input), arena);
            output.map(|output| output.unwrap().to_vec()).map_err(|error| {
                assert_eq!((error.status, error.flags), (status::SERIALIZATION, 0));
                error.message.into_owned()
            })
        })
    }

    #[test]
    fn every_name_that_the_key_takes_is_known_and_no_other() {
        let keys: Vec<_> = SERIALIZERS.iter().map(|choice| choice.name).collect();
        assert_eq!(keys, NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        assert!(by_name("bytes").is_none());
        assert!(by_name("int32").is_some());
    }

    #[test]
    fn null_stays_null() {
        for (name, _) in NAMES {
            let Some(serializer) = by_name(name) else { continue };
            Arena::with(0, |arena| {
                assert_eq!(serializer.serialize("t", None, arena), Ok(None), "{name}");
            });
        }
    }

    #[test]
    fn numbers_are_big_endian() {
        let cases: &[(&str, Vec<u8>, &[u8])] = &[
            ("int16", (-2_i16).to_ne_bytes().into(), b"\xff\xfe"),
            ("int32", 0x0102_0304_i32.to_ne_bytes().into(), b"\x01\x02\x03\x04"),
            ("int64", i64::MIN.to_ne_bytes().into(), b"\x80\0\0\0\0\0\0\0"),
            ("float", 1.5_f32.to_ne_bytes().into(), b"\x3f\xc0\0\0"),
            ("double", (-0.5_f64).to_ne_bytes().into(), b"\xbf\xe0\0\0\0\0\0\0"),
        ];
        for (name, input, output) in cases {
            assert_eq!(serialized(name, input).unwrap(), *output, "{name}");
            for len in [0, input.len() - 1, input.len() + 1] {
                let message = serialized(name, &vec![0; len]).unwrap_err();
                assert!(message.starts_with(&format!("{len} bytes are no ")), "{message}");
            }
        }
    }

    #[test]
    fn a_uuid_is_its_text() {
        let text = b"123e4567-e89b-12d3-a456-426614174000";
        let bytes = b"\x12\x3e\x45\x67\xe8\x9b\x12\xd3\xa4\x56\x42\x66\x14\x17\x40\x00";
        assert_eq!(serialized("uuid", bytes).unwrap(), text);
        assert_eq!(serialized("uuid", text).unwrap(), text);
        assert_eq!(serialized("uuid", &text.to_ascii_uppercase()).unwrap(), text);
        let mut broken = *text;
        broken[9] = b'g';
        assert!(serialized("uuid", &broken).unwrap_err().contains("byte 9 is neither"));
        broken[8] = b'0';
        assert!(serialized("uuid", &broken).unwrap_err().contains("byte 8 is neither"));
        assert!(serialized("uuid", b"").unwrap_err().contains("0 bytes are no UUID"));
    }

    #[test]
    fn what_is_only_checked_goes_as_it_is() {
        for (name, input) in [
            ("string", "gr\u{fc}n".as_bytes()),
            ("string", b""),
            ("boolean", b"\0"),
            ("boolean", b"\x01"),
        ] {
            assert_eq!(serialized(name, input).unwrap(), input);
        }
        assert_eq!(serialized("json", br#" {"a":[1]} "#).unwrap(), br#" {"a":[1]} "#);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (name, input, words) in [
            ("string", &b"ab\xffc"[..], "not UTF-8 at byte 2"),
            ("boolean", b"\x02", "a byte 2 is no bool"),
            ("boolean", b"", "0 bytes are no bool"),
            ("void", b"", "0 bytes are not null"),
            ("json", b"[1,", "no JSON value: byte 3 is missing"),
            ("json", b"", "no JSON value: byte 0 is missing"),
        ] {
            let message = serialized(name, input).unwrap_err();
            assert!(message.contains(words), "{name}: {message}");
        }
    }
}
