//! Checks the directories that hold names.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use parlour::inspect::{self, Base, BaseState, NameState};
use parlour::{ErrorKind, Transport};

use super::check::{Check, Verdict};

pub(super) fn checks() -> Vec<Check> {
    let bases = match inspect::bases() {
        Ok(bases) => bases,
        Err(error) => return vec![impossible("bases", &error), runtime_directory()],
    };
    let mut checks: Vec<Check> = bases.iter().map(base).collect();
    if !bases.iter().any(|base| matches!(base.state, BaseState::Usable | BaseState::Missing)) {
        checks.push(Check::but(
            Verdict::Problem,
            "a place for names",
            "no directory is usable, and none can be created",
            "set PARLOUR_DIR to a directory that you own, with mode 0700",
        ));
    }
    checks.push(names());
    checks.push(runtime_directory());
    checks
}

/// Returns the check for directories or names that cannot be read.
fn impossible(check: &str, error: &parlour::Error) -> Check {
    let verdict = if error.kind() == ErrorKind::UnsafeDirectory { Verdict::Unsafe } else { Verdict::Problem };
    Check::but(verdict, check, error.to_string(), "set PARLOUR_DIR to a directory that you own, with mode 0700")
}

fn base(base: &Base) -> Check {
    let check = format!("base {}", base.path.display());
    let found = |state: &str| format!("{state}, from {}{}", base.origin, owner_and_mode(&base.path));
    match &base.state {
        BaseState::Usable => Check::ok(check, found("usable")),
        BaseState::Missing => Check::ok(check, found("missing, the first server creates it")),
        BaseState::Unavailable(error) => Check::ok(check, found(&format!("not used: {error}"))),
        BaseState::Unsafe(error) => {
            Check::but(Verdict::Unsafe, check, found(&error.to_string()), mend_base(&base.path, error.object()))
        }
        _ => Check::ok(check, found("in an unknown state")),
    }
}

/// Returns the advice for an unsafe base. `at_fault` is the base itself or one of its parent directories.
///
/// chown(1) and chmod(1) follow links. So the advice has them change only a directory of this user or of root, in which
/// no other user has put a link.
fn mend_base(base: &Path, at_fault: &str) -> String {
    let look = format!("check its owner (ls -ld {at_fault})");
    let own = rustix::process::geteuid().as_raw();
    let owner = match std::fs::symlink_metadata(at_fault) {
        Ok(metadata) if metadata.is_dir() => Some(metadata.uid()),
        _ => None,
    };
    let is_parent = Path::new(at_fault) != base && base.starts_with(at_fault);
    match owner {
        Some(owner) if is_parent && (owner == own || owner == 0) => format!(
            "{look}: other users must not be able to replace its entries; run chmod go-w {at_fault}, or chmod +t \
             {at_fault} if other users must write to it, or set PARLOUR_DIR to another directory"
        ),
        Some(owner) if owner == own => {
            format!("{look}; run chmod 0700 {at_fault}, or set PARLOUR_DIR to another directory")
        }
        Some(owner) if is_parent => {
            format!(
                "{look}; it belongs to uid {owner}, who can replace its entries: set PARLOUR_DIR to another directory"
            )
        }
        _ => format!(
            "{look}; do not change it: have its owner or root remove it, or set PARLOUR_DIR to another directory"
        ),
    }
}

/// Formats the owner and the mode of a file, or nothing if it does not exist.
fn owner_and_mode(path: &Path) -> String {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => format!(", uid {}, mode {:04o}", metadata.uid(), metadata.mode() & 0o7777),
        Err(_) => String::new(),
    }
}

/// Checks the names in all bases.
fn names() -> Check {
    let names = match inspect::names() {
        Ok(names) => names,
        Err(error) => return impossible("names", &error),
    };
    let count = |is: fn(&NameState) -> bool| names.iter().filter(|name| is(&name.state)).count();
    let live = count(|state| matches!(state, NameState::Live));
    let dead = count(|state| matches!(state, NameState::Dead));
    let foreign = count(|state| matches!(state, NameState::Foreign));
    let waiting = count(|state| matches!(state, NameState::Waiting));
    let found = format!("{live} live, {waiting} waiting, {dead} dead, {foreign} of other users");
    let unsafe_ones: Vec<_> = names
        .iter()
        .filter_map(|name| match &name.state {
            NameState::Unsafe(error) => Some((name.path.display().to_string(), error.to_string())),
            NameState::Live | NameState::Dead => misplaced(&name.path),
            _ => None,
        })
        .collect();
    if let Some((path, error)) = unsafe_ones.first() {
        let found = format!("{found}, {} unsafe: {error}", unsafe_ones.len());
        let mend = format!("check its owner (ls -ld {path}), and remove it if it is not needed");
        return Check::but(Verdict::Unsafe, "names", found, mend);
    }
    if dead > 0 {
        let mend = "no action is needed: the next server can take a dead name; `parlour clean` removes dead names";
        return Check::but(Verdict::Note, "names", found, mend);
    }
    Check::ok("names", found)
}

/// Returns the path and the problem of a file of the wrong type where a transport has its socket or FIFO.
fn misplaced(name: &Path) -> Option<(String, String)> {
    Transport::ALL.iter().find_map(|transport| {
        let path = name.join(transport.to_string());
        let kind = std::fs::symlink_metadata(&path).ok()?.file_type();
        let (is_right, right) = match transport {
            Transport::Fifo => (kind.is_fifo(), "FIFO"),
            _ => (kind.is_socket(), "socket"),
        };
        let shown = path.display().to_string();
        (!is_right).then(|| (shown.clone(), format!("{shown} is not a {right}, and servers do not use it")))
    })
}

fn runtime_directory() -> Check {
    const CHECK: &str = "XDG_RUNTIME_DIR";
    let Some(value) = std::env::var_os(CHECK).filter(|value| !value.is_empty()) else {
        return Check::ok(CHECK, "not set (su, sudo, cron and services do not set it); other directories are used");
    };
    let path = Path::new(&value);
    let shown = path.display();
    let uid = rustix::process::geteuid().as_raw();
    let mend = format!("unset XDG_RUNTIME_DIR, or set it to a directory that uid {uid} owns, with mode 0700");
    match std::fs::symlink_metadata(path) {
        _ if !path.is_absolute() => {
            Check::but(Verdict::Problem, CHECK, format!("{shown} is not an absolute path"), mend)
        }
        Err(error) => Check::but(Verdict::Note, CHECK, format!("{shown}: {error}"), mend),
        Ok(metadata) if !metadata.is_dir() => {
            Check::but(Verdict::Problem, CHECK, format!("{shown} is not a directory"), mend)
        }
        Ok(metadata) if metadata.uid() != uid || metadata.mode() & 0o077 != 0 => {
            Check::but(Verdict::Note, CHECK, format!("{shown}{}", owner_and_mode(path)), mend)
        }
        Ok(_) => Check::ok(CHECK, format!("{shown}{}", owner_and_mode(path))),
    }
}
