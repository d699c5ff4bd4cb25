//! The macros that turn a type into a component of one of the four worlds.

use std::marker::PhantomData;

/// Carries a plugin's type to the generated exports.
#[doc(hidden)]
pub struct Component<T>(PhantomData<T>);

/// Exports a type that implements [`Technique`](crate::Technique) as the component's technique.
#[macro_export]
macro_rules! technique {
    ($plugin:ty) => {
        const _: () = {
            type Component = $crate::Component<$plugin>;
    $crate::bindings::technique::export!(Component with_types_in $crate::bindings::technique);
        };
    };
}

/// Exports a type that implements [`Evaluator`](crate::Evaluator) as the component's evaluator.
#[macro_export]
macro_rules! evaluator {
    ($plugin:ty) => {
        const _: () = {
            type Component = $crate::Component<$plugin>;
    $crate::bindings::evaluator::export!(Component with_types_in $crate::bindings::evaluator);
        };
    };
}

/// Exports a type that implements [`Strategy`](crate::Strategy) as the component's strategy.
#[macro_export]
macro_rules! strategy {
    ($plugin:ty) => {
        const _: () = {
            type Component = $crate::Component<$plugin>;
    $crate::bindings::strategy::export!(Component with_types_in $crate::bindings::strategy);
        };
    };
}

/// Exports a type that implements [`Family`](crate::Family) as the component's family.
#[macro_export]
macro_rules! family {
    ($plugin:ty) => {
        const _: () = {
            type Component = $crate::Component<$plugin>;
    $crate::bindings::family::export!(Component with_types_in $crate::bindings::family);
        };
    };
}
