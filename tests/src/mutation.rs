//! Changes of bytes, the same in every run.

/// Texts and numbers at the ends of what fields can hold.
const EXTREMES: [&[u8]; 16] = [
    b"\0",
    b"\xff",
    b"\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\0\0\0\0\0\0\0\x80",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\0\0\0\0\x01\0\0\0",
    b"0",
    b"-1",
    b"4294967296",
    b"18446744073709551615",
    b"1e999",
    b"\"\"",
];

/// A source of changed inputs.
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// A number below `bound` (xorshift64*, Vigna 2016); 0 where there is none.
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let high = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        if bound == 0 { 0 } else { high as usize % bound }
    }

    /// One of the inputs with one to four changes.
    pub fn change(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(4) {
            self.change_once(&mut bytes, inputs);
        }
        bytes
    }

    fn change_once(&mut self, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        let end = at + self.below((bytes.len() - at).min(64) + 1);
        match self.below(8) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                let to = self.below(bytes.len());
                drop(bytes.splice(to..to, copy));
            }
            5 => {
                let other = &inputs[self.below(inputs.len())];
                let from = self.below(other.len());
                let len = self.below((other.len() - from).min(256) + 1);
                drop(bytes.splice(at..end, other[from..from + len].iter().copied()));
            }
            // Over what stands there, as long; in JSON, in place of a number.
            6 => {
                let extreme = EXTREMES[self.below(EXTREMES.len())];
                let end = (at + extreme.len()).min(bytes.len());
                drop(bytes.splice(at..end, extreme.iter().copied()));
            }
            _ => {
                let extreme = EXTREMES[self.below(EXTREMES.len())];
                let is_digit = |byte: &u8| byte.is_ascii_digit();
                let start = at + bytes[at..].iter().position(is_digit).unwrap_or(0);
                let digits = bytes[start..].iter().take_while(|byte| is_digit(byte)).count();
                drop(bytes.splice(start..start + digits, extreme.iter().copied()));
            }
        }
    }
}
