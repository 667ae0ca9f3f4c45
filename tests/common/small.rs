//! Profiles of a space of a few small units, as tests of phones and boards make them.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::phone::await_for;
use super::{Csv, journal_text, text};

/// A space of few small units.
const SPACE: &str = r#"name = "tiny"
classes = 4
bn_eps = 0.001
input = { channels = 1, height = 14, width = 14 }
candidates = ["k3e3", "k5e3", "k3e6", "zero"]
stem = { channels = 8, kernel = 3, stride = 2 }
first_block = { channels = 8, kernel = 3, expansion = 1 }
stages = [{ channels = 16, depth = 2, stride = 2 }, { channels = 24, depth = 2, stride = 1 }]
head = { channels = 32 }
"#;

pub fn space(folder: &TempDir) -> String {
    let path = folder.path().join("tiny.toml");
    fs::write(&path, SPACE).unwrap();
    text(&path).to_owned()
}

/// `profile` of the tiny space, each unit alone, so many rounds.
pub fn profile(space: &str, device: &str, table: &Path, rounds: u32) -> Vec<String> {
    let rounds = rounds.to_string();
    let words =
        ["profile", "--space", space, "--device", device, "-o", text(table), "--context", "cold", "--visit", "2"];
    let words = words.into_iter().chain(["--min-rounds", &rounds, "--max-rounds", &rounds]);
    words.map(str::to_owned).collect()
}

pub fn words(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

/// What a whole profile left: every visit once, and a table of all units.
#[track_caller]
pub fn assert_whole(table: &Path, rounds: u64) {
    let rows = Csv::read(table);
    assert_eq!(rows.provenance["rows"], rows.rows.len().to_string());
    let journal = table.with_extension("csv.journal");
    let lines: Vec<Value> = journal_text(&journal).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let subjects = lines[0]["subjects"].as_array().unwrap().len() as u64;
    let visits = lines.iter().filter_map(|line| Some((line["round"].as_u64()?, line["subject"].as_u64()?)));
    let visits: Vec<(u64, u64)> = visits.collect();
    let distinct: HashSet<_> = visits.iter().copied().collect();
    assert_eq!(distinct.len(), visits.len(), "a visit stands twice");
    let wanted = (0..=rounds).flat_map(|round| (0..subjects).map(move |subject| (round, subject)));
    assert_eq!(distinct, wanted.collect::<HashSet<_>>());
    assert_eq!(lines.iter().filter(|line| line["end"].is_object()).count(), 1);
    // Time goes on, whatever processes and connections there were.
    let times: Vec<u64> = lines.iter().filter_map(|line| line["unix_ms"].as_u64()).collect();
    assert!(times.is_sorted(), "visits in the order of time");
}

/// Visits that a journal holds so far.
pub fn visits(table: &Path) -> usize {
    let journal = table.with_extension("csv.journal");
    fs::read_to_string(journal).map_or(0, |text| text.lines().filter(|line| line.starts_with("{\"round\"")).count())
}

/// A profile whose host is killed several times, and each time gone on with, loses nothing; `check` is called behind each.
#[track_caller]
pub fn assert_survives_kills(
    process: impl Fn(&[&str]) -> Command,
    profile: &[String],
    (table, rounds): (&Path, u64),
    kills: u32,
    check: impl Fn(),
) {
    let resume = [words(profile), vec!["--resume"]].concat();
    let mut before = 0;
    for _ in 0..kills {
        let mut running = process(&resume).spawn().unwrap();
        await_for("visits", || visits(table) > before + 40 || running.try_wait().unwrap().is_some());
        assert!(running.try_wait().unwrap().is_none(), "it ended before it was killed");
        running.kill().unwrap();
        running.wait().unwrap();
        assert!(visits(table) > before, "a visit is gone");
        before = visits(table);
        check();
    }
    assert!(process(&resume).status().unwrap().success());
    assert_whole(table, rounds);
    check();
}

/// The units' |difference| between two tables, in the median.
pub fn apart(a: &Csv, b: &Csv) -> f64 {
    let pairs = a.numbers("latency_ms").into_iter().zip(b.numbers("latency_ms"));
    let mut apart: Vec<f64> = pairs.filter(|(a, _)| *a > 0.0).map(|(a, b)| (b / a - 1.0).abs()).collect();
    apart.sort_by(f64::total_cmp);
    apart[apart.len() / 2]
}

/// Two tables made here and two made there, in turns, agree like two of one place do.
#[track_caller]
pub fn assert_alike([here_1, there_1, here_2, there_2]: &[Csv; 4]) {
    let (here, there) = (apart(here_1, here_2), apart(there_1, there_2));
    let between =
        [(here_1, there_1), (here_1, there_2), (here_2, there_1), (here_2, there_2)].map(|(a, b)| apart(a, b));
    eprintln!("|difference| in the median: here {here:.4}, there {there:.4}, between them {between:?}");
    let least = between.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(least < 0.02 + 2.0 * here.max(there), "here {here}, there {there}, between them {between:?}");
}
