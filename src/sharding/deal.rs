//! What is dealt out to whom.

use fleetfoot_console::{Shard, usage};

/// Networks or units that everybody measures, besides the empty graph.
pub const REFERENCES: usize = 7;

/// Positions of the subjects that each one measures: the references, and its share of the others. `common` of them, such as an empty graph,
/// stand in front and are everybody's.
pub fn deal(subjects: usize, parts: usize, common: usize, references: usize) -> Vec<Vec<usize>> {
    let networks = subjects.saturating_sub(common);
    let references = references.min(networks);
    let is_reference =
        |index: usize| (0..references).any(|which| index == common + (2 * which + 1) * networks / (2 * references));
    let mut deals = vec![Vec::new(); parts];
    let mut next = 0;
    for index in 0..subjects {
        if index < common || is_reference(index) {
            deals.iter_mut().for_each(|deal| deal.push(index));
        } else {
            deals[next % parts].push(index);
            next += 1;
        }
    }
    deals
}

/// Positions of the subjects that a shard measures. References are no more than a share is: nobody measures twice as much for them.
pub fn deal_for(shard: Shard, subjects: usize, common: usize) -> anyhow::Result<Vec<usize>> {
    let networks = subjects.saturating_sub(common);
    if shard.of() > networks {
        return Err(usage(format!(
            "--shard {shard}: there are only {networks} to deal out: wanted at most {networks} shards"
        )));
    }
    let references = REFERENCES.min(networks / shard.of());
    Ok(deal(subjects, shard.of(), common, references).swap_remove(shard.index() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_dealt_out_once_and_references_to_all() {
        for (subjects, devices) in [(85, 2), (85, 3), (9, 2), (4, 5)] {
            let deals = deal(subjects, devices, 1, REFERENCES);
            let count = |index: usize| deals.iter().filter(|deal| deal.contains(&index)).count();
            assert!((0..subjects).all(|index| count(index) == 1 || count(index) == devices));
            assert_eq!(count(0), devices, "the empty graph");
            let references = (1..subjects).filter(|index| count(*index) == devices).count();
            assert_eq!(references, REFERENCES.min(subjects - 1));
            let most = deals.iter().map(Vec::len).max().unwrap();
            let least = deals.iter().map(Vec::len).min().unwrap();
            assert!(most - least <= 1, "{deals:?}");
        }
    }

    #[test]
    fn every_shard_has_something_to_measure_and_together_they_have_all() {
        for (subjects, common) in [(85, 1), (20, 0), (9, 0), (10, 1)] {
            for of in 1..=9 {
                let deals: Vec<Vec<usize>> =
                    (1..=of).map(|index| deal_for(Shard::new(index, of).unwrap(), subjects, common).unwrap()).collect();
                assert!((0..subjects).all(|position| deals.iter().any(|deal| deal.contains(&position))));
                assert!(deals.iter().all(|deal| deal.is_sorted() && deal.len() > common));
                let most = deals.iter().map(Vec::len).max().unwrap() - common;
                assert!(most <= 2 * (subjects - common).div_ceil(of), "{subjects} by {of}: {most}");
            }
        }
        let refused = deal_for(Shard::new(1, 9).unwrap(), 8, 0).unwrap_err().to_string();
        assert!(refused.contains("only 8") && refused.contains("at most 8 shards"), "{refused}");
    }
}
