//! More than the median: tails, sustained speed, throughput, memory, energy; as columns of networks, and as what a table is
//! of.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Csv, fails_in_one_line, fleetfoot, journal_text, refused_as_usage, stderr, stdout, text};
use serde_json::Value;
use tempfile::TempDir;

const ROUNDS: [&str; 4] = ["--min-rounds", "8", "--max-rounds", "8"];

fn measured(folder: &TempDir, options: &[&str]) -> (PathBuf, Csv) {
    let path = folder.path().join("M.csv");
    let measure = ["measure", "--space", "fashion-28", "--device", "mock", "--random", "4", "-o", text(&path)];
    fleetfoot(&[&measure[..], &ROUNDS, options].concat()).assert().success();
    let csv = Csv::read(&path);
    (path, csv)
}

fn table(folder: &TempDir, name: &str, options: &[&str]) -> PathBuf {
    let path = folder.path().join(name);
    let profile = ["profile", "--space", "fashion-28", "--device", "mock", "-o", text(&path)];
    fleetfoot(&[&profile[..], options].concat()).assert().success();
    path
}

/// A simulated network's model in bytes, from the simulation's latency: 2 µs and a nanosecond for every 4 bytes.
fn bytes(latency_ms: f64) -> f64 {
    4.0 * (1e6 * latency_ms - 2000.0)
}

#[test]
fn networks_are_told_with_their_throughput_memory_and_energy() {
    let folder = TempDir::new().unwrap();
    let also = ["--also", "throughput,memory,energy", "--batch", "4"];
    let (path, csv) = measured(&folder, &also);
    let latencies = csv.numbers("latency_ms");
    for (index, latency) in latencies.iter().enumerate() {
        let near = |column: &str, wanted: f64| {
            let got = csv.numbers(column)[index];
            assert!((got / wanted - 1.0).abs() < 0.01, "{column}: {got} for {wanted}");
        };
        near("images_per_s", 4000.0 / latency);
        // The simulation's process has 10 MiB and its model twice; it takes 2 W.
        near("memory_mib", 10.0 + 2.0 * bytes(*latency) / f64::from(1 << 20));
        near("energy_mj", 2.0 * latency);
    }
    assert!(csv.provenance["empty_graph_memory_mib"].starts_with("10.0"), "{:?}", csv.provenance);
    // What was read stands in a journal of its own, from which a killed run goes on.
    let journal = folder.path().join("M.csv.usage.journal");
    let whole = journal_text(&journal);
    let (before, compressed) = (fs::read(&path).unwrap(), fs::read(&journal).unwrap());
    for cut in [whole.len() / 3, whole.len() - 4] {
        fs::write(&journal, &whole[..cut]).unwrap();
        fs::remove_file(&path).unwrap();
        let measure = ["measure", "--space", "fashion-28", "--device", "mock", "--random", "4", "-o", text(&path)];
        fleetfoot(&[&measure[..], &ROUNDS, &also, &["--resume"]].concat()).assert().success();
        assert_eq!(fs::read(&path).unwrap(), before);
        assert!(fs::read(&journal).unwrap() == compressed, "cut at {cut}: the journal differs");
    }
}

#[test]
fn a_long_run_s_last_half_minute_is_held_against_its_first() {
    let folder = TempDir::new().unwrap();
    let (path, csv) = measured(&folder, &["--sustained", "70"]);
    for ((first, last), ratio) in
        csv.numbers("first_ms").iter().zip(csv.numbers("sustained_ms")).zip(csv.numbers("sustained_ratio"))
    {
        assert!((last / first - ratio).abs() < 1e-9 && (ratio - 1.0).abs() < 0.01, "a simulation never gets hot");
    }
    // A run that was cut is run again from its beginning, whole ones aren't.
    let journal = folder.path().join("M.csv.sustained.journal");
    let whole = journal_text(&journal);
    let visits = |text: &str| text.lines().filter(|line| line.starts_with("{\"round\"")).count();
    let cut: String = whole.split_inclusive('\n').take(visits(&whole) * 3 / 8).collect();
    fs::write(&journal, &cut).unwrap();
    let before = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let measure = ["measure", "--space", "fashion-28", "--device", "mock", "--random", "4", "-o", text(&path)];
    fleetfoot(&[&measure[..], &ROUNDS, &["--sustained", "70", "--resume"]].concat()).assert().success();
    assert_eq!(fs::read(&path).unwrap(), before);
    let again = journal_text(&journal);
    assert!(again.starts_with(&cut) && visits(&again) > visits(&whole), "the second's cut run and a whole one");
    let message = stderr(
        &fleetfoot(&["measure", "--space", "fashion-28", "--random", "1", "--sustained", "59"]).assert().code(2),
    );
    assert!(message.contains("--sustained"), "{message}");
}

#[test]
fn a_busy_device_s_table_says_so_and_is_verified_busy() {
    let folder = TempDir::new().unwrap();
    let [rested, busy] = [("R.csv", vec![]), ("B.csv", vec!["--soak", "60"])]
        .map(|(name, soak)| table(&folder, name, &[&ROUNDS[..], &soak[..]].concat()));
    let csv = Csv::read(&busy);
    assert_eq!(
        (csv.provenance["soak_seconds"].as_str(), csv.provenance["soak_slower_percent"].as_str()),
        ("60", "0.00")
    );
    let journal = journal_text(&folder.path().join("B.csv.journal"));
    let soaks: Vec<Value> = journal
        .lines()
        .filter(|line| line.starts_with("{\"soak\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(soaks.len() == 1 && soaks[0]["soak"]["seconds"].as_f64().unwrap() >= 59.0, "{soaks:?}");
    assert!(stderr(&fleetfoot(&["compare", text(&rested), text(&busy)]).assert().success()).contains("soak_seconds"));
    fleetfoot(&[&["verify", text(&busy)][..], &ROUNDS].concat()).assert().success();
    let evaluate = ["evaluate", "--space", "fashion-28", "--device", "mock", "--networks", "3", "--table", text(&busy)];
    fleetfoot(&[&evaluate[..], &ROUNDS].concat()).assert().success();
}

#[test]
fn tails_take_as_many_samples_as_they_need() {
    let folder = TempDir::new().unwrap();
    let (_, csv) = measured(&folder, &["--statistic", "p99"]);
    assert!(csv.numbers("n").iter().all(|&n| n >= 100.0), "{:?}", csv.numbers("n"));
    let (median, tails) = (measured(&folder, &["--force"]).1.numbers("latency_ms"), csv.numbers("latency_ms"));
    // The simulation's noise is 1 % to either side.
    assert!(median.iter().zip(&tails).all(|(median, p99)| (1.005..1.012).contains(&(p99 / median))), "{tails:?}");
    let few =
        table(&folder, "T.csv", &["--min-rounds", "6", "--max-rounds", "6", "--visit", "0.1", "--context", "cold"]);
    let message = fails_in_one_line(fleetfoot(&["table", text(&few), "--statistic", "p99"]));
    assert!(message.contains("p99 needs 100"), "{message}");
    let message = stderr(&fleetfoot(&["table", text(&few), "--statistic", "p95"]).assert().code(2));
    assert!(message.contains("p90 or p99"), "{message}");
}

#[test]
fn a_table_may_be_of_memory_or_energy() {
    let folder = TempDir::new().unwrap();
    let [memory, energy] = ["memory", "energy"].map(|cost| table(&folder, &format!("{cost}.csv"), &["--cost", cost]));
    for (path, unit, cost) in [(&memory, "mib", "memory"), (&energy, "mj", "energy")] {
        let csv = Csv::read(path);
        assert_eq!((csv.provenance["cost"].as_str(), csv.provenance["context"].as_str()), (cost, "network"));
        assert_eq!(csv.rows.len(), 45);
        let columns = ["{cost}_", "low_", "high_"].map(|name| format!("{}{unit}", name.replace("{cost}", cost)));
        let [amounts, lows, highs] = columns.each_ref().map(|column| csv.numbers(column));
        assert!(
            amounts.iter().zip(lows.iter().zip(&highs)).all(|(amount, (low, high))| low <= amount && amount <= high)
        );
        // Held against networks, predicted, found near a budget, verified.
        let output = folder.path().join(format!("{cost}.json"));
        let evaluate = ["evaluate", "--space", "fashion-28", "--device", "mock", "--networks", "12", "--json"];
        let of = ["--table", text(path), "-o", text(&output)];
        let told: Value =
            serde_json::from_str(&stdout(&fleetfoot(&[&evaluate[..], &of].concat()).assert().success())).unwrap();
        assert!(told["rmspe_percent"].as_f64().unwrap() < 2.0, "{told}");
        let points: Value = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
        let measured = points["points"][0][format!("measured_{unit}")].as_f64().unwrap();
        let near = format!("{measured}{}", if unit == "mib" { "MiB" } else { "mJ" });
        let predict = ["predict", "--space", "fashion-28", "--table", text(path), "--random", "2", "--near", &near];
        let predicted = Csv::parse(&stdout(&fleetfoot(&predict).assert().success())).numbers(&columns[0]);
        assert!(predicted.iter().all(|amount| (amount / measured - 1.0).abs() < 0.021), "{predicted:?}");
        let verified = fleetfoot(&["verify", text(path)]).assert().success();
        assert!(stderr(&verified).contains("is still true"), "{}", stderr(&verified));
        let message = fails_in_one_line(fleetfoot(&["table", text(path), "--statistic", "min"]));
        assert!(message.contains("only latencies have one"), "{message}");
    }
    assert!(fails_in_one_line(fleetfoot(&["compare", text(&memory), text(&energy)])).contains("one cost"));
    let predict = ["predict", "--space", "fashion-28", "--table", text(&memory), "--random", "1", "--near", "1ms"];
    assert!(fails_in_one_line(fleetfoot(&predict)).contains("give a budget in MiB"));
}

#[test]
fn what_is_no_table_of_a_cost_is_refused() {
    let folder = TempDir::new().unwrap();
    let memory = table(&folder, "memory.csv", &["--cost", "memory"]);
    let profile = ["profile", "--space", "fashion-28", "--device", "mock", "-o", "never.csv"];
    let message = fails_in_one_line(fleetfoot(&[&profile[..], &["--cost", "memory", "--context", "cold"]].concat()));
    assert!(message.contains("context network"), "{message}");
    let message = stderr(&fleetfoot(&[&profile[..], &["--cost", "flops"]].concat()).assert().code(2));
    assert!(message.contains("latency, memory or energy"), "{message}");
    let message = refused_as_usage(fleetfoot(&[&profile[..], &["--cost", "memory", "--soak", "60"]].concat()));
    assert!(message.contains("--soak is for latencies"), "{message}");
    let content = fs::read_to_string(&memory).unwrap();
    let predict = |name: &str, content: String| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fails_in_one_line(fleetfoot(&["predict", "--space", "fashion-28", "--table", text(&path), "--random", "1"]))
    };
    let message = predict("unit.csv", content.replace("memory_mib", "memory_kb"));
    assert!(message.contains("'memory_kb'") && message.contains("MiB"), "{message}");
    let message = predict("other.csv", content.replace("# cost: memory", "# cost: energy"));
    assert!(message.contains("provenance cost = 'energy', but its rows are of cost memory"), "{message}");
    let message = predict("mixed.csv", content.replace("# cost: memory\n", "").replace("low_mib", "low_ms"));
    assert!(message.contains("column 'low_ms' beside 'memory_mib'"), "{message}");
}

#[test]
fn this_machine_tells_memory_and_says_where_it_tells_no_energy() {
    let measure = ["measure", "--space", "fashion-28", "k3e3", "k7e6", "--also", "memory,energy"];
    let csv = Csv::parse(&stdout(&fleetfoot(&[&measure[..], &ROUNDS].concat()).assert().success()));
    let empty: f64 = csv.provenance["empty_graph_memory_mib"].parse().unwrap();
    let memory = csv.numbers("memory_mib");
    assert!(empty > 5.0 && empty < memory[0] && memory[0] < memory[1], "{empty} {memory:?}");
    let has_meter = fs::read_to_string("/sys/class/powercap/intel-rapl:0/energy_uj").is_ok();
    let has_battery = Path::new("/sys/class/power_supply").read_dir().is_ok_and(|mut entries| entries.next().is_some());
    for energy in csv.texts("energy_mj") {
        let told = energy.parse::<f64>().is_ok_and(|millijoules| millijoules > 0.0);
        assert!(told || (energy == "not available" && !has_meter), "{energy}");
    }
    if !has_meter && !has_battery {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("T.csv");
        let profile = ["profile", "--space", "fashion-28", "--cost", "energy", "-o", text(&path)];
        let message = fails_in_one_line(fleetfoot(&profile));
        assert!(message.contains("energy is not available") && message.contains("RAPL"), "{message}");
    }
}
