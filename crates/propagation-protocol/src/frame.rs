//! Frames: a length, then that many bytes of JSON.

use propagation_model::error::ErrorKind;
use serde::Serialize;

use crate::host::FromHost;
use crate::message::Message;

/// The largest frame either side accepts, in bytes: far above 10,000 observations.
pub const MAX_FRAME_BYTES: usize = 256 * 1024 * 1024;

/// Writes one value as a frame.
///
/// # Errors
/// When the value is larger than [`MAX_FRAME_BYTES`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, value)?;
    let length = frame.len() - 4;
    if length > MAX_FRAME_BYTES {
        return Err(serde::ser::Error::custom("a frame above the size limit"));
    }
    frame[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    Ok(frame)
}

/// A message from an agent. Decoding is compiled here, once, and not in every backend.
pub trait Received: Sized {
    /// Reads the body of a frame.
    ///
    /// # Errors
    /// When it is another message.
    fn decode(body: &[u8]) -> Result<Self, serde_json::Error>;
}

impl Received for Message {
    fn decode(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

impl Received for FromHost {
    fn decode(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

/// Length of the frame whose first four bytes are `header`.
///
/// # Errors
/// When it is above [`MAX_FRAME_BYTES`]: the other side is not an agent.
pub fn frame_length(header: [u8; 4]) -> Result<usize, propagation_model::Error> {
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(propagation_model::Error::new(
            ErrorKind::AgentVersion,
            "read a frame from the agent",
            format!("it claims {length} bytes, above the limit of {MAX_FRAME_BYTES}"),
        )
        .with_fix("use the agent of the same release as this program"));
    }
    Ok(length)
}
