//! Kills a server, starts the next one, and starts a second one that must be rejected.

use std::time::Instant;

use anyhow::{Context as _, bail};
use parlour::Transport;

use super::super::list::NameRow;
use super::event::Event;
use super::process::{self, SOON, Worker};
use super::report::Report;
use super::scene::Scene;
use super::text::Text;
use crate::exit;

pub(super) fn run(scene: &Scene, transport: Transport, text: &Text, report: &mut Report) -> anyhow::Result<()> {
    let name = format!("crash-{transport}");
    let address = format!("{transport}:{name}");

    let mut first = Worker::server(scene, &address)?;
    let mut client = Worker::client(scene, &address, true)?;
    expect(&mut client, |event| matches!(event, Event::Connected { .. }))?;
    client.begin()?;
    expect(&mut client, |event| matches!(event, Event::Talking))?;
    report.say(format_args!(
        "\n{transport}: SIGKILL is sent to the server (pid {}) while a client uses it",
        first.pid()
    ))?;
    let killed = Instant::now();
    first.kill()?;

    let Event::Left { messages, got, as_promised } = client.event(SOON)? else {
        bail!("the {} sent an unexpected event", client.who());
    };
    let seen = format!("{got}, {}, after {messages} messages", milliseconds(killed));
    report.claim(Some(transport), "the client detects that the server has died", as_promised, &seen)?;
    drop(client);

    let row = listed(scene, &name)?;
    let seen = format!("{}, last held by pid {}", row.state, row.pid.unwrap_or_default());
    let dead = row.state == "dead" && row.pid == Some(first.pid());
    report.claim(Some(transport), "`parlour list` shows the name as dead", dead, &seen)?;

    const AT_ONCE: &str = "a new server takes the name immediately";
    let restarted = Instant::now();
    let second = match Worker::server(scene, &address) {
        Ok(second) => second,
        Err(error) if scene.stop().is_triggered() => return Err(error),
        Err(error) => return report.claim(Some(transport), AT_ONCE, false, &exit::one_line(&error)),
    };
    let seen = format!("pid {} took it, {}, without a clean-up in between", second.pid(), milliseconds(restarted));
    report.claim(Some(transport), AT_ONCE, true, &seen)?;
    let answered = converses(scene, &address, text)?;
    let seen = if answered { "every reply is correct" } else { "a reply is wrong" };
    report.claim(Some(transport), "the new server replies to a client", answered, seen)?;

    let refused = process::run(scene, &["serve", &address, "--echo"])?;
    let held_by = format!("pid {}", second.pid());
    let named = refused.code == Some(exit::NAME_IN_USE.into()) && refused.stderr.contains(&held_by);
    let seen = format!("exit code {}, {}", refused.code.unwrap_or(-1), refused.stderr);
    report.claim(Some(transport), "a second server is rejected and told which process holds the name", named, &seen)?;
    let row = listed(scene, &name)?;
    let undisturbed = row.state == "live" && row.pid == Some(second.pid());
    let seen = format!("{}, pid {}", row.state, row.pid.unwrap_or_default());
    report.claim(Some(transport), "the rejected server has left the name unchanged", undisturbed, &seen)?;
    second.end()
}

/// Returns what `parlour list --all --json` prints for a name.
fn listed(scene: &Scene, name: &str) -> anyhow::Result<NameRow> {
    let list = process::run(scene, &["list", "--all", "--json"])?;
    let rows: Vec<NameRow> = serde_json::from_str(&list.stdout)
        .with_context(|| format!("parsing the output of `parlour list --json` (stderr: {})", list.stderr))?;
    rows.into_iter().find(|row| row.name == name).with_context(|| format!("`parlour list` does not show {name}"))
}

/// Returns true if a client can send the whole text and receives it back.
fn converses(scene: &Scene, address: &str, text: &Text) -> anyhow::Result<bool> {
    let mut client = Worker::client(scene, address, false)?;
    expect(&mut client, |event| matches!(event, Event::Connected { .. }))?;
    client.begin()?;
    let right = match client.event(super::traffic::wait_limit(text))? {
        Event::Done(done) => done.wrong_line.is_none() && done.messages == text.lines().len() as u64,
        event => bail!("the {} sent the unexpected event {event:?}", client.who()),
    };
    client.end()?;
    Ok(right)
}

/// Waits for the next event of a worker, which must satisfy `is_right`.
fn expect(worker: &mut Worker<'_>, is_right: impl Fn(&Event) -> bool) -> anyhow::Result<()> {
    let event = worker.event(SOON)?;
    if !is_right(&event) {
        bail!("the {} sent the unexpected event {event:?}", worker.who());
    }
    Ok(())
}

/// Formats the time since an instant.
fn milliseconds(since: Instant) -> String {
    format!("{:.1} ms later", since.elapsed().as_secs_f64() * 1000.0)
}
