//! ENOSYS for system calls that a profile cannot have known.
//!
//! A profile lists what its author knew. The C library tries new system calls and
//! falls back to old ones where it hears ENOSYS, but not where it hears EPERM,
//! which is what such profiles give for everything else. So, as runc does, calls
//! with numbers above all that a profile names are answered with ENOSYS before
//! the profile's own filter is asked.
//!
//! Works on classic BPF as libseccomp exports it: instructions of eight bytes,
//! `struct sock_filter` of `linux/filter.h`. Pure but for libseccomp's tables.

use std::collections::BTreeMap;
use std::str::FromStr;

use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};

/// `ld [offset]` of `struct seccomp_data`: 0 is the number, 4 the architecture.
const LOAD: u16 = 0x20;
/// `ja k`.
const JUMP: u16 = 0x05;
/// `jeq k, jt, jf`.
const JUMP_EQUAL: u16 = 0x15;
/// `jgt k, jt, jf`, unsigned.
const JUMP_GREATER: u16 = 0x25;
/// `jset k, jt, jf`: whether a bit of `k` is set.
const JUMP_BITS: u16 = 0x45;
/// `ret k`.
const RETURN: u16 = 0x06;

const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// `SECCOMP_RET_ERRNO | ENOSYS`.
const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS.cast_unsigned();

/// The bit by which x32 system calls differ from those of x86-64; the kernel
/// calls the architecture of both the same.
const X32_BIT: u32 = 0x4000_0000;

/// The largest numbers a profile names for one architecture of the kernel's.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Last {
    native: Option<u32>,
    x32: Option<u32>,
    /// Whether call 0 is how large numbers are passed (s390).
    multiplexed: bool,
}

/// The instructions to put before the filter of `profile`; none where its default
/// lets calls through, or says ENOSYS already.
///
/// # Errors
/// The name of an architecture that libseccomp does not know.
pub fn prelude(profile: &LinuxSeccomp) -> Result<Vec<u8>, String> {
    let permissive = matches!(
        profile.default_action(),
        LinuxSeccompAction::ScmpActAllow
            | LinuxSeccompAction::ScmpActLog
            // A tracer answers calls that it does not know by itself.
            | LinuxSeccompAction::ScmpActTrace
    );
    if permissive || profile.default_errno_ret() == Some(libc::ENOSYS.cast_unsigned()) {
        return Ok(Vec::new());
    }
    Ok(assemble(&last_calls(profile)?))
}

fn last_calls(profile: &LinuxSeccomp) -> Result<BTreeMap<u32, Last>, String> {
    // The native one is in every filter of libseccomp, listed or not.
    let mut architectures = vec![ScmpArch::native()];
    for arch in profile.architectures().iter().flatten() {
        let name = serde_json::to_value(arch).map_err(|e| e.to_string())?;
        let name = name.as_str().unwrap_or_default();
        architectures.push(ScmpArch::from_str(name).map_err(|e| format!("{name}: {e}"))?);
    }
    let names: Vec<&str> = profile
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|rule| rule.names().iter().map(String::as_str))
        .collect();
    let mut all: BTreeMap<u32, Last> = BTreeMap::new();
    for arch in architectures {
        let Some(audit) = audit_architecture(arch) else {
            continue;
        };
        // Negative numbers are libseccomp's own, of calls that this architecture
        // does not have.
        let last = names
            .iter()
            .filter_map(|name| ScmpSyscall::from_name_by_arch(name, arch).ok())
            .filter_map(|call| u32::try_from(call.as_raw_syscall()).ok())
            .max();
        let entry = all.entry(audit).or_default();
        match arch {
            ScmpArch::X32 => entry.x32 = last.map(|number| number | X32_BIT),
            _ => entry.native = last,
        }
        entry.multiplexed = matches!(arch, ScmpArch::S390 | ScmpArch::S390X);
    }
    Ok(all)
}

/// One block an architecture: skipped by others, left for the filter's beginning
/// by calls within bounds.
fn assemble(all: &BTreeMap<u32, Last>) -> Vec<u8> {
    let mut program: Vec<(u16, u8, u8, u32)> = vec![(LOAD, 0, 0, ARCHITECTURE)];
    // Places of jumps to the end, whose distance is known last.
    let mut to_filter = Vec::new();
    for (audit, last) in all {
        let mut block = vec![(LOAD, 0, 0, NUMBER)];
        if last.multiplexed {
            block.extend([(JUMP_EQUAL, 0, 1, 0), (RETURN, 0, 0, ENOSYS)]);
        }
        let bound = |last: Option<u32>| match last {
            Some(number) => vec![
                (JUMP_GREATER, 0, 1, number),
                (RETURN, 0, 0, ENOSYS),
                (JUMP, 0, 0, 0),
            ],
            None => vec![(JUMP, 0, 0, 0)],
        };
        let native = bound(last.native);
        if *audit == X86_64 {
            // Three instructions at most, so that the distance fits.
            let distance = u8::try_from(native.len()).unwrap_or(u8::MAX);
            block.push((JUMP_BITS, distance, 0, X32_BIT));
            block.extend(native);
            block.extend(bound(last.x32));
        } else {
            block.extend(native);
        }
        let distance = u8::try_from(block.len()).unwrap_or(u8::MAX);
        program.push((JUMP_EQUAL, 0, distance, *audit));
        for (offset, instruction) in block.iter().enumerate() {
            if instruction.0 == JUMP {
                to_filter.push(program.len() + offset);
            }
        }
        program.extend(block);
    }
    let end = program.len();
    for place in to_filter {
        program[place].3 = u32::try_from(end - place - 1).unwrap_or(0);
    }
    program
        .into_iter()
        .flat_map(|(code, jt, jf, k)| {
            let (code, k) = (code.to_ne_bytes(), k.to_ne_bytes());
            [code[0], code[1], jt, jf, k[0], k[1], k[2], k[3]]
        })
        .collect()
}

const X86_64: u32 = 0xc000_003e;

/// `AUDIT_ARCH_*` of `linux/audit.h`: the ELF machine, with the top bits for 64
/// bits and for little-endian. `None` for what runc does not know either.
fn audit_architecture(arch: ScmpArch) -> Option<u32> {
    const WIDE: u32 = 0x8000_0000;
    const LITTLE: u32 = 0x4000_0000;
    /// `__AUDIT_ARCH_CONVENTION_MIPS64_N32`.
    const N32: u32 = 0x2000_0000;
    Some(match arch {
        ScmpArch::X86 => 3 | LITTLE,
        ScmpArch::X8664 | ScmpArch::X32 => X86_64,
        ScmpArch::Arm => 40 | LITTLE,
        ScmpArch::Aarch64 => 183 | WIDE | LITTLE,
        ScmpArch::Loongarch64 => 258 | WIDE | LITTLE,
        ScmpArch::Mips => 8,
        ScmpArch::Mips64 => 8 | WIDE,
        ScmpArch::Mips64N32 => 8 | WIDE | N32,
        ScmpArch::Mipsel => 8 | LITTLE,
        ScmpArch::Mipsel64 => 8 | WIDE | LITTLE,
        ScmpArch::Mipsel64N32 => 8 | WIDE | LITTLE | N32,
        ScmpArch::Ppc => 20,
        ScmpArch::Ppc64 => 21 | WIDE,
        ScmpArch::Ppc64Le => 21 | WIDE | LITTLE,
        ScmpArch::S390 => 22,
        ScmpArch::S390X => 22 | WIDE,
        ScmpArch::Riscv64 => 243 | WIDE | LITTLE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const I386: u32 = 0x4000_0003;
    const S390X: u32 = 0x8000_0016;

    /// Runs a program as the kernel does. `None` when it falls off the end, where
    /// the filter begins.
    fn run(program: &[u8], number: u32, architecture: u32) -> Option<u32> {
        let (mut at, mut accumulator) = (0, 0);
        while at < program.len() {
            let i = &program[at..at + 8];
            let k = u32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
            let jump = |taken: bool| 8 * usize::from(if taken { i[2] } else { i[3] });
            at += 8;
            match u16::from_ne_bytes([i[0], i[1]]) {
                LOAD if k == NUMBER => accumulator = number,
                LOAD if k == ARCHITECTURE => accumulator = architecture,
                JUMP => at += 8 * k as usize,
                JUMP_EQUAL => at += jump(accumulator == k),
                JUMP_GREATER => at += jump(accumulator > k),
                JUMP_BITS => at += jump(accumulator & k != 0),
                RETURN => return Some(k),
                other => panic!("instruction {other:#x}"),
            }
        }
        assert_eq!(at, program.len(), "a jump beyond the filter's beginning");
        None
    }

    fn last(native: u32) -> Last {
        Last {
            native: Some(native),
            ..Last::default()
        }
    }

    #[test]
    fn calls_above_the_last_one_named_get_enosys() {
        let program = assemble(&BTreeMap::from([(X86_64, last(300)), (I386, last(400))]));
        for (number, architecture, answer) in [
            (0, X86_64, None),
            (300, X86_64, None),
            (301, X86_64, Some(ENOSYS)),
            (!X32_BIT, X86_64, Some(ENOSYS)),
            // No x32 in the profile: the filter itself refuses the architecture.
            (X32_BIT | 500, X86_64, None),
            (400, I386, None),
            (401, I386, Some(ENOSYS)),
            (1000, S390X, None),
        ] {
            assert_eq!(
                run(&program, number, architecture),
                answer,
                "{number} {architecture:#x}"
            );
        }
    }

    #[test]
    fn x32_has_a_bound_of_its_own() {
        let both = Last {
            x32: Some(X32_BIT | 547),
            ..last(300)
        };
        let program = assemble(&BTreeMap::from([(X86_64, both)]));
        assert_eq!(run(&program, X32_BIT | 547, X86_64), None);
        assert_eq!(run(&program, X32_BIT | 548, X86_64), Some(ENOSYS));
        assert_eq!(run(&program, 301, X86_64), Some(ENOSYS));
        assert_eq!(run(&program, 300, X86_64), None);
    }

    #[test]
    fn the_multiplexer_of_s390_is_no_call() {
        let program = assemble(&BTreeMap::from([(
            S390X,
            Last {
                multiplexed: true,
                ..last(300)
            },
        )]));
        assert_eq!(run(&program, 0, S390X), Some(ENOSYS));
        assert_eq!(run(&program, 1, S390X), None);
        assert_eq!(run(&program, 301, S390X), Some(ENOSYS));
    }

    fn profile(default: &str, more: &serde_json::Value) -> LinuxSeccomp {
        let mut value = serde_json::json!({
            "defaultAction": default,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": ["read", "statx", "no_such_call"], "action": "SCMP_ACT_ALLOW"}],
        });
        value
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn numbers_are_those_of_each_architecture() {
        let all = last_calls(&profile("SCMP_ACT_ERRNO", &serde_json::json!({}))).unwrap();
        let native = ScmpSyscall::from_name("statx").unwrap().as_raw_syscall();
        if cfg!(target_arch = "x86_64") {
            assert_eq!(all[&X86_64].native, Some(native.cast_unsigned()));
            assert_eq!(all[&X86_64].x32, Some(X32_BIT | native.cast_unsigned()));
        }
        // statx is 383 there (syscall_32.tbl).
        assert_eq!(all[&I386].native, Some(383));
    }

    #[test]
    fn only_refusing_defaults_get_a_prelude() {
        let prelude = |default: &str, more: &serde_json::Value| {
            prelude(&profile(default, more)).unwrap().len()
        };
        for default in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
            assert_eq!(prelude(default, &serde_json::json!({})), 0, "{default}");
        }
        for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
            assert_ne!(prelude(default, &serde_json::json!({})), 0, "{default}");
        }
        let enosys = serde_json::json!({"defaultErrnoRet": libc::ENOSYS});
        assert_eq!(prelude("SCMP_ACT_ERRNO", &enosys), 0);
    }
}
