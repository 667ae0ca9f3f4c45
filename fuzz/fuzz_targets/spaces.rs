//! Search spaces (TOML): what is read can be walked, and a network of it written.

#![no_main]

use fleetfoot_space::{Architecture, Precision, SearchSpace};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(space) = SearchSpace::from_toml(text, "space.toml") else { return };
    let again = SearchSpace::from_toml(space.text(), "again.toml").expect("its text is a space");
    assert_eq!(again.signature(), space.signature());
    let _ = (space.size(), space.distinct_units(1, Precision::Fp32));
    let names: Vec<String> = space.architecture_names().map(str::to_owned).collect();
    for name in names {
        let _ = space.resolve(&name);
    }
    if let Some(first) = Architecture::new(vec![0; space.decisions().len()])
        && let Ok(network) = space.network(&first)
    {
        let _ = (network.macs(), network.params());
    }
});
