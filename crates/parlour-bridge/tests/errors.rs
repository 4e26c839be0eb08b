//! docs/bridge.md has every line that a bridge logs, and every reason for the end of a link.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// The files that log, and the one with the reasons.
const DIRECTORIES: [&str; 2] = ["src/driver", "src/program"];
const REASONS: &str = "src/link.rs";

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Returns the literals that follow these calls directly, or within `format!`.
fn literals(text: &str, calls: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for call in calls {
        for (at, _) in text.match_indices(call) {
            let rest = text[at + call.len()..].trim_start().trim_start_matches("&format!(");
            let rest = rest.trim_start().trim_start_matches("f,").trim_start();
            if let Some((literal, _)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                found.push(literal.to_owned());
            }
        }
    }
    found
}

/// Returns the longest part of a literal that is the same each time.
fn fixed(literal: &str) -> &str {
    let parts = literal.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
    parts.map(|part| part.trim_matches([' ', ':', ';', '(', ')'])).max_by_key(|part| part.len()).unwrap()
}

#[test]
fn every_line_of_the_log_and_every_reason_is_in_the_guide() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(home.join("../../docs/bridge.md")).unwrap();
    let section = guide.split("\n## ").find(|section| section.starts_with("Errors")).unwrap();
    let mut lines = Vec::new();
    for directory in DIRECTORIES {
        for path in files(&home.join(directory)) {
            lines.extend(literals(
                &fs::read_to_string(path).unwrap(),
                &["log)(", " log(", "note(", "log_link(", "log_untaken("],
            ));
        }
    }
    // Those that are not literals of a call.
    lines.extend(
        ["not logged any more until it has stayed for a minute", "are not logged for a while"].map(str::to_owned),
    );
    let count = lines.len();
    assert!(count >= 10, "{lines:?}");
    let reasons = fs::read_to_string(home.join(REASONS)).unwrap();
    let of_down = reasons.split("impl fmt::Display for Down").nth(1).unwrap().split("\n}\n").next().unwrap();
    lines.extend(literals(of_down, &["write_str(", "write!("]));
    assert!(lines.len() >= count + 8, "{lines:?}");
    let missing: Vec<_> = lines.iter().map(|line| fixed(line)).filter(|part| !section.contains(part)).collect();
    assert!(missing.is_empty(), "docs/bridge.md, Errors, lacks {missing:#?}");
}
