//! Contenders for iceoryx2: publish-subscribe through shared memory, with polling or with its listener.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use iceoryx2::config::Config;
use iceoryx2::node::Node;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::sample::Sample;
use iceoryx2_bb_system_types::file_name::FileName;
use iceoryx2_bb_system_types::path::Path as RootPath;
use parlour_bench::{Client, Contender, DONE, Ready, Work};

use crate::versions::locked;

/// Two services of byte slices, one for each direction. Messages are copied in and out, as with every other contender.
/// iceoryx2 needs no copies if messages are built and used in its memory.
pub(crate) struct Iceoryx2 {
    /// True if an end without messages sleeps on its listener instead of polling.
    pub(crate) sleeps: bool,
}

impl Contender for Iceoryx2 {
    fn name(&self) -> &str {
        if self.sleeps { "iceoryx2-event" } else { "iceoryx2-polling" }
    }

    fn version(&self) -> String {
        locked("iceoryx2")
    }

    fn advice(&self) -> &str {
        if self.sleeps {
            "as polling, with an event for each message and a listener that blocks \
            (examples/rust/event_based_communication)"
        } else {
            "ipc::Service, two services of [u8], loan_slice_uninit, no history, one publisher and subscriber each, \
             busy polling (benchmarks/publish-subscribe), no overflow but RetryUntilDelivered with a deep buffer \
             one way (docs of BackpressureStrategy); never sleeps, gives way after 10 vain polls"
        }
    }

    fn supports(&self, work: Work) -> bool {
        // A server cannot distinguish its clients: every subscriber receives all messages.
        !matches!(work, Work::Crowd { .. } | Work::Calls { .. })
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let end = End::new(place, work, Side::Server, self.sleeps)?;
        ready.tell();
        let mut message = Vec::new();
        let mut received = 0;
        loop {
            end.receive(&mut message)?;
            received += 1;
            match work {
                Work::Stream { batch, .. } if received % batch == 0 => end.send(DONE)?,
                Work::Stream { .. } => {}
                _ => end.send(&message)?,
            }
        }
    }

    fn connect(&self, place: &Path, work: Work) -> Result<Box<dyn Client>> {
        Ok(Box::new(End::new(place, work, Side::Client, self.sleeps)?))
    }

    fn clean_up(&self, place: &Path) {
        remove_files(place);
    }
}

/// Removes the shared memory that killed processes left. Its files are outside of the root path.
pub(crate) fn remove_files(place: &Path) {
    let Ok(entries) = fs::read_dir("/dev/shm") else { return };
    let prefix = prefix(place);
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            // A file that cannot be removed is left behind.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns the prefix of the names of the shared memory.
fn prefix(place: &Path) -> String {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    format!("iox2_{}_", name.trim_start_matches('.'))
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Server,
    Client,
}

thread_local! {
    /// The node of this process. The documentation advises one node for each process.
    static NODE: RefCell<Option<Rc<Node<ipc::Service>>>> = const { RefCell::new(None) };
}

pub(crate) fn node(place: &Path) -> Result<Rc<Node<ipc::Service>>> {
    NODE.with_borrow_mut(|node| {
        if let Some(node) = node {
            return Ok(Rc::clone(node));
        }
        set_log_level(LogLevel::Error);
        let mut config = Config::default();
        let root = place.to_str().context("a path that is not UTF-8")?;
        config.global.set_root_path(&RootPath::new(root.as_bytes()).map_err(|error| anyhow!("{error:?}"))?);
        config.global.prefix = FileName::new(prefix(place).as_bytes()).map_err(|error| anyhow!("{error:?}"))?;
        // The benchmark handles signals itself.
        let made = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()?;
        Ok(Rc::clone(node.insert(Rc::new(made))))
    })
}

/// The ports of one side: one for each direction.
struct End {
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    bell: Option<Bell>,
}

struct Bell {
    notifier: Notifier<ipc::Service>,
    listener: Listener<ipc::Service>,
}

/// The number of unsuccessful polls, some microsecond in all, before the processor is yielded. Without the yield the
/// peer would make no progress on a shared processor.
const POLLS: usize = 10;

impl End {
    fn new(place: &Path, work: Work, side: Side, sleeps: bool) -> Result<Self> {
        let node = node(place)?;
        let (own, other) = match side {
            Side::Server => ("back", "there"),
            Side::Client => ("there", "back"),
        };
        let service = |name: &str| {
            node.service_builder(&name.try_into()?)
                .publish_subscribe::<[u8]>()
                // The ports of a leaving and of an arriving client may exist at the same time.
                .max_publishers(2)
                .max_subscribers(2)
                .history_size(0)
                .subscriber_max_buffer_size(depth(work))
                .enable_safe_overflow(false)
                .open_or_create()
                .map_err(anyhow::Error::from)
        };
        let publisher = service(own)?
            .publisher_builder()
            .initial_max_slice_len(work.size().max(64))
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let subscriber = service(other)?.subscriber_builder().create()?;
        let bell = if sleeps {
            let event = |name: &str| {
                node.service_builder(&name.try_into()?).event().open_or_create().map_err(anyhow::Error::from)
            };
            Some(Bell {
                notifier: event(own)?.notifier_builder().create()?,
                listener: event(other)?.listener_builder().create()?,
            })
        } else {
            None
        };
        Ok(Self { publisher, subscriber, bell })
    }

    fn send(&self, message: &[u8]) -> Result<()> {
        // A receiver that has not yet noticed a new connection only gets the messages that fit into its buffer.
        while self.publisher.loan_slice_uninit(message.len())?.write_from_slice(message).send()? == 0 {
            thread::yield_now();
        }
        if let Some(bell) = &self.bell {
            bell.notifier.notify()?;
        }
        Ok(())
    }

    fn receive(&self, message: &mut Vec<u8>) -> Result<()> {
        let sample = match &self.bell {
            None => poll(&self.subscriber)?,
            Some(bell) => loop {
                if let Some(sample) = self.subscriber.receive()? {
                    break sample;
                }
                bell.listener.blocking_wait(|_| {})?;
            },
        };
        message.clear();
        message.extend_from_slice(sample.payload());
        Ok(())
    }
}

/// Polls until a sample arrives.
pub(crate) fn poll(subscriber: &Subscriber<ipc::Service, [u8], ()>) -> Result<Sample<ipc::Service, [u8], ()>> {
    let mut vain = 0;
    loop {
        if let Some(sample) = subscriber.receive()? {
            return Ok(sample);
        }
        vain += 1;
        if vain % POLLS == 0 {
            thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Returns the number of messages that may be in transit: many for one-way messages, in at most about 16 MiB.
fn depth(work: Work) -> usize {
    match work {
        Work::Stream { size, .. } => ((16 << 20) / size).clamp(2, 4096),
        _ => 1,
    }
}

impl Client for End {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        End::send(self, message)
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        End::receive(self, reply)
    }
}
