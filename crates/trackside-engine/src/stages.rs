//! Which stages a process runs: all of them, or with `--only` some, while others run elsewhere on the same log.

use crate::catalog::{self, logs::LogSection};
use crate::config::Pipeline;
use crate::data_dir::StartError;
use crate::ledger::Sums;
use std::fmt;
use std::str::FromStr;

/// What `--only` may name, from upstream to downstream.
const NAMES: [&str; 5] = ["ingest", "clean", "models", "sinks", "server"];

/// The stages of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages {
    /// Sources, and `received`.
    pub ingest: bool,
    /// Cleaners, and `clean`.
    pub clean: bool,
    /// Models with their workers, and `scores.*`.
    pub models: bool,
    /// Tables, alerts, forwards.
    pub sinks: bool,
    /// The page and the API.
    pub server: bool,
}

impl Default for Stages {
    fn default() -> Self {
        Self { ingest: true, clean: true, models: true, sinks: true, server: true }
    }
}

impl Stages {
    /// Whether nothing is left to another process.
    pub fn all(self) -> bool {
        self == Self::default()
    }

    /// Rows that this process waits for before it is through: those under way to the last stage that it runs.
    pub fn under_way(self, sums: &Sums) -> u64 {
        let models: u64 = sums.models.values().map(|model| model.in_flight).sum();
        let clean = if self.clean || self.models || self.sinks { sums.clean.in_flight } else { 0 };
        clean + if self.models || self.sinks { models } else { 0 }
    }

    /// Files on one machine have one engine, and a source that shares the server's port needs a server.
    pub(crate) fn fit(self, pipeline: &Pipeline) -> Result<(), StartError> {
        if self.all() {
            return Ok(());
        }
        if matches!(pipeline.log, LogSection::Nats(_)) {
            let shares = pipeline.sources.iter().find(|block| catalog::is_mounted(block));
            return match shares.filter(|_| self.ingest && !self.server) {
                None => Ok(()),
                Some(block) => Err(StartError::Mismatch(format!(
                    "source `{}` shares the server's port, and `--only {self}` runs no server; add `server`, or give the source a `listen` address of its own",
                    block.name
                ))),
            };
        }
        Err(StartError::Mismatch(format!(
            "`--only {self}` leaves stages to other processes, and the log of `{}` is in files of its data directory, which two engines cannot share; set `[log] type = \"nats\"`, or leave `--only` out",
            pipeline.file.display()
        )))
    }
}

impl FromStr for Stages {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut stages = Self { ingest: false, clean: false, models: false, sinks: false, server: false };
        for name in text.split(',').map(str::trim) {
            match name {
                "ingest" => stages.ingest = true,
                "clean" => stages.clean = true,
                "models" => stages.models = true,
                "sinks" => stages.sinks = true,
                "server" => stages.server = true,
                other => {
                    let choices = NAMES.join(", ");
                    return Err(format!("unknown stage `{other}`; choose from {choices}, with commas between them"));
                }
            }
        }
        Ok(stages)
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = [self.ingest, self.clean, self.models, self.sinks, self.server];
        let names: Vec<&str> = NAMES.into_iter().zip(run).filter_map(|(name, run)| run.then_some(name)).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_named_and_others_are_refused_with_the_choices() {
        let some: Stages = "models, clean".parse().unwrap();
        assert_eq!((some.to_string(), some.all()), ("clean,models".into(), false));
        assert!("ingest,clean,models,sinks,server".parse::<Stages>().unwrap().all());
        let error = "ingest,model".parse::<Stages>().unwrap_err();
        assert!(error.contains("`model`") && error.contains("ingest, clean, models"), "{error}");
        assert!("".parse::<Stages>().is_err());
    }

    #[test]
    fn a_process_waits_for_what_its_own_stages_wait_for() {
        let mut sums = Sums::default();
        sums.clean.in_flight = 3;
        sums.models.entry("m".into()).or_default().in_flight = 4;
        let waits = |only: &str| only.parse::<Stages>().unwrap().under_way(&sums);
        assert_eq!(["ingest", "server", "ingest,clean", "models", "sinks"].map(waits), [0, 0, 3, 7, 7]);
        assert_eq!(Stages::default().under_way(&sums), sums.in_flight());
    }

    #[test]
    fn a_source_that_shares_the_servers_port_needs_one() {
        let text = "[pipeline]\nname = \"p\"\n[schema]\nfields = { value = \"float\" }\n[[source]]\ntype = \"http\"\n[log]\ntype = \"nats\"\n";
        let pipeline = Pipeline::parse(std::path::Path::new("p.toml"), text).unwrap();
        let fit = |only: &str| only.parse::<Stages>().unwrap().fit(&pipeline);
        assert!(fit("ingest,server").is_ok() && fit("models").is_ok());
        let error = fit("ingest,clean").unwrap_err().to_string();
        assert!(error.contains("source `http`") && error.contains("add `server`"), "{error}");
    }

    #[test]
    fn the_embedded_log_is_not_shared() {
        let text = "[pipeline]\nname = \"p\"\n[schema]\nfields = { value = \"float\" }\n";
        let pipeline = Pipeline::parse(std::path::Path::new("p.toml"), text).unwrap();
        assert!(Stages::default().fit(&pipeline).is_ok());
        let error = "models".parse::<Stages>().unwrap().fit(&pipeline).unwrap_err().to_string();
        assert!(error.contains("`--only models`") && error.contains("type = \"nats\""), "{error}");
    }
}
