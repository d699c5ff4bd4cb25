//! The macros that turn a type into a component of one of the four worlds.

use std::marker::PhantomData;

/// Carries a plugin's type to the generated exports.
#[doc(hidden)]
pub struct Component<T>(PhantomData<T>);

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
