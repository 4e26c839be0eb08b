//! C programs with Rust programs and with the program `parlour`, over each transport; the exported symbols;
//! installation.

use std::process::Command;

use libtest_mimic::Trial;
use parlour::{ConnectOptions, Connection, Server, Transport};

use crate::support::build::{self, Flavor};
use crate::support::declarations::{functions, labels};
use crate::support::program::{self, Background};
use crate::support::{base, home};
use crate::{trial, trial_with_program};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("the_library_exports_what_the_headers_declare_and_nothing_else", exports),
        trial("both_classic_headers_at_once_are_a_clear_error", both_headers),
        trial("an_example_is_built_and_runs_with_what_was_installed", installed),
        trial("without_cargo_make_installs_what_was_built_or_says_what_to_do", installed_without_cargo),
    ];
    for &transport in Transport::ALL {
        trials.push(trial(format!("{transport}::a_client_in_c_talks_to_a_server_in_rust"), move || {
            c_asks_rust(transport)
        }));
        trials.push(trial(format!("{transport}::a_server_in_c_talks_to_a_client_in_rust"), move || {
            rust_asks_c(transport)
        }));
        trials.push(trial_with_program(format!("{transport}::a_client_in_c_talks_to_the_program"), move || {
            c_asks_program(transport)
        }));
        trials.push(trial_with_program(format!("{transport}::a_server_in_c_talks_to_the_program"), move || {
            program_asks_c(transport)
        }));
    }
    for transport in [Transport::Unix, Transport::Packet] {
        trials.push(trial(format!("{transport}::a_child_in_c_talks_to_its_parent_in_rust"), move || {
            rust_starts_c(transport)
        }));
    }
    trials
}

fn rust_starts_c(transport: Transport) {
    let mut command = full("child");
    command.arg("as a child");
    let (mut connection, mut child) = Connection::spawn(command, transport).unwrap();
    for length in [0, 1, 70_000] {
        let message = vec![b'x'; length];
        connection.send(&message).unwrap();
        assert!(connection.recv_timeout(program::DEADLINE).unwrap().unwrap() == *message, "{length} bytes");
    }
    connection.close().unwrap();
    assert!(child.wait().unwrap().success());
}

fn full(name: &str) -> Command {
    Command::new(build::program(&home().join(format!("tests/c/full/{name}.c")), &[], Flavor::Plain))
}

fn c_asks_rust(transport: Transport) {
    let base = base();
    let address = format!("{transport}:{}", base.path().join("name").display());
    let server = Server::bind(&address).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = server.accept_timeout(program::DEADLINE).unwrap();
            while let Some(message) = client.recv().unwrap() {
                client.send(&message).unwrap();
            }
        });
        program::succeed(full("ask").arg(&address));
    });
}

fn rust_asks_c(transport: Transport) {
    let base = base();
    let address = format!("{transport}:{}", base.path().join("name").display());
    let serving = Background::start(full("serve").arg(&address));
    let mut connection = ConnectOptions::new().wait_for_server(program::DEADLINE).connect(&address).unwrap();
    for length in [0, 1, 5, 4096, 300_000] {
        let message = vec![7; length];
        connection.send(&message).unwrap();
        assert_eq!(connection.recv_timeout(program::DEADLINE).unwrap().unwrap(), message[..]);
    }
    connection.close().unwrap();
    serving.finish();
}

fn c_asks_program(transport: Transport) {
    let base = base();
    let address = format!("{transport}:{}", base.path().join("name").display());
    let mut serving = Background::start(Command::new(program::parlour()).args(["serve", &address, "--echo"]));
    serving.expect("ready");
    program::succeed(full("ask").arg(&address));
    serving.signal("TERM");
    serving.finish();
}

fn program_asks_c(transport: Transport) {
    let base = base();
    let address = format!("{transport}:{}", base.path().join("name").display());
    let serving = Background::start(full("serve").arg(&address));
    let said = program::succeed(Command::new(program::parlour()).args([
        "call",
        "--wait",
        "60s",
        &address,
        "hello from the shell",
    ]));
    assert_eq!(said.trim_end(), "hello from the shell");
    serving.finish();
}

fn exports() {
    let library = build::shared_library();
    let listed = program::succeed(Command::new("nm").args(["-D", "--defined-only"]).arg(library));
    let mut exported: Vec<&str> = listed.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
    exported.sort_unstable();
    let mut declared: Vec<String> = functions().into_iter().map(|function| function.name).collect();
    declared.extend(labels("parlour/unix_sockets.h"));
    declared.extend(labels("parlour/fifo.h"));
    declared.sort();
    assert_eq!(exported, declared);
}

fn both_headers() {
    let base = base();
    for (first, second) in [("unix_sockets", "fifo"), ("fifo", "unix_sockets")] {
        let source = base.path().join("both.c");
        std::fs::write(&source, format!("#include <parlour/{first}.h>\n#include <parlour/{second}.h>\n")).unwrap();
        let mut command = Command::new(build::c_compiler());
        let output = command.arg("-fsyntax-only").arg("-I").arg(home().join("include")).arg(&source).output().unwrap();
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("include one of them"));
    }
}

/// Installs the library as a distribution does: under a prefix in a staging directory, found by pkg-config.
fn installed() {
    if !build::has("pkg-config") || !build::has("make") {
        println!("skipped: installation, because pkg-config or make is missing");
        return;
    }
    let base = base();
    let stage = base.path().join("stage");
    let mut make = Command::new("make");
    make.arg("-C").arg(home()).arg("install").arg("PREFIX=/opt/parlour").arg(format!("DESTDIR={}", stage.display()));
    // This installs the build of this test, because a release build takes minutes.
    let built = crate::support::built();
    make.arg(format!("BUILT={}", built.join("deps").display())).env_remove("MAKEFLAGS");
    program::succeed(&mut make);

    let root = stage.join("opt/parlour");
    for file in ["include/parlour.h", "include/parlour/fifo.h", "include/parlour/unix_sockets.h", "lib/libparlour.a"] {
        assert!(root.join(file).is_file(), "{file}");
    }
    let flags = |arguments: &[&str]| -> Vec<String> {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_SYSROOT_DIR", &stage).env("PKG_CONFIG_PATH", root.join("lib/pkgconfig"));
        let said = program::succeed(command.args(arguments));
        said.split_whitespace().map(str::to_owned).collect()
    };
    let source = home().join("tests/c/full/hub.c");
    let program_path = base.path().join("hub");
    let address = base.path().join("name");
    // Compiles and runs a program with these flags. Returns the shared libraries that it needs.
    let run = |more: &[&str], arguments: &[&str]| -> String {
        let mut gcc = Command::new(build::c_compiler());
        gcc.args(["-Wall", "-Werror"]).args(more).arg(&source).arg("-o").arg(&program_path).args(flags(arguments));
        program::succeed(&mut gcc);
        program::succeed(Command::new(&program_path).arg(&address).env("LD_LIBRARY_PATH", root.join("lib")));
        program::succeed(Command::new("readelf").arg("-d").arg(&program_path))
    };
    for module in ["parlour", "parlour-static"] {
        assert_eq!(flags(&["--modversion", module]), [env!("CARGO_PKG_VERSION")]);
    }
    assert!(run(&[], &["--cflags", "--libs", "parlour"]).contains("libparlour.so.0"));
    let static_library = run(&[], &["--cflags", "--libs", "parlour-static"]);
    assert!(!static_library.contains("libparlour") && static_library.contains("libc.so"), "{static_library}");
    if has_static_libc(base.path()) {
        let nothing = run(&["-static"], &["--cflags", "--libs", "--static", "parlour"]);
        assert!(!nothing.contains("NEEDED"), "{nothing}");
    } else {
        println!("skipped: a program without shared libraries, because the C library has no archive here");
    }

    let needed = program::succeed(Command::new("readelf").arg("-d").arg(root.join("lib/libparlour.so")));
    assert!(needed.contains("libparlour.so.0"), "{needed}");
}

fn has_static_libc(directory: &std::path::Path) -> bool {
    let source = directory.join("nothing.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let output =
        Command::new(build::c_compiler()).arg("-static").arg(&source).arg("-o").arg(directory.join("nothing")).output();
    output.unwrap().status.success()
}

/// Runs `make install` with a path on which there is no cargo, as under sudo.
fn installed_without_cargo() {
    if !build::has("make") {
        println!("skipped: installation, because make is missing");
        return;
    }
    let base = base();
    let make = |target: &std::path::Path| {
        let mut make = Command::new("make");
        make.arg("-C").arg(home()).args(["install", "CARGO=no-such-cargo"]);
        make.arg(format!("DESTDIR={}", base.path().join("stage").display()));
        make.env_remove("MAKEFLAGS").env("CARGO_TARGET_DIR", target).output().unwrap()
    };
    let nothing = make(&base.path().join("empty"));
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(!nothing.status.success() && said.contains("run 'make' as the user who has Rust"), "{said}");
    assert!(!base.path().join("stage").exists());

    let release = base.path().join("built/release");
    std::fs::create_dir_all(&release).unwrap();
    for library in ["libparlour_c.a", "libparlour_c.so"] {
        std::fs::write(release.join(library), "a library").unwrap();
    }
    let installed = make(&base.path().join("built"));
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    assert!(base.path().join("stage/usr/local/lib/libparlour.a").is_file());
}
