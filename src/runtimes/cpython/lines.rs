//! Which line an instruction is on. Three encodings, each a list of steps that is followed from
//! the first line of the code object on. Sources: `Objects/lnotab_notes.txt` of 3.9 and 3.10,
//! `InternalDocs/code_objects.md` of 3.13.

use super::LineForm;

/// The line of the instruction `units` code units (of 2 bytes) behind the first one; `None` where
/// the table gives it no line or ends before it.
pub(super) fn line(form: LineForm, table: &[u8], first: u32, units: u32) -> Option<u32> {
    let line = match form {
        LineForm::Steps => Some(steps(table, first, units)),
        LineForm::Ranges => ranges(table, first, units),
        LineForm::Locations => locations(table, first, units),
    };
    line.and_then(|line| u32::try_from(line).ok())
}

/// 3.8 and 3.9: (bytes of code, lines), each step from where the last one ended. The last line
/// holds to the end.
fn steps(table: &[u8], first: u32, units: u32) -> i64 {
    let wanted = u64::from(units) * 2;
    let (mut address, mut line) = (0u64, i64::from(first));
    for &[bytes, lines] in table.as_chunks::<2>().0 {
        address += u64::from(bytes);
        if address > wanted {
            break;
        }
        line += i64::from(lines.cast_signed());
    }
    line
}

/// 3.10: (bytes of code, lines): that many bytes are on the line so reached; -128: on none.
fn ranges(table: &[u8], first: u32, units: u32) -> Option<i64> {
    const NO_LINE: i8 = -128;
    let wanted = u64::from(units) * 2;
    let (mut end, mut line) = (0u64, i64::from(first));
    for &[bytes, lines] in table.as_chunks::<2>().0 {
        let lines = lines.cast_signed();
        if lines != NO_LINE {
            line += i64::from(lines);
        }
        end += u64::from(bytes);
        if wanted < end {
            return (lines != NO_LINE).then_some(line);
        }
    }
    None
}

/// 3.11 and later. An entry begins with a byte that has its highest bit set: four bits of what
/// kind it is and three of how many units it covers. Only what changes the line is decoded.
fn locations(table: &[u8], first: u32, units: u32) -> Option<i64> {
    /// Line only, as a signed number.
    const NO_COLUMN: u8 = 13;
    /// Line as a signed number, then the last line and the columns.
    const LONG: u8 = 14;
    /// On no line.
    const NONE: u8 = 15;
    let (mut end, mut line) = (0u64, i64::from(first));
    let mut rest = table;
    while let [head, behind @ ..] = rest {
        let kind = head >> 3 & 15;
        line += match kind {
            NO_COLUMN | LONG => signed(behind)?,
            10..=12 => i64::from(kind - 10),
            _ => 0,
        };
        end += u64::from(head & 7) + 1;
        if u64::from(units) < end {
            return (kind != NONE).then_some(line);
        }
        // What follows up to the next entry has its highest bit clear.
        let length = behind.iter().position(|byte| byte & 0x80 != 0).unwrap_or(behind.len());
        rest = &behind[length..];
    }
    None
}

/// A signed number: the sign in the lowest bit, six bits a byte, least significant first.
fn signed(bytes: &[u8]) -> Option<i64> {
    let mut value = 0i64;
    // Lines are 32-bit: seven bytes hold more than any.
    for (index, byte) in bytes.iter().enumerate().take(7) {
        value |= i64::from(byte & 63) << (6 * index);
        if byte & 64 == 0 {
            let size = value >> 1;
            return Some(if value & 1 == 0 { size } else { -size });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(form: LineForm, table: &[u8], first: u32, units: u32) -> Vec<Option<u32>> {
        (0..units).map(|unit| line(form, table, first, unit)).collect()
    }

    #[test]
    fn steps_hold_to_the_end() {
        // Bytes 0..4 on 10, 4..8 on 12, from 8 on on 11.
        let found = lines(LineForm::Steps, &[4, 2, 4, 0xff], 10, 6);
        assert_eq!(found, [10, 10, 12, 12, 11, 11].map(Some));
        assert_eq!(line(LineForm::Steps, &[], 7, 1000), Some(7));
        // Long steps are several pairs.
        assert_eq!(line(LineForm::Steps, &[255, 0, 1, 127, 0, 3], 1, 128), Some(131));
        assert_eq!(line(LineForm::Steps, &[0, 0x80], 1, 0), None, "a negative line");
    }

    #[test]
    fn ranges_may_have_no_line() {
        // Bytes 0..2 on 10, 2..4 on none, 4..6 on 13.
        let found = lines(LineForm::Ranges, &[2, 0, 2, 0x80, 2, 3], 10, 4);
        assert_eq!(found, [Some(10), None, Some(13), None]);
    }

    #[test]
    fn locations_of_every_kind() {
        let table = [
            0x80 | 1,
            0x12, // short, 2 units, same line
            0x80 | 11 << 3,
            3,
            4, // one line on, 1 unit
            0x80 | 13 << 3 | 1,
            65,
            1,              // no column, 2 units: -(32 + ...)
            0x80 | 15 << 3, // none
            0x80 | 14 << 3,
            6,
            0,
            1,
            2, // long: +3
        ];
        // 65 = continue, 1; 1 = 1 << 6: 65 = -(32).
        let found = lines(LineForm::Locations, &table, 100, 8);
        let expected = [Some(100), Some(100), Some(101), Some(69), Some(69), None, Some(72), None];
        assert_eq!(found, expected);
    }

    proptest::proptest! {
        #[test]
        fn any_table_ends(
            table in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            first in proptest::num::u32::ANY,
            units in proptest::num::u32::ANY,
        ) {
            for form in [LineForm::Steps, LineForm::Ranges, LineForm::Locations] {
                line(form, &table, first, units);
            }
        }
    }
}
