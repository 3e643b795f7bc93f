//! The transport and hostile input: bytes that come one at a time or not at all, ends in the
//! middle, peers that are something else.

use crate::QUICK;
use crate::produce::{
    LONG, PRODUCE, assert_order, assert_settled, eventually, given_time, let_pass, record, so,
    timed, to,
};
use crate::proxied::{Proxied, proxied};
use kafka_producer::error::status;
use kafka_producer::producer::Timeout;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn numbered(tag: u64) -> [u8; 8] {
    tag.to_be_bytes()
}

#[test]
fn s59_one_byte_reads_and_writes() {
    let behind = proxied(2, 4);
    behind.command("split all both 1");
    let (producer, outcomes) = behind.producer(QUICK);
    for tag in 0..400_u64 {
        producer.send(&to((tag % 4) as i32, &numbered(tag), tag)).unwrap();
    }
    producer.flush(LONG).unwrap();
    let mut tags = assert_order(&behind.cluster, 4, &outcomes);
    tags.sort_unstable();
    assert_eq!(tags, (0..400).collect::<Vec<_>>());
    for connection in behind.proxy.connections() {
        assert_eq!(connection.down.0, connection.down.1, "a byte per write");
    }
    // One for the first question, and one for each leader.
    assert_eq!(behind.cluster.accepted_count(0), 3);
    assert_settled(&producer);
}

/// Sockets that take a part of what there is: requests that are larger than their buffers, through
/// a link that has to catch up.
#[test]
fn s59_requests_in_many_pieces() {
    let behind = proxied(1, 2);
    let settings = [
        QUICK,
        &[
            ("send.buffer.bytes", "2048"),
            ("receive.buffer.bytes", "2048"),
            ("max.request.size", "4000000"),
        ],
    ]
    .concat();
    let (producer, outcomes) = behind.producer(&settings);
    for tag in 0..12_u64 {
        producer.send_sync(&to(0, &numbered(0), 0), LONG).unwrap();
        behind.command("stall 1 both on");
        let value = [&numbered(tag)[..], &vec![tag as u8; 900_000]].concat();
        producer.send(&to((tag % 2) as i32, &value, tag)).unwrap();
        let_pass(Duration::from_millis(10));
        behind.command("heal 1");
        producer.flush(LONG).unwrap();
    }
    for partition in 0..2 {
        let large = |value: &[u8]| value.len() > 8;
        let logged = behind.cluster.records("t", partition);
        let values = logged.iter().filter_map(|read| read.value.as_deref());
        for (value, tag) in values.filter(|value| large(value)).zip((partition as u64..).step_by(2))
        {
            assert_eq!(value[..8], numbered(tag));
            assert!(value[8..].iter().all(|byte| *byte == tag as u8), "{tag}");
        }
    }
    assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
    assert_eq!(behind.cluster.accepted_count(1), 2, "one for the first question, one to produce");
    assert!(behind.cluster.complaints().is_empty(), "{:?}", behind.cluster.complaints());
    assert_settled(&producer);
}

/// RST or FIN after each number of bytes, of requests and of answers.
#[test]
fn s59_a_connection_that_ends_after_any_byte() {
    let behind = proxied(1, 1);
    let (producer, outcomes) = behind.producer(QUICK);
    let mut tag = 0;
    for direction in ["up", "down"] {
        // Beyond one whole request, or answer, of ApiVersions, Metadata and Produce.
        for bytes in (0..420).step_by(7) {
            let how = if bytes % 2 == 0 { "reset" } else { "close" };
            behind.command(&format!("cut 1 {direction} {bytes} {how} once"));
            for _ in 0..3 {
                producer.send(&record(&numbered(tag), tag)).unwrap();
                tag += 1;
            }
            let flushed = producer.flush(LONG);
            assert!(flushed.is_ok(), "{bytes} bytes {direction}: {flushed:?}");
        }
        behind.command("heal 1");
    }
    assert!(behind.cluster.accepted_count(1) > 30, "connections were cut");
    assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
    assert_eq!(assert_order(&behind.cluster, 1, &outcomes), (0..tag).collect::<Vec<_>>());
    assert_settled(&producer);
}

#[test]
fn s59_half_closed_connections_are_given_up() {
    let behind = proxied(1, 1);
    // Long before a request's time is up.
    let settings = [QUICK, &[("request.timeout.ms", "100000")]].concat();
    let (producer, outcomes) = behind.producer(&settings);
    for round in 0..4_u64 {
        producer.send(&record(&numbered(round), round)).unwrap();
        producer.flush(LONG).unwrap();
        let direction = ["down", "up"][round as usize % 2];
        behind.command(&format!("half-close 1 {direction}"));
    }
    producer.send(&record(&numbered(4), 4)).unwrap();
    producer.flush(LONG).unwrap();
    assert_eq!(assert_order(&behind.cluster, 1, &outcomes), [0, 1, 2, 3, 4]);
    assert_settled(&producer);
}

/// A firewall that has forgotten the connection: nothing comes back, not even an RST.
#[test]
fn s62_a_connection_that_died_in_silence_is_replaced_once() {
    given_time(500, |ms| {
        let behind = proxied(1, 1);
        let (request, timeout) = (ms.to_string(), Duration::from_millis(ms.into()));
        let (producer, outcomes) =
            behind.producer(&[QUICK, &[("request.timeout.ms", &*request)]].concat());
        producer.send(&record(&numbered(0), 0)).unwrap();
        producer.flush(LONG).unwrap();
        // That died in silence are listed as well.
        let mut dead = 0;
        for round in 1..=2_u64 {
            let listed = || behind.connections(1).into_iter().map(|connection| connection.id);
            eventually("one is left", || listed().filter(|id| *id > dead).count() == 1);
            let accepted = behind.cluster.accepted_count(1);
            dead = listed().max().unwrap();
            behind.command(&format!("cut #{dead} both 0 swallow"));
            let (_, took) = timed(|| {
                producer.send(&record(&numbered(round), round)).unwrap();
                producer.flush(LONG).unwrap();
            });
            // Given up after its time; nothing else is waited for.
            assert!(took >= timeout - Duration::from_millis(10), "{took:?}");
            so(took < timeout * 8, format_args!("{took:?}"))?;
            // One to produce; meanwhile a bootstrap server may have been asked where everybody is.
            let made = behind.cluster.accepted_count(1) - accepted;
            so((1..=2).contains(&made), format_args!("{made} connections"))?;
        }
        assert_eq!(assert_order(&behind.cluster, 1, &outcomes), [0, 1, 2]);
        assert_settled(&producer);
        Ok(())
    });
}

/// Ends a thread that accepts, by connecting to it.
struct End<'a>(&'a AtomicBool, SocketAddr);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        drop(TcpStream::connect(self.1));
    }
}

/// A peer that answers everything with the same bytes.
fn with_peer_that_says(bytes: &[u8], while_there: impl FnOnce(&str)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((mut stream, _)) = listener.accept() {
                if done.load(Ordering::Acquire) {
                    return;
                }
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                // It fails where the client has had enough, as it should.
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(bytes);
                let _ = stream.shutdown(Shutdown::Write);
            }
        });
        let _end = End(&done, address);
        while_there(&address.to_string());
    });
}

/// What is not Kafka, or lies about sizes and counts: no memory for what is claimed, a sentence
/// that names it, and all goes on when the broker is back.
#[test]
fn s63_hostile_answers_are_survived_and_named() {
    let behind = proxied(1, 1);
    let settings =
        [QUICK, &[("request.timeout.ms", "10000"), ("delivery.timeout.ms", "100000")]].concat();
    let (producer, outcomes) = behind.producer(&settings);
    let broker = format!("127.0.0.1:{}", behind.cluster.port(1).unwrap());
    let cases: [(&[u8], &str); 9] = [
        (b"\x15\x03\x03\x00\x02\x02\x28", "TLS"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"\xff\xff\xff\xff\x00\x00\x00\x00", "Kafka"),
        (b"\x7f\xff\xff\xff\x00\x00\x00\x00", "Kafka"),
        // Error 0, and 2^31 APIs; tags that end in the middle.
        (b"\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x00\xff\xff\xff\x7f", "ApiVersions"),
        (b"\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\xff", "ApiVersions"),
        (b"\x00\x00\x00\x06\x00\x00\x00\x09\x00\x00", "correlation id"),
        (b"", "closed"),
    ];
    let mut tag = 0;
    producer.send(&record(&numbered(tag), tag)).unwrap();
    producer.flush(LONG).unwrap();
    for (bytes, text) in cases {
        with_peer_that_says(bytes, |address| {
            behind.command(&format!("backend 1 {address}"));
            behind.command("reset 1");
            given_time(400, |ms| {
                let timeout = Timeout::After(Duration::from_millis(ms.into()));
                let error = producer.send_sync(&record(b"unsent--", 0), timeout).unwrap_err();
                assert_eq!(error.status, status::DELIVERY_TIMED_OUT, "{error}");
                so(error.message.contains(text), format_args!("{text}: {error}"))
            });
            tag += 1;
            producer.send(&record(&numbered(tag), tag)).unwrap();
            behind.command(&format!("backend 1 {broker}"));
        });
        producer.flush(LONG).unwrap();
        assert_eq!(outcomes.of(tag).status, 0);
    }
    assert_settled(&producer);
}

/// Answers to requests that want none come through a proxy that holds them back; idle connections
/// of acks=0 are closed as any, and made anew.
#[test]
fn s66_acks_0_over_a_slow_network_and_after_idling() {
    let behind = proxied(1, 1);
    behind.command("latency 1 both 30");
    let settings = [
        QUICK,
        &[("acks", "0"), ("connections.max.idle.ms", "1000"), ("metadata.max.age.ms", "100")],
    ]
    .concat();
    let (producer, outcomes) = behind.producer(&settings);
    let mut tag = 0;
    for _ in 0..3 {
        for _ in 0..50 {
            producer.send(&record(&numbered(tag), tag)).unwrap();
            tag += 1;
        }
        producer.flush(LONG).unwrap();
        let_pass(Duration::from_millis(200));
    }
    assert!(outcomes.get().values().all(|o| o.status == 0 && o.offset == -1));
    eventually("all arrive", || behind.cluster.end_offset("t", 0) as u64 == tag);
    assert_order(&behind.cluster, 1, &outcomes);
    assert_settled(&producer);
}

#[test]
fn s67_a_throttled_client_waits_and_nothing_times_out() {
    given_time(800, |throttle_ms| {
        let behind = proxied(1, 1);
        // The pause is longer than a request may take.
        let request = (throttle_ms / 4 * 3).to_string();
        let (producer, outcomes) =
            behind.producer(&[QUICK, &[("request.timeout.ms", &*request)]].concat());
        producer.send(&record(&numbered(0), 0)).unwrap();
        producer.flush(LONG).unwrap();
        behind.cluster.set_broker(1, true, false, 0, throttle_ms as i32).unwrap();
        let accepted = behind.cluster.accepted_count(1);
        for tag in 1..=3_u64 {
            producer.send(&record(&numbered(tag), tag)).unwrap();
            producer.flush(LONG).unwrap();
        }
        assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
        so(behind.cluster.accepted_count(1) == accepted, "the connection does not live")?;
        let requests = behind.cluster.requests();
        let produces = requests.iter().filter(|request| request.api_key == PRODUCE);
        let times: Vec<_> = produces.map(|request| request.at).collect();
        for pair in times[1..].windows(2) {
            assert!(pair[1].since(pair[0]) >= Duration::from_millis(throttle_ms.into()));
        }
        Ok(())
    });
}

/// What is in flight when a broker begins to throttle may be answered later by as much.
#[test]
fn s67_what_is_in_flight_when_throttling_begins_gets_its_time_too() {
    given_time(1000, |ms| {
        let behind = proxied(1, 2);
        let request = ms.to_string();
        let (producer, outcomes) =
            behind.producer(&[QUICK, &[("request.timeout.ms", &*request)]].concat());
        for partition in 0..2 {
            producer.send_sync(&to(partition, &numbered(0), 0), LONG).unwrap();
        }
        let produced = || behind.cluster.request_count(1, PRODUCE);
        let (accepted, asked) = (behind.cluster.accepted_count(1), produced());
        // The first answer comes soon and throttles, the second one after a request's time.
        for (partition, latency) in [(0, ms / 5), (1, ms / 5 * 8)] {
            behind.cluster.set_broker(1, true, false, latency as i32, 20 * ms as i32).unwrap();
            let tag = 1 + partition as u64;
            producer.send(&to(partition, &numbered(tag), tag)).unwrap();
            eventually("it is in flight", || produced() >= asked + tag);
        }
        outcomes.wait_for(2);
        assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
        so(behind.cluster.accepted_count(1) == accepted, "the connection does not live")?;
        so(produced() == asked + 2, "something was sent again")
    });
}

/// A slow link with latency: no request is given up while bytes move.
#[test]
fn s59_a_slow_link_is_slow_and_no_more() {
    let behind: Proxied = proxied(1, 2);
    behind.command("latency 1 both 25");
    behind.command("bandwidth 1 up 400000");
    let (producer, outcomes) = behind.producer(QUICK);
    for tag in 0..100_u64 {
        let value = [&numbered(tag)[..], &[7; 2000]].concat();
        producer.send(&to((tag % 2) as i32, &value, tag)).unwrap();
    }
    let (flushed, took) = timed(|| producer.flush(LONG));
    flushed.unwrap();
    assert!(took >= Duration::from_millis(400), "{took:?}: 200 kB at 400 kB/s");
    assert_eq!(behind.cluster.accepted_count(1), 2, "one for the first question, one to produce");
    let mut tags = assert_order(&behind.cluster, 2, &outcomes);
    tags.sort_unstable();
    assert_eq!(tags, (0..100).collect::<Vec<_>>());
}
