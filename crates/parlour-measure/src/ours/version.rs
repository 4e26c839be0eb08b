//! The version of parlour's own contenders.

/// Returns the version of this package, which is the version of the library.
#[must_use]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
