//! Reads what a wasm module wants from its host: the import section of the binary format, and nothing else.

use std::{fs, path::Path};

use crate::{failure::Failure, run::file_failure};

/// Something a module wants from its host.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    pub module: String,
    pub name: String,
}

const PREAMBLE: [u8; 8] = *b"\0asm\x01\0\0\0";
const IMPORT_SECTION: u8 = 2;

/// The imports of a module, in their order.
pub fn imports(module: &[u8]) -> Result<Vec<Import>, String> {
    let Some(sections) = module.strip_prefix(&PREAMBLE) else { return Err("this is not a wasm module".into()) };
    let mut reader = Reader { rest: sections, length: sections.len() };
    while !reader.rest.is_empty() {
        let section = reader.byte()?;
        let length = reader.size()?;
        let body = reader.bytes(length)?;
        if section == IMPORT_SECTION {
            return Reader { rest: body, length: body.len() }.imports();
        }
    }
    Ok(Vec::new())
}

struct Reader<'m> {
    rest: &'m [u8],
    length: usize,
}

impl<'m> Reader<'m> {
    fn imports(mut self) -> Result<Vec<Import>, String> {
        let count = self.size()?;
        let mut imports = Vec::new();
        for _ in 0..count {
            let import = Import { module: self.name()?, name: self.name()? };
            self.skip_description()?;
            imports.push(import);
        }
        if self.rest.is_empty() { Ok(imports) } else { Err(self.broken("something follows the last import")) }
    }

    /// What kind of thing is wanted; its length has to be known to find the next import.
    fn skip_description(&mut self) -> Result<(), String> {
        match self.byte()? {
            // A function has a type.
            0 => self.skip_number(),
            // A table has a type of references and limits.
            1 => self.skip_value_type().and_then(|()| self.skip_limits()),
            // A memory has limits.
            2 => self.skip_limits(),
            // A global has a type and says whether it changes.
            3 => self.skip_value_type().and_then(|()| self.byte().map(drop)),
            // A tag has an attribute and a type.
            4 => self.byte().and_then(|_| self.skip_number()),
            other => Err(self.broken(&format!("there is no import of kind {other}"))),
        }
    }

    fn skip_value_type(&mut self) -> Result<(), String> {
        // References to a given type of heap have that type behind them.
        match self.byte()? {
            0x63 | 0x64 => self.skip_number(),
            _ => Ok(()),
        }
    }

    fn skip_limits(&mut self) -> Result<(), String> {
        const HAS_MAXIMUM: u8 = 1;
        const HAS_PAGE_SIZE: u8 = 8;
        let flags = self.byte()?;
        self.skip_number()?;
        for flag in [HAS_MAXIMUM, HAS_PAGE_SIZE] {
            if flags & flag != 0 {
                self.skip_number()?;
            }
        }
        Ok(())
    }

    fn name(&mut self) -> Result<String, String> {
        let length = self.size()?;
        let bytes = self.bytes(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.broken("a name is not UTF-8"))
    }

    /// An unsigned number in LEB128 that counts something in this module.
    fn size(&mut self) -> Result<usize, String> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|_| self.broken("a number is too large"));
            }
        }
        Err(self.broken("a number is too long"))
    }

    /// A number in LEB128 of whatever width and sign.
    fn skip_number(&mut self) -> Result<(), String> {
        for _ in 0..10 {
            if self.byte()? & 0x80 == 0 {
                return Ok(());
            }
        }
        Err(self.broken("a number is too long"))
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn bytes(&mut self, count: usize) -> Result<&'m [u8], String> {
        let Some((bytes, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.broken(&format!("{count} bytes are announced, {} are left", self.rest.len())));
        };
        self.rest = rest;
        Ok(bytes)
    }

    fn broken(&self, why: &str) -> String {
        format!("the module is broken at byte {} of its part: {why}", self.length - self.rest.len())
    }
}

/// A module that imports from `env` expects a C library that no browser has: it would compile and never load.
pub fn loads_in_a_browser(module: &Path) -> Result<(), Failure> {
    let bytes = fs::read(module).map_err(|error| file_failure("can't read", module, &error))?;
    let imports = imports(&bytes).map_err(|error| Failure::new(error).context(module.display()))?;
    let stray: Vec<_> =
        imports.iter().filter(|import| import.module == "env").map(|import| import.name.as_str()).collect();
    if stray.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("{} imports {} from `env`", module.display(), stray.join(", "))).remedy(
        "some dependency calls C functions that nothing defines in a browser; the names above lead to it.\n\
         `cargo tree --target wasm32-unknown-unknown --features js` shows who brings it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(id: u8, body: &[u8]) -> Vec<u8> {
        // Five bytes for the length, as linkers write it.
        let length = u32::try_from(body.len()).expect("a short section");
        let mut section = vec![id];
        section.extend((0..5).map(|index| ((length >> (7 * index)) & 0x7f) as u8 | if index < 4 { 0x80 } else { 0 }));
        section.extend_from_slice(body);
        section
    }

    fn module(sections: &[Vec<u8>]) -> Vec<u8> {
        [&PREAMBLE[..], &sections.concat()].concat()
    }

    fn import(module: &str, name: &str, description: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for text in [module, name] {
            bytes.push(u8::try_from(text.len()).expect("a short name"));
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(description);
        bytes
    }

    #[test]
    fn every_kind_of_import_is_read() {
        let wanted = [
            ("env", "function", &[0, 0x80, 0x01][..]),
            ("env", "table", &[1, 0x70, 1, 0, 0x80, 0x01]),
            ("env", "typed table", &[1, 0x64, 0x03, 0, 1]),
            ("env", "memory", &[2, 3, 1, 0x80, 0x80, 0x04]),
            ("env", "memory of 64 bits", &[2, 4, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
            ("env", "global", &[3, 0x7f, 1]),
            ("env", "tag", &[4, 0, 2]),
            ("./glue.js", "ä", &[0, 1]),
        ];
        let body: Vec<u8> = [vec![8]]
            .into_iter()
            .chain(wanted.iter().map(|(from, name, kind)| import(from, name, kind)))
            .flatten()
            .collect();
        let read = imports(&module(&[section(0, b"\x04name"), section(1, &[0]), section(2, &body), section(3, &[0])]));
        let expected: Vec<_> =
            wanted.iter().map(|(from, name, _)| Import { module: from.to_string(), name: name.to_string() }).collect();
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_module_without_imports_has_none() {
        assert_eq!(imports(&module(&[])), Ok(vec![]));
        assert_eq!(imports(&module(&[section(1, &[0]), section(3, &[0])])), Ok(vec![]));
    }

    #[test]
    fn a_broken_module_is_an_error_and_nothing_worse() {
        let whole = module(&[section(2, &[vec![1], import("env", "f", &[0, 0])].concat())]);
        assert_eq!(imports(&whole).map(|imports| imports.len()), Ok(1));
        for length in (0..whole.len()).filter(|&length| length != PREAMBLE.len()) {
            assert!(imports(&whole[..length]).is_err(), "cut after {length} bytes");
        }
        let bad = |body: &[u8]| imports(&module(&[section(2, body)]));
        assert!(bad(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).is_err(), "a number without end");
        assert!(bad(&[vec![1], import("env", "f", &[9, 0])].concat()).is_err(), "an unknown kind");
        assert!(bad(&[vec![1], import("env", "f", &[0, 0]), vec![7]].concat()).is_err(), "something left over");
        assert!(bad(&[1, 1, 0xff, 0, 0, 0]).is_err(), "a name of broken UTF-8");
    }
}
