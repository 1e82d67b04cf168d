//! Pipeline files: any text is a pipeline or a list of errors with places in it, also when its components are built.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use trackside_engine::Pipeline;

fuzz_target!(|text: &str| {
    match Pipeline::parse(Path::new("/nowhere/pipeline.toml"), text) {
        Ok(pipeline) => drop(pipeline.data()),
        Err(diagnostics) => {
            assert!(!diagnostics.0.is_empty(), "an error without words");
            for diagnostic in &diagnostics.0 {
                assert!(diagnostic.place.line >= 1 && diagnostic.place.column >= 1, "{diagnostic:?}");
                assert!(!diagnostic.message.is_empty());
            }
            _ = diagnostics.to_string();
        }
    }
});
