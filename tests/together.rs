//! Several processes that search and train together: one of them is killed, frozen or asked to end, and the others say so.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::learning::{images, json, ready};
use common::phone::{await_for, free_port};
use common::{fleetfoot, fleetfoot_process, text};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;

/// A space whose networks learn fast.
const SPACE: &str = r#"name = "tiny"
classes = 10
input = { channels = 1, height = 28, width = 28 }
candidates = ["k3e2", "k5e1", "k3e3", "zero"]
stem = { channels = 8, stride = 2 }
first_block = { channels = 8 }
stages = [{ channels = 8, depth = 2, stride = 2 }, { channels = 12, depth = 2, stride = 2 }]
head = { channels = 16 }
"#;
/// `EX_TEMPFAIL`.
const TRY_AGAIN: i32 = 75;
/// How long anything may take at all.
const PATIENCE: Duration = Duration::from_secs(120);

/// A space, images and a table to search with.
struct Task {
    folder: TempDir,
    space: PathBuf,
    table: PathBuf,
    data: PathBuf,
}

fn task() -> Task {
    let folder = TempDir::new().unwrap();
    let [space, table] = ["tiny.toml", "T.csv"].map(|name| folder.path().join(name));
    fs::write(&space, SPACE).unwrap();
    let data = images(folder.path());
    fleetfoot(&["profile", "--space", text(&space), "--device", "mock", "-o", text(&table)]).assert().success();
    Task { folder, space, table, data }
}

impl Task {
    /// A search of some seconds in a folder of this name.
    fn search(&self, name: &str, more: &[&str]) -> Vec<String> {
        static TARGET: OnceLock<String> = OnceLock::new();
        let target = TARGET.get_or_init(|| {
            let predict = ["predict", "--table", text(&self.table), "--space", text(&self.space), "1111"];
            let found = common::Csv::parse(&common::stdout(&fleetfoot(&predict).assert().success()));
            format!("{}ms", found.numbers("latency_ms")[0])
        });
        let small = "--train-images 480 --validation-images 160 --batch 32 --warmup-epochs 2 --search-epochs 8";
        let words = ["search", "--space", text(&self.space), "--table", text(&self.table), "--target", target];
        let words = words.into_iter().chain(["--data", text(&self.data)]).chain(small.split(' ')).map(str::to_owned);
        words
            .chain(["-o".to_owned(), text(&self.path(name)).to_owned()])
            .chain(more.iter().map(|&word| word.to_owned()))
            .collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What such a search leaves, without what it took.
    fn record(&self, name: &str) -> Value {
        let mut record = json(&self.path(name).join("search.json"));
        for time in ["seconds", "waited_seconds"] {
            record[time] = Value::Null;
        }
        record
    }
}

/// Two ranks of a command, which end with this.
struct Two([Child; 2]);

impl Two {
    fn start(arguments: [&[String]; 2], environment: &[(&str, &str)]) -> Self {
        let port = free_port().to_string();
        let start = |rank: usize| {
            let arguments: Vec<&str> = arguments[rank].iter().map(String::as_str).collect();
            let mut process = fleetfoot_process(&arguments);
            process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            process.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", &port).env("WORLD_SIZE", "2");
            process.env("RANK", rank.to_string()).env("LOCAL_RANK", rank.to_string());
            process.envs(environment.iter().copied()).spawn().unwrap()
        };
        Self([0, 1].map(start))
    }

    fn of(arguments: &[String]) -> Self {
        Self::start([arguments, arguments], &[])
    }

    /// Whether a rank has ended.
    fn ended(&mut self, rank: usize) -> bool {
        self.0[rank].try_wait().unwrap().is_some()
    }

    fn signal(&self, rank: usize, signal: &str) {
        let _ = std::process::Command::new("kill").args([signal, &self.0[rank].id().to_string()]).status();
    }

    /// Waits until a rank ends; how long that took.
    #[track_caller]
    fn wait(&mut self, rank: usize) -> Duration {
        let start = Instant::now();
        while !self.ended(rank) {
            assert!(start.elapsed() < PATIENCE, "rank {rank} hangs");
            std::thread::sleep(Duration::from_millis(5));
        }
        start.elapsed()
    }

    /// Exit statuses with what was said, when both have ended.
    #[track_caller]
    fn end(mut self) -> [Output; 2] {
        for rank in [0, 1] {
            self.wait(rank);
        }
        self.0.map(|rank| rank.wait_with_output().unwrap())
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_done(outputs: &[Output; 2]) {
    for output in outputs {
        assert_eq!(output.status.code(), Some(0), "{}", said(output));
    }
    assert!(!outputs[0].stdout.is_empty(), "rank 0 tells what was found");
    assert_eq!((said(&outputs[1]).as_str(), outputs[1].stdout.len()), ("", 0), "the others say nothing");
}

/// A search that nothing disturbs.
fn undisturbed(task: &Task) -> Value {
    assert_done(&Two::of(&task.search("whole", &[])).end());
    task.record("whole")
}

/// A search that is hit at a moment that a seed draws: the survivor's exit status and message, and how long it took to end;
/// `None` where it was over before.
fn hit(task: &Task, name: &str, signal: &str, seed: u64) -> Option<(Output, Duration)> {
    let folder = task.path(name);
    let _ = fs::remove_dir_all(&folder);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (victim, delay) = (rng.random_range(0..2), Duration::from_millis(rng.random_range(0..900)));
    let mut two = Two::of(&task.search(name, &["--checkpoint-every", "0", "--dist-timeout", "3"]));
    await_for("a checkpoint", || folder.join("checkpoint.safetensors").exists());
    std::thread::sleep(delay);
    two.signal(victim, signal);
    let took = two.wait(1 - victim);
    two.signal(victim, "-KILL");
    let [first, second] = two.end();
    let (victims, survivor) = if victim == 0 { (first, second) } else { (second, first) };
    let is_hit = victims.status.code().is_none() && !folder.join("search.json").exists();
    is_hit.then_some((survivor, took))
}

#[test]
fn a_rank_that_is_killed_or_frozen_ends_the_others_with_the_state_saved_and_nothing_is_lost() {
    if !ready() {
        return;
    }
    // More of them by hand: FLEETFOOT_FAULTS=10.
    let wanted = std::env::var("FLEETFOOT_FAULTS").ok().and_then(|count| count.parse().ok()).unwrap_or(3);
    let task = task();
    let whole = undisturbed(&task);
    for signal in ["-KILL", "-STOP"] {
        let mut hits = 0;
        for seed in 0..10 * wanted {
            let Some((survivor, took)) = hit(&task, "hit", signal, seed) else { continue };
            let (message, status) = (said(&survivor), survivor.status.code());
            assert_eq!(status, Some(TRY_AGAIN), "{signal} {seed}: {message}");
            let last = message.lines().last().unwrap_or_default();
            assert!(last.contains("lost the others") && last.contains("--resume"), "{signal} {seed}: {message}");
            assert!(!message.contains("panicked") && !message.contains("frame #"), "{message}");
            eprintln!("{signal} {seed}: the survivor ended after {took:.2?}: {last}");
            let step = |name: &str| task.path(name).join("checkpoint.safetensors");
            assert!(step("hit").exists());
            assert_done(&Two::of(&task.search("hit", &["--resume"])).end());
            assert_eq!(task.record("hit"), whole, "{signal} {seed}");
            hits += 1;
            if hits == wanted {
                break;
            }
        }
        assert_eq!(hits, wanted, "{signal}: too many searches were over before");
    }
}

#[test]
fn a_rank_that_is_asked_to_end_ends_all_with_the_state_saved_and_a_restart_goes_on_by_itself() {
    if !ready() {
        return;
    }
    let task = task();
    let whole = undisturbed(&task);
    let mut restarts = 0;
    for attempt in 0..20 {
        let count = restarts.to_string();
        let arguments = task.search("asked", &["--checkpoint-every", "0", "--dist-timeout", "5"]);
        let mut two = Two::start([&arguments, &arguments], &[("TORCHELASTIC_RESTART_COUNT", &count)]);
        std::thread::sleep(Duration::from_millis(400 + 100 * attempt));
        if !two.ended(0) {
            two.signal(attempt as usize % 2, "-TERM");
        }
        let outputs = two.end();
        if outputs.iter().all(|output| output.status.success()) {
            break;
        }
        for output in &outputs {
            // Before it listens to signals it just ends, and the other one misses it.
            let status = output.status.code();
            assert!(matches!(status, Some(TRY_AGAIN) | None), "{status:?} {}", said(output));
        }
        restarts += 1;
    }
    assert!(restarts > 0, "it was interrupted");
    assert_eq!(task.record("asked"), whole);
}

#[test]
fn ranks_check_that_all_have_the_same_before_anything_is_learned() {
    if !ready() {
        return;
    }
    let task = task();
    let check = task.search("checked", &["--dist-check"]);
    let [first, second] = Two::of(&check).end();
    let told = String::from_utf8(first.stdout).unwrap();
    for wanted in ["2 ranks by gloo", "rank 1: ", "the same on all ranks: table", "a sum of  16777216 bytes"] {
        assert!(told.contains(wanted), "{wanted} in {told}");
    }
    assert!(second.stdout.is_empty() && first.status.success() && second.status.success());
    assert!(!task.path("checked").exists(), "nothing is written");

    let [own, other] = ["1", "2"].map(|seed| task.search("other", &["--seed", seed]));
    for output in Two::start([&own, &other], &[]).end() {
        let message = said(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.starts_with("fleetfoot: rank 1 doesn't have rank 0's settings"), "{message}");
    }
    let odd = task.search("odd", &["--gate-batch", "33"]);
    for output in Two::of(&odd).end() {
        assert!(said(&output).contains("wanted a multiple of 2, such as 32 or 34"), "{}", said(&output));
    }
    // Where rank 0 refuses, all say why.
    fs::create_dir(task.path("full")).unwrap();
    fs::write(task.path("full/search.json"), "{}").unwrap();
    for output in Two::of(&task.search("full", &[])).end() {
        let message = said(&output);
        assert!(output.status.code() == Some(1) && message.contains("holds a run already"), "{message}");
    }
}

#[test]
fn variables_that_are_partly_set_are_refused_by_name() {
    if !ready() {
        return;
    }
    let task = task();
    let arguments = task.search("none", &[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let refused = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut process = fleetfoot(arguments);
        process.envs(environment.iter().copied());
        common::refused_as_usage(process)
    };
    let set = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1")];
    assert!(refused(&arguments, &set).contains("MASTER_PORT isn't set, but RANK is"));
    let set = [("RANK", "2"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29500")];
    assert!(refused(&arguments, &set).contains("RANK=2: wanted a number from 0 to 1"));
    let slurm = [&arguments[..], &["--dist", "slurm"]].concat();
    assert!(refused(&slurm, &[]).contains("--dist slurm: SLURM_PROCID isn't set: start it by srun"));
    assert!(refused(&[&arguments[..], &["--dist-check"]].concat(), &[]).contains("--dist-check is for several"));
    assert!(!Path::new(&task.path("none")).exists());
}

#[test]
fn two_processes_train_by_several_seeds_and_are_tested_together() {
    if !ready() {
        return;
    }
    let task = task();
    let train = |name: &str, more: &[&str]| {
        let words = ["train", "--space", text(&task.space), "1111", "--data", text(&task.data), "--epochs", "2"];
        let words = words.into_iter().chain(["--batch", "32", "--seeds", "2", "-o"]).map(str::to_owned);
        words
            .chain([text(&task.path(name)).to_owned()])
            .chain(more.iter().map(|&word| word.to_owned()))
            .collect::<Vec<_>>()
    };
    for output in Two::of(&train("trained", &[])).end() {
        assert!(output.status.success(), "{}", said(&output));
    }
    let seeds = json(&task.path("trained/seeds.json"));
    let accuracy = seeds["accuracy_percent"]["mean"].as_f64().unwrap();
    assert!(accuracy > 10.0 && seeds["test_images"] == 100, "{seeds}");
    for seed in ["seed0", "seed1"] {
        assert_eq!(json(&task.path("trained").join(seed).join("train.json"))["ranks"], serde_json::json!([2]));
    }
    // One goes on where two have been, and says so.
    let resumed = fleetfoot(&train("trained", &["--resume"]).iter().map(String::as_str).collect::<Vec<_>>());
    let resumed = common::stderr(&{ resumed }.assert().success());
    assert!(resumed.contains("is there already"), "{resumed}");
}
