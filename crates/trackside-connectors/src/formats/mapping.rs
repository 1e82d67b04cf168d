//! Where a key goes: the schema as decoders use it.
//!
//! A decoder looks a key up once ([`Mapping::find`]) and then hands each value to a [`Row`], which converts it to the
//! column's type or says in words why it cannot. Conversions are the same for all formats: a number is text where
//! text is wanted, `3.0` is the integer 3, nothing else is guessed.

use super::Envelope;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use trackside_core::builder::EventBuilder;
use trackside_core::error::ConfigError;
use trackside_core::schema::{FieldType, Layout, Unknown};
use trackside_core::time::TimeReader;

/// Whole numbers up to here are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What a key fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Time,
    Tag(usize),
    Field(usize, FieldType),
    EventId,
}

#[derive(Debug)]
struct Key {
    name: Box<str>,
    /// Usually one; an event id or a time may be a field as well.
    targets: Vec<Target>,
}

/// The schema of a pipeline, ready for a decoder, with the name and the tags of the source's block.
#[derive(Debug)]
pub struct Mapping {
    layout: Arc<Layout>,
    component: String,
    time: Option<TimeReader>,
    time_key: String,
    needs_time: bool,
    keys: Vec<Key>,
    by_name: HashMap<Box<str>, usize>,
    tags: Vec<(usize, Box<str>)>,
}

impl Mapping {
    /// Checks the block's `tags` against the layout and prepares the lookup.
    pub fn new(layout: &Arc<Layout>, component: &str, tags: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let config = &layout.config;
        let time = config.time.as_ref().map(TimeReader::new).transpose()?;
        let mut mapping = Self {
            layout: layout.clone(),
            component: component.to_owned(),
            time,
            time_key: config.time.as_ref().map(|time| time.field.clone()).unwrap_or_default(),
            needs_time: false,
            keys: Vec::new(),
            by_name: HashMap::new(),
            tags: Vec::new(),
        };
        for (name, text) in tags {
            mapping.tags.push((layout.tag(&format!("tags.{name}"), name)?, text.as_str().into()));
        }
        config.time.iter().for_each(|time| mapping.add(&time.field, Target::Time));
        config.series.iter().enumerate().for_each(|(tag, name)| mapping.add(name, Target::Tag(tag)));
        config
            .fields
            .iter()
            .enumerate()
            .for_each(|(field, (name, kind))| mapping.add(name, Target::Field(field, *kind)));
        config.event_id.iter().for_each(|name| mapping.add(name, Target::EventId));
        Ok(mapping)
    }

    /// Rejects events without a time where the schema names its key: a file read twice must give the same rows.
    #[must_use]
    pub fn with_time_required(mut self) -> Self {
        self.needs_time = self.time.is_some();
        self
    }

    /// The layout of the rows.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Name of the block, for dead letters.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// Number of a key that the schema names.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// What the key fills, if that is one thing.
    pub(super) fn only_target(&self, key: usize) -> Option<Target> {
        match self.keys.get(key)?.targets[..] {
            [target] => Some(target),
            _ => None,
        }
    }

    /// Names of all keys, by number.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter().map(|key| &*key.name)
    }

    fn add(&mut self, name: &str, target: Target) {
        match self.find(name) {
            Some(key) => self.keys[key].targets.push(target),
            None => {
                self.by_name.insert(name.into(), self.keys.len());
                self.keys.push(Key { name: name.into(), targets: vec![target] });
            }
        }
    }
}

/// A value as a format writes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// true or false.
    Boolean(bool),
    /// A whole number that fits, and how it was written.
    Integer(i64, &'a str),
    /// Any other number, and how it was written.
    Float(f64, &'a str),
    /// A text that the format marks as such.
    Text(&'a str),
    /// A text that the format does not type (a CSV cell): the column decides.
    Cell(&'a str),
    /// An object or array, as it was written.
    Nested(&'a str),
}

/// An event being decoded. Dropped without [`Row::finish`] it must be rolled back by the caller.
#[derive(Debug)]
pub struct Row<'a> {
    mapping: &'a Mapping,
    out: &'a mut EventBuilder,
    extra: &'a mut String,
    has_tag: bool,
    has_field: bool,
    has_id: bool,
}

impl<'a> Row<'a> {
    /// Begins an event. `extra` is scratch space that the decoder keeps.
    pub fn begin(
        mapping: &'a Mapping,
        envelope: &Envelope<'_>,
        out: &'a mut EventBuilder,
        extra: &'a mut String,
    ) -> Self {
        extra.clear();
        mapping.tags.iter().for_each(|(tag, text)| out.tag(*tag, text));
        envelope.tags.iter().for_each(|(tag, text)| out.tag(*tag, text));
        let has_tag = !(mapping.tags.is_empty() && envelope.tags.is_empty());
        Self { mapping, out, extra, has_tag, has_field: false, has_id: false }
    }

    /// Sets what the key fills.
    #[inline]
    pub fn set(&mut self, key: usize, value: Value<'_>) -> Result<(), String> {
        let mapping = self.mapping;
        if matches!(value, Value::Null) {
            return Ok(());
        }
        for target in &mapping.keys[key].targets {
            self.apply(*target, value).map_err(|what| format!("`{}` {what}", mapping.keys[key].name))?;
        }
        Ok(())
    }

    /// Sets a tag that is known to be text.
    #[inline]
    pub(super) fn put_tag(&mut self, tag: usize, text: &str) {
        self.out.tag(tag, text);
        self.has_tag = true;
    }

    /// Sets a text field.
    #[inline]
    pub(super) fn put_string(&mut self, field: usize, text: &str) {
        self.out.string(field, text);
        self.has_field = true;
    }

    /// Sets a float field.
    #[inline]
    pub(super) fn put_float(&mut self, field: usize, value: f64) {
        self.out.float(field, value);
        self.has_field = true;
    }

    /// Sets an integer field.
    #[inline]
    pub(super) fn put_integer(&mut self, field: usize, value: i64) {
        self.out.integer(field, value);
        self.has_field = true;
    }

    /// Sets the time, if the number is one.
    #[inline]
    pub(super) fn put_time(&mut self, number: i64) -> Option<()> {
        self.out.time(self.mapping.time.as_ref()?.integer(number).ok()?);
        Some(())
    }

    /// Takes a key that the schema does not name; `write` appends `"key":value` as JSON.
    pub fn unknown(&mut self, name: &str, write: impl FnOnce(&mut String)) -> Result<(), String> {
        match self.mapping.layout.config.unknown {
            Unknown::Ignore => {}
            Unknown::Keep => {
                self.extra.push(if self.extra.is_empty() { '{' } else { ',' });
                write(self.extra);
            }
            Unknown::Reject => return Err(ConfigError::unknown("", "key", name, self.mapping.names()).message),
        }
        Ok(())
    }

    /// Sets the time directly, for formats that have a place of their own for it.
    pub fn time(&mut self, nanos: i64) {
        self.out.time(nanos);
    }

    /// Ends the event, or says why it is none.
    pub fn finish(self, envelope: &Envelope<'_>, line: u64, element: u64) -> Result<(), String> {
        let config = &self.mapping.layout.config;
        if !self.has_field {
            return Err(format!("no field of the schema; expected at least one of {}", list(config.fields.keys())));
        }
        if !self.has_tag && !config.series.is_empty() {
            return Err(format!("no tag of the series; expected {}", list(config.series.iter())));
        }
        if self.mapping.needs_time && !self.out.has_time() {
            return Err(format!("no time; expected it in `{}`", self.mapping.time_key));
        }
        if !self.extra.is_empty() {
            self.extra.push('}');
            self.out.extra(self.extra);
        }
        if let (Some(id), false, Some(_)) = (envelope.event_id, self.has_id, &config.event_id) {
            match element {
                0 => self.out.event_id(&format!("{id}/{line}")),
                element => self.out.event_id(&format!("{id}/{line}.{element}")),
            }
        }
        self.out.finish_row(envelope.arrival);
        Ok(())
    }

    #[inline]
    fn apply(&mut self, target: Target, value: Value<'_>) -> Result<(), String> {
        match target {
            Target::Field(field, kind) => {
                match kind {
                    FieldType::Float => self.out.float(field, float(value)?),
                    FieldType::Integer => self.out.integer(field, integer(value)?),
                    FieldType::String => self.out.string(field, text(value)?),
                    FieldType::Boolean => self.out.boolean(field, boolean(value)?),
                }
                self.has_field = true;
            }
            Target::Tag(tag) => {
                self.out.tag(tag, text(value)?);
                self.has_tag = true;
            }
            Target::Time => {
                let nanos = self.read_time(value)?;
                self.out.time(nanos);
            }
            Target::EventId => {
                self.out.event_id(text(value)?);
                self.has_id = true;
            }
        }
        Ok(())
    }

    fn read_time(&self, value: Value<'_>) -> Result<i64, String> {
        let Some(reader) = &self.mapping.time else { return Err("is no time here".into()) };
        let read = match value {
            Value::Integer(number, _) => reader.integer(number),
            Value::Float(number, _) => reader.float(number),
            Value::Text(text) | Value::Cell(text) => reader.text(text),
            other => return Err(format!("is {}, expected a time", kind(other))),
        };
        read.map_err(|error| format!("is {}: {error}", shown(value)))
    }
}

#[inline]
fn float(value: Value<'_>) -> Result<f64, String> {
    match value {
        Value::Float(number, _) => Ok(number),
        Value::Integer(number, _) => Ok(number as f64),
        Value::Cell(text) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(format!("is {}, expected a number", shown(value))),
        },
        other => Err(format!("is {}, expected a number", kind(other))),
    }
}

#[inline]
fn integer(value: Value<'_>) -> Result<i64, String> {
    match value {
        Value::Integer(number, _) => Ok(number),
        Value::Float(number, _) => whole(number, value),
        Value::Cell(text) => match text.trim().parse::<i64>() {
            Ok(number) => Ok(number),
            Err(_) => match text.trim().parse::<f64>() {
                Ok(number) if number.is_finite() => whole(number, value),
                _ => Err(format!("is {}, expected a whole number", shown(value))),
            },
        },
        other => Err(format!("is {}, expected a whole number", kind(other))),
    }
}

fn whole(number: f64, value: Value<'_>) -> Result<i64, String> {
    if number.fract() != 0.0 {
        Err(format!("is {}, expected a whole number", shown(value)))
    } else if number.abs() > EXACT {
        Err(format!("is {}, more than 64 bits hold exactly", shown(value)))
    } else {
        Ok(number as i64)
    }
}

#[inline]
fn text(value: Value<'_>) -> Result<&str, String> {
    match value {
        Value::Text(text) | Value::Cell(text) | Value::Integer(_, text) | Value::Float(_, text) => Ok(text),
        Value::Boolean(true) => Ok("true"),
        Value::Boolean(false) => Ok("false"),
        other => Err(format!("is {}, expected text", kind(other))),
    }
}

fn boolean(value: Value<'_>) -> Result<bool, String> {
    match value {
        Value::Boolean(value) => Ok(value),
        Value::Cell(text) => match text.trim() {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(true),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(false),
            _ => Err(format!("is {}, expected true or false", shown(value))),
        },
        other => Err(format!("is {}, expected true or false", kind(other))),
    }
}

/// What the value is, in words.
fn kind(value: Value<'_>) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Boolean(_) => "true or false",
        Value::Integer(..) | Value::Float(..) => "a number",
        Value::Text(_) | Value::Cell(_) => "text",
        Value::Nested(raw) if raw.starts_with('[') => "an array",
        Value::Nested(_) => "an object",
    }
}

/// The value as it was written, short enough for a message.
fn shown(value: Value<'_>) -> String {
    const LONGEST: usize = 40;
    let text = text(value).unwrap_or_default();
    let cut: String = text.chars().take(LONGEST).collect();
    if cut.len() < text.len() { format!("`{cut}…`") } else { format!("`{cut}`") }
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    const MOST: usize = 8;
    let mut names: Vec<String> = names.take(MOST + 1).map(|name| format!("`{name}`")).collect();
    if names.len() > MOST {
        names[MOST] = "…".into();
    }
    names.join(", ")
}
