//! Energy of work on a device: from a counter of the machine, else estimated from the power that the user declared, else
//! unavailable with the reason.
//!
//! Counters move in steps (NVML every 100 ms or so), so work is repeated to fill a window of many steps; a window begins
//! and ends at a step, and what the machine draws when idle is measured before and told apart.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, MonotonicClock};
use crate::device::Device;
use crate::nvml;
use crate::rapl::Rapl;
use crate::statistics::Summary;

/// A window lasts at least this many steps of the counter, so that one step more or less is 5 % at most.
const STEPS_IN_WINDOW: u32 = 20;
const FORMULA: &str = "joules = watts_busy * seconds";

/// Energy of one piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Energy {
    /// A counter of the machine gave it.
    Measured {
        /// All that the device drew.
        joules: f64,
        /// What the device draws in the same time when idle.
        idle_joules: f64,
        /// Which counter.
        source: String,
    },
    /// Computed from what the user declared.
    Estimated {
        /// By the formula.
        joules: f64,
        /// How `joules` follows from the inputs.
        formula: String,
        /// Every input of the formula, by name.
        inputs: BTreeMap<String, f64>,
    },
    /// There is neither a counter nor a declared power.
    Unavailable {
        /// Why, and what would make it available.
        reason: String,
    },
}

impl Energy {
    /// Gross joules, if there are any.
    pub fn joules(&self) -> Option<f64> {
        match self {
            Energy::Measured { joules, .. } | Energy::Estimated { joules, .. } => Some(*joules),
            Energy::Unavailable { .. } => None,
        }
    }

    /// Joules beyond what the idle device draws; none unless measured, or estimated with a declared idle power.
    pub fn net_joules(&self) -> Option<f64> {
        match self {
            Energy::Measured { joules, idle_joules, .. } => Some(joules - idle_joules),
            Energy::Estimated { joules, inputs, .. } => {
                Some(joules - inputs.get("watts_idle")? * inputs.get("seconds")?)
            }
            Energy::Unavailable { .. } => None,
        }
    }
}

/// What the user says the device draws.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PowerModel {
    /// While it works.
    pub watts_busy: f64,
    /// While it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watts_idle: Option<f64>,
}

/// A declared power that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PowerModelError {
    /// Not a positive number.
    #[error("watts-busy is {watts}: declare the watts that the device draws at work, a number above 0")]
    Busy {
        /// What was declared.
        watts: f64,
    },
    /// Negative, not a number, or above busy.
    #[error("watts-idle is {watts}: declare a number from 0 to watts-busy ({busy})")]
    Idle {
        /// What was declared.
        watts: f64,
        /// `watts-busy`.
        busy: f64,
    },
}

impl PowerModel {
    /// Checks the figures.
    pub fn check(&self) -> Result<(), PowerModelError> {
        if !(self.watts_busy.is_finite() && self.watts_busy > 0.0) {
            return Err(PowerModelError::Busy { watts: self.watts_busy });
        }
        match self.watts_idle {
            Some(watts) if !(0.0..=self.watts_busy).contains(&watts) => {
                Err(PowerModelError::Idle { watts, busy: self.watts_busy })
            }
            _ => Ok(()),
        }
    }

    /// Energy of `seconds` of work.
    pub fn estimate(&self, seconds: f64) -> Energy {
        let mut inputs = BTreeMap::from([("watts_busy".to_owned(), self.watts_busy), ("seconds".to_owned(), seconds)]);
        if let Some(watts) = self.watts_idle {
            inputs.insert("watts_idle".to_owned(), watts);
        }
        Energy::Estimated { joules: self.watts_busy * seconds, formula: FORMULA.to_owned(), inputs }
    }
}

/// Why a counter gives nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CounterError {
    reason: String,
}

impl CounterError {
    /// The reason, with what would help.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Something that counts energy.
pub trait Counter: Send {
    /// Joules since some fixed moment; never falls.
    fn joules(&mut self) -> Result<f64, CounterError>;
    /// The count moves once in this time.
    fn update_period(&self) -> Duration;
    /// What is counted, for people.
    fn source(&self) -> String;
}

/// The total-energy counter of an NVIDIA GPU (Volta and newer): the whole board.
struct NvmlCounter {
    gpu: nvml_wrapper::Device<'static>,
    index: u32,
}

impl NvmlCounter {
    fn open(index: u32) -> Result<Self, CounterError> {
        let mut counter = Self { gpu: nvml::gpu(index).map_err(CounterError::new)?, index };
        counter.joules()?;
        Ok(counter)
    }
}

impl Counter for NvmlCounter {
    fn joules(&mut self) -> Result<f64, CounterError> {
        let millijoules = self.gpu.total_energy_consumption();
        let reason = |e| format!("cuda:{} has no total-energy counter (Volta and newer have one): {e}", self.index);
        millijoules.map(|mj| mj as f64 / 1e3).map_err(|e| CounterError::new(reason(e)))
    }

    fn update_period(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn source(&self) -> String {
        format!("NVML total energy of cuda:{}", self.index)
    }
}

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Windows, each of which gives one sample.
    pub count: u32,
    /// A window lasts at least this long, and at least 20 steps of the counter; work is repeated to fill it.
    pub length: Duration,
}

impl Default for Windows {
    fn default() -> Self {
        Self { count: 3, length: Duration::from_secs(1) }
    }
}

/// Energy of one run of the work, with the repeats behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnergyPerRun {
    /// Of one run; the median over the windows.
    pub energy: Energy,
    /// Gross joules of one run in each window; none unless measured.
    pub joules: Option<Summary>,
    /// Seconds of one run in each window; none when the work was not run because no energy could come of it.
    pub seconds: Option<Summary>,
    /// Runs of the work in all windows.
    pub runs: u32,
}

impl EnergyPerRun {
    fn unavailable(reason: impl Into<String>) -> Self {
        Self { energy: Energy::Unavailable { reason: reason.into() }, joules: None, seconds: None, runs: 0 }
    }
}

/// Measures the energy of work on one device.
pub struct EnergyMeter {
    source: Source,
    clock: Box<dyn Clock>,
    idle_watts: Option<f64>,
}

enum Source {
    Counter(Box<dyn Counter>),
    Declared(PowerModel),
    Nothing { reason: String },
}

impl EnergyMeter {
    /// Takes the device's counter; where there is none, the declared power; where that is missing too, every energy is
    /// unavailable.
    pub fn open(device: Device, declared: Option<PowerModel>) -> Result<Self, PowerModelError> {
        let counter: Result<Box<dyn Counter>, CounterError> = match device {
            Device::Cpu => Rapl::open().map(|counter| Box::new(counter) as Box<dyn Counter>),
            Device::Cuda { index } => NvmlCounter::open(index).map(|counter| Box::new(counter) as Box<dyn Counter>),
        };
        Self::with_counter(counter, declared, Box::new(MonotonicClock::default()))
    }

    /// As `open`, with a counter and a clock of the caller's.
    pub fn with_counter(
        counter: Result<Box<dyn Counter>, CounterError>,
        declared: Option<PowerModel>,
        clock: Box<dyn Clock>,
    ) -> Result<Self, PowerModelError> {
        if let Some(power) = &declared {
            power.check()?;
        }
        let source = match (counter, declared) {
            (Ok(counter), _) => Source::Counter(counter),
            (Err(_), Some(power)) => Source::Declared(power),
            (Err(error), None) => Source::Nothing {
                reason: format!("{error}; declare the device's power (watts-busy) to have energy estimated"),
            },
        };
        Ok(Self { source, clock, idle_watts: None })
    }

    /// Whether a counter of the machine is read.
    pub fn is_measured(&self) -> bool {
        matches!(self.source, Source::Counter(_))
    }

    /// Measures what the device draws when nothing runs, for `length` and at least 20 steps of the counter. Later energies
    /// are told apart by it. Without a counter there is nothing to do.
    pub fn measure_idle(&mut self, length: Duration) -> Result<(), CounterError> {
        let Source::Counter(counter) = &mut self.source else {
            return Ok(());
        };
        let length = length.max(STEPS_IN_WINDOW * counter.update_period());
        let start = step(counter.as_mut(), self.clock.as_ref())?;
        self.clock.sleep(length);
        let end = step(counter.as_mut(), self.clock.as_ref())?;
        self.idle_watts = Some((end.joules - start.joules) / (end.time - start.time).as_secs_f64());
        Ok(())
    }

    /// Energy of one run of `work`, which must wait for the device before it returns. With a counter, the idle device is
    /// measured first, unless it was before. With a declared power the work is run once a window. When no energy can come
    /// of it, the work is not run. Errors of the work end the measurement.
    pub fn measure<E>(&mut self, windows: Windows, mut work: impl FnMut() -> Result<(), E>) -> Result<EnergyPerRun, E> {
        if windows.count == 0 {
            return Ok(EnergyPerRun::unavailable("energy was asked for in 0 windows: ask for at least 1"));
        }
        if self.is_measured()
            && self.idle_watts.is_none()
            && let Err(error) = self.measure_idle(windows.length)
        {
            return Ok(EnergyPerRun::unavailable(error.to_string()));
        }
        match &mut self.source {
            Source::Nothing { reason } => Ok(EnergyPerRun::unavailable(reason.clone())),
            Source::Declared(power) => declared(*power, self.clock.as_ref(), windows, work),
            Source::Counter(counter) => {
                let idle_watts = self.idle_watts.expect("the idle device was measured above");
                let mut samples = Vec::new();
                for _ in 0..windows.count {
                    match window(counter.as_mut(), self.clock.as_ref(), windows.length, idle_watts, &mut work)? {
                        Ok(sample) => samples.push(sample),
                        Err(error) => return Ok(EnergyPerRun::unavailable(error.to_string())),
                    }
                }
                Ok(measured(&samples, idle_watts, counter.source()))
            }
        }
    }
}

/// One window in numbers.
struct Sample {
    joules: f64,
    seconds: f64,
    runs: u32,
}

fn summaries(samples: &[Sample]) -> (Summary, Summary, u32) {
    let per_run = |of: fn(&Sample) -> f64| {
        let values = samples.iter().map(|sample| of(sample) / f64::from(sample.runs)).collect();
        Summary::of(values).expect("at least one window, each with at least one run and finite figures")
    };
    let runs = samples.iter().map(|sample| sample.runs).sum();
    (per_run(|sample| sample.joules), per_run(|sample| sample.seconds), runs)
}

fn measured(samples: &[Sample], idle_watts: f64, source: String) -> EnergyPerRun {
    let (joules, seconds, runs) = summaries(samples);
    let energy = Energy::Measured { joules: joules.median, idle_joules: idle_watts * seconds.median, source };
    EnergyPerRun { energy, joules: Some(joules), seconds: Some(seconds), runs }
}

fn declared<E>(
    power: PowerModel,
    clock: &dyn Clock,
    windows: Windows,
    mut work: impl FnMut() -> Result<(), E>,
) -> Result<EnergyPerRun, E> {
    let mut samples = Vec::new();
    for _ in 0..windows.count {
        let start = clock.now();
        work()?;
        samples.push(Sample { joules: 0.0, seconds: (clock.now() - start).as_secs_f64(), runs: 1 });
    }
    let (_, seconds, runs) = summaries(&samples);
    Ok(EnergyPerRun { energy: power.estimate(seconds.median), joules: None, seconds: Some(seconds), runs })
}

/// Repeats the work for one window. The rest of the last step is idle time and is taken off again.
fn window<E>(
    counter: &mut dyn Counter,
    clock: &dyn Clock,
    length: Duration,
    idle_watts: f64,
    work: &mut impl FnMut() -> Result<(), E>,
) -> Result<Result<Sample, CounterError>, E> {
    let length = length.max(STEPS_IN_WINDOW * counter.update_period());
    let start = match step(counter, clock) {
        Ok(start) => start,
        Err(error) => return Ok(Err(error)),
    };
    let mut runs = 0;
    while runs == 0 || clock.now() - start.time < length {
        work()?;
        runs += 1;
        // A look at each run, because a counter that is never looked at may wrap around twice.
        if let Err(error) = counter.joules() {
            return Ok(Err(error));
        }
    }
    let worked = clock.now();
    Ok(step(counter, clock).map(|end| {
        let rest = idle_watts * (end.time - worked).as_secs_f64();
        Sample { joules: end.joules - start.joules - rest, seconds: (worked - start.time).as_secs_f64(), runs }
    }))
}

/// A moment at which the count has just moved.
struct Step {
    time: Duration,
    joules: f64,
}

/// Waits until the count moves.
fn step(counter: &mut dyn Counter, clock: &dyn Clock) -> Result<Step, CounterError> {
    let (begin, before) = (clock.now(), counter.joules()?);
    let (patience, look) = (STEPS_IN_WINDOW * counter.update_period(), counter.update_period() / 50);
    loop {
        clock.sleep(look);
        let (time, joules) = (clock.now(), counter.joules()?);
        if joules > before {
            return Ok(Step { time, joules });
        }
        if time - begin > patience {
            return Err(CounterError::new(format!(
                "{} stood still for {:.0} ms: this machine shows the counter but does not run it",
                counter.source(),
                (time - begin).as_secs_f64() * 1e3
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use crate::clock::ManualClock;

    /// A machine that draws 10 W when idle and 110 W at work, with a counter that moves every `period_ms`.
    #[derive(Clone)]
    struct Machine {
        clock: ManualClock,
        busy_nanoseconds: Arc<AtomicU64>,
        period_ms: u64,
    }

    impl Machine {
        fn new(period_ms: u64) -> Self {
            Self { clock: ManualClock::default(), busy_nanoseconds: Arc::default(), period_ms }
        }

        /// Works in small strokes, so that the counter moves amid the work.
        fn work(&self, ms: u64) {
            for _ in 0..ms {
                self.clock.advance(Duration::from_millis(1));
                self.busy_nanoseconds.fetch_add(1_000_000, Ordering::SeqCst);
            }
        }

        fn meter(&self) -> EnergyMeter {
            let counter = Steps { machine: self.clone(), shown: 0.0, moved: 0 };
            EnergyMeter::with_counter(Ok(Box::new(counter)), None, Box::new(self.clock.clone())).unwrap()
        }
    }

    struct Steps {
        machine: Machine,
        shown: f64,
        moved: u128,
    }

    impl Counter for Steps {
        fn joules(&mut self) -> Result<f64, CounterError> {
            let now = self.machine.clock.now();
            let tick = now.as_millis() / u128::from(self.machine.period_ms);
            if tick > self.moved {
                let busy = self.machine.busy_nanoseconds.load(Ordering::SeqCst) as f64 / 1e9;
                self.shown = 10.0 * now.as_secs_f64() + 100.0 * busy;
                self.moved = tick;
            }
            Ok(self.shown)
        }
        fn update_period(&self) -> Duration {
            Duration::from_millis(self.machine.period_ms)
        }
        fn source(&self) -> String {
            "the test machine".to_owned()
        }
    }

    fn close(a: f64, b: f64, share: f64) -> bool {
        (a / b - 1.0).abs() < share
    }

    #[test]
    fn work_is_repeated_to_fill_windows_of_many_steps_and_idle_power_is_told_apart() {
        let machine = Machine::new(100);
        let runs = Cell::new(0);
        let windows = Windows { count: 3, length: Duration::from_millis(500) };
        let result = machine.meter().measure(windows, || -> Result<(), Infallible> {
            runs.set(runs.get() + 1);
            machine.work(37);
            Ok(())
        });
        let result = result.unwrap();
        // 20 steps of 100 ms are longer than the window that was asked for: 55 runs of 37 ms, three times.
        assert_eq!((result.runs, runs.get()), (165, 165));
        assert!(close(result.energy.joules().unwrap(), 110.0 * 0.037, 0.02), "{result:?}");
        assert!(close(result.energy.net_joules().unwrap(), 100.0 * 0.037, 0.02), "{result:?}");
        assert_eq!(result.joules.unwrap().samples.len(), 3);
        assert!(close(result.seconds.unwrap().median, 0.037, 0.01));
    }

    #[test]
    fn work_longer_than_a_window_runs_once_in_each() {
        let machine = Machine::new(1);
        let windows = Windows { count: 2, length: Duration::from_millis(100) };
        let result = machine.meter().measure(windows, || -> Result<(), Infallible> {
            machine.work(400);
            Ok(())
        });
        let result = result.unwrap();
        assert_eq!(result.runs, 2);
        assert!(close(result.energy.joules().unwrap(), 44.0, 0.01), "{result:?}");
    }

    #[test]
    fn a_counter_that_stands_still_is_unavailable_rather_than_zero_joules() {
        struct Frozen;
        impl Counter for Frozen {
            fn joules(&mut self) -> Result<f64, CounterError> {
                Ok(5.0)
            }
            fn update_period(&self) -> Duration {
                Duration::from_millis(1)
            }
            fn source(&self) -> String {
                "RAPL package-0".to_owned()
            }
        }
        let clock = Box::new(ManualClock::default());
        let mut meter = EnergyMeter::with_counter(Ok(Box::new(Frozen)), None, clock).unwrap();
        let result = meter.measure(Windows::default(), || -> Result<(), Infallible> { panic!("must not run") });
        let Energy::Unavailable { reason } = result.unwrap().energy else { panic!("no energy can come of this") };
        assert_eq!(reason, "RAPL package-0 stood still for 20 ms: this machine shows the counter but does not run it");
    }

    #[test]
    fn a_declared_power_gives_an_estimate_with_its_formula_and_inputs() {
        let machine = Machine::new(1);
        let power = PowerModel { watts_busy: 65.0, watts_idle: Some(15.0) };
        let none = Err(CounterError::new("no counter"));
        let mut meter = EnergyMeter::with_counter(none, Some(power), Box::new(machine.clock.clone())).unwrap();
        let result = meter.measure(Windows::default(), || -> Result<(), Infallible> {
            machine.work(2000);
            Ok(())
        });
        let result = result.unwrap();
        assert_eq!(result.runs, 3);
        assert_eq!(
            serde_json::to_value(&result.energy).unwrap(),
            serde_json::json!({
                "status": "estimated",
                "joules": 130.0,
                "formula": "joules = watts_busy * seconds",
                "inputs": {"watts_busy": 65.0, "seconds": 2.0, "watts_idle": 15.0},
            })
        );
        assert_eq!(result.energy.net_joules(), Some(100.0));
    }

    #[test]
    fn without_counter_and_declared_power_the_work_is_not_run_and_the_reason_is_told() {
        let none = Err(CounterError::new("no counter here"));
        let mut meter = EnergyMeter::with_counter(none, None, Box::new(ManualClock::default())).unwrap();
        let result = meter.measure(Windows::default(), || -> Result<(), Infallible> { panic!("must not run") });
        let energy = result.unwrap().energy;
        assert_eq!((energy.joules(), energy.net_joules()), (None, None));
        assert_eq!(
            energy,
            Energy::Unavailable {
                reason: "no counter here; declare the device's power (watts-busy) to have energy estimated".to_owned()
            }
        );
    }

    #[test]
    fn work_that_fails_ends_the_measurement() {
        let machine = Machine::new(1);
        assert_eq!(machine.meter().measure(Windows::default(), || Err("out of memory")), Err("out of memory"));
    }

    #[test]
    fn a_declared_power_that_cannot_be_is_refused() {
        let refused = |watts_busy, watts_idle| PowerModel { watts_busy, watts_idle }.check().unwrap_err().to_string();
        let busy = "declare the watts that the device draws at work, a number above 0";
        assert_eq!(refused(0.0, None), format!("watts-busy is 0: {busy}"));
        assert_eq!(refused(f64::NAN, None), format!("watts-busy is NaN: {busy}"));
        assert_eq!(refused(10.0, Some(20.0)), "watts-idle is 20: declare a number from 0 to watts-busy (10)");
        assert_eq!(PowerModel { watts_busy: 10.0, watts_idle: Some(0.0) }.check(), Ok(()));
    }
}
