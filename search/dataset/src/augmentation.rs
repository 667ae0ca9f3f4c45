//! What is done to training images at random.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::picture::{Picture, Region};

/// Width over height of a random-resized crop, over that of what is wanted (Szegedy et al., CVPR 2015).
const ASPECTS: RangeInclusive<f64> = 3.0 / 4.0..=4.0 / 3.0;
/// Crops that are drawn until one lies within the picture; then the largest from the middle is taken.
const CROPS: usize = 10;
/// What red, green and blue are for the eye (ITU-R BT.601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// What is done to training images at random.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augmentation {
    /// Largest shift in pixels, in both directions; what comes in from outside is 0.
    pub shift: usize,
    /// Whether every second image is mirrored.
    pub flip: bool,
    /// Random-resized crops: the least share of an image's area that is cut out and scaled to the size wanted. `None`: the
    /// same part as in evaluations.
    pub crop: Option<f64>,
    /// Changes of colour.
    pub jitter: Jitter,
}

/// Colour jitter: each property is multiplied by a factor drawn evenly from 1 - x to 1 + x, in random order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Jitter {
    /// Of brightness.
    pub brightness: f32,
    /// Of contrast: the distance from the image's mean luma.
    pub contrast: f32,
    /// Of saturation: the distance from each pixel's luma.
    pub saturation: f32,
}

impl Jitter {
    /// Colours as they are.
    pub const NONE: Self = Self { brightness: 0.0, contrast: 0.0, saturation: 0.0 };
    /// What the authors of ProxylessNAS search with on ImageNet (mit-han-lab/proxylessnas, search/data_providers/imagenet.py,
    /// "normal").
    pub const PROXYLESS: Self = Self { brightness: 32.0 / 255.0, contrast: 0.0, saturation: 0.5 };
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.pad("none");
        }
        write!(f, "{},{},{}", self.brightness, self.contrast, self.saturation)
    }
}

impl FromStr for Jitter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let numbers: Result<Vec<f32>, _> = text.split(',').map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[brightness, contrast, saturation])
                if [brightness, contrast, saturation].iter().all(|x| (0.0..=1.0).contains(x)) =>
            {
                Ok(Self { brightness, contrast, saturation })
            }
            _ => Err("wanted none, or three numbers from 0 to 1: BRIGHTNESS,CONTRAST,SATURATION".to_owned()),
        }
    }
}

impl Augmentation {
    /// The part of a picture that is scaled to `height` x `width`: a random-resized crop, or the evaluation's.
    pub(super) fn region(
        &self,
        picture: &Picture<'_>,
        (height, width): (usize, usize),
        evaluated: Region,
        rng: &mut ChaCha8Rng,
    ) -> Region {
        let Some(least) = self.crop else { return evaluated };
        let (h, w) = (picture.height as f64, picture.width as f64);
        let wanted = width as f64 / height as f64;
        for _ in 0..CROPS {
            let area = rng.random_range(least..=1.0) * h * w;
            let aspect = wanted * rng.random_range(ASPECTS.start().ln()..=ASPECTS.end().ln()).exp();
            let (cut_h, cut_w) = ((area / aspect).sqrt().round(), (area * aspect).sqrt().round());
            if (1.0..=h).contains(&cut_h) && (1.0..=w).contains(&cut_w) {
                let top = rng.random_range(0..=(h - cut_h) as usize) as f64;
                let left = rng.random_range(0..=(w - cut_w) as usize) as f64;
                return Region { top, left, height: cut_h, width: cut_w };
            }
        }
        Region::middle(picture, (height, width), 1.0)
    }

    /// Mirrors, shifts and colours an image of C x H x W values in place.
    pub(super) fn finish(
        &self,
        values: &mut [f32],
        (channels, height, width): (usize, usize, usize),
        rng: &mut ChaCha8Rng,
    ) {
        if self.flip && rng.random_bool(0.5) {
            values.chunks_exact_mut(width).for_each(<[f32]>::reverse);
        }
        self.jitter.apply(values, channels, rng);
        if self.shift > 0 {
            let reach = self.shift as i64;
            let by = (rng.random_range(-reach..=reach), rng.random_range(-reach..=reach));
            values.chunks_exact_mut(height * width).for_each(|plane| shift(plane, width, by));
        }
    }
}

/// Moves a plane's content up and to the left by so many pixels, which may be negative.
fn shift(plane: &mut [f32], width: usize, (up, left): (i64, i64)) {
    let before = plane.to_vec();
    let height = plane.len() / width;
    let inside = |at: usize, by: i64, extent: usize| at.checked_add_signed(by as isize).filter(|&at| at < extent);
    for (y, row) in plane.chunks_exact_mut(width).enumerate() {
        let from = inside(y, up, height).map(|from| &before[from * width..][..width]);
        for (x, value) in row.iter_mut().enumerate() {
            *value = from.and_then(|from| Some(from[inside(x, left, width)?])).unwrap_or(0.0);
        }
    }
}

/// A property of an image's colours.
#[derive(Clone, Copy)]
enum Property {
    Brightness,
    Contrast,
    Saturation,
}

impl Jitter {
    fn apply(self, values: &mut [f32], channels: usize, rng: &mut ChaCha8Rng) {
        let mut steps = vec![
            (Property::Brightness, self.brightness),
            (Property::Contrast, self.contrast),
            (Property::Saturation, self.saturation),
        ];
        steps.retain(|(_, strength)| *strength > 0.0);
        steps.shuffle(rng);
        for (property, strength) in steps {
            let factor = rng.random_range(1.0 - strength..=1.0 + strength);
            property.scale(values, channels, factor);
        }
    }
}

impl Property {
    fn scale(self, values: &mut [f32], channels: usize, factor: f32) {
        let plane = values.len() / channels.max(1);
        // Away from what has none of the property: black, the mean luma, each pixel's luma.
        let away = |value: f32, from: f32| (from + (value - from) * factor).clamp(0.0, 1.0);
        match self {
            Self::Brightness => values.iter_mut().for_each(|value| *value = away(*value, 0.0)),
            Self::Contrast => {
                let sum: f32 = match values.chunks_exact(plane.max(1)).collect::<Vec<_>>()[..] {
                    [red, green, blue] => LUMA[0] * sum(red) + LUMA[1] * sum(green) + LUMA[2] * sum(blue),
                    _ => sum(values) / channels.max(1) as f32,
                };
                let mean = sum / plane.max(1) as f32;
                values.iter_mut().for_each(|value| *value = away(*value, mean));
            }
            // Without three channels there is no colour.
            Self::Saturation if channels == 3 => {
                let (red, rest) = values.split_at_mut(plane);
                let (green, blue) = rest.split_at_mut(plane);
                for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
                    let luma = LUMA[0] * *red + LUMA[1] * *green + LUMA[2] * *blue;
                    (*red, *green, *blue) = (away(*red, luma), away(*green, luma), away(*blue, luma));
                }
            }
            Self::Saturation => {}
        }
    }
}

/// Of rows, then of their sums: single precision then loses nothing that matters.
fn sum(values: &[f32]) -> f32 {
    values.chunks(256).map(|part| part.iter().sum::<f32>()).sum()
}
