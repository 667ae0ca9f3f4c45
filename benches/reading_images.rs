//! How fast folders of images are read: listing, and images a second from a file to normalised values on one thread and on
//! all cores, as training (random-resized crop, mirroring, colour jitter) and as evaluation sees them. The images are
//! made here: 400 x 300 pixels, slopes, edges and grain, JPEG of quality 90. One JSON line each; `make bench` runs it.
//! `FLEETFOOT_BENCH_IMAGES` sets their number (default 512), `FLEETFOOT_BENCH_DATA` names a folder of real ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use fleetfoot_search::{Augmentation, Dataset, Feed, Form, Jitter, Layout, SearchError, Source, Split};
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 64;
const TRAINING: Augmentation = Augmentation { shift: 0, flip: true, crop: Some(0.08), jitter: Jitter::PROXYLESS };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    fleetfoot_search::keep_memory();
    let number = |name: &str, default: usize| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let images = number("FLEETFOOT_BENCH_IMAGES", 512);
    let made = std::env::temp_dir().join(format!("fleetfoot-bench-images-{}", std::process::id()));
    let named = std::env::var_os("FLEETFOOT_BENCH_DATA").map(PathBuf::from);
    if named.is_none() {
        make(&made, images)?;
    }
    let measured = measure(named.as_deref().unwrap_or(&made), images);
    if named.is_none() {
        fs::remove_dir_all(made)?;
    }
    Ok(measured?)
}

/// Four classes of these images, the test images being a few of them.
fn make(folder: &Path, images: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for index in 0..images.max(8) {
        let wave = |phase: f64| -> Vec<f64> { (0..400).map(|at| 55.0 * (f64::from(at) / 9.0 + phase).sin()).collect() };
        let waves: [Vec<f64>; 3] = std::array::from_fn(|_| wave(6.0 * rng.random::<f64>()));
        let picture = RgbImage::from_fn(400, 300, |x, y| {
            let value = |wave: &Vec<f64>| 127.0 + wave[x as usize] + wave[y as usize];
            Rgb(waves.each_ref().map(|wave| (value(wave) + rng.random_range(-9.0..9.0)).clamp(0.0, 255.0) as u8))
        });
        for split in ["train", "val"].iter().take(if index < 8 { 2 } else { 1 }) {
            let class = folder.join(split).join((index % 4).to_string());
            fs::create_dir_all(&class)?;
            let mut bytes = Vec::new();
            JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&picture)?;
            fs::write(class.join(format!("{index}.jpg")), bytes)?;
        }
    }
    Ok(())
}

fn measure(folder: &Path, images: usize) -> Result<(), SearchError> {
    let start = Instant::now();
    let dataset = Dataset::load(Some(folder), Some(Form::Folders), (3, 224, 224))?;
    let files = dataset.train.len() + dataset.test.len();
    say(&format!("\"listed_files\":{files},\"seconds\":{:.3}", start.elapsed().as_secs_f64()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let train = dataset.train.shuffled(&mut ChaCha8Rng::seed_from_u64(1));
    let train = train.subset(0..images.min(train.len()));
    for threads in [1, cores] {
        for (what, augmentation) in [("training", Some(TRAINING)), ("evaluation", None)] {
            let before = cpu_seconds();
            let rate = rate(&train, threads, augmentation)?;
            let cpu_ms = 1000.0 * (cpu_seconds() - before) / train.len() as f64;
            let fields = format!("\"threads\":{threads},\"images_per_s\":{rate:.1},\"cpu_ms_per_image\":{cpu_ms:.2}");
            say(&format!("\"what\":\"{what}\",{fields}"));
        }
    }
    let statistics = vec![(0.5, 0.25); 3];
    let source = Source { images: train, statistics, placement: Layout::ChannelsLast.into() };
    let mut feed = Feed::new(source, 0, BATCH, Some(TRAINING));
    // What is made ahead and not asked for counts little then.
    let (start, steps) = (Instant::now(), 6 * feed.steps_per_epoch());
    for step in 0..steps {
        feed.batch(step)?;
    }
    let rate = (steps * BATCH) as f64 / start.elapsed().as_secs_f64();
    say(&format!("\"what\":\"batches of {BATCH}\",\"threads\":{cores},\"images_per_s\":{rate:.1}"));
    Ok(())
}

/// How long the process has computed so far, which others' work on the machine changes little; 0 where the system doesn't
/// say it as Linux does.
fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Images a second.
fn rate(images: &Split, threads: usize, augmentation: Option<Augmentation>) -> Result<f64, SearchError> {
    let (start, next) = (Instant::now(), AtomicUsize::new(0));
    let read = || {
        let mut values = vec![0.0; 3 * 224 * 224];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= images.len() {
                return Ok(());
            }
            let mut rng = ChaCha8Rng::seed_from_u64(index as u64);
            images.read(index, augmentation.as_ref().map(|augmentation| (augmentation, &mut rng)), &mut values)?;
        }
    };
    let results: Vec<Result<(), SearchError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(read)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(SearchError::Panicked))).collect()
    });
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(images.len() as f64 / start.elapsed().as_secs_f64())
}

#[allow(clippy::print_stdout)] // its output is data
fn say(fields: &str) {
    println!("{{{fields}}}");
}
