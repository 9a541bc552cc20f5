//! Bytes as text in mountinfo notation.

use std::fmt;

/// Writes a path as text: octal for what is not UTF-8, and for what a field of mountinfo cannot hold.
pub(super) fn write_path(output: &mut impl fmt::Write, path: &[u8]) -> fmt::Result {
    write_escaped(output, path, |character| {
        matches!(character, ' ' | '\\' | '#') || character.is_control()
    })
}

/// Writes bytes as text: octal for what is not UTF-8 and for the characters that `must_escape`
/// picks.
pub(super) fn write_escaped(
    output: &mut impl fmt::Write,
    bytes: &[u8],
    must_escape: impl Fn(char) -> bool,
) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        let mut plain = chunk.valid();
        while let Some(start) = plain.find(&must_escape) {
            output.write_str(&plain[..start])?;
            let length = plain[start..].chars().next().map_or(1, char::len_utf8);
            write_octal(output, &plain.as_bytes()[start..start + length])?;
            plain = &plain[start + length..];
        }
        output.write_str(plain)?;
        write_octal(output, chunk.invalid())?;
    }
    Ok(())
}

fn write_octal(output: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(output, "\\{byte:03o}"))
}

/// Text as it stands in the line. Bytes that are not UTF-8 become octal escapes, which is how the
/// notation writes them.
pub(super) fn notation(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let mut text = String::with_capacity(bytes.len() + 8);
            let _ = write_escaped(&mut text, bytes, |_| false);
            text
        }
    }
}
