//! The event stream of the page: `/api/live?series=0,3&field=value`.
//!
//! Nothing is queued for a client. The stream keeps a cursor into each line, and whenever the connection can take more,
//! at most ten times a second, it picks up what is new since. A slow client so gets fewer, larger events; one that was
//! away too long misses what the views no longer hold; nobody waits for either.

use super::App;
use super::answer::problem;
use crate::views::Cursor;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Points are sent at most this often.
const PACE: Duration = Duration::from_millis(100);
/// A status every so many paces: once a second.
const STATUS_EVERY: u32 = 10;
/// Series that one stream may follow.
const MAX_SERIES: usize = 32;
/// Points of one line in one event.
const MAX_POINTS: usize = 2000;
/// Dead letters in one pace.
const MAX_LETTERS: usize = 20;

pub(super) async fn live(State(app): State<Arc<App>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let wanted = query.get("series").map(String::as_str).unwrap_or_default();
    let ids: Result<Vec<u32>, _> = wanted.split(',').filter(|id| !id.is_empty()).map(str::parse).collect();
    let ids = match ids {
        Ok(ids) if ids.len() <= MAX_SERIES => ids,
        _ => {
            let hint = format!("give at most {MAX_SERIES} numbers of /api/series, as in `series=0,3`");
            return problem(StatusCode::BAD_REQUEST, format!("`series={wanted}` cannot be followed"), &hint);
        }
    };
    Sse::new(Feed::new(app, &ids, query.get("field").cloned())).into_response()
}

/// What one client follows, and how far it has read.
struct Feed {
    app: Arc<App>,
    field: String,
    lines: Vec<(u32, Option<Cursor>)>,
    letters: u64,
    pace: Interval,
    turn: u32,
    ready: VecDeque<Event>,
}

impl Feed {
    fn new(app: Arc<App>, ids: &[u32], field: Option<String>) -> Self {
        let store = app.views.read();
        let field = field.unwrap_or_else(|| store.names().1.next().unwrap_or_default().to_owned());
        // The page asks for history once the stream is open; what lies before is not sent twice.
        let lines = ids.iter().map(|id| (*id, store.end(*id, &field))).collect();
        let letters = store.letters.next();
        drop(store);
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { app, field, lines, letters, pace, turn: 0, ready: VecDeque::new() }
    }

    /// Gathers what is new into events.
    fn gather(&mut self) {
        if self.turn.is_multiple_of(STATUS_EVERY) {
            self.ready.extend(event("status", &*self.app.status()));
        }
        self.turn = self.turn.wrapping_add(1);
        let mut news = Vec::new();
        let store = self.app.views.read();
        for (id, cursor) in &mut self.lines {
            match cursor {
                Some(cursor) => news.extend(store.news(*id, &self.field, cursor).map(|gathered| (*id, gathered))),
                None => *cursor = store.end(*id, &self.field),
            }
        }
        let letters: Vec<_> = store.letters.since(self.letters).rev().take(MAX_LETTERS).cloned().collect();
        self.letters = store.letters.next();
        drop(store);
        for (id, gathered) in news {
            self.ready.extend(event("points", &gathered.into_points(id, &self.field, MAX_POINTS)));
        }
        self.ready.extend(letters.iter().rev().filter_map(|letter| event("dead", &**letter)));
    }
}

fn event(name: &str, data: &impl serde::Serialize) -> Option<Event> {
    Some(Event::default().event(name).data(serde_json::to_string(data).ok()?))
}

impl Stream for Feed {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if *self.app.closing.borrow() {
                return Poll::Ready(None);
            }
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            match self.pace.poll_tick(context) {
                Poll::Ready(_) => self.gather(),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
