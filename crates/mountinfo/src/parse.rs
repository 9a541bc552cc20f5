//! Parsing `/proc/<pid>/mountinfo` into entries.
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//! |  |  |    |     |     |          |          |    |         super options (the rest of the line)
//! |  |  |    |     |     |          |          |    source (may be empty)
//! |  |  |    |     |     |          |          filesystem type, after the separator
//! |  |  |    |     |     |          optional fields, any number
//! |  |  |    |     |     mount options
//! |  |  |    |     mount point
//! |  |  |    root
//! |  |  major:minor
//! |  parent id
//! mount id
//! ```

use std::str::FromStr;

use super::entry::{DELETED, DeviceId, MountEntry};
use super::error::{FieldError, ParseError};
use super::escape::notation;
use super::path::MountPath;
use super::table::MountTable;

impl MountTable {
    /// Reads a whole mountinfo file.
    ///
    /// Unknown optional fields are ignored, as the kernel's documentation asks. The last line may lack
    /// its newline but not a field; a file that was cut within the super options, or between two lines,
    /// cannot be distinguished from a whole one.
    ///
    /// # Errors
    /// The first line that cannot be read, with the field and what was found there.
    pub fn parse(bytes: &[u8]) -> Result<MountTable, ParseError> {
        // A line is rarely shorter than this, so that the vector seldom grows, and an input of
        // newlines cannot make it reserve much more than its own size.
        const TYPICAL_LINE_BYTES: usize = 100;

        let mut entries = Vec::with_capacity(bytes.len() / TYPICAL_LINE_BYTES + 1);
        let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if !bytes.is_empty() {
            for (index, line) in lines.split(|&byte| byte == b'\n').enumerate() {
                entries.push(parse_line(line, index + 1)?);
            }
        }
        Ok(MountTable::from(entries))
    }
}

impl FromStr for MountEntry {
    type Err = ParseError;

    fn from_str(line: &str) -> Result<Self, ParseError> {
        parse_line(line.strip_suffix('\n').unwrap_or(line).as_bytes(), 1)
    }
}

impl FromStr for DeviceId {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        parse_device(text.as_bytes())
    }
}

/// Reads one line, without its newline.
fn parse_line(line: &[u8], number: usize) -> Result<MountEntry, ParseError> {
    let mut fields = Fields { rest: Some(line), number };
    let mount_id = fields.read("mount id", parse_number)?;
    let parent_id = fields.read("parent id", parse_number)?;
    let device = fields.read("device", parse_device)?;
    let (root, root_deleted) = fields.read("root", parse_root)?;
    let mount_point = fields.read("mount point", parse_mount_point)?;
    let mount_options = fields.read("mount options", parse_text)?;

    let (mut shared, mut master, mut propagate_from, mut unbindable) = (None, None, None, false);
    loop {
        let field = fields.next("separator")?;
        let (slot, group) = match field {
            b"-" => break,
            b"unbindable" => {
                unbindable = true;
                continue;
            }
            _ => match split_colon(field) {
                Some((b"shared", group)) => (&mut shared, group),
                Some((b"master", group)) => (&mut master, group),
                Some((b"propagate_from", group)) => (&mut propagate_from, group),
                _ => continue,
            },
        };
        *slot = Some(parse_number(group).map_err(|error| fields.error("peer group", error))?);
    }

    Ok(MountEntry {
        mount_id,
        parent_id,
        device,
        root,
        root_deleted,
        mount_point,
        mount_options,
        shared,
        master,
        propagate_from,
        unbindable,
        fs_type: fields.read("filesystem type", parse_text)?,
        source: fields.read("source", MountPath::from_escaped)?,
        super_options: fields.read_rest("super options", parse_text)?,
    })
}

/// The fields of a line that are still to be read. One space separates two; two spaces enclose an
/// empty field.
struct Fields<'line> {
    rest: Option<&'line [u8]>,
    number: usize,
}

impl<'line> Fields<'line> {
    fn next(&mut self, field: &'static str) -> Result<&'line [u8], ParseError> {
        let rest = self.take_rest(field)?;
        match rest.iter().position(|&byte| byte == b' ') {
            Some(space) => {
                self.rest = Some(&rest[space + 1..]);
                Ok(&rest[..space])
            }
            None => Ok(rest),
        }
    }

    fn take_rest(&mut self, field: &'static str) -> Result<&'line [u8], ParseError> {
        self.rest.take().ok_or_else(|| self.error(field, FieldError::new("more on the line", b"")))
    }

    fn read<T>(
        &mut self,
        field: &'static str,
        decode: impl FnOnce(&'line [u8]) -> Result<T, FieldError>,
    ) -> Result<T, ParseError> {
        let value = self.next(field)?;
        decode(value).map_err(|error| self.error(field, error))
    }

    fn read_rest<T>(
        &mut self,
        field: &'static str,
        decode: impl FnOnce(&'line [u8]) -> Result<T, FieldError>,
    ) -> Result<T, ParseError> {
        let value = self.take_rest(field)?;
        decode(value).map_err(|error| self.error(field, error))
    }

    fn error(&self, field: &'static str, error: FieldError) -> ParseError {
        let FieldError { expected, found } = error;
        ParseError { line: self.number, field, expected, found }
    }
}

fn split_colon(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = field.iter().position(|&byte| byte == b':')?;
    Some((&field[..colon], &field[colon + 1..]))
}

fn not_empty(field: &[u8]) -> Result<&[u8], FieldError> {
    if field.is_empty() { Err(FieldError::new("a value", field)) } else { Ok(field) }
}

fn parse_text(field: &[u8]) -> Result<String, FieldError> {
    not_empty(field).map(notation)
}

/// The root of a mount, and whether it is marked as deleted.
fn parse_root(field: &[u8]) -> Result<(MountPath, bool), FieldError> {
    let marked = not_empty(field)?.strip_suffix(DELETED.as_bytes());
    let marked = marked.filter(|root| !root.is_empty());
    Ok((MountPath::from_escaped(marked.unwrap_or(field))?, marked.is_some()))
}

fn parse_mount_point(field: &[u8]) -> Result<MountPath, FieldError> {
    if field.first() != Some(&b'/') {
        return Err(FieldError::new("an absolute path", field));
    }
    MountPath::from_escaped(field)
}

fn parse_number(field: &[u8]) -> Result<u64, FieldError> {
    decimal(field).ok_or_else(|| FieldError::new("a decimal number", field))
}

fn parse_device(field: &[u8]) -> Result<DeviceId, FieldError> {
    let number = |digits| u32::try_from(decimal(digits)?).ok();
    split_colon(field)
        .and_then(|(major, minor)| Some(DeviceId { major: number(major)?, minor: number(minor)? }))
        .ok_or_else(|| FieldError::new("major:minor", field))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_read() {
        let table = MountTable::parse(
            b"36 35 98:0 /mnt1 /mnt2 ro,noatime shared:3 master:1 propagate_from:2 \
              - ext3 /dev/root rw,errors=continue\n",
        )
        .unwrap();
        let expected = MountEntry {
            mount_id: 36,
            parent_id: 35,
            device: DeviceId { major: 98, minor: 0 },
            root: "/mnt1".into(),
            root_deleted: false,
            mount_point: "/mnt2".into(),
            mount_options: "ro,noatime".into(),
            shared: Some(3),
            master: Some(1),
            propagate_from: Some(2),
            unbindable: false,
            fs_type: "ext3".into(),
            source: "/dev/root".into(),
            super_options: "rw,errors=continue".into(),
        };
        assert_eq!(table.entries(), [expected]);
    }

    #[test]
    fn unusual_lines_are_read() {
        let entry = |line: &[u8]| parse_line(line, 1).unwrap();
        let unknown =
            entry(b"36 35 0:46 / /m rw frozen new:x shared master:1 -:2 unbindable - t s rw");
        assert_eq!((unknown.shared, unknown.master, unknown.unbindable), (None, Some(1), true));
        assert_eq!(entry(b"36 35 0:46 / /m rw - tmpfs  rw").source, "".into());
        assert_eq!(entry(b"36 35 0:46 / /m rw - tmpfs - rw").source, "-".into());
        assert_eq!(
            entry(b"36 35 0:46 / /m rw - 9p C: rw;path=C:\\Program Files").super_options,
            r"rw;path=C:\Program Files"
        );
        assert_eq!(
            entry(b"36 35 0:4 mnt:[4026531840] /m rw - nsfs nsfs rw").root,
            "mnt:[4026531840]".into()
        );
        assert_eq!(
            entry(b"36 35 0:46 / /m rw,a=\xff - t s rw,\xfe\x20").super_options,
            r"rw,\376 "
        );
    }

    #[test]
    fn an_empty_file_is_an_empty_table() {
        assert_eq!(MountTable::parse(b"").unwrap().entries(), []);
        assert!(MountTable::parse(b"\n").is_err());
    }

    #[test]
    fn errors_name_line_field_and_value() {
        let good = "36 35 0:46 / /m rw - tmpfs t rw\n";
        for (line, message) in [
            ("", "line 2, mount id: expected a decimal number, found nothing"),
            ("36", "line 2, parent id: expected more on the line, found nothing"),
            ("+6 35", "line 2, mount id: expected a decimal number, found \"+6\""),
            (
                "18446744073709551616 35",
                "line 2, mount id: expected a decimal number, found \"18446744073709551616\"",
            ),
            ("36 35 0-46 / /m", "line 2, device: expected major:minor, found \"0-46\""),
            (
                "36 35 0:4294967296 / /m",
                "line 2, device: expected major:minor, found \"0:4294967296\"",
            ),
            ("36 35 0:46  /m rw", "line 2, root: expected a value, found nothing"),
            ("36 35 0:46 / m rw", "line 2, mount point: expected an absolute path, found \"m\""),
            (
                r"36 35 0:46 / /m\04 rw",
                "line 2, mount point: expected three octal digits after every backslash, \
                 found \"/m\\13404\"",
            ),
            (
                "36 35 0:46 / /m rw shared:x - tmpfs t rw",
                "line 2, peer group: expected a decimal number, found \"x\"",
            ),
            (
                "36 35 0:46 / /m rw shared:1",
                "line 2, separator: expected more on the line, found nothing",
            ),
            (
                "36 35 0:46 / /m rw - tmpfs",
                "line 2, source: expected more on the line, found nothing",
            ),
            (
                "36 35 0:46 / /m rw - tmpfs t",
                "line 2, super options: expected more on the line, found nothing",
            ),
            (
                "36 35 0:46 / /m rw - tmpfs t ",
                "line 2, super options: expected a value, found nothing",
            ),
        ] {
            let error = MountTable::parse(format!("{good}{line}\n").as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("mountinfo {message}"));
        }
    }

    #[test]
    fn a_file_cut_anywhere_in_a_line_is_an_error_or_shorter_super_options() {
        let whole = "36 35 0:46 / /m rw shared:1 - tmpfs t rw,size=4k";
        for end in 1..whole.len() {
            match MountTable::parse(&whole.as_bytes()[..end]) {
                Ok(table) => {
                    assert!(whole.contains(&format!("t {}", table.entries()[0].super_options)))
                }
                Err(error) => assert_eq!(error.line, 1),
            }
        }
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        let error = MountTable::parse(&[b'x'; 10_000]).unwrap_err();
        assert!(error.to_string().len() < 200);
    }
}
