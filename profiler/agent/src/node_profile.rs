//! ONNX Runtime's profile of a session: a JSON list of events, whose times are whole microseconds.

use std::collections::{HashMap, HashSet};

use fleetfoot_protocol::{EngineError, NodeTime};
use serde::Deserialize;

/// Runs in front that don't count: in them memory is laid out and weights come into caches.
pub const UNCOUNTED: u32 = 2;

/// One run of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEvent {
    /// The run that it belongs to, counted from 0.
    pub run: u32,
    /// The node's name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The execution provider that ran it.
    pub provider: String,
    /// Its start, in microseconds since the profile's.
    pub start_us: u64,
    /// Its duration in microseconds.
    pub kernel_us: u64,
    /// Microseconds from its start to the next node's, or to the end of its run.
    pub span_us: u64,
}

#[derive(Deserialize)]
struct Event {
    cat: String,
    name: String,
    ts: u64,
    dur: u64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    op_name: String,
    #[serde(default)]
    provider: String,
}

/// What a node's event adds to the node's name.
const KERNEL: &str = "_kernel_time";
/// The event that holds all nodes of one run.
const RUN: &str = "model_run";

/// The nodes' events in the order of time.
pub fn parse(json: &[u8]) -> Result<Vec<NodeEvent>, EngineError> {
    let events: Vec<Event> = serde_json::from_slice(json)
        .map_err(|error| EngineError(format!("the runtime's profile isn't what was expected: {error}")))?;
    let mut runs: Vec<(u64, u64)> = events
        .iter()
        .filter(|event| event.cat == "Session" && event.name == RUN)
        .map(|event| (event.ts, event.ts.saturating_add(event.dur)))
        .collect();
    runs.sort_unstable();
    let mut nodes: Vec<NodeEvent> = events
        .into_iter()
        .filter(|event| event.cat == "Node")
        .filter_map(|event| {
            let name = event.name.strip_suffix(KERNEL)?.to_owned();
            let run = runs.partition_point(|(start, _)| *start <= event.ts).checked_sub(1)?;
            let Arguments { op_name: op, provider } = event.args;
            let (start_us, kernel_us) = (event.ts, event.dur);
            Some(NodeEvent { run: run as u32, name, op, provider, start_us, kernel_us, span_us: 0 })
        })
        .collect();
    // Stable: events of one microsecond stay in the order in which they were written.
    nodes.sort_by_key(|node| (node.run, node.start_us));
    for index in 0..nodes.len() {
        let next = nodes.get(index + 1).filter(|next| next.run == nodes[index].run);
        let end = next.map_or(runs[nodes[index].run as usize].1, |next| next.start_us);
        nodes[index].span_us = end.saturating_sub(nodes[index].start_us);
    }
    Ok(nodes)
}

/// Leaves the half with the smaller times, in ascending order.
pub fn keep_faster_half<T>(runs: &mut Vec<T>, time: impl Fn(&T) -> u64) {
    runs.sort_by_key(time);
    runs.truncate(runs.len().div_ceil(2));
}

/// The faster half of the runs that count, summed up for each node in the order in which they first ran, and which runs these
/// are: whatever disturbs a run makes it slower, and hits some of its nodes.
pub fn sum(events: &[NodeEvent]) -> Result<(Vec<NodeTime>, HashSet<u32>), EngineError> {
    let mut totals: HashMap<u32, u64> = HashMap::new();
    for event in events.iter().filter(|event| event.run >= UNCOUNTED) {
        *totals.entry(event.run).or_default() += event.span_us;
    }
    let mut runs: Vec<(u32, u64)> = totals.into_iter().collect();
    // Those of equal times in their order, whatever the map's.
    runs.sort_unstable();
    keep_faster_half(&mut runs, |(_, total)| *total);
    let fast: HashSet<u32> = runs.into_iter().map(|(run, _)| run).collect();
    let mut nodes: Vec<NodeTime> = Vec::new();
    let mut positions: HashMap<&str, usize> = HashMap::new();
    for event in events.iter().filter(|event| fast.contains(&event.run)) {
        let position = *positions.entry(&event.name).or_insert_with(|| {
            nodes.push(NodeTime { name: event.name.clone(), op: event.op.clone(), calls: 0, kernel_us: 0, span_us: 0 });
            nodes.len() - 1
        });
        let node = &mut nodes[position];
        node.calls += 1;
        node.kernel_us += event.kernel_us;
        node.span_us += event.span_us;
    }
    if nodes.is_empty() {
        return Err(EngineError("the runtime's profile names no node".to_owned()));
    }
    Ok((nodes, fast))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four runs of the shallowest network of fashion-28 in ONNX Runtime 1.31.1.
    const REAL: &[u8] = include_bytes!("../tests/profile-1.31.1.json");

    #[test]
    fn a_real_profile_is_read_node_by_node() {
        let events = parse(REAL).unwrap();
        assert_eq!(events.len(), 4 * 17);
        let first = &events[2 * 17];
        assert_eq!((first.run, first.name.as_str(), first.op.as_str()), (2, "stem.main.act_nchwc", "Conv"));
        assert_eq!(first.provider, "CPUExecutionProvider");
        assert_eq!((first.start_us, first.kernel_us, first.span_us), (2232, 4, 6));
        // The last node of a run lasts until the run's end, not until the next run's first node.
        assert_eq!((events[3 * 17 - 1].name.as_str(), events[3 * 17 - 1].span_us), ("head.classifier", 6));
    }

    #[test]
    fn runs_in_front_and_slow_ones_are_left_out_of_the_sums() {
        let events = parse(REAL).unwrap();
        let (nodes, counted) = sum(&events).unwrap();
        assert_eq!((nodes.len(), counted.len()), (17, 1));
        assert!(nodes.iter().all(|node| node.calls == 1 && node.kernel_us <= node.span_us), "{nodes:?}");
        let total = |run: u32| events.iter().filter(|event| event.run == run).map(|event| event.span_us).sum::<u64>();
        assert_eq!(nodes.iter().map(|node| node.span_us).sum::<u64>(), total(2).min(total(3)));
        let last = &nodes[16];
        assert_eq!(last.name.as_str(), "head.classifier");
        assert_eq!((nodes[14].name.as_str(), nodes[14].op.as_str()), ("ReorderOutput", "ReorderOutput"));
    }

    #[test]
    fn what_is_no_profile_is_an_error() {
        for text in ["", "{}", "[{\"cat\": \"Node\"}]", "[{\"cat\": 3, \"name\": \"\", \"ts\": 0, \"dur\": 0}]"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(sum(&parse(b"[]").unwrap()).is_err());
        // A node outside of every run.
        let stray = br#"[{"cat": "Node", "name": "a_kernel_time", "ts": 5, "dur": 1, "args": {"op_name": "Conv"}}]"#;
        assert_eq!(parse(stray).unwrap(), []);
    }
}
