//! Units alone or as in the network: `profile --context`, what becomes of it, and which tells the truth.

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Csv, fails_in_one_line, fleetfoot, refused_as_usage, stderr, stdout, text};
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
        let nodes = folder.path().join(format!("{context}.csv.nodes.json"));
        assert_eq!(nodes.exists(), context == "network");
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

#[test]
fn node_profiles_are_kept_used_again_and_never_replaced_unasked() {
    let folder = TempDir::new().unwrap();
    let path = profiled(&folder, "mock", "network", &[]);
    let (nodes, journal) = (folder.path().join("network.csv.nodes.json"), folder.path().join("network.csv.journal"));
    let table = fs::read_to_string(&path).unwrap();
    let kept = fs::read_to_string(&nodes).unwrap();
    // Killed behind half of the campaign: what goes on ends with the same table, on the same profiles.
    let whole = fs::read_to_string(&journal).unwrap();
    let half: Vec<&str> = whole.lines().take(300).collect();
    fs::write(&journal, half.join("\n") + "\n").unwrap();
    fs::remove_file(&path).unwrap();
    profiled(&folder, "mock", "network", &["--resume"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), table);
    assert_eq!(fs::read_to_string(&nodes).unwrap(), kept);

    let statistic = ["table", text(&path), "--statistic", "p20"];
    fs::write(&nodes, kept.replacen("\"models\": \"", "\"models\": \"0", 1)).unwrap();
    let message = fails_in_one_line(fleetfoot(&statistic));
    assert!(message.contains("nodes.json") && message.contains("other models"), "{message}");
    fs::write(&nodes, &kept[..kept.len() / 2]).unwrap();
    assert!(fails_in_one_line(fleetfoot(&statistic)).contains("nodes.json"));
    fs::remove_file(&nodes).unwrap();
    assert!(fails_in_one_line(fleetfoot(&statistic)).contains("nodes.json"));

    fs::write(&nodes, "mine").unwrap();
    fs::remove_file(&path).unwrap();
    fs::remove_file(&journal).unwrap();
    let profile = ["profile", "--space", "fashion-28", "--device", "mock", "--context", "network", "-o", text(&path)];
    let message = fails_in_one_line(fleetfoot(&[&profile[..], &ROUNDS].concat()));
    assert!(message.contains("nodes.json exists") && message.contains("--force"), "{message}");
    assert_eq!(fs::read_to_string(&nodes).unwrap(), "mine");
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
    let design: Vec<String> = {
        let profiles: Value =
            serde_json::from_slice(&fs::read(folder.path().join("network.csv.nodes.json")).unwrap()).unwrap();
        let networks = profiles["networks"].as_array().unwrap();
        networks.iter().map(|network| network["subject"].as_str().unwrap().to_owned()).collect()
    };
    for point in written["points"].as_array().unwrap() {
        assert!(!design.iter().any(|known| point["architecture"] == known.as_str()), "{point}");
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
    let report: Value =
        serde_json::from_slice(&fs::read(folder.path().join("network.csv.nodes.json")).unwrap()).unwrap();
    let first = report["networks"][0]["processes"][0]["nodes"].as_array().unwrap();
    assert!(first.iter().any(|node| node["name"].as_str().unwrap().starts_with("head.classifier")), "{first:?}");
}
