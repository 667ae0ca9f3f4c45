//! Networks as ONNX: inference form, batch normalisation folded into the convolutions.

mod message;
mod sizes;

use std::collections::BTreeMap;

use prost::Message;

use crate::layer::Layer;
use crate::network::{Network, Node, Source};
use crate::shape::{Precision, Shape};
use crate::weights::{Tensor, Weights, WeightsError};
use message::{Attribute, Graph, Model, NodeProto, OperatorSet, StringEntry, TensorProto, ValueInfo};
pub use sizes::{OnnxNode, onnx_nodes};

/// The ONNX operator set that is written.
const OPSET: i64 = 13;
/// The ONNX file format version, as old as the operator set permits, so that old runtimes load it.
const IR_VERSION: i64 = 7;

/// A network that can't be written.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The weights don't fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A number format that the writer doesn't know.
    #[error("ONNX models are written in fp32 only so far, not in {0}")]
    Precision(Precision),
}

/// The bytes of an ONNX model with input `input` and output `output`. Every convolution carries the BN behind it as
/// its weight and bias: `w' = w g / sqrt(v + eps)`, `b' = b - m g / sqrt(v + eps)`. A network without layers is an
/// Identity. `metadata` is stored in the model's properties.
pub fn write_onnx(
    network: &Network,
    weights: &Weights,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, OnnxError> {
    if network.precision() != Precision::Fp32 {
        return Err(OnnxError::Precision(network.precision()));
    }
    let mut writer = Writer { network, weights, consumers: network.consumers(), graph: Graph::default() };
    for (index, node) in network.nodes().iter().enumerate() {
        writer.node(index, node)?;
    }
    if let Source::Input = network.output() {
        writer.emit("Identity", "identity", vec!["input".to_owned()], "output".to_owned(), Vec::new());
    }
    let mut graph = writer.graph;
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

/// Walks the nodes and fills the graph.
struct Writer<'a> {
    network: &'a Network,
    weights: &'a Weights,
    consumers: Vec<usize>,
    graph: Graph,
}

impl Writer<'_> {
    /// The name of a source's value.
    fn value(&self, source: Source) -> String {
        match source {
            _ if source == self.network.output() => "output".to_owned(),
            Source::Input => "input".to_owned(),
            Source::Node(index) => self.network.nodes()[index].name.clone(),
        }
    }

    /// The convolution that a BN folds into: its input, where nobody else reads that.
    fn foldable(&self, source: Source) -> Option<usize> {
        let Source::Node(index) = source else { return None };
        let conv = matches!(self.network.nodes()[index].layer, Layer::Conv { .. });
        (conv && self.consumers[index] == 1 && source != self.network.output()).then_some(index)
    }

    fn is_folded_later(&self, index: usize) -> bool {
        let taker = self.network.nodes()[index + 1..].iter().find(|node| node.inputs == [Source::Node(index)]);
        let bn = matches!(taker, Some(Node { layer: Layer::BatchNorm { .. }, .. }));
        bn && self.foldable(Source::Node(index)).is_some()
    }

    fn parameter(&self, node: &Node, name: &str) -> Result<&Tensor, WeightsError> {
        let specs = node.layer.parameters();
        let spec = specs.iter().find(|spec| spec.name == name);
        let dims = spec.map(|spec| spec.dims.clone()).unwrap_or_default();
        self.weights.get(&format!("{}.{name}", node.name), &dims)
    }

    fn node(&mut self, index: usize, node: &Node) -> Result<(), WeightsError> {
        let inputs: Vec<String> = node.inputs.iter().map(|&source| self.value(source)).collect();
        let output = self.value(Source::Node(index));
        let name = node.name.as_str();
        match node.layer {
            Layer::Conv { .. } if self.is_folded_later(index) => {}
            Layer::Conv { c_out, .. } => {
                let weight = self.parameter(node, "weight")?.clone();
                self.conv(node, &inputs[0], output, weight, vec![0.0; c_out]);
            }
            Layer::BatchNorm { .. } => match self.foldable(node.inputs[0]) {
                Some(conv) => {
                    let conv = &self.network.nodes()[conv];
                    let (weight, bias) = self.folded(conv, node)?;
                    let input = self.value(conv.inputs[0]);
                    self.conv(conv, &input, output, weight, bias);
                }
                None => self.batch_norm(node, inputs, output)?,
            },
            Layer::Relu6 => {
                let mut inputs = inputs;
                for (bound, value) in [("relu6.min", 0.0), ("relu6.max", 6.0)] {
                    if !self.graph.initializer.iter().any(|tensor| tensor.name == bound) {
                        self.graph.initializer.push(TensorProto::floats(bound, &[], &[value]));
                    }
                    inputs.push(bound.to_owned());
                }
                self.emit("Clip", name, inputs, output, Vec::new());
            }
            Layer::ChannelShuffle { groups } => self.channel_shuffle(node, index, groups, inputs, output),
            Layer::Add => self.emit("Add", name, inputs, output, Vec::new()),
            Layer::GlobalAveragePool => self.emit("GlobalAveragePool", name, inputs, output, Vec::new()),
            Layer::Linear { .. } => {
                let flat = format!("{name}.flat");
                self.emit("Flatten", &flat, inputs, flat.clone(), vec![Attribute::int("axis", 1)]);
                let mut inputs = vec![flat];
                for parameter in ["weight", "bias"] {
                    inputs.push(self.initializer(node, parameter)?);
                }
                self.emit("Gemm", name, inputs, output, vec![Attribute::int("transB", 1)]);
            }
        }
        Ok(())
    }

    fn emit(&mut self, op: &str, name: &str, input: Vec<String>, output: String, attribute: Vec<Attribute>) {
        let (op_type, name) = (op.to_owned(), name.to_owned());
        self.graph.node.push(NodeProto { input, output: vec![output], name, op_type, attribute });
    }

    fn initializer(&mut self, node: &Node, parameter: &str) -> Result<String, WeightsError> {
        let name = format!("{}.{parameter}", node.name);
        let tensor = self.parameter(node, parameter)?;
        let proto = TensorProto::floats(&name, &tensor.dims, &tensor.data);
        self.graph.initializer.push(proto);
        Ok(name)
    }

    fn folded(&self, conv: &Node, bn: &Node) -> Result<(Tensor, Vec<f32>), WeightsError> {
        let mut weight = self.parameter(conv, "weight")?.clone();
        let [gamma, beta, mean, var] = ["weight", "bias", "running_mean", "running_var"]
            .map(|name| self.parameter(bn, name).map(|tensor| &tensor.data));
        let (gamma, beta, mean, var) = (gamma?, beta?, mean?, var?);
        let eps = f64::from(self.network.bn_eps());
        let per_channel = weight.data.len() / gamma.len();
        let mut bias = Vec::with_capacity(gamma.len());
        for (channel, filter) in weight.data.chunks_exact_mut(per_channel).enumerate() {
            let scale = f64::from(gamma[channel]) / (f64::from(var[channel]) + eps).sqrt();
            filter.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
            bias.push((f64::from(beta[channel]) - f64::from(mean[channel]) * scale) as f32);
        }
        Ok((weight, bias))
    }

    fn conv(&mut self, conv: &Node, input: &str, output: String, weight: Tensor, bias: Vec<f32>) {
        let Layer::Conv { kernel, stride, groups, .. } = conv.layer else { return };
        let names = [format!("{}.weight", conv.name), format!("{}.bias", conv.name)];
        self.graph.initializer.push(TensorProto::floats(&names[0], &weight.dims, &weight.data));
        self.graph.initializer.push(TensorProto::floats(&names[1], &[bias.len()], &bias));
        let [weight, bias] = names;
        let pad = (kernel / 2) as i64;
        let (kernel, stride) = (kernel as i64, stride as i64);
        let attributes = vec![
            Attribute::ints("dilations", &[1, 1]),
            Attribute::int("group", groups as i64),
            Attribute::ints("kernel_shape", &[kernel, kernel]),
            Attribute::ints("pads", &[pad, pad, pad, pad]),
            Attribute::ints("strides", &[stride, stride]),
        ];
        self.emit("Conv", &conv.name, vec![input.to_owned(), weight, bias], output, attributes);
    }

    fn batch_norm(&mut self, node: &Node, mut inputs: Vec<String>, output: String) -> Result<(), WeightsError> {
        for parameter in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.initializer(node, parameter)?);
        }
        let eps = Attribute::float("epsilon", self.network.bn_eps());
        self.emit("BatchNormalization", &node.name, inputs, output, vec![eps]);
        Ok(())
    }

    fn channel_shuffle(&mut self, node: &Node, index: usize, groups: usize, inputs: Vec<String>, output: String) {
        let [n, c, h, w] = dims(self.network.shape(Source::Node(index)));
        let name = node.name.as_str();
        let [split, join, apart, swapped] = ["split", "join", "apart", "swapped"].map(|part| format!("{name}.{part}"));
        let grouped = [n, groups as i64, c / groups as i64, h, w];
        self.graph.initializer.push(TensorProto::int64s(&split, &grouped));
        self.graph.initializer.push(TensorProto::int64s(&join, &[n, c, h, w]));
        let perm = vec![Attribute::ints("perm", &[0, 2, 1, 3, 4])];
        self.emit("Reshape", &apart, vec![inputs[0].clone(), split], apart.clone(), Vec::new());
        self.emit("Transpose", &swapped, vec![apart.clone()], swapped.clone(), perm);
        self.emit("Reshape", name, vec![swapped, join], output, Vec::new());
    }
}
