//! `convert`: one unit for all.
//!
//! The unit a value has is said once (`from`), or stands beside it in a text field (`unit_field`), which then says the new
//! one. The unit it gets is `to`. Each may differ by the value of a tag; values of the tag that are not listed are left
//! alone. About 200 units are known, by symbol or name: `C`, `degF`, `kPa`, `km/h`, `kWh`, `rpm`, `percent`, …
//!
//! Guarantee: a converted value has the quality bit `converted`; a value that has the unit already is unchanged to the bit
//! and unmarked. Where a row's unit is missing, not known, or of another quantity, value and unit stay as they are
//! (`unknown = "reject"` makes the row a dead letter). Units that cannot go together are an error when the pipeline
//! is checked. Limits and floors of later cleaners are in the new unit; `<field>_original`, where an earlier cleaner
//! replaced a value, stays in the old one, so convert first.
//!
//! ```toml
//! [[clean]]
//! type = "convert"
//! field = "value"
//! unit_field = "unit"
//! by = "sensor"
//! to = { temp = "K", pressure = "kPa" }
//! ```

use super::setting::{BySeries, Setting, check_by};
use super::units::{self, Conversion, Unit};
use arrow::array::{Array, StringArray, StringBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trackside_core::component::{self, Component};
use trackside_core::error::{ConfigError, Failure};
use trackside_core::operator::{BuildOperator, Operator, OperatorContext, StateError};
use trackside_core::quality;
use trackside_core::schema::FieldType;
use trackside_core::work::{Marking, Touches, Work};

/// The registry's entry.
pub const COMPONENT: Component<BuildOperator> = Component {
    name: "convert",
    summary: "brings values to one unit",
    example: r#"[[clean]]
type = "convert"
field = "value"
unit_field = "unit"
by = "sensor"
to = { temp = "K", pressure = "kPa" }
"#,
    schema: component::schema_of::<Config>,
    build: |block, context| Ok(Box::new(Convert::new(component::config(block)?, context)?)),
};

/// Spellings of units that are looked up once and kept; at this many the cache starts anew.
const MAX_SPELLINGS: usize = 1024;
const KIND: [u8; 4] = *b"CONV";

/// `[[clean]] type = "convert"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Field to convert; a `float`.
    pub field: String,
    /// Unit that values have; one for all, or by value of the tag `by`. Not with `unit_field`.
    #[serde(default)]
    pub from: Option<Setting<String>>,
    /// Text field that holds each value's unit; it is rewritten.
    #[serde(default)]
    pub unit_field: Option<String>,
    /// Unit that values get; one for all, or by value of the tag `by`.
    pub to: Setting<String>,
    /// Tag whose value chooses from `from` and `to`.
    #[serde(default)]
    pub by: Option<String>,
    /// What becomes of a row whose unit is missing, not known, or measures something else.
    #[serde(default)]
    pub unknown: UnknownUnit,
}

/// What becomes of a row that cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownUnit {
    /// Value and unit stay as they are.
    #[default]
    Keep,
    /// It becomes a dead letter.
    Reject,
}

/// The cleaner.
#[derive(Debug)]
pub struct Convert {
    name: String,
    field: usize,
    units: Units,
}

/// Where a value's unit is found.
#[derive(Debug)]
enum Units {
    /// The same for every row of a series; none: left alone.
    Said(BySeries<Option<Conversion>>),
    /// In a field.
    Read(UnitField),
}

impl Convert {
    /// Checks the configuration against the layout.
    pub fn new(config: Config, context: &OperatorContext<'_>) -> Result<Self, ConfigError> {
        let field = super::numeric(context, "field", &config.field)?;
        if context.layout.field("field", &config.field)?.1 == FieldType::Integer {
            return Err(ConfigError::new("field", format!("`{}` is an integer field", config.field))
                .with_help("declare it as `float` in the schema: a converted value has a fraction"));
        }
        let listed = |key, units: &Setting<String>| units.listed().map(|units| (key, units.len()));
        let listed = config.from.as_ref().and_then(|from| listed("from", from)).or_else(|| listed("to", &config.to));
        check_by(config.by.as_deref(), listed, context.layout)?;
        let units = match (&config.from, &config.unit_field) {
            (Some(from), None) => Units::Said(said(from, &config.to, config.by.as_deref())?),
            (None, Some(field)) => Units::Read(UnitField::new(field, &config, context)?),
            (Some(_), Some(_)) => {
                return Err(ConfigError::new("from", "`from` and `unit_field` both say which unit values have")
                    .with_help("keep the one that is right for every row"));
            }
            (None, None) => {
                return Err(ConfigError::new("from", "nothing says which unit values have")
                    .with_help("give `from = \"C\"`, or `unit_field` with the text field that holds it"));
            }
        };
        Ok(Self { name: context.name.to_owned(), field, units })
    }
}

/// The conversions of a configuration that says both units.
fn said(
    from: &Setting<String>,
    to: &Setting<String>,
    by: Option<&str>,
) -> Result<BySeries<Option<Conversion>>, ConfigError> {
    let at = |key: &str, units: &Setting<String>, tag: &str| match units {
        Setting::One(text) => units::configured(key, text).map(Some),
        Setting::ByTag(units) => {
            units.get(tag).map(|text| units::configured(&format!("{key}.{tag}"), text)).transpose()
        }
    };
    let mut choices = BTreeMap::new();
    for tag in from.listed().into_iter().chain(to.listed()).flat_map(BTreeMap::keys) {
        let (Some(from), Some(to)) = (at("from", from, tag)?, at("to", to, tag)?) else {
            let message = format!("`{tag}` is listed in only one of `from` and `to`");
            return Err(ConfigError::new("to", message).with_help("give it both units, or leave it out of both"));
        };
        choices.insert(tag.clone(), Some(conversion(&format!("to.{tag}"), from, to)?));
    }
    match (by, from, to) {
        (None, Setting::One(_), Setting::One(_)) => {
            let (from, to) = (at("from", from, "")?, at("to", to, "")?);
            Ok(BySeries::one(from.zip(to).map(|(from, to)| conversion("to", from, to)).transpose()?))
        }
        // `check_by` has seen to it that a tag is named where something is listed.
        (by, _, _) => Ok(BySeries::by_tag(by.unwrap_or_default(), None, choices)),
    }
}

fn conversion(path: &str, from: &Unit, to: &Unit) -> Result<Conversion, ConfigError> {
    Conversion::new(from, to).ok_or_else(|| {
        let help = format!("`{}` can become {}", from.symbol(), units::siblings(from));
        ConfigError::new(path, units::incompatible(from, to)).with_help(help)
    })
}

/// A unit that values get, as the configuration spells it.
#[derive(Debug)]
struct Target {
    text: String,
    unit: &'static Unit,
}

/// What a row's unit means for a target.
#[derive(Debug, Clone, Copy)]
enum Way {
    Convert(Conversion),
    /// It is the same unit, perhaps spelled otherwise.
    Same,
    /// Not known, or of another quantity.
    None,
}

/// Units that stand in a field.
#[derive(Debug)]
struct UnitField {
    field: usize,
    unknown: UnknownUnit,
    targets: Vec<Target>,
    /// By series, the number of its target; none: left alone.
    chosen: BySeries<Option<usize>>,
    spellings: Spellings,
    /// By row of the batch, the target whose text the unit field gets; room kept between batches.
    rewritten: Vec<Option<usize>>,
}

/// Texts that stood in the field, with the way to each target. A cache: it is in no snapshot.
#[derive(Debug, Default)]
struct Spellings {
    texts: Vec<String>,
    /// `targets` ways for each text.
    ways: Vec<Way>,
    /// By series, the number of its last text: nearly always that of its next.
    last: Vec<u32>,
}

impl Spellings {
    /// The ways for a text that was met in a series.
    #[inline]
    fn ways(&mut self, series: usize, text: &str, targets: &[Target]) -> &[Way] {
        let mut number = self.last[series] as usize;
        if self.texts.get(number).is_none_or(|known| known != text) {
            number = self.look_up(text, targets);
            self.last[series] = number as u32;
        }
        &self.ways[number * targets.len()..(number + 1) * targets.len()]
    }

    #[cold]
    fn look_up(&mut self, text: &str, targets: &[Target]) -> usize {
        if let Some(number) = self.texts.iter().position(|known| known == text) {
            return number;
        }
        if self.texts.len() == MAX_SPELLINGS {
            // The numbers in `last` may point at other texts from now on; the text itself is always compared.
            self.texts.clear();
            self.ways.clear();
        }
        let from = units::find(text);
        self.ways.extend(targets.iter().map(|target| match from.and_then(|from| Conversion::new(from, target.unit)) {
            Some(conversion) if conversion.is_identity() => Way::Same,
            Some(conversion) => Way::Convert(conversion),
            None => Way::None,
        }));
        self.texts.push(text.to_owned());
        self.texts.len() - 1
    }
}

impl UnitField {
    fn new(field: &str, config: &Config, context: &OperatorContext<'_>) -> Result<Self, ConfigError> {
        let (number, kind) = context.layout.field("unit_field", field)?;
        if kind != FieldType::String {
            return Err(ConfigError::new("unit_field", format!("field `{field}` is not text"))
                .with_help("name a `string` field of the schema"));
        }
        let mut targets = Vec::new();
        let mut target = |path: &str, text: &str| {
            targets.push(Target { text: text.to_owned(), unit: units::configured(path, text)? });
            Ok(Some(targets.len() - 1))
        };
        let chosen = match (&config.to, &config.by) {
            (Setting::ByTag(listed), Some(tag)) => {
                let choose = |(value, text): (&String, &String)| {
                    target(&format!("to.{value}"), text).map(|target| (value.clone(), target))
                };
                BySeries::by_tag(tag, None, listed.iter().map(choose).collect::<Result<Vec<_>, ConfigError>>()?)
            }
            (Setting::One(text), _) => BySeries::one(target("to", text)?),
            (Setting::ByTag(_), None) => BySeries::one(None), // refused by `check_by`
        };
        Ok(Self {
            field: number,
            unknown: config.unknown,
            targets,
            chosen,
            spellings: Spellings::default(),
            rewritten: Vec::new(),
        })
    }

    fn process(&mut self, field: usize, name: &str, work: &mut Work) {
        self.chosen.meet(work);
        let series = self.spellings.last.len().max(super::series_end(&work.series));
        self.spellings.last.resize(series, 0);
        let Some(texts) = work.text(self.field).cloned() else { return };
        let mut strangers = Vec::new();
        self.convert(&texts, work.marking(field), &mut strangers);
        if self.rewritten.iter().any(Option::is_some) {
            work.set_text(self.field, self.rewrite(&texts));
        }
        if self.unknown == UnknownUnit::Reject {
            for (row, target) in strangers {
                work.reject(row, name, self.complaint(texts.is_valid(row).then(|| texts.value(row)), target));
            }
        }
    }

    /// Converts what can be; notes which units to rewrite, and the rows with a unit that leads nowhere.
    fn convert(&mut self, texts: &StringArray, rows: Marking<'_>, strangers: &mut Vec<(usize, usize)>) {
        let Marking { column: Some(column), quality, keep, series, .. } = rows else { return };
        self.rewritten.clear();
        self.rewritten.resize(texts.len(), None);
        for row in 0..texts.len() {
            let Some(target) = self.chosen.get(series[row]).filter(|_| keep[row] && column.is_valid(row)) else {
                continue;
            };
            let way = match texts.is_valid(row) {
                true => self.spellings.ways(series[row] as usize, texts.value(row), &self.targets)[target],
                false => Way::None,
            };
            match way {
                Way::Convert(conversion) => {
                    column.values[row] = conversion.apply(column.values[row]);
                    quality[row] |= quality::CONVERTED;
                    self.rewritten[row] = Some(target);
                }
                Way::Same if texts.value(row) != self.targets[target].text => self.rewritten[row] = Some(target),
                Way::Same => {}
                Way::None => strangers.push((row, target)),
            }
        }
    }

    fn rewrite(&self, texts: &StringArray) -> StringArray {
        let mut builder = StringBuilder::with_capacity(texts.len(), texts.values().len());
        for (row, target) in self.rewritten.iter().enumerate() {
            match target {
                Some(target) => builder.append_value(&self.targets[*target].text),
                None => builder.append_option(texts.is_valid(row).then(|| texts.value(row))),
            }
        }
        builder.finish()
    }

    fn complaint(&self, text: Option<&str>, target: usize) -> String {
        let to = &self.targets[target];
        match text.map(|text| (text, units::find(text))) {
            None => format!("the unit is missing; it should become `{}`", to.text),
            Some((_, Some(from))) => units::incompatible(from, to.unit),
            Some((text, None)) => format!("unknown unit `{text}`; it should become `{}`", to.text),
        }
    }
}

fn convert_said(conversions: &BySeries<Option<Conversion>>, rows: Marking<'_>) {
    let Marking { column: Some(column), quality, keep, series, .. } = rows else { return };
    for row in 0..column.values.len() {
        let Some(conversion) = conversions.get(series[row]) else { continue };
        if keep[row] && column.is_valid(row) && !conversion.is_identity() {
            column.values[row] = conversion.apply(column.values[row]);
            quality[row] |= quality::CONVERTED;
        }
    }
}

impl Operator for Convert {
    fn touches(&self, touches: &mut [Touches]) {
        touches[self.field].marks = true;
    }

    fn process(&mut self, work: &mut Work) -> Result<(), Failure> {
        match &mut self.units {
            Units::Said(conversions) => {
                conversions.meet(work);
                convert_said(conversions, work.marking(self.field));
            }
            Units::Read(field) => field.process(self.field, &self.name, work),
        }
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        super::stateless_snapshot(KIND)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        match &mut self.units {
            Units::Said(conversions) => conversions.forget(),
            Units::Read(field) => field.chosen.forget(),
        }
        super::stateless_restore(KIND, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackside_core::schema::Layout;

    fn says(block: &str) -> String {
        let schema =
            r#"{"series":["device","sensor"],"fields":{"value":"float","unit":"string","n":"integer","ok":"boolean"}}"#;
        let layout = Layout::new(serde_json::from_str(schema).unwrap()).unwrap();
        let context = OperatorContext { name: "convert", layout: &layout };
        let config = component::config(serde_json::from_str(block).unwrap());
        let error = config.and_then(|config| Convert::new(config, &context)).unwrap_err();
        format!("{}: {} ({})", error.path, error.message, error.help)
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_in_words() {
        assert!(says(r#"{"field":"value","to":"K"}"#).contains("nothing says which unit"));
        assert!(says(r#"{"field":"value","from":"C","unit_field":"unit","to":"K"}"#).contains("both say"));
        assert!(says(r#"{"field":"n","from":"C","to":"K"}"#).contains("declare it as `float`"));
        assert!(says(r#"{"field":"ok","from":"C","to":"K"}"#).contains("holds true or false"));
        assert!(says(r#"{"field":"value","from":"kelvn","to":"C"}"#).contains("did you mean `kelvin`?"));
        assert_eq!(
            says(r#"{"field":"value","from":"C","to":"bar"}"#),
            "to: `C` (temperature) cannot become `bar` (pressure) (`C` can become `C`, `K`, `F`, `R`)"
        );
        assert!(says(r#"{"field":"value","unit_field":"n","to":"K"}"#).contains("is not text"));
        assert!(says(r#"{"field":"value","unit_field":"unit","to":{"temp":"K"}}"#).contains("`by = \"sensor\"`"));
        assert!(
            says(r#"{"field":"value","unit_field":"unit","to":{"temp":"Q"},"by":"sensor"}"#).starts_with("to.temp")
        );
        let both = r#"{"field":"value","from":{"temp":"C"},"to":{"t":"K"},"by":"sensor"}"#;
        assert!(says(both).contains("only one of"));
        assert!(says(r#"{"field":"value","unit_field":"unit","to":5}"#).contains("one value, or a table"));
    }
}
