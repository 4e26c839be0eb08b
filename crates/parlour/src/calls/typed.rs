//! Calls whose requests and answers are values.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::Call;
use super::caller::{CallStream, Caller};
use super::serve::CallServer;
use crate::error::Result;
use crate::peer::Peer;
use crate::server::Server;
use crate::typed::codec::{Codec, Encoder};
use crate::wire::call::HEADER_LEN;

impl Caller {
    /// Converts this caller into one of values. Requests are of the type `S`, and answers of the type `R`. The format
    /// is that of [`Connection::typed`](crate::Connection::typed).
    #[must_use]
    pub fn typed<S: ?Sized, R>(self) -> TypedCaller<S, R> {
        TypedCaller { caller: self, codec: Codec::Postcard, _types: PhantomData }
    }

    /// Converts this caller into one of values, in the format JSON. See
    /// [`Connection::typed_json`](crate::Connection::typed_json).
    #[cfg(feature = "json")]
    #[must_use]
    pub fn typed_json<S: ?Sized, R>(self) -> TypedCaller<S, R> {
        TypedCaller { caller: self, codec: Codec::Json, _types: PhantomData }
    }
}

/// A [`Caller`] whose requests are values of the type `S`, and whose answers are values of the type `R`.
///
/// [`Caller::typed`] creates it, or `Caller::typed_json`. Any number of threads may call.
///
/// # Examples
///
/// ```
/// use parlour::calls::TypedCall;
/// use parlour::{Caller, Server};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// enum Request {
///     Add(i64, i64),
/// }
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/sums", base.path().display());
/// // let name = "sums";
/// let server = Server::bind(&name)?;
/// let shutdown = server.shutdown_handle();
/// let serving = std::thread::spawn(move || {
///     server.serve_typed_calls(|request, call: TypedCall<i64>| {
///         let Request::Add(a, b) = request;
///         let _ = match a.checked_add(b) {
///             Some(sum) => call.reply(&sum),
///             None => call.fail("the sum is too large"),
///         };
///     })
/// });
///
/// let caller = Caller::connect(&name)?.typed::<Request, i64>();
/// assert_eq!(caller.call(&Request::Add(2, 3))?, 5);
/// assert_eq!(caller.call(&Request::Add(i64::MAX, 1)).unwrap_err().failure(), Some("the sum is too large"));
/// shutdown.shutdown();
/// serving.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TypedCaller<S: ?Sized, R> {
    caller: Caller,
    codec: Codec,
    _types: PhantomData<fn(&S) -> R>,
}

impl<S: Serialize + ?Sized, R: DeserializeOwned> TypedCaller<S, R> {
    /// Sends a request, and returns the answer. Blocks until it arrives. See [`Caller::call`].
    ///
    /// # Errors
    ///
    /// Those of [`Caller::call`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the request cannot be
    /// encoded, and nothing was sent; or the answer is not a value of the type. The caller can still be used.
    pub fn call(&self, request: &S) -> Result<R> {
        self.decode(&self.caller.call(&self.encode(request)?)?)
    }

    /// Sends a request, and returns the answer. Gives up after `timeout`. See [`Caller::call_timeout`].
    ///
    /// # Errors
    ///
    /// Those of [`call`](TypedCaller::call), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn call_timeout(&self, request: &S, timeout: Duration) -> Result<R> {
        self.decode(&self.caller.call_timeout(&self.encode(request)?, timeout)?)
    }

    /// Sends a request, and returns an iterator over the answers. See [`Caller::call_stream`].
    ///
    /// # Errors
    ///
    /// Those of [`call`](TypedCaller::call) that concern the request. The others are items of the stream.
    pub fn call_stream(&self, request: &S) -> Result<TypedCallStream<'_, S, R>> {
        let stream = self.caller.call_stream(&self.encode(request)?)?;
        Ok(TypedCallStream { caller: self, stream })
    }

    fn encode(&self, request: &S) -> Result<Vec<u8>> {
        let common = self.caller.common();
        let payload_max = common.message_max.saturating_sub(HEADER_LEN);
        Ok(Encoder::new(self.codec).encode(request, payload_max, || common.object())?.to_vec())
    }

    fn decode(&self, answer: &[u8]) -> Result<R> {
        self.codec.value(answer, "the answer", || self.caller.common().object())
    }
}

impl<S: ?Sized, R> TypedCaller<S, R> {
    /// Returns a caller over the same connection.
    pub(super) fn sharing(caller: &Caller, codec: Codec) -> Self {
        Self { caller: Caller { line: Arc::clone(&caller.line) }, codec, _types: PhantomData }
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
/// An answer that is not a value of the type is an error, and the stream goes on.
pub struct TypedCallStream<'a, S: ?Sized, R> {
    caller: &'a TypedCaller<S, R>,
    stream: CallStream,
}

impl<S: Serialize + ?Sized, R: DeserializeOwned> Iterator for TypedCallStream<'_, S, R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.stream.next()?.and_then(|answer| self.caller.decode(&answer)))
    }
}

impl<S: ?Sized, R> fmt::Debug for TypedCallStream<'_, S, R> {
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
    /// Those of [`CallServer::serve`].
    pub fn serve_typed_calls<R: DeserializeOwned, S: Serialize + ?Sized>(
        self,
        handler: impl FnMut(R, TypedCall<S>),
    ) -> Result<()> {
        CallServer::new(self)?.serve_typed(handler)
    }

    /// Serves calls as [`serve_typed_calls`](Server::serve_typed_calls) does, in the format JSON, for callers in any
    /// language and in shell scripts: `parlour call --id --json`.
    ///
    /// # Errors
    ///
    /// Those of [`CallServer::serve`].
    #[cfg(feature = "json")]
    pub fn serve_typed_json_calls<R: DeserializeOwned, S: Serialize + ?Sized>(
        self,
        handler: impl FnMut(R, TypedCall<S>),
    ) -> Result<()> {
        CallServer::new(self)?.serve_typed_json(handler)
    }
}

impl CallServer {
    /// Serves calls as [`serve`](CallServer::serve) does. Requests are values of the type `R`, and answers of the type
    /// `S`. A request that is not a value of the type is answered with an error, and not given to `handler`.
    ///
    /// # Errors
    ///
    /// Those of [`serve`](CallServer::serve).
    pub fn serve_typed<R: DeserializeOwned, S: Serialize + ?Sized>(
        self,
        handler: impl FnMut(R, TypedCall<S>),
    ) -> Result<()> {
        self.serve_values(Codec::Postcard, handler)
    }

    /// Serves calls as [`serve_typed`](CallServer::serve_typed) does, in the format JSON.
    ///
    /// # Errors
    ///
    /// Those of [`serve`](CallServer::serve).
    #[cfg(feature = "json")]
    pub fn serve_typed_json<R: DeserializeOwned, S: Serialize + ?Sized>(
        self,
        handler: impl FnMut(R, TypedCall<S>),
    ) -> Result<()> {
        self.serve_values(Codec::Json, handler)
    }

    fn serve_values<R: DeserializeOwned, S: Serialize + ?Sized>(
        self,
        codec: Codec,
        mut handler: impl FnMut(R, TypedCall<S>),
    ) -> Result<()> {
        self.serve(|call| match codec.decode::<R>(&call) {
            Ok(request) => handler(request, TypedCall { call, codec, _answer: PhantomData }),
            Err(reason) => {
                let length = call.len();
                // An error means that nobody waits for the answer.
                let _ = call.fail(format!("the request ({length} bytes) is not a valid value: {reason}"));
            }
        })
    }
}

/// A request that is to be answered with values of the type `S`. See [`Call`].
///
/// A call that is dropped without an answer is answered with an error. It can be moved to another thread.
pub struct TypedCall<S: ?Sized> {
    call: Call,
    codec: Codec,
    _answer: PhantomData<fn(&S)>,
}

impl<S: Serialize + ?Sized> TypedCall<S> {
    /// Answers with one value. Does not block. See [`Call::reply`].
    ///
    /// # Errors
    ///
    /// Those of [`Call::reply`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the value cannot be encoded.
    /// The caller gets an error.
    pub fn reply(self, answer: &S) -> Result<()> {
        self.call.reply_value(self.codec, answer)
    }

    /// Answers with one of several values. See [`Call::item`].
    ///
    /// # Errors
    ///
    /// Those of [`Call::item`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the value cannot be encoded.
    /// The call is still open.
    pub fn item(&self, answer: &S) -> Result<()> {
        self.call.item(&self.call.encode(self.codec, answer)?)
    }

    /// Answers with one of several values, and gives up after `timeout`. See [`Call::item_timeout`].
    ///
    /// # Errors
    ///
    /// Those of [`item`](TypedCall::item), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn item_timeout(&self, answer: &S, timeout: Duration) -> Result<()> {
        self.call.item_timeout(&self.call.encode(self.codec, answer)?, timeout)
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

    /// Returns the number of the client. See [`Call::client`].
    #[must_use]
    pub fn client(&self) -> u64 {
        self.call.client()
    }

    /// Returns true if nobody waits for the answer any more. See [`Call::is_cancelled`].
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.call.is_cancelled()
    }

    /// Blocks until nobody waits for the answer any more. See [`Call::wait_cancelled`].
    ///
    /// # Errors
    ///
    /// Those of [`Call::wait_cancelled`].
    pub fn wait_cancelled(&self) -> Result<()> {
        self.call.wait_cancelled()
    }

    /// Blocks as [`wait_cancelled`](TypedCall::wait_cancelled) does, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Call::wait_cancelled_timeout`].
    pub fn wait_cancelled_timeout(&self, timeout: Duration) -> Result<()> {
        self.call.wait_cancelled_timeout(timeout)
    }
}

impl<S: ?Sized> fmt::Debug for TypedCall<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.call.fmt(f)
    }
}
