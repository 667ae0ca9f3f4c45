//! Two latency tables, unit by unit: two devices, two days, two ways to measure, two precisions or batch sizes.

use fleetfoot_space::OperatorKey;

use crate::latency::Latency;
use crate::statistics::{Interval, Measurement, quantile};
use crate::subject::Subject;
use crate::table::{LatencyTable, Row};

/// A unit's latency in both tables, or a network's.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// The unit's key, or the network's name.
    pub name: String,
    /// Its latency in the first table.
    pub first: Latency,
    /// Its latency in the second.
    pub second: Latency,
    /// `second / first`.
    pub ratio: f64,
    /// Lower end of the ratio's 99 % interval: of those of rows that cost the same, 99 % hold 1.
    pub low: f64,
    /// Upper end of the ratio's 99 % interval.
    pub high: f64,
}

impl Ratio {
    /// From a latency and its interval each; `None` where one of them is nothing. An interval holds what another campaign
    /// finds, so that its halves are those of a difference of two alike; of two unlike, the halves' squares count half, on a
    /// scale of logarithms.
    pub fn new(name: String, first: (Latency, Interval), second: (Latency, Interval)) -> Option<Self> {
        let ln = |latency: Latency| (latency > Latency::ZERO).then(|| latency.ms().ln());
        let (a, b) = (ln(first.0)?, ln(second.0)?);
        // An end at 0 is infinitely far away.
        let below = |interval: Interval, middle: f64| middle - ln(interval.low).unwrap_or(f64::NEG_INFINITY);
        let above = |interval: Interval, middle: f64| ln(interval.high).unwrap_or(middle) - middle;
        let low = b - a - below(second.1, b).hypot(above(first.1, a)) / std::f64::consts::SQRT_2;
        let high = b - a + above(second.1, b).hypot(below(first.1, a)) / std::f64::consts::SQRT_2;
        let (ratio, low, high) = ((b - a).exp(), low.exp(), high.exp());
        Some(Self { name, first: first.0, second: second.0, ratio, low, high })
    }

    /// Whether the interval leaves no doubt that the latencies differ.
    pub fn is_beyond_noise(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }

    fn abs_percent(&self) -> f64 {
        100.0 * (self.ratio - 1.0).abs()
    }
}

/// What two tables have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Units of both that cost something, in the first table's order; or networks.
    pub ratios: Vec<Ratio>,
    /// Units of both of which one costs nothing in one of them.
    pub free: Vec<OperatorKey>,
    /// Units of the first alone.
    pub only_first: Vec<OperatorKey>,
    /// Units of the second alone.
    pub only_second: Vec<OperatorKey>,
}

impl Comparison {
    /// Compares two tables. Where they differ in precision or batch size, a unit is held against itself in the other's;
    /// keys are the first table's, but those of units of the second alone.
    pub fn new(first: &LatencyTable, second: &LatencyTable) -> Self {
        let mut comparison = Self::default();
        for row in first.rows() {
            match second.get(&row.key.at(second.batch(), second.precision())) {
                None => comparison.only_first.push(row.key),
                Some(other) => match Ratio::new(row.key.to_string(), of_row(row), of_row(other)) {
                    Some(ratio) => comparison.ratios.push(ratio),
                    None => comparison.free.push(row.key),
                },
            }
        }
        let in_first = |key: &OperatorKey| first.get(&key.at(first.batch(), first.precision())).is_some();
        let alone = second.rows().iter().map(|row| row.key).filter(|key| !in_first(key));
        comparison.only_second = alone.collect();
        comparison
    }

    /// Subjects that were measured now against their references, which are known to within this share.
    pub fn with_references(subjects: &[Subject], now: &[Measurement], doubt: f64) -> Self {
        let ratio = |(subject, now): (&Subject, &Measurement)| {
            let then = subject.reference?;
            let end = |sign: f64| Latency::from_ms(then.ms() * (1.0 + sign * doubt)).ok();
            let interval = Interval { low: end(-1.0)?, high: end(1.0)? };
            Ratio::new(subject.name.clone(), (then, interval), (now.latency, now.interval))
        };
        Self { ratios: subjects.iter().zip(now).filter_map(ratio).collect(), ..Self::default() }
    }

    /// Quantile of `|ratio - 1|` over the units, in percent; `None` where they have nothing in common.
    pub fn abs_percent(&self, q: f64) -> Option<f64> {
        let mut differences: Vec<f64> = self.ratios.iter().map(Ratio::abs_percent).collect();
        differences.sort_by(f64::total_cmp);
        quantile(&differences, q)
    }

    /// Median of the ratios; `None` where the tables have nothing in common.
    pub fn median_ratio(&self) -> Option<f64> {
        let mut ratios: Vec<f64> = self.ratios.iter().map(|ratio| ratio.ratio).collect();
        ratios.sort_by(f64::total_cmp);
        quantile(&ratios, 0.5)
    }

    /// Whether the first is still true by the second, with this tolerance as a share: the median is within it, or no more than half
    /// of the units differ beyond noise; and no unit is beyond three times that with all of its interval.
    pub fn is_within(&self, tolerance: f64) -> bool {
        let is_close = self.median_ratio().is_some_and(|median| (median - 1.0).abs() <= tolerance);
        let far = 3.0 * tolerance;
        let is_far = |ratio: &Ratio| ratio.low > 1.0 + far || ratio.high < 1.0 - far;
        (is_close || 2 * self.beyond_noise() <= self.ratios.len()) && !self.ratios.iter().any(is_far)
    }

    /// Units that differ beyond noise.
    pub fn beyond_noise(&self) -> usize {
        self.ratios.iter().filter(|ratio| ratio.is_beyond_noise()).count()
    }
}

fn of_row(row: &Row) -> (Latency, Interval) {
    (row.latency, Interval { low: row.low, high: row.high })
}

#[cfg(test)]
mod tests {
    use fleetfoot_space::{Operator, Precision, Shape};

    use super::*;
    use crate::conditions::Provenance;
    use crate::doubts::Doubts;

    fn table(rows: &[(usize, f64, f64)]) -> LatencyTable {
        let row = |&(c, ms, half): &(usize, f64, f64)| {
            let operator = Operator::Conv { kernel: 1, stride: 1, c_in: c, c_out: c, groups: 1 };
            let key = OperatorKey { operator, input: Shape::new(1, c, 4, 4), precision: Precision::Fp32 };
            let latency = |ms: f64| Latency::from_ms(ms.max(0.0)).unwrap();
            let (low, high) = (latency(ms / (1.0 + half)), latency(ms * (1.0 + half)));
            Row {
                key,
                latency: latency(ms),
                low,
                high,
                samples: 1,
                raw: None,
                boundary: None,
                measured: None,
                doubts: Doubts::NONE,
            }
        };
        LatencyTable::new(Provenance::default(), Latency::ZERO, rows.iter().map(row).collect()).unwrap()
    }

    #[test]
    fn a_table_is_no_longer_true_where_most_rows_differ_or_one_is_far_off() {
        let then = table(&[(1, 1.0, 0.01), (2, 1.0, 0.01), (3, 1.0, 0.01), (4, 1.0, 0.01), (5, 1.0, 0.01)]);
        let is_true = |ms: [f64; 5], half: f64| {
            let rows: Vec<(usize, f64, f64)> = (1..).zip(ms).map(|(channels, ms)| (channels, ms, half)).collect();
            Comparison::new(&then, &table(&rows)).is_within(0.03)
        };
        assert!(is_true([1.0, 1.01, 0.99, 1.02, 1.0], 0.01));
        // Beyond noise, but by less than it matters.
        assert!(is_true([1.02; 5], 0.001));
        assert!(!is_true([1.05; 5], 0.01));
        // The median says nothing of these.
        assert!(is_true([1.0, 1.0, 1.0, 1.08, 0.93], 0.01));
        assert!(!is_true([1.0, 1.0, 1.0, 1.5, 1.0], 0.01) && !is_true([1.0, 1.0, 1.0, 1.0, 0.7], 0.01));
        assert!(is_true([1.0, 1.0, 1.0, 1.5, 1.0], 0.6), "nobody knows");
    }

    #[test]
    fn units_are_compared_with_what_both_tables_doubt() {
        let first = table(&[(8, 1.0, 0.03), (16, 2.0, 0.03), (24, 1.0, 0.03), (32, 0.0, 0.0)]);
        let second = table(&[(16, 2.2, 0.04), (8, 0.8, 0.04), (32, 1.0, 0.0), (40, 1.0, 0.0)]);
        let comparison = Comparison::new(&first, &second);
        let ratios: Vec<f64> = comparison.ratios.iter().map(|ratio| ratio.ratio).collect();
        assert!((ratios[0] - 0.8).abs() < 1e-12 && (ratios[1] - 1.1).abs() < 1e-12);
        // ln 1.03 and ln 1.04 in quadrature are 4.9 %, over the square root of 2.
        let half = (1.03f64.ln().hypot(1.04f64.ln()) / 2.0f64.sqrt()).exp();
        assert!((comparison.ratios[1].high - 1.1 * half).abs() < 1e-12);
        assert!((comparison.ratios[1].low - 1.1 / half).abs() < 1e-12);
        assert_eq!(comparison.beyond_noise(), 2);
        let lone = |keys: &[OperatorKey]| keys.iter().map(|key| key.input.c).collect::<Vec<usize>>();
        assert_eq!(lone(&comparison.only_first), [24]);
        assert_eq!((lone(&comparison.only_second), lone(&comparison.free)), (vec![40], vec![32]));
        assert!((comparison.abs_percent(0.5).unwrap() - 15.0).abs() < 1e-9);
        assert_eq!(Comparison::new(&first, &table(&[(48, 1.0, 0.0)])).abs_percent(0.5), None);
    }

    #[test]
    fn an_interval_that_reaches_down_to_nothing_leaves_everything_open() {
        let mut rows = table(&[(8, 1.0, 0.01)]).rows().to_vec();
        rows[0].low = Latency::ZERO;
        let doubtful = LatencyTable::new(Provenance::default(), Latency::ZERO, rows).unwrap();
        let comparison = Comparison::new(&table(&[(8, 2.0, 0.01)]), &doubtful);
        assert_eq!(comparison.ratios[0].low, 0.0);
        assert!(comparison.ratios[0].is_beyond_noise(), "its upper end is half of the other");
    }
}
