//! Frames through iceoryx2: loaned samples, filled and read in place.

use std::path::Path;
use std::rc::Rc;
use std::thread;

use anyhow::Result;
use iceoryx2::node::Node;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;
use parlour_bench::{FramePublisher, FrameWay, sum};

use crate::iceoryx2::{node, poll, remove_files};
use crate::versions::locked;

/// One service of byte slices with one publisher. Subscribers poll.
pub(crate) struct Loaned;

type Frames = PortFactory<ipc::Service, [u8], ()>;

/// The number of frames that may wait for a subscriber, as the share of a reader of parlour's pool.
const DEPTH: usize = 2;

/// The length of the sample that is a mark. Frames are longer.
const MARK_LEN: usize = 1;

impl FrameWay for Loaned {
    fn name(&self) -> &str {
        "iceoryx2-loaned"
    }

    fn version(&self) -> String {
        locked("iceoryx2")
    }

    fn advice(&self) -> &str {
        "ipc::Service, a service of [u8], loan_slice_uninit, no history, busy polling (benchmarks/publish-subscribe), \
         no overflow but RetryUntilDelivered with a buffer of two samples (docs of BackpressureStrategy); never \
         sleeps, gives way after 10 vain polls"
    }

    fn publisher(&self, place: &Path, size: usize, readers: usize) -> Result<Box<dyn FramePublisher>> {
        let (node, service) = open(place, readers)?;
        let publisher = service
            .publisher_builder()
            .initial_max_slice_len(size)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        Ok(Box::new(LoanedPublisher { publisher, size, _service: service, _node: node }))
    }

    fn read(&self, place: &Path, _size: usize, readers: usize, tell: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let (_node, service) = open(place, readers)?;
        let subscriber = service.subscriber_builder().create()?;
        tell()?;
        // The publisher ends its readers: a subscriber does not learn that a publisher has gone.
        loop {
            let sample = poll(&subscriber)?;
            match sample.payload().len() {
                MARK_LEN => tell()?,
                _ => sum(sample.payload()),
            }
        }
    }

    fn clean_up(&self, place: &Path) {
        remove_files(place);
    }
}

fn open(place: &Path, readers: usize) -> Result<(Rc<Node<ipc::Service>>, Frames)> {
    let node = node(place)?;
    let service = node
        .service_builder(&"frames".try_into()?)
        .publish_subscribe::<[u8]>()
        .max_publishers(1)
        .max_subscribers(readers)
        // The default is 20, and the publisher has a node, too.
        .max_nodes(readers + 1)
        .history_size(0)
        .subscriber_max_buffer_size(DEPTH)
        .enable_safe_overflow(false)
        .open_or_create()?;
    Ok((node, service))
}

struct LoanedPublisher {
    publisher: Publisher<ipc::Service, [u8], ()>,
    size: usize,
    _service: Frames,
    _node: Rc<Node<ipc::Service>>,
}

impl LoanedPublisher {
    fn send(&self, length: usize, byte: u8) -> Result<()> {
        // A send reaches nobody if the subscribers are not yet connected.
        while self.publisher.loan_slice_uninit(length)?.write_from_fn(|_| byte).send()? == 0 {
            thread::yield_now();
        }
        Ok(())
    }
}

impl FramePublisher for LoanedPublisher {
    fn meet(&mut self) -> Result<()> {
        Ok(())
    }

    fn publish(&mut self, byte: u8) -> Result<()> {
        self.send(self.size, byte)
    }

    fn mark(&mut self) -> Result<()> {
        self.send(MARK_LEN, 0)
    }
}
