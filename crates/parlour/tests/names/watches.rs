//! A watch on many names reports the ones whose state has changed.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::Duration;

use parlour::inspect::{self, Watches};
use parlour::{ErrorKind, Server, ServerOptions};

use crate::holder::serve_both;
use crate::support::wait::readable_within;
use crate::support::without::{cannot_filter, feature};
use crate::support::{Base, DEADLINE, trials};

trials! {
    of_a_thousand_names_those_that_change_are_reported,
    a_watch_on_many_names_reports_the_death_of_a_server,
    a_name_in_the_directory_of_another_one_is_reported,
    a_name_that_is_not_watched_any_more_is_not_reported,
    a_base_that_appears_is_reported_for_each_of_its_names,
    without_inotify_each_name_is_reported_again_and_again unless cannot_filter(),
    a_name_that_is_malformed_is_not_watched;
}

/// Longer than a watch looks again after a lock was closed.
const SETTLED: Duration = Duration::from_millis(900);

fn is_live(name: &str) -> bool {
    inspect::resolve(name).unwrap().found().is_some()
}

fn watches<'a>(names: impl IntoIterator<Item = &'a String>) -> Watches {
    let mut watches = Watches::new().unwrap();
    for name in names {
        watches.add(name).unwrap();
    }
    watches
}

/// Returns the names that are reported until nothing happens any more.
fn settle(watches: &mut Watches) -> BTreeSet<String> {
    let mut reported = BTreeSet::new();
    while readable_within(watches.as_fd(), SETTLED) {
        reported.extend(watches.changed().unwrap().iter().map(ToString::to_string));
    }
    assert!(watches.changed().unwrap().is_empty());
    reported
}

/// Waits until the state of the name is the expected one, and looks only when the name is reported.
fn look_until(watches: &mut Watches, name: &str, is_expected: impl Fn() -> bool) {
    while !is_expected() {
        loop {
            assert!(readable_within(watches.as_fd(), DEADLINE), "a change was not reported");
            if watches.changed().unwrap().iter().any(|changed| changed.to_string() == name) {
                break;
            }
        }
    }
}

fn of_a_thousand_names_those_that_change_are_reported() {
    let base = Base::new();
    let names: Vec<String> = (0..1000).map(|number| base.name(&format!("n{number}")).display().to_string()).collect();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let mut watches = watches(&names);
    assert_eq!(descriptors(), before + 3);
    assert!(settle(&mut watches).is_empty(), "without a change, no wake-up");
    let servers: Vec<Server> = names[..20].iter().map(|name| Server::bind(name).unwrap()).collect();
    let expected: BTreeSet<String> = names[..20].iter().cloned().collect();
    assert_eq!(settle(&mut watches), expected);
    // One that is not watched.
    Server::bind(base.name("other").to_str().unwrap()).unwrap().close().unwrap();
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| servers[7].accept().unwrap_err().kind());
        let new = ServerOptions::new().take_over(DEADLINE).bind(&names[7]).unwrap();
        assert_eq!(accepting.join().unwrap(), ErrorKind::HandedOver);
        assert_eq!(settle(&mut watches), BTreeSet::from([names[7].clone()]));
        drop(new);
    });
    drop(servers);
    assert_eq!(settle(&mut watches), expected);
    for _ in 0..2 {
        let server = Server::bind(&names[999]).unwrap();
        look_until(&mut watches, &names[999], || is_live(&names[999]));
        server.close().unwrap();
        look_until(&mut watches, &names[999], || !is_live(&names[999]));
    }
}

/// The kernel reports that the lock was closed before it releases the lock.
fn a_watch_on_many_names_reports_the_death_of_a_server() {
    let base = Base::new();
    let names: Vec<String> = ["a", "b", "c"].map(|name| base.name(name).display().to_string()).into();
    let mut watches = watches(&names);
    for _ in 0..5 {
        let mut holder = serve_both(&names[1]);
        look_until(&mut watches, &names[1], || is_live(&names[1]));
        watches.changed().unwrap();
        holder.kill();
        look_until(&mut watches, &names[1], || !is_live(&names[1]));
    }
    assert!(settle(&mut watches).iter().all(|name| *name == names[1]));
    Server::bind(&names[1]).unwrap().close().unwrap();
}

/// The kernel has one watch for the two roles of that directory.
fn a_name_in_the_directory_of_another_one_is_reported() {
    let base = Base::new();
    let outer = base.name("outer").display().to_string();
    let inner = format!("{outer}/inner");
    for names in [[&outer, &inner], [&inner, &outer]] {
        let mut watches = watches(names);
        let outside = Server::bind(&outer).unwrap();
        look_until(&mut watches, &outer, || is_live(&outer));
        let inside = Server::bind(&inner).unwrap();
        look_until(&mut watches, &inner, || is_live(&inner));
        settle(&mut watches);
        inside.close().unwrap();
        look_until(&mut watches, &inner, || !is_live(&inner));
        outside.close().unwrap();
        look_until(&mut watches, &outer, || !is_live(&outer));
    }
}

fn a_name_that_is_not_watched_any_more_is_not_reported() {
    let base = Base::new();
    let names: Vec<String> = ["a", "b"].map(|name| base.name(name).display().to_string()).into();
    let mut watches = watches(&names);
    let servers: Vec<Server> = names.iter().map(|name| Server::bind(name).unwrap()).collect();
    watches.add(&names[0]).unwrap();
    assert!(watches.remove(&names[0]) && !watches.remove(&names[0]) && !watches.remove("no/name"));
    assert_eq!(settle(&mut watches), BTreeSet::from([names[1].clone()]));
    drop(servers);
    assert_eq!(settle(&mut watches), BTreeSet::from([names[1].clone()]));
    watches.add(&names[0]).unwrap();
    let server = Server::bind(&names[0]).unwrap();
    look_until(&mut watches, &names[0], || is_live(&names[0]));
    drop(server);
}

fn a_base_that_appears_is_reported_for_each_of_its_names() {
    let base = Base::new();
    let later = base.path().join("later");
    let names: Vec<String> = ["a", "b"].map(|name| later.join(name).display().to_string()).into();
    let mut watches = watches(&names);
    let server = Server::bind(&names[0]).unwrap();
    look_until(&mut watches, &names[0], || is_live(&names[0]));
    let another = Server::bind(&names[1]).unwrap();
    look_until(&mut watches, &names[1], || is_live(&names[1]));
    drop((server, another));
    settle(&mut watches);
    std::fs::remove_dir(&later).unwrap();
    assert_eq!(settle(&mut watches).len(), 2);
}

fn without_inotify_each_name_is_reported_again_and_again() {
    feature("without_inotify").remove();
    let base = Base::new();
    let names: Vec<String> = ["a", "b"].map(|name| base.name(name).display().to_string()).into();
    let mut watches = watches(&names);
    for _ in 0..2 {
        assert!(readable_within(watches.as_fd(), DEADLINE));
        assert_eq!(watches.changed().unwrap().len(), 2);
    }
    let server = Server::bind(&names[0]).unwrap();
    look_until(&mut watches, &names[0], || is_live(&names[0]));
    drop(server);
    assert!(names.iter().all(|name| watches.remove(name)));
    assert!(settle(&mut watches).is_empty());
}

fn a_name_that_is_malformed_is_not_watched() {
    let mut watches = Watches::new().unwrap();
    assert_eq!(watches.add("no/name").unwrap_err().kind(), ErrorKind::InvalidName);
}
