//! Distillation block by block: after each layer that a model still has, its hidden states are held to those of the base model there.

use super::network::Network;
use super::tape::Tape;
use crate::EngineError;
use crate::program::RowSpace;
use rayon::prelude::*;

/// Where one layer's hidden states leave it in a network and in its teacher.
pub(super) struct Exit {
    slot: usize,
    taught: usize,
}

/// The exits of the layers that both have, by their numbers.
///
/// # Errors
/// `Unsupported` where there are none, or a layer's hidden states have another width than the teacher's.
pub(super) fn exits(network: &Network, teacher: &Network) -> Result<Vec<Exit>, EngineError> {
    let taught = teacher.exits();
    let mut exits = vec![];
    for (layer, slot) in network.exits() {
        let Some((_, taught)) = taught.iter().find(|(number, _)| *number == layer) else { continue };
        let (own, base) = (network.slots[slot].width, teacher.slots[*taught].width);
        if own != base {
            return Err(EngineError::Unsupported(format!(
                "hidden states of layer {layer} have {own} elements, and {base} in the base model: distil by logits"
            )));
        }
        exits.push(Exit { slot, taught: *taught });
    }
    match exits.is_empty() {
        true => Err(EngineError::Unsupported("no layer has hidden states that the base model has too".into())),
        false => Ok(exits),
    }
}

/// The sum over selected rows of |h - t|² / |t|², mean over layers; where the tape's gradients are wanted, they become those of
/// `scale` times this.
pub(super) fn loss(exits: &[Exit], tape: &mut Tape<'_>, taught: &Tape<'_>, scale: Option<f32>) -> f64 {
    let mut sum = 0.0;
    for exit in exits {
        let width = tape.width(exit.slot);
        let pairs = tape.selected_rows(exit.slot).into_iter().zip(taught.selected_rows(exit.taught));
        let pairs: Vec<(usize, usize)> = pairs.collect();
        let (own, base) = (tape.value(exit.slot), taught.value(exit.taught));
        let rows = |(h, t): &(usize, usize)| (&own[h * width..][..width], &base[t * width..][..width]);
        let measures = pairs.par_iter().map(|pair| {
            let (h, t) = rows(pair);
            let length = t.iter().map(|t| t * t).sum::<f32>().max(f32::MIN_POSITIVE);
            let apart: f32 = h.iter().zip(t).map(|(h, t)| (h - t) * (h - t)).sum();
            (apart / length, length)
        });
        let measures: Vec<(f32, f32)> = measures.collect();
        sum += measures.iter().map(|(apart, _)| f64::from(*apart)).sum::<f64>() / exits.len() as f64;
        let Some(scale) = scale.filter(|_| tape.is_active(exit.slot)) else { continue };
        let mut gradient = vec![0f32; own.len()];
        for (pair, (_, length)) in pairs.iter().zip(&measures) {
            let (h, t) = rows(pair);
            let factor = 2.0 * scale / (exits.len() as f32 * length);
            let to = &mut gradient[pair.0 * width..][..width];
            to.iter_mut().zip(h.iter().zip(t)).for_each(|(to, (h, t))| *to = factor * (h - t));
        }
        tape.set_gradient(exit.slot, gradient);
    }
    sum
}

impl Network {
    /// By layer, the one value of each token that is made in it and read after it; for the last one that of the selected rows.
    fn exits(&self) -> Vec<(u32, usize)> {
        let exit = |range: &std::ops::Range<usize>| {
            let layer = self.stages[range.start].layer?;
            let made: Vec<usize> =
                self.stages[range.clone()].iter().flat_map(|stage| &stage.outputs).copied().collect();
            if made.contains(&self.selected) {
                return Some((layer, self.selected));
            }
            let leaves = |slot: &usize| self.borders[*slot] && self.slots[*slot].rows == RowSpace::Tokens;
            match &made.into_iter().filter(leaves).collect::<Vec<_>>()[..] {
                [slot] => Some((layer, *slot)),
                _ => None,
            }
        };
        self.segments.iter().filter_map(exit).collect()
    }
}
