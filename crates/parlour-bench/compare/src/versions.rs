//! The versions of the measured libraries, from this workspace's Cargo.lock.

/// Returns the version of a package in Cargo.lock.
pub(crate) fn locked(package: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let version = lock.split("[[package]]").find_map(|entry| {
        let name = entry.lines().find_map(|line| line.strip_prefix("name = "))?;
        let version = entry.lines().find_map(|line| line.strip_prefix("version = "))?;
        (name.trim_matches('"') == package).then(|| version.trim_matches('"').to_owned())
    });
    version.unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_package_asked_for() {
        assert!(locked("tokio").starts_with("1."), "{}", locked("tokio"));
        assert_eq!(locked("no-such-package"), "unknown");
    }
}
