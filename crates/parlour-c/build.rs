//! The name by which programs find the shared library when they run. The number goes up when they would have to be
//! built anew.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libparlour.so.0");
}
