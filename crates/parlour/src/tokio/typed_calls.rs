//! Calls whose requests and answers are values, for tasks.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::caller::{CallStream, Caller};
use super::serve::Served;
use super::serve_calls::{Call, CallServer};
use super::server::Server;
use crate::endpoint::Common;
use crate::error::Result;
use crate::peer::Peer;
use crate::typed::codec::{Codec, Encoder};
use crate::wire::call::HEADER_LEN;

impl Caller {
    /// Converts this caller into one of values. Requests are of the type `S`, and answers of the type `R`. The format
    /// is that of [`crate::Connection::typed`].
    #[must_use]
    pub fn typed<S: ?Sized, R>(self) -> TypedCaller<S, R> {
        TypedCaller { caller: self, codec: Codec::Postcard, _types: PhantomData }
    }

    /// Converts this caller into one of values, in the format JSON. See [`crate::Connection::typed_json`].
    #[cfg(feature = "json")]
    #[must_use]
    pub fn typed_json<S: ?Sized, R>(self) -> TypedCaller<S, R> {
        TypedCaller { caller: self, codec: Codec::Json, _types: PhantomData }
    }
}

/// A [`Caller`] whose requests are values of the type `S`, and whose answers are values of the type `R`.
/// [`crate::calls::TypedCaller`] is the blocking one.
///
/// [`Caller::typed`] creates it, or `Caller::typed_json`. Any number of tasks may call.
///
/// # Examples
///
/// ```
/// use std::future::pending;
/// use std::time::Duration;
///
/// use parlour::tokio::{Caller, Server, TypedCall};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// enum Request {
///     Add(i64, i64),
/// }
///
/// async fn answer(request: Request, call: TypedCall<i64>) {
///     let Request::Add(a, b) = request;
///     let _ = match a.checked_add(b) {
///         Some(sum) => call.reply(&sum),
///         None => call.fail("the sum is too large"),
///     };
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/sums", base.path().display());
/// // let name = "sums";
/// let server = Server::bind(&name)?;
/// let serving = tokio::spawn(server.serve_typed_calls(answer, pending(), Duration::from_secs(5)));
///
/// let caller = Caller::connect(&name).await?.typed::<Request, i64>();
/// assert_eq!(caller.call(&Request::Add(2, 3)).await?, 5);
/// let error = caller.call(&Request::Add(i64::MAX, 1)).await.unwrap_err();
/// assert_eq!(error.failure(), Some("the sum is too large"));
/// # serving.abort();
/// # Ok(())
/// # }
/// ```
pub struct TypedCaller<S: ?Sized, R> {
    caller: Caller,
    codec: Codec,
    _types: PhantomData<fn(&S) -> R>,
}

impl<S: Serialize + ?Sized, R: DeserializeOwned> TypedCaller<S, R> {
    /// Sends a request, and returns the answer. See [`Caller::call`].
    ///
    /// # Errors
    ///
    /// Those of [`Caller::call`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the request cannot be
    /// encoded, and nothing was sent; or the answer is not a value of the type. The caller can still be used.
    ///
    /// # Cancel safety
    ///
    /// Same as [`Caller::call`].
    pub async fn call(&self, request: &S) -> Result<R> {
        let request = self.encode(request)?;
        value(self.codec, &self.caller.call(&request).await?, self.caller.common())
    }

    /// Sends a request, and returns a stream of the answers. See [`Caller::call_stream`].
    ///
    /// # Errors
    ///
    /// Those of [`call`](TypedCaller::call) that concern the request. The others are items of the stream.
    ///
    /// # Cancel safety
    ///
    /// Same as [`Caller::call_stream`].
    pub async fn call_stream(&self, request: &S) -> Result<TypedCallStream<R>> {
        let request = self.encode(request)?;
        let stream = self.caller.call_stream(&request).await?;
        Ok(TypedCallStream::over(stream, self.codec, Arc::clone(self.caller.common())))
    }

    fn encode(&self, request: &S) -> Result<Vec<u8>> {
        let common = self.caller.common();
        let payload_max = common.message_max.saturating_sub(HEADER_LEN);
        Ok(Encoder::new(self.codec).encode(request, payload_max, || common.object())?.to_vec())
    }
}

fn value<R: DeserializeOwned>(codec: Codec, answer: &[u8], common: &Common) -> Result<R> {
    codec.value(answer, "the answer", || common.object())
}

impl<S: ?Sized, R> TypedCaller<S, R> {
    pub(super) fn over(caller: Caller, codec: Codec) -> Self {
        Self { caller, codec, _types: PhantomData }
    }

    /// Returns the caller of bytes, for pushed messages and counts.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns the caller of bytes.
    #[must_use]
    pub fn into_caller(self) -> Caller {
        self.caller
    }
}

impl<S: ?Sized, R> fmt::Debug for TypedCaller<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.caller.fmt(f)
    }
}

/// The answers to one request, as values. See [`TypedCaller::call_stream`] and [`CallStream`].
///
/// It is a [`Stream`] of values. An answer that is not a value of the type is an error, and the stream goes on.
pub struct TypedCallStream<R> {
    stream: CallStream,
    codec: Codec,
    common: Arc<Common>,
    _answer: PhantomData<fn() -> R>,
}

impl<R> TypedCallStream<R> {
    pub(super) fn over(stream: CallStream, codec: Codec, common: Arc<Common>) -> Self {
        Self { stream, codec, common, _answer: PhantomData }
    }
}

impl<R: DeserializeOwned> TypedCallStream<R> {
    /// Returns the next answer, or `None` after the last one.
    ///
    /// # Errors
    ///
    /// Those of [`CallStream::next`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, no answer is lost.
    pub async fn next(&mut self) -> Option<Result<R>> {
        let next = self.stream.next().await?;
        Some(next.and_then(|answer| value(self.codec, &answer, &self.common)))
    }
}

impl<R: DeserializeOwned> Stream for TypedCallStream<R> {
    type Item = Result<R>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { stream, codec, common, .. } = self.get_mut();
        let next = ready!(Pin::new(stream).poll_next(cx));
        Poll::Ready(next.map(|next| next.and_then(|answer| value(*codec, &answer, common))))
    }
}

impl<R> fmt::Debug for TypedCallStream<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}

impl Server {
    /// Serves calls as [`serve_calls`](Server::serve_calls) does. Requests are values of the type `R`, and answers of
    /// the type `S`. See [`CallServer::serve_typed`].
    ///
    /// # Errors
    ///
    /// Those of [`serve`](Server::serve).
    ///
    /// # Cancel safety
    ///
    /// Same as [`serve_calls`](Server::serve_calls).
    pub async fn serve_typed_calls<R, S, H, F>(
        self,
        handler: H,
        shutdown: impl Future<Output = ()>,
        grace: Duration,
    ) -> Result<Served>
    where
        R: DeserializeOwned,
        S: Serialize + ?Sized,
        H: Fn(R, TypedCall<S>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        CallServer::new(self).serve_typed(handler, shutdown, grace).await
    }

    /// Serves calls as [`serve_typed_calls`](Server::serve_typed_calls) does, in the format JSON, for callers in any
    /// language and in shell scripts: `parlour call --id --json`.
    ///
    /// # Errors
    ///
    /// Those of [`serve`](Server::serve).
    ///
    /// # Cancel safety
    ///
    /// Same as [`serve_calls`](Server::serve_calls).
    #[cfg(feature = "json")]
    pub async fn serve_typed_json_calls<R, S, H, F>(
        self,
        handler: H,
        shutdown: impl Future<Output = ()>,
        grace: Duration,
    ) -> Result<Served>
    where
        R: DeserializeOwned,
        S: Serialize + ?Sized,
        H: Fn(R, TypedCall<S>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        CallServer::new(self).serve_typed_json(handler, shutdown, grace).await
    }
}

impl CallServer {
    /// Serves calls as [`serve`](CallServer::serve) does. Requests are values of the type `R`, and answers of the type
    /// `S`. A request that is not a value of the type is answered with an error, and not given to `handler`.
    ///
    /// # Errors
    ///
    /// Those of [`serve`](CallServer::serve).
    ///
    /// # Cancel safety
    ///
    /// Same as [`serve`](CallServer::serve).
    pub async fn serve_typed<R, S, H, F>(
        self,
        handler: H,
        shutdown: impl Future<Output = ()>,
        grace: Duration,
    ) -> Result<Served>
    where
        R: DeserializeOwned,
        S: Serialize + ?Sized,
        H: Fn(R, TypedCall<S>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.serve_values(Codec::Postcard, handler, shutdown, grace).await
    }

    /// Serves calls as [`serve_typed`](CallServer::serve_typed) does, in the format JSON.
    ///
    /// # Errors
    ///
    /// Those of [`serve`](CallServer::serve).
    ///
    /// # Cancel safety
    ///
    /// Same as [`serve`](CallServer::serve).
    #[cfg(feature = "json")]
    pub async fn serve_typed_json<R, S, H, F>(
        self,
        handler: H,
        shutdown: impl Future<Output = ()>,
        grace: Duration,
    ) -> Result<Served>
    where
        R: DeserializeOwned,
        S: Serialize + ?Sized,
        H: Fn(R, TypedCall<S>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.serve_values(Codec::Json, handler, shutdown, grace).await
    }

    async fn serve_values<R, S, H, F>(
        self,
        codec: Codec,
        handler: H,
        shutdown: impl Future<Output = ()>,
        grace: Duration,
    ) -> Result<Served>
    where
        R: DeserializeOwned,
        S: Serialize + ?Sized,
        H: Fn(R, TypedCall<S>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let answer = move |call: Call| {
            let answering = match codec.decode::<R>(&call) {
                Ok(request) => Some(handler(request, TypedCall { call, codec, _answer: PhantomData })),
                Err(reason) => {
                    let length = call.len();
                    // An error means that nobody waits for the answer.
                    let _ = call.fail(format!("the request ({length} bytes) is not a valid value: {reason}"));
                    None
                }
            };
            async move {
                if let Some(answering) = answering {
                    answering.await;
                }
            }
        };
        self.serve(answer, shutdown, grace).await
    }
}

/// A request that a task answers with values of the type `S`. [`crate::calls::TypedCall`] is that of the blocking API.
///
/// A call that is dropped without an answer is answered with an error.
pub struct TypedCall<S: ?Sized> {
    call: Call,
    codec: Codec,
    _answer: PhantomData<fn(&S)>,
}

impl<S: Serialize + ?Sized> TypedCall<S> {
    /// Answers with one value. Does not wait. See [`Call::reply`].
    ///
    /// # Errors
    ///
    /// Those of [`Call::reply`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the value cannot be encoded.
    /// The caller gets an error.
    pub fn reply(self, answer: &S) -> Result<()> {
        self.call.reply_value(self.codec, answer)
    }

    /// Answers with one of several values. Waits if too many bytes are queued for the client. See [`Call::item`].
    ///
    /// # Errors
    ///
    /// Those of [`Call::item`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the value cannot be encoded.
    /// The call is still open.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the value was not sent.
    pub async fn item(&self, answer: &S) -> Result<()> {
        let bytes = self.call.encode(self.codec, answer)?;
        self.call.item(&bytes).await
    }
}

impl<S: ?Sized> TypedCall<S> {
    /// Ends the answers that [`item`](TypedCall::item) has sent. See [`Call::end`].
    ///
    /// # Errors
    ///
    /// Those of [`Call::end`].
    pub fn end(self) -> Result<()> {
        self.call.end()
    }

    /// Answers with an error. See [`Call::fail`].
    ///
    /// # Errors
    ///
    /// Those of [`Call::fail`].
    pub fn fail(self, text: impl AsRef<str>) -> Result<()> {
        self.call.fail(text)
    }

    /// Returns the identity of the client.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.call.peer()
    }

    /// Returns the number of the client, for [`Pusher::push`](crate::calls::Pusher::push).
    #[must_use]
    pub fn client(&self) -> u64 {
        self.call.client()
    }

    /// Returns true if nobody waits for the answer any more. See [`crate::calls::Call::is_cancelled`].
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.call.is_cancelled()
    }

    /// Completes when nobody waits for the answer any more. See [`Call::cancelled`].
    ///
    /// # Errors
    ///
    /// Those of [`Call::cancelled`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn cancelled(&self) -> Result<()> {
        self.call.cancelled().await
    }
}

impl<S: ?Sized> fmt::Debug for TypedCall<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.call.fmt(f)
    }
}
