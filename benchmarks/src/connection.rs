//! One connection: requests in, answers out, in order.

use crate::check::{self, HEADER, Sequences};
use crate::counts::{Counts, Request};
use crate::messages;
use crate::wire::{Reader, Writer, invalid};
use socket2::Socket;
use std::io::{self, Write};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const CORRUPT_MESSAGE: i16 = 2;

/// A request's header, as far as it matters.
struct Header {
    key: i16,
    version: i16,
    correlation_id: i32,
}

/// A client's connection.
pub struct Connection<'a> {
    reader: Reader,
    writer: Writer,
    port: u16,
    /// Where batches are verified: what sequences came so far, and room for a batch.
    check: Option<(Sequences, Vec<u8>)>,
    counts: &'a Counts,
}

impl<'a> Connection<'a> {
    /// A connection that counts into `counts`.
    pub fn new(socket: Socket, port: u16, check: bool, counts: &'a Counts) -> Connection<'a> {
        let check = check.then(Default::default);
        Connection { reader: Reader::new(socket), writer: Writer::default(), port, check, counts }
    }

    /// Answers until the client leaves.
    pub fn serve(mut self) -> io::Result<()> {
        self.reader.socket().set_tcp_nodelay(true)?;
        while self.reader.next_frame()? {
            let header = self.header()?;
            if self.answer(&header)? {
                let frame = self.writer.frame();
                let mut socket = self.reader.socket();
                match socket.write_all(frame) {
                    // The client is gone and takes no answer any more.
                    Err(error) if is_gone(&error) => return Ok(()),
                    result => result?,
                }
            }
        }
        Ok(())
    }

    fn header(&mut self) -> io::Result<Header> {
        let key = self.reader.i16()?;
        let version = self.reader.i16()?;
        let correlation_id = self.reader.i32()?;
        self.reader.string(false)?;
        if messages::supports(key, version) {
            self.reader.tags(messages::is_flexible(key, version))?;
        } else if key != messages::API_VERSIONS {
            return Err(invalid(&format!("a request of type {key}, version {version}")));
        }
        Ok(Header { key, version, correlation_id })
    }

    /// Writes the answer; false if none is wanted.
    fn answer(&mut self, header: &Header) -> io::Result<bool> {
        let &Header { key, version, correlation_id } = header;
        // An ApiVersions answer keeps the first header: the client can't know our versions yet.
        let tagged = key != messages::API_VERSIONS && messages::is_flexible(key, version);
        self.writer.begin(correlation_id, tagged);
        match key {
            messages::PRODUCE => return self.produce(version),
            messages::METADATA => {
                let topics = messages::metadata_request(version, &mut self.reader)?;
                let partitions = self.counts.partitions();
                messages::metadata(version, &topics, partitions, self.port, &mut self.writer);
            }
            messages::API_VERSIONS => {
                self.reader.skip_rest()?;
                messages::api_versions(version, &mut self.writer);
            }
            _ => {
                self.reader.skip_rest()?;
                let producer_id = self.counts.producer_id();
                messages::init_producer_id(version, producer_id, &mut self.writer);
            }
        }
        Ok(true)
    }

    /// Reads a Produce request and writes the response's body beside: one has the other's order.
    fn produce(&mut self, version: i16) -> io::Result<bool> {
        let flexible = messages::is_flexible(messages::PRODUCE, version);
        let mut got = Request::default();
        self.reader.string(flexible)?;
        let acks = self.reader.i16()?;
        self.reader.i32()?;
        let topics = self.reader.length(flexible, true)?.unwrap_or(0);
        self.writer.length(flexible, topics);
        for _ in 0..topics {
            if version >= 13 {
                let id = self.reader.uuid()?;
                self.writer.raw(&id);
            } else {
                let name = self.reader.string(flexible)?;
                self.writer.string(flexible, name.as_deref());
            }
            let partitions = self.reader.length(flexible, true)?.unwrap_or(0);
            self.writer.length(flexible, partitions);
            for _ in 0..partitions {
                self.partition(version, &mut got)?;
            }
            self.reader.tags(flexible)?;
            self.writer.tags(flexible);
        }
        self.reader.tags(flexible)?;
        self.writer.i32(0);
        self.writer.tags(flexible);
        self.counts.add(&got);
        Ok(acks != 0)
    }

    fn partition(&mut self, version: i16, got: &mut Request) -> io::Result<()> {
        let flexible = messages::is_flexible(messages::PRODUCE, version);
        let index = self.reader.i32()?;
        let length = self.reader.length(flexible, true)?.unwrap_or(0);
        let appended = self.batch(index, length, got)?;
        self.reader.tags(flexible)?;
        let (error, offset) = match appended {
            Ok(records) => match self.counts.append(index, records) {
                Some(offset) => (0, offset),
                None => (UNKNOWN_TOPIC_OR_PARTITION, -1),
            },
            Err(what) => {
                eprintln!("null-broker: partition {index}: {what}");
                self.counts.invalid();
                (CORRUPT_MESSAGE, -1)
            }
        };
        let out = &mut self.writer;
        out.i32(index);
        out.i16(error);
        out.i64(offset);
        out.i64(-1);
        if version >= 5 {
            out.i64(0);
        }
        if version >= 8 {
            out.length(flexible, 0);
            out.string(flexible, None);
        }
        out.tags(flexible);
        Ok(())
    }

    /// Takes a partition's bytes, which are one batch; the number of its records, or what is wrong.
    fn batch(
        &mut self,
        index: i32,
        length: usize,
        got: &mut Request,
    ) -> io::Result<Result<i32, String>> {
        let mut header = [0; HEADER];
        let Some(rest) = length.checked_sub(HEADER) else {
            self.reader.skip(length)?;
            return Ok(Err(format!("{length} bytes are no batch")));
        };
        self.reader.exact(&mut header)?;
        let header = check::Header::read(&header);
        got.batches += 1;
        let records = u64::try_from(header.count).unwrap_or(0);
        got.records += records;
        if let Some(with_codec) = got.codecs.get_mut(header.codec()) {
            *with_codec += records;
        }
        got.bytes += u64::try_from(length).unwrap_or(0);
        let Some((sequences, room)) = &mut self.check else {
            self.reader.skip(rest)?;
            return Ok(Ok(header.count));
        };
        room.clear();
        // Bounded by what has come: a length that leads out of the request is refused before.
        self.reader.append(room, rest)?;
        let verdict = header.verify(room).and_then(|()| sequences.verify(index, &header));
        Ok(verdict.map(|()| header.count))
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
