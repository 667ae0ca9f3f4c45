//! What searches and trainings compute on, and in which precision, as people ask for it.

mod common;

use std::path::{Path, PathBuf};

use common::learning::ready;
use common::{fails_in_one_line, fleetfoot, stderr, text};
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// A data set in IDX form whose classes are told by how bright the upper half is.
fn images(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    for (name, count) in [("train", 320u32), ("t10k", 100)] {
        let mut images: Vec<u8> = [0x0803u32, count, 28, 28].iter().flat_map(|word| word.to_be_bytes()).collect();
        images.extend((0..count * 784).map(|pixel| {
            let noise = (pixel.wrapping_mul(2_654_435_761) >> 27) as u8;
            if pixel % 784 < 392 { noise + (pixel / 784 % 10) as u8 * 20 } else { noise }
        }));
        let mut labels: Vec<u8> = [0x0801u32, count].iter().flat_map(|word| word.to_be_bytes()).collect();
        labels.extend((0..count).map(|image| (image % 10) as u8));
        std::fs::write(data.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(data.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    }
    data
}

/// A short training.
fn train<'a>(output: &'a Path, data: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let recipe = "train shallowest --space fashion-28 --epochs 1 --batch 32 --threads 1 --shift 0 --no-flip";
    [&recipe.split(' ').collect::<Vec<_>>()[..], &["-o", text(output), "--data", text(data)], more].concat()
}

fn record(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("train.json")).unwrap()).unwrap()
}

#[test]
fn a_gpu_that_is_not_there_is_refused_at_the_start_with_what_to_do() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (images(folder.path()), folder.path().join("run"));
    let search = "search --space fashion-28 --max-params 100k --data";
    let search = [&search.split(' ').collect::<Vec<_>>()[..], &[text(&data), "-o", text(&run)]].concat();
    for arguments in [train(&run, &data, &[]), search] {
        // No machine has so many.
        let message = fails_in_one_line(fleetfoot(&[&arguments[..], &["--compute", "cuda:4096"]].concat()));
        let known = ["LIBTORCH", "nvidia-smi", "is the last"].iter().any(|remedy| message.contains(remedy));
        assert!(message.contains("cuda:4096") && known, "{message}");
        assert!(!run.exists(), "nothing is begun");
        for wrong in ["gpu", "cuda:", "cuda:one", "local-cuda"] {
            let said = stderr(&fleetfoot(&[&arguments[..], &["--compute", wrong]].concat()).assert().code(2));
            assert!(said.contains("cuda:N"), "{said}");
        }
    }
}

#[test]
fn a_run_says_what_computed_it_and_when_that_changed() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (images(folder.path()), folder.path().join("run"));
    let arguments = train(&run, &data, &["--resume"]);
    let said = stderr(&fleetfoot(&arguments).assert().success());
    assert!(!said.contains("goes on"), "{said}");
    assert_eq!(record(&run)["computed_on"], json!(["cpu"]));
    // As if a GPU had computed up to the checkpoint, and the processor evaluated.
    let checkpoint = run.join("checkpoint.safetensors");
    let bytes = std::fs::read(&checkpoint).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    assert_eq!(metadata.insert("computed_on".into(), r#"["cuda:1"]"#.into()).as_deref(), Some(r#"["cpu"]"#));
    let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    std::fs::write(&checkpoint, safetensors::serialize(tensors, Some(metadata)).unwrap()).unwrap();
    std::fs::remove_file(run.join("train.json")).unwrap();
    let said = stderr(&fleetfoot(&arguments).assert().success());
    assert!(said.contains("cuda:1 computed so far, cpu goes on"), "{said}");
    assert_eq!(record(&run)["computed_on"], json!(["cuda:1", "cpu"]));
}

#[test]
fn mixed_precision_is_part_of_the_recipe_and_what_comes_out_is_exported_exactly() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, run, plain) = (images(folder.path()), folder.path().join("amp"), folder.path().join("plain"));
    fleetfoot(&train(&run, &data, &["--amp"])).assert().success();
    fleetfoot(&train(&plain, &data, &[])).assert().success();
    let (mixed, exact) = (record(&run), record(&plain));
    assert_eq!((&mixed["recipe"]["amp"], &exact["recipe"]["amp"]), (&json!(true), &json!(false)));
    let loss = |record: &Value| record["curve"][0]["loss"].as_f64().unwrap();
    assert!(loss(&mixed) != loss(&exact) && (loss(&mixed) - loss(&exact)).abs() < 0.05, "{mixed} {exact}");
    let message = fails_in_one_line(fleetfoot(&train(&run, &data, &["--resume"])));
    assert!(message.contains("another recipe"), "{message}");
    // Its weights are 32-bit floats, and ONNX Runtime computes with them what libtorch does.
    let bytes = std::fs::read(run.join("weights.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert!(tensors.tensors().iter().all(|(_, tensor)| tensor.dtype() == safetensors::Dtype::F32));
    fleetfoot(&["export", text(&run), "--images", "20"]).assert().success();
    assert!(record(&run)["onnx"]["max_abs_difference"].as_f64().unwrap() < 1e-4);
}
