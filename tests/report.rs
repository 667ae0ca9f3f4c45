//! `fleetfoot report`: what it says of a run is what the run's files say.

#[path = "report/chromium.rs"]
mod chromium;
mod common;
#[path = "report/recipes.rs"]
mod recipes;
#[path = "report/run_folder.rs"]
mod run_folder;
#[path = "report/shown.rs"]
mod shown;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use fleetfoot_space::SearchSpace;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use common::journal_text;
use run_folder::{BASELINE, FOUND, RunFolder};

fn report(run: &RunFolder) -> Assert {
    Command::cargo_bin("fleetfoot").unwrap().arg("report").arg(run.path()).assert()
}

fn summary(run: &RunFolder) -> Value {
    report(run).success();
    run.read_json("summary.json")
}

fn number(summary: &Value, pointer: &str) -> f64 {
    summary.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {summary:#}"))
}

#[track_caller]
fn assert_near(summary: &Value, pointer: &str, want: f64) {
    let got = number(summary, pointer);
    assert!((got - want).abs() < 1e-9 * want.abs().max(1.0), "{pointer} is {got}, wanted {want}");
}

#[test]
fn the_summary_compares_found_with_baseline() {
    let summary = summary(&RunFolder::new());
    assert_eq!(summary["device"], "local-cpu");
    assert_eq!(summary["dataset"], "cifar-10");
    assert_eq!(summary["found"]["architecture"], FOUND);
    assert_eq!(summary["baseline"]["architecture"], BASELINE);
    assert_eq!(summary["warnings"], Value::Array(Vec::new()));
    // The medians over two seeds' models are their means.
    assert_near(&summary, "/found/measured_ms", 3.12);
    assert_near(&summary, "/baseline/measured_ms", 5.58);
    assert_near(&summary, "/speedup", 5.58 / 3.12);
    assert_near(&summary, "/speedup_low", (0.99 * 5.58) / (1.01 * 3.12));
    assert_near(&summary, "/found/accuracy", 92.19);
    assert_near(&summary, "/accuracy_difference", 92.19 - 92.40);
    assert_near(&summary, "/found/prediction_error_percent", (3.21 / 3.12 - 1.0) * 100.0);
    assert_eq!(summary["search"]["finalists"][1]["cross_entropy"], 0.5731);
    assert_near(&summary, "/search/target_missed_percent", (3.21 / 3.2 - 1.0) * 100.0);
    assert_eq!(summary["controls"][0]["name"], "widest");
    assert_near(&summary, "/controls/0/speedup", 5.58 / 9.42);
}

#[test]
fn further_seeds_give_a_standard_deviation_and_a_single_one_the_test_sets_error() {
    let summary = summary(&RunFolder::new());
    let sd = 0.24 / 2f64.sqrt();
    assert_eq!(summary["found"]["seeds"], 2);
    assert_near(&summary, "/found/accuracy_sd", sd);
    let variance = |sd: f64| sd * sd / 2.0;
    let error = (variance(sd) + variance(0.12 / 2f64.sqrt())).sqrt();
    assert_near(&summary, "/accuracy_difference_standard_error", error);
    assert_near(&summary, "/baseline/found_lead", 92.19 - 92.40);
    assert_near(&summary, "/baseline/found_lead_standard_error", error);
    let sampling = |accuracy: f64| 100.0 * (accuracy * (1.0 - accuracy) / 1e4).sqrt();
    assert_near(&summary, "/controls/0/found_lead_standard_error", sampling(0.9219).hypot(sampling(0.9271)));
    assert_eq!(summary["found"].get("found_lead"), None);
    assert_eq!(summary["controls"][0].get("accuracy_sd"), None);
    assert_eq!(summary["controls"][0].get("seeds"), None);
    assert_near(&summary, "/controls/0/accuracy_sampling_error", (0.9271f64 * 0.0729 / 1e4).sqrt() * 100.0);
}

#[test]
fn seeds_in_one_folder_are_seeds_as_well() {
    let run = RunFolder::new();
    let beside = summary(&run);
    for (from, to) in [("found", "found/seed1"), ("found.seed2", "found/seed2")] {
        let record = run.read_json(&format!("train/{from}/train.json"));
        std::fs::remove_dir_all(run.at(&format!("train/{from}"))).unwrap();
        run.write_json(&format!("train/{to}/train.json"), &record);
        run.replace("measured.csv", &format!("train/{from}/model.onnx"), &format!("train/{to}/model.onnx"));
    }
    run.write("train/found/seeds.json", "{}");
    let within = summary(&run);
    for pointer in ["/found/seeds", "/found/accuracy", "/found/accuracy_sd", "/found/measured_ms", "/warnings"] {
        assert_eq!(within.pointer(pointer), beside.pointer(pointer), "{pointer}");
    }
    assert_eq!(within["found"]["trainings"][1]["folder"], "found/seed2");
    // One that isn't done is told.
    std::fs::create_dir_all(run.at("train/found/seed3")).unwrap();
    assert_eq!(summary(&run)["warnings"][0], "train/found/seed3 has no train.json: left out");
}

#[test]
fn the_summary_draws_every_block_of_a_network() {
    let summary = summary(&RunFolder::new());
    let blocks = summary["found"]["blocks"].as_array().unwrap();
    let labels: Vec<&str> = blocks.iter().map(|block| block["label"].as_str().unwrap()).collect();
    assert_eq!(labels[..6], ["Conv 3×3", "MB1 3×3", "MB3 5×5", "MB3 3×3", "zero", "zero"]);
    assert_eq!((blocks.len(), *labels.last().unwrap()), (24, "Pooling FC"));
    let first_of_stage_2 = &blocks[6];
    assert_eq!(first_of_stage_2["name"], "stage2.0");
    assert_eq!((&first_of_stage_2["stride"], &first_of_stage_2["height"]), (&2.into(), &16.into()));
    assert_eq!(first_of_stage_2["channels"], 40);
    assert_eq!(first_of_stage_2["candidates"].as_array().unwrap().len(), 6, "zero doesn't fit where the map shrinks");
}

#[test]
fn the_final_table_is_the_data_and_the_reports_path_is_talk() {
    let run = RunFolder::new();
    let output = report(&run).success().get_output().clone();
    let table = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].starts_with("network   architecture"), "{table}");
    let columns: Vec<&str> = lines[1].split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(columns[..5], ["found", FOUND, "92.19 ± 0.17", "3.210", "3.120"]);
    assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "aligned:\n{table}");
    let page = run.at("report.html").display().to_string();
    assert!(String::from_utf8(output.stderr).unwrap().contains(&page));
}

#[test]
fn a_second_report_replaces_the_first_and_leaves_nothing_else_behind() {
    let run = RunFolder::new();
    let first = summary(&run);
    run.set("train/widest/train.json", "/accuracy_percent", 91.0);
    let second = summary(&run);
    assert_ne!(first, second);
    let mut names: Vec<_> = std::fs::read_dir(run.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let want = [
        "evaluate.json",
        "measured.csv",
        "predicted.csv",
        "report.html",
        "search",
        "summary.json",
        "table.csv",
        "train",
    ];
    assert_eq!(names, want);
}

#[test]
fn a_run_without_an_evaluation_or_provenance_is_reported_too() {
    let run = RunFolder::new();
    std::fs::remove_file(run.at("evaluate.json")).unwrap();
    run.write("table.csv", "operator,latency_ms\n");
    run.replace("measured.csv", "# device: local-cpu\n", "");
    let summary = summary(&run);
    assert_eq!(summary["device"], "unknown");
    assert_eq!(summary["evaluation"], Value::Null);
    assert!(summary["warnings"][0].as_str().unwrap().contains("provenance unknown"));
    assert!(run.read("report.html").contains("no evaluate.json"));
}

#[test]
fn how_the_machine_behaved_is_shown_where_the_tables_journal_is_there() {
    let run = RunFolder::new();
    assert!(summary(&run).get("timeline").is_none() && !run.read("report.html").contains("The machine"));
    let profile = ["profile", "--space", "fashion-28", "--device", "mock", "--min-rounds", "6", "-o"];
    let table = run.at("measured/table.csv");
    std::fs::create_dir(run.at("measured")).unwrap();
    Command::cargo_bin("fleetfoot").unwrap().args(profile).arg(&table).assert().success();
    let journal = journal_text(&run.at("measured/table.csv.journal"));
    run.write("table.csv.journal", &journal);
    let timeline = summary(&run)["timeline"].clone();
    let steps = timeline["steps"].as_array().unwrap();
    assert!(steps.len() > 100 && steps.iter().all(|step| step["disturbed"] == false), "{timeline}");
    assert_eq!((&timeline["disturbed_windows"], &timeline["seconds_waiting"]), (&0.into(), &0.0.into()));
    assert!(run.read("report.html").contains("Speed of the machine while the table was measured"));

    run.write("table.csv.journal", &journal.replacen("\"samples\"", "\"sample\"", 1));
    report(&run).failure().stderr(contains("table.csv.journal, line 2: missing field"));
}

/// The warnings of a run, one below the other.
fn warnings(run: &RunFolder) -> String {
    let summary = summary(run);
    let warnings = summary["warnings"].as_array().unwrap();
    warnings.iter().map(|warning| warning.as_str().unwrap().to_owned() + "\n").collect()
}

#[test]
fn a_comparison_of_unlike_trainings_is_a_warning_in_summary_report_and_on_stderr() {
    let run = RunFolder::new();
    run.set("train/baseline/train.json", "/epochs", 300);
    run.set("train/baseline/train.json", "/lr", 0.1);
    let want = "found was trained differently from the baseline (epochs 30 instead of 300, lr 0.05 instead of 0.1)";
    report(&run).success().stderr(contains(want));
    assert!(warnings(&run).contains(want));
    assert!(run.read("report.html").contains(want));
}

#[test]
fn what_makes_numbers_doubtful_is_a_warning() {
    let cases: [(&str, &str, Value, &str); 6] = [
        ("train/found/train.json", "/onnx/max_abs_difference", 0.5.into(), "the exported model's outputs differ"),
        ("train/found/train.json", "/onnx", Value::Null, "train/found has no check of its exported model"),
        ("train/widest/train.json", "/macs", 1.into(), "train.json says 1 MACs"),
        ("train/found.seed2/train.json", "/seed", 1.into(), "has seed 1 once more"),
        ("train/found.seed2/train.json", "/batch", 7.into(), "was trained differently from the other seeds"),
        ("search/search.json", "/dataset", "mnist".into(), "the search used dataset mnist"),
    ];
    for (file, pointer, value, want) in cases {
        let run = RunFolder::new();
        run.set(file, pointer, value);
        let warnings = warnings(&run);
        assert!(warnings.contains(want), "{file} {pointer}: {warnings}");
    }
    let run = RunFolder::new();
    run.replace("measured.csv", "# threads: 1", "# threads: 2");
    assert!(warnings(&run).contains("threads is 1 in table.csv, but 2 in measured.csv"));
    std::fs::remove_file(run.at("train/widest/train.json")).unwrap();
    assert!(warnings(&run).contains("train/widest has no train.json: left out"));
}

#[test]
fn a_missing_file_names_the_command_that_makes_it() {
    let cases = [
        ("search/search.json", "fleetfoot search … -o"),
        ("train/found/train.json", "fleetfoot train … -o"),
        ("train/baseline/train.json", "fleetfoot train … -o"),
        ("table.csv", "fleetfoot profile … -o"),
        ("predicted.csv", "fleetfoot predict … >"),
        ("measured.csv", "fleetfoot measure … -o"),
    ];
    for (file, command) in cases {
        let run = RunFolder::new();
        std::fs::remove_file(run.at(file)).unwrap();
        if let Some(role) = file.strip_prefix("train/").and_then(|file| file.strip_suffix("/train.json")) {
            std::fs::remove_file(run.at(&format!("train/{role}.seed2/train.json"))).unwrap();
        }
        let want = format!("{} is missing: run `{command}", run.at(file).display());
        report(&run).failure().stderr(contains(want)).stdout("");
    }
}

#[test]
fn a_broken_file_is_named_with_the_place() {
    let line_1 = "predicted.csv: line 1: there is no column 'latency_ms'";
    let cases = [
        ("search/search.json", "\"format\"", "format", "search.json: line"),
        ("search/search.json", "\"phase\": \"warm-up\"", "\"phase\": \"nap\"", "search.json: line"),
        ("search/search.json", "\"format\": 1", "\"format\": 2", "format 2, but this fleetfoot reads format 1"),
        (
            "train/found/train.json",
            "\"accuracy_percent\": 92.31",
            "\"accuracy_percent\": null",
            "null is not a percentage",
        ),
        (
            "train/found/train.json",
            "\"accuracy_percent\": 92.31",
            "\"accuracy_percent\": 104",
            "104 is not a percentage",
        ),
        ("train/found/train.json", "\"lr\": 0.05", "\"lr\": -0.05", "-0.05 is not a number of 0 or more"),
        ("train/found/train.json", "\"lr\": 0.05", "\"lr\": 1e999", "number out of range"),
        ("evaluate.json", "\"spearman\":0.9985", "\"spearman\":1.5", "1.5 is not a correlation"),
        ("predicted.csv", "latency_ms", "latency", line_1),
        ("predicted.csv", "3.21,", "NaN,", "predicted.csv: line 2: latency_ms: 'NaN' is not a number"),
        ("predicted.csv", "3.21,", "-3.21,", "predicted.csv: line 2: latency_ms: '-3.21' is not a number"),
        ("predicted.csv", "3.21,", "3.21,7,", "predicted.csv: line 2 has 5 fields, the header 4"),
        ("measured.csv", "3.16,", "inf,", "measured.csv: line 12: latency_ms: 'inf' is not a number"),
        ("measured.csv", "3.16,", "0,", "measured.csv: line 12: latency_ms: nothing runs in 0 ms"),
        ("measured.csv", "found.seed2", "found", "measured.csv: line 12: train/found is measured a second time"),
    ];
    for (file, from, to, want) in cases {
        let run = RunFolder::new();
        run.replace(file, from, to);
        let stderr = report(&run).failure().stderr(contains(want)).get_output().stderr.clone();
        assert_eq!(String::from_utf8(stderr).unwrap().lines().count(), 1, "one line");
        assert!(!run.at("summary.json").exists(), "nothing is written of a broken run");
    }
}

#[test]
fn the_line_of_a_wrong_number_is_the_line_it_stands_on() {
    let run = RunFolder::new();
    run.replace("train/found/train.json", "\"lr\": 0.05", "\"lr\": -0.05");
    let text = run.read("train/found/train.json");
    let line = 1 + text.lines().position(|line| line.contains("\"lr\"")).unwrap();
    report(&run).failure().stderr(contains(format!("train.json: line {line}, column")));
}

#[test]
fn what_does_not_belong_together_is_an_error() {
    let other = BASELINE.replacen('1', "0", 1);
    let run = RunFolder::new();
    run.set("train/found/train.json", "/space_toml", SearchSpace::load("fashion-28").unwrap().text());
    report(&run).failure().stderr(contains("space 'fashion-28' isn't the one that was searched"));

    let run = RunFolder::new();
    run.set("search/search.json", "/space_toml", "name = 'x'");
    report(&run).failure().stderr(contains("search.json: ").and(contains("missing field")));

    let run = RunFolder::new();
    run.replace("predicted.csv", BASELINE, &other);
    report(&run).failure().stderr(contains(format!("predicted.csv: no row for {BASELINE} (train/baseline)")));

    let run = RunFolder::new();
    run.replace("measured.csv", "train/widest/", "train/other/");
    report(&run).failure().stderr(contains("measured.csv: no row for train/widest: run `fleetfoot measure`"));

    let run = RunFolder::new();
    run.replace("measured.csv", BASELINE, &other);
    report(&run).failure().stderr(contains(format!("train/baseline was measured as {other}, but is {BASELINE}")));

    let run = RunFolder::new();
    run.set("search/search.json", "/architecture", BASELINE);
    report(&run).failure().stderr(contains(format!("but the search found {BASELINE}: train that one")));

    let run = RunFolder::new();
    run.set("search/search.json", "/probabilities/2/0", 0.9);
    report(&run).failure().stderr(contains("search.json: decision stage1.2: the probabilities sum up to"));

    let run = RunFolder::new();
    run.set("train/found.seed2/train.json", "/architecture", BASELINE);
    report(&run).failure().stderr(contains("seeds of a role train one architecture"));
}

#[test]
fn a_search_tells_its_gates_limits_cuts_front_and_rivals() {
    let run = RunFolder::new();
    report(&run).success();
    let before = run.read("report.html");
    run.tell_the_way();
    let summary = summary(&run);
    let page = run.read("report.html");
    for heading in [
        "Expected and allowed",
        "Gates over time",
        "were cut",
        "Measured on the devices",
        "Pareto front",
        "Other ways to search",
    ] {
        assert!(page.contains(heading) && !before.contains(heading), "{heading}");
    }
    let search = &summary["search"];
    let (decisions, cuts) = (search["decisions"].as_array().unwrap().len(), search["cuts"].as_array().unwrap().len());
    assert_eq!((decisions, cuts), (21, 11));
    assert_eq!(page.matches("<svg class=\"gates\"").count(), decisions, "a picture for each decision");
    assert_eq!(page.matches("class=\"cross gate").count(), cuts, "a cross for each cut");
    assert_eq!(page.matches("that the gates expect, and its limit").count(), 2, "a plot for each limit");
    assert_eq!(page.matches("chosen: ").count(), 1, "the chosen network is marked in the front");
    assert!(!page.contains("expected; thin:"), "the plot of before is told by the limits' own");
    let cut = &search["cuts"][0];
    let decision = &search["decisions"][0];
    let name = decision["candidates"][cut["candidate"].as_u64().unwrap() as usize].as_str().unwrap();
    assert!(page.contains(&format!("{name}: cut at step {}", cut["step"])));
    assert_eq!(run.read_json("summary.json")["search"]["limits"][1]["bound"], "cap");
    // A front that the chosen network isn't in, and no rivals: it has no place in the picture.
    run.set("search/search.json", "/pareto/3/architecture", "2".repeat(21));
    run.set("search/search.json", "/rivals", Value::Array(Vec::new()));
    report(&run).success();
    assert!(!run.read("report.html").contains("chosen: "));
}

#[test]
fn what_a_search_tells_of_its_way_must_be_of_its_space_and_its_limits() {
    let cases: [(&str, Value, &str); 5] = [
        (
            "/history/3/probabilities/2/0",
            0.9.into(),
            "history, step 75: decision stage1.2: the probabilities sum up to",
        ),
        ("/history/3/expected", serde_json::json!([1.0]), "history, step 75: wanted one expected amount"),
        ("/cuts/1/candidate", 7.into(), "cuts, step 3700: space 'cifar-32' has no candidate 7 of decision 2"),
        ("/pareto/0/needs", serde_json::json!([]), "has 0 amounts for 2 limits"),
        (
            "/limits/1/demand/sum/rows/2",
            serde_json::json!([1.0]),
            "limits: multiply-accumulates: its amounts aren't one for each candidate of space 'cifar-32'",
        ),
    ];
    for (pointer, value, want) in cases {
        let run = RunFolder::new();
        run.tell_the_way();
        run.set("search/search.json", pointer, value);
        report(&run).failure().stderr(contains(want));
    }
}

#[test]
fn every_number_on_the_page_stands_in_the_summary() {
    let run = RunFolder::new();
    run.tell_the_way();
    let summary = summary(&run);
    let Some(dom) = chromium::dom(&run.at("report.html")) else { return };
    let shown = shown::assert_numbers_stand_in(&summary, &dom);
    assert!(shown > 400, "only {shown} values carry a key");
    for key in ["/speedup", "/accuracy_difference", "/found/measured_ms", "/controls/0/accuracy", "/evaluation/kendall"]
    {
        assert!(dom.contains(&format!("data-key=\"{key}\"")), "{key} isn't shown");
    }
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let run = RunFolder::new();
    report(&run).success();
    let page = run.read("report.html");
    for outside in ["http:", "https:", "//", "<script", "<img", "<iframe", " src=", "@import", "url("] {
        assert!(!page.contains(outside), "the page has {outside:?}");
    }
    assert_eq!(page.matches("href=").count(), page.matches("href=\"data:,\"").count());
    assert!(page.contains("default-src 'none'"));
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn hostile_names_are_shown_as_text() {
    let run = RunFolder::new();
    let name = "\"><img src=x onerror=alert(1)>&amp;\u{1b}[31m";
    run.add_control(name);
    for training in ["found", "found.seed2", "baseline", "baseline.seed2", "widest", name] {
        run.set(&format!("train/{training}/train.json"), "/dataset", "</title></style><script>alert(2)</script>");
    }
    run.replace("table.csv", "# device: local-cpu", "# device: <b onclick='x'>cpu</b>");
    run.replace("measured.csv", "# cpu: AMD", "# <i>k</i>: <svg/onload=alert(3)>\n# cpu: AMD");
    let output = report(&run).success().get_output().clone();
    assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "nothing commands the terminal");
    let summary = run.read_json("summary.json");
    assert_eq!(summary["controls"][0]["name"], name);
    let Some(dom) = chromium::dom(&run.at("report.html")) else { return };
    for tag in ["<img", "<script", "<b ", "<i>", "<svg/", "<svg onload"] {
        assert!(!dom.contains(tag), "{tag} became an element");
    }
    let texts = chromium::texts(&dom);
    let shown = |text: &str| texts.iter().any(|node| node.text == text);
    assert!(shown("</title></style><script>alert(2)</script>"));
    assert!(shown("<b onclick='x'>cpu</b>"));
    assert!(shown("<svg/onload=alert(3)>"));
    assert!(shown(&name.replace('\u{1b}', "\\u{1b}")));
}
