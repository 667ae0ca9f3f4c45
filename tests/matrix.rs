//! `fleetfoot matrix`: every network on every device, ties told as ties, nothing measured twice.

#[path = "report/chromium.rs"]
mod chromium;
mod common;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use common::{Csv, fails_in_one_line, fleetfoot, refused_as_usage, stderr, stdout, text};
use fleetfoot_space::SearchSpace;
use serde_json::{Value, json};
use tempfile::TempDir;

/// On the simulated device latency grows with a model's size: the smallest network is the fastest on all of them.
const SMALL: &str = "0000000000";
const LARGE: &str = "1111111111";
/// As large as each other: blocks of one shape have changed places.
const SWAPPED: [&str; 2] = ["0000100000", "0001000000"];

/// What a search leaves behind, as far as it matters here.
fn search(folder: &TempDir, name: &str, architecture: &str, space: &str, devices: &[&str]) -> PathBuf {
    let run = folder.path().join(name);
    fs::create_dir(&run).unwrap();
    let toml = SearchSpace::load(space).unwrap().text().to_owned();
    let record = json!({"space_toml": toml, "architecture": architecture, "devices": devices});
    fs::write(run.join("search.json"), record.to_string()).unwrap();
    run
}

/// A second simulated device.
fn second(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("second.toml");
    fs::write(&path, include_str!("../device-configs/mock.toml")).unwrap();
    path
}

fn matrix(networks: &[&str], second: &Path, output: &Path, options: &[&str]) -> Command {
    let devices = ["--device", "mock", "--device", text(second), "-o", text(output)];
    fleetfoot(&[&["matrix"][..], networks, &devices, options].concat())
}

#[test]
fn rows_are_named_by_the_searches_devices_and_each_devices_own_network_is_judged() {
    let folder = TempDir::new().unwrap();
    let second = second(&folder);
    let (small, large) =
        (search(&folder, "a", SMALL, "fashion-28", &["mock"]), search(&folder, "b", LARGE, "fashion-28", &["second"]));
    let (output, page) = (folder.path().join("out/matrix.csv"), folder.path().join("page.html"));
    let done = matrix(&[text(&small), text(&large)], &second, &output, &["--report", text(&page)]).assert().success();
    let told = stdout(&done);
    assert!(
        told.contains("mock: its own network is the fastest; against that of second, the next, it takes −"),
        "{told}"
    );
    assert!(told.contains("second: its own network is slower than that of mock: it takes +"), "{told}");
    let table = Csv::read(&output);
    assert_eq!(table.texts("network"), ["mock", "mock", "second", "second"]);
    assert_eq!(table.texts("device"), ["mock", "second", "mock", "second"]);
    assert_eq!(table.texts("architecture"), [SMALL, SMALL, LARGE, LARGE]);
    assert_eq!(table.texts("standing"), ["fastest", "fastest", "slower", "slower"]);
    let (latency, slower) = (table.numbers("latency_ms"), table.numbers("slower_percent"));
    assert!((slower[2] - 100.0 * (latency[2] / latency[0] - 1.0)).abs() < 1e-9);
    // What each device measured is what `measure` measures there.
    let alone = folder.path().join("alone.csv");
    fleetfoot(&["measure", "--space", "fashion-28", "--device", "mock", "-o", text(&alone), SMALL, LARGE])
        .assert()
        .success();
    let kept = Csv::read(&folder.path().join("out/matrix.measured/mock.csv"));
    assert_eq!((kept.header, kept.rows), (Csv::read(&alone).header, Csv::read(&alone).rows));

    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("Every network on every device") && html.contains("data-key=\"/networks/1/blocks/2/label\""));
    let Some(dom) = chromium::dom(&page) else { return };
    let nodes = chromium::texts(&dom);
    let shown = |key: &str| -> Vec<&str> {
        let of = nodes.iter().filter(|node| node.attribute("data-key").as_deref() == Some(key));
        of.map(|node| node.text.as_str()).collect()
    };
    assert_eq!(shown("/networks/1/cells/0/latency_ms"), [format!("{:.4}", latency[2])]);
    assert_eq!(shown("/networks/1/blocks/2/label"), ["MB6 3×3"]);
    assert_eq!((shown("/specialised/fastest"), shown("/specialised/networks")), (vec!["1"], vec!["2"]));
}

#[test]
fn equal_latencies_are_a_tie_and_equal_networks_are_one() {
    let folder = TempDir::new().unwrap();
    let (second, output) = (second(&folder), folder.path().join("matrix.csv"));
    let networks = [format!("mock={}", SWAPPED[0]), format!("second={}", SWAPPED[1]), format!("third={}", SWAPPED[0])];
    let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
    let done = matrix(&networks, &second, &output, &["--space", "fashion-28", "--json"]).assert().success();
    let told: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(told["specialised"], json!({"networks": 2, "fastest": 0, "tied": 2}));
    assert_eq!(told["devices"][0]["own"]["standing"], "tie");
    assert_eq!(told["devices"][0]["own"]["other"], "second");
    let cells = |row: usize| told["networks"][row]["cells"][0].clone();
    assert_eq!((cells(0)["standing"].clone(), cells(1)["standing"].clone()), ("fastest".into(), "tie".into()));
    assert_eq!(cells(0), cells(2), "one network under two names was measured once");
    assert_eq!(Csv::read(&folder.path().join("matrix.measured/second.csv")).rows.len(), 2);
    assert_eq!(told["devices"][1]["provenance"][0][0], "tool");
}

#[test]
fn what_a_device_measured_is_kept_and_not_measured_again() {
    let folder = TempDir::new().unwrap();
    let (second, output) = (second(&folder), folder.path().join("matrix.csv"));
    let run = |options: &[&str]| matrix(&[SMALL, LARGE, "--space", "fashion-28"], &second, &output, options);
    run(&[]).assert().success();
    let whole = fs::read(&output).unwrap();
    let refusal = fails_in_one_line(run(&[]));
    assert!(refusal.contains("matrix.csv exists") && refusal.contains("--force"), "{refusal}");

    // As a kill between the first device and the second leaves it, and without the matrix.
    let kept = |name: &str| folder.path().join("matrix.measured").join(name);
    fs::remove_file(&output).unwrap();
    fs::remove_file(kept("second.csv")).unwrap();
    fs::remove_file(kept("second.csv.journal")).unwrap();
    let journal = fs::read(kept("mock.csv.journal")).unwrap();
    let refusal = fails_in_one_line(run(&[]));
    assert!(refusal.contains("mock.csv") && refusal.contains("--resume"), "{refusal}");
    let resumed = run(&["--resume"]).assert().success();
    assert!(stderr(&resumed).contains("going on behind"), "{}", stderr(&resumed));
    assert!(fs::read(kept("mock.csv.journal")).unwrap() == journal, "the first device's journal is as it was");
    assert!(fs::read(&output).unwrap() == whole, "and so is the matrix");

    // Other networks aren't those that were measured.
    let other = matrix(&[SMALL, "--space", "fashion-28"], &second, &output, &["--resume"]);
    assert!(fails_in_one_line(other).contains("device 'mock'"));
    run(&["--force"]).assert().success();
}

#[test]
fn what_makes_no_matrix_is_told() {
    let folder = TempDir::new().unwrap();
    let (second, output) = (second(&folder), folder.path().join("matrix.csv"));
    let first = search(&folder, "a", SMALL, "fashion-28", &["mock"]);
    let same = search(&folder, "same", LARGE, "fashion-28", &["mock"]);
    let other = search(&folder, "other", &"0".repeat(21), "cifar-32", &["second"]);
    let run = |networks: &[&str]| matrix(networks, &second, &output, &[]);
    let message = fails_in_one_line(run(&[text(&first), text(&other)]));
    assert!(message.contains("other/search.json is of space 'cifar-32'"), "{message}");
    assert!(message.contains("a/search.json of another ('fashion-28')"), "{message}");
    let message = fails_in_one_line(run(&[text(folder.path())]));
    assert!(message.contains("has no search.json") && message.contains("fleetfoot search"), "{message}");
    assert!(fails_in_one_line(run(&["runs/nowhere"])).contains("runs/nowhere doesn't exist"));
    let message = fails_in_one_line(run(&[text(&first), "k9e9"]));
    assert!(message.contains("'k9e9' is neither a folder nor an architecture"), "{message}");
    let message = refused_as_usage(run(&[text(&first), text(&same)]));
    assert!(message.contains("two networks are called 'mock'"), "{message}");
    assert!(refused_as_usage(run(&[SMALL])).contains("need --space"));
    let twice = fleetfoot(&["matrix", text(&first), "--device", "mock", "--device", "mock", "-o", text(&output)]);
    assert!(refused_as_usage(twice).contains("two devices are called 'mock'"));
    let unknown = fleetfoot(&["matrix", text(&first), "--device", "toaster", "-o", text(&output)]);
    assert!(fails_in_one_line(unknown).contains("no device 'toaster'"));
    assert!(!output.exists() && !folder.path().join("matrix.measured").exists());
}
