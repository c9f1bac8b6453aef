//! How many tokens of each text a step reads.

/// Share of the room that the prompt which came first gets, however long it is: one in so many rows.
const OLDEST_SHARE: usize = 4;

/// Rows for texts that have so many tokens to read, oldest first, from `rows` in all. Texts that are being written (one token
/// left) come first, then short prompts before long ones, but the oldest prompt always goes on.
pub fn rows(left: &[usize], rows: usize) -> Vec<usize> {
    let mut given = vec![0; left.len()];
    let mut free = rows;
    let mut give = |at: usize, most: usize, given: &mut Vec<usize>| {
        let more = most.min(left[at] - given[at]).min(free);
        given[at] += more;
        free -= more;
        free
    };
    let mut room = rows;
    for at in (0..left.len()).filter(|at| left[*at] == 1) {
        room = give(at, 1, &mut given);
    }
    let mut prompts: Vec<usize> = (0..left.len()).filter(|at| left[*at] > 1).collect();
    if let Some(&oldest) = prompts.first() {
        give(oldest, room.div_ceil(OLDEST_SHARE), &mut given);
    }
    prompts.sort_by_key(|at| left[*at]); // stable: of equal ones the oldest first
    for at in prompts {
        give(at, usize::MAX, &mut given);
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_written_come_first() {
        assert_eq!(rows(&[500, 1, 1], 8), [6, 1, 1]);
        assert_eq!(rows(&[1, 1, 1], 2), [1, 1, 0]);
    }

    #[test]
    fn a_short_prompt_does_not_wait_for_a_long_one_which_goes_on_all_the_same() {
        assert_eq!(rows(&[2000, 40, 60], 64), [16, 40, 8]);
    }

    #[test]
    fn what_short_prompts_leave_is_the_long_ones() {
        assert_eq!(rows(&[2000, 10], 64), [54, 10]);
        assert_eq!(rows(&[], 64), [0; 0]);
    }
}
