//! A command that sees no names of this machine although it uses the default bases.

use std::process::Command;

/// The base of the system's services.
pub const SYSTEM_BASE: &str = "/run/parlour";

/// The arguments of unshare(1) for a namespace in which this user may mount.
fn kinds() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] }
}

/// Returns the command that runs `parlour` with these arguments, without `$PARLOUR_DIR`, and where `/run` and `/tmp`
/// are empty. Returns the reason why that is impossible here, if it is.
pub fn command(args: &[&str]) -> Result<Command, String> {
    let program = env!("CARGO_BIN_EXE_parlour");
    if program.starts_with("/run/") || program.starts_with("/tmp/") {
        return Err(format!("{program} would be hidden"));
    }
    let hidden = |words: &[&str]| {
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs none /run && mount -t tmpfs none /tmp && exec \"$@\"";
        command.args(kinds()).args(["sh", "-c", script, "sh"]).args(words);
        command.env_remove("PARLOUR_DIR").env_remove("PARLOUR_LOG").env_remove("XDG_RUNTIME_DIR");
        command
    };
    match hidden(&["true"]).output() {
        Err(error) => Err(format!("start unshare: {error}")),
        Ok(output) if !output.status.success() => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Ok(_) => Ok(hidden(&[&[program], args].concat())),
    }
}
