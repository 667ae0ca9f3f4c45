//! Images are read as they are, or refused with file and reason.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use fleetfoot_search::{Dataset, Form};
use image::{GrayImage, Luma, Rgb, RgbImage};
use tempfile::TempDir;

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

#[test]
fn idx_files_are_read_plain_and_gzipped() {
    let folder = idx_folder();
    let plain = load(folder.path()).unwrap();
    assert_eq!((plain.train.len(), plain.test.len(), plain.train.image(1)[0]), (3, 2, 16));
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
        zipped.write_all(&fs::read(&path).unwrap()).unwrap();
        fs::write(format!("{}.gz", path.display()), zipped.finish().unwrap()).unwrap();
        fs::remove_file(path).unwrap();
    }
    assert_eq!(load(folder.path()).unwrap().train, plain.train);
    let path = folder.path().join("train-images-idx3-ubyte.gz");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("train-images-idx3-ubyte.gz"));
}

#[test]
fn broken_idx_files_are_refused_with_file_and_reason() {
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("train-images-idx3-ubyte", idx(0x801, &[3, 4, 4], &[0; 48]), "magic number"),
        ("train-images-idx3-ubyte", idx(0x803, &[3, 4, 4], &[0; 47]), "47 bytes of data"),
        ("train-images-idx3-ubyte", idx(0x803, &[3, 4, 4], &[0; 49]), "more bytes of data"),
        ("train-images-idx3-ubyte", idx(0x803, &[u32::MAX, u32::MAX, 4], &[0; 4]), "are no images"),
        ("train-images-idx3-ubyte", vec![0, 0, 8], "no magic number"),
        ("train-labels-idx1-ubyte", idx(0x801, &[2], &[0, 1]), "2 labels for the 3 images"),
        ("train-labels-idx1-ubyte", idx(0x801, &[3], &[0, 1, 10]), "label 10 of image 2"),
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
    let dataset = load(folder.path()).unwrap();
    assert_eq!((dataset.train.len(), dataset.train.channels, dataset.test.labels.clone()), (10, 3, vec![1, 9]));
    fs::write(folder.path().join("data_batch_3.bin"), &record(1)[..3000]).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("data_batch_3.bin"));
    fs::write(folder.path().join("data_batch_3.bin"), [record(0), record(10)].concat()).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("byte 3073: label 10"));
    fs::remove_file(folder.path().join("data_batch_3.bin")).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("data_batch_3.bin"));
}

#[test]
fn image_folders_are_read_in_the_order_of_their_classes() {
    let folder = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        for (class, value) in [("cat", 10), ("dog", 200)] {
            let path = folder.path().join(split).join(class);
            fs::create_dir_all(&path).unwrap();
            GrayImage::from_pixel(8, 6, Luma([value])).save(path.join("a.png")).unwrap();
            RgbImage::from_pixel(5, 5, Rgb([value, value, value])).save(path.join("b.jpg")).unwrap();
        }
    }
    let grey = load(folder.path()).unwrap();
    assert_eq!((grey.train.labels.clone(), grey.train.classes), (vec![0, 0, 1, 1], 2));
    assert_eq!(grey.train.image(0), [10; 16]);
    let coloured = Dataset::load(Some(folder.path()), Some(Form::Folders), (3, 4, 4)).unwrap();
    assert_eq!(coloured.test.image(2), [200; 48]);
    let broken = folder.path().join("train/dog/b.jpg");
    let bytes = fs::read(&broken).unwrap();
    fs::write(&broken, &bytes[..40]).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("dog/b.jpg"));
    fs::remove_file(&broken).unwrap();
    fs::create_dir_all(folder.path().join("val/bird")).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("bird"));
}

#[test]
fn a_folder_without_images_is_no_data_set() {
    let folder = tempfile::tempdir().unwrap();
    assert!(load(folder.path()).unwrap_err().contains("no data set is there"));
    fs::create_dir_all(folder.path().join("train/cat")).unwrap();
    fs::create_dir_all(folder.path().join("test/cat")).unwrap();
    assert!(load(folder.path()).unwrap_err().contains("holds no image"));
    assert!(load(Path::new("/nonexistent")).is_err());
}

#[test]
fn fashion_mnist_is_what_it_is() {
    match Dataset::load(None, None, (1, 28, 28)) {
        Ok(dataset) => {
            assert_eq!((dataset.train.len(), dataset.test.len()), (60_000, 10_000));
            assert_eq!((dataset.train.channels, dataset.train.height, dataset.train.width), (1, 28, 28));
            let statistics = fleetfoot_search::channel_statistics(&dataset.train);
            assert!((statistics[0].0 - 0.2860).abs() < 1e-3 && (statistics[0].1 - 0.3530).abs() < 1e-3);
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{error}");
            eprintln!("skipped: {error}");
        }
    }
}
