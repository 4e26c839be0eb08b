//! Checks of the source: which layer may use which, where unsafe code is, which calls the library never makes, and that
//! the tests and the files that the documents name exist.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/let_chains.rs"]
mod let_chains;
#[path = "tidy/links.rs"]
mod links;
#[path = "tidy/machine.rs"]
mod machine;
#[path = "tidy/never.rs"]
mod never;
#[path = "tidy/public_api/mod.rs"]
mod public_api;
#[path = "tidy/source.rs"]
mod source;
