//! Topics: which are subscribed to, and how their levels become tags.
//!
//! `plant/{device}/{sensor}` fits `plant/pump-1/temp` and says that the second level is the tag `device`. `+` stands for
//! a level that says nothing, `#` at the end for all that follow.

use trackside_core::error::ConfigError;
use trackside_core::schema::Layout;

/// Longest topic filter; MQTT's own bound.
const MAX_FILTER: usize = u16::MAX as usize;

/// Checks the filters as a broker would.
pub(super) fn check_filters(filters: &[String]) -> Result<(), ConfigError> {
    if filters.is_empty() {
        return Err(ConfigError::new("topics", "`topics` is empty").with_help("name at least one, such as `plant/#`"));
    }
    for (k, filter) in filters.iter().enumerate() {
        let wrong = |what: &str| {
            ConfigError::new(format!("topics[{k}]"), format!("`{filter}` is no topic filter: {what}"))
                .with_help("`+` stands for one whole level, `#` for all levels at the end")
        };
        if filter.is_empty() || filter.len() > MAX_FILTER || filter.contains('\0') {
            return Err(wrong("it is empty, too long or has a zero byte"));
        }
        let levels: Vec<&str> = filter.split('/').collect();
        for (at, level) in levels.iter().enumerate() {
            if level.contains('#') && (*level != "#" || at + 1 < levels.len()) {
                return Err(wrong("`#` must be the last level, alone"));
            }
            if level.contains('+') && *level != "+" {
                return Err(wrong("`+` must be a level of its own"));
            }
            if level.contains(['{', '}']) {
                return Err(wrong("tags belong into `pattern`"));
            }
        }
    }
    Ok(())
}

/// How the levels of a topic become tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    levels: Vec<Level>,
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Literal(String),
    Any,
    Tag(usize),
}

impl Pattern {
    /// Reads a pattern; its tags must be tags of the schema.
    pub(super) fn parse(text: &str, layout: &Layout) -> Result<Self, ConfigError> {
        let mut levels = Vec::new();
        let mut parts: Vec<&str> = text.split('/').collect();
        let open = parts.last() == Some(&"#");
        parts.truncate(parts.len() - usize::from(open));
        for part in parts {
            levels.push(match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some(tag) => {
                    let tag = layout.tag("pattern", tag)?;
                    if levels.contains(&Level::Tag(tag)) {
                        return Err(ConfigError::new("pattern", format!("`{part}` stands in `{text}` twice"))
                            .with_help("a tag has one level; write `+` for one that says nothing"));
                    }
                    Level::Tag(tag)
                }
                None if part == "+" => Level::Any,
                None if part.contains(['{', '}', '+', '#']) => {
                    return Err(ConfigError::new(
                        "pattern",
                        format!("the level `{part}` of `{text}` is not understood"),
                    )
                    .with_help("a level is `{tag}`, `+`, or a name; `#` may be the last one"));
                }
                None => Level::Literal(part.to_owned()),
            });
        }
        Ok(Self { text: text.to_owned(), levels, open })
    }

    /// The tags of a topic, by number; none if it does not fit.
    pub(super) fn tags<'t>(&self, topic: &'t str) -> Option<Vec<(usize, &'t str)>> {
        let mut tags = Vec::with_capacity(self.levels.len());
        let mut parts = topic.split('/');
        for level in &self.levels {
            let part = parts.next()?;
            match level {
                Level::Literal(text) if text != part => return None,
                Level::Tag(tag) => tags.push((*tag, part)),
                Level::Literal(_) | Level::Any => {}
            }
        }
        (self.open || parts.next().is_none()).then_some(tags)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::layout;
    use serde_json::json;

    #[test]
    fn levels_become_tags() {
        let layout = layout(json!({"series": ["device", "sensor"], "fields": {"value": "float"}}));
        let pattern = |text: &str| Pattern::parse(text, &layout);
        let plant = pattern("plant/{device}/+/{sensor}").unwrap();
        assert_eq!(plant.tags("plant/p1/x/temp"), Some(vec![(0, "p1"), (1, "temp")]));
        for other in ["plant/p1/x", "plant/p1/x/temp/more", "mill/p1/x/temp", ""] {
            assert_eq!(plant.tags(other), None, "{other}");
        }
        assert_eq!(pattern("{sensor}/#").unwrap().tags("temp/a/b"), Some(vec![(1, "temp")]));
        for (text, words) in [
            ("plant/{devcie}", "did you mean `device`?"),
            ("{device}/{device}", "twice"),
            ("plant/x{device}", "is not understood"),
            ("#/{device}", "is not understood"),
        ] {
            let error = pattern(text).unwrap_err();
            assert!(error.message.contains(words) && error.path == "pattern", "{error}");
        }
    }

    #[test]
    fn filters_are_checked_before_a_broker_sees_them() {
        let check = |filter: &str| check_filters(&[filter.to_string()]);
        for fine in ["#", "plant/+/+", "plant/#", "$share/group/plant/+", "/"] {
            check(fine).unwrap();
        }
        for wrong in ["", "plant/#/x", "plant#", "pla+nt", "plant/{device}"] {
            assert_eq!(check(wrong).unwrap_err().path, "topics[0]", "{wrong}");
        }
        assert!(check_filters(&[]).is_err());
    }
}
