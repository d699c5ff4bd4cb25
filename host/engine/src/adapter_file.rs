//! Low-rank adapters that stand beside matrices of the checkpoint, as the library peft keeps them: `adapter_model.safetensors` and
//! `adapter_config.json` (<https://huggingface.co/docs/peft/developer_guides/checkpoint>).

use crate::weight::BoundTensor;
use crate::{EngineError, Variant};
use aehost_formats::Format;
use aehost_graph::{Filter, Node, ValueId};
use candle_core::Tensor;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// What llama.cpp calls matrices of a layer, and what transformers does.
const MODULES: [(&str, &str); 7] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// An adapter in the graph: y + up(scale(down(x))) in place of y, or that times a factor for each row.
struct Found<'a> {
    matrix: &'a Node,
    down: &'a str,
    up: &'a str,
    scale: f64,
    /// The factors.
    rows: Option<&'a str>,
    /// What stands in place of y.
    adapted: ValueId,
}

impl Variant {
    /// Writes its adapters into a folder, which is made; says how many there are.
    ///
    /// # Errors
    /// `Invalid` where there are none, `Unsupported` where one goes with a matrix that is not the checkpoint's own or has no name
    /// there, `Disk` where it cannot be written.
    pub fn save_adapters(&self, folder: &Path) -> Result<usize, EngineError> {
        let found = self.adapters();
        let Some(first) = found.first() else {
            let message = "the model has no adapters of its own: they were added to their matrices, or there were none";
            return Err(EngineError::Invalid(message.into()));
        };
        let rank = self.weight(first.down)?.matrix_shape().0;
        let (mut tensors, mut targets) = (HashMap::new(), BTreeSet::new());
        for adapter in &found {
            let module = self.module(adapter.matrix)?;
            if (adapter.scale - first.scale).abs() > 1e-9 || self.weight(adapter.down)?.matrix_shape().0 != rank {
                return Err(EngineError::Unsupported("adapters of several ranks or scales make no one file".into()));
            }
            targets.insert(module.rsplit('.').next().unwrap_or_default().to_owned());
            let name = |part: &str| format!("base_model.model.{module}.lora_{part}.weight");
            tensors.insert(name("A"), self.read_weight(adapter.down, None)?);
            let ordered = |rows: Tensor| match self.interleaved_heads(adapter) {
                Some(head_dim) => halves(&rows, head_dim),
                None => Ok(rows),
            };
            tensors.insert(name("B"), ordered(self.read_weight(adapter.up, None)?)?);
            if let Some(rows) = adapter.rows {
                let magnitude = ordered(self.magnitude(adapter, rows)?)?.flatten_all()?;
                tensors.insert(format!("base_model.model.{module}.lora_magnitude_vector"), magnitude);
            }
        }
        let magnitudes = found.iter().filter(|adapter| adapter.rows.is_some()).count();
        if magnitudes > 0 && magnitudes < found.len() {
            return Err(EngineError::Unsupported("adapters with and without a magnitude make no one file".into()));
        }
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": first.scale * rank as f64,
            "target_modules": targets, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": false,
            "use_rslora": false, "use_dora": magnitudes > 0, "inference_mode": true,
            "base_model_name_or_path": self.checkpoint().path().display().to_string(),
        });
        let failed = |e: &dyn std::fmt::Display| {
            EngineError::Disk(format!("adapters cannot be written into {}: {e}", folder.display()))
        };
        std::fs::create_dir_all(folder).map_err(|e| failed(&e))?;
        let text = serde_json::to_string_pretty(&config).map_err(|e| failed(&e))?;
        std::fs::write(folder.join("adapter_config.json"), text).map_err(|e| failed(&e))?;
        candle_core::safetensors::save(&tensors, folder.join("adapter_model.safetensors")).map_err(|e| failed(&e))?;
        Ok(found.len())
    }

    fn adapters(&self) -> Vec<Found<'_>> {
        let graph = self.graph();
        let function = Some("decode".to_owned());
        let sums = Filter { function, role: Some("adapter".into()), op: Some("add".into()), ..Filter::default() };
        graph.filtered(&sums).into_iter().filter_map(|sum| self.adapter(sum)).collect()
    }

    fn adapter<'a>(&'a self, sum: &'a Node) -> Option<Found<'a>> {
        let maker = |value: &ValueId, op: &str| {
            let node = self.graph().producer(*value).and_then(|id| self.graph().node(id));
            node.filter(|node| node.spec.op == op)
        };
        let [made, adapted] = &sum.spec.inputs[..] else { return None };
        let up = maker(adapted, "linear")?;
        let scale = maker(up.spec.inputs.first()?, "scale")?;
        let down = maker(scale.spec.inputs.first()?, "linear")?;
        let mut adapted = *sum.outputs.first()?;
        // What reads it next, where that is a part of the adapter: the node, and the weight that it joins in.
        let joined = |value: ValueId, op: &str| {
            let readers = self.graph().consumers(value).into_iter().filter_map(|id| self.graph().node(id));
            let reader = readers.into_iter().find(|node| node.spec.role == "adapter" && node.spec.op == op)?;
            let weight = maker(reader.spec.inputs.get(1)?, "parameter")?.spec.weight("weight")?;
            Some((*reader.outputs.first()?, weight))
        };
        let mut rows = None;
        if let Some((value, weight)) = joined(adapted, "mul") {
            (adapted, rows) = (value, Some(weight));
            if let Some((value, _bias)) = joined(adapted, "add") {
                adapted = value;
            }
        }
        Some(Found {
            matrix: maker(made, "linear")?,
            down: down.spec.weight("weight")?,
            up: up.spec.weight("weight")?,
            scale: scale.spec.real("factor")?,
            rows,
            adapted,
        })
    }

    /// The norms that rows of the matrix with its adapter have, times their factors: `[rows, 1]`.
    fn magnitude(&self, adapter: &Found<'_>, factors: &str) -> Result<Tensor, EngineError> {
        let weight = adapter.matrix.spec.weight("weight").unwrap_or_default();
        let product = self.read_weight(adapter.up, None)?.matmul(&self.read_weight(adapter.down, None)?)?;
        let sum = (self.read_weight(weight, None)? + (product * adapter.scale)?)?;
        let norms = sum.sqr()?.sum_keepdim(1)?.sqrt()?;
        let rows = norms.dim(0)?;
        Ok((norms * self.read_weight(factors, None)?.reshape((rows, 1))?)?)
    }

    /// What transformers calls the matrix.
    fn module(&self, matrix: &Node) -> Result<String, EngineError> {
        let name = matrix.spec.weight("weight").unwrap_or_default();
        let refused =
            |why: &str| EngineError::Unsupported(format!("the adapter of weight `{name}` cannot be kept apart: {why}"));
        let sources = self.weight(name)?.sources(self.checkpoint());
        let (sources, _) = sources.ok_or_else(|| refused("the matrix is no longer the checkpoint's"))?;
        let [BoundTensor { tensor, steps }] = sources else {
            return Err(refused("the matrix is made of several tensors"));
        };
        if !steps.is_empty() {
            return Err(refused("the matrix is only a part of a tensor"));
        }
        let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
        if self.checkpoint().format() == Format::Safetensors {
            return Ok(module.to_owned());
        }
        let known = module.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let known = known.and_then(|(layer, part)| {
            let (_, module) = MODULES.iter().find(|(known, _)| *known == part)?;
            Some(format!("model.layers.{layer}.{module}"))
        });
        known.ok_or_else(|| refused(&format!("transformers has no name for `{tensor}`")))
    }

    /// The length of heads whose rope pairs neighbours, in a file whose rows llama.cpp has put in that order.
    fn interleaved_heads(&self, adapter: &Found<'_>) -> Option<usize> {
        if self.checkpoint().format() != Format::Gguf {
            return None;
        }
        let readers = self.graph().consumers(adapter.adapted);
        let rope = readers.into_iter().filter_map(|id| self.graph().node(id)).find(|node| node.spec.op == "rope")?;
        let interleaved = rope.spec.text("pairing") == Some("interleaved");
        rope.spec.integer("head-dim").filter(|_| interleaved).map(|dim| dim as usize)
    }
}

/// Rows of heads whose elements 2i and 2i + 1 are a pair, in the order in which i and i + half of a head are.
fn halves(of: &Tensor, head_dim: usize) -> Result<Tensor, EngineError> {
    let (rows, columns) = of.dims2()?;
    let heads = of.reshape((rows / head_dim, head_dim / 2, 2, columns))?;
    Ok(heads.transpose(1, 2)?.contiguous()?.reshape((rows, columns))?)
}
