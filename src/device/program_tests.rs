//! Program and policy must say the same about every request.

use proptest::prelude::*;

use super::*;
use crate::device::policy::Selector;
use crate::device::testing::{any_rule, lenient, number, rule};

/// Runs a program as the kernel would, on a request; panics on what the
/// verifier would refuse: unknown instructions, jumps out of the program or
/// backwards, registers read before they are written.
fn run(program: &Program, kind: NodeKind, major: u32, minor: u32, access: Access) -> bool {
    let kind = match kind {
        NodeKind::Block => 1,
        NodeKind::Char => 2,
    };
    let context = [u32::from(access.bits()) << 16 | kind, major, minor];
    let mut registers: [Option<u64>; 11] = [None; 11];
    let instructions = program.instructions();
    let mut at = 0;
    loop {
        let Instruction {
            code,
            dst,
            src,
            off,
            imm,
        } = instructions[at];
        let (dst, src) = (usize::from(dst), usize::from(src));
        at += 1;
        let low = |value: Option<u64>| u32::try_from(value.unwrap() & 0xffff_ffff).unwrap();
        let imm32 = imm.cast_unsigned();
        let wide = i64::from(imm).cast_unsigned();
        match code {
            op::LOAD_WORD => {
                assert_eq!(src, 1, "only the context may be read");
                let word = context[usize::try_from(off).unwrap() / 4];
                registers[dst] = Some(u64::from(word));
            }
            op::COPY32 => registers[dst] = Some(u64::from(low(registers[src]))),
            op::AND32 => registers[dst] = Some(u64::from(low(registers[dst]) & imm32)),
            op::XOR32 => registers[dst] = Some(u64::from(low(registers[dst]) ^ imm32)),
            op::OR32 => {
                registers[dst] = Some(u64::from(low(registers[dst]) | low(registers[src])));
            }
            op::SHIFT_RIGHT32 => registers[dst] = Some(u64::from(low(registers[dst]) >> imm32)),
            op::SUBTRACT32 => {
                registers[dst] = Some(u64::from(low(registers[dst]).wrapping_sub(imm32)));
            }
            op::MOVE => registers[dst] = Some(wide),
            op::JUMP_NOT_EQUAL => {
                if registers[dst].unwrap() != wide {
                    at += usize::try_from(off).expect("a jump backwards");
                }
            }
            op::EXIT => return registers[0].unwrap() == 1,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

/// What the verifier checks before it walks: every instruction can be reached,
/// jumps stay inside, the last instruction leaves.
fn assert_well_formed(program: &Program) {
    let instructions = program.instructions();
    let mut reached = vec![false; instructions.len()];
    let mut open = vec![0];
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut reached[at], true) {
            continue;
        }
        let instruction = instructions[at];
        match instruction.code {
            op::EXIT => {}
            op::JUMP_NOT_EQUAL => {
                open.push(at + 1);
                open.push(at + 1 + usize::try_from(instruction.off).unwrap());
            }
            _ => open.push(at + 1),
        }
    }
    assert!(reached.iter().all(|reached| *reached), "unreachable code");
}

fn program(rules: &[(bool, &str)]) -> Program {
    let rules: Vec<_> = rules
        .iter()
        .map(|(allow, text)| rule(*allow, text))
        .collect();
    let program = Program::compile(&Policy::from_rules(&rules).unwrap());
    assert_well_formed(&program);
    program
}

const RW: Access = Access::READ.union(Access::WRITE);

#[test]
fn no_rule_denies_everything_in_two_instructions() {
    let program = program(&[]);
    assert_eq!(program.instructions().len(), 2);
    assert!(!run(&program, NodeKind::Char, 1, 3, Access::READ));
}

#[test]
fn allow_all_allows_everything_in_two_instructions() {
    let program = program(&[(false, "a *:* rwm"), (true, "a *:* rwm")]);
    assert_eq!(program.instructions().len(), 2);
    assert!(run(&program, NodeKind::Block, 8, 0, Access::all()));
}

#[test]
fn what_a_wildcard_says_is_not_said_again() {
    let wide = program(&[(true, "c *:* rwm")]);
    let narrow = program(&[
        (true, "c *:* rwm"),
        (true, "c 195:* rw"),
        (true, "c *:3 m"),
        (true, "c 1:3 rwm"),
    ]);
    assert_eq!(wide, narrow);
}

#[test]
fn bits_of_the_same_devices_merge_and_of_others_do_not() {
    let merged = program(&[(true, "c 195:0 r"), (true, "c 195:0 w")]);
    assert!(run(&merged, NodeKind::Char, 195, 0, RW));
    assert!(!run(&merged, NodeKind::Char, 195, 0, Access::all()));
    let apart = program(&[(true, "c 195:* r"), (true, "c 195:0 w")]);
    assert!(run(&apart, NodeKind::Char, 195, 0, Access::READ));
    assert!(run(&apart, NodeKind::Char, 195, 0, Access::WRITE));
    assert!(!run(&apart, NodeKind::Char, 195, 0, RW));
}

/// runc's program lets `rw` through where only `w` is denied.
#[test]
fn a_denied_write_denies_read_and_write() {
    let program = program(&[(true, "a *:* rwm"), (false, "c 1:3 w")]);
    assert!(run(&program, NodeKind::Char, 1, 3, Access::READ));
    assert!(!run(&program, NodeKind::Char, 1, 3, Access::WRITE));
    assert!(!run(&program, NodeKind::Char, 1, 3, RW));
    assert!(run(&program, NodeKind::Char, 1, 3, Access::empty()));
    assert!(run(&program, NodeKind::Block, 1, 3, RW));
}

#[test]
fn many_minors_are_one_block_each_way() {
    for allow in [true, false] {
        let texts: Vec<_> = (0..5000).map(|minor| format!("c 195:{minor} rw")).collect();
        let mut rules = vec![rule(!allow, "a *:* rwm")];
        rules.extend(texts.iter().map(|text| rule(allow, text)));
        let policy = Policy::from_rules(&rules).unwrap();
        let program = Program::compile(&policy);
        assert_well_formed(&program);
        assert!(program.instructions().len() < 3 * 5000 + 50);
        for minor in [0, 1, 4095, 4096, 4999, 5000] {
            assert_eq!(
                run(&program, NodeKind::Char, 195, minor, Access::READ),
                allow == (minor < 5000),
                "minor {minor}"
            );
        }
    }
}

#[test]
fn instructions_are_encoded_as_the_kernels_struct() {
    let bytes = Instruction {
        code: op::JUMP_NOT_EQUAL,
        dst: 2,
        src: 1,
        off: 0x0304,
        imm: 0x0506_0708,
    }
    .encode();
    if cfg!(target_endian = "little") {
        assert_eq!(bytes, [0x55, 0x12, 4, 3, 8, 7, 6, 5]);
    } else {
        assert_eq!(bytes, [0x55, 0x21, 3, 4, 5, 6, 7, 8]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_program_is_the_policy(
        rules in prop::collection::vec(any_rule(), 0..24),
        requests in prop::collection::vec(
            (
                prop_oneof![Just(NodeKind::Block), Just(NodeKind::Char)],
                prop_oneof![0_u32..5, Just(4095)],
                prop_oneof![0_u32..5, Just(1_048_575)],
                0_u8..8,
            ),
            1..64,
        ),
    ) {
        let policy = lenient(&rules);
        let program = Program::compile(&policy);
        assert_well_formed(&program);
        for (kind, major, minor, bits) in requests {
            let access = Access::from_bits_truncate(bits);
            prop_assert_eq!(
                run(&program, kind, major, minor, access),
                policy.allows(kind, major, minor, access),
                "{:?} {}:{} {:?} in\n{}", kind, major, minor, access, policy
            );
        }
    }

    /// The size of a program is bounded by its policy: nothing is said twice.
    #[test]
    fn a_rule_costs_at_most_nineteen_instructions(
        rules in prop::collection::vec(any_rule(), 0..24),
    ) {
        let policy = lenient(&rules);
        let size = Program::compile(&policy).instructions().len();
        prop_assert!(size <= 2 + 19 * policy.exceptions().len());
    }

    #[test]
    fn wider_selectors_cover(major in number(), minor in number()) {
        let selector = Selector { major, minor, kind: NodeKind::Char };
        let everything = Selector { major: None, minor: None, kind: NodeKind::Char };
        prop_assert!(everything.covers(&selector));
        prop_assert!(everything.overlaps(&selector));
        prop_assert_eq!(selector.covers(&everything), selector == everything);
    }
}
