//! Values of keys, parsed from text as Kafka parses them: trimmed, whole numbers without units or
//! exponents, `true` and `false` in any case, lists separated by commas.
//!
//! Every error says what the value has to be; the caller adds key and value. Nothing here allocates
//! more than the text it is given.

use super::compression::{CODECS, built_in};

/// What a key's value has to look like.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Milliseconds.
    Millis(i64, i64),
    /// Bytes.
    Bytes(i64, i64),
    /// A count.
    Count(i64, i64),
    /// A count, or the third number, which stands for something else.
    CountOr(i64, i64, i64),
    /// One number, and what to say about others.
    Only(i64, &'static str),
    /// A codec's name in Kafka's configuration.
    Codec,
    /// `true` or `false`.
    Bool,
    /// Text of at most this many bytes, without control characters.
    Text(usize),
    /// One of these, in any case.
    OneOf(&'static [&'static str]),
    /// One of these, by its name or another one, in any case.
    Named(&'static [Choice]),
    /// `host:port` pairs, separated by commas.
    Servers,
}

/// A value that has other names.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// Its name.
    pub name: &'static str,
    /// Other names for it: those of Java's classes, and what older versions called it.
    pub aliases: &'static [&'static str],
}

impl Choice {
    fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
            || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    }
}

/// A value that its key accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of `Millis`, `Bytes`, `Count`, `CountOr`, `Only`.
    Number(i64),
    /// Of `Bool`.
    Bool(bool),
    /// Of `Text`, `OneOf` (as the table spells it), `Named` (its name), `Codec`.
    Text(String),
    /// Of `Servers`: host, IPv6 addresses without brackets, and port.
    Servers(Vec<(String, u16)>),
}

impl Kind {
    /// A value of this kind, or what it has to be.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let text = trim(text);
        match self {
            Kind::Millis(low, high) | Kind::Bytes(low, high) | Kind::Count(low, high) => {
                match number(text) {
                    Some(number) if (low..=high).contains(&number) => Ok(Value::Number(number)),
                    Some(_) | None => Err(format!("has to be {}", self.describe())),
                }
            }
            Kind::CountOr(low, high, other) => match number(text) {
                Some(number) if (low..=high).contains(&number) || number == other => {
                    Ok(Value::Number(number))
                }
                Some(_) | None => Err(format!("has to be {}", self.describe())),
            },
            Kind::Only(only, _) if number(text) == Some(only) => Ok(Value::Number(only)),
            Kind::Only(only, why) => Err(format!("has to be {only}: {why}")),
            Kind::Codec => {
                let known = CODECS.iter().find(|codec| codec.eq_ignore_ascii_case(text));
                let known = known.ok_or_else(|| format!("has to be {}", self.describe()))?;
                built_in(known)?;
                Ok(Value::Text((*known).into()))
            }
            Kind::Bool if text.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
            Kind::Bool if text.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
            Kind::Bool => Err(format!("has to be {}", self.describe())),
            Kind::OneOf(values) => {
                let found = values.iter().find(|value| value.eq_ignore_ascii_case(text));
                let found = found.map(|value| Value::Text((*value).into()));
                found.ok_or_else(|| format!("has to be {}", self.describe()))
            }
            Kind::Named(choices) => {
                let found = choices.iter().find(|choice| choice.is_called(text));
                let found = found.map(|choice| Value::Text(choice.name.into()));
                found.ok_or_else(|| format!("has to be {}", self.describe()))
            }
            Kind::Text(most) if text.len() > most => {
                Err(format!("has {} bytes; at most {most} are allowed", text.len()))
            }
            Kind::Text(_) if text.contains(char::is_control) => {
                Err("contains a control character".into())
            }
            Kind::Text(_) => Ok(Value::Text(text.into())),
            Kind::Servers => servers(text).map(Value::Servers),
        }
    }

    /// What a value has to be, for errors and for the documentation.
    pub fn describe(self) -> String {
        match self {
            Kind::Millis(low, high) => format!("a whole number of milliseconds, {low} to {high}"),
            Kind::Bytes(low, high) => format!("a whole number of bytes, {low} to {high}"),
            Kind::Count(low, high) => format!("a whole number, {low} to {high}"),
            Kind::CountOr(low, high, other) => {
                format!("a whole number, {low} to {high}, or {other}")
            }
            Kind::Only(only, _) => only.to_string(),
            Kind::Codec => either(CODECS),
            Kind::Bool => "true or false".into(),
            Kind::Text(most) => format!("text of at most {most} bytes"),
            Kind::OneOf(values) => either(values),
            Kind::Named(choices) => {
                either(&choices.iter().map(|choice| choice.name).collect::<Vec<_>>())
            }
            Kind::Servers => "host:port pairs separated by commas".into(),
        }
    }
}

/// Names in a row, as a sentence has them.
fn either(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).into(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// Without the blanks and control characters around it, as Java's `trim()`.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// An optional sign and decimal digits.
fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// Host and port of every server named, each once, in order.
fn servers(text: &str) -> Result<Vec<(String, u16)>, String> {
    let mut servers = Vec::new();
    for entry in text.split(',').map(trim).filter(|entry| !entry.is_empty()) {
        let server =
            server(entry).map_err(|problem| format!("\"{}\" {problem}", excerpt(entry)))?;
        if !servers.contains(&server) {
            if servers.len() == MAX_SERVERS {
                return Err(format!("names more than {MAX_SERVERS} servers"));
            }
            servers.push(server);
        }
    }
    if servers.is_empty() {
        return Err("names no server: use host:port, several separated by commas".into());
    }
    Ok(servers)
}

/// More bootstrap servers than anybody has; finding one twice takes time that grows with their
/// square.
const MAX_SERVERS: usize = 1000;
/// The longest name DNS knows.
const MAX_HOST_LEN: usize = 253;

fn server(entry: &str) -> Result<(String, u16), String> {
    let address = match entry.split_once("://") {
        Some((protocol, address)) if protocol.eq_ignore_ascii_case("plaintext") => address,
        Some((protocol, _)) => {
            return Err(format!("names the protocol {}: write host:port", excerpt(protocol)));
        }
        None => entry,
    };
    let (host, port) = address.rsplit_once(':').ok_or("has no port: write host:port")?;
    let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
        Some(Some(inner)) if is_ipv6(inner) => inner,
        Some(_) => return Err("has no IPv6 address in its brackets".into()),
        None if host.contains(':') => {
            return Err("is not clear: write IPv6 addresses in brackets, as in [::1]:9092".into());
        }
        None => host,
    };
    if host.is_empty() {
        return Err("has no host before the colon".into());
    }
    if host.len() > MAX_HOST_LEN {
        return Err(format!(
            "has a host of {} bytes; names have at most {MAX_HOST_LEN}",
            host.len()
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
    if let Some(illegal) = host.chars().find(|c| !legal(*c)) {
        return Err(format!("has a host with {illegal:?} in it"));
    }
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok((host.to_owned(), port)),
        Ok(_) | Err(_) => Err("has no port from 1 to 65535 after the colon".into()),
    }
}

/// An IPv6 address, perhaps with a zone.
fn is_ipv6(text: &str) -> bool {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse::<std::net::Ipv6Addr>().is_ok()
}

/// As much of a value as an error shows.
pub fn excerpt(text: &str) -> String {
    const MOST: usize = 40;
    let cut = text.char_indices().nth(MOST).map_or(text, |(cut, _)| text.get(..cut).unwrap_or(""));
    let dots = if cut.len() < text.len() { "..." } else { "" };
    format!("{}{dots}", cut.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_and_in_range() {
        let kind = Kind::Millis(0, i64::MAX);
        for (text, number) in [
            ("0", 0),
            ("5", 5),
            (" 5\t", 5),
            ("+7", 7),
            ("007", 7),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(kind.parse(text), Ok(Value::Number(number)), "{text}");
        }
        for text in [
            "",
            " ",
            "-1",
            "1e9",
            "5.0",
            "5ms",
            "0x10",
            "1_000",
            "1 000",
            "٣",
            "++5",
            "5\u{0}5",
            "9223372036854775808",
            "99999999999999999999999999999999999",
        ] {
            let error = kind.parse(text).expect_err(text);
            assert_eq!(error, "has to be a whole number of milliseconds, 0 to 9223372036854775807");
        }
        assert!(Kind::Count(1, 5).parse("0").is_err());
        assert!(Kind::Count(1, 5).parse("6").is_err());
        assert_eq!(Kind::Bytes(-1, 5).parse("-1"), Ok(Value::Number(-1)));
    }

    #[test]
    fn booleans_and_choices_ignore_case() {
        assert_eq!(Kind::Bool.parse(" TRUE "), Ok(Value::Bool(true)));
        assert_eq!(Kind::Bool.parse("False"), Ok(Value::Bool(false)));
        for text in ["", "1", "yes", "on", "t"] {
            assert_eq!(Kind::Bool.parse(text), Err("has to be true or false".into()));
        }
        let acks = Kind::OneOf(&["all", "-1", "0", "1"]);
        assert_eq!(acks.parse("ALL"), Ok(Value::Text("all".into())));
        assert_eq!(acks.parse("2"), Err("has to be all, -1, 0 or 1".into()));
    }

    #[test]
    fn a_choice_is_known_by_all_its_names() {
        let kind = Kind::Named(&[
            Choice { name: "bytes", aliases: &["", "a.b.BytesSerializer"] },
            Choice { name: "string", aliases: &[] },
        ]);
        for text in ["bytes", " BYTES", "", "a.b.bytesserializer"] {
            assert_eq!(kind.parse(text), Ok(Value::Text("bytes".into())), "{text}");
        }
        assert_eq!(kind.parse("String"), Ok(Value::Text("string".into())));
        assert_eq!(kind.parse("b.BytesSerializer"), Err("has to be bytes or string".into()));
    }

    #[test]
    fn texts_are_trimmed_and_bounded() {
        assert_eq!(Kind::Text(3).parse(" abc\n"), Ok(Value::Text("abc".into())));
        assert_eq!(Kind::Text(3).parse("abcd"), Err("has 4 bytes; at most 3 are allowed".into()));
        assert!(Kind::Text(3).parse("a\nb").unwrap_err().contains("control character"));
        assert!(Kind::Text(3).parse("a\0b").unwrap_err().contains("control character"));
    }

    #[test]
    fn levels_and_codecs() {
        let level = Kind::CountOr(1, 9, -1);
        for number in [-1, 1, 9] {
            assert_eq!(level.parse(&number.to_string()), Ok(Value::Number(number)));
        }
        for text in ["0", "10", "-2", "fast", ""] {
            assert_eq!(level.parse(text), Err("has to be a whole number, 1 to 9, or -1".into()));
        }
        let only = Kind::Only(9, "there is no other");
        assert_eq!(only.parse(" 9 "), Ok(Value::Number(9)));
        assert_eq!(only.parse("8"), Err("has to be 9: there is no other".into()));
        assert_eq!(Kind::Codec.parse("None"), Ok(Value::Text("none".into())));
        let unknown = Kind::Codec.parse("brotli");
        assert_eq!(unknown, Err("has to be none, gzip, snappy, lz4 or zstd".into()));
    }

    fn parsed(text: &str) -> Vec<(String, u16)> {
        match Kind::Servers.parse(text) {
            Ok(Value::Servers(servers)) => servers,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn servers_are_hosts_and_ports() {
        let servers =
            parsed(" b1:9092 , b_2.example.org:65535,,[::1]:1,[fe80::1%eth0]:9092,b1:9092,");
        let expected =
            [("b1", 9092), ("b_2.example.org", 65535), ("::1", 1), ("fe80::1%eth0", 9092)];
        assert_eq!(servers, expected.map(|(host, port)| (host.to_string(), port)));
        assert_eq!(parsed("PLAINTEXT://10.0.0.1:9092"), [("10.0.0.1".into(), 9092)]);
    }

    #[test]
    fn each_malformed_server_has_its_sentence() {
        for (text, part) in [
            ("", "names no server"),
            (" , ", "names no server"),
            ("b1", "has no port"),
            ("b1:", "has no port from 1 to 65535"),
            ("b1:0", "has no port from 1 to 65535"),
            ("b1:65536", "has no port from 1 to 65535"),
            ("b1:+9", "has no port from 1 to 65535"),
            ("b1:http", "has no port from 1 to 65535"),
            (":9092", "has no host"),
            ("::1:9092", "write IPv6 addresses in brackets"),
            ("[::1:9092", "no IPv6 address in its brackets"),
            ("[b1]:9092", "no IPv6 address in its brackets"),
            ("[]:9092", "no IPv6 address in its brackets"),
            ("b 1:9092", "has a host with ' ' in it"),
            ("b1;b2:9092", "has a host with ';' in it"),
            ("bücher:9092", "has a host with 'ü' in it"),
            ("b1\0:9092", "has a host with '\\0' in it"),
            ("SSL://b1:9092", "names the protocol SSL"),
            ("http://b1:9092", "names the protocol http"),
            (&format!("{}:9092", "h".repeat(254)), "has a host of 254 bytes"),
        ] {
            let error = Kind::Servers.parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.len() < 130, "{error}");
        }
        let many: String = (0..1001).map(|i| format!("b{i}:9092,")).collect();
        assert!(Kind::Servers.parse(&many).unwrap_err().contains("more than 1000"));
    }
}
