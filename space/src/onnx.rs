//! Networks as ONNX: inference form, batch normalisation folded into the convolutions.

mod message;
mod quantisation;
mod sizes;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;

use prost::Message;

use crate::inference::{steps, without_clips};
use crate::layer::Layer;
use crate::network::{Network, Node};
use crate::shape::Shape;
use crate::weights::{Weights, WeightsError};
use message::{Graph, Model, OperatorSet, StringEntry, ValueInfo};
pub use quantisation::{Quantisation, Ranges};
pub use sizes::{OnnxNode, onnx_nodes};

/// The ONNX operator set that is written: the oldest with scales per channel, so that old runtimes load it.
const OPSET: i64 = 13;
/// The ONNX file format version, as old as the operator set permits.
const IR_VERSION: i64 = 7;

/// The bytes of an ONNX model with input `input` and output `output`, both fp32 in every precision. Every convolution
/// carries the BN behind it as its weight and bias. A network without layers is an Identity. `metadata` is stored in the
/// model's properties.
///
/// In fp16, weights and activations are fp16 between a Cast behind the input and one in front of the output.
///
/// In int8, the model is in QDQ form: a QuantizeLinear and a DequantizeLinear stand behind the input and behind every
/// layer, from which runtimes make integer kernels. Weights are signed with a scale for each output channel, activations
/// unsigned with the range that random images gave them; a ReLU6 behind a convolution is what that range leaves of its
/// output. Such models are for measuring: they compute what the fp32 network does as nearly as eight bits do for inputs
/// between -1 and 1, but nobody chose their ranges by real images; [`write_calibrated_onnx`] is for trained networks.
pub fn write_onnx(
    network: &Network,
    weights: &Weights,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, WeightsError> {
    encode(network, writer::graph(network, weights, None)?, metadata)
}

/// The same of a network in int8, by ranges that somebody chose for its input and for the outputs of its
/// [`quantised_nodes`].
pub fn write_calibrated_onnx(
    network: &Network,
    weights: &Weights,
    ranges: &Ranges,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, WeightsError> {
    encode(network, writer::graph(network, weights, Some(ranges))?, metadata)
}

/// Indices of the nodes whose outputs are bytes in int8: convolutions with what is folded into them, additions, the pooling,
/// the classifier.
pub fn quantised_nodes(network: &Network, weights: &Weights) -> Result<Vec<usize>, WeightsError> {
    let steps = without_clips(network, steps(network, weights)?);
    Ok(steps.into_iter().map(|step| step.node).collect())
}

fn encode(network: &Network, mut graph: Graph, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, WeightsError> {
    graph.name = "network".to_owned();
    graph.input.push(ValueInfo::tensor("input", &dims(network.input())));
    let classified = matches!(network.nodes().last(), Some(Node { layer: Layer::Linear { .. }, .. }));
    let out = dims(network.out_shape());
    graph.output.push(ValueInfo::tensor("output", if classified { &out[..2] } else { &out[..] }));
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "fleetfoot".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata
            .iter()
            .map(|(key, value)| StringEntry { key: key.clone(), value: value.clone() })
            .collect(),
    };
    Ok(model.encode_to_vec())
}

fn dims(shape: Shape) -> [i64; 4] {
    [shape.n, shape.c, shape.h, shape.w].map(|extent| extent as i64)
}
