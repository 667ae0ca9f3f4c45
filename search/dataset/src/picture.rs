//! Pictures as bytes, and parts of them scaled.

use std::borrow::Cow;

/// A decoded picture: one byte a channel.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    /// H x W x C, or C x H x W where it is `planar`.
    pub bytes: Cow<'a, [u8]>,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub planar: bool,
}

/// A part of a picture, in pixels that may be broken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Region {
    pub top: f64,
    pub left: f64,
    pub height: f64,
    pub width: f64,
}

impl Region {
    /// From the middle, `share` of the largest part in the proportions of `height` x `width`.
    pub fn middle(picture: &Picture<'_>, (height, width): (usize, usize), share: f64) -> Self {
        let (h, w) = (picture.height as f64, picture.width as f64);
        let scale = share * (h / height as f64).min(w / width as f64);
        // Never beyond the picture, whatever rounding does.
        let (cut_h, cut_w) = ((scale * height as f64).min(h), (scale * width as f64).min(w));
        Self { top: (h - cut_h) / 2.0, left: (w - cut_w) / 2.0, height: cut_h, width: cut_w }
    }
}

impl Picture<'_> {
    /// Scales a part to C x `height` x `width` values in 0..1, bilinearly and, where that makes it smaller, over all pixels
    /// that an output covers: a triangle as wide as two outputs, as PIL's `BILINEAR`. A grey picture fills all channels.
    pub fn scale(&self, region: Region, (channels, height, width): (usize, usize, usize), values: &mut [f32]) {
        let rows = Taps::new(region.top, region.height, height, self.height);
        let columns = Taps::new(region.left, region.width, width, self.width);
        let area = height * width;
        if self.planar || self.channels == 1 {
            let from = self.bytes.chunks_exact(self.height * self.width);
            for (plane, target) in from.zip(values.chunks_exact_mut(area)) {
                resample::<1>(plane, self.width, &rows, &columns, target);
            }
        } else {
            resample::<3>(&self.bytes, self.width, &rows, &columns, values);
        }
        if self.channels == 1 && channels > 1 {
            let (first, others) = values.split_at_mut(area);
            others.chunks_exact_mut(area).for_each(|plane| plane.copy_from_slice(first));
        }
    }
}

/// Which inputs an output is a mean of, along one axis, and their weights.
struct Taps {
    /// Of each output: its first input.
    first: Vec<usize>,
    /// As many a row as the output with most of them has; they add up to 1.
    weights: Vec<f32>,
    count: usize,
}

impl Taps {
    /// Of `outputs` that lie evenly on the part of an axis of `extent` inputs that begins at `start` and is `length` long.
    fn new(start: f64, length: f64, outputs: usize, extent: usize) -> Self {
        let scale = length / outputs as f64;
        let reach = scale.max(1.0);
        let bounds = (start.floor().max(0.0) as usize, ((start + length).ceil() as usize).min(extent));
        let count = ((2.0 * reach).ceil() as usize + 1).min(bounds.1 - bounds.0);
        let mut taps = Self { first: Vec::with_capacity(outputs), weights: Vec::with_capacity(outputs * count), count };
        for output in 0..outputs {
            let centre = start + (output as f64 + 0.5) * scale;
            let first = ((centre - reach).floor().max(0.0) as usize).clamp(bounds.0, bounds.1 - count);
            let weight = |input: usize| (1.0 - ((input as f64 + 0.5 - centre) / reach).abs()).max(0.0);
            let sum: f64 = (first..first + count).map(weight).sum();
            taps.first.push(first);
            taps.weights.extend((first..first + count).map(|input| (weight(input) / sum) as f32));
        }
        taps
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.first.iter().copied().zip(self.weights.chunks_exact(self.count))
    }

    /// The inputs that any output needs.
    fn needed(&self) -> (usize, usize) {
        let (first, last) = (self.first.first(), self.first.last());
        (first.copied().unwrap_or(0), last.map_or(0, |last| last + self.count))
    }
}

/// Along rows first, then along columns.
fn resample<const C: usize>(bytes: &[u8], width: usize, rows: &Taps, columns: &Taps, values: &mut [f32]) {
    let (out_w, area) = (columns.first.len(), columns.first.len() * rows.first.len());
    let (top, bottom) = rows.needed();
    let mut narrow = vec![0.0f32; (bottom - top) * out_w * C];
    for (row, target) in bytes.chunks_exact(width * C).skip(top).zip(narrow.chunks_exact_mut(out_w * C)) {
        let (pixels, _) = row.as_chunks::<C>();
        for ((first, weights), target) in columns.iter().zip(target.chunks_exact_mut(C)) {
            let mut sum = [0.0f32; C];
            for (pixel, weight) in pixels[first..].iter().zip(weights) {
                (0..C).for_each(|channel| sum[channel] += weight * f32::from(pixel[channel]));
            }
            target.copy_from_slice(&sum);
        }
    }
    let mut sum = vec![0.0f32; out_w * C];
    for (y, (first, weights)) in rows.iter().enumerate() {
        sum.fill(0.0);
        for (row, weight) in narrow[(first - top) * out_w * C..].chunks_exact(out_w * C).zip(weights) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
        }
        for channel in 0..C {
            let target = &mut values[channel * area + y * out_w..][..out_w];
            let interleaved = sum.iter().skip(channel).step_by(C);
            target.iter_mut().zip(interleaved).for_each(|(value, sum)| *value = sum / 255.0);
        }
    }
}
