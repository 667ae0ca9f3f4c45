//! Event files, as TensorBoard reads them: records of TFRecord around protobuf messages.
//!
//! A record is its length (8 bytes, little-endian), the length's checksum (4), the message, and the message's checksum (4)
//! (tensorflow/core/lib/io/record_writer.cc). The messages' field numbers are those of event.proto, summary.proto,
//! histogram.proto and tensor.proto in tensorflow/core.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::error::SearchError;

/// What the files' names begin with.
const PREFIX: &str = "events.out.tfevents.";
/// The form of the messages (EventsWriter::kVersionPrefix); from 2 on, a session's start purges what lies behind its step.
const VERSION: &str = "brain.Event:2";
/// SessionLog.SessionStatus.START.
const START: i32 = 1;
/// DataType.DT_STRING.
const STRING: i32 = 7;
/// What is shown by the dashboard for texts.
const TEXT: &str = "text";
/// Names that are tried where files of this second are there already.
const NAMES: u64 = 100;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    Session(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(oneof = "Shown", tags = "2, 5, 8")]
    shown: Option<Shown>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Shown {
    #[prost(float, tag = "2")]
    Scalar(f32),
    #[prost(message, tag = "5")]
    Histogram(Histogram),
    #[prost(message, tag = "8")]
    Texts(Texts),
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    plugin: Option<Plugin>,
}

#[derive(Clone, PartialEq, Message)]
struct Plugin {
    #[prost(string, tag = "1")]
    name: String,
}

/// A tensor of texts, of no dimensions.
#[derive(Clone, PartialEq, Message)]
struct Texts {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
    #[prost(string, repeated, tag = "8")]
    texts: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(double, tag = "1")]
    min: f64,
    #[prost(double, tag = "2")]
    max: f64,
    #[prost(double, tag = "3")]
    num: f64,
    #[prost(double, tag = "4")]
    sum: f64,
    #[prost(double, tag = "5")]
    sum_squares: f64,
    #[prost(double, repeated, tag = "6")]
    bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    bucket: Vec<f64>,
}

/// What is shown at a step, under one name each.
#[derive(Clone, Debug, Default)]
pub struct Values(Vec<Value>);

impl Values {
    /// A number.
    pub fn scalar(&mut self, tag: &str, value: f64) {
        self.push(tag, Shown::Scalar(value as f32), None);
    }

    /// A text, in Markdown.
    pub fn text(&mut self, tag: &str, text: &str) {
        let texts = Texts { dtype: STRING, shape: Some(Shape {}), texts: vec![text.to_owned()] };
        self.push(tag, Shown::Texts(texts), Some(TEXT));
    }

    /// The probabilities of 0, 1, 2, …: a bar each, around its number.
    pub fn distribution(&mut self, tag: &str, p: &[f64]) {
        let moment = |power: i32| p.iter().enumerate().map(|(i, p)| p * (i as f64).powi(power)).sum();
        let histogram = Histogram {
            min: -0.5,
            max: p.len() as f64 - 0.5,
            num: moment(0),
            sum: moment(1),
            sum_squares: moment(2),
            bucket_limit: (0..p.len()).map(|i| i as f64 + 0.5).collect(),
            bucket: p.to_vec(),
        };
        self.push(tag, Shown::Histogram(histogram), None);
    }

    fn push(&mut self, tag: &str, shown: Shown, plugin: Option<&str>) {
        let plugin = plugin.map(|name| Plugin { name: name.to_owned() });
        let metadata = plugin.map(|plugin| Metadata { plugin: Some(plugin) });
        self.0.push(Value { tag: tag.to_owned(), shown: Some(shown), metadata });
    }
}

/// A file that a process appends to. Each process has its own: TensorBoard reads all of a folder, in the order of their names.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// A new file in a folder. What earlier files say of `from` and later steps no longer counts.
    pub fn create(folder: &Path, from: usize) -> Result<Self, SearchError> {
        let (path, file) = open(folder)?;
        let mut events = Self { path, file };
        events.write(0, What::FileVersion(VERSION.to_owned()))?;
        events.write(from, What::Session(SessionLog { status: START }))?;
        Ok(events)
    }

    /// Appends what is shown at a step. It is in the file when this returns.
    pub fn append(&mut self, step: usize, values: Values) -> Result<(), SearchError> {
        self.write(step, What::Summary(Summary { values: values.0 }))
    }

    fn write(&mut self, step: usize, what: What) -> Result<(), SearchError> {
        let event = Event { wall_time: now().as_secs_f64(), step: step as i64, what: Some(what) };
        // In one call, lest a reader or a kill come in between.
        self.file.write_all(&record(&event.encode_to_vec())).map_err(SearchError::io(&self.path))
    }
}

/// A file whose name comes behind those that are there, so that it is read behind them.
fn open(folder: &Path) -> Result<(PathBuf, File), SearchError> {
    let seconds = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
        name.split('.').next()?.parse::<u64>().ok()
    };
    let last = event_files(folder)?.iter().filter_map(seconds).max();
    let first = last.map_or(0, |last| last.saturating_add(1)).max(now().as_secs());
    let mut refused = None;
    for seconds in first..first.saturating_add(NAMES) {
        let path = folder.join(format!("{PREFIX}{seconds:010}.{}", host()));
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => refused = Some((path, error)),
            Err(error) => return Err(SearchError::io(path)(error)),
        }
    }
    let (path, error) = refused.unwrap_or_else(|| (folder.to_path_buf(), io::ErrorKind::AlreadyExists.into()));
    Err(SearchError::io(path)(error))
}

/// The event files in a folder.
pub fn event_files(folder: &Path) -> Result<Vec<PathBuf>, SearchError> {
    let entries = fs::read_dir(folder).map_err(SearchError::io(folder))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(SearchError::io(folder))?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The machine's name, if it says one.
pub fn machine_name() -> Option<String> {
    let told = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = || ["HOSTNAME", "COMPUTERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    told.or_else(named).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The machine's name, of letters that any file system takes.
fn host() -> String {
    let name = machine_name().unwrap_or_else(|| "host".to_owned());
    name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_")
}

/// A record of TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), data, &masked(data).to_le_bytes()].concat()
}

/// A checksum that may be checked in its turn (tensorflow/core/lib/hash/crc32c.h).
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (RFC 3720, appendix B.4): Castagnoli's polynomial, bits reflected.
fn crc32c(data: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = !0u32;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every record's message, its checksums held against what is there.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = fs::read(path).unwrap();
        let (mut rest, mut events) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let (length, behind) = rest.split_at(8);
            let (sum, behind) = behind.split_at(4);
            assert_eq!(masked(length).to_le_bytes(), sum, "the length's checksum");
            let (data, behind) = behind.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (sum, behind) = behind.split_at(4);
            assert_eq!(masked(data).to_le_bytes(), sum, "the message's checksum");
            events.push(Event::decode(data).unwrap());
            rest = behind;
        }
        events
    }

    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, B.4: 32 bytes of zeros, of ones, ascending.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(masked(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn what_is_appended_is_read_back_and_names_are_in_the_order_of_the_processes() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = EventFile::create(folder.path(), 0).unwrap();
        let mut values = Values::default();
        values.scalar("loss", 0.25);
        values.text("settings", "| a | b |");
        values.distribution("gates/stage1.0", &[0.5, 0.25, 0.25]);
        first.append(7, values).unwrap();
        // In the same second.
        let second = EventFile::create(folder.path(), 8).unwrap();
        assert_eq!(event_files(folder.path()).unwrap(), [first.path.clone(), second.path.clone()]);

        let events = read(&first.path);
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".to_owned())));
        assert!(events.iter().all(|event| event.wall_time > 1.7e9));
        let Some(What::Summary(Summary { values })) = &events[2].what else { panic!("{events:?}") };
        assert_eq!(events[2].step, 7);
        assert_eq!((values[0].tag.as_str(), &values[0].shown), ("loss", &Some(Shown::Scalar(0.25))));
        let Some(Shown::Texts(texts)) = &values[1].shown else { panic!("{values:?}") };
        assert_eq!((texts.dtype, &texts.texts[0][..]), (STRING, "| a | b |"));
        let Some(Shown::Histogram(histogram)) = &values[2].shown else { panic!("{values:?}") };
        assert_eq!(histogram.bucket_limit, [0.5, 1.5, 2.5]);
        assert_eq!((histogram.num, histogram.sum, histogram.sum_squares), (1.0, 0.75, 1.25));
        let start = &read(&second.path)[1];
        assert_eq!((start.step, &start.what), (8, &Some(What::Session(SessionLog { status: START }))));
    }
}
