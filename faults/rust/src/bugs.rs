//! Planted bugs by their names: one at a time, in the log or above it.

use anyhow::{Result, anyhow};
use trackside_core::planted as above;
use trackside_log::planted as below;

/// Names the bug for the product's own command, whose arguments are the product's.
pub(crate) const VARIABLE: &str = "TRACKSIDE_PLANTED_BUG";

/// The names of all bugs.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    above::BUGS.iter().map(|(name, _)| *name).chain(below::BUGS.iter().map(|(name, _)| *name))
}

/// Plants the bug of this name for the whole process; none takes out whatever is planted.
pub(crate) fn plant(name: Option<&str>) -> Result<()> {
    fn find<B: Copy>(bugs: &[(&str, B)], name: Option<&str>) -> Option<B> {
        bugs.iter().find(|(own, _)| Some(*own) == name).map(|(_, bug)| *bug)
    }
    let (above, below) = (find(above::BUGS, name), find(below::BUGS, name));
    if let Some(name) = name.filter(|_| above.is_none() && below.is_none()) {
        let choices: Vec<&str> = names().collect();
        let advice = trackside_core::error::suggestion(name, &choices);
        return Err(anyhow!("unknown bug `{name}`{advice}"));
    }
    trackside_core::planted::plant(above);
    trackside_log::planted::plant(below);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_eight_have_a_name_and_a_misspelt_one_is_told() {
        assert_eq!(names().count(), 8);
        let error = plant(Some("swalow-eio")).unwrap_err().to_string();
        assert!(error.contains("did you mean `swallow-eio`"), "{error}");
    }
}
