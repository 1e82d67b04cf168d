//! Cases as folders: `testcases/<cleaner>/<case>/` holds `config.toml` (schema and chain), `input.jsonl`, and what must
//! come out: `expected.jsonl` (the clean rows) and `expected.toml` (rows dropped by rule, reasons of the dead), which may be
//! left out when there is nothing to tell. A new case is a new folder.
//!
//! `TRACKSIDE_BLESS=1` writes what came out instead of comparing it; look at the difference before you commit it.

use crate::cleaners::{blocks, chain, layout, rows};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use trackside_core::batch::row_json;
use trackside_core::testing::{Chain, ChainOutput};
use trackside_operators::CLEANERS;

/// What left the chain, but for the clean rows.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expected {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dead: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    filtered: BTreeMap<String, u64>,
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders
}

fn check(case: &Path) {
    let read = |name: &str| fs::read_to_string(case.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let config = read("config.toml");
    let layout = layout(&config);
    let mut chain = Chain::new(&layout, chain(&blocks(&config), &layout).unwrap());
    let mut out = ChainOutput::default();
    chain.push(&rows(&layout, &read("input.jsonl")), &mut out);
    let clean = &out.batches[0];
    let line = |row| serde_json::to_string(&row_json(clean, row)).unwrap() + "\n";
    let lines: String = (0..clean.num_rows()).map(line).collect();
    let got = Expected { filtered: out.filtered, dead: out.dead };
    if std::env::var_os("TRACKSIDE_BLESS").is_some() {
        fs::write(case.join("expected.jsonl"), lines).unwrap();
        let rest = case.join("expected.toml");
        match got == Expected::default() {
            true => _ = fs::remove_file(rest), // there may be none
            false => fs::write(rest, toml::to_string(&got).unwrap()).unwrap(),
        }
        return;
    }
    assert_eq!(lines, read("expected.jsonl"), "{}", case.display());
    let expected = case.join("expected.toml");
    let expected =
        if expected.exists() { toml::from_str(&read("expected.toml")).unwrap() } else { Expected::default() };
    assert_eq!(got, expected, "{}", case.display());
}

#[test]
fn every_case_comes_out_as_it_is_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testcases");
    let operators = folders(&root);
    let names: BTreeSet<_> = operators.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    for component in CLEANERS {
        assert!(names.contains(component.name), "`{}` has no case in testcases/{}/", component.name, component.name);
    }
    for case in operators.iter().flat_map(|operator| folders(operator)) {
        check(&case);
    }
}
