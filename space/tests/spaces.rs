//! The presets are what the literature says, and the notations read back what they write.

use fleetfoot_space::{
    Architecture, Candidate, CandidateParseError, Network, Operator, OperatorKey, Precision, SearchSpace, Shape,
    SpaceError, preset_names,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn macs_and_params(space: &SearchSpace, text: &str) -> (u64, u64) {
    let (space, architecture) = space.resolve(text).unwrap();
    let network = space.network(&architecture).unwrap();
    (network.macs(), network.params())
}

#[test]
fn proxyless_224_has_the_published_macs() {
    let space = SearchSpace::load("proxyless-224").unwrap();
    let thousands = |text: &str| (macs_and_params(&space, text).0 + 500) / 1000;
    assert_eq!(thousands("k3e3"), 257_422);
    assert_eq!(thousands("k5e6"), 526_209);
    assert_eq!(thousands("k7e6"), 606_591);
    // The choices of the published mobile network, here with the space's own widths; and a neighbour of theirs.
    assert_eq!(thousands("206640225222322255445"), 304_227);
    assert_eq!(thousands("206640225322222255445"), 303_474);
    assert_eq!(space.decisions().len(), 21);
    assert_eq!(space.size(), 6f64.powi(6) * 7f64.powi(15));
}

#[test]
fn the_published_networks_have_their_macs_and_parameters() {
    let space = SearchSpace::load("proxyless-224").unwrap();
    assert_eq!(macs_and_params(&space, "proxyless-cpu"), (439_243_864, 4_361_648));
    assert_eq!(macs_and_params(&space, "proxyless-gpu"), (465_260_160, 7_119_848));
    assert_eq!(macs_and_params(&space, "proxyless-mobile"), (320_427_584, 4_080_512));
    assert_eq!(macs_and_params(&space, "proxyless-mobile-14"), (580_883_408, 6_857_568));
}

#[test]
fn mobilenetv2_has_the_published_macs_and_parameters_at_every_width() {
    let space = SearchSpace::load("mobilenetv2-224").unwrap();
    // Millions of multiply-accumulates in the authors' table (tensorflow/models, research/slim/nets/mobilenet), and what
    // each is by the definition; the parameters of 1 are those of torchvision's mobilenet_v2.
    for (name, millions, macs, params) in [
        ("mobilenetv2@0.35", 59, 59_285_808, 1_677_128),
        ("mobilenetv2@0.5", 97, 97_131_840, 1_968_680),
        ("mobilenetv2@0.75", 209, 209_069_792, 2_636_424),
        ("mobilenetv2", 300, 300_774_272, 3_504_872),
        ("mobilenetv2@1.3", 509, 509_374_560, 5_386_792),
        ("mobilenetv2@1.4", 582, 582_195_824, 6_108_776),
    ] {
        assert_eq!(macs_and_params(&space, name), (macs, params), "{name}");
        assert_eq!(macs / 1_000_000, millions, "{name}");
    }
    assert_eq!(space.decisions().len(), 16);
    let (wide, _) = space.resolve("mobilenetv2@1.4").unwrap();
    let widths: Vec<usize> = wide.decisions().iter().map(|decision| decision.c_out).collect();
    assert_eq!(widths, [32, 32, 48, 48, 48, 88, 88, 88, 88, 136, 136, 136, 224, 224, 224, 448]);
}

#[test]
fn a_width_multiplier_is_for_every_architecture_and_leaves_the_head_where_it_narrows() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let resolve = |text: &str| space.resolve(text).unwrap();
    let (half, architecture) = resolve("k3e6@0.5");
    assert_eq!(architecture, resolve("k3e6").1);
    assert_eq!(half.signature(), resolve("1111111111@0.5").0.signature());
    let heads = |text: &str| {
        let (space, _) = resolve(text);
        let unit = space.back()[0].key.operator;
        matches!(unit, Operator::Head { c_hidden, .. } if c_hidden == if text.ends_with("@2") { 512 } else { 256 })
    };
    assert!(["k3e6", "k3e6@0.5", "k3e6@2"].into_iter().all(heads));
    assert_eq!((half.input(), half.classes(), half.name()), (space.input(), space.classes(), space.name()));
    // What is as wide as the space is of the space.
    assert!(resolve("k3e6@1.0").0.is_as_wide_as(&space) && !half.is_as_wide_as(&space));
    assert_eq!(space.canonical("k3e6@0.50").unwrap(), "k3e6@0.5");
    assert_eq!(space.canonical("k3e6@1").unwrap(), "k3e6");
    assert!(matches!(space.resolve_own("k3e6@0.5"), Err(SpaceError::Widened { .. })));
    // Widths of one's own are multiplied, too.
    let proxyless = SearchSpace::load("proxyless-224").unwrap();
    let (wide, _) = proxyless.resolve("proxyless-cpu@2").unwrap();
    assert_eq!((wide.decisions()[0].input.c, wide.decisions()[0].c_out, wide.decisions()[20].c_out), (48, 64, 720));
}

#[test]
fn a_candidate_stays_itself_where_a_narrower_space_offers_the_identity_in_front_of_it() {
    let text = SearchSpace::load("fashion-28").unwrap().text().to_owned();
    let text = text.replace("candidates = [\"k3e3\", ", "candidates = [\"zero\", \"k3e3\", ");
    let text = text.replace("\"zero\"]", "\"k7e1\"]").split("# Names").next().unwrap().to_owned();
    let space = SearchSpace::from_toml(&text, "mine.toml").unwrap();
    // 24 and 40 channels become 8 and 8, at stride 1.
    let (narrow, architecture) = space.resolve("1111111111@0.2").unwrap();
    let chosen = |space: &SearchSpace, architecture: &Architecture| {
        space.choose(architecture).map(|(_, candidate)| candidate).collect::<Vec<_>>()
    };
    let (own, given) = space.resolve("1111111111").unwrap();
    assert_eq!(chosen(&narrow, &architecture), chosen(&own, &given));
    assert_ne!(architecture, given);
    assert!(narrow.decisions()[5].has_shortcut() && !space.decisions()[5].has_shortcut());
}

#[test]
fn what_is_no_width_multiplier_is_refused() {
    let space = SearchSpace::load("fashion-28").unwrap();
    for (text, why) in [
        ("k3e6@", "'' is no width multiplier"),
        ("k3e6@0", "such as 0.75"),
        ("k3e6@-2", "'-2' is no width multiplier"),
        ("k3e6@1e9", "'1e9' is no width multiplier"),
        ("k3e7@0.5", "'k3e7' has 4 choices"),
        ("k3e6@0.5@2", "'k3e6@0.5'"),
        ("111@0.5", "has 3 choices"),
    ] {
        let error = space.resolve(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let broad = edited("channels = 64", "channels = 20000").unwrap();
    let error = broad.resolve("k3e6@2").unwrap_err().to_string();
    assert!(error.contains("stages[3].channels times the width multiplier = 40000"), "{error}");
}

#[test]
fn fbnet_has_the_published_geometry() {
    let space = SearchSpace::load("fbnet-224").unwrap();
    // FBNet-A has 249 million multiply-accumulates and 4.3 million parameters (table 3 of the paper).
    assert_eq!(macs_and_params(&space, "fbnet-a"), (249_921_848, 4_321_464));
    for (name, side, classes) in [("fbnet-224", 224, 1000), ("fbnet-32", 32, 100)] {
        let space = SearchSpace::load(name).unwrap();
        assert_eq!(space.decisions().len(), 22);
        assert!(space.decisions().iter().all(|decision| decision.candidates.len() == 9));
        assert_eq!((space.input(), space.classes()), (Shape::new(1, 3, side, side), classes));
        let widths = space.decisions().iter().map(|decision| decision.c_out).collect::<Vec<_>>();
        assert_eq!((widths[0], widths[1], widths[13], widths[21]), (16, 24, 112, 352));
        let skips = |text: &str| {
            let (space, architecture) = space.resolve(text).unwrap();
            let network = space.network(&architecture).unwrap();
            network.units().iter().filter(|unit| unit.key.operator == Operator::Zero).count()
        };
        // Skip is the identity except where the stride or the width changes: in front of six stages.
        assert_eq!((skips("skip"), skips("k3e1")), (22 - 6, 0));
    }
}

#[test]
fn candidates_are_read_as_they_are_written() {
    for text in ["k3e1", "k3e1x", "k3e1xg2", "k5e6", "k7e3g4", "skip", "zero"] {
        assert_eq!(text.parse::<Candidate>().unwrap().to_string(), text);
    }
    for text in
        ["k3", "k3e", "k3e0", "k3e01", "k3e+6", "k3ex", "k3e2x", "k3e6g", "k3e6g1", "k3e6g0", "k2e6", "Skip", ""]
    {
        assert_eq!(text.parse::<Candidate>(), Err(CandidateParseError(text.to_owned())));
    }
    let shuffles = |text: &str| {
        let key: OperatorKey = format!("mbconv-k3-{text}@1x16x8x8:fp32").parse().unwrap();
        key.operator.layers().iter().filter(|part| part.name == "expand.shuffle").count()
    };
    assert_eq!((shuffles("e1-s1-i16-o16-g2"), shuffles("e1x-s1-i16-o16-g1"), shuffles("e1x-s1-i16-o16-g2")), (0, 0, 1));
}

#[test]
fn groups_that_no_width_has_are_refused() {
    let error = edited("\"k3e3\", \"k3e6\"", "\"k3e3\", \"k3e6g5\"").unwrap_err().to_string();
    assert!(error.contains("can't be divided into 5 groups"), "{error}");
}

#[test]
fn fashion_28_has_ten_decisions_and_the_stated_macs() {
    let space = SearchSpace::load("fashion-28").unwrap();
    assert_eq!(space.decisions().len(), 10);
    assert_eq!(macs_and_params(&space, "k3e3").0, 3_873_528);
    assert_eq!(macs_and_params(&space, "k3e6").0, 7_375_728);
    assert_eq!(macs_and_params(&space, "k7e6").0, 11_256_048);
    assert_eq!(macs_and_params(&space, "shallowest").0, 1_232_376);
    let zeros: Vec<bool> =
        space.decisions().iter().map(|decision| decision.candidates.contains(&Candidate::Zero)).collect();
    assert_eq!(zeros, [true, true, false, true, true, false, true, true, false, true]);
    let maps: Vec<usize> = space.decisions().iter().map(|decision| decision.input.h).collect();
    assert_eq!(maps, [14, 14, 14, 7, 7, 7, 7, 7, 7, 4]);
}

#[test]
fn every_preset_yields_logits_for_random_architectures() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for name in preset_names() {
        let space = SearchSpace::load(name).unwrap();
        for _ in 0..20 {
            let network = space.network(&space.random(&mut rng)).unwrap();
            assert_eq!(network.out_shape(), Shape::new(1, space.classes(), 1, 1));
            let expected = space.decisions().len() + space.front().len() + space.back().len();
            assert_eq!(network.units().len(), expected);
        }
    }
}

#[test]
fn a_network_apart_is_its_units_one_behind_the_other() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for name in preset_names() {
        let space = SearchSpace::load(name).unwrap();
        let network = space.network(&space.random(&mut rng)).unwrap();
        let mut parts = network.apart().into_iter();
        let mut input = network.input();
        let mut nodes = network.nodes().iter();
        // Identities have no layers.
        for unit in network.units().iter().filter(|unit| !unit.key.operator.layers().is_empty()) {
            let part = parts.next().unwrap();
            let mut alone = Network::empty(input, network.precision(), network.bn_eps());
            alone.push(&unit.name, unit.key.operator).unwrap();
            assert_eq!(part, alone, "{name}");
            part.nodes().iter().for_each(|node| assert_eq!(node.name, nodes.next().unwrap().name));
            input = part.out_shape();
        }
        assert_eq!((parts.len(), nodes.len(), input), (0, 0, network.out_shape()), "{name}");
    }
}

#[test]
fn equal_units_of_a_space_are_listed_once() {
    let space = SearchSpace::load("fashion-28").unwrap();
    // stem, first, head; stage 1 has one kind of block, stages 2 to 4 two, with six operators each.
    assert_eq!(space.distinct_units(1, Precision::Fp32).len(), 3 + 6 + 3 * 12);
}

fn edited(from: &str, to: &str) -> Result<SearchSpace, SpaceError> {
    let preset = SearchSpace::load("fashion-28").unwrap();
    let text = preset.text();
    assert!(text.contains(from), "the preset has no '{from}'");
    SearchSpace::from_toml(&text.replacen(from, to, 1), "mine.toml")
}

#[test]
fn impossible_spaces_are_refused_with_the_reason() {
    for (from, to, why) in [
        ("depth = 2", "depth = 0", "stages[0].depth = 0"),
        ("channels = 24", "channels = 0", "stages[1].channels = 0"),
        ("kernel = 3\nstride = 2", "kernel = 4\nstride = 2", "stem.kernel = 4"),
        ("\"k3e3\", ", "\"k3e3\", \"k3e3\", ", "k3e3 stands there twice"),
        ("\"k3e3\", ", "\"k4e3\", ", "unknown operator 'k4e3'"),
        ("\"k3e3\", ", "\"swish\", ", "unknown operator 'swish'"),
        ("classes = 10", "classes = -1", "classes"),
        ("classes = 10", "clases = 10", "clases"),
        ("k3e3 = \"0000000000\"", "k3e3 = \"000000000\"", "named architecture 'k3e3'"),
        (
            "[\"k3e3\", \"k3e6\", \"k5e3\", \"k5e6\", \"k7e3\", \"k7e6\", \"zero\"]",
            "[\"zero\"]",
            "no candidate but the identity",
        ),
    ] {
        let error = edited(from, to).unwrap_err().to_string();
        assert!(error.contains("mine.toml") && error.contains(why), "{to}: {error}");
    }
    assert!(SearchSpace::load("fashion-29").unwrap_err().to_string().contains("fashion-28"));
}

#[test]
fn a_mistake_in_a_file_is_named_with_its_line() {
    let error = edited("classes = 10", "classes = ten").unwrap_err().to_string();
    assert!(error.contains("line 4"), "{error}");
}

#[test]
fn architectures_of_another_space_are_refused() {
    let space = SearchSpace::load("fashion-28").unwrap();
    for (text, why) in [
        ("11111", "has 5 choices"),
        ("1161111111", "at position 3"),
        ("111111111!", "'!' at position 10"),
        ("", "0 choices"),
    ] {
        let error = space.resolve(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn a_width_multiplier_widens_every_stage() {
    let wide = edited("classes = 10", "classes = 10\nwidth_multiplier = 2.0").unwrap();
    assert_eq!(wide.decisions().last().unwrap().c_out, 128);
}

fn operator() -> impl Strategy<Value = Operator> {
    let number = 1usize..600;
    let kernel = (0usize..5).prop_map(|k| 2 * k + 1);
    prop_oneof![
        (kernel.clone(), 1usize..4, number.clone(), number.clone(), 1usize..4)
            .prop_map(|(kernel, stride, c_in, c_out, groups)| Operator::Conv { kernel, stride, c_in, c_out, groups }),
        (kernel, prop::option::of(1usize..9), 1usize..4, number.clone(), number.clone(), 1usize..4, any::<bool>())
            .prop_map(|(kernel, expansion, stride, c_in, c_out, groups, shortcut)| Operator::MbConv {
                kernel,
                expansion,
                stride,
                c_in,
                c_out,
                groups,
                shortcut
            }),
        (number.clone(), number.clone(), number).prop_map(|(c_in, c_hidden, classes)| Operator::Head {
            c_in,
            c_hidden,
            classes
        }),
        Just(Operator::Zero),
    ]
}

proptest! {
    #[test]
    fn keys_read_back_what_they_write(
        operator in operator(),
        extents in (1usize..9, 1usize..600, 1usize..300, 1usize..300),
        precision in prop_oneof![Just(Precision::Fp32), Just(Precision::Fp16), Just(Precision::Int8)],
    ) {
        let input = Shape::new(extents.0, extents.1, extents.2, extents.3);
        let key = OperatorKey { operator, input, precision };
        prop_assert_eq!(key.to_string().parse::<OperatorKey>().unwrap(), key);
    }

    #[test]
    fn architectures_read_back_what_they_write(choices in prop::collection::vec(0usize..36, 0..40)) {
        let architecture = Architecture::new(choices).unwrap();
        prop_assert_eq!(architecture.to_string().parse::<Architecture>().unwrap(), architecture);
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in "\\PC{0,60}") {
        let _ = text.parse::<OperatorKey>();
        let _ = text.parse::<Architecture>();
        let _ = text.parse::<Candidate>();
        let _ = SearchSpace::from_toml(&text, "text");
    }
}
