//! What ONNX Runtime makes of a model in QDQ form: kernels on integers, not conversions around those on floats.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fleetfoot_space::{Network, OperatorKey, Precision, Shape, Weights, write_onnx};
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

/// Kinds of nodes with their numbers.
type Kernels = &'static [(&'static str, usize)];

/// ONNX Runtime's library, as the environment or this checkout has it.
fn library() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../native/onnxruntime/lib/libonnxruntime.so.1.31.1");
    let given = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let found = given.or(Some(own)).filter(|path| path.exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no ONNX Runtime");
        eprintln!("skipped: no ONNX Runtime, see `make setup`");
    }
    found
}

/// The model as it is after all optimisations.
fn optimised(environment: &Environment, onnx: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimised.onnx");
    let session = Session::builder(environment).unwrap();
    let session = session.with_optimization_level(GraphOptimizationLevel::All).unwrap();
    session.with_optimized_model_path(&path).unwrap().commit_from_memory(onnx).unwrap();
    std::fs::read(path).unwrap()
}

/// How many nodes of a model are of this kind, by the bytes of their field `op_type` (number 4, a text).
fn count(model: &[u8], op: &str) -> usize {
    let field = [&[0x22, op.len() as u8], op.as_bytes()].concat();
    model.windows(field.len()).filter(|bytes| *bytes == field).count()
}

#[test]
fn quantised_units_run_on_integer_kernels() {
    let Some(library) = library() else { return };
    let environment = ort::init_from(library).unwrap().with_telemetry(false).build().unwrap();
    let expected: [(&str, Shape, Kernels); 4] = [
        ("conv-k3-s2-i3-o16-g1", Shape::new(1, 3, 32, 32), &[("QLinearConv", 1)]),
        ("mbconv-k5-e6-s1-i16-o16-g1-skip", Shape::new(2, 16, 14, 14), &[("QLinearConv", 3), ("QLinearAdd", 1)]),
        ("mbconv-k3-e4-s2-i16-o24-g2", Shape::new(1, 16, 14, 14), &[("QLinearConv", 3)]),
        (
            "head-i40-h64-o10",
            Shape::new(1, 40, 7, 7),
            &[("QLinearConv", 1), ("QLinearGlobalAveragePool", 1), ("QGemm", 1)],
        ),
    ];
    for (operator, input, kernels) in expected {
        let key = OperatorKey { operator: operator.parse().unwrap(), input, precision: Precision::Int8 };
        let network = Network::of_unit(&key, 1e-3).unwrap();
        let onnx = write_onnx(&network, &Weights::random(&network, 0), &BTreeMap::new()).unwrap();
        let model = optimised(&environment, &onnx);
        for (kernel, nodes) in kernels {
            assert_eq!(count(&model, kernel), *nodes, "{kernel} in {key}");
        }
        // What is left of the conversions stands at the two ends.
        for (conversion, nodes) in
            [("QuantizeLinear", 1), ("DequantizeLinear", 1), ("Clip", 0), ("Conv", 0), ("Gemm", 0)]
        {
            assert_eq!(count(&model, conversion), nodes, "{conversion} in {key}");
        }
    }
}
