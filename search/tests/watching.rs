//! What TensorBoard is told of a run is what the run's curves say, however often it was interrupted.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use common::{limits, noise, settings, tiny};
use fleetfoot_search::{
    Learning as _, Recipe, Search, SearchEvents, SearchSettings, Training, TrainingEvents, checkpoint_path,
    remove_events,
};
use prost::Message;

/// The share of TensorFlow's event.proto that matters here, written down a second time.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session: Option<Session>,
}

#[derive(Clone, PartialEq, Message)]
struct Session {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents."))
        .collect();
    files.sort();
    files
}

/// Every scalar of a folder's files by step, as TensorBoard takes them: a session's start takes back what lies behind it.
fn scalars(folder: &Path) -> BTreeMap<String, Vec<(i64, f32)>> {
    let mut all: BTreeMap<String, Vec<(i64, f32)>> = BTreeMap::new();
    for file in files(folder) {
        let bytes = std::fs::read(file).unwrap();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let event = Event::decode(&rest[12..12 + length]).unwrap();
            rest = &rest[12 + length + 4..];
            if event.session.is_some_and(|session| session.status == 1) {
                all.values_mut().for_each(|points| points.retain(|(step, _)| *step < event.step));
            }
            for value in event.summary.into_iter().flat_map(|summary| summary.value) {
                if let Some(number) = value.simple_value {
                    all.entry(value.tag).or_default().push((event.step, number));
                }
            }
        }
    }
    all
}

fn search() -> Search {
    let settings = SearchSettings { warmup_epochs: 2, search_epochs: 2, ..settings() };
    Search::new(&tiny(), limits(4.0), &noise(64), settings).unwrap()
}

#[test]
fn a_search_killed_behind_its_checkpoint_tells_each_point_once_and_as_its_curves_say() {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    let mut killed = search();
    let mut events = SearchEvents::open(folder.path(), &killed).unwrap();
    for step in 1..=11 {
        killed.advance(folder.path()).unwrap();
        events.watch(&killed).unwrap();
        if step == 7 {
            killed.save(folder.path()).unwrap();
        }
    }
    drop((killed, events));
    assert_eq!(scalars(folder.path())["loss"].len(), 11);

    let mut resumed = search();
    resumed.restore(folder.path()).unwrap();
    let mut events = SearchEvents::open(folder.path(), &resumed).unwrap();
    resumed.run(folder.path(), &AtomicBool::new(false), &mut |search| events.watch(search).unwrap()).unwrap();
    assert_eq!(files(folder.path()).len(), 2, "a file a process");

    let told = scalars(folder.path());
    let points = |of: &dyn Fn(usize) -> f64| -> Vec<(i64, f32)> {
        (0..resumed.curve().len()).map(|index| (resumed.curve()[index].step as i64, of(index) as f32)).collect()
    };
    assert_eq!(resumed.curve().len(), 20);
    assert_eq!(told["loss"], points(&|index| resumed.curve()[index].loss));
    assert_eq!(told["accuracy_percent"], points(&|index| resumed.curve()[index].accuracy_percent));
    assert_eq!(told["gates/entropy"], points(&|index| resumed.curve()[index].entropy));
    assert_eq!(told["gates/candidates"], points(&|index| resumed.curve()[index].candidates as f64));
    assert_eq!(told["expected/latency_ms"], points(&|index| resumed.history()[index].expected[0]));
    assert_eq!(told["limit/latency_ms"], points(&|index| resumed.history()[index].limits[0]));
    assert_eq!(told["lambda/latency_ms"], points(&|index| resumed.history()[index].lambda[0]));
    assert!(told["images_per_s"].iter().all(|(_, images)| *images > 0.0));
    let rates = &told["learning_rate"];
    assert_eq!((rates.len(), rates[0].1, rates[10].1), (20, 0.05, 0.025), "the peaks of the warm-up and of the search");
    assert!(rates[9].1 < 0.005 && rates[19].1 < 0.005, "{rates:?}");

    remove_events(folder.path()).unwrap();
    assert!(files(folder.path()).is_empty() && checkpoint_path(folder.path()).exists());
}

#[test]
fn a_training_tells_its_epochs_and_how_it_ended() {
    tch::set_num_threads(1);
    let recipe = Recipe {
        epochs: 3,
        rise_epochs: 0.0,
        batch: 8,
        train_images: 40,
        shift: 0,
        flip: false,
        seed: 1,
        ..Recipe::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let space = tiny();
    let network = space.parse_architecture("0000").unwrap();
    let mut training = Training::new(&space, &network, &noise(64), recipe).unwrap();
    let mut events = TrainingEvents::open(folder.path(), &training).unwrap();
    training.run(folder.path(), &AtomicBool::new(false), &mut |training| events.watch(training).unwrap()).unwrap();
    let evaluation = training.evaluate().unwrap();
    events.tested(&training, &evaluation).unwrap();
    let told = scalars(folder.path());
    let losses: Vec<(i64, f32)> =
        (1..).map(|epoch| 5 * epoch).zip(training.curve().iter().map(|p| p.loss as f32)).collect();
    assert_eq!(told["loss"], losses);
    assert_eq!(told["test/loss"], [(15, evaluation.loss as f32)]);
    assert_eq!(told["test/accuracy_percent"], [(15, evaluation.accuracy_percent as f32)]);
}
