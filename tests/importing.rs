//! `fleetfoot import`: numbers of others become tables, or are refused, and never used in silence where they are doubtful.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Csv, fails_in_one_line, fleetfoot, stderr, stdout, text};
use fleetfoot_space::{Network, Operator, OperatorKey, Precision, SearchSpace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

/// A published table: keys and means, in order.
type Published = Vec<(String, f64)>;

/// What becomes of a row, by its position, its key and its mean.
type Change<'a> = &'a dyn Fn(usize, &str, f64) -> f64;

/// What a unit is called by ProxylessNAS: one key, two for a head.
fn keys(key: &OperatorKey) -> Vec<String> {
    let (h, w) = (key.input.h, key.input.w);
    match key.operator {
        Operator::Conv { stride, c_in, c_out, .. } => {
            vec![format!("Conv-input:{h}x{w}x{c_in}-output:{}x{}x{c_out}", h.div_ceil(stride), w.div_ceil(stride))]
        }
        Operator::MbConv { kernel, expansion, stride, c_in, c_out, shortcut, .. } => vec![format!(
            "expanded_conv-input:{h}x{w}x{c_in}-output:{}x{}x{c_out}-expand:{}-kernel:{kernel}-stride:{stride}-idskip:{}",
            h.div_ceil(stride),
            w.div_ceil(stride),
            expansion.unwrap_or(1),
            u8::from(shortcut)
        )],
        Operator::Head { c_in, c_hidden, classes } => vec![
            format!("Conv_1-input:{h}x{w}x{c_in}-output:{h}x{w}x{c_hidden}"),
            format!("Logits-input:{h}x{w}x{c_hidden}-output:{classes}"),
        ],
        Operator::Zero => Vec::new(),
    }
}

/// A table of a space as a phone might have it.
fn published(space: &SearchSpace) -> Published {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut all = Vec::new();
    for unit in space.distinct_units(1, Precision::Fp32) {
        let network = Network::of_unit(&unit, 1e-3).unwrap();
        for (index, key) in keys(&unit).into_iter().enumerate() {
            let share = if index == 0 { 1.0 } else { 0.2 };
            let ms = 0.05 + share * 8e-8 * network.macs() as f64 + 1e-7 * network.activation_bytes() as f64;
            all.push((key, ms * rng.random_range(0.93..1.07)));
        }
    }
    all
}

fn yaml(published: &[(String, f64)]) -> String {
    let entry = |(index, (key, ms)): (usize, &(String, f64))| {
        // Some tables have a variance, others a deviation.
        let spread =
            if index % 2 == 0 { format!("var: {}", (0.02 * ms).powi(2)) } else { format!("std: {}", 0.02 * ms.abs()) };
        format!("{key}:\n  count: 40\n  mean: {ms}\n  {spread}\n")
    };
    published.iter().enumerate().map(entry).collect()
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Imports a text as a table: what was said, and the table.
    fn import(&self, text_of_file: &str, options: &[&str]) -> (String, PathBuf) {
        let (file, table) = (self.path("published"), self.path("table.csv"));
        fs::write(&file, text_of_file).unwrap();
        let arguments = ["import", text(&file), "-o", text(&table), "--force"];
        let said = stderr(&fleetfoot(&[&arguments[..], options].concat()).assert().success());
        (said, table)
    }

    fn refused(&self, text_of_file: &str, options: &[&str]) -> String {
        let file = self.path("published");
        fs::write(&file, text_of_file).unwrap();
        let table = self.path("never.csv");
        let arguments = ["import", text(&file), "-o", text(&table)];
        let said = fails_in_one_line(fleetfoot(&[&arguments[..], options].concat()));
        assert!(!table.exists(), "nothing is written");
        said
    }
}

/// The authors' rule: the stem, every block that isn't nothing, the head's convolution and all behind it.
fn by_the_rule(space: &SearchSpace, architecture: &str, published: &BTreeMap<String, f64>) -> f64 {
    let architecture = space.parse_architecture(architecture).unwrap();
    let network = space.network(&architecture).unwrap();
    let mut sum = 0.0;
    let (mut size, mut channels) = (space.input().h, space.input().c);
    for unit in network.units() {
        match unit.key.operator {
            Operator::Conv { c_out, .. } => {
                let out = size.div_ceil(2);
                sum += published[&format!("Conv-input:{size}x{size}x{channels}-output:{out}x{out}x{c_out}")];
                (size, channels) = (out, c_out);
            }
            Operator::Zero => {}
            Operator::MbConv { kernel, expansion, stride, c_out, shortcut, .. } => {
                let (out, expand) = ((size - 1) / stride + 1, expansion.unwrap_or(1));
                let skip = if shortcut { 1 } else { 0 };
                sum += published[&format!(
                    "expanded_conv-input:{size}x{size}x{channels}-output:{out}x{out}x{c_out}-expand:{expand}-kernel:{kernel}-stride:{stride}-idskip:{skip}"
                )];
                (size, channels) = (out, c_out);
            }
            Operator::Head { c_hidden, classes, .. } => {
                sum += published[&format!("Conv_1-input:{size}x{size}x{channels}-output:{size}x{size}x{c_hidden}")];
                sum += published[&format!("Logits-input:{size}x{size}x{c_hidden}-output:{classes}")];
            }
        }
    }
    sum
}

#[test]
fn sums_of_an_imported_table_are_those_of_its_authors() {
    let files = Files::new();
    for name in ["proxyless-224", "fashion-28", "cifar-32"] {
        let space = SearchSpace::load(name).unwrap();
        // The authors' stems halve the picture, those of small pictures don't.
        if !matches!(space.front()[0].key.operator, Operator::Conv { stride: 2, .. }) {
            continue;
        }
        let published = published(&space);
        let (said, table) = files.import(&yaml(&published), &["--space", name]);
        assert!(!said.contains("warning"), "{said}");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let architectures: Vec<String> = (0..50).map(|_| space.random(&mut rng).to_string()).collect();
        let list = files.path("list.txt");
        fs::write(&list, architectures.join("\n")).unwrap();
        let predict = ["predict", "--table", text(&table), "--space", name, "--architectures", text(&list)];
        let predicted = Csv::parse(&stdout(&fleetfoot(&predict).assert().success()));
        let known: BTreeMap<String, f64> = published.into_iter().collect();
        for (architecture, ms) in architectures.iter().zip(predicted.numbers("latency_ms")) {
            let expected = by_the_rule(&space, architecture, &known);
            assert!((ms - expected).abs() < 5e-5, "{architecture}: {ms} instead of {expected}");
        }
    }
}

#[test]
fn a_missing_key_is_named_as_its_authors_name_it() {
    let files = Files::new();
    let space = SearchSpace::load("proxyless-224").unwrap();
    let published = published(&space);
    let without = |missing: &str| -> String {
        assert!(published.iter().any(|(key, _)| key == missing), "{missing}");
        yaml(&published.iter().filter(|(key, _)| key != missing).cloned().collect::<Published>())
    };
    let block = "expanded_conv-input:56x56x24-output:28x28x40-expand:6-kernel:7-stride:2-idskip:0";
    let error = files.refused(&without(block), &["--space", "proxyless-224"]);
    assert!(error.contains(block) && error.contains("mbconv-k7-e6-s2-i24-o40-g1@1x24x56x56"), "{error}");
    // Not known beforehand what it is for: when it is needed.
    let (_, table) = files.import(&without(block), &[]);
    let list = files.path("list.txt");
    fs::write(&list, "k7e6\n").unwrap();
    for options in [&["k7e6"][..], &["--architectures", text(&list)]] {
        let predict = ["predict", "--table", text(&table), "--space", "proxyless-224"];
        let error = fails_in_one_line(fleetfoot(&[&predict[..], options].concat()));
        assert!(error.contains(block), "{error}");
    }
    let logits = "Logits-input:7x7x1280-output:1000";
    let error = files.refused(&without(logits), &[]);
    assert!(error.contains("Logits-input:7x7x1280-output:") && error.contains("incomplete"), "{error}");
    let (_, table) = files.import(&without(logits), &["--leave-out", "incomplete"]);
    let predict = ["predict", "--table", text(&table), "--space", "proxyless-224", "k7e6"];
    let error = fails_in_one_line(fleetfoot(&predict));
    assert!(error.contains("Conv_1-input:7x7x320-output:7x7x1280 and no Logits-input:7x7x1280-output:1000"), "{error}");
    // Both halves missing.
    let half = "Conv_1-input:7x7x320-output:7x7x1280";
    let headless: Published = published.iter().filter(|(key, _)| key != half && key != logits).cloned().collect();
    let error = files.refused(&yaml(&headless), &["--space", "proxyless-224"]);
    assert!(error.contains(half), "{error}");
}

#[test]
fn traps_are_found_marked_and_never_used_in_silence() {
    let files = Files::new();
    let space = SearchSpace::load("proxyless-224").unwrap();
    let published = published(&space);
    let changed = |change: Change<'_>| -> String {
        let each = published.iter().enumerate();
        yaml(&each.map(|(index, (key, ms))| (key.clone(), change(index, key, *ms))).collect::<Published>())
    };
    let known: BTreeMap<&str, f64> = published.iter().map(|(key, ms)| (key.as_str(), *ms)).collect();
    let between = |_: usize, key: &str, ms: f64| {
        let neighbours =
            ["kernel:3", "kernel:7"].map(|other| known.get(key.replace("kernel:5", other).as_str()).copied());
        match neighbours {
            [Some(three), Some(seven)] if key.contains("kernel:5") => (three + seven) / 2.0,
            _ => ms,
        }
    };
    let traps: [(&str, Change<'_>, usize); 6] = [
        ("near-zero", &|index, _, ms| if index == 17 { 0.003 } else { ms }, 1),
        ("far-off", &|index, _, ms| if index == 17 { 1000.0 * ms } else { ms }, 1),
        ("coarse", &|_, _, ms| (10.0 * ms).round().max(1.0), 40),
        ("first-rows", &|index, _, ms| if index < 15 { 1.65 * ms } else { ms }, 15),
        ("interpolated", &between, 22),
        ("copied", &|index, _, ms| if index == 17 { published[20].1 } else { ms }, 1),
    ];
    for (name, change, least) in traps {
        let file = changed(change);
        let (said, table) = files.import(&file, &[]);
        assert!(said.contains("warning") && said.contains(name), "{name}: {said}");
        let doubts = Csv::read(&table);
        let marked =
            doubts.texts("doubts").iter().filter(|doubts| doubts.split(' ').any(|doubt| doubt == name)).count();
        assert!((least..=least + 35).contains(&marked), "{name}: {marked} rows");
        // Whoever uses the table is told.
        let predict = ["predict", "--table", text(&table), "--space", "proxyless-224", "k5e6"];
        let told = stderr(&fleetfoot(&predict).assert().success());
        assert!(told.contains("in doubt") && told.contains(name), "{told}");
        let never = files.path("never.csv");
        let file_path = files.path("published");
        let strict = ["import", text(&file_path), "-o", text(&never), "--strict"];
        let error = stderr(&fleetfoot(&strict).assert().code(1));
        assert!(error.contains("--strict takes no warnings") && !never.exists(), "{error}");
        if !["coarse", "first-rows"].contains(&name) {
            let (said, table) = files.import(&file, &["--leave-out", name]);
            assert!(
                said.contains("left out") && Csv::read(&table).texts("operator").len() < published.len() - 1,
                "{said}"
            );
        }
    }
    let negative = changed(&|index, _, ms| if index == 17 { -ms } else { ms });
    let error = files.refused(&negative, &[]);
    assert!(error.contains(&published[17].0) && error.contains("--leave-out negative"), "{error}");
    let (said, table) = files.import(&negative, &["--leave-out", "negative"]);
    assert!(said.contains("left out") && said.contains(&published[17].0), "{said}");
    assert_eq!(Csv::read(&table).texts("operator").len(), published.len() - 2);
}

/// Tables of real devices, whose first blocks are made slower or faster: found to the row, where they end within a stage, and nowhere else.
#[test]
fn first_rows_of_measured_tables_are_found_to_the_row() {
    let files = Files::new();
    for table in [
        "epyc-genoa/fashion-28.local-cpu.csv",
        "epyc-genoa/proxyless-224.local-cpu-2threads.csv",
        "epyc-milan/proxyless-224.csv",
        "h100/fashion-28.local-cuda.csv",
    ] {
        let table = Csv::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(table));
        let latencies = table.numbers("latency_ms");
        let keep = ["operator", "kernel", "expansion", "stride", "c_in", "c_out", "groups", "shortcut", "c_hidden"];
        let keep = [&keep[..], &["classes", "batch", "height", "width", "precision"]].concat();
        let columns: Vec<Vec<&str>> = keep.iter().map(|name| table.texts(name)).collect();
        let marked = |first: usize, factor: f64| {
            let mut text = format!("{},latency_ms\n", keep.join(","));
            for (row, ms) in latencies.iter().enumerate() {
                let ms = if row < first { factor * ms } else { *ms };
                let fields: Vec<&str> = columns.iter().map(|column| column[row]).collect();
                text += &format!("{},{ms:.7}\n", fields.join(","));
            }
            let imported = Csv::read(&files.import(&text, &[]).1);
            if !imported.header.iter().any(|column| column == "doubts") {
                return 0;
            }
            imported.texts("doubts").iter().filter(|doubts| doubts.contains("first-rows")).count()
        };
        assert_eq!(marked(0, 1.0), 0);
        // The stem and the first block, which is of another kind, stand in front of them.
        for first in [5, 6, 9, 10, 12] {
            for factor in [1.65, 1.0 / 1.65] {
                assert_eq!(marked(first, factor), first, "{factor}");
            }
        }
    }
}

#[test]
fn first_rows_of_long_tables_are_found_to_the_row() {
    let files = Files::new();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut rows = Vec::new();
    for channels in [16, 24, 32, 40, 48, 64, 80, 96, 128, 160] {
        for size in [56, 28, 14, 7] {
            for (kernel, expansion) in [3, 5, 7].iter().flat_map(|kernel| [1, 2, 3, 4, 6].map(|ratio| (kernel, ratio)))
            {
                let hidden = channels * expansion;
                let macs = size * size * hidden * (2 * channels + 8 * kernel * kernel);
                let ms = (0.01 + 1e-8 * macs as f64) * (1.0 + 0.03 * rng.random_range(-1.0..1.0));
                rows.push((format!("mbconv,{kernel},{expansion},1,{channels},{channels},1,{size},{size},1"), ms));
            }
        }
    }
    for first in [0, 85, 157, 197] {
        let mut text =
            "operator,kernel,expansion,stride,c_in,c_out,shortcut,height,width,expansion_conv,latency_ms\n".to_owned();
        for (row, (fields, ms)) in rows.iter().enumerate() {
            text += &format!("{fields},{:.6}\n", if row < first { 1.65 * ms } else { *ms });
        }
        let imported = Csv::read(&files.import(&text, &[]).1);
        let doubted = imported.header.iter().any(|column| column == "doubts");
        let marked = if doubted { imported.texts("doubts") } else { Vec::new() };
        assert_eq!(marked.iter().filter(|doubts| doubts.contains("first-rows")).count(), first);
    }
}

#[test]
fn what_a_table_of_others_cannot_say_is_refused_with_its_line() {
    let files = Files::new();
    let stem = "Conv-input:224x224x3-output:112x112x32: {count: 3, mean: 1.5, std: 0.1}\n";
    let block =
        |key: &str| format!("{stem}expanded_conv-input:14x14x16-output:14x14x16-{key}: {{count: 3, mean: 1.0}}\n");
    for (file, wanted) in [
        (
            block("expand:64-kernel:3-stride:1-idskip:1-se:1-hs:0"),
            &["line 2", "squeeze-and-excitation", "inexpressible"][..],
        ),
        (block("expand:64-kernel:3-stride:1-idskip:1-se:0-hs:1"), &["h-swish"]),
        (block("expand:70-kernel:3-stride:1-idskip:1-se:0-hs:0"), &["70 hidden channels"]),
        (block("expand:4-kernel:4-stride:1-idskip:1"), &["odd kernel"]),
        (block("expand:4-kernel:3-stride:2-idskip:0"), &["stride 2 doesn't make 14x14"]),
        (block("expand:4-kernel:3-stride:1-idskip:2"), &["idskip is '2'"]),
        (block("expand:4-kernel:3-stride:1"), &["idskip"]),
        (block("expand:4-kernel:3-stride:1-idskip:1-act:relu"), &["no 'act'"]),
        (format!("{stem}AvgPool2D-input:7x7x960-output:1x1x960: {{mean: 1}}\n"), &["line 2", "layer 'AvgPool2D'"]),
        (format!("{stem}Conv-input:224x224x3-output:110x112x32: {{mean: 1}}\n"), &["no stride makes 110x112"]),
        (format!("{stem}{stem}"), &["line 2", "stands in line 1 already"]),
        ("Conv-input:224x224x3-output:112x112x32: {count: 3, mean: .nan}\n".to_owned(), &["line 1", "'.nan'"]),
        ("Conv-input:224x224x3-output:112x112x32: {count: 3, std: 1}\n".to_owned(), &["line 1", "no mean"]),
        ("Conv-input:224x224x3-output:112x112x32: {mean: 1, var: -1}\n".to_owned(), &["var is -1"]),
        ("Conv-input:224x224x3-output:112x112x32: [1]\n".to_owned(), &["line 1"]),
        ("Conv-input:224x224x3-output:112x112x32:\n  count: 3\n  me".to_owned(), &["line"]),
        ("a-input: &x [*x\n".to_owned(), &["line 1"]),
        ("no table\n".to_owned(), &["--format"]),
        (String::new(), &["--format"]),
    ] {
        let error = files.refused(&file, &[]);
        wanted.iter().for_each(|part| assert!(error.contains(part), "{error}: {file}"));
    }
    // MobileNetV3's keys count hidden channels.
    let (_, table) = files.import(&block("expand:64-kernel:3-stride:1-idskip:1-se:0-hs:0"), &[]);
    assert_eq!(Csv::read(&table).texts("expansion"), ["", "4"]);
}

#[test]
fn columns_mean_what_their_names_or_a_mapping_say() {
    let files = Files::new();
    let rows = "stem,3,,2,3,32,224,812.5,10,50\ninverted_residual,5,6,1,16,16,112,1900,20,50\n\
                conv_1,,,,320,1280,7,900,30,50\nlogits,,,,1280,1000,7,200,40,50\n";
    let header = "op,ks,t,s,in_channels,out_channels,resolution,time_us,std_us,n\n";
    let (said, _) = files.import("key,latency_ms,colour\nhead-i4-h4-o4@1x4x4x4:fp32,1,red", &[]);
    assert!(said.contains("not read: colour") && said.contains("it may be cut"), "{said}");
    let (said, table) = files.import(&format!("# of somebody\n{header}{rows}"), &["--device", "a phone"]);
    assert!(said.contains("no column says the shortcut") && said.contains("3 units"), "{said}");
    let known = Csv::read(&table);
    assert_eq!(known.numbers("latency_ms"), [0.8125, 1.9, 1.1]);
    assert_eq!(known.texts("operator"), ["conv", "mbconv", "head"]);
    assert_eq!((known.texts("shortcut")[1], known.texts("samples")[0]), ("1", "50"));
    assert!((known.numbers("high_ms")[1] - 1.9 - 2.67995 * 0.02 / 50f64.sqrt()).abs() < 1e-6);
    assert!(fs::read_to_string(&table).unwrap().contains("# device: a phone\n"));
    // By a mapping; what it doesn't name is known by its usual name.
    let strange = "what,edge,c_in,c_out,kernel,cost\na,14,16,16,3,0.001\nb,14,16,16,7,0.002\n";
    let mapping = "latency_s=cost,height=edge,stride:1,expansion:3,operator:mbconv,shortcut:0,groups:1";
    let (_, table) = files.import(strange, &["--columns", mapping]);
    let known = Csv::read(&table);
    assert_eq!((known.numbers("latency_ms"), known.texts("shortcut")), (vec![1.0, 2.0], vec!["0", "0"]));
    for (file, options, wanted) in [
        (strange, &[][..], "no column is known as the latency"),
        ("kernel,latency\n3,1\n", &[], "doesn't say its unit"),
        ("kernel,latency_ms,time_us\n3,1,2\n", &[], "may both be the latency"),
        (strange, &["--columns", "latency_ms=costs"], "no column 'costs'"),
        (strange, &["--columns", "latency_ms=cost,height=edge,expansion:3"], "line 2: its stride isn't known"),
        ("operator,latency_ms,height\nswish,1,4\n", &[], "operator 'swish' is none of"),
        ("key,latency_ms\nmbconv-k4-e1-s1-i4-o4-g1@1x4x4x4:fp32,1\n", &[], "is not an operator"),
        ("key,latency_ms\nmbconv-k3-e1-s1-i4-o4-g1@1x4x4x4:fp32,inf\n", &[], "line 2: latency is 'inf'"),
        ("key,latency_ms\nmbconv-k3-e1-s1-i4-o4-g1@1x4x4x4:fp32\n", &[], "line 2 has 1 fields"),
        ("key,latency_ms,low_ms,high_ms\nhead-i4-h4-o4@1x4x4x4:fp32,1,2,3\n", &[], "doesn't hold its latency"),
        (
            "key,latency_ms\nhead-i4-h4-o4@1x4x4x4:fp32,1\nhead-i4-h4-o4@1x4x4x4:fp32,2\n",
            &[],
            "line 3 and line 2 are both of head",
        ),
        ("# tool: fleetfoot 0.1.0\nkey,latency_ms\n", &[], "of fleetfoot's own"),
        ("key,latency_ms\n", &[], "nothing is left"),
        ("key,latency_ms,std\nhead-i4-h4-o4@1x4x4x4:fp32,1,2\n", &[], "column 'std' doesn't say its unit"),
        ("key,latency_ms,low_ms\nhead-i4-h4-o4@1x4x4x4:fp32,1,1\n", &[], "but not the other"),
        ("key,latency_ms,latency_ms\nhead-i4-h4-o4@1x4x4x4:fp32,1,2\n", &[], "two columns are named 'latency_ms'"),
        ("operator,c_in,c_out,height,latency_ms\nconv_1,320,1280,0,1\nlogits,1280,10,0,1\n", &[], "don't fit together"),
        ("key,latency_ms\nhead-i60000-h60000-o60000@1x60000x60000x60000:fp32,1\n", &[], "too large"),
        ("key,latency_ms,std_ms,n\nhead-i4-h4-o4@1x4x4x4:fp32,1,1.7e308,2\n", &[], "is not a latency"),
    ] {
        let error = files.refused(file, options);
        assert!(error.contains(wanted), "{error}: {file}");
    }
    for options in [
        ["--columns", "speed=x"],
        ["--columns", "latency=x"],
        ["--columns", "kernel"],
        ["--columns", "kernel=a,kernel=b"],
        ["--columns", "latency_ms:3"],
        ["--leave-out", "everything"],
        ["--format", "xml"],
    ] {
        let output = files.path("y");
        let arguments = [&["import", "x", "-o", text(&output)][..], &options].concat();
        let said = stderr(&fleetfoot(&arguments).assert().code(2));
        assert!(said.contains(options[0]), "{said}");
    }
    assert!(files.refused("a-input:1: {mean: 1}\n", &["--columns", "kernel=k"]).contains("--columns"));
}

#[test]
fn whole_networks_of_others_are_looked_at_too() {
    let files = Files::new();
    let space = SearchSpace::load("fashion-28").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let networks: Vec<(String, f64)> = (0..200)
        .map(|index| {
            let architecture = space.random(&mut rng);
            let macs = space.network(&architecture).unwrap().macs() as f64;
            // A phone that was cold, in whole milliseconds.
            let cold = if index < 25 { 1.65 } else { 1.0 };
            (architecture.to_string(), (cold * (20.0 + 1e-5 * macs) * rng.random_range(0.97..1.03)).round())
        })
        .collect();
    let list: String = networks.iter().map(|(architecture, ms)| format!("{architecture},{ms}\n")).collect();
    let (said, file) = files.import(&format!("arch,ms\n{list}"), &["--space", "fashion-28"]);
    assert!(said.contains("whole milliseconds") && said.contains("the first 25 first-rows"), "{said}");
    let known = Csv::read(&file);
    assert_eq!(known.texts("architecture").len(), 200);
    assert!(known.texts("doubts")[..25].iter().all(|doubts| doubts.contains("first-rows")));
    let model = files.path("model.json");
    let fit = ["fit", "--space", "fashion-28", "--networks", text(&file), "-o", text(&model), "--force"];
    assert!(stderr(&fleetfoot(&fit).assert().success()).contains("the first 25 first-rows"));
    let options = ["--space", "fashion-28", "--leave-out", "first-rows"];
    let (said, file) = files.import(&format!("arch,ms\n{list}"), &options);
    assert!(said.contains("25 doubtful networks are left out"), "{said}");
    assert_eq!(Csv::read(&file).texts("architecture").len(), 175);
    // Sums of a table's rows are no measurements.
    let block = |position: usize, choice: char| 0.1 * (1 + position) as f64 + 0.037 * f64::from(u32::from(choice) % 7);
    let sums: String = networks
        .iter()
        .map(|(architecture, _)| {
            let sum: f64 = architecture.chars().enumerate().map(|(position, choice)| block(position, choice)).sum();
            format!("{architecture},{}\n", 3.0 + sum)
        })
        .collect();
    let (said, _) = files.import(&format!("architecture,latency_ms\n{sums}"), &["--space", "fashion-28"]);
    assert!(said.contains("exactly the sum"), "{said}");
    assert!(files.refused("architecture,ms\n0000000000,-2\n", &[]).contains("line 2, 0000000000: -2 ms (negative)"));
    assert!(files.refused("architecture,ms\n00,2\n", &["--space", "fashion-28"]).contains("line 2"));
}

#[test]
fn a_runtime_s_profile_becomes_the_units_that_it_ran() {
    let files = Files::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let profile = fs::read_to_string(root.join("predictor/tests/files/profile-1.32.0-basic.json")).unwrap();
    let (said, table) = files.import(&profile, &[]);
    assert!(said.contains("6 units") && said.contains("whole microseconds"), "{said}");
    let space = SearchSpace::load("fashion-28").unwrap();
    let (_, shallowest) = space.resolve("shallowest").unwrap();
    let network = space.network(&shallowest).unwrap();
    let predict = ["predict", "--table", text(&table), "--space", "fashion-28", "shallowest"];
    let predicted = Csv::parse(&stdout(&fleetfoot(&predict).assert().success())).numbers("latency_ms")[0];
    // All its nodes' times, and nothing else.
    let events: Vec<serde_json::Value> = serde_json::from_str(&profile).unwrap();
    let nodes = events.iter().filter(|event| event["cat"] == "Node").map(|event| event["dur"].as_f64().unwrap());
    let mean = nodes.sum::<f64>() / 8.0 / 1000.0;
    assert!((predicted / mean - 1.0).abs() < 0.5, "{predicted} and {mean}");
    assert_eq!(network.units().iter().filter(|unit| unit.key.operator != Operator::Zero).count(), 6);
    // A blocked layout has padded 24 channels to 32: the space says what they are.
    let blocked = fs::read_to_string(root.join("profiler/agent/tests/profile-1.31.1.json")).unwrap();
    let error = files.refused(&blocked, &[]);
    assert!(error.contains("stage3.0.expand") && error.contains("--space"), "{error}");
    let (said, table) = files.import(&blocked, &["--space", "fashion-28"]);
    assert!(said.contains("39 units of fashion-28 are not in it"), "{said}");
    let predict = ["predict", "--table", text(&table), "--space", "fashion-28", "shallowest"];
    fleetfoot(&predict).assert().success();
    let batches = profile.replacen("[1,1,28,28]", "[4,1,28,28]", 1);
    assert!(files.refused(&batches, &[]).contains("reads [4, 1, 28, 28] in one run and [1, 1, 28, 28] in another"));
    let swish = profile.replace("\"Clip\"", "\"HardSwish\"");
    let error = files.refused(&swish, &[]);
    assert!(error.contains("no block of fleetfoot has a HardSwish") && error.contains("inexpressible"), "{error}");
    for (file, wanted) in [
        ("[]", "names no node"),
        ("[{\"cat\": 3}]", "line 1"),
        ("[{\"cat\":", "line 1"),
        (&profile.replace("input_type_shape", "shapes"), "has no shapes"),
    ] {
        let error = files.refused(file, &[]);
        assert!(error.contains(wanted), "{error}");
    }
}
