//! Which versions are measured: those in this workspace's Cargo.lock.

/// The version of a package that is built in.
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
