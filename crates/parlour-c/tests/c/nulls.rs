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
    ("parlour_connect_options_origin", &["program"]),
    ("parlour_call_server_bind", &["options"]),
    ("parlour_call_server_bind_listen_fds", &["fd_name", "options"]),
    ("parlour_caller_connect", &["options"]),
    ("parlour_caller_new", &["options"]),
    ("parlour_connection_pair", &["options"]),
    ("parlour_connection_from_env", &["options"]),
    ("parlour_frame_pool_admit_client", &["reader"]),
    ("parlour_frame_pool_broadcast", &["missed"]),
    ("parlour_hub_bind", &["server_options", "hub_options"]),
    ("parlour_hub_broadcast", &["missed"]),
    ("parlour_hub_broadcast_except", &["missed"]),
    ("parlour_hub_broadcast_payload", &["missed"]),
    ("parlour_hub_clients", &["count"]),
    ("parlour_hub_publish", &["missed"]),
    ("parlour_hub_send_to", &["missed"]),
    ("parlour_message_take_fds", &["count"]),
    ("parlour_message_take_shared", &["count"]),
    ("parlour_name_stats", &["options"]),
    ("parlour_name_watch_new", &["options"]),
    ("parlour_server_options_allow", &["user"]),
    ("parlour_session_on_connect", &["user"]),
    ("parlour_session_open", &["options"]),
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
        ("parlour_on_connect", _) => "log_in".to_owned(),
        ("parlour_loss *", _) => "&loss".to_owned(),
        ("parlour_fill", _) => "fill_block".to_owned(),
        ("const parlour_payload *", _) => "&payload".to_owned(),
        ("parlour_stats *", _) => "&stats".to_owned(),
        ("parlour_client_stats *", _) => "&client_stats".to_owned(),
        ("parlour_call_stats *", _) => "&call_stats".to_owned(),
        ("parlour_refusal *", _) => "&refusal".to_owned(),
        ("const int *", "transports") => "&transport".to_owned(),
        ("const int *" | "int *", _) => "numbers".to_owned(),
        ("size_t *", _) => "&count".to_owned(),
        ("const uint64_t *" | "uint64_t *", _) => "clients".to_owned(),
        ("parlour_peer *", _) => "&peer".to_owned(),
        ("parlour_origin *", _) => "&origin".to_owned(),
        ("parlour_capabilities *", _) => "&capabilities".to_owned(),
        ("parlour_event *", _) => "&event".to_owned(),
        ("parlour_name_event *", _) => "&name_event".to_owned(),
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
    const OTHERS: [&str; 4] = ["parlour_call_reply", "parlour_call_end", "parlour_call_fail", "parlour_caller_new"];
    ["_free", "_close", "_split"].iter().any(|ending| function.name.ends_with(ending))
        || OTHERS.contains(&&*function.name)
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
#include <pthread.h>

static bool allow(const parlour_peer *peer, const parlour_origin *origin, void *user)
{{
    return peer != NULL && origin == NULL && user == NULL;
}}
static int log_in(parlour_connection *connection, void *user) {{ return connection == NULL || user != NULL; }}
static void fill_block(void *data, size_t length, void *user) {{ if (user == NULL) memset(data, 1, length); }}

static parlour_caller *caller;
static parlour_call_stream *call_stream;

static void *begin(void *unused)
{{
    CHECK(unused == NULL && parlour_caller_call_stream(caller, "x", 1, -1, &call_stream) == PARLOUR_OK);
    return NULL;
}}

int main(int argc, char **argv)
{{
    char address[4096], buffer[16];
    const char *name = argv[1];
    int numbers[4] = {{0}}, transport = PARLOUR_TRANSPORT_UNIX;
    size_t count;
    uint64_t clients[4];
    parlour_payload payload = {{.data = "x", .length = 1}};
    parlour_stats stats;
    parlour_client_stats client_stats;
    parlour_loss loss;
    parlour_refusal refusal;
    parlour_peer peer;
    parlour_origin origin;
    parlour_capabilities capabilities;
    parlour_event event;
    parlour_name_event name_event;
    parlour_name_watch *name_watch, *new_name_watch;
    parlour_server_options *server_options = parlour_server_options_new();
    parlour_connect_options *connect_options = parlour_connect_options_new();
    parlour_hub_options *hub_options = parlour_hub_options_new();
    parlour_server *server, *new_server;
    parlour_hub *hub, *new_hub;
    parlour_hub_handle *hub_handle, *new_hub_handle;
    parlour_connection *connection, *served, *new_connection;
    parlour_message *message, *new_message;
    parlour_shared *shared, *new_shared;
    parlour_shutdown *shutdown, *new_shutdown;
    parlour_session *session, *new_session;
    parlour_caller *new_caller;
    parlour_call_stream *new_call_stream;
    parlour_call_stats call_stats;
    parlour_call_server *call_server, *new_call_server;
    parlour_call *call, *new_call;
    parlour_pusher *pusher, *new_pusher;
    parlour_frame_pool_options *frame_pool_options = parlour_frame_pool_options_new(1);
    parlour_frame_pool *frame_pool, *new_frame_pool;
    parlour_frame *frame, *new_frame;
    parlour_frame_reader *frame_reader, *new_frame_reader;
    parlour_received_frame *received_frame, *new_received_frame;
    uint64_t reader;
    pthread_t thread;

    CHECK(argc == 2);
    alarm(100);
    CHECK(parlour_server_options_fds_max(server_options, 2) == PARLOUR_OK);
    CHECK(parlour_server_bind(name, server_options, &server) == PARLOUR_OK);
    snprintf(address, sizeof address, "%s-hub", name);
    CHECK(parlour_hub_bind(address, NULL, NULL, &hub) == PARLOUR_OK);
    CHECK(parlour_hub_handle_new(hub, &hub_handle) == PARLOUR_OK);
    CHECK(parlour_name_watch_new(name, NULL, &name_watch) == PARLOUR_OK);
    CHECK(parlour_connect(name, NULL, &connection) == PARLOUR_OK);
    CHECK(parlour_server_accept(server, -1, &served) == PARLOUR_OK);
    CHECK(parlour_frame_pool_new(frame_pool_options, &frame_pool) == PARLOUR_OK);
    CHECK(parlour_frame_reader_attach(connection, 0, 0, -1, &frame_reader) == PARLOUR_OK);
    CHECK(parlour_recv(served, -1, &message) == PARLOUR_OK);
    CHECK(parlour_frame_pool_admit(frame_pool, served, message, &reader) == PARLOUR_OK);
    CHECK(parlour_frame_pool_loan(frame_pool, -1, &frame) == PARLOUR_OK);
    CHECK(parlour_frame_pool_send(frame_pool, reader, served, frame, "x", 1, -1) == PARLOUR_OK);
    CHECK(parlour_recv(connection, -1, &message) == PARLOUR_OK);
    CHECK(parlour_frame_reader_open(frame_reader, message, &received_frame) == PARLOUR_OK);
    CHECK(parlour_send(served, "x", 1, -1) == PARLOUR_OK);
    CHECK(parlour_recv(connection, -1, &message) == PARLOUR_OK);
    CHECK(parlour_session_open(name, NULL, &session) == PARLOUR_OK);
    CHECK(parlour_shared_new("x", 1, &shared) == PARLOUR_OK);
    CHECK(parlour_server_shutdown_handle(server, &shutdown) == PARLOUR_OK);
    snprintf(address, sizeof address, "%s-calls", name);
    CHECK(parlour_call_server_bind(address, NULL, &call_server) == PARLOUR_OK);
    CHECK(parlour_pusher_new(call_server, &pusher) == PARLOUR_OK);
    CHECK(parlour_caller_connect(address, NULL, &caller) == PARLOUR_OK);
    CHECK(pthread_create(&thread, NULL, begin, NULL) == 0);
    CHECK(parlour_call_server_next(call_server, -1, &call) == PARLOUR_OK);
    CHECK(pthread_join(thread, NULL) == 0);
    snprintf(address, sizeof address, "%s-other", name);

{calls}
    /* None of these calls had an effect. */
    CHECK(parlour_send(connection, "x", 1, -1) == PARLOUR_OK);
    CHECK(parlour_recv_into(served, buffer, sizeof buffer, &count, -1) == PARLOUR_OK && count == 1);
    CHECK(parlour_call_length(call) == 1 && parlour_call_reply(call, "x", 1) == PARLOUR_OK);
    CHECK(parlour_call_server_next(call_server, 0, &call) == PARLOUR_TIMED_OUT && call == NULL);
    CHECK(parlour_call_stream_next(call_stream, -1, &new_message) == PARLOUR_OK);
    parlour_message_free(new_message);
    CHECK(parlour_name_watch_next(name_watch, -1, &name_event) == PARLOUR_OK);
    CHECK(name_event.state == PARLOUR_NAME_LIVE);
    parlour_name_watch_free(name_watch);
    parlour_received_frame_free(received_frame);
    parlour_frame_reader_free(frame_reader);
    parlour_frame_free(frame);
    parlour_frame_pool_free(frame_pool);
    parlour_frame_pool_options_free(frame_pool_options);
    parlour_caller_free(caller);
    parlour_call_stream_free(call_stream);
    parlour_pusher_free(pusher);
    parlour_call_server_free(call_server);
    parlour_shutdown_free(shutdown);
    parlour_session_free(session);
    parlour_shared_free(shared);
    parlour_message_free(message);
    parlour_connection_free(connection);
    parlour_connection_free(served);
    parlour_hub_handle_free(hub_handle);
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
