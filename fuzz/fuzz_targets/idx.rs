//! IDX files: images and labels, plain or gzipped (the first byte says which), in a folder as they are published.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use fleetfoot_dataset::{Dataset, Form};
use libfuzzer_sys::fuzz_target;

/// A folder of this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("fleetfoot-fuzz-idx-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let zipped = if how & 1 == 1 { ".gz" } else { "" };
    // Labels end where the second byte says, the images follow; training and test images are the same.
    let (labels, images) = bytes.split_at(bytes.len().min(usize::from(how >> 1)));
    for split in ["train", "t10k"] {
        for (name, content) in [("images-idx3", images), ("labels-idx1", labels)] {
            let path = |ending: &str| FOLDER.join(format!("{split}-{name}-ubyte{ending}"));
            fs::write(path(zipped), content).expect("a file");
            let _ = fs::remove_file(path(if zipped.is_empty() { ".gz" } else { "" }));
        }
    }
    if let Ok(dataset) = Dataset::load(Some(&FOLDER), Some(Form::Idx), (1, 28, 28)) {
        let (channels, height, width) = dataset.train.size();
        let mut values = vec![0.0; channels * height * width];
        for index in 0..dataset.train.len() {
            assert!(dataset.train.read(index, None, &mut values).expect("memory can be read"));
        }
        let _ = (dataset.train.channel_statistics(), dataset.fingerprint());
    }
});
