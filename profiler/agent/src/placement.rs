//! Which provider each node of a model ran on, as the runtime's profiler tells it.

use std::collections::BTreeMap;

use fleetfoot_protocol::{EngineError, Placed};
use serde::Deserialize;

/// Runs under the profiler; the first one, in which providers make themselves ready, isn't counted.
pub const RUNS: u32 = 6;

/// An event of the profiler's file, which is a list of them. Versions differ in what else they write.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    args: BTreeMap<String, serde_json::Value>,
}

/// The nodes of a profile, joined by their provider and kind. A node's time is the median over its runs.
pub fn parse(profile: &[u8]) -> Result<Vec<Placed>, EngineError> {
    let events: Vec<Event> = serde_json::from_slice(profile)
        .map_err(|error| EngineError(format!("the runtime's profile can't be read: {error}")))?;
    let mut nodes: BTreeMap<[String; 4], Vec<u64>> = BTreeMap::new();
    for event in events.into_iter().filter(|event| event.cat == "Node") {
        let text = |name: &str| event.args.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let provider = text("provider");
        // Events around a node (fences) name no provider.
        if !provider.is_empty() {
            let node = [provider, text("op_name"), text("node_index"), event.name];
            nodes.entry(node).or_default().push(event.dur);
        }
    }
    let mut placed: Vec<Placed> = Vec::new();
    for ([provider, operator, ..], mut times) in nodes {
        if times.len() > 1 {
            times.remove(0);
        }
        times.sort_unstable();
        let time_us = times[times.len() / 2];
        match placed.last_mut().filter(|last| last.provider == provider && last.operator == operator) {
            Some(last) => {
                last.nodes += 1;
                last.time_us += time_us;
            }
            None => placed.push(Placed { provider, operator, nodes: 1, time_us }),
        }
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(provider: &str, operator: &str, nodes: u64, time_us: u64) -> Placed {
        Placed { provider: provider.to_owned(), operator: operator.to_owned(), nodes, time_us }
    }

    /// Three runs of a model with a determinant, which OpenVINO 2025.4 doesn't take (ONNX Runtime 1.24.1).
    #[test]
    fn a_profile_tells_each_nodes_provider() {
        let found = parse(include_bytes!("../tests/data/openvino-and-cpu.json")).unwrap();
        let operators: Vec<(&str, &str, u64)> =
            found.iter().map(|placed| (placed.provider.as_str(), placed.operator.as_str(), placed.nodes)).collect();
        let cpu = "CPUExecutionProvider";
        let wanted = [
            (cpu, "Conv", 3),
            (cpu, "Det", 1),
            (cpu, "ReorderInput", 1),
            (cpu, "ReorderOutput", 1),
            ("OpenVINOExecutionProvider", "OpenVINO-EP-subgraph_1", 1),
        ];
        assert_eq!(operators, wanted);
    }

    #[test]
    fn the_first_run_and_fences_do_not_count() {
        let event = |name: &str, dur: u64, provider: &str| {
            format!(
                r#"{{"cat":"Node","ts":1,"dur":{dur},"name":"{name}","args":{{"provider":"{provider}","op_name":"Conv","node_index":"0"}}}}"#
            )
        };
        let session = r#"{"cat":"Session","dur":9,"name":"model_run","args":{}}"#.to_owned();
        let run = |dur| [event("a_fence_before", 7, ""), event("a_kernel_time", dur, "X")];
        let events: Vec<String> = [vec![session], [900, 30, 10, 20].into_iter().flat_map(run).collect()].concat();
        let profile = format!("[{}]", events.join(",\n"));
        assert_eq!(parse(profile.as_bytes()).unwrap(), [placed("X", "Conv", 1, 20)]);
    }

    #[test]
    fn what_is_no_profile_is_an_error() {
        for profile in [&b""[..], b"{}", b"[{\"cat\": 3}]", b"[", b"\xff"] {
            assert!(parse(profile).is_err(), "{}", String::from_utf8_lossy(profile));
        }
        assert_eq!(parse(b"[]").unwrap(), []);
    }
}
