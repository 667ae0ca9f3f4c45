//! The whole way through the programs, small: a table, a search, a training, an export, a measurement, a report; real
//! ONNX Runtime, real libtorch, real images (Fashion-MNIST).

mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use common::learning::{json, ready_with_images};
use common::{Csv, fails_in_one_line, fleetfoot, fleetfoot_process, stderr, stdout, text};
use fleetfoot_space::SearchSpace;
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

#[test]
fn a_search_by_memory_holds_its_budget_and_names_its_unit() {
    if !ready_with_images() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (table, output) = (folder.path().join("memory.csv"), folder.path().join("search"));
    let profile = ["profile", "--space", "fashion-28", "--device", "mock", "--cost", "memory", "-o", text(&table)];
    fleetfoot(&profile).assert().success();
    let arguments = |target| {
        let mut arguments = search_arguments(&output, target);
        let given = arguments.iter().position(|argument| *argument == "--table").unwrap();
        arguments[given + 1] = text(&table);
        arguments
    };
    let search = |target| fleetfoot(&arguments(target));
    assert!(fails_in_one_line(search("0.3ms")).contains("give a budget in MiB"));
    let message = fails_in_one_line(search("3MiB"));
    assert!(message.contains("target 3.0000 MiB lies outside") && message.contains("10."), "{message}");
    let found = search("11.2MiB").assert().success();
    let architecture = stdout(&found).trim().to_owned();
    assert!(stderr(&found).contains("target 11.2000 MiB"), "{}", stderr(&found));
    let record = json(&output.join("search.json"));
    assert_eq!((record["cost"].as_str(), record["target_mib"].as_f64()), (Some("memory"), Some(11.2)));
    let predicted = record["predicted_mib"].as_f64().unwrap();
    assert!(record.get("predicted_ms").is_none() && predicted <= 11.2, "{record}");
    let predict = ["predict", "--table", text(&table), "--space", "fashion-28", &architecture];
    let again = Csv::parse(&stdout(&fleetfoot(&predict).assert().success())).numbers("memory_mib")[0];
    assert!((again / predicted - 1.0).abs() < 1e-6, "{again} {predicted}");
    assert!(
        std::fs::read_to_string(output.join("curve.csv")).unwrap().lines().next().unwrap().contains("expected_mib")
    );
    // The same again is done already.
    let again = [arguments("11.2MiB"), vec!["--resume"]].concat();
    assert_eq!(stdout(&fleetfoot(&again).assert().success()).trim(), architecture);
}

#[test]
fn the_whole_way_ends_in_a_report() {
    if !ready_with_images() {
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

/// A space of one's own: a preset's copy that was edited and kept its name, and a network with widths of its own.
fn own_space() -> String {
    let text = SearchSpace::load("fashion-28").unwrap().text().to_owned();
    let (stages, rest) = text.split_once("[[stages]]\nchannels = 40").unwrap();
    let (_, head) = rest.split_once("[head]").unwrap();
    let (head, _) = head.split_once("# Names").unwrap();
    let slim = "slim = { choices = \"00000\", stem = 8, first_block = 8, stages = [8, 16], head = 64 }";
    format!("{stages}[head]{head}[architectures]\nk3e6 = \"11111\"\n{slim}\n")
}

#[test]
fn a_space_of_ones_own_goes_the_whole_way_and_is_kept_with_what_is_made_of_it() {
    if !ready_with_images() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    // Relative paths, from a folder that later commands don't run in.
    let here = |arguments: &str| {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let mut command = fleetfoot_process(&arguments);
        command.current_dir(run);
        assert_cmd::Command::from_std(command)
    };
    std::fs::write(run.join("mine.toml"), own_space()).unwrap();
    here("profile --space mine.toml -o table.csv --min-rounds 6 --max-rounds 6 --visit 1").assert().success();
    let predict = "predict --table table.csv --space mine.toml k3e6 slim --estimate";
    let predicted = stdout(&here(predict).assert().success());
    let target = 0.8 * Csv::parse(&predicted).numbers("latency_ms")[0];
    let search = format!(
        "search --space mine.toml --table table.csv --target {target}ms -o search --train-images 640 \
         --validation-images 320 --warmup-epochs 1 --search-epochs 1 --batch 32 --threads 1"
    );
    let found = stdout(&here(&search).assert().success()).trim().to_owned();
    assert_eq!(found.len(), 5);
    let train = "--epochs 1 --train-images 320 --batch 32 --threads 1";
    for (role, architecture) in [("found", found.as_str()), ("baseline", "k3e6"), ("slim", "slim")] {
        here(&format!("train --space mine.toml {architecture} -o train/{role} {train}")).assert().success();
    }

    // Other evidence under the same name is another run.
    let changed = own_space().replace("channels = 256", "channels = 128");
    std::fs::write(run.join("mine.toml"), &changed).unwrap();
    here("profile --space mine.toml -o other.csv --min-rounds 6 --max-rounds 6 --visit 1").assert().success();
    let other_space = search.replace("table.csv", "other.csv") + " --resume";
    let message = fails_in_one_line(here(&other_space));
    assert!(message.contains("search.json is of another space"), "{message}");
    let again = format!("train --space mine.toml k3e6 -o train/baseline {train} --resume");
    assert!(fails_in_one_line(here(&again)).contains("train.json is of another space"));
    std::fs::write(run.join("mine.toml"), own_space()).unwrap();
    let table = std::fs::read_to_string(run.join("table.csv")).unwrap();
    let cheaper = table.replace("# empty_graph_ms: 0.0", "# empty_graph_ms: 0.00");
    std::fs::write(run.join("other.csv"), cheaper).unwrap();
    let other_table = search.replace("table.csv", "other.csv") + " --resume";
    let message = fails_in_one_line(here(&other_table));
    assert!(message.contains("search.json is of another table"), "{message}");
    std::fs::remove_file(run.join("mine.toml")).unwrap();

    for role in ["found", "baseline", "slim"] {
        fleetfoot(&["export", text(&run.join("train").join(role)), "--images", "5"]).assert().success();
    }
    let models = "train/found/model.onnx train/baseline/model.onnx train/slim/model.onnx";
    here(&format!("measure -o measured.csv --min-rounds 6 --max-rounds 6 --onnx {models}")).assert().success();
    std::fs::write(run.join("mine.toml"), own_space()).unwrap();
    let predicted = stdout(&here(&format!("{predict} {found}")).assert().success());
    std::fs::write(run.join("predicted.csv"), predicted).unwrap();
    std::fs::remove_file(run.join("mine.toml")).unwrap();
    let report = fleetfoot(&["report", text(run)]).assert().success();
    assert!(!stderr(&report).contains("MACs and"), "{}", stderr(&report));
    let summary = json(&run.join("summary.json"));
    assert_eq!(summary["found"]["architecture"], found.as_str());
    assert_eq!(summary["found"]["blocks"].as_array().unwrap().len(), 8);
    assert_eq!(summary["controls"][0]["blocks"][0]["channels"], 8, "widths of its own");
}

/// A data set in IDX form: images of noise, as bright as `brightness`.
fn idx(folder: &Path, brightness: u8) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, count) in [("train", 320u32), ("t10k", 20)] {
        let mut images: Vec<u8> = [0x0803u32, count, 28, 28].iter().flat_map(|word| word.to_be_bytes()).collect();
        images.extend((0..count * 784).map(|pixel| (pixel.wrapping_mul(2_654_435_761) >> 24) as u8 % brightness));
        let mut labels: Vec<u8> = [0x0801u32, count].iter().flat_map(|word| word.to_be_bytes()).collect();
        labels.extend((0..count).map(|image| (image % 10) as u8));
        std::fs::write(folder.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    }
}

#[test]
fn an_export_belongs_to_the_images_that_the_network_was_trained_on() {
    if !ready_with_images() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [ours, others, run] = ["ours", "others", "run"].map(|name| folder.path().join(name));
    idx(&ours, 255);
    idx(&others, 90);
    let train = "train --space fashion-28 shallowest --epochs 1 --batch 32 --threads 1";
    let mut train: Vec<&str> = train.split(' ').collect();
    train.extend(["-o", text(&run), "--data"]);
    fleetfoot(&[&train[..], &[text(&ours)]].concat()).assert().success();
    let message = fails_in_one_line(fleetfoot(&[&train[..], &[text(&others), "--resume"]].concat()));
    assert!(message.contains("train.json is of another data set"), "{message}");
    // The images of the training are found again; others are refused.
    let export = ["export", text(&run)];
    fleetfoot(&export).assert().success();
    let message = fails_in_one_line(fleetfoot(&[&export[..], &["--data", text(&others)]].concat()));
    assert!(message.contains("--data") && message.contains("ours"), "{message}");
    let record = json(&run.join("train.json"));
    let mean = record["normalisation"][0][0].as_f64().unwrap();
    let onnx = std::fs::read(run.join("model.onnx")).unwrap();
    let holds = |text: &str| onnx.windows(text.len()).any(|window| window == text.as_bytes());
    assert!((0.45..0.55).contains(&mean) && holds(&(mean as f32).to_string()), "{mean}");
    // A model that is another one isn't replaced unasked; the same one is.
    fleetfoot(&export).assert().success();
    std::fs::write(run.join("model.onnx"), "mine").unwrap();
    assert!(fails_in_one_line(fleetfoot(&export)).contains("--force"));
    fleetfoot(&[&export[..], &["--force"]].concat()).assert().success();
    assert_eq!(std::fs::read(run.join("model.onnx")).unwrap(), onnx);
}

#[test]
fn a_search_that_was_killed_goes_on_to_the_same_result() {
    if !ready_with_images() {
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
    // Whether blocks are computed twice may change on the way.
    let done = fleetfoot(&[&resume[..], &["--recompute"]].concat()).assert().success();
    assert_eq!(stdout(&done), expected);
    let without_time = |path: &Path| {
        let mut record = json(&path.join("search.json"));
        record["seconds"] = Value::Null;
        record["waited_seconds"] = Value::Null;
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
    if !ready_with_images() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    for (target, wanted) in [("0.0001ms", "fastest network"), ("9s", "slowest")] {
        let message = fails_in_one_line(fleetfoot(&search_arguments(&output, target)));
        assert!(message.contains(wanted), "{message}");
    }
    let no_unit = fleetfoot(&search_arguments(&output, "0.2")).assert().code(2);
    assert!(stderr(&no_unit).contains("with its unit"), "{}", stderr(&no_unit));
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
