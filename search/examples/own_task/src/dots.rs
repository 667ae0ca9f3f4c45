//! The data: pictures of 0 to 9 dots, drawn when they are read.

use fleetfoot_search::{Augmentation, Classes, DatasetError, Examples};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A picture has fewer dots than this.
pub const COUNTS: usize = 10;
/// Height and width of a picture.
const SIDE: usize = 28;
/// Middles of dots lie so far from a picture's edge and from each other, at least.
const APART: f32 = 4.0;
/// Places that are tried for a dot until it is put where it may overlap.
const TRIES: usize = 100;
/// Noise of a pixel, at most.
const NOISE: f32 = 0.25;

/// So many pictures. Dots differ in place, size and brightness, and grey shades run across each picture, so that brightness
/// alone doesn't tell how many dots there are.
#[derive(Clone, Debug)]
pub struct Dots {
    /// Sets these pictures apart from others.
    pub seed: u64,
    /// How many there are.
    pub pictures: usize,
}

impl Examples for Dots {
    fn len(&self) -> usize {
        self.pictures
    }

    fn size(&self) -> (usize, usize, usize) {
        (1, SIDE, SIDE)
    }

    fn classes(&self) -> Classes {
        Classes::Exactly(COUNTS)
    }

    fn label(&self, index: usize) -> u16 {
        (index % COUNTS) as u16
    }

    /// Where dots are belongs to the picture; noise, and whether it is mirrored, are other ones each time it is learned from.
    fn read(
        &self,
        index: usize,
        augmented: Option<(&Augmentation, &mut ChaCha8Rng)>,
        values: &mut [f32],
    ) -> Result<(), DatasetError> {
        let mut own = ChaCha8Rng::seed_from_u64(self.seed);
        own.set_stream(index as u64);
        draw(self.label(index), &mut own, values);
        match augmented {
            Some((augmentation, random)) => {
                if augmentation.flip && random.random_bool(0.5) {
                    values.chunks_exact_mut(SIDE).for_each(<[f32]>::reverse);
                }
                add_noise(random, values);
            }
            None => add_noise(&mut own, values),
        }
        Ok(())
    }

    fn identify(&self, add: &mut dyn FnMut(&[u8])) {
        add(b"dots");
        add(&self.seed.to_le_bytes());
        add(&self.pictures.to_le_bytes());
    }
}

/// A shaded picture of so many dots, 28 x 28 values.
fn draw(dots: u16, rng: &mut impl Rng, values: &mut [f32]) {
    let slope: (f32, f32) = (rng.random_range(-0.3..0.3), rng.random_range(-0.3..0.3));
    let place = |pixel: usize| ((pixel % SIDE) as f32, (pixel / SIDE) as f32);
    for (pixel, value) in values.iter_mut().enumerate() {
        let (x, y) = place(pixel);
        *value = 0.3 + (slope.0 * (x - 13.5) + slope.1 * (y - 13.5)) / 27.0;
    }
    let mut middles: Vec<(f32, f32)> = Vec::new();
    for _ in 0..dots {
        let edge = APART..SIDE as f32 - APART;
        let mut tries = (0..TRIES).map(|_| (rng.random_range(edge.clone()), rng.random_range(edge.clone())));
        let free = |(x, y): &(f32, f32)| middles.iter().all(|other| (x - other.0).hypot(y - other.1) >= APART);
        let Some(middle) = tries.find(free) else { continue };
        let (radius, brightness): (f32, f32) = (rng.random_range(0.8..1.6), rng.random_range(0.3..0.7));
        for (pixel, value) in values.iter_mut().enumerate() {
            let (x, y) = place(pixel);
            let distance = (x - middle.0).hypot(y - middle.1) / radius;
            *value += brightness * (-0.5 * distance * distance).exp();
        }
        middles.push(middle);
    }
}

fn add_noise(rng: &mut impl Rng, values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = (*value + rng.random_range(-NOISE..NOISE)).clamp(0.0, 1.0));
}
