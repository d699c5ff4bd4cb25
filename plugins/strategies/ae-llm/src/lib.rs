//! AE-LLM (arXiv:2603.20492) for tens of measurements: surrogates of boosted trees stand in for the device, NSGA-II searches
//! them with operators that keep stages together, and what is measured next is what is expected to add most to the front.

mod model;
mod search;

aehost_sdk::strategy!(search::AeLlm);

#[cfg(test)]
mod tests;
