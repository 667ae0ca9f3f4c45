//! Gradients are the same however much is kept, and a batch in parts is its mean.

mod common;

use common::{images, largest_difference, tiny};
use fleetfoot_search::{Backward, Batch, Layout, Learned, Mode, Module, Path, Supernet, cross_entropy, learn};
use fleetfoot_space::SearchSpace;
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
