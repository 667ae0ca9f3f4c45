//! A thousand classes of image files, some of them corrupt, through the programs: streamed, named, counted, left out; and a
//! run that was stopped ends as the one that wasn't.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::learning::{json, ready};
use common::{fails_in_one_line, fleetfoot, fleetfoot_process, stderr, stdout, text};
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// ImageNet's number of classes, at an extent from which on images are treated as ImageNet's are.
const SPACE: &str = r#"
name = "small-imagenet"
classes = 1000
input = { channels = 3, height = 64, width = 64 }
candidates = ["k3e2", "zero"]
stem = { channels = 8, stride = 2 }
first_block = { channels = 8 }
stages = [{ channels = 8, depth = 3, stride = 2 }]
head = { channels = 16 }
"#;

const CORRUPT: [&str; 4] = ["train/n0005/1.jpg", "train/n0700/0.jpg", "train/n0999/1.jpg", "val/n0003/1.jpg"];

/// Two training images of each class and one to test by, of class n0003 two; four files are no images.
fn images(folder: &Path) {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for class in 0..1000 {
        for (split, count) in [("train", 2), ("val", if class == 3 { 2 } else { 1 })] {
            let folder = folder.join(split).join(format!("n{class:04}"));
            fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let corners: [[f32; 3]; 2] = rng.random();
                let picture = RgbImage::from_fn(72 + class % 16, 60, |x, y| {
                    let share = (x + y) as f32 / 150.0;
                    Rgb(std::array::from_fn(|at| {
                        (255.0 * (corners[0][at] * (1.0 - share) + corners[1][at] * share)) as u8
                    }))
                });
                let mut bytes = Vec::new();
                JpegEncoder::new_with_quality(&mut bytes, 85).encode_image(&picture).unwrap();
                fs::write(folder.join(format!("{number}.jpg")), bytes).unwrap();
            }
        }
    }
    for (number, file) in CORRUPT.iter().enumerate() {
        let path = folder.join(file);
        let mut bytes = fs::read(&path).unwrap();
        let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 14;
        match number {
            0 => bytes.truncate(bytes.len() / 2),
            1 => bytes = b"<html>404</html>".to_vec(),
            2 => bytes[scan..].iter_mut().take(60).for_each(|byte| *byte = rng.random_range(0..255)),
            _ => bytes.clear(),
        }
        fs::write(path, bytes).unwrap();
    }
}

/// Each of these files is named once, with a reason, and the record lists them.
fn assert_named(talk: &str, record: &Value, data: &Path, files: &[&str]) {
    let listed = record["corrupt"].as_array().unwrap();
    assert_eq!(listed.len(), files.len(), "{listed:?}");
    for (entry, file) in listed.iter().zip(files) {
        let path = data.join(file);
        assert_eq!(entry["file"].as_str(), Some(text(&path)), "{listed:?}");
        let what = entry["what"].as_str().unwrap();
        let line = format!("corrupt, left out: {}: {what}", path.display());
        assert_eq!(talk.lines().filter(|said| said.contains(&line)).count(), 1, "{talk}");
    }
    let count = format!("{} corrupt images were left out", files.len());
    assert!(talk.contains(&count), "{talk}");
    assert!(talk.contains("% of them waiting for images"), "{talk}");
}

/// Starts a command, stops it when it has named a corrupt image, which is behind its first step, and goes on with it: what
/// it says then.
fn stopped_and_gone_on_with(arguments: &[&str]) -> String {
    let mut process = fleetfoot_process(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
    let named = lines.by_ref().find(|line| line.contains("corrupt, left out"));
    let stop = std::process::Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    let rest: Vec<String> = lines.collect();
    assert!(named.is_some() && stop.success() && !process.wait().unwrap().success(), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("--resume")), "{rest:?}");
    stderr(&fleetfoot(&[arguments, &["--resume"]].concat()).assert().success())
}

fn without_time(path: &Path) -> Value {
    let mut record = json(path);
    for time in ["seconds", "waited_seconds"] {
        assert!(record[time].as_f64().is_some_and(|seconds| seconds > 0.0), "{record}");
        record[time] = Value::Null;
    }
    record
}

#[test]
fn a_thousand_classes_of_files_are_searched_and_trained_with_and_corrupt_ones_named_and_left_out() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let (data, space) = (path("images"), path("space.toml"));
    images(&data);
    fs::write(&space, SPACE).unwrap();

    let train = |output: &str, more: &str| -> Vec<String> {
        let given = ["train", "--space", text(&space), "000", "--data", text(&data), "-o"].map(str::to_owned);
        let small = "--epochs 2 --batch 40 --lr 0.05 --threads 1";
        let more = small.split(' ').chain(more.split_whitespace()).map(str::to_owned);
        given.into_iter().chain([text(&path(output)).to_owned()]).chain(more).collect()
    };
    let run = |arguments: Vec<String>| fleetfoot(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let whole = stderr(&run(train("whole", "")).assert().success());
    let record = json(&path("whole/train.json"));
    assert_named(&whole, &record, &data, &CORRUPT);
    // Batches stay full; the accuracy is of what could be read.
    assert_eq!((&record["train_images"], &record["test_images"]), (&2000.into(), &1000.into()));
    assert!(whole.contains("of the 1000 test images that could be read"), "{whole}");
    let recipe = &record["recipe"];
    assert_eq!(
        (recipe["crop"].as_f64(), recipe["shift"].as_u64(), recipe["flip"].as_bool()),
        (Some(0.08), Some(0), Some(true))
    );
    assert!((recipe["jitter"]["brightness"].as_f64().unwrap() - 32.0 / 255.0).abs() < 1e-6, "{recipe}");
    assert_eq!(record["normalisation"].as_array().unwrap().len(), 3);

    let stopped = train("stopped", "");
    let talk = stopped_and_gone_on_with(&stopped.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(talk.contains("3 corrupt images are known already"), "{talk}");
    assert_eq!(without_time(&path("stopped/train.json")), without_time(&path("whole/train.json")));
    let weights = |run: &str| fs::read(path(run).join("weights.safetensors")).unwrap();
    assert!(weights("stopped") == weights("whole"), "the weights differ");

    // Images that are cut otherwise are another recipe, other files another data set.
    let other = fails_in_one_line(run(train("whole", "--resume --min-crop 0.5")));
    assert!(other.contains("another recipe"), "{other}");
    // What is exported is judged and calibrated by the images that can be read.
    let whole = path("whole");
    let export = ["export", text(&whole), "--images", "6", "--precision", "int8", "--calibration-images", "2000"];
    let talk = stderr(&fleetfoot(&export).assert().success());
    for file in CORRUPT {
        assert!(talk.contains(&format!("corrupt, left out: {}", data.join(file).display())), "{talk}");
    }
    let exported = &json(&path("whole/train.json"))["int8"];
    assert_eq!((&exported["images"], &exported["calibration_images"]), (&1000.into(), &1997.into()));
    let accuracy = |of: &Value, what: &str| of[what].as_f64().unwrap();
    assert!((accuracy(exported, "fp32_accuracy_percent") - accuracy(&record, "accuracy_percent")).abs() <= 0.2);
    stderr(&fleetfoot(&export[..4]).assert().success());
    assert_eq!(json(&path("whole/train.json"))["onnx"]["images"], 5);
    fs::write(path("whole/train.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    let mended = data.join(CORRUPT[3]);
    fs::copy(data.join("val/n0003/0.jpg"), &mended).unwrap();
    let other = fails_in_one_line(run(train("whole", "--resume")));
    assert!(other.contains("another data set"), "{other}");

    let table = path("table.csv");
    fleetfoot(&["profile", "--space", text(&space), "--device", "mock", "-o", text(&table)]).assert().success();
    let predict = ["predict", "--table", text(&table), "--space", text(&space), "000", "011"];
    let predicted = common::Csv::parse(&stdout(&fleetfoot(&predict).assert().success())).numbers("latency_ms");
    let target = format!("{}ms", (predicted[0] + predicted[1]) / 2.0);
    let search = |output: &str| -> Vec<String> {
        let given = ["search", "--space", text(&space), "--table", text(&table), "--target", &target];
        let files = ["--data", text(&data), "-o", text(&path(output))].map(str::to_owned);
        let small = "--warmup-epochs 1 --search-epochs 1 --batch 40 --train-images 400 --validation-images 200 --threads 1 \
                     --finalists 2 --refine-images 40 --jitter none";
        given.into_iter().chain(small.split_whitespace()).map(str::to_owned).chain(files).collect()
    };
    let whole = run(search("search")).assert().success();
    let record = json(&path("search/search.json"));
    assert_named(&stderr(&whole), &record, &data, &CORRUPT[..3]);
    assert_eq!(stdout(&whole).trim(), record["architecture"].as_str().unwrap());
    assert_eq!((&record["settings"]["crop"], &record["settings"]["jitter"]["saturation"]), (&0.08.into(), &0.0.into()));
    let stopped = search("stopped-search");
    stopped_and_gone_on_with(&stopped.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(without_time(&path("stopped-search/search.json")), without_time(&path("search/search.json")));
}
