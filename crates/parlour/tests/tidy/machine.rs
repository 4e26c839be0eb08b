//! No test uses a name of the machine on which it runs.

use std::fs;

use super::source::{blank, home, rust_files};

/// The paths of the default bases, and the step that makes a command use them.
const WAYS: [&str; 4] = ["/run/parlour", "/run/user/", "/tmp/parlour-{", "env_remove(\"PARLOUR_DIR\")"];

/// The files that hide the real directories from a test before they use these paths.
const ALLOWED: [&str; 3] = [
    "parlour/tests/support/own_machine.rs",
    "parlour-cli/tests/common/own_machine.rs",
    // This file.
    "parlour/tests/tidy/machine.rs",
];

fn ways_in(text: &str) -> Vec<&'static str> {
    let code = blank(text, true);
    WAYS.into_iter().filter(|way| code.contains(way)).collect()
}

#[test]
fn no_test_uses_a_default_base_of_the_machine() {
    let crates = home().parent().unwrap();
    let mut found = 0;
    for member in fs::read_dir(crates).unwrap() {
        let directory = member.unwrap().path().join("tests");
        let files = if directory.is_dir() { rust_files(&directory) } else { Vec::new() };
        for file in files {
            let path = file.strip_prefix(crates).unwrap().to_str().unwrap();
            let ways = ways_in(&fs::read_to_string(&file).unwrap());
            found += usize::from(!ways.is_empty());
            let advice = "declare the trial with #[own_machine], and use support/own_machine.rs";
            assert!(ways.is_empty() || ALLOWED.contains(&path), "{path} uses {ways:?}: {advice}");
        }
    }
    assert!(found > 1, "the paths have changed");
}

#[test]
fn a_path_in_a_test_is_found_but_not_one_in_a_comment() {
    assert_eq!(ways_in("// /run/parlour\nlet base = \"/run/user/5\"; command.env_remove(\"PARLOUR_DIR\");").len(), 2);
    assert!(ways_in("/// In /run/user and /run/parlour.\nlet base = \"/run\";").is_empty());
}
