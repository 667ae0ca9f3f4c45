//! The walk over a network's steps that fills the graph, and what the precisions do differently on it.

use std::collections::HashMap;

use half::f16;

use super::dims;
use super::message::{Attribute, FLOAT, FLOAT16, Graph, INT8, INT32, INT64, NodeProto, TensorProto, UINT8};
use super::quantisation::{Integers, Quantisation, Ranges, quantisations, ranges_of_noise};
use crate::inference::{Operation, Step, steps, without_clips};
use crate::network::{Network, Source};
use crate::shape::Precision;
use crate::weights::{Tensor, Weights, WeightsError};

/// The nodes and constants of a network's graph. In int8 without ranges, those of noise are taken.
pub(super) fn graph(network: &Network, weights: &Weights, ranges: Option<&Ranges>) -> Result<Graph, WeightsError> {
    let mut steps = steps(network, weights)?;
    let mut quantisations = HashMap::new();
    if network.precision() == Precision::Int8 {
        let noise = if ranges.is_none() { ranges_of_noise(network, &steps) } else { Ranges::new() };
        steps = without_clips(network, steps);
        quantisations = self::quantisations(network, &steps, ranges.unwrap_or(&noise))?;
    }
    let mut writer = Writer { network, quantisations, graph: Graph::default() };
    writer.enter();
    for step in &steps {
        writer.step(step);
        writer.leave(Source::Node(step.node));
    }
    Ok(writer.graph)
}

/// Walks the steps and fills the graph. A value that an operator writes has the name of its node, what takes it reads
/// [`Writer::value`]; conversions lie between the two.
struct Writer<'a> {
    network: &'a Network,
    /// In int8, of the input and of every step's output.
    quantisations: HashMap<Source, Quantisation>,
    graph: Graph,
}

impl Writer<'_> {
    /// What a source's takers read.
    fn value(&self, source: Source) -> String {
        match (source, self.network.precision()) {
            _ if source == self.network.output() => "output".to_owned(),
            (Source::Input, Precision::Fp32) => "input".to_owned(),
            (Source::Input, Precision::Fp16) => "input.half".to_owned(),
            (_, Precision::Int8) => format!("{}.dequantised", self.written(source)),
            (Source::Node(_), _) => self.written(source),
        }
    }

    /// What the operator writes that a source is the output of.
    fn written(&self, source: Source) -> String {
        match (source, self.network.precision()) {
            (Source::Input, _) => "input".to_owned(),
            (_, Precision::Fp32) if source == self.network.output() => "output".to_owned(),
            (Source::Node(index), _) => self.network.nodes()[index].name.clone(),
        }
    }

    /// Converts the input.
    fn enter(&mut self) {
        let empty = self.network.output() == Source::Input;
        match self.network.precision() {
            Precision::Fp32 if empty => {
                self.emit("Identity", "identity", vec!["input".to_owned()], "output".to_owned(), Vec::new());
            }
            Precision::Fp32 => {}
            Precision::Fp16 => {
                self.cast("input", "input.half", FLOAT16);
                if empty {
                    self.cast("input.half", "output", FLOAT);
                }
            }
            Precision::Int8 => self.leave(Source::Input),
        }
    }

    /// Converts what was written to what is read.
    fn leave(&mut self, source: Source) {
        let (written, value) = (self.written(source), self.value(source));
        match self.network.precision() {
            Precision::Int8 => self.quantise(&written, &value, source),
            Precision::Fp16 if source == self.network.output() => self.cast(&written, &value, FLOAT),
            Precision::Fp16 | Precision::Fp32 => {}
        }
    }

    fn cast(&mut self, from: &str, to: &str, kind: i32) {
        let attribute = vec![Attribute::int("to", i64::from(kind))];
        self.emit("Cast", &format!("{from}.cast"), vec![from.to_owned()], to.to_owned(), attribute);
    }

    /// To integers and back, on the scale of a source.
    fn quantise(&mut self, written: &str, value: &str, source: Source) {
        let Some(&Quantisation { scale, zero }) = self.quantisations.get(&source) else { return };
        let [scales, zeros, quantised] = ["scale", "zero", "quantised"].map(|part| format!("{written}.{part}"));
        self.constant(TensorProto::new(&scales, FLOAT, &[], [scale.to_le_bytes()].into_iter()));
        self.constant(TensorProto::new(&zeros, UINT8, &[], [[zero]].into_iter()));
        let taken = |of: &str| vec![of.to_owned(), scales.clone(), zeros.clone()];
        self.emit("QuantizeLinear", &quantised, taken(written), quantised.clone(), Vec::new());
        self.emit("DequantizeLinear", value, taken(&quantised), value.to_owned(), Vec::new());
    }

    /// A value between two operators that only move the elements of a source: what the second one reads.
    fn between(&mut self, written: String, source: Source) -> String {
        if self.network.precision() != Precision::Int8 {
            return written;
        }
        let value = format!("{written}.dequantised");
        self.quantise(&written, &value, source);
        value
    }

    fn step(&mut self, step: &Step) {
        let mut inputs: Vec<String> = step.inputs.iter().map(|&source| self.value(source)).collect();
        let (name, from, output) = (step.name.as_str(), step.inputs[0], self.written(Source::Node(step.node)));
        match &step.operation {
            Operation::Conv { kernel, stride, groups, weight, bias } => {
                inputs.extend(self.parameters(name, weight, bias, from));
                let pad = (kernel / 2) as i64;
                let (kernel, stride) = (*kernel as i64, *stride as i64);
                let attributes = vec![
                    Attribute::ints("dilations", &[1, 1]),
                    Attribute::int("group", *groups as i64),
                    Attribute::ints("kernel_shape", &[kernel, kernel]),
                    Attribute::ints("pads", &[pad, pad, pad, pad]),
                    Attribute::ints("strides", &[stride, stride]),
                ];
                self.emit("Conv", name, inputs, output, attributes);
            }
            Operation::Relu6 => {
                for (bound, value) in [("relu6.min", 0.0), ("relu6.max", 6.0)] {
                    if !self.graph.initializer.iter().any(|tensor| tensor.name == bound) {
                        self.floats(bound, &[], &[value]);
                    }
                    inputs.push(bound.to_owned());
                }
                self.emit("Clip", name, inputs, output, Vec::new());
            }
            Operation::ChannelShuffle { groups } => self.channel_shuffle(name, *groups, inputs, output, from),
            Operation::Add => self.emit("Add", name, inputs, output, Vec::new()),
            Operation::GlobalAveragePool => self.emit("GlobalAveragePool", name, inputs, output, Vec::new()),
            Operation::Linear { weight, bias } => {
                let flat = format!("{name}.flat");
                self.emit("Flatten", &flat, inputs, flat.clone(), vec![Attribute::int("axis", 1)]);
                let mut inputs = vec![self.between(flat, from)];
                inputs.extend(self.parameters(name, weight, bias, from));
                self.emit("Gemm", name, inputs, output, vec![Attribute::int("transB", 1)]);
            }
        }
    }

    /// The names of a weight and a bias; `from` is what the weight is multiplied with.
    fn parameters(&mut self, name: &str, weight: &Tensor, bias: &[f32], from: Source) -> [String; 2] {
        let names = ["weight", "bias"].map(|parameter| format!("{name}.{parameter}"));
        match self.quantisations.get(&from) {
            Some(&input) => self.integers(names, weight, bias, input),
            None => {
                self.floats(&names[0], &weight.dims, &weight.data);
                self.floats(&names[1], &[bias.len()], bias);
                names
            }
        }
    }

    fn integers(&mut self, names: [String; 2], weight: &Tensor, bias: &[f32], input: Quantisation) -> [String; 2] {
        let Integers { weight: elements, weight_scale, bias, bias_scale } = Integers::new(weight, bias, input);
        let channels = [bias.len()];
        let zeros = vec![0i8; bias.len()];
        let [weights, biases] = names;
        let bytes = |elements: &[i8]| elements.iter().map(|x| x.to_le_bytes()).collect::<Vec<_>>().into_iter();
        self.constant(TensorProto::new(&weights, INT8, &weight.dims, bytes(&elements)));
        self.constant(TensorProto::new(&format!("{weights}.zero"), INT8, &channels, bytes(&zeros)));
        self.constant(TensorProto::new(&biases, INT32, &channels, bias.iter().map(|x| x.to_le_bytes())));
        for (name, scales) in [(&weights, &weight_scale), (&biases, &bias_scale)] {
            let elements = scales.iter().map(|x| x.to_le_bytes());
            self.constant(TensorProto::new(&format!("{name}.scale"), FLOAT, &channels, elements));
        }
        // A bias has no zero point: it is 0.
        [(weights, &["scale", "zero"][..]), (biases, &["scale"])].map(|(name, parts)| {
            let mut inputs = vec![name.clone()];
            inputs.extend(parts.iter().map(|part| format!("{name}.{part}")));
            let value = format!("{name}.dequantised");
            self.emit("DequantizeLinear", &value, inputs, value.clone(), vec![Attribute::int("axis", 0)]);
            value
        })
    }

    fn channel_shuffle(&mut self, name: &str, groups: usize, inputs: Vec<String>, output: String, from: Source) {
        let [n, c, h, w] = dims(self.network.shape(from));
        let [split, join, apart, swapped] = ["split", "join", "apart", "swapped"].map(|part| format!("{name}.{part}"));
        self.int64s(&split, &[n, groups as i64, c / groups as i64, h, w]);
        self.int64s(&join, &[n, c, h, w]);
        let perm = vec![Attribute::ints("perm", &[0, 2, 1, 3, 4])];
        self.emit("Reshape", &apart, vec![inputs[0].clone(), split], apart.clone(), Vec::new());
        let apart = self.between(apart, from);
        self.emit("Transpose", &swapped, vec![apart], swapped.clone(), perm);
        let swapped = self.between(swapped, from);
        self.emit("Reshape", name, vec![swapped, join], output, Vec::new());
    }

    fn emit(&mut self, op: &str, name: &str, input: Vec<String>, output: String, attribute: Vec<Attribute>) {
        let (op_type, name) = (op.to_owned(), name.to_owned());
        self.graph.node.push(NodeProto { input, output: vec![output], name, op_type, attribute });
    }

    fn constant(&mut self, tensor: TensorProto) {
        self.graph.initializer.push(tensor);
    }

    /// A constant that floats are computed with.
    fn floats(&mut self, name: &str, dims: &[usize], data: &[f32]) {
        self.constant(match self.network.precision() {
            Precision::Fp16 => {
                TensorProto::new(name, FLOAT16, dims, data.iter().map(|&x| f16::from_f32(x).to_le_bytes()))
            }
            Precision::Fp32 | Precision::Int8 => {
                TensorProto::new(name, FLOAT, dims, data.iter().map(|x| x.to_le_bytes()))
            }
        });
    }

    fn int64s(&mut self, name: &str, data: &[i64]) {
        self.constant(TensorProto::new(name, INT64, &[data.len()], data.iter().map(|x| x.to_le_bytes())));
    }
}
