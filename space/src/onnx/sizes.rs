//! What a written model's nodes are, read back.

use std::collections::BTreeMap;

use prost::Message;

use super::message::{Model, NodeProto};

/// A node of an ONNX model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxNode {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Bytes of the node and of the parameters that it is the first to read.
    pub bytes: u64,
}

/// The nodes of a model of [`write_onnx`](super::write_onnx), in order; `None` for other bytes.
pub fn onnx_nodes(model: &[u8]) -> Option<Vec<OnnxNode>> {
    let graph = Model::decode(model).ok()?.graph?;
    let mut parameters: BTreeMap<String, u64> =
        graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.encoded_len() as u64)).collect();
    let node = |node: NodeProto| {
        let own: u64 = node.input.iter().filter_map(|input| parameters.remove(input)).sum();
        OnnxNode { bytes: own + node.encoded_len() as u64, name: node.name, op: node.op_type }
    };
    Some(graph.node.into_iter().map(node).collect())
}
