//! A family whose graphs are invalid, each architecture's in a way of its own.

use aehost_sdk::family::*;

struct BadGraph;

impl Family for BadGraph {
    fn describe() -> Description {
        let identity = identity!("bad-graph", "Builds graphs that cannot be.");
        Description::new(identity, ["bad-weight", "bad-shape", "bad-value", "bad-size", "bad-op", "bad-end"])
    }

    fn build(checkpoint: &dyn Checkpoint, b: &mut Builder) -> Result<(), Error> {
        b.function("decode")?;
        let ids = b.input("ids", "uint32", &["tokens"])?;
        let positions = b.input("positions", "uint32", &["tokens"])?;
        let x = b.embedding(ids, None)?;
        match checkpoint.text("general.architecture")?.as_str() {
            "bad-weight" => b.node("linear", "lost", "other").inputs([x]).tied("weight", "nowhere.weight").finish(),
            "bad-shape" => {
                let node = b.node("linear", "narrow", "other").inputs([x]);
                node.weight("weight", "blk.0.ffn_down.weight")?.finish()
            }
            "bad-value" => b.apply("add", "early", "other", [x, 4096]),
            "bad-size" => b
                .node("attention", "vast", "attention")
                .inputs([x, x, x, positions, positions])
                .attribute("heads", i64::MAX)
                .attribute("kv-heads", i64::MAX)
                .attribute("head-dim", 1i64 << 40)
                .attribute("scale", 1.0)
                .finish(),
            "bad-op" => b.apply("convolution", "strange", "other", [x]),
            // Without logits.
            _ => Ok(x),
        }
        .map(drop)
    }
}

aehost_sdk::family!(BadGraph);
