//! CSVs of others, with a mapping in the first line: units, and whole networks of a space or of none.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use fleetfoot_predictor::{Columns, Format, LeaveOut, import_networks, import_table, is_of_networks};
use fleetfoot_profiler::{LatencyTable, Provenance};
use fleetfoot_space::SearchSpace;
use libfuzzer_sys::fuzz_target;

static SPACE: LazyLock<SearchSpace> = LazyLock::new(|| SearchSpace::load("fashion-28").expect("it is there"));

fuzz_target!(|text: &str| {
    let (mapping, text) = text.split_once('\n').unwrap_or(("", text));
    let Ok(columns) = mapping.parse::<Columns>() else { return };
    let leave_out: LeaveOut = "inexpressible,incomplete,negative".parse().expect("it is right");
    if is_of_networks(text, &columns) {
        for space in [None, Some(&*SPACE)] {
            let _ = import_networks(text, "fuzz", (&columns, space), &leave_out, Provenance::default());
        }
        return;
    }
    let imported = import_table(text, "fuzz", Format::Csv, (&columns, None), &leave_out, Provenance::default());
    if let Ok(imported) = imported {
        let written = String::from_utf8(imported.table.to_csv().expect("it can be written")).expect("it is text");
        let (again, _) = LatencyTable::parse(&written, Path::new("again.csv")).expect("it can be read again");
        assert_eq!(again.rows(), imported.table.rows());
    }
});
