//! The contender for ipc-channel: its channels of bytes.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use ipc_channel::ipc::{
    IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender, bytes_channel, channel,
};
use parlour_bench::{Client, Contender, DONE, Ready, Work};

use crate::versions::locked;

/// Channels of bytes. The library only has a listener for a single client. The client's process therefore connects to
/// it once, and sends the ends of a pair of channels over it for each of its connections.
pub(crate) struct IpcChannel;

/// The ends that a client passes to the server: one for receiving and one for sending.
type Ends = (IpcBytesReceiver, IpcBytesSender);

impl Contender for IpcChannel {
    fn name(&self) -> &str {
        "ipc-channel"
    }

    fn version(&self) -> String {
        locked("ipc-channel")
    }

    fn advice(&self) -> &str {
        "ipc::bytes_channel, which does not serialize (docs of bytes_channel), both ways, handed over through an \
         IpcOneShotServer (docs of the crate)"
    }

    fn supports(&self, work: Work) -> bool {
        // An IpcReceiverSet could serve a crowd, but its ends have no name by which a thousand clients could connect.
        !matches!(work, Work::Crowd { .. } | Work::Calls { .. })
    }

    fn serve(&self, place: &Path, work: Work, ready: Ready) -> Result<()> {
        let (server, name) = IpcOneShotServer::<IpcReceiver<Ends>>::new()?;
        fs::write(place.join("name"), name)?;
        ready.tell();
        let (_, clients) = server.accept()?;
        // A client that disconnects at any point is not an error of the server.
        while let Ok((receiver, sender)) = clients.recv() {
            let _ = converse(&receiver, &sender, work);
        }
        Ok(())
    }

    fn connect(&self, place: &Path, _work: Work) -> Result<Box<dyn Client>> {
        let (sender, receiver_there) = bytes_channel()?;
        let (sender_there, receiver) = bytes_channel()?;
        SERVER.with_borrow_mut(|server| {
            if server.is_none() {
                let (sender, receiver) = channel()?;
                let name = fs::read_to_string(place.join("name"))?;
                IpcSender::connect(name)?.send(receiver)?;
                *server = Some(sender);
            }
            let server = server.as_ref().context("the channel to the server is missing")?;
            Ok::<_, anyhow::Error>(server.send((receiver_there, sender_there))?)
        })?;
        Ok(Box::new(IpcChannelClient { sender, receiver }))
    }
}

fn converse(receiver: &IpcBytesReceiver, sender: &IpcBytesSender, work: Work) -> Result<()> {
    for received in 1.. {
        let message = receiver.recv()?;
        match work {
            Work::Stream { batch, .. } if received % batch == 0 => sender.send(DONE)?,
            Work::Stream { .. } => {}
            _ => sender.send(&message)?,
        }
    }
    Ok(())
}

thread_local! {
    /// The channel over which this process sends ends to the server.
    static SERVER: RefCell<Option<IpcSender<Ends>>> = const { RefCell::new(None) };
}

struct IpcChannelClient {
    sender: IpcBytesSender,
    receiver: IpcBytesReceiver,
}

impl Client for IpcChannelClient {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.sender.send(message)?)
    }

    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()> {
        *reply = self.receiver.recv()?;
        Ok(())
    }
}
