//! `fleetfoot show`, `predict`, `fit` and `evaluate`: what a network would cost, and how far that is right.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assert_cmd::assert::Assert;
use common::{Csv, fails_in_one_line, fleetfoot, stderr, stdout, text};
use fleetfoot_space::{Operator, SearchSpace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;

/// fashion-28 profiled for real, once for all tests here.
fn table() -> &'static Path {
    static TABLE: OnceLock<PathBuf> = OnceLock::new();
    TABLE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("predicting/T.csv");
        let profile = ["profile", "--space", "fashion-28", "-o", text(&path), "--force"];
        let short = ["--min-rounds", "8", "--max-rounds", "8", "--visit", "1"];
        fleetfoot(&[&profile[..], &short].concat()).assert().success();
        path
    })
}

/// A model of units, as it is shipped.
const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/epyc-milan/fashion-28.model.json");

fn predict(space: &str, options: &[&str]) -> Assert {
    let arguments = ["predict", "--table", text(table()), "--space", space];
    fleetfoot(&[&arguments[..], options].concat()).assert()
}

fn predicted(space: &str, options: &[&str]) -> Csv {
    Csv::parse(&stdout(&predict(space, options).success()))
}

#[test]
fn a_prediction_is_the_sum_of_the_units_that_explain_it() {
    let networks = ["k3e3", "k7e6", "shallowest", "0123450123", "5604612036"];
    let predictions = predicted("fashion-28", &networks);
    assert_eq!(predictions.header, ["architecture", "latency_ms", "low_ms", "high_ms"]);
    assert_eq!(
        predictions.texts("architecture"),
        ["0000000000", "5555555555", "6606606606", "0123450123", "5604612036"],
        "digits, in the order asked"
    );
    let [low, latency, high] = ["low_ms", "latency_ms", "high_ms"].map(|column| predictions.numbers(column));
    let explained = predicted("fashion-28", &[&networks[..], &["--explain"]].concat());
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for (architecture, ms) in explained.texts("architecture").into_iter().zip(explained.numbers("latency_ms")) {
        *sums.entry(architecture).or_default() += ms;
    }
    for (index, architecture) in predictions.texts("architecture").into_iter().enumerate() {
        let (ms, sum) = (latency[index], sums[architecture]);
        assert!((ms - sum).abs() < 1e-9, "{architecture}: {ms} against {sum}");
        assert!(low[index] <= ms && ms <= high[index]);
    }
    for (source, key) in explained.texts("source").into_iter().zip(explained.texts("key")) {
        assert_eq!(source, if key.starts_with("zero@") { "nothing" } else { "measured" }, "{key}");
    }
    assert!(latency[2] < latency[0] && latency[0] < latency[1], "shallowest < k3e3 < k7e6: {latency:?}");
}

#[test]
fn architectures_come_from_a_list_or_a_csv_with_header_and_comments() {
    let folder = TempDir::new().unwrap();
    let list = folder.path().join("list.txt");
    fs::write(&list, "0000000000\n\nk7e6\n").unwrap();
    let csv = folder.path().join("measured.csv");
    fs::write(&csv, "# device: any\narchitecture,latency_ms\n0000000000,1.5\n# between\n 5555555555 ,2\n").unwrap();
    let want = predicted("fashion-28", &["0000000000", "5555555555"]);
    for file in [list, csv] {
        assert_eq!(predicted("fashion-28", &["--architectures", text(&file)]), want, "{}", file.display());
    }
    let bad = folder.path().join("bad.txt");
    fs::write(&bad, "0000000000\n00000\n").unwrap();
    let arguments = ["predict", "--table", text(table()), "--space", "fashion-28", "--architectures", text(&bad)];
    let message = fails_in_one_line(fleetfoot(&arguments));
    assert!(message.contains("bad.txt, line 2") && message.contains("10 decisions"), "{message}");
}

#[test]
fn a_unit_that_was_never_measured_is_an_error_unless_an_estimate_is_asked_for() {
    let arguments = ["predict", "--table", text(table()), "--space", "proxyless-224", "k3e3"];
    let message = fails_in_one_line(fleetfoot(&arguments));
    assert!(message.contains("conv-k3-s2-i3-o32-g1@1x3x224x224:fp32"), "names the key: {message}");
    assert!(message.contains("fleetfoot profile") && message.contains("--estimate"), "says what next: {message}");

    let estimated = predict("proxyless-224", &["k3e3", "--estimate"]).success();
    let said = stderr(&estimated);
    assert!(said.contains("warning: ") && said.contains("estimated by regression"), "{said}");
    assert!(Csv::parse(&stdout(&estimated)).numbers("latency_ms")[0] > 0.0);

    let known = predict("fashion-28", &["k3e3", "--estimate"]).success();
    assert_eq!(stderr(&known), "", "nothing is estimated where everything was measured");
}

#[test]
fn a_fitted_model_is_json_that_predictions_can_be_made_with() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("model.json");
    let fit = ["fit", "--table", text(table()), "-o", text(&model)];
    let done = fleetfoot(&fit).assert().success();
    assert_eq!(stdout(&done), "");
    assert!(stderr(&done).contains("RMSPE"), "{}", stderr(&done));
    let json: Value = serde_json::from_slice(&fs::read(&model).unwrap()).unwrap();
    assert!(json.is_object());

    let refusal = fails_in_one_line(fleetfoot(&fit));
    assert!(refusal.contains("--force"), "{refusal}");
    fleetfoot(&[&fit[..], &["--force"]].concat()).assert().success();
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&model).unwrap()).unwrap(), json, "one seed, one model");

    let on_the_spot = predicted("cifar-32", &["k3e6", "--estimate"]);
    let from_file = predicted("cifar-32", &["k3e6", "--estimate", "--model", text(&model)]);
    let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
    assert!(near(on_the_spot.numbers("latency_ms")[0], from_file.numbers("latency_ms")[0]));

    fs::write(&model, "{\"half\": ").unwrap();
    let arguments = ["predict", "--table", text(table()), "--space", "cifar-32", "k3e6", "--estimate", "--model"];
    let message = fails_in_one_line(fleetfoot(&[&arguments[..], &[text(&model)]].concat()));
    assert!(message.contains("model.json"), "{message}");
}

fn evaluate(table: &Path) -> Vec<&str> {
    let what = ["evaluate", "--table", text(table), "--space", "fashion-28", "--networks", "5", "--passes", "2"];
    [&what[..], &["--min-rounds", "12", "--max-rounds", "12", "--visit", "1", "--json"]].concat()
}

#[test]
fn an_evaluation_is_json_with_exactly_the_figures_that_are_promised() {
    let folder = TempDir::new().unwrap();
    let points = folder.path().join("points.json");
    let done = fleetfoot(&[&evaluate(table())[..], &["-o", text(&points)]].concat()).assert().success();
    let report: BTreeMap<String, Value> = serde_json::from_str(&stdout(&done)).unwrap();
    let mut promised = [
        "networks",
        "rmspe_percent",
        "mape_percent",
        "within_5_percent",
        "within_10_percent",
        "spearman",
        "kendall",
        "repeatability_percent",
    ];
    promised.sort_unstable();
    assert_eq!(report.keys().map(String::as_str).collect::<Vec<_>>(), promised);
    assert_eq!(report["networks"], 5);
    for name in ["rmspe_percent", "mape_percent", "repeatability_percent"] {
        assert!(report[name].as_f64().is_some_and(|percent| percent >= 0.0), "{name}: {}", report[name]);
    }
    assert!(report["mape_percent"].as_f64() <= report["rmspe_percent"].as_f64());
    let within = |name: &str| report[name].as_f64().unwrap();
    assert!(within("within_5_percent") <= within("within_10_percent"));

    // Done again, nothing is measured: the journals hold all of it.
    let again = fleetfoot(&[&evaluate(table())[..], &["-o", text(&points), "--resume"]].concat()).assert().success();
    assert_eq!(stdout(&again), stdout(&done));

    let written: Value = serde_json::from_slice(&fs::read(&points).unwrap()).unwrap();
    assert!(written["slower_percent"].as_f64().is_some_and(|slower| slower > -50.0), "{}", written["slower_percent"]);
    assert_eq!(written["rmspe_percent"], report["rmspe_percent"]);
    let networks: Vec<&str> =
        written["points"].as_array().unwrap().iter().map(|point| point["architecture"].as_str().unwrap()).collect();
    assert_eq!(networks.len(), 5);
    let predicted = predicted("fashion-28", &networks).numbers("latency_ms");
    for (point, predicted) in written["points"].as_array().unwrap().iter().zip(predicted) {
        assert!((point["predicted_ms"].as_f64().unwrap() - predicted).abs() < 1e-9, "predict and evaluate agree");
    }
}

#[test]
fn a_table_whose_device_has_become_much_slower_is_evaluated_as_it_is_and_that_is_said() {
    let folder = TempDir::new().unwrap();
    let (path, points) = (folder.path().join("fast.csv"), folder.path().join("points.json"));
    fs::write(&path, faster(&fs::read_to_string(table()).unwrap(), 4.0)).unwrap();
    let done = fleetfoot(&[&evaluate(&path)[..], &["-o", text(&points)]].concat()).assert().success();
    let said = stderr(&done);
    assert!(said.contains("warning") && said.contains("slower") && said.contains("fleetfoot profile"), "{said}");
    let written: Value = serde_json::from_slice(&fs::read(&points).unwrap()).unwrap();
    // Four times slower, within a factor of two for a busy machine; the predictions are as wrong as the table is.
    assert!(written["slower_percent"].as_f64().is_some_and(|slower| (100.0..700.0).contains(&slower)));
    assert!(written["mape_percent"].as_f64().is_some_and(|mape| mape > 50.0));

    let without = fleetfoot(&[&evaluate(&path)[..], &["--references", "0"]].concat()).assert().success();
    assert!(!stderr(&without).contains("slower"), "{}", stderr(&without));
}

/// A latency table whose times are divided by a factor.
fn faster(table: &str, factor: f64) -> String {
    let mut columns = Vec::new();
    let line = |line: &str| {
        if line.starts_with('#') {
            return line.to_owned();
        }
        let fields: Vec<&str> = line.split(',').collect();
        if columns.is_empty() {
            columns = fields.iter().map(|name| name.ends_with("_ms")).collect();
            return line.to_owned();
        }
        let scaled = fields.iter().zip(&columns).map(|(field, is_time)| match field.parse::<f64>() {
            Ok(ms) if *is_time => (ms / factor).to_string(),
            _ => (*field).to_owned(),
        });
        scaled.collect::<Vec<_>>().join(",")
    };
    table.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn a_table_of_other_conditions_is_not_held_against_this_device() {
    let folder = TempDir::new().unwrap();
    let text_of_table = fs::read_to_string(table()).unwrap();
    let real = Csv::read(table());
    let edited = |name: &str, value: &str| {
        let line = |value: &str| format!("# {name}: {value}\n");
        let other = text_of_table.replacen(&line(&real.provenance[name]), &line(value), 1);
        assert_ne!(other, text_of_table);
        let path = folder.path().join("other.csv");
        fs::write(&path, other).unwrap();
        fails_in_one_line(fleetfoot(&evaluate(&path)))
    };
    for (name, value) in [("cpu", "Another CPU"), ("threads", "2"), ("optimisation", "basic"), ("statistic", "min")] {
        let message = edited(name, value);
        assert!(message.contains(name) && message.contains(value), "{name}: {message}");
    }
}

fn shown(architecture: &str) -> Value {
    let done = fleetfoot(&["show", "--space", "proxyless-224", architecture, "--json"]).assert().success();
    serde_json::from_str(&stdout(&done)).unwrap()
}

// MACs and parameters of the authors' own networks (proxylessnas, `proxyless_mobile.config`).
#[test]
fn a_network_is_shown_with_its_macs_parameters_and_units() {
    assert_eq!(shown("206640225322222255445")["macs"], 303_474_368_u64);
    let mobile = shown("proxyless-mobile");
    assert_eq!(mobile["macs"], 320_427_584_u64);
    assert_eq!(mobile["params"], 4_080_512_u64);
    let units = mobile["units"].as_array().unwrap();
    let sum = |name: &str| units.iter().map(|unit| unit[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("macs"), sum("params")), (320_427_584, 4_080_512), "the units are a partition");
    assert_eq!(units.first().unwrap()["input"], serde_json::json!([1, 3, 224, 224]));
    assert_eq!(units.last().unwrap()["name"], "head");
    for pair in units.windows(2) {
        assert_eq!(pair[0]["output"], pair[1]["input"], "{} feeds {}", pair[0]["name"], pair[1]["name"]);
    }
}

/// A file of random networks of `fashion-28` on a made-up device: so many ms for the call, a million multiply-accumulates and a block.
fn networks_file(path: &Path, count: usize, seed: u64, [call, million, block]: [f64; 3]) {
    let space = SearchSpace::load("fashion-28").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut lines = "# space: fashion-28\narchitecture,latency_ms\n".to_owned();
    for _ in 0..count {
        let architecture = space.random(&mut rng);
        let network = space.network(&architecture).unwrap();
        let blocks = network.units().iter().filter(|unit| unit.key.operator != Operator::Zero).count();
        let kernels = architecture.choices().filter(|choice| [4, 5].contains(choice)).count();
        let exact = call + million * network.macs() as f64 / 1e6 + block * (blocks as f64 + 1.5 * kernels as f64);
        lines += &format!("{architecture},{}\n", exact * (1.0 + 0.005 * rng.random_range(-1.0..1.0)));
    }
    fs::write(path, lines).unwrap();
}

#[test]
fn expected_latency_has_the_gradient_of_the_softmax() {
    let folder = TempDir::new().unwrap();
    let alpha = folder.path().join("alpha.json");
    let space = SearchSpace::load("fashion-28").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut logits: Vec<Vec<f64>> = space
        .decisions()
        .iter()
        .map(|decision| decision.candidates.iter().map(|_| rng.random_range(-2.0..2.0)).collect())
        .collect();
    let expect = |logits: &[Vec<f64>]| -> Value {
        fs::write(&alpha, serde_json::to_string(logits).unwrap()).unwrap();
        let expect = ["expect", "--table", text(table()), "--space", "fashion-28", "--alpha", text(&alpha), "--json"];
        serde_json::from_str(&stdout(&fleetfoot(&expect).assert().success())).unwrap()
    };
    let told = expect(&logits);
    for (decision, candidate) in [(0, 0), (2, 5), (9, 6)] {
        let mut moved = |h: f64| {
            logits[decision][candidate] += h;
            let latency = expect(&logits)["latency_ms"].as_f64().unwrap();
            logits[decision][candidate] -= h;
            latency
        };
        let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
        let gradient = told["gradient"][decision][candidate].as_f64().unwrap();
        assert!((gradient - difference).abs() < 1e-7 * difference.abs().max(1e-3), "{gradient} {difference}");
    }
    // Certain candidates: the network's own prediction.
    let certain: Vec<Vec<f64>> =
        logits.iter().map(|row| (0..row.len()).map(|c| if c == 1 { 60.0 } else { 0.0 }).collect()).collect();
    let network = predicted("fashion-28", &["k3e6"]).numbers("latency_ms")[0];
    assert!((expect(&certain)["latency_ms"].as_f64().unwrap() / network - 1.0).abs() < 1e-9);
    for (wrong, part) in
        [("[[1,2],[3]]", "2 lists of logits, but the space has 10 decisions"), ("{}", "wanted a list of lists")]
    {
        fs::write(&alpha, wrong).unwrap();
        let expect = ["expect", "--table", text(table()), "--space", "fashion-28", "--alpha", text(&alpha)];
        assert!(fails_in_one_line(fleetfoot(&expect)).contains(part), "{wrong}");
    }
}

#[test]
fn suggestions_are_networks_that_can_be_measured() {
    let folder = TempDir::new().unwrap();
    let [next, measured] = ["next.csv", "measured.csv"].map(|name| folder.path().join(name));
    let suggest = ["suggest", "--space", "fashion-28", "--count", "12"];
    let suggested = stdout(&fleetfoot(&suggest).assert().success());
    fs::write(&next, &suggested).unwrap();
    let measure = ["measure", "--space", "fashion-28", "--device", "mock", "--architectures", text(&next)];
    let rounds = ["--min-rounds", "6", "--max-rounds", "6", "-o", text(&measured)];
    fleetfoot(&[&measure[..], &rounds].concat()).assert().success();
    assert_eq!(Csv::read(&measured).texts("architecture"), Csv::parse(&suggested).texts("architecture"));
    // Those that are measured aren't suggested again.
    let more = stdout(&fleetfoot(&[&suggest[..], &["--networks", text(&measured)]].concat()).assert().success());
    let (more, suggested) = (Csv::parse(&more), Csv::parse(&suggested));
    assert_eq!(more.rows.len(), 12);
    assert!(more.texts("architecture").iter().all(|one| !suggested.texts("architecture").contains(one)));
    let helped = [&suggest[..], &["--table", text(table())]].concat();
    assert_eq!(Csv::parse(&stdout(&fleetfoot(&helped).assert().success())).rows.len(), 12);
}

#[test]
fn long_files_of_architectures_are_predicted_line_by_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("many.csv");
    let space = SearchSpace::load("fashion-28").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let drawn: Vec<String> = (0..20_000).map(|_| space.random(&mut rng).to_string()).collect();
    let lines: String = drawn.iter().enumerate().map(|(index, drawn)| format!("{index},{drawn}\n")).collect();
    fs::write(&path, format!("\u{feff}# made up\nnumber,architecture\n{lines}")).unwrap();
    let predictions = predicted("fashion-28", &["--architectures", text(&path)]);
    assert_eq!(predictions.texts("architecture"), drawn);
    // The same as unit by unit.
    for index in [0, 777, 19_999] {
        let units = predicted("fashion-28", &[&drawn[index], "--explain"]);
        let sums = ["latency_ms", "low_ms", "high_ms"].map(|column| units.numbers(column).iter().sum::<f64>());
        for (column, sum) in ["latency_ms", "low_ms", "high_ms"].into_iter().zip(sums) {
            assert!((predictions.numbers(column)[index] / sum - 1.0).abs() < 1e-9, "{column} of {}", drawn[index]);
        }
    }
    // A mistake far down is told with its line; of a short file nothing is written then.
    for (count, wrong) in [(20_000, "9999999999"), (10, "012345678")] {
        let lines: String = drawn[..count].iter().map(|drawn| format!("{drawn}\n")).collect();
        fs::write(&path, format!("{lines}{wrong}\n")).unwrap();
        let done = predict("fashion-28", &["--architectures", text(&path)]).failure().code(1);
        assert!(stderr(&done).contains(&format!("line {}", count + 1)), "{}", stderr(&done));
        assert_eq!(stdout(&done).is_empty(), count == 10);
    }
}

#[test]
fn a_named_architecture_with_a_stem_of_its_own_is_predicted_with_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("space.toml");
    let preset = SearchSpace::load("fashion-28").unwrap();
    let widths = "choices = \"1111111111\"\nfirst_block = 16\nstages = [16, 24, 40, 64]\nhead = 256\n";
    let text_of = |first: usize| format!("{}\n[architectures.mine]\nstem = {first}\n{widths}", preset.text());
    let stem = preset.front()[0].key;
    let Operator::Conv { c_out: own, .. } = stem.operator else { panic!("{stem}") };
    let lines = [own, own + 8].map(|channels| {
        fs::write(&path, text_of(channels)).unwrap();
        let shown = fleetfoot(&["show", "--space", text(&path), "mine", "--json"]).assert().success();
        let shown: Value = serde_json::from_str(&stdout(&shown)).unwrap();
        let estimated = predicted(text(&path), &["mine", "--estimate"]);
        (shown["macs"].as_u64().unwrap(), estimated.texts("architecture")[0].to_owned())
    });
    assert!(lines[1].0 > lines[0].0, "{lines:?}");
    let labels = lines.map(|(_, label)| label);
    assert_eq!(labels, ["1111111111", "mine"], "one with widths of its own goes by its name");
}

#[test]
fn a_model_says_when_it_extrapolates() {
    let folder = TempDir::new().unwrap();
    let [own, model] = ["own.csv", "model.json"].map(|name| folder.path().join(name));
    networks_file(&own, 40, 1, [0.5, 0.02, 0.1]);
    let fit = ["fit", "--space", "fashion-28", "--networks", text(&own), "-o", text(&model)];
    fleetfoot(&fit).assert().success();
    let told = |architecture: &str| {
        let done = fleetfoot(&["predict", "--model", text(&model), architecture]).assert().success();
        let row = Csv::parse(&stdout(&done));
        (stderr(&done), (row.numbers("high_ms")[0] - row.numbers("low_ms")[0]) / row.numbers("latency_ms")[0])
    };
    let ((warning, far), (none, near)) = (told("shallowest"), told("0123450123"));
    assert!(warning.contains("1 networks lie outside") && warning.contains("(by its "), "{warning}");
    assert!(none.is_empty() && far > 2.0 * near, "{none}: {far} against {near}");
}

#[test]
fn other_devices_help_and_those_of_another_kind_do_no_harm() {
    let folder = TempDir::new().unwrap();
    let [own, sibling, other, model] =
        ["own.csv", "sibling.csv", "other.csv", "model.json"].map(|name| folder.path().join(name));
    networks_file(&own, 300, 1, [0.5, 0.02, 0.1]);
    networks_file(&sibling, 300, 2, [1.0, 0.05, 0.27]);
    networks_file(&other, 300, 3, [0.1, 1.0, 0.0]);
    let error = |more: &[&str]| {
        let curve = ["evaluate", "--space", "fashion-28", "--networks", text(&own), "--learning-curve", "10", "--json"];
        let curve = stdout(&fleetfoot(&[&curve[..], more].concat()).assert().success());
        let curve: Value = serde_json::from_str(&curve).unwrap();
        curve["points"][0]["rmspe_percent"]["mean"].as_f64().unwrap()
    };
    let (alone, with_sibling) = (error(&[]), error(&["--transfer-from", text(&sibling)]));
    let with_other = error(&["--transfer-from", text(&other)]);
    let with_both = error(&["--transfer-from", text(&sibling), text(&other)]);
    assert!(with_sibling < 0.7 * alone, "{with_sibling} against {alone} alone");
    assert!(with_both < 0.8 * alone, "{with_both} with both against {alone} alone");
    assert!(with_other < 1.1 * alone, "{with_other} with a device of another kind against {alone} alone");
    // The same by hand, a model among the sources.
    let fit = |networks: &Path, more: &[&str]| {
        let fit = ["fit", "--space", "fashion-28", "--networks", text(networks), "-o", text(&model), "--force"];
        fleetfoot(&[&fit[..], more].concat()).assert().success();
    };
    fit(&sibling, &[]);
    let few = folder.path().join("few.csv");
    let lines = fs::read_to_string(&own).unwrap();
    fs::write(&few, lines.lines().take(12).map(|line| line.to_owned() + "\n").collect::<String>()).unwrap();
    let sibling_model = folder.path().join("sibling.json");
    fs::rename(&model, &sibling_model).unwrap();
    fit(&few, &["--transfer-from", text(&sibling_model)]);
    let evaluate = ["evaluate", "--space", "fashion-28", "--networks", text(&own), "--model", text(&model), "--json"];
    let evaluated: Value = serde_json::from_str(&stdout(&fleetfoot(&evaluate).assert().success())).unwrap();
    assert!(evaluated["spearman"].as_f64().unwrap() > 0.97, "{evaluated}");
    let curve = ["evaluate", "--space", "fashion-28", "--networks", text(&own), "--learning-curve", "10"];
    fleetfoot(&[&curve[..], &["--transfer-from", text(&sibling_model)]].concat()).assert().success();
    // A model that was fitted to what is predicted, on its device, or one that doesn't say.
    let same = folder.path().join("same.csv");
    networks_file(&same, 300, 1, [1.0, 0.05, 0.27]);
    fit(&same, &[]);
    let leaks = |model: &Path| fails_in_one_line(fleetfoot(&[&curve[..], &["--transfer-from", text(model)]].concat()));
    assert!(leaks(&model).contains("knows networks that are to be predicted"), "{}", leaks(&model));
    fit(&few, &["--transfer-from", text(&sibling)]);
    let own = folder.path().join("own.json");
    fs::rename(&model, &own).unwrap();
    let elsewhere = ["evaluate", "--space", "fashion-28", "--networks", text(&other), "--learning-curve", "10"];
    let elsewhere = [&elsewhere[..], &["--transfer-from", text(&own)]].concat();
    let through = fails_in_one_line(fleetfoot(&elsewhere));
    assert!(through.contains("may know networks that are to be predicted"), "what another device told it: {through}");
    let mut old: Value = serde_json::from_str(&fs::read_to_string(&sibling_model).unwrap()).unwrap();
    old.as_object_mut().unwrap().remove("networks").unwrap();
    fs::write(&model, old.to_string()).unwrap();
    assert!(leaks(&model).contains("may know networks that are to be predicted"), "{}", leaks(&model));
    let told = ["fit", "--space", "fashion-28", "--networks", text(&few), "--transfer-from", text(&model), "-o"];
    let told = fleetfoot(&[&told[..], &[text(&folder.path().join("told.json"))]].concat()).assert().success();
    assert!(stderr(&told).contains("doesn't say what it was fitted to"), "{}", stderr(&told));
    let units = fails_in_one_line(fleetfoot(&["predict", "--model", UNITS, "--random", "1"]));
    assert!(units.contains("it is a model of units"), "{units}");
}

#[test]
fn nothing_is_counted_twice_and_no_model_judged_by_what_it_knows() {
    let folder = TempDir::new().unwrap();
    let [all, few, other, scaled, model, no] =
        ["all.csv", "few.csv", "other.csv", "scaled.csv", "model.json", "no.json"].map(|name| folder.path().join(name));
    networks_file(&all, 60, 1, [0.5, 0.02, 0.1]);
    networks_file(&other, 60, 1, [1.0, 0.05, 0.2]);
    let lines = fs::read_to_string(&all).unwrap();
    fs::write(&few, lines.lines().take(15).map(|line| line.to_owned() + "\n").collect::<String>()).unwrap();
    let doubled = lines.lines().map(|line| match line.split_once(',').map(|(name, ms)| (name, ms.parse::<f64>())) {
        Some((architecture, Ok(ms))) => format!("{architecture},{:.6}\n", 2.0 * ms),
        _ => format!("{line}\n"),
    });
    fs::write(&scaled, doubled.collect::<String>()).unwrap();
    let fit = |output: &Path, more: &[&str]| {
        fleetfoot(&[&["fit", "--space", "fashion-28", "-o", text(output), "--networks"], more].concat())
    };
    fit(&model, &[text(&all)]).assert().success();
    // The device itself as another one: its networks, and a model of them.
    for own in [&all, &model] {
        let refused = fails_in_one_line(fit(&no, &[text(&few), "--transfer-from", text(own)]));
        assert!(refused.contains("is no other device") && refused.contains("to the last digit"), "{refused}");
    }
    let curve = ["evaluate", "--space", "fashion-28", "--networks", text(&all), "--learning-curve", "10"];
    let curve = [&curve[..], &["--transfer-from", text(&all)]].concat();
    assert!(fails_in_one_line(fleetfoot(&curve)).contains("is no other device"));
    let twice = fit(&no, &[text(&few), "--transfer-from", text(&other), text(&other)]);
    assert!(fails_in_one_line(twice).contains("says the same as"));
    let table = text(table());
    let twice = fit(&no, &[text(&few), "--table", table, "--transfer-from", table]).assert().failure();
    assert!(stderr(&twice).contains("says the same as"), "{}", stderr(&twice));
    assert!(!no.exists());
    // In another unit it may be a device that is so much faster.
    let warned = fit(&no, &[text(&few), "--transfer-from", text(&scaled)]).assert().success();
    assert!(stderr(&warned).contains("take the same but for a factor"), "{}", stderr(&warned));
    let told = fit(&no, &[text(&few), "--force", "--transfer-from", text(&other)]).assert().success();
    assert!(!stderr(&told).contains("warning"), "{}", stderr(&told));
    // Figures by networks that a model was fitted to are no figures of others.
    let judged = ["evaluate", "--space", "fashion-28", "--networks", text(&few), "--model", text(&model)];
    let judged = stderr(&fleetfoot(&judged).assert().success());
    let known = Csv::read(&few).rows.len();
    assert!(judged.contains(&format!("{known} of these {known} networks are among those")), "{judged}");
}

#[test]
fn what_a_model_is_not_for_is_refused() {
    let folder = TempDir::new().unwrap();
    let [networks, model, space] = ["few.csv", "model.json", "fashion-28.toml"].map(|name| folder.path().join(name));
    let fit = ["fit", "--space", "fashion-28", "--networks", text(&networks), "-o", text(&model)];
    // Latencies that squares of overflow, or vanish.
    for factor in [1e-300, 1e300] {
        networks_file(&networks, 30, 1, [0.5 * factor, 0.02 * factor, 0.1 * factor]);
        let refused = fails_in_one_line(fleetfoot(&fit));
        assert!(!model.exists(), "{factor}: {refused}");
    }
    networks_file(&networks, 30, 1, [0.5, 0.02, 0.1]);
    let mut other = fleetfoot(&[&fit[..], &["--table", "data/epyc-genoa/tiny-14.cpu-all.csv"]].concat());
    let other = other.assert().failure();
    assert!(stderr(&other).contains("it is a table of another space"), "{}", stderr(&other));
    fleetfoot(&fit).assert().success();
    let changed = SearchSpace::load("fashion-28").unwrap().text().replacen("classes = 10", "classes = 11", 1);
    fs::write(&space, &changed).unwrap();
    let predict = ["predict", "--model", text(&model), "--space", text(&space), "--random", "1"];
    let refused = fails_in_one_line(fleetfoot(&predict));
    assert!(refused.contains("is for networks of another space fashion-28"), "{refused}");
    // Models that somebody has edited.
    let whole: Value = serde_json::from_str(&fs::read_to_string(&model).unwrap()).unwrap();
    let broken = folder.path().join("broken.json");
    for (pointer, value) in [
        ("/covariance/0", Value::from(-1.0)),
        ("/covariance/2", Value::from(-1e-9)),
        ("/calibration", Value::from(0.0)),
        ("/scatter", Value::from(-1.0)),
        ("/networks/0/0", Value::from("99")),
        ("/networks/0/1", Value::from(0.0)),
    ] {
        let mut edited = whole.clone();
        *edited.pointer_mut(pointer).unwrap() = value;
        fs::write(&broken, edited.to_string()).unwrap();
        let refused = fails_in_one_line(fleetfoot(&["predict", "--model", text(&broken), "--random", "1"]));
        assert!(refused.contains("broken.json"), "{pointer}: {refused}");
    }
}

#[test]
fn names_that_a_space_gives_are_networks_too() {
    let folder = TempDir::new().unwrap();
    let [networks, model] = ["few.csv", "model.json"].map(|name| folder.path().join(name));
    networks_file(&networks, 30, 1, [0.5, 0.02, 0.1]);
    let named = fs::read_to_string(&networks).unwrap() + "k3e3,1.3\nk7e6,2.2\n";
    fs::write(&networks, named).unwrap();
    let fit = ["fit", "--space", "fashion-28", "--networks", text(&networks), "-o", text(&model)];
    assert!(stderr(&fleetfoot(&fit).assert().success()).contains("fitted to 32 networks"));
}

#[test]
fn a_table_and_a_few_networks_predict_better_than_either() {
    let folder = TempDir::new().unwrap();
    let [few, test, model, alone] =
        ["few.csv", "test.csv", "model.json", "alone.json"].map(|name| folder.path().join(name));
    // A device that takes a tenth and a call longer for networks than its table says.
    let predicted = |seed: &str, count: &str| {
        let predict = ["predict", "--table", text(table()), "--space", "fashion-28", "--random", count, "--seed", seed];
        Csv::parse(&stdout(&fleetfoot(&predict).assert().success()))
    };
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for (path, seed, count) in [(&few, "1", "10"), (&test, "2", "100")] {
        let table = predicted(seed, count);
        let rows = table.texts("architecture").into_iter().zip(table.numbers("latency_ms"));
        let rows = rows.map(|(architecture, ms)| {
            format!("{architecture},{}\n", (1.1 * ms + 0.02) * (1.0 + 0.004 * rng.random_range(-1.0..1.0)))
        });
        fs::write(path, format!("architecture,latency_ms\n{}", rows.collect::<String>())).unwrap();
    }
    let error = |evidence: &[&str]| {
        let evaluate = ["evaluate", "--space", "fashion-28", "--networks", text(&test), "--json"];
        let evaluated = stdout(&fleetfoot(&[&evaluate[..], evidence].concat()).assert().success());
        serde_json::from_str::<Value>(&evaluated).unwrap()["rmspe_percent"].as_f64().unwrap()
    };
    for (path, more) in [(&model, &["--table", text(table())][..]), (&alone, &[])] {
        let fit = ["fit", "--space", "fashion-28", "--networks", text(&few), "-o", text(path)];
        fleetfoot(&[&fit[..], more].concat()).assert().success();
    }
    let (by_table, by_both) = (error(&["--table", text(table())]), error(&["--model", text(&model)]));
    let by_networks = error(&["--model", text(&alone)]);
    assert!(
        by_both < 1.0 && by_both < 0.2 * by_table && by_both < 0.5 * by_networks,
        "{by_both} {by_table} {by_networks}"
    );
}

#[test]
fn networks_that_were_measured_again_tell_the_repeatability() {
    let folder = tempfile::tempdir().unwrap();
    let (own, again) = (folder.path().join("own.csv"), folder.path().join("again.csv"));
    networks_file(&own, 60, 3, [0.2, 0.002, 0.01]);
    // Each 2 % slower: a deviation of 2 % by the square root of 2.
    let slower = |line: &str| match line.split_once(',') {
        Some((architecture, ms)) if !line.starts_with('#') && ms.parse::<f64>().is_ok() => {
            format!("{architecture},{}\n", 1.02 * ms.parse::<f64>().unwrap())
        }
        _ => format!("{line}\n"),
    };
    fs::write(&again, fs::read_to_string(&own).unwrap().lines().map(slower).collect::<String>()).unwrap();
    let curve = ["evaluate", "--space", "fashion-28", "--networks", text(&own), "--learning-curve", "10", "--json"];
    let figures = |options: &[&str]| -> Value {
        serde_json::from_str(&stdout(&fleetfoot(&[&curve[..], options].concat()).assert().success())).unwrap()
    };
    assert!(figures(&[]).get("repeatability_percent").is_none());
    let told = figures(&["--again", text(&again)]);
    assert_eq!(told["repeated_networks"], 12);
    assert!((told["repeatability_percent"].as_f64().unwrap() - 2.0 / 2f64.sqrt() / 1.01).abs() < 1e-2, "{told}");
    let error = fails_in_one_line(fleetfoot(&[&curve[..], &["--again", text(&own)]].concat()));
    assert!(error.contains("the file itself"), "{error}");
    let others = folder.path().join("others.csv");
    networks_file(&others, 60, 4, [0.2, 0.002, 0.01]);
    let error = fails_in_one_line(fleetfoot(&[&curve[..], &["--again", text(&others)]].concat()));
    assert!(error.contains("none of the 12 networks that are predicted stands there"), "{error}");
}

#[test]
fn a_model_of_whole_networks_predicts_others_with_intervals() {
    let folder = TempDir::new().unwrap();
    let [train, test, model, no] =
        ["train.csv", "test.csv", "model.json", "no.json"].map(|name| folder.path().join(name));
    let rounds = ["--min-rounds", "6", "--max-rounds", "6"];
    for (path, count, seed) in [(&train, "60", "1"), (&test, "40", "2")] {
        let measure = ["measure", "--space", "fashion-28", "--device", "mock", "--random", count, "--seed", seed];
        fleetfoot(&[&measure[..], &rounds, &["-o", text(path)]].concat()).assert().success();
    }
    let fit = ["fit", "--space", "fashion-28", "--networks", text(&train), "-o", text(&model)];
    let fitted = fleetfoot(&fit).assert().success();
    assert!(stderr(&fitted).contains("fitted to 60 networks of fashion-28"), "{}", stderr(&fitted));
    let predict = ["predict", "--model", text(&model), "--architectures", text(&test)];
    let predicted = Csv::parse(&stdout(&fleetfoot(&predict).assert().success()));
    let measured = Csv::read(&test);
    let within = |limit: f64| {
        let pairs = predicted.numbers("latency_ms").into_iter().zip(measured.numbers("latency_ms"));
        pairs.filter(|(predicted, measured)| (predicted / measured - 1.0).abs() <= limit).count()
    };
    assert_eq!(within(0.02), 40);
    let ends = predicted.numbers("low_ms").into_iter().zip(predicted.numbers("high_ms"));
    let held = ends.zip(measured.numbers("latency_ms")).filter(|((low, high), ms)| low <= ms && ms <= high).count();
    assert!(held >= 30, "{held} of 40 within their 90 % interval");
    // The same figures from the file, and how they come about as networks are added.
    let evaluate = ["evaluate", "--space", "fashion-28", "--networks", text(&test), "--model", text(&model), "--json"];
    let evaluated: Value = serde_json::from_str(&stdout(&fleetfoot(&evaluate).assert().success())).unwrap();
    assert_eq!((evaluated["networks"].as_u64(), evaluated["interval_percent"].as_u64()), (Some(40), Some(90)));
    assert!((evaluated["covered_percent"].as_f64().unwrap() - 2.5 * held as f64).abs() < 1e-9, "{evaluated}");
    let picture = folder.path().join("curve.svg");
    let curve = ["evaluate", "--space", "fashion-28", "--networks", text(&train), "--learning-curve", "10,40"];
    let curve = [&curve[..], &["--windows", "3", "--test", "20", "--picture", text(&picture), "--json"]].concat();
    let curve: Value = serde_json::from_str(&stdout(&fleetfoot(&curve).assert().success())).unwrap();
    let error = |point: usize| curve["points"][point]["rmspe_percent"]["mean"].as_f64().unwrap();
    assert!(error(1) < error(0) && error(1) < 2.0, "{curve}");
    assert_eq!(curve["points"][1]["samples"], 40);
    let svg = fs::read_to_string(&picture).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("networks measured") && svg.trim_end().ends_with("</svg>"));
    // Shuffled, every window predicts others; the same seed shuffles the same.
    let shuffled = |seed: &str| {
        let curve = ["evaluate", "--space", "fashion-28", "--networks", text(&train), "--learning-curve", "10"];
        let curve = [&curve[..], &["--windows", "4", "--test", "20", "--shuffle", "--json", "--seed", seed]].concat();
        serde_json::from_str::<Value>(&stdout(&fleetfoot(&curve).assert().success())).unwrap()
    };
    let (one, other) = (shuffled("1"), shuffled("9"));
    assert_eq!(
        (&one["shuffle"], &one["test"], &curve["shuffle"]),
        (&Value::from(true), &Value::from(20), &Value::Null)
    );
    let error = |curve: &Value, end: &str| curve["points"][0]["rmspe_percent"][end].as_f64().unwrap();
    assert!(error(&one, "low") < error(&one, "high") && error(&one, "mean") != error(&other, "mean"), "{one}");
    assert_eq!(one, shuffled("1"));
    // What doesn't belong together.
    let refused = |arguments: &[&str]| fails_in_one_line(fleetfoot(arguments));
    let elsewhere = folder.path().join("elsewhere.csv");
    fs::write(&elsewhere, fs::read_to_string(&test).unwrap().replace("# threads: 1\n", "# threads: 2\n")).unwrap();
    let conditions = ["evaluate", "--space", "fashion-28", "--networks", text(&elsewhere), "--model", text(&model)];
    let conditions = refused(&conditions);
    assert!(conditions.contains("other conditions") && conditions.contains("threads"), "{conditions}");
    let mixed = ["fit", "--space", "fashion-28", "--networks", text(&train), "--table", text(table()), "-o", text(&no)];
    let mixed = refused(&mixed);
    assert!(mixed.contains("was measured under other conditions than the whole networks"), "{mixed}");
    let other = refused(&["predict", "--model", text(&model), "--space", "cifar-32", "--random", "1"]);
    assert!(other.contains("is for networks of space fashion-28, not of cifar-32"), "{other}");
    let short = refused(&["predict", "--model", text(&model), "0000"]);
    assert!(short.contains("0000"), "{short}");
    let foreign = ["fit", "--space", "cifar-32", "--networks", text(&train), "-o", text(&no)];
    assert!(refused(&foreign).contains("of space fashion-28, not of cifar-32"));
    let units =
        ["predict", "--table", text(table()), "--space", "fashion-28", "k3e3", "--estimate", "--model", text(&model)];
    assert!(refused(&units).contains("make it with `fleetfoot fit`"), "a model of networks is none of units");
    let over =
        ["evaluate", "--space", "fashion-28", "--networks", text(&train), "--learning-curve", "10", "--force", "-o"];
    assert!(refused(&[&over[..], &[text(&train)]].concat()).contains("is the networks' file itself"));
    for (more, part) in [
        (["--learning-curve", "0"], "can't be fitted to 0 networks"),
        (["--learning-curve", "10,x"], "invalid value 'x'"),
        (["--learning-curve", "1000"], "too few for 12 to predict and 1000 to fit to"),
    ] {
        let curve = [&["evaluate", "--space", "fashion-28", "--networks", text(&train)][..], &more].concat();
        let assert = fleetfoot(&curve).assert().failure();
        assert!(stderr(&assert).contains(part), "{more:?}: {}", stderr(&assert));
    }
    let itself = ["fit", "--space", "fashion-28", "--networks", text(&train), "-o", text(&train), "--force"];
    assert!(refused(&itself).contains("is the networks' file itself"));
}
