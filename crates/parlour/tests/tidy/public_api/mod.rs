//! The public API of the library is the one that `api.txt` lists, so that no change of it goes unseen.
//!
//! The listing is made from the source alone. It does not know the auto traits `Send`, `Sync` and the like.

mod listing;
mod modules;
mod names;
mod tests;
mod text;

use std::collections::HashSet;
use std::fs;

use super::source::home;

/// Lists the API of the crate of this name, whose files `read` gives by their paths below `src`.
fn list(name: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    listing::list(&modules::Crate::parse(name, read))
}

/// Lines that are in one listing only, each after `-` if it is the old one and after `+` if it is the new one.
fn difference(old: &str, new: &str) -> Vec<String> {
    let (in_old, in_new): (HashSet<_>, HashSet<_>) = (old.lines().collect(), new.lines().collect());
    let mut new_lines = new.lines().peekable();
    let mut changes = Vec::new();
    for line in old.lines() {
        if !in_new.contains(line) {
            changes.push(format!("- {line}"));
            continue;
        }
        while let Some(added) = new_lines.next_if(|added| !in_old.contains(added)) {
            changes.push(format!("+ {added}"));
        }
        new_lines.next();
    }
    changes.extend(new_lines.filter(|line| !in_old.contains(line)).map(|line| format!("+ {line}")));
    changes
}

#[test]
fn the_committed_listing_is_the_public_api() {
    let path = home().join("api.txt");
    let lines = list("parlour", &|file| fs::read_to_string(home().join("src").join(file)).ok());
    let listing = lines.join("\n") + "\n";
    if std::env::var_os("PARLOUR_BLESS").is_some() {
        fs::write(&path, &listing).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == listing,
        "The public API is not what crates/parlour/api.txt lists:\n{}\nTo accept it: \
         PARLOUR_BLESS=1 cargo test -p parlour --test tidy",
        difference(&committed, &listing).join("\n")
    );
}
