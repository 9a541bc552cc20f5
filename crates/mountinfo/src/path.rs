//! Paths as bytes, written in mountinfo notation.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::error::FieldError;
use super::escape::write_path;

/// A path as the kernel stores it: bytes, not necessarily UTF-8.
///
/// [`Display`](fmt::Display) and serde write it in mountinfo notation, where `\ooo` is the byte
/// with that octal value. Space, tab, newline, backslash, `#`, control characters and bytes that
/// are not UTF-8 are written so, everything else as it is. The text can be decoded without loss.
///
/// ```
/// use mountinfo::MountPath;
///
/// let path = MountPath::from("/mnt/my movies");
/// assert_eq!(path.to_string(), r"/mnt/my\040movies");
/// assert_eq!(MountPath::from_escaped(br"/mnt/my\040movies")?, path);
/// # Ok::<(), mountinfo::FieldError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, schemars::JsonSchema)]
pub struct MountPath(#[schemars(with = "String")] Vec<u8>);

impl MountPath {
    /// Takes the bytes as they are; backslashes mean themselves.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Decodes mountinfo notation. Every byte but the backslash stands for itself, whether it needs
    /// an escape or not.
    ///
    /// # Errors
    /// When a backslash is not followed by three octal digits that make a byte.
    pub fn from_escaped(escaped: &[u8]) -> Result<Self, FieldError> {
        if !escaped.contains(&b'\\') {
            return Ok(Self(escaped.to_vec()));
        }
        let mut decoded = Vec::with_capacity(escaped.len());
        let mut rest = escaped;
        while let Some((&byte, after)) = rest.split_first() {
            if byte != b'\\' {
                decoded.push(byte);
                rest = after;
                continue;
            }
            match *after {
                [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', ..] => {
                    decoded.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'));
                    rest = &after[3..];
                }
                _ => {
                    return Err(FieldError::new(
                        "three octal digits after every backslash",
                        escaped,
                    ));
                }
            }
        }
        Ok(Self(decoded))
    }

    /// The bytes of the path, without any escape.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as plain text, not escaped; bytes that are not UTF-8 are replaced.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// The path as the operating system takes it.
    #[cfg(unix)]
    pub fn to_path_buf(&self) -> std::path::PathBuf {
        use std::os::unix::ffi::OsStringExt;
        std::ffi::OsString::from_vec(self.0.clone()).into()
    }

    /// Whether `prefix` is this path or a directory above it: `/a/b` starts with `/a` and with `/`,
    /// `/ab` does not start with `/a`.
    pub fn starts_with(&self, prefix: &MountPath) -> bool {
        self.below(prefix).is_some()
    }

    /// What is left of the path below `prefix`, without a leading slash; empty for `prefix` itself.
    pub fn strip_prefix(&self, prefix: &MountPath) -> Option<MountPath> {
        self.below(prefix).map(MountPath::new)
    }

    fn below(&self, prefix: &MountPath) -> Option<&[u8]> {
        if prefix.0.is_empty() {
            return Some(&self.0);
        }
        let directory = trim_end_slashes(&prefix.0);
        match self.0.strip_prefix(directory)? {
            [] => Some(&[]),
            [b'/', rest @ ..] => Some(rest),
            _ => None,
        }
    }

    /// `path` below this one. A leading slash of `path` is dropped, so the result never leaves this
    /// path: `/rootfs` joined with `/data` is `/rootfs/data`. Joining an empty path changes
    /// nothing.
    #[must_use]
    pub fn join(&self, path: &MountPath) -> MountPath {
        let below = match path.0.iter().position(|&byte| byte != b'/') {
            Some(start) => &path.0[start..],
            None => return self.clone(),
        };
        let mut joined = trim_end_slashes(&self.0).to_vec();
        if !self.0.is_empty() {
            joined.push(b'/');
        }
        joined.extend_from_slice(below);
        MountPath(joined)
    }
}

fn trim_end_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    &path[..end]
}

impl From<&str> for MountPath {
    /// Plain text, not mountinfo notation.
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

#[cfg(unix)]
impl From<&std::path::Path> for MountPath {
    fn from(path: &std::path::Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_path(formatter, &self.0)
    }
}

impl fmt::Debug for MountPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{self}\"")
    }
}

impl Serialize for MountPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MountPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let escaped = String::deserialize(deserializer)?;
        Self::from_escaped(escaped.as_bytes()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> MountPath {
        MountPath::from(text)
    }

    #[test]
    fn escapes_are_decoded_and_written_again() {
        let bytes = b"/a b\tc\nd\\e#f\x1b\xff\xc2\x85";
        let escaped = "/a\\040b\\011c\\012d\\134e\\043f\\033\\377\\302\\205";
        assert_eq!(MountPath::from_escaped(escaped.as_bytes()), Ok(MountPath::new(bytes)));
        assert_eq!(MountPath::new(bytes).to_string(), escaped);
        assert_eq!(path("/żółw/🦀").to_string(), "/żółw/🦀");
        assert_eq!(path("/a b").to_string_lossy(), "/a b");
    }

    #[test]
    fn bad_escapes_are_refused() {
        for escaped in [r"\", r"\0", r"\04", r"\400", r"\048", r"\x41", r"/a\ b"] {
            let error = MountPath::from_escaped(escaped.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with("expected three octal digits"), "{error}");
        }
    }

    #[test]
    fn prefixes_are_whole_components() {
        for (whole, prefix, below) in [
            ("/a/b", "/a", Some("b")),
            ("/a/b", "/a/", Some("b")),
            ("/a/b", "/", Some("a/b")),
            ("/a", "/a", Some("")),
            ("/a", "/a/", Some("")),
            ("/", "/", Some("")),
            ("a", "", Some("a")),
            ("/ab", "/a", None),
            ("/a", "/a/b", None),
            ("a", "/", None),
        ] {
            assert_eq!(path(whole).strip_prefix(&path(prefix)), below.map(path));
            assert_eq!(path(whole).starts_with(&path(prefix)), below.is_some());
        }
    }

    #[test]
    fn joining_never_leaves_the_first_path() {
        for (first, second, joined) in [
            ("/a", "b", "/a/b"),
            ("/a/", "/b", "/a/b"),
            ("/", "b", "/b"),
            ("/a", "", "/a"),
            ("/a", "/", "/a"),
            ("", "b", "b"),
        ] {
            assert_eq!(path(first).join(&path(second)), path(joined));
        }
    }

    #[test]
    fn serde_uses_the_notation() {
        let odd = MountPath::new(b"/a b\xff");
        let json = serde_json::to_string(&odd).unwrap();
        assert_eq!(json, r#""/a\\040b\\377""#);
        assert_eq!(serde_json::from_str::<MountPath>(&json).unwrap(), odd);
        assert!(serde_json::from_str::<MountPath>(r#""/a\\9""#).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn operating_system_paths_convert_both_ways() {
        use std::os::unix::ffi::OsStrExt;
        let odd = std::path::Path::new(std::ffi::OsStr::from_bytes(b"/a\xff"));
        assert_eq!(MountPath::from(odd), MountPath::new(b"/a\xff"));
        assert_eq!(MountPath::from(odd).to_path_buf(), odd);
    }
}
