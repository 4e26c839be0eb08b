//! A simulation of several hosts with their bridges, servers and clients, driven by a seed: kills, stops, cuts, delays,
//! restarts, and connections that overtake each other. It checks the promise of a conversation, word for word.
//!
//! `PARLOUR_TEST_SEED=7` repeats one run, and `PARLOUR_BRIDGE_SEEDS=10000` makes that many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "simulation/bridge.rs"]
mod bridge;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/sockets.rs"]
mod sockets;
#[path = "simulation/talker.rs"]
mod talker;
#[path = "simulation/world.rs"]
mod world;

use world::{Faults, World};

/// Runs a test with each seed, and names the seed of one that fails.
fn for_each_seed(count: u64, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("PARLOUR_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PARLOUR_BRIDGE_SEEDS").unwrap_or(count),
    };
    for seed in seeds {
        if let Err(failure) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("the seed that failed: PARLOUR_TEST_SEED={seed}");
            std::panic::resume_unwind(failure);
        }
    }
}

#[test]
fn each_side_receives_a_prefix_whole_in_order_at_most_once_and_a_clean_end_only_after_everything() {
    for_each_seed(24, |seed| {
        let mut world = World::new(seed, Faults::All);
        world.run();
        world.check_promise();
    });
}

#[test]
fn without_faults_everything_arrives_and_every_end_is_clean() {
    for_each_seed(8, |seed| {
        let mut world = World::new(seed, Faults::None);
        world.run();
        world.check_promise();
        world.check_completeness();
    });
}

#[test]
fn a_bridge_that_stops_is_noticed_within_the_lease() {
    for_each_seed(8, |seed| World::new(seed, Faults::Stop).check_stop());
}

#[test]
fn the_documents_state_the_promise_word_for_word() {
    const PROMISE: &str = "Each side receives a prefix of what the other sent, whole, in order, at most once; `None` \
                           only if the other side ended that direction and everything has arrived; else an error.";
    const EXCEPTION: &str = "the death of one's own local bridge looks like the death of a local server";
    let documents = [
        include_str!("../../../docs/bridge.md"),
        include_str!("../../../docs/wire-bridge.md"),
        include_str!("../../../THREAT_MODEL.md"),
    ];
    for document in documents {
        let text: Vec<&str> = document.split_whitespace().filter(|word| *word != ">").collect();
        assert!(text.join(" ").contains(PROMISE) && text.join(" ").contains(EXCEPTION));
    }
}

#[test]
fn a_seed_repeats_its_run() {
    for_each_seed(2, |seed| {
        let history = || {
            let mut world = World::new(seed, Faults::All);
            world.run();
            world.history()
        };
        assert_eq!(history(), history());
    });
}
