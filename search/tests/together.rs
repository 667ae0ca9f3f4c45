//! Several ranks learn what one does: in threads of one process, over loopback, each with a group of its own.

#![cfg(feature = "distributed")]

mod common;

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::{images, limits, noise, settings, tiny};
use fleetfoot_search::{
    ALONE, Agreement, Backend, Backward, Batch, Compute, CrossEntropy, Feed, GateUpdate, Group, Launch, Layout,
    Learning as _, Module, Parameter, Path, Placement, Recipe, Rendezvous, Search, SearchError, Sgd, Source, Supernet,
    Training, learn,
};
use fleetfoot_space::{Architecture, Network, Precision, SearchSpace, Weights};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};
use tempfile::TempDir;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Rank 0 listens at this port.
fn at(port: u16) -> Rendezvous {
    Rendezvous { host: "127.0.0.1".into(), port, hosted: true, prefix: "test".into() }
}

/// Runs something on so many ranks at once; what each gave.
fn on_ranks<T: Send>(size: usize, run: impl Fn(Arc<Group>) -> T + Sync) -> Vec<T> {
    let port = free_port();
    let rendezvous = at(port);
    let run = &run;
    thread::scope(|scope| {
        let ranks = (0..size).map(|rank| {
            let launch = Launch { rank, size, local_rank: rank, rendezvous: rendezvous.clone(), restarts: 0 };
            scope.spawn(move || run(Group::join(&launch, Backend::Gloo, Compute::Cpu, TIMEOUT).unwrap()))
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// A path of the small space without batch normalisation, in numbers of a kind, with momentum.
fn plain(kind: Kind) -> Vec<Module> {
    let space = tiny();
    let network = space.network(&space.parse_architecture("1022").unwrap()).unwrap();
    let weights = Weights::initial(&network, 3);
    let modules = network.without_batch_norm().apart().into_iter().map(|unit| {
        let mut module = Module::new(unit, &weights, Layout::ChannelsLast).unwrap();
        for parameter in module.parameters_mut() {
            // Without batch normalisation initial weights let little through.
            let scale = if parameter.value.dim() == 4 { 2.0 } else { 1.0 };
            parameter.value = (parameter.value.detach() * scale).to_kind(kind).set_requires_grad(parameter.trainable);
        }
        module.with_momentum().unwrap()
    });
    modules.collect()
}

/// Learns for so many steps from batches of 8; each rank from its share. All parameters, in doubles.
fn learned(group: &Group, kind: Kind, steps: u64, recompute: bool, parts: usize) -> Vec<Vec<f64>> {
    let mut modules = plain(kind);
    let share = 8 / group.size() as i64;
    for step in 0..steps {
        let (images, labels) = images(8, step);
        let part = |tensor: &Tensor| tensor.narrow(0, group.rank() as i64 * share, share);
        let images = Layout::ChannelsLast.arrange(&part(&images).to_kind(kind)).unwrap();
        let how = Backward { criterion: &CrossEntropy, smoothing: 0.1, recompute, parts, group };
        let mut chain: Vec<&mut Module> = modules.iter_mut().collect();
        let mut update = |module: &mut Module, gradients: &[Tensor]| Sgd::default().update(module, gradients, 0.05);
        let learned = learn(&mut chain, &images, &part(&labels).into(), how, &mut update).unwrap();
        assert!(learned.loss.is_finite());
    }
    let value =
        |parameter: &Parameter| Vec::<f64>::try_from(parameter.value.to_kind(Kind::Double).reshape([-1])).unwrap();
    modules.iter().flat_map(Module::parameters).map(value).collect()
}

/// Largest difference.
fn apart(one: &[Vec<f64>], other: &[Vec<f64>]) -> f64 {
    assert_eq!(one.len(), other.len());
    let pairs = one.iter().flatten().zip(other.iter().flatten());
    pairs.map(|(one, other)| (one - other).abs()).fold(0.0, f64::max)
}

#[test]
fn ranks_with_shares_of_a_batch_learn_what_one_learns_from_all_of_it() {
    for (kind, steps, tolerance) in [(Kind::Double, 100, 1e-12), (Kind::Float, 20, 1e-5)] {
        let whole = learned(&ALONE, kind, steps, false, 1);
        let start = learned(&ALONE, kind, 0, false, 1);
        let moved = whole
            .iter()
            .zip(&start)
            .map(|(whole, start)| apart(std::slice::from_ref(whole), std::slice::from_ref(start)));
        assert!(moved.fold(f64::INFINITY, f64::min) > 0.1, "every layer learns");
        for (ranks, recompute, parts) in [(2, false, 1), (2, true, 2), (4, false, 1)] {
            let all = on_ranks(ranks, |group| learned(&group, kind, steps, recompute, parts));
            for (rank, own) in all.iter().enumerate() {
                let off = apart(own, &whole);
                eprintln!("{kind:?}, {steps} steps, {ranks} ranks, rank {rank}: parameters differ by {off:.1e}");
                assert!(off < tolerance, "{kind:?}, {ranks} ranks, rank {rank}: {off:e}");
                assert_eq!(apart(own, &all[0]), 0.0, "all ranks have the same bits");
            }
        }
    }
}

/// A search of the small space on so many ranks; each one's, at its end.
fn searched(ranks: usize, update: GateUpdate, folder: &TempDir) -> Vec<(String, Vec<f64>, Vec<Vec<f64>>)> {
    let settings = || fleetfoot_search::SearchSettings { gate_update: update, ..settings() };
    on_ranks(ranks, |group| {
        let search = Search::new(&tiny(), limits(7.0), &noise(80), settings()).unwrap();
        let mut search = search.among(group).unwrap();
        search.run(folder.path(), &false.into(), &mut |_| ()).unwrap();
        let losses = search.curve().iter().map(|point| point.loss).collect();
        (search.hash().unwrap(), losses, search.gates().logits().to_vec())
    })
}

#[test]
fn all_ranks_of_a_search_have_the_same_weights_gates_and_curves() {
    for update in [GateUpdate::TwoPaths, GateUpdate::AllGates, GateUpdate::Reinforce] {
        let folder = TempDir::new().unwrap();
        let all = searched(2, update, &folder);
        assert_eq!(all[0], all[1], "{update}");
        let moved = all[0].2.iter().flatten().any(|logit| logit.abs() > 1e-3);
        assert!(moved && !all[0].1.is_empty(), "{update}: gates learn");
        // And the same once more.
        assert_eq!(searched(2, update, &TempDir::new().unwrap())[0], all[0]);
    }
}

#[test]
fn images_are_shared_out_and_drawn_as_if_one_had_them_all() {
    let dataset = noise(40);
    let source = || Source {
        images: dataset.train.clone(),
        statistics: dataset.train.channel_statistics().unwrap(),
        placement: Placement::default(),
    };
    let augmentation = Some(settings().augmentation());
    let mut whole = Feed::new(source(), 5, 8, augmentation);
    let wholes: Vec<Batch> = (0..7).map(|step| whole.batch(step).unwrap()).collect();
    let parts = on_ranks(2, |group| {
        let mut feed = Feed::new(source(), 5, 8, augmentation).share(&group);
        let steps = [0, 1, 2, 3, 4, 5, 6];
        steps.map(|step| {
            let batch = feed.batch(step).unwrap();
            (Vec::<i64>::try_from(&batch.labels).unwrap(), Vec::<f32>::try_from(batch.images.reshape([-1])).unwrap())
        })
    });
    for (step, whole) in wholes.iter().enumerate() {
        let (labels, images): (Vec<_>, Vec<_>) = parts.iter().map(|part| part[step].clone()).unzip();
        assert_eq!(labels.concat(), Vec::<i64>::try_from(&whole.labels).unwrap());
        assert_eq!(images.concat(), Vec::<f32>::try_from(whole.images.reshape([-1])).unwrap(), "step {step}");
    }
}

fn recipe() -> Recipe {
    Recipe { epochs: 2, batch: 8, train_images: 40, shift: 1, seed: 4, ema: Some(0.9), ..Recipe::default() }
}

#[test]
fn a_training_is_evaluated_by_all_ranks_with_the_statistics_of_the_first() {
    let space = tiny();
    let architecture: Architecture = space.parse_architecture("1022").unwrap();
    let found = on_ranks(2, |group| {
        let dataset = noise(48);
        let training = Training::new(&space, &architecture, &dataset, recipe()).unwrap();
        let mut training = training.among(group).unwrap();
        let folder = TempDir::new().unwrap();
        training.run(folder.path(), &false.into(), &mut |_| ()).unwrap();
        let evaluation = training.evaluate().unwrap();
        (evaluation, training.hash().unwrap(), training.account().ranks)
    });
    assert_eq!(found[0], found[1]);
    assert_eq!((found[0].0.images, &found[0].2), (16, &vec![2]));
}

#[test]
fn a_run_of_two_ranks_goes_on_from_the_checkpoint_of_the_first_alone() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let search =
        |group: Arc<Group>| Search::new(&tiny(), limits(7.0), &noise(80), settings()).unwrap().among(group).unwrap();
    let whole = on_ranks(2, |group| {
        let folder = TempDir::new().unwrap();
        let mut whole = search(group);
        whole.run(folder.path(), &false.into(), &mut |_| ()).unwrap();
        whole.hash().unwrap()
    });
    // One of the two is to stop; both do, at the same step.
    let stopped = on_ranks(2, |group| {
        let folder = folders[group.rank()].path();
        let (mut first, stop) = (search(group.clone()), std::sync::atomic::AtomicBool::new(false));
        let error = first.run(folder, &stop, &mut |search| {
            stop.store(group.rank() == 1 && search.step() == 3, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(matches!(error, Err(SearchError::Interrupted { .. })));
        first.step()
    });
    assert_eq!(stopped, [3, 3]);
    assert!(!folders[1].path().join("checkpoint.safetensors").exists(), "rank 0 alone writes");
    let resumed = on_ranks(2, |group| {
        let folder = folders[group.rank()].path();
        let mut second = search(group);
        second.restore(folder).unwrap();
        assert_eq!(second.step(), 3);
        second.run(folder, &false.into(), &mut |_| ()).unwrap();
        second.hash().unwrap()
    });
    assert_eq!(resumed, whole);
}

#[test]
fn what_cannot_be_shared_evenly_is_refused() {
    let errors = on_ranks(3, |group| {
        let search = Search::new(&tiny(), limits(7.0), &noise(80), settings()).unwrap();
        search.among(group).unwrap_err().to_string()
    });
    for error in errors {
        assert!(error.contains("--batch 8") && error.contains("6 or 9"), "{error}");
    }
}

#[test]
fn ranks_that_differ_are_told_what_in() {
    let said = on_ranks(3, |group| {
        let own = Agreement::default().told("version", "1").hashed("table", &usize::from(group.rank() == 2));
        group.agree(&own).map_err(|error| error.to_string())
    });
    for said in said {
        let error = said.unwrap_err();
        assert!(error.starts_with("rank 2 doesn't have rank 0's table ("), "{error}");
    }
    let said = on_ranks(2, |group| group.agree(&Agreement::default().hashed("table", &1)).is_ok());
    assert_eq!(said, [true, true]);
}

#[test]
fn ranks_on_other_paths_are_noticed_before_gradients_are_mixed() {
    let errors = on_ranks(2, |group| {
        let mut supernet = Supernet::new(&tiny(), 3, Layout::ChannelsLast).unwrap();
        let path = Path(vec![group.rank(), 0, 0, 0]);
        let (images, labels) = images(8, 1);
        let how = Backward { criterion: &CrossEntropy, smoothing: 0.1, recompute: false, parts: 1, group: &group };
        let mut update = |_: &mut Module, _: &[Tensor]| panic!("nothing is updated");
        learn(&mut supernet.chain(&path), &images, &labels.into(), how, &mut update).unwrap_err()
    });
    assert!(errors.iter().all(|error| matches!(error, SearchError::Apart { .. })), "{errors:?}");
}

#[test]
fn a_loss_that_is_no_number_on_one_rank_updates_nothing_on_any() {
    let losses = on_ranks(2, |group| {
        let mut modules = plain(Kind::Float);
        let (images, labels) = images(8, 1);
        let images = if group.rank() == 1 { images * f64::NAN } else { images };
        let mut chain: Vec<&mut Module> = modules.iter_mut().collect();
        let how = Backward { criterion: &CrossEntropy, smoothing: 0.1, recompute: false, parts: 1, group: &group };
        let mut update = |_: &mut Module, _: &[Tensor]| panic!("nothing is updated");
        learn(&mut chain, &images, &labels.into(), how, &mut update).unwrap().loss
    });
    assert!(losses.iter().all(|loss| loss.is_nan()), "{losses:?}");
}

#[test]
fn bytes_and_numbers_of_all_ranks_reach_all() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let words: Vec<String> = (0..3).map(|rank| "x".repeat(rank * 1000 + rng.random_range(0..9))).collect();
    let found = on_ranks(3, |group| {
        let said = group.gather(&words[group.rank()]).unwrap();
        let led = group.led(|| Ok::<_, SearchError>(format!("from {}", group.rank()))).unwrap();
        let refused = group.led(|| Err::<(), _>(SearchError::Settings("no".into()))).unwrap_err().to_string();
        let mut mean = [group.rank() as f64, 1.0];
        group.mean(&mut mean).unwrap();
        let any = group.any([group.rank() == 1, false]).unwrap();
        let tensor = Tensor::from_slice(&[group.rank() as f32, 7.0]);
        group.copy_first(&[&tensor]).unwrap();
        (said, led, refused, mean, any, Vec::<f32>::try_from(tensor).unwrap())
    });
    for (rank, (said, led, refused, mean, any, copied)) in found.into_iter().enumerate() {
        assert_eq!((said, led.as_str(), mean, any), (words.clone(), "from 0", [1.0, 1.0], [true, false]));
        assert_eq!(copied, [0.0, 7.0]);
        assert!(if rank == 0 { refused == "no" } else { refused.contains("rank 0 says: no") }, "{refused}");
    }
}

#[test]
fn a_rank_that_goes_is_missed_at_once_and_one_that_says_nothing_when_the_time_is_over() {
    for silent in [false, true] {
        let port = free_port();
        let rendezvous = at(port);
        let join = |rank| {
            let launch = Launch { rank, size: 2, local_rank: rank, rendezvous: rendezvous.clone(), restarts: 0 };
            Group::join(&launch, Backend::Gloo, Compute::Cpu, Duration::from_secs(2)).unwrap()
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let group = join(1);
                if silent {
                    thread::sleep(Duration::from_secs(4));
                }
                drop(group);
            });
            let group = join(0);
            let start = Instant::now();
            let error = group.sum(&mut [1.0]).unwrap_err();
            let took = start.elapsed();
            assert!(matches!(error, SearchError::Peers { .. }) && error.is_passing());
            let said = error.to_string();
            assert!(said.starts_with("rank 0 of 2 lost the others (") && !said.contains("gloo/"), "{said}");
            eprintln!("{said} after {took:?}");
            assert_eq!(took >= Duration::from_millis(1500), silent, "{said} {took:?}");
        });
    }
}

#[test]
fn nobody_who_comes_is_an_error_behind_the_time_that_was_given() {
    let port = free_port();
    for rank in [0, 1] {
        let rendezvous = at(port);
        let launch = Launch { rank, size: 2, local_rank: rank, rendezvous, restarts: 0 };
        let error = Group::join(&launch, Backend::Gloo, Compute::Cpu, Duration::from_secs(1)).unwrap_err();
        let said = error.to_string();
        eprintln!("{said}");
        assert!(
            error.is_passing() && said.starts_with(&format!("rank {rank} of 2 finds no others at 127.0.0.1:")),
            "{said}"
        );
        assert!(!said.contains(".cpp") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_store_that_is_frozen_is_waited_for_no_longer_than_was_said() {
    // It is reached, and says nothing.
    let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = frozen.local_addr().unwrap().port();
    let rendezvous = at(port);
    let launch = Launch { rank: 1, size: 2, local_rank: 0, rendezvous, restarts: 0 };
    let error = Group::join(&launch, Backend::Gloo, Compute::Cpu, Duration::from_secs(1)).unwrap_err();
    assert!(error.is_passing() && error.to_string().contains("says nothing, for 1 s now"), "{error}");
}

#[test]
fn a_network_without_batch_normalisation_keeps_its_other_layers() {
    let space: SearchSpace = tiny();
    let network: Network = space.network(&space.parse_architecture("1022").unwrap()).unwrap();
    let plain = network.without_batch_norm();
    assert_eq!((plain.out_shape(), network.precision()), (network.out_shape(), Precision::Fp32));
    assert!(plain.nodes().iter().all(|node| !node.name.ends_with(".bn")));
    let norms = network.nodes().iter().filter(|node| node.name.ends_with(".bn")).count();
    assert_eq!(plain.nodes().len() + norms, network.nodes().len());
}
