//! The interface `tensor`: handles on the engine's tensors. All arithmetic is [`aehost_engine::numeric`]'s.

use crate::bindings::shared::tensor::{Host, HostTensor};
use crate::state::{Answer, HostCall, State};
use aehost_common::Fault;
use aehost_engine::{Tensor as Numbers, numeric};
use wasmtime::component::Resource;

/// A tensor that a plugin holds.
pub struct Tensor {
    /// On the device of the call.
    pub numbers: Numbers,
    size: u64,
}

type Handle = Resource<Tensor>;

/// Elements of one read are at most this many bytes.
const READ_LIMIT: u64 = 64 << 20;

fn size(numbers: &Numbers) -> u64 {
    numbers.elem_count() as u64 * numbers.dtype().size_in_bytes() as u64
}

impl State {
    /// Gives the plugin a tensor.
    pub fn give_tensor(&mut self, numbers: Numbers) -> Answer<Handle> {
        let size = size(&numbers);
        self.reserve(size)?;
        Ok(self.hand_out(Tensor { numbers, size })?)
    }

    /// The numbers behind a handle; cheap to clone.
    pub fn numbers(&self, handle: &Handle) -> Answer<Numbers> {
        Ok(self.table.get(handle)?.numbers.clone())
    }

    fn map(&mut self, handle: &Handle, op: impl FnOnce(&Numbers) -> Result<Numbers, Fault>) -> Answer<Handle> {
        let numbers = self.numbers(handle)?;
        let result = op(&numbers)?;
        self.give_tensor(result)
    }

    fn pair(&mut self, (first, second): (Numbers, Numbers)) -> Answer<(Handle, Handle)> {
        Ok((self.give_tensor(first)?, self.give_tensor(second)?))
    }
}

impl Host for HostCall<'_> {}

impl HostTensor for HostCall<'_> {
    fn from_bytes(&mut self, shape: Vec<u32>, dtype: String, bytes: Vec<u8>) -> Answer<Handle> {
        let numbers = numeric::from_bytes(&shape, &dtype, &bytes, &self.device)?;
        self.give_tensor(numbers)
    }

    fn full(&mut self, shape: Vec<u32>, dtype: String, value: f64) -> Answer<Handle> {
        let numbers = numeric::full(&shape, &dtype, value, &self.device)?;
        self.give_tensor(numbers)
    }

    fn random_normal(&mut self, shape: Vec<u32>, dtype: String, seed: u64) -> Answer<Handle> {
        let numbers = numeric::random_normal(&shape, &dtype, seed, &self.device)?;
        self.give_tensor(numbers)
    }

    fn concat(&mut self, axis: u32, parts: Vec<Handle>) -> Answer<Handle> {
        let parts = parts.iter().map(|p| self.numbers(p)).collect::<Answer<Vec<_>>>()?;
        let numbers = numeric::concat(axis, &parts)?;
        self.give_tensor(numbers)
    }

    fn shape(&mut self, this: Handle) -> wasmtime::Result<Vec<u32>> {
        Ok(numeric::shape(&self.table.get(&this)?.numbers))
    }

    fn dtype(&mut self, this: Handle) -> wasmtime::Result<String> {
        Ok(numeric::dtype_name(self.table.get(&this)?.numbers.dtype()).into())
    }

    fn read(&mut self, this: Handle, offset: u64, count: u64) -> Answer<Vec<u8>> {
        let numbers = &self.table.get(&this)?.numbers;
        let element = numbers.dtype().size_in_bytes() as u64;
        if count.saturating_mul(element) > READ_LIMIT {
            let most = READ_LIMIT / element;
            return Err(
                Fault::invalid(format!("reading {count} elements at once: at most {most} fit in a call")).into()
            );
        }
        Ok(numeric::read(numbers, offset, count)?)
    }

    fn cast(&mut self, this: Handle, dtype: String) -> Answer<Handle> {
        self.map(&this, |t| numeric::cast(t, &dtype))
    }

    fn unary(&mut self, this: Handle, op: String) -> Answer<Handle> {
        self.map(&this, |t| numeric::unary(t, &op))
    }

    fn binary(&mut self, this: Handle, op: String, other: Handle) -> Answer<Handle> {
        let other = self.numbers(&other)?;
        self.map(&this, |t| numeric::binary(t, &op, &other))
    }

    fn affine(&mut self, this: Handle, scale: f64, offset: f64) -> Answer<Handle> {
        self.map(&this, |t| numeric::affine(t, scale, offset))
    }

    fn clamp(&mut self, this: Handle, min: f64, max: f64) -> Answer<Handle> {
        self.map(&this, |t| numeric::clamp(t, min, max))
    }

    fn reduce(&mut self, this: Handle, op: String, axes: Vec<i32>, keep_dims: bool) -> Answer<Handle> {
        self.map(&this, |t| numeric::reduce(t, &op, &axes, keep_dims))
    }

    fn select(&mut self, this: Handle, otherwise: Handle, mask: Handle) -> Answer<Handle> {
        let (otherwise, mask) = (self.numbers(&otherwise)?, self.numbers(&mask)?);
        self.map(&this, |t| numeric::select(t, &otherwise, &mask))
    }

    fn matmul(&mut self, this: Handle, other: Handle) -> Answer<Handle> {
        let other = self.numbers(&other)?;
        self.map(&this, |t| numeric::matmul(t, &other))
    }

    fn transpose(&mut self, this: Handle, axes: Vec<u32>) -> Answer<Handle> {
        self.map(&this, |t| numeric::transpose(t, &axes))
    }

    fn reshape(&mut self, this: Handle, shape: Vec<u32>) -> Answer<Handle> {
        self.map(&this, |t| numeric::reshape(t, &shape))
    }

    fn slice(&mut self, this: Handle, axis: u32, start: u32, length: u32) -> Answer<Handle> {
        self.map(&this, |t| numeric::slice(t, axis, start, length))
    }

    fn write(&mut self, this: Handle, starts: Vec<u32>, part: Handle) -> Answer<Handle> {
        let part = self.numbers(&part)?;
        self.map(&this, |t| numeric::write(t, &starts, &part))
    }

    fn gather(&mut self, this: Handle, axis: u32, indices: Handle) -> Answer<Handle> {
        let indices = self.numbers(&indices)?;
        self.map(&this, |t| numeric::gather(t, axis, &indices))
    }

    fn scatter_add(&mut self, this: Handle, axis: u32, indices: Handle, source: Handle) -> Answer<Handle> {
        let (indices, source) = (self.numbers(&indices)?, self.numbers(&source)?);
        self.map(&this, |t| numeric::scatter_add(t, axis, &indices, &source))
    }

    fn diagonal(&mut self, this: Handle) -> Answer<Handle> {
        self.map(&this, numeric::diagonal)
    }

    fn cumulative_sum(&mut self, this: Handle, axis: u32) -> Answer<Handle> {
        self.map(&this, |t| numeric::cumulative_sum(t, axis))
    }

    fn top_k(&mut self, this: Handle, k: u32, largest: bool) -> Answer<(Handle, Handle)> {
        let found = numeric::top_k(&self.numbers(&this)?, k, largest)?;
        self.pair(found)
    }

    fn sort(&mut self, this: Handle, descending: bool) -> Answer<(Handle, Handle)> {
        let sorted = numeric::sort(&self.numbers(&this)?, descending)?;
        self.pair(sorted)
    }

    fn svd(&mut self, this: Handle, rank: Option<u32>) -> Answer<(Handle, Handle, Handle)> {
        let (u, s, v) = numeric::svd(&self.numbers(&this)?, rank)?;
        Ok((self.give_tensor(u)?, self.give_tensor(s)?, self.give_tensor(v)?))
    }

    fn eigh(&mut self, this: Handle) -> Answer<(Handle, Handle)> {
        let factors = numeric::eigh(&self.numbers(&this)?)?;
        self.pair(factors)
    }

    fn cholesky(&mut self, this: Handle, damping: f64) -> Answer<Handle> {
        self.map(&this, |t| numeric::cholesky(t, damping))
    }

    fn inverse(&mut self, this: Handle) -> Answer<Handle> {
        self.map(&this, numeric::inverse)
    }

    fn triangular_solve(&mut self, this: Handle, rhs: Handle, upper: bool, transpose: bool) -> Answer<Handle> {
        let rhs = self.numbers(&rhs)?;
        self.map(&this, |t| numeric::triangular_solve(t, &rhs, upper, transpose))
    }

    fn drop(&mut self, this: Handle) -> wasmtime::Result<()> {
        let tensor = self.table.delete(this)?;
        self.tensor_bytes = self.tensor_bytes.saturating_sub(tensor.size);
        Ok(())
    }
}
