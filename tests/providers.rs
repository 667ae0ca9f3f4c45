//! What commands say of a device's execution provider. What providers do is tested in `profiler/agent/tests/providers.rs`.

mod common;

use std::fs;

use common::{Csv, fails_in_one_line, fleetfoot, stdout, text};
use serde_json::Value;
use tempfile::TempDir;

/// A device configuration in a folder.
fn device(folder: &TempDir, toml: &str) -> String {
    let path = folder.path().join("device.toml");
    fs::write(&path, toml).unwrap();
    text(&path).to_owned()
}

#[test]
fn a_table_says_how_much_ran_on_the_provider_and_with_which_options() {
    let folder = TempDir::new().unwrap();
    let toml = "transport = \"mock\"\nprovider = \"openvino\"\n[provider_options]\ndevice_type = \"GPU\"\n";
    let (device, table) = (device(&folder, toml), folder.path().join("T.csv"));
    let rounds = ["--min-rounds", "6", "--max-rounds", "6"];
    let profile = ["profile", "--space", "fashion-28", "--device", &device, "-o", text(&table)];
    fleetfoot(&[&profile[..], &rounds].concat()).assert().success();
    let written = Csv::read(&table);
    assert_eq!(written.provenance["provider"], "openvino (device_type=GPU)");
    for share in ["provider_nodes_percent", "provider_time_percent", "provider_nodes_percent_least"] {
        assert_eq!(written.provenance[share], "100.0", "{share}");
    }
    assert!(!written.provenance.contains_key("elsewhere"));
}

#[test]
fn a_provider_that_the_runtime_lacks_is_an_error_and_no_table() {
    let folder = TempDir::new().unwrap();
    let (device, table) =
        (device(&folder, "transport = \"local\"\nprovider = \"coreml\"\n"), folder.path().join("T.csv"));
    let message =
        fails_in_one_line(fleetfoot(&["profile", "--space", "fashion-28", "--device", &device, "-o", text(&table)]));
    assert!(message.contains("has no 'coreml'") && message.contains("CPUExecutionProvider"), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is written");
}

#[test]
fn a_doctor_says_where_the_reference_unit_ran() {
    let doctor = ["doctor", "--device", "local-cpu", "--seconds", "0.2"];
    let report = stdout(&fleetfoot(&doctor).assert().success());
    assert!(report.contains("100.0 % of the nodes and 100.0 % of the time on CPUExecutionProvider"), "{report}");
    let json = stdout(&fleetfoot(&[&doctor[..], &["--json"]].concat()).assert().success());
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (report["provider_nodes_percent"].as_f64(), report["provider_time_percent"].as_f64()),
        (Some(100.0), Some(100.0))
    );
}
