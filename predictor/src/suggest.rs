//! Which networks to measure next.

use std::collections::HashSet;

use fleetfoot_space::{Architecture, NetworkError, SearchSpace};
use ndarray::{Array1, Array2, Axis, concatenate};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::design::Design;
use crate::evidence::Evidence;
use crate::gaussian::{CONSTANT, NOISE};

/// Random networks among which is chosen.
const POOL: usize = 2000;

/// Networks of a space whose measurements tell most: one after the other, the one of many random networks that a model of those before it knows
/// least about (its prediction has the largest variance), which is the greedy way to a D-optimal design. `measured` are known already; evidence
/// says what else is. A space with fewer networks than are asked for gives those that it has.
pub fn suggest(
    space: &SearchSpace,
    count: usize,
    measured: &[Architecture],
    evidence: &Evidence,
    seed: u64,
) -> Result<Vec<Architecture>, NetworkError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut known: HashSet<Architecture> = measured.iter().cloned().collect();
    let drawn = (0..20 * (POOL + count)).map(|_| space.random(&mut rng));
    let pool: Vec<Architecture> =
        drawn.filter(|architecture| known.insert(architecture.clone())).take(POOL + count).collect();
    let chosen = suggest_among(space, count, measured, evidence, &pool)?;
    Ok(chosen.into_iter().map(|index| pool[index].clone()).collect())
}

/// As [`suggest`], but among given networks, of which it tells the indices.
pub fn suggest_among(
    space: &SearchSpace,
    count: usize,
    measured: &[Architecture],
    evidence: &Evidence,
    pool: &[Architecture],
) -> Result<Vec<usize>, NetworkError> {
    let design = Design::of(space, evidence)?;
    let all: Vec<Architecture> = measured.iter().chain(pool).cloned().collect();
    // Each network's features, scaled so that their products are the covariances that networks have beforehand.
    let groups = design.features(&all);
    let scaled: Vec<Array2<f64>> =
        groups.iter().zip(design.starts()).map(|(features, start)| features * start.sqrt()).collect();
    let constant = Array2::from_elem((all.len(), 1), CONSTANT.sqrt());
    let views: Vec<_> = std::iter::once(&constant).chain(&scaled).map(|features| features.view()).collect();
    let Ok(features) = concatenate(Axis(1), &views) else { unreachable!("all have a row for each network") };
    let mut variance: Array1<f64> = features.rows().into_iter().map(|row| row.dot(&row)).collect();
    let mut columns: Vec<Array1<f64>> = Vec::new();
    let mut chosen = vec![false; all.len()];
    let mut suggested = Vec::with_capacity(count);
    // A Cholesky factor of the covariance of what is measured, column by column, with its rows for all that isn't.
    while suggested.len() < count {
        let next = match columns.len() < measured.len() {
            true => columns.len(),
            false => {
                let open = (0..all.len()).filter(|&index| !chosen[index]);
                let Some(best) = open.max_by(|&a, &b| variance[a].total_cmp(&variance[b])) else { break };
                suggested.push(best - measured.len());
                best
            }
        };
        let mut column = features.dot(&features.row(next));
        columns.iter().for_each(|other: &Array1<f64>| column.scaled_add(-other[next], other));
        column /= (variance[next] + NOISE).sqrt();
        variance.zip_mut_with(&column, |variance, value| *variance -= value * value);
        chosen[next] = true;
        columns.push(column);
    }
    Ok(suggested)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Evaluation, NetworkModel, WholeNetworks};

    /// What networks take on a made-up device, fitted to and predicted: the error in percent.
    fn error(space: &SearchSpace, train: &[Architecture], test: &[Architecture]) -> f64 {
        let latency = |architecture: &Architecture| {
            let costs = space.choose(architecture).enumerate().map(|(index, (decision, candidate))| {
                let dear = if candidate.to_string().starts_with("k7") { 1.7 } else { 1.0 };
                let blocks = if decision.is_identity(candidate) { 0.0 } else { 1.0 };
                dear * blocks * (1.0 + index as f64 / 5.0)
            });
            1.0 + 1e-6 * space.network(architecture).unwrap().macs() as f64 + 0.3 * costs.sum::<f64>()
        };
        let lines = train.iter().map(|architecture| format!("{architecture},{}\n", latency(architecture)));
        let text = format!("architecture,latency_ms\n{}", lines.collect::<String>());
        let measured = WholeNetworks::parse(&text, Path::new("x.csv"), space).unwrap().0;
        let model = NetworkModel::fit(space, &measured, &Evidence::default()).unwrap();
        let pairs = test.iter().map(|architecture| (model.predict(architecture).unwrap().ms, latency(architecture)));
        Evaluation::new(&pairs.collect::<Vec<_>>()).unwrap().rmspe_percent
    }

    #[test]
    fn what_is_suggested_tells_more_than_chance() {
        let space = SearchSpace::load("fashion-28").unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut random = |count: usize| (0..count).map(|_| space.random(&mut rng)).collect::<Vec<_>>();
        let test = random(300);
        let mut errors = [0.0; 2];
        for seed in 0..8 {
            let suggested = suggest(&space, 10, &[], &Evidence::default(), seed).unwrap();
            for (sum, train) in errors.iter_mut().zip([suggested, random(10)]) {
                *sum += error(&space, &train, &test);
            }
        }
        assert!(errors[0] < 0.9 * errors[1], "{errors:?}");
    }

    #[test]
    fn suggestions_differ_from_each_other_and_from_what_is_known() {
        let space = SearchSpace::load("fashion-28").unwrap();
        let first = suggest(&space, 10, &[], &Evidence::default(), 0).unwrap();
        assert_eq!(first, suggest(&space, 10, &[], &Evidence::default(), 0).unwrap());
        let next = suggest(&space, 10, &first, &Evidence::default(), 0).unwrap();
        let all: HashSet<&Architecture> = first.iter().chain(&next).collect();
        assert_eq!((first.len(), all.len()), (10, 20));
        // A space of six networks.
        let text = space.text().replace("depth = 2", "depth = 1").replace("depth = 3", "depth = 1");
        let text = &text[..text.find("[architectures]").unwrap()]
            .replace(r#""k3e3", "k3e6", "k5e3", "k5e6", "k7e3", "k7e6""#, r#""k3e3""#);
        let small = SearchSpace::from_toml(text, "small").unwrap();
        assert!(small.size() <= 4.0, "{}", small.size());
        assert_eq!(suggest(&small, 10, &[], &Evidence::default(), 0).unwrap().len() as f64, small.size());
    }
}
