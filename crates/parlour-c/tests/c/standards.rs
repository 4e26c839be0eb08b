//! The versions of C and C++ that the headers need.

use std::process::Command;

use libtest_mimic::Trial;

use crate::support::{base, build, home};
use crate::trial;

/// A version of the language, and the version that `<parlour.h>` names in its error, if it needs a newer one.
const STANDARDS: [(&str, Option<&str>); 8] = [
    ("c89", Some("C99")),
    ("gnu89", Some("C99")),
    ("c99", None),
    ("gnu99", None),
    ("c11", None),
    ("c++98", Some("C++11")),
    ("c++11", None),
    ("c++17", None),
];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the_full_header_names_the_language_that_it_needs", full),
        trial("the_classic_headers_compile_as_every_version_of_c_and_as_cpp_11", classic),
    ]
}

/// Compiles a program that only includes this header. Returns the errors.
fn errors(header: &str, standard: &str) -> String {
    let base = base();
    let (compiler, extension) = if standard.contains("++") { ("g++", "cpp") } else { (build::c_compiler(), "c") };
    let source = base.path().join(format!("include.{extension}"));
    std::fs::write(&source, format!("#include <{header}>\nint main(void) {{ return 0; }}\n")).unwrap();
    let mut command = Command::new(compiler);
    command.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]).arg(format!("-std={standard}"));
    let output = command.arg("-I").arg(home().join("include")).arg(&source).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

fn standards() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    let cpp = build::has("g++");
    STANDARDS.into_iter().filter(move |(standard, _)| cpp || !standard.contains("++"))
}

fn full() {
    for (standard, needed) in standards() {
        let said = errors("parlour.h", standard);
        match needed {
            None => assert_eq!(said, "", "{standard}"),
            Some(needed) => assert!(said.contains(&format!("parlour.h needs {needed} or newer")), "{standard}: {said}"),
        }
    }
}

fn classic() {
    for header in ["parlour/unix_sockets.h", "parlour/fifo.h"] {
        for (standard, _) in standards().filter(|(standard, _)| *standard != "c++98") {
            assert_eq!(errors(header, standard), "", "{header}, {standard}");
        }
    }
}
