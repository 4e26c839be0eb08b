//! The commands of the project's pages, run by a shell: each prints the text that the page shows after it.
//!
//! A block of commands that begins with `# server` runs in the background until the end of its section. The others run
//! to their end, and must succeed, in a directory that the blocks of a section share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;
#[path = "documents/operations.rs"]
mod operations;
#[path = "documents/page.rs"]
mod page;

use std::process::Command;

use page::Section;

#[test]
fn the_commands_of_the_first_page_print_what_is_shown() {
    let Some(section) = Section::of("start.md", "Shell") else { return };
    assert_eq!(section.run(&[]).len(), 2);
}

/// A language server that answers its first request, by the rules of its protocol.
const LANGUAGE_SERVER: &str = r#"#!/usr/bin/env python3
import json, sys

length = int(sys.stdin.buffer.readline().split(b":")[1])
assert sys.stdin.buffer.readline() == b"\r\n"
request = json.loads(sys.stdin.buffer.read(length))
answer = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {"method": request["method"]}})
sys.stdout.write("Content-Length: %d\r\n\r\n%s" % (len(answer), answer))
"#;

/// A server of the Model Context Protocol that knows `ping`.
const MCP_SERVER: &str = r#"#!/usr/bin/env python3
import json, sys

for line in sys.stdin:
    request = json.loads(line)
    assert request["method"] == "ping"
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {}}, separators=(",", ":")), flush=True)
"#;

fn has_python() -> bool {
    let has = Command::new("python3").arg("--version").output().is_ok();
    if !has {
        println!("skipped: python3 is not installed");
    }
    has
}

#[test]
fn an_editor_talks_to_the_language_server_of_the_cookbook() {
    if !has_python() {
        return;
    }
    let Some(section) = Section::of("cookbook.md", "A language server by name") else { return };
    let printed = section.run(&[("rust-analyzer", LANGUAGE_SERVER)]);
    let body = r#"{"jsonrpc": "2.0", "id": 1, "result": {"method": "initialize"}}"#;
    assert_eq!(printed, [format!("Content-Length: {}\r\n\r\n{body}", body.len())]);
}

#[test]
fn an_agent_talks_to_the_mcp_server_of_the_cookbook() {
    if !has_python() {
        return;
    }
    let Some(section) = Section::of("cookbook.md", "An MCP server by name") else { return };
    assert_eq!(section.run(&[("mcp-server-time", MCP_SERVER)]).len(), 1);
}
