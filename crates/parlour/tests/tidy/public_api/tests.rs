//! The lister, on small crates.

use super::{difference, list};

/// Lists a crate `it` that has these files.
fn api(files: &[(&str, &str)]) -> Vec<String> {
    list("it", &|path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()))
}

fn api_of(lib: &str) -> Vec<String> {
    api(&[("lib.rs", lib)])
}

#[test]
fn a_reexport_has_the_name_that_it_is_given() {
    let lib = "mod a; pub use a::{Inner as Outer, make}; pub use std::io::Error as IoError;";
    let a =
        "pub struct Inner { pub(crate) x: u8, pub y: u8 } pub struct Unreachable; pub fn make() -> Inner { todo!() }";
    assert_eq!(
        api(&[("lib.rs", lib), ("a.rs", a)]),
        [
            "pub use it::IoError = std::io::Error",
            "pub struct it::Outer { .. }",
            "pub field it::Outer::y: u8",
            "pub fn it::make() -> it::Outer",
        ]
    );
}

#[test]
fn a_second_path_of_an_item_is_one_line() {
    let lib = "pub mod a { pub struct A; impl A { pub fn new() -> Self { A } } } pub use a::A;";
    assert_eq!(
        api_of(lib),
        ["pub use it::A = it::a::A", "pub mod it::a", "pub struct it::a::A", "pub fn it::a::A::new() -> Self"]
    );
}

#[test]
fn a_glob_brings_what_is_public() {
    let lib = "mod a { mod b; pub use self::b::*; pub(crate) struct No; } pub use crate::a::*;";
    let b = "pub struct Yes; struct No; pub(super) fn no() {} impl From<No> for Yes { }";
    assert_eq!(api(&[("lib.rs", lib), ("a/b.rs", b)]), ["pub struct it::Yes"]);
}

#[test]
fn types_of_the_same_name_are_told_apart() {
    let lib = "mod connection; pub mod tasks; pub use connection::Connection;";
    let connection = "pub struct Connection; impl Connection { pub fn recv(&mut self) {} }";
    let tasks = "mod connection; mod methods; pub use connection::Connection;";
    let in_tasks = "pub struct Connection;";
    let methods = "
        use super::connection::Connection;
        use crate::connection as blocking;
        impl Connection { pub async fn recv(&mut self) {} pub fn own(self) -> blocking::Connection { todo!() } }
        impl From<blocking::Connection> for Connection {}";
    let files = [
        ("lib.rs", lib),
        ("connection.rs", connection),
        ("tasks/mod.rs", tasks),
        ("tasks/connection.rs", in_tasks),
        ("tasks/methods.rs", methods),
    ];
    assert_eq!(
        api(&files),
        [
            "pub struct it::Connection",
            "pub fn it::Connection::recv(&mut self)",
            "pub mod it::tasks",
            "pub struct it::tasks::Connection",
            "impl From<it::Connection> for it::tasks::Connection",
            "pub fn it::tasks::Connection::own(self) -> it::Connection",
            "pub async fn it::tasks::Connection::recv(&mut self)",
        ]
    );
}

#[test]
fn features_are_told_and_what_is_for_tests_is_left_out() {
    let lib = r#"
        #[cfg(feature = "x")] pub mod x { pub fn f() {} #[cfg(feature = "y")] pub fn g() {} }
        #[cfg(test)] mod tests;
        #[cfg(fuzzing)] pub mod fuzzing;
        #[cfg(any(fuzzing, all(test, not(loom))))] pub fn only_tests() {}
        #[cfg(not(loom))] pub fn always() {}
        #[doc(hidden)] pub fn hidden() {}
        pub struct S;
        mod more { #[cfg(feature = "x")] impl crate::S { pub fn gated() {} #[doc(hidden)] pub fn hidden() {} } }
    "#;
    assert_eq!(
        api_of(lib),
        [
            "pub struct it::S",
            "pub fn it::S::gated() [feature x]",
            "pub fn it::always()",
            "pub mod it::x [feature x]",
            "pub fn it::x::f() [feature x]",
            "pub fn it::x::g() [feature x, y]",
        ]
    );
}

#[test]
fn implementations_of_traits_are_told_if_they_are_about_public_types_only() {
    let lib = "
        use std::fmt;
        #[derive(Debug, Clone)] pub struct Open<'a, T>(pub &'a T);
        struct Closed;
        pub trait Reads: Send { type Item; fn read(&self) -> Self::Item; fn all(&self) {} }
        trait Sealed {}
        impl<T: fmt::Debug> fmt::Display for Open<'_, T> {}
        impl<T> Iterator for Open<'_, T> where T: Copy { type Item = Vec<T>; }
        impl<T> From<Open<'_, T>> for Vec<T> {}
        impl Reads for u8 {}
        impl Reads for Closed {}
        impl From<Closed> for Open<'_, u8> {}
        impl<T> Sealed for Open<'_, T> {}";
    assert_eq!(
        api_of(lib),
        [
            "pub struct it::Open<'a, T>",
            "impl<T: std::fmt::Debug> Display for it::Open<'_, T>",
            "impl<T> Clone for it::Open<'_, T>",
            "impl<T> Debug for it::Open<'_, T>",
            "impl<T> From<it::Open<'_, T>> for Vec<T>",
            "impl<T> Iterator for it::Open<'_, T> where T: Copy { type Item = Vec<T> }",
            "pub field it::Open::0: &'a T",
            "pub trait it::Reads: Send",
            "impl it::Reads for u8",
            "pub type it::Reads::Item",
            "pub fn it::Reads::all(&self) { .. }",
            "pub fn it::Reads::read(&self) -> Self::Item",
        ]
    );
}

#[test]
fn attributes_variants_and_constants_are_told() {
    let lib = "
        #[non_exhaustive] #[repr(u8)] pub enum Kind { Plain = 1, Pair(u8, String), Named { to: Kind }, }
        impl Kind { pub const ALL: &'static [Self] = &[]; #[must_use = \"why\"] pub fn get(&self, mut n: usize) {} }
        pub const LEN_MAX: usize = 64;
        pub type Result<T, E = Kind> = std::result::Result<T, E>;
        #[macro_export] macro_rules! shout { () => {} }";
    assert_eq!(
        api_of(lib),
        [
            "#[non_exhaustive] #[repr(u8)] pub enum it::Kind",
            "pub const it::Kind::ALL: &'static [Self]",
            "pub variant it::Kind::Named { to: it::Kind }",
            "pub variant it::Kind::Pair(u8, String)",
            "pub variant it::Kind::Plain = 1",
            "#[must_use] pub fn it::Kind::get(&self, n: usize)",
            "pub const it::LEN_MAX: usize = 64",
            "pub type it::Result<T, E = it::Kind> = std::result::Result<T, E>",
            "pub macro it::shout!",
        ]
    );
}

#[test]
fn a_signature_is_one_line_with_all_its_bounds() {
    let lib = "
        use std::{fmt::{self, Debug}, io::Result};
        pub struct Typed<T: ?Sized>(T);
        impl<T: Debug + ?Sized> Typed<T> {
            pub unsafe fn send<F>(
                &self,
                f: F,
            ) -> Result<T>
            where
                F: Fn(&fmt::Arguments) -> T,
            {}
        }";
    assert_eq!(
        api_of(lib)[1],
        "pub unsafe fn it::Typed<T>::send<F>(&self, f: F) -> std::io::Result<T> \
         where F: Fn(&std::fmt::Arguments) -> T, T: std::fmt::Debug + ?Sized"
    );
}

#[test]
fn a_change_is_noticed_and_told() {
    let before = api_of("pub fn a() {} pub fn send(message: &[u8]) {} pub fn z() {}");
    let after = api_of("pub fn a() {} pub fn send(message: Vec<u8>) {} pub fn sent() {} pub fn z() {}");
    let (before, after) = (before.join("\n"), after.join("\n"));
    assert_eq!(
        difference(&before, &after),
        ["- pub fn it::send(message: &[u8])", "+ pub fn it::send(message: Vec<u8>)", "+ pub fn it::sent()"]
    );
    assert!(difference(&after, &after).is_empty());

    let of_one = "use std::io::Error; pub fn f() -> Error {}";
    let of_other = "use std::fmt::Error; pub fn f() -> Error {}";
    assert_ne!(api_of(of_one), api_of(of_other), "the text of the signature is the same");
}

#[test]
#[should_panic(expected = "crate::a has a macro")]
fn a_macro_that_could_make_items_is_not_passed_over() {
    api_of("mod a { make_types! { A B } }");
}
