//! Owns removing terminal control sequences from a byte stream. It keeps no text.

/// Removes ANSI escape sequences, also across the borders of pieces.
#[derive(Debug, Default)]
pub(crate) struct Stripper(State);

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte, e.g. the `(` of `ESC ( B`.
    Intermediate,
    /// In `ESC [ … final`.
    Control,
    /// In a string that ends with BEL or `ESC \`.
    Text7,
    /// After ESC inside such a string.
    Text7Escape,
}

impl Stripper {
    pub(crate) fn strip(&mut self, piece: &[u8], mut keep: impl FnMut(u8)) {
        for &byte in piece {
            self.0 = match (self.0, byte) {
                (State::Text, 0x1b) | (State::Escape | State::Intermediate, 0x1b) => State::Escape,
                (State::Text, _) => {
                    keep(byte);
                    State::Text
                }
                (State::Escape, b'[') => State::Control,
                (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::Text7,
                (State::Escape, 0x20..=0x2f) => State::Intermediate,
                (State::Escape, _) => State::Text,
                (State::Intermediate, 0x20..=0x2f) => State::Intermediate,
                (State::Intermediate, _) => State::Text,
                (State::Control, 0x20..=0x3f) => State::Control,
                (State::Control, 0x1b) => State::Escape,
                (State::Control, b'\n') => {
                    keep(byte);
                    State::Text
                }
                (State::Control, _) => State::Text,
                (State::Text7, 0x07) => State::Text,
                (State::Text7, 0x1b) => State::Text7Escape,
                (State::Text7, b'\n') => {
                    keep(byte);
                    State::Text
                }
                (State::Text7, _) => State::Text7,
                (State::Text7Escape, b'\\') => State::Text,
                (State::Text7Escape, _) => State::Text7,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(pieces: &[&str]) -> String {
        let (mut stripper, mut kept) = (Stripper::default(), Vec::new());
        for piece in pieces {
            stripper.strip(piece.as_bytes(), |byte| kept.push(byte));
        }
        String::from_utf8(kept).unwrap()
    }

    #[test]
    fn colours_titles_and_charsets_go_and_text_stays() {
        assert_eq!(stripped(&["\x1b[1;31mred\x1b[0m é\n"]), "red é\n");
        assert_eq!(stripped(&["\x1b]0;title\x07a\x1b]8;;x\x1b\\b"]), "ab");
        assert_eq!(stripped(&["\x1b(Bplain\x1b="]), "plain");
    }

    #[test]
    fn a_sequence_cut_between_two_pieces_goes_too() {
        assert_eq!(stripped(&["a\x1b", "[3", "1mb"]), "ab");
    }

    #[test]
    fn an_unfinished_sequence_ends_with_its_line() {
        assert_eq!(stripped(&["\x1b]never closed\nnext"]), "\nnext");
    }
}
