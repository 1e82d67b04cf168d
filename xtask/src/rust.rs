//! Just enough of Rust's grammar to judge a source file line by line: code apart from comments and literals, and
//! tests apart from what ships.
//!
//! It does not parse. A rule that reads [`Source::code`] can search for plain text without finding it in a comment or
//! a string.

/// A source file, taken apart.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its lines with comments and the insides of literals blanked out.
    pub(crate) code: Vec<String>,
    /// By line: whether it belongs to a test.
    pub(crate) test: Vec<bool>,
}

impl Source {
    /// Takes apart the text of the file at `path`.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code: Vec<String> = mask(text).lines().map(Into::into).collect();
        let test = if is_test_file(path) { vec![true; code.len()] } else { test_lines(&code) };
        Self { code, test }
    }

    /// Lines of code that ship, numbered from 1.
    pub(crate) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .iter()
            .zip(&self.test)
            .enumerate()
            .filter(|(_, (_, test))| !**test)
            .map(|(i, (code, _))| (i + 1, &**code))
    }
}

/// Files that hold nothing but tests and the exams that tests call.
fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "benches" | "tests.rs" | "testing.rs"))
}

/// Blanks out comments and the insides of strings and characters; keeps every line break.
fn mask(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => comment_end(&chars, at),
            '"' => string_end(&chars, at),
            'r' | 'b' if starts_word(&chars, at) => raw_string_end(&chars, at),
            '\'' => char_end(&chars, at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

fn starts_word(chars: &[char], at: usize) -> bool {
    at == 0 || !(chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| at + n)
}

fn comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// The end of `r"…"`, `r#"…"#`, `br"…"`; `at` itself when none begins here.
fn raw_string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + usize::from(chars[at] == 'b');
    if chars.get(i) != Some(&'r') {
        return at;
    }
    i += 1;
    let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
    i += hashes;
    if chars.get(i) != Some(&'"') {
        return at;
    }
    let closing =
        |from: &usize| chars[*from] == '"' && chars[from + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    (i + 1..chars.len()).find(closing).map_or(chars.len(), |end| end + 1 + hashes)
}

/// The end of `'x'` or `'\n'`; `at` itself for a lifetime.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => chars[at + 3..].iter().position(|c| *c == '\'').map_or(at, |n| at + 4 + n),
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// Marks each item behind a `#[cfg(test)]`, by counting its braces.
fn test_lines(code: &[String]) -> Vec<bool> {
    let mut test = vec![false; code.len()];
    let mut line = 0;
    while line < code.len() {
        if code[line].contains("#[cfg(test)]") {
            let end = item_end(code, line);
            test[line..=end].fill(true);
            line = end;
        }
        line += 1;
    }
    test
}

fn item_end(code: &[String], from: usize) -> usize {
    let mut depth = 0;
    for (line, text) in code.iter().enumerate().skip(from) {
        for c in text.replace("#[cfg(test)]", "").chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(c, '}' | ';') {
                return line;
            }
        }
    }
    code.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        mask(text)
    }

    #[test]
    fn comments_and_literals_are_blank() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(code(r#"f("x.unwrap()")"#), "f(            )");
        assert_eq!(code(r##"f(r#"a"b"#, 1)"##), "f(        , 1)");
        assert_eq!(code(r"f('\'', '{', &'a str)"), "f(    ,    , &'a str)");
        assert_eq!(code("var\"x\""), "var   ");
        assert_eq!(code("bar(b)"), "bar(b)");
    }

    #[test]
    fn tests_are_told_from_what_ships() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { if x { } }\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}\n";
        let source = Source::new("src/x.rs", text);
        let shipped: Vec<&str> = source.shipped().map(|(_, code)| code).collect();
        assert_eq!(shipped, ["fn a() {}", "fn c() {}", "fn d() {}"]);
        assert_eq!(Source::new("tests/it/x.rs", text).shipped().count(), 0);
    }
}
