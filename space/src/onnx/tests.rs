//! What stands in the models.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use prost::Message;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::message::{FLOAT, FLOAT16, Graph, INT8, INT32, INT64, Model, UINT8};
use super::{Ranges, quantised_nodes, write_calibrated_onnx, write_onnx};
use crate::{Network, OperatorKey, Precision, SearchSpace, Shape, Source, Weights, preset_names};

const PRECISIONS: [Precision; 3] = [Precision::Fp32, Precision::Fp16, Precision::Int8];

fn written(network: &Network) -> Graph {
    let onnx = write_onnx(network, &Weights::random(network, 0), &BTreeMap::new()).unwrap();
    let model = Model::decode(onnx.as_slice()).unwrap();
    assert_eq!((model.opset_import[0].version, model.ir_version), (13, 7), "what old runtimes load");
    model.graph.unwrap()
}

fn unit(operator: &str, input: Shape, precision: Precision) -> Network {
    let key = OperatorKey { operator: operator.parse().unwrap(), input, precision };
    Network::of_unit(&key, 1e-3).unwrap()
}

fn count(graph: &Graph, op: &str) -> usize {
    graph.node.iter().filter(|node| node.op_type == op).count()
}

/// The element types of the constants, those of shapes left out.
fn types(graph: &Graph) -> BTreeSet<i32> {
    graph.initializer.iter().map(|tensor| tensor.data_type).filter(|&kind| kind != INT64).collect()
}

fn end(value: &super::ValueInfo) -> (&str, i32) {
    (value.name.as_str(), value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().elem_type)
}

#[test]
fn every_value_is_written_once_before_it_is_read() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut networks: Vec<Network> = Vec::new();
    for precision in PRECISIONS {
        for name in preset_names().filter(|name| *name != "proxyless-224") {
            let space = SearchSpace::load(name).unwrap();
            networks.push(space.network_at(&space.random(&mut rng), 2, precision).unwrap());
        }
        networks.push(unit("mbconv-k3-e4-s1-i8-o8-g2-skip", Shape::new(1, 8, 5, 5), precision));
        networks.push(Network::empty(Shape::new(1, 1, 1, 1), precision, 1e-3));
    }
    for network in networks {
        let graph = written(&network);
        assert_eq!(
            (end(&graph.input[0]), end(&graph.output[0])),
            (("input", FLOAT), ("output", FLOAT)),
            "both ends are fp32 in {}",
            network.precision()
        );
        let mut known: HashSet<&str> = HashSet::from(["input"]);
        assert!(graph.initializer.iter().all(|tensor| known.insert(&tensor.name)), "constants have names of their own");
        for node in &graph.node {
            assert!(node.input.iter().all(|input| known.contains(input.as_str())), "{}: {:?}", node.name, node.input);
            assert!(known.insert(&node.output[0]), "{} is written twice", node.output[0]);
        }
        assert!(known.contains("output"));
        let names: HashSet<&str> = graph.node.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names.len(), graph.node.len(), "nodes have names of their own");
    }
}

#[test]
fn fp16_converts_at_both_ends_and_nowhere_else() {
    let graph = written(&unit("mbconv-k5-e3-s1-i8-o8-g1-skip", Shape::new(1, 8, 9, 9), Precision::Fp16));
    assert_eq!(types(&graph), BTreeSet::from([FLOAT16]));
    let ops: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
    assert_eq!(ops, ["Cast", "Conv", "Clip", "Conv", "Clip", "Conv", "Add", "Cast"]);
    assert_eq!(graph.node[0].attribute[0].i, i64::from(FLOAT16));
    assert_eq!(graph.node[7].attribute[0].i, i64::from(FLOAT));
}

#[test]
fn int8_stands_between_quantised_values() {
    let graph = written(&unit("mbconv-k5-e3-s1-i8-o8-g1-skip", Shape::new(1, 8, 9, 9), Precision::Int8));
    assert_eq!(types(&graph), BTreeSet::from([FLOAT, UINT8, INT8, INT32]));
    // ReLU6 is what the ranges of the first two convolutions leave.
    assert_eq!((count(&graph, "Conv"), count(&graph, "Clip"), count(&graph, "Add")), (3, 0, 1));
    // The input, three convolutions and the sum; on the way back also three weights and three biases.
    assert_eq!((count(&graph, "QuantizeLinear"), count(&graph, "DequantizeLinear")), (5, 5 + 6));
    let tensor = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
    for conv in graph.node.iter().filter(|node| node.op_type == "Conv") {
        let weight = tensor(&format!("{}.weight", conv.name));
        let channels = [weight.dims[0]];
        assert_eq!(weight.data_type, INT8);
        for part in ["weight.scale", "weight.zero", "bias", "bias.scale"] {
            assert_eq!(tensor(&format!("{}.{part}", conv.name)).dims, channels, "{part}: one a channel");
        }
        assert_eq!(tensor(&format!("{}.bias", conv.name)).data_type, INT32);
        assert!(tensor(&format!("{}.weight.zero", conv.name)).raw_data.iter().all(|&zero| zero == 0));
        // The largest weight of every filter takes up the whole range.
        let per_channel = weight.raw_data.len() / channels[0] as usize;
        let largest = |filter: &[u8]| filter.iter().map(|&byte| i32::from(byte as i8).abs()).max();
        assert!(weight.raw_data.chunks_exact(per_channel).all(|filter| largest(filter) == Some(127)));
    }
}

#[test]
fn given_ranges_are_the_scales_of_every_quantised_value() {
    let network = unit("mbconv-k5-e3-s1-i8-o8-g1-skip", Shape::new(1, 8, 9, 9), Precision::Int8);
    let weights = Weights::random(&network, 0);
    let nodes = quantised_nodes(&network, &weights).unwrap();
    let names: Vec<&str> = nodes.iter().map(|&node| network.nodes()[node].name.as_str()).collect();
    // A ReLU6 stands for its convolution, a BN without one for its own.
    assert_eq!(names, ["unit.expand.act", "unit.depthwise.act", "unit.project.bn", "unit.shortcut"]);
    let mut ranges: Ranges = nodes.iter().map(|&node| (Source::Node(node), (0.0, 0.51 * (node + 1) as f32))).collect();
    let missing = write_calibrated_onnx(&network, &weights, &ranges, &BTreeMap::new()).unwrap_err().to_string();
    assert!(missing.contains("range of 'input'"), "{missing}");
    ranges.insert(Source::Input, (-1.0, 1.55));
    let onnx = write_calibrated_onnx(&network, &weights, &ranges, &BTreeMap::new()).unwrap();
    let graph = Model::decode(onnx.as_slice()).unwrap().graph.unwrap();
    let scalar = |name: &str| {
        let tensor = graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
        f32::from_le_bytes(tensor.raw_data[..4].try_into().unwrap())
    };
    assert!((scalar("input.scale") - 0.01).abs() < 1e-6);
    for (node, name) in nodes.iter().zip(names) {
        assert!((scalar(&format!("{name}.scale")) - 0.002 * (node + 1) as f32).abs() < 1e-6, "{name}");
    }
}

#[test]
fn weight_bytes_are_those_of_the_model() {
    for precision in PRECISIONS {
        for (operator, c) in [("mbconv-k7-e6-s2-i24-o40-g2", 24), ("head-i40-h64-o10", 40), ("conv-k3-s2-i3-o16-g1", 3)]
        {
            let network = unit(operator, Shape::new(1, c, 14, 14), precision);
            let graph = written(&network);
            // Zero points, scales of activations, ReLU6's bounds and shapes are no weights; biases' scales are implied.
            let tensors = graph
                .initializer
                .iter()
                .filter(|tensor| [".weight", ".bias", ".weight.scale"].iter().any(|end| tensor.name.ends_with(end)));
            let bytes: usize = tensors.map(|tensor| tensor.raw_data.len()).sum();
            assert_eq!(network.weight_bytes(), bytes as u64, "{operator} in {precision}");
        }
    }
}

#[test]
fn activations_shrink_with_their_elements() {
    let bytes = |precision, shortcut: &str| {
        let operator = format!("mbconv-k3-e6-s1-i16-o16-g1{shortcut}");
        unit(&operator, Shape::new(2, 16, 14, 14), precision).activation_bytes()
    };
    let elements = 2 * 14 * 14 * (96 + 96 + 16);
    assert_eq!((bytes(Precision::Fp32, "-skip"), bytes(Precision::Fp16, "-skip")), (4 * elements, 2 * elements));
    assert_eq!(bytes(Precision::Int8, ""), elements);
    assert_eq!(
        bytes(Precision::Int8, "-skip"),
        elements + 2 * 14 * 14 * 16,
        "integers are added by a kernel of its own"
    );
}

#[test]
fn equal_networks_are_equal_bytes() {
    let network = || unit("mbconv-k3-e6-s1-i16-o16-g1-skip", Shape::new(1, 16, 14, 14), Precision::Int8);
    let onnx = |network: Network| write_onnx(&network, &Weights::random(&network, 4), &BTreeMap::new()).unwrap();
    assert_eq!(onnx(network()), onnx(network()));
    // The ranges are of images, not of a batch of them.
    let scales = |n: usize| {
        let graph = written(&unit("conv-k3-s1-i3-o4-g1", Shape::new(n, 3, 8, 8), Precision::Int8));
        graph.initializer
    };
    assert_eq!(scales(1), scales(8));
}
