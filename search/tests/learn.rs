//! Gradients are the same however much is kept, and a batch in parts is its mean.

mod common;

use common::{images, largest_difference, tiny};
use fleetfoot_search::{Backward, Batch, Layout, Learned, Mode, Module, Path, Supernet, cross_entropy, learn};
use fleetfoot_space::{Layer, SearchSpace, Source};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

const WHOLE: Backward = Backward { smoothing: 0.1, recompute: false, parts: 1 };

/// A step's loss and accuracy, and its gradients in the order of the parameters.
fn gradients(supernet: &mut Supernet, path: &Path, batch: &Batch, how: Backward) -> (Learned, Vec<Tensor>) {
    let mut reversed: Vec<Vec<Tensor>> = Vec::new();
    let mut update = |_: &mut Module, gradients: &[Tensor]| {
        reversed.push(gradients.iter().map(Tensor::copy).collect());
        Ok(())
    };
    let learned = learn(&mut supernet.chain(path), batch, how, &mut update).unwrap();
    // A batch in parts updates from the front, others from behind.
    if how.parts == 1 {
        reversed.reverse();
    }
    (learned, reversed.into_iter().flatten().collect())
}

/// BN's running statistics on a path.
fn statistics(supernet: &mut Supernet, path: &Path) -> Vec<Tensor> {
    let chain = supernet.chain(path);
    let statistics = chain.iter().flat_map(|module| module.parameters()).filter(|parameter| !parameter.trainable);
    statistics.map(|parameter| parameter.value.copy()).collect()
}

/// A step's outcome and gradients, and BN's running statistics behind it.
fn step(path: &[usize], n: i64, how: Backward) -> (Learned, Vec<Tensor>, Vec<Tensor>) {
    let mut supernet = Supernet::new(&tiny(), 3, Layout::ChannelsLast).unwrap();
    let path = Path(path.to_vec());
    let (images, labels) = images(n, 2);
    let (learned, gradients) = gradients(&mut supernet, &path, &Batch { images, labels }, how);
    (learned, gradients, statistics(&mut supernet, &path))
}

#[test]
fn blocks_that_are_computed_twice_have_the_loss_gradients_and_statistics_of_those_that_are_not() {
    for path in [[1, 0, 2, 1], [3, 3, 0, 3], [2, 3, 1, 0]] {
        let (whole, wholes, statistics) = step(&path, 12, WHOLE);
        let (blocks, gradients, again) = step(&path, 12, Backward { recompute: true, ..WHOLE });
        assert_eq!(whole, blocks);
        assert_eq!(wholes.len(), gradients.len());
        for (one, other) in wholes.iter().zip(&gradients) {
            assert_eq!(largest_difference(one, other), 0.0, "{path:?}");
        }
        assert_eq!(statistics.len(), again.len());
        statistics.iter().zip(&again).for_each(|(one, other)| assert_eq!(largest_difference(one, other), 0.0));
    }
}

/// Every kind of layer: blocks with groups that are shuffled, skips that are convolutions, blocks without expansion, Zero.
const MIXED: &str = r#"
name = "mixed"
classes = 4
input = { channels = 1, height = 12, width = 12 }
candidates = ["k3e2", "k5e1", "k3e3", "k3e2g2", "skip", "zero"]
stem = { channels = 8 }
first_block = { channels = 8 }
stages = [{ channels = 8, depth = 2, stride = 1 }, { channels = 12, depth = 2, stride = 2 }]
head = { channels = 16 }
"#;

#[test]
fn gradients_are_those_of_libtorchs_own_graph() {
    for layout in [Layout::ChannelsLast, Layout::Nchw] {
        for path in [[0, 1, 2, 3], [3, 0, 4, 4], [1, 3, 3, 1], [4, 2, 0, 0]] {
            let space = SearchSpace::from_toml(MIXED, "mixed").unwrap();
            let [mut one, mut other] = [0; 2].map(|_| Supernet::new(&space, 3, layout).unwrap());
            let path = Path(path.to_vec());
            let (images, labels) = images(12, 2);
            let images = layout.arrange(&images).unwrap();
            let loss = cross_entropy(&one.forward(&path, &images, Mode::Train).unwrap(), &labels, 0.1).unwrap();
            let chain = one.chain(&path);
            let parameters = chain.iter().flat_map(|module| module.parameters());
            let values: Vec<&Tensor> = parameters.filter(|p| p.trainable).map(|p| &p.value).collect();
            let wanted = Tensor::run_backward(&[&loss], &values, false, false);
            let (learned, found) = gradients(&mut other, &path, &Batch { images, labels }, WHOLE);
            assert!((learned.loss - loss.double_value(&[])).abs() < 1e-6);
            assert_eq!(found.len(), wanted.len());
            for ((found, wanted), value) in found.iter().zip(&wanted).zip(&values) {
                assert_eq!(found.size(), value.size());
                let scale = wanted.abs().max().double_value(&[]).max(1e-3);
                assert!(largest_difference(found, wanted) < 1e-4 * scale, "{path:?} {:?}", value.size());
            }
            for (found, wanted) in statistics(&mut other, &path).iter().zip(statistics(&mut one, &path)) {
                assert!(largest_difference(found, &wanted) < 1e-6);
            }
        }
    }
}

/// Maps of 4, 2 and 1 pixels: kernels of 7 and 5 taps reach beyond them, with stride 1 and 2, dense in the stem.
const SMALL: &str = r#"
name = "small"
classes = 4
input = { channels = 1, height = 4, width = 4 }
candidates = ["k7e2", "k5e2", "k3e1", "zero"]
stem = { channels = 8, kernel = 7, stride = 1 }
first_block = { channels = 8 }
stages = [{ channels = 8, depth = 2, stride = 2 }, { channels = 12, depth = 2, stride = 2 }]
head = { channels = 16 }
"#;

#[test]
fn taps_that_only_meet_padding_are_left_out_without_a_difference() {
    for layout in [Layout::ChannelsLast, Layout::Nchw] {
        let space = SearchSpace::from_toml(SMALL, "small").unwrap();
        for path in [[0, 0, 0, 0], [1, 1, 1, 1], [0, 3, 1, 2]] {
            let path = Path(path.to_vec());
            let mut supernet = Supernet::new(&space, 3, layout).unwrap();
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let pixels: Vec<f32> = (0..8 * 16).map(|_| rng.random_range(-1.7..1.7)).collect();
            let images = layout.arrange(&Tensor::from_slice(&pixels).reshape([8, 1, 4, 4])).unwrap();
            let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 0, 1, 2, 3]);
            // libtorch's own convolutions with all taps, on the same weights.
            let mut x = images.shallow_clone();
            let chain = supernet.chain(&path);
            for module in &chain {
                x = plain(module, &x);
            }
            let loss = cross_entropy(&x, &labels, 0.1).unwrap();
            let parameters = chain.iter().flat_map(|module| module.parameters());
            let values: Vec<&Tensor> = parameters.filter(|p| p.trainable).map(|p| &p.value).collect();
            let wanted = Tensor::run_backward(&[&loss], &values, false, false);
            let (learned, found) = gradients(&mut supernet, &path, &Batch { images, labels }, WHOLE);
            assert!((learned.loss - loss.double_value(&[])).abs() < 1e-5);
            for (found, wanted) in found.iter().zip(&wanted) {
                let scale = wanted.abs().max().double_value(&[]).max(1e-3);
                assert!(largest_difference(found, wanted) < 1e-3 * scale, "{path:?} {:?}", wanted.size());
            }
        }
    }
}

/// A module's output by libtorch's operators with all taps and batch statistics.
fn plain(module: &Module, input: &Tensor) -> Tensor {
    let (mut values, mut parameters): (Vec<Tensor>, _) = (Vec::new(), module.parameters().iter());
    let source = |values: &[Tensor], source: Source| match source {
        Source::Input => input.shallow_clone(),
        Source::Node(index) => values[index].shallow_clone(),
    };
    for node in module.network().nodes() {
        let x = source(&values, node.inputs[0]);
        let own: Vec<&Tensor> = node.layer.parameters().iter().map(|_| &parameters.next().unwrap().value).collect();
        values.push(match node.layer {
            Layer::Conv { kernel, stride, groups, .. } => {
                let (stride, padding) = (stride as i64, (kernel / 2) as i64);
                x.conv2d(own[0], None::<&Tensor>, [stride, stride], [padding, padding], [1, 1], groups as i64)
            }
            Layer::BatchNorm { .. } => {
                let eps = f64::from(module.network().bn_eps());
                x.batch_norm(Some(own[0]), Some(own[1]), None::<&Tensor>, None::<&Tensor>, true, 0.1, eps, false)
            }
            Layer::Relu6 => x.clamp(0.0, 6.0),
            Layer::Add => x + source(&values, node.inputs[1]),
            Layer::GlobalAveragePool => x.mean_dim([2, 3].as_slice(), true, None),
            Layer::Linear { .. } => x.flatten(1, -1).linear(own[0], Some(own[1])),
            Layer::ChannelShuffle { groups } => x.channel_shuffle(groups as i64),
        });
    }
    source(&values, module.network().output())
}

#[test]
fn a_batch_in_parts_has_the_mean_gradient_of_its_parts() {
    let mut supernet = Supernet::new(&tiny(), 3, Layout::ChannelsLast).unwrap();
    let path = Path(vec![1, 0, 2, 1]);
    let (images, labels) = images(10, 2);
    let whole = Batch { images: images.shallow_clone(), labels: labels.shallow_clone() };
    // 3, 3 and 4 images.
    let (accumulated, sums) = gradients(&mut supernet, &path, &whole, Backward { parts: 3, ..WHOLE });
    let parts = [(0, 3), (3, 3), (6, 4)].map(|(start, length)| {
        let part = Batch { images: images.narrow(0, start, length), labels: labels.narrow(0, start, length) };
        gradients(&mut supernet, &path, &part, WHOLE)
    });
    let loss = 0.3 * parts[0].0.loss + 0.3 * parts[1].0.loss + 0.4 * parts[2].0.loss;
    assert!((accumulated.loss - loss).abs() < 1e-9);
    for (index, sum) in sums.iter().enumerate() {
        let mean = &parts[0].1[index] * 0.3 + &parts[1].1[index] * 0.3 + &parts[2].1[index] * 0.4;
        assert!(largest_difference(sum, &mean) < 1e-6 * mean.abs().max().double_value(&[]).max(1.0));
    }
}
