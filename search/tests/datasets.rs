//! Images are read as they are, or refused with file and reason.

#[path = "datasets/folders.rs"]
mod folders;

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use fleetfoot_search::{Classes, Corrupt, Dataset, Form, Split, check_images};
use fleetfoot_space::SearchSpace;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use folders::{image_folder, jpeg, picture, png, reseal};

const SIZE: (usize, usize, usize) = (1, 4, 4);

fn idx(magic: u32, extents: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_be_bytes().to_vec();
    extents.iter().for_each(|extent| bytes.extend(extent.to_be_bytes()));
    bytes.extend_from_slice(data);
    bytes
}

/// Three training and two test images of 4 x 4.
fn idx_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (split, n) in [("train", 3u8), ("t10k", 2)] {
        let pixels: Vec<u8> = (0..16 * n).collect();
        let labels: Vec<u8> = (0..n).collect();
        let file = |kind: &str| folder.path().join(format!("{split}-{kind}-ubyte"));
        fs::write(file("images-idx3"), idx(0x803, &[u32::from(n), 4, 4], &pixels)).unwrap();
        fs::write(file("labels-idx1"), idx(0x801, &[u32::from(n)], &labels)).unwrap();
    }
    folder
}

fn load(folder: &Path) -> Result<Dataset, String> {
    Dataset::load(Some(folder), None, SIZE).map_err(|error| error.to_string())
}

fn labels(split: &Split) -> Vec<u16> {
    (0..split.len()).map(|index| split.label(index)).collect()
}

/// An image as evaluations see it, in bytes again, C x H x W.
fn image(split: &Split, index: usize) -> Vec<u8> {
    let (channels, height, width) = split.size();
    let mut values = vec![0.0; channels * height * width];
    assert!(split.read(index, None, &mut values).unwrap(), "{:?}", split.corrupt());
    values.into_iter().map(|value| (255.0 * value).round() as u8).collect()
}

fn images(split: &Split) -> Vec<Vec<u8>> {
    (0..split.len()).map(|index| image(split, index)).collect()
}

/// Reads every image of a folder's data set: what is corrupt, or why it can't be used at all.
fn read_all(folder: &Path) -> Result<Vec<Corrupt>, String> {
    let dataset = load(folder)?;
    let mut corrupt = Vec::new();
    for split in [&dataset.train, &dataset.test] {
        let (channels, height, width) = split.size();
        let mut values = vec![0.0; channels * height * width];
        let mut refused = 0;
        for index in 0..split.len() {
            refused += usize::from(!split.read(index, None, &mut values).map_err(|error| error.to_string())?);
        }
        assert_eq!(split.corrupt().len(), refused, "each is counted");
        corrupt.extend(split.corrupt());
    }
    Ok(corrupt)
}

/// Why a folder's only image, or one of them, is refused.
fn refusal(folder: &Path) -> Option<String> {
    match read_all(folder) {
        Ok(corrupt) => corrupt.first().map(ToString::to_string),
        Err(error) => Some(error),
    }
}

#[test]
fn idx_files_are_read_plain_and_gzipped() {
    let folder = idx_folder();
    let plain = load(folder.path()).unwrap();
    assert_eq!((plain.train.len(), plain.test.len(), image(&plain.train, 1)[0]), (3, 2, 16));
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
        zipped.write_all(&fs::read(&path).unwrap()).unwrap();
        fs::write(format!("{}.gz", path.display()), zipped.finish().unwrap()).unwrap();
        fs::remove_file(path).unwrap();
    }
    assert_eq!(load(folder.path()).unwrap().fingerprint(), plain.fingerprint());
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        fs::rename(&path, path.display().to_string().replace("-idx", ".idx")).unwrap();
    }
    assert_eq!(load(folder.path()).unwrap().fingerprint(), plain.fingerprint());
    let path = folder.path().join("train-images.idx3-ubyte.gz");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("train-images.idx3-ubyte.gz"));
}

/// A space for images of 1 x 12 x 12.
fn space(classes: usize) -> SearchSpace {
    let text = format!(
        r#"
        name = "tiny"
        classes = {classes}
        input = {{ channels = 1, height = 12, width = 12 }}
        candidates = ["k3e2", "zero"]
        stem = {{ channels = 8 }}
        first_block = {{ channels = 8 }}
        stages = [{{ channels = 8, depth = 1, stride = 1 }}]
        head = {{ channels = 16 }}
        "#
    );
    SearchSpace::from_toml(&text, "tiny").unwrap()
}

#[test]
fn idx_files_have_as_many_classes_as_their_labels_need_and_a_space_may_have_more() {
    let folder = tempfile::tempdir().unwrap();
    for (split, labels) in [("train", [0, 25]), ("t10k", [46, 3])] {
        let file = |kind: &str| folder.path().join(format!("{split}-{kind}-ubyte"));
        fs::write(file("images-idx3"), idx(0x803, &[2, 12, 12], &[9; 288])).unwrap();
        fs::write(file("labels-idx1"), idx(0x801, &[2], &labels)).unwrap();
    }
    let dataset = load(folder.path()).unwrap();
    assert_eq!((dataset.train.classes(), dataset.test.classes()), (Classes::AtLeast(47), Classes::AtLeast(47)));
    assert!(check_images(&space(47), &dataset).is_ok() && check_images(&space(62), &dataset).is_ok());
    let error = check_images(&space(46), &dataset).unwrap_err().to_string();
    assert!(error.contains("at least 47 classes") && error.contains("of 46 classes"), "{error}");
}

#[test]
fn idx_images_that_would_not_fit_into_memory_are_refused_before_they_are_read() {
    let folder = idx_folder();
    let path = folder.path().join("train-images-idx3-ubyte");
    fs::write(&path, idx(0x803, &[60_000, 65_535, 65_535], &[0; 48])).unwrap();
    let error = load(folder.path()).unwrap_err();
    assert!(error.contains("train-images-idx3-ubyte: 60000 images") && error.contains("GB are available"), "{error}");
    assert!(error.contains("use fewer images, or a folder of image files"), "{error}");
    // Of a folder's images only the names are in memory.
    let folder = image_folder(&[("cat", "a.png", png(&picture(4, 4)))]);
    let dataset = Dataset::load(Some(folder.path()), Some(Form::Folders), (3, 1 << 20, 1 << 20)).unwrap();
    assert_eq!((dataset.train.len(), dataset.train.size()), (1, (3, 1 << 20, 1 << 20)));
}

#[test]
fn broken_idx_files_are_refused_with_file_and_reason() {
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("train-images-idx3-ubyte", idx(0x801, &[3, 4, 4], &[0; 48]), "magic number"),
        ("train-images-idx3-ubyte", idx(0x803, &[3, 4, 4], &[0; 47]), "47 bytes of data"),
        ("train-images-idx3-ubyte", idx(0x803, &[3, 4, 4], &[0; 49]), "more bytes of data"),
        ("train-images-idx3-ubyte", idx(0x803, &[u32::MAX, u32::MAX, 4], &[0; 4]), "are no images"),
        ("train-images-idx3-ubyte", vec![0, 0, 8], "no magic number"),
        ("train-labels-idx1-ubyte", idx(0x801, &[2], &[0, 1]), "2 labels for the 3 images"),
        ("t10k-images-idx3-ubyte", Vec::new(), "no magic number"),
    ];
    for (file, bytes, why) in cases {
        let folder = idx_folder();
        fs::write(folder.path().join(file), bytes).unwrap();
        let error = load(folder.path()).unwrap_err();
        assert!(error.contains(file) && error.contains(why), "{error}");
    }
    let folder = idx_folder();
    fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte")).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("t10k-labels-idx1-ubyte"));
}

#[test]
fn cifar_batches_are_read_and_broken_ones_refused() {
    let folder = tempfile::tempdir().unwrap();
    let record = |label: u8| [vec![label], vec![7; 3072]].concat();
    let names: Vec<String> = (1..=5).map(|n| format!("data_batch_{n}.bin")).chain(["test_batch.bin".into()]).collect();
    for name in &names {
        fs::write(folder.path().join(name), [record(1), record(9)].concat()).unwrap();
    }
    let below = tempfile::tempdir().unwrap();
    let unpacked = below.path().join("cifar-10-batches-bin");
    fs::create_dir(&unpacked).unwrap();
    for name in &names {
        fs::copy(folder.path().join(name), unpacked.join(name)).unwrap();
    }
    let dataset = load(folder.path()).unwrap();
    assert_eq!(load(below.path()).unwrap().fingerprint(), dataset.fingerprint());
    assert_eq!(dataset.train.classes(), Classes::Exactly(10));
    assert_eq!((dataset.train.len(), dataset.train.size(), labels(&dataset.test)), (10, (3, 32, 32), vec![1, 9]));
    fs::write(folder.path().join("data_batch_3.bin"), &record(1)[..3000]).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("data_batch_3.bin"));
    fs::write(folder.path().join("data_batch_3.bin"), [record(0), record(10)].concat()).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("byte 3073: label 10"));
    fs::remove_file(folder.path().join("data_batch_3.bin")).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("data_batch_3.bin"));
}

/// Loads a folder over and over, each time with a few of one file's bytes changed: it ends well, or with an error that
/// names the file or its partner.
fn shake(folder: &Path, file: &str, rounds: usize, mend: fn(&mut [u8]), names: &[&str]) {
    let path = folder.join(file);
    let whole = fs::read(&path).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for round in 0..rounds {
        let mut bytes = whole.clone();
        for _ in 0..rng.random_range(1..5) {
            // Headers above all.
            let end = if rng.random_bool(0.7) { bytes.len().min(700) } else { bytes.len() };
            let at = rng.random_range(0..end);
            bytes[at] = if rng.random_bool(0.3) { 0xff } else { rng.random() };
        }
        mend(&mut bytes);
        bytes.truncate(if rng.random_bool(0.1) { rng.random_range(0..bytes.len()) } else { bytes.len() });
        fs::write(&path, &bytes).unwrap();
        if let Some(error) = refusal(folder) {
            assert!(names.iter().any(|name| error.contains(name)), "round {round}: {error}");
        }
    }
}

#[test]
fn no_bytes_make_the_reader_fail_otherwise_than_by_naming_the_file() {
    let folder = image_folder(&[("cat", "a.jpg", jpeg(&picture(24, 20)))]);
    shake(folder.path(), "train/cat/a.jpg", 1500, |_| {}, &["cat/a.jpg: "]);
    let folder = image_folder(&[("cat", "a.png", png(&picture(24, 20)))]);
    shake(folder.path(), "train/cat/a.png", 300, |_| {}, &["cat/a.png: "]);
    shake(folder.path(), "val/cat/a.png", 1500, reseal, &["cat/a.png: "]);
    let folder = idx_folder();
    for file in ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"] {
        shake(
            folder.path(),
            file,
            500,
            |_| {},
            &["train-images", "train-labels", "t10k-labels", "no data set is there"],
        );
    }
    let folder = tempfile::tempdir().unwrap();
    for name in (1..=5).map(|n| format!("data_batch_{n}.bin")).chain(["test_batch.bin".into()]) {
        fs::write(folder.path().join(name), vec![7; 3073]).unwrap();
    }
    shake(folder.path(), "data_batch_2.bin", 300, |_| {}, &["data_batch_2.bin: "]);
}

#[test]
fn a_folder_without_images_is_no_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let error = load(folder.path()).unwrap_err();
    let looked_for = ["train-images.idx3-ubyte", ".gz", "cifar-10-batches-bin/data_batch_1.bin", "train/CLASS/*.png"];
    assert!(looked_for.iter().all(|name| error.contains(name)), "{error}");
    fs::create_dir_all(folder.path().join("train/cat")).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("neither a folder 'test' nor 'val'"));
    fs::create_dir_all(folder.path().join("test/cat")).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("holds no image"));
    assert!(load(Path::new("/nonexistent")).unwrap_err().contains("/nonexistent: "));
}

#[test]
fn fashion_mnist_is_what_it_is() {
    match Dataset::load(None, None, (1, 28, 28)) {
        Ok(dataset) => {
            assert_eq!((dataset.train.len(), dataset.test.len()), (60_000, 10_000));
            assert_eq!((dataset.train.classes(), dataset.train.size()), (Classes::AtLeast(10), (1, 28, 28)));
            let statistics = dataset.train.channel_statistics().unwrap();
            assert!((statistics[0].0 - 0.2860).abs() < 1e-3 && (statistics[0].1 - 0.3530).abs() < 1e-3);
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{error}");
            eprintln!("skipped: {error}");
        }
    }
}
