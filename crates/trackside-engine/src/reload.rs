//! A changed pipeline file taken over while the pipeline runs: nothing is lost, counted twice, or kept waiting.
//!
//! First everything that the file asks for is checked and made; whatever is wrong is told, and nothing has changed. Then,
//! part by part, what is no longer wanted is asked to end and what is new begins behind it ([`crate::crew`]):
//!
//! - a source ends with what it has in its hands; its successor goes on from where the deliveries are durable,
//! - cleaning hands over between two frames ([`crate::run::clean`]),
//! - a model and a sink end at a batch; their successors ask their output how far it had come, as after a restart.
//!
//! A part whose block is unchanged is not touched: its connections, workers and states stay.

use crate::changes::{self, Change};
use crate::config::{Diagnostics, Pipeline};
use crate::crew::{Crew, Leaving};
use crate::data_dir::StartError;
use crate::derived::lock;
use crate::engine::{Engine, Left, ModelPart, Parts, SinkPart, SourcePart};
use crate::parts::{Made, Manned, Workshop, code};
use crate::run::clean::Order;
use crate::start;
use crate::trial::try_model;
use crate::wall::now;
use serde::Serialize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use trackside_core::position::DEAD_LETTER;

/// How long a source may take to hand over what it has.
const SOURCE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a sink may take to commit what is durable.
const SINK_PATIENCE: Duration = Duration::from_secs(10);
/// How long a new chain may take to take over; one that cannot yet does so later.
const CHAIN_PATIENCE: Duration = Duration::from_secs(10);
/// How long a model that comes back waits for its last stage to let go of its topic.
const TOPIC_PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
const TOPIC_STEP: Duration = Duration::from_millis(20);

/// Why nothing was reloaded. The pipeline runs on as it was.
#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    /// The file is wrong, or asks for what cannot change while the pipeline runs.
    #[error("{0}")]
    File(Diagnostics),
    /// The file is right, and something else is in the way.
    #[error("{0}")]
    Failed(String),
}

impl From<StartError> for NotReloaded {
    fn from(error: StartError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// How the last reload went.
#[derive(Debug, Clone, Serialize)]
pub struct LastReload {
    /// When, ms since 1970.
    pub at_ms: i64,
    /// Whether the file was taken over.
    pub ok: bool,
    /// What changed, or what is wrong with the file, in words.
    pub text: Vec<String>,
}

/// A part as it will be.
enum Next<P> {
    Kept(Arc<P>),
    Made(Made<P>),
}

impl<P: Manned> Next<P> {
    fn go(self, engine: &Engine, after: &Arc<Leaving>) -> Result<Arc<P>, StartError> {
        match self {
            Self::Kept(part) => Ok(part),
            Self::Made(made) => made.go(&engine.derived, after),
        }
    }
}

/// What will be, and what leaves for it.
struct Plan {
    sources: Vec<Next<SourcePart>>,
    models: Vec<Next<ModelPart>>,
    sinks: Vec<Next<SinkPart>>,
    leaving: Parts,
    changes: Vec<Change>,
}

impl Engine {
    /// Reads the pipeline file again and takes over what changed in it; tells what that was.
    pub fn reload(&self) -> Result<Vec<Change>, NotReloaded> {
        let file = self.pipeline().file.clone();
        let result = Pipeline::load(&file).map_err(NotReloaded::File).and_then(|next| self.change(next));
        let (ok, text) = match &result {
            Ok(changes) => (true, changes.iter().map(Change::to_string).collect()),
            Err(error) => (false, vec![error.to_string()]),
        };
        match ok {
            true if text.is_empty() => tracing::info!("reloaded: the pipeline file is unchanged"),
            true => text.iter().for_each(|change| tracing::info!("reloaded: {change}")),
            false => tracing::error!("not reloaded, all runs on as it was: {}", text.join("; ")),
        }
        *lock(&self.last_reload) = Some(LastReload { at_ms: now() / 1_000_000, ok, text });
        result
    }

    /// Takes over what is different in `next`.
    pub fn change(&self, next: Pipeline) -> Result<Vec<Change>, NotReloaded> {
        let mut left = lock(&self.left);
        if self.stops.sources.is_set() {
            return Err(NotReloaded::Failed("the pipeline is ending; nothing was changed".into()));
        }
        let (old, parts) = (self.pipeline(), self.parts());
        if !self.stages().all() {
            let why = "a process with `--only` does not reload, for the others would go on with the old file; start each of them again, which loses nothing";
            return Err(NotReloaded::Failed(why.into()));
        }
        let errors = changes::forbidden(&old, &next);
        if !errors.is_empty() {
            return Err(NotReloaded::File(next.explain(errors)));
        }
        let plan = self.plan(&next, &parts)?;
        let orders = self.chain_orders(&old, &next)?;
        let ticks = start::ticks(&next, &self.received)?;
        // From here on it is done: what may still fail is a thread that the system does not give.
        let mut changes = self.settings(&old, &next);
        changes.extend(self.hand_over_chain(&old, &next, orders));
        self.replace_ticks(ticks);
        changes.extend(self.carry_out(plan, &mut left, next)?);
        Ok(changes)
    }

    fn plan(&self, next: &Pipeline, parts: &Parts) -> Result<Plan, NotReloaded> {
        let workshop = Workshop {
            pipeline: next,
            options: &self.options,
            data: &self.data,
            log: &self.log,
            store: &self.store,
            received: &self.received,
            clean: &self.clean,
        };
        let mut plan = Plan {
            sources: Vec::new(),
            models: Vec::new(),
            sinks: Vec::new(),
            leaving: Parts::default(),
            changes: Vec::new(),
        };
        plan.sources(&workshop, parts)?;
        plan.models(&workshop, parts)?;
        plan.sinks(&workshop, parts)?;
        Ok(plan)
    }

    /// Leaves a new chain for every partition, if anything about it changed.
    fn chain_orders(&self, old: &Pipeline, next: &Pipeline) -> Result<Vec<(Order, Receiver<()>)>, StartError> {
        let same = old.cleaners.len() == next.cleaners.len()
            && old.cleaners.iter().zip(&next.cleaners).all(|(old, next)| old.same_as(next))
            && old.pipeline.snapshot_every.0 == next.pipeline.snapshot_every.0;
        if same {
            return Ok(Vec::new());
        }
        let order = |partition: u32| {
            let (done, told) = channel();
            let order = Order {
                build: start::chain(&next.cleaners, &next.layout),
                blocks: next.cleaners.clone(),
                snapshots: start::chain_snapshots(next, &self.store, partition)?,
                snapshot_every: next.pipeline.snapshot_every.0,
                done,
            };
            Ok((order, told))
        };
        (0..next.pipeline.partitions).map(order).collect()
    }

    fn hand_over_chain(&self, old: &Pipeline, next: &Pipeline, orders: Vec<(Order, Receiver<()>)>) -> Vec<Change> {
        let mut waiting = Vec::new();
        for (part, (order, told)) in self.clean.iter().zip(orders) {
            *lock(&part.orders) = Some(order);
            waiting.push(told);
        }
        let end = Instant::now() + CHAIN_PATIENCE;
        let late = |told: &Receiver<()>| told.recv_timeout(end.saturating_duration_since(Instant::now())).is_err();
        let late = waiting.iter().filter(|told| late(told)).count();
        let mut changes = changes::of_chain(&old.cleaners, &next.cleaners);
        if late > 0 {
            let text = format!("{late} partitions of cleaning do not work at the moment; they take over when they do");
            changes.push(Change::new("clean", "clean", "changed", text));
        }
        changes
    }

    fn replace_ticks(&self, ticks: Crew) {
        let old = std::mem::replace(&mut *lock(&self.ticks), ticks);
        old.stop.set(Instant::now());
        old.join(Instant::now() + SOURCE_PATIENCE);
    }

    /// Settings that are looked at as they are needed.
    fn settings(&self, old: &Pipeline, next: &Pipeline) -> Vec<Change> {
        let mut changes = Vec::new();
        let keys = changes::of_sections(&old.pipeline, &next.pipeline);
        if !keys.is_empty() {
            self.received.max_lag.store(next.pipeline.max_lag, Relaxed);
            changes.push(Change::new("pipeline", "pipeline", "changed", changes::changed(&keys)));
        }
        let keys = changes::of_sections(&old.retention, &next.retention);
        if !keys.is_empty() {
            self.space.keep(next.retention.reserve_mib);
            changes.push(Change::new("retention", "retention", "changed", changes::changed(&keys)));
        }
        changes
    }

    fn carry_out(&self, plan: Plan, left: &mut Left, next: Pipeline) -> Result<Vec<Change>, StartError> {
        let Plan { sources, models, sinks, leaving, changes } = plan;
        let in_time = |patience| Instant::now() + patience;
        left.sources = Leaving::new(&left.sources, crews(&leaving.sources), in_time(SOURCE_PATIENCE));
        left.models = Leaving::new(&left.models, crews(&leaving.models), Instant::now());
        left.sinks = Leaving::new(&left.sinks, crews(&leaving.sinks), in_time(SINK_PATIENCE));
        let go = |models: Vec<Next<ModelPart>>| -> Result<Parts, StartError> {
            Ok(Parts {
                models: models.into_iter().map(|part| part.go(self, &left.models)).collect::<Result<_, _>>()?,
                sinks: sinks.into_iter().map(|part| part.go(self, &left.sinks)).collect::<Result<_, _>>()?,
                sources: sources.into_iter().map(|part| part.go(self, &left.sources)).collect::<Result<_, _>>()?,
            })
        };
        let parts = go(models)?;
        let gone = |model: &&Arc<ModelPart>| !parts.models.iter().any(|part| part.section.name == model.section.name);
        for partition in leaving.models.iter().filter(gone).flat_map(|model| &model.partitions) {
            lock(&self.derived).retain(|derived| !derived.is_of(&partition.writer));
        }
        *self.parts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(parts);
        *self.pipeline.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(changes)
    }
}

fn crews<P: Manned>(parts: &[Arc<P>]) -> impl Iterator<Item = &Crew> {
    parts.iter().map(|part| part.crew())
}

impl Plan {
    fn sources(&mut self, workshop: &Workshop<'_>, parts: &Parts) -> Result<(), NotReloaded> {
        for block in &workshop.pipeline.sources {
            let old = parts.sources.iter().find(|part| part.block.name == block.name);
            match old {
                Some(old) if old.block.same_as(block) => {
                    self.sources.push(Next::Kept(old.clone()));
                    continue;
                }
                Some(old) => {
                    let text = format!("{}, restarted", changes::changed(&changes::keys_of_blocks(&old.block, block)));
                    self.changes.push(Change::new("source", &block.name, "changed", text));
                    self.leaving.sources.push(old.clone());
                }
                None => self.changes.push(Change::new("source", &block.name, "added", "added")),
            }
            self.sources.push(Next::Made(workshop.source(block, old.map(|old| &**old))?));
        }
        let wanted = |part: &&Arc<SourcePart>| workshop.pipeline.sources.iter().any(|b| b.name == part.block.name);
        for part in parts.sources.iter().filter(|part| !wanted(part)) {
            let text = "removed; what it brought is kept";
            self.changes.push(Change::new("source", &part.block.name, "removed", text));
            self.leaving.sources.push(part.clone());
        }
        Ok(())
    }

    fn models(&mut self, workshop: &Workshop<'_>, parts: &Parts) -> Result<(), NotReloaded> {
        for section in &workshop.pipeline.models {
            let old = parts.models.iter().find(|part| part.section.name == section.name);
            if let Some(old) = old {
                let keys = changes::keys_of_models(&old.section, section);
                let code = code(section, &workshop.pipeline.base) != old.code;
                if keys.is_empty() && !code {
                    self.models.push(Next::Kept(old.clone()));
                    continue;
                }
                let what = if keys.is_empty() { "its code changed".to_owned() } else { changes::changed(&keys) };
                let then = match changes::keeps_snapshots(&keys) {
                    true => "restarted from its snapshot",
                    false => "restarted; it learns anew from what the log holds",
                };
                self.changes.push(Change::new("model", &section.name, "changed", format!("{what}, {then}")));
                self.leaving.models.push(old.clone());
            } else {
                let text = "added; it begins with the oldest rows held";
                self.changes.push(Change::new("model", &section.name, "added", text));
            }
            // What worked goes on working: a model that cannot be loaded does not take its place.
            try_model(workshop.pipeline, workshop.options, section).map_err(|why| {
                NotReloaded::Failed(format!("model `{}`: `{}` cannot be loaded: {why}", section.name, section.code))
            })?;
            let make = || workshop.model(section, old.map(|old| &**old));
            self.models.push(Next::Made(patiently(make)?));
        }
        let wanted = |part: &&Arc<ModelPart>| workshop.pipeline.models.iter().any(|m| m.name == part.section.name);
        for part in parts.models.iter().filter(|part| !wanted(part)) {
            self.changes.push(Change::new("model", &part.section.name, "removed", "removed; its scores are kept"));
            self.leaving.models.push(part.clone());
        }
        Ok(())
    }

    fn sinks(&mut self, workshop: &Workshop<'_>, parts: &Parts) -> Result<(), NotReloaded> {
        for block in &workshop.pipeline.sinks {
            let old = parts.sinks.iter().find(|part| part.block.name == block.name);
            let made = workshop.sink(block, old.filter(|old| old.block.topic == block.topic).map(|old| &**old))?;
            match old {
                // One that is kept was made all the same: the rows that it takes may look different from now on.
                Some(old) if old.block.same_as(block) && old.reads_what(&made) => {
                    self.sinks.push(Next::Kept(old.clone()));
                    continue;
                }
                Some(old) => {
                    let keys = changes::keys_of_blocks(&old.block, block);
                    let what = if keys.is_empty() { "the models changed".into() } else { changes::changed(&keys) };
                    // The table of dead letters is always on; that it follows the models is nobody's change.
                    if !keys.is_empty() || block.topic != DEAD_LETTER {
                        let text = format!("{what}, restarted from where it had come to");
                        self.changes.push(Change::new("sink", &block.name, "changed", text));
                    }
                    self.leaving.sinks.push(old.clone());
                }
                None => {
                    let text = format!("added; it takes `{}`", block.topic);
                    self.changes.push(Change::new("sink", &block.name, "added", text));
                }
            }
            self.sinks.push(Next::Made(made));
        }
        let wanted = |part: &&Arc<SinkPart>| workshop.pipeline.sinks.iter().any(|b| b.name == part.block.name);
        for part in parts.sinks.iter().filter(|part| !wanted(part)) {
            self.changes.push(Change::new("sink", &part.block.name, "removed", "removed; what it wrote is kept"));
            self.leaving.sinks.push(part.clone());
        }
        Ok(())
    }
}

impl SinkPart {
    /// Whether it reads the same topics of the log.
    fn reads_what(&self, made: &Made<SinkPart>) -> bool {
        let origins = |part: &SinkPart| part.instances.iter().map(|i| i.origin.clone()).collect::<Vec<_>>();
        origins(self) == origins(made.part())
    }
}

/// A model that was removed a moment ago may not have let go of its topic.
fn patiently<T>(make: impl Fn() -> Result<T, StartError>) -> Result<T, StartError> {
    let end = Instant::now() + TOPIC_PATIENCE;
    loop {
        match make() {
            Err(StartError::Failed(_)) if Instant::now() < end => std::thread::sleep(TOPIC_STEP),
            done => return done,
        }
    }
}
