//! Mixed precision rounds activations and products to bfloat16, and learns as 32-bit floats do.

mod common;

use common::{images, largest_difference, limits, noise, tiny};
use fleetfoot_search::{
    ALONE, Backward, Batch, Classes, Compute, CrossEntropy, Dataset, Gates, Images, Layout, Learned, Learning as _,
    Mode, Module, Path, Placement, Recipe, Search, SearchSettings, Supernet, Training, by_two_paths, cross_entropy,
    learn,
};
use fleetfoot_space::{Network, OperatorKey, Precision, Shape};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

const WHOLE: Backward<'static> =
    Backward { criterion: &CrossEntropy, smoothing: 0.1, recompute: false, parts: 1, group: &ALONE };
const PATHS: [[usize; 4]; 3] = [[1, 0, 2, 1], [3, 3, 0, 3], [2, 3, 1, 0]];

fn placement(layout: Layout, amp: bool) -> Placement {
    Placement { layout, compute: Compute::Cpu, amp }
}

/// A step's outcome, the gradients of each module of the path, front first, and the supernet behind it.
fn step(placement: Placement, path: [usize; 4], how: Backward<'_>) -> (Learned, Vec<Vec<Tensor>>, Supernet) {
    let mut supernet = Supernet::new(&tiny(), 3, placement).unwrap();
    let (images, labels) = images(64, 2);
    let images = placement.layout.arrange(&images).unwrap();
    let mut gradients: Vec<Vec<Tensor>> = Vec::new();
    let mut update = |_: &mut Module, new: &[Tensor]| {
        gradients.push(new.iter().map(Tensor::copy).collect());
        Ok(())
    };
    let learned = learn(&mut supernet.chain(&Path(path.to_vec())), &images, &labels.into(), how, &mut update).unwrap();
    if how.parts == 1 {
        gradients.reverse();
    }
    (learned, gradients, supernet)
}

/// Cosine of the angle between a module's gradients.
fn cosine(one: &[Tensor], other: &[Tensor]) -> f64 {
    let flat = |all: &[Tensor]| Tensor::cat(&all.iter().map(|t| t.flatten(0, -1)).collect::<Vec<_>>(), 0);
    let (one, other) = (flat(one), flat(other));
    (one.dot(&other) / (one.norm() * other.norm())).double_value(&[])
}

#[test]
fn gradients_point_where_those_of_full_precision_do() {
    for layout in [Layout::ChannelsLast, Layout::Nchw] {
        for path in PATHS {
            let (exact, exacts, _) = step(placement(layout, false), path, WHOLE);
            let (mixed, mixeds, _) = step(placement(layout, true), path, WHOLE);
            assert!((exact.loss - mixed.loss).abs() < 1e-3, "{exact:?} {mixed:?}");
            let cosines: Vec<f64> = exacts.iter().zip(&mixeds).map(|(one, other)| cosine(one, other)).collect();
            // Noise has little to teach: what is left of its gradients is small beside what cancels. 0.978 was the least, in
            // the frontmost module of all; the last module's were 0.9999.
            assert!(cosines.iter().all(|cosine| *cosine > 0.97), "{layout} {path:?} {cosines:?}");
            assert!(cosines[cosines.len() - 1] > 0.999, "{layout} {path:?} {cosines:?}");
        }
    }
}

#[test]
fn gradients_are_those_of_libtorchs_own_graph_of_the_same_pass() {
    for path in PATHS {
        let (learned, found, _) = step(placement(Layout::ChannelsLast, true), path, WHOLE);
        let mut supernet = Supernet::new(&tiny(), 3, placement(Layout::ChannelsLast, true)).unwrap();
        let (images, labels) = images(64, 2);
        let images = Layout::ChannelsLast.arrange(&images).unwrap();
        let path = Path(path.to_vec());
        let loss = cross_entropy(&supernet.forward(&path, &images, Mode::Train).unwrap(), &labels, 0.1).unwrap();
        assert_eq!(loss.double_value(&[]), learned.loss);
        let chain = supernet.chain(&path);
        let learning = |module: &&mut Module| {
            let learning = module.parameters().iter().filter(|parameter| parameter.trainable);
            learning.map(|parameter| parameter.value.shallow_clone()).collect::<Vec<Tensor>>()
        };
        let modules: Vec<Vec<Tensor>> = chain.iter().map(learning).collect();
        let values: Vec<&Tensor> = modules.iter().flatten().collect();
        let mut wanted = Tensor::run_backward(&[&loss], &values, false, false).into_iter();
        for (values, found) in modules.iter().zip(&found) {
            let wanted: Vec<Tensor> = wanted.by_ref().take(values.len()).collect();
            let cosine = cosine(found, &wanted);
            assert!(cosine > 0.9995, "{path:?} {cosine}");
        }
    }
}

#[test]
fn blocks_that_are_computed_twice_give_the_same_bits() {
    for path in PATHS {
        for parts in [1, 3] {
            let how = Backward { parts, ..WHOLE };
            let (one, ones, behind) = step(placement(Layout::ChannelsLast, true), path, how);
            let (other, others, again) =
                step(placement(Layout::ChannelsLast, true), path, Backward { recompute: true, ..how });
            assert_eq!(one, other);
            for (one, other) in ones.iter().flatten().zip(others.iter().flatten()) {
                assert_eq!(largest_difference(one, other), 0.0, "{path:?} {parts}");
            }
            for ((_, one), (_, other)) in behind.modules().zip(again.modules()) {
                for (one, other) in one.parameters().iter().zip(other.parameters()) {
                    assert_eq!(largest_difference(&one.value, &other.value), 0.0, "{}", one.name);
                }
            }
        }
    }
}

#[test]
fn what_learns_is_in_32_bits_and_what_is_computed_in_16() {
    let (_, gradients, mut supernet) = step(placement(Layout::ChannelsLast, true), PATHS[0], WHOLE);
    assert!(gradients.iter().flatten().all(|gradient| gradient.kind() == Kind::Float));
    for (name, module) in supernet.modules() {
        for parameter in module.parameters() {
            assert_eq!(parameter.value.kind(), Kind::Float, "{name} {}", parameter.name);
            assert!(parameter.momentum.iter().all(|momentum| momentum.kind() == Kind::Float));
        }
    }
    let (images, _) = images(8, 5);
    let path = Path(PATHS[0].to_vec());
    for (mode, kind) in [(Mode::Train, Kind::BFloat16), (Mode::Probe, Kind::BFloat16), (Mode::Eval, Kind::Float)] {
        let activation = supernet.front(&images, mode).unwrap();
        assert_eq!(activation.kind(), kind, "{mode:?}");
        assert_eq!(supernet.forward(&path, &images, mode).unwrap().kind(), Kind::Float);
        // Every node's, not the last one's alone.
        let watch = |node: usize, output: &Tensor| {
            assert_eq!(output.kind(), kind, "{mode:?} {node}");
            Ok(())
        };
        let _ = supernet.chain(&path)[1].forward_watched(&activation, mode, watch).unwrap();
    }
}

#[test]
fn a_network_is_evaluated_as_one_of_full_precision() {
    let key = OperatorKey {
        operator: "mbconv-k3-e3-s1-i16-o16-g1-skip".parse().unwrap(),
        input: Shape::new(1, 16, 12, 12),
        precision: Precision::Fp32,
    };
    let network = Network::of_unit(&key, 1e-3).unwrap();
    let [exact, mixed] =
        [false, true].map(|amp| Module::initial(network.clone(), 3, placement(Layout::ChannelsLast, amp)).unwrap());
    let input = Tensor::from_slice(&(0..2 * 16 * 144).map(|i| (i % 97) as f32 / 48.0 - 1.0).collect::<Vec<f32>>());
    let input = Layout::ChannelsLast.arrange(&input.reshape([2, 16, 12, 12])).unwrap();
    let output = |module: &Module, mode| module.forward(&input, mode).unwrap().to_kind(Kind::Float);
    assert_eq!(largest_difference(&output(&exact, Mode::Eval), &output(&mixed, Mode::Eval)), 0.0);
    // Otherwise it rounds, and by no more than bfloat16's 8 bits let expect.
    let difference = largest_difference(&output(&exact, Mode::Probe), &output(&mixed, Mode::Probe));
    assert!(difference > 1e-4 && difference < 0.1, "{difference}");
}

#[test]
fn gates_learn_what_they_learn_in_full_precision() {
    let mut drawn = ChaCha8Rng::seed_from_u64(7);
    let gates = Gates::new(&tiny(), &mut drawn);
    let (images, labels) = images(64, 2);
    let batch = Batch { images: Layout::ChannelsLast.arrange(&images).unwrap(), labels };
    let [exact, mixed] =
        [false, true].map(|amp| Supernet::new(&tiny(), 3, placement(Layout::ChannelsLast, amp)).unwrap());
    let (mut product, mut norms) = (0.0, [0.0; 2]);
    for _ in 0..8 {
        let pairs = gates.sample_pairs(&mut drawn);
        let [(ce, one), (rounded, other)] =
            [&exact, &mixed].map(|supernet| by_two_paths(supernet, &gates, &pairs, &batch, &CrossEntropy).unwrap());
        assert!((ce - rounded).abs() < 2e-3, "{ce} {rounded}");
        for (one, other) in one.iter().zip(&other) {
            product += one.0 * other.0;
            norms = [norms[0] + one.0 * one.0, norms[1] + other.0 * other.0];
        }
    }
    let cosine = product / (norms[0] * norms[1]).sqrt();
    assert!(cosine > 0.99, "{cosine}");
}

/// Images whose class is the quarter that is a little brighter, under noise.
fn quarters() -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut set = |n: usize| {
        let mut pixels = Vec::with_capacity(n * 144);
        for image in 0..n {
            for pixel in 0..144 {
                let inside = pixel / 72 == image % 4 / 2 && pixel % 12 / 6 == image % 2;
                pixels.push(rng.random_range(0..190u8) + if inside { 60 } else { 0 });
            }
        }
        let labels = (0..n).map(|i| (i % 4) as u16).collect();
        Images { channels: 1, height: 12, width: 12, classes: Classes::Exactly(4), pixels, labels }
    };
    Dataset { name: "quarters".into(), train: set(512).into(), test: set(256).into() }
}

fn recipe(amp: bool) -> Recipe {
    let (epochs, batch, train_images) = (5, 32, 512);
    Recipe { epochs, batch, train_images, lr: 0.05, shift: 0, flip: false, seed: 3, amp, ..Recipe::default() }
}

#[test]
fn a_training_reaches_the_loss_that_it_reaches_in_full_precision() {
    let (space, dataset, folder) = (tiny(), quarters(), tempfile::tempdir().unwrap());
    let architecture = space.parse_architecture("1021").unwrap();
    let [exact, mixed] = [false, true].map(|amp| {
        let mut training = Training::new(&space, &architecture, &dataset, recipe(amp)).unwrap();
        training.run(folder.path(), &false.into(), &mut |_| ()).unwrap();
        let losses: Vec<f64> = training.curve().iter().map(|point| point.loss).collect();
        (losses, training.evaluate().unwrap())
    });
    assert!(exact.0[4] < exact.0[0] - 0.5, "it learns: {exact:?}");
    for (epoch, (exact, mixed)) in exact.0.iter().zip(&mixed.0).enumerate() {
        assert!((exact - mixed).abs() < 0.02, "epoch {epoch}: {exact} {mixed}");
    }
    assert_ne!(exact.0, mixed.0);
    assert!((exact.1.loss - mixed.1.loss).abs() < 0.03, "{exact:?} {mixed:?}");
    assert!(mixed.1.accuracy_percent > 95.0, "{mixed:?}");
    // The precision is part of the recipe: a checkpoint of one isn't gone on with in the other.
    let mut other = Training::new(&space, &architecture, &dataset, recipe(false)).unwrap();
    let error = other.restore(folder.path()).unwrap_err().to_string();
    assert!(error.contains("another recipe"), "{error}");
}

#[test]
fn a_search_that_was_stopped_ends_with_the_bits_of_one_that_was_not() {
    let settings = SearchSettings { amp: true, search_epochs: 3, ..common::settings() };
    let start = || Search::new(&tiny(), limits(7.0), &noise(64), settings.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut whole, mut first, mut second) = (start(), start(), start());
    whole.run(folder.path(), &false.into(), &mut |_| ()).unwrap();
    for _ in 0..7 {
        first.advance(folder.path()).unwrap();
    }
    first.save(folder.path()).unwrap();
    second.restore(folder.path()).unwrap();
    second.run(folder.path(), &false.into(), &mut |_| ()).unwrap();
    assert_eq!(whole.hash().unwrap(), second.hash().unwrap());
    assert!(whole.found().unwrap().curve.iter().all(|point| point.loss.is_finite()));
}
