//! The exam that every source sits: it builds from its example, says no to unknown keys, and stops when asked.

use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trackside_connectors::sources::SOURCES;
use trackside_connectors::testing::{MemoryDoor, layout};
use trackside_core::component::find;
use trackside_core::error::{ConfigError, Failure};
use trackside_core::position::Resume;
use trackside_core::schema::Layout;
use trackside_core::source::{Door, Source, SourceContext};

/// A schema in which every source finds what it needs.
pub(crate) fn plant() -> Arc<Layout> {
    layout(json!({
        "time": {"field": "ts", "unit": "ms"},
        "series": ["device", "sensor"],
        "fields": {"value": "float", "unit": "string", "seq": "integer"},
    }))
}

/// Builds a source from a block as the engine hands it over.
pub(crate) fn build(
    kind: &str,
    block: Value,
    layout: &Arc<Layout>,
    base: &Path,
) -> Result<Box<dyn Source>, ConfigError> {
    let context = SourceContext { name: kind, layout, base };
    (find(SOURCES, "source", kind)?.build)(block, &context)
}

/// Runs a source of a finite stream to its end.
pub(crate) fn run(kind: &str, block: Value, layout: &Arc<Layout>, base: &Path, resume: Resume) -> Arc<MemoryDoor> {
    let door = MemoryDoor::resuming(layout.clone(), resume);
    build(kind, block, layout, base).unwrap().run(door.clone()).unwrap();
    door
}

/// Runs a source on a thread of its own.
pub(crate) fn spawn(
    mut source: Box<dyn Source>,
    door: &Arc<MemoryDoor>,
) -> std::thread::JoinHandle<Result<(), Failure>> {
    let door: Arc<dyn Door> = door.clone();
    std::thread::spawn(move || source.run(door))
}

/// However the partitions stand after a crash, a finite replayable source brings the rest, and only the rest; no
/// delivery straddles a stand.
pub(crate) fn resume_exam(kind: &str, block: &Value, layout: &Arc<Layout>, base: &Path) {
    let straight = run(kind, block.clone(), layout, base, Resume::default()).take();
    let ends: Vec<u64> = straight.spans.iter().map(|span| span.to).collect();
    let stream = straight.spans[0].stream.clone();
    let last = ends.len() - 1;
    for (a, b) in [(0, last), (0, last.min(1)), (last / 2, last), (last, last)] {
        let mut stands = vec![ends[a], ends[b]];
        stands.dedup();
        let resume = Resume { stands: [(stream.clone(), stands)].into(), ..Resume::default() };
        let again = run(kind, block.clone(), layout, base, resume).take();
        let taken = |seen: &trackside_connectors::testing::Seen| seen.rows.len() + seen.dead.len();
        assert_eq!(taken(&again) + straight.taken[a], taken(&straight), "{kind} from {}", ends[a]);
        assert!(straight.rows.ends_with(&again.rows), "{kind} from {}", ends[a]);
        assert!(straight.dead.ends_with(&again.dead), "{kind} from {}", ends[a]);
        for span in &again.spans {
            assert_eq!(span.stream, stream);
            assert!(!(span.from < ends[b] && ends[b] < span.to), "{kind}: {span:?} straddles {}", ends[b]);
        }
    }
}

fn example(kind: &str) -> Value {
    let text = find(SOURCES, "source", kind).unwrap().example;
    let file: toml::Table = toml::from_str(text).unwrap();
    let mut block = serde_json::to_value(&file["source"][0]).unwrap();
    assert_eq!(block.as_object_mut().unwrap().remove("type"), Some(json!(kind)));
    block.as_object_mut().unwrap().remove("name");
    block
}

#[test]
fn every_source_builds_from_its_example_and_stops_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.ndjson"), "{\"ts\":1,\"device\":\"a\",\"value\":1}\n").unwrap();
    for source in SOURCES {
        let layout = plant();
        let built = build(source.name, example(source.name), &layout, folder.path()).unwrap();
        let finite = built.finite();
        let door = MemoryDoor::new(layout);
        let running = spawn(built, &door);
        door.wait_until("a delivery or a state", |seen| seen.deliveries > 0 || !seen.states.is_empty());
        let asked = Instant::now();
        door.stop();
        running.join().unwrap().unwrap_or_else(|failure| panic!("{}: {failure}", source.name));
        assert!(asked.elapsed() < Duration::from_secs(5), "{} stops promptly (finite: {finite})", source.name);
    }
}

#[test]
fn every_source_names_an_unknown_key_and_an_unknown_tag() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.ndjson"), "").unwrap();
    for source in SOURCES {
        let mut block = example(source.name);
        block["tgas"] = json!({});
        let error = build(source.name, block, &plant(), folder.path()).err().unwrap();
        assert_eq!(error.message, "unknown key `tgas`; did you mean `tags`?", "{}", source.name);
        let mut block = example(source.name);
        block["tags"] = json!({"devcie": "x"});
        let error = build(source.name, block, &plant(), folder.path()).err().unwrap();
        assert_eq!(
            (error.path.as_str(), error.message.as_str()),
            ("tags.devcie", "unknown tag `devcie`; did you mean `device`?")
        );
    }
}

#[test]
fn every_source_says_what_it_is() {
    for source in SOURCES {
        assert!(source.summary.ends_with('.'), "{}", source.name);
        assert!((source.schema)().to_value()["properties"]["tags"].is_object(), "{}", source.name);
    }
}
