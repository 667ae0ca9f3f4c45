//! Lists of trainings and of searches: shards that do their part of one, together, what one run does of all.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::learning::{images, json, ready};
use common::{Csv, fails_in_one_line, fleetfoot, fleetfoot_process, refused_as_usage, stderr, stdout, text};
use serde_json::json;
use tempfile::TempDir;

/// A list of short trainings: two networks by two seeds.
struct Trainings {
    folder: TempDir,
    data: PathBuf,
    networks: PathBuf,
}

impl Trainings {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let networks = folder.path().join("networks.csv");
        fs::write(&networks, "architecture,why\nk3e3,small\n").unwrap();
        Self { data: images(folder.path()), networks, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn words<'a>(&'a self, output: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
        let recipe = "train --space fashion-28 shallowest --seeds 2 --seed 4 --epochs 1 --batch 32 --threads 1 --shift 0 --no-flip";
        let files = ["--architectures", text(&self.networks), "--data", text(&self.data), "-o", text(output)];
        recipe.split(' ').chain(files).chain(more.iter().copied()).collect()
    }

    /// Does the list by shards.
    fn shards(&self, output: &Path, of: usize) {
        for index in 1..=of {
            fleetfoot(&self.words(output, &["--shard", &format!("{index}/{of}")])).assert().success();
        }
    }
}

#[test]
fn the_shards_of_trainings_are_the_record_of_one_run_though_one_was_killed() {
    if !ready() {
        return;
    }
    let list = Trainings::new();
    let (whole, run) = (list.path("whole"), list.path("run"));
    let said = stderr(&fleetfoot(&list.words(&whole, &[])).assert().success());
    assert!(said.contains("k3e3: test accuracy") && said.contains("over 2 seeds"), "{said}");
    let record = json(&whole.join("trainings.json"));
    assert_eq!(record["trainings"][0]["named"], "shallowest");
    assert_eq!(record["trainings"][1]["folders"], json!(["k3e3/seed4", "k3e3/seed5"]));
    let values = record["trainings"][1]["accuracy_percent"]["values"].as_array().unwrap().clone();
    assert_eq!(values[1], json(&whole.join("k3e3/seed5/train.json"))["accuracy_percent"]);

    // The same command each time: killed while it learns, then to its end, then there is nothing left to do.
    let second = list.words(&run, &["--shard", "2/3"]);
    let mut process = fleetfoot_process(&second).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    process.kill().unwrap();
    process.wait().unwrap();
    let said = stderr(&fleetfoot(&second).assert().success());
    assert!(said.contains("shard 2/3 is done, 1 of 4 in the list") && said.contains("fleetfoot merge"), "{said}");
    let said = stderr(&fleetfoot(&second).assert().success());
    assert!(said.contains("train.json is there already"), "{said}");

    let message = fails_in_one_line(fleetfoot(&["merge", text(&run)]));
    assert!(message.contains("3 of 4 trainings are missing (shallowest/seed4, k3e3/seed4, k3e3/seed5)"), "{message}");
    list.shards(&run, 3);
    fleetfoot(&["merge", text(&run)]).assert().success();
    let of = |folder: &Path| fs::read_to_string(folder.join("trainings.json")).unwrap();
    assert_eq!(of(&run), of(&whole));
    for job in ["shallowest/seed5", "k3e3/seed4"] {
        let weights = |folder: &Path| fs::read(folder.join(job).join("weights.safetensors")).unwrap();
        assert!(weights(&run) == weights(&whole), "{job}: equal bytes");
    }

    // Another recipe, another list, a folder that holds something else.
    let message = fails_in_one_line(fleetfoot(&list.words(&run, &["--shard", "2/3", "--smoothing", "0"])));
    assert!(message.contains("jobs.json is of another list (smoothing: '0.1' against '0.0')"), "{message}");
    let message = fails_in_one_line(fleetfoot(&list.words(&run, &["--shard", "2/3", "k3e6"])));
    assert!(message.contains("k3e6/seed4 is asked for now"), "{message}");
    let message = fails_in_one_line(fleetfoot(&list.words(&whole, &[])));
    assert!(message.contains("holds a run already") && message.contains("--resume"), "{message}");
    fleetfoot(&list.words(&whole, &["--resume"])).assert().success();
    let message = fails_in_one_line(fleetfoot(&["export", text(&whole)]));
    assert!(message.contains("several trainings") && message.contains("shallowest/seed4"), "{message}");
}

#[test]
fn folders_that_hosts_have_filled_are_gathered_and_nothing_is_counted_twice() {
    if !ready() {
        return;
    }
    let list = Trainings::new();
    let [here, there, all, whole] = ["here", "there", "all", "whole"].map(|name| list.path(name));
    let shard = |folder: &Path, shard: &str| {
        fleetfoot(&list.words(folder, &["--shard", shard])).assert().success();
    };
    shard(&here, "1/2");
    shard(&there, "2/2");
    fleetfoot(&list.words(&whole, &[])).assert().success();
    let merge = |more: &[&str]| fleetfoot(&[&["merge", text(&here), text(&there)], more].concat());
    assert!(refused_as_usage(merge(&[])).contains("--output"));
    merge(&["-o", text(&all)]).assert().success();
    let of = |folder: &Path| fs::read_to_string(folder.join("trainings.json")).unwrap();
    assert_eq!(of(&all), of(&whole));
    fleetfoot(&["export", text(&all.join("k3e3/seed5")), "--images", "5"]).assert().success();
    let message = fails_in_one_line(merge(&["-o", text(&all)]));
    assert!(message.contains("isn't empty"), "{message}");
    // The same training in both.
    shard(&there, "1/2");
    let message = fails_in_one_line(merge(&["-o", text(&list.path("other"))]));
    assert!(message.contains("shallowest/seed4 are the same training"), "{message}");
    // A record that isn't what its folder says, or of another recipe, or none at all.
    shard(&here, "2/2");
    let record = here.join("k3e3/seed4/train.json");
    let good = fs::read_to_string(&record).unwrap();
    for (changed, what) in [
        (good.replace("\"seed\": 4", "\"seed\": 9"), "by seed 9, wanted k3e3 by seed 4"),
        (good.replace("\"smoothing\": 0.1", "\"smoothing\": 0.2"), "another recipe (smoothing: 0.1 against 0.2)"),
        (good[..good.len() / 2].to_owned(), "isn't the record of a training"),
        ("{}".to_owned(), "isn't the record of a training"),
    ] {
        fs::write(&record, changed).unwrap();
        let message = fails_in_one_line(fleetfoot(&["merge", text(&here)]));
        assert!(message.contains(what), "{message}");
    }
    fs::write(here.join("jobs.json"), "{}").unwrap();
    let message = fails_in_one_line(fleetfoot(&["merge", text(&here)]));
    assert!(message.contains("isn't a list of jobs"), "{message}");
    fs::remove_file(here.join("jobs.json")).unwrap();
    let message = fails_in_one_line(fleetfoot(&["merge", text(&here)]));
    assert!(message.contains("has no jobs.json"), "{message}");
    refused_as_usage(fleetfoot(&["merge", text(&here), text(&record), "-o", text(&list.path("x"))]));
}

#[test]
fn a_list_of_one_network_by_seeds_has_the_record_that_it_always_had() {
    if !ready() {
        return;
    }
    let list = Trainings::new();
    fs::write(&list.networks, "# none\nshallowest\n").unwrap();
    let [whole, run] = ["whole", "run"].map(|name| list.path(name));
    let words = |output, more: &[&'static str]| -> Vec<String> {
        let words = list.words(output, more).into_iter().map(str::to_owned);
        let mut words: Vec<String> = words.collect();
        words.retain(|word| word != "shallowest");
        words
    };
    let run_it = |words: Vec<String>| fleetfoot(&words.iter().map(String::as_str).collect::<Vec<_>>()).assert();
    run_it(words(&whole, &[])).success();
    run_it(words(&run, &["--shard", "1/2"])).success();
    run_it(words(&run, &["--shard", "2/2"])).success();
    let message = stderr(&run_it(words(&run, &["--shard", "1/3"])).code(2));
    assert!(message.contains("only 2 trainings") && message.contains("at most 2 shards"), "{message}");
    fleetfoot(&["merge", text(&run)]).assert().success();
    let record = |folder: &Path| {
        let mut record = json(&folder.join("seeds.json"));
        assert!(record["seconds"].as_f64().unwrap() > 0.0);
        record["seconds"] = 0.into();
        record
    };
    assert_eq!(record(&run), record(&whole));
    assert_eq!(record(&run)["folders"], json!(["seed4", "seed5"]));
    // Nothing named, something twice.
    let none = ["train", "--space", "fashion-28", "-o", text(&run), "--data", text(&list.data)];
    assert!(refused_as_usage(fleetfoot(&none)).contains("no architecture"));
    let twice = [&none[..], &["k3e3", "k3e3"]].concat();
    assert!(refused_as_usage(fleetfoot(&twice)).contains("k3e3 stands twice"));
    fs::write(&list.networks, "k3e3\nnonsense\n").unwrap();
    let message = fails_in_one_line(fleetfoot(&list.words(&run, &["--shard", "1/2"])));
    assert!(message.contains("networks.csv, line 2"), "{message}");
}

#[test]
fn the_shards_of_searches_are_the_record_of_one_run() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, table) = (images(folder.path()), folder.path().join("table.csv"));
    let profile = "profile --space fashion-28 --device mock --min-rounds 6 --max-rounds 6 -o";
    fleetfoot(&profile.split(' ').chain([text(&table)]).collect::<Vec<_>>()).assert().success();
    let predict = ["predict", "--table", text(&table), "--space", "fashion-28", "k3e6"];
    let k3e6 = Csv::parse(&stdout(&fleetfoot(&predict).assert().success())).numbers("latency_ms")[0];
    let targets = format!("{:.4}ms,{:.1}us", 0.6 * k3e6, 800.0 * k3e6);
    let [whole, run] = ["whole", "run"].map(|name| folder.path().join(name));
    let words = |output: &Path, more: &[&str]| -> Vec<String> {
        let small = "search --space fashion-28 --seeds 2 --train-images 320 --validation-images 160 --warmup-epochs 1 \
                     --search-epochs 1 --batch 32 --threads 1";
        let files = ["--table", text(&table), "--targets", &targets, "--data", text(&data), "-o", text(output)];
        small.split(' ').chain(files).chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let command = |words: Vec<String>| fleetfoot(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let found = stdout(&command(words(&whole, &[])).assert().success());
    assert_eq!(found.lines().count(), 4, "{found}");
    let record = json(&whole.join("searches.json"));
    let searches = record["searches"].as_array().unwrap();
    let of = |name: &str| searches.iter().map(|search| search[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("seed"), [0, 1, 0, 1]);
    assert_eq!(of("architecture"), found.lines().collect::<Vec<_>>());
    assert_eq!(searches[0]["target"].as_str().unwrap(), targets.split(',').next().unwrap());
    assert!(searches.iter().all(|search| search["predicted_ms"].as_f64() <= search["target_ms"].as_f64()));

    for shard in ["3/3", "1/3"] {
        command(words(&run, &["--shard", shard])).assert().success();
    }
    let message = fails_in_one_line(fleetfoot(&["merge", text(&run)]));
    assert!(message.contains("1 of 4 searches are missing"), "{message}");
    command(words(&run, &["--shard", "2/3"])).assert().success();
    let said = stderr(&command(words(&run, &["--shard", "2/3"])).assert().success());
    assert!(said.contains("search.json is there already"), "{said}");
    fleetfoot(&["merge", text(&run)]).assert().success();
    let of = |folder: &Path| fs::read_to_string(folder.join("searches.json")).unwrap();
    assert_eq!(of(&run), of(&whole));

    let message = fails_in_one_line(command(words(&run, &["--shard", "1/3", "--cut-below", "0.02"])));
    assert!(message.contains("cut_below: '0.01' against '0.02'"), "{message}");
    let refused = |more: &[&str], what: &str| {
        let message = refused_as_usage(command(words(&run, more)));
        assert!(message.contains(what), "{message}");
    };
    refused(&["--shard", "1/3", "--measure-on", "mock"], "--measure-on measures");
    refused(&["--table", text(&table)], "--targets is a list for one table");
    refused(&["--shard", "1/5"], "only 4 searches");
    command(words(&run, &["--target", "1ms"])).assert().code(2);
    let one = whole.join(searches[0]["folder"].as_str().unwrap());
    let alone = ["search", "--space", "fashion-28", "--max-macs", "1M", "--data", text(&data), "-o"];
    let message = fails_in_one_line(fleetfoot(&[&alone[..], &[text(&whole)]].concat()));
    assert!(message.contains("several seeds"), "{message}");
    let message = fails_in_one_line(fleetfoot(&[&alone[..], &[text(&one), "--seeds", "2"]].concat()));
    assert!(message.contains("holds the run of one seed"), "{message}");
}
