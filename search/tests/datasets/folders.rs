//! Folders of images: what is read, what is cut, and how damaged files are told.

use std::fs;

use flate2::Crc;
use fleetfoot_search::{Classes, Dataset, Form, check_images};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::{image, images, labels, load, read_all, refusal, space};

/// Slopes, edges and grain, as a photograph has them.
pub fn picture(width: u32, height: u32) -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (f64::from(x) / 9.0, f64::from(y) / 7.0);
        let value = |phase: f64| 127.0 + 60.0 * (x + phase).sin() + 50.0 * (y * (1.0 + phase)).cos();
        Rgb([0.0, 0.7, 1.9].map(|phase| (value(phase) + rng.random_range(-12.0..12.0)).clamp(0.0, 255.0) as u8))
    })
}

pub fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub fn jpeg(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(image).unwrap();
    bytes
}

/// Where a JPEG's scan starts.
fn scan(jpeg: &[u8]) -> usize {
    let marker = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    marker + 2 + usize::from(jpeg[marker + 3])
}

/// The same files, class and name each, in `train` and `val`.
pub fn image_folder(files: &[(&str, &str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        for (class, name, bytes) in files {
            let path = folder.path().join(split).join(class);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(name), bytes).unwrap();
        }
    }
    folder
}

#[test]
fn image_folders_are_read_in_the_order_of_their_classes() {
    let flat = |value: u8| RgbImage::from_pixel(8, 6, Rgb([value; 3]));
    let folder = image_folder(&[
        ("dog", "a.png", png(&flat(200))),
        ("cat", "a.PNG", png(&flat(10))),
        ("cat", "b.jpg", jpeg(&flat(10))),
        // By content, whatever the name says: some published sets hold such files.
        ("dog", "b.JPEG", png(&flat(200))),
    ]);
    let grey = load(folder.path()).unwrap();
    assert_eq!((labels(&grey.train), grey.train.classes()), (vec![0, 0, 1, 1], Classes::Exactly(2)));
    assert_eq!(image(&grey.train, 0), [10; 16]);
    let coloured = Dataset::load(Some(folder.path()), Some(Form::Folders), (3, 4, 4)).unwrap();
    assert_eq!(image(&coloured.test, 2), [200; 48]);
}

#[test]
fn image_folders_may_have_thousands_of_classes() {
    let image = png(&picture(2, 2));
    let names: Vec<String> = (0..1000).map(|class| format!("n{class:08}")).collect();
    let files: Vec<(&str, &str, Vec<u8>)> = names.iter().map(|name| (name.as_str(), "a.png", image.clone())).collect();
    let folder = image_folder(&files);
    let dataset = Dataset::load(Some(folder.path()), None, (1, 12, 12)).unwrap();
    assert_eq!(labels(&dataset.train), (0..1000).collect::<Vec<u16>>());
    assert!(check_images(&space(1000), &dataset).is_ok());
    // A folder says how many classes there are.
    assert!(check_images(&space(1001), &dataset).unwrap_err().to_string().contains("of 1000 classes"));
}

#[test]
fn the_middle_of_an_image_is_cut_not_squeezed_and_alpha_is_dropped() {
    let folder = image_folder(&[("a", "wide.png", Vec::new()), ("b", "high.png", Vec::new())]);
    let middle = |at: u32| Rgba(if (4..8).contains(&at) { [200, 100, 50, 0] } else { [0, 0, 0, 255] });
    for split in ["train", "val"] {
        let path = folder.path().join(split);
        RgbaImage::from_fn(12, 4, |x, _| middle(x)).save(path.join("a/wide.png")).unwrap();
        RgbaImage::from_fn(4, 12, |_, y| middle(y)).save(path.join("b/high.png")).unwrap();
    }
    let dataset = Dataset::load(Some(folder.path()), None, (3, 2, 2)).unwrap();
    let wanted = [[200; 4], [100; 4], [50; 4]].concat();
    assert_eq!(images(&dataset.train), [wanted.clone(), wanted]);
    // What is wanted may be no square either.
    let high = Dataset::load(Some(folder.path()), None, (3, 12, 4)).unwrap();
    assert_eq!(image(&high.train, 1)[..48], [[0; 16], [200; 16], [0; 16]].concat());
}

#[test]
fn hidden_files_are_skipped_links_followed_and_what_is_no_image_is_refused() {
    let image = png(&picture(5, 5));
    let folder = image_folder(&[("cat", "a.png", image.clone()), ("cat", ".DS_Store", vec![0])]);
    let train = folder.path().join("train");
    fs::create_dir_all(train.join(".ipynb_checkpoints")).unwrap();
    fs::create_dir_all(train.join("cat/.hidden")).unwrap();
    fs::write(train.join("labels.csv"), "beside the classes").unwrap();
    assert_eq!(load(folder.path()).unwrap().train.len(), 1);
    #[cfg(unix)]
    {
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("b.png"), &image).unwrap();
        for split in ["train", "val"] {
            std::os::unix::fs::symlink(elsewhere.path(), folder.path().join(split).join("dog")).unwrap();
        }
        assert_eq!(labels(&load(folder.path()).unwrap().train), [0, 1]);
        drop(elsewhere);
        assert!(load(folder.path()).unwrap_err().contains("train/dog"), "a link to nowhere");
        ["train/dog", "val/dog"].iter().for_each(|link| fs::remove_file(folder.path().join(link)).unwrap());
    }
    fs::write(train.join("cat/Thumbs.db"), "").unwrap();
    let error = load(folder.path()).unwrap_err();
    assert!(error.contains("cat/Thumbs.db: is no image") && error.contains("move it out"), "{error}");
}

#[test]
fn training_and_test_images_have_the_same_classes_with_images_in_each() {
    let image = png(&picture(5, 5));
    let files = || image_folder(&[("cat", "a.png", image.clone()), ("dog", "a.png", image.clone())]);
    for (more, other) in [("train", "val"), ("val", "train")] {
        let folder = files();
        fs::create_dir(folder.path().join(more).join("bird")).unwrap();
        assert!(load(folder.path()).unwrap_err().contains(&format!("{more}/bird: holds no image")));
        fs::write(folder.path().join(more).join("bird/a.png"), &image).unwrap();
        let error = load(folder.path()).unwrap_err();
        assert!(error.contains(&format!("{more}/bird: no such class is in")) && error.contains(other), "{error}");
    }
}

#[test]
fn damaged_jpegs_are_refused_by_name() {
    let whole = jpeg(&picture(160, 120));
    let refused = |bytes: &[u8]| {
        let fine = || whole.clone();
        let folder =
            image_folder(&[("cat", "a.jpg", fine()), ("dog", "a.jpg", fine()), ("dog", "b.jpg", bytes.to_vec())]);
        let corrupt = read_all(folder.path()).unwrap();
        let named =
            |split: &str| corrupt.iter().filter(|corrupt| corrupt.file.ends_with(format!("{split}/dog/b.jpg"))).count();
        assert!(corrupt.len() == 2 * named("train") && named("train") == named("val"), "{corrupt:?}");
        assert!(corrupt.iter().all(|corrupt| corrupt.what.contains("JPEG")), "{corrupt:?}");
        !corrupt.is_empty()
    };
    let padded = [&whole[..], &[0; 700]].concat();
    assert!(!refused(&whole) && !refused(&padded), "bytes behind the end do no harm");
    let start = scan(&whole);
    for cut in [0, 3, 40, start, start + 1, whole.len() / 2, whole.len() * 9 / 10, whole.len() - 2, whole.len() - 1] {
        assert!(refused(&whole[..cut]), "cut after {cut} of {} bytes", whole.len());
    }
    for cut in [start, whole.len() / 2, whole.len() * 9 / 10] {
        assert!(refused(&[&whole[..cut], &[0xff, 0xd9]].concat()), "cut after {cut} bytes and ended");
    }
    // Bytes that differ need not show: there is no checksum. They mostly do.
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let damaged = || {
        let mut bytes = whole.clone();
        let at = rng.random_range(start..bytes.len() - 66);
        bytes[at..at + 64].fill_with(|| rng.random());
        bytes
    };
    let found = std::iter::repeat_with(damaged).take(100).filter(|bytes| refused(bytes)).count();
    assert!(found >= 90, "{found} of 100");
}

/// Puts the right checksum on every chunk of a PNG.
pub fn reseal(png: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = png.get(at..at + 4) {
        let end = at + 8 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let Some(chunk) = png.get(at + 4..end) else { return };
        let mut crc = Crc::new();
        crc.update(chunk);
        let Some(checksum) = png.get_mut(end..end + 4) else { return };
        checksum.copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
}

#[test]
fn damaged_pngs_are_refused_by_name() {
    let whole = png(&picture(60, 50));
    let refusal = |bytes: &[u8]| refusal(image_folder(&[("dog", "b.png", bytes.to_vec())]).path());
    assert_eq!(refusal(&whole), None);
    for cut in [0, 8, 20, whole.len() / 2, whole.len() * 9 / 10, whole.len() - 13, whole.len() - 1] {
        let error = refusal(&whole[..cut]).unwrap();
        assert!(
            error.contains("all 1 images of a class are corrupt") && error.contains("train/dog/b.png: "),
            "cut after {cut} bytes: {error}"
        );
    }
    // A byte of the header, of the image, of its checksum, of the last chunk's.
    for at in [20, whole.len() / 2, whole.len() - 14, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let error = refusal(&bytes).unwrap();
        assert!(error.contains("b.png: the PNG is damaged") && error.contains("checksum"), "byte {at}: {error}");
    }
}

#[test]
fn extents_that_no_picture_has_are_refused_before_memory_is_taken() {
    let (mut png, mut jpeg) = (png(&picture(40, 30)), jpeg(&picture(40, 30)));
    png[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    reseal(&mut png);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    for (name, bytes) in [("a.png", png), ("a.jpg", jpeg)] {
        let error = refusal(image_folder(&[("cat", name, bytes)]).path()).unwrap();
        assert!(error.contains(name) && error.contains("65535 x 65535 pixels"), "{error}");
    }
}

#[test]
fn greyscale_and_coloured_images_are_converted_to_what_the_space_takes() {
    let mut grey = Vec::new();
    JpegEncoder::new_with_quality(&mut grey, 90).encode_image(&GrayImage::from_pixel(9, 9, Luma([77]))).unwrap();
    let deep = DynamicImage::ImageRgb8(RgbImage::from_pixel(9, 9, Rgb([77; 3]))).into_rgb16();
    let folder = image_folder(&[("cat", "a.jpg", grey)]);
    deep.save(folder.path().join("train/cat/b.png")).unwrap();
    for channels in [1, 3] {
        let dataset = Dataset::load(Some(folder.path()), None, (channels, 4, 4)).unwrap();
        assert_eq!(images(&dataset.train), vec![vec![77; channels * 16]; 2]);
    }
    let error = Dataset::load(Some(folder.path()), None, (2, 4, 4)).unwrap_err().to_string();
    assert!(error.contains("images have 1 or 3 channels, the space wants 2"), "{error}");
}
