//! Predictions are sums of what was measured, and say so where something wasn't.

use fleetfoot_predictor::{
    CostMatrix, FEATURES, PredictError, Predictor, Regression, RegressionError, Source, TablePredictor, cost_matrix,
    features,
};
use fleetfoot_profiler::{Doubts, Latency, LatencyTable, Provenance, Row};
use fleetfoot_space::{Network, Operator, OperatorKey, Precision, SearchSpace, Shape};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A device on which a unit costs 1 ns a dense and 4 ns a depthwise multiply-accumulate.
fn cost(key: &OperatorKey) -> f64 {
    let network = Network::of_unit(key, 1e-3).unwrap();
    let macs = network.walk().map(|(node, out)| {
        let depthwise = node.name.contains("depthwise");
        node.layer.macs(out) as f64 * if depthwise { 4e-6 } else { 1e-6 }
    });
    macs.sum::<f64>().max(1e-6)
}

fn table(space: &SearchSpace) -> LatencyTable {
    let rows = space.distinct_units(1, Precision::Fp32).into_iter().map(|key| {
        let latency = |scale: f64| Latency::from_ms(cost(&key) * scale).unwrap();
        Row {
            key,
            latency: latency(1.0),
            low: latency(0.99),
            high: latency(1.02),
            samples: 9,
            raw: None,
            boundary: None,
            measured: None,
            doubts: Doubts::NONE,
        }
    });
    let mut provenance = Provenance::default();
    provenance.set("space", space.name());
    LatencyTable::new(provenance, Latency::from_ms(0.004).unwrap(), rows.collect()).unwrap()
}

#[test]
fn a_network_costs_a_call_and_the_sum_of_its_units() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let predictor = TablePredictor::new(table(&space), None);
    let costs = cost_matrix(&space, &predictor, 1, Precision::Fp32).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..50 {
        let architecture = space.random(&mut rng);
        let network = space.network(&architecture).unwrap();
        let prediction = predictor.network(&network).unwrap();
        let units = network.units().iter().filter(|unit| unit.key.operator != Operator::Zero);
        let sum = 0.004 + units.map(|unit| cost(&unit.key)).sum::<f64>();
        assert!((prediction.latency.ms() - sum).abs() < 1e-12);
        assert!((costs.latency_ms(&architecture) - sum).abs() < 1e-12);
        assert!((prediction.low.ms() - (0.004 + 0.99 * (sum - 0.004))).abs() < 1e-9);
        assert!((prediction.high.ms() - (0.004 + 1.02 * (sum - 0.004))).abs() < 1e-9);
        assert!(prediction.units.iter().all(|unit| unit.estimate.source != Source::Regression));
    }
    let (fastest, slowest) = costs.range_ms();
    let (_, shallowest) = space.resolve("shallowest").unwrap();
    assert!((costs.latency_ms(&shallowest) - fastest).abs() < costs.rows.len() as f64 * 0.5 && fastest < slowest);
}

#[test]
fn an_unknown_unit_is_an_error_that_names_it_and_the_remedy() {
    let fashion = SearchSpace::load("fashion-28").unwrap();
    let other = SearchSpace::load("cifar-32").unwrap();
    let predictor = TablePredictor::new(table(&fashion), None);
    let network = other.network(&other.parse_architecture("000000000000000000000").unwrap()).unwrap();
    let error = predictor.network(&network).unwrap_err();
    assert!(matches!(error, PredictError::Unknown { .. }));
    let text = error.to_string();
    for part in ["conv-k3-s1-i3-o32-g1@1x3x32x32:fp32", "unit stem", "fashion-28", "fleetfoot profile", "--estimate"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(cost_matrix(&other, &predictor, 1, Precision::Fp32).is_err());
}

#[test]
fn an_estimate_is_marked_as_one_and_close_on_units_like_those_measured() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let full = table(&space);
    let missing: OperatorKey = "mbconv-k5-e6-s1-i40-o40-g1-skip@1x40x7x7:fp32".parse().unwrap();
    let rows = full.rows().iter().filter(|row| row.key != missing).cloned().collect();
    let table = LatencyTable::new(full.provenance.clone(), full.overhead(), rows).unwrap();
    let regression = Regression::fit(&table, 0).unwrap();
    assert!(regression.validation().evaluation.rmspe_percent < 15.0);
    let predictor = TablePredictor::new(table, Some(regression));
    let estimate = predictor.unit(&missing).unwrap();
    assert_eq!(estimate.source, Source::Regression);
    assert!((estimate.latency.ms() / cost(&missing) - 1.0).abs() < 0.15);
    assert!(estimate.low < estimate.latency && estimate.latency < estimate.high);
}

#[test]
fn a_model_reads_back_what_it_writes_and_refuses_what_is_none() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let regression = Regression::fit(&table(&space), 3).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.json");
    regression.write(&path).unwrap();
    assert_eq!(Regression::read(&path).unwrap(), regression);
    let text = std::fs::read_to_string(&path).unwrap();
    for broken in ["", "{}", &text[..text.len() / 2], &text.replace("\"format\": 1", "\"format\": 9")] {
        std::fs::write(&path, broken).unwrap();
        let error = Regression::read(&path).unwrap_err().to_string();
        assert!(error.contains("model.json") && error.contains("fleetfoot fit"), "{error}");
    }
    assert!(Regression::read(&folder.path().join("none.json")).is_err());
}

#[test]
fn equal_tables_and_seeds_give_equal_models() {
    let space = SearchSpace::load("fashion-28").unwrap();
    assert_eq!(Regression::fit(&table(&space), 5).unwrap(), Regression::fit(&table(&space), 5).unwrap());
}

#[test]
fn too_few_rows_are_no_regression() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let full = table(&space);
    let few = LatencyTable::new(Provenance::default(), Latency::ZERO, full.rows()[..5].to_vec()).unwrap();
    assert!(matches!(Regression::fit(&few, 0), Err(RegressionError::TooFew { rows: 5 })));
}

#[test]
fn a_regression_knows_when_it_extrapolates() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let regression = Regression::fit(&table(&space), 0).unwrap();
    let inside: OperatorKey = "mbconv-k5-e3-s1-i24-o24-g1-skip@1x24x7x7:fp32".parse().unwrap();
    assert_eq!(regression.extrapolates(&inside).unwrap(), None);
    let outside: OperatorKey = "mbconv-k5-e6-s1-i320-o320-g1-skip@1x320x56x56:fp32".parse().unwrap();
    assert!(regression.extrapolates(&outside).unwrap().is_some());
}

#[test]
fn features_are_finite_for_every_unit_of_every_preset() {
    for name in fleetfoot_space::preset_names() {
        for key in SearchSpace::load(name).unwrap().distinct_units(1, Precision::Fp32) {
            let values = features(&key).unwrap();
            assert_eq!(values.len(), FEATURES.len());
            assert!(values.iter().all(|value| value.is_finite()), "{key}: {values:?}");
        }
    }
    let zero = OperatorKey { operator: Operator::Zero, input: Shape::new(1, 1, 1, 1), precision: Precision::Fp32 };
    assert!(features(&zero).unwrap().iter().all(|value| value.is_finite()));
}

#[test]
fn costs_that_are_none_are_refused() {
    assert!(CostMatrix::new(f64::NAN, vec![]).is_err());
    assert!(CostMatrix::new(-1.0, vec![]).is_err());
    assert!(CostMatrix::new(0.0, vec![vec![1.0, f64::INFINITY]]).is_err());
    assert!(CostMatrix::new(0.0, vec![vec![1.0, -2.0]]).is_err());
}
