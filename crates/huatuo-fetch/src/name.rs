//! Which file names may be asked for.

use crate::FetchError;

/// Accepts segments of `A-Z a-z 0-9 . _ -` separated by single slashes; a name can't leave its source.
pub(crate) fn check_name(name: &str) -> Result<(), FetchError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let good = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed);
    if name.split('/').all(good) { Ok(()) } else { Err(FetchError::BadName { name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_and_folders_are_accepted() {
        for name in ["manifest.json", "a/b-1/c_2.pack", "..hidden"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn names_that_leave_the_source_or_carry_a_query_are_refused() {
        for name in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a?b", "a%2e", "a\\b", "C:a", "病"] {
            assert!(matches!(check_name(name), Err(FetchError::BadName { .. })), "{name}");
        }
    }
}
