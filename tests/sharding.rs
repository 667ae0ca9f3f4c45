//! One result from several parts: what shards measure, killed and run again, is together what one run measures, to the byte; what
//! doesn't belong together is no result.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;
use common::phone::await_for;
use common::{
    Csv, fails_in_one_line, fleetfoot, journal_text, parallel_is_here, refused_as_usage, small, stderr, text,
};
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

const SHORT: [&str; 4] = ["--min-rounds", "8", "--max-rounds", "8"];

/// A folder with a table that one run has measured, and another's name beside it for shards to measure.
struct Scene {
    folder: TempDir,
    /// A command that measures on a simulation, without the file to write.
    command: Vec<String>,
}

impl Scene {
    fn new(command: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let space = small::space(&folder);
        let command = command.iter().map(|word| word.replace("SPACE", &space));
        Self { command: command.chain(["--device".to_owned(), "mock".to_owned()]).collect(), folder }
    }

    /// `profile` of a small space, each unit alone.
    fn profile() -> Self {
        Self::new(&[&["profile", "--space", "SPACE", "--context", "cold"], &SHORT[..]].concat())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command's words for a file, with further ones; an option of the command that stands among these has their value.
    fn words<'a>(&'a self, path: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
        let mut words: Vec<&str> = self.command.iter().map(String::as_str).chain(["-o", text(path)]).collect();
        let mut more = more.iter().copied().peekable();
        while let Some(word) = more.next() {
            match words.iter().position(|known| *known == word && word.starts_with("--") && word != "--device") {
                Some(known) => words[known + 1] = more.next().unwrap(),
                None => words.push(word),
            }
        }
        words
    }

    /// What one run writes.
    fn whole(&self) -> String {
        let path = self.path("whole.csv");
        fleetfoot(&self.words(&path, &[])).assert().success();
        fs::read_to_string(path).unwrap()
    }

    /// Measures a shard; what was said.
    fn shard(&self, path: &Path, shard: &str, more: &[&str]) -> String {
        stderr(&fleetfoot(&self.words(path, &[&["--shard", shard], more].concat())).assert().success())
    }

    /// Measures all shards of a file.
    fn shards(&self, name: &str, of: usize) -> PathBuf {
        let path = self.path(name);
        for index in 1..=of {
            self.shard(&path, &format!("{index}/{of}"), &[]);
        }
        path
    }
}

fn part(table: &Path, index: usize, of: usize) -> PathBuf {
    table.with_file_name(format!("{}.{index}of{of}", table.file_name().unwrap().to_str().unwrap()))
}

/// Merges what lies beside a file.
fn merged(path: &Path) -> String {
    fleetfoot(&["merge", "-o", text(path)]).assert().success();
    fs::read_to_string(path).unwrap()
}

/// Why nothing is merged, and that nothing is written.
#[track_caller]
fn not_merged(parts: &[&Path], output: &Path) -> String {
    let parts: Vec<&str> = parts.iter().map(|part| text(part)).collect();
    let message = fails_in_one_line(fleetfoot(&[&["merge"], &parts[..], &["-o", text(output)]].concat()));
    assert!(!output.exists(), "{message}");
    message
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn the_shards_of_a_table_are_the_table_that_one_run_measures(
        context in prop::sample::select(vec!["cold", "warm", "network"]),
        space in prop::sample::select(vec!["SPACE", "fashion-28"]),
        statistic in prop::sample::select(vec!["median", "min", "p90"]),
        of in 1usize..=9,
        seed in 0u64..1000,
        batch in 1usize..=2,
    ) {
        let (seed, batch) = (seed.to_string(), batch.to_string());
        let scene = Scene::new(&[
            "profile", "--space", space, "--context", context, "--seed", &seed, "--batch", &batch, "--statistic", statistic,
        ]);
        let path = scene.shards("T.csv", of);
        prop_assert_eq!(merged(&path), scene.whole());
    }

    #[test]
    fn the_shards_of_measurements_are_the_file_that_one_run_writes(
        of in 1usize..=9,
        random in 9usize..=24,
        seed in 0u64..1000,
        named in any::<bool>(),
        also in prop::sample::select(vec!["throughput", "memory", "throughput,memory"]),
    ) {
        let (seed, random) = (seed.to_string(), random.to_string());
        let own = if named { vec!["k3e6", "k7e6@0.5"] } else { Vec::new() };
        let words = ["measure", "--space", "fashion-28", "--random", &random, "--seed", &seed, "--also", also];
        let scene = Scene::new(&[&words[..], &SHORT, &own].concat());
        let path = scene.shards("M.csv", of);
        prop_assert_eq!(merged(&path), scene.whole());
    }
}

/// The process that measures this shard of this file, if it runs.
fn process_of(table: &Path, shard: &str) -> Option<u32> {
    let is_it = |number: &u32| {
        let words = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let words: Vec<&str> =
            words.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect();
        words.first().is_some_and(|program| program.ends_with("/fleetfoot"))
            && words.windows(2).any(|pair| pair == ["--shard", shard])
            && words.contains(&text(table))
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(is_it)
}

/// Every visit that a journal holds, as round and subject.
fn visits(journal: &Path) -> Vec<(u64, u64)> {
    let text = journal_text(journal);
    let visit = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        Some((line["round"].as_u64()?, line["subject"].as_u64()?))
    };
    text.lines().filter_map(visit).collect()
}

#[test]
fn eight_shards_under_gnu_parallel_two_of_them_killed_and_run_again_are_the_table_of_one_run() {
    if !parallel_is_here() {
        return;
    }
    const KILLED: [usize; 2] = [3, 6];
    let words = ["profile", "--space", "fashion-28", "--context", "cold", "--seed", "5", "--visit", "1"];
    let scene = Scene::new(&[&words[..], &["--min-rounds", "150", "--max-rounds", "150"]].concat());
    let whole = scene.whole();
    let path = scene.path("T.csv");
    // The same command line both times, as schedulers repeat it.
    let fleetfoot = cargo_bin("fleetfoot");
    let parallel = || {
        let mut parallel = Command::new("parallel");
        parallel.args(["--will-cite", "-j2", text(&fleetfoot)]).args(scene.words(&path, &["--shard", "{}/8"]));
        parallel.arg(":::").args((1..=8).map(|index| index.to_string()));
        parallel.stdin(Stdio::null()).stdout(Stdio::null());
        parallel
    };
    let mut running = parallel().stderr(Stdio::null()).spawn().unwrap();
    let mut kept = Vec::new();
    for index in KILLED {
        let journal = PathBuf::from(format!("{}.journal", text(&part(&path, index, 8))));
        await_for("half a journal", || journal.exists() && journal_text(&journal).lines().count() > 60);
        let process = process_of(&path, &format!("{index}/8")).expect("it measures");
        assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
        await_for("its end", || process_of(&path, &format!("{index}/8")).is_none());
        assert!(!part(&path, index, 8).exists(), "it was killed before its end");
        kept.push((journal.clone(), visits(&journal)));
    }
    assert_eq!(running.wait().unwrap().code(), Some(2), "two jobs failed");
    let message = not_merged(&[], &path);
    assert!(message.contains("2 of 8 shards are missing") && message.contains("--shard 3/8, --shard 6/8"), "{message}");

    let again = parallel().output().unwrap();
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(again.status.success(), "{said}");
    assert_eq!(said.lines().filter(|line| line.ends_with("is there already")).count(), 6, "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("going on behind")).count(), 2, "{said}");
    for (journal, before) in kept {
        let all = visits(&journal);
        assert!(before.len() > 40 && all.starts_with(&before), "what was measured is kept");
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all.len(), "no visit is made twice");
    }
    assert_eq!(merged(&path), whole);
}

#[test]
fn a_shard_that_is_there_is_done_and_one_of_something_else_is_not_replaced_unasked() {
    let scene = Scene::profile();
    let path = scene.path("T.csv");
    let said = scene.shard(&path, "2/3", &[]);
    assert!(said.contains("shard 2/3") && said.contains("fleetfoot merge"), "{said}");
    let there = fs::read(part(&path, 2, 3)).unwrap();
    let again = scene.shard(&path, "2/3", &[]);
    assert_eq!(again.lines().collect::<Vec<_>>(), [format!("{} is there already", part(&path, 2, 3).display())]);

    let message = fails_in_one_line(fleetfoot(&scene.words(&path, &["--shard", "2/3", "--max-rounds", "9"])));
    assert!(message.contains("plan: '8 to 8 rounds") && message.contains("--force"), "{message}");
    assert_eq!(fs::read(part(&path, 2, 3)).unwrap(), there);
    scene.shard(&path, "2/3", &["--max-rounds", "9", "--force"]);
    assert_ne!(fs::read(part(&path, 2, 3)).unwrap(), there);
    // What only differs in how a shard is named, or in what is asked for again, is the same.
    scene.shard(&path, "2/3", &["--force"]);
    assert_eq!(scene.shard(&path, "02/03", &["--resume"]).lines().count(), 1);
}

#[test]
fn a_journal_of_another_plan_is_not_gone_on_with() {
    let scene = Scene::profile();
    let path = scene.path("T.csv");
    scene.shard(&path, "1/2", &[]);
    fs::remove_file(part(&path, 1, 2)).unwrap();
    let other = scene.words(&path, &["--shard", "1/2", "--min-rounds", "7", "--seed", "0"]);
    let message = fails_in_one_line(fleetfoot(&other));
    assert!(message.contains("1of2.journal") && message.contains("plan: '8 to 8 rounds"), "{message}");
    scene.shard(&path, "1/2", &[]);
    assert!(part(&path, 1, 2).exists());
}

#[test]
fn parts_that_are_missing_doubled_or_of_something_else_are_no_table() {
    let scene = Scene::profile();
    let path = scene.shards("T.csv", 3);
    let all: Vec<PathBuf> = (1..=3).map(|index| part(&path, index, 3)).collect();
    let output = scene.path("merged.csv");
    let message = not_merged(&[&all[0], &all[2]], &output);
    assert!(message.contains("1 of 3 shards are missing") && message.contains("--shard 2/3"), "{message}");
    let copy = scene.path("copy.csv.1of3");
    fs::copy(&all[0], &copy).unwrap();
    let message = not_merged(&[&all[0], &all[1], &all[2], &copy], &output);
    assert!(message.contains("copy.csv.1of3 are both shard 1/3"), "{message}");
    let message = not_merged(&[], &scene.path("nothing.csv"));
    assert!(message.contains("no parts") && message.contains("nothing.csv.1of8"), "{message}");

    let foreign = |options: &[&str], what: &str| {
        let other = scene.path("other.csv");
        fleetfoot(&scene.words(&other, &[&["--shard", "2/3", "--force"], options].concat())).assert().success();
        let message = not_merged(&[&all[0], &part(&other, 2, 3), &all[2]], &output);
        assert!(message.contains(what) && message.contains("other.csv.2of3"), "{message}");
    };
    foreign(&["--seed", "1"], "seed: '0' against '1'");
    foreign(&["--min-rounds", "6"], "plan: '8 to 8 rounds");
    foreign(&["--statistic", "min"], "statistic: 'median' against 'min'");
    foreign(&["--batch", "2"], "batch: '1' against '2'");
    let threads = scene.path("threads.toml");
    fs::write(&threads, "name = \"mock\"\ntransport = \"mock\"\nthreads = 2\n").unwrap();
    let threaded = scene.words(&path, &["--shard", "2/3", "--force"]);
    let threaded: Vec<&str> = threaded.iter().map(|word| if *word == "mock" { text(&threads) } else { word }).collect();
    fleetfoot(&threaded).assert().success();
    let message = not_merged(&[&all[0], &all[1], &all[2]], &output);
    assert!(message.contains("device's threads: '1' against '2'"), "{message}");

    let two = scene.shards("two.csv", 2);
    let message = not_merged(&[&all[0], &part(&two, 1, 2), &part(&two, 2, 2)], &output);
    assert!(message.contains("one of 3 shards") && message.contains("one of 2"), "{message}");
    let networks = Scene::new(&[&["measure", "--space", "SPACE", "--random", "6"], &SHORT[..]].concat());
    let networks = networks.shards("M.csv", 2);
    let message = not_merged(&[&all[0], &part(&networks, 2, 2)], &output);
    assert!(message.contains("a latency table") && message.contains("measurements of networks"), "{message}");
}

/// A part with its body changed, digests as they should be.
fn forged(part: &Path, change: impl FnOnce(&mut Value)) {
    let content = fs::read_to_string(part).unwrap();
    let mut lines = content.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (mut head, mut body) = (lines.next().unwrap(), lines.next().unwrap());
    change(&mut body);
    let body = body.to_string();
    head["body_sha256"] = fleetfoot_profiler::sha256(body.as_bytes()).into();
    fs::write(part, format!("{head}\n{body}\n")).unwrap();
}

#[test]
fn parts_of_machines_that_differ_are_no_table() {
    let scene = Scene::profile();
    let path = scene.shards("T.csv", 2);
    let (first, second) = (part(&path, 1, 2), part(&path, 2, 2));
    let good = fs::read(&second).unwrap();
    forged(&second, |body| body["part"]["conditions"]["cpu"] = "another".into());
    let message = not_merged(&[&first, &second], &path);
    assert!(message.contains("'shard 1/2' and 'shard 2/2' aren't identical") && message.contains("cpu"), "{message}");
    fs::write(&second, &good).unwrap();
    forged(&second, |body| {
        for measured in body["part"]["measured"].as_array_mut().unwrap() {
            let slower = |value: &Value| Value::from(1.05 * value.as_f64().unwrap());
            measured["latency"] = slower(&measured["latency"]);
            measured["interval"]["low"] = slower(&measured["interval"]["low"]);
            measured["interval"]["high"] = slower(&measured["interval"]["high"]);
        }
    });
    let message = not_merged(&[&first, &second], &path);
    assert!(message.contains("takes +5.0 % on 'shard 2/2' in the median"), "{message}");
    // Two days are told, and of how many shards a table is that differ in anything.
    fs::write(&second, &good).unwrap();
    forged(&second, |body| {
        for pair in body["part"]["head"].as_array_mut().unwrap().iter_mut().filter(|pair| pair[0] == "date") {
            pair[1] = "2020-01-01".into();
        }
    });
    let table = Csv::parse(&merged(&path));
    assert!(table.provenance["date"].starts_with("2020-01-01 to 20"), "{}", table.provenance["date"]);
    assert_eq!((&*table.provenance["shards"], &*table.provenance["references_apart_percent"]), ("2", "0.00"));
}

#[test]
fn a_part_that_was_cut_or_changed_is_refused_wherever_that_is() {
    let scene = Scene::new(&[&["profile", "--space", "SPACE", "--context", "network"], &SHORT[..]].concat());
    let path = scene.shards("T.csv", 2);
    let second = part(&path, 2, 2);
    let good = fs::read(&second).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&second, bytes).unwrap();
        let message = not_merged(&[], &path);
        assert!(message.contains("T.csv.2of2"), "{message}");
        message
    };
    for cut in [0, 1, 17, 400, good.len() / 2, good.len() - 2, good.len() - 1] {
        refused(&good[..cut]);
    }
    for position in (0..good.len()).step_by(good.len() / 60) {
        let mut bytes = good.clone();
        bytes[position] ^= 1;
        fs::write(&second, &bytes).unwrap();
        let merged = fleetfoot(&["merge", "-o", text(&path)]).assert();
        assert!(matches!(merged.get_output().status.code(), Some(1)), "byte {position}: {}", stderr(&merged));
        assert!(!stderr(&merged).contains("panicked"));
    }
    let message = refused(b"{\"fleetfoot_part\":2}\n{}\n");
    assert!(message.contains("form 2") && message.contains("reads 1"), "{message}");
    refused(b"architecture,latency_ms\nk3e3,1\n");
    refused(&[0xff; 64]);
    // A new shard isn't begun over one that can't be read, unless that is asked for.
    let message = fails_in_one_line(fleetfoot(&scene.words(&path, &["--shard", "2/2"])));
    assert!(message.contains("--force"), "{message}");
    scene.shard(&path, "2/2", &["--force"]);
    assert_eq!(fs::read(&second).unwrap(), good);
    let hostile: [fn(&mut Value); 9] = [
        |body| body["part"]["positions"] = vec![0, 1, 2].into(),
        |body| body["part"]["positions"][1] = u64::MAX.into(),
        |body| drop(body["part"]["measured"].as_array_mut().unwrap().pop()),
        |body| body["part"]["measured"][1]["latency"] = (-1.0).into(),
        |body| body["part"]["profiles"] = Vec::<Value>::new().into(),
        |body| body["part"]["profiles"][0]["subject"] = 4_000_000_000u64.into(),
        |body| body["part"]["contention"] = Value::Null,
        |body| body["content"]["table"]["space"] = "name = 1".into(),
        |body| body["content"] = Value::Null,
    ];
    let first = part(&path, 1, 2);
    let good = fs::read(&first).unwrap();
    for (index, change) in hostile.into_iter().enumerate() {
        fs::write(&first, &good).unwrap();
        forged(&first, change);
        let message = not_merged(&[&second, &first], &path);
        assert!(message.len() < 900, "{index}: {message}");
    }
}

#[test]
fn what_is_no_shard_or_makes_no_sense_as_one_is_wrong_usage() {
    let scene = Scene::profile();
    let path = scene.path("T.csv");
    for wrong in ["0/8", "9/8", "1/0", "a/b", "1", "-1/3", "1/8/9", ""] {
        let refused = fleetfoot(&scene.words(&path, &[&format!("--shard={wrong}")])).assert().code(2);
        assert!(stderr(&refused).contains("wanted I/N, part I of N"), "{}", stderr(&refused));
    }
    let refused = |more: &[&str], what: &str| {
        let message = refused_as_usage(fleetfoot(&scene.words(&path, more)));
        assert!(message.contains(what), "{message}");
    };
    refused(&["--shard", "1/2", "--device", "local-cpu"], "--shard is for one device");
    refused(&["--shard", "1/2", "--cost", "memory"], "--shard is for latencies");
    refused(&["--shard", "1/400"], "wanted at most");
    fleetfoot(&scene.words(&path, &["--shard", "1/2", "--share"])).assert().code(2);
    let words = ["measure", "--space", "fashion-28", "--device", "mock", "k3e3", "k3e6", "--shard", "1/2"];
    fleetfoot(&words).assert().code(2);
    refused_as_usage(fleetfoot(&["merge"]));
    let message = refused_as_usage(fleetfoot(&[&words[..8], &["1/3", "-o", text(&path)]].concat()));
    assert!(message.contains("only 2") && message.contains("at most 2 shards"), "{message}");
    let message = fails_in_one_line(fleetfoot(&scene.words(scene.folder.path(), &["--shard", "1/2"])));
    assert!(message.contains("is a folder"), "{message}");
    let message = fails_in_one_line(fleetfoot(&scene.words(Path::new("/dev/null"), &["--shard", "1/2"])));
    assert!(message.contains("is no file"), "{message}");
    assert!(!part(&path, 1, 2).exists());
}

#[test]
fn a_merged_table_is_not_replaced_unasked_and_merging_it_again_is_nothing() {
    let scene = Scene::profile();
    let path = scene.shards("T.csv", 2);
    let table = merged(&path);
    assert_eq!(merged(&path), table);
    fs::write(&path, "mine").unwrap();
    let message = fails_in_one_line(fleetfoot(&["merge", "-o", text(&path)]));
    assert!(message.contains("T.csv exists") && message.contains("--force"), "{message}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    fleetfoot(&["merge", "-o", text(&path), "--force"]).assert().success();
    assert_eq!(fs::read_to_string(&path).unwrap(), table);
    // Parts that hosts have written into folders of their own.
    let elsewhere = scene.path("host");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(part(&path, 2, 2), part(&elsewhere.join("T.csv"), 2, 2)).unwrap();
    let (first, second) = (part(&path, 1, 2), part(&elsewhere.join("T.csv"), 2, 2));
    let output = scene.path("gathered.csv");
    fleetfoot(&["merge", text(&second), text(&first), "-o", text(&output)]).assert().success();
    assert_eq!(fs::read_to_string(&output).unwrap(), table);
    // Its samples lie beside its parts: another statistic isn't to be had without measuring.
    let message = fails_in_one_line(fleetfoot(&["table", text(&path), "--statistic", "min"]));
    assert!(message.contains("--shard") && message.contains("--statistic"), "{message}");
}

#[test]
fn shards_that_measure_on_this_machine_take_turns() {
    let folder = TempDir::new().unwrap();
    let (space, path) = (small::space(&folder), folder.path().join("T.csv"));
    let spawned = |index: usize| {
        let shard = format!("{index}/2");
        let words =
            ["profile", "--space", &space, "--context", "warm", "--visit", "1", "-o", text(&path), "--shard", &shard];
        let mut command = common::fleetfoot_process(&[&words[..], &SHORT].concat());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running = [spawned(1), spawned(2)];
    let said = running.map(|process| {
        let ended = process.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success(), "{said}");
        said
    });
    let waited = said.iter().filter(|said| said.contains("another shard measures on this machine: waiting")).count();
    assert_eq!(waited, 1, "{said:?}");
    assert!(part(&path, 1, 2).exists() && part(&path, 2, 2).exists());
}

#[test]
fn a_dry_run_says_what_a_shard_has_to_measure() {
    let scene = Scene::profile();
    let said = fleetfoot(&scene.words(&scene.path("T.csv"), &["--shard", "2/4", "--dry-run"])).assert().success();
    let said = common::stdout(&said);
    assert!(said.contains("shard 2/4") && said.contains("subjects on mock"), "{said}");
    assert!(!part(&scene.path("T.csv"), 2, 4).exists());
    let json = scene.words(&scene.path("T.csv"), &["--shard", "2/4", "--json"]).join(" ");
    let json: Vec<&str> = json.split(' ').collect();
    let ended: Value = serde_json::from_str(&common::stdout(&fleetfoot(&json).assert().success())).unwrap();
    assert_eq!((&ended["shard"], &ended["device"]), (&"2/4".into(), &"mock".into()));
}
