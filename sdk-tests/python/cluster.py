"""A PostgreSQL server of the tests' own, for a run that is to have its databases there (SDK_TESTS_DATABASE=postgres).

It listens on a socket in a directory of its own and ends with the tests; each server's directory gets a database.
"""

import atexit
import hashlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

WANTED = os.environ.get("SDK_TESTS_DATABASE") == "postgres"

_home = None
_made = set()


def _program(name):
    versions = [p for p in pathlib.Path("/usr/lib/postgresql").glob("*") if p.name.isdigit()]
    newest = max(versions, key=lambda path: int(path.name))
    return str(newest / "bin" / name)


def _user():
    """Who runs it: it refuses to be root's."""
    if os.geteuid() != 0:
        return {}
    return {"user": pwd.getpwnam("postgres").pw_uid, "group": pwd.getpwnam("postgres").pw_gid}


def _run(*words):
    log = _home / "run.log"
    with log.open("ab") as said:
        subprocess.run(words, check=True, stdout=said, stderr=said, cwd="/", **_user())


def _start():
    global _home
    _home = pathlib.Path(tempfile.mkdtemp(prefix="lhsdk"))
    (_home / "run.log").touch()
    if user := _user():
        for path in (_home, _home / "run.log"):
            os.chown(path, user["user"], user["group"])
    data = str(_home / "data")
    _run(_program("initdb"), "-D", data, "-A", "trust", "-U", "longhand", "-E", "UTF8", "--no-sync")
    settings = f"-c listen_addresses= -c unix_socket_directories={_home} -c fsync=off -c max_connections=200"
    _run(_program("pg_ctl"), "-w", "-s", "-D", data, "-l", str(_home / "log"), "-o", settings, "start")
    atexit.register(_stop)


def _stop():
    _run(_program("pg_ctl"), "-w", "-m", "immediate", "-D", str(_home / "data"), "stop")
    shutil.rmtree(_home, ignore_errors=True)


def url(directory):
    """The database of the server in `directory`, made if need be; the same again after a restart."""
    if _home is None:
        _start()
    name = "d" + hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    if name not in _made:
        _run(_program("createdb"), "-h", str(_home), "-U", "longhand", name)
        _made.add(name)
    return f"postgres://longhand@{str(_home).replace('/', '%2F')}/{name}"
