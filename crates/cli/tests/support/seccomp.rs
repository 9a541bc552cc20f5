//! A kernel that lacks a call: a seccomp filter answers ENOSYS for it.
#![allow(unsafe_code)] // prctl(2) with a pointer to a filter has no safe wrapper here

use std::io;

/// Makes `call` answer ENOSYS in this process and all that it starts.
pub fn answer_enosys(call: libc::c_long) -> io::Result<()> {
    let number = u32::try_from(call).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut filter = [
        // Load the call's number; equal to the one: ENOSYS; otherwise allow.
        statement((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: number,
        },
        statement((libc::BPF_RET | libc::BPF_K) as u16, enosys),
        statement((libc::BPF_RET | libc::BPF_K) as u16, libc::SECCOMP_RET_ALLOW),
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
