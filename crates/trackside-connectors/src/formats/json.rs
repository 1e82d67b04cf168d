//! JSON: one object is one event. NDJSON for streams, single objects and arrays for messages.
//!
//! The parser writes straight into columns. It expects lines of the shape of those before (`json_template.rs`), else
//! the keys in their order; any other shape and order is as right, only slower. Strictness is RFC 8259's: what a careful
//! JSON library rejects is a dead letter here, with the byte at which it went wrong. Of a key given twice the last
//! counts. Unknown keys are kept as they were written.
//!
//! ```text
//! {"ts":1700000000000,"device":"pump-1","sensor":"temp","value":21.5}      one event
//! [{"device":"pump-1","value":1},{"device":"pump-2","value":2}]            two, also on one line
//! ```

use super::json_scan::{Cursor, SyntaxError};
use super::json_template::Template;
use super::mapping::{Mapping, Row};
use super::{Decoder, Envelope, Place, reject};
use hashbrown::HashMap;
use std::sync::Arc;
use trackside_core::builder::EventBuilder;
use trackside_core::dead_letter::DeadLetter;

/// Keys whose place in the line is remembered.
const MAX_ORDER: usize = 512;
const UNSEEN: usize = usize::MAX;

/// The decoder.
#[derive(Debug)]
pub struct Json {
    mapping: Arc<Mapping>,
    template: Template,
    shape: Shape,
    scratch: Scratch,
}

/// Space that is used again for each event.
#[derive(Debug, Default)]
struct Scratch {
    key: String,
    value: String,
    extra: String,
}

/// What the lines before looked like.
#[derive(Debug)]
struct Shape {
    /// By key number, `"key":` as most devices write it.
    literals: Vec<String>,
    /// By place in the line, the key that stood there last.
    order: Vec<usize>,
    /// Of the last object, where in the text each key begins (with what stands before it) and its value.
    gaps: Vec<(usize, usize)>,
    /// By key number, the event in which it was seen last.
    seen: Vec<u64>,
    event: u64,
}

/// Why an object is no event.
enum Bad {
    Syntax(SyntaxError),
    /// Well-formed, but does not fit the schema.
    Event(String),
    /// A key twice, or a value that does not fit and may yet be overridden: look again with care.
    Unsure,
}

impl From<SyntaxError> for Bad {
    fn from(error: SyntaxError) -> Self {
        Self::Syntax(error)
    }
}

/// Where events and rejects of one call go.
struct Target<'a> {
    envelope: &'a Envelope<'a>,
    out: &'a mut EventBuilder,
    dead: &'a mut Vec<DeadLetter>,
}

impl Json {
    /// A decoder for one source.
    pub fn new(mapping: impl Into<Arc<Mapping>>) -> Self {
        let mapping = mapping.into();
        // Names are plain text; `Value::String` writes them as JSON does.
        let literals: Vec<String> = mapping.names().map(|name| format!("{}:", serde_json::Value::from(name))).collect();
        let seen = vec![0; literals.len()];
        let shape = Shape { literals, order: Vec::new(), gaps: Vec::new(), seen, event: 0 };
        Self { mapping, template: Template::default(), shape, scratch: Scratch::default() }
    }

    /// Decodes one message: an object or array, however it is broken into lines, or NDJSON.
    pub fn decode_message(
        &mut self,
        bytes: &[u8],
        envelope: &Envelope<'_>,
        out: &mut EventBuilder,
        dead: &mut Vec<DeadLetter>,
    ) {
        match std::str::from_utf8(bytes) {
            Ok(text) if self.spans_lines(text) => {
                let target = &mut Target { envelope, out, dead };
                let line = envelope.first_line;
                self.record(text, line, target);
            }
            _ => self.decode(bytes, envelope, out, dead),
        }
    }

    /// Whether the text is one value over several lines rather than a value a line.
    fn spans_lines(&mut self, text: &str) -> bool {
        let text = text.trim_matches(SPACE);
        let Some(end) = memchr::memchr(b'\n', text.as_bytes()) else { return false };
        let mut whole = |text: &str| {
            let mut cursor = Cursor::new(text);
            cursor.space();
            cursor.skip(0, &mut self.scratch.value).is_ok() && {
                cursor.space();
                cursor.at_end()
            }
        };
        // An array that is broken somewhere is still one array: its good elements are kept.
        !whole(&text[..end]) && (text.starts_with('[') || whole(text))
    }

    /// One value that fills the text.
    fn record(&mut self, text: &str, line: u64, target: &mut Target<'_>) {
        let mut cursor = Cursor::new(text);
        cursor.space();
        if cursor.at_end() {
            return;
        }
        let (start, place) = (cursor.at, Place { line, element: 0 });
        if cursor.peek() == b'[' {
            return self.array(&mut cursor, place, target);
        }
        let done = self.event(&mut cursor, place, true, target);
        if let Err(bad) = done {
            self.reject(bad, text[start..].trim_end_matches(SPACE).as_bytes(), start, place, target);
        }
    }

    /// An array of objects: each element is a record of its own. Behind a syntax error nothing can be told apart, so
    /// the rest is one dead letter.
    fn array(&mut self, cursor: &mut Cursor<'_>, mut place: Place, target: &mut Target<'_>) {
        let text = cursor.text;
        cursor.at += 1;
        cursor.space();
        let mut more = !cursor.take(b']');
        while more {
            place.element += 1;
            cursor.space();
            let start = cursor.at;
            match self.event(cursor, place, false, target) {
                Ok(()) => {}
                Err(Bad::Syntax(error)) => {
                    return self.reject(Bad::Syntax(error), &text.as_bytes()[start..], start, place, target);
                }
                Err(bad) => {
                    cursor.at = start;
                    if let Err(error) = cursor.skip(1, &mut self.scratch.value) {
                        return self.reject(error.into(), &text.as_bytes()[start..], start, place, target);
                    }
                    self.reject(bad, &text.as_bytes()[start..cursor.at], start, place, target);
                }
            }
            cursor.space();
            more = !cursor.take(b']');
            let at = cursor.at;
            if more && let Err(error) = cursor.expect(b',', "expected `,` or `]`") {
                place.element += 1;
                return self.reject(error.into(), &text.as_bytes()[at..], at, place, target);
            }
        }
        cursor.space();
        if !cursor.at_end() {
            let error = SyntaxError { what: "something behind the array", at: cursor.at };
            place.element += 1;
            self.reject(error.into(), &text.as_bytes()[cursor.at..], cursor.at, place, target);
        }
    }

    fn reject(&mut self, bad: Bad, record: &[u8], start: usize, place: Place, target: &mut Target<'_>) {
        let reason = match bad {
            Bad::Syntax(error) => error.reason(start),
            Bad::Event(reason) => reason,
            Bad::Unsure => "not an event".into(),
        };
        let place = (target.envelope.first_line > 0).then_some(place);
        target.dead.push(reject(self.mapping.component(), reason, record, place));
    }

    /// One object becomes one row, or leaves no trace. `alone`: nothing may follow it in the text.
    fn event(
        &mut self,
        cursor: &mut Cursor<'_>,
        place: Place,
        alone: bool,
        target: &mut Target<'_>,
    ) -> Result<(), Bad> {
        let start = cursor.at;
        if self.template.is_ready() && self.try_template(cursor, place, alone, target) {
            return Ok(());
        }
        match self.try_event(cursor, place, alone, target, false) {
            Err(Bad::Unsure) => {
                cursor.at = start;
                self.try_event(cursor, place, alone, target, true)
            }
            done => done,
        }
    }

    /// The quick way; false leaves no trace.
    #[inline]
    fn try_template(&mut self, cursor: &mut Cursor<'_>, place: Place, alone: bool, target: &mut Target<'_>) -> bool {
        let start = cursor.at;
        let mut row = Row::begin(&self.mapping, target.envelope, target.out, &mut self.scratch.extra);
        let fits = self.template.read(cursor, &mut row)
            && (!alone || cursor.at_end())
            && row.finish(target.envelope, place.line, place.element).is_ok();
        if !fits {
            target.out.rollback();
            cursor.at = start;
        }
        fits
    }

    fn try_event(
        &mut self,
        cursor: &mut Cursor<'_>,
        place: Place,
        alone: bool,
        target: &mut Target<'_>,
        careful: bool,
    ) -> Result<(), Bad> {
        let Scratch { key, value, extra } = &mut self.scratch;
        let mut row = Row::begin(&self.mapping, target.envelope, target.out, extra);
        let done = if careful {
            last_wins(cursor, &mut row, &self.mapping, key, value)
        } else {
            self.shape.object(cursor, &mut row, &self.mapping, key, value)
        };
        if done.is_ok() && !careful && self.template.is_wanted() {
            let Shape { order, gaps, .. } = &self.shape;
            self.template.learn(cursor, order, gaps, &self.mapping);
        }
        let done = done.and_then(|()| {
            if alone {
                cursor.space();
                if !cursor.at_end() {
                    return Err(Bad::Syntax(SyntaxError { what: "something behind the object", at: cursor.at }));
                }
            }
            row.finish(target.envelope, place.line, place.element).map_err(Bad::Event)
        });
        if done.is_err() {
            target.out.rollback();
        }
        done
    }
}

const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

impl Shape {
    /// The usual way through an object: each key once, in the order of the object before.
    #[inline]
    fn object(
        &mut self,
        cursor: &mut Cursor<'_>,
        row: &mut Row<'_>,
        mapping: &Mapping,
        key_scratch: &mut String,
        scratch: &mut String,
    ) -> Result<(), Bad> {
        if !cursor.take(b'{') {
            return not_an_object(cursor, scratch);
        }
        self.event += 1;
        self.gaps.clear();
        let mut gap = cursor.at - 1;
        cursor.space();
        if cursor.take(b'}') {
            return Ok(());
        }
        for place in 0.. {
            cursor.space();
            let start = cursor.at;
            match self.key(cursor, place, mapping, key_scratch)? {
                (UNSEEN, end) => {
                    self.gaps.push((gap, cursor.at));
                    let key = &cursor.text[start..end];
                    let value = raw_value(cursor, scratch)?;
                    keep(row, key, value)?;
                }
                (key, _) => {
                    if std::mem::replace(&mut self.seen[key], self.event) == self.event {
                        return Err(Bad::Unsure);
                    }
                    cursor.space();
                    self.gaps.push((gap, cursor.at));
                    let value = cursor.value(scratch)?;
                    row.set(key, value).map_err(|_| Bad::Unsure)?;
                }
            }
            gap = cursor.at;
            cursor.space();
            if cursor.take(b'}') {
                self.gaps.push((gap, cursor.at));
                break;
            }
            cursor.expect(b',', "expected `,` or `}`")?;
        }
        Ok(())
    }

    /// The next key, its colon included, and where its text ends; [`UNSEEN`] when the schema does not name it.
    #[inline]
    fn key(
        &mut self,
        cursor: &mut Cursor<'_>,
        place: usize,
        mapping: &Mapping,
        scratch: &mut String,
    ) -> Result<(usize, usize), SyntaxError> {
        if let Some(literal) = self.order.get(place).and_then(|key| self.literals.get(*key))
            && cursor.take_literal(literal)
        {
            return Ok((self.order[place], cursor.at));
        }
        let token = cursor.string(scratch)?;
        let end = cursor.at;
        let key = mapping.find(token.text(scratch)).unwrap_or(UNSEEN);
        if place < MAX_ORDER {
            if self.order.len() <= place {
                self.order.resize(place + 1, UNSEEN);
            }
            self.order[place] = key;
        }
        cursor.space();
        cursor.expect(b':', "expected `:`")?;
        Ok((key, end))
    }
}

/// The careful way: collects the whole object first, so that of each key only the last value is looked at.
#[cold]
fn last_wins(
    cursor: &mut Cursor<'_>,
    row: &mut Row<'_>,
    mapping: &Mapping,
    key_scratch: &mut String,
    scratch: &mut String,
) -> Result<(), Bad> {
    let text = cursor.text;
    cursor.expect(b'{', "expected an object")?;
    let mut pairs: Vec<(String, &str, &str)> = Vec::new();
    cursor.space();
    while !cursor.take(b'}') {
        if !pairs.is_empty() {
            cursor.expect(b',', "expected `,` or `}`")?;
            cursor.space();
        }
        let start = cursor.at;
        let name = cursor.string(key_scratch)?.text(key_scratch).to_owned();
        let key = &text[start..cursor.at];
        cursor.space();
        cursor.expect(b':', "expected `:`")?;
        let value = raw_value(cursor, scratch)?;
        pairs.push((name, key, value));
        cursor.space();
    }
    let last: HashMap<&str, usize> = pairs.iter().enumerate().map(|(at, (name, ..))| (name.as_str(), at)).collect();
    for (at, (name, key, value)) in pairs.iter().enumerate() {
        if last[name.as_str()] == at {
            match mapping.find(name) {
                Some(number) => {
                    row.set(number, Cursor::new(value).value(scratch)?).map_err(Bad::Event)?;
                }
                None => keep(row, key, value)?,
            }
        }
    }
    Ok(())
}

/// The next value as it was written.
fn raw_value<'a>(cursor: &mut Cursor<'a>, scratch: &mut String) -> Result<&'a str, SyntaxError> {
    cursor.space();
    let start = cursor.at;
    cursor.skip(1, scratch)?;
    Ok(&cursor.text[start..cursor.at])
}

/// A key that the schema does not name; `key` still has its quotes.
fn keep(row: &mut Row<'_>, key: &str, value: &str) -> Result<(), Bad> {
    let write = |extra: &mut String| {
        extra.push_str(key);
        extra.push(':');
        extra.push_str(value);
    };
    row.unknown(key.trim_matches('"'), write).map_err(Bad::Event)
}

/// Well-formed JSON that is no object is told apart from garbage.
#[cold]
fn not_an_object(cursor: &mut Cursor<'_>, scratch: &mut String) -> Result<(), Bad> {
    let start = cursor.peek();
    cursor.skip(1, scratch)?;
    let what = match start {
        b'[' => "an array",
        b'"' => "a text",
        b'n' => "null",
        b't' | b'f' => "true or false",
        _ => "a number",
    };
    Err(Bad::Event(format!("the event is {what}, expected an object")))
}

impl Decoder for Json {
    fn decode(&mut self, bytes: &[u8], envelope: &Envelope<'_>, out: &mut EventBuilder, dead: &mut Vec<DeadLetter>) {
        let mut target = Target { envelope, out, dead };
        // Checked at once for all lines where possible: that runs at memory speed.
        let whole = std::str::from_utf8(bytes).ok();
        let (mut start, mut line) = (0, envelope.first_line);
        while start < bytes.len() {
            let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |at| start + at);
            match whole.map_or_else(|| std::str::from_utf8(&bytes[start..end]), |text| Ok(&text[start..end])) {
                Ok(text) => self.record(text, line, &mut target),
                Err(error) => {
                    let reason = format!("not UTF-8 at byte {}", error.valid_up_to() + 1);
                    let place = Place { line, element: 0 };
                    self.reject(Bad::Event(reason), &bytes[start..end], 0, place, &mut target);
                }
            }
            (start, line) = (end + 1, line + 1);
        }
    }
}
