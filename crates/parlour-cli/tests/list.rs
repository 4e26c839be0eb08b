//! Tests of `parlour list`, `parlour path` and `parlour clean`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use common::{Home, own_machine, text};
use rustix::process::Signal;

#[test]
fn a_live_name_is_shown_with_its_server() {
    let home = Home::new();
    let server = home.serve(&["room", "--on", "unix,fifo", "--echo"]);
    let row = home.listed("room");
    assert_eq!(row["state"], "live");
    assert_eq!(row["transports"], serde_json::json!(["unix", "fifo"]));
    assert_eq!(row["pid"], server.pid());
    assert_eq!(row["uid"], rustix::process::geteuid().as_raw());
    assert_eq!(row["program"], env!("CARGO_BIN_EXE_parlour"));
    assert_eq!(row["path"], home.name("room").to_str().unwrap());
    assert!(row["since"].as_str().unwrap().ends_with('Z'), "{row}");
    for transport in ["unix", "fifo"] {
        assert_eq!(row["endpoints"][transport], home.name("room").join(transport).to_str().unwrap());
    }

    let table = home.stdout(&["list"], b"");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    for column in ["NAME", "TRANSPORTS", "PID", "UID", "PROGRAM", "SINCE", "STATE", "PATH"] {
        assert!(lines[0].contains(column), "{table}");
    }
    assert!(lines[1].starts_with("room ") && lines[1].contains(" live "), "{table}");
    assert_eq!(home.stdout(&["ls"], b""), table);
}

#[test]
fn a_dead_name_is_listed_as_dead_and_clean_removes_it() {
    let home = Home::new();
    let mut killed = home.serve(&["killed", "--on", "unix,fifo", "--echo"]);
    let _alive = home.serve(&["alive", "--echo"]);
    killed.kill();
    let row = home.listed("killed");
    assert_eq!((&row["state"], &row["pid"]), (&"dead".into(), &killed.pid().into()));

    let said = home.stdout(&["clean"], b"");
    assert!(said.contains(&format!("removed {}", home.name("killed").display())), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!home.name("killed").exists());
    assert_eq!(home.listed("alive")["state"], "live");
    assert_eq!(home.stdout(&["call", "alive", "hello"], b""), "hello\n");
    assert_eq!(home.stdout(&["clean"], b""), "", "nothing is left to clean");
}

#[test]
fn dead_names_are_listed_with_all_only() {
    let home = Home::new();
    home.serve(&["killed", "--echo"]).kill();
    assert_eq!(home.stdout(&["list", "--json"], b""), "[]\n");
    let output = home.run(&["list"]);
    assert_eq!((text(&output.stdout), output.status.code()), (String::new(), Some(0)));
    assert!(text(&output.stderr).contains("`parlour list --all` shows the dead ones (1)"), "{}", text(&output.stderr));
    let _alive = home.serve(&["alive", "--echo"]);
    let states = |args: &[&str]| -> Vec<String> {
        let rows: serde_json::Value = serde_json::from_str(&home.stdout(args, b"")).unwrap();
        rows.as_array().unwrap().iter().map(|row| format!("{} {}", row["name"], row["state"])).collect()
    };
    assert_eq!(states(&["list", "--json"]), [r#""alive" "live""#]);
    assert_eq!(states(&["list", "--all", "--json"]), [r#""alive" "live""#, r#""killed" "dead""#]);
    assert_eq!(home.stdout(&["ls"], b"").lines().count(), 2);
    assert_eq!(home.stdout(&["ls", "-a"], b"").lines().count(), 3);
    // A name that is not live and may have a server is listed.
    std::fs::set_permissions(home.name("killed"), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(states(&["list", "--json"]), [r#""alive" "live""#, r#""killed" "unsafe""#]);
}

#[test]
fn a_server_that_ends_in_order_leaves_no_name_behind() {
    let home = Home::new();
    for _ in 0..3 {
        let mut server = home.serve(&["room", "--on", "all", "--echo"]);
        assert_eq!(home.stdout(&["call", "room", "hello"], b""), "hello\n");
        server.signal(rustix::process::Signal::TERM);
        assert!(server.wait().success());
        assert_eq!(home.stdout(&["list", "--all", "--json"], b""), "[]\n");
        assert!(!home.name("room").exists());
    }
}

#[test]
fn paths_that_are_not_utf8_lose_nothing_in_json() {
    let home = Home::new();
    let base = home.path().join(OsStr::from_bytes(b"b\xff\x1b[2Js"));
    let run = |args: &[&str]| {
        let output = home.command(args).env("PARLOUR_DIR", &base).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let json = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&run(args)).unwrap() };
    let bytes_of = |path: &std::path::Path| serde_json::json!(path.as_os_str().as_bytes());
    let mut command = home.command(&["serve", "room", "--echo"]);
    command.env("PARLOUR_DIR", &base);
    let _server = home.serve_with(command);
    assert_eq!(json(&["list", "--json"])[0]["path"], bytes_of(&base.join("room")));
    let path = json(&["path", "room", "--json"]);
    assert_eq!(path["server"]["path"], bytes_of(&base.join("room")));
    assert_eq!(path["client"]["path"], bytes_of(&base.join("room")));
    assert_eq!(path["candidates"][0]["base"], bytes_of(&base));
    for args in [&["list"][..], &["path", "room"]] {
        let table = run(args);
        assert!(table.contains(r"b\xff\x1b[2Js") && !table.contains('\x1b'), "{table:?}");
    }
}

#[test]
fn the_record_of_another_program_reaches_the_terminal_without_its_escapes() {
    let home = Home::new();
    home.serve(&["room", "--echo"]).kill();
    let lock = home.name("room").join("lock");
    let record = std::fs::read_to_string(&lock).unwrap();
    let program = record.lines().find(|line| line.starts_with("program ")).unwrap();
    let hostile = "/bin/\u{1b}]0;X\u{7}\u{9b}2J\u{202e}\u{2028}";
    std::fs::write(&lock, record.replace(program, &format!("program {hostile}"))).unwrap();
    let runs = [&["list", "--all"][..], &["list", "--all", "--json"], &["path", "room"], &["clean"]];
    for args in runs {
        let output = home.run(args);
        let said = text(&output.stdout) + &text(&output.stderr);
        let harmful = said.chars().find(|c| (c.is_control() && *c != '\n') || "\u{202e}\u{2028}".contains(*c));
        assert_eq!(harmful, None, "{args:?}: {said:?}");
        assert!(args[0] == "path" || said.contains("/bin/\u{fffd}]0;X"), "{args:?}: {said:?}");
    }
}

#[test]
fn clean_does_not_touch_a_live_name_that_it_is_asked_to_remove() {
    let home = Home::new();
    let server = home.serve(&["alive", "--echo"]);
    let output = home.run(&["clean", "alive"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains(&format!("pid {}", server.pid())), "{}", text(&output.stderr));
    assert_eq!(home.stdout(&["call", "alive", "hello"], b""), "hello\n");
}

#[test]
fn clean_removes_only_the_names_it_is_asked_to() {
    let home = Home::new();
    for name in ["one", "two"] {
        home.serve(&[name, "--echo"]).kill();
    }
    home.stdout(&["clean", "one"], b"");
    assert!(!home.name("one").exists() && home.name("two").exists());
    assert_eq!(home.stdout(&["clean", "one"], b""), "", "a name that does not exist needs no cleaning");
    assert_eq!(home.run(&["clean", "no/name"]).status.code(), Some(2));
}

#[test]
fn clean_leaves_files_that_do_not_belong_to_a_name() {
    let home = Home::new();
    std::fs::write(home.path().join("a-file"), "keep").unwrap();
    std::fs::create_dir(home.path().join(".hidden")).unwrap();
    home.serve(&["dead", "--echo"]).kill();
    std::fs::write(home.name("dead").join("letters"), "keep").unwrap();
    home.run(&["clean"]);
    assert!(home.path().join("a-file").exists() && home.path().join(".hidden").exists());
    assert_eq!(std::fs::read_to_string(home.name("dead").join("letters")).unwrap(), "keep");
}

#[test]
fn a_name_with_the_wrong_mode_is_listed_as_unsafe() {
    let home = Home::new();
    home.serve(&["open", "--echo"]).kill();
    std::fs::set_permissions(home.name("open"), Permissions::from_mode(0o777)).unwrap();
    let row = home.listed("open");
    assert_eq!(row["state"], "unsafe");
    assert!(row["why"].as_str().unwrap().contains("777"), "{row}");
    assert_eq!(home.run(&["clean", "open"]).status.code(), Some(9));
    assert!(home.name("open").exists());
}

#[test]
fn the_list_is_empty_if_there_are_no_names() {
    let home = Home::new();
    assert_eq!(home.stdout(&["list", "--json"], b""), "[]\n");
    assert_eq!(home.stdout(&["list"], b""), "");
}

#[test]
fn path_shows_the_directory_that_a_name_resolves_to() {
    let home = Home::new();
    let path = |name: &str, code| -> serde_json::Value {
        let output = home.run(&["path", name, "--json"]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let nobody = path("room", 3);
    assert_eq!(nobody["server"]["path"], home.name("room").to_str().unwrap());
    assert!(nobody["client"]["why_not"].is_string(), "{nobody}");

    let server = home.serve(&["room", "--echo"]);
    let somebody = path("room", 0);
    assert_eq!(somebody["client"]["path"], home.name("room").to_str().unwrap());
    let candidates = somebody["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 1, "$PARLOUR_DIR is the only one: {somebody}");
    assert_eq!(candidates[0]["base"], home.path().to_str().unwrap());
    assert_eq!(candidates[0]["origin"], "$PARLOUR_DIR");
    assert_eq!(candidates[0]["state"], "usable");
    assert_eq!(candidates[0]["name"], "live");
    assert_eq!(candidates[0]["pid"], server.pid());
    assert_eq!(candidates[0]["endpoints"]["unix"], home.name("room").join("unix").to_str().unwrap());

    let shown = home.stdout(&["path", "room"], b"");
    assert!(shown.contains("$PARLOUR_DIR") && shown.contains("live"), "{shown}");
}

#[test]
fn path_lists_all_directories_in_order() {
    let mut command = match own_machine::command(&["path", "some-name", "--json"]) {
        Ok(command) => command,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let output = command.env("XDG_RUNTIME_DIR", "/run/mine").output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let candidates = answer["candidates"].as_array().unwrap();
    assert_eq!(candidates[0]["origin"], "$XDG_RUNTIME_DIR");
    assert_eq!(candidates[0]["base"], "/run/mine/parlour");
    assert_eq!(candidates.last().unwrap()["base"], own_machine::SYSTEM_BASE);
}

#[test]
fn path_of_a_name_that_no_server_serves_is_exit_code_3() {
    let home = Home::new();
    let output = home.run(&["path", "nobody"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("client connects through:  none"), "{}", text(&output.stdout));
    assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    home.serve(&["dead", "--echo"]).kill();
    assert_eq!(home.run(&["path", "dead"]).status.code(), Some(3));
    let _server = home.serve(&["alive", "--echo"]);
    assert_eq!(home.run(&["path", "alive"]).status.code(), Some(0));
}

#[test]
fn a_stopped_server_is_shown_as_stopped() {
    let home = Home::new();
    let server = home.serve(&["room", "--echo"]);
    assert_eq!(home.listed("room")["stopped"], false);
    server.signal(Signal::STOP);
    // The signal takes effect when the process next runs.
    let deadline = std::time::Instant::now() + common::DEADLINE;
    while home.listed("room")["stopped"] != true {
        assert!(std::time::Instant::now() < deadline, "the server is not shown as stopped");
    }
    assert_eq!(home.listed("room")["state"], "live");
    for command in [&["list"][..], &["path", "room"]] {
        let shown = home.stdout(command, b"");
        assert!(shown.contains("live, stopped"), "{shown}");
    }
    server.signal(Signal::CONT);
    assert_eq!(home.stdout(&["call", "room", "hello"], b""), "hello\n");
    assert_eq!(home.listed("room")["stopped"], false);
}
