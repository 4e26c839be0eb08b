//! Privileges that a program has and its caller lacks.
#![allow(unsafe_code)]

/// Returns true if the caller of this program controls its environment and has fewer rights: the program is
/// set-user-ID, set-group-ID or has capabilities (`AT_SECURE`, getauxval(3)).
///
/// A privileged program must not follow the environment of its caller, as secure_getenv(3) explains.
pub(crate) fn exceed_the_callers() -> bool {
    // SAFETY: this call takes a number and reads a vector that the kernel made at the start of the process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_ordinary_program_has_the_privileges_of_its_caller() {
        assert!(!super::exceed_the_callers());
    }
}
