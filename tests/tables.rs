//! What can be asked of latency tables: another statistic, another table, the truth today; and of a device: its state.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Csv, fails_in_one_line, fleetfoot, journal_text, stderr, stdout, text};
use fleetfoot_space::SearchSpace;
use serde_json::Value;
use tempfile::TempDir;

const ROUNDS: [&str; 4] = ["--min-rounds", "8", "--max-rounds", "8"];

/// A simulated table of fashion-28, with further options.
fn profiled(folder: &TempDir, name: &str, options: &[&str]) -> PathBuf {
    let path = folder.path().join(name);
    let profile = ["profile", "--space", "fashion-28", "--device", "mock", "-o", text(&path)];
    fleetfoot(&[&profile[..], &ROUNDS, options].concat()).assert().success();
    path
}

/// A copy of a table with every latency and its interval times a factor.
fn scaled(table: &Path, name: &str, factor: impl Fn(usize) -> f64) -> PathBuf {
    let content = fs::read_to_string(table).unwrap();
    let header = content.lines().position(|line| !line.starts_with('#')).unwrap();
    let line = |(index, line): (usize, &str)| {
        if index <= header {
            return line.to_owned();
        }
        let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
        for field in &mut fields[14..17] {
            *field = (field.parse::<f64>().unwrap() * factor(index - header - 1)).to_string();
        }
        fields.join(",")
    };
    let lines: Vec<String> = content.lines().enumerate().map(line).collect();
    let path = table.with_file_name(name);
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

#[test]
fn a_table_is_computed_again_from_its_samples_by_any_statistic() {
    let folder = TempDir::new().unwrap();
    let table = profiled(&folder, "T.csv", &["--sitting", "1"]);
    let again = fleetfoot(&["table", text(&table), "--statistic", "median"]).assert().success();
    assert_eq!(stdout(&again), fs::read_to_string(&table).unwrap(), "the same statistic gives the same table");
    let measured = profiled(&folder, "P90.csv", &["--statistic", "p90", "--sitting", "1"]);
    let recomputed = folder.path().join("again.csv");
    fleetfoot(&["table", text(&table), "--statistic", "p90", "-o", text(&recomputed)]).assert().success();
    assert_eq!(fs::read_to_string(&recomputed).unwrap(), fs::read_to_string(&measured).unwrap());
    let [min, p90] = ["min", "p90"].map(|statistic| {
        Csv::parse(&stdout(&fleetfoot(&["table", text(&table), "--statistic", statistic]).assert().success()))
    });
    assert_eq!(min.provenance["statistic"], "min");
    assert!(min.numbers("raw_ms").iter().zip(p90.numbers("raw_ms")).all(|(min, p90)| *min < p90));
    let message = fails_in_one_line(fleetfoot(&["table", text(&table), "--statistic", "min", "-o", text(&table)]));
    assert!(message.contains("--force"), "{message}");
}

/// As far as logarithms are the same on every machine.
#[test]
fn a_shipped_journal_gives_its_table_again() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/epyc-turin/fashion-28.local-cpu.csv");
    let again = fleetfoot(&["table", text(&table), "--statistic", "median"]).assert().success();
    let (again, shipped) = (Csv::parse(&stdout(&again)), Csv::read(&table));
    assert_eq!(again.provenance["node_profiles"], shipped.provenance["node_profiles"]);
    for column in ["latency_ms", "low_ms", "high_ms"] {
        let pairs = again.numbers(column).into_iter().zip(shipped.numbers(column));
        let far: Vec<(f64, f64)> = pairs.filter(|(again, shipped)| (again - shipped).abs() > 1e-6 * shipped).collect();
        assert!(far.is_empty() && again.rows.len() == 45, "{column}: {far:?}");
    }
}

#[test]
fn a_table_of_an_unfinished_journal_says_so() {
    let folder = TempDir::new().unwrap();
    let table = profiled(&folder, "T.csv", &[]);
    let journal = folder.path().join("T.csv.journal");
    let whole = journal_text(&journal);
    let again = || {
        let done = fleetfoot(&["table", text(&table), "--statistic", "median"]).assert().success();
        (Csv::parse(&stdout(&done)).provenance.contains_key("unfinished"), stderr(&done))
    };
    let (is_unfinished, said) = again();
    assert!(!is_unfinished && !said.contains("unfinished"), "{said}");
    // Killed in its sixth round.
    let visits = whole.lines().position(|line| line.starts_with("{\"round\":6")).unwrap();
    let cut: Vec<&str> = whole.lines().take(visits + 5).collect();
    fs::write(&journal, cut.join("\n") + "\n").unwrap();
    let (is_unfinished, said) = again();
    assert!(is_unfinished && said.contains("T.csv.journal is unfinished") && said.contains("--resume"), "{said}");
}

#[test]
fn samples_that_make_no_table_are_refused() {
    let folder = TempDir::new().unwrap();
    let table = profiled(&folder, "T.csv", &[]);
    let journal = folder.path().join("T.csv.journal");
    let whole = journal_text(&journal);
    let refused = |content: &str, says: &str| {
        fs::write(&journal, content).unwrap();
        let message = fails_in_one_line(fleetfoot(&["table", text(&table), "--statistic", "p20"]));
        assert!(message.contains(says) && message.contains("T.csv.journal"), "{says}: {message}");
    };
    let lines: Vec<&str> = whole.lines().collect();
    refused("", "no header");
    refused(&(lines[..30].join("\n") + "\n"), "unfinished");
    refused(&whole.replacen("\"models\":\"", "\"models\":\"0", 1), "other models");
    refused(&whole.replace('[', "x"), "line 1");
    fs::remove_file(&journal).unwrap();
    assert!(fails_in_one_line(fleetfoot(&["table", text(&table), "--statistic", "p20"])).contains("No such file"));
    let networks = folder.path().join("N.csv");
    let measure = ["measure", "--space", "fashion-28", "k3e3", "--device", "mock", "-o", text(&networks)];
    fleetfoot(&[&measure[..], &ROUNDS].concat()).assert().success();
    let message = fails_in_one_line(fleetfoot(&["table", text(&networks), "--statistic", "p20"]));
    assert!(message.contains("isn't that of a latency table"), "{message}");
}

#[test]
fn two_tables_are_compared_unit_by_unit() {
    let folder = TempDir::new().unwrap();
    let table = profiled(&folder, "T.csv", &[]);
    // Every third unit is 30 % dearer, the rest equal.
    let other = scaled(&table, "other.csv", |row| if row % 3 == 0 { 1.3 } else { 1.0 });
    let compare = ["compare", text(&table), text(&other)];
    let done = fleetfoot(&[&compare[..], &["--json"]].concat()).assert().success();
    let figures: Value = serde_json::from_str(&stdout(&done)).unwrap();
    let keys: Vec<&String> = figures.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["beyond_noise", "median_abs_percent", "operators", "p95_abs_percent"]);
    assert_eq!((&figures["operators"], &figures["beyond_noise"]), (&45.into(), &15.into()));
    assert!(figures["median_abs_percent"].as_f64().unwrap().abs() < 1e-9);
    assert!((figures["p95_abs_percent"].as_f64().unwrap() - 30.0).abs() < 1e-6);

    let picture = folder.path().join("ratios.html");
    let done = fleetfoot(&[&compare[..], &["--picture", text(&picture)]].concat()).assert().success();
    let ratios = Csv::parse(&stdout(&done));
    assert_eq!(ratios.header, ["operator", "a_ms", "b_ms", "ratio", "low", "high", "beyond_noise"]);
    for (row, (ratio, beyond)) in ratios.numbers("ratio").iter().zip(ratios.numbers("beyond_noise")).enumerate() {
        let (wanted, marked) = if row % 3 == 0 { (1.3, 1.0) } else { (1.0, 0.0) };
        assert!((ratio - wanted).abs() < 1e-9 && beyond == marked, "row {row}: {ratio}");
    }
    let page = fs::read_to_string(&picture).unwrap();
    assert_eq!(page.matches("<title>").count(), 46, "a mark for each unit, and the page's own");
    assert!(!page.contains("http:") && !page.contains("https:"), "the page needs nothing else");
}

#[test]
fn tables_of_different_conditions_or_spaces_are_compared_as_far_as_they_go() {
    let folder = TempDir::new().unwrap();
    let table = profiled(&folder, "T.csv", &[]);
    let other = folder.path().join("other.csv");
    let content = fs::read_to_string(&table).unwrap();
    let shorter: Vec<&str> = content.lines().filter(|line| !line.contains("conv,3,,2,1,")).collect();
    let shorter =
        (shorter.join("\n") + "\n").replace("# threads: 1", "# threads: 2").replace("# rows: 45", "# rows: 44");
    fs::write(&other, shorter).unwrap();
    let done = fleetfoot(&["compare", text(&table), text(&other), "--json"]).assert().success();
    let said = stderr(&done);
    assert!(said.contains("threads: '1' against '2'") && said.contains("T.csv: 1 units, such as conv-"), "{said}");
    let cifar = folder.path().join("cifar.csv");
    fleetfoot(&[&["profile", "--space", "cifar-32", "--device", "mock", "-o", text(&cifar)][..], &ROUNDS].concat())
        .assert()
        .success();
    assert!(fails_in_one_line(fleetfoot(&["compare", text(&table), text(&cifar)])).contains("no unit in common"));
}

#[test]
fn a_table_is_held_against_its_device_today() {
    let folder = TempDir::new().unwrap();
    let table = profiled(&folder, "T.csv", &[]);
    let verify = |table: &Path| fleetfoot(&[&["verify", text(table), "--json"][..], &ROUNDS].concat());
    let figures: Value = serde_json::from_str(&stdout(&verify(&table).assert().success())).unwrap();
    assert_eq!((&figures["operators"], &figures["true"]), (&5.into(), &true.into()));
    assert!(figures["median_percent"].as_f64().unwrap().abs() < 0.5, "{figures}");
    // The device has become 10 % slower since: its table says less than it takes now.
    let stale = scaled(&table, "stale.csv", |_| 1.0 / 1.1);
    let failed = verify(&stale).assert().code(1);
    let figures: Value = serde_json::from_str(&stdout(&failed)).unwrap();
    assert_eq!((&figures["beyond_noise"], &figures["true"]), (&5.into(), &false.into()));
    assert!((figures["median_percent"].as_f64().unwrap() - 10.0).abs() < 0.5, "{figures}");
    assert!(stderr(&failed).contains("isn't true any more") && stderr(&failed).contains("profile"));
    let elsewhere = fails_in_one_line(fleetfoot(&["verify", text(&table), "--device", "local-cpu"]));
    assert!(elsewhere.contains("other conditions"), "{elsewhere}");
    // Without journal the space is the preset of that name; a space of one's own must be named.
    fs::remove_file(folder.path().join("T.csv.journal")).unwrap();
    verify(&table).assert().success();
    let content = fs::read_to_string(&table).unwrap().replace("# space: fashion-28", "# space: mine");
    fs::write(&table, content).unwrap();
    assert!(fails_in_one_line(verify(&table)).contains("--space"));
    let mine = folder.path().join("mine.toml");
    fs::write(&mine, SearchSpace::load("fashion-28").unwrap().text()).unwrap();
    fleetfoot(&[&["verify", text(&table), "--space", text(&mine)][..], &ROUNDS].concat()).assert().success();
}

#[test]
fn a_doctor_tells_what_harms_measurements_here() {
    let done = fleetfoot(&["doctor", "--seconds", "0.5", "--json"]).assert().success();
    let report: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(report["device"], "local-cpu");
    assert!(report["reference_percent"].as_f64().is_some_and(|percent| percent > 0.0), "{report}");
    for finding in report["findings"].as_array().unwrap() {
        assert!(["note", "warning", "problem"].contains(&finding["severity"].as_str().unwrap()), "{finding}");
        assert!(finding["what"].as_str().unwrap().len() > 10 && finding["remedy"].as_str().unwrap().len() > 10);
    }
    let said = stdout(&fleetfoot(&["doctor", "--seconds", "0.2"]).assert().success());
    assert!(said.contains("reference unit: ") && said.lines().count() >= 2, "{said}");
    assert!(stderr(&fleetfoot(&["doctor", "--seconds", "0"]).assert().code(2)).contains("--seconds"));
}

#[test]
fn a_table_has_a_page_of_its_own() {
    let folder = TempDir::new().unwrap();
    let table = profiled(&folder, "T.csv", &[]);
    let report = fleetfoot(&["report", text(&table)]).assert().success();
    let page = folder.path().join("T.html");
    assert!(stderr(&report).contains(text(&page)), "{}", stderr(&report));
    let shown = fs::read_to_string(&page).unwrap();
    let csv = Csv::parse(&fs::read_to_string(&table).unwrap());
    // Every unit, the dearest first; the journal's timeline; the conditions.
    let dearest = csv.numbers("latency_ms").into_iter().fold(0.0, f64::max);
    let first = shown.split("data-key=\"/rows/0/cost\"").nth(1).unwrap();
    let first: f64 = first.split(['>', '<']).nth(1).unwrap().parse().unwrap();
    assert!((first / dearest - 1.0).abs() < 0.01, "{first} {dearest}");
    assert_eq!(shown.matches("scope=\"row\"").count(), 45);
    for part in ["/timeline/seconds_measuring", "Speed of the machine while", "/provenance/0/key"] {
        assert!(shown.contains(part), "{part} isn't there");
    }
    // Without its samples a table still has one, which says what is missing.
    fs::remove_file(folder.path().join("T.csv.journal")).unwrap();
    fleetfoot(&["report", text(&table)]).assert().success();
    let shown = fs::read_to_string(&page).unwrap();
    assert!(shown.contains("there is no") && !shown.contains("/timeline/"), "the timeline of what isn't there");
    // What is no table leaves the page as it was.
    fs::write(&table, "nothing\n").unwrap();
    fails_in_one_line(fleetfoot(&["report", text(&table)]));
    assert_eq!(fs::read_to_string(&page).unwrap(), shown);
}
