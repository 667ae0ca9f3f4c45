//! A latency table reads back what it writes, and says what is wrong with one that it can't use.

use std::path::Path;

use fleetfoot_profiler::{
    Conditions, Context, Cost, Doubt, Doubts, Latency, LatencyTable, Provenance, Row, Statistic, TableError,
};
use fleetfoot_space::{Operator, OperatorKey, Precision, Shape};
use proptest::prelude::*;

fn latency() -> impl Strategy<Value = Latency> {
    (0.0f64..1e4).prop_map(|ms| Latency::from_ms(ms).unwrap())
}

fn operator() -> impl Strategy<Value = (Operator, usize)> {
    let number = 1usize..2000;
    let kernel = (0usize..4).prop_map(|k| 2 * k + 1);
    prop_oneof![
        (kernel.clone(), 1usize..4, number.clone(), number.clone(), 1usize..4).prop_map(
            |(kernel, stride, c_in, c_out, groups)| (Operator::Conv { kernel, stride, c_in, c_out, groups }, c_in)
        ),
        (kernel, prop::option::of(1usize..9), 1usize..4, number.clone(), number.clone(), 1usize..4, any::<bool>())
            .prop_map(|(kernel, expansion, stride, c_in, c_out, groups, shortcut)| {
                (Operator::MbConv { kernel, expansion, stride, c_in, c_out, groups, shortcut }, c_in)
            }),
        (number.clone(), number.clone(), number)
            .prop_map(|(c_in, c_hidden, classes)| (Operator::Head { c_in, c_hidden, classes }, c_in)),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let times = (latency(), 0.0f64..1.0, 0.0f64..1.0);
    let shape = (1usize..300, 1usize..300);
    let context = prop::sample::select(vec![Context::Cold, Context::Warm, Context::Network]);
    let doubt = prop::option::of(prop::sample::select(Doubt::ALL.to_vec()));
    let known =
        (any::<u32>(), prop::option::of(latency()), prop::option::of(latency()), prop::option::of(context), doubt);
    (operator(), shape, times, known).prop_map(|((operator, c_in), (h, w), (latency, below, above), known)| {
        let scaled = |factor: f64| Latency::from_ms(latency.ms() * factor).unwrap();
        let mut doubts = Doubts::NONE;
        known.4.into_iter().for_each(|doubt| doubts.insert(doubt));
        Row {
            key: OperatorKey { operator, input: Shape::new(1, c_in, h, w), precision: Precision::Fp32 },
            latency,
            low: scaled(1.0 - below),
            high: scaled(1.0 + above),
            samples: u64::from(known.0),
            raw: known.1,
            boundary: known.2,
            measured: known.3,
            doubts,
        }
    })
}

fn conditions() -> Conditions {
    Conditions {
        device: "here".into(),
        cpu: "a processor".into(),
        accelerator: String::new(),
        runtime: "ONNX Runtime 1.31.1".into(),
        provider: "cpu".into(),
        optimisation: "all".into(),
        threads: 1,
        cores: "1".into(),
        precision: Some(Precision::Fp32),
        batch: Some(1),
        context: "cold".into(),
        statistic: Statistic::Median,
        cost: Cost::Latency,
        soak_seconds: 0,
    }
}

fn provenance() -> Provenance {
    let mut provenance = Provenance::default();
    conditions().to_provenance(&mut provenance);
    provenance.set("space", "fashion-28");
    provenance
}

fn ms(ms: f64) -> Latency {
    Latency::from_ms(ms).unwrap()
}

fn plain_row(kernel: usize) -> Row {
    let operator = Operator::Conv { kernel, stride: 1, c_in: 8, c_out: 8, groups: 1 };
    let key = OperatorKey { operator, input: Shape::new(1, 8, 7, 7), precision: Precision::Fp32 };
    Row {
        key,
        latency: ms(1.0),
        low: ms(0.9),
        high: ms(1.2),
        samples: 3,
        raw: None,
        boundary: None,
        measured: None,
        doubts: Doubts::NONE,
    }
}

proptest! {
    #[test]
    fn a_table_reads_back_what_it_writes(
        rows in prop::collection::vec(row(), 1..20),
        overhead in latency(),
        batch in 1usize..9,
        precision in prop_oneof![Just(Precision::Fp32), Just(Precision::Fp16), Just(Precision::Int8)],
    ) {
        let mut rows: Vec<Row> = rows.into_iter().map(|row| Row { key: row.key.at(batch, precision), ..row }).collect();
        let conditions = Conditions { precision: Some(precision), ..conditions() }.at_batch(batch);
        let mut stated = Provenance::default();
        conditions.to_provenance(&mut stated);
        let mut seen = std::collections::HashSet::new();
        rows.retain(|row| seen.insert(row.key));
        let table = LatencyTable::new(stated, overhead, rows.clone()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        table.write(&path).unwrap();
        let (read, warnings) = LatencyTable::read(&path).unwrap();
        prop_assert_eq!(warnings.len(), usize::from(rows.iter().any(|row| !row.doubts.is_empty())));
        prop_assert_eq!(read.rows(), &rows[..]);
        prop_assert_eq!(read.overhead(), overhead);
        prop_assert_eq!(read.conditions(), Some(conditions));
    }

    #[test]
    fn a_table_cut_anywhere_is_an_error(cut in 0.0f64..1.0) {
        let table = LatencyTable::new(provenance(), ms(0.1), (0..9).map(|k| plain_row(2 * k + 1)).collect()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        table.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let cut = (cut * text.len() as f64) as usize;
        prop_assert!(LatencyTable::parse(&text[..cut], Path::new("t.csv")).is_err());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(#[ a-z:0-9]{0,20}\n)?[a-z_,0-9.\n-]{0,200}") {
        let _ = LatencyTable::parse(&text, Path::new("t.csv"));
    }
}

#[test]
fn a_bare_table_is_read_with_a_warning() {
    let text = "operator,kernel,stride,c_in,c_out,height,width,latency_ms\nconv,3,2,3,8,32,32,0.25\n";
    let (table, warnings) = LatencyTable::parse(text, Path::new("bare.csv")).unwrap();
    assert!(warnings[0].contains("provenance unknown") && warnings[1].contains("1 of its 1 rows have no interval"));
    let row = &table.rows()[0];
    assert_eq!((row.latency, row.low, row.high, row.samples), (ms(0.25), ms(0.25), ms(0.25), 0));
    assert_eq!((table.overhead(), table.conditions()), (Latency::ZERO, None));
}

#[test]
fn what_is_wrong_is_said_with_line_and_column() {
    let header = "operator,kernel,stride,c_in,c_out,height,width,latency_ms,low_ms,high_ms\n";
    for (row, wanted) in [
        ("conv,3,2,3,8,32,32,0.5,0.4,\n", "line 2, column high_ms: nothing stands there"),
        ("conv,3,2,3,8,32,32,NaN,0.1,0.9\n", "line 2, column latency_ms"),
        ("conv,3,2,3,8,32,32,-0.5,0.1,0.9\n", "at least 0"),
        ("conv,3,2,3,8,32,32,inf,0.1,0.9\n", "column latency_ms"),
        ("conv,3,2,3,8,32,32,fast,0.1,0.9\n", "'fast' is no number"),
        ("conv,3,2,3,8,32,32,0.5,0.6,0.9\n", "lies outside of its interval"),
        ("conv,4,2,3,8,32,32,0.5,0.4,0.9\n", "line 2, column operator"),
        ("swish,3,2,3,8,32,32,0.5,0.4,0.9\n", "unknown operator 'swish'"),
        ("conv,3.5,2,3,8,32,32,0.5,0.4,0.9\n", "column kernel"),
        ("conv,,2,3,8,32,32,0.5,0.4,0.9\n", "nothing stands there"),
        ("conv,3,2,3,8,32\n", "line 2 has 6 fields"),
        ("conv,3,2,3,8,32,32,0.5,0.4,0.9\nconv,3,2,3,8,32,32,0.5,0.4,0.9\n", "two rows for conv-k3"),
        ("", "holds no rows"),
    ] {
        let error = LatencyTable::parse(&format!("{header}{row}"), Path::new("t.csv")).unwrap_err().to_string();
        assert!(error.contains(wanted), "{row}: {error}");
    }
    let micro = header.replace("latency_ms", "latency_us") + "conv,3,2,3,8,32,32,250,200,300\n";
    let error = LatencyTable::parse(&micro, Path::new("t.csv")).unwrap_err().to_string();
    assert!(error.contains("no column 'latency_ms'") && error.contains("latency_us"), "{error}");
    let half = header.replace(",high_ms", "") + "conv,3,2,3,8,32,32,0.5,0.4\n";
    let error = LatencyTable::parse(&half, Path::new("t.csv")).unwrap_err().to_string();
    assert!(error.contains("no column 'high_ms'") && error.contains("low_ms is one end"), "{error}");
}

#[test]
fn a_table_is_of_one_precision_and_one_batch_size() {
    let row = |kernel, batch, precision| {
        let row = plain_row(kernel);
        Row { key: row.key.at(batch, precision), ..row }
    };
    let table = |rows| LatencyTable::new(provenance(), ms(0.1), rows);
    for (batch, precision, column) in [(1, Precision::Int8, "precision"), (8, Precision::Fp32, "batch")] {
        let rows = vec![row(3, 1, Precision::Fp32), row(5, batch, precision)];
        let error = table(rows).unwrap_err();
        assert!(matches!(error, TableError::Mixed { .. }), "{error}");
        let header = "operator,kernel,stride,c_in,c_out,height,width,batch,precision,latency_ms\n";
        let csv = format!("{header}conv,3,1,8,8,7,7,1,fp32,1\nconv,5,1,8,8,7,7,{batch},{precision},1\n");
        let error = LatencyTable::parse(&csv, Path::new("t.csv")).unwrap_err().to_string();
        for part in ["t.csv, line 3", &format!("column {column}"), "fp32 at batch 1", &format!(":{precision} among")] {
            assert!(error.contains(part), "{part}: {error}");
        }
        // Tables that differ so aren't joined, whatever their heads leave unsaid.
        let (mut one, other) =
            (table(vec![row(3, 1, Precision::Fp32)]).unwrap(), table(vec![row(5, batch, precision)]));
        let error = one.merge(other.unwrap()).unwrap_err().to_string();
        assert!(error.contains(&format!("{column}: '")), "{error}");
    }
}

#[test]
fn a_head_that_contradicts_the_rows_is_an_error() {
    let text =
        String::from_utf8(LatencyTable::new(provenance(), ms(0.1), vec![plain_row(3)]).unwrap().to_csv().unwrap());
    let text = text.unwrap();
    for (ours, theirs) in [("# precision: fp32", "# precision: int8"), ("# batch: 1", "# batch: 8")] {
        assert!(LatencyTable::parse(&text, Path::new("t.csv")).is_ok());
        let error = LatencyTable::parse(&text.replace(ours, theirs), Path::new("t.csv")).unwrap_err().to_string();
        assert!(
            error.contains(&theirs[2..].replace(": ", " = '")) && error.contains(&ours[2..].replace(": ", " ")),
            "{error}"
        );
    }
    // A head from before either was stated.
    let older = text.replace("# precision: fp32\n", "").replace("# batch: 1\n", "");
    let (read, _) = LatencyTable::parse(&older, Path::new("t.csv")).unwrap();
    assert_eq!(read.conditions(), Some(conditions()));
}

#[test]
fn tables_of_other_conditions_are_not_joined() {
    let one = || LatencyTable::new(provenance(), ms(0.1), vec![plain_row(3)]).unwrap();
    let mut joined = one();
    joined.merge(LatencyTable::new(provenance(), ms(0.1), vec![plain_row(5)]).unwrap()).unwrap();
    assert_eq!(joined.rows().len(), 2);
    let mut other = provenance();
    other.set("threads", 2);
    let two_threads = LatencyTable::new(other, ms(0.1), vec![plain_row(7)]).unwrap();
    let error = one().merge(two_threads).unwrap_err();
    assert!(matches!(&error, TableError::Conditions(_)) && error.to_string().contains("threads: '1' against '2'"));
    let unknown = LatencyTable::new(Provenance::default(), ms(0.1), vec![plain_row(7)]).unwrap();
    assert!(one().merge(unknown).is_err());
    assert!(matches!(one().merge(one()).unwrap_err(), TableError::Twice(_)));
}
