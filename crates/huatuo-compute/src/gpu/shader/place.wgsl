// Where results of matrices that lie side by side go: each has a buffer of its own, all three lie in one.
override PART_A: u32 = 4294967295u;
override PART_B: u32 = 0u;
override PART_C: u32 = 0u;
override START_B: u32 = 0u;
override START_C: u32 = 0u;

fn place(token: u32, output: u32) -> u32 {
    if (output < PART_A) {
        return token * PART_A + output;
    }
    if (output < PART_A + PART_B) {
        return START_B + token * PART_B + output - PART_A;
    }
    return START_C + token * PART_C + output - PART_A - PART_B;
}
