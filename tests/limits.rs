//! Hard limits through the program: several at once, several devices, and latencies that are held as measured.

mod common;

use std::path::{Path, PathBuf};

use common::learning::ready_with_images;
use common::{Csv, fails_in_one_line, fleetfoot, stderr, stdout, text};
use fleetfoot_space::SearchSpace;
use serde_json::Value;

const SMALL: &str = "--train-images 640 --validation-images 320 --warmup-epochs 1 --search-epochs 3 --batch 32 --threads 1 \
                     --alpha-lr 0.05 --weight-steps 2 --cut-below 0.05";

fn search(output: &Path, options: &[&str]) -> assert_cmd::Command {
    let mut arguments = vec!["search", "--space", "fashion-28", "-o", text(output)];
    arguments.extend(options);
    arguments.extend(SMALL.split(' '));
    fleetfoot(&arguments)
}

fn record(output: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(output.join("search.json")).unwrap()).unwrap()
}

/// The simulated device's table, each latency times a factor.
fn table(folder: &Path, factor: f64) -> PathBuf {
    let path = folder.join(format!("table{factor}.csv"));
    fleetfoot(&["profile", "--space", "fashion-28", "--device", "mock", "-o", text(&path)]).assert().success();
    let content = std::fs::read_to_string(&path).unwrap();
    let header = content.lines().find(|line| !line.starts_with('#')).unwrap();
    let scaled = ["latency_ms", "low_ms", "high_ms", "raw_ms"];
    let columns: Vec<bool> = header.split(',').map(|name| scaled.contains(&name)).collect();
    let line = |line: &str| -> String {
        if line.starts_with('#') || line == header {
            return line.to_owned();
        }
        let cells = line.split(',').zip(&columns).map(|(cell, scaled)| match scaled {
            true => (cell.parse::<f64>().unwrap() * factor).to_string(),
            false => cell.to_owned(),
        });
        cells.collect::<Vec<String>>().join(",")
    };
    let lines: Vec<String> = content.lines().map(line).collect();
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

fn latency(table: &Path, architecture: &str) -> f64 {
    let predict = ["predict", "--table", text(table), "--space", "fashion-28", architecture];
    Csv::parse(&stdout(&fleetfoot(&predict).assert().success())).numbers("latency_ms")[0]
}

#[test]
fn a_target_is_met_as_measured_although_the_table_promises_too_much() {
    if !ready_with_images() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The device takes a ninth more than its table says.
    let table = table(folder.path(), 0.9);
    let target_ms = 0.7 * latency(&table, "k3e6");
    let (output, target) = (folder.path().join("run"), format!("{target_ms}ms"));
    let options = ["--table", text(&table), "--target", &target, "--measure-on", "mock"];
    let found = search(&output, &options).assert().success();
    let architecture = stdout(&found).trim().to_owned();
    let record = record(&output);
    let measured = record["measured"].as_array().unwrap();
    let of = |row: &Value, key: &str| row[key].as_f64().unwrap();
    let own = measured.iter().find(|row| row["architecture"] == architecture.as_str()).unwrap();
    assert!(of(own, "measured_ms") <= target_ms && of(own, "measured_ms") > 0.9 * target_ms, "{own}");
    assert!(
        of(&measured[0], "measured_ms") > target_ms && of(&measured[0], "predicted_ms") <= target_ms,
        "{measured:?}"
    );
    // It's what the device says, not what the table does.
    let measure = ["measure", "--space", "fashion-28", "--device", "mock", &architecture];
    let again = Csv::parse(&stdout(&fleetfoot(&measure).assert().success())).numbers("latency_ms")[0];
    assert!((again / of(own, "measured_ms") - 1.0).abs() < 1e-6);
    let expected = record["expected_ms"].as_f64().unwrap();
    assert!((expected / target_ms - 1.0).abs() < 0.05, "{expected} {target_ms}");
    // The same again is done already; measured elsewhere it's another search.
    let again = [&options[..], &["--resume"]].concat();
    assert_eq!(stdout(&search(&output, &again).assert().success()).trim(), architecture);
    assert!(fails_in_one_line(search(&output, &[&options[..4], &["--resume"]].concat())).contains("other settings"));
    // A device that computes in other numbers than the table's has other latencies.
    let elsewhere = [&options[..4], &["--measure-on", "local-cpu-int8", "--force"]].concat();
    let error = fails_in_one_line(search(&output, &elsewhere));
    assert!(error.contains("computes in int8") && error.contains("--measure-on"), "{error}");
}

#[test]
fn several_devices_and_other_limits_hold_at_once() {
    if !ready_with_images() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (fast, slow) = (table(folder.path(), 1.0), table(folder.path(), 3.0));
    let space = SearchSpace::load("fashion-28").unwrap();
    let baseline = space.network(&space.resolve_own("k3e6").unwrap()).unwrap();
    let (one, other) = (0.9 * latency(&fast, "k3e6"), 0.8 * latency(&slow, "k3e6"));
    let macs = 0.7 * baseline.macs() as f64;
    let (output, limits) = (folder.path().join("run"), [format!("{one}ms"), format!("{other}ms"), format!("{macs}")]);
    let options = [
        "--table",
        text(&fast),
        "--target",
        &limits[0],
        "--table",
        text(&slow),
        "--target",
        &limits[1],
        "--max-macs",
        &limits[2],
    ];
    let found = search(&output, &options).assert().success();
    let architecture = stdout(&found).trim().to_owned();
    let network = space.network(&space.parse_architecture(&architecture).unwrap()).unwrap();
    assert!(latency(&fast, &architecture) <= one && latency(&slow, &architecture) <= other);
    assert!(network.macs() as f64 <= macs, "{}", network.macs());
    let record = record(&output);
    let shares: Vec<f64> = record["reached"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reached| reached["expected"].as_f64().unwrap() / reached["limit"].as_f64().unwrap())
        .collect();
    assert!(shares.len() == 3 && shares.iter().all(|share| *share < 1.05), "{shares:?}");
    assert!(shares.iter().any(|share| *share > 0.95), "{shares:?}");
    // A weighted mean of both may trade one device for the other.
    let mean = folder.path().join("mean");
    let options = [&options[..8], &["--device-weights", "1,3"]].concat();
    let found = search(&mean, &options).assert().success();
    let architecture = stdout(&found).trim().to_owned();
    let share = 0.25 * latency(&fast, &architecture) / one + 0.75 * latency(&slow, &architecture) / other;
    assert!(share <= 1.0 + 1e-9 && share > 0.8, "{share}");
}

#[test]
fn a_search_needs_no_table_where_latency_is_not_limited() {
    if !ready_with_images() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let found = search(&output, &["--max-params", "60k", "--max-memory", "400KiB"]).assert().success();
    let space = SearchSpace::load("fashion-28").unwrap();
    let network = space.network(&space.parse_architecture(stdout(&found).trim()).unwrap()).unwrap();
    assert!(network.params() <= 60_000);
    assert!(network.weight_bytes() + network.peak_activation_bytes() <= 400 * 1024);
    assert!(stderr(&found).contains("parameters: predicted"), "{}", stderr(&found));
    let record = record(&output);
    assert_eq!((record["cost"].as_str(), record["target_params"].as_f64()), (Some("params"), Some(60_000.0)));
    assert!(record["predicted_params"].as_f64().unwrap() == network.params() as f64);
}

#[test]
fn limits_that_make_no_sense_are_refused_with_the_remedy() {
    if !ready_with_images() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (output, table) = (folder.path().join("run"), table(folder.path(), 1.0));
    let table = text(&table);
    for (options, wanted) in [
        (vec![], "no limit: give --table with --target, or --max-macs"),
        (vec!["--table", table, "--table", table, "--target", "1ms"], "wanted one target for each table"),
        (
            vec!["--table", table, "--target", "0.1ms", "--device-weights", "1,2"],
            "2 weights in --device-weights for 1 tables",
        ),
        (
            vec!["--table", table, "--target", "0.1ms", "--measure-on", "mock", "--measure-on", "mock"],
            "wanted a device for each",
        ),
        (vec!["--max-macs", "2M", "--measure-on", "mock"], "wanted a device for each"),
        (vec!["--max-macs", "1k"], "the smallest network needs"),
        (vec!["--max-params", "30k"], "the smallest network needs 42490 params"),
        (vec!["--max-macs=-3"], "wanted a number above 0"),
        (vec!["--max-memory", "3ms"], "give a budget in MiB"),
        (vec!["--max-macs", "2M", "--cut-below", "1"], "below 1"),
    ] {
        let failed = search(&output, &options).assert().failure();
        assert!(stderr(&failed).contains(wanted), "{options:?}: {}", stderr(&failed));
    }
}

#[test]
fn one_supernet_tells_of_rivals_a_front_and_how_well_it_ranks() {
    if !ready_with_images() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (output, table) = (folder.path().join("run"), table(folder.path(), 1.0));
    let target = format!("{}ms", 0.7 * latency(&table, "k3e6"));
    let options = ["--table", text(&table), "--target", &target, "--compare", "--pareto", "4", "--diagnose", "4"];
    let found = search(&output, &options).assert().success();
    let architecture = stdout(&found).trim().to_owned();
    let record = record(&output);
    let of = |row: &Value, key: &str| row[key].as_f64().unwrap();
    let rivals = record["rivals"].as_array().unwrap();
    let methods: Vec<&str> = rivals.iter().map(|rival| rival["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["gates", "random", "random", "evolution", "evolution"]);
    assert_eq!(rivals[0]["architecture"], architecture.as_str());
    let target_ms = record["target_ms"].as_f64().unwrap();
    for rival in rivals {
        assert!(of(rival, "predicted") <= target_ms && of(rival, "cross_entropy") > 0.0, "{rival}");
        if rival["budget"] == "evaluations" {
            assert_eq!(rival["evaluations"], rivals[0]["evaluations"]);
        }
    }
    let front = record["pareto"].as_array().unwrap();
    assert!(!front.is_empty());
    for pair in front.windows(2) {
        assert!(pair[0]["needs"][0].as_f64() < pair[1]["needs"][0].as_f64(), "{front:?}");
        assert!(of(&pair[0], "cross_entropy") > of(&pair[1], "cross_entropy"), "{front:?}");
    }
    let diagnosed = record["diagnosis"]["networks"].as_array().unwrap();
    assert_eq!(diagnosed.len(), 4);
    for network in diagnosed {
        let accuracies = [of(network, "supernet_accuracy_percent"), of(network, "scratch_accuracy_percent")];
        assert!(accuracies.iter().all(|percent| (0.0..=100.0).contains(percent)), "{network}");
        assert!(of(network, "predicted") <= target_ms && of(network, "predicted") >= 0.5 * target_ms);
    }
    assert!(stderr(&found).contains("evolution (equal seconds)"), "{}", stderr(&found));
    assert_eq!(
        stdout(&search(&output, &[&options[..], &["--resume"]].concat()).assert().success()).trim(),
        architecture
    );
    assert!(fails_in_one_line(search(&output, &[&options[..4], &["--resume"]].concat())).contains("other settings"));
    // More may be asked of a search that is done.
    let more = [&options[..5], &["--pareto", "6", "--diagnose", "4", "--resume"]].concat();
    assert_eq!(stdout(&search(&output, &more).assert().success()).trim(), architecture);
    let (less, record) = (record, self::record(&output));
    assert_eq!(record["diagnosis"], less["diagnosis"]);
    assert_ne!(record["pareto"], less["pareto"]);
}
