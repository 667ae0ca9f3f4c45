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

/// Of values that something slows down now and then: the largest of those that it didn't slow down. What a tenth of them
/// keeps to is that; `coarse` is by how much the clock's steps make equal ones differ.
pub fn undisturbed_up_to(values: impl Iterator<Item = u64>, coarse: u64) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    let undisturbed = values.get(values.len() / 10).copied().unwrap_or_default();
    undisturbed + coarse.max(undisturbed / NOISE)
}

/// A part of this size is noise that undisturbed times differ by.
const NOISE: u64 = 25;

/// What each node took in the runs that count, in the order in which they first ran: its spans that nothing disturbed, summed up,
/// since what disturbs a run for less than its length hits some of its nodes. And the runs of which that is true for half of the nodes at least.
pub fn sum(events: &[NodeEvent]) -> Result<(Vec<NodeTime>, HashSet<u32>), EngineError> {
    let mut names: Vec<&str> = Vec::new();
    let mut of_node: HashMap<&str, Vec<&NodeEvent>> = HashMap::new();
    for event in events.iter().filter(|event| event.run >= UNCOUNTED) {
        let of_node = of_node.entry(&event.name).or_insert_with(|| {
            names.push(&event.name);
            Vec::new()
        });
        of_node.push(event);
    }
    // In each run: its nodes, and those of them that count.
    let mut runs: HashMap<u32, [usize; 2]> = HashMap::new();
    let mut nodes = Vec::new();
    for name in names {
        let events = &of_node[name];
        // Spans are differences of whole microseconds.
        let most = undisturbed_up_to(events.iter().map(|event| event.span_us), 1);
        let mut node = NodeTime { name: name.to_owned(), op: events[0].op.clone(), calls: 0, kernel_us: 0, span_us: 0 };
        for event in events {
            let counts = event.span_us <= most;
            let run = runs.entry(event.run).or_default();
            run[0] += 1;
            if counts {
                run[1] += 1;
                node.calls += 1;
                node.kernel_us += event.kernel_us;
                node.span_us += event.span_us;
            }
        }
        nodes.push(node);
    }
    if nodes.is_empty() {
        return Err(EngineError("the runtime's profile names no node".to_owned()));
    }
    let counted = runs.into_iter().filter(|(_, [all, counted])| 2 * counted >= *all).map(|(run, _)| run);
    Ok((nodes, counted.collect()))
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
    fn runs_in_front_are_left_out_of_the_sums() {
        let events = parse(REAL).unwrap();
        let (nodes, counted) = sum(&events).unwrap();
        assert_eq!((nodes.len(), counted.is_subset(&HashSet::from([2, 3]))), (17, true));
        assert!(nodes.iter().all(|node| (1..=2).contains(&node.calls) && node.kernel_us <= node.span_us), "{nodes:?}");
        let spans = |name: &str| -> Vec<u64> {
            events.iter().filter(|event| event.run >= 2 && event.name == name).map(|event| event.span_us).collect()
        };
        for node in &nodes {
            let spans = spans(&node.name);
            let least = *spans.iter().min().unwrap();
            let expected: Vec<u64> = spans.into_iter().filter(|span| *span <= least + 1.max(least / 25)).collect();
            assert_eq!((node.calls as usize, node.span_us), (expected.len(), expected.iter().sum()), "{}", node.name);
        }
        let last = &nodes[16];
        assert_eq!(last.name.as_str(), "head.classifier");
        assert_eq!((nodes[14].name.as_str(), nodes[14].op.as_str()), ("ReorderOutput", "ReorderOutput"));
    }

    #[test]
    fn bursts_that_hit_some_nodes_of_every_run_leave_no_trace() {
        // 40 nodes of 8.3 to 27.8 us, as writing makes them; a third of every run, somewhere, takes half as long again, and ten runs in a row all of it.
        let truth: Vec<f64> = (0..40).map(|node| 8.3 + 0.5 * f64::from(node)).collect();
        let mut events = Vec::new();
        for run in 0..42u32 {
            let burst = (7 * run) % 40;
            let mut now = 0.37 * f64::from(run);
            for (node, length) in truth.iter().enumerate() {
                let is_hit = (20..30).contains(&run) || (node as u32 + 40 - burst) % 40 < 13;
                let end = now + length * if is_hit { 1.5 } else { 1.0 };
                let span_us = end.floor() as u64 - now.floor() as u64;
                let (name, op, provider) = (format!("n{node}"), "Conv".to_owned(), "CPU".to_owned());
                events.push(NodeEvent { run, name, op, provider, start_us: now as u64, kernel_us: span_us, span_us });
                now = end;
            }
        }
        let (nodes, counted) = sum(&events).unwrap();
        for (node, truth) in nodes.iter().zip(&truth) {
            let found = node.span_us as f64 / node.calls as f64;
            assert!((found - truth).abs() < 0.03 * truth + 0.15, "{}: {found} for {truth}", node.name);
        }
        let total: f64 = nodes.iter().map(|node| node.span_us as f64 / node.calls as f64).sum();
        let expected: f64 = truth.iter().sum();
        assert!((total / expected - 1.0).abs() < 0.01, "{total} for {expected}");
        assert!((20..30).all(|run| !counted.contains(&run)) && counted.len() == 30, "{counted:?}");
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
