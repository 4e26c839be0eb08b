//! The commands of the program.
#![cfg(feature = "program")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn bridge(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlour-bridge"));
    command.current_dir(directory).env("PARLOUR_DIR", directory.join("base")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn three_commands_make_a_host_whose_configuration_has_no_mistake() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    assert_eq!(text(&bridge(here, &["cert", "init"]).stdout), "./ca.pem\n./ca.key\n");
    assert_eq!(text(&bridge(here, &["cert", "host", "a.example"]).stdout), "./a.example.pem\n./a.example.key\n");
    let config = "host = \"a.example\"\nlisten = \"127.0.0.1:7477\"\n[tls]\nauthority = \"ca.pem\"\n\
                  certificate = \"a.example.pem\"\nkey = \"a.example.key\"\n\
                  [[export]]\nname = \"wc\"\nto = [\"b.example\"]\n";
    fs::write(here.join("bridge.toml"), config).unwrap();
    let checked = bridge(here, &["check", "--config", "bridge.toml"]);
    assert_eq!(
        (text(&checked.stdout), text(&checked.stderr)),
        ("bridge.toml: no mistake was found\n".into(), "".into())
    );
    assert!(checked.status.success());

    fs::write(here.join("bridge.toml"), config.replace("a.example\"\nlisten", "c.example\"\nlisten")).unwrap();
    for command in ["check", "run"] {
        let refused = bridge(here, &[command, "--config", "bridge.toml"]);
        let problem = text(&refused.stderr);
        assert!(problem.contains("a.example.pem: is for another host; correct host in the configuration"), "{problem}");
        assert_eq!(refused.status.code(), Some(1));
    }
}

#[test]
fn a_bad_name_and_a_second_authority_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    assert!(bridge(here, &["cert", "init", "--dir", "realm"]).status.success());
    let again = bridge(here, &["cert", "init", "--dir", "realm"]);
    assert!(text(&again.stderr).contains("realm/ca.key: exists; move it away"), "{again:?}");
    let named = bridge(here, &["cert", "host", "A", "--dir", "realm"]);
    assert!(text(&named.stderr).contains("\"A\": the name of a host must not contain 'A'"), "{named:?}");
    assert_eq!(bridge(here, &["cert", "host", "a", "--days", "0"]).status.code(), Some(2));
}

#[test]
fn the_manual_and_the_completions_have_every_command_that_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let manual = bridge(directory.path(), &["man"]);
    assert!(manual.status.success(), "{manual:?}");
    let manual = text(&manual.stdout);
    assert!(manual.contains(".TH parlour-bridge 1"), "{manual}");
    for command in ["RUN", "CHECK", "STATUS", "DEMO", "CERT INIT", "CERT HOST", "COMPLETIONS", "MAN"] {
        assert!(manual.contains(&format!(".SH \"PARLOUR-BRIDGE {command}\"")), "{command}: {manual}");
    }
    for section in ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"] {
        assert!(manual.contains(section), "{section}: {manual}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&bridge(directory.path(), &["completions", shell]).stdout);
        assert!(["status", "openmetrics", "cert"].iter().all(|part| script.contains(part)), "{shell}: {script}");
        assert!(!script.contains("demo-bridge"), "{shell} completes hidden commands");
    }
    assert!(!manual.to_lowercase().contains("demo\\-bridge"), "{manual}");
}
