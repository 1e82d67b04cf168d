//! For exams: a door that remembers everything, and small layouts and rows to look at.

use arrow::array::RecordBatch;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trackside_core::batch::row_json;
use trackside_core::dead_letter::DeadLetter;
use trackside_core::position::{Resume, Span};
use trackside_core::schema::Layout;
use trackside_core::source::{Ack, Delivery, Door, Outcome, Refused, SourceState};

use crate::formats::Mapping;

/// Longest that [`MemoryDoor::wait_until`] waits before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The layout of a `[schema]` in JSON.
pub fn layout(schema: Value) -> Arc<Layout> {
    Layout::new(serde_json::from_value(schema).expect("a schema")).expect("a layout")
}

/// The mapping of a `[schema]` in JSON, for a block named `test`.
pub fn mapping(schema: Value) -> Mapping {
    Mapping::new(&layout(schema), "test", &BTreeMap::new()).expect("a mapping")
}

/// Rows as JSON objects.
pub fn rows(batch: &RecordBatch) -> Vec<Value> {
    (0..batch.num_rows()).map(|row| Value::Object(row_json(batch, row))).collect()
}

/// What a [`MemoryDoor`] has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Rows as JSON objects, in order.
    pub rows: Vec<Value>,
    /// Dead letters, in order.
    pub dead: Vec<DeadLetter>,
    /// Spans of the deliveries that had one.
    pub spans: Vec<Span>,
    /// Rows and dead letters together, up to and with each of these spans.
    pub taken: Vec<usize>,
    /// Number of deliveries.
    pub deliveries: usize,
    /// Sum of [`Door::refuse`].
    pub refused: u64,
    /// States that the source told.
    pub states: Vec<(SourceState, Option<String>)>,
}

#[derive(Debug, Default)]
struct State {
    seen: Seen,
    stopping: bool,
    stop_after: Option<usize>,
    refuse_next: Option<Refused>,
    outcome: Option<Outcome>,
    holds_acks: bool,
    held: Held,
    now: Option<i64>,
    resume: Resume,
}

/// Acks that were never called.
#[derive(Default)]
struct Held(Vec<Ack>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} acks", self.0.len())
    }
}

/// A door that keeps what is delivered in memory and acknowledges it at once.
#[derive(Debug)]
pub struct MemoryDoor {
    layout: Arc<Layout>,
    state: Mutex<State>,
    changed: Condvar,
}

impl MemoryDoor {
    /// A door behind which nothing was ever stored.
    pub fn new(layout: Arc<Layout>) -> Arc<Self> {
        Self::resuming(layout, Resume::default())
    }

    /// A door behind which partitions stand at these positions.
    pub fn resuming(layout: Arc<Layout>, resume: Resume) -> Arc<Self> {
        let state = Mutex::new(State { resume, ..State::default() });
        Arc::new(Self { layout, state, changed: Condvar::new() })
    }

    /// Asks the source to stop.
    pub fn stop(&self) {
        self.change(|state| state.stopping = true);
    }

    /// Stops the source with the delivery that brings this many rows and dead letters together.
    pub fn stop_after(&self, taken: usize) {
        self.change(|state| state.stop_after = Some(taken));
    }

    /// Refuses the next delivery.
    pub fn refuse_next(&self, refused: Refused) {
        self.change(|state| state.refuse_next = Some(refused));
    }

    /// What all acks from now on say; `Durable` unless set.
    pub fn set_outcome(&self, outcome: Outcome) {
        self.change(|state| state.outcome = Some(outcome));
    }

    /// Calls no ack from now on.
    pub fn hold_acks(&self) {
        self.change(|state| state.holds_acks = true);
    }

    /// Stops the clock at this time.
    pub fn set_now(&self, nanos: i64) {
        self.change(|state| state.now = Some(nanos));
    }

    /// Looks at what was seen.
    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.lock().seen)
    }

    /// Takes what was seen away.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.lock().seen)
    }

    /// Waits until what was seen fulfils the condition.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        self.wait_for(what, |state| condition(&state.seen));
    }

    /// Waits until the positions that are held fulfil the condition.
    pub fn wait_until_held(&self, what: &str, condition: impl Fn(&Resume) -> bool) {
        self.wait_for(what, |state| condition(&state.resume));
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let start = Instant::now();
        let mut state = self.lock();
        while !condition(&state) {
            let seen = &state.seen;
            let (rows, dead, last, held) = (seen.rows.len(), &seen.dead, seen.states.last(), &state.resume.stands);
            let in_time = start.elapsed() < PATIENCE;
            assert!(in_time, "waited in vain for {what}: {rows} rows, {dead:?}, {last:?}, {held:?}");
            let waited = self.changed.wait_timeout(state, Duration::from_millis(50));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door for MemoryDoor {
    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn deliver(&self, delivery: Delivery) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.stopping {
            return Err(Refused::Stopping);
        }
        if let Some(refused) = state.refuse_next.take() {
            return Err(refused);
        }
        let State { seen, resume, .. } = &mut *state;
        if let Some(batch) = &delivery.rows {
            assert_eq!(batch.schema(), self.layout.schema, "rows have the layout of the door");
            seen.rows.extend(rows(batch));
        }
        seen.dead.extend(delivery.dead);
        if let Some(span) = delivery.span {
            assert!(span.from < span.to, "a span is not empty: {span:?}");
            let stands = resume.stands.entry(span.stream.clone()).or_default();
            stands.retain(|stand| *stand > span.to);
            stands.insert(0, span.to);
            let checks = resume.checks.entry(span.stream.clone()).or_default();
            checks.retain(|(at, _)| *at > span.to);
            checks.extend(span.check.map(|check| (span.to, check)));
            seen.spans.push(span);
            seen.taken.push(seen.rows.len() + seen.dead.len());
        }
        seen.deliveries += 1;
        let taken = seen.rows.len() + seen.dead.len();
        state.stopping |= state.stop_after.is_some_and(|after| taken >= after);
        let outcome = state.outcome.clone().unwrap_or(Outcome::Durable);
        let mut ack = delivery.ack;
        if state.holds_acks {
            state.held.0.extend(ack.take());
        }
        drop(state);
        self.changed.notify_all();
        if let Some(ack) = ack {
            ack(outcome);
        }
        Ok(())
    }

    fn wait_for_room(&self) -> bool {
        !self.stopping()
    }

    fn resume(&self) -> Resume {
        self.lock().resume.clone()
    }

    fn forget(&self, streams: &[String]) {
        self.change(|state| {
            state.resume.stands.retain(|stream, _| !streams.contains(stream));
            state.resume.checks.retain(|stream, _| !streams.contains(stream));
        });
    }

    fn refuse(&self, count: u64) {
        self.change(|state| state.seen.refused += count);
    }

    fn stopping(&self) -> bool {
        self.lock().stopping
    }

    fn wait_stop(&self, timeout: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, |state| !state.stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }

    fn state(&self, state: SourceState, detail: Option<String>) {
        self.change(|inner| inner.seen.states.push((state, detail)));
    }

    fn now(&self) -> i64 {
        let wall = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
        self.lock().now.unwrap_or_else(wall)
    }
}
