//! What is wrong with a pipeline file is said with place and fix, all at once.

use crate::support::text;
use std::path::Path;
use trackside_engine::Pipeline;

fn errors(text: &str) -> String {
    Pipeline::parse(Path::new("p.toml"), text).unwrap_err().to_string()
}

#[test]
fn each_mistake_is_named_with_its_place() {
    let blocks = r#"[[source]]
type = "mqqt"

[[clean]]
type = "hampel"
field = "valeu"

[[clean]]
type = "hampel"
field = "value"
widnow = 7

[[sink]]
type = "parquet"

[[sink]]
type = "parquet"
topic = "cleen"

[[sink]]
type = "parquet"
topic = "clean"
"#;
    let errors = errors(&text(1, blocks));
    for expected in [
        "p.toml:12:1: unknown source `mqqt`; did you mean `mqtt`?",
        "unknown field `valeu`; did you mean `value`?",
        "p.toml:21:1: unknown key `widnow`; did you mean `window`?",
        "unknown topic `cleen`; did you mean `clean`?",
        "`clean` has two tables in one folder",
    ] {
        assert!(errors.contains(expected), "{expected}\nis missing in\n{errors}");
    }
}

#[test]
fn sections_are_asked_for_and_unknown_ones_named() {
    assert!(errors("").contains("`[pipeline]` is missing"));
    assert!(errors("[pipelin]\n").contains("unknown section `pipelin`; did you mean `pipeline`?"));
    assert!(errors("[pipeline\n").starts_with("p.toml:1:"));
    let many = text(1000, "");
    assert!(errors(&many).contains("1000 partitions; choose 1 to 256"));
}
