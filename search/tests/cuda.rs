//! A GPU computes what the processor does, by the same code. Every test runs with the processor in both parts, which must be
//! exact; where libtorch offers a GPU, with that, too.

mod common;

use common::{images, limits, noise, settings, tiny};
use fleetfoot_search::{
    ALONE, Backward, Batch, Checkpoint, Compute, CrossEntropy, Gates, Layout, Learning as _, Mixing, Mode, Module,
    Path, Placement, Recipe, Search, SearchSettings, Sgd, Source, Supernet, Training, by_two_paths, calibrate, learn,
};
use fleetfoot_search::{Account, Observer};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Cuda, Kind, Tensor};

/// The processor, and a GPU where there is one.
fn devices() -> Vec<Compute> {
    if !Cuda::is_available() {
        eprintln!("skipped on a GPU: libtorch offers none");
        return vec![Compute::Cpu];
    }
    Compute::Cuda(0).prepare().unwrap();
    vec![Compute::Cpu, Compute::Cuda(0)]
}

/// How far off numbers may be, as a share of the largest: cuDNN multiplies in TF32, of 11 bits, bfloat16 has 8.
fn allowed(compute: Compute, amp: bool) -> f64 {
    match (compute, amp) {
        (Compute::Cpu, _) => 0.0,
        (Compute::Cuda(_), false) => 0.02,
        (Compute::Cuda(_), true) => 0.2,
    }
}

/// The largest difference as a share of the largest value.
fn off(one: &Tensor, other: &Tensor) -> f64 {
    let [one, other] = [one, other].map(|tensor| tensor.detach().to(tch::Device::Cpu).to_kind(Kind::Double));
    let scale = one.abs().max().double_value(&[]).max(1e-3);
    (one - other).abs().max().double_value(&[]) / scale
}

/// A step's loss, its gradients, and weights and statistics behind it, all on the processor.
fn step(placement: Placement) -> (f64, Vec<Tensor>) {
    let mut supernet = Supernet::new(&tiny(), 3, placement).unwrap();
    let (images, labels) = images(32, 2);
    let batch = Batch { images: placement.layout.arrange(&images).unwrap(), labels };
    let batch = batch.on(placement.compute).unwrap();
    assert_eq!(batch.images.device(), placement.compute.device());
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut update = |module: &mut Module, new: &[Tensor]| {
        tensors.extend(new.iter().map(Tensor::copy));
        Sgd::default().update(module, new, 0.05)
    };
    let how = Backward { criterion: &CrossEntropy, smoothing: 0.1, recompute: false, parts: 2, group: &ALONE };
    let path = Path(vec![1, 0, 2, 1]);
    let learned = learn(&mut supernet.chain(&path), &batch.images, &batch.labels.into(), how, &mut update).unwrap();
    for module in supernet.chain(&path) {
        for parameter in module.parameters() {
            let all = std::iter::once(&parameter.value).chain(&parameter.momentum);
            all.for_each(|tensor| assert_eq!(tensor.device(), placement.compute.device(), "{}", parameter.name));
            tensors.push(parameter.value.detach());
        }
    }
    tensors.push(supernet.forward(&path, &batch.images, Mode::Eval).unwrap().detach());
    (learned.loss, tensors)
}

#[test]
fn a_step_is_that_of_the_processor() {
    for compute in devices() {
        for (layout, amp) in [(Layout::ChannelsLast, false), (Layout::Nchw, false), (Layout::ChannelsLast, true)] {
            let (loss, wanted) = step(Placement { layout, compute: Compute::Cpu, amp });
            let (found_loss, found) = step(Placement { layout, compute, amp });
            let allowed = allowed(compute, amp);
            assert!((loss - found_loss).abs() <= allowed, "{compute} {layout} {amp}: {loss} {found_loss}");
            for (wanted, found) in wanted.iter().zip(&found) {
                let off = off(wanted, found);
                assert!(off <= allowed, "{compute} {layout} {amp} {:?}: {off}", wanted.size());
            }
        }
    }
}

#[test]
fn gates_learn_what_they_learn_on_the_processor() {
    for compute in devices() {
        let gradients = |compute: Compute| {
            let mut rng = ChaCha8Rng::seed_from_u64(7);
            let gates = Gates::new(&tiny(), &mut rng);
            let pairs = gates.sample_pairs(&mut rng);
            let placement = Placement { compute, ..Placement::default() };
            let (images, labels) = images(32, 2);
            let batch = Batch { images: placement.layout.arrange(&images).unwrap(), labels }.on(compute).unwrap();
            by_two_paths(&Supernet::new(&tiny(), 3, placement).unwrap(), &gates, &pairs, &batch, &CrossEntropy).unwrap()
        };
        let ((ce, wanted), (found_ce, found)) = (gradients(Compute::Cpu), gradients(compute));
        let allowed = allowed(compute, false);
        assert!((ce - found_ce).abs() <= allowed, "{compute}: {ce} {found_ce}");
        let largest = wanted.iter().map(|pair| pair.0.abs()).fold(0.0, f64::max);
        for (wanted, found) in wanted.iter().zip(&found) {
            assert!((wanted.0 - found.0).abs() <= allowed * largest, "{compute}: {wanted:?} {found:?}");
        }
    }
}

#[test]
fn images_are_mixed_and_calibrated_on_where_they_lie() {
    for compute in devices() {
        let mixed = |compute: Compute| {
            let (images, labels) = images(16, 2);
            let batch = Batch { images, labels }.on(compute).unwrap();
            let (images, _) = Mixing { mixup: Some(0.4), cutmix: None }.apply(batch, 3, (5, 0)).unwrap();
            assert_eq!(images.device(), compute.device());
            images
        };
        assert!(off(&mixed(Compute::Cpu), &mixed(compute)) <= 1e-6);
        let ranges = |compute: Compute| {
            let space = tiny();
            let network = space.network(&space.parse_architecture("1021").unwrap()).unwrap();
            let placement = Placement { compute, ..Placement::default() };
            let module = Module::initial(network, 3, placement).unwrap();
            let mut weights = fleetfoot_space::Weights::default();
            module.collect(&mut weights).unwrap();
            let source = Source { images: noise(40).train, statistics: vec![(0.5, 0.25)], placement };
            calibrate(&module, &weights, &source, Observer::MinMax).unwrap()
        };
        let allowed = allowed(compute, false) as f32;
        let (wanted, found) = (ranges(Compute::Cpu), ranges(compute));
        assert_eq!(wanted.len(), found.len());
        for (source, (low, high)) in &wanted {
            let (other_low, other_high) = found[source];
            let width = high - low;
            assert!((low - other_low).abs() <= allowed * width && (high - other_high).abs() <= allowed * width);
        }
    }
}

fn recipe() -> Recipe {
    let (epochs, batch, train_images) = (2, 8, 40);
    let (ema, mixup) = (Some(0.9), Some(0.2));
    Recipe { epochs, batch, train_images, lr: 0.05, ema, mixup, shift: 1, seed: 3, ..Recipe::default() }
}

#[test]
fn a_training_goes_on_wherever_it_is_taken_up() {
    let (space, dataset) = (tiny(), noise(40));
    let architecture = space.parse_architecture("1021").unwrap();
    for compute in devices() {
        let folder = tempfile::tempdir().unwrap();
        let start = |compute| Training::on(compute, &space, &architecture, &dataset, recipe()).unwrap();
        let mut first = start(compute);
        (0..6).for_each(|_| first.advance(folder.path()).unwrap());
        first.save(folder.path()).unwrap();
        // Weights, momentum, statistics and average are the very same there.
        let mut second = start(Compute::Cpu);
        second.restore(folder.path()).unwrap();
        assert_eq!(first.hash().unwrap(), second.hash().unwrap());
        second.run(folder.path(), &false.into(), &mut |_| ()).unwrap();
        let mut third = start(compute);
        third.restore(folder.path()).unwrap();
        assert_eq!(second.hash().unwrap(), third.hash().unwrap());
        let (one, other) = (second.evaluate().unwrap(), third.evaluate().unwrap());
        assert!((one.loss - other.loss).abs() <= allowed(compute, false), "{one:?} {other:?}");
        let mut devices = vec![compute, Compute::Cpu, compute];
        devices.dedup();
        assert_eq!(third.account().computed_on, devices);
    }
}

#[test]
fn equal_searches_are_equal_in_every_bit() {
    for compute in devices() {
        for amp in [false, true] {
            let settings = SearchSettings { amp, cut_below: 0.2, alpha_lr: 0.2, ..settings() };
            let hash = || {
                let folder = tempfile::tempdir().unwrap();
                let start = Search::on(compute, &tiny(), limits(7.0), &noise(64), settings.clone());
                let mut search = start.unwrap();
                assert_eq!(search.compute(), compute);
                search.run(folder.path(), &false.into(), &mut |_| ()).unwrap();
                search.hash().unwrap()
            };
            assert_eq!(hash(), hash(), "{compute} {amp}");
        }
    }
}

#[test]
fn what_computed_is_kept_with_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    for computed_on in [vec![], vec![Compute::Cpu], vec![Compute::Cuda(3), Compute::Cpu]] {
        let account = Account { computed_on: computed_on.clone(), ..Account::default() };
        Checkpoint::of(account).write(&path, &()).unwrap();
        assert_eq!(Checkpoint::read::<()>(&path, &ALONE).unwrap().0.account.computed_on, computed_on);
    }
}
