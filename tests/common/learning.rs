//! What tests of searching and training share: whether they can run, and images to learn from.

use std::path::{Path, PathBuf};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

/// Whether there is a `fleetfoot-search`; in CI there must be.
pub fn ready() -> bool {
    there(cargo_bin("fleetfoot").with_file_name("fleetfoot-search").exists(), "no fleetfoot-search")
}

/// The same, with real images.
pub fn ready_with_images() -> bool {
    let images = Path::new("/usr/share/datasets/fashion-mnist").is_dir() || std::env::var_os("FASHION_MNIST").is_some();
    ready() && there(images, "no Fashion-MNIST")
}

fn there(there: bool, missing: &str) -> bool {
    if !there {
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("skipped: {missing} (make test brings it)");
    }
    there
}

/// A file's JSON.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

/// A data set in IDX form whose classes are told by a bright square's place, under noise.
pub fn images(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    for (name, count) in [("train", 640u32), ("t10k", 100)] {
        let mut images: Vec<u8> = [0x0803u32, count, 28, 28].iter().flat_map(|word| word.to_be_bytes()).collect();
        for image in 0..count {
            let (top, left) = (2 + image % 10 / 5 * 14, 2 + image % 5 * 5);
            images.extend((0..784u32).map(|pixel| {
                let noise = ((image * 784 + pixel).wrapping_mul(2_654_435_761) >> 24) as u8 / 2;
                let inside = (top..top + 8).contains(&(pixel / 28)) && (left..left + 4).contains(&(pixel % 28));
                if inside { 255 - noise / 2 } else { noise }
            }));
        }
        let mut labels: Vec<u8> = [0x0801u32, count].iter().flat_map(|word| word.to_be_bytes()).collect();
        labels.extend((0..count).map(|image| (image % 10) as u8));
        std::fs::write(data.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(data.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    }
    data
}
