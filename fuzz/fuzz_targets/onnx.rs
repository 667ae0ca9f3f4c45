//! ONNX models: their nodes.

#![no_main]

use fleetfoot_space::onnx_nodes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = onnx_nodes(bytes);
});
