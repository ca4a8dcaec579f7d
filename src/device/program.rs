//! A [`Policy`] as a program for the kernel's eBPF machine
//! (`BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! The program is called with a `struct bpf_cgroup_dev_ctx` in `r1` whenever a
//! process of the cgroup opens or makes a device node, and returns 1 to allow.
//! It is a row of blocks, one for each (kind, major, access) of the policy:
//!
//! ```text
//! block:  r2 = 0 if type, major, minor and access all match
//!         if r2 != 0 goto next
//!         return the exception's verdict
//! next:   ...
//! end:    return the default
//! ```
//!
//! All exceptions of a policy have the same verdict, so their order is free:
//! the first match decides. An exception that a wider one already says is left
//! out. Minors that share the rest share a block, in which each is one compare.
//!
//! # Why it looks like this
//!
//! The verifier walks every path, and keeps a list of the branches it has not
//! walked yet, of at most 8192. A block that left by one jump for the type, one
//! for the major and so on would leave two such branches behind for each rule,
//! and about 4 000 rules would be the end. With the differences collected in
//! `r2` there is one jump a block, and what follows its fall-through is an exit:
//! nothing is left behind. For the same reason each block loads what it looks
//! at from the context again: values kept in registers would make every path to
//! a block a state of its own. And no code follows an unconditional return:
//! the verifier refuses what it cannot reach.
//!
//! Pure: values in, values out.

use std::collections::BTreeMap;

use super::policy::{NodeKind, Policy};
use crate::edit::Access;

/// `BPF_DEVCG_DEV_BLOCK`.
const TYPE_BLOCK: i32 = 1;
/// `BPF_DEVCG_DEV_CHAR`.
const TYPE_CHAR: i32 = 2;

/// Offsets in `struct bpf_cgroup_dev_ctx`: `u32 access_type` (type in the lower
/// half, access in the upper), `u32 major`, `u32 minor`.
const CTX_ACCESS_TYPE: i16 = 0;
const CTX_MAJOR: i16 = 4;
const CTX_MINOR: i16 = 8;

/// Minors in one block, three instructions each. Jumps have 16 bits, so a block
/// must stay far below 32 768 instructions.
const BLOCK_MINORS: usize = 4096;

/// Opcodes, as `linux/bpf.h` composes them from class, size, mode and source.
/// Those named `32` clear the upper half of their destination.
pub(super) mod op {
    /// `BPF_LDX | BPF_MEM | BPF_W`: dst = *(u32 *)(src + off)
    pub const LOAD_WORD: u8 = 0x61;
    /// `BPF_ALU | BPF_MOV | BPF_X`: dst = src
    pub const COPY32: u8 = 0xbc;
    /// `BPF_ALU | BPF_AND | BPF_K`: dst &= imm
    pub const AND32: u8 = 0x54;
    /// `BPF_ALU | BPF_XOR | BPF_K`: dst ^= imm
    pub const XOR32: u8 = 0xa4;
    /// `BPF_ALU | BPF_OR | BPF_X`: dst |= src
    pub const OR32: u8 = 0x4c;
    /// `BPF_ALU | BPF_RSH | BPF_K`: dst >>= imm
    pub const SHIFT_RIGHT32: u8 = 0x74;
    /// `BPF_ALU | BPF_SUB | BPF_K`: dst -= imm
    pub const SUBTRACT32: u8 = 0x14;
    /// `BPF_ALU64 | BPF_MOV | BPF_K`: dst = imm
    pub const MOVE: u8 = 0xb7;
    /// `BPF_JMP | BPF_JNE | BPF_K`: if dst != imm goto off
    pub const JUMP_NOT_EQUAL: u8 = 0x55;
    /// `BPF_JMP | BPF_EXIT`: return r0
    pub const EXIT: u8 = 0x95;
}

/// Where the verdict is returned.
const R0: u8 = 0;
/// The context.
const R1: u8 = 1;
/// The differences between request and exception.
const R2: u8 = 2;
/// What is compared next.
const R3: u8 = 3;

/// One instruction of eBPF (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register.
    pub src: u8,
    /// Signed offset, in instructions for jumps, in bytes for loads.
    pub off: i16,
    /// Signed immediate.
    pub imm: i32,
}

impl Instruction {
    /// The eight bytes that `bpf(2)` reads, in this machine's byte order.
    #[must_use]
    pub fn encode(&self) -> [u8; 8] {
        let registers = if cfg!(target_endian = "little") {
            self.src << 4 | self.dst
        } else {
            self.dst << 4 | self.src
        };
        let [off0, off1] = self.off.to_ne_bytes();
        let [imm0, imm1, imm2, imm3] = self.imm.to_ne_bytes();
        [self.code, registers, off0, off1, imm0, imm1, imm2, imm3]
    }
}

/// A complete program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
}

impl Program {
    /// The program with this policy.
    #[must_use]
    pub fn compile(policy: &Policy) -> Self {
        let mut groups: BTreeMap<(NodeKind, Option<u32>, Access), Minors> = BTreeMap::new();
        for (selector, access) in policy.needed() {
            let group = groups
                .entry((selector.kind, selector.major, access))
                .or_default();
            match selector.minor {
                Some(minor) => group.listed.push(minor),
                None => group.any = true,
            }
        }
        let mut assembler = Assembler {
            instructions: Vec::new(),
            verdict: i32::from(!policy.allows_by_default()),
        };
        for ((kind, major, access), minors) in groups {
            if minors.any {
                assembler.block(kind, major, access, &[]);
            }
            for listed in minors.listed.chunks(BLOCK_MINORS) {
                assembler.block(kind, major, access, listed);
            }
        }
        assembler.give(i32::from(policy.allows_by_default()));
        Self {
            instructions: assembler.instructions,
        }
    }

    /// The instructions, for inspection.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The instructions as `bpf(2)` reads them, eight bytes each.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.instructions
            .iter()
            .flat_map(Instruction::encode)
            .collect()
    }
}

/// The minors of a group.
#[derive(Default)]
struct Minors {
    any: bool,
    listed: Vec<u32>,
}

/// Writes blocks, one after the other.
struct Assembler {
    instructions: Vec<Instruction>,
    /// What an exception returns.
    verdict: i32,
}

impl Assembler {
    fn emit(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.instructions.push(Instruction {
            code,
            dst,
            src,
            off,
            imm,
        });
    }

    /// Returns `value`.
    fn give(&mut self, value: i32) {
        self.emit(op::MOVE, R0, 0, 0, value);
        self.emit(op::EXIT, 0, 0, 0, 0);
    }

    /// An empty `minors` is any minor.
    fn block(&mut self, kind: NodeKind, major: Option<u32>, access: Access, minors: &[u32]) {
        let kind = match kind {
            NodeKind::Block => TYPE_BLOCK,
            NodeKind::Char => TYPE_CHAR,
        };
        let bits = i32::from(access.bits());
        self.emit(op::LOAD_WORD, R2, R1, CTX_ACCESS_TYPE, 0);
        if self.verdict == 1 {
            // Allowed when nothing beyond `access` is asked: not even a bit of
            // a kernel to come.
            self.emit(op::XOR32, R2, 0, 0, kind);
            self.emit(op::AND32, R2, 0, 0, !(bits << 16));
        } else {
            // Denied when any of `access` is asked: 0 - 1 has its top bit set,
            // what is asked minus 1 has not.
            self.emit(op::COPY32, R3, R2, 0, 0);
            self.emit(op::SHIFT_RIGHT32, R3, 0, 0, 16);
            self.emit(op::AND32, R3, 0, 0, bits);
            self.emit(op::SUBTRACT32, R3, 0, 0, 1);
            self.emit(op::SHIFT_RIGHT32, R3, 0, 0, 31);
            self.emit(op::XOR32, R2, 0, 0, kind);
            self.emit(op::AND32, R2, 0, 0, 0xffff);
            self.emit(op::OR32, R2, R3, 0, 0);
        }
        if let Some(major) = major {
            self.compare(CTX_MAJOR, major);
        }
        if let [minor] = minors {
            self.compare(CTX_MINOR, *minor);
        }
        let miss = self.instructions.len();
        self.emit(op::JUMP_NOT_EQUAL, R2, 0, 0, 0);
        if minors.len() > 1 {
            self.emit(op::LOAD_WORD, R2, R1, CTX_MINOR, 0);
            for &minor in minors {
                self.emit(op::JUMP_NOT_EQUAL, R2, 0, 2, immediate(minor));
                self.give(self.verdict);
            }
        } else {
            self.give(self.verdict);
        }
        // BLOCK_MINORS keeps this in range; a jump that was not would be one
        // the verifier refuses.
        let over = self.instructions.len() - miss - 1;
        self.instructions[miss].off = i16::try_from(over).unwrap_or(i16::MAX);
    }

    /// Adds to the differences that of a field of the context from `number`.
    fn compare(&mut self, field: i16, number: u32) {
        self.emit(op::LOAD_WORD, R3, R1, field, 0);
        self.emit(op::XOR32, R3, 0, 0, immediate(number));
        self.emit(op::OR32, R2, R3, 0, 0);
    }
}

/// Device numbers have at most 20 bits ([`Policy`] drops rules with larger
/// ones), so no sign is lost.
fn immediate(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
