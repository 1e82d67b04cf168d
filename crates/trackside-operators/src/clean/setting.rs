//! Settings that are one for all series, or differ by the value of a tag.
//!
//! Guarantee: what applies to a row depends on its tags alone. The tag's text is looked up once a series, not once a row;
//! that memory is a cache, so it is in no snapshot.
//!
//! ```toml
//! floor = 0.5                               # one for all
//! floor = { temp = 0.5, humidity = 1.5 }    # by the tag that `by` names
//! ```

use hashbrown::HashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trackside_core::batch;
use trackside_core::error::ConfigError;
use trackside_core::schema::Layout;
use trackside_core::work::Work;

/// Most values of a tag that one setting can list.
pub const MAX_LISTED: usize = 10_000;

/// A setting as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected one value, or a table of values by tag such as `{ temp = … }`")]
pub enum Setting<T> {
    /// One for all series.
    One(T),
    /// By value of the tag that `by` names.
    ByTag(BTreeMap<String, T>),
}

impl<T> Setting<T> {
    /// What is listed by tag.
    pub(crate) fn listed(&self) -> Option<&BTreeMap<String, T>> {
        match self {
            Self::One(_) => None,
            Self::ByTag(listed) => Some(listed),
        }
    }
}

/// A setting at work: the one that applies to a series.
#[derive(Debug)]
pub(crate) struct BySeries<T> {
    tag: Option<String>,
    /// The first is for what is not listed.
    choices: Vec<T>,
    listed: HashMap<String, u32>,
    /// By series, the number of its choice.
    chosen: Vec<u32>,
}

/// A series whose tag was not looked up yet.
const UNKNOWN: u32 = u32::MAX;

impl<T: Copy> BySeries<T> {
    /// The same for all.
    pub(crate) fn one(choice: T) -> Self {
        Self { tag: None, choices: vec![choice], listed: HashMap::new(), chosen: Vec::new() }
    }

    /// By value of a tag; `others` is for values that are not listed and for rows without the tag.
    pub(crate) fn by_tag(tag: &str, others: T, listed: impl IntoIterator<Item = (String, T)>) -> Self {
        let mut setting = Self { tag: Some(tag.to_owned()), ..Self::one(others) };
        for (value, choice) in listed {
            setting.listed.insert(value, setting.choices.len() as u32);
            setting.choices.push(choice);
        }
        setting
    }

    /// Looks up the tags of series that are new in this batch. Call it once a batch, before [`BySeries::get`].
    pub(crate) fn meet(&mut self, work: &Work) {
        let Some((tag, texts)) = self.tag.as_deref().and_then(|tag| batch::tag(&work.rows, tag)) else { return };
        self.chosen.resize(self.chosen.len().max(super::series_end(&work.series)), UNKNOWN);
        for (row, series) in work.series.iter().enumerate() {
            let chosen = &mut self.chosen[*series as usize];
            if *chosen == UNKNOWN {
                let text = batch::tag_value(tag, texts, row);
                *chosen = text.and_then(|text| self.listed.get(text)).copied().unwrap_or(0);
            }
        }
    }

    /// What applies to a series.
    #[inline]
    pub(crate) fn get(&self, series: u32) -> T {
        self.choices[self.chosen.get(series as usize).map_or(0, |choice| *choice as usize)]
    }

    /// Forgets which series is which: the numbers mean other series after a restore.
    pub(crate) fn forget(&mut self) {
        self.chosen.clear();
    }
}

/// Distances from a setting that may be left out; `others` is for what is not listed.
pub(crate) fn distances(
    key: &str,
    setting: Option<&Setting<f64>>,
    by: Option<&str>,
    others: f64,
    layout: &Layout,
) -> Result<BySeries<f64>, ConfigError> {
    let check = |path: String, distance: f64| {
        if distance >= 0.0 && distance.is_finite() {
            return Ok(distance + 0.0);
        }
        Err(ConfigError::new(path, format!("`{key}` is {distance}; it is a distance")).with_help("give 0 or more"))
    };
    check_by(by, setting.and_then(Setting::listed).map(|listed| (key, listed.len())), layout)?;
    match (setting, by) {
        (Some(Setting::ByTag(listed)), Some(tag)) => {
            let listed =
                listed.iter().map(|(value, distance)| Ok((value.clone(), check(format!("{key}.{value}"), *distance)?)));
            Ok(BySeries::by_tag(tag, others, listed.collect::<Result<Vec<_>, _>>()?))
        }
        (Some(Setting::One(distance)), _) => Ok(BySeries::one(check(key.into(), *distance)?)),
        _ => Ok(BySeries::one(others)),
    }
}

/// Checks that `by` names a tag where settings are listed by tag, and is left out where none is.
/// `key` is the first setting that lists values of the tag, with their number.
pub(crate) fn check_by(by: Option<&str>, key: Option<(&str, usize)>, layout: &Layout) -> Result<(), ConfigError> {
    match (by, key) {
        (Some(tag), None) => Err(ConfigError::new("by", format!("`by = \"{tag}\"` has nothing to choose between"))
            .with_help("list settings by value of the tag, or leave `by` out")),
        (None, Some((key, _))) => Err(ConfigError::new("by", "`by` is missing").with_help(format!(
            "`{key}` lists values of a tag: say of which, for example `by = \"{}\"`",
            layout.tags().last().map_or("sensor", String::as_str)
        ))),
        (Some(tag), Some((key, listed))) => {
            layout.tag("by", tag)?;
            if listed > MAX_LISTED {
                let message = format!("`{key}` lists {listed} values; {MAX_LISTED} are the most");
                return Err(ConfigError::new(key, message).with_help("group series by a coarser tag"));
            }
            Ok(())
        }
        (None, None) => Ok(()),
    }
}

/// A number as it is said in messages: `NaN` and infinities in words, -0 as 0.
pub(crate) fn text_number(value: f64) -> String {
    match value {
        v if v.is_nan() => "not a number".into(),
        v if v.is_infinite() => "infinite".into(),
        v => format!("{}", v + 0.0),
    }
}
