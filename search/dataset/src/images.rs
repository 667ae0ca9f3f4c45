//! Images in memory.

use std::borrow::Cow;

use rand_chacha::ChaCha8Rng;

use super::picture::{Picture, Region};
use super::{Augmentation, Classes, DatasetError, Examples};

/// Labelled images of one size: N x C x H x W bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Channels.
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Number of classes.
    pub classes: Classes,
    /// The images one behind the other, each C x H x W.
    pub pixels: Vec<u8>,
    /// One label an image, below the number of classes.
    pub labels: Vec<u16>,
}

impl Images {
    /// An image's bytes, C x H x W.
    pub fn image(&self, index: usize) -> &[u8] {
        let length = self.channels * self.height * self.width;
        &self.pixels[index * length..][..length]
    }
}

impl Examples for Images {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn size(&self) -> (usize, usize, usize) {
        (self.channels, self.height, self.width)
    }

    fn classes(&self) -> Classes {
        self.classes
    }

    fn label(&self, index: usize) -> u16 {
        self.labels[index]
    }

    fn read(
        &self,
        index: usize,
        augmented: Option<(&Augmentation, &mut ChaCha8Rng)>,
        values: &mut [f32],
    ) -> Result<(), DatasetError> {
        let (channels, height, width) = self.size();
        let plain = |values: &mut [f32]| {
            values.iter_mut().zip(self.image(index)).for_each(|(value, &byte)| *value = f32::from(byte) / 255.0);
        };
        let Some((augmentation, rng)) = augmented else {
            plain(values);
            return Ok(());
        };
        if augmentation.crop.is_some() {
            let picture = Picture { bytes: Cow::Borrowed(self.image(index)), channels, height, width, planar: true };
            let whole = Region::middle(&picture, (height, width), 1.0);
            let region = augmentation.region(&picture, (height, width), whole, rng);
            picture.scale(region, self.size(), values);
        } else {
            plain(values);
        }
        augmentation.finish(values, self.size(), rng);
        Ok(())
    }

    fn identify(&self, add: &mut dyn FnMut(&[u8])) {
        for extent in [self.channels, self.height, self.width, self.labels.len()] {
            add(&(extent as u64).to_le_bytes());
        }
        add(&self.pixels);
        add(self.classes.to_string().as_bytes());
        self.labels.iter().for_each(|label| add(&label.to_le_bytes()));
    }

    fn streamed(&self) -> bool {
        false
    }

    fn channel_statistics(&self) -> Option<Vec<(f32, f32)>> {
        let plane = self.height * self.width;
        let mut moments = vec![super::Moments::default(); self.channels];
        for image in self.pixels.chunks_exact((self.channels * plane).max(1)) {
            for (moments, values) in moments.iter_mut().zip(image.chunks_exact(plane.max(1))) {
                values.iter().for_each(|&value| moments.add(f64::from(value) / 255.0));
            }
        }
        Some(moments.iter().map(super::Moments::mean_and_deviation).collect())
    }
}
