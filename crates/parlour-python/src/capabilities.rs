//! `Capabilities`: what a connection can do.

use pyo3::prelude::*;

/// The capabilities of a connection.
#[pyclass(frozen, module = "parlour", eq)]
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Capabilities(parlour::Capabilities);

impl Capabilities {
    pub(crate) fn new(capabilities: parlour::Capabilities) -> Self {
        Self(capabilities)
    }
}

#[pymethods]
impl Capabilities {
    /// True if the kernel preserves message boundaries. Otherwise the library does.
    #[getter]
    fn boundaries(&self) -> bool {
        self.0.boundaries
    }

    /// True if the kernel reports the credentials of the peer. Otherwise its uid is that of the owner of the FIFOs.
    #[getter]
    fn credentials(&self) -> bool {
        self.0.credentials
    }

    /// True if open descriptors can be sent with messages, if the peer allows some (`fds_max`).
    #[getter]
    fn descriptors(&self) -> bool {
        self.0.descriptors
    }

    /// The length of the longest message in bytes that this side sends or accepts. The peer may have a lower limit.
    #[getter]
    fn message_max(&self) -> usize {
        self.0.message_max
    }

    /// True if large data can be shared without copying (SharedBytes), if the peer allows descriptors (`fds_max`).
    #[getter]
    fn zero_copy(&self) -> bool {
        self.0.zero_copy
    }

    fn __repr__(&self) -> String {
        let Self(all) = self;
        let names = [
            ("boundaries", all.boundaries),
            ("credentials", all.credentials),
            ("descriptors", all.descriptors),
            ("zero_copy", all.zero_copy),
        ];
        let held: Vec<_> = names.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
        format!("<parlour.Capabilities {}, message_max {}>", held.join(", "), all.message_max)
    }
}
