//! Attacks on networks: the host's, and the kernel's rarer protocols.

use super::defence::Defence::{Capabilities, NetNamespace, Seccomp, UserNamespace};
use super::stage::Stage;

cases! {
    port_of_the_host_is_reached {
        tries: "connect to a server on the host's loopback",
        stage: Stage::Port,
        attack: "print(done(tried(lambda: socket.create_connection(('127.0.0.1', {port})))))",
        denied: "ECONNREFUSED",
        stops: &[(NetNamespace, "ECONNREFUSED")],
        reached: "done",
    }
    abstract_socket_of_the_host_is_reached {
        tries: "connect to an abstract Unix socket of the host",
        stage: Stage::Abstract,
        attack: "print(done(tried(lambda: socket.socket(socket.AF_UNIX).connect('\\0{name}'))))",
        denied: "ECONNREFUSED",
        stops: &[(NetNamespace, "ECONNREFUSED")],
        reached: "done",
    }
    packets_are_captured {
        tries: "open an AF_PACKET socket",
        stage: Stage::Nothing,
        attack: "print(done(tried(lambda: socket.socket(17, 3, 0))))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (UserNamespace, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
    }
    packets_are_forged {
        tries: "open a raw IP socket",
        stage: Stage::Nothing,
        attack: "print(done(tried(lambda: socket.socket(2, 3, 1))))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (UserNamespace, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
    }
    vsock_is_opened {
        tries: "open an AF_VSOCK socket, which reaches the hypervisor",
        stage: Stage::Nothing,
        attack: "print(done(tried(lambda: socket.socket(40, 1, 0))))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM")],
        reached: "done",
        optional: true,
    }
    kernel_crypto_is_opened {
        tries: "open an AF_ALG socket",
        stage: Stage::Nothing,
        attack: "print(done(tried(lambda: socket.socket(38, 5, 0))))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM")],
        reached: "done",
        optional: true,
    }
    rare_netlink_is_opened {
        tries: "open a netlink socket of another kind than routes (socket diagnosis)",
        stage: Stage::Nothing,
        attack: "print(done(tried(lambda: socket.socket(16, 3, 4))))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM")],
        reached: "done",
        optional: true,
    }
    interface_is_changed {
        tries: "take an interface down",
        stage: Stage::Nothing,
        attack: "import fcntl\n\
            down = struct.pack('16sH14x', b'lo', 0)\n\
            print(done(tried(lambda: fcntl.ioctl(socket.socket(), 0x8914, down))))",
        denied: "EPERM",
        stops: &[(UserNamespace, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
    }
}
