//! Image folders: `train/CLASS/*.png|jpg`, and `test` or else `val` likewise. Classes are numbered by name. Files are
//! decoded when they are needed; only their names are held in memory.
//!
//! Training images of 64 pixels and more are evaluated by the middle 87.5 % of their shorter side, as ImageNet's are: 224 of
//! 256 (mit-han-lab/proxylessnas, search/data_providers/imagenet.py). Of smaller ones nothing can be spared.

use std::path::Path;

use rand_chacha::ChaCha8Rng;

use super::listing::{Listing, corrupt};
use super::picture::Region;
use super::{Augmentation, Classes, DatasetError, Examples, Split, decoding};

/// Images from this extent on are evaluated by their middle.
const MARGIN_FROM: usize = 64;
/// How much of the shorter side the middle is.
const MIDDLE: f64 = 224.0 / 256.0;

/// A split's files.
#[derive(Debug)]
struct Folder {
    files: Listing,
    /// Channels, height and width of what becomes of each.
    size: (usize, usize, usize),
    /// What evaluations see: the middle, this share of the largest part in the proportions wanted.
    middle: f64,
}

pub(super) fn load(folder: &Path, size: (usize, usize, usize)) -> Result<(Split, Split), DatasetError> {
    if ![1, 3].contains(&size.0) {
        return Err(corrupt(folder, format!("images have 1 or 3 channels, the space wants {}", size.0)));
    }
    let test = ["test", "val"].map(|name| folder.join(name)).into_iter().find(|path| path.is_dir());
    let test =
        test.ok_or_else(|| corrupt(folder, "has neither a folder 'test' nor 'val' beside 'train'".to_owned()))?;
    let (train, test) = (Listing::read(folder.join("train"))?, Listing::read(test)?);
    for (one, other) in [(&train, &test), (&test, &train)] {
        let there = |name: &str| other.classes.binary_search_by(|class| class.name.as_str().cmp(name)).is_ok();
        if let Some(class) = one.classes.iter().find(|class| !there(&class.name)) {
            let what = format!("no such class is in {}: both need the same", other.folder.display());
            return Err(corrupt(&one.folder.join(&class.name), what));
        }
    }
    let middle = if size.1.min(size.2) < MARGIN_FROM { 1.0 } else { MIDDLE };
    let split = |files| Split::from(Folder { files, size, middle });
    Ok((split(train), split(test)))
}

impl Examples for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn size(&self) -> (usize, usize, usize) {
        self.size
    }

    fn classes(&self) -> Classes {
        Classes::Exactly(self.files.classes.len())
    }

    fn label(&self, index: usize) -> u16 {
        // There are at most 65,536 classes.
        self.files.class(index) as u16
    }

    fn read(
        &self,
        index: usize,
        augmented: Option<(&Augmentation, &mut ChaCha8Rng)>,
        values: &mut [f32],
    ) -> Result<(), DatasetError> {
        let (channels, height, width) = self.size;
        let picture = decoding::read(&self.files.path(index), channels)?;
        let middle = Region::middle(&picture, (height, width), self.middle);
        let Some((augmentation, rng)) = augmented else {
            picture.scale(middle, self.size, values);
            return Ok(());
        };
        let region = augmentation.region(&picture, (height, width), middle, rng);
        picture.scale(region, self.size, values);
        augmentation.finish(values, self.size, rng);
        Ok(())
    }

    fn identify(&self, add: &mut dyn FnMut(&[u8])) {
        let (channels, height, width) = self.size;
        for extent in [channels, height, width, self.len()] {
            add(&(extent as u64).to_le_bytes());
        }
        add(&self.middle.to_le_bytes());
        self.files.identify(add);
    }
}
