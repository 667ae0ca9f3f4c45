//! Precisions and batch sizes: what models in fp16 and int8 compute, through the real runtime; and that tables which
//! differ in either are never mixed up.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Csv, fails_in_one_line, fleetfoot, stderr, stdout, text};
use fleetfoot_profiler::Agent;
use fleetfoot_space::{Network, Precision, SearchSpace, Shape, Weights, evaluate, preset_names, write_onnx};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

const ROUNDS: [&str; 4] = ["--min-rounds", "6", "--max-rounds", "6"];

/// Runs a network with these weights on an input: what comes out.
fn run(agent: &mut Agent, network: &Network, weights: &Weights, input: &[f32]) -> Vec<f32> {
    let model = agent.load(write_onnx(network, weights, &BTreeMap::new()).unwrap()).unwrap();
    let Shape { n, c, h, w } = network.input();
    let (_, output) = agent.run(model, &[n, c, h, w], input).unwrap();
    agent.unload(model).unwrap();
    output
}

fn noise(network: &Network, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..network.input().elements()).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// The cosine of the angle between two outputs: 1 where they are equal but for a factor.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Root of the mean squared difference over the root of the mean square.
fn relative_error(found: &[f32], wanted: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let differences: f64 = found.iter().zip(wanted).map(|(a, b)| square(a - b)).sum();
    (differences / wanted.iter().map(|x| square(*x)).sum::<f64>().max(1e-30)).sqrt()
}

#[test]
fn the_reference_computes_what_the_runtime_does() {
    let (mut agent, mut rng) = (common::agent(), ChaCha8Rng::seed_from_u64(21));
    for _ in 0..150 {
        let key = common::random_unit(&mut rng);
        let network = Network::of_unit(&key, 1e-3).unwrap();
        let (weights, input) = (Weights::random(&network, rng.random()), noise(&network, &mut rng));
        let reference = evaluate(&network, &weights, &input).unwrap();
        let output = run(&mut agent, &network, &weights, &input);
        assert_eq!(output.len(), reference.len(), "{key}");
        for (output, reference) in output.iter().zip(&reference) {
            assert!((output - reference).abs() <= 1e-4 * reference.abs().max(1.0), "{key}: {output}, {reference}");
        }
    }
}

#[test]
fn units_of_every_precision_agree_with_fp32() {
    let (mut agent, mut rng) = (common::agent(), ChaCha8Rng::seed_from_u64(22));
    let spaces = ["fashion-28", "cifar-32", "fbnet-32"].map(|name| SearchSpace::load(name).unwrap());
    let units = spaces.iter().flat_map(|space| space.distinct_units(1, Precision::Fp32));
    for (index, key) in units.enumerate() {
        let batch = if index % 3 == 2 { 4 } else { 1 };
        let network = |precision| Network::of_unit(&key.at(batch, precision), 1e-3).unwrap();
        let weights = Weights::random(&network(Precision::Fp32), 7);
        let input = noise(&network(Precision::Fp32), &mut rng);
        let [full, half, integer] = [Precision::Fp32, Precision::Fp16, Precision::Int8]
            .map(|precision| run(&mut agent, &network(precision), &weights, &input));
        assert!(relative_error(&half, &full) < 5e-3, "{key} in fp16: {}", relative_error(&half, &full));
        // Ranges that don't reach far enough, or far too far, would show: measured were 0.7 to 5.9 %.
        assert!(relative_error(&integer, &full) < 0.10, "{key} in int8: {}", relative_error(&integer, &full));
        assert!(integer.iter().any(|value| value != &integer[0]), "{key}: all values are equal");
    }
}

#[test]
fn networks_of_every_precision_agree_with_fp32() {
    let (mut agent, mut rng) = (common::agent(), ChaCha8Rng::seed_from_u64(23));
    for name in preset_names() {
        let space = SearchSpace::load(name).unwrap();
        for batch in [1, 3] {
            let architecture = space.random(&mut rng);
            let network = |precision| space.network_at(&architecture, batch, precision).unwrap();
            let weights = Weights::random(&network(Precision::Fp32), 8);
            let input = noise(&network(Precision::Fp32), &mut rng);
            let [full, half, integer] = [Precision::Fp32, Precision::Fp16, Precision::Int8]
                .map(|precision| run(&mut agent, &network(precision), &weights, &input));
            assert!(cosine(&half, &full) > 0.999, "{name} {architecture} in fp16: {}", cosine(&half, &full));
            assert!(cosine(&integer, &full) > 0.97, "{name} {architecture} in int8: {}", cosine(&integer, &full));
        }
    }
}

/// The simulated device in a precision.
fn device(folder: &TempDir, precision: &str) -> PathBuf {
    let path = folder.path().join(format!("{precision}.toml"));
    let toml = format!("name = \"simulated\"\ntransport = \"mock\"\nprecision = \"{precision}\"\n");
    fs::write(&path, toml).unwrap();
    path
}

/// A table of fashion-28 on the simulated device.
fn profiled(folder: &TempDir, precision: &str, batch: &str) -> PathBuf {
    let path = folder.path().join(format!("{precision}-{batch}.csv"));
    let device = device(folder, precision);
    let profile = ["profile", "--space", "fashion-28", "--device", text(&device), "--batch", batch, "-o", text(&path)];
    fleetfoot(&[&profile[..], &ROUNDS].concat()).assert().success();
    path
}

#[test]
fn a_table_says_its_precision_and_batch_size_and_predictions_follow_it() {
    let folder = TempDir::new().unwrap();
    let table = profiled(&folder, "int8", "4");
    let csv = Csv::read(&table);
    assert_eq!((csv.provenance["precision"].as_str(), csv.provenance["batch"].as_str()), ("int8", "4"));
    assert!(csv.texts("precision").iter().all(|precision| *precision == "int8"));
    assert!(csv.texts("batch").iter().all(|batch| *batch == "4"));
    let predict = ["predict", "--table", text(&table), "--space", "fashion-28", "k3e3", "--explain"];
    let explained = Csv::parse(&stdout(&fleetfoot(&predict).assert().success()));
    let keys = explained.texts("key");
    assert!(keys[1].starts_with("conv-k3-s2-i1-o16-g1@4x1x28x28:int8"), "{}", keys[1]);
    assert!(keys[1..].iter().all(|key| key.ends_with(":int8") && key.contains("@4x")), "{keys:?}");
    let near = ["--random", "3", "--near", "0.05ms"];
    let drawn = fleetfoot(&[&predict[..5], &near].concat()).assert();
    let said = stderr(&drawn);
    assert!(drawn.get_output().status.success() || said.contains("the space holds"), "costs are found: {said}");
    // The same table again from its raw samples, and verified.
    let again = fleetfoot(&["table", text(&table), "--statistic", "median"]).assert().success();
    assert_eq!(stdout(&again), fs::read_to_string(&table).unwrap());
    let int8 = device(&folder, "int8");
    let verify = ["verify", text(&table), "--device", text(&int8)];
    fleetfoot(&[&verify[..], &ROUNDS].concat()).assert().success();
}

#[test]
fn a_table_does_not_fit_a_device_of_another_precision() {
    let folder = TempDir::new().unwrap();
    let table = profiled(&folder, "int8", "1");
    let [fp32, int8] = ["fp32", "int8"].map(|precision| device(&folder, precision));
    let evaluate = ["evaluate", "--table", text(&table), "--space", "fashion-28", "--networks", "3", "--device"];
    fleetfoot(&[&evaluate[..], &[text(&int8)], &ROUNDS].concat()).assert().success();
    for command in [&[&evaluate[..], &[text(&fp32)]].concat()[..], &["verify", text(&table), "--device", text(&fp32)]] {
        let message = fails_in_one_line(fleetfoot(command));
        for part in ["of int8", "'simulated' computes in fp32", "--device"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}

#[test]
fn rows_of_different_precisions_or_batch_sizes_make_no_table() {
    let folder = TempDir::new().unwrap();
    let row = |table: &Path| fs::read_to_string(table).unwrap().lines().last().unwrap().to_owned();
    let mixed = folder.path().join("mixed.csv");
    let one = fs::read_to_string(profiled(&folder, "fp32", "1")).unwrap();
    for (precision, batch, column) in [("int8", "1", "column precision"), ("fp32", "8", "column batch")] {
        let other = profiled(&folder, precision, batch);
        fs::write(&mixed, format!("{}{}\n", one.replace("# rows: 45", "# rows: 46"), row(&other))).unwrap();
        let predict = ["predict", "--table", text(&mixed), "--space", "fashion-28", "k3e3"];
        let message = fails_in_one_line(fleetfoot(&predict));
        for part in ["mixed.csv, line", column, "fp32 at batch 1", "one precision and one batch size"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}

#[test]
fn a_regression_estimates_only_what_it_was_fitted_to() {
    let folder = TempDir::new().unwrap();
    let [one, eight] = ["1", "8"].map(|batch| profiled(&folder, "int8", batch));
    let model = folder.path().join("model.json");
    fleetfoot(&["fit", "--table", text(&eight), "-o", text(&model)]).assert().success();
    let predict = |table: &Path| {
        let of = ["predict", "--table", text(table), "--space", "fashion-28", "k3e3", "--estimate", "--model"];
        fleetfoot(&[&of[..], &[text(&model)]].concat())
    };
    predict(&eight).assert().success();
    let message = fails_in_one_line(predict(&one));
    assert!(message.contains("model.json") && message.contains("batch: '1' against '8'"), "{message}");
    // Without their heads the keys tell.
    let bare: Vec<String> =
        fs::read_to_string(&one).unwrap().lines().skip_while(|l| l.starts_with('#')).map(str::to_owned).collect();
    let bare = bare.into_iter().filter(|line| !line.starts_with("head")).collect::<Vec<_>>();
    let unknown = folder.path().join("unknown.csv");
    fs::write(&unknown, bare.join("\n") + "\n").unwrap();
    let said = stderr(&predict(&unknown).assert().failure());
    assert!(said.contains("int8 at batch 8"), "{said}");
}

#[test]
fn tables_of_two_precisions_are_compared_unit_by_unit() {
    let folder = TempDir::new().unwrap();
    let (fp32, int8) = (profiled(&folder, "fp32", "1"), profiled(&folder, "int8", "8"));
    let done = fleetfoot(&["compare", text(&fp32), text(&int8)]).assert().success();
    let (said, ratios) = (stderr(&done), Csv::parse(&stdout(&done)));
    assert!(said.contains("precision: 'fp32' against 'int8'; batch: '1' against '8'"), "{said}");
    assert!(!said.contains("only in"), "{said}");
    assert!(ratios.rows.len() > 30 && ratios.texts("operator").iter().all(|key| key.ends_with(":fp32")));
}

#[test]
fn a_campaign_of_another_batch_size_does_not_go_on() {
    let folder = TempDir::new().unwrap();
    let table = profiled(&folder, "fp32", "1");
    fs::remove_file(&table).unwrap();
    let device = device(&folder, "fp32");
    let profile = ["profile", "--space", "fashion-28", "--device", text(&device), "-o", text(&table), "--resume"];
    let message = fails_in_one_line(fleetfoot(&[&profile[..], &["--batch", "8"], &ROUNDS].concat()));
    assert!(message.contains("batch: '1' against '8'"), "{message}");
}

#[test]
fn networks_are_measured_at_a_batch_size_but_models_as_they_are() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("N.csv");
    let measure = ["measure", "--space", "fashion-28", "k3e3", "--device", "mock", "-o", text(&out)];
    fleetfoot(&[&measure[..], &["--batch", "8"], &ROUNDS].concat()).assert().success();
    let csv = Csv::read(&out);
    assert_eq!((csv.provenance["precision"].as_str(), csv.provenance["batch"].as_str()), ("fp32", "8"));
    let model = folder.path().join("model.onnx");
    fs::write(&model, "a simulation reads no models").unwrap();
    let measure = ["measure", "--onnx", text(&model), "--device", "mock", "--force", "-o", text(&out)];
    fleetfoot(&[&measure[..], &ROUNDS].concat()).assert().success();
    let stated = Csv::read(&out).provenance;
    assert!(!stated.contains_key("precision") && !stated.contains_key("batch"), "{stated:?}");
    for refused in [&[&measure[..], &["--batch", "8"]].concat(), &[&measure[..1], &["--batch", "0"]].concat()] {
        fleetfoot(refused).assert().code(2);
    }
}
