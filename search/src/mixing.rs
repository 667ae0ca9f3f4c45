//! Training images mixed in pairs.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};
use tch::Tensor;

use crate::batches::Batch;
use crate::error::SearchError;
use crate::loss::{Criterion, mean_loss, total_score};

/// Which ways of mixing are on. A share λ ~ Beta(α, α) of every batch, its labels too, is each image's own, the rest is
/// that of another image of the batch. Where both ways are on, every batch takes one of the two with equal chances.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mixing {
    /// α of mixup (Zhang et al., ICLR 2018): `x = λ x_i + (1 - λ) x_j`.
    pub mixup: Option<f64>,
    /// α of CutMix (Yun et al., ICCV 2019): a rectangle that is 1 - λ of the image comes from `x_j`.
    pub cutmix: Option<f64>,
}

/// Whose labels a batch's images have.
#[derive(Debug)]
pub struct Targets {
    /// The images' own labels (N).
    own: Tensor,
    /// What they were mixed with: those images' labels (N), and the share that is the images' own.
    mixed: Option<(Tensor, f64)>,
}

impl From<Tensor> for Targets {
    /// The images' own labels alone: N, as 64-bit integers.
    fn from(own: Tensor) -> Self {
        Self { own, mixed: None }
    }
}

impl Targets {
    /// Number of images.
    pub fn images(&self) -> Result<i64, SearchError> {
        Ok(self.own.size1()?)
    }

    /// The labels of so many images from one on.
    pub fn part(&self, start: i64, length: i64) -> Result<Self, SearchError> {
        let mixed = self.mixed.as_ref();
        let mixed = mixed.map(|(others, share)| Ok::<_, SearchError>((others.f_narrow(0, start, length)?, *share)));
        Ok(Self { own: self.own.f_narrow(0, start, length)?, mixed: mixed.transpose()? })
    }

    /// Mean loss of logits (N x outputs): of mixed images, `λ` times that against their own labels and `1 - λ` times that
    /// against the others'. Of cross entropy, which is linear in its target, that is the one against the mixed soft label.
    pub fn loss(&self, criterion: &dyn Criterion, logits: &Tensor, smoothing: f64) -> Result<Tensor, SearchError> {
        let own = mean_loss(criterion, logits, &self.own, smoothing)?;
        let Some((others, share)) = &self.mixed else { return Ok(own) };
        let others = mean_loss(criterion, logits, others, smoothing)?;
        Ok(own.f_mul_scalar(*share)?.f_add(&others.f_mul_scalar(1.0 - share)?)?)
    }

    /// Sum of the images' scores, mixed alike: by [`CrossEntropy`](crate::CrossEntropy)'s, how many labels logits hit.
    pub fn score(&self, criterion: &dyn Criterion, logits: &Tensor) -> Result<f64, SearchError> {
        let own = total_score(criterion, logits, &self.own)?;
        let Some((others, share)) = &self.mixed else { return Ok(own) };
        Ok(share * own + (1.0 - share) * total_score(criterion, logits, others)?)
    }
}

impl Mixing {
    /// Mixes a rank's share of the batch of a step in place. What is drawn depends on seed, step and rank alone: a run can be
    /// taken up anywhere.
    pub fn apply(
        &self,
        batch: Batch,
        seed: u64,
        (step, rank): (usize, usize),
    ) -> Result<(Tensor, Targets), SearchError> {
        let Batch { images, labels } = batch;
        let mut rng = generator(seed, step, rank);
        let (alpha, cut) = match (self.mixup, self.cutmix) {
            (None, None) => return Ok((images, labels.into())),
            (Some(alpha), None) => (alpha, false),
            (None, Some(alpha)) => (alpha, true),
            (Some(mixup), Some(cutmix)) => {
                if rng.random_bool(0.5) {
                    (mixup, false)
                } else {
                    (cutmix, true)
                }
            }
        };
        let beta = Beta::new(alpha, alpha);
        let beta = beta.map_err(|_| SearchError::Settings(format!("mixing by Beta({alpha}, {alpha}): no such law")))?;
        let share = beta.sample(&mut rng);
        let mut order: Vec<i64> = (0..labels.size1()?).collect();
        order.shuffle(&mut rng);
        let order = Tensor::f_from_slice(&order)?.f_to(images.device())?;
        let others = images.f_index_select(0, &order)?;
        let share = if cut { paste(&images, &others, share, &mut rng)? } else { blend(&images, &others, share)? };
        let mixed = Some((labels.f_index_select(0, &order)?, share));
        Ok((images, Targets { own: labels, mixed }))
    }
}

fn blend(images: &Tensor, others: &Tensor, share: f64) -> Result<f64, SearchError> {
    let _ = images.shallow_clone().f_lerp_(others, 1.0 - share)?;
    Ok(share)
}

/// The rectangle's middle lies anywhere in the image; what would reach over the edge is cut off, and the share is that of
/// what is left (the paper's algorithm 1).
fn paste(images: &Tensor, others: &Tensor, share: f64, rng: &mut ChaCha8Rng) -> Result<f64, SearchError> {
    let (_, _, height, width) = images.size4()?;
    let mut span = |extent: i64| {
        let length = (extent as f64 * (1.0 - share).sqrt()) as i64;
        let start = rng.random_range(0..extent) - length / 2;
        let (first, end) = (start.clamp(0, extent), (start + length).clamp(0, extent));
        (first, end - first)
    };
    let ((y, rows), (x, columns)) = (span(height), span(width));
    let part = |of: &Tensor| of.f_narrow(2, y, rows)?.f_narrow(3, x, columns);
    part(images)?.f_copy_(&part(others)?)?;
    Ok(1.0 - (rows * columns) as f64 / (height * width) as f64)
}

fn generator(seed: u64, step: usize, rank: usize) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(step as u64).to_le_bytes());
    key[16..24].copy_from_slice(&(rank as u64).to_le_bytes());
    // The generators of batches have zeros there.
    key[24..27].copy_from_slice(b"mix");
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use tch::{Kind, no_grad};

    use super::*;
    use crate::loss::CrossEntropy;

    const SIDE: i64 = 8;

    /// Image i is i everywhere, and so is its label.
    fn batch() -> Batch {
        let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 4]);
        let images = labels.to_kind(Kind::Float).reshape([5, 1, 1, 1]).expand([5, 2, SIDE, SIDE], false).contiguous();
        Batch { images, labels }
    }

    /// What each image holds of itself and of the other, by its pixels; and its other's label.
    fn mixed(mixing: Mixing, step: usize) -> (Tensor, Tensor, f64) {
        let (images, targets) = mixing.apply(batch(), 3, (step, 0)).unwrap();
        let (others, share) = targets.mixed.unwrap();
        (images, others, share)
    }

    #[test]
    fn mixup_blends_images_as_it_blends_labels() {
        for step in 0..20 {
            let (images, others, share) = mixed(Mixing { mixup: Some(0.2), cutmix: None }, step);
            let own = batch().labels.to_kind(Kind::Double) * share + others.to_kind(Kind::Double) * (1.0 - share);
            let off = (images.to_kind(Kind::Double) - own.reshape([5, 1, 1, 1])).abs().max().double_value(&[]);
            assert!(off < 1e-5 && (0.0..=1.0).contains(&share), "step {step}: {off}");
        }
    }

    #[test]
    fn cutmix_takes_a_rectangle_and_labels_by_its_area() {
        let mut cut = 0;
        for step in 0..50 {
            let (images, others, share) = mixed(Mixing { mixup: None, cutmix: Some(1.0) }, step);
            for image in 0..5 {
                let (own, other) = (image as f64, others.double_value(&[image]));
                let pixels = images.get(image).get(1);
                let count = |value: f64| pixels.eq(value).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
                let expected = if own == other { 1.0 } else { share };
                assert!((count(own) - expected).abs() < 1e-9 && (count(own) == 1.0 || count(other) > 0.0));
            }
            cut += usize::from(share < 1.0);
        }
        assert!(cut > 40, "most batches are cut: {cut}");
    }

    #[test]
    fn a_step_is_mixed_alike_whenever_it_is_taken_and_others_otherwise() {
        let mixing = Mixing { mixup: Some(0.2), cutmix: Some(1.0) };
        let pixels = |step| Vec::<f32>::try_from(mixed(mixing, step).0.reshape([-1])).unwrap();
        assert_eq!(pixels(7), pixels(7));
        assert_ne!(pixels(7), pixels(8));
        let whole = |step: &usize| mixed(mixing, *step).0.frac().abs().max().double_value(&[]) == 0.0;
        let cut = (0..60).filter(whole).count();
        assert!((15..45).contains(&cut), "about half of the batches are cut: {cut}");
    }

    #[test]
    fn soft_labels_are_smoothed_and_mixed() {
        let logits = no_grad(|| Tensor::from_slice(&[0.3f64, -1.0, 2.0, 0.1, 0.2, -0.4]).reshape([2, 3]));
        let (own, others) = (Tensor::from_slice(&[0i64, 2]), Tensor::from_slice(&[1i64, 2]));
        let targets = Targets { own, mixed: Some((others, 0.7)) };
        let loss = targets.loss(&CrossEntropy, &logits, 0.1).unwrap().double_value(&[]);
        let log = logits.log_softmax(1, Kind::Double);
        let target = |image: i64| {
            let one = |class: i64| match (image, class) {
                (0, 0) => 0.7,
                (0, 1) => 0.3,
                (1, 2) => 1.0,
                _ => 0.0,
            };
            (0..3).map(|class| (0.9 * one(class) + 0.1 / 3.0) * log.double_value(&[image, class])).sum::<f64>()
        };
        assert!((loss + (target(0) + target(1)) / 2.0).abs() < 1e-12, "{loss}");
    }
}
