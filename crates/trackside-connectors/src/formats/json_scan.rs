//! A strict scanner for JSON text: it accepts what RFC 8259 allows and nothing else.
//!
//! It works on text that is known to be UTF-8, copies nothing but strings with escapes, and reads numbers exactly: up
//! to 2^53 with up to 22 decimal places by one division, which is correctly rounded, everything else by the standard
//! library.

use super::mapping::Value;

/// Deepest nesting; more is rejected before it can exhaust the stack.
pub(crate) const MAX_DEPTH: usize = 64;

/// What is wrong with the text, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) what: &'static str,
    pub(crate) at: usize,
}

impl SyntaxError {
    pub(crate) fn reason(self, start: usize) -> String {
        format!("not JSON: {} at byte {}", self.what, self.at.saturating_sub(start) + 1)
    }
}

type Scan<T> = Result<T, SyntaxError>;

/// A string token: most need no copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// As it stands in the text.
    Plain(&'a str),
    /// It had escapes and is in the scratch space now.
    Unescaped,
}

impl<'a> Token<'a> {
    pub(crate) fn text<'s>(self, scratch: &'s str) -> &'s str
    where
        'a: 's,
    {
        match self {
            Self::Plain(text) => text,
            Self::Unescaped => scratch,
        }
    }
}

/// A place in a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The byte here; 0 at the end, which no JSON token begins with.
    #[inline]
    pub(crate) fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
    }

    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Skips `byte` if it is here.
    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let here = self.peek() == byte;
        self.at += usize::from(here);
        here
    }

    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, what: &'static str) -> Scan<()> {
        if self.take(byte) { Ok(()) } else { self.error(what) }
    }

    pub(crate) fn error<T>(&self, what: &'static str) -> Scan<T> {
        let what = if self.at_end() { "cut off" } else { what };
        Err(SyntaxError { what, at: self.at })
    }

    /// Skips the literal if it is here.
    #[inline]
    pub(crate) fn take_literal(&mut self, literal: &str) -> bool {
        let here = self.text.as_bytes()[self.at..].starts_with(literal.as_bytes());
        self.at += if here { literal.len() } else { 0 };
        here
    }

    /// Any value. Texts with escapes and nested values are checked like all others.
    #[inline]
    pub(crate) fn value<'s>(&mut self, scratch: &'s mut String) -> Scan<Value<'s>>
    where
        'a: 's,
    {
        match self.peek() {
            b'"' => Ok(Value::Text(self.string(scratch)?.text(scratch))),
            b'-' | b'0'..=b'9' => self.number(),
            b'{' | b'[' => {
                let start = self.at;
                self.skip(1, scratch)?;
                Ok(Value::Nested(&self.text[start..self.at]))
            }
            _ if self.take_literal("null") => Ok(Value::Null),
            _ if self.take_literal("true") => Ok(Value::Boolean(true)),
            _ if self.take_literal("false") => Ok(Value::Boolean(false)),
            _ => self.error("expected a value"),
        }
    }

    /// A string; the cursor stands on its opening quote.
    #[inline]
    pub(crate) fn string(&mut self, scratch: &mut String) -> Scan<Token<'a>> {
        self.expect(b'"', "expected `\"`")?;
        let start = self.at;
        self.at = plain_end(self.text.as_bytes(), start);
        match self.peek() {
            b'"' => {
                let text = &self.text[start..self.at];
                self.at += 1;
                Ok(Token::Plain(text))
            }
            b'\\' => self.escaped(start, scratch),
            _ => self.error("control character in a text"),
        }
    }

    /// A text without escapes; none for anything else, and the cursor may have moved.
    #[inline]
    pub(super) fn plain_text(&mut self) -> Option<&'a str> {
        if !self.take(b'"') {
            return None;
        }
        let start = self.at;
        self.at = plain_end(self.text.as_bytes(), start);
        let text = &self.text[start..self.at];
        self.take(b'"').then_some(text)
    }

    #[cold]
    fn escaped(&mut self, start: usize, scratch: &mut String) -> Scan<Token<'a>> {
        scratch.clear();
        scratch.push_str(&self.text[start..self.at]);
        loop {
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(Token::Unescaped);
                }
                b'\\' => {
                    self.at += 1;
                    scratch.push(self.escape()?);
                }
                _ => return self.error("control character in a text"),
            }
            let from = self.at;
            self.at = plain_end(self.text.as_bytes(), from);
            scratch.push_str(&self.text[from..self.at]);
        }
    }

    fn escape(&mut self) -> Scan<char> {
        let letter = self.peek();
        let plain = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode();
            }
            _ => return self.error("unknown escape"),
        };
        self.at += 1;
        Ok(plain)
    }

    fn unicode(&mut self) -> Scan<char> {
        let first = self.hex4()?;
        let code = match first {
            0xD800..=0xDBFF => {
                if !self.take_literal("\\u") {
                    return self.error("half a surrogate pair");
                }
                let second = self.hex4()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return self.error("half a surrogate pair");
                }
                0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            code => code,
        };
        char::from_u32(code).map_or_else(|| self.error("half a surrogate pair"), Ok)
    }

    fn hex4(&mut self) -> Scan<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = char::from(self.peek()).to_digit(16) else {
                return self.error("expected four hexadecimal digits");
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    /// A number; the cursor stands on its sign or first digit.
    #[inline]
    pub(crate) fn number(&mut self) -> Scan<Value<'a>> {
        let start = self.at;
        let negative = self.take(b'-');
        let (mut mantissa, mut digits) = (0u64, 0usize);
        if self.peek() == b'0' {
            self.at += 1;
            if self.peek().is_ascii_digit() {
                return self.error("leading zero");
            }
        } else {
            self.digits(&mut mantissa, &mut digits)?;
        }
        let mut places = 0;
        let mut exponent = false;
        let mut whole = true;
        if self.take(b'.') {
            whole = false;
            let before = self.at;
            self.digits(&mut mantissa, &mut digits)?;
            places = self.at - before;
        }
        if matches!(self.peek(), b'e' | b'E') {
            (whole, exponent) = (false, true);
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), b'+' | b'-'));
            self.digits(&mut 0, &mut 0)?;
        }
        let raw = &self.text[start..self.at];
        // 18 digits cannot overflow the mantissa.
        if whole && digits <= 18 && !(negative && mantissa == 0) {
            let number = mantissa as i64;
            return Ok(Value::Integer(if negative { -number } else { number }, raw));
        }
        if !exponent && digits <= 18 && mantissa < 1 << 53 && places < POWERS.len() {
            let number = mantissa as f64 / POWERS[places];
            return Ok(Value::Float(if negative { -number } else { number }, raw));
        }
        self.slow_number(raw, whole, start)
    }

    #[inline]
    fn digits(&mut self, mantissa: &mut u64, count: &mut usize) -> Scan<()> {
        let start = self.at;
        while let digit @ b'0'..=b'9' = self.peek() {
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        *count += self.at - start;
        if self.at == start { self.error("expected a digit") } else { Ok(()) }
    }

    #[cold]
    fn slow_number(&self, raw: &'a str, whole: bool, start: usize) -> Scan<Value<'a>> {
        if let (true, false, Ok(number)) = (whole, raw == "-0", raw.parse::<i64>()) {
            return Ok(Value::Integer(number, raw));
        }
        match raw.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number, raw)),
            _ => Err(SyntaxError { what: "number too large", at: start }),
        }
    }

    /// Checks and skips any value. `depth` counts the containers around it.
    pub(crate) fn skip(&mut self, depth: usize, scratch: &mut String) -> Scan<()> {
        match self.peek() {
            b'{' => self.skip_object(depth + 1, scratch),
            b'[' => self.skip_array(depth + 1, scratch),
            _ => self.value(scratch).map(|_| ()),
        }
    }

    fn skip_object(&mut self, depth: usize, scratch: &mut String) -> Scan<()> {
        self.enter(depth)?;
        self.space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.space();
            self.string(scratch)?;
            self.space();
            self.expect(b':', "expected `:`")?;
            self.space();
            self.skip(depth, scratch)?;
            self.space();
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',', "expected `,` or `}`")?;
        }
    }

    fn skip_array(&mut self, depth: usize, scratch: &mut String) -> Scan<()> {
        self.enter(depth)?;
        self.space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.space();
            self.skip(depth, scratch)?;
            self.space();
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',', "expected `,` or `]`")?;
        }
    }

    fn enter(&mut self, depth: usize) -> Scan<()> {
        if depth > MAX_DEPTH {
            return self.error("nested deeper than 64");
        }
        self.at += 1;
        Ok(())
    }
}

/// Powers of ten that a double holds exactly.
pub(super) const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The next quote, backslash or control character at or after `from`; eight bytes a step.
#[inline]
fn plain_end(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        // The classic "has a zero byte" and "has a byte below n" tests; false alarms occur only above a true one.
        let zero = |w: u64| w.wrapping_sub(ONES) & !w & HIGH;
        let found = zero(word ^ (ONES * b'"' as u64))
            | zero(word ^ (ONES * b'\\' as u64))
            | (word.wrapping_sub(ONES * 0x20) & !word & HIGH);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while at < bytes.len() && bytes[at] != b'"' && bytes[at] != b'\\' && bytes[at] >= 0x20 {
        at += 1;
    }
    at
}
