//! Tests of a service that `systemctl reload` replaces (docs/hand-over.md), with systemd as the first process of a PID
//! namespace of its own. They are skipped where that is not possible.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs, unreachable_pub)]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{Home, text};
use rustix::fs::{CWD, Mode, mkfifoat};

const SYSTEMD: &str = "/lib/systemd/systemd";

/// The namespaces of a manager. It dies with `unshare`, and every process in it dies with the manager.
const UNSHARE: [&str; 7] = ["--pid", "--fork", "--mount-proc", "--mount", "--cgroup", "--ipc", "--kill-child"];

/// The time after which the manager counts as one that does not run here.
const START_MAX: Duration = Duration::from_secs(10);

/// The time for all steps of the test.
const STEPS_MAX: Duration = Duration::from_secs(90);

/// Returns the unit of the documentation, with the program under test.
fn unit() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/systemd/parlour-reload.service");
    fs::read_to_string(path).unwrap().replace("/usr/local/bin/parlour", env!("CARGO_BIN_EXE_parlour"))
}

#[test]
fn systemd_analyze_accepts_the_unit_that_is_reloaded() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: systemd-analyze is not installed");
        return;
    }
    let home = Home::new();
    fs::write(home.path().join("parlour-reload.service"), unit()).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--system", "--recursive-errors=no", "--man=no"])
        .arg(home.path().join("parlour-reload.service"))
        .output()
        .unwrap();
    let told = text(&output.stderr);
    assert!(output.status.success() && !told.contains("parlour-reload"), "{told}");
}

/// The steps. Each prints lines, which the test compares.
const DRIVER: &str = r#"
exec > "$HOME_OF_TEST/report" 2>&1
echo "the manager runs"
main() { systemctl show -P MainPID parlour-reload.service; }
state() { echo "state $(systemctl show -P ActiveState parlour-reload.service) $(main)"; }
say() { echo "$1" >&"${CLIENT[1]}"; read -r -t 60 -u "${CLIENT[0]}" line; echo "client $line"; }
systemctl start parlour-reload.service
state
coproc CLIENT { "$PARLOUR" connect echo; }
say before
for number in 1 2 3; do
    before=$(main)
    systemctl reload parlour-reload.service || echo "reload failed"
    for _ in $(seq 100); do [ "$(main)" != "$before" ] && break; sleep 0.1; done
    state
    say "after $number"
    "$PARLOUR" call echo "new $number"
done
exec {CLIENT[1]}>&-
wait
for _ in $(seq 100); do
    pids=$(wc -l < /sys/fs/cgroup/system.slice/parlour-reload.service/cgroup.procs)
    [ "$pids" = 1 ] && break
    sleep 0.1
done
echo "processes $pids"
"$PARLOUR" call echo last
systemctl stop parlour-reload.service
state
echo finished
"#;

/// Mounts what the manager needs, in its own namespace, and becomes the manager.
const MANAGER: &str = r#"
mount --make-rprivate / && mount -t tmpfs tmpfs /run || exit 1
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup || exit 1
: > "$HOME_OF_TEST/console"
[ ! -e /dev/console ] || mount --bind "$HOME_OF_TEST/console" /dev/console || exit 1
exec "$0" --system --unit=test.target --show-status=false
"#;

/// Creates a FIFO, and returns the lines that are written to it. A thread reads them until this process ends.
fn lines_of_fifo(path: &Path) -> mpsc::Receiver<String> {
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap();
    // With a writer of its own, the reader sees no end between two writers.
    let fifo = File::options().read(true).write(true).open(path).unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(fifo).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

#[test]
fn a_reload_under_systemd_replaces_the_server_and_keeps_its_clients() {
    let can_unshare = Command::new("unshare").args(UNSHARE).arg("true").output();
    if !can_unshare.is_ok_and(|output| output.status.success()) || !Path::new(SYSTEMD).exists() {
        println!("skipped: systemd is not installed, or needs privileges");
        return;
    }
    let home = Home::new();
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("units")).unwrap();
    fs::write(at("units/parlour-reload.service"), unit()).unwrap();
    // The manager has no other units, and the names are not those of the machine.
    let of_test =
        format!("[Unit]\nDefaultDependencies=no\n[Service]\nEnvironment=PARLOUR_DIR={}\n", at("names").display());
    fs::create_dir(at("units/parlour-reload.service.d")).unwrap();
    fs::write(at("units/parlour-reload.service.d/test.conf"), of_test).unwrap();
    fs::write(at("units/test.target"), "[Unit]\nDefaultDependencies=no\nWants=driver.service\n").unwrap();
    let driver = format!(
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nEnvironment=HOME_OF_TEST={} PARLOUR={} \
         PARLOUR_DIR={}\nExecStart=/bin/bash {}\n",
        home.path().display(),
        env!("CARGO_BIN_EXE_parlour"),
        at("names").display(),
        at("driver").display()
    );
    fs::write(at("units/driver.service"), driver).unwrap();
    fs::write(at("driver"), DRIVER).unwrap();
    fs::create_dir(at("names")).unwrap();
    let lines = lines_of_fifo(&at("report"));
    let mut manager = Command::new("unshare")
        .args(UNSHARE)
        .args(["/bin/bash", "-c", MANAGER, SYSTEMD])
        .env("HOME_OF_TEST", home.path())
        .env("SYSTEMD_UNIT_PATH", at("units"))
        .env("container", "other")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut report = String::new();
    let mut contains_within = |line: &str, time: Duration| {
        let until = Instant::now() + time;
        while let Ok(next) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            report += &next;
            report.push('\n');
            if next == line {
                return true;
            }
        }
        false
    };
    let runs = contains_within("the manager runs", START_MAX);
    let has_finished = runs && contains_within("finished", STEPS_MAX);
    manager.kill().unwrap();
    manager.wait().unwrap();
    if !runs {
        println!("skipped: systemd does not start in namespaces of its own here");
        return;
    }
    assert!(has_finished, "{report}");
    let mut states = Vec::new();
    let mut others = Vec::new();
    for line in report.lines() {
        match line.strip_prefix("state ") {
            Some(state) => states.push(state),
            None => others.push(line),
        }
    }
    let expected = [
        "the manager runs",
        "client before",
        "client after 1",
        "new 1",
        "client after 2",
        "new 2",
        "client after 3",
        "new 3",
        "processes 1",
        "last",
        "finished",
    ];
    assert!(others == expected, "{report}");
    assert_eq!(states.len(), 5, "{report}");
    assert!(states[..4].iter().all(|state| state.starts_with("active ")), "{report}");
    assert!(states.windows(2).all(|pair| pair[0] != pair[1]), "each reload has another main process: {report}");
    assert_eq!(states[4], "inactive 0", "{report}");
}
