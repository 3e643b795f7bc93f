//! Kafka's basic types, read from a socket as the bytes come in and written to a buffer.

use socket2::Socket;
use std::io::{self, Read};
use std::mem::MaybeUninit;

const BUFFER: usize = 16 * 1024;
/// Below this, reading the bytes along with what follows them costs less than a call of their own.
const WORTH_DROPPING: usize = 8 * 1024;
const DROP_AT_ONCE: usize = 1024 * 1024;

/// An error in what the peer sent.
pub fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads one frame after another. Everything read is taken off the current frame first: a count or
/// length that leads out of it is an error.
pub struct Reader {
    socket: Socket,
    buffer: Box<[u8; BUFFER]>,
    start: usize,
    end: usize,
    left: usize,
    dropped: Box<[MaybeUninit<u8>]>,
}

impl Reader {
    /// Reads from this socket.
    pub fn new(socket: Socket) -> Reader {
        Reader {
            socket,
            buffer: Box::new([0; BUFFER]),
            start: 0,
            end: 0,
            left: 0,
            dropped: vec![MaybeUninit::uninit(); DROP_AT_ONCE].into_boxed_slice(),
        }
    }

    /// The socket, to write to.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Begins the next frame; false if the peer has closed the connection instead.
    pub fn next_frame(&mut self) -> io::Result<bool> {
        if self.left != 0 {
            return Err(invalid("bytes are left over at a request's end"));
        }
        if self.start == self.end && self.fill()? == 0 {
            return Ok(false);
        }
        self.left = 4;
        let length = self.i32()?;
        self.left = usize::try_from(length).map_err(|_| invalid("a frame's length is negative"))?;
        Ok(true)
    }

    fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        match self.socket.read(free) {
            Ok(read) => {
                self.end += read;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn charge(&mut self, bytes: usize) -> io::Result<()> {
        self.left =
            self.left.checked_sub(bytes).ok_or_else(|| invalid("a request is cut short"))?;
        Ok(())
    }

    /// Fills `out`.
    pub fn exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        self.charge(out.len())?;
        let mut filled = 0;
        while filled < out.len() {
            if self.start == self.end && self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let there = self.buffer.get(self.start..self.end).unwrap_or_default();
            let take = there.len().min(out.len() - filled);
            if let (Some(to), Some(from)) = (out.get_mut(filled..filled + take), there.get(..take))
            {
                to.copy_from_slice(from);
            }
            self.start += take;
            filled += take;
        }
        Ok(())
    }

    /// Appends so many bytes of the frame to `out`.
    pub fn append(&mut self, out: &mut Vec<u8>, bytes: usize) -> io::Result<()> {
        if bytes > self.left {
            return Err(invalid("bytes lead out of their request"));
        }
        let start = out.len();
        out.resize(start + bytes, 0);
        self.exact(out.get_mut(start..).unwrap_or_default())
    }

    /// Drops bytes: those still in the socket are dropped there, without a copy.
    pub fn skip(&mut self, bytes: usize) -> io::Result<()> {
        self.charge(bytes)?;
        let mut left = bytes;
        loop {
            let there = left.min(self.end - self.start);
            self.start += there;
            left -= there;
            if left == 0 {
                return Ok(());
            }
            if left < WORTH_DROPPING {
                if self.fill()? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            let at_once = left.min(DROP_AT_ONCE);
            let place = self.dropped.get_mut(..at_once).unwrap_or_default();
            // On a TCP socket MSG_TRUNC takes the bytes off the queue and writes nothing.
            match self.socket.recv_with_flags(place, MSG_TRUNC | MSG_WAITALL)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                dropped => left -= dropped,
            }
        }
    }

    /// Drops what is left of the frame.
    pub fn skip_rest(&mut self) -> io::Result<()> {
        self.skip(self.left)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.exact(&mut bytes)?;
        Ok(bytes)
    }

    /// INT16.
    pub fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// INT32.
    pub fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// UUID.
    pub fn uuid(&mut self) -> io::Result<[u8; 16]> {
        self.array()
    }

    /// UNSIGNED_VARINT.
    pub fn varint(&mut self) -> io::Result<u32> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(invalid("a varint is too long"))
    }

    /// The length of an array, a string of `long` (INT32) or short (INT16) length or bytes, by
    /// whether the version is flexible; none for null.
    pub fn length(&mut self, flexible: bool, long: bool) -> io::Result<Option<usize>> {
        let length = match (flexible, long) {
            (true, _) => return Ok(self.varint()?.checked_sub(1).and_then(|n| n.try_into().ok())),
            (false, true) => self.i32()?,
            (false, false) => self.i16()?.into(),
        };
        Ok(usize::try_from(length).ok())
    }

    /// STRING or COMPACT_STRING, nullable or not.
    pub fn string(&mut self, flexible: bool) -> io::Result<Option<Vec<u8>>> {
        let Some(length) = self.length(flexible, false)? else { return Ok(None) };
        let mut string = Vec::new();
        self.append(&mut string, length)?;
        Ok(Some(string))
    }

    /// The tagged fields at the end of a structure of a flexible version: none is of interest.
    pub fn tags(&mut self, flexible: bool) -> io::Result<()> {
        if flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let length = self.varint()?;
                self.skip(usize::try_from(length).unwrap_or(usize::MAX))?;
            }
        }
        Ok(())
    }
}

const MSG_TRUNC: i32 = 0x20;
const MSG_WAITALL: i32 = 0x100;

/// Writes one response frame. Its buffer is reused.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Begins a frame with the response header.
    pub fn begin(&mut self, correlation_id: i32, tagged_header: bool) {
        self.bytes.clear();
        self.bytes.extend([0; 4]);
        self.i32(correlation_id);
        self.tags(tagged_header);
    }

    /// The finished frame.
    pub fn frame(&mut self) -> &[u8] {
        let length = u32::try_from(self.bytes.len() - 4).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.first_chunk_mut() {
            *place = length.to_be_bytes();
        }
        &self.bytes
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// BOOLEAN or INT8.
    pub fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    /// INT16.
    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// INT32.
    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// INT64.
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// UNSIGNED_VARINT.
    pub fn varint(&mut self, mut value: usize) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                return self.raw(&[low]);
            }
            self.raw(&[low | 0x80]);
        }
    }

    /// The length of an array.
    pub fn length(&mut self, flexible: bool, length: usize) {
        if flexible {
            self.varint(length + 1);
        } else {
            self.i32(i32::try_from(length).unwrap_or(i32::MAX));
        }
    }

    /// A string, or null.
    pub fn string(&mut self, flexible: bool, string: Option<&[u8]>) {
        match (flexible, string) {
            (true, None) => self.varint(0),
            (true, Some(bytes)) => self.varint(bytes.len() + 1),
            (false, None) => self.i16(-1),
            (false, Some(bytes)) => self.i16(i16::try_from(bytes.len()).unwrap_or(i16::MAX)),
        }
        self.raw(string.unwrap_or_default());
    }

    /// No tagged fields.
    pub fn tags(&mut self, flexible: bool) {
        if flexible {
            self.raw(&[0]);
        }
    }
}
