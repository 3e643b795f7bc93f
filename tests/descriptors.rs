//! Descriptors: what fails to connect closes its own, once, and no leak is left. One test, so that
//! every descriptor of the process is accounted for.
#![cfg(all(feature = "mock", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::config::ProducerConfig;
use kafka_producer::producer::{Options, Producer};
use produce::{Deaf, LONG, eventually, record};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

fn open_descriptors() -> usize {
    // The folder's own is counted each time.
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Opens and closes descriptors of its own, which a second close of somebody else's would hit: a
/// number is used again as soon as it is free.
fn watch_our_own(done: &AtomicBool, rounds: &AtomicU64) {
    while !done.load(Ordering::Acquire) {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        for byte in 0..4 {
            thread::yield_now();
            a.write_all(&[byte]).unwrap();
            let mut read = [9];
            b.read_exact(&mut read).unwrap();
            assert_eq!(read, [byte], "somebody else wrote here");
        }
        rounds.fetch_add(1, Ordering::AcqRel);
    }
}

/// Ends the threads that watch and accept, also where the test fails.
struct End<'a>(&'a AtomicBool, SocketAddr);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        drop(TcpStream::connect(self.1));
    }
}

#[test]
fn s65_failed_connections_close_their_own_descriptors_once() {
    let refusing = Deaf::new();
    let closing = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closing.local_addr().unwrap();
    let before = open_descriptors();
    let done = AtomicBool::new(false);
    let (attempts, rounds) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                drop(closing.accept());
                attempts.fetch_add(1, Ordering::AcqRel);
            }
        });
        let watcher = scope.spawn(|| watch_our_own(&done, &rounds));
        let end = End(&done, address);
        let mut config = ProducerConfig::new();
        config.set("bootstrap.servers", &format!("{},{address}", refusing.address())).unwrap();
        config.set("reconnect.backoff.ms", "1").unwrap();
        config.set("reconnect.backoff.max.ms", "1").unwrap();
        config.set("max.block.ms", "50").unwrap();
        for _ in 0..3 {
            let producer = Producer::new(&config, Options::default()).unwrap();
            let both = || (attempts.load(Ordering::Acquire), rounds.load(Ordering::Acquire));
            let from = both();
            let mut most = 0;
            eventually("many attempts, and many rounds beside them", || {
                // Its threads, connections, and the watcher's pair.
                most = most.max(open_descriptors());
                producer.send(&record(b"x", 1)).unwrap_err();
                both().0 > from.0 + 200 && both().1 > from.1 + 50
            });
            assert!(most <= before + 20, "{most} descriptors, {before} before");
            producer.close(LONG).1.unwrap();
            drop(producer);
        }
        drop(end);
        watcher.join().unwrap();
    });
    eventually("all are closed", || open_descriptors() == before);
    let cluster = produce::cluster(1, 1);
    let (producer, _) = produce::producer(&cluster, &[]);
    producer.send_sync(&record(b"x", 1), LONG).unwrap();
    drop(producer);
    drop(cluster);
    eventually("all are closed", || open_descriptors() == before);
}
