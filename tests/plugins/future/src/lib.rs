//! A technique for version 0.9.0 of the contract, which no host offers yet.

#![allow(missing_docs)]

wit_bindgen::generate!({
    inline: "
        package aehost:plugin@0.9.0;
        interface technique { describe: func() -> string; }
        world technique-plugin { export technique; }
    ",
});

struct Future;

impl exports::aehost::plugin::technique::Guest for Future {
    fn describe() -> String {
        "future".into()
    }
}

export!(Future);
