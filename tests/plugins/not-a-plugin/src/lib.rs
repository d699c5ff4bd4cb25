//! A component of another system: it exports none of the four kinds of plugin.

#![allow(missing_docs)]

wit_bindgen::generate!({
    inline: "
        package another:system@1.0.0;
        interface tool { run: func() -> string; }
        world tool-only { export tool; }
    ",
});

struct Tool;

impl exports::another::system::tool::Guest for Tool {
    fn run() -> String {
        "done".into()
    }
}

export!(Tool);
