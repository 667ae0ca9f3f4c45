//! Look-up tables of Once-for-All (YAML): what is imported is written and read again as it is.

#![no_main]

use std::path::Path;

use fleetfoot_predictor::{Columns, Format, LeaveOut, import_table};
use fleetfoot_profiler::{LatencyTable, Provenance};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let columns = Columns::default();
    for leave_out in ["", "inexpressible,incomplete,negative,copied"] {
        let leave_out: LeaveOut = leave_out.parse().expect("it is right");
        let imported = import_table(text, "fuzz", Format::Lookup, (&columns, None), &leave_out, Provenance::default());
        if let Ok(imported) = imported {
            let written = String::from_utf8(imported.table.to_csv().expect("it can be written")).expect("it is text");
            let (again, _) = LatencyTable::parse(&written, Path::new("again.csv")).expect("it can be read again");
            assert_eq!(again.rows(), imported.table.rows());
        }
    }
});
