//! Whether bytes are one JSON value (RFC 8259): a scanner that keeps nothing but how deep it is and
//! whether each level is an object or an array.

/// Levels of objects and arrays; parsers commonly stop there.
pub const MAX_DEPTH: usize = 1000;

/// What is wrong, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong {
    /// The offset of the first byte that does not belong.
    pub at: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Whether `bytes` are one JSON value, with blanks around it or not.
pub fn check(bytes: &[u8]) -> Result<(), Wrong> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(Wrong { at: error.valid_up_to(), what: "is not UTF-8" });
    }
    Scanner { bytes, at: 0, depth: 0, objects: [0; WORDS] }.value()
}

const WORDS: usize = MAX_DEPTH.div_ceil(64);

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// A bit per level: it is an object.
    objects: [u64; WORDS],
}

impl Scanner<'_> {
    /// One value and whatever is inside it; nothing may follow.
    fn value(&mut self) -> Result<(), Wrong> {
        loop {
            self.blanks();
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.open(bracket == b'{')?;
                    self.blanks();
                    // It goes on with its first value, unless it has none.
                    if !self.closes() {
                        if self.in_object() {
                            self.name()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                Some(_) => return self.wrong("starts no value"),
                None => return self.wrong("is missing: the value is not complete"),
            }
            if !self.next_value()? {
                return Ok(());
            }
        }
    }

    /// What follows a value: the ends of levels, then a comma and another value, or the end.
    fn next_value(&mut self) -> Result<bool, Wrong> {
        loop {
            self.blanks();
            if self.depth == 0 {
                return match self.peek() {
                    None => Ok(false),
                    Some(_) => self.wrong("follows the value: there must be one and no more"),
                };
            }
            match (self.peek(), self.in_object()) {
                (Some(b','), true) => {
                    self.at += 1;
                    self.blanks();
                    self.name()?;
                    return Ok(true);
                }
                (Some(b','), false) => {
                    self.at += 1;
                    return Ok(true);
                }
                (Some(b'}' | b']'), _) if self.closes() => {
                    self.at += 1;
                    self.depth -= 1;
                }
                (Some(_), true) => return self.wrong("is neither ',' nor '}'"),
                (Some(_), false) => return self.wrong("is neither ',' nor ']'"),
                (None, _) => return self.wrong("is missing: an object or array is not closed"),
            }
        }
    }

    /// Whether the next byte is the end of the innermost level.
    fn closes(&self) -> bool {
        self.depth > 0 && self.peek() == Some(if self.in_object() { b'}' } else { b']' })
    }

    fn in_object(&self) -> bool {
        let level = self.depth.saturating_sub(1);
        self.objects.get(level / 64).is_some_and(|word| word >> (level % 64) & 1 == 1)
    }

    fn open(&mut self, object: bool) -> Result<(), Wrong> {
        if self.depth == MAX_DEPTH {
            return self.wrong("is one level too many: at most 1000 are allowed");
        }
        if let Some(word) = self.objects.get_mut(self.depth / 64) {
            let bit = 1 << (self.depth % 64);
            *word = if object { *word | bit } else { *word & !bit };
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// A member's name and the colon behind it.
    fn name(&mut self) -> Result<(), Wrong> {
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(_) | None => return self.wrong("should begin a name in quotes"),
        }
        self.blanks();
        match self.peek() {
            Some(b':') => self.at += 1,
            Some(_) | None => return self.wrong("should be ':'"),
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(0..=0x1f) => return self.wrong("is a control character inside a string"),
                Some(_) => self.at += 1,
                None => return self.wrong("is missing: a string is not closed"),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), Wrong> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return self.wrong("should be one of four hexadecimal digits");
                    }
                    self.at += 1;
                }
            }
            Some(_) | None => return self.wrong("is no escape"),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Wrong> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            // No digit may follow a leading zero: what follows a number is looked at there.
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// One or more.
    fn digits(&mut self) -> Result<(), Wrong> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.wrong("should be a digit");
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Wrong> {
        for wanted in word {
            if self.peek() != Some(*wanted) {
                return self.wrong("is not of true, false or null");
            }
            self.at += 1;
        }
        Ok(())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn wrong<T>(&self, what: &'static str) -> Result<T, Wrong> {
        Err(Wrong { at: self.at, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_of_every_kind() {
        let values: &[&str] = &[
            "0",
            "-0",
            "10",
            "-1.5",
            "1e9",
            "1E+9",
            "1.25e-300",
            "123456789012345678901234567890",
            "true",
            "false",
            "null",
            r#""""#,
            r#""a\"\\\/\b\f\n\r\t\u00e4\uD800""#,
            "\"gr\u{f6}\u{df}e \u{1f600}\u{7f}\"",
            "[]",
            "{}",
            "[[]]",
            "[{}]",
            r#"{"":{}}"#,
            "[1,2,3]",
            r#"{"a":1,"a":[null,{"b":"c"}]}"#,
            " \t\r\n[ 1 , { \"a\" : [ ] , \"b\" : { } } ] \n",
        ];
        for value in values {
            assert_eq!(check(value.as_bytes()), Ok(()), "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_byte() {
        let wrong: &[(&[u8], usize, &str)] = &[
            (b"", 0, "missing"),
            (b"  ", 2, "missing"),
            (b"x", 0, "starts no value"),
            (b"'a'", 0, "starts no"),
            (b"1 2", 2, "follows"),
            (b"{}{}", 2, "follows"),
            (b"1,", 1, "follows"),
            (b"null\0", 4, "follows"),
            (b"01", 1, "follows"),
            (b"-", 1, "digit"),
            (b"-a", 1, "digit"),
            (b"1.", 2, "digit"),
            (b".5", 0, "starts no"),
            (b"1e", 2, "digit"),
            (b"1e+", 3, "digit"),
            (b"+1", 0, "starts no"),
            (b"NaN", 0, "starts no"),
            (b"Infinity", 0, "starts no"),
            (b"tru", 3, "true, false"),
            (b"nul1", 3, "true, false"),
            (b"True", 0, "starts no"),
            (b"[", 1, "missing"),
            (b"[1", 2, "not closed"),
            (b"[1,]", 3, "starts no"),
            (b"[,1]", 1, "starts no"),
            (b"[1 2]", 3, "',' nor ']'"),
            (b"[1}", 2, "',' nor ']'"),
            (b"{]", 1, "name"),
            (b"[}", 1, "starts no"),
            (b"{\"a\"}", 4, "':'"),
            (b"{\"a\":}", 5, "starts no"),
            (b"{\"a\":1", 6, "not closed"),
            (b"{\"a\":1]", 6, "',' nor '}'"),
            (b"{\"a\":1,}", 7, "name"),
            (b"{a:1}", 1, "name"),
            (b"{1:1}", 1, "name"),
            (b"{", 1, "name"),
            (b"\"a", 2, "not closed"),
            (b"\"a\nb\"", 2, "control"),
            (b"\"\\x\"", 2, "escape"),
            (b"\"\\", 2, "escape"),
            (b"\"\\u12g4\"", 5, "hexadecimal"),
            (b"\"\\u12", 5, "hexadecimal"),
            (b"\"ab\xff\"", 3, "UTF-8"),
            (b"\xef\xbb\xbf{}", 0, "starts no"),
            (b"[1]//", 3, "follows"),
        ];
        for (bytes, at, what) in wrong {
            let found = check(bytes).expect_err(&bytes.escape_ascii().to_string());
            assert!(
                found.at == *at && found.what.contains(what),
                "{}: {found:?}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            let open = |at: usize| if at.is_multiple_of(3) { "{\"a\":" } else { "[" };
            let close = |at: usize| if at.is_multiple_of(3) { "}" } else { "]" };
            let inside: String = (0..depth).map(open).collect();
            let outside: String = (0..depth).rev().map(close).collect();
            format!("{inside}1{outside}")
        };
        for depth in [1, 63, 64, 65, 128, MAX_DEPTH] {
            assert_eq!(check(nested(depth).as_bytes()), Ok(()), "{depth}");
        }
        let found = check(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert!(found.what.contains("at most 1000"), "{found:?}");
        assert!(check(&vec![b'['; 10_000_000]).is_err());
    }
}
