//! The links of the documents: each leads to a file of the project, and to a heading of it. docs/SUMMARY.md, of which
//! `.ci/book` makes a web site, lists every page.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::source::home;

/// The directories of documents, relative to the workspace.
const DIRECTORIES: [&str; 8] = [
    "",
    "docs",
    "crates/parlour",
    "crates/parlour-bench",
    "crates/parlour-c",
    "crates/parlour-cli",
    "crates/parlour-python",
    "fuzz",
];

/// Returns the text outside of blocks of code, and without code in lines.
fn prose(text: &str) -> String {
    let mut prose = String::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            prose += line;
            prose.push('\n');
        }
    }
    // Every other piece between back-quotes is code.
    prose.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// Returns the targets of the links in a document.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// Returns the anchors of the headings of a document.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        in_block ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if in_block || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let is_part = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let anchor: String = title.trim().to_lowercase().chars().filter(is_part).collect();
        let anchor = anchor.replace(' ', "-");
        let same = anchors.iter().filter(|other| **other == anchor).count();
        anchors.push(if same == 0 { anchor } else { format!("{anchor}-{same}") });
    }
    anchors
}

/// Returns the links of a document that lead nowhere. `read` returns the text of a file, and an empty one for a
/// directory.
fn broken(path: &Path, text: &str, mut read: impl FnMut(&Path) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for link in links(text) {
        if link.contains("://") {
            continue;
        }
        let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let target = if file.is_empty() { Some(text.to_owned()) } else { read(&path.with_file_name("").join(file)) };
        match target {
            None => wrong.push(format!("{}: there is no {file}", path.display())),
            Some(target) if !anchor.is_empty() && !anchors(&target).iter().any(|known| known == anchor) => {
                wrong.push(format!("{}: {link}: there is no such heading", path.display()));
            }
            Some(_) => {}
        }
    }
    wrong
}

fn documents() -> BTreeMap<PathBuf, String> {
    let mut documents = BTreeMap::new();
    for directory in DIRECTORIES {
        let entries = fs::read_dir(home().join("../..").join(directory)).into_iter().flatten();
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.extension().is_some_and(|is| is == "md") && !path.is_symlink() {
                documents.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    documents
}

/// The archive of the crate has no pages of the project.
fn has_pages() -> bool {
    home().join("../../docs/SUMMARY.md").exists()
}

#[test]
fn every_link_of_a_document_leads_to_a_file_and_a_heading() {
    if !has_pages() {
        return;
    }
    let documents = documents();
    let read = |path: &Path| {
        let path = fs::canonicalize(path).ok()?;
        if path.is_dir() { Some(String::new()) } else { fs::read_to_string(path).ok() }
    };
    let wrong: Vec<_> = documents.iter().flat_map(|(path, text)| broken(path, text, read)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(documents.values().map(|text| links(text).len()).sum::<usize>() > 100);
}

#[test]
fn the_summary_lists_every_page() {
    if !has_pages() {
        return;
    }
    let summary = links(&fs::read_to_string(home().join("../../docs/SUMMARY.md")).unwrap());
    let docs = home().join("../../docs");
    let pages = documents().into_keys().filter(|path| path.parent() == Some(&docs));
    let names = pages.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    let missing: Vec<_> = names.filter(|name| name != "SUMMARY.md" && !summary.contains(name)).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md lacks {missing:?}");
}

/// A reader decides in a minute. What is longer is a page of its own.
#[test]
fn the_readme_has_fewer_than_120_lines() {
    if has_pages() {
        let lines = fs::read_to_string(home().join("../../README.md")).unwrap().lines().count();
        assert!(lines < 120, "{lines} lines");
    }
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let text =
        "# A `b`: c\n[x](#a-b-c) [x](a.md) [x](a.md#d-e)\n```\n[x](in-code.md)\n```\n`[x](y.md)` [x](https://z)\n";
    let read = |path: &Path| (path == Path::new("docs/a.md")).then(|| "## D, e!\n".to_owned());
    assert_eq!(broken(Path::new("docs/x.md"), text, read), Vec::<String>::new());
    let text = "[x](#a) [x](b.md) [x](a.md#f)\n";
    let wrong = broken(Path::new("docs/x.md"), text, read);
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert_eq!(anchors("# A\n## A\n#no heading\n```sh\n# comment\n```\n"), ["a", "a-1"]);
}
