//! Files of whole networks (CSV), in two spaces; a small one that is read is fitted.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use fleetfoot_predictor::{Evidence, NetworkModel, WholeNetworks};
use fleetfoot_space::SearchSpace;
use libfuzzer_sys::fuzz_target;

static SPACES: LazyLock<[SearchSpace; 2]> =
    LazyLock::new(|| ["fashion-28", "fbnet-32"].map(|name| SearchSpace::load(name).expect("it is there")));

fuzz_target!(|text: &str| {
    for space in &*SPACES {
        let Ok((networks, _)) = WholeNetworks::parse(text, Path::new("networks.csv"), space) else { continue };
        if (1..=12).contains(&networks.networks().len())
            && let Ok(model) = NetworkModel::fit(space, &networks, &Evidence::default())
        {
            for network in networks.networks() {
                let estimate = model.predict(&network.architecture).expect("it is of the space");
                assert!(estimate.low_ms.is_finite() && estimate.low_ms <= estimate.high_ms, "{estimate:?}");
            }
        }
    }
});
