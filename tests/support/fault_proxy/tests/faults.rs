//! Each fault really happens: sockets on both sides of the proxy see it.

#![expect(clippy::unwrap_used, reason = "a test may panic, in helpers too")]

#[path = "../../proxy.rs"]
mod proxy;

use proxy::{FaultProxy, Route};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

struct Bench {
    proxy: FaultProxy,
    route: Route,
    backend: TcpListener,
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fault-proxy"))
}

fn bench() -> Bench {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = FaultProxy::start(program());
    let route = proxy.route(backend.local_addr().unwrap());
    Bench { proxy, route, backend }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Bench {
    /// A client's socket and the backend's.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let client = patient(TcpStream::connect(self.route.address).unwrap());
        (client, patient(self.backend.accept().unwrap().0))
    }

    fn do_(&self, command: &str) {
        self.proxy.command(command);
    }
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, bytes);
}

fn rest(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).map(|_| rest)
}

/// Nothing comes for a while: neither bytes nor an end.
fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert!([ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()), "{error}");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

fn assert_reset(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn bytes_go_both_ways_and_each_direction_ends_by_itself() {
    let bench = bench();
    let (mut client, mut backend) = bench.connect();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&bytes).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        assert!(rest(&mut backend).unwrap() == bytes);
    });
    backend.write_all(b"still there").unwrap();
    let listed = bench.proxy.connections();
    assert_eq!((listed.len(), listed[0].route), (1, bench.route.number));
    assert_eq!(listed[0].up.0, bytes.len() as u64);
    assert_eq!(listed[0].client, client.local_addr().unwrap());
    drop(backend);
    assert_eq!(rest(&mut client).unwrap(), b"still there");
}

#[test]
fn latency_delays_each_way_by_its_own_time_and_keeps_the_flow() {
    let bench = bench();
    bench.do_("latency 1 up 200");
    let (mut client, mut backend) = bench.connect();
    let began = Instant::now();
    for byte in 0..100 {
        client.write_all(&[byte]).unwrap();
    }
    expect(&mut backend, &(0..100).collect::<Vec<u8>>());
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(199), "{took:?}");
    assert!(took < Duration::from_secs(5), "one delay, not a hundred: {took:?}");
    let began = Instant::now();
    backend.write_all(b"x").unwrap();
    expect(&mut client, b"x");
    assert!(began.elapsed() < Duration::from_millis(199), "the other way is not slower");
    // The end is as late as the bytes.
    let began = Instant::now();
    drop(client);
    assert_eq!(rest(&mut backend).unwrap(), b"");
    assert!(began.elapsed() >= Duration::from_millis(199));
}

#[test]
fn bandwidth_limits_bytes_per_second() {
    let bench = bench();
    bench.do_("bandwidth all both 100000");
    let (mut client, mut backend) = bench.connect();
    let began = Instant::now();
    client.write_all(&[7; 30_000]).unwrap();
    expect(&mut backend, &[7; 30_000]);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(280), "{took:?}");
    bench.do_("bandwidth 1 up 0");
    let began = Instant::now();
    client.write_all(&[7; 30_000]).unwrap();
    expect(&mut backend, &[7; 30_000]);
    assert!(began.elapsed() < Duration::from_millis(280));
}

#[test]
fn split_writes_that_many_bytes_at_a_time() {
    let bench = bench();
    bench.do_("split 1 up 1");
    bench.do_("split 1 down 3");
    let (mut client, mut backend) = bench.connect();
    client.write_all(&[1; 1000]).unwrap();
    expect(&mut backend, &[1; 1000]);
    backend.write_all(&[1; 1000]).unwrap();
    expect(&mut client, &[1; 1000]);
    let listed = bench.proxy.connections();
    assert_eq!((listed[0].up, listed[0].down), ((1000, 1000), (1000, 334)));
    bench.do_("heal 1");
    client.write_all(&[1; 1000]).unwrap();
    expect(&mut backend, &[1; 1000]);
    assert!(bench.proxy.connections()[0].up.1 < 1100);
}

#[test]
fn half_close_ends_one_direction() {
    let bench = bench();
    let (mut client, mut backend) = bench.connect();
    client.write_all(b"to and fro").unwrap();
    expect(&mut backend, b"to and fro");
    bench.do_("half-close 1 down");
    assert_eq!(rest(&mut client).unwrap(), b"");
    client.write_all(b"still goes").unwrap();
    expect(&mut backend, b"still goes");
    backend.write_all(b"nobody sees this").unwrap();
    assert_silent(&mut backend);
}

#[test]
fn reset_reaches_both_ends() {
    let bench = bench();
    let (mut client, mut backend) = bench.connect();
    client.write_all(b"x").unwrap();
    expect(&mut backend, b"x");
    bench.do_("reset 1");
    assert_reset(&mut client);
    assert_reset(&mut backend);
    assert!(bench.proxy.connections().is_empty());
    let (mut client, mut backend) = bench.connect();
    client.write_all(b"new ones are as ever").unwrap();
    expect(&mut backend, b"new ones are as ever");
}

#[test]
fn close_is_a_fin_for_both_ends_whatever_is_unread() {
    let bench = bench();
    let (mut client, mut backend) = bench.connect();
    bench.do_("stall 1 both on");
    client.write_all(b"unread").unwrap();
    backend.write_all(b"unread").unwrap();
    bench.do_("close 1");
    assert_eq!(rest(&mut client).unwrap(), b"");
    assert_eq!(rest(&mut backend).unwrap(), b"");
}

#[test]
fn one_connection_is_named_by_its_id() {
    let bench = bench();
    let (mut first, mut first_backend) = bench.connect();
    let (mut second, mut second_backend) = bench.connect();
    for (client, backend) in [(&mut first, &mut first_backend), (&mut second, &mut second_backend)]
    {
        client.write_all(b"x").unwrap();
        expect(backend, b"x");
    }
    let listed = bench.proxy.connections();
    let address = second.local_addr().unwrap();
    let id = listed.iter().find(|listed| listed.client == address).unwrap().id;
    bench.do_(&format!("reset #{id}"));
    assert_reset(&mut second);
    first.write_all(b"y").unwrap();
    expect(&mut first_backend, b"y");
}

/// The sender's window closes: it can write so much and no more.
#[test]
fn stall_closes_the_senders_window_and_loses_nothing() {
    let bench = bench();
    let (mut client, mut backend) = bench.connect();
    bench.do_("stall 1 up on");
    client.set_nonblocking(true).unwrap();
    let mut sent = 0_usize;
    let deadline = Instant::now() + PATIENCE;
    let mut stuck_since = Instant::now();
    while stuck_since.elapsed() < Duration::from_millis(300) {
        assert!(Instant::now() < deadline, "{sent} bytes, and it goes on");
        match client.write(&[7; 10_000]) {
            Ok(count) => {
                sent += count;
                stuck_since = Instant::now();
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert!(sent < 8_000_000, "{sent}");
    assert_silent(&mut backend);
    backend.write_all(b"the other way goes on").unwrap();
    client.set_nonblocking(false).unwrap();
    expect(&mut client, b"the other way goes on");
    bench.do_("stall 1 up off");
    expect(&mut backend, &vec![7; sent]);
}

#[test]
fn a_cut_comes_after_exactly_so_many_bytes() {
    for (how, reset) in [("close", false), ("reset", true)] {
        let bench = bench();
        bench.do_(&format!("cut 1 up 10 {how} once"));
        let (mut client, mut backend) = bench.connect();
        client.write_all(b"0123456789").unwrap();
        expect(&mut backend, b"0123456789");
        assert_silent(&mut backend);
        client.write_all(b"x").unwrap();
        if reset {
            assert_reset(&mut backend);
            assert_reset(&mut client);
        } else {
            assert_eq!(rest(&mut backend).unwrap(), b"");
            assert_eq!(rest(&mut client).unwrap(), b"");
        }
        // Once: the next one passes.
        let (mut client, mut backend) = bench.connect();
        client.write_all(&[7; 100]).unwrap();
        expect(&mut backend, &[7; 100]);
        // Each one, counted from here on for what is open.
        bench.do_(&format!("cut 1 down 5 {how}"));
        for _ in 0..2 {
            backend.write_all(b"01234567").unwrap();
            expect(&mut client, b"01234");
            match client.read(&mut [0]) {
                Ok(count) => assert!(count == 0 && !reset),
                Err(error) => assert!(reset, "{error}"),
            }
            (client, backend) = bench.connect();
        }
        bench.do_("cut 1 down off");
        backend.write_all(b"01234567").unwrap();
        expect(&mut client, b"01234567");
    }
}

#[test]
fn swallowed_bytes_and_ends_are_seen_by_nobody() {
    let bench = bench();
    let (mut client, mut backend) = bench.connect();
    bench.do_("cut 1 up 2 swallow");
    client.write_all(b"abcdef").unwrap();
    expect(&mut backend, b"ab");
    // More than any buffer holds: it is read.
    client.write_all(&vec![7; 5_000_000]).unwrap();
    backend.write_all(b"the other way goes on").unwrap();
    expect(&mut client, b"the other way goes on");
    client.shutdown(Shutdown::Write).unwrap();
    assert_silent(&mut backend);
    bench.do_("heal 1");
    assert_eq!(rest(&mut backend).unwrap(), b"", "the end is told, the bytes are lost");
}

#[test]
fn new_connections_go_to_the_new_backend() {
    let bench = bench();
    let (mut client, mut backend) = bench.connect();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    bench.do_(&format!("backend 1 {}", other.local_addr().unwrap()));
    client.write_all(b"as before").unwrap();
    expect(&mut backend, b"as before");
    let mut client = patient(TcpStream::connect(bench.route.address).unwrap());
    let mut backend = patient(other.accept().unwrap().0);
    client.write_all(b"there").unwrap();
    expect(&mut backend, b"there");
}

#[test]
fn a_backend_that_refuses_is_a_reset() {
    let bench = bench();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bench.do_(&format!("backend 1 {dead}"));
    let mut client = patient(TcpStream::connect(bench.route.address).unwrap());
    assert_reset(&mut client);
}

#[test]
fn a_peers_reset_is_passed_on() {
    let bench = bench();
    let (mut client, mut backend) = bench.connect();
    client.write_all(b"x").unwrap();
    expect(&mut backend, b"x");
    // Closing with something unread is an RST.
    client.write_all(b"unread").unwrap();
    let mut peeked = [0; 6];
    while backend.peek(&mut peeked).unwrap() < 6 {}
    drop(backend);
    assert_reset(&mut client);
}

#[test]
fn nonsense_is_refused_and_harms_nothing() {
    let mut bench = bench();
    let asked = |line: &str| {
        let refused = std::panic::AssertUnwindSafe(|| bench.proxy.command(line));
        let panic = std::panic::catch_unwind(refused).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    };
    for (line, text) in [
        ("", "no such command"),
        ("nonsense", "no such command"),
        ("latency 1 up", "no such command"),
        ("latency 2 up 5", "there is no route 2"),
        ("latency 1 left 5", "not a direction"),
        ("latency 1 up -5", "not a number"),
        ("cut 1 up 5 bang", "not an end"),
        ("reset #7", "there is no connection #7"),
        ("backend 0 127.0.0.1:1", "there is no route 0"),
        ("route nowhere", "nowhere"),
    ] {
        let answer = asked(line);
        assert!(answer.contains(text), "{line}: {answer}");
    }
    let (mut client, mut backend) = bench.connect();
    client.write_all(b"x").unwrap();
    expect(&mut backend, b"x");
    assert_eq!(bench.proxy.command("quit"), "");
    assert_eq!(rest(&mut client).unwrap_or_default(), b"");
    let deadline = Instant::now() + PATIENCE;
    while !bench.proxy.has_ended() {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn it_ends_with_its_stdin() {
    let mut bench = bench();
    let (mut client, _backend) = bench.connect();
    bench.proxy.end();
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn backends_may_be_arguments() {
    use std::io::BufRead;
    use std::process::{Command, Stdio};
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut child = Command::new(program())
        .arg(backend.local_addr().unwrap().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.map(Result::unwrap).take(3).collect();
    assert!(lines[0].starts_with("control 127.0.0.1:"), "{lines:?}");
    assert_eq!(lines[2], "ready");
    let route = lines[1].strip_prefix("route 1 ").unwrap();
    let mut client = patient(TcpStream::connect(route).unwrap());
    client.write_all(b"x").unwrap();
    expect(&mut patient(backend.accept().unwrap().0), b"x");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
