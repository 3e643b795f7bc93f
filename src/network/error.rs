//! Why a connection, or a request on it, failed: a kind for code, the address and the operating
//! system's words for people. Also the recognition of peers that are not Kafka, by the first bytes
//! of what they answer.

use crate::error::{Error, RETRIABLE, status};
use std::fmt;
use std::sync::Arc;

/// Kafka's NETWORK_EXCEPTION: the server disconnected before a response was received.
const NETWORK_EXCEPTION: i32 = 13;
/// How much of a foreign peer's answer a message quotes.
const QUOTE_MAX: usize = 60;

/// What something that is not a Kafka listener looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// It answered with a TLS record.
    Tls,
    /// It answered with an HTTP status line, or with HTML.
    Http,
    /// It answered with an SSH banner.
    Ssh,
    /// It answered with some other text.
    Text,
    /// It answered with bytes that are no Kafka frame.
    Unknown,
}

/// What went wrong, for code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The name has no address, or the resolver failed.
    Resolve,
    /// No TCP connection: refused, unreachable, no descriptor left.
    Connect,
    /// TCP connect and ApiVersions together took longer than the connection set-up timeout.
    SetupTimeout,
    /// A request was not answered within its timeout; the connection is closed for it.
    RequestTimeout,
    /// The peer closed the connection.
    Closed,
    /// The operating system reported an error on an established connection.
    Reset,
    /// The peer does not speak Kafka's protocol.
    NotKafka(Peer),
    /// The peer speaks Kafka's protocol, wrongly: a size, a correlation id, a response that cannot
    /// be.
    Protocol,
    /// The two sides have no version of an API in common.
    UnsupportedVersion,
    /// Nothing happened on the connection for `connections.max.idle.ms`.
    Idle,
    /// There is no connection: it was never made, or its node is not known.
    NotConnected,
    /// The client closed the connection: the producer closes, the node left or changed its address.
    Disconnected,
}

/// Why a connection or a request failed. Cheap to clone: one error fails every request in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkError {
    /// What went wrong, for code.
    pub kind: ErrorKind,
    /// The node, `host:port`, with the address that was tried if that was known.
    pub address: Arc<str>,
    /// What went wrong, for people; without the address.
    pub message: Arc<str>,
}

impl NetworkError {
    /// An error about the node at `address`.
    pub fn new(kind: ErrorKind, address: &Arc<str>, message: impl Into<Arc<str>>) -> NetworkError {
        NetworkError { kind, address: Arc::clone(address), message: message.into() }
    }

    /// The status of a call or a record that fails because of this.
    pub fn status(&self) -> i32 {
        match self.kind {
            ErrorKind::NotKafka(_) | ErrorKind::Protocol => status::PROTOCOL,
            ErrorKind::UnsupportedVersion => status::UNSUPPORTED,
            ErrorKind::Resolve
            | ErrorKind::Connect
            | ErrorKind::SetupTimeout
            | ErrorKind::RequestTimeout
            | ErrorKind::Closed
            | ErrorKind::Reset
            | ErrorKind::Idle
            | ErrorKind::NotConnected
            | ErrorKind::Disconnected => NETWORK_EXCEPTION,
        }
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.message)
    }
}

impl std::error::Error for NetworkError {}

impl From<NetworkError> for Error {
    /// Every failure of a connection may pass: the next attempt may reach another address or a
    /// repaired broker.
    fn from(error: NetworkError) -> Error {
        Error::new(error.status(), error.to_string()).with(RETRIABLE)
    }
}

/// Names a peer by the first bytes of an answer whose frame size cannot be: the kind, and a
/// sentence for the user.
pub(super) fn recognise(head: &[u8]) -> (Peer, String) {
    // TLS record: content type 20..=23, major version 3. An alert is what a TLS listener says to
    // plaintext.
    if let [20..=23, 3, 0..=4, ..] = head {
        let text = "looks like a TLS port: it answered with a TLS record; set security.protocol to \
                    match the listener, or use the port of its PLAINTEXT listener";
        return (Peer::Tls, text.into());
    }
    let quote = quote(head);
    if head.starts_with(b"HTTP") || starts_with_ignoring_case(head, &[b"<html", b"<!doc"]) {
        let text =
            format!("looks like an HTTP server: it answered \"{quote}\"; check host and port");
        return (Peer::Http, text);
    }
    if head.starts_with(b"SSH-") {
        let text =
            format!("looks like an SSH server: it answered \"{quote}\"; check host and port");
        return (Peer::Ssh, text);
    }
    if head.len() >= 4 && head.iter().take(4).all(|b| matches!(b, b' '..=b'~' | b'\r' | b'\n')) {
        let text = format!(
            "does not look like Kafka: it answered with the text \"{quote}\"; check host and port"
        );
        return (Peer::Text, text);
    }
    (
        Peer::Unknown,
        format!("does not look like Kafka: it answered \"{quote}\"; check host and port"),
    )
}

fn starts_with_ignoring_case(head: &[u8], starts: &[&[u8]]) -> bool {
    starts.iter().any(|s| head.get(..s.len()).is_some_and(|h| h.eq_ignore_ascii_case(s)))
}

/// The first line of an answer, with everything unprintable escaped.
fn quote(head: &[u8]) -> String {
    let line = head.split(|b| matches!(b, b'\r' | b'\n')).find(|l| !l.is_empty()).unwrap_or(head);
    line.get(..QUOTE_MAX).unwrap_or(line).escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_peers_are_named() {
        let cases: [(&[u8], Peer, &str); 8] = [
            (b"\x15\x03\x03\x00\x02\x02\x50", Peer::Tls, "looks like a TLS port"),
            (b"\x16\x03\x01\x02", Peer::Tls, "looks like a TLS port"),
            (
                b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n",
                Peer::Http,
                "\"HTTP/1.1 400 Bad Request\"",
            ),
            (b"<HTML><head>", Peer::Http, "looks like an HTTP server"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Peer::Ssh, "\"SSH-2.0-OpenSSH_9.6\""),
            (b"220 mail.example ESMTP\r\n", Peer::Text, "220 mail.example ESMTP"),
            (b"\x7f\xff\xff\xff\x00", Peer::Unknown, "\\x7f\\xff\\xff\\xff"),
            (b"", Peer::Unknown, "does not look like Kafka"),
        ];
        for (head, peer, text) in cases {
            let (found, sentence) = recognise(head);
            assert_eq!(found, peer, "{head:?}");
            assert!(sentence.contains(text), "{sentence}");
        }
    }

    #[test]
    fn quotes_are_short_and_printable() {
        let long = [b'x'; 500];
        assert_eq!(quote(&long).len(), QUOTE_MAX);
        assert_eq!(quote(b"\r\n\x1b[2Jhi\r\nmore"), "\\x1b[2Jhi");
    }

    #[test]
    fn the_error_names_the_address() {
        let error =
            NetworkError::new(ErrorKind::Connect, &Arc::from("b1:9092"), "Connection refused");
        assert_eq!(error.to_string(), "b1:9092: Connection refused");
        let error = Error::from(error);
        assert_eq!((error.status, error.is_retriable()), (NETWORK_EXCEPTION, true));
    }
}
