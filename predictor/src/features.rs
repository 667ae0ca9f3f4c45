//! What a regression sees of a unit: one extractor, for fitting and for predicting.

use fleetfoot_space::{Layer, Network, NetworkError, Operator, OperatorKey};

/// Names of the features, in their order. Sizes are natural logarithms, since costs are products of them.
pub const FEATURES: [&str; 13] = [
    "ln_pointwise_macs",
    "ln_depthwise_macs",
    "ln_other_macs",
    "ln_written_bytes",
    "ln_weight_bytes",
    "ln_input_elements",
    "ln_output_elements",
    "ln_hidden_channels",
    "kernel",
    "ln_expansion",
    "stride",
    "shortcut",
    "head",
];

/// The features of a unit, in the order of [`FEATURES`].
pub fn features(key: &OperatorKey) -> Result<[f64; FEATURES.len()], NetworkError> {
    // Epsilon doesn't matter here: BN is folded in what runs.
    let network = Network::of_unit(key, 1e-3)?;
    let ln = |n: u64| (1.0 + n as f64).ln();
    let macs = |wanted: fn(&Layer) -> bool| {
        let layers = network.walk().filter(|(node, _)| wanted(&node.layer));
        ln(layers.map(|(node, out)| node.layer.macs(out)).sum())
    };
    let pointwise = |layer: &Layer| matches!(layer, Layer::Conv { kernel: 1, groups: 1, .. });
    let depthwise = |layer: &Layer| matches!(layer, Layer::Conv { c_in, groups, .. } if c_in == groups && *groups > 1);
    let other = |layer: &Layer| {
        let Layer::Conv { c_in, kernel, groups, .. } = *layer else { return true };
        !(kernel == 1 && groups == 1 || c_in == groups && groups > 1)
    };
    let (kernel, expansion, stride, shortcut, hidden) = match key.operator {
        Operator::Conv { kernel, stride, c_out, .. } => (kernel, 1, stride, false, c_out),
        Operator::MbConv { kernel, expansion, stride, c_in, shortcut, .. } => {
            (kernel, expansion, stride, shortcut, c_in * expansion)
        }
        Operator::Head { c_hidden, .. } => (1, 1, 1, false, c_hidden),
        Operator::Zero => (1, 1, 1, false, 0),
    };
    Ok([
        macs(pointwise),
        macs(depthwise),
        macs(other),
        ln(network.activation_bytes()),
        ln(network.weight_bytes()),
        ln(key.input.elements() as u64),
        ln(network.out_shape().elements() as u64),
        ln(hidden as u64),
        kernel as f64,
        (expansion as f64).ln(),
        stride as f64,
        f64::from(u8::from(shortcut)),
        f64::from(u8::from(matches!(key.operator, Operator::Head { .. }))),
    ])
}
