//! The states of a hand-over, without I/O: what each side does with what it hears from the other one.
//!
//! The name has one owner at every moment. The holder owns it until `grant` arrives at the candidate, and from then on
//! the candidate owns it. The holder cannot know whether `grant` has arrived. Therefore it does nothing after it has
//! sent it, until `ack` arrives, or until the socket ends without it: the candidate has closed the socket, or is dead,
//! and all of its descriptors are closed.

use crate::wire::control::{BadFrame, Frame, Refusal, Transports, Wanted};
use crate::wire::request::Rest;

/// An event on the socket between the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A frame. The flag is true if the candidate has proved with it that it may have the name: it may write to the
    /// files of the name, and the holder yields if the candidate demands that.
    Frame(Frame, bool),
    Bad(BadFrame),
    /// The other side has closed the socket, or is dead.
    End,
}

/// The holder's view of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HolderState {
    /// The candidate has connected.
    Connected,
    /// The candidate is welcome, and prepares itself.
    Welcomed(Wanted),
    /// `grant` was sent.
    Lent,
}

/// The holder's next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HolderStep {
    /// Waits for more.
    Wait,
    /// Sends `welcome`.
    Welcome,
    /// Sends the refusal, and closes the socket.
    Refuse(Refusal),
    /// Sends the counters to a process that is no candidate, and closes the socket.
    ShowCounters,
    /// Sends the files of a tap to a process that is no candidate, and closes the socket.
    ShowTap,
    /// Sends `grant` with the listeners that the candidate wants.
    Grant(Wanted),
    /// Closes the socket. The holder has offered nothing.
    Dismiss,
    /// Leaves the name to the candidate.
    Leave,
    /// Closes the socket, and owns the name again.
    Resume,
}

impl HolderState {
    pub(crate) fn hear(&mut self, heard: &Heard) -> HolderStep {
        match (*self, heard) {
            (Self::Connected, Heard::Frame(Frame::Hello(wanted), true)) => {
                *self = Self::Welcomed(*wanted);
                HolderStep::Welcome
            }
            (Self::Connected, Heard::Frame(Frame::AskCounters, _)) => HolderStep::ShowCounters,
            (Self::Connected, Heard::Frame(Frame::AskTap, _)) => HolderStep::ShowTap,
            (Self::Connected, Heard::Bad(BadFrame::Version)) => HolderStep::Refuse(Refusal::Version),
            (Self::Connected, Heard::Frame(..) | Heard::Bad(BadFrame::Malformed)) => {
                HolderStep::Refuse(Refusal::Denied)
            }
            (Self::Welcomed(wanted), Heard::Frame(Frame::Ready, _)) => {
                *self = Self::Lent;
                HolderStep::Grant(wanted)
            }
            (Self::Connected | Self::Welcomed(_), _) => HolderStep::Dismiss,
            (Self::Lent, Heard::Frame(Frame::Ack, _)) => HolderStep::Leave,
            (Self::Lent, Heard::End) => HolderStep::Resume,
            // Nothing but its end proves that the candidate does not own the name.
            (Self::Lent, Heard::Frame(..) | Heard::Bad(_)) => HolderStep::Wait,
        }
    }

    /// Returns true if the candidate may be dismissed because it is late. From `grant` on it may own the name.
    pub(crate) fn can_be_late(self) -> bool {
        self != Self::Lent
    }
}

/// The candidate's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CandidateState {
    /// `hello` was sent.
    Asked,
    /// `ready` was sent.
    Ready,
}

/// The candidate's next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CandidateStep {
    /// Sends `ready`.
    GetReady,
    /// Owns the name, and sends `ack`.
    Take(Transports, Rest),
    /// The holder keeps the name.
    Refused(Refusal),
    /// Closes the socket, and binds the name like any other server.
    Bind,
}

impl CandidateState {
    pub(crate) fn hear(&mut self, heard: &Heard) -> CandidateStep {
        match (*self, heard) {
            (Self::Asked, Heard::Frame(Frame::Welcome, _)) => {
                *self = Self::Ready;
                CandidateStep::GetReady
            }
            (Self::Ready, Heard::Frame(Frame::Grant { listeners, rest }, _)) => {
                CandidateStep::Take(*listeners, rest.clone())
            }
            (_, Heard::Frame(Frame::Refused(reason), _)) => CandidateStep::Refused(*reason),
            (_, Heard::Bad(BadFrame::Version)) => CandidateStep::Refused(Refusal::Version),
            (_, Heard::Frame(..) | Heard::Bad(BadFrame::Malformed) | Heard::End) => CandidateStep::Bind,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashSet, VecDeque};

    use super::*;
    use proptest::prelude::*;

    const WANTED: Wanted = Wanted { transports: Transports::of_none(), mode: 0o600, group: 0, if_yielded: false };

    /// Both sides and the two directions between them. A side that is dead, or that has closed the socket, is `None`.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    struct World {
        holder: Option<HolderState>,
        /// The holder's process lives.
        holder_lives: bool,
        candidate: Option<CandidateState>,
        candidate_lives: bool,
        to_holder: VecDeque<Vec<u8>>,
        to_candidate: VecDeque<Vec<u8>>,
        /// The relation of the holder and of the candidate to the name.
        holder_owns: bool,
        candidate_owns: bool,
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        HolderSteps,
        CandidateSteps,
        HolderIsKilled,
        CandidateIsKilled,
        CandidateGivesUp,
    }

    const EVENTS: [Event; 5] = [
        Event::HolderSteps,
        Event::CandidateSteps,
        Event::HolderIsKilled,
        Event::CandidateIsKilled,
        Event::CandidateGivesUp,
    ];

    impl World {
        fn new() -> Self {
            Self {
                holder: Some(HolderState::Connected),
                holder_lives: true,
                candidate: Some(CandidateState::Asked),
                candidate_lives: true,
                to_holder: VecDeque::from([Frame::Hello(WANTED).encode()]),
                to_candidate: VecDeque::new(),
                holder_owns: true,
                candidate_owns: false,
            }
        }

        /// Makes the event happen, or returns `None` if it cannot.
        fn after(&self, event: Event) -> Option<Self> {
            let mut next = self.clone();
            match event {
                Event::HolderSteps => next.holder_steps()?,
                Event::CandidateSteps => next.candidate_steps()?,
                Event::HolderIsKilled => {
                    (self.holder_lives).then_some(())?;
                    (next.holder, next.holder_lives, next.holder_owns) = (None, false, false);
                }
                Event::CandidateIsKilled => {
                    (self.candidate_lives).then_some(())?;
                    (next.candidate, next.candidate_lives, next.candidate_owns) = (None, false, false);
                }
                // At its deadline, or because it cannot go on. It closes the socket.
                Event::CandidateGivesUp => {
                    self.candidate?;
                    next.candidate = None;
                    next.to_candidate.clear();
                }
            }
            Some(next)
        }

        fn heard(queue: &mut VecDeque<Vec<u8>>, other_has_closed: bool) -> Option<Heard> {
            match queue.pop_front() {
                Some(datagram) => {
                    Some(Frame::parse(&datagram).map_or_else(Heard::Bad, |frame| Heard::Frame(frame, true)))
                }
                None => other_has_closed.then_some(Heard::End),
            }
        }

        fn holder_steps(&mut self) -> Option<()> {
            let mut state = self.holder?;
            let heard = Self::heard(&mut self.to_holder, self.candidate.is_none())?;
            let send = |world: &mut Self, frame: Frame| match world.candidate {
                Some(_) => {
                    world.to_candidate.push_back(frame.encode());
                    true
                }
                None => false,
            };
            let step = state.hear(&heard);
            self.holder = Some(state);
            match step {
                HolderStep::Wait => {}
                HolderStep::Welcome => drop(send(self, Frame::Welcome)),
                HolderStep::Refuse(reason) => {
                    send(self, Frame::Refused(reason));
                    self.holder = None;
                }
                HolderStep::Grant(_) => {
                    let grant = Frame::Grant { listeners: Transports::default(), rest: Rest::default() };
                    match send(self, grant) {
                        true => self.holder_owns = false,
                        false => self.holder = None,
                    }
                }
                HolderStep::ShowCounters | HolderStep::ShowTap | HolderStep::Dismiss => self.holder = None,
                HolderStep::Leave => self.holder = None,
                HolderStep::Resume => (self.holder, self.holder_owns) = (None, true),
            }
            Some(())
        }

        fn candidate_steps(&mut self) -> Option<()> {
            let mut state = self.candidate?;
            let heard = Self::heard(&mut self.to_candidate, self.holder.is_none())?;
            match state.hear(&heard) {
                CandidateStep::GetReady => {
                    self.candidate = Some(state);
                    if self.holder.is_some() {
                        self.to_holder.push_back(Frame::Ready.encode());
                    }
                }
                CandidateStep::Take(..) => {
                    if self.holder.is_some() {
                        self.to_holder.push_back(Frame::Ack.encode());
                    }
                    (self.candidate, self.candidate_owns) = (None, true);
                }
                CandidateStep::Refused(_) | CandidateStep::Bind => self.candidate = None,
            }
            Some(())
        }
    }

    /// Every order of the steps of both sides, with both killed at any step.
    #[test]
    fn in_every_order_of_events_the_name_has_at_most_one_owner_and_no_live_owner_loses_it() {
        let (mut seen, mut ahead, mut ends) = (HashSet::new(), vec![World::new()], 0);
        while let Some(world) = ahead.pop() {
            if !seen.insert(world.clone()) {
                continue;
            }
            assert!(!(world.holder_owns && world.candidate_owns), "two owners: {world:#?}");
            let steps =
                [Event::HolderSteps, Event::CandidateSteps].iter().filter_map(|event| world.after(*event)).count();
            if steps == 0 {
                ends += 1;
                if world.holder_lives && !world.holder_owns {
                    // The candidate said that it has the name, and may have been killed since then.
                    assert!(world.candidate_owns || !world.candidate_lives, "no owner: {world:#?}");
                }
            }
            ahead.extend(EVENTS.iter().filter_map(|event| world.after(*event)));
        }
        assert!(seen.len() > 30 && ends > 5, "{} states, {ends} ends", seen.len());
    }

    #[test]
    fn a_hand_over_takes_three_steps_of_the_holder_and_two_of_the_candidate() {
        let mut world = World::new();
        for event in
            [Event::HolderSteps, Event::CandidateSteps, Event::HolderSteps, Event::CandidateSteps, Event::HolderSteps]
        {
            world = world.after(event).unwrap();
        }
        assert!(world.candidate_owns && !world.holder_owns && world.holder.is_none());
    }

    #[test]
    fn a_hello_without_proof_or_of_another_version_is_refused() {
        let hello = Frame::Hello(WANTED);
        let hear = |heard: Heard| HolderState::Connected.hear(&heard);
        assert_eq!(hear(Heard::Frame(hello.clone(), false)), HolderStep::Refuse(Refusal::Denied));
        assert_eq!(hear(Heard::Bad(BadFrame::Version)), HolderStep::Refuse(Refusal::Version));
        assert_eq!(hear(Heard::Frame(Frame::Ready, true)), HolderStep::Refuse(Refusal::Denied));
        assert_eq!(hear(Heard::Frame(hello, true)), HolderStep::Welcome);
    }

    #[test]
    fn counters_and_taps_are_shown_to_a_process_that_asks_for_nothing_else() {
        for (asks, answer, step) in [
            (Frame::AskCounters, Frame::Counters, HolderStep::ShowCounters),
            (Frame::AskTap, Frame::Tap, HolderStep::ShowTap),
        ] {
            let hear = |mut state: HolderState| state.hear(&Heard::Frame(asks.clone(), false));
            assert_eq!(hear(HolderState::Connected), step);
            assert_eq!(hear(HolderState::Welcomed(WANTED)), HolderStep::Dismiss);
            assert_eq!(hear(HolderState::Lent), HolderStep::Wait);
            for mut state in [CandidateState::Asked, CandidateState::Ready] {
                assert_eq!(state.hear(&Heard::Frame(answer.clone(), false)), CandidateStep::Bind);
            }
        }
    }

    fn anything_heard() -> impl Strategy<Value = Heard> {
        let grant = Frame::Grant { listeners: Transports::default(), rest: Rest::default() };
        let refused = Frame::Refused(Refusal::Failed);
        let to_candidate = [Frame::Welcome, refused, grant, Frame::Counters, Frame::Tap];
        let to_holder = [Frame::Hello(WANTED), Frame::Ready, Frame::Ack, Frame::AskCounters, Frame::AskTap];
        let frame = (prop::sample::select([to_candidate, to_holder].concat()), any::<bool>());
        prop_oneof![
            8 => frame.prop_map(|(frame, proof)| Heard::Frame(frame, proof)),
            1 => Just(Heard::Bad(BadFrame::Version)),
            1 => Just(Heard::Bad(BadFrame::Malformed)),
            1 => Just(Heard::End),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_granted_before_a_proof_and_ready(heard in prop::collection::vec(anything_heard(), 0..10)) {
            let (mut state, mut proved, mut granted) = (HolderState::Connected, false, false);
            for heard in heard {
                let before = state;
                match state.hear(&heard) {
                    HolderStep::Wait => prop_assert_eq!(before, HolderState::Lent),
                    HolderStep::Welcome => {
                        prop_assert!(matches!(heard, Heard::Frame(Frame::Hello(_), true)));
                        proved = true;
                    }
                    HolderStep::Grant(_) => {
                        prop_assert!(proved && matches!(heard, Heard::Frame(Frame::Ready, _)) && !granted);
                        granted = true;
                    }
                    HolderStep::Leave => {
                        prop_assert!(granted && matches!(heard, Heard::Frame(Frame::Ack, _)));
                        break;
                    }
                    HolderStep::Resume => {
                        prop_assert!(granted && heard == Heard::End);
                        break;
                    }
                    HolderStep::ShowCounters
                    | HolderStep::ShowTap
                    | HolderStep::Refuse(_)
                    | HolderStep::Dismiss => {
                        prop_assert!(!granted);
                        break;
                    }
                }
                prop_assert_eq!(state.can_be_late(), !granted);
            }
        }
    }
}
