//! Ranges of activations for int8, from real images.

use std::fmt;
use std::str::FromStr;

use fleetfoot_space::{Quantisation, Ranges, Source, Weights, quantised_nodes};
use tch::{TchError, Tensor, no_grad};

use crate::batches;
use crate::error::SearchError;
use crate::module::{Mode, Module};

/// Images that are run at a time.
const BATCH: usize = 32;
/// Bins of a histogram between the lowest and the highest value.
const BINS: usize = 2048;
/// Ends of a range that are tried on each side.
const TRIES: usize = 100;

/// How a range is chosen from the values of an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Observer {
    /// From the lowest to the highest.
    MinMax,
    /// The middle so many percent of the values; the others saturate.
    Percentile(f64),
    /// The range with the least mean squared error of what comes back out of a byte.
    MeanSquaredError,
}

impl fmt::Display for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax => f.pad("minmax"),
            Self::Percentile(percent) => f.pad(&format!("percentile:{percent}")),
            Self::MeanSquaredError => f.pad("mse"),
        }
    }
}

impl FromStr for Observer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let percentile = || {
            let percent = text.strip_prefix("percentile:")?.parse().ok()?;
            (50.0..=100.0).contains(&percent).then_some(Self::Percentile(percent))
        };
        let wanted =
            || "wanted minmax, mse, or percentile:P with P from 50 to 100, such as percentile:99.99".to_owned();
        match text {
            "minmax" => Ok(Self::MinMax),
            "mse" => Ok(Self::MeanSquaredError),
            _ => percentile().ok_or_else(wanted),
        }
    }
}

/// The ranges of the input and of every activation that int8 quantises, over images as they are classified.
pub fn calibrate(
    module: &Module,
    weights: &Weights,
    images: &batches::Source,
    observer: Observer,
) -> Result<Ranges, SearchError> {
    let nodes = quantised_nodes(module.network(), weights)?;
    let mut histograms: Vec<Histogram> = vec![Histogram::default(); nodes.len() + 1];
    each(module, &nodes, images, |place, values| histograms[place].reach(values))?;
    if observer != Observer::MinMax {
        each(module, &nodes, images, |place, values| histograms[place].count(values))?;
    }
    let sources = std::iter::once(Source::Input).chain(nodes.into_iter().map(Source::Node));
    Ok(sources.zip(histograms).map(|(source, histogram)| (source, histogram.range(observer))).collect())
}

/// Shows the values of the input (place 0) and of every node (places 1 and up), batch by batch.
fn each(
    module: &Module,
    nodes: &[usize],
    images: &batches::Source,
    mut show: impl FnMut(usize, &[f32]),
) -> Result<(), SearchError> {
    let mut buffer = Vec::new();
    let mut values = |place: usize, tensor: &Tensor| -> Result<(), TchError> {
        buffer.resize(tensor.numel(), 0.0);
        tensor.f_contiguous()?.f_copy_data(&mut buffer, tensor.numel())?;
        show(place, &buffer);
        Ok(())
    };
    no_grad(|| {
        for batch in images.in_order(BATCH) {
            let batch = batch?;
            values(0, &batch.images)?;
            let _ =
                module.forward_watched(&batch.images, Mode::Eval, |node, output| match nodes.binary_search(&node) {
                    Ok(index) => values(index + 1, output),
                    Err(_) => Ok(()),
                })?;
        }
        Ok(())
    })
}

/// How often values lie where.
#[derive(Clone, Debug, Default, PartialEq)]
struct Histogram {
    low: f32,
    high: f32,
    counts: Vec<u64>,
}

impl Histogram {
    /// Takes note of the lowest and the highest value; 0 always is between them, as it is in a [`Quantisation`].
    fn reach(&mut self, values: &[f32]) {
        (self.low, self.high) =
            values.iter().fold((self.low, self.high), |(low, high), &value| (low.min(value), high.max(value)));
    }

    /// Counts values between the two.
    fn count(&mut self, values: &[f32]) {
        self.counts.resize(BINS, 0);
        let per_value = BINS as f32 / (self.high - self.low).max(f32::MIN_POSITIVE);
        for &value in values {
            let bin = ((value - self.low) * per_value) as usize;
            self.counts[bin.min(BINS - 1)] += 1;
        }
    }

    fn range(&self, observer: Observer) -> (f32, f32) {
        match observer {
            Observer::MinMax => (self.low, self.high),
            Observer::Percentile(percent) => self.middle(percent / 100.0),
            Observer::MeanSquaredError => self.least_error(),
        }
    }

    /// The lower end of a bin.
    fn at(&self, bin: usize) -> f32 {
        self.low + (self.high - self.low) * bin as f32 / BINS as f32
    }

    fn middle(&self, share: f64) -> (f32, f32) {
        let total: u64 = self.counts.iter().sum();
        let outside = ((1.0 - share) / 2.0 * total as f64) as u64;
        let beyond = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut seen = 0;
            let whole = |count: &&u64| {
                seen += **count;
                seen <= outside
            };
            counts.take_while(whole).count()
        };
        let (first, last) = (beyond(&mut self.counts.iter()), beyond(&mut self.counts.iter().rev()));
        (self.at(first).min(0.0), self.at(BINS - last.min(BINS)).max(0.0))
    }

    /// Both ends in turn, twice, are moved to where the error is least.
    fn least_error(&self) -> (f32, f32) {
        let mut best = (self.low, self.high);
        for _ in 0..2 {
            let ends = |end: f32| (1..=TRIES).map(move |part| end * part as f32 / TRIES as f32);
            for high in ends(self.high) {
                best = self.better(best, (best.0, high));
            }
            for low in ends(self.low) {
                best = self.better(best, (low, best.1));
            }
        }
        best
    }

    fn better(&self, one: (f32, f32), other: (f32, f32)) -> (f32, f32) {
        if self.error(other) < self.error(one) { other } else { one }
    }

    /// Sum of squared errors, every value taken for the middle of its bin.
    fn error(&self, range: (f32, f32)) -> f64 {
        let quantisation = Quantisation::of_range(range);
        let bins = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let errors = bins.map(|(bin, &count)| {
            let value = f32::midpoint(self.at(bin), self.at(bin + 1));
            count as f64 * f64::from(value - quantisation.round_trip(value)).powi(2)
        });
        errors.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.reach(values);
        histogram.count(values);
        histogram
    }

    #[test]
    fn observers_are_read_as_they_are_written() {
        for text in ["minmax", "mse", "percentile:99.99", "percentile:100"] {
            assert_eq!(text.parse::<Observer>().unwrap().to_string(), text);
        }
        for text in ["", "max", "percentile", "percentile:", "percentile:0.99", "percentile:101", "percentile:NaN"] {
            assert!(text.parse::<Observer>().unwrap_err().contains("percentile:99.99"), "{text}");
        }
    }

    #[test]
    fn what_lies_far_out_is_cut_by_all_but_the_widest_range() {
        // 100,000 values between -1 and 1, and two far away.
        let mut values: Vec<f32> = (0..100_000).map(|i| (i as f32 / 50_000.0) - 1.0).collect();
        values.extend([40.0, -20.0]);
        let histogram = histogram(&values);
        assert_eq!(histogram.range(Observer::MinMax), (-20.0, 40.0));
        let bin = 60.0 / BINS as f32;
        let (low, high) = histogram.range(Observer::Percentile(99.99));
        assert!((low + 1.0).abs() < 2.0 * bin && (high - 1.0).abs() < 2.0 * bin, "{low} {high}");
        assert_eq!(histogram.range(Observer::Percentile(100.0)), (-20.0, 40.0));
        let error = |range| histogram.error(range);
        let best = histogram.range(Observer::MeanSquaredError);
        for range in [(-20.0, 40.0), (-1.0, 1.0), (-2.0, 2.0), (-10.0, 10.0), (0.0, 40.0), (low, high)] {
            assert!(error(best) <= error(range), "{best:?} is worse than {range:?}");
        }
    }

    #[test]
    fn ranges_of_one_value_and_of_none_are_ranges() {
        for values in [vec![], vec![0.0; 9], vec![3.0; 9], vec![-3.0; 9]] {
            let histogram = histogram(&values);
            for observer in [Observer::MinMax, Observer::Percentile(99.9), Observer::MeanSquaredError] {
                let (low, high) = histogram.range(observer);
                assert!(low <= 0.0 && high >= 0.0 && low.is_finite() && high.is_finite(), "{values:?} {observer}");
            }
        }
    }
}
