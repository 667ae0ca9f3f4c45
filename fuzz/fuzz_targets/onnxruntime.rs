//! Profiles of ONNX Runtime (JSON), alone and as of a space.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use fleetfoot_predictor::{Columns, Format, LeaveOut, import_table};
use fleetfoot_profiler::{LatencyTable, Provenance};
use fleetfoot_space::SearchSpace;
use libfuzzer_sys::fuzz_target;

static SPACE: LazyLock<SearchSpace> = LazyLock::new(|| SearchSpace::load("fashion-28").expect("it is there"));

fuzz_target!(|text: &str| {
    let columns = Columns::default();
    let leave_out: LeaveOut = "inexpressible,incomplete".parse().expect("it is right");
    for space in [None, Some(&*SPACE)] {
        let how = (&columns, space);
        let imported = import_table(text, "fuzz", Format::OnnxRuntime, how, &leave_out, Provenance::default());
        if let Ok(imported) = imported {
            let written = String::from_utf8(imported.table.to_csv().expect("it can be written")).expect("it is text");
            let (again, _) = LatencyTable::parse(&written, Path::new("again.csv")).expect("it can be read again");
            assert_eq!(again.rows(), imported.table.rows());
        }
    }
});
