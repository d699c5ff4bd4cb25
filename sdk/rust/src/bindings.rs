//! What `wit/` generates. Everything a plugin may import is generated once, by a world of imports only; the four worlds
//! of the contract then add what each kind exports, over the same types.

#![allow(missing_docs)]

/// Interfaces that a plugin may call.
pub mod imports {
    wit_bindgen::generate!({
        inline: "
            package aehost:sdk@0.1.0;
            world imports {
                import aehost:plugin/common@0.1.0;
                import aehost:plugin/log@0.1.0;
                import aehost:plugin/tensor@0.1.0;
                import aehost:plugin/graph@0.1.0;
                import aehost:plugin/weights@0.1.0;
                import aehost:plugin/calibration@0.1.0;
                import aehost:plugin/training@0.1.0;
                import aehost:plugin/runtime-policy@0.1.0;
                import aehost:plugin/session@0.1.0;
                import aehost:plugin/dataset@0.1.0;
                import aehost:plugin/feasibility@0.1.0;
                import aehost:plugin/checkpoint@0.1.0;
            }
        ",
        path: "../../wit",
        world: "aehost:sdk/imports",
        runtime_path: "aehost_sdk::wit_bindgen::rt",
        additional_derives: [PartialEq],
        additional_derives_ignore: ["part", "statistics"],
        generate_all,
    });
}

use imports::aehost::plugin as shared;

/// One world: the interfaces that it imports, by name and module, are the shared ones.
macro_rules! world {
    ($(#[$doc:meta])* $module:ident, $world:literal, { $($interface:literal: $shared:ident),* $(,)? }) => {
        $(#[$doc])*
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../wit",
                world: $world,
                runtime_path: "aehost_sdk::wit_bindgen::rt",
                pub_export_macro: true,
                additional_derives: [PartialEq],
                with: { $($interface: crate::bindings::shared::$shared),* },
            });
        }
    };
}

world!(
    /// A technique's exports.
    technique,
    "technique-plugin",
    {
        "aehost:plugin/common@0.1.0": common,
        "aehost:plugin/log@0.1.0": log,
        "aehost:plugin/tensor@0.1.0": tensor,
        "aehost:plugin/graph@0.1.0": graph,
        "aehost:plugin/weights@0.1.0": weights,
        "aehost:plugin/calibration@0.1.0": calibration,
        "aehost:plugin/training@0.1.0": training,
        "aehost:plugin/runtime-policy@0.1.0": runtime_policy,
    }
);
world!(
    /// An evaluator's exports.
    evaluator,
    "evaluator-plugin",
    {
        "aehost:plugin/common@0.1.0": common,
        "aehost:plugin/log@0.1.0": log,
        "aehost:plugin/session@0.1.0": session,
        "aehost:plugin/dataset@0.1.0": dataset,
    }
);
world!(
    /// A strategy's exports.
    strategy,
    "strategy-plugin",
    {
        "aehost:plugin/common@0.1.0": common,
        "aehost:plugin/log@0.1.0": log,
        "aehost:plugin/feasibility@0.1.0": feasibility,
    }
);
world!(
    /// A family's exports.
    family,
    "family-plugin",
    {
        "aehost:plugin/common@0.1.0": common,
        "aehost:plugin/log@0.1.0": log,
        "aehost:plugin/graph@0.1.0": graph,
        "aehost:plugin/checkpoint@0.1.0": checkpoint,
    }
);
