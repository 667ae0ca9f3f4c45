//! When a model has warmed up.

use crate::statistics::{MAD, median};

/// A change below this share is none.
const STEADY: f64 = 0.02;
/// Runs whose median is compared: a single one may be an outlier.
const WINDOW: usize = 3;

/// How many runs lie in front of the first ones that are as fast as the last half of them; `None` where that half itself
/// still changes.
pub(crate) fn steady_after(runs: &[f64]) -> Option<usize> {
    let half = runs.len() / 2;
    let (earlier, later) = runs[half..].split_at((runs.len() - half) / 2);
    let usual = median(runs[half..].iter().copied())?;
    // Three standard deviations of normal noise, from the steps between neighbours: a trend isn't noise.
    let steps: Vec<f64> = runs[half..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    let trend = median(steps.iter().copied())?;
    let noise = MAD * median(steps.iter().map(|step| (step - trend).abs()))? / std::f64::consts::SQRT_2;
    let far = (3.0 * noise).max(STEADY * usual);
    let (earlier, later) = (median(earlier.iter().copied())?, median(later.iter().copied())?);
    if earlier - later > far {
        return None;
    }
    let fast = |window: &[f64]| median(window.iter().copied()).is_some_and(|median| median - usual <= far);
    runs.windows(WINDOW.min(runs.len())).position(fast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_get_faster_at_first_are_steady_behind_that() {
        let run = |index: i32| 1.0 + 2.0 * 0.3f64.powi(index) + if index % 2 == 0 { 0.005 } else { 0.0 };
        let runs: Vec<f64> = (0..20).map(run).collect();
        // 1 + 2 x 0.3^3 = 1.05, 1 + 2 x 0.3^4 = 1.016: the median of runs 2 to 4 is still above 2 %.
        assert_eq!(steady_after(&runs), Some(3));
        assert_eq!(steady_after(&[1.0; 10]), Some(0));
    }

    #[test]
    fn runs_that_are_still_getting_faster_are_not_steady() {
        let runs: Vec<f64> = (0..20).map(|index| 2.0 - 0.05 * f64::from(index)).collect();
        assert_eq!(steady_after(&runs), None);
        assert_eq!((steady_after(&[]), steady_after(&[1.0]), steady_after(&[1.0; 4])), (None, None, Some(0)));
    }

    #[test]
    fn an_outlier_is_no_warming_up() {
        let mut runs = vec![1.0; 20];
        (runs[0], runs[7], runs[15]) = (3.0, 2.0, 5.0);
        assert_eq!(steady_after(&runs), Some(0));
    }
}
