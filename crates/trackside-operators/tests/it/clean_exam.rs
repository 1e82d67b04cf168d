//! Every cleaner in the list sits the exam of operators, on rows as dirty as a plant's.

use crate::cleaners::{blocks, chain, layout};
use arrow::array::RecordBatch;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use trackside_core::batch::row_json;
use trackside_core::builder::EventBuilder;
use trackside_core::schema::Layout;
use trackside_core::testing::{Chain, ChainOutput, operator_exam};
use trackside_operators::CLEANERS;

type Block = (String, String, Value);

fn plant() -> Arc<Layout> {
    layout(
        r#"[schema]
        series = ["device", "sensor"]
        fields = { value = "float", unit = "string", seq = "integer", ok = "boolean" }
        event_id = "id""#,
    )
}

/// Numbers from a seed (SplitMix64): tests must not depend on chance.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

/// One of the texts, the first ones most often, or none: some series are long, and some are rare.
fn tag<'a>(dice: &mut Dice, texts: &[&'a str]) -> Option<&'a str> {
    texts.get((dice.roll(6) * dice.roll(6) * dice.roll(6) / 30) as usize).copied()
}

/// Nulls, NaN, infinities, disorder, repeats, restarts of the sequence, odd units, tags in Unicode or missing.
fn dirty(seed: u64, rows: usize) -> RecordBatch {
    let mut dice = Dice(seed);
    let mut builder = EventBuilder::new(plant());
    let mut time = 1_700_000_000_000_000_000i64;
    let mut seq = 0i64;
    for _ in 0..rows {
        time += [0, 1_000_000_000, -300_000_000, 700_000_000, 2_000_000_000][dice.roll(5) as usize];
        seq = match dice.roll(30) {
            0 => dice.roll(3) as i64,
            1 => seq + 100,
            _ => seq + dice.roll(4) as i64 - 1,
        };
        builder.time(time);
        let (devices, sensors) = (["pump-1", "Größe 7", "泵"], ["temp", "humidity", "unheard of"]);
        tag(&mut dice, &devices).into_iter().for_each(|text| builder.tag(0, text));
        tag(&mut dice, &sensors).into_iter().for_each(|text| builder.tag(1, text));
        match dice.roll(20) {
            0 => {}
            1 => builder.float(0, f64::NAN),
            2 => builder.float(0, f64::NEG_INFINITY),
            3 => builder.float(0, -0.0),
            4 => builder.float(0, 1e300),
            5 | 6 => builder.float(0, 400.0 - dice.roll(800) as f64),
            _ => builder.float(0, 20.0 + dice.roll(30) as f64 / 10.0),
        }
        ["C", "°F", "K", "kPa", "hPa", "furlong", ""]
            .get(dice.roll(8) as usize)
            .into_iter()
            .for_each(|u| builder.string(1, u));
        if dice.roll(10) > 0 {
            builder.integer(2, seq);
        }
        if dice.roll(10) > 0 {
            builder.event_id(&format!("event-{}", dice.roll(rows as u64)));
        }
        builder.finish_row(0);
    }
    builder.finish()
}

/// The example of each cleaner, and the same with other settings.
fn variants() -> Vec<Block> {
    let mut all = Vec::new();
    for component in CLEANERS {
        let [block] = blocks(component.example).try_into().unwrap();
        let with = |keys: Value| {
            let mut block: Block = block.clone();
            for (key, value) in keys.as_object().unwrap() {
                match value {
                    Value::Null => _ = block.2.as_object_mut().unwrap().shift_remove(key),
                    value => block.2[key] = value.clone(),
                }
            }
            block
        };
        let others = match component.name {
            "dedupe" => vec![
                json!({"within": 3}),
                json!({"within": 500, "action": "reject"}),
                json!({"resets": "ignore"}),
                json!({"by": "event_id", "within": 20}),
                json!({"by": "event_id", "within": "10s", "remember": 30}),
                json!({"by": null, "within": null}),
                json!({"by": "time", "within": "1h"}),
            ],
            "range" => vec![
                json!({"action": "replace", "min": -100}),
                json!({"action": "drop"}),
                json!({"action": "reject"}),
                json!({"by": null, "limits": null, "max": 25}),
                json!({"by": null, "limits": null, "max": 40, "field": "seq", "action": "replace"}),
                json!({"by": null, "limits": null, "max_rate": 0.4, "action": "replace"}),
                json!({"max_rate": {"temp": 2, "unheard of": 0}, "action": "reject"}),
            ],
            "hampel" => vec![
                json!({"action": "replace"}),
                json!({"action": "drop", "window": 3}),
                json!({"action": "reject", "window": 9, "threshold": 1.5}),
                json!({"by": null, "floor": 0.1, "field": "seq"}),
            ],
            "flatline" => vec![
                json!({"count": 2, "after": null}),
                json!({"count": 3, "after": "1s", "tolerance": 0.2, "action": "drop"}),
                json!({"count": 2, "by": "sensor", "tolerance": {"temp": 1.5}, "after": null, "action": "reject"}),
            ],
            "late" => {
                vec![json!({"lateness": "0s", "action": "drop"}), json!({"lateness": "500ms", "action": "reject"})]
            }
            "median" => vec![json!({"window": 3}), json!({"window": 9, "field": "seq"})],
            "deadband" => vec![
                json!({"by": null, "width": 0.5, "every": "2s"}),
                json!({"by": null, "width": 0, "every": null, "field": "seq"}),
            ],
            "convert" => vec![
                json!({"unknown": "reject"}),
                json!({"by": null, "to": "degF"}),
                json!({"by": null, "unit_field": null, "from": "C", "to": "K"}),
                json!({"unit_field": null, "from": {"temp": "F"}, "to": {"temp": "C"}}),
            ],
            // A new cleaner sits the exam with its example; settings of its own belong here.
            _ => Vec::new(),
        };
        all.push(block.clone());
        all.extend(others.into_iter().map(with));
    }
    all
}

#[test]
fn every_cleaner_passes_the_exam_of_operators() {
    let layout = plant();
    for block in variants() {
        println!("{} {}", block.0, block.2);
        let build = || chain(std::slice::from_ref(&block), &layout).unwrap();
        operator_exam(&layout, &build, &dirty(7, 80));
    }
}

#[test]
fn a_chain_of_all_passes_it_too() {
    let layout = plant();
    let all: Vec<Block> = CLEANERS.iter().flat_map(|component| blocks(component.example)).collect();
    operator_exam(&layout, &|| chain(&all, &layout).unwrap(), &dirty(8, 160));
}

#[test]
fn nothing_vanishes() {
    let layout = plant();
    for block in variants() {
        let out = run(&layout, std::slice::from_ref(&block), &dirty(9, 400), &[]);
        let clean: usize = out.batches.iter().map(RecordBatch::num_rows).sum();
        let filtered: u64 = out.filtered.values().sum();
        assert_eq!(clean + out.dead.len() + filtered as usize, 400, "{} {}", block.0, block.2);
    }
}

#[test]
fn a_broken_snapshot_leaves_the_cleaner_as_new() {
    let (layout, rows) = (plant(), dirty(10, 120));
    for block in variants() {
        let fresh = run(&layout, std::slice::from_ref(&block), &rows, &[]);
        let mut operators = chain(std::slice::from_ref(&block), &layout).unwrap();
        let mut used = Chain::new(&layout, chain(std::slice::from_ref(&block), &layout).unwrap());
        used.push(&rows, &mut ChainOutput::default());
        let state = used.snapshot().1.remove(0);
        operators[0].restore(&state).unwrap();
        for cut in 0..state.len() {
            assert!(operators[0].restore(&state[..cut]).is_err(), "{} {}: cut at {cut}", block.0, block.2);
        }
        let mut out = ChainOutput::default();
        Chain::new(&layout, operators).push(&rows, &mut out);
        assert_eq!(texts(&fresh), texts(&out), "{} {}", block.0, block.2);
    }
}

#[test]
fn what_the_file_names_wrong_is_told_with_the_nearest() {
    let layout = plant();
    let other = self::layout("[schema]\nfields = { x = \"float\" }");
    for component in CLEANERS {
        let [block] = blocks(component.example).try_into().unwrap();
        let error = |key: &str, value: Value| {
            let mut block = block.clone();
            block.2[key] = value;
            chain(&[block], &layout).err().unwrap()
        };
        assert_eq!(error("nonsense", json!(1)).path, "nonsense", "{}", component.name);
        assert!(error("nonsense", json!(1)).message.starts_with("unknown key `nonsense`"));
        let key = if component.name == "dedupe" { "by" } else { "field" };
        for (wrong, right) in [("valeu", "value"), ("sqe", "seq")] {
            let error = error(key, json!(wrong));
            assert_eq!(error.path, key);
            assert!(key == "by" || error.message.contains(&format!("`{right}`")), "{}", error.message);
        }
        assert!(
            chain(std::slice::from_ref(&block), &other).is_err(),
            "{}: a schema without its fields",
            component.name
        );
    }
    let unknown = ("hampl".to_owned(), String::new(), json!({}));
    assert_eq!(chain(&[unknown], &layout).err().unwrap().message, "unknown cleaner `hampl`; did you mean `hampel`?");
}

#[test]
fn every_setting_is_described() {
    for component in CLEANERS {
        let schema = serde_json::to_value((component.schema)()).unwrap();
        for (key, value) in schema["properties"].as_object().unwrap() {
            let text = value["description"].as_str().unwrap_or_default();
            assert!(text.len() > 10, "{}.{key} has no description", component.name);
        }
        assert_eq!(schema["additionalProperties"], json!(false), "{}", component.name);
    }
}

fn run(layout: &Arc<Layout>, blocks: &[Block], rows: &RecordBatch, cuts: &[usize]) -> ChainOutput {
    let (mut out, mut from) = (ChainOutput::default(), 0);
    let mut operators = Chain::new(layout, chain(blocks, layout).unwrap());
    for to in cuts.iter().copied().chain([rows.num_rows()]) {
        operators.push(&rows.slice(from, to - from), &mut out);
        from = to;
    }
    out
}

fn texts(out: &ChainOutput) -> (Vec<String>, &Vec<String>) {
    let rows =
        out.batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| json!(row_json(batch, row)).to_string()));
    (rows.collect(), &out.dead)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn cuts_change_nothing(seed in any::<u64>(), variant in 0..variants().len(), mut cuts in prop::collection::vec(0..150usize, 0..12)) {
        cuts.sort_unstable();
        let (layout, rows, block) = (plant(), dirty(seed, 150), variants().swap_remove(variant));
        let straight = run(&layout, std::slice::from_ref(&block), &rows, &[]);
        let cut = run(&layout, std::slice::from_ref(&block), &rows, &cuts);
        prop_assert_eq!(texts(&straight), texts(&cut));
        prop_assert_eq!(straight.filtered, cut.filtered);
    }
}
