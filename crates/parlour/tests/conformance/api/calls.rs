//! Servers of calls and callers of any API.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use parlour::{Message, Payload, ShutdownHandle};

use super::Result;
#[cfg(feature = "tokio")]
use super::error::Error;
#[cfg(feature = "tokio")]
use super::tasks::{block_on, block_on_for, runtime};
use crate::support::{DEADLINE, data, eventually};

/// The handler of every server: `fail` fails with a text, `drop` is dropped, `late` is answered after it was cancelled,
/// `list N` has N items, and everything else is echoed.
enum Order {
    Fail,
    Drop,
    Late,
    List(usize),
    Echo,
}

/// The text with which the order `fail` fails.
pub const FAILURE: &str = "as it was told";

impl Order {
    fn of(request: &[u8]) -> Self {
        match request {
            b"fail" => Self::Fail,
            b"drop" => Self::Drop,
            b"late" => Self::Late,
            _ => {
                let count = std::str::from_utf8(request).ok().and_then(|text| text.strip_prefix("list "));
                count.map_or(Self::Echo, |count| Self::List(count.parse().unwrap()))
            }
        }
    }
}

/// The item of this number in the answers to `list`.
pub fn item(number: usize) -> &'static [u8] {
    data::message(number, number % 10_000)
}

fn answer(mut call: parlour::calls::Call) {
    let request = call.take_request();
    let order = Order::of(&request);
    if matches!(order, Order::Late | Order::List(_)) {
        // These take time, and the thread of the server has other clients.
        thread::spawn(move || carry_out(call, &request, &order));
    } else {
        carry_out(call, &request, &order);
    }
}

fn carry_out(call: parlour::calls::Call, request: &Message, order: &Order) {
    // An error means that nobody waits for the answer.
    let _ = match order {
        Order::Fail => call.fail(FAILURE),
        Order::Drop => return,
        Order::Late => {
            eventually("the call is cancelled", || call.is_cancelled());
            call.reply("late")
        }
        Order::List(count) => match (0..*count).try_for_each(|number| call.item(item(number))) {
            Ok(()) => call.end(),
            Err(error) => Err(error),
        },
        Order::Echo => call.reply(request),
    };
}

#[cfg(feature = "tokio")]
async fn answer_in_a_task(mut call: parlour::tokio::Call) {
    let request = call.take_request();
    let _ = match Order::of(&request) {
        Order::Fail => call.fail(FAILURE),
        Order::Drop => return,
        Order::Late => {
            call.cancelled().await.unwrap();
            call.reply("late")
        }
        Order::List(count) => {
            for number in 0..count {
                if call.item(item(number)).await.is_err() {
                    return;
                }
            }
            call.end()
        }
        Order::Echo => call.reply(&request),
    };
}

/// A server of calls that serves until it is ended or dropped.
pub struct CallServer {
    shutdown: ShutdownHandle,
    serving: Option<Serving>,
}

enum Serving {
    Blocking(JoinHandle<parlour::Result<()>>),
    #[cfg(feature = "tokio")]
    Tokio(tokio::task::JoinHandle<parlour::Result<parlour::tokio::Served>>),
}

impl CallServer {
    pub(super) fn blocking(server: parlour::Server) -> Self {
        let shutdown = server.shutdown_handle();
        let thread = thread::spawn(move || server.serve_calls(answer));
        Self { shutdown, serving: Some(Serving::Blocking(thread)) }
    }

    #[cfg(feature = "tokio")]
    pub(super) fn tokio(server: parlour::tokio::Server) -> Self {
        let shutdown = server.shutdown_handle();
        let serving = server.serve_calls(answer_in_a_task, std::future::pending(), DEADLINE);
        Self { shutdown, serving: Some(Serving::Tokio(runtime().spawn(serving))) }
    }

    /// Ends the server in order.
    pub fn end(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.shutdown.shutdown();
        match self.serving.take() {
            Some(Serving::Blocking(thread)) => thread.join().unwrap().unwrap(),
            #[cfg(feature = "tokio")]
            Some(Serving::Tokio(task)) => drop(block_on(task).unwrap().unwrap()),
            None => {}
        }
    }
}

impl Drop for CallServer {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

/// A caller of any API.
pub enum Caller {
    Blocking(parlour::Caller),
    #[cfg(feature = "tokio")]
    Tokio(parlour::tokio::Caller),
}

impl Caller {
    pub fn call<'a>(&self, request: impl Into<Payload<'a>>) -> Result<Message> {
        self.call_timeout(request, DEADLINE)
    }

    pub fn call_timeout<'a>(&self, request: impl Into<Payload<'a>>, timeout: Duration) -> Result<Message> {
        match self {
            Self::Blocking(caller) => Ok(caller.call_timeout(request, timeout)?),
            #[cfg(feature = "tokio")]
            Self::Tokio(caller) => Ok(block_on_for(timeout, caller.call(request.into())).ok_or(Error::TimedOut)??),
        }
    }

    /// Returns the first `count` items of the answers, or all of them if there are fewer, and drops the stream.
    pub fn items(&self, request: &str, count: usize) -> Result<Vec<Message>> {
        match self {
            Self::Blocking(caller) => {
                let mut stream = caller.call_stream(request)?;
                let mut items = Vec::new();
                while items.len() < count {
                    let Some(item) = stream.next_timeout(DEADLINE)? else { break };
                    items.push(item);
                }
                Ok(items)
            }
            #[cfg(feature = "tokio")]
            Self::Tokio(caller) => block_on(async {
                let mut stream = caller.call_stream(request).await?;
                let mut items = Vec::new();
                while items.len() < count {
                    let next = tokio::time::timeout(DEADLINE, stream.next()).await.map_err(|_| Error::TimedOut)?;
                    let Some(item) = next else { break };
                    items.push(item?);
                }
                Ok(items)
            }),
        }
    }

    /// Returns the number of calls that wait for an answer.
    pub fn open(&self) -> usize {
        match self {
            Self::Blocking(caller) => caller.stats().open,
            #[cfg(feature = "tokio")]
            Self::Tokio(caller) => caller.stats().open,
        }
    }
}
