//! `fleetfoot profile` and `fleetfoot measure`: what was measured is whole, and is never lost.

mod common;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Csv, fails_in_one_line, fleetfoot, fleetfoot_process, journal_text, own_runtime, stderr, stdout, text};
use fleetfoot_profiler::Subject;
use fleetfoot_space::SearchSpace;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;

/// Units of fashion-28 and what is measured besides them: the empty graph and two probes on each of four shapes.
const UNITS: usize = 45;
const SUBJECTS: usize = UNITS + 1 + 2 * 4;
const SHORT: [&str; 6] = ["--min-rounds", "6", "--max-rounds", "6", "--visit", "1"];

/// `profile` of fashion-28 into a file, each unit alone, with further options.
fn profile<'a>(device: &'a str, table: &'a Path, options: &[&'a str]) -> Vec<&'a str> {
    let mut arguments =
        vec!["profile", "--space", "fashion-28", "--context", "cold", "--device", device, "-o", text(table)];
    arguments.extend(options);
    arguments
}

fn with<'a>(options: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [options, more].concat()
}

fn journal_of(table: &Path) -> PathBuf {
    table.with_extension("csv.journal")
}

/// What a journal holds behind its header: the visits' lines, and the rounds at whose ends the machine was looked at.
fn records(journal: &Path) -> (Vec<Value>, Vec<u64>) {
    let text = journal_text(journal);
    let record = |line: &str| -> Value { serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")) };
    let records = text.lines().skip(1).map(record).filter(|line| line["end"].is_null());
    let (looks, visits): (Vec<Value>, Vec<Value>) = records.partition(|line| line["look"].is_object());
    (visits, looks.iter().map(|look| look["look"]["round"].as_u64().unwrap()).collect())
}

#[track_caller]
fn assert_every_visit_stands_once(journal: &Path, rounds: u64) {
    let ends = journal_text(journal);
    let ends: Vec<&str> = ends.split_inclusive('\n').filter(|line| line.starts_with("{\"end\"")).collect();
    assert_eq!(ends, ["{\"end\":{}}\n"], "the journal says once that it is finished");
    let (visits, looks) = records(journal);
    assert_eq!(looks, (0..=rounds).collect::<Vec<_>>(), "the machine is looked at once a round");
    let visits: Vec<(u64, u64)> =
        visits.iter().map(|visit| (visit["round"].as_u64().unwrap(), visit["subject"].as_u64().unwrap())).collect();
    let distinct: HashSet<_> = visits.iter().copied().collect();
    assert_eq!(distinct.len(), visits.len(), "a visit stands twice in {}", journal.display());
    let want = (0..=rounds).flat_map(|round| (0..SUBJECTS as u64).map(move |subject| (round, subject)));
    assert_eq!(distinct, want.collect::<HashSet<_>>(), "rounds and subjects of {}", journal.display());
}

#[track_caller]
fn assert_complete(table: &Csv) {
    assert_eq!(table.rows.len(), UNITS);
    assert_eq!(table.provenance["rows"], UNITS.to_string());
    let [low, latency, high] = ["low_ms", "latency_ms", "high_ms"].map(|column| table.numbers(column));
    for ((low, latency), high) in low.iter().zip(&latency).zip(&high) {
        assert!(0.0 <= *low && low <= latency && latency <= high, "{low} <= {latency} <= {high}");
    }
}

#[test]
fn a_profile_is_a_whole_table_with_its_provenance_and_its_journal() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("T.csv");
    let done = fleetfoot(&profile("local-cpu", &path, &SHORT)).assert().success();
    assert_eq!(stdout(&done), "", "standard output is for data");
    let table = Csv::read(&path);
    assert_complete(&table);
    for (name, value) in [("device", "local-cpu"), ("context", "cold"), ("threads", "1"), ("statistic", "median")] {
        assert_eq!(table.provenance[name], value, "{name}");
    }
    assert_eq!(table.provenance["space"], "fashion-28");
    assert_eq!(table.provenance["seed"], "0");
    assert!(table.provenance["runtime"].starts_with("ONNX Runtime 1."));
    assert!(!table.provenance["cpu"].is_empty());
    assert!(table.provenance["cores"].parse::<usize>().is_ok());
    assert!(table.provenance["empty_graph_ms"].parse::<f64>().unwrap() > 0.0);
    assert_every_visit_stands_once(&journal_of(&path), 6);
    // Values stand at the core's best pace in vector arithmetic, which is read behind each visit.
    let visits = records(&journal_of(&path)).0;
    let paces = visits.iter().map(|visit| [0, 1].map(|which| visit["vectors"][which].as_f64().unwrap()));
    assert!(paces.clone().all(|[best, mean]| best > 0.0 && mean >= best));
    let best: f64 = table.provenance["best_vector_ns"].parse().unwrap();
    let paces: Vec<f64> = paces.map(|[best, _]| best).collect();
    let (least, most) =
        (paces.iter().copied().fold(f64::INFINITY, f64::min), paces.iter().copied().fold(0.0, f64::max));
    assert!(least <= best + 0.5 && best <= most + 0.5, "{best} of {least} to {most}");
    assert!(table.provenance["usually_slower_percent"].parse::<f64>().unwrap() >= -0.05);
}

#[test]
fn a_table_is_neither_overwritten_unasked_nor_changed_by_resuming() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("T.csv");
    fleetfoot(&profile("local-cpu", &path, &SHORT)).assert().success();
    let first = Csv::read(&path);

    let refusal = fails_in_one_line(fleetfoot(&profile("local-cpu", &path, &SHORT)));
    assert!(refusal.contains("--resume") && refusal.contains("--force"), "{refusal}");
    assert_eq!(Csv::read(&path), first);

    fleetfoot(&profile("local-cpu", &path, &with(&SHORT, &["--resume"]))).assert().success();
    assert_eq!(Csv::read(&path).rows, first.rows);

    let anew = with(&SHORT, &["--force", "--seed", "7"]);
    fleetfoot(&profile("local-cpu", &path, &anew)).assert().success();
    let second = Csv::read(&path);
    assert_complete(&second);
    assert_eq!(second.provenance["seed"], "7");
    assert_ne!(second.rows, first.rows, "measured anew");
    assert_every_visit_stands_once(&journal_of(&path), 6);
}

#[test]
fn replacing_a_table_from_a_device_out_of_reach_leaves_the_table() {
    let folder = TempDir::new().unwrap();
    let (path, _) = simulated(&folder);
    let journal = fs::read(journal_of(&path)).unwrap();
    let mut command = fleetfoot(&profile("local-cpu", &path, &["--force"]));
    command.env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so");
    fails_in_one_line(command);
    assert!(path.exists(), "the old table is gone, and there is no new one");
    assert!(fs::read(journal_of(&path)).unwrap() == journal, "the old journal isn't as it was");
}

#[test]
fn a_dry_run_writes_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("deeper/T.csv");
    let done = fleetfoot(&profile("local-cpu", &path, &["--dry-run"])).assert().success();
    assert!(stdout(&done).contains("45 units"), "{}", stdout(&done));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Waits until a file holds this many bytes, or the process has ended.
fn wait_for(process: &mut Child, journal: &Path, bytes: u64) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while fs::metadata(journal).map_or(0, |data| data.len()) < bytes && process.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "{} doesn't grow to {bytes} bytes", journal.display());
        thread::sleep(Duration::from_millis(1));
    }
}

/// Agents that a process has started: their process numbers.
fn agents_of(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|&number| is_agent(number) && parent_of(number) == Some(parent)).collect()
}

fn parent_of(number: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A zombie has no command line: it no longer counts.
fn is_agent(number: u32) -> bool {
    fs::read(format!("/proc/{number}/cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains("fleetfoot-agent"))
}

#[track_caller]
fn assert_gone(agents: &[u32]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while agents.iter().any(|&agent| is_agent(agent)) {
        assert!(Instant::now() < deadline, "agents {agents:?} stay behind");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The cores that each thread of a process may run on, as Linux writes them.
#[cfg(target_os = "linux")]
fn masks_of_threads(process: u32) -> HashMap<OsString, String> {
    let mask = |status: String| {
        Some(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_owned())
    };
    fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .filter_map(|task| {
            let task = task.unwrap();
            // One that has ended since has no file any more.
            Some((task.file_name(), mask(fs::read_to_string(task.path().join("status")).ok()?)?))
        })
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn every_thread_of_an_agent_is_pinned_and_there_are_as_many_as_said() {
    for (device, threads) in [("local-cpu", 1), ("local-cpu-2threads", 2)] {
        if thread::available_parallelism().unwrap().get() < threads {
            continue;
        }
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("T.csv");
        let rounds = ["--min-rounds", "200", "--max-rounds", "200", "--sitting", "0"];
        let mut process = fleetfoot_process(&profile(device, &path, &rounds)).stderr(Stdio::null()).spawn().unwrap();
        wait_for(&mut process, &journal_of(&path), 20_000);
        let agents = agents_of(process.id());
        assert_eq!(agents.len(), 1);
        let seen: Vec<HashMap<OsString, String>> = iter::repeat_with(|| {
            thread::sleep(Duration::from_millis(10));
            masks_of_threads(agents[0])
        })
        .take(20)
        .collect();
        process.kill().unwrap();
        process.wait().unwrap();
        let cores = |mask: &str| -> usize {
            let range = |range: &str| match range.split_once('-') {
                Some((first, last)) => last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1,
                None => 1,
            };
            mask.split(',').map(range).sum()
        };
        // One pool, whatever the number of models; the main thread is one of its own. Threads that look at the cores come
        // between runs and go.
        let stay: Vec<_> = seen[0].keys().filter(|&task| seen.iter().all(|masks| masks.contains_key(task))).collect();
        assert!((1..=threads + 1).contains(&stay.len()), "{device}: {stay:?} of {seen:?}");
        assert!(seen.iter().flat_map(HashMap::values).all(|mask| cores(mask) <= threads), "{device}: {seen:?}");
        let session: Value = serde_json::from_str(journal_text(&journal_of(&path)).lines().next().unwrap()).unwrap();
        assert_eq!(session["conditions"]["threads"], threads);
    }
}

#[cfg(target_os = "linux")]
#[cfg(unix)]
#[test]
fn networks_that_memory_doesnt_hold_together_are_measured_all_the_same() {
    let folder = TempDir::new().unwrap();
    let [agent, device, table] = ["agent", "small.toml", "T.csv"].map(|name| folder.path().join(name));
    let real = assert_cmd::cargo::cargo_bin("fleetfoot-agent");
    fs::write(&device, format!("transport = \"local\"\nagent = {:?}\n", text(&agent))).unwrap();
    // About 110 MiB of models, of up to 28 MiB.
    let networks = ["k3e3", "k3e6", "k5e6", "k7e6", "proxyless-gpu", "proxyless-cpu", "proxyless-mobile-14"];
    let options = ["--min-rounds", "2", "--max-rounds", "2", "--visit", "1", "--force", "-o", text(&table)];
    let measure = ["measure", "--space", "proxyless-224", "--device", text(&device)];
    // What the program and the runtime take of an address space isn't the same everywhere: the least that is enough for some networks.
    let said = (160..1_000).step_by(40).find_map(|mib| {
        fs::write(&agent, format!("#!/bin/sh\nulimit -v {}\nexec {:?} \"$@\"\n", mib << 10, text(&real))).unwrap();
        Command::new("chmod").arg("755").arg(&agent).status().unwrap();
        let done = fleetfoot(&[&measure[..], &networks, &options].concat()).assert();
        done.get_output().status.success().then(|| stderr(&done))
    });
    let said = said.expect("it is measured somehow");
    assert!(said.contains("its memory doesn't hold more than"), "{said}");
    assert_eq!(Csv::read(&table).rows.len(), networks.len());
}

#[test]
fn the_agent_is_started_anew_behind_every_sitting_and_the_time_of_samples_goes_on() {
    let folder = TempDir::new().unwrap();
    for (sitting, agents) in [("1", 2..=5), ("0", 1..=1)] {
        let path = folder.path().join(format!("{sitting}.csv"));
        let options = with(&["--min-rounds", "5", "--max-rounds", "5"], &["--sitting", sitting]);
        let mut process =
            fleetfoot_process(&profile("local-cpu", &path, &options)).stderr(Stdio::null()).spawn().unwrap();
        let mut seen = HashSet::new();
        while process.try_wait().unwrap().is_none() {
            seen.extend(agents_of(process.id()));
            thread::sleep(Duration::from_millis(5));
        }
        assert!(process.wait().unwrap().success());
        assert!(agents.contains(&seen.len()), "sittings of {sitting} rounds: {} agents", seen.len());
        assert_every_visit_stands_once(&journal_of(&path), 5);
        assert_samples_in_order(&journal_of(&path));
        assert_gone(&seen.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_profile_ends_with_a_line_of_what_it_spent() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("T.csv");
    let started = Instant::now();
    let done = fleetfoot(&profile("local-cpu", &path, &with(&SHORT, &["--json"]))).assert().success();
    let wall = started.elapsed().as_secs_f64();
    let output = stdout(&done);
    let line: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["disturbed_windows", "rows", "samples_taken_again", "seconds_measuring", "seconds_waiting"]);
    assert_eq!(line["rows"], UNITS);
    let seconds = ["seconds_measuring", "seconds_waiting"].map(|key| line[key].as_f64().unwrap());
    assert!(seconds[0] > 0.0 && seconds[1] >= 0.0 && seconds[0] + seconds[1] < wall, "{line} of {wall} s");
    let [again, disturbed] =
        [&line["samples_taken_again"], &line["disturbed_windows"]].map(|count| count.as_u64().unwrap() > 0);
    assert_eq!(again, seconds[1] > 0.0, "{line}");
    // Few rounds count though they were disturbed: there are windows then, and no waiting.
    assert!(disturbed || !again, "{line}");
    assert_eq!(
        fleetfoot(&profile("mock", &path, &["--dry-run", "--json"])).assert().get_output().status.code(),
        Some(2)
    );
}

#[test]
fn a_model_that_has_changed_under_its_name_does_not_go_on_where_the_other_stopped() {
    let folder = TempDir::new().unwrap();
    let [model, output] = ["model.onnx", "M.csv"].map(|name| folder.path().join(name));
    let space = SearchSpace::load("fashion-28").unwrap();
    let onnx = |name: &str| {
        let network = space.network(&space.resolve(name).unwrap().1).unwrap();
        Subject::of_network(name.to_owned(), &network).unwrap().onnx
    };
    fs::write(&model, onnx("k3e3")).unwrap();
    let measure = with(&["measure", "--onnx", text(&model), "-o", text(&output)], &SHORT);
    fleetfoot(&measure).assert().success();
    fleetfoot(&with(&measure, &["--resume"])).assert().success();
    fs::write(&model, onnx("k7e6")).unwrap();
    let message = fails_in_one_line(fleetfoot(&with(&measure, &["--resume"])));
    assert!(message.contains("models have changed") && message.contains("--force"), "{message}");
}

/// Whole lines of a journal: what a kill must not take away.
fn whole_lines(journal: &Path) -> Vec<u8> {
    let mut bytes = fs::read(journal).unwrap_or_default();
    bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |index| index + 1));
    bytes
}

/// Starts a profile, kills it where its journal has so many bytes, and again, then lets it end. Whether all kills came
/// before the end isn't asserted: what is asserted holds either way. No line that was whole is lost. Returns the table.
fn killed_and_resumed(folder: &TempDir, device: &str, options: &[&str], kills: &[u64]) -> PathBuf {
    let path = folder.path().join("killed.csv");
    let options = with(options, &["--resume"]);
    let mut kept = Vec::new();
    for &bytes in kills {
        let mut command = fleetfoot_process(&profile(device, &path, &options));
        let mut process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for(&mut process, &journal_of(&path), bytes);
        let agents = agents_of(process.id());
        let _ = process.kill();
        process.wait().unwrap();
        assert_gone(&agents);
        let whole = whole_lines(&journal_of(&path));
        assert!(whole.starts_with(&kept), "a line is lost behind the kill at {bytes} bytes");
        kept = whole;
    }
    fleetfoot(&profile(device, &path, &options)).assert().success();
    assert!(journal_text(&journal_of(&path)).as_bytes().starts_with(&kept));
    assert_complete(&Csv::read(&path));
    path
}

/// A simulated profile that nobody kills, long enough that rounds are judged sparsely: table, the journal's lines, and its
/// file, in which they are compressed.
struct Unkilled {
    table: Vec<u8>,
    lines: Vec<u8>,
    journal: Vec<u8>,
}

fn unkilled(folder: &TempDir, options: &[&str]) -> Unkilled {
    let path = folder.path().join("unkilled.csv");
    fleetfoot(&profile("mock", &path, options)).assert().success();
    let journal = fs::read(journal_of(&path)).unwrap();
    let lines = journal_text(&journal_of(&path)).into_bytes();
    assert!(4 * journal.len() < lines.len(), "{} bytes of {} bytes of lines", journal.len(), lines.len());
    Unkilled { table: fs::read(&path).unwrap(), lines, journal }
}

#[track_caller]
fn assert_byte_equal(table: &Path, unkilled: &Unkilled, what: &str) {
    assert!(fs::read(table).unwrap() == unkilled.table, "{what}: the table differs");
    assert!(fs::read(journal_of(table)).unwrap() == unkilled.journal, "{what}: the journal differs");
}

const LONG: [&str; 6] = ["--min-rounds", "48", "--max-rounds", "48", "--seed", "7"];

#[test]
fn a_killed_simulation_ends_with_the_same_bytes() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let folder = TempDir::new().unwrap();
    let unkilled = unkilled(&folder, &LONG);
    for _ in 0..3 {
        let folder = TempDir::new().unwrap();
        let mut kills: Vec<u64> = (0..4).map(|_| rng.random_range(0..unkilled.lines.len() as u64)).collect();
        kills.sort_unstable();
        let path = killed_and_resumed(&folder, "mock", &LONG, &kills);
        assert_byte_equal(&path, &unkilled, &format!("killed at {kills:?}"));
    }
}

#[test]
fn a_profile_stops_when_its_time_is_over_and_goes_on_with_more() {
    let folder = TempDir::new().unwrap();
    let limited = with(&LONG, &["--max-time", "2"]);
    let path = folder.path().join("unkilled.csv");
    let done = fleetfoot(&profile("mock", &path, &limited)).assert().success();
    assert!(stderr(&done).contains("2 s of --max-time"), "{}", stderr(&done));
    let last = |path: &Path| records(&journal_of(path)).1.last().copied().unwrap();
    let stopped = last(&path);
    assert!((8..40).contains(&stopped), "{stopped} rounds");
    assert!(fs::read_to_string(&path).unwrap().contains("48 to 48 rounds, at most 2 s"));
    let unkilled = unkilled(&TempDir::new().unwrap(), &limited);
    let other = TempDir::new().unwrap();
    let kills = [1, 2].map(|third| third * unkilled.lines.len() as u64 / 3);
    assert_byte_equal(&killed_and_resumed(&other, "mock", &limited, &kills), &unkilled, "killed and out of time");

    fleetfoot(&profile("mock", &path, &with(&LONG, &["--max-time", "4", "--resume"]))).assert().success();
    assert!((stopped + 1..48).contains(&last(&path)), "{stopped}, then {} rounds", last(&path));
    fleetfoot(&profile("mock", &path, &with(&LONG, &["--resume"]))).assert().success();
    assert_eq!(last(&path), 48);
    let short = TempDir::new().unwrap().path().join("short.csv");
    fleetfoot(&profile("mock", &short, &with(&LONG, &["--max-time", "-1"]))).assert().code(2);
}

/// The kernel writes up to a file-size limit and ends the process that writes on: a death within a line, at that very byte.
#[cfg(target_os = "linux")]
#[test]
fn a_death_at_any_byte_of_the_journal_leaves_the_same_bytes_in_the_end() {
    let whole = TempDir::new().unwrap();
    let unkilled = unkilled(&whole, &LONG);
    let (length, header) = (unkilled.lines.len(), unkilled.lines.iter().position(|&byte| byte == b'\n').unwrap());
    let mut torn = 0;
    for seed in 0..24 {
        let mut rng = ChaCha8Rng::seed_from_u64(100 + seed);
        let mut deaths: Vec<usize> = (0..rng.random_range(1..4)).map(|_| rng.random_range(1..length)).collect();
        if seed < 4 {
            // The header's own bytes are few, and the last line is one of many.
            deaths.push([1, header, header + 1, length - 1][seed as usize]);
        }
        deaths.sort_unstable();
        deaths.dedup();
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("T.csv");
        let resume = profile("mock", &path, &with(&LONG, &["--resume"])).join(" ");
        for &bytes in &deaths {
            let program = fleetfoot_process(&[]).get_program().to_owned();
            let mut limited = Command::new("prlimit");
            limited.args([&format!("--fsize={bytes}"), "--core=0", "--"]).arg(program).args(resume.split(' '));
            let status = limited.stdin(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            assert!(!status.success(), "seed {seed}: it doesn't die at byte {bytes}");
            let left = fs::read(journal_of(&path)).unwrap();
            assert!(
                left == unkilled.lines[..bytes],
                "seed {seed}: what is left at byte {bytes} isn't what was written"
            );
            torn += usize::from(left.last() != Some(&b'\n'));
            assert!(!path.exists(), "no table of an unfinished profile");
        }
        fleetfoot(&profile("mock", &path, &with(&LONG, &["--resume"]))).assert().success();
        assert_byte_equal(&path, &unkilled, &format!("seed {seed}, died at {deaths:?}"));
    }
    assert!(torn >= 20, "{torn} deaths within a line");
}

#[test]
fn a_measurement_killed_five_times_goes_on_with_every_visit_once() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut kills: Vec<u64> = (0..5).map(|_| rng.random_range(0..150_000)).collect();
    kills.sort_unstable();
    let folder = TempDir::new().unwrap();
    let path = killed_and_resumed(&folder, "local-cpu", &SHORT, &kills);
    assert_every_visit_stands_once(&journal_of(&path), 6);
    assert_samples_in_order(&journal_of(&path));
}

/// Over all agents that took part, the campaign's time goes on and no two samples overlap.
#[track_caller]
fn assert_samples_in_order(journal: &Path) {
    let (mut end, mut last_ms) = (0, 0);
    for visit in records(journal).0 {
        let unix_ms = visit["unix_ms"].as_u64().unwrap();
        assert!(unix_ms >= last_ms, "{unix_ms} behind {last_ms}");
        last_ms = unix_ms;
        for (index, sample) in visit["samples"].as_array().unwrap().iter().enumerate() {
            let gap = sample[0].as_u64().expect("no sample begins before the one in front ends");
            let at = if index == 0 { gap } else { end + gap };
            assert!(at >= end, "a visit starts at {at}, the one in front ends at {end}");
            end = at + sample[1].as_u64().unwrap();
        }
    }
}

/// A finished simulation: its table's path and its journal's lines.
fn simulated(folder: &TempDir) -> (PathBuf, Vec<u8>) {
    let path = folder.path().join("whole.csv");
    fleetfoot(&profile("mock", &path, &SHORT)).assert().success();
    let journal = journal_text(&journal_of(&path)).into_bytes();
    (path, journal)
}

/// What `--resume` makes of a journal.
fn resumed(folder: &TempDir, name: &str, journal: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(journal_of(&path), journal).unwrap();
    fleetfoot(&profile("mock", &path, &with(&SHORT, &["--resume"]))).assert().success();
    path
}

#[test]
fn a_journal_cut_anywhere_is_mended_by_resuming() {
    let folder = TempDir::new().unwrap();
    let (path, journal) = simulated(&folder);
    let (whole, compressed) = (fs::read(&path).unwrap(), fs::read(journal_of(&path)).unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let header = journal.iter().position(|&byte| byte == b'\n').unwrap();
    let edges = [0, 1, header, header + 1, header + 2, journal.len() - 1, journal.len()];
    let cuts: Vec<usize> = edges.into_iter().chain((0..20).map(|_| rng.random_range(0..journal.len()))).collect();
    for cut in cuts {
        let path = resumed(&folder, &format!("cut-{cut}.csv"), &journal[..cut]);
        assert!(fs::read(journal_of(&path)).unwrap() == compressed, "cut at {cut}: the journal differs");
        assert!(fs::read(&path).unwrap() == whole, "cut at {cut}: the table differs");
    }
}

#[test]
fn a_compressed_journal_is_gone_on_with_wherever_it_is_cut() {
    let folder = TempDir::new().unwrap();
    let (path, _) = simulated(&folder);
    let (whole, journal) = (fs::read(&path).unwrap(), fs::read(journal_of(&path)).unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let cuts = [2, 10, journal.len() - 1, journal.len()];
    for cut in cuts.into_iter().chain((0..6).map(|_| rng.random_range(2..journal.len()))) {
        let path = resumed(&folder, &format!("cut-{cut}.csv"), &journal[..cut]);
        assert!(fs::read(journal_of(&path)).unwrap() == journal, "cut at {cut}: the journal differs");
        assert!(fs::read(&path).unwrap() == whole, "cut at {cut}: the table differs");
    }
    // A damaged one isn't taken for a cut one.
    let mut damaged = journal.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 20].iter_mut().for_each(|byte| *byte ^= 0x55);
    let message = refused(&folder, &damaged, &SHORT);
    assert!(message.contains("refused.csv.journal") && message.contains("damaged"), "{message}");
}

#[test]
fn half_a_line_behind_a_finished_journal_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let (path, mut journal) = simulated(&folder);
    journal.extend_from_slice(br#"{"round":7,"subject":3,"batch":16,"unix_ms":17955"#);
    let mended = resumed(&folder, "torn.csv", &journal);
    assert_eq!(Csv::read(&mended).rows, Csv::read(&path).rows);
    assert_every_visit_stands_once(&journal_of(&mended), 6);
}

/// The one line with which resuming is refused; the journal stays as it is.
#[track_caller]
fn refused(folder: &TempDir, journal: &[u8], options: &[&str]) -> String {
    let path = folder.path().join("refused.csv");
    fs::write(journal_of(&path), journal).unwrap();
    let message = fails_in_one_line(fleetfoot(&profile("mock", &path, &with(options, &["--resume"]))));
    assert_eq!(fs::read(journal_of(&path)).unwrap(), journal, "a refused journal is left alone");
    assert!(!path.exists());
    message
}

#[test]
fn a_line_broken_in_the_middle_of_a_journal_is_an_error_that_names_it() {
    let folder = TempDir::new().unwrap();
    let (_, journal) = simulated(&folder);
    let lines: Vec<&[u8]> = journal.split_inclusive(|&byte| byte == b'\n').collect();
    for (index, broken) in [(1, &b"{\"round\":0,\"sub\n"[..]), (40, b"\xff\xfe\x00\n"), (100, b"[]\n"), (0, b"{}\n")] {
        let mut lines = lines.clone();
        lines[index] = broken;
        let message = refused(&folder, &lines.concat(), &SHORT);
        assert!(message.contains(&format!("line {}:", index + 1)) && message.contains("refused.csv"), "{message}");
    }
}

#[test]
fn a_journal_of_another_seed_space_or_condition_is_refused() {
    let folder = TempDir::new().unwrap();
    let (_, journal) = simulated(&folder);
    let seed = refused(&folder, &journal, &with(&SHORT, &["--seed", "5"]));
    assert!(seed.contains("seed 0 against 5"), "{seed}");
    let sitting = refused(&folder, &journal, &with(&SHORT, &["--sitting", "3"]));
    assert!(sitting.contains("sittings of 2 rounds against 3"), "{sitting}");
    let statistic = refused(&folder, &journal, &with(&SHORT, &["--statistic", "min"]));
    assert!(statistic.contains("statistic: 'median' against 'min'"), "{statistic}");
    let text = String::from_utf8(journal).unwrap();
    let space = text.replacen(r#""space":"fashion-28""#, r#""space":"cifar-32""#, 1);
    let space = refused(&folder, space.as_bytes(), &SHORT);
    assert!(space.contains("'cifar-32' against 'fashion-28'"), "{space}");
    let cpu = text.replacen(r#""cpu":"simulation""#, r#""cpu":"another one""#, 1);
    let cpu = refused(&folder, cpu.as_bytes(), &SHORT);
    assert!(cpu.contains("cpu: 'another one' against 'simulation'"), "{cpu}");
}

#[test]
fn a_journal_of_hostile_bytes_never_makes_a_panic() {
    let folder = TempDir::new().unwrap();
    let (_, journal) = simulated(&folder);
    let path = folder.path().join("hostile.csv");
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut journals: Vec<Vec<u8>> = (0..40)
        .map(|_| {
            let mut bytes = journal.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            bytes
        })
        .collect();
    let header = journal.split_inclusive(|&byte| byte == b'\n').next().unwrap();
    for visits in [
        r#"{"round":0,"subject":0,"batch":1,"unix_ms":0,"samples":[]}"#,
        r#"{"round":6,"subject":0,"batch":1,"unix_ms":0,"samples":[]}"#,
        r#"{"round":0,"subject":0,"batch":1,"unix_ms":0,"samples":[[0,0,0]]}"#,
        r#"{"round":0,"subject":0,"batch":1,"unix_ms":0,"samples":[[0,18446744073709551615,0]]}"#,
        r#"{"round":1,"subject":0,"batch":4294967295,"unix_ms":0,"samples":[[18446744073709551615,1,18446744073709551615]]}"#,
        r#"{"round":4294967295,"subject":53,"batch":1,"unix_ms":18446744073709551615,"samples":[[0,0,0]]}"#,
        r#"{"round":1,"subject":54,"batch":1,"unix_ms":0,"samples":[[0,1,1]]}"#,
        r#"{"round":1,"subject":1,"batch":0,"unix_ms":0,"samples":[[0,1,1]]}"#,
        r#"{"round":-1,"subject":1,"batch":1,"unix_ms":0,"samples":[[0,1,1]]}"#,
    ] {
        journals.push([header, visits.as_bytes(), b"\n"].concat());
    }
    for journal in journals {
        fs::write(journal_of(&path), &journal).unwrap();
        let done = fleetfoot(&profile("mock", &path, &with(&SHORT, &["--resume"]))).assert();
        let code = done.get_output().status.code();
        assert!(matches!(code, Some(0 | 1)) && !stderr(&done).contains("panicked"), "{code:?}: {}", stderr(&done));
        assert_eq!(path.exists(), code == Some(0));
        let _ = fs::remove_file(&path);
    }
}

#[test]
fn an_interrupted_measurement_ends_its_agent_and_says_how_to_go_on() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("T.csv");
    let rounds = ["--min-rounds", "500", "--max-rounds", "500", "--sitting", "0"];
    let mut command = fleetfoot_process(&profile("local-cpu", &path, &rounds));
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&mut process, &journal_of(&path), 20_000);
    let agents = agents_of(process.id());
    assert_eq!(agents.len(), 1, "one agent at work");
    assert!(Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap().success());
    let output = process.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(message.contains("--resume") && message.contains("interrupted"), "{message}");
    assert_gone(&agents);
    assert!(!path.exists(), "no table of an interrupted measurement");
    let before = records(&journal_of(&path)).0.len();
    assert!(before > 0);
    let done =
        fleetfoot(&profile("local-cpu", &path, &with(&SHORT, &["--sitting", "0", "--resume"]))).assert().success();
    assert!(stderr(&done).contains(&format!("{before} visits")), "{}", stderr(&done));
    assert_complete(&Csv::read(&path));
}

#[test]
fn whole_networks_are_measured_to_standard_output() {
    let architectures = ["measure", "--space", "fashion-28", "k3e3", "k3e6", "6606606606"];
    let done = fleetfoot(&with(&architectures, &SHORT)).assert().success();
    let measured = Csv::parse(&stdout(&done));
    assert_eq!(measured.header, ["architecture", "latency_ms", "low_ms", "high_ms", "n"]);
    assert_eq!(measured.texts("architecture"), ["0000000000", "1111111111", "6606606606"]);
    assert_eq!(measured.provenance["context"], "warm");
    let [low, latency, high] = ["low_ms", "latency_ms", "high_ms"].map(|column| measured.numbers(column));
    for row in 0..3 {
        assert!(low[row] <= latency[row] && latency[row] <= high[row]);
    }
    assert!(measured.numbers("n").iter().all(|&samples| samples >= 6.0));
    assert!(latency[2] < latency[0] && latency[0] < latency[1], "shallowest < k3e3 < k3e6: {latency:?}");
}

#[test]
fn a_model_that_is_garbage_is_an_error_that_names_the_file() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("garbage.onnx");
    for garbage in [&b""[..], b"this is no model", &[0xff; 1000]] {
        fs::write(&model, garbage).unwrap();
        let message = fails_in_one_line(fleetfoot(&["measure", "--onnx", text(&model)]));
        assert!(message.contains("garbage.onnx") && message.contains("local-cpu"), "{message}");
    }
    // Nothing was measured: no journal is left, and no --resume is advised.
    let out = folder.path().join("out.csv");
    let message = fails_in_one_line(fleetfoot(&["measure", "--onnx", text(&model), "-o", text(&out)]));
    assert!(!message.contains("--resume"), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let message = fails_in_one_line(fleetfoot(&["measure", "--onnx", "/nowhere/at-all.onnx"]));
    assert!(message.contains("/nowhere/at-all.onnx"), "{message}");
}

#[test]
fn the_local_processor_is_ready() {
    let done = fleetfoot(&["devices", "--json"]).assert().success();
    let devices: Vec<Value> = serde_json::from_str(&stdout(&done)).unwrap();
    let local = devices.iter().find(|device| device["name"] == "local-cpu").expect("local-cpu ships");
    assert_eq!(local["state"], "ready", "{local}; runtime of this checkout: {:?}", own_runtime());
    assert!(local["runtime"].as_str().unwrap().starts_with("ONNX Runtime 1."));
}
