//! The ONNX writer and the libtorch builder are one definition: ONNX Runtime computes what libtorch computes.

use std::path::Path;

use fleetfoot_profiler::{AgentError, DeviceConfig};
use fleetfoot_search::{
    AgentRuntime, Classes, Dataset, Images, LIMIT, Layout, Learning as _, Module, Numbers, Observer, Recipe, Runtime,
    SearchError, Source, Training, accuracy_percent, calibrate, compare, to_onnx, to_onnx_in,
};
use fleetfoot_space::{Architecture, Ranges, SearchSpace, Weights};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn device() -> DeviceConfig {
    let mut device = DeviceConfig::load("local-cpu").unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../native/onnxruntime/lib/libonnxruntime.so.1.31.1");
    if std::env::var_os("ORT_DYLIB_PATH").is_none() && own.exists() {
        device.runtime_library = Some(own.display().to_string());
    }
    device
}

fn pictures(space: &SearchSpace, n: usize) -> Source {
    labelled(space, vec![0; n])
}

fn labelled(space: &SearchSpace, labels: Vec<u16>) -> Source {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let input = space.input();
    let pixels = (0..labels.len() * input.elements()).map(|_| rng.random()).collect();
    let classes = Classes::Exactly(10);
    let images = Images { channels: input.c, height: input.h, width: input.w, classes, pixels, labels };
    Source { images: images.into(), statistics: vec![(0.5, 0.25); input.c], placement: Layout::ChannelsLast.into() }
}

/// Noise of 1000 classes.
fn noise(n: usize, side: usize, seed: u64) -> Images {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let pixels = (0..n * 3 * side * side).map(|_| rng.random()).collect();
    let labels = (0..n).map(|image| (image * 331 % 1000) as u16).collect();
    Images { channels: 3, height: side, width: side, classes: Classes::Exactly(1000), pixels, labels }
}

#[test]
fn the_published_networks_learn_and_are_exported_as_they_compute() {
    let recipe = Recipe {
        epochs: 1,
        rise_epochs: 0.0,
        batch: 2,
        train_images: 2,
        lr: 0.01,
        decay_bn: false,
        ema: Some(0.999),
        mixup: Some(0.2),
        shift: 0,
        seed: 1,
        ..Recipe::default()
    };
    let dataset = Dataset { name: "noise".into(), train: noise(2, 224, 1).into(), test: noise(1, 224, 2).into() };
    let folder = tempfile::tempdir().unwrap();
    for (space, name) in [
        ("proxyless-224", "proxyless-cpu"),
        ("proxyless-224", "proxyless-gpu"),
        ("proxyless-224", "proxyless-mobile"),
        ("proxyless-224", "proxyless-mobile-14"),
        ("mobilenetv2-224", "mobilenetv2@1.4"),
    ] {
        let (space, architecture) = SearchSpace::load(space).unwrap().resolve(name).unwrap();
        let mut training = Training::new(&space, &architecture, &dataset, recipe.clone()).unwrap();
        let before = training.weights().unwrap();
        training.advance(folder.path()).unwrap();
        let weights = training.weights().unwrap();
        assert!(training.loss() > 1.0 && weights != before, "{name} learns");
        let test = Source {
            images: dataset.test.clone(),
            statistics: training.statistics().to_vec(),
            placement: Layout::ChannelsLast.into(),
        };
        let onnx = to_onnx(&space, &architecture, &weights, &test.statistics).unwrap();
        let mut runtime = AgentRuntime::new(&device(), &onnx).unwrap();
        let difference = compare(&space, &architecture, &weights, &test, &mut runtime).unwrap();
        assert!(difference < LIMIT, "{name}: {difference}");
    }
}

fn outputs(space: &SearchSpace, onnx: &[u8], images: &Source) -> Vec<f32> {
    let mut runtime = AgentRuntime::new(&device(), onnx).unwrap();
    let input = space.input();
    let batches = images.in_order(1).map(|batch| {
        let values = Vec::<f32>::try_from(batch.unwrap().images.contiguous().reshape([-1])).unwrap();
        runtime.run(&[1, input.c, input.h, input.w], &values).unwrap()
    });
    batches.flatten().collect()
}

#[test]
fn int8_by_real_ranges_computes_nearly_what_fp32_does() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for name in ["fashion-28", "fbnet-32"] {
        let space = SearchSpace::load(name).unwrap();
        let (architecture, weights) = random(&space, &mut rng);
        let images = pictures(&space, 24);
        let module = Module::new(space.network(&architecture).unwrap(), &weights, Layout::ChannelsLast).unwrap();
        let onnx =
            |numbers: &Numbers| to_onnx_in(numbers, &space, &architecture, &weights, &images.statistics).unwrap();
        let exact = outputs(&space, &onnx(&Numbers::Fp32), &images);
        let length = |values: &[f32]| values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let off = |numbers: &Numbers| {
            let found = outputs(&space, &onnx(numbers), &images);
            let off: Vec<f32> = found.iter().zip(&exact).map(|(a, b)| a - b).collect();
            length(&off) / length(&exact)
        };
        let half = off(&Numbers::Fp16);
        assert!(half < 3e-2, "{name} in fp16: {half}");
        for observer in [Observer::MinMax, Observer::Percentile(99.99), Observer::MeanSquaredError] {
            let ranges = calibrate(&module, &weights, &images, observer).unwrap();
            let off = off(&Numbers::Int8(ranges.clone()));
            // A network of 22 blocks with random weights adds up its roundings.
            assert!(off < 0.25, "{name} by {observer}: {off}");
            assert_eq!(calibrate(&module, &weights, &images, observer).unwrap(), ranges, "equal every time");
        }
        let widest = calibrate(&module, &weights, &images, Observer::MinMax).unwrap();
        let narrow = calibrate(&module, &weights, &images, Observer::Percentile(99.0)).unwrap();
        assert!(narrow.iter().all(|(source, (low, high))| *low >= widest[source].0 && *high <= widest[source].1));
        assert!(narrow.iter().any(|(source, range)| *range != widest[source]));
    }
}

#[test]
fn an_accuracy_is_the_share_of_images_whose_largest_output_is_the_label() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let images = labelled(&space, vec![3, 0, 3, 1, 3]);
    struct Third;
    impl Runtime for Third {
        fn run(&mut self, _: &[usize], _: &[f32]) -> Result<Vec<f32>, AgentError> {
            Ok((0..10).map(|class| if class == 3 { 2.0 } else { -1.0 }).collect())
        }

        fn name(&self) -> String {
            "third".to_owned()
        }
    }
    assert_eq!(accuracy_percent(&images, &mut Third).unwrap(), 60.0);
}

#[test]
fn an_activation_without_a_range_is_named() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let (architecture, weights) = random(&space, &mut ChaCha8Rng::seed_from_u64(6));
    let error = to_onnx_in(&Numbers::Int8(Ranges::new()), &space, &architecture, &weights, &[(0.0, 1.0)]);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("range of 'input'"), "{error}");
}

fn random(space: &SearchSpace, rng: &mut ChaCha8Rng) -> (Architecture, Weights) {
    let architecture = space.random(rng);
    let weights = Weights::random(&space.network(&architecture).unwrap(), rng.random());
    (architecture, weights)
}

#[test]
fn onnx_runtime_computes_what_libtorch_computes_on_random_architectures() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (name, architectures, images) in
        [("fashion-28", 12, 3), ("cifar-32", 4, 2), ("fbnet-32", 4, 2), ("proxyless-224", 1, 1)]
    {
        let space = SearchSpace::load(name).unwrap();
        for _ in 0..architectures {
            let (architecture, weights) = random(&space, &mut rng);
            let source = pictures(&space, images);
            let onnx = to_onnx(&space, &architecture, &weights, &source.statistics).unwrap();
            let mut runtime = AgentRuntime::new(&device(), &onnx).unwrap();
            let difference = compare(&space, &architecture, &weights, &source, &mut runtime).unwrap();
            assert!(difference < LIMIT, "{name} {architecture}: {difference}");
        }
    }
}

/// Computes nothing right.
struct Wrong(f32);

impl Runtime for Wrong {
    fn run(&mut self, _: &[usize], _: &[f32]) -> Result<Vec<f32>, AgentError> {
        Ok(vec![self.0; 10])
    }

    fn name(&self) -> String {
        "wrong".to_owned()
    }
}

#[test]
fn a_wrong_export_is_found_out() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let (architecture, weights) = random(&space, &mut ChaCha8Rng::seed_from_u64(4));
    for value in [1e6, f32::NAN] {
        let error = compare(&space, &architecture, &weights, &pictures(&space, 1), &mut Wrong(value)).unwrap_err();
        assert!(matches!(error, SearchError::ExportDiffers { .. }), "{error}");
    }
}

#[test]
fn weights_of_another_network_are_refused() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (_, weights) = random(&space, &mut rng);
    let other = space.parse_architecture("5555555555").unwrap();
    let error = to_onnx(&space, &other, &weights, &[(0.0, 1.0)]).unwrap_err().to_string();
    assert!(error.contains("another network"), "{error}");
}
