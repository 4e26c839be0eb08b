//! A C program that is generated from the header. It calls each function with NULL for each pointer in turn, and with
//! valid arguments otherwise.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::support::declarations::{Function, Parameter, functions};

/// The parameters for which NULL is allowed.
const ALLOWED: &[(&str, &[&str])] = &[
    ("parlour_server_bind", &["options"]),
    ("parlour_server_bind_listen_fds", &["fd_name", "options"]),
    ("parlour_connect", &["options"]),
    ("parlour_hub_bind", &["server_options", "hub_options"]),
    ("parlour_hub_broadcast", &["missed"]),
    ("parlour_hub_broadcast_payload", &["missed"]),
    ("parlour_hub_clients", &["count"]),
    ("parlour_message_take_fds", &["count"]),
    ("parlour_message_take_shared", &["count"]),
    ("parlour_server_options_allow", &["user"]),
    ("parlour_shared_build", &["user"]),
];

/// The functions that reject another argument of the call before they check the pointer.
const EARLIER: &[&str] = &["parlour_shared_from_fd"];

fn file() -> PathBuf {
    std::env::temp_dir().join(format!("parlour-c-nulls-{}.c", std::process::id()))
}

/// Writes the program and returns its path.
pub fn source() -> PathBuf {
    std::fs::write(file(), text()).unwrap();
    file()
}

pub fn clean() {
    let _ = std::fs::remove_file(file());
}

/// Returns a valid argument for a parameter.
fn right(parameter: &Parameter) -> String {
    match (&*parameter.kind, &*parameter.name) {
        ("const char *", "address") => "address".to_owned(),
        ("const char *", _) => "\"name\"".to_owned(),
        ("const void *", _) => "\"x\"".to_owned(),
        ("void *", "buffer") => "buffer".to_owned(),
        ("void *", _) => "(void *)0".to_owned(),
        ("parlour_allow", _) => "allow".to_owned(),
        ("parlour_fill", _) => "fill_block".to_owned(),
        ("const parlour_payload *", _) => "&payload".to_owned(),
        ("parlour_stats *", _) => "&stats".to_owned(),
        ("parlour_refusal *", _) => "&refusal".to_owned(),
        ("const int *", "transports") => "&transport".to_owned(),
        ("const int *" | "int *", _) => "numbers".to_owned(),
        ("size_t *", _) => "&count".to_owned(),
        ("uint64_t *", _) => "clients".to_owned(),
        ("parlour_peer *", _) => "&peer".to_owned(),
        ("parlour_capabilities *", _) => "&capabilities".to_owned(),
        ("parlour_event *", _) => "&event".to_owned(),
        (kind, _) if kind.ends_with("**") => format!("&new_{}", handle(kind)),
        (kind, _) if kind.ends_with('*') => handle(kind),
        ("int", _) => "-1".to_owned(),
        ("int64_t" | "int32_t" | "bool" | "uint32_t" | "uint64_t", _) => "0".to_owned(),
        ("size_t", _) => "1".to_owned(),
        other => panic!("unknown type of a parameter in the header: {other:?}"),
    }
}

fn handle(kind: &str) -> String {
    kind.trim_start_matches("const ").trim_end_matches(['*', ' ']).trim_start_matches("parlour_").to_owned()
}

fn takes_its_handle(function: &Function) -> bool {
    ["_free", "_close", "_split"].iter().any(|ending| function.name.ends_with(ending))
}

fn call(function: &Function, null: usize) -> String {
    let arguments = function.parameters.iter().enumerate().map(|(number, parameter)| match number == null {
        true => "NULL".to_owned(),
        false => right(parameter),
    });
    format!("{}({})", function.name, arguments.collect::<Vec<_>>().join(", "))
}

fn text() -> String {
    let mut calls = String::new();
    let mut count = 0;
    for function in &functions() {
        let allowed = ALLOWED.iter().find(|(name, _)| *name == function.name).map_or(&[][..], |(_, allowed)| allowed);
        for (number, parameter) in function.parameters.iter().enumerate() {
            // A function that frees its handle gets no valid one, because later calls use it.
            let is_first = number == 0;
            if !parameter.is_pointer()
                || allowed.contains(&&*parameter.name)
                || (takes_its_handle(function) && !is_first)
            {
                continue;
            }
            count += 1;
            let call = call(function, number);
            match &*function.result {
                "parlour_status" if EARLIER.contains(&&*function.name) => {
                    writeln!(calls, "    CHECK({call} != PARLOUR_OK);")
                }
                "parlour_status" => writeln!(calls, "    CHECK({call} == PARLOUR_NULL_POINTER);"),
                "void" => writeln!(calls, "    {call};"),
                "int" => writeln!(calls, "    CHECK({call} == -1);"),
                _ => writeln!(calls, "    CHECK(!{call});"),
            }
            .unwrap();
        }
    }
    assert!(count > 100, "{count} pointers");
    let home = crate::support::home().display();
    format!(
        r#"#include "{home}/tests/c/check.h"
#include <parlour.h>

static bool allow(const parlour_peer *peer, void *user) {{ return peer != NULL && user == NULL; }}
static void fill_block(void *data, size_t length, void *user) {{ if (user == NULL) memset(data, 1, length); }}

int main(int argc, char **argv)
{{
    char address[4096], buffer[16];
    const char *name = argv[1];
    int numbers[4] = {{0}}, transport = PARLOUR_TRANSPORT_UNIX;
    size_t count;
    uint64_t clients[4];
    parlour_payload payload = {{.data = "x", .length = 1}};
    parlour_stats stats;
    parlour_refusal refusal;
    parlour_peer peer;
    parlour_capabilities capabilities;
    parlour_event event;
    parlour_server_options *server_options = parlour_server_options_new();
    parlour_connect_options *connect_options = parlour_connect_options_new();
    parlour_hub_options *hub_options = parlour_hub_options_new();
    parlour_server *server, *new_server;
    parlour_hub *hub, *new_hub;
    parlour_connection *connection, *served, *new_connection;
    parlour_message *message, *new_message;
    parlour_shared *shared, *new_shared;
    parlour_shutdown *shutdown, *new_shutdown;

    CHECK(argc == 2);
    alarm(100);
    CHECK(parlour_server_bind(name, NULL, &server) == PARLOUR_OK);
    snprintf(address, sizeof address, "%s-hub", name);
    CHECK(parlour_hub_bind(address, NULL, NULL, &hub) == PARLOUR_OK);
    CHECK(parlour_connect(name, NULL, &connection) == PARLOUR_OK);
    CHECK(parlour_server_accept(server, -1, &served) == PARLOUR_OK);
    CHECK(parlour_send(served, "x", 1, -1) == PARLOUR_OK);
    CHECK(parlour_recv(connection, -1, &message) == PARLOUR_OK);
    CHECK(parlour_shared_new("x", 1, &shared) == PARLOUR_OK);
    CHECK(parlour_server_shutdown_handle(server, &shutdown) == PARLOUR_OK);
    snprintf(address, sizeof address, "%s-other", name);

{calls}
    /* None of these calls had an effect. */
    CHECK(parlour_send(connection, "x", 1, -1) == PARLOUR_OK);
    CHECK(parlour_recv_into(served, buffer, sizeof buffer, &count, -1) == PARLOUR_OK && count == 1);
    parlour_shutdown_free(shutdown);
    parlour_shared_free(shared);
    parlour_message_free(message);
    parlour_connection_free(connection);
    parlour_connection_free(served);
    parlour_hub_free(hub);
    parlour_server_free(server);
    parlour_server_options_free(server_options);
    parlour_connect_options_free(connect_options);
    parlour_hub_options_free(hub_options);
    return 0;
}}
"#
    )
}
