//! The version of the contenders, which is that of the library.

/// The version of the library.
#[must_use]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
