//! Let chains, such as `if a && let Some(b) = c`, need Rust 1.88. Clippy compares functions of the standard library
//! with the `rust-version` of a crate, but no syntax.

use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{Visit, visit_expr_binary};

use super::source::{crate_roots, home, rust_files};

/// The first version of Rust with let chains, without the leading `1.`.
const FIRST: u32 = 88;

/// The lines of let chains.
#[derive(Default)]
struct Chains(Vec<usize>);

impl Visit<'_> for Chains {
    fn visit_expr_binary(&mut self, binary: &syn::ExprBinary) {
        let sides = [&*binary.left, &*binary.right];
        self.0
            .extend(sides.iter().filter(|side| matches!(side, syn::Expr::Let(_))).map(|side| side.span().start().line));
        visit_expr_binary(self, binary);
    }
}

fn chains(text: &str) -> Vec<usize> {
    let mut chains = Chains::default();
    chains.visit_file(&syn::parse_file(text).unwrap());
    chains.0
}

/// Returns true if the manifest states a version of Rust without let chains.
fn is_for_earlier_versions(manifest: &Path) -> bool {
    let text = fs::read_to_string(manifest).unwrap();
    let version = text.lines().find_map(|line| line.strip_prefix("rust-version = \"1.")).unwrap();
    version.trim_end_matches('"').parse::<u32>().unwrap() < FIRST
}

#[test]
fn crates_for_earlier_versions_of_rust_have_no_let_chains() {
    let is_earlier = |src: &&PathBuf| is_for_earlier_versions(&src.with_file_name("Cargo.toml"));
    let roots = crate_roots();
    let earlier: Vec<_> = roots.iter().filter(|root| root.ends_with("src")).filter(is_earlier).collect();
    assert!(earlier.contains(&&home().join("src")), "this crate is for Rust 1.85: {earlier:?}");
    for file in earlier.into_iter().flat_map(|root| rust_files(root)) {
        let lines = chains(&fs::read_to_string(&file).unwrap());
        assert!(lines.is_empty(), "{}: lines {lines:?}: let chains need Rust 1.{FIRST}", file.display());
    }
}

#[test]
fn a_let_chain_is_found() {
    let chain = |condition: &str| chains(&format!("fn f() {{\n    if {condition} {{}}\n}}"));
    for found in ["a && let Some(b) = c", "let Some(b) = c && a", "a && b && let Some(c) = d && e"] {
        assert_eq!(chain(found), [2], "{found}");
    }
    for plain in ["a && b", "let Some(b) = c", "let Some(b) = (c && d)"] {
        assert_eq!(chain(plain), [0; 0], "{plain}");
    }
}
