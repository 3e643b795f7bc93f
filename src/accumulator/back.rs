//! The back halves of all partitions: what was taken from the fronts and is not done. Network
//! thread only, no lock.
//!
//! A partition is in exactly one place: idle (the front will list it), in the deadline ring, in the
//! ready list of its leader's node (or of no node), muted (order allows none of its batches before
//! one that is in flight is done), or waiting for a producer id. Retries lie here in order, before
//! whatever the front holds; nothing is ever put back into a front.

mod again;
mod awaited;
mod end;
mod sequences;

use super::batch::ProducerBatch;
use super::front::{Partition, Rest, Take, Taken};
use super::inbox::{Inbox, Listed};
use super::outgoing::{LastResort, Outgoing};
use super::ring::{DeadlineRing, Due};
use super::turn::{Back, Gate, Place};
use crate::clock::Instant;
use crate::transactions::sequence::{Missing, ProducerIdAndEpoch};
use foldhash::fast::FixedState;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use super::turn::{Order, Pressed};

/// In place of a node id: partitions whose leader is not known.
pub const NO_LEADER: i32 = -1;

/// A cut that no batch is younger than.
const EVERY_CUT: u64 = u64::MAX;

/// What the sender asks of the backs; copied from the settings once.
#[derive(Debug, Clone, Copy)]
pub struct BackLimits {
    /// `max.request.size`.
    pub max_request_size: usize,
    /// `linger.ms`.
    pub linger: Duration,
    /// `delivery.timeout.ms`.
    pub delivery_timeout: Duration,
    /// What keeps order.
    pub order: Order,
}

/// See the module's comment.
pub struct Backs {
    backs: Vec<Option<Back>>,
    ring: DeadlineRing,
    /// Slots by leader, in the order in which they get their turn.
    ready: HashMap<i32, VecDeque<u32>, FixedState>,
    /// The time of the last [`Backs::advance`].
    now: Instant,
    due: Vec<(u32, Due)>,
    from_front: Vec<ProducerBatch>,
    limits: BackLimits,
    last_resort: Arc<dyn LastResort>,
    /// Batches of this cut and older do not linger.
    flushed_cut: u64,
    /// Whose batches don't linger, since somebody waits for memory that only sending would free.
    pressed: Pressed,
    /// A partition without a leader became ready.
    leaderless: bool,
    /// The producer id that sequences start under.
    newest_id: Option<ProducerIdAndEpoch>,
    /// Slots that wait for another one.
    without_id: Vec<u32>,
    /// Batches that can't be sent again: see [`Backs::take_undecided`].
    undecided: Vec<Outgoing>,
}

impl Backs {
    /// No partitions yet.
    pub fn new(limits: BackLimits, last_resort: Arc<dyn LastResort>, now: Instant) -> Backs {
        Backs {
            backs: Vec::new(),
            ring: DeadlineRing::new(now),
            ready: HashMap::default(),
            now,
            due: Vec::new(),
            from_front: Vec::new(),
            limits,
            last_resort,
            flushed_cut: 0,
            pressed: Pressed::Nobody,
            leaderless: false,
            newest_id: None,
            without_id: Vec::new(),
            undecided: Vec::new(),
        }
    }

    fn back(&mut self, slot: u32) -> Option<&mut Back> {
        self.backs.get_mut(slot as usize)?.as_mut()
    }

    /// The partition of a slot.
    pub fn partition(&self, slot: u32) -> Option<&Arc<Partition>> {
        Some(&self.backs.get(slot as usize)?.as_ref()?.partition)
    }

    /// How many batches of a partition are in flight.
    pub fn in_flight(&self, slot: u32) -> u32 {
        let back = self.backs.get(slot as usize).and_then(Option::as_ref);
        back.map_or(0, |back| u32::try_from(back.in_flight.len()).unwrap_or(u32::MAX))
    }

    /// Takes note of a partition that its front has listed; `meet` is called for one that was never
    /// seen before, and gives the topic's id.
    pub fn receive(
        &mut self,
        listed: Listed,
        now: Instant,
        meet: impl FnOnce(&Partition) -> [u8; 16],
    ) {
        let Listed { partition, deadline } = listed;
        let (slot, told) = (partition.slot, partition.told());
        let index = slot as usize;
        if self.backs.len() <= index {
            self.backs.resize_with(index + 1, || None);
        }
        let Some(entry) = self.backs.get_mut(index) else { return };
        entry.get_or_insert_with(|| {
            let topic_id = meet(&partition);
            Back::new(partition, topic_id)
        });
        if told != Instant::NEVER {
            // What was filed for it may have been forgotten while the partition was idle.
            self.file_expiry(slot, told.max(now));
        }
        if deadline == Inbox::NOW {
            self.file_expiry(slot, now.after(self.limits.delivery_timeout));
            self.make_ready(slot);
        } else {
            // Listed when the batch was opened, which may be a whole `linger.ms` ago.
            self.linger(slot, deadline);
            if deadline <= now {
                self.make_ready(slot);
            }
        }
    }

    /// Puts a partition into its leader's ready list, unless order forbids it or it is there.
    fn make_ready(&mut self, slot: u32) {
        let (order, newest) = (self.limits.order, self.newest_id);
        let Some(back) = self.back(slot) else { return };
        if matches!(back.place, Place::Ready(_)) {
            return;
        }
        match back.gate(order, newest) {
            Gate::Open => {}
            Gate::Shut => {
                back.place = Place::Muted;
                return;
            }
            Gate::NoId => {
                back.place = Place::NoId;
                if !std::mem::replace(&mut back.wants_id, true) {
                    self.without_id.push(slot);
                }
                return;
            }
        }
        let leader = back.partition.leader();
        back.place = Place::Ready(leader);
        self.leaderless |= leader == NO_LEADER;
        self.ready.entry(leader).or_default().push_back(slot);
    }

    /// Puts a partition into the ring until `at`, unless it is ready or muted anyway.
    fn wait_until(&mut self, slot: u32, at: Instant) {
        let Some(back) = self.back(slot) else { return };
        match back.place {
            Place::Ready(_) | Place::Muted | Place::NoId => return,
            Place::Ring(earlier) if earlier <= at => return,
            Place::Ring(_) | Place::Idle => back.place = Place::Ring(at),
        }
        self.ring.insert(at, slot, Due::Ready);
    }

    /// Moves time to `now`: what lingered or backed off long enough becomes ready; what may expire
    /// is returned.
    pub fn advance(&mut self, now: Instant, expiries: &mut Vec<u32>) {
        self.now = now;
        let mut due = std::mem::take(&mut self.due);
        let backs = &mut self.backs;
        self.ring.advance(now, &mut due, |slot, what| {
            let back = backs.get_mut(slot as usize).and_then(Option::as_mut);
            back.is_some_and(|back| back.still_wants(what))
        });
        for (slot, what) in due.drain(..) {
            match what {
                Due::Ready => {
                    // Rounded up to the grid, so `at` has passed; else it is a later entry's
                    // business.
                    let passed = self
                        .back(slot)
                        .is_some_and(|back| matches!(back.place, Place::Ring(at) if at <= now));
                    if passed {
                        self.make_ready(slot);
                    }
                }
                Due::Expiry => {
                    if let Some(back) = self.back(slot)
                        && back.expiry_at <= now
                    {
                        back.expiry_at = Instant::NEVER;
                        expiries.push(slot);
                    }
                }
            }
        }
        self.due = due;
    }

    /// When [`Backs::advance`] has something to do again.
    pub fn next_deadline(&self) -> Instant {
        self.ring.next()
    }

    /// The ready partitions of a node.
    pub fn ready_of(&self, node: i32) -> impl Iterator<Item = &Arc<Partition>> {
        self.ready.get(&node).into_iter().flatten().filter_map(|slot| self.partition(*slot))
    }

    /// Whether a partition without a leader has become ready since the last call.
    pub fn take_leaderless(&mut self) -> bool {
        std::mem::take(&mut self.leaderless)
    }

    /// After a change of metadata: every ready partition goes to the list of its leader of now.
    pub fn reroute(&mut self) {
        let lists: Vec<(i32, VecDeque<u32>)> = self.ready.drain().collect();
        for (_, slots) in lists {
            for slot in slots {
                let Some(back) = self.back(slot) else { continue };
                let leader = back.partition.leader();
                back.place = Place::Ready(leader);
                self.leaderless |= leader == NO_LEADER;
                self.ready.entry(leader).or_default().push_back(slot);
            }
        }
    }

    /// A leader changed: batches that were refused by the old one need not back off from the new
    /// one.
    pub fn skip_backoff(&mut self, slot: u32) {
        let Some(back) = self.back(slot) else { return };
        back.backoff_until = Instant(0);
        if matches!(back.place, Place::Ring(_)) && !back.retries.is_empty() {
            self.make_ready(slot);
        }
    }

    /// Batches of `cut` and older stop lingering.
    pub fn flush(&mut self, cut: u64) {
        self.flushed_cut = self.flushed_cut.max(cut);
        self.end_linger(&Pressed::Everybody);
    }

    /// Until the next call nothing of these lingers.
    pub fn press(&mut self, pressed: Pressed) {
        self.end_linger(&pressed);
        self.pressed = pressed;
    }

    fn end_linger(&mut self, of: &Pressed) {
        if matches!(of, Pressed::Nobody) {
            return;
        }
        for slot in 0..self.backs.len() {
            let slot = slot as u32;
            let lingers = self.back(slot).is_some_and(|back| {
                matches!(back.place, Place::Ring(_))
                    && back.retries.is_empty()
                    && of.includes(back.partition.leader())
            });
            if lingers {
                self.make_ready(slot);
            }
        }
    }

    /// Takes one batch of each ready partition of `node`, within `max.request.size` unless a single
    /// batch is larger, and hands each on. What was left out comes first next time.
    pub fn drain(&mut self, node: i32, now: Instant, mut hand_on: impl FnMut(Outgoing)) {
        let (mut size, mut count) = (0, 0);
        let turns = self.ready.get(&node).map_or(0, VecDeque::len);
        for _ in 0..turns {
            let Some(slot) = self.ready.get_mut(&node).and_then(VecDeque::pop_front) else {
                return;
            };
            let Some(batch) = self.take(slot, now) else { continue };
            size += batch.size();
            if size > self.limits.max_request_size && count > 0 {
                self.put_back(node, batch);
                return;
            }
            let Some(batch) = self.stamp(batch) else { continue };
            hand_on(batch);
            count += 1;
        }
    }

    /// A batch that found no room: the partition is the next one.
    fn put_back(&mut self, node: i32, batch: Outgoing) {
        let slot = batch.partition.slot;
        let Some(back) = self.back(slot) else { return };
        back.stays(batch);
        let listed = matches!(back.place, Place::Ready(_));
        back.place = Place::Ready(node);
        let slots = self.ready.entry(node).or_default();
        if listed {
            slots.retain(|other| *other != slot);
        }
        slots.push_front(slot);
    }

    /// Takes a ready partition's next batch and puts the partition where it belongs now.
    fn take(&mut self, slot: u32, now: Instant) -> Option<Outgoing> {
        let (order, newest) = (self.limits.order, self.newest_id);
        let back = self.back(slot)?;
        back.place = Place::Idle;
        back.fades(now);
        if back.gate(order, newest) != Gate::Open {
            // It was open when the partition became ready.
            self.make_ready(slot);
            return None;
        }
        if !back.retries.is_empty() {
            if back.backoff_until > now {
                let at = back.backoff_until;
                self.wait_until(slot, at);
                return None;
            }
            let batch = back.retries.pop_front()?;
            back.takes_off(batch.number);
            // More retries, or what the front has: it is looked at when its turn comes.
            self.make_ready(slot);
            return Some(batch);
        }
        let partition = Arc::clone(self.partition(slot)?);
        let (force, force_cut) = match self.pressed.includes(partition.leader()) {
            true => (true, EVERY_CUT),
            false => (self.flushed_cut > 0, self.flushed_cut),
        };
        let mute = order == Order::OneInFlight;
        let take = Take { now, force, force_cut, max_batches: 1, mute, closed_only: false };
        let mut from_front = std::mem::take(&mut self.from_front);
        let taken = partition.try_take(take, &mut from_front);
        let batch = from_front.pop();
        self.from_front = from_front;
        match taken {
            // Whoever is in the front, or comes next, lists the partition.
            Taken::Busy | Taken::Nothing => {}
            Taken::Lingering(at) => self.linger(slot, at),
            Taken::Ready => self.make_ready(slot),
            Taken::Batches { rest, .. } => {
                let batch = self.outgoing(&partition, batch?);
                let back = self.back(slot)?;
                back.takes_off(batch.number);
                match rest {
                    Rest::Nothing => {}
                    Rest::Muted => back.place = Place::Muted,
                    Rest::Lingering(at) => self.linger(slot, at),
                    Rest::Ready => self.make_ready(slot),
                }
                return Some(batch);
            }
        }
        None
    }

    /// A batch that left its front: the next in the partition's order.
    fn outgoing(&mut self, partition: &Arc<Partition>, batch: ProducerBatch) -> Outgoing {
        let records = u64::from(batch.body.count());
        let number = self.back(partition.slot).map_or(0, |back| {
            back.taken += records;
            back.taken - records
        });
        Outgoing::new(Arc::clone(partition), batch, number, Arc::clone(&self.last_resort))
    }

    /// The open batch lingers until `at`, which is `linger.ms` after it was opened.
    fn linger(&mut self, slot: u32, at: Instant) {
        let opened = Instant(at.0.saturating_sub(duration_us(self.limits.linger)));
        self.wait_until(slot, at);
        self.file_expiry(slot, opened.after(self.limits.delivery_timeout));
    }

    /// The batch in flight at this place is in the log, or was written and nothing more will be
    /// known: the partition may send again.
    pub fn done(&mut self, slot: u32, number: u64) {
        let now = self.now;
        let Some(back) = self.back(slot) else { return };
        back.appended(number, now);
        back.lands(number);
        self.look_again(slot);
    }

    /// The batch in flight at this place has failed, and is perhaps in the log.
    pub fn lost(&mut self, slot: u32, number: u64, maybe_written: bool) {
        let sequenced = self.limits.order == Order::Sequences;
        let Some(back) = self.back(slot) else { return };
        back.unsettled();
        if sequenced {
            back.sequence.lost(number, Missing::of(maybe_written));
        }
        back.lands(number);
        self.look_again(slot);
    }

    /// After something of a partition has ended: whatever waited for that goes on.
    fn look_again(&mut self, slot: u32) {
        let mut undecided = std::mem::take(&mut self.undecided);
        if let Some(back) = self.back(slot) {
            back.settle_gap(&mut undecided);
            back.forget_done();
            if back.is_held() {
                back.place = Place::Idle;
                self.make_ready(slot);
            }
        }
        self.undecided = undecided;
    }

    /// Makes sure that the partition's batches are looked at when `at` comes.
    pub fn file_expiry(&mut self, slot: u32, at: Instant) {
        let Some(back) = self.back(slot) else { return };
        if at < back.expiry_at {
            back.expiry_at = at;
            self.ring.insert(at, slot, Due::Expiry);
        }
    }
}

fn duration_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::RecordAccumulator;
    use super::super::append::Appended;
    use super::super::batch::Alone;
    use super::super::outgoing::Finished;
    use super::super::testing::record;
    use super::super::times::own_deadline;
    use super::*;
    use crate::clock::Reading;
    use crate::config::ProducerConfig;
    use crate::sync::Wake;
    use std::collections::BTreeMap;

    const LINGER: Duration = Duration::from_millis(5);
    const TIMEOUT: Duration = Duration::from_secs(10);

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    impl LastResort for Nobody {
        fn report(&self, partition: &Partition, _: Finished, _: bool) {
            let index = partition.index;
            assert!(std::thread::panicking(), "a batch of partition {index} is dropped");
        }
    }

    /// Fronts and backs without a sender, in virtual time.
    struct Bench {
        accumulator: RecordAccumulator,
        partitions: Vec<Arc<Partition>>,
        backs: Backs,
        now: Instant,
        tag: u64,
    }

    impl Bench {
        fn new(partitions: i32, settings: &[(&str, &str)], order: Order) -> Bench {
            let mut config = ProducerConfig::new();
            config.set("bootstrap.servers", "nowhere:1").unwrap();
            config.set("delivery.timeout.ms", "10000").unwrap();
            config.set("request.timeout.ms", "5000").unwrap();
            for (key, value) in settings {
                config.set(key, value).unwrap();
            }
            let settings = config.settings().unwrap();
            let accumulator = RecordAccumulator::for_tests(&settings, Arc::new(Nobody));
            let topic: Arc<str> = "t".into();
            let partitions =
                (0..partitions).map(|index| accumulator.add_partition(&topic, index, 1)).collect();
            let now = Instant(1_000_000);
            let limits = BackLimits {
                max_request_size: settings.max_request_size,
                linger: settings.linger,
                delivery_timeout: settings.delivery_timeout,
                order,
            };
            let mut backs = Backs::new(limits, Arc::new(Nobody), now);
            backs.set_producer_id(ProducerIdAndEpoch { id: 1000, epoch: 0 });
            Bench { accumulator, partitions, backs, now, tag: 0 }
        }

        fn send(&mut self, partition: usize, value: &[u8]) -> u64 {
            let record = record(value, self.tag);
            let reading = Reading { mono: self.now, wall_ms: 0 };
            let partition = &self.partitions[partition];
            let appended = self.accumulator.try_append(partition, &record, reading).unwrap();
            assert!(matches!(appended, Appended::Done { .. }));
            self.tag += 1;
            self.tag - 1
        }

        fn receive(&mut self) {
            let mut listed = Vec::new();
            self.accumulator.inbox().drain(&mut listed);
            for listed in listed {
                self.backs.receive(listed, self.now, |_| [1; 16]);
            }
        }

        /// A pass up to draining; the slots that may expire.
        fn pass(&mut self) -> Vec<u32> {
            self.receive();
            let mut expiries = Vec::new();
            self.backs.advance(self.now, &mut expiries);
            expiries
        }

        fn drain(&mut self, node: i32) -> Vec<Outgoing> {
            let mut batches = Vec::new();
            self.backs.drain(node, self.now, |batch| batches.push(batch));
            batches
        }

        fn pass_and_drain(&mut self) -> Vec<Outgoing> {
            self.pass();
            self.drain(1)
        }

        fn pass_time(&mut self, time: Duration) {
            self.now = self.now.after(time);
        }

        /// The batch has its outcome: its tags.
        fn end(&mut self, batch: Outgoing) -> Vec<u64> {
            let rest = batch.finish().unwrap();
            self.accumulator.cuts().completed(rest.cut);
            let tags = rest.body.tags();
            match rest.places {
                Some(places) => places.iter().map(|place| tags[*place as usize]).collect(),
                None => tags.to_vec(),
            }
        }

        fn done(&mut self, batch: Outgoing) -> Vec<u64> {
            self.backs.done(batch.partition.slot, batch.number);
            self.end(batch)
        }
    }

    fn tags(batches: &[Outgoing]) -> Vec<Vec<u64>> {
        batches.iter().map(|batch| batch.body().unwrap().tags().to_vec()).collect()
    }

    #[test]
    fn a_batch_lingers_and_not_longer() {
        let mut bench = Bench::new(1, &[("linger.ms", "5")], Order::OneInFlight);
        bench.send(0, b"a");
        assert!(bench.pass_and_drain().is_empty());
        assert_eq!(bench.backs.next_deadline(), bench.now.after(LINGER));
        bench.pass_time(LINGER - Duration::from_micros(1));
        bench.send(0, b"b");
        assert!(bench.pass_and_drain().is_empty());
        bench.pass_time(Duration::from_micros(1));
        let batches = bench.pass_and_drain();
        assert_eq!(tags(&batches), [[0, 1]]);
        for batch in batches {
            bench.done(batch);
        }
        assert!(bench.pass_and_drain().is_empty());
        assert_eq!(bench.accumulator.pool().used(), 0);
    }

    #[test]
    fn in_order_one_batch_is_in_flight_and_the_next_gathers_meanwhile() {
        let mut bench =
            Bench::new(1, &[("linger.ms", "0"), ("batch.size", "200")], Order::OneInFlight);
        bench.send(0, b"first");
        let mut first = bench.pass_and_drain();
        for _ in 0..50 {
            bench.send(0, b"and more of them than fit into batch.size");
        }
        bench.pass_time(Duration::from_secs(1));
        assert!(bench.pass_and_drain().is_empty(), "muted");
        assert!(bench.backs.next_deadline() > bench.now.after(Duration::from_secs(5)), "no timer");
        let slot = first[0].partition.slot;
        // Refused: it comes back, and goes first.
        let backoff = bench.now.after(Duration::from_millis(100));
        bench.backs.reenqueue(first.pop().unwrap(), backoff);
        assert!(bench.pass_and_drain().is_empty(), "it backs off");
        bench.pass_time(Duration::from_millis(100));
        let again = bench.pass_and_drain();
        assert_eq!(tags(&again), [[0]]);
        assert!(bench.pass_and_drain().is_empty());
        for batch in again {
            bench.done(batch);
        }
        let rest = bench.pass_and_drain();
        assert_eq!(tags(&rest), [(1..=50).collect::<Vec<_>>()], "one batch, beyond batch.size");
        assert_eq!(rest[0].partition.slot, slot);
        for batch in rest {
            bench.done(batch);
        }
    }

    #[test]
    fn with_reordering_a_partition_has_several_in_flight_and_retries_stay_sorted() {
        let mut bench = Bench::new(1, &[("linger.ms", "0"), ("batch.size", "200")], Order::Free);
        for _ in 0..12 {
            bench.send(0, &[0; 100]);
        }
        let mut in_flight = Vec::new();
        loop {
            let batches = bench.pass_and_drain();
            if batches.is_empty() {
                break;
            }
            in_flight.extend(batches);
        }
        assert!(in_flight.len() >= 6, "{}", in_flight.len());
        // Neither as they were sent nor the other way round.
        in_flight.reverse();
        in_flight.rotate_left(2);
        let now = bench.now;
        for batch in in_flight {
            bench.backs.reenqueue(batch, now);
        }
        bench.pass_time(Duration::from_millis(1));
        let mut again = Vec::new();
        loop {
            let batches = bench.pass_and_drain();
            if batches.is_empty() {
                break;
            }
            again.extend(tags(&batches).concat());
            for batch in batches {
                bench.done(batch);
            }
        }
        assert_eq!(again, (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn what_finds_no_room_in_a_request_is_first_in_the_next() {
        let settings = [("linger.ms", "0"), ("max.request.size", "1000"), ("batch.size", "500")];
        let mut bench = Bench::new(5, &settings, Order::OneInFlight);
        for partition in 0..5 {
            bench.send(partition, &[0; 300]);
        }
        let mut got = Vec::new();
        for _ in 0..3 {
            let batches = bench.pass_and_drain();
            let size: usize = batches.iter().map(Outgoing::size).sum();
            assert!(size <= 1000 && !batches.is_empty());
            got.extend(tags(&batches).concat());
            // Partitions that wait for their turn keep it when more of them come.
            for batch in batches {
                bench.done(batch);
            }
        }
        assert_eq!(got, [0, 1, 2, 3, 4]);
        // More than a request takes, but it is the only one.
        bench.send(0, &[0; 900]);
        for batch in bench.pass_and_drain() {
            bench.done(batch);
        }
        assert_eq!(bench.accumulator.pool().used(), 0);
    }

    /// A batch is refused for one of its records, and the one behind it loses its connection: the
    /// good record has no number before the next epoch, and what is behind it can't be in the log.
    #[test]
    fn the_rest_of_a_refused_batch_waits_for_no_word_of_what_is_behind_it() {
        let settings = [("linger.ms", "0"), ("batch.size", "300")];
        let mut bench = Bench::new(1, &settings, Order::Sequences);
        let first = bench.send(0, &[0; 100]);
        let batch = bench.pass_and_drain().remove(0);
        assert_eq!(bench.done(batch), [first]);
        for _ in 0..4 {
            bench.send(0, &[0; 100]);
        }
        let refused = bench.pass_and_drain().remove(0);
        let mut unanswered = bench.pass_and_drain().remove(0);
        let (number, now) = (refused.number, bench.now);
        let cuts = bench.accumulator.cuts();
        let mut pieces = refused.into_pieces(cuts, |at, _| 1 - at).unwrap().into_iter();
        bench.backs.replace(0, number, pieces.next(), now);
        assert_eq!(bench.end(pieces.next().unwrap()), [1]);
        unanswered.history.maybe_written = true;
        bench.backs.reenqueue(unanswered, now);
        assert!(bench.backs.take_undecided().is_empty());
        bench.pass_time(Duration::from_millis(1));
        let mut again = Vec::new();
        while let Some(batch) = bench.pass_and_drain().pop() {
            let identity = batch.identity.unwrap();
            again.push((identity.producer.epoch, identity.base_sequence));
            assert!(!batch.history.maybe_written);
            let tags = bench.done(batch);
            assert_eq!(tags, [[2].as_slice(), &[3, 4]][again.len() - 1]);
        }
        assert_eq!(again, [(1, 0), (1, 1)]);
    }

    #[test]
    fn a_flush_ends_the_lingering_of_its_cut_only() {
        let mut bench = Bench::new(2, &[("linger.ms", "1000")], Order::OneInFlight);
        bench.send(0, b"before");
        bench.pass();
        let cut = bench.accumulator.cuts().advance();
        bench.send(1, b"after");
        bench.pass();
        bench.backs.flush(cut);
        let batches = bench.drain(1);
        assert_eq!(tags(&batches), [[0]]);
        for batch in batches {
            bench.done(batch);
        }
        assert_eq!(bench.accumulator.cuts().outstanding_upto(cut), 0);
        assert!(bench.pass_and_drain().is_empty());
        bench.pass_time(Duration::from_secs(1));
        for batch in bench.pass_and_drain() {
            assert_eq!(bench.done(batch), [1]);
        }
    }

    #[test]
    fn leaders_that_come_and_move_take_the_ready_with_them() {
        let mut bench = Bench::new(1, &[("linger.ms", "0")], Order::OneInFlight);
        let partition = Arc::clone(&bench.partitions[0]);
        partition.set_leader(bench.accumulator.pool(), NO_LEADER);
        bench.send(0, b"x");
        bench.pass();
        assert!(bench.backs.take_leaderless());
        assert!(!bench.backs.take_leaderless(), "said once");
        assert_eq!(bench.backs.ready_of(NO_LEADER).count(), 1);
        partition.set_leader(bench.accumulator.pool(), 2);
        bench.backs.reroute();
        assert!(bench.drain(1).is_empty());
        let mut batches = bench.drain(2);
        let far = bench.now.after(Duration::from_secs(5));
        bench.backs.reenqueue(batches.pop().unwrap(), far);
        partition.set_leader(bench.accumulator.pool(), 3);
        bench.backs.skip_backoff(0);
        bench.backs.reroute();
        for batch in bench.drain(3) {
            bench.done(batch);
        }
        assert_eq!(bench.accumulator.pool().used(), 0);
    }

    #[test]
    fn another_leader_gets_one_batch_first() {
        let settings = [("linger.ms", "0"), ("batch.size", "1")];
        let mut bench = Bench::new(1, &settings, Order::Sequences);
        let send_three = |bench: &mut Bench| -> Vec<Outgoing> {
            (0..3).for_each(|_| {
                bench.send(0, b"x");
            });
            (0..3).flat_map(|_| bench.pass_and_drain()).collect()
        };
        let mut sent = send_three(&mut bench);
        assert_eq!(sent.len(), 1, "nobody has taken one yet");
        bench.done(sent.remove(0));
        let rest: Vec<Outgoing> = (0..3).flat_map(|_| bench.pass_and_drain()).collect();
        assert_eq!(rest.len(), 2, "it knows the producer");
        rest.into_iter().for_each(|batch| drop(bench.done(batch)));
        bench.backs.led_by_another(0);
        let mut sent = send_three(&mut bench);
        assert_eq!(sent.len(), 1, "this one may not");
        bench.done(sent.remove(0));
        let rest: Vec<Outgoing> = (0..3).flat_map(|_| bench.pass_and_drain()).collect();
        assert_eq!(rest.len(), 2);
        rest.into_iter().for_each(|batch| drop(bench.done(batch)));
    }

    #[test]
    fn what_has_no_leader_expires_to_the_millisecond() {
        let mut bench = Bench::new(1, &[("linger.ms", "1000")], Order::OneInFlight);
        bench.partitions[0].set_leader(bench.accumulator.pool(), NO_LEADER);
        bench.send(0, b"x");
        // Looked at late, as when nothing else wakes the thread.
        let opened = bench.now;
        bench.pass_time(Duration::from_secs(1));
        assert!(bench.pass().is_empty());
        while bench.now < opened.after(TIMEOUT) {
            bench.now = bench.backs.next_deadline();
            let (now, expiries) = (bench.now, bench.pass());
            let mut expired = Vec::new();
            for slot in expiries {
                bench.backs.expire(slot, now, bench.accumulator.cuts(), &mut expired);
            }
            assert_eq!(expired.is_empty(), now < opened.after(TIMEOUT));
            for batch in expired {
                bench.end(batch);
            }
        }
        assert!(bench.now.since(opened) <= TIMEOUT + Duration::from_millis(1));
        assert_eq!(bench.accumulator.pool().used(), 0);
    }

    #[test]
    fn a_longer_timeout_keeps_nobody_behind_it_waiting() {
        let mut bench = Bench::new(1, &[("linger.ms", "0")], Order::OneInFlight);
        let partition = Arc::clone(&bench.partitions[0]);
        let alone = Alone { sync_id: 1, deadline: bench.now.after(100 * TIMEOUT) };
        let appended = bench.accumulator.try_append_alone(
            &partition,
            &record(b"patient", 0),
            Reading { mono: bench.now, wall_ms: 0 },
            alone,
        );
        assert!(matches!(appended, Ok(Appended::Done { .. })));
        bench.tag += 1;
        bench.pass();
        // What was filed for the first has gone by when the second comes.
        let mut sent = Instant::NEVER;
        let mut expired = Vec::new();
        while expired.is_empty() {
            bench.now = bench.backs.next_deadline();
            let now = bench.now;
            for slot in bench.pass() {
                bench.backs.expire(slot, now, bench.accumulator.cuts(), &mut expired);
                if sent == Instant::NEVER {
                    sent = now;
                    bench.send(0, b"impatient");
                }
            }
        }
        assert_eq!(tags(&expired), [[1]]);
        let took = bench.now.since(sent);
        assert!(took <= TIMEOUT + Duration::from_millis(1), "{took:?}");
        assert!(bench.backs.take_all(&partition, false, &mut expired));
        for batch in expired {
            bench.end(batch);
        }
    }

    #[test]
    fn purge_takes_what_is_not_in_flight() {
        let mut bench = Bench::new(1, &[("linger.ms", "0")], Order::OneInFlight);
        bench.send(0, b"in flight");
        let in_flight = bench.pass_and_drain();
        bench.send(0, b"waits");
        let partition = Arc::clone(&bench.partitions[0]);
        let mut taken = Vec::new();
        assert!(bench.backs.take_all(&partition, false, &mut taken));
        assert_eq!(tags(&taken), [[1]]);
        for batch in taken {
            bench.end(batch);
        }
        bench.send(0, b"next");
        assert!(bench.pass_and_drain().is_empty());
        for batch in in_flight {
            bench.done(batch);
        }
        let next = bench.pass_and_drain();
        assert_eq!(tags(&next), [[2]]);
        for batch in next {
            bench.done(batch);
        }
        assert_eq!(bench.accumulator.cuts().outstanding_upto(u64::MAX), 0);
    }

    /// A random life: whatever happens in whatever order, every record ends once, in order where
    /// order is promised, no partition is forgotten, and every byte comes back.
    fn live(seed: u64, order: Order) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let linger = if rng.bool() { "0" } else { "7" };
        let settings = [("linger.ms", linger), ("batch.size", "400"), ("max.request.size", "2000")];
        let mut bench = Bench::new(7, &settings, order);
        let mut in_flight: Vec<Outgoing> = Vec::new();
        let mut ended: BTreeMap<u64, usize> = BTreeMap::new();
        let mut written: Vec<Vec<u64>> = vec![Vec::new(); 7];
        for step in 0..3000 {
            let quiet = step > 2500;
            let mut over: Vec<Outgoing> = Vec::new();
            match rng.u32(0..12) {
                0..4 if !quiet => {
                    let value = vec![0; rng.usize(0..300)];
                    bench.send(rng.usize(0..7), &value);
                }
                4 => bench.pass_time(Duration::from_micros(rng.u64(0..20_000))),
                5 if !quiet => {
                    let leader = [NO_LEADER, 1, 1, 2][rng.usize(0..4)];
                    let partition = &bench.partitions[rng.usize(0..7)];
                    partition.set_leader(bench.accumulator.pool(), leader);
                    bench.backs.skip_backoff(partition.slot);
                    bench.backs.reroute();
                }
                6 => {
                    let cut = bench.accumulator.cuts().advance();
                    bench.pass();
                    bench.backs.flush(cut);
                }
                7 if !quiet && rng.u32(0..10) == 0 => {
                    let partition = Arc::clone(&bench.partitions[rng.usize(0..7)]);
                    assert!(bench.backs.take_all(&partition, false, &mut over));
                }
                8 if !in_flight.is_empty() => {
                    let batch = in_flight.swap_remove(rng.usize(0..in_flight.len()));
                    let later = bench.now.after(Duration::from_micros(rng.u64(0..30_000)));
                    bench.backs.reenqueue(batch, later);
                }
                9 | 10 if !in_flight.is_empty() => {
                    let batch = in_flight.swap_remove(rng.usize(0..in_flight.len()));
                    let index = batch.partition.slot as usize;
                    let tags = bench.done(batch);
                    written[index].extend(&tags);
                    tags.iter().for_each(|tag| *ended.entry(*tag).or_default() += 1);
                }
                _ => {
                    let expiries = bench.pass();
                    let now = bench.now;
                    for slot in expiries {
                        bench.backs.expire(slot, now, bench.accumulator.cuts(), &mut over);
                    }
                    for node in 1..=2 {
                        in_flight.extend(bench.drain(node));
                    }
                }
            }
            if order == Order::OneInFlight {
                let mut slots: Vec<u32> = in_flight.iter().map(|b| b.partition.slot).collect();
                slots.sort_unstable();
                assert!(
                    slots.windows(2).all(|pair| pair[0] != pair[1]),
                    "seed {seed}: two at once"
                );
            }
            for batch in over {
                for tag in bench.end(batch) {
                    *ended.entry(tag).or_default() += 1;
                }
            }
        }
        // Everything has a leader now: all that is left goes out, with no help but time.
        for partition in &bench.partitions {
            partition.set_leader(bench.accumulator.pool(), 1);
            bench.backs.skip_backoff(partition.slot);
        }
        bench.backs.reroute();
        for _ in 0..400 {
            for batch in std::mem::take(&mut in_flight) {
                let index = batch.partition.slot as usize;
                let tags = bench.done(batch);
                written[index].extend(&tags);
                tags.iter().for_each(|tag| *ended.entry(*tag).or_default() += 1);
            }
            bench.pass_time(Duration::from_millis(1));
            in_flight.extend(bench.pass_and_drain());
        }
        assert!(in_flight.is_empty());
        let missing: Vec<u64> = (0..bench.tag).filter(|tag| !ended.contains_key(tag)).collect();
        assert_eq!(missing, [0; 0], "seed {seed}: without an outcome");
        assert!(ended.values().all(|times| *times == 1), "seed {seed}: twice");
        if order == Order::OneInFlight {
            assert!(written.iter().all(|tags| tags.is_sorted()), "seed {seed}: {written:?}");
        }
        assert_eq!(bench.accumulator.pool().used(), 0, "seed {seed}");
        assert_eq!(bench.accumulator.cuts().outstanding_upto(u64::MAX), 0, "seed {seed}");
    }

    #[test]
    fn whatever_happens_every_record_ends_once() {
        for seed in 0..150 {
            live(seed, Order::OneInFlight);
            live(seed, Order::Free);
            live(seed, Order::Sequences);
        }
    }

    #[test]
    fn a_partition_that_is_idle_has_no_deadlines_left_after_a_turn() {
        let mut bench = Bench::new(100, &[("linger.ms", "0")], Order::OneInFlight);
        for partition in 0..100 {
            bench.send(partition, b"x");
            for batch in bench.pass_and_drain() {
                let slot = batch.partition.slot;
                let deadline = batch.deadline(TIMEOUT);
                bench.backs.file_expiry(slot, deadline);
                bench.done(batch);
            }
            bench.pass_time(Duration::from_millis(3));
        }
        assert!(bench.pass_and_drain().is_empty());
        let mut wakes = 0;
        while bench.backs.next_deadline() != Instant::NEVER {
            bench.now = bench.backs.next_deadline();
            assert!(bench.pass().is_empty());
            wakes += 1;
        }
        assert!(wakes <= 3, "{wakes}");
    }

    /// What became of records in a run of [`deadlines_hold`].
    #[derive(Default)]
    struct Ends {
        /// Tag, and when it had to have its outcome, at the latest.
        due: BTreeMap<u64, (Instant, bool)>,
        expired: usize,
        sent: Vec<u64>,
    }

    impl Ends {
        /// Decided neither late nor more than a mark's distance early; by its own deadline not
        /// early at all.
        fn expire(&mut self, tag: u64, now: Instant) {
            let (due, own) = self.due.remove(&tag).unwrap();
            let early = Duration::from_millis(if own { 0 } else { 20 });
            assert!(now.after(early) >= due, "record {tag}: {:?} early", due.since(now));
            assert!(
                now <= due.after(Duration::from_millis(2)),
                "record {tag}, own {own}: late {:?}",
                now.since(due)
            );
            self.expired += 1;
        }
    }

    /// Random records with and without timeouts, some of them sent now and then, in virtual time
    /// whose wall clock jumps about: every decision is on time, what is sent is in order, whole and
    /// renumbered, and nothing is left (scenarios S50, S51).
    fn deadlines_hold(seed: u64, order: Order) -> Ends {
        let rng = crate::rng::Rng::seeded(seed);
        let settings = [
            ("linger.ms", "30"),
            ("batch.size", "4000"),
            ("delivery.timeout.ms", "1500"),
            ("request.timeout.ms", "1000"),
        ];
        let mut bench = Bench::new(1, &settings, order);
        let mut ends = Ends::default();
        let (mut written, mut doubts) = (BTreeMap::new(), BTreeMap::new());
        for step in 0..4_000 {
            if step < 2_000 && rng.below(4) == 0 {
                let timeout_ms = if rng.below(3) == 0 { 1 + rng.below(900) as u32 } else { 0 };
                bench.send_timed(timeout_ms, rng.below(1 << 40) as i64);
                let own = timeout_ms > 0;
                let timeout = Duration::from_millis(if own { timeout_ms.into() } else { 1500 });
                ends.due.insert(bench.tag - 1, (bench.now.after(timeout), own));
            }
            bench.expire_due(&mut ends);
            let connected = (step / 400) % 2 == seed % 2;
            if connected && rng.below(40) == 0 {
                for mut batch in bench.drain(1) {
                    let body = Arc::clone(batch.body().unwrap());
                    for (place, record) in (0..).zip(body.records()) {
                        assert_eq!(record.unwrap().offset_delta, place);
                    }
                    // What a broker may know under a number has the same bytes each time.
                    if let Some(identity) = batch.identity {
                        let bytes: Vec<u8> = body.slabs().flatten().copied().collect();
                        let ProducerIdAndEpoch { id, epoch } = identity.producer;
                        let key = (id, epoch, identity.base_sequence);
                        let first = written.entry(key).or_insert_with(|| bytes.clone());
                        assert!(*first == bytes, "sent again as something else");
                        for tag in body.tags() {
                            let doubtful = doubts.insert(*tag, key);
                            let same = doubtful.is_none_or(|before| before == key);
                            assert!(same, "record {tag} may be written, and is sent as another");
                        }
                    }
                    if rng.below(3) == 0 {
                        batch.history.maybe_written = true;
                        let backoff = Duration::from_millis(rng.below(300));
                        bench.backs.reenqueue(batch, bench.now.after(backoff));
                        continue;
                    }
                    let tags = bench.done(batch);
                    tags.iter().for_each(|tag| assert!(ends.due.remove(tag).is_some(), "{tag}"));
                    ends.sent.extend(tags);
                }
            }
            for batch in bench.backs.take_undecided() {
                for tag in bench.end(batch) {
                    ends.due.remove(&tag);
                }
            }
            bench.pass_time(Duration::from_millis(1));
        }
        assert!(ends.due.is_empty(), "seed {seed}: {:?}", ends.due);
        assert!(ends.sent.is_sorted(), "seed {seed}: {:?}", ends.sent);
        let (pool, cuts) = (bench.accumulator.pool(), bench.accumulator.cuts());
        assert_eq!((pool.used(), pool.closed(), cuts.outstanding_upto(u64::MAX)), (0, 0, 0));
        ends
    }

    impl Bench {
        fn send_timed(&mut self, timeout_ms: u32, wall_ms: i64) {
            let value = [7; 40];
            let record = crate::record::ProducerRecord { timeout_ms, ..record(&value, self.tag) };
            let partition = Arc::clone(&self.partitions[0]);
            let reading = Reading { mono: self.now, wall_ms };
            let appended = self.accumulator.try_append(&partition, &record, reading).unwrap();
            assert!(matches!(appended, Appended::Done { .. }));
            self.tag += 1;
            if let Some(at) = own_deadline(&record, self.now)
                && partition.must_tell(at, self.now)
            {
                self.receive();
                self.backs.file_expiry(partition.slot, at);
            }
        }

        fn expire_due(&mut self, ends: &mut Ends) {
            for slot in self.pass() {
                let mut expired = Vec::new();
                self.backs.expire(slot, self.now, self.accumulator.cuts(), &mut expired);
                for batch in expired {
                    for tag in self.end(batch) {
                        ends.expire(tag, self.now);
                    }
                }
            }
        }
    }

    #[test]
    fn decisions_about_deadlines_are_on_time_and_keep_order() {
        let (mut expired, mut sent) = (0, 0);
        for seed in 0..20 {
            for order in [Order::OneInFlight, Order::Sequences] {
                let ends = deadlines_hold(seed, order);
                (expired, sent) = (expired + ends.expired, sent + ends.sent.len());
            }
        }
        assert!(expired > 2_000 && sent > 2_000, "{expired} expired, {sent} sent");
    }

    /// Far beyond the ring's horizon, in one step and in many.
    #[test]
    fn the_longest_delivery_timeout_ends_too() {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let settings = [("delivery.timeout.ms", "2147483647"), ("linger.ms", "0")];
        let mut bench = Bench::new(1, &settings, Order::OneInFlight);
        bench.send(0, b"x");
        assert!(bench.pass().is_empty());
        let due = bench.now.after(Duration::from_millis(2_147_483_647));
        for _ in 0..24 {
            bench.pass_time(DAY);
            assert!(bench.pass().is_empty());
        }
        bench.now = Instant(due.0 - 1);
        assert!(bench.pass().is_empty());
        bench.now = due.after(Duration::from_millis(1));
        let mut expired = Vec::new();
        for slot in bench.pass() {
            let now = bench.now;
            bench.backs.expire(slot, now, bench.accumulator.cuts(), &mut expired);
        }
        assert_eq!(tags(&expired), [[0]]);
        for batch in expired {
            bench.end(batch);
        }
        assert_eq!(bench.accumulator.pool().used(), 0);
    }
}
