//! The sections of a page, and the shell in which their commands run.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use tempfile::TempDir;

use super::common::{DEADLINE, Home, Running, restore_interrupts, text};

/// A section of a page.
pub struct Section {
    title: String,
    blocks: Vec<Block>,
}

struct Block {
    language: String,
    text: String,
}

/// Commands, with the text that the page shows after them.
pub struct Shown<'a> {
    pub commands: &'a str,
    pub output: Option<&'a str>,
}

impl Section {
    /// Returns a section of a page. The archive of this crate has no pages, and then there is none.
    pub fn of(page: &str, title: &str) -> Option<Section> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
        let page = fs::read_to_string(page).ok()?;
        let found = sections(&page).into_iter().find(|section| section.title == title);
        Some(found.unwrap_or_else(|| panic!("there is no section {title:?}")))
    }

    /// Returns the blocks of commands.
    pub fn commands(&self) -> Vec<Shown<'_>> {
        let shells = self.blocks.iter().enumerate().filter(|(_, block)| block.language == "sh");
        let with_output = shells.map(|(at, block)| {
            let output = self.blocks.get(at + 1).filter(|next| next.language == "text").map(|next| &*next.text);
            Shown { commands: &block.text, output }
        });
        with_output.collect()
    }

    /// Runs the commands of the section. A block that begins with `# server` runs in the background until the end.
    /// `programs` are scripts that stand for programs of others. Returns what each other block has printed.
    pub fn run(&self, programs: &[(&str, &str)]) -> Vec<String> {
        let home = Home::new();
        let shell = Shell::new(&home, programs);
        let mut serving: Vec<Running> = Vec::new();
        let mut printed = Vec::new();
        for Shown { commands, output } in self.commands() {
            if let Some(commands) = commands.strip_prefix("# server\n") {
                serving.push(home.serve_with(shell.command(&["sh", "-euc", &format!("exec {commands}")])));
                continue;
            }
            let (stdout, stderr) = shell.run(commands);
            if let Some(shown) = output {
                assert_eq!(&stdout, shown, "{}: {commands}{stderr}", self.title);
            }
            printed.push(stdout);
        }
        printed
    }
}

fn sections(page: &str) -> Vec<Section> {
    let section = |title: &str| Section { title: title.to_owned(), blocks: Vec::new() };
    let mut sections = vec![section("")];
    let mut open: Option<Block> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => sections.last_mut().unwrap().blocks.extend(open.take()),
            (Some(language), None) => open = Some(Block { language: language.to_owned(), text: String::new() }),
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) if line.starts_with('#') => sections.push(section(line.trim_start_matches(['#', ' ']))),
            (None, None) => {}
        }
    }
    sections
}

/// A shell with the names of a test, whose directory the blocks of a section share.
pub struct Shell<'a> {
    home: &'a Home,
    place: TempDir,
    path: std::ffi::OsString,
}

impl<'a> Shell<'a> {
    pub fn new(home: &'a Home, programs: &[(&str, &str)]) -> Shell<'a> {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("bin")).unwrap();
        for (name, script) in programs {
            let path = place.path().join("bin").join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let program = PathBuf::from(env!("CARGO_BIN_EXE_parlour"));
        let path = env::join_paths(
            [place.path().join("bin"), program.parent().unwrap().to_owned()]
                .into_iter()
                .chain(env::split_paths(&env::var_os("PATH").unwrap())),
        )
        .unwrap();
        Shell { home, place, path }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(arguments[0]);
        command.args(&arguments[1..]).current_dir(self.place.path());
        command.env("PARLOUR_DIR", self.home.path()).env("PATH", &self.path).env_remove("PARLOUR_LOG");
        restore_interrupts(&mut command);
        command
    }

    /// Runs commands, which must succeed, and returns their stdout and stderr.
    pub fn run(&self, commands: &str) -> (String, String) {
        // timeout(1) ends the whole group: also a program that does not end and keeps the output open.
        let limit = DEADLINE.as_secs().to_string();
        let mut shell = self.command(&["timeout", "--kill-after=1", &limit, "sh", "-euc", commands]);
        let output = shell.stdin(Stdio::null()).output().unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{commands}{stderr}");
        (stdout, stderr)
    }
}
