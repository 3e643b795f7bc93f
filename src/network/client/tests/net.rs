//! Connections that are two queues of bytes, brokers behind them, and a client over them in virtual
//! time.

use crate::clock::{Clock, Instant, VirtualTime};
use crate::log::Logger;
use crate::network::client::NetworkClient;
use crate::network::{
    Answer, ClientEvent, ClientRequest, ConnectionId, NetworkConfig, NetworkError, Query,
    Readiness, Resolver, Selectable, SocketOptions, Transport,
};
use crate::protocol::api::{frame_len, response_frame};
use crate::protocol::messages::{ApiVersion, ApiVersionsResponse};
use crate::protocol::{ApiKey, RequestHeader};
use crate::rng::Rng;
use crate::sync::{Wake, lock};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How a peer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Answers ApiVersions at once, the rest when the test says so.
    Broker,
    /// Accepts and says nothing.
    Mute,
    /// Never accepts.
    BlackHole,
    Refuses,
    /// Takes requests as sockets must not: a write gives 0.
    TakesNothing,
}

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) behaviour: Behaviour,
    pub(super) to_client: VecDeque<u8>,
    pub(super) to_broker: Vec<u8>,
    /// What it takes before it is full.
    pub(super) room: usize,
    pub(super) peer_closed: bool,
    pub(super) reported: bool,
    /// Requests that arrived and are not answered.
    pub(super) unanswered: VecDeque<RequestHeader>,
}

#[derive(Debug)]
pub(super) struct Net {
    pub(super) time: Arc<VirtualTime>,
    pub(super) clock: Clock,
    pub(super) behaviour: Behaviour,
    pub(super) room: usize,
    pub(super) wires: BTreeMap<ConnectionId, Wire>,
    pub(super) opened: Vec<SocketAddr>,
    pub(super) polls: Vec<Option<Duration>>,
}

pub(super) type SharedNet = Arc<Mutex<Net>>;

impl Net {
    /// The broker's side of each connection: reads whole frames, answers ApiVersions.
    fn run_brokers(&mut self) {
        for wire in self.wires.values_mut() {
            while let Ok(Some(size)) = frame_len(&wire.to_broker, usize::MAX)
                && wire.to_broker.len() >= 4 + size
            {
                let frame: Vec<u8> = wire.to_broker.drain(..4 + size).skip(4).collect();
                let (header, _) = RequestHeader::split(&frame.into()).unwrap();
                if header.api_key != ApiKey::ApiVersions.code() {
                    wire.unanswered.push_back(header);
                } else if wire.behaviour == Behaviour::Broker {
                    let answer =
                        response_frame(&versions(), header.api_version, header.correlation_id);
                    wire.to_client.extend(answer.unwrap());
                    wire.reported = false;
                }
            }
        }
    }

    /// The one connection that there is.
    pub(super) fn wire(&mut self) -> &mut Wire {
        assert_eq!(self.wires.len(), 1);
        self.wires.values_mut().next().unwrap()
    }
}

impl Wire {
    pub(super) fn answer(&mut self) -> bool {
        let Some(header) = self.unanswered.pop_front() else { return false };
        self.to_client.extend(4_i32.to_be_bytes());
        self.to_client.extend(header.correlation_id.to_be_bytes());
        self.reported = false;
        true
    }
}

fn versions() -> ApiVersionsResponse {
    let api = |api_key| ApiVersion { api_key, min_version: 0, max_version: 8 };
    ApiVersionsResponse { api_keys: vec![api(0), api(3)], ..Default::default() }
}

pub(super) struct FakeTransport {
    net: SharedNet,
    id: ConnectionId,
}

impl Transport for FakeTransport {
    fn finish_connect(&mut self) -> io::Result<bool> {
        match lock(&self.net).wires[&self.id].behaviour {
            Behaviour::Broker | Behaviour::Mute | Behaviour::TakesNothing => Ok(true),
            Behaviour::BlackHole => Ok(false),
            Behaviour::Refuses => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut net = lock(&self.net);
        let wire = net.wires.get_mut(&self.id).unwrap();
        if wire.to_client.is_empty() {
            return if wire.peer_closed { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = buffer.len().min(wire.to_client.len());
        for (to, from) in buffer.iter_mut().zip(wire.to_client.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut net = lock(&self.net);
        let wire = net.wires.get_mut(&self.id).unwrap();
        if wire.peer_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if wire.behaviour == Behaviour::TakesNothing {
            return Ok(0);
        }
        let all: Vec<u8> = pieces.iter().flat_map(|p| p.iter().copied()).collect();
        let count = all.len().min(wire.room);
        wire.room -= count;
        wire.to_broker.extend(&all[..count]);
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }
}

pub(super) struct FakeSelector(SharedNet);

struct NoWake;
impl Wake for NoWake {
    fn wake(&self) {}
}

impl Selectable for FakeSelector {
    type Transport = FakeTransport;

    fn open(
        &mut self,
        id: ConnectionId,
        address: SocketAddr,
        _options: &SocketOptions,
    ) -> io::Result<FakeTransport> {
        let mut net = lock(&self.0);
        net.opened.push(address);
        let wire = Wire {
            behaviour: net.behaviour,
            to_client: VecDeque::new(),
            to_broker: Vec::new(),
            room: net.room,
            peer_closed: false,
            reported: net.behaviour == Behaviour::BlackHole,
            unanswered: VecDeque::new(),
        };
        net.wires.insert(id, wire);
        Ok(FakeTransport { net: Arc::clone(&self.0), id })
    }

    fn close(&mut self, id: ConnectionId, _transport: FakeTransport) {
        assert!(lock(&self.0).wires.remove(&id).is_some(), "closed twice");
    }

    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()> {
        let mut net = lock(&self.0);
        net.polls.push(timeout);
        net.run_brokers();
        for (connection, wire) in &mut net.wires {
            if !std::mem::replace(&mut wire.reported, true) {
                let connection = *connection;
                let (readable, closed) = (!wire.to_client.is_empty(), wire.peer_closed);
                ready.push(Readiness { connection, readable, writable: true, closed });
            }
        }
        if ready.is_empty() {
            net.time.advance(timeout.unwrap_or_default());
        }
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(NoWake)
    }
}

/// Knows addresses only; names are never resolved.
#[derive(Default)]
struct FakeResolver(Vec<Answer>);

impl Resolver for FakeResolver {
    fn resolve(&mut self, query: Query) {
        if let Ok(ip) = query.host.parse() {
            let result = Ok(vec![SocketAddr::new(ip, query.port)]);
            self.0.push(Answer { ticket: query.ticket, result });
        }
    }

    fn answers(&mut self, answers: &mut Vec<Answer>) {
        answers.append(&mut self.0);
    }
}

pub(super) struct Fixture {
    pub(super) client: NetworkClient<FakeSelector>,
    pub(super) net: SharedNet,
    pub(super) events: Vec<ClientEvent>,
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MS: Duration = Duration::from_millis(1);

pub(super) fn config() -> NetworkConfig {
    NetworkConfig {
        client_id: "c".into(),
        max_in_flight: 5,
        request_timeout: 30 * SECOND,
        reconnect_backoff: 50 * MS,
        reconnect_backoff_max: SECOND,
        connection_setup_timeout: 10 * SECOND,
        connection_setup_timeout_max: 30 * SECOND,
        connections_max_idle: Some(180 * SECOND),
        send_buffer: None,
        receive_buffer: None,
        receive_message_max: 1_000_000,
    }
}

impl Fixture {
    pub(super) fn new(behaviour: Behaviour) -> Fixture {
        Fixture::with(behaviour, config(), 7)
    }

    pub(super) fn with(behaviour: Behaviour, config: NetworkConfig, seed: u64) -> Fixture {
        let time = Arc::new(VirtualTime::default());
        time.advance(1000 * SECOND);
        let clock = Clock::virtual_time(Arc::clone(&time));
        let net = Arc::new(Mutex::new(Net {
            time,
            clock: clock.clone(),
            behaviour,
            room: usize::MAX,
            wires: BTreeMap::new(),
            opened: Vec::new(),
            polls: Vec::new(),
        }));
        let client = NetworkClient::new(
            config,
            FakeSelector(Arc::clone(&net)),
            clock,
            Arc::new(Rng::seeded(seed)),
            Logger::none(),
            Box::new(FakeResolver::default()),
        );
        let mut fixture = Fixture { client, net, events: Vec::new() };
        fixture.set_nodes(&[1]);
        fixture
    }

    pub(super) fn net(&self) -> MutexGuard<'_, Net> {
        lock(&self.net)
    }

    pub(super) fn now(&self) -> Instant {
        self.net().clock.now()
    }

    pub(super) fn advance(&self, by: Duration) {
        self.net().time.advance(by);
    }

    pub(super) fn set_nodes(&mut self, ids: &[i32]) {
        let nodes: Vec<_> = ids.iter().map(|id| (*id, format!("10.0.0.{id}").into(), 1)).collect();
        self.client.set_nodes(&nodes);
    }

    pub(super) fn ready(&mut self, node: i32) -> bool {
        let now = self.now();
        self.client.ready(node, now)
    }

    pub(super) fn poll(&mut self, timeout: Option<Duration>) {
        self.client.poll(timeout, &mut self.events).unwrap();
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..4 {
            self.poll(Some(Duration::ZERO));
        }
    }

    pub(super) fn connect(&mut self, node: i32) {
        assert!(!self.ready(node));
        self.settle();
        assert!(self.ready(node));
        self.events.clear();
    }

    pub(super) fn send(
        &mut self,
        node: i32,
        token: u64,
        expects_response: bool,
        timeout: Duration,
    ) {
        let (api, version, body) = (ApiKey::Produce, 7, vec![Bytes::from_static(b"0123456789")]);
        let request = ClientRequest { api, version, body, token, expects_response, timeout };
        let now = self.now();
        self.client.send(node, request, now);
    }

    pub(super) fn disconnected(&mut self) -> Option<NetworkError> {
        let found =
            self.events.iter().position(|e| matches!(e, ClientEvent::Disconnected { .. }))?;
        let ClientEvent::Disconnected { error, .. } = self.events.remove(found) else {
            return None;
        };
        Some(error)
    }
}
