//! What `wit/` generates. Everything a plugin may import is generated once, by a world of imports only; the four worlds
//! of the contract then add what each kind exports, over the same types. Host functions may trap, and answer the
//! contract's error through [`Failure`].

#![allow(missing_docs, clippy::all)]

use crate::state::Failure;

pub mod imports {
    wasmtime::component::bindgen!({
        inline: "
            package aehost:host@0.1.0;
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
        world: "aehost:host/imports",
        imports: { default: trappable },
        trappable_error_type: { "aehost:plugin/common.error" => super::Failure },
        with: {
            "aehost:plugin/tensor.tensor": crate::host::tensor::Tensor,
            "aehost:plugin/graph.model": crate::host::graph::Model,
            "aehost:plugin/graph.editor": crate::host::graph::Editor,
            "aehost:plugin/session.session": crate::host::session::Session,
            "aehost:plugin/dataset.dataset": crate::host::dataset::Dataset,
            "aehost:plugin/checkpoint.checkpoint": crate::host::checkpoint::Checkpoint,
        },
    });
}

pub use imports::aehost::plugin as shared;

/// One world: the interfaces that it imports are the shared ones.
macro_rules! world {
    ($module:ident, $world:literal, { $($interface:literal: $shared:ident),* $(,)? }) => {
        pub mod $module {
            wasmtime::component::bindgen!({
                path: "../../wit",
                world: $world,
                imports: { default: trappable },
                with: { $($interface: crate::bindings::shared::$shared),* },
            });
        }
    };
}

world!(technique, "technique-plugin", {
    "aehost:plugin/common": common,
    "aehost:plugin/log": log,
    "aehost:plugin/tensor": tensor,
    "aehost:plugin/graph": graph,
    "aehost:plugin/weights": weights,
    "aehost:plugin/calibration": calibration,
    "aehost:plugin/training": training,
    "aehost:plugin/runtime-policy": runtime_policy,
});
world!(evaluator, "evaluator-plugin", {
    "aehost:plugin/common": common,
    "aehost:plugin/log": log,
    "aehost:plugin/session": session,
    "aehost:plugin/dataset": dataset,
});
world!(strategy, "strategy-plugin", {
    "aehost:plugin/common": common,
    "aehost:plugin/log": log,
    "aehost:plugin/feasibility": feasibility,
});
world!(family, "family-plugin", {
    "aehost:plugin/common": common,
    "aehost:plugin/log": log,
    "aehost:plugin/graph": graph,
    "aehost:plugin/checkpoint": checkpoint,
});
