//! Where CSV records and cells begin and end.
//!
//! A cell that begins with a quote runs to its closing quote and may hold delimiters, line breaks and doubled quotes.
//! A quote that is never closed must not swallow the rest of a file: then the record is its first line alone.

use super::MAX_RECORD;
use memchr::{memchr, memchr2};

/// End of the first record, behind its newline; none when more bytes could complete it.
pub(crate) fn record_end(bytes: &[u8], delimiter: u8, last: bool) -> Option<usize> {
    let line = memchr(b'\n', bytes).map(|at| at + 1);
    let first = &bytes[..line.unwrap_or(bytes.len())];
    if memchr(b'"', first).is_none() {
        return line.or((last && !bytes.is_empty()).then_some(bytes.len()));
    }
    let window = &bytes[..bytes.len().min(MAX_RECORD)];
    match quoted_end(window, delimiter) {
        End::Newline(at) => Some(at),
        // What follows may still close the quote, or end the line.
        _ if !last && bytes.len() < MAX_RECORD => None,
        End::Bytes if last && bytes.len() <= MAX_RECORD => Some(bytes.len()),
        // Too long for one record, or a quote that is never closed: the first line stands alone.
        _ => line.or(last.then_some(bytes.len())),
    }
}

enum End {
    /// Behind this newline.
    Newline(usize),
    /// The bytes ended outside of quotes.
    Bytes,
    /// The bytes ended inside of quotes.
    OpenQuote,
}

fn quoted_end(bytes: &[u8], delimiter: u8) -> End {
    let mut at = 0;
    loop {
        if bytes.get(at) == Some(&b'"') {
            match closing_quote(bytes, at + 1) {
                Some(quote) => at = quote + 1,
                None => return End::OpenQuote,
            }
        }
        match memchr2(delimiter, b'\n', &bytes[at.min(bytes.len())..]) {
            None => return End::Bytes,
            Some(found) if bytes[at + found] == b'\n' => return End::Newline(at + found + 1),
            Some(found) => at += found + 1,
        }
    }
}

/// The quote that ends a quoted cell; doubled quotes do not.
fn closing_quote(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr(b'"', bytes.get(at..)?)?;
        if bytes.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// A cell of a record: its bytes without the outer quotes, and whether doubled quotes are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) doubled: bool,
}

/// Splits a record without its line end into cells.
pub(crate) fn split(record: &[u8], delimiter: u8, cells: &mut Vec<Cell>) -> Result<(), String> {
    cells.clear();
    let mut at = 0;
    loop {
        if record.get(at) == Some(&b'"') {
            let Some(quote) = closing_quote(record, at + 1) else {
                return Err("a quote is not closed".into());
            };
            let doubled = memchr(b'"', &record[at + 1..quote]).is_some();
            cells.push(Cell { start: at + 1, end: quote, doubled });
            at = quote + 1;
            match record.get(at) {
                None => return Ok(()),
                Some(byte) if *byte == delimiter => at += 1,
                Some(_) => return Err(format!("something behind the closing quote of cell {}", cells.len())),
            }
        } else {
            let end = memchr(delimiter, &record[at..]).map(|found| at + found);
            cells.push(Cell { start: at, end: end.unwrap_or(record.len()), doubled: false });
            match end {
                None => return Ok(()),
                Some(end) => at = end + 1,
            }
        }
    }
}

/// The delimiter of a header row: whichever of `,` `;` tab `|` it holds most of, outside of quotes.
pub(crate) fn detect_delimiter(header: &[u8]) -> u8 {
    let mut quoted = false;
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
    for byte in header {
        quoted ^= *byte == b'"';
        counts.iter_mut().filter(|(delimiter, _)| !quoted && delimiter == byte).for_each(|(_, count)| *count += 1);
    }
    // Of equals the first: a comma when there is none at all.
    counts.iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| *delimiter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(record: &str) -> Result<Vec<&str>, String> {
        let mut cells = Vec::new();
        split(record.as_bytes(), b',', &mut cells)?;
        Ok(cells.iter().map(|cell| &record[cell.start..cell.end]).collect())
    }

    #[test]
    fn cells_are_split_and_quotes_hold_delimiters() {
        assert_eq!(cells("a,,\"b,c\",").unwrap(), ["a", "", "b,c", ""]);
        assert_eq!(cells("5\" pipe,\"\"").unwrap(), ["5\" pipe", ""]);
        assert_eq!(cells("\"say \"\"hi\"\"\"").unwrap(), ["say \"\"hi\"\""]);
        assert!(cells("\"a\"b,c").unwrap_err().contains("cell 1"));
        assert!(cells("\"a,b").is_err());
    }

    #[test]
    fn a_quoted_line_break_does_not_end_a_record_but_an_unclosed_quote_costs_one_line() {
        let end = |text: &str, last| record_end(text.as_bytes(), b',', last);
        assert_eq!(end("a,b\nc", false), Some(4));
        assert_eq!(end("a,\"b\nc\"\nd", false), Some(8));
        assert_eq!(end("a,\"b\nc", false), None);
        assert_eq!(end("a,\"b\nc", true), Some(5));
        assert_eq!(end("a,\"b\"", false), None);
        assert_eq!(end("a,\"b\"", true), Some(5));
        assert_eq!(end("a,\"b\nc\"", true), Some(7));
        assert_eq!(end("a", false), None);
        assert_eq!(end("a", true), Some(1));
        let long = format!("\"open\n{}", "x\n".repeat(MAX_RECORD));
        assert_eq!(end(&long, false), Some(6));
    }

    #[test]
    fn the_delimiter_is_the_most_frequent_one_outside_of_quotes() {
        for (header, delimiter) in
            [("a,b", b','), ("a;b;c", b';'), ("a\tb", b'\t'), ("\"a;b;c\",d", b','), ("one", b',')]
        {
            assert_eq!(detect_delimiter(header.as_bytes()), delimiter, "{header}");
        }
    }
}
