//! Reading frames of the protocol from a stream.

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::Error;
use crate::protocol::{Received, frame_length};

/// Reads the next message; none when the stream ends or breaks. Not cancel-safe: part of a frame may have been
/// read.
///
/// # Errors
/// When the bytes are not such a message; `other_version` makes the error from a description of what is wrong.
pub async fn read<T: Received>(
    reader: &mut (dyn AsyncRead + Send + Unpin),
    other_version: impl FnOnce(&str) -> Error,
) -> Result<Option<T>, Error> {
    loop {
        let mut header = [0; 4];
        if reader.read_exact(&mut header).await.is_err() {
            return Ok(None);
        }
        let length = frame_length(header)?;
        // An empty one carries descriptors from agent to agent and says nothing.
        if length == 0 {
            continue;
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).await.is_err() {
            return Ok(None);
        }
        return T::decode(&body).map(Some).map_err(|error| other_version(&error.to_string()));
    }
}
