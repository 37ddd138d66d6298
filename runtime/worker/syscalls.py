"""System calls that a process that predicts never needs: their numbers on the machines that the filter knows.

Numbers from 424 on are the same on every architecture. https://docs.kernel.org/process/adding-syscalls.html
"""

from typing import Final, NamedTuple


class Machine(NamedTuple):
    """What a filter has to know of an architecture."""

    audit: int  # AUDIT_ARCH_… in linux/audit.h
    column: int  # of a pair of numbers below


MACHINES: Final = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}
"""By the name that uname(2) says."""

Numbers = tuple[int | None, int | None]
"""The number on x86_64 and on aarch64; None: the architecture has no such call."""

FIRST_UNKNOWN: Final = 463
"""The first number that this table says nothing of: from there on, the kernel is said to have no such call."""

OTHER_PROCESSES: Final[dict[str, Numbers]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "kcmp": (312, 272), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "setpriority": (141, 140), "ioprio_set": (251, 30), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
}  # fmt: skip
"""Other processes of the same user: memory, descriptors, signals, priorities, shared memory and queues by name."""

KERNEL: Final[dict[str, Numbers]] = {
    "bpf": (321, 280), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "perf_event_open": (298, 241), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "syslog": (103, 116),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "personality": (135, 92),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "inotify_init": (253, None), "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
}  # fmt: skip
"""Large or rarely used parts of the kernel: most of its known holes were there."""

MACHINE: Final[dict[str, Numbers]] = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsmount": (432, 432), "fsconfig": (431, 431), "fspick": (433, 433),
    "mount_setattr": (442, 442), "statmount": (457, 457), "listmount": (458, 458), "unshare": (272, 97),
    "setns": (308, 268), "chroot": (161, 51), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "vhangup": (153, 58),
}  # fmt: skip
"""Mounts, namespaces, names, clocks."""

FILES: Final[dict[str, Numbers]] = {
    "execve": (59, 221), "execveat": (322, 281), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "utimensat": (280, 88), "futimesat": (261, None), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "truncate": (76, 45), "mknod": (133, None), "mknodat": (259, 33), "mkdir": (83, None), "mkdirat": (258, 34),
    "rmdir": (84, None), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None),
    "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "unlink": (87, None), "unlinkat": (263, 35),
    "creat": (85, None),
}  # fmt: skip
"""Programs, and what changes files without opening them: Landlock does not know modes, owners, times and attributes."""

SOCKETS: Final[dict[str, Numbers]] = {"socket": (41, 198), "bind": (49, 200), "connect": (42, 203)}
"""Only what comes in on an inherited socket is answered."""

CHECKED: Final[dict[str, Numbers]] = {
    "clone": (56, 220), "clone3": (435, 435), "prlimit64": (302, 261), "setsockopt": (54, 208),
    "socketpair": (53, 199), "listen": (50, 201), "kill": (62, 129), "tgkill": (234, 131), "fcntl": (72, 25),
    "ioctl": (16, 29), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274),
}  # fmt: skip
"""Calls that are allowed or refused by their arguments."""

SECCOMP: Final[Numbers] = (317, 277)
