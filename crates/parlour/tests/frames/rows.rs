//! The threat model names every trial with a hostile or killed side, or another user. `hostile/rows.rs` maps them to
//! the attacks.

use super::{death, hostile_publisher, hostile_reader, users};
use crate::support::{declare, trials};

const THREAT_MODEL: &str = include_str!("../../THREAT_MODEL.md");

trials! {
    the_threat_model_names_every_trial_with_a_hostile_or_a_killed_side,
}

fn the_threat_model_names_every_trial_with_a_hostile_or_a_killed_side() {
    let trials = declare::all(&[death::trials, hostile_publisher::trials, hostile_reader::trials, users::trials]);
    assert!(trials.len() > 20, "{}", trials.len());
    for trial in trials {
        let name = trial.name().rsplit("::").next().unwrap();
        assert!(THREAT_MODEL.contains(&format!("Test: frames.rs: `{name}`")), "{name} belongs to no attack");
    }
}
