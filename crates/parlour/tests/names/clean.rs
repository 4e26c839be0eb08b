//! Inspection of names, and removal of dead ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parlour::inspect::{self, NameState, NameStatus};
use parlour::{Connection, ErrorKind, Server, ServerOptions, Transport};

use super::bases::{ask, ask_one, looker};
use crate::by_hand::cost;
use crate::by_hand::fifo_client::make_fifo;
use crate::by_hand::place::{chmod, list};
use crate::by_hand::user::{directory_of, new_uid, no_other_users};
use crate::by_hand::{Id, Place, snapshot, unix};
use crate::support::wait::pass;
use crate::support::{Base, Child, DEADLINE, trials};

trials! {
    names_are_listed_as_live_and_as_dead_after_a_kill,
    a_listing_omits_invalid_names_and_marks_unsafe_ones,
    a_name_resolves_to_where_it_is_served,
    a_dead_name_is_removed_with_all_that_was_left,
    a_name_that_a_file_kept_at_its_end_is_removed_too,
    a_closed_name_is_not_listed_any_more,
    a_live_name_is_left_alone,
    a_name_that_was_taken_since_its_inspection_is_left_alone,
    a_file_that_does_not_belong_stops_the_removal,
    removing_a_name_that_is_gone_is_not_an_error,
    removing_dead_names_while_servers_start_never_makes_two_owners,
    another_users_name_is_listed_as_foreign_and_never_removed unless no_other_users(),
}

/// Returns the status of the name with this absolute address.
fn status(path: &Path) -> NameStatus {
    let resolution = inspect::resolve(path.to_str().unwrap()).unwrap();
    let candidate = resolution.candidates.into_iter().next().unwrap();
    candidate.name.unwrap_or_else(|| panic!("{} is not listed", path.display()))
}

fn hold(address: &str) -> Child {
    let mut child = Child::spawn("serve", &[format!("address={address}"), "on=unix,fifo".to_owned()]);
    assert!(child.line().starts_with("ready"));
    child
}

fn names_are_listed_as_live_and_as_dead_after_a_kill() {
    let base = Base::new();
    let mut looker = looker(None, &[("PARLOUR_DIR", base.path())]);
    assert_eq!(ask(&mut looker, "names"), [""; 0]);
    let one = hold(base.name("one").to_str().unwrap());
    let mut two = hold(base.name("two").to_str().unwrap());
    let line = |name: &str, state: &str, child: &Child| {
        format!("{name} {} {state} unix,fifo {}", base.name(name).display(), child.pid())
    };
    assert_eq!(ask(&mut looker, "names"), [line("one", "live", &one), line("two", "live", &two)]);
    two.kill();
    assert_eq!(ask(&mut looker, "names"), [line("one", "live", &one), line("two", "dead", &two)]);
    // A server that is stopped by a signal is alive.
    cost::stop(&one);
    assert_eq!(ask(&mut looker, "names"), [line("one", "live", &one), line("two", "dead", &two)]);
    one.signal(rustix::process::Signal::CONT);
    assert_eq!(ask_one(&mut looker, "clean two"), "true");
    assert_eq!(ask_one(&mut looker, "clean one"), "false");
    assert_eq!(ask(&mut looker, "names"), [line("one", "live", &one)]);
    let mut three = hold(base.name("three").to_str().unwrap());
    three.finish();
    assert_eq!(ask(&mut looker, "names"), [line("one", "live", &one)]);
}

fn a_listing_omits_invalid_names_and_marks_unsafe_ones() {
    let base = Base::new();
    fs::create_dir(base.path().join(".hidden")).unwrap();
    fs::create_dir(base.path().join("no name")).unwrap();
    fs::write(base.path().join("file"), "").unwrap();
    fs::create_dir(base.path().join("wide")).unwrap();
    chmod(&base.path().join("wide"), 0o777);
    std::os::unix::fs::symlink("/", base.path().join("link")).unwrap();
    fs::create_dir(base.path().join("empty")).unwrap();
    let mut looker = looker(None, &[("PARLOUR_DIR", base.path())]);
    let lines = ask(&mut looker, "names");
    let states: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[0], words[2])
        })
        .collect();
    // The empty directory has no lock, so it is not a name.
    assert_eq!(states, [("file", "unsafe"), ("link", "unsafe"), ("wide", "unsafe")]);
    for name in ["file", "link", "wide"] {
        assert_eq!(ask_one(&mut looker, &format!("clean {name}")), "false");
    }
    assert!(base.path().join("wide").exists() && base.path().join("link").is_symlink());
}

fn a_name_resolves_to_where_it_is_served() {
    let base = Base::new();
    let path = base.name("where");
    let resolution = inspect::resolve(path.to_str().unwrap()).unwrap();
    assert_eq!(resolution.server.unwrap(), path);
    assert_eq!(resolution.client.unwrap_err().kind(), ErrorKind::NoServer);
    assert!(resolution.candidates.len() == 1 && resolution.candidates[0].name.is_none());

    let server = Server::bind(path.to_str().unwrap()).unwrap();
    let resolution = inspect::resolve(path.to_str().unwrap()).unwrap();
    assert_eq!(resolution.client.unwrap(), path);
    let status = status(&path);
    assert!(matches!(status.state, NameState::Live));
    assert_eq!(status.transports, [Transport::Unix]);
    assert_eq!(status.owner.unwrap().pid, std::process::id());
    let over_fifo = inspect::resolve(base.address(Transport::Fifo, "where")).unwrap();
    assert_eq!(over_fifo.client.unwrap_err().kind(), ErrorKind::NoServer);
    drop(server);
    let resolution = inspect::resolve(path.to_str().unwrap()).unwrap();
    assert_eq!(resolution.client.unwrap_err().kind(), ErrorKind::NoServer);
}

fn a_dead_name_is_removed_with_all_that_was_left() {
    let base = Base::new();
    let path = base.name("dead");
    let mut holder = hold(path.to_str().unwrap());
    let id = Id::new();
    make_fifo(&path.join("c").join(id.s2c()));
    make_fifo(&path.join("c").join(id.c2s()));
    drop(unix::bound(&path.join("c").join(id.sock()), 0o700));
    make_fifo(&path.join("fifo.new"));
    holder.kill();
    let dead = status(&path);
    assert!(matches!(dead.state, NameState::Dead));
    assert_eq!(dead.transports, [Transport::Unix, Transport::Fifo]);
    assert_eq!(dead.owner.as_ref().unwrap().pid, holder.pid());
    assert!(inspect::clean(&dead).unwrap());
    assert_eq!(base.files(), [""; 0]);
    Server::bind(path.to_str().unwrap()).unwrap();
}

fn a_closed_name_is_not_listed_any_more() {
    let base = Base::new();
    let mut looker = looker(None, &[("PARLOUR_DIR", base.path())]);
    for _ in 0..3 {
        Server::bind(base.name("closed").to_str().unwrap()).unwrap().close().unwrap();
        assert_eq!(ask(&mut looker, "names"), [""; 0]);
        assert_eq!(base.files(), [""; 0]);
    }
}

fn a_name_that_a_file_kept_at_its_end_is_removed_too() {
    let base = Base::new();
    let path = base.name("closed");
    let server = Server::bind(path.to_str().unwrap()).unwrap();
    fs::write(path.join("notes"), "").unwrap();
    server.close().unwrap();
    assert_eq!(list(&path), ["c", "lock", "notes"]);
    fs::remove_file(path.join("notes")).unwrap();
    let closed = status(&path);
    assert!(matches!(closed.state, NameState::Dead) && closed.owner.is_none());
    assert!(inspect::clean(&closed).unwrap());
    assert_eq!(base.files(), [""; 0]);
}

fn a_live_name_is_left_alone() {
    let base = Base::new();
    let path = base.name("live");
    let _holder = hold(path.to_str().unwrap());
    let before = snapshot::tree(&path);
    let live = status(&path);
    assert!(matches!(live.state, NameState::Live));
    assert!(!inspect::clean(&live).unwrap());
    assert_eq!(snapshot::tree(&path), before);
    Connection::connect(path.to_str().unwrap()).unwrap();
}

fn a_name_that_was_taken_since_its_inspection_is_left_alone() {
    let base = Base::new();
    let path = base.name("again");
    hold(path.to_str().unwrap()).kill();
    let dead = status(&path);
    let _holder = hold(path.to_str().unwrap());
    let before = snapshot::tree(&path);
    assert!(!inspect::clean(&dead).unwrap());
    assert_eq!(snapshot::tree(&path), before);
    Connection::connect(path.to_str().unwrap()).unwrap();
}

fn a_file_that_does_not_belong_stops_the_removal() {
    let base = Base::new();
    for strange in ["notes", "c/notes", "unix/", "fifo/", "sub/"] {
        let path = base.name("strange");
        hold(path.to_str().unwrap()).kill();
        let file = path.join(strange);
        match strange.strip_suffix('/') {
            Some(directory) => {
                let _ = fs::remove_file(path.join(directory));
                fs::create_dir(path.join(directory)).unwrap();
                fs::write(file.join("deep"), "precious").unwrap();
            }
            None => fs::write(&file, "precious").unwrap(),
        }
        let before = snapshot::tree(&file);
        let error = inspect::clean(&status(&path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsafeDirectory, "{strange}: {error}");
        let named = path.join(strange.trim_end_matches('/'));
        let named = if strange == "c/notes" { path.join("c") } else { named };
        assert!(error.to_string().contains(named.to_str().unwrap()), "{strange}: {error}");
        assert_eq!(snapshot::tree(&file), before);
        // The name can still be taken, unless the file has the place of a file of the server.
        let taken = ServerOptions::new().transports(Transport::ALL.iter().copied()).bind(path.to_str().unwrap());
        assert_eq!(taken.is_ok(), !matches!(strange, "unix/" | "fifo/"), "{strange}: {taken:?}");
        drop(taken);
        fs::remove_dir_all(&path).unwrap();
    }
}

fn removing_a_name_that_is_gone_is_not_an_error() {
    let base = Base::new();
    let path = base.name("gone");
    hold(path.to_str().unwrap()).kill();
    let dead = status(&path);
    assert!(inspect::clean(&dead).unwrap());
    assert!(!inspect::clean(&dead).unwrap());
    assert_eq!(base.files(), [""; 0]);
}

/// Two threads take a name in turn while a third removes it whenever it is dead; at several names side by side.
fn removing_dead_names_while_servers_start_never_makes_two_owners() {
    const NAMES: usize = 6;
    let base = Base::new();
    let begin = Instant::now();
    let is_over = AtomicBool::new(false);
    let contests: Vec<Contest> =
        (0..NAMES).map(|number| Contest::new(base.name(&format!("contended{number}")), &is_over)).collect();
    let counts = || {
        let sum = |(taken, removed): (u32, u32), one: &Contest| {
            (taken + one.taken.load(Ordering::Relaxed), removed + one.removed.load(Ordering::Relaxed))
        };
        contests.iter().fold((0, 0), sum)
    };
    let are_enough = || matches!(counts(), (taken, removed) if taken > 100 && removed > 5);
    thread::scope(|scope| {
        let spawn = |contest| {
            [
                scope.spawn(move || Contest::serve(contest)),
                scope.spawn(move || Contest::serve(contest)),
                scope.spawn(move || Contest::clean(contest)),
            ]
        };
        let threads: Vec<_> = contests.iter().flat_map(spawn).collect();
        // On a slow machine it takes longer until there was a race.
        while begin.elapsed() < Duration::from_secs(5) || (!are_enough() && begin.elapsed() < 3 * DEADLINE) {
            pass(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::Relaxed);
        let wrong: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(wrong, [""; 0]);
    });
    let (taken, removed) = counts();
    println!("races_with_bind: taken {taken} times, removed {removed} times");
    assert!(are_enough(), "taken {taken} times, removed {removed} times: too few for a race");
}

/// The beginning of the names of files that keep the directory of a name.
const KEPT: &str = "c/kept";

struct Contest<'a> {
    path: PathBuf,
    is_over: &'a AtomicBool,
    owned: AtomicBool,
    taken: AtomicU32,
    removed: AtomicU32,
}

impl<'a> Contest<'a> {
    fn new(path: PathBuf, is_over: &'a AtomicBool) -> Self {
        Self { path, is_over, owned: AtomicBool::new(false), taken: AtomicU32::new(0), removed: AtomicU32::new(0) }
    }

    /// Takes and releases the name repeatedly. Returns descriptions of failures.
    fn serve(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let server = match Server::bind(self.path.to_str().unwrap()) {
                Ok(server) => server,
                Err(error) if error.kind() == ErrorKind::NameInUse => continue,
                Err(error) => {
                    wrong.push(format!("bind: {error:?}"));
                    continue;
                }
            };
            if self.owned.swap(true, Ordering::SeqCst) {
                wrong.push("two owners".to_owned());
            }
            if list(&self.path) != ["c", "control", "lock", "unix"] {
                wrong.push(format!("a live name has {:?}", list(&self.path)));
            }
            drop(unix::dial(&self.path));
            let taken = self.taken.fetch_add(1, Ordering::Relaxed);
            // A server that ends removes its name. A file that no client creates keeps the name for the other thread.
            let kept = (taken % 2 == 0).then(|| self.path.join(format!("{KEPT}{taken}")));
            kept.iter().for_each(|kept| fs::write(kept, "").unwrap());
            self.owned.store(false, Ordering::SeqCst);
            drop(server);
            kept.iter().for_each(|kept| fs::remove_file(kept).unwrap());
        }
        wrong
    }

    /// Removes the name whenever it is dead. Returns descriptions of failures.
    fn clean(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let resolution = inspect::resolve(self.path.to_str().unwrap()).unwrap();
            let Some(status) = resolution.candidates.into_iter().next().and_then(|candidate| candidate.name) else {
                continue;
            };
            match inspect::clean(&status) {
                Ok(true) => drop(self.removed.fetch_add(1, Ordering::Relaxed)),
                Ok(false) => {}
                Err(error) if error.to_string().contains(KEPT) => {}
                Err(error) => wrong.push(format!("clean: {error:?}")),
            }
        }
        wrong
    }
}

fn another_users_name_is_listed_as_foreign_and_never_removed() {
    let base = Base::new();
    chmod(base.path(), 0o755);
    let uid = new_uid();
    directory_of(&base.name("theirs"), uid, 0o755);
    let _place = Place::held(&base, "ours");
    let mut looker = looker(None, &[("PARLOUR_DIR", base.path())]);
    let lines = ask(&mut looker, "names");
    assert_eq!(lines[1], format!("theirs {} foreign  -", base.name("theirs").display()));
    assert_eq!(ask_one(&mut looker, "clean theirs"), "false");
    // The same holds for root's name, seen by that user.
    let mut looker = super::bases::looker(Some(uid), &[("PARLOUR_DIR", base.path())]);
    let lines = ask(&mut looker, "names");
    assert!(lines[0].starts_with("ours ") && lines[0].contains(" foreign "), "{lines:?}");
    assert_eq!(ask_one(&mut looker, "clean ours"), "false");
    assert!(base.name("theirs").exists() && base.name("ours").join("lock").exists());
}
