//! The version of the baselines.

/// Returns the name and the release of the kernel, which is the version of the baselines.
pub(super) fn kernel() -> String {
    let uname = rustix::system::uname();
    format!("Linux {}", uname.release().to_string_lossy())
}
