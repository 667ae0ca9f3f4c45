//! What units cost follows from what was measured by the stated equation.

use fleetfoot_profiler::{Context, Interval, Latency, Measurement, UnitCampaign};
use fleetfoot_space::{Operator, Precision, SearchSpace};

fn measured(ms: f64) -> Measurement {
    let latency = |ms: f64| Latency::from_ms(ms).unwrap();
    let interval = Interval { low: latency(ms * 0.99), high: latency(ms * 1.01) };
    Measurement { latency: latency(ms), interval, samples: 100, rounds: 10, disturbed: 0, common: 0.0 }
}

/// A world in which a call costs 5 µs, a boundary 3 µs, and everything else its MACs.
fn world(campaign: &UnitCampaign, boundary: impl Fn(&str) -> f64) -> Vec<Measurement> {
    let subjects = campaign.subjects().iter().zip(campaign.sizes());
    subjects.map(|(subject, (macs, _))| measured(0.005 + boundary(&subject.name) + macs as f64 * 1e-7)).collect()
}

#[test]
fn calls_and_boundaries_are_taken_off() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let campaign = UnitCampaign::new(&space, 1, Precision::Fp32, Context::Cold).unwrap();
    assert_eq!(campaign.units(), 45);
    let boundary = |name: &str| match name {
        "empty graph" => 0.0,
        // The stem's input and the head's output are the network's own ends.
        name if name.starts_with("conv-") || name.starts_with("head-") => 0.0015,
        _ => 0.003,
    };
    let (empty, rows) = campaign.rows(&world(&campaign, boundary));
    assert!((empty.ms() - 0.005).abs() < 1e-12);
    let stem = rows.iter().find(|row| matches!(row.key.operator, Operator::Conv { .. })).unwrap();
    assert!((stem.boundary.unwrap().ms() - 0.0015).abs() < 1e-9);
    for row in &rows {
        let network = fleetfoot_space::Network::of_unit(&row.key, space.bn_eps()).unwrap();
        assert!((row.latency.ms() - network.macs() as f64 * 1e-7).abs() < 1e-9, "{}", row.key);
        assert!(row.low <= row.latency && row.latency <= row.high);
    }
}

#[test]
fn every_precision_and_batch_size_has_probes_of_its_own_and_the_networks_own_ends_have_none() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let names = |batch, precision| {
        let campaign = UnitCampaign::new(&space, batch, precision, Context::Cold).unwrap();
        campaign.subjects().iter().map(|subject| subject.name.clone()).collect::<Vec<_>>()
    };
    let plain = names(1, Precision::Fp32);
    for (batch, precision) in [(1, Precision::Int8), (8, Precision::Fp32), (8, Precision::Fp16)] {
        let other = names(batch, precision);
        assert_eq!(other.len(), plain.len());
        assert!(!other.contains(&format!("probe of 1 on {batch}x1x28x28")), "the network's input is no boundary");
        let shape = |name: &str| name.replace("@1x", &format!("@{batch}x")).replace(" on 1x", &format!(" on {batch}x"));
        let wanted: Vec<String> =
            plain.iter().map(|name| shape(name).replace(":fp32", &format!(":{precision}"))).collect();
        assert_eq!(other, wanted);
    }
}

#[test]
fn a_boundary_that_costs_nothing_is_never_a_bonus() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let campaign = UnitCampaign::new(&space, 1, Precision::Fp32, Context::Cold).unwrap();
    // Noise makes two convolutions look dearer than twice one.
    let noise = |name: &str| if name.starts_with("probe of 2") { 0.001 } else { 0.0 };
    let (_, rows) = campaign.rows(&world(&campaign, noise));
    rows.iter().for_each(|row| assert_eq!(row.boundary.unwrap(), Latency::ZERO));
}

#[test]
fn what_is_evicted_is_what_lies_between_two_visits() {
    let bytes = |space: &str| {
        let campaign =
            UnitCampaign::new(&SearchSpace::load(space).unwrap(), 1, Precision::Fp32, Context::Cold).unwrap();
        campaign.subjects().iter().map(|subject| subject.evict_bytes).collect::<Vec<_>>()
    };
    let (small, large) = (bytes("fashion-28"), bytes("proxyless-224"));
    // The mean network of fashion-28 has about 0.7 MB of weights, that of proxyless-224 about 17 MB.
    assert!(small.iter().all(|&bytes| (300_000..2_000_000).contains(&bytes)), "{small:?}");
    assert!(large.iter().all(|&bytes| (8_000_000..30_000_000).contains(&bytes)), "{large:?}");
    // A unit's own weights don't lie between its visits: those with more weights have less in front of them.
    assert!(small[0] > *small.iter().min().unwrap());
}
