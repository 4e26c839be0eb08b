//! The tests that the documents name: each `Test: file.rs: name` must name one that exists. A trial of `hostile` checks
//! that the attacks, their trials and the threat model name each other completely, because it knows their names.
//!
//! The file is one under `tests` (or in the directory of its name there), or under `src`, or a path from the root of
//! the workspace. The name is a function, one with values in the places of its arguments (see `support/declare.rs`), or
//! the name of a trial that is made at run time, with or without the `transport::` in front.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::source::{blank, home, rust_files};

const DOCUMENTS: [&str; 3] = ["THREAT_MODEL.md", "ARCHITECTURE.md", "docs/platforms.md"];

/// A file, and the name of a test in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    file: String,
    name: String,
}

/// Returns every test that a document names. Returns an error for a `Test:` that does not name one.
fn named(document: &str) -> Result<Vec<Named>, String> {
    let plain = document.replace('`', "");
    let mut found = Vec::new();
    for line in plain.lines() {
        for (at, mark) in line.match_indices("Test: ") {
            let rest = &line[at + mark.len()..];
            let wrong = || format!("not `Test: file.rs: name`: {}", line.trim());
            let (file, rest) = rest.split_once(": ").ok_or_else(wrong)?;
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            let name = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
            if !file.ends_with(".rs") || file.contains(' ') || name.is_empty() {
                return Err(wrong());
            }
            found.push(Named { file: file.to_owned(), name: name.trim_end_matches(':').to_owned() });
        }
    }
    Ok(found)
}

/// Returns the code of this file and of the files in the directory that belongs to it, with strings and without
/// comments.
fn code_of(root: &Path, file: &str) -> Option<String> {
    let workspace = root.join("../..");
    let path = [root.join("tests").join(file), root.join("src").join(file), root.join(file), workspace.join(file)]
        .into_iter()
        .find(|path| path.is_file())?;
    let directory = path.with_extension("");
    let parts = if directory.is_dir() { rust_files(&directory) } else { Vec::new() };
    let texts = std::iter::once(path).chain(parts).map(|path| fs::read_to_string(path).unwrap());
    Some(texts.map(|text| blank(&text, true)).collect::<Vec<_>>().join("\n"))
}

/// Returns whether this code has a function of that name, or a trial or a string that is it once `{}` are filled in.
fn has_test(code: &str, name: &str) -> bool {
    let name = name.rsplit("::").next().unwrap();
    if code.contains(&format!("fn {name}(")) {
        return true;
    }
    if repeated(code).iter().any(|pattern| matches(pattern, name)) {
        return true;
    }
    // Every other piece between quotes is a string; that some are not does no harm.
    code.split('"').any(|literal| {
        let pattern = literal.rsplit("::").next().unwrap();
        let fixed: usize = pieces(pattern).iter().map(|piece| piece.len()).sum();
        fixed >= 12 && !pattern.contains(' ') && matches(pattern, name)
    })
}

/// The names of trials that are declared as `name(argument in values, ..)`, with `{}` in the places of the arguments.
fn repeated(code: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices('(') {
        let inside = &code[at + 1..];
        if !inside.trim_start().trim_start_matches(is_part).starts_with(" in ") {
            continue;
        }
        let mut depth = 1;
        let end = inside.find(|c| {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        });
        let Some(end) = end else { continue };
        let mut pieces: Vec<&str> = inside[..end].split(" in ").collect();
        pieces.pop();
        let arguments: Vec<&str> = pieces.iter().map(|piece| piece.rsplit(|c| !is_part(c)).next().unwrap()).collect();
        let name = code[..at].rsplit(|c| !is_part(c)).next().unwrap();
        if !name.is_empty() {
            let words = name.split('_').map(|word| if arguments.contains(&word) { "{}" } else { word });
            found.push(words.collect::<Vec<_>>().join("_"));
        }
    }
    found
}

/// Returns the text around the `{}` of a format string.
fn pieces(pattern: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some((piece, tail)) = rest.split_once('{') {
        pieces.push(piece);
        rest = tail.split_once('}').map_or("", |(_, tail)| tail);
    }
    pieces.push(rest);
    pieces
}

/// Returns true if the name results from the format string.
fn matches(pattern: &str, name: &str) -> bool {
    let pieces = pieces(pattern);
    let Some(mut rest) = name.strip_prefix(pieces[0]) else { return false };
    let Some((last, middle)) = pieces[1..].split_last() else { return rest.is_empty() };
    for piece in middle {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut wrong = Vec::new();
    let mut codes = BTreeMap::new();
    for document in DOCUMENTS {
        // A document that does not exist names no test.
        let Ok(text) = fs::read_to_string(home().join("../..").join(document)) else { continue };
        match named(&text) {
            Err(error) => wrong.push(format!("{document}: {error}")),
            Ok(tests) => {
                for Named { file, name } in tests {
                    match codes.entry(file.clone()).or_insert_with(|| code_of(home(), &file)) {
                        None => wrong.push(format!("{document}: there is no file {file}")),
                        Some(code) if !has_test(code, &name) => {
                            wrong.push(format!("{document}: there is no test {name} in {file}"));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_test_that_does_not_exist_is_found_missing() {
    let text = "| a promise | Test: tidy.rs: words_are_whole |\n1. Another. `Test: names.rs: fifo::a_b.` And `Test: x.rs: c`\n";
    let tests = named(text).unwrap();
    let files: Vec<&str> = tests.iter().map(|test| test.file.as_str()).collect();
    let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
    assert_eq!((files, names), (vec!["tidy.rs", "names.rs", "x.rs"], vec!["words_are_whole", "fifo::a_b", "c"]));
    for bad in ["Test: nothing", "Test: a b.rs: c", "Test: names: c", "Test: names.rs: -"] {
        assert!(named(bad).is_err(), "{bad}");
    }

    let code = code_of(home(), "tidy.rs").unwrap();
    assert!(has_test(&code, "words_are_whole") && has_test(&code, "unsafe_code_is_in_sys_and_shm_alone"));
    // The name is composed here, because a literal would be found.
    assert!(!has_test(&code, &["words", "are", "not", "whole"].join("_")));
    assert_eq!(code_of(home(), "no_such_file.rs"), None);
    let code = r#"trial(format!("{transport}::a_live_{what}_cannot_be_taken"), f); // "a_comment_that_names_nothing""#;
    let code = blank(code, true);
    assert!(has_test(&code, "a_live_name_cannot_be_taken") && has_test(&code, "fifo::a_live_name_cannot_be_taken"));
    assert!(!has_test(&code, "a_live_name_can_be_taken") && !has_test(&code, "a_comment_that_names_nothing"));
    let code = "a_side_is_told_by_its_peer(side in [A, B], peer in peers(side)) unless never(), if (x in y) { f(z) }";
    assert!(has_test(code, "a_client_is_told_by_its_server") && !has_test(code, "a_client_is_told_of_its_server"));
    assert_eq!(repeated(code), ["a_{}_is_told_by_its_{}"]);
}
