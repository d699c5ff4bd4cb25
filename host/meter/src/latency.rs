//! Latency and throughput of generating text: warm-up runs are discarded, every other run gives one sample a quantity.
//!
//! Definitions: TTFT ends at the first generated token; end to end ends at the last; TPOT = (end to end - TTFT) /
//! (tokens - 1), so that no decode time includes prefill. Throughput counts all sequences of the batch.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, MonotonicClock};
use crate::noise::{self, Warning};
use crate::statistics::Summary;

/// Something that generates text, one batch of prompts at a time.
pub trait Workload {
    /// What can go wrong.
    type Error;

    /// Runs one batch from a cold cache: prefill, then decode. Calls `on_step` when the tokens of a step are at hand on the
    /// host (the device is synchronised); the first call ends prefill. Returns the tokens generated per sequence.
    fn generate(&mut self, on_step: &mut dyn FnMut()) -> Result<u32, Self::Error>;
}

/// How often to run what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Runs before the first that counts.
    pub warmup: u32,
    /// Runs that count, at least.
    pub repeats: u32,
    /// Runs that count, at most: beyond `repeats` a run is added while the relative standard error of the median end-to-end
    /// time exceeds `target_relative_error` and `time_budget_s` is not used up.
    pub repeats_max: u32,
    /// See `repeats_max`.
    pub target_relative_error: f64,
    /// See `repeats_max`; counts from the first run that counts.
    pub time_budget_s: f64,
    /// Tokens in each prompt.
    pub prompt_tokens: u32,
    /// Tokens that each sequence generates.
    pub output_tokens: u32,
    /// Sequences in the batch.
    pub batch: u32,
}

impl Plan {
    /// Exactly `repeats` runs after one warm-up run, one sequence.
    pub fn new(prompt_tokens: u32, output_tokens: u32, repeats: u32) -> Self {
        Self {
            warmup: 1,
            repeats,
            repeats_max: repeats,
            target_relative_error: 0.02,
            time_budget_s: f64::INFINITY,
            prompt_tokens,
            output_tokens,
            batch: 1,
        }
    }
}

/// Latency of one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The plan that was followed.
    pub plan: Plan,
    /// Time to first token.
    pub ttft_ms: Summary,
    /// Time per output token after the first. p50, p90 and p99 are of the gaps between steps, pooled over all runs. None
    /// when one token was generated: there is no decode then.
    pub tpot_ms: Option<Summary>,
    /// From the start to the last token.
    pub e2e_ms: Summary,
    /// Prompt tokens of the whole batch over TTFT.
    pub prefill_tokens_per_s: Summary,
    /// Tokens of the whole batch after the first, over the time after the first. None as for `tpot_ms`.
    pub decode_tokens_per_s: Option<Summary>,
    /// What is doubtful about the figures.
    pub warnings: Vec<Warning>,
}

/// Why there is no latency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LatencyError<E> {
    /// The plan cannot be followed.
    #[error("the measurement plan needs {field} of at least 1")]
    EmptyPlan {
        /// The field that is 0.
        field: &'static str,
    },
    /// The workload failed.
    #[error("the model failed in run {run} (warm-up included): {cause}")]
    Workload {
        /// From 1.
        run: u32,
        /// What the workload said.
        cause: E,
    },
    /// The workload's count of tokens cannot be.
    #[error("run {run} reported {tokens} tokens in {steps} steps: each step gives a token, and a run at least one")]
    Steps {
        /// From 1.
        run: u32,
        /// Returned by the workload.
        tokens: u32,
        /// Calls of `on_step`.
        steps: usize,
    },
    /// The workload took no time that the clock can see.
    #[error("run {run} took no measurable time: give it more tokens")]
    NoTime {
        /// From 1.
        run: u32,
    },
}

/// Measures a workload with the system's monotonic clock.
pub fn measure<W: Workload>(workload: &mut W, plan: &Plan) -> Result<Latency, LatencyError<W::Error>> {
    measure_with_clock(workload, plan, &MonotonicClock::default())
}

/// Measures a workload with a clock of the caller's.
pub fn measure_with_clock<W: Workload>(
    workload: &mut W,
    plan: &Plan,
    clock: &dyn Clock,
) -> Result<Latency, LatencyError<W::Error>> {
    for (field, value) in [
        ("repeats", plan.repeats),
        ("prompt_tokens", plan.prompt_tokens),
        ("output_tokens", plan.output_tokens),
        ("batch", plan.batch),
    ] {
        if value == 0 {
            return Err(LatencyError::EmptyPlan { field });
        }
    }
    let mut steps = Vec::with_capacity(plan.output_tokens as usize + 1);
    for run in 1..=plan.warmup {
        Run::time(workload, run, clock, &mut steps)?;
    }
    let mut samples = Samples::default();
    let begin = clock.now();
    for repeat in 1..=plan.repeats_max.max(plan.repeats) {
        if repeat > plan.repeats && (samples.settled(plan) || over(plan, clock.now() - begin)) {
            break;
        }
        let run = Run::time(workload, plan.warmup + repeat, clock, &mut steps)?;
        samples.add(plan, &run, &steps);
    }
    Ok(samples.summarise(plan))
}

fn over(plan: &Plan, spent: Duration) -> bool {
    spent.as_secs_f64() >= plan.time_budget_s
}

/// One run in numbers.
struct Run {
    tokens: u32,
    ttft: Duration,
    e2e: Duration,
}

impl Run {
    /// Times one run; `steps` is filled with the moment of each step.
    fn time<W: Workload>(
        workload: &mut W,
        run: u32,
        clock: &dyn Clock,
        steps: &mut Vec<Duration>,
    ) -> Result<Self, LatencyError<W::Error>> {
        steps.clear();
        let start = clock.now();
        let tokens = workload
            .generate(&mut || steps.push(clock.now()))
            .map_err(|cause| LatencyError::Workload { run, cause })?;
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
            return Err(LatencyError::Steps { run, tokens, steps: 0 });
        };
        if (tokens as usize) < steps.len() {
            return Err(LatencyError::Steps { run, tokens, steps: steps.len() });
        }
        let (ttft, e2e) = (*first - start, *last - start);
        if ttft.is_zero() || (tokens > 1 && e2e == ttft) {
            return Err(LatencyError::NoTime { run });
        }
        Ok(Self { tokens, ttft, e2e })
    }
}

/// Figures of the runs so far.
#[derive(Default)]
struct Samples {
    ttft_ms: Vec<f64>,
    tpot_ms: Vec<f64>,
    gaps_ms: Vec<f64>,
    e2e_ms: Vec<f64>,
    prefill_tokens_per_s: Vec<f64>,
    decode_tokens_per_s: Vec<f64>,
}

impl Samples {
    fn add(&mut self, plan: &Plan, run: &Run, steps: &[Duration]) {
        let batch = f64::from(plan.batch);
        self.ttft_ms.push(milliseconds(run.ttft));
        self.e2e_ms.push(milliseconds(run.e2e));
        self.prefill_tokens_per_s.push(batch * f64::from(plan.prompt_tokens) / run.ttft.as_secs_f64());
        if run.tokens > 1 {
            let (decode, decoded) = (run.e2e - run.ttft, f64::from(run.tokens - 1));
            self.tpot_ms.push(milliseconds(decode) / decoded);
            self.decode_tokens_per_s.push(batch * decoded / decode.as_secs_f64());
            self.gaps_ms.extend(steps.windows(2).map(|pair| milliseconds(pair[1] - pair[0])));
        }
    }

    fn settled(&self, plan: &Plan) -> bool {
        let error = Summary::of(self.e2e_ms.clone()).and_then(|summary| summary.relative_error());
        error.is_some_and(|error| error <= plan.target_relative_error)
    }

    fn summarise(self, plan: &Plan) -> Latency {
        let summary = |samples| Summary::of(samples).expect("at least one run, each with a positive time");
        let ttft_ms = summary(self.ttft_ms);
        let tpot_ms = Summary::with_events(self.tpot_ms, self.gaps_ms);
        let mut warnings = noise::warnings("ttft_ms", &ttft_ms);
        if let Some(tpot_ms) = &tpot_ms {
            warnings.extend(noise::warnings("tpot_ms", tpot_ms));
        }
        Latency {
            plan: plan.clone(),
            ttft_ms,
            tpot_ms,
            e2e_ms: summary(self.e2e_ms),
            prefill_tokens_per_s: summary(self.prefill_tokens_per_s),
            decode_tokens_per_s: Summary::of(self.decode_tokens_per_s),
            warnings,
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    /// Takes known times on a clock moved by hand; run i is slower by `drift_ms` * i.
    struct Scripted {
        clock: ManualClock,
        prefill_ms: f64,
        steps_ms: Vec<f64>,
        drift_ms: f64,
        runs: u32,
    }

    impl Scripted {
        fn new(prefill_ms: f64, steps_ms: &[f64]) -> Self {
            Self { clock: ManualClock::default(), prefill_ms, steps_ms: steps_ms.to_vec(), drift_ms: 0.0, runs: 0 }
        }

        fn take(&self, ms: f64) {
            self.clock.advance(Duration::from_secs_f64(ms / 1e3));
        }

        fn measure(&mut self, plan: &Plan) -> Result<Latency, LatencyError<String>> {
            let clock = self.clock.clone();
            measure_with_clock(self, plan, &clock)
        }
    }

    impl Workload for Scripted {
        type Error = String;

        fn generate(&mut self, on_step: &mut dyn FnMut()) -> Result<u32, String> {
            self.take(self.prefill_ms + self.drift_ms * f64::from(self.runs));
            self.runs += 1;
            on_step();
            for ms in &self.steps_ms {
                self.take(*ms);
                on_step();
            }
            self.take(1000.0);
            Ok(1 + self.steps_ms.len() as u32)
        }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6 * b.abs().max(1.0)
    }

    #[test]
    fn decode_times_never_include_prefill_nor_what_follows_the_last_token() {
        let plan = Plan { batch: 2, ..Plan::new(100, 5, 3) };
        let latency = Scripted::new(50.0, &[1.0, 2.0, 3.0, 4.0]).measure(&plan).unwrap();
        let (tpot, decode) = (latency.tpot_ms.unwrap(), latency.decode_tokens_per_s.unwrap());
        assert!(close(latency.ttft_ms.median, 50.0));
        assert!(close(latency.e2e_ms.median, 60.0));
        assert!(close(tpot.median, 2.5));
        assert!(close(latency.prefill_tokens_per_s.median, 2.0 * 100.0 / 0.05));
        assert!(close(decode.median, 2.0 * 4.0 / 0.01));
        assert_eq!(latency.ttft_ms.samples.len(), 3);
    }

    #[test]
    fn quantiles_of_time_per_token_are_those_of_the_gaps_of_all_runs() {
        let mut steps = vec![1.0; 99];
        steps.push(100.0);
        let tpot = Scripted::new(5.0, &steps).measure(&Plan::new(8, 101, 4)).unwrap().tpot_ms.unwrap();
        assert!(close(tpot.p50, 1.0) && close(tpot.p90, 1.0));
        assert!(tpot.p99 > 1.0 && close(tpot.median, 1.99));
    }

    #[test]
    fn warm_up_runs_are_discarded() {
        let mut workload = Scripted::new(10.0, &[1.0]);
        workload.drift_ms = 1.0;
        let latency = workload.measure(&Plan { warmup: 2, ..Plan::new(8, 2, 3) }).unwrap();
        assert_eq!(workload.runs, 5);
        assert!(latency.ttft_ms.samples.iter().zip([12.0, 13.0, 14.0]).all(|(a, b)| close(*a, b)));
    }

    #[test]
    fn one_output_token_has_a_time_to_first_token_and_no_decode() {
        let latency = Scripted::new(10.0, &[]).measure(&Plan::new(8, 1, 3)).unwrap();
        assert!(close(latency.ttft_ms.median, 10.0) && close(latency.e2e_ms.median, 10.0));
        assert_eq!((latency.tpot_ms, latency.decode_tokens_per_s), (None, None));
    }

    #[test]
    fn runs_are_added_until_the_median_has_settled_or_the_budget_is_spent() {
        let plan = Plan { repeats_max: 50, target_relative_error: 0.01, ..Plan::new(8, 2, 3) };
        let runs = |drift_ms: f64, plan: &Plan| {
            let mut workload = Scripted::new(10.0, &[1.0]);
            workload.drift_ms = drift_ms;
            workload.measure(plan).unwrap().e2e_ms.samples.len()
        };
        assert_eq!(runs(0.0, &plan), 3);
        assert_eq!(runs(5.0, &plan), 50);
        // A run takes a little over a second on the scripted clock.
        let short = runs(5.0, &Plan { time_budget_s: 6.0, ..plan });
        assert!((5..=7).contains(&short), "{short}");
    }

    #[test]
    fn sleeps_are_measured_on_the_real_clock() {
        struct Sleeper;
        impl Workload for Sleeper {
            type Error = std::convert::Infallible;
            fn generate(&mut self, on_step: &mut dyn FnMut()) -> Result<u32, Self::Error> {
                std::thread::sleep(Duration::from_millis(30));
                for _ in 0..5 {
                    on_step();
                    std::thread::sleep(Duration::from_millis(4));
                }
                Ok(5)
            }
        }
        let latency = measure(&mut Sleeper, &Plan::new(16, 5, 5)).unwrap();
        // A sleep never ends early; how late it ends is up to the machine, so the minimum is held to a wide bound.
        assert!(latency.ttft_ms.min >= 30.0 && latency.ttft_ms.min < 45.0, "{:?}", latency.ttft_ms);
        let tpot = latency.tpot_ms.unwrap();
        assert!(tpot.min >= 4.0 && tpot.min < 10.0, "{tpot:?}");
        assert!(latency.e2e_ms.min >= 46.0);
    }

    #[test]
    fn what_cannot_be_measured_is_refused_by_name() {
        let empty = Scripted::new(1.0, &[1.0]).measure(&Plan::new(8, 2, 0)).unwrap_err();
        assert_eq!(empty.to_string(), "the measurement plan needs repeats of at least 1");
        let no_time = Scripted::new(0.0, &[]).measure(&Plan::new(8, 1, 1)).unwrap_err();
        assert_eq!(no_time.to_string(), "run 1 took no measurable time: give it more tokens");

        struct Wrong(&'static str);
        impl Workload for Wrong {
            type Error = &'static str;
            fn generate(&mut self, on_step: &mut dyn FnMut()) -> Result<u32, &'static str> {
                match self.0 {
                    "silent" => Ok(3),
                    "eager" => {
                        on_step();
                        on_step();
                        Ok(1)
                    }
                    message => Err(message),
                }
            }
        }
        let said = |kind| measure(&mut Wrong(kind), &Plan::new(8, 2, 1)).unwrap_err().to_string();
        assert_eq!(
            said("silent"),
            "run 1 reported 3 tokens in 0 steps: each step gives a token, and a run at least one"
        );
        assert_eq!(
            said("eager"),
            "run 1 reported 1 tokens in 2 steps: each step gives a token, and a run at least one"
        );
        assert_eq!(said("out of memory"), "the model failed in run 1 (warm-up included): out of memory");
    }
}
