//! Training from scratch and export as people call them: seeds, widths, weights in and out, fewer bits.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::learning::{images, json, ready, ready_with_images};
use common::{Csv, fails_in_one_line, fleetfoot, fleetfoot_process, refused_as_usage, stderr, stdout, text};
use safetensors::SafeTensors;
use serde_json::Value;

/// `train` of two short epochs on one thread.
fn train<'a>(architecture: &'a str, output: &'a Path, data: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let recipe = "--epochs 2 --batch 32 --threads 1 --shift 0 --no-flip --space";
    let mut arguments = vec!["train", architecture, "-o", text(output), "--data", text(data)];
    arguments.extend(recipe.split(' '));
    arguments.extend(if more.first() == Some(&"--space") { &more[1..] } else { &["fashion-28"] });
    arguments.extend(if more.first() == Some(&"--space") { &[][..] } else { more });
    arguments
}

#[test]
fn seeds_are_trained_one_by_one_and_summed_up_though_the_run_was_killed() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, run, alone) = (images(folder.path()), folder.path().join("run"), folder.path().join("alone"));
    let options = ["--seed", "4", "--seeds", "3", "--ema", "0.9", "--mixup", "0.2", "--cutmix", "1", "--resume"];
    let several = train("shallowest", &run, &data, &options);
    for (wait_ms, signal) in [(700, "-TERM"), (900, "-KILL")] {
        let mut process = fleetfoot_process(&several).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait_ms));
        let _ = std::process::Command::new("kill").args([signal, &process.id().to_string()]).status();
        process.wait().unwrap();
    }
    let said = stderr(&fleetfoot(&several).assert().success());
    let record = json(&run.join("seeds.json"));
    assert_eq!(
        (&record["seeds"], &record["folders"]),
        (&serde_json::json!([4, 5, 6]), &serde_json::json!(["seed4", "seed5", "seed6"]))
    );
    let each: Vec<Value> = [4, 5, 6].iter().map(|seed| json(&run.join(format!("seed{seed}/train.json")))).collect();
    for quantity in ["accuracy_percent", "test_loss"] {
        let values: Vec<f64> = each.iter().map(|one| one[quantity].as_f64().unwrap()).collect();
        let mean = values.iter().sum::<f64>() / 3.0;
        let sd = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
        let of = |what: &str| record[quantity][what].as_f64().unwrap();
        assert!((of("mean") - mean).abs() < 1e-9 && (of("sd") - sd).abs() < 1e-9 && sd > 0.0, "{record}");
        assert_eq!(record[quantity]["values"], serde_json::json!(values));
    }
    assert!(record["without_ema"]["accuracy_percent"]["mean"].as_f64().is_some());
    let accuracy = |what: &str| record["accuracy_percent"][what].as_f64().unwrap();
    let line = format!("test accuracy {:.2} ± {:.2} %", accuracy("mean"), accuracy("sd"));
    assert!(said.lines().last().unwrap().contains(&line), "{said}");
    // A seed of several is what a run of that seed alone is, killed or not.
    let options = ["--seed", "5", "--ema", "0.9", "--mixup", "0.2", "--cutmix", "1"];
    fleetfoot(&train("shallowest", &alone, &data, &options)).assert().success();
    let weights = |folder: &Path| std::fs::read(folder.join("weights.safetensors")).unwrap();
    assert!(weights(&alone) == weights(&run.join("seed5")), "equal bytes");
    // Any of them can be exported; the folder of all can't.
    fleetfoot(&["export", text(&run.join("seed6")), "--images", "5"]).assert().success();
    assert!(fails_in_one_line(fleetfoot(&["export", text(&run)])).contains("seed4"));
    // Nothing is trained twice or by the way, more seeds go on.
    let message = fails_in_one_line(fleetfoot(&several[..several.len() - 1]));
    assert!(message.contains("--resume"), "{message}");
    let message = fails_in_one_line(fleetfoot(&train("shallowest", &run, &data, &["--resume"])));
    assert!(message.contains("several seeds"), "{message}");
    let message = fails_in_one_line(fleetfoot(&train("shallowest", &alone, &data, &["--seeds", "2", "--resume"])));
    assert!(message.contains("one seed"), "{message}");
    let other = [&several[..], &["--smoothing", "0"]].concat();
    let message = fails_in_one_line(fleetfoot(&other));
    assert!(message.contains("another recipe"), "{message}");
}

#[test]
fn the_average_is_judged_and_exported_and_both_accuracies_are_told() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, run, plain) = (images(folder.path()), folder.path().join("run"), folder.path().join("plain"));
    fleetfoot(&train("shallowest", &run, &data, &["--ema", "0.9"])).assert().success();
    fleetfoot(&train("shallowest", &plain, &data, &[])).assert().success();
    let (averaged, plain) = (json(&run.join("train.json")), json(&plain.join("train.json")));
    // The steps are the same, so that the last step's weights are.
    for quantity in ["accuracy_percent", "test_loss"] {
        assert_eq!(averaged["without_ema"][quantity], plain[quantity]);
    }
    assert_ne!(averaged["test_loss"], plain["test_loss"]);
    assert!(plain.get("without_ema").is_none());
    // What is exported has the average's accuracy.
    let said = stderr(&fleetfoot(&["export", text(&run), "--precision", "fp16"]).assert().success());
    let exported = json(&run.join("train.json"));
    assert_eq!(exported["fp16"]["fp32_accuracy_percent"], averaged["accuracy_percent"], "{said}");
    for wrong in [
        ["--ema", "1"],
        ["--ema", "-1"],
        ["--mixup", "0"],
        ["--cutmix", "x"],
        ["--smoothing", "1"],
        ["--weight-decay", "-1"],
    ] {
        fleetfoot(&train("shallowest", &run, &data, &wrong)).assert().code(2);
    }
}

#[test]
fn blocks_computed_twice_give_the_same_bytes_and_a_batch_in_parts_is_another_recipe() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = images(folder.path());
    let [plain, twice, parts] = ["plain", "twice", "parts"].map(|name| folder.path().join(name));
    let run = |output: &Path, more: &[&str]| fleetfoot(&train("6046316544", output, &data, more));
    run(&plain, &["--mixup", "0.2"]).assert().success();
    run(&twice, &["--mixup", "0.2", "--recompute"]).assert().success();
    run(&parts, &["--mixup", "0.2", "--accumulate", "4"]).assert().success();
    let weights = |folder: &Path| std::fs::read(folder.join("weights.safetensors")).unwrap();
    assert!(weights(&twice) == weights(&plain), "equal bytes");
    assert!(weights(&parts) != weights(&plain), "batch normalisation saw other batches");
    assert_eq!(json(&parts.join("train.json"))["recipe"]["accumulate"], 4);
    // The one may be switched, the other may not.
    let said = stderr(&run(&plain, &["--mixup", "0.2", "--recompute", "--resume"]).assert().success());
    assert!(said.contains("is there already"), "{said}");
    let message = fails_in_one_line(run(&parts, &["--mixup", "0.2", "--accumulate", "2", "--resume"]));
    assert!(message.contains("another recipe"), "{message}");
    let message = fails_in_one_line(run(&parts, &["--accumulate", "33", "--force"]));
    assert!(message.contains("33 parts of a batch of 32"), "{message}");
    run(&parts, &["--accumulate", "0"]).assert().code(2);
}

#[test]
fn a_width_multiplier_is_shown_predicted_trained_and_exported() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (images(folder.path()), folder.path().join("run"));
    let shown = stdout(&fleetfoot(&["show", "--space", "mobilenetv2-224", "mobilenetv2@0.35"]).assert().success());
    assert!(shown.lines().last().unwrap().contains("59285808"), "{shown}");
    let said = stderr(&fleetfoot(&train("k3e6@0.50", &run, &data, &[])).assert().success());
    assert!(said.lines().last().unwrap().starts_with("k3e6@0.5: test accuracy"), "{said}");
    let record = json(&run.join("train.json"));
    assert_eq!((record["named"].as_str(), record["architecture"].as_str()), (Some("k3e6@0.5"), Some("1111111111")));
    let network = stdout(&fleetfoot(&["show", "--space", "fashion-28", "k3e6@0.5", "--json"]).assert().success());
    let network: Value = serde_json::from_str(&network).unwrap();
    assert_eq!((&record["macs"], &record["params"]), (&network["macs"], &network["params"]));
    fleetfoot(&["export", text(&run), "--images", "5"]).assert().success();
    let onnx = std::fs::read(run.join("model.onnx")).unwrap();
    assert!(onnx.windows(16).any(|window| window == b"width_multiplier"), "the model says which network it is");
    // The same in other words is done; another width is another run.
    fleetfoot(&train("k3e6@0.5", &run, &data, &["--resume"])).assert().success();
    let message = fails_in_one_line(fleetfoot(&train("k3e6@0.75", &run, &data, &["--resume"])));
    assert!(message.contains("another space"), "{message}");
    // A table has the space's own widths; others can be estimated.
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/data/epyc-milan/fashion-28.csv");
    let predict = ["predict", "--table", table, "--space", "fashion-28", "k3e6", "k3e6@0.5", "k3e6@1.4"];
    let message = fails_in_one_line(fleetfoot(&[&predict[..5], &["k3e6@0.5"]].concat()));
    assert!(message.contains("k3e6@0.5 has widths of its own") && message.contains("--estimate"), "{message}");
    let predicted = Csv::parse(&stdout(&fleetfoot(&[&predict[..], &["--estimate"]].concat()).assert().success()));
    assert_eq!(predicted.texts("architecture"), ["1111111111", "k3e6@0.5", "k3e6@1.4"]);
    let ms = predicted.numbers("latency_ms");
    assert!(ms[1] < ms[0] && ms[0] < ms[2], "{ms:?}");
    let measure = ["measure", "--space", "fashion-28", "k3e6@0.5", "--min-rounds", "6", "--max-rounds", "6"];
    let measured = Csv::parse(&stdout(&fleetfoot(&measure).assert().success()));
    assert_eq!(measured.texts("architecture"), ["k3e6@0.5"]);
    let message = fails_in_one_line(fleetfoot(&[&predict[..5], &["k3e6@wide"]].concat()));
    assert!(message.contains("'wide' is no width multiplier"), "{message}");
}

#[test]
fn weights_go_out_and_come_in_as_safetensors() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (data, run) = (images(folder.path()), at("run"));
    fleetfoot(&train("shallowest", &run, &data, &[])).assert().success();
    let file = run.join("weights.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    assert_eq!((metadata["format"].as_str(), metadata["named"].as_str()), ("pt", "shallowest"));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("stem.main.conv.weight").unwrap().shape(), [16, 1, 3, 3]);
    assert_eq!(tensors.tensor("head.classifier.bias").unwrap().shape(), [10]);

    // In again: two more epochs start where these ended.
    let more = at("more");
    fleetfoot(&train("shallowest", &more, &data, &["--init", text(&file)])).assert().success();
    let loss = |folder: &Path| json(&folder.join("train.json"))["curve"][0]["loss"].as_f64().unwrap();
    assert!(loss(&more) < loss(&run));
    let init = &json(&more.join("train.json"))["recipe"]["init"];
    assert_eq!((init["sha256"].as_str().map(str::len), init["new_classifier"].as_bool()), (Some(64), Some(false)));
    let message = fails_in_one_line(fleetfoot(&train("shallowest", &more, &data, &["--resume"])));
    assert!(message.contains("another recipe"), "{message}");

    // Into what they don't fit they don't go, but for another classifier, if that is said.
    let none = at("none");
    let message = fails_in_one_line(fleetfoot(&train("k3e6", &none, &data, &["--init", text(&file)])));
    assert!(message.contains("--init") && message.contains("no tensor 'stage1.0.expand.conv.weight'"), "{message}");
    let twelve = at("twelve.toml");
    let toml = stdout(&fleetfoot(&["show", "--space", "fashion-28", "--toml"]).assert().success());
    std::fs::write(&twelve, toml.replace("classes = 10", "classes = 12")).unwrap();
    let wider = ["--space", text(&twelve), "--init", text(&file)];
    let message = fails_in_one_line(fleetfoot(&train("shallowest", &none, &data, &wider)));
    assert!(
        message.contains("'head.classifier.weight' is [10, 256]") && message.contains("--new-classifier"),
        "{message}"
    );
    fleetfoot(&train("shallowest", &none, &data, &[&wider[..], &["--new-classifier"]].concat())).assert().success();

    // Exported without a training, they are the model that the training's export is.
    fleetfoot(&["export", text(&run)]).assert().success();
    let (model, foreign) = (run.join("model.onnx"), at("foreign.onnx"));
    let export = ["export", "shallowest", "--space", "fashion-28", "--weights", text(&file), "--data", text(&data)];
    let said = stderr(&fleetfoot(&[&export[..], &["-o", text(&foreign)]].concat()).assert().success());
    assert!(said.contains("normalised") && said.contains("% on 100 test images"), "{said}");
    assert!(std::fs::read(&model).unwrap() == std::fs::read(&foreign).unwrap(), "equal bytes");
    let nowhere = at("other.onnx");
    let other = [&["export", "k3e6"], &export[2..], &["-o", text(&nowhere)]].concat();
    let message = fails_in_one_line(fleetfoot(&other));
    assert!(message.contains("doesn't fit k3e6") && message.contains("stage1.0.expand"), "{message}");
    fleetfoot(&export).assert().code(2);
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(
        fails_in_one_line(fleetfoot(&train("shallowest", &none, &data, &["--init", text(&file)])))
            .contains("weights.safetensors")
    );
}

#[test]
fn int8_is_calibrated_on_real_images_and_keeps_the_accuracy() {
    if !ready_with_images() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let recipe =
        "train --space fashion-28 k3e3 --epochs 1 --train-images 6400 --batch 32 --threads 1 --shift 0 --no-flip -o";
    let recipe: Vec<&str> = recipe.split(' ').chain([text(&run)]).collect();
    fleetfoot(&recipe).assert().success();
    let export = ["export", text(&run), "--precision", "int8", "--test-images", "1000", "--calibration-images", "128"];
    for observer in ["minmax", "percentile:99.99", "mse"] {
        let said = stderr(&fleetfoot(&[&export[..], &["--observer", observer, "--force"]].concat()).assert().success());
        let record = json(&run.join("train.json"));
        let int8 = &record["int8"];
        let of = |what: &str| int8[what].as_f64().unwrap();
        let (accuracy, exact) = (of("accuracy_percent"), of("fp32_accuracy_percent"));
        assert!(exact > 60.0 && (accuracy - exact).abs() < 3.0, "{observer}: {int8}");
        assert_eq!((of("images"), of("calibration_images")), (1000.0, 128.0));
        assert_eq!(int8["observer"], observer);
        assert!(int8["runtime"].as_str().unwrap().contains("ONNX Runtime") && record["onnx"].is_null());
        let line = format!("accuracy {accuracy:.2} % in int8, {exact:.2} % in fp32 on 1000 test images");
        assert!(said.contains(&line), "{said}");
    }
    // It is in bytes, and runs as any model does.
    fleetfoot(&["export", text(&run)]).assert().success();
    let size = |name: &str| std::fs::metadata(run.join(name)).unwrap().len();
    assert!(size("model.int8.onnx") < size("model.onnx"));
    assert!(
        json(&run.join("train.json"))["int8"]["accuracy_percent"].as_f64().is_some(),
        "the other export stays told"
    );
    let model = run.join("model.int8.onnx");
    let measure = ["measure", "--onnx", text(&model), "--min-rounds", "6", "--max-rounds", "6"];
    fleetfoot(&measure).assert().success();
    fleetfoot(&[&export[..], &["--observer", "percentile:12"]].concat()).assert().code(2);
    for (passed_over, more) in [("--observer", ["--observer", "mse"]), ("--test-images", ["--test-images", "9"])] {
        let message = refused_as_usage(fleetfoot(&[&export[..2], &more].concat()));
        assert!(message.contains(passed_over) && message.contains("int8"), "{message}");
    }
}
