//! Whether parts are all of one result, each once.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};
use fleetfoot_console::{Shard, listed};

use super::deal::deal_for;
use super::file::PartFile;

/// So many missing shards are named.
const SHOWN: usize = 12;

/// Puts the parts in order; an error where one is missing, doubled, or of something else.
pub fn complete(parts: Vec<PartFile>) -> Result<Vec<PartFile>> {
    let mut in_order: BTreeMap<usize, PartFile> = BTreeMap::new();
    let Some(first) = parts.first().cloned() else { bail!("no parts: nothing to merge") };
    let shown = |part: &PartFile| part.path.display().to_string();
    for part in parts {
        if part.content.kind() != first.content.kind() {
            let (ours, theirs) = (first.content.kind(), part.content.kind());
            bail!("{} is of {ours}, {} of {theirs}: merge parts of one result", shown(&first), shown(&part));
        }
        if let Some(difference) = first.configuration.difference(&part.configuration) {
            bail!(
                "{} and {} are of different results ({difference}): merge parts that were measured by the same command but for --shard",
                shown(&first),
                shown(&part)
            );
        }
        if part.shard.of() != first.shard.of() {
            bail!(
                "{} is one of {} shards, {} one of {}: merge those of one number, without the others",
                shown(&first),
                first.shard.of(),
                shown(&part),
                part.shard.of()
            );
        }
        if let Some(same) = in_order.insert(part.shard.index(), part) {
            let other = in_order.get(&same.shard.index()).map(shown).unwrap_or_default();
            bail!("{} and {other} are both shard {}: leave one of them out", shown(&same), same.shard);
        }
    }
    let of = first.shard.of();
    let missing = (1..=of).filter(|index| !in_order.contains_key(index)).filter_map(|index| Shard::new(index, of));
    let missing: Vec<String> = missing.map(|shard| format!("--shard {shard}")).collect();
    if !missing.is_empty() {
        bail!("{} of {of} shards are missing: run the command again with {}", missing.len(), listed(&missing, SHOWN));
    }
    Ok(in_order.into_values().collect())
}

/// Whether each part holds what was dealt to it of so many subjects, of which `common` are everybody's.
pub fn check_dealt(parts: &[PartFile], subjects: usize, common: usize) -> Result<()> {
    for part in parts {
        let dealt =
            deal_for(part.shard, subjects, common).map_err(|error| anyhow!("{}: {error}", part.path.display()))?;
        let is_known = |subject: usize| part.part.positions.contains(&subject);
        if part.part.positions != dealt || !part.part.profiles.iter().all(|profile| is_known(profile.subject as usize))
        {
            bail!(
                "{} holds other subjects than shard {} has: measure it again with --shard {} --force",
                part.path.display(),
                part.shard,
                part.shard
            );
        }
    }
    Ok(())
}
