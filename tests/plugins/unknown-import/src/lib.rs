//! A technique that imports an interface which no host offers.

#![allow(missing_docs)]

wit_bindgen::generate!({
    inline: "
        package aehost:plugin@0.1.0;
        interface telepathy { ask: func() -> string; }
        interface technique { describe: func() -> string; }
        world technique-plugin { import telepathy; export technique; }
    ",
});

struct UnknownImport;

impl exports::aehost::plugin::technique::Guest for UnknownImport {
    fn describe() -> String {
        aehost::plugin::telepathy::ask()
    }
}

export!(UnknownImport);
