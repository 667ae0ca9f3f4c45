//! What the end-to-end tests share: the real programs, scratch folders, tables read back.

#![allow(dead_code)] // Every test program uses its own share.

pub mod learning;
pub mod phone;
pub mod small;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use fleetfoot_profiler::{Agent, DeviceConfig};
use fleetfoot_space::{Operator, OperatorKey, Precision, Shape};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// ONNX Runtime of this checkout, for agents that lie outside of it; `None` where the environment says which, or where
/// agents find it by themselves.
pub fn own_runtime() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("native/onnxruntime/lib/libonnxruntime.so.1.31.1");
    (std::env::var_os("ORT_DYLIB_PATH").is_none() && own.exists()).then_some(own)
}

/// The real `fleetfoot`, with a runtime in reach.
pub fn fleetfoot(arguments: &[&str]) -> Command {
    Command::from_std(fleetfoot_process(arguments))
}

/// The same, for tests that signal the process.
pub fn fleetfoot_process(arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(cargo_bin("fleetfoot"));
    command.args(arguments);
    if let Some(library) = own_runtime() {
        command.env("ORT_DYLIB_PATH", library);
    }
    command
}

/// ONNX Runtime on this machine's CPU.
pub fn agent() -> Agent {
    let mut device = DeviceConfig::load("local-cpu").unwrap();
    device.runtime_library = own_runtime().map(|path| text(&path).to_owned());
    Agent::start(&device).unwrap()
}

/// A unit with odd sizes, strides and groups; its channels are multiples of the groups.
pub fn random_unit(rng: &mut ChaCha8Rng) -> OperatorKey {
    let kernel = [1, 3, 5, 7, 9][rng.random_range(0..5)];
    let stride = rng.random_range(1..=3);
    let groups = [1, 1, 2, 4][rng.random_range(0..4)];
    let c_in = groups * rng.random_range(1..=8);
    let c_out = groups * rng.random_range(1..=8);
    let operator = match rng.random_range(0..5) {
        0 | 1 => Operator::Conv { kernel, stride, c_in, c_out, groups },
        2 | 3 => {
            let shortcut = stride == 1 && rng.random();
            let c_out = if shortcut { c_in } else { c_out };
            let expansion = Some(rng.random_range(0..=6)).filter(|ratio| *ratio > 0);
            Operator::MbConv { kernel, expansion, stride, c_in, c_out, groups, shortcut }
        }
        _ => Operator::Head { c_in, c_hidden: rng.random_range(1..=64), classes: rng.random_range(2..=30) },
    };
    let batch = if rng.random_range(0..4) == 0 { 3 } else { 1 };
    let input = Shape::new(batch, c_in, rng.random_range(1..=33), rng.random_range(1..=33));
    OperatorKey { operator, input, precision: Precision::Fp32 }
}

/// A journal's lines, be it compressed or not.
pub fn journal_text(journal: &Path) -> String {
    let bytes = fs::read(journal).unwrap();
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return String::from_utf8(bytes).unwrap();
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    text
}

/// What a program that ended said on standard error.
pub fn stderr(assert: &assert_cmd::assert::Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).expect("messages are UTF-8")
}

/// What a program that ended wrote to standard output.
pub fn stdout(assert: &assert_cmd::assert::Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).expect("output is UTF-8")
}

/// Fails as a tool should: the exit status, nothing on standard output, one line on standard error, no panic. Returns
/// the line.
#[track_caller]
pub fn fails_in_one_line(command: Command) -> String {
    fails_with(1, command)
}

/// The same for a command line that makes no sense, where that isn't seen from one option alone.
#[track_caller]
pub fn refused_as_usage(command: Command) -> String {
    fails_with(2, command)
}

#[track_caller]
fn fails_with(status: i32, mut command: Command) -> String {
    let assert = command.assert();
    let (message, output) = (stderr(&assert), stdout(&assert));
    assert_eq!(assert.get_output().status.code(), Some(status), "exit status; it said: {message}");
    assert_eq!(output, "", "standard output of a failure");
    assert!(!message.contains("panicked") && !message.contains("RUST_BACKTRACE"), "a panic: {message}");
    assert_eq!(message.lines().count(), 1, "one line wanted: {message}");
    assert!(message.starts_with("fleetfoot: "), "who speaks: {message}");
    message
}

/// A latency table or a file of measurements, as any reader of CSV sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Csv {
    pub provenance: BTreeMap<String, String>,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Csv {
    pub fn read(path: &Path) -> Self {
        Self::parse(&fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    pub fn parse(text: &str) -> Self {
        let heads = text.lines().map_while(|line| line.strip_prefix("# "));
        let pairs = heads.filter_map(|line| line.split_once(": "));
        let provenance = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
        let fields = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect::<Vec<_>>();
        let header = fields(reader.headers().unwrap());
        let rows = reader.records().map(|record| fields(&record.unwrap())).collect();
        Self { provenance, header, rows }
    }

    /// A column as numbers.
    pub fn numbers(&self, column: &str) -> Vec<f64> {
        let index = self.header.iter().position(|name| name == column);
        let index = index.unwrap_or_else(|| panic!("no column {column} in {:?}", self.header));
        self.rows.iter().map(|row| row[index].parse().unwrap()).collect()
    }

    /// The columns with these names, as texts.
    pub fn texts(&self, column: &str) -> Vec<&str> {
        let index = self.header.iter().position(|name| name == column).unwrap();
        self.rows.iter().map(|row| row[index].as_str()).collect()
    }
}

/// A path as the text that an argument is.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// Whether there is GNU parallel; in CI there must be.
pub fn parallel_is_here() -> bool {
    let version = std::process::Command::new("parallel").arg("--version").output();
    let is_gnu = version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("GNU parallel"));
    if !is_gnu {
        assert!(std::env::var_os("CI").is_none(), "no GNU parallel");
        eprintln!("skipped: no GNU parallel (make test brings it)");
    }
    is_gnu
}

/// A file system of its own, unmounted at the end whatever happens.
pub struct Mount(pub PathBuf);

impl Mount {
    /// `None`, with the reason on standard error, where it can't be mounted; in CI it must be.
    pub fn new(folder: &tempfile::TempDir, options: &str) -> Option<Self> {
        let path = folder.path().join("mounted");
        fs::create_dir(&path).unwrap();
        let skipped = |why: &str| {
            assert!(std::env::var_os("CI").is_none(), "can't mount a tmpfs: {why}");
            eprintln!("skipped: can't mount a tmpfs (root only): {why}");
            None
        };
        let mount =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&path).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(path)),
            Ok(output) => skipped(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => skipped(&error.to_string()),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}
