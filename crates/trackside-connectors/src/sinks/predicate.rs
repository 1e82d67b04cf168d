//! `where`: which rows a sink takes. Columns, comparisons, and `and` between them; no more, so that it reads at a glance.
//!
//! ```
//! use trackside_connectors::sinks::predicate::Predicate;
//!
//! let rows = trackside_core::testing::events(&[(1, "pump", 2.5), (2, "pump", 9.0), (3, "fan", 9.5)]);
//! let hot = Predicate::parse("device = 'pump' and value > 3")?;
//! assert_eq!(hot.rows(&rows)?, [1]);
//! # Ok::<(), trackside_core::error::ConfigError>(())
//! ```
//!
//! A boolean column stands for itself (`anomaly`, `not ready`). Null matches nothing, NaN is null.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, UInt8Type, UInt16Type, UInt32Type,
};
use std::cmp::Ordering;
use trackside_core::batch::tag_value;
use trackside_core::error::ConfigError;

const KEY: &str = "where";
const EXAMPLE: &str = "write for example `anomaly`, `score > 3` or `sensor = 'temp' and value >= 80`";

/// A condition on rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicate {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq)]
struct Term {
    column: String,
    compare: Compare,
    value: Literal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl Predicate {
    /// Reads a condition.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut words = Words { rest: text, text };
        let mut terms = vec![words.term()?];
        while let Some(word) = words.next()? {
            match word {
                Word::Name(name) if name.eq_ignore_ascii_case("and") => terms.push(words.term()?),
                Word::Name(name) if name.eq_ignore_ascii_case("or") => {
                    return Err(words.wrong("`or` is not understood").with_help("write two sinks, one for each side"));
                }
                other => return Err(words.wrong(format!("expected `and` or the end, found {other}"))),
            }
        }
        Ok(Self { terms })
    }

    /// Checks that the columns are there and fit what they are compared with.
    pub fn check(&self, schema: &Schema) -> Result<(), ConfigError> {
        self.terms.iter().try_for_each(|term| term.check(schema))
    }

    /// Numbers of the rows that match, in order.
    pub fn rows(&self, batch: &RecordBatch) -> Result<Vec<usize>, ConfigError> {
        self.check(batch.schema_ref())?;
        let mut rows: Vec<usize> = (0..batch.num_rows()).collect();
        for term in &self.terms {
            if let Some(column) = batch.column_by_name(&term.column) {
                rows.retain(|row| column.is_valid(*row) && term.compare.holds(order(column, *row, &term.value)));
            }
        }
        Ok(rows)
    }
}

impl Term {
    fn check(&self, schema: &Schema) -> Result<(), ConfigError> {
        let Some((_, field)) = schema.column_with_name(&self.column) else {
            let columns = schema.fields().iter().map(|field| field.name().as_str());
            return Err(ConfigError::unknown(KEY, "column", &self.column, columns));
        };
        let (kind, fits) = match field.data_type() {
            DataType::Boolean => ("boolean", matches!(self.value, Literal::Boolean(_))),
            DataType::Utf8 | DataType::Dictionary(..) => ("text", matches!(self.value, Literal::Text(_))),
            kind if kind.is_numeric() => ("a number", matches!(self.value, Literal::Integer(_) | Literal::Float(_))),
            kind => {
                let message = format!("column `{}` is {kind}, which `where` cannot compare", self.column);
                return Err(ConfigError::new(KEY, message).with_help("compare numbers, texts and booleans"));
            }
        };
        if fits {
            return Ok(());
        }
        Err(ConfigError::new(KEY, format!("column `{}` is {kind} and cannot be compared in this way", self.column))
            .with_help(match kind {
                "boolean" => format!("write `{0}` or `not {0}`", self.column),
                "text" => format!("write `{} = '…'`, the text in single quotes", self.column),
                _ => format!("write `{} > 3`, the number without quotes", self.column),
            }))
    }
}

impl Compare {
    fn of(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "=" | "==" => Self::Equal,
            "!=" | "<>" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::AtMost,
            ">" => Self::Greater,
            ">=" => Self::AtLeast,
            _ => return None,
        })
    }

    fn holds(self, order: Option<Ordering>) -> bool {
        order.is_some_and(|order| match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        })
    }
}

/// How the value in a row stands to the literal; none where they cannot be compared (NaN).
fn order(column: &ArrayRef, row: usize, literal: &Literal) -> Option<Ordering> {
    match literal {
        Literal::Boolean(value) => column.as_boolean_opt().map(|column| column.value(row).cmp(value)),
        Literal::Text(text) => match column.as_dictionary_opt::<Int32Type>() {
            Some(tags) => tag_value(tags, tags.values().as_string_opt::<i32>()?, row).map(|tag| tag.cmp(text.as_str())),
            None => column.as_string_opt::<i32>().map(|column| column.value(row).cmp(text.as_str())),
        },
        // Whole numbers are compared as such: a float holds them only to 2^53.
        Literal::Integer(value) => match integer(column, row) {
            Some(integer) => Some(integer.cmp(value)),
            None => column.as_primitive_opt::<Float64Type>()?.value(row).partial_cmp(&(*value as f64)),
        },
        Literal::Float(value) => {
            let float = column.as_primitive_opt::<Float64Type>().map(|column| column.value(row));
            float.or_else(|| integer(column, row).map(|integer| integer as f64))?.partial_cmp(value)
        }
    }
}

fn integer(column: &ArrayRef, row: usize) -> Option<i64> {
    macro_rules! first_of {
        ($($kind:ty),*) => {
            $(if let Some(column) = column.as_primitive_opt::<$kind>() {
                return Some(column.value(row).into());
            })*
        };
    }
    first_of!(Int64Type, Int32Type, UInt16Type, Int16Type, Int8Type, UInt8Type, UInt32Type);
    None
}

/// The words of a condition.
struct Words<'a> {
    rest: &'a str,
    text: &'a str,
}

#[derive(Debug, PartialEq)]
enum Word<'a> {
    Name(&'a str),
    Symbol(&'a str),
    Literal(Literal),
}

impl<'a> Words<'a> {
    fn term(&mut self) -> Result<Term, ConfigError> {
        let term = |column: &str, compare, value| Ok(Term { column: column.to_owned(), compare, value });
        let column = match self.next()? {
            Some(Word::Name(not)) if not.eq_ignore_ascii_case("not") => {
                return match self.next()? {
                    Some(Word::Name(name)) => term(name, Compare::Equal, Literal::Boolean(false)),
                    _ => Err(self.wrong("expected a boolean column after `not`")),
                };
            }
            Some(Word::Name(name)) => name,
            Some(other) => return Err(self.wrong(format!("expected a column, found {other}"))),
            None => return Err(self.wrong("expected a column, found the end")),
        };
        let ahead = self.rest;
        let Some(Word::Symbol(symbol)) = self.next()? else {
            self.rest = ahead;
            return term(column, Compare::Equal, Literal::Boolean(true));
        };
        let compare = Compare::of(symbol).ok_or_else(|| self.wrong(format!("`{symbol}` does not compare")))?;
        match self.next()? {
            Some(Word::Literal(value)) => term(column, compare, value),
            Some(Word::Name(name)) if name.eq_ignore_ascii_case("true") => {
                term(column, compare, Literal::Boolean(true))
            }
            Some(Word::Name(name)) if name.eq_ignore_ascii_case("false") => {
                term(column, compare, Literal::Boolean(false))
            }
            Some(Word::Name(name)) => Err(self
                .wrong(format!("`{name}` is neither a number nor a text"))
                .with_help(format!("a text stands in single quotes: `{column} {symbol} '{name}'`"))),
            _ => Err(self.wrong(format!("expected a value after `{column} {symbol}`"))),
        }
    }

    fn next(&mut self) -> Result<Option<Word<'a>>, ConfigError> {
        let rest = self.rest.trim_start();
        let Some(first) = rest.chars().next() else {
            self.rest = rest;
            return Ok(None);
        };
        let length = |accepts: &dyn Fn(char) -> bool| rest.find(|c| !accepts(c)).unwrap_or(rest.len());
        let symbol = |c: char| "=!<>".contains(c);
        let name = |c: char| c.is_alphanumeric() || "_.+-/%°".contains(c);
        if first == '\'' {
            return self.quoted(&rest[1..]).map(|text| Some(Word::Literal(Literal::Text(text))));
        }
        if first == '"' {
            // As in SQL: double quotes for a column whose name is no word.
            let close = rest[1..].find('"').ok_or_else(|| self.wrong("a double quote is not closed"))?;
            self.rest = &rest[close + 2..];
            return Ok(Some(Word::Name(&rest[1..=close])));
        }
        let length = if symbol(first) { length(&symbol) } else { length(&name) };
        if length == 0 {
            return Err(self.wrong(format!("`{first}` is not understood")));
        }
        let (word, rest) = rest.split_at(length);
        self.rest = rest;
        let number = word.parse().map(Literal::Integer).or_else(|_| match word.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Literal::Float(number)),
            _ => Err(()),
        });
        Ok(Some(match number {
            Ok(number) => Word::Literal(number),
            Err(()) if symbol(first) => Word::Symbol(word),
            Err(()) => Word::Name(word),
        }))
    }

    /// A text up to its closing quote; two quotes stand for one.
    fn quoted(&mut self, rest: &'a str) -> Result<String, ConfigError> {
        let mut text = String::new();
        let mut from = rest;
        loop {
            let close = from.find('\'').ok_or_else(|| self.wrong("a single quote is not closed"))?;
            text.push_str(&from[..close]);
            from = &from[close + 1..];
            match from.strip_prefix('\'') {
                Some(after) => {
                    text.push('\'');
                    from = after;
                }
                None => {
                    self.rest = from;
                    return Ok(text);
                }
            }
        }
    }

    fn wrong(&self, what: impl std::fmt::Display) -> ConfigError {
        ConfigError::new(KEY, format!("`{}`: {what}", self.text)).with_help(EXAMPLE)
    }
}

impl std::fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(word) | Self::Symbol(word) => write!(f, "`{word}`"),
            Self::Literal(Literal::Text(text)) => write!(f, "the text '{text}'"),
            Self::Literal(Literal::Integer(number)) => write!(f, "the number {number}"),
            Self::Literal(Literal::Float(number)) => write!(f, "the number {number}"),
            Self::Literal(Literal::Boolean(value)) => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Int64Array, RecordBatch, UInt16Array};
    use std::sync::Arc;
    use trackside_core::testing::events;

    fn batch() -> RecordBatch {
        let rows = events(&[(1, "pump", 2.5), (2, "it's", f64::NAN), (3, "fan", -9.5)]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("device", rows.column(1).clone()),
            ("value", rows.column(2).clone()),
            ("anomaly", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("count", Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX - 1, 0]))),
            ("value_quality", Arc::new(UInt16Array::from(vec![0, 2, 66]))),
            ("time", rows.column(0).clone()),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn rows_are_found() {
        let cases: [(&str, &[usize]); 14] = [
            ("anomaly", &[0]),
            ("not anomaly", &[2]),
            ("anomaly = false", &[2]),
            ("value > 0", &[0]),
            ("value != 0", &[0, 2]),
            ("value<=-9.5", &[2]),
            ("value >= -1e3 AND anomaly", &[0]),
            ("device = 'it''s'", &[1]),
            ("\"device\" <> 'fan'", &[0, 1]),
            ("count = 9223372036854775806", &[1]),
            ("count < 0.5", &[2]),
            ("value_quality > 0", &[1, 2]),
            ("value_quality == 2 and device = 'it''s'", &[1]),
            ("device > 'g' and device < 'o'", &[1]),
        ];
        for (text, rows) in cases {
            assert_eq!(Predicate::parse(text).unwrap().rows(&batch()).unwrap(), rows, "{text}");
        }
    }

    #[test]
    fn errors_teach() {
        let cases = [
            ("", "expected a column, found the end"),
            ("anomaly or value > 3", "`or` is not understood"),
            ("value > pump", "`pump` is neither a number nor a text"),
            ("value >", "expected a value after `value >`"),
            ("value => 3", "`=>` does not compare"),
            ("value > 'x", "not closed"),
            ("3 > value", "expected a column, found the number 3"),
            ("(value > 3)", "`(` is not understood"),
            ("anomaly ready", "expected `and` or the end, found `ready`"),
        ];
        for (text, words) in cases {
            let error = Predicate::parse(text).unwrap_err();
            assert!(error.message.contains(words) && !error.help.is_empty(), "{text}: {error}");
        }
        let cases = [
            ("anomally", "did you mean `anomaly`?"),
            ("value = 'hot'", "cannot be compared in this way"),
            ("device = 3", "cannot be compared in this way"),
            ("value", "cannot be compared in this way"),
            ("time > 3", "which `where` cannot compare"),
        ];
        for (text, words) in cases {
            let error = Predicate::parse(text).unwrap().rows(&batch()).unwrap_err();
            assert!(error.message.contains(words), "{text}: {error}");
        }
    }
}
