//! Where bpf(2) is refused, as by the seccomp filter of an outer container, rules in each sandbox's network bring
//! everything to the egress process instead. What holds otherwise holds then: the same tests run once more, in a
//! process to which the kernel really refuses it.

use std::collections::BTreeMap;

use sandbox::Steering;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::ground::{SERVER, echo, on_ground, python, unrestricted};
use crate::{attack_addresses, attack_dns, attack_protocols, carrying, changes, corpus};

/// For this thread, and all that it starts from now on.
fn refuse_bpf() {
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_bpf, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let filter = BpfProgram::try_from(filter.unwrap()).unwrap();
    apply_filter(&filter).unwrap();
}

#[test]
fn without_bpf_a_sandbox_has_its_network_by_rules_and_no_listener_of_its_own_takes_what_goes_out() {
    refuse_bpf();
    on_ground(unrestricted(), |ground| async move {
        assert_eq!(
            ground.local.try_network().await.unwrap(),
            Steering::Tproxy,
            "the other way is refused"
        );
        let server = ground.serve(SERVER, 8080, echo);
        let sandbox = ground.sandbox("rules").await;
        assert_eq!(sandbox.steering(), Some(Steering::Tproxy));
        // A server of the sandbox's own, on the same port of every address.
        let program = format!(
            "own = socket.create_server(('0.0.0.0', 8080)); six = socket.create_server(('::', 8081), family=socket.AF_INET6)\n\
             print(tcp('{SERVER}', 8080, b'out\\n'), http('10.0.0.5', 8080)[:12], http('fd00:ec2::254', 8081, name='[fd00:ec2::254]:8081')[:12])\n\
             c = socket.create_connection(('127.0.0.1', 8080)); c.send(b'own'); print(own.accept()[0].recv(3))\n\
             nl = lambda: socket.socket(16, 3, 12) and 'made'\n\
             print(tried(nl))\n"
        );
        assert_eq!(
            python(&sandbox, &program).await,
            "out\n HTTP/1.1 403 HTTP/1.1 403\nb'own'\nEPERM"
        );
        assert_eq!(server.connections(), 1);
        ground.denied("10.0.0.5", "always-denied").await;
    });
}

#[test]
fn without_bpf_all_that_is_carried_otherwise_is() {
    refuse_bpf();
    carrying::an_allowed_server_is_reached_by_name_and_by_address_over_both_families();
    carrying::any_port_and_any_protocol_over_tcp_is_carried_as_it_is();
    carrying::its_own_loopback_is_left_alone();
    carrying::a_host_that_nothing_lists_is_refused_at_once_with_a_line_that_says_why();
    changes::without_the_egress_process_nothing_is_carried_and_the_next_one_goes_on();
}

#[test]
fn without_bpf_nothing_goes_around_the_egress_process() {
    refuse_bpf();
    attack_dns::another_resolver_is_ours_over_udp_and_tcp_and_both_families();
    attack_addresses::private_and_metadata_addresses_are_refused_as_literals();
    attack_protocols::udp_to_anything_but_port_53_is_refused_at_once();
    attack_protocols::other_protocols_and_changes_of_the_network_are_refused();
    attack_protocols::another_sandbox_and_the_host_itself_cannot_be_reached();
    corpus::names_as_a_way_out();
    corpus::protocols();
}
