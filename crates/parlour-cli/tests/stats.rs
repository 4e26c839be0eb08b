//! Tests of `parlour stats`, `parlour clients` and `parlour list --long`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;
#[path = "common/openmetrics.rs"]
mod openmetrics;

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{Home, Running, text};
use parlour::{ConnectOptions, Connection, Origin, inspect};

/// Starts a server that echoes, and a client that has got the echo of one message of 5 bytes.
fn conversing(home: &Home) -> (Running, Connection) {
    let server = home.serve(&["room", "--on", "unix", "--echo"]);
    let mut client = Connection::connect(home.name("room").to_str().unwrap()).unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"hello");
    // The server counts a message after it was sent.
    let counted = || inspect::stats(home.name("room").to_str().unwrap()).unwrap().sent.messages;
    let until = Instant::now() + Duration::from_secs(60);
    while counted() == 0 && Instant::now() < until {
        thread::yield_now();
    }
    (server, client)
}

fn json(home: &Home, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&home.stdout(args, b"")).unwrap()
}

#[test]
fn stats_prints_clients_and_traffic_as_text_and_json() {
    let home = Home::new();
    let (server, _client) = conversing(&home);
    let printed = home.stdout(&["stats", "room"], b"");
    for part in [
        "name      room\n",
        &format!("pid {}, uid ", server.pid()),
        "clients   1 connected, 1 accepted, 0 refused\n",
        "received  1 messages, 5 bytes\n",
        "sent      1 messages, 5 bytes, 0 bytes held\n",
    ] {
        assert!(printed.contains(part), "{part:?} is missing in {printed}");
    }
    assert!(!printed.contains("stuck"), "{printed}");
    let stats = json(&home, &["stats", "room", "--json"]);
    assert_eq!((&stats["name"], &stats["pid"]), (&"room".into(), &server.pid().into()));
    assert_eq!((&stats["open"], &stats["accepted"], &stats["stuck"]), (&1.into(), &1.into(), &0.into()));
    assert_eq!((&stats["received_bytes"], &stats["sent_messages"]), (&5.into(), &1.into()));
    assert_eq!(stats["refused"]["policy"], 0);
    assert_eq!(stats["clients"][0]["pid"], std::process::id());
}

#[test]
fn stats_prints_what_a_parser_of_openmetrics_takes() {
    let home = Home::new();
    let (_server, _client) = conversing(&home);
    let printed = home.stdout(&["stats", "room", "--openmetrics"], b"");
    let families = openmetrics::parse(&printed).unwrap();
    let samples: Vec<_> = families.iter().flat_map(|family| &family.samples).collect();
    assert!(samples.iter().all(|sample| sample.labels["name"] == "room"), "{printed}");
    let value = |name: &str, direction: Option<&str>| {
        let is_it = |sample: &&&openmetrics::Sample| {
            sample.name == name && sample.labels.get("direction").map(String::as_str) == direction
        };
        samples.iter().find(is_it).unwrap_or_else(|| panic!("{name} is missing in {printed}")).value
    };
    assert_eq!(value("parlour_server_clients", None), 1.0);
    assert_eq!(value("parlour_server_accepted_total", None), 1.0);
    assert_eq!(value("parlour_server_messages_total", Some("received")), 1.0);
    assert_eq!(value("parlour_server_message_bytes_total", Some("sent")), 5.0);
}

#[test]
fn clients_lists_each_client_with_its_traffic() {
    let home = Home::new();
    let (_server, _client) = conversing(&home);
    let table = home.stdout(&["clients", "room"], b"");
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 2, "{table}");
    let pid = std::process::id().to_string();
    assert_eq!((lines[0][0], lines[1][0], lines[1][2]), ("PID", &*pid, "unix"), "{table}");
    let rows = json(&home, &["clients", "room", "--json"]);
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(
        (&rows[0]["number"], &rows[0]["received_bytes"], &rows[0]["stuck"]),
        (&1.into(), &5.into(), &false.into())
    );
}

#[test]
fn a_client_that_a_bridge_has_connected_is_shown_with_its_host() {
    let home = Home::new();
    let (_server, _near) = conversing(&home);
    let table = home.stdout(&["clients", "room"], b"");
    assert!(!table.contains("ORIGIN"), "{table}");
    let origin = Origin::new("b.example").with_uid(7).with_pid(4711).with_program("wc");
    let options = ConnectOptions::new().origin(origin);
    let _far = options.connect(home.name("room").to_str().unwrap()).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while json(&home, &["clients", "room", "--json"]).as_array().unwrap().len() < 2 {
        assert!(Instant::now() < until, "the client is not counted");
    }
    let table = home.stdout(&["clients", "room"], b"");
    let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
    let ends = ["  ORIGIN", "  -", "  b.example (wc, pid 4711)"];
    assert!(lines.iter().zip(ends).all(|(line, end)| line.ends_with(end)) && lines.len() == 3, "{table}");
    let rows = json(&home, &["clients", "room", "--json"]);
    assert_eq!(rows[0]["origin"], serde_json::Value::Null);
    let origin = serde_json::json!({ "host": "b.example", "uid": 7, "pid": 4711, "program": "wc" });
    assert_eq!(rows[1]["origin"], origin);
    let stats = home.stdout(&["stats", "room"], b"");
    assert!(stats.contains("of host   b.example: 1 connected\n"), "{stats}");
    let metrics = home.stdout(&["stats", "room", "--openmetrics"], b"");
    openmetrics::parse(&metrics).unwrap();
    let sample = "parlour_server_origin_clients{name=\"room\",host=\"b.example\"} 1\n";
    assert!(metrics.contains(sample), "{metrics}");
    let top = home.stdout(&["top", "room", "--once"], b"");
    assert!(top.contains(" b.example (wc, pid 4711) "), "{top}");
}

#[test]
fn a_server_without_clients_and_a_name_without_a_server_are_told() {
    let home = Home::new();
    let _server = home.serve(&["room", "--echo"]);
    let output = home.run(&["clients", "room"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), String::new()));
    assert!(text(&output.stderr).contains("there are no clients"), "{}", text(&output.stderr));
    for command in ["stats", "clients"] {
        let output = home.run(&[command, "nobody"]);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    }
}

#[test]
fn a_long_list_shows_clients_and_rates() {
    let home = Home::new();
    let (_server, _client) = conversing(&home);
    let table = home.stdout(&["list", "--long"], b"");
    let header = table.lines().next().unwrap();
    for column in ["CLIENTS", "STUCK", "MESSAGES/S", "BYTES/S", "PATH"] {
        assert!(header.contains(column), "{table}");
    }
    let rows = json(&home, &["list", "--long", "--json"]);
    assert_eq!((&rows[0]["traffic"]["clients"], &rows[0]["traffic"]["stuck"]), (&1.into(), &0.into()));
    assert!(json(&home, &["list", "--json"])[0].get("traffic").is_none());
}

/// Starts a server of another user in a directory of that user. Returns `None` if this process cannot do that.
fn of_another_user(home: &Home, uid: u32) -> Option<(PathBuf, Running)> {
    use std::os::unix::fs::{PermissionsExt, chown};
    let base = home.path().join("theirs");
    let program = home.path().join("parlour");
    let open = || std::fs::Permissions::from_mode(0o755);
    std::fs::create_dir(&base).unwrap();
    if let Err(error) = chown(&base, Some(uid), Some(uid)) {
        println!("skipped: only root has servers of other users ({error})");
        return None;
    }
    // The other user may not be able to execute the program where it was built.
    std::fs::copy(env!("CARGO_BIN_EXE_parlour"), &program).unwrap();
    for path in [home.path(), &base, &program] {
        std::fs::set_permissions(path, open()).unwrap();
    }
    let command = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()]).arg(&program);
        command.args(args).env("PARLOUR_DIR", &base).env_remove("XDG_RUNTIME_DIR");
        command
    };
    let outcome = command(&["--version"]).output();
    if !outcome.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: setpriv(1) cannot run {} as another user: {outcome:?}", program.display());
        return None;
    }
    let server = home.serve_with(command(&["serve", "room", "--on", "unix", "--echo"]));
    Some((base, server))
}

#[test]
fn root_sees_the_server_of_another_user_by_the_id_of_that_user_and_not_without() {
    let home = Home::new();
    let (theirs, others) = ("54321", "54322");
    let Some((base, server)) = of_another_user(&home, 54321) else { return };
    let run = |args: &[&str]| {
        let output = home.command(args).env("PARLOUR_DIR", &base).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let file = home.path().join("room.mcap").to_str().unwrap().to_owned();
    let pid = format!("{}", server.pid());
    let commands: [&[&str]; 5] = [
        &["stats", "room"],
        &["clients", "room"],
        &["top", "room", "--once", "--interval", "100ms"],
        &["tap", "room", "--count", "0"],
        &["record", "room", &file, "--count", "0"],
    ];
    for command in commands {
        let (code, shown, said) = run(command);
        assert_eq!((code, &*shown), (Some(5), ""), "{command:?}: {said}");
        assert!(said.contains("server_uid") || said.contains("--server-uid"), "{command:?}: {said}");
        let (code, shown, said) = run(&[command, &["--server-uid", others]].concat());
        assert_eq!((code, &*shown), (Some(5), ""), "{command:?}: {said}");
        let (code, shown, said) = run(&[command, &["--server-uid", theirs]].concat());
        assert_eq!(code, Some(0), "{command:?}: {shown}{said}");
    }
    let listed = |args: &[&str]| {
        let (code, shown, said) = run(args);
        assert_eq!(code, Some(0), "{said}");
        shown
    };
    for (command, reason) in [(&["list"][..], "skipped"), (&["top", "--once", "--interval", "100ms"], "0 names")] {
        let (_, shown, said) = run(command);
        assert!(!shown.contains(&pid) && format!("{shown}{said}").contains(reason), "{command:?}: {shown}{said}");
        assert!(listed(&[command, &["--server-uid", theirs]].concat()).contains(&pid), "{command:?}");
    }
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&listed(&["list", "--long", "--json", "--server-uid", theirs,]))
            .unwrap()[0]["traffic"]["clients"],
        0
    );
}
