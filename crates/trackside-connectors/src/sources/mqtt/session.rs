//! Which messages are under way between the broker and our log: the part of a session that outlives a connection.
//!
//! Guarantee: a message is acknowledged after its delivery is durable and not before, in the order of arrival (MQTT
//! asks for it). A message that the broker sends again after a reconnect, while we still have it, is not taken twice:
//! its acknowledgement is only sent once more. What the process has forgotten is taken again: at least once.

use std::collections::{HashMap, VecDeque};

/// Number of a delivery, never used twice.
pub(super) type Number = u64;

/// What to do with a message that has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// New: take it.
    Take,
    /// We have it: say so again.
    Acknowledge,
    /// It is on its way to the log; it will be acknowledged then.
    Wait,
}

/// The messages under way.
#[derive(Debug, Default)]
pub(super) struct Session {
    held: HashMap<u16, Held>,
    deliveries: VecDeque<Delivery>,
    last: Number,
    /// Messages handed over and not known to be durable.
    unsettled: usize,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    delivery: Number,
    durable: bool,
}

#[derive(Debug)]
struct Delivery {
    number: Number,
    messages: usize,
    /// Packet number and QoS of those that are to be acknowledged.
    ids: Vec<(u16, u8)>,
    durable: bool,
}

impl Session {
    /// A connection begins. Without the broker's session, packet numbers mean nothing any more.
    pub(super) fn begin(&mut self, session_present: bool) {
        if !session_present {
            self.held.clear();
            self.deliveries.iter_mut().for_each(|delivery| delivery.ids.clear());
        }
    }

    /// The number that the next delivery will have.
    pub(super) fn upcoming(&self) -> Number {
        self.last + 1
    }

    /// A message with a packet number has come; taken ones belong to the upcoming delivery.
    pub(super) fn arrive(&mut self, id: u16, again: bool) -> Arrival {
        match self.held.get(&id) {
            Some(held) if again && held.durable => Arrival::Acknowledge,
            Some(_) if again => Arrival::Wait,
            _ => {
                self.held.insert(id, Held { delivery: self.upcoming(), durable: false });
                Arrival::Take
            }
        }
    }

    /// The upcoming delivery was accepted.
    pub(super) fn handed_over(&mut self, messages: usize, ids: Vec<(u16, u8)>) {
        self.last += 1;
        self.unsettled += messages;
        self.deliveries.push_back(Delivery { number: self.last, messages, ids, durable: false });
    }

    /// A delivery is durable; shows what can be acknowledged now, in order.
    pub(super) fn durable(&mut self, number: Number, mut acknowledge: impl FnMut(u16, u8)) {
        if let Some(delivery) = self.deliveries.iter_mut().find(|delivery| delivery.number == number) {
            delivery.durable = true;
        }
        while let Some(delivery) = self.deliveries.pop_front_if(|delivery| delivery.durable) {
            self.unsettled -= delivery.messages;
            for (id, qos) in delivery.ids {
                let Some(held) = self.held.get_mut(&id).filter(|held| held.delivery == delivery.number) else {
                    continue;
                };
                held.durable = true;
                acknowledge(id, qos);
            }
        }
    }

    /// The broker may use this number for another message from now on: the acknowledgement of a QoS 1 message is about
    /// to leave, or that of a QoS 2 message has arrived. If a PUBACK gets lost the message is taken twice; to remember
    /// it any longer could take the next message of this number for it.
    pub(super) fn release(&mut self, id: u16) {
        self.held.remove(&id);
    }

    /// Nobody knows what became of a delivery: its messages must come again, on another connection.
    pub(super) fn unknown(&mut self, number: Number) {
        self.held.retain(|_, held| held.delivery != number);
        if let Some(at) = self.deliveries.iter().position(|delivery| delivery.number == number) {
            self.unsettled -= self.deliveries.remove(at).map_or(0, |delivery| delivery.messages);
        }
    }

    /// Messages handed over and not known to be durable.
    pub(super) fn unsettled(&self) -> usize {
        self.unsettled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(session: &mut Session, number: Number) -> Vec<u16> {
        let mut ids = Vec::new();
        session.durable(number, |id, _| ids.push(id));
        ids
    }

    #[test]
    fn acknowledgements_keep_the_order_of_arrival() {
        let mut session = Session::default();
        for id in [1, 2, 3] {
            assert_eq!(session.arrive(id, false), Arrival::Take);
            session.handed_over(1, vec![(id, 1)]);
        }
        assert_eq!(acknowledged(&mut session, 2), [0u16; 0]);
        assert_eq!(acknowledged(&mut session, 1), [1, 2]);
        assert_eq!((session.unsettled(), acknowledged(&mut session, 3)), (1, vec![3]));
    }

    #[test]
    fn what_comes_again_is_not_taken_twice() {
        let mut session = Session::default();
        session.arrive(1, false);
        session.arrive(2, false);
        session.handed_over(2, vec![(1, 2), (2, 1)]);
        session.begin(true);
        assert_eq!(session.arrive(1, true), Arrival::Wait);
        assert_eq!(acknowledged(&mut session, 1), [1, 2]);
        session.release(2);
        assert_eq!(session.arrive(1, true), Arrival::Acknowledge);
        session.release(1);
        assert_eq!(session.arrive(1, true), Arrival::Take, "a new message that was sent and lost once");
    }

    #[test]
    fn a_number_used_anew_is_another_message() {
        let mut session = Session::default();
        session.arrive(1, false);
        session.handed_over(1, vec![(1, 1)]);
        session.begin(false);
        assert_eq!(session.arrive(1, false), Arrival::Take);
        assert_eq!(acknowledged(&mut session, 1), [0u16; 0], "the old delivery says nothing of the new message");
        session.handed_over(1, vec![(1, 1)]);
        assert_eq!(acknowledged(&mut session, 2), [1]);
    }

    #[test]
    fn what_nobody_knows_of_is_taken_again() {
        let mut session = Session::default();
        session.arrive(1, false);
        session.handed_over(1, vec![(1, 1)]);
        session.unknown(1);
        assert_eq!((session.arrive(1, true), session.unsettled()), (Arrival::Take, 0));
    }
}
