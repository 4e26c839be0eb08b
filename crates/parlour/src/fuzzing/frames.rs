//! Frames with a hostile publisher and with a hostile reader, as fuzz targets.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};

use crate::frames::{FrameLimits, FrameReader};
use crate::message::Message;
use crate::shm::ledger::{Counts, Ledger, OwnerWords};
use crate::wire::frames::{Announced, Attach, FrameMessage, encode_lease};

/// The length of the memory that the publisher announces: two blocks of a page, and a page in front of them.
const POOL_LEN: usize = 3 * 4096;

/// A reader against any publisher. Each step is a byte and its operand: answer the attach with an announcement, or
/// send a message. The byte has the step in its lowest bit, the kind of memory in the next two, and the length of the
/// operand in the others. Only the first answer counts.
pub fn frames_publisher(data: &[u8]) {
    let mut fds = Vec::new();
    let limits = FrameLimits::new().bytes_max(1 << 20).frame_max(8192);
    let attached = FrameReader::attach(&limits, |payload| {
        assert!(Attach::parse(&payload.to_vec()).is_ok());
        payload.with(|_, attached| fds = attached.iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect());
        Ok(())
    });
    let mut reader = attached.unwrap();
    let bootstrap = fds.pop().unwrap();
    let (_lease, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let mut kept = Vec::new();
    let mut rest = data;
    while let Some((&head, behind)) = rest.split_first() {
        let (operand, behind) = behind.split_at(behind.len().min(usize::from(head >> 3)));
        rest = behind;
        if head & 1 == 0 {
            if let Ok(announced) = Announced::parse(operand) {
                assert_eq!(announced.encode(), operand, "an announcement has one spelling");
            }
            let memory = memory(head >> 1 & 3);
            let mut fds = vec![theirs.as_fd()];
            fds.extend(memory.as_ref().map(|memory| memory.as_fd()));
            send_with(&bootstrap, &[&encode_lease(None), operand].concat(), &fds);
            continue;
        }
        let parsed = FrameMessage::parse(operand);
        let Ok(frame) = reader.open(Message { bytes: operand.to_vec(), fds: Vec::new() }) else { continue };
        match parsed.unwrap() {
            FrameMessage::Lent(lent) => {
                assert!(frame.is_lent() && frame.len() as u64 == lent.length && frame.note() == &operand[24..]);
                // The generation is 0, and nobody changes the memory.
                assert_eq!(frame.to_vec().ok(), (lent.generation == 0).then(|| vec![0; frame.len()]));
            }
            FrameMessage::ByValue { note_len } => {
                assert!(!frame.is_lent() && frame.note().len() == note_len);
                assert_eq!([frame.note(), &frame.to_vec().unwrap()].concat(), operand[8..]);
            }
        }
        kept.push(frame);
        if kept.len() > 3 {
            kept.remove(0);
        }
    }
}

/// Creates memory of this kind: good, not sealed, of another length, or none.
fn memory(kind: u8) -> Option<OwnedFd> {
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
    let (length, seals) = match kind {
        0 => (POOL_LEN, seals),
        1 => (POOL_LEN, SealFlags::SHRINK),
        2 => (POOL_LEN + 1, seals),
        _ => return None,
    };
    let memfd = memfd_create("fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::io::write(&memfd, &vec![0; length]).unwrap();
    fcntl_add_seals(&memfd, seals).unwrap();
    Some(memfd)
}

/// Sends a datagram. The reader may have closed its end.
fn send_with(socket: &OwnedFd, datagram: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    let _ = sendmsg(socket, &[IoSlice::new(datagram)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

const BLOCKS: usize = 4;
const SHARE: usize = 2;

#[derive(Default)]
struct Words;

impl OwnerWords for Words {
    fn asked(&self) -> u32 {
        0
    }

    fn ask(&self) {}

    fn set_generation(&self, _: usize, _: u32) {}
}

/// Counts that change only between two steps.
#[derive(Clone, Default)]
struct Memory(std::rc::Rc<[std::cell::Cell<u32>; BLOCKS]>);

impl Counts for Memory {
    fn count(&self, block: usize) -> u32 {
        self.0[block].get()
    }

    fn increment(&self, block: usize) {
        self.0[block].set(self.0[block].get().wrapping_add(1));
    }
}

/// The account of a publisher with an honest reader and one that writes any counts. Each step is three bytes.
pub fn frames_reader(data: &[u8]) {
    let (honest, hostile) = (Memory::default(), Memory::default());
    let mut ledger = Ledger::new(BLOCKS);
    let slots = [ledger.add(honest.clone(), SHARE), ledger.add(hostile.clone(), SHARE)];
    // The handles of the honest reader.
    let mut handles = [0_u32; BLOCKS];
    for step in data.chunks_exact(3) {
        let (what, block, value) = (step[0] % 5, usize::from(step[1]) % BLOCKS, step[2]);
        match what {
            0 => {
                if let Some((taken, _)) = ledger.take(&Words) {
                    assert_eq!(handles[taken], 0, "the honest reader has this block");
                }
            }
            1 | 2 => {
                let slot = slots[usize::from(what - 1)];
                if ledger.may_send(slot, block) {
                    let sent = ledger.send(slot, block);
                    match value & 1 == 1 {
                        true => ledger.undo(sent),
                        false => handles[block] += u32::from(what == 1),
                    }
                }
            }
            3 if handles[block] > 0 => {
                handles[block] -= 1;
                honest.increment(block);
            }
            3 => {}
            _ => hostile.0[block].set(u32::from(value).wrapping_sub(4)),
        }
        let held = handles.iter().filter(|&&count| count > 0).count();
        assert_eq!(ledger.held(slots[0]), held);
        assert!(ledger.held(slots[1]) <= SHARE);
        assert!(held <= SHARE);
    }
}
