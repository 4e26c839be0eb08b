//! Calls of values, of tasks to servers that come and go.

use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call_session::CallSession;
use super::typed_calls::{TypedCallStream, TypedCaller};
use crate::error::Result;
use crate::typed::codec::{Codec, Encoder};
use crate::wire::call::HEADER_LEN;

impl CallSession {
    /// Converts this session into one of values. Requests are of the type `S`, and answers of the type `R`. The format
    /// is that of [`crate::Connection::typed`].
    #[must_use]
    pub fn typed<S: ?Sized, R>(self) -> TypedCallSession<S, R> {
        TypedCallSession { session: self, codec: Codec::Postcard, _types: PhantomData }
    }

    /// Converts this session into one of values, in the format JSON. See [`crate::Connection::typed_json`].
    #[cfg(feature = "json")]
    #[must_use]
    pub fn typed_json<S: ?Sized, R>(self) -> TypedCallSession<S, R> {
        TypedCallSession { session: self, codec: Codec::Json, _types: PhantomData }
    }
}

/// A [`CallSession`] whose requests are values of the type `S`, and whose answers are values of the type `R`.
/// [`crate::calls::TypedCallSession`] is the blocking one.
///
/// [`CallSession::typed`] creates it, or `CallSession::typed_json`. Any number of tasks may call.
///
/// ```no_run
/// use parlour::tokio::CallSession;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// enum Request {
///     LogIn(String),
///     Add(i64, i64),
/// }
///
/// # async fn example() -> parlour::Result<()> {
/// let sums = CallSession::new("sums")?.typed::<Request, i64>().on_connect(|caller| async move {
///     caller.call(&Request::LogIn("alice".to_owned())).await?;
///     Ok(())
/// });
/// assert_eq!(sums.call(&Request::Add(2, 3)).await?, 5);
/// # Ok(())
/// # }
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
    ///
    /// # Cancel safety
    ///
    /// Same as [`CallSession::call`].
    pub async fn call(&self, request: &S) -> Result<R> {
        let request = self.encode(request)?;
        let answer = self.session.call(&request).await?;
        self.codec.value(&answer, "the answer", || self.session.object())
    }

    /// Sends a request, and returns a stream of the answers. See [`CallSession::call_stream`].
    ///
    /// # Errors
    ///
    /// Those of [`call`](TypedCallSession::call) that concern the request. The others are items of the stream.
    ///
    /// # Cancel safety
    ///
    /// Same as [`CallSession::call_stream`].
    pub async fn call_stream(&self, request: &S) -> Result<TypedCallStream<R>> {
        let request = self.encode(request)?;
        let (stream, common) = self.session.stream(&request).await?;
        Ok(TypedCallStream::over(stream, self.codec, common))
    }

    fn encode(&self, request: &S) -> Result<Vec<u8>> {
        let payload_max = self.session.message_max().saturating_sub(HEADER_LEN);
        Ok(Encoder::new(self.codec).encode(request, payload_max, || self.session.object())?.to_vec())
    }
}

impl<S: ?Sized + 'static, R: 'static> TypedCallSession<S, R> {
    /// Sets a function that is called after each connect. See [`CallSession::on_connect`].
    #[must_use]
    pub fn on_connect<F>(mut self, mut hook: impl FnMut(TypedCaller<S, R>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let codec = self.codec;
        self.session = self.session.on_connect(move |caller| hook(TypedCaller::over(caller, codec)));
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
