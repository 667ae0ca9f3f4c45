//! Networks: graphs of layers, partitioned into measurable units, and the one shape walk over them.

use crate::key::OperatorKey;
use crate::layer::{Layer, ShapeError};
use crate::operator::{Operator, Part};
use crate::shape::{Precision, Shape};

/// Where a node takes an input from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The graph's own input.
    Input,
    /// The output of the node with this index, which lies before the taker.
    Node(usize),
}

/// A layer in a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Unique in the network, such as `stage2.0.depthwise.bn`; the prefix of its parameters' names.
    pub name: String,
    /// What it computes.
    pub layer: Layer,
    /// From where, in the layer's order.
    pub inputs: Vec<Source>,
    /// Index of the unit that it belongs to.
    pub unit: usize,
}

/// A block whose cost can be measured on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The unit's place in the network, such as `stem` or `stage2.0`.
    pub name: String,
    /// What it is and what it is applied to.
    pub key: OperatorKey,
}

/// A topologically ordered graph of layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    input: Shape,
    precision: Precision,
    bn_eps: f32,
    nodes: Vec<Node>,
    shapes: Vec<Shape>,
    units: Vec<Unit>,
    output: Source,
}

/// An operator that can't stand where it was put.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("unit '{unit}' ({}) can't be applied to {}: {source}", key.operator, key.input)]
pub struct NetworkError {
    /// The unit's name.
    pub unit: String,
    /// The operator and the shape that it was given.
    pub key: Box<OperatorKey>,
    /// Why.
    pub source: Box<ShapeError>,
}

impl Network {
    /// A network without layers: its output is its input.
    pub fn empty(input: Shape, precision: Precision, bn_eps: f32) -> Self {
        Self {
            input,
            precision,
            bn_eps,
            nodes: Vec::new(),
            shapes: Vec::new(),
            units: Vec::new(),
            output: Source::Input,
        }
    }

    /// The network that is just this unit, as the profiler measures it.
    pub fn of_unit(key: &OperatorKey, bn_eps: f32) -> Result<Self, NetworkError> {
        let mut network = Self::empty(key.input, key.precision, bn_eps);
        network.push("unit", key.operator)?;
        Ok(network)
    }

    /// Appends a unit behind the present output. An operator without layers (Zero) is a unit without nodes.
    pub fn push(&mut self, name: &str, operator: Operator) -> Result<(), NetworkError> {
        self.append(name, operator, operator.layers())
    }

    /// Appends the 1x1 convolution with BN that [`Operator::Conv`] is without its ReLU6: the linear end that blocks have.
    pub fn push_linear(&mut self, name: &str, c_out: usize) -> Result<(), NetworkError> {
        let conv = Operator::Conv { kernel: 1, stride: 1, c_in: self.out_shape().c, c_out, groups: 1 };
        let linear = conv.layers().into_iter().filter(|part| part.layer != Layer::Relu6);
        self.append(name, conv, linear.collect())
    }

    fn append(&mut self, name: &str, operator: Operator, parts: Vec<Part>) -> Result<(), NetworkError> {
        let input = self.out_shape();
        let unit_input = self.output;
        let unit = self.units.len();
        let first = self.nodes.len();
        for part in parts {
            let inputs: Vec<Source> = part
                .inputs
                .iter()
                .map(|source| match *source {
                    Source::Input => unit_input,
                    Source::Node(index) => Source::Node(first + index),
                })
                .collect();
            let shapes: Vec<Shape> = inputs.iter().map(|&source| self.shape(source)).collect();
            let shape = match part.layer.out_shape(&shapes) {
                Ok(shape) => shape,
                Err(source) => {
                    self.nodes.truncate(first);
                    self.shapes.truncate(first);
                    self.output = unit_input;
                    let key = OperatorKey { operator, input, precision: self.precision };
                    return Err(NetworkError { unit: name.to_owned(), key: Box::new(key), source: Box::new(source) });
                }
            };
            self.output = Source::Node(self.nodes.len());
            self.nodes.push(Node { name: format!("{name}.{}", part.name), layer: part.layer, inputs, unit });
            self.shapes.push(shape);
        }
        let key = OperatorKey { operator, input, precision: self.precision };
        self.units.push(Unit { name: name.to_owned(), key });
        Ok(())
    }

    /// Its units as networks of their own, in order, each of which takes what the one before puts out; nodes keep their
    /// names. Units without layers are left out.
    pub fn apart(&self) -> Vec<Self> {
        let mut end = 0;
        let of_unit = |nodes: &[Node]| {
            let start = end;
            end += nodes.len();
            let within = |source: &Source| match *source {
                Source::Node(index) if index >= start => Source::Node(index - start),
                // What the unit before puts out.
                _ => Source::Input,
            };
            let node = |node: &Node| {
                let inputs = node.inputs.iter().map(within).collect();
                Node { name: node.name.clone(), layer: node.layer, inputs, unit: 0 }
            };
            let unit = self.units[nodes[0].unit].clone();
            Self {
                nodes: nodes.iter().map(node).collect(),
                shapes: self.shapes[start..end].to_vec(),
                output: Source::Node(nodes.len() - 1),
                input: unit.key.input,
                precision: self.precision,
                bn_eps: self.bn_eps,
                units: vec![unit],
            }
        };
        self.nodes.chunk_by(|one, next| one.unit == next.unit).map(of_unit).collect()
    }

    /// The same without batch normalisations. What it makes of an image doesn't depend on the others of its batch, so that
    /// parts of a batch learn together exactly what the whole does.
    pub fn without_batch_norm(&self) -> Self {
        let mut network = Self { nodes: Vec::new(), shapes: Vec::new(), ..self.clone() };
        // What stands for each node of this one.
        let mut stands: Vec<Source> = Vec::with_capacity(self.nodes.len());
        let now = |source: Source, stands: &[Source]| match source {
            Source::Input => Source::Input,
            Source::Node(index) => stands[index],
        };
        for (node, shape) in self.walk() {
            let inputs: Vec<Source> = node.inputs.iter().map(|&source| now(source, &stands)).collect();
            stands.push(if matches!(node.layer, Layer::BatchNorm { .. }) {
                inputs[0]
            } else {
                network.nodes.push(Node { inputs, ..node.clone() });
                network.shapes.push(shape);
                Source::Node(network.nodes.len() - 1)
            });
        }
        network.output = now(self.output, &stands);
        network
    }

    /// The input's shape.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// The precision of all its units.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Epsilon of its batch normalisations.
    pub fn bn_eps(&self) -> f32 {
        self.bn_eps
    }

    /// The layers in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The units in order.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// Where the output comes from.
    pub fn output(&self) -> Source {
        self.output
    }

    /// The shape of a source's activation.
    pub fn shape(&self, source: Source) -> Shape {
        match source {
            Source::Input => self.input,
            Source::Node(index) => self.shapes[index],
        }
    }

    /// The output's shape.
    pub fn out_shape(&self) -> Shape {
        self.shape(self.output)
    }

    /// Nodes with their output shapes.
    pub fn walk(&self) -> impl Iterator<Item = (&Node, Shape)> {
        self.nodes.iter().zip(self.shapes.iter().copied())
    }

    /// Multiply-accumulate operations of convolutions and linear layers.
    pub fn macs(&self) -> u64 {
        self.walk().map(|(node, out)| node.layer.macs(out)).sum()
    }

    /// Trainable parameters, BN's included.
    pub fn params(&self) -> u64 {
        self.nodes.iter().map(|node| node.layer.params()).sum()
    }

    /// Bytes of the weights that stay after BN is folded: every convolution has one bias per output channel. In int8, a
    /// bias is an int32, and each output channel's weights have an fp32 scale.
    pub fn weight_bytes(&self) -> u64 {
        let element = self.precision.bytes() as u64;
        let channel = if self.precision == Precision::Int8 { 4 + 4 } else { element };
        let bytes = |node: &Node| match node.layer {
            Layer::BatchNorm { channels } => channels as u64 * channel,
            Layer::Linear { c_in, c_out } => c_out as u64 * (c_in as u64 * element + channel),
            layer => layer.params() * element,
        };
        self.nodes.iter().map(bytes).sum()
    }

    /// Bytes of all activations that are written, layers that fuse into their predecessor (BN, ReLU6, Add) left out. An
    /// addition in int8 is a kernel of its own: its inputs have other scales than its output.
    pub fn activation_bytes(&self) -> u64 {
        let written = self.walk().filter(|(node, _)| match node.layer {
            Layer::BatchNorm { .. } | Layer::Relu6 => false,
            Layer::Add => self.precision == Precision::Int8,
            _ => true,
        });
        written.map(|(_, out)| (out.elements() * self.precision.bytes()) as u64).sum()
    }

    /// Bytes of the activations that must be there at the same time, at most, when nodes run in order and what nobody
    /// reads any more is given back. BN, ReLU6 and (but for int8) Add write into what they read where nobody else does.
    pub fn peak_activation_bytes(&self) -> u64 {
        let bytes = |shape: Shape| (shape.elements() * self.precision.bytes()) as u64;
        let mut left = self.consumers();
        let of_input = |node: &Node| node.inputs.iter().filter(|&&source| source == Source::Input).count();
        let mut input_left = self.nodes.iter().map(of_input).sum::<usize>() + usize::from(self.output == Source::Input);
        let mut live = bytes(self.input);
        let mut peak = live;
        for (node, out) in self.walk() {
            let overwrites = match node.layer {
                Layer::BatchNorm { .. } | Layer::Relu6 => true,
                Layer::Add => self.precision != Precision::Int8,
                _ => false,
            };
            let in_place = overwrites && matches!(node.inputs[0], Source::Node(index) if left[index] == 1);
            live += if in_place { 0 } else { bytes(out) };
            peak = peak.max(live);
            for (position, &source) in node.inputs.iter().enumerate() {
                let uses = match source {
                    Source::Input => &mut input_left,
                    Source::Node(index) => &mut left[index],
                };
                *uses -= 1;
                if *uses == 0 && !(in_place && position == 0) {
                    live -= bytes(self.shape(source));
                }
            }
        }
        peak
    }

    /// Number of consumers of every node's output, the network's own output counted as one.
    pub fn consumers(&self) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        let takers = self.nodes.iter().flat_map(|node| &node.inputs).chain(std::iter::once(&self.output));
        for source in takers {
            if let Source::Node(index) = *source {
                counts[index] += 1;
            }
        }
        counts
    }
}
