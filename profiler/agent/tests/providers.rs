//! Execution providers through the real agent: what can't be had is an error with its remedy, and what is measured ran
//! where it should. Tests that need a library of `scripts/provider.sh` are ignored by default; `make test-providers` runs
//! them.

use std::collections::BTreeMap;
use std::path::Path;

use fleetfoot_profiler::{Agent, DeviceConfig, Fallback, ProviderShare, Subject};
#[cfg(feature = "webgpu")]
use fleetfoot_space::Layer;
use fleetfoot_space::{Network, SearchSpace};

/// The native libraries of this checkout.
fn native(below: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../native").join(below);
    path.exists().then(|| path.display().to_string())
}

/// A local device with this agent and the stock runtime.
fn device(provider: &str) -> DeviceConfig {
    let own = native("onnxruntime/lib/libonnxruntime.so.1.31.1");
    DeviceConfig {
        name: format!("test-{provider}"),
        provider: provider.to_owned(),
        agent: Some(env!("CARGO_BIN_EXE_fleetfoot-agent").into()),
        runtime_library: std::env::var("ORT_DYLIB_PATH").ok().or(own),
        ..DeviceConfig::load("local-cpu").unwrap()
    }
}

#[track_caller]
fn refusal(device: &DeviceConfig) -> String {
    Agent::start(device).expect_err("such a device can't be had").to_string()
}

fn with_option(provider: &str, name: &str, value: &str) -> DeviceConfig {
    let provider_options = BTreeMap::from([(name.to_owned(), value.to_owned())]);
    DeviceConfig { provider_options, ..device(provider) }
}

fn shallowest() -> Network {
    let space = SearchSpace::load("fashion-28").unwrap();
    space.network(&space.resolve("shallowest").unwrap().1).unwrap()
}

fn network() -> Subject {
    Subject::of_network("shallowest".to_owned(), &shallowest()).unwrap()
}

/// What a network computes of a picture of stripes.
fn output(agent: &mut Agent) -> Vec<f32> {
    let model = agent.load(&network().onnx).unwrap();
    let input: Vec<f32> = (0..28 * 28).map(|pixel| (pixel % 7) as f32 / 7.0).collect();
    agent.run(model, &[1, 1, 28, 28], &input).unwrap().1
}

#[test]
fn an_unknown_provider_is_refused_with_those_that_are_known() {
    let message = refusal(&device("abacus"));
    assert!(message.contains("'abacus'") && message.contains("cpu, xnnpack, openvino, webgpu, cuda"), "{message}");
}

#[cfg(not(feature = "webgpu"))]
#[test]
fn a_provider_that_is_not_built_in_is_refused_with_the_command_that_builds_it() {
    let message = refusal(&device("webgpu"));
    assert!(message.contains("built without") && message.contains("--features webgpu"), "{message}");
}

#[cfg(all(feature = "cuda", feature = "nnapi"))]
#[test]
fn a_provider_that_the_runtime_lacks_is_refused_and_never_run_on_the_cpu() {
    for (provider, remedy) in [("cuda", "scripts/provider.sh cuda"), ("nnapi", "Android")] {
        for fallback in [Fallback::Forbid, Fallback::Allow] {
            let message = refusal(&DeviceConfig { fallback, ..device(provider) });
            assert!(message.contains(&format!("has no '{provider}'")), "{message}");
            assert!(message.contains("CPUExecutionProvider") && message.contains(remedy), "{message}");
        }
    }
}

#[test]
fn an_option_that_the_provider_does_not_take_is_refused() {
    let message = refusal(&with_option("cpu", "device_type", "GPU"));
    assert!(message.contains("no option 'device_type'") && message.contains("it takes none"), "{message}");
}

#[cfg(feature = "cuda")]
#[test]
fn a_misspelt_option_is_refused_with_those_that_there_are() {
    let message = refusal(&with_option("cuda", "device", "0"));
    assert!(message.contains("no option 'device'") && message.contains("device_id"), "{message}");
}

#[test]
fn all_nodes_of_the_cpu_provider_run_on_the_cpu() {
    let mut agent = Agent::start(&device("cpu")).unwrap();
    let placement = agent.place(&network().onnx).unwrap();
    assert_eq!((placement.nodes_percent(), placement.time_percent()), (100.0, 100.0));
    assert_eq!(placement.wanted, "CPUExecutionProvider");
    let convolutions = placement.placed.iter().find(|placed| placed.operator == "Conv").expect("it has convolutions");
    assert!(convolutions.nodes > 5, "{placement:?}");
    // The agent goes on, and garbage is an error.
    assert!(agent.place(&b"no model"[..]).is_err());
    assert_eq!(output(&mut agent).len(), 10);
}

/// The network runs wholly on the provider, and computes what the CPU computes.
#[track_caller]
fn assert_runs_wholly_and_rightly(device: &DeviceConfig, tolerance: f32) {
    let mut agent = Agent::start(device).unwrap();
    let share = ProviderShare::of(&mut agent, &[network()]).unwrap();
    assert!(share.is_some(), "a provider other than the CPU's has a share");
    let (ours, cpu) = (output(&mut agent), output(&mut Agent::start(&self::device("cpu")).unwrap()));
    let largest = cpu.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    for (ours, cpu) in ours.iter().zip(&cpu) {
        assert!((ours - cpu).abs() <= tolerance * largest, "{ours} against {cpu} of the CPU");
    }
}

#[test]
#[ignore = "wants `scripts/provider.sh openvino`"]
fn openvino_runs_a_network_wholly_and_rightly() {
    let runtime_library = native("onnxruntime-openvino/lib/libonnxruntime.so.1.24.1");
    let device = DeviceConfig { runtime_library, ..with_option("openvino", "device_type", "CPU") };
    assert_runs_wholly_and_rightly(&device, 1e-4);

    // ONNX Runtime would run all of it on the CPU and not say so.
    let provider_options = BTreeMap::from([("device_type".to_owned(), "abacus".to_owned())]);
    let device = DeviceConfig { provider_options, ..device };
    let mut agent = Agent::start(&device).unwrap();
    let message = ProviderShare::of(&mut agent, &[network()]).unwrap_err().to_string();
    assert!(message.contains("0.0 % of the nodes") && message.contains("Conv on CPUExecutionProvider"), "{message}");
    assert!(agent.load(&network().onnx).is_err(), "not loaded at all");
    let mut agent = Agent::start(&DeviceConfig { fallback: Fallback::Allow, ..device }).unwrap();
    let message = ProviderShare::of(&mut agent, &[network()]).unwrap_err().to_string();
    assert!(message.contains("nothing runs on the provider OpenVINOExecutionProvider"), "{message}");
}

#[test]
#[ignore = "wants `scripts/provider.sh cuda`"]
fn cuda_runs_a_network_wholly_or_says_what_is_missing() {
    for provider in ["cuda", "tensorrt"] {
        let runtime_library = native(&format!("onnxruntime-{provider}/lib/libonnxruntime.so.1.31.1"));
        let device = DeviceConfig { runtime_library, ..device(provider) };
        match Agent::start(&device) {
            Ok(_) => assert_runs_wholly_and_rightly(&device, 1e-2),
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains(&format!("'{provider}' is there but can't be used")), "{message}");
                assert!(message.contains("it wants an NVIDIA GPU") && message.lines().count() == 1, "{message}");
            }
        }
    }
}

/// A GPU, or `scripts/swiftshader.sh` in front of the command.
#[cfg(feature = "webgpu")]
#[test]
#[ignore = "wants `scripts/provider.sh webgpu` and a GPU or SwiftShader"]
fn webgpu_runs_a_network_wholly_and_rightly_and_what_it_leaves_is_found_out() {
    let provider_library = native("onnxruntime-webgpu/lib/libonnxruntime_providers_webgpu.so");
    let device = DeviceConfig { provider_library, ..device("webgpu") };
    assert_runs_wholly_and_rightly(&device, 1e-4);

    let (onnx, network) = (network().onnx, shallowest());
    let pool = network.nodes().iter().find(|node| node.layer == Layer::GlobalAveragePool).expect("its head has a pool");
    let node = pool.name.clone();
    let provider_options = BTreeMap::from([("forceCpuNodeNames".to_owned(), node.clone())]);
    let forced = DeviceConfig { provider_options, ..device };
    let mut agent = Agent::start(&forced).unwrap();
    let message = ProviderShare::of(&mut agent, &[self::network()]).unwrap_err().to_string();
    assert!(message.contains("on CPUExecutionProvider") && message.contains("fallback"), "{node}: {message}");
    let message = agent.load(&onnx).expect_err("not loaded at all").to_string();
    assert!(message.contains("fallback to CPU EP has been explicitly disabled"), "{message}");

    let mut agent = Agent::start(&DeviceConfig { fallback: Fallback::Allow, ..forced }).unwrap();
    assert!(ProviderShare::of(&mut agent, &[self::network()]).unwrap().is_some());
    let placement = agent.place(&onnx).unwrap();
    assert!((50.0..100.0).contains(&placement.nodes_percent()), "{placement}");
    assert_eq!(output(&mut agent).len(), 10);
}

/// The simulated NPU computes in half precision.
#[cfg(feature = "plugins")]
#[test]
#[ignore = "wants `scripts/provider.sh qnn`"]
fn qnn_runs_a_network_wholly_and_nearly_rightly() {
    let provider_library = native("onnxruntime-qnn/lib/libonnxruntime_providers_qnn.so");
    let device = DeviceConfig { provider_library, ..with_option("qnn", "backend_type", "htp") };
    assert_runs_wholly_and_rightly(&device, 2e-2);
}
