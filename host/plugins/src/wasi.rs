//! WASI for plugins that were granted it: no files, no network, no environment, output that goes nowhere, clocks that
//! stand still, and random numbers that are the same in every run.

use crate::state::State;
use std::time::Duration;
use wasmtime::component::Linker;
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// One plugin's view of the system.
pub(crate) struct Wasi(WasiCtx);

impl Default for Wasi {
    fn default() -> Self {
        let bytes: Vec<u8> = (0u32..4096).map(|i| (i.wrapping_mul(0x9E37_79B1) >> 24) as u8).collect();
        let context = WasiCtxBuilder::new()
            .wall_clock(Still)
            .monotonic_clock(Still)
            .secure_random(Deterministic::new(bytes.clone()))
            .insecure_random(Deterministic::new(bytes))
            .insecure_random_seed(0)
            .build();
        Self(context)
    }
}

/// A clock that stands still.
struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(Wasi::default);
        WasiCtxView { ctx: &mut wasi.0, table: &mut self.table }
    }
}

/// Offers WASI to the components that import it; the catalog has refused those that were not granted it.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)
}
