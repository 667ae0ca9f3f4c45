//! What tells one data set from another.

use sha2::{Digest, Sha256};

use super::{Dataset, Images};

impl Dataset {
    /// SHA-256 over all images and labels, in hexadecimal: a run goes on only with the images that it began with.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for images in [&*self.train, &*self.test] {
            let Images { channels, height, width, .. } = *images;
            for extent in [channels, height, width, images.len()] {
                hash.update((extent as u64).to_le_bytes());
            }
            hash.update(&images.pixels);
            hash.update(images.classes.to_string());
            images.labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
