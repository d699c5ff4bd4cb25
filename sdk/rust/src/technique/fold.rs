//! Scales that cancel out: a value divided column by column, and the columns of all matrices that read it multiplied by the
//! same, leave what the model computes as it is (SmoothQuant, arXiv:2211.10438, section 4). The division is folded into the
//! weights that make the value, where they can take it.

use super::edit::{change, change_rows};
use super::{Editor, Error, Node, Tensor, ValueId, Wiring};
use crate::Value;

/// The weights that a division of a value goes into.
#[derive(Debug, Clone, PartialEq)]
pub enum Maker {
    /// A norm's, which multiply as weight + offset.
    Norm {
        /// `[channels]`
        weight: String,
        /// `[channels]`
        bias: Option<String>,
        /// Added to the weight: 1 for Gemma's.
        offset: f64,
    },
    /// A linear map's rows.
    Linear {
        /// `[channels, in]`
        weight: String,
        /// `[channels]`
        bias: Option<String>,
    },
}

/// A value that can be divided column by column, and where the scales go.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    /// The value.
    pub value: ValueId,
    /// The layer of the node that makes it.
    pub layer: Option<u32>,
    /// What takes the division.
    pub maker: Maker,
    /// The weights `[.., columns]` whose columns are multiplied.
    pub readers: Vec<String>,
    /// The maker's channel behind each column of the value: columns of one channel share a scale, as the query heads of one
    /// value head do.
    pub channels: Vec<usize>,
}

impl Wiring {
    /// How a value's scales fold.
    ///
    /// # Errors
    /// not-applicable, where what makes the value, or what reads it, does not let scales through; the message names it.
    pub fn fold(&self, value: ValueId) -> Result<Fold, Error> {
        let readers = self.matrices_reading(value)?;
        let (maker, channels) = self.divisible(value)?;
        Ok(Fold { value, layer: self.maker(value).and_then(|node| node.spec.layer), maker, readers, channels })
    }

    /// The value that an attention's cache is given as values, where only that attention sees it.
    ///
    /// # Errors
    /// not-applicable, naming what else reads it.
    #[inline(never)]
    pub fn attended(&self, attention: &Node) -> Result<ValueId, Error> {
        let name = &attention.spec.name;
        let Some((kept, cache)) = attention.spec.inputs.get(2).and_then(|kept| Some((*kept, self.maker(*kept)?)))
        else {
            return Err(Error::not_applicable(format!("`{name}` has no cache")));
        };
        match cache.spec.inputs.as_slice() {
            [_, values, ..] if cache.spec.op == "cache" && cache.outputs.get(1) == Some(&kept) => {
                self.sole_use(kept, attention)?;
                self.sole_use(*values, cache)?;
                Ok(*values)
            }
            _ => Err(Error::not_applicable(format!("the values of `{name}` do not come from a cache's values"))),
        }
    }

    /// What a division of the value goes into, and the channel of each column.
    fn divisible(&self, value: ValueId) -> Result<(Maker, Vec<usize>), Error> {
        let refuse = |why: String| Err(Error::not_applicable(format!("{} {why}", self.named(value))));
        let Some(node) = self.maker(value) else { return refuse("is made by no node".into()) };
        let bias = || node.weight("bias").map(|_| self.own(node, "bias").map(str::to_owned)).transpose();
        let width = self.width(value);
        match (node.spec.op.as_str(), node.spec.inputs.as_slice()) {
            ("rms-norm" | "layer-norm", _) => {
                let (weight, bias) = (self.own(node, "weight")?.to_owned(), bias()?);
                let offset = node.attribute("weight-offset").and_then(Value::as_real).unwrap_or(0.0);
                let length = self.columns(&weight).max(1);
                Ok((Maker::Norm { weight, bias, offset }, (0..width).map(|column| column % length).collect()))
            }
            ("linear", _) => {
                let (weight, bias) = (self.own(node, "weight")?.to_owned(), bias()?);
                Ok((Maker::Linear { weight, bias }, (0..width).collect()))
            }
            ("scale", [x]) => self.sole_use(*x, node).and_then(|()| self.divisible(*x)),
            // The branch that no activation bends takes it.
            ("mul", [a, b]) => {
                let branch = |x: ValueId| match self.width(x) == width && a != b {
                    true => self.sole_use(x, node).and_then(|()| self.divisible(x)),
                    false => refuse("has no factor of its width".into()),
                };
                branch(*b).or_else(|_| branch(*a))
            }
            ("attention", _) => {
                let (maker, channels) = self.divisible(self.attended(node)?)?;
                let of = |name: &str| node.attribute(name).and_then(Value::as_integer).unwrap_or(0) as usize;
                let size = of(if node.attribute("value-dim").is_some() { "value-dim" } else { "head-dim" });
                let columns = value_columns(of("heads"), of("kv-heads"), size);
                let known = columns.iter().map(|column| channels.get(*column).copied()).collect();
                match known {
                    Some(channels) => Ok((maker, channels)),
                    None => refuse("has more columns than its values".into()),
                }
            }
            (op, _) => refuse(format!("comes from the op `{op}`, which scales do not pass")),
        }
    }

    fn sole_use(&self, value: ValueId, by: &Node) -> Result<(), Error> {
        let times = by.spec.inputs.iter().filter(|input| **input == value).count();
        let other = self.readers(value).find(|reader| reader.id != by.id);
        let name = match other {
            Some(other) => format!("`{}`", other.spec.name),
            None if self.outputs.contains(&value) => "the model's output".into(),
            None if times > 1 => format!("`{}`, twice", by.spec.name),
            None => return Ok(()),
        };
        Err(Error::not_applicable(format!("{} is read by {name} too", self.named(value))))
    }
}

/// The column of the values behind each column of an attention's output; neighbouring query heads share a value head.
fn value_columns(heads: usize, kv_heads: usize, size: usize) -> Vec<usize> {
    let shared = (heads / kv_heads.max(1)).max(1);
    (0..heads).flat_map(|head| (0..size).map(move |i| head / shared * size + i)).collect()
}

impl Fold {
    /// Whether scales go into the weight.
    pub fn touches(&self, weight: &str) -> bool {
        let (Maker::Norm { weight: made, bias, .. } | Maker::Linear { weight: made, bias }) = &self.maker;
        self.readers.iter().chain([made]).chain(bias).any(|touched| touched == weight)
    }

    /// How many scales there are.
    pub fn count(&self) -> usize {
        self.channels.iter().max().map_or(0, |last| last + 1)
    }

    /// One number for each channel of what there is for each column: `join` of those that share it.
    pub fn by_channel(&self, columns: &[f32], join: fn(f32, f32) -> f32) -> Vec<f32> {
        let mut found: Vec<Option<f32>> = vec![None; self.count()];
        for (channel, number) in self.channels.iter().zip(columns) {
            found[*channel] = Some(found[*channel].map_or(*number, |known| join(known, *number)));
        }
        found.into_iter().map(|number| number.unwrap_or(1.0)).collect()
    }

    /// A number for each column of what there is for each channel.
    pub fn by_column(&self, channels: &[f32]) -> Vec<f32> {
        self.channels.iter().map(|channel| channels[*channel]).collect()
    }

    /// Divides the value by the scales, one for each channel, and multiplies the columns that read it.
    ///
    /// # Errors
    /// diverged, where a scale is not a positive finite number; those of the host.
    #[inline(never)]
    pub fn apply(&self, model: &Editor, scales: &[f32]) -> Result<(), Error> {
        if let Some(bad) = scales.iter().find(|s| !s.is_finite() || **s <= 0.0) {
            let weight = &self.readers[0];
            return Err(Error::new("diverged", format!("the columns of weight `{weight}` would be scaled by {bad}")));
        }
        let count = scales.len() as u32;
        let flat = Tensor::from_f32(&[count], scales)?;
        match &self.maker {
            Maker::Norm { weight, bias, offset } => {
                change(model, weight, |w| w.affine(1.0, *offset)?.binary("div", &flat)?.affine(1.0, -offset))?;
                bias.as_ref().map(|bias| change(model, bias, |b| b.binary("div", &flat))).transpose()?;
            }
            Maker::Linear { weight, bias } => {
                let rows = flat.reshape(&[count, 1])?;
                change(model, weight, |w| w.binary("div", &rows))?;
                bias.as_ref().map(|bias| change(model, bias, |b| b.binary("div", &flat))).transpose()?;
            }
        }
        let columns = Tensor::from_f32(&[self.channels.len() as u32], &self.by_column(scales))?;
        self.readers.iter().try_for_each(|weight| change_rows(model, weight, |w| w.binary("mul", &columns)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, wiring};
    use super::*;

    fn norm(weight: &str, offset: f64) -> Maker {
        Maker::Norm { weight: weight.into(), bias: None, offset }
    }

    fn linear(weight: &str) -> Maker {
        Maker::Linear { weight: weight.into(), bias: None }
    }

    fn refused(wiring: &Wiring, value: ValueId) -> String {
        let error = wiring.fold(value).unwrap_err();
        assert_eq!(error.code, "not-applicable");
        error.message
    }

    #[test]
    fn a_norm_takes_the_scales_of_all_matrices_that_read_it() {
        let nodes = vec![
            node(0, "rms-norm", &[1], &["weight=n"], &[("weight-offset", 1)]),
            node(1, "linear", &[100], &["weight=q"], &[]),
            node(2, "linear", &[100], &["weight=k"], &[]),
        ];
        let fold = wiring(nodes.clone(), &[(100, 4)], &[("n", 4)]).fold(100).unwrap();
        assert_eq!((fold.maker, fold.readers), (norm("n", 1.0), vec!["q".to_owned(), "k".to_owned()]));
        assert_eq!(fold.channels, [0, 1, 2, 3]);
        let by_heads = wiring(nodes.clone(), &[(100, 4)], &[("n", 2)]).fold(100).unwrap();
        assert_eq!(by_heads.channels, [0, 1, 0, 1], "a norm of heads has one weight for all of them");
        let shared = [nodes, vec![node(3, "rms-norm", &[2], &["weight=n"], &[])]].concat();
        let message = refused(&wiring(shared, &[(100, 4)], &[("n", 4)]), 100);
        assert_eq!(message, "weight `n` is used by `rms-norm.3` too, which would change");
    }

    /// gate (100) and up (102) of a network, and down, which reads their product (103).
    fn network() -> Vec<Node> {
        vec![
            node(0, "linear", &[1], &["weight=gate"], &[]),
            node(1, "silu", &[100], &[], &[]),
            node(2, "linear", &[1], &["weight=up", "bias=b"], &[]),
            node(3, "mul", &[101, 102], &[], &[]),
            node(4, "linear", &[103], &["weight=down"], &[]),
        ]
    }

    #[test]
    fn a_gated_network_takes_scales_in_the_rows_of_its_up_projection() {
        let widths = [(101, 3), (102, 3), (103, 3)];
        let up = Maker::Linear { weight: "up".into(), bias: Some("b".into()) };
        assert_eq!(wiring(network(), &widths, &[]).fold(103).unwrap().maker, up);
        let mut swapped = network();
        swapped[3].spec.inputs.reverse();
        assert_eq!(wiring(swapped, &widths, &[]).fold(103).unwrap().maker, up);
        let narrow = wiring(network(), &[(101, 3), (102, 1), (103, 3)], &[]);
        assert_eq!(refused(&narrow, 103), "what `silu.1` gives comes from the op `silu`, which scales do not pass");
        let mut read_twice = network();
        read_twice.push(node(5, "tanh", &[102], &[], &[]));
        assert!(wiring(read_twice, &widths, &[]).fold(103).is_err());
    }

    /// value (100), a cache (110, 111, 112) and attention (102) of two query heads on one value head.
    fn attention(values: ValueId) -> Vec<Node> {
        let mut cache = node(1, "cache", &[7, values, 8], &[], &[]);
        cache.outputs = vec![110, 111, 112];
        vec![
            node(0, "linear", &[1], &["weight=v"], &[]),
            cache,
            node(2, "attention", &[5, 110, 111, 8, 112], &[], &[("heads", 4), ("kv-heads", 2), ("head-dim", 2)]),
            node(3, "linear", &[102], &["weight=o"], &[]),
        ]
    }

    #[test]
    fn query_heads_of_one_value_head_share_its_scales() {
        let widths = [(100, 4), (102, 8)];
        let fold = wiring(attention(100), &widths, &[]).fold(102).unwrap();
        assert_eq!((&fold.maker, fold.channels.as_slice()), (&linear("v"), [0, 1, 0, 1, 2, 3, 2, 3].as_slice()));
        assert_eq!(fold.by_channel(&[1.0, 2.0, 3.0, 1.0, 5.0, 6.0, 5.0, 7.0], f32::max), [3.0, 2.0, 5.0, 7.0]);
        assert_eq!(fold.by_column(&[1.0, 2.0, 3.0, 4.0]), [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
        assert!(refused(&wiring(attention(7), &widths, &[]), 102).contains("twice"), "keys and values are one");
        let mut shared = attention(100);
        shared.push(node(4, "attention", &[6, 110, 111, 8, 112], &[], &[]));
        assert!(refused(&wiring(shared, &widths, &[]), 102).contains("`attention.4`"));
    }
}
