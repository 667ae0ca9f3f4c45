//! Cholesky factors and inverses of symmetric matrices, in blocks: most of the work is ndarray's matrix product.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, s};

/// Blocks of so many rows aren't divided further.
const SMALL: usize = 32;

/// The inverse of a symmetric, positive definite matrix; `None` where it isn't positive definite.
pub(crate) fn inverse(matrix: &Array2<f64>) -> Option<Array2<f64>> {
    let mut factor = matrix.clone();
    if !cholesky(factor.view_mut()) {
        return None;
    }
    for row in 0..factor.nrows() {
        factor.slice_mut(s![row, row + 1..]).fill(0.0);
    }
    invert_lower(factor.view_mut());
    Some(factor.t().dot(&factor))
}

/// Logarithm of the density of a normal distribution with mean 0 at `y`, but for a constant; the covariance is used up. `None` where that
/// isn't positive definite.
pub(crate) fn log_density(mut covariance: Array2<f64>, y: &Array1<f64>) -> Option<f64> {
    if !cholesky(covariance.view_mut()) {
        return None;
    }
    let mut whitened = y.clone().insert_axis(Axis(0));
    divide(whitened.view_mut(), covariance.view());
    let log_determinant = 2.0 * covariance.diag().iter().map(|value| value.ln()).sum::<f64>();
    Some(-0.5 * (whitened.iter().map(|value| value * value).sum::<f64>() + log_determinant))
}

/// Replaces the lower part of a symmetric matrix `A` by `L` with `A = L L'`; the upper part is left as it is. False where `A` isn't positive
/// definite.
fn cholesky(mut a: ArrayViewMut2<'_, f64>) -> bool {
    let n = a.nrows();
    if n <= SMALL {
        for column in 0..n {
            let above: f64 = a.slice(s![column, ..column]).iter().map(|value| value * value).sum();
            let pivot = a[[column, column]] - above;
            if pivot.is_nan() || pivot <= 0.0 {
                return false;
            }
            let pivot = pivot.sqrt();
            a[[column, column]] = pivot;
            for row in column + 1..n {
                let dot = a.slice(s![row, ..column]).dot(&a.slice(s![column, ..column]));
                a[[row, column]] = (a[[row, column]] - dot) / pivot;
            }
        }
        return true;
    }
    let (top, bottom) = a.split_at(Axis(0), n / 2);
    let (mut first, _) = top.split_at(Axis(1), n / 2);
    let (mut below, mut last) = bottom.split_at(Axis(1), n / 2);
    if !cholesky(first.view_mut()) {
        return false;
    }
    divide(below.view_mut(), first.view());
    let below = below.view();
    general_mat_mul(-1.0, &below, &below.t(), 1.0, &mut last);
    cholesky(last)
}

/// Replaces `X` by `X L'^-1`.
fn divide(mut x: ArrayViewMut2<'_, f64>, lower: ArrayView2<'_, f64>) {
    let n = lower.nrows();
    if n <= SMALL {
        for column in 0..n {
            let (before, mut rest) = x.view_mut().split_at(Axis(1), column);
            let mut own = rest.column_mut(0);
            own -= &before.dot(&lower.slice(s![column, ..column]));
            own /= lower[[column, column]];
        }
        return;
    }
    let half = n / 2;
    let (mut first, mut last) = x.split_at(Axis(1), half);
    divide(first.view_mut(), lower.slice(s![..half, ..half]));
    general_mat_mul(-1.0, &first, &lower.slice(s![half.., ..half]).t(), 1.0, &mut last);
    divide(last, lower.slice(s![half.., half..]));
}

/// Replaces a lower triangular matrix by its inverse.
fn invert_lower(mut lower: ArrayViewMut2<'_, f64>) {
    let n = lower.nrows();
    if n <= SMALL {
        for column in 0..n {
            lower[[column, column]] = 1.0 / lower[[column, column]];
            for row in column + 1..n {
                let dot: f64 = (column..row).map(|k| lower[[row, k]] * lower[[k, column]]).sum();
                lower[[row, column]] = -dot / lower[[row, row]];
            }
        }
        return;
    }
    let half = n / 2;
    let (top, bottom) = lower.split_at(Axis(0), half);
    let (mut first, _) = top.split_at(Axis(1), half);
    let (mut below, mut last) = bottom.split_at(Axis(1), half);
    invert_lower(first.view_mut());
    invert_lower(last.view_mut());
    below.assign(&-last.dot(&below).dot(&first));
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn an_inverse_times_the_matrix_is_the_identity_at_every_size() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for n in [1, 2, 31, 32, 33, 65, 150] {
            let half = Array2::from_shape_fn((n, n), |_| rng.random_range(-1.0..1.0));
            let matrix = half.dot(&half.t()) + Array2::<f64>::eye(n) * 0.1;
            let inverse = inverse(&matrix).unwrap();
            let error = (matrix.dot(&inverse) - Array2::<f64>::eye(n)).mapv(f64::abs);
            assert!(error.iter().all(|error| *error < 1e-8), "{n}: {:?}", error.iter().copied().fold(0.0, f64::max));
        }
    }

    #[test]
    fn densities_are_those_of_the_definition() {
        // The inverse of ((2, 1), (1, 3)) is ((3, -1), (-1, 2)) / 5: y' K^-1 y = 3 at (1, -2) times 5 / 5.
        let covariance = ndarray::arr2(&[[2.0, 1.0], [1.0, 3.0]]);
        let density = log_density(covariance, &ndarray::arr1(&[1.0, -2.0])).unwrap();
        assert!((density + 0.5 * (3.0 + 5f64.ln())).abs() < 1e-12, "{density}");
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let half = Array2::from_shape_fn((100, 100), |_| rng.random_range(-1.0..1.0));
        let matrix = half.dot(&half.t()) + Array2::<f64>::eye(100);
        let y = Array1::from_shape_fn(100, |_| rng.random_range(-1.0..1.0));
        let scaled = log_density(&matrix * 2.0, &y).unwrap() - log_density(matrix.clone(), &y).unwrap();
        let quadratic = y.dot(&inverse(&matrix).unwrap().dot(&y));
        assert!((scaled - (0.25 * quadratic - 50.0 * 2f64.ln())).abs() < 1e-8, "{scaled}");
    }

    #[test]
    fn what_isnt_positive_definite_has_none() {
        assert!(inverse(&ndarray::arr2(&[[1.0, 2.0], [2.0, 1.0]])).is_none());
        assert!(inverse(&ndarray::arr2(&[[f64::NAN]])).is_none());
    }
}
