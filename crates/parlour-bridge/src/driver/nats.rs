//! The connection with NATS: it carries the actions of [`registry`](crate::registry) out.
//!
//! A session is one connection and its bucket. Any failure ends it, and the next one begins after a pause. So there is
//! one way back from every outage: the registry is told [`Report::Up`], and puts and watches anew.
//!
//! A watch is plain subscriptions to the subjects of the bucket, and a request for what is stored. Consumers of
//! JetStream do the same, but they are state of the server: a thousand of them took it 45 s at the start of a fleet,
//! and it sends each a sign of life.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::{self, Context, ErrorCode, stream};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, ServerAddr, StatusCode, Subscriber};
use futures_util::Stream;
use futures_util::stream::SelectAll;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::files::nats::{Login, Nats};
use crate::registry::{Action, Source, shown};
use crate::wire::registry::VALUE_LEN_MAX;

/// The shortest pause before the next session.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The time after which a session has lasted: the pause behind it is short again.
const LASTING: Duration = Duration::from_secs(60);

/// The shortest time for which a bucket may keep entries: each is put again three times meanwhile.
const KEPT_MIN: Duration = Duration::from_secs(1);

/// The time for the last messages of a bridge that ends.
const FINISH_TIMEOUT: Duration = Duration::from_millis(500);

/// The maximum number of entries that were reported, and that the receiver has not dropped.
const ENTRIES_IN_FLIGHT_MAX: usize = 1024;

/// The maximum number of messages of one subscription that wait. After a loss of some, the session begins anew.
const MESSAGES_MAX: usize = 2048;

/// The maximum number of keys in one request. The server answers with up to 1024.
const KEYS_MAX: usize = 1000;

/// The longest key that is reported whole, in bytes. No key of a name is longer.
const KEY_LEN_MAX: usize = 400;

/// The header that says what a message does to its key.
const OPERATION: &str = "KV-Operation";

/// The header of a message by which the server reports that an entry was removed.
const MARKER: &str = "Nats-Marker-Reason";

/// The header with the subject of a stored message.
const SUBJECT: &str = "Nats-Subject";

/// The status behind the last stored message, and the one if there is none.
const STORED_END: u16 = 204;
const STORED_NONE: u16 = 404;

/// An event of a session.
#[derive(Debug)]
pub enum Report {
    /// A session has begun. The bucket keeps entries for this time, if it has one.
    Up(Option<Duration>),
    /// Everything that was to be done has been done.
    Settled,
    /// An entry has changed, or exists. An empty value is that of an entry that was removed.
    Entry {
        /// The key, or a longer subject that is none.
        key: String,
        /// The way in which it is heard.
        source: Source,
        /// The beginning of the value.
        value: Option<Vec<u8>>,
        /// When too many of these exist, the session waits.
        place: OwnedSemaphorePermit,
    },
    /// The server has answered a probe.
    Answered,
    /// The session has ended, or could not begin.
    Down {
        /// The reason, in visible ASCII characters.
        problem: String,
        /// True if the session had settled.
        had_settled: bool,
    },
}

/// Returns the time for an answer of the server, between two pings, and of the longest pause before the next session.
/// Nothing that is alive depends on it. A fleet that begins at once may need much of it.
fn patience(nats: &Nats) -> Duration {
    (nats.ttl / 10).clamp(Duration::from_secs(1), Duration::from_secs(30))
}

/// Keeps a session until the other end of `actions` is dropped. `client` is shown in the lists of the server.
pub async fn run(nats: Nats, client: String, mut actions: UnboundedReceiver<Action>, report: impl Fn(Report)) {
    let mut pause = PAUSE_MIN;
    loop {
        let mut session = Session { nats: &nats, report: &report, has_settled: false };
        let begin = Instant::now();
        let Err(problem) = session.run(&client, &mut actions).await else { return };
        pause = first_pause(pause, session.has_settled, begin.elapsed());
        report(Report::Down { problem: shown(&problem), had_settled: session.has_settled });
        let until = Instant::now() + jitter(pause);
        pause = (pause * 2).min(patience(&nats));
        loop {
            tokio::select! {
                // They belong to the session that has ended.
                action = actions.recv() => if action.is_none() { return },
                () = sleep_until(until) => break,
            }
        }
    }
}

/// Returns the pause behind a session, if it was to be `pause`. A session that does not last makes no pause shorter.
fn first_pause(pause: Duration, has_settled: bool, time: Duration) -> Duration {
    if has_settled && time >= LASTING { PAUSE_MIN } else { pause }
}

/// Returns a time between the half of a pause and one and a half of it, so that a fleet does not return at once.
fn jitter(pause: Duration) -> Duration {
    let mut byte = [128];
    // Without random bytes, the pause itself is good.
    let _ = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::empty());
    pause / 2 + pause * u32::from(byte[0]) / 255
}

struct Session<'a, R> {
    nats: &'a Nats,
    report: &'a R,
    has_settled: bool,
}

/// The messages of a bucket.
#[derive(Default)]
struct Watch {
    live: SelectAll<Subscriber>,
    stored: Option<Stored>,
    /// The keys of the requests.
    keys: Vec<String>,
    /// The time at which everything is requested once more. A value that was put before the subscription may be stored
    /// a moment after it, and then neither is heard.
    again: Option<Instant>,
}

/// The answers to the requests for what is stored.
struct Stored {
    messages: Subscriber,
    /// The number of requests whose answers have not ended.
    requests: usize,
    /// The time at which they must have ended.
    due: Instant,
}

/// The answer to a request that was sent.
enum Answer {
    Put,
    Probe,
}

impl<R: Fn(Report)> Session<'_, R> {
    /// Returns when the other end of `actions` is dropped. Fails with the reason of any failure.
    async fn run(&mut self, client: &str, actions: &mut UnboundedReceiver<Action>) -> Result<(), String> {
        let (client, mut notices) = connect(self.nats, client).await?;
        let context = jetstream::context::ContextBuilder::new().timeout(patience(self.nats)).build(client.clone());
        let opening = bucket(self.nats, &context);
        let stream = tokio::select! {
            stream = opening => stream?,
            Some(problem) = notices.recv() => return Err(problem),
        };
        let kept = check_kept(&self.nats.bucket, stream.cached_info().config.max_age)?;
        (self.report)(Report::Up(kept));
        let places = std::sync::Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT_MAX));
        let (mut answers, mut watch, mut has_begun) = (JoinSet::new(), Watch::default(), false);
        loop {
            let is_idle = answers.is_empty() && actions.is_empty() && watch.stored.is_none();
            if has_begun && !self.has_settled && is_idle {
                self.has_settled = true;
                (self.report)(Report::Settled);
            }
            let (due, again) = (watch.stored.as_ref().map(|stored| stored.due), watch.again);
            tokio::select! {
                action = actions.recv() => match action {
                    // The first one after the beginning.
                    Some(Action::Watch { patterns, keys }) => {
                        has_begun = true;
                        watch = self.watch(&client, &patterns, &keys).await?;
                    }
                    Some(action) => self.act(action, &context, &stream, &mut answers).await?,
                    None => {
                        let rest = async { while answers.join_next().await.is_some() {} };
                        let _ = timeout(FINISH_TIMEOUT, rest).await;
                        return Ok(());
                    }
                },
                Some(answer) = answers.join_next() => match answer {
                    Ok(Ok(Answer::Put)) => {}
                    Ok(Ok(Answer::Probe)) => (self.report)(Report::Answered),
                    Ok(Err(problem)) => return Err(notices.try_recv().unwrap_or(problem)),
                    Err(error) => return Err(error.to_string()),
                },
                (message, source) = next(&mut watch) => self.hear(message, source, &mut watch, &places).await?,
                Some(problem) = notices.recv() => return Err(problem),
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    watch.again = None;
                    watch.stored = self.ask(&client, &watch.keys).await?;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    return Err("the server does not answer".to_owned());
                }
            }
        }
    }

    /// Sends what an action asks for. Its answer comes later.
    async fn act(
        &self,
        action: Action,
        context: &Context,
        stream: &stream::Stream,
        answers: &mut JoinSet<Result<Answer, String>>,
    ) -> Result<(), String> {
        let time = patience(self.nats);
        let subject = |key: &str| format!("$KV.{}.{key}", self.nats.bucket);
        let (key, value, headers) = match action {
            Action::Put(key, value) => (key, value, HeaderMap::new()),
            Action::Delete(key) => {
                let mut headers = HeaderMap::new();
                headers.insert(OPERATION, "DEL");
                (key, String::new(), headers)
            }
            Action::Probe => {
                let stream = stream.clone();
                answers.spawn(async move {
                    let answer = timeout(time, stream.get_info()).await;
                    let answer = answer.map_err(|_| "the server does not answer".to_owned())?;
                    answer.map(|_| Answer::Probe).map_err(|error| error.to_string())
                });
                return Ok(());
            }
            // Those are for the receiver of the reports.
            Action::Watch { .. } | Action::Found(_) | Action::Log(_) => return Ok(()),
        };
        // Two messages for one key stay in their order, because they are sent one after the other.
        let sending = context.publish_with_headers(subject(&key), headers, value.into());
        let sent = timeout(time, sending).await.map_err(|_| "the server takes nothing".to_owned())?;
        let sent = sent.map_err(|error| format!("the entry {key} cannot be put: {error}"))?;
        answers.spawn(async move {
            let answer = timeout(time, sent.into_future()).await;
            let answer = answer.map_err(|_| format!("the entry {key} was not acknowledged"))?;
            answer.map(|_| Answer::Put).map_err(|error| format!("the entry {key} was not put: {error}"))
        });
        Ok(())
    }

    /// Subscribes to the keys with these patterns, and asks for what is stored.
    async fn watch(&self, client: &Client, patterns: &[String], keys: &[String]) -> Result<Watch, String> {
        let bucket = &self.nats.bucket;
        let mut watch = Watch::default();
        let problem = |error: &dyn std::fmt::Display| format!("the bucket {bucket} cannot be watched: {error}");
        for pattern in patterns {
            let messages = client.subscribe(format!("$KV.{bucket}.{pattern}")).await;
            watch.live.push(messages.map_err(|error| problem(&error))?);
        }
        // The server has the subscriptions by then, because it takes the messages of a connection in their order.
        watch.stored = self.ask(client, keys).await?;
        watch.keys = keys.to_vec();
        watch.again = watch.stored.as_ref().map(|_| Instant::now() + patience(self.nats) / 3);
        Ok(watch)
    }

    /// Asks for what is stored.
    async fn ask(&self, client: &Client, keys: &[String]) -> Result<Option<Stored>, String> {
        if keys.is_empty() {
            return Ok(None);
        }
        let bucket = &self.nats.bucket;
        let problem = |error: &dyn std::fmt::Display| format!("the bucket {bucket} cannot be read: {error}");
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await.map_err(|error| problem(&error))?;
        let mut requests = 0;
        for keys in keys.chunks(KEYS_MAX) {
            let subjects: Vec<String> = keys.iter().map(|key| format!("$KV.{bucket}.{key}")).collect();
            let request = serde_json::json!({ "multi_last": subjects }).to_string();
            let subject = format!("$JS.API.DIRECT.GET.KV_{bucket}");
            let sent = client.publish_with_reply(subject, inbox.clone(), request.into()).await;
            sent.map_err(|error| problem(&error))?;
            requests += 1;
        }
        Ok(Some(Stored { messages, requests, due: Instant::now() + patience(self.nats) }))
    }

    /// Reports an entry.
    async fn hear(
        &self,
        message: Message,
        source: Source,
        watch: &mut Watch,
        places: &std::sync::Arc<Semaphore>,
    ) -> Result<(), String> {
        let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name));
        let subject = match (source, &mut watch.stored) {
            (Source::Live, _) => message.subject.as_str(),
            (Source::Stored, None) => return Ok(()),
            (Source::Stored, Some(stored)) => {
                stored.due = Instant::now() + patience(self.nats);
                if let Some(status) = message.status {
                    stored.requests = stored.requests.saturating_sub(1);
                    if stored.requests == 0 {
                        watch.stored = None;
                    }
                    return check_end(status, message.description.as_deref());
                }
                header(SUBJECT).map_or("", |subject| subject.as_str())
            }
        };
        let prefix = format!("$KV.{}.", self.nats.bucket);
        let key = subject.strip_prefix(&prefix).unwrap_or(subject).chars().take(KEY_LEN_MAX).collect();
        let is_removed =
            header(MARKER).is_some() || header(OPERATION).is_some_and(|operation| operation.as_str() != "PUT");
        let value = message.payload.get(..=VALUE_LEN_MAX).unwrap_or(&message.payload);
        let value = (!is_removed).then(|| value.to_vec());
        let place = std::sync::Arc::clone(places).acquire_owned().await.map_err(|error| error.to_string())?;
        (self.report)(Report::Entry { key, source, value, place });
        Ok(())
    }
}

/// Returns the time for which a bucket keeps entries, or `None` if it keeps them for ever.
fn check_kept(bucket: &str, max_age: Duration) -> Result<Option<Duration>, String> {
    if !max_age.is_zero() && max_age < KEPT_MIN {
        let time = humantime::format_duration(max_age);
        return Err(format!("the bucket {bucket} keeps entries for {time} only (at least 1s): delete it"));
    }
    Ok((!max_age.is_zero()).then_some(max_age))
}

/// Checks the status that ends the answers to a request.
fn check_end(status: StatusCode, description: Option<&str>) -> Result<(), String> {
    match status.as_u16() {
        STORED_END | STORED_NONE => Ok(()),
        code if status == StatusCode::NO_RESPONDERS => Err(format!(
            "the bucket permits no direct access ({code}): create it anew, or use a server from version 2.11"
        )),
        code => Err(format!("the bucket cannot be read: {} ({code})", description.unwrap_or("no reason"))),
    }
}

/// Returns the next message. Without a watch, it never completes.
async fn next(watch: &mut Watch) -> (Message, Source) {
    poll_fn(|cx| {
        if let Some(stored) = &mut watch.stored
            && let Poll::Ready(Some(message)) = Pin::new(&mut stored.messages).poll_next(cx)
        {
            return Poll::Ready((message, Source::Stored));
        }
        // The end of a subscription is that of the connection, which is noticed elsewhere.
        match Pin::new(&mut watch.live).poll_next(cx) {
            Poll::Ready(Some(message)) => Poll::Ready((message, Source::Live)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Connects, and returns the problems that the client reports from then on.
async fn connect(nats: &Nats, name: &str) -> Result<(Client, Receiver<String>), String> {
    let (problems, notices) = tokio::sync::mpsc::channel(16);
    let time = patience(nats);
    let mut options = ConnectOptions::new()
        .name(name)
        .connection_timeout(time)
        .request_timeout(Some(time))
        .ping_interval(time)
        .subscription_capacity(MESSAGES_MAX)
        .ignore_discovered_servers()
        // After a loss, the next session begins.
        .max_reconnects(nats.servers.len())
        .event_callback(move |event| {
            let problem = match event {
                Event::Disconnected | Event::Closed => Some("the connection is lost".to_owned()),
                Event::LameDuckMode => Some("the server is about to end".to_owned()),
                Event::ServerError(error) => Some(error.to_string()),
                Event::SlowConsumer(_) => Some("messages of the server were lost".to_owned()),
                Event::Connected | Event::Draining | Event::ClientError(_) => None,
            };
            // The first ones are enough.
            problem.map(|problem| problems.try_send(problem));
            std::future::ready(())
        });
    let read = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path);
        text.map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    options = match &nats.login {
        Login::None => options,
        Login::Credentials(path) => {
            let text = read(path)?;
            options.credentials(&text).map_err(|error| format!("{}: {error}", path.display()))?
        }
        Login::Token(path) => options.token(read(path)?.trim().to_owned()),
        Login::Password(user, path) => options.user_and_password(user.clone(), read(path)?.trim().to_owned()),
    };
    if let Some(path) = &nats.authority {
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &nats.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    let servers: Result<Vec<ServerAddr>, _> = nats.servers.iter().map(|server| server.url().parse()).collect();
    let servers = servers.map_err(|error| format!("no valid server: {error}"))?;
    let count = u32::try_from(nats.servers.len()).unwrap_or(u32::MAX);
    let connected = timeout(time * count, options.connect(servers)).await;
    let connected = connected.map_err(|_| "no server answers".to_owned())?;
    connected.map(|client| (client, notices)).map_err(|error| format!("no server lets this bridge in: {error}"))
}

/// Opens the bucket. Creates it if it does not exist.
async fn bucket(nats: &Nats, context: &Context) -> Result<stream::Stream, String> {
    let name = format!("KV_{}", nats.bucket);
    let stream = match context.get_stream(&name).await {
        Err(error) if matches!(error.kind(), GetStreamErrorKind::JetStream(error) if is_missing(&error)) => {
            match context.create_stream(bucket_config(nats, name.clone())).await {
                Ok(stream) => Ok(stream),
                // Another bridge may have created it, with another time.
                Err(error) => context.get_stream(&name).await.map_err(|_| error.to_string()),
            }
        }
        found => found.map_err(|error| error.to_string()),
    };
    stream.map_err(|error| format!("the bucket {} cannot be opened: {error}", nats.bucket))
}

fn is_missing(error: &jetstream::Error) -> bool {
    error.error_code() == ErrorCode::STREAM_NOT_FOUND
}

/// Returns the configuration of a stream that is a key-value bucket.
fn bucket_config(nats: &Nats, name: String) -> stream::Config {
    stream::Config {
        name,
        subjects: vec![format!("$KV.{}.>", nats.bucket)],
        max_messages_per_subject: 1,
        max_age: nats.ttl,
        max_message_size: 512,
        duplicate_window: nats.ttl.min(Duration::from_secs(120)),
        discard: stream::DiscardPolicy::New,
        storage: stream::StorageType::File,
        num_replicas: 1,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        max_bytes: -1,
        max_messages: -1,
        max_consumers: -1,
        ..stream::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_keeps_entries_for_too_short_a_time_is_not_used() {
        assert_eq!(check_kept("x", Duration::ZERO), Ok(None));
        assert_eq!(check_kept("x", KEPT_MIN), Ok(Some(KEPT_MIN)));
        let expected = "the bucket x keeps entries for 1ns only (at least 1s): delete it".to_owned();
        assert_eq!(check_kept("x", Duration::from_nanos(1)), Err(expected));
    }

    #[test]
    fn only_a_session_that_has_lasted_makes_the_pause_short_again() {
        let long = Duration::from_secs(30);
        assert_eq!(first_pause(long, true, LASTING), PAUSE_MIN);
        assert_eq!(first_pause(long, true, LASTING - Duration::from_millis(1)), long);
        // It has waited for an answer all the time.
        assert_eq!(first_pause(long, false, LASTING * 2), long);
    }
}
