//! The `Retry-After` header: when a busy server wants to be asked again.

/// Seconds that a `Retry-After` (RFC 9110, section 10.2.3) asks to wait, `None` if it can't be read.
///
/// A moment is taken relative to the same answer's `Date`, so that the reader's own clock, which may be wrong, does not
/// matter; without a `Date` it says nothing.
pub(crate) fn retry_after_s(value: &str, date: Option<&str>) -> Option<u64> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(seconds);
    }
    let (then, now) = (unix_s(value)?, unix_s(date?.trim())?);
    Some(u64::try_from(then - now).unwrap_or(0))
}

/// Seconds since 1970 of a date like `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7, the one form that may be
/// sent).
fn unix_s(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split_once(", ")?.1.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month_name = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)? as i64 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    let valid = words.next() == Some("GMT") && (1970..=9999).contains(&year) && (1..=31).contains(&day);
    valid.then(|| ((days_since_1970(year, month, day) * 24 + hours) * 60 + minutes) * 60 + seconds)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; counting years from March puts the leap day at their end.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // Months from March alternate between 31 and 30 days in a pattern of five months and 153 days.
    let days_of_months = (153 * month + 2) / 5;
    // Days from 0000-03-01 to 1970-01-01.
    const EPOCH: i64 = 719_468;
    year * 365 + leap_days + days_of_months + day - 1 - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_taken_as_they_are() {
        assert_eq!(retry_after_s(" 120 ", None), Some(120));
    }

    #[test]
    fn a_moment_is_relative_to_the_answers_date() {
        let wait = |then, now| retry_after_s(then, Some(now));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:07 GMT"), Some(30));
        assert_eq!(wait("Fri, 01 Mar 2024 00:00:00 GMT", "Wed, 28 Feb 2024 00:00:00 GMT"), Some(2 * 86_400));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", "Mon, 07 Nov 1994 08:49:07 GMT"), Some(0));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(unix_s("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(unix_s("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    }

    #[test]
    fn what_cant_be_read_says_nothing() {
        for value in ["", "soon", "-5", "Sun, 06 Nov 1994", "Sun, 06 Foo 1994 08:49:37 GMT"] {
            assert_eq!(retry_after_s(value, Some("Sun, 06 Nov 1994 08:49:07 GMT")), None, "{value}");
        }
        assert_eq!(retry_after_s("Sun, 06 Nov 1994 08:49:37 GMT", None), None);
    }
}
