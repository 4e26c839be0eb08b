//! The units of the documentation. The tests are skipped where `systemd-analyze` is not installed.
#![cfg(feature = "program")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The units, with the names under which a manager runs them.
const UNITS: [(&str, &str); 2] = [
    ("parlour-bridge.service", "parlour-bridge.service"),
    // The instance is a user that exists everywhere.
    ("parlour-bridge@.service", "parlour-bridge@root.service"),
];

/// The exposure that no unit may reach.
const EXPOSURE_MAX: f64 = 3.0;

/// Writes the units, with the program under test, to a directory.
fn units(directory: &Path) -> Vec<PathBuf> {
    let documentation = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/systemd");
    let write = |(file, name): (&str, &str)| {
        let text = fs::read_to_string(documentation.join(file)).unwrap();
        assert!(text.contains("/usr/local/bin/parlour-bridge"), "{file}");
        let path = directory.join(name);
        fs::write(&path, text.replace("/usr/local/bin/parlour-bridge", env!("CARGO_BIN_EXE_parlour-bridge"))).unwrap();
        path
    };
    UNITS.into_iter().map(write).collect()
}

fn is_missing() -> bool {
    let is_missing = Command::new("systemd-analyze").arg("--version").output().is_err();
    if is_missing {
        println!("skipped: systemd-analyze is not installed");
    }
    is_missing
}

/// After an error of the configuration or the system that has passed, the bridge is there again.
#[test]
fn the_units_start_the_bridge_again_however_often_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    for unit in units(directory.path()) {
        let text = fs::read_to_string(&unit).unwrap();
        let (of_unit, of_service) = text.split_once("[Service]").unwrap();
        // systemd ignores this line in another section.
        assert!(of_unit.lines().any(|line| line == "StartLimitIntervalSec=0"), "{}", unit.display());
        assert!(of_service.lines().any(|line| line == "Restart=always"), "{}", unit.display());
    }
}

#[test]
fn systemd_analyze_rates_the_units_below_three() {
    if is_missing() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for unit in units(directory.path()) {
        let mut command = Command::new("systemd-analyze");
        let output = command.args(["security", "--offline=true", "--no-pager"]).arg(&unit).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        // Such as `Overall exposure level for parlour-bridge.service: 2.0 OK`.
        let overall = told.lines().find(|line| line.contains("Overall exposure level"));
        let overall = overall.unwrap_or_else(|| panic!("{told}\n{}", String::from_utf8_lossy(&output.stderr)));
        let exposure = overall.rsplit(": ").next().and_then(|rest| rest.split(' ').next()).unwrap();
        assert!(exposure.parse::<f64>().unwrap() < EXPOSURE_MAX, "{told}");
    }
}

#[test]
fn systemd_analyze_accepts_the_units() {
    if is_missing() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for unit in units(directory.path()) {
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--system", "--recursive-errors=no", "--man=no"]).arg(&unit);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !told.contains("parlour-bridge"), "{told}");
    }
}
