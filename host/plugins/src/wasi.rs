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

#[cfg(test)]
mod tests {
    use crate::limits::Limits;
    use crate::plugin::{Name, Runtime};
    use crate::state::State;
    use aehost_common::PluginKind;
    use std::sync::Arc;
    use wasmtime::Store;
    use wasmtime::component::Component;

    /// Calls a function of WASI that takes nothing and gives a u64.
    fn ask(interface: &str, function: &str) -> u64 {
        let text = format!(
            r#"(component
                (import "{interface}" (instance $wasi (export "{function}" (func (result u64)))))
                (core func $lowered (canon lower (func $wasi "{function}")))
                (core module $m
                    (import "wasi" "ask" (func $ask (result i64)))
                    (func (export "run") (result i64) call $ask))
                (core instance $i (instantiate $m (with "wasi" (instance (export "ask" (func $lowered))))))
                (func (export "run") (result u64) (canon lift (core func $i "run"))))"#
        );
        let runtime = Runtime::start().unwrap();
        let component = Component::new(&runtime.engine, wat::parse_str(text).unwrap()).unwrap();
        let name = Arc::new(Name { kind: PluginKind::Strategy, id: "curious".into(), version: "0.1.0".into() });
        let state = State::new(name, Limits::default(), Arc::new(|_, _| {}), Default::default());
        let mut store = Store::new(&runtime.engine, state);
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = runtime.linker.instantiate(&mut store, &component).unwrap();
        let run = instance.get_typed_func::<(), (u64,)>(&mut store, "run").unwrap();
        run.call(&mut store, ()).unwrap().0
    }

    #[test]
    fn random_numbers_repeat_and_clocks_stand_still() {
        let random = ask("wasi:random/random@0.2.6", "get-random-u64");
        assert_eq!(random, ask("wasi:random/random@0.2.6", "get-random-u64"));
        assert_eq!(ask("wasi:clocks/monotonic-clock@0.2.6", "now"), 0);
    }
}
