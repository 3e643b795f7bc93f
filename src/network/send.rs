//! The requests that one connection has to write, strictly one after another: lists of pieces, and
//! a cursor that walks them.
//!
//! A request's list of pieces is built once, by whoever made the request; it may have tens of
//! thousands. Each write takes a window of up to 1024 pieces from the cursor on, and the cursor
//! moves by what was written, at any byte. Pieces are counted references to the accumulator's
//! slabs: they are let go of when the request is written or the connection gone.

use crate::network::transport::Transport;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// What one system call takes (`UIO_MAXIOV`).
const PIECES_PER_WRITE: usize = 1024;
/// No further piece is offered beyond this, so that a write never falls short for any other reason
/// than that the socket is full (the kernel takes 2 GiB at most).
const BYTES_PER_WRITE: usize = 64 << 20;

/// A request as bytes: its head (length and header), and the pieces of its body.
#[derive(Debug)]
pub(super) struct NetworkSend {
    head: Bytes,
    body: Vec<Bytes>,
}

impl NetworkSend {
    pub(super) fn new(head: Vec<u8>, body: Vec<Bytes>) -> NetworkSend {
        NetworkSend { head: head.into(), body }
    }

    fn pieces_from(&self, first: usize) -> impl Iterator<Item = &Bytes> {
        let head = (first == 0).then_some(&self.head);
        head.into_iter().chain(self.body.iter().skip(first.saturating_sub(1)))
    }

    fn piece(&self, index: usize) -> Option<&Bytes> {
        match index.checked_sub(1) {
            None => Some(&self.head),
            Some(index) => self.body.get(index),
        }
    }
}

/// The requests of one connection that are not written to the end.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    sends: VecDeque<NetworkSend>,
    /// The cursor: a piece of the first request, and how many bytes of that piece are written.
    piece: usize,
    offset: usize,
}

impl SendQueue {
    pub(super) fn push(&mut self, send: NetworkSend) {
        self.sends.push_back(send);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// Whether any byte of the first request is written.
    pub(super) fn begun(&self) -> bool {
        self.piece > 0 || self.offset > 0
    }

    /// Writes until all is written or the transport takes no more, which is `Ok` too. Adds to
    /// `completed` the requests whose last byte was written, also before an error.
    pub(super) fn write_to(
        &mut self,
        transport: &mut impl Transport,
        completed: &mut usize,
    ) -> io::Result<()> {
        while !self.is_empty() {
            let mut window = [IoSlice::new(&[]); PIECES_PER_WRITE];
            let (pieces, offered) = self.fill(&mut window);
            let window = window.get(..pieces).unwrap_or_default();
            let written = match transport.write(window) {
                // Nothing but empty pieces was left, or the transport takes nothing without saying
                // why: trying again would go on for ever.
                Ok(0) if offered > 0 => {
                    let text = format!("the socket took 0 of {offered} bytes");
                    return Err(io::Error::new(io::ErrorKind::WriteZero, text));
                }
                Ok(written) => written,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            *completed += self.advance(written);
            if written < offered {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Fills a window from the cursor on; gives the number of pieces and of bytes in it.
    fn fill<'a>(&'a self, window: &mut [IoSlice<'a>]) -> (usize, usize) {
        let mut slots = window.iter_mut();
        let (mut count, mut bytes) = (0, 0);
        let (mut first, mut skip) = (self.piece, self.offset);
        for send in &self.sends {
            for piece in send.pieces_from(first) {
                let rest = piece.get(skip..).unwrap_or_default();
                skip = 0;
                if rest.is_empty() {
                    continue;
                }
                let slot = slots.next().filter(|_| bytes < BYTES_PER_WRITE);
                let Some(slot) = slot else { return (count, bytes) };
                *slot = IoSlice::new(rest);
                count += 1;
                bytes += rest.len();
            }
            first = 0;
        }
        (count, bytes)
    }

    /// Moves the cursor over `written` bytes, and over empty pieces; gives the number of requests
    /// that it left behind.
    fn advance(&mut self, mut written: usize) -> usize {
        let mut completed = 0;
        while let Some(send) = self.sends.front() {
            let Some(piece) = send.piece(self.piece) else {
                self.sends.pop_front();
                self.piece = 0;
                completed += 1;
                continue;
            };
            let rest = piece.len() - self.offset;
            if written < rest {
                self.offset += written;
                return completed;
            }
            written -= rest;
            self.piece += 1;
            self.offset = 0;
        }
        debug_assert_eq!(written, 0, "more was written than there was");
        completed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many bytes per write as the script says, then `WouldBlock`; over and over.
    struct Scripted {
        taken: Vec<u8>,
        script: Vec<io::Result<usize>>,
        widest: usize,
        calls: usize,
    }

    impl Scripted {
        fn new(mut script: Vec<io::Result<usize>>) -> Scripted {
            script.reverse();
            Scripted { taken: Vec::new(), script, widest: 0, calls: 0 }
        }
    }

    impl Transport for Scripted {
        fn finish_connect(&mut self) -> io::Result<bool> {
            Ok(true)
        }

        fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
            self.calls += 1;
            assert!(self.calls < 1_000_000, "an endless loop");
            self.widest = self.widest.max(pieces.len());
            assert!(pieces.len() <= PIECES_PER_WRITE);
            assert!(pieces.iter().all(|p| !p.is_empty()));
            let all: Vec<u8> = pieces.iter().flat_map(|p| p.iter().copied()).collect();
            let most = self.script.pop().unwrap_or(Err(io::ErrorKind::WouldBlock.into()))?;
            let taken = &all[..most.min(all.len())];
            self.taken.extend_from_slice(taken);
            Ok(taken.len())
        }
    }

    /// A request of `pieces` pieces, some of them empty, and its bytes.
    fn send(seed: u8, pieces: usize) -> (NetworkSend, Vec<u8>) {
        let head = vec![seed; 20];
        let body: Vec<Bytes> = (0..pieces)
            .map(|i| {
                if i % 7 == 3 { Bytes::new() } else { Bytes::from(vec![seed ^ i as u8; 1 + i % 5]) }
            })
            .collect();
        let bytes = body.iter().fold(head.clone(), |mut all, piece| {
            all.extend_from_slice(piece);
            all
        });
        (NetworkSend::new(head, body), bytes)
    }

    #[test]
    fn more_pieces_than_a_write_takes_arrive_in_order() {
        let mut queue = SendQueue::default();
        let mut expected = Vec::new();
        for (seed, pieces) in [(1, 25_000), (2, 0), (3, 1), (4, 5000)] {
            let (send, bytes) = send(seed, pieces);
            queue.push(send);
            expected.extend(bytes);
        }
        let mut transport = Scripted::new((0..100).map(|_| Ok(usize::MAX)).collect());
        let mut completed = 0;
        queue.write_to(&mut transport, &mut completed).unwrap();
        assert_eq!((completed, queue.is_empty()), (4, true));
        assert_eq!(transport.taken, expected);
        assert_eq!(transport.widest, PIECES_PER_WRITE);
        // 30,000 pieces at 1024 a call: the requests share calls, and none is made for nothing.
        let pieces = expected.len() / 2;
        assert!(transport.calls <= pieces / PIECES_PER_WRITE + 1, "{} calls", transport.calls);
    }

    #[test]
    fn a_write_may_end_at_any_byte() {
        for step in [1, 2, 3, 7, 19, 20, 21, 1000] {
            let mut queue = SendQueue::default();
            let mut expected = Vec::new();
            let mut ends = Vec::new();
            for (seed, pieces) in [(1, 300), (2, 0), (3, 50)] {
                let (send, bytes) = send(seed, pieces);
                queue.push(send);
                expected.extend(bytes);
                ends.push(expected.len());
            }
            let mut transport = Scripted::new(Vec::new());
            let mut completed = 0;
            while !queue.is_empty() {
                transport.script = vec![Ok(step)];
                queue.write_to(&mut transport, &mut completed).unwrap();
                let written = transport.taken.len();
                assert_eq!(completed, ends.iter().filter(|end| **end <= written).count());
                let at_an_end = written == 0 || ends.contains(&written);
                assert_eq!(queue.begun(), !at_an_end, "{written} bytes written");
            }
            assert_eq!(transport.taken, expected);
        }
    }

    #[test]
    fn a_write_of_nothing_is_an_error_and_no_endless_loop() {
        let mut queue = SendQueue::default();
        queue.push(send(1, 10).0);
        let mut transport = Scripted::new(vec![Ok(5), Ok(0)]);
        let mut completed = 0;
        queue.write_to(&mut transport, &mut completed).unwrap();
        let error = queue.write_to(&mut transport, &mut completed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        assert_eq!((completed, transport.calls), (0, 2));
        assert!(queue.begun());
    }

    #[test]
    fn what_was_completed_before_an_error_counts() {
        let mut queue = SendQueue::default();
        let (first, bytes) = send(1, 2000);
        queue.push(first);
        queue.push(send(2, 2000).0);
        let broken = || Err(io::ErrorKind::BrokenPipe.into());
        let mut transport = Scripted::new(vec![
            Err(io::ErrorKind::Interrupted.into()),
            Ok(usize::MAX),
            Ok(usize::MAX),
            broken(),
        ]);
        let mut completed = 0;
        let error = queue.write_to(&mut transport, &mut completed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(completed, usize::from(transport.taken.len() >= bytes.len()));
        assert_eq!(completed, 1);
        assert!(queue.begun());
    }

    #[test]
    fn requests_of_empty_pieces_are_completed() {
        let mut queue = SendQueue::default();
        queue.push(NetworkSend::new(vec![1], vec![Bytes::new(); 3000]));
        queue.push(NetworkSend::new(vec![2], vec![Bytes::new()]));
        let mut transport = Scripted::new(vec![Ok(1), Ok(1)]);
        let mut completed = 0;
        queue.write_to(&mut transport, &mut completed).unwrap();
        assert_eq!(completed, 1);
        assert!(!queue.begun());
        queue.write_to(&mut transport, &mut completed).unwrap();
        assert_eq!((completed, queue.is_empty()), (2, true));
    }
}
