//! The options of servers and clients, which Python passes by keyword.

use std::time::Duration;

use parlour::calls::{CallServer, CallerOptions};
use parlour::hub::{HubOptions, SlowClientPolicy};
use parlour::{ClientFilePolicy, ConnectOptions, ErrorKind, ServerOptions, Transport};
use pyo3::exceptions::{PyKeyboardInterrupt, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::error::exception;
use crate::log;
use crate::peer::Peer;
use crate::wait::{Deadline, duration};

type Keywords<'a, 'py> = Option<&'a Bound<'py, PyDict>>;

/// Reads the keywords of a function. `set` gets each that is not `None`, and returns the options or `None` for a name
/// that it does not know.
fn read<'py, T>(
    function: &str,
    keywords: Keywords<'_, 'py>,
    mut options: T,
    set: impl Fn(T, &str, &Bound<'py, PyAny>) -> PyResult<Option<T>>,
) -> PyResult<T> {
    for (key, value) in keywords.into_iter().flatten() {
        let key = key.cast_into::<PyString>()?;
        let name = key.to_str()?;
        // `None` stands for the default.
        if value.is_none() {
            continue;
        }
        options = set(options, name, &value)?
            .ok_or_else(|| PyTypeError::new_err(format!("{function}() got an unexpected keyword argument '{name}'")))?;
    }
    Ok(options)
}

/// Returns the options of a client.
pub(crate) fn connect_options(function: &str, keywords: Keywords<'_, '_>) -> PyResult<ConnectOptions> {
    read(function, keywords, ConnectOptions::new(), |options, name, value| {
        Ok(Some(match name {
            "timeout" => options.timeout(time(name, value)?),
            "wait" => options.wait_for_server(time(name, value)?),
            "server_uid" => options.server_uid(value.extract()?),
            "client_file" => options.client_file(value.extract()?),
            "origin" => options.origin(parlour::Origin::new(value.extract::<String>()?)),
            "message_max" => options.message_max(value.extract()?),
            "fds_max" => options.fds_max(value.extract()?),
            "ring_size" => options.ring_size(value.extract()?),
            "peer_ring_max" => options.peer_ring_max(value.extract()?),
            "spin_limit" => options.spin_limit(value.extract()?),
            _ => return Ok(None),
        }))
    })
}

/// Returns the options of a client that looks at the servers of a user, or of this one.
pub(crate) fn client_of(server_uid: Option<u32>) -> ConnectOptions {
    let options = ConnectOptions::new();
    match server_uid {
        Some(uid) => options.server_uid(uid),
        None => options,
    }
}

/// The options of a caller that are not those of its connection.
pub(crate) const CALLER_OPTIONS: [&str; 2] = ["stream_buffer_max", "push_buffer_max"];

/// Returns the options of a caller.
pub(crate) fn caller_options(function: &str, keywords: Keywords<'_, '_>) -> PyResult<CallerOptions> {
    read(function, keywords, CallerOptions::new(), |options, name, value| {
        Ok(Some(match name {
            "stream_buffer_max" => options.stream_buffer_max(value.extract()?),
            "push_buffer_max" => options.push_buffer_max(value.extract()?),
            _ => return Ok(None),
        }))
    })
}

/// Returns the options of a server.
pub(crate) fn server_options(function: &str, keywords: Keywords<'_, '_>) -> PyResult<ServerOptions> {
    read(function, keywords, ServerOptions::new(), set_server_option)
}

fn set_server_option(options: ServerOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<ServerOptions>> {
    Ok(Some(match name {
        "transports" => options.transports(transports(value)?),
        "mode" => options.mode(value.extract()?),
        "group" => options.group(value.extract()?),
        "allow" => allow(options, value)?,
        "message_max" => options.message_max(value.extract()?),
        "fds_max" => options.fds_max(value.extract()?),
        "connections_max" => options.connections_max(value.extract()?),
        "connections_per_uid_max" => options.connections_per_uid_max(value.extract()?),
        "memory_max" => options.memory_max(value.extract()?),
        "memory_per_uid_max" => options.memory_per_uid_max(value.extract()?),
        "half_open_max" => options.half_open_max(value.extract()?),
        "backlog" => options.backlog(value.extract()?),
        "handshake_timeout" => options.handshake_timeout(time(name, value)?),
        "client_file" => options.client_file(client_file(value)?),
        "ring_size" => options.ring_size(value.extract()?),
        "peer_ring_max" => options.peer_ring_max(value.extract()?),
        "spin_limit" => options.spin_limit(value.extract()?),
        // See `bind`.
        "take_over" => time(name, value).map(|_| options)?,
        "hand_over" => options.hand_over(value.extract()?),
        "hand_over_grace" => options.hand_over_grace(time(name, value)?),
        "yields" => options.yields(value.extract()?),
        "stats" => options.stats(value.extract()?),
        "tap" => options.tap(value.extract()?),
        _ => return Ok(None),
    }))
}

/// The longest time for which one attempt to take a name over waits, before signal handlers run. The other server
/// answers an attempt in milliseconds, once it answers.
const TAKE_OVER_SLICE: Duration = Duration::from_secs(2);

/// Takes a name with `bind`, which gets the time of an attempt to take it over. Signal handlers run between attempts.
pub(crate) fn bind<T: Send>(
    py: Python<'_>,
    keywords: Keywords<'_, '_>,
    bind: impl Fn(Option<Duration>) -> parlour::Result<T> + Send + Sync,
) -> PyResult<T> {
    let take_over = match keywords.map(|keywords| keywords.get_item("take_over")).transpose()?.flatten() {
        Some(value) if !value.is_none() => Some(Deadline::after(Some(value.extract()?))?),
        _ => None,
    };
    loop {
        let slice = take_over.map(|deadline| deadline.left_within(TAKE_OVER_SLICE));
        match py.detach(|| bind(slice)) {
            Err(error) if error.kind() == ErrorKind::Busy && take_over.is_some_and(|at| !at.is_over()) => {
                py.check_signals()?;
            }
            bound => return bound.map_err(|error| exception(py, &error)),
        }
    }
}

/// The options of a server of calls, beside those of a server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallServerOptions {
    calls_max: Option<usize>,
    request_bytes_max: Option<usize>,
}

impl CallServerOptions {
    pub(crate) fn apply(self, mut server: CallServer) -> parlour::Result<CallServer> {
        if let Some(count) = self.calls_max {
            server = server.calls_max(count);
        }
        if let Some(bytes) = self.request_bytes_max {
            server = server.request_bytes_max(bytes);
        }
        Ok(server)
    }
}

/// Returns the options of a server of calls: its own, and those of a server.
pub(crate) fn call_server_options(
    function: &str,
    keywords: Keywords<'_, '_>,
) -> PyResult<(CallServerOptions, ServerOptions)> {
    let none = (CallServerOptions::default(), ServerOptions::new());
    read(function, keywords, none, |(mut options, server), name, value| {
        match name {
            "calls_max" => options.calls_max = Some(value.extract()?),
            "request_bytes_max" => options.request_bytes_max = Some(value.extract()?),
            _ => return Ok(set_server_option(server, name, value)?.map(|server| (options, server))),
        }
        Ok(Some((options, server)))
    })
}

/// Returns the options of a hub: its own, and those of a server.
pub(crate) fn hub_options(function: &str, keywords: Keywords<'_, '_>) -> PyResult<(HubOptions, ServerOptions)> {
    let none = (HubOptions::new(), ServerOptions::new());
    read(function, keywords, none, |(options, server), name, value| {
        let options = match name {
            "write_buffer_max" => options.write_buffer_max(value.extract()?),
            "blocks_max" => options.blocks_max(value.extract()?),
            "kept_values_max" => options.kept_values_max(value.extract()?),
            "kept_bytes_max" => options.kept_bytes_max(value.extract()?),
            "subscriptions_max" => options.subscriptions_max(value.extract()?),
            "slow_client" => slow_client(options, value)?,
            _ => return Ok(set_server_option(server, name, value)?.map(|server| (options, server))),
        };
        Ok(Some((options, server)))
    })
}

/// Sets the policy for clients that do not read. A policy that waits would hold up the other threads.
fn slow_client(options: HubOptions, value: &Bound<'_, PyAny>) -> PyResult<HubOptions> {
    match &*value.extract::<String>()? {
        "disconnect" => Ok(options.slow_client_policy(SlowClientPolicy::Disconnect)),
        "refuse" => Ok(options.slow_client_policy(SlowClientPolicy::Refuse)),
        other => Err(PyValueError::new_err(format!("slow_client is 'disconnect' or 'refuse', not '{other}'"))),
    }
}

fn time(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    Ok(duration(name, Some(value.extract()?))?.unwrap_or(Duration::MAX))
}

/// Returns the transport of this name.
pub(crate) fn transport(name: &str) -> PyResult<Transport> {
    name.parse().map_err(|error: parlour::ParseTransportError| PyValueError::new_err(error.to_string()))
}

fn transports(value: &Bound<'_, PyAny>) -> PyResult<Vec<Transport>> {
    if let Ok(one) = value.cast::<PyString>() {
        return Ok(vec![transport(one.to_str()?)?]);
    }
    value.try_iter()?.map(|name| transport(&name?.extract::<String>()?)).collect()
}

fn client_file(value: &Bound<'_, PyAny>) -> PyResult<ClientFilePolicy> {
    match &*value.extract::<String>()? {
        "check" => Ok(ClientFilePolicy::Check),
        "require" => Ok(ClientFilePolicy::Require),
        "ignore" => Ok(ClientFilePolicy::Ignore),
        other => Err(PyValueError::new_err(format!("client_file is 'check', 'require' or 'ignore', not '{other}'"))),
    }
}

/// Sets a policy that is a function in Python. A client is refused if the function raises. An interrupt from the
/// keyboard interrupts the main thread again, once it is back in Python.
fn allow(options: ServerOptions, policy: &Bound<'_, PyAny>) -> PyResult<ServerOptions> {
    if !policy.is_callable() {
        return Err(PyTypeError::new_err("allow is a function that takes a Peer"));
    }
    let policy = policy.clone().unbind();
    Ok(options.allow(move |peer| {
        Python::try_attach(|py| {
            let decision = policy.bind(py).call1((Peer::new(peer),)).and_then(|decision| decision.is_truthy());
            decision.unwrap_or_else(|error| {
                let is_interrupt = error.is_instance_of::<PyKeyboardInterrupt>(py);
                if !is_interrupt || interrupt_main(py).is_err() {
                    // The exception of a handler of `logging` goes where that of a destructor goes.
                    if let Err(other) = log::error(py, "the function `allow` has failed; the client is refused", &error)
                    {
                        other.write_unraisable(py, Some(policy.bind(py)));
                    }
                }
                false
            })
        })
        .unwrap_or(false)
    }))
}

fn interrupt_main(py: Python<'_>) -> PyResult<()> {
    py.import("_thread")?.call_method0("interrupt_main").map(drop)
}
