//! Who sends: deliveries of a simulated organisation, in any order, again where they were not acknowledged, and now and then
//! where they were. Tickets are deleted and moved, branches pushed by force, texts edited.

use std::collections::BTreeMap;

use fastrand::Rng;
use flowsync_ingest::{
    connectors::{self, Delivery, Secret, Secrets},
    log::Appended,
    simulate::{CONNECTORS, Disorder, Scale, Simulated, Simulation},
};
use flowsync_schemas::{LogPosition, Micros, Signal, SignalId};

/// Deliveries of one history, about.
const DELIVERIES: usize = 18;
/// Of the oldest so many that are left, any is sent next.
const DISORDER: usize = 6;

pub struct Senders {
    secrets: Secrets,
    /// Not acknowledged yet.
    left: Vec<Simulated>,
    done: Vec<Simulated>,
    /// Where the log said that they are.
    pub acknowledged: BTreeMap<SignalId, LogPosition>,
}

/// Some deliveries, signed and verified.
pub struct Sent {
    deliveries: Vec<(Option<usize>, Signal)>,
}

impl Sent {
    pub fn signals(&self) -> Vec<Signal> {
        self.deliveries.iter().map(|(_, signal)| signal.clone()).collect()
    }
}

impl Senders {
    pub fn new(rng: &mut Rng) -> Self {
        let disorder = Disorder {
            unreadable_bps: 200,
            edited_bps: 3_000,
            deleted_bps: 4_000,
            force_pushed_bps: 4_000,
            moved_bps: 2_000,
            renamed_projects: 200,
            ..Disorder::NONE
        };
        let scale = Scale { people: 8, tickets: rng.u64(2..5), days: 14, disorder };
        let until = Micros::from_secs(1_760_000_000);
        // The commands of chats are signed with the time of sending, and so are other deliveries each time.
        let all: Vec<_> =
            Simulation::new(rng.u64(..), until, scale).without_truth().filter(|d| d.connector != "slack").collect();
        let few = DELIVERIES as f64 / all.len().max(1) as f64;
        let mut left: Vec<_> = all.into_iter().filter(|d| takes_back(d) && rng.bool() || rng.f64() < few).collect();
        left.truncate(DELIVERIES * 3 / 2);
        assert!(!left.is_empty(), "nobody has anything to send");
        let secrets = CONNECTORS.iter().map(|c| ((*c).to_owned(), Secret::new(format!("{c}-secret")))).collect();
        Self { secrets, left, done: Vec::new(), acknowledged: BTreeMap::new() }
    }

    pub fn have_more(&self) -> bool {
        !self.left.is_empty()
    }

    /// The next few, as the gateway verifies them at this moment.
    pub fn send(&self, rng: &mut Rng, now: Micros) -> Sent {
        let mut deliveries: Vec<(Option<usize>, Signal)> = Vec::new();
        for _ in 0..rng.usize(1..5) {
            let (index, delivery) = match rng.choice(&self.done) {
                Some(again) if rng.u8(0..4) == 0 || self.left.is_empty() => (None, again),
                _ => match rng.choice((0..self.left.len()).take(DISORDER)) {
                    Some(index) if deliveries.iter().all(|(sent, _)| *sent != Some(index)) => {
                        (Some(index), &self.left[index])
                    }
                    _ => continue,
                },
            };
            deliveries.push((index, self.verified(delivery, now)));
        }
        Sent { deliveries }
    }

    fn verified(&self, delivery: &Simulated, now: Micros) -> Signal {
        let headers = delivery.sign(&self.secrets, now).expect("a secret");
        let connector = connectors::by_name(delivery.connector).expect("a connector");
        let received = Delivery { headers: &headers, body: &delivery.body, received_at: now };
        let verified = connector.verify(received, self.secrets.get(delivery.connector)).expect("signed");
        verified.into_signal()
    }

    /// They are told that it is durable.
    pub fn acknowledge(&mut self, sent: Sent, appended: &[Appended]) -> Result<(), String> {
        let mut gone: Vec<usize> = Vec::new();
        for ((index, signal), appended) in sent.deliveries.iter().zip(appended) {
            let before = self.acknowledged.insert(signal.id, appended.position);
            if before.is_some_and(|before| before != appended.position) {
                return Err(format!("signal {} was at {before:?}, and is at {:?}", signal.id, appended.position));
            }
            gone.extend(index);
        }
        gone.sort_unstable();
        for index in gone.into_iter().rev() {
            self.done.push(self.left.remove(index));
        }
        Ok(())
    }
}

/// Whether a delivery takes something back.
fn takes_back(delivery: &Simulated) -> bool {
    let text = String::from_utf8_lossy(&delivery.body);
    ["deleted\"", "\"forced\":true", "\"action\":\"synchronize\""].iter().any(|word| text.contains(word))
}
