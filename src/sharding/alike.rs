//! Whether those who measured parts of one result are identical.

use anyhow::{Result, anyhow};
use fleetfoot_profiler::{Conditions, Z, median};

use super::part::Part;

/// By so much identical devices may differ, as a share: what two profiles of one device differ by, and more.
const ALIKE: f64 = 0.03;

/// By how much those who measured differ, the most, as a share; too much is an error, whose sentence `remedy` ends. The first `common`
/// subjects are no references.
pub fn check_alike(parts: &[Part], names: &[&str], common: usize, remedy: &str) -> Result<f64> {
    let [first, others @ ..] = parts else { return Ok(0.0) };
    let mut most: f64 = 0.0;
    for other in others {
        let same = Conditions { device: first.conditions.device.clone(), ..other.conditions.clone() };
        first.conditions.compatible(&same).map_err(|differences| {
            anyhow!("'{}' and '{}' aren't identical ({differences}): {remedy}", first.name, other.name)
        })?;
        let references =
            first.positions.iter().filter(|position| **position >= common && other.positions.contains(position));
        let ratios: Vec<(f64, f64, &str)> = references
            .filter_map(|&position| {
                let (ours, theirs) = (first.of(position)?, other.of(position)?);
                let doubt = ours.half_width().hypot(theirs.half_width());
                Some((theirs.latency.ms() / ours.latency.ms() - 1.0, doubt, *names.get(position)?))
            })
            .collect();
        let apart = alike(&ratios).map_err(|(apart, permitted)| {
            let worst = ratios.iter().max_by(|a, b| a.0.abs().total_cmp(&b.0.abs())).map_or("", |(.., name)| name);
            anyhow!(
                "'{}' and '{}' aren't identical: what both measured takes {:+.1} % on '{}' in the median (most differs {worst}), more \
                 than {:.1} %: {remedy}, or when both are in the same state",
                first.name,
                other.name,
                100.0 * apart,
                other.name,
                100.0 * permitted,
            )
        })?;
        most = most.max(apart.abs());
    }
    Ok(most)
}

/// By how much two devices differ, from their references' differences and doubts: the median, if it is no more than is permitted, else both.
fn alike(ratios: &[(f64, f64, &str)]) -> Result<f64, (f64, f64)> {
    let apart = median(ratios.iter().map(|(apart, ..)| *apart)).unwrap_or(f64::NAN);
    let doubt = median(ratios.iter().map(|(_, doubt, _)| *doubt)).unwrap_or(f64::NAN);
    // Half a 99 % interval is Z deviations; a few references are alike if their median is.
    let permitted = ALIKE.max(3.0 * doubt / Z);
    if apart.abs() <= permitted { Ok(apart) } else { Err((apart, permitted)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_differ_by_more_than_noise_arent_identical() {
        let ratios = |all: &[f64], doubt: f64| alike(&all.iter().map(|apart| (*apart, doubt, "")).collect::<Vec<_>>());
        assert_eq!(ratios(&[0.01, -0.01, 0.02], 0.01), Ok(0.01));
        assert!(ratios(&[0.08, 0.07, 0.09], 0.01).is_err());
        assert!(ratios(&[-0.05, -0.04, -0.06], 0.01).is_err());
        // One that was hit says little; what is hardly known says nothing.
        assert_eq!(ratios(&[0.0, 0.5, 0.0], 0.01), Ok(0.0));
        assert!(ratios(&[0.08, 0.07, 0.09], 0.2).is_ok());
        assert!(ratios(&[], 0.01).is_err());
    }
}
