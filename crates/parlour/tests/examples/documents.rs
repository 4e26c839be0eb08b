//! The servers that the documents show are those of the examples, line by line.

use std::fs;
use std::path::{Path, PathBuf};

use crate::built::home;
use crate::support::trials;

trials! {
    the_servers_of_the_documents_are_those_of_the_examples,
    the_programs_of_the_project_s_readme_are_compiled_elsewhere,
    a_server_that_is_in_no_example_is_found,
}

/// A part of a server that takes clients or their messages.
const SERVES: [&str; 4] = [".incoming()", "accept()", ".serve(", "next_event()"];

/// Returns the significant lines of Rust code: without comments, blanks and the hidden lines of documentation.
fn lines(code: &str) -> Vec<&str> {
    let code = code.lines().map(|line| line.split(" // ").next().unwrap().trim());
    code.filter(|line| !line.is_empty() && !line.starts_with("//") && *line != "#" && !line.starts_with("# ")).collect()
}

/// Returns the blocks of Rust code in a document, or in the comments of a source file, except those that run as tests
/// of the documentation. These contain their only client.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        let line = line.trim_start();
        let line = ["//!", "///"].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line).trim();
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some((matches!(kind, "rust" | "no_run" | "rust,no_run"), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take().filter(|block| block.0).map(|block| block.1)),
            (None, Some((_, code))) => *code += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    blocks
}

/// Returns the blocks that serve and whose lines are not in one of these programs. A block that makes a base of its own
/// runs as a test, and contains its only clients. One that shows the sockets of the standard library is no server of
/// this library.
fn strangers(text: &str, programs: &[String]) -> Vec<String> {
    let serves = |block: &String| SERVES.iter().any(|part| lines(block).iter().any(|line| line.contains(part)));
    let makes_base = ["let base = tempfile::tempdir()?;", "let base = Base::new()?;"];
    let is_alone = |block: &String| {
        makes_base.iter().any(|line| block.contains(line)) || block.contains("std::os::unix::net::{UnixListener")
    };
    blocks(text).into_iter().filter(|block| serves(block) && !is_alone(block) && !is_known(block, programs)).collect()
}

/// Returns true if one of these programs contains all lines of a block, in order.
fn is_known(block: &str, programs: &[String]) -> bool {
    let block = lines(block);
    programs.iter().any(|program| lines(program).windows(block.len()).any(|part| part == block))
}

fn examples() -> Vec<String> {
    let mut programs = Vec::new();
    files(&home().join("examples"), "rs", &mut programs);
    programs.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
}

fn the_servers_of_the_documents_are_those_of_the_examples() {
    let programs = examples();
    let mut documents = vec![home().join("README.md"), home().join("../../README.md")];
    files(&home().join("src"), "rs", &mut documents);
    files(&home().join("../../docs"), "md", &mut documents);
    let mut found = 0;
    for document in documents.iter().filter(|path| path.exists()) {
        let text = fs::read_to_string(document).unwrap();
        let wrong = strangers(&text, &programs);
        assert!(wrong.is_empty(), "{}: not in examples/: {}", document.display(), wrong.join("\n"));
        found += blocks(&text).iter().filter(|block| SERVES.iter().any(|part| block.contains(part))).count();
    }
    assert!(found >= 6, "only {found} servers in the documents");
}

/// The README of the project is not compiled, because it is not in the archive of the crate. That of the crate is.
fn the_programs_of_the_project_s_readme_are_compiled_elsewhere() {
    let Ok(readme) = fs::read_to_string(home().join("../../README.md")) else { return };
    let compiled =
        examples().into_iter().chain([blocks(&fs::read_to_string(home().join("README.md")).unwrap()).concat()]);
    let compiled: Vec<String> = compiled.collect();
    for block in blocks(&readme) {
        assert!(is_known(&block, &compiled), "neither in examples/ nor in crates/parlour/README.md: {block}");
    }
}

fn a_server_that_is_in_no_example_is_found() {
    let programs = ["fn main() {\n    let a = 1; // one\n    server.accept();\n}\n".to_owned()];
    assert!(strangers("/// ```no_run\n/// let a = 1;\n/// server.accept();\n/// ```\n", &programs).is_empty());
    assert_eq!(strangers("```rust\nlet a = 2;\nserver.accept();\n```\n", &programs).len(), 1);
    let alone = "```rust\n# let base = tempfile::tempdir()?;\nserver.accept();\n```\n";
    assert!(strangers(alone, &programs).is_empty());
    assert!(strangers("```sh\nserver.accept();\n```\n```rust\nlet b = 2;\n```\n", &programs).is_empty());
}
