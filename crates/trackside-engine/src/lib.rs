//! The engine: turns a pipeline file into a running pipeline and keeps it running.
//!
//! It is the only writer of the log, the supervisor of the Python workers, and the keeper of the sums. Read the system
//! in four files: `run/ingest.rs`, `run/clean.rs`, `run/model.rs`, `run/deliver.rs`, each one loop of the same shape:
//! read at a position, do, append once with that position. It knows no HTTP and no terminal: routes of the http source
//! pass through it unopened, and `catalog.rs` alone names components.

mod catalog;
mod changes;
mod config;
mod crew;
mod data_dir;
mod derived;
mod elsewhere;
mod engine;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod inspect;
mod ledger;
mod letters;
mod metrics;
mod notices;
mod offline;
mod parts;
mod policy;
mod reload;
mod retention;
mod run;
mod space;
mod stages;
mod start;
mod status;
#[cfg(feature = "testing")]
pub mod stepped;
mod stop;
mod topics;
mod trial;
mod wall;
pub mod worker;

pub use catalog::{Listing, MOUNTED, Mount, listing as components, schema as pipeline_schema};
pub use changes::Change;
pub use config::{
    Block, Diagnostic, Diagnostics, ModelMode, ModelSection, Pipeline, PipelineSection, Place, RetentionSection,
    ServerSection,
};
pub use data_dir::StartError;
pub use engine::{Engine, Options, RuntimeFactory};
pub use ledger::{CleanSum, IngestSum, ModelSum, Sums};
pub use letters::{Answered, Filter, Letter, Letters, Refusal, Retry};
pub use metrics::{Meter, StageState};
pub use notices::{Level, Notice};
pub use offline::{CleanBatch, clean_batch};
pub use reload::{LastReload, NotReloaded};
pub use run::model::ModelState;
pub use stages::Stages;
pub use start::open_log;
pub use status::{Learning, ModelStatus, StageStatus, Status, Summary, TableStatus};
pub use stop::Stop;
pub use topics::{Cursor, Step, TopicRows, Topics};
pub use trial::try_model;
