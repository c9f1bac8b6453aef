//! Server-sent events out of bytes as they come (WHATWG HTML, section 9.2).

/// Bytes of an event beyond which an upstream is not believed.
const LONGEST: usize = 1 << 20;

/// Cuts a stream of bytes into the data of its events.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    data: String,
    has_data: bool,
    /// Whether the last byte was a carriage return, which a line feed may belong to.
    after_return: bool,
}

/// The bytes are no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEvents;

impl Events {
    /// Takes the next bytes; gives the data of the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, NoEvents> {
        let mut complete = Vec::new();
        for &byte in bytes {
            let ends_line = byte == b'\n' || byte == b'\r';
            let is_second = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            if is_second {
                continue;
            }
            if ends_line {
                self.end_line(&mut complete)?;
            } else {
                self.line.push(byte);
            }
            if self.line.len() + self.data.len() > LONGEST {
                return Err(NoEvents);
            }
        }
        Ok(complete)
    }

    fn end_line(&mut self, complete: &mut Vec<String>) -> Result<(), NoEvents> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                complete.push(std::mem::take(&mut self.data));
            }
            return Ok(());
        }
        let line = std::str::from_utf8(&line).map_err(|_| NoEvents)?;
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field == "data" {
            if self.has_data {
                self.data.push('\n');
            }
            self.data.push_str(value.strip_prefix(' ').unwrap_or(value));
            self.has_data = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let text = "event: x\r\ndata: 你\n\ndata:a\ndata: b\r\r: comment\n\nid: 1\n\ndata: [DONE]\n\n".as_bytes();
        for size in 1..text.len() {
            let mut events = Events::default();
            let found: Vec<String> = text.chunks(size).flat_map(|piece| events.push(piece).unwrap()).collect();
            assert_eq!(found, ["你", "a\nb", "[DONE]"], "in pieces of {size}");
        }
    }

    #[test]
    fn garbage_is_no_event() {
        assert_eq!(Events::default().push(b"data: \xff\xfe\n\n"), Err(NoEvents));
        assert_eq!(Events::default().push(&vec![b'x'; LONGEST + 1]), Err(NoEvents));
    }
}
