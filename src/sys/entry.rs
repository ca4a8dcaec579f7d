//! The first instructions of `kusabi`: sealing before anything is started that
//! would have to be started again (`runtime::seal` says why it is sealed at all).
//!
//! This runs where the kernel jumps to, ahead of the C library: in a static
//! program nothing is relocated yet, there is no thread-local storage and even
//! `memcpy` is not to be had. So it is written with system calls and volatile
//! accesses alone (the compiler makes calls of plain loops over bytes), without
//! slices, without a table that holds an address and without a panic.
//!
//! It only saves time, about a third of a millisecond for each `create`, `run` and
//! `exec`: whatever is not as it expects, it leaves everything as it was, and the
//! command seals itself later or tells why it cannot.
// What goes into a register becomes a word, whatever it was.
#![allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)]

use core::arch::{asm, global_asm};
use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::ptr::{read_volatile, write_volatile};

// What the kernel put on the stack is left as it is, and so is `rdx`, in which a
// dynamic loader hands a function on (System V ABI, AMD64 supplement, 3.4.1).
global_asm!(
    ".globl kusabi_entry",
    ".type kusabi_entry, @function",
    "kusabi_entry:",
    ".cfi_startproc",
    ".cfi_undefined rip",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "push rdx",
    "sub rsp, 8",
    "call {seal}",
    "add rsp, 8",
    "pop rdx",
    "jmp _start",
    ".cfi_endproc",
    ".size kusabi_entry, . - kusabi_entry",
    seal = sym seal,
);

/// A system call's result: an errno, negated, where it failed.
type Outcome = isize;

const PATH_MAX: usize = 4096;
const EXE: *const u8 = c"/proc/self/exe".as_ptr().cast();

// As they are called elsewhere; a test holds them together.
const MARK: &CStr = c"KUSABI_SEALED=";
const NAMED_POLICY: &CStr = c"KUSABI_CONFIG=";
const POLICY: &CStr = c"/etc/kusabi/config.toml";

/// The caller's arguments and environment, as the kernel laid them down: pointers
/// with a null behind each list, and then the auxiliary vector.
#[derive(Clone, Copy)]
struct Words {
    arguments: *mut *const u8,
    environment: *mut *const u8,
    /// The null behind the environment.
    end: *mut *const u8,
}

/// Executes this program from a read-only overlay if the command line looks as
/// though that will be needed; returns where it does not, or could not.
///
/// # Safety
/// `stack` is the stack pointer that the kernel started the program with.
unsafe extern "C" fn seal(stack: *mut usize) {
    // Assertions are functions, which in a static program cannot be called yet.
    if cfg!(all(debug_assertions, target_feature = "crt-static")) {
        return;
    }
    // SAFETY: the layout that the ABI gives the initial stack.
    unsafe {
        let count = read_volatile(stack);
        let arguments = stack.add(1).cast::<*const u8>();
        let environment = arguments.add(count + 1);
        let mut end = environment;
        while !read_volatile(end).is_null() {
            end = end.add(1);
        }
        let words = Words {
            arguments,
            environment,
            end,
        };
        if is_asked_for(words) && has_plain_surroundings(words) {
            replace(words);
        }
    }
}

/// Whether a word is the name of a command that has to be sealed. It may be an
/// option's value instead: then this was for nothing.
unsafe fn is_asked_for(words: Words) -> bool {
    // SAFETY: the kernel's strings, each ended by a null.
    unsafe {
        if read_volatile(words.arguments).is_null() {
            return false;
        }
        let mut word = words.arguments.add(1);
        while !read_volatile(word).is_null() {
            let text = read_volatile(word);
            if is(text, c"create".as_ptr().cast())
                || is(text, c"run".as_ptr().cast())
                || is(text, c"exec".as_ptr().cast())
            {
                return true;
            }
            word = word.add(1);
        }
    }
    false
}

/// Whether root calls, without a policy that could want another runtime to be run
/// (`host::policy_file` looks closer), and not from an earlier sealing.
unsafe fn has_plain_surroundings(words: Words) -> bool {
    // SAFETY: the kernel's strings, each ended by a null.
    unsafe {
        let mut variable = words.environment;
        while variable != words.end {
            let text = read_volatile(variable);
            if begins(text, NAMED_POLICY.as_ptr().cast()) || begins(text, MARK.as_ptr().cast()) {
                return false;
            }
            variable = variable.add(1);
        }
        let policy = POLICY.as_ptr() as usize;
        let there = call(
            libc::SYS_faccessat,
            [libc::AT_FDCWD as usize, policy, 0, 0, 0],
        );
        call(libc::SYS_geteuid, [0; 5]) == 0 && there == -(libc::ENOENT as Outcome)
    }
}

/// Executes the sealed program; returns with everything closed where it cannot.
unsafe fn replace(words: Words) {
    // SAFETY: the buffer is as large as the kernel is told.
    unsafe {
        let mut path = MaybeUninit::<[u8; PATH_MAX]>::uninit();
        let path = path.as_mut_ptr().cast::<u8>();
        let room = PATH_MAX - 1;
        let length = call(
            libc::SYS_readlinkat,
            [
                libc::AT_FDCWD as usize,
                EXE as usize,
                path as usize,
                room,
                0,
            ],
        );
        let Ok(length) = usize::try_from(length) else {
            return;
        };
        if length == room || begins(path, c"/dev/".as_ptr().cast()) {
            return;
        }
        write_volatile(path.add(length), 0);
        let mut slash = length;
        while slash > 0 && read_volatile(path.add(slash)) != b'/' {
            slash -= 1;
        }
        // In the root directory itself: that lies above the other layer.
        if slash == 0 {
            return;
        }
        write_volatile(path.add(slash), 0);
        if !is_linux_6_5() {
            return;
        }
        let flags = libc::FSOPEN_CLOEXEC as usize;
        let context = call(
            libc::SYS_fsopen,
            [c"overlay".as_ptr() as usize, flags, 0, 0, 0],
        );
        if context < 0 {
            return;
        }
        let context = context as usize;
        // Or what is left open would be taken for one of the standard three.
        if context > libc::STDERR_FILENO as usize {
            execute(words, context, path, path.add(slash + 1));
        }
        close(context);
    }
}

/// `lowerdir+` twice (Linux 6.8; what a kernel before 6.5 does not know it finds, and
/// logs, only when it mounts), a detached mount, and the program of that name in it.
unsafe fn execute(words: Words, context: usize, directory: *const u8, name: *const u8) {
    /// `FSCONFIG_SET_STRING`
    const SET_STRING: usize = 1;
    /// `FSCONFIG_CMD_CREATE`
    const CREATE: usize = 6;
    // SAFETY: strings ended by a null, as each of these calls wants them.
    unsafe {
        let layer = c"lowerdir+".as_ptr() as usize;
        let other = c"/dev".as_ptr() as usize;
        let configure =
            |what, key, value| call(libc::SYS_fsconfig, [context, what, key, value, 0]) == 0;
        if !(configure(SET_STRING, layer, directory as usize)
            && configure(SET_STRING, layer, other)
            && configure(CREATE, 0, 0))
        {
            return;
        }
        let attributes =
            (libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID) as usize;
        // Not closed on execution: that would wait for every processor, and has
        // time in the sealed program.
        let mount = call(libc::SYS_fsmount, [context, 0, attributes, 0, 0]);
        if mount < 0 {
            return;
        }
        let flags = (libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW) as usize;
        let program = call(
            libc::SYS_openat,
            [mount as usize, name as usize, flags, 0, 0],
        );
        if program >= 0 {
            execute_as_sealed(words, program as usize, mount as usize);
            close(program as usize);
        }
        close(mount as usize);
    }
}

/// Whether the kernel is Linux 6.5 or newer.
unsafe fn is_linux_6_5() -> bool {
    let mut name = MaybeUninit::<libc::utsname>::uninit();
    // SAFETY: the kernel fills the whole structure, with strings ended by nulls.
    unsafe {
        if call(libc::SYS_uname, [name.as_mut_ptr() as usize, 0, 0, 0, 0]) != 0 {
            return false;
        }
        let mut release = (&raw const (*name.as_ptr()).release).cast::<u8>();
        let (major, rest) = number(release);
        release = rest;
        if read_volatile(release) == b'.' {
            release = release.add(1);
        }
        let (minor, _) = number(release);
        major > 6 || (major == 6 && minor >= 5)
    }
}

/// The number that a string begins with, 0 for none, and what follows it.
unsafe fn number(mut text: *const u8) -> (usize, *const u8) {
    let mut number = 0;
    // SAFETY: the string is ended by a null, which is no digit.
    unsafe {
        let mut digit = read_volatile(text);
        while digit.is_ascii_digit() {
            number = number * 10 + (digit - b'0') as usize;
            text = text.add(1);
            digit = read_volatile(text);
        }
    }
    (number, text)
}

/// `execveat(program)` with the caller's words and the mark that
/// `runtime::seal` looks for, `KUSABI_SEALED=device:inode:mount`.
unsafe fn execute_as_sealed(words: Words, program: usize, mount: usize) {
    let mut ran = MaybeUninit::<libc::stat>::uninit();
    let mut sealed = MaybeUninit::<libc::stat>::uninit();
    // Room for the name and three numbers of 64 bits.
    let mut mark = MaybeUninit::<[u8; 80]>::uninit();
    let empty = c"".as_ptr() as usize;
    let by_descriptor = libc::AT_EMPTY_PATH as usize;
    // SAFETY: the kernel fills both structures; the mark is written behind its
    // own start, at most 14 + 3 * (20 + 1) bytes of it. The words that are
    // overwritten lie on the stack and are put back.
    unsafe {
        let here = libc::AT_FDCWD as usize;
        let into = ran.as_mut_ptr() as usize;
        if call(libc::SYS_newfstatat, [here, EXE as usize, into, 0, 0]) != 0 {
            return;
        }
        let into = sealed.as_mut_ptr() as usize;
        if call(
            libc::SYS_newfstatat,
            [program, empty, into, by_descriptor, 0],
        ) != 0
        {
            return;
        }
        let (ran, sealed) = (ran.as_ptr(), sealed.as_ptr());
        // The name could mean another file by now; what runs must be what ran.
        if (*ran).st_ino != (*sealed).st_ino || (*ran).st_size != (*sealed).st_size {
            return;
        }
        let mark = mark.as_mut_ptr().cast::<u8>();
        let at = put(mark, MARK.as_ptr().cast());
        let at = put_number(at, (*sealed).st_dev);
        write_volatile(at, b':');
        let at = put_number(at.add(1), (*sealed).st_ino);
        write_volatile(at, b':');
        let at = put_number(at.add(1), mount as u64);
        write_volatile(at, 0);
        // The environment grows by one, into the auxiliary vector, which only the
        // C library of this very process would still read.
        let behind = words.end.add(1);
        let kept = read_volatile(behind);
        write_volatile(words.end, mark);
        write_volatile(behind, core::ptr::null());
        call(
            libc::SYS_execveat,
            [
                program,
                empty,
                words.arguments as usize,
                words.environment as usize,
                by_descriptor,
            ],
        );
        write_volatile(words.end, core::ptr::null());
        write_volatile(behind, kept);
    }
}

/// Copies a string without its null; where it ended.
unsafe fn put(mut to: *mut u8, mut text: *const u8) -> *mut u8 {
    // SAFETY: the caller has the room, and the text is ended by a null.
    unsafe {
        while read_volatile(text) != 0 {
            write_volatile(to, read_volatile(text));
            to = to.add(1);
            text = text.add(1);
        }
    }
    to
}

/// Writes a number in decimal; where it ended.
unsafe fn put_number(to: *mut u8, number: u64) -> *mut u8 {
    let mut places = 1;
    let mut rest = number / 10;
    while rest != 0 {
        places += 1;
        rest /= 10;
    }
    let mut at = places;
    let mut rest = number;
    // SAFETY: the caller has room for 20 places, which the largest number has.
    unsafe {
        while at > 0 {
            at -= 1;
            write_volatile(to.add(at), b'0' + (rest % 10) as u8);
            rest /= 10;
        }
        to.add(places)
    }
}

/// Whether two strings are the same.
unsafe fn is(text: *const u8, name: *const u8) -> bool {
    // SAFETY: as in `behind`, whose answer is within the text.
    unsafe {
        let rest = behind(text, name);
        !rest.is_null() && read_volatile(rest) == 0
    }
}

/// Whether a string begins with another.
unsafe fn begins(text: *const u8, with: *const u8) -> bool {
    // SAFETY: as in `behind`.
    unsafe { !behind(text, with).is_null() }
}

/// What follows in a string that begins with another; null for any other.
unsafe fn behind(mut text: *const u8, mut with: *const u8) -> *const u8 {
    // SAFETY: both are ended by a null, and neither is read behind it.
    unsafe {
        while read_volatile(with) != 0 {
            if read_volatile(text) != read_volatile(with) {
                return core::ptr::null();
            }
            text = text.add(1);
            with = with.add(1);
        }
    }
    text
}

unsafe fn close(descriptor: usize) {
    // SAFETY: opened here, and used nowhere else.
    unsafe { call(libc::SYS_close, [descriptor, 0, 0, 0, 0]) };
}

/// A system call. The C library's `syscall` sets errno, for which there is no
/// place yet.
#[inline(always)]
unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> Outcome {
    let outcome: Outcome;
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: the registers of the kernel's calling convention; the arguments are
    // the caller's to have right.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => outcome,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") fifth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_modules_that_they_belong_to() {
        assert_eq!(POLICY.to_str().unwrap(), crate::policy::SYSTEM_FILE);
        let source = include_str!("../host/policy_file.rs");
        let name = NAMED_POLICY.to_str().unwrap().trim_end_matches('=');
        assert!(source.contains(&format!("variable(\"{name}\")")));
        let mark = MARK.to_str().unwrap().trim_end_matches('=');
        assert_eq!(mark, crate::runtime::seal::MARK);
    }

    #[test]
    fn numbers_are_written_and_read() {
        for value in [0, 9, 10, 1234, u64::MAX] {
            let mut text = [0u8; 32];
            // SAFETY: the array has room, and a null behind what is written.
            let end = unsafe { put_number(text.as_mut_ptr(), value) };
            let length = end as usize - text.as_ptr() as usize;
            assert_eq!(text[..length], *value.to_string().as_bytes());
        }
        // SAFETY: ended by nulls.
        unsafe {
            assert_eq!(number(c"6.18.0".as_ptr().cast()).0, 6);
            assert_eq!(number(c"-rc1".as_ptr().cast()).0, 0);
        }
    }

    #[test]
    fn words_are_compared_whole_and_names_at_their_start() {
        let same = |a: &CStr, b: &CStr| {
            // SAFETY: both are ended by nulls.
            unsafe { is(a.as_ptr().cast(), b.as_ptr().cast()) }
        };
        assert!(same(c"run", c"run"));
        assert!(!same(c"runs", c"run") && !same(c"ru", c"run") && !same(c"", c"run"));
        let begun = |a: &CStr, b: &CStr| {
            // SAFETY: as above.
            unsafe { begins(a.as_ptr().cast(), b.as_ptr().cast()) }
        };
        assert!(begun(c"A=b", c"A=") && begun(c"A=", c"A="));
        assert!(!begun(c"A", c"A=") && !begun(c"", c"A="));
    }
}
