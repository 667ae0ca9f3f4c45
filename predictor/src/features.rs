//! What a regression sees of a unit: one extractor, for fitting and for predicting.

use fleetfoot_space::{Layer, Network, NetworkError, Operator, OperatorKey};

/// Names of the features, in their order. Sizes are natural logarithms, since costs are products of them.
///
/// A block is the sum of a dense and a depthwise part, and the logarithm of a sum is no sum of logarithms. So the two
/// enter together, at two exchange rates between a dense multiply-accumulate and a depthwise one, which runtimes compute
/// several times more slowly; the fit chooses between them.
pub const FEATURES: [&str; 12] = [
    "ln_macs_depthwise_2",
    "ln_macs_depthwise_8",
    "ln_dense_macs",
    "ln_written_bytes",
    "ln_weight_bytes",
    "ln_input_elements",
    "ln_output_elements",
    "ln_hidden_channels",
    "kernel",
    "stride",
    "shortcut",
    "head",
];

/// The features of a unit, in the order of [`FEATURES`].
pub fn features(key: &OperatorKey) -> Result<[f64; FEATURES.len()], NetworkError> {
    // Epsilon doesn't matter here: BN is folded in what runs.
    let network = Network::of_unit(key, 1e-3)?;
    let ln = |n: f64| (1.0 + n).ln();
    let (mut dense, mut depthwise) = (0.0, 0.0);
    for (node, out) in network.walk() {
        let macs = node.layer.macs(out) as f64;
        match node.layer {
            Layer::Conv { c_in, groups, .. } if c_in == groups && groups > 1 => depthwise += macs,
            _ => dense += macs,
        }
    }
    let (kernel, stride, shortcut, hidden) = match key.operator {
        Operator::Conv { kernel, stride, c_out, .. } => (kernel, stride, false, c_out),
        Operator::MbConv { kernel, expansion, stride, c_in, shortcut, .. } => {
            (kernel, stride, shortcut, c_in * expansion.unwrap_or(1))
        }
        Operator::Head { c_hidden, .. } => (1, 1, false, c_hidden),
        Operator::Zero => (1, 1, false, 0),
    };
    Ok([
        ln(dense + 2.0 * depthwise),
        ln(dense + 8.0 * depthwise),
        ln(dense),
        ln(network.activation_bytes() as f64),
        ln(network.weight_bytes() as f64),
        ln(key.input.elements() as f64),
        ln(network.out_shape().elements() as f64),
        ln(hidden as f64),
        kernel as f64,
        stride as f64,
        f64::from(u8::from(shortcut)),
        f64::from(u8::from(matches!(key.operator, Operator::Head { .. }))),
    ])
}
