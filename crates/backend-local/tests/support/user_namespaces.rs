//! A machine on which no user namespace can be made: a seccomp filter refuses it.
#![allow(unsafe_code)] // prctl(2) with a pointer to a filter has no safe wrapper here

use std::io;

/// Has unshare(2) answer EPERM to CLONE_NEWUSER in this process and all that it starts.
pub(super) fn forbid() -> io::Result<()> {
    /// Where `struct seccomp_data` has the first argument's lower half.
    const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
    let number = u32::try_from(libc::SYS_unshare).map_err(io::Error::other)?;
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let jump = |how, k, jf| libc::sock_filter {
        code: (libc::BPF_JMP | how | libc::BPF_K) as u16,
        jt: 0,
        jf,
        k,
    };
    let mut filter = [
        statement(load, 0),
        jump(libc::BPF_JEQ, number, 3),
        statement(load, FIRST_ARGUMENT),
        jump(libc::BPF_JSET, libc::CLONE_NEWUSER as u32, 1),
        statement(answer, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(answer, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the program points to a filter of the length it gives, and both live through the
    // call, which copies them.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
