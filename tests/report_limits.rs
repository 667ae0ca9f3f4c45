//! `fleetfoot report` of searches within other limits than one device's latency, and of how their supernets rank.

#[path = "report/chromium.rs"]
mod chromium;
mod common;
#[path = "report/run_folder.rs"]
mod run_folder;
#[path = "report/shown.rs"]
mod shown;

use std::path::Path;

use common::learning::{images, ready};
use common::{fleetfoot, stderr, stdout, text};
use fleetfoot_space::SearchSpace;
use serde_json::{Value, json};

use run_folder::{BASELINE, FOUND, RunFolder, limit, macs};

/// The report's page and summary, standard output and standard error.
struct Report {
    page: String,
    summary: Value,
    table: String,
    talk: String,
}

fn report(run: &Path) -> Report {
    let done = fleetfoot(&["report", text(run)]).assert().success();
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    let summary: Value = serde_json::from_slice(&std::fs::read(run.join("summary.json")).unwrap()).unwrap();
    Report { page, summary, table: stdout(&done), talk: stderr(&done) }
}

/// As a browser shows the page, each number is where it says to be in the summary.
#[track_caller]
fn assert_numbers_stand_in(run: &Path, summary: &Value) {
    if let Some(dom) = chromium::dom(&run.join("report.html")) {
        assert!(shown::assert_numbers_stand_in(summary, &dom) > 50);
    }
}

/// What a reader of a page sees, one text behind the other, and what only the blind are told.
fn words(page: &str) -> String {
    let body = page.split_once("<body>").unwrap().1;
    let labels: String = body.split("aria-label=\"").skip(1).map(|rest| rest.split_once('"').unwrap().0).collect();
    let shown: Vec<&str> = body.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, text)| text).collect();
    (shown.concat() + &labels).replace("&#39;", "'")
}

/// Neither latencies nor their unit.
#[track_caller]
fn assert_no_latency(words: &str) {
    for word in [" ms", "(ms)", "atency", "speed-up", "Speed-up", "faster"] {
        if let Some(at) = words.find(word) {
            let near: String = words[at.saturating_sub(60)..].chars().take(120).collect();
            panic!("{word:?} in: {near}");
        }
    }
}

fn counted() -> Value {
    limit(("multiply-accumulates", "MACs"), ("cap", 1.02 * macs(FOUND)), |network| network.macs() as f64)
}

#[test]
fn a_search_by_macs_is_told_in_macs_where_nothing_was_measured() {
    let run = RunFolder::new();
    run.tell_the_way_within(&[counted()]);
    run.leave_unmeasured();
    let report = report(run.path());
    let ratio = macs(FOUND) / macs(BASELINE);
    assert!((report.summary["need_ratio"].as_f64().unwrap() - ratio).abs() < 1e-12, "{}", report.summary["need_ratio"]);
    assert_eq!(report.summary["found"]["needs"], json!([macs(FOUND)]));
    for absent in ["speedup", "speedup_low"] {
        assert_eq!(report.summary.get(absent), None, "{absent}");
    }
    for absent in ["predicted_ms", "measured_ms", "speedup", "prediction_error_percent"] {
        assert_eq!(report.summary["found"].get(absent), None, "{absent}");
    }
    let words = words(&report.page);
    assert_no_latency(&words);
    assert_no_latency(&report.table);
    assert!(words.contains(&format!("{ratio:.2}× the multiply-accumulates at −0.21 points")), "{words}");
    let most = 1.02 * macs(FOUND) / 1e6;
    assert!(words.contains(&format!("for at most {} M MACs", significant(most, 3))), "{words}");
    assert!(words.contains("multiply-accumulates (M)"), "the axes and tables name the scaled unit");
    assert!(words.contains("Of the baseline's multiply-accumulates"));
    assert!(!words.contains("measured"), "nothing was");
    assert!(report.table.lines().next().unwrap().contains("MACs (M)"), "{}", report.table);
    assert!(report.table.contains(&format!("{ratio:.2}×")), "{}", report.table);
    assert_eq!(report.summary["warnings"], json!([]));
    assert_numbers_stand_in(run.path(), &report.summary);
}

/// With so many significant digits, as few decimals as that needs.
fn significant(number: f64, digits: i32) -> String {
    let decimals = (digits - 1 - number.abs().log10().floor() as i32).max(0) as usize;
    format!("{number:.decimals$}")
}

#[test]
fn parameters_memory_and_energy_are_told_in_their_own_units() {
    let params = limit(("parameters", "params"), ("cap", 4e6), |network| network.params() as f64);
    let weights = |network: &fleetfoot_space::Network| network.weight_bytes() as f64 / f64::from(1 << 20);
    let memory = limit(("memory of weights and activations", "MiB"), ("cap", 9.5), weights);
    let energy = limit(("energy", "mJ"), ("target", 31.0), |network| network.macs() as f64 / 3e6);
    let cases = [
        (params, "× the parameters at ", "parameters (k)", "at most 4000 k parameters"),
        (
            memory,
            "× the memory of weights and activations at ",
            "memory of weights and activations (MiB)",
            "at most 9.50 MiB",
        ),
        (energy, "× the energy at ", "energy (mJ)", "target of 31.0 mJ"),
    ];
    for (limit, claim, label, allowed) in cases {
        let run = RunFolder::new();
        let by_table = limit["name"] == "energy";
        run.tell_the_way_within(&[limit]);
        run.leave_unmeasured();
        let words = words(&report(run.path()).page);
        assert_no_latency(&words);
        for wanted in [claim, label, allowed] {
            assert!(words.contains(wanted), "{wanted}: {words}");
        }
        assert_eq!(words.contains("is what the search's tables say"), by_table, "only energy is of a table");
    }
}

#[test]
fn a_table_of_memory_and_its_predictions_are_no_latencies() {
    let run = RunFolder::new();
    run.tell_the_way_within(&[limit(("memory", "MiB"), ("target", 40.0), |network| network.params() as f64 / 1e5)]);
    run.leave_unmeasured();
    run.write("table.csv", "# device: local-cpu\n# cost: memory\noperator,memory_mib\n");
    run.write("predicted.csv", &format!("architecture,memory_mib,low_mib,high_mib\n{FOUND},39.2,38,40\n"));
    let report = report(run.path());
    assert_no_latency(&words(&report.page));
    assert!(report.summary["found"].get("predicted_ms").is_none());
    // Where latency is limited, they are the wrong file.
    let run = RunFolder::new();
    run.write("predicted.csv", &format!("architecture,memory_mib,low_mib,high_mib\n{FOUND},39.2,38,40\n"));
    let failed = fleetfoot(&["report", text(run.path())]).assert().failure();
    assert!(stderr(&failed).contains("run `fleetfoot predict` with the latency table"), "{}", stderr(&failed));
}

#[test]
fn what_was_measured_is_told_beside_what_was_limited() {
    let run = RunFolder::new();
    run.tell_the_way_within(&[counted()]);
    let report = report(run.path());
    let words = words(&report.page);
    assert!(words.contains("× the multiply-accumulates at"), "the claim is of what was limited");
    assert!(words.contains("Measured latency") && words.contains("measured on local-cpu"));
    assert!(report.page.contains("Test accuracy against multiply-accumulates"));
    assert!(report.page.contains("Test accuracy against measured latency"));
    assert!((report.summary["speedup"].as_f64().unwrap() - 5.58 / 3.12).abs() < 1e-9);
    // A model that wasn't measured is missed as ever.
    run.replace("measured.csv", "train/widest/", "train/other/");
    let failed = fleetfoot(&["report", text(run.path())]).assert().failure();
    assert!(stderr(&failed).contains("no row for train/widest"), "{}", stderr(&failed));
}

#[test]
fn several_devices_are_named_with_their_targets() {
    let on = |device: &str, target: f64, factor: f64| {
        let name = format!("latency on {device}");
        limit((&name, "ms"), ("target", target), move |network| factor * network.macs() as f64 / 1e7)
    };
    let run = RunFolder::new();
    run.tell_the_way_within(&[on("pixel", 3.0, 1.0), on("board", 9.0, 3.0)]);
    run.set("search/search.json", "/measured", json!([]));
    run.leave_unmeasured();
    let unmeasured = report(run.path());
    let shown = words(&unmeasured.page);
    for wanted in [
        "× the latency on pixel at ",
        "What networks need is what the search's tables say",
        "latency on pixel (ms)",
        "latency on board (ms)",
        "What each network needs",
        "Further limits held as well",
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let needs = unmeasured.summary["baseline"]["needs"].as_array().unwrap();
    let (pixel, board) = (needs[0].as_f64().unwrap(), needs[1].as_f64().unwrap());
    assert!((pixel - macs(BASELINE) / 1e7).abs() < 1e-9 && (board - 3.0 * pixel).abs() < 1e-9, "{needs:?}");
    // Measured on a device that the search wasn't for.
    let measured = RunFolder::new();
    measured.tell_the_way_within(&[on("pixel", 3.0, 1.0), on("board", 9.0, 3.0)]);
    let mut search = measured.read_json("search/search.json");
    search["devices"] = json!(["pixel", "board"]);
    measured.write_json("search/search.json", &search);
    let report = report(measured.path());
    assert!(words(&report.page).contains("× faster at"), "{}", words(&report.page));
    let want = "table.csv is of local-cpu, but the search was for pixel, board";
    assert!(report.talk.contains(want) && report.page.contains(want), "{}", report.talk);
}

#[test]
fn a_weighted_mean_is_named_with_its_parts() {
    let mean = limit(("weighted mean of latency over target", "of target"), ("target", 1.0), |network| {
        network.macs() as f64 / (1.1 * macs(FOUND))
    });
    let part = |device: &str, weight: f64, target: f64, factor: f64| {
        let name = format!("latency on {device}");
        let mut part = limit((&name, "ms"), ("target", target), move |network| factor * network.macs() as f64 / 1e7);
        part["weight"] = weight.into();
        part
    };
    let run = RunFolder::new();
    run.tell_the_way_within(&[mean]);
    let mut search = run.read_json("search/search.json");
    search["weighted"] = json!([part("pixel", 0.25, 3.0, 1.0), part("board", 0.75, 9.0, 3.0)]);
    run.write_json("search/search.json", &search);
    run.leave_unmeasured();
    let report = report(run.path());
    let words = words(&report.page);
    for wanted in [
        "× the weighted mean of latency over target at ",
        "That is of the weighted mean of latency over target.",
        "Part of the weighted mean",
        "latency on pixel (ms)0.2503.000",
        "latency on board (ms)0.7509.000",
        "where one of its devices is slower",
    ] {
        assert!(words.contains(wanted), "{wanted}: {words}");
    }
    assert!(!words.contains("of target"), "a ratio has no unit: {words}");
    let needs = report.summary["found"]["weighted_needs"].as_array().unwrap();
    assert!((needs[1].as_f64().unwrap() / needs[0].as_f64().unwrap() - 3.0).abs() < 1e-9, "{needs:?}");
    assert_numbers_stand_in(run.path(), &report.summary);
    assert!(report.table.lines().next().unwrap().contains("weighted mean of latency over target"), "{}", report.table);
}

/// A run whose supernet was held against networks from scratch with these accuracies.
fn diagnosed(scratch: &[f64], tau: (Option<f64>, Option<f64>, Option<f64>)) -> Report {
    let run = RunFolder::new();
    run.tell_the_way();
    let networks: Vec<Value> = scratch
        .iter()
        .enumerate()
        .map(|(index, accuracy)| {
            let network = if index == 1 { FOUND.to_owned() } else { index.to_string().repeat(21) };
            json!({"architecture": network, "predicted": 3.0, "supernet_cross_entropy": 1.0,
                   "supernet_accuracy_percent": 60.0 + index as f64, "scratch_cross_entropy": 0.5,
                   "scratch_accuracy_percent": accuracy})
        })
        .collect();
    let mut search = run.read_json("search/search.json");
    search["diagnosis"] = json!({"networks": networks, "epochs": 2, "kendall": tau.0, "low": tau.1, "high": tau.2});
    run.write_json("search/search.json", &search);
    let report = report(run.path());
    if tau.0 == Some(0.8) {
        assert_numbers_stand_in(run.path(), &report.summary);
    }
    report
}

#[test]
fn how_the_supernet_ranks_is_drawn_and_told_in_words() {
    // Of ten pairs, one is the other way round.
    let better = diagnosed(&[80.0, 82.0, 81.0, 83.0, 84.0], (Some(0.8), Some(0.33), Some(1.0)));
    let shown = words(&better.page);
    assert!(shown.contains("Kendall’s τ0.80 (90 %: 0.33 to 1.00)"), "{shown}");
    assert!(shown.contains("pairs in the same order9 of 10"), "{shown}");
    assert!(shown.contains("The interval lies above 0"));
    assert!(shown.contains("Accuracy from scratch against accuracy by the supernet"));
    let section = better.page.split_once("How the supernet ranks").unwrap().1;
    let picture = section.split_once("</svg>").unwrap().0;
    assert_eq!(picture.matches("class=\"evaluated\"").count(), 4, "a point for each network,");
    assert_eq!(picture.matches("chosen: ").count(), 1, "and the chosen one is marked");
    // Equal accuracies are no pair.
    let chance = diagnosed(&[80.0, 79.0, 80.0, 79.5], (Some(0.1), Some(-0.6), Some(0.8)));
    assert!(words(&chance.page).contains("The interval holds 0"));
    assert_eq!(
        (&chance.summary["search"]["ranking"]["pairs"], &chance.summary["search"]["ranking"]["concordant"]),
        (&json!(5), &json!(2))
    );
    let worse = diagnosed(&[84.0, 83.0, 82.0], (Some(-1.0), Some(-1.0), Some(-1.0)));
    assert!(words(&worse.page).contains("The interval lies below 0"));
    let none = diagnosed(&[84.0], (None, None, None));
    assert!(
        words(&none.page).contains("nothing can be said of their order") && words(&none.page).contains("Kendall’s τ–")
    );
    let before = RunFolder::new();
    assert!(!report(before.path()).page.contains("How the supernet ranks"));
}

/// The programs themselves: small searches by a count and by two simulated devices, on made-up images.
#[test]
fn real_searches_without_a_table_and_of_weighted_devices_end_in_a_report() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (images(folder.path()), folder.path().join("run"));
    let small = "--train-images 320 --validation-images 160 --warmup-epochs 1 --search-epochs 2 --batch 32 --threads 1 \
                 --alpha-lr 0.05 --weight-steps 2 --shift 0 --no-flip --finalists 2";
    let search = |output: &Path, limits: &[&str]| -> String {
        let mut arguments =
            vec!["search", "--space", "fashion-28", "-o", text(output), "--data", text(&data), "--force"];
        arguments.extend(small.split_whitespace().chain(limits.iter().copied()));
        stdout(&fleetfoot(&arguments).assert().success()).trim().to_owned()
    };
    let train = |role: &str, architecture: &str| {
        let output = run.join("train").join(role);
        let recipe = "--epochs 1 --batch 32 --threads 1 --shift 0 --no-flip --force --space fashion-28".split(' ');
        let mut arguments = vec!["train", architecture, "-o", text(&output), "--data", text(&data)];
        arguments.extend(recipe);
        fleetfoot(&arguments).assert().success();
        fleetfoot(&["export", text(&output), "--images", "5", "--force"]).assert().success();
    };
    let found = search(&run.join("search"), &["--max-macs", "4M", "--max-params", "150k", "--diagnose", "3"]);
    train("found", &found);
    train("baseline", "k3e6");
    let counted = report(&run);
    let words_of = words(&counted.page);
    assert_no_latency(&words_of);
    let space = SearchSpace::load("fashion-28").unwrap();
    let network = space.network(&space.parse_architecture(&found).unwrap()).unwrap();
    assert_eq!(counted.summary["found"]["needs"], json!([network.macs() as f64, network.params() as f64]));
    assert_eq!(counted.summary["found"]["macs"], network.macs());
    assert!(
        words_of.contains("How the supernet ranks") && words_of.contains("× the multiply-accumulates at"),
        "{words_of}"
    );
    assert_eq!(counted.summary["warnings"], json!([]), "{}", counted.talk);

    let tables = ["one", "two"].map(|name| folder.path().join(format!("{name}.csv")));
    for (seed, table) in ["0", "1"].iter().zip(&tables) {
        let profile = ["profile", "--space", "fashion-28", "--device", "mock", "--seed", seed, "-o", text(table)];
        fleetfoot(&profile).assert().success();
    }
    let predict = ["predict", "--table", text(&tables[0]), "--space", "fashion-28", "k3e6"];
    let whole = common::Csv::parse(&stdout(&fleetfoot(&predict).assert().success())).numbers("latency_ms")[0];
    let (first, second) = (format!("{}ms", 0.7 * whole), format!("{}ms", 0.9 * whole));
    let limits = ["--table", text(&tables[0]), "--target", &first, "--table", text(&tables[1]), "--target", &second];
    let found = search(&run.join("search"), &[&limits[..], &["--device-weights", "1,3"]].concat());
    train("found", &found);
    let weighted = report(&run);
    let of = |pointer: &str| weighted.summary.pointer(pointer).and_then(Value::as_f64).unwrap();
    assert_eq!((of("/search/weighted/0/weight"), of("/search/weighted/1/weight")), (0.25, 0.75));
    let mean = (0..2).map(|part| {
        let (weight, target) =
            (of(&format!("/search/weighted/{part}/weight")), of(&format!("/search/weighted/{part}/at_most")));
        weight * of(&format!("/found/weighted_needs/{part}")) / target
    });
    let mean: f64 = mean.sum();
    assert!((mean - of("/found/needs/0")).abs() < 1e-9 && (mean - of("/search/predicted")).abs() < 1e-9, "{mean}");
    assert!(words(&weighted.page).contains("× the weighted mean of latency over target at"));
}
