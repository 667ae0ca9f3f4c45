//! What a process' own luck adds to the doubt. Where its memory lies makes a model faster or slower by some percent as long
//! as the process runs, so that all rounds of one process (a *sitting*) err together: many rounds of few sittings look surer
//! than they are.
//!
//! The variance between sittings, beyond what the scatter within them explains, is estimated for each subject and drawn
//! towards the mean over all subjects, since few sittings tell little of one subject (a moderated variance as of Smyth 2004,
//! "Linear Models and Empirical Bayes Methods", with a fixed number of prior degrees of freedom).

use crate::statistics::{self, Z, median};

/// Degrees of freedom that the mean over all subjects counts for.
const PRIOR: f64 = 4.0;
/// Sittings below which a subject tells nothing of their variance.
const FEWEST: usize = 3;
/// Variances below this are what logarithms are rounded by: none.
const ROUNDING: f64 = 1e-24;

/// Half of the 99 % interval that the choice of sittings leaves open of each subject's median, as a logarithm; 0 where no
/// subject has enough sittings. `subjects` are the logarithms of each one's rounds, with the number of their sitting, in the
/// order of sittings.
pub(crate) fn doubts(subjects: &[Vec<(u32, f64)>]) -> Vec<f64> {
    let excesses: Vec<Option<(usize, f64)>> = subjects.iter().map(|rounds| excess(rounds)).collect();
    let known: Vec<(usize, f64)> = excesses.iter().flatten().copied().filter(|(count, _)| *count >= FEWEST).collect();
    if known.is_empty() {
        return vec![0.0; subjects.len()];
    }
    let mean = known.iter().map(|(_, variance)| variance).sum::<f64>() / known.len() as f64;
    let doubt = |excess: &Option<(usize, f64)>| {
        let Some((count, own)) = *excess else { return 0.0 };
        let freedom = count as f64 - 1.0;
        let variance = Some((PRIOR * mean + freedom * own) / (PRIOR + freedom)).filter(|variance| *variance > ROUNDING);
        // A median's standard error is sqrt(pi / 2) times a mean's.
        Z * (std::f64::consts::FRAC_PI_2 * variance.unwrap_or_default() / count as f64).sqrt()
    };
    excesses.iter().map(doubt).collect()
}

/// Number of sittings, and the variance of their medians less what the scatter within them explains; it may be negative. The
/// variance is 0 with one sitting, which tells nothing.
fn excess(rounds: &[(u32, f64)]) -> Option<(usize, f64)> {
    let sittings: Vec<Vec<f64>> = rounds
        .chunk_by(|a, b| a.0 == b.0)
        .map(|sitting| sitting.iter().map(|(_, value)| *value).filter(|value| value.is_finite()).collect())
        .filter(|sitting: &Vec<f64>| !sitting.is_empty())
        .collect();
    let medians: Vec<f64> = sittings.iter().filter_map(|sitting| median(sitting.iter().copied())).collect();
    if medians.len() < 2 {
        return (!medians.is_empty()).then_some((medians.len(), 0.0));
    }
    // Within: pooled over the sittings that have several rounds.
    let freedom: usize = sittings.iter().map(|sitting| sitting.len() - 1).sum();
    let squares: f64 = sittings.iter().map(|sitting| statistics::squares(sitting)).sum();
    let within = if freedom == 0 { 0.0 } else { squares / freedom as f64 };
    let of_medians = sittings.iter().map(|sitting| within / sitting.len() as f64).sum::<f64>() / medians.len() as f64;
    let between = statistics::squares(&medians) / (medians.len() - 1) as f64;
    Some((medians.len(), between - of_medians))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Roughly normal, with this standard deviation.
    fn noise(rng: &mut ChaCha8Rng, sd: f64) -> f64 {
        sd * (0..12).map(|_| rng.random_range(-0.5..0.5)).sum::<f64>()
    }

    fn subjects(rng: &mut ChaCha8Rng, sittings: u32, rounds: u32, between: f64, within: f64) -> Vec<Vec<(u32, f64)>> {
        let subject = |rng: &mut ChaCha8Rng| {
            let sitting = |rng: &mut ChaCha8Rng, number: u32| {
                let luck = noise(rng, between);
                (0..rounds).map(|_| (number, luck + noise(rng, within))).collect::<Vec<_>>()
            };
            (0..sittings).flat_map(|number| sitting(rng, number)).collect()
        };
        (0..60).map(|_| subject(rng)).collect()
    }

    #[test]
    fn intervals_hold_what_other_sittings_would_have_given() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for sittings in [4, 12] {
            let (mut held, mut total) = (0, 0);
            for _ in 0..40 {
                let subjects = subjects(&mut rng, sittings, 2, 0.02, 0.002);
                for (subject, doubt) in subjects.iter().zip(doubts(&subjects)) {
                    let middle = median(subject.iter().map(|(_, value)| *value)).unwrap();
                    held += usize::from(middle.abs() <= doubt);
                    total += 1;
                }
            }
            let share = f64::from(held as u32) / f64::from(total);
            assert!(share > 0.975, "{sittings} sittings: {share}");
        }
    }

    #[test]
    fn scatter_within_sittings_is_no_difference_between_them() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut mean = |between| doubts(&subjects(&mut rng, 10, 3, between, 0.01)).iter().sum::<f64>() / 60.0;
        let (alike, apart) = (mean(0.0), mean(0.03));
        assert!(alike < 0.25 * apart && apart > 0.02, "{alike} {apart}");
    }

    #[test]
    fn a_subject_that_is_more_capricious_than_others_is_doubted_more() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut all = subjects(&mut rng, 10, 2, 0.005, 0.002);
        all[7] = subjects(&mut rng, 10, 2, 0.08, 0.002).swap_remove(0);
        let doubts = doubts(&all);
        assert!(doubts[7] > 4.0 * doubts[8], "{} {}", doubts[7], doubts[8]);
    }

    #[test]
    fn what_never_changes_leaves_no_doubt_however_many_there_are() {
        let subject = |value: f64| (0..25).map(|round| (round / 2, value.ln())).collect::<Vec<_>>();
        for count in 1..20 {
            let subjects: Vec<_> = (1..=count).map(|index| subject(1234.5 * f64::from(index))).collect();
            assert!(doubts(&subjects).iter().all(|doubt| *doubt == 0.0), "{count}");
        }
    }

    #[test]
    fn few_sittings_tell_nothing() {
        assert_eq!(doubts(&[vec![(0, 1.0), (0, 2.0), (1, 3.0)], Vec::new()]), [0.0, 0.0]);
        assert!(doubts(&[]).is_empty());
        let odd = vec![(0, f64::NAN), (1, 0.0), (2, 0.0), (3, 0.0)];
        assert_eq!(doubts(&[odd]), [0.0]);
    }
}
