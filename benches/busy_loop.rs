//! Whether a profile notices somebody else on the machine: busy loops of random start and length, by seed, on the core that
//! measures, on another one, and on all, while `fleetfoot profile` runs. One JSON line a scenario: how many of the
//! samples within the loops and without them were left aside, by how much the machine was slower within (a loop elsewhere
//! may harm nothing), and how far the table, and the core's pace (dependent operations, independent ones), is from that of
//! the quiet run. Real machines are disturbed by others, too: a false alarm is a sample without a loop that was left aside
//! though its own visit was as fast as those to the same network that count.
//! `make bench-busy` runs it; `FLEETFOOT_BENCH_SPACE` names another space, `FLEETFOOT_BENCH_DEVICE` another local device,
//! `FLEETFOOT_BENCH_FOLDER` a folder that keeps the tables and journals. What that folder holds already isn't measured again: the
//! profiles are judged again from their journals, by the program as it is now.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use fleetfoot_profiler::{Comparison, Course, Journal, LatencyTable, Visit, median, paces_apart};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// Seconds that a loop lasts, and that pass between two.
const LENGTHS: (f64, f64) = (0.2, 5.0);
const PAUSES: (f64, f64) = (0.5, 6.0);

/// A visit below this, over what is usual, was as fast as usual.
const USUAL: f64 = 1.02;

/// Stretches in which busy loops ran, in ms of Unix time; the first of each pair is the start.
type Windows = Vec<(f64, f64)>;

fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::var_os("FLEETFOOT_BENCH_FOLDER").map_or(temporary.path().to_owned(), PathBuf::from);
    let all: Vec<usize> = (0..thread::available_parallelism()?.get()).collect();
    // What is kept is of one space on one device.
    let (space, device) =
        (environment("FLEETFOOT_BENCH_SPACE", "fashion-28"), environment("FLEETFOOT_BENCH_DEVICE", "local-cpu"));
    let device_name = Path::new(&device).file_stem().map_or(device.clone(), |stem| stem.to_string_lossy().into_owned());
    let folder = folder.join(format!("{space}.{device_name}"));
    std::fs::create_dir_all(&folder)?;
    let quiet = folder.join("quiet.csv");
    let (windows, cores) = profile(&quiet, &[], 0)?;
    report("quiet", &quiet, &quiet, &windows)?;
    let others: Vec<usize> = all.iter().copied().filter(|core| !cores.contains(core)).take(1).collect();
    for (seed, (name, busy)) in
        [("measuring core", &cores), ("another core", &others), ("all cores", &all)].iter().enumerate()
    {
        if busy.is_empty() {
            eprintln!("{name}: this machine has none");
            continue;
        }
        let path = folder.join(format!("{seed}.csv"));
        let (windows, _) = profile(&path, busy, seed as u64 + 1)?;
        report(name, &path, &quiet, &windows)?;
    }
    Ok(())
}

fn environment(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn journal_of(table: &Path) -> PathBuf {
    table.with_extension("csv.journal")
}

/// Profiles with loops on these cores now and then, or judges again: when the loops ran, and the cores that measured.
fn profile(table: &Path, busy: &[usize], seed: u64) -> Result<(Windows, Vec<usize>)> {
    let kept = table.with_extension("loops.json");
    let windows = if kept.exists() {
        let fleetfoot = Command::new(env!("CARGO_BIN_EXE_fleetfoot"))
            .args(["table", "--statistic", "median", "--force", "--output"])
            .args([table, table])
            .stderr(Stdio::null())
            .status()?;
        ensure!(fleetfoot.success(), "fleetfoot table failed on {}", table.display());
        serde_json::from_slice(&std::fs::read(&kept)?)?
    } else {
        let windows = measure(table, busy, seed)?;
        std::fs::write(&kept, serde_json::to_vec(&windows)?)?;
        windows
    };
    let (header, _) = Journal::read(&journal_of(table))?;
    let cores = header.conditions.cores.split_whitespace().map(str::parse);
    Ok((windows, cores.collect::<Result<_, _>>().context("the journal's cores")?))
}

/// Profiles with loops on these cores now and then: when they ran.
fn measure(table: &Path, busy: &[usize], seed: u64) -> Result<Windows> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut profile = Command::new(env!("CARGO_BIN_EXE_fleetfoot"))
        .args(["profile", "--space", &environment("FLEETFOOT_BENCH_SPACE", "fashion-28")])
        .args(["--device", &environment("FLEETFOOT_BENCH_DEVICE", "local-cpu"), "--force", "--output"])
        .arg(table)
        .stderr(Stdio::null())
        .spawn()?;
    let mut windows = Vec::new();
    while !ends_within(&mut profile, rng.random_range(PAUSES.0..PAUSES.1))? {
        if busy.is_empty() {
            continue;
        }
        let start = now_ms();
        let mut loops = busy.iter().map(|core| busy_loop(*core)).collect::<Result<Vec<_>>>()?;
        let started = now_ms();
        let ended = ends_within(&mut profile, rng.random_range(LENGTHS.0..LENGTHS.1))?;
        let end = now_ms();
        loops.iter_mut().try_for_each(|child| child.kill().and_then(|()| child.wait().map(drop)))?;
        ensure!(started - start < 1000.0, "a busy loop took {} ms to start", started - start);
        windows.push((started, end));
        if ended {
            break;
        }
    }
    ensure!(profile.wait()?.success(), "fleetfoot profile failed");
    Ok(windows)
}

fn busy_loop(core: usize) -> Result<Child> {
    let loops = Command::new("taskset").args(["-c", &core.to_string(), "sh", "-c", "while :; do :; done"]).spawn();
    loops.context("taskset (of util-linux) pins the busy loops")
}

fn ends_within(process: &mut Child, seconds: f64) -> Result<bool> {
    let end = now_ms() + 1000.0 * seconds;
    while now_ms() < end {
        if process.try_wait()?.is_some() {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}

fn report(scenario: &str, path: &Path, quiet: &Path, windows: &Windows) -> Result<()> {
    let (header, records) = Journal::read(&journal_of(path))?;
    let course = Course::recall(&header, records.clone())?;
    let visits: Vec<&Visit> = records.visits.iter().filter(|visit| visit.round > 0).collect();
    let time = |visit: &Visit| median(visit.samples.iter().map(|sample| sample.wall_ns as f64)).unwrap_or(f64::NAN);
    // What each subject's visits that count took.
    let mut counted: HashMap<u32, Vec<f64>> = HashMap::new();
    for (visit, _) in visits.iter().zip(course.moments()).filter(|(_, moment)| !moment.disturbed) {
        counted.entry(visit.subject).or_default().push(time(visit));
    }
    let counted: HashMap<u32, f64> =
        counted.into_iter().filter_map(|(subject, times)| Some((subject, median(times)?))).collect();
    // Left aside and all, within the loops, without, and without them and as fast as usual.
    let (mut within, mut without, mut usual) = ([0u32; 2], [0u32; 2], 0);
    let mut slower = Vec::new();
    for (visit, moment) in visits.iter().zip(course.moments()) {
        let is_usual = counted.get(&visit.subject).is_some_and(|usual| time(visit) < USUAL * usual);
        for (sample, is_counted) in visit.samples.iter().zip(course.counted(&visit.samples)) {
            let began_ms = visit.unix_ms as f64 - visit.samples[0].at_ns as f64 / 1e6;
            let start = began_ms + sample.at_ns as f64 / 1e6;
            let end = start + sample.wall_ns as f64 / 1e6;
            let counts = if windows.iter().any(|(from, to)| *from <= start && end <= *to) {
                slower.extend(moment.slower);
                &mut within
            } else if windows.iter().all(|(from, to)| end < *from - 50.0 || *to + 50.0 < start) {
                usual += u32::from(moment.disturbed && is_usual);
                &mut without
            } else {
                // At an edge: the loops' start and end are known to some milliseconds only.
                continue;
            };
            counts[0] += u32::from(moment.disturbed || !is_counted);
            counts[1] += 1;
        }
    }
    let slower = median(slower).map(|slower| 100.0 * (slower - 1.0));
    let percent = |counts: [u32; 2]| (counts[1] > 0).then(|| 100.0 * f64::from(counts[0]) / f64::from(counts[1]));
    let (quiet, table) = (LatencyTable::read(quiet)?.0, LatencyTable::read(path)?.0);
    let comparison = Comparison::new(&quiet, &table);
    let spent = course.spent();
    let line = json!({
        "scenario": scenario, "loops": windows.len(),
        "busy_seconds": windows.iter().map(|(from, to)| (to - from) / 1000.0).sum::<f64>(),
        "samples_within": within[1], "detected_percent": percent(within), "slower_within_percent": slower,
        "samples_without": without[1], "left_aside_percent": percent(without),
        "false_alarms_percent": percent([usual, without[1]]),
        "seconds_measuring": spent.seconds_measuring, "seconds_waiting": spent.seconds_waiting,
        "median_abs_percent": comparison.abs_percent(0.5), "p95_abs_percent": comparison.abs_percent(0.95),
        "pace_percent": paces_apart(quiet.provenance.pace(), table.provenance.pace()),
    });
    #[allow(clippy::print_stdout)] // its output is data
    {
        println!("{line}");
    }
    Ok(())
}
