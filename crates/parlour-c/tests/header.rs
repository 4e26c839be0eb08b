//! The committed header equals what the source generates. `PARLOUR_BLESS=1 cargo test -p parlour-c --test header`
//! writes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

/// The files in the order of the header.
const SOURCES: [&str; 22] = [
    "status.rs",
    "error.rs",
    "peer.rs",
    "options.rs",
    "shared.rs",
    "message.rs",
    "payload.rs",
    "connection.rs",
    "pair.rs",
    "session.rs",
    "stats.rs",
    "server.rs",
    "name_watch.rs",
    "hub.rs",
    "hub_groups.rs",
    "hub_handle.rs",
    "frame_pool.rs",
    "frame.rs",
    "frame_reader.rs",
    "caller.rs",
    "call_server.rs",
    "call.rs",
];

/// The comment at the top of the header: the rules that hold for every function.
const CONTRACT: &str = "/*
 * parlour.h - local messaging by name
 *
 *     #include <parlour.h>      link with -lparlour
 *
 * Needs C99 or C++11, or newer.
 *
 * A server takes a name. Clients find it by the name. Each client gets a private two-way channel of messages.
 * This file is generated from the source of the library.
 *
 * The following holds for every function, unless its description says otherwise.
 *
 * Ownership
 *   Handles are opaque. The caller owns a handle that a function stores or returns, and passes it once to the
 *   ..._free function of its type, or to ..._close or ..._split, which free it, too. A freed handle must not be used.
 *   Strings and bytes that a function returns belong to the handle and are valid as long as the handle. Memory that
 *   the caller passes is used during the call only.
 *
 * Return value
 *   A function that can fail returns a parlour_status: PARLOUR_OK, or the error. parlour_error_message() has the text
 *   of the error, and parlour_error_errno() the errno of the system call behind it. Results are stored through the
 *   pointer parameters that the description names. After an error a handle is NULL there, and a count is 0. Unless its
 *   description says otherwise, a call that fails leaves the handle usable. It does not undo what was already written.
 *
 * Pointers
 *   NULL is allowed only where the description says so; otherwise the function returns PARLOUR_NULL_POINTER. A pointer
 *   to bytes or to an array may be NULL if its length or count is 0. Any other pointer must be valid: a live handle of
 *   the type, a string that ends with a zero byte and is UTF-8, or memory of the length that is passed with it. For a
 *   string that is not UTF-8, the function returns PARLOUR_INVALID_ARGUMENT. The lists of errors do not repeat these
 *   two cases.
 *
 * Timeouts
 *   `timeout_ms` is in milliseconds. Less than 0: the call blocks for ever. 0: it does not block. More than 0: it gives
 *   up after this time. A call that gives up, or would block, returns PARLOUR_TIMED_OUT.
 *
 * Threads
 *   Any thread may use any handle, one thread at a time. Functions that take a handle as a pointer to const may be
 *   called by several threads at the same time, while no thread calls another function with that handle. The error of
 *   parlour_error_message() is kept per thread.
 *
 * Signals
 *   A signal handler may call parlour_server_shutdown, parlour_shutdown_ask, parlour_hub_wake and
 *   parlour_status_name, which are async-signal-safe. It must not call any other function of this header. A signal
 *   does not interrupt a call: the call goes on, with the time that is left. The library raises no signal (not even
 *   SIGPIPE), and changes no disposition and no mask.
 *
 * Fork
 *   In a forked child, servers, hubs, callers and calls return PARLOUR_NAME_LOST; freeing them there does not affect
 *   the parent. Every call returns there, also if another thread used the server at the moment of the fork.
 *   Pools, frames and their readers belong to the parent, too, and return PARLOUR_UNSUPPORTED.
 *   Only one of the two processes may use a connection, and the other one must free its handle. A connection that was
 *   not split stays open until both processes have freed it. The parent sends what was buffered before the fork; flush
 *   before forking.
 *
 * Callbacks
 *   A function of the caller (parlour_allow, parlour_fill, parlour_on_connect) must return normally. It must not throw
 *   an exception or call longjmp(3).
 */
";

/// The check of the language. A compiler for an older version reports errors that do not name the cause.
const STANDARD: &str = "
#ifdef __cplusplus
#if __cplusplus < 201103L
#error \"parlour.h needs C++11 or newer: compile with -std=c++11, for example\"
#endif
#elif __STDC_VERSION__ < 199901L
#error \"parlour.h needs C99 or newer: compile with -std=c99, for example\"
#endif";

fn generate() -> String {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        cpp_compat: true,
        include_guard: Some("PARLOUR_H".to_owned()),
        header: Some(CONTRACT.to_owned()),
        no_includes: true,
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h", "sys/uio.h"].map(str::to_owned).to_vec(),
        after_includes: Some(STANDARD.to_owned()),
        usize_is_size_t: true,
        line_length: 120,
        documentation_style: cbindgen::DocumentationStyle::Doxy,
        style: cbindgen::Style::Type,
        ..cbindgen::Config::default()
    };
    // Functions take these enums as numbers, because a C program may pass any number. No declaration names them.
    config.export.include =
        ["parlour_slow_client_policy", "parlour_client_file", "parlour_at_share"].map(str::to_owned).to_vec();
    config.export.rename.insert("iovec".to_owned(), "struct iovec".to_owned());
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
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
        "include/parlour.h differs from the source, first at {differs:?}; write it with \
         PARLOUR_BLESS=1 cargo test -p parlour-c --test header"
    );
}

/// Returns the types of a declaration, without `const` and names.
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

/// The classic headers are written by hand, because cbindgen cannot generate labels.
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
fn every_function_of_the_header_has_a_comment() {
    let header = generate();
    let lines: Vec<&str> = header.lines().collect();
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("parlour_") && line.contains('(')) {
        let is_declaration = line.starts_with(|c: char| c.is_alphabetic()) && !line.starts_with("typedef");
        assert!(!is_declaration || lines[number - 1].trim() == "*/", "no comment: {line}");
    }
}
