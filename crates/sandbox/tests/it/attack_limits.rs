//! Attacks from inside on what a sandbox may use: processes, priorities, memory that counts, dumps.

use sandbox::{Command, Tool};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::support::{call, host, ok, python, text, until};

/// What a sandbox may have: `MAX_PROCESSES` of the jail.
const MAX_PROCESSES: usize = 4096;

#[tokio::test]
async fn a_fork_bomb_stops_at_the_limit_and_the_hand_still_answers() {
    let host = host();
    let sandbox = host.attach("bomb").await;
    ok(&sandbox, "echo here > f").await;
    let program = "import os, signal, sys\n\
        children = []\n\
        try:\n    \
            while len(children) < 5000:\n        \
                pid = os.fork()\n        \
                if pid == 0: signal.pause()\n        \
                children.append(pid)\n\
        except BlockingIOError: pass\n\
        print(3000 < len(children) < 4096, flush=True)\n\
        signal.pause()\n";
    let mut bomb = sandbox
        .spawn(Command::new(["/usr/bin/python3", "-c", program]))
        .await
        .unwrap();
    let mut said = [0; 5];
    let mut stdout = bomb.stdout.take().unwrap();
    stdout.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"True\n");
    let output = call(&sandbox, Tool::Read, json!({"file_path": "f"})).await;
    assert_eq!(text(&output), "here\n");
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn processes_are_limited_for_the_whole_sandbox_and_not_for_each_id_in_it() {
    let host = host();
    let sandbox = host.attach("ids-bomb").await;
    // Nine ids, each of which starts up to 600 processes: 5,400, of which none by itself is too many.
    let program = "import os, signal\n\
        started = 0\n\
        for uid in range(1001, 1010):\n    \
            r, w = os.pipe()\n    \
            if os.fork() == 0:\n        \
                n = 0\n        \
                os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)\n        \
                try:\n            \
                    while n < 600:\n                \
                        if os.fork() == 0:\n                    \
                            os.close(w); signal.pause()\n                \
                        n += 1\n        \
                except BlockingIOError: pass\n        \
                os.write(w, str(n).encode()); os.close(w); signal.pause()\n    \
            os.close(w); n = os.read(r, 9); os.close(r)\n    \
            started += 1 + int(n)\n    \
            if int(n) < 600: break\n\
        print(uid, started, flush=True)\n\
        signal.pause()\n";
    let mut bomb = sandbox
        .spawn(Command::new(["/usr/bin/python3", "-c", program]))
        .await
        .unwrap();
    let mut said = String::new();
    let mut stdout = BufReader::new(bomb.stdout.take().unwrap());
    stdout.read_line(&mut said).await.unwrap();
    let said: Vec<usize> = said.split(' ').map(|n| n.trim().parse().unwrap()).collect();
    assert!(
        said[0] < 1009 && (3000..MAX_PROCESSES).contains(&said[1]),
        "id {} was the last to start one, {} in all",
        said[0],
        said[1]
    );
    sandbox.stop().await.unwrap();
    ok(&host.attach("ids-bomb").await, "true").await;
}

#[tokio::test]
async fn what_needs_no_process_is_done_though_processes_of_many_ids_take_all_there_are() {
    let host = host();
    let sandbox = host.attach("reserve").await;
    ok(&sandbox, "echo here > f").await;
    // Each id has less than its own limit, and all of them together have the sandbox's. Whatever ends is
    // started again.
    let program = "import os, signal, sys, time\n\
        for uid in range(1001, 1011):\n    \
            if os.fork() == 0:\n        \
                os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)\n        \
                while True:\n            \
                    try:\n                \
                        if os.fork() == 0: signal.pause()\n            \
                    except BlockingIOError:\n                \
                        try: os.close(os.open('/tmp/full', os.O_CREAT, 0o666))\n                \
                        except OSError: pass\n                \
                        time.sleep(0.01)\n\
        signal.pause()\n";
    let _bomb = sandbox
        .spawn(Command::new(["/usr/bin/python3", "-c", program]))
        .await
        .unwrap();
    until("there is no room for another process", || async {
        sandbox.stat("/tmp/full").await.is_ok()
    })
    .await;
    // A program cannot be started: this is what the bomb takes.
    assert!(sandbox.spawn(Command::new(["/bin/true"])).await.is_err());
    for _ in 0..20 {
        let output = call(&sandbox, Tool::Read, json!({"file_path": "f"})).await;
        assert_eq!(text(&output), "here\n");
        let output = call(&sandbox, Tool::Glob, json!({"pattern": "f"})).await;
        assert_eq!(text(&output), "/workspace/f");
    }
    assert!(sandbox.processes().await.unwrap().len() > 3000);
    // The shell is there, and what it does by itself it does.
    assert_eq!(ok(&sandbox, "echo still").await, "still");
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn limits_of_priority_queues_and_locked_memory_are_small_and_final() {
    let host = host();
    let sandbox = host.attach("limits").await;
    let program = "import resource as r\n\
        print([r.getrlimit(x) for x in (r.RLIMIT_CORE, r.RLIMIT_NPROC, r.RLIMIT_RTPRIO, r.RLIMIT_NICE)])\n\
        print([r.getrlimit(x)[1] for x in (r.RLIMIT_MEMLOCK, r.RLIMIT_MSGQUEUE, r.RLIMIT_SIGPENDING)])\n\
        print(tried(lambda: os.nice(-1)), tried(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))))\n\
        print(call(149, ctypes.addressof(ctypes.create_string_buffer(1 << 20)), 1 << 20))\n\
        for x in (r.RLIMIT_NPROC, r.RLIMIT_MSGQUEUE):\n    \
            try: r.setrlimit(x, (1 << 20, 1 << 20)); print('raised')\n    \
            except ValueError: print('not raised')\n";
    assert_eq!(
        python(&sandbox, program).await,
        "[(1, 1), (4032, 4032), (0, 0), (0, 0)]\n[65536, 819200, 16384]\nEPERM EPERM\nENOMEM\nnot raised\nnot raised"
    );
}

#[tokio::test]
async fn a_sandbox_is_ended_before_the_host_when_memory_is_short_and_cannot_change_that() {
    let host = host();
    let sandbox = host.attach("oom").await;
    let program = "print(all(int(open('/proc/%s/oom_score_adj' % pid).read()) >= 500 for pid in ('1', 'self')))\n\
        def write(value):\n    \
            with open('/proc/self/oom_score_adj', 'w', buffering=1) as f: f.write(value)\n\
        print(tried(lambda: write('0\\n')), tried(lambda: write('-1000\\n')), tried(lambda: write('1000\\n')))\n";
    // Only CAP_SYS_RESOURCE, which an outer container may lack, raises what it can be set back to.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut rights = status
        .lines()
        .filter_map(|line| line.strip_prefix("CapEff:"));
    let rights = u64::from_str_radix(rights.next().unwrap().trim(), 16).unwrap();
    let set_back = if rights & (1 << 24) == 0 {
        "None"
    } else {
        "EACCES"
    };
    assert_eq!(
        python(&sandbox, program).await,
        format!("True\n{set_back} EACCES None")
    );
}

#[tokio::test]
async fn the_limit_of_dumps_cannot_be_lowered_to_where_a_handler_on_the_host_would_run() {
    let host = host();
    let sandbox = host.attach("core").await;
    let program = "import resource as r\n\
        r.setrlimit(r.RLIMIT_CORE, (0, 0)); print(r.getrlimit(r.RLIMIT_CORE))\n\
        both = (ctypes.c_ulong * 2)(0, 0)\n\
        print(call(160, 4, both), call(302, 0, 4, both, 0), call(302, os.getpid(), 4 | 7 << 32, both, 0), r.getrlimit(r.RLIMIT_CORE))\n";
    assert_eq!(python(&sandbox, program).await, "(1, 1)\n0 0 0 (1, 1)");
    if std::path::Path::new("/usr/bin/gpg").exists() {
        ok(&sandbox, "gpg --version").await;
    }
}

#[tokio::test]
async fn the_hands_limits_cannot_be_changed_by_its_number_or_that_of_a_thread() {
    let host = host();
    let sandbox = host.attach("prlimit").await;
    let program = "both = (ctypes.c_ulong * 2)(5, 5)\n\
        open_files = lambda: open('/proc/1/limits').read().split('Max open files')[1].split()[:2]\n\
        before = open_files()\n\
        print(call(302, 1, 7, both, 0), call(302, 1 | 9 << 32, 7, both, 0), {call(302, n, 7, both, 0) for n in range(2, 99)})\n\
        print(call(302, 1, 4, both, 0), open_files() == before)\n\
        mine = (ctypes.c_ulong * 2)(); print(call(302, os.getpid(), 7, 0, mine), mine[1] > 5)\n\
        threads = [int(n) for n in os.listdir('/proc/1/task')]\n\
        processes = lambda n: open('/proc/1/task/%d/limits' % n).read().split('Max processes')[1].split()[:2]\n\
        before = processes(1)\n\
        print(len(threads) > 2, {call(302, n, 6, both, 0) for n in threads} | {call(302, n, 6, 0, mine) for n in threads})\n\
        print({processes(n) == before for n in threads})\n";
    let wanted = "EPERM EPERM {'EPERM'}\nEPERM True\n0 True\nTrue {'EPERM'}\n{True}";
    assert_eq!(python(&sandbox, program).await, wanted);
}
