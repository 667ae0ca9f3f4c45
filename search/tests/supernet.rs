//! What the supernet computes, and what a step leaves alone.

mod common;

use common::{TINY, costs, images, largest_difference, limits, noise, settings, tiny};
use fleetfoot_predictor::CostMatrix;
use fleetfoot_search::{
    Augmentation, CrossEntropy, Feed, Gates, Layout, Learning as _, Limit, Limits, Mode, Module, Path, Search,
    SearchSettings, Supernet, cross_entropy,
};
use fleetfoot_space::{SearchSpace, Weights};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor, no_grad};

#[test]
fn a_path_computes_exactly_the_network_that_it_derives() {
    let space = tiny();
    let supernet = Supernet::new(&space, 3, Layout::ChannelsLast).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (x, _) = images(6, 1);
    for _ in 0..8 {
        let architecture = space.random(&mut rng);
        let path = Path(architecture.choices().collect());
        let weights = supernet.derive(&path).unwrap();
        let derived = Module::new(space.network(&architecture).unwrap(), &weights, Layout::ChannelsLast).unwrap();
        for mode in [Mode::Probe, Mode::Eval] {
            let ours = no_grad(|| supernet.forward(&path, &x, mode)).unwrap();
            let theirs = no_grad(|| derived.forward(&x, mode)).unwrap();
            assert_eq!(largest_difference(&ours, &theirs), 0.0, "{architecture} {mode:?}");
        }
    }
}

#[test]
fn candidates_inherit_the_function_of_their_seed_as_far_as_it_fits() {
    let text =
        TINY.replace(r#"["k3e2", "k5e1", "k3e3", "zero"]"#, r#"["k5e3", "k3e3", "k7e3", "k5e1", "k3e2", "zero"]"#);
    let space = SearchSpace::from_toml(&text, "tiny").unwrap();
    let mut supernet = Supernet::new(&space, 3, Layout::ChannelsLast).unwrap();
    let (seeds, (x, _)) = (Path(vec![1; 4]), images(64, 1));
    assert_eq!(supernet.seeds(), &seeds);
    let logits = |supernet: &Supernet, choice: [usize; 4]| {
        no_grad(|| supernet.forward(&Path(choice.to_vec()), &x, Mode::Probe)).unwrap()
    };
    let wanted = logits(&supernet, [1; 4]);
    let (larger, other, narrower) =
        (logits(&supernet, [0; 4]), logits(&supernet, [3; 4]), logits(&supernet, [1, 1, 1, 4]));
    supernet.inherit().unwrap();
    for path in [[0, 1, 2, 2], [2; 4], [0; 4], [1; 4]] {
        let difference = largest_difference(&logits(&supernet, path), &wanted);
        assert!(difference < 1e-5, "{path:?}: {difference}");
    }
    assert!(largest_difference(&larger, &wanted) > 1e-2);
    // No expansion, other layers: as it was.
    assert_eq!(largest_difference(&logits(&supernet, [3; 4]), &other), 0.0);
    // Two thirds of the channels, those that weigh most: nearer to the seed than before.
    let distance = |logits: &Tensor| (logits - &wanted).square().mean(None).double_value(&[]);
    assert!(distance(&logits(&supernet, [1, 1, 1, 4])) < 0.7 * distance(&narrower));
}

#[test]
fn what_has_other_groups_or_no_block_inherits_nothing() {
    let text = TINY.replace(r#"["k3e2", "k5e1", "k3e3", "zero"]"#, r#"["k3e2g2", "k5e2", "k3e1x", "k3e2", "skip"]"#);
    let space = SearchSpace::from_toml(&text, "tiny").unwrap();
    let mut supernet = Supernet::new(&space, 3, Layout::ChannelsLast).unwrap();
    let (x, _) = images(16, 1);
    assert_eq!(supernet.seeds(), &Path(vec![3; 4]));
    let logits = |supernet: &Supernet, choice: usize| {
        no_grad(|| supernet.forward(&Path(vec![choice; 4]), &x, Mode::Probe)).unwrap()
    };
    let before: Vec<Tensor> = (0..5).map(|choice| logits(&supernet, choice)).collect();
    supernet.inherit().unwrap();
    let moved: Vec<bool> =
        (0..5).map(|choice| largest_difference(&logits(&supernet, choice), &before[choice]) > 1e-3).collect();
    assert_eq!(moved, [false, true, true, false, false]);
}

#[test]
fn seeds_learn_with_and_without_each_other() {
    let supernet = Supernet::new(&tiny(), 3, Layout::ChannelsLast).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut left_out = [0; 4];
    for _ in 0..1000 {
        for (decision, choice) in supernet.sample_seeds(&mut rng).0.into_iter().enumerate() {
            match choice {
                // Zero, which the decision with stride 2 hasn't.
                3 => left_out[decision] += 1,
                choice => assert_eq!(choice, 2),
            }
        }
    }
    assert_eq!(left_out[2], 0);
    assert!([0, 1, 3].iter().all(|&decision| (400..600).contains(&left_out[decision])), "{left_out:?}");
}

#[test]
fn gates_that_are_certain_draw_one_path_only() {
    let mut alpha = vec![vec![0.0, 0.0, 0.0, 0.0]; 4];
    alpha[2].pop();
    for (row, choice) in alpha.iter_mut().zip([1, 3, 0, 2]) {
        row[choice] = 1e3;
    }
    let gates = Gates::from_logits(alpha);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for _ in 0..100 {
        assert_eq!(gates.sample_path(&mut rng), Path(vec![1, 3, 0, 2]));
    }
    assert_eq!(gates.most_probable().unwrap().to_string(), "1302");
}

/// A module's name, and of each of its parameters the bits of its values and of its momentum.
type Snapshot = (String, Vec<(Vec<u32>, Option<Vec<u32>>)>);

fn snapshot(supernet: &Supernet) -> Vec<Snapshot> {
    let bits = |tensor: &Tensor| -> Vec<u32> {
        let values = Vec::<f32>::try_from(tensor.detach().contiguous().reshape([-1])).unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    let parameters =
        |module: &Module| module.parameters().iter().map(|p| (bits(&p.value), p.momentum.as_ref().map(bits))).collect();
    supernet.modules().map(|(name, module)| (name, parameters(module))).collect()
}

/// Whether a module of this name is computed on a path.
fn is_on(path: &Path, name: &str) -> bool {
    let chosen = |(decision, choice): (usize, &usize)| name == format!("decision{decision}.candidate{choice}");
    name == "front" || name == "back" || path.0.iter().enumerate().any(chosen)
}

/// The path along which weights moved: every module on it moved as a whole, statistics and momentum too, and none
/// beside it in a single bit.
fn moved_path(before: &[Snapshot], after: &[Snapshot]) -> Path {
    // Where nothing moved, Zero was drawn, which is the last candidate where there is one.
    let mut path = vec![None; 4];
    for ((name, old), (_, new)) in before.iter().zip(after).filter(|(old, new)| old != new) {
        for (index, (old, new)) in old.iter().zip(new).enumerate() {
            // Momentum starts with the first step; statistics have none.
            let momentum_moved = old.1 != new.1 || new.1.is_none();
            assert!(old.0 != new.0 && momentum_moved, "parameter {index} of {name} stayed while others moved");
        }
        if let Some(rest) = name.strip_prefix("decision") {
            let (decision, choice) = rest.split_once(".candidate").unwrap();
            let (decision, choice): (usize, usize) = (decision.parse().unwrap(), choice.parse().unwrap());
            assert_eq!(path[decision].replace(choice), None, "two candidates of decision {decision} moved");
        }
    }
    assert!(before[0] != after[0] && before.last() != after.last(), "what is on every path stayed");
    assert!(path[2].is_some(), "decision 2 has no Zero, yet nothing moved");
    Path(path.into_iter().map(|choice| choice.unwrap_or(3)).collect())
}

/// Whether a momentum isn't the 0 that it begins with.
fn has_moved(momentum: &Option<Vec<u32>>) -> bool {
    momentum.iter().flatten().any(|bits| *bits != 0)
}

#[test]
fn a_weight_step_of_the_search_moves_one_path_and_leaves_all_else_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let mut search = Search::new(&tiny(), limits(7.0), &noise(64), settings()).unwrap();
    let (mut paths, mut kept_momentum) = (Vec::new(), 0);
    // Five steps of the warm-up, then five with a gate step each.
    for _ in 0..search.total_steps() {
        let before = snapshot(search.supernet());
        search.advance(folder.path()).unwrap();
        let path = moved_path(&before, &snapshot(search.supernet()));
        let inactive = before.iter().filter(|(name, _)| !is_on(&path, name));
        kept_momentum += inactive.filter(|(_, parameters)| has_moved(&parameters[0].1)).count();
        paths.push(path.0);
    }
    paths.sort();
    paths.dedup();
    assert!(paths.len() > 5 && kept_momentum > 10, "{paths:?}, {kept_momentum} inactive modules had momentum");
}

#[test]
fn only_what_is_on_the_path_gets_a_gradient() {
    let supernet = Supernet::new(&tiny(), 3, Layout::ChannelsLast).unwrap();
    let (x, labels) = images(16, 2);
    let path = Path(vec![1, 3, 2, 0]);
    cross_entropy(&supernet.forward(&path, &x, Mode::Train).unwrap(), &labels, 0.1).unwrap().backward();
    let (mut defined, mut undefined) = (0, 0);
    for (name, module) in supernet.modules() {
        for parameter in module.parameters().iter().filter(|parameter| parameter.trainable) {
            let has_gradient = parameter.value.grad().defined();
            assert_eq!(has_gradient, is_on(&path, &name), "{name} {}", parameter.name);
            *if has_gradient { &mut defined } else { &mut undefined } += 1;
        }
    }
    assert!(defined > 20 && undefined > 40, "{defined} {undefined}");
}

#[test]
fn a_gate_step_changes_gates_only() {
    let dataset = noise(64);
    let mut search = Search::new(&tiny(), limits(7.0), &dataset, settings()).unwrap();
    let (x, labels) = images(16, 9);
    let batch = fleetfoot_search::Batch { images: x, labels };
    let before = snapshot(search.supernet());
    let gates = search.gates().clone();
    search.gate_step(&batch).unwrap();
    assert!(before == snapshot(search.supernet()), "weights, statistics or momentum moved in a gate step");
    assert_ne!(gates.logits(), search.gates().logits());
    let mass = |gates: &Gates| gates.probabilities().iter().map(|row| row.iter().sum::<f64>()).collect::<Vec<_>>();
    mass(search.gates()).iter().for_each(|sum| assert!((sum - 1.0).abs() < 1e-9));
}

/// The loss of a network whose one mixed decision is `q o_a + (1 - q) o_b`, by finite differences of the gate values.
#[test]
fn gate_gradients_are_the_derivatives_of_the_loss_by_the_gates() {
    let space = tiny();
    let supernet = Supernet::new(&space, 3, Layout::Nchw).unwrap();
    let (x, labels) = images(16, 4);
    let path = Path(vec![0, 3, 2, 1]);
    let trace = supernet.trace(&path, &x).unwrap();
    let ce = cross_entropy(&trace.logits, &labels, 0.0).unwrap();
    let slopes = Tensor::run_backward(&[&ce], &trace.outputs, false, false);
    for (decision, other) in [(0, 2), (1, 0), (2, 1), (3, 3)] {
        let own = trace.outputs[decision].detach();
        let rival = no_grad(|| supernet.candidate(decision, other, &trace.inputs[decision], Mode::Probe)).unwrap();
        let loss = |on_own: f64, on_rival: f64| {
            no_grad(|| {
                let mut y = &own * on_own + &rival * on_rival;
                for behind in decision + 1..4 {
                    y = supernet.candidate(behind, path.0[behind], &y, Mode::Probe).unwrap();
                }
                let logits = supernet.head(&y, Mode::Probe).unwrap();
                cross_entropy(&logits, &labels, 0.0).unwrap().double_value(&[])
            })
        };
        let h = 3e-3;
        for (output, plus, minus) in
            [(&own, loss(1.0 + h, 0.0), loss(1.0 - h, 0.0)), (&rival, loss(1.0, h), loss(1.0, -h))]
        {
            let gradient = (output * &slopes[decision]).sum(Kind::Double).double_value(&[]);
            let difference = (plus - minus) / (2.0 * h);
            // Single precision, and ReLU6 has kinks: differences are good to some percent.
            assert!((gradient - difference).abs() < 0.05 * difference.abs() + 2e-3, "{gradient} {difference}");
        }
    }
}

#[test]
fn latency_pulls_the_gates_towards_the_cheap_candidate() {
    let dataset = noise(64);
    let settings = SearchSettings { lambda: Some(50.0), soft: true, alpha_lr: 0.05, ..settings() };
    let mut search = Search::new(&tiny(), limits(7.0), &dataset, settings).unwrap();
    let (x, labels) = images(16, 9);
    for _ in 0..60 {
        let batch = fleetfoot_search::Batch { images: x.shallow_clone(), labels: labels.shallow_clone() };
        search.gate_step(&batch).unwrap();
    }
    assert_eq!(search.found().unwrap().architecture.to_string(), "3303");
}

#[test]
fn folding_batch_normalisation_changes_nothing_but_rounding() {
    // The ONNX writer folds; the module doesn't. Both on weights away from the identity, on every preset. The
    // comparison through ONNX Runtime itself is in export.rs.
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let space = SearchSpace::load("fashion-28").unwrap();
    let network = space.network(&space.random(&mut rng)).unwrap();
    let weights = Weights::random(&network, 1);
    let module = Module::new(network.clone(), &weights, Layout::ChannelsLast).unwrap();
    let plain = Module::new(network, &weights, Layout::Nchw).unwrap();
    let x = Tensor::randn([2, 1, 28, 28], (Kind::Float, Device::Cpu));
    let (a, b) = no_grad(|| (module.forward(&x, Mode::Eval).unwrap(), plain.forward(&x, Mode::Eval).unwrap()));
    assert!(largest_difference(&a, &b) < 1e-4 * b.abs().max().double_value(&[]).max(1.0));
}

#[test]
fn a_target_that_the_space_cannot_meet_is_refused_at_once() {
    for target_ms in [0.5, 100.0, f64::NAN] {
        let error = Limits::new(vec![Limit::latency(costs(), target_ms)]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("fastest network needs 3.0000 ms") && text.contains("slowest 13.0000 ms"), "{text}");
    }
}

#[test]
fn the_found_network_meets_the_target_also_where_the_most_probable_one_does_not() {
    let found = Search::new(&tiny(), limits(3.5), &noise(64), settings()).unwrap().found().unwrap();
    assert!(costs().latency_ms(&found.most_probable) > 3.5, "{}", found.most_probable);
    let predicted = found.limits[0].predicted;
    assert!(predicted <= 3.5 && predicted == costs().latency_ms(&found.architecture), "{found:?}");
}

#[test]
fn candidates_cannot_inherit_behind_the_warm_up() {
    let settings = SearchSettings { inherit_after: 2, ..settings() };
    let error = Search::new(&tiny(), limits(7.0), &noise(64), settings).unwrap_err().to_string();
    assert!(error.contains("inherit after 2 epochs, but the warm-up has 1"), "{error}");
}

#[test]
fn images_that_the_space_does_not_take_are_refused() {
    let space = SearchSpace::load("cifar-32").unwrap();
    let costs = CostMatrix::new(1.0, vec![vec![1.0; 7]; 21]).unwrap();
    let limits = Limits::new(vec![Limit::latency(costs, 22.0)]).unwrap();
    let error = Search::new(&space, limits, &noise(64), settings()).unwrap_err().to_string();
    assert!(error.contains("1 x 12 x 12") && error.contains("3 x 32 x 32"), "{error}");
}

#[test]
fn augmentation_shifts_and_mirrors_but_keeps_labels() {
    let dataset = noise(32);
    let statistics = vec![(0.0, 1.0)];
    let source = fleetfoot_search::Source { images: dataset.train, statistics, placement: Layout::Nchw.into() };
    let collect = |augmentation: Option<Augmentation>, first: usize| -> Vec<(Vec<f32>, Vec<i64>)> {
        let mut feed = Feed::new(source.clone(), 1, 8, augmentation);
        let values = |t: &Tensor| Vec::<f32>::try_from(t.reshape([-1])).unwrap();
        let batches = (first..8).map(|step| feed.batch(step).unwrap());
        batches.map(|b| (values(&b.images), Vec::<i64>::try_from(&b.labels).unwrap())).collect()
    };
    let shake = Some(Augmentation { shift: 2, flip: true, ..Augmentation::default() });
    let (plain, shaken) = (collect(None, 0), collect(shake, 0));
    assert_eq!(plain.len(), 8);
    assert!(plain.iter().zip(&shaken).all(|(a, b)| a.1 == b.1 && a.0 != b.0));
    // Another epoch has another order, and can be taken up in its middle.
    assert!(shaken[..4].iter().zip(&shaken[4..]).all(|(a, b)| a != b));
    assert_eq!(collect(shake, 2), shaken[2..]);
    assert_eq!(collect(shake, 6), shaken[6..]);
}

#[test]
fn a_refined_network_meets_the_target_and_no_single_exchange_that_fits_is_better() {
    let space = tiny();
    let supernet = Supernet::new(&space, 3, Layout::ChannelsLast).unwrap();
    let (costs, limits) = (costs(), limits(7.0));
    let (x, labels) = images(64, 12);
    let batch = || fleetfoot_search::Batch { images: x.shallow_clone(), labels: labels.shallow_clone() };
    let judge = fleetfoot_search::Judge::new(&supernet, &limits, &CrossEntropy, vec![batch()]);
    let entropy = |choices: &[usize]| {
        let logits = no_grad(|| supernet.forward(&Path(choices.to_vec()), &x, Mode::Probe)).unwrap();
        cross_entropy(&logits, &labels, 0.0).unwrap().double_value(&[])
    };
    for start in ["3323", "3303", "1311"] {
        let refined = judge.refine(&start.parse().unwrap(), &mut |_| {}).unwrap();
        assert!(costs.latency_ms(&refined) <= 7.0);
        let choices: Vec<usize> = refined.choices().collect();
        let reached = entropy(&choices);
        for decision in 0..4 {
            for choice in 0..costs.rows[decision].len() {
                let mut other = choices.clone();
                other[decision] = choice;
                let fits = costs.latency_ms(&fleetfoot_space::Architecture::new(other.clone()).unwrap()) <= 7.0;
                assert!(!fits || entropy(&other) >= reached - 1e-6, "{start}: {refined} {other:?}");
            }
        }
    }
}
