//! `parlour-bridge check`: every mistake that can be found without the other side, with its text.
#![cfg(feature = "program")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use parlour::{ServerOptions, Transport};

const CONFIG: &str = r#"host = "a.example"
listen = "127.0.0.1:LISTEN"
lease = "5s"
[tls]
authority = "ca.pem"
certificate = "a.example.pem"
key = "a.example.key"
[peers]
"b.example" = "192.0.2.2:7477"
[[export]]
name = "wc"
to = ["b.example"]
[[import]]
name = "printer"
from = ["b.example"]
[limits]
conversations = 100
"#;

/// A directory with a realm, the configuration of `a.example`, and a base directory.
struct Scene {
    directory: tempfile::TempDir,
    text: String,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { directory: tempfile::tempdir().unwrap(), text: String::new() };
        for arguments in [&["cert", "init"][..], &["cert", "host", "a.example"], &["cert", "host", "b.example"]] {
            assert!(scene.bridge(arguments).status.success());
        }
        // Free, and above those that the kernel gives to connections.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let scene = Self { text: CONFIG.replace("LISTEN", &free.to_string()), ..scene };
        scene.write(&scene.text);
        fs::create_dir(scene.path("base")).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, text: &str) {
        fs::write(self.path("bridge.toml"), text).unwrap();
    }

    fn bridge(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parlour-bridge"));
        command.current_dir(self.directory.path()).args(arguments).env("PARLOUR_DIR", self.path("base"));
        command.output().unwrap()
    }

    /// Returns the exit code and the lines of the check.
    fn check(&self) -> (Option<i32>, String) {
        let checked = self.bridge(&["check", "--config", "bridge.toml"]);
        (checked.status.code(), String::from_utf8(checked.stderr).unwrap())
    }

    /// Asserts that the check finds this mistake and no other one.
    fn assert_mistake(&self, line: &str) {
        self.assert_line(1, &format!("parlour-bridge: {line}"));
    }

    /// Asserts that the check finds nothing but this, which is no mistake yet.
    fn assert_warning(&self, line: &str) {
        self.assert_line(0, &format!("parlour-bridge: warning: {line}"));
    }

    fn assert_line(&self, code: i32, expected: &str) {
        let (found, lines) = self.check();
        assert_eq!(found, Some(code), "{expected}: {lines}");
        let [line] = lines.lines().collect::<Vec<_>>()[..] else { panic!("{expected}: {lines}") };
        // `*` stands for anything, such as a path or the words of the kernel.
        let mut rest = line;
        for (number, part) in expected.split('*').enumerate() {
            let at = rest.find(part).filter(|at| number > 0 || *at == 0);
            let at = at.unwrap_or_else(|| panic!("{expected}\n{line}"));
            rest = &rest[at + part.len()..];
        }
        assert!(rest.is_empty() || expected.ends_with('*'), "{expected}\n{line}");
    }

    /// Asserts that the configuration with a part replaced has this mistake alone.
    fn assert_replaced(&self, from: &str, to: &str, line: &str) {
        assert!(self.text.contains(from), "{from}");
        self.write(&self.text.replacen(from, to, 1));
        self.assert_mistake(line);
        self.write(&self.text);
    }
}

#[test]
fn the_form_of_the_configuration_is_checked() {
    let scene = Scene::new();
    assert_eq!(scene.check(), (Some(0), String::new()));
    let keys = "see the keys in docs/bridge.md";
    for (from, to, line) in [
        (
            "host = \"a",
            "hots = \"a",
            "bridge.toml: line 1: unknown field `hots`, expected one of *; see the keys in docs/bridge.md",
        ),
        (
            "[peers]",
            "[peer]",
            "bridge.toml: line 8: unknown field `peer`, expected one of *; see the keys in docs/bridge.md",
        ),
        (
            "to = [",
            "too = [",
            "bridge.toml: line 12: unknown field `too`, expected one of *; see the keys in docs/bridge.md",
        ),
        (
            "host = \"a.example\"",
            "host = 7",
            &format!("bridge.toml: line 1: invalid type: integer `7`, expected a string; {keys}"),
        ),
        (
            "= 100",
            "= \"many\"",
            &format!("bridge.toml: line 17: invalid type: string \"many\", expected usize; {keys}"),
        ),
        ("= 100", "= -1", &format!("bridge.toml: line 17: invalid value: integer `-1`, expected usize; {keys}")),
        (
            "to = [\"b.example\"]",
            "to = \"b.example\"",
            "bridge.toml: line 12: invalid type: string \"b.example\", expected a sequence*",
        ),
        (
            "[limits]",
            "message_max = 4294967296\n[limits]",
            "bridge.toml: line 16: invalid value: integer `4294967296`, expected u32*",
        ),
        ("host = \"a.example\"", "", &format!("bridge.toml: line 1: missing field `host`; {keys}")),
        ("from = [\"b.example\"]", "", &format!("bridge.toml: line 13: missing field `from`; {keys}")),
        ("to = [\"b.example\"]", "", &format!("bridge.toml: line 10: missing field `to`; {keys}")),
        ("key = \"a.example.key\"", "", &format!("bridge.toml: line 4: missing field `key`; {keys}")),
        ("lease", "host", "bridge.toml: line 3: duplicate key*; see the keys in docs/bridge.md"),
        ("[tls]", "[tls", "bridge.toml: line 4: *; see the keys in docs/bridge.md"),
    ] {
        scene.assert_replaced(from, to, line);
    }
}

#[test]
fn the_values_of_the_configuration_are_checked() {
    let scene = Scene::new();
    let listen = scene.text.lines().nth(1).unwrap().to_owned();
    for (from, to, line) in [
        (
            "host = \"a.example\"",
            "host = \"A\"",
            "host: the name of a host must not contain 'A' (allowed: a-z, 0-9, - and .); write the DNS name of \
             the certificate in lower case, such as a.example",
        ),
        (
            "host = \"a.example\"",
            "host = \"192.0.2.1\"",
            "host: \"192.0.2.1\" is an address or a number: a host needs a name; *",
        ),
        (
            &*listen,
            "listen = \"a.example:7477\"",
            "listen: \"a.example:7477\" is not an IP address with a port; write ADDRESS:PORT, such as \
             0.0.0.0:7477 or [::]:7477",
        ),
        (
            &*listen,
            "",
            "listen: names are exported, and no other host can reach this one; add listen = \"0.0.0.0:7477\"",
        ),
        (
            &*listen,
            "listen = \"192.0.2.1:7477\"",
            "listen: 192.0.2.1:7477 cannot be used; write an address of this host, or 0.0.0.0 or [::] for all",
        ),
        ("\"5s\"", "\"500ms\"", "lease: \"500ms\" is not a duration from 1s to 5m; write a duration such as 5s"),
        ("\"5s\"", "\"6m\"", "lease: \"6m\" is not a duration from 1s to 5m; write a duration such as 5s"),
        ("\"5s\"", "\"soon\"", "lease: \"soon\" is not a duration from 1s to 5m; write a duration such as 5s"),
        (
            "192.0.2.2:7477",
            "192.0.2.2",
            "[peers] b.example: \"192.0.2.2\" is not the address of a bridge; write host:port, such as 192.0.2.2:7477",
        ),
        ("\"wc\"", "\"w/c\"", "[[export]] name: *; write a name as `parlour list` shows it"),
        ("\"wc\"", "\"unix:wc\"", "[[export]] name: *has a transport or a directory: write the name alone; *"),
        (
            "\"wc\"",
            "\"parlour-bridge\"",
            "[[export]] name: each bridge serves its status under the name parlour-bridge; write the name of \
             another server",
        ),
        (
            "\"printer\"",
            "\"wc\"",
            "[[import]] name: wc is exported, too: its clients would go round in circles; remove one of the two",
        ),
        (
            "[limits]",
            "[[import]]\nname = \"printer\"\nfrom = [\"b.example\"]\n[limits]",
            "[[import]] name: printer is there twice; write one [[import]] with all hosts",
        ),
        (
            "[limits]",
            "[[export]]\nname = \"wc\"\nto = [\"b.example\"]\n[limits]",
            "[[export]] name: wc is there twice; write one [[export]] with all hosts",
        ),
        (
            "to = [\"b.example\"]",
            "to = [\"b.example\", \"b.example\"]",
            "[[export]] wc: to: b.example is there twice; remove one of the two",
        ),
        (
            "to = [\"b.example\"]",
            "to = []",
            "[[export]] wc: to: no host is named; name at least one, or remove the entry",
        ),
        (
            "from = [\"b.example\"]",
            "from = []",
            "[[import]] printer: from: no host is named; name at least one, or remove the entry",
        ),
        (
            "to = [\"b.example\"]",
            "to = [\"a.example\"]",
            "[[export]] wc: to: a.example is this host itself; name another host",
        ),
        (
            "from = [\"b.example\"]",
            "from = [\"b.example\", \"c.example\"]",
            "[[import]] printer: from: the address of c.example is not known; add \"c.example\" = \
             \"ADDRESS:7477\" to [peers], or add *",
        ),
        (
            "[limits]",
            "message_max = 0\n[limits]",
            "[[import]] printer: message_max: 0 is out of range; write a number of bytes from 1 to 2147483647",
        ),
        ("= 100", "= 0", "[limits] conversations: 0 lets nobody in; write a number above 0, or remove the line*"),
        (
            "= 100",
            "= 100\nopens_per_second = 0",
            "[limits] opens_per_second: 0 lets nobody in; write a number above 0, or remove the line",
        ),
        (
            "= 100",
            "= 100\nconversations_per_host = 101",
            "[limits] conversations_per_host: is above conversations, which is 100; lower it, or raise conversations",
        ),
        (
            "[limits]",
            "[discovery.dns]\nservers = [\"dns\"]\n[limits]",
            "[discovery.dns] servers: \"dns\" is not an IP address *",
        ),
    ] {
        if line.starts_with("[limits] conversations: 0") {
            // Both limits are 0 then.
            scene.write(&scene.text.replacen(from, to, 1));
            assert!(scene.check().1.contains("[limits] conversations: 0 lets nobody in"), "{}", scene.check().1);
            scene.write(&scene.text);
            continue;
        }
        scene.assert_replaced(from, to, line);
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_told_with_the_reason() {
    let scene = Scene::new();
    fs::remove_file(scene.path("bridge.toml")).unwrap();
    scene.assert_mistake("bridge.toml: cannot be read: No such file *; create it, or name another file with --config");
    fs::write(scene.path("bridge.toml"), b"host = \"\xff\"").unwrap();
    scene.assert_mistake("bridge.toml: cannot be read: * UTF-8; write it in UTF-8");
    fs::remove_file(scene.path("bridge.toml")).unwrap();
    fs::create_dir(scene.path("bridge.toml")).unwrap();
    scene.assert_mistake("bridge.toml: cannot be read: Is a directory *; name a file");
}

#[test]
fn the_files_of_tls_are_checked() {
    let scene = Scene::new();
    for (from, to, line) in [
        (
            "\"ca.pem\"",
            "\"none.pem\"",
            "*/none.pem: cannot be read: No such file *; correct the path in [tls], or create the file with \
             `cert init` and `cert host`",
        ),
        (
            "\"ca.pem\"",
            "\"bridge.toml\"",
            "*/bridge.toml: contains no certificate; restore the file that `cert` has created",
        ),
        (
            "\"ca.pem\"",
            "\"b.example.pem\"",
            "*/a.example.pem: is not signed by the authority; copy the certificate of the authority that has signed it",
        ),
        ("\"a.example.pem\"", "\"b.example.pem\"", "*"),
        (
            "\"a.example.key\"",
            "\"b.example.key\"",
            "*/b.example.key: is not the key of */a.example.pem; use the certificate and the key that were \
             created together",
        ),
        (
            "\"a.example.key\"",
            "\"ca.key\"",
            "*/ca.key: is not the key of */a.example.pem; use the certificate and the key that were created together",
        ),
        (
            "host = \"a.example\"",
            "host = \"c.example\"",
            "*/a.example.pem: is for another host; correct host in the configuration, or create one with `cert \
             host c.example`",
        ),
    ] {
        if to == "\"b.example.pem\"" && from == "\"a.example.pem\"" {
            // Of another host, and of another key.
            scene.write(&scene.text.replacen(from, to, 1));
            let (code, lines) = scene.check();
            assert!(code == Some(1) && lines.contains("b.example.pem: is for another host; "), "{lines}");
            assert!(lines.contains("a.example.key: is not the key of "), "{lines}");
            scene.write(&scene.text);
            continue;
        }
        scene.assert_replaced(from, to, line);
    }
    let key = fs::read_to_string(scene.path("a.example.key")).unwrap();
    fs::write(scene.path("a.example.key"), key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")).unwrap();
    scene.assert_mistake(
        "*/a.example.key: is encrypted, and a bridge asks for no password; decrypt it with `openssl pkey`",
    );
    fs::write(scene.path("a.example.key"), key).unwrap();
    for (file, mode, line) in [
        (
            "a.example.key",
            0o640,
            "*/a.example.key: can be read by other users; run `chmod 600 */a.example.key`, and make a new key \
             if others may have read it",
        ),
        ("a.example.pem", 0o664, "*/a.example.pem: can be written by other users; run `chmod go-w */a.example.pem`"),
        ("bridge.toml", 0o666, "bridge.toml: can be written by other users; run `chmod go-w bridge.toml`"),
    ] {
        let before = fs::metadata(scene.path(file)).unwrap().permissions();
        fs::set_permissions(scene.path(file), fs::Permissions::from_mode(mode)).unwrap();
        scene.assert_mistake(line);
        fs::set_permissions(scene.path(file), before).unwrap();
    }
    // Of another realm, with the same names.
    let other = Scene::new();
    fs::copy(other.path("ca.pem"), scene.path("ca.pem")).unwrap();
    scene.assert_mistake(
        "*/a.example.pem: is not signed by the authority; copy the certificate of the authority that has signed it",
    );
}

#[test]
fn what_the_bridge_needs_of_its_host_is_checked() {
    let scene = Scene::new();
    fs::remove_dir(scene.path("base")).unwrap();
    fs::write(scene.path("base"), "").unwrap();
    let (code, lines) = scene.check();
    assert_eq!(code, Some(1), "{lines}");
    assert!(lines.starts_with("parlour-bridge: the base directory: no name can be taken: "), "{lines}");
    assert!(lines.contains("; set PARLOUR_DIR or XDG_RUNTIME_DIR to a directory that the user of"), "{lines}");
    fs::remove_file(scene.path("base")).unwrap();

    let serve = |name: &str, transport| {
        let address = scene.path("base").join(name);
        ServerOptions::new().transports([transport]).bind(address.to_str().unwrap()).unwrap()
    };
    let server = serve("printer", Transport::Unix);
    scene.assert_warning(
        "[[import]] printer: a server of this host has the name (*, process *), and keeps it; end that server, or \
         remove the import",
    );
    drop(server);
    let server = serve("wc", Transport::Fifo);
    scene.assert_warning(
        "[[export]] wc: its server does not offer the transport unix, so that the bridge copies each message; \
         start the server with unix among its transports",
    );
    drop(server);
    let listen = scene.text.lines().nth(1).unwrap().trim_start_matches("listen = ").trim_matches('"');
    let listener = TcpListener::bind(listen).unwrap();
    scene.assert_warning(&format!(
        "listen: another program listens at {listen}; end it (`ss -ltnp` names it), or write another port"
    ));
    // Then it may be a bridge that listens.
    let bridge = serve("parlour-bridge", Transport::Unix);
    assert_eq!(scene.check(), (Some(0), String::new()));
    drop((listener, bridge));

    scene.write(&scene.text.replace("= 100", "= 1000000"));
    scene.assert_warning(
        "[limits] conversations: 1000000 conversations need * descriptors, and this process may have *",
    );
    let text = scene.text.replace("192.0.2.2:7477", "b.invalid:7477");
    scene.write(&text);
    scene.assert_warning(
        "[peers] b.example: b.invalid:7477 cannot be resolved: *; correct it, write an IP address, or *",
    );
    let import = scene.text.find("[[import]]").unwrap();
    scene.write(&scene.text[..import]);
    scene.assert_warning(
        "[peers] b.example: nothing is imported from b.example; add it to `from` of an [[import]], or *",
    );
}
