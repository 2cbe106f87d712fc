//! Long byte strings in pieces: splitting, joining with limits, and vectors as little-endian bytes.

use bytes::Bytes;
use fusiondp_dp::Digest;
use sha2::{Digest as _, Sha256};

use crate::problem::{Problem, ProblemType};

/// Why a stream of chunks, or a vector in it, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The announced length is above the limit.
    #[error("payload announces {announced} bytes, the limit is {limit}; raise max_model_bytes on both ends")]
    TooLarge {
        /// Bytes announced.
        announced: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// One chunk is above the limit.
    #[error("chunk of {length} bytes, the negotiated max_chunk_bytes is {limit}; send smaller chunks")]
    ChunkTooLarge {
        /// Bytes in the chunk.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A chunk without bytes, which a peer could send for ever.
    #[error("empty chunk; send only chunks that hold bytes")]
    EmptyChunk,
    /// More bytes than announced.
    #[error("payload goes beyond the announced {announced} bytes; announce its true length")]
    Excess {
        /// Bytes announced.
        announced: u64,
    },
    /// The stream ended early.
    #[error("payload ended after {received} of {announced} bytes; send it again")]
    Incomplete {
        /// Bytes received.
        received: u64,
        /// Bytes announced.
        announced: u64,
    },
    /// The content is not what was announced.
    #[error("payload has SHA-256 {actual}, announced was {announced}; send it again")]
    DigestMismatch {
        /// Digest of the bytes received.
        actual: Digest,
        /// Digest announced.
        announced: Digest,
    },
    /// A byte string that is no whole number of values.
    #[error("{length} bytes hold no whole number of {width}-byte values")]
    Ragged {
        /// Bytes.
        length: usize,
        /// Bytes per value.
        width: usize,
    },
    /// A real vector with NaN or an infinity in it.
    #[error("value {index} is not finite; the sender must withhold such an update")]
    NotFinite {
        /// Position in the vector.
        index: usize,
    },
}

impl From<ChunkError> for Problem {
    fn from(error: ChunkError) -> Problem {
        let kind = match error {
            ChunkError::TooLarge { .. } | ChunkError::ChunkTooLarge { .. } => ProblemType::TooLarge,
            ChunkError::Incomplete { .. } | ChunkError::DigestMismatch { .. } => ProblemType::DigestMismatch,
            _ => ProblemType::MalformedMessage,
        };
        Problem::new(kind, error.to_string())
    }
}

/// Splits a payload into chunks of `max_chunk_bytes` (the last may be shorter) without copying; none for no bytes.
pub fn split(payload: Bytes, max_chunk_bytes: usize) -> impl Iterator<Item = Bytes> + Send + 'static {
    let step = max_chunk_bytes.max(1);
    let length = payload.len();
    (0..length).step_by(step).map(move |start| payload.slice(start..length.min(start + step)))
}

/// Joins the chunks of one payload and checks limit, length and digest. Memory grows with what has arrived, never with
/// what was announced.
#[derive(Debug)]
pub struct Assembler {
    announced: u64,
    digest: Digest,
    max_chunk_bytes: usize,
    received: Vec<u8>,
    hasher: Sha256,
}

impl Assembler {
    /// Starts a payload of `announced` bytes with the digest announced for it.
    ///
    /// # Errors
    /// [`ChunkError::TooLarge`] when `announced` is above `limit`.
    pub fn new(announced: u64, limit: u64, max_chunk_bytes: u32, digest: Digest) -> Result<Self, ChunkError> {
        if announced > limit {
            return Err(ChunkError::TooLarge { announced, limit });
        }
        let max_chunk_bytes = max_chunk_bytes as usize;
        Ok(Self { announced, digest, max_chunk_bytes, received: Vec::new(), hasher: Sha256::new() })
    }

    /// Adds the next chunk.
    ///
    /// # Errors
    /// A chunk that is empty, above the negotiated size, or goes beyond the announced length.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), ChunkError> {
        if chunk.is_empty() {
            return Err(ChunkError::EmptyChunk);
        }
        if chunk.len() > self.max_chunk_bytes {
            return Err(ChunkError::ChunkTooLarge { length: chunk.len(), limit: self.max_chunk_bytes });
        }
        if (self.received.len() + chunk.len()) as u64 > self.announced {
            return Err(ChunkError::Excess { announced: self.announced });
        }
        self.hasher.update(chunk);
        self.received.extend_from_slice(chunk);
        Ok(())
    }

    /// The payload, once it is complete and has the announced digest.
    ///
    /// # Errors
    /// [`ChunkError::Incomplete`] or [`ChunkError::DigestMismatch`].
    pub fn finish(self) -> Result<Vec<u8>, ChunkError> {
        let received = self.received.len() as u64;
        if received != self.announced {
            return Err(ChunkError::Incomplete { received, announced: self.announced });
        }
        let actual = Digest::from_bytes(self.hasher.finalize().into());
        if actual != self.digest {
            return Err(ChunkError::DigestMismatch { actual, announced: self.digest });
        }
        Ok(self.received)
    }
}

/// Appends `[P]` values as `4 P` little-endian bytes.
pub fn encode_f32(values: &[f32], into: &mut Vec<u8>) {
    into.reserve(values.len() * 4);
    into.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Appends `[P]` values as `8 P` little-endian bytes.
pub fn encode_i64(values: &[i64], into: &mut Vec<u8>) {
    into.reserve(values.len() * 8);
    into.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Reads a vector of finite values.
///
/// # Errors
/// [`ChunkError::Ragged`] or [`ChunkError::NotFinite`].
pub fn decode_f32(bytes: &[u8]) -> Result<Vec<f32>, ChunkError> {
    let values: Vec<f32> = words(bytes)?.map(f32::from_le_bytes).collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(ChunkError::NotFinite { index }),
        None => Ok(values),
    }
}

/// Reads a vector of integers.
///
/// # Errors
/// [`ChunkError::Ragged`].
pub fn decode_i64(bytes: &[u8]) -> Result<Vec<i64>, ChunkError> {
    Ok(words(bytes)?.map(i64::from_le_bytes).collect())
}

fn words<const N: usize>(bytes: &[u8]) -> Result<impl Iterator<Item = [u8; N]> + '_, ChunkError> {
    let (words, rest) = bytes.as_chunks::<N>();
    if rest.is_empty() {
        Ok(words.iter().copied())
    } else {
        Err(ChunkError::Ragged { length: bytes.len(), width: N })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn assembler(payload: &[u8], announced: u64) -> Assembler {
        Assembler::new(announced, 1000, 16, Digest::of(payload)).unwrap()
    }

    #[test]
    fn an_announcement_above_the_limit_is_refused_before_any_byte() {
        let error = Assembler::new(1001, 1000, 16, Digest::of(b"")).unwrap_err();
        assert_eq!(error, ChunkError::TooLarge { announced: 1001, limit: 1000 });
        assert_eq!(Problem::from(error).kind, ProblemType::TooLarge);
    }

    #[test]
    fn hostile_streams_are_refused() {
        let mut stream = assembler(b"abc", 3);
        assert_eq!(stream.push(b""), Err(ChunkError::EmptyChunk));
        assert_eq!(stream.push(&[0; 17]), Err(ChunkError::ChunkTooLarge { length: 17, limit: 16 }));
        assert_eq!(stream.push(b"abcd"), Err(ChunkError::Excess { announced: 3 }));
        stream.push(b"ab").unwrap();
        assert_eq!(stream.finish(), Err(ChunkError::Incomplete { received: 2, announced: 3 }));
    }

    #[test]
    fn changed_content_is_noticed_and_worth_another_try() {
        let mut stream = assembler(b"abc", 3);
        stream.push(b"abd").unwrap();
        let error = stream.finish().unwrap_err();
        assert!(matches!(error, ChunkError::DigestMismatch { .. }));
        assert!(Problem::from(error).is_retryable());
    }

    #[test]
    fn vectors_that_are_no_vectors_are_refused() {
        assert_eq!(decode_f32(&[0; 7]), Err(ChunkError::Ragged { length: 7, width: 4 }));
        assert_eq!(decode_i64(&[0; 12]), Err(ChunkError::Ragged { length: 12, width: 8 }));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut bytes = Vec::new();
            encode_f32(&[1.0, bad], &mut bytes);
            assert_eq!(decode_f32(&bytes), Err(ChunkError::NotFinite { index: 1 }));
        }
    }

    proptest! {
        #[test]
        fn split_and_join_are_inverse(payload in proptest::collection::vec(any::<u8>(), 0..300), size in 1u32..40) {
            let mut stream = Assembler::new(payload.len() as u64, 300, size, Digest::of(&payload)).unwrap();
            for chunk in split(Bytes::from(payload.clone()), size as usize) {
                stream.push(&chunk).unwrap();
            }
            prop_assert_eq!(stream.finish().unwrap(), payload);
        }

        #[test]
        fn vectors_survive_exactly(reals in proptest::collection::vec(-1e30f32..1e30, 0..50),
                                   integers in proptest::collection::vec(any::<i64>(), 0..50)) {
            let mut bytes = Vec::new();
            encode_f32(&reals, &mut bytes);
            prop_assert_eq!(decode_f32(&bytes).unwrap(), reals);
            bytes.clear();
            encode_i64(&integers, &mut bytes);
            prop_assert_eq!(decode_i64(&bytes).unwrap(), integers);
        }
    }
}
