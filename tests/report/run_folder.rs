//! A run folder as a search of the space `cifar-32` leaves it, with made-up but plausible numbers.

#![allow(dead_code)] // Every test program uses its own share.

use std::fs;
use std::path::{Path, PathBuf};

use fleetfoot_predictor::{CostError, CostMatrix};
use fleetfoot_space::{Network, OperatorKey, Precision, SearchSpace};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the search found: kernels and expansion ratios of all sizes, and a few blocks left out.
pub const FOUND: &str = "206640225122322055445";
/// The operator of MobileNetV2 everywhere.
pub const BASELINE: &str = "111111111111111111111";
const WIDEST: &str = "555555555555555555555";

/// Trainings: folder, architecture, seed, accuracy, measured latency.
const TRAININGS: [(&str, &str, u64, f64, f64); 5] = [
    ("found", FOUND, 1, 92.31, 3.08),
    ("found.seed2", FOUND, 2, 92.07, 3.16),
    ("baseline", BASELINE, 1, 92.46, 5.56),
    ("baseline.seed2", BASELINE, 2, 92.34, 5.60),
    ("widest", WIDEST, 1, 92.71, 9.42),
];

/// A run folder that vanishes when it is dropped.
pub struct RunFolder {
    dir: TempDir,
}

impl RunFolder {
    /// A complete run.
    pub fn new() -> Self {
        let run = Self { dir: TempDir::new().unwrap() };
        run.write("table.csv", &format!("{}operator,latency_ms,low_ms,high_ms,n\n", head("2026-03-01")));
        let predicted = [(FOUND, 3.21), (BASELINE, 5.43), (WIDEST, 9.61)];
        let rows = predicted.map(|(network, ms)| format!("{network},{ms},{},{}\n", 0.95 * ms, 1.05 * ms));
        run.write("predicted.csv", &format!("architecture,latency_ms,low_ms,high_ms\n{}", rows.concat()));
        run.write("evaluate.json", &evaluation().to_string());
        run.write("search/search.json", &serde_json::to_string_pretty(&search()).unwrap());
        let mut measured = format!("{}model,architecture,latency_ms,low_ms,high_ms,n\n", head("2026-03-02"));
        for (folder, architecture, seed, accuracy, ms) in TRAININGS {
            run.write_json(&format!("train/{folder}/train.json"), &training(architecture, seed, accuracy));
            measured += &row(folder, architecture, ms);
        }
        run.write("measured.csv", &measured);
        run
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file in it.
    pub fn at(&self, file: &str) -> PathBuf {
        self.path().join(file)
    }

    /// Its text.
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.at(file)).unwrap()
    }

    /// Its content.
    pub fn read_json(&self, file: &str) -> Value {
        serde_json::from_str(&self.read(file)).unwrap()
    }

    /// Writes a file and the folders above it.
    pub fn write(&self, file: &str, text: &str) {
        fs::create_dir_all(self.at(file).parent().unwrap()).unwrap();
        fs::write(self.at(file), text).unwrap();
    }

    /// Writes a JSON file.
    pub fn write_json(&self, file: &str, value: &Value) {
        self.write(file, &serde_json::to_string_pretty(value).unwrap());
    }

    /// Replaces the text that a file must hold.
    pub fn replace(&self, file: &str, from: &str, to: &str) {
        let text = self.read(file);
        assert!(text.contains(from), "{file} has no {from:?}:\n{text}");
        self.write(file, &text.replacen(from, to, 1));
    }

    /// Changes a value of a JSON file.
    pub fn set(&self, file: &str, pointer: &str, value: impl Into<Value>) {
        let mut json = self.read_json(file);
        *json.pointer_mut(pointer).unwrap() = value.into();
        self.write_json(file, &json);
    }

    /// As a search of now, which tells its way, within a latency and a count of multiply-accumulates.
    pub fn tell_the_way(&self) {
        let per_mac = 3.21 / macs(FOUND);
        let latency = limit(("latency", "ms"), ("target", 3.2), |network| per_mac * network.macs() as f64);
        let most = 1.02 * macs(FOUND);
        let counted = limit(("multiply-accumulates", "MACs"), ("cap", most), |network| network.macs() as f64);
        self.tell_the_way_within(&[latency, counted]);
    }

    /// The same within these limits; what was limited first names the amounts.
    pub fn tell_the_way_within(&self, limits: &[Value]) {
        let mut search = self.read_json("search/search.json");
        let left = |index: usize| 140 - index / 20;
        for (index, point) in search["curve"].as_array_mut().unwrap().iter_mut().enumerate() {
            point["candidates"] = left(index).into();
        }
        for (key, value) in way(&search, limits).as_object().unwrap() {
            search[key] = value.clone();
        }
        let at_most = limits[0]["at_most"].as_f64().unwrap();
        for (name, share) in [("target_ms", 1.0), ("predicted_ms", 0.98), ("expected_ms", 1.01)] {
            search[name] = (share * at_most).into();
        }
        let unit = limits[0]["unit"].as_str().unwrap().to_lowercase().replace(' ', "_");
        let text = serde_json::to_string_pretty(&search).unwrap();
        let of_first = ["expected", "most_probable", "predicted", "target"]
            .iter()
            .fold(text, |text, name| text.replace(&format!("\"{name}_ms\""), &format!("\"{name}_{unit}\"")));
        self.write("search/search.json", &of_first);
    }

    /// Forgets everything that a table or a device told.
    pub fn leave_unmeasured(&self) {
        for file in ["table.csv", "predicted.csv", "measured.csv", "evaluate.json"] {
            fs::remove_file(self.at(file)).unwrap();
        }
    }

    /// One more trained and measured network.
    pub fn add_control(&self, folder: &str) {
        self.write_json(&format!("train/{folder}/train.json"), &training(WIDEST, 7, 92.5));
        self.write("measured.csv", &(self.read("measured.csv") + &row(folder, WIDEST, 9.4)));
    }
}

/// What searches say of their way since they hold limits: the fields that `search.json` has besides.
fn way(search: &Value, limits: &[Value]) -> Value {
    let curve = search["curve"].as_array().unwrap();
    let last: Vec<Vec<f64>> = serde_json::from_value(search["probabilities"].clone()).unwrap();
    let progress = |index: usize| ((index as f64 / 240.0 - 1.0 / 3.0) * 1.5).max(0.0);
    // Evenly at first, the last row's in the end; every second decision's least probable candidate is cut on the way.
    let rarest = |row: &[f64]| (0..row.len()).min_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let is_cut = |decision: usize| decision.is_multiple_of(2);
    let cut_at = |decision: usize| 140 + 4 * decision;
    let row = |index: usize, (decision, row): (usize, &Vec<f64>)| -> Vec<f64> {
        let part = progress(index);
        let mut p: Vec<f64> = row.iter().map(|p| (1.0 - part) / row.len() as f64 + part * p).collect();
        if is_cut(decision) && index >= cut_at(decision) {
            p[rarest(row)] = 0.0;
        }
        let sum: f64 = p.iter().sum();
        p.iter().map(|p| p / sum).collect()
    };
    let amounts: Vec<f64> = limits.iter().map(|limit| limit["at_most"].as_f64().unwrap()).collect();
    let history: Vec<Value> = curve
        .iter()
        .enumerate()
        .map(|(index, point)| {
            let left = (1.0 - progress(index) / 0.3).max(0.0);
            json!({
                "step": point["step"],
                "probabilities": last.iter().enumerate().map(|each| row(index, each)).collect::<Vec<_>>(),
                "expected": amounts.iter().map(|most| most * (1.0 + 0.6 * (-5.0 * progress(index)).exp())).collect::<Vec<f64>>(),
                "limits": amounts.iter().map(|most| most * if point["phase"] == "search" { 1.0 + 0.6 * left } else { 1.0 }).collect::<Vec<f64>>(),
                "lambda": amounts.iter().map(|_| 0.2 * progress(index)).collect::<Vec<f64>>(),
            })
        })
        .collect();
    let cut = |decision: usize| json!({"step": 25 * cut_at(decision), "decision": decision, "candidate": rarest(&last[decision])});
    let cuts: Vec<Value> = (0..last.len()).filter(|&decision| is_cut(decision)).map(cut).collect();
    let front: Vec<Value> = (0..8)
        .map(|index| {
            let part = 0.7 + 0.1 * f64::from(index);
            let network = if index == 3 { FOUND.to_owned() } else { format!("{index}").repeat(21) };
            let needs: Vec<f64> = amounts.iter().map(|most| most * part).collect();
            json!({"architecture": network, "needs": needs, "cross_entropy": 0.9 - 0.2 * part,
                   "accuracy_percent": 71.0 + 6.0 * (f64::from(index) + 1.0).ln()})
        })
        .collect();
    let rival = |method: &str, budget: &str, evaluations: u32, seconds: f64, loss: f64| {
        json!({"method": method, "budget": budget, "evaluations": evaluations, "seconds": seconds, "architecture": FOUND,
               "predicted": 0.99 * amounts[0], "cross_entropy": loss, "accuracy_percent": 100.0 - 30.0 * loss})
    };
    let measured = |network: &str, ms: f64| {
        json!({"device": "local-cpu", "architecture": network, "measured_ms": ms, "low_ms": 0.99 * ms, "high_ms": 1.01 * ms,
               "predicted_ms": 3.21, "target_ms": 3.2})
    };
    let reached = limits.iter().zip(&amounts).map(|(limit, most)| {
        json!({"name": limit["name"], "unit": limit["unit"], "limit": most, "expected": 1.01 * most, "predicted": 0.98 * most, "lambda": 0.2})
    });
    json!({
        "limits": limits, "reached": reached.collect::<Vec<Value>>(),
        "history": history, "cuts": cuts, "pareto": front,
        "rivals": [
            rival("gates", "", 960, 412.25, 0.6412), rival("random", "evaluations", 960, 98.5, 0.6688),
            rival("random", "seconds", 4012, 412.5, 0.6591), rival("evolution", "evaluations", 960, 99.0, 0.6502),
        ],
        "measured": if limits[0]["unit"] == "ms" { vec![measured(BASELINE, 3.31), measured(FOUND, 3.18)] } else { Vec::new() },
    })
}

/// A limit as `search.json` states it: its name and unit, kind and amount, and what units need of it.
pub fn limit((name, unit): (&str, &str), (bound, at_most): (&str, f64), need: impl Fn(&Network) -> f64) -> Value {
    let space = SearchSpace::load("cifar-32").unwrap();
    let costs = CostMatrix::of_units(&space, (1, Precision::Fp32), 0.0, |key: &OperatorKey| {
        Ok::<_, CostError>(need(&Network::of_unit(key, space.bn_eps()).unwrap()))
    });
    json!({"name": name, "unit": unit, "demand": {"sum": costs.unwrap()}, "at_most": at_most, "bound": bound})
}

/// Multiply-accumulates of a network.
pub fn macs(architecture: &str) -> f64 {
    let space = SearchSpace::load("cifar-32").unwrap();
    space.network(&space.parse_architecture(architecture).unwrap()).unwrap().macs() as f64
}

/// A row of measured.csv; the folder's name may hold quotes.
fn row(folder: &str, architecture: &str, ms: f64) -> String {
    let model = format!("runs/x/train/{folder}/model.onnx").replace('"', "\"\"");
    format!("\"{model}\",{architecture},{ms},{},{},40\n", 0.99 * ms, 1.01 * ms)
}

fn head(date: &str) -> String {
    let conditions = "# device: local-cpu\n# cpu: AMD EPYC 9B45\n# runtime: ONNX Runtime 1.31.1\n# provider: cpu\n\
                      # optimisation: all\n# threads: 1\n# statistic: median\n";
    format!("# tool: fleetfoot 0.1.0\n# date: {date}\n{conditions}")
}

/// Wiggles between -1 and 1, the same in every run.
fn wiggle(index: usize, of: usize) -> f64 {
    let x = (index * 1237 + of * 104_729) % 2003;
    x as f64 / 1001.0 - 1.0
}

fn training(architecture: &str, seed: u64, accuracy: f64) -> Value {
    let space = SearchSpace::load("cifar-32").unwrap();
    let network = space.network(&space.parse_architecture(architecture).unwrap()).unwrap();
    let curve: Vec<Value> = (1..=30)
        .map(|epoch| {
            let left = (-(epoch as f64) / 8.0).exp();
            let noise = wiggle(epoch, seed as usize + accuracy as usize) * left;
            json!({
                "epoch": epoch,
                "loss": 0.12 + 1.9 * left + 0.1 * noise,
                "accuracy_percent": accuracy - 55.0 * left + 4.0 * noise,
            })
        })
        .collect();
    json!({
        "format": 1, "space": "cifar-32", "space_toml": space.text(), "architecture": architecture, "named": architecture,
        "macs": network.macs(), "params": network.params(),
        "seed": seed, "dataset": "cifar-10", "epochs": 30, "train_images": 50000, "test_images": 10000,
        "batch": 128, "lr": 0.05, "threads": 2, "seconds": 4210.5 + network.macs() as f64 / 1e5,
        "accuracy_percent": accuracy, "test_loss": 0.2734, "curve": curve,
        "onnx": {"file": "model.onnx", "images": 64, "max_abs_difference": 7.152557373046875e-6},
    })
}

fn search() -> Value {
    let space = SearchSpace::load("cifar-32").unwrap();
    let found = space.parse_architecture(FOUND).unwrap();
    let decisions = space.decisions().iter().zip(found.choices()).enumerate();
    let probabilities: Vec<Vec<f64>> = decisions
        .map(|(index, (decision, chosen))| {
            let weight = |candidate: usize| match candidate == chosen {
                true => 2.0 + 14.0 * (1.0 + wiggle(index, 3)),
                false => 1.0 + wiggle(candidate, index),
            };
            let weights: Vec<f64> = (0..decision.candidates.len()).map(weight).collect();
            weights.iter().map(|weight| weight / weights.iter().sum::<f64>()).collect()
        })
        .collect();
    let curve: Vec<Value> = (0..=240usize)
        .map(|index| {
            let (part, warm_up) = (index as f64 / 240.0, index < 80);
            let gates = ((part - 1.0 / 3.0) * 1.5).max(0.0);
            json!({
                "step": index * 25, "epoch": part * 60.0, "phase": if warm_up { "warm-up" } else { "search" },
                "loss": 0.35 + 1.9 * (-4.0 * part).exp() + 0.06 * wiggle(index, 1),
                "accuracy_percent": 88.0 - 68.0 * (-4.5 * part).exp() + 1.5 * wiggle(index, 2),
                "expected_ms": 3.2 + 2.1 * (-5.0 * gates).exp() + 0.02 * wiggle(index, 4),
                "most_probable_ms": 3.2 + 1.4 * (-4.0 * gates).exp() * wiggle(index / 9, 5),
                "entropy": 1.88 * (1.0 - 0.55 * gates),
            })
        })
        .collect();
    json!({
        "format": 1, "space": "cifar-32", "space_toml": space.text(), "architecture": FOUND,
        "expected_ms": 3.2416, "predicted_ms": 3.21, "target_ms": 3.2, "loss": "log-ratio", "lambda": 0.2, "seed": 42,
        "dataset": "cifar-10", "train_images": 45000, "validation_images": 5000, "warmup_epochs": 20,
        "search_epochs": 40, "batch": 128, "threads": 2, "seconds": 9876.5,
        "refine_images": 2048, "finalist_count": 2, "finalist_epochs": 1,
        "probabilities": probabilities, "curve": curve,
        "finalists": [
            {"architecture": FOUND, "predicted_ms": 3.21, "accuracy_percent": 81.25, "cross_entropy": 0.5512},
            {"architecture": BASELINE, "predicted_ms": 3.19, "accuracy_percent": 80.5, "cross_entropy": 0.5731},
        ],
    })
}

fn evaluation() -> Value {
    let points: Vec<Value> = (0..40)
        .map(|index| {
            let measured = 2.6 + 0.19 * index as f64;
            let predicted = measured * (1.0 + 0.045 * wiggle(index, 5));
            json!({"architecture": format!("{:0>21}", index), "predicted_ms": predicted, "measured_ms": measured})
        })
        .collect();
    json!({
        "networks": 40, "rmspe_percent": 2.63, "mape_percent": 2.21, "within_5_percent": 100.0,
        "within_10_percent": 100.0, "spearman": 0.9985, "kendall": 0.9744, "repeatability_percent": 0.61, "slower_percent": -1.32,
        "points": points,
    })
}
