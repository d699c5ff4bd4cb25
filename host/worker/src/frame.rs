//! Frames on a pipe: the length as four little-endian bytes, then that much JSON.

use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// No message of the protocol is larger; a longer one means that something else writes to the pipe.
const LIMIT: usize = 256 << 20;

pub(crate) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|n| *n as usize <= LIMIT);
    let length = length.ok_or_else(|| io::Error::other(format!("a message of {} bytes is too long", body.len())))?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&body)?;
    to.flush()
}

/// The next message; none at the end of the pipe.
pub(crate) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0u8; 4];
    match from.read_exact(&mut length) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > LIMIT {
        return Err(io::Error::other(format!("a frame claims {length} bytes; the pipe carries something else")));
    }
    let mut body = vec![0u8; length];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut pipe = Vec::new();
        write(&mut pipe, &"first").unwrap();
        write(&mut pipe, &vec![1.5, f64::MIN_POSITIVE]).unwrap();
        let mut from = pipe.as_slice();
        assert_eq!(read::<String>(&mut from).unwrap().unwrap(), "first");
        assert_eq!(read::<Vec<f64>>(&mut from).unwrap().unwrap(), [1.5, f64::MIN_POSITIVE]);
        assert!(read::<String>(&mut from).unwrap().is_none());
    }

    #[test]
    fn a_pipe_that_carries_something_else_is_refused() {
        let error = read::<String>(&mut b"Hello, world".as_slice()).unwrap_err().to_string();
        assert_eq!(error, "a frame claims 1819043144 bytes; the pipe carries something else");
    }
}
