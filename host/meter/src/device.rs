//! Names of the devices that a model runs on.

use serde::{Deserialize, Serialize};

/// A device, written `cpu` or `cuda:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor and its memory.
    Cpu,
    /// An NVIDIA GPU, by its index as CUDA counts them for this process.
    Cuda {
        /// From 0.
        index: u32,
    },
}

/// A name that is no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no device: write `cpu`, or `cuda:0` with the number of the GPU")]
pub struct UnknownDevice {
    /// What was given.
    pub name: String,
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda { index } => write!(f, "cuda:{index}"),
        }
    }
}

impl std::str::FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice { name: name.to_owned() };
        match name.split_once(':') {
            None if name == "cpu" => Ok(Device::Cpu),
            None if name == "cuda" => Ok(Device::Cuda { index: 0 }),
            Some(("cuda", index)) => index.parse().map(|index| Device::Cuda { index }).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = UnknownDevice;

    fn try_from(name: String) -> Result<Self, UnknownDevice> {
        name.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_are_read_back() {
        for device in [Device::Cpu, Device::Cuda { index: 0 }, Device::Cuda { index: 3 }] {
            assert_eq!(device.to_string().parse(), Ok(device));
            assert_eq!(serde_json::from_str::<Device>(&serde_json::to_string(&device).unwrap()).unwrap(), device);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda { index: 0 }));
    }

    #[test]
    fn a_name_that_is_no_device_is_refused_with_what_to_write() {
        for name in ["", "gpu", "cuda:", "cuda:-1", "cpu:0"] {
            assert_eq!(
                name.parse::<Device>().unwrap_err().to_string(),
                format!("`{name}` is no device: write `cpu`, or `cuda:0` with the number of the GPU")
            );
        }
    }
}
