//! Gradients are the same however much is kept, and a batch in parts is its mean.

mod common;

use common::{Ordinal, images, largest_difference, tiny};
use fleetfoot_search::{
    ALONE, Backward, Batch, Chain, Criterion, CrossEntropy, Layout, Learned, Mixing, Mode, Module, Parameter, Path,
    Supernet, Targets, cross_entropy, learn,
};
use fleetfoot_space::{Layer, SearchSpace, Source};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

const WHOLE: Backward<'static> =
    Backward { criterion: &CrossEntropy, smoothing: 0.1, recompute: false, parts: 1, group: &ALONE };

/// A step's loss and accuracy, and its gradients in the order of the parameters.
fn gradients(
    chain: &mut [&mut Module],
    images: &Tensor,
    targets: &Targets,
    how: Backward<'_>,
) -> (Learned, Vec<Tensor>) {
    let mut reversed: Vec<Vec<Tensor>> = Vec::new();
    let mut update = |_: &mut Module, gradients: &[Tensor]| {
        reversed.push(gradients.iter().map(Tensor::copy).collect());
        Ok(())
    };
    let learned = learn(chain, images, targets, how, &mut update).unwrap();
    // A batch in parts updates from the front, others from behind.
    if how.parts == 1 {
        reversed.reverse();
    }
    (learned, reversed.into_iter().flatten().collect())
}

/// The trainable parameters of modules, and BN's running statistics.
fn parameters(chain: &[&mut Module]) -> (Vec<Tensor>, Vec<Tensor>) {
    let (trainable, statistics): (Vec<_>, Vec<_>) =
        chain.iter().flat_map(|module| module.parameters()).partition(|parameter| parameter.trainable);
    let values = |parameters: Vec<&Parameter>| parameters.iter().map(|p| p.value.shallow_clone()).collect();
    (values(trainable), values(statistics))
}

/// BN's running statistics on a path.
fn statistics(supernet: &mut Supernet, path: &Path) -> Vec<Tensor> {
    parameters(&supernet.chain(path)).1
}

/// libtorch's own gradients of a loss.
fn by_libtorch(loss: &Tensor, parameters: &[Tensor]) -> Vec<Tensor> {
    Tensor::run_backward(&[loss], &parameters.iter().collect::<Vec<_>>(), false, false)
}

/// Equal but for single precision's rounding, `tolerance` of the largest value.
fn assert_near(found: &[Tensor], wanted: &[Tensor], tolerance: f64) {
    assert_eq!(found.len(), wanted.len());
    for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert_eq!(found.size(), wanted.size());
        let scale = wanted.abs().max().double_value(&[]).max(1e-3);
        let off = largest_difference(found, wanted) / scale;
        assert!(off < tolerance, "{index} {:?}: off by {off:e}", wanted.size());
    }
}

fn assert_equal(found: &[Tensor], wanted: &[Tensor]) {
    assert_eq!(found.len(), wanted.len());
    found.iter().zip(wanted).for_each(|(found, wanted)| assert_eq!(largest_difference(found, wanted), 0.0));
}

/// A step's outcome and gradients, and BN's running statistics behind it.
fn step(path: &[usize], n: i64, how: Backward<'_>) -> (Learned, Vec<Tensor>, Vec<Tensor>) {
    let mut supernet = Supernet::new(&tiny(), 3, Layout::ChannelsLast).unwrap();
    let path = Path(path.to_vec());
    let (images, labels) = images(n, 2);
    let (learned, gradients) = gradients(&mut supernet.chain(&path), &images, &labels.into(), how);
    (learned, gradients, statistics(&mut supernet, &path))
}

#[test]
fn blocks_that_are_computed_twice_have_the_loss_gradients_and_statistics_of_those_that_are_not() {
    for path in [[1, 0, 2, 1], [3, 3, 0, 3], [2, 3, 1, 0]] {
        let (whole, wholes, statistics) = step(&path, 12, WHOLE);
        let (blocks, gradients, again) = step(&path, 12, Backward { recompute: true, ..WHOLE });
        assert_eq!(whole, blocks);
        assert_equal(&gradients, &wholes);
        assert_equal(&again, &statistics);
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
            let wanted = by_libtorch(&loss, &parameters(&one.chain(&path)).0);
            let (learned, found) = gradients(&mut other.chain(&path), &images, &labels.into(), WHOLE);
            assert!((learned.loss - loss.double_value(&[])).abs() < 1e-6);
            assert_near(&found, &wanted, 1e-4);
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
            let wanted = by_libtorch(&loss, &parameters(&chain).0);
            let (learned, found) = gradients(&mut supernet.chain(&path), &images, &labels.into(), WHOLE);
            assert!((learned.loss - loss.double_value(&[])).abs() < 1e-5);
            assert_near(&found, &wanted, 1e-3);
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

/// The network that a training derives, apart.
fn derived() -> Chain {
    let space = SearchSpace::from_toml(MIXED, "mixed").unwrap();
    let network = space.network(&space.parse_architecture("3542").unwrap()).unwrap();
    Chain::initial(network, 3, Layout::ChannelsLast).unwrap()
}

/// Images with labels of their own, and in all ways of mixing.
fn batches(n: i64) -> Vec<(Tensor, Targets)> {
    let ways = [(None, None), (Some(0.4), None), (None, Some(1.0))];
    let batch = |(mixup, cutmix)| {
        let (images, labels) = images(n, 2);
        let images = Layout::ChannelsLast.arrange(&images).unwrap();
        Mixing { mixup, cutmix }.apply(Batch { images, labels }, 7, (3, 0)).unwrap()
    };
    ways.into_iter().map(batch).collect()
}

#[test]
fn a_trainings_gradients_are_those_of_libtorchs_own_graph_of_the_whole_network_for_mixed_labels_too() {
    for (images, targets) in batches(12) {
        for criterion in [&CrossEntropy as &dyn Criterion, &Ordinal { scored: true }] {
            let how = Backward { criterion, ..WHOLE };
            let mut chain = derived();
            let mut whole =
                Module::new(chain.network().clone(), &chain.weights().unwrap(), Layout::ChannelsLast).unwrap();
            let loss = targets.loss(criterion, &whole.forward(&images, Mode::Train).unwrap(), 0.1).unwrap();
            let (values, statistics) = parameters(&[&mut whole]);
            let wanted = by_libtorch(&loss, &values);
            let (learned, found) = gradients(&mut chain.modules_mut(), &images, &targets, how);
            assert!((learned.loss - loss.double_value(&[])).abs() < 1e-6);
            assert_near(&found, &wanted, 1e-4);
            for (found, wanted) in parameters(&chain.modules_mut()).1.iter().zip(&statistics) {
                assert!(largest_difference(found, wanted) < 1e-6);
            }
            // Blocks that are computed twice: equal in every bit.
            let mut again = derived();
            let twice = Backward { recompute: true, ..how };
            let (relearned, refound) = gradients(&mut again.modules_mut(), &images, &targets, twice);
            assert_eq!(relearned, learned);
            assert_equal(&refound, &found);
            assert_equal(&parameters(&again.modules_mut()).1, &parameters(&chain.modules_mut()).1);
        }
    }
}

#[test]
fn a_batch_in_parts_has_the_mean_gradient_of_its_parts() {
    for (images, targets) in batches(10) {
        for recompute in [false, true] {
            let how = Backward { recompute, ..WHOLE };
            let mut chain = derived();
            // 3, 3 and 4 images.
            let (accumulated, sums) =
                gradients(&mut chain.modules_mut(), &images, &targets, Backward { parts: 3, ..how });
            let mut chain = derived();
            let parts = [(0, 3), (3, 3), (6, 4)].map(|(start, length)| {
                let (images, targets) = (images.narrow(0, start, length), targets.part(start, length).unwrap());
                gradients(&mut chain.modules_mut(), &images, &targets, how)
            });
            let loss = 0.3 * parts[0].0.loss + 0.3 * parts[1].0.loss + 0.4 * parts[2].0.loss;
            assert!((accumulated.loss - loss).abs() < 1e-9);
            for (index, sum) in sums.iter().enumerate() {
                let mean = &parts[0].1[index] * 0.3 + &parts[1].1[index] * 0.3 + &parts[2].1[index] * 0.4;
                assert!(largest_difference(sum, &mean) < 1e-6 * mean.abs().max().double_value(&[]).max(1.0));
            }
        }
    }
}
