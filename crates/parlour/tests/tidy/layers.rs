//! Which part may use which: what is below, and never what is above.

use super::source::{Source, library};

/// The parts from the bottom up. Each may use those of the lines above it here, and its own; those of the first use nobody.
const LAYERS: &[&[&str]] = &[
    &["wire", "sys", "shm", "transport", "limits", "wait", "backoff"],
    &["owner"],
    &["error", "address", "message", "peer", "shared_bytes"],
    &["name"],
    &["admission", "poller"],
    &["backend"],
    &["activation"],
    &["sender", "receiver"],
    &["connection", "bare"],
    &["connect", "server", "options", "typed"],
    &["inspect", "hub", "tokio"],
];

/// What goes up all the same, each with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    // What a user sets is handed down whole.
    ("backend", "options::ClientFilePolicy"),
    ("connection", "options::ConnectOptions"),
    // Both halves have what they share from the channel.
    ("sender", "connection"),
    ("receiver", "connection"),
];

/// Everything of this crate that a file names, as paths from its root.
fn uses(source: &Source) -> Vec<String> {
    let depth = source.modules().len();
    let to_root = ["crate::".to_owned(), "super::".repeat(depth)];
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut paths = Vec::new();
    for prefix in to_root.iter().filter(|prefix| !prefix.is_empty()) {
        for (at, _) in source.code.match_indices(prefix.as_str()) {
            let before = source.code[..at].chars().next_back();
            if before.is_some_and(|c| is_word(c) || c == ':') {
                continue;
            }
            let rest = &source.code[at + prefix.len()..];
            let end = rest.find(|c| !is_word(c) && c != ':').unwrap_or(rest.len());
            let path = rest[..end].trim_end_matches(':');
            // `crate::{a, b}` would hide from this.
            assert!(!path.is_empty(), "src/{}: name modules of the crate one by one: {prefix}{rest:.20}", source.path);
            paths.push(path.to_owned());
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn is_exception(own: &str, path: &str) -> bool {
    EXCEPTIONS.iter().any(|&(module, allowed)| {
        module == own && path.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    })
}

/// What is wrong with the uses of a file.
fn violations(source: &Source) -> Vec<String> {
    let Some(own) = source.modules().first().map(|module| (*module).to_owned()) else { return Vec::new() };
    let Some(height) = layer(&own) else {
        return vec![format!("src/{}: {own} has no place among the layers of tests/tidy/layers.rs", source.path)];
    };
    let goes_up = |path: &String| {
        let used = path.split(':').next().unwrap();
        match layer(used) {
            _ if used == own => false,
            // What is not a module is re-exported by the front page, from anywhere.
            None => true,
            Some(other) => other > height || (height == 0 && other == 0),
        }
    };
    uses(source)
        .into_iter()
        .filter(|path| goes_up(path) && !is_exception(&own, path))
        .map(|path| format!("src/{} uses {path}", source.path))
        .collect()
}

#[test]
fn no_part_uses_what_is_above_it() {
    let wrong: Vec<String> = library().iter().flat_map(violations).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Who does not turn the feature on pays nothing for it, and reads nothing of it.
#[test]
fn only_the_api_for_tokio_knows_of_tokio() {
    for source in library() {
        let may =
            source.path.starts_with("tokio/") || ["lib.rs", "sys/mod.rs", "sys/readiness.rs"].contains(&&*source.path);
        let found = source.lines_with("tokio");
        assert!(may || found.is_empty(), "{found:#?}");
    }
}

/// What is built on the library is above it: other languages go through its public API.
#[test]
fn the_library_knows_nothing_of_the_one_for_c() {
    for source in library() {
        let found: Vec<String> =
            ["parlour_c", "parlour_server", "no_mangle"].iter().flat_map(|needle| source.lines_with(needle)).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
    let manifest = std::fs::read_to_string(super::source::home().join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("parlour-c") && !manifest.contains("cbindgen"));
}

#[test]
fn every_exception_is_still_needed() {
    let sources = library();
    for &(module, allowed) in EXCEPTIONS {
        let needed = sources.iter().any(|source| {
            source.modules().first() == Some(&module) && uses(source).iter().any(|path| path.starts_with(allowed))
        });
        assert!(needed, "{module} does not use {allowed} any more");
    }
}

#[test]
fn wire_knows_neither_files_nor_descriptors_nor_time() {
    for needle in ["std::fs", "std::os", "std::net", "std::io", "rustix", "libc", "Instant", "SystemTime", "unsafe"] {
        let wrong: Vec<String> = library()
            .iter()
            .filter(|source| source.path.starts_with("wire/"))
            .flat_map(|source| source.lines_with(needle))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn wire_and_name_and_backend_are_there_to_be_looked_at() {
    for part in ["wire/", "sys/", "name/", "backend/"] {
        assert!(library().iter().any(|source| source.path.starts_with(part)), "there is no {part}");
    }
}

#[test]
fn a_use_that_goes_up_is_found_however_it_is_spelled() {
    let found = |path: &str, text: &str| violations(&Source::new(path, text)).len();
    assert_eq!(found("wire/a.rs", "use crate::sys::fork;"), 1);
    assert_eq!(found("wire/a.rs", "fn f() { super::super::error::Error::new() }"), 1);
    assert_eq!(found("wire/mod.rs", "use super::error::Error;"), 1);
    assert_eq!(found("wire/a.rs", "use super::nonce::Nonce; use crate::wire::frame;"), 0);
    assert_eq!(found("name/lock.rs", "use crate::server::Server;"), 1);
    assert_eq!(found("name/lock.rs", "use crate::backend::fifo;"), 1);
    assert_eq!(found("name/lock.rs", "use crate::transport::Transport; use super::directory;"), 0);
    assert_eq!(found("name/lock.rs", "use crate::Server;"), 1);
    assert_eq!(found("backend/fifo/listen.rs", "use super::super::super::server::Server;"), 1);
    assert_eq!(found("sender.rs", "use super::server::Server;"), 1);
    assert_eq!(found("new.rs", ""), 1);
    assert_eq!(found("lib.rs", "pub use server::Server;"), 0);
}
