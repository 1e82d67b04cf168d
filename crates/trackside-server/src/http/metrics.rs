//! `/metrics` for Prometheus, in the OpenMetrics text format: the sums, and rate, lag, errors and latency by stage.
//!
//! Counters of the sums are cumulative over the data directory's life, as the sums are; those by stage count since the
//! start of this process.

use super::App;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use trackside_engine::{Level, Status, Sums};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    match text(&app.engine.status()) {
        Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            super::answer::problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), "please report this")
        }
    }
}

fn text(status: &Status) -> Result<String, std::fmt::Error> {
    let mut page = Page { registry: Registry::with_prefix("trackside") };
    sums(&mut page, &status.sums);
    stages(&mut page, status);
    page.counter("refused", "Rows and payloads turned away with nothing stored", status.refused);
    page.counter("anomalies", "Scores with anomaly set", status.anomalies);
    page.counter("forecasts", "Forecast rows", status.forecasts);
    let tables = || status.tables.iter().map(|table| (vec![("topic", table.topic.clone())], table));
    page.gauges("table_rows", "Rows committed to a table", tables().map(|(l, t)| (l, t.rows as f64)));
    page.gauges("table_bytes", "Bytes of a table", tables().map(|(l, t)| (l, t.bytes as f64)));
    let notices = status.notices.iter().map(|notice| {
        let level = if notice.level == Level::Error { "error" } else { "warning" };
        (vec![("key", notice.key.clone()), ("level", level.to_owned())], 1.0)
    });
    page.gauges("notice", "1 for each thing that a human should look at", notices);
    page.gauge("uptime_seconds", "Seconds since the start", status.uptime_s);
    let mut text = String::new();
    encode(&mut text, &page.registry)?;
    Ok(text)
}

fn sums(page: &mut Page, sums: &Sums) {
    let stage = |name: &str| vec![("stage", name.to_owned())];
    let model = |name: &String| vec![("model", name.clone())];
    page.counter("taken", "Rows and payloads that sources brought", sums.ingest.taken);
    page.counter("received", "Rows in received", sums.ingest.received);
    page.counter("clean", "Rows in clean", sums.clean.clean);
    let filtered = sums.clean.filtered_by.iter().map(|(rule, count)| (vec![("rule", rule.clone())], *count));
    page.counters("filtered", "Rows that a rule dropped", filtered);
    let dead = [(stage("ingest"), sums.ingest.dead), (stage("clean"), sums.clean.dead)].into_iter();
    let by_model = sums.models.iter().map(|(name, sum)| (stage(name), sum.dead));
    page.counters("dead", "Rows and payloads that a stage rejected", dead.chain(by_model));
    page.counters("scored", "Clean rows scored", sums.models.iter().map(|(name, sum)| (model(name), sum.scored)));
    page.counters(
        "skipped",
        "Clean rows that a model passed over",
        sums.models.iter().map(|(n, s)| (model(n), s.skipped)),
    );
    let lost = sums.models.iter().map(|(name, sum)| (stage(name), sum.lost));
    let lost = [(stage("clean"), sums.clean.lost)].into_iter().chain(lost);
    page.counters("lost", "Rows in damaged parts of the log, which are quarantined", lost);
    let waiting = [(stage("clean"), sums.clean.in_flight as f64)].into_iter();
    let waiting = waiting.chain(sums.models.iter().map(|(name, sum)| (stage(name), sum.in_flight as f64)));
    page.gauges("in_flight", "Rows that a stage has not seen yet", waiting);
    page.gauge("balanced", "1 when every sum holds", f64::from(u8::from(sums.balanced())));
}

fn stages(page: &mut Page, status: &Status) {
    let stages = || status.stages.iter().map(|s| (vec![("stage", s.stage.to_owned()), ("name", s.name.clone())], s));
    page.counters("rows", "Rows that a stage passed on", stages().map(|(l, s)| (l, s.rows)));
    page.counters("errors", "Failures of a stage", stages().map(|(l, s)| (l, s.errors)));
    page.gauges("lag_rows", "Rows that wait for a stage", stages().map(|(l, s)| (l, s.lag as f64)));
    page.gauges("rate_rows", "Rows a second", stages().map(|(l, s)| (l, s.rate)));
    let quantiles = stages().flat_map(|(labels, s)| {
        [("0.5", s.latency_ms_p50), ("0.99", s.latency_ms_p99)].into_iter().filter_map(move |(quantile, ms)| {
            let labels = labels.iter().cloned().chain([("quantile", quantile.to_owned())]).collect();
            Some((labels, ms? / 1e3))
        })
    });
    page.gauges("latency_seconds", "From the arrival of an event to the stage's append", quantiles);
    let models = status.models.iter().map(|model| (vec![("model", model.name.clone())], model.restarts));
    page.counters("model_restarts", "How often a model was brought back", models);
}

/// Metrics under way to the text.
struct Page {
    registry: Registry,
}

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter = Counter::<u64, AtomicU64>::default();
        counter.inc_by(value);
        self.registry.register(name, help, counter);
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        self.registry.register(name, help, gauge);
    }

    fn counters(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.registry.register(name, help, family);
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Gauges::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.registry.register(name, help, family);
    }
}
