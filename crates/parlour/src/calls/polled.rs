//! Calls of a program that waits by itself: a loop of events, another runtime of tasks, or another language.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::call::Call;
use super::caller::{CallStream, Caller, OpenCall};
use super::exchange::{End, Exchange, Next, Outcome, Shape, Want};
use super::line::Line;
use super::outbox::{Queued, Waiter};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::payload::Payload;

/// # Waiting in a loop of your own
///
/// These functions never block. A function that returns [`Poll::Pending`] has registered the waker of its context,
/// which is woken when the function has something to return. The caller receives only inside
/// [`advance`](Caller::advance), and sends what the channel did not take. A program polls its calls, and then calls
/// `advance`. If that returns true, it polls its calls again, or those whose wakers were woken. Otherwise it waits
/// until [`recv_fd`](Caller::recv_fd) is readable or [`send_fd`](Caller::send_fd) is writable.
///
/// Other threads may use the caller meanwhile, also with the blocking functions. Such a thread receives for all, and
/// the descriptors do not tell what it has received. Then the wakers have to end the wait, too: for example, a waker
/// writes to an eventfd(2) that the program polls beside the descriptors. A thread that stops while `advance` returns
/// true leaves the rest to the others, so it has to make one of them call `advance`.
///
/// `recv_fd` stays readable after the connection has ended. A program that keeps a caller without an open call does not
/// wait for the descriptor any more once [`has_ended`](Caller::has_ended) returns true.
///
/// ```
/// use std::os::fd::AsFd;
/// use std::task::{Context, Poll, Waker};
///
/// use parlour::{Caller, Server};
/// use rustix::event::{PollFd, PollFlags, poll};
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/notes", base.path().display());
/// let server = Server::bind(&name)?;
/// # let shutdown = server.shutdown_handle();
/// let serving = std::thread::spawn(move || server.serve_calls(|call| drop(call.reply("noted"))));
///
/// let caller = Caller::connect(&name)?;
/// // This program polls its only call after each wait, so it needs no waker.
/// let mut context = Context::from_waker(Waker::noop());
/// let mut call = None;
/// let answer = loop {
///     if call.is_none() {
///         if let Poll::Ready(begun) = caller.poll_call("buy milk", &mut context) {
///             call = Some(begun?);
///         }
///     }
///     if let Some(Poll::Ready(answer)) = call.as_mut().map(|call| call.poll_next(&mut context)) {
///         break answer.expect("a call has one answer")?;
///     }
///     if !caller.advance()? {
///         let writable = caller.send_fd();
///         let mut fds = vec![PollFd::from_borrowed_fd(caller.recv_fd(), PollFlags::IN)];
///         fds.extend(writable.as_ref().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)));
///         poll(&mut fds, None)?;
///     }
/// };
/// assert_eq!(answer, b"noted");
/// # shutdown.shutdown();
/// # serving.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Caller {
    /// Sends a request that has one answer, which is the only item of the stream. The call is pending, and nothing was
    /// sent, until the server has greeted and while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`call`](Caller::call) that concern the request. The others are the item of the stream.
    pub fn poll_call<'a>(&self, request: impl Into<Payload<'a>>, cx: &mut Context<'_>) -> Poll<Result<CallStream>> {
        self.line.poll_begin(Shape::One, &request.into(), cx.waker())
    }

    /// Sends a request as [`poll_call`](Caller::poll_call) does, which may have several answers.
    ///
    /// # Errors
    ///
    /// Those of [`call_stream`](Caller::call_stream).
    pub fn poll_call_stream<'a>(
        &self,
        request: impl Into<Payload<'a>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<CallStream>> {
        self.line.poll_begin(Shape::Many, &request.into(), cx.waker())
    }

    /// Returns the next message that the server has pushed, or `None` when the server has ended the connection.
    ///
    /// # Errors
    ///
    /// Those of [`next_push`](Caller::next_push).
    pub fn poll_push(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>>> {
        match self.line.poll(Want::Push, cx.waker(), Exchange::take_push) {
            Poll::Ready(Ok(message)) => Poll::Ready(Ok(Some(message))),
            Poll::Ready(Err(Over::Closed)) => Poll::Ready(Ok(None)),
            Poll::Ready(Err(Over::Failed(error))) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes what is buffered and receives what has arrived, without blocking, and wakes those whom this concerns.
    /// Returns true if something has changed: poll again, and call this again, before you wait.
    ///
    /// An end of the connection is returned by the calls that it concerns.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`](crate::ErrorKind::NameLost): this is a forked child.
    pub fn advance(&self) -> Result<bool> {
        self.line.check_process()?;
        self.line.advance()
    }

    /// Returns true if [`advance`](Caller::advance) or another thread has found that the connection has ended, or if
    /// this is a forked child. Then nothing can be called or received any more, and [`recv_fd`](Caller::recv_fd) stays
    /// readable.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.line.has_ended().unwrap_or(true)
    }

    /// Returns a borrowed descriptor for poll(2) that is readable when [`advance`](Caller::advance) may receive
    /// something, and after the connection has ended. Do not read, write or close it.
    #[must_use]
    pub fn recv_fd(&self) -> BorrowedFd<'_> {
        self.line.readable()
    }

    /// Returns the descriptor that is writable when [`advance`](Caller::advance) may write something, or `None` if the
    /// last call of `advance` has left nothing to write. Do not read or write it.
    #[must_use]
    pub fn send_fd(&self) -> Option<impl AsFd + Send + Sync + use<>> {
        self.line.writable()
    }
}

impl CallStream {
    /// Returns the next answer, or `None` after the last one. See
    /// [`Caller`](Caller#waiting-in-a-loop-of-your-own).
    ///
    /// # Errors
    ///
    /// Those of [`next_timeout`](CallStream::next_timeout), without `TimedOut`. The stream has ended.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message>>> {
        let Some(call) = &self.call else { return Poll::Ready(None) };
        let line = call.line();
        let id = call.id();
        let polled = line.poll(Want::Answer(id), cx.waker(), |exchange| exchange.take_next(id));
        let item = match polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(Next::Item(message))) => return Poll::Ready(Some(Ok(message))),
            Poll::Ready(Ok(Next::Over(Outcome::End))) => None,
            Poll::Ready(Ok(Next::Over(outcome))) => Some(Err(super::caller::failed(outcome, line.common()))),
            Poll::Ready(Err(over)) => Some(Err(line.lost(over.error(line)))),
        };
        self.call = None;
        Poll::Ready(item)
    }
}

impl Call {
    /// Answers with one of several messages as [`item`](Call::item) does. The answer is pending, and was not sent,
    /// while too many bytes are queued for the client. The waker is then woken when the client has taken some, or the
    /// call has ended.
    ///
    /// # Errors
    ///
    /// Those of [`reply`](Call::reply). After `MessageTooLong` and `Unsupported` the call is still open.
    pub fn poll_item<'a>(&self, payload: impl Into<Payload<'a>>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut post = Some(self.item_post(&payload.into())?);
        match self.try_post(&mut post, Waiter::Polls, cx.waker())? {
            Queued::Yes => Poll::Ready(Ok(())),
            Queued::Full => Poll::Pending,
        }
    }

    /// Returns when nobody waits for the answer any more, as [`is_cancelled`](Call::is_cancelled) tells.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`](crate::ErrorKind::NameLost): this is a forked child.
    pub fn poll_cancelled(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.note_cancelled(cx.waker())? {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

/// The reason for which nothing arrives any more.
enum Over {
    Closed,
    Failed(Error),
}

impl Over {
    fn error(self, line: &Line) -> Error {
        match self {
            Self::Closed => line.closed(),
            Self::Failed(error) => error,
        }
    }
}

impl Line {
    /// Takes what `take` returns, or registers the waker.
    fn poll<T>(
        &self,
        want: Want,
        waker: &Waker,
        take: impl FnOnce(&mut Exchange) -> Option<T>,
    ) -> Poll<Result<T, Over>> {
        let mut state = match self.check_process().and_then(|()| self.state()) {
            Ok(state) => state,
            Err(error) => return Poll::Ready(Err(Over::Failed(error))),
        };
        if let Some(value) = take(&mut state.exchange) {
            return Poll::Ready(Ok(value));
        }
        match state.exchange.end() {
            None => {}
            Some(End::Closed) => return Poll::Ready(Err(Over::Closed)),
            Some(End::Failed(error)) => return Poll::Ready(Err(Over::Failed(error.again()))),
        }
        state.exchange.wait_for(want, waker);
        Poll::Pending
    }

    fn poll_begin(self: &Arc<Self>, shape: Shape, request: &Payload<'_>, waker: &Waker) -> Poll<Result<CallStream>> {
        let begin = |exchange: &mut Exchange| {
            (exchange.end().is_none() && exchange.is_greeted()).then(|| exchange.begin(shape))
        };
        let id = match self.poll(Want::Greeting, waker, begin) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(id)) => id,
            Poll::Ready(Err(over)) => return Poll::Ready(Err(over.error(self))),
        };
        match self.try_send_request(id, request) {
            Ok(true) => Poll::Ready(Ok(OpenCall::sent(Arc::clone(self), id).into())),
            refused => {
                let mut state = match self.state() {
                    Ok(state) => state,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                state.exchange.abandon(id);
                if let Err(error) = refused {
                    return Poll::Ready(Err(error));
                }
                state.exchange.wait_for(Want::Room, waker);
                drop(state);
                // A thread that receives for all has to find out when there is room.
                self.nudge();
                Poll::Pending
            }
        }
    }
}
