//! The arguments of a call that sends: bytes, descriptors and blocks of shared memory.

use std::io::IoSlice;
use std::os::fd::{BorrowedFd, RawFd};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyBytes, PyTuple};

use crate::buffer::Buffer;
use crate::shared::SharedBytes;

/// The parts of a message. It keeps the memory of the objects exported.
pub(crate) struct Parts<'py> {
    first: Bytes<'py>,
    more: Vec<Bytes<'py>>,
    fds: Vec<RawFd>,
    /// The objects that have these descriptors. They may close them when they are dropped.
    owners: Vec<Bound<'py, PyAny>>,
    blocks: Vec<Bound<'py, SharedBytes>>,
}

enum Bytes<'py> {
    Object(Bound<'py, PyBytes>),
    Buffer(Buffer),
}

impl<'py> Bytes<'py> {
    fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        match object.cast::<PyBytes>() {
            Ok(bytes) => Ok(Self::Object(bytes.clone())),
            Err(_) => Buffer::readable(object).map(Self::Buffer),
        }
    }

    fn get(&self) -> &[u8] {
        match self {
            Self::Object(bytes) => bytes.as_bytes(),
            Self::Buffer(buffer) => buffer.bytes(),
        }
    }
}

impl<'py> Parts<'py> {
    pub(crate) fn new(
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        fds: Option<&Bound<'py, PyAny>>,
        shared: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let mut parts =
            Self { first: Bytes::of(data)?, more: Vec::new(), fds: Vec::new(), owners: Vec::new(), blocks: Vec::new() };
        for part in more {
            parts.more.push(Bytes::of(&part)?);
        }
        for object in fds.map(PyAnyMethods::try_iter).transpose()?.into_iter().flatten() {
            let object = object?;
            parts.fds.push(descriptor(&object)?);
            parts.owners.push(object);
        }
        for object in shared.map(PyAnyMethods::try_iter).transpose()?.into_iter().flatten() {
            parts.blocks.push(object?.cast_into::<SharedBytes>()?);
        }
        if !parts.fds.is_empty() && !parts.blocks.is_empty() {
            return Err(PyTypeError::new_err("a message has either fds or shared, not both"));
        }
        Ok(parts)
    }

    /// Returns a view of the message, for which everything is borrowed. It needs no interpreter.
    pub(crate) fn view(&self) -> View<'_> {
        if self.more.is_empty() && self.fds.is_empty() && self.blocks.is_empty() {
            return View::Plain(self.first.get());
        }
        View::Parts {
            slices: [&self.first].into_iter().chain(&self.more).map(|part| IoSlice::new(part.get())).collect(),
            fds: self.fds.iter().map(|fd| borrow(*fd)).collect(),
            blocks: self.blocks.iter().map(|block| block.get().block()).collect(),
        }
    }
}

/// The parts of a message, borrowed.
pub(crate) enum View<'a> {
    Plain(&'a [u8]),
    Parts { slices: Vec<IoSlice<'a>>, fds: Vec<BorrowedFd<'a>>, blocks: Vec<&'a parlour::SharedBytes> },
}

impl View<'_> {
    pub(crate) fn payload(&self) -> parlour::Payload<'_> {
        match self {
            Self::Plain(bytes) => parlour::Payload::new(bytes),
            Self::Parts { slices, fds, blocks } if blocks.is_empty() => parlour::Payload::vectored(slices).fds(fds),
            Self::Parts { slices, blocks, .. } => parlour::Payload::vectored(slices).shared(blocks),
        }
    }

    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Parts { slices, .. } => slices.iter().fold(0, |sum, part| sum.saturating_add(part.len())),
        }
    }
}

#[allow(unsafe_code, reason = "Python has descriptors as numbers")]
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: it is not negative, and the object that has it is alive during the call. A program that closes the
    // descriptor in another thread meanwhile sends another one, as with sendmsg(2) in any language.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Returns the descriptor of an object: the number itself, or what its `fileno` returns.
fn descriptor(object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let number = match object.extract::<RawFd>() {
        Ok(number) => number,
        Err(_) => object.call_method0("fileno")?.extract()?,
    };
    if number < 0 {
        return Err(PyValueError::new_err(format!("a descriptor cannot be negative ({number})")));
    }
    Ok(number)
}
