//! Writes the inputs that the fuzz targets start from: `seeds FOLDER` makes a folder for each.

use std::path::Path;
use std::{env, fs, io};

use kafka_producer::config::ProducerConfig;
use kafka_producer::protocol::api::{request_frame, response_frame};
use kafka_producer::protocol::compression::{Compression, Compressor, SnappyFraming};
use kafka_producer::protocol::messages::{MetadataRequest, MetadataResponse};
use kafka_producer_fuzz::Side;
use kafka_producer_fuzz::protocol_samples::batch;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: seeds FOLDER"))?;
    let folder = Path::new(&folder);
    messages(&folder.join("responses"), Side::Response)?;
    messages(&folder.join("requests"), Side::Request)?;
    frames(&folder.join("frames"))?;
    write(&folder.join("record_batch"), "batch", &batch())?;
    write(&folder.join("record_batch"), "two_batches", &batch().repeat(2))?;
    compression(&folder.join("compression"))?;
    config(&folder.join("config"))
}

fn write(folder: &Path, name: &str, input: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(name), input)
}

fn messages(folder: &Path, side: Side) -> io::Result<()> {
    for (index, decoder) in side.decoders().into_iter().enumerate() {
        for version in decoder.versions.clone() {
            let input = side.input(index, version, &(decoder.sample)(version));
            write(folder, &format!("{}_v{version}", decoder.name), &input)?;
        }
    }
    Ok(())
}

fn frames(folder: &Path) -> io::Result<()> {
    for version in [4, 9] {
        let request = request_frame(&MetadataRequest::default(), version, 7, Some("client"));
        let response = response_frame(&MetadataResponse::default(), version, 7);
        write(folder, &format!("request_v{version}"), &request.map_err(io::Error::other)?)?;
        write(folder, &format!("response_v{version}"), &response.map_err(io::Error::other)?)?;
    }
    write(folder, "http", b"HTTP/1.1 400 Bad Request\r\n\r\n")
}

/// A block of each codec and framing, behind the byte that chooses the codec.
fn compression(folder: &Path) -> io::Result<()> {
    let snappy = |framing| Compression::Snappy { framing };
    let ways = [
        (0, "gzip", Compression::Gzip { level: 6 }),
        (1, "snappy", snappy(SnappyFraming::Raw)),
        (1, "xerial", snappy(SnappyFraming::Xerial)),
        (2, "lz4", Compression::Lz4),
        (3, "zstd", Compression::Zstd { level: 3 }),
    ];
    let batch = batch().repeat(3);
    for (choice, name, how) in ways {
        let mut block = Vec::new();
        let fits = Compressor::new().compress(how, &[&batch], usize::MAX, &mut block);
        fits.map_err(io::Error::other)?;
        write(folder, name, &[&[choice], block.as_slice()].concat())?;
        write(folder, &format!("{name}_twice"), &[&[choice], block.repeat(2).as_slice()].concat())?;
    }
    Ok(())
}

fn config(folder: &Path) -> io::Result<()> {
    let lines = [
        "bootstrap.servers=broker.example:9092,[::1]:9093\nacks=all\nlinger.ms=5",
        "metadata.broker.list=a:1\nrequest.required.acks=1\nmessage.timeout.ms=30000",
        "batch.size=1048576\nbuffer.memory=33554432\nmax.request.size=1048576",
        "allow.reordering=true\nmax.in.flight.requests.per.connection=5\nretries=0",
        "compression.type=zstd\nenable.idempotence=true\nsecurity.protocol=SSL",
    ];
    for (number, text) in lines.into_iter().enumerate() {
        let mut config = ProducerConfig::new();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            // Some are refused, which is worth a start too.
            let _ = config.set(key, value);
        }
        write(folder, &format!("lines_{number}"), text.as_bytes())?;
    }
    Ok(())
}
