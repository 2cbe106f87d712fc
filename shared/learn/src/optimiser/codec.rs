//! Exact, versioned bytes of training states: a magic number, then little-endian integers and length-prefixed lists.

/// Why stored bytes cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Another magic number or version.
    #[error("not a {expected} state: it was written by another version or is another file")]
    Magic {
        /// The magic number needed, its last character the version.
        expected: String,
    },
    /// Fewer bytes than the contents need.
    #[error("state ends early")]
    Truncated,
    /// More bytes than the contents need.
    #[error("{extra} bytes follow the state")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A field that does not fit the settings in force.
    #[error("{what} does not fit the settings in force")]
    Unexpected {
        /// Which field.
        what: &'static str,
    },
}

/// Appends fields to a buffer.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(magic: [u8; 4]) -> Self {
        Self(magic.to_vec())
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(crate) fn f32s(&mut self, values: &[f32]) {
        self.u64(values.len() as u64);
        self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    pub(crate) fn f64s(&mut self, values: &[f64]) {
        self.u64(values.len() as u64);
        self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    pub(crate) fn bytes(&mut self, values: &[u8]) {
        self.u64(values.len() as u64);
        self.0.extend(values);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes fields off a slice. Lengths are checked against the bytes that are there before anything is allocated.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(magic: [u8; 4], bytes: &'a [u8]) -> Result<Self, CodecError> {
        match bytes.strip_prefix(&magic) {
            Some(rest) => Ok(Self(rest)),
            None => Err(CodecError::Magic { expected: String::from_utf8_lossy(&magic).into_owned() }),
        }
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CodecError> {
        let (value, rest) = self.0.split_first_chunk::<8>().ok_or(CodecError::Truncated)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*value))
    }

    /// A u64 that must have this value.
    pub(crate) fn require(&mut self, what: &'static str, value: u64) -> Result<(), CodecError> {
        if self.u64()? == value { Ok(()) } else { Err(CodecError::Unexpected { what }) }
    }

    /// A u64 that counts something in memory.
    pub(crate) fn length(&mut self, what: &'static str) -> Result<usize, CodecError> {
        usize::try_from(self.u64()?).map_err(|_| CodecError::Unexpected { what })
    }

    pub(crate) fn f32s(&mut self) -> Result<Vec<f32>, CodecError> {
        Ok(self.chunks::<4>()?.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }

    pub(crate) fn f64s(&mut self) -> Result<Vec<f64>, CodecError> {
        Ok(self.chunks::<8>()?.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect())
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        Ok(self.chunks::<1>()?.as_flattened())
    }

    pub(crate) fn finish(self) -> Result<(), CodecError> {
        if self.0.is_empty() { Ok(()) } else { Err(CodecError::Trailing { extra: self.0.len() }) }
    }

    fn chunks<const N: usize>(&mut self) -> Result<&'a [[u8; N]], CodecError> {
        let count = self.length("list length")?;
        let size = count.checked_mul(N).ok_or(CodecError::Truncated)?;
        let (list, rest) = self.0.split_at_checked(size).ok_or(CodecError::Truncated)?;
        self.0 = rest;
        Ok(list.as_chunks::<N>().0)
    }
}
