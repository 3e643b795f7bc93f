//! The responses of one connection, from bytes to frames.
//!
//! Small frames are cut out of one fixed buffer, so that one read usually brings a whole response,
//! or several. A frame that does not fit there gets a buffer of its own, after its size was checked
//! against the cap, and that buffer grows with what arrived, never by what the peer claims.

use crate::network::transport::Transport;
use crate::protocol::api::{LENGTH_BYTES, frame_len};
use bytes::Bytes;
use std::io;

/// The fixed buffer of a connection.
const BUFFER_SIZE: usize = 16 * 1024;
/// What a frame's own buffer has at least, if the frame is that long; then it doubles.
const LARGE_FRAME_START: usize = 64 * 1024;
/// A frame has at least a correlation id.
const FRAME_MIN: usize = 4;

/// Why no more can be read.
#[derive(Debug)]
pub(super) enum ReceiveError {
    /// The peer closed the connection; `cut`: inside a frame.
    Closed { cut: bool },
    /// The operating system says so.
    Io(io::Error),
    /// A frame of a size that cannot be.
    Frame {
        /// What is wrong.
        message: String,
        /// Its first bytes, as far as they arrived, with the size.
        head: Vec<u8>,
    },
}

/// Whether a read left something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing until the selector reports the connection again.
    Nothing,
    /// Maybe more: read again without waiting.
    More,
}

/// The bytes of one connection that are not a whole frame yet.
#[derive(Debug)]
pub(super) struct ReceiveBuffer {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    large: Option<LargeFrame>,
    frame_max: usize,
}

#[derive(Debug)]
struct LargeFrame {
    bytes: Vec<u8>,
    filled: usize,
    size: usize,
}

impl ReceiveBuffer {
    /// A buffer that refuses frames of more than `frame_max` bytes.
    pub(super) fn new(frame_max: usize) -> ReceiveBuffer {
        let buffer = vec![0; BUFFER_SIZE].into_boxed_slice();
        ReceiveBuffer { buffer, start: 0, end: 0, large: None, frame_max }
    }

    /// From the next frame on.
    pub(super) fn set_frame_max(&mut self, frame_max: usize) {
        self.frame_max = frame_max;
    }

    /// Reads what is there, but not much more than `budget`, and appends the frames (without their
    /// sizes), also those before an error. `to_the_end`: the peer has closed, so that a short read
    /// does not mean that nothing is left.
    pub(super) fn read_from(
        &mut self,
        transport: &mut impl Transport,
        frames: &mut Vec<Bytes>,
        budget: usize,
        to_the_end: bool,
    ) -> Result<Left, ReceiveError> {
        let mut total = 0;
        loop {
            let space = self.space();
            let most = space.len();
            debug_assert!(most > 0);
            let count = match transport.read(space) {
                Ok(0) => return Err(ReceiveError::Closed { cut: self.is_inside_a_frame() }),
                Ok(count) => count.min(most),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Left::Nothing),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(ReceiveError::Io(e)),
            };
            self.received(count, frames)?;
            if count < most && !to_the_end {
                return Ok(Left::Nothing);
            }
            total += count;
            if total >= budget {
                return Ok(Left::More);
            }
        }
    }

    fn is_inside_a_frame(&self) -> bool {
        self.large.is_some() || self.end > self.start
    }

    /// Where the next bytes go; never empty.
    fn space(&mut self) -> &mut [u8] {
        if let Some(large) = &mut self.large {
            if large.filled == large.bytes.len() {
                let doubled = large.filled.saturating_mul(2).max(LARGE_FRAME_START);
                let len = doubled.min(large.size);
                large.bytes.reserve_exact(len - large.filled);
                large.bytes.resize(len, 0);
            }
            return &mut large.bytes[large.filled..];
        }
        // What is left of the last read is less than a frame that fits: moved to the front, it
        // leaves room.
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    fn received(&mut self, count: usize, frames: &mut Vec<Bytes>) -> Result<(), ReceiveError> {
        let Some(large) = &mut self.large else {
            self.end += count;
            return self.cut_frames(frames);
        };
        large.filled += count;
        if large.filled == large.size
            && let Some(large) = self.large.take()
        {
            frames.push(large.bytes.into());
        }
        Ok(())
    }

    /// Cuts the frames out of the fixed buffer.
    fn cut_frames(&mut self, frames: &mut Vec<Bytes>) -> Result<(), ReceiveError> {
        loop {
            let received = &self.buffer[self.start..self.end];
            let size = match frame_len(received, self.frame_max) {
                Ok(None) => return Ok(()),
                Ok(Some(size)) if size >= FRAME_MIN => size,
                Ok(Some(size)) => {
                    let message = format!("a response of {size} bytes, too short for its header");
                    return Err(ReceiveError::Frame { message, head: received.to_vec() });
                }
                Err(error) => {
                    let message = error.message.into_owned();
                    return Err(ReceiveError::Frame { message, head: received.to_vec() });
                }
            };
            let body = &received[LENGTH_BYTES..];
            if let Some(frame) = body.get(..size) {
                frames.push(Bytes::copy_from_slice(frame));
                self.start += LENGTH_BYTES + size;
            } else if LENGTH_BYTES + size <= self.buffer.len() {
                return Ok(());
            } else {
                let (bytes, filled) = (body.to_vec(), body.len());
                self.large = Some(LargeFrame { bytes, filled, size });
                (self.start, self.end) = (0, 0);
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::io::IoSlice;

    /// Gives the chunks, one a read, split where the buffer is smaller; then `WouldBlock`, or the
    /// end.
    #[derive(Default)]
    struct Chunks {
        chunks: VecDeque<Vec<u8>>,
        closed: bool,
        largest_buffer: usize,
    }

    impl Chunks {
        fn of(bytes: &[u8], size: usize) -> Chunks {
            let chunks = bytes.chunks(size).map(<[u8]>::to_vec).collect();
            Chunks { chunks, ..Chunks::default() }
        }
    }

    impl Transport for Chunks {
        fn finish_connect(&mut self) -> io::Result<bool> {
            Ok(true)
        }

        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.largest_buffer = self.largest_buffer.max(buffer.len());
            let Some(mut chunk) = self.chunks.pop_front() else {
                return if self.closed { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
            };
            let count = chunk.len().min(buffer.len());
            buffer[..count].copy_from_slice(&chunk[..count]);
            if count < chunk.len() {
                self.chunks.push_front(chunk.split_off(count));
            }
            Ok(count)
        }

        fn write(&mut self, _pieces: &[IoSlice<'_>]) -> io::Result<usize> {
            Ok(0)
        }
    }

    fn frame(size: usize) -> Vec<u8> {
        let mut frame = (size as u32).to_be_bytes().to_vec();
        frame.extend((0..size).map(|i| (i * 31 + size) as u8));
        frame
    }

    /// Reads until nothing or an error is left.
    fn read_all(
        buffer: &mut ReceiveBuffer,
        transport: &mut Chunks,
    ) -> (Vec<Bytes>, Option<ReceiveError>) {
        let mut frames = Vec::new();
        loop {
            match buffer.read_from(transport, &mut frames, usize::MAX, false) {
                Ok(_) if transport.chunks.is_empty() && !transport.closed => return (frames, None),
                Ok(_) => {}
                Err(error) => return (frames, Some(error)),
            }
        }
    }

    const SIZES: [usize; 13] = [
        4,
        5,
        100,
        BUFFER_SIZE - 5,
        BUFFER_SIZE - 4,
        BUFFER_SIZE - 3,
        BUFFER_SIZE,
        7,
        LARGE_FRAME_START,
        LARGE_FRAME_START + 1,
        300_000,
        4,
        4,
    ];

    #[test]
    fn frames_of_all_sizes_in_chunks_of_all_sizes() {
        let bytes: Vec<u8> = SIZES.iter().flat_map(|size| frame(*size)).collect();
        for chunk in [1, 2, 3, 5, 8, 4095, BUFFER_SIZE, 100_000, usize::MAX] {
            let mut buffer = ReceiveBuffer::new(1 << 20);
            let mut transport = Chunks::of(&bytes, chunk.min(bytes.len()));
            let (frames, error) = read_all(&mut buffer, &mut transport);
            assert!(error.is_none());
            assert_eq!(frames.len(), SIZES.len());
            for (found, size) in frames.iter().zip(SIZES) {
                assert_eq!(found[..], frame(size)[4..], "{size} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn a_claimed_size_reserves_nothing() {
        let mut buffer = ReceiveBuffer::new(100_000_000);
        let mut transport = Chunks::of(&[0x05, 0xf5, 0xe1, 0, 1, 2, 3], 7);
        let (frames, error) = read_all(&mut buffer, &mut transport);
        assert!(frames.is_empty() && error.is_none());
        transport.chunks.push_back(vec![9; 100]);
        let _ = read_all(&mut buffer, &mut transport);
        assert!(buffer.large.as_ref().unwrap().bytes.capacity() <= LARGE_FRAME_START);
        assert!(transport.largest_buffer <= LARGE_FRAME_START);
    }

    #[test]
    fn sizes_that_cannot_be() {
        for (claimed, text) in [
            (-1_i32, "-1 bytes"),
            (i32::MIN, "-2147483648 bytes"),
            (1001, "1001 bytes"),
            (i32::MAX, "2147483647 bytes"),
            (0, "0 bytes"),
            (3, "3 bytes"),
        ] {
            let mut bytes = frame(50);
            bytes.extend(claimed.to_be_bytes());
            bytes.extend(b"tail");
            for chunk in [1, 1000] {
                let mut buffer = ReceiveBuffer::new(1000);
                let mut transport = Chunks::of(&bytes, chunk);
                let (frames, error) = read_all(&mut buffer, &mut transport);
                // What came before it counts.
                assert_eq!(frames.len(), 1);
                let Some(ReceiveError::Frame { message, head }) = error else {
                    panic!("{claimed}: {error:?}")
                };
                assert!(message.contains(text), "{message}");
                assert!(head.starts_with(&claimed.to_be_bytes()));
            }
        }
    }

    #[test]
    fn the_end_tells_whether_a_frame_was_cut() {
        for (len, cut) in [(54, false), (55, true), (58, true), (60, true), (108, false)] {
            let bytes = [frame(50), frame(50)].concat();
            let mut transport = Chunks::of(&bytes[..len], 10);
            transport.closed = true;
            let (_, error) = read_all(&mut ReceiveBuffer::new(1000), &mut transport);
            assert!(
                matches!(error, Some(ReceiveError::Closed { cut: found }) if found == cut),
                "{len}: {error:?}"
            );
        }
        let mut transport = Chunks::of(&frame(50_000)[..40_000], 10_000);
        transport.closed = true;
        let (_, error) = read_all(&mut ReceiveBuffer::new(100_000), &mut transport);
        assert!(matches!(error, Some(ReceiveError::Closed { cut: true })));
    }

    #[test]
    fn a_budget_leaves_the_rest_for_later() {
        let bytes: Vec<u8> = (0..200).flat_map(|_| frame(1000)).collect();
        let mut transport = Chunks::of(&bytes, bytes.len());
        let (mut buffer, mut frames) = (ReceiveBuffer::new(1000), Vec::new());
        let left = buffer.read_from(&mut transport, &mut frames, 50_000, false).unwrap();
        assert_eq!(left, Left::More);
        assert!((49..=67).contains(&frames.len()), "{}", frames.len());
    }
}
