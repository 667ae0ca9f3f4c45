//! A part of a table: some of its subjects, measured on one device.

use anyhow::Result;
use fleetfoot_profiler::{Agent, Conditions, NodeProfile, Plan, Spent, Subject};
use fleetfoot_space::SearchSpace;

use crate::measuring::{self, Disturbed, Measured, Output, What};
use crate::sharding::Part;
use crate::tabulating::Work;

/// Measures the subjects at these positions, for whom the part is named.
pub fn measure(
    agent: &mut Agent,
    (space, all): (&SearchSpace, &Work),
    (name, positions): (String, Vec<usize>),
    (plan, conditions): (&Plan, &Conditions),
    what: What<'_>,
    output: Output,
) -> Result<(Part, Spent)> {
    let (profiles, output) = match all.profiled() {
        Some(networks) => measuring::node_profiles(agent, &networks.part(&positions), plan, what, conditions, output)?,
        None => (Vec::new(), output),
    };
    let subjects: Vec<Subject> = positions.iter().map(|position| all.subjects()[*position].clone()).collect();
    let measured = measuring::measure(agent, &subjects, plan, what, conditions, Some(&output))?;
    let mut head = measuring::provenance(agent, conditions, plan, measured.provider_share.as_ref());
    head.set("space", space.name());
    measured.to_provenance(plan, &mut head);
    let among_all = |profile: NodeProfile| {
        let subject = positions.get(profile.subject as usize).copied().unwrap_or_default() as u32;
        NodeProfile { subject, ..profile }
    };
    let profiles = profiles.into_iter().map(among_all).collect();
    let Measured { subjects: measured, course, leads, never_quiet, contention, .. } = measured;
    let spent = course.spent();
    let disturbed = Disturbed { windows: spent.disturbed_windows, never_quiet };
    let conditions = conditions.clone();
    Ok((Part { name, positions, conditions, head, measured, leads, disturbed, profiles, contention }, spent))
}
