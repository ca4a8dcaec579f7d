//! Lists of processors or memory nodes as the kernel writes them, `0-3,5`
//! (cpuset(7), "List format"). Pure.

/// A set of small numbers, as the mask that system calls take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdSet {
    words: Vec<libc::c_ulong>,
}

/// The largest number that is taken: a mask is as long as its largest member.
const LARGEST: u32 = 64 * 1024;

const WORD: usize = libc::c_ulong::BITS as usize;

impl IdSet {
    /// Reads a list. An empty text is no set; spaces and empty elements are let
    /// through, as runc does.
    ///
    /// # Errors
    /// What is wrong, in a few words.
    pub fn parse(list: &str) -> Result<Option<Self>, String> {
        if list.is_empty() {
            return Ok(None);
        }
        let mut set = Self::default();
        for element in list.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let (first, last) = match element.split_once('-') {
                None => (number(element)?, number(element)?),
                Some((first, last)) => (number(first)?, number(last)?),
            };
            if first > last {
                return Err(format!("invalid range: {element}"));
            }
            for id in first..=last {
                set.insert(id);
            }
        }
        if set.words.is_empty() {
            return Err(format!("no members found in set {list:?}"));
        }
        Ok(Some(set))
    }

    /// Every number that a mask of 65 536 bits can hold.
    #[must_use]
    pub fn all() -> Self {
        Self {
            words: vec![libc::c_ulong::MAX; LARGEST as usize / WORD],
        }
    }

    fn insert(&mut self, id: usize) {
        let index = id / WORD;
        if self.words.len() <= index {
            self.words.resize(index + 1, 0);
        }
        self.words[index] |= 1 << (id % WORD);
    }

    /// How many members it has.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.words.iter().map(|w| w.count_ones()).sum()
    }

    /// The mask, lowest word first.
    #[must_use]
    pub fn words(&self) -> &[libc::c_ulong] {
        &self.words
    }
}

/// A mask as one number, `0x3`.
#[must_use]
pub fn hexadecimal(words: &[libc::c_ulong]) -> String {
    let used = words.iter().rposition(|w| *w != 0).unwrap_or(0);
    let mut text = format!("{:#x}", words.get(used).copied().unwrap_or(0));
    for word in words[..used.min(words.len())].iter().rev() {
        text.push_str(&format!("{word:0width$x}", width = WORD / 4));
    }
    text
}

fn number(text: &str) -> Result<usize, String> {
    let value: u64 = text
        .parse()
        .map_err(|_| format!("{text:?} is not a number"))?;
    u32::try_from(value)
        .ok()
        .filter(|v| *v <= LARGEST)
        .and_then(|v| usize::try_from(v).ok())
        .ok_or_else(|| format!("{text}: values larger than {LARGEST} are not supported"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(list: &str) -> Vec<usize> {
        let set = IdSet::parse(list).unwrap().unwrap();
        (0..set.words.len() * WORD)
            .filter(|id| set.words[id / WORD] & (1 << (id % WORD)) != 0)
            .collect()
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(members("0-3,5"), [0, 1, 2, 3, 5]);
        assert_eq!(members(" 7 ,, 1-1,"), [1, 7]);
        assert_eq!(members("64,200"), [64, 200]);
        assert_eq!(IdSet::parse("").unwrap(), None);
        assert_eq!(IdSet::parse("0-7").unwrap().unwrap().count(), 8);
        assert_eq!(IdSet::all().count(), 65_536);
    }

    #[test]
    fn what_is_no_list_is_named() {
        for (list, words) in [
            (",", "no members found in set \",\""),
            ("x", "\"x\" is not a number"),
            ("3-1", "invalid range: 3-1"),
            ("0-9876543210", "values larger than 65536 are not supported"),
            ("0-99999999999999999999", "is not a number"),
            ("-1", "\"\" is not a number"),
        ] {
            let error = IdSet::parse(list).unwrap_err();
            assert!(error.contains(words), "{list}: {error}");
        }
    }

    #[test]
    fn masks_print_as_one_number() {
        assert_eq!(hexadecimal(&[3]), "0x3");
        assert_eq!(hexadecimal(&[3, 0, 0]), "0x3");
        assert_eq!(hexadecimal(&[]), "0x0");
        let two = IdSet::parse("64").unwrap().unwrap();
        assert_eq!(hexadecimal(two.words()), "0x10000000000000000");
    }
}
