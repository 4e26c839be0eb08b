//! The header is what the source says. `PARLOUR_BLESS=1 cargo test -p parlour-c --test header` writes it anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by panicking")]

use std::path::Path;

/// The files in the order of the header.
const SOURCES: [&str; 8] =
    ["status.rs", "error.rs", "peer.rs", "options.rs", "shared.rs", "message.rs", "connection.rs", "server.rs"];

/// What a program that includes the header reads first.
const CONTRACT: &str = "/*
 * Local messaging by name: a server takes a name, clients find it, each gets a private two-way channel of messages.
 * Link with -lparlour. Generated from the source of the library; `make install` puts it where it belongs.
 *
 * What holds for every function, and is not said again:
 *
 *   - Handles are opaque. What ..._new, _bind, _accept, _connect, _recv and the like give is the caller's until it
 *     goes to the ..._free of its kind (or _close, _split, which take it too). ..._free takes NULL. Nothing that
 *     was freed may be used.
 *   - Functions that can fail give a parlour_status. parlour_error_message() has the sentence. Results go to the
 *     last pointers; a handle is NULL, a count 0 there after a failure. A call has done what it says, or nothing.
 *   - A pointer that is NULL and must not be gives PARLOUR_NULL_POINTER; where NULL is allowed it is said. Any
 *     other pointer must be valid: a live handle of that kind, a string that ends with a zero byte, so many bytes.
 *     What is given by a pointer is only used during the call.
 *   - Any thread may use any handle, one at a time. Many at once may call those functions that take it as a
 *     pointer to const, while nobody calls another one.
 *   - Timeouts are in milliseconds. Less than 0 is for ever, 0 is not at all.
 *   - Signals do not interrupt a call: it goes on. In a handler only parlour_server_shutdown and
 *     parlour_shutdown_ask may be called. No signal is raised, and no disposition is changed.
 *   - After fork(2) servers and hubs are the parent's: in the child they give PARLOUR_NAME_LOST, and freeing them
 *     there leaves the name alone. Connections go on in either process, if the other one frees them. Flush before.
 *   - Functions of the caller's (parlour_allow, parlour_fill) return: they neither throw nor jump.
 */
";

fn generate() -> String {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        cpp_compat: true,
        include_guard: Some("PARLOUR_H".to_owned()),
        header: Some(CONTRACT.to_owned()),
        no_includes: true,
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h", "sys/uio.h"].map(str::to_owned).to_vec(),
        usize_is_size_t: true,
        line_length: 120,
        documentation_style: cbindgen::DocumentationStyle::Doxy,
        style: cbindgen::Style::Type,
        ..cbindgen::Config::default()
    };
    // Of these a function takes the number, so that any number may be given; nothing else names them.
    config.export.include = ["parlour_slow_client_policy", "parlour_client_file"].map(str::to_owned).to_vec();
    config.export.rename.insert("iovec".to_owned(), "struct iovec".to_owned());
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES.iter().chain(&["hub.rs"]) {
        builder = builder.with_src(home.join("src").join(source));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    String::from_utf8(header).unwrap()
}

#[test]
fn the_committed_header_is_what_the_source_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/parlour.h");
    let generated = generate();
    if std::env::var_os("PARLOUR_BLESS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(generated.lines()).find(|(old, new)| old != new);
    assert!(
        committed == generated,
        "include/parlour.h is not what the source says, first at {differs:?}; write it with \
         PARLOUR_BLESS=1 cargo test -p parlour-c --test header"
    );
}

/// The parts of a declaration that the compiler goes by: its types, without `const` and names.
fn types(declaration: &str) -> Vec<String> {
    let (head, parameters) = declaration.split_once('(').unwrap();
    let parameters = parameters.split_once(')').unwrap().0.split(',');
    std::iter::once(head)
        .chain(parameters)
        .map(|text| {
            let text = text.replace("struct ", "").replace("PARLOUR_CONST_", "").replace("const", "");
            let stars = text.matches('*').count();
            let word = text.replace('*', " ").split_whitespace().next().unwrap().to_owned();
            format!("{word} {}", "*".repeat(stars))
        })
        .collect()
}

/// The classic headers are written by hand, because no generator knows of labels. What they declare is what is there.
#[test]
fn the_classic_headers_declare_what_the_source_defines() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, prefix) in [("unix_sockets", "parlour_unix_"), ("fifo", "parlour_fifo_")] {
        let config = cbindgen::Config {
            language: cbindgen::Language::C,
            usize_is_size_t: true,
            documentation: false,
            no_includes: true,
            ..cbindgen::Config::default()
        };
        let source = home.join(format!("src/classic/{file}.rs"));
        let mut generated = Vec::new();
        cbindgen::Builder::new().with_config(config).with_src(source).generate().unwrap().write(&mut generated);
        let generated = String::from_utf8(generated).unwrap();
        let committed = std::fs::read_to_string(home.join(format!("include/parlour/{file}.h"))).unwrap();
        let mut seen = 0;
        for declaration in generated.split(';').map(str::trim).filter(|text| text.contains(prefix)) {
            let name = declaration.split('(').next().unwrap().split_whitespace().last().unwrap();
            let label = format!("PARLOUR_LABEL_(\"{name}\")");
            let at = committed.find(&label).unwrap_or_else(|| panic!("{file}.h does not declare {name}"));
            let begin = committed[..at].rfind([';', '/', '}']).unwrap() + 1;
            assert_eq!(types(committed[begin..at].trim()), types(declaration), "{name}");
            seen += 1;
        }
        assert_eq!(seen, 7, "{file}.h");
    }
}

#[test]
fn every_function_of_the_header_says_what_it_does() {
    let header = generate();
    let lines: Vec<&str> = header.lines().collect();
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("parlour_") && line.contains('(')) {
        let is_declaration = line.starts_with(|c: char| c.is_alphabetic()) && !line.starts_with("typedef");
        assert!(!is_declaration || lines[number - 1].trim() == "*/", "no comment: {line}");
    }
}
