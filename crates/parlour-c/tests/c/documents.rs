//! The programs in C of the project's pages: each compiles, and prints the text that the page shows after it.
//!
//! A program that takes a name runs in the background until the end of its section. The others find it by that name.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;

use crate::support::build::{self, Flavor};
use crate::support::program::{self, Background, DEADLINE};
use crate::support::{base, home};
use crate::trial;

const PAGES: [&str; 2] = ["migrations", "start"];

pub fn trials() -> Vec<Trial> {
    let trials = PAGES.map(|page| {
        let path = home().join(format!("../../docs/{page}.md"));
        // The crate's archive has no pages of the whole project.
        let is_missing = !path.exists();
        let name = format!("documents::the_programs_of_{page}_print_what_is_shown");
        trial(name, move || run_all(&std::fs::read_to_string(&path).unwrap())).with_ignored_flag(is_missing)
    });
    trials.into()
}

/// A block of a page: the language, and the text.
type Block = (String, String);

/// Returns the blocks of each section.
fn sections(page: &str) -> Vec<Vec<Block>> {
    let mut sections = vec![Vec::new()];
    let mut open: Option<Block> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => sections.last_mut().unwrap().extend(open.take()),
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (None, Some((_, text))) => *text += &format!("{line}\n"),
            (None, None) if line.starts_with('#') => sections.push(Vec::new()),
            (None, None) => {}
        }
    }
    sections
}

fn run_all(page: &str) {
    let mut count = 0;
    for blocks in sections(page) {
        let base = base();
        let mut serving = Vec::new();
        for (number, (language, code)) in blocks.iter().enumerate() {
            if language != "c" {
                continue;
            }
            count += 1;
            let source = base.path().join(format!("program{number}.c"));
            std::fs::write(&source, code).unwrap();
            let compiled = build::program(&source, &[], Flavor::Plain);
            let mut command = Command::new(compiled);
            command.env("PARLOUR_DIR", base.path());
            if let Some(name) = ["new_server(\"", "_bind(\""].iter().find_map(|call| quoted_after(code, call)) {
                serving.push(Background::start(&mut command));
                wait_for(&base.path().join(name));
                continue;
            }
            assert!(code.contains("main(void)"), "a program or a server: {code}");
            let printed = program::succeed(&mut command);
            let shown = blocks.get(number + 1).filter(|(language, _)| language == "text");
            assert_eq!(printed, shown.map_or("", |(_, text)| text), "{code}");
        }
    }
    assert!(count > 0, "the page shows no program in C");
}

/// Returns what is between these characters and the next quotation mark.
fn quoted_after<'a>(code: &'a str, before: &str) -> Option<&'a str> {
    code.split_once(before)?.1.split_once('"').map(|(inside, _)| inside)
}

fn wait_for(path: &Path) {
    let address = path.display().to_string();
    drop(parlour::ConnectOptions::new().wait_for_server(DEADLINE).connect(address).unwrap());
}
