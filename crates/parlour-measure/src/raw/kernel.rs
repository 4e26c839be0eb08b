//! The version of the baselines, which is that of the system.

/// Names the system and its release.
pub(super) fn kernel() -> String {
    let uname = rustix::system::uname();
    format!("Linux {}", uname.release().to_string_lossy())
}
