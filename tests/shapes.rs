//! The one shape walk against ONNX Runtime's own: what is written runs, and comes out in the shape that was foreseen.

mod common;

use std::collections::BTreeMap;

use fleetfoot_profiler::Agent;
use fleetfoot_space::{Layer, Network, Precision, SearchSpace, Shape, Weights, preset_names, write_onnx};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Runs a network in ONNX Runtime with random weights on a random input and compares the shape of what comes out with
/// the walk's. Returns the values, all finite.
#[track_caller]
fn run_as_walked(agent: &mut Agent, what: &str, network: &Network, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let weights = Weights::random(network, rng.random());
    let onnx = write_onnx(network, &weights, &BTreeMap::new()).unwrap();
    let Shape { n, c, h, w } = network.input();
    let input: Vec<f32> = (0..network.input().elements()).map(|_| rng.random_range(-1.0..1.0)).collect();
    let model = agent.load(&onnx).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (dims, values) = agent.run(model, &[n, c, h, w], &input).unwrap_or_else(|error| panic!("{what}: {error}"));
    agent.unload(model).unwrap();

    let walked = network.out_shape();
    if network.nodes().last().is_some_and(|node| matches!(node.layer, Layer::Linear { .. })) {
        assert_eq!((walked.h, walked.w), (1, 1), "{what}");
        assert_eq!(dims, [walked.n, walked.c], "{what}: a classifier's output");
    } else {
        assert_eq!(dims, [walked.n, walked.c, walked.h, walked.w], "{what}");
    }
    assert!(values.iter().all(|value| value.is_finite()), "{what}: finite values");
    values
}

#[track_caller]
fn assert_not_all_equal(what: &str, values: &[f32]) {
    assert!(values.iter().any(|value| value != &values[0]), "{what}: {} equal values", values.len());
}

#[test]
fn random_architectures_of_every_preset_come_out_of_the_runtime_as_walked() {
    let (mut agent, mut rng) = (common::agent(), ChaCha8Rng::seed_from_u64(11));
    for name in preset_names() {
        let space = SearchSpace::load(name).unwrap();
        for index in 0..14 {
            let architecture = space.random(&mut rng);
            let batch = if index % 4 == 3 { 3 } else { 1 };
            let network = space.network_at(&architecture, batch, Precision::Fp32).unwrap();
            assert_eq!(network.out_shape(), Shape::new(batch, space.classes(), 1, 1));
            let what = format!("{name} {architecture} at batch {batch}");
            let values = run_as_walked(&mut agent, &what, &network, &mut rng);
            assert_not_all_equal(&what, &values);
        }
    }
}

#[test]
fn named_architectures_with_widths_of_their_own_come_out_of_the_runtime_as_walked() {
    let (mut agent, mut rng) = (common::agent(), ChaCha8Rng::seed_from_u64(12));
    for preset in preset_names() {
        let preset = SearchSpace::load(preset).unwrap();
        for name in preset.architecture_names() {
            let (space, architecture) = preset.resolve(name).unwrap();
            let network = space.network(&architecture).unwrap();
            let what = format!("{} {name}", preset.name());
            let values = run_as_walked(&mut agent, &what, &network, &mut rng);
            assert_not_all_equal(&what, &values);
        }
    }
}

#[test]
fn random_units_of_any_stride_size_and_groups_come_out_of_the_runtime_as_walked() {
    let (mut agent, mut rng) = (common::agent(), ChaCha8Rng::seed_from_u64(13));
    for _ in 0..300 {
        let key = common::random_unit(&mut rng);
        let network = Network::of_unit(&key, 1e-3).unwrap_or_else(|error| panic!("{key}: {error}"));
        // The values may well be equal: a convolution of one pixel per channel is often rectified to 0.
        run_as_walked(&mut agent, &key.to_string(), &network, &mut rng);
    }
}
