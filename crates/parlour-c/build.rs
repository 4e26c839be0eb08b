//! Sets the soname of the shared library, by which programs find it at run time. The number increases with each
//! incompatible change of the interface.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libparlour.so.0");
}
