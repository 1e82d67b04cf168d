//! A pipeline file as JSON values that remember where they stood.
//!
//! Components read their configuration from JSON and name an error's place as a path (`limits.temp[0]`);
//! [`Document::place`] turns the path back into line and column.

use serde_json::{Map, Value};
use std::collections::HashMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text, its values, and where each of them stands.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(super) text: String,
    /// The whole file.
    pub(crate) root: Map<String, Value>,
    spans: HashMap<String, Range<usize>>,
}

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Document {
    /// Reads TOML; an error is its message and place.
    pub(crate) fn parse(text: &str) -> Result<Self, (String, Place)> {
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            (error.message().to_owned(), place(text, at))
        })?;
        let mut spans = HashMap::new();
        let root = table_json(table.get_ref(), "", &mut spans);
        Ok(Self { text: text.to_owned(), root, spans })
    }

    /// Where a path stands; for a path that is not in the file, where its nearest parent does.
    pub(crate) fn place(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(span) = self.spans.get(path) {
                return place(&self.text, span.start);
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return Place { line: 1, column: 1 },
            }
        }
    }

    /// The line of the text, for showing it.
    pub(crate) fn line(&self, place: Place) -> &str {
        self.text.lines().nth(place.line - 1).unwrap_or_default()
    }
}

fn place(text: &str, at: usize) -> Place {
    let before = &text[..at.min(text.len())];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place { line: before.matches('\n').count() + 1, column: before[start..].chars().count() + 1 }
}

fn table_json(table: &DeTable<'_>, path: &str, spans: &mut HashMap<String, Range<usize>>) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, value) in table {
        let child = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
        // An unknown key is best shown at the key; a wrong value, one line up at worst, too.
        spans.insert(child.clone(), key.span());
        map.insert(key.get_ref().to_string(), value_json(value, &child, spans));
    }
    map
}

fn value_json(value: &Spanned<DeValue<'_>>, path: &str, spans: &mut HashMap<String, Range<usize>>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Datetime(datetime) => Value::String(datetime.to_string()),
        DeValue::Array(array) => {
            let item = |(index, item): (usize, &Spanned<DeValue<'_>>)| {
                let child = format!("{path}[{index}]");
                spans.insert(child.clone(), item.span());
                value_json(item, &child, spans)
            };
            Value::Array(array.iter().enumerate().map(item).collect())
        }
        DeValue::Table(table) => Value::Object(table_json(table, path, spans)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_again_by_their_path() {
        let document =
            Document::parse("[pipeline]\nname = \"x\"\n\n[[clean]]\ntype = \"range\"\nlimits = { temp = [1, 2] }\n")
                .unwrap();
        assert_eq!(document.place("clean[0].limits.temp[1]"), Place { line: 6, column: 23 });
        assert_eq!(document.place("clean[0].limits.temp[9].x"), Place { line: 6, column: 12 });
        assert_eq!(document.place("nothing"), Place { line: 1, column: 1 });
        assert_eq!(document.line(Place { line: 2, column: 1 }), "name = \"x\"");
    }

    #[test]
    fn broken_toml_has_a_place() {
        let (_, place) = Document::parse("a = 1\nb = = 2\n").unwrap_err();
        assert_eq!(place.line, 2);
    }
}
