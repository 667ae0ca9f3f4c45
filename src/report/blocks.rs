//! A network as the row of blocks that its picture shows.

use anyhow::Result;
use fleetfoot_space::{Architecture, Candidate, Network, Operator, SearchSpace, Shape, Unit};

use super::summary::Block;

/// The fixed blocks and the chosen ones, from input to output.
pub fn blocks(space: &SearchSpace, architecture: &Architecture) -> Result<Vec<Block>> {
    let mut blocks = space.front().iter().map(|unit| fixed(unit, space)).collect::<Result<Vec<_>>>()?;
    for (decision, candidate) in space.choose(architecture) {
        let unit = Unit { name: decision.name.clone(), key: decision.key(candidate, Default::default()) };
        blocks.push(Block {
            stage: Some(decision.stage + 1),
            candidates: decision.candidates.iter().map(Candidate::to_string).collect(),
            chosen: Some(candidate.to_string()),
            ..fixed(&unit, space)?
        });
    }
    for unit in space.back() {
        blocks.push(fixed(unit, space)?);
    }
    Ok(blocks)
}

/// A block that nobody chose.
fn fixed(unit: &Unit, space: &SearchSpace) -> Result<Block> {
    let Shape { c, h, w, .. } = Network::of_unit(&unit.key, space.bn_eps())?.out_shape();
    let (label, kernel, expansion, stride) = match unit.key.operator {
        Operator::Conv { kernel, stride, .. } => (format!("Conv {kernel}×{kernel}"), Some(kernel), None, stride),
        Operator::MbConv { kernel, expansion, stride, .. } => {
            let ratio = expansion.unwrap_or(1);
            (format!("MB{ratio} {kernel}×{kernel}"), Some(kernel), Some(ratio), stride)
        }
        Operator::Head { .. } => ("Pooling FC".to_owned(), None, None, 1),
        Operator::Zero => ("zero".to_owned(), None, None, 1),
    };
    Ok(Block {
        name: unit.name.clone(),
        label,
        stage: None,
        candidates: Vec::new(),
        chosen: None,
        zero: unit.key.operator == Operator::Zero,
        kernel,
        expansion,
        stride,
        channels: c,
        height: h,
        width: w,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_of_blocks_is_the_published_network() {
        let space = SearchSpace::load("proxyless-224").unwrap();
        let (space, architecture) = space.resolve("proxyless-mobile").unwrap();
        let blocks = blocks(&space, &architecture).unwrap();
        let labels: Vec<&str> = blocks.iter().take(6).map(|block| block.label.as_str()).collect();
        assert_eq!(labels, ["Conv 3×3", "MB1 3×3", "MB3 5×5", "MB3 3×3", "zero", "zero"]);
        let last = &blocks[blocks.len() - 2];
        assert_eq!((last.label.as_str(), last.channels, last.height), ("MB6 7×7", 320, 7));
        assert_eq!(blocks.iter().map(|block| block.stride).product::<usize>(), 32);
    }
}
