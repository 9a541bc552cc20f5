//! Error numbers of Linux, by their names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An error number of Linux (errno(3)). Written by its name; the numbers are those of every architecture but
/// alpha, mips, parisc and sparc.
///
/// ```
/// use propagation_model::Errno;
///
/// let errno: Errno = "ENOTCONN".parse().unwrap();
/// assert_eq!((errno.number(), errno.to_string().as_str()), (107, "ENOTCONN"));
/// assert!("ENOTCON".parse::<Errno>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(i32);

impl Errno {
    /// No error; written `0`.
    pub const NONE: Self = Self(0);

    /// The error with this number.
    pub const fn from_number(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Its name, where Linux has one for it.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(_, number)| *number == self.0).map(|(name, _)| *name)
    }

    /// All names, the usual one of a number before others that mean the same.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// The error that a program's message names, or describes as strerror(3) does; only those that starts and
    /// mounts of FUSE filesystems meet.
    ///
    /// ```
    /// use propagation_model::Errno;
    ///
    /// let said = "stat /srv/dfs: transport endpoint is not connected";
    /// assert_eq!(Errno::said_in(said), Some(Errno::ENOTCONN));
    /// ```
    pub fn said_in(text: &str) -> Option<Self> {
        let lower = text.to_lowercase();
        let said =
            |(words, errno): &&(&str, Self)| lower.contains(words) || errno.is_named_in(text);
        SAID.iter().find(said).map(|(_, errno)| *errno)
    }

    /// Whether words have its name, as a word of its own.
    ///
    /// ```
    /// use propagation_model::Errno;
    ///
    /// assert!(Errno::EIO.is_named_in("read: EIO (os error 5)"));
    /// assert!(!Errno::EIO.is_named_in("VIDEIO.DAT is read"));
    /// ```
    pub fn is_named_in(self, text: &str) -> bool {
        let mut words = text.split(|character: char| !character.is_ascii_alphanumeric());
        self.name().is_some_and(|name| words.any(|word| word == name))
    }
}

const SAID: &[(&str, Errno)] = &[
    ("transport endpoint is not connected", Errno::ENOTCONN),
    ("permission denied", Errno::EACCES),
    ("operation not permitted", Errno::EPERM),
    ("stale nfs file handle", Errno::ESTALE),
    ("stale file handle", Errno::ESTALE),
    ("input/output error", Errno::EIO),
    ("read-only file system", Errno::EROFS),
    ("no space left on device", Errno::ENOSPC),
    ("too many open files", Errno::EMFILE),
    ("not a directory", Errno::ENOTDIR),
    ("no such file or directory", Errno::ENOENT),
];

/// An unknown error name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown errno {0:?}")]
pub struct UnknownErrno(pub String);

impl FromStr for Errno {
    type Err = UnknownErrno;

    fn from_str(word: &str) -> Result<Self, UnknownErrno> {
        // What has no name is written by its number.
        if let Ok(number) = word.parse::<u16>() {
            return Ok(Self(number.into()));
        }
        let known = NAMES.iter().find(|(name, _)| *name == word);
        known.map(|(_, number)| Self(*number)).ok_or_else(|| UnknownErrno(word.to_owned()))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl Serialize for Errno {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Errno {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        word.parse().map_err(|unknown: UnknownErrno| {
            let near = crate::suggest::nearest(&word.to_uppercase(), Errno::names());
            let hint = match near {
                Some(near) => format!("did you mean {near}?"),
                None => "use a name such as EIO".to_owned(),
            };
            serde::de::Error::custom(format!("{unknown}; {hint}"))
        })
    }
}

impl schemars::JsonSchema for Errno {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Errno".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^([0-9]+|E[A-Z0-9]+)$",
            "description": "The name of an error of Linux, such as EIO.",
        })
    }
}

/// Defines the names with their numbers: a constant for each, and the table for reading and writing.
macro_rules! errnos {
    ($($name:ident = $number:literal,)*) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "`, error number ", stringify!($number), ".")]
                pub const $name: Self = Self($number);
            )*
        }

        const NAMES: &[(&str, i32)] = &[$((stringify!($name), $number)),*];
    };
}

// include/uapi/asm-generic/errno.h
#[rustfmt::skip]
errnos! {
    EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EIO = 5, ENXIO = 6, E2BIG = 7, ENOEXEC = 8, EBADF = 9,
    ECHILD = 10, EAGAIN = 11, EWOULDBLOCK = 11, ENOMEM = 12, EACCES = 13, EFAULT = 14, ENOTBLK = 15,
    EBUSY = 16, EEXIST = 17, EXDEV = 18, ENODEV = 19, ENOTDIR = 20, EISDIR = 21, EINVAL = 22,
    ENFILE = 23, EMFILE = 24, ENOTTY = 25, ETXTBSY = 26, EFBIG = 27, ENOSPC = 28, ESPIPE = 29,
    EROFS = 30, EMLINK = 31, EPIPE = 32, EDOM = 33, ERANGE = 34, EDEADLK = 35, EDEADLOCK = 35,
    ENAMETOOLONG = 36, ENOLCK = 37, ENOSYS = 38, ENOTEMPTY = 39, ELOOP = 40, ENOMSG = 42, EIDRM = 43,
    ECHRNG = 44, EL2NSYNC = 45, EL3HLT = 46, EL3RST = 47, ELNRNG = 48, EUNATCH = 49, ENOCSI = 50,
    EL2HLT = 51, EBADE = 52, EBADR = 53, EXFULL = 54, ENOANO = 55, EBADRQC = 56, EBADSLT = 57,
    EBFONT = 59, ENOSTR = 60, ENODATA = 61, ETIME = 62, ENOSR = 63, ENONET = 64, ENOPKG = 65,
    EREMOTE = 66, ENOLINK = 67, EADV = 68, ESRMNT = 69, ECOMM = 70, EPROTO = 71, EMULTIHOP = 72,
    EDOTDOT = 73, EBADMSG = 74, EOVERFLOW = 75, ENOTUNIQ = 76, EBADFD = 77, EREMCHG = 78, ELIBACC = 79,
    ELIBBAD = 80, ELIBSCN = 81, ELIBMAX = 82, ELIBEXEC = 83, EILSEQ = 84, ERESTART = 85, ESTRPIPE = 86,
    EUSERS = 87, ENOTSOCK = 88, EDESTADDRREQ = 89, EMSGSIZE = 90, EPROTOTYPE = 91, ENOPROTOOPT = 92,
    EPROTONOSUPPORT = 93, ESOCKTNOSUPPORT = 94, EOPNOTSUPP = 95, ENOTSUP = 95, EPFNOSUPPORT = 96,
    EAFNOSUPPORT = 97, EADDRINUSE = 98, EADDRNOTAVAIL = 99, ENETDOWN = 100, ENETUNREACH = 101,
    ENETRESET = 102, ECONNABORTED = 103, ECONNRESET = 104, ENOBUFS = 105, EISCONN = 106, ENOTCONN = 107,
    ESHUTDOWN = 108, ETOOMANYREFS = 109, ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTDOWN = 112,
    EHOSTUNREACH = 113, EALREADY = 114, EINPROGRESS = 115, ESTALE = 116, EUCLEAN = 117, ENOTNAM = 118,
    ENAVAIL = 119, EISNAM = 120, EREMOTEIO = 121, EDQUOT = 122, ENOMEDIUM = 123, EMEDIUMTYPE = 124,
    ECANCELED = 125, ENOKEY = 126, EKEYEXPIRED = 127, EKEYREVOKED = 128, EKEYREJECTED = 129,
    EOWNERDEAD = 130, ENOTRECOVERABLE = 131, ERFKILL = 132, EHWPOISON = 133,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_as_its_number() {
        for (name, number) in NAMES.iter().copied() {
            assert_eq!(name.parse::<Errno>().map(Errno::number), Ok(number));
        }
        for (name, number) in [("EPERM", 1), ("EAGAIN", 11), ("EOPNOTSUPP", 95), ("EHWPOISON", 133)]
        {
            assert_eq!(Errno::from_number(number).name(), Some(name));
        }
    }

    #[test]
    fn what_has_no_name_reads_back_as_its_number() {
        let unnamed = Errno::from_number(524);
        assert_eq!((unnamed.to_string().as_str(), "524".parse()), ("524", Ok(unnamed)));
    }

    #[test]
    fn a_misspelt_name_gets_a_hint() {
        let error = serde_json::from_str::<Errno>("\"ENOTCON\"").expect_err("no errno");
        assert!(error.to_string().contains("did you mean ENOTCONN?"), "{error}");
    }
}
