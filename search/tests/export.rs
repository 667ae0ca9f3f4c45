//! The ONNX writer and the libtorch builder are one definition: ONNX Runtime computes what libtorch computes.

use std::path::Path;

use fleetfoot_profiler::{AgentError, DeviceConfig};
use fleetfoot_search::{AgentRuntime, Classes, Images, LIMIT, Layout, Runtime, SearchError, Source, compare, to_onnx};
use fleetfoot_space::{Architecture, SearchSpace, Weights};
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
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let input = space.input();
    let pixels = (0..n * input.elements()).map(|_| rng.random()).collect();
    let classes = Classes::Exactly(10);
    let images = Images { channels: input.c, height: input.h, width: input.w, classes, pixels, labels: vec![0; n] };
    Source { images: images.into(), statistics: vec![(0.5, 0.25); input.c], layout: Layout::ChannelsLast }
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
