//! The example keeps its limit and learns what it is for.

use std::path::Path;

use assert_cmd::Command;
use fleetfoot_predictor::{TablePredictor, cost_matrix};
use fleetfoot_space::{Precision, SearchSpace};
use serde_json::Value;

/// A measured table of the space.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../data/epyc-milan/fashion-28.csv");

fn own_task(folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::cargo_bin("own-task").unwrap();
    command.arg("-o").arg(folder).args(options);
    command
}

#[test]
fn the_found_network_keeps_its_latency_and_counts_better_than_guessing() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--table", TABLE, "--target-ms", "0.12"];
    let output = own_task(folder.path(), &options).assert().success().get_output().stdout.clone();
    let result: Value = serde_json::from_slice(&output).unwrap();
    let of = |pointer: &str| result.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{result}"));
    let space = SearchSpace::load("fashion-28").unwrap();
    let (predictor, _) = TablePredictor::read(Path::new(TABLE), None, false).unwrap();
    let costs = cost_matrix(&space, &predictor, 1, Precision::Fp32).unwrap();
    let found = space.parse_architecture(result["architecture"].as_str().unwrap()).unwrap();
    let needs = costs.latency_ms(&found);
    assert!(needs <= 0.12 && (of("/limits/0/predicted") - needs).abs() < 1e-12, "{result}");
    // Whoever always says 8, or 7, pays 4 on average, and nobody who doesn't look pays less.
    let (cost, untrained) = (of("/mean_cost"), of("/mean_cost_untrained"));
    assert!(cost < 2.0 && cost < untrained / 2.0, "{result}");
    // What is done is found to be done.
    assert_eq!(own_task(folder.path(), &options).assert().success().get_output().stdout, output);
    // It was learned by this loss.
    let other = own_task(folder.path(), &[&options[..], &["--loss", "cross-entropy"]].concat()).assert().failure();
    let message = String::from_utf8_lossy(&other.get_output().stderr).into_owned();
    assert!(message.contains("another loss"), "{message}");
}

#[test]
fn a_limit_that_nothing_meets_is_refused_with_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    for (options, wanted) in [
        (&["--max-macs", "0.1"][..], "multiply-accumulates: target 100000 MACs lies outside"),
        (&["--table", TABLE, "--target-ms", "0.001"], "latency: target 0.0010 ms lies outside"),
    ] {
        let refused = own_task(folder.path(), options).assert().failure();
        let message = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
        assert!(message.contains(wanted), "{message}");
    }
}
