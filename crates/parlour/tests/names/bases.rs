//! Base directories as the environment determines them: processes of one user find each other although their
//! environments differ.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parlour::inspect::{self, BaseState, NameState, NameStatus};
use parlour::{ConnectOptions, Connection, Connector, Result, Server, ServerOptions};
use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::by_hand::fifo_client::make_fifo_with;
use crate::by_hand::options::Words;
use crate::by_hand::place::{chmod, list, mode};
use crate::by_hand::roles::say_error;
use crate::by_hand::snapshot;
use crate::by_hand::user::{chown, directory_of, new_uid, no_other_users};
use crate::support::own_machine::{self, SYSTEM_BASE, use_default_bases};
use crate::support::{Base, Child, DEADLINE, Role, alone, eventually, trials};

trials! {
    parlour_dir_is_the_only_base,
    a_relative_parlour_dir_is_an_error,
    a_parlour_dir_whose_parent_is_missing_is_an_error_that_names_it,
    a_trial_uses_no_name_without_a_directory,
    a_client_is_told_that_the_only_base_does_not_exist,
    a_set_user_id_program_ignores_the_environment_of_its_caller unless no_other_users().or_else(no_set_user_id);

    #[own_machine]
    bases_come_in_order unless no_other_users(),
    an_empty_parlour_dir_counts_as_unset unless no_other_users(),
    a_relative_runtime_directory_is_ignored unless no_other_users(),
    a_server_takes_the_first_base_whose_parent_is_there unless no_other_users(),
    a_server_does_not_fall_through_an_unsafe_base unless no_other_users(),
    a_client_finds_a_server_that_took_another_base unless no_other_users(),
    a_connector_finds_a_server_in_an_earlier_base_when_it_is_there unless no_other_users(),
    a_client_finds_a_server_behind_an_unsafe_base unless no_other_users(),
    a_client_that_finds_no_server_reports_an_unsafe_base unless no_other_users(),
    a_name_that_is_alive_in_another_base_is_in_use unless no_other_users(),
    a_name_that_is_dead_in_another_base_is_free unless no_other_users(),
    another_users_base_in_tmp_is_refused_and_left_as_it_is unless no_other_users(),
    root_serves_the_base_of_the_system unless no_other_users(),
    a_thing_of_another_user_in_tmp_ends_no_wait(thing in THINGS)
        unless no_other_users(),
    a_foreign_name_directory_in_a_shared_base_ends_no_wait unless no_other_users(),
    an_error_about_a_directory_names_the_variable_that_leads_there unless no_other_users(),
    a_client_finds_the_server_of_the_user_that_it_expects unless no_other_users(),
    trials_of_default_bases_do_not_see_those_of_the_machine unless no_other_users();
}

/// `look [uid=UID]`: executes the lines of stdin as commands, and ends each answer with a line `.`. The commands are
/// `bases`, `names`, `resolve ADDRESS`, `resolve_for UID ADDRESS`, `clean NAME`, `bind ADDRESS` (and keeps the server),
/// `open ADDRESS` (the same, for all users), `connect ADDRESS`, `connect_again ADDRESS` (through one connector),
/// `wait ADDRESS` and `glance ADDRESS` (which wait for the server, for long and for a moment), and
/// `expect UID ADDRESS`.
pub const LOOK: Role = Role { name: "look", play: look };

fn look(arguments: &[String]) {
    Words(arguments).become_whom_they_say();
    let mut servers = Vec::new();
    let mut connectors = BTreeMap::new();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let (verb, object) = line.split_once(' ').unwrap_or((&line, ""));
        match answer(verb, object, &mut servers, &mut connectors) {
            Ok(lines) => lines.iter().for_each(|line| println!("{line}")),
            Err(error) => say_error(&error),
        }
        println!(".");
    }
}

fn answer(
    verb: &str,
    object: &str,
    servers: &mut Vec<Server>,
    connectors: &mut BTreeMap<String, Connector>,
) -> Result<Vec<String>> {
    Ok(match verb {
        "bases" => inspect::bases()?.iter().map(say_base).collect(),
        "names" => inspect::names()?.iter().map(say_name).collect(),
        "resolve" | "resolve_for" => {
            let resolution = match (verb, object.split_once(' ')) {
                ("resolve_for", Some((uid, address))) => {
                    inspect::resolve_with(address, &ConnectOptions::new().server_uid(uid.parse().unwrap()))?
                }
                _ => inspect::resolve(object)?,
            };
            let path = |path: &Result<PathBuf>| match path {
                Ok(path) => path.display().to_string(),
                Err(error) => format!("error {}: {error}", error.kind()),
            };
            vec![format!("server {}", path(&resolution.server)), format!("client {}", path(&resolution.client))]
        }
        "clean" => {
            let status =
                inspect::names()?.into_iter().find(|status| status.name == object).expect("the name is listed");
            vec![inspect::clean(&status)?.to_string()]
        }
        "bind" => {
            servers.push(Server::bind(object)?);
            vec![servers.last().unwrap().path().display().to_string()]
        }
        "open" => {
            servers.push(ServerOptions::new().mode(0o666).bind(object)?);
            vec![servers.last().unwrap().path().display().to_string()]
        }
        "connect" => vec![format!("connected {}", Connection::connect(object)?.peer())],
        "connect_again" => {
            if !connectors.contains_key(object) {
                connectors.insert(object.to_owned(), Connector::new(object)?);
            }
            vec![format!("connected {}", connectors[object].connect()?.peer())]
        }
        "wait" | "glance" => {
            let wait = if verb == "wait" { DEADLINE } else { Duration::from_millis(20) };
            let connection = ConnectOptions::new().wait_for_server(wait).connect(object)?;
            vec![format!("connected {}", connection.peer())]
        }
        "expect" => {
            let (uid, address) = object.split_once(' ').unwrap();
            let connection = ConnectOptions::new().server_uid(uid.parse().unwrap()).connect(address)?;
            vec![format!("connected {}", connection.peer())]
        }
        other => panic!("unknown command {other:?}"),
    })
}

fn say_base(base: &inspect::Base) -> String {
    let state = match &base.state {
        BaseState::Usable => "usable".to_owned(),
        BaseState::Missing => "missing".to_owned(),
        BaseState::Unavailable(_) => "unavailable".to_owned(),
        BaseState::Unsafe(error) => format!("unsafe: {error}"),
        other => format!("{other:?}"),
    };
    format!("{} {} {state}", base.path.display(), base.origin)
}

/// Returns `NAME PATH STATE TRANSPORTS PID`.
fn say_name(status: &NameStatus) -> String {
    let state = match &status.state {
        NameState::Live => "live",
        NameState::Dead => "dead",
        NameState::Foreign => "foreign",
        NameState::Unsafe(_) => "unsafe",
        _ => "new",
    };
    let transports: Vec<_> = status.transports.iter().map(ToString::to_string).collect();
    let pid = status.owner.as_ref().map_or("-".to_owned(), |owner| owner.pid.to_string());
    format!("{} {} {state} {} {pid}", status.name, status.path.display(), transports.join(","))
}

/// Starts a `look` process with only these of parlour's variables in its environment.
pub fn looker(uid: Option<u32>, environment: &[(&str, &Path)]) -> Child {
    let words: Vec<String> = uid.map(|uid| format!("uid={uid}")).into_iter().collect();
    let mut command = Child::command("look", &words);
    use_default_bases(&mut command);
    for (name, value) in environment {
        command.env(name, value);
    }
    Child::start(&mut command)
}

/// Returns all lines of an answer.
pub fn ask(looker: &mut Child, question: &str) -> Vec<String> {
    looker.say(question);
    std::iter::from_fn(|| Some(looker.line()).filter(|line| line != ".")).collect()
}

pub fn ask_one(looker: &mut Child, question: &str) -> String {
    let lines = ask(looker, question);
    assert_eq!(lines.len(), 1, "{question}: {lines:?}");
    lines[0].clone()
}

fn parlour_dir_is_the_only_base() {
    let top = Base::new();
    let (base, other) = (top.path().join("p"), top.path().join("x"));
    fs::create_dir(&other).unwrap();
    chmod(&other, 0o700);
    let mut looker = looker(None, &[("PARLOUR_DIR", &base), ("XDG_RUNTIME_DIR", &other)]);
    assert_eq!(ask(&mut looker, "bases"), [format!("{} $PARLOUR_DIR missing", base.display())]);
    assert_eq!(ask(&mut looker, "names"), [""; 0]);
    assert_eq!(ask_one(&mut looker, "bind wc"), base.join("wc").display().to_string());
    assert_eq!(mode(&base), 0o700);
    assert_eq!(ask(&mut looker, "bases"), [format!("{} $PARLOUR_DIR usable", base.display())]);
    let pid = looker.pid();
    assert_eq!(ask(&mut looker, "names"), [format!("wc {} live unix {pid}", base.join("wc").display())]);
    assert!(ask_one(&mut looker, "connect wc").starts_with("connected"));
    assert_eq!(list(&other), [""; 0]);
}

fn a_relative_parlour_dir_is_an_error() {
    let mut looker = looker(None, &[("PARLOUR_DIR", Path::new("some/where"))]);
    for question in ["bases", "names", "resolve wc", "bind wc", "connect wc"] {
        let said = ask_one(&mut looker, question);
        assert!(said.starts_with("error unsafe directory:"), "{question}: {said}");
        assert!(said.contains("some/where") && said.contains("absolute"), "{question}: {said}");
    }
    assert!(!Path::new("some").exists());
}

fn a_parlour_dir_whose_parent_is_missing_is_an_error_that_names_it() {
    let top = Base::new();
    let missing = top.path().join("no");
    let mut looker = looker(None, &[("PARLOUR_DIR", &missing.join("base"))]);
    let said = ask_one(&mut looker, "bind wc");
    assert!(said.starts_with("error unsafe directory:") && said.contains(missing.to_str().unwrap()), "{said}");
    assert!(ask_one(&mut looker, "connect wc").starts_with("error no server:"));
    assert_eq!(ask(&mut looker, "bases"), [format!("{} $PARLOUR_DIR unavailable", missing.join("base").display())]);
    assert_eq!(top.files(), [""; 0]);
}

/// A user id that no other test uses, with a directory that stands for its home, and its base in /tmp. Only for trials
/// on their own machine.
struct Somebody {
    uid: u32,
    top: Base,
}

impl Somebody {
    fn new() -> Self {
        let somebody = Self { uid: new_uid(), top: Base::new() };
        chmod(somebody.top.path(), 0o755);
        assert!(!somebody.tmp().exists());
        somebody
    }

    fn tmp(&self) -> PathBuf {
        own_machine::tmp_base(self.uid)
    }

    /// Creates a directory of this user.
    fn home(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.top.path().join(name);
        directory_of(&path, self.uid, mode);
        path
    }

    fn looker(&self, runtime_directory: Option<&Path>) -> Child {
        let variable = runtime_directory.map(|path| ("XDG_RUNTIME_DIR", path));
        looker(Some(self.uid), &variable.into_iter().collect::<Vec<_>>())
    }

    /// Starts a looker that has bound this name in the base in /tmp.
    fn server_in_tmp(&self, name: &str) -> Child {
        let mut server = self.looker(None);
        assert_eq!(ask_one(&mut server, &format!("bind {name}")), self.tmp().join(name).display().to_string());
        server
    }
}

/// Returns paths and origins of the bases, in order.
fn places(looker: &mut Child) -> Vec<(String, String)> {
    let lines = ask(looker, "bases");
    let words = |line: &String| {
        let mut words = line.split(' ').map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    };
    lines.iter().map(words).collect()
}

fn usual(uid: u32) -> Vec<(String, String)> {
    [
        (own_machine::session_base(uid), "/run/user"),
        (own_machine::tmp_base(uid), "/tmp"),
        (SYSTEM_BASE.into(), SYSTEM_BASE),
    ]
    .map(|(path, origin)| (path.display().to_string(), origin.to_owned()))
    .to_vec()
}

fn bases_come_in_order() {
    let somebody = Somebody::new();
    let home = somebody.home("run", 0o700);
    let usual = usual(somebody.uid);
    assert_eq!(places(&mut somebody.looker(None)), usual);
    let own = (home.join("parlour").display().to_string(), "$XDG_RUNTIME_DIR".to_owned());
    let expected: Vec<_> = [own].into_iter().chain(usual.clone()).collect();
    assert_eq!(places(&mut somebody.looker(Some(&home))), expected);
    // A directory that two rules lead to is listed once.
    let session = own_machine::session(somebody.uid);
    let found = places(&mut somebody.looker(Some(&session)));
    assert_eq!(
        found.iter().map(|place| &place.0).collect::<Vec<_>>(),
        usual.iter().map(|place| &place.0).collect::<Vec<_>>()
    );
}

fn an_empty_parlour_dir_counts_as_unset() {
    let somebody = Somebody::new();
    let empty = Path::new("");
    let mut looker = looker(Some(somebody.uid), &[("PARLOUR_DIR", empty), ("XDG_RUNTIME_DIR", empty)]);
    assert_eq!(places(&mut looker), usual(somebody.uid));
}

fn a_relative_runtime_directory_is_ignored() {
    let somebody = Somebody::new();
    assert_eq!(places(&mut somebody.looker(Some(Path::new("run")))), usual(somebody.uid));
}

fn a_server_takes_the_first_base_whose_parent_is_there() {
    let somebody = Somebody::new();
    let home = somebody.home("run", 0o700);
    let mut server = somebody.looker(Some(&home));
    assert_eq!(ask_one(&mut server, "bind one"), home.join("parlour/one").display().to_string());
    assert_eq!(mode(&home.join("parlour")), 0o700);
    assert!(!somebody.tmp().exists());
    let mut server = somebody.looker(Some(&somebody.top.path().join("missing")));
    assert_eq!(ask_one(&mut server, "bind two"), somebody.tmp().join("two").display().to_string());
    assert_eq!(mode(&somebody.tmp()), 0o700);
}

fn a_server_does_not_fall_through_an_unsafe_base() {
    let somebody = Somebody::new();
    for (number, (of_parent, of_base)) in [(0o777, 0o700), (0o700, 0o777), (0o700, 0o720)].into_iter().enumerate() {
        let home = somebody.home(&format!("run{number}"), of_parent);
        directory_of(&home.join("parlour"), somebody.uid, of_base);
        let before = snapshot::tree(&home);
        let said = ask_one(&mut somebody.looker(Some(&home)), "bind wc");
        assert!(said.starts_with("error unsafe directory:"), "{said}");
        assert!(said.contains(home.to_str().unwrap()), "{said}");
        assert!(said.contains(&format!("{:04o}", of_parent.max(of_base))), "{said}");
        assert!(!somebody.tmp().exists());
        assert_eq!(snapshot::tree(&home), before);
    }
}

fn a_client_finds_a_server_that_took_another_base() {
    let somebody = Somebody::new();
    let home = somebody.home("run", 0o700);
    let server = somebody.server_in_tmp("found");
    let mut client = somebody.looker(Some(&home));
    let said = ask_one(&mut client, "connect found");
    assert!(said.starts_with("connected") && said.contains(&format!("pid {}", server.pid())), "{said}");
    let path = somebody.tmp().join("found").display().to_string();
    assert_eq!(
        ask(&mut client, "resolve found"),
        [format!("server {}", home.join("parlour/found").display()), format!("client {path}"),]
    );
    assert_eq!(ask(&mut client, "names"), [format!("found {path} live unix {}", server.pid())]);
    // A dead name of the same name in an earlier base does not hide the server.
    let mut dead = somebody.looker(Some(&home));
    ask_one(&mut dead, "bind other");
    dead.kill();
    fs::rename(home.join("parlour/other"), home.join("parlour/found")).unwrap();
    assert!(ask_one(&mut client, "connect found").starts_with("connected"));
}

fn a_connector_finds_a_server_in_an_earlier_base_when_it_is_there() {
    let somebody = Somebody::new();
    let home = somebody.home("run", 0o700);
    let late = somebody.server_in_tmp("found");
    let mut client = somebody.looker(Some(&home));
    let mut assert_reaches = |pid: u32| {
        for _ in 0..3 {
            let said = ask_one(&mut client, "connect_again found");
            assert!(said.starts_with("connected") && said.contains(&format!("pid {pid}")), "{said}");
        }
    };
    assert_reaches(late.pid());
    // A server refuses a name that another base serves, so this one moves there.
    let mut early = somebody.looker(Some(&home));
    ask_one(&mut early, "bind other");
    fs::rename(home.join("parlour/other"), home.join("parlour/found")).unwrap();
    assert_reaches(early.pid());
    fs::rename(home.join("parlour/found"), home.join("parlour/other")).unwrap();
    assert_reaches(late.pid());
}

fn a_client_finds_a_server_behind_an_unsafe_base() {
    let somebody = Somebody::new();
    let home = somebody.home("run", 0o777);
    let _server = somebody.server_in_tmp("found");
    assert!(ask_one(&mut somebody.looker(Some(&home)), "connect found").starts_with("connected"));
}

fn a_client_that_finds_no_server_reports_an_unsafe_base() {
    let somebody = Somebody::new();
    let home = somebody.home("run", 0o777);
    let said = ask_one(&mut somebody.looker(Some(&home)), "connect found");
    assert!(said.starts_with("error unsafe directory:") && said.contains(home.to_str().unwrap()), "{said}");
    assert!(ask_one(&mut somebody.looker(None), "connect found").starts_with("error no server:"));
}

fn a_name_that_is_alive_in_another_base_is_in_use() {
    let somebody = Somebody::new();
    let home = somebody.home("run", 0o700);
    let mut first = somebody.server_in_tmp("wanted");
    let mut second = somebody.looker(Some(&home));
    let said = ask_one(&mut second, "bind wanted");
    let path = somebody.tmp().join("wanted").display().to_string();
    assert!(said.starts_with("error name in use:"), "{said}");
    assert!(said.contains(&format!("pid {}", first.pid())) && said.contains(&format!("at {path}")), "{said}");
    // The same holds with the bases exchanged.
    assert_eq!(ask_one(&mut second, "bind other"), home.join("parlour/other").display().to_string());
    let mut third = somebody.looker(Some(&home));
    assert!(ask_one(&mut third, "bind other").starts_with("error name in use:"));
    first.kill();
    assert_eq!(ask_one(&mut second, "bind wanted"), home.join("parlour/wanted").display().to_string());
}

fn a_name_that_is_dead_in_another_base_is_free() {
    let somebody = Somebody::new();
    let home = somebody.home("run", 0o700);
    somebody.server_in_tmp("wanted").kill();
    let mut server = somebody.looker(Some(&home));
    assert_eq!(ask_one(&mut server, "bind wanted"), home.join("parlour/wanted").display().to_string());
    let mut client = somebody.looker(Some(&home));
    let said = ask_one(&mut client, "connect wanted");
    assert!(said.contains(&format!("pid {}", server.pid())), "{said}");
}

fn another_users_base_in_tmp_is_refused_and_left_as_it_is() {
    let somebody = Somebody::new();
    let squatter = new_uid();
    for mode in [0o700, 0o755, 0o777] {
        let _ = fs::remove_dir_all(somebody.tmp());
        directory_of(&somebody.tmp(), squatter, mode);
        let before = snapshot::tree(&somebody.tmp());
        let mut looker = somebody.looker(None);
        for question in ["bind wc", "connect wc"] {
            let said = ask_one(&mut looker, question);
            assert!(said.starts_with("error unsafe directory:"), "{said}");
            for part in [&somebody.tmp().display().to_string(), &format!("uid {squatter}"), &format!("{mode:04o}")] {
                assert!(said.contains(part.as_str()), "{part:?} is not in {said:?}");
            }
        }
        assert_eq!(snapshot::tree(&somebody.tmp()), before);
    }
    // A link is not followed, whoever owns it.
    fs::remove_dir_all(somebody.tmp()).unwrap();
    let home = somebody.home("real", 0o700);
    std::os::unix::fs::symlink(&home, somebody.tmp()).unwrap();
    chown(&somebody.tmp(), squatter);
    let said = ask_one(&mut somebody.looker(None), "bind wc");
    assert!(said.starts_with("error unsafe directory:") && said.contains("symbolic link"), "{said}");
    assert_eq!(list(&home), [""; 0]);
    fs::remove_file(somebody.tmp()).unwrap();
}

fn root_serves_the_base_of_the_system() {
    let top = Base::new();
    let mut looker = looker(None, &[("XDG_RUNTIME_DIR", top.path())]);
    let answer = ask(&mut looker, "resolve nobody-has-this-name");
    assert_eq!(answer[0], format!("server {SYSTEM_BASE}/nobody-has-this-name"));
    assert_eq!(places(&mut looker)[0].0, top.path().join("parlour").display().to_string(), "clients look there");
}

/// Waits until this child waits for a server.
fn assert_waits(child: &Child) {
    let watches = || {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", child.pid())).unwrap();
        let mut targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.any(|target| target.as_os_str().to_string_lossy().contains("inotify"))
    };
    eventually("the client waits", watches);
}

const THINGS: [&str; 6] = ["file", "link", "dangling-link", "fifo", "private-directory", "open-directory"];

fn a_client_is_told_that_the_only_base_does_not_exist() {
    let top = Base::new();
    let base = top.path().join("base");
    let name = base.join("wc").display().to_string();
    let told = || Connection::connect(&name).unwrap_err().to_string();
    let missing = format!("(searched {}, which does not exist)", base.display());
    assert!(told().contains(&missing), "{}", told());
    fs::create_dir(&base).unwrap();
    assert!(told().contains(&format!("(searched {})", base.display())), "{}", told());
}

fn a_thing_of_another_user_in_tmp_ends_no_wait(thing: &'static str) {
    let somebody = Somebody::new();
    let (home, squatter, tmp) = (somebody.home("run", 0o700), new_uid(), somebody.tmp());
    match thing {
        "file" => fs::write(&tmp, "").unwrap(),
        "link" => std::os::unix::fs::symlink(somebody.top.path(), &tmp).unwrap(),
        "dangling-link" => std::os::unix::fs::symlink("/no such place", &tmp).unwrap(),
        "fifo" => make_fifo_with(&tmp, 0o666),
        "private-directory" => directory_of(&tmp, squatter, 0o700),
        _ => directory_of(&tmp, squatter, 0o777),
    }
    chown(&tmp, squatter);
    let mut client = somebody.looker(Some(&home));
    let said = ask_one(&mut client, "glance found");
    assert!(said.starts_with("error unsafe directory:"), "{said}");
    assert!(
        said.contains(tmp.to_str().unwrap()) && said.contains("elsewhere no server has the name 'found'"),
        "{said}"
    );
    client.say("wait found");
    assert_waits(&client);
    let mut server = somebody.looker(Some(&home));
    assert_eq!(ask_one(&mut server, "bind found"), home.join("parlour/found").display().to_string());
    let said = client.line();
    assert!(said.starts_with("connected"), "{said}");
}

/// Everybody may create a directory in a base that is sticky.
fn a_foreign_name_directory_in_a_shared_base_ends_no_wait() {
    let top = Base::new();
    let (squatter, user) = (new_uid(), new_uid());
    let shared = top.path().join("shared");
    directory_of(&shared, 0, 0o1777);
    chmod(top.path(), 0o755);
    let name = shared.join("bank");
    directory_of(&name, squatter, 0o755);
    let mut client = looker(Some(user), &[]);
    let said = ask_one(&mut client, &format!("glance {}", name.display()));
    assert!(said.starts_with("error unsafe directory:") && said.contains(&format!("uid {squatter}")), "{said}");
    client.say(&format!("wait {}", name.display()));
    assert_waits(&client);
    fs::remove_dir(&name).unwrap();
    let mut server = looker(None, &[]);
    assert_eq!(ask_one(&mut server, &format!("open {}", name.display())), name.display().to_string());
    let said = client.line();
    assert!(said.starts_with("connected") && said.contains("uid 0 (kernel)"), "{said}");
}

fn an_error_about_a_directory_names_the_variable_that_leads_there() {
    let top = Base::new();
    let home = top.path().join("home");
    fs::create_dir(&home).unwrap();
    chmod(&home, 0o777);
    let mut strict = looker(None, &[("PARLOUR_DIR", &home)]);
    for question in ["bind wc", "connect wc"] {
        let said = ask_one(&mut strict, question);
        assert!(said.starts_with("error unsafe directory:") && said.contains("$PARLOUR_DIR leads there"), "{said}");
    }
    let said = ask_one(&mut looker(None, &[("XDG_RUNTIME_DIR", &home)]), "connect no-such-name-here");
    assert!(said.starts_with("error unsafe directory:") && said.contains("$XDG_RUNTIME_DIR leads there"), "{said}");
}

fn a_client_finds_the_server_of_the_user_that_it_expects() {
    let (somebody, other) = (Somebody::new(), Somebody::new());
    let mut server = somebody.looker(None);
    let path = somebody.tmp().join("found").display().to_string();
    assert_eq!(ask_one(&mut server, "open found"), path);
    // A server of the client's own user does not hide the one that it expects.
    let _own = other.server_in_tmp("found");
    let from = format!("pid {} (kernel), uid {} (kernel)", server.pid(), somebody.uid);
    for mut client in [other.looker(None), looker(None, &[])] {
        let said = ask_one(&mut client, &format!("expect {} found", somebody.uid));
        assert!(said.starts_with("connected") && said.contains(&from), "{said}");
        let resolved = ask(&mut client, &format!("resolve_for {} found", somebody.uid));
        assert_eq!(resolved.last(), Some(&format!("client {path}")), "{resolved:?}");
    }
    let own = ask_one(&mut other.looker(None), "connect found");
    assert!(own.contains(&format!("uid {} (kernel)", other.uid)), "{own}");
    // A base that another user has put into the place of the expected user's base is not used.
    let absent = Somebody::new();
    directory_of(&absent.tmp(), other.uid, 0o755);
    let said = ask_one(&mut looker(None, &[]), &format!("expect {} found", absent.uid));
    assert!(
        said.starts_with("error unsafe directory:") && said.contains(&absent.tmp().display().to_string()),
        "{said}"
    );
}

/// Returns the reason why a set-user-ID program does not get the rights of its owner here, if there is one.
fn no_set_user_id() -> Option<String> {
    let flags = statvfs(std::env::temp_dir()).unwrap().f_flag;
    flags.intersects(StatVfsMountFlags::NOSUID | StatVfsMountFlags::NOEXEC).then(|| "/tmp is mounted nosuid".to_owned())
}

fn a_set_user_id_program_ignores_the_environment_of_its_caller() {
    use std::os::unix::process::CommandExt;
    let top = Base::new();
    chmod(top.path(), 0o755);
    let (caller, owner) = (new_uid(), new_uid());
    let program = top.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    chown(&program, owner);
    let trap = top.path().join("trap");
    directory_of(&trap, caller, 0o755);
    let bases = |mode: u32| {
        chmod(&program, mode);
        let mut command = std::process::Command::new(&program);
        command.env(crate::support::ROLE, "look").env("PARLOUR_DIR", &trap).env("XDG_RUNTIME_DIR", &trap);
        let mut program = Child::start(command.uid(caller).gid(caller));
        places(&mut program)
    };
    assert_eq!(bases(0o755), [(trap.display().to_string(), "$PARLOUR_DIR".to_owned())]);
    assert_eq!(bases(0o4755), usual(owner));
    assert_eq!(bases(0o2755), usual(caller), "the group of the program is not that of the caller");
}

/// Any trial may start a program that uses a name without a directory. It must not find a server of this machine.
fn a_trial_uses_no_name_without_a_directory() {
    for error in [Server::bind("wc").unwrap_err(), Connection::connect("wc").unwrap_err()] {
        assert!(error.to_string().contains("a-test-must-use-a-directory-of-its-own"), "{error}");
    }
}

/// Puts into the default bases all that other users and other programs may have put there on a machine, and runs the
/// trials of the default bases again.
fn trials_of_default_bases_do_not_see_those_of_the_machine() {
    let mut server = looker(None, &[]);
    for name in ["wc", "found", "wanted", "other", "one", "two"] {
        assert_eq!(ask_one(&mut server, &format!("bind {name}")), format!("{SYSTEM_BASE}/{name}"));
    }
    let mut dead = looker(None, &[]);
    ask_one(&mut dead, "bind dead");
    dead.kill();
    let system = Path::new(SYSTEM_BASE);
    directory_of(&system.join("theirs"), new_uid(), 0o777);
    std::os::unix::fs::symlink("/proc", system.join("link")).unwrap();
    fs::write(system.join("file"), "").unwrap();
    // Nothing in these two is trusted: a base in a directory that others may write, and a link in place of a base.
    directory_of(Path::new("/run/user"), new_uid(), 0o777);
    std::os::unix::fs::symlink("/proc", own_machine::tmp_base(0)).unwrap();
    let before = snapshot::tree(system);

    for name in [
        "bases_come_in_order",
        "a_server_takes_the_first_base_whose_parent_is_there",
        "a_client_finds_a_server_that_took_another_base",
        "a_client_that_finds_no_server_reports_an_unsafe_base",
        "a_name_that_is_alive_in_another_base_is_in_use",
        "another_users_base_in_tmp_is_refused_and_left_as_it_is",
        "root_serves_the_base_of_the_system",
    ] {
        let said = alone::run_of(name).output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(said.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&said.stderr));
    }
    assert_eq!(snapshot::tree(system), before);
}
