//! Latency tables (CSV): what is read is written and read again as it is.

#![no_main]

use std::path::Path;

use fleetfoot_profiler::LatencyTable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let path = Path::new("table.csv");
    let Ok((table, _)) = LatencyTable::parse(text, path) else { return };
    let _ = table.conditions();
    let written = String::from_utf8(table.to_csv().expect("it can be written")).expect("it is text");
    let (again, _) = LatencyTable::parse(&written, path).expect("it can be read again");
    assert_eq!(again.rows(), table.rows());
});
