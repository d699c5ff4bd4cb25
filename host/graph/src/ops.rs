//! The closed set of ops: their attributes, inputs and weight slots, and the shapes that they make.

use crate::ValueType;
use aehost_common::{Settings, Value};

/// What an attribute may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Real,
    Reals,
    Words(&'static [&'static str]),
}
use Kind::{Integer, Real, Reals, Words};

/// One op as data; the engine, the checks and the documentation share this table.
#[derive(Debug)]
pub struct OpInfo {
    /// Its name.
    pub name: &'static str,
    /// Names of its inputs.
    pub inputs: &'static [&'static str],
    /// Number of outputs.
    pub outputs: usize,
    attributes: &'static [(&'static str, Kind, bool)],
    /// Weight slots, and whether they must be bound.
    pub slots: &'static [(&'static str, bool)],
    /// Whether each output token depends on the input of that token alone.
    pub token_wise: bool,
}

impl OpInfo {
    /// The names of its attributes.
    pub fn attributes(&self) -> impl Iterator<Item = &'static str> {
        self.attributes.iter().map(|(name, ..)| *name)
    }
}

const X: &[&str] = &["x"];
const AB: &[&str] = &["a", "b"];

const fn unary(name: &'static str) -> OpInfo {
    OpInfo { name, inputs: X, outputs: 1, attributes: &[], slots: &[], token_wise: true }
}

static OPS: &[OpInfo] = &[
    OpInfo {
        name: "embedding",
        inputs: &["ids"],
        outputs: 1,
        attributes: &[("scale", Real, false)],
        slots: &[("weight", true)],
        token_wise: true,
    },
    OpInfo {
        name: "linear",
        inputs: X,
        outputs: 1,
        attributes: &[],
        slots: &[("weight", true), ("bias", false)],
        token_wise: true,
    },
    OpInfo {
        name: "rms-norm",
        inputs: X,
        outputs: 1,
        attributes: &[("epsilon", Real, true), ("weight-offset", Real, false)],
        slots: &[("weight", true)],
        token_wise: true,
    },
    OpInfo {
        name: "layer-norm",
        inputs: X,
        outputs: 1,
        attributes: &[("epsilon", Real, true)],
        slots: &[("weight", true), ("bias", false)],
        token_wise: true,
    },
    OpInfo {
        name: "rope",
        inputs: &["x", "positions"],
        outputs: 1,
        attributes: &[
            ("head-dim", Integer, true),
            ("dims", Integer, false),
            ("base", Real, true),
            ("pairing", Words(&["half", "interleaved"]), true),
            ("scaling", Words(&["none", "linear", "llama3", "yarn"]), false),
            ("factor", Real, false),
            ("low-frequency-factor", Real, false),
            ("high-frequency-factor", Real, false),
            ("original-context", Integer, false),
            ("attention-factor", Real, false),
            ("divisors", Reals, false),
            ("beta-fast", Real, false),
            ("beta-slow", Real, false),
        ],
        slots: &[("frequencies", false)],
        token_wise: true,
    },
    OpInfo {
        name: "cache",
        inputs: &["k", "v", "positions"],
        outputs: 3,
        attributes: &[
            ("dtype", Words(&["float32", "float16", "q8_0", "affine8", "affine4", "affine2"]), true),
            ("window", Integer, false),
            ("sinks", Integer, false),
            ("keep", Integer, false),
            ("newest", Integer, false),
            ("score", Words(&["accumulated", "latest"]), false),
            ("interval", Integer, false),
            ("head-dim", Integer, true),
        ],
        slots: &[],
        token_wise: false,
    },
    OpInfo {
        name: "attention",
        inputs: &["q", "k", "v", "positions", "key-positions"],
        outputs: 1,
        attributes: &[
            ("heads", Integer, true),
            ("kv-heads", Integer, true),
            ("head-dim", Integer, true),
            ("value-dim", Integer, false),
            ("scale", Real, true),
            ("window", Integer, false),
            ("softcap", Real, false),
            ("page", Integer, false),
            ("top-pages", Integer, false),
        ],
        slots: &[],
        token_wise: false,
    },
    OpInfo {
        name: "grouped-linear",
        inputs: X,
        outputs: 1,
        attributes: &[],
        slots: &[("weight", true)],
        // Though it is, its rows are not those of its tokens.
        token_wise: false,
    },
    OpInfo {
        name: "experts",
        inputs: &["x", "router"],
        outputs: 1,
        attributes: &[
            ("top-k", Integer, true),
            ("score", Words(&["softmax", "sigmoid", "one"]), true),
            ("normalise", Words(&["none", "sum"]), true),
            ("scale", Real, false),
            ("groups", Integer, false),
            ("top-groups", Integer, false),
            ("activation", Words(&["silu", "gelu"]), true),
        ],
        slots: &[("gate", true), ("up", true), ("down", true)],
        token_wise: false,
    },
    OpInfo {
        name: "concat",
        inputs: AB,
        outputs: 1,
        attributes: &[("groups", Integer, false)],
        slots: &[],
        token_wise: true,
    },
    OpInfo { name: "overlay", inputs: &["x", "images"], outputs: 1, attributes: &[], slots: &[], token_wise: true },
    OpInfo { name: "add", inputs: AB, outputs: 1, attributes: &[], slots: &[], token_wise: true },
    OpInfo { name: "mul", inputs: AB, outputs: 1, attributes: &[], slots: &[], token_wise: true },
    unary("silu"),
    OpInfo {
        name: "gelu",
        inputs: X,
        outputs: 1,
        attributes: &[("approximate", Words(&["tanh", "none"]), true)],
        slots: &[],
        token_wise: true,
    },
    unary("tanh"),
    unary("sigmoid"),
    unary("relu"),
    OpInfo {
        name: "scale",
        inputs: X,
        outputs: 1,
        attributes: &[("factor", Real, true)],
        slots: &[],
        token_wise: true,
    },
    unary("softmax"),
    OpInfo {
        name: "dropout",
        inputs: X,
        outputs: 1,
        attributes: &[("rate", Real, true)],
        slots: &[],
        token_wise: true,
    },
    OpInfo {
        name: "inverse-norms",
        inputs: &[],
        outputs: 1,
        attributes: &[("scale", Real, true)],
        slots: &[("weight", true), ("down", true), ("up", true)],
        token_wise: true,
    },
    OpInfo {
        name: "parameter",
        inputs: &[],
        outputs: 1,
        attributes: &[],
        slots: &[("weight", true)],
        token_wise: true,
    },
];

/// All ops.
pub fn ops() -> &'static [OpInfo] {
    OPS
}

/// An op by name.
pub fn op_info(name: &str) -> Option<&'static OpInfo> {
    OPS.iter().find(|o| o.name == name)
}

/// Checks attribute names, kinds and presence.
pub fn check_attributes(op: &str, attributes: &Settings) -> Result<&'static OpInfo, String> {
    let info = op_info(op).ok_or_else(|| {
        let known: Vec<&str> = OPS.iter().map(|o| o.name).collect();
        format!("op `{op}` is unknown; known: {}", known.join(", "))
    })?;
    for attribute in attributes.iter() {
        let Some((name, kind, _)) = info.attributes.iter().find(|(n, ..)| *n == attribute.name) else {
            let known: Vec<&str> = info.attributes.iter().map(|(n, ..)| *n).collect();
            return Err(format!("attribute `{}` is unknown; known: {}", attribute.name, known.join(", ")));
        };
        let fits = match kind {
            Integer => attribute.value.as_integer().is_some_and(|v| v >= 0),
            Real => attribute.value.as_real().is_some_and(f64::is_finite),
            Reals => attribute.value.as_reals().is_some_and(|v| v.iter().all(|v| v.is_finite())),
            Words(words) => attribute.value.as_text().is_some_and(|w| words.contains(&w)),
        };
        if !fits {
            let expected = match kind {
                Integer => "a whole number of at least 0".to_owned(),
                Real => "a finite number".to_owned(),
                Reals => "a list of finite numbers".to_owned(),
                Words(words) => format!("one of {}", words.join(", ")),
            };
            return Err(format!("attribute `{name}` = {} must be {expected}", attribute.value));
        }
    }
    match info.attributes.iter().find(|(n, _, required)| *required && attributes.get(n).is_none()) {
        Some((name, ..)) => Err(format!("attribute `{name}` is missing")),
        None => Ok(info),
    }
}

/// The shapes of an op's outputs, or what does not fit.
pub(crate) fn infer(
    op: &str,
    attributes: &Settings,
    inputs: &[ValueType],
    weights: &[(&str, &[usize])],
) -> Result<Vec<ValueType>, String> {
    let info = check_attributes(op, attributes)?;
    if inputs.len() != info.inputs.len() {
        return Err(format!(
            "it has {} inputs, expected {} ({})",
            inputs.len(),
            info.inputs.len(),
            info.inputs.join(", ")
        ));
    }
    if let Some((slot, _)) = weights.iter().find(|(n, _)| !info.slots.iter().any(|(s, _)| s == n)) {
        return Err(format!("it has no weight slot `{slot}`"));
    }
    if let Some((slot, _)) = info.slots.iter().find(|(s, required)| *required && !weights.iter().any(|(n, _)| n == s)) {
        return Err(format!("its weight slot `{slot}` is not bound"));
    }
    let weight = |slot: &str| weights.iter().find(|(n, _)| *n == slot).map(|(_, s)| *s);
    let integer = |name: &str| attributes.get(name).and_then(Value::as_integer).map(|v| v as usize);
    let width = |index: usize, expected: usize| {
        let found = inputs[index].width();
        if found == expected {
            Ok(())
        } else {
            Err(format!("input `{}` has width {found}, expected {expected}", info.inputs[index]))
        }
    };
    let is_indices = |index: usize| {
        if inputs[index].dtype == "uint32" {
            Ok(())
        } else {
            Err(format!(
                "input `{}` must be uint32 [tokens], found {} {}",
                info.inputs[index], inputs[index].dtype, inputs[index]
            ))
        }
    };
    let matrix = |slot: &str| match weight(slot) {
        Some([rows, columns]) => Ok((*rows, *columns)),
        Some(shape) => Err(format!("weight `{slot}` has shape {shape:?}, expected a matrix [out, in]")),
        None => Err(format!("weight `{slot}` is not bound")),
    };
    let stack = |slot: &str| match weight(slot) {
        Some([groups, rows, columns]) => Ok((*groups, *rows, *columns)),
        Some(shape) => Err(format!("weight `{slot}` has shape {shape:?}, expected a stack of matrices [n, out, in]")),
        None => Err(format!("weight `{slot}` is not bound")),
    };
    let vector = |slot: &str, expected: usize| match weight(slot) {
        None => Ok(()),
        Some(shape) if shape == [expected] => Ok(()),
        Some(shape) => Err(format!("weight `{slot}` has shape {shape:?}, expected [{expected}]")),
    };
    let multiple = |index: usize, of: usize, what: &str| {
        if of > 0 && inputs[index].width().is_multiple_of(of) {
            Ok(())
        } else {
            Err(format!(
                "input `{}` has width {}, expected a multiple of {what} = {of}",
                info.inputs[index],
                inputs[index].width()
            ))
        }
    };
    Ok(match op {
        "embedding" => {
            is_indices(0)?;
            vec![ValueType::activation(matrix("weight")?.1)]
        }
        "linear" => {
            let (out, input) = matrix("weight")?;
            width(0, input)?;
            vector("bias", out)?;
            vec![ValueType::activation(out)]
        }
        "grouped-linear" => {
            let (groups, out, input) = stack("weight")?;
            width(0, groups.checked_mul(input).ok_or("its weight is absurdly large")?)?;
            vec![ValueType::activation(groups.checked_mul(out).ok_or("its weight is absurdly large")?)]
        }
        "experts" => {
            let (experts, feed_forward, hidden) = stack("gate")?;
            width(0, hidden)?;
            width(1, experts)?;
            for (slot, expected) in [("up", (experts, feed_forward, hidden)), ("down", (experts, hidden, feed_forward))]
            {
                let found = stack(slot)?;
                if found != expected {
                    return Err(format!("weight `{slot}` has shape {found:?}, expected {expected:?}"));
                }
            }
            let groups = integer("groups").unwrap_or(1);
            let top_groups = integer("top-groups").unwrap_or(groups);
            if groups == 0 || !experts.is_multiple_of(groups) || top_groups == 0 || top_groups > groups {
                return Err(format!("{experts} experts cannot form {groups} groups of which {top_groups} take part"));
            }
            let most = experts / groups * top_groups;
            let top_k = integer("top-k").unwrap_or(0);
            if top_k == 0 || top_k > most {
                return Err(format!("top-k = {top_k} must be at least 1 and at most {most}"));
            }
            vec![ValueType::activation(hidden)]
        }
        "concat" => {
            let groups = integer("groups").unwrap_or(1);
            multiple(0, groups, "groups")?;
            multiple(1, groups, "groups")?;
            vec![ValueType::activation(inputs[0].width() + inputs[1].width())]
        }
        "rms-norm" | "layer-norm" => {
            let group = match weight("weight") {
                Some([n]) => *n,
                shape => return Err(format!("weight `weight` has shape {shape:?}, expected a vector")),
            };
            multiple(0, group, "the length of its weight")?;
            vector("bias", group)?;
            vec![inputs[0].clone()]
        }
        "rope" => {
            is_indices(1)?;
            let head = integer("head-dim").unwrap_or(0);
            multiple(0, head, "head-dim")?;
            let dims = integer("dims").unwrap_or(head);
            if dims > head || !dims.is_multiple_of(2) || dims == 0 {
                return Err(format!("dims = {dims} must be even, at least 2 and at most head-dim = {head}"));
            }
            vector("frequencies", dims / 2)?;
            let divisors = attributes.get("divisors").and_then(Value::as_reals);
            if let Some(found) = divisors.map(|d| d.len()).filter(|found| *found != dims / 2) {
                return Err(format!("divisors has {found} numbers, expected dims / 2 = {}", dims / 2));
            }
            vec![inputs[0].clone()]
        }
        "cache" => {
            is_indices(2)?;
            let head = integer("head-dim").unwrap_or(0);
            multiple(0, head, "head-dim")?;
            multiple(1, head, "head-dim")?;
            let dtype = attributes.get("dtype").and_then(Value::as_text).unwrap_or_default();
            if (dtype == "q8_0" || dtype.starts_with("affine")) && !head.is_multiple_of(32) {
                return Err(format!("dtype {dtype} needs a head-dim that is a multiple of 32, found {head}"));
            }
            let keep = integer("keep").unwrap_or(0);
            if integer("newest").is_some_and(|newest| newest > keep) {
                return Err(format!("newest must be at most keep = {keep}"));
            }
            if integer("interval") == Some(0) {
                return Err("interval must be at least 1".into());
            }
            inputs.to_vec()
        }
        "attention" => {
            let (heads, kv, dim) =
                (integer("heads").unwrap_or(0), integer("kv-heads").unwrap_or(0), integer("head-dim").unwrap_or(0));
            if heads == 0 || kv == 0 || dim == 0 || !heads.is_multiple_of(kv) {
                return Err(format!("heads = {heads} must be a multiple of kv-heads = {kv}, and all at least 1"));
            }
            let value_dim = integer("value-dim").unwrap_or(dim);
            let q = heads.checked_mul(dim).ok_or("heads x head-dim is absurdly large")?;
            let y = heads.checked_mul(value_dim).filter(|y| *y > 0).ok_or("heads x value-dim must be at least 1")?;
            width(0, q)?;
            width(1, kv * dim)?;
            // One head's values may be the first elements of its keys.
            if !(kv == 1 && value_dim < dim && inputs[2].width() == dim) {
                width(2, kv * value_dim)?;
            }
            is_indices(3)?;
            is_indices(4)?;
            vec![ValueType::activation(y)]
        }
        "overlay" => {
            width(1, inputs[0].width())?;
            vec![inputs[0].clone()]
        }
        "add" | "mul" => {
            let (a, b) = (inputs[0].width(), inputs[1].width());
            // One column goes with every column.
            if a != b && a != 1 && b != 1 {
                return Err(format!("inputs have shapes {} and {}, expected equal widths", inputs[0], inputs[1]));
            }
            let wider = if a == b { usize::from(!inputs[0].tokens) } else { usize::from(a < b) };
            vec![ValueType { tokens: inputs.iter().any(|i| i.tokens), ..inputs[wider].clone() }]
        }
        "dropout" => match attributes.get("rate").and_then(Value::as_real) {
            Some(rate) if (0.0..1.0).contains(&rate) => vec![inputs[0].clone()],
            rate => return Err(format!("rate = {} must be at least 0 and less than 1", rate.unwrap_or(f64::NAN))),
        },
        "inverse-norms" => {
            let ((out, input), (rank, columns), (rows, inner)) = (matrix("weight")?, matrix("down")?, matrix("up")?);
            if (rows, inner, columns) != (out, rank, input) {
                return Err(format!(
                    "weights `up` [{rows}, {inner}] and `down` [{rank}, {columns}] do not make a matrix [{out}, {input}]"
                ));
            }
            vec![ValueType { tokens: false, dims: vec![out], dtype: "float32".into() }]
        }
        "parameter" => {
            let shape = weight("weight").unwrap_or(&[]).to_vec();
            vec![ValueType { tokens: false, dims: shape, dtype: "float32".into() }]
        }
        _ => vec![inputs[0].clone()],
    })
}
