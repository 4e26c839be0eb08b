//! Calls of values to servers that come and go.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::session::CallSession;
use super::typed::TypedCaller;
use crate::error::Result;
use crate::typed::codec::{Codec, Encoder};
use crate::wire::call::HEADER_LEN;

impl CallSession {
    /// Converts this session into one of values. Requests are of the type `S`, and answers of the type `R`. The format
    /// is that of [`Connection::typed`](crate::Connection::typed).
    #[must_use]
    pub fn typed<S: ?Sized, R>(self) -> TypedCallSession<S, R> {
        TypedCallSession { session: self, codec: Codec::Postcard, _types: PhantomData }
    }

    /// Converts this session into one of values, in the format JSON. See
    /// [`Connection::typed_json`](crate::Connection::typed_json).
    #[cfg(feature = "json")]
    #[must_use]
    pub fn typed_json<S: ?Sized, R>(self) -> TypedCallSession<S, R> {
        TypedCallSession { session: self, codec: Codec::Json, _types: PhantomData }
    }
}

/// A [`CallSession`] whose requests are values of the type `S`, and whose answers are values of the type `R`.
///
/// [`CallSession::typed`] creates it, or `CallSession::typed_json`. Any number of threads may call.
///
/// ```no_run
/// use parlour::CallSession;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// enum Request {
///     LogIn(String),
///     Add(i64, i64),
/// }
///
/// let sums = CallSession::new("sums")?.typed::<Request, i64>().on_connect(|caller| {
///     caller.call(&Request::LogIn("alice".to_owned()))?;
///     Ok(())
/// });
/// assert_eq!(sums.call(&Request::Add(2, 3))?, 5);
/// # Ok::<(), parlour::Error>(())
/// ```
pub struct TypedCallSession<S: ?Sized, R> {
    session: CallSession,
    codec: Codec,
    _types: PhantomData<fn(&S) -> R>,
}

impl<S: Serialize + ?Sized, R: DeserializeOwned> TypedCallSession<S, R> {
    /// Sends a request, and returns the answer. See [`CallSession::call`].
    ///
    /// # Errors
    ///
    /// Those of [`CallSession::call`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the request cannot be
    /// encoded, and nothing was sent; or the answer is not a value of the type.
    pub fn call(&self, request: &S) -> Result<R> {
        self.decode(&self.session.call(&self.encode(request)?)?)
    }

    /// Sends a request, and returns the answer. Gives up after `timeout`. See [`CallSession::call_timeout`].
    ///
    /// # Errors
    ///
    /// Those of [`call`](TypedCallSession::call), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn call_timeout(&self, request: &S, timeout: Duration) -> Result<R> {
        self.decode(&self.session.call_timeout(&self.encode(request)?, timeout)?)
    }

    /// Sends a request, and returns an iterator over the answers. See [`CallSession::call_stream`]. An answer that is
    /// not a value of the type is an error, and the iterator goes on.
    ///
    /// # Errors
    ///
    /// Those of [`call`](TypedCallSession::call) that concern the request. The others are items of the iterator.
    pub fn call_stream(&self, request: &S) -> Result<impl Iterator<Item = Result<R>> + use<'_, S, R>> {
        let stream = self.session.call_stream(&self.encode(request)?)?;
        Ok(stream.map(|answer| self.decode(&answer?)))
    }

    fn encode(&self, request: &S) -> Result<Vec<u8>> {
        let payload_max = self.session.message_max().saturating_sub(HEADER_LEN);
        Ok(Encoder::new(self.codec).encode(request, payload_max, || self.session.object().to_owned())?.to_vec())
    }

    fn decode(&self, answer: &[u8]) -> Result<R> {
        self.codec.value(answer, "the answer", || self.session.object().to_owned())
    }
}

impl<S: ?Sized + 'static, R: 'static> TypedCallSession<S, R> {
    /// Sets a function that is called after each connect. See [`CallSession::on_connect`].
    #[must_use]
    pub fn on_connect(mut self, mut hook: impl FnMut(&TypedCaller<S, R>) -> io::Result<()> + Send + 'static) -> Self {
        let codec = self.codec;
        self.session = self.session.on_connect(move |caller| hook(&TypedCaller::sharing(caller, codec)));
        self
    }
}

impl<S: ?Sized, R> TypedCallSession<S, R> {
    /// Returns the session of bytes, for pushed messages and counts.
    #[must_use]
    pub fn session(&self) -> &CallSession {
        &self.session
    }

    /// Returns the session of bytes.
    #[must_use]
    pub fn into_session(self) -> CallSession {
        self.session
    }
}

impl<S: ?Sized, R> fmt::Debug for TypedCallSession<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.session.fmt(f)
    }
}
