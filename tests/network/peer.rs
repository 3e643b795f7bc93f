//! The other end of a connection, as a script that runs in a thread: a broker, a bad one, or
//! something else.

use bytes::Bytes;
use kafka_producer::protocol::api::{frame_len, response_frame};
use kafka_producer::protocol::messages::{ApiVersion, ApiVersionsResponse};
use kafka_producer::protocol::{ApiKey, Message, RequestHeader};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

/// No wait of a test is longer.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A listener on a port of the system's choice, and the thread that runs its script.
pub struct Peer {
    pub address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Peer {
    /// Runs `script` with the listener.
    pub fn listen(script: impl FnOnce(TcpListener) + Send + 'static) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::Builder::new()
            .name(format!("peer {address}"))
            .spawn(move || script(listener))
            .unwrap();
        Peer { address, thread }
    }

    /// Runs `script` with the first connection, and listens until it is over.
    pub fn accept(script: impl FnOnce(Connection) + Send + 'static) -> Peer {
        Peer::listen(move |listener| script(Connection::accept(&listener)))
    }

    /// A broker: answers ApiVersions, then runs the script.
    pub fn broker(script: impl FnOnce(Connection) + Send + 'static) -> Peer {
        Peer::accept(|mut connection| {
            connection.handshake();
            script(connection);
        })
    }

    /// Waits for the script's end; its panics are the test's.
    pub fn join(self) {
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A request as it arrived.
#[derive(Debug)]
pub struct Request {
    pub header: RequestHeader,
    pub body: Bytes,
}

/// A connection that was accepted.
pub struct Connection {
    pub stream: TcpStream,
}

impl Connection {
    pub fn accept(listener: &TcpListener) -> Connection {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection { stream }
    }

    /// The next request; `None` at the end of the stream.
    pub fn try_request(&mut self) -> Option<Request> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; frame_len(&length, usize::MAX).unwrap().unwrap()];
        self.stream.read_exact(&mut frame).unwrap();
        let (header, body) = RequestHeader::split(&frame.into()).unwrap();
        Some(Request { header, body })
    }

    pub fn request(&mut self) -> Request {
        self.try_request().expect("a request, not the end of the stream")
    }

    /// Answers ApiVersions as a broker of today.
    pub fn handshake(&mut self) {
        let request = self.request();
        assert_eq!(request.header.api_key, ApiKey::ApiVersions.code());
        let frame =
            response_frame(&versions(), request.header.api_version, request.header.correlation_id);
        self.write(&frame.unwrap());
    }

    /// Answers a request in a version without tagged fields.
    pub fn respond(&mut self, correlation_id: i32, body: &[u8]) {
        self.write(&response(correlation_id, body));
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads to the end of the stream.
    pub fn drain(&mut self) {
        let mut buffer = [0; 4096];
        while matches!(self.stream.read(&mut buffer), Ok(1..)) {}
    }
}

/// What the broker speaks.
pub fn versions() -> ApiVersionsResponse {
    let api_keys = [(0, 0, 13), (3, 0, 13), (18, 0, 4)]
        .map(|(api_key, min_version, max_version)| ApiVersion { api_key, min_version, max_version })
        .to_vec();
    ApiVersionsResponse { api_keys, ..Default::default() }
}

/// A frame with response header v0.
pub fn response(correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = (4 + body.len() as i32).to_be_bytes().to_vec();
    frame.extend(correlation_id.to_be_bytes());
    frame.extend(body);
    frame
}

/// Answers error 35 as a broker that knows only the versions of ApiVersions up to `max`, if it says
/// so.
pub fn unsupported_version(correlation_id: i32, max: Option<i16>) -> Vec<u8> {
    let range = max.map(|max_version| ApiVersion { api_key: 18, min_version: 0, max_version });
    let body = ApiVersionsResponse::unsupported_version(range.into_iter().collect()).unwrap();
    response(correlation_id, &body)
}

/// A frame that answers ApiVersions v0.
pub fn versions_v0(correlation_id: i32) -> Vec<u8> {
    response(correlation_id, &versions().to_vec(0).unwrap())
}
