//! Units alone or as in the network: `profile --context`, what becomes of it, and which tells the truth.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Csv, fails_in_one_line, fleetfoot, journal_text, refused_as_usage, stderr, stdout, text};
use serde_json::Value;
use tempfile::TempDir;

const ROUNDS: [&str; 4] = ["--min-rounds", "8", "--max-rounds", "8"];

/// A table of fashion-28 in a context.
fn profiled(folder: &TempDir, device: &str, context: &str, options: &[&str]) -> PathBuf {
    let path = folder.path().join(format!("{context}.csv"));
    let profile = ["profile", "--space", "fashion-28", "--device", device, "--context", context, "-o", text(&path)];
    fleetfoot(&[&profile[..], &ROUNDS, options].concat()).assert().success();
    path
}

#[test]
fn every_row_says_how_it_was_measured() {
    let folder = TempDir::new().unwrap();
    for (context, measured) in [("cold", "alone-cold"), ("warm", "alone-warm"), ("network", "network")] {
        let path = profiled(&folder, "mock", context, &[]);
        let table = Csv::read(&path);
        assert_eq!((table.rows.len(), table.provenance["context"].as_str()), (45, context));
        assert!(table.texts("measured").iter().all(|how| *how == measured), "{context}");
        let journal = folder.path().join(format!("{context}.csv.journal"));
        assert_eq!(!profiles(&journal).is_empty(), context == "network");
        // Made again from its samples, it is the same to the byte.
        let again = fleetfoot(&["table", text(&path), "--statistic", "median"]).assert().success();
        assert_eq!(stdout(&again), fs::read_to_string(&path).unwrap(), "{context}");
        // An older table says nothing of it and is read all the same.
        let older =
            fs::read_to_string(&path).unwrap().replace(",measured\n", "\n").replace(&format!(",{measured}\n"), "\n");
        fs::write(&path, older).unwrap();
        fleetfoot(&["predict", "--table", text(&path), "--space", "fashion-28", "k3e6"]).assert().success();
    }
    let path = profiled(&folder, "mock", "cold", &["--force"]);
    let wrong = fs::read_to_string(&path).unwrap().replacen(",alone-cold\n", ",somehow\n", 1);
    fs::write(&path, wrong).unwrap();
    let message = fails_in_one_line(fleetfoot(&["predict", "--table", text(&path), "--space", "fashion-28", "k3e6"]));
    assert!(message.contains("column measured") && message.contains("'somehow'"), "{message}");
}

/// A journal's lines of node profiles.
fn profiles(journal: &Path) -> Vec<Value> {
    let text = journal_text(journal);
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line.get("profile").cloned()).collect()
}

#[test]
fn node_profiles_stand_in_the_journal_and_a_cut_one_is_gone_on_with() {
    let folder = TempDir::new().unwrap();
    let path = profiled(&folder, "mock", "network", &[]);
    let journal = folder.path().join("network.csv.journal");
    let table = fs::read_to_string(&path).unwrap();
    let whole = journal_text(&journal);
    let compressed = fs::read(&journal).unwrap();
    assert_eq!(profiles(&journal).len(), 3 * 84);
    // Killed among the node profiles, in one of them, behind the last, among the visits.
    for end in [1, 100, 250, 253, 300] {
        let mut cut: String = whole.lines().take(end).flat_map(|line| [line, "\n"]).collect();
        cut.push_str(&whole.lines().nth(end).unwrap()[..20]);
        fs::write(&journal, cut).unwrap();
        fs::remove_file(&path).unwrap();
        if end == 250 {
            let message = fails_in_one_line(fleetfoot(&["table", text(&path), "--statistic", "median"]));
            assert!(message.contains("unfinished") && message.contains("--resume"), "{message}");
        }
        profiled(&folder, "mock", "network", &["--resume"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), table, "{end}");
        assert!(fs::read(&journal).unwrap() == compressed, "{end}");
    }

    let statistic = ["table", text(&path), "--statistic", "p20"];
    // Without one process the others still tell; without any of a network there is no table.
    let without = |dropped: &dyn Fn(&Value) -> bool| {
        let is_kept = |line: &&str| {
            let line: Value = serde_json::from_str(line).unwrap();
            line.get("profile").is_none_or(|profile| !dropped(profile))
        };
        whole.lines().filter(is_kept).flat_map(|line| [line, "\n"]).collect::<String>()
    };
    fs::write(&journal, without(&|profile| profile["process"] == 1)).unwrap();
    fleetfoot(&statistic).assert().success();
    fs::write(&journal, without(&|profile| profile["subject"] == 7)).unwrap();
    let message = fails_in_one_line(fleetfoot(&statistic));
    assert!(message.contains("no node profile of network") && message.contains("--resume"), "{message}");
    fs::write(&journal, whole.replacen("\"profile\":{\"subject\":3,", "\"profile\":{\"subject\":300,", 1)).unwrap();
    let message = fails_in_one_line(fleetfoot(&statistic));
    assert!(message.contains("line 4") && message.contains("there is no subject 300"), "{message}");

    fs::write(&journal, "mine").unwrap();
    fs::remove_file(&path).unwrap();
    let profile = ["profile", "--space", "fashion-28", "--device", "mock", "--context", "network", "-o", text(&path)];
    let message = fails_in_one_line(fleetfoot(&[&profile[..], &ROUNDS].concat()));
    assert!(message.contains("network.csv.journal exists") && message.contains("--force"), "{message}");
    assert_eq!(fs::read_to_string(&journal).unwrap(), "mine");
}

#[test]
fn a_table_of_networks_is_held_against_its_device_by_networks() {
    let folder = TempDir::new().unwrap();
    let path = profiled(&folder, "mock", "network", &[]);
    let verify = ["verify", text(&path), "--json"];
    let figures: Value =
        serde_json::from_str(&stdout(&fleetfoot(&[&verify[..], &ROUNDS].concat()).assert().success())).unwrap();
    assert_eq!((&figures["operators"], &figures["true"]), (&5.into(), &true.into()));
    // The device has become slower by a tenth since.
    let content = fs::read_to_string(&path).unwrap();
    let column = content.lines().find(|line| !line.starts_with('#')).unwrap();
    let times: Vec<usize> =
        (0..).zip(column.split(',')).filter(|(_, name)| name.ends_with("_ms")).map(|(i, _)| i).collect();
    let faster = |line: &str| {
        let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
        for &index in times.iter().filter(|_| !line.starts_with('#')) {
            if let Ok(ms) = fields[index].parse::<f64>() {
                fields[index] = (ms / 1.1).to_string();
            }
        }
        fields.join(",")
    };
    fs::write(&path, content.lines().map(faster).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let failed = fleetfoot(&[&verify[..], &ROUNDS].concat()).assert().code(1);
    assert!(stderr(&failed).contains("isn't true any more"), "{}", stderr(&failed));
}

#[test]
fn contexts_are_compared_by_networks_that_none_was_measured_with() {
    let folder = TempDir::new().unwrap();
    let [cold, warm, network] = ["cold", "warm", "network"].map(|context| profiled(&folder, "mock", context, &[]));
    let points = folder.path().join("points.json");
    let tables = ["evaluate", text(&cold), text(&warm), text(&network), "--space", "fashion-28", "--device", "mock"];
    let options = ["--random", "12", "--passes", "2", "--json", "-o", text(&points)];
    let done = fleetfoot(&[&tables[..], &options, &ROUNDS].concat()).assert().success();
    let report: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!((&report["networks"], report["tables"].as_array().unwrap().len()), (&12.into(), 3));
    let rmspe = |index: usize| report["tables"][index]["rmspe_percent"].as_f64().unwrap();
    for (index, context) in ["cold", "warm", "network"].into_iter().enumerate() {
        assert_eq!(report["tables"][index]["context"], context);
        for figure in ["bias_percent", "within_5_percent", "within_10_percent", "spearman", "slower_percent"] {
            assert!(report["tables"][index][figure].is_number(), "{figure} of {context}");
        }
        assert!(report["tables"][index]["slower_percent"].as_f64().unwrap().abs() < 1.0, "{report}");
    }
    // In the simulation a network costs what its bytes cost: only whole networks know what their frame costs.
    assert!(rmspe(2) < 0.5, "{report}");
    let best = (0..3).min_by(|&a, &b| {
        let at = |index: usize| report["tables"][index]["at_its_speed_rmspe_percent"].as_f64().unwrap();
        at(a).total_cmp(&at(b))
    });
    assert_eq!(report["winner"], report["tables"][best.unwrap()]["table"]);
    let written: Value = serde_json::from_slice(&fs::read(&points).unwrap()).unwrap();
    let journal = journal_text(&folder.path().join("network.csv.journal"));
    let header: Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
    let design = header["subjects"].as_array().unwrap();
    assert!(design.len() > 80, "{design:?}");
    for point in written["points"].as_array().unwrap() {
        assert!(!design.contains(&point["architecture"]), "{point}");
        assert_eq!(point["predicted_ms"].as_array().unwrap().len(), 3);
    }
    let table =
        stdout(&fleetfoot(&[&tables[..], &["--random", "5", "--passes", "2"], &ROUNDS].concat()).assert().success());
    assert!(table.contains("nearest: ") && table.lines().count() == 5, "{table}");

    assert!(
        refused_as_usage(fleetfoot(&[&["evaluate", text(&cold), "--space", "fashion-28"][..], &ROUNDS].concat()))
            .contains("--table")
    );
    let other = fs::read_to_string(&warm).unwrap().replace("# threads: 1", "# threads: 4");
    fs::write(&warm, other).unwrap();
    let message = fails_in_one_line(fleetfoot(&[&tables[..], &["--random", "5"], &ROUNDS].concat()));
    assert!(message.contains("other conditions") && message.contains("threads"), "{message}");
}

#[test]
fn a_context_that_is_none_is_wrong_usage() {
    let profile = ["profile", "--space", "fashion-28", "--device", "mock", "--context", "tepid", "-o", "T.csv"];
    let said = stderr(&fleetfoot(&profile).assert().code(2));
    assert!(said.contains("wanted cold, warm or network"), "{said}");
    let both = ["evaluate", "A.csv", "B.csv", "--table", "C.csv", "--space", "fashion-28"];
    assert!(stderr(&fleetfoot(&both).assert().code(2)).contains("--table"));
    fleetfoot(&["evaluate", "--space", "fashion-28"]).assert().code(2);
}

#[test]
fn a_real_device_says_what_its_networks_are_made_of() {
    let folder = TempDir::new().unwrap();
    let path = profiled(&folder, "local-cpu", "network", &["--visit", "1"]);
    let table = Csv::read(&path);
    let costs = table.numbers("latency_ms");
    assert_eq!(costs.len(), 45);
    // Equal blocks but for their kernels: 7x7 costs more than 3x3, everywhere.
    let [kernel, expansion] = ["kernel", "expansion"].map(|column| table.texts(column));
    let of = |k: &str, e: &str| -> f64 {
        (0..45).filter(|&row| kernel[row] == k && expansion[row] == e).map(|row| costs[row]).sum()
    };
    assert!(of("3", "3") < of("7", "3") && of("7", "3") < of("7", "6"), "{costs:?}");
    let profiles = profiles(&folder.path().join("network.csv.journal"));
    let first = profiles[0]["nodes"].as_array().unwrap();
    assert!(first.iter().any(|node| node["name"].as_str().unwrap().starts_with("head.classifier")), "{first:?}");
}
