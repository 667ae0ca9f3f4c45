//! The whole way through the programs, small: a table, a search, a training, an export, a measurement, a report; real
//! ONNX Runtime, real libtorch, real images (Fashion-MNIST).

mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use common::{Csv, fails_in_one_line, fleetfoot, fleetfoot_process, stderr, stdout, text};
use serde_json::Value;
use tempfile::TempDir;

/// A measured table of fashion-28, made once.
fn table() -> &'static Path {
    static TABLE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let made = TABLE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        let rounds = ["--min-rounds", "6", "--max-rounds", "6", "--visit", "1"];
        let profile = ["profile", "--space", "fashion-28", "-o", text(&path)];
        fleetfoot(&[&profile[..], &rounds[..]].concat()).assert().success();
        (folder, path)
    });
    &made.1
}

/// Whether there are images and a `fleetfoot-search`; in CI there must be.
fn ready() -> bool {
    let images = Path::new("/usr/share/datasets/fashion-mnist").is_dir() || std::env::var_os("FASHION_MNIST").is_some();
    let program = cargo_bin("fleetfoot").with_file_name("fleetfoot-search");
    let ready = images && program.exists();
    if !ready {
        assert!(std::env::var_os("CI").is_none(), "no Fashion-MNIST or no fleetfoot-search");
        eprintln!("skipped: no Fashion-MNIST or no fleetfoot-search (make test brings both)");
    }
    ready
}

fn target() -> String {
    let predict = ["predict", "--table", text(table()), "--space", "fashion-28", "k3e6"];
    let predicted = Csv::parse(&stdout(&fleetfoot(&predict).assert().success()));
    format!("{:.5}ms", 0.6 * predicted.numbers("latency_ms")[0])
}

fn search_arguments<'a>(folder: &'a Path, target: &'a str) -> Vec<&'a str> {
    let small = "--train-images 640 --validation-images 320 --warmup-epochs 2 --search-epochs 2 --batch 32 --threads 1 \
                 --refine-images 64 --finalists 3";
    let mut arguments = vec!["search", "--space", "fashion-28", "--table", text(table()), "--target", target];
    arguments.extend(["-o", text(folder)]);
    arguments.extend(small.split(' '));
    arguments
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_whole_way_ends_in_a_report() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    let table_here = run.join("table.csv");
    std::fs::copy(table(), &table_here).unwrap();
    let (folder_of_search, target) = (run.join("search"), target());
    let search = fleetfoot(&search_arguments(&folder_of_search, &target)).assert().success();
    let found = stdout(&search).trim().to_owned();
    assert_eq!(found.len(), 10, "standard output is the architecture");
    let record = json(&run.join("search/search.json"));
    assert_eq!(record["architecture"], found.as_str());
    assert!(record["curve"].as_array().unwrap().len() > 10);
    let finalists = record["finalists"].as_array().unwrap();
    let losses: Vec<f64> = finalists.iter().map(|finalist| finalist["cross_entropy"].as_f64().unwrap()).collect();
    assert!(losses.len() == 3 && losses.is_sorted() && finalists[0]["architecture"] == found.as_str(), "{record}");
    let target_ms = record["target_ms"].as_f64().unwrap();
    assert!(finalists.iter().all(|finalist| finalist["predicted_ms"].as_f64().unwrap() <= target_ms));
    // Another way to derive the network is another search; the same is done already.
    let mut other = search_arguments(&folder_of_search, &target);
    other.extend(["--resume", "--finalist-epochs", "2"]);
    assert!(fails_in_one_line(fleetfoot(&other)).contains("other settings"));
    other.truncate(other.len() - 2);
    assert_eq!(stdout(&fleetfoot(&other).assert().success()).trim(), found);
    for (role, architecture) in [("found", found.as_str()), ("baseline", "k3e6"), ("shallowest", "shallowest")] {
        let output = run.join("train").join(role);
        let recipe = ["--epochs", "1", "--train-images", "1280", "--batch", "32", "--threads", "1"];
        let train = ["train", "--space", "fashion-28", architecture, "-o", text(&output)];
        fleetfoot(&[&train[..], &recipe[..]].concat()).assert().success();
        fleetfoot(&["export", text(&output), "--images", "20"]).assert().success();
        let trained = json(&output.join("train.json"));
        let accuracy = trained["accuracy_percent"].as_f64().unwrap();
        assert!((0.0..=100.0).contains(&accuracy) && trained["test_images"] == 10_000, "{trained}");
        assert!(trained["onnx"]["max_abs_difference"].as_f64().unwrap() <= 1e-4);
        // A finished training is done with --resume, and refused without.
        fleetfoot(&[&train[..], &recipe[..], &["--resume"]].concat()).assert().success();
        assert!(fails_in_one_line(fleetfoot(&[&train[..], &recipe[..]].concat())).contains("--resume"));
    }
    let models: Vec<PathBuf> = ["found", "baseline", "shallowest"]
        .iter()
        .map(|role| run.join("train").join(role).join("model.onnx"))
        .collect();
    let measured = run.join("measured.csv");
    let mut measure = vec!["measure", "-o", text(&measured), "--min-rounds", "6", "--max-rounds", "6", "--onnx"];
    measure.extend(models.iter().map(|model| text(model)));
    fleetfoot(&measure).assert().success();
    let predict = ["predict", "--table", text(&table_here), "--space", "fashion-28", &found, "k3e6", "shallowest"];
    std::fs::write(run.join("predicted.csv"), stdout(&fleetfoot(&predict).assert().success())).unwrap();
    let report = fleetfoot(&["report", text(run)]).assert().success();
    assert!(stdout(&report).contains("baseline") && stderr(&report).contains("report.html"));
    let summary = json(&run.join("summary.json"));
    for role in ["baseline", "found"] {
        for key in ["accuracy", "predicted_ms", "measured_ms", "macs", "params"] {
            assert!(summary[role][key].as_f64().is_some_and(|number| number > 0.0), "{role} {key}: {summary}");
        }
    }
    assert_eq!(summary["baseline"]["architecture"], "1111111111");
    assert_eq!(summary["controls"][0]["name"], "shallowest");
    let ratio =
        summary["baseline"]["measured_ms"].as_f64().unwrap() / summary["found"]["measured_ms"].as_f64().unwrap();
    assert!((summary["speedup"].as_f64().unwrap() - ratio).abs() < 1e-9);
    assert!(run.join("report.html").exists());
}

#[test]
fn a_search_that_was_killed_goes_on_to_the_same_result() {
    if !ready() {
        return;
    }
    let (folder, target) = (tempfile::tempdir().unwrap(), target());
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let expected = stdout(&fleetfoot(&search_arguments(&whole, &target)).assert().success());
    // Asked to stop: it saves and says how to go on. A kill -9 behind that finds the checkpoint.
    let mut resume = search_arguments(&killed, &target);
    resume.push("--resume");
    for (wait_ms, name) in [(1500, signal::TERM), (900, signal::KILL), (1200, signal::TERM)] {
        let mut process = fleetfoot_process(&resume).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait_ms));
        signal::send(process.id(), name);
        process.wait().unwrap();
    }
    let done = fleetfoot(&resume).assert().success();
    assert_eq!(stdout(&done), expected);
    let without_time = |path: &Path| {
        let mut record = json(&path.join("search.json"));
        record["seconds"] = Value::Null;
        record
    };
    assert_eq!(without_time(&killed), without_time(&whole));
}

/// Signals by the system's own `kill`.
mod signal {
    pub const TERM: &str = "-TERM";
    pub const KILL: &str = "-KILL";

    pub fn send(process: u32, signal: &str) {
        // The process may have ended by itself.
        let _ = std::process::Command::new("kill").args([signal, &process.to_string()]).status();
    }
}

#[test]
fn a_search_says_what_it_cannot_do() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    for (target, wanted) in [("0.0001ms", "fastest network"), ("9s", "slowest"), ("0.2", "with its unit")] {
        let message = fails_in_one_line(fleetfoot(&search_arguments(&output, target)));
        assert!(message.contains(wanted), "{message}");
    }
    let mut elsewhere = search_arguments(&output, "0.2ms");
    elsewhere[2] = "cifar-32";
    assert!(fails_in_one_line(fleetfoot(&elsewhere)).contains("no row for conv-k3-s1-i3-o32"));
    let missing = folder.path().join("none");
    let mut no_data = search_arguments(&output, "0.2ms");
    no_data.extend(["--data", text(&missing)]);
    assert!(fails_in_one_line(fleetfoot(&no_data)).contains("no data set is there"));
    assert!(fails_in_one_line(fleetfoot(&["export", text(&missing)])).contains("fleetfoot train"));
    assert_eq!(fleetfoot(&["search", "--no-such-flag"]).assert().failure().get_output().status.code(), Some(2));
    let help = stdout(&fleetfoot(&["search", "--help"]).assert().success());
    assert!(help.contains("--target") && help.contains("fleetfoot search"), "{help}");
}
