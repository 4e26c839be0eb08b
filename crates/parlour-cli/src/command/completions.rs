//! `parlour completions`: prints a completion script, which is generated from the definition of the command line.
//!
//! The generator knows commands and options. For bash, zsh and fish, this module adds the names that exist: the script
//! asks `parlour complete-names`, which prints only what has the form of a name, so no text of another user reaches the
//! shell.

use anyhow::Context;
use clap_complete::Shell;
use parlour::inspect::{self, NameState};

use crate::args::{self, CompleteNames, Completions};
use crate::output;

/// The arguments in which a name that exists is completed.
const NAMES: [&str; 2] = ["address", "names"];

pub(super) fn run(args: &Completions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::definition(), "parlour", &mut script);
    let script = String::from_utf8(script).context("generate a completion script")?;
    output::bytes(with_names(args.shell, script).as_bytes())
}

/// Prints the names with which a command can be completed: the dead ones for `clean`, all others for other commands.
pub(super) fn names(args: &CompleteNames) -> anyhow::Result<()> {
    let mut names: Vec<String> = inspect::names()?
        .into_iter()
        .filter(|status| matches!(status.state, NameState::Dead) == (args.command == "clean"))
        .map(|status| status.name)
        .filter(|name| parlour::Address::parse(name).is_ok())
        .collect();
    names.sort();
    names.dedup();
    for name in names {
        output::line(name)?;
    }
    Ok(())
}

/// Returns the commands that take a name which exists. `serve` takes a new one.
fn commands() -> Vec<String> {
    let definition = args::definition();
    let takes_name = |command: &&clap::Command| {
        command.get_name() != "serve" && command.get_positionals().any(|arg| NAMES.contains(&arg.get_id().as_str()))
    };
    definition.get_subcommands().filter(takes_name).map(|command| command.get_name().to_owned()).collect()
}

fn with_names(shell: Shell, script: String) -> String {
    match shell {
        Shell::Bash => script.replace("complete -F _parlour ", "complete -F _parlour_and_names ") + &bash(),
        Shell::Zsh => zsh(&script),
        Shell::Fish => script + &fish(),
        _ => script,
    }
}

/// The completion by the generator, without its placeholders such as `<ADDRESS>`, and the names.
fn bash() -> String {
    let commands = commands().join("|");
    format!(
        r#"
_parlour_and_names() {{
    _parlour "$@"
    local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" word
    local -a found=()
    for word in "${{COMPREPLY[@]}}"; do
        [[ $word == [\<\[]* ]] || found+=("$word")
    done
    COMPREPLY=("${{found[@]}}")
    # The value of an option comes after it.
    [[ $cur == -* || ( $prev == --* && $prev != -- ) ]] && return
    case "${{COMP_WORDS[1]}}" in
        {commands})
            while IFS= read -r word; do
                [[ $word == "$cur"* ]] && COMPREPLY+=("$word")
            done < <(parlour complete-names "${{COMP_WORDS[1]}}" 2>/dev/null)
            ;;
    esac
}}
"#
    )
}

/// In the script for zsh, each argument has an action. That of a name becomes a function.
fn zsh(script: &str) -> String {
    let mut command = String::new();
    let mut lines = Vec::new();
    for line in script.lines() {
        if let Some(name) = line.strip_prefix('(').and_then(|line| line.strip_suffix(')')) {
            command = name.to_owned();
        }
        let is_name = NAMES.iter().any(|name| line.contains(&format!(":{name} -- ")));
        lines.push(match line.contains(":_default'") && is_name && command != "serve" {
            true => line.replace(":_default'", &format!(":{{_parlour_names {command}}}'")),
            false => line.to_owned(),
        });
    }
    let function = r#"
(( $+functions[_parlour_names] )) ||
_parlour_names() {
    local -a names
    names=("${(@f)$(parlour complete-names "$1" 2>/dev/null)}")
    compadd -a names
}
"#;
    // The last command of the script is the call, so the function comes before it.
    let script = lines.join("\n") + "\n";
    match script.split_once("\nif [ \"$funcstack[1]\"") {
        Some((before, after)) => format!("{before}\n{function}\nif [ \"$funcstack[1]\"{after}"),
        None => script,
    }
}

fn fish() -> String {
    let line = |command: &String| {
        format!(
            "complete -c parlour -n \"__fish_parlour_using_subcommand {command}\" -f -a \
             \"(parlour complete-names {command} 2>/dev/null)\"\n"
        )
    };
    commands().iter().map(line).collect()
}
