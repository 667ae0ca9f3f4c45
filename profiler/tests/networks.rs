//! Costs that are solved from whole networks are those that the networks are made of.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use fleetfoot_profiler::{
    Agent, Attribution, AttributionError, Campaign, CampaignError, Context, DeviceConfig, Interval, Latency,
    LatencyTable, Measurement, NetworkCampaign, NodeProfile, NodeTime, Pace, Plan, Profiled, Provenance, Records, Row,
    Subject,
};
use fleetfoot_space::{Architecture, Candidate, Network, OperatorKey, Precision, SearchSpace};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a call costs, in ms.
const CALL: f64 = 0.002;

fn fashion() -> SearchSpace {
    SearchSpace::load("fashion-28").unwrap()
}

/// Costs of a world in which units differ from each other beyond what their sizes say.
fn planted(space: &SearchSpace) -> HashMap<OperatorKey, f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let units = space.distinct_units(1, Precision::Fp32).into_iter();
    units.map(|key| (key, rng.random_range(0.004..0.04))).collect()
}

fn sum(costs: &HashMap<OperatorKey, f64>, network: &Network) -> f64 {
    CALL + network.units().iter().filter_map(|unit| costs.get(&unit.key)).sum::<f64>()
}

/// That is off by as much as `noise`, as a standard deviation, and whose interval says so of another campaign's.
fn measurement(ms: f64, noise: f64) -> Measurement {
    let latency = |ms: f64| Latency::from_ms(ms).unwrap();
    let half = (std::f64::consts::SQRT_2 * 2.576 * noise).max(0.01);
    let interval = Interval { low: latency(ms * (1.0 - half)), high: latency(ms * (1.0 + half)) };
    Measurement { latency: latency(ms), interval, samples: 100, rounds: 10, disturbed: 0, common: 0.0 }
}

/// Measurements and profiles of such a world. The profile counts 5 µs too much for every node, on a machine that has become
/// 20 % slower, and sees a unit by `skew` of it too dear; the networks' times are off by `noise`, which the seed draws, and a
/// node in the profile by as much.
fn world(
    space: &SearchSpace,
    skew: impl Fn(&OperatorKey) -> f64,
    (noise, seed): (f64, u64),
) -> (Vec<Measurement>, Vec<NodeProfile>) {
    let costs = planted(space);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut measured = vec![measurement(CALL, 0.0)];
    let mut profiles = Vec::new();
    for (index, architecture) in NetworkCampaign::design(space).into_iter().enumerate() {
        let network = space.network(&architecture).unwrap();
        measured.push(measurement(sum(&costs, &network) * (1.0 + noise * rng.random_range(-1.7..1.7)), noise));
        let mut nodes = Vec::new();
        // 20 % slower than in the campaign, as the profiled runs are.
        let plain_ms = 1.2 * (sum(&costs, &network) - CALL) + CALL;
        for unit in network.units().iter().filter(|unit| costs.contains_key(&unit.key)) {
            // Two nodes and one that the runtime has put in, which bears no unit's name.
            for (name, share) in [("expand.act_nchwc", 0.3), ("project.bn", 0.6), ("", 0.1)] {
                let seen = (1.0 + skew(&unit.key)) * (1.0 + noise * rng.random_range(-1.7..1.7));
                let ms = 1.2 * costs[&unit.key] * seen * share + 0.005;
                let name = if name.is_empty() { "Reorder".to_owned() } else { format!("{}.{name}", unit.name) };
                nodes.push(NodeTime {
                    name,
                    op: "Conv".into(),
                    calls: 50,
                    kernel_us: 0,
                    span_us: (50_000.0 * ms) as u64,
                });
            }
        }
        let profiled = Profiled { nodes, plain_ns: (1e6 * plain_ms) as u64, paces: [Pace::default(); 2] };
        profiles.push(NodeProfile { subject: index as u32 + 1, process: 0, profiled });
    }
    (measured, profiles)
}

/// Root of the mean squared relative error of sums over networks that aren't in the design, in percent.
fn rmspe(space: &SearchSpace, rows: &[Row], empty: Latency, truth: impl Fn(&Network) -> f64) -> f64 {
    let costs: HashMap<OperatorKey, f64> = rows.iter().map(|row| (row.key, row.latency.ms())).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let design = NetworkCampaign::design(space);
    let drawn: Vec<Architecture> = (0..200).map(|_| space.random(&mut rng)).filter(|a| !design.contains(a)).collect();
    let error = |architecture: &Architecture| {
        let network = space.network(architecture).unwrap();
        let units = network.units().iter().filter_map(|unit| costs.get(&unit.key));
        ((empty.ms() + units.sum::<f64>()) / truth(&network) - 1.0).powi(2)
    };
    100.0 * (drawn.iter().map(error).sum::<f64>() / drawn.len() as f64).sqrt()
}

#[test]
fn what_adds_up_is_solved_exactly() {
    let space = fashion();
    let campaign = NetworkCampaign::new(&space, 1, Precision::Fp32).unwrap();
    let (measured, profiles) = world(&space, |_| 0.0, (0.0, 4));
    let (empty, rows) = campaign.rows(&measured, Attribution::Time(&profiles, &[])).unwrap();
    let costs = planted(&space);
    assert_eq!(rows.len(), 45);
    for row in &rows {
        assert!(
            (row.latency.ms() / costs[&row.key] - 1.0).abs() < 0.01,
            "{}: {} for {}",
            row.key,
            row.latency,
            costs[&row.key]
        );
        assert!(row.low <= row.latency && row.latency <= row.high && row.measured == Some(Context::Network));
        assert!(row.samples >= 100 * 12, "each candidate stands in as many networks as any other: {}", row.samples);
    }
    assert!(rmspe(&space, &rows, empty, |network| sum(&costs, network)) < 0.1);
}

#[test]
fn energy_is_divided_as_time_is_whatever_the_power() {
    let space = fashion();
    let campaign = NetworkCampaign::new(&space, 1, Precision::Fp32).unwrap();
    let costs = planted(&space);
    // 300 W: a call takes 0.6 mJ, and many a unit less than that in ms.
    let watts = |ms: f64| 300.0 * ms;
    let (measured, profiles) = world(&space, |_| 0.0, (0.0, 4));
    let energies: Vec<Measurement> = measured.iter().map(|time| measurement(watts(time.latency.ms()), 0.0)).collect();
    let (_, rows) = campaign.rows(&energies, Attribution::Energy(&profiles)).unwrap();
    for row in &rows {
        let off = row.latency.ms() / watts(costs[&row.key]) - 1.0;
        assert!(off.abs() < 0.06, "{}: {off}", row.key);
    }
}

#[test]
fn whole_networks_set_right_what_the_profile_and_noise_say() {
    let space = fashion();
    let campaign = NetworkCampaign::new(&space, 1, Precision::Fp32).unwrap();
    let costs = planted(&space);
    // The profile sees every second unit 15 % too dear.
    let skew = |key: &OperatorKey| if ((1e6 * costs[key]) as u64).is_multiple_of(2) { 0.15 } else { 0.0 };
    let (measured, profiles) = world(&space, skew, (0.0, 4));
    let (empty, rows) = campaign.rows(&measured, Attribution::Time(&profiles, &[])).unwrap();
    let skewed = rmspe(&space, &rows, empty, |network| sum(&costs, network));
    let (measured, profiles) = world(&space, skew, (0.005, 4));
    let (empty, rows) = campaign.rows(&measured, Attribution::Time(&profiles, &[])).unwrap();
    let noisy = rmspe(&space, &rows, empty, |network| sum(&costs, network));
    assert!(skewed < 0.3 && noisy < 0.7, "{skewed} % and {noisy} %");
}

#[test]
fn intervals_hold_what_another_campaign_solves() {
    let space = fashion();
    let campaign = NetworkCampaign::new(&space, 1, Precision::Fp32).unwrap();
    let skew = |key: &OperatorKey| if key.input.h.is_multiple_of(2) { 0.05 } else { 0.0 };
    let solved = |seed| {
        let (measured, profiles) = world(&space, skew, (0.01, seed));
        campaign.rows(&measured, Attribution::Time(&profiles, &[])).unwrap().1
    };
    let campaigns: Vec<Vec<Row>> = (1..=12).map(solved).collect();
    let (mut held, mut pairs, mut squares) = (0, 0, 0.0);
    for (first, second) in campaigns.iter().zip(&campaigns[1..]) {
        for (row, other) in first.iter().zip(second) {
            held += usize::from((row.low..=row.high).contains(&other.latency));
            pairs += 1;
            squares += ((other.latency.ms() - row.latency.ms()) / (row.high.ms() - row.latency.ms())).powi(2);
        }
    }
    let share = f64::from(held as u32) / f64::from(pairs);
    assert!(share > 0.96, "{held} of {pairs} are held by intervals of 99 %");
    // As wide as that takes, and hardly wider: a 99 % interval is 2.58 standard deviations to either side.
    let deviations = 2.576 * (squares / f64::from(pairs)).sqrt();
    assert!((0.7..1.15).contains(&deviations), "{deviations}");
}

#[test]
fn profiles_that_others_on_the_core_spoilt_do_not_count() {
    let space = fashion();
    let campaign = NetworkCampaign::new(&space, 1, Precision::Fp32).unwrap();
    let (measured, profiles) = world(&space, |_| 0.0, (0.0, 4));
    let (_, rows) = campaign.rows(&measured, Attribution::Time(&profiles, &[])).unwrap();
    // Others slow down the first nodes of a network most.
    let spoil = |alone: &NodeProfile, process, wide_ns| {
        let mut spoilt = alone.profiled.clone();
        spoilt.plain_ns = spoilt.plain_ns * 5 / 4;
        spoilt.paces = [Pace { chain_ns: 5_000, wide_ns, talk_ns: 0 }; 2];
        let half = spoilt.nodes.len() / 2;
        spoilt.nodes[..half].iter_mut().for_each(|node| node.span_us = node.span_us * 3 / 2);
        NodeProfile { process, profiled: spoilt, ..*alone }
    };
    let mut disturbed = Vec::new();
    for mut alone in profiles {
        disturbed.extend([spoil(&alone, 0, 2_100), spoil(&alone, 1, 3_500)]);
        // Of every fourth network there is only a little contention to be had.
        if alone.subject % 4 > 0 {
            alone.process = 2;
            alone.profiled.paces = [Pace { chain_ns: 5_000, wide_ns: 2_000, talk_ns: 0 }; 2];
            disturbed.push(alone);
        }
    }
    let apart = |profiles: &[NodeProfile], visits: &[f64]| {
        let others = campaign.rows(&measured, Attribution::Time(profiles, visits)).unwrap().1;
        let each = rows.iter().zip(&others).map(|(row, other)| (other.latency.ms() / row.latency.ms() - 1.0).abs());
        each.sum::<f64>() / rows.len() as f64
    };
    let judged = apart(&disturbed, &[]);
    let counted = Attribution::Time(&disturbed, &[]).counted().unwrap();
    assert_eq!((counted.taken, counted.left_aside, counted.networks_shared), (84 * 2 + 63, 63 * 2 + 21, 21));
    // The same, had nobody looked.
    disturbed.iter_mut().for_each(|profile| profile.profiled.paces = [Pace::default(); 2]);
    let blind = apart(&disturbed, &[]);
    // A quarter of the networks rest on a profile whose first half is a fifth too dear.
    assert!(judged < 0.055 && judged < blind / 3.0, "{judged} {blind}");
    // Paces that differ while networks take as long are a clock's coarse steps, say: every profile counts.
    for (index, profile) in disturbed.iter_mut().enumerate() {
        let wide_ns = if index % 2 == 0 { 2_000 } else { 2_500 };
        (profile.profiled.plain_ns, profile.profiled.paces) =
            (180_000, [Pace { chain_ns: 5_000, wide_ns, talk_ns: 0 }; 2]);
    }
    assert_eq!(Attribution::Time(&disturbed, &[]).counted().unwrap().left_aside, 0);
    // The visits tell that the core was shared all the while.
    let all = disturbed.len();
    disturbed
        .iter_mut()
        .for_each(|profile| profile.profiled.paces = [Pace { chain_ns: 5_000, wide_ns: 3_000, talk_ns: 0 }; 2]);
    let alone = (2_000f64 / 5_000.0).ln();
    let counted = Attribution::Time(&disturbed, &vec![alone; 1000]).counted().unwrap();
    assert_eq!((counted.taken, counted.left_aside, counted.networks_shared), (all, all - 84, 84));
}

#[test]
fn a_profile_that_tells_no_units_apart_is_refused() {
    let space = fashion();
    let campaign = NetworkCampaign::new(&space, 1, Precision::Fp32).unwrap();
    let (measured, profiles) = world(&space, |_| 0.0, (0.0, 4));
    let mut fused = profiles.clone();
    let nodes = &mut fused[5].profiled.nodes;
    nodes.truncate(1);
    nodes[0].name = "subgraph_0".into();
    assert!(
        matches!(campaign.rows(&measured, Attribution::Time(&fused, &[])), Err(AttributionError::Nameless { unit, .. }) if unit == "stem")
    );
    let fewer = &profiles[1..];
    assert!(matches!(campaign.rows(&measured, Attribution::Time(fewer, &[])), Err(AttributionError::Missing(_))));
}

#[test]
fn a_simulated_device_is_tabulated_from_its_networks_alone() {
    let space = fashion();
    let campaign = NetworkCampaign::new(&space, 1, Precision::Fp32).unwrap();
    let mut agent = Agent::start(&DeviceConfig::load("mock").unwrap()).unwrap();
    let mut told = Vec::new();
    let stop = AtomicBool::new(false);
    let mut watch = |done, all| told.push((done, all));
    let profiles = campaign.profile(&mut agent, (None, Vec::new()), &stop, &mut watch).unwrap();
    // Nobody else is on a simulated core: nothing is profiled again.
    let all = 3 * (campaign.subjects().len() - 1);
    assert_eq!(told, (0..=all).map(|done| (done, all)).collect::<Vec<_>>());
    // What is there already isn't profiled again, and what is missing in its middle is.
    let mut some = profiles.clone();
    let lost = some.remove(100);
    some.truncate(150);
    let again = campaign.profile(&mut agent, (None, some), &stop, &mut |_, _| {}).unwrap();
    assert!(again.contains(&lost) && again.len() == all);
    let plan = Plan { min_rounds: 6, max_rounds: 6, ..Plan::default() };
    let mut rounds = Campaign::new(plan, campaign.subjects(), Records::default(), true);
    let measured = rounds.run(&mut agent, None, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let (empty, rows) = campaign.rows(&measured, Attribution::Time(&profiles, &[])).unwrap();
    // The simulation's latency: 2 µs and 1 ns for every 4 bytes of the model.
    let truth = |network: &Network| {
        let bytes = Subject::of_network(String::new(), network).unwrap().onnx.len();
        (2_000.0 + bytes as f64 / 4.0) / 1e6
    };
    assert!(rmspe(&space, &rows, empty, truth) < 0.5);
    let mut watch = |done, _| stop.store(done == 3, Ordering::Relaxed);
    let stopped = campaign.profile(&mut agent, (None, Vec::new()), &stop, &mut watch);
    assert!(matches!(stopped, Err(CampaignError::Interrupted)));
    // Somebody else was there in two processes: these networks are profiled once more, until there are two without.
    let mut shared = profiles.clone();
    for profile in shared.iter_mut().filter(|profile| profile.subject <= 10 && profile.process < 2) {
        profile.profiled.paces[0].wide_ns *= 2;
        profile.profiled.plain_ns *= 2;
    }
    let mut told = Vec::new();
    let again =
        campaign.profile(&mut agent, (None, shared), &AtomicBool::new(false), &mut |done, all| told.push((done, all)));
    let again = again.unwrap();
    let more: Vec<(u32, u32)> = again[all..].iter().map(|profile| (profile.subject, profile.process)).collect();
    assert_eq!(more, (1..=10).map(|subject| (subject, 3)).collect::<Vec<_>>());
    assert_eq!((told[0], told[told.len() - 1]), ((all, all + 10), (all + 10, all + 10)));
    // References tell what networks took then.
    let table = LatencyTable::new(Provenance::default(), empty, rows).unwrap();
    let references = campaign.references(&table, 5);
    assert_eq!(references.len(), 5);
    for reference in references {
        let network = space.network(&reference.name.parse().unwrap()).unwrap();
        assert!((reference.reference.unwrap().ms() / truth(&network) - 1.0).abs() < 0.02);
    }
}

#[test]
fn a_device_whose_memory_holds_a_few_models_only_is_measured_all_the_same() {
    let campaign = NetworkCampaign::new(&fashion(), 1, Precision::Fp32).unwrap();
    let bytes: usize = campaign.subjects().iter().map(|subject| subject.onnx.len()).sum();
    let of = |memory_mib: usize| {
        let device = format!("transport = \"mock\"\nprovider_options = {{ memory_mib = \"{memory_mib}\" }}\n");
        let mut agent = Agent::start(&DeviceConfig::parse(&device, "small").unwrap()).unwrap();
        let plan = Plan { min_rounds: 6, max_rounds: 6, ..Plan::default() };
        let mut rounds = Campaign::new(plan, campaign.subjects(), Records::default(), true);
        rounds.run(&mut agent, None, &AtomicBool::new(false), &mut |_| {})
    };
    // All of them take twice their bytes.
    let all = of(2 * bytes.div_ceil(1 << 20) + 1).unwrap();
    assert_eq!(of((bytes / 3) >> 20).unwrap(), all);
    let none = of(0).unwrap_err().to_string();
    assert!(none.contains("memory is full"), "{none}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn each_candidate_stands_in_each_decision_of_a_space_equally_often(
        stages in prop::collection::vec((1usize..4, 1usize..3, prop::sample::subsequence(
            vec!["k3e3", "k5e3", "k3e6", "k5e6", "k7e6", "zero"], 2..6)), 1..6),
    ) {
        let blocks = |names: &[&str]| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let stage = |(index, (depth, stride, names)): (usize, &(usize, usize, Vec<&str>))| {
            let channels = 8 * (index + 1);
            format!("[[stages]]\nchannels = {channels}\ndepth = {depth}\nstride = {stride}\ncandidates = [{}]\n", blocks(names))
        };
        let stages: String = stages.iter().enumerate().map(stage).collect();
        let toml = format!(
            "name = \"any\"\nclasses = 10\nbn_eps = 0.001\ninput = {{ channels = 3, height = 32, width = 32 }}\n\
             candidates = [\"k3e3\"]\n[stem]\nchannels = 8\nkernel = 3\nstride = 1\n{stages}[head]\nchannels = 32\n"
        );
        let Ok(space) = SearchSpace::from_toml(&toml, "any") else { return Ok(()) };
        let design = NetworkCampaign::design(&space);
        prop_assert!(design.len() >= space.distinct_units(1, Precision::Fp32).len());
        for (decision, spec) in space.decisions().iter().enumerate() {
            let mut counts: HashMap<Candidate, usize> = spec.candidates.iter().map(|&c| (c, 0)).collect();
            for architecture in &design {
                let choice = architecture.choices().nth(decision).unwrap();
                *counts.get_mut(&spec.candidates[choice]).unwrap() += 1;
            }
            let wanted = design.len() / spec.candidates.len();
            prop_assert!(counts.values().all(|&count| count == wanted), "{}: {counts:?}", spec.name);
        }
    }
}
