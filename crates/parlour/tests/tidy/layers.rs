//! The order of the layers: a file imports files of its own layer and of lower layers, and there is no cycle of
//! imports.

use super::imports::Imports;
use super::source::{Source, crate_roots, library, sources_of};

/// The layers of the library from the bottom up. An entry is a file, or a directory with everything in it.
const LAYERS: &[&[&str]] = &[
    // Bytes, system calls, constants: no knowledge of names or connections.
    &["wire/", "sys/", "transport.rs", "limits.rs", "wait.rs", "wait_fd.rs", "backoff.rs", "escape.rs"],
    &["shm/"],
    // The types that the public API shares.
    &[
        "owner.rs",
        "loss.rs",
        "error.rs",
        "address.rs",
        "peer.rs",
        "stats.rs",
        "shared_bytes.rs",
        "message.rs",
        "payload.rs",
    ],
    &["name/"],
    &["admission.rs", "poller.rs", "standby.rs"],
    &["backend/"],
    // Established connections, and the options.
    &["endpoint.rs", "sender.rs", "receiver.rs", "connection.rs", "batch.rs", "options.rs"],
    &["raw_parts.rs", "pair.rs", "child.rs", "connect/", "server/", "typed/"],
    &["session/"],
    &["inspect/", "hub/", "tokio/", "calls/", "testing/", "frames/"],
    &["typed_hub.rs"],
    &["fuzzing/", "lib.rs"],
];

/// Returns the index of the layer of a file.
fn layer(path: &str) -> Option<usize> {
    let is_in = |part: &&str| path == *part || (part.ends_with('/') && path.starts_with(part));
    LAYERS.iter().position(|layer| layer.iter().any(is_in))
}

/// Returns the imports of files in higher layers, and the files that belong to no layer.
fn violations(sources: &[Source]) -> Vec<String> {
    let imports = Imports::of(sources);
    let mut violations = Vec::new();
    for source in sources {
        let Some(own) = layer(&source.path) else {
            violations.push(format!("src/{} belongs to no layer of tests/tidy/layers.rs", source.path));
            continue;
        };
        let upwards = imports.from(source).into_iter().filter(|path| layer(path).is_some_and(|other| other > own));
        violations.extend(upwards.map(|path| format!("src/{} imports src/{path}, of a higher layer", source.path)));
    }
    violations
}

#[test]
fn no_file_imports_one_of_a_higher_layer() {
    let violations = violations(&library());
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn no_crate_has_a_cycle_of_imports() {
    for root in crate_roots() {
        let sources = sources_of(&root);
        let cycle = Imports::of(&sources).cycle();
        assert!(cycle.is_none(), "{}: each of these files imports the next: {cycle:?}", root.display());
    }
}

#[test]
fn an_import_of_a_higher_layer_is_found() {
    let found = |path: &str, code: &str| {
        let library = library();
        let others = library.into_iter().filter(|source| source.path != path);
        let sources: Vec<_> = others.chain([Source::new(path, code)]).collect();
        violations(&sources).len()
    };
    assert_eq!(found("name/lock.rs", "use crate::server::Server;"), 1);
    assert_eq!(found("name/lock.rs", "use crate::transport::Transport; use super::directory;"), 0);
    assert_eq!(found("sender.rs", "fn f() { crate::connect::connect() }"), 1);
    assert_eq!(found("backend/fifo/listen.rs", "use super::super::super::connection::Connection;"), 1);
    assert_eq!(found("name/lock.rs", "use crate::Server;"), 1);
    assert_eq!(found("new.rs", ""), 1);
}

/// Users who do not enable the feature do not pay for it, and readers do not meet it.
#[test]
fn only_the_api_for_tokio_knows_of_tokio() {
    for source in library() {
        let may =
            source.path.starts_with("tokio/") || ["lib.rs", "sys/mod.rs", "sys/readiness.rs"].contains(&&*source.path);
        let found = source.lines_with("tokio");
        assert!(may || found.is_empty(), "{found:#?}");
    }
}

/// Bindings for other languages are built on the public API of the library.
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
fn the_checked_layers_are_not_empty() {
    for part in ["wire/", "sys/", "name/", "backend/"] {
        assert!(library().iter().any(|source| source.path.starts_with(part)), "no file in {part}");
    }
}
