//! Folders of images are streamed: what is read, what is done to it at random, and what happens to corrupt files.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fleetfoot_predictor::CostMatrix;
use fleetfoot_search::{
    Augmentation, Classes, Dataset, DatasetError, Examples, Feed, Form, Images, Jitter, Layout, Learning as _, Limit,
    Limits, Recipe, Search, SearchError, SearchSettings, Source, Split, Training,
};
use fleetfoot_space::SearchSpace;
use image::imageops::FilterType;
use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

/// Writes the same files, class and name each, to `train` and `val`.
fn write(folder: &Path, class: &str, name: &str, image: &RgbImage) {
    for split in ["train", "val"] {
        let class = folder.join(split).join(class);
        fs::create_dir_all(&class).unwrap();
        image.save(class.join(name)).unwrap();
    }
}

fn load(folder: &Path, side: usize) -> Dataset {
    Dataset::load(Some(folder), Some(Form::Folders), (3, side, side)).unwrap()
}

/// Red grows to the right, green downwards.
fn slopes(width: u32, height: u32) -> RgbImage {
    let share = |at: u32, extent: u32| ((f64::from(at) + 0.5) / f64::from(extent) * 255.0).round() as u8;
    RgbImage::from_fn(width, height, |x, y| Rgb([share(x, width), share(y, height), 128]))
}

fn grain(width: u32, height: u32) -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    RgbImage::from_fn(width, height, |_, _| Rgb(rng.random()))
}

fn read(split: &Split, index: usize, augmented: Option<(&Augmentation, u64)>) -> Vec<f32> {
    let (channels, height, width) = split.size();
    let mut values = vec![0.0; channels * height * width];
    let mut rng = augmented.map(|(augmentation, seed)| (augmentation, ChaCha8Rng::seed_from_u64(seed)));
    let augmented = rng.as_mut().map(|(augmentation, rng)| (*augmentation, rng));
    assert!(split.read(index, augmented, &mut values).unwrap());
    values
}

/// The part of `slopes` that an image of 64 x 64 shows: left, right, top, bottom as shares, and whether it is mirrored.
fn part(values: &[f32]) -> ([f32; 4], bool) {
    let ends = |channel: usize, step: usize| {
        let at = |position: usize| values[channel * 4096 + 32 * (65 - step) + position * step];
        // Half a pixel beyond the first's and the last's centre.
        let half = (at(60) - at(3)) / 114.0;
        (at(3) - 7.0 * half, at(60) + 7.0 * half)
    };
    let (x, y) = (ends(0, 1), ends(1, 64));
    ([x.0.min(x.1), x.0.max(x.1), y.0, y.1], x.0 > x.1)
}

#[test]
fn evaluations_see_the_middle_of_the_shorter_side_224_of_256() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "wide.png", &slopes(300, 200));
    let dataset = load(folder.path(), 64);
    let ([left, right, top, bottom], mirrored) = part(&read(&dataset.test, 0, None));
    let wanted = [0.5 - 175.0 / 600.0, 0.5 + 175.0 / 600.0, 0.0625, 0.9375];
    for (found, wanted) in [left, right, top, bottom].into_iter().zip(wanted) {
        assert!((found - wanted).abs() < 0.01 && !mirrored, "{left} {right} {top} {bottom}");
    }
    // Of smaller images nothing is cut off but what doesn't fit.
    let small = read(&load(folder.path(), 32).test, 0, None);
    assert!(small[1024] < 0.03 && small[2047] > 0.97, "{} {}", small[1024], small[2047]);
}

#[test]
fn random_resized_crops_have_the_areas_and_proportions_of_imagenet_training() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "a.png", &slopes(400, 300));
    let train = load(folder.path(), 64).train;
    let augmentation = Augmentation { crop: Some(0.08), flip: true, ..Augmentation::default() };
    let (mut areas, mut mirrored) = (Vec::new(), 0);
    for seed in 0..400 {
        let values = read(&train, 0, Some((&augmentation, seed)));
        assert_eq!(values, read(&train, 0, Some((&augmentation, seed))), "equal seeds, equal images");
        let ([left, right, top, bottom], flipped) = part(&values);
        let (width, height) = (right - left, bottom - top);
        let aspect = width * 400.0 / (height * 300.0);
        assert!((0.7..1.43).contains(&aspect), "{aspect}");
        assert!(left > -0.02 && top > -0.02 && right < 1.02 && bottom < 1.02, "{left} {right} {top} {bottom}");
        areas.push(width * height);
        mirrored += usize::from(flipped);
    }
    areas.sort_by(f32::total_cmp);
    assert!(areas[0] > 0.07 && areas[0] < 0.12 && areas[399] > 0.9 && areas[399] < 1.02, "{areas:?}");
    assert!((0.4..0.6).contains(&areas[200]) && (150..250).contains(&mirrored), "{} {mirrored}", areas[200]);
}

#[test]
fn scaling_is_what_the_image_crate_scales_with_a_triangle() {
    let folder = tempfile::tempdir().unwrap();
    // Downwards, upwards, both.
    for (class, (width, height)) in [("a", (97, 97)), ("b", (20, 20)), ("c", (32, 32))] {
        let picture = grain(width, height);
        write(folder.path(), class, "a.png", &picture);
    }
    let train = load(folder.path(), 40).train;
    for (index, side) in [97, 20, 32].into_iter().enumerate() {
        let wanted = image::imageops::resize(&grain(side, side), 40, 40, FilterType::Triangle);
        let found = read(&train, index, None);
        for (x, y, pixel) in wanted.enumerate_pixels() {
            for channel in 0..3 {
                let found = 255.0 * found[channel * 1600 + (y * 40 + x) as usize];
                assert!((found - f32::from(pixel[channel])).abs() < 1.0, "{side} {x} {y} {channel}: {found} {pixel:?}");
            }
        }
    }
}

#[test]
fn colours_change_by_factors_within_their_limits_and_saturation_keeps_luma() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "a.png", &RgbImage::from_pixel(8, 8, Rgb([150, 90, 60])));
    let train = load(folder.path(), 8).train;
    let plain = read(&train, 0, None);
    let luma = |values: &[f32]| 0.299 * values[0] + 0.587 * values[64] + 0.114 * values[128];
    let changed =
        |jitter: Jitter| (0..200u64).map(move |seed| (seed, Augmentation { jitter, ..Augmentation::default() }));
    let spread = |factors: Vec<f32>, limit: f32| {
        let (least, most) = (factors.iter().copied().fold(2.0, f32::min), factors.iter().copied().fold(0.0, f32::max));
        assert!(least >= 1.0 - limit - 1e-4 && least < 1.0 - 0.9 * limit, "{least}");
        assert!(most <= 1.0 + limit + 1e-4 && most > 1.0 + 0.9 * limit, "{most}");
    };
    let brightness = Jitter { brightness: 0.2, ..Jitter::NONE };
    let factor = |(seed, augmentation): (u64, Augmentation)| read(&train, 0, Some((&augmentation, seed)))[0] / plain[0];
    spread(changed(brightness).map(factor).collect(), 0.2);
    let saturation = Jitter { saturation: 0.5, ..Jitter::NONE };
    let factor = |(seed, augmentation): (u64, Augmentation)| {
        let values = read(&train, 0, Some((&augmentation, seed)));
        assert!((luma(&values) - luma(&plain)).abs() < 1e-5);
        (values[0] - luma(&values)) / (plain[0] - luma(&plain))
    };
    spread(changed(saturation).map(factor).collect(), 0.5);
    // An image of one colour has no contrast but between its channels.
    let contrast = Jitter { contrast: 0.3, ..Jitter::NONE };
    let factor = |(seed, augmentation): (u64, Augmentation)| {
        let values = read(&train, 0, Some((&augmentation, seed)));
        (values[0] - values[128]) / (plain[0] - plain[128])
    };
    spread(changed(contrast).map(factor).collect(), 0.3);
    for (text, jitter) in
        [("none", Jitter::NONE), ("0.2,0,0.5", Jitter { brightness: 0.2, contrast: 0.0, saturation: 0.5 })]
    {
        assert_eq!((text.parse(), jitter.to_string().as_str()), (Ok(jitter), text));
    }
    assert!(["1,2,3", "0.1", "a,b,c", "0.1,-0.1,0"].iter().all(|text| text.parse::<Jitter>().is_err()));
}

#[test]
fn random_crops_and_colours_are_for_images_in_memory_too() {
    let pixels: Vec<u8> = slopes(64, 64).pixels().map(|pixel| pixel[0]).collect();
    let images = Images { channels: 1, height: 64, width: 64, classes: Classes::Exactly(1), pixels, labels: vec![0] };
    let images = Split::from(images);
    let augmentation = Augmentation { crop: Some(0.1), ..Augmentation::default() };
    let widths: Vec<f32> = (0..50)
        .map(|seed| {
            let values = read(&images, 0, Some((&augmentation, seed)));
            values[63] - values[0]
        })
        .collect();
    assert!(widths.iter().any(|&width| width < 0.5) && widths.iter().any(|&width| width > 0.8), "{widths:?}");
}

/// Four classes of six images, of which some are cut short.
fn folder(cut: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for class in ["a", "b", "c", "d"] {
        for number in 0..6u32 {
            let colour = Rgb([40 * number as u8, 60 * (class.as_bytes()[0] - b'a'), 90]);
            write(folder.path(), class, &format!("{number}.jpg"), &RgbImage::from_pixel(24, 20, colour));
        }
    }
    for name in cut {
        let path = folder.path().join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    }
    folder
}

fn source(images: Split) -> Source {
    let statistics = images.channel_statistics().unwrap();
    Source { images, statistics, placement: Layout::ChannelsLast.into() }
}

fn values(batch: &fleetfoot_search::Batch) -> (Vec<f32>, Vec<i64>) {
    (Vec::try_from(batch.images.reshape([-1])).unwrap(), Vec::try_from(&batch.labels).unwrap())
}

#[test]
fn a_corrupt_files_place_takes_another_and_the_same_one_whenever_the_step_is_asked_for() {
    let folder = folder(&["train/a/3.jpg", "train/c/0.jpg"]);
    let feed = || {
        let augmentation = Augmentation { shift: 1, flip: true, crop: Some(0.3), jitter: Jitter::PROXYLESS };
        Feed::new(source(load(folder.path(), 8).train), 5, 6, Some(augmentation))
    };
    let mut whole = feed();
    let batches: Vec<_> = (0..12).map(|step| values(&whole.batch(step).unwrap())).collect();
    assert!(batches.iter().all(|(values, labels)| labels.len() == 6 && values.len() == 6 * 3 * 64));
    for first in [1, 3, 4, 7, 11] {
        let mut feed = feed();
        for (step, expected) in batches.iter().enumerate().skip(first) {
            assert_eq!(&values(&feed.batch(step).unwrap()), expected, "step {step} from {first}");
        }
    }
    let corrupt = whole.source().images.corrupt();
    let mut files: Vec<_> = corrupt.iter().map(|corrupt| corrupt.file.strip_prefix(folder.path()).unwrap()).collect();
    files.sort();
    assert_eq!(files, [Path::new("train/a/3.jpg"), Path::new("train/c/0.jpg")]);
    assert!(corrupt.iter().all(|corrupt| corrupt.what.contains("the JPEG")), "{corrupt:?}");
    // A batch's tensors lie as the layout says.
    let images = whole.batch(12).unwrap().images;
    assert_eq!((images.size(), images.stride()), (vec![6, 3, 8, 8], vec![192, 1, 24, 3]));
}

#[test]
fn evaluations_leave_corrupt_files_out_and_keep_the_order() {
    let folder = folder(&["val/a/0.jpg", "val/b/1.jpg"]);
    let source = source(load(folder.path(), 8).test);
    let batches: Vec<_> = source.in_order(5).map(|batch| values(&batch.unwrap()).1).collect();
    assert_eq!(batches.concat(), [vec![0; 5], vec![1; 5], vec![2; 6], vec![3; 6]].concat());
    assert_eq!(source.images.corrupt().len(), 2);
    // A batch of which nothing is left isn't handed over.
    let ones: Vec<_> = source.in_order(1).map(|batch| values(&batch.unwrap()).1).collect();
    assert_eq!(ones.len(), 22);
}

#[test]
fn a_class_that_is_corrupt_as_a_whole_is_an_error() {
    let cut: Vec<String> = (0..6).map(|number| format!("val/b/{number}.jpg")).collect();
    let folder = folder(&cut.iter().map(String::as_str).collect::<Vec<_>>());
    let images = load(folder.path(), 8).test;
    let test = Source { images, statistics: vec![(0.5, 0.25); 3], placement: Layout::Nchw.into() };
    let error = test.in_order(4).find_map(Result::err).unwrap().to_string();
    assert!(error.contains("all 6 images of a class are corrupt") && error.contains("val/b/"), "{error}");
}

#[test]
fn a_fingerprint_is_of_names_and_lengths_and_a_subset_has_its_own() {
    let folder = folder(&[]);
    let fingerprint = || load(folder.path(), 8).fingerprint();
    let first = fingerprint();
    assert_eq!(fingerprint(), first);
    assert_ne!(load(folder.path(), 9).fingerprint(), first);
    fs::rename(folder.path().join("train/a/0.jpg"), folder.path().join("train/a/00.jpg")).unwrap();
    let renamed = fingerprint();
    assert_ne!(renamed, first);
    let path = folder.path().join("val/d/5.jpg");
    fs::write(&path, [fs::read(&path).unwrap(), vec![0]].concat()).unwrap();
    assert_ne!(fingerprint(), renamed);
    let dataset = load(folder.path(), 8);
    let half = Dataset { train: dataset.train.subset(0..12), ..dataset.clone() };
    assert_ne!(half.fingerprint(), dataset.fingerprint());
    assert_eq!(half.train.channel_statistics().unwrap(), dataset.train.channel_statistics().unwrap());
}

#[test]
fn statistics_of_a_folder_are_those_of_its_images() {
    let folder = folder(&["train/a/5.jpg"]);
    let train = load(folder.path(), 8).train;
    let found = train.channel_statistics().unwrap();
    let pixels: Vec<f32> =
        (0..24).filter(|index| *index != 5).flat_map(|index| read(&train, index, None)[..64].to_vec()).collect();
    let mean = pixels.iter().sum::<f32>() / pixels.len() as f32;
    let deviation = (pixels.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / pixels.len() as f32).sqrt();
    assert!((found[0].0 - mean).abs() < 1e-4 && (found[0].1 - deviation).abs() < 1e-4, "{found:?} {mean} {deviation}");
    assert_eq!(train.corrupt().len(), 1);
}

/// Data of one's own: stripes, upright or not, and some that can't be read.
#[derive(Debug)]
struct Stripes {
    count: usize,
    corrupt_every: usize,
    readings: Arc<AtomicUsize>,
    fail: fn(usize) -> bool,
}

fn stripes(count: usize, corrupt_every: usize) -> Stripes {
    Stripes { count, corrupt_every, readings: Arc::default(), fail: |_| false }
}

impl Examples for Stripes {
    fn len(&self) -> usize {
        self.count
    }

    fn size(&self) -> (usize, usize, usize) {
        (1, 10, 10)
    }

    fn classes(&self) -> Classes {
        Classes::Exactly(2)
    }

    fn label(&self, index: usize) -> u16 {
        (index % 2) as u16
    }

    fn read(
        &self,
        index: usize,
        augmented: Option<(&Augmentation, &mut ChaCha8Rng)>,
        values: &mut [f32],
    ) -> Result<(), DatasetError> {
        self.readings.fetch_add(1, Ordering::Relaxed);
        if (self.fail)(index) {
            return Err(DatasetError::Missing);
        }
        if index % self.corrupt_every == self.corrupt_every - 1 {
            return Err(DatasetError::Corrupt { file: index.to_string().into(), what: "is torn".to_owned() });
        }
        let phase = augmented.map_or(0, |(_, rng)| rng.random_range(0..3));
        for (at, value) in values.iter_mut().enumerate() {
            let across = if index.is_multiple_of(2) { at % 10 } else { at / 10 };
            *value = f32::from(u8::from((across + phase).is_multiple_of(3)));
        }
        Ok(())
    }

    fn identify(&self, add: &mut dyn FnMut(&[u8])) {
        add(&self.count.to_le_bytes());
    }
}

fn space() -> SearchSpace {
    let text = r#"
        name = "stripes"
        classes = 2
        input = { channels = 1, height = 10, width = 10 }
        candidates = ["k3e2", "zero"]
        stem = { channels = 8 }
        first_block = { channels = 8 }
        stages = [{ channels = 8, depth = 2, stride = 1 }]
        head = { channels = 16 }
    "#;
    SearchSpace::from_toml(text, "stripes").unwrap()
}

fn recipe(batch: usize, train_images: usize) -> Recipe {
    Recipe {
        epochs: 1,
        rise_epochs: 0.0,
        batch,
        train_images,
        lr: 0.05,
        smoothing: 0.0,
        shift: 0,
        flip: false,
        seed: 1,
        ..Recipe::default()
    }
}

#[test]
fn data_of_ones_own_is_searched_and_trained_with() {
    tch::set_num_threads(1);
    let dataset = Dataset { name: "stripes".into(), train: stripes(600, 200).into(), test: stripes(100, 100).into() };
    let settings = SearchSettings {
        warmup_epochs: 1,
        search_epochs: 1,
        batch: 16,
        gate_batch: 16,
        train_images: 400,
        validation_images: 200,
        warmup_lr: 0.05,
        search_lr: 0.05,
        alpha_lr: 0.01,
        weight_steps: 2,
        smoothing: 0.0,
        flip: false,
        seed: 4,
        ..SearchSettings::default()
    };
    let costs = CostMatrix::new(1.0, vec![vec![0.7, 0.0]; 2]).unwrap();
    let limits = Limits::new(vec![Limit::latency(costs, 2.0)]).unwrap();
    let mut search = Search::new(&space(), limits, &dataset, settings).unwrap();
    let folder = tempfile::tempdir().unwrap();
    search.run(folder.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert!(search.account().waited_seconds > 0.0 && search.account().waited_seconds < search.seconds());
    // What is corrupt is passed over once it is known, also in the search's own split of the images.
    assert_eq!(search.account().corrupt.len(), 3);
    assert_eq!(search.split().train.corrupt(), dataset.train.corrupt());
    let found = search.found().unwrap().architecture;
    let mut training = Training::new(&space(), &found, &dataset, Recipe { epochs: 4, ..recipe(16, 600) }).unwrap();
    training.run(folder.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
    let evaluation = training.evaluate().unwrap();
    assert!(evaluation.images == 99 && evaluation.accuracy_percent > 90.0, "{evaluation:?}");
}

#[test]
fn more_than_ten_and_one_in_a_hundred_corrupt_examples_are_an_error() {
    let read_all = |count, every| {
        let source = Source {
            images: stripes(count, every).into(),
            statistics: vec![(0.0, 1.0)],
            placement: Layout::Nchw.into(),
        };
        let seen = source.in_order(50).map(|batch| Ok(batch?.labels.size1()?));
        seen.collect::<Result<Vec<i64>, SearchError>>().map(|seen| seen.iter().sum::<i64>())
    };
    assert_eq!(read_all(3000, 101).unwrap(), 3000 - 29);
    let error = read_all(3000, 31).unwrap_err().to_string();
    assert!(
        error.contains("images that were read are corrupt, which is too many") && error.contains("is torn"),
        "{error}"
    );
    assert_eq!(read_all(60, 6).unwrap(), 50, "ten of a small set are no reason to stop");
}

#[test]
fn what_is_no_corrupt_example_ends_the_run_and_a_panic_is_no_standstill() {
    for (fail, wanted) in [
        ((|index| index == 40) as fn(usize) -> bool, "no data set"),
        (
            |index| {
                assert!(index != 40, "wanted");
                false
            },
            "panicked",
        ),
    ] {
        let images = Stripes { fail, ..stripes(200, 300) };
        let source = Source { images: images.into(), statistics: vec![(0.0, 1.0)], placement: Layout::Nchw.into() };
        let results: Vec<_> = source.in_order(16).collect();
        // The batches before it are handed over, none behind it.
        assert_eq!((results.len(), results[..2].iter().all(Result::is_ok)), (3, true));
        let error = results[2].as_ref().unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn batches_are_made_ahead_but_not_without_end() {
    let images = stripes(100_000, 200_000);
    let readings = Arc::clone(&images.readings);
    let source = Source { images: images.into(), statistics: vec![(0.0, 1.0)], placement: Layout::Nchw.into() };
    let mut feed = Feed::new(source, 0, 64, None);
    feed.batch(0).unwrap();
    let (mut before, mut now) = (0, 1);
    while before != now {
        std::thread::sleep(std::time::Duration::from_millis(200));
        (before, now) = (now, readings.load(Ordering::Relaxed));
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(now >= 128 && now <= 64 * 8 + 8 * cores, "{now}");
}

#[test]
fn imagenet_sized_images_are_trained_on_in_the_geometry_of_proxyless_224() {
    let space = SearchSpace::load("proxyless-224").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (small, wide) = (grain(4, 4), grain(250, 120));
    for class in 0..1000 {
        let image = if class < 6 { &wide } else { &small };
        write(folder.path(), &format!("n{class:08}"), "a.png", image);
    }
    let dataset = load(folder.path(), 224);
    assert_eq!((dataset.train.len(), dataset.train.classes()), (1000, Classes::Exactly(1000)));
    let dataset = Dataset { train: dataset.train.subset(0..6), test: dataset.test.subset(0..2), ..dataset };
    let crop = Augmentation { flip: true, crop: Some(0.08), jitter: Jitter::PROXYLESS, shift: 0 };
    let Augmentation { flip, crop, jitter, .. } = crop;
    let architecture = space.resolve("k3e6").unwrap().1;
    let recipe = Recipe { flip, crop, jitter, epochs: 1, ..recipe(3, 6) };
    let mut training = Training::new(&space, &architecture, &dataset, recipe).unwrap();
    let run = tempfile::tempdir().unwrap();
    training.run(run.path(), &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert!(training.step() == 2 && training.loss().is_finite());
    assert_eq!(training.evaluate().unwrap().images, 2);
}
