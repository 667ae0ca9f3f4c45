//! Whatever is wrong with what `fleetfoot` is given, it says so in one line and fails; it never panics.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use assert_cmd::cargo::cargo_bin;
use common::{Csv, Mount, fails_in_one_line, fleetfoot, fleetfoot_process, refused_as_usage, stderr, text};
use fleetfoot_profiler::LatencyTable;
use fleetfoot_space::SearchSpace;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

const SHORT: [&str; 4] = ["--min-rounds", "6", "--max-rounds", "6"];

/// The text of a simulated table of fashion-28.
fn table_text() -> &'static str {
    static TABLE: OnceLock<String> = OnceLock::new();
    TABLE.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("T.csv");
        let profile = ["profile", "--space", "fashion-28", "--device", "mock", "-o", text(&path)];
        fleetfoot(&[&profile[..], &SHORT].concat()).assert().success();
        fs::read_to_string(path).unwrap()
    })
}

/// What each command that reads a table says of this one; the same thing in one line.
#[track_caller]
fn table_refused(bytes: &[u8]) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("bad.csv");
    fs::write(&path, bytes).unwrap();
    let predict = fails_in_one_line(fleetfoot(&["predict", "--table", text(&path), "--space", "fashion-28", "k3e3"]));
    let model = folder.path().join("model.json");
    let fit = fails_in_one_line(fleetfoot(&["fit", "--table", text(&path), "-o", text(&model)]));
    assert_eq!(predict, fit, "predict and fit read tables alike");
    assert!(!model.exists());
    assert!(predict.contains("bad.csv"), "the file is named: {predict}");
    predict
}

/// The table with one field of one row replaced, and that row's line.
fn edited(row: usize, column: &str, value: &str) -> (Vec<u8>, usize) {
    let header = table_text().lines().position(|line| !line.starts_with('#')).unwrap();
    let mut lines: Vec<String> = table_text().lines().map(str::to_owned).collect();
    let column = lines[header].split(',').position(|name| name == column).unwrap();
    let mut fields: Vec<&str> = lines[header + 1 + row].split(',').collect();
    fields[column] = value;
    lines[header + 1 + row] = fields.join(",");
    ((lines.join("\n") + "\n").into_bytes(), header + 2 + row)
}

#[test]
fn a_table_that_is_missing_empty_or_foreign_is_refused() {
    let predict = ["predict", "--table", "/nowhere/T.csv", "--space", "fashion-28", "k3e3"];
    let message = fails_in_one_line(fleetfoot(&predict));
    assert!(message.contains("/nowhere/T.csv"), "{message}");
    assert!(fails_in_one_line(fleetfoot(&["predict", "--table", "/", "--space", "fashion-28", "k3e3"])).contains("/"));
    table_refused(b"");
    table_refused(b"\n\n\n");
    table_refused(b"\x7fELF\x02\x01\x01\0\0\xff\xfe\xfd,,,\n\0\0\0");
    table_refused(&[0; 4096]);
    let foreign = table_refused(b"name,age\nMiller,47\n");
    assert!(foreign.contains("'operator'"), "the first missing column is named: {foreign}");
    let header = table_text().lines().find(|line| !line.starts_with('#')).unwrap();
    table_refused(format!("{header}\n").as_bytes());
}

#[test]
fn a_table_cut_short_anywhere_is_never_taken_for_a_whole_one() {
    let whole = table_text().as_bytes();
    for cut in 0..whole.len() {
        let read = LatencyTable::parse(&table_text()[..cut], Path::new("cut.csv"));
        assert!(read.is_err(), "cut at byte {cut} of {}", whole.len());
    }
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    for cut in
        [1, whole.len() - 1, whole.len() / 2].into_iter().chain((0..25).map(|_| rng.random_range(0..whole.len())))
    {
        table_refused(&whole[..cut]);
    }
}

#[test]
fn bytes_overturned_in_a_table_never_make_a_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("noise.csv");
    for _ in 0..60 {
        let mut bytes = table_text().as_bytes().to_vec();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        fs::write(&path, &bytes).unwrap();
        let done = fleetfoot(&["predict", "--table", text(&path), "--space", "fashion-28", "k7e6"]).assert();
        let code = done.get_output().status.code();
        assert!(matches!(code, Some(0 | 1)), "{code:?}: {}", stderr(&done));
        assert!(!stderr(&done).contains("panicked"), "{}", stderr(&done));
    }
}

#[test]
fn a_latency_that_is_none_is_refused_with_its_line_and_column() {
    for (row, wrong) in [(0, "NaN"), (7, "-0.5"), (20, "inf"), (30, "fast"), (44, ""), (3, "1e400"), (2, "0,5")] {
        let (bytes, line) = edited(row, "latency_ms", wrong);
        let message = table_refused(&bytes);
        assert!(message.contains(&format!("line {line}")), "{wrong}: {message}");
        assert!(wrong == "0,5" || message.contains("latency_ms"), "{wrong}: {message}");
    }
    let (bytes, line) = edited(5, "high_ms", "-inf");
    let message = table_refused(&bytes);
    assert!(message.contains(&format!("line {line}, column high_ms")), "{message}");
    let message = table_refused(table_text().replacen("# empty_graph_ms: ", "# empty_graph_ms: -", 1).as_bytes());
    assert!(message.contains("empty_graph_ms"), "{message}");
}

#[test]
fn an_interval_without_one_of_its_ends_is_refused_and_one_that_is_nothing_told() {
    let message = table_refused(table_text().replacen(",high_ms,", ",hi_ms,", 1).as_bytes());
    assert!(message.contains("no column 'high_ms'") && message.contains("low_ms is one end"), "{message}");
    for (column, other) in [("high_ms", "low_ms"), ("low_ms", "high_ms")] {
        let (bytes, line) = edited(5, column, "");
        let message = table_refused(&bytes);
        assert!(message.contains(&format!("line {line}, column {column}")) && message.contains(other), "{message}");
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("T.csv");
    fs::write(&path, table_text().replacen(",low_ms,high_ms,", ",least_ms,most_ms,", 1)).unwrap();
    let done = fleetfoot(&["predict", "--table", text(&path), "--space", "fashion-28", "k3e3"]).assert().success();
    let rows = table_text().lines().filter(|line| !line.starts_with('#')).count() - 1;
    assert!(stderr(&done).contains(&format!("{rows} of its {rows} rows have no interval")), "{}", stderr(&done));
}

#[test]
fn fields_may_be_separated_as_spreadsheets_do() {
    let folder = TempDir::new().unwrap();
    let (path, list) = (folder.path().join("T.csv"), folder.path().join("list.csv"));
    let predict = ["predict", "--table", text(&path), "--space", "fashion-28", "--architectures", text(&list)];
    let outputs = [",", "\t", ";"].map(|separator| {
        fs::write(&path, table_text().replace(',', separator)).unwrap();
        fs::write(&list, "# c, d; e\n".repeat(9000) + &"model,architecture\na,k3e3\nb,k3e6\n".replace(',', separator))
            .unwrap();
        common::stdout(&fleetfoot(&predict).assert().success())
    });
    assert!(outputs[0].lines().count() == 3 && outputs[1..].iter().all(|output| *output == outputs[0]), "{outputs:?}");
}

#[test]
fn what_is_predicted_before_a_wrong_line_is_written_and_a_full_disk_is_no_wrong_line() {
    let folder = TempDir::new().unwrap();
    let (path, list) = (folder.path().join("T.csv"), folder.path().join("list.txt"));
    fs::write(&path, table_text()).unwrap();
    let predict = ["predict", "--table", text(&path), "--space", "fashion-28", "--architectures", text(&list)];
    fs::write(&list, "k3e3\n".repeat(9000) + "nonsense\n").unwrap();
    let failed = fleetfoot(&predict).assert().failure();
    assert_eq!(common::stdout(&failed).lines().count(), 9001);
    assert!(stderr(&failed).contains("list.txt, line 9001"), "{}", stderr(&failed));
    fs::write(&list, "k3e3\n".repeat(9000)).unwrap();
    let mut full = fleetfoot_process(&predict);
    let full = full.stdout(File::create("/dev/full").unwrap()).output().unwrap();
    let said = String::from_utf8(full.stderr).unwrap();
    assert!(!full.status.success() && said.contains("can't write to standard output"), "{said}");
    assert!(!said.contains("line"), "{said}");
}

#[test]
fn latencies_in_another_unit_are_refused_with_what_to_do() {
    let message = table_refused(table_text().replacen(",latency_ms,", ",latency_us,", 1).as_bytes());
    assert!(message.contains("latency_us") && message.contains("milliseconds"), "{message}");
}

#[test]
fn a_row_that_is_no_unit_is_refused_with_its_line() {
    for (column, wrong) in [
        ("operator", "attention"),
        ("operator", ""),
        ("operator", "zero"),
        ("kernel", "4"),
        ("stride", "0"),
        ("c_in", "-16"),
        ("c_out", "1e9"),
        ("height", "28.5"),
        ("precision", "fp7"),
        ("samples", "many"),
    ] {
        let (bytes, line) = edited(2, column, wrong);
        let message = table_refused(&bytes);
        assert!(message.contains(&format!("line {line}")), "{column} {wrong}: {message}");
    }
    let (bytes, _) = edited(2, "operator", "attention");
    let message = table_refused(&bytes);
    assert!(message.contains("unknown operator 'attention'"), "{message}");
}

#[test]
fn an_interval_that_lies_beside_its_latency_is_refused() {
    let (bytes, line) = edited(9, "low_ms", "1000");
    let message = table_refused(&bytes);
    assert!(message.contains(&format!("line {line}, column low_ms")) && message.contains("interval"), "{message}");
}

#[test]
fn a_unit_that_stands_twice_is_refused_by_name() {
    let last = table_text().lines().last().unwrap();
    let twice = table_text().replacen("# rows: 45", "# rows: 46", 1) + last + "\n";
    let message = table_refused(twice.as_bytes());
    assert!(message.contains("two rows") && message.contains("head-i64-h256-o10"), "{message}");
}

/// What is said of a space file with this text.
#[track_caller]
fn space_refused(toml: &str) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("space.toml");
    fs::write(&path, toml).unwrap();
    let message = fails_in_one_line(fleetfoot(&["show", "--space", text(&path)]));
    assert!(message.contains("space.toml"), "the file is named: {message}");
    let table = folder.path().join("T.csv");
    let profile = ["profile", "--space", text(&path), "--device", "mock", "-o", text(&table)];
    assert_eq!(fails_in_one_line(fleetfoot(&profile)), message);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was written");
    message
}

#[test]
fn a_space_that_cannot_be_is_refused() {
    let preset = fleetfoot(&["show", "--space", "fashion-28", "--toml"]).assert().success();
    let preset = common::stdout(&preset);
    let changed = |from: &str, to: &str| {
        assert!(preset.contains(from), "{from} stands in the preset");
        space_refused(&preset.replacen(from, to, 1))
    };
    let line_of = |text: &str| format!("line {}", 1 + preset.lines().position(|line| line == text).unwrap());
    for (from, to, says) in [
        ("depth = 2", "depth = 0", "depth = 0"),
        ("depth = 2", "depth = 100000", "depth"),
        ("channels = 24", "channels = 0", "channels = 0"),
        ("height = 28", "height = 0", "height = 0"),
        ("classes = 10", "classes = 0", "classes = 0"),
        ("bn_eps = 0.001", "bn_eps = nan", "bn_eps"),
        ("kernel = 3", "kernel = 4", "kernel = 4"),
        (r#""k3e3", "#, r#""k4e3", "#, "unknown operator 'k4e3'"),
        (r#""k3e3", "#, r#""conv9", "#, "unknown operator 'conv9'"),
        (r#""k3e3", "#, r#""k3e6", "#, "k3e6 stands there twice"),
        (r#"["k3e3", "k3e6", "k5e3", "k5e6", "k7e3", "k7e6", "zero"]"#, r#"["zero"]"#, "no candidate but the identity"),
        (r#"["k3e3", "k3e6", "k5e3", "k5e6", "k7e3", "k7e6", "zero"]"#, "[]", "candidates"),
        ("0000000000", "00000", "named architecture 'k3e3'"),
    ] {
        let message = changed(from, to);
        assert!(message.contains(says), "{from} -> {to}: {message}");
    }
    let message = changed("bn_eps = 0.001", "bn_epsilon = 0.001");
    assert!(message.contains("bn_epsilon") && message.contains(&line_of("bn_eps = 0.001")), "{message}");
    let message = changed("[head]", "[head]\nsize = 3");
    assert!(message.contains("size"), "{message}");
    space_refused("");
    space_refused("this is = = no TOML");
    let message = fails_in_one_line(fleetfoot(&["show", "--space", "imagenet"]));
    assert!(message.contains("'imagenet'") && message.contains("proxyless-224"), "{message}");
}

#[test]
fn a_cause_of_several_lines_is_said_once() {
    let message = space_refused("name = \"x\"\nclasses = ten\n");
    assert_eq!(message.matches("TOML parse error").count(), 1, "{message}");
}

/// What is said of a device with this configuration.
#[track_caller]
fn device_refused(toml: &str) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("device.toml");
    fs::write(&path, toml).unwrap();
    let message = fails_in_one_line(fleetfoot(&["measure", "--space", "fashion-28", "k3e3", "--device", text(&path)]));
    assert!(message.contains("device"), "{message}");
    message
}

#[test]
fn a_device_that_cannot_be_is_refused() {
    for (toml, says) in [
        ("transport = \"local\"\nthreds = 2\n", &["device.toml", "threds", "line 2"][..]),
        ("transport = \"local\"\nthreads = 0\n", &["device.toml", "threads = 0"]),
        ("transport = \"local\"\nthreads = -1\n", &["device.toml", "line 2"]),
        ("transport = \"local\"\nthreads = 2\ncores = [0]\n", &["device.toml", "cores"]),
        ("transport = \"local\"\nthreads = 2\ncores = [1, 0, 1]\n", &["device.toml", "1 is named twice"]),
        ("transport = \"local\"\ncores = [9999]\n", &["9999"]),
        ("transport = \"local\"\nruntime_library = \"/nowhere/libonnxruntime.so\"\n", &["/nowhere/libonnxruntime.so"]),
        ("transport = \"local\"\nruntime_library = \"/proc/self/exe\"\n", &["ONNX Runtime"]),
        ("transport = \"local\"\nagent = \"/nowhere/fleetfoot-agent\"\n", &["/nowhere/fleetfoot-agent"]),
        ("transport = \"local\"\nagent = \"/bin/true\"\n", &["agent"]),
        ("transport = \"local\"\nagent = \"/bin/cat\"\n", &["agent"]),
        ("transport = \"local\"\nprovider = \"abacus\"\n", &["abacus"]),
        ("transport = \"local\"\nprecision = \"fp7\"\n", &["device.toml", "fp7", "line 2"]),
        ("transport = \"carrier pigeon\"\n", &["device.toml", "carrier pigeon", "line 1"]),
        ("", &["device.toml", "transport"]),
    ] {
        let message = device_refused(toml);
        for part in says {
            assert!(message.contains(part), "{part} is missing for {toml}: {message}");
        }
    }
    let message = fails_in_one_line(fleetfoot(&["measure", "--space", "fashion-28", "k3e3", "--device", "my-phone"]));
    assert!(message.contains("'my-phone'") && message.contains("local-cpu"), "{message}");
}

#[test]
fn a_runtime_that_is_not_where_the_environment_says_is_named() {
    let mut measure = fleetfoot(&["measure", "--space", "fashion-28", "k3e3"]);
    measure.env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so");
    let message = fails_in_one_line(measure);
    assert!(message.contains("ORT_DYLIB_PATH") && message.contains("/nowhere/libonnxruntime.so"), "{message}");
}

#[test]
fn a_text_that_is_no_architecture_is_refused() {
    for (wrong, says) in [
        ("00000", "10 decisions"),
        ("00000000000", "10 decisions"),
        ("0000000007", "position 10"),
        ("0060000000", "position 3"),
        ("00000000-0", "00000000-0"),
        ("", "architecture"),
        ("mobilenet", "10 decisions"),
        ("mobile-net", "k3e3"),
        ("öööööööööö", "öööööööööö"),
    ] {
        let message = fails_in_one_line(fleetfoot(&["show", "--space", "fashion-28", wrong]));
        assert!(message.contains(says), "'{wrong}': {message}");
    }
}

#[test]
fn a_wrong_usage_exits_with_2_and_says_what_is_wrong() {
    for (arguments, says) in [
        (&["profile", "--space", "fashion-28", "--frobnicate"][..], "--frobnicate"),
        (&["profile", "--space", "fashion-28"], "--output"),
        (&["profile", "--space", "fashion-28", "-o", "T.csv", "--resume", "--force"], "--force"),
        (&["predict", "--space", "fashion-28", "k3e3"], "--table"),
        (&["show", "--space", "fashion-28", "--toml", "k3e3"], "--toml"),
        (&["measure", "--space", "fashion-28", "k3e3", "--seed", "-1"], "-1"),
        (&["measure", "--space", "fashion-28", "k3e3", "--statistic", "mean"], "mean"),
        (&["teleport"], "teleport"),
    ] {
        let done = fleetfoot(arguments).assert().code(2);
        assert_eq!(common::stdout(&done), "");
        assert!(stderr(&done).contains(says), "{arguments:?}: {}", stderr(&done));
    }
}

#[test]
fn a_value_that_an_option_cannot_have_is_wrong_usage() {
    let measure = ["measure", "--space", "fashion-28", "k3e3", "--device", "mock"];
    let evaluate = ["evaluate", "--table", "T.csv", "--space", "fashion-28"];
    for (command, option) in [
        (&measure[..], ["--min-rounds", "0"]),
        (&measure, ["--visit", "0"]),
        (&measure, ["--visit", "nan"]),
        (&measure, ["--half-width", "0"]),
        (&measure, ["--half-width", "inf"]),
        (&evaluate, ["--networks", "0"]),
        (&evaluate, ["--networks", "184467440737095517"]),
        (&evaluate, ["--passes", "1"]),
        (&evaluate, ["--passes", "4294967296"]),
    ] {
        let done = fleetfoot(&[command, &option].concat()).assert().code(2);
        assert!(stderr(&done).contains(option[0]), "{option:?}: {}", stderr(&done));
    }
}

#[test]
fn options_that_do_not_go_together_are_wrong_usage() {
    let measure = ["measure", "--space", "fashion-28", "k3e3", "--min-rounds", "9", "--max-rounds", "8"];
    assert!(refused_as_usage(fleetfoot(&measure)).contains("--min-rounds 9"));
    assert!(refused_as_usage(fleetfoot(&["measure", "k3e3"])).contains("--space"));
    assert!(refused_as_usage(fleetfoot(&["measure"])).contains("--onnx"));
    let predict = ["predict", "--table", "T.csv", "--space", "fashion-28"];
    assert!(refused_as_usage(fleetfoot(&predict)).contains("--architectures"));
    let evaluate = ["evaluate", "--space", "fashion-28", "--networks", "N.csv", "--model", "M.json"];
    for option in [&["--picture", "P.svg"][..], &["--shuffle"], &["--test", "3"]] {
        let message = refused_as_usage(fleetfoot(&[&evaluate[..], option].concat()));
        assert!(message.contains(&format!("{} is for --learning-curve", option[0])), "{message}");
    }
}

#[test]
fn a_list_without_an_architecture_is_refused() {
    let folder = TempDir::new().unwrap();
    let (list, table) = (folder.path().join("list.txt"), folder.path().join("T.csv"));
    fs::write(&table, table_text()).unwrap();
    let predict = ["predict", "--table", text(&table), "--space", "fashion-28", "--architectures", text(&list)];
    for empty in ["", "# nothing\n", "architecture,latency_ms\n"] {
        fs::write(&list, empty).unwrap();
        assert!(fails_in_one_line(fleetfoot(&predict)).contains("list.txt: it names no architecture"));
    }
    fs::write(&list, "model,architecture\na.onnx,k3e3\nb.onnx,\n").unwrap();
    assert!(fails_in_one_line(fleetfoot(&predict)).contains("list.txt, line 3"));
}

#[test]
fn a_mark_of_byte_order_in_front_of_a_file_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let with_mark = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("\u{feff}{content}")).unwrap();
        path
    };
    let plain = folder.path().join("plain.csv");
    fs::write(&plain, table_text()).unwrap();
    let expected = fleetfoot(&["predict", "--table", text(&plain), "--space", "fashion-28", "k3e3", "k3e6"]).assert();
    let space = SearchSpace::load("fashion-28").unwrap();
    let (table, space) = (with_mark("T.csv", table_text()), with_mark("mine.toml", space.text()));
    let list = with_mark("list.csv", "\"architecture\"\n\"k3e3\"\n\"k3e6\"\n");
    let marked = ["predict", "--table", text(&table), "--space", text(&space), "--architectures", text(&list)];
    let found = fleetfoot(&marked).assert().success();
    assert_eq!((common::stdout(&found), stderr(&found)), (common::stdout(&expected), String::new()));
}

#[test]
fn what_exists_is_not_overwritten_unasked() {
    let folder = TempDir::new().unwrap();
    let (table, there) = (folder.path().join("T.csv"), folder.path().join("there"));
    fs::write(&table, table_text()).unwrap();
    fs::write(&there, "mine").unwrap();
    let evaluate = ["evaluate", "--device", "mock", "--networks", "2", "--space", "fashion-28"];
    for command in [&["fit"][..], &evaluate] {
        let command = [command, &["--table", text(&table), "-o", text(&there)]].concat();
        let message = fails_in_one_line(fleetfoot(&command));
        assert!(message.contains("there exists") && message.contains("--force"), "{message}");
        assert_eq!(fs::read_to_string(&there).unwrap(), "mine");
        fleetfoot(&[&command[..], &["--force"]].concat()).assert().success();
        assert_ne!(fs::read_to_string(&there).unwrap(), "mine");
        fs::write(&there, "mine").unwrap();
    }
    let fit = ["fit", "--table", text(&table), "-o", text(&table), "--force"];
    assert!(fails_in_one_line(fleetfoot(&fit)).contains("is the table itself"));
    assert_eq!(fs::read_to_string(&table).unwrap(), table_text());
}

/// A copy of `fleetfoot` in a folder, with a `fleetfoot-search` of these bytes beside it.
fn beside(folder: &TempDir, search: &[u8]) -> Command {
    let alone = folder.path().join("fleetfoot");
    fs::copy(cargo_bin("fleetfoot"), &alone).unwrap();
    let program = folder.path().join("fleetfoot-search");
    fs::write(&program, search).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    Command::new(&alone)
}

#[test]
fn a_search_without_libtorch_says_what_is_missing() {
    let Ok(mut program) = fs::read(cargo_bin("fleetfoot").with_file_name("fleetfoot-search")) else {
        assert!(std::env::var_os("CI").is_none(), "no fleetfoot-search");
        return;
    };
    // The loader looks for a library of another name.
    let (name, other) = (b"libtorch_cpu.so", b"libtorch_xyz.so");
    let places: Vec<usize> = (0..program.len() - name.len()).filter(|&at| program[at..].starts_with(name)).collect();
    places.iter().for_each(|&at| program[at..at + name.len()].copy_from_slice(other));
    let folder = TempDir::new().unwrap();
    let mut train = beside(&folder, &program);
    train.args(["train", "--space", "fashion-28", "k3e3", "-o", "out"]);
    let message = fails_in_one_line(assert_cmd::Command::from_std(train));
    assert!(message.contains("libtorch_xyz.so") && message.contains("make setup"), "{message}");
}

#[test]
fn openmp_threads_spin_briefly_unless_the_user_says_otherwise() {
    let folder = TempDir::new().unwrap();
    let script = b"#!/bin/sh\n[ \"$1\" = --version ] || echo \"$GOMP_SPINCOUNT $*\"\n";
    let mut command = beside(&folder, script);
    let output = command.args(["search", "--space", "x"]).env_remove("GOMP_SPINCOUNT").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1000 search --space x\n");
    let output = command.env("GOMP_SPINCOUNT", "7").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "7 search --space x\n");
}

#[test]
fn a_search_without_its_program_says_what_is_missing() {
    let folder = TempDir::new().unwrap();
    let alone = folder.path().join("fleetfoot");
    fs::copy(cargo_bin("fleetfoot"), &alone).unwrap();
    for command in ["search", "train", "export"] {
        let mut command_alone = assert_cmd::Command::new(&alone);
        command_alone.arg(command).env("PATH", "");
        let message = fails_in_one_line(command_alone);
        assert!(message.contains("fleetfoot-search") && message.contains("PATH"), "{message}");
    }
    let mut measure = assert_cmd::Command::new(&alone);
    measure.args(["measure", "--space", "fashion-28", "k3e3"]).env("PATH", "");
    let message = fails_in_one_line(measure);
    assert!(message.contains("fleetfoot-agent") && message.contains("PATH"), "{message}");
}

fn profile_into(table: &Path) -> assert_cmd::Command {
    let profile = ["profile", "--space", "fashion-28", "--device", "mock", "-o", text(table)];
    fleetfoot(&[&profile[..], &["--min-rounds", "40", "--max-rounds", "40", "--resume"]].concat())
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let message = fails_in_one_line(profile_into(Path::new("/proc/nowhere/T.csv")));
    assert!(message.contains("/proc/nowhere"), "{message}");
    let message = fails_in_one_line(profile_into(Path::new("/proc/T.csv")));
    assert!(message.contains("/proc/T.csv"), "{message}");
}

#[test]
fn standard_output_that_takes_nothing_is_an_error() {
    if !Path::new("/dev/full").exists() {
        eprintln!("skipped: there is no /dev/full here");
        return;
    }
    for arguments in [&["show", "--space", "fashion-28"][..], &["show", "--space", "fashion-28", "k3e3", "--json"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = fleetfoot_process(arguments).stdout(Stdio::from(full)).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.lines().count() == 1 && message.contains("No space left"), "{message}");
    }
}

/// Every command that writes, writing into a folder; what the learning ones write is small.
fn writers(folder: &Path, table: &Path) -> Vec<(&'static str, Vec<String>)> {
    let table = text(table);
    let learning = "--space fashion-28 --train-images 64 --batch 32 --threads 1";
    let out = text(folder);
    let commands = [
        ("M.json", format!("fit --table {table} -o {out}/M.json")),
        ("T.csv", format!("profile --space fashion-28 --device mock -o {out}/T.csv")),
        ("N.csv", format!("measure --space fashion-28 k3e3 --device mock -o {out}/N.csv")),
        ("E.json", format!("evaluate --table {table} --space fashion-28 --device mock --networks 2 -o {out}/E.json")),
        ("train", format!("train shallowest {learning} --epochs 1 -o {out}/train")),
        (
            "search",
            format!(
                "search --table {table} {learning} --validation-images 64 --warmup-epochs 1 --search-epochs 1 \
                 --weight-steps 1 --target 0.2ms -o {out}/search"
            ),
        ),
    ];
    let learns = cargo_bin("fleetfoot").with_file_name("fleetfoot-search").exists();
    let commands = commands.into_iter().filter(|(name, _)| learns || !["train", "search"].contains(name));
    commands.map(|(name, line)| (name, line.split_whitespace().map(str::to_owned).collect())).collect()
}

/// A folder with a simulated table.
fn with_table() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("table.csv");
    fs::write(&table, table_text()).unwrap();
    (folder, table)
}

#[track_caller]
fn every_writer_fails(mount: &Mount, table: &Path, says: &str) {
    for (name, arguments) in writers(&mount.0, table) {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let message = fails_in_one_line(fleetfoot(&arguments));
        assert!(message.contains(says) && message.contains(name), "{name}: {message}");
        assert_eq!(message.matches(says).count(), 1, "said once: {message}");
    }
}

#[test]
fn every_command_that_writes_says_that_a_folder_is_read_only() {
    let (folder, table) = with_table();
    let Some(mount) = Mount::new(&folder, "ro,size=64k") else { return };
    every_writer_fails(&mount, &table, "ead-only file");
}

#[test]
fn every_command_that_writes_says_that_the_disk_is_full() {
    let (folder, table) = with_table();
    let Some(mount) = Mount::new(&folder, "size=64k") else { return };
    fs::write(mount.0.join("filler"), vec![0; 64 << 10]).unwrap();
    every_writer_fails(&mount, &table, "space");
}

#[test]
fn a_full_disk_is_an_error_and_what_was_measured_until_then_goes_on_elsewhere() {
    let folder = TempDir::new().unwrap();
    let Some(mount) = Mount::new(&folder, "size=64k") else { return };
    let small = mount.0.join("T.csv");
    let message = fails_in_one_line(profile_into(&small));
    assert!(message.contains("No space left") && message.contains("--resume"), "{message}");
    assert!(!small.exists(), "no half a table");
    let journal = fs::read(mount.0.join("T.csv.journal")).unwrap();
    assert!(journal.len() > 10_000, "{} bytes of journal kept", journal.len());
    // Full still: the same error again, nothing lost.
    let again = profile_into(&small).assert().code(1);
    assert!(stderr(&again).contains("No space left"), "{}", stderr(&again));
    assert!(fs::read(mount.0.join("T.csv.journal")).unwrap().len() > 10_000);

    let large = folder.path().join("T.csv");
    fs::copy(mount.0.join("T.csv.journal"), folder.path().join("T.csv.journal")).unwrap();
    let done = profile_into(&large).assert().success();
    assert!(stderr(&done).contains("going on behind"), "{}", stderr(&done));
    assert_eq!(Csv::read(&large).rows.len(), 45);
}
